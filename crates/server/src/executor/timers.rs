//! Periodic work: expiry, save rules, barriers, idle clients, pauses.

use std::time::{Duration, Instant};

use super::admin::moment;
use super::limits::is_too_slow;
use super::outbox::exceeds_limit;
use super::{EXPIRE_BUDGET, Event, Executor, ExecutorError, Phase};
use crate::clock::unix_ms;

/// The wall clock and the monotonic one may drift so far apart between two ticks before it is called a jump.
const CLOCK_JUMP: Duration = Duration::from_secs(2);
/// How long a connection that ends may take to read its last replies without reading anything.
const LINGER_MAX: Duration = Duration::from_secs(60);

impl Executor {
    /// Runs periodic work.
    pub(super) fn tick(&mut self, now: Instant) -> Result<(), ExecutorError> {
        self.core.watch_clock(now.duration_since(self.last_tick), CLOCK_JUMP);
        self.last_tick = now;
        for number in self.core.listeners.take_failed() {
            self.accept(number);
        }
        if self.core.cron_is_paused {
            return Ok(());
        }
        if let Some(cause) = self.core.stop_waits.take() {
            self.postponed.push(Event::Stop(cause));
        }
        self.check_clients(now);
        if matches!(self.core.phase, Phase::Loading) {
            return Ok(());
        }
        self.expire(now);
        if self.core.trackers > 0 {
            self.engine.limit_tracked_keys(self.core.config.tracking_table_max_keys);
        }
        self.core.sample(&self.engine, now);
        self.core.watch_volume(now);
        self.expire_barrier(moment())?;
        self.write_owed_identity();
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
        let began = Instant::now();
        let is_done = self.expire_until(started, time_max);
        let took = began.elapsed();
        self.core.stats.expiry_time += took;
        self.core.stats.expiry_stops += u64::from(!is_done);
        self.core.sample_latency("expire-cycle", took);
    }

    /// Removes expired keys until none is left, or the time is over; says whether it was the former.
    fn expire_until(&mut self, started: Instant, time_max: Duration) -> bool {
        loop {
            let now_ms = i64::try_from(unix_ms()).unwrap_or(i64::MAX);
            let removed = self.engine.expire_cycle(now_ms, EXPIRE_BUDGET, &mut self.effects);
            if self.core.notified() != 0 {
                let events = self.engine.take_key_events();
                self.core.announce_key_events(&events, None, &mut Vec::new());
            }
            if removed < EXPIRE_BUDGET {
                return true;
            }
            if started.elapsed() >= time_max {
                return false;
            }
        }
    }

    /// Closes clients that are idle for too long or have not read for too long, and takes room from others that they do not need:
    /// some at each tick, all within a second.
    fn check_clients(&mut self, now: Instant) {
        let runs = 1000 / self.core.tick_interval().as_millis().max(1);
        for slot in self.core.clients.slots_to_check(usize::try_from(runs).unwrap_or(1)) {
            let core = &mut self.core;
            core.clients.check_room(slot, now);
            let Some(client) = core.clients.get_mut(slot) else { continue };
            let timeout = core.config.timeout;
            // Who waits for the server, or for messages, is not idle.
            let listens = client.session.is_subscriber() || client.session.is_monitor();
            let waits = client.is_blocked() || (client.has_work && !client.stalled);
            let may_be_idle = !waits && !listens;
            let is_idle = may_be_idle && !timeout.is_zero() && client.idle(now) > timeout;
            let lingers = client.closing && client.idle(now) > LINGER_MAX;
            if is_idle
                || lingers
                || is_too_slow(client, core.config.partial_request_timeout, now)
                || exceeds_limit(client, &core.config, core.clock.now)
            {
                self.drop_client(slot);
            }
        }
    }

    /// Lets the clients go on that a pause has held back, if it is over.
    pub(super) fn release_paused(&mut self) {
        if self.core.pause.is_some_and(|(_, until_ms)| self.core.clock.now_ms >= until_ms) {
            self.core.pause = None;
        }
        if self.core.pause.is_some() || self.core.paused.is_empty() {
            return;
        }
        for slot in std::mem::take(&mut self.core.paused) {
            if let Some(client) = self.core.clients.get_mut(slot)
                && std::mem::take(&mut client.postponed)
            {
                self.enqueue(slot);
            }
        }
    }
}
