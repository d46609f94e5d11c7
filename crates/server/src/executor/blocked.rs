//! Who waits for which keys, in the order in which they began.

use std::collections::{BTreeMap, VecDeque};

use super::client::Client;
use crate::engine::Engine;
use crate::engine::object::Kind;
use crate::protocol::{OwnedRequest, Request};

/// What clients wait for: a value of a type, in a database, at a key.
pub(super) type Awaited = (Kind, u32, Box<[u8]>);

/// What a client waits for.
#[derive(Debug)]
pub(super) struct Blocked {
    /// Each once.
    keys: Vec<Awaited>,
    request: OwnedRequest,
}

impl Blocked {
    pub(super) fn new<'a>(
        db: u32,
        kind: Kind,
        keys: impl Iterator<Item = &'a [u8]>,
        request: OwnedRequest,
    ) -> Self {
        let mut keys: Vec<Awaited> = keys.map(|key| (kind, db, Box::from(key))).collect();
        keys.sort_unstable();
        keys.dedup();
        Self { keys, request }
    }

    /// The command that is run again.
    pub(super) fn request(&self) -> Request<'_> {
        self.request.as_request()
    }

    /// Bytes held, for memory accounting.
    pub(super) fn memory_bytes(&self) -> usize {
        // Each key is here, with its queue, and with the engine.
        self.request.memory_bytes() + self.keys.iter().map(|(_, _, key)| 3 * key.len() + 64).sum::<usize>()
    }
}

/// The slots of all clients that wait for keys.
#[derive(Debug, Default)]
pub(super) struct BlockedClients {
    by_key: BTreeMap<Awaited, VecDeque<usize>>,
}

impl BlockedClients {
    /// `slot` begins to wait, behind all that do.
    pub(super) fn add(&mut self, slot: usize, blocked: &Blocked, engine: &mut Engine) {
        for name in &blocked.keys {
            let (kind, db, key) = name;
            engine.await_key(*db, key, *kind);
            self.by_key.entry(name.clone()).or_default().push_back(slot);
        }
    }

    /// `slot` waits no more.
    pub(super) fn remove_all(&mut self, slot: usize, blocked: &Blocked, engine: &mut Engine) {
        for name in &blocked.keys {
            let (kind, db, key) = name;
            engine.forget_awaited(*db, key, *kind);
            if let Some(slots) = self.by_key.get_mut(name) {
                // Who is served is in front: the others are not looked at.
                if let Some(place) = slots.iter().position(|it| *it == slot) {
                    slots.remove(place);
                }
                if slots.is_empty() {
                    self.by_key.remove(name);
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

    /// Who waits for this behind so many others.
    pub(super) fn slot(&self, name: &Awaited, place: usize) -> Option<usize> {
        self.by_key.get(name)?.get(place).copied()
    }
}
