//! What commands leave in the log, and what stands between a command and its execution.

#[path = "common/log.rs"]
mod log;
#[path = "common/store.rs"]
mod store;

use holdfast_server::command::{Outcome, Session, flags, table};
use holdfast_server::engine::{EvictionOrder, EvictionPolicy, EvictionSettings};
use store::{START_MS, Store};

impl Store {
    /// Executes one command, given in words, on connection 1; returns the reply as text.
    fn run(&mut self, command: &str) -> String {
        let args: Vec<&str> = command.split(' ').collect();
        String::from_utf8_lossy(&self.run_on(1, &args).0).into_owned()
    }

    /// The recorded effects as words, one command after the other, and forgets them.
    fn take_effects(&mut self) -> Vec<String> {
        let bytes = self.effects.take();
        let text = |args: &Vec<Vec<u8>>| {
            args.iter().map(|arg| String::from_utf8_lossy(arg)).collect::<Vec<_>>().join(" ")
        };
        log::decode(&bytes).iter().map(text).collect()
    }
}

/// Runs commands, separated by `;`, and compares the effects of the last one. `@` stands for the time of the start.
fn check(commands: &str, expected: &str) {
    let mut store = Store::new();
    let (before, last) = commands.rsplit_once("; ").unwrap_or(("", commands));
    for command in before.split("; ").filter(|it| !it.is_empty()) {
        match command.strip_prefix("~ ") {
            Some(ms) => store.now_ms += ms.parse::<i64>().expect("milliseconds"),
            None => {
                store.run(command);
            }
        }
    }
    store.take_effects();
    let reply = store.run(last);
    let effects = store.take_effects().join("; ").replace("SELECT 0; ", "");
    let expected = expected.replace('@', &START_MS.to_string());
    assert_eq!(effects, expected, "{commands} answered {reply:?}");
}

/// Commands, separated by `;`, and what the last one leaves.
const EFFECTS: &[(&str, &str)] = &[
    ("SET k v", "SET k v"),
    ("set k v", "set k v"),
    ("SET k v EX 10", "SET k v PXAT 1700000010000"),
    ("SET k v PX 10", "SET k v PXAT 1700000000010"),
    ("SET k v EXAT 1800000000", "SET k v PXAT 1800000000000"),
    ("SET k v; SET k w KEEPTTL", "SET k w KEEPTTL"),
    ("SET k v; SET k w GET", "SET k w"),
    ("SET k v NX", "SET k v"),
    ("SETNX k v", "SET k v"),
    ("SETEX k 10 v", "SET k v PXAT 1700000010000"),
    ("PSETEX k 10 v", "SET k v PXAT 1700000000010"),
    ("GETSET k v", "SET k v"),
    ("SET k v; GETDEL k", "DEL k"),
    ("SET k v; GETEX k EX 10", "PEXPIREAT k 1700000010000"),
    ("SET k v EX 10; GETEX k PERSIST", "PERSIST k"),
    ("SET k v; GETEX k EXAT 1", "DEL k"),
    ("MSET a 1 b 2", "MSET a 1 b 2"),
    ("MSETNX a 1 b 2", "MSET a 1 b 2"),
    ("INCRBY k 5", "INCRBY k 5"),
    ("INCRBYFLOAT k 1.5", "SET k 1.5 KEEPTTL"),
    ("APPEND k x", "APPEND k x"),
    ("SETRANGE k 1 x", "SETRANGE k 1 x"),
    ("SETBIT k 1 1", "SETBIT k 1 1"),
    ("SET a x; BITOP NOT b a", "BITOP NOT b a"),
    ("SET b x; BITOP AND b none", "DEL b"),
    ("BITFIELD k SET u8 0 1", "BITFIELD k SET u8 0 1"),
    ("SET k v; EXPIRE k 10", "PEXPIREAT k 1700000010000"),
    ("SET k v; EXPIRE k 10 NX", "PEXPIREAT k 1700000010000"),
    ("SET k v; EXPIREAT k 1800000000", "PEXPIREAT k 1800000000000"),
    ("SET k v; EXPIRE k -1", "DEL k"),
    ("SET k v EX 1; PERSIST k", "PERSIST k"),
    ("MSET a 1 b 2; DEL a none b", "DEL a b"),
    ("SET a 1; UNLINK a", "DEL a"),
    ("SET a 1; RENAME a b", "RENAME a b"),
    ("SET a 1; COPY a b DB 1 REPLACE", "COPY a b DB 1 REPLACE"),
    ("SET a 1; MOVE a 1", "MOVE a 1"),
    ("SWAPDB 0 1", "SWAPDB 0 1"),
    ("SET a 1; FLUSHALL ASYNC", "FLUSHALL ASYNC"),
    ("SET a 1; FLUSHDB", "FLUSHDB"),
    ("INCR k", "INCR k"),
    ("DECR k", "DECR k"),
    ("DECRBY k 2", "DECRBY k 2"),
    ("SET k v; PEXPIRE k 10", "PEXPIREAT k 1700000000010"),
    ("SET k v; PEXPIREAT k 1800000000000", "PEXPIREAT k 1800000000000"),
    ("SET a 1; RENAMENX a b", "RENAMENX a b"),
    ("HSET h f v g w", "HSET h f v g w"),
    ("HMSET h f v", "HMSET h f v"),
    ("HSETNX h f v", "HSETNX h f v"),
    ("HINCRBY h f 5", "HINCRBY h f 5"),
    ("HINCRBYFLOAT h f 1.5", "HSET h f 1.5"),
    ("HSET h f v; HDEL h f none", "HDEL h f none"),
    ("LPUSH l a b", "LPUSH l a b"),
    ("RPUSH l a b", "RPUSH l a b"),
    ("RPUSH l a; LPUSHX l b", "LPUSHX l b"),
    ("RPUSH l a; RPUSHX l b", "RPUSHX l b"),
    ("RPUSH l a b; LPOP l", "LPOP l"),
    ("RPUSH l a b; RPOP l 5", "RPOP l 5"),
    ("RPUSH l a; LSET l 0 b", "LSET l 0 b"),
    ("RPUSH l a b c; LTRIM l 1 1", "LTRIM l 1 1"),
    ("RPUSH l a b a; LREM l 0 a", "LREM l 0 a"),
    ("RPUSH l a; LINSERT l BEFORE a b", "LINSERT l BEFORE a b"),
    ("RPUSH l a; LMOVE l m LEFT RIGHT", "LMOVE l m LEFT RIGHT"),
    ("RPUSH l a; RPOPLPUSH l m", "RPOPLPUSH l m"),
    ("RPUSH l a b; LMPOP 2 none l LEFT COUNT 5", "LPOP l 2"),
    ("RPUSH l a; BLPOP none l 0", "LPOP l"),
    ("RPUSH l a; BRPOP l 0", "RPOP l"),
    ("RPUSH l a; BLMOVE l m LEFT RIGHT 0", "LMOVE l m LEFT RIGHT"),
    ("RPUSH l a; BRPOPLPUSH l m 0", "RPOPLPUSH l m"),
    ("RPUSH l a b; BLMPOP 0 1 l RIGHT", "RPOP l 1"),
    ("SADD s a b", "SADD s a b"),
    ("SADD s a b; SREM s a", "SREM s a"),
    ("SADD s a; SPOP s", "SREM s a"),
    ("SADD s a b; SPOP s 5", "DEL s"),
    ("SADD s a; SMOVE s t a", "SMOVE s t a"),
    ("SADD s a; SINTERSTORE t s", "SINTERSTORE t s"),
    ("SADD s a; SADD t b; SINTERSTORE t s none", "SINTERSTORE t s none"),
    ("SADD s a; SUNIONSTORE t s", "SUNIONSTORE t s"),
    ("SADD s a; SDIFFSTORE t s", "SDIFFSTORE t s"),
    ("ZADD z 1 a", "ZADD z 1 a"),
    ("ZADD z INCR 1 a", "ZADD z INCR 1 a"),
    ("ZINCRBY z 1 a", "ZINCRBY z 1 a"),
    ("ZADD z 1 a; ZREM z a", "ZREM z a"),
    ("ZADD z 1 a 2 b; ZREMRANGEBYRANK z 0 0", "ZREMRANGEBYRANK z 0 0"),
    ("ZADD z 1 a 2 b; ZREMRANGEBYSCORE z 0 1", "ZREMRANGEBYSCORE z 0 1"),
    ("ZADD z 0 a 0 b; ZREMRANGEBYLEX z - [a", "ZREMRANGEBYLEX z - [a"),
    // Where scores differ the members are in no order: what is selected depends on how the set is kept.
    ("ZADD z 1 c 2 a 3 b; ZREMRANGEBYLEX z [b +", "ZREMRANGEBYRANK z 0 2"),
    ("ZADD z 1 c 2 a 3 b; ZRANGESTORE y z [b + BYLEX", "ZRANGESTORE y z 0 2"),
    ("ZADD z 0 a 0 b; ZRANGESTORE y z [b + BYLEX", "ZRANGESTORE y z [b + BYLEX"),
    ("ZADD z 1 a 2 b; ZPOPMIN z", "ZPOPMIN z"),
    ("ZADD z 1 a 2 b; ZPOPMAX z 5", "ZPOPMAX z 5"),
    ("ZADD z 1 a 2 b; ZMPOP 1 z MIN COUNT 5", "ZPOPMIN z 2"),
    ("ZADD z 1 a; BZPOPMIN z 0", "ZPOPMIN z"),
    ("ZADD z 1 a; BZPOPMAX z 0", "ZPOPMAX z"),
    ("ZADD z 1 a; BZMPOP 0 1 z MAX", "ZPOPMAX z 1"),
    ("ZADD z 1 a; ZRANGESTORE y z 0 -1", "ZRANGESTORE y z 0 -1"),
    ("ZADD z 1 a; ZUNIONSTORE y 1 z", "ZUNIONSTORE y 1 z"),
    ("ZADD z 1 a; ZINTERSTORE y 1 z", "ZINTERSTORE y 1 z"),
    ("ZADD z 1 a; ZDIFFSTORE y 1 z", "ZDIFFSTORE y 1 z"),
    ("RPUSH l 2 1; SORT l STORE m", "RPUSH m 1 2"),
];

#[test]
fn effects_are_absolute_and_deterministic() {
    for (commands, expected) in EFFECTS {
        check(commands, expected);
    }
}

#[test]
fn a_restored_value_is_logged_with_its_payload_and_an_absolute_time() {
    fn check(options: &[&str], expected: &[&str]) {
        let mut store = Store::new();
        store.run("HSET h f v");
        let dump = store.run_on(1, &["DUMP", "h"]).0;
        let start = dump.windows(2).position(|it| it == b"\r\n").expect("a length") + 2;
        let payload = &dump[start..dump.len() - 2];
        store.take_effects();
        let with_payload = |ttl: &str, options: &[&str]| {
            let mut args: Vec<Vec<u8>> = ["RESTORE", "copy", ttl].map(Vec::from).into();
            args.push(payload.to_vec());
            args.extend(options.iter().map(|it| it.as_bytes().to_vec()));
            args
        };
        let args = with_payload(options[0], &options[1..]);
        assert_eq!(store.run_on(1, &args).0, b"+OK\r\n", "{options:?}");
        let effects = log::decode(&store.effects.take());
        assert_eq!(effects.last(), Some(&with_payload(expected[0], &expected[1..])), "{options:?}");
        assert_eq!(store.run("HGET copy f"), "$1\r\nv\r\n");
        if !options.contains(&"REPLACE") {
            assert_eq!(store.run_on(1, &args).0, b"-BUSYKEY Target key name already exists.\r\n");
        }
    }
    let at = (START_MS + 10).to_string();
    check(&["10"], &[&at, "ABSTTL"]);
    check(&["10", "REPLACE"], &[&at, "REPLACE", "ABSTTL"]);
    check(&[&at, "absttl"], &[&at, "absttl"]);
    check(&["0"], &["0"]);
    check(&["0", "REPLACE", "IDLETIME", "5"], &["0", "REPLACE", "IDLETIME", "5"]);
}

/// The name of the last of several commands, in lower case.
fn last_name(commands: &str) -> String {
    let last = commands.rsplit("; ").next().unwrap_or_default();
    last.split(' ').next().unwrap_or_default().to_ascii_lowercase()
}

/// Nothing else ties the flag to the log: a command that changes data without it would be refused nowhere, and one that
/// leaves effects without it would be let through where writes are refused.
#[test]
fn commands_leave_effects_if_and_only_if_the_table_says_that_they_write() {
    for command in table::commands() {
        // Its argument is no text: see the next test.
        if command.name == "restore" {
            continue;
        }
        if command.has(flags::WRITE) {
            let examples: Vec<_> =
                EFFECTS.iter().filter(|(commands, _)| last_name(commands) == command.name).collect();
            assert!(!examples.is_empty(), "{} writes: say here what it leaves", command.name);
            for (commands, _) in examples {
                let (before, last) = commands.rsplit_once("; ").unwrap_or(("", commands));
                let mut store = Store::new();
                before.split("; ").filter(|it| !it.is_empty()).for_each(|it| drop(store.run(it)));
                store.take_effects();
                let dirty = store.engine.dirty();
                store.run(last);
                assert!(!store.take_effects().is_empty(), "{commands} leaves effects");
                assert!(store.engine.dirty() > dirty, "{commands} counts as a change");
            }
            continue;
        }
        for name in std::iter::once(command.name.to_owned())
            .chain(command.subcommands.iter().map(|sub| format!("{} {}", command.name, sub.name)))
        {
            for arguments in ["", " k", " k 1", " 1 k", " k j", " k 0 1", " j k 1 2"] {
                let mut store = Store::new();
                store.run("MSET k 5 j text");
                store.take_effects();
                let (dirty, keys) = (store.engine.dirty(), store.engine.digest(store.now_ms));
                store.run(&format!("{name}{arguments}"));
                assert_eq!(store.take_effects(), [""; 0], "{name}{arguments}");
                let after = (store.engine.dirty(), store.engine.digest(store.now_ms));
                assert_eq!(after, (dirty, keys), "{name}{arguments} changes nothing");
            }
        }
    }
}

#[test]
fn writes_that_change_nothing_leave_nothing() {
    for commands in [
        "GET k",
        "DEL k",
        "SET k v XX",
        "SET k v; SETNX k w",
        "SET k v; MSETNX k 1 j 2",
        "EXPIRE k 10",
        "SET k v; EXPIRE k 10 XX",
        "SET k v; PERSIST k",
        "SET k v; GETEX k",
        "SET k v; GETEX k PERSIST",
        "SETRANGE k 0 ",
        "SETBIT k 1 1; SETBIT k 1 1",
        "RENAME k j",
        "SET k v; RENAME k k",
        "COPY k j",
        "MOVE k 1",
        "SWAPDB 1 1",
        "SET k v; INCR k",
        "GETDEL k",
        "BITOP AND d none",
        "ZADD z 1 c 2 a 3 b; ZREMRANGEBYLEX z [a [b",
        "ZADD z 1 c 2 a 3 b; ZREMRANGEBYLEX z (b +",
        "SET k x; BITFIELD k GET u8 0",
        "SELECT 3",
    ] {
        check(commands, "");
    }
}

#[test]
fn a_flush_is_logged_also_where_there_is_nothing_as_in_redis() {
    check("FLUSHALL", "FLUSHALL");
    check("SET a 1; FLUSHALL; FLUSHDB ASYNC", "FLUSHDB ASYNC");
}

#[test]
fn expiry_is_a_deletion_before_what_met_it() {
    check("SET k v PX 10; ~ 11; GET k", "DEL k");
    check("SET k v PX 10; ~ 10; GET k", "");
    check("SET k 5 PX 10; ~ 11; INCR k", "MULTI; DEL k; INCR k; EXEC");
    check("SET k 5 PX 10; ~ 11; SET k w", "MULTI; DEL k; SET k w; EXEC");
    check("SET a 1; SET k 5 PX 10; ~ 11; COPY a k", "MULTI; DEL k; COPY a k; EXEC");
    check("SET a 1 PX 5; SET b 1 PX 5; ~ 11; MGET a b", "MULTI; DEL a; DEL b; EXEC");
    check("SET a 1 PX 5; ~ 11; RANDOMKEY", "DEL a");
}

/// As in Redis, these look at many keys, or at what is in memory: an expired key stays for the next one that asks for it.
#[test]
fn expired_keys_are_left_by_those_who_pass_them() {
    check("SET a 1 PX 5; SET b 1 PX 5; ~ 11; DBSIZE", "");
    check("SET a 1 PX 5; ~ 11; KEYS *", "");
    check("SET a 1 PX 5; ~ 11; MEMORY USAGE a", "");
    let mut store = Store::new();
    store.run("SET a 1 PX 5");
    store.run("SET b 1");
    let usage = store.run("MEMORY USAGE a");
    store.now_ms += 11;
    assert_eq!(store.run("KEYS *"), "*1\r\n$1\r\nb\r\n");
    assert_eq!(store.run("DBSIZE"), ":2\r\n");
    assert_eq!(store.run("MEMORY USAGE a"), usage, "its memory is still used");
    assert_eq!(store.run("EXISTS a"), ":0\r\n");
    assert_eq!(store.run("MEMORY USAGE a"), "$-1\r\n");
}

#[test]
fn a_time_to_live_that_cannot_be_counted_is_refused() {
    let mut store = Store::new();
    store.run("RPUSH k a");
    let (payload, _) = store.run_on(1, &["DUMP", "k"]);
    let start = payload.iter().position(|&byte| byte == b'\n').expect("a string") + 1;
    let payload = &payload[start..payload.len() - 2];
    let mut restore = |ttl: &str, options: &[&str]| {
        let mut args = vec![&b"RESTORE"[..], b"k", ttl.as_bytes(), payload, b"REPLACE"];
        args.extend(options.iter().map(|option| option.as_bytes()));
        String::from_utf8(store.run_on(1, &args).0).expect("text")
    };
    assert_eq!(restore("9223372036854775807", &[]), "-ERR invalid expire time in 'restore' command\r\n");
    assert_eq!(restore("-1", &[]), "-ERR Invalid TTL value, must be >= 0\r\n");
    assert_eq!(restore("9223372036854775807", &["ABSTTL"]), "+OK\r\n");
    assert_eq!(store.run("EXPIRETIME k"), ":9223372036854776\r\n", "rounded, and not cut");
    assert_eq!(store.run("PEXPIRETIME k"), ":9223372036854775807\r\n");
}

#[test]
fn transactions_are_wrapped_when_they_leave_more_than_one_effect() {
    check("MULTI; SET a 1; INCR b; GET a; EXEC", "MULTI; SET a 1; INCR b; EXEC");
    check("MULTI; SET a 1; GET a; EXEC", "SET a 1");
    check("MULTI; GET a; EXEC", "");
    check("MULTI; SET a 1; SELECT 3; SET a 2; EXEC", "MULTI; SET a 1; SELECT 3; SET a 2; EXEC");
    check("MULTI; SET a x; INCR a; SET b 1; EXEC", "MULTI; SET a x; SET b 1; EXEC");
    check("MULTI; SET a 1; DISCARD", "");
}

#[test]
fn the_expiry_cycle_is_bounded_and_records_deletions() {
    let mut store = Store::new();
    for number in 0..30 {
        store.run(&format!("SET k{number} v PX {}", 10 + number));
    }
    store.run("SELECT 2");
    store.run("SET other v PX 5");
    store.take_effects();
    store.now_ms += 20;
    assert_eq!(store.engine.next_expiry_ms(), Some(START_MS + 5));
    let mut removed = Vec::new();
    loop {
        let count = store.engine.expire_cycle(store.now_ms, 4, &mut store.effects);
        assert!(count <= 4);
        removed.push(count);
        if count < 4 {
            break;
        }
    }
    assert_eq!(removed, [4, 4, 3]);
    let effects = store.take_effects();
    assert!(effects.iter().all(|it| it.starts_with("DEL ") || it.starts_with("SELECT ")), "{effects:?}");
    assert_eq!(store.engine.stats.expired_keys, 11);
    assert_eq!(store.run("DBSIZE"), ":0\r\n");
}

#[test]
fn out_of_memory_refuses_writes_and_whole_transactions() {
    const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    let mut store = Store::new();
    store.run("SET k v");
    store.run("MULTI");
    store.run("SET a 1");
    store.settings.maxmemory = 1;
    assert_eq!(store.run("SET b 1"), OOM, "nothing is queued");
    assert_eq!(
        store.run("EXEC"),
        "-EXECABORT Transaction discarded because of: OOM command not allowed when used memory > 'maxmemory'.\r\n"
    );
    assert_eq!(store.run("SET b 1"), OOM);
    assert_eq!(store.run("GET k"), "$1\r\nv\r\n");
    store.run("MULTI");
    assert_eq!(store.run("GET k"), OOM, "queueing takes memory too");
    assert_eq!(store.run("EXEC"), "-EXECABORT Transaction discarded because of previous errors.\r\n");
    store.run("MULTI");
    assert_eq!(store.run("DISCARD"), "+OK\r\n");
    assert_eq!(store.run("DEL k"), ":1\r\n");
    store.settings.maxmemory = 0;
    assert_eq!(store.run("GET a"), "$-1\r\n");
    assert_eq!(store.take_effects(), ["SELECT 0", "SET k v", "DEL k"]);
}

/// Settings with this policy.
fn eviction(volatile: bool, order: EvictionOrder) -> EvictionSettings {
    EvictionSettings { policy: Some(EvictionPolicy { volatile, order }), ..EvictionSettings::default() }
}

/// Makes room for nothing more than what is there.
fn limit_to_content(store: &mut Store) {
    store.settings.maxmemory = store.engine.used_memory();
}

#[test]
fn keys_are_evicted_before_the_command_that_needs_room_and_logged_in_front_of_it() {
    let mut store = Store::new();
    store.engine.set_eviction(eviction(false, EvictionOrder::LeastRecent));
    store.run("SET old v");
    store.now_ms += 10_000;
    store.run("SET new v");
    store.run("WATCH new");
    store.run_on(2, &["WATCH", "old"]);
    limit_to_content(&mut store);
    store.run("APPEND new w");
    store.settings.maxmemory -= 1;
    store.take_effects();
    assert_eq!(store.run("GET old"), "$1\r\nv\r\n", "who reads needs no room");
    store.now_ms += 10_000;
    store.run("GET new");
    assert_eq!(store.run("SET third v"), "+OK\r\n");
    assert_eq!(store.take_effects(), ["DEL old", "SET third v"]);
    assert_eq!((store.engine.stats.evicted_keys, store.engine.stats.expired_keys), (1, 0));
    store.run_on(2, &["MULTI"]);
    assert_eq!(store.run_on(2, &["EXEC"]).0, b"*-1\r\n", "a watched key has gone");

    // What a transaction needs is made room for before it begins, and not within.
    store.run("UNWATCH");
    store.run("MULTI");
    store.run("SET a 1");
    store.run("SET b 2");
    store.settings.maxmemory = 1;
    assert_eq!(store.run("EXEC"), "*2\r\n+OK\r\n+OK\r\n");
    let effects = store.take_effects();
    let multi = effects.iter().position(|it| it == "MULTI").expect("two writes are one unit");
    assert!(effects[..multi].iter().all(|it| it.starts_with("DEL ")), "{effects:?}");
    assert_eq!(effects[multi..], ["MULTI", "SET a 1", "SET b 2", "EXEC"]);
}

#[test]
fn without_a_key_that_may_be_evicted_memory_is_out() {
    const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    for order in [
        EvictionOrder::LeastRecent,
        EvictionOrder::LeastFrequent,
        EvictionOrder::Random,
        EvictionOrder::NextToExpire,
    ] {
        let mut store = Store::new();
        store.engine.set_eviction(eviction(true, order));
        store.run("MSET a 1 b 2 c 3");
        limit_to_content(&mut store);
        store.settings.maxmemory -= 1;
        store.take_effects();
        assert_eq!(store.run("SET d 4"), OOM, "{order:?}");
        assert!(store.take_effects().is_empty());
        store.run("EXPIRE b 100");
        store.take_effects();
        store.settings.maxmemory = store.engine.used_memory() - 1;
        assert_eq!(store.run("SET d 4"), "+OK\r\n", "{order:?}");
        assert_eq!(store.take_effects(), ["DEL b", "SET d 4"]);
        assert_eq!(store.run("EXISTS a c"), ":2\r\n");
    }
}

#[test]
fn a_pause_keeps_keys_from_being_evicted() {
    let mut store = Store::new();
    store.engine.set_eviction(eviction(false, EvictionOrder::Random));
    store.run("MSET a 1 b 2 c 3");
    store.settings.maxmemory = 1;
    store.settings.may_evict = false;
    assert_eq!(store.run("SET d 4"), "+OK\r\n");
    assert_eq!(store.run("DBSIZE"), ":4\r\n");
}

#[test]
fn what_clients_hold_takes_room_from_the_data() {
    let mut store = Store::new();
    store.engine.set_eviction(eviction(false, EvictionOrder::Random));
    store.run("MSET a 1 b 2 c 3");
    store.settings.maxmemory = store.engine.used_memory() + 1_000;
    assert_eq!(store.run("SET d 4"), "+OK\r\n");
    assert_eq!(store.run("DBSIZE"), ":4\r\n");
    store.settings.clients_memory = 1_000;
    store.run("SET d 4");
    assert!(store.engine.stats.evicted_keys > 0);
}

#[test]
fn the_use_of_keys_is_told_under_the_policy_that_it_is_kept_for() {
    const NO_FREQUENCY: &str = "-ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
                                switching between policies at runtime LRU and LFU data will take some time to adjust.\r\n";
    const NO_IDLE_TIME: &str = "-ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching \
                                between policies at runtime LRU and LFU data will take some time to adjust.\r\n";
    let mut store = Store::new();
    let payload = |store: &mut Store| {
        let dump = store.run_on(1, &["DUMP", "k"]).0;
        let start = dump.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        dump[start..dump.len() - 2].to_vec()
    };
    let restore = |store: &mut Store, key: &str, options: &[&str]| {
        let payload = payload(store);
        let mut args: Vec<&[u8]> = vec![b"RESTORE", key.as_bytes(), b"0", &payload];
        args.extend(options.iter().map(|it| it.as_bytes()));
        String::from_utf8_lossy(&store.run_on(1, &args).0).into_owned()
    };
    store.run("SET k v");
    for (later, command, expected) in [
        (100, "OBJECT IDLETIME k", ":100\r\n"),
        (0, "TYPE k", "+string\r\n"),
        (0, "EXISTS k", ":1\r\n"),
        (5, "OBJECT IDLETIME k", ":105\r\n"),
        (0, "TOUCH k none", ":1\r\n"),
        (3, "OBJECT IDLETIME k", ":3\r\n"),
        (0, "EXPIRE k 1000", ":1\r\n"),
        (0, "OBJECT IDLETIME k", ":0\r\n"),
        (0, "OBJECT FREQ k", NO_FREQUENCY),
        (0, "OBJECT FREQ none", "$-1\r\n"),
    ] {
        store.now_ms += later * 1000;
        assert_eq!(store.run(command), expected, "{command}");
    }
    assert_eq!(restore(&mut store, "idle", &["IDLETIME", "1000"]), "+OK\r\n");
    assert_eq!(store.run("OBJECT IDLETIME idle"), ":1000\r\n");
    assert_eq!(restore(&mut store, "counted", &["FREQ", "100"]), "+OK\r\n", "it does not count here");
    assert_eq!(store.run("OBJECT IDLETIME counted"), ":0\r\n");
    for options in [["IDLETIME", "1", "FREQ", "1"], ["FREQ", "1", "IDLETIME", "1"]] {
        assert_eq!(restore(&mut store, "both", &options), "-ERR syntax error\r\n");
    }
    assert_eq!(store.run("OBJECT REFCOUNT counted"), ":1\r\n");

    let frequent = eviction(false, EvictionOrder::LeastFrequent);
    store.engine.set_eviction(EvictionSettings { lfu_log_factor: 0, ..frequent });
    assert_eq!(store.run("OBJECT IDLETIME k"), NO_IDLE_TIME);
    assert_eq!(store.run("OBJECT IDLETIME none"), "$-1\r\n");
    assert_eq!(restore(&mut store, "counted", &["REPLACE", "FREQ", "100"]), "+OK\r\n");
    for (later, command, expected) in [
        (0, "OBJECT FREQ counted", ":100\r\n"),
        (0, "GET counted", "$1\r\nv\r\n"),
        (0, "OBJECT FREQ counted", ":101\r\n"),
        (0, "APPEND counted w", ":2\r\n"),
        (0, "OBJECT FREQ counted", ":102\r\n"),
        (0, "SET counted 1", "+OK\r\n"),
        (0, "OBJECT FREQ counted", ":103\r\n"),
        (120, "OBJECT FREQ counted", ":101\r\n"),
        (0, "SET fresh 1", "+OK\r\n"),
        (0, "OBJECT FREQ fresh", ":5\r\n"),
        (0, "COPY counted copied", ":1\r\n"),
        (0, "OBJECT FREQ copied", ":5\r\n"),
        (0, "RENAME counted renamed", "+OK\r\n"),
        (0, "OBJECT FREQ renamed", ":102\r\n"),
        (0, "OBJECT REFCOUNT renamed", ":2147483647\r\n"),
    ] {
        store.now_ms += later * 1000;
        assert_eq!(store.run(command), expected, "{command}");
    }
    // With a limit each key needs an object of its own for its use, in Redis.
    store.settings.maxmemory = 1 << 30;
    assert_eq!(store.run("OBJECT REFCOUNT renamed"), ":1\r\n");
    store.engine.set_eviction(eviction(false, EvictionOrder::Random));
    assert_eq!(store.run("OBJECT REFCOUNT renamed"), ":2147483647\r\n");
}

#[test]
fn a_write_block_refuses_writes_and_transactions_with_writes() {
    let mut store = Store::new();
    store.run("MULTI");
    store.run("GET k");
    store.run("SET k v");
    store.settings.write_block = Some("MISCONF the disk is full");
    assert_eq!(
        store.run("EXEC"),
        "-EXECABORT Transaction discarded because of: MISCONF the disk is full\r\n"
    );
    assert_eq!(store.run("SET k v"), "-MISCONF the disk is full\r\n");
    assert_eq!(store.run("PING"), "-MISCONF the disk is full\r\n");
    assert_eq!(store.run("GET k"), "$-1\r\n");
    store.run("MULTI");
    store.run("GET k");
    assert_eq!(store.run("EXEC"), "*1\r\n$-1\r\n");
    assert!(store.take_effects().is_empty());
}

#[test]
fn while_loading_only_some_commands_answer() {
    const LOADING: &str = "-LOADING Redis is loading the dataset in memory\r\n";
    let mut store = Store::new();
    store.settings.loading = true;
    for command in ["GET k", "SET k v", "PING", "DBSIZE", "BGSAVE"] {
        assert_eq!(store.run(command), LOADING, "{command}");
    }
    assert!(store.run("INFO server").starts_with('$'));
    assert_eq!(store.run("CONFIG GET nothing"), "*0\r\n");
    assert_eq!(store.run("SELECT 1"), "+OK\r\n");
}

#[test]
fn without_the_password_little_is_allowed() {
    let mut store = Store::new();
    store.settings.auth_required = true;
    store.host.password = Some(b"secret".to_vec());
    const NO_AUTH: &str = "-NOAUTH Authentication required.\r\n";
    for command in ["GET k", "PING", "CLIENT ID", "CONFIG GET *", "SELECT 1", "MULTI", "INFO"] {
        assert_eq!(store.run(command), NO_AUTH, "{command}");
    }
    assert!(store.run("HELLO 3").starts_with("-NOAUTH HELLO must be called"));
    assert_eq!(store.run("AUTH wrong"), "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    assert!(store.run("HELLO 3 AUTH default wrong").starts_with("-WRONGPASS"));
    assert_eq!(store.run("AUTH secret"), "+OK\r\n");
    assert_eq!(store.run("GET k"), "$-1\r\n");
    assert_eq!(store.run("RESET"), "+RESET\r\n");
    assert_eq!(store.run("GET k"), NO_AUTH, "RESET takes the authentication back");
    assert!(store.run("HELLO 3 AUTH default secret SETNAME me").starts_with("%7\r\n"));
    assert_eq!(store.run("CLIENT GETNAME"), "$2\r\nme\r\n");
    assert_eq!(store.run_on(2, &["QUIT"]), (b"+OK\r\n".to_vec(), Outcome::Close));
}

#[test]
fn debug_is_refused_unless_it_is_enabled() {
    let mut store = Store::new();
    store.settings.debug_allowed = false;
    assert_eq!(
        store.run("DEBUG SLEEP 0"),
        "-ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from \
         a local connection, otherwise you need to set this option in the configuration file, and then restart the \
         server.\r\n"
    );
}

#[test]
fn sessions_give_watches_back() {
    let mut store = Store::new();
    store.run("WATCH a b c");
    let mut session: Session = store.sessions.remove(&1).expect("it has run a command");
    assert!(session.memory_bytes() > 0);
    session.close(&mut store.engine);
    assert_eq!(session.memory_bytes(), 0);
    assert_eq!(store.run("SET a 1"), "+OK\r\n");
}

#[test]
fn changes_are_counted_as_redis_counts_them() {
    let mut store = Store::new();
    for (command, dirty) in [
        ("SET a 1", 1),
        ("MSET a 1 b 2 c 3", 3),
        ("DEL a b none", 2),
        ("GET c", 0),
        ("EXPIRE c 100", 1),
        ("PERSIST c", 1),
        ("PERSIST c", 0),
        ("APPEND c x", 1),
        ("RENAME c d", 1),
        ("FLUSHALL", 1),
    ] {
        let before = store.engine.dirty();
        store.run(command);
        assert_eq!(store.engine.dirty() - before, dirty, "{command}");
    }
}

#[test]
fn no_offset_leads_to_a_length_that_cannot_be() {
    let mut store = Store::new();
    store.settings.proto_max_bulk_len = u64::MAX;
    let too_long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
    let no_bit = "-ERR bit offset is not an integer or out of range\r\n";
    assert_eq!(store.run("SETRANGE k 9223372036854775807 x"), too_long);
    assert_eq!(store.run("SETRANGE k 100000000000 x"), too_long);
    assert_eq!(store.run("SETBIT k 9223372036854775807 1"), no_bit);
    assert_eq!(store.run("BITFIELD k SET u8 9223372036854775807 1"), no_bit);
    assert_eq!(store.run("BITFIELD k SET u8 #9223372036854775807 1"), no_bit);
    assert_eq!(store.run("EXISTS k"), ":0\r\n");
}
