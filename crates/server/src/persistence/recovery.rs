//! From the files in the data directory back to the dataset: finds the newest source, verifies it, replays it, and says
//! exactly what is missing when it cannot.
//!
//! Invariant: recovery never guesses. What the manifest names must be there and whole; only the end of the last segment
//! may be torn. The only changes on disk are the cut of such a tail (kept aside on request), another name for files of
//! other servers that were not loaded, and the removal of our own that are not live, all after everything else is known
//! to be well: a refusal changes nothing. Case analysis:
//! `docs/format.md`, "Recovery".

mod choice;
mod error;
mod promise;
mod strays;

pub(crate) use error::{Interrupted, RecoverError};

use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use holdfast_contract::identity::Identity;

use super::log::reader::{
    ApplyError, Expectation, LogVisitor, ReadSegmentError, SegmentSummary, Tail, read_segment,
};
use super::log::record::SegmentHeader;
use super::log::segments::{LogPaths, LogPosition};
use super::log::writer::SegmentEnd;
use super::manifest::{LiveFile, Manifest};
use super::snapshot::{BoxError, RdbReader, RdbVisitor, SnapshotAux};
use crate::engine::Tools;
use crate::engine::value::Entry;
use crate::protocol::Request;
use crate::storage::{Storage, StorageReader};
use strays::Strays;

/// Where the files are, and what recovery may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecoveryOptions {
    /// The data directory.
    pub(crate) dir: PathBuf,
    /// Name of the snapshot in it (`dbfilename`).
    pub(crate) snapshot_name: String,
    /// The log directory and the first part of its files' names.
    pub(crate) log: LogPaths,
    /// Whether the strategy has a log (`appendonly`); none when nobody has said so, and it is the default.
    pub(crate) log_is_configured: Option<bool>,
    /// Cut a torn tail (`aof-load-truncated yes`) instead of refusing it.
    pub(crate) cut_torn_tail: bool,
    /// Keep the bytes of a torn tail beside the log before it is cut (`persist-before-sys-crash`).
    pub(crate) keep_torn_tail: bool,
    /// Recover to exactly this stream offset: what follows it is cut off.
    pub(crate) stop_at: Option<u64>,
    /// What the identity file says.
    pub(crate) identity: Option<Identity>,
    /// Change nothing on disk: the files are in use.
    pub(crate) read_only: bool,
    /// Leave out the keys of a snapshot that had expired at this time (milliseconds since the Unix epoch). Only for a
    /// snapshot that no log continues; the base of a log is loaded as it was cut, because the log refers to all of it.
    pub(crate) drop_expired_at_ms: Option<i64>,
}

/// Takes what recovery reads.
pub(crate) trait RecoveryTarget {
    /// What collections are made with.
    fn tools(&self) -> Tools {
        Tools::random()
    }

    /// One key of a snapshot or base, also when its expiry has passed (but see [`RecoveryOptions::drop_expired_at_ms`]).
    ///
    /// # Errors
    /// Any reason not to go on, such as a key that is there twice.
    fn load(&mut self, entry: Entry) -> Result<(), ApplyError>;

    /// One command of the log.
    ///
    /// # Errors
    /// Any reason not to go on.
    fn command(&mut self, request: &Request<'_>) -> Result<(), ApplyError>;

    /// A file has ended: the next one starts in database 0, outside a transaction.
    fn file_ended(&mut self);

    /// Bytes read so far, and bytes to read in all.
    ///
    /// # Errors
    /// A reason to stop, such as a stop of the server.
    fn progress(&mut self, done: u64, total: u64) -> Result<(), ApplyError>;
}

/// Where the data came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// There were no data files.
    Nothing,
    /// The snapshot.
    Snapshot,
    /// The log.
    Log,
}

/// A torn tail that was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CutTail {
    /// The segment.
    pub(crate) path: PathBuf,
    /// Where it was cut.
    pub(crate) position: u64,
    /// Bytes cut off.
    pub(crate) len: u64,
    /// There are whole commands in it.
    pub(crate) holds_commands: bool,
    /// Where it was kept.
    pub(crate) kept_at: Option<PathBuf>,
}

/// What was recovered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// Where the data came from.
    pub(crate) source: Source,
    /// Stream offset after the last write that is known of: the next one goes on from there.
    pub(crate) offset: u64,
    /// True when an upstream server has written to the directory since we did: offsets were counted on from its bytes.
    pub(crate) foreign: bool,
    /// True when `offset` was counted on from a file that says its own, as ours do.
    pub(crate) is_counted: bool,
    /// Stream offset that the files reach: below `offset` where writes were known of, and are gone.
    pub(crate) files_offset: u64,
    /// The log as it is on disk, when there is one: for [`super::log::segments::Log`].
    pub(crate) log: Option<LogPosition>,
    /// The torn tail that was cut.
    pub(crate) cut: Option<CutTail>,
    /// Keys that came from a snapshot or base.
    pub(crate) keys_loaded: u64,
    /// Keys of the snapshot that had expired and were left out.
    pub(crate) keys_expired: u64,
    /// Commands replayed.
    pub(crate) commands_replayed: u64,
    /// Bytes read.
    pub(crate) bytes_read: u64,
    /// Size of the snapshot, when the data came from it.
    pub(crate) snapshot_len: u64,
    /// What the snapshot says of itself, when the data came from it.
    pub(crate) snapshot: Option<SnapshotAux>,
    /// Files of a log whose manifest was put away: that goes when the identity speaks of what has taken its place.
    pub(crate) retired: Option<Vec<String>>,
}

/// Recovers the newest data in `options.dir` into `target`.
///
/// # Errors
/// [`RecoverError`], with file, byte, what is lost and what to do.
pub(crate) fn recover(
    storage: &dyn Storage,
    options: &RecoveryOptions,
    target: &mut dyn RecoveryTarget,
) -> Result<Recovered, RecoverError> {
    let recovery = Recovery { storage, options };
    let mut live = recovery.find_log()?;
    recovery.check_log_owner(live.as_ref())?;
    let snapshot = recovery.find_snapshot()?;
    let source = recovery.choose(live.as_ref(), snapshot.as_ref())?;
    let passed_over = match &live {
        Some(log) if source == Source::Snapshot && recovery.is_passed_over(log, snapshot.as_ref()) => {
            live.take()
        }
        _ => None,
    };
    // What lies beside a log that is not loaded stays beside it.
    let mut strays =
        if passed_over.is_some() { Strays::default() } else { recovery.find_strays(live.as_ref())? };
    recovery.check_promise(source, live.as_ref(), snapshot.as_ref(), strays.is_log_given_up())?;
    let mut recovered = match (source, live) {
        (Source::Log, Some(live)) => recovery.load_log(live, target)?,
        (Source::Snapshot, live) => {
            let mut recovered = recovery.load_snapshot(target)?;
            recovered.log = live.filter(|live| !live.single_file).map(|live| LogPosition {
                manifest: live.manifest,
                resume: None,
                base_len: 0,
                segments_len: 0,
            });
            recovered
        }
        _ => Recovered {
            source: Source::Nothing,
            offset: 0,
            foreign: false,
            is_counted: true,
            files_offset: 0,
            log: None,
            cut: None,
            keys_loaded: 0,
            keys_expired: 0,
            commands_replayed: 0,
            bytes_read: 0,
            snapshot_len: 0,
            snapshot: None,
            retired: None,
        },
    };
    recovery.check_extent(&mut recovered)?;
    recovery.check_strays(&strays, &recovered)?;
    recovery.give_no_offset_again(&mut recovered);
    if let Some(cut) = &mut recovered.cut {
        recovery.cut(cut)?;
    }
    recovered.retired = strays.take_retired();
    if !options.read_only {
        let tidy = || {
            if let Some(log) = &passed_over {
                recovery.set_log_aside(log)?;
            }
            recovery.tidy(&strays)
        };
        tidy().map_err(RecoverError::in_tidying)?;
    }
    Ok(recovered)
}

/// The log that the directory holds.
struct LiveLog {
    manifest: Manifest,
    /// A single file of a server before Redis 7, in the data directory itself.
    single_file: bool,
}

struct Recovery<'a> {
    storage: &'a dyn Storage,
    options: &'a RecoveryOptions,
}

impl Recovery<'_> {
    fn storage_error<T>(action: &'static str, path: &Path, result: io::Result<T>) -> Result<T, RecoverError> {
        result.map_err(|source| RecoverError::Storage { action, path: path.to_owned(), source })
    }

    fn list(&self, path: &Path) -> Result<Vec<crate::storage::DirectoryEntry>, RecoverError> {
        match self.storage.list(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => Self::storage_error("list", path, other),
        }
    }

    /// Reads the last segment without applying it. Errors are those of the load that follows.
    fn scan_last_segment(&self, live: &LiveLog) -> Result<Option<SegmentSummary>, RecoverError> {
        let Some(last) = live.manifest.incrementals.last() else { return Ok(None) };
        let offset = self.raw_offset(&live.manifest)?;
        let expectation = self.expectation(&live.manifest, last, offset, None);
        self.read_one(last, &expectation, &mut Discard).map(Some)
    }

    /// Where the last segment of a log without our lines begins, which it does not say itself: every byte of such
    /// segments is one of the stream.
    fn raw_offset(&self, manifest: &Manifest) -> Result<Option<u64>, RecoverError> {
        let (Some((_, before)), Some(base)) = (manifest.incrementals.split_last(), &manifest.base) else {
            return Ok(None);
        };
        if manifest.owner.as_ref().is_none_or(|owner| owner.annotated) {
            return Ok(None);
        }
        let present = self.list(&self.options.log.directory)?;
        let is_before = |name: &str| before.iter().any(|file| file.name == name);
        let len: u64 = present.iter().filter(|entry| is_before(&entry.name)).map(|entry| entry.len).sum();
        let base = self.peek(&self.options.log.file(base))?;
        Ok(base.aux.offset.map(|offset| offset + len))
    }

    fn expectation(
        &self,
        manifest: &Manifest,
        file: &LiveFile,
        offset: Option<u64>,
        stop_at: Option<u64>,
    ) -> Expectation {
        Expectation {
            offset,
            store_id: manifest.owner.as_ref().map(|owner| owner.store_id.clone()),
            seq: file.seq,
            ours: manifest.owner.as_ref().is_some_and(|owner| owner.annotated),
            stop_at,
        }
    }

    fn read_one(
        &self,
        file: &LiveFile,
        expectation: &Expectation,
        visitor: &mut dyn LogVisitor,
    ) -> Result<SegmentSummary, RecoverError> {
        let path = self.options.log.file(file);
        let mut reader = Self::storage_error("open", &path, self.storage.open_read(&path))?;
        let len = Self::storage_error("measure", &path, measure(&mut *reader))?;
        read_segment(&mut *reader, len, expectation, visitor)
            .map_err(|source| RecoverError::Segment { path, source: Box::new(source) })
    }

    fn load_snapshot(&self, target: &mut dyn RecoveryTarget) -> Result<Recovered, RecoverError> {
        let path = self.snapshot_path();
        let mut reader = Self::storage_error("open", &path, self.storage.open_read(&path))?;
        let total = Self::storage_error("measure", &path, measure(&mut *reader))?;
        let mut loader = Loader::new(target, total, self.options.drop_expired_at_ms);
        let result = RdbReader::new(reader).read(&mut loader);
        loader.report(&path);
        let (aux, keys_loaded, keys_expired) = (loader.aux, loader.keys, loader.expired);
        let summary = result
            .map_err(|source| RecoverError::Snapshot { path: path.clone(), source: Box::new(source) })?;
        if summary.bytes < total {
            let log_name = self.options.log.name.clone();
            return Err(RecoverError::SnapshotGoesOn { path, position: summary.bytes, total, log_name });
        }
        target.file_ended();
        Ok(Recovered {
            source: Source::Snapshot,
            offset: aux.offset.unwrap_or_else(|| self.last_known_offset()),
            foreign: aux.offset.is_none(),
            is_counted: aux.offset.is_some(),
            files_offset: 0,
            log: None,
            cut: None,
            keys_loaded,
            keys_expired,
            commands_replayed: 0,
            bytes_read: total,
            snapshot_len: total,
            snapshot: Some(aux),
            retired: None,
        })
    }

    fn last_known_offset(&self) -> u64 {
        self.options.identity.as_ref().map_or(0, |identity| identity.last_offset)
    }

    fn load_log(&self, live: LiveLog, target: &mut dyn RecoveryTarget) -> Result<Recovered, RecoverError> {
        let LiveLog { manifest, single_file } = live;
        let paths = &self.options.log;
        let directory = if single_file { &self.options.dir } else { &paths.directory };
        let lens: Vec<_> = self.list(directory)?;
        let len_of =
            |file: &LiveFile| lens.iter().find(|entry| entry.name == file.name).map_or(0, |entry| entry.len);
        let base_len = manifest.base.as_ref().map_or(0, len_of);
        let total = base_len + manifest.incrementals.iter().map(len_of).sum::<u64>();
        let mut recovered = Recovered {
            source: Source::Log,
            offset: self.last_known_offset(),
            foreign: manifest.owner.is_none(),
            is_counted: manifest.owner.is_some(),
            files_offset: 0,
            log: None,
            cut: None,
            keys_loaded: 0,
            keys_expired: 0,
            commands_replayed: 0,
            bytes_read: 0,
            snapshot_len: 0,
            snapshot: None,
            retired: None,
        };
        let mut known_offset = None;
        if let Some(base) = &manifest.base {
            let path = directory.join(&base.name);
            known_offset = self.load_base(&path, &manifest, base, total, &mut recovered, target)?;
            target.file_ended();
        }
        let mut resume = None;
        for (index, file) in manifest.incrementals.iter().enumerate() {
            let stop_at = self.options.stop_at;
            if stop_at.is_some() && stop_at == known_offset {
                break;
            }
            let expectation = self.expectation(&manifest, file, known_offset, stop_at);
            let mut replay = Replay { target, before: recovered.bytes_read, total, commands: 0 };
            let before =
                index.checked_sub(1).map_or(manifest.base.as_ref(), |at| manifest.incrementals.get(at));
            let summary =
                self.read_one(file, &expectation, &mut replay).map_err(|error| match (error, before) {
                    (RecoverError::Segment { path, source }, Some(before)) => match *source {
                        ReadSegmentError::Offset { found, expected } => RecoverError::Gap {
                            before: paths.file(before),
                            ends: expected,
                            path,
                            begins: found,
                        },
                        other => RecoverError::Segment { path, source: Box::new(other) },
                    },
                    (error, _) => error,
                })?;
            recovered.commands_replayed += replay.commands;
            recovered.bytes_read += len_of(file);
            target.file_ended();
            // Without our lines nothing tells whose commands they are.
            let annotated = manifest.owner.as_ref().is_none_or(|owner| owner.annotated);
            recovered.foreign |= annotated && summary.foreign_commands > 0;
            recovered.offset = summary.end_offset;
            known_offset = Some(summary.end_offset);
            let is_last = index + 1 == manifest.incrementals.len();
            self.settle_tail(file, &summary, is_last, &mut recovered)?;
            let offset = summary.end_offset;
            resume = if annotated {
                summary.header.as_ref().zip(summary.last_crc).map(|(header, last_crc)| {
                    let SegmentHeader { seq, seed, .. } = *header;
                    SegmentEnd { seq, annotated, seed, last_crc, offset }
                })
            } else {
                Some(SegmentEnd { seq: file.seq, annotated, seed: 0, last_crc: 0, offset })
            };
        }
        if let Some(offset) = known_offset {
            recovered.offset = offset;
        }
        if self.options.stop_at.is_some() {
            // The next start must not read what was cut off: a new segment is begun behind a new base.
            resume = None;
        }
        if !single_file {
            let segments_len = total.saturating_sub(base_len);
            recovered.log = Some(LogPosition { manifest, resume, base_len, segments_len });
        }
        Ok(recovered)
    }

    /// Loads a base: an RDB, an RDB followed by commands, or commands alone. Gives the offset behind it when it is known.
    fn load_base(
        &self,
        path: &Path,
        manifest: &Manifest,
        base: &LiveFile,
        total: u64,
        recovered: &mut Recovered,
        target: &mut dyn RecoveryTarget,
    ) -> Result<Option<u64>, RecoverError> {
        let mut reader = Self::storage_error("open", path, self.storage.open_read(path))?;
        let len = Self::storage_error("measure", path, measure(&mut *reader))?;
        let mut magic = [0; 5];
        let is_rdb = reader.read_exact(&mut magic).is_ok() && &magic == b"REDIS";
        Self::storage_error("rewind", path, reader.rewind())?;
        let refuse = |problem: String| Err(RecoverError::Base { path: path.to_owned(), problem });
        if !is_rdb && (manifest.owner.is_some() || base.name.ends_with(".rdb")) {
            return refuse(format!("does not begin as a snapshot does, at byte 0 of {len}"));
        }
        let mut offset = None;
        let mut commands_from = 0;
        if is_rdb {
            let mut loader = Loader::new(target, total, None);
            let result = RdbReader::new(&mut *reader).read(&mut loader);
            loader.report(path);
            recovered.keys_loaded = loader.keys;
            offset = loader.aux.offset;
            recovered.is_counted |= offset.is_some();
            let summary = result.map_err(|source| RecoverError::Snapshot {
                path: path.to_owned(),
                source: Box::new(source),
            })?;
            commands_from = summary.bytes;
            if let Some(owner) = &manifest.owner {
                if offset.is_none() || loader.aux.store_id.as_ref() != Some(&owner.store_id) {
                    return refuse(format!("was not written for Store {}", owner.store_id));
                }
                if commands_from < len {
                    return refuse(format!("goes on behind its end at byte {commands_from}"));
                }
            }
        }
        if commands_from < len {
            let mut rest = Rest { reader: &mut *reader, from: commands_from };
            Self::storage_error("seek", path, rest.rewind())?;
            let expectation =
                Expectation { offset: Some(0), store_id: None, seq: base.seq, ours: false, stop_at: None };
            let mut replay = Replay { target, before: commands_from, total, commands: 0 };
            let summary = read_segment(&mut rest, len - commands_from, &expectation, &mut replay).map_err(
                |source| RecoverError::Segment { path: path.to_owned(), source: Box::new(source) },
            )?;
            recovered.commands_replayed += replay.commands;
            recovered.foreign = true;
            offset = Some(self.last_known_offset() + summary.end_offset);
            if let Tail::Torn { position, len } = summary.tail {
                let (path, position) = (path.to_owned(), commands_from + position);
                if !manifest.incrementals.is_empty() {
                    return Err(RecoverError::TornInTheMiddle { path, position, len });
                }
                recovered.cut = Some(CutTail { path, position, len, holds_commands: false, kept_at: None });
            }
        }
        recovered.bytes_read += len;
        Ok(offset)
    }

    fn settle_tail(
        &self,
        file: &LiveFile,
        summary: &SegmentSummary,
        is_last: bool,
        recovered: &mut Recovered,
    ) -> Result<(), RecoverError> {
        let path = self.options.log.file(file);
        match summary.tail {
            Tail::Clean | Tail::Stopped { .. } => Ok(()),
            Tail::Torn { position, len } if !is_last => {
                Err(RecoverError::TornInTheMiddle { path, position, len })
            }
            Tail::Torn { position, len } => {
                let holds_commands = summary.tail_holds_commands;
                recovered.cut = Some(CutTail { path, position, len, holds_commands, kept_at: None });
                Ok(())
            }
        }
    }

    fn cut(&self, cut: &mut CutTail) -> Result<(), RecoverError> {
        let CutTail { path, position, len, holds_commands, kept_at } = cut;
        if !self.options.cut_torn_tail {
            return Err(RecoverError::TornTail { path: path.clone(), position: *position, len: *len });
        }
        // Whole commands may be of another server, which has acknowledged them.
        if self.options.keep_torn_tail || *holds_commands {
            *kept_at = Some(self.keep_tail(path, *position)?);
        }
        tracing::warn!(?path, position, bytes = len, ?kept_at, "cutting a torn tail off the log");
        let cut = self.storage.truncate(path, *position);
        cut.map_err(|source| RecoverError::NotCut { path: path.clone(), source })
    }

    fn keep_tail(&self, path: &Path, position: u64) -> Result<PathBuf, RecoverError> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // A second tear in the same place does not replace what the first one left.
        let taken = self.list(&self.options.dir)?;
        let first = format!("torn-{name}-at-{position}");
        let names =
            std::iter::once(first.clone()).chain((2..).map(|number: u64| format!("{first}-{number}")));
        let free = names.into_iter().find(|name| taken.iter().all(|entry| entry.name != *name));
        let kept_at = self.options.dir.join(free.unwrap_or(first));
        let copy = || -> io::Result<()> {
            let mut reader = self.storage.open_read(path)?;
            reader.seek(io::SeekFrom::Start(position))?;
            let mut file = self.storage.create(&kept_at)?;
            let mut chunk = vec![0; 1 << 16];
            loop {
                let len = reader.read(&mut chunk)?;
                if len == 0 {
                    break;
                }
                file.append(&chunk[..len])?;
            }
            file.syncer().sync()?;
            self.storage.sync_dir(&self.options.dir)
        };
        let copied = copy();
        if copied.is_err() {
            // The next start makes it again, and may have room then; half of it would take that room.
            let _ = self.storage.remove(&kept_at);
        }
        Self::storage_error("keep the torn tail as", &kept_at, copied)?;
        Ok(kept_at)
    }

    /// Compares with the identity: what it says was durable must be there.
    fn check_extent(&self, recovered: &mut Recovered) -> Result<(), RecoverError> {
        if let Some(wanted) = self.options.stop_at {
            return if recovered.offset == wanted {
                Ok(())
            } else {
                Err(RecoverError::OffsetMissing {
                    dir: self.options.dir.clone(),
                    found: recovered.offset,
                    wanted,
                })
            };
        }
        let Some(identity) = &self.options.identity else { return Ok(()) };
        let expected = self.promised_offset();
        // Without an offset of their own, files of another server are judged by their age, before they are loaded.
        if recovered.is_counted && recovered.offset < expected {
            return Err(RecoverError::Short {
                end: self.end_of(recovered),
                found: recovered.offset,
                expected,
                identity: self.identity_path(),
            });
        }
        if recovered.foreign {
            // What we knew and did not promise may be gone, and its offsets are not given out again.
            recovered.offset = recovered.offset.max(identity.last_offset);
        }
        Ok(())
    }

    /// Whatever was written up to the last offset that the identity knows of may lie in a backup, though it was not promised
    /// and is gone here. New writes with the same offsets would make it count as newer than they are.
    fn give_no_offset_again(&self, recovered: &mut Recovered) {
        recovered.files_offset = recovered.offset;
        let Some(identity) = self.options.identity.as_ref().filter(|_| self.options.stop_at.is_none()) else {
            return;
        };
        if identity.last_offset > recovered.offset {
            recovered.offset = identity.last_offset;
            tracing::warn!(
                files_offset = recovered.files_offset,
                offset = recovered.offset,
                "writes that were not promised are gone; their offsets are not given out again"
            );
        }
    }

    /// Where the recovered data end, in words.
    fn end_of(&self, recovered: &Recovered) -> String {
        let log = &self.options.log;
        let last = recovered.log.as_ref().and_then(|position| position.manifest.incrementals.last());
        match (&recovered.cut, recovered.source, last) {
            (Some(CutTail { path, position, len, .. }), ..) => {
                format!(
                    "in file {path:?}, whose last {len} bytes from byte {position} on are not a whole record"
                )
            }
            (None, Source::Log, Some(last)) => format!("with the last byte of file {:?}", log.file(last)),
            (None, Source::Snapshot, _) => {
                format!("in snapshot {:?}", self.snapshot_path())
            }
            _ => format!("because there is no data file in {:?}", self.options.dir),
        }
    }
}

fn measure(reader: &mut dyn StorageReader) -> io::Result<u64> {
    let len = reader.seek(io::SeekFrom::End(0))?;
    reader.rewind()?;
    Ok(len)
}

/// A file from one of its bytes on.
struct Rest<'r> {
    reader: &'r mut dyn StorageReader,
    from: u64,
}

impl io::Read for Rest<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl io::Seek for Rest<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let to = match to {
            io::SeekFrom::Start(position) => io::SeekFrom::Start(self.from.saturating_add(position)),
            other => other,
        };
        self.reader.seek(to)?.checked_sub(self.from).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

struct Loader<'t> {
    target: &'t mut dyn RecoveryTarget,
    aux: SnapshotAux,
    total: u64,
    /// Keys handed on.
    keys: u64,
    drop_expired_at_ms: Option<i64>,
    /// Keys left out because they had expired.
    expired: u64,
    /// Keys left out because they have no element.
    empty: u64,
}

impl<'t> Loader<'t> {
    fn new(target: &'t mut dyn RecoveryTarget, total: u64, drop_expired_at_ms: Option<i64>) -> Self {
        Self { target, aux: SnapshotAux::default(), total, keys: 0, drop_expired_at_ms, expired: 0, empty: 0 }
    }

    /// Says what was left out.
    fn report(&self, path: &Path) {
        let Self { keys, expired, empty, .. } = self;
        if *expired > 0 {
            tracing::info!(?path, keys, expired, "keys of the snapshot had expired and were left out");
        }
        if *empty > 0 {
            tracing::warn!(
                ?path,
                keys,
                "keys of the snapshot have no element and were left out (empty keys skipped: {empty})"
            );
        }
    }
}

impl RdbVisitor for Loader<'_> {
    fn tools(&self) -> Tools {
        self.target.tools()
    }

    fn aux(&mut self, name: &str, value: &str) -> Result<(), BoxError> {
        self.aux.set(name, value);
        Ok(())
    }

    fn entry(&mut self, entry: Entry) -> Result<(), BoxError> {
        if let (Some(expires), Some(now)) = (entry.expires_at_ms, self.drop_expired_at_ms)
            && expires < now
        {
            self.expired += 1;
            return Ok(());
        }
        self.keys += 1;
        self.target.load(entry)
    }

    fn empty_collection(&mut self, db: u32, key: &[u8]) {
        self.empty += 1;
        // The only trace of it: it is in no file that is written from now on.
        tracing::debug!(db, "skipping empty key: {}", key.escape_ascii());
    }

    fn progress(&mut self, bytes: u64) -> Result<(), BoxError> {
        self.target.progress(bytes, self.total)
    }
}

struct Replay<'t> {
    target: &'t mut dyn RecoveryTarget,
    before: u64,
    total: u64,
    commands: u64,
}

impl LogVisitor for Replay<'_> {
    fn command(&mut self, request: &Request<'_>) -> Result<(), ApplyError> {
        self.commands += 1;
        self.target.command(request)
    }

    fn progress(&mut self, position: u64) -> Result<(), ApplyError> {
        self.target.progress(self.before + position, self.total)
    }
}

struct Discard;

impl LogVisitor for Discard {
    fn command(&mut self, _request: &Request<'_>) -> Result<(), ApplyError> {
        Ok(())
    }
}
