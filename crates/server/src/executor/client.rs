//! The executor's view of its clients.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::command::{ClientFacts, Session};
use crate::network::connection::Connection;
use crate::network::stream::Ends;
use crate::protocol::{Decoder, ReplyWriter};

use super::blocked::Blocked;
use super::ledger::{Account, Ledger};
use super::waiting::Waiting;

/// What CLIENT LIST counts as waiting in the reply buffer (`obl`), in bytes; more counts as `omem`. Source: Redis 7.0,
/// `PROTO_REPLY_CHUNK_BYTES`.
const REPLY_BUFFER_LEN: usize = 16 << 10;
/// So long a client may be idle and keep free room for requests. Source: Redis 7.0, `clientsCronResizeQueryBuffer`.
const ROOM_IDLE_MAX: Duration = Duration::from_secs(2);
/// From this length on output is entered in the ledger before it was tried to be sent: the turn ends when such output has no
/// room. Less is gone by then in most cases.
const ENTERED_AT_ONCE_LEN: usize = 64 << 10;

/// A connection with everything that belongs to it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) connection: Connection,
    pub(super) session: Session,
    pub(super) decoder: Decoder,
    /// What its last command waits for; later commands wait with it.
    pub(super) waiting: Option<Waiting>,
    /// The keys that it waits for, if it does.
    pub(super) blocked: Option<Box<Blocked>>,
    /// CLIENT PAUSE holds its next request back.
    pub(super) postponed: bool,
    /// Too much output waits: nothing more is read or executed until it has left.
    pub(super) stalled: bool,
    /// Nothing more is read; the connection ends once the output is sent.
    pub(super) closing: bool,
    /// The peer sends nothing more: the connection ends once everything that came is executed and answered.
    pub(super) ended: bool,
    /// Its input may hold whole requests that were not executed yet.
    pub(super) has_work: bool,
    /// The socket may hold bytes that were not read yet.
    pub(super) readable: bool,
    /// In the queue of clients to be served.
    pub(super) queued: bool,
    /// In the outbox's list of clients with output.
    pub(super) marked: bool,
    /// Bytes of messages put into its output since that was last empty.
    pub(super) message_bytes: u64,
    /// Since when the soft limit of output is exceeded.
    pub(super) soft_limit_since: Option<Instant>,
    /// Since when output waits of which nothing was read.
    pub(super) unread_since: Option<Instant>,
    /// Since when it has to authenticate; none once it has.
    pub(super) stranger_since: Option<Instant>,
    /// Since when a request of a stranger is in progress.
    pub(super) partial_since: Option<Instant>,
    pub(super) connected: Instant,
    /// When something was last received or sent.
    pub(super) last_active: Instant,
}

impl Client {
    pub(super) fn new(connection: Connection, session: Session, now: Instant) -> Self {
        Self {
            connection,
            session,
            decoder: Decoder::new(),
            waiting: None,
            blocked: None,
            postponed: false,
            stalled: false,
            closing: false,
            ended: false,
            has_work: false,
            readable: true,
            queued: false,
            marked: false,
            message_bytes: 0,
            soft_limit_since: None,
            unread_since: None,
            stranger_since: None,
            partial_since: None,
            connected: now,
            last_active: now,
        }
    }

    /// Whether it is not its turn to send anything: it is neither read nor executed.
    pub(super) fn is_held(&self) -> bool {
        self.closing || self.stalled || self.is_blocked()
    }

    /// Whether it waits for something else than itself.
    pub(super) fn is_blocked(&self) -> bool {
        self.postponed || self.waiting.is_some()
    }

    /// Length of the input with which the long argument in progress is complete, if there is one.
    pub(super) fn long_needed_len(&self) -> Option<usize> {
        self.decoder.needed_len().filter(|_| self.decoder.is_long_argument())
    }

    /// Writes a reply that a command has left to the executor, unless the client has asked for none.
    pub(super) fn reply(&mut self, write: impl FnOnce(&mut ReplyWriter<'_>)) {
        if !self.session.is_reply_suppressed() {
            write(&mut self.connection.output.writer(self.session.version()));
        }
    }

    pub(super) fn facts(&self, now: Instant) -> ClientFacts {
        let (input, output) = (&self.connection.input, &self.connection.output);
        // As in Redis, what is understood of a request counts as its arguments.
        let understood = self.decoder.understood_len().min(input.len());
        let unsent = self.connection.unsent_len();
        let in_buffer = unsent.min(REPLY_BUFFER_LEN);
        let in_pieces = unsent - in_buffer;
        ClientFacts {
            is_blocked: self.is_blocked(),
            is_closing: self.closing,
            query_bytes: (input.len() - understood) as u64,
            query_free_bytes: (input.capacity() - input.len()) as u64,
            argument_bytes: (understood + self.decoder.memory_bytes()) as u64,
            reply_buffer_bytes: self.connection.output_memory_bytes().saturating_sub(in_pieces) as u64,
            output_bytes: in_buffer as u64,
            output_pieces: (output.pieces() + usize::from(in_pieces > 0)) as u64,
            output_pieces_bytes: in_pieces as u64,
            total_bytes: self.memory_bytes() as u64,
            idle_s: self.idle(now).as_secs(),
            ..Origin::of(self).facts(now)
        }
    }

    /// Bytes that it makes the server hold. A long value counts for everybody who has not read it, also while they share it.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.connection.input.capacity()
            + self.decoder.memory_bytes()
            + self.session.memory_bytes()
            + self.blocked.as_ref().map_or(0, |blocked| blocked.memory_bytes())
            + self.connection.output_memory_bytes()
    }

    fn account(&self) -> Account {
        Account {
            bytes: self.memory_bytes() as u64,
            may_be_evicted: self.session.may_be_evicted(),
            stranger_since: self.stranger_since,
        }
    }

    pub(super) fn idle(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_active)
    }
}

/// Where a connection comes from.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) ends: Ends,
    fd: i32,
    connected: Instant,
}

impl Origin {
    pub(super) fn of(client: &Client) -> Self {
        let connection = &client.connection;
        Self { ends: connection.ends().clone(), fd: connection.fd(), connected: client.connected }
    }

    pub(super) fn facts(&self, now: Instant) -> ClientFacts {
        ClientFacts {
            address: self.ends.peer_name(),
            local_address: self.ends.local_name(),
            is_unix: self.ends.is_unix(),
            fd: i64::from(self.fd),
            age_s: now.saturating_duration_since(self.connected).as_secs(),
            ..ClientFacts::default()
        }
    }
}

/// Clients by slot; a slot is reused, an id never.
#[derive(Debug, Default)]
pub(super) struct Clients {
    slots: Vec<Option<Box<Client>>>,
    /// Slots of all clients, also while one is served.
    by_id: HashMap<u64, usize>,
    free: Vec<usize>,
    len: usize,
    last_id: u64,
    ledger: Ledger,
    /// Bytes of room that clients in their slots keep for requests to come.
    kept_room: usize,
    /// Where the next periodic check goes on.
    check_next: usize,
}

impl Clients {
    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn reserve_slot(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        })
    }

    pub(super) fn put_new(&mut self, slot: usize, client: Box<Client>) {
        self.by_id.insert(client.session.id(), slot);
        self.slots[slot] = Some(client);
        self.len += 1;
        self.settle(slot);
    }

    /// What all clients hold.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Records what a client holds now.
    pub(super) fn settle(&mut self, slot: usize) {
        if let Some(client) = self.slots.get(slot).and_then(Option::as_deref) {
            self.ledger.set(slot, client.account());
        }
    }

    /// Takes a client out of its slot for the time in which it is served.
    pub(super) fn take(&mut self, slot: usize) -> Option<Box<Client>> {
        let client = self.slots.get_mut(slot).and_then(Option::take)?;
        self.kept_room -= client.connection.kept_room();
        Some(client)
    }

    pub(super) fn put_back(&mut self, slot: usize, client: Box<Client>) {
        if !client.marked {
            self.ledger.set(slot, client.account());
        } else if client.connection.unsent_len() >= ENTERED_AT_ONCE_LEN {
            self.ledger.set_before_sending(slot, client.account());
        }
        self.kept_room += client.connection.kept_room();
        self.slots[slot] = Some(client);
    }

    /// Bytes of room that clients in their slots keep for requests to come.
    pub(super) fn kept_room(&self) -> usize {
        self.kept_room
    }

    /// Makes a client give back room that it does not need.
    pub(super) fn check_room(&mut self, slot: usize, now: Instant) {
        let Some(client) = self.get_mut(slot) else { return };
        let before = client.connection.kept_room();
        let (is_idle, needed_len) = (client.idle(now) > ROOM_IDLE_MAX, client.long_needed_len());
        if client.connection.check_room(is_idle, needed_len) {
            let after = client.connection.kept_room();
            self.enter_room(slot, before, after);
        }
    }

    /// Makes all clients give back the room that they keep. Order matters: none is out of its slot.
    pub(super) fn give_up_room(&mut self) {
        if self.kept_room == 0 {
            return;
        }
        for slot in 0..self.slots.len() {
            let Some(client) = self.get_mut(slot) else { continue };
            let before = client.connection.kept_room();
            if before > 0 {
                client.connection.give_up_room();
                self.enter_room(slot, before, 0);
            }
        }
    }

    /// Enters what became of the room that a client keeps.
    fn enter_room(&mut self, slot: usize, before: usize, after: usize) {
        self.kept_room = self.kept_room - before + after;
        let Some(client) = self.slots.get(slot).and_then(Option::as_deref) else { return };
        if client.marked {
            self.ledger.set_before_sending(slot, client.account());
        } else {
            self.ledger.set(slot, client.account());
        }
    }

    /// Frees the slot of a client that was taken.
    pub(super) fn forget(&mut self, slot: usize, client: &Client) {
        self.by_id.remove(&client.session.id());
        self.slots[slot] = None;
        self.ledger.remove(slot);
        self.free.push(slot);
        self.len -= 1;
    }

    /// The slot of a client, also while it is served.
    pub(super) fn slot_of(&self, id: u64) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn get(&self, slot: usize) -> Option<&Client> {
        self.slots.get(slot).and_then(Option::as_deref)
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Client> {
        self.slots.get_mut(slot).and_then(Option::as_deref_mut)
    }

    /// Makes no client a stranger any more: no password is asked for.
    pub(super) fn trust_all(&mut self) {
        for slot in 0..self.slots.len() {
            if let Some(mut client) = self.take(slot) {
                client.session.trust();
                (client.stranger_since, client.partial_since) = (None, None);
                self.put_back(slot, client);
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Client)> {
        self.slots.iter().enumerate().filter_map(|(slot, client)| Some((slot, client.as_deref()?)))
    }

    /// The slots to be checked in a run of the periodic tasks, of which there are `runs` a second: all of them within a
    /// second, few at a time.
    pub(super) fn slots_to_check(&mut self, runs: usize) -> impl Iterator<Item = usize> + use<> {
        const CHECKED_MIN: usize = 5;
        let slots = self.slots.len();
        let count = (slots / runs.max(1) + CHECKED_MIN).min(slots);
        let first = self.check_next;
        self.check_next = (first + count) % slots.max(1);
        (first..first + count).map(move |slot| slot % slots)
    }
}
