//! What to do with a volume, given the operator's record of the Store. Pure.
//!
//! | record | volume | decision |
//! |---|---|---|
//! | unreadable, inconsistent | any | hold |
//! | any | unknown data, damaged identity | hold |
//! | any | identity of another Store | hold, except the one exact source of a clone that was never recorded |
//! | epoch 0, origin empty | empty | initialise with epoch 1 |
//! | epoch 0, origin restore | empty | restore the plan of the origin |
//! | epoch 0, origin clone or adopt | empty | hold |
//! | epoch 0, origin clone | identity of the source, exact epoch, offset reached | stamp |
//! | any epoch | identity of this Store, epoch ≥ recorded | keep |
//! | epoch ≥ 1 | identity of this Store, epoch < recorded | hold |
//! | epoch ≥ 1 | empty, plan with an epoch above the recorded one | restore |
//! | epoch ≥ 1 | empty, no such plan | hold |
//!
//! Invariants, whatever the record says: only an empty volume is initialised or restored to, so that a restore never
//! replaces data; the empty volume of a Store that has held data is never initialised. The record may be stale, and then
//! its epoch is too low, never too high: so a volume is compared with `≥`, and a newer one wins.

use holdfast_contract::identity::{Identity, Parent};
use holdfast_contract::record::{DecisionKind, DecisionReport, Origin, RestorePlan, StoreRecord, reason};

/// Epoch of a Store that was born empty.
pub(crate) const FIRST_EPOCH: u64 = 1;

/// What was found in a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeState {
    /// Nothing but what the file system or an interrupted start of ours left there.
    Empty,
    /// Files, and no identity.
    UnknownData {
        /// Some of their names, for people.
        files: Vec<String>,
    },
    /// A readable identity.
    Identity(Identity),
    /// An identity that cannot be read, or a directory that cannot.
    DamagedIdentity {
        /// What is wrong.
        why: String,
    },
}

/// What to do, with what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start from the volume as it is.
    Keep,
    /// Write an identity with this epoch, then start empty.
    Initialise {
        /// Id for the identity.
        store_id: String,
        /// [`FIRST_EPOCH`].
        epoch: u64,
    },
    /// Recover to exactly `stop_at`, then write an identity with this Store's id.
    Stamp {
        /// Id for the identity.
        store_id: String,
        /// Epoch for the identity: one above the source's.
        epoch: u64,
        /// Stream offset at which the snapshot's barrier was taken; what follows it is cut off.
        stop_at: u64,
        /// For the identity.
        parent: Parent,
    },
    /// Restore this backup ([`super::restore::restore_into`]), then start from it.
    Restore(RestorePlan),
    /// Write nothing.
    Hold,
}

/// The decision: what to do, and how to tell people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What to do.
    pub(crate) action: Action,
    /// For the termination message, the status, and the log.
    pub report: DecisionReport,
}

/// Decides what to do with `volume`. `record` is an error text when there is no readable record.
#[must_use]
pub fn decide(record: Result<&StoreRecord, &str>, volume: &VolumeState) -> Decision {
    let record = match record {
        Ok(record) => record,
        Err(why) => {
            return hold(
                reason::RECORD_UNREADABLE,
                format!(
                    "The record of this Store cannot be read ({why}). Without it nobody knows whether this volume may \
                     be written, so nothing is. Check that the operator runs and that the ConfigMap of the Store is \
                     mounted; it is looked at again by itself."
                ),
            );
        }
    };
    if let Some(problem) = inconsistency(record) {
        return hold(
            reason::RECORD_UNREADABLE,
            format!(
                "The record of this Store makes no sense ({problem}). Nothing is written. Check that operator and \
                 server are of compatible versions, and what the operator logs about this Store."
            ),
        );
    }
    match volume {
        VolumeState::UnknownData { files } => unknown_data(record, files),
        VolumeState::DamagedIdentity { why } => hold(
            reason::DAMAGED_IDENTITY,
            format!(
                "The identity of this volume cannot be read ({why}), so it is not known whose data it holds. Nothing \
                 is written. Keep the volume; repair its file system or bring the identity file back from a volume \
                 snapshot, or give the Store an empty volume and let it restore from a backup \
                 (recovery.onVolumeLoss: RestoreLatestBackup)."
            ),
        ),
        VolumeState::Empty => empty_volume(record),
        VolumeState::Identity(identity) if identity.store_id == record.store_id => {
            own_volume(record, identity)
        }
        VolumeState::Identity(identity) => foreign_volume(record, identity),
    }
}

/// True when an instance with `identity` may accept writes: its epoch is recorded outside the volume.
///
/// A restart needs no record at all, because `granted` stays on the volume; a stale record only delays the first write.
#[must_use]
pub(crate) fn may_write(identity: &Identity, record: &StoreRecord) -> bool {
    identity.granted || (record.store_id == identity.store_id && record.epoch >= identity.epoch)
}

fn unknown_data(record: &StoreRecord, files: &[String]) -> Decision {
    hold(
        reason::UNKNOWN_DATA,
        format!(
            "The volume of Store {} holds files but no identity (such as {}). They may be the only copy of something, so \
             nothing is written beside them. Look at the volume from a pod of your own; move the files away if nobody \
             needs them, or give the Store another volume.",
            record.store_id,
            files.join(", ")
        ),
    )
}

fn empty_volume(record: &StoreRecord) -> Decision {
    if record.epoch == 0 {
        return new_store(record);
    }
    match &record.restore {
        Some(plan) if plan.epoch > record.epoch => Decision {
            report: report(
                DecisionKind::Restore,
                reason::VOLUME_LOST_RESTORING,
                format!(
                    "The Store has held data (epoch {}) and its volume is empty: the data was lost with the old volume. \
                     As planned, backup {:?} is restored as epoch {}. Writes after that backup are not in it.",
                    record.epoch, plan.backup_path, plan.epoch
                ),
            ),
            action: Action::Restore(plan.clone()),
        },
        _ => hold(
            reason::VOLUME_LOST,
            format!(
                "The Store has held data (epoch {}) and its volume is empty: the data was lost with the old volume, or \
                 the wrong volume is attached. Nothing is written, so that an empty Store never passes for the lost \
                 one. Attach the old volume if it still exists; to restore the latest backup set recovery.onVolumeLoss: \
                 RestoreLatestBackup; to start without the data create a new Store.",
                record.epoch
            ),
        ),
    }
}

fn new_store(record: &StoreRecord) -> Decision {
    match &record.origin {
        Origin::Empty => Decision {
            report: report(
                DecisionKind::Initialise,
                reason::NEW_STORE,
                format!("The Store {} is new and its volume empty: it starts empty.", record.store_id),
            ),
            action: Action::Initialise { store_id: record.store_id.clone(), epoch: FIRST_EPOCH },
        },
        Origin::Restore { plan } => Decision {
            report: report(
                DecisionKind::Restore,
                reason::BOOTSTRAP_RESTORE,
                format!(
                    "The Store {} is new and its volume empty: backup {:?} is restored onto it, as bootstrap.restore \
                     says.",
                    record.store_id, plan.backup_path
                ),
            ),
            action: Action::Restore(plan.clone()),
        },
        Origin::Clone { source_store_id, .. } => hold(
            reason::SOURCE_VOLUME_EMPTY,
            format!(
                "The volume should have been made from a snapshot of Store {source_store_id} \
                 (bootstrap.restore.volumeSnapshotRef) and is empty. Nothing is written, because an empty Store is not \
                 what was asked for. Check the events of the PersistentVolumeClaim and whether its CSI driver restores \
                 snapshots; then delete this Store and create it again."
            ),
        ),
        Origin::Adopt => hold(
            reason::SOURCE_VOLUME_EMPTY,
            format!(
                "The volume should hold the data of Store {} (bootstrap.adopt.storeID) and is empty. Nothing is written. \
                 Bind the retained PersistentVolume to the claim of this Store, or correct bootstrap.adopt.storeID in a \
                 new Store.",
                record.store_id
            ),
        ),
    }
}

fn own_volume(record: &StoreRecord, identity: &Identity) -> Decision {
    let epoch = identity.epoch;
    if epoch < record.epoch {
        return hold(
            reason::STALE_VOLUME,
            format!(
                "The volume holds this Store's data of epoch {epoch}, and epoch {} is recorded: it is an old copy, and \
                 newer data exists or existed elsewhere. Nothing is written, so that the old copy never passes for the \
                 newer. Attach the newer volume; or remove this one and let the Store restore its latest backup \
                 (recovery.onVolumeLoss: RestoreLatestBackup); or create a new Store with bootstrap.adopt.storeID to go \
                 on from this copy.",
                record.epoch
            ),
        );
    }
    let expected = match (&record.origin, record.epoch) {
        (_, recorded) if recorded == epoch => true,
        (_, recorded) if recorded > 0 => record.restore.as_ref().is_some_and(|plan| plan.epoch == epoch),
        (Origin::Empty, _) => epoch == FIRST_EPOCH,
        (Origin::Restore { plan }, _) => plan.epoch == epoch,
        (Origin::Clone { source_epoch, .. }, _) => source_epoch.checked_add(1) == Some(epoch),
        (Origin::Adopt, _) => true,
    };
    let (reason, message) = if expected {
        (reason::VOLUME_CURRENT, format!("The volume holds this Store's data of epoch {epoch}: it is kept."))
    } else {
        (
            reason::VOLUME_NEWER,
            format!(
                "The volume holds this Store's data of epoch {epoch}, and only epoch {} is recorded: the record is \
                 behind, and the newer volume is kept. If the Kubernetes objects were brought back from an old backup, \
                 check the Store's status before automation goes on.",
                record.epoch
            ),
        )
    };
    Decision { action: Action::Keep, report: report(DecisionKind::Keep, reason, message) }
}

fn foreign_volume(record: &StoreRecord, identity: &Identity) -> Decision {
    let Origin::Clone { source_store_id, source_epoch, source_offset } = &record.origin else {
        return foreign(record, identity);
    };
    // A recorded epoch says that the clone was stamped and has its own id: the source's volume is then a wrong one.
    if record.epoch > 0 {
        return foreign(record, identity);
    }
    let is_source = identity.store_id == *source_store_id
        && identity.epoch == *source_epoch
        && identity.last_offset >= *source_offset;
    let epoch = source_epoch.checked_add(1);
    match epoch {
        Some(epoch) if is_source => Decision {
            report: report(
                DecisionKind::Stamp,
                reason::BOOTSTRAP_CLONE,
                format!(
                    "The volume is the snapshot of Store {source_store_id} at epoch {source_epoch}, offset \
                     {source_offset}, that bootstrap names: it becomes epoch {epoch} of Store {}.",
                    record.store_id
                ),
            ),
            action: Action::Stamp {
                store_id: record.store_id.clone(),
                epoch,
                stop_at: *source_offset,
                parent: Parent {
                    store_id: source_store_id.clone(),
                    epoch: *source_epoch,
                    offset: *source_offset,
                    backup_path: None,
                },
            },
        },
        _ => hold(
            reason::SOURCE_MISMATCH,
            format!(
                "The volume holds Store {} at epoch {}, offset {}, and bootstrap names a snapshot of Store \
                 {source_store_id} at epoch {source_epoch}, offset {source_offset}. Nothing is written. Check which \
                 VolumeSnapshot bootstrap.restore.volumeSnapshotRef names, and create the Store again with the right \
                 one.",
                identity.store_id, identity.epoch, identity.last_offset
            ),
        ),
    }
}

fn foreign(record: &StoreRecord, identity: &Identity) -> Decision {
    hold(
        reason::FOREIGN_VOLUME,
        format!(
            "The volume belongs to Store {} (epoch {}, written by {:?}), not to this Store {}. Nothing is written. Attach \
             the right volume; to go on with the data of this one create a new Store with bootstrap.adopt.storeID: {}.",
            identity.store_id, identity.epoch, identity.instance, record.store_id, identity.store_id
        ),
    )
}

fn inconsistency(record: &StoreRecord) -> Option<String> {
    if record.store_id.is_empty() {
        return Some("storeID is empty".to_owned());
    }
    match &record.origin {
        Origin::Restore { plan } if plan.epoch == 0 => {
            Some("the restore of its origin has epoch 0, the first one is 1".to_owned())
        }
        Origin::Clone { source_store_id, .. } if *source_store_id == record.store_id => {
            Some("it is a clone of itself".to_owned())
        }
        _ => None,
    }
}

fn hold(reason: &str, message: String) -> Decision {
    Decision { action: Action::Hold, report: report(DecisionKind::Hold, reason, message) }
}

fn report(decision: DecisionKind, reason: &str, message: String) -> DecisionReport {
    DecisionReport { decision, reason: reason.to_owned(), message }
}

#[cfg(test)]
mod tests;
