//! Status and facts of a StoreBackup → the one thing that is done now, or why nothing is. Pure.
//!
//! Order matters: the finalizer is there before anything is begun that must be ended; where the data goes is recorded before
//! the server is told.

use holdfast_contract::control::{
    BackupPhase, BackupProgress, BackupRequest, Barrier, BarrierRequest, ServerState, backup_reason,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::DynamicObject;

use super::facts::{Facts, Presence, SnapshotFact};
use super::volume_snapshot::{self, Next, Proof, next};
use super::{Method, ValidatedBackup, attempt, has_finalizer};
use crate::api::conditions::{self, kind, reason};
use crate::api::v1alpha1::{
    BackupLocation, BackupPlace, BarrierStatus, Store, StoreBackup, StoreBackupStatus, Strategy,
};
use crate::names;
use crate::reconcile::build::stateful_set::locations_of;
use crate::reconcile::plan::identity::bucket_of;

/// What is done in one look: at most one write, or one message to the server, besides the status.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Nothing; this is said.
    Say(Outcome),
    /// Add the finalizer, before anything is begun that must be ended.
    AddFinalizer,
    /// End what runs, then take the finalizer away.
    LetGo(Remains),
    /// Ask the server to upload, or how far it is: asking again with the same id never starts a second upload.
    Upload(Box<BackupRequest>),
    /// Take the barrier of this attempt.
    TakeBarrier(u32, BarrierRequest),
    /// Make the VolumeSnapshot.
    CreateSnapshot(Box<DynamicObject>),
    /// Release the barrier; what is done when that does not prove that the cut lies within it.
    Prove(Proof, Setback),
    /// It does not go on like this.
    SetBack(Setback),
}

/// What is done when a backup does not go on.
#[derive(Debug, Clone, PartialEq)]
pub enum Setback {
    /// The cut missed its barrier: start over.
    Retry {
        /// The barrier, unless it is released already.
        barrier: Option<String>,
        /// The VolumeSnapshot, which goes.
        snapshot: SnapshotId,
        /// What the driver says.
        error: Option<String>,
    },
    /// End what runs: the backup has failed.
    Fail(Remains, Failure),
}

/// What is left behind when a backup ends early.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remains {
    /// Id of an upload.
    pub upload: Option<String>,
    /// Token of a barrier that is held.
    pub barrier: Option<String>,
    /// A VolumeSnapshot that is not proven good.
    pub snapshot: Option<SnapshotId>,
}

/// A VolumeSnapshot as it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotId {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: Option<String>,
}

/// What a look came to: the status follows from it.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Nothing is to do or to say until something changes.
    Rest,
    /// The finalizer was set or removed: look again.
    FinalizerSet,
    /// The backup has ended well, and can be restored from or not.
    Kept(Usability),
    /// It does not go on for now.
    Waiting(Obstacle),
    /// It begins; this is where it goes, as far as that is known.
    Begun(Option<Destination>),
    /// This is where it goes.
    Destined(Destination),
    /// The server's answer about the upload.
    Upload(Box<BackupProgress>),
    /// The server's answer about the barrier of an attempt, and the pod that gave it.
    BarrierTaken(u32, String, Box<Barrier>),
    /// The VolumeSnapshot is on its way to be cut; with what the driver says.
    CuttingVolume(Option<String>),
    /// The cut lies within its barrier, which is released.
    Proven(Proof),
    /// It does not, or did not come in time; with what the driver says.
    Missed(String, Option<String>),
    /// The VolumeSnapshot is proven and not usable yet; with what the driver says.
    FinishingSnapshot(Option<String>),
    /// It is usable; its size.
    SnapshotReady(Option<u64>),
    /// The backup has failed.
    Failed(Failure),
}

/// Where a backup goes, and whose data it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Id of the data.
    pub store_id: Option<String>,
    /// The pod that makes it.
    pub instance: String,
    /// Name of the BackupLocation.
    pub location: String,
    /// The place that this names now.
    pub place: BackupPlace,
}

/// Whether a backup in a bucket can be restored from by its location as that is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Usability {
    /// It can.
    Usable,
    /// The location names another place now.
    Moved {
        /// Name of the location.
        location: String,
        /// Where the backup lies.
        place: String,
    },
    /// The location of this name is gone.
    LocationMissing(String),
    /// It is no longer in the bucket; in words.
    Missing(String),
    /// What is in the bucket is not what was written; in words.
    Altered(String),
    /// It could not be when somebody looked, and nobody has looked again.
    StillLost,
}

impl Usability {
    /// Whether it lies where its location points, so that somebody can look there.
    pub(super) fn is_at_its_place(&self) -> bool {
        match self {
            Usability::Usable | Usability::Missing(_) | Usability::Altered(_) | Usability::StillLost => true,
            Usability::Moved { .. } | Usability::LocationMissing(_) => false,
        }
    }
}

/// Why a backup does not go on for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// The Store is not there.
    StoreMissing,
    /// It is not ready, or not settled; with its own reason and message if it is not ready.
    StoreNotReady(Option<(String, String)>),
    /// Its server does not run.
    ServerMissing,
    /// The pod does not mount the credentials of this location yet. It takes them on when a backup needs them.
    CredentialsNotMounted(String),
    /// The Store names no location.
    NoLocation,
    /// The location of this name is not there.
    LocationMissing(String),
    /// The server would end each attempt at once.
    ServerNotReady(ServerState),
    /// The server does not answer, or refuses; with its reason and words.
    Server(String, String),
    /// The API refuses the VolumeSnapshot; with its words.
    ApiRefused(String),
}

/// Why a backup has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The Store keeps nothing. A Store never changes from or to Disabled.
    NothingToBackUp,
    /// It has taken longer than so many seconds; with reason and message of where it stood.
    DeadlineExceeded(u32, Option<(String, String)>),
    /// The cluster has no VolumeSnapshots.
    VolumeSnapshotsUnavailable,
    /// The VolumeSnapshot of this name was deleted after its cut was proven.
    SnapshotDeleted(String),
    /// No attempt is left to get a cut within a barrier.
    NoAttemptLeft,
}

impl Plan {
    fn wait(obstacle: Obstacle) -> Self {
        Plan::Say(Outcome::Waiting(obstacle))
    }

    /// The backup has failed, and nothing of it runs.
    fn fail(failure: Failure) -> Self {
        Plan::SetBack(Setback::Fail(Remains::default(), failure))
    }
}

/// Decides what is done with `backup` now.
pub(super) fn decide(backup: &StoreBackup, valid: &ValidatedBackup, facts: &Facts, now: Timestamp) -> Plan {
    let new = StoreBackupStatus::default();
    let status = backup.status.as_ref().unwrap_or(&new);
    if backup.metadata.deletion_timestamp.is_some() {
        // One attempt to end what runs: a barrier ends by itself, and an upload that ends well is one more good backup.
        let holds = has_finalizer(backup);
        return if holds { Plan::LetGo(remains(valid, status, facts)) } else { Plan::Say(Outcome::Rest) };
    }
    if status.completion_time.is_some() {
        if has_finalizer(backup) {
            return Plan::LetGo(Remains::default());
        }
        let kept = usability(status, facts.location.as_ref(), facts.presence.as_ref());
        return Plan::Say(kept.map_or(Outcome::Rest, Outcome::Kept));
    }
    if is_late(backup, valid, now) {
        return last_plan(valid, status, facts, now);
    }
    let (store, pod) = match target(valid, status, facts) {
        Ok(target) => target,
        Err(Blocked::For(obstacle)) => return Plan::wait(obstacle),
        Err(Blocked::ForEver(failure)) => return Plan::fail(failure),
    };
    if !has_finalizer(backup) {
        return Plan::AddFinalizer;
    }
    if status.start_time.is_none() {
        let location = location_name(status, store).zip(facts.location.as_ref());
        let destination = location
            .filter(|_| valid.method == Method::Snapshot)
            .map(|(name, location)| destination(store, pod, name, location));
        return Plan::Say(Outcome::Begun(destination));
    }
    match &valid.method {
        Method::Snapshot => upload_plan(valid, status, facts, store, pod),
        Method::VolumeSnapshot { class } => snapshot_plan(valid, class.as_deref(), status, facts, now),
    }
}

/// Whether a backup has taken too long, counted from its creation until it has begun, and from then on counted again.
pub(super) fn is_late(backup: &StoreBackup, valid: &ValidatedBackup, now: Timestamp) -> bool {
    let begun = backup.status.as_ref().and_then(|status| status.start_time.as_ref());
    let since = begun.or(backup.metadata.creation_timestamp.as_ref());
    since.is_some_and(|since| now.as_second() - since.0.as_second() > i64::from(valid.deadline_seconds))
}

/// What is done with a backup that is past its deadline; begins nothing. It may have ended well while nobody looked: what is
/// in the bucket, or cut and proven, is a backup, however long that took.
fn last_plan(valid: &ValidatedBackup, status: &StoreBackupStatus, facts: &Facts, now: Timestamp) -> Plan {
    let last = conditions::find(&status.conditions, kind::SUCCEEDED)
        .map(|condition| (condition.reason.clone(), condition.message.clone()));
    let failed =
        Setback::Fail(remains(valid, status, facts), Failure::DeadlineExceeded(valid.deadline_seconds, last));
    if status.start_time.is_none() || target(valid, status, facts).is_err() {
        return Plan::SetBack(failed);
    }
    match &valid.method {
        Method::Snapshot => match &facts.upload {
            Some(progress) if progress.phase == BackupPhase::Succeeded => {
                Plan::Say(Outcome::Upload(Box::new(progress.clone())))
            }
            Some(_) | None => Plan::SetBack(failed),
        },
        Method::VolumeSnapshot { .. } => {
            let state = facts.snapshot.state();
            match next(status, state, now) {
                Next::Done => Plan::Say(Outcome::SnapshotReady(state.and_then(|state| state.restore_bytes))),
                Next::Release(barrier, cut) if state.is_some_and(|state| state.ready_to_use) => {
                    Plan::Prove(Proof::new(valid.snapshot_name(status), barrier, cut, state), failed)
                }
                _ => Plan::SetBack(failed),
            }
        }
    }
}

/// What must be ended of what this backup has begun.
fn remains(valid: &ValidatedBackup, status: &StoreBackupStatus, facts: &Facts) -> Remains {
    if status.start_time.is_none() || status.completion_time.is_some() {
        return Remains::default();
    }
    match &valid.method {
        Method::Snapshot => Remains { upload: Some(valid.attempt_id(attempt(status))), ..Remains::default() },
        Method::VolumeSnapshot { .. } => match unreleased(status) {
            Some(barrier) => Remains {
                upload: None,
                barrier: Some(barrier.token.clone()),
                snapshot: facts.snapshot.state().map(|state| state.id(valid.snapshot_name(status))),
            },
            None => Remains::default(),
        },
    }
}

/// The barrier that may still be held.
pub(super) fn unreleased(status: &StoreBackupStatus) -> Option<&BarrierStatus> {
    status.barrier.as_ref().filter(|barrier| !barrier.released)
}

/// Why there is nothing to back up from.
enum Blocked {
    /// For now.
    For(Obstacle),
    /// For good.
    ForEver(Failure),
}

/// The Store and the pod to back up from. Once the backup has begun a barrier may be held or an upload running, so the Store's
/// conditions do not matter any more.
fn target<'a>(
    valid: &ValidatedBackup,
    status: &StoreBackupStatus,
    facts: &'a Facts,
) -> Result<(&'a Store, &'a Pod), Blocked> {
    let Some(store) = &facts.store else { return Err(Blocked::For(Obstacle::StoreMissing)) };
    if store.spec.persistence.strategy == Strategy::Disabled {
        return Err(Blocked::ForEver(Failure::NothingToBackUp));
    }
    let has_begun = status.start_time.is_some();
    if !has_begun && !is_ready(store) {
        let conditions = store.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let why = conditions::find(conditions, kind::READY)
            .filter(|condition| condition.status != "True")
            .map(|condition| (condition.reason.clone(), condition.message.clone()));
        return Err(Blocked::For(Obstacle::StoreNotReady(why)));
    }
    let (Some(pod), Some(_)) = (&facts.pod, &facts.endpoint) else {
        return Err(Blocked::For(Obstacle::ServerMissing));
    };
    if !has_begun
        && valid.method == Method::Snapshot
        && let (Some(name), Some(location)) = (location_name(status, store), &facts.location)
        && pod.spec.as_ref().map(locations_of).unwrap_or_default().get(name)
            != Some(&crate::location::validate(location).secret)
    {
        return Err(Blocked::For(Obstacle::CredentialsNotMounted(name.to_owned())));
    }
    Ok((store, pod))
}

/// Why a Store waits with an update, for hours or for days: until a person, the clock or other Stores let it go on. A restart
/// that gets its turn waits until the backup has ended.
const UPDATE_WAITS: [&str; 3] =
    [reason::UPDATE_AWAITS_APPROVAL, reason::UPDATE_AWAITS_WINDOW, reason::WAITING_FOR_OTHERS];

/// Whether a backup may begin: the Store is ready, and no restart comes in between. Either nothing is to change, or the change
/// is held back until a person acts or its turn comes.
pub(super) fn is_ready(store: &Store) -> bool {
    let Some(status) = &store.status else { return false };
    let reconciling =
        conditions::find(&status.conditions, kind::RECONCILING).filter(|found| found.status == "True");
    let update_waits = reconciling.is_some_and(|found| UPDATE_WAITS.contains(&found.reason.as_str()));
    conditions::is_true(&status.conditions, kind::READY)
        && (reconciling.is_none() || update_waits)
        && status.observed_generation == store.metadata.generation
        && (status.persistence.as_ref().is_some_and(|persistence| persistence.configuration_current)
            || update_waits
            || conditions::is_true(&status.conditions, kind::STALLED))
}

/// Name of the location that the backup goes to: the recorded one, or that of `store`.
pub(super) fn location_name<'a>(status: &'a StoreBackupStatus, store: &'a Store) -> Option<&'a str> {
    let wanted = store.spec.backup.as_ref().map(|settings| settings.location_ref.name.as_str());
    status.location.as_deref().or(wanted)
}

fn destination(store: &Store, pod: &Pod, name: &str, location: &BackupLocation) -> Destination {
    Destination {
        store_id: store.status.as_ref().and_then(|status| status.store_id.clone()),
        instance: pod.name_any(),
        location: name.to_owned(),
        place: BackupPlace::of(location),
    }
}

fn upload_plan(
    valid: &ValidatedBackup,
    status: &StoreBackupStatus,
    facts: &Facts,
    store: &Store,
    pod: &Pod,
) -> Plan {
    let Some(name) = location_name(status, store) else { return Plan::wait(Obstacle::NoLocation) };
    let Some(location) = &facts.location else {
        return Plan::wait(Obstacle::LocationMissing(name.to_owned()));
    };
    // It stays there whatever becomes of the location.
    let Some(place) = &status.place else {
        return Plan::Say(Outcome::Destined(destination(store, pod, name, location)));
    };
    match &facts.server {
        Some(Ok(ServerState::Ready | ServerState::WritesRefused)) => {}
        Some(Ok(state)) => return Plan::wait(Obstacle::ServerNotReady(*state)),
        Some(Err(obstacle)) => return Plan::wait(obstacle.clone()),
        None => return Plan::wait(Obstacle::ServerMissing),
    }
    Plan::Upload(Box::new(BackupRequest {
        id: valid.attempt_id(attempt(status)),
        location: place.within(bucket_of(location)),
        credentials_dir: names::credentials_dir(name),
        owner_uid: store.uid().unwrap_or_default(),
        owner_name: format!("{}/{}", valid.namespace, valid.store),
        takes_over: !facts.former_owners.is_empty(),
        former_owner_uids: Some(facts.former_owners.clone()),
    }))
}

/// A server that stops, or is not ready yet, ends what it has begun; the next one starts over, until the deadline.
pub(super) fn is_interrupted(progress: &BackupProgress) -> bool {
    progress.phase == BackupPhase::Failed
        && matches!(progress.reason.as_deref(), Some(backup_reason::CANCELLED | backup_reason::NOT_READY))
}

fn snapshot_plan(
    valid: &ValidatedBackup,
    class: Option<&str>,
    status: &StoreBackupStatus,
    facts: &Facts,
    now: Timestamp,
) -> Plan {
    if facts.snapshot == SnapshotFact::Unavailable {
        return Plan::fail(Failure::VolumeSnapshotsUnavailable);
    }
    let state = facts.snapshot.state();
    let error = || state.and_then(|state| state.error.clone());
    let name = valid.snapshot_name(status);
    let retry = |barrier: Option<String>| Setback::Retry {
        barrier,
        snapshot: SnapshotId { name: name.clone(), uid: state.and_then(|state| state.uid.clone()) },
        error: error(),
    };
    match next(status, state, now) {
        Next::TakeBarrier(attempt) => {
            let token = valid.attempt_id(attempt);
            let timeout_seconds = volume_snapshot::BARRIER_SECONDS;
            Plan::TakeBarrier(attempt, BarrierRequest { token, timeout_seconds })
        }
        Next::Create => Plan::CreateSnapshot(Box::new(volume_snapshot::build(valid, class, status, &name))),
        Next::AwaitCut => Plan::Say(Outcome::CuttingVolume(error())),
        Next::Release(barrier, cut) => {
            Plan::Prove(Proof::new(name.clone(), barrier, cut, state), retry(None))
        }
        Next::Retry => Plan::SetBack(retry(status.barrier.as_ref().map(|barrier| barrier.token.clone()))),
        Next::AwaitReady => Plan::Say(Outcome::FinishingSnapshot(error())),
        Next::Done => Plan::Say(Outcome::SnapshotReady(state.and_then(|state| state.restore_bytes))),
        Next::GiveUp => {
            let failure = match &status.barrier {
                Some(_) => Failure::SnapshotDeleted(name),
                None => Failure::NoAttemptLeft,
            };
            Plan::fail(failure)
        }
    }
}

/// Whether an ended backup can be restored from; absent when it did not succeed, or is no object in a bucket.
pub(super) fn usability(
    status: &StoreBackupStatus,
    location: Option<&BackupLocation>,
    presence: Option<&Presence>,
) -> Option<Usability> {
    let (place, name) = (status.place.as_ref()?, status.location.as_ref()?);
    conditions::is_true(&status.conditions, kind::SUCCEEDED).then(|| match location {
        None => Usability::LocationMissing(name.clone()),
        Some(location) => match place.differs_from(location) {
            None => usability_at_its_place(status, presence),
            Some(place) => Usability::Moved { location: name.clone(), place },
        },
    })
}

fn usability_at_its_place(status: &StoreBackupStatus, presence: Option<&Presence>) -> Usability {
    match presence {
        Some(Presence::Missing(problem)) => Usability::Missing(problem.clone()),
        Some(Presence::Altered(problem)) => Usability::Altered(problem.clone()),
        Some(Presence::There(bytes)) => match status.bytes {
            Some(written) if written != *bytes => {
                Usability::Altered(format!("it has {bytes} bytes in the bucket, and {written} were written"))
            }
            Some(_) | None => Usability::Usable,
        },
        None if is_lost(status) => Usability::StillLost,
        None => Usability::Usable,
    }
}

/// Whether an ended backup was not found in its bucket, or not as it was written, when somebody looked the last time.
pub(crate) fn is_lost(status: &StoreBackupStatus) -> bool {
    conditions::find(&status.conditions, kind::READY_TO_USE)
        .is_some_and(|ready| matches!(ready.reason.as_str(), reason::BACKUP_MISSING | reason::BACKUP_ALTERED))
}
