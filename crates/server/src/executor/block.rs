//! Clients begin to wait, and are answered.

use std::time::{Duration, Instant};

use super::blocked::Blocked;
use super::client::Client;
use super::waiting::{WaitKind, Waiting};
use super::{Executor, ExecutorError};
use crate::clock::unix_ms;
use crate::command::{Context, Outcome, timing};
use crate::persistence::directives::Event as PointEvent;

/// What a client is told whose wait another has ended with an error.
const UNBLOCKED: &[u8] = b"UNBLOCKED client unblocked via CLIENT UNBLOCK";

impl Executor {
    /// Makes a client wait.
    pub(super) fn block(&mut self, slot: usize, client: &mut Client, kind: WaitKind, timeout_ms: u64) {
        // The turn may have begun long ago.
        let deadline =
            (timeout_ms > 0).then(|| Instant::now().checked_add(Duration::from_millis(timeout_ms))).flatten();
        let waiting = Waiting { kind, deadline };
        self.core.waiters.add(slot, &waiting);
        client.waiting = Some(waiting);
    }

    /// Makes a client wait for keys; its command is run again when one of them is ready.
    pub(super) fn block_on_keys(
        &mut self,
        slot: usize,
        client: &mut Client,
        mut blocked: Blocked,
        timeout_ms: u64,
    ) {
        self.core.blocked.add(slot, &mut blocked, &mut self.engine);
        client.blocked = Some(Box::new(blocked));
        self.block(slot, client, WaitKind::Keys, timeout_ms);
    }

    /// Runs the commands again that wait for keys which are ready, until none can be answered; whether any was.
    ///
    /// Keys come in the order in which they became ready, those that a served command makes ready behind all others; clients
    /// in the order in which they began to wait for the key.
    pub(super) fn serve_blocked(&mut self) -> bool {
        let mut has_served = false;
        while let Some((db, key)) = self.engine.next_ready() {
            let Some(kind) = self.engine.kind_of(db, &key) else { continue };
            let name = (kind, db, key);
            let (_, _, key) = &name;
            let mut looked_at = 0;
            // Without the value nobody behind can be answered either.
            while self.engine.kind_of(db, key) == Some(kind)
                && let Some((ticket, slot)) = self.core.blocked.next(&name, looked_at)
            {
                looked_at = ticket;
                let Some(mut client) = self.core.clients.take(slot) else { continue };
                match client.blocked.take() {
                    Some(blocked) if self.retry(slot, &mut client, &blocked, key) => {
                        self.unblock(slot, &mut client, *blocked);
                        has_served = true;
                    }
                    blocked => client.blocked = blocked,
                }
                self.core.clients.put_back(slot, client);
            }
        }
        has_served
    }

    /// Whether the command of a client had something to answer from a key that is ready.
    fn retry(&mut self, slot: usize, client: &mut Client, blocked: &Blocked, key: &[u8]) -> bool {
        let effects_before = self.effects.len();
        // Messages for it are put in front of its reply or behind it, not into its slot.
        let served = self.core.current.take();
        self.core.enter(slot, client, 0, 0);
        let settings = self.core.settings(client);
        let now_ms = self.core.clock.now_ms;
        let mut context = Context {
            engine: &mut self.engine,
            effects: &mut self.effects,
            host: &mut self.core,
            settings,
            now_ms,
        };
        let reply = client.connection.output.writer(client.session.version());
        let request = blocked.request();
        let (outcome, noted) = crate::command::retry(&mut context, &mut client.session, &request, key, reply);
        if noted.slow || noted.late {
            let address = client.connection.peer_name();
            let now_s = i64::try_from(unix_ms() / 1000).unwrap_or(i64::MAX);
            timing::note_resumed(&mut self.core.meter, &client.session, &request, noted, address, now_s);
        }
        self.core.current = served;
        if self.effects.len() > effects_before {
            client.session.last_write_offset = self.core.offset() + self.effects.len() as u64;
        }
        !matches!(outcome, Outcome::Deferred(_))
    }

    /// Lets a client go on whose command was answered.
    fn unblock(&mut self, slot: usize, client: &mut Client, blocked: Blocked) {
        self.core.blocked.remove_all(&blocked, &mut self.engine);
        if let Some(waiting) = client.waiting.take() {
            self.core.waiters.remove(slot, &waiting);
        }
        self.core.outbox.mark(slot, client);
        if !std::mem::replace(&mut client.queued, true) {
            self.ready.push_back(slot);
        }
    }

    /// CLIENT UNBLOCK: ends the waits of the clients that it named.
    pub(super) fn end_unblocked(&mut self) {
        for (slot, with_error) in std::mem::take(&mut self.core.unblocked) {
            let Some(mut client) = self.core.clients.take(slot) else { continue };
            if let Some(waiting) = client.waiting.take() {
                self.core.waiters.remove(slot, &waiting);
                if let Some(blocked) = client.blocked.take() {
                    self.core.blocked.remove_all(&blocked, &mut self.engine);
                }
                if with_error {
                    self.engine.stats.record_error(UNBLOCKED);
                    if let Some(command) = client.session.last_command {
                        self.core.meter.failed(command);
                    }
                    client.reply(|reply| reply.error(UNBLOCKED));
                } else {
                    self.answer_wait(slot, &mut client, waiting.kind);
                }
                self.core.outbox.mark(slot, &mut client);
                if !std::mem::replace(&mut client.queued, true) {
                    self.ready.push_back(slot);
                }
            }
            self.core.clients.put_back(slot, client);
        }
    }

    /// Answers the clients whose wait is over.
    pub(super) fn answer_waits(&mut self) -> Result<(), ExecutorError> {
        if self.core.waiters.len() == 0 {
            return Ok(());
        }
        let now = Instant::now();
        let durable = self.durable_offset();
        while let Some(slot) = self.core.waiters.next_done(now, durable) {
            self.end_wait(slot);
        }
        if let (Some(durable), Some(journal)) = (durable, &mut self.core.journal)
            && self.core.waiters.wants_sync(durable)
        {
            journal.start_sync();
        }
        if self.core.points.wanted().is_some() {
            self.commit_turn()?;
        }
        Ok(())
    }

    /// How far the log is on stable storage; none without a log.
    fn durable_offset(&self) -> Option<u64> {
        let log = self.core.journal.as_ref().filter(|journal| journal.log().is_some());
        log.map(|journal| journal.durable_offset())
    }

    /// Whether the log up to `offset` is on stable storage.
    pub(super) fn is_durable(&self, offset: u64) -> bool {
        self.durable_offset().is_some_and(|durable| offset <= durable)
    }

    fn end_wait(&mut self, slot: usize) {
        let Some(mut client) = self.core.clients.take(slot) else { return };
        if let Some(waiting) = client.waiting.take() {
            self.core.waiters.remove(slot, &waiting);
            self.answer_wait(slot, &mut client, waiting.kind);
            if matches!(waiting.kind, WaitKind::Keys) {
                self.core.blocked.remove(&mut client, &mut self.engine);
            }
            self.core.outbox.mark(slot, &mut client);
        }
        self.core.clients.put_back(slot, client);
        self.enqueue(slot);
    }

    /// Answers a client that waits no longer with what there is. Behind a `WAIT` or `WAITAOF` a point may be wanted, which the
    /// answer then depends on.
    pub(super) fn answer_wait(&mut self, slot: usize, client: &mut Client, kind: WaitKind) {
        let start = client.connection.output.position();
        match kind {
            WaitKind::Keys => {
                client.reply(|reply| reply.null_array());
                return;
            }
            WaitKind::Replicas => client.reply(|reply| reply.integer(0)),
            WaitKind::Durable { offset, .. } => {
                let is_durable = self.is_durable(offset);
                client.reply(|reply| {
                    reply.array(2);
                    reply.integer(i64::from(is_durable));
                    reply.integer(0);
                });
            }
        }
        if self.core.points.after(PointEvent::Wait) {
            self.core.promise(slot, client.session.id(), &client.connection.output, start);
        }
    }
}
