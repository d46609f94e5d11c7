//! Files of the log that no manifest names.
//!
//! A change of the log that was cut short leaves some: a segment that was not yet live holds nothing but its header, a
//! base that was not yet or is no longer live holds nothing that what is live does not hold as well. A manifest that was
//! lost, or replaced by an older one, leaves files that look alike and hold more. So nothing is removed by its name:
//! first it is known what it holds, and that the recovered data reach as far.

use std::io::{self, Read as _};
use std::path::Path;

use super::{LiveLog, RecoverError, Recovered, Recovery, Source};
use crate::persistence::aside::set_aside;
use crate::persistence::identity::TEMP_IDENTITY;
use crate::persistence::log::record::{LINE_LEN_MAX, SegmentHeader};
use crate::persistence::manifest::{FileKind, MANIFEST_LEN_MAX, Manifest};
use crate::persistence::snapshot::{SnapshotAux, TEMP_SNAPSHOT};
use crate::storage::{DirectoryEntry, read_all};

/// What is in the log directory besides the live log.
#[derive(Default)]
pub(super) struct Strays {
    /// There is a manifest.
    has_manifest: bool,
    /// Parts of a log: to be removed when all is well.
    parts: Vec<String>,
    /// Parts of the logs of others: to be set aside when all is well.
    aside: Vec<String>,
    /// Those of them that are bases, with what they hold.
    bases: Vec<StrayBase>,
    /// Files of a log that was given up, whose removal was cut short.
    retired: Option<Vec<String>>,
}

impl Strays {
    /// True when the log was put away because its data are in the snapshot.
    pub(super) fn is_log_given_up(&self) -> bool {
        self.retired.is_some()
    }

    /// The files of a log that was given up, none without one.
    pub(super) fn take_retired(&mut self) -> Option<Vec<String>> {
        self.retired.take()
    }
}

struct StrayBase {
    name: String,
    offset: u64,
    has_keys: bool,
}

impl Recovery<'_> {
    /// Looks at every part of a log that is not live.
    ///
    /// # Errors
    /// [`RecoverError::ManifestMissing`] or [`RecoverError::ManifestStale`] when a segment holds writes, or a base that does
    /// not say up to which offset.
    pub(super) fn find_strays(&self, live: Option<&LiveLog>) -> Result<Strays, RecoverError> {
        let mut strays = Strays::default();
        let manifest = live.filter(|live| !live.single_file).map(|live| &live.manifest);
        if let Some(manifest) = manifest.filter(|manifest| manifest.owner.is_none()) {
            return self.find_foreign_strays(manifest);
        }
        strays.has_manifest = manifest.is_some();
        let retired = self.read_retired()?;
        strays.retired = retired.is_some().then(Vec::new);
        let last_seq = manifest.and_then(|manifest| manifest.incrementals.last()).map(|file| file.seq);
        let base_seq = manifest.and_then(|manifest| manifest.base.as_ref()).map(|base| base.seq);
        let owner = manifest.and_then(|manifest| manifest.owner.as_ref());
        let is_ours = |aux: &SnapshotAux| {
            self.is_kin(aux) || owner.is_some_and(|owner| aux.store_id.as_ref() == Some(&owner.store_id))
        };
        for entry in self.list(&self.options.log.directory)? {
            let Some((seq, is_base)) = self.part(&entry) else { continue };
            if manifest.is_some_and(|manifest| names(manifest, &entry.name)) {
                continue;
            }
            if retired.as_ref().is_some_and(|retired| names(retired, &entry.name)) {
                strays.retired.get_or_insert_default().push(entry.name);
                continue;
            }
            let live_seq = if is_base { base_seq } else { last_seq };
            let is_replaced = live_seq.is_some_and(|live| seq < live);
            let path = self.options.log.directory.join(&entry.name);
            if is_base {
                let peek = self.peek(&path)?;
                let is_empty = entry.len == 0 || (peek.is_readable && !peek.has_keys);
                let is_of_others = match &peek.aux.store_id {
                    Some(_) => !is_ours(&peek.aux),
                    None => is_replaced && !is_empty,
                };
                if strays.has_manifest && is_of_others {
                    strays.aside.push(entry.name);
                    continue;
                }
                match peek.aux.offset.filter(|_| peek.is_readable) {
                    Some(offset) => {
                        let (name, has_keys) = (entry.name.clone(), peek.has_keys);
                        strays.bases.push(StrayBase { name, offset, has_keys });
                    }
                    None if is_empty || is_replaced => {}
                    // Without an offset nothing tells that what is recovered holds all of it.
                    None => return Err(self.not_named(strays.has_manifest, &entry.name)),
                }
            } else if self.has_records(&path, entry.len)? {
                if !is_replaced {
                    return Err(self.not_named(strays.has_manifest, &entry.name));
                }
                let is_of_others = match self.segment_fields(&path)? {
                    Some(fields) => !is_ours(&fields),
                    // Commands alone do not say whose they are.
                    None => owner.is_some_and(|owner| owner.annotated),
                };
                if is_of_others {
                    strays.aside.push(entry.name);
                    continue;
                }
            }
            strays.parts.push(entry.name);
        }
        Ok(strays)
    }

    /// Looks at every part of the log of an upstream server that its manifest does not name. Copies of a directory that is
    /// in use have such parts, and they may hold the newest data.
    fn find_foreign_strays(&self, manifest: &Manifest) -> Result<Strays, RecoverError> {
        let mut strays = Strays { has_manifest: true, ..Strays::default() };
        let last_seq = manifest.incrementals.last().map_or(0, |file| file.seq);
        let base_seq = manifest.base.as_ref().map_or(0, |base| base.seq);
        // A rewrite names its new segment first and its base when it is whole: until then a base with the next number
        // holds nothing but what the base and the segments before it hold.
        let next_base_seq = (manifest.incrementals.len() > 1).then_some(base_seq + 1);
        for entry in self.list(&self.options.log.directory)? {
            let Some((seq, is_base)) = self.part(&entry) else { continue };
            if names(manifest, &entry.name) {
                continue;
            }
            let path = self.options.log.directory.join(&entry.name);
            if entry.len == 0 {
                strays.parts.push(entry.name);
                continue;
            }
            let is_known = if is_base {
                let peek = self.peek(&path)?;
                if let Some(offset) = peek.aux.offset.filter(|_| peek.is_readable) {
                    // Ours: a takeover was cut short. What it holds is compared with what is recovered.
                    strays.bases.push(StrayBase {
                        name: entry.name.clone(),
                        offset,
                        has_keys: peek.has_keys,
                    });
                    strays.parts.push(entry.name);
                    continue;
                }
                seq < base_seq || Some(seq) == next_base_seq || (peek.is_readable && !peek.has_keys)
            } else if seq > last_seq && !self.has_records(&path, entry.len)? {
                // Of a takeover as well; an upstream server begins no segment with a line.
                strays.parts.push(entry.name);
                continue;
            } else {
                seq < last_seq
            };
            if !is_known {
                return Err(self.not_named(true, &entry.name));
            }
            strays.aside.push(entry.name);
        }
        Ok(strays)
    }

    /// Number and kind (true: base) of a file that is part of a log by its name.
    fn part(&self, entry: &DirectoryEntry) -> Option<(u64, bool)> {
        let (seq, kind) = self.options.log.part(&entry.name).filter(|_| !entry.is_directory)?;
        Some((seq, kind == FileKind::Base))
    }

    /// What the first line of a segment says of its data; none when it is not one of ours.
    fn segment_fields(&self, path: &Path) -> Result<Option<SnapshotAux>, RecoverError> {
        let mut line = Vec::new();
        let reader = Self::storage_error("open", path, self.storage.open_read(path))?;
        let read = reader.take(LINE_LEN_MAX as u64).read_to_end(&mut line);
        Self::storage_error("read", path, read)?;
        let end = line.iter().position(|byte| *byte == b'\n').map_or(line.len(), |end| end + 1);
        Ok(SegmentHeader::decode(&line[..end]).ok().map(|(header, _)| SnapshotAux {
            store_id: Some(header.store_id),
            epoch: Some(header.epoch),
            offset: Some(header.offset),
            ..SnapshotAux::default()
        }))
    }

    /// A segment that never was live has its header line, or a part of it, and nothing behind it.
    fn has_records(&self, path: &Path, len: u64) -> Result<bool, RecoverError> {
        if len > LINE_LEN_MAX as u64 {
            return Ok(true);
        }
        let bytes = read_all(self.storage, path, LINE_LEN_MAX as u64);
        let bytes = Self::storage_error("read", path, bytes)?;
        Ok(bytes.iter().position(|byte| *byte == b'\n').is_some_and(|end| end + 1 < bytes.len()))
    }

    fn read_retired(&self) -> Result<Option<Manifest>, RecoverError> {
        let path = self.options.log.retired_manifest();
        match read_all(self.storage, &path, MANIFEST_LEN_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RecoverError::Storage { action: "read manifest", path, source }),
            Ok(bytes) => {
                Manifest::decode(&bytes).map(Some).map_err(|source| RecoverError::Manifest { path, source })
            }
        }
    }

    fn not_named(&self, has_manifest: bool, name: &str) -> RecoverError {
        let log = &self.options.log;
        if has_manifest {
            RecoverError::ManifestStale { path: log.directory.join(name), manifest: log.manifest() }
        } else {
            RecoverError::ManifestMissing {
                path: log.directory.clone(),
                file: name.to_owned(),
                manifest: format!("{}.manifest", log.name),
            }
        }
    }

    /// A base that is not live must hold nothing that was not recovered.
    ///
    /// # Errors
    /// [`RecoverError::ManifestMissing`] or [`RecoverError::ManifestStale`].
    pub(super) fn check_strays(&self, strays: &Strays, recovered: &Recovered) -> Result<(), RecoverError> {
        if self.options.stop_at.is_some() {
            // Less than what was there is wanted.
            return Ok(());
        }
        let holds_more = |base: &&StrayBase| {
            base.offset > recovered.offset || (base.has_keys && recovered.source == Source::Nothing)
        };
        match strays.bases.iter().find(holds_more) {
            None => Ok(()),
            Some(base) => Err(self.not_named(strays.has_manifest, &base.name)),
        }
    }

    /// Removes what is not live, when everything that is live has been recovered. Of files that are not finished only those go
    /// that this server makes itself: the directory may hold files of others.
    ///
    /// # Errors
    /// [`RecoverError::Storage`].
    pub(super) fn tidy(&self, strays: &Strays) -> Result<(), RecoverError> {
        self.remove_named(&self.options.dir, |name| [TEMP_SNAPSHOT, TEMP_IDENTITY].contains(&name))?;
        let directory = &self.options.log.directory;
        for name in &strays.aside {
            let path = directory.join(name);
            let kept_at = Self::storage_error("set aside", &path, set_aside(self.storage, &path))?;
            tracing::warn!(
                ?path,
                ?kept_at,
                "a part of the log that its manifest does not name is kept under another name"
            );
        }
        self.remove_named(directory, |name| {
            self.options.log.is_unfinished(name) || strays.parts.iter().any(|part| part == name)
        })?;
        Ok(())
    }

    fn remove_named(&self, directory: &Path, remove: impl Fn(&str) -> bool) -> Result<(), RecoverError> {
        let entries = self.list(directory)?;
        let doomed: Vec<_> =
            entries.iter().filter(|entry| !entry.is_directory && remove(&entry.name)).collect();
        if doomed.is_empty() {
            return Ok(());
        }
        // Order matters: what says that the files are not live must be durable before they go.
        Self::storage_error("sync directory", directory, self.storage.sync_dir(directory))?;
        for entry in doomed {
            let path = directory.join(&entry.name);
            tracing::info!(?path, bytes = entry.len, "removing a file that is not live");
            Self::storage_error("remove", &path, self.storage.remove(&path))?;
        }
        Ok(())
    }
}

fn names(manifest: &Manifest, name: &str) -> bool {
    let files = manifest.base.iter().chain(&manifest.incrementals).chain(&manifest.history);
    files.into_iter().any(|file| file.name == name)
}
