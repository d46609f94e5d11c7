//! A backup by the volume's CSI driver: barrier, cut, release, wait.
//!
//! The cut must lie within the barrier. That is proven without comparing clocks when the server still holds the barrier
//! after the VolumeSnapshot says that it was cut. When the barrier has ended by its time-out (the operator was away), the
//! driver's `creationTime` must lie before that end by [`CLOCK_MARGIN_SECONDS`]. Otherwise the VolumeSnapshot is deleted
//! and the whole is tried again, [`ATTEMPTS_MAX`] times.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde_json::json;

use super::ValidatedBackup;
use super::plan::SnapshotId;
use crate::api::v1alpha1::{BarrierStatus, StoreBackupStatus};
use crate::context::volume_snapshot_resource;
use crate::names;

/// The server lets go by itself after this time. Long for a cut (seconds), short for a rewrite that has to wait.
pub(super) const BARRIER_SECONDS: u64 = 120;
/// Attempts to get a cut within a barrier.
pub(super) const ATTEMPTS_MAX: u32 = 3;
/// `creationTime` has whole seconds, and the clocks of nodes differ a little.
const CLOCK_MARGIN_SECONDS: i64 = 2;

/// What a VolumeSnapshot says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotState {
    /// Its UID.
    pub uid: Option<String>,
    /// Somebody deletes it, and a finalizer holds it back.
    pub is_deleting: bool,
    /// When the volume was cut, by the driver's clock.
    pub creation_time: Option<Timestamp>,
    /// Whether a volume can be made from it.
    pub ready_to_use: bool,
    /// Size of such a volume, in bytes.
    pub restore_bytes: Option<u64>,
    /// What the snapshot controller or the driver says.
    pub error: Option<String>,
}

impl SnapshotState {
    pub(super) fn id(&self, name: String) -> SnapshotId {
        SnapshotId { name, uid: self.uid.clone() }
    }
}

/// What the proof of a cut rests upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Name of the VolumeSnapshot.
    pub snapshot: String,
    /// The barrier, as it is recorded.
    pub barrier: BarrierStatus,
    /// When the volume was cut, by the driver's clock.
    pub cut: Timestamp,
    /// Whether the VolumeSnapshot can be used already.
    pub ready_to_use: bool,
    /// Its size.
    pub restore_bytes: Option<u64>,
}

impl Proof {
    pub(super) fn new(
        snapshot: String,
        barrier: BarrierStatus,
        cut: Timestamp,
        state: Option<&SnapshotState>,
    ) -> Self {
        let ready_to_use = state.is_some_and(|state| state.ready_to_use);
        let restore_bytes = state.and_then(|state| state.restore_bytes);
        Self { snapshot, barrier, cut, ready_to_use, restore_bytes }
    }

    /// Whether the cut lies within the barrier. `expired`: the barrier had ended by its time-out when it was to be released;
    /// the server that still held it has proven the cut by that.
    #[must_use]
    pub fn holds(&self, expired: bool) -> bool {
        !expired || lies_within(&self.barrier, self.cut)
    }
}

/// What to do next; decided from status and VolumeSnapshot alone.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Take the barrier of this attempt.
    TakeBarrier(u32),
    /// Make the VolumeSnapshot.
    Create,
    /// Wait for the cut.
    AwaitCut,
    /// Prove that the cut lies within the barrier, and release it.
    Release(BarrierStatus, Timestamp),
    /// Wait until it can be used.
    AwaitReady,
    /// All done.
    Done,
    /// The cut did not come in time: begin again.
    Retry,
    /// No attempt is left.
    GiveUp,
}

pub(super) fn next(status: &StoreBackupStatus, snapshot: Option<&SnapshotState>, now: Timestamp) -> Next {
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
        Some(cut) => Next::Release(barrier.clone(), cut),
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

/// The VolumeSnapshot of the attempt that `status` is in.
pub(super) fn build(
    valid: &ValidatedBackup,
    class: Option<&str>,
    status: &StoreBackupStatus,
    name: &str,
) -> DynamicObject {
    let mut labels = names::data_labels(&valid.store);
    let mut label = |key: &str, value: String| labels.insert(key.to_owned(), value);
    label(names::key::STORE_ID, status.store_id.clone().unwrap_or_default());
    label(names::key::EPOCH, status.epoch.unwrap_or_default().to_string());
    label(names::key::OFFSET, status.offset.unwrap_or_default().to_string());
    label(names::key::BACKUP_UID, valid.uid.clone());
    let object = DynamicObject::new(name, &volume_snapshot_resource()).within(&valid.namespace);
    let mut object = object.data(json!({
        "spec": {
            "volumeSnapshotClassName": class,
            "source": {"persistentVolumeClaimName": names::claim(&valid.store)},
        }
    }));
    // No owner: deleting the StoreBackup leaves the data.
    object.metadata.labels = Some(labels);
    let keep = names::KEEP_ANNOTATIONS.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    object.metadata.annotations = Some(keep.collect());
    object
}

/// What `object` says of itself.
pub(super) fn read_state(object: &DynamicObject) -> SnapshotState {
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

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

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
        let over = status(Some(1), Some((49, false)));
        let release = Next::Release(over.barrier.clone().unwrap(), at(10));
        check(over, Some(snapshot(Some(10), false)), release);
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
