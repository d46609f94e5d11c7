//! Random commands against a plain map, and what must hold of their effects and of snapshots taken meanwhile.

#[path = "common/log.rs"]
mod log;
#[path = "common/store.rs"]
mod store;

use std::collections::BTreeMap;

use holdfast_server::command::Replayer;
use holdfast_server::engine::value::Entry;
use holdfast_server::engine::{Chunk, Engine, EngineOptions, HashSeed, ValueRef};
use holdfast_server::protocol::OwnedRequest;
use log::decode;
use proptest::prelude::*;
use store::{START_MS, Store};

/// Databases that random commands use.
const DATABASES: u32 = 3;

type Dump = BTreeMap<(u32, Vec<u8>), (Vec<u8>, Option<i64>)>;

fn dump_entries<'a>(entries: impl Iterator<Item = (u32, &'a [u8], ValueRef<'a>, Option<i64>)>) -> Dump {
    entries
        .map(|(db, key, value, expiry)| {
            let mut buffer = itoa::Buffer::new();
            ((db, key.to_vec()), (value.as_bytes(&mut buffer).to_vec(), expiry))
        })
        .collect()
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

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => command().prop_map(Step::Command),
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
        Step::Wait(ms) => store.now_ms += ms,
        Step::ExpireCycle(budget) => {
            store.engine.expire_cycle(store.now_ms, *budget, &mut store.effects);
        }
        Step::Save(_) => {}
    }
}

/// Replays a log into an empty engine with another seed, as after a restart much later.
fn replay(log: &[u8]) -> Engine {
    let mut engine = Engine::new(EngineOptions { databases: 16, seed: HashSeed([7, 8]) });
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
        let mut store = Store::new();
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
        let mut store = Store::new();
        for step in &before {
            run(&mut store, step);
        }
        let expected = dump(&store.engine);
        store.engine.snapshot_begin();
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
        let mut store = Store::new();
        for step in &before {
            run(&mut store, step);
        }
        store.engine.snapshot_begin();
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
        let mut engine = Engine::new(EngineOptions { databases: 16, seed: HashSeed([9, 9]) });
        for entry in saved {
            engine.load(entry).expect("each key once");
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
