//! Everything that reaches the disk while the server runs: the log, its syncs, snapshots and rewrites.
//!
//! ```text
//! turn ends ─ commit(effects): append one frame ─ sync as the strategy asks ─ (error: nothing is acknowledged any more)
//! job       ─ cut at a turn's end ─ entries in slices ─ snapshot thread ─ settle: rename, manifest, remove old files
//!
//! syncs     what is appended to the log, and when it is synced
//! jobs      snapshots and rewrites in the background
//! switch    a log that is switched on or off while the server runs
//! at_once   what is written while everything waits: SAVE, a clean stop, the base of a new log
//! ```
//!
//! Invariant: after an error of a write or sync of the log, [`Journal::commit`] fails for good, and the executor ends
//! without another reply.

mod at_once;
mod jobs;
mod switch;
mod syncs;
#[cfg(test)]
mod testing;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_contract::control::JobReport;

pub(crate) use at_once::create_log;
pub use jobs::{EndedJob, JobKind, JobRequest};

use jobs::Job;
use syncs::SyncThread;

use crate::engine::Engine;
use crate::persistence::aside::{Replaceable, make_way};
use crate::persistence::log::segments::{BegunLog, Log, LogFilesError, LogPaths};
use crate::persistence::log::writer::AppendError;
use crate::persistence::manifest::Owner;
use crate::persistence::policy::{JobBackoff, LogSizes, SyncMode, SyncSchedule};
use crate::persistence::snapshot::job::{SnapshotJobError, WrittenSnapshot};
use crate::storage::Storage;

/// Bytes taken from the engine in one slice of a snapshot: about 0.1 ms of small keys.
const SLICE_LEN: usize = 64 << 10;

/// Why nothing may be acknowledged any more.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The log cannot be appended to or synced.
    #[error("the log cannot be written any more")]
    Log(#[from] AppendError),
    /// The log's files could not be changed.
    #[error("the log's files cannot be changed any more")]
    Files(#[from] LogFilesError),
}

/// Where things lie and how they are written.
#[derive(Debug, Clone)]
pub struct JournalSettings {
    /// The data directory.
    pub dir: PathBuf,
    /// Name of the snapshot in it.
    pub snapshot_name: String,
    /// The log's files.
    pub log: LogPaths,
    /// Whose data it is.
    pub(crate) owner: Owner,
    /// Compress strings in snapshots.
    pub compression: bool,
    /// End snapshots with a checksum.
    pub checksum: bool,
}

/// Facts about the past, for INFO and status.
#[derive(Debug, Clone, Default)]
pub struct JournalFacts {
    /// The last good snapshot.
    pub(crate) last_save: Option<JobReport>,
    /// When the last good snapshot was cut, or the data loaded, in milliseconds since the Unix epoch.
    pub(crate) last_save_ms: u64,
    /// The last good rewrite.
    pub(crate) last_rewrite: Option<JobReport>,
    /// Whether the last snapshot was written.
    pub(crate) last_save_ok: bool,
    /// Whether the last rewrite was finished.
    pub(crate) last_rewrite_ok: bool,
    /// Why the last job failed.
    pub(crate) last_error: Option<String>,
    /// How long the last snapshot took.
    pub(crate) last_save_took: Option<Duration>,
    /// How long the last rewrite took.
    pub(crate) last_rewrite_took: Option<Duration>,
    /// Snapshots written since start.
    pub(crate) saves: u64,
    /// Rewrites finished since start.
    pub(crate) rewrites: u64,
    /// Syncs of the log since start.
    pub(crate) syncs: u64,
    /// How long the last sync of the log took.
    pub(crate) last_sync_took: Duration,
    /// Batches appended since start.
    pub frames: u64,
}

/// What a thread of the journal tells the executor.
pub enum JournalEvent {
    /// A background sync has ended: see [`Journal::log_synced`].
    LogSynced {
        /// Sequence number of the segment.
        segment: u64,
        /// Stream offset that it ended at when the sync began.
        offset: u64,
        /// How long it took.
        took: Duration,
        /// Whether it worked.
        result: io::Result<()>,
    },
    /// The snapshot thread has ended: see [`Journal::snapshot_written`].
    SnapshotWritten {
        /// Id of the job.
        id: u64,
        /// What was written, or why not.
        result: Result<WrittenSnapshot, SnapshotJobError>,
    },
}

/// The way from the journal's threads to the executor; false when that has ended.
pub type JournalEvents = Arc<dyn Fn(JournalEvent) -> bool + Send + Sync>;

/// Writes what the executor executes.
pub struct Journal {
    storage: Arc<dyn Storage>,
    settings: JournalSettings,
    mode: SyncMode,
    log: Option<Log>,
    /// A log that is being switched on: there is none before its base is written.
    begun: Option<BegunLog>,
    /// Number of the first segment of a log that was switched on: a sync of an earlier one is of a log that is no more.
    first_segment: u64,
    /// Stream offset while there is no log.
    offset: u64,
    /// Offset of the last good snapshot, or of the end of a log that was switched off, while there is no log.
    saved_offset: u64,
    schedule: SyncSchedule,
    /// The same of changes and snapshots, while there is no log.
    unsaved: SyncSchedule,
    sync_thread: Option<SyncThread>,
    events: JournalEvents,
    clock: Instant,
    job: Option<Job>,
    next_job_id: u64,
    /// A job that ended while a barrier was held: settled when it is released.
    unsettled: Option<Result<WrittenSnapshot, SnapshotJobError>>,
    hold_files: bool,
    /// Which snapshot file of whom may be overwritten.
    replaceable: Replaceable,
    changes_at_save: u64,
    save_backoff: JobBackoff,
    rewrite_backoff: JobBackoff,
    /// Time that a snapshot is to take for each key (`rdb-key-save-delay`).
    key_delay: Duration,
    /// Time before each write to the log (DEBUG AOF-FLUSH-SLEEP).
    write_delay: Duration,
    facts: JournalFacts,
}

impl Journal {
    /// A journal over an open log, or without one.
    ///
    /// # Errors
    /// The sync thread cannot be started.
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        settings: JournalSettings,
        mode: SyncMode,
        log: Option<Log>,
        offset: u64,
        now_ms: u64,
        events: JournalEvents,
    ) -> io::Result<Self> {
        let sync_thread = log.is_some().then(|| SyncThread::start(Arc::clone(&events))).transpose()?;
        let facts = JournalFacts {
            last_save_ms: now_ms,
            last_save_ok: true,
            last_rewrite_ok: true,
            ..Default::default()
        };
        Ok(Self {
            storage,
            settings,
            mode,
            log,
            begun: None,
            first_segment: 0,
            offset,
            saved_offset: offset,
            schedule: SyncSchedule::default(),
            unsaved: SyncSchedule::default(),
            sync_thread,
            events,
            clock: Instant::now(),
            job: None,
            next_job_id: 1,
            unsettled: None,
            hold_files: false,
            replaceable: Replaceable::default(),
            changes_at_save: 0,
            save_backoff: JobBackoff::default(),
            rewrite_backoff: JobBackoff::default(),
            key_delay: Duration::ZERO,
            write_delay: Duration::ZERO,
            facts,
        })
    }

    fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Path of the snapshot.
    #[must_use]
    pub(crate) fn snapshot_path(&self) -> PathBuf {
        self.settings.dir.join(&self.settings.snapshot_name)
    }

    /// Stream offset after the last committed write.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.log.as_ref().map_or(self.offset, Log::offset)
    }

    /// Stream offset up to which everything is on stable storage.
    #[must_use]
    pub fn durable_offset(&self) -> u64 {
        self.log.as_ref().map_or(self.saved_offset, Log::durable_offset)
    }

    /// What is known of the past.
    #[must_use]
    pub(crate) fn facts(&self) -> &JournalFacts {
        &self.facts
    }

    /// The files that were loaded reach this offset, and no further, whatever the stream has come to.
    pub(crate) fn snapshot_reaches(&mut self, offset: u64) {
        self.saved_offset = offset;
    }

    /// The data was loaded from this snapshot.
    pub(crate) fn loaded_snapshot(&mut self, report: Option<JobReport>) {
        self.facts.last_save = report;
    }

    /// Says which snapshots, besides those of this Store, may be replaced by the next one.
    pub(crate) fn may_replace(&mut self, replaceable: Replaceable) {
        self.replaceable = replaceable;
    }

    /// Keeps a snapshot that is neither ours nor what was loaded, before one of ours takes its name.
    fn make_way_for_snapshot(&self) -> Result<(), String> {
        let path = self.snapshot_path();
        make_way(&*self.storage, &path, &self.settings.owner.store_id, &self.replaceable).map_err(|error| {
            format!("failed to keep {path:?}, which another server has written, under another name: {error}")
        })
    }

    /// Changes since the last snapshot.
    #[must_use]
    pub(crate) fn changes_since_save(&self, engine: &Engine) -> u64 {
        engine.dirty().saturating_sub(self.changes_at_save)
    }

    /// The log.
    #[must_use]
    pub(crate) fn log(&self) -> Option<&Log> {
        self.log.as_ref()
    }

    /// Whether there is a log.
    #[must_use]
    pub fn log_is_live(&self) -> bool {
        self.log.is_some()
    }

    /// Sizes for the rewrite rules; none without a log.
    #[must_use]
    pub(crate) fn log_sizes(&self) -> Option<LogSizes> {
        self.log.as_ref().map(|log| LogSizes {
            current: log.current_len(),
            at_last_rewrite: log.len_at_rewrite(),
            incremental: log.current_len().saturating_sub(log.base_len()),
        })
    }

    /// Changes when the log is synced (`appendfsync`).
    pub fn set_mode(&mut self, mode: SyncMode) {
        self.mode = mode;
    }

    /// Changes how snapshots are written from the next one on.
    pub(crate) fn set_snapshot_form(&mut self, compression: bool, name: String) {
        self.settings.compression = compression;
        self.settings.snapshot_name = name;
    }

    /// Slows snapshots down, for tests: those that run, too.
    pub(crate) fn set_key_delay(&mut self, delay: Duration) {
        self.key_delay = delay;
    }

    /// Delays writes to the log, for tests.
    pub(crate) fn set_write_delay(&mut self, delay: Duration) {
        self.write_delay = delay;
    }

    /// The dataset was replaced by what the files hold; its count of changes begins again.
    pub(crate) fn engine_replaced(&mut self, engine: &Engine) {
        self.changes_at_save = engine.dirty();
    }

    /// Size of the volume that holds the data.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) fn space(&self) -> io::Result<crate::storage::Space> {
        self.storage.space(&self.settings.dir)
    }

    /// The storage below.
    #[must_use]
    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Where things lie.
    #[must_use]
    pub(crate) fn settings(&self) -> &JournalSettings {
        &self.settings
    }
}
