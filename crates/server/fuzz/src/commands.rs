//! Commands on an engine, beside Debian's Redis.
//!
//! Checked: replies are equal byte for byte (of KEYS as a set, of times to live within two seconds); the recorded effects
//! give the same data when they are replayed into an empty engine.
//!
//! Input is text: a line is a command in the form in which people type it. Lines whose answer depends on the clock, on
//! chance or on the process are left out, see [`kind_of`].

use std::time::{SystemTime, UNIX_EPOCH};

use holdfast_server::command::Replayer;
use holdfast_server::engine::{Engine, EngineOptions, HashSeed, Limits};
use holdfast_server::limits::MIB;
use holdfast_server::protocol::encode::write_command;
use holdfast_server::protocol::{DecodeLimits, Decoder, OwnedRequest, parse_i64};

use crate::Target;
use crate::inline::split_slowly;
use crate::redis::{Redis, reply_len};
use store::Store;

#[path = "../../tests/common/store.rs"]
pub(crate) mod store;

/// See the module.
pub const TARGET: Target = Target {
    name: "commands",
    run,
    len_max: 1024,
    words: &[
        "SET a ",
        "GET a\n",
        "SET b ",
        "APPEND a ",
        "INCR a\n",
        "INCRBY a ",
        "DECRBY a ",
        "INCRBYFLOAT a ",
        "SETRANGE a ",
        "GETRANGE a ",
        "SETBIT a ",
        "GETBIT a ",
        "BITCOUNT a ",
        "BITPOS a ",
        "BITOP ",
        "BITFIELD a ",
        "BITFIELD_RO a ",
        "GET u8 ",
        "SET i5 ",
        "INCRBY i64 ",
        "OVERFLOW SAT ",
        "OVERFLOW FAIL ",
        "MULTI\n",
        "EXEC\n",
        "DISCARD\n",
        "WATCH a\n",
        "UNWATCH\n",
        "MSET a ",
        "MSETNX a ",
        "MGET a b\n",
        "GETEX a ",
        "PERSIST",
        "EX 100000",
        "PX 100000000",
        "KEEPTTL",
        "NX",
        "XX",
        "GET",
        "EXPIRE a ",
        "TTL a\n",
        "PTTL a\n",
        "DEL a\n",
        "EXISTS a b\n",
        "RENAME a b\n",
        "COPY a b ",
        "DB 1",
        "REPLACE",
        "MOVE a 1\n",
        "SELECT ",
        "SWAPDB 0 1\n",
        "FLUSHDB\n",
        "FLUSHALL\n",
        "DBSIZE\n",
        "KEYS ",
        "LCS a b ",
        "IDX",
        "LEN",
        "MINMATCHLEN ",
        "WITHMATCHLEN",
        "HSET h f 1 g 2\n",
        "HSETNX h ",
        "HGET h f\n",
        "HGETALL h\n",
        "HDEL h f\n",
        "HINCRBY h f ",
        "HINCRBYFLOAT h f ",
        "HKEYS h\n",
        "HVALS h\n",
        "HMGET h f g\n",
        "HSTRLEN h f\n",
        "HEXISTS h ",
        "HLEN h\n",
        "RPUSH l 1 2 3 a b\n",
        "LPUSH l ",
        "RPUSHX l ",
        "LPOP l ",
        "RPOP l ",
        "LRANGE l 0 -1\n",
        "LINDEX l ",
        "LSET l 1 ",
        "LINSERT l BEFORE a ",
        "LINSERT l AFTER 2 ",
        "LREM l ",
        "LTRIM l ",
        "LPOS l a ",
        "RANK -1",
        "COUNT 2",
        "MAXLEN 3",
        "LMOVE l m LEFT RIGHT\n",
        "RPOPLPUSH l l\n",
        "LMPOP 2 l m LEFT",
        "BLPOP l m 0\n",
        "BRPOP l 0\n",
        "BLMOVE l m LEFT RIGHT 0\n",
        "BRPOPLPUSH l m 0\n",
        "BLMPOP 0 2 l m RIGHT",
        "LLEN l\n",
        "SADD s 1 2 3\n",
        "SADD t a b 2\n",
        "SREM s ",
        "SMEMBERS s\n",
        "SISMEMBER s ",
        "SMISMEMBER s 1 a\n",
        "SMOVE s t ",
        "SINTER s t\n",
        "SUNION s t\n",
        "SDIFF s t\n",
        "SINTERSTORE u s t\n",
        "SUNIONSTORE u s t\n",
        "SDIFFSTORE u s t\n",
        "SINTERCARD 2 s t LIMIT 1\n",
        "SCARD s\n",
        "ZADD z 1 a 2 b 3 c\n",
        "ZADD y 1.5 a -inf b 2 x\n",
        "ZADD z GT CH INCR ",
        "ZINCRBY z 0.1 a\n",
        "ZREM z a\n",
        "ZRANGE z 0 -1 WITHSCORES\n",
        "ZRANGE z (1 +inf BYSCORE",
        "ZRANGE z [a + BYLEX",
        "LIMIT 1 2",
        "REV",
        "ZRANGESTORE w z 0 -1\n",
        "ZRANGEBYSCORE z ",
        "ZREVRANGEBYSCORE z ",
        "ZRANGEBYLEX z - +",
        "ZREVRANGE z 0 -1\n",
        "ZRANK z a\n",
        "ZREVRANK z a\n",
        "ZSCORE z a\n",
        "ZMSCORE z a b\n",
        "ZCOUNT z ",
        "ZLEXCOUNT z - +\n",
        "ZCARD z\n",
        "ZREMRANGEBYRANK z ",
        "ZREMRANGEBYSCORE z ",
        "ZREMRANGEBYLEX z ",
        "ZPOPMIN z ",
        "ZPOPMAX z ",
        "ZMPOP 2 z y MAX",
        "BZPOPMIN z y 0\n",
        "BZMPOP 0 1 z MIN\n",
        "ZUNION 2 z y WITHSCORES\n",
        "ZINTER 2 z s WITHSCORES\n",
        "ZDIFF 2 z y\n",
        "ZUNIONSTORE w 2 z y WEIGHTS 2 -0.5 AGGREGATE MAX\n",
        "ZINTERSTORE w 2 z y\n",
        "ZDIFFSTORE w 2 z y\n",
        "ZINTERCARD 2 z y\n",
        "SORT l ALPHA DESC\n",
        "SORT s LIMIT 0 2",
        "SORT l BY w_* GET # GET v_*->f",
        "STORE d\n",
        "TYPE a\n",
        "OBJECT ENCODING a\n",
        "BYTE",
        "BIT",
        "AND ",
        "XOR ",
        "NOT ",
        " 0",
        " -1",
        " 9223372036854775807",
        " -9223372036854775808",
        " 1048576",
        " 8388608",
        " 1.5e3",
        " 0x1p3",
        " inf",
        " nan",
        "\"\\xff\\x00\"",
        "\"\"",
        "\n",
    ],
};

/// As Redis is started: small, so that short inputs meet both forms of collections.
const LIMITS: Limits = Limits {
    hash_entries: 4,
    hash_value: 16,
    set_ints: 4,
    set_entries: 4,
    set_value: 16,
    sorted_set_entries: 4,
    sorted_set_value: 16,
    list_fill: 3,
};
/// What Redis also answers to a SORT of numbers when the conversion of another number, in any command before, was out of range:
/// it looks at `errno` and does not clear it (`sort.c`, `sortCommandGeneric`).
const NOT_SORTED: &[u8] = b"-ERR One or more scores can't be converted into double\r\n";
/// Commands of one input.
const COMMANDS_MAX: usize = 32;
/// Times nearer than this are left out: a key must not expire while the input runs.
const NEAR_MS: i64 = 60_000;

/// How replies to a command are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exact,
    /// A bare transaction command.
    Transaction,
    /// An array in any order.
    Set,
    /// An array of pairs in any order.
    Pairs,
    /// Seconds or milliseconds to or of an expiry.
    Time {
        tolerance: i64,
    },
}

/// The kind of a command, if it can be compared.
fn kind_of(name: &[u8]) -> Option<Kind> {
    const EXACT: &[&str] = &[
        "append",
        "bitcount",
        "bitfield",
        "bitfield_ro",
        "bitop",
        "bitpos",
        "blmove",
        "blmpop",
        "blpop",
        "brpop",
        "brpoplpush",
        "bzmpop",
        "bzpopmax",
        "bzpopmin",
        "copy",
        "dbsize",
        "decr",
        "decrby",
        "del",
        "echo",
        "exists",
        "expire",
        "expireat",
        "flushall",
        "flushdb",
        "get",
        "getbit",
        "getdel",
        "getex",
        "getrange",
        "getset",
        "hdel",
        "hexists",
        "hget",
        "hincrby",
        "hincrbyfloat",
        "hlen",
        "hmget",
        "hmset",
        "hset",
        "hsetnx",
        "hstrlen",
        "incr",
        "incrby",
        "incrbyfloat",
        "lcs",
        "lindex",
        "linsert",
        "llen",
        "lmove",
        "lmpop",
        "lpop",
        "lpos",
        "lpush",
        "lpushx",
        "lrange",
        "lrem",
        "lset",
        "ltrim",
        "mget",
        "move",
        "mset",
        "msetnx",
        "object",
        "persist",
        "pexpire",
        "pexpireat",
        "ping",
        "psetex",
        "rename",
        "renamenx",
        "rpop",
        "rpoplpush",
        "rpush",
        "rpushx",
        "sadd",
        "scard",
        "sdiffstore",
        "select",
        "set",
        "setbit",
        "setex",
        "setnx",
        "setrange",
        "sintercard",
        "sinterstore",
        "sismember",
        "smismember",
        "smove",
        "sort",
        "sort_ro",
        "srem",
        "strlen",
        "substr",
        "sunionstore",
        "swapdb",
        "touch",
        "type",
        "unlink",
        "zadd",
        "zcard",
        "zcount",
        "zdiff",
        "zdiffstore",
        "zincrby",
        "zinter",
        "zintercard",
        "zinterstore",
        "zlexcount",
        "zmpop",
        "zmscore",
        "zpopmax",
        "zpopmin",
        "zrange",
        "zrangebylex",
        "zrangebyscore",
        "zrangestore",
        "zrank",
        "zrem",
        "zremrangebylex",
        "zremrangebyrank",
        "zremrangebyscore",
        "zrevrange",
        "zrevrangebylex",
        "zrevrangebyscore",
        "zrevrank",
        "zscore",
        "zunion",
        "zunionstore",
    ];
    let name = name.to_ascii_lowercase();
    match &name[..] {
        b"multi" | b"exec" | b"discard" | b"watch" | b"unwatch" => Some(Kind::Transaction),
        b"keys" | b"hkeys" | b"hvals" | b"smembers" | b"sinter" | b"sunion" | b"sdiff" => Some(Kind::Set),
        b"hgetall" => Some(Kind::Pairs),
        b"ttl" | b"expiretime" => Some(Kind::Time { tolerance: 2 }),
        b"pttl" | b"pexpiretime" => Some(Kind::Time { tolerance: 2_000 }),
        name => EXACT.iter().any(|it| it.as_bytes() == name).then_some(Kind::Exact),
    }
}

/// Whether the command has an expiry that may pass while the input runs.
fn is_near(args: &[Vec<u8>], now_ms: i64) -> bool {
    let is = |names: &[&str]| names.iter().any(|name| args[0].eq_ignore_ascii_case(name.as_bytes()));
    let first = if is(&["set"]) {
        3
    } else if is(&["expire", "pexpire", "expireat", "pexpireat", "setex", "psetex", "getex"]) {
        2
    } else {
        return false;
    };
    let near = |number: i64, to: i64, by: i64| number.abs_diff(to) <= by.unsigned_abs();
    args.iter().skip(first).filter_map(|arg| parse_i64(arg)).any(|number| {
        (number > 0 && number <= NEAR_MS)
            || near(number, now_ms, NEAR_MS)
            || near(number, now_ms / 1000, NEAR_MS)
    })
}

/// Whether the command asks which of two times is later that may be the same: each server takes them from its own clock, a
/// millisecond apart.
fn is_tie(args: &[Vec<u8>], all: &[Vec<Vec<u8>>]) -> bool {
    let has = |flag: &str| args.iter().skip(3).any(|arg| arg.eq_ignore_ascii_case(flag.as_bytes()));
    let Some(time) = args.get(2).and_then(|arg| parse_i64(arg)) else { return false };
    if !args[0].to_ascii_lowercase().windows(6).any(|part| part == b"expire") || !(has("gt") || has("lt")) {
        return false;
    }
    let same = [time, time.saturating_mul(1000), time / 1000];
    let numbers = |args: &[Vec<u8>]| {
        args.iter().filter(|arg| parse_i64(arg).is_some_and(|number| same.contains(&number))).count()
    };
    all.iter().map(|other| numbers(other)).sum::<usize>() > numbers(args)
}

/// Whether the command asks for a range of members of a set whose scores may differ: they are in no order then, and what Redis
/// finds depends on its random levels.
fn is_mixed_range(args: &[Vec<u8>], all: &[Vec<Vec<u8>>]) -> bool {
    let is_lex = args[0].to_ascii_lowercase().windows(3).any(|part| part == b"lex")
        || args.iter().any(|arg| arg.eq_ignore_ascii_case(b"bylex"));
    let scores = |args: &[Vec<u8>]| {
        let sets = [&b"zadd"[..], b"zincrby"].iter().any(|name| args[0].eq_ignore_ascii_case(name));
        let differs = |arg: &Vec<u8>| {
            let number = str::from_utf8(arg).ok().and_then(|text| text.parse::<f64>().ok());
            number.is_some_and(|number| number != 0.0)
        };
        sets && args.iter().skip(2).any(differs)
    };
    is_lex && all.iter().any(|other| scores(other))
}

/// Makes a command that blocks return soon.
fn shorten_wait(args: &mut [Vec<u8>]) {
    const SOON: &[u8] = b"0.001";
    let name = args[0].to_ascii_lowercase();
    let timeout = match &name[..] {
        b"blpop" | b"brpop" | b"blmove" | b"brpoplpush" | b"bzpopmin" | b"bzpopmax" => args.last_mut(),
        b"blmpop" | b"bzmpop" => args.get_mut(1),
        _ => None,
    };
    if let Some(timeout) = timeout.filter(|it| may_be_timeout(it)) {
        *timeout = SOON.to_vec();
    }
}

/// Whether this may be a number that is not negative, as the C library reads it: what is not, and is refused, says so. Without an
/// end is refused as well, in other words than Redis 7.0 has.
fn may_be_timeout(text: &[u8]) -> bool {
    if str::from_utf8(text).is_ok_and(|text| text.parse() == Ok(f64::INFINITY)) {
        return true;
    }
    let is_negative = text.strip_prefix(b"-").is_some_and(|digits| {
        digits.first().is_some_and(|first| *first != b'0') && digits.iter().all(u8::is_ascii_digit)
    });
    !is_negative && text.iter().all(|byte| byte.is_ascii_hexdigit() || b"xXpP.+-".contains(byte))
}

/// Whether this may be an option for Redis, which reads those up to a zero byte, and is none here.
fn may_be_cut_word(arg: &[u8]) -> bool {
    let end = arg.iter().position(|byte| *byte == 0);
    end.is_some_and(|end| end > 0 && arg[..end].iter().all(u8::is_ascii_alphabetic))
}

/// Whether the order of the reply is that of a set in memory: SORT that does not sort.
fn is_unordered(args: &[Vec<u8>]) -> bool {
    args[0].to_ascii_lowercase().starts_with(b"sort")
        && args.windows(2).any(|pair| pair[0].eq_ignore_ascii_case(b"by") && !pair[1].contains(&b'*'))
}

fn parse(data: &[u8], now_ms: i64) -> Vec<(Vec<Vec<u8>>, Kind)> {
    let lines = data.split(|&byte| byte == b'\n').filter(|line| !line.contains(&0));
    let mut commands: Vec<_> = lines.filter_map(split_slowly).filter(|args| !args.is_empty()).collect();
    commands.retain(|args| !args.iter().any(|arg| may_be_cut_word(arg)));
    commands.iter_mut().for_each(|args| shorten_wait(args));
    let all = commands.clone();
    let has_multi = commands.iter().any(|args| args[0].eq_ignore_ascii_case(b"multi"));
    let comparable = commands.into_iter().filter_map(|args| {
        let kind = kind_of(&args[0])?;
        let is_object = args[0].eq_ignore_ascii_case(b"object");
        let left_out = is_near(&args, now_ms)
            || is_tie(&args, &all)
            || is_unordered(&args)
            || is_mixed_range(&args, &all)
            // Parts of the reply of EXEC are compared exactly.
            || (has_multi && matches!(kind, Kind::Set | Kind::Pairs | Kind::Time { .. }))
            || (is_object && !args.get(1).is_some_and(|arg| arg.eq_ignore_ascii_case(b"encoding")));
        (!left_out).then_some((args, kind))
    });
    comparable.take(COMMANDS_MAX).collect()
}

fn run(data: &[u8]) {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    let now_ms = i64::try_from(elapsed.as_millis()).expect("a time of this age");
    let commands = parse(data, now_ms);
    if commands.is_empty() {
        return;
    }
    let mut requests = Vec::new();
    write_command(&mut requests, &[b"RESET"]);
    write_command(&mut requests, &[b"FLUSHALL"]);
    for (args, _) in &commands {
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        write_command(&mut requests, &args);
    }
    let mut theirs = Redis::shared().ask(&requests, commands.len() + 2).split_off(2);

    let mut store = Store::new();
    store.engine = Engine::new(EngineOptions { databases: 16, limits: LIMITS, seed: HashSeed([3, 4]) });
    store.now_ms = now_ms;
    store.settings.proto_max_bulk_len = MIB;
    let history = || commands.iter().map(|(args, _)| show(args)).collect::<Vec<_>>().join("\n");
    for ((args, kind), expected) in commands.iter().zip(&mut theirs) {
        let (mut reply, _) = store.run_on(1, args);
        if expected == NOT_SORTED && reply != NOT_SORTED {
            // What comes behind it may depend on it.
            return;
        }
        let equal = match kind {
            Kind::Exact | Kind::Transaction => reply == *expected,
            Kind::Set | Kind::Pairs => {
                let width = if *kind == Kind::Set { 1 } else { 2 };
                sort_items(&mut reply, width);
                sort_items(expected, width);
                reply == *expected
            }
            Kind::Time { tolerance } => match (integer(&reply), integer(expected)) {
                (Some(ours), Some(theirs)) if ours >= 0 && theirs >= 0 => (ours - theirs).abs() <= *tolerance,
                _ => reply == *expected,
            },
        };
        assert!(
            equal,
            "{}\nours    {}\nRedis's {}\nafter:\n{}",
            show(args),
            reply.escape_ascii(),
            expected.escape_ascii(),
            history()
        );
    }
    let replayed = replay(store.effects.bytes(), now_ms);
    let live = &store.engine;
    assert_eq!(
        replayed.digest(now_ms),
        live.digest(now_ms),
        "the log gives other data, after:\n{}",
        history()
    );
}

fn replay(log: &[u8], now_ms: i64) -> Engine {
    let mut engine =
        Engine::new(EngineOptions { databases: 16, limits: Limits::default(), seed: HashSeed([7, 8]) });
    let mut replayer = Replayer::begin(&mut engine);
    let mut decoder = Decoder::new();
    let mut rest = log;
    while !rest.is_empty() {
        let step = decoder.decode(rest, &DecodeLimits::LOG).expect("effects are well-formed");
        let request: OwnedRequest = step.request.expect("effects are whole").to_owned();
        rest = &rest[step.consumed..];
        replayer
            .apply(&mut engine, &request.as_request(), now_ms)
            .unwrap_or_else(|error| panic!("{error}; the log is {}", log.escape_ascii()));
    }
    assert!(!replayer.in_transaction(), "the log ends in a transaction: {}", log.escape_ascii());
    replayer.end(&mut engine);
    engine
}

fn show(args: &[Vec<u8>]) -> String {
    args.iter().map(|arg| format!("\"{}\"", arg.escape_ascii())).collect::<Vec<_>>().join(" ")
}

fn integer(reply: &[u8]) -> Option<i64> {
    std::str::from_utf8(reply.strip_prefix(b":")?).ok()?.trim_end().parse().ok()
}

/// Orders the items of an array, `width` by `width`, so that two arrays with the same items are equal.
fn sort_items(reply: &mut Vec<u8>, width: usize) {
    if reply.first() != Some(&b'*') {
        return;
    }
    let head = reply.iter().position(|&byte| byte == b'\n').map_or(reply.len(), |at| at + 1);
    let mut items = Vec::new();
    let mut at = head;
    while let Some(len) = reply_len(&reply[at..]) {
        items.push(reply[at..at + len].to_vec());
        at += len;
    }
    let mut items: Vec<_> = items.chunks(width).map(<[_]>::concat).collect();
    items.sort();
    reply.truncate(head);
    reply.extend(items.concat());
}
