//! The engine: pure, single-owner, the only door to the data.
//!
//! It knows databases, keys, expiry, watches and snapshots, and no command: [`crate::command`] turns requests into calls
//! of [`Keyspace`], which also records in the effects what expiry removes. Time is passed in; nothing here waits.
//!
//! - **Expiry.** An expired key is invisible at once. Whoever meets it removes it and records a `DEL` before its own
//!   effects; [`Engine::expire_cycle`] removes the others, a bounded number per call. While a log is replayed nothing
//!   expires: the log says what did.
//! - **Eviction.** [`Engine::evict_one`] removes the key that can be missed most, as the policy says; whoever executes commands
//!   decides when there is no room. See [`eviction`].
//! - **Snapshot.** [`Engine::snapshot_begin`] takes the cut in constant time per database; [`Engine::snapshot_step`] returns
//!   exactly the content at the cut, whatever is executed in between. See [`table`].
//! - **Changes** of values go through [`Keyspace`] alone, which ties each to the log, the watchers, the count of changes,
//!   the keyspace events and the snapshot.

mod access;
mod ahead;
mod awaited;
mod chunk;
pub mod effects;
pub(crate) mod events;
mod eviction;
mod garbage;
mod keyspace;
pub(crate) mod object;
mod random;
mod stats;
pub(crate) mod table;
mod take_over;
pub(crate) mod tracking;
pub mod value;
mod watch;

pub use access::Access;
pub(crate) use access::AccessMeter;
pub use chunk::Chunk;
pub(crate) use chunk::ChunkEntry;
pub(crate) use eviction::Room;
pub use eviction::{EvictionOrder, EvictionPolicy, EvictionSettings};
pub(crate) use garbage::Garbage;
pub use holdfast_collections::hash::HashSeed;
pub use holdfast_collections::types::Limits;
pub use keyspace::Tools;
pub(crate) use keyspace::{Expiry, Found, Keyspace, WrongType};
pub(crate) use random::Random;
pub use stats::Stats;
pub(crate) use table::Growth;
pub use value::{StringRef, ValueRef};
pub(crate) use watch::WatchToken;

use ahead::Ahead;
use awaited::AwaitedKeys;
use effects::EffectBuffer;
use events::{Events, KeyEvent, class};
use eviction::Eviction;
use holdfast_collections::hash::KeyHasher;
use object::{Discarded, Entry as StoredEntry, NewValue};
use table::Table;
use tracking::{ClientId, Tracking};
use value::Entry;

use crate::limits::KEY_LEN_MAX;
use watch::Watches;

/// What an engine is made with.
#[derive(Debug, Clone, Copy)]
pub struct EngineOptions {
    /// Number of databases, at least 1.
    pub databases: u32,
    /// When collections stop being packed.
    pub limits: Limits,
    /// Secret key of the hash tables, and seed of RANDOMKEY; random per process.
    pub seed: HashSeed,
}

/// The data set.
#[derive(Debug)]
pub struct Engine {
    databases: Vec<Table>,
    hasher: KeyHasher,
    limits: Limits,
    /// Memory in which a packed collection is changed.
    scratch: Vec<u8>,
    /// Bytes of all databases.
    used: usize,
    /// Number of the last snapshot's cut.
    epoch: u32,
    snapshot: Option<Snapshot>,
    /// What nobody needs any more, waiting to be freed.
    garbage: Garbage,
    watches: Watches,
    awaited: AwaitedKeys,
    events: Events,
    tracking: Tracking,
    /// Changes for which no effect has been recorded yet.
    owed: u32,
    ahead: Ahead,
    replaying: bool,
    active_expiry: bool,
    /// DEBUG SET-SKIP-CHECKSUM-VALIDATION.
    skips_checksums: bool,
    eviction: Eviction,
    /// Expired keys that are met stay where they are, and are not there for the one who asks.
    keeps_expired: bool,
    /// A read does not count as a use of its key.
    keeps_access: bool,
    /// Database with which the next expiry cycle begins.
    expire_next: usize,
    random: Random,
    /// Database whose entries are moved together next.
    relocating: u32,
    /// Changes since the engine was made, counted as Redis counts `rdb_changes_since_last_save`.
    dirty: u64,
    /// Counters.
    pub stats: Stats,
}

#[derive(Debug, Default)]
struct Snapshot {
    /// Tables that were flushed after the cut.
    detached: Vec<Table>,
}

/// A key could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The key is already there: the source holds it twice, or the engine was not empty.
    #[error("failed to load key {:?} of database {db}: it is already there", String::from_utf8_lossy(.key))]
    DuplicateKey {
        /// Database index.
        db: u32,
        /// Key.
        key: Box<[u8]>,
    },
    /// The store has fewer databases than the source.
    #[error("failed to load key {:?}: database {db} does not exist, there are {databases}; raise `databases`", String::from_utf8_lossy(.key))]
    NoSuchDatabase {
        /// Database index.
        db: u32,
        /// Key.
        key: Box<[u8]>,
        /// Number of databases.
        databases: u32,
    },
    /// No entry can hold such a key.
    #[error("failed to load a key of {len} bytes of database {db}: it is longer than 4294967295 bytes")]
    KeyTooLong {
        /// Database index.
        db: u32,
        /// Length of the key in bytes.
        len: usize,
    },
}

/// One line of INFO keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DatabaseSummary {
    /// Database index.
    pub(crate) db: u32,
    /// Keys, expired ones that were not collected yet included.
    pub(crate) keys: usize,
    /// Keys that have an expiry.
    pub(crate) expires: usize,
    /// Mean time to live of those in milliseconds; 0 when there are none.
    pub(crate) ttl_mean_ms: i64,
}

/// What the table of a database holds besides entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableSummary {
    /// Database index.
    pub(crate) db: u32,
    /// Keys, expired ones that were not collected yet included.
    pub(crate) keys: usize,
    /// Bytes of buckets and directory.
    pub(crate) main_bytes: usize,
    /// Bytes of the order of expiries.
    pub(crate) expiry_bytes: usize,
}

/// A key as it is stored, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct EntryRef<'a> {
    /// Database index.
    pub db: u32,
    /// Key.
    pub key: &'a [u8],
    /// Value.
    pub value: ValueRef<'a>,
    /// Absolute expiry in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<i64>,
}

impl Engine {
    /// An empty data set.
    pub fn new(options: EngineOptions) -> Engine {
        let EngineOptions { databases, limits, seed } = options;
        let hasher = KeyHasher::new(seed);
        Engine {
            databases: (0..databases.max(1)).map(|_| Table::new(hasher, 0)).collect(),
            hasher,
            limits,
            scratch: Vec::new(),
            used: 0,
            epoch: 0,
            snapshot: None,
            garbage: Garbage::default(),
            watches: Watches::default(),
            awaited: AwaitedKeys::default(),
            events: Events::default(),
            tracking: Tracking::new(hasher),
            owed: 0,
            ahead: Ahead::default(),
            replaying: false,
            active_expiry: true,
            skips_checksums: false,
            eviction: Eviction::default(),
            keeps_expired: false,
            keeps_access: false,
            expire_next: 0,
            random: Random::new(seed.0[0] ^ seed.0[1].rotate_left(32)),
            relocating: 0,
            dirty: 0,
            stats: Stats::default(),
        }
    }

    /// Number of databases.
    pub(crate) fn databases(&self) -> u32 {
        u32::try_from(self.databases.len()).expect("made from a u32")
    }

    /// When collections stop being packed, from now on.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Keys of all databases, expired ones that were not collected yet included.
    pub fn len(&self) -> usize {
        self.databases.iter().map(Table::len).sum()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of keys, values, tables and saved entries, as estimated.
    pub fn used_memory(&self) -> u64 {
        let detached: usize = self.snapshot.iter().flat_map(|it| &it.detached).map(Table::memory_bytes).sum();
        (self.used + detached) as u64
    }

    /// The part of [`Engine::used_memory`] that a snapshot in progress holds and releases when it ends. `maxmemory` does not
    /// count it: to evict keys would make it grow.
    pub(crate) fn snapshot_memory(&self) -> u64 {
        let Some(snapshot) = &self.snapshot else { return 0 };
        let detached: usize = snapshot.detached.iter().map(Table::memory_bytes).sum();
        let pending: usize = self.databases.iter().map(Table::pending_bytes).sum();
        (detached + pending) as u64
    }

    /// What `maxmemory` is compared with, apart from what clients hold.
    #[inline]
    pub(crate) fn counted_memory(&self) -> u64 {
        let pending = match self.snapshot {
            Some(_) => self.databases.iter().map(Table::pending_bytes).sum(),
            None => 0,
        };
        (self.used - pending) as u64
    }

    /// How long rebuilding parts of the tables took.
    pub(crate) fn growth(&self) -> Growth {
        self.databases.iter().map(Table::growth).fold(Growth::default(), |sum, it| Growth {
            rebuilds: sum.rebuilds + it.rebuilds,
            longest: sum.longest.max(it.longest),
            histogram: std::array::from_fn(|class| sum.histogram[class] + it.histogram[class]),
        })
    }

    /// Changes so far, counted as Redis does: one per key set or removed, one per other write. Never goes back; what
    /// has changed since a save is a difference.
    pub fn dirty(&self) -> u64 {
        self.dirty
    }

    /// Chooses the events that [`Engine::take_key_events`] returns: bits of [`events::class`]. Without
    /// [`class::KEYSPACE`] or [`class::KEYEVENT`] among them there are none.
    pub(crate) fn set_notified(&mut self, mask: u32) {
        self.events.set_mask(mask);
    }

    /// The events since the last call, in their order.
    pub(crate) fn take_key_events(&mut self) -> Vec<KeyEvent> {
        self.events.take()
    }

    /// Which clients may hold copies of which keys.
    pub(crate) fn tracking(&mut self) -> &mut Tracking {
        &mut self.tracking
    }

    /// How many keys clients track, how many readers these have, and how many prefixes are tracked.
    pub(crate) fn tracked(&self) -> (usize, usize, usize) {
        (self.tracking.keys(), self.tracking.items(), self.tracking.prefixes())
    }

    /// A client tracks keys no more.
    pub(crate) fn disable_tracking(&mut self, client: ClientId) {
        if let Some(tracked) = self.tracking.disable(client) {
            self.garbage.add_tracked(tracked);
        }
    }

    /// Forgets who has read some keys while there are more than `keys_max` (0: any number); their readers are told.
    pub(crate) fn limit_tracked_keys(&mut self, keys_max: u64) {
        self.tracking.limit(keys_max, &mut self.random);
    }

    /// Nothing that clients have read is valid any more: they are told.
    pub(crate) fn invalidate_all(&mut self) {
        if let Some(tracked) = self.tracking.flushed() {
            self.garbage.add_tracked(tracked);
        }
    }

    /// An effect was recorded for all changes before it.
    pub(crate) fn logged(&mut self) {
        self.owed = 0;
    }

    /// Called when a command has ended.
    ///
    /// # Panics
    /// If it has changed data without an effect: the change would be gone after a restart, silently.
    pub(crate) fn check_logged(&mut self, command: &str) {
        let owed = std::mem::take(&mut self.owed);
        assert!(owed == 0 || self.replaying, "{command} has made {owed} changes that it did not log");
    }

    /// Does something to a table that may change its memory.
    #[inline]
    fn with_table<R>(&mut self, db: u32, change: impl FnOnce(&mut Table) -> R) -> R {
        let table = self.table_mut(db);
        let before = table.memory_bytes();
        let result = change(table);
        let after = table.memory_bytes();
        self.used = self.used + after - before;
        result
    }

    /// Keeps what lies outside of an entry that is gone for whoever has time to free it.
    #[inline]
    fn discard(&mut self, discarded: Option<Discarded>) {
        if let Some(discarded) = discarded {
            self.garbage.add(discarded);
        }
    }

    /// The hash of a key.
    #[inline]
    pub(crate) fn hash_of(&self, key: &[u8]) -> u64 {
        self.hasher.hash(key)
    }

    /// Databases that hold keys, in order.
    pub(crate) fn summaries(&self, now_ms: i64) -> Vec<DatabaseSummary> {
        (0..)
            .zip(&self.databases)
            .filter(|(_, it)| it.len() > 0)
            .map(|(db, it)| DatabaseSummary {
                db,
                keys: it.len(),
                expires: it.expiring(),
                ttl_mean_ms: it.expiry_mean_ms().map_or(0, |mean| mean.saturating_sub(now_ms).max(0)),
            })
            .collect()
    }

    /// What the tables of all databases hold besides entries, in order. Takes time by their parts, of some hundred keys each.
    pub(crate) fn tables(&self) -> Vec<TableSummary> {
        let summary = |(db, table): (u32, &Table)| {
            let (main_bytes, expiry_bytes) = table.own_bytes();
            TableSummary { db, keys: table.len(), main_bytes, expiry_bytes }
        };
        (0..).zip(&self.databases).map(summary).collect()
    }

    /// All keys as they are stored, expired ones that were not collected yet included, in no particular order.
    pub fn entries(&self) -> impl Iterator<Item = EntryRef<'_>> {
        (0..).zip(&self.databases).flat_map(|(db, it)| {
            it.entries().map(move |entry| EntryRef {
                db,
                key: entry.key(),
                value: entry.value(),
                expires_at_ms: entry.expires_at_ms(),
            })
        })
    }

    /// A digest of all keys that are visible at `now_ms`: databases, keys, values and expiries, in whatever order they
    /// are stored. Equal data sets have equal digests, on any machine.
    pub fn digest(&self, now_ms: i64) -> [u8; 20] {
        let mut digest = [0; 20];
        for entry in self.entries().filter(|it| !is_expired(it.expires_at_ms, now_ms)) {
            for (mixed, byte) in digest.iter_mut().zip(entry.digest()) {
                *mixed ^= byte;
            }
        }
        digest
    }

    /// What collections of this data set are made with.
    pub(crate) fn tools(&self) -> Tools {
        Tools { limits: self.limits, hasher: self.hasher }
    }

    /// Inserts a key that is not there, as a snapshot or another store gave it. Where nothing that counts is told of its last
    /// access, that was now. Nothing is recorded as an effect.
    /// # Errors
    /// [`LoadError`]; the engine is unchanged.
    pub fn load(&mut self, entry: Entry, now_ms: i64) -> Result<(), LoadError> {
        let Entry { db, key, value, expires_at_ms, access } = entry;
        let databases = self.databases();
        let Some(table) = self.databases.get(db as usize) else {
            return Err(LoadError::NoSuchDatabase { db, key, databases });
        };
        if key.len() > KEY_LEN_MAX {
            return Err(LoadError::KeyTooLong { db, len: key.len() });
        }
        let hash = self.hash_of(&key);
        if table.find(hash, &key).is_some() {
            return Err(LoadError::DuplicateKey { db, key });
        }
        let meter = self.access_meter(now_ms);
        let accessed = meter.restored(access).unwrap_or_else(|| meter.new_key());
        let entry = StoredEntry::new(&key, NewValue::from(&value), expires_at_ms, accessed);
        self.with_table(db, |table| table.insert(hash, entry));
        Ok(())
    }

    /// Switches expiry off while a log is replayed, and on again.
    pub(crate) fn set_replaying(&mut self, replaying: bool) {
        self.replaying = replaying;
    }

    /// Whether a log is being replayed.
    pub(crate) fn is_replaying(&self) -> bool {
        self.replaying
    }

    /// Makes RESTORE take payloads whatever their checksum, or no more (DEBUG SET-SKIP-CHECKSUM-VALIDATION).
    pub(crate) fn set_skips_checksums(&mut self, skips: bool) {
        self.skips_checksums = skips;
    }

    /// Whether RESTORE takes payloads whatever their checksum.
    pub(crate) fn skips_checksums(&self) -> bool {
        self.skips_checksums
    }

    /// Switches [`Engine::expire_cycle`] off or on (DEBUG SET-ACTIVE-EXPIRE).
    pub(crate) fn set_active_expiry(&mut self, active: bool) {
        self.active_expiry = active;
    }

    /// Whether expired keys that are met stay where they are. Only for commands that do not write: who writes must find nothing
    /// where a key has expired.
    pub(crate) fn set_keeps_expired(&mut self, keeps: bool) {
        self.keeps_expired = keeps;
    }

    /// Whether what is read counts as unused as before (CLIENT NO-TOUCH).
    pub(crate) fn set_keeps_access(&mut self, keeps: bool) {
        self.keeps_access = keeps;
    }

    /// Removes up to `budget` expired keys and records a `DEL` for each, every one a unit of its own; returns their
    /// number. Fewer than `budget` means that none is left.
    pub fn expire_cycle(&mut self, now_ms: i64, budget: usize, effects: &mut EffectBuffer) -> usize {
        if self.replaying || !self.active_expiry {
            return 0;
        }
        let count = self.databases.len();
        let mut removed = 0;
        // Databases take turns, so that a busy one does not starve the others.
        let mut finished = 0;
        while removed < budget && finished < count {
            let next = self.expire_next % count;
            let db = u32::try_from(next).expect("made from a u32");
            // Looking drops what the index no longer needs, which is memory, too.
            match self.with_table(db, |table| table.first_expired(now_ms)) {
                Some(at) => {
                    effects.begin_unit(false);
                    self.collect(db, at, effects);
                    effects.end_unit();
                    removed += 1;
                    finished = 0;
                }
                None => {
                    finished += 1;
                    self.expire_next = (next + 1) % count;
                }
            }
        }
        removed
    }

    /// When the next key expires, in milliseconds since the Unix epoch.
    pub fn next_expiry_ms(&self) -> Option<i64> {
        self.databases.iter().filter_map(Table::first_expiry).min()
    }

    fn is_expired(&self, expires_at_ms: Option<i64>, now_ms: i64) -> bool {
        !self.replaying && is_expired(expires_at_ms, now_ms)
    }

    /// Removes an expired key on behalf of time.
    fn collect(&mut self, db: u32, at: table::Position, effects: &mut EffectBuffer) {
        let entry = self.with_table(db, |table| table.remove(at));
        let key = entry.view().key();
        effects.push(db, &[b"DEL", key]);
        self.stats.expired_keys += 1;
        self.watches.collected(db, key);
        self.tracking.removed(key);
        self.events.push(db, class::EXPIRED, "expired", key);
        self.discard(entry.dismantle());
    }

    fn table(&self, db: u32) -> &Table {
        &self.databases[db as usize]
    }

    fn table_mut(&mut self, db: u32) -> &mut Table {
        &mut self.databases[db as usize]
    }

    /// Empties one database or all; returns the number of keys that were there. They count as changes, to be logged.
    ///
    /// A snapshot in progress keeps what it still needs; the other memory becomes [`Garbage`].
    pub(crate) fn flush(&mut self, db: Option<u32>, now_ms: i64) -> usize {
        let range = match db {
            Some(db) => db..db + 1,
            None => 0..self.databases(),
        };
        self.invalidate_all();
        let mut removed = 0;
        for db in range {
            let len = self.table(db).len();
            if len == 0 && self.snapshot.is_none() {
                continue;
            }
            self.touch_watches_of_swap(db, None, now_ms);
            let fresh = Table::new(self.hasher, self.epoch);
            let old = std::mem::replace(self.table_mut(db), fresh);
            self.used = self.used + self.table(db).memory_bytes() - old.memory_bytes();
            removed += len;
            match &mut self.snapshot {
                Some(snapshot) if old.is_saving() => snapshot.detached.push(old),
                _ => self.garbage.add_table(old),
            }
        }
        self.dirty += removed as u64;
        self.owed += u32::from(removed > 0);
        removed
    }

    /// Exchanges the content of two databases.
    pub(crate) fn swap(&mut self, a: u32, b: u32, now_ms: i64) {
        if a == b {
            return;
        }
        self.touch_watches_of_swap(a, Some(b), now_ms);
        self.touch_watches_of_swap(b, Some(a), now_ms);
        // The tables take with them the index they had at the cut of a snapshot.
        self.databases.swap(a as usize, b as usize);
        self.note_replaced(a);
        self.note_replaced(b);
        self.dirty += 1;
        self.owed += 1;
    }

    /// What is to be freed, for a thread that has time.
    pub(crate) fn take_garbage(&mut self) -> Option<Garbage> {
        (!self.garbage.is_empty()).then(|| std::mem::take(&mut self.garbage))
    }

    /// Moves up to `budget` entries to where the allocator would rather have them; true when all databases are done.
    ///
    /// What is left after many keys have gone lies scattered over pages that could be given back otherwise.
    pub(crate) fn relocate_step(&mut self, budget: usize) -> bool {
        let db = self.relocating % self.databases();
        if let Some(emptied) = self.with_table(db, Table::take_emptied) {
            self.garbage.add_table(emptied);
        }
        if self.with_table(db, |table| table.relocate(budget)) {
            self.relocating = (db + 1) % self.databases();
            return self.relocating == 0;
        }
        false
    }

    /// Whether moving entries would give back memory of tables that have lost most of their keys.
    pub(crate) fn is_unshrunk(&self) -> bool {
        self.databases.iter().any(Table::is_unshrunk)
    }

    /// Takes the cut of a new snapshot; one in progress is aborted. Where the last use of keys decides what is evicted, it is
    /// saved, too, as of `now_ms` or later.
    pub fn snapshot_begin(&mut self, now_ms: i64) {
        self.snapshot_abort();
        self.epoch += 1;
        let meter = self.eviction().is_by_use().then(|| self.access_meter(now_ms));
        for (db, table) in (0..).zip(&mut self.databases) {
            table.begin_saving(self.epoch, db, meter);
        }
        self.snapshot = Some(Snapshot::default());
    }

    /// Adds entries of the snapshot to `out`, in no particular order, until it holds about `budget` bytes; true when the
    /// snapshot is complete.
    ///
    /// Entries are exactly the content at the cut, each key once, with the database index it had then; keys that had
    /// expired and were not collected yet are among them. Without a snapshot it is complete at once.
    pub fn snapshot_step(&mut self, budget: usize, out: &mut Chunk) -> bool {
        let Some(mut snapshot) = self.snapshot.take() else { return true };
        while let Some(table) = snapshot.detached.last_mut() {
            if !table.save(budget, out) {
                self.snapshot = Some(snapshot);
                return false;
            }
            if let Some(table) = snapshot.detached.pop() {
                self.garbage.add_table(table);
            }
        }
        let mut complete = true;
        for db in 0..self.databases() {
            complete &= self.with_table(db, |table| table.save(budget, out));
        }
        if !complete {
            self.snapshot = Some(snapshot);
        }
        complete
    }

    /// Gives the snapshot up.
    pub(crate) fn snapshot_abort(&mut self) {
        if let Some(snapshot) = self.snapshot.take() {
            for table in snapshot.detached {
                self.garbage.add_table(table);
            }
            for db in 0..self.databases() {
                self.with_table(db, Table::abort_saving);
            }
        }
    }

    /// Whether a snapshot is in progress.
    pub fn snapshot_active(&self) -> bool {
        self.snapshot.is_some()
    }

    /// The number of the cut whose snapshot is in progress. No two cuts of an engine, and of those that it has taken over
    /// from, have the same.
    pub(crate) fn cut(&self) -> Option<u32> {
        self.snapshot.is_some().then_some(self.epoch)
    }

    /// Bytes of entries that were saved because they were about to change and that no step has given out yet. They
    /// grow with the writes between two steps: step more when they do.
    pub fn snapshot_pending_bytes(&self) -> usize {
        let detached = self.snapshot.iter().flat_map(|it| &it.detached);
        detached.chain(&self.databases).map(Table::pending_bytes).sum()
    }
}

impl EntryRef<'_> {
    fn digest(&self) -> [u8; 20] {
        use sha2::{Digest, Sha256};
        let mut hasher = Sha256::new();
        hasher.update(self.db.to_le_bytes());
        hasher.update((self.key.len() as u64).to_le_bytes());
        hasher.update(self.key);
        self.value.hash_into(&mut hasher);
        hasher.update(self.expires_at_ms.map_or([0; 9], |at| {
            let mut bytes = [1; 9];
            bytes[1..].copy_from_slice(&at.to_le_bytes());
            bytes
        }));
        let full = hasher.finalize();
        std::array::from_fn(|at| full[at])
    }
}

/// A key lives through its last millisecond, as in Redis.
fn is_expired(expires_at_ms: Option<i64>, now_ms: i64) -> bool {
    expires_at_ms.is_some_and(|at| now_ms > at)
}
