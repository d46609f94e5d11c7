//! Who waits: by deadline and by stream offset, so that nobody is looked at whose time has not come.

use std::collections::BTreeSet;
use std::time::Instant;

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
    /// BLPOP and its relatives: until one of its keys has something.
    Keys,
    /// WAITAOF: until this offset is durable.
    Durable { offset: u64, local: u64, replicas: u64 },
}

impl WaitKind {
    /// The offset whose durability ends the wait.
    fn ends_at(self) -> Option<u64> {
        match self {
            // Replicas that are not there never have anything.
            WaitKind::Durable { offset, local: 1.., replicas: 0 } => Some(offset),
            WaitKind::Durable { .. } | WaitKind::Replicas | WaitKind::Keys => None,
        }
    }

    /// The offset that the client wants to be durable, whether or not that ends its wait.
    fn wants_durable(self) -> Option<u64> {
        match self {
            WaitKind::Durable { offset, .. } => Some(offset),
            WaitKind::Replicas | WaitKind::Keys => None,
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
    pub(super) fn next_done(&self, now: Instant, durable: Option<u64>) -> Option<usize> {
        let met = self.by_offset.first().filter(|(offset, _)| durable.is_some_and(|it| *offset <= it));
        let late = self.by_deadline.first().filter(|(deadline, _)| *deadline <= now);
        met.map(|(_, slot)| *slot).or(late.map(|(_, slot)| *slot))
    }

    /// Whether somebody wants more to be durable than is.
    pub(super) fn wants_sync(&self, durable: u64) -> bool {
        self.wanted.last().is_some_and(|(offset, _)| *offset > durable)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
