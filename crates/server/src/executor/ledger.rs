//! What every client holds, kept up to date by differences, and who has to go when that is too much.
//!
//! Pure: the executor says what changed, and closes whom this names. Nothing here walks over all clients.

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
    pub(super) bytes: usize,
    /// It counts as a subscriber.
    pub(super) is_subscriber: bool,
    /// It may be closed when all clients together hold too much (CLIENT NO-EVICT).
    pub(super) may_be_evicted: bool,
    /// Since when it has to authenticate; none once it has.
    pub(super) stranger_since: Option<Instant>,
}

/// An account with its place among those of its rank.
#[derive(Debug)]
struct Entry {
    account: Account,
    place: usize,
}

/// See the module. Clients are known by their slots.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Vec<Option<Entry>>,
    normal_bytes: usize,
    subscriber_bytes: usize,
    /// Slots of those who may be evicted. Within a rank nobody is twice as large as another, which is as fair as Redis is.
    ranks: [Vec<usize>; RANKS],
    /// Those who have to authenticate; the oldest first.
    strangers: BTreeSet<(Instant, usize)>,
    stranger_bytes: usize,
}

/// The rank of a size: a doubling is one rank. Source: Redis 7.0, `getMemUsageBucket`.
fn rank(bytes: usize) -> usize {
    let log = bytes.max(1).ilog2().clamp(RANK_MIN_LOG, RANK_MAX_LOG);
    (log - RANK_MIN_LOG) as usize
}

impl Ledger {
    /// Takes over what a client holds now.
    pub(super) fn set(&mut self, slot: usize, account: Account) {
        if self.entries.len() <= slot {
            self.entries.resize_with(slot + 1, || None);
        }
        if let Some(entry) = &mut self.entries[slot] {
            if entry.account == account {
                return;
            }
            let kept = entry.account;
            if kept.is_subscriber == account.is_subscriber
                && kept.stranger_since == account.stranger_since
                && kept.may_be_evicted == account.may_be_evicted
                && rank(kept.bytes) == rank(account.bytes)
            {
                entry.account = account;
                self.count(kept, false);
                self.count(account, true);
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
        self.count(account, true);
        self.entries[slot] = Some(Entry { account, place });
    }

    /// Forgets a client.
    pub(super) fn remove(&mut self, slot: usize) {
        let Some(Entry { account, place }) = self.entries.get_mut(slot).and_then(Option::take) else {
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
        self.count(account, false);
    }

    fn count(&mut self, account: Account, is_added: bool) {
        let change = |total: &mut usize| {
            *total = if is_added { *total + account.bytes } else { *total - account.bytes };
        };
        change(if account.is_subscriber { &mut self.subscriber_bytes } else { &mut self.normal_bytes });
        if account.stranger_since.is_some() {
            change(&mut self.stranger_bytes);
        }
    }

    /// Bytes that all clients hold.
    pub(super) fn total_bytes(&self) -> usize {
        self.normal_bytes + self.subscriber_bytes
    }

    /// Bytes that those hold who have not authenticated.
    pub(super) fn stranger_bytes(&self) -> usize {
        self.stranger_bytes
    }

    /// Who has to go because all clients hold more than `limit` bytes (0: no limit): one of the largest who may be evicted.
    pub(super) fn evicted(&self, limit: u64) -> Option<usize> {
        if limit == 0 || self.total_bytes() as u64 <= limit {
            return None;
        }
        self.ranks.iter().rev().find_map(|rank| rank.last().copied())
    }

    /// Who has to go because strangers hold more than `limit` bytes (0: no limit): the one that has had most time.
    pub(super) fn crowded_out(&self, limit: u64) -> Option<usize> {
        if limit == 0 || self.stranger_bytes as u64 <= limit {
            return None;
        }
        self.strangers.first().map(|(_, slot)| *slot)
    }

    /// Who has not authenticated within `limit` (zero: no limit).
    pub(super) fn overdue(&self, limit: Duration, now: Instant) -> Option<usize> {
        let (since, slot) = self.strangers.first()?;
        (!limit.is_zero() && now.saturating_duration_since(*since) >= limit).then_some(*slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;

    fn account(bytes: usize) -> Account {
        Account { bytes, is_subscriber: false, may_be_evicted: true, stranger_since: None }
    }

    /// The slots that go when `limit` is enforced, in order.
    fn evict_all(ledger: &mut Ledger, limit: u64) -> Vec<usize> {
        let mut gone = Vec::new();
        while let Some(slot) = ledger.evicted(limit) {
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
        assert_eq!(ledger.overdue(limit, after(10)), None);
        assert_eq!(ledger.overdue(limit, after(11)), Some(2));
        assert_eq!(ledger.overdue(Duration::ZERO, after(1000)), None, "no limit");
        assert_eq!(ledger.crowded_out(41 << 10), None);
        assert_eq!(ledger.crowded_out(40 << 10), Some(2));
        assert_eq!(ledger.crowded_out(0), None, "no limit");
        // It has given its password.
        ledger.set(2, account(KIB));
        assert_eq!((ledger.crowded_out(39 << 10), ledger.stranger_bytes()), (Some(5), 40 * KIB));
        ledger.remove(5);
        assert_eq!((ledger.overdue(limit, after(13)), ledger.stranger_bytes()), (Some(7), 10 * KIB));
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
        for _ in 0..20_000 {
            let slot = random(plain.len());
            if random(5) == 0 {
                ledger.remove(slot);
                plain[slot] = None;
            } else {
                let account = Account {
                    bytes: 1 << random(36),
                    is_subscriber: random(2) == 0,
                    may_be_evicted: random(3) > 0,
                    stranger_since: (random(3) == 0).then(|| start + Duration::from_secs(random(50) as u64)),
                };
                ledger.set(slot, account);
                plain[slot] = Some(account);
            }
            let all = || plain.iter().flatten();
            assert_eq!(ledger.total_bytes(), all().map(|it| it.bytes).sum::<usize>());
            let strangers = || all().filter(|it| it.stranger_since.is_some());
            assert_eq!(ledger.stranger_bytes(), strangers().map(|it| it.bytes).sum::<usize>());
            let largest = all().filter(|it| it.may_be_evicted).map(|it| rank(it.bytes)).max();
            let evicted = ledger.evicted(1).and_then(|slot| plain[slot]);
            assert_eq!(evicted.map(|it| rank(it.bytes)), largest);
            assert!(evicted.is_none_or(|it| it.may_be_evicted));
            let oldest = ledger.overdue(Duration::from_nanos(1), start + Duration::from_secs(100));
            let since = |slot: usize| plain[slot].and_then(|it: Account| it.stranger_since);
            assert_eq!(oldest.and_then(since), strangers().filter_map(|it| it.stranger_since).min());
        }
        (0..plain.len()).for_each(|slot| ledger.remove(slot));
        assert!(ledger.ranks.iter().all(Vec::is_empty) && ledger.strangers.is_empty());
        assert_eq!((ledger.total_bytes(), ledger.stranger_bytes()), (0, 0));
    }
}
