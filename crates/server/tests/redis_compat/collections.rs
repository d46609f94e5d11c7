//! Hashes, lists, sets and sorted sets in every form travel between this server and Redis, in both directions: in RDB files, as
//! payloads of DUMP, and as the commands of a log.
//!
//! Both get the same requests. Redis compares with Redis by DEBUG DIGEST-VALUE, we with ourselves by content.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use holdfast_server::engine::value::Entry;
use holdfast_server::engine::{Access, Engine, EngineOptions, HashSeed, Limits};
use holdfast_server::persistence::snapshot::{BoxError, RdbOptions, RdbVisitor, RdbWriter, read_rdb};

use crate::peer::{Redis, check_rdb};
use crate::store::Store;
use crate::value::value_bytes;

type Request = Vec<Vec<u8>>;
type Content = BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>;

/// 2100-01-01.
const LATER_MS: &[u8] = b"4102444800000";
/// Everything is large with these.
const NOTHING_PACKED: Limits = Limits {
    hash_entries: 0,
    hash_value: 0,
    set_ints: 0,
    set_entries: 0,
    set_value: 0,
    sorted_set_entries: 0,
    sorted_set_value: 0,
    list_fill: 1,
};
const REDIS_PACKS: &[&str] = &["--enable-debug-command", "yes"];
const REDIS_PACKS_NOTHING: &[&str] = &[
    "--enable-debug-command",
    "yes",
    "--hash-max-listpack-entries",
    "0",
    "--set-max-intset-entries",
    "0",
    "--zset-max-listpack-entries",
    "0",
    "--list-max-listpack-size",
    "1",
];
/// Lists as LZF nodes; sets and hashes as they are.
const REDIS_COMPRESSES: &[&str] =
    &["--enable-debug-command", "yes", "--list-compress-depth", "1", "--list-max-listpack-size", "-1"];

/// Scores of every kind: the extremes, fractions, neighbours of numbers, and what has no short text.
const SCORES: [&str; 22] = [
    "-inf",
    "-1.7976931348623157e308",
    "-9223372036854775808",
    "-9007199254740993",
    "-1.5",
    "-1",
    "-5e-324",
    "-0",
    "0",
    "5e-324",
    "2.2250738585072014e-308",
    "0.1",
    "0.30000000000000004",
    "1",
    "1.0000000000000002",
    "3.25",
    "2147483648",
    "4503599627370497.5",
    "9007199254740992",
    "1e20",
    "1.7976931348623157e308",
    "inf",
];

fn words(text: &str) -> Request {
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// Numbers at the borders of every integer encoding.
fn numbers() -> Vec<Vec<u8>> {
    let mut numbers = vec![0_i128, 1, 12, 13, -1];
    for bits in [7, 8, 12, 13, 15, 16, 23, 24, 31, 32, 63] {
        let power = 1_i128 << bits;
        numbers.extend([power - 1, power, power + 1, -power, -power - 1, -power + 1]);
    }
    numbers.into_iter().map(|number| number.to_string().into_bytes()).collect()
}

/// Strings that look like numbers and are none, every byte, and lengths at the borders of every string encoding.
fn strings() -> Vec<Vec<u8>> {
    let mut strings: Vec<Vec<u8>> =
        ["", "-", "-0", "00", "007", "+1", " 1", "1 ", "1.0", "1e3", "0x10", "inf", "nan"]
            .map(|text| text.as_bytes().to_vec())
            .into();
    strings.push((0..=255).collect());
    strings.push(b"\r\n*3\r\n$3\r\n".to_vec());
    for len in [1_usize, 20, 21, 62, 63, 64, 65, 126, 127, 128, 255, 256, 4_094, 4_095, 4_096, 4_097] {
        strings.push(vec![b'z'; len]);
        let noise = (0..len as u64).map(|at| at.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[0]);
        strings.push(noise.chain(*b"noise").collect());
    }
    strings
}

fn long_strings() -> Vec<Vec<u8>> {
    [8_193_usize, 16_383, 16_384, 70_000, 1_100_000].iter().map(|&len| vec![b'l'; len]).collect()
}

/// One key of each type with these elements; `name` ends the names of the keys.
fn all_types(name: &str, elements: &[Vec<u8>], requests: &mut Vec<Request>) {
    let key = |kind: &str| format!("{kind}:{name}").into_bytes();
    requests.push([vec![b"RPUSH".to_vec(), key("list")], elements.to_vec()].concat());
    requests.push([vec![b"SADD".to_vec(), key("set")], elements.to_vec()].concat());
    let mut fields = vec![b"HSET".to_vec(), key("hash")];
    let mut members = vec![b"ZADD".to_vec(), key("sorted set")];
    for (number, element) in elements.iter().enumerate() {
        fields.extend([element.clone(), elements[(number * 7 + 1) % elements.len()].clone()]);
        members.extend([SCORES[number % SCORES.len()].as_bytes().to_vec(), element.clone()]);
    }
    requests.extend([fields, members]);
}

fn requests() -> Vec<Request> {
    let mut requests = Vec::new();
    all_types("one", &[b"x".to_vec()], &mut requests);
    all_types("empty element", &[Vec::new()], &mut requests);
    all_types("numbers", &numbers(), &mut requests);
    all_types("strings", &strings(), &mut requests);
    all_types("long", &long_strings(), &mut requests);
    for (number, string) in strings().iter().chain(&long_strings()).enumerate() {
        all_types(&format!("single {number}"), std::slice::from_ref(string), &mut requests);
    }
    // Of both sides of each limit, and far beyond.
    for count in [127, 128, 129, 511, 512, 513, 5_000] {
        let text: Vec<Vec<u8>> = (0..count).map(|number| format!("element {number}").into_bytes()).collect();
        all_types(&format!("{count} texts"), &text, &mut requests);
        let numbers: Vec<Vec<u8>> = (0..count).map(|it| (it * 3 - 50).to_string().into_bytes()).collect();
        all_types(&format!("{count} numbers"), &numbers, &mut requests);
    }
    for (name, step) in [("16", 1_i64), ("32", 100_000), ("64", 10_000_000_000)] {
        let members: Vec<String> = (-100..100).map(|it| (it * step).to_string()).collect();
        requests.push(words(&format!("SADD set:{name}-bits {}", members.join(" "))));
    }
    let scores: Vec<String> = SCORES.iter().map(|score| format!("{score} of{score}")).collect();
    requests.push(words(&format!("ZADD sorted:scores {}", scores.join(" "))));
    let equal: Vec<String> = (0..600).map(|it| format!("{} m{it}", it / 200)).collect();
    requests.push(words(&format!("ZADD sorted:equal {}", equal.join(" "))));
    // What commands leave behind: made large and small again, gaps, the other end.
    for request in [
        "LTRIM list:513\\0texts 100 120",
        "LPUSH list:512\\0texts a b c",
        "LREM list:5000\\0texts 0 element\\03000",
        "LINSERT list:5000\\0texts BEFORE element\\02000 between",
        "LSET list:5000\\0numbers 2500 text",
        "ZREMRANGEBYRANK sorted\\0set:5000\\0texts 10 4800",
        "ZINCRBY sorted\\0set:128\\0texts 0.1 element\\07",
        "SREM set:5000\\0numbers 1 4 7 10",
        "SADD set:128\\0numbers text",
        "HINCRBYFLOAT hash:one f 0.1",
        "HDEL hash:5000\\0texts element\\01 element\\02",
    ] {
        let request = request.replace("\\0", "\u{1}");
        requests.push(
            words(&request)
                .into_iter()
                .map(|word| String::from_utf8(word).unwrap().replace('\u{1}', " ").into_bytes())
                .collect(),
        );
    }
    for key in ["list:one", "set:one", "hash:one", "sorted set:one", "hash:5000 texts"] {
        requests.push(vec![b"PEXPIREAT".to_vec(), key.as_bytes().to_vec(), LATER_MS.to_vec()]);
    }
    requests
}

fn ours(limits: Limits, requests: &[Request]) -> Store {
    let mut store = Store::new();
    store.engine = Engine::new(EngineOptions { databases: 16, limits, seed: HashSeed([1, 2]) });
    for request in requests {
        let (reply, _) = store.run_on(1, request);
        assert_ne!(reply[0], b'-', "{}: {}", request[1].escape_ascii(), reply.escape_ascii());
    }
    store
}

fn theirs(dir: &Path, options: &[&str], requests: &[Request]) -> Redis {
    let mut redis = Redis::start(dir, options);
    for request in requests {
        redis.command(&request.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }
    redis
}

fn content(engine: &Engine) -> Content {
    engine.entries().map(|it| (it.key.to_vec(), (value_bytes(it.value), it.expires_at_ms))).collect()
}

/// Type, DIGEST-VALUE and expiry of each key.
fn digests(redis: &mut Redis, keys: &[Vec<u8>]) -> Vec<String> {
    let digest = |key: &Vec<u8>| {
        let digest = format!("{:?}", redis.command(&[b"DEBUG", b"DIGEST-VALUE", key]));
        format!("{} {digest} {}", key.escape_ascii(), redis.command(&[b"PEXPIRETIME", key]).int())
    };
    keys.iter().map(digest).collect()
}

fn assert_same_content(found: &Content, expected: &Content, place: &str) {
    let keys = |content: &Content| content.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(found), keys(expected), "{place}");
    for (key, value) in expected {
        let (found, value) = (&found[key], value);
        if found != value {
            let at = found.0.iter().zip(&value.0).take_while(|(found, expected)| found == expected).count();
            let near = |bytes: &[u8]| {
                bytes[at.saturating_sub(20)..bytes.len().min(at + 60)].escape_ascii().to_string()
            };
            let (found_near, expected_near) = (near(&found.0), near(&value.0));
            panic!(
                "{place}: {} at byte {at}: {found_near:?} instead of {expected_near:?}",
                key.escape_ascii()
            );
        }
    }
}

fn assert_same_digests(found: &[String], expected: &[String], place: &str) {
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected, "{place}");
    }
}

struct Loading(Engine);

impl RdbVisitor for Loading {
    fn entry(&mut self, entry: Entry) -> Result<(), BoxError> {
        Ok(self.0.load(entry, 0)?)
    }
}

fn read(path: &Path, limits: Limits) -> Engine {
    let engine = Engine::new(EngineOptions { databases: 16, limits, seed: HashSeed([3, 4]) });
    let mut loading = Loading(engine);
    read_rdb(fs::File::open(path).unwrap(), &mut loading).unwrap();
    loading.0
}

fn write(engine: &Engine, path: &Path, compression: bool) {
    let options = RdbOptions { compression, ..RdbOptions::default() };
    let mut writer = RdbWriter::new(fs::File::create(path).unwrap(), options).unwrap();
    for it in engine.entries() {
        let (key, value) = (it.key.into(), it.value.to_value());
        writer
            .entry(&Entry {
                db: it.db,
                key,
                value,
                expires_at_ms: it.expires_at_ms,
                access: Access::default(),
            })
            .unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn our_collections_load_in_redis() {
    let requests = requests();
    let dir = tempfile::tempdir().unwrap();
    let mut reference = theirs(dir.path(), REDIS_PACKS, &requests);
    for (name, limits) in [("packed", Limits::default()), ("large", NOTHING_PACKED)] {
        let store = ours(limits, &requests);
        let keys: Vec<_> = content(&store.engine).into_keys().collect();
        assert_eq!(reference.command(&[b"DBSIZE"]).int(), i64::try_from(keys.len()).unwrap());
        let expected = digests(&mut reference, &keys);
        for (compression, options) in
            [(true, REDIS_PACKS), (false, REDIS_PACKS_NOTHING), (false, REDIS_COMPRESSES)]
        {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("dump.rdb");
            write(&store.engine, &path, compression);
            check_rdb(&path);
            let found = digests(&mut Redis::start(dir.path(), options), &keys);
            assert_same_digests(&found, &expected, &format!("{name}, compression {compression}"));
        }
    }
}

#[test]
fn collections_of_redis_load_here() {
    let requests = requests();
    let expected = content(&ours(Limits::default(), &requests).engine);
    for (name, options) in
        [("packed", REDIS_PACKS), ("large", REDIS_PACKS_NOTHING), ("compressed", REDIS_COMPRESSES)]
    {
        for compression in ["yes", "no"] {
            let dir = tempfile::tempdir().unwrap();
            let mut redis =
                theirs(dir.path(), &[options, &["--rdbcompression", compression]].concat(), &requests);
            redis.command(&[b"SAVE"]);
            let path = dir.path().join("dump.rdb");
            for limits in [Limits::default(), NOTHING_PACKED] {
                let found = content(&read(&path, limits));
                assert_same_content(&found, &expected, &format!("{name}, compression {compression}"));
            }
        }
    }
}

#[test]
fn payloads_travel_both_ways() {
    let requests = requests();
    let dir = tempfile::tempdir().unwrap();
    let mut reference = theirs(dir.path(), REDIS_PACKS, &requests);
    for (name, limits, options) in
        [("packed", Limits::default(), REDIS_PACKS), ("large", NOTHING_PACKED, REDIS_PACKS_NOTHING)]
    {
        let mut store = ours(limits, &requests);
        let expected = content(&store.engine);
        let keys: Vec<_> = expected.keys().cloned().collect();
        let dir = tempfile::tempdir().unwrap();
        let mut redis = theirs(dir.path(), options, &requests);
        let expected_digests = digests(&mut reference, &keys);
        for key in &keys {
            let (reply, _) = store.run_on(1, &[b"DUMP", &key[..]]);
            let start = reply.iter().position(|&byte| byte == b'\n').unwrap() + 1;
            let ours = reply[start..reply.len() - 2].to_vec();
            let theirs = redis.command(&[b"DUMP", key]).bytes();
            let expiry = expected[key].1.unwrap_or(0).to_string();
            let restore = |payload: &[u8]| -> Request {
                [b"RESTORE", &key[..], expiry.as_bytes(), payload, b"ABSTTL", b"REPLACE"]
                    .map(<[u8]>::to_vec)
                    .into()
            };
            redis.command(&restore(&ours).iter().map(Vec::as_slice).collect::<Vec<_>>());
            let (reply, _) = store.run_on(1, &restore(&theirs));
            assert_eq!(reply, b"+OK\r\n", "{name}: payload of {}", key.escape_ascii());
        }
        assert_same_digests(&digests(&mut redis, &keys), &expected_digests, name);
        assert_same_content(&content(&store.engine), &expected, name);
    }
}

#[test]
fn our_effects_are_a_log_for_redis() {
    let mut requests = requests();
    requests.extend(
        [
            "SELECT 2",
            "RPUSH l 1 2 3 4 5 6",
            "BLMOVE l m LEFT RIGHT 0",
            "BRPOPLPUSH l m 0",
            "BLPOP none l 0",
            "LMPOP 2 none l LEFT COUNT 2",
            "SADD s a b c d e f g",
            "SPOP s 3",
            "SPOP s",
            "SUNIONSTORE s2 s",
            "SINTERSTORE s3 s none",
            "ZADD z 1 a 2 b 3 c 4 d 5 e",
            "ZADD z INCR 0.1 a",
            "ZADD z GT CH 9 b",
            "ZINCRBY z 0.2 a",
            "BZPOPMIN none z 0",
            "ZMPOP 1 z MAX",
            "ZUNIONSTORE z2 2 z s WEIGHTS 2 0.5 AGGREGATE MAX",
            "ZRANGESTORE z3 z 0 1",
            "HSET h f 1.1 g 5",
            "HINCRBYFLOAT h f 0.1",
            "HINCRBY h g -10",
            "RPUSH nums 3 1 2",
            "SORT nums DESC STORE sorted",
            "SORT s2 ALPHA STORE sorted2",
            "MULTI",
            "SPOP s",
            "LMOVE m l LEFT LEFT",
            "HINCRBYFLOAT h f 0.2",
            "EXEC",
            "COPY z z4",
            "RENAME h h2",
        ]
        .map(words),
    );
    let store = ours(Limits::default(), &requests);
    let dir = tempfile::tempdir().unwrap();
    // A log in one file, of commands alone, as before Redis 7.
    fs::write(dir.path().join("appendonly.aof"), store.effects.bytes()).unwrap();
    let mut redis = Redis::start(dir.path(), &[REDIS_PACKS, &["--appendonly", "yes"]].concat());
    redis.command(&[b"CONFIG", b"SET", b"appendonly", b"no"]);
    redis.command(&[b"SAVE"]);
    let found = read(&dir.path().join("dump.rdb"), Limits::default());
    assert_same_content(&content(&found), &content(&store.engine), "loaded and saved by Redis");
}

#[test]
fn a_file_keeps_the_digest_of_its_collections() {
    let requests = requests();
    for limits in [Limits::default(), NOTHING_PACKED] {
        let store = ours(limits, &requests);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump.rdb");
        write(&store.engine, &path, true);
        for read_limits in [Limits::default(), NOTHING_PACKED] {
            assert_eq!(
                read(&path, read_limits).digest(0),
                store.engine.digest(0),
                "{limits:?}, {read_limits:?}"
            );
        }
    }
}
