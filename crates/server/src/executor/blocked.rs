//! Who waits for which keys, in the order in which they began.

use std::collections::BTreeMap;

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
    ticket: Ticket,
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
        Self { keys, request, ticket: 0 }
    }

    /// The command that is run again.
    pub(super) fn request(&self) -> Request<'_> {
        self.request.as_request()
    }

    /// Bytes held, for memory accounting.
    pub(super) fn memory_bytes(&self) -> usize {
        // Each key is here, with its queue, and with the engine, in maps as full as such are: measured, `tests/limits.rs`
        // compares.
        const PLACES_LEN: usize = 420;
        self.request.memory_bytes()
            + self.keys.iter().map(|(_, _, key)| 3 * key.len() + PLACES_LEN).sum::<usize>()
    }
}

/// The place of a client among all that wait: who began later has a greater one.
pub(super) type Ticket = u64;

/// The slots of all clients that wait for keys.
#[derive(Debug, Default)]
pub(super) struct BlockedClients {
    by_key: BTreeMap<Awaited, BTreeMap<Ticket, usize>>,
    next_ticket: Ticket,
}

impl BlockedClients {
    /// `slot` begins to wait, behind all that do.
    pub(super) fn add(&mut self, slot: usize, blocked: &mut Blocked, engine: &mut Engine) {
        self.next_ticket += 1;
        blocked.ticket = self.next_ticket;
        for name in &blocked.keys {
            let (kind, db, key) = name;
            engine.await_key(*db, key, *kind);
            self.by_key.entry(name.clone()).or_default().insert(blocked.ticket, slot);
        }
    }

    /// A client waits no more.
    pub(super) fn remove_all(&mut self, blocked: &Blocked, engine: &mut Engine) {
        for name in &blocked.keys {
            let (kind, db, key) = name;
            engine.forget_awaited(*db, key, *kind);
            if let Some(slots) = self.by_key.get_mut(name) {
                slots.remove(&blocked.ticket);
                if slots.is_empty() {
                    self.by_key.remove(name);
                }
            }
        }
    }

    /// As [`BlockedClients::remove_all`], for whatever the client waits for.
    pub(super) fn remove(&mut self, client: &mut Client, engine: &mut Engine) {
        if let Some(blocked) = client.blocked.take() {
            self.remove_all(&blocked, engine);
        }
    }

    /// Who waits for this and began after the one with this ticket, with its own.
    pub(super) fn next(&self, name: &Awaited, after: Ticket) -> Option<(Ticket, usize)> {
        let (ticket, slot) = self.by_key.get(name)?.range(after + 1..).next()?;
        Some((*ticket, *slot))
    }
}
