//! RDB files travel between this server and Redis in both directions.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use holdfast_server::engine::Access;
use holdfast_server::engine::value::{Entry, Value};
use holdfast_server::persistence::digest::Digester;
use holdfast_server::persistence::snapshot::{
    BoxError, RdbOptions, RdbVisitor, RdbWriter, ReadRdbError, SnapshotAux, read_rdb,
};

use crate::peer::{Redis, check_rdb};

/// Far enough away that nothing expires during a test: 2100-01-01.
const LATER_MS: i64 = 4_102_444_800_000;

#[derive(Default)]
struct Collected {
    entries: Vec<Entry>,
    aux: BTreeMap<String, String>,
}

impl RdbVisitor for Collected {
    fn aux(&mut self, name: &str, value: &str) -> Result<(), BoxError> {
        self.aux.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    fn entry(&mut self, entry: Entry) -> Result<(), BoxError> {
        self.entries.push(entry);
        Ok(())
    }
}

fn read(path: &Path) -> Result<Collected, ReadRdbError> {
    let mut collected = Collected::default();
    read_rdb(fs::File::open(path).unwrap(), &mut collected)?;
    sort(&mut collected.entries);
    Ok(collected)
}

fn sort(entries: &mut [Entry]) {
    entries.sort_by(|a, b| (a.db, &a.key).cmp(&(b.db, &b.key)));
}

fn entry(db: u32, key: &[u8], value: Value, expires_at_ms: Option<i64>) -> Entry {
    Entry { db, key: key.into(), value, expires_at_ms, access: Access::default() }
}

fn text(value: &Value) -> Vec<u8> {
    match value {
        Value::Int(number) => number.to_string().into_bytes(),
        Value::Bytes(bytes) => bytes.clone(),
        other => panic!("{other:?} is no string"),
    }
}

/// Every form that a string can take, spread over databases, sorted by database and key.
fn dataset() -> Vec<Entry> {
    let mut entries = vec![
        entry(0, b"", Value::Bytes(Vec::new()), None),
        entry(0, b"-5", Value::Int(-5), None),
        entry(0, b"123456", Value::Bytes((0..=255).collect()), Some(LATER_MS)),
        entry(7, b"not a number", Value::Bytes(b"007".to_vec()), None),
        entry(7, &b"a long key, a long key, ".repeat(9), Value::Bytes(b"x".to_vec()), None),
        entry(15, b"large", Value::Bytes(b"0123456789".repeat(30_000)), Some(LATER_MS + 1)),
    ];
    for (index, number) in
        [0, 127, 128, -129, 32_767, 32_768, -2_147_483_648, 2_147_483_648, i64::MAX, i64::MIN]
            .into_iter()
            .enumerate()
    {
        entries.push(entry(3, format!("int:{index}").as_bytes(), Value::Int(number), None));
    }
    for len in [20_usize, 21, 63, 64, 16_383, 16_384, 70_000] {
        let noise =
            (0..len as u64).map(|at| at.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[0]).collect();
        entries.push(entry(4, format!("noise:{len}").as_bytes(), Value::Bytes(noise), None));
        entries.push(entry(4, format!("zeros:{len}").as_bytes(), Value::Bytes(vec![0; len]), None));
    }
    sort(&mut entries);
    entries
}

fn write(path: &Path, entries: &[Entry], options: RdbOptions) {
    let mut writer = RdbWriter::new(fs::File::create(path).unwrap(), options).unwrap();
    for entry in entries {
        writer.entry(entry).unwrap();
    }
    writer.finish().unwrap();
}

fn assert_redis_holds(redis: &mut Redis, entries: &[Entry]) {
    let mut total = 0;
    for db in 0..16_u32 {
        redis.command(&[b"SELECT", db.to_string().as_bytes()]);
        total += redis.command(&[b"DBSIZE"]).int();
        for Entry { key, value, expires_at_ms, .. } in entries.iter().filter(|entry| entry.db == db) {
            let name = key.escape_ascii().to_string();
            assert!(
                redis.command(&[b"GET", key]).bytes() == text(value),
                "value of {name:?} in database {db}"
            );
            let expiry = redis.command(&[b"PEXPIRETIME", key]).int();
            assert_eq!(expiry, expires_at_ms.unwrap_or(-1), "expiry of {name:?}");
        }
    }
    assert_eq!(total, i64::try_from(entries.len()).unwrap(), "number of keys");
}

#[test]
fn our_files_load_in_redis() {
    for (compression, checksum, aof_base) in [(true, true, false), (false, false, true)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump.rdb");
        let aux = SnapshotAux {
            created_s: 1_700_000_000,
            aof_base,
            store_id: Some("7e57".into()),
            epoch: Some(1),
            offset: Some(42),
            ..SnapshotAux::default()
        };
        let mut entries = dataset();
        // Databases alternate, as in a table that holds all of them.
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        write(&path, &entries, RdbOptions { compression, checksum, aux: aux.fields() });
        check_rdb(&path);
        assert_redis_holds(&mut Redis::start(dir.path(), &[]), &entries);
    }
}

#[test]
fn redis_takes_over_the_use_of_keys_from_files_of_ours() {
    for (policy, access, question, expected) in [
        ("allkeys-lru", Access { idle_seconds: Some(7_000), frequency: None }, "IDLETIME", 7_000..7_100),
        ("volatile-lfu", Access { idle_seconds: None, frequency: Some(200) }, "FREQ", 198..201),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump.rdb");
        let (value, expires_at_ms) = (Value::Int(1), Some(i64::MAX / 2));
        write(
            &path,
            &[Entry { db: 0, key: b"k"[..].into(), value, expires_at_ms, access }],
            RdbOptions::default(),
        );
        check_rdb(&path);
        let mut redis = Redis::start(dir.path(), &["--maxmemory-policy", policy]);
        let found = redis.command(&[b"OBJECT", question.as_bytes(), b"k"]).int();
        assert!(expected.contains(&found), "{policy}: {found}");
    }
}

#[test]
fn an_empty_file_of_ours_loads_in_redis() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dump.rdb");
    write(&path, &[], RdbOptions::default());
    check_rdb(&path);
    assert_redis_holds(&mut Redis::start(dir.path(), &[]), &[]);
}

#[test]
fn files_of_redis_load_here() {
    for options in [
        ["--rdbcompression", "yes", "--maxmemory-policy", "noeviction"],
        ["--rdbcompression", "no", "--maxmemory-policy", "allkeys-lru"],
        ["--rdbchecksum", "no", "--maxmemory-policy", "allkeys-lfu"],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut redis = Redis::start(dir.path(), &options);
        let entries = dataset();
        for Entry { db, key, value, expires_at_ms, .. } in &entries {
            redis.command(&[b"SELECT", db.to_string().as_bytes()]);
            redis.command(&[b"SET", key, &text(value)]);
            if let Some(at) = expires_at_ms {
                redis.command(&[b"PEXPIREAT", key, at.to_string().as_bytes()]);
            }
        }
        redis.command(&[b"SAVE"]);
        let mut collected = read(&dir.path().join("dump.rdb")).unwrap();
        for entry in &mut collected.entries {
            // What is known of the use of keys depends on the policy.
            let Access { idle_seconds, frequency } = std::mem::take(&mut entry.access);
            assert_eq!(idle_seconds.is_some(), options.contains(&"allkeys-lru"), "{options:?}");
            assert_eq!(frequency.is_some(), options.contains(&"allkeys-lfu"), "{options:?}");
        }
        assert!(collected.entries == entries, "the same entries with {options:?}");
        assert!(collected.aux["redis-ver"].starts_with("7."), "{:?}", collected.aux);
    }
}

#[test]
fn a_dataset_keeps_its_digest_through_redis() {
    let digest = |entries: &[Entry]| {
        let mut digester = Digester::default();
        entries.iter().for_each(|entry| digester.add(entry));
        digester.finish()
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dump.rdb");
    write(&path, &dataset(), RdbOptions::default());
    Redis::start(dir.path(), &[]).command(&[b"SAVE"]);
    assert_eq!(digest(&read(&path).unwrap().entries), digest(&dataset()));
}

#[test]
fn other_types_of_redis_are_named() {
    fn check(commands: &[&[&[u8]]], expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let mut redis = Redis::start(dir.path(), &[]);
        for command in commands {
            redis.command(command);
        }
        redis.command(&[b"SAVE"]);
        let error = read(&dir.path().join("dump.rdb")).err().expect("the file is refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
    check(
        &[&[b"SELECT", b"2"], &[b"XADD", b"a stream", b"*", b"f", b"v"]],
        "key \"a stream\" in database 2 at byte",
    );
    check(&[&[b"XADD", b"k", b"*", b"f", b"v"]], "is a stream,");
    let library = b"#!lua name=library\nredis.register_function('f', function() return 1 end)";
    check(&[&[b"FUNCTION", b"LOAD", library]], "holds a library of functions");
}

/// Files that other servers and tools have written: every key with value and expiry, or a refusal that names what it is.
#[test]
fn files_of_other_projects_load_or_are_refused_by_name() {
    type Key<'a> = (u32, &'a [u8], &'a [u8], Option<i64>);
    fn path(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rdb").join(name).with_extension("rdb")
    }
    fn loads(name: &str, expected: &[Key<'_>]) {
        let found = read(&path(name)).unwrap_or_else(|error| panic!("{name}: {error}")).entries;
        let values: Vec<_> = found.iter().map(|entry| text(&entry.value)).collect();
        let found: Vec<Key<'_>> = found
            .iter()
            .zip(&values)
            .map(|(entry, value)| (entry.db, &entry.key[..], &value[..], entry.expires_at_ms))
            .collect();
        assert_eq!(found, expected, "{name}");
    }
    fn is_refused(name: &str, expected: &str) {
        let Err(error) = read(&path(name)) else { panic!("{name} loads") };
        assert!(error.to_string().contains(expected), "{name}: {error}");
    }
    // A cluster node's sizes of slots; access frequencies; auxiliary fields of KeyDB; LZF; versions 5 to 12.
    loads(
        "replicator__dump-slot",
        &[
            (0, b"a{slot}", b"b", None),
            (0, b"b{slot}", b"b", None),
            (0, b"c{slot2}", b"c", None),
            (0, b"d{slot3}", b"d", None),
            (0, b"f{slot6}", b"f", None),
        ],
    );
    loads(
        "replicator__dump-lfu",
        &[(0, b"key", b"value", Some(1_528_592_896_226)), (0, b"key1", b"value1", None)],
    );
    loads("keydb__integer", &[(0, b"testkey", b"231231", None)]);
    loads("keydb__multidb", &[(3, b"testkey", b"bar", None)]);
    loads("librdb__multiple_dbs", &[(0, b"x", b"0", None), (1, b"y", b"1", None), (2, b"z", b"2", None)]);
    loads("librdb__string_lzf", &[(0, &[b'x'; 26], &[b'A'; 64], None), (0, &[b'y'; 50], &[b'B'; 116], None)]);
    loads(
        "rdbtools__non_ascii_values",
        &[
            (0, b"378", b"int_key_name", None),
            (0, b"ascii", b"\x00! ~0\x0a\x09\x0dAb", None),
            (0, b"bin", b"\x00$ ~0\x7f\xff\x0a\xaa\x09\x80\x0dAb", None),
            (0, b"int_value", b"123", None),
            (0, b"printable", b"!+ Ab^~", None),
            (0, b"utf8", b"\xd7\x91\xd7\x93\xd7\x99\xd7\xa7\xd7\x94\xf0\x90\x80\x8f123\xd7\xa2\xd7\x91\xd7\xa8\xd7\x99\xd7\xaa", None),
        ],
    );
    loads(
        "rdbtools__rdb_version_5_with_checksum",
        &[
            (0, b"abc", b"def", None),
            (0, b"abcd", b"efgh", None),
            (0, b"abcdef", b"abcdef", None),
            (0, b"bar", b"baz", None),
            (0, b"foo", b"bar", None),
            (0, b"longerstring", b"thisisalongerstring.idontknowwhatitmeans", None),
        ],
    );
    // Nine collections without an element.
    loads("redis__corrupt_empty_keys", &[]);
    is_refused(
        "keydb__redis-module-save",
        "key \"key4\" in database 0 at byte 94 is a value of the module type \"test___dt\"",
    );
    is_refused("librdb__module_aux", "data of the module type \"test__rdb\" at byte 79");
    is_refused("librdb__future_v19", "RDB version 99 is not supported");
    is_refused("librdb__invalid_chksum_v8", "the checksum of the snapshot is wrong");
}
