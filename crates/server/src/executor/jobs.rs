//! Background jobs, events of other threads, saving and stopping.

use std::time::{Duration, Instant};

use super::journal::{EndedJob, JobKind, JobRequest, Journal, JournalEvent};
use super::loaded::Loaded;
use super::{Ended, Event, Executor, ExecutorError, Phase, StopCause};
use crate::clock::unix_ms;
use crate::command::{DebugRequest, ShutdownOptions};
use crate::engine::Engine;
use crate::metrics::Job;
use crate::persistence::directives::{Event as PointEvent, WarningKind};
use crate::persistence::policy::save_due;

/// Jobs that wait for the running one, or for a barrier: one of each kind, however often it was asked for. The snapshot of a
/// backup is none of them: it waits at the desk of the control port. Nor is the begin of a log, which waits as long as there is none
/// and one is configured.
#[derive(Debug, Default)]
pub(super) struct ScheduledJobs {
    save: bool,
    rewrite: bool,
}

impl ScheduledJobs {
    fn flag(&mut self, request: &JobRequest) -> Option<&mut bool> {
        match request {
            JobRequest::Save => Some(&mut self.save),
            JobRequest::Rewrite => Some(&mut self.rewrite),
            JobRequest::Begin | JobRequest::Cut(_) => None,
        }
    }

    /// Remembers a job; false if it is none that waits here.
    pub(super) fn add(&mut self, request: &JobRequest) -> bool {
        self.flag(request).map(|flag| *flag = true).is_some()
    }

    pub(super) fn contains(&self, request: &JobRequest) -> bool {
        match request {
            JobRequest::Save => self.save,
            JobRequest::Rewrite => self.rewrite,
            JobRequest::Begin | JobRequest::Cut(_) => false,
        }
    }

    /// The next one to start, which waits no longer: the rewrite first, as in Redis 7.0 (`serverCron`).
    pub(super) fn take_next(&mut self) -> Option<JobRequest> {
        let next = [JobRequest::Rewrite, JobRequest::Save].into_iter().find(|it| self.contains(it))?;
        if let Some(flag) = self.flag(&next) {
            *flag = false;
        }
        Some(next)
    }
}

impl Executor {
    pub(super) fn start_jobs(&mut self) -> Result<(), ExecutorError> {
        let requests = std::mem::take(&mut self.core.job_requests);
        for request in requests {
            self.try_job(request)?;
        }
        Ok(())
    }

    /// Starts a background job on the server's own account: a failure is logged and counted, and tried again later.
    fn try_job(&mut self, request: JobRequest) -> Result<(), ExecutorError> {
        self.start_job(request).map(drop)
    }

    /// Starts a background job between two turns. The inner error is why it did not start; it is logged and counted.
    pub(super) fn start_job(&mut self, request: JobRequest) -> Result<Result<(), String>, ExecutorError> {
        let before = self.core.points.before(PointEvent::Fork);
        let Some(journal) = &self.core.journal else { return Ok(Err("nothing is persisted".to_owned())) };
        if journal.running_job().is_some() || journal.files_are_held() {
            let is_scheduled = self.core.scheduled_jobs.add(&request);
            return Ok(if is_scheduled {
                Ok(())
            } else {
                Err("another background job is running".to_owned())
            });
        }
        if before && self.commit_point("persist-before-fork")?.is_err() {
            let error = "the persistence point before it (persist-before-fork) failed".to_owned();
            return Ok(Err(match &mut self.core.journal {
                // For a save it counts that the snapshot has failed which the point is.
                Some(journal) if request != JobRequest::Save => journal.not_started(&request, error),
                _ => error,
            }));
        }
        let Some(journal) = &mut self.core.journal else { return Ok(Err("nothing is persisted".to_owned())) };
        journal.commit(&mut self.effects, unix_ms(), false).map_err(ExecutorError::Storage)?;
        // There is nothing to rewrite where there is no log: one is written, as by Redis.
        let begins = request == JobRequest::Rewrite && journal.log().is_none();
        let request = if begins { JobRequest::Begin } else { request };
        let name = format!("{request:?}");
        let started = journal
            .start_job(request, &mut self.engine, &mut self.effects, unix_ms())
            .map_err(ExecutorError::Storage)?;
        match &started {
            Ok(()) => tracing::info!(job = name, offset = journal.offset(), "background job started"),
            Err(error) => {
                tracing::error!(job = name, %error, "failed to start a background job");
                self.core.warn(WarningKind::JobFailed);
            }
        }
        Ok(started)
    }

    /// Handles an event from another thread.
    pub(super) fn take_event(&mut self, event: Event) -> Result<Option<Ended>, ExecutorError> {
        match event {
            Event::Journal(JournalEvent::LogSynced { segment, offset, took, result }) => {
                if let Some(journal) = &mut self.core.journal {
                    journal.log_synced(segment, offset, took, result).map_err(ExecutorError::Storage)?;
                }
                self.core.note_sync(took);
            }
            Event::Journal(JournalEvent::SnapshotWritten { id, result }) => {
                if let Some(journal) = &mut self.core.journal {
                    let ended = journal
                        .snapshot_written(id, result, &mut self.engine)
                        .map_err(ExecutorError::Storage)?;
                    self.job_ended(ended);
                }
            }
            Event::Loaded(loaded) => match *loaded {
                Ok(loaded) => {
                    self.start_serving(loaded);
                    if let Some(cause) = self.stop_cause {
                        // The stop came when nothing was left to interrupt.
                        return self.take_event(Event::Stop(cause));
                    }
                }
                Err(_) if self.core.is_stopping_before_load() => return Ok(Some(self.ended())),
                Err(error) => return Err(ExecutorError::Load(error)),
            },
            Event::Stop(cause) if self.core.cron_is_paused => self.core.stop_waits = Some(cause),
            Event::Stop(cause) => {
                self.stop_cause = Some(cause);
                if matches!(self.core.phase, Phase::Loading) {
                    tracing::info!("stopping while loading");
                    self.core.progress.stop.store(true, std::sync::atomic::Ordering::Relaxed);
                    return Ok(None);
                }
                let options = match cause {
                    StopCause::Terminated => self.core.config.shutdown_on_sigterm,
                    StopCause::Interrupted => self.core.config.shutdown_on_sigint,
                };
                let options = ShutdownOptions { save: options.save, now: options.now, force: options.force };
                match self.prepare_stop(options)? {
                    Ok(()) => return Ok(Some(self.ended())),
                    Err(error) => {
                        tracing::error!(%error, "Error trying to save the DB, can't exit");
                    }
                }
            }
        }
        Ok(None)
    }

    fn start_serving(&mut self, loaded: Loaded) {
        let Loaded { engine, journal, identity, cut_bytes } = loaded;
        self.core.metrics.recovered(self.core.started.elapsed(), cut_bytes);
        if let Some(facts) = journal.as_ref().map(Journal::facts)
            && let Some(took) = facts.last_save_took
        {
            // What a log has held was saved before the log was given up.
            self.core.metrics.job_ended(Job::Snapshot, took, Some(facts.last_save_ms));
        }
        self.replace_engine(engine);
        self.core.journal = journal;
        // The journal was made with the configuration of the start, and CONFIG SET is answered while data is loaded.
        self.core.configure_journal();
        self.desk.identity = identity;
        self.core.phase = Phase::Serving;
        // CONFIG SET may have asked for another one while data was loaded.
        self.core.log_is_to_be_switched = true;
        let keys = self.engine.len();
        let elapsed_ms = u64::try_from(self.core.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(keys, elapsed_ms, "data loaded");
        if self.core.listeners.has_tcp() {
            tracing::info!("Ready to accept connections");
        }
        if let Some(path) = self.core.listeners.unix_path() {
            tracing::info!("The server is now ready to accept connections at {path}");
        }
        self.publish();
    }

    /// Serves other data from now on.
    fn replace_engine(&mut self, engine: Engine) {
        let old = std::mem::replace(&mut self.engine, engine);
        self.engine.take_over(old, self.core.clock.now_ms);
        self.core.configure(&mut self.engine);
    }

    /// Gives up the running job, if there is one, and tells whoever waits for it. It is no failure, so none is counted.
    pub(super) fn give_up_job(&mut self, reason: &str) {
        let Some(journal) = &mut self.core.journal else { return };
        let Some(ended) = journal.abort_job(&mut self.engine, reason) else { return };
        tracing::warn!(job = ended.kind.name(), reason, "background job given up");
        self.cut_ended(&ended);
    }

    pub(super) fn job_ended(&mut self, ended: Option<EndedJob>) {
        let Some(ended) = ended else { return };
        self.cut_ended(&ended);
        let EndedJob { kind, offset, took, result, .. } = ended;
        let elapsed_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let job = kind.name();
        let metrics = match kind {
            JobKind::Save => Some(Job::Snapshot),
            JobKind::Rewrite(_) | JobKind::Begin => Some(Job::Rotation),
            JobKind::Cut(_) => None,
        };
        if let Some(metrics) = metrics {
            self.core.metrics.job_ended(metrics, took, result.is_ok().then(unix_ms));
        }
        if matches!(kind, JobKind::Begin) && result.is_ok() {
            if self.core.config.log {
                self.note_log(true);
            } else {
                // BGREWRITEAOF where the log is off: it is whole, and not appended to.
                self.core.log_is_to_be_switched = true;
            }
        }
        match result {
            Ok(written) => {
                tracing::info!(
                    job,
                    bytes = written.bytes,
                    keys = written.keys,
                    offset,
                    elapsed_ms,
                    "background job done"
                );
                if matches!(kind, JobKind::Save) {
                    self.promise_snapshot();
                }
            }
            Err(error) => {
                tracing::error!(job, %error, elapsed_ms, "background job failed");
                self.core.warn(WarningKind::JobFailed);
            }
        }
        self.core.points.after(PointEvent::Fork);
        if let Some(request) = self.core.scheduled_jobs.take_next() {
            self.core.job_requests.push(request);
        }
    }

    /// Starts the job that a rule asks for.
    pub(super) fn start_due_jobs(&mut self) -> Result<(), ExecutorError> {
        let Some(journal) = &self.core.journal else { return Ok(()) };
        if journal.running_job().is_some() || journal.files_are_held() {
            return Ok(());
        }
        if let Some(request) = self.core.scheduled_jobs.take_next() {
            self.try_job(request)?;
            return Ok(());
        }
        if self.core.awaits_log() && journal.rewrite_allowed() {
            self.try_job(JobRequest::Begin)?;
            return Ok(());
        }
        let rules = self.core.config.auto_aof_rewrite;
        if journal.rewrite_allowed() && journal.log_sizes().is_some_and(|sizes| rules.due(sizes)) {
            tracing::info!(sizes = ?journal.log_sizes(), "the log has grown: rewriting it");
            self.try_job(JobRequest::Rewrite)?;
            return Ok(());
        }
        let changes = journal.changes_since_save(&self.engine);
        let since_save = Duration::from_millis(unix_ms().saturating_sub(journal.facts().last_save_ms));
        if journal.save_allowed() && save_due(self.core.save_rules(), changes, since_save) {
            tracing::info!(changes, "a save rule is met: saving");
            self.try_job(JobRequest::Save)?;
        }
        Ok(())
    }

    /// Switches the log on or off, if CONFIG SET has asked for it. What was executed before has been committed.
    pub(super) fn switch_log(&mut self) -> Result<(), ExecutorError> {
        let Some(journal) = &self.core.journal else { return Ok(()) };
        // What a barrier was taken of stays as it is until it ends.
        if !self.core.log_is_to_be_switched || journal.files_are_held() {
            return Ok(());
        }
        let (has_log, job) = (journal.log().is_some(), journal.running_job());
        let is_busy = job.is_some();
        let is_of_log = matches!(job, Some((JobKind::Rewrite(_) | JobKind::Begin, _)));
        self.core.log_is_to_be_switched = false;
        if self.core.config.log {
            // A job that runs is waited for by the periodic work.
            return if has_log || is_busy { Ok(()) } else { self.try_job(JobRequest::Begin) };
        }
        if is_of_log {
            self.give_up_job("the log is switched off");
        }
        if has_log && let Some(journal) = &mut self.core.journal {
            journal.sync().map_err(ExecutorError::Storage)?;
            // Whoever waits until the log is durable has that now. Without a log such a wait would not end.
            self.answer_waits()?;
        }
        if has_log && let Some(journal) = &mut self.core.journal {
            journal.end_log().map_err(ExecutorError::Storage)?;
            let offset = journal.offset();
            tracing::info!(offset, "the log is switched off; its files stay as they are");
            self.note_log(false);
        }
        Ok(())
    }

    /// Notes on the volume whether there is a log, so that it is missed if it is gone at a start.
    fn note_log(&mut self, has_log: bool) {
        let Some(identity) = &mut self.desk.identity else { return };
        identity.has_log = Some(has_log);
        self.desk.owes_identity = true;
        if let Err(error) = self.stamp_identity() {
            tracing::error!(%error, has_log, "failed to note whether there is a log; it is tried again");
        }
    }

    /// Writes what could not be noted yet.
    pub(super) fn write_owed_identity(&mut self) {
        let is_held = self.core.journal.as_ref().is_none_or(Journal::files_are_held);
        if self.desk.owes_identity && !is_held && self.stamp_identity().is_ok() {
            tracing::info!("it is noted whether there is a log");
        }
    }

    /// SAVE.
    pub(super) fn save_now(&mut self) -> Result<Result<(), String>, ExecutorError> {
        let Some(journal) = &mut self.core.journal else {
            return Ok(Err("nothing is persisted: persistent is no".to_owned()));
        };
        journal.commit(&mut self.effects, unix_ms(), false).map_err(ExecutorError::Storage)?;
        if journal.running_job().is_some() {
            return Ok(Err("Background save already in progress".to_owned()));
        }
        if journal.files_are_held() {
            return Ok(
                Err("a persistence barrier holds the files; try again when it is released".to_owned()),
            );
        }
        Ok(self.write_snapshot())
    }

    /// After a FLUSHALL: a snapshot that is being taken would bring the data back, and so would the last one, where there are
    /// rules for snapshots. As in Redis, the former is given up, and what is there now is saved.
    pub(super) fn save_flushed(&mut self) {
        if !std::mem::take(&mut self.core.all_was_flushed) {
            return;
        }
        let job = |journal: &Journal| matches!(journal.running_job(), Some((JobKind::Save, _)));
        if self.core.journal.as_ref().is_some_and(job) {
            self.give_up_job("all data was removed");
        }
        let Some(journal) = &self.core.journal else { return };
        if self.core.config.save.is_empty() {
            return;
        }
        if journal.running_job().is_some() || journal.files_are_held() {
            self.core.ensure_job(JobRequest::Save);
        } else if let Err(error) = self.write_snapshot() {
            tracing::error!(%error, "failed to save after all data was removed");
            self.core.warn(WarningKind::JobFailed);
        }
    }

    /// Writes the snapshot while everything waits, and counts it.
    pub(super) fn write_snapshot(&mut self) -> Result<(), String> {
        let Some(journal) = &mut self.core.journal else { return Ok(()) };
        let started = Instant::now();
        let result = journal.save_now(&mut self.engine, unix_ms());
        self.core.metrics.job_ended(Job::Snapshot, started.elapsed(), result.is_ok().then(unix_ms));
        if result.is_ok() {
            self.promise_snapshot();
        }
        result
    }

    /// Without a log the snapshot is all there is: the identity says how far it reaches, so that no start goes on without it,
    /// or with an older one.
    fn promise_snapshot(&mut self) {
        if self.core.journal.as_ref().is_none_or(|journal| journal.log().is_some()) {
            return;
        }
        if let Err(error) = self.stamp_identity() {
            tracing::warn!(%error, "a start without this snapshot would not be refused");
        }
    }

    /// Makes everything durable as the strategy asks, for a clean stop. The inner error is why the stop was refused.
    pub(super) fn prepare_stop(
        &mut self,
        options: ShutdownOptions,
    ) -> Result<Result<(), String>, ExecutorError> {
        tracing::info!("User requested shutdown...");
        let has_rules = !self.core.config.save.is_empty();
        let Some(journal) = &mut self.core.journal else { return Ok(Ok(())) };
        journal.commit(&mut self.effects, unix_ms(), false).map_err(ExecutorError::Storage)?;
        // Whatever the stop writes is renamed into its place, and nothing that a barrier was held for goes on without us.
        self.break_barrier()?;
        self.give_up_job("the server is asked to stop");
        let Some(journal) = &mut self.core.journal else { return Ok(Ok(())) };
        journal.sync().map_err(ExecutorError::Storage)?;
        // A log that is switched on and has not begun yet promises nothing.
        let wants_save = options.save.unwrap_or(journal.log().is_none() || has_rules);
        let is_dirty =
            journal.log().is_some() || journal.offset() != journal.durable_offset() || options.save.is_some();
        if wants_save && is_dirty {
            tracing::info!("Saving the final RDB snapshot before exiting.");
            if let Err(error) = self.write_snapshot()
                && !options.force
            {
                return Ok(Err(error));
            }
        }
        // Asked for in this turn, they would begin at its end. So would a log, and one that is switched off is synced already.
        self.core.job_requests.clear();
        self.core.log_is_to_be_switched = false;
        tracing::info!("Holdfast is now ready to exit, bye bye...");
        Ok(Ok(()))
    }

    pub(super) fn ended(&self) -> Ended {
        let journal = self.core.journal.as_ref();
        Ended {
            identity: self.desk.identity.clone(),
            offset: journal.map_or(0, Journal::offset),
            durable_offset: journal.map_or(0, Journal::durable_offset),
        }
    }

    /// DEBUG RELOAD and DEBUG LOADAOF: through the files and back. Clients notice only that all keys count as written.
    pub(super) fn reload(&mut self, request: DebugRequest) -> Result<Result<(), String>, ExecutorError> {
        let Some(journal) = &mut self.core.journal else { return Ok(Err("nothing is persisted".to_owned())) };
        if journal.running_job().is_some() {
            // It saves the data that would go.
            return Ok(Err("a background job is running; try again when it is done".to_owned()));
        }
        let from_log = request == DebugRequest::LoadLog;
        if from_log {
            journal.commit(&mut self.effects, unix_ms(), true).map_err(ExecutorError::Storage)?;
        } else if let Err(error) = self.save_now()? {
            return Ok(Err(error));
        }
        let Some(journal) = &self.core.journal else { return Ok(Err("nothing is persisted".to_owned())) };
        match (self.reload)(journal, &self.core.config, from_log) {
            Ok(engine) => {
                self.replace_engine(engine);
                self.engine.invalidate_all();
                if let Some(journal) = &mut self.core.journal {
                    journal.engine_replaced(&self.engine);
                }
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error)),
        }
    }
}
