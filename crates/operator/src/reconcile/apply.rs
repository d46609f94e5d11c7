//! Does one step. Every call is idempotent or carries a precondition, and may be interrupted before or after it took
//! effect: the next reconcile looks at what is there.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

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
use super::facts::Facts;
use super::observe::{NamedKind, endpoint};
use super::ownership::{Verified, VerifiedChildren, verify_children};
use super::plan::identity::Known;
use super::plan::{ChildKind, Hold, Plan, Recording, Step, turn_lost};
use super::status::pod_is_ready;
use super::validate::ValidatedStore;
use crate::api::conditions::reason;
use crate::api::v1alpha1::{StartedUpdate, Store, StoreStatus};
use crate::context::{Context, ReconcileError, code};
use crate::events::Note;
use crate::names;
use crate::pipeline;

/// Characters of a password or token: over 256 bits.
const SECRET_LEN: usize = 48;

/// What was done with a plan.
#[derive(Debug)]
pub struct Done {
    plan: Plan,
    unchanged: Vec<ChildKind>,
}

/// The proof of it, which the status takes.
pub type Applied = pipeline::Applied<Done>;

impl Done {
    /// A plan without a step, which needs nothing done; absent when there is one.
    pub(super) fn nothing(plan: Plan) -> Option<Self> {
        plan.step.is_none().then(|| Self { plan, unchanged: Vec::new() })
    }

    /// The objects that were applied and were so already, if nothing else was done.
    pub(super) fn unchanged(&self) -> &[ChildKind] {
        &self.unchanged
    }
}

impl Applied {
    /// The plan as it was carried out: without its step when the API refused that.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.done().plan
    }

    /// As if `plan` had been carried out: for golden files, which show what would be said then.
    #[must_use]
    pub fn preview(plan: Plan) -> Self {
        Self::supposed(Done { plan, unchanged: Vec::new() })
    }
}

/// Everything that a step may need.
pub(super) struct Work<'a> {
    pub(super) store: &'a Store,
    /// Absent when the spec is refused; then there is no step.
    pub(super) valid: Option<&'a ValidatedStore>,
    pub(super) known: Option<&'a Known>,
    pub(super) desired: Option<&'a Desired>,
    pub(super) facts: &'a Facts,
}

/// Carries out `plan`: its step, if there is one.
/// # Errors
/// The API did not answer, or another writer was faster. A refusal becomes a hold.
pub(super) async fn apply(ctx: &Context, work: &Work<'_>, mut plan: Plan) -> Result<Done, ReconcileError> {
    let (Some(step), Some(valid)) = (plan.step.clone(), work.valid) else {
        plan.step = None;
        return Ok(Done { plan, unchanged: Vec::new() });
    };
    let hold = match take(ctx, work, valid, &step).await {
        Ok(Outcome::Changed) => return Ok(Done { plan, unchanged: Vec::new() }),
        Ok(Outcome::Unchanged(unchanged)) => return Ok(Done { plan, unchanged }),
        Ok(Outcome::Held(hold)) => hold,
        Err(error) => match error.refusal() {
            Some(message) => Hold::stalled(reason::API_REFUSED, message),
            None => return Err(error),
        },
    };
    plan.step = None;
    plan.holds.insert(0, hold);
    Ok(Done { plan, unchanged: Vec::new() })
}

/// What a step came to.
enum Outcome {
    /// Something changed, or may have.
    Changed,
    /// These objects were applied and were so already.
    Unchanged(Vec<ChildKind>),
    /// Not done, for this.
    Held(Hold),
}

async fn take(
    ctx: &Context,
    work: &Work<'_>,
    valid: &ValidatedStore,
    step: &Step,
) -> Result<Outcome, ReconcileError> {
    if !has_turn(ctx, work, valid, step) {
        // Another Store was faster; the next look tells the one that waits what it waits for.
        return Ok(Outcome::Held(turn_lost()));
    }
    match step {
        Step::Record(recording) => record(ctx, work, recording).await?,
        Step::SetFinalizer(wanted) => {
            pipeline::set_finalizer(ctx, work.store, names::STORE_FINALIZER, *wanted).await?;
        }
        Step::AdoptClaim => adopt_claim(ctx, work, valid).await?,
        Step::ProtectClaim => protect_claim(ctx, work, valid).await?,
        Step::CreateAuth => create_auth(ctx, work, valid).await?,
        Step::Apply(kinds) => {
            let Some(desired) = work.desired else { return Ok(Outcome::Unchanged(kinds.clone())) };
            let live = match verify_children(work.store, &work.facts.children) {
                Ok(live) => live,
                Err(hold) => return Ok(Outcome::Held(hold)),
            };
            return apply_children(ctx, &valid.namespace, desired, kinds, &live).await;
        }
        Step::CreateClaim { data_source } => create_claim(ctx, work, valid, data_source.as_deref()).await?,
        Step::SendRecord(record) => send_record(ctx, work, record).await,
        Step::SaveSnapshot => save_snapshot(ctx, work).await,
        Step::RestartPod { uid, resource_version, grace_seconds, why } => {
            restart_pod(ctx, work, valid, uid, resource_version, *grace_seconds, why).await?;
        }
    }
    Ok(Outcome::Changed)
}

/// Whether `step` is a restart, or leads to one, and may go on. Whose turn it is, has it from then on.
fn has_turn(ctx: &Context, work: &Work<'_>, valid: &ValidatedStore, step: &Step) -> bool {
    let restarts = match step {
        Step::RestartPod { .. } => true,
        Step::Record(recording) => {
            matches!(recording, Recording::Restart(_) | Recording::StartedUpdate(_))
        }
        _ => false,
    };
    // A server that serves nobody has nothing to lose, and the restart may be what mends it.
    if !restarts || !work.facts.pod.as_ref().is_some_and(pod_is_ready) {
        return true;
    }
    let ready_timeout = Duration::from_secs(valid.ready_timeout_seconds.into());
    ctx.restarts.enter(&valid.namespace, &valid.name, ready_timeout, Instant::now())
}

/// Writes intent or knowledge into the status. The version of the object that the decision was made upon is a
/// precondition: a second operator, or an older view, changes nothing.
async fn record(ctx: &Context, work: &Work<'_>, recording: &Recording) -> Result<(), ReconcileError> {
    let mut status = work.store.status.clone().unwrap_or_default();
    let note = record_in(&mut status, recording, Timestamp::now());
    pipeline::replace_status(ctx, work.store, status).await?;
    if let Some(note) = note {
        tracing::info!(reason = note.reason, note = note.text, "recorded");
        ctx.events.publish(work.store, note).await;
    }
    Ok(())
}

fn record_in(status: &mut StoreStatus, recording: &Recording, now: Timestamp) -> Option<Note> {
    match recording {
        Recording::Identity { store_id: Some(id), epoch } => {
            status.store_id = Some(id.clone());
            status.epoch = *epoch;
            Some(Note::normal(
                "IdentityRecovered",
                format!("the data is that of {id}, epoch {}", epoch.unwrap_or(0)),
            ))
        }
        Recording::Identity { store_id: None, .. } => {
            let id = uuid::Uuid::new_v4().to_string();
            let note = Note::normal("IdentityChosen", format!("the data of this Store is called {id}"));
            status.store_id = Some(id);
            Some(note)
        }
        Recording::Epoch { epoch, completes_restore } => {
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
        Recording::Claim(claim) => {
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
        Recording::Restore(restore) => {
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
        Recording::DropRestore => {
            let dropped = status.restore.take()?;
            Some(Note::normal(
                "RestoreDropped",
                format!("backup {:?} is not restored any more", dropped.backup_path),
            ))
        }
        Recording::Restart(restart) => {
            let mut restart = restart.clone();
            restart.start_time = whole_second(restart.start_time.0);
            status.last_pod_restart = Some(restart);
            None
        }
        Recording::GoodUpdate(good) => {
            status.last_good_update = Some(serde_json::to_value(good).expect("an update has a JSON form"));
            (status.failed_update, status.refused_update) = (None, None);
            forget_start(status);
            None
        }
        Recording::FailedUpdate(failed) => {
            let mut failed = failed.clone();
            failed.time = whole_second(failed.time.0);
            let note = Note::warning(
                reason::UPDATE_ROLLED_BACK,
                format!(
                    "the changed pod was not ready within {} s ({}: {}); what worked before comes back",
                    failed.ready_timeout_seconds, failed.reason, failed.message
                ),
            );
            status.failed_update = Some(failed);
            forget_start(status);
            // The next try begins from nothing: its restart is no repetition of the one that has failed.
            status.last_pod_restart = None;
            Some(note)
        }
        Recording::StartedUpdate(started) => {
            let start_time = whole_second(started.start_time.0);
            status.started_update = Some(StartedUpdate { start_time, ..started.clone() });
            status.refused_update = None;
            None
        }
        Recording::RestartDone => {
            if let Some(restart) = &mut status.last_pod_restart {
                restart.count = 0;
            }
            None
        }
        Recording::WithdrawnUpdate => {
            forget_start(status);
            status.last_pod_restart = None;
            None
        }
        Recording::RefusedUpdate(refused) => {
            status.refused_update = Some(refused.clone());
            None
        }
    }
}

fn forget_start(status: &mut StoreStatus) {
    status.started_update = None;
    if let Some(restart) = &mut status.last_pod_restart {
        restart.update = None;
    }
}

fn whole_second(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

pub(crate) fn post_params() -> PostParams {
    PostParams { dry_run: false, field_manager: Some(names::FIELD_MANAGER.to_owned()) }
}

async fn adopt_claim(ctx: &Context, work: &Work<'_>, valid: &ValidatedStore) -> Result<(), ReconcileError> {
    let Some(claim) = &work.facts.claim else { return Ok(()) };
    let name = claim.name_any();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(ctx.client.clone(), &valid.namespace);
    let former = claim::owners(claim).join(",");
    let annotations = BTreeMap::from([
        (names::key::STORE_UID, valid.uid.as_str()),
        (names::key::FORMER_STORE_UIDS, former.as_str()),
    ]);
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

/// Marks the claim for GitOps tools as something to leave alone.
async fn protect_claim(ctx: &Context, work: &Work<'_>, valid: &ValidatedStore) -> Result<(), ReconcileError> {
    let Some(claim) = &work.facts.claim else { return Ok(()) };
    let name = claim.name_any();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(ctx.client.clone(), &valid.namespace);
    // What a person has put there stays.
    let annotations: BTreeMap<&str, &str> = names::KEEP_ANNOTATIONS
        .into_iter()
        .filter(|(key, _)| !claim.annotations().contains_key(*key))
        .collect();
    let labels = json!({names::INSTANCE_LABEL: null});
    let patch = json!({"metadata": {
        "annotations": annotations, "labels": labels, "resourceVersion": claim.resource_version(),
    }});
    api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.map_err(ReconcileError::call(
        "mark",
        "PersistentVolumeClaim",
        &name,
    ))?;
    Ok(())
}

async fn create_auth(ctx: &Context, work: &Work<'_>, valid: &ValidatedStore) -> Result<(), ReconcileError> {
    let random = || Alphanumeric.sample_string(&mut rand::rng(), SECRET_LEN);
    let new = secret::build(valid, random(), random());
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), &valid.namespace);
    let name = names::auth_secret(&valid.name);
    let created = api.create(&post_params(), &new).await;
    if ignore(created, 409, "create", "Secret", &name)? && work.facts.children.stateful_set.is_some() {
        let text = format!(
            "Secret {name:?} was gone; it is created again with another password, and the pod restarts"
        );
        ctx.events.publish(work.store, Note::warning("AuthSecretRecreated", text)).await;
    }
    Ok(())
}

async fn create_claim(
    ctx: &Context,
    work: &Work<'_>,
    valid: &ValidatedStore,
    data_source: Option<&str>,
) -> Result<(), ReconcileError> {
    let (Some(storage), Some(known)) = (&valid.storage, work.known) else { return Ok(()) };
    let new = claim::build(valid, storage, &known.store_id, data_source);
    let api: Api<PersistentVolumeClaim> = Api::namespaced(ctx.client.clone(), &valid.namespace);
    let name = names::claim(&valid.name);
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

async fn save_snapshot(ctx: &Context, work: &Work<'_>) {
    let Some(endpoint) = endpoint(&work.facts.children, work.facts.pod.as_ref()) else { return };
    match ctx.servers.save_snapshot(&endpoint).await {
        Ok(_) => tracing::info!("a snapshot is asked for before the restart"),
        Err(error) => tracing::warn!(%error, "no snapshot before the restart"),
    }
}

/// Deletes the pod that was looked at, and no other: UID and version are preconditions.
async fn restart_pod(
    ctx: &Context,
    work: &Work<'_>,
    valid: &ValidatedStore,
    uid: &str,
    resource_version: &str,
    grace_seconds: u32,
    why: &str,
) -> Result<(), ReconcileError> {
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), &valid.namespace);
    let name = names::pod(&valid.name);
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: Some(resource_version.to_owned()),
        }),
        grace_period_seconds: Some(grace_seconds),
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
    live: &VerifiedChildren<'_>,
) -> Result<Outcome, ReconcileError> {
    let Desired {
        service_account,
        record,
        config,
        service,
        headless_service,
        pdb,
        stateful_set,
        config_sha256: _,
        template_hash: _,
    } = desired;
    let mut unchanged = Vec::new();
    for kind in kinds {
        let changed = match kind {
            ChildKind::ServiceAccount => {
                patch(ctx, namespace, service_account, &live.one(|live| &live.service_account)).await?
            }
            ChildKind::Record => match record {
                Some(record) => patch(ctx, namespace, record, &live.one(|live| &live.record)).await?,
                None => false,
            },
            ChildKind::Config => patch(ctx, namespace, config, &live.one(|live| &live.config)).await?,
            ChildKind::Service => patch(ctx, namespace, service, &live.one(|live| &live.service)).await?,
            ChildKind::HeadlessService => {
                patch(ctx, namespace, headless_service, &live.one(|live| &live.headless_service)).await?
            }
            ChildKind::Pdb => patch(ctx, namespace, pdb, &live.one(|live| &live.pdb)).await?,
            ChildKind::StatefulSet => {
                patch(ctx, namespace, stateful_set, &live.one(|live| &live.stateful_set)).await?
            }
        };
        if !changed {
            unchanged.push(*kind);
        }
    }
    Ok(if unchanged.len() == kinds.len() { Outcome::Unchanged(unchanged) } else { Outcome::Changed })
}

/// Applies one object; true when that changed it.
async fn patch<K>(
    ctx: &Context,
    namespace: &str,
    desired: &K,
    live: &Verified<'_, K>,
) -> Result<bool, ReconcileError>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned + NamedKind,
    K::DynamicType: Default,
{
    let name = desired.name_any();
    let api: Api<K> = Api::namespaced(ctx.client.clone(), namespace);
    let mut desired = desired.clone();
    // One field manager, by force: what the operator sets is the operator's; everything else is left alone. But only on the
    // object that was found to be ours: another one of that name has another UID, and none is there to be forced yet.
    let params = PatchParams::apply(names::FIELD_MANAGER);
    let params = match live.live() {
        Some(live) => {
            desired.meta_mut().uid.clone_from(&live.meta().uid);
            params.force()
        }
        None => params,
    };
    let applied = api.patch(&name, &params, &Patch::Apply(&desired)).await.map_err(ReconcileError::call(
        "apply",
        K::KIND_NAME,
        &name,
    ))?;
    let changed = live.live().map(|live| live.meta().resource_version.clone())
        != Some(applied.meta().resource_version.clone());
    if changed {
        tracing::info!(kind = K::KIND_NAME, name, "applied");
    }
    Ok(changed)
}
