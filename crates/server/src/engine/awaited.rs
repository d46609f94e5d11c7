//! Keys that blocked commands wait for.
//!
//! Whoever executes commands is told which of them have changed; who waits, and in which order, is its business.

use std::collections::{BTreeMap, VecDeque};

use super::Engine;

#[derive(Debug, Default)]
struct Awaited {
    waiters: usize,
    /// It is among `ready`.
    is_ready: bool,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct AwaitedKeys {
    keys: BTreeMap<(u32, Box<[u8]>), Awaited>,
    ready: VecDeque<(u32, Box<[u8]>)>,
}

impl AwaitedKeys {
    /// Notes a change of a key.
    #[inline]
    pub(super) fn changed(&mut self, db: u32, key: &[u8]) {
        if self.keys.is_empty() {
            return;
        }
        if let Some(awaited) = self.keys.get_mut(&(db, Box::from(key)))
            && !std::mem::replace(&mut awaited.is_ready, true)
        {
            self.ready.push_back((db, Box::from(key)));
        }
    }

    /// Notes that a database has another content.
    pub(super) fn replaced(&mut self, db: u32) {
        for ((_, key), awaited) in self.keys.range_mut((db, Box::default())..(db + 1, Box::default())) {
            if !std::mem::replace(&mut awaited.is_ready, true) {
                self.ready.push_back((db, key.clone()));
            }
        }
    }
}

impl Engine {
    /// Begins to tell of changes of a key, to one more waiter.
    pub(crate) fn await_key(&mut self, db: u32, key: &[u8]) {
        self.awaited.keys.entry((db, Box::from(key))).or_default().waiters += 1;
    }

    /// Ends what [`Engine::await_key`] has begun.
    pub(crate) fn forget_awaited(&mut self, db: u32, key: &[u8]) {
        let name = (db, Box::from(key));
        if let Some(awaited) = self.awaited.keys.get_mut(&name) {
            awaited.waiters -= 1;
            if awaited.waiters == 0 {
                self.awaited.keys.remove(&name);
            }
        }
    }

    /// A key that somebody awaits and that has changed since it was last returned.
    #[inline]
    pub(crate) fn next_ready(&mut self) -> Option<(u32, Box<[u8]>)> {
        let ready = self.awaited.ready.pop_front()?;
        if let Some(awaited) = self.awaited.keys.get_mut(&ready) {
            awaited.is_ready = false;
        }
        Some(ready)
    }

    /// Whether a key is there, expired or not.
    pub(crate) fn holds(&self, db: u32, key: &[u8]) -> bool {
        self.table(db).find(self.hash_of(key), key).is_some()
    }
}
