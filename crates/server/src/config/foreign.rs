//! Directives of Redis that have no effect here: what is accepted with a notice, and what is refused.
//!
//! A file for Redis must start here without being edited, unless it asks for something whose absence would hurt.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::names;
use super::notice::Notice;
use super::problem::Problem;
use super::source::Line;
use super::units::{between, one_of, parse_memory};
use crate::protocol::parse_i64;

/// How a directive is treated whose value is not Redis's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Otherwise {
    Notice,
    Refuse,
}
use Otherwise::{Notice as Note, Refuse};

/// A directive of Redis without effect here.
pub(super) struct Foreign {
    pub(super) name: &'static str,
    /// The value that Redis has without the directive; `None` if the directive always asks for something.
    default: Option<&'static str>,
    otherwise: Otherwise,
    reason: &'static str,
}

const REPLICATION: &str = "has no effect, there is no replication in this version";
const CLUSTER: &str = "has no effect, there is no cluster mode";
const TLS: &str = "has no effect, there is no TLS in this version";
const TYPES: &str = "has no effect, the type does not exist in this version";
const LAZY: &str = "has no effect, memory is released by the thread that owns the data";
const DEFRAG: &str = "has no effect, fragmented memory is compacted automatically";
const FORK: &str = "has no effect, nothing forks";
const SYSLOG: &str = "has no effect, messages go to standard output or logfile";
const SCRIPTS: &str = "has no effect, there are no scripts or modules";
const CLIENT: &str = "has no effect, the limits of clients are fixed in this version";
const PROCESS: &str = "has no effect, the process is left as the system starts it";
const THREADS: &str = "has no effect, threads run on the processors that the process has";
const USERS: &str =
    "is refused, because there is only the default user in this version: use requirepass or requirepass-file";
const IGNORED: &str = "has no effect, Redis 7 ignores it as well";
const UPSTREAM_TEST: &str = "has no effect, it exists for the tests of Redis";

/// The table: name, default of Redis, what happens otherwise, why.
const ROWS: &[(&str, Option<&str>, Otherwise, &str)] = &[
    (
        "replicaof",
        Some("no one"),
        Refuse,
        "is refused, because there is no replication in this version: the server would take writes as a primary",
    ),
    (
        "min-replicas-to-write",
        Some("0"),
        Refuse,
        "is refused, because there is no replication in this version: no write could be accepted",
    ),
    ("cluster-enabled", Some("no"), Refuse, "is refused, because there is no cluster mode"),
    (
        "tls-port",
        Some("0"),
        Refuse,
        "is refused, because there is no TLS in this version: put a proxy in front, or leave the port at 0",
    ),
    ("aclfile", Some(""), Refuse, USERS),
    ("user", None, Refuse, USERS),
    ("loadmodule", None, Refuse, "is refused, because there are no modules"),
    (
        "rename-command",
        None,
        Refuse,
        "is refused, because commands cannot be renamed: a file that relies on it would leave them open",
    ),
    ("sentinel", None, Refuse, "is refused, because this server has no sentinel mode"),
    (
        "daemonize",
        Some("no"),
        Note,
        "has no effect, the server runs in the foreground: run it under a supervisor such as systemd (Type=exec)",
    ),
    (
        "supervised",
        Some("no"),
        Note,
        "has no effect, no supervisor is told of the start: use Type=exec in a systemd unit",
    ),
    ("aof-use-rdb-preamble", Some("yes"), Note, "has no effect, the base of a log is always an RDB"),
    (
        "aof-timestamp-enabled",
        Some("no"),
        Note,
        "has no effect, every frame of the log carries its time anyway",
    ),
    (
        "no-appendfsync-on-rewrite",
        Some("no"),
        Note,
        "has no effect, the log is synced as the strategy says during a rewrite as well",
    ),
    (
        "aof-rewrite-incremental-fsync",
        Some("yes"),
        Note,
        "has no effect, files are synced before they are used",
    ),
    ("rdb-save-incremental-fsync", Some("yes"), Note, "has no effect, files are synced before they are used"),
    ("rdb-del-sync-files", Some("no"), Note, REPLICATION),
    (
        "aof-disable-auto-gc",
        Some("no"),
        Note,
        "has no effect, files of the log are removed once the manifest no longer names them",
    ),
    ("sanitize-dump-payload", Some("no"), Note, "has no effect, every file is checked while it is loaded"),
    ("masterauth", Some(""), Note, REPLICATION),
    ("masteruser", Some(""), Note, REPLICATION),
    ("replica-serve-stale-data", Some("yes"), Note, REPLICATION),
    ("replica-read-only", Some("yes"), Note, REPLICATION),
    ("replica-priority", Some("100"), Note, REPLICATION),
    ("replica-lazy-flush", Some("no"), Note, REPLICATION),
    ("replica-ignore-maxmemory", Some("yes"), Note, REPLICATION),
    ("replica-ignore-disk-write-errors", Some("no"), Note, REPLICATION),
    ("replica-announced", Some("yes"), Note, REPLICATION),
    ("replica-announce-ip", Some(""), Note, REPLICATION),
    ("replica-announce-port", Some("0"), Note, REPLICATION),
    ("replica-full-sync-buffer-limit", None, Note, REPLICATION),
    ("min-replicas-max-lag", Some("10"), Note, REPLICATION),
    ("repl-diskless-sync", Some("yes"), Note, REPLICATION),
    ("repl-diskless-sync-delay", Some("5"), Note, REPLICATION),
    ("repl-diskless-sync-max-replicas", Some("0"), Note, REPLICATION),
    ("repl-diskless-load", Some("disabled"), Note, REPLICATION),
    ("repl-disable-tcp-nodelay", Some("no"), Note, REPLICATION),
    ("repl-ping-replica-period", Some("10"), Note, REPLICATION),
    ("repl-timeout", Some("60"), Note, REPLICATION),
    ("repl-backlog-size", Some("1mb"), Note, REPLICATION),
    ("repl-backlog-ttl", Some("3600"), Note, REPLICATION),
    ("repl-rdb-channel", Some("no"), Note, REPLICATION),
    ("propagation-error-behavior", Some("ignore"), Note, REPLICATION),
    ("cluster-config-file", Some("nodes.conf"), Note, CLUSTER),
    ("cluster-node-timeout", Some("15000"), Note, CLUSTER),
    ("cluster-port", Some("0"), Note, CLUSTER),
    ("cluster-replica-validity-factor", Some("10"), Note, CLUSTER),
    ("cluster-migration-barrier", Some("1"), Note, CLUSTER),
    ("cluster-allow-replica-migration", Some("yes"), Note, CLUSTER),
    ("cluster-require-full-coverage", Some("yes"), Note, CLUSTER),
    ("cluster-replica-no-failover", Some("no"), Note, CLUSTER),
    ("cluster-allow-reads-when-down", Some("no"), Note, CLUSTER),
    ("cluster-allow-pubsubshard-when-down", Some("yes"), Note, CLUSTER),
    ("cluster-link-sendbuf-limit", Some("0"), Note, CLUSTER),
    ("cluster-announce-ip", Some(""), Note, CLUSTER),
    ("cluster-announce-port", Some("0"), Note, CLUSTER),
    ("cluster-announce-tls-port", Some("0"), Note, CLUSTER),
    ("cluster-announce-bus-port", Some("0"), Note, CLUSTER),
    ("cluster-announce-hostname", Some(""), Note, CLUSTER),
    ("cluster-announce-human-nodename", Some(""), Note, CLUSTER),
    ("cluster-preferred-endpoint-type", Some("ip"), Note, CLUSTER),
    ("tls-cert-file", Some(""), Note, TLS),
    ("tls-key-file", Some(""), Note, TLS),
    ("tls-key-file-pass", Some(""), Note, TLS),
    ("tls-client-cert-file", Some(""), Note, TLS),
    ("tls-client-key-file", Some(""), Note, TLS),
    ("tls-client-key-file-pass", Some(""), Note, TLS),
    ("tls-dh-params-file", Some(""), Note, TLS),
    ("tls-ca-cert-file", Some(""), Note, TLS),
    ("tls-ca-cert-dir", Some(""), Note, TLS),
    ("tls-auth-clients", Some("yes"), Note, TLS),
    ("tls-replication", Some("no"), Note, TLS),
    ("tls-cluster", Some("no"), Note, TLS),
    ("tls-protocols", Some(""), Note, TLS),
    ("tls-ciphers", Some(""), Note, TLS),
    ("tls-ciphersuites", Some(""), Note, TLS),
    ("tls-prefer-server-ciphers", Some("no"), Note, TLS),
    ("tls-session-caching", Some("yes"), Note, TLS),
    ("tls-session-cache-size", Some("20480"), Note, TLS),
    ("tls-session-cache-timeout", Some("300"), Note, TLS),
    ("list-compress-depth", Some("0"), Note, "has no effect, lists are not compressed in memory"),
    ("hll-sparse-max-bytes", Some("3000"), Note, TYPES),
    ("stream-node-max-bytes", Some("4096"), Note, TYPES),
    ("stream-node-max-entries", Some("100"), Note, TYPES),
    ("activerehashing", Some("yes"), Note, "has no effect, the key table grows in small steps by itself"),
    ("lazyfree-lazy-eviction", Some("no"), Note, LAZY),
    ("lazyfree-lazy-expire", Some("no"), Note, LAZY),
    ("lazyfree-lazy-server-del", Some("no"), Note, LAZY),
    ("lazyfree-lazy-user-del", Some("no"), Note, LAZY),
    ("lazyfree-lazy-user-flush", Some("no"), Note, LAZY),
    ("activedefrag", Some("no"), Note, DEFRAG),
    ("active-defrag-ignore-bytes", Some("100mb"), Note, DEFRAG),
    ("active-defrag-threshold-lower", Some("10"), Note, DEFRAG),
    ("active-defrag-threshold-upper", Some("100"), Note, DEFRAG),
    ("active-defrag-cycle-min", Some("1"), Note, DEFRAG),
    ("active-defrag-cycle-max", Some("25"), Note, DEFRAG),
    ("active-defrag-max-scan-fields", Some("1000"), Note, DEFRAG),
    ("jemalloc-bg-thread", Some("yes"), Note, "has no effect, the allocator is left as it is"),
    ("active-expire-effort", Some("1"), Note, "has no effect, expired keys are collected by one rule"),
    ("max-new-connections-per-cycle", Some("10"), Note, CLIENT),
    ("max-new-tls-connections-per-cycle", Some("1"), Note, CLIENT),
    ("io-threads-do-reads", Some("no"), Note, "has no effect, I/O threads write only: see io-threads"),
    ("server_cpulist", Some(""), Note, THREADS),
    ("bio_cpulist", Some(""), Note, THREADS),
    ("aof_rewrite_cpulist", Some(""), Note, THREADS),
    ("bgsave_cpulist", Some(""), Note, THREADS),
    ("server-cpulist", Some(""), Note, THREADS),
    ("bio-cpulist", Some(""), Note, THREADS),
    ("aof-rewrite-cpulist", Some(""), Note, THREADS),
    ("bgsave-cpulist", Some(""), Note, THREADS),
    ("acllog-max-len", Some("128"), Note, "has no effect, there is no log of access control"),
    ("acl-pubsub-default", Some("resetchannels"), Note, "has no effect, there is only the default user"),
    ("syslog-enabled", Some("no"), Note, SYSLOG),
    ("syslog-ident", Some("redis"), Note, SYSLOG),
    ("syslog-facility", Some("local0"), Note, SYSLOG),
    ("crash-log-enabled", Some("yes"), Note, "has no effect, a panic is always reported"),
    ("crash-memcheck-enabled", Some("yes"), Note, "has no effect, memory is not checked after a crash"),
    ("use-exit-on-panic", Some("no"), Note, UPSTREAM_TEST),
    ("busy-reply-threshold", Some("5000"), Note, SCRIPTS),
    ("lua-replicate-commands", None, Note, IGNORED),
    ("list-max-ziplist-entries", None, Note, IGNORED),
    ("list-max-ziplist-value", None, Note, IGNORED),
    ("lua-enable-deprecated-api", Some("no"), Note, SCRIPTS),
    ("enable-module-command", Some("no"), Note, SCRIPTS),
    (
        "enable-protected-configs",
        Some("no"),
        Note,
        "has no effect, paths can never be changed while the server runs",
    ),
    ("dynamic-hz", Some("yes"), Note, "has no effect, periodic tasks run hz times a second"),
    ("oom-score-adj", Some("no"), Note, PROCESS),
    ("oom-score-adj-values", Some("0 200 800"), Note, FORK),
    ("disable-thp", Some("yes"), Note, "has no effect, nothing forks: see huge-pages"),
    ("set-proc-title", Some("yes"), Note, PROCESS),
    ("proc-title-template", Some("{title} {listen-addr} {server-mode}"), Note, PROCESS),
    ("locale-collate", Some(""), Note, "has no effect, SORT compares bytes"),
    ("bind-source-addr", Some(""), Note, REPLICATION),
    ("socket-mark-id", Some("0"), Note, "has no effect, sockets are not marked"),
    ("ignore-warnings", Some(""), Note, "has no effect, no warning of Redis stops this server"),
    ("watchdog-period", Some("0"), Note, UPSTREAM_TEST),
    ("loading-process-events-interval-bytes", Some("2mb"), Note, UPSTREAM_TEST),
];

/// Names whose default is also what this server does; `CONFIG GET` may say so, because clients and tools ask for them.
const REPORTED: &[&str] = &[
    "daemonize",
    "supervised",
    "cluster-enabled",
    "tls-port",
    "aclfile",
    "replicaof",
    "aof-use-rdb-preamble",
    "aof-timestamp-enabled",
    "no-appendfsync-on-rewrite",
    "min-replicas-to-write",
    "activedefrag",
    "syslog-enabled",
    "enable-module-command",
    "enable-protected-configs",
    "oom-score-adj",
    "list-compress-depth",
];

/// What a value may be that `CONFIG SET` takes although it changes nothing.
enum Taken {
    /// A number up to that of an `int`.
    Number,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// Values that `CONFIG SET` takes although nothing changes and `CONFIG GET` goes on to report what is done here: no data and no
/// reply depends on them, or what they ask for is always done; and tools set them without being asked.
const ACCEPTED: &[(&str, Taken)] = &[
    ("list-compress-depth", Taken::Number),
    ("sanitize-dump-payload", Taken::Word(&["no", "yes", "clients"])),
    ("aof-use-rdb-preamble", Taken::Word(&["yes", "no"])),
];

/// Names that Redis does not change while it runs: `CONFIG SET` says so before it says why there is no effect.
const IMMUTABLE: &[&str] = &[
    "daemonize",
    "supervised",
    "cluster-enabled",
    "aclfile",
    "syslog-enabled",
    "syslog-ident",
    "syslog-facility",
    "enable-module-command",
    "enable-protected-configs",
    "disable-thp",
    "set-proc-title",
    "cluster-config-file",
    "io-threads-do-reads",
];

static INDEX: LazyLock<HashMap<&'static str, Foreign>> = LazyLock::new(|| {
    let foreign = |&(name, default, otherwise, reason)| (name, Foreign { name, default, otherwise, reason });
    ROWS.iter().map(foreign).collect()
});

/// The directive called `name` (lower case), also by its old name.
pub(super) fn find(name: &str) -> Option<&'static Foreign> {
    INDEX.get(names::canonical(name))
}

/// Every name, without the old ones.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|(name, ..)| *name)
}

/// What `CONFIG GET` reports of directives without effect: name and the value that describes this server. As in Redis, a
/// directive with an old name is reported by both.
pub(super) fn reported() -> impl Iterator<Item = (&'static str, &'static str)> {
    REPORTED.iter().flat_map(|name| {
        let default = INDEX.get(name).and_then(|foreign| foreign.default).unwrap_or_default();
        // `replicaof no one` is what one writes, an empty value is what Redis reports.
        let value = if *name == "replicaof" { "" } else { default };
        names::alias_of(name).into_iter().chain([*name]).map(move |name| (name, value))
    })
}

impl Foreign {
    /// Takes note of a line, or refuses it; nothing needs to be said of a value that describes this server.
    pub(super) fn accept(&self, line: &Line) -> Result<Option<Notice>, Problem> {
        if line.arguments.is_empty() {
            return Err(line.problem("wrong number of arguments", format!("{} takes a value", line.name)));
        }
        let at_default = self.is_default(&String::from_utf8_lossy(&line.arguments.join(&b' ')));
        if !at_default && self.otherwise == Refuse {
            return Err(line.problem(format!("{} {}", line.name, self.reason), "remove the line"));
        }
        let true_here = at_default && REPORTED.contains(&self.name);
        Ok((!true_here).then(|| Notice {
            directive: line.name.clone(),
            place: Some(line.place.clone()),
            reason: self.reason.to_owned(),
            at_default,
        }))
    }

    /// The answer to a `CONFIG SET`, which changes nothing: setting what is reported succeeds.
    pub(super) fn set(&self, value: &str) -> Result<(), String> {
        match ACCEPTED.iter().find(|(name, _)| *name == self.name) {
            Some((_, Taken::Number)) => {
                let max = u64::from(i32::MAX.unsigned_abs());
                let number =
                    parse_i64(value.as_bytes()).ok_or("argument couldn't be parsed into an integer")?;
                let is_in_range = u64::try_from(number).is_ok_and(|number| number <= max);
                return if is_in_range { Ok(()) } else { Err(between(0, max)) };
            }
            Some((_, Taken::Word(words))) => {
                let is_known = words.iter().any(|word| word.eq_ignore_ascii_case(value));
                return if is_known { Ok(()) } else { Err(one_of(words)) };
            }
            None => {}
        }
        let reported =
            reported().any(|(name, reported)| name == self.name && reported.eq_ignore_ascii_case(value));
        match reported {
            true => Ok(()),
            false if IMMUTABLE.contains(&self.name) => {
                Err(format!("can't set immutable config: {} {}", self.name, self.reason))
            }
            false => Err(format!("{} {}", self.name, self.reason)),
        }
    }

    fn is_default(&self, value: &str) -> bool {
        let Some(default) = self.default else { return false };
        let bytes = parse_memory;
        default.eq_ignore_ascii_case(value) || (bytes(default).is_some() && bytes(default) == bytes(value))
    }
}
