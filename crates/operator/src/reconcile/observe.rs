//! Reads everything that one reconcile of a Store decides upon, straight from the API and from the server, so that nothing
//! is ever written upon a view that is older than our own last write. Only whether there is anything to do at all is also
//! judged by what the watches have brought ([`observe_settled`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};

use holdfast_contract::control::{CONFIG_CHECK_SINCE, ConfigCheck, ConfigCheckRequest, ServerState};
use holdfast_contract::ports;
use holdfast_contract::record::{Origin, reason as held};
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod, Secret};
use kube::api::{Api, ListParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::build::{config_map, secret, server_config, sha256_hex};
use super::facts::{Children, Facts, ServerFact, SnapshotFact, SourceFact};
use super::ownership::is_store_pod;
use super::plan::identity::{bucket_of, location_of_dir};
use super::rendering;
use super::status::pod_is_ready;
use super::update;
use super::validate::{Source, ValidatedStore};
use crate::api::quantity::Quantity;
use crate::api::v1alpha1::{BackupLocation, BackupMethod, OnVolumeLoss, Store, StoreBackup};
use crate::caches::{self, Caches};
use crate::context::{Context, ReconcileError, code};
use crate::names;
use crate::packed::Packed;
use crate::server_client::{Endpoint, ServerError};

/// Events to look through for the newest warning about one object.
const EVENTS_MAX: u32 = 50;

/// Reads the facts about `store`. Without `valid` (the spec is refused) only what the status needs.
/// # Errors
/// The API did not answer. A server or bucket that does not answer is a fact.
pub async fn observe(
    ctx: &Context,
    store: &Store,
    valid: Option<&ValidatedStore>,
) -> Result<Facts, ReconcileError> {
    let namespace = store.namespace().unwrap_or_default();
    let name = store.name_any();
    let (children, claim, pod, backups) = tokio::try_join!(
        read_children(ctx, &namespace, &name),
        read::<PersistentVolumeClaim>(ctx, &namespace, names::claim(&name)),
        read::<Pod>(ctx, &namespace, names::pod(&name)),
        backups_of(ctx, &namespace, &name),
    )?;
    let server = ask_server(ctx, &children, pod.as_ref()).await;
    let mut facts = Facts { children, claim, pod, server, backups, ..Facts::default() };
    if let Some(valid) = valid {
        facts.source = read_source(ctx, store, valid).await?;
        facts.locations = read_locations(ctx, store, valid, &facts).await?;
        read_adoption(ctx, store, valid, &mut facts).await?;
        facts.latest_backup = read_latest_backup(ctx, store, valid, &facts).await?;
        facts.config_check = check_config(ctx, store, valid, &facts).await;
    }
    read_warnings(ctx, &namespace, &mut facts).await?;
    Ok(facts)
}

/// The facts about `store` as the watches have brought them; absent when that is not enough to say that nothing is to do.
pub(super) async fn observe_settled(
    ctx: &Context,
    caches: &Caches,
    store: &Store,
    valid: &ValidatedStore,
) -> Option<Facts> {
    let (namespace, name) = (valid.namespace.as_str(), valid.name.as_str());
    let children = Children {
        service_account: caches::get(&caches.service_accounts, namespace, &names::service_account(name)),
        record: caches::get(&caches.config_maps, namespace, &names::record(name)),
        config: caches::get(&caches.config_maps, namespace, &names::config(name)),
        auth: recent_secret(ctx, caches, namespace, &names::auth_secret(name)).await?,
        service: caches::get(&caches.services, namespace, &names::stateful_set(name)),
        headless_service: caches::get(&caches.services, namespace, &names::headless_service(name)),
        pdb: caches::get(&caches.pdbs, namespace, &names::stateful_set(name)),
        stateful_set: caches::get(&caches.stateful_sets, namespace, &names::stateful_set(name)),
    };
    let claim = caches::get(&caches.claims, namespace, &names::claim(name));
    let pod = caches::get(&caches.pods, namespace, &names::pod(name));
    let server = ask_server(ctx, &children, pod.as_ref()).await;
    let mut facts = Facts { children, claim, pod, server, ..Facts::default() };
    if !is_settled(store, valid, &facts) {
        return None;
    }
    // Only the server can say that it takes now what it has refused.
    if valid.waits_to_start() && update::refused(store, &valid.update).is_some() {
        return None;
    }
    facts.backups = caches.backups_of(namespace, name);
    let locations = locations_wanted(store, valid, &facts).into_iter();
    facts.locations =
        locations.map(|name| (name.clone(), caches::get(&caches.locations, namespace, &name))).collect();
    Some(facts)
}

/// Whether the facts that are always read say enough: what else [`observe`] reads is for Stores that are on their way.
fn is_settled(store: &Store, valid: &ValidatedStore, facts: &Facts) -> bool {
    let is_identified =
        valid.storage.is_none() || store.status.as_ref().is_some_and(|status| status.epoch.is_some());
    let is_served = facts.pod.as_ref().is_some_and(pod_is_ready)
        && facts.server.status().is_some_and(|server| {
            server.state != ServerState::Holding
                && rendering::is_configuration_current(store, valid.in_force(), facts)
        });
    is_identified && is_served && (valid.storage.is_none() || facts.claim.as_ref().is_some_and(is_bound))
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

/// A Secret that was read not long ago, or now. The outer absence: the API does not tell.
async fn recent_secret(
    ctx: &Context,
    caches: &Caches,
    namespace: &str,
    name: &str,
) -> Option<Option<Secret>> {
    if let Some(known) = caches.secret(namespace, name) {
        return Some(known);
    }
    let secret = read::<Secret>(ctx, namespace, name.to_owned()).await.ok()?;
    caches.note_secret(namespace, name, secret.clone());
    Some(secret)
}

/// Reads the owned objects of the Store `name`.
/// # Errors
/// The API did not answer.
pub(super) async fn read_children(
    ctx: &Context,
    namespace: &str,
    name: &str,
) -> Result<Children, ReconcileError> {
    let (service_account, record, config, auth, service, headless_service, pdb, stateful_set) = tokio::try_join!(
        read(ctx, namespace, names::service_account(name)),
        read(ctx, namespace, names::record(name)),
        read(ctx, namespace, names::config(name)),
        read(ctx, namespace, names::auth_secret(name)),
        read(ctx, namespace, names::stateful_set(name)),
        read(ctx, namespace, names::headless_service(name)),
        read(ctx, namespace, names::stateful_set(name)),
        read(ctx, namespace, names::stateful_set(name)),
    )?;
    Ok(Children { service_account, record, config, auth, service, headless_service, pdb, stateful_set })
}

/// The endpoint of the server in `pod`, when there is a server to ask.
pub(crate) fn endpoint(children: &Children, pod: Option<&Pod>) -> Option<Endpoint> {
    // A stranger's pod of that name must not be told the token.
    let status = pod.filter(|pod| is_store_pod(pod))?.status.as_ref()?;
    let is_running = status.container_statuses.iter().flatten().any(|container| {
        container.name == names::SERVER_CONTAINER
            && container.state.as_ref().is_some_and(|state| state.running.is_some())
    });
    let address: IpAddr = status.pod_ip.as_ref().filter(|_| is_running)?.parse().ok()?;
    let token = secret::token(children.auth.as_ref()?)?.to_owned();
    Some(Endpoint { address: SocketAddr::new(address, ports::CONTROL), token })
}

async fn ask_server(ctx: &Context, children: &Children, pod: Option<&Pod>) -> ServerFact {
    let Some(endpoint) = endpoint(children, pod) else { return ServerFact::Absent };
    match ctx.servers.status(&endpoint).await {
        Ok(status) => ServerFact::Status(Box::new(status)),
        Err(error @ ServerError::Unauthorized { .. }) => ServerFact::Unauthorized(error.to_string()),
        Err(error @ ServerError::Unreachable { .. }) => ServerFact::Unreachable(error.to_string()),
        Err(error @ (ServerError::Refused { .. } | ServerError::Malformed { .. })) => {
            ServerFact::Refused { reason: error.reason().to_owned(), message: error.to_string() }
        }
    }
}

/// Asks the running server whether it would start with the configuration that the spec yields, before anything is written
/// for it. A server of another image may read another language, and one of an earlier version cannot tell.
async fn check_config(
    ctx: &Context,
    store: &Store,
    valid: &ValidatedStore,
    facts: &Facts,
) -> Option<ConfigCheck> {
    let running = facts.server.status().filter(|status| status.contract_version >= CONFIG_CHECK_SINCE)?;
    // An update is checked before it begins.
    let (valid, rendering) = if valid.waits_to_start() {
        (valid, rendering::for_update(valid, facts))
    } else {
        (valid.in_force(), rendering::for_changes(store, valid, facts))
    };
    let text = server_config::render(valid, rendering);
    let runs_image = facts.pod.as_ref()?.spec.as_ref()?.containers.iter().any(|container| {
        container.name == names::SERVER_CONTAINER && container.image.as_ref() == Some(&valid.image)
    });
    if rendering::is_configuration_current(store, valid, facts)
        || running.config_sha256 == sha256_hex(text.as_bytes())
        || !runs_image
    {
        return None;
    }
    let endpoint = endpoint(&facts.children, facts.pod.as_ref())?;
    match ctx.servers.check_config(&endpoint, &ConfigCheckRequest { text }).await {
        Ok(check) => Some(check),
        Err(error) => {
            tracing::info!(%error, "configuration not checked before it is applied");
            None
        }
    }
}

/// Reads the object `name`, if there is one.
/// # Errors
/// The API did not answer.
pub(crate) async fn read<K>(ctx: &Context, namespace: &str, name: String) -> Result<Option<K>, ReconcileError>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + NamedKind,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(ctx.client.clone(), namespace);
    api.get_opt(&name).await.map_err(ReconcileError::call("read", K::KIND_NAME, &name))
}

/// A kind with its name for messages.
pub trait NamedKind: Resource {
    /// As in a manifest.
    const KIND_NAME: &'static str;
}

macro_rules! named_kinds {
    ($($kind:ty => $name:literal),* $(,)?) => {
        $(impl NamedKind for $kind { const KIND_NAME: &'static str = $name; })*
    };
}

named_kinds! {
    k8s_openapi::api::core::v1::ServiceAccount => "ServiceAccount",
    k8s_openapi::api::core::v1::ConfigMap => "ConfigMap",
    Secret => "Secret",
    k8s_openapi::api::core::v1::Service => "Service",
    PersistentVolumeClaim => "PersistentVolumeClaim",
    Pod => "Pod",
    k8s_openapi::api::policy::v1::PodDisruptionBudget => "PodDisruptionBudget",
    k8s_openapi::api::apps::v1::StatefulSet => "StatefulSet",
    BackupLocation => "BackupLocation",
    StoreBackup => "StoreBackup",
    Store => "Store",
}

async fn backups_of(ctx: &Context, namespace: &str, store: &str) -> Result<Vec<StoreBackup>, ReconcileError> {
    let api: Api<Packed<StoreBackup>> = Api::namespaced(ctx.client.clone(), namespace);
    let list =
        api.list(&ListParams::default()).await.map_err(ReconcileError::call("list", "StoreBackup", store))?;
    let of_store = list.items.into_iter().filter(|backup| backup.store() == Some(store));
    // One that this version cannot read says so itself.
    Ok(of_store.filter_map(|backup| backup.unpack()).collect())
}

async fn read_source(
    ctx: &Context,
    store: &Store,
    valid: &ValidatedStore,
) -> Result<SourceFact, ReconcileError> {
    let has_epoch = store.status.as_ref().and_then(|status| status.epoch).is_some();
    match &valid.bootstrap {
        _ if has_epoch => Ok(SourceFact::NotNeeded),
        Source::Empty | Source::Adopt(_) => Ok(SourceFact::NotNeeded),
        Source::VolumeSnapshot(name) => read_snapshot(ctx, &valid.namespace, name).await,
        Source::Backup(name) => {
            let Some(backup) = read::<StoreBackup>(ctx, &valid.namespace, name.clone()).await? else {
                return Ok(SourceFact::BackupMissing);
            };
            if backup.spec.method == BackupMethod::Snapshot {
                return Ok(SourceFact::Backup(Box::new(backup)));
            }
            let snapshot = backup.status.as_ref().and_then(|status| status.volume_snapshots.first());
            match snapshot {
                Some(snapshot) => read_snapshot(ctx, &valid.namespace, &snapshot.name).await,
                // It has not got that far; its conditions say why.
                None => Ok(SourceFact::Backup(Box::new(backup))),
            }
        }
    }
}

async fn read_snapshot(ctx: &Context, namespace: &str, name: &str) -> Result<SourceFact, ReconcileError> {
    match ctx.volume_snapshots(namespace).get(name).await {
        Ok(object) => {
            let label = |key: &str| object.labels().get(key).cloned();
            let status = &object.data["status"];
            Ok(SourceFact::VolumeSnapshot(Some(SnapshotFact {
                name: name.to_owned(),
                store_id: label(names::key::STORE_ID),
                epoch: label(names::key::EPOCH).and_then(|text| text.parse().ok()),
                offset: label(names::key::OFFSET).and_then(|text| text.parse().ok()),
                ready_to_use: status["readyToUse"].as_bool().unwrap_or(false),
                restore_bytes: status["restoreSize"]
                    .as_str()
                    .and_then(|text| Quantity(text.to_owned()).bytes().ok()),
                is_deleting: object.metadata.deletion_timestamp.is_some(),
                error: status["error"]["message"].as_str().map(str::to_owned),
            })))
        }
        Err(error) if code(&error) == Some(404) => {
            if ctx.has_volume_snapshots(namespace).await? {
                Ok(SourceFact::VolumeSnapshot(None))
            } else {
                Ok(SourceFact::VolumeSnapshotsUnavailable)
            }
        }
        Err(source) => Err(ReconcileError::call("read", "VolumeSnapshot", name)(source)),
    }
}

/// Every location that the spec, the status or the record name.
fn locations_wanted(store: &Store, valid: &ValidatedStore, facts: &Facts) -> BTreeSet<String> {
    let mut wanted: BTreeSet<String> = valid.backup_location.iter().cloned().collect();
    wanted.extend(
        store
            .status
            .iter()
            .filter_map(|status| status.restore.as_ref())
            .map(|restore| restore.location.clone()),
    );
    if let SourceFact::Backup(backup) = &facts.source {
        wanted.extend(backup.status.iter().filter_map(|status| status.location.clone()));
    }
    if let Ok(Some(record)) = config_map::read_record(facts.children.record.as_ref())
        && let Origin::Restore { plan } = &record.origin
    {
        wanted.extend(location_of_dir(&plan.credentials_dir).map(str::to_owned));
    }
    wanted
}

async fn read_locations(
    ctx: &Context,
    store: &Store,
    valid: &ValidatedStore,
    facts: &Facts,
) -> Result<BTreeMap<String, Option<BackupLocation>>, ReconcileError> {
    let mut locations = BTreeMap::new();
    for name in locations_wanted(store, valid, facts) {
        let location = read(ctx, &valid.namespace, name.clone()).await?;
        locations.insert(name, location);
    }
    Ok(locations)
}

/// What an adoption must know before the Store has an id.
async fn read_adoption(
    ctx: &Context,
    store: &Store,
    valid: &ValidatedStore,
    facts: &mut Facts,
) -> Result<(), ReconcileError> {
    let Source::Adopt(id) = &valid.bootstrap else { return Ok(()) };
    if store.status.as_ref().is_some_and(|status| status.store_id.is_some()) {
        return Ok(());
    }
    let stores: Api<Store> = Api::namespaced(ctx.client.clone(), &valid.namespace);
    let list =
        stores.list(&ListParams::default()).await.map_err(ReconcileError::call("list", "Store", ""))?;
    facts.stores_with_store_id = list
        .items
        .iter()
        .filter(|other| other.uid() != store.uid())
        .filter(|other| other.status.as_ref().and_then(|status| status.store_id.as_ref()) == Some(id))
        .map(|other| other.name_any())
        .collect();
    if facts.claim.is_none() {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(ctx.client.clone(), &valid.namespace);
        let with_id = ListParams::default().labels(&format!("{}={id}", names::key::STORE_ID));
        let list = claims.list_metadata(&with_id).await.map_err(ReconcileError::call(
            "list",
            "PersistentVolumeClaim",
            "",
        ))?;
        facts.claims_with_store_id = list.items.iter().map(|claim| claim.name_any()).collect();
    }
    Ok(())
}

async fn read_latest_backup(
    ctx: &Context,
    store: &Store,
    valid: &ValidatedStore,
    facts: &Facts,
) -> Result<Option<Result<Option<super::facts::LatestBackup>, super::facts::LocationProblem>>, ReconcileError>
{
    let status = store.status.as_ref();
    let is_recorded = status.is_some_and(|status| status.restore.is_some());
    let is_wanted = valid.on_volume_loss == OnVolumeLoss::RestoreLatestBackup
        && match facts.server.held_for() {
            Some(held::VOLUME_LOST) => !is_recorded,
            // Another one may be the newest by now.
            Some(held::RESTORE_FAILED) => is_recorded,
            _ => false,
        };
    let location = valid
        .backup_location
        .as_ref()
        .filter(|_| is_wanted)
        .and_then(|name| facts.locations.get(name)?.as_ref());
    let (Some(location), Some(store_id)) = (location, status.and_then(|status| status.store_id.as_ref()))
    else {
        return Ok(None);
    };
    let secret = &location.spec.credentials_secret_ref.name;
    let credentials = match ctx.secret_data(&valid.namespace, secret).await? {
        Ok(credentials) => credentials,
        Err(problem) => return Ok(Some(Err(problem))),
    };
    Ok(Some(ctx.buckets.latest_backup(&bucket_of(location), &credentials, store_id).await))
}

/// The newest warnings about pod and claim, while they are not as they should be: mounts, images, classes and quotas
/// report nowhere else.
async fn read_warnings(ctx: &Context, namespace: &str, facts: &mut Facts) -> Result<(), ReconcileError> {
    if let Some(claim) = &facts.claim
        && !is_bound(claim)
    {
        facts.claim_warning = newest_warning(ctx, namespace, claim.uid()).await?;
    }
    match &facts.pod {
        Some(pod) if !pod_is_ready(pod) && facts.server.status().is_none() => {
            facts.pod_warning = newest_warning(ctx, namespace, pod.uid()).await?;
        }
        // Without a pod the StatefulSet says why it cannot be made.
        None => {
            let uid = facts.children.stateful_set.as_ref().and_then(|set| set.metadata.uid.clone());
            facts.pod_warning = newest_warning(ctx, namespace, uid).await?;
        }
        Some(_) => {}
    }
    Ok(())
}

async fn newest_warning(
    ctx: &Context,
    namespace: &str,
    uid: Option<String>,
) -> Result<Option<String>, ReconcileError> {
    let Some(uid) = uid else { return Ok(None) };
    let events: Api<Event> = Api::namespaced(ctx.client.clone(), namespace);
    let about =
        ListParams::default().fields(&format!("involvedObject.uid={uid},type=Warning")).limit(EVENTS_MAX);
    let list = events.list(&about).await.map_err(ReconcileError::call("list", "Event", &uid))?;
    Ok(list
        .items
        .into_iter()
        .max_by_key(|event| {
            let last = event.last_timestamp.as_ref().map(|time| time.0);
            let first = event.event_time.as_ref().map(|time| time.0);
            last.or(first)
        })
        .and_then(|event| event.message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Whether the server of a running pod with these labels and this owner is told the token.
    fn is_told(labels: &Value, owner: Option<&str>) -> bool {
        let auth = json!({"data": {"password": "cA==", "token": "dA=="}});
        let auth = Some(serde_json::from_value(auth).expect("a Secret"));
        let owners = owner.map(|kind| {
            json!([{"apiVersion": "apps/v1", "kind": kind, "name": "orders", "uid": "u", "controller": true}])
        });
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "orders-0", "labels": labels, "ownerReferences": owners},
            "status": {"podIP": "10.244.0.5", "containerStatuses": [{
                "name": names::SERVER_CONTAINER, "image": "i", "imageID": "i", "ready": true, "restartCount": 0,
                "state": {"running": {}},
            }]},
        }))
        .expect("a pod");
        endpoint(&Children { auth, ..Children::default() }, Some(&pod)).is_some()
    }

    #[test]
    fn only_the_pod_of_a_store_is_told_the_token() {
        let ours = json!(names::labels("orders"));
        assert!(is_told(&ours, Some("StatefulSet")));
        assert!(is_told(&ours, None), "its StatefulSet was let go for a moment");
        assert!(!is_told(&ours, Some("ReplicaSet")));
        assert!(!is_told(&json!({}), None));
        assert!(!is_told(&json!({"app": "theirs"}), Some("StatefulSet")));
        assert!(!is_told(&json!(names::labels("invoices")), Some("StatefulSet")), "of another Store");
    }
}
