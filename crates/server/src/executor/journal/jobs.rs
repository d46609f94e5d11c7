//! Background jobs: a cut between two turns, entries in slices, a thread that writes, and the file put in its place.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_contract::control::JobReport;

use super::{Journal, JournalError, JournalEvent, SLICE_LEN};
use crate::engine::effects::EffectBuffer;
use crate::engine::{Chunk, Engine};
use crate::error_chain::error_chain;
use crate::persistence::log::segments::{Log, LogFilesError, Rewrite};
use crate::persistence::room::{Shortage, shortage};
use crate::persistence::snapshot::TEMP_SNAPSHOT;
use crate::persistence::snapshot::job::{
    FinishingSnapshot, SnapshotJob, SnapshotJobError, SnapshotPlan, SnapshotThread, WrittenSnapshot,
};

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
    /// Begin a log where there is none.
    Begin,
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
    /// The base of a log that begins.
    Begin,
    /// A file for a backup, at this path; the backup removes it.
    Cut(PathBuf),
}

impl JobKind {
    /// Its name in the log of messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            JobKind::Save => "snapshot",
            JobKind::Rewrite(_) => "log rewrite",
            JobKind::Begin => "begin of a log",
            JobKind::Cut(_) => "backup snapshot",
        }
    }
}

enum Stage {
    Walking(SnapshotJob),
    Finishing(FinishingSnapshot),
}

impl Stage {
    /// Gives the snapshot up, unless all of it has been handed over, and waits until its thread has ended.
    fn end(self) {
        match self {
            Stage::Walking(writer) => writer.give_up().wait(),
            Stage::Finishing(finishing) => finishing.wait(),
        }
    }
}

/// A job that runs.
pub(super) struct Job {
    id: u64,
    kind: JobKind,
    stage: Stage,
    started: Instant,
    /// Keys handed over so far.
    keys: u64,
    offset: u64,
    /// The engine's number of the cut that is walked.
    cut: Option<u32>,
    changes_at_cut: u64,
    cut_ms: u64,
}

impl Job {
    /// Whether it has handed over more keys than it is to have done by now.
    fn is_early(&self, key_delay: Duration) -> bool {
        let due = key_delay.saturating_mul(u32::try_from(self.keys + 1).unwrap_or(u32::MAX));
        self.started.elapsed() < due
    }
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
    /// True when it failed because the volume has no room for it.
    pub(crate) lacks_space: bool,
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
        if request == JobRequest::Rewrite && self.log.is_none() {
            return Ok(Err("there is no log".to_owned()));
        }
        if request == JobRequest::Begin && self.log.is_some() {
            return Ok(Err("there is a log already".to_owned()));
        }
        let id = self.next_job_id;
        self.next_job_id += 1;
        let events = Arc::clone(&self.events);
        let done = move |result| {
            // When the executor has ended, so has the job.
            events(JournalEvent::SnapshotWritten { id, result });
        };
        // Order matters: a rewrite adds a segment, which stays when the thread cannot be started.
        let thread = match SnapshotThread::start(Arc::clone(&self.storage), done) {
            Ok(thread) => thread,
            Err(error) => return Ok(Err(self.not_started(&request, error_chain(&error)))),
        };
        let offset = self.offset();
        let (kind, temp_path, digest) = match request {
            JobRequest::Save => (JobKind::Save, self.settings.dir.join(TEMP_SNAPSHOT), false),
            JobRequest::Cut(path) => (JobKind::Cut(path.clone()), path, true),
            JobRequest::Rewrite => {
                let Some(log) = &mut self.log else { return Ok(Err("there is no log".to_owned())) };
                let rewrite = match log.begin_rewrite(&*self.storage, rand::random(), now_ms) {
                    Ok(rewrite) => rewrite,
                    // Nothing names the new segment yet: the open one is as good as before.
                    Err(error @ LogFilesError::OpenSegment { .. }) => {
                        return Ok(Err(self.not_started(&JobRequest::Rewrite, error_chain(&error))));
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
            JobRequest::Begin => match self.begin_log(now_ms) {
                Ok(temp_path) => {
                    effects.reset_database();
                    (JobKind::Begin, temp_path, false)
                }
                // Nothing depends on what has been made.
                Err(error) => return Ok(Err(self.not_started(&JobRequest::Begin, error))),
            },
        };
        let plan = SnapshotPlan {
            temp_path,
            final_path: None,
            rdb: self.settings.rdb_options(
                matches!(kind, JobKind::Rewrite(_) | JobKind::Begin),
                offset,
                engine,
                now_ms,
            ),
            digest,
            leaves_room: matches!(kind, JobKind::Cut(_)),
        };
        engine.snapshot_begin(i64::try_from(now_ms).unwrap_or(i64::MAX));
        if matches!(kind, JobKind::Save) {
            self.unsaved.started();
        }
        self.job = Some(Job {
            id,
            kind,
            stage: Stage::Walking(thread.begin(plan)),
            started: Instant::now(),
            keys: 0,
            offset,
            cut: engine.cut(),
            changes_at_cut: engine.dirty(),
            cut_ms: now_ms,
        });
        Ok(Ok(()))
    }

    /// What is short for the snapshot of a backup, if that is known before it is written. It lies beside the data for as long as
    /// the upload takes.
    ///
    /// How large it becomes is not known. What the same data took the last time is a lower bound, unless much of it has been
    /// deleted since; the rest shows while it is written.
    #[must_use]
    pub(crate) fn cut_shortage(&self, engine: &Engine) -> Option<Shortage> {
        let base_len = self.log.as_ref().map_or(0, Log::base_len);
        let saved_len = self.facts.last_save.as_ref().map_or(0, |report| report.bytes);
        let len = base_len.max(saved_len).min(engine.used_memory());
        shortage(0, len, self.space().ok()?)
    }

    /// A job could not be started: it is tried again after a pause, which grows with every failure. Returns the error.
    pub(crate) fn not_started(&mut self, request: &JobRequest, error: String) -> String {
        let now = self.now();
        match request {
            JobRequest::Save => {
                self.save_backoff.failed(now);
                self.facts.last_save_ok = false;
            }
            JobRequest::Rewrite | JobRequest::Begin => {
                self.rewrite_backoff.failed(now);
                self.facts.last_rewrite_ok = false;
            }
            JobRequest::Cut(_) => {}
        }
        self.facts.last_error = Some(error.clone());
        error
    }

    /// Does one slice of the running job. Returns true when it wants to be called again without waiting.
    ///
    /// A job whose cut the engine no longer walks, because the data was replaced meanwhile, fails: what it has written is a
    /// part of the data, and the rest is gone.
    pub fn drive_job(&mut self, engine: &mut Engine) -> bool {
        let Some(mut job) = self.job.take() else { return false };
        let is_early = !self.key_delay.is_zero() && !engine.is_empty() && job.is_early(self.key_delay);
        let wants_more;
        (job.stage, wants_more) = match job.stage {
            Stage::Walking(writer) if engine.cut() == job.cut => {
                let len = if is_early { 0 } else { slice_len(self.key_delay) };
                let (stage, keys, wants_more) = walk(writer, engine, len);
                job.keys += keys;
                (stage, wants_more)
            }
            Stage::Walking(writer) => {
                tracing::error!(job = job.kind.name(), "the data that a background job saves was replaced");
                (Stage::Finishing(writer.give_up()), false)
            }
            stage @ Stage::Finishing(_) => (stage, false),
        };
        self.job = Some(job);
        wants_more
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

    /// True while the snapshot thread is behind and takes nothing, or the next key is not due.
    pub(crate) fn job_is_stuck(&mut self) -> bool {
        match &self.job {
            Some(job @ Job { stage: Stage::Walking(writer), .. }) => {
                writer.is_full() || (!self.key_delay.is_zero() && job.is_early(self.key_delay))
            }
            _ => false,
        }
    }

    /// The snapshot thread has ended: settles the job, unless a barrier holds the files and there is one to be put in its place.
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
        // One that has failed changes no file any more.
        if self.hold_files && result.is_ok() {
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
        if matches!(job.stage, Stage::Walking(_)) && engine.cut() == job.cut {
            // The thread gave up before everything was handed over.
            engine.snapshot_abort();
        }
        let took = job.started.elapsed();
        let lacks_space = result.as_ref().is_err_and(SnapshotJobError::lacks_space);
        let result = match result {
            Ok(written) => self.place(&job, &written)?.map(|()| written),
            Err(error) => Err(error_chain(&error)),
        };
        if result.is_err() {
            self.discard_begun(&job.kind);
        }
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
                    JobKind::Rewrite(_) | JobKind::Begin => {
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
                    JobKind::Save => {
                        self.save_backoff.failed(now);
                        self.unsaved.failed();
                    }
                    JobKind::Rewrite(_) | JobKind::Begin => self.rewrite_backoff.failed(now),
                    JobKind::Cut(_) => {}
                }
                self.job_failed(&job.kind, error.clone());
            }
        }
        let Job { kind, offset, cut_ms, .. } = job;
        Ok(Some(EndedJob { kind, offset, cut_ms, took, result, lacks_space }))
    }

    pub(super) fn job_failed(&mut self, kind: &JobKind, error: String) {
        match kind {
            JobKind::Save => self.facts.last_save_ok = false,
            JobKind::Rewrite(_) | JobKind::Begin => self.facts.last_rewrite_ok = false,
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
        // A log may have been switched off behind its cut, and all of that is durable.
        self.saved_offset = self.saved_offset.max(report.offset);
        self.unsaved.finished();
        self.facts.last_save = Some(report);
    }

    /// Puts a written file in its place. The outer error means the end.
    fn place(&mut self, job: &Job, written: &WrittenSnapshot) -> Result<Result<(), String>, JournalError> {
        match &job.kind {
            JobKind::Cut(_) => Ok(Ok(())),
            JobKind::Begin => Ok(self.log_begins(written.bytes)),
            JobKind::Save => {
                let temp = self.settings.dir.join(TEMP_SNAPSHOT);
                let path = self.snapshot_path();
                if let Err(error) = self.make_way_for_snapshot() {
                    return Ok(Err(error));
                }
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

    /// Gives up the running job, if there is one, for `reason`, and returns it: whoever waits for it is to be told. That it
    /// ended so says nothing of the storage, and does not count as a failure.
    pub fn abort_job(&mut self, engine: &mut Engine, reason: &str) -> Option<EndedJob> {
        self.unsettled = None;
        let job = self.job.take()?;
        if matches!(job.kind, JobKind::Save) {
            self.unsaved.failed();
        }
        if matches!(job.stage, Stage::Walking(_)) && engine.cut() == job.cut {
            engine.snapshot_abort();
        }
        job.stage.end();
        self.discard_begun(&job.kind);
        Some(EndedJob {
            kind: job.kind,
            offset: job.offset,
            cut_ms: job.cut_ms,
            took: job.started.elapsed(),
            result: Err(reason.to_owned()),
            lacks_space: false,
        })
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

impl Drop for Journal {
    /// Whoever comes next to the directory writes files of the same names, which the thread of a job would write and remove.
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            job.stage.end();
        }
    }
}

/// How much is taken from the engine at once: with a delay for each key, one step of the walk.
pub(super) fn slice_len(key_delay: Duration) -> usize {
    if key_delay.is_zero() { SLICE_LEN } else { 1 }
}

/// Hands over a slice of the walk, of `len` bytes if there is room; the number of its keys, and whether there is more.
fn walk(mut writer: SnapshotJob, engine: &mut Engine, len: usize) -> (Stage, u64, bool) {
    // What was saved because it changed is handed over in any case, so that it is not held twice.
    let budget = if writer.is_full() { 0 } else { len };
    if budget == 0 && engine.snapshot_pending_bytes() == 0 {
        return (Stage::Walking(writer), 0, false);
    }
    let mut chunk = Chunk::default();
    let done = engine.snapshot_step(budget, &mut chunk);
    let keys = chunk.keys();
    writer.push(chunk);
    if done { (Stage::Finishing(writer.finish()), keys, false) } else { (Stage::Walking(writer), keys, true) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::testing::{engine, journal};
    use super::*;
    use crate::persistence::snapshot::job::NO_THREADS;
    use crate::storage::memory::{Fault, MemoryDisk};

    /// Snapshots on the disk, the bases of logs among them.
    fn snapshots(disk: &MemoryDisk) -> Vec<(PathBuf, Vec<u8>)> {
        let is_snapshot = |path: &Path| path.extension().is_some_and(|it| it == "rdb");
        disk.files().into_iter().filter(|(path, _)| is_snapshot(path)).collect()
    }

    /// A job that was begun with one engine is driven with another.
    fn check(request: JobRequest, successor: impl FnOnce(Engine) -> Engine) {
        let disk = MemoryDisk::new();
        disk.put(Path::new("/data/dump.rdb"), b"the last one");
        let mut old = engine(1_000);
        let (mut journal, events) = journal(&disk, &mut old);
        let before = snapshots(&disk);
        journal.start_job(request.clone(), &mut old, &mut EffectBuffer::new(), 2).unwrap().unwrap();
        assert!(journal.drive_job(&mut old), "{request:?} is not done in one slice");
        let mut new = successor(old);
        assert!(!journal.drive_job(&mut new) && !journal.job_is_walking(), "{request:?}");
        let JournalEvent::SnapshotWritten { id, result } = events.recv().unwrap() else { panic!("no job") };
        let ended = journal.snapshot_written(id, result, &mut new).unwrap().unwrap();
        assert!(ended.result.is_err(), "{request:?}: a part of the data counts as all");
        assert!(journal.running_job().is_none());
        assert_eq!(snapshots(&disk), before, "{request:?}");
        journal.start_job(request, &mut new, &mut EffectBuffer::new(), 3).unwrap().unwrap();
        while journal.drive_job(&mut new) {}
        let JournalEvent::SnapshotWritten { id, result } = events.recv().unwrap() else { panic!("no job") };
        let ended = journal.snapshot_written(id, result, &mut new).unwrap().unwrap();
        assert_eq!(ended.result.map(|written| written.keys), Ok(new.len() as u64), "the next one is whole");
    }

    #[test]
    fn no_job_is_finished_by_another_engine_than_it_was_begun_with() {
        for request in [JobRequest::Save, JobRequest::Rewrite, JobRequest::Cut("/data/backup.rdb".into())] {
            check(request.clone(), |old| {
                let mut new = engine(3);
                new.take_over(old, 0);
                new
            });
            // Nor with a later cut of the same engine.
            check(request, |mut old| {
                old.snapshot_begin(0);
                old
            });
        }
    }

    #[test]
    fn a_job_that_fails_ends_also_while_a_barrier_holds_the_files() {
        for request in [JobRequest::Save, JobRequest::Rewrite, JobRequest::Cut("/data/backup.rdb".into())] {
            let disk = MemoryDisk::new();
            let mut engine = engine(20_000);
            let (mut journal, events) = journal(&disk, &mut engine);
            journal.start_job(request.clone(), &mut engine, &mut EffectBuffer::new(), 2).unwrap().unwrap();
            assert!(journal.hold_files(true, &mut engine).unwrap().is_none());
            disk.inject(Some(Fault {
                call: disk.calls(),
                kind: std::io::ErrorKind::StorageFull,
                forever: true,
            }));
            while !journal.job_is_stuck() && journal.drive_job(&mut engine) {}
            let JournalEvent::SnapshotWritten { id, result } = events.recv().unwrap() else {
                panic!("no job")
            };
            assert!(result.is_err(), "{request:?}");
            // The event waits while the walk goes on, for nobody.
            while journal.drive_job(&mut engine) {}
            assert!(
                !journal.save_is_behind(&engine),
                "{request:?}: writes would wait until the barrier ends"
            );
            let ended = journal.snapshot_written(id, result, &mut engine).unwrap().unwrap();
            assert!(ended.result.is_err() && journal.running_job().is_none(), "{request:?}");
            assert!(!engine.snapshot_active());
        }
    }

    #[test]
    fn the_thread_of_a_job_ends_with_its_journal() {
        for is_walking in [true, false] {
            let disk = MemoryDisk::new();
            let mut engine = engine(1_000);
            let (mut journal, events) = journal(&disk, &mut engine);
            journal.start_job(JobRequest::Save, &mut engine, &mut EffectBuffer::new(), 2).unwrap().unwrap();
            assert!(journal.drive_job(&mut engine));
            while !is_walking && journal.job_is_walking() {
                journal.drive_job(&mut engine);
            }
            drop(journal);
            assert!(matches!(events.try_recv(), Ok(JournalEvent::SnapshotWritten { .. })), "it still runs");
        }
    }

    #[test]
    fn a_job_without_a_thread_changes_no_file_and_is_tried_again_later() {
        let disk = MemoryDisk::new();
        let mut engine = engine(3);
        let (mut journal, _events) = journal(&disk, &mut engine);
        let (files, calls) = (disk.files(), disk.calls());
        NO_THREADS.set(true);
        for request in [JobRequest::Save, JobRequest::Rewrite, JobRequest::Cut("/data/backup.rdb".into())] {
            let started =
                journal.start_job(request.clone(), &mut engine, &mut EffectBuffer::new(), 2).unwrap();
            assert!(started.is_err() && journal.running_job().is_none(), "{request:?}");
        }
        assert_eq!((disk.files(), disk.calls()), (files, calls));
        assert_eq!(journal.log().unwrap().segments(), 1);
        assert!(!journal.save_allowed() && !journal.rewrite_allowed(), "not at once");
        let facts = journal.facts();
        assert!(!facts.last_save_ok && !facts.last_rewrite_ok && facts.last_error.is_some());
        assert!(!engine.snapshot_active());
        NO_THREADS.set(false);
        assert_eq!(
            journal.start_job(JobRequest::Rewrite, &mut engine, &mut EffectBuffer::new(), 2).unwrap(),
            Ok(())
        );
    }

    #[test]
    fn a_snapshot_for_a_backup_is_not_begun_where_it_cannot_fit() {
        let disk = MemoryDisk::new();
        // The base of its log has a little more than 1 MB.
        let mut engine = engine(1_000);
        let (mut journal, events) = journal(&disk, &mut engine);
        assert_eq!(journal.cut_shortage(&engine), None);
        disk.limit_space(Some(2 << 20));
        let short = journal.cut_shortage(&engine).unwrap();
        assert!(short.needed > 1_000_000 && short.available < short.needed, "{short}");
        disk.limit_space(Some(4 << 20));
        assert_eq!(journal.cut_shortage(&engine), None);
        // What fills the volume after that is noticed while it is written.
        disk.limit_space(Some(1 << 20));
        let request = JobRequest::Cut("/data/backup.rdb".into());
        journal.start_job(request, &mut engine, &mut EffectBuffer::new(), 2).unwrap().unwrap();
        while journal.drive_job(&mut engine) {}
        let JournalEvent::SnapshotWritten { id, result } = events.recv().unwrap() else { panic!("no job") };
        let ended = journal.snapshot_written(id, result, &mut engine).unwrap().unwrap();
        assert!(ended.lacks_space && ended.result.is_err(), "{ended:?}");
        assert_eq!(disk.contents(Path::new("/data/backup.rdb")), None);
    }

    #[test]
    fn a_job_that_is_given_up_is_returned() {
        let disk = MemoryDisk::new();
        let mut engine = engine(1_000);
        let (mut journal, events) = journal(&disk, &mut engine);
        let request = JobRequest::Cut("/data/backup.rdb".into());
        journal.start_job(request, &mut engine, &mut EffectBuffer::new(), 2).unwrap().unwrap();
        let ended = journal.abort_job(&mut engine, "a point").unwrap();
        assert_eq!((ended.kind.name(), ended.result), ("backup snapshot", Err("a point".to_owned())));
        assert!(journal.abort_job(&mut engine, "a point").is_none() && !engine.snapshot_active());
        let JournalEvent::SnapshotWritten { id, result } = events.recv().unwrap() else { panic!("no job") };
        let late = journal.snapshot_written(id, result, &mut engine).unwrap();
        assert!(late.is_none(), "it has ended before");
    }
}
