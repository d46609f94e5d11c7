//! Types and reasons of conditions, and how a new set is merged with the old one.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::steady::steady;

/// Condition types.
pub mod kind {
    /// Store: serves clients.
    pub const READY: &str = "Ready";
    /// Store: the operator is not done, or waits for something that needs no person.
    pub const RECONCILING: &str = "Reconciling";
    /// Store: nothing goes on until a person acts.
    pub const STALLED: &str = "Stalled";
    /// Store: what the policy asks for is being done.
    pub const PERSISTENCE_HEALTHY: &str = "PersistenceHealthy";
    /// Store: how the newest finished backup ended.
    pub const LAST_BACKUP_SUCCEEDED: &str = "LastBackupSucceeded";
    /// Store: something in the spec works, and perhaps not as somebody thinks.
    pub const CONFIGURATION_WARNING: &str = "ConfigurationWarning";
    /// StoreBackup: ended, and how.
    pub const SUCCEEDED: &str = "Succeeded";
    /// StoreBackup: can be restored from; false again when its location names another place, or its objects are gone.
    pub const READY_TO_USE: &str = "ReadyToUse";
    /// BackupLocation: a probe could write, read and list, and a conditional put was obeyed.
    pub const AVAILABLE: &str = "Available";
}

/// Reasons that the operator itself gives. Those of a held server are in [`holdfast_contract::record::reason`], those of
/// a failed backup in [`holdfast_contract::control::backup_reason`].
pub mod reason {
    /// Serves clients.
    pub const SERVING: &str = "Serving";
    /// Everything is as the spec says.
    pub const SETTLED: &str = "Settled";
    /// Nothing needs a person.
    pub const NOT_STALLED: &str = "NotStalled";
    /// The persistence policy is in effect and its last job did not fail.
    pub const POLICY_EFFECTIVE: &str = "PolicyEffective";
    /// The policy keeps nothing: a pure cache.
    pub const PERSISTENCE_DISABLED: &str = "PersistenceDisabled";
    /// The last snapshot or log rewrite failed.
    pub const LAST_JOB_FAILED: &str = "LastJobFailed";
    /// Writes are refused because a write or sync failed or the disk is full.
    pub const WRITES_REFUSED: &str = "WritesRefused";
    /// The server has not said yet.
    pub const SERVER_UNREACHABLE: &str = "ServerUnreachable";
    /// The server refused the operator's token.
    pub const SERVER_UNAUTHORIZED: &str = "ServerUnauthorized";
    /// A field of the spec cannot be obeyed; the message names it.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// A claim of a deleted Store of this name is there.
    pub const RETAINED_VOLUME_FOUND: &str = "RetainedVolumeFound";
    /// `bootstrap.adopt` names a volume that cannot be adopted.
    pub const ADOPTION_IMPOSSIBLE: &str = "AdoptionImpossible";
    /// An object of this name is there and belongs to somebody else.
    pub const OBJECT_CONFLICT: &str = "ObjectConflict";
    /// Children of a deleted Store of the same name are still being removed.
    pub const OLD_CHILDREN_REMAIN: &str = "OldChildrenRemain";
    /// Status and record name different Stores.
    pub const RECORD_MISMATCH: &str = "RecordMismatch";
    /// The volume is newer than everything that is recorded of it.
    pub const VOLUME_NEWER_THAN_RECORD: &str = "VolumeNewerThanRecord";
    /// The volume is lost and there is no backup to restore.
    pub const NO_BACKUP_TO_RESTORE: &str = "NoBackupToRestore";
    /// The source that bootstrap names is not there or not ready yet.
    pub const BOOTSTRAP_SOURCE_NOT_READY: &str = "BootstrapSourceNotReady";
    /// The source that bootstrap names cannot be used.
    pub const BOOTSTRAP_SOURCE_INVALID: &str = "BootstrapSourceInvalid";
    /// No BackupLocation of that name.
    pub const LOCATION_NOT_FOUND: &str = "LocationNotFound";
    /// The credentials Secret is missing, or a key of it is missing or empty.
    pub const CREDENTIALS_MISSING: &str = "CredentialsMissing";
    /// The authentication Secret lacks a password or token, or holds an empty one.
    pub const AUTH_SECRET_INVALID: &str = "AuthSecretInvalid";
    /// The Kubernetes API refused an object of the Store.
    pub const API_REFUSED: &str = "ApiRefused";
    /// Steps of the operator remain.
    pub const APPLYING: &str = "Applying";
    /// A new volume or record is being set up.
    pub const INITIALISING: &str = "Initialising";
    /// The data is being restored.
    pub const RESTORING: &str = "Restoring";
    /// The server loads its files.
    pub const LOADING: &str = "Loading";
    /// The server is held; the message says why.
    pub const HELD: &str = "Held";
    /// The server is stopping.
    pub const STOPPING: &str = "Stopping";
    /// The pod restarts to take on a changed spec.
    pub const RESTARTING: &str = "Restarting";
    /// The restart waits for a running backup or restore, or a change until its server can be asked.
    pub const RESTART_DEFERRED: &str = "RestartDeferred";
    /// There is no pod yet.
    pub const POD_MISSING: &str = "PodMissing";
    /// The pod has no node yet.
    pub const POD_PENDING: &str = "PodPending";
    /// The pod is there and not ready.
    pub const POD_NOT_READY: &str = "PodNotReady";
    /// The pod is being deleted.
    pub const POD_TERMINATING: &str = "PodTerminating";
    /// The image cannot be pulled.
    pub const IMAGE_UNAVAILABLE: &str = "ImageUnavailable";
    /// The container ends again and again.
    pub const CONTAINER_FAILING: &str = "ContainerFailing";
    /// The claim is being deleted, and only the running pod holds it back.
    pub const VOLUME_CLAIM_DELETING: &str = "VolumeClaimDeleting";
    /// An object of the Store is being deleted.
    pub const OBJECT_DELETING: &str = "ObjectDeleting";
    /// Restarts have not brought about what they were for.
    pub const RESTART_INEFFECTIVE: &str = "RestartIneffective";
    /// The running server would not start with the new configuration.
    pub const CONFIGURATION_REFUSED: &str = "ConfigurationRefused";
    /// The API would refuse the changed pod.
    pub const POD_REFUSED: &str = "PodRefused";
    /// A changed pod did not become ready in time; the last one that worked is back.
    pub const UPDATE_ROLLED_BACK: &str = "UpdateRolledBack";
    /// A changed pod did not become ready in time, and what worked before cannot be brought back.
    pub const ROLLBACK_REFUSED: &str = "RollbackRefused";
    /// A change waits for the next maintenance window.
    pub const UPDATE_AWAITS_WINDOW: &str = "UpdateAwaitsWindow";
    /// A change waits for the approval that its Store asks for.
    pub const UPDATE_AWAITS_APPROVAL: &str = "UpdateAwaitsApproval";
    /// A snapshot that a restart needs has failed.
    pub const SNAPSHOT_FAILED: &str = "SnapshotFailed";
    /// Other Stores restart.
    pub const WAITING_FOR_OTHERS: &str = "WaitingForOthers";
    /// A field works, and perhaps not as somebody thinks.
    pub const CHECK_SPEC: &str = "CheckSpec";
    /// Nothing in the spec looks wrong.
    pub const NO_WARNINGS: &str = "NoWarnings";
    /// Looking at the object failed again and again.
    pub const RECONCILE_FAILED: &str = "ReconcileFailed";
    /// The server answered something that is not understood.
    pub const SERVER_ANSWER_INVALID: &str = "ServerAnswerInvalid";
    /// The BackupLocation names another place than the one that holds the backup.
    pub const LOCATION_CHANGED: &str = "LocationChanged";
    /// Manifest or file of the backup are no longer in the bucket.
    pub const BACKUP_MISSING: &str = "BackupMissing";
    /// Manifest or file of the backup are not those that were written.
    pub const BACKUP_ALTERED: &str = "BackupAltered";
    /// The claim has no volume yet.
    pub const VOLUME_CLAIM_PENDING: &str = "VolumeClaimPending";
    /// The claim has lost its volume.
    pub const VOLUME_CLAIM_LOST: &str = "VolumeClaimLost";
    /// The configuration that runs is not yet the desired one.
    pub const POLICY_PENDING: &str = "PolicyPending";
    /// No backup has ended yet.
    pub const NO_BACKUP: &str = "NoBackup";
    /// The newest finished backup succeeded.
    pub const BACKUP_SUCCEEDED: &str = "BackupSucceeded";
    /// The newest finished backup failed.
    pub const BACKUP_FAILED: &str = "BackupFailed";

    /// The backup ended well.
    pub const COMPLETED: &str = "Completed";
    /// The backup has not started yet.
    pub const PENDING: &str = "Pending";
    /// The server cuts the snapshot.
    pub const CUTTING: &str = "Cutting";
    /// The snapshot goes to the bucket.
    pub const UPLOADING: &str = "Uploading";
    /// The bucket's copy is read back and opened.
    pub const VERIFYING: &str = "Verifying";
    /// The barrier is being taken.
    pub const TAKING_BARRIER: &str = "TakingBarrier";
    /// The volume snapshot is being cut under the barrier.
    pub const CUTTING_VOLUME: &str = "CuttingVolume";
    /// The volume snapshot is cut and not ready to use yet.
    pub const FINISHING_SNAPSHOT: &str = "FinishingSnapshot";
    /// The Store of the backup is not there.
    pub const STORE_NOT_FOUND: &str = "StoreNotFound";
    /// The Store of the backup cannot be backed up now.
    pub const STORE_NOT_READY: &str = "StoreNotReady";
    /// The Store names no location.
    pub const NO_LOCATION: &str = "NoLocation";
    /// The Store has no volume and no dataset to keep.
    pub const NOTHING_TO_BACK_UP: &str = "NothingToBackUp";
    /// The backup did not end within its deadline.
    pub const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";
    /// The API server has no volume snapshot kinds.
    pub const VOLUME_SNAPSHOTS_UNAVAILABLE: &str = "VolumeSnapshotsUnavailable";
    /// Somebody deleted the volume snapshot before it was ready to use.
    pub const VOLUME_SNAPSHOT_DELETED: &str = "VolumeSnapshotDeleted";
    /// The cut was not proven to lie within the barrier, in every attempt.
    pub const BARRIER_EXPIRED: &str = "BarrierExpired";
    /// The probe could write, read and list, and a conditional put was obeyed.
    pub const PROBE_SUCCEEDED: &str = "ProbeSucceeded";
}

/// Longest message of a condition that the API accepts.
pub const MESSAGE_LEN_MAX: usize = 32_768;

/// A condition without its times: what a pure decision can know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// One of [`kind`].
    pub kind: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// PascalCase reason.
    pub reason: String,
    /// A sentence for people; may be empty.
    pub message: String,
}

impl Verdict {
    /// A verdict of `kind` that holds.
    #[must_use]
    pub fn yes(kind: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, status: "True", reason: reason.into(), message: message.into() }
    }

    /// A verdict of `kind` that does not hold.
    #[must_use]
    pub fn no(kind: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, status: "False", reason: reason.into(), message: message.into() }
    }

    /// A verdict of `kind` that is not known.
    #[must_use]
    pub fn unknown(kind: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, status: "Unknown", reason: reason.into(), message: message.into() }
    }
}

/// Merges `verdicts` into `old`: a condition keeps its transition time while its status stays, kinds that no verdict
/// names are kept as they are, order is that of `old`, then of `verdicts`. What differs from try to try is left out of the
/// messages, whoever wrote them.
#[must_use]
pub fn merge(
    old: &[Condition],
    verdicts: Vec<Verdict>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut merged = old.to_vec();
    for verdict in verdicts {
        let position = merged.iter().position(|condition| condition.type_ == verdict.kind);
        let since = position
            .map(|index| &merged[index])
            .filter(|condition| condition.status == verdict.status)
            .map_or(Time(now), |condition| condition.last_transition_time.clone());
        let condition = Condition {
            type_: verdict.kind.to_owned(),
            status: verdict.status.to_owned(),
            reason: verdict.reason,
            message: truncate(steady(&verdict.message), MESSAGE_LEN_MAX),
            last_transition_time: since,
            observed_generation: generation,
        };
        match position {
            Some(index) => merged[index] = condition,
            None => merged.push(condition),
        }
    }
    merged
}

/// Cuts `text` to at most `len_max` bytes at a character border.
#[must_use]
pub fn truncate(mut text: String, len_max: usize) -> String {
    if text.len() > len_max {
        let border = (0..=len_max).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0);
        text.truncate(border);
    }
    text
}

/// The condition of `kind` in `conditions`.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether the condition of `kind` is there and `True`.
#[must_use]
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    find(conditions, kind).is_some_and(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn transition_time_moves_only_with_the_status() {
        let first = merge(&[], vec![Verdict::no(kind::READY, "A", "")], Some(1), at(1));
        let second = merge(&first, vec![Verdict::no(kind::READY, "B", "text")], Some(2), at(2));
        assert_eq!(second[0].last_transition_time, Time(at(1)));
        assert_eq!(second[0].reason, "B");
        assert_eq!(second[0].observed_generation, Some(2));
        let third = merge(&second, vec![Verdict::yes(kind::READY, "C", "")], Some(2), at(3));
        assert_eq!(third[0].last_transition_time, Time(at(3)));
    }

    #[test]
    fn the_same_problem_is_the_same_condition_at_every_try() {
        let tell = |old: &[Condition], port: u16, now| {
            let message = format!("read tcp 10.0.0.2:{port}->10.0.0.9:443: connection reset by peer");
            merge(old, vec![Verdict::no(kind::READY, "A", message)], Some(1), at(now))
        };
        let first = tell(&[], 41_058, 1);
        assert_eq!(tell(&first, 53_924, 2), first);
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        assert_eq!(truncate("aé".into(), 2), "a");
        assert_eq!(truncate("aé".into(), 3), "aé");
    }

    /// A reason in a table of a page is one that a condition can have, or a value of the spec.
    #[test]
    fn the_pages_on_operations_name_reasons_that_exist() {
        const SOURCES: [&str; 4] = [
            include_str!("conditions.rs"),
            include_str!("v1alpha1/store.rs"),
            include_str!("../../../contract/src/control.rs"),
            include_str!("../../../contract/src/record.rs"),
        ];
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations");
        let mut count = 0;
        for entry in std::fs::read_dir(directory).expect("pages") {
            let path = entry.expect("a page").path();
            let text = std::fs::read_to_string(&path).expect("a page");
            for row in text.lines().filter(|line| line.starts_with('|')) {
                let words = row.split('`').skip(1).step_by(2);
                for word in words.filter(|word| word.bytes().all(|byte| byte.is_ascii_alphabetic())) {
                    let is_name = |source: &&str| {
                        source.contains(&format!("\"{word}\"")) || source.contains(&format!("    {word},"))
                    };
                    assert!(SOURCES.iter().any(is_name), "{path:?}: no reason {word}");
                    count += 1;
                }
            }
        }
        assert!(count >= 8, "{count} reasons found");
    }
}
