//! What turns of Redis and of our server on one directory need: data of every form, and both servers to compare them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::{Client, Reply, Server};

/// Value (see [`value`]) and absolute expiry of each key of each database.
pub(crate) type Dataset = BTreeMap<(u32, Vec<u8>), (Vec<u8>, i64)>;

/// Absolute expiries, in milliseconds: past any test.
const LATER_MS: &str = "4102444800123";

pub(crate) fn read(client: &mut Client) -> Dataset {
    let mut dataset = Dataset::new();
    for db in 0..16 {
        client.run(&format!("SELECT {db}"));
        let keys = client.run("KEYS *");
        for key in keys.items() {
            let Reply::Bulk(Some(key)) = key else { panic!("{key:?}") };
            let value = value(client, key);
            let until = client.command(&[b"PEXPIRETIME", &key[..]]).int();
            dataset.insert((db, key.clone()), (value, until));
        }
    }
    client.run("SELECT 0");
    dataset
}

/// The bytes of a string; of a collection its type and its elements, sorted where they have no order.
fn value(client: &mut Client, key: &[u8]) -> Vec<u8> {
    let kind = client.command(&[b"TYPE", key]).text();
    let (request, width): (&[&[u8]], _) = match kind.as_str() {
        "string" => (&[b"GET", key], 0),
        "list" => (&[b"LRANGE", key, b"0", b"-1"], 0),
        "zset" => (&[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"], 0),
        "set" => (&[b"SMEMBERS", key], 1),
        "hash" => (&[b"HGETALL", key], 2),
        other => panic!("{} is {other}", key.escape_ascii()),
    };
    let reply = client.command(request);
    if let Reply::Bulk(Some(bytes)) = reply {
        return bytes;
    }
    let elements = reply.items().iter().map(|it| match it {
        Reply::Bulk(Some(bytes)) => bytes.escape_ascii().to_string(),
        other => panic!("{other:?}"),
    });
    let mut elements: Vec<String> = elements.collect();
    if width > 0 {
        elements = elements.chunks(width).map(|it| it.join("=")).collect();
        elements.sort_unstable();
    }
    format!("{kind}: {}", elements.join(" ")).into_bytes()
}

/// Collections in both forms, changed by commands whose effects differ from them.
fn fill_collections(client: &mut Client, round: usize) {
    let numbers = |count: usize| (0..count).map(|it| format!(" {}", it * 3 + round)).collect::<String>();
    let pairs =
        |count: usize| (0..count).map(|it| format!(" {}.5 m{it}", it % 7 + round)).collect::<String>();
    for (name, count) in [("small", 20), ("large", 700)] {
        client.run(&format!("RPUSH list:{name}{}", numbers(count)));
        client.run(&format!("SADD set:{name}{}", numbers(count)));
        client.run(&format!("SADD set:{name} text:{round}"));
        client.run(&format!("ZADD zset:{name}{}", pairs(count)));
        client.run(&format!("HSET hash:{name}{}", pairs(count)));
        for command in [
            "LPOP list:NAME 3",
            "LMOVE list:NAME list:moved RIGHT LEFT",
            "BLMOVE list:NAME list:moved LEFT LEFT 1",
            "BLPOP none list:NAME 1",
            "LMPOP 2 none list:NAME RIGHT COUNT 2",
            "LINSERT list:NAME BEFORE 30 between",
            "LREM list:NAME 2 33",
            "LTRIM list:NAME 1 -2",
            "SPOP set:NAME",
            "SPOP set:NAME 5",
            "SMOVE set:NAME set:moved 30",
            "SUNIONSTORE set:union:NAME set:NAME set:moved",
            "SINTERSTORE set:none set:NAME none",
            "ZINCRBY zset:NAME 0.1 m3",
            "ZADD zset:NAME INCR inf m4",
            "ZPOPMIN zset:NAME 2",
            "BZPOPMAX none zset:NAME 1",
            "ZMPOP 1 zset:NAME MIN",
            "ZRANGESTORE zset:range:NAME zset:NAME 2 9",
            "ZUNIONSTORE zset:union:NAME 2 zset:NAME set:NAME WEIGHTS 0.3 2",
            "ZREMRANGEBYRANK zset:NAME 4 6",
            "HINCRBYFLOAT hash:NAME 0.5 0.25",
            "HDEL hash:NAME 1.5 2.5",
            "SORT set:NAME ALPHA LIMIT 0 8 STORE sorted:NAME",
            "COPY zset:NAME zset:copy:NAME REPLACE",
            "PEXPIREAT hash:NAME 4102444800000",
        ] {
            let reply = client.run(&command.replace("NAME", name));
            assert!(!matches!(reply, Reply::Error(_)), "{command}: {reply:?}");
        }
    }
    client.run("MULTI");
    client.run("RPUSH list:pair x");
    client.run("SPOP set:large 2");
    client.run("BRPOPLPUSH list:large list:pair 0");
    assert_eq!(client.run("EXEC").items().len(), 3);
}

/// Every form of value, several databases, expiries, deletions, transactions; different for each `round`.
pub(crate) fn fill(client: &mut Client, round: usize) {
    let text = round.to_string();
    let all_bytes: Vec<u8> = (0..=255).cycle().skip(round).take(1000).collect();
    for db in [0, 3, 15] {
        client.run(&format!("SELECT {db}"));
        for number in 0..60 {
            client.run(&format!("SET key:{number} {round}-{number}"));
        }
        client.command(&[&b"SET"[..], b"binary\0\r\n\xff key", &all_bytes[..]]);
        client.command(&[&b"SET"[..], b"#looks like a comment", b"*3\r\n$3\r\nSET\r\n#HF1 1 2 3\r\n"]);
        client.command(&[&b"SET"[..], b"compressible", &vec![b'x'; 20_000]]);
        client.command(&["SET", "empty", ""]);
        client.run("SET number -9223372036854775808");
        client.run(&format!("SET until {text} PXAT {LATER_MS}"));
        client.run("SET relative 1 EX 100000");
        client.run("APPEND appended more");
        client.run("INCRBYFLOAT float 10.5");
        client.run("INCR counter");
        client.run("SET renamed before");
        client.run("RENAME renamed key:renamed");
        client.run("SET gone 1");
        client.run("DEL gone key:1 key:2");
        client.run("SET expired 1 PX 1");
        client.run("SETRANGE ranged 5 hello");
        client.run("PEXPIREAT key:3 4102444800000");
        client.run("MULTI");
        client.run(&format!("SET pair:a {text}"));
        client.run(&format!("SET pair:b {text}"));
        client.run("DEL pair:c");
        assert_eq!(client.run("EXEC").items().len(), 3);
        fill_collections(client, round);
    }
    client.run("SELECT 7");
    client.run("SET only here");
    client.run("SELECT 0");
    // Keys that have expired are gone on both sides, whoever looks.
    std::thread::sleep(Duration::from_millis(20));
    for db in [0, 3, 15] {
        client.run(&format!("SELECT {db}"));
        assert_eq!(client.run("GET expired"), Reply::Bulk(None));
    }
    client.run("SELECT 0");
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.metadata().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Runs one of Redis's checkers on a copy; it must find nothing.
fn accepts(checker: &str, path: &Path) {
    let output =
        Command::new(checker).arg(path).output().expect("redis-tools is installed (make setup installs it)");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{checker} {path:?}: {text}");
}

/// Redis opens a copy of the directory and answers exactly this.
pub(crate) fn redis_reads(dir: &Path, expected: &Dataset, place: &str) {
    let copied = dir.with_extension("copy");
    let _ = std::fs::remove_dir_all(&copied);
    copy(dir, &copied);
    let manifest = copied.join("appendonlydir/appendonly.aof.manifest");
    let has_log = manifest.exists();
    if has_log {
        accepts("redis-check-aof", &manifest);
    }
    let mut snapshots: Vec<PathBuf> = vec![copied.join("dump.rdb")];
    if let Ok(files) = std::fs::read_dir(copied.join("appendonlydir")) {
        snapshots.extend(files.map(|file| file.unwrap().path()));
    }
    for snapshot in
        snapshots.iter().filter(|path| path.extension().is_some_and(|it| it == "rdb") && path.exists())
    {
        accepts("redis-check-rdb", snapshot);
    }
    let log = if has_log { "yes" } else { "no" };
    let redis = Server::spawn_redis(&copied, &["--appendonly", log, "--save", ""]);
    let found = read(&mut redis.client());
    assert!(found == *expected, "{place}: Redis has other data: {}", difference(expected, &found));
    redis.kill();
    std::fs::remove_dir_all(&copied).unwrap();
}

pub(crate) fn difference(expected: &Dataset, found: &Dataset) -> String {
    let keys: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    let differing: Vec<_> = keys
        .into_iter()
        .filter(|key| expected.get(*key) != found.get(*key))
        .map(|(db, key)| {
            let show = |dataset: &Dataset| {
                dataset.get(&(*db, key.clone())).map_or("nothing".to_owned(), |(value, until)| {
                    format!("{}@{until}", value[..value.len().min(30)].escape_ascii())
                })
            };
            format!("{db}:{} {} / {}", key.escape_ascii(), show(expected), show(found))
        })
        .collect();
    format!(
        "{} keys differ (expected / found): {}",
        differing.len(),
        differing[..differing.len().min(6)].join("; ")
    )
}

/// Our server on the directory, the data that it has, and a clean stop.
pub(crate) fn we_read(dir: &Path, strategy: &str, expected: &Dataset, place: &str) {
    let server = Server::spawn(dir, &["--persist-strategy", strategy, "--save", ""]);
    let found = read(&mut server.client());
    assert!(found == *expected, "{place}: we have other data: {}", difference(expected, &found));
    assert!(server.stop().success(), "{place}");
}

/// Ends a Redis as its users do, keeping what it has.
pub(crate) fn shut_down(redis: Server, how: &str) {
    let mut client = redis.client();
    let _ = client.try_command(&["SHUTDOWN", how]);
    let mut redis = redis;
    assert!(redis.wait().success());
}

pub(crate) fn epoch(dir: &Path) -> u64 {
    let text = std::fs::read_to_string(dir.join("holdfast-identity.json")).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    line["epoch"].as_u64().unwrap()
}

/// The bytes of the newest segment.
pub(crate) fn newest_segment(dir: &Path) -> (PathBuf, Vec<u8>) {
    let manifest = std::fs::read_to_string(dir.join("appendonlydir/appendonly.aof.manifest")).unwrap();
    let name = manifest.lines().last().and_then(|line| line.split(' ').nth(1)).unwrap().to_owned();
    let path = dir.join("appendonlydir").join(name);
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes)
}

/// Commands as Redis writes them into a log.
pub(crate) fn commands(lines: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        Client::encode(&line.split(' ').collect::<Vec<_>>(), &mut bytes);
    }
    bytes
}
