//! Commands: one table that describes them, one file per family, and the way from a request to a reply.
//!
//! ```text
//!  Request ──▶ execute ──▶ table (lookup, arity) ──▶ gates (auth, memory, disk, loading) ──▶ queue (MULTI) or run
//!                                                                                             │
//!             reply bytes ◀── ReplyWriter ◀──────────── family function ──▶ Keyspace ──▶ Engine + EffectBuffer
//!                                                             └──▶ Host (what only the process knows)
//! ```
//!
//! Pure: time, settings and the process come in through [`Context`]. A command runs to completion; one that must wait
//! (for a disk, for time) returns [`Outcome::Deferred`] and the executor finishes it.

mod args;
mod bits;
mod blocking;
mod client;
mod config;
mod connection;
mod debug;
mod dump;
pub(crate) mod error;
mod expiry;
mod facts;
mod hashes;
pub(crate) mod host;
mod info;
mod introspect;
mod keys;
mod latency;
mod lists;
mod long_double;
pub(crate) mod memory;
mod monitor;
mod numbers;
mod observe;
mod pubsub;
mod random;
mod replay;
mod scan;
mod server;
pub(crate) mod session;
mod sets;
mod slow_log;
mod sorted_sets;
mod sorting;
mod store;
mod strings;
pub mod table;
pub(crate) mod timing;
mod tracking;
mod transaction;

pub(crate) use error::ReplyError;
pub use facts::{ClientFacts, ClientKind};
pub use host::{ClientFilter, DebugRequest, Host, InfoSection, JobStart, Killed, PauseMode, ShutdownOptions};
pub use memory::{MemoryFacts, TableMemory};
pub(crate) use monitor::line as monitor_line;
pub use replay::{ReplayError, Replayer};
pub use session::Session;
pub use table::{Command, flags};

use std::time::Duration;

use crate::engine::effects::EffectBuffer;
use crate::engine::object::Kind;
use crate::engine::{Engine, Keyspace, Room};
use crate::limits::{KEY_LEN_MAX, STRING_LEN_MAX, STRING_LEN_MAX_DEFAULT};
use crate::measure::{Meter, Noted};
use crate::protocol::{ReplyWriter, Request};

/// Settings that commands obey, as they are at the moment.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// Limit for the data and for what clients hold, in bytes; 0 is none.
    pub maxmemory: u64,
    /// What clients hold, in bytes.
    pub clients_memory: u64,
    /// Whether keys may be evicted now: not while a pause promises that nothing is written.
    pub may_evict: bool,
    /// How long a command may evict; none is no limit.
    pub eviction_time_max: Option<Duration>,
    /// Longest string in bytes (`proto-max-bulk-len`).
    pub proto_max_bulk_len: u64,
    /// Whether a password is asked for (`requirepass`).
    pub auth_required: bool,
    /// Whether this connection may use DEBUG (`enable-debug-command`).
    pub debug_allowed: bool,
    /// The data set is being loaded.
    pub loading: bool,
    /// Error text (`MISCONF …`) for commands that write, while they must not.
    pub write_block: Option<&'a str>,
    /// Bytes that wait for a client beyond which it is closed in the middle of a transaction; 0 is no limit.
    pub replies_len_max: u64,
    /// Somebody is shown what is executed (MONITOR), keyspace events are published, a client tracks keys, or what this
    /// connection reads counts as unused (CLIENT NO-TOUCH).
    pub observed: bool,
}

impl Default for Settings<'_> {
    fn default() -> Self {
        Settings {
            maxmemory: 0,
            clients_memory: 0,
            may_evict: true,
            eviction_time_max: None,
            proto_max_bulk_len: STRING_LEN_MAX_DEFAULT,
            auth_required: false,
            debug_allowed: false,
            loading: false,
            write_block: None,
            replies_len_max: 0,
            observed: false,
        }
    }
}

/// Everything a command works with, apart from its connection.
pub struct Context<'a> {
    /// The data.
    pub engine: &'a mut Engine,
    /// Where changes are recorded for the log.
    pub effects: &'a mut EffectBuffer,
    /// The process.
    pub host: &'a mut dyn Host,
    /// Settings.
    pub settings: Settings<'a>,
    /// Wall time of this turn in milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The reply is in the buffer; no bytes when the client asked not to be answered.
    Done,
    /// As [`Outcome::Done`], then the connection is closed behind the reply.
    Close,
    /// The replies of a transaction exceed what the client may leave unread: it gets none of them and is closed.
    Overrun,
    /// Nothing was written. The executor does the rest and writes the reply, unless
    /// [`Session::is_reply_suppressed`]; commands of this connection that follow wait for it.
    Deferred(Deferred),
}

/// What the executor has still to do for a command, and how it replies then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deferred {
    /// WAIT: integer, the number of replicas that have [`Session::last_write_offset`]. `timeout_ms` 0 is for ever. One that waits
    /// for nothing is left to the executor as well: a persistence point may belong to it.
    Wait {
        /// Replicas asked for.
        replicas: u64,
        /// Longest wait.
        timeout_ms: u64,
    },
    /// WAITAOF: array of two integers, 1 if [`Session::last_write_offset`] is on the local disk else 0, and the number
    /// of replicas that have it on theirs. As WAIT, also when it waits for nothing.
    WaitAof {
        /// 1 if the local disk is asked for.
        local: u64,
        /// Replicas asked for.
        replicas: u64,
        /// Longest wait; 0 is for ever.
        timeout_ms: u64,
    },
    /// BLPOP and its relatives: [`retry`] when one of the keys holds a value of the type; a null array when the time is over.
    Block {
        /// The type that is waited for.
        kind: Kind,
        /// Place of the first key among the arguments.
        first_key: usize,
        /// Number of keys.
        keys: usize,
        /// Longest wait; 0 is for ever.
        timeout_ms: u64,
    },
    /// SAVE: `+OK`, or an error.
    Save,
    /// SHUTDOWN: no reply and the process ends, or an error.
    Shutdown(ShutdownOptions),
    /// DEBUG RELOAD, LOADAOF: `+OK`, or an error.
    Debug(DebugRequest),
}

/// A command at work.
pub(crate) struct Call<'c, 'x> {
    pub(crate) ctx: &'c mut Context<'x>,
    pub(crate) session: &'c mut Session,
    pub(crate) command: &'static Command,
    pub(crate) request: Request<'c>,
    pub(crate) reply: ReplyWriter<'c>,
    /// Inside EXEC, where nothing may wait.
    pub(crate) in_exec: bool,
    /// It has waited and is run again, because this key has become ready; it may take from no other one.
    pub(crate) ready_key: Option<&'c [u8]>,
}

/// What a family function returns.
pub(crate) type Run = Result<Outcome, ReplyError>;

impl<'c> Call<'c, '_> {
    /// The selected database.
    pub(crate) fn keys(&mut self) -> Keyspace<'_> {
        Keyspace::new(self.ctx.engine, self.ctx.effects, self.session.db, self.ctx.now_ms)
    }

    /// The selected database, and the reply that is written from it.
    pub(crate) fn keys_and_reply(&mut self) -> (Keyspace<'_>, &mut ReplyWriter<'c>) {
        let keys = Keyspace::new(self.ctx.engine, self.ctx.effects, self.session.db, self.ctx.now_ms);
        (keys, &mut self.reply)
    }

    /// Longest string that may come into being, in bytes.
    pub(crate) fn string_len_max(&self) -> u64 {
        self.ctx.settings.proto_max_bulk_len.min(STRING_LEN_MAX)
    }

    /// Whether a log is being replayed, where the clock does not count.
    pub(crate) fn is_replay(&self) -> bool {
        self.ctx.engine.is_replaying()
    }

    pub(crate) fn arg(&self, index: usize) -> &'c [u8] {
        self.request.arg(index)
    }

    pub(crate) fn len(&self) -> usize {
        self.request.len()
    }

    /// Records the command as it came as its own effect, in the selected database.
    pub(crate) fn log_verbatim(&mut self) {
        self.log_iter(self.request.args_from(0));
    }

    /// Records an effect in the selected database.
    pub(crate) fn log(&mut self, args: &[&[u8]]) {
        self.log_iter(args.iter().copied());
    }

    /// Records an effect in the selected database, given as an iterator over its arguments.
    pub(crate) fn log_iter<'a>(&mut self, args: impl ExactSizeIterator<Item = &'a [u8]>) {
        self.ctx.effects.push_iter(self.session.db, args);
        self.ctx.engine.logged();
    }
}

/// Executes one request of one connection.
///
/// The reply is appended to `reply`; what must be logged is appended to `ctx.effects`. Errors are replies: the function
/// never fails and never panics on what a client sent.
pub fn execute(
    ctx: &mut Context<'_>,
    session: &mut Session,
    request: &Request<'_>,
    mut reply: ReplyWriter<'_>,
) -> Outcome {
    session.reply_suppressed = session.reply_mode.is_silent();
    let outcome = dispatch(ctx, session, request, reply.reborrow());
    if ctx.settings.observed || session.reply_suppressed || !session.reply_mode.is_on() {
        end(ctx, session, request, &mut reply);
    }
    outcome
}

/// What is done in front of a command only where [`Settings::observed`] is set.
#[cold]
fn begin(
    ctx: &mut Context<'_>,
    session: &mut Session,
    command: &'static Command,
    reply: &mut ReplyWriter<'_>,
) {
    // TOUCH is there to touch.
    ctx.engine.set_keeps_access(session.no_touch && command.name != "touch");
    tracking::before(ctx, session, reply);
}

/// What is done behind a command only there, and where replies are switched off.
#[cold]
fn end(ctx: &mut Context<'_>, session: &mut Session, request: &Request<'_>, reply: &mut ReplyWriter<'_>) {
    ctx.engine.set_keeps_access(false);
    reply.append(&std::mem::take(&mut session.pushed));
    session.reply_mode.end_command();
    tracking::after(session, request);
}

/// Whether a reply is one that CLIENT REPLY cannot switch off: that a subscription has begun or ended.
fn confirms_subscription(command: &Command, reply: &[u8]) -> bool {
    const BOTH: u64 = flags::PUBSUB | flags::SUBSCRIBER;
    !reply.starts_with(b"-") && command.flags & BOTH == BOTH
}

/// Runs a command again that has waited for keys, on the one that has become ready. [`Outcome::Deferred`] means that it waits
/// on; otherwise it is to be noted with [`timing::note_resumed`].
pub(crate) fn retry<'c>(
    ctx: &'c mut Context<'_>,
    session: &'c mut Session,
    request: &Request<'c>,
    ready_key: &'c [u8],
    mut reply: ReplyWriter<'c>,
) -> (Outcome, Noted) {
    let Ok(command) = table::resolve(request) else { return (Outcome::Done, Noted::default()) };
    let start = reply.position();
    let watch = ctx.host.meter().map(Meter::begin_alone);
    ctx.effects.begin_unit(true);
    let (in_exec, ready_key) = (false, Some(ready_key));
    let mut call =
        Call { ctx, session, command, request: *request, reply: reply.reborrow(), in_exec, ready_key };
    if call.ctx.settings.observed {
        call.ctx.engine.tracking().set_author(call.session.id());
    }
    let result = (command.run)(&mut call);
    ctx.engine.check_logged(command.full_name);
    ctx.effects.end_unit();
    let outcome = result.unwrap_or_else(|error| {
        reply.rewind(start);
        fail(ctx, command, &mut reply, &error);
        Outcome::Done
    });
    if session.is_reply_suppressed() {
        reply.rewind(start);
    }
    if ctx.settings.observed {
        // Events are published when everybody has been served who waited. MONITOR has shown the command when it began to wait.
        tracking::tell(ctx, session);
        tracking::tell_own(ctx, session, &mut reply);
        reply.append(&std::mem::take(&mut session.pushed));
    }
    (outcome, timing::end_retry(ctx, command, watch, outcome))
}

fn dispatch<'c>(
    ctx: &'c mut Context<'_>,
    session: &'c mut Session,
    request: &Request<'c>,
    mut reply: ReplyWriter<'c>,
) -> Outcome {
    ctx.engine.stats.commands += 1;
    let command = match table::resolve(request) {
        Ok(command) => command,
        Err(table::Unresolved { error, command }) => {
            reject(ctx, session, &mut reply, &error, command);
            return Outcome::Done;
        }
    };
    if request.arg_len_bound() > KEY_LEN_MAX
        && command.has_key_longer_than(KEY_LEN_MAX, &request.args_from(0).collect::<Vec<_>>())
    {
        reject(ctx, session, &mut reply, &error::KEY_TOO_LONG, Some(command));
        return Outcome::Done;
    }
    let admitted = check_gates(ctx, session, command);
    if ctx.settings.observed {
        observe::observe_eviction(ctx, session, &mut reply);
    }
    if let Err(error) = admitted {
        reject(ctx, session, &mut reply, &error, Some(command));
        return Outcome::Done;
    }
    if ctx.settings.observed {
        begin(ctx, session, command, &mut reply);
    }
    if session.transaction.is_some() && !command.has(flags::RUNS_IN_MULTI) {
        session.queue(command, request);
        if !session.reply_mode.is_silent() {
            reply.simple("QUEUED");
        }
        return Outcome::Done;
    }
    session.last_command = Some(command);
    ctx.effects.begin_unit(!command.has(flags::TOUCHES_ARBITRARY_KEYS));
    let outcome = run(ctx, session, command, *request, reply, false);
    ctx.effects.end_unit();
    outcome
}

/// Answers a request with an error in place of executing it. An EXEC ends its transaction.
pub(crate) fn refuse(
    ctx: &mut Context<'_>,
    session: &mut Session,
    request: &Request<'_>,
    mut reply: ReplyWriter<'_>,
    error: &ReplyError,
) -> Outcome {
    reject(ctx, session, &mut reply, error, table::find(request.arg(0)));
    Outcome::Done
}

/// Answers a command that is not run. An EXEC ends its transaction.
fn reject(
    ctx: &mut Context<'_>,
    session: &mut Session,
    reply: &mut ReplyWriter<'_>,
    error: &ReplyError,
    command: Option<&'static Command>,
) {
    let start = reply.position();
    if let (Some(command), Some(meter)) = (command, ctx.host.meter()) {
        meter.rejected(command);
    }
    let engine = &mut *ctx.engine;
    session.fail_transaction();
    if command.is_some_and(|command| command.has(flags::EXEC)) {
        session.close(engine);
        let cause = error.text();
        // The code of a general error is added by what would have written it, and is missing here, as in Redis.
        let cause = cause.strip_prefix(b"ERR ").unwrap_or(&cause);
        write_error(engine, reply, &error::exec_aborted(cause));
    } else {
        write_error(engine, reply, error);
    }
    if session.reply_mode.is_silent() {
        session.mute(reply, start, false);
    }
}

/// Runs one command and writes its error, if that is how it ends.
pub(crate) fn run<'c>(
    ctx: &'c mut Context<'_>,
    session: &'c mut Session,
    command: &'static Command,
    request: Request<'c>,
    mut reply: ReplyWriter<'c>,
    in_exec: bool,
) -> Outcome {
    let start = reply.position();
    let ready_key = None;
    let silent = session.reply_mode.is_silent();
    let watch = ctx.host.meter().map(|meter| meter.begin(command));
    let mut call = Call { ctx, session, command, request, reply: reply.reborrow(), in_exec, ready_key };
    let result = (command.run)(&mut call);
    ctx.engine.check_logged(command.full_name);
    // The replies of a transaction are taken back one by one.
    let is_whole = !command.has(flags::EXEC) || result.is_err();
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(error) => {
            reply.rewind(start);
            fail(ctx, command, &mut reply, &error);
            Outcome::Done
        }
    };
    // CLIENT REPLY ON is answered.
    if silent && is_whole && session.reply_mode.is_silent() {
        let is_message = confirms_subscription(command, reply.written_since(start));
        session.mute(&mut reply, start, is_message);
    }
    if let Some(watch) = watch {
        timing::end(ctx, session, command, &request, watch, outcome);
    }
    if ctx.settings.observed {
        observe::observe(ctx, session, command, &request, &mut reply, start, in_exec);
    }
    outcome
}

/// Answers a command that has failed.
#[cold]
fn fail(ctx: &mut Context<'_>, command: &'static Command, reply: &mut ReplyWriter<'_>, error: &ReplyError) {
    if let Some(meter) = ctx.host.meter() {
        meter.failed(command);
    }
    write_error(ctx.engine, reply, error);
}

pub(crate) fn write_error(engine: &mut Engine, reply: &mut ReplyWriter<'_>, error: &ReplyError) {
    let text = error.text();
    engine.stats.record_error(&text);
    reply.error(&text);
}

/// Whether memory may grow. Evicts for it, a bounded time: who comes then evicts further.
fn has_room(ctx: &mut Context<'_>) -> bool {
    let settings = &ctx.settings;
    let limit = settings.maxmemory.saturating_sub(settings.clients_memory);
    if ctx.engine.counted_memory() <= limit || settings.loading || !settings.may_evict {
        return true;
    }
    let started = ctx.host.monotonic();
    let is_late = || settings.eviction_time_max.is_some_and(|max| ctx.host.monotonic() - started >= max);
    ctx.engine.make_room(limit, ctx.now_ms, ctx.effects, is_late) != Room::None
}

/// What stands between a known command and its execution. The order is that of Redis 7.0.
fn check_gates(
    ctx: &mut Context<'_>,
    session: &Session,
    command: &'static Command,
) -> Result<(), ReplyError> {
    if command.has(flags::PROTECTED) && !ctx.settings.debug_allowed {
        return Err(error::protected(command.name));
    }
    if ctx.settings.auth_required && !session.authenticated && !command.has(flags::NO_AUTH) {
        return Err(error::NO_AUTH);
    }
    let queued = session.transaction.as_ref();
    if queued.is_some() && command.has(flags::NO_MULTI) {
        return Err(error::NO_MULTI);
    }
    // EXEC answers for what it would run.
    let runs = command.flags | if command.has(flags::EXEC) { queued.map_or(0, |it| it.flags) } else { 0 };
    if ctx.settings.maxmemory > 0 {
        // Queueing grows memory too, whatever is queued.
        let queues = queued.is_some() && !command.has(flags::ENDS_MULTI);
        if (runs & flags::DENYOOM != 0 || queues) && !has_room(ctx) {
            return Err(error::OUT_OF_MEMORY);
        }
    }
    if let Some(text) = ctx.settings.write_block
        && (runs & flags::WRITE != 0 || command.has(flags::PING))
    {
        return Err(ReplyError::from(text.to_owned()));
    }
    if session.is_subscriber() && session.is_restricted_to_subscriptions() && !command.has(flags::SUBSCRIBER)
    {
        return Err(error::only_subscriptions(command.full_name));
    }
    if session.monitors && runs & (flags::WRITE | flags::READONLY | flags::MAY_REPLICATE) != 0 {
        return Err(error::MONITOR_IN_KEYSPACE);
    }
    if ctx.settings.loading {
        let denied = !command.has(flags::LOADING)
            || (command.has(flags::EXEC) && queued.is_some_and(|it| it.denied_while_loading));
        if denied {
            return Err(error::LOADING);
        }
    }
    Ok(())
}
