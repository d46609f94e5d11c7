//! The executor as commands see it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::client::Client;
use super::journal::{JobKind, JobRequest, Journal};
use super::limits::{client_memory_max, kept_room_max};
use super::stats::Stats;
use super::{Core, Phase, TICK_MAX, info};
use crate::clock::{TurnClock, unix_ms};
use crate::command::{
    ClientFacts, ClientFilter, Command, Host, InfoSection, JobStart, Killed, MemoryFacts, PauseMode, Session,
    flags, table,
};
use crate::config::{self, RewriteError, RewriteExtent, Secret};
use crate::engine::Engine;
use crate::engine::events::KeyEvent;
use crate::engine::tracking::Invalidation;
use crate::error_chain::error_chain;
use crate::measure::Meter;
use crate::network::descriptors::make_room;
use crate::network::stream::UNKNOWN;
use crate::persistence::directives::WarningKind;
use crate::persistence::policy::SaveRule;
use crate::protocol::Request;
use crate::pubsub::{Message, PubSub, Subscriber};

/// How often the volume is looked at.
const VOLUME_INTERVAL: Duration = Duration::from_secs(1);
/// A warning about memory or volume is raised again only after the use has fallen this far below its mark, in percent.
const WARNING_HYSTERESIS: u64 = 2;

/// Why writes are refused after a snapshot that failed.
const SAVE_FAILED: &str = "MISCONF the last snapshot failed, and stop-writes-on-bgsave-error is yes: commands that write are \
                           refused. See the log for the cause; writes are accepted again once a snapshot succeeds";

/// What wrote to the disk of the log as well while it was appended to.
#[derive(Debug, Clone, Copy)]
pub(super) struct WrittenBeside {
    /// A sync in the background.
    pub(super) sync: bool,
    /// A snapshot or a rewrite.
    pub(super) job: bool,
}

impl Core {
    /// Tells the latency monitor how long something took.
    pub(super) fn sample_latency(&mut self, event: &'static str, took: Duration) {
        let now_s = i64::try_from(unix_ms() / 1000).unwrap_or(i64::MAX);
        self.meter.sample(event, now_s, u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    }

    /// Tells it how long appending to the log took, and the sync that belongs to it. Source of the names: Redis 7.0,
    /// `flushAppendOnlyFile`.
    pub(super) fn sample_write(&mut self, took: Duration, sync: Option<Duration>, beside: WrittenBeside) {
        if let Some(sync) = sync {
            self.sample_latency("aof-fsync-always", sync);
        }
        let write = took.saturating_sub(sync.unwrap_or_default());
        self.sample_latency(
            match beside {
                WrittenBeside { sync: true, .. } => "aof-write-pending-fsync",
                WrittenBeside { job: true, .. } => "aof-write-active-child",
                WrittenBeside { .. } => "aof-write-alone",
            },
            write,
        );
        self.sample_latency("aof-write", write);
    }

    pub(super) fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    pub(super) fn offset(&self) -> u64 {
        self.journal.as_ref().map_or(0, Journal::offset)
    }

    pub(super) fn is_stopping_before_load(&self) -> bool {
        self.progress.stop.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Time between two looks at what time asks for (`hz`).
    pub(super) fn tick_interval(&self) -> Duration {
        (Duration::from_secs(1) / self.config.hz.max(1)).min(TICK_MAX)
    }

    pub(super) fn save_rules(&self) -> &[SaveRule] {
        &self.config.save
    }

    /// Whether CLIENT PAUSE holds this request back.
    pub(super) fn is_paused(&self, session: &Session, request: &Request<'_>) -> bool {
        let Some((mode, until_ms)) = self.pause else { return false };
        if self.clock.now_ms >= until_ms {
            return false;
        }
        // What is refused is refused at once.
        let Ok(command) = table::resolve(request) else { return false };
        let is_stranger = !session.is_authenticated() && self.password.is_some();
        if is_stranger && !command.has(flags::NO_AUTH) {
            return false;
        }
        let is_control = command.full_name.starts_with("client") || command.full_name.starts_with("shutdown");
        !is_control && (mode == PauseMode::All || replicates(session, command))
    }

    /// Raises a warning.
    pub(super) fn warn(&mut self, kind: WarningKind) {
        Stats::count(&mut self.stats.warnings, kind.name());
        tracing::warn!(kind = kind.name(), "warning raised");
        self.points.warned(kind);
    }

    /// A sync of the log took this long.
    pub(super) fn note_sync(&mut self, took: Duration) {
        self.metrics.sync_took(took);
        if !self.config.warning_slow_sync.is_zero() && took > self.config.warning_slow_sync {
            let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(took_ms, "a sync of the log was slow");
            self.warn(WarningKind::SlowSync);
        }
    }

    /// Compares the two clocks over one tick.
    pub(super) fn watch_clock(&mut self, elapsed: Duration, jump: Duration) {
        let now_ms = unix_ms();
        let expected_ms = self.last_wall_ms + u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let difference_ms = now_ms.abs_diff(expected_ms);
        if self.last_wall_ms != 0 && u128::from(difference_ms) > jump.as_millis() {
            tracing::warn!(difference_ms, forward = now_ms > expected_ms, "the wall clock has jumped");
            self.warn(WarningKind::ClockJump);
        }
        self.last_wall_ms = now_ms;
    }

    /// Takes samples for rates, memory and the write block.
    pub(super) fn sample(&mut self, engine: &Engine, now: Instant) {
        let stats = &mut self.stats;
        stats.commands_rate.sample(engine.stats.commands, now);
        stats.input_rate.sample(stats.input_bytes, now);
        stats.output_rate.sample(stats.output_bytes, now);
        let clients = self.clients.ledger().held_bytes();
        stats.memory_peak = stats.memory_peak.max(engine.used_memory() + clients);
        self.watch_memory(engine.counted_memory() + clients);
        let failed = self.journal.as_ref().is_some_and(|journal| !journal.facts().last_save_ok);
        let blocks = failed && self.config.stop_writes_on_bgsave_error && !self.config.save.is_empty();
        self.write_block = blocks.then_some(SAVE_FAILED);
    }

    fn watch_memory(&mut self, used: u64) {
        let percentage = u64::from(self.config.warning_memory_percentage);
        let limit = self.config.maxmemory;
        if limit == 0 || percentage == 0 {
            return;
        }
        let used_percentage = used.saturating_mul(100) / limit;
        if used_percentage >= percentage && !self.memory_warned {
            self.memory_warned = true;
            self.warn(WarningKind::MemoryHigh);
        } else if used_percentage + WARNING_HYSTERESIS < percentage {
            self.memory_warned = false;
        }
    }

    pub(super) fn watch_volume(&mut self, now: Instant) {
        let percentage = u64::from(self.config.warning_volume_percentage);
        let due = self.volume_looked_at.is_none_or(|last| now.duration_since(last) >= VOLUME_INTERVAL);
        let Some(journal) = &self.journal else { return };
        if !due {
            return;
        }
        self.volume_looked_at = Some(now);
        let Ok(space) = journal.space() else { return };
        self.metrics.volume(space);
        if percentage == 0 || space.total == 0 {
            return;
        }
        let used_percentage = space.used_percentage();
        if used_percentage >= percentage && !self.volume_warned {
            self.volume_warned = true;
            self.warn(WarningKind::VolumeHigh);
        } else if used_percentage + WARNING_HYSTERESIS < percentage {
            self.volume_warned = false;
        }
    }

    /// Whether a job of this kind runs or is about to.
    fn has_job(&self, request: &JobRequest) -> bool {
        let running = self.journal.as_ref().and_then(Journal::running_job);
        let is_running = match (request, running) {
            (JobRequest::Save, Some((JobKind::Save, _)))
            | (JobRequest::Rewrite, Some((JobKind::Rewrite(_) | JobKind::Begin, _))) => true,
            (JobRequest::Cut(path), Some((JobKind::Cut(running), _))) => path == running,
            _ => false,
        };
        is_running || self.job_requests.contains(request)
    }

    /// Facts about the connection that is served.
    fn current_facts(&self, session: &Session) -> ClientFacts {
        self.current.as_ref().map_or_else(ClientFacts::default, |current| ClientFacts {
            query_bytes: current.query_bytes as u64,
            query_free_bytes: current.query_free_bytes as u64,
            total_bytes: (size_of::<Client>()
                + current.query_bytes
                + current.query_free_bytes
                + session.memory_bytes()) as u64,
            ..current.origin.facts(self.clock.now)
        })
    }

    /// A job of this kind is to be done, unless one is.
    pub(super) fn ensure_job(&mut self, request: JobRequest) {
        if !self.has_job(&request) && !self.scheduled_jobs.contains(&request) {
            self.request_job(request);
        }
    }

    fn request_job(&mut self, request: JobRequest) -> JobStart {
        let busy = self
            .journal
            .as_ref()
            .is_some_and(|journal| journal.running_job().is_some() || journal.files_are_held());
        if busy || !self.job_requests.is_empty() {
            self.scheduled_jobs.add(&request);
            JobStart::Scheduled
        } else {
            self.job_requests.push(request);
            JobStart::Started
        }
    }
}

/// Whether a command, or the transaction that it executes, may change data or speak to replicas.
fn replicates(session: &Session, command: &Command) -> bool {
    const BOTH: u64 = flags::WRITE | flags::MAY_REPLICATE;
    command.has(BOTH) || (command.has(flags::EXEC) && session.queues(BOTH))
}

/// Whether a command, or the transaction that it executes, does nothing to keys but read them.
pub(super) fn only_reads(session: &Session, command: &Command) -> bool {
    const OTHERS: u64 = flags::WRITE | flags::MAY_REPLICATE | flags::ADMIN;
    command.has(flags::READONLY) || (command.has(flags::EXEC) && !session.queues(OTHERS))
}

impl Host for Core {
    fn unix_time_us(&mut self) -> i64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn write_info(&mut self, section: InfoSection, engine: &Engine, out: &mut String) {
        info::write(self, section, engine, out);
    }

    fn config_matching(&mut self, patterns: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
        config::config_get(&self.config, patterns)
    }

    fn set_config(&mut self, settings: &[(&[u8], &[u8])]) -> Result<(), String> {
        let mut config = self.config.clone();
        let changed = config::config_set(&mut config, settings)?;
        if config.log != self.config.log && self.journal.as_ref().is_some_and(Journal::files_are_held) {
            return Err(
                "ERR CONFIG SET failed (possibly related to argument 'appendonly') - a persistence barrier holds the files; \
                 try again when it is released"
                    .to_owned(),
            );
        }
        let room = make_room(config.maxclients);
        if room < config.maxclients {
            return Err(format!(
                "ERR CONFIG SET failed (possibly related to argument 'maxclients') - The operating system is not able to \
                 handle the specified number of clients, try with {room}"
            ));
        }
        if config.log
            && !self.config.log
            && let Some(Err(error)) = self.journal.as_ref().map(Journal::try_log)
        {
            tracing::warn!(error, "CONFIG SET failed: a log cannot begin");
            let named = settings.iter().find(|(name, _)| name.eq_ignore_ascii_case(b"persist-strategy"));
            let name = if named.is_some() { "persist-strategy" } else { "appendonly" };
            return Err(format!(
                "ERR CONFIG SET failed (possibly related to argument '{name}') - Unable to turn on AOF. Check server logs."
            ));
        }
        // Order matters: nothing behind this may fail.
        let moved = ["port", "bind"].into_iter().find(|name| changed.iter().any(|changed| changed == name));
        if let Some(name) = moved
            && let Err(error) = self.listeners.relocate(&self.config, &config)
        {
            tracing::warn!(error = error_chain(&error), "CONFIG SET failed: the server listens where it did");
            let reason = match name {
                "port" => "Unable to listen on this port. Check server logs.",
                _ => "Failed to bind to specified addresses.",
            };
            return Err(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"));
        }
        self.log_is_to_be_switched |= config.log != self.config.log;
        self.config = config;
        self.revision += 1;
        if changed.iter().any(|name| name == "requirepass") {
            self.password = (!self.config.requirepass.is_empty()).then(|| self.config.requirepass.clone());
            if self.password.is_none() {
                // As those are that come from now on.
                self.clients.trust_all();
            }
        }
        self.client_memory_max = client_memory_max(&self.config);
        self.kept_room_max = kept_room_max(self.client_memory_max, self.config.maxmemory);
        self.configure_journal();
        self.points.reconfigure(&self.config);
        self.meter.configure(self.config.measure.clone());
        crate::telemetry::set_level(self.config.loglevel);
        tracing::info!(directives = ?changed, "configuration changed");
        for notice in config::own_notices(&self.config) {
            if changed.contains(&notice.directive) {
                tracing::warn!("{notice}");
            }
        }
        Ok(())
    }

    fn rewrite_config(&mut self, all: bool) -> Result<(), String> {
        let extent = if all { RewriteExtent::All } else { RewriteExtent::Changed };
        let path = match config::rewrite_file(&self.config, extent) {
            Ok(path) => path,
            Err(error @ RewriteError::NoFile) => return Err(format!("ERR {error}")),
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(path = ?self.config.file, error, "CONFIG REWRITE failed");
                return Err(format!("ERR Rewriting config file: {error}"));
            }
        };
        tracing::info!(?path, "CONFIG REWRITE executed with success.");
        Ok(())
    }

    #[inline]
    fn meter(&mut self) -> Option<&mut Meter> {
        Some(&mut self.meter)
    }

    fn address(&self, _me: &Session) -> String {
        self.current.as_ref().map_or_else(|| UNKNOWN.to_owned(), |current| current.origin.ends.peer_name())
    }

    fn delay_log(&mut self, time: Duration) {
        if let Some(journal) = &mut self.journal {
            journal.set_write_delay(time);
        }
    }

    fn all_flushed(&mut self) {
        self.all_was_flushed = true;
    }

    fn sleep(&mut self, time: Duration) {
        std::thread::sleep(time);
        // What follows happens later.
        self.clock = TurnClock::read();
    }

    fn memory(&mut self, engine: &Engine) -> MemoryFacts {
        info::memory_facts(self, engine)
    }

    fn allocator_report(&mut self) -> String {
        holdfast_allocator::report()
    }

    fn allocator_control(&mut self, name: &std::ffi::CStr) -> Option<u64> {
        holdfast_allocator::control(name)
    }

    fn purge_memory(&mut self) {
        holdfast_allocator::purge();
    }

    fn reset_statistics(&mut self) {
        let peak = self.stats.memory_peak;
        let freed_before = self.freed_objects.freed();
        self.stats = Stats::new(Instant::now());
        self.stats.memory_peak = peak;
        self.stats.freed_before = freed_before;
    }

    fn authenticate(&mut self, user: &[u8], password: &[u8]) -> bool {
        // Both are compared before either is looked at.
        let known = self.password().is_none_or(|expected| expected.matches(password));
        let is_user = user == b"default";
        known && is_user
    }

    fn has_password(&self) -> bool {
        self.password().is_some()
    }

    fn last_save_s(&mut self) -> i64 {
        let saved_ms = self.journal.as_ref().map_or(self.started_ms, |journal| journal.facts().last_save_ms);
        i64::try_from(saved_ms / 1000).unwrap_or(i64::MAX)
    }

    fn start_background_save(&mut self, schedule: bool) -> Result<JobStart, String> {
        if self.journal.is_none() {
            return Err("ERR nothing is persisted: persistent is no".to_owned());
        }
        if self.has_job(&JobRequest::Save) {
            return Err("ERR Background save already in progress".to_owned());
        }
        let rewriting = self.has_job(&JobRequest::Rewrite);
        if rewriting && !schedule {
            return Err(
                "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to \
                 schedule a BGSAVE whenever possible."
                    .to_owned(),
            );
        }
        Ok(self.request_job(JobRequest::Save))
    }

    fn start_log_rewrite(&mut self) -> Result<JobStart, String> {
        if self.has_job(&JobRequest::Rewrite) {
            return Err("ERR Background append only file rewriting already in progress".to_owned());
        }
        if self.journal.is_none() {
            return Err("ERR nothing is persisted: persistent is no".to_owned());
        }
        Ok(self.request_job(JobRequest::Rewrite))
    }

    fn log_enabled(&self) -> bool {
        match &self.journal {
            Some(journal) => journal.log().is_some(),
            None => matches!(self.phase, Phase::Loading) && self.config.log && self.config.persistent,
        }
    }

    fn is_durable(&mut self, session: &Session) -> bool {
        self.journal.as_ref().is_some_and(|journal| {
            journal.log().is_some() && session.last_write_offset <= journal.durable_offset()
        })
    }

    fn replication_offset(&mut self) -> u64 {
        self.offset()
    }

    fn abort_shutdown(&mut self) -> bool {
        // A stop is done within its turn, unless nothing periodic is done.
        let aborts = self.stop_waits.take().is_some();
        if aborts {
            tracing::info!("Shutdown manually aborted.");
        }
        aborts
    }

    fn list_clients(&mut self, filter: &ClientFilter, me: &Session, request: &Request<'_>) -> String {
        let mut lines: Vec<(u64, String)> = Vec::new();
        let mut add = |session: &Session, facts: &ClientFacts| {
            if filter.matches(session, facts, me.id()) {
                let mut line = String::new();
                session.write_client_line(facts, &mut line);
                lines.push((session.id(), line));
            }
        };
        for (_, client) in self.clients.iter() {
            add(&client.session, &client.facts(self.clock.now));
        }
        let argument_bytes = request.args_len() as u64;
        add(me, &ClientFacts { argument_bytes, ..self.current_facts(me) });
        lines.sort_by_key(|(id, _)| *id);
        lines.into_iter().map(|(_, line)| line).collect()
    }

    fn kill_clients(&mut self, filter: &ClientFilter, me: &Session) -> Killed {
        let is_named = |session: &Session, facts: &dyn Fn() -> ClientFacts| {
            // An address is only made when it is asked for.
            let facts = if filter.needs_facts() { facts() } else { ClientFacts::default() };
            filter.matches(session, &facts, me.id())
        };
        let now = self.clock.now;
        // A transaction may name a client twice: it is killed at the first time.
        let before: HashSet<usize> = self.killed.iter().copied().collect();
        let named = self.clients.iter().filter(|(slot, client)| {
            is_named(&client.session, &|| client.facts(now)) && !before.contains(slot)
        });
        let named: Vec<usize> = named.map(|(slot, _)| slot).collect();
        self.killed.extend(&named);
        let is_me = is_named(me, &|| self.current_facts(me));
        Killed { count: named.len() + usize::from(is_me), me: is_me }
    }

    fn unblock_client(&mut self, id: u64, with_error: bool) -> bool {
        let Some(slot) = self.clients.slot_of(id) else { return false };
        // A transaction may name a client twice: its wait ends at the first time.
        let is_named = self.unblocked.iter().any(|(unblocked, _)| *unblocked == slot);
        let is_waiting =
            !is_named && self.clients.get_mut(slot).is_some_and(|client| client.waiting.is_some());
        self.unblocked.extend(is_waiting.then_some((slot, with_error)));
        is_waiting
    }

    fn pause_clients(&mut self, mode: PauseMode, until_ms: i64) {
        self.pause = Some(match self.pause {
            Some((PauseMode::All, until)) => (PauseMode::All, until.max(until_ms)),
            Some((PauseMode::Write, until)) => (mode, until.max(until_ms)),
            None => (mode, until_ms),
        });
    }

    fn unpause_clients(&mut self) {
        self.pause = None;
    }

    fn pubsub(&mut self) -> Option<&mut PubSub> {
        Some(&mut self.pubsub)
    }

    fn subscriber(&self, me: &Session) -> Subscriber {
        self.current.as_ref().map_or(me.id(), |current| current.slot as u64)
    }

    fn publish(&mut self, message: &Message<'_>, me: &Session, own: &mut Vec<u8>) -> usize {
        self.publish_message(message, Some(me), own)
    }

    fn settings_changed(&mut self) {
        self.revision += 1;
    }

    fn has_client(&self, id: u64, _me: &Session) -> bool {
        self.clients.slot_of(id).is_some()
    }

    fn set_tracking(&mut self, _me: &Session, on: bool) {
        self.count_tracking(on);
    }

    fn tracked_keys_max(&self) -> u64 {
        self.config.tracking_table_max_keys
    }

    fn invalidate(&mut self, all: Vec<Invalidation>, me: &mut Session) {
        self.tell_others(all, Some(me.id()));
    }

    fn invalidate_own(&mut self, me: &mut Session, own: &mut Vec<u8>) {
        self.tell_own(me, own);
    }

    fn set_monitor(&mut self, _me: &Session, on: bool) {
        let Some(slot) = self.current.as_ref().map(|current| current.slot) else { return };
        self.monitors.retain(|monitor| *monitor != slot);
        self.monitors.extend(on.then_some(slot));
        self.revision += 1;
    }

    fn feed_monitors(&mut self, request: &Request<'_>, me: &Session, own: &mut Vec<u8>) {
        self.show_command(request, me, own);
    }

    fn publish_key_events(&mut self, events: &[KeyEvent], me: &Session, own: &mut Vec<u8>) {
        self.announce_key_events(events, Some(me), own);
    }
}
