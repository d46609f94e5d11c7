//! Background jobs: a cut between two turns, entries in slices, a thread that writes, and the file put in its place.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_contract::control::JobReport;

use super::{Journal, JournalError, JournalEvent, SLICE_LEN};
use crate::engine::effects::EffectBuffer;
use crate::engine::{Chunk, Engine};
use crate::error_chain::error_chain;
use crate::persistence::log::segments::{LogFilesError, Rewrite};
use crate::persistence::snapshot::job::{
    FinishingSnapshot, SnapshotJob, SnapshotJobError, SnapshotPlan, WrittenSnapshot,
};
use crate::storage::TEMP_PREFIX;

/// Bytes of a snapshot that may wait for the disk whatever the size of the data, and the part of the data that may, before
/// writes wait.
const PRE_IMAGES_LEN_MIN: usize = 32 << 20;
const PRE_IMAGES_SHARE: u64 = 20;

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

/// A job that runs.
pub(super) struct Job {
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
    pub(crate) took: Duration,
    /// What was written, or why not.
    pub result: Result<WrittenSnapshot, String>,
}

impl Journal {
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
            rdb: self.settings.rdb_options(matches!(kind, JobKind::Rewrite(_)), offset, engine, now_ms),
            digest,
        };
        let events = Arc::clone(&self.events);
        let done = move |result| {
            // When the executor has ended, so has the job.
            events(JournalEvent::SnapshotWritten { id, result });
        };
        let writer = match SnapshotJob::start(Arc::clone(&self.storage), plan, done) {
            Ok(writer) => writer,
            Err(error) => {
                let error = error_chain(&error);
                self.job_failed(&kind, error.clone());
                return Ok(Err(error));
            }
        };
        engine.snapshot_begin(i64::try_from(now_ms).unwrap_or(i64::MAX));
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
    pub(crate) fn save_is_behind(&self, engine: &Engine) -> bool {
        let Some(Job { stage: Stage::Walking(writer), .. }) = &self.job else { return false };
        let waiting = writer.queued_bytes() + engine.snapshot_pending_bytes();
        waiting > PRE_IMAGES_LEN_MIN && waiting as u64 > engine.used_memory() / PRE_IMAGES_SHARE
    }

    /// True while the snapshot thread is behind and takes nothing.
    pub(crate) fn job_is_stuck(&mut self) -> bool {
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

    pub(super) fn job_failed(&mut self, kind: &JobKind, error: String) {
        match kind {
            JobKind::Save => self.facts.last_save_ok = false,
            JobKind::Rewrite(_) => self.facts.last_rewrite_ok = false,
            JobKind::Cut(_) => {}
        }
        self.facts.last_error = Some(error);
    }

    pub(super) fn saved(&mut self, report: JobReport, took: Duration, changes_at_cut: u64) {
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
    pub(crate) fn hold_files(
        &mut self,
        hold: bool,
        engine: &mut Engine,
    ) -> Result<Option<EndedJob>, JournalError> {
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
    pub(crate) fn files_are_held(&self) -> bool {
        self.hold_files
    }

    /// The running job, if there is one.
    #[must_use]
    pub(crate) fn running_job(&self) -> Option<(&JobKind, Duration)> {
        self.job.as_ref().map(|job| (&job.kind, job.started.elapsed()))
    }

    /// Rewrites that have failed since the last that was finished.
    pub(crate) fn rewrite_failures(&self) -> u32 {
        self.rewrite_backoff.failures()
    }

    /// True when an automatic snapshot may be tried now.
    #[must_use]
    pub(crate) fn save_allowed(&self) -> bool {
        self.save_backoff.allows(self.now())
    }

    /// True when an automatic rewrite may be tried now.
    #[must_use]
    pub(crate) fn rewrite_allowed(&self) -> bool {
        self.rewrite_backoff.allows(self.now())
    }
}
