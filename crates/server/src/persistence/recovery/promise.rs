//! What the identity promises: which sources cannot go on from where the data ended, known before anything is loaded.
//!
//! Files of our own are compared by their offsets once they are loaded. Those of another server have none: they may have
//! gone on from our data, and then they are younger than our last word.

use std::path::PathBuf;

use holdfast_contract::identity::{IDENTITY_FILE, Identity};

use super::{LiveLog, RecoverError, Recovery, Source};
use crate::persistence::snapshot::SnapshotAux;

impl Recovery<'_> {
    /// Stream offset up to which the data must be there.
    pub(super) fn promised_offset(&self) -> u64 {
        let Some(identity) = &self.options.identity else { return 0 };
        if identity.clean_shutdown { identity.last_offset } else { identity.durable_offset }
    }

    /// The identity, when data must be there by its word.
    fn promise(&self) -> Option<&Identity> {
        if self.options.stop_at.is_some() {
            // Less than what was there is wanted, and the identity is that of the new Store.
            return None;
        }
        let is_promise = |identity: &&Identity| self.promised_offset() > 0 || identity.has_log == Some(true);
        self.options.identity.as_ref().filter(is_promise)
    }

    /// Refuses to start from files that do not hold what was promised. `is_given_up`: the manifest was put away, which a
    /// server does when all of its log is in the snapshot.
    pub(super) fn check_promise(
        &self,
        source: Source,
        live: Option<&LiveLog>,
        snapshot: Option<&SnapshotAux>,
        is_given_up: bool,
    ) -> Result<(), RecoverError> {
        let Some(identity) = self.promise() else { return Ok(()) };
        let is_given_up = is_given_up
            && source == Source::Snapshot
            && snapshot.is_some_and(|snapshot| self.is_kin(snapshot));
        if source == Source::Snapshot && !self.peek(&self.snapshot_path())?.is_readable {
            // What it says of itself is not known; the load says what is wrong with it.
            return Ok(());
        }
        if let (Source::Snapshot, Some(snapshot)) = (source, snapshot)
            && let Some(found) = snapshot.store_id.as_ref().filter(|_| !self.is_kin(snapshot))
        {
            return Err(self.other_store(self.snapshot_path(), found, identity));
        }
        let has_manifest = live.is_some_and(|live| !live.single_file);
        if identity.has_log == Some(true) && !has_manifest && !is_given_up {
            self.check_without_log(identity, source, snapshot)?;
        }
        match (source, live, snapshot) {
            (Source::Snapshot, _, Some(snapshot)) if !self.is_kin(snapshot) => {
                self.check_age(self.snapshot_path(), snapshot.created_s, identity)
            }
            (Source::Log, Some(live), _) if live.single_file => Err(RecoverError::Superseded {
                path: self.log_path(live),
                identity: self.identity_path(),
                written_s: identity.written_ms / 1000,
            }),
            (Source::Log, Some(live), _) if live.manifest.owner.is_none() => {
                let Some(base) = &live.manifest.base else { return Ok(()) };
                let path = self.live_file(live, base);
                let peek = self.peek(&path)?;
                // A base of commands alone does not say when it was made; from one of ours offsets are counted on.
                if !peek.is_readable || self.is_kin(&peek.aux) {
                    return Ok(());
                }
                self.check_age(path, peek.aux.created_s, identity)
            }
            _ => Ok(()),
        }
    }

    /// Refuses a log of another Store: it never went on from our data, and its offsets say nothing of ours.
    pub(super) fn check_log_owner(&self, live: Option<&LiveLog>) -> Result<(), RecoverError> {
        let owner = live.and_then(|live| live.manifest.owner.as_ref());
        match (self.promise(), owner) {
            (Some(identity), Some(owner)) if owner.store_id != identity.store_id => {
                Err(self.other_store(self.options.log.manifest(), &owner.store_id, identity))
            }
            _ => Ok(()),
        }
    }

    fn other_store(&self, path: PathBuf, found: &str, identity: &Identity) -> RecoverError {
        RecoverError::OtherStore {
            path,
            found: found.to_owned(),
            expected: identity.store_id.clone(),
            identity: self.identity_path(),
        }
    }

    /// The log that was live is not there. Until a clean stop the identity does not know how far it went, so no snapshot
    /// stands in for it; after one, offsets decide when the data are loaded.
    fn check_without_log(
        &self,
        identity: &Identity,
        source: Source,
        snapshot: Option<&SnapshotAux>,
    ) -> Result<(), RecoverError> {
        let is_compared = match source {
            Source::Snapshot => {
                identity.clean_shutdown && snapshot.is_some_and(|snapshot| self.is_kin(snapshot))
            }
            Source::Nothing => self.promised_offset() > 0,
            Source::Log => false,
        };
        if is_compared {
            return Ok(());
        }
        let instead = match source {
            Source::Snapshot => format!("snapshot {:?}, which may be older,", self.snapshot_path()),
            Source::Log => format!("{:?}, which is older,", self.options.dir.join(&self.options.log.name)),
            Source::Nothing => "nothing".to_owned(),
        };
        Err(RecoverError::LogMissing {
            log: self.options.log.manifest(),
            instead,
            identity: self.identity_path(),
        })
    }

    /// A file that was made before our last word cannot hold what came until then.
    fn check_age(&self, path: PathBuf, created_s: u64, identity: &Identity) -> Result<(), RecoverError> {
        let written_s = identity.written_ms / 1000;
        if created_s < written_s {
            return Err(RecoverError::Outdated {
                path,
                created_s,
                written_s,
                identity: self.identity_path(),
            });
        }
        Ok(())
    }

    pub(super) fn snapshot_path(&self) -> PathBuf {
        self.options.dir.join(&self.options.snapshot_name)
    }

    pub(super) fn identity_path(&self) -> PathBuf {
        self.options.dir.join(IDENTITY_FILE)
    }
}
