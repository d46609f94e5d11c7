//! The whole configuration as one value, valid in itself, and its defaults.

use std::path::PathBuf;
use std::time::Duration;

use holdfast_contract::ports;

use super::clients::{ClientMemory, OutputLimits};
use super::notice::Notice;
use super::secret::{ReadSecretError, Secret};
use super::types::{BindAddress, DebugCommand, LogLevel, MemoryPolicy, OnRefusal, ShutdownOptions, Strategy};
use crate::engine::EvictionSettings;
use crate::persistence::directives::PersistSettings;
use crate::persistence::policy::{RewriteRules, SaveRule, SyncMode};

const MIB: u64 = 1024 * 1024;
/// Where the operator mounts the credentials of backup locations.
const CREDENTIALS_DIR: &str = "/etc/holdfast/locations";

/// The whole configuration, valid in itself. Fields are called as the directives; units are in the types, or in the name
/// where a type would not carry them. Defaults are Redis's, but for the log, which is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Addresses to listen on; empty: the Redis protocol is not served by TCP.
    pub bind: Vec<BindAddress>,
    /// Port of the Redis protocol; 0: it is not served by TCP.
    pub port: u16,
    /// Unix socket at which the Redis protocol is served as well, as it was written. Use [`Config::unix_socket_path`].
    pub unixsocket: Option<PathBuf>,
    /// Permissions of the file of that socket; 0: what the umask leaves.
    pub unixsocketperm: u32,
    /// Length of the queue of connections that are not accepted yet.
    pub tcp_backlog: u32,
    /// A client that is idle for so long is disconnected; zero: never.
    pub timeout: Duration,
    /// Interval of TCP keep-alive probes; zero: none.
    pub tcp_keepalive: Duration,
    /// Without a password, accept only connections from this machine.
    pub protected_mode: bool,
    /// Password of the default user, from `requirepass`; empty: none. See [`Config::read_password`].
    pub requirepass: Secret,
    /// File with the password of the default user.
    pub requirepass_file: Option<PathBuf>,
    /// Most clients at once.
    pub maxclients: u32,
    /// Threads that serve sockets, the one that executes commands included; 0: half of the processors of the process.
    pub io_threads: u32,
    /// Memory that is full is moved into huge pages, where the machine has them.
    pub huge_pages: bool,
    /// How much output of a client may wait.
    pub client_output_buffer_limit: OutputLimits,
    /// Most bytes of a request, and of a queued transaction, that are not executed yet.
    pub client_query_buffer_limit: u64,
    /// Most keys that are remembered for clients that track; 0 = any number.
    pub tracking_table_max_keys: u64,
    /// What all clients together may hold before the largest are closed.
    pub maxmemory_clients: ClientMemory,
    /// What all clients that have not authenticated may hold, in bytes, before the oldest are closed; 0: no limit.
    pub maxmemory_unauthenticated: u64,
    /// How long a client may take to authenticate; zero: for ever.
    pub authentication_timeout: Duration,
    /// How long a client that has not authenticated may take for one request; zero: for ever.
    pub partial_request_timeout: Duration,
    /// How long output of a client that gets replies may wait of which it reads nothing; zero: for ever.
    pub unread_output_timeout: Duration,
    /// When collections stop being packed.
    pub limits: crate::engine::Limits,
    /// Which keyspace events are published: bits of [`crate::engine::events::class`].
    pub notify_keyspace_events: u32,
    /// Which commands are slow, and what is noted of them: `slowlog-*` and `latency-*`.
    pub measure: crate::measure::MeasureSettings,
    /// Number of databases.
    pub databases: u32,
    /// Longest argument of a command, in bytes.
    pub proto_max_bulk_len: u64,
    /// Memory for data, in bytes; 0 = no limit.
    pub maxmemory: u64,
    /// What happens beyond that.
    pub maxmemory_policy: MemoryPolicy,
    /// Keys that are looked at for one that is evicted.
    pub maxmemory_samples: u32,
    /// How long a command or a turn may evict: from 0 (not at all, but for one step) over 10 (0.5 ms) to 100 (no limit).
    pub maxmemory_eviction_tenacity: u32,
    /// The higher, the more accesses the counter of a key takes to rise.
    pub lfu_log_factor: u32,
    /// Minutes after which the counter of a key that is not used falls by one; 0 = never.
    pub lfu_decay_time: u32,
    /// `persistent`: false for a pure cache. Use [`Config::strategy`].
    pub persistent: bool,
    /// There is a log (unless `persistent` is false). Use [`Config::strategy`].
    pub log: bool,
    /// A line says whether there is a log: it is not the default that does.
    pub log_is_named: bool,
    /// When the log is synced, if there is one.
    pub sync_mode: SyncMode,
    /// Directory of all files, as it was written.
    pub dir: PathBuf,
    /// File name of the snapshot; no path.
    pub dbfilename: String,
    /// Compress strings in snapshots.
    pub rdbcompression: bool,
    /// Checksum at the end of snapshots.
    pub rdbchecksum: bool,
    /// When to take a snapshot; empty: never by rule.
    pub save: Vec<SaveRule>,
    /// Refuse writes while the last snapshot by rule has failed.
    pub stop_writes_on_bgsave_error: bool,
    /// First part of the names of the log's files; no path.
    pub appendfilename: String,
    /// Directory of the log's files below `dir`; no path.
    pub appenddirname: String,
    /// When to rewrite the log (`auto-aof-rewrite-percentage`, `-min-size` and `-max-size`).
    pub auto_aof_rewrite: RewriteRules,
    /// Write our lines into the log: checksums, offsets and times. Without them it is commands alone.
    pub aof_annotations: bool,
    /// Cut a torn last record off and start; otherwise refuse to start.
    pub aof_load_truncated: bool,
    /// Runs of the periodic tasks in a second.
    pub hz: u32,
    /// What is logged.
    pub loglevel: LogLevel,
    /// File for the log messages; `None`: standard output.
    pub logfile: Option<PathBuf>,
    /// File for the process id.
    pub pidfile: Option<PathBuf>,
    /// Show the banner also if the output is no terminal.
    pub always_show_logo: bool,
    /// Longest wait for a clean stop.
    pub shutdown_timeout: Duration,
    /// What SIGTERM stands for.
    pub shutdown_on_sigterm: ShutdownOptions,
    /// What SIGINT stands for.
    pub shutdown_on_sigint: ShutdownOptions,
    /// Who may use `DEBUG`.
    pub enable_debug_command: DebugCommand,
    /// Port of `/livez`, `/readyz` and `/metrics`; 0 = off.
    pub health_port: u16,
    /// Port of the control messages; 0 = off. It opens only with a token.
    pub control_port: u16,
    /// File with the bearer token of the control port.
    pub control_token_file: Option<PathBuf>,
    /// File with the operator's record of the Store.
    pub store_record_file: Option<PathBuf>,
    /// Directory below which the credentials of backup locations are mounted, one directory for each.
    pub credentials_dir: PathBuf,
    /// Name of this instance in the identity and in backups; empty: none.
    pub instance_name: String,
    /// What to do when the volume must not be used.
    pub on_refusal: OnRefusal,
    /// File that Kubernetes shows as the reason of a termination.
    pub termination_message_file: Option<PathBuf>,
    /// A sync that takes longer raises a warning; zero: none does.
    pub warning_slow_sync: Duration,
    /// Memory above this share of `maxmemory` raises a warning; 0 = never.
    pub warning_memory_percentage: u32,
    /// A volume filled above this share raises a warning; 0 = never.
    pub warning_volume_percentage: u32,
    /// Microseconds that a snapshot is to take for each key, for tests; 0: none.
    pub rdb_key_save_delay_us: u32,
    /// The same of a load.
    pub key_load_delay_us: u32,
    /// The `persist-*` directives besides the strategy.
    pub persist: PersistSettings,
    /// The file that the configuration came from, absolute: what `CONFIG REWRITE` rewrites.
    pub file: Option<PathBuf>,
    /// SHA-256 of that file as it was read, lower-case hex; empty without one.
    pub file_sha256: String,
    /// What was accepted without an effect, for the start to print.
    pub notices: Vec<Notice>,
}

impl Default for Config {
    fn default() -> Self {
        let any = |word| BindAddress::parse(word).expect("a valid address");
        let rule = |seconds, min_changes| SaveRule { period: Duration::from_secs(seconds), min_changes };
        Self {
            bind: vec![any("*"), any("-::*")],
            port: ports::REDIS,
            unixsocket: None,
            unixsocketperm: 0,
            tcp_backlog: 511,
            timeout: Duration::ZERO,
            tcp_keepalive: Duration::from_secs(60),
            protected_mode: true,
            requirepass: Secret::new(""),
            requirepass_file: None,
            maxclients: 10_000,
            io_threads: 0,
            huge_pages: true,
            client_output_buffer_limit: OutputLimits::default(),
            client_query_buffer_limit: 1024 * MIB,
            tracking_table_max_keys: 1_000_000,
            maxmemory_clients: ClientMemory::DEFAULT,
            maxmemory_unauthenticated: 64 * MIB,
            authentication_timeout: Duration::from_secs(10),
            partial_request_timeout: Duration::from_secs(30),
            unread_output_timeout: Duration::from_secs(60),
            limits: crate::engine::Limits::default(),
            notify_keyspace_events: 0,
            measure: crate::measure::MeasureSettings::default(),
            databases: 16,
            proto_max_bulk_len: 512 * MIB,
            maxmemory: 0,
            maxmemory_policy: MemoryPolicy::NoEviction,
            maxmemory_samples: 5,
            maxmemory_eviction_tenacity: 10,
            lfu_log_factor: 10,
            lfu_decay_time: 1,
            persistent: true,
            log: true,
            log_is_named: false,
            sync_mode: SyncMode::EverySecond,
            dir: PathBuf::from("."),
            dbfilename: "dump.rdb".to_owned(),
            rdbcompression: true,
            rdbchecksum: true,
            save: vec![rule(3600, 1), rule(300, 100), rule(60, 10_000)],
            stop_writes_on_bgsave_error: true,
            appendfilename: "appendonly.aof".to_owned(),
            appenddirname: "appendonlydir".to_owned(),
            auto_aof_rewrite: RewriteRules { growth_percentage: 100, min_size: 64 * MIB, max_size: 0 },
            aof_annotations: true,
            aof_load_truncated: true,
            hz: 10,
            loglevel: LogLevel::Notice,
            logfile: None,
            pidfile: None,
            always_show_logo: false,
            shutdown_timeout: Duration::from_secs(10),
            shutdown_on_sigterm: ShutdownOptions::default(),
            shutdown_on_sigint: ShutdownOptions::default(),
            enable_debug_command: DebugCommand::No,
            health_port: ports::HEALTH,
            control_port: ports::CONTROL,
            control_token_file: None,
            store_record_file: None,
            credentials_dir: PathBuf::from(CREDENTIALS_DIR),
            instance_name: String::new(),
            on_refusal: OnRefusal::Exit,
            termination_message_file: None,
            warning_slow_sync: Duration::from_secs(1),
            warning_memory_percentage: 90,
            warning_volume_percentage: 85,
            rdb_key_save_delay_us: 0,
            key_load_delay_us: 0,
            persist: PersistSettings::default(),
            file: None,
            file_sha256: String::new(),
            notices: Vec::new(),
        }
    }
}

impl Config {
    /// What is evicted when there is no room.
    #[must_use]
    pub(crate) fn eviction(&self) -> EvictionSettings {
        EvictionSettings {
            policy: self.maxmemory_policy.eviction(),
            samples: self.maxmemory_samples as usize,
            lfu_log_factor: self.lfu_log_factor,
            lfu_decay_minutes: self.lfu_decay_time,
        }
    }

    /// How long a command, or a turn, may evict; none is no limit. Source: Redis 7.0, `evictionTimeLimitUs`.
    #[must_use]
    pub(crate) fn eviction_time_max(&self) -> Option<Duration> {
        let tenacity = self.maxmemory_eviction_tenacity;
        match tenacity {
            0..=10 => Some(Duration::from_micros(50 * u64::from(tenacity))),
            11..100 => Some(Duration::from_micros(500).mul_f64(1.15_f64.powf(f64::from(tenacity - 10)))),
            _ => None,
        }
    }

    /// How data is kept.
    #[must_use]
    pub(crate) fn strategy(&self) -> Strategy {
        match (self.persistent, self.log, self.sync_mode) {
            (false, ..) => Strategy::Disabled,
            (true, false, _) => Strategy::Never,
            (true, true, SyncMode::Always) => Strategy::Always,
            (true, true, SyncMode::EverySecond) => Strategy::EverySecond,
            (true, true, SyncMode::Never) => Strategy::NoSync,
        }
    }

    /// Where messages go: `logfile`, which a relative path names below `dir`, as in Redis; `None` is standard output.
    #[must_use]
    pub fn log_path(&self) -> Option<PathBuf> {
        self.logfile.as_ref().map(|path| self.dir.join(path))
    }

    /// Where the process id is written, if that is asked for: `pidfile`, which a relative path names below `dir`, as in Redis.
    #[must_use]
    pub(crate) fn pid_path(&self) -> Option<PathBuf> {
        self.pidfile.as_ref().map(|path| self.dir.join(path))
    }

    /// Where the Unix socket is, if there is one: `unixsocket`, which a relative path names below `dir`, as in Redis.
    #[must_use]
    pub(crate) fn unix_socket_path(&self) -> Option<PathBuf> {
        self.unixsocket.as_ref().map(|path| self.dir.join(path))
    }

    /// Whether clients can connect at all: by TCP, or by a Unix socket.
    #[must_use]
    pub(super) fn is_reachable(&self) -> bool {
        self.unixsocket.is_some() || (self.port != 0 && !self.bind.is_empty())
    }

    /// The password that clients must give, or `None`. Reads `requirepass-file` if there is one.
    /// # Errors
    /// [`ReadSecretError`]: a password was asked for and is not there; do not start without.
    pub(crate) fn read_password(&self) -> Result<Option<Secret>, ReadSecretError> {
        match &self.requirepass_file {
            Some(path) => Secret::read(path).map(Some),
            None => Ok((!self.requirepass.is_empty()).then(|| self.requirepass.clone())),
        }
    }
}
