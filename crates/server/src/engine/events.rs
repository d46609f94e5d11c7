//! Keyspace events: what happened to which key, for those who asked for such events.

use super::Engine;

/// Classes of events and kinds of notification, as bits. Source: Redis 7.0, `server.h`, `NOTIFY_…`.
pub mod class {
    /// `K`: publish to `__keyspace@<db>__:<key>`.
    pub const KEYSPACE: u32 = 1;
    /// `E`: publish to `__keyevent@<db>__:<event>`.
    pub const KEYEVENT: u32 = 1 << 1;
    /// `g`: commands on keys of any type.
    pub const GENERIC: u32 = 1 << 2;
    /// `$`: strings.
    pub const STRING: u32 = 1 << 3;
    /// `l`: lists.
    pub const LIST: u32 = 1 << 4;
    /// `s`: sets.
    pub const SET: u32 = 1 << 5;
    /// `h`: hashes.
    pub const HASH: u32 = 1 << 6;
    /// `z`: sorted sets.
    pub const ZSET: u32 = 1 << 7;
    /// `x`: keys whose time has come.
    pub const EXPIRED: u32 = 1 << 8;
    /// `e`: keys evicted for memory.
    pub const EVICTED: u32 = 1 << 9;
    /// `t`: streams.
    pub const STREAM: u32 = 1 << 10;
    /// `m`: reads of keys that are not there; not in `A`.
    pub const KEY_MISS: u32 = 1 << 11;
    /// Keys loaded from a snapshot: for modules, no letter.
    pub const LOADED: u32 = 1 << 12;
    /// `d`: types of modules.
    pub const MODULE: u32 = 1 << 13;
    /// `n`: keys that are new; not in `A`.
    pub const NEW: u32 = 1 << 14;
    /// `A`: all classes but `m` and `n`.
    pub const ALL: u32 = GENERIC | STRING | LIST | SET | HASH | ZSET | EXPIRED | EVICTED | STREAM | MODULE;
}

/// Something that happened to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEvent {
    /// Database index.
    pub db: u32,
    /// One bit of [`class`].
    pub class: u32,
    /// Name of the event, such as `set`.
    pub name: &'static str,
    /// The key.
    pub key: Box<[u8]>,
}

/// Events that were asked for and not taken yet.
#[derive(Debug, Default)]
pub(super) struct KeyEvents {
    mask: u32,
    waiting: Vec<KeyEvent>,
}

impl Engine {
    /// Chooses which classes of events are kept for [`Engine::take_key_events`]: bits of [`class`]. 0 is none.
    pub fn set_notified(&mut self, mask: u32) {
        self.key_events.mask = mask;
        if mask == 0 {
            self.key_events.waiting.clear();
        }
    }

    /// The events since the last call, in order; empty without an allocation.
    pub fn take_key_events(&mut self) -> Vec<KeyEvent> {
        std::mem::take(&mut self.key_events.waiting)
    }

    /// Notes an event if its class was asked for.
    pub(crate) fn note_key_event(&mut self, db: u32, class: u32, name: &'static str, key: &[u8]) {
        if self.key_events.mask & class != 0 {
            self.key_events.waiting.push(KeyEvent { db, class, name, key: Box::from(key) });
        }
    }

    /// Brings what a lookup of `key` reads into the cache. A hint: the key need not be there, and nothing changes.
    pub fn prefetch(&mut self, db: u32, key: &[u8]) {
        let _ = (db, key);
    }
}
