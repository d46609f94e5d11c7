//! WATCH: keys whose changes somebody wants to know of.
//!
//! A watched key has a version that grows with every change; a watcher remembers the version it saw. Nothing is kept for
//! keys that nobody watches.

use std::collections::BTreeMap;

use super::{Engine, table::Table};

/// What one session remembers of one watched key. To be given back with `Engine::unwatch`.
#[derive(Debug)]
pub(crate) struct WatchToken {
    db: u32,
    key: Box<[u8]>,
    version: u64,
    /// The key was there and had expired: its removal is no change.
    expired: bool,
}

impl WatchToken {
    /// Bytes held, for memory accounting.
    pub(crate) fn memory_bytes(&self) -> usize {
        // The key is here, the name of this with the session, and in the map. With the allocations and the nodes of both maps
        // as full as such are: measured, `tests/limits.rs` compares.
        const PLACES_LEN: usize = 275;
        PLACES_LEN + 3 * self.key.len()
    }
}

#[derive(Debug, Default)]
struct Watched {
    watchers: usize,
    version: u64,
    /// Version that the removal of an expired key ended.
    collected: Option<u64>,
    /// Version at which a swap of databases brought an expired key where none was: not a change, and neither is the
    /// removal of that key.
    brought: Option<u64>,
}

/// Whether a key is there at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Absent,
    Live,
    /// It is stored, and its time is over.
    Expired,
}

#[derive(Debug, Default)]
pub(super) struct Watches {
    keys: BTreeMap<(u32, Box<[u8]>), Watched>,
}

impl Watches {
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Notes a change of a key.
    pub(super) fn changed(&mut self, db: u32, key: &[u8]) {
        if !self.keys.is_empty()
            && let Some(watched) = self.keys.get_mut(&(db, Box::from(key)))
        {
            watched.version += 1;
        }
    }

    /// Notes the removal of a key that had expired.
    pub(super) fn collected(&mut self, db: u32, key: &[u8]) {
        if !self.keys.is_empty()
            && let Some(watched) = self.keys.get_mut(&(db, Box::from(key)))
        {
            watched.collected = Some(watched.version);
            watched.version += 1;
        }
    }

    /// Notes that the content of `db` is replaced, given how a key is present before and after.
    pub(super) fn replaced(
        &mut self,
        db: u32,
        before: impl Fn(&[u8]) -> Presence,
        after: impl Fn(&[u8]) -> Presence,
    ) {
        for ((_, key), watched) in self.keys.range_mut((db, Box::default())..(db + 1, Box::default())) {
            match (before(key), after(key)) {
                (Presence::Live, _) | (_, Presence::Live) => watched.version += 1,
                (Presence::Expired, _) => {
                    watched.collected = Some(watched.version);
                    watched.version += 1;
                }
                (Presence::Absent, Presence::Expired) => watched.brought = Some(watched.version),
                (Presence::Absent, Presence::Absent) => {}
            }
        }
    }
}

impl Engine {
    /// Begins to watch a key.
    pub(crate) fn watch(&mut self, db: u32, key: &[u8], now_ms: i64) -> WatchToken {
        let expired = self.is_present_and_expired(self.table(db), key, now_ms);
        let watched = self.watches.keys.entry((db, Box::from(key))).or_default();
        watched.watchers += 1;
        WatchToken { db, key: Box::from(key), version: watched.version, expired }
    }

    pub(crate) fn unwatch(&mut self, token: WatchToken) {
        let name = (token.db, token.key);
        if let Some(watched) = self.watches.keys.get_mut(&name) {
            watched.watchers -= 1;
            if watched.watchers == 0 {
                self.watches.keys.remove(&name);
            }
        }
    }

    /// Whether the key has changed, or expired, since it is watched.
    pub(crate) fn has_changed(&self, token: &WatchToken, now_ms: i64) -> bool {
        let Some(watched) = self.watches.keys.get(&(token.db, token.key.clone())) else { return true };
        let expired = token.expired || watched.brought == Some(token.version);
        if watched.version == token.version {
            return !expired && self.is_present_and_expired(self.table(token.db), &token.key, now_ms);
        }
        let only_collected =
            expired && watched.collected == Some(token.version) && watched.version == token.version + 1;
        !only_collected
    }

    /// Notes for the watched keys of `db` that its content is about to be replaced by that of `with`, or by nothing.
    pub(super) fn touch_watches_of_swap(&mut self, db: u32, with: Option<u32>, now_ms: i64) {
        if self.watches.is_empty() {
            return;
        }
        let mut watches = std::mem::take(&mut self.watches);
        let presence = |db: Option<u32>, key: &[u8]| {
            db.map_or(Presence::Absent, |db| self.presence(self.table(db), key, now_ms))
        };
        watches.replaced(db, |key| presence(Some(db), key), |key| presence(with, key));
        self.watches = watches;
    }

    /// How a key is present in a table of this engine.
    pub(super) fn presence(&self, table: &Table, key: &[u8], now_ms: i64) -> Presence {
        match table.find(self.hash_of(key), key) {
            None => Presence::Absent,
            Some(at) if self.is_expired(table.view(at).expires_at_ms(), now_ms) => Presence::Expired,
            Some(_) => Presence::Live,
        }
    }

    fn is_present_and_expired(&self, table: &Table, key: &[u8], now_ms: i64) -> bool {
        self.presence(table, key, now_ms) == Presence::Expired
    }
}
