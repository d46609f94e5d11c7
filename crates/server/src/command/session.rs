//! The state of one connection that commands see and change.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::command::Command;
use crate::command::facts::{ClientFacts, ClientKind};
use crate::command::tracking::{Tracked, redirection};
use crate::engine::{Engine, WatchToken};
use crate::measure::Watch;
use crate::protocol::{OwnedRequest, ReplyWriter, Request, RespVersion};
use crate::pubsub::SubscriptionCounts;

/// What CLIENT REPLY asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ReplyMode {
    off: bool,
    /// The current command is not answered.
    skip: bool,
    /// The command behind the current one, or behind its transaction, is not answered.
    skip_next: bool,
}

impl ReplyMode {
    /// Whether everything is answered, now and next.
    pub(crate) fn is_on(self) -> bool {
        !(self.off | self.skip | self.skip_next)
    }

    /// Whether nothing is answered at the moment.
    pub(crate) fn is_silent(self) -> bool {
        self.off || self.skip
    }

    pub(crate) fn switch_on(&mut self) {
        self.off = false;
        self.skip = false;
    }

    pub(crate) fn switch_off(&mut self) {
        self.off = true;
    }

    pub(crate) fn skip_next(&mut self) {
        self.skip_next = !self.off;
    }

    /// RESET: everything is answered again, but for itself if it was to be skipped.
    pub(crate) fn reset(&mut self) {
        self.off = false;
        self.skip_next = false;
    }

    /// A command has ended, and with it a transaction that it has executed.
    pub(crate) fn end_command(&mut self) {
        self.skip = std::mem::take(&mut self.skip_next);
    }
}

/// Commands queued between MULTI and EXEC.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) queue: Vec<(&'static Command, OwnedRequest)>,
    pub(crate) bytes: usize,
    /// Union of the flags of all queued commands.
    pub(crate) flags: u64,
    /// Whether a queued command lacks the `loading` flag.
    pub(crate) denied_while_loading: bool,
    /// Whether a command could not be queued: EXEC is refused.
    pub(crate) failed: bool,
}

/// One connection. The executor keeps it and lends it to [`crate::command::execute`].
///
/// Before a session is dropped [`Session::close`] must be called, else its watched keys stay in the engine.
#[derive(Debug)]
pub struct Session {
    id: u64,
    pub(crate) db: u32,
    pub(crate) name: Vec<u8>,
    pub(crate) version: RespVersion,
    pub(crate) authenticated: bool,
    pub(crate) no_evict: bool,
    /// CLIENT NO-TOUCH: what it reads counts as unused as before.
    pub(crate) no_touch: bool,
    /// CLIENT SETINFO LIB-NAME.
    pub(crate) library_name: Vec<u8>,
    /// CLIENT SETINFO LIB-VER.
    pub(crate) library_version: Vec<u8>,
    pub(crate) reply_mode: ReplyMode,
    pub(crate) reply_suppressed: bool,
    /// What the current command has pushed while it is not answered: messages are sent all the same.
    pub(crate) pushed: Vec<u8>,
    /// CLIENT TRACKING: how the connection tracks.
    pub(crate) tracked: Option<Box<Tracked>>,
    pub(crate) transaction: Option<Transaction>,
    pub(crate) watches: BTreeMap<(u32, Box<[u8]>), WatchToken>,
    /// Bytes of all of `watches`.
    pub(crate) watched_bytes: usize,
    pub(crate) last_command: Option<&'static Command>,
    /// Times the command that the executor has still to finish.
    pub(crate) deferred: Option<Watch>,
    /// What the connection has subscribed to; the names are in the process's registry.
    pub(crate) subscriptions: SubscriptionCounts,
    /// MONITOR: the connection is shown what others do.
    pub(crate) monitors: bool,
    /// Offset in the replication stream behind the last effect of this session: what WAIT and WAITAOF wait for.
    /// Kept by the executor, which alone knows offsets.
    pub(crate) last_write_offset: u64,
}

impl Session {
    /// A new connection in database 0. `authenticated` when no password is asked for.
    pub fn new(id: u64, authenticated: bool) -> Session {
        Session {
            id,
            db: 0,
            name: Vec::new(),
            version: RespVersion::Resp2,
            authenticated,
            no_evict: false,
            no_touch: false,
            library_name: Vec::new(),
            library_version: Vec::new(),
            reply_mode: ReplyMode::default(),
            reply_suppressed: false,
            pushed: Vec::new(),
            tracked: None,
            transaction: None,
            watches: BTreeMap::new(),
            watched_bytes: 0,
            last_command: None,
            deferred: None,
            subscriptions: SubscriptionCounts::default(),
            monitors: false,
            last_write_offset: 0,
        }
    }

    /// Identifier, unique in the life of the process and increasing.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Selected database.
    pub(crate) fn db(&self) -> u32 {
        self.db
    }

    /// Dialect of the replies.
    pub fn version(&self) -> RespVersion {
        self.version
    }

    /// Whether the password was given, or none is asked for.
    pub(crate) fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// Lets a session that was opened while a password was asked for do without.
    pub(crate) fn trust(&mut self) {
        self.authenticated = true;
    }

    /// The only user there is.
    pub(crate) fn user(&self) -> &'static str {
        "default"
    }

    /// Whether commands are being queued.
    pub(crate) fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Flags of the last command that ran; a refused one does not count.
    pub(crate) fn last_command_flags(&self) -> u64 {
        self.last_command.map_or(super::flags::FAST, |command| command.flags)
    }

    /// Whether there is a subscription.
    pub(crate) fn is_subscriber(&self) -> bool {
        !self.subscriptions.is_empty()
    }

    /// Whether MONITOR has been given.
    pub(crate) fn is_monitor(&self) -> bool {
        self.monitors
    }

    /// The class of the connection, as CLIENT LIST TYPE and the limits of output know it.
    pub(crate) fn kind(&self) -> ClientKind {
        if self.is_subscriber() { ClientKind::PubSub } else { ClientKind::Normal }
    }

    /// Whether only subscriptions may be changed: RESP2 cannot tell messages from replies.
    pub(crate) fn is_restricted_to_subscriptions(&self) -> bool {
        self.version == RespVersion::Resp2 && self.is_subscriber()
    }

    /// Bytes of queued commands.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.transaction.as_ref().map_or(0, |transaction| transaction.bytes)
    }

    /// Whether the reply of the command that just ran must not be sent: for replies that the executor writes later.
    pub fn is_reply_suppressed(&self) -> bool {
        self.reply_suppressed
    }

    /// Takes back what a command has answered since `start`, if it is not to be answered. `is_message`: that is sent all the
    /// same.
    pub(crate) fn mute(&mut self, reply: &mut ReplyWriter<'_>, start: usize, is_message: bool) {
        if is_message {
            self.pushed.extend_from_slice(reply.written_since(start));
        }
        reply.rewind(start);
    }

    /// Sends a message on the connection of the command that runs: behind what it has been answered so far, or without that
    /// if it is not answered.
    pub(crate) fn push(&mut self, reply: &mut ReplyWriter<'_>, message: &[u8]) {
        if self.reply_mode.is_silent() {
            self.pushed.extend_from_slice(message);
        } else {
            reply.append(message);
        }
    }

    /// Whether CLIENT TRACKING is on.
    pub(crate) fn is_tracking(&self) -> bool {
        self.tracked.is_some()
    }

    /// Whether a command with any of these flags is queued.
    pub(crate) fn queues(&self, flags: u64) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.flags & flags != 0)
    }

    /// Whether the connection may be closed when all clients together hold too much (CLIENT NO-EVICT).
    pub(crate) fn may_be_evicted(&self) -> bool {
        !self.no_evict
    }

    /// Bytes held by a queued transaction and watches: `multi-mem` of CLIENT LIST.
    pub(crate) fn transaction_bytes(&self) -> usize {
        self.queued_bytes() + self.watched_bytes
    }

    /// Bytes held by a queued transaction, watches, subscriptions, tracking and the names, for memory accounting.
    pub fn memory_bytes(&self) -> usize {
        self.transaction_bytes()
            + self.subscriptions.bytes
            + self.tracked.as_ref().map_or(0, |tracked| tracked.memory_bytes())
            + self.pushed.capacity()
            + self.name.capacity()
            + self.library_name.capacity()
            + self.library_version.capacity()
    }

    /// Gives back what the session holds in the engine. The session can be used on.
    pub fn close(&mut self, engine: &mut Engine) {
        self.transaction = None;
        self.unwatch(engine);
    }

    pub(crate) fn unwatch(&mut self, engine: &mut Engine) {
        self.watched_bytes = 0;
        for token in std::mem::take(&mut self.watches).into_values() {
            engine.unwatch(token);
        }
    }

    pub(crate) fn queue(&mut self, command: &'static Command, request: &Request<'_>) {
        let Some(transaction) = &mut self.transaction else { return };
        let request = request.to_owned();
        transaction.bytes += request.memory_bytes();
        transaction.flags |= command.flags;
        transaction.denied_while_loading |= !command.has(crate::command::flags::LOADING);
        transaction.queue.push((command, request));
    }

    /// Marks the transaction, if there is one, as not to be executed.
    pub(crate) fn fail_transaction(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.failed = true;
        }
    }

    /// Appends this client's line of CLIENT LIST, with the fields of Redis 7.0 and the two of CLIENT SETINFO, and a line feed.
    pub fn write_client_line(&self, facts: &ClientFacts, out: &mut String) {
        let multi = self
            .transaction
            .as_ref()
            .map_or(-1, |transaction| i64::try_from(transaction.queue.len()).unwrap_or(i64::MAX));
        let mut kind = String::new();
        if self.monitors {
            kind.push('O');
        }
        if self.is_subscriber() {
            kind.push('P');
        }
        if self.transaction.is_some() {
            kind.push('x');
        }
        if facts.is_blocked {
            kind.push('b');
        }
        if let Some(tracked) = &self.tracked {
            kind.push('t');
            if tracked.broken {
                kind.push('R');
            }
            if tracked.mode.broadcasts {
                kind.push('B');
            }
        }
        if facts.is_closing {
            kind.push('c');
        }
        if facts.is_unix {
            kind.push('U');
        }
        if self.no_evict {
            kind.push('e');
        }
        if self.no_touch {
            kind.push('T');
        }
        if kind.is_empty() {
            kind.push('N');
        }
        writeln!(
            out,
            "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub={} psub={} ssub={} multi={} qbuf={} \
             qbuf-free={} argv-mem={} multi-mem={} rbs={} rbp=0 obl={} oll={} omem={} tot-mem={} events=r cmd={} user={} \
             redir={} resp={} lib-name={} lib-ver={}",
            self.id,
            facts.address,
            facts.local_address,
            facts.fd,
            String::from_utf8_lossy(&self.name),
            facts.age_s,
            facts.idle_s,
            kind,
            self.db,
            self.subscriptions.channels,
            self.subscriptions.patterns,
            self.subscriptions.shards,
            multi,
            facts.query_bytes,
            facts.query_free_bytes,
            facts.argument_bytes,
            self.transaction_bytes(),
            facts.reply_buffer_bytes,
            facts.output_bytes,
            facts.output_pieces,
            facts.output_pieces_bytes,
            facts.total_bytes,
            self.last_command.map_or("NULL", |command| command.full_name),
            self.user(),
            redirection(self),
            match self.version {
                RespVersion::Resp2 => 2,
                RespVersion::Resp3 => 3,
            },
            String::from_utf8_lossy(&self.library_name),
            String::from_utf8_lossy(&self.library_version),
        )
        .expect("writing to a string cannot fail");
    }
}
