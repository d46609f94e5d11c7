//! What a look came to → the status of a StoreBackup, and when to look again. Pure.

use std::time::Duration;

use holdfast_contract::control::{BackupPhase, BackupProgress, Barrier};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::facts::Facts;
use super::plan::{Destination, Outcome, is_interrupted};
use super::{ValidatedBackup, attempt, messages};
use crate::api::conditions::{self, Verdict, kind, reason};
use crate::api::v1alpha1::{BarrierStatus, StoreBackup, StoreBackupStatus, VolumeSnapshotStatus};
use crate::pipeline::Applied;
use crate::reconcile::status::time_of_ms;

/// While a backup runs: a barrier is held for as long as we do not look.
const WHILE_RUNNING: Duration = Duration::from_secs(1);
/// Longest pause between attempts that the server has interrupted.
const INTERRUPTED_MAX: Duration = Duration::from_secs(60);
/// While it waits for its Store.
const WHILE_PENDING: Duration = Duration::from_secs(3);

/// The status of `backup` after what was `applied`; absent when there is nothing to say.
pub(super) fn status(
    backup: &StoreBackup,
    valid: &ValidatedBackup,
    applied: &Applied<Outcome>,
    now: Timestamp,
) -> Option<StoreBackupStatus> {
    let mut status = backup.status.clone().unwrap_or_default();
    let verdicts = match applied.done() {
        Outcome::Rest | Outcome::FinalizerSet => return None,
        Outcome::Kept(usability) => messages::usable(usability).into_iter().collect::<Vec<_>>(),
        Outcome::Waiting(obstacle) => {
            let (reason, message) = messages::obstacle(obstacle, valid);
            vec![Verdict::unknown(kind::SUCCEEDED, reason, message)]
        }
        Outcome::Begun(destination) => {
            status.start_time = Some(Time(whole_second(now)));
            if let Some(destination) = destination {
                record_destination(&mut status, destination);
            }
            vec![running(reason::PENDING, "")]
        }
        Outcome::Destined(destination) => {
            record_destination(&mut status, destination);
            Vec::new()
        }
        Outcome::Upload(progress) => record_upload(&mut status, progress),
        Outcome::BarrierTaken(attempt, instance, barrier) => {
            status.attempts = Some(*attempt);
            status.instance = Some(instance.clone());
            record_barrier(&mut status, barrier, now);
            vec![running(reason::TAKING_BARRIER, "")]
        }
        Outcome::CuttingVolume(error) => {
            vec![running(reason::CUTTING_VOLUME, messages::driver(error.as_deref()))]
        }
        Outcome::Proven(proof) => {
            if let Some(barrier) = &mut status.barrier {
                barrier.released = true;
            }
            let (name, creation_time) = (proof.snapshot.clone(), Some(Time(proof.cut)));
            status.volume_snapshots = vec![VolumeSnapshotStatus { name, creation_time }];
            if proof.ready_to_use {
                status.bytes = proof.restore_bytes;
                messages::snapshot_ready()
            } else {
                vec![running(reason::FINISHING_SNAPSHOT, "")]
            }
        }
        Outcome::Missed(snapshot, error) => {
            status.barrier = None;
            vec![running(reason::TAKING_BARRIER, messages::missed(snapshot, error.as_deref()))]
        }
        Outcome::FinishingSnapshot(error) => {
            vec![running(reason::FINISHING_SNAPSHOT, messages::driver(error.as_deref()))]
        }
        Outcome::SnapshotReady(bytes) => {
            status.bytes = *bytes;
            messages::snapshot_ready()
        }
        Outcome::Failed(failure) => {
            let (reason, message) = messages::failure(failure, valid);
            messages::failed(reason, message)
        }
    };
    let has_ended =
        verdicts.iter().any(|verdict| verdict.kind == kind::SUCCEEDED && verdict.status != "Unknown");
    if has_ended {
        status.completion_time = Some(Time(whole_second(now)));
    }
    let generation = backup.metadata.generation;
    status.observed_generation = generation;
    status.conditions = conditions::merge(&status.conditions, verdicts, generation, now);
    Some(status)
}

fn running(reason: &str, message: impl Into<String>) -> Verdict {
    Verdict::unknown(kind::SUCCEEDED, reason, message)
}

/// Notes whose data it is and where it goes.
fn record_destination(status: &mut StoreBackupStatus, destination: &Destination) {
    let Destination { store_id, instance, location, place } = destination.clone();
    status.store_id = store_id;
    status.instance = Some(instance);
    status.location = Some(location);
    status.place = Some(place);
}

/// Notes the server's answer about the upload.
fn record_upload(status: &mut StoreBackupStatus, progress: &BackupProgress) -> Vec<Verdict> {
    match progress.phase {
        BackupPhase::Cutting => vec![running(reason::CUTTING, "")],
        BackupPhase::Uploading => vec![running(reason::UPLOADING, "")],
        BackupPhase::Verifying => vec![running(reason::VERIFYING, "")],
        BackupPhase::Succeeded => {
            let dataset = progress.dataset.clone().unwrap_or_default();
            status.epoch = Some(progress.epoch);
            status.offset = Some(progress.offset);
            status.bytes = Some(progress.total_bytes);
            status.keys = Some(dataset.keys);
            status.digest = Some(dataset.digest);
            status.path.clone_from(&progress.backup_path);
            messages::uploaded()
        }
        BackupPhase::Failed if is_interrupted(progress) => {
            // The server answers an id for ever as it did once, so the next attempt has another one.
            status.attempts = Some(attempt(status) + 1);
            vec![running(reason::STORE_NOT_READY, messages::interrupted(progress.message.as_deref()))]
        }
        BackupPhase::Failed => {
            let reason = progress.reason.clone().unwrap_or_else(|| reason::BACKUP_FAILED.to_owned());
            messages::failed(reason, progress.message.clone().unwrap_or_default())
        }
    }
}

fn record_barrier(status: &mut StoreBackupStatus, barrier: &Barrier, now: Timestamp) {
    let time = |ms: u64| Time(time_of_ms(ms).unwrap_or(Timestamp::UNIX_EPOCH));
    status.store_id = Some(barrier.store_id.clone());
    status.epoch = Some(barrier.epoch);
    status.offset = Some(barrier.offset);
    // One that is over already was taken by an operator that did not live to record it.
    status.barrier = barrier.released_ms.is_none().then(|| BarrierStatus {
        token: barrier.token.clone(),
        taken_time: time(barrier.taken_ms),
        expiry_time: time(barrier.expires_ms),
        recorded_time: Some(Time(whole_second(now))),
        released: false,
    });
}

fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The pause before the next look; absent: until something changes.
pub(super) fn pause(backup: &StoreBackup, facts: &Facts, applied: &Applied<Outcome>) -> Option<Duration> {
    match applied.done() {
        Outcome::Rest => None,
        Outcome::Kept(_) => facts.next_check,
        Outcome::FinalizerSet | Outcome::Begun(_) | Outcome::SnapshotReady(_) | Outcome::Failed(_) => {
            Some(Duration::ZERO)
        }
        Outcome::Proven(proof) if proof.ready_to_use => Some(Duration::ZERO),
        Outcome::Upload(progress) => match progress.phase {
            BackupPhase::Succeeded => Some(Duration::ZERO),
            BackupPhase::Failed if is_interrupted(progress) => {
                let attempts = backup.status.as_ref().map_or(1, attempt);
                Some(after_interruptions(attempts))
            }
            BackupPhase::Failed => Some(Duration::ZERO),
            BackupPhase::Cutting | BackupPhase::Uploading | BackupPhase::Verifying => Some(WHILE_RUNNING),
        },
        Outcome::Waiting(_) => Some(WHILE_PENDING),
        Outcome::Destined(_)
        | Outcome::BarrierTaken(..)
        | Outcome::CuttingVolume(_)
        | Outcome::Proven(_)
        | Outcome::Missed(..)
        | Outcome::FinishingSnapshot(_) => Some(WHILE_RUNNING),
    }
}

/// The pause after so many attempts that the server has interrupted: doubling with each.
fn after_interruptions(attempts: u32) -> Duration {
    let doublings = attempts.saturating_add(1);
    WHILE_RUNNING.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(INTERRUPTED_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupted_attempts_come_slower_and_slower() {
        assert_eq!(after_interruptions(1), WHILE_RUNNING * 4);
        assert_eq!(after_interruptions(2), WHILE_RUNNING * 8);
        assert_eq!(after_interruptions(40), INTERRUPTED_MAX);
        assert_eq!(after_interruptions(u32::MAX), INTERRUPTED_MAX);
    }
}
