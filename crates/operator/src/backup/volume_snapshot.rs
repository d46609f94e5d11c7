//! A backup by the volume's CSI driver: barrier, cut, release, wait.
//!
//! The cut must lie within the barrier. That is proven without comparing clocks when the server still holds the barrier
//! after the VolumeSnapshot says that it was cut. When the barrier has ended by its time-out (the operator was away), the
//! driver's `creationTime` must lie before that end by [`CLOCK_MARGIN_SECONDS`]. Otherwise the VolumeSnapshot is deleted
//! and the whole is tried again, [`ATTEMPTS_MAX`] times.

use holdfast_contract::control::{Barrier, BarrierRequest};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, DynamicObject, Preconditions};
use serde_json::json;

use super::{Obstacle, Target, Turn, attempt_id, time, uid, whole_second};
use crate::api::conditions::{self, Verdict, kind, reason};
use crate::api::v1alpha1::{BarrierStatus, StoreBackup, StoreBackupStatus, VolumeSnapshotStatus};
use crate::context::{Context, ReconcileError, code, volume_snapshot_resource};
use crate::events::Note;
use crate::names;
use crate::reconcile::apply::post_params;
use crate::server_client::{Endpoint, ServerError};

/// The server lets go by itself after this time. Long for a cut (seconds), short for a rewrite that has to wait.
const BARRIER_SECONDS: u64 = 120;
/// Attempts to get a cut within a barrier.
const ATTEMPTS_MAX: u32 = 3;
/// `creationTime` has whole seconds, and the clocks of nodes differ a little.
const CLOCK_MARGIN_SECONDS: i64 = 2;

/// What a VolumeSnapshot says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct SnapshotState {
    uid: Option<String>,
    /// Somebody deletes it, and a finalizer holds it back.
    is_deleting: bool,
    creation_time: Option<Timestamp>,
    ready_to_use: bool,
    restore_bytes: Option<u64>,
    error: Option<String>,
}

/// What to do next; decided from status and VolumeSnapshot alone.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Take the barrier of this attempt.
    TakeBarrier(u32),
    /// Make the VolumeSnapshot.
    Create,
    /// Wait for the cut.
    AwaitCut,
    /// Prove that the cut lies within the barrier, and release it.
    Release(Timestamp),
    /// Wait until it can be used.
    AwaitReady,
    /// All done.
    Done,
    /// The cut did not come in time: begin anew.
    Retry,
    /// No attempt is left.
    GiveUp,
}

fn next(status: &StoreBackupStatus, snapshot: Option<&SnapshotState>, now: Timestamp) -> Next {
    let attempts = status.attempts.unwrap_or(0);
    let Some(barrier) = &status.barrier else {
        return if attempts >= ATTEMPTS_MAX { Next::GiveUp } else { Next::TakeBarrier(attempts + 1) };
    };
    let Some(snapshot) = snapshot else {
        // A VolumeSnapshot that was proven good and has gone since is not made again: its data would be newer than what
        // its labels say.
        return if barrier.released { Next::GiveUp } else { Next::Create };
    };
    if snapshot.is_deleting {
        return if barrier.released { Next::GiveUp } else { Next::Retry };
    }
    if barrier.released {
        return if snapshot.ready_to_use { Next::Done } else { Next::AwaitReady };
    }
    match snapshot.creation_time {
        Some(cut) => Next::Release(cut),
        None if is_over(barrier, now) => Next::Retry,
        None => Next::AwaitCut,
    }
}

/// Whether the barrier must have ended by itself. Server and operator have clocks of their own, so the time that it lasts
/// is counted by the operator's clock alone, from when the operator had it.
fn is_over(barrier: &BarrierStatus, now: Timestamp) -> bool {
    let end = match &barrier.recorded_time {
        Some(recorded) => {
            recorded.0.as_second() + (barrier.expiry_time.0.as_second() - barrier.taken_time.0.as_second())
        }
        None => barrier.expiry_time.0.as_second(),
    };
    now.as_second() > end
}

/// Whether a cut at `cut` lies within a barrier that is over.
fn lies_within(barrier: &BarrierStatus, cut: Timestamp) -> bool {
    cut.as_second() + CLOCK_MARGIN_SECONDS <= barrier.expiry_time.0.as_second()
}

/// One look at the backup.
pub(super) async fn turn(
    ctx: &Context,
    backup: &StoreBackup,
    status: &StoreBackupStatus,
    target: &Target,
    now: Timestamp,
) -> Result<Result<Turn, Obstacle>, ReconcileError> {
    let namespace = backup.namespace().unwrap_or_default();
    let api = ctx.volume_snapshots(&namespace);
    let name = snapshot_name(backup, status)?;
    let live = match api.get_opt(&name).await {
        Ok(live) => live,
        Err(source) => return Err(ReconcileError::call("read", "VolumeSnapshot", &name)(source)),
    };
    if live.is_none() && !ctx.has_volume_snapshots(&namespace).await? {
        let message = "this cluster has no VolumeSnapshots (snapshot.storage.k8s.io/v1); install the snapshot controller and its definitions, or use method Snapshot";
        return Ok(Ok(failed(status, backup, reason::VOLUME_SNAPSHOTS_UNAVAILABLE, message.into(), now)));
    }
    let state = live.as_ref().map(read_state);
    let mut new = status.clone();
    let progress = match next(status, state.as_ref(), now) {
        Next::TakeBarrier(attempt) => {
            let token = attempt_id(&uid(backup)?, attempt);
            let request = BarrierRequest { token: token.clone(), timeout_seconds: BARRIER_SECONDS };
            let barrier = match ctx.servers.take_barrier(&target.endpoint, &request).await {
                Ok(barrier) => barrier,
                Err(error) => return Ok(Err(error.into())),
            };
            new.attempts = Some(attempt);
            new.instance = Some(target.pod.clone());
            record_barrier(&mut new, &barrier, now);
            (reason::TAKING_BARRIER, String::new())
        }
        Next::Create => {
            let object = build(backup, status, &name, &namespace);
            match api.create(&post_params(), &object).await {
                Ok(_) => {}
                Err(error) if code(&error) == Some(409) => {}
                Err(source) => {
                    let error = ReconcileError::call("create", "VolumeSnapshot", &name)(source);
                    let Some(message) = error.refusal() else { return Err(error) };
                    return Ok(Err(Obstacle::new(reason::API_REFUSED, message)));
                }
            }
            (reason::CUTTING_VOLUME, String::new())
        }
        Next::AwaitCut => (reason::CUTTING_VOLUME, driver_error(state.as_ref())),
        Next::Release(cut) => match release(ctx, target, status, cut).await {
            Ok(true) => {
                if let Some(barrier) = &mut new.barrier {
                    barrier.released = true;
                }
                new.volume_snapshots =
                    vec![VolumeSnapshotStatus { name: name.clone(), creation_time: Some(Time(cut)) }];
                (reason::FINISHING_SNAPSHOT, String::new())
            }
            Ok(false) => retry(ctx, &namespace, &name, state.as_ref(), &mut new).await?,
            Err(error) => return Ok(Err(error.into())),
        },
        Next::Retry => {
            if let Some(barrier) = &status.barrier
                && let Err(error) = ctx.servers.release_barrier(&target.endpoint, &barrier.token).await
            {
                tracing::debug!(%error, "barrier not released, it has ended by itself");
            }
            retry(ctx, &namespace, &name, state.as_ref(), &mut new).await?
        }
        Next::AwaitReady => (reason::FINISHING_SNAPSHOT, driver_error(state.as_ref())),
        Next::Done => return Ok(Ok(done(backup, &new, state.as_ref(), &name, now))),
        Next::GiveUp => {
            let message = if status.barrier.is_some() {
                format!("VolumeSnapshot {name:?} was deleted while it was being finished")
            } else {
                format!(
                    "in {ATTEMPTS_MAX} attempts the volume was not cut within {BARRIER_SECONDS} s of its barrier; see the events of the VolumeSnapshots and the logs of the snapshot controller"
                )
            };
            return Ok(Ok(failed(status, backup, reason::BARRIER_EXPIRED, message, now)));
        }
    };
    let (reason, message) = progress;
    let verdict = Verdict::unknown(kind::SUCCEEDED, reason, message);
    new.conditions = conditions::merge(&new.conditions, vec![verdict], backup.metadata.generation, now);
    new.observed_generation = backup.metadata.generation;
    Ok(Ok(Turn::Running(Box::new(new))))
}

/// The end of a backup whose cut is proven and can be used.
fn done(
    backup: &StoreBackup,
    status: &StoreBackupStatus,
    state: Option<&SnapshotState>,
    name: &str,
    now: Timestamp,
) -> Turn {
    let mut new = status.clone();
    new.bytes = state.and_then(|state| state.restore_bytes);
    let verdicts = vec![
        Verdict::yes(kind::SUCCEEDED, reason::COMPLETED, "cut within a barrier, and ready to use"),
        Verdict::yes(kind::READY_TO_USE, reason::COMPLETED, ""),
    ];
    new.conditions = conditions::merge(&status.conditions, verdicts, backup.metadata.generation, now);
    new.observed_generation = backup.metadata.generation;
    Turn::Ended(
        Box::new(new),
        Note::normal("BackupSucceeded", format!("VolumeSnapshot {name:?} is ready to use")),
    )
}

/// How a backup stands that is past its deadline: it has ended well when its cut is proven and usable. Begins nothing.
pub(super) async fn last_look(
    ctx: &Context,
    backup: &StoreBackup,
    status: &StoreBackupStatus,
    target: &Target,
    now: Timestamp,
) -> Result<Option<Turn>, ReconcileError> {
    let namespace = backup.namespace().unwrap_or_default();
    let name = snapshot_name(backup, status)?;
    let live = ctx.volume_snapshots(&namespace).get_opt(&name).await.map_err(ReconcileError::call(
        "read",
        "VolumeSnapshot",
        &name,
    ))?;
    let state = live.as_ref().map(read_state);
    let mut new = status.clone();
    match next(status, state.as_ref(), now) {
        Next::Done => {}
        Next::Release(cut)
            if state.as_ref().is_some_and(|state| state.ready_to_use)
                && matches!(release(ctx, target, status, cut).await, Ok(true)) =>
        {
            if let Some(barrier) = &mut new.barrier {
                barrier.released = true;
            }
            new.volume_snapshots =
                vec![VolumeSnapshotStatus { name: name.clone(), creation_time: Some(Time(cut)) }];
        }
        _ => return Ok(None),
    }
    Ok(Some(done(backup, &new, state.as_ref(), &name, now)))
}

/// Releases the barrier; true when the cut is proven to lie within it.
async fn release(
    ctx: &Context,
    target: &Target,
    status: &StoreBackupStatus,
    cut: Timestamp,
) -> Result<bool, ServerError> {
    let Some(barrier) = &status.barrier else { return Ok(false) };
    match ctx.servers.release_barrier(&target.endpoint, &barrier.token).await {
        Ok(answer) => Ok(!answer.expired || lies_within(barrier, cut)),
        // The server has started anew since: nobody knows when the barrier ended.
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

async fn retry(
    ctx: &Context,
    namespace: &str,
    name: &str,
    state: Option<&SnapshotState>,
    status: &mut StoreBackupStatus,
) -> Result<(&'static str, String), ReconcileError> {
    delete(ctx, namespace, name, state.and_then(|state| state.uid.clone())).await?;
    status.barrier = None;
    Ok((
        reason::TAKING_BARRIER,
        format!(
            "the cut of VolumeSnapshot {name:?} did not come within its barrier{}; trying again",
            driver_error(state)
        ),
    ))
}

/// Ends a backup that shall not go on: the barrier is released, an unproven VolumeSnapshot deleted.
pub(super) async fn abandon(
    ctx: &Context,
    backup: &StoreBackup,
    status: &StoreBackupStatus,
    endpoint: Option<Endpoint>,
) -> Result<(), ServerError> {
    let Some(barrier) = status.barrier.as_ref().filter(|barrier| !barrier.released) else { return Ok(()) };
    let namespace = backup.namespace().unwrap_or_default();
    if let Ok(name) = snapshot_name(backup, status) {
        let live = ctx.volume_snapshots(&namespace).get_opt(&name).await.ok().flatten();
        if let Some(live) = live
            && let Err(error) = delete(ctx, &namespace, &name, live.uid()).await
        {
            tracing::warn!(%error, "unfinished VolumeSnapshot not deleted");
        }
    }
    match endpoint {
        Some(endpoint) => ctx.servers.release_barrier(&endpoint, &barrier.token).await.map(|_| ()),
        None => Ok(()),
    }
}

async fn delete(
    ctx: &Context,
    namespace: &str,
    name: &str,
    uid: Option<String>,
) -> Result<(), ReconcileError> {
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid, resource_version: None }),
        ..DeleteParams::default()
    };
    match ctx.volume_snapshots(namespace).delete(name, &params).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(code(&error), Some(404 | 409)) => Ok(()),
        Err(source) => Err(ReconcileError::call("delete", "VolumeSnapshot", name)(source)),
    }
}

fn failed(
    status: &StoreBackupStatus,
    backup: &StoreBackup,
    why: &str,
    message: String,
    now: Timestamp,
) -> Turn {
    let mut new = status.clone();
    let generation = backup.metadata.generation;
    let verdicts =
        vec![Verdict::no(kind::SUCCEEDED, why, message.clone()), Verdict::no(kind::READY_TO_USE, why, "")];
    new.conditions = conditions::merge(&status.conditions, verdicts, generation, now);
    new.observed_generation = generation;
    Turn::Ended(Box::new(new), Note::warning(why, message))
}

fn snapshot_name(backup: &StoreBackup, status: &StoreBackupStatus) -> Result<String, ReconcileError> {
    Ok(names::volume_snapshot(&backup.name_any(), &uid(backup)?, status.attempts.unwrap_or(1)))
}

fn record_barrier(status: &mut StoreBackupStatus, barrier: &Barrier, now: Timestamp) {
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

fn build(backup: &StoreBackup, status: &StoreBackupStatus, name: &str, namespace: &str) -> DynamicObject {
    let store = &backup.spec.store_ref.name;
    let mut labels = names::data_labels(store);
    let mut label = |key: &str, value: String| labels.insert(key.to_owned(), value);
    label(names::key::STORE_ID, status.store_id.clone().unwrap_or_default());
    label(names::key::EPOCH, status.epoch.unwrap_or_default().to_string());
    label(names::key::OFFSET, status.offset.unwrap_or_default().to_string());
    label(names::key::BACKUP_UID, backup.uid().unwrap_or_default());
    let mut object = DynamicObject::new(name, &volume_snapshot_resource()).within(namespace).data(json!({
        "spec": {
            "volumeSnapshotClassName": backup.spec.volume_snapshot_class_name,
            "source": {"persistentVolumeClaimName": names::claim(store)},
        }
    }));
    // No owner: deleting the StoreBackup leaves the data.
    object.metadata.labels = Some(labels);
    let keep = names::KEEP_ANNOTATIONS.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    object.metadata.annotations = Some(keep.collect());
    object
}

fn read_state(object: &DynamicObject) -> SnapshotState {
    let status = &object.data["status"];
    SnapshotState {
        uid: object.uid(),
        is_deleting: object.metadata.deletion_timestamp.is_some(),
        creation_time: status["creationTime"].as_str().and_then(|text| text.parse().ok()),
        ready_to_use: status["readyToUse"].as_bool().unwrap_or(false),
        restore_bytes: status["restoreSize"]
            .as_str()
            .and_then(|text| crate::api::quantity::Quantity(text.to_owned()).bytes().ok()),
        error: status["error"]["message"].as_str().map(str::to_owned),
    }
}

fn driver_error(state: Option<&SnapshotState>) -> String {
    state
        .and_then(|state| state.error.as_ref())
        .map(|error| format!("the snapshot controller or driver says: {error}"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn status(attempts: Option<u32>, barrier: Option<(i64, bool)>) -> StoreBackupStatus {
        StoreBackupStatus {
            attempts,
            barrier: barrier.map(|(expiry, released)| BarrierStatus {
                token: "t".into(),
                taken_time: Time(at(0)),
                expiry_time: Time(at(expiry)),
                recorded_time: None,
                released,
            }),
            ..StoreBackupStatus::default()
        }
    }

    fn snapshot(creation_time: Option<i64>, ready_to_use: bool) -> SnapshotState {
        SnapshotState { creation_time: creation_time.map(at), ready_to_use, ..SnapshotState::default() }
    }

    #[test]
    fn each_state_has_one_next_step() {
        let check = |status: StoreBackupStatus, snapshot: Option<SnapshotState>, expected: Next| {
            assert_eq!(next(&status, snapshot.as_ref(), at(50)), expected, "{status:?} {snapshot:?}");
        };
        check(status(None, None), None, Next::TakeBarrier(1));
        check(status(Some(1), None), None, Next::TakeBarrier(2));
        check(status(Some(ATTEMPTS_MAX), None), None, Next::GiveUp);
        check(status(Some(1), Some((100, false))), None, Next::Create);
        check(status(Some(1), Some((100, false))), Some(snapshot(None, false)), Next::AwaitCut);
        check(status(Some(1), Some((49, false))), Some(snapshot(None, false)), Next::Retry);
        check(status(Some(1), Some((49, false))), Some(snapshot(Some(10), false)), Next::Release(at(10)));
        check(status(Some(1), Some((100, true))), Some(snapshot(Some(10), false)), Next::AwaitReady);
        check(status(Some(1), Some((100, true))), Some(snapshot(Some(10), true)), Next::Done);
        check(status(Some(1), Some((100, true))), None, Next::GiveUp);
    }

    #[test]
    fn an_operator_whose_clock_is_ahead_waits_for_the_cut_all_the_same() {
        // The server took it at 0 and lets go at 120; the operator had it at 150 by a clock that is 2.5 minutes ahead.
        let mut status = status(Some(1), Some((120, false)));
        status.barrier.as_mut().unwrap().recorded_time = Some(Time(at(150)));
        let uncut = snapshot(None, false);
        assert_eq!(next(&status, Some(&uncut), at(200)), Next::AwaitCut);
        assert_eq!(next(&status, Some(&uncut), at(271)), Next::Retry);
    }

    #[test]
    fn a_snapshot_that_is_being_deleted_is_no_backup() {
        let deleting = |released| {
            let gone = SnapshotState { is_deleting: true, ..snapshot(Some(10), true) };
            next(&status(Some(1), Some((100, released))), Some(&gone), at(50))
        };
        assert_eq!(deleting(false), Next::Retry);
        assert_eq!(deleting(true), Next::GiveUp);
    }

    #[test]
    fn a_cut_near_the_end_of_a_barrier_that_is_over_proves_nothing() {
        let status = status(Some(1), Some((100, false)));
        let barrier = status.barrier.unwrap();
        assert!(lies_within(&barrier, at(98)));
        assert!(!lies_within(&barrier, at(99)));
        assert!(!lies_within(&barrier, at(101)));
    }
}
