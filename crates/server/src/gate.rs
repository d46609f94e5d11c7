//! What must be settled before a byte of data is touched: whose volume it is, and whether it may be written.
//!
//! Without a record (outside Kubernetes) a directory belongs to who finds it. With one (`store-record-file`) the table of
//! [`crate::backup::decide`] rules; this module gathers its facts and does what it says. Every step can be repeated, so
//! the init container and the server walk the same way, and a server that was refused walks it again when the record
//! changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holdfast_bucket::BucketError;
use holdfast_contract::identity::{IDENTITY_VERSION, Identity};
use holdfast_contract::record::{DecisionKind, DecisionReport, StoreRecord, reason};

use crate::backup::decide::{Action, VolumeState, decide, may_write};
use crate::backup::restore::{Restore, RestoreProgress, Restored, open_plan, restore_into};
use crate::backup::volume::inspect;
use crate::clock::unix_ms;
use crate::config::Config;
use crate::error_chain::error_chain;
use crate::persistence::identity::write_identity;
use crate::storage::{LOCK_FILE, SIDE_PREFIX, Storage, StorageLock, create_dir_durably, read_all};

/// Longest record that is read, in bytes.
const RECORD_LEN_MAX: u64 = 64 << 10;
/// A refusal whose cause may pass by itself is tried again after this time.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// Longest time between two attempts of a restore: each may download the whole backup.
const RESTORE_RETRY_MAX: Duration = Duration::from_secs(300);

/// The way is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Whose data it is. On the volume already, unless `stamp` or `is_new`.
    pub identity: Identity,
    /// Recover to exactly this offset and then write the identity (a clone of a volume snapshot).
    pub stamp: Option<u64>,
    /// What was decided; absent without a record.
    pub report: Option<DecisionReport>,
    /// The epoch is not recorded outside the volume: no write may be accepted before it is.
    pub(crate) awaits_record: bool,
}

/// The way is not free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// What was decided, or a volume that cannot be used.
    Held(DecisionReport),
    /// A restore was decided and failed.
    NotRestored {
        /// Why.
        report: DecisionReport,
        /// Whether the same plan may succeed later.
        may_pass: bool,
    },
}

impl From<DecisionReport> for Refused {
    fn from(report: DecisionReport) -> Self {
        Self::Held(report)
    }
}

impl Refused {
    /// What is told of it.
    #[must_use]
    pub fn report(&self) -> &DecisionReport {
        let (Self::Held(report) | Self::NotRestored { report, .. }) = self;
        report
    }

    /// After which time to try again although the record stays as it is; none when only another record can help. `attempts` have
    /// failed before in the same way.
    #[must_use]
    pub(crate) fn retry_pause(&self, attempts: u32) -> Option<Duration> {
        let passing =
            [reason::STORAGE_FAILED, "DirectoryUnusable", "PasswordMissing", reason::RECORD_UNREADABLE];
        match self {
            Self::Held(report) => passing.contains(&report.reason.as_str()).then_some(RETRY_INTERVAL),
            Self::NotRestored { may_pass, .. } => {
                may_pass.then(|| (RETRY_INTERVAL * (1 << attempts.min(16))).min(RESTORE_RETRY_MAX))
            }
        }
    }
}

/// Facts that do not change while the process lives.
pub struct Gate {
    /// The file system.
    pub storage: Arc<dyn Storage>,
    /// The data directory.
    pub dir: PathBuf,
    /// The mounted record.
    pub record_file: Option<PathBuf>,
    /// Name of this instance.
    pub instance: String,
    /// Name of the snapshot in the data directory.
    pub snapshot_name: String,
    /// Where the credentials of backup locations are mounted.
    pub credentials_dir: PathBuf,
}

impl Gate {
    /// The gate of a configuration.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>, config: &Config) -> Self {
        let instance = if config.instance_name.is_empty() {
            rustix::system::uname().nodename().to_string_lossy().into_owned()
        } else {
            config.instance_name.clone()
        };
        Self {
            storage,
            dir: config.dir.clone(),
            record_file: config.store_record_file.clone(),
            instance,
            snapshot_name: config.dbfilename.clone(),
            credentials_dir: config.credentials_dir.clone(),
        }
    }

    /// With a record, the volume is one level above the data directory, so that a restore is one rename.
    fn root(&self) -> Option<&Path> {
        self.record_file.as_ref().and(self.dir.parent())
    }

    /// Makes the directory that holds the lock, and takes the lock: one process at a time works on a volume.
    ///
    /// # Errors
    /// A refusal that names the directory.
    pub fn lock(&self) -> Result<Box<dyn StorageLock>, DecisionReport> {
        let (directory, name) = match self.root() {
            Some(root) => (root, format!("{SIDE_PREFIX}lock")),
            None => (self.dir.as_path(), LOCK_FILE.to_owned()),
        };
        let path = directory.join(name);
        create_dir_durably(&*self.storage, directory).and_then(|()| self.storage.lock(&path)).map_err(|error| {
            let message = if error.kind() == std::io::ErrorKind::WouldBlock {
                format!(
                    "Another process works on the data directory {directory:?} and holds its lock {path:?}. Nothing was \
                     changed. Stop it, or give this server another directory (dir)."
                )
            } else {
                format!(
                    "The data directory {directory:?} cannot be used: {path:?}: {error}. Check that it is there, that \
                     the volume is mounted, and that the user of this server may write to it (chown)."
                )
            };
            hold("DirectoryUnusable", message)
        })
    }

    /// The record as it is mounted; an error text when there should be one and it cannot be read.
    #[must_use]
    pub(crate) fn mounted_record(&self) -> Option<Result<StoreRecord, String>> {
        let path = self.record_file.as_ref()?;
        Some(
            read_all(&*self.storage, path, RECORD_LEN_MAX)
                .map_err(|error| format!("{path:?}: {error}"))
                .and_then(|bytes| {
                    serde_json::from_slice(&bytes).map_err(|error| format!("{path:?}: {error}"))
                }),
        )
    }

    /// The record to go by: the mounted one, or one that was sent and is not older.
    fn record(&self, sent: Option<&StoreRecord>) -> Option<Result<StoreRecord, String>> {
        let mounted = self.mounted_record()?;
        Some(match (mounted, sent) {
            // The mount follows with a delay, so at the same epoch what was sent is the newer one, as long as it is not forgotten.
            (Ok(mounted), Some(sent)) if mounted.store_id == sent.store_id && mounted.epoch > sent.epoch => {
                Ok(mounted)
            }
            (_, Some(sent)) => Ok(sent.clone()),
            (mounted, None) => mounted,
        })
    }

    /// Decides and does what was decided, up to the point where data is loaded.
    ///
    /// # Errors
    /// The refusal: nothing may be written, and why.
    pub async fn pass(
        &self,
        sent: Option<&StoreRecord>,
        progress: &RestoreProgress,
    ) -> Result<Passed, Refused> {
        let Some(record) = self.record(sent) else { return Ok(self.pass_alone()?) };
        let volume = inspect(&*self.storage, &self.dir, self.root());
        let decision = decide(record.as_ref().map_err(String::as_str), &volume);
        tracing::info!(
            decision = ?decision.report.decision,
            reason = decision.report.reason,
            "{}",
            decision.report.message
        );
        let Ok(record) = record else { return Err(decision.report.into()) };
        let (identity, stamp) = match decision.action {
            Action::Hold => return Err(decision.report.into()),
            Action::Keep => match volume {
                VolumeState::Identity(identity) => (identity, None),
                _ => {
                    let message = "The identity of the volume vanished.".to_owned();
                    return Err(hold(reason::DAMAGED_IDENTITY, message).into());
                }
            },
            Action::Initialise { store_id, epoch } => {
                let identity = self.new_identity(store_id, epoch, false);
                self.write(&identity)?;
                (identity, None)
            }
            Action::Stamp { store_id, epoch, stop_at, parent } => {
                let mut identity = self.new_identity(store_id, epoch, false);
                identity.parent = Some(parent);
                identity.last_offset = stop_at;
                identity.durable_offset = stop_at;
                (identity, Some(stop_at))
            }
            Action::Restore(plan) => {
                // Its keys may be mounted later, or be corrected.
                let unopened = |error: BucketError| Refused::NotRestored {
                    report: hold(reason::RESTORE_FAILED, error_chain(&error)),
                    may_pass: true,
                };
                let bucket = open_plan(&plan, &self.credentials_dir).map_err(unopened)?;
                let restored = restore_into(Restore {
                    storage: Arc::clone(&self.storage),
                    bucket: &bucket,
                    plan: &plan,
                    store_id: &record.store_id,
                    instance: &self.instance,
                    dir: &self.dir,
                    snapshot_name: &self.snapshot_name,
                    progress,
                    now_ms: unix_ms(),
                })
                .await
                .map_err(|error| Refused::NotRestored {
                    report: error.report(),
                    may_pass: error.may_pass(),
                })?;
                match restored {
                    Restored::Done { identity, keys, bytes } => {
                        tracing::info!(keys, bytes, backup = plan.backup_path, "backup restored");
                        (identity, None)
                    }
                    Restored::AlreadyDone { identity } => (identity, None),
                }
            }
        };
        let awaits_record = !may_write(&identity, &record);
        Ok(Passed { identity, stamp, report: Some(decision.report), awaits_record })
    }

    fn pass_alone(&self) -> Result<Passed, DecisionReport> {
        let identity = match inspect(&*self.storage, &self.dir, None) {
            VolumeState::Identity(identity) => identity,
            // Files of a Redis server, or none: whose they are is settled by who starts on them.
            VolumeState::Empty | VolumeState::UnknownData { .. } => {
                self.new_identity(uuid::Uuid::new_v4().to_string(), 1, true)
            }
            VolumeState::DamagedIdentity { why } => {
                let identity_file = self.dir.join(holdfast_contract::identity::IDENTITY_FILE);
                let message = format!(
                    "The identity of the data directory cannot be read ({why}). Nothing was changed. Put the file back \
                     from a copy; or, if you are sure whose data this is, move {identity_file:?} away: the data is then \
                     loaded without knowing how far it should go."
                );
                return Err(hold(reason::DAMAGED_IDENTITY, message));
            }
        };
        Ok(Passed { identity, stamp: None, report: None, awaits_record: false })
    }

    fn new_identity(&self, store_id: String, epoch: u64, granted: bool) -> Identity {
        Identity {
            version: IDENTITY_VERSION,
            store_id,
            instance: self.instance.clone(),
            epoch,
            last_offset: 0,
            durable_offset: 0,
            granted,
            clean_shutdown: false,
            has_log: None,
            parent: None,
            written_ms: unix_ms(),
        }
    }

    /// Writes an identity, with the directory when it is missing.
    ///
    /// # Errors
    /// A refusal that names the directory.
    pub(crate) fn write(&self, identity: &Identity) -> Result<(), DecisionReport> {
        create_dir_durably(&*self.storage, &self.dir)
            .and_then(|()| write_identity(&*self.storage, &self.dir, identity))
            .map_err(|error| {
                let message = format!(
                    "The identity in {:?} cannot be written: {error}. Check the volume and its space.",
                    self.dir
                );
                hold("DirectoryUnusable", message)
            })
    }
}

/// A refusal.
#[must_use]
pub(crate) fn hold(reason: &str, message: String) -> DecisionReport {
    DecisionReport { decision: DecisionKind::Hold, reason: reason.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_and_restores_with_growing_pauses() {
        let check = |refused: Refused, attempts, expected: Option<u64>| {
            assert_eq!(
                refused.retry_pause(attempts),
                expected.map(Duration::from_secs),
                "{refused:?}, {attempts}"
            );
        };
        let report = |reason: &str| hold(reason, String::new());
        check(report(reason::STORAGE_FAILED).into(), 9, Some(10));
        check(report("PasswordMissing").into(), 0, Some(10));
        check(report(reason::DATA_DAMAGED).into(), 0, None);
        check(report(reason::UNKNOWN_DATA).into(), 0, None);
        let not_restored =
            |may_pass| Refused::NotRestored { report: report(reason::RESTORE_FAILED), may_pass };
        for (attempts, pause) in [(0, 10), (1, 20), (2, 40), (4, 160), (5, 300), (u32::MAX, 300)] {
            check(not_restored(true), attempts, Some(pause));
        }
        check(not_restored(false), 0, None);
    }
}
