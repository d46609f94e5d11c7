//! The executor's view of its clients.

use std::time::{Duration, Instant};

use crate::command::{ClientFacts, Session};
use crate::network::connection::Connection;
use crate::protocol::Decoder;

/// What a client waits for; its later commands wait with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) kind: WaitKind,
    /// When it is answered with what there is.
    pub(crate) deadline: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum WaitKind {
    /// WAIT: for replicas, of which there are none.
    Replicas,
    /// WAITAOF: until this offset is durable.
    Durable { offset: u64, local: u64, replicas: u64 },
}

/// A connection with everything that belongs to it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) session: Session,
    pub(crate) decoder: Decoder,
    pub(crate) waiting: Option<Waiting>,
    /// CLIENT PAUSE holds its next request back.
    pub(crate) postponed: bool,
    /// Nothing more is read; the connection ends once the output is sent.
    pub(crate) closing: bool,
    /// The socket may hold bytes that were not read yet.
    pub(crate) readable: bool,
    /// In the list of clients with output.
    pub(crate) has_output: bool,
    pub(crate) connected: Instant,
    pub(crate) last_active: Instant,
}

impl Client {
    pub(crate) fn new(connection: Connection, session: Session, now: Instant) -> Self {
        Self {
            connection,
            session,
            decoder: Decoder::new(),
            waiting: None,
            postponed: false,
            closing: false,
            readable: true,
            has_output: false,
            connected: now,
            last_active: now,
        }
    }

    pub(crate) fn facts(&self) -> ClientFacts {
        facts(&self.connection, self.connected, self.last_active)
    }

    pub(crate) fn idle(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_active)
    }
}

/// Clients by slot; a slot is reused, an id never.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    slots: Vec<Option<Box<Client>>>,
    free: Vec<usize>,
    len: usize,
    last_id: u64,
}

impl Clients {
    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn reserve_slot(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        })
    }

    pub(crate) fn put_new(&mut self, slot: usize, client: Box<Client>) {
        self.slots[slot] = Some(client);
        self.len += 1;
    }

    /// Takes a client out of its slot for the time of its turn.
    pub(crate) fn take(&mut self, slot: usize) -> Option<Box<Client>> {
        self.slots.get_mut(slot).and_then(Option::take)
    }

    pub(crate) fn put_back(&mut self, slot: usize, client: Box<Client>) {
        self.slots[slot] = Some(client);
    }

    /// Frees the slot of a client that was taken.
    pub(crate) fn forget(&mut self, slot: usize) {
        self.slots[slot] = None;
        self.free.push(slot);
        self.len -= 1;
    }

    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut Client> {
        self.slots.get_mut(slot).and_then(Option::as_deref_mut)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.slots.iter().flatten().map(|client| &**client)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Client)> {
        self.slots.iter_mut().enumerate().filter_map(|(slot, client)| Some((slot, client.as_deref_mut()?)))
    }
}

/// Facts about a connection, for CLIENT LIST.
pub(crate) fn facts(connection: &Connection, connected: Instant, last_active: Instant) -> ClientFacts {
    let input = &connection.input;
    ClientFacts {
        address: connection.peer_name(),
        local_address: connection.local_name(),
        fd: i64::from(connection.fd()),
        age_s: connected.elapsed().as_secs(),
        idle_s: last_active.elapsed().as_secs(),
        query_bytes: input.len() as u64,
        query_free_bytes: (input.capacity() - input.len()) as u64,
        reply_buffer_bytes: connection.output.capacity() as u64,
        output_bytes: connection.unsent_len() as u64,
    }
}
