//! The rows of the table: one for each directive, in the order of the documentation.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::directive::{Directive, Kind};
use crate::config::clients;
use crate::config::secret::Secret;
use crate::config::settings::Config;
use crate::config::types::{BindAddress, DebugCommand, LogLevel, MemoryPolicy, OnRefusal, ShutdownOptions};
use crate::persistence::directives::PersistDirective;
use crate::persistence::policy::{SaveRule, SyncMode};
use crate::protocol::parse_i64;
use crate::storage::is_own_name;

/// One rule of `save`, as it is written.
fn render_rule(rule: &SaveRule) -> String {
    format!("{} {}", rule.period.as_secs(), rule.min_changes)
}

/// A number that a directive is stored in.
trait Stored {
    fn load(&self) -> u64;
    fn store(number: u64) -> Self;
}

macro_rules! stored {
    ($($type:ty),+) => {
        $(impl Stored for $type {
            fn load(&self) -> u64 {
                (*self).into()
            }

            fn store(number: u64) -> Self {
                number.try_into().expect("the bounds in the table fit the type")
            }
        })+
    };
}

stored!(u16, u32, u64);

impl Stored for usize {
    fn load(&self) -> u64 {
        *self as u64
    }

    fn store(number: u64) -> Self {
        number.try_into().expect("the bounds in the table fit the type")
    }
}

/// A row of the table: a directive that is read at start alone.
fn fixed(name: &'static str, kind: Kind) -> Directive {
    Directive { name: Cow::Borrowed(name), live: false, secret: false, hidden: false, kind }
}

/// A row of the table: a directive that can change while the server runs.
fn live(name: &'static str, kind: Kind) -> Directive {
    Directive { live: true, ..fixed(name, kind) }
}

/// A row of the table: a directive that can change while the server runs, and that is there for tests.
fn for_tests(name: &'static str, kind: Kind) -> Directive {
    Directive { hidden: true, ..live(name, kind) }
}

macro_rules! yes_no {
    ($field:ident) => {
        Kind::YesNo { get: |config| config.$field, set: |config, value| config.$field = value }
    };
}

macro_rules! number {
    ($($field:ident).+, $min:expr, $max:expr) => {
        Kind::Number {
            min: $min,
            max: $max,
            get: |config| config.$($field).+.load(),
            set: |config, value| config.$($field).+ = Stored::store(value),
        }
    };
}

macro_rules! memory {
    ($($field:ident).+, $min:expr) => {
        Kind::Memory {
            min: $min,
            max: u64::MAX,
            get: |config| config.$($field).+,
            set: |config, value| config.$($field).+ = value,
        }
    };
}

macro_rules! seconds {
    ($field:ident, $max:expr) => {
        Kind::Number {
            min: 0,
            max: $max,
            get: |config| config.$field.as_secs(),
            set: |config, value| config.$field = Duration::from_secs(value),
        }
    };
}

macro_rules! word {
    ($field:ident, $type:ident) => {
        Kind::Choice {
            words: $type::WORDS,
            get: |config| config.$field.word(),
            set: |config, word| {
                config.$field = $type::from_word(word).expect("checked against the words of the type");
            },
        }
    };
}

/// A path, or nothing.
macro_rules! optional_path {
    ($field:ident) => {
        Kind::Bytes {
            allowed: "a path, or \"\" for none",
            get: |config| config.$field.as_deref().map(path_bytes).unwrap_or_default(),
            set: |config, value| {
                config.$field = (!value.is_empty()).then(|| path(value));
                Ok(())
            },
        }
    };
}

/// The name of a file or directory without a path.
macro_rules! file_name {
    ($field:ident, $what:literal) => {
        Kind::Text {
            allowed: concat!("the name of a ", $what, " without a path"),
            get: |config| config.$field.clone(),
            set: |config, value| {
                if !is_file_name(value) {
                    return Err(
                        concat!(stringify!($field), " can't be a path, just a ", $what, " name").to_owned()
                    );
                }
                if is_own_name(value) {
                    return Err(format!(
                        concat!(
                            stringify!($field),
                            " can't be {}: the server has files of its own by that name, and would remove or overwrite this ",
                            $what,
                            ". Choose another name; what is there already by this one must be renamed with it, before the next start"
                        ),
                        value
                    ));
                }
                config.$field = value.to_owned();
                Ok(())
            },
        }
    };
}

macro_rules! shutdown {
    ($field:ident) => {
        Kind::Words {
            allowed: "default, or some of save, nosave, now, force",
            lines: |config| vec![config.$field.to_string()],
            set: |config, words| {
                config.$field = ShutdownOptions::parse(words.iter().copied())?;
                Ok(())
            },
        }
    };
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

fn path_bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

/// True for a name that cannot leave its directory.
fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0', '\n'])
}

fn set_save(config: &mut Config, words: &[&str]) -> Result<(), String> {
    let invalid = || "Invalid save parameters".to_owned();
    if let [word] = words
        && word.is_empty()
    {
        config.save.clear();
        return Ok(());
    }
    let (pairs, rest) = words.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(invalid());
    }
    for [seconds, changes] in pairs {
        let number = |word: &str, min: u32| {
            parse_i64(word.as_bytes())
                .and_then(|number| u32::try_from(number).ok())
                .filter(|number| *number >= min)
                .ok_or_else(invalid)
        };
        let (seconds, changes) = (number(seconds, 1)?, number(changes, 0)?);
        config
            .save
            .push(SaveRule { period: Duration::from_secs(seconds.into()), min_changes: changes.into() });
    }
    Ok(())
}

/// Most percentiles: what INFO prints of each command stays one line.
const PERCENTILES_MAX: usize = 32;

fn set_percentiles(config: &mut Config, words: &[&str]) -> Result<(), String> {
    if let [word] = words
        && word.is_empty()
    {
        config.measure.percentiles.clear();
        return Ok(());
    }
    if words.len() > PERCENTILES_MAX {
        return Err(format!("latency-tracking-info-percentiles takes at most {PERCENTILES_MAX} percentiles"));
    }
    let percentiles: Result<Vec<f64>, _> = words.iter().map(|word| word.parse::<f64>()).collect();
    let percentiles =
        percentiles.map_err(|_| "Invalid latency-tracking-info-percentiles parameters".to_owned())?;
    if !percentiles.iter().all(|percentile| (0.0..=100.0).contains(percentile)) {
        return Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".to_owned());
    }
    config.measure.percentiles = percentiles;
    Ok(())
}

/// Reads the permissions of a file, as Redis reads them.
fn parse_permissions(text: &str) -> Result<u32, String> {
    const MAX: u32 = 0o777;
    // Nothing at all is a number as well: so `strtoll` takes it.
    let number = if text.is_empty() { Ok(0) } else { i64::from_str_radix(text.trim_ascii_start(), 8) };
    let number = number.map_err(|_| "argument couldn't be parsed as an octal number".to_owned())?;
    let number = u32::try_from(number).ok().filter(|number| *number <= MAX);
    number.ok_or_else(|| format!("argument must be between 0 and {MAX:o} inclusive"))
}

fn set_bind(config: &mut Config, words: &[&str]) -> Result<(), String> {
    if let [word] = words
        && word.is_empty()
    {
        config.bind.clear();
        return Ok(());
    }
    if words.len() > BIND_MAX {
        return Err("Too many bind addresses specified.".to_owned());
    }
    let addresses: Option<Vec<_>> = words.iter().map(|word| BindAddress::parse(word)).collect();
    config.bind = addresses.ok_or_else(|| "Failed to bind to specified addresses.".to_owned())?;
    Ok(())
}

/// Most databases: far above any use, and each costs memory when it is empty as well.
const DATABASES_MAX: u64 = 65_536;

/// Bounds of `hz`, as in Redis.
const HZ_MIN: u64 = 1;
const HZ_MAX: u64 = 500;

/// Most addresses of `bind`, as in Redis.
const BIND_MAX: usize = 16;

/// The words of `persist-strategy`.
const STRATEGIES: &[&str] = &["always", "everysec", "no", "never"];

fn set_sync_mode(config: &mut Config, word: &str) {
    config.sync_mode = match word {
        "always" => SyncMode::Always,
        "no" => SyncMode::Never,
        _ => SyncMode::EverySecond,
    };
}

fn sync_mode_word(config: &Config) -> &'static str {
    match config.sync_mode {
        SyncMode::Always => "always",
        SyncMode::EverySecond => "everysec",
        SyncMode::Never => "no",
    }
}

pub(super) fn build() -> Vec<Directive> {
    const I32_MAX: u64 = i32::MAX as u64;
    const U32_MAX: u64 = u32::MAX as u64;
    const PORT_MAX: u64 = u16::MAX as u64;
    let mut table = vec![
        live(
            "bind",
            Kind::Words {
                allowed: "addresses such as 127.0.0.1 or ::1, * for every IPv4 and ::* for every IPv6 address, each with - \
                          in front if it may be missing, or \"\" for none; host names are not looked up",
                lines: |config| {
                    let words: Vec<_> = config.bind.iter().map(ToString::to_string).collect();
                    if words.is_empty() { Vec::new() } else { vec![words.join(" ")] }
                },
                set: set_bind,
            },
        ),
        live("port", number!(port, 0, PORT_MAX)),
        fixed("unixsocket", optional_path!(unixsocket)),
        fixed(
            "unixsocketperm",
            Kind::Text {
                allowed: "permissions as an octal number from 0 to 777, such as 770; 0 leaves them to the umask",
                get: |config| format!("{:o}", config.unixsocketperm),
                set: |config, text| {
                    config.unixsocketperm = parse_permissions(text)?;
                    Ok(())
                },
            },
        ),
        fixed("tcp-backlog", number!(tcp_backlog, 0, I32_MAX)),
        live("timeout", seconds!(timeout, I32_MAX)),
        live("tcp-keepalive", seconds!(tcp_keepalive, I32_MAX)),
        live("protected-mode", yes_no!(protected_mode)),
        Directive {
            secret: true,
            ..live(
                "requirepass",
                Kind::Bytes {
                    allowed: "a password, or \"\" for none",
                    get: |config| config.requirepass.reveal().to_owned(),
                    set: |config, value| {
                        config.requirepass = Secret::new(value);
                        Ok(())
                    },
                },
            )
        },
        fixed("requirepass-file", optional_path!(requirepass_file)),
        fixed("io-threads", number!(io_threads, 0, 128)),
        fixed("huge-pages", yes_no!(huge_pages)),
        live("maxclients", number!(maxclients, 1, U32_MAX)),
        live(
            "client-output-buffer-limit",
            Kind::Words {
                allowed: "groups of class (normal, replica or pubsub), hard limit, soft limit and seconds, as in pubsub 32mb \
                          8mb 60; 0 for no limit",
                lines: |config| config.client_output_buffer_limit.lines(),
                set: |config, words| config.client_output_buffer_limit.set(words),
            },
        ),
        live("tracking-table-max-keys", number!(tracking_table_max_keys, 0, i64::MAX as u64)),
        live(
            "client-query-buffer-limit",
            Kind::Memory {
                min: 1 << 20,
                max: i64::MAX as u64,
                get: |config| config.client_query_buffer_limit,
                set: |config, value| config.client_query_buffer_limit = value,
            },
        ),
        live(
            "maxmemory-clients",
            Kind::Text {
                allowed: "a number of bytes, also with a unit (k, kb, m, mb, g, gb), or a percentage of maxmemory such as 10%; \
                          0 for no limit",
                get: |config| config.maxmemory_clients.to_string(),
                set: |config, text| {
                    config.maxmemory_clients = clients::ClientMemory::parse(text)?;
                    Ok(())
                },
            },
        ),
        live("maxmemory-unauthenticated", memory!(maxmemory_unauthenticated, 0)),
        live("authentication-timeout", seconds!(authentication_timeout, I32_MAX)),
        live("partial-request-timeout", seconds!(partial_request_timeout, I32_MAX)),
        live("unread-output-timeout", seconds!(unread_output_timeout, I32_MAX)),
        live(
            "notify-keyspace-events",
            Kind::Text {
                allowed: "letters of Ag$lshzxeKEtmdn, or \"\" for none",
                get: |config| clients::render_notified(config.notify_keyspace_events),
                set: |config, letters| {
                    let invalid = || "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".to_owned();
                    config.notify_keyspace_events = clients::parse_notified(letters).ok_or_else(invalid)?;
                    Ok(())
                },
            },
        ),
        live("hash-max-listpack-entries", number!(limits.hash_entries, 0, i64::MAX as u64)),
        live("hash-max-listpack-value", number!(limits.hash_value, 0, i64::MAX as u64)),
        live("set-max-intset-entries", number!(limits.set_ints, 0, i64::MAX as u64)),
        live("set-max-listpack-entries", number!(limits.set_entries, 0, i64::MAX as u64)),
        live("set-max-listpack-value", number!(limits.set_value, 0, i64::MAX as u64)),
        live("zset-max-listpack-entries", number!(limits.sorted_set_entries, 0, i64::MAX as u64)),
        live("zset-max-listpack-value", number!(limits.sorted_set_value, 0, i64::MAX as u64)),
        live(
            "list-max-listpack-size",
            Kind::Text {
                allowed: "a number of elements, or -1 to -5 for 4, 8, 16, 32 or 64 KiB",
                get: |config| config.limits.list_fill.to_string(),
                set: |config, text| {
                    let invalid = || "argument couldn't be parsed into an integer".to_owned();
                    config.limits.list_fill = text.parse().map_err(|_| invalid())?;
                    Ok(())
                },
            },
        ),
        live(
            "slowlog-log-slower-than",
            Kind::Text {
                allowed: "microseconds, 0 for every command, or -1 for none",
                get: |config| config.measure.slower_than_us.to_string(),
                set: |config, text| {
                    let number = parse_i64(text.as_bytes())
                        .ok_or_else(|| "argument couldn't be parsed into an integer".to_owned())?;
                    if number < -1 {
                        return Err(format!("argument must be between -1 and {} inclusive", i64::MAX));
                    }
                    config.measure.slower_than_us = number;
                    Ok(())
                },
            },
        ),
        live("slowlog-max-len", number!(measure.slow_log_len_max, 0, i64::MAX as u64)),
        live("latency-monitor-threshold", number!(measure.latency_threshold_ms, 0, i64::MAX as u64)),
        live(
            "latency-tracking",
            Kind::YesNo {
                get: |config| config.measure.tracking,
                set: |config, value| config.measure.tracking = value,
            },
        ),
        live(
            "latency-tracking-info-percentiles",
            Kind::Words {
                allowed: "percentiles from 0 to 100, or \"\" for none",
                lines: |config| {
                    let words: Vec<_> = config
                        .measure
                        .percentiles
                        .iter()
                        .map(|it| crate::measure::percentile_text(*it))
                        .collect();
                    if words.is_empty() { Vec::new() } else { vec![words.join(" ")] }
                },
                set: set_percentiles,
            },
        ),
        fixed("databases", number!(databases, 1, DATABASES_MAX)),
        live("proto-max-bulk-len", memory!(proto_max_bulk_len, 1 << 20)),
        live("maxmemory", memory!(maxmemory, 0)),
        live("maxmemory-policy", word!(maxmemory_policy, MemoryPolicy)),
        live("maxmemory-samples", number!(maxmemory_samples, 1, I32_MAX)),
        live("maxmemory-eviction-tenacity", number!(maxmemory_eviction_tenacity, 0, 100)),
        live("lfu-log-factor", number!(lfu_log_factor, 0, I32_MAX)),
        live("lfu-decay-time", number!(lfu_decay_time, 0, I32_MAX)),
        live("persistent", yes_no!(persistent)),
        live(
            "persist-strategy",
            Kind::Choice {
                words: STRATEGIES,
                get: |config| if config.log { sync_mode_word(config) } else { "never" },
                set: |config, word| {
                    config.log = word != "never";
                    if config.log {
                        set_sync_mode(config, word);
                    }
                },
            },
        ),
        live("appendonly", yes_no!(log)),
        live(
            "appendfsync",
            Kind::Choice { words: &["everysec", "always", "no"], get: sync_mode_word, set: set_sync_mode },
        ),
        fixed(
            "dir",
            Kind::Bytes {
                allowed: "the path of a directory",
                get: |config| path_bytes(&config.dir),
                set: |config, value| {
                    if value.is_empty() {
                        return Err("No such file or directory".to_owned());
                    }
                    config.dir = path(value);
                    Ok(())
                },
            },
        ),
        fixed("dbfilename", file_name!(dbfilename, "file")),
        live("rdbcompression", yes_no!(rdbcompression)),
        fixed("rdbchecksum", yes_no!(rdbchecksum)),
        live(
            "save",
            Kind::Words {
                allowed: "pairs of seconds (from 1) and changes, as in save 3600 1 300 100, or \"\" for no snapshots by rule",
                lines: |config| config.save.iter().map(render_rule).collect(),
                set: set_save,
            },
        ),
        live("stop-writes-on-bgsave-error", yes_no!(stop_writes_on_bgsave_error)),
        fixed("appendfilename", file_name!(appendfilename, "file")),
        fixed("appenddirname", file_name!(appenddirname, "directory")),
        live("auto-aof-rewrite-percentage", number!(auto_aof_rewrite.growth_percentage, 0, I32_MAX)),
        live("auto-aof-rewrite-min-size", memory!(auto_aof_rewrite.min_size, 0)),
        live("auto-aof-rewrite-max-size", memory!(auto_aof_rewrite.max_size, 0)),
        fixed("aof-annotations", yes_no!(aof_annotations)),
        fixed("aof-load-truncated", yes_no!(aof_load_truncated)),
        live(
            "hz",
            Kind::Number {
                min: 0,
                max: I32_MAX,
                get: |config| config.hz.into(),
                // As in Redis, which takes any number and keeps what is in its bounds.
                set: |config, value| config.hz = Stored::store(value.clamp(HZ_MIN, HZ_MAX)),
            },
        ),
        live("loglevel", word!(loglevel, LogLevel)),
        fixed("logfile", optional_path!(logfile)),
        fixed("pidfile", optional_path!(pidfile)),
        fixed("always-show-logo", yes_no!(always_show_logo)),
        live("shutdown-timeout", seconds!(shutdown_timeout, I32_MAX)),
        live("shutdown-on-sigterm", shutdown!(shutdown_on_sigterm)),
        live("shutdown-on-sigint", shutdown!(shutdown_on_sigint)),
        fixed("enable-debug-command", word!(enable_debug_command, DebugCommand)),
        fixed("health-port", number!(health_port, 0, PORT_MAX)),
        fixed("control-port", number!(control_port, 0, PORT_MAX)),
        fixed("control-token-file", optional_path!(control_token_file)),
        fixed("store-record-file", optional_path!(store_record_file)),
        fixed(
            "credentials-dir",
            Kind::Bytes {
                allowed: "the path of a directory",
                get: |config| path_bytes(&config.credentials_dir),
                set: |config, value| {
                    if value.is_empty() {
                        return Err("credentials-dir can't be empty".to_owned());
                    }
                    config.credentials_dir = path(value);
                    Ok(())
                },
            },
        ),
        fixed(
            "instance-name",
            Kind::Text {
                allowed: "a name, or \"\" for none",
                get: |config| config.instance_name.clone(),
                set: |config, value| {
                    config.instance_name = value.to_owned();
                    Ok(())
                },
            },
        ),
        fixed("on-refusal", word!(on_refusal, OnRefusal)),
        fixed("termination-message-file", optional_path!(termination_message_file)),
        live(
            "warning-slow-sync-ms",
            Kind::Number {
                min: 0,
                max: I32_MAX,
                get: |config| u64::try_from(config.warning_slow_sync.as_millis()).unwrap_or(u64::MAX),
                set: |config, value| config.warning_slow_sync = Duration::from_millis(value),
            },
        ),
        live("warning-memory-percentage", number!(warning_memory_percentage, 0, 100)),
        live("warning-volume-percentage", number!(warning_volume_percentage, 0, 100)),
        for_tests("rdb-key-save-delay", number!(rdb_key_save_delay_us, 0, I32_MAX)),
        for_tests("key-load-delay", number!(key_load_delay_us, 0, I32_MAX)),
    ];
    table.extend(PersistDirective::all().into_iter().map(|directive| Directive {
        name: Cow::Owned(directive.to_string()),
        live: true,
        secret: false,
        hidden: false,
        kind: Kind::Persist(directive),
    }));
    table
}
