//! One database as commands see it, at one moment; and the only way in which a value changes.
//!
//! ```text
//!  command ─▶ Keyspace::{set, edit, set_expiry, remove, insert}(…, Change)
//!               └─▶ Table (pre-image for a snapshot, memory) ─▶ watchers, clients that track ─▶ count of changes ─▶ keyspace event ─▶ owed to the log
//! ```
//!
//! A change is owed to the log until the command records an effect after it; a command that ends in debt panics, so that
//! nothing is acknowledged that a restart would forget ([`Engine::check_logged`]).

use holdfast_collections::hash::{HashSeed, KeyHasher};
use holdfast_collections::types::{HashRef, Limits, ListRef, SetRef, SortedSetRef};

use super::access::seconds_of;
use super::effects::EffectBuffer;
use super::events::{Change, class};
use super::object::{Collection, Entry, EntryView, Kind, NewValue};
use super::random::Random;
use super::table::Position;
use super::value::{StringRef, ValueRef};
use super::{Access, AccessMeter, Engine, is_expired};

/// The door of commands to the keys of a database: expiry, watches and access times are taken care of here.
pub(crate) struct Keyspace<'a> {
    engine: &'a mut Engine,
    effects: &'a mut EffectBuffer,
    db: u32,
    now_ms: i64,
}

/// Expired keys that are passed over for one at random, while they are kept. Source: `maxtries` of `dbRandomKey`, Redis 7.0.
const RANDOM_KEY_TRIES_MAX: u32 = 100;

/// Where a key is, or would be. Valid until the next change of the database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    hash: u64,
    at: Option<Position>,
}

impl Found {
    pub(crate) fn is_some(self) -> bool {
        self.at.is_some()
    }
}

/// A key holds another type than a command works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WrongType;

/// What collections are changed with.
#[derive(Debug, Clone, Copy)]
pub struct Tools {
    /// When they stop being packed.
    pub limits: Limits,
    /// The hash of their elements.
    pub hasher: KeyHasher,
}

impl Tools {
    /// Default limits, and a secret of their own.
    pub(crate) fn random() -> Tools {
        Tools { limits: Limits::default(), hasher: KeyHasher::new(HashSeed(rand::random())) }
    }
}

/// What a write does to the expiry of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    Keep,
    Clear,
    /// Absolute, in milliseconds since the Unix epoch.
    At(i64),
}

impl<'a> Keyspace<'a> {
    pub(crate) fn new(
        engine: &'a mut Engine,
        effects: &'a mut EffectBuffer,
        db: u32,
        now_ms: i64,
    ) -> Keyspace<'a> {
        Keyspace { engine, effects, db, now_ms }
    }

    /// Finds a key. If it has expired it is removed, a `DEL` is recorded, and it is not there; while such keys are
    /// kept, it is only not there.
    #[inline]
    pub(crate) fn find(&mut self, key: &[u8]) -> Found {
        let hash = self.engine.hash_for(key);
        let table = self.engine.table(self.db);
        let at = table.find(hash, key);
        if let Some(found) = at
            && self.engine.is_expired(table.view(found).expires_at_ms(), self.now_ms)
        {
            if !self.engine.keeps_expired {
                self.engine.collect(self.db, found, self.effects);
            }
            return Found { hash, at: None };
        }
        Found { hash, at }
    }

    /// Finds a key for a read: counts hit or miss and notes the access.
    #[inline]
    pub(crate) fn read(&mut self, key: &[u8]) -> Option<EntryView<'_>> {
        let found = self.find(key);
        match found.at {
            Some(at) => {
                self.engine.stats.keyspace_hits += 1;
                if !self.engine.keeps_access {
                    let bits = self.access_bits(found);
                    self.engine.table_mut(self.db).touch(at, bits);
                }
                Some(self.engine.table(self.db).view(at))
            }
            None => {
                self.missed(key);
                None
            }
        }
    }

    /// Finds a key for a question about it: counts hit or miss, and is no access.
    pub(crate) fn peek(&mut self, key: &[u8]) -> Option<EntryView<'_>> {
        let found = self.find(key);
        match found.at {
            Some(_) => self.engine.stats.keyspace_hits += 1,
            None => self.missed(key),
        }
        self.view(found)
    }

    /// As [`Keyspace::peek`], and raises no event when the key is not there.
    pub(crate) fn peek_quietly(&mut self, key: &[u8]) -> Option<EntryView<'_>> {
        let found = self.find(key);
        match found.at {
            Some(_) => self.engine.stats.keyspace_hits += 1,
            None => self.engine.stats.keyspace_misses += 1,
        }
        self.view(found)
    }

    /// The entry of a key that is there and not expired, without any of what a read brings about.
    pub(crate) fn view_of(&self, key: &[u8]) -> Option<EntryView<'_>> {
        let entry = self.stored(key)?;
        (!self.engine.is_expired(entry.expires_at_ms(), self.now_ms)).then_some(entry)
    }

    /// The entry of a key as it is in memory, expired or not, without any of what a read brings about.
    pub(crate) fn stored(&self, key: &[u8]) -> Option<EntryView<'_>> {
        let table = self.engine.table(self.db);
        Some(table.view(table.find(self.engine.hash_of(key), key)?))
    }

    /// As [`Keyspace::find`], for a command that works with one type.
    #[inline]
    pub(crate) fn find_kind(&mut self, key: &[u8], kind: Kind) -> Result<Found, WrongType> {
        let found = self.find(key);
        match self.view(found) {
            Some(entry) if entry.kind() != kind => Err(WrongType),
            _ => Ok(found),
        }
    }

    /// Finds a string for a read.
    #[inline]
    pub(crate) fn read_string(&mut self, key: &[u8]) -> Result<Option<StringRef<'_>>, WrongType> {
        match self.read(key) {
            Some(entry) if entry.kind() == Kind::String => Ok(Some(entry.string())),
            Some(_) => Err(WrongType),
            None => Ok(None),
        }
    }

    /// Finds a list for a read.
    pub(crate) fn read_list(&mut self, key: &[u8]) -> Result<Option<ListRef<'_>>, WrongType> {
        match self.read(key).map(EntryView::value) {
            Some(ValueRef::List(list)) => Ok(Some(list)),
            Some(_) => Err(WrongType),
            None => Ok(None),
        }
    }

    /// Finds a set for a read.
    pub(crate) fn read_set(&mut self, key: &[u8]) -> Result<Option<SetRef<'_>>, WrongType> {
        match self.read(key).map(EntryView::value) {
            Some(ValueRef::Set(set)) => Ok(Some(set)),
            Some(_) => Err(WrongType),
            None => Ok(None),
        }
    }

    /// Finds a sorted set for a read.
    pub(crate) fn read_sorted_set(&mut self, key: &[u8]) -> Result<Option<SortedSetRef<'_>>, WrongType> {
        match self.read(key).map(EntryView::value) {
            Some(ValueRef::SortedSet(set)) => Ok(Some(set)),
            Some(_) => Err(WrongType),
            None => Ok(None),
        }
    }

    /// Finds a hash for a read.
    pub(crate) fn read_hash(&mut self, key: &[u8]) -> Result<Option<HashRef<'_>>, WrongType> {
        match self.read(key).map(EntryView::value) {
            Some(ValueRef::Hash(hash)) => Ok(Some(hash)),
            Some(_) => Err(WrongType),
            None => Ok(None),
        }
    }

    fn missed(&mut self, key: &[u8]) {
        self.engine.stats.keyspace_misses += 1;
        self.engine.events.push(self.db, class::KEY_MISS, "keymiss", key);
    }

    pub(crate) fn view(&self, found: Found) -> Option<EntryView<'_>> {
        found.at.map(|at| self.engine.table(self.db).view(at))
    }

    /// Everything that a change of a key brings about, whatever the change is.
    fn changed(&mut self, key: &[u8], change: Change) {
        self.engine.watches.changed(self.db, key);
        self.engine.tracking.changed(key);
        self.engine.dirty += change.dirty();
        self.engine.events.push_change(self.db, change, key);
        self.engine.owed += 1;
    }

    /// Tells watchers, clients that track, and those who want events of a change that altered nothing, as Redis does for some commands.
    pub(crate) fn touch_unchanged(&mut self, key: &[u8], change: Change) {
        self.engine.watches.changed(self.db, key);
        self.engine.tracking.changed(key);
        self.announce(key, change);
    }

    /// Tells of an event of a change that was made silently.
    pub(crate) fn announce(&mut self, key: &[u8], change: Change) {
        self.engine.events.push_change(self.db, change, key);
    }

    /// What a new key brings about, once it is there.
    fn made(&mut self, key: &[u8]) {
        self.engine.given(self.db, key);
        self.engine.events.push(self.db, class::NEW, "new", key);
    }

    /// Sets a key to a value, whatever it was.
    pub(crate) fn set(
        &mut self,
        found: Found,
        key: &[u8],
        value: NewValue<'_>,
        expiry: Expiry,
        change: Change,
    ) {
        let accessed = self.access_bits(found);
        match found.at {
            Some(at) => {
                let replaced = self.engine.with_table(self.db, |table| {
                    table.change(at, |entry| {
                        match expiry {
                            Expiry::Keep => {}
                            Expiry::Clear => entry.set_expires_at_ms(None),
                            Expiry::At(ms) => entry.set_expires_at_ms(Some(ms)),
                        }
                        let replaced = entry.set_value(value);
                        entry.set_accessed(accessed);
                        replaced
                    })
                });
                self.engine.discard(replaced);
                self.engine.given(self.db, key);
            }
            None => {
                let expires_at_ms = match expiry {
                    Expiry::Keep | Expiry::Clear => None,
                    Expiry::At(ms) => Some(ms),
                };
                let entry = Entry::new(key, value, expires_at_ms, accessed);
                self.engine.with_table(self.db, |table| table.insert(found.hash, entry));
                self.made(key);
            }
        }
        self.changed(key, change);
        if matches!(expiry, Expiry::At(_)) {
            self.engine.events.push(self.db, class::GENERIC, "expire", key);
        }
    }

    /// Changes the bytes of a key in place, after cutting them or filling them up with zeros to `len`; an absent key
    /// begins empty. From then on it counts as raw.
    pub(crate) fn edit<R>(
        &mut self,
        found: Found,
        key: &[u8],
        len: usize,
        change: Change,
        edit: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        let accessed = self.access_bits(found);
        let result = match found.at {
            Some(at) => self.engine.with_table(self.db, |table| {
                table.change(at, |entry| {
                    entry.set_accessed(accessed);
                    entry.edit(len, edit)
                })
            }),
            None => {
                let mut entry = Entry::new(key, NewValue::Bytes(b""), None, accessed);
                let result = entry.edit(len, edit);
                self.engine.with_table(self.db, |table| table.insert(found.hash, entry));
                self.made(key);
                result
            }
        };
        self.changed(key, change);
        result
    }

    /// What collections are made with.
    pub(crate) fn tools(&self) -> Tools {
        self.engine.tools()
    }

    /// Numbers at random.
    pub(crate) fn random(&mut self) -> Random {
        Random::new(self.engine.random.next())
    }

    /// Changes a collection in place; an absent key begins empty, and a key that ends empty is removed. `edit` says what it
    /// changed; nothing happens when that was nothing.
    ///
    /// # Panics
    /// If the key holds another type: see [`Keyspace::find_kind`].
    pub(crate) fn change<C: Collection, R>(
        &mut self,
        found: Found,
        key: &[u8],
        edit: impl FnOnce(&mut C, &Tools) -> (R, Option<Change>),
    ) -> R {
        let (accessed, tools) = (self.access_bits(found), self.tools());
        let mut scratch = std::mem::take(&mut self.engine.scratch);
        let Some(at) = found.at else {
            let mut collection = C::empty(scratch);
            let (result, change) = edit(&mut collection, &tools);
            if let Some(change) = change
                && !collection.is_empty()
            {
                let entry = match collection.as_packed() {
                    Some((packed, bytes)) => Entry::new(key, NewValue::Packed(packed, bytes), None, accessed),
                    None => {
                        let value = NewValue::Large(Box::new(collection.into_large()));
                        collection = C::empty(Vec::new());
                        Entry::new(key, value, None, accessed)
                    }
                };
                self.engine.with_table(self.db, |table| table.insert(found.hash, entry));
                self.made(key);
                self.changed(key, change);
            }
            self.engine.scratch = collection.into_memory();
            return result;
        };
        let (result, change, is_empty, discarded, scratch) = self.engine.with_table(self.db, |table| {
            table.change(at, |entry| {
                entry.set_accessed(accessed);
                if let Some(large) = entry.large_mut() {
                    let collection = C::of(large).expect("the type was checked");
                    let (result, change) = edit(collection, &tools);
                    return (result, change, collection.is_empty(), None, scratch);
                }
                assert!(entry.view().kind() == C::KIND, "the type was checked");
                scratch.clear();
                scratch.extend_from_slice(entry.view().bytes());
                let mut collection = C::from_packed(entry.view().packed(), scratch);
                let (result, change) = edit(&mut collection, &tools);
                let is_empty = collection.is_empty();
                if change.is_none() {
                    return (result, change, is_empty, None, collection.into_memory());
                }
                match collection.as_packed() {
                    Some((packed, bytes)) => {
                        let discarded = entry.set_packed(packed, bytes);
                        (result, change, is_empty, discarded, collection.into_memory())
                    }
                    None => {
                        let value = NewValue::Large(Box::new(collection.into_large()));
                        (result, change, is_empty, entry.set_value(value), Vec::new())
                    }
                }
            })
        });
        self.engine.scratch = scratch;
        self.engine.discard(discarded);
        if let Some(change) = change {
            self.changed(key, change);
            if is_empty {
                self.remove(found, key, Change::generic("del").counted(0));
            }
        }
        result
    }

    /// Changes the expiry of a key; nothing happens when it is not there.
    pub(crate) fn set_expiry(
        &mut self,
        found: Found,
        key: &[u8],
        expires_at_ms: Option<i64>,
        change: Change,
    ) {
        if let Some(at) = found.at {
            let accessed = self.access_bits(found);
            self.engine.with_table(self.db, |table| {
                table.change(at, |entry| {
                    entry.set_accessed(accessed);
                    entry.set_expires_at_ms(expires_at_ms);
                });
            });
            self.changed(key, change);
        }
    }

    /// Removes a key; false when it is not there.
    pub(crate) fn remove(&mut self, found: Found, key: &[u8], change: Change) -> bool {
        let Some(at) = found.at else { return false };
        let entry = self.engine.with_table(self.db, |table| table.remove(at));
        self.engine.discard(entry.dismantle());
        self.changed(key, change);
        true
    }

    /// Inserts an entry under its key, which is not there.
    pub(crate) fn insert(&mut self, entry: Entry, change: Change) {
        let key = Box::<[u8]>::from(entry.view().key());
        let hash = self.engine.hash_of(&key);
        self.engine.with_table(self.db, |table| table.insert(hash, entry));
        self.made(&key);
        self.changed(&key, change);
    }

    /// Number of keys, expired ones that were not collected yet included.
    pub(crate) fn len(&self) -> usize {
        self.engine.table(self.db).len()
    }

    /// How the last accesses of entries are read.
    pub(crate) fn access_meter(&self) -> AccessMeter {
        self.engine.access_meter(self.now_ms)
    }

    /// Takes over what is told of the use of a key, if it is what counts.
    pub(crate) fn restore_access(&mut self, key: &[u8], access: Access) {
        if let Some(bits) = self.access_meter().restored(access)
            && let Some(at) = self.find(key).at
        {
            self.engine.table_mut(self.db).touch(at, bits);
        }
    }

    /// What an entry gets that was made from another one, as if it were new.
    pub(crate) fn forget_access(&self, entry: &mut Entry) {
        entry.set_accessed(self.access_meter().new_key());
    }

    /// A key that is not expired, at random. While expired keys are kept it may be one of them, as on a replica of Redis, when
    /// hardly any other is there.
    pub(crate) fn random_key(&mut self) -> Option<Box<[u8]>> {
        let mut tries_left = RANDOM_KEY_TRIES_MAX;
        // Expired keys that are met are removed, or counted, so the loop ends.
        loop {
            let random = self.engine.random.next();
            let table = self.engine.table(self.db);
            let at = table.near(random)?;
            let entry = table.view(at);
            if tries_left == 0 || !self.engine.is_expired(entry.expires_at_ms(), self.now_ms) {
                return Some(Box::from(entry.key()));
            }
            if self.engine.keeps_expired {
                tries_left -= 1;
            } else {
                self.engine.collect(self.db, at, self.effects);
            }
        }
    }

    /// Visits keys that are not expired, from `cursor` on, until at least `count` keys were met; returns the next cursor.
    /// Expired keys that are met are removed.
    pub(crate) fn scan(&mut self, cursor: u64, count: usize, mut visit: impl FnMut(EntryView<'_>)) -> u64 {
        // Empty buckets count a little, so that a sparse table does not make one call long.
        let mut buckets_left = count.saturating_mul(10);
        let mut met = 0;
        let mut cursor = cursor;
        let mut expired: Vec<Box<[u8]>> = Vec::new();
        loop {
            let table = self.engine.table(self.db);
            let (replaying, now_ms) = (self.engine.replaying, self.now_ms);
            cursor = table.scan_bucket(cursor, |at| {
                met += 1;
                let entry = table.view(at);
                if !replaying && is_expired(entry.expires_at_ms(), now_ms) {
                    expired.push(Box::from(entry.key()));
                } else {
                    visit(entry);
                }
            });
            buckets_left = buckets_left.saturating_sub(1);
            if cursor == 0 || met >= count || buckets_left == 0 {
                break;
            }
        }
        for key in expired {
            self.find(&key);
        }
        cursor
    }

    /// Visits all keys that are not expired. Those that are stay where they are: removing them all would make one command long.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(EntryView<'_>)) {
        for entry in self.engine.table(self.db).entries() {
            if !self.engine.is_expired(entry.expires_at_ms(), self.now_ms) {
                visit(entry);
            }
        }
    }

    /// The bits of an entry after this access; of a new one where there is none yet.
    #[inline]
    fn access_bits(&mut self, found: Found) -> u32 {
        if self.engine.eviction.counts() { self.count_access(found) } else { seconds_of(self.now_ms) }
    }

    fn count_access(&mut self, found: Found) -> u32 {
        let meter = self.access_meter();
        match found.at {
            Some(at) => {
                let random = self.engine.random.next();
                meter.after_access(self.engine.table(self.db).view(at).accessed(), random)
            }
            None => meter.new_key(),
        }
    }
}
