//! The live log: the open segment, the manifest that names it, and the steps by which both change.
//!
//! ```text
//! begin_rewrite   sync old segment ─ create new segment, sync it, sync directory ─ manifest (+ new segment) ─ switch
//! finish_rewrite  base file synced ─ rename ─ sync directory ─ manifest (new base, segments from the cut on) ─ remove old
//!
//! BegunLog        a log that is switched on: manifest of what may go ─ create segment, sync it, sync directory ─ (commands are
//!                 appended, the base is written) ─ sync segment ─ rename base, sync directory ─ manifest ─ remove old
//! ```
//!
//! Invariant: at every crash point the manifest on disk names only files that are whole and synced, and the names
//! it names are durable.

use std::io;
use std::path::{Path, PathBuf};

use super::record::SegmentHeader;
use super::writer::{AppendError, LogWriter, SegmentEnd};
use crate::error_chain::error_chain;
use crate::persistence::manifest::{FileKind, LiveFile, MANIFEST_LEN_MAX, Manifest, ManifestError, Owner};
use crate::storage::{Storage, TEMP_PREFIX, read_all, replace_file};

/// Name of a base that is not whole.
const TEMP_BASE: &str = "temp-rewrite.rdb";

/// Where the files of the log lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPaths {
    /// The log directory (`dir`/`appenddirname`).
    pub directory: PathBuf,
    /// `appendfilename`, the first part of every file's name.
    pub name: String,
}

impl LogPaths {
    /// The manifest.
    #[must_use]
    pub(crate) fn manifest(&self) -> PathBuf {
        self.directory.join(format!("{}.manifest", self.name))
    }

    /// The manifest of files that are not live, until they are gone: of a log that was given up, or of one that has begun and
    /// is not whole yet.
    #[must_use]
    pub(crate) fn retired_manifest(&self) -> PathBuf {
        self.directory.join(format!("{}.manifest.retired", self.name))
    }

    /// A live file.
    #[must_use]
    pub(crate) fn file(&self, file: &LiveFile) -> PathBuf {
        self.directory.join(&file.name)
    }

    /// Name of the base with this sequence number.
    #[must_use]
    pub(crate) fn base_name(&self, seq: u64) -> String {
        format!("{}.{seq}.base.rdb", self.name)
    }

    /// Name of the segment with this sequence number.
    #[must_use]
    pub(crate) fn segment_name(&self, seq: u64) -> String {
        format!("{}.{seq}.incr.aof", self.name)
    }

    /// Where a base is written before it is whole.
    #[must_use]
    pub(crate) fn temp_base(&self) -> PathBuf {
        self.directory.join(TEMP_BASE)
    }

    /// Whether a file of this name in the log directory is one of ours that is not finished.
    #[must_use]
    pub(crate) fn is_unfinished(&self, name: &str) -> bool {
        let is_manifest = |path: PathBuf| {
            path.file_name().is_some_and(|of| name.strip_prefix(TEMP_PREFIX).is_some_and(|rest| of == rest))
        };
        name == TEMP_BASE || is_manifest(self.manifest()) || is_manifest(self.retired_manifest())
    }

    /// What a file of this name would be in a log, ours or that of an upstream server: sequence number and kind. None
    /// for every other name, that of a copy such as `….incr.aof.bak` among them.
    #[must_use]
    pub(crate) fn part(&self, name: &str) -> Option<(u64, FileKind)> {
        let (seq, kind) = name.strip_prefix(&self.name)?.strip_prefix('.')?.split_once('.')?;
        let kind = match kind {
            "base.rdb" | "base.aof" => FileKind::Base,
            "incr.aof" => FileKind::Incremental,
            _ => return None,
        };
        let seq = seq.parse::<u64>().ok().filter(|number| number.to_string() == seq)?;
        Some((seq, kind))
    }
}

/// Why the set of live files could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum LogFilesError {
    /// The log directory cannot be made.
    #[error("failed to create log directory {path:?}")]
    CreateDirectory {
        /// The directory.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The log directory cannot be read.
    #[error("failed to list log directory {path:?}")]
    ListDirectory {
        /// The directory.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// A segment cannot be created or opened.
    #[error("failed to open log segment {path:?}")]
    OpenSegment {
        /// The segment.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// What a process before has written cannot be made durable. A later sync that works would prove nothing: the cache holds
    /// the bytes as if they were written.
    #[error(
        "failed to sync {path:?}: what it holds may be in memory alone, so the next start rewrites all data"
    )]
    Sync {
        /// The segment, or the log directory.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The open segment cannot be synced.
    #[error("failed to close the log segment before a rewrite")]
    Close(#[source] AppendError),
    /// The base cannot be put in its place.
    #[error("failed to move the base file to {path:?}")]
    PlaceBase {
        /// Its name.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// A manifest cannot be read.
    #[error("failed to read manifest {path:?}")]
    ReadManifest {
        /// The manifest.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// A manifest is no manifest.
    #[error("manifest {path:?} is not usable")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        source: ManifestError,
    },
    /// What a log has left that began and did not become live cannot be removed.
    #[error("failed to remove {path:?}, of a log that did not become live")]
    RemoveBegun {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The manifest cannot be replaced. Which of the two is on disk is unknown.
    #[error("failed to replace manifest {path:?}")]
    WriteManifest {
        /// The manifest.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
}

/// The open log.
pub(crate) struct Log {
    paths: LogPaths,
    owner: Owner,
    manifest: Manifest,
    writer: LogWriter,
    /// Bytes of all live files but the open segment.
    closed_len: u64,
    base_len: u64,
    len_at_rewrite: u64,
    /// Grows with every rewrite that begins, whether or not it ends well: a name that a manifest on disk may hold is
    /// never written again.
    next_base_seq: u64,
}

/// A rewrite that has begun: what its base has to hold, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// Sequence number of the first segment that is not in the base.
    segment_seq: u64,
    /// Sequence number of the base.
    base_seq: u64,
    /// Stream offset of the cut.
    pub offset: u64,
    /// Where the base is to be written and synced.
    pub(crate) temp_path: PathBuf,
}

/// What a starting server needs to go on with a log that recovery has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogPosition {
    /// The manifest as it is on disk.
    pub(crate) manifest: Manifest,
    /// The end of the last segment, when it is ours and ends with a frame of ours, so that it can be continued.
    pub(crate) resume: Option<SegmentEnd>,
    /// Bytes of the base.
    pub(crate) base_len: u64,
    /// Bytes of all segments.
    pub(crate) segments_len: u64,
}

impl Log {
    /// Starts a log over a base that has been written and synced at [`LogPaths::temp_base`].
    ///
    /// A log that was there before is replaced; its files are removed once the new manifest is durable.
    ///
    /// # Errors
    /// [`LogFilesError`]; the log that was there before is then still whole, unless the manifest's fate is unknown.
    pub(crate) fn create(
        storage: &dyn Storage,
        paths: LogPaths,
        owner: Owner,
        previous: Option<&Manifest>,
        start: SegmentStart,
        base_len: u64,
    ) -> Result<Self, LogFilesError> {
        let (base_seq, segment_seq) = next_seqs(storage, &paths, previous)?;
        let rewrite = Rewrite { segment_seq, base_seq, offset: start.offset, temp_path: paths.temp_base() };
        let segment =
            LiveFile { name: paths.segment_name(segment_seq), seq: segment_seq, kind: FileKind::Incremental };
        let writer = create_segment(storage, &paths, &owner, &segment, start)?;
        let old = previous.cloned().unwrap_or_default();
        let mut log = Self {
            paths,
            manifest: Manifest {
                owner: Some(owner.clone()),
                base: None,
                incrementals: vec![segment],
                history: Vec::new(),
            },
            owner,
            writer,
            closed_len: 0,
            base_len: 0,
            len_at_rewrite: 0,
            next_base_seq: base_seq + 1,
        };
        log.place_base(storage, &rewrite, base_len)?;
        log.remove_files(storage, old.base.iter().chain(&old.incrementals).chain(&old.history));
        Ok(log)
    }

    /// Goes on with a log of `owner` that recovery has read, behind `end`, the end of its last segment.
    ///
    /// # Errors
    /// [`LogFilesError`].
    pub(crate) fn resume(
        storage: &dyn Storage,
        paths: LogPaths,
        owner: Owner,
        position: LogPosition,
        end: SegmentEnd,
    ) -> Result<Self, LogFilesError> {
        let LogPosition { manifest, base_len, segments_len, .. } = position;
        let next_base_seq = manifest.base.as_ref().map_or(0, |base| base.seq) + 1;
        // By the manifest's word: the names may be those of another `appendfilename`.
        let name = manifest.incrementals.iter().find(|file| file.seq == end.seq);
        let name = name.map_or_else(|| paths.segment_name(end.seq), |file| file.name.clone());
        let path = paths.directory.join(name);
        // The process before may have died between the rename of the manifest and the sync of its directory: without this,
        // a power cut would bring back a manifest that does not name the segment.
        let directory = &paths.directory;
        storage
            .sync_dir(directory)
            .map_err(|source| LogFilesError::Sync { path: directory.clone(), source })?;
        let writer = LogWriter::resume(storage, &path, end)
            .map_err(|source| LogFilesError::OpenSegment { path: path.clone(), source })?;
        writer.syncer().sync().map_err(|source| LogFilesError::Sync { path, source })?;
        let len = base_len + segments_len;
        let closed_len = len.saturating_sub(writer.file_len());
        Ok(Self { paths, owner, manifest, writer, closed_len, base_len, len_at_rewrite: len, next_base_seq })
    }

    /// Closes the open segment and begins a new one at a cut between two batches.
    ///
    /// # Errors
    /// [`LogFilesError`]. After [`LogFilesError::OpenSegment`] the log goes on as before. After anything else nothing
    /// more may be acknowledged, because it is unknown which segment a restart would expect to grow.
    pub(crate) fn begin_rewrite(
        &mut self,
        storage: &dyn Storage,
        seed: u32,
        now_ms: u64,
    ) -> Result<Rewrite, LogFilesError> {
        self.writer.sync().map_err(LogFilesError::Close)?;
        let offset = self.writer.offset();
        let last_seq = self.manifest.incrementals.last().map_or(0, |file| file.seq);
        let seq = last_seq + 1;
        let segment = LiveFile { name: self.paths.segment_name(seq), seq, kind: FileKind::Incremental };
        let start = SegmentStart { offset, seed, now_ms };
        let writer = create_segment(storage, &self.paths, &self.owner, &segment, start)?;
        let mut manifest = self.manifest.clone();
        manifest.incrementals.push(segment);
        if let Err(error) = write_manifest(storage, &self.paths, &manifest) {
            self.writer.poison();
            return Err(error);
        }
        self.manifest = manifest;
        self.closed_len += self.writer.file_len();
        self.writer = writer;
        let base_seq = self.next_base_seq;
        self.next_base_seq += 1;
        Ok(Rewrite { segment_seq: seq, base_seq, offset, temp_path: self.paths.temp_base() })
    }

    /// Makes a written and synced base live, and removes what it replaces.
    ///
    /// # Errors
    /// [`LogFilesError`]; the files before the rewrite are then all still there.
    pub(crate) fn finish_rewrite(
        &mut self,
        storage: &dyn Storage,
        rewrite: &Rewrite,
        base_len: u64,
    ) -> Result<(), LogFilesError> {
        let old = self.manifest.clone();
        self.place_base(storage, rewrite, base_len)?;
        let replaced = old.incrementals.iter().filter(|file| file.seq < rewrite.segment_seq);
        self.remove_files(storage, old.base.iter().chain(replaced).chain(&old.history));
        Ok(())
    }

    fn place_base(
        &mut self,
        storage: &dyn Storage,
        rewrite: &Rewrite,
        base_len: u64,
    ) -> Result<(), LogFilesError> {
        let base = LiveFile {
            name: self.paths.base_name(rewrite.base_seq),
            seq: rewrite.base_seq,
            kind: FileKind::Base,
        };
        let path = self.paths.file(&base);
        storage
            .rename(&rewrite.temp_path, &path)
            .and_then(|()| storage.sync_dir(&self.paths.directory))
            .map_err(|source| LogFilesError::PlaceBase { path, source })?;
        let mut manifest = self.manifest.clone();
        manifest.base = Some(base);
        manifest.history.clear();
        manifest.incrementals.retain(|file| file.seq >= rewrite.segment_seq);
        write_manifest(storage, &self.paths, &manifest)?;
        self.manifest = manifest;
        self.base_len = base_len;
        let open_seq = self.writer.end().seq;
        let closed = self.manifest.incrementals.iter().filter(|file| file.seq != open_seq);
        let closed_len: u64 = closed.map(|file| file_len(storage, &self.paths, file)).sum();
        self.closed_len = base_len + closed_len;
        self.len_at_rewrite = self.current_len();
        Ok(())
    }

    /// Removes files that no manifest names. A file that stays is only waste: the next start removes it.
    fn remove_files<'a>(&self, storage: &dyn Storage, files: impl Iterator<Item = &'a LiveFile>) {
        let live = |name: &str| {
            self.manifest.base.iter().chain(&self.manifest.incrementals).any(|file| file.name == name)
        };
        for file in files.filter(|file| !live(&file.name)) {
            let path = self.paths.file(file);
            if let Err(error) = storage.remove(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(?path, %error, "failed to remove a log file that was replaced");
            }
        }
    }

    /// The open segment.
    pub(crate) fn writer(&mut self) -> &mut LogWriter {
        &mut self.writer
    }

    /// Stream offset after the last appended byte.
    #[must_use]
    pub(crate) fn offset(&self) -> u64 {
        self.writer.offset()
    }

    /// Stream offset up to which everything is durable.
    #[must_use]
    pub(crate) fn durable_offset(&self) -> u64 {
        self.writer.durable_offset()
    }

    /// Bytes of all live files.
    #[must_use]
    pub(crate) fn current_len(&self) -> u64 {
        self.closed_len + self.writer.file_len()
    }

    /// Bytes of the base.
    #[must_use]
    pub(crate) fn base_len(&self) -> u64 {
        self.base_len
    }

    /// Bytes of all live files after the last rewrite, or at start.
    #[must_use]
    pub(crate) fn len_at_rewrite(&self) -> u64 {
        self.len_at_rewrite
    }

    /// Number of live segments.
    #[must_use]
    pub(crate) fn segments(&self) -> usize {
        self.manifest.incrementals.len()
    }
}

/// A log that begins while the server runs: what changes from the cut on is appended to its segment, and its base is being
/// written.
///
/// Invariant: until the manifest names both, nothing depends on them. A manifest under another name, durable before anything is
/// in the segment, says that they may go: a start removes them, as it finishes to remove a log that was given up.
pub(crate) struct BegunLog {
    paths: LogPaths,
    owner: Owner,
    segment: LiveFile,
    writer: LogWriter,
    rewrite: Rewrite,
    /// The log on disk that it replaces.
    previous: Option<Manifest>,
    /// Why it cannot become live.
    failure: Option<AppendError>,
}

impl BegunLog {
    /// Creates the segment, behind the word that it may go.
    ///
    /// # Errors
    /// [`LogFilesError`]; what was live is live.
    pub(crate) fn begin(
        storage: &dyn Storage,
        paths: LogPaths,
        owner: Owner,
        start: SegmentStart,
    ) -> Result<Self, LogFilesError> {
        // Order matters: a segment with commands that nothing names means that a manifest was lost.
        let Announced { previous, base_seq, segment } = announce(storage, &paths, &owner)?;
        let writer = create_segment(storage, &paths, &owner, &segment, start)?;
        let temp_path = paths.temp_base();
        let rewrite = Rewrite { segment_seq: segment.seq, base_seq, offset: start.offset, temp_path };
        Ok(Self { paths, owner, segment, writer, rewrite, previous, failure: None })
    }

    /// Does what a log begins with, and takes it back: whoever asks for a log is told at once when there cannot be one. None may
    /// have begun.
    ///
    /// # Errors
    /// [`LogFilesError`]; what was live is live.
    pub(crate) fn rehearse(
        storage: &dyn Storage,
        paths: &LogPaths,
        owner: &Owner,
    ) -> Result<(), LogFilesError> {
        let Announced { previous, .. } = announce(storage, paths, owner)?;
        remove_begun(storage, paths, previous.as_ref())
    }

    /// Where the base is to be written and synced.
    pub(crate) fn temp_base(&self) -> PathBuf {
        self.rewrite.temp_path.clone()
    }

    /// Number of the first segment.
    pub(crate) fn segment_seq(&self) -> u64 {
        self.segment.seq
    }

    /// Appends one batch. When that fails the log does not become live, and [`BegunLog::finish`] says why.
    pub(crate) fn append(&mut self, body: &[u8], time_ms: u64) {
        if self.failure.is_none() {
            self.failure = self.writer.append(body, time_ms).err();
        }
    }

    /// Makes the log live, over a base that has been written and synced: all of it is durable when this returns. A log that
    /// was there before goes.
    ///
    /// # Errors
    /// [`LogFilesError`]. What was live is live, or, after [`LogFilesError::WriteManifest`], either; both hold what they say.
    pub(crate) fn finish(mut self, storage: &dyn Storage, base_len: u64) -> Result<Log, LogFilesError> {
        let synced = match self.failure.take() {
            Some(failure) => Err(failure),
            None => self.writer.sync(),
        };
        if let Err(error) = synced {
            self.discard(storage);
            return Err(LogFilesError::Close(error));
        }
        let Self { paths, owner, segment, writer, rewrite, previous, .. } = self;
        let manifest = Manifest {
            owner: Some(owner.clone()),
            base: None,
            incrementals: vec![segment],
            history: Vec::new(),
        };
        let next_base_seq = rewrite.base_seq + 1;
        let mut log = Log {
            paths,
            owner,
            manifest,
            writer,
            closed_len: 0,
            base_len: 0,
            len_at_rewrite: 0,
            next_base_seq,
        };
        if let Err(error) = log.place_base(storage, &rewrite, base_len) {
            if matches!(error, LogFilesError::PlaceBase { .. }) {
                discard_begun(storage, &log.paths, previous.as_ref());
            }
            return Err(error);
        }
        let old = previous.unwrap_or_default();
        log.remove_files(storage, old.base.iter().chain(&old.incrementals).chain(&old.history));
        discard_begun(storage, &log.paths, Some(&log.manifest));
        Ok(log)
    }

    /// Removes what has begun.
    pub(crate) fn discard(self, storage: &dyn Storage) {
        let Self { paths, previous, writer, .. } = self;
        drop(writer);
        discard_begun(storage, &paths, previous.as_ref());
    }
}

/// Files of a log that are named as ones that may go.
struct Announced {
    /// The log on disk.
    previous: Option<Manifest>,
    base_seq: u64,
    segment: LiveFile,
}

/// Writes durably which files of a log to come may go, and removes those of one that has not become live.
fn announce(storage: &dyn Storage, paths: &LogPaths, owner: &Owner) -> Result<Announced, LogFilesError> {
    create_log_directory(storage, paths)?;
    let previous = read_manifest(storage, paths.manifest())?;
    remove_begun(storage, paths, previous.as_ref())?;
    let (base_seq, segment_seq) = next_seqs(storage, paths, previous.as_ref())?;
    let base = LiveFile { name: paths.base_name(base_seq), seq: base_seq, kind: FileKind::Base };
    let segment =
        LiveFile { name: paths.segment_name(segment_seq), seq: segment_seq, kind: FileKind::Incremental };
    let begun = Manifest {
        owner: Some(owner.clone()),
        base: Some(base),
        incrementals: vec![segment.clone()],
        history: Vec::new(),
    };
    let path = paths.retired_manifest();
    replace_file(storage, &path, &begun.encode())
        .map_err(|source| LogFilesError::WriteManifest { path, source })?;
    Ok(Announced { previous, base_seq, segment })
}

/// As [`remove_begun`]; what stays is removed at the next try, or at the next start.
fn discard_begun(storage: &dyn Storage, paths: &LogPaths, live: Option<&Manifest>) {
    if let Err(error) = remove_begun(storage, paths, live) {
        let error = error_chain(&error);
        tracing::warn!(error, "failed to remove what is left of a log that has begun");
    }
}

/// Removes the files of a log that has begun, but those that `live` names, and the word that they may go.
fn remove_begun(
    storage: &dyn Storage,
    paths: &LogPaths,
    live: Option<&Manifest>,
) -> Result<(), LogFilesError> {
    let word = paths.retired_manifest();
    let Some(begun) = read_manifest(storage, word.clone())? else { return Ok(()) };
    let remove = |path: PathBuf| match storage.remove(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LogFilesError::RemoveBegun { path, source: error })
        }
        _ => Ok(()),
    };
    let is_live = |file: &LiveFile| {
        live.is_some_and(|live| live.base.iter().chain(&live.incrementals).any(|it| it.name == file.name))
    };
    // A base that was written whole before its log was given up.
    remove(paths.temp_base())?;
    for file in
        begun.base.iter().chain(&begun.incrementals).chain(&begun.history).filter(|file| !is_live(file))
    {
        remove(paths.file(file))?;
    }
    // Order matters: while one of them may come back, so must the word.
    storage
        .sync_dir(&paths.directory)
        .map_err(|source| LogFilesError::RemoveBegun { path: paths.directory.clone(), source })?;
    remove(word)
}

fn read_manifest(storage: &dyn Storage, path: PathBuf) -> Result<Option<Manifest>, LogFilesError> {
    match read_all(storage, &path, MANIFEST_LEN_MAX) {
        Ok(bytes) => {
            Manifest::decode(&bytes).map(Some).map_err(|source| LogFilesError::Manifest { path, source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LogFilesError::ReadManifest { path, source }),
    }
}

/// Numbers for a new base and a new segment, above everything that is there, named or not: no file is overwritten.
fn next_seqs(
    storage: &dyn Storage,
    paths: &LogPaths,
    previous: Option<&Manifest>,
) -> Result<(u64, u64), LogFilesError> {
    let (base_found, segment_found) = last_parts(storage, paths)?;
    let base_named = previous.and_then(|manifest| manifest.base.as_ref()).map_or(0, |base| base.seq);
    let last_named = previous.and_then(|manifest| manifest.incrementals.last()).map_or(0, |file| file.seq);
    Ok((base_named.max(base_found).saturating_add(1), last_named.max(segment_found).saturating_add(1)))
}

/// Where a new segment begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentStart {
    /// Stream offset of its first command byte.
    pub offset: u64,
    /// Random seed of its checksums.
    pub seed: u32,
    /// Wall time in milliseconds since the Unix epoch.
    pub now_ms: u64,
}

fn create_segment(
    storage: &dyn Storage,
    paths: &LogPaths,
    owner: &Owner,
    segment: &LiveFile,
    start: SegmentStart,
) -> Result<LogWriter, LogFilesError> {
    let header = SegmentHeader {
        store_id: owner.store_id.clone(),
        epoch: owner.epoch,
        seq: segment.seq,
        offset: start.offset,
        started_ms: start.now_ms,
        seed: start.seed,
    };
    let path = paths.file(segment);
    LogWriter::create(storage, &path, &header, owner.annotated)
        .and_then(|writer| {
            writer.syncer().sync()?;
            storage.sync_dir(&paths.directory)?;
            Ok(writer)
        })
        .map_err(|source| LogFilesError::OpenSegment { path, source })
}

fn write_manifest(storage: &dyn Storage, paths: &LogPaths, manifest: &Manifest) -> Result<(), LogFilesError> {
    let path = paths.manifest();
    replace_file(storage, &path, &manifest.encode())
        .map_err(|source| LogFilesError::WriteManifest { path, source })
}

/// The highest numbers of a base and of a segment in the log directory, 0 where there is none.
fn last_parts(storage: &dyn Storage, paths: &LogPaths) -> Result<(u64, u64), LogFilesError> {
    let entries = storage
        .list(&paths.directory)
        .map_err(|source| LogFilesError::ListDirectory { path: paths.directory.clone(), source })?;
    let (mut base_seq, mut segment_seq) = (0, 0);
    for (seq, kind) in entries.iter().filter_map(|entry| paths.part(&entry.name)) {
        let highest = if kind == FileKind::Base { &mut base_seq } else { &mut segment_seq };
        *highest = seq.max(*highest);
    }
    Ok((base_seq, segment_seq))
}

fn file_len(storage: &dyn Storage, paths: &LogPaths, file: &LiveFile) -> u64 {
    let entries = storage.list(&paths.directory).unwrap_or_default();
    entries.iter().find(|entry| entry.name == file.name).map_or(0, |entry| entry.len)
}

/// Makes the log directory, durably.
///
/// # Errors
/// [`LogFilesError::CreateDirectory`].
pub(crate) fn create_log_directory(storage: &dyn Storage, paths: &LogPaths) -> Result<(), LogFilesError> {
    let path = &paths.directory;
    let parent = path.parent().unwrap_or_else(|| Path::new("."));
    storage
        .create_dir(path)
        .and_then(|()| storage.sync_dir(parent))
        .map_err(|source| LogFilesError::CreateDirectory { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryDisk;

    #[test]
    fn a_new_log_is_numbered_above_every_file_that_is_there() {
        let disk = MemoryDisk::new();
        let paths = LogPaths { directory: "/data/log".into(), name: "a.aof".to_owned() };
        let there = ["a.aof.7.base.aof", "a.aof.12.incr.aof", "a.aof.x.base.rdb", "b.aof.90.incr.aof"];
        for name in there {
            disk.put(&paths.directory.join(name), b"of another server");
        }
        disk.put(&paths.temp_base(), b"a base");
        let owner = Owner { store_id: "s".to_owned(), epoch: 1, annotated: true };
        let start = SegmentStart { offset: 0, seed: 1, now_ms: 1 };
        let log = Log::create(&disk, paths.clone(), owner, None, start, 6).unwrap();
        let names = log.manifest.base.iter().chain(&log.manifest.incrementals).map(|file| &*file.name);
        assert_eq!(names.collect::<Vec<_>>(), ["a.aof.8.base.rdb", "a.aof.13.incr.aof"]);
        for name in there {
            let contents = disk.contents(&paths.directory.join(name));
            assert_eq!(contents.as_deref(), Some(&b"of another server"[..]), "{name}");
        }
    }
}
