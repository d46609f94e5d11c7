//! What commands need from the process around the engine: the seam that keeps this module pure.

use std::time::Duration;

use crate::command::facts::{ClientFacts, ClientKind};
use crate::command::{MemoryFacts, Session};
use crate::engine::Engine;
use crate::engine::events::KeyEvent;
use crate::engine::tracking::Invalidation;
use crate::measure::Meter;
use crate::protocol::Request;
use crate::pubsub::{Message, PubSub, Subscriber};

/// Sections of INFO that only the process can fill, in the order in which they are printed.
///
/// `Keyspace` is written by the command itself; `Cluster` and `Modules` are constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InfoSection {
    /// `# Server`
    Server,
    /// `# Clients`
    Clients,
    /// `# Memory`
    Memory,
    /// `# Persistence`
    Persistence,
    /// `# Stats`
    Stats,
    /// `# Replication`
    Replication,
    /// `# CPU`
    Cpu,
}

/// Whether a background job began at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobStart {
    /// It runs, or runs as soon as the current turn is over.
    Started,
    /// Another job has to end first.
    Scheduled,
}

/// Options of SHUTDOWN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShutdownOptions {
    /// NOSAVE (`Some(false)`), SAVE (`Some(true)`), or as the save rules say.
    pub save: Option<bool>,
    /// NOW: do not wait for replicas.
    pub now: bool,
    /// FORCE: ignore errors that would prevent the exit.
    pub(crate) force: bool,
}

/// Which commands CLIENT PAUSE holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseMode {
    /// Commands that may write.
    Write,
    /// All commands.
    All,
}

/// Which clients CLIENT KILL and CLIENT LIST mean. Every condition that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientFilter {
    /// Ids; any of them.
    pub(crate) ids: Vec<u64>,
    /// Peer address.
    pub address: Option<Vec<u8>>,
    /// Local address.
    pub local_address: Option<Vec<u8>>,
    /// User name.
    pub user: Option<Vec<u8>>,
    /// Kind.
    pub kind: Option<ClientKind>,
    /// Whether the client that asks is left out.
    pub(crate) skip_me: bool,
}

impl ClientFilter {
    /// Whether [`ClientFilter::matches`] looks at the facts.
    pub(crate) fn needs_facts(&self) -> bool {
        self.address.is_some() || self.local_address.is_some()
    }

    /// Whether the client with this session and these facts is meant; `me` is the id of the client that asks.
    pub fn matches(&self, session: &Session, facts: &ClientFacts, me: u64) -> bool {
        let is = |wanted: &Option<Vec<u8>>, actual: &[u8]| wanted.as_deref().is_none_or(|it| it == actual);
        (self.ids.is_empty() || self.ids.contains(&session.id()))
            && is(&self.address, facts.address.as_bytes())
            && is(&self.local_address, facts.local_address.as_bytes())
            && is(&self.user, session.user().as_bytes())
            && self.kind.is_none_or(|kind| kind == session.kind())
            && !(self.skip_me && session.id() == me)
    }
}

/// What CLIENT KILL did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Killed {
    /// Clients closed, or to be closed, including the one that asks.
    pub count: usize,
    /// Whether the one that asks is among them; the command then ends with [`crate::command::Outcome::Close`].
    pub me: bool,
}

/// What DEBUG asks of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DebugRequest {
    /// Save, empty the data set, load what was saved.
    Reload,
    /// Write out the log, empty the data set, load the log.
    LoadLog,
    /// Do no periodic work from now on, or do it again.
    PauseCron(bool),
}

/// The process as commands see it; implemented by the executor.
///
/// Methods are called while a command runs: they must return at once, must not touch the engine, and what they start
/// (a snapshot, a rotation of the log) takes its cut after the turn, never inside a transaction.
pub trait Host {
    /// Wall time in microseconds since the Unix epoch, as precise as can be had (TIME).
    fn unix_time_us(&mut self) -> i64;

    /// Time since some moment, by a clock that never goes back: it bounds what a command does on the side.
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    /// Appends one section of INFO: `name:value` lines with `\r\n`, without its heading.
    fn write_info(&mut self, section: InfoSection, engine: &Engine, out: &mut String);

    /// Directives whose name matches any of the glob patterns, each once, with the text of their value.
    fn config_matching(&mut self, patterns: &[&[u8]]) -> Vec<(String, Vec<u8>)>;

    /// CONFIG SET: all or nothing.
    /// # Errors
    /// The whole text of the error reply, such as `ERR CONFIG SET failed (possibly related to argument 'x') - …`.
    fn set_config(&mut self, settings: &[(&[u8], &[u8])]) -> Result<(), String>;

    /// CONFIG REWRITE. `all`: the file names every directive afterwards.
    /// # Errors
    /// The whole text of the error reply.
    fn rewrite_config(&mut self, all: bool) -> Result<(), String>;

    /// What commands are timed and counted by; none where nobody asks for it.
    #[inline]
    fn meter(&mut self) -> Option<&mut Meter> {
        None
    }

    /// Address of the connection of `me`, as CLIENT LIST shows it.
    fn address(&self, me: &Session) -> String {
        let _ = me;
        String::new()
    }

    /// From now on a write to the log begins so much later (DEBUG AOF-FLUSH-SLEEP).
    fn delay_log(&mut self, time: Duration) {
        let _ = time;
    }

    /// FLUSHALL has removed all data.
    fn all_flushed(&mut self) {}

    /// Stops the whole server for so long (DEBUG SLEEP).
    fn sleep(&mut self, time: Duration) {
        let _ = time;
    }

    /// What takes how much memory.
    fn memory(&mut self, engine: &Engine) -> MemoryFacts {
        MemoryFacts { used: engine.used_memory(), ..MemoryFacts::default() }
    }

    /// What the allocator tells about itself, in text.
    fn allocator_report(&mut self) -> String {
        String::new()
    }

    /// The value of a control of the allocator; none when there is no such number.
    fn allocator_control(&mut self, name: &std::ffi::CStr) -> Option<u64> {
        let _ = name;
        None
    }

    /// Gives free memory back to the system.
    fn purge_memory(&mut self) {}

    /// CONFIG RESETSTAT, for the statistics the process keeps; the engine's are reset by the command.
    fn reset_statistics(&mut self);

    /// Whether `password` is right for `user`. Compares in constant time.
    fn authenticate(&mut self, user: &[u8], password: &[u8]) -> bool;

    /// Whether a password is set at all.
    fn has_password(&self) -> bool;

    /// Seconds since the Unix epoch of the last good save (LASTSAVE).
    fn last_save_s(&mut self) -> i64;

    /// BGSAVE. `schedule`: wait for a running rewrite of the log instead of refusing.
    /// # Errors
    /// The whole text of the error reply, such as `ERR Background save already in progress`.
    fn start_background_save(&mut self, schedule: bool) -> Result<JobStart, String>;

    /// BGREWRITEAOF.
    /// # Errors
    /// The whole text of the error reply, such as
    /// `ERR Background append only file rewriting already in progress`.
    fn start_log_rewrite(&mut self) -> Result<JobStart, String>;

    /// Whether there is a log (`appendonly yes`).
    fn log_enabled(&self) -> bool;

    /// Whether everything this session wrote before the current command is on disk.
    fn is_durable(&mut self, session: &Session) -> bool;

    /// Bytes of the replication stream so far (ROLE).
    fn replication_offset(&mut self) -> u64;

    /// SHUTDOWN ABORT: whether there was a shutdown to abort.
    fn abort_shutdown(&mut self) -> bool;

    /// Lines of CLIENT LIST in order of id, each made by [`Session::write_client_line`]; `me` is the session that asks by
    /// `request`, which the process does not hold while a command of it runs.
    fn list_clients(&mut self, filter: &ClientFilter, me: &Session, request: &Request<'_>) -> String;

    /// CLIENT KILL: closes all that match. `me` itself is only counted.
    fn kill_clients(&mut self, filter: &ClientFilter, me: &Session) -> Killed;

    /// CLIENT UNBLOCK: ends the wait of a client, as if its time were over or with an error. False when it does not wait.
    fn unblock_client(&mut self, id: u64, with_error: bool) -> bool {
        let _ = (id, with_error);
        false
    }

    /// CLIENT PAUSE until the given time in milliseconds since the Unix epoch.
    ///
    /// An earlier end or a weaker mode never shortens a pause in effect, as in Redis.
    fn pause_clients(&mut self, mode: PauseMode, until_ms: i64);

    /// CLIENT UNPAUSE.
    fn unpause_clients(&mut self);

    /// The registry of subscriptions; none where there are no clients.
    fn pubsub(&mut self) -> Option<&mut PubSub> {
        None
    }

    /// What the registry knows the connection of `me` by.
    fn subscriber(&self, me: &Session) -> Subscriber {
        me.id()
    }

    /// Publishes a message; returns how many connections get it. What `me` gets itself is appended to `own`.
    fn publish(&mut self, message: &Message<'_>, me: &Session, own: &mut Vec<u8>) -> usize {
        let _ = (message, me, own);
        0
    }

    /// MONITOR (and RESET, which ends it) for the connection of `me`.
    fn set_monitor(&mut self, me: &Session, on: bool) {
        let _ = (me, on);
    }

    /// What a command has changed of its own session makes a difference to the settings of the commands behind it.
    fn settings_changed(&mut self) {}

    /// Whether there is a client with this number; `me` is one.
    fn has_client(&self, id: u64, me: &Session) -> bool {
        id == me.id()
    }

    /// `me` begins to track keys, or does so no more.
    fn set_tracking(&mut self, me: &Session, on: bool) {
        let _ = (me, on);
    }

    /// Most keys that are remembered for clients that track (`tracking-table-max-keys`); 0 is any number.
    fn tracked_keys_max(&self) -> u64 {
        0
    }

    /// Tells clients what has become invalid; what `me` must be told waits for [`Host::invalidate_own`].
    fn invalidate(&mut self, all: Vec<Invalidation>, me: &mut Session) {
        let _ = (all, me);
    }

    /// Tells `me` what waits for it, or the client that is told in its place. What goes to `me` is appended to `own`.
    fn invalidate_own(&mut self, me: &mut Session, own: &mut Vec<u8>) {
        let _ = (me, own);
    }

    /// Shows a command that was executed to the connections that monitor, in the database that is selected behind it. What
    /// `me` gets itself is appended to `own`.
    fn feed_monitors(&mut self, request: &Request<'_>, me: &Session, own: &mut Vec<u8>) {
        let _ = (request, me, own);
    }

    /// Publishes keyspace events. What `me` gets itself is appended to `own`.
    fn publish_key_events(&mut self, events: &[KeyEvent], me: &Session, own: &mut Vec<u8>) {
        let _ = (events, me, own);
    }
}
