//! The one thread that owns engine and log, and the order of everything.
//!
//! ```text
//! turn:  poll ─ accept, read, decode, execute (replies into the clients' buffers)
//!             ─ events of other threads ─ what time asks for (expiry, save rules, delayed points)
//!             ─ commit: frame, append, sync as the strategy asks ─ only then: replies leave
//!             ─ a slice of the running snapshot
//! ```
//!
//! Invariant: between two commits no byte of a reply leaves. A commit that fails ends the executor: its clients are cut
//! off unanswered, because memory is ahead of what the disk holds.

pub mod admin;
mod client;
mod host;
pub mod inbox;
mod info;
pub mod journal;
mod points;
mod settle;
pub mod stats;

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use holdfast_contract::identity::Identity;
use holdfast_contract::record::DecisionReport;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};

use admin::{Bridge, Desk};
use client::{Client, Clients, WaitKind, Waiting};
use inbox::InboxSender;
use journal::{JobRequest, Journal, JournalError};
use points::Points;
use settle::reply;
use stats::Stats;

use crate::command::{ClientFacts, Context, DebugRequest, Deferred, Outcome, PauseMode, Session, Settings};
use crate::config::{Config, DebugCommand, Secret};
use crate::engine::effects::EffectBuffer;
use crate::engine::{Engine, EngineOptions, HashSeed};
use crate::metrics::Metrics;
use crate::network::connection::{Connection, ReadOutcome};
use crate::persistence::directives::Event as PointEvent;
use crate::persistence::snapshot::job::{SnapshotJobError, WrittenSnapshot};
use crate::protocol::{DecodeLimits, Decoder, ReplyWriter};

/// Bytes read from a socket at once.
const SCRATCH_LEN: usize = 64 << 10;
/// Expired keys removed in one turn.
const EXPIRE_BUDGET: usize = 200;
/// The longest time between two looks at what time asks for, whatever `hz` says.
const TICK_MAX: Duration = Duration::from_millis(200);
/// How long the executor sleeps while the snapshot thread is behind.
const JOB_WAIT: Duration = Duration::from_millis(1);
const WAKER: Token = Token(usize::MAX);
/// Tokens below are listeners.
const CLIENT_TOKEN_MIN: usize = 1024;

/// What other threads tell the executor.
pub enum Event {
    /// A background sync has ended.
    LogSynced {
        /// Sequence number of the segment.
        segment: u64,
        /// Stream offset that it ended at when the sync began.
        offset: u64,
        /// How long it took.
        took: Duration,
        /// Whether it worked.
        result: io::Result<()>,
    },
    /// The snapshot thread has ended.
    SnapshotWritten {
        /// Id of the job.
        id: u64,
        /// What was written, or why not.
        result: Result<WrittenSnapshot, SnapshotJobError>,
    },
    /// The loader has ended.
    Loaded(Box<Result<Loaded, LoadFailure>>),
    /// A signal; the configuration says what it stands for.
    Stop(StopCause),
}

/// Which signal asks for a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// SIGTERM.
    Terminated,
    /// SIGINT.
    Interrupted,
}

/// The dataset, ready to be served.
pub struct Loaded {
    /// The data.
    pub engine: Engine,
    /// The journal behind it; absent when nothing is persisted.
    pub journal: Option<Journal>,
    /// The identity as it was written; absent when nothing is persisted.
    pub identity: Option<Identity>,
    /// Bytes of a torn tail that were cut off.
    pub cut_bytes: u64,
}

/// The dataset could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadFailure {
    /// The files were refused.
    #[error(transparent)]
    Recover(#[from] crate::persistence::recovery::RecoverError),
    /// A file could not be written.
    #[error("{0}")]
    Prepare(String),
}

/// How far a load has come; shared with the loader.
#[derive(Debug, Default)]
pub struct LoadProgress {
    /// Bytes read.
    pub done: AtomicU64,
    /// Bytes to read.
    pub total: AtomicU64,
    /// Keys loaded.
    pub keys: AtomicU64,
    /// Set by the executor: the loader is to stop.
    pub stop: AtomicBool,
}

impl LoadProgress {
    /// Part of the bytes that have been read, 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a fraction for people needs no more than 53 bits")]
    pub fn fraction(&self) -> f64 {
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        if total == 0 { 0.0 } else { done as f64 / total as f64 }
    }
}

/// Why the executor ended.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The poll failed.
    #[error("failed to wait for network events")]
    Poll(#[source] io::Error),
    /// A socket could not be registered.
    #[error("failed to listen")]
    Listen(#[source] io::Error),
    /// The data could not be loaded.
    #[error("failed to load the data")]
    Load(#[source] LoadFailure),
    /// A write or sync failed; nothing was acknowledged since.
    #[error("storage failed; nothing was acknowledged since")]
    Storage(#[source] JournalError),
}

/// How the executor ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The identity as it is on the volume; none when nothing was loaded, or nothing is persisted.
    pub identity: Option<Identity>,
    /// Stream offset after the last write.
    pub offset: u64,
    /// Everything up to here is on stable storage.
    pub durable_offset: u64,
}

/// What an executor is made with.
pub struct ExecutorOptions {
    /// The settings.
    pub config: Config,
    /// The password that clients must give.
    pub password: Option<Secret>,
    /// The listening sockets.
    pub listeners: Vec<StdListener>,
    /// How far the load has come.
    pub progress: Arc<LoadProgress>,
    /// Where counters are published.
    pub metrics: Arc<Metrics>,
    /// The way to the control port.
    pub bridge: Bridge,
    /// What was decided about the volume.
    pub decision: Option<DecisionReport>,
}

enum Phase {
    Loading,
    Serving,
}

/// See the module.
pub struct Executor {
    poll: Poll,
    listeners: Vec<TcpListener>,
    /// Listeners where somebody waits who could not be accepted.
    to_accept: Vec<usize>,
    /// That was told already: it is tried again at every tick.
    accept_is_failing: bool,
    events: Receiver<Event>,
    engine: Engine,
    effects: EffectBuffer,
    core: Core,
    desk: Desk,
    scratch: Vec<u8>,
    /// Slots of clients with output to send after the commit.
    with_output: Vec<usize>,
    /// Slots of clients whose socket was not emptied, or who stopped waiting.
    to_serve: Vec<usize>,
    /// Events that came while the executor waited for a sync.
    postponed: Vec<Event>,
    /// A stop that was asked for while the data was loaded.
    stop_cause: Option<StopCause>,
    last_tick: Instant,
}

/// Everything that commands may ask the process for; see [`crate::command::Host`].
struct Core {
    config: Config,
    phase: Phase,
    progress: Arc<LoadProgress>,
    journal: Option<Journal>,
    clients: Clients,
    stats: Stats,
    points: Points,
    /// Jobs asked for in this turn: they are cut at its end.
    job_requests: Vec<JobRequest>,
    /// A job that has to wait for the running one.
    scheduled_job: Option<JobRequest>,
    pause: Option<(PauseMode, i64)>,
    /// A pause has held a client back: all are looked at when it is over.
    was_paused: bool,
    /// Ids of clients that CLIENT KILL named.
    killed: Vec<u64>,
    /// Clients that wait.
    waiting: usize,
    /// Facts about the client whose command runs, which is out of its slot.
    current_facts: ClientFacts,
    write_block: Option<String>,
    password: Option<Secret>,
    metrics: Arc<Metrics>,
    started: Instant,
    started_ms: u64,
    run_id: String,
    last_wall_ms: u64,
    memory_warned: bool,
    volume_warned: bool,
    volume_looked_at: Option<Instant>,
    /// SHUTDOWN has succeeded.
    stopping: bool,
}

impl Executor {
    /// An executor that answers `LOADING` until [`Event::Loaded`] comes.
    ///
    /// # Errors
    /// [`ExecutorError::Poll`], [`ExecutorError::Listen`]; the bridge comes back.
    pub fn new(mut options: ExecutorOptions) -> Result<(Self, InboxSender<Event>), (ExecutorError, Bridge)> {
        let (poll, sender, events, listeners) = match open_poll(std::mem::take(&mut options.listeners)) {
            Ok(opened) => opened,
            Err(error) => return Err((error, options.bridge)),
        };
        let ExecutorOptions { config, password, progress, metrics, bridge, decision, .. } = options;
        let now = Instant::now();
        let engine = Engine::new(engine_options(&config));
        let points = Points::new(&config);
        let core = Core {
            config,
            phase: Phase::Loading,
            progress,
            journal: None,
            clients: Clients::default(),
            stats: Stats::new(now),
            points,
            job_requests: Vec::new(),
            scheduled_job: None,
            pause: None,
            was_paused: false,
            killed: Vec::new(),
            waiting: 0,
            current_facts: ClientFacts::default(),
            write_block: None,
            password,
            metrics,
            started: now,
            started_ms: unix_ms(),
            run_id: run_id(),
            last_wall_ms: unix_ms(),
            memory_warned: false,
            volume_warned: false,
            volume_looked_at: None,
            stopping: false,
        };
        let executor = Self {
            poll,
            listeners,
            to_accept: Vec::new(),
            accept_is_failing: false,
            events,
            engine,
            effects: EffectBuffer::new(),
            core,
            desk: Desk::new(bridge, decision),
            scratch: vec![0; SCRATCH_LEN],
            with_output: Vec::new(),
            to_serve: Vec::new(),
            postponed: Vec::new(),
            stop_cause: None,
            last_tick: now,
        };
        Ok((executor, sender))
    }

    /// Serves until a stop.
    ///
    /// The identity is as it was last written, if data was loaded; the bridge goes on to the next owner.
    ///
    /// # Errors
    /// [`ExecutorError`]; all clients are cut off then.
    pub fn run(mut self) -> (Result<Ended, ExecutorError>, Bridge) {
        let result = self.turns();
        (result, self.desk.bridge)
    }

    /// Ends without having served, and gives the bridge back.
    #[must_use]
    pub fn give_up(self) -> Bridge {
        self.desk.bridge
    }

    fn turns(&mut self) -> Result<Ended, ExecutorError> {
        self.publish();
        let mut events = Events::with_capacity(1024);
        loop {
            let timeout = self.timeout();
            if let Err(error) = self.poll.poll(&mut events, Some(timeout))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(ExecutorError::Poll(error));
            }
            let turn_started = Instant::now();
            for event in &events {
                match event.token() {
                    WAKER => {}
                    Token(number) if number < CLIENT_TOKEN_MIN => self.accept(number),
                    Token(number) => {
                        let slot = number - CLIENT_TOKEN_MIN;
                        let has_ended = event.is_read_closed() || event.is_error();
                        if has_ended && let Some(client) = self.core.clients.get_mut(slot) {
                            client.connection.announce_end();
                        }
                        if event.is_readable() || has_ended {
                            self.serve(slot, true)?;
                        }
                        if event.is_writable() {
                            self.with_output.push(slot);
                        }
                    }
                }
            }
            for slot in std::mem::take(&mut self.to_serve) {
                self.serve(slot, false)?;
            }
            while let Some(event) = self.next_event() {
                if let Some(ended) = self.take_event(event)? {
                    return Ok(ended);
                }
            }
            self.serve_admin()?;
            if turn_started.duration_since(self.last_tick) >= self.core.tick_interval() {
                self.tick(turn_started)?;
                self.publish();
            }
            self.finish_turn()?;
            if self.core.stopping {
                return Ok(self.ended());
            }
            self.core.stats.longest_turn = self.core.stats.longest_turn.max(turn_started.elapsed());
        }
    }

    fn next_event(&mut self) -> Option<Event> {
        if self.postponed.is_empty() { self.events.try_recv().ok() } else { Some(self.postponed.remove(0)) }
    }

    fn timeout(&mut self) -> Duration {
        if !self.to_serve.is_empty() || !self.postponed.is_empty() {
            return Duration::ZERO;
        }
        let mut timeout = self.core.tick_interval().saturating_sub(self.last_tick.elapsed());
        let now = Instant::now();
        if self.core.waiting > 0 {
            for deadline in self.core.clients.iter().filter_map(|client| client.waiting?.deadline) {
                timeout = timeout.min(deadline.saturating_duration_since(now));
            }
        }
        if let Some(journal) = &mut self.core.journal {
            if let (Some(until), _) = journal.drive_syncs() {
                timeout = timeout.min(until);
            }
            if journal.job_is_walking() {
                timeout = if journal.job_is_stuck() { timeout.min(JOB_WAIT) } else { Duration::ZERO };
            }
        }
        timeout
    }

    pub(super) fn accept(&mut self, number: usize) {
        loop {
            match self.listeners[number].accept() {
                Ok((stream, _)) => {
                    self.core.stats.connections_received += 1;
                    self.admit(Connection::new(stream));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.accept_is_failing = false;
                    return;
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => {
                    // The machine is out of descriptors, most likely: those who are connected are still served. The poll does
                    // not tell again of those who wait.
                    if !std::mem::replace(&mut self.accept_is_failing, true) {
                        tracing::warn!(
                            %error,
                            "failed to accept a connection; raise the limit of open files if that is the reason. Trying again"
                        );
                    }
                    self.to_accept.push(number);
                    return;
                }
            }
        }
    }

    fn admit(&mut self, mut connection: Connection) {
        let core = &mut self.core;
        let refusal = if core.clients.len() >= core.config.maxclients as usize {
            Some("-ERR max number of clients reached\r\n")
        } else if core.config.protected_mode && core.password().is_none() && !connection.is_loopback() {
            Some(
                "-DENIED protected mode is on and no password is set, so only this machine may connect. Set requirepass, \
                 or protected-mode no if the network itself keeps strangers away\r\n",
            )
        } else {
            None
        };
        if let Some(text) = refusal {
            core.stats.connections_rejected += 1;
            connection.output.extend_from_slice(text.as_bytes());
            // The peer may be gone already; there is nobody to tell.
            let _ = connection.flush();
            return;
        }
        // Answers of one round leave at once; failing that, they leave a little later.
        let _ = connection.stream().set_nodelay(true);
        let keepalive = core.config.tcp_keepalive;
        if !keepalive.is_zero() {
            let settings = socket2::TcpKeepalive::new()
                .with_time(keepalive)
                .with_interval((keepalive / 3).max(Duration::from_secs(1)))
                .with_retries(3);
            let _ = socket2::SockRef::from(&*connection.stream()).set_tcp_keepalive(&settings);
        }
        let slot = core.clients.reserve_slot();
        let id = core.clients.next_id();
        let session = Session::new(id, core.password().is_none());
        let mut client = Box::new(Client::new(connection, session, Instant::now()));
        let registered = self.poll.registry().register(
            client.connection.stream(),
            Token(slot + CLIENT_TOKEN_MIN),
            Interest::READABLE | Interest::WRITABLE,
        );
        core.clients.put_new(slot, client);
        if let Err(error) = registered {
            tracing::warn!(%error, "failed to register a connection");
            self.drop_client(slot);
        }
    }

    fn drop_client(&mut self, slot: usize) {
        if let Some(mut client) = self.core.clients.take(slot) {
            client.session.close(&mut self.engine);
            // Closing the socket takes it out of the poll as well.
            let _ = self.poll.registry().deregister(client.connection.stream());
            self.core.waiting -= usize::from(client.waiting.is_some());
            self.core.clients.forget(slot);
        }
    }

    /// Reads from a client and executes what is whole.
    fn serve(&mut self, slot: usize, readable: bool) -> Result<(), ExecutorError> {
        if self.core.stopping {
            // What has been saved for the stop is what there is: nothing may be executed after it.
            return Ok(());
        }
        let Some(mut client) = self.core.clients.take(slot) else { return Ok(()) };
        client.readable |= readable;
        let mut gone = false;
        if client.readable && !client.closing && client.waiting.is_none() {
            let before = client.connection.input.len();
            match client.connection.read(&mut self.scratch) {
                Ok(ReadOutcome::Drained) => client.readable = false,
                Ok(ReadOutcome::More) => self.to_serve.push(slot),
                Ok(ReadOutcome::Closed) | Err(_) => gone = true,
            }
            self.core.stats.input_bytes += (client.connection.input.len() - before) as u64;
            client.last_active = Instant::now();
        }
        let executed = self.execute_input(&mut client);
        if client.connection.unsent_len() > 0 && !client.has_output {
            client.has_output = true;
            self.with_output.push(slot);
        }
        // Bytes behind a last command that closes are not looked at; a peer that has gone gets what was answered.
        if gone {
            client.closing = true;
            self.core.waiting -= usize::from(client.waiting.take().is_some());
            self.with_output.push(slot);
        } else if client.closing {
            self.with_output.push(slot);
        }
        self.core.clients.put_back(slot, client);
        executed
    }

    fn execute_input(&mut self, client: &mut Client) -> Result<(), ExecutorError> {
        let mut consumed = 0;
        while !client.closing && client.waiting.is_none() {
            let limits = DecodeLimits {
                bulk_len_max: self.core.config.proto_max_bulk_len,
                authenticated: client.session.is_authenticated(),
                inline: true,
            };
            let step = match client.decoder.decode(&client.connection.input[consumed..], &limits) {
                Ok(step) => step,
                Err(error) => {
                    ReplyWriter::new(&mut client.connection.output, client.session.version())
                        .error(&error.reply_text());
                    client.closing = true;
                    break;
                }
            };
            let Some(request) = step.request else {
                consumed += step.consumed;
                break;
            };
            client.postponed = self.core.is_paused(&client.session, &request);
            if client.postponed {
                // Executed again from the same bytes when the pause is over.
                client.decoder = Decoder::new();
                break;
            }
            consumed += step.consumed;
            let now_ms = unix_ms();
            let is_exec = client.session.in_transaction() && request.arg(0).eq_ignore_ascii_case(b"exec");
            if is_exec && self.core.points.before(PointEvent::Exec) {
                self.commit_point("persist-before-exec")?;
            }
            if is_exec || request.arg(0).eq_ignore_ascii_case(b"client") {
                self.core.current_facts =
                    client::facts(&client.connection, client.connected, client.last_active);
            }
            let effects_before = self.effects.len();
            let write_block = self.core.write_block.take();
            let settings = Settings {
                maxmemory: self.core.config.maxmemory,
                proto_max_bulk_len: self.core.config.proto_max_bulk_len,
                auth_required: self.core.password().is_some(),
                debug_allowed: match self.core.config.enable_debug_command {
                    DebugCommand::No => false,
                    DebugCommand::Yes => true,
                    DebugCommand::Local => client.connection.is_loopback(),
                },
                loading: matches!(self.core.phase, Phase::Loading),
                write_block: write_block.as_deref(),
            };
            let mut context = Context {
                engine: &mut self.engine,
                effects: &mut self.effects,
                host: &mut self.core,
                settings,
                now_ms: i64::try_from(now_ms).unwrap_or(i64::MAX),
            };
            let outcome = crate::command::execute(
                &mut context,
                &mut client.session,
                &request,
                &mut client.connection.output,
            );
            self.core.write_block = write_block;
            if self.effects.len() > effects_before {
                client.session.last_write_offset = self.core.offset() + self.effects.len() as u64;
                if is_exec {
                    self.core.points.after(PointEvent::Exec);
                }
            }
            match outcome {
                Outcome::Done => {}
                Outcome::Close => client.closing = true,
                Outcome::Deferred(deferred) => self.defer(client, deferred)?,
            }
        }
        client.connection.consume(consumed);
        Ok(())
    }

    /// Does what a command left to the executor.
    fn defer(&mut self, client: &mut Client, deferred: Deferred) -> Result<(), ExecutorError> {
        let now = Instant::now();
        let deadline = |timeout_ms: u64| (timeout_ms > 0).then(|| now + Duration::from_millis(timeout_ms));
        match deferred {
            Deferred::Wait { replicas, timeout_ms } => {
                self.point_before_wait()?;
                if replicas == 0 {
                    self.core.points.after(PointEvent::Wait);
                    reply(client, |reply| reply.integer(0));
                } else {
                    self.core.waiting += 1;
                    client.waiting =
                        Some(Waiting { kind: WaitKind::Replicas, deadline: deadline(timeout_ms) });
                }
            }
            Deferred::WaitAof { local, replicas, timeout_ms } => {
                self.point_before_wait()?;
                let offset = client.session.last_write_offset;
                self.core.waiting += 1;
                client.waiting = Some(Waiting {
                    kind: WaitKind::Durable { offset, local, replicas },
                    deadline: deadline(timeout_ms),
                });
            }
            Deferred::Save => {
                let result = self.save_now()?;
                reply(client, |reply| match result {
                    Ok(()) => reply.simple("OK"),
                    Err(error) => reply.error(format!("ERR {error}").as_bytes()),
                });
            }
            Deferred::Shutdown(options) => match self.prepare_stop(options)? {
                Ok(()) => {
                    self.core.stopping = true;
                    client.closing = true;
                }
                Err(error) => {
                    tracing::error!(%error, "cannot stop: the data could not be saved");
                    reply(client, |reply| {
                        reply.error(b"ERR Errors trying to SHUTDOWN. Check logs.");
                    });
                }
            },
            Deferred::Debug(DebugRequest::Sleep(microseconds)) => {
                std::thread::sleep(Duration::from_micros(microseconds));
                reply(client, |reply| reply.simple("OK"));
            }
            Deferred::Debug(request @ (DebugRequest::Reload | DebugRequest::LoadLog)) => {
                let result = self.reload(request)?;
                reply(client, |reply| match result {
                    Ok(()) => reply.simple("OK"),
                    Err(error) => reply.error(format!("ERR {error}").as_bytes()),
                });
            }
        }
        Ok(())
    }

    fn point_before_wait(&mut self) -> Result<(), ExecutorError> {
        if self.core.points.before(PointEvent::Wait) {
            self.commit_point("persist-before-wait")
        } else {
            Ok(())
        }
    }
}

type Opened = (Poll, InboxSender<Event>, Receiver<Event>, Vec<TcpListener>);

fn open_poll(listeners: Vec<StdListener>) -> Result<Opened, ExecutorError> {
    let poll = Poll::new().map_err(ExecutorError::Poll)?;
    let (sender, events) = inbox::inbox(poll.registry(), WAKER).map_err(ExecutorError::Poll)?;
    let mut listeners: Vec<_> = listeners.into_iter().map(TcpListener::from_std).collect();
    for (number, listener) in listeners.iter_mut().enumerate() {
        poll.registry()
            .register(listener, Token(number), Interest::READABLE)
            .map_err(ExecutorError::Listen)?;
    }
    Ok((poll, sender, events, listeners))
}

/// An engine for this configuration, with a seed of its own: clients choose keys.
#[must_use]
pub fn engine_options(config: &Config) -> EngineOptions {
    EngineOptions { databases: config.databases, seed: HashSeed(rand::random()) }
}

/// Wall time in milliseconds since the Unix epoch.
#[must_use]
pub fn unix_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Forty random hex digits, as Redis names a run.
fn run_id() -> String {
    let bytes: [u8; 20] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
