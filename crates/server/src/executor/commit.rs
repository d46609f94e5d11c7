//! The end of a turn: commit, then reply.

use std::io;
use std::time::Instant;

use super::host::WrittenBeside;
use super::journal::{Journal, JournalEvent};
use super::outbox::{exceeds_limit, goes_on_below, note_sent, replies_len_max, report_deaf};
use super::points::AFTER_WAIT;
use super::stats::Stats;
use super::{Core, Event, Executor, ExecutorError};
use crate::clock::unix_ms;
use crate::engine::tracking::ClientId;
use crate::network::output::{Output, SendOutcome};
use crate::network::senders::{Delivery, Parcel};
use crate::persistence::directives::WarningKind;

/// There is no persistence point where one was promised. The reason is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PointFailed;

impl PointFailed {
    /// The text of an error reply, given what this means for whoever gets it.
    pub(super) fn reply(self, meaning: &str) -> Vec<u8> {
        format!("MISCONF {meaning}: the persistence point failed, and the log of the server says why")
            .into_bytes()
    }
}

/// A reply that may leave only if the point at the end of the turn is taken; the last one that its client has.
#[derive(Debug)]
pub(super) struct Promise {
    slot: usize,
    client: ClientId,
    /// Where in the client's output it begins.
    start: usize,
    /// The output behind it, to know whether something was added.
    unsent_len: usize,
    pieces: usize,
}

impl Core {
    /// What `client` is answered from `start` on says more than may be said if the wanted point fails. With a log there is
    /// nothing to remember: a sync that fails ends everything.
    pub(super) fn promise(&mut self, slot: usize, client: ClientId, output: &Output, start: usize) {
        let has_log = self.journal.as_ref().is_none_or(|journal| journal.log().is_some());
        // Whoever wants no replies is told nothing that would be wrong.
        if !has_log && output.position() > start {
            let (unsent_len, pieces) = (output.unsent_len(), output.pieces());
            self.promises.push(Promise { slot, client, start, unsent_len, pieces });
        }
    }

    /// Whether the last reply of the client in this slot depends on the wanted point.
    pub(super) fn has_promised(&self, slot: usize) -> bool {
        self.promises.last().is_some_and(|promise| promise.slot == slot)
    }
}

impl Executor {
    /// Commits the effects of the turn and lets its replies leave.
    pub(super) fn finish_turn(&mut self) -> Result<(), ExecutorError> {
        if crate::faults::replies_before_writing() {
            self.send_replies();
            if self.last_tick.elapsed() < self.core.tick_interval() / 2 {
                return Ok(());
            }
        }
        self.tell_at_end_of_turn();
        self.commit_turn()?;
        self.switch_log()?;
        self.save_flushed();
        self.start_jobs()?;
        self.answer_waits()?;
        self.send_replies();
        self.close_those_without_room();
        self.release_paused();
        if let Some(journal) = &mut self.core.journal {
            journal.drive_job(&mut self.engine);
        }
        if let Some(garbage) = self.engine.take_garbage() {
            self.freer.free(garbage);
        }
        self.freer.drive();
        Ok(())
    }

    pub(super) fn commit_turn(&mut self) -> Result<(), ExecutorError> {
        let point = self.core.points.wanted();
        if let Some(journal) = &mut self.core.journal {
            let synced_before = journal.facts().syncs;
            // The latency monitor wants to know how long a write takes; without it nobody does.
            let is_watched = self.core.meter.settings().latency_threshold_ms > 0 && !self.effects.is_empty();
            let started = is_watched.then(Instant::now);
            journal.commit(&mut self.effects, unix_ms(), point.is_some()).map_err(ExecutorError::Storage)?;
            let synced = journal.facts().syncs > synced_before;
            let took = journal.facts().last_sync_took;
            let beside = WrittenBeside { sync: journal.is_syncing(), job: journal.running_job().is_some() };
            if let Some(started) = started {
                self.core.sample_write(started.elapsed(), synced.then_some(took), beside);
            }
            if synced {
                self.core.note_sync(took);
            }
        } else {
            self.effects.clear();
        }
        if let Some(name) = point
            && self.take_point(name)?.is_err()
        {
            self.core.points.failed();
            self.refuse_promises(name);
        }
        // Under everysec nothing is acknowledged while a sync is two seconds behind.
        while self.core.journal.as_mut().is_some_and(|journal| journal.drive_syncs().1) {
            self.core.stats.delayed_syncs += 1;
            match self.events.recv_timeout(self.core.tick_interval()) {
                Ok(event @ Event::Journal(JournalEvent::LogSynced { .. })) => {
                    self.take_event(event)?;
                }
                Ok(event) => self.postponed.push(event),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Makes everything executed so far durable. The effects have been committed. The inner error is why there is no point:
    /// a snapshot could not be written. It is reported here; whoever relies on the point must not be told that all is well.
    pub(super) fn take_point(
        &mut self,
        name: &'static str,
    ) -> Result<Result<(), PointFailed>, ExecutorError> {
        let Some(journal) = &mut self.core.journal else { return Ok(Ok(())) };
        if journal.offset() <= journal.durable_offset() {
            // The commit has synced it, or nothing has changed.
        } else if journal.log().is_some() {
            journal.sync().map_err(ExecutorError::Storage)?;
        } else if let Err(error) = self.save_for_point(name) {
            tracing::error!(%error, directive = name, "failed to take a persistence point");
            self.core.warn(WarningKind::JobFailed);
            return Ok(Err(PointFailed));
        }
        self.core.points.taken();
        self.core.promises.clear();
        Stats::count(&mut self.core.stats.points, name);
        Ok(Ok(()))
    }

    /// Writes the snapshot that is a point while there is no log, in place of one that may be under way.
    fn save_for_point(&mut self, name: &str) -> Result<(), String> {
        if self.core.journal.as_ref().is_some_and(Journal::files_are_held) {
            return Err("a persistence barrier holds the files".to_owned());
        }
        self.give_up_job(&format!("{name} takes a persistence point"));
        self.write_snapshot()
    }

    /// Commits what was executed so far in this turn and takes a point; the inner error as of [`Executor::take_point`].
    pub(super) fn commit_point(
        &mut self,
        name: &'static str,
    ) -> Result<Result<(), PointFailed>, ExecutorError> {
        if let Some(journal) = &mut self.core.journal {
            journal.commit(&mut self.effects, unix_ms(), true).map_err(ExecutorError::Storage)?;
        }
        self.take_point(name)
    }

    /// Answers those with an error whose replies depended on a point that was not taken.
    fn refuse_promises(&mut self, name: &str) {
        let what = if name == AFTER_WAIT { "what was written before" } else { "it was executed, but" };
        let error = PointFailed.reply(&format!("{name}: {what} is not durable"));
        for Promise { slot, client: id, start, unsent_len, pieces } in std::mem::take(&mut self.core.promises)
        {
            let Some(client) = self.core.clients.get_mut(slot) else { continue };
            if client.session.id() != id {
                continue;
            }
            self.engine.stats.record_error(&error);
            let output = &client.connection.output;
            let is_last = output.unsent_len() == unsent_len && output.pieces() == pieces;
            if is_last && !client.session.is_tracking() {
                let mut writer = client.connection.output.writer(client.session.version());
                writer.rewind(start);
                writer.error(&error);
            } else {
                // Something that must stay was written behind or with the reply: who is cut off knows that it was not told all.
                self.drop_client(slot);
            }
        }
    }

    /// Sends to every client with output, and closes those that are done. Order matters: the turn is committed.
    ///
    /// I/O threads are given a share of it, and what they have not begun with when the rest is done is taken back.
    fn send_replies(&mut self) {
        self.take_deliveries();
        let marked = self.core.outbox.take_marked();
        let (own, shared) = marked.split_at(marked.len() - self.senders.share_of(marked.len()));
        for &slot in shared {
            self.hand_over(slot);
        }
        self.senders.begin(shared.len());
        for &slot in own {
            self.send_to(slot);
        }
        if !shared.is_empty() {
            while let Some(Parcel { slot, mut output, .. }) = self.senders.take_back() {
                let Some(client) = self.core.clients.get_mut(slot) else { continue };
                client.connection.take_back(&mut output);
                self.send_to(slot);
            }
        }
        self.core.outbox.reuse(marked);
    }

    /// Gives the output of a client to the I/O threads, unless they still have some of it.
    fn hand_over(&mut self, slot: usize) {
        let Some(client) = self.core.clients.get_mut(slot) else { return };
        client.marked = false;
        if client.connection.is_away() {
            // Its delivery marks it again.
            return;
        }
        let (socket, output) = client.connection.give_away();
        self.senders.hand_over(Parcel { slot, client: client.session.id(), socket, output });
    }

    /// Learns what I/O threads have sent.
    pub(super) fn take_deliveries(&mut self) {
        while let Some(Delivery { slot, client: id, mut output, sent, result }) = self.senders.next_delivery()
        {
            let core = &mut self.core;
            core.stats.threaded_writes += 1;
            core.stats.writes += 1;
            core.stats.output_bytes += sent as u64;
            let Some(client) = core.clients.get_mut(slot).filter(|client| client.session.id() == id) else {
                continue;
            };
            let has_room = client.connection.take_back(&mut output);
            if matches!(result, Ok(SendOutcome::Done)) {
                core.outbox.keep(&mut output);
            }
            let is_wanted = match result {
                Ok(SendOutcome::Done) => true,
                Ok(SendOutcome::Blocked) => has_room,
                Ok(SendOutcome::More) | Err(_) => false,
            };
            if is_wanted && !client.connection.output.is_empty() {
                // Written since, or left over: whether the client reads is judged when that was tried.
                if sent > 0 {
                    client.last_active = core.clock.now;
                    client.unread_since = None;
                }
                core.outbox.mark(slot, client);
            } else {
                self.after_send(slot, sent, result);
            }
        }
    }

    /// Sends to one client what its socket takes.
    fn send_to(&mut self, slot: usize) {
        let core = &mut self.core;
        let Some(client) = core.clients.get_mut(slot) else { return };
        client.marked = false;
        if client.connection.is_away() {
            // Its delivery marks it again.
            return;
        }
        let (sent, result) = client.connection.send();
        core.stats.output_bytes += sent as u64;
        core.stats.writes += 1;
        self.after_send(slot, sent, result);
    }

    /// Closes a client that is done, gone, or does not read, and lets it go on that was stalled.
    fn after_send(&mut self, slot: usize, sent: usize, result: io::Result<SendOutcome>) {
        let core = &mut self.core;
        let Some(client) = core.clients.get_mut(slot) else { return };
        if sent > 0 {
            // A client that reads is not idle, however long its reply is.
            client.last_active = core.clock.now;
        }
        note_sent(client, sent, core.clock.now);
        // A stranger that is not executed for any more and does not read either would stay so for ever.
        let is_deaf = client.stalled
            && !client.session.is_authenticated()
            && matches!(result, Ok(SendOutcome::Blocked));
        if is_deaf {
            report_deaf(client);
        }
        let has_ended = match result {
            Ok(SendOutcome::Done) => {
                core.outbox.take_back(client);
                client.message_bytes = 0;
                client.closing
            }
            Ok(SendOutcome::Blocked | SendOutcome::More) => {
                if !client.session.is_authenticated() {
                    client.connection.output.shrink_to_fit();
                }
                false
            }
            Err(_) => true,
        };
        if has_ended || is_deaf || exceeds_limit(client, &core.config, core.clock.now) {
            self.drop_client(slot);
            return;
        }
        if matches!(result, Ok(SendOutcome::More)) {
            core.outbox.mark(slot, client);
        }
        let (config, memory_max) = (&core.config, core.client_memory_max);
        let goes_on = client.stalled
            && client.connection.unsent_len() as u64
                <= goes_on_below(replies_len_max(&client.session, config, memory_max));
        if goes_on {
            client.stalled = false;
        }
        core.clients.settle(slot);
        if goes_on {
            self.enqueue(slot);
        }
    }
}
