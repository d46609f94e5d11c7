//! Which of the files that are there holds the newest data.

use std::io;
use std::path::{Path, PathBuf};

use super::{LiveLog, RecoverError, Recovery, Source};
use crate::persistence::aside::{Peek, is_kin, peek, set_aside};
use crate::persistence::manifest::{FileKind, LiveFile, MANIFEST_LEN_MAX, Manifest};
use crate::persistence::snapshot::SnapshotAux;
use crate::storage::read_all;

impl Recovery<'_> {
    pub(super) fn find_log(&self) -> Result<Option<LiveLog>, RecoverError> {
        let paths = &self.options.log;
        let manifest_path = paths.manifest();
        let bytes = match read_all(self.storage, &manifest_path, MANIFEST_LEN_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.find_log_without_manifest(),
            Err(source) => {
                return Err(RecoverError::Storage { action: "read manifest", path: manifest_path, source });
            }
        };
        let manifest = Manifest::decode(&bytes)
            .map_err(|source| RecoverError::Manifest { path: manifest_path, source })?;
        let present = self.list(&paths.directory)?;
        for file in manifest.base.iter().chain(&manifest.incrementals) {
            if !present.iter().any(|entry| entry.name == file.name && !entry.is_directory) {
                return Err(RecoverError::FileMissing { path: paths.file(file) });
            }
        }
        Ok(Some(LiveLog { manifest, single_file: false }))
    }

    fn find_log_without_manifest(&self) -> Result<Option<LiveLog>, RecoverError> {
        let paths = &self.options.log;
        let single = self
            .list(&self.options.dir)?
            .into_iter()
            .any(|entry| entry.name == paths.name && !entry.is_directory);
        Ok(single.then(|| LiveLog {
            manifest: Manifest {
                base: Some(LiveFile { name: paths.name.clone(), seq: 1, kind: FileKind::Base }),
                ..Manifest::default()
            },
            single_file: true,
        }))
    }

    pub(super) fn find_snapshot(&self) -> Result<Option<SnapshotAux>, RecoverError> {
        let path = self.snapshot_path();
        let present = self.list(&self.options.dir)?;
        match present.iter().find(|entry| entry.name == self.options.snapshot_name) {
            None => Ok(None),
            Some(entry) if entry.is_directory => Err(RecoverError::SnapshotIsDirectory { path }),
            Some(_) => self.peek(&path).map(|peek| Some(peek.aux)),
        }
    }

    /// The auxiliary fields of an RDB, and whether there is anything in it.
    pub(super) fn peek(&self, path: &Path) -> Result<Peek, RecoverError> {
        Self::storage_error("open", path, peek(self.storage, path))
    }

    /// Which of log and snapshot is newer.
    pub(super) fn choose(
        &self,
        live: Option<&LiveLog>,
        snapshot: Option<&SnapshotAux>,
    ) -> Result<Source, RecoverError> {
        let (live, snapshot) = match (live, snapshot) {
            (None, None) => return Ok(Source::Nothing),
            (Some(_), None) => return Ok(Source::Log),
            (None, Some(_)) => return Ok(Source::Snapshot),
            (Some(live), Some(snapshot)) => (live, snapshot),
        };
        let Some(owner) = &live.manifest.owner else { return self.choose_foreign(live, snapshot) };
        if self.options.stop_at.is_some_and(|wanted| self.is_own(snapshot) && snapshot.offset == Some(wanted))
        {
            // A clone whose data is in its own snapshot already, and whose log is still that of its source.
            return Ok(Source::Snapshot);
        }
        match (&snapshot.store_id, snapshot.epoch, snapshot.offset) {
            (Some(store_id), Some(epoch), Some(offset)) if *store_id == owner.store_id => {
                if epoch != owner.epoch {
                    return Ok(if epoch > owner.epoch { Source::Snapshot } else { Source::Log });
                }
                let Some(summary) = self.scan_last_segment(live)? else { return Ok(Source::Log) };
                // In a first life the snapshot of a takeover that was cut short has no greater epoch: it holds all of the log.
                let is_of_takeover = offset == summary.end_offset && self.last_known_offset() == 0;
                if offset <= summary.own_end_offset || is_of_takeover {
                    return Ok(Source::Log);
                }
                // A segment without our header does not tell who wrote a command.
                if summary.header.is_some() && summary.foreign_commands > 0 {
                    // Their bytes may count up to the snapshot and beyond, and nothing of that is in it.
                    return Err(RecoverError::GoneOnBeside {
                        snapshot: self.snapshot_path(),
                        log: self.options.log.directory.clone(),
                        identity: self.identity_path(),
                    });
                }
                Ok(Source::Snapshot)
            }
            // From before the Store was made, whatever the clocks say.
            _ if !self.is_own(snapshot) && self.is_kin(snapshot) => Ok(Source::Log),
            _ => {
                let summary = self.scan_last_segment(live)?;
                let foreign_log = summary.as_ref().is_none_or(|summary| summary.foreign_commands > 0);
                let log_s = summary.as_ref().map_or(0, |summary| {
                    let started = summary.header.as_ref().map(|header| header.started_ms);
                    summary.last_time_ms.or(started).unwrap_or(0) / 1000
                });
                // Whoever writes a log with commands of its own keeps it current, unless it was switched off.
                let is_current = foreign_log && self.options.log_is_configured != Some(false);
                if !is_current && snapshot.created_s > log_s {
                    return Err(RecoverError::Ambiguous {
                        snapshot: self.snapshot_path(),
                        log: self.options.log.directory.clone(),
                        snapshot_s: snapshot.created_s,
                        log_s,
                    });
                }
                self.tell_not_loaded(snapshot);
                Ok(Source::Log)
            }
        }
    }

    fn tell_not_loaded(&self, snapshot: &SnapshotAux) {
        tracing::warn!(
            snapshot = ?self.snapshot_path(),
            created_s = snapshot.created_s,
            "a snapshot that this server has not written lies beside the log and is not loaded: it is kept under another name \
             before a snapshot of this server takes its place; to start from it, move the log away"
        );
    }

    /// True when the snapshot is of the Store that starts.
    fn is_own(&self, snapshot: &SnapshotAux) -> bool {
        let own = self.options.identity.as_ref().map(|identity| &identity.store_id);
        own.is_some() && snapshot.store_id.as_ref() == own
    }

    /// True when the snapshot is of the Store that starts, or what it was made from.
    pub(super) fn is_kin(&self, snapshot: &SnapshotAux) -> bool {
        let identity = self.options.identity.as_ref();
        identity.is_some_and(|identity| is_kin(snapshot, &identity.store_id, identity.parent.as_ref()))
    }

    /// When an upstream server has written both. It keeps the log current while it has one, and never removes one that
    /// it has no more: `appendonly` says which of the two it would load.
    fn choose_among_foreign(&self, live: &LiveLog, snapshot: &SnapshotAux) -> Result<Source, RecoverError> {
        let (log, path) = (self.log_path(live), self.snapshot_path());
        let identity = self.options.identity.as_ref();
        // A log that was live when we ran here last is no leftover.
        if self.options.log_is_configured == Some(true)
            || identity.is_some_and(|identity| identity.has_log == Some(true))
        {
            self.tell_not_loaded(snapshot);
            return Ok(Source::Log);
        }
        let log_s = match &live.manifest.base {
            Some(base) => self.peek(&self.live_file(live, base))?.aux.created_s,
            None => 0,
        };
        let snapshot_s = snapshot.created_s;
        match self.options.log_is_configured {
            // Here the default is a log, and there it is none.
            None if snapshot_s > log_s => {
                Err(RecoverError::LogNotMentioned { snapshot: path, log, snapshot_s, log_s })
            }
            None => {
                self.tell_not_loaded(snapshot);
                Ok(Source::Log)
            }
            Some(_) if log_s > snapshot_s => {
                Err(RecoverError::LogNotConfigured { snapshot: path, log, snapshot_s, log_s })
            }
            Some(_) => Ok(Source::Snapshot),
        }
    }

    /// True for a log that is left where a snapshot is loaded, and that nothing of ours replaces.
    pub(super) fn is_passed_over(&self, live: &LiveLog, snapshot: Option<&SnapshotAux>) -> bool {
        live.manifest.owner.is_none() && !snapshot.is_some_and(|snapshot| self.is_kin(snapshot))
    }

    /// Gives a log that was not loaded another name.
    pub(super) fn set_log_aside(&self, live: &LiveLog) -> Result<(), RecoverError> {
        let log = self.log_path(live);
        let kept_at = Self::storage_error("set aside", &log, set_aside(self.storage, &log))?;
        tracing::warn!(
            ?log,
            ?kept_at,
            snapshot = ?self.options.snapshot_name,
            "appendonly is no, so the snapshot was loaded, as by Redis; the log of another server beside it was not, and is \
             kept under another name: remove it when it is not needed"
        );
        Ok(())
    }

    /// What holds a log: its directory, or the single file.
    pub(super) fn log_path(&self, live: &LiveLog) -> PathBuf {
        let log = &self.options.log;
        if live.single_file { self.options.dir.join(&log.name) } else { log.directory.clone() }
    }

    pub(super) fn live_file(&self, live: &LiveLog, file: &LiveFile) -> PathBuf {
        if live.single_file { self.log_path(live) } else { self.options.log.file(file) }
    }

    /// Which is newer, when an upstream server has written the log.
    fn choose_foreign(&self, live: &LiveLog, snapshot: &SnapshotAux) -> Result<Source, RecoverError> {
        if !self.is_kin(snapshot) {
            return self.choose_among_foreign(live, snapshot);
        }
        let path = self.snapshot_path();
        if live.single_file {
            // Servers that write such a file cannot read our snapshot: it was there before, and was taken over.
            tracing::warn!(
                file = ?self.options.dir.join(&self.options.log.name),
                snapshot = ?path,
                "ignoring the log of a server before Redis 7: the snapshot was made from it; it may be removed"
            );
            return Ok(Source::Snapshot);
        }
        if self.is_begun_beside(live, snapshot)? {
            return Err(RecoverError::BegunBeside {
                snapshot: path,
                log: self.options.log.directory.clone(),
                snapshot_s: snapshot.created_s,
            });
        }
        Ok(Source::Log)
    }

    /// Redis starts empty when it is given a snapshot and no log, and then begins a log of its own, with number 1.
    fn is_begun_beside(&self, live: &LiveLog, snapshot: &SnapshotAux) -> Result<bool, RecoverError> {
        if self.options.identity.as_ref().and_then(|identity| identity.has_log) == Some(false) {
            // There was no log to go on with when we ran here last, whatever number it has by now.
            return Ok(true);
        }
        let Some(base) = live.manifest.base.as_ref().filter(|base| base.seq == 1) else { return Ok(false) };
        Ok(self.peek(&self.options.log.file(base))?.aux.created_s > snapshot.created_s)
    }
}
