//! What every client holds, kept up to date by differences, and which client is to be closed when that is too much.
//!
//! Pure: the executor reports what changed, and closes the clients named here. Nothing here walks over all clients.
//!
//! There are two totals. All that clients hold is what `maxmemory-clients` limits. What they hold for longer than a turn takes
//! room from the data below `maxmemory`: it leaves out output of the current turn, most of which is sent at the turn's end, too
//! early for evicted keys to make room for it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Clients up to this size are of the lowest rank. Source: Redis 7.0, `CLIENT_MEM_USAGE_BUCKET_MIN_LOG`.
const RANK_MIN_LOG: u32 = 15;
/// Clients from this size on are of the highest rank. Source: Redis 7.0, `CLIENT_MEM_USAGE_BUCKET_MAX_LOG`.
const RANK_MAX_LOG: u32 = 33;
const RANKS: usize = (RANK_MAX_LOG - RANK_MIN_LOG + 1) as usize;

/// What is known of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    /// Bytes that it makes the server hold.
    pub(super) bytes: u64,
    /// It may be closed when all clients together hold too much (CLIENT NO-EVICT).
    pub(super) may_be_evicted: bool,
    /// Since when it has to authenticate; none once it has.
    pub(super) stranger_since: Option<Instant>,
}

/// An account with its place among those of its rank.
#[derive(Debug)]
struct Entry {
    account: Account,
    /// Bytes that it holds for longer than a turn.
    held: u64,
    place: usize,
}

/// See the module. Clients are known by their slots.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Vec<Option<Entry>>,
    /// See [`Ledger::total_bytes`].
    total_bytes: u64,
    /// See [`Ledger::held_bytes`].
    held_bytes: u64,
    /// Slots of clients that may be evicted. Within a rank none is twice as large as another, which is as fair as Redis is.
    ranks: [Vec<usize>; RANKS],
    /// Clients that have to authenticate; the oldest first.
    strangers: BTreeSet<(Instant, usize)>,
    stranger_bytes: u64,
}

/// The rank of a size: a doubling is one rank. Source: Redis 7.0, `getMemUsageBucket`.
fn rank(bytes: u64) -> usize {
    let log = bytes.max(1).ilog2().clamp(RANK_MIN_LOG, RANK_MAX_LOG);
    (log - RANK_MIN_LOG) as usize
}

impl Ledger {
    /// Records what a client holds now.
    pub(super) fn set(&mut self, slot: usize, account: Account) {
        self.enter(slot, account, account.bytes);
    }

    /// Records what a client holds now, with output of the current turn: what it holds for longer than a turn has not grown.
    pub(super) fn set_before_sending(&mut self, slot: usize, account: Account) {
        let held = self.entries.get(slot).and_then(Option::as_ref).map_or(0, |entry| entry.held);
        self.enter(slot, account, held.min(account.bytes));
    }

    fn enter(&mut self, slot: usize, account: Account, held: u64) {
        if self.entries.len() <= slot {
            self.entries.resize_with(slot + 1, || None);
        }
        if let Some(entry) = &mut self.entries[slot] {
            let (before, held_before) = (entry.account, entry.held);
            if before == account && held_before == held {
                return;
            }
            if before.stranger_since == account.stranger_since
                && before.may_be_evicted == account.may_be_evicted
                && rank(before.bytes) == rank(account.bytes)
            {
                (entry.account, entry.held) = (account, held);
                self.discount(before, held_before);
                self.count(account, held);
                return;
            }
        }
        self.remove(slot);
        let mut place = 0;
        if account.may_be_evicted {
            let rank = &mut self.ranks[rank(account.bytes)];
            place = rank.len();
            rank.push(slot);
        }
        self.strangers.extend(account.stranger_since.map(|since| (since, slot)));
        self.count(account, held);
        self.entries[slot] = Some(Entry { account, held, place });
    }

    /// Forgets a client.
    pub(super) fn remove(&mut self, slot: usize) {
        let Some(Entry { account, held, place }) = self.entries.get_mut(slot).and_then(Option::take) else {
            return;
        };
        if account.may_be_evicted {
            let rank = &mut self.ranks[rank(account.bytes)];
            rank.swap_remove(place);
            if let Some(moved) = rank.get(place)
                && let Some(entry) = &mut self.entries[*moved]
            {
                entry.place = place;
            }
        }
        if let Some(since) = account.stranger_since {
            self.strangers.remove(&(since, slot));
        }
        self.discount(account, held);
    }

    fn count(&mut self, account: Account, held: u64) {
        self.total_bytes += account.bytes;
        self.held_bytes += held;
        self.stranger_bytes += account.stranger_since.map_or(0, |_| account.bytes);
    }

    fn discount(&mut self, account: Account, held: u64) {
        self.total_bytes -= account.bytes;
        self.held_bytes -= held;
        self.stranger_bytes -= account.stranger_since.map_or(0, |_| account.bytes);
    }

    /// Bytes that all clients hold.
    pub(super) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Bytes that all clients hold for longer than a turn.
    pub(super) fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Bytes that clients hold that have not authenticated.
    pub(super) fn stranger_bytes(&self) -> u64 {
        self.stranger_bytes
    }

    /// The client to close when all of them hold more than `limit` bytes (0: no limit): one of the largest that may be evicted.
    pub(super) fn client_to_evict(&self, limit: u64) -> Option<usize> {
        if limit == 0 || self.total_bytes <= limit {
            return None;
        }
        self.ranks.iter().rev().find_map(|rank| rank.last().copied())
    }

    /// The stranger to close when all of them hold more than `limit` bytes (0: no limit): the oldest.
    pub(super) fn stranger_to_close(&self, limit: u64) -> Option<usize> {
        if limit == 0 || self.stranger_bytes <= limit {
            return None;
        }
        self.strangers.first().map(|(_, slot)| *slot)
    }

    /// The oldest stranger, if it has not authenticated within `limit` (zero: no limit).
    pub(super) fn overdue_stranger(&self, limit: Duration, now: Instant) -> Option<usize> {
        let (since, slot) = self.strangers.first()?;
        (!limit.is_zero() && now.saturating_duration_since(*since) >= limit).then_some(*slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;

    fn account(bytes: u64) -> Account {
        Account { bytes, may_be_evicted: true, stranger_since: None }
    }

    /// The slots that go when `limit` is enforced, in order.
    fn evict_all(ledger: &mut Ledger, limit: u64) -> Vec<usize> {
        let mut gone = Vec::new();
        while let Some(slot) = ledger.client_to_evict(limit) {
            ledger.remove(slot);
            gone.push(slot);
        }
        gone
    }

    #[test]
    fn the_largest_go_first_and_only_until_the_rest_fits() {
        let mut ledger = Ledger::default();
        for (slot, kib) in [100, 1000, 10, 3000, 300].into_iter().enumerate() {
            ledger.set(slot, account(kib * KIB));
        }
        assert!(evict_all(&mut ledger, 0).is_empty(), "no limit");
        assert!(evict_all(&mut ledger, 4410 << 10).is_empty(), "exactly as much as is allowed");
        assert_eq!(evict_all(&mut ledger, 1410 << 10), [3]);
        assert_eq!(evict_all(&mut ledger, 409 << 10), [1, 4]);
        assert_eq!(ledger.total_bytes(), 110 * KIB);
        assert_eq!(evict_all(&mut ledger, 1), [0, 2], "the small ones go, too");
        assert_eq!(ledger.total_bytes(), 0);
    }

    #[test]
    fn whoever_is_exempt_counts_and_stays() {
        let mut ledger = Ledger::default();
        ledger.set(0, Account { may_be_evicted: false, ..account(5000 * KIB) });
        ledger.set(1, account(KIB));
        assert_eq!(evict_all(&mut ledger, 1 << 20), [1]);
        assert_eq!(ledger.total_bytes(), 5000 * KIB);
        ledger.set(0, account(5000 * KIB));
        assert_eq!(evict_all(&mut ledger, 1 << 20), [0], "exempt no longer");
    }

    #[test]
    fn the_oldest_stranger_goes_first() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let stranger = |since, bytes| Account { stranger_since: Some(after(since)), ..account(bytes) };
        let mut ledger = Ledger::default();
        ledger.set(7, stranger(3, 10 * KIB));
        ledger.set(2, stranger(1, KIB));
        ledger.set(5, stranger(2, 30 * KIB));
        ledger.set(9, account(500 * KIB));
        let limit = Duration::from_secs(10);
        assert_eq!(ledger.overdue_stranger(limit, after(10)), None);
        assert_eq!(ledger.overdue_stranger(limit, after(11)), Some(2));
        assert_eq!(ledger.overdue_stranger(Duration::ZERO, after(1000)), None, "no limit");
        assert_eq!(ledger.stranger_to_close(41 << 10), None);
        assert_eq!(ledger.stranger_to_close(40 << 10), Some(2));
        assert_eq!(ledger.stranger_to_close(0), None, "no limit");
        // It has given its password.
        ledger.set(2, account(KIB));
        assert_eq!((ledger.stranger_to_close(39 << 10), ledger.stranger_bytes()), (Some(5), 40 * KIB));
        ledger.remove(5);
        assert_eq!((ledger.overdue_stranger(limit, after(13)), ledger.stranger_bytes()), (Some(7), 10 * KIB));
    }

    #[test]
    fn output_takes_no_room_before_it_was_tried_to_be_sent() {
        fn check(ledger: &Ledger, total: u64, held: u64) {
            assert_eq!((ledger.total_bytes(), ledger.held_bytes()), (total * KIB, held * KIB));
        }
        let mut ledger = Ledger::default();
        ledger.set_before_sending(1, account(100 * KIB));
        check(&ledger, 100, 0);
        assert_eq!(ledger.client_to_evict(99 << 10), Some(1), "it may be closed for it");
        ledger.set(1, account(70 * KIB));
        check(&ledger, 70, 70);
        // What was tried before and is left goes on to take room.
        ledger.set_before_sending(1, account(300 * KIB));
        check(&ledger, 300, 70);
        ledger.set_before_sending(1, account(301 * KIB));
        check(&ledger, 301, 70);
        ledger.set_before_sending(1, account(60 * KIB));
        check(&ledger, 60, 60);
        ledger.remove(1);
        check(&ledger, 0, 0);
    }

    /// Random changes against sums over all accounts.
    #[test]
    fn totals_are_those_of_all_accounts() {
        let start = Instant::now();
        let mut seed = 1_u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap() % below
        };
        let mut ledger = Ledger::default();
        let mut plain: Vec<Option<Account>> = vec![None; 40];
        let mut held = vec![0; 40];
        for _ in 0..20_000 {
            let slot = random(plain.len());
            if random(5) == 0 {
                ledger.remove(slot);
                (plain[slot], held[slot]) = (None, 0);
            } else {
                let account = Account {
                    bytes: 1 << random(36),
                    may_be_evicted: random(3) > 0,
                    stranger_since: (random(3) == 0).then(|| start + Duration::from_secs(random(50) as u64)),
                };
                if random(3) == 0 {
                    ledger.set_before_sending(slot, account);
                    held[slot] = account.bytes.min(held[slot]);
                } else {
                    ledger.set(slot, account);
                    held[slot] = account.bytes;
                }
                plain[slot] = Some(account);
            }
            let all = || plain.iter().flatten();
            assert_eq!(ledger.total_bytes(), all().map(|it| it.bytes).sum::<u64>());
            assert_eq!(ledger.held_bytes(), held.iter().sum::<u64>());
            let strangers = || all().filter(|it| it.stranger_since.is_some());
            assert_eq!(ledger.stranger_bytes(), strangers().map(|it| it.bytes).sum::<u64>());
            let largest = all().filter(|it| it.may_be_evicted).map(|it| rank(it.bytes)).max();
            let evicted = ledger.client_to_evict(1).and_then(|slot| plain[slot]);
            assert_eq!(evicted.map(|it| rank(it.bytes)), largest);
            assert!(evicted.is_none_or(|it| it.may_be_evicted));
            let oldest = ledger.overdue_stranger(Duration::from_nanos(1), start + Duration::from_secs(100));
            let since = |slot: usize| plain[slot].and_then(|it: Account| it.stranger_since);
            assert_eq!(oldest.and_then(since), strangers().filter_map(|it| it.stranger_since).min());
        }
        (0..plain.len()).for_each(|slot| ledger.remove(slot));
        assert!(ledger.ranks.iter().all(Vec::is_empty) && ledger.strangers.is_empty());
        assert_eq!((ledger.total_bytes(), ledger.held_bytes(), ledger.stranger_bytes()), (0, 0, 0));
    }
}
