//! The one way out: replies, messages, monitored commands and the replies of clients that waited.
//!
//! Everything is put into its client's output and leaves when the turn is committed, so nobody learns of a change that the
//! disk may still lose. Replies can wait for their reader: the executor stops executing for a client that does not read.
//! Messages cannot, so those who get them are closed when too much of it waits.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::client::{Client, Clients};
use crate::command::{ClientKind, Session};
use crate::config::{ClientMemory, Config, OutputLimit, OutputLimits};
use crate::limits::UNAUTHENTICATED_OUTPUT_LEN_MAX;
use crate::network::output::Output;

/// Nothing more is executed for a client while more than this waits to be sent to it, in bytes.
const REPLIES_LEN_MAX: u64 = 256 << 10;
/// The same for a client that no limit of all clients concerns: whoever exempts it has room for it.
const REPLIES_LEN_MAX_EXEMPT: u64 = 16 << 20;
/// Redis counts whole seconds above the soft limit, and closes when they are more than it allows.
const SOFT_PERIOD_UNIT: Duration = Duration::from_secs(1);
/// Longest reply buffer that is kept for the next client, in bytes: the replies to a pipeline of 64 with 1 KiB each.
const SPARE_LEN_MAX: usize = 128 << 10;
/// Bytes of all reply buffers that are kept: so much is answered in one turn without an allocation.
const SPARES_LEN_MAX: usize = 4 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Slots of clients with output, or to be closed, when the turn is committed.
    marked: Vec<usize>,
    /// Empty reply buffers. The one that was used last is taken first: it is in the cache.
    spares: Vec<Vec<u8>>,
    /// Capacity of all of `spares`, in bytes.
    spares_len: usize,
}

impl Outbox {
    /// Remembers a client that has output or is to be closed.
    pub(super) fn mark(&mut self, slot: usize, client: &mut Client) {
        if !std::mem::replace(&mut client.marked, true) {
            self.marked.push(slot);
        }
    }

    /// The clients to be sent to. Marks that come meanwhile are for the next turn.
    pub(super) fn take_marked(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.marked)
    }

    /// Gives the list back for its memory.
    pub(super) fn reuse(&mut self, mut marked: Vec<usize>) {
        if self.marked.is_empty() {
            marked.clear();
            self.marked = marked;
        }
    }

    /// Whether there is something to be sent without waiting for a socket.
    pub(super) fn is_idle(&self) -> bool {
        self.marked.is_empty()
    }

    /// Gives a client room for its replies.
    pub(super) fn lend(&mut self, client: &mut Client) {
        if client.connection.output.has_no_buffer()
            && let Some(buffer) = self.spares.pop()
        {
            self.spares_len -= buffer.capacity();
            client.connection.output.lend(buffer);
        }
    }

    /// Takes the room back from a client that has been sent everything.
    pub(super) fn take_back(&mut self, client: &mut Client) {
        self.keep(&mut client.connection.output);
    }

    /// Takes the room of an output that has nothing to send.
    pub(super) fn keep(&mut self, output: &mut Output) {
        let buffer = output.take_buffer();
        let len = buffer.capacity();
        if (1..=SPARE_LEN_MAX).contains(&len) && self.spares_len + len <= SPARES_LEN_MAX {
            self.spares_len += len;
            self.spares.push(buffer);
        }
    }

    /// Sends a message to a client once the turn is committed.
    pub(super) fn push(&mut self, clients: &mut Clients, slot: usize, message: &Bytes) {
        let Some(client) = clients.get_mut(slot) else { return };
        if client.closing {
            return;
        }
        client.connection.output.push_shared(message);
        client.message_bytes += message.len() as u64;
        self.mark(slot, client);
    }
}

/// Nothing more is executed for a client while more output than this waits, in bytes.
///
/// A limit that was configured is reached before: whoever asks for clients to be closed beyond it would otherwise see them
/// wait below it. The defaults ask for nothing of the kind: whoever reads nothing is closed in time
/// (`unread-output-timeout`). `client_memory_max` is what `maxmemory-clients` comes to.
pub(super) fn replies_len_max(session: &Session, config: &Config, client_memory_max: u64) -> u64 {
    if !session.is_authenticated() {
        // A stranger cannot make the server hold much. One who does not read is closed, as in Redis: whoever only writes
        // would wait for us for ever.
        return UNAUTHENTICATED_OUTPUT_LEN_MAX as u64;
    }
    let limit = limit_of(session, &config.client_output_buffer_limit);
    let of_all = if !session.may_be_evicted() || client_memory_max == 0 {
        REPLIES_LEN_MAX_EXEMPT
    } else if config.maxmemory_clients == ClientMemory::DEFAULT {
        0
    } else {
        client_memory_max
    };
    REPLIES_LEN_MAX.max(limit.hard).max(limit.soft).max(of_all)
}

/// A client that was not executed for goes on when no more output than this waits, where [`replies_len_max`] is `max`: half
/// of it, or all of it where it is a limit that must be reached.
pub(super) fn goes_on_below(max: u64) -> u64 {
    if max > REPLIES_LEN_MAX { max } else { max / 2 }
}

/// Whether the replies to a client exceed a hard limit that was set for them: as in Redis it is then closed at once, and gets
/// none of them.
pub(super) fn exceeds_hard_limit(client: &Client, limits: &OutputLimits) -> bool {
    let hard = limits.normal.hard;
    let exceeds = hard > 0
        && client.connection.unsent_len() as u64 > hard
        && client.session.kind() == ClientKind::Normal;
    if exceeds {
        report_limit(client);
    }
    exceeds
}

/// Bytes that may wait for a client in the middle of a transaction; 0: any number. What waits for all clients together counts
/// as well, as it does between two commands.
pub(super) fn transaction_len_max(session: &Session, limits: &OutputLimits, client_memory_max: u64) -> u64 {
    let hard = if session.kind() == ClientKind::Normal { limits.normal.hard } else { 0 };
    let of_all = if session.may_be_evicted() { client_memory_max } else { 0 };
    [hard, of_all].into_iter().filter(|limit| *limit > 0).min().unwrap_or(0)
}

/// The limit for a client's output.
fn limit_of(session: &Session, limits: &OutputLimits) -> OutputLimit {
    match session.kind() {
        ClientKind::PubSub => limits.pubsub,
        // Redis counts them as normal; without a limit a monitor that does not read would take all memory. It is sent nothing
        // but what others do.
        _ if session.is_monitor() && limits.normal.is_none() => limits.pubsub,
        ClientKind::Normal | ClientKind::Master | ClientKind::Replica => limits.normal,
    }
}

/// The limit for a client's output of which `unsent` bytes wait, and how many of them count. Where there is no limit, messages
/// have that of subscribers: nothing else bounds the invalidations for a client that tracks and does not read.
fn limit_of_waiting(client: &Client, limits: &OutputLimits, unsent: u64) -> (OutputLimit, u64) {
    let limit = limit_of(&client.session, limits);
    if limit.is_none() { (limits.pubsub, unsent.min(client.message_bytes)) } else { (limit, unsent) }
}

/// Says that a stranger is closed because it does not read.
pub(super) fn report_deaf(client: &Client) {
    tracing::warn!(
        client = client.session.id(),
        address = client.connection.peer_name(),
        unsent = client.connection.unsent_len(),
        "client closed: it does not read its replies, and is not authenticated"
    );
}

fn report_limit(client: &Client) {
    tracing::warn!(
        client = client.session.id(),
        address = client.connection.peer_name(),
        unsent = client.connection.unsent_len(),
        "client closed: it exceeds client-output-buffer-limit"
    );
}

/// Reports that a client is closed for the replies of its transaction.
pub(super) fn report_overrun(client: &Client) {
    tracing::warn!(
        client = client.session.id(),
        address = client.connection.peer_name(),
        "client closed: it exceeds client-output-buffer-limit or maxmemory-clients by the replies of one transaction, which was \
         executed; split the transaction, or raise the limit"
    );
}

/// Notes whether a client reads: `sent` bytes have left for it.
pub(super) fn note_sent(client: &mut Client, sent: usize, now: Instant) {
    if client.connection.unsent_len() == 0 {
        client.unread_since = None;
    } else if sent > 0 {
        client.unread_since = Some(now);
    } else {
        client.unread_since.get_or_insert(now);
    }
}

/// Whether a client has to be closed because it does not read what it is sent; says so in the log. Output that is about to be
/// sent, or is being sent, says nothing of its reader.
pub(super) fn exceeds_limit(client: &mut Client, config: &Config, now: Instant) -> bool {
    if client.marked || client.connection.is_away() {
        return false;
    }
    let unsent = client.connection.unsent_len() as u64;
    if unsent == 0 {
        client.soft_limit_since = None;
        return false;
    }
    if !client.session.is_authenticated() && unsent > UNAUTHENTICATED_OUTPUT_LEN_MAX as u64 {
        report_deaf(client);
        return true;
    }
    let unread = client.unread_since.map(|since| now.saturating_duration_since(since));
    let patience = config.unread_output_timeout;
    if client.session.kind() == ClientKind::Normal
        && !patience.is_zero()
        && unread.is_some_and(|unread| unread >= patience)
    {
        tracing::warn!(
            client = client.session.id(),
            address = client.connection.peer_name(),
            unsent,
            "client closed: it has read nothing for the time of unread-output-timeout"
        );
        return true;
    }
    let (limit, counted) = limit_of_waiting(client, &config.client_output_buffer_limit, unsent);
    let exceeds = |limit: u64| limit > 0 && counted > limit;
    if exceeds(limit.soft) {
        let since = *client.soft_limit_since.get_or_insert(now);
        if now.saturating_duration_since(since) < limit.soft_period + SOFT_PERIOD_UNIT && !exceeds(limit.hard)
        {
            return false;
        }
    } else {
        client.soft_limit_since = None;
        if !exceeds(limit.hard) {
            return false;
        }
    }
    report_limit(client);
    true
}
