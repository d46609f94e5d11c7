//! Who is ready is read, then executed in order: two phases, so that keys are on their way into the cache when their
//! command comes.
//!
//! Requests are decoded where they were read; only what is left over is copied into a buffer of its client. A client gets a
//! share of the turn in bytes and the turn ends in time: what is not executed then goes on in the next one.

use std::cell::Cell;
use std::ops::Range;
use std::time::Duration;

use super::blocked::Blocked;
use super::client::Client;
use super::host::only_reads;
use super::limits::note_stranger;
use super::outbox::{exceeds_hard_limit, replies_len_max, report_overrun};
use super::waiting::WaitKind;
use super::{Executor, ExecutorError};
use crate::clock::TurnClock;
use crate::command::{Context, DebugRequest, Deferred, Outcome, Session, flags, table, timing};
use crate::limits::{UNAUTHENTICATED_OUTPUT_LEN_MAX, UNAUTHENTICATED_REQUEST_LEN_MAX};
use crate::network::connection::{READ_LEN_MAX, ReadOutcome};
use crate::network::hints;
use crate::persistence::directives::Event as PointEvent;
use crate::protocol::{DecodeLimits, Decoder};

/// Bytes received in one batch. What they and their keys take stays in the second-level cache until they are executed.
const ARENA_LEN: usize = 2 * READ_LEN_MAX;
/// Nanoseconds for executing in one turn; others wait meanwhile.
const TURN_MAX_NS: u64 = 2_000_000;
/// Fast commands between two looks at the clock. Others count for more: see [`weight`].
const COMMANDS_PER_LOOK: u32 = 64;
/// An attack is reported at most this often.
const ATTACK_REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// What was read in the first phase.
pub(super) struct Batch {
    arena: Vec<u8>,
    received: Vec<Received>,
    /// Clients that were served and have more: behind all others in the next turn.
    again: Vec<usize>,
    /// Clients that were read and had no time left: in front of all others in the next turn.
    unserved: Vec<usize>,
    /// Commands until the next look at the clock.
    until_look: u32,
}

struct Received {
    slot: usize,
    /// Where in the arena; of no meaning if the client has an input of its own.
    bytes: Range<usize>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            arena: vec![0; ARENA_LEN],
            received: Vec::new(),
            again: Vec::new(),
            unserved: Vec::new(),
            until_look: COMMANDS_PER_LOOK,
        }
    }
}

/// Why the commands of a client are not executed further at the moment.
enum Stop {
    /// The next request is not whole yet.
    Starved,
    /// It waits, or a pause holds it.
    Held,
    /// Too much output waits.
    Stalled,
    /// The turn is over.
    Late,
    /// The connection ends.
    Closing,
    /// It gets no answer any more: its replies exceed what it may be sent.
    Overrun,
}

/// Tells which command was at work when a panic unwinds.
struct Witness<'a> {
    bytes: &'a [u8],
    client: u64,
    name: Cell<(usize, usize)>,
}

impl Witness<'_> {
    /// Notes the name of the command that is about to run, a part of the bytes (an inline command is none).
    fn note(&self, name: &[u8]) {
        self.name.set((name.as_ptr().addr().wrapping_sub(self.bytes.as_ptr().addr()), name.len()));
    }
}

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (at, len) = self.name.get();
            let name = at.checked_add(len).and_then(|end| self.bytes.get(at..end)).unwrap_or_default();
            let command = table::find(name).map_or("unknown", |command| command.name);
            tracing::error!(command, client = self.client, "a command has panicked");
        }
    }
}

/// Whether a command of this name may change data.
fn may_write(name: &[u8]) -> bool {
    table::find(name).is_some_and(|command| command.has(flags::WRITE | flags::EXEC))
}

/// For how many fast commands the last one counts: what may take long is followed by a look at the clock.
fn weight(session: &Session) -> u32 {
    let last = session.last_command_flags();
    if last & flags::FAST != 0 {
        1
    } else if last & flags::WRITE != 0 {
        // SET is among them.
        8
    } else {
        COMMANDS_PER_LOOK
    }
}

/// Whether a request begins like one of HTTP: a web page makes a browser send it.
fn is_attack(name: &[u8]) -> bool {
    match name.len() {
        4 => name.eq_ignore_ascii_case(b"post"),
        5 => name.eq_ignore_ascii_case(b"host:"),
        _ => false,
    }
}

impl Executor {
    /// Serves the clients that are ready, each once, until none is left or the turn is over.
    pub(super) fn serve_ready(&mut self) -> Result<(), ExecutorError> {
        // By the clock of the meter: what is timed alone has read it anyway.
        let deadline = self.core.meter.reading() + TURN_MAX_NS;
        self.is_late = false;
        self.save_is_behind =
            self.core.journal.as_ref().is_some_and(|journal| journal.save_is_behind(&self.engine));
        while !self.ready.is_empty() && !self.core.stopping && !self.is_late {
            self.receive();
            self.close_those_without_room();
            self.execute_batch(deadline)?;
            self.is_late |= self.has_no_room();
        }
        while let Some(slot) = self.batch.unserved.pop() {
            if let Some(client) = self.core.clients.get_mut(slot) {
                client.queued = true;
                self.ready.push_front(slot);
            }
        }
        for slot in std::mem::take(&mut self.batch.again) {
            self.enqueue(slot);
        }
        Ok(())
    }

    /// First phase: reads from those who are ready, as far as the arena reaches.
    fn receive(&mut self) {
        let Self { core, engine, batch, ready, .. } = self;
        batch.received.clear();
        engine.look_ahead_in(&batch.arena);
        let mut filled = 0;
        // Those with a buffer of their own, which may have grown.
        let mut grown = Vec::new();
        while ARENA_LEN - filled >= READ_LEN_MAX {
            let Some(slot) = ready.pop_front() else { break };
            let Some(client) = core.clients.get_mut(slot) else { continue };
            // The slot may stand in the queue for a client that has gone, and again for the one in its place: that is served once.
            if !std::mem::replace(&mut client.queued, false) || client.is_held() {
                continue;
            }
            let start = filled;
            // What came before is executed before more is read: what a client makes the server hold is bounded.
            if client.readable && !client.has_work {
                let connection = &mut client.connection;
                let space = &mut batch.arena[filled..filled + READ_LEN_MAX];
                let result = if !client.session.is_authenticated() {
                    // A byte more than it may send is read, so that the decoder sees that it is too much.
                    let room = (UNAUTHENTICATED_REQUEST_LEN_MAX + 1).saturating_sub(connection.input.len());
                    connection.read_exactly(&mut space[..room.max(1)])
                } else if connection.input.is_empty() {
                    connection.read(space)
                } else {
                    connection.read_more(client.decoder.needed_len(), client.decoder.is_long_argument())
                };
                if connection.input.is_empty()
                    && let Ok((len, _)) = &result
                {
                    filled += len;
                }
                grown.extend((!connection.input.is_empty()).then_some(slot));
                match result {
                    Ok((len, outcome)) => {
                        core.stats.input_bytes += len as u64;
                        core.stats.reads += 1;
                        client.last_active = core.clock.now;
                        client.readable = outcome == ReadOutcome::More;
                        client.ended |= outcome == ReadOutcome::Closed;
                    }
                    Err(_) => {
                        // Broken: what was received before is executed, and nobody is answered.
                        client.readable = false;
                        client.ended = true;
                    }
                }
            }
            let own = &client.connection.input;
            let bytes = if own.is_empty() { &batch.arena[start..filled] } else { &own[..] };
            // A stranger is given no key, and the front of a request in progress was looked at when it came: whoever sends byte
            // by byte would have all of it looked at each time.
            if client.session.is_authenticated() && client.decoder.understood_len() == 0 {
                let db = client.session.db();
                let mut last: Option<&[u8]> = None;
                hints::for_each_key(&bytes[..bytes.len().min(READ_LEN_MAX)], |key| {
                    if last == Some(key) {
                        engine.look_ahead_again(key);
                    } else {
                        engine.look_ahead(db, key);
                    }
                    last = Some(key);
                });
            }
            batch.received.push(Received { slot, bytes: start..filled });
        }
        engine.look_at_entries();
        for slot in grown {
            core.clients.settle(slot);
        }
    }

    /// Whether clients hold too much together. Output of this turn may still leave.
    fn has_no_room(&self) -> bool {
        self.core.clients.ledger().client_to_evict(self.core.client_memory_max).is_some()
    }

    /// Second phase: executes what was received, in order.
    fn execute_batch(&mut self, deadline: u64) -> Result<(), ExecutorError> {
        let received = std::mem::take(&mut self.batch.received);
        let arena = std::mem::take(&mut self.batch.arena);
        let mut result = Ok(());
        for Received { slot, bytes } in &received {
            if self.core.stopping {
                // What was saved for the stop is what there is: nothing may be executed after it.
                break;
            }
            // A client may be gone: another has killed it.
            let Some(client) = self.core.clients.take(*slot) else { continue };
            // What others have been answered leaves before more is executed: what is left then has no room.
            self.is_late |= self.has_no_room();
            result = self.serve(*slot, client, &arena[bytes.clone()], deadline);
            if result.is_err() {
                break;
            }
        }
        self.core.meter.pause();
        self.batch.arena = arena;
        self.batch.received = received;
        result
    }

    /// Executes what one client has sent, as far as it goes.
    fn serve(
        &mut self,
        slot: usize,
        mut client: Box<Client>,
        received: &[u8],
        deadline: u64,
    ) -> Result<(), ExecutorError> {
        let input = std::mem::take(&mut client.connection.input);
        let has_own = !input.is_empty();
        debug_assert!(!has_own || received.is_empty(), "what a client has sent is in one place");
        let bytes = if has_own { &input[..] } else { received };
        self.core.enter(slot, &client, bytes.len(), input.capacity() - input.len());
        self.core.outbox.lend(&mut client);
        let executed = self.execute_input(slot, &mut client, bytes, deadline);
        self.core.leave();
        let (consumed, stop) = match executed {
            Ok(executed) => executed,
            Err(error) => {
                // The executor ends, and closes all connections with it.
                self.core.clients.put_back(slot, client);
                return Err(error);
            }
        };
        if has_own {
            let kept_max = self.core.kept_room_max.saturating_sub(self.core.clients.kept_room());
            client.connection.put_back_input(input, consumed, kept_max);
        } else {
            let needed_len = client.long_needed_len();
            client.connection.input = input;
            client.connection.keep(&received[consumed..], needed_len);
        }
        if !client.session.is_authenticated() {
            // It may have been trusted until now.
            client.connection.give_up_room();
        }
        client.has_work = !matches!(stop, Stop::Starved | Stop::Closing);
        note_stranger(&mut client, consumed, self.core.clock.now, self.core.pause_end());
        match stop {
            Stop::Overrun => {
                self.forget_client(slot, client);
                return Ok(());
            }
            Stop::Starved if self.holds_too_much(&client) => {
                self.forget_client(slot, client);
                return Ok(());
            }
            Stop::Starved if client.ended => client.closing = true,
            Stop::Starved if client.readable => self.batch.again.push(slot),
            // Nobody is left to be answered, save for what came before.
            Stop::Held if client.ended || client.connection.is_end_announced() => {
                self.end_hold(slot, &mut client);
                client.closing = true;
            }
            Stop::Late if consumed == 0 => self.batch.unserved.push(slot),
            Stop::Late => self.batch.again.push(slot),
            Stop::Stalled => client.stalled = true,
            Stop::Starved | Stop::Held | Stop::Closing => {}
        }
        if client.closing {
            client.connection.input = Vec::new();
        }
        if client.closing || !client.connection.output.is_empty() {
            self.core.outbox.mark(slot, &mut client);
        } else {
            self.core.outbox.take_back(&mut client);
        }
        self.core.clients.put_back(slot, client);
        Ok(())
    }

    /// Whether a client has sent more of a request, or queued more, than it may; says so in the log. Before authentication the
    /// decoder refuses much less: see [`crate::limits::UNAUTHENTICATED_REQUEST_LEN_MAX`].
    fn holds_too_much(&self, client: &Client) -> bool {
        let held = client.connection.input.len() + client.session.queued_bytes();
        let limit = if client.session.is_authenticated() {
            self.core.config.client_query_buffer_limit
        } else {
            UNAUTHENTICATED_REQUEST_LEN_MAX as u64
        };
        let holds_too_much = held as u64 > limit;
        if holds_too_much {
            tracing::warn!(
                client = client.session.id(),
                address = client.connection.peer_name(),
                held,
                limit,
                "client closed: it reached the limit of its query buffer"
            );
        }
        holds_too_much
    }

    fn execute_input(
        &mut self,
        slot: usize,
        client: &mut Client,
        bytes: &[u8],
        deadline: u64,
    ) -> Result<(usize, Stop), ExecutorError> {
        let witness = Witness { bytes, client: client.session.id(), name: Cell::new((0, 0)) };
        let mut consumed = 0;
        let mut settings = self.core.settings(client);
        let mut revision = self.core.revision;
        if self.is_late {
            return Ok((0, Stop::Late));
        }
        loop {
            let limits = DecodeLimits {
                bulk_len_max: settings.proto_max_bulk_len,
                authenticated: client.session.is_authenticated(),
                inline: true,
            };
            let step = match client.decoder.decode(&bytes[consumed..], &limits) {
                Ok(step) => step,
                Err(error) => {
                    let text = error.reply_text();
                    self.engine.stats.record_error(&text);
                    client.connection.output.writer(client.session.version()).error(&text);
                    client.closing = true;
                    return Ok((consumed, Stop::Closing));
                }
            };
            let Some(request) = step.request else {
                return Ok((consumed + step.consumed, Stop::Starved));
            };
            let name = request.arg(0);
            // A pause promises that nothing changes, and a command that only reads removes nothing.
            let mut keeps_expired = false;
            if self.core.pause.is_some() {
                if self.core.is_paused(&client.session, &request) {
                    // Executed again from the same bytes when the pause is over.
                    client.postponed = true;
                    self.core.paused.push(slot);
                    client.decoder = Decoder::new();
                    return Ok((consumed, Stop::Held));
                }
                keeps_expired = table::resolve(&request).is_ok_and(|it| only_reads(&client.session, it));
            }
            if self.save_is_behind && may_write(name) {
                // Executed again from the same bytes in the next turn.
                client.decoder = Decoder::new();
                return Ok((consumed, Stop::Late));
            }
            consumed += step.consumed;
            if is_attack(name) {
                self.report_attack(client);
                return Ok((consumed, Stop::Closing));
            }
            witness.note(name);
            let is_exec = client.session.in_transaction() && name.eq_ignore_ascii_case(b"exec");
            let mut refusal = None;
            let mut overrun = false;
            if is_exec && self.core.points.before(PointEvent::Exec) {
                self.core.meter.pause();
                refusal = self.commit_point("persist-before-exec")?.err();
            }
            let effects_before = self.effects.len();
            let evicted_before = self.engine.stats.evicted_keys;
            if keeps_expired {
                self.engine.set_keeps_expired(true);
            }
            let now_ms = self.core.clock.now_ms;
            let mut context = Context {
                engine: &mut self.engine,
                effects: &mut self.effects,
                host: &mut self.core,
                settings,
                now_ms,
            };
            let reply = client.connection.output.writer(client.session.version());
            let reply_start = reply.position();
            let session = &mut client.session;
            let outcome = match refusal {
                None => crate::command::execute(&mut context, session, &request, reply),
                Some(failed) => {
                    let error = failed.reply("persist-before-exec: nothing was executed").into();
                    crate::command::refuse(&mut context, session, &request, reply, &error)
                }
            };
            if keeps_expired {
                self.engine.set_keeps_expired(false);
            }
            if self.effects.len() > effects_before {
                client.session.last_write_offset = self.core.offset() + self.effects.len() as u64;
                if is_exec && outcome != Outcome::Overrun && self.core.points.after(PointEvent::Exec) {
                    self.core.promise(slot, client.session.id(), &client.connection.output, reply_start);
                }
            }
            if !self.core.killed.is_empty() {
                self.drop_killed();
            }
            match outcome {
                Outcome::Done => {}
                Outcome::Close => client.closing = true,
                Outcome::Overrun => {
                    report_overrun(client);
                    overrun = true;
                }
                Outcome::Deferred(Deferred::Block { kind, first_key, keys, timeout_ms }) => {
                    let keys = request.args_from(first_key).take(keys);
                    let blocked = Blocked::new(client.session.db, kind, keys, request.to_owned());
                    self.block_on_keys(slot, client, blocked, timeout_ms);
                }
                Outcome::Deferred(deferred) => {
                    let request = request.to_owned();
                    let errors = self.engine.stats.error_replies;
                    self.defer(slot, client, deferred)?;
                    let failed = self.engine.stats.error_replies > errors;
                    timing::end_deferred(&mut self.core, &mut client.session, &request.as_request(), failed);
                    // Some of it is no command's: a point before a wait.
                    self.core.meter.pause();
                }
            }
            // Order matters: who was unblocked by a transaction is not served by what it wrote.
            if !self.core.unblocked.is_empty() {
                self.end_unblocked();
            }
            if self.serve_blocked() {
                self.tell_late(client);
            }
            if revision != self.core.revision {
                revision = self.core.revision;
                settings = self.core.settings(client);
                self.core.configure(&mut self.engine);
            }
            if overrun || exceeds_hard_limit(client, &self.core.config.client_output_buffer_limit) {
                return Ok((consumed, Stop::Overrun));
            }
            if client.closing {
                return Ok((consumed, Stop::Closing));
            }
            if client.waiting.is_some() {
                return Ok((consumed, Stop::Held));
            }
            let unsent = client.connection.unsent_len();
            if unsent > UNAUTHENTICATED_OUTPUT_LEN_MAX
                && unsent as u64
                    > replies_len_max(&client.session, &self.core.config, self.core.client_memory_max)
            {
                return Ok((consumed, Stop::Stalled));
            }
            if self.core.has_promised(slot) {
                return Ok((consumed, Stop::Late));
            }
            // What was evicted for a command takes time as well. CONFIG RESETSTAT begins at zero again.
            let evicted = self.engine.stats.evicted_keys.saturating_sub(evicted_before);
            let weight = weight(&client.session).saturating_add(u32::try_from(evicted).unwrap_or(u32::MAX));
            self.batch.until_look = self.batch.until_look.saturating_sub(weight);
            if self.batch.until_look == 0 {
                self.batch.until_look = COMMANDS_PER_LOOK;
                self.is_late = self.core.meter.reading() >= deadline;
                if self.is_late {
                    return Ok((consumed, Stop::Late));
                }
            }
        }
    }

    /// Ends a connection whose peer speaks HTTP: what follows may be commands that a web page has made up.
    fn report_attack(&mut self, client: &mut Client) {
        client.closing = true;
        client.connection.output.clear();
        let is_due = self
            .attack_reported
            .is_none_or(|last| self.core.clock.now.duration_since(last) >= ATTACK_REPORT_INTERVAL);
        if is_due {
            self.attack_reported = Some(self.core.clock.now);
            tracing::warn!(
                address = client.connection.peer_name(),
                "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands, as a web page \
                 makes a browser do to reach a store. Connection aborted"
            );
        }
    }

    /// Does what a command left to the executor.
    fn defer(&mut self, slot: usize, client: &mut Client, deferred: Deferred) -> Result<(), ExecutorError> {
        match deferred {
            Deferred::Wait { replicas, timeout_ms } => {
                if !self.point_before_wait(client)? {
                    // It is answered.
                } else if replicas == 0 {
                    self.answer_wait(slot, client, WaitKind::Replicas);
                } else {
                    self.block(slot, client, WaitKind::Replicas, timeout_ms);
                }
            }
            Deferred::WaitAof { local, replicas, timeout_ms } => {
                if self.point_before_wait(client)? {
                    let offset = client.session.last_write_offset;
                    let kind = WaitKind::Durable { offset, local, replicas };
                    if replicas == 0 && local <= u64::from(self.is_durable(offset)) {
                        self.answer_wait(slot, client, kind);
                    } else {
                        self.block(slot, client, kind, timeout_ms);
                    }
                }
            }
            Deferred::Block { .. } => unreachable!("it needs the request, and is done where that is known"),
            Deferred::Save => {
                let result = self.save_now()?;
                self.reply_to_deferred(client, result.map_err(|error| format!("ERR {error}")));
            }
            Deferred::Shutdown(options) => match self.prepare_stop(options)? {
                Ok(()) => {
                    self.core.stopping = true;
                    client.closing = true;
                }
                Err(error) => {
                    tracing::error!(%error, "cannot stop: the data could not be saved");
                    let text = "ERR Errors trying to SHUTDOWN. Check logs.";
                    self.reply_to_deferred(client, Err(text.to_owned()));
                }
            },
            Deferred::Debug(DebugRequest::PauseCron(pauses)) => {
                self.core.cron_is_paused = pauses;
                self.reply_to_deferred(client, Ok(()));
            }
            Deferred::Debug(request @ (DebugRequest::Reload | DebugRequest::LoadLog)) => {
                let result = self.reload(request)?;
                self.reply_to_deferred(client, result.map_err(|error| format!("ERR {error}")));
            }
        }
        // Some of this takes long, and what follows happens later.
        self.core.clock = TurnClock::read();
        Ok(())
    }

    /// Answers a command that was left to the executor: OK, or the text of an error.
    fn reply_to_deferred(&mut self, client: &mut Client, result: Result<(), String>) {
        if let Err(text) = &result {
            self.engine.stats.record_error(text.as_bytes());
        }
        client.reply(|reply| match result {
            Ok(()) => reply.simple("OK"),
            Err(text) => reply.error(text.as_bytes()),
        });
    }

    /// Takes the point before a wait. False: it failed, which is the answer.
    fn point_before_wait(&mut self, client: &mut Client) -> Result<bool, ExecutorError> {
        if !self.core.points.before(PointEvent::Wait) {
            return Ok(true);
        }
        let Err(failed) = self.commit_point("persist-before-wait")? else { return Ok(true) };
        let error = failed.reply("persist-before-wait: what was written before is not durable");
        self.engine.stats.record_error(&error);
        client.reply(|reply| reply.error(&error));
        Ok(false)
    }
}
