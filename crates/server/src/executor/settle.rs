//! The end of a turn and what time asks for: commit, replies, points, jobs, expiry, waits.

use std::time::{Duration, Instant};

use super::client::{Client, WaitKind};
use super::journal::{EndedJob, JobKind, JobRequest, Journal};
use super::stats::Stats;
use super::{EXPIRE_BUDGET, Ended, Event, Executor, ExecutorError, Phase, StopCause, unix_ms};
use crate::command::{DebugRequest, ShutdownOptions};
use crate::config::Strategy;
use crate::metrics::Job;
use crate::persistence::directives::{Event as PointEvent, WarningKind};
use crate::persistence::policy::save_due;
use crate::protocol::ReplyWriter;

/// The wall clock and the monotonic one may drift so far apart between two ticks before it is called a jump.
const CLOCK_JUMP: Duration = Duration::from_secs(2);

pub(super) fn reply(client: &mut Client, write: impl FnOnce(&mut ReplyWriter<'_>)) {
    if !client.session.is_reply_suppressed() {
        write(&mut ReplyWriter::new(&mut client.connection.output, client.session.version()));
    }
}

impl Executor {
    /// Commits the effects of the turn and lets its replies leave.
    pub(super) fn finish_turn(&mut self) -> Result<(), ExecutorError> {
        self.close_killed();
        if crate::faults::replies_before_writing() {
            self.send_replies();
            if self.last_tick.elapsed() < self.core.tick_interval() / 2 {
                return Ok(());
            }
        }
        self.commit_turn()?;
        self.start_jobs()?;
        self.answer_waits()?;
        self.send_replies();
        if let Some(journal) = &mut self.core.journal {
            journal.drive_job(&mut self.engine);
        }
        if let Some(garbage) = self.engine.take_garbage() {
            // Freeing millions of keys takes long; the thread ends when it is done.
            std::thread::spawn(move || drop(garbage));
        }
        Ok(())
    }

    fn commit_turn(&mut self) -> Result<(), ExecutorError> {
        let point = self.core.points.wanted();
        if let Some(journal) = &mut self.core.journal {
            let synced_before = journal.facts().syncs;
            journal.commit(&mut self.effects, unix_ms(), point.is_some()).map_err(ExecutorError::Storage)?;
            let took = journal.facts().last_sync_took;
            if journal.facts().syncs > synced_before {
                self.core.note_sync(took);
            }
        } else {
            self.effects.clear();
        }
        if let Some(name) = point {
            self.take_point(name)?;
        }
        // Under everysec nothing is acknowledged while a sync is two seconds behind.
        while self.core.journal.as_mut().is_some_and(|journal| journal.drive_syncs().1) {
            self.core.stats.delayed_syncs += 1;
            match self.events.recv_timeout(self.core.tick_interval()) {
                Ok(event @ Event::LogSynced { .. }) => {
                    self.take_event(event)?;
                }
                Ok(event) => self.postponed.push(event),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Makes everything executed so far durable. The effects have been committed.
    pub(super) fn take_point(&mut self, name: &'static str) -> Result<(), ExecutorError> {
        let Some(journal) = &mut self.core.journal else { return Ok(()) };
        if journal.log().is_some() {
            journal.sync().map_err(ExecutorError::Storage)?;
        } else if journal.offset() > journal.durable_offset() {
            if journal.running_job().is_some() {
                journal.abort_job(&mut self.engine);
            }
            if let Err(error) = journal.save_now(&mut self.engine, unix_ms()) {
                tracing::error!(%error, directive = name, "failed to take a persistence point");
                self.core.warn(WarningKind::JobFailed);
            }
        }
        self.core.points.taken();
        Stats::count(&mut self.core.stats.points, name);
        Ok(())
    }

    /// Commits what was executed so far in this turn and takes a point.
    pub(super) fn commit_point(&mut self, name: &'static str) -> Result<(), ExecutorError> {
        if let Some(journal) = &mut self.core.journal {
            journal.commit(&mut self.effects, unix_ms(), true).map_err(ExecutorError::Storage)?;
        }
        self.take_point(name)
    }

    fn start_jobs(&mut self) -> Result<(), ExecutorError> {
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
            self.core.scheduled_job = Some(request);
            return Ok(Ok(()));
        }
        if before {
            self.commit_point("persist-before-fork")?;
        }
        let Some(journal) = &mut self.core.journal else { return Ok(Err("nothing is persisted".to_owned())) };
        journal.commit(&mut self.effects, unix_ms(), false).map_err(ExecutorError::Storage)?;
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

    fn answer_waits(&mut self) -> Result<(), ExecutorError> {
        if self.core.waiting == 0 {
            return Ok(());
        }
        let now = Instant::now();
        let durable = self.core.journal.as_ref().map_or(u64::MAX, |journal| journal.durable_offset());
        let has_log = self.core.journal.as_ref().is_some_and(|journal| journal.log().is_some());
        let mut wants_sync = false;
        let mut answered = Vec::new();
        for (slot, client) in self.core.clients.iter_mut() {
            let Some(waiting) = client.waiting else { continue };
            let is_over = waiting.deadline.is_some_and(|deadline| now >= deadline);
            let done = match waiting.kind {
                WaitKind::Replicas => is_over.then(|| reply(client, |reply| reply.integer(0))),
                WaitKind::Durable { offset, local, replicas } => {
                    let is_local = has_log && offset <= durable;
                    wants_sync |= has_log && !is_local;
                    let is_met = (local == 0 || is_local) && replicas == 0;
                    (is_met || is_over).then(|| {
                        reply(client, |reply| {
                            reply.array(2);
                            reply.integer(i64::from(is_local));
                            reply.integer(0);
                        });
                    })
                }
            };
            if done.is_some() {
                client.waiting = None;
                answered.push(slot);
            }
        }
        if wants_sync && let Some(journal) = &mut self.core.journal {
            journal.start_sync();
        }
        for slot in answered {
            self.core.waiting -= 1;
            self.core.points.after(PointEvent::Wait);
            self.with_output.push(slot);
            self.to_serve.push(slot);
        }
        if self.core.points.wanted().is_some() {
            self.commit_turn()?;
        }
        Ok(())
    }

    fn send_replies(&mut self) {
        for slot in std::mem::take(&mut self.with_output) {
            let Some(client) = self.core.clients.get_mut(slot) else { continue };
            client.has_output = false;
            let before = client.connection.unsent_len();
            let sent = client.connection.flush();
            let left = client.connection.unsent_len();
            let is_closed = sent.is_err() || (client.closing && left == 0);
            self.core.stats.output_bytes += (before - left) as u64;
            if is_closed {
                self.drop_client(slot);
            }
        }
    }

    fn close_killed(&mut self) {
        if self.core.killed.is_empty() {
            return;
        }
        let killed = std::mem::take(&mut self.core.killed);
        let slots: Vec<_> = self
            .core
            .clients
            .iter_mut()
            .filter(|(_, client)| killed.contains(&client.session.id()))
            .map(|(slot, _)| slot)
            .collect();
        for slot in slots {
            self.drop_client(slot);
        }
    }

    /// What another thread has to say.
    pub(super) fn take_event(&mut self, event: Event) -> Result<Option<Ended>, ExecutorError> {
        match event {
            Event::LogSynced { segment, offset, took, result } => {
                if let Some(journal) = &mut self.core.journal {
                    journal.log_synced(segment, offset, took, result).map_err(ExecutorError::Storage)?;
                }
                self.core.note_sync(took);
            }
            Event::SnapshotWritten { id, result } => {
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

    fn start_serving(&mut self, loaded: super::Loaded) {
        let super::Loaded { engine, journal, identity, cut_bytes } = loaded;
        self.core.metrics.recovered(self.core.started.elapsed(), cut_bytes);
        self.engine = engine;
        self.core.journal = journal;
        self.desk.identity = identity;
        self.core.phase = Phase::Serving;
        let keys = self.engine.len();
        let elapsed_ms = u64::try_from(self.core.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(keys, elapsed_ms, "data loaded");
        tracing::info!("Ready to accept connections");
        self.publish();
    }

    pub(super) fn job_ended(&mut self, ended: Option<EndedJob>) {
        let Some(ended) = ended else { return };
        self.cut_ended(&ended);
        let EndedJob { kind, offset, took, result, .. } = ended;
        let elapsed_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let job = match kind {
            JobKind::Save => "snapshot",
            JobKind::Rewrite(_) => "log rewrite",
            JobKind::Cut(_) => "backup snapshot",
        };
        let metrics = match kind {
            JobKind::Save => Some(Job::Snapshot),
            JobKind::Rewrite(_) => Some(Job::Rotation),
            JobKind::Cut(_) => None,
        };
        if let Some(metrics) = metrics {
            self.core.metrics.job_ended(metrics, took, result.is_ok().then(unix_ms));
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
            }
            Err(error) => {
                tracing::error!(job, %error, elapsed_ms, "background job failed");
                self.core.warn(WarningKind::JobFailed);
            }
        }
        self.core.points.after(PointEvent::Fork);
        if let Some(request) = self.core.scheduled_job.take() {
            self.core.job_requests.push(request);
        }
    }

    /// Looks at what time asks for.
    pub(super) fn tick(&mut self, now: Instant) -> Result<(), ExecutorError> {
        self.core.watch_clock(now.duration_since(self.last_tick), CLOCK_JUMP);
        self.last_tick = now;
        for number in std::mem::take(&mut self.to_accept) {
            self.accept(number);
        }
        if matches!(self.core.phase, Phase::Loading) {
            return Ok(());
        }
        self.expire(now);
        self.core.sample(&self.engine, now);
        self.core.watch_volume(now);
        self.expire_barrier()?;
        self.close_idle(now);
        self.end_pause();
        self.start_due_jobs()?;
        Ok(())
    }

    /// Removes expired keys, for a quarter of the time at most (Redis: `ACTIVE_EXPIRE_CYCLE_SLOW_TIME_PERC`).
    fn expire(&mut self, started: Instant) {
        // A pause promises that nothing is written.
        if self.core.pause.is_some() {
            return;
        }
        let time_max = self.core.tick_interval() / 4;
        loop {
            let now_ms = i64::try_from(unix_ms()).unwrap_or(i64::MAX);
            let removed = self.engine.expire_cycle(now_ms, EXPIRE_BUDGET, &mut self.effects);
            if removed < EXPIRE_BUDGET || started.elapsed() >= time_max {
                return;
            }
        }
    }

    fn close_idle(&mut self, now: Instant) {
        let timeout = self.core.config.timeout;
        if timeout.is_zero() {
            return;
        }
        let idle: Vec<_> = self
            .core
            .clients
            .iter_mut()
            .filter(|(_, client)| client.waiting.is_none() && !client.postponed && client.idle(now) > timeout)
            .map(|(slot, _)| slot)
            .collect();
        for slot in idle {
            self.drop_client(slot);
        }
    }

    fn end_pause(&mut self) {
        let now_ms = i64::try_from(unix_ms()).unwrap_or(i64::MAX);
        if self.core.pause.is_some_and(|(_, until_ms)| now_ms >= until_ms) {
            self.core.pause = None;
        }
        if self.core.pause.is_none() && std::mem::take(&mut self.core.was_paused) {
            self.to_serve.extend(self.core.clients.iter_mut().map(|(slot, _)| slot));
        }
    }

    fn start_due_jobs(&mut self) -> Result<(), ExecutorError> {
        let Some(journal) = &self.core.journal else { return Ok(()) };
        if journal.running_job().is_some() || journal.files_are_held() {
            return Ok(());
        }
        if let Some(request) = self.core.scheduled_job.take() {
            self.try_job(request)?;
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
        Ok(journal.save_now(&mut self.engine, unix_ms()))
    }

    /// Makes everything durable as the strategy asks, for a clean stop. The inner error is why the stop was refused.
    pub(super) fn prepare_stop(
        &mut self,
        options: ShutdownOptions,
    ) -> Result<Result<(), String>, ExecutorError> {
        tracing::info!("User requested shutdown...");
        let strategy = self.core.config.strategy();
        let has_rules = !self.core.config.save.is_empty();
        let Some(journal) = &mut self.core.journal else { return Ok(Ok(())) };
        journal.commit(&mut self.effects, unix_ms(), false).map_err(ExecutorError::Storage)?;
        journal.abort_job(&mut self.engine);
        journal.sync().map_err(ExecutorError::Storage)?;
        let wants_save = options.save.unwrap_or(strategy == Strategy::Never || has_rules);
        let is_dirty =
            journal.log().is_some() || journal.offset() != journal.durable_offset() || options.save.is_some();
        if wants_save && is_dirty {
            tracing::info!("Saving the final RDB snapshot before exiting.");
            if let Err(error) = journal.save_now(&mut self.engine, unix_ms())
                && !options.force
            {
                return Ok(Err(error));
            }
        }
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

    /// DEBUG RELOAD and DEBUG LOADAOF: through the files and back.
    pub(super) fn reload(&mut self, request: DebugRequest) -> Result<Result<(), String>, ExecutorError> {
        let saved = match request {
            DebugRequest::Reload => self.save_now()?,
            _ => {
                if let Some(journal) = &mut self.core.journal {
                    journal.commit(&mut self.effects, unix_ms(), true).map_err(ExecutorError::Storage)?;
                }
                Ok(())
            }
        };
        if let Err(error) = saved {
            return Ok(Err(error));
        }
        let Some(journal) = &self.core.journal else { return Ok(Err("nothing is persisted".to_owned())) };
        match crate::load::reload(journal, &self.core.config, request == DebugRequest::LoadLog) {
            Ok(engine) => {
                for (_, client) in self.core.clients.iter_mut() {
                    client.session.close(&mut self.engine);
                }
                self.engine = engine;
                if let Some(journal) = &mut self.core.journal {
                    journal.engine_replaced(&self.engine);
                }
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error)),
        }
    }
}
