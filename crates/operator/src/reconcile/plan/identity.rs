//! Whose data a Store holds, which generation of it, and what fills its volume. Pure.
//!
//! The born-empty rules: id and epoch live in three places (status, the ConfigMap `<store>-record`, the volume); one that
//! is missing is filled from the others and never means "new"; a volume that is newer than what is recorded wins, and
//! stops everything automatic until a person has looked; a volume that is lost is never replaced by an empty one.

use holdfast_contract::bucket::Location;
use holdfast_contract::control::ServerState;
use holdfast_contract::record::{Origin, RestorePlan, StoreRecord, reason as held};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::{Hold, Recording, Step, volume_epoch};
use crate::api::conditions::{self, kind, reason};
use crate::api::v1alpha1::{BackupLocation, OnVolumeLoss, RestoreStatus, Store, StoreStatus};
use crate::backup::plan::is_lost;
use crate::names;
use crate::reconcile::build::config_map;
use crate::reconcile::facts::{Facts, SnapshotFact, SourceFact};
use crate::reconcile::validate::{Source, ValidatedStore};

/// What is known of a Store's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Id of the data.
    pub store_id: String,
    /// Recorded epoch; 0 while the Store has never held data.
    pub epoch: u64,
    /// How the first volume is filled.
    pub origin: Origin,
    /// Restore onto a lost volume.
    pub restore: Option<RestorePlan>,
    /// VolumeSnapshot that the first claim is filled from.
    pub data_source: Option<String>,
}

impl Known {
    /// The record for the server.
    #[must_use]
    pub fn record(&self) -> StoreRecord {
        StoreRecord {
            store_id: self.store_id.clone(),
            epoch: self.epoch,
            origin: self.origin.clone(),
            restore: self.restore.clone(),
        }
    }
}

/// Outcome of `identify`.
#[derive(Debug, Clone, PartialEq)]
pub enum Identified {
    /// Go on with this; the hold, if any, is to be shown but stops nothing else.
    Known(Box<Known>, Option<Hold>),
    /// First this step.
    Step(Step),
    /// Nothing can be done.
    Hold(Hold),
}

/// Names the location of a credentials directory.
#[must_use]
pub(crate) fn location_of_dir(credentials_dir: &str) -> Option<&str> {
    credentials_dir.strip_prefix(names::LOCATIONS_DIR)?.strip_prefix('/')
}

/// The bucket of a BackupLocation.
#[must_use]
pub fn bucket_of(location: &BackupLocation) -> Location {
    crate::location::validate(location).bucket
}

/// Finds out whose data `store` holds. Not for the strategy Disabled, which holds none.
#[must_use]
pub(crate) fn identify(store: &Store, valid: &ValidatedStore, facts: &Facts, now: Timestamp) -> Identified {
    let empty = StoreStatus::default();
    let status = store.status.as_ref().unwrap_or(&empty);
    let recorded = match config_map::read_record(facts.children.record.as_ref()) {
        Ok(record) => record,
        Err(problem) if status.store_id.is_none() => {
            return Identified::Hold(Hold::stalled(
                reason::RECORD_MISMATCH,
                format!(
                    "ConfigMap {:?} does not hold a record ({problem}), and the status names no id; delete the ConfigMap if this Store is new, else set bootstrap.adopt to the id that the claim carries",
                    names::record(&valid.name)
                ),
            ));
        }
        // The status knows; the ConfigMap is written again from it.
        Err(_) => None,
    };

    let store_id = match (&status.store_id, &recorded) {
        (Some(id), Some(record)) if *id != record.store_id => {
            return Identified::Hold(Hold::stalled(
                reason::RECORD_MISMATCH,
                format!(
                    "the status says that this Store is {id}, ConfigMap {:?} says {}; find out which data the volume holds and correct the other",
                    names::record(&valid.name),
                    record.store_id
                ),
            ));
        }
        (Some(id), _) => id.clone(),
        (None, Some(record)) => {
            return Identified::Step(Step::Record(Recording::Identity {
                store_id: Some(record.store_id.clone()),
                epoch: Some(record.epoch).filter(|epoch| *epoch > 0),
            }));
        }
        (None, None) => return choose_id(store, valid, facts),
    };

    if let Some(outcome) = check_claim(store, valid, facts, &store_id) {
        return outcome;
    }

    let epoch = status.epoch.unwrap_or(0);
    if let Some(hold) = record_ahead(store, valid, recorded.as_ref(), facts, &store_id, epoch) {
        return Identified::Hold(hold);
    }

    let (origin, data_source) = match origin(valid, facts, epoch) {
        Ok(found) => found,
        // What was recorded stands, also when its source has gone since.
        Err(hold) => match &recorded {
            Some(record) if source_matches(&valid.bootstrap, &record.origin) => {
                (record.origin.clone(), data_source_of(facts.claim.as_ref()))
            }
            _ if epoch > 0 => (Origin::Empty, None),
            _ => return Identified::Hold(hold),
        },
    };
    // A claim is made only after the record, and noted in the status right after that: a claim that neither knows means
    // that both were lost, and its volume may hold data. Then an empty volume must not be taken for a new one.
    let was_lost = facts.claim.is_some()
        && match &recorded {
            None => status.claim.is_none(),
            Some(record) => record.origin == Origin::Adopt && record.epoch == 0,
        };
    let (origin, data_source) = if epoch == 0 && was_lost {
        (Origin::Adopt, data_source_of(facts.claim.as_ref()))
    } else {
        (origin, data_source)
    };
    // Once the Store has held data its origin has no effect; the recorded one stays, and with it the pod's mounts.
    let origin = match &recorded {
        Some(record) if epoch > 0 => record.origin.clone(),
        _ => origin,
    };
    let mut known = Known { store_id, epoch, origin, restore: None, data_source };

    if let Some(outcome) = newer_volume(store, status, &known, facts) {
        return outcome;
    }
    if let Some(outcome) = older_volume(store, &known, facts) {
        return outcome;
    }
    if let Some(outcome) = claim_source_conflict(valid, &known, facts) {
        return outcome;
    }
    match restore_plan(status, valid, &known, recorded.as_ref(), facts) {
        RestoreState::None => {}
        RestoreState::Obsolete => return Identified::Step(Step::Record(Recording::DropRestore)),
        RestoreState::Planned(plan) => {
            let hold = failed_restore(&plan, facts);
            known.restore = Some(*plan);
            return Identified::Known(Box::new(known), hold);
        }
        RestoreState::Unknown(hold) => return Identified::Known(Box::new(known), Some(hold)),
    }
    if facts.server.held_for() == Some(held::VOLUME_LOST) {
        return volume_lost(status, valid, known, facts, now);
    }
    Identified::Known(Box::new(known), None)
}

/// The status is written before the ConfigMap, so a ConfigMap with a higher epoch was edited, or the status was set back.
/// Its epoch is never taken over. While the server serves the recorded epoch the ConfigMap is corrected; otherwise the
/// volume may be one that was left behind, and a person says which epoch is right.
fn record_ahead(
    store: &Store,
    valid: &ValidatedStore,
    recorded: Option<&StoreRecord>,
    facts: &Facts,
    store_id: &str,
    epoch: u64,
) -> Option<Hold> {
    let record = recorded.filter(|record| record.epoch > epoch)?;
    let volume = volume_epoch(facts, store_id);
    let is_accepted = accepted_epoch(store) == Some(epoch);
    // A newer volume has a hold of its own.
    if volume.is_some_and(|volume| volume >= epoch) || is_accepted {
        return None;
    }
    let found = facts.server.status().and_then(|status| status.identity.as_ref());
    let found = found.map_or_else(
        || "the volume cannot be asked".to_owned(),
        |identity| format!("the volume holds epoch {}", identity.epoch),
    );
    let name = store.name_any();
    Some(Hold::stalled(
        reason::RECORD_MISMATCH,
        format!(
            "ConfigMap {:?} says epoch {}, the status {epoch}, {found}: one of them was edited or set back; nothing automatic is done; if epoch {epoch} is right: kubectl annotate store {name} {}={epoch} (the ConfigMap is then corrected)",
            names::record(&valid.name),
            record.epoch,
            names::key::ACCEPT_EPOCH
        ),
    ))
}

/// The epoch that a person has accepted.
fn accepted_epoch(store: &Store) -> Option<u64> {
    store.annotations().get(names::key::ACCEPT_EPOCH)?.trim().parse().ok()
}

/// Neither status nor record know an id: the claim may.
fn choose_id(store: &Store, valid: &ValidatedStore, facts: &Facts) -> Identified {
    let claim_name = names::claim(&valid.name);
    let adopt = match &valid.bootstrap {
        Source::Adopt(id) => Some(id),
        _ => None,
    };
    let Some(claim) = &facts.claim else {
        let Some(id) = adopt else {
            return Identified::Step(Step::Record(Recording::Identity { store_id: None, epoch: None }));
        };
        let message = match facts.claims_with_store_id.first() {
            Some(other) => {
                let hint =
                    other.strip_prefix("data-").and_then(|rest| rest.strip_suffix("-0")).unwrap_or(other);
                format!(
                    "bootstrap.adopt names {id}, whose data is on claim {other:?}; a Store takes up only the claim {claim_name:?}; name the Store {hint:?}"
                )
            }
            None => format!(
                "bootstrap.adopt names {id}, but there is no claim {claim_name:?} in this namespace; list the retained claims with: kubectl get pvc -L {}",
                names::key::STORE_ID
            ),
        };
        return Identified::Hold(Hold::stalled(reason::ADOPTION_IMPOSSIBLE, message));
    };
    if claim.metadata.deletion_timestamp.is_some() {
        return Identified::Hold(Hold::waiting(
            reason::OLD_CHILDREN_REMAIN,
            format!("claim {claim_name:?} of an earlier Store is being deleted; waiting until it is gone"),
        ));
    }
    let label = claim.labels().get(names::key::STORE_ID);
    let user = claim.annotations().get(names::key::STORE_UID);
    match (label, adopt) {
        (Some(label), _) if user == store.uid().as_ref() => {
            Identified::Step(Step::Record(Recording::Identity { store_id: Some(label.clone()), epoch: None }))
        }
        (Some(label), Some(id)) if label == id => match facts.stores_with_store_id.first() {
            Some(other) => Identified::Hold(Hold::stalled(
                reason::ADOPTION_IMPOSSIBLE,
                format!("bootstrap.adopt names {id}, which is the data of Store {other:?}"),
            )),
            None => Identified::Step(Step::Record(Recording::Identity {
                store_id: Some(id.clone()),
                epoch: None,
            })),
        },
        (Some(label), Some(id)) => Identified::Hold(Hold::stalled(
            reason::ADOPTION_IMPOSSIBLE,
            format!(
                "bootstrap.adopt names {id}, but claim {claim_name:?} holds the data of {label}; correct the id"
            ),
        )),
        (Some(label), None) => Identified::Hold(Hold::stalled(
            reason::RETAINED_VOLUME_FOUND,
            format!(
                "claim {claim_name:?} holds the data of an earlier Store ({label}); to take it up set spec.bootstrap.adopt.storeID: {label}; to start empty, delete it: kubectl delete pvc {claim_name}"
            ),
        )),
        (None, _) => Identified::Hold(Hold::stalled(
            reason::OBJECT_CONFLICT,
            format!(
                "claim {claim_name:?} is there already and was not made for a Store; delete or rename it, or give the Store another name"
            ),
        )),
    }
}

/// The claim that is there must be this Store's. An adopted one is marked as such.
fn check_claim(store: &Store, valid: &ValidatedStore, facts: &Facts, store_id: &str) -> Option<Identified> {
    let claim = facts.claim.as_ref()?;
    let label = claim.labels().get(names::key::STORE_ID)?;
    if label != store_id {
        return Some(Identified::Hold(Hold::stalled(
            reason::OBJECT_CONFLICT,
            format!(
                "claim {:?} holds the data of {label}, this Store is {store_id}; the volume of this Store is needed under that name",
                names::claim(&valid.name)
            ),
        )));
    }
    let is_ours = claim.annotations().get(names::key::STORE_UID) == store.uid().as_ref();
    (!is_ours && claim.metadata.deletion_timestamp.is_none()).then_some(Identified::Step(Step::AdoptClaim))
}

fn source_matches(source: &Source, origin: &Origin) -> bool {
    matches!(
        (source, origin),
        (Source::Empty, Origin::Empty)
            | (Source::Backup(_), Origin::Restore { .. } | Origin::Clone { .. })
            | (Source::VolumeSnapshot(_), Origin::Clone { .. })
            | (Source::Adopt(_), Origin::Adopt)
    )
}

fn data_source_of(claim: Option<&PersistentVolumeClaim>) -> Option<String> {
    Some(claim?.spec.as_ref()?.data_source.as_ref()?.name.clone())
}

/// What fills the first volume, and the VolumeSnapshot that its claim names.
fn origin(valid: &ValidatedStore, facts: &Facts, epoch: u64) -> Result<(Origin, Option<String>), Hold> {
    let invalid = |message: String| Hold::stalled(reason::BOOTSTRAP_SOURCE_INVALID, message);
    let missing = |message: String| Hold::stalled(reason::BOOTSTRAP_SOURCE_NOT_READY, message);
    let not_ready = |message: String| Hold::waiting(reason::BOOTSTRAP_SOURCE_NOT_READY, message);
    match (&valid.bootstrap, &facts.source) {
        (Source::Empty, _) => Ok((Origin::Empty, None)),
        (Source::Adopt(_), _) => Ok((Origin::Adopt, None)),
        _ if epoch > 0 => Ok((Origin::Empty, None)),
        (Source::Backup(name), SourceFact::Backup(backup)) => {
            let status = backup.status.clone().unwrap_or_default();
            if let Some(failed) = conditions::find(&status.conditions, kind::SUCCEEDED)
                && failed.status == "False"
            {
                return Err(invalid(format!(
                    "StoreBackup {name:?} has failed ({}); name another one",
                    failed.reason
                )));
            }
            // Looked at before its readiness, which falls for the same reason and does not say which.
            let location = match &status.location {
                None => None,
                Some(location) => Some(facts.locations.get(location).and_then(Option::as_ref).ok_or_else(|| {
                    missing(format!(
                        "BackupLocation {location:?}, which holds StoreBackup {name:?}, is not in this namespace; create it"
                    ))
                })?),
            };
            if let Some(found) = location
                && let Some(moved) = status.place.as_ref().and_then(|place| place.differs_from(found))
            {
                return Err(invalid(format!(
                    "StoreBackup {name:?} lies in {moved}, but BackupLocation {:?} was changed since and names another place; set it back, or name another backup",
                    found.name_any()
                )));
            }
            if is_lost(&status) {
                return Err(invalid(format!(
                    "the data of StoreBackup {name:?} is no longer in its bucket as it was written; see its conditions, and name another backup"
                )));
            }
            if !conditions::is_true(&status.conditions, kind::READY_TO_USE) {
                return Err(not_ready(format!("waits until StoreBackup {name:?} is ready to use")));
            }
            let (Some(found), Some(path), Some(source_epoch)) = (location, status.path, status.epoch) else {
                return Err(invalid(format!(
                    "the status of StoreBackup {name:?} does not say where its data is; name another one"
                )));
            };
            let plan = RestorePlan {
                epoch: source_epoch.saturating_add(1),
                location: bucket_of(found),
                credentials_dir: names::credentials_dir(&found.name_any()),
                backup_path: path,
            };
            Ok((Origin::Restore { plan }, None))
        }
        (Source::Backup(_) | Source::VolumeSnapshot(_), SourceFact::VolumeSnapshot(Some(snapshot))) => {
            clone_origin(valid, snapshot)
        }
        (Source::Backup(name), SourceFact::VolumeSnapshot(None)) => {
            Err(invalid(format!("the VolumeSnapshot of StoreBackup {name:?} is gone; name another backup")))
        }
        (Source::VolumeSnapshot(name), SourceFact::VolumeSnapshot(None)) => Err(missing(format!(
            "spec.bootstrap.restore names VolumeSnapshot {name:?}, which is not in this namespace; create it, or correct the name"
        ))),
        (_, SourceFact::VolumeSnapshotsUnavailable) => Err(Hold::stalled(
            reason::VOLUME_SNAPSHOTS_UNAVAILABLE,
            "this cluster has no VolumeSnapshots (snapshot.storage.k8s.io/v1); install the snapshot controller and its definitions, or restore from a bucket",
        )),
        (Source::Backup(name), _) => Err(missing(format!(
            "spec.bootstrap.restore names StoreBackup {name:?}, which is not in this namespace; create it, or correct the name"
        ))),
        (Source::VolumeSnapshot(name), _) => Err(missing(format!(
            "spec.bootstrap.restore names VolumeSnapshot {name:?}, which is not in this namespace; create it, or correct the name"
        ))),
    }
}

fn clone_origin(valid: &ValidatedStore, snapshot: &SnapshotFact) -> Result<(Origin, Option<String>), Hold> {
    let name = &snapshot.name;
    if snapshot.is_deleting {
        return Err(Hold::stalled(
            reason::BOOTSTRAP_SOURCE_INVALID,
            format!("VolumeSnapshot {name:?} is being deleted; name another one"),
        ));
    }
    let size = valid.storage.as_ref().and_then(|storage| storage.size.bytes().ok());
    if let (Some(size), Some(needed)) = (size, snapshot.restore_bytes)
        && size < needed
    {
        return Err(Hold::stalled(
            reason::BOOTSTRAP_SOURCE_INVALID,
            format!(
                "VolumeSnapshot {name:?} needs a volume of {needed} bytes, spec.storage asks for {size}; create the Store with at least that size"
            ),
        ));
    }
    let (Some(store_id), Some(epoch), Some(offset)) = (&snapshot.store_id, snapshot.epoch, snapshot.offset)
    else {
        return Err(Hold::stalled(
            reason::BOOTSTRAP_SOURCE_INVALID,
            format!(
                "VolumeSnapshot {name:?} lacks the labels {}, {} and {}, so its data cannot be checked; name one that a StoreBackup has made",
                names::key::STORE_ID,
                names::key::EPOCH,
                names::key::OFFSET
            ),
        ));
    };
    if !snapshot.ready_to_use {
        let error =
            snapshot.error.as_ref().map(|error| format!("; its driver says: {error}")).unwrap_or_default();
        return Err(Hold::waiting(
            reason::BOOTSTRAP_SOURCE_NOT_READY,
            format!("waits until VolumeSnapshot {name:?} is ready to use{error}"),
        ));
    }
    let origin =
        Origin::Clone { source_store_id: store_id.clone(), source_epoch: epoch, source_offset: offset };
    Ok((origin, Some(name.clone())))
}

/// The volume is ahead of what is recorded: expected after a first start or a restore, else a person must look.
fn newer_volume(store: &Store, status: &StoreStatus, known: &Known, facts: &Facts) -> Option<Identified> {
    let volume = volume_epoch(facts, &known.store_id)?;
    if volume <= known.epoch {
        return None;
    }
    let completes_restore = status.restore.as_ref().is_some_and(|restore| restore.epoch == volume);
    let is_first = known.epoch == 0
        && match &known.origin {
            Origin::Empty => volume == 1,
            Origin::Restore { plan } => volume == plan.epoch,
            Origin::Clone { source_epoch, .. } => volume == source_epoch.saturating_add(1) || volume == 1,
            Origin::Adopt => true,
        };
    if is_first && let Some(hold) = other_backup(known, facts) {
        return Some(Identified::Hold(hold));
    }
    let accepted = accepted_epoch(store) == Some(volume);
    if completes_restore || is_first || accepted {
        return Some(Identified::Step(Step::Record(Recording::Epoch { epoch: volume, completes_restore })));
    }
    let name = store.name_any();
    Some(Identified::Hold(Hold::stalled(
        reason::VOLUME_NEWER_THAN_RECORD,
        format!(
            "the volume holds epoch {volume}, the status remembers {}: the cluster's memory may have been set back; the volume is served as it is and nothing automatic is done; if it is the right one: kubectl annotate store {name} {}={volume}",
            known.epoch,
            names::key::ACCEPT_EPOCH
        ),
    )))
}

/// The first claim was made from another source than the spec names now.
fn claim_source_conflict(valid: &ValidatedStore, known: &Known, facts: &Facts) -> Option<Identified> {
    let claim = facts.claim.as_ref().filter(|_| known.epoch == 0)?;
    let made_from = data_source_of(Some(claim));
    if made_from == known.data_source {
        return None;
    }
    let describe = |source: &Option<String>| {
        source.as_ref().map_or_else(|| "nothing".to_owned(), |name| format!("VolumeSnapshot {name:?}"))
    };
    let claim_name = names::claim(&valid.name);
    Some(Identified::Hold(Hold::stalled(
        reason::BOOTSTRAP_SOURCE_INVALID,
        format!(
            "claim {claim_name:?} was made from {}, spec.bootstrap asks for {}; set spec.bootstrap back, or delete the claim (it has never held data of this Store)",
            describe(&made_from),
            describe(&known.data_source)
        ),
    )))
}

/// The first volume was filled from a backup other than the one the spec names: the spec changed during the restore.
fn other_backup(known: &Known, facts: &Facts) -> Option<Hold> {
    let Origin::Restore { plan } = &known.origin else { return None };
    let identity = facts.server.status()?.identity.as_ref()?;
    let filled_from = identity.parent.as_ref()?.backup_path.as_ref()?;
    (*filled_from != plan.backup_path).then(|| {
        Hold::stalled(
            held::SOURCE_MISMATCH,
            format!(
                "the volume was filled from backup {filled_from:?}, and spec.bootstrap asks for {:?} now; name the former again to go on with it, or delete claim and pod to have the volume filled again",
                plan.backup_path
            ),
        )
    })
}

/// The server serves an older volume than the status remembers, which no server takes up: the status was edited, or is that of
/// another cluster. Written into the record, it would keep the server from its next start.
fn older_volume(store: &Store, known: &Known, facts: &Facts) -> Option<Identified> {
    let state = facts.server.status()?.state;
    let volume = volume_epoch(facts, &known.store_id)?;
    if volume >= known.epoch || !matches!(state, ServerState::Ready | ServerState::WritesRefused) {
        return None;
    }
    if accepted_epoch(store) == Some(volume) {
        return Some(Identified::Step(Step::Record(Recording::Epoch {
            epoch: volume,
            completes_restore: false,
        })));
    }
    let name = store.name_any();
    Some(Identified::Hold(Hold::stalled(
        reason::RECORD_MISMATCH,
        format!(
            "the status says epoch {}, and the server serves epoch {volume}: the status was edited or comes from elsewhere; nothing automatic is done; if what is served is right: kubectl annotate store {name} {}={volume}",
            known.epoch,
            names::key::ACCEPT_EPOCH
        ),
    )))
}

enum RestoreState {
    None,
    Obsolete,
    Planned(Box<RestorePlan>),
    Unknown(Hold),
}

/// The restore that the status records, as a plan for the server.
fn restore_plan(
    status: &StoreStatus,
    valid: &ValidatedStore,
    known: &Known,
    recorded: Option<&StoreRecord>,
    facts: &Facts,
) -> RestoreState {
    let Some(restore) = &status.restore else { return RestoreState::None };
    let volume_is_back = facts.server.status().is_some_and(|server| server.state == ServerState::Ready)
        && volume_epoch(facts, &known.store_id) == Some(known.epoch);
    if restore.epoch <= known.epoch || volume_is_back {
        return RestoreState::Obsolete;
    }
    // It cannot be restored: somebody has said that nothing is, or another one is the newest by now.
    let has_failed = facts.server.held_for() == Some(held::RESTORE_FAILED);
    let is_replaced = matches!(
        &facts.latest_backup, Some(Ok(Some(latest))) if latest.path != restore.backup_path
    );
    if has_failed && (valid.on_volume_loss == OnVolumeLoss::Halt || is_replaced) {
        return RestoreState::Obsolete;
    }
    if let Some(location) = facts.locations.get(&restore.location).and_then(Option::as_ref) {
        return RestoreState::Planned(Box::new(RestorePlan {
            epoch: restore.epoch,
            location: bucket_of(location),
            credentials_dir: names::credentials_dir(&restore.location),
            backup_path: restore.backup_path.clone(),
        }));
    }
    let published = recorded
        .and_then(|record| record.restore.clone())
        .filter(|plan| plan.epoch == restore.epoch && plan.backup_path == restore.backup_path);
    match published {
        Some(plan) => RestoreState::Planned(Box::new(plan)),
        None => RestoreState::Unknown(Hold::stalled(
            reason::LOCATION_NOT_FOUND,
            format!(
                "the volume is lost and backup {:?} is to be restored, but BackupLocation {:?} is not in this namespace; create it again",
                restore.backup_path, restore.location
            ),
        )),
    }
}

/// What people are told of a recorded restore that does not succeed.
fn failed_restore(plan: &RestorePlan, facts: &Facts) -> Option<Hold> {
    let decision = facts.server.status()?.decision.as_ref()?;
    (decision.reason == held::RESTORE_FAILED && facts.server.held_for().is_some()).then(|| {
        Hold::stalled(
            held::RESTORE_FAILED,
            format!(
                "{}; temporary problems are retried; to restore another one, remove backup {:?} from the bucket; to restore none, set spec.recovery.onVolumeLoss: Halt",
                decision.message, plan.backup_path
            ),
        )
    })
}

/// The server has found an empty volume although the Store has held data.
fn volume_lost(
    status: &StoreStatus,
    valid: &ValidatedStore,
    known: Known,
    facts: &Facts,
    now: Timestamp,
) -> Identified {
    let claim_name = names::claim(&valid.name);
    let halt = |reason: &str, message: String| {
        Identified::Known(Box::new(known.clone()), Some(Hold::stalled(reason, message)))
    };
    if valid.on_volume_loss == OnVolumeLoss::Halt {
        return halt(
            held::VOLUME_LOST,
            format!(
                "the volume of this Store (epoch {}) is gone and claim {claim_name:?} is empty; nothing is served; either bring the old volume back under that claim, or set spec.recovery.onVolumeLoss: RestoreLatestBackup (with spec.backup.locationRef) to restore the newest backup, or create another Store with spec.bootstrap.restore",
                known.epoch
            ),
        );
    }
    // The same claim with an empty file system is not a lost volume: a wrong mount looks like that, and so does a wipe.
    let same_claim = match (&status.claim, &facts.claim) {
        (Some(recorded), Some(claim)) => claim.metadata.uid.as_ref() == Some(&recorded.uid),
        _ => false,
    };
    if same_claim {
        return halt(
            held::VOLUME_LOST,
            format!(
                "claim {claim_name:?} is the recorded one, but its file system holds none of the data (epoch {}); a backup is restored only onto a new claim; if the data is gone for good: kubectl delete pvc {claim_name} and then the pod",
                known.epoch
            ),
        );
    }
    let Some(location) = &valid.backup_location else {
        return halt(reason::NO_LOCATION, "spec.backup.locationRef names no location to restore from".into());
    };
    match &facts.latest_backup {
        None => halt(
            reason::LOCATION_NOT_FOUND,
            format!(
                "the volume is lost and is to be restored, but BackupLocation {location:?} is not in this namespace; create it"
            ),
        ),
        Some(Err(problem)) => halt(
            &problem.reason,
            format!(
                "the volume is lost and is to be restored, but location {location:?} cannot be read: {}",
                problem.message
            ),
        ),
        Some(Ok(None)) => halt(
            reason::NO_BACKUP_TO_RESTORE,
            format!(
                "the volume is lost and location {location:?} holds no backup of {}; nothing is served; bring the old volume back under claim {claim_name:?}, or delete this Store and create it again",
                known.store_id
            ),
        ),
        Some(Ok(Some(latest))) => {
            let cut = i64::try_from(latest.cut_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
            Identified::Step(Step::Record(Recording::Restore(RestoreStatus {
                location: location.clone(),
                backup_path: latest.path.clone(),
                cut_time: Time(cut.unwrap_or(Timestamp::UNIX_EPOCH)),
                // Greater than every epoch that the Store has had, wherever it is remembered.
                epoch: known.epoch.max(latest.epoch).saturating_add(1),
                start_time: Time(now),
                completion_time: None,
            })))
        }
    }
}
