//! Random commands against a plain map, and what must hold of their effects and of snapshots taken meanwhile.

#[path = "common/log.rs"]
mod log;
#[path = "common/store.rs"]
mod store;
#[path = "common/value.rs"]
mod value;

use std::collections::BTreeMap;

use holdfast_server::command::Replayer;
use holdfast_server::engine::value::Entry;
use holdfast_server::engine::{Chunk, Engine, EngineOptions, HashSeed, Limits, ValueRef};
use holdfast_server::protocol::OwnedRequest;
use log::decode;
use proptest::prelude::*;
use store::{START_MS, Store};
use value::value_bytes;

/// Databases that random commands use.
const DATABASES: u32 = 3;
/// Small, so that collections of a few elements are large already, and both forms and the step between them are met.
const LIMITS: Limits = Limits {
    hash_entries: 4,
    hash_value: 16,
    set_ints: 4,
    set_entries: 6,
    set_value: 16,
    sorted_set_entries: 4,
    sorted_set_value: 16,
    list_fill: 3,
};
/// Elements that one command may add, enough for several nodes of each large form.
const BULK_MAX: u32 = 400;

fn empty(seed: HashSeed) -> Engine {
    Engine::new(EngineOptions { databases: 16, limits: LIMITS, seed })
}

fn new_store() -> Store {
    let mut store = Store::new();
    store.engine = empty(HashSeed([0x5eed, 0xbeef]));
    store
}

type Dump = BTreeMap<(u32, Vec<u8>), (Vec<u8>, Option<i64>)>;

fn dump_entries<'a>(entries: impl Iterator<Item = (u32, &'a [u8], ValueRef<'a>, Option<i64>)>) -> Dump {
    entries.map(|(db, key, value, expiry)| ((db, key.to_vec()), (value_bytes(value), expiry))).collect()
}

fn dump(engine: &Engine) -> Dump {
    dump_entries(engine.entries().map(|it| (it.db, it.key, it.value, it.expires_at_ms)))
}

fn dump_saved(saved: &[Entry]) -> Dump {
    dump_entries(saved.iter().map(|it| (it.db, &*it.key, it.value.as_ref(), it.expires_at_ms)))
}

/// Takes a step of the snapshot; true when it is complete.
fn save(engine: &mut Engine, budget: usize, saved: &mut Vec<Entry>) -> bool {
    let mut chunk = Chunk::default();
    let done = engine.snapshot_step(budget, &mut chunk);
    saved.extend(chunk.entries().map(|entry| entry.to_entry()));
    done
}

#[derive(Debug, Clone)]
enum Step {
    Command(Vec<String>),
    /// A value goes to another key as a payload: DUMP, then RESTORE.
    Carry(String, String),
    /// Time passes, in milliseconds.
    Wait(i64),
    ExpireCycle(usize),
    Save(usize),
}

fn key() -> impl Strategy<Value = String> {
    (0..12u8).prop_map(|number| format!("k{number}"))
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        (-20..20i64).prop_map(|number| number.to_string()),
        "[a-c]{0,6}".prop_map(String::from),
        "[x]{40,50}".prop_map(String::from),
        (-50..50i32).prop_map(|number| format!("{}.25", number)),
    ]
}

fn words(command: &str) -> Vec<String> {
    command.split(' ').map(String::from).collect()
}

fn command() -> impl Strategy<Value = Vec<String>> {
    let ms = 1..60i64;
    prop_oneof![
        4 => (key(), value()).prop_map(|(k, v)| vec!["SET".into(), k, v]),
        2 => (key(), value(), ms.clone()).prop_map(|(k, v, ms)| vec!["SET".into(), k, v, "PX".into(), ms.to_string()]),
        1 => (key(), value(), "(NX|XX|GET|KEEPTTL)").prop_map(|(k, v, o)| vec!["SET".into(), k, v, o]),
        1 => (key(), value(), "(SETNX|GETSET|APPEND|INCRBYFLOAT|INCRBY)").prop_map(|(k, v, c)| vec![c, k, v]),
        1 => (key(), value(), ms.clone()).prop_map(|(k, v, ms)| vec!["PSETEX".into(), k, ms.to_string(), v]),
        2 => (key(), "(GET|GETDEL|INCR|DECR|STRLEN|TYPE|TTL|PTTL|PERSIST|DEL|UNLINK|EXISTS|TOUCH)").prop_map(|(k, c)| vec![c, k]),
        1 => (key(), -10..60i64, "(PEXPIRE|PEXPIREAT)").prop_map(|(k, ms, c)| {
            let at = if c == "PEXPIREAT" { START_MS + ms } else { ms };
            vec![c, k, at.to_string()]
        }),
        1 => (key(), ms.clone(), "(NX|XX|GT|LT)").prop_map(|(k, ms, o)| vec!["PEXPIRE".into(), k, ms.to_string(), o]),
        1 => (key(), ms).prop_map(|(k, ms)| vec!["GETEX".into(), k, "PX".into(), ms.to_string()]),
        1 => (key(), value(), key(), value()).prop_map(|(a, v, b, w)| vec!["MSET".into(), a, v, b, w]),
        1 => (key(), value(), key(), value()).prop_map(|(a, v, b, w)| vec!["MSETNX".into(), a, v, b, w]),
        1 => (key(), 0..12u32, value()).prop_map(|(k, at, v)| vec!["SETRANGE".into(), k, at.to_string(), v]),
        1 => (key(), 0..70u32, 0..2u8).prop_map(|(k, at, on)| vec!["SETBIT".into(), k, at.to_string(), on.to_string()]),
        1 => (key(), key(), key(), "(AND|OR|XOR)").prop_map(|(d, a, b, o)| vec!["BITOP".into(), o, d, a, b]),
        1 => (key(), 0..20u32, -300..300i64).prop_map(|(k, at, by)| {
            vec!["BITFIELD".into(), k, "INCRBY".into(), "i7".into(), at.to_string(), by.to_string()]
        }),
        2 => (key(), key(), "(RENAME|RENAMENX|COPY)").prop_map(|(a, b, c)| vec![c, a, b]),
        1 => (key(), key(), 0..DATABASES).prop_map(|(a, b, db)| {
            vec!["COPY".into(), a, b, "DB".into(), db.to_string(), "REPLACE".into()]
        }),
        1 => (key(), 0..DATABASES).prop_map(|(k, db)| vec!["MOVE".into(), k, db.to_string()]),
        2 => (0..DATABASES).prop_map(|db| words(&format!("SELECT {db}"))),
        1 => (0..DATABASES, 0..DATABASES).prop_map(|(a, b)| words(&format!("SWAPDB {a} {b}"))),
        1 => "(MULTI|EXEC|EXEC|DISCARD|RANDOMKEY|DBSIZE)".prop_map(|c| vec![c]),
        1 => Just(words("KEYS *")),
        1 => Just(words("SCAN 0")),
    ]
}

fn rare_command() -> impl Strategy<Value = Vec<String>> {
    "(FLUSHDB|FLUSHALL|FLUSHALL ASYNC|FLUSHDB ASYNC)".prop_map(|text| words(&text))
}

/// A key of one type, mostly: `k0` of strings, `h0` of hashes, …
fn key_of(kind: char) -> impl Strategy<Value = String> {
    (0..3u8, 0..25u8).prop_map(move |(number, other)| {
        let kind = if other == 0 { 'k' } else { kind };
        format!("{kind}{number}")
    })
}

fn any_key() -> impl Strategy<Value = String> {
    "[khlsz]".prop_flat_map(|kind| key_of(kind.chars().next().expect("one letter")))
}

/// A field, a member or an element: from few, so that they are met again; some too long for a packed form.
fn element() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0..12u8).prop_map(|number| number.to_string()),
        3 => "[a-f]{0,2}",
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => "[y]{17,19}",
        1 => "0[0-9]",
    ]
}

fn score() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (-6..6i8).prop_map(|number| number.to_string()),
        2 => (-40..40i8).prop_map(|number| format!("{number}.125")),
        1 => any::<f64>().prop_filter("a number", |it| !it.is_nan()).prop_map(|it| format!("{it:e}")),
        1 => "(inf|-inf|0.1|-0|1e300|3.0000000000000004)",
    ]
}

fn index() -> impl Strategy<Value = String> {
    (-7..12i8).prop_map(|index| index.to_string())
}

fn args(first: &[&str], rest: impl IntoIterator<Item = String>) -> Vec<String> {
    first.iter().map(|it| (*it).to_owned()).chain(rest).collect()
}

/// A command that adds many elements, which differ by `from`.
fn bulk_command() -> impl Strategy<Value = Vec<String>> {
    ("[hlsz]", 0..3u8, 0..500u32, 1..BULK_MAX, any::<bool>()).prop_map(|(kind, key, from, count, is_text)| {
        let text = |number: u32| if is_text { format!("m{number}") } else { number.to_string() };
        let numbers = from..from + count;
        let key = format!("{kind}{key}");
        match kind.as_str() {
            "h" => args(&["HSET", &key], numbers.flat_map(|it| [text(it), format!("v{it}")])),
            "l" => args(&["RPUSH", &key], numbers.map(text)),
            "s" => args(&["SADD", &key], numbers.map(text)),
            _ => args(&["ZADD", &key], numbers.flat_map(|it| [(it % 37).to_string(), text(it)])),
        }
    })
}

fn hash_command() -> impl Strategy<Value = Vec<String>> {
    let (k, f) = (|| key_of('h'), element);
    prop_oneof![
        4 => (k(), f(), value(), f(), value()).prop_map(|(k, f, v, g, w)| args(&["HSET"], [k, f, v, g, w])),
        1 => (k(), f(), value()).prop_map(|(k, f, v)| args(&["HSETNX"], [k, f, v])),
        1 => (k(), f(), value()).prop_map(|(k, f, v)| args(&["HMSET"], [k, f, v])),
        2 => (k(), f(), f()).prop_map(|(k, f, g)| args(&["HDEL"], [k, f, g])),
        1 => (k(), f(), -30..30i64).prop_map(|(k, f, by)| args(&["HINCRBY"], [k, f, by.to_string()])),
        1 => (k(), f(), score()).prop_map(|(k, f, by)| args(&["HINCRBYFLOAT"], [k, f, by])),
        1 => (k(), "(HGETALL|HKEYS|HLEN|HRANDFIELD)").prop_map(|(k, c)| vec![c, k]),
        1 => (k(), f(), "(HGET|HEXISTS|HSTRLEN|HMGET)").prop_map(|(k, f, c)| vec![c, k, f]),
    ]
}

fn list_command() -> impl Strategy<Value = Vec<String>> {
    let k = || key_of('l');
    let end = || "(LEFT|RIGHT)";
    prop_oneof![
        4 => ("(LPUSH|RPUSH)", k(), element(), element()).prop_map(|(c, k, v, w)| vec![c, k, v, w]),
        1 => ("(LPUSHX|RPUSHX)", k(), element()).prop_map(|(c, k, v)| vec![c, k, v]),
        2 => ("(LPOP|RPOP)", k()).prop_map(|(c, k)| vec![c, k]),
        1 => ("(LPOP|RPOP)", k(), 0..6u8).prop_map(|(c, k, n)| vec![c, k, n.to_string()]),
        2 => (k(), index(), element()).prop_map(|(k, at, v)| args(&["LSET"], [k, at, v])),
        2 => (k(), "(BEFORE|AFTER)", element(), element()).prop_map(|(k, p, a, v)| args(&["LINSERT"], [k, p, a, v])),
        2 => (k(), -3..4i8, element()).prop_map(|(k, n, v)| args(&["LREM"], [k, n.to_string(), v])),
        1 => (k(), index(), index()).prop_map(|(k, a, b)| args(&["LTRIM"], [k, a, b])),
        1 => (k(), index(), index()).prop_map(|(k, a, b)| args(&["LRANGE"], [k, a, b])),
        2 => (k(), k(), end(), end()).prop_map(|(a, b, e, f)| args(&["LMOVE"], [a, b, e, f])),
        1 => (k(), k()).prop_map(|(a, b)| args(&["RPOPLPUSH"], [a, b])),
        1 => (k(), k(), end()).prop_map(|(a, b, e)| args(&["LMPOP", "2"], [a, b, e, "COUNT".into(), "3".into()])),
        1 => (k(), k(), "(BLPOP|BRPOP)").prop_map(|(a, b, c)| vec![c, a, b, "0".into()]),
        1 => (k(), k(), end(), end()).prop_map(|(a, b, e, f)| args(&["BLMOVE"], [a, b, e, f, "0".into()])),
        1 => (k(), k(), end()).prop_map(|(a, b, e)| args(&["BLMPOP", "0", "2"], [a, b, e])),
    ]
}

fn set_command() -> impl Strategy<Value = Vec<String>> {
    let (k, m) = (|| key_of('s'), element);
    prop_oneof![
        4 => (k(), m(), m()).prop_map(|(k, m, n)| args(&["SADD"], [k, m, n])),
        2 => (k(), m(), m()).prop_map(|(k, m, n)| args(&["SREM"], [k, m, n])),
        1 => k().prop_map(|k| args(&["SPOP"], [k])),
        1 => (k(), 0..8u8).prop_map(|(k, n)| args(&["SPOP"], [k, n.to_string()])),
        1 => (k(), k(), m()).prop_map(|(a, b, m)| args(&["SMOVE"], [a, b, m])),
        2 => ("(SINTERSTORE|SUNIONSTORE|SDIFFSTORE)", k(), k(), k()).prop_map(|(c, d, a, b)| vec![c, d, a, b]),
        1 => (k(), "(SMEMBERS|SCARD|SRANDMEMBER)").prop_map(|(k, c)| vec![c, k]),
    ]
}

fn sorted_set_command() -> impl Strategy<Value = Vec<String>> {
    let (k, m) = (|| key_of('z'), element);
    prop_oneof![
        4 => (k(), score(), m(), score(), m()).prop_map(|(k, s, m, t, n)| args(&["ZADD"], [k, s, m, t, n])),
        1 => (k(), "(NX|XX|GT|LT|CH)", score(), m()).prop_map(|(k, o, s, m)| args(&["ZADD"], [k, o, s, m])),
        1 => (k(), score(), m()).prop_map(|(k, s, m)| args(&["ZADD"], [k, "INCR".into(), s, m])),
        1 => (k(), score(), m()).prop_map(|(k, s, m)| args(&["ZINCRBY"], [k, s, m])),
        2 => (k(), m(), m()).prop_map(|(k, m, n)| args(&["ZREM"], [k, m, n])),
        1 => (k(), index(), index()).prop_map(|(k, a, b)| args(&["ZREMRANGEBYRANK"], [k, a, b])),
        1 => (k(), score(), score()).prop_map(|(k, a, b)| args(&["ZREMRANGEBYSCORE"], [k, format!("({a}"), b])),
        1 => (k(), m(), m()).prop_map(|(k, a, b)| args(&["ZREMRANGEBYLEX"], [k, format!("[{a}"), format!("({b}")])),
        1 => ("(ZPOPMIN|ZPOPMAX)", k(), 0..5u8).prop_map(|(c, k, n)| vec![c, k, n.to_string()]),
        1 => (k(), k(), "(MIN|MAX)").prop_map(|(a, b, e)| args(&["ZMPOP", "2"], [a, b, e, "COUNT".into(), "2".into()])),
        1 => ("(BZPOPMIN|BZPOPMAX)", k(), k()).prop_map(|(c, a, b)| vec![c, a, b, "0".into()]),
        1 => (k(), k(), index(), index()).prop_map(|(d, k, a, b)| args(&["ZRANGESTORE"], [d, k, a, b])),
        1 => ("(ZUNIONSTORE|ZINTERSTORE|ZDIFFSTORE)", k(), k(), k())
            .prop_map(|(c, d, a, b)| vec![c, d, "2".into(), a, b]),
        1 => (k(), k(), key_of('s')).prop_map(|(d, a, b)| {
            args(&["ZUNIONSTORE"], [d, "2".into(), a, b, "WEIGHTS".into(), "2".into(), "-0.5".into()])
        }),
        1 => (k(), index(), index()).prop_map(|(k, a, b)| args(&["ZRANGE"], [k, a, b])),
    ]
}

fn collection_command() -> impl Strategy<Value = Vec<String>> {
    prop_oneof![
        6 => hash_command(),
        8 => list_command(),
        6 => set_command(),
        8 => sorted_set_command(),
        3 => bulk_command(),
        1 => any_key().prop_map(|k| vec!["DEL".into(), k]),
        1 => (any_key(), 1..60i64).prop_map(|(k, ms)| vec!["PEXPIRE".into(), k, ms.to_string()]),
        1 => (any_key(), any_key(), "(RENAME|RENAMENX)").prop_map(|(a, b, c)| vec![c, a, b]),
        2 => (any_key(), any_key()).prop_map(|(a, b)| args(&["COPY"], [a, b, "REPLACE".into()])),
        1 => (any_key(), 0..DATABASES).prop_map(|(k, db)| args(&["MOVE"], [k, db.to_string()])),
        1 => (any_key(), key_of('l')).prop_map(|(k, d)| args(&["SORT"], [k, "ALPHA".into(), "STORE".into(), d])),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => command().prop_map(Step::Command),
        30 => collection_command().prop_map(Step::Command),
        1 => (any_key(), any_key()).prop_map(|(from, to)| Step::Carry(from, to)),
        1 => rare_command().prop_map(Step::Command),
        3 => (0..30i64).prop_map(Step::Wait),
        1 => (0..4usize).prop_map(Step::ExpireCycle),
        3 => (0..6usize).prop_map(Step::Save),
    ]
}

fn run(store: &mut Store, step: &Step) {
    match step {
        Step::Command(args) => {
            store.run_on(1, args);
        }
        Step::Carry(from, to) => {
            // Another connection, for the first may be in a transaction or in another database.
            let (reply, _) = store.run_on(2, &["DUMP", from]);
            let Some(at) = reply.windows(2).position(|it| it == b"\r\n").filter(|_| reply[..3] != *b"$-1")
            else {
                return;
            };
            let payload = &reply[at + 2..reply.len() - 2];
            let (reply, _) = store.run_on(2, &[&b"RESTORE"[..], to.as_bytes(), b"0", payload, b"REPLACE"]);
            assert_eq!(reply, b"+OK\r\n", "{}", payload.escape_ascii());
        }
        Step::Wait(ms) => store.now_ms += ms,
        Step::ExpireCycle(budget) => {
            store.engine.expire_cycle(store.now_ms, *budget, &mut store.effects);
        }
        Step::Save(_) => {}
    }
}

/// Replays a log into an empty engine with another seed, as after a restart much later.
fn replay(log: &[u8]) -> Engine {
    let mut engine = empty(HashSeed([7, 8]));
    let mut replayer = Replayer::begin(&mut engine);
    for args in decode(log) {
        let request = OwnedRequest::from_args(&args);
        replayer
            .apply(&mut engine, &request.as_request(), START_MS + 1_000_000_000)
            .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(log)));
    }
    assert!(!replayer.in_transaction());
    replayer.end(&mut engine);
    engine
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn replaying_the_effects_gives_the_same_data(steps in proptest::collection::vec(step(), 1..120)) {
        let mut store = new_store();
        let mut log = Vec::new();
        for step in &steps {
            run(&mut store, step);
            log.extend_from_slice(store.effects.bytes());
            store.effects.clear();
        }
        let replayed = replay(&log);
        prop_assert_eq!(dump(&replayed), dump(&store.engine), "{}", String::from_utf8_lossy(&log));
        prop_assert_eq!(replayed.digest(START_MS), store.engine.digest(START_MS));
    }

    #[test]
    fn a_snapshot_holds_the_data_of_its_cut(
        before in proptest::collection::vec(step(), 1..80),
        during in proptest::collection::vec(step(), 0..80),
    ) {
        let mut store = new_store();
        for step in &before {
            run(&mut store, step);
        }
        let expected = dump(&store.engine);
        store.engine.snapshot_begin(store.now_ms);
        let mut saved = Vec::new();
        let mut done = false;
        for step in &during {
            run(&mut store, step);
            if let Step::Save(budget) = step {
                done |= save(&mut store.engine, *budget, &mut saved);
            }
        }
        while !done {
            done = save(&mut store.engine, 3, &mut saved);
        }
        prop_assert!(!store.engine.snapshot_active());
        prop_assert_eq!(saved.len(), expected.len(), "each key once");
        prop_assert_eq!(dump_saved(&saved), expected);
        prop_assert_eq!(store.engine.snapshot_pending_bytes(), 0);
    }

    #[test]
    fn a_log_after_a_cut_completes_the_snapshot(
        before in proptest::collection::vec(step(), 1..60),
        during in proptest::collection::vec(step(), 0..60),
    ) {
        let mut store = new_store();
        for step in &before {
            run(&mut store, step);
        }
        store.engine.snapshot_begin(store.now_ms);
        store.effects.clear();
        store.effects.reset_database();
        let mut saved = Vec::new();
        for step in &during {
            run(&mut store, step);
            if let Step::Save(budget) = step {
                save(&mut store.engine, *budget, &mut saved);
            }
        }
        while !save(&mut store.engine, 3, &mut saved) {}
        let mut engine = empty(HashSeed([9, 9]));
        for entry in saved {
            engine.load(entry, 0).expect("each key once");
        }
        let mut replayer = Replayer::begin(&mut engine);
        for args in decode(store.effects.bytes()) {
            let request = OwnedRequest::from_args(&args);
            replayer.apply(&mut engine, &request.as_request(), store.now_ms).expect("effects can be replayed");
        }
        replayer.end(&mut engine);
        prop_assert_eq!(dump(&engine), dump(&store.engine));
    }

    #[test]
    fn memory_that_was_counted_is_counted_off(
        steps in proptest::collection::vec(step(), 1..120),
        during in proptest::collection::vec(step(), 0..30),
        flush in any::<bool>(),
    ) {
        let mut store = new_store();
        for step in &steps {
            run(&mut store, step);
        }
        // A snapshot makes tables keep what it needs and share nodes.
        store.engine.snapshot_begin(store.now_ms);
        let mut saved = Vec::new();
        for step in &during {
            run(&mut store, step);
        }
        while !save(&mut store.engine, 3, &mut saved) {}
        drop(saved);
        store.run_on(1, &["DISCARD"]);
        // A table that was emptied while it was saved gives its memory back with the next change.
        for db in 0..DATABASES {
            store.run_on(3, &["SELECT", &db.to_string()]);
            store.run_on(3, &["SET", "last", ""]);
        }
        if flush {
            store.run_on(1, &["FLUSHALL"]);
        } else {
            // One by one: what each takes off is what its changes have added.
            let keys: Vec<_> = store.engine.entries().map(|it| (it.db, it.key.to_vec())).collect();
            for (db, key) in keys {
                store.run_on(3, &["SELECT", &db.to_string()]);
                store.run_on(3, &[&b"DEL"[..], &key]);
            }
            prop_assert!(store.engine.is_empty());
        }
        prop_assert_eq!(store.engine.used_memory(), empty(HashSeed([1, 2])).used_memory());
    }

    #[test]
    fn commands_behave_as_on_a_plain_map(steps in proptest::collection::vec(plain_command(), 1..150)) {
        let mut store = Store::new();
        let mut model: BTreeMap<String, String> = BTreeMap::new();
        for args in &steps {
            let expected = on_plain_map(&mut model, args);
            let (reply, _) = store.run_on(1, args);
            prop_assert_eq!(String::from_utf8_lossy(&reply), expected, "{:?}", args);
        }
        prop_assert_eq!(store.engine.len(), model.len());
    }
}

/// Commands that the model knows.
fn plain_command() -> impl Strategy<Value = Vec<String>> {
    prop_oneof![
        3 => (key(), value()).prop_map(|(k, v)| vec!["SET".into(), k, v]),
        1 => (key(), value(), "(SETNX|GETSET|APPEND|INCRBY)").prop_map(|(k, v, c)| vec![c, k, v]),
        4 => (key(), "(GET|GETDEL|INCR|STRLEN|DEL|EXISTS)").prop_map(|(k, c)| vec![c, k]),
        1 => (key(), key(), "(RENAME|RENAMENX|COPY)").prop_map(|(a, b, c)| vec![c, a, b]),
        1 => Just(vec!["DBSIZE".into()]),
    ]
}

/// What Redis answers, written down without regard to speed.
fn on_plain_map(map: &mut BTreeMap<String, String>, args: &[String]) -> String {
    let bulk = |value: Option<&String>| match value {
        Some(value) => format!("${}\r\n{value}\r\n", value.len()),
        None => "$-1\r\n".to_owned(),
    };
    let integer = |value: usize| format!(":{value}\r\n");
    let key = args.get(1).cloned().unwrap_or_default();
    let value = args.get(2).cloned().unwrap_or_default();
    let canonical = |text: &str| text.parse::<i64>().ok().filter(|number| number.to_string() == text);
    match args[0].as_str() {
        "SET" => {
            map.insert(key, value);
            "+OK\r\n".to_owned()
        }
        "SETNX" => {
            let absent = !map.contains_key(&key);
            map.entry(key).or_insert(value);
            integer(usize::from(absent))
        }
        "GETSET" => bulk(map.insert(key, value).as_ref()),
        "APPEND" => {
            let text = map.entry(key).or_default();
            text.push_str(&value);
            integer(text.len())
        }
        "INCR" | "INCRBY" => {
            let amount = if args[0] == "INCR" { Some(1) } else { canonical(&value) };
            let old = map.get(&key).map_or(Some(0), |text| canonical(text));
            let (Some(old), Some(amount)) = (old, amount) else {
                return "-ERR value is not an integer or out of range\r\n".to_owned();
            };
            match old.checked_add(amount) {
                Some(new) => {
                    map.insert(key, new.to_string());
                    format!(":{new}\r\n")
                }
                None => "-ERR increment or decrement would overflow\r\n".to_owned(),
            }
        }
        "GET" => bulk(map.get(&key)),
        "GETDEL" => bulk(map.remove(&key).as_ref()),
        "STRLEN" => integer(map.get(&key).map_or(0, String::len)),
        "DEL" => integer(usize::from(map.remove(&key).is_some())),
        "EXISTS" => integer(usize::from(map.contains_key(&key))),
        "RENAME" | "RENAMENX" => {
            let keep = args[0] == "RENAMENX";
            let Some(text) = map.get(&key).cloned() else { return "-ERR no such key\r\n".to_owned() };
            if keep && map.contains_key(&value) {
                return integer(0);
            }
            map.remove(&key);
            map.insert(value, text);
            if keep { integer(1) } else { "+OK\r\n".to_owned() }
        }
        "COPY" => {
            if key == value {
                return "-ERR source and destination objects are the same\r\n".to_owned();
            }
            match map.get(&key).cloned() {
                Some(text) if !map.contains_key(&value) => {
                    map.insert(value, text);
                    integer(1)
                }
                _ => integer(0),
            }
        }
        "DBSIZE" => integer(map.len()),
        other => panic!("the model does not know {other}"),
    }
}
