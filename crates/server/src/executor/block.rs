//! Clients that wait: by deadline and by stream offset, so that nobody is looked at whose time has not come.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::client::Client;
use super::commit::reply;
use super::{Executor, ExecutorError};
use crate::persistence::directives::Event as PointEvent;

/// What a client waits for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) kind: WaitKind,
    /// When it is answered with what there is.
    pub(super) deadline: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum WaitKind {
    /// WAIT: for replicas, of which there are none.
    Replicas,
    /// WAITAOF: until this offset is durable.
    Durable { offset: u64, local: u64, replicas: u64 },
}

impl WaitKind {
    /// The offset whose durability ends the wait.
    fn ends_at(self) -> Option<u64> {
        match self {
            // Replicas that are not there never have anything.
            WaitKind::Durable { offset, local: 1.., replicas: 0 } => Some(offset),
            WaitKind::Durable { .. } | WaitKind::Replicas => None,
        }
    }

    /// The offset that the client wants to be durable, whether or not that ends its wait.
    fn wants_durable(self) -> Option<u64> {
        match self {
            WaitKind::Durable { offset, .. } => Some(offset),
            WaitKind::Replicas => None,
        }
    }
}

/// The slots of all clients that wait.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    by_deadline: BTreeSet<(Instant, usize)>,
    /// Those that end when an offset is durable.
    by_offset: BTreeSet<(u64, usize)>,
    /// Offsets that somebody wants to be durable.
    wanted: BTreeSet<(u64, usize)>,
    len: usize,
}

impl Waiters {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// `slot` begins to wait.
    pub(super) fn add(&mut self, slot: usize, waiting: &Waiting) {
        self.len += 1;
        self.by_deadline.extend(waiting.deadline.map(|deadline| (deadline, slot)));
        self.by_offset.extend(waiting.kind.ends_at().map(|offset| (offset, slot)));
        self.wanted.extend(waiting.kind.wants_durable().map(|offset| (offset, slot)));
    }

    /// `slot` waits no more.
    pub(super) fn remove(&mut self, slot: usize, waiting: &Waiting) {
        self.len -= 1;
        if let Some(deadline) = waiting.deadline {
            self.by_deadline.remove(&(deadline, slot));
        }
        if let Some(offset) = waiting.kind.ends_at() {
            self.by_offset.remove(&(offset, slot));
        }
        if let Some(offset) = waiting.kind.wants_durable() {
            self.wanted.remove(&(offset, slot));
        }
    }

    /// The next deadline.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// A slot whose wait is over.
    fn next_done(&self, now: Instant, durable: Option<u64>) -> Option<usize> {
        let met = self.by_offset.first().filter(|(offset, _)| durable.is_some_and(|it| *offset <= it));
        let late = self.by_deadline.first().filter(|(deadline, _)| *deadline <= now);
        met.map(|(_, slot)| *slot).or(late.map(|(_, slot)| *slot))
    }

    /// Whether somebody wants more to be durable than is.
    fn wants_sync(&self, durable: u64) -> bool {
        self.wanted.last().is_some_and(|(offset, _)| *offset > durable)
    }
}

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
            WaitKind::Replicas => reply(client, |reply| reply.integer(0)),
            WaitKind::Durable { offset, .. } => {
                let is_local = durable.is_some_and(|durable| offset <= durable);
                reply(client, |reply| {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_end_by_offset_or_by_deadline_and_leave_nothing() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut waiters = Waiters::default();
        let durable = |offset, local, replicas| WaitKind::Durable { offset, local, replicas };
        let all = [
            Waiting { kind: WaitKind::Replicas, deadline: Some(after(50)) },
            Waiting { kind: durable(100, 1, 0), deadline: None },
            Waiting { kind: durable(10, 1, 1), deadline: Some(after(20)) },
            Waiting { kind: durable(50, 1, 0), deadline: Some(after(30)) },
            Waiting { kind: WaitKind::Replicas, deadline: None },
        ];
        for (slot, waiting) in all.iter().enumerate() {
            waiters.add(slot, waiting);
        }
        assert_eq!(waiters.next_deadline(), Some(after(20)));
        assert!(waiters.wants_sync(99) && !waiters.wants_sync(100));
        assert_eq!(waiters.next_done(start, Some(49)), None);
        assert_eq!(waiters.next_done(start, Some(60)), Some(3), "its offset is durable");
        assert_eq!(waiters.next_done(after(20), Some(49)), Some(2), "its time is over");
        assert_eq!(waiters.next_done(after(20), None), Some(2));
        for (slot, waiting) in all.iter().enumerate() {
            waiters.remove(slot, waiting);
        }
        assert_eq!(waiters.len(), 0);
        assert!(waiters.by_deadline.is_empty() && waiters.by_offset.is_empty() && waiters.wanted.is_empty());
    }
}
