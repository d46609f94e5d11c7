//! What commands need from the process around the engine: the seam that keeps this module pure.

use crate::command::Session;
use crate::engine::Engine;

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
    pub force: bool,
}

/// Which commands CLIENT PAUSE holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseMode {
    /// Commands that may write.
    Write,
    /// All commands.
    All,
}

/// Kinds of clients, as CLIENT LIST TYPE and CLIENT KILL TYPE name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    /// Ordinary clients: all there are today.
    Normal,
    /// Connections from our primary.
    Master,
    /// Replicas.
    Replica,
    /// Subscribers.
    PubSub,
}

/// Facts about a connection that only the network knows.
#[derive(Debug, Clone, Default)]
pub struct ClientFacts {
    /// Peer, as `ip:port` or `path:0` of a Unix socket.
    pub address: String,
    /// Our end of the connection, in the same form.
    pub local_address: String,
    /// File descriptor; -1 when there is none.
    pub fd: i64,
    /// Seconds since the connection was made.
    pub age_s: u64,
    /// Seconds since the last command.
    pub idle_s: u64,
    /// Bytes received and not yet executed.
    pub query_bytes: u64,
    /// Bytes free in the receive buffer.
    pub query_free_bytes: u64,
    /// Size of the reply buffer in bytes.
    pub reply_buffer_bytes: u64,
    /// Bytes waiting to be sent.
    pub output_bytes: u64,
}

/// Which clients CLIENT KILL and CLIENT LIST mean. Every condition that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientFilter {
    /// Ids; any of them.
    pub ids: Vec<u64>,
    /// Peer address.
    pub address: Option<Vec<u8>>,
    /// Local address.
    pub local_address: Option<Vec<u8>>,
    /// User name.
    pub user: Option<Vec<u8>>,
    /// Kind.
    pub kind: Option<ClientKind>,
    /// Whether the client that asks is left out.
    pub skip_me: bool,
}

impl ClientFilter {
    /// Whether the client with this session and these facts is meant; `me` is the id of the client that asks.
    pub fn matches(&self, session: &Session, facts: &ClientFacts, me: u64) -> bool {
        let is = |wanted: &Option<Vec<u8>>, actual: &[u8]| wanted.as_deref().is_none_or(|it| it == actual);
        (self.ids.is_empty() || self.ids.contains(&session.id()))
            && is(&self.address, facts.address.as_bytes())
            && is(&self.local_address, facts.local_address.as_bytes())
            && is(&self.user, session.user().as_bytes())
            && self.kind.is_none_or(|kind| kind == ClientKind::Normal)
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
    /// Stop for this many microseconds.
    Sleep(u64),
}

/// The process as commands see it; implemented by the executor.
///
/// Methods are called while a command runs: they must return at once, must not touch the engine, and what they start
/// (a snapshot, a rotation of the log) takes its cut after the turn, never inside a transaction.
pub trait Host {
    /// Wall time in microseconds since the Unix epoch, as precise as can be had (TIME).
    fn unix_time_us(&mut self) -> i64;

    /// Appends one section of INFO: `name:value` lines with `\r\n`, without its heading.
    fn write_info(&mut self, section: InfoSection, engine: &Engine, out: &mut String);

    /// Directives whose name matches any of the glob patterns, each once, with the text of their value.
    fn config_matching(&mut self, patterns: &[&[u8]]) -> Vec<(String, Vec<u8>)>;

    /// CONFIG SET: all or nothing.
    /// # Errors
    /// The whole text of the error reply, such as `ERR CONFIG SET failed (possibly related to argument 'x') - …`.
    fn set_config(&mut self, settings: &[(&[u8], &[u8])]) -> Result<(), String>;

    /// CONFIG REWRITE.
    /// # Errors
    /// The whole text of the error reply.
    fn rewrite_config(&mut self) -> Result<(), String>;

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

    /// Lines of CLIENT LIST in order of id, each made by [`Session::write_client_line`]; `me` is the session that asks,
    /// which the process does not hold while a command of it runs.
    fn list_clients(&mut self, filter: &ClientFilter, me: &Session) -> String;

    /// CLIENT KILL: closes all that match. `me` itself is only counted.
    fn kill_clients(&mut self, filter: &ClientFilter, me: &Session) -> Killed;

    /// CLIENT PAUSE until the given time in milliseconds since the Unix epoch.
    ///
    /// An earlier end or a weaker mode never shortens a pause in effect, as in Redis.
    fn pause_clients(&mut self, mode: PauseMode, until_ms: i64);

    /// CLIENT UNPAUSE.
    fn unpause_clients(&mut self);
}
