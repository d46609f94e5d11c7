//! One turn after the other: sources in, commit, replies out.

use std::io;
use std::time::{Duration, Instant};

use mio::{Events, Token};

use super::{CLIENT_TOKEN_MIN, Ended, Event, Executor, ExecutorError, JOB_WAIT, WAKER};
use crate::clock::TurnClock;

/// Events taken from the poll at once.
const EVENTS_MAX: usize = 1024;

impl Executor {
    pub(super) fn turns(&mut self) -> Result<Ended, ExecutorError> {
        self.publish();
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut commands_before = self.engine.stats.commands;
        loop {
            let timeout = self.timeout();
            let timeout = if self.senders.fall_asleep() { timeout } else { Duration::ZERO };
            if let Err(error) = self.poll.poll(&mut events, Some(timeout))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(ExecutorError::Poll(error));
            }
            self.senders.wake_up();
            let before = std::mem::replace(&mut self.core.clock, TurnClock::read());
            let (slept, took) = (self.core.clock.now - self.turn_ended, self.turn_ended - before.now);
            let commands = self.engine.stats.commands;
            // CONFIG RESETSTAT begins at zero again.
            let executed = commands.saturating_sub(std::mem::replace(&mut commands_before, commands));
            self.senders.note_turn(slept, took, executed);
            // Order matters: whoever takes the place of a client must not be told what the poll has seen of that one.
            self.take_poll_events(&events);
            self.take_deliveries();
            if let Some(ended) = self.turn()? {
                return Ok(ended);
            }
        }
    }

    /// Serves everything that is ready; says so when that was the end.
    fn turn(&mut self) -> Result<Option<Ended>, ExecutorError> {
        let started = self.core.clock.now;
        self.accept_pending();
        self.serve_ready()?;
        if self.core.stopping {
            // What the stop has made durable is what there is: nothing is begun, granted or removed behind it.
            self.finish_turn()?;
            return Ok(Some(self.ended()));
        }
        // Order matters: who has sent its password during a long turn is served first.
        self.close_overdue_strangers(started);
        while let Some(event) = self.next_event() {
            if let Some(ended) = self.take_event(event)? {
                return Ok(Some(ended));
            }
        }
        self.serve_admin()?;
        if started.duration_since(self.last_tick) >= self.core.tick_interval() {
            self.tick(started)?;
            self.publish();
        }
        self.make_room();
        self.core.compaction.drive(&mut self.engine, started);
        self.core.huge_pages.drive(self.core.compaction.is_running(), self.engine.used_memory(), started);
        self.finish_turn()?;
        self.turn_ended = Instant::now();
        let took = self.turn_ended.duration_since(started);
        self.core.stats.longest_turn = self.core.stats.longest_turn.max(took);
        Ok(None)
    }

    /// Notes who has something to read or room for output.
    fn take_poll_events(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                WAKER => {}
                Token(number) if number < CLIENT_TOKEN_MIN => self.core.listeners.note_pending(number),
                Token(number) => {
                    let slot = number - CLIENT_TOKEN_MIN;
                    let Some(client) = self.core.clients.get_mut(slot) else { continue };
                    let has_ended = event.is_read_closed() || event.is_error();
                    if has_ended {
                        if client.is_blocked() {
                            // Nobody is left to be answered. Its later commands are dropped with it, as in Redis.
                            self.drop_client(slot);
                            continue;
                        }
                        client.connection.announce_end();
                    }
                    if event.is_writable() || has_ended {
                        client.connection.note_room();
                        if !client.connection.output.is_empty() {
                            self.core.outbox.mark(slot, client);
                        }
                    }
                    if event.is_readable() || has_ended {
                        client.readable = true;
                        if !client.is_held() && !std::mem::replace(&mut client.queued, true) {
                            self.ready.push_back(slot);
                        }
                    }
                }
            }
        }
    }

    /// Makes a client be served in this turn or the next.
    pub(super) fn enqueue(&mut self, slot: usize) {
        if let Some(client) = self.core.clients.get_mut(slot)
            && !std::mem::replace(&mut client.queued, true)
        {
            self.ready.push_back(slot);
        }
    }

    fn next_event(&mut self) -> Option<Event> {
        if self.postponed.is_empty() { self.events.try_recv().ok() } else { Some(self.postponed.remove(0)) }
    }

    /// How long the poll may wait.
    fn timeout(&mut self) -> Duration {
        if self.save_is_behind {
            return JOB_WAIT;
        }
        if !self.ready.is_empty()
            || !self.postponed.is_empty()
            || self.core.listeners.has_pending()
            || self.has_overdue_strangers(self.turn_ended)
            || !self.core.outbox.is_idle()
            || self.is_evicting
            || self.freer.needs_turns()
        {
            return Duration::ZERO;
        }
        let now = self.turn_ended;
        let mut timeout = self.core.tick_interval().saturating_sub(now.duration_since(self.last_tick));
        if let Some(deadline) = self.core.waiters.next_deadline() {
            timeout = timeout.min(deadline.saturating_duration_since(now));
        }
        if let Some(due) = self.core.compaction.due() {
            timeout = timeout.min(due.saturating_duration_since(now));
        }
        if let Some((_, until_ms)) = self.core.pause
            && !self.core.paused.is_empty()
        {
            let left_ms = until_ms.saturating_sub(self.core.clock.now_ms).max(0);
            timeout = timeout.min(Duration::from_millis(left_ms.unsigned_abs()));
        }
        if let Some(journal) = &mut self.core.journal {
            if let (Some(until), _) = journal.drive_syncs() {
                timeout = timeout.min(until);
            }
            if journal.job_is_walking() {
                timeout = if journal.job_is_stuck() { timeout.min(JOB_WAIT) } else { Duration::ZERO };
            }
        }
        timeout
    }
}
