//! The one thread that owns engine and log, and the order of everything.
//!
//! ```text
//! turn:  poll ─ accept ─ batches: read all who are ready, then execute in order (replies into the outbox)
//!             ─ events of other threads ─ control port ─ periodic work (expiry, save rules, delayed points)
//!             ─ eviction, if there is no room and no command has made any
//!             ─ commit: frame, append, sync as the strategy asks ─ only then: the outbox is sent
//!             ─ a slice of the running snapshot
//!
//! turn      sources, timeouts, the turn itself      commit   commit, points, sending
//! batch     reading, decoding, executing            block    clients that wait (waiting: which, until when)
//! listeners where connections come from             timers   periodic work
//! admit     connections come, go, are killed        jobs     snapshots, rewrites, saving, stopping
//! outbox    everything that any client is sent      host     the process as commands see it
//! publish   messages, events, monitored commands    tracking invalidations
//! ledger    what clients hold, which goes first     limits   closes clients for what they hold or do not do
//! eviction  room below maxmemory, whoever took it
//! ```
//!
//! Invariant: no byte leaves before its turn is committed (I/O threads may send it while the next turn runs). A commit that
//! fails ends the executor: its clients are cut off unanswered, because memory is ahead of what the disk holds. A panic ends it
//! in the same way: what was half done is not written.

mod admin;
mod admit;
mod batch;
mod block;
mod blocked;
mod client;
mod commit;
mod compaction;
mod events;
mod eviction;
mod freer;
mod host;
mod huge_pages;
pub mod inbox;
mod info;
mod jobs;
pub mod journal;
mod ledger;
mod limits;
mod listeners;
mod loaded;
mod outbox;
mod points;
mod publish;
pub(crate) mod stats;
mod timers;
mod tracking;
mod turn;
mod waiting;

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use holdfast_contract::identity::Identity;
use holdfast_contract::record::DecisionReport;
use mio::{Poll, Token};

pub use events::{Event, StopCause};
pub(crate) use loaded::engine_options;
pub use loaded::{LoadFailure, LoadProgress, Loaded, Reload};

use admin::Desk;
use batch::Batch;
use blocked::BlockedClients;
use client::{Client, Clients, Origin};
use commit::Promise;
use compaction::Compaction;
use freer::{FreedObjects, Freer};
use huge_pages::Mover;
use inbox::InboxSender;
use jobs::ScheduledJobs;
use journal::{JobRequest, Journal, JournalError};
use listeners::Listeners;
use outbox::{Outbox, transaction_len_max};
use points::Points;
use stats::Stats;
use waiting::Waiters;

use crate::bridge::Bridge;
use crate::clock::{TurnClock, unix_ms};
use crate::command::{PauseMode, Settings};
use crate::config::{Config, DebugCommand, Secret, Strategy};
use crate::engine::Engine;
use crate::engine::effects::EffectBuffer;
use crate::engine::tracking::{ClientId, Stale};
use crate::measure::Meter;
use crate::metrics::Metrics;
use crate::network::listener::Sockets;
use crate::network::senders::Senders;
use crate::pubsub::PubSub;

/// Expired keys removed in one turn.
const EXPIRE_BUDGET: usize = 200;
/// The longest time between two runs of the periodic work, whatever `hz` says.
const TICK_MAX: Duration = Duration::from_millis(200);
/// How long the executor sleeps while the snapshot thread is behind.
const JOB_WAIT: Duration = Duration::from_millis(1);
/// Most threads for sockets when their number is not set: the one executor cannot feed more.
const IO_THREADS_MAX: usize = 4;
const WAKER: Token = Token(usize::MAX);
/// Tokens below are listeners.
const CLIENT_TOKEN_MIN: usize = 1024;

/// Why the executor ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecutorError {
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
    /// A defect of ours: what it did is in the log of messages. Nothing was written or acknowledged since.
    #[error("a command has panicked; nothing was written or acknowledged since")]
    Panicked,
}

/// No executor could be made, and the bridge is free for the next one.
#[derive(Debug)]
pub(crate) struct NotMade {
    pub(crate) error: ExecutorError,
    pub(crate) bridge: Bridge,
}

/// How the executor ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The identity as it is on the volume; none when nothing was loaded, or nothing is persisted.
    pub(crate) identity: Option<Identity>,
    /// Stream offset after the last write.
    pub(crate) offset: u64,
    /// Everything up to here is on stable storage.
    pub(crate) durable_offset: u64,
}

/// What an executor is made with.
pub(crate) struct ExecutorOptions {
    /// The settings.
    pub(crate) config: Config,
    /// The password that clients must give.
    pub(crate) password: Option<Secret>,
    /// The listening sockets.
    pub(crate) sockets: Sockets,
    /// How far the load has come.
    pub(crate) progress: Arc<LoadProgress>,
    /// Where counters are published.
    pub(crate) metrics: Arc<Metrics>,
    /// The way to the control port.
    pub(crate) bridge: Bridge,
    /// What was decided about the volume.
    pub(crate) decision: Option<DecisionReport>,
    /// How the data is read again (DEBUG RELOAD).
    pub(crate) reload: Reload,
}

enum Phase {
    Loading,
    Serving,
}

/// See the module.
pub(crate) struct Executor {
    poll: Poll,
    events: Receiver<Event>,
    engine: Engine,
    effects: EffectBuffer,
    core: Core,
    desk: Desk,
    batch: Batch,
    /// Slots of clients to be served, in the order in which they became ready.
    ready: VecDeque<usize>,
    /// This turn has taken its time: nothing more is executed in it.
    is_late: bool,
    /// A snapshot waits for the disk, and writes wait with it.
    save_is_behind: bool,
    /// There is less room than there should be, and keys to evict: the next turn goes on.
    is_evicting: bool,
    freer: Freer,
    senders: Senders,
    reload: Reload,
    /// Events that came while the executor waited for a sync.
    postponed: Vec<Event>,
    /// A stop that was asked for while the data was loaded.
    stop_cause: Option<StopCause>,
    /// When somebody last spoke HTTP and it was reported.
    attack_reported: Option<Instant>,
    turn_ended: Instant,
    last_tick: Instant,
}

/// The connection that is served, which is out of its slot.
#[derive(Debug)]
struct Current {
    slot: usize,
    origin: Origin,
    /// Bytes that it has sent and that are not executed yet, those of the running command included.
    query_bytes: usize,
    /// Free room of its own behind them.
    query_free_bytes: usize,
}

/// Everything that commands may ask the process for; see [`crate::command::Host`].
struct Core {
    config: Config,
    phase: Phase,
    listeners: Listeners,
    progress: Arc<LoadProgress>,
    journal: Option<Journal>,
    clients: Clients,
    outbox: Outbox,
    pubsub: PubSub,
    /// Slots of clients that monitor.
    monitors: Vec<usize>,
    /// Number of clients that track keys.
    trackers: usize,
    /// What the client that is served must forget: it is told behind its reply.
    own_stale: Vec<Stale>,
    /// Invalidations for clients that were out of their slot; `tell_late` delivers them.
    late_stale: Vec<(ClientId, Stale)>,
    current: Option<Current>,
    /// What all clients together may hold, in bytes (`maxmemory-clients`); 0: no limit.
    client_memory_max: u64,
    /// What they may keep of room for long requests to come, in bytes.
    kept_room_max: usize,
    /// Grows when something changes that [`Settings`] are made from.
    revision: u64,
    clock: TurnClock,
    /// How long commands take.
    meter: Meter,
    freed_objects: Arc<FreedObjects>,
    /// Bytes that the tables took before there was any data.
    memory_at_start: u64,
    stats: Stats,
    points: Points,
    /// Replies that depend on the point at the end of this turn.
    promises: Vec<Promise>,
    /// Jobs asked for in this turn: they are cut at its end.
    job_requests: Vec<JobRequest>,
    scheduled_jobs: ScheduledJobs,
    /// Whether there is a log may not be what the configuration says: looked at when the turn is committed.
    log_is_to_be_switched: bool,
    pause: Option<(PauseMode, i64)>,
    /// Slots of clients that a pause holds back.
    paused: Vec<usize>,
    /// Slots of clients that CLIENT KILL has named.
    killed: Vec<usize>,
    waiters: Waiters,
    blocked: BlockedClients,
    /// Clients that CLIENT UNBLOCK has named, and whether they get an error.
    unblocked: Vec<(usize, bool)>,
    /// Threads that serve sockets, the executor's own included.
    io_threads: usize,
    compaction: Compaction,
    huge_pages: Mover,
    write_block: Option<&'static str>,
    password: Option<Secret>,
    metrics: Arc<Metrics>,
    started: Instant,
    started_ms: u64,
    run_id: String,
    last_wall_ms: u64,
    memory_warned: bool,
    volume_warned: bool,
    volume_looked_at: Option<Instant>,
    /// DEBUG PAUSE-CRON: there is no periodic work.
    cron_is_paused: bool,
    /// A signal to stop that came while there was no periodic work, of which it is a part in Redis.
    stop_waits: Option<StopCause>,
    /// FLUSHALL was executed in this turn.
    all_was_flushed: bool,
    /// SHUTDOWN has succeeded.
    stopping: bool,
}

impl Core {
    /// What commands of this client obey at the moment.
    fn settings(&self, client: &Client) -> Settings<'static> {
        let config = &self.config;
        Settings {
            maxmemory: config.maxmemory,
            clients_memory: self.clients.ledger().held_bytes(),
            may_evict: self.pause.is_none(),
            eviction_time_max: config.eviction_time_max(),
            proto_max_bulk_len: config.proto_max_bulk_len,
            auth_required: self.password.is_some(),
            debug_allowed: match config.enable_debug_command {
                DebugCommand::No => false,
                DebugCommand::Yes => true,
                DebugCommand::Local => client.connection.ends().is_local(),
            },
            loading: matches!(self.phase, Phase::Loading),
            write_block: self.write_block,
            replies_len_max: transaction_len_max(
                &client.session,
                &config.client_output_buffer_limit,
                self.client_memory_max,
            ),
            observed: !self.monitors.is_empty()
                || self.notified() != 0
                || self.trackers > 0
                || client.session.no_touch,
        }
    }

    /// Whether there is to be a log, and is none yet.
    fn awaits_log(&self) -> bool {
        let wants_log = self.config.log && self.config.persistent;
        wants_log && self.journal.as_ref().is_some_and(|journal| journal.log().is_none())
    }

    /// What keeps the data at the moment: without a log while one that was switched on has not begun.
    fn strategy(&self) -> Strategy {
        if self.awaits_log() { Strategy::Never } else { self.config.strategy() }
    }

    /// When the pause is over, if there is one.
    fn pause_end(&self) -> Option<Instant> {
        let (_, until_ms) = self.pause?;
        let left = u64::try_from(until_ms.saturating_sub(self.clock.now_ms)).unwrap_or(0);
        self.clock.now.checked_add(Duration::from_millis(left))
    }

    /// Gives the engine the settings that it obeys itself.
    fn configure(&self, engine: &mut Engine) {
        engine.set_notified(self.notified());
        engine.set_limits(self.config.limits);
        engine.set_eviction(self.config.eviction());
    }

    /// Gives the journal the settings that it obeys itself.
    fn configure_journal(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.set_mode(self.config.sync_mode);
            journal.set_snapshot_form(self.config.rdbcompression, self.config.dbfilename.clone());
            journal.set_key_delay(Duration::from_micros(self.config.rdb_key_save_delay_us.into()));
        }
    }

    /// A client is served from now on, out of its slot.
    fn enter(&mut self, slot: usize, client: &Client, query_bytes: usize, query_free_bytes: usize) {
        self.current = Some(Current { slot, origin: Origin::of(client), query_bytes, query_free_bytes });
    }

    /// It is served no longer.
    fn leave(&mut self) {
        self.current = None;
    }
}

impl Executor {
    /// An executor that answers `LOADING` until [`Event::Loaded`] comes.
    ///
    /// # Errors
    /// [`ExecutorError::Poll`], [`ExecutorError::Listen`]; the bridge comes back.
    pub(crate) fn new(mut options: ExecutorOptions) -> Result<(Self, InboxSender<Event>), Box<NotMade>> {
        let (poll, sender, events, listeners) = match open_poll(std::mem::take(&mut options.sockets)) {
            Ok(opened) => opened,
            Err(error) => return Err(Box::new(NotMade { error, bridge: options.bridge })),
        };
        let wake = {
            let sender = sender.clone();
            move || sender.wake()
        };
        let ExecutorOptions { config, password, progress, metrics, bridge, decision, reload, .. } = options;
        let now = Instant::now();
        let engine = Engine::new(engine_options(&config));
        let points = Points::new(&config);
        let senders = Senders::start(io_threads(config.io_threads) - 1, wake);
        let huge_pages = Mover::start(config.huge_pages, now);
        let meter = Meter::new(crate::clock::monotonic(), config.measure.clone());
        let freed_objects = Arc::<FreedObjects>::default();
        let freer = Freer::start(Arc::clone(&freed_objects));
        let client_memory_max = limits::client_memory_max(&config);
        let kept_room_max = limits::kept_room_max(client_memory_max, config.maxmemory);
        let core = Core {
            config,
            phase: Phase::Loading,
            listeners,
            progress,
            journal: None,
            clients: Clients::default(),
            outbox: Outbox::default(),
            pubsub: PubSub::default(),
            monitors: Vec::new(),
            trackers: 0,
            own_stale: Vec::new(),
            late_stale: Vec::new(),
            current: None,
            client_memory_max,
            kept_room_max,
            revision: 0,
            clock: TurnClock::read(),
            meter,
            freed_objects,
            memory_at_start: engine.used_memory(),
            stats: Stats::new(now),
            points,
            promises: Vec::new(),
            job_requests: Vec::new(),
            scheduled_jobs: ScheduledJobs::default(),
            log_is_to_be_switched: false,
            pause: None,
            paused: Vec::new(),
            killed: Vec::new(),
            waiters: Waiters::default(),
            blocked: BlockedClients::default(),
            unblocked: Vec::new(),
            io_threads: senders.threads() + 1,
            compaction: Compaction::new(now),
            huge_pages,
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
            cron_is_paused: false,
            stop_waits: None,
            all_was_flushed: false,
            stopping: false,
        };
        let executor = Self {
            poll,
            events,
            engine,
            effects: EffectBuffer::new(),
            core,
            desk: Desk::new(bridge, decision),
            batch: Batch::new(),
            ready: VecDeque::new(),
            is_late: false,
            save_is_behind: false,
            is_evicting: false,
            freer,
            senders,
            reload,
            postponed: Vec::new(),
            stop_cause: None,
            attack_reported: None,
            turn_ended: now,
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
    pub(crate) fn run(mut self) -> (Result<Ended, ExecutorError>, Bridge, Config) {
        // What is half done is never looked at again: it is neither written, nor answered, nor freed.
        if let Ok(result) = catch_unwind(AssertUnwindSafe(|| self.turns())) {
            return (result, self.desk.bridge, self.core.config);
        }
        let Self { engine, core, desk, .. } = self;
        let config = core.config.clone();
        std::mem::forget((engine, core));
        (Err(ExecutorError::Panicked), desk.bridge, config)
    }

    /// Ends without having served, and gives the bridge back.
    #[must_use]
    pub(crate) fn give_up(self) -> Bridge {
        self.desk.bridge
    }
}

type Opened = (Poll, InboxSender<Event>, Receiver<Event>, Listeners);

fn open_poll(sockets: Sockets) -> Result<Opened, ExecutorError> {
    let poll = Poll::new().map_err(ExecutorError::Poll)?;
    let (sender, events) = inbox::inbox(poll.registry(), WAKER).map_err(ExecutorError::Poll)?;
    let registry = poll.registry().try_clone().map_err(ExecutorError::Poll)?;
    let listeners = Listeners::new(registry, sockets).map_err(ExecutorError::Listen)?;
    Ok((poll, sender, events, listeners))
}

/// How many threads serve sockets, the executor's own included: as many as wanted (`io-threads`), or, for 0, half as many as
/// the process has processors, up to [`IO_THREADS_MAX`]: the clients and the kernel need the others. Those are counted by the
/// affinity of the process and by the quota of its control group of either version, rounded down (see
/// [`std::thread::available_parallelism`]).
fn io_threads(wanted: u32) -> usize {
    match wanted {
        0 => std::thread::available_parallelism()
            .map_or(1, |processors| (processors.get() / 2).clamp(1, IO_THREADS_MAX)),
        wanted => wanted as usize,
    }
}

/// Forty random hex digits, as Redis names a run.
fn run_id() -> String {
    let bytes: [u8; 20] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
