//! Everything that reaches the disk while the server runs: the log, its syncs, snapshots and rewrites.
//!
//! ```text
//! turn ends ─ commit(effects): append one frame ─ sync as the strategy asks ─ (error: nothing is acknowledged any more)
//! job       ─ cut at a turn's end ─ entries in slices ─ snapshot thread ─ settle: rename, manifest, remove old files
//! ```
//!
//! Invariant: after an error of a write or sync of the log, [`Journal::commit`] fails for good, and the executor ends
//! without another reply.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use holdfast_contract::control::JobReport;

use super::Event;
use super::inbox::InboxSender;
use crate::engine::effects::EffectBuffer;
use crate::engine::{Chunk, Engine};
use crate::error_chain::error_chain;
use crate::persistence::log::segments::{Log, LogFilesError, LogPaths, Rewrite, SegmentStart};
use crate::persistence::log::writer::AppendError;
use crate::persistence::manifest::Owner;
use crate::persistence::policy::{JobBackoff, LogSizes, SyncMode, SyncSchedule, SyncStep};
use crate::persistence::snapshot::job::{
    FinishingSnapshot, SnapshotJob, SnapshotJobError, SnapshotPlan, WrittenSnapshot, write_snapshot,
};
use crate::persistence::snapshot::{RdbOptions, SnapshotAux};
use crate::storage::{FileSync, Storage, TEMP_PREFIX};

/// Bytes taken from the engine in one slice of a snapshot: about 0.1 ms of small keys.
const SLICE_LEN: usize = 64 << 10;
/// Bytes of a snapshot that may wait for the disk whatever the size of the data, and the part of the data that may, before
/// writes wait.
const PRE_IMAGES_LEN_MIN: usize = 32 << 20;
const PRE_IMAGES_SHARE: u64 = 20;

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
    pub owner: Owner,
    /// Compress strings in snapshots.
    pub compression: bool,
    /// End snapshots with a checksum.
    pub checksum: bool,
}

/// What a background job is for.
#[derive(Debug)]
pub enum JobKind {
    /// The snapshot in the data directory.
    Save,
    /// The base of the log.
    Rewrite(Rewrite),
    /// A file for a backup, at this path; the backup removes it.
    Cut(PathBuf),
}

enum Stage {
    Walking(SnapshotJob),
    Finishing(FinishingSnapshot),
}

struct Job {
    id: u64,
    kind: JobKind,
    stage: Stage,
    started: Instant,
    offset: u64,
    changes_at_cut: u64,
    cut_ms: u64,
}

/// A job that has ended.
#[derive(Debug)]
pub struct EndedJob {
    /// What it was for.
    pub kind: JobKind,
    /// Stream offset of its cut.
    pub offset: u64,
    /// When it was cut, in milliseconds since the Unix epoch.
    pub cut_ms: u64,
    /// How long it took.
    pub took: Duration,
    /// What was written, or why not.
    pub result: Result<WrittenSnapshot, String>,
}

/// Facts about the past, for INFO and status.
#[derive(Debug, Clone, Default)]
pub struct JournalFacts {
    /// The last good snapshot.
    pub last_save: Option<JobReport>,
    /// When the last good snapshot was cut, or the data loaded, in milliseconds since the Unix epoch.
    pub last_save_ms: u64,
    /// The last good rewrite.
    pub last_rewrite: Option<JobReport>,
    /// Whether the last snapshot was written.
    pub last_save_ok: bool,
    /// Whether the last rewrite was finished.
    pub last_rewrite_ok: bool,
    /// Why the last job failed.
    pub last_error: Option<String>,
    /// How long the last snapshot took.
    pub last_save_took: Option<Duration>,
    /// How long the last rewrite took.
    pub last_rewrite_took: Option<Duration>,
    /// Snapshots written since start.
    pub saves: u64,
    /// Rewrites finished since start.
    pub rewrites: u64,
    /// Syncs of the log since start.
    pub syncs: u64,
    /// How long the last sync of the log took.
    pub last_sync_took: Duration,
    /// Batches appended since start.
    pub frames: u64,
}

struct SyncThread {
    requests: Sender<(Arc<dyn FileSync>, u64, u64)>,
}

impl SyncThread {
    fn start(events: InboxSender<Event>) -> io::Result<Self> {
        let (requests, received) = channel::<(Arc<dyn FileSync>, u64, u64)>();
        std::thread::Builder::new().name("log-sync".to_owned()).spawn(move || {
            while let Ok((syncer, segment, offset)) = received.recv() {
                let started = Instant::now();
                let result = syncer.sync();
                if !events.send(Event::LogSynced { segment, offset, took: started.elapsed(), result }) {
                    return;
                }
            }
        })?;
        Ok(Self { requests })
    }
}

/// Writes what the executor executes.
pub struct Journal {
    storage: Arc<dyn Storage>,
    settings: JournalSettings,
    mode: SyncMode,
    log: Option<Log>,
    /// Stream offset while there is no log.
    offset: u64,
    /// Offset of the last good snapshot, while there is no log.
    saved_offset: u64,
    schedule: SyncSchedule,
    sync_thread: Option<SyncThread>,
    events: InboxSender<Event>,
    clock: Instant,
    job: Option<Job>,
    next_job_id: u64,
    /// A job that ended while a barrier was held: settled when it is released.
    unsettled: Option<Result<WrittenSnapshot, SnapshotJobError>>,
    hold_files: bool,
    changes_at_save: u64,
    save_backoff: JobBackoff,
    rewrite_backoff: JobBackoff,
    facts: JournalFacts,
}

impl Journal {
    /// A journal over an open log, or without one.
    ///
    /// # Errors
    /// The sync thread cannot be started.
    pub fn new(
        storage: Arc<dyn Storage>,
        settings: JournalSettings,
        mode: SyncMode,
        log: Option<Log>,
        offset: u64,
        now_ms: u64,
        events: InboxSender<Event>,
    ) -> io::Result<Self> {
        let sync_thread = log.is_some().then(|| SyncThread::start(events.clone())).transpose()?;
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
            offset,
            saved_offset: offset,
            schedule: SyncSchedule::default(),
            sync_thread,
            events,
            clock: Instant::now(),
            job: None,
            next_job_id: 1,
            unsettled: None,
            hold_files: false,
            changes_at_save: 0,
            save_backoff: JobBackoff::default(),
            rewrite_backoff: JobBackoff::default(),
            facts,
        })
    }

    fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Appends the effects of a turn, and syncs when the strategy (or `point`) asks for it before the replies leave.
    ///
    /// # Errors
    /// [`JournalError`]: no reply of this turn may leave, and none after it.
    pub fn commit(
        &mut self,
        effects: &mut EffectBuffer,
        now_ms: u64,
        point: bool,
    ) -> Result<(), JournalError> {
        let now = self.now();
        let Some(log) = &mut self.log else {
            self.offset += effects.len() as u64;
            effects.clear();
            return Ok(());
        };
        if !effects.is_empty() {
            log.writer().append(effects.bytes(), now_ms)?;
            effects.clear();
            self.facts.frames += 1;
            self.schedule.appended(now);
        }
        let unsynced = log.offset() > log.durable_offset();
        if unsynced && (point || self.mode == SyncMode::Always) {
            self.sync()?;
        }
        Ok(())
    }

    /// Syncs the log and waits for it. Without a log there is nothing to sync.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn sync(&mut self) -> Result<(), JournalError> {
        let Some(log) = &mut self.log else { return Ok(()) };
        let started = Instant::now();
        log.writer().sync()?;
        self.facts.syncs += 1;
        self.facts.last_sync_took = started.elapsed();
        if !self.schedule.is_running() {
            self.schedule.all_synced();
        }
        Ok(())
    }

    /// Starts the background syncs that are due.
    ///
    /// Gives when it wants to be called again at the latest, and whether nothing may be acknowledged before the running
    /// sync has ended.
    pub fn drive_syncs(&mut self) -> (Option<Duration>, bool) {
        let now = self.now();
        match self.schedule.step(self.mode, now) {
            SyncStep::Idle(until) => (until.map(|until| until.saturating_sub(now)), false),
            SyncStep::Start => {
                self.start_sync();
                (None, false)
            }
            SyncStep::Stall => (None, true),
        }
    }

    /// Starts a sync of everything appended so far in the background, unless one runs or nothing is unsynced.
    pub fn start_sync(&mut self) {
        if let (Some(log), Some(thread)) = (&mut self.log, &self.sync_thread)
            && !self.schedule.is_running()
            && log.offset() > log.durable_offset()
        {
            let writer = log.writer();
            let request = (writer.syncer(), writer.end().seq, writer.offset());
            // The thread ends only with the executor.
            if thread.requests.send(request).is_ok() {
                self.schedule.started();
            }
        }
    }

    /// A background sync has ended.
    ///
    /// # Errors
    /// [`JournalError`] when it failed, whichever segment it was of.
    pub fn log_synced(
        &mut self,
        segment: u64,
        offset: u64,
        took: Duration,
        result: io::Result<()>,
    ) -> Result<(), JournalError> {
        let Some(log) = &mut self.log else { return Ok(()) };
        self.facts.syncs += 1;
        self.facts.last_sync_took = took;
        let writer = log.writer();
        if writer.end().seq == segment || result.is_err() {
            writer.synced(offset, result)?;
        }
        self.schedule.finished();
        if log.offset() <= log.durable_offset() {
            self.schedule.all_synced();
        }
        Ok(())
    }

    /// Begins a background job at the end of a turn, when all effects are committed.
    ///
    /// # Errors
    /// The reason as text for the one who asked; a [`JournalError`] inside means the end.
    pub fn start_job(
        &mut self,
        request: JobRequest,
        engine: &mut Engine,
        effects: &mut EffectBuffer,
        now_ms: u64,
    ) -> Result<Result<(), String>, JournalError> {
        debug_assert!(effects.is_empty(), "jobs are cut between turns");
        if self.job.is_some() {
            return Ok(Err("another background job is running".to_owned()));
        }
        let offset = self.offset();
        let (kind, temp_path, digest) = match request {
            JobRequest::Save => {
                (JobKind::Save, self.settings.dir.join(format!("{TEMP_PREFIX}save.rdb")), false)
            }
            JobRequest::Cut(path) => (JobKind::Cut(path.clone()), path, true),
            JobRequest::Rewrite => {
                let Some(log) = &mut self.log else { return Ok(Err("there is no log".to_owned())) };
                let rewrite = match log.begin_rewrite(&*self.storage, rand::random(), now_ms) {
                    Ok(rewrite) => rewrite,
                    // Nothing names the new segment yet: the open one is as good as before.
                    Err(error @ LogFilesError::OpenSegment { .. }) => {
                        let error = error_chain(&error);
                        self.facts.last_rewrite_ok = false;
                        self.facts.last_error = Some(error.clone());
                        self.rewrite_backoff.failed(self.clock.elapsed());
                        return Ok(Err(error));
                    }
                    Err(error) => return Err(error.into()),
                };
                effects.reset_database();
                if !self.schedule.is_running() {
                    self.schedule.all_synced();
                }
                let temp_path = rewrite.temp_path.clone();
                (JobKind::Rewrite(rewrite), temp_path, false)
            }
        };
        let id = self.next_job_id;
        self.next_job_id += 1;
        let plan = SnapshotPlan {
            temp_path,
            final_path: None,
            rdb: self.rdb_options(matches!(kind, JobKind::Rewrite(_)), offset, engine, now_ms),
            digest,
        };
        let events = self.events.clone();
        let done = move |result| {
            // When the executor has ended, so has the job.
            events.send(Event::SnapshotWritten { id, result });
        };
        let writer = match SnapshotJob::start(Arc::clone(&self.storage), plan, done) {
            Ok(writer) => writer,
            Err(error) => {
                let error = error_chain(&error);
                self.job_failed(&kind, error.clone());
                return Ok(Err(error));
            }
        };
        engine.snapshot_begin();
        self.job = Some(Job {
            id,
            kind,
            stage: Stage::Walking(writer),
            started: Instant::now(),
            offset,
            changes_at_cut: engine.dirty(),
            cut_ms: now_ms,
        });
        Ok(Ok(()))
    }

    fn rdb_options(&self, aof_base: bool, offset: u64, engine: &Engine, now_ms: u64) -> RdbOptions {
        let aux = SnapshotAux {
            created_s: now_ms / 1000,
            used_memory: engine.used_memory(),
            aof_base,
            replication: None,
            store_id: Some(self.settings.owner.store_id.clone()),
            epoch: Some(self.settings.owner.epoch),
            offset: Some(offset),
        };
        RdbOptions {
            compression: self.settings.compression,
            checksum: self.settings.checksum,
            aux: aux.fields(),
        }
    }

    /// Does one slice of the running job. Gives true when it wants to be called again without waiting.
    pub fn drive_job(&mut self, engine: &mut Engine) -> bool {
        let Some(job) = &mut self.job else { return false };
        let Stage::Walking(writer) = &mut job.stage else { return false };
        // What was saved because it changed is handed over in any case, so that it is not held twice.
        let budget = if writer.is_full() { 0 } else { SLICE_LEN };
        if budget == 0 && engine.snapshot_pending_bytes() == 0 {
            return false;
        }
        let mut chunk = Chunk::default();
        let done = engine.snapshot_step(budget, &mut chunk);
        writer.push(chunk);
        if !done {
            return true;
        }
        if let Some(mut job) = self.job.take() {
            if let Stage::Walking(writer) = job.stage {
                job.stage = Stage::Finishing(writer.finish());
            }
            self.job = Some(job);
        }
        false
    }

    /// True while the running job has more to hand over.
    #[must_use]
    pub fn job_is_walking(&self) -> bool {
        self.job.as_ref().is_some_and(|job| matches!(job.stage, Stage::Walking(_)))
    }

    /// True while so much of a snapshot waits for the disk that writes, which add to it, should wait, too.
    #[must_use]
    pub fn save_is_behind(&self, engine: &Engine) -> bool {
        let Some(Job { stage: Stage::Walking(writer), .. }) = &self.job else { return false };
        let waiting = writer.queued_bytes() + engine.snapshot_pending_bytes();
        waiting > PRE_IMAGES_LEN_MIN && waiting as u64 > engine.used_memory() / PRE_IMAGES_SHARE
    }

    /// True while the snapshot thread is behind and takes nothing.
    pub fn job_is_stuck(&mut self) -> bool {
        match &self.job {
            Some(Job { stage: Stage::Walking(writer), .. }) => writer.is_full(),
            _ => false,
        }
    }

    /// The snapshot thread has ended: settles the job, unless a barrier holds the files.
    ///
    /// # Errors
    /// [`JournalError`] when the log's files are in an unknown state.
    pub fn snapshot_written(
        &mut self,
        id: u64,
        result: Result<WrittenSnapshot, SnapshotJobError>,
        engine: &mut Engine,
    ) -> Result<Option<EndedJob>, JournalError> {
        if self.job.as_ref().is_none_or(|job| job.id != id) {
            return Ok(None);
        }
        if self.hold_files {
            self.unsettled = Some(result);
            return Ok(None);
        }
        self.settle(result, engine)
    }

    fn settle(
        &mut self,
        result: Result<WrittenSnapshot, SnapshotJobError>,
        engine: &mut Engine,
    ) -> Result<Option<EndedJob>, JournalError> {
        let Some(job) = self.job.take() else { return Ok(None) };
        if matches!(job.stage, Stage::Walking(_)) {
            // The thread gave up before everything was handed over.
            engine.snapshot_abort();
        }
        let took = job.started.elapsed();
        let result = match result {
            Ok(written) => self.place(&job, &written)?.map(|()| written),
            Err(error) => Err(error_chain(&error)),
        };
        let now = self.now();
        match &result {
            Ok(written) => {
                let report = JobReport {
                    completed_ms: job.cut_ms + u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                    bytes: written.bytes,
                    duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                    offset: job.offset,
                };
                match &job.kind {
                    JobKind::Save => {
                        self.save_backoff.succeeded();
                        self.saved(report, took, job.changes_at_cut);
                    }
                    JobKind::Rewrite(_) => {
                        self.rewrite_backoff.succeeded();
                        self.facts.rewrites += 1;
                        self.facts.last_rewrite = Some(report);
                        self.facts.last_rewrite_ok = true;
                        self.facts.last_rewrite_took = Some(took);
                        self.facts.last_error = None;
                    }
                    JobKind::Cut(_) => {}
                }
            }
            Err(error) => {
                match &job.kind {
                    JobKind::Save => self.save_backoff.failed(now),
                    JobKind::Rewrite(_) => self.rewrite_backoff.failed(now),
                    JobKind::Cut(_) => {}
                }
                self.job_failed(&job.kind, error.clone());
            }
        }
        Ok(Some(EndedJob { kind: job.kind, offset: job.offset, cut_ms: job.cut_ms, took, result }))
    }

    fn job_failed(&mut self, kind: &JobKind, error: String) {
        match kind {
            JobKind::Save => self.facts.last_save_ok = false,
            JobKind::Rewrite(_) => self.facts.last_rewrite_ok = false,
            JobKind::Cut(_) => {}
        }
        self.facts.last_error = Some(error);
    }

    fn saved(&mut self, report: JobReport, took: Duration, changes_at_cut: u64) {
        self.facts.saves += 1;
        self.facts.last_save_ms = report.completed_ms;
        self.facts.last_save_ok = true;
        self.facts.last_save_took = Some(took);
        self.facts.last_error = None;
        self.changes_at_save = changes_at_cut;
        self.saved_offset = report.offset;
        self.facts.last_save = Some(report);
    }

    /// Puts a written file in its place. The outer error means the end.
    fn place(&mut self, job: &Job, written: &WrittenSnapshot) -> Result<Result<(), String>, JournalError> {
        match &job.kind {
            JobKind::Cut(_) => Ok(Ok(())),
            JobKind::Save => {
                let temp = self.settings.dir.join(format!("{TEMP_PREFIX}save.rdb"));
                let path = self.snapshot_path();
                let placed = self
                    .storage
                    .rename(&temp, &path)
                    .and_then(|()| self.storage.sync_dir(&self.settings.dir));
                Ok(placed.map_err(|error| format!("failed to move the snapshot to {path:?}: {error}")))
            }
            JobKind::Rewrite(rewrite) => {
                let Some(log) = &mut self.log else { return Ok(Ok(())) };
                match log.finish_rewrite(&*self.storage, rewrite, written.bytes) {
                    Ok(()) => Ok(Ok(())),
                    // Either manifest on disk describes the same data, and nothing has been removed: go on.
                    Err(error @ (LogFilesError::PlaceBase { .. } | LogFilesError::WriteManifest { .. })) => {
                        Ok(Err(error_chain(&error)))
                    }
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// Path of the snapshot.
    #[must_use]
    pub fn snapshot_path(&self) -> PathBuf {
        self.settings.dir.join(&self.settings.snapshot_name)
    }

    /// Writes the snapshot here and now (SAVE, clean stop).
    ///
    /// # Errors
    /// Why not, as text; the snapshot from before then stays.
    pub fn save_now(&mut self, engine: &mut Engine, now_ms: u64) -> Result<(), String> {
        if self.job.is_some() {
            return Err("another background job is running".to_owned());
        }
        let started = Instant::now();
        let offset = self.offset();
        let plan = SnapshotPlan {
            temp_path: self.settings.dir.join(format!("{TEMP_PREFIX}save.rdb")),
            final_path: Some(self.snapshot_path()),
            rdb: self.rdb_options(false, offset, engine, now_ms),
            digest: false,
        };
        match write_all(&*self.storage, &plan, engine) {
            Ok(written) => {
                let took = started.elapsed();
                let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                let report = JobReport {
                    completed_ms: now_ms + duration_ms,
                    bytes: written.bytes,
                    duration_ms,
                    offset,
                };
                self.saved(report, took, engine.dirty());
                Ok(())
            }
            Err(error) => {
                let error = error_chain(&error);
                self.job_failed(&JobKind::Save, error.clone());
                Err(error)
            }
        }
    }

    /// Gives up the running job, if there is one.
    pub fn abort_job(&mut self, engine: &mut Engine) {
        self.unsettled = None;
        if let Some(job) = self.job.take() {
            match job.stage {
                Stage::Walking(writer) => {
                    engine.snapshot_abort();
                    writer.cancel();
                }
                Stage::Finishing(finishing) => finishing.wait(),
            }
        }
    }

    /// While true, no file is renamed or removed (a barrier is held). Released, a job that ended meanwhile is settled.
    ///
    /// # Errors
    /// [`JournalError`] from settling.
    pub fn hold_files(&mut self, hold: bool, engine: &mut Engine) -> Result<Option<EndedJob>, JournalError> {
        self.hold_files = hold;
        match self.unsettled.take() {
            Some(result) if !hold => self.settle(result, engine),
            unsettled => {
                self.unsettled = unsettled;
                Ok(None)
            }
        }
    }

    /// True while a barrier holds the files.
    #[must_use]
    pub fn files_are_held(&self) -> bool {
        self.hold_files
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

    /// Age of the oldest byte of the log that is not on stable storage.
    #[must_use]
    pub fn unsynced_age(&self) -> Duration {
        self.schedule.unsynced_age(self.now())
    }

    /// What is known of the past.
    #[must_use]
    pub fn facts(&self) -> &JournalFacts {
        &self.facts
    }

    /// The data was loaded from a snapshot made at `saved_ms`.
    pub fn loaded_snapshot(&mut self, report: Option<JobReport>) {
        self.facts.last_save = report;
    }

    /// Changes since the last snapshot.
    #[must_use]
    pub fn changes_since_save(&self, engine: &Engine) -> u64 {
        engine.dirty().saturating_sub(self.changes_at_save)
    }

    /// The running job, if there is one.
    #[must_use]
    pub fn running_job(&self) -> Option<(&JobKind, Duration)> {
        self.job.as_ref().map(|job| (&job.kind, job.started.elapsed()))
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> Option<&Log> {
        self.log.as_ref()
    }

    /// Sizes for the rewrite rules; none without a log.
    #[must_use]
    pub fn log_sizes(&self) -> Option<LogSizes> {
        self.log.as_ref().map(|log| LogSizes {
            current: log.current_len(),
            at_last_rewrite: log.len_at_rewrite(),
            incremental: log.current_len().saturating_sub(log.base_len()),
        })
    }

    /// True when an automatic snapshot may be tried now.
    #[must_use]
    pub fn save_allowed(&self) -> bool {
        self.save_backoff.allows(self.now())
    }

    /// True when an automatic rewrite may be tried now.
    #[must_use]
    pub fn rewrite_allowed(&self) -> bool {
        self.rewrite_backoff.allows(self.now())
    }

    /// Changes when the log is synced (`appendfsync`).
    pub fn set_mode(&mut self, mode: SyncMode) {
        self.mode = mode;
    }

    /// Changes how snapshots are written from the next one on.
    pub fn set_snapshot_form(&mut self, compression: bool, name: String) {
        self.settings.compression = compression;
        self.settings.snapshot_name = name;
    }

    /// The dataset was replaced by what the files hold; its count of changes begins again.
    pub fn engine_replaced(&mut self, engine: &Engine) {
        self.changes_at_save = engine.dirty();
    }

    /// Size of the volume that holds the data.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn space(&self) -> io::Result<crate::storage::Space> {
        self.storage.space(&self.settings.dir)
    }

    /// The storage below.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Where things lie.
    #[must_use]
    pub fn settings(&self) -> &JournalSettings {
        &self.settings
    }
}

/// What a job is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobRequest {
    /// Write the snapshot.
    Save,
    /// Rewrite the log.
    Rewrite,
    /// Write a file for a backup.
    Cut(PathBuf),
}

/// Writes all of the engine's data.
///
/// # Errors
/// [`SnapshotJobError`].
fn write_all(
    storage: &dyn Storage,
    plan: &SnapshotPlan,
    engine: &mut Engine,
) -> Result<WrittenSnapshot, SnapshotJobError> {
    engine.snapshot_begin();
    let mut done = false;
    let chunks = std::iter::from_fn(|| {
        if done {
            return None;
        }
        let mut chunk = Chunk::default();
        done = engine.snapshot_step(SLICE_LEN, &mut chunk);
        Some(chunk)
    });
    let result = write_snapshot(storage, plan, chunks);
    engine.snapshot_abort();
    result
}

/// Starts a log over the data in `engine`: writes the base, then the manifest.
///
/// # Errors
/// The reason, as text.
pub fn create_log(
    storage: &dyn Storage,
    settings: &JournalSettings,
    previous: Option<&crate::persistence::manifest::Manifest>,
    engine: &mut Engine,
    offset: u64,
    now_ms: u64,
) -> Result<Log, String> {
    crate::persistence::log::segments::create_log_directory(storage, &settings.log)
        .map_err(|error| error_chain(&error))?;
    let aux = SnapshotAux {
        created_s: now_ms / 1000,
        used_memory: engine.used_memory(),
        aof_base: true,
        replication: None,
        store_id: Some(settings.owner.store_id.clone()),
        epoch: Some(settings.owner.epoch),
        offset: Some(offset),
    };
    let plan = SnapshotPlan {
        temp_path: settings.log.temp_base(),
        final_path: None,
        rdb: RdbOptions { compression: settings.compression, checksum: settings.checksum, aux: aux.fields() },
        digest: false,
    };
    let written = write_all(storage, &plan, engine).map_err(|error| error_chain(&error))?;
    let start = SegmentStart { offset, seed: rand::random(), now_ms };
    Log::create(storage, settings.log.clone(), settings.owner.clone(), previous, start, written.bytes)
        .map_err(|error| error_chain(&error))
}
