//! What people are told of a StoreBackup: the words of its conditions and events, and nothing else. Pure.

use holdfast_contract::control::ServerState;

use super::ValidatedBackup;
use super::plan::{self, Failure, Obstacle, Usability};
use super::volume_snapshot::{ATTEMPTS_MAX, BARRIER_SECONDS};
use crate::api::conditions::{self, Verdict, kind, reason};
use crate::api::v1alpha1::{BackupMethod, StoreBackup, StoreBackupStatus};
use crate::events::Note;

/// Reasons of a backup that goes on: no news.
const PROGRESS: [&str; 7] = [
    reason::PENDING,
    reason::CUTTING,
    reason::UPLOADING,
    reason::VERIFYING,
    reason::TAKING_BARRIER,
    reason::CUTTING_VOLUME,
    reason::FINISHING_SNAPSHOT,
];

/// Reason and message of a backup that does not go on for now.
pub(super) fn obstacle(obstacle: &Obstacle, valid: &ValidatedBackup) -> (String, String) {
    let store = &valid.store;
    let (reason, message) = match obstacle {
        Obstacle::StoreMissing => {
            (reason::STORE_NOT_FOUND, format!("waits for Store {store:?}, which is not in this namespace"))
        }
        Obstacle::StoreNotReady(why) => {
            let why = why.as_ref().map(|(reason, message)| format!(" ({reason}: {message})"));
            let why = why.unwrap_or_default();
            (reason::STORE_NOT_READY, format!("waits until Store {store:?} is ready and settled{why}"))
        }
        Obstacle::ServerMissing => {
            (reason::STORE_NOT_READY, format!("waits until the server of Store {store:?} runs"))
        }
        Obstacle::CredentialsNotMounted(location) => (
            reason::STORE_NOT_READY,
            format!(
                "waits until the pod of Store {store:?} has restarted: it does not mount the credentials of BackupLocation {location:?} yet"
            ),
        ),
        Obstacle::NoLocation => {
            (reason::NO_LOCATION, format!("Store {store:?} has no spec.backup.locationRef; set it"))
        }
        Obstacle::LocationMissing(location) => (
            reason::LOCATION_NOT_FOUND,
            format!("waits for BackupLocation {location:?}, which is not in this namespace"),
        ),
        Obstacle::ServerNotReady(state) => (
            reason::STORE_NOT_READY,
            format!("waits until the server of Store {store:?} is ready; it is {}", state_word(*state)),
        ),
        Obstacle::Server(reason, message) => (reason.as_str(), message.clone()),
        Obstacle::ApiRefused(message) => (reason::API_REFUSED, message.clone()),
    };
    (reason.to_owned(), message)
}

fn state_word(state: ServerState) -> &'static str {
    match state {
        ServerState::Holding => "held",
        ServerState::Restoring => "restoring",
        ServerState::AwaitingRecord => "being set up",
        ServerState::Loading => "loading",
        ServerState::Ready => "ready",
        ServerState::WritesRefused => "refusing writes",
        ServerState::Stopping => "stopping",
    }
}

/// Reason and message of a backup that has failed.
pub(super) fn failure(failure: &Failure, valid: &ValidatedBackup) -> (String, String) {
    let (reason, message) = match failure {
        Failure::NothingToBackUp => (
            reason::NOTHING_TO_BACK_UP,
            format!("Store {:?} has persistence.strategy Disabled: it keeps nothing", valid.store),
        ),
        Failure::DeadlineExceeded(seconds, last) => {
            let last = match last {
                None => String::new(),
                Some((reason, message)) if message.is_empty() => format!("; last state: {reason}"),
                Some((reason, message)) => format!("; last state: {reason}: {message}"),
            };
            (reason::DEADLINE_EXCEEDED, format!("it has not ended within {seconds} s{last}"))
        }
        Failure::VolumeSnapshotsUnavailable => (
            reason::VOLUME_SNAPSHOTS_UNAVAILABLE,
            "this cluster has no VolumeSnapshots (snapshot.storage.k8s.io/v1); install the snapshot controller and its definitions, or use method Snapshot".to_owned(),
        ),
        Failure::SnapshotDeleted(name) => (
            reason::VOLUME_SNAPSHOT_DELETED,
            format!("VolumeSnapshot {name:?} was deleted before it was ready to use; create another StoreBackup"),
        ),
        Failure::NoAttemptLeft => (
            reason::BARRIER_EXPIRED,
            format!(
                "in {ATTEMPTS_MAX} attempts the volume was not cut within {BARRIER_SECONDS} s of its barrier; see the events of the VolumeSnapshots and the logs of the snapshot controller"
            ),
        ),
    };
    (reason.to_owned(), message)
}

/// The verdicts on a backup that has failed.
pub(super) fn failed(reason: String, message: String) -> Vec<Verdict> {
    vec![Verdict::no(kind::SUCCEEDED, reason.clone(), message), Verdict::no(kind::READY_TO_USE, reason, "")]
}

/// The verdicts on an upload that has ended well.
pub(super) fn uploaded() -> Vec<Verdict> {
    completed("uploaded, read back, compared and opened")
}

/// The verdicts on a VolumeSnapshot that can be used.
pub(super) fn snapshot_ready() -> Vec<Verdict> {
    completed("cut within a barrier, and ready to use")
}

fn completed(message: &str) -> Vec<Verdict> {
    vec![
        Verdict::yes(kind::SUCCEEDED, reason::COMPLETED, message),
        Verdict::yes(kind::READY_TO_USE, reason::COMPLETED, ""),
    ]
}

/// The verdict on a backup that lies in a bucket; absent when that of before stands.
pub(super) fn usable(usability: &Usability) -> Option<Verdict> {
    Some(match usability {
        Usability::StillLost => return None,
        Usability::Missing(problem) => {
            Verdict::no(kind::READY_TO_USE, reason::BACKUP_MISSING, problem.clone())
        }
        Usability::Altered(problem) => {
            Verdict::no(kind::READY_TO_USE, reason::BACKUP_ALTERED, problem.clone())
        }
        Usability::Usable => Verdict::yes(kind::READY_TO_USE, reason::COMPLETED, ""),
        Usability::Moved { location, place } => Verdict::no(
            kind::READY_TO_USE,
            reason::LOCATION_CHANGED,
            format!(
                "the backup lies in {place}, but BackupLocation {location:?} names another place now; set it back, or create a location for the former place"
            ),
        ),
        Usability::LocationMissing(location) => Verdict::no(
            kind::READY_TO_USE,
            reason::LOCATION_NOT_FOUND,
            format!("BackupLocation {location:?} is not in this namespace; create it again"),
        ),
    })
}

/// Said of an upload that the server has broken off.
pub(super) fn interrupted(message: Option<&str>) -> String {
    format!("the server was interrupted: {}", message.unwrap_or_default())
}

/// Said of a cut that missed its barrier.
pub(super) fn missed(snapshot: &str, error: Option<&str>) -> String {
    let error = error.map(|_| format!("; {}", driver(error))).unwrap_or_default();
    format!("the cut of VolumeSnapshot {snapshot:?} did not come within its barrier{error}; trying again")
}

/// Said of a cut that the driver has trouble with.
pub(super) fn driver(error: Option<&str>) -> String {
    error.map(|error| format!("the snapshot controller or driver says: {error}")).unwrap_or_default()
}

/// The events of the change to `new`: beginning, end, each new reason for which it does not go on, and that it was lost later.
pub(super) fn notes(backup: &StoreBackup, new: &StoreBackupStatus) -> Vec<Note> {
    let none = StoreBackupStatus::default();
    let old = backup.status.as_ref().unwrap_or(&none);
    if plan::is_lost(new)
        && let Some(ready) = conditions::find(&new.conditions, kind::READY_TO_USE)
    {
        let before = conditions::find(&old.conditions, kind::READY_TO_USE);
        let is_new = before.is_none_or(|before| before.reason != ready.reason);
        return if is_new { vec![Note::warning(&ready.reason, ready.message.clone())] } else { Vec::new() };
    }
    let Some(found) = conditions::find(&new.conditions, kind::SUCCEEDED) else { return Vec::new() };
    let has_ended = new.completion_time.is_some();
    if old.start_time.is_none() && new.start_time.is_some() {
        let text = format!("of Store {:?}", backup.spec.store_ref.name);
        return vec![Note::normal("BackupStarted", text)];
    }
    if has_ended && old.completion_time.is_none() && found.status == "True" {
        return vec![Note::normal("BackupSucceeded", succeeded(backup, new))];
    }
    let is_new =
        conditions::find(&old.conditions, kind::SUCCEEDED).is_none_or(|before| before.reason != found.reason);
    // Another attempt is no news either.
    let goes_on = PROGRESS.contains(&found.reason.as_str()) || old.attempts != new.attempts;
    let is_news = if has_ended { old.completion_time.is_none() } else { is_new && !goes_on };
    if is_news { vec![Note::warning(&found.reason, found.message.clone())] } else { Vec::new() }
}

/// What a backup that has ended well holds.
fn succeeded(backup: &StoreBackup, status: &StoreBackupStatus) -> String {
    match backup.spec.method {
        BackupMethod::Snapshot => format!(
            "{} keys, {} bytes, at {:?}",
            status.keys.unwrap_or_default(),
            status.bytes.unwrap_or_default(),
            status.path.as_deref().unwrap_or_default()
        ),
        BackupMethod::VolumeSnapshot => {
            let name = status.volume_snapshots.first().map(|snapshot| snapshot.name.as_str());
            format!("VolumeSnapshot {:?} is ready to use", name.unwrap_or_default())
        }
    }
}
