//! Who waits for which keys, in the order in which they began.

use std::collections::{BTreeMap, VecDeque};

use super::client::Client;
use crate::engine::Engine;
use crate::protocol::{OwnedRequest, Request};

/// What a client waits for.
#[derive(Debug)]
pub(super) struct Blocked {
    db: u32,
    /// Each once.
    keys: Vec<Box<[u8]>>,
    request: OwnedRequest,
}

impl Blocked {
    pub(super) fn new<'a>(db: u32, keys: impl Iterator<Item = &'a [u8]>, request: OwnedRequest) -> Self {
        let mut keys: Vec<Box<[u8]>> = keys.map(Box::from).collect();
        keys.sort_unstable();
        keys.dedup();
        Self { db, keys, request }
    }

    /// The command that is run again.
    pub(super) fn request(&self) -> Request<'_> {
        self.request.as_request()
    }

    /// Bytes held, for memory accounting.
    pub(super) fn memory_bytes(&self) -> usize {
        // Each key is here, with its queue, and with the engine.
        self.request.memory_bytes() + self.keys.iter().map(|key| 3 * key.len() + 64).sum::<usize>()
    }
}

/// The slots of all clients that wait for keys.
#[derive(Debug, Default)]
pub(super) struct BlockedClients {
    by_key: BTreeMap<(u32, Box<[u8]>), VecDeque<usize>>,
}

impl BlockedClients {
    /// `slot` begins to wait, behind all that do.
    pub(super) fn add(&mut self, slot: usize, blocked: &Blocked, engine: &mut Engine) {
        for key in &blocked.keys {
            engine.await_key(blocked.db, key);
            self.by_key.entry((blocked.db, key.clone())).or_default().push_back(slot);
        }
    }

    /// `slot` waits no more.
    pub(super) fn remove_all(&mut self, slot: usize, blocked: &Blocked, engine: &mut Engine) {
        for key in &blocked.keys {
            engine.forget_awaited(blocked.db, key);
            let name = (blocked.db, key.clone());
            if let Some(slots) = self.by_key.get_mut(&name) {
                slots.retain(|it| *it != slot);
                if slots.is_empty() {
                    self.by_key.remove(&name);
                }
            }
        }
    }

    /// As [`BlockedClients::remove_all`], for whatever the client waits for.
    pub(super) fn remove(&mut self, slot: usize, client: &mut Client, engine: &mut Engine) {
        if let Some(blocked) = client.blocked.take() {
            self.remove_all(slot, &blocked, engine);
        }
    }

    /// Who waits for a key behind so many others.
    pub(super) fn slot(&self, db: u32, key: &[u8], place: usize) -> Option<usize> {
        self.by_key.get(&(db, Box::from(key)))?.get(place).copied()
    }
}
