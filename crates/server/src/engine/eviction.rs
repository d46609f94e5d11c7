//! Which key goes when there is no room, and how it goes. When there is none is not decided here.
//!
//! LRU and LFU are approximated as in Redis: each time some keys are looked at (`maxmemory-samples`), and the best
//! candidates of all times are kept in a pool. Unlike there, a candidate that was used since it was found is dropped, and the key
//! with the shortest time to live is found exactly: the table keeps the order of expiries anyway.
//!
//! Nothing is kept per key but the bits of its last access ([`super::access`]).

use super::access::AccessMeter;
use super::effects::EffectBuffer;
use super::events::class;
use super::object::EntryView;
use super::table::{Position, Table};
use super::{Engine, is_expired};

/// Candidates that are kept. Source: Redis, `EVPOOL_SIZE`.
const POOL_LEN: usize = 16;
/// Keys evicted between two looks at the clock, as in Redis.
const KEYS_PER_LOOK: usize = 16;

/// Which keys are evicted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvictionOrder {
    /// Those that were used least recently.
    LeastRecent,
    /// Those that are used least frequently.
    LeastFrequent,
    /// Any.
    Random,
    /// Those that expire next.
    NextToExpire,
}

/// Which keys may be evicted, and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvictionPolicy {
    /// Only keys that expire.
    pub volatile: bool,
    /// Which of them go first.
    pub order: EvictionOrder,
}

/// Settings of eviction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvictionSettings {
    /// None evicts nothing.
    pub policy: Option<EvictionPolicy>,
    /// Keys that are looked at in each database for one that is evicted, at least 1 (`maxmemory-samples`).
    pub samples: usize,
    /// `lfu-log-factor`
    pub lfu_log_factor: u32,
    /// `lfu-decay-time`
    pub lfu_decay_minutes: u32,
}

impl Default for EvictionSettings {
    fn default() -> Self {
        EvictionSettings { policy: None, samples: 5, lfu_log_factor: 10, lfu_decay_minutes: 1 }
    }
}

impl EvictionSettings {
    /// Whether accesses are counted, not dated.
    fn counts(self) -> bool {
        self.policy.is_some_and(|policy| policy.order == EvictionOrder::LeastFrequent)
    }

    /// Whether the last use of keys decides: Redis does not share small integers then, and writes it into snapshots.
    pub(crate) fn is_by_use(self) -> bool {
        let by_use = [EvictionOrder::LeastRecent, EvictionOrder::LeastFrequent];
        self.policy.is_some_and(|policy| by_use.contains(&policy.order))
    }
}

/// What came of an attempt to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// There is enough.
    Enough,
    /// There is too little yet, and time was over.
    Late,
    /// There is too little, and nothing that may be evicted.
    None,
}

/// A key that may be evicted. A key is known by its hash: whoever has all 64 bits of it is as good.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    score: u32,
    db: u32,
    hash: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Eviction {
    settings: EvictionSettings,
    /// Whether accesses are counted; it is asked for at each of them.
    counts: bool,
    /// The best candidate last.
    pool: Vec<Candidate>,
    /// Database from which the next key is taken at random.
    next_db: u32,
}

impl Default for Eviction {
    fn default() -> Self {
        let settings = EvictionSettings::default();
        Eviction { settings, counts: settings.counts(), pool: Vec::new(), next_db: 0 }
    }
}

impl Eviction {
    #[inline]
    pub(super) fn counts(&self) -> bool {
        self.counts
    }

    /// Whether a candidate with this score would be taken in.
    fn has_place(&self, score: u32) -> bool {
        self.pool.len() < POOL_LEN || self.pool[0].score < score
    }

    /// Takes a candidate in that has a place.
    fn offer(&mut self, candidate: Candidate) {
        if self.pool.iter().any(|it| (it.db, it.hash) == (candidate.db, candidate.hash)) {
            return;
        }
        let place = self.pool.partition_point(|it| it.score < candidate.score);
        self.pool.insert(place, candidate);
        if self.pool.len() > POOL_LEN {
            self.pool.remove(0);
        }
    }
}

impl Engine {
    /// Chooses what is evicted, from now on.
    pub fn set_eviction(&mut self, settings: EvictionSettings) {
        if self.eviction.settings != settings {
            self.eviction = Eviction { settings, counts: settings.counts(), ..Eviction::default() };
        }
    }

    /// What is evicted.
    pub(crate) fn eviction(&self) -> EvictionSettings {
        self.eviction.settings
    }

    /// How accesses are kept and read at this moment.
    pub(crate) fn access_meter(&self, now_ms: i64) -> AccessMeter {
        let EvictionSettings { policy: _, samples: _, lfu_log_factor, lfu_decay_minutes } =
            self.eviction.settings;
        AccessMeter::new(self.eviction.counts, lfu_log_factor, lfu_decay_minutes, now_ms)
    }

    /// Evicts until [`Engine::counted_memory`] is not above `limit`, nothing is left to evict, or `is_late`, which is asked after
    /// every few keys.
    pub(crate) fn make_room(
        &mut self,
        limit: u64,
        now_ms: i64,
        effects: &mut EffectBuffer,
        mut is_late: impl FnMut() -> bool,
    ) -> Room {
        loop {
            for _ in 0..KEYS_PER_LOOK {
                if self.counted_memory() <= limit {
                    return Room::Enough;
                }
                if !self.evict_one(now_ms, effects) {
                    return Room::None;
                }
            }
            if is_late() {
                return Room::Late;
            }
        }
    }

    /// Evicts one key and records a `DEL`, a unit of its own; false when there is none that may be evicted.
    pub(crate) fn evict_one(&mut self, now_ms: i64, effects: &mut EffectBuffer) -> bool {
        if self.replaying {
            return false;
        }
        let Some((db, at)) = self.victim(now_ms) else { return false };
        effects.begin_unit(false);
        if is_expired(self.table(db).view(at).expires_at_ms(), now_ms) {
            self.collect(db, at, effects);
        } else {
            self.evict(db, at, effects);
        }
        effects.end_unit();
        true
    }

    fn evict(&mut self, db: u32, at: Position, effects: &mut EffectBuffer) {
        let entry = self.with_table(db, |table| table.remove(at));
        let key = entry.view().key();
        effects.push(db, &[b"DEL", key]);
        self.stats.evicted_keys += 1;
        self.watches.changed(db, key);
        self.tracking.removed(key);
        self.events.push(db, class::EVICTED, "evicted", key);
        self.discard(entry.dismantle());
    }

    fn victim(&mut self, now_ms: i64) -> Option<(u32, Position)> {
        let EvictionPolicy { volatile, order } = self.eviction.settings.policy?;
        match order {
            EvictionOrder::Random => self.random_victim(volatile),
            EvictionOrder::NextToExpire => self.next_to_expire(),
            EvictionOrder::LeastRecent | EvictionOrder::LeastFrequent => self.least_used(volatile, now_ms),
        }
    }

    /// Visits keys of a database that may be evicted, at random, up to `count`. `visit` has the state of the eviction, too.
    fn sample(
        &mut self,
        db: u32,
        volatile: bool,
        count: usize,
        mut visit: impl FnMut(&mut Eviction, Position, EntryView<'_>),
    ) {
        let random = self.random.next();
        let Engine { databases, eviction, used, .. } = self;
        let table = &mut databases[db as usize];
        if volatile {
            // Looking drops what the index no longer needs, which is memory, too.
            let before = table.memory_bytes();
            table.sample_expiring(random, count, |at, entry| visit(eviction, at, entry));
            *used = *used + table.memory_bytes() - before;
        } else {
            table.sample(random, count, |at, entry| visit(eviction, at, entry));
        }
    }

    /// A key at random. Databases take turns, as in Redis.
    fn random_victim(&mut self, volatile: bool) -> Option<(u32, Position)> {
        for _ in 0..self.databases() {
            let db = self.eviction.next_db % self.databases();
            self.eviction.next_db = db + 1;
            let mut found = None;
            self.sample(db, volatile, 1, |_, at, _| found = Some((db, at)));
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn next_to_expire(&mut self) -> Option<(u32, Position)> {
        let mut best: Option<(i64, u32, Position)> = None;
        for db in 0..self.databases() {
            // Looking drops what the index no longer needs, which is memory, too.
            let Some(at) = self.with_table(db, Table::next_to_expire) else { continue };
            let expires_at_ms = self.table(db).view(at).expires_at_ms().unwrap_or(i64::MAX);
            if best.is_none_or(|(earliest, ..)| expires_at_ms < earliest) {
                best = Some((expires_at_ms, db, at));
            }
        }
        best.map(|(_, db, at)| (db, at))
    }

    fn least_used(&mut self, volatile: bool, now_ms: i64) -> Option<(u32, Position)> {
        let (meter, hasher) = (self.access_meter(now_ms), self.hasher);
        let samples = self.eviction.settings.samples;
        loop {
            let mut seen = false;
            for db in 0..self.databases() {
                self.sample(db, volatile, samples, |eviction, _, entry| {
                    seen = true;
                    let score = meter.score(entry.accessed());
                    if eviction.has_place(score) {
                        eviction.offer(Candidate { score, db, hash: hasher.hash(entry.key()) });
                    }
                });
            }
            if !seen {
                return None;
            }
            while let Some(candidate) = self.eviction.pool.pop() {
                let Candidate { score, db, hash } = candidate;
                let Some(at) = self.table(db).find_hash(hash) else { continue };
                let entry = self.table(db).view(at);
                let is_allowed = !volatile || entry.expires_at_ms().is_some();
                // Used since it was found, it is like any other.
                if is_allowed && meter.score(entry.accessed()) >= score {
                    return Some((db, at));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::{Entry, Value};
    use super::super::{Access, Chunk, EngineOptions, HashSeed, Limits};
    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    /// An engine with this order, of two databases.
    fn engine(volatile: bool, order: EvictionOrder) -> Engine {
        let options = EngineOptions { databases: 2, limits: Limits::default(), seed: HashSeed([1, 2]) };
        let mut engine = Engine::new(options);
        let policy = Some(EvictionPolicy { volatile, order });
        engine.set_eviction(EvictionSettings { policy, ..EvictionSettings::default() });
        engine
    }

    fn load(engine: &mut Engine, number: u32, expires_at_ms: Option<i64>, access: Access) {
        let key = format!("key:{number:06}").into_bytes().into();
        let entry = Entry { db: number % 2, key, value: Value::Int(number.into()), expires_at_ms, access };
        engine.load(entry, NOW_MS).unwrap();
    }

    /// The numbers of the keys that are there.
    fn numbers(engine: &Engine) -> Vec<u32> {
        let number = |key: &[u8]| std::str::from_utf8(&key[4..]).unwrap().parse().unwrap();
        engine.entries().map(|entry| number(entry.key)).collect()
    }

    /// Evicts 4,000 of 10,000 keys of which the first half asks for it; returns how many of the second half have gone.
    fn wrongly_evicted(order: EvictionOrder, told: impl Fn(bool) -> Access) -> usize {
        let mut engine = engine(false, order);
        for number in 0..10_000 {
            load(&mut engine, number, None, told(number < 5_000));
        }
        for _ in 0..4_000 {
            assert!(engine.evict_one(NOW_MS, &mut EffectBuffer::disabled()));
        }
        assert_eq!((engine.len(), engine.stats.evicted_keys), (6_000, 4_000));
        5_000 - numbers(&engine).into_iter().filter(|&number| number >= 5_000).count()
    }

    #[test]
    fn keys_that_are_used_stay() {
        let idle = |seconds| Access { idle_seconds: Some(seconds), frequency: None };
        let used = |frequency| Access { idle_seconds: None, frequency: Some(frequency) };
        let recent = wrongly_evicted(EvictionOrder::LeastRecent, |goes| idle(if goes { 100 } else { 10 }));
        assert!(recent < 100, "{recent} of 4,000");
        let frequent = wrongly_evicted(EvictionOrder::LeastFrequent, |goes| used(if goes { 3 } else { 90 }));
        assert!(frequent < 100, "{frequent} of 4,000");
        let random = wrongly_evicted(EvictionOrder::Random, |_| Access::default());
        assert!((1_700..2_300).contains(&random), "{random} of 4,000 at random");
    }

    #[test]
    fn a_candidate_that_was_used_since_is_spared() {
        let mut engine = engine(false, EvictionOrder::LeastRecent);
        engine.set_eviction(EvictionSettings { samples: 100, ..engine.eviction() });
        for number in 0..17 {
            load(&mut engine, number, None, Access { idle_seconds: Some(1000 + number), frequency: None });
        }
        let evict = |engine: &mut Engine| assert!(engine.evict_one(NOW_MS, &mut EffectBuffer::disabled()));
        // All are candidates now, and the best of them goes.
        evict(&mut engine);
        assert_eq!(numbers(&engine).iter().max(), Some(&15));
        let mut effects = EffectBuffer::disabled();
        for number in 8..16_u32 {
            let key = format!("key:{number:06}");
            let mut keys = super::super::Keyspace::new(&mut engine, &mut effects, number % 2, NOW_MS);
            assert!(keys.read(key.as_bytes()).is_some());
        }
        for _ in 0..8 {
            evict(&mut engine);
        }
        let mut left = numbers(&engine);
        left.sort_unstable();
        assert_eq!(left, (8..16).collect::<Vec<_>>());
    }

    #[test]
    fn the_next_to_expire_goes_first_whatever_the_database() {
        let mut engine = engine(true, EvictionOrder::NextToExpire);
        for number in 0..1_000 {
            let expires = (number % 3 == 0).then_some(NOW_MS + 1_000_000 - i64::from(number));
            load(&mut engine, number, expires, Access::default());
        }
        for left in (0..334_u32).rev() {
            assert!(engine.evict_one(NOW_MS, &mut EffectBuffer::disabled()));
            let last = numbers(&engine).into_iter().filter(|number| number % 3 == 0).max();
            assert_eq!(last, left.checked_sub(1).map(|last| last * 3));
        }
        assert!(!engine.evict_one(NOW_MS, &mut EffectBuffer::disabled()), "nothing else expires");
        assert_eq!(engine.len(), 666);
    }

    #[test]
    fn volatile_policies_leave_other_keys_alone() {
        for order in [EvictionOrder::LeastRecent, EvictionOrder::LeastFrequent, EvictionOrder::Random] {
            let mut engine = engine(true, order);
            for number in 0..2_000 {
                load(&mut engine, number, (number % 10 == 0).then_some(NOW_MS + 5_000), Access::default());
            }
            let mut evicted = 0;
            while engine.evict_one(NOW_MS, &mut EffectBuffer::disabled()) {
                evicted += 1;
            }
            assert_eq!((evicted, engine.len()), (200, 1_800), "{order:?}");
        }
    }

    #[test]
    fn time_that_is_over_ends_an_eviction() {
        let mut engine = engine(false, EvictionOrder::Random);
        for number in 0..1_000 {
            load(&mut engine, number, None, Access::default());
        }
        let mut effects = EffectBuffer::new();
        assert_eq!(engine.make_room(0, NOW_MS, &mut effects, || true), Room::Late);
        assert_eq!(engine.len(), 1_000 - KEYS_PER_LOOK);
        let limit = engine.counted_memory() / 2;
        assert_eq!(engine.make_room(limit, NOW_MS, &mut effects, || false), Room::Enough);
        assert!(engine.counted_memory() <= limit && engine.len() > 300);
        assert_eq!(
            engine.make_room(0, NOW_MS, &mut effects, || false),
            Room::Enough,
            "nothing takes nothing"
        );
        assert!(engine.is_empty());
        engine.set_eviction(EvictionSettings::default());
        load(&mut engine, 1, None, Access::default());
        assert_eq!(engine.make_room(0, NOW_MS, &mut effects, || false), Room::None);
    }

    #[test]
    fn what_a_snapshot_holds_is_not_counted_and_is_whole() {
        let mut engine = engine(false, EvictionOrder::Random);
        for number in 0..5_000 {
            load(&mut engine, number, None, Access::default());
        }
        engine.snapshot_begin(NOW_MS);
        let before = engine.counted_memory();
        let limit = before - 20_000;
        assert_eq!(engine.make_room(limit, NOW_MS, &mut EffectBuffer::disabled(), || false), Room::Enough);
        assert!(
            engine.len() > 4_000,
            "the copies for the snapshot make no key go: {} are left",
            engine.len()
        );
        assert!(engine.snapshot_memory() > 20_000 && engine.used_memory() > before);
        let mut saved = Chunk::default();
        while !engine.snapshot_step(1 << 20, &mut saved) {}
        assert_eq!(saved.keys(), 5_000, "the cut was before");
        assert_eq!(engine.snapshot_memory(), 0);
    }

    #[test]
    fn snapshots_hold_the_use_of_keys_where_it_counts() {
        let told = Access { idle_seconds: Some(70), frequency: Some(50) };
        for (order, expected) in [
            (EvictionOrder::LeastRecent, Access { frequency: None, ..told }),
            (EvictionOrder::LeastFrequent, Access { idle_seconds: None, ..told }),
            (EvictionOrder::Random, Access::default()),
        ] {
            let mut engine = engine(false, order);
            load(&mut engine, 1, None, told);
            engine.snapshot_begin(NOW_MS);
            let mut saved = Chunk::default();
            while !engine.snapshot_step(1 << 20, &mut saved) {}
            assert_eq!(saved.entries().next().unwrap().access, expected, "{order:?}");
        }
    }
}
