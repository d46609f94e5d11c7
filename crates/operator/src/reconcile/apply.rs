//! Does one step. Every call is idempotent or carries a precondition, and may be interrupted before or after it took
//! effect: the next reconcile looks at what is there.

use std::collections::BTreeMap;
use std::fmt::Debug;

use holdfast_contract::record::StoreRecord;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _};
use rand::distr::{Alphanumeric, SampleString as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::build::{Desired, claim, secret};
use super::facts::{Children, Facts};
use super::observe::{NamedKind, endpoint};
use super::plan::identity::Known;
use super::plan::{ChildKind, Step};
use super::validate::ValidatedStore;
use crate::api::conditions::reason;
use crate::api::v1alpha1::{Store, StoreStatus};
use crate::context::{Context, ReconcileError, code};
use crate::events::Note;
use crate::names;

/// Characters of a password or token: over 256 bits.
const SECRET_LEN: usize = 48;

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// Something changed, or may have.
    Changed,
    /// Objects were applied and were so already.
    Nothing,
}

/// Everything that a step may need.
pub(super) struct Work<'a> {
    pub(super) store: &'a Store,
    pub(super) valid: &'a ValidatedStore,
    pub(super) known: Option<&'a Known>,
    pub(super) desired: Option<&'a Desired>,
    pub(super) facts: &'a Facts,
}

/// Does `step`.
/// # Errors
/// The API refused, did not answer, or another writer was faster.
pub(super) async fn apply(ctx: &Context, work: &Work<'_>, step: &Step) -> Result<Applied, ReconcileError> {
    match step {
        Step::RecordIdentity { .. }
        | Step::RecordEpoch { .. }
        | Step::RecordClaim(_)
        | Step::RecordRestore(_)
        | Step::DropRestore => record(ctx, work, step).await?,
        Step::SetFinalizer(wanted) => set_finalizer(ctx, work.store, *wanted).await?,
        Step::AdoptClaim => adopt_claim(ctx, work).await?,
        Step::CreateAuth => create_auth(ctx, work).await?,
        Step::Apply(kinds) => {
            let Some(desired) = work.desired else { return Ok(Applied::Nothing) };
            return apply_children(ctx, &work.valid.namespace, desired, kinds, &work.facts.children).await;
        }
        Step::CreateClaim { data_source } => create_claim(ctx, work, data_source.as_deref()).await?,
        Step::SendRecord(record) => send_record(ctx, work, record).await,
        Step::RestartPod { uid, resource_version, why } => {
            restart_pod(ctx, work, uid, resource_version, why).await?;
        }
    }
    Ok(Applied::Changed)
}

/// Writes intent or knowledge into the status. The version of the object that the decision was made upon is a
/// precondition: a second operator, or an older view, changes nothing.
async fn record(ctx: &Context, work: &Work<'_>, step: &Step) -> Result<(), ReconcileError> {
    let mut status = work.store.status.clone().unwrap_or_default();
    let note = record_in(&mut status, step, Timestamp::now());
    replace_status(ctx, work.store, status).await?;
    if let Some(note) = note {
        tracing::info!(reason = note.reason, note = note.text, "recorded");
        ctx.events.publish(work.store, note).await;
    }
    Ok(())
}

fn record_in(status: &mut StoreStatus, step: &Step, now: Timestamp) -> Option<Note> {
    match step {
        Step::RecordIdentity { store_id: Some(id), epoch } => {
            status.store_id = Some(id.clone());
            status.epoch = *epoch;
            Some(Note::normal(
                "IdentityRecovered",
                format!("the data is that of {id}, epoch {}", epoch.unwrap_or(0)),
            ))
        }
        Step::RecordIdentity { store_id: None, .. } => {
            let id = uuid::Uuid::new_v4().to_string();
            let note = Note::normal("IdentityChosen", format!("the data of this Store is called {id}"));
            status.store_id = Some(id);
            Some(note)
        }
        Step::RecordEpoch { epoch, completes_restore } => {
            status.epoch = Some(*epoch);
            if !completes_restore {
                return Some(Note::normal("EpochRecorded", format!("the volume holds epoch {epoch}")));
            }
            let restore = status.restore.take().map(|mut restore| {
                restore.completion_time = Some(whole_second(now));
                restore
            });
            let path = restore.as_ref().map(|restore| restore.backup_path.clone()).unwrap_or_default();
            status.last_restore = restore;
            Some(Note::normal("RestoreCompleted", format!("backup {path:?} is restored as epoch {epoch}")))
        }
        Step::RecordClaim(claim) => {
            let before = status.claim.replace(claim.clone());
            before.map(|before| {
                Note::normal(
                    "ClaimReplaced",
                    format!(
                        "claim {:?} ({}) holds the data now, before it was {}",
                        claim.name, claim.uid, before.uid
                    ),
                )
            })
        }
        Step::RecordRestore(restore) => {
            let note = Note::warning(
                "RestorePlanned",
                format!(
                    "the volume is lost; backup {:?} of location {:?}, cut at {}, is restored as epoch {}; later writes are lost",
                    restore.backup_path, restore.location, restore.cut_time.0, restore.epoch
                ),
            );
            let mut restore = restore.clone();
            restore.start_time = whole_second(restore.start_time.0);
            status.restore = Some(restore);
            Some(note)
        }
        Step::DropRestore => {
            let dropped = status.restore.take()?;
            Some(Note::normal(
                "RestoreDropped",
                format!("the volume is back; backup {:?} is not restored", dropped.backup_path),
            ))
        }
        Step::SetFinalizer(_)
        | Step::AdoptClaim
        | Step::CreateAuth
        | Step::Apply(_)
        | Step::CreateClaim { .. }
        | Step::SendRecord(_)
        | Step::RestartPod { .. } => None,
    }
}

fn whole_second(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// Replaces the status of `store`, unless the object has changed since it was read.
pub(crate) async fn replace_status(
    ctx: &Context,
    store: &Store,
    status: StoreStatus,
) -> Result<(), ReconcileError> {
    let name = store.name_any();
    let api: Api<Store> = Api::namespaced(ctx.client.clone(), &store.namespace().unwrap_or_default());
    let mut changed = store.clone();
    changed.status = Some(status);
    changed.metadata.managed_fields = None;
    api.replace_status(&name, &post_params(), &changed).await.map_err(ReconcileError::call(
        "write the status of",
        "Store",
        &name,
    ))?;
    Ok(())
}

pub(crate) fn post_params() -> PostParams {
    PostParams { dry_run: false, field_manager: Some(names::FIELD_MANAGER.to_owned()) }
}

pub(super) async fn set_finalizer(ctx: &Context, store: &Store, wanted: bool) -> Result<(), ReconcileError> {
    let mut finalizers = store.finalizers().to_vec();
    finalizers.retain(|finalizer| finalizer != names::STORE_FINALIZER);
    if wanted {
        finalizers.push(names::STORE_FINALIZER.to_owned());
    }
    let name = store.name_any();
    let api: Api<Store> = Api::namespaced(ctx.client.clone(), &store.namespace().unwrap_or_default());
    // The list is replaced whole, so it must be the one that was read.
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": store.resource_version()}});
    api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.map_err(ReconcileError::call(
        "set the finalizers of",
        "Store",
        &name,
    ))?;
    Ok(())
}

async fn adopt_claim(ctx: &Context, work: &Work<'_>) -> Result<(), ReconcileError> {
    let Some(claim) = &work.facts.claim else { return Ok(()) };
    let name = claim.name_any();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(ctx.client.clone(), &work.valid.namespace);
    let annotations = BTreeMap::from([(names::key::STORE_UID, work.valid.uid.as_str())]);
    let patch =
        json!({"metadata": {"annotations": annotations, "resourceVersion": claim.resource_version()}});
    api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.map_err(ReconcileError::call(
        "adopt",
        "PersistentVolumeClaim",
        &name,
    ))?;
    ctx.events.publish(work.store, Note::normal("ClaimAdopted", format!("claim {name:?} is taken up"))).await;
    Ok(())
}

async fn create_auth(ctx: &Context, work: &Work<'_>) -> Result<(), ReconcileError> {
    let random = || Alphanumeric.sample_string(&mut rand::rng(), SECRET_LEN);
    let new = secret::build(work.valid, random(), random());
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), &work.valid.namespace);
    let name = names::auth_secret(&work.valid.name);
    let created = api.create(&post_params(), &new).await;
    if ignore(created, 409, "create", "Secret", &name)? && work.facts.children.stateful_set.is_some() {
        let text =
            format!("Secret {name:?} was gone; it is made anew with another password, and the pod restarts");
        ctx.events.publish(work.store, Note::warning("AuthSecretRecreated", text)).await;
    }
    Ok(())
}

async fn create_claim(
    ctx: &Context,
    work: &Work<'_>,
    data_source: Option<&str>,
) -> Result<(), ReconcileError> {
    let (Some(storage), Some(known)) = (&work.valid.storage, work.known) else { return Ok(()) };
    let new = claim::build(work.valid, storage, &known.store_id, data_source);
    let api: Api<PersistentVolumeClaim> = Api::namespaced(ctx.client.clone(), &work.valid.namespace);
    let name = names::claim(&work.valid.name);
    let created = api.create(&post_params(), &new).await;
    if ignore(created, 409, "create", "PersistentVolumeClaim", &name)? {
        let text = match data_source {
            Some(source) => format!("claim {name:?} is made from VolumeSnapshot {source:?}"),
            None => format!("claim {name:?} is made"),
        };
        ctx.events.publish(work.store, Note::normal("ClaimCreated", text)).await;
    }
    Ok(())
}

/// True when the call succeeded, false when it failed with `expected`.
fn ignore<T>(
    result: kube::Result<T>,
    expected: u16,
    action: &'static str,
    kind: &'static str,
    name: &str,
) -> Result<bool, ReconcileError> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if code(&error) == Some(expected) => Ok(false),
        Err(error) => Err(ReconcileError::call(action, kind, name)(error)),
    }
}

async fn send_record(ctx: &Context, work: &Work<'_>, record: &StoreRecord) {
    let Some(endpoint) = endpoint(&work.facts.children, work.facts.pod.as_ref()) else { return };
    match ctx.servers.decide(&endpoint, record).await {
        Ok(status) => tracing::info!(epoch = record.epoch, state = ?status.state, "server has the record"),
        // The mounted ConfigMap reaches the server a little later, and the next reconcile tries again.
        Err(error) => tracing::warn!(%error, "server not told of the record"),
    }
}

/// Deletes the pod that was looked at, and no other: UID and version are preconditions.
async fn restart_pod(
    ctx: &Context,
    work: &Work<'_>,
    uid: &str,
    resource_version: &str,
    why: &str,
) -> Result<(), ReconcileError> {
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), &work.valid.namespace);
    let name = names::pod(&work.valid.name);
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: Some(resource_version.to_owned()),
        }),
        ..DeleteParams::default()
    };
    let deleted = api.delete(&name, &params).await;
    if ignore(deleted, 404, "delete", "Pod", &name)? {
        let text = format!("pod {name:?} restarts: {why}");
        ctx.events.publish(work.store, Note::normal(reason::RESTARTING, text)).await;
    }
    Ok(())
}

async fn apply_children(
    ctx: &Context,
    namespace: &str,
    desired: &Desired,
    kinds: &[ChildKind],
    live: &Children,
) -> Result<Applied, ReconcileError> {
    let mut outcome = Applied::Nothing;
    for kind in kinds {
        let changed = match kind {
            ChildKind::ServiceAccount => {
                patch(ctx, namespace, &desired.service_account, live.service_account.as_ref()).await?
            }
            ChildKind::Record => match &desired.record {
                Some(record) => patch(ctx, namespace, record, live.record.as_ref()).await?,
                None => false,
            },
            ChildKind::Config => patch(ctx, namespace, &desired.config, live.config.as_ref()).await?,
            ChildKind::Service => patch(ctx, namespace, &desired.service, live.service.as_ref()).await?,
            ChildKind::HeadlessService => {
                patch(ctx, namespace, &desired.headless_service, live.headless_service.as_ref()).await?
            }
            ChildKind::Pdb => patch(ctx, namespace, &desired.pdb, live.pdb.as_ref()).await?,
            ChildKind::StatefulSet => {
                patch(ctx, namespace, &desired.stateful_set, live.stateful_set.as_ref()).await?
            }
        };
        if changed {
            outcome = Applied::Changed;
        }
    }
    Ok(outcome)
}

/// Applies one object; true when that changed it.
async fn patch<K>(
    ctx: &Context,
    namespace: &str,
    desired: &K,
    live: Option<&K>,
) -> Result<bool, ReconcileError>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned + NamedKind,
    K::DynamicType: Default,
{
    let name = desired.name_any();
    let api: Api<K> = Api::namespaced(ctx.client.clone(), namespace);
    // One field manager, by force: what the operator sets is the operator's; everything else is left alone.
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    let applied = api.patch(&name, &params, &Patch::Apply(desired)).await.map_err(ReconcileError::call(
        "apply",
        K::KIND_NAME,
        &name,
    ))?;
    let changed = live.map(|live| live.meta().resource_version.clone())
        != Some(applied.meta().resource_version.clone());
    if changed {
        tracing::info!(kind = K::KIND_NAME, name, "applied");
    }
    Ok(changed)
}
