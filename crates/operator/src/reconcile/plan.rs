//! Desired and observed → one step that is safe now, or a typed reason for waiting. Pure.
//!
//! ```text
//!   facts + status ── identity::identify ──▶ whose data, which epoch, what fills the volume   (or a step, or a stop)
//!                                                   │ build
//!   desired + facts ── next_step ──▶ finalizer → Secret → objects → claim → StatefulSet → record to server → restart
//! ```
//!
//! Order matters: what is irreversible is recorded before it is done, the status before the ConfigMap, the ConfigMap
//! before the server is told. Every step is idempotent and decided anew from what is there; none relies on an earlier
//! one having been done by this process.

pub mod identity;

use holdfast_contract::control::{ServerState, ServerStatus};
use holdfast_contract::record::{StoreRecord, reason as held};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;

use super::build::{Desired, secret};
use super::facts::{Facts, ServerFact};
use super::validate::ValidatedStore;
use crate::api::conditions::reason;
use crate::api::quantity::Quantity;
use crate::api::v1alpha1::{ClaimStatus, DeletionPolicy, RestoreStatus, Store};
use crate::names;
use identity::Known;

/// One step. Each is at most one write to the API, or one message to the server; [`Step::Apply`] is one per object.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Record id and epoch in the status.
    RecordIdentity {
        /// The id; absent: a new one is to be chosen.
        store_id: Option<String>,
        /// Epoch that is known from elsewhere.
        epoch: Option<u64>,
    },
    /// Record in the status that the volume has this epoch.
    RecordEpoch {
        /// The epoch; above the recorded one.
        epoch: u64,
        /// True when the recorded restore has brought it about.
        completes_restore: bool,
    },
    /// Record in the status which claim holds the data.
    RecordClaim(ClaimStatus),
    /// Record in the status what is about to be restored.
    RecordRestore(RestoreStatus),
    /// Forget the recorded restore: the volume is back.
    DropRestore,
    /// Add the finalizer (true) or remove it.
    SetFinalizer(bool),
    /// Take over the claim of a deleted Store: its annotation names this Store.
    AdoptClaim,
    /// Make the Secret with a new password and token.
    CreateAuth,
    /// Apply these objects in this order.
    Apply(Vec<ChildKind>),
    /// Make the first claim, filled from a VolumeSnapshot if one is named.
    CreateClaim {
        /// Name of the VolumeSnapshot.
        data_source: Option<String>,
    },
    /// Tell the server the record.
    SendRecord(Box<StoreRecord>),
    /// Delete the pod, so that it comes back with the new template.
    RestartPod {
        /// UID of the pod.
        uid: String,
        /// Version at which the decision was made.
        resource_version: String,
        /// What changes by it.
        why: String,
    },
}

/// The applied objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildKind {
    /// Account of the pods.
    ServiceAccount,
    /// ConfigMap with the record.
    Record,
    /// ConfigMap with the configuration.
    Config,
    /// Service for clients.
    Service,
    /// Headless Service.
    HeadlessService,
    /// PodDisruptionBudget.
    Pdb,
    /// StatefulSet.
    StatefulSet,
}

/// Why nothing goes on, or why something asked for is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// True: until a person acts. False: until something happens that needs no person.
    pub stalled: bool,
    /// PascalCase reason.
    pub reason: String,
    /// What was found, on which object, and what to do.
    pub message: String,
}

impl Hold {
    /// A hold that a person must end.
    pub(crate) fn stalled(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { stalled: true, reason: reason.into(), message: message.into() }
    }

    /// A hold that ends by itself.
    pub(crate) fn waiting(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { stalled: false, reason: reason.into(), message: message.into() }
    }
}

/// What a reconcile does: at most one step, and what people should know.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The step, if one is due.
    pub step: Option<Step>,
    /// What holds; the first is the one to show.
    pub holds: Vec<Hold>,
}

impl Plan {
    /// Nothing but a step.
    #[must_use]
    pub fn step(step: Step) -> Self {
        Self { step: Some(step), holds: Vec::new() }
    }

    /// Nothing but a hold.
    #[must_use]
    pub fn hold(hold: Hold) -> Self {
        Self { step: None, holds: vec![hold] }
    }
}

/// The revision of the authentication Secret that pods shall start with: that of the Secret, or, while the Secret is
/// unusable, the one that is applied already, so that a damaged Secret restarts nothing.
#[must_use]
pub fn auth_revision(facts: &Facts) -> String {
    let live =
        facts.children.auth.as_ref().and_then(|auth| secret::read(auth).ok()).map(|auth| auth.revision);
    live.or_else(|| {
        let template = &facts.children.stateful_set.as_ref()?.spec.template;
        template.metadata.as_ref()?.annotations.as_ref()?.get(names::key::AUTH_REVISION).cloned()
    })
    .unwrap_or_default()
}

/// Decides the next step towards `desired`. `known` is absent exactly with the strategy Disabled. `applied_noop`: the
/// objects were applied just now and nothing changed, so they are current however they look.
#[must_use]
pub fn next_step(
    store: &Store,
    valid: &ValidatedStore,
    known: Option<&Known>,
    desired: &Desired,
    facts: &Facts,
    applied_noop: bool,
) -> Plan {
    let mut holds = Vec::new();
    let with = |step: Step, holds: Vec<Hold>| Plan { step: Some(step), holds };

    let wants_finalizer = valid.deletion_policy == DeletionPolicy::DeleteVolumes;
    let has_finalizer = has_finalizer(&store.metadata);
    if wants_finalizer != has_finalizer {
        return with(Step::SetFinalizer(wants_finalizer), holds);
    }

    match &facts.children.auth {
        None => return with(Step::CreateAuth, holds),
        Some(auth) => {
            if let Err(key) = secret::read(auth) {
                holds.push(Hold::stalled(
                    reason::AUTH_SECRET_INVALID,
                    format!(
                        "key {key:?} of Secret {:?} is missing or empty; what runs keeps its password; set the key, or delete the Secret to have a new one made",
                        names::auth_secret(&valid.name)
                    ),
                ));
            }
        }
    }

    if let Some(location) = missing_location(valid, facts) {
        holds.push(location);
    }

    let mut stale = if applied_noop { Vec::new() } else { stale_children(desired, facts) };
    let stateful_set_stale = stale.pop_if(|kind| *kind == ChildKind::StatefulSet).is_some();
    if !stale.is_empty() {
        return with(Step::Apply(stale), holds);
    }

    if let Some(known) = known {
        if let Some(step) = claim_step(store, valid, known, facts) {
            return with(step, holds);
        }
        if stateful_set_stale {
            return with(Step::Apply(vec![ChildKind::StatefulSet]), holds);
        }
        if let Some(status) = facts.server.status()
            && wants_record(status, known)
        {
            return with(Step::SendRecord(Box::new(known.record())), holds);
        }
    } else if stateful_set_stale {
        return with(Step::Apply(vec![ChildKind::StatefulSet]), holds);
    }

    match restart(desired, facts) {
        Restart::Now(step) => with(step, holds),
        Restart::Later(hold) => {
            holds.push(hold);
            Plan { step: None, holds }
        }
        Restart::NotNeeded => Plan { step: None, holds },
    }
}

/// Whether the finalizer is there.
#[must_use]
pub fn has_finalizer(metadata: &ObjectMeta) -> bool {
    metadata.finalizers.iter().flatten().any(|finalizer| finalizer == names::STORE_FINALIZER)
}

fn missing_location(valid: &ValidatedStore, facts: &Facts) -> Option<Hold> {
    let name = valid.backup_location.as_ref()?;
    facts.locations.get(name).is_some_and(Option::is_none).then(|| {
        Hold::stalled(
            reason::LOCATION_NOT_FOUND,
            format!("spec.backup.locationRef names BackupLocation {name:?}, which is not in this namespace; create it, or correct the name; the Store runs without backups until then"),
        )
    })
}

fn claim_step(store: &Store, valid: &ValidatedStore, known: &Known, facts: &Facts) -> Option<Step> {
    valid.storage.as_ref()?;
    let recorded = store.status.as_ref().and_then(|status| status.claim.as_ref());
    let Some(claim) = &facts.claim else {
        // Only the first claim is made here. One that is lost later comes back by the StatefulSet, empty, and its server
        // decides by what the volume holds; but while nothing was ever written, a source must be offered again.
        let is_first = known.epoch == 0 && (recorded.is_none() || known.data_source.is_some());
        return is_first.then(|| Step::CreateClaim { data_source: known.data_source.clone() });
    };
    let uid = claim.metadata.uid.clone().unwrap_or_default();
    if recorded.is_some_and(|recorded| recorded.uid == uid) {
        return None;
    }
    // Another claim counts only once its volume is known to hold this Store's data.
    let holds_data = known.epoch > 0 && volume_epoch(facts, &known.store_id) == Some(known.epoch);
    let is_first = known.epoch == 0;
    (is_first || holds_data).then(|| Step::RecordClaim(ClaimStatus { name: names::claim(&valid.name), uid }))
}

/// Epoch of the volume as its server reports it, once the server has decided that the volume is good.
pub(crate) fn volume_epoch(facts: &Facts, store_id: &str) -> Option<u64> {
    let status = facts.server.status()?;
    let decided = match status.state {
        ServerState::AwaitingRecord
        | ServerState::Loading
        | ServerState::Ready
        | ServerState::WritesRefused => true,
        ServerState::Holding | ServerState::Restoring | ServerState::Stopping => false,
    };
    let identity = status.identity.as_ref().filter(|identity| decided && identity.store_id == store_id)?;
    Some(identity.epoch)
}

/// Whether the server's decision would change if it saw the record now, rather than when its mount is refreshed.
fn wants_record(status: &ServerStatus, known: &Known) -> bool {
    match status.state {
        ServerState::AwaitingRecord => status
            .identity
            .as_ref()
            .is_some_and(|identity| identity.store_id == known.store_id && identity.epoch <= known.epoch),
        ServerState::Holding => match status.decision.as_ref().map(|decision| decision.reason.as_str()) {
            Some(held::VOLUME_LOST) => known.restore.is_some(),
            Some(held::RECORD_UNREADABLE | held::AWAITING_RECORD) => true,
            _ => false,
        },
        _ => false,
    }
}

enum Restart {
    NotNeeded,
    Now(Step),
    Later(Hold),
}

fn restart(desired: &Desired, facts: &Facts) -> Restart {
    let Some(pod) = &facts.pod else { return Restart::NotNeeded };
    if pod.metadata.deletion_timestamp.is_some() {
        return Restart::NotNeeded;
    }
    let Some(why) = restart_reason(pod, desired, facts) else { return Restart::NotNeeded };
    // The StatefulSet controller must have seen the template, or the pod would come back from the old one.
    let seen = facts.children.stateful_set.as_ref().is_some_and(|set| {
        set.status.as_ref().and_then(|status| status.observed_generation) >= set.metadata.generation
    });
    if !seen {
        return Restart::Later(Hold::waiting(
            reason::RESTARTING,
            "waits until the StatefulSet controller has seen the new template",
        ));
    }
    if let Some(backup) = running_backup(facts)
        && backup_can_go_on(facts)
    {
        return Restart::Later(Hold::waiting(
            reason::RESTART_DEFERRED,
            format!("{why}; the restart waits until StoreBackup {backup:?} has ended"),
        ));
    }
    let restores = facts.server.status().is_some_and(|status| status.state == ServerState::Restoring);
    if restores || restore_container_runs(pod) {
        return Restart::Later(Hold::waiting(
            reason::RESTART_DEFERRED,
            format!("{why}; the restart waits until the running restore has ended"),
        ));
    }
    let (Some(uid), Some(resource_version)) =
        (pod.metadata.uid.clone(), pod.metadata.resource_version.clone())
    else {
        return Restart::NotNeeded;
    };
    Restart::Now(Step::RestartPod { uid, resource_version, why })
}

/// Whether the init container is at work: it may be restoring.
#[must_use]
pub fn restore_container_runs(pod: &Pod) -> bool {
    let containers = pod.status.iter().flat_map(|status| status.init_container_statuses.iter().flatten());
    containers.into_iter().any(|container| {
        container.name == names::RESTORE_CONTAINER
            && container.state.as_ref().is_some_and(|state| state.running.is_some())
    })
}

fn restart_reason(pod: &Pod, desired: &Desired, facts: &Facts) -> Option<String> {
    let annotation = |key: &str| {
        pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(key)).map(String::as_str)
    };
    if annotation(names::key::TEMPLATE_HASH) != Some(&desired.template_hash) {
        return Some(if annotation(names::key::CONFIG_SHA256) == Some(&desired.config_sha256) {
            "the pod template has changed".to_owned()
        } else {
            "the configuration has changed".to_owned()
        });
    }
    // The kubelet may have given the new pod an older copy of the ConfigMap than the one its template belongs to.
    let running =
        facts.server.status().map(|status| status.config_sha256.as_str()).filter(|sha| !sha.is_empty())?;
    (running != desired.config_sha256)
        .then(|| "the server has started with an older configuration".to_owned())
}

/// Whether a backup that runs gets anywhere without a restart. A server that is not there, holds, or refuses the token
/// takes part in no backup, and the restart may be what mends it; one that is silent for a moment may be at work.
fn backup_can_go_on(facts: &Facts) -> bool {
    match &facts.server {
        ServerFact::Absent | ServerFact::Unauthorized(_) => false,
        ServerFact::Unreachable(_) => true,
        ServerFact::Status(status) => !matches!(status.state, ServerState::Holding),
    }
}

/// Name of a StoreBackup that runs.
fn running_backup(facts: &Facts) -> Option<&str> {
    facts.backups.iter().find_map(|backup| {
        let status = backup.status.as_ref()?;
        (status.start_time.is_some() && status.completion_time.is_none())
            .then_some(backup.metadata.name.as_deref()?)
    })
}

/// The objects that differ from `desired`, in the order in which they are applied.
fn stale_children(desired: &Desired, facts: &Facts) -> Vec<ChildKind> {
    let live = &facts.children;
    let mut stale = Vec::new();
    let mut check = |kind, is_current: bool| {
        if !is_current {
            stale.push(kind);
        }
    };
    check(ChildKind::ServiceAccount, is_current(&desired.service_account, live.service_account.as_ref()));
    if let Some(record) = &desired.record {
        check(ChildKind::Record, is_current(record, live.record.as_ref()));
    }
    check(ChildKind::Config, is_current(&desired.config, live.config.as_ref()));
    check(ChildKind::Service, is_current(&desired.service, live.service.as_ref()));
    check(ChildKind::HeadlessService, is_current(&desired.headless_service, live.headless_service.as_ref()));
    check(ChildKind::Pdb, is_current(&desired.pdb, live.pdb.as_ref()));
    check(ChildKind::StatefulSet, is_current(&desired.stateful_set, live.stateful_set.as_ref()));
    stale
}

/// Whether everything that `desired` says is so in `live`. A field that `desired` no longer names is found by the digest
/// of what was applied last, which is part of both.
fn is_current<T: Serialize>(desired: &T, live: Option<&T>) -> bool {
    let (Ok(desired), Some(Ok(live))) = (serde_json::to_value(desired), live.map(serde_json::to_value))
    else {
        return false;
    };
    contains(&live, &desired)
}

fn contains(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (_, Value::Null) => true,
        (Value::Object(live), Value::Object(desired)) => desired
            .iter()
            .all(|(key, value)| live.get(key).map_or_else(|| is_empty(value), |live| contains(live, value))),
        (Value::Array(live), Value::Array(desired)) => {
            live.len() == desired.len()
                && live.iter().zip(desired).all(|(live, desired)| contains(live, desired))
        }
        (Value::String(live), Value::String(desired)) => {
            live == desired || Quantity(live.clone()).is_same(&Quantity(desired.clone()))
        }
        _ => live == desired,
    }
}

/// The API server drops some empty values.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_empty),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// Whether there is a server that the operator cannot talk to although its pod is ready.
#[must_use]
pub fn control_problem(facts: &Facts) -> Option<Hold> {
    match &facts.server {
        ServerFact::Unauthorized(message) => {
            Some(Hold::waiting(reason::SERVER_UNAUTHORIZED, message.clone()))
        }
        ServerFact::Unreachable(message) => Some(Hold::waiting(reason::SERVER_UNREACHABLE, message.clone())),
        ServerFact::Absent | ServerFact::Status(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(live: Value, desired: Value, expected: bool) {
        assert_eq!(contains(&live, &desired), expected, "{live} contains {desired}");
    }

    #[test]
    fn drift_is_seen_and_defaults_are_not_drift() {
        check(json!({"a": 1, "b": 2}), json!({"a": 1}), true);
        check(json!({"a": 1}), json!({"a": 2}), false);
        check(json!({}), json!({"a": 1}), false);
        check(json!({}), json!({"a": {}, "b": [], "c": null}), true);
        check(json!([{"a": 1, "d": 0}]), json!([{"a": 1}]), true);
        check(json!([{"a": 1}, {"a": 2}]), json!([{"a": 1}]), false);
        check(json!({"memory": "1Gi"}), json!({"memory": "1024Mi"}), true);
        check(json!({"memory": "1Gi"}), json!({"memory": "1G"}), false);
    }
}
