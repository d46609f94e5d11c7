//! Payloads of RESTORE with a right checksum, and traffic on the keys that they make.
//!
//! Checked, with common limits of packed forms and with small ones: nothing panics; a value that was restored is bounded by
//! the length of its payload, survives its own DUMP, and is the same after a replay of the log; memory that was counted is
//! counted off when the key goes.

use holdfast_server::command::Replayer;
use holdfast_server::engine::{Chunk, Engine, EngineOptions, HashSeed, Limits};
use holdfast_server::protocol::{DecodeLimits, Decoder, OwnedRequest};

use crate::Target;
use crate::commands::store::{START_MS, Store};

/// See the module.
pub const TARGET: Target = Target {
    name: "restore",
    run,
    len_max: 2048,
    words: &[
        "\u{0}",
        "\u{1}",
        "\u{2}",
        "\u{3}",
        "\u{4}",
        "\u{5}",
        "\u{9}",
        "\u{a}",
        "\u{b}",
        "\u{c}",
        "\u{d}",
        "\u{e}",
        "\u{10}",
        "\u{11}",
        "\u{12}",
        "\u{14}",
        "a",
        "b",
        "0",
        "1",
        "007",
        "-0",
        "inf",
        "nan",
        "1e300",
        "\u{f0}",
        "\u{c2}\u{80}",
    ],
};

/// How much longer than its payload a value may be, and what an engine with one key holds besides.
const EXPANSION_MAX: u64 = 100;
const ENGINE_LEN_MAX: u64 = 1 << 20;
/// Version of RDB that payloads say they are of.
const VERSION: [u8; 2] = [10, 0];
/// Collections are large at once.
const SMALL: Limits = Limits {
    hash_entries: 2,
    hash_value: 8,
    set_ints: 2,
    set_entries: 2,
    set_value: 8,
    sorted_set_entries: 2,
    sorted_set_value: 8,
    list_fill: 2,
};

/// CRC-64 as Redis computes it (Jones), bit by bit.
fn crc64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ u64::from(byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x95ac_9329_ac4b_c9b5 } else { 0 }
        })
    })
}

fn engine(limits: Limits, seed: u64) -> Engine {
    Engine::new(EngineOptions { databases: 16, limits, seed: HashSeed([seed, 2]) })
}

fn run(data: &[u8]) {
    let mut payload = [data, &VERSION].concat();
    payload.extend(crc64(&payload).to_le_bytes());
    for (limits, others) in [(Limits::default(), SMALL), (SMALL, Limits::default())] {
        run_with(&payload, limits, others);
    }
}

/// The bytes of a bulk string.
fn bulk(reply: &[u8]) -> Option<&[u8]> {
    let start = reply.iter().position(|&byte| byte == b'\n')? + 1;
    reply.get(start..reply.len() - 2)
}

fn run_with(payload: &[u8], limits: Limits, others: Limits) {
    let mut store = Store::new();
    store.engine = engine(limits, 1);
    let (reply, _) = store.run_on(1, &[&b"RESTORE"[..], b"k", b"0", payload]);
    let held = store.engine.used_memory();
    assert!(
        held <= payload.len() as u64 * EXPANSION_MAX + ENGINE_LEN_MAX,
        "{held} bytes of {}",
        payload.len()
    );
    if reply != b"+OK\r\n" {
        assert!(store.engine.is_empty() && store.effects.bytes().is_empty(), "{}", reply.escape_ascii());
        return;
    }
    let (ours, _) = store.run_on(1, &["DUMP", "k"]);
    let ours = bulk(&ours).expect("the key is there").to_vec();
    let restored = store.engine.digest(0);
    store.run_on(1, &["DEL", "k"]);
    let (reply, _) = store.run_on(1, &[&b"RESTORE"[..], b"k", b"0", &ours]);
    assert_eq!(reply, b"+OK\r\n", "our own payload {}", ours.escape_ascii());
    assert_eq!(store.engine.digest(0), restored, "a value is other after its DUMP");
    // From the payload that came, not from ours.
    store.run_on(1, &[&b"RESTORE"[..], b"k", b"0", payload, b"REPLACE"]);
    let (kind, _) = store.run_on(1, &["TYPE", "k"]);
    store.engine.snapshot_begin(0);
    for command in traffic(&kind) {
        store.run_on(1, &command.split(' ').collect::<Vec<_>>());
    }
    while !store.engine.snapshot_step(64, &mut Chunk::default()) {}
    let replayed = replay(store.effects.bytes(), others);
    assert_eq!(replayed.digest(0), store.engine.digest(0), "the log gives other data");
    for key in ["k", "copy", "other", "last"] {
        // What was emptied while it was saved gives its memory back with the next change.
        store.run_on(1, &["SET", "last", ""]);
        store.run_on(1, &["DEL", key]);
    }
    store.run_on(1, &["DEL", "last"]);
    assert!(store.engine.is_empty());
    assert_eq!(store.engine.used_memory(), engine(limits, 1).used_memory(), "memory is counted off");
}

/// Commands on `k` that read all of it, search it, change it in every place, make it large and take it apart.
fn traffic(kind: &[u8]) -> &'static [&'static str] {
    match kind {
        b"+list\r\n" => &[
            "LRANGE k 0 -1",
            "LINDEX k 0",
            "LINDEX k -1",
            "LPOS k a COUNT 0",
            "LPOS k 1 RANK -1",
            "COPY k copy",
            "SORT k ALPHA",
            "LSET k 0 12",
            "LSET k -1 a-longer-element",
            "LINSERT k BEFORE a x",
            "LINSERT k AFTER 1 y",
            "LPUSH k 1 a 2 b",
            "RPUSH k 300 c -7000000 d",
            "LREM k 1 a",
            "LREM k -1 1",
            "LREM k 0 0",
            "LMOVE k other LEFT RIGHT",
            "LMOVE k k RIGHT LEFT",
            "LTRIM k 1 -2",
            "LRANGE k -3 -1",
            "LPOP k 2",
            "RPOP k",
            "OBJECT ENCODING k",
            "RPOP copy 3",
            "LRANGE copy 0 -1",
            "LPOP copy 1000000",
        ],
        b"+set\r\n" => &[
            "SMEMBERS k",
            "SCARD k",
            "SISMEMBER k a",
            "SMISMEMBER k 1 007 b",
            "SSCAN k 0",
            "SRANDMEMBER k 5",
            "COPY k copy",
            "SORT k ALPHA",
            "SREM k 1",
            "SADD k a 1 2 3",
            "SADD k 99999 -5000000000",
            "SREM k a 2",
            "SMOVE k other 3",
            "SINTERSTORE other k copy",
            "SUNIONSTORE other k copy",
            "SDIFFSTORE other copy k",
            "SPOP k 2",
            "SADD k a-longer-member",
            "SMEMBERS k",
            "SPOP copy 1000000",
        ],
        b"+zset\r\n" => &[
            "ZRANGE k 0 -1 WITHSCORES",
            "ZRANGE k -inf +inf BYSCORE",
            "ZRANGE k - + BYLEX",
            "ZRANK k a",
            "ZREVRANK k 1",
            "ZSCORE k b",
            "ZCOUNT k (0 1",
            "ZSCAN k 0",
            "ZRANDMEMBER k -3 WITHSCORES",
            "COPY k copy",
            "SORT k ALPHA",
            "ZADD k 1.5 a -inf b",
            "ZADD k GT CH 2 1",
            "ZINCRBY k 0.1 a",
            "ZADD k 0 c 0 d 0 e 7 a-longer-member",
            "ZREM k c 1",
            "ZREMRANGEBYRANK k 1 1",
            "ZREMRANGEBYSCORE k (7 8",
            "ZRANGESTORE other k 0 2",
            "ZUNIONSTORE other 2 k copy WEIGHTS 2 -1",
            "ZINTERSTORE other 2 k copy AGGREGATE MIN",
            "ZDIFFSTORE other 2 copy k",
            "ZPOPMIN k 2",
            "ZPOPMAX k",
            "ZRANGE k 0 -1 REV",
            "ZPOPMIN copy 1000000",
        ],
        b"+hash\r\n" => &[
            "HGETALL k",
            "HLEN k",
            "HGET k a",
            "HMGET k 1 007 b",
            "HSTRLEN k a",
            "HSCAN k 0",
            "HRANDFIELD k -3 WITHVALUES",
            "COPY k copy",
            "HSET k a 1 1 2",
            "HINCRBY k a 5",
            "HINCRBYFLOAT k a 0.1",
            "HSETNX k b x",
            "HSET k c a-longer-value d 4",
            "HDEL k 1 b",
            "HKEYS k",
            "HVALS copy",
            "HDEL copy a",
        ],
        _ => &["GET k", "STRLEN k", "APPEND k x", "SETRANGE k 3 y", "COPY k copy", "INCR copy", "GETDEL k"],
    }
}

fn replay(log: &[u8], limits: Limits) -> Engine {
    let mut engine = engine(limits, 7);
    let mut replayer = Replayer::begin(&mut engine);
    let mut decoder = Decoder::new();
    let mut rest = log;
    while !rest.is_empty() {
        let step = decoder.decode(rest, &DecodeLimits::LOG).expect("effects are well-formed");
        let request: OwnedRequest = step.request.expect("effects are whole").to_owned();
        rest = &rest[step.consumed..];
        replayer
            .apply(&mut engine, &request.as_request(), START_MS)
            .unwrap_or_else(|error| panic!("{error}; the log is {}", log.escape_ascii()));
    }
    replayer.end(&mut engine);
    engine
}
