//! What happens to keys, for those who want to be told (`notify-keyspace-events`).

/// Kinds of events, as bits. Source: Redis 7.0, `redis.conf`, `notify-keyspace-events`.
pub(crate) mod class {
    /// `K`: publish under the name of the key.
    pub(crate) const KEYSPACE: u32 = 1;
    /// `E`: publish under the name of the event.
    pub(crate) const KEYEVENT: u32 = 1 << 1;
    /// `g`: commands for keys of any type.
    pub(crate) const GENERIC: u32 = 1 << 2;
    /// `$`: strings.
    pub(crate) const STRING: u32 = 1 << 3;
    /// `l`: lists.
    pub(crate) const LIST: u32 = 1 << 4;
    /// `s`: sets.
    pub(crate) const SET: u32 = 1 << 5;
    /// `h`: hashes.
    pub(crate) const HASH: u32 = 1 << 6;
    /// `z`: sorted sets.
    pub(crate) const ZSET: u32 = 1 << 7;
    /// `x`: a key expired.
    pub(crate) const EXPIRED: u32 = 1 << 8;
    /// `e`: a key was evicted.
    pub(crate) const EVICTED: u32 = 1 << 9;
    /// `t`: streams.
    pub(crate) const STREAM: u32 = 1 << 10;
    /// `m`: a key was read that is not there.
    pub(crate) const KEY_MISS: u32 = 1 << 11;
    /// `d`: modules.
    pub(crate) const MODULE: u32 = 1 << 13;
    /// `n`: a key was made.
    pub(crate) const NEW: u32 = 1 << 14;
    /// `A`: all classes but `m` and `n`.
    pub(crate) const ALL: u32 =
        GENERIC | STRING | LIST | SET | HASH | ZSET | EXPIRED | EVICTED | STREAM | MODULE;
}

/// Something that happened to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEvent {
    /// Database index.
    pub db: u32,
    /// One bit of [`class`].
    pub(crate) class: u32,
    /// Name as Redis 7.0 publishes it.
    pub name: &'static str,
    /// Key.
    pub key: Box<[u8]>,
}

/// A change of a key as the one who makes it describes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    /// Class and name of the event; none for what is only a part of a change.
    event: Option<(u32, &'static str)>,
    /// By how much it counts in `rdb_changes_since_last_save`.
    dirty: u64,
}

impl Change {
    const fn new(class: u32, name: &'static str) -> Change {
        Change { event: Some((class, name)), dirty: 1 }
    }

    /// A change of a string.
    pub(crate) const fn string(name: &'static str) -> Change {
        Change::new(class::STRING, name)
    }

    /// A change of a list.
    pub(crate) const fn list(name: &'static str) -> Change {
        Change::new(class::LIST, name)
    }

    /// A change of a set.
    pub(crate) const fn set(name: &'static str) -> Change {
        Change::new(class::SET, name)
    }

    /// A change of a sorted set.
    pub(crate) const fn sorted_set(name: &'static str) -> Change {
        Change::new(class::ZSET, name)
    }

    /// A change of a hash.
    pub(crate) const fn hash(name: &'static str) -> Change {
        Change::new(class::HASH, name)
    }

    /// A change that keys of any type know.
    pub(crate) const fn generic(name: &'static str) -> Change {
        Change::new(class::GENERIC, name)
    }

    /// A part of a change, of which nobody is told.
    pub(crate) const fn silent() -> Change {
        Change { event: None, dirty: 0 }
    }

    /// The same, counted differently.
    pub(crate) const fn counted(self, dirty: u64) -> Change {
        Change { dirty, ..self }
    }

    pub(super) fn dirty(self) -> u64 {
        self.dirty
    }
}

/// Collects events while somebody wants them.
#[derive(Debug, Default)]
pub(super) struct Events {
    mask: u32,
    queue: Vec<KeyEvent>,
}

impl Events {
    pub(super) fn set_mask(&mut self, mask: u32) {
        // Without a place to publish under, nobody can be told.
        self.mask = if mask & (class::KEYSPACE | class::KEYEVENT) == 0 { 0 } else { mask };
    }

    #[inline]
    pub(super) fn push(&mut self, db: u32, class: u32, name: &'static str, key: &[u8]) {
        if self.mask & class != 0 {
            self.queue.push(KeyEvent { db, class, name, key: Box::from(key) });
        }
    }

    #[inline]
    pub(super) fn push_change(&mut self, db: u32, change: Change, key: &[u8]) {
        if let Some((class, name)) = change.event {
            self.push(db, class, name, key);
        }
    }

    pub(super) fn take(&mut self) -> Vec<KeyEvent> {
        std::mem::take(&mut self.queue)
    }
}
