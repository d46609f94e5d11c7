//! One database as commands see it, at one moment.

use super::effects::EffectBuffer;
use super::table::{Position, Record};
use super::value::Value;
use super::{Engine, is_expired};

/// The door of commands to the keys of a database: expiry, watches and access times are taken care of here.
pub(crate) struct Keyspace<'a> {
    engine: &'a mut Engine,
    effects: &'a mut EffectBuffer,
    db: u32,
    now_ms: i64,
}

/// Where a key is, or would be. Valid until the next change of the database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    hash: u32,
    at: Option<Position>,
}

impl Found {
    pub(crate) fn is_some(self) -> bool {
        self.at.is_some()
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

    /// Finds a key. If it has expired it is removed, a `DEL` is recorded, and it is not there.
    pub(crate) fn find(&mut self, key: &[u8]) -> Found {
        let table = self.engine.table(self.db);
        let hash = table.hash(key);
        let at = table.find(hash, key);
        if let Some(found) = at
            && self.engine.is_expired(self.engine.table(self.db).record(found).expires_at_ms(), self.now_ms)
        {
            self.engine.collect(self.db, found, self.effects);
            return Found { hash, at: None };
        }
        Found { hash, at }
    }

    /// Finds a key for a read: counts hit or miss and notes the access.
    pub(crate) fn read(&mut self, key: &[u8]) -> Option<&Record> {
        let found = self.find(key);
        match found.at {
            Some(at) => {
                self.engine.stats.keyspace_hits += 1;
                let seconds = self.access_seconds();
                let table = self.engine.table_mut(self.db);
                table.touch(at, seconds);
                Some(table.record(at))
            }
            None => {
                self.engine.stats.keyspace_misses += 1;
                None
            }
        }
    }

    /// Finds a key for a question about it: counts hit or miss, and is no access.
    pub(crate) fn peek(&mut self, key: &[u8]) -> Option<&Record> {
        let found = self.find(key);
        match found.at {
            Some(_) => self.engine.stats.keyspace_hits += 1,
            None => self.engine.stats.keyspace_misses += 1,
        }
        self.record(found)
    }

    pub(crate) fn record(&self, found: Found) -> Option<&Record> {
        found.at.map(|at| self.engine.table(self.db).record(at))
    }

    pub(crate) fn value(&self, found: Found) -> Option<&Value> {
        self.record(found).map(|record| &record.value)
    }

    /// Sets a key to a value, whatever it was.
    pub(crate) fn set(&mut self, found: Found, key: &[u8], value: Value, expiry: Expiry) {
        let seconds = self.access_seconds();
        let table = self.engine.table_mut(self.db);
        match found.at {
            Some(at) => {
                table.modify(at, |record| {
                    record.value = value;
                    record.set_raw(false);
                    record.set_accessed(seconds);
                });
                match expiry {
                    Expiry::Keep => {}
                    Expiry::Clear => table.set_expiry(at, None),
                    Expiry::At(ms) => table.set_expiry(at, Some(ms)),
                }
            }
            None => {
                let expires_at_ms = match expiry {
                    Expiry::Keep | Expiry::Clear => None,
                    Expiry::At(ms) => Some(ms),
                };
                let mut record = Record::new(Box::from(key), value, found.hash, expires_at_ms);
                record.set_accessed(seconds);
                table.insert(found.hash, record);
            }
        }
        self.engine.watches.changed(self.db, key);
    }

    /// Sets a key to bytes that count as raw from the start, without expiry.
    pub(crate) fn set_raw(&mut self, found: Found, key: &[u8], bytes: Vec<u8>) {
        self.edit(found, key, |old| *old = bytes);
        let found = self.find(key);
        self.set_expiry(found, key, None);
    }

    /// Changes the bytes of a key in place, an absent key beginning empty; from then on it counts as raw.
    pub(crate) fn edit<R>(&mut self, found: Found, key: &[u8], change: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let seconds = self.access_seconds();
        let table = self.engine.table_mut(self.db);
        let result = match found.at {
            Some(at) => table.modify(at, |record| {
                record.set_raw(true);
                record.set_accessed(seconds);
                change(record.value.make_bytes())
            }),
            None => {
                let mut bytes = Vec::new();
                let result = change(&mut bytes);
                let mut record = Record::new(Box::from(key), Value::Bytes(bytes), found.hash, None);
                record.set_raw(true);
                record.set_accessed(seconds);
                table.insert(found.hash, record);
                result
            }
        };
        self.engine.watches.changed(self.db, key);
        result
    }

    /// Changes the expiry of a key that is there.
    pub(crate) fn set_expiry(&mut self, found: Found, key: &[u8], expires_at_ms: Option<i64>) {
        if let Some(at) = found.at {
            self.engine.table_mut(self.db).set_expiry(at, expires_at_ms);
            self.engine.watches.changed(self.db, key);
        }
    }

    /// Removes a key and gives what it held.
    pub(crate) fn remove(&mut self, found: Found, key: &[u8]) -> Option<Record> {
        let at = found.at?;
        let record = self.engine.table_mut(self.db).remove(at);
        self.engine.watches.changed(self.db, key);
        Some(record)
    }

    /// Inserts what another key held, with its expiry, under a name that is not there.
    pub(crate) fn insert(&mut self, key: &[u8], record: Record) {
        let table = self.engine.table_mut(self.db);
        let hash = table.hash(key);
        table.insert(hash, record.renamed(Box::from(key), hash));
        self.engine.watches.changed(self.db, key);
    }

    /// Number of keys, expired ones that were not collected yet included.
    pub(crate) fn len(&self) -> usize {
        self.engine.table(self.db).len()
    }

    /// Seconds since the last access of a record.
    pub(crate) fn idle_seconds(&self, record: &Record) -> u32 {
        self.access_seconds().wrapping_sub(record.accessed()) & (u32::MAX >> 1)
    }

    /// A key that is not expired, at random.
    pub(crate) fn random_key(&mut self) -> Option<Box<[u8]>> {
        // Expired keys that are met are removed, so the loop ends.
        loop {
            let random = self.engine.next_random();
            let at = self.engine.table(self.db).near(random)?;
            let record = self.engine.table(self.db).record(at);
            if !self.engine.is_expired(record.expires_at_ms(), self.now_ms) {
                return Some(record.key.clone());
            }
            self.engine.collect(self.db, at, self.effects);
        }
    }

    /// Visits keys that are not expired, from `cursor` on, until at least `count` keys were met; gives the next cursor.
    /// Expired keys that are met are removed.
    pub(crate) fn scan(&mut self, cursor: u64, count: usize, mut visit: impl FnMut(&Record)) -> u64 {
        // Empty buckets count a little, so that a sparse table does not make one call long.
        let mut buckets_left = count.saturating_mul(10);
        let mut met = 0;
        let mut cursor = cursor;
        let mut expired = Vec::new();
        loop {
            let table = self.engine.table(self.db);
            let (replaying, now_ms) = (self.engine.replaying, self.now_ms);
            cursor = table.scan_bucket(cursor, |at| {
                met += 1;
                let record = table.record(at);
                if !replaying && is_expired(record.expires_at_ms(), now_ms) {
                    expired.push(record.key.clone());
                } else {
                    visit(record);
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

    /// Visits all keys that are not expired.
    pub(crate) fn for_each(&mut self, mut visit: impl FnMut(&Record)) {
        let mut expired = Vec::new();
        for record in self.engine.table(self.db).records() {
            if self.engine.is_expired(record.expires_at_ms(), self.now_ms) {
                expired.push(record.key.clone());
            } else {
                visit(record);
            }
        }
        for key in expired {
            self.find(&key);
        }
    }

    fn access_seconds(&self) -> u32 {
        // Only differences matter, so the upper bits may go.
        u32::try_from((self.now_ms / 1000) & i64::from(u32::MAX >> 1)).unwrap_or(0)
    }
}
