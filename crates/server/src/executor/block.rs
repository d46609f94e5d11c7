//! Clients begin to wait, and are answered.

use std::time::{Duration, Instant};

use super::client::Client;
use super::waiting::{WaitKind, Waiting};
use super::{Executor, ExecutorError};
use crate::persistence::directives::Event as PointEvent;

impl Executor {
    /// Makes a client wait.
    pub(super) fn block(&mut self, slot: usize, client: &mut Client, kind: WaitKind, timeout_ms: u64) {
        let deadline = (timeout_ms > 0)
            .then(|| self.core.clock.now.checked_add(Duration::from_millis(timeout_ms)))
            .flatten();
        let waiting = Waiting { kind, deadline };
        self.core.waiters.add(slot, &waiting);
        client.waiting = Some(waiting);
    }

    /// Answers the clients whose wait is over.
    pub(super) fn answer_waits(&mut self) -> Result<(), ExecutorError> {
        if self.core.waiters.len() == 0 {
            return Ok(());
        }
        let now = Instant::now();
        let log = self.core.journal.as_ref().filter(|journal| journal.log().is_some());
        let durable = log.map(|journal| journal.durable_offset());
        while let Some(slot) = self.core.waiters.next_done(now, durable) {
            self.end_wait(slot, durable);
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

    fn end_wait(&mut self, slot: usize, durable: Option<u64>) {
        let core = &mut self.core;
        let Some(client) = core.clients.get_mut(slot) else { return };
        let Some(waiting) = client.waiting.take() else { return };
        core.waiters.remove(slot, &waiting);
        match waiting.kind {
            WaitKind::Replicas => client.reply(|reply| reply.integer(0)),
            WaitKind::Durable { offset, .. } => {
                let is_local = durable.is_some_and(|durable| offset <= durable);
                client.reply(|reply| {
                    reply.array(2);
                    reply.integer(i64::from(is_local));
                    reply.integer(0);
                });
            }
        }
        core.points.after(PointEvent::Wait);
        core.outbox.mark(slot, client);
        self.enqueue(slot);
    }
}
