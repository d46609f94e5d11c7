//! Desired and observed → one step that is safe now, or a typed reason for waiting. Pure.
//!
//! ```text
//!   facts + status ── identity::identify ──▶ whose data, which epoch, what fills the volume   (or a step, or a stop)
//!                                                   │ build
//!   desired + facts ── next_step ──▶ finalizer → Secret → objects → claim → StatefulSet → record to server
//!                                      → update: recorded as begun, when nothing speaks against it; before that, none of it is applied
//!                                      → restart: recorded → snapshot where nothing else keeps the data → pod deleted
//! ```
//!
//! Order matters: what is irreversible is recorded before it is done, the status before the ConfigMap, the ConfigMap
//! before the server is told. Every step is idempotent and decided from what is there; none relies on an earlier
//! one having been done by this process.

pub mod identity;
mod restart;
pub(super) mod update;

use holdfast_contract::control::{ConfigProblem, EVICTION_SINCE, ServerState, ServerStatus};
use holdfast_contract::record::{Origin, StoreRecord, reason as held};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::build::server_config::eviction_word;
use super::build::stateful_set::locations_of;
use super::build::{Desired, Inputs, MountedLocation, build, claim, secret};
use super::facts::{Facts, ServerFact, Trial};
use super::managed;
use super::ownership::vanishing;
use super::rendering::{self, Rendering};
use super::status::pod_is_ready;
use super::update::{GoodUpdate, refused as refused_before};
use super::validate::{Refusal, ValidatedStore, evicts};
use crate::api::conditions::{MESSAGE_LEN_MAX, reason, truncate};
use crate::api::v1alpha1::{
    BackupMethod, ClaimStatus, DeletionPolicy, FailedUpdate, PodRestartStatus, RefusedUpdate, RestoreStatus,
    StartedUpdate, Store,
};
use crate::names;
use identity::Known;
use restart::{Restart, restart};
use update::Judgement;

/// One step. Each is at most one write to the API, or one message to the server; [`Step::Apply`] is one per object.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Write intent or knowledge into the status.
    Record(Recording),
    /// Add the finalizer (true) or remove it.
    SetFinalizer(bool),
    /// Take over the claim of a deleted Store: its annotation names this Store.
    AdoptClaim,
    /// Mark the claim so that no GitOps tool takes it for its own and prunes it.
    ProtectClaim,
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
    /// Ask the server for a snapshot, without which a restart would lose what came since the last one.
    SaveSnapshot,
    /// Delete the pod, so that it comes back with the new template.
    RestartPod {
        /// UID of the pod.
        uid: String,
        /// Version at which the decision was made.
        resource_version: String,
        /// Seconds for a clean stop by the spec as it is now; the pod may have been made with fewer.
        grace_seconds: u32,
        /// What changes by it.
        why: String,
    },
}

/// What is written into the status before it is acted upon.
#[derive(Debug, Clone, PartialEq)]
pub enum Recording {
    /// Id and epoch.
    Identity {
        /// The id; absent: a new one is to be chosen.
        store_id: Option<String>,
        /// Epoch that is known from elsewhere.
        epoch: Option<u64>,
    },
    /// The volume has this epoch.
    Epoch {
        /// The epoch; above the recorded one, unless a person has accepted it.
        epoch: u64,
        /// True when the recorded restore has brought it about.
        completes_restore: bool,
    },
    /// Which claim holds the data.
    Claim(ClaimStatus),
    /// What is about to be restored.
    Restore(RestoreStatus),
    /// The recorded restore is not needed: the volume is back.
    DropRestore,
    /// The pod is about to be restarted.
    Restart(PodRestartStatus),
    /// The recorded restart has done its work: the next one is no repetition of it.
    RestartDone,
    /// The pod is ready with this.
    GoodUpdate(Box<GoodUpdate>),
    /// The pod did not become ready with what the spec says: the last update that worked comes back.
    FailedUpdate(FailedUpdate),
    /// The update begins: from now on it is in force.
    StartedUpdate(StartedUpdate),
    /// The update has begun and must wait before its restart after all: it has not begun.
    WithdrawnUpdate,
    /// The running server would not start with the update.
    RefusedUpdate(RefusedUpdate),
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

impl ChildKind {
    /// Whether the next pod is made with it.
    pub(super) fn reaches_pod(self) -> bool {
        match self {
            Self::Config | Self::StatefulSet => true,
            Self::ServiceAccount | Self::Record | Self::Service | Self::HeadlessService | Self::Pdb => false,
        }
    }
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

/// What was applied a moment ago without changing anything: it is current however it looks.
pub type Unchanged = [ChildKind];

/// Decides the next step towards `desired`, which was built from `inputs` and from what is in force of `valid`. `known` is absent
/// exactly with the strategy Disabled.
#[must_use]
#[expect(clippy::too_many_arguments, reason = "what a decision depends on, each by its name")]
pub fn next_step(
    store: &Store,
    valid: &ValidatedStore,
    known: Option<&Known>,
    inputs: &Inputs,
    desired: &Desired,
    facts: &Facts,
    now: Timestamp,
    unchanged: &Unchanged,
) -> Plan {
    let mut holds = Vec::new();
    let with = |step: Step, holds: Vec<Hold>| Plan { step: Some(step), holds };
    let spec = valid;
    let valid = spec.in_force();

    let vanishing = vanishing(facts);
    let mut pod_must_stay = !vanishing.is_empty();
    holds.extend(vanishing);
    let frozen = frozen(store, spec, inputs.rendering, facts);
    let is_frozen =
        frozen.is_some() || spec.keeps_what_is_there() || update::keeps_pod(store, spec, facts, now);
    holds.extend(frozen);

    let wants_finalizer = valid.deletion_policy == DeletionPolicy::DeleteVolumes;
    let has_finalizer = has_finalizer(&store.metadata);
    if wants_finalizer != has_finalizer {
        return with(Step::SetFinalizer(wants_finalizer), holds);
    }

    match &facts.children.auth {
        None => return with(Step::CreateAuth, holds),
        Some(auth) => {
            if let Err(key) = secret::read(auth) {
                // A server without its password does not start.
                pod_must_stay = true;
                holds.push(Hold::stalled(
                    reason::AUTH_SECRET_INVALID,
                    format!(
                        "key {key:?} of Secret {:?} is missing or empty; what runs keeps its password, and the pod is not restarted before that is mended; set the key, or delete the Secret to have a new one created",
                        names::auth_secret(&valid.name)
                    ),
                ));
            }
        }
    }

    if let Some(location) = missing_location(valid, facts) {
        holds.push(location);
    }

    if let Some(recording) =
        update::inherited(store, valid, facts).or_else(|| new_refusal(store, spec, inputs.rendering, facts))
    {
        return with(Step::Record(recording), holds);
    }

    let mut stale = stale_children(desired, facts);
    stale.retain(|kind| !unchanged.contains(kind));
    if is_frozen || inputs.kept.is_some() {
        stale.retain(|kind| !kind.reaches_pod());
    }
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

    if pod_must_stay {
        return Plan { step: None, holds };
    }
    if is_frozen {
        return match start(store, spec, facts, now) {
            Start::Now(step) => with(step, holds),
            Start::Later(hold) => {
                holds.push(hold);
                Plan { step: None, holds }
            }
            Start::NotDue => Plan { step: None, holds },
        };
    }
    let has_template = has_template(valid, known, inputs, desired, facts);
    match update::judge(
        store,
        valid,
        spec.held_update.is_some(),
        inputs.rendering,
        desired,
        facts,
        has_template,
        now,
    ) {
        Judgement::Recorded => {}
        Judgement::Record(recording) => return with(Step::Record(recording), holds),
        Judgement::Refuse(hold) => holds.push(hold),
    }
    match start(store, spec, facts, now) {
        Start::Now(step) => return with(step, holds),
        Start::Later(hold) => holds.push(hold),
        Start::NotDue => {}
    }
    match restart(store, valid, desired, facts, now, has_template) {
        Restart::Now(step) => with(step, holds),
        Restart::Later(hold) => {
            holds.push(hold);
            Plan { step: None, holds }
        }
        Restart::After(step, hold) => {
            holds.push(hold);
            with(step, holds)
        }
        Restart::NotNeeded => Plan { step: None, holds },
    }
}

/// Whether the pod has the template as we write it, whatever others have put into it. It may lack locations whose
/// credentials nobody needs now: these it takes on with its next restart, or with the first StoreBackup.
pub(super) fn has_template(
    valid: &ValidatedStore,
    known: Option<&Known>,
    inputs: &Inputs,
    desired: &Desired,
    facts: &Facts,
) -> bool {
    let Some(pod) = &facts.pod else { return false };
    if template_hash(pod) == Some(&desired.template_hash) {
        return true;
    }
    let is_restoring = known.is_some_and(|known| {
        known.restore.is_some() || (known.epoch == 0 && matches!(known.origin, Origin::Restore { .. }))
    });
    let is_wanted = facts.backups.iter().any(|backup| {
        backup.spec.method == BackupMethod::Snapshot
            && backup.status.as_ref().is_none_or(|status| status.completion_time.is_none())
    });
    if is_restoring || is_wanted {
        return false;
    }
    let mounted = pod.spec.as_ref().map(locations_of).unwrap_or_default();
    let locations = mounted.into_iter().map(|(name, secret)| MountedLocation { name, secret }).collect();
    let as_mounted = build(valid, &Inputs { locations, ..inputs.clone() });
    template_hash(pod) == Some(&as_mounted.template_hash)
}

/// Why configuration and template stay as they are: the spec cannot be obeyed in full, or the running server or the API does not
/// take what is in force by it. Everything else of the Store goes on.
fn frozen(store: &Store, spec: &ValidatedStore, rendering: Rendering, facts: &Facts) -> Option<Hold> {
    if !spec.refused.is_empty() {
        return Some(refused(&spec.refused));
    }
    // What is in force then is what worked before.
    if spec.held_update.is_some() {
        return None;
    }
    unfit(store, spec, rendering, facts).or_else(|| untaken(facts))
}

/// Why the server would not start with the configuration of `spec`: as it says now or, while there is none that answers, as it
/// has said before.
fn unfit(store: &Store, spec: &ValidatedStore, rendering: Rendering, facts: &Facts) -> Option<Hold> {
    let message = match objection(spec, rendering, facts) {
        Some(message) => message?,
        None => refused_before(store, &spec.update)?.message.clone(),
    };
    Some(Hold::stalled(reason::CONFIGURATION_REFUSED, message))
}

/// What the running server says against the configuration of `spec`, if anything; absent when none answers that can say it.
fn objection(spec: &ValidatedStore, rendering: Rendering, facts: &Facts) -> Option<Option<String>> {
    if let Some(message) = no_eviction(spec, facts) {
        return Some(Some(message));
    }
    let check = facts.config_check.as_ref()?;
    Some(refusal(spec, rendering, &check.problems))
}

/// What the running server objects to, when that is not recorded yet. Its pod may be gone at the next look.
fn new_refusal(
    store: &Store,
    spec: &ValidatedStore,
    rendering: Rendering,
    facts: &Facts,
) -> Option<Recording> {
    if !spec.refused.is_empty() || (spec.held_update.is_some() && !spec.waits_to_start()) {
        return None;
    }
    let rendering = if spec.waits_to_start() { rendering::for_update(spec, facts) } else { rendering };
    let message = objection(spec, rendering, facts)??;
    let refused = RefusedUpdate { update: spec.update.name(), message };
    let is_recorded = refused_before(store, &spec.update) == Some(&refused);
    (!is_recorded).then_some(Recording::RefusedUpdate(refused))
}

/// Why the API does not take the changed pod.
fn untaken(facts: &Facts) -> Option<Hold> {
    Some(match facts.trial.as_ref()? {
        Trial::Refused(message) => Hold::stalled(
            reason::POD_REFUSED,
            format!(
                "the API would refuse the pod that the spec yields, so what worked before stays: {message}; correct the spec, or what it is refused for"
            ),
        ),
        Trial::Failed(message) => Hold::waiting(
            reason::RESTART_DEFERRED,
            format!("the API could not say whether it takes the changed pod: {message}"),
        ),
    })
}

/// What people are told of `problems` in the configuration of `valid`; absent when there are none.
fn refusal(valid: &ValidatedStore, rendering: Rendering, problems: &[ConfigProblem]) -> Option<String> {
    if problems.is_empty() {
        return None;
    }
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| match problem.line {
            Some(line) => {
                format!("line {line} ({}): {}", line_origin(valid, rendering, line), problem.message)
            }
            None => problem.message.clone(),
        })
        .collect();
    let message = format!(
        "the server would not start with the configuration that the spec yields, and goes on with the one it has: {}; correct the spec",
        lines.join("; ")
    );
    // It is recorded, and the API takes no longer text there.
    Some(truncate(message, MESSAGE_LEN_MAX))
}

/// What people are told of an eviction policy that the running server, too old to check a configuration, would not start with.
fn no_eviction(valid: &ValidatedStore, facts: &Facts) -> Option<String> {
    let server = facts.server.status().filter(|server| server.contract_version < EVICTION_SINCE)?;
    let policy = valid.eviction_policy.filter(|policy| evicts(Some(*policy)))?;
    (rendering::image(facts) == Some(&valid.image)).then(|| {
        format!(
            "the server, version {}, would not start with maxmemory-policy {} (spec.memory.evictionPolicy), and goes on with the configuration it has; name a later version in spec.image, or remove the field",
            server.version,
            eviction_word(policy)
        )
    })
}

/// Where a line of the configuration file comes from.
fn line_origin(valid: &ValidatedStore, rendering: Rendering, number: usize) -> String {
    let text = super::build::server_config::render(valid, rendering);
    let first = text.lines().count().saturating_sub(valid.config.len());
    match number.checked_sub(first + 1).and_then(|index| Some((index, valid.config.get(index)?))) {
        Some((index, line)) => format!("spec.config[{index}], {line:?}"),
        None => text.lines().nth(number.saturating_sub(1)).unwrap_or_default().to_owned(),
    }
}

/// The hold for fields that cannot be obeyed.
#[must_use]
pub fn refused(refusals: &[Refusal]) -> Hold {
    let lines: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    Hold::stalled(reason::INVALID_SPEC, lines.join("; "))
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
    if claim.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let uid = claim.metadata.uid.clone().unwrap_or_default();
    if recorded.is_some_and(|recorded| recorded.uid == uid) {
        return (!claim::is_protected(claim)).then_some(Step::ProtectClaim);
    }
    // Another claim counts only once its volume is known to hold this Store's data.
    let holds_data = known.epoch > 0 && volume_epoch(facts, &known.store_id) == Some(known.epoch);
    let is_first = known.epoch == 0;
    (is_first || holds_data)
        .then(|| Step::Record(Recording::Claim(ClaimStatus { name: names::claim(&valid.name), uid })))
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

enum Start {
    NotDue,
    Now(Step),
    Later(Hold),
}

/// Whether the update of `spec` begins now. Until then nothing of it is applied, so whatever happens to the pod meanwhile, it comes
/// back with what worked before.
fn start(store: &Store, spec: &ValidatedStore, facts: &Facts, now: Timestamp) -> Start {
    let Some(held) = spec.held_update.as_deref().filter(|_| spec.waits_to_start()) else {
        return Start::NotDue;
    };
    let change = update::describe(&held.good, &spec.update);
    let refused = unfit(store, spec, rendering::for_update(spec, facts), facts).or_else(|| untaken(facts));
    if let Some(hold) = refused {
        return Start::Later(hold);
    }
    if update::is_passing(store, spec, held, facts, now) {
        return Start::Later(Hold::waiting(
            reason::RESTART_DEFERRED,
            format!(
                "{change} waits until the server answers and is ready, or has not been so for {} s",
                spec.ready_timeout_seconds
            ),
        ));
    }
    if let Some(hold) = deferral(facts, &change).or_else(|| others_first(facts, &change)) {
        return Start::Later(hold);
    }
    Start::Now(Step::Record(Recording::StartedUpdate(StartedUpdate {
        update: spec.update.name(),
        start_time: Time(now),
    })))
}

/// What a restart for `why` must not interrupt.
fn deferral(facts: &Facts, why: &str) -> Option<Hold> {
    if let Some(backup) = running_backup(facts)
        && backup_can_go_on(facts)
    {
        return Some(Hold::waiting(
            reason::RESTART_DEFERRED,
            format!("{why}; the restart waits until StoreBackup {backup:?} has ended"),
        ));
    }
    let restores = facts.server.status().is_some_and(|status| status.state == ServerState::Restoring);
    (restores || facts.pod.as_ref().is_some_and(restore_container_runs)).then(|| {
        Hold::waiting(
            reason::RESTART_DEFERRED,
            format!("{why}; the restart waits until the running restore has ended"),
        )
    })
}

/// Whom an update that is to begin for `why` has to wait for.
fn others_first(facts: &Facts, why: &str) -> Option<Hold> {
    let other = facts.turn.failed_with_image.as_ref().map(|other| {
        Hold::waiting(
            reason::WAITING_FOR_OTHERS,
            format!(
                "{why}; the restart waits: Store {other} did not become ready with the same image, and has its former one back; its condition Stalled says why; mend that, or name another image"
            ),
        )
    });
    other.or_else(|| its_turn(facts, why))
}

/// Whether an update has to wait for another Store.
pub(super) fn waits_for_others(facts: &Facts) -> bool {
    others_first(facts, "").is_some()
}

/// Present while a restart for `why` waits for its turn. It does not name the Store that restarts now: that would change the status
/// of all that wait, each time.
fn its_turn(facts: &Facts, why: &str) -> Option<Hold> {
    // A server that serves nobody has nothing to lose, and the restart may be what mends it.
    let waits = facts.turn.others_restart && facts.pod.as_ref().is_some_and(pod_is_ready);
    waits.then(|| {
        Hold::waiting(
            reason::WAITING_FOR_OTHERS,
            format!(
                "{why}; the restart waits for its turn: as many Stores as may (--max-concurrent-restarts) restart now"
            ),
        )
    })
}

/// What is said when another Store has taken the turn between two looks.
pub(super) fn turn_lost() -> Hold {
    Hold::waiting(reason::WAITING_FOR_OTHERS, "another Store restarts first")
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

fn template_hash(pod: &Pod) -> Option<&String> {
    pod.annotations().get(names::key::TEMPLATE_HASH)
}

/// Whether a backup that runs gets anywhere without a restart. A server that is not there, holds, or refuses the token
/// takes part in no backup, and the restart may be what mends it; one that is silent for a moment may be at work.
fn backup_can_go_on(facts: &Facts) -> bool {
    match &facts.server {
        ServerFact::Absent | ServerFact::Unauthorized(_) => false,
        ServerFact::Unreachable(_) | ServerFact::Refused { .. } => true,
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
    let mut stale = Vec::new();
    let mut check = |kind, is_current: bool| {
        if !is_current {
            stale.push(kind);
        }
    };
    check(ChildKind::ServiceAccount, managed::is_current(service_account, live.service_account.as_ref()));
    if let Some(record) = record {
        check(ChildKind::Record, managed::is_current(record, live.record.as_ref()));
    }
    check(ChildKind::Config, managed::is_current(config, live.config.as_ref()));
    check(ChildKind::Service, managed::is_current(service, live.service.as_ref()));
    check(ChildKind::HeadlessService, managed::is_current(headless_service, live.headless_service.as_ref()));
    check(ChildKind::Pdb, managed::is_current(pdb, live.pdb.as_ref()));
    check(ChildKind::StatefulSet, managed::is_current(stateful_set, live.stateful_set.as_ref()));
    stale
}

/// Whether there is a server that the operator cannot talk to although its pod is ready.
#[must_use]
pub fn control_problem(facts: &Facts) -> Option<Hold> {
    match &facts.server {
        ServerFact::Unauthorized(message) => {
            Some(Hold::waiting(reason::SERVER_UNAUTHORIZED, message.clone()))
        }
        ServerFact::Unreachable(message) => Some(Hold::waiting(reason::SERVER_UNREACHABLE, message.clone())),
        ServerFact::Refused { reason, message } => Some(Hold::waiting(reason.clone(), message.clone())),
        ServerFact::Absent | ServerFact::Status(_) => None,
    }
}
