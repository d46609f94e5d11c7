//! The end of a turn: commit, then reply.

use super::client::Client;
use super::outbox::{exceeds_limit, replies_len_max, report_deaf};
use super::stats::Stats;
use super::{Event, Executor, ExecutorError};
use crate::clock::unix_ms;
use crate::network::output::SendOutcome;
use crate::persistence::directives::WarningKind;
use crate::protocol::ReplyWriter;

/// Writes a reply that a command has left to the executor, unless the client has asked for none.
pub(super) fn reply(client: &mut Client, write: impl FnOnce(&mut ReplyWriter<'_>)) {
    if !client.session.is_reply_suppressed() {
        write(&mut ReplyWriter::new(client.connection.output.tail(), client.session.version()));
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
        self.commit_turn()?;
        self.start_jobs()?;
        self.answer_waits()?;
        self.send_replies();
        self.release_paused();
        if let Some(journal) = &mut self.core.journal {
            journal.drive_job(&mut self.engine);
        }
        if let Some(garbage) = self.engine.take_garbage() {
            self.freer.free(garbage);
        }
        Ok(())
    }

    pub(super) fn commit_turn(&mut self) -> Result<(), ExecutorError> {
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

    /// Sends to every client with output, and closes those that are done. Order matters: the turn is committed.
    fn send_replies(&mut self) {
        let marked = self.core.outbox.take_marked();
        for &slot in &marked {
            let core = &mut self.core;
            let Some(client) = core.clients.get_mut(slot) else { continue };
            client.marked = false;
            let (sent, result) = client.connection.send();
            core.stats.output_bytes += sent as u64;
            if sent > 0 {
                // A client that reads is not idle, however long its reply is.
                client.last_active = core.clock.now;
            }
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
                    client.closing
                }
                Ok(SendOutcome::Blocked) => false,
                Ok(SendOutcome::More) => {
                    core.outbox.mark(slot, client);
                    false
                }
                Err(_) => true,
            };
            if has_ended
                || is_deaf
                || exceeds_limit(client, &core.config.client_output_buffer_limit, core.clock.now)
            {
                self.drop_client(slot);
                continue;
            }
            if client.stalled && client.connection.output.unsent_len() <= replies_len_max(&client.session) / 2
            {
                client.stalled = false;
                self.enqueue(slot);
            }
        }
        self.core.outbox.reuse(marked);
    }
}
