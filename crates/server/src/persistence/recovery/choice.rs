//! Which of the files that are there holds the newest data.

use std::io;
use std::path::Path;

use super::{LiveLog, RecoverError, Recovery, Source};
use crate::engine::value::Entry;
use crate::persistence::manifest::{FileKind, LiveFile, MANIFEST_LEN_MAX, Manifest};
use crate::persistence::snapshot::{BoxError, RdbReader, RdbVisitor, ReadRdbError, SnapshotAux};
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
        let path = self.options.dir.join(&self.options.snapshot_name);
        let present = self.list(&self.options.dir)?;
        match present.iter().find(|entry| entry.name == self.options.snapshot_name) {
            None => Ok(None),
            Some(entry) if entry.is_directory => Err(RecoverError::SnapshotIsDirectory { path }),
            Some(_) => self.peek(&path).map(|peek| Some(peek.aux)),
        }
    }

    /// The auxiliary fields of an RDB, and whether there is anything in it.
    pub(super) fn peek(&self, path: &Path) -> Result<Peek, RecoverError> {
        let mut peek = Peek::default();
        let reader = Self::storage_error("open", path, self.storage.open_read(path))?;
        // The visitor stops at the first thing that is not an auxiliary field; a damaged file shows when it is loaded.
        peek.is_readable = match RdbReader::new(reader).read(&mut peek) {
            Ok(_) => true,
            Err(error) => matches!(error, ReadRdbError::Refused { .. }),
        };
        Ok(peek)
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
                let summary = self.scan_last_segment(live)?;
                Ok(if summary.is_none_or(|summary| offset <= summary.end_offset) {
                    Source::Log
                } else {
                    Source::Snapshot
                })
            }
            _ => {
                let summary = self.scan_last_segment(live)?;
                let foreign_log = summary.as_ref().is_none_or(|summary| summary.foreign_commands > 0);
                let log_s = summary.as_ref().map_or(0, |summary| {
                    let started = summary.header.as_ref().map(|header| header.started_ms);
                    summary.last_time_ms.or(started).unwrap_or(0) / 1000
                });
                if !foreign_log && snapshot.created_s > log_s {
                    return Err(RecoverError::Ambiguous {
                        snapshot: self.options.dir.join(&self.options.snapshot_name),
                        log: self.options.log.directory.clone(),
                        snapshot_s: snapshot.created_s,
                        log_s,
                    });
                }
                Ok(Source::Log)
            }
        }
    }

    /// True when the snapshot is of the Store that starts.
    fn is_own(&self, snapshot: &SnapshotAux) -> bool {
        let own = self.options.identity.as_ref().map(|identity| &identity.store_id);
        own.is_some() && snapshot.store_id.as_ref() == own
    }

    /// Which is newer, when an upstream server has written the log.
    fn choose_foreign(&self, live: &LiveLog, snapshot: &SnapshotAux) -> Result<Source, RecoverError> {
        if !self.is_own(snapshot) {
            // An upstream server keeps the log current while it has one.
            return Ok(Source::Log);
        }
        let path = self.options.dir.join(&self.options.snapshot_name);
        if live.single_file {
            // Servers that write such a file cannot read our snapshot: it was there before, and was taken over.
            tracing::warn!(
                file = ?self.options.dir.join(&self.options.log.name),
                snapshot = ?path,
                "ignoring the log of a server before Redis 7: the snapshot was made from it; it may be removed"
            );
            return Ok(Source::Snapshot);
        }
        // Redis starts empty when it is given a snapshot and no log, and then begins a log with number 1.
        if let Some(base) = live.manifest.base.as_ref().filter(|base| base.seq == 1) {
            let log_s = self.peek(&self.options.log.file(base))?.aux.created_s;
            if log_s > snapshot.created_s {
                return Err(RecoverError::BegunBeside {
                    snapshot: path,
                    log: self.options.log.directory.clone(),
                    snapshot_s: snapshot.created_s,
                    log_s,
                });
            }
        }
        Ok(Source::Log)
    }
}

/// Reads the auxiliary fields and stops at what follows them.
#[derive(Default)]
pub(super) struct Peek {
    pub(super) aux: SnapshotAux,
    /// There is at least one key.
    pub(super) has_keys: bool,
    /// What was read of it is an RDB.
    pub(super) is_readable: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the auxiliary fields have ended")]
struct PeekEnded;

impl RdbVisitor for Peek {
    fn aux(&mut self, name: &str, value: &str) -> Result<(), BoxError> {
        self.aux.set(name, value);
        Ok(())
    }

    fn entry(&mut self, _entry: Entry) -> Result<(), BoxError> {
        self.has_keys = true;
        Err(PeekEnded.into())
    }
}
