//! What is known of directives by their names alone: old names, and whose values are secret.

/// Old names and the names they stand for, as Redis 7.0.15 takes them (`config.c`, the `alias` of each config).
const ALIASES: &[(&str, &str)] = &[
    ("slaveof", "replicaof"),
    ("slave-announce-ip", "replica-announce-ip"),
    ("slave-announce-port", "replica-announce-port"),
    ("slave-ignore-maxmemory", "replica-ignore-maxmemory"),
    ("slave-lazy-flush", "replica-lazy-flush"),
    ("slave-priority", "replica-priority"),
    ("slave-read-only", "replica-read-only"),
    ("slave-serve-stale-data", "replica-serve-stale-data"),
    ("min-slaves-max-lag", "min-replicas-max-lag"),
    ("min-slaves-to-write", "min-replicas-to-write"),
    ("repl-ping-slave-period", "repl-ping-replica-period"),
    ("cluster-slave-no-failover", "cluster-replica-no-failover"),
    ("cluster-slave-validity-factor", "cluster-replica-validity-factor"),
    ("hash-max-ziplist-entries", "hash-max-listpack-entries"),
    ("hash-max-ziplist-value", "hash-max-listpack-value"),
    ("list-max-ziplist-size", "list-max-listpack-size"),
    ("zset-max-ziplist-entries", "zset-max-listpack-entries"),
    ("zset-max-ziplist-value", "zset-max-listpack-value"),
    ("lua-time-limit", "busy-reply-threshold"),
];

/// Directives whose values must not be printed, with an effect here or not.
const SECRET: &[&str] =
    &["requirepass", "masterauth", "tls-key-file-pass", "tls-client-key-file-pass", "user", "sentinel"];

/// Every old name.
pub(super) fn aliases() -> impl Iterator<Item = &'static str> {
    ALIASES.iter().map(|(alias, _)| *alias)
}

/// The name that an old name (lower case) stands for, or the name itself.
pub(super) fn canonical(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name)
}

/// The old name of a directive, if it has one.
pub(super) fn alias_of(name: &str) -> Option<&'static str> {
    ALIASES.iter().find(|(_, canonical)| *canonical == name).map(|(alias, _)| *alias)
}

/// True if the value of this directive (lower case) must not be printed.
pub(super) fn is_secret(name: &str) -> bool {
    SECRET.contains(&name)
}
