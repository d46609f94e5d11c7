use std::io;

use proptest::prelude::*;

use super::super::format::{CRC64, encode_length};
use super::super::{RdbOptions, RdbWriter, SnapshotAux};
use super::*;

#[derive(Debug, Default)]
struct Collected {
    entries: Vec<Entry>,
    aux: SnapshotAux,
    hints: Vec<(u32, u64, u64)>,
    empty: Vec<(u32, Vec<u8>)>,
    progress: Vec<u64>,
}

impl RdbVisitor for Collected {
    fn aux(&mut self, name: &str, value: &str) -> Result<(), BoxError> {
        self.aux.set(name, value);
        Ok(())
    }

    fn size_hint(&mut self, db: u32, keys: u64, expiring: u64) -> Result<(), BoxError> {
        self.hints.push((db, keys, expiring));
        Ok(())
    }

    fn entry(&mut self, entry: Entry) -> Result<(), BoxError> {
        if entry.key.starts_with(b"refuse") {
            Err("no such key wanted".into())
        } else {
            self.entries.push(entry);
            Ok(())
        }
    }

    fn empty_collection(&mut self, db: u32, key: &[u8]) {
        self.empty.push((db, key.to_vec()));
    }

    fn progress(&mut self, bytes: u64) -> Result<(), BoxError> {
        self.progress.push(bytes);
        Ok(())
    }
}

fn entry(db: u32, key: &[u8], value: Value, expires_at_ms: Option<i64>) -> Entry {
    Entry { db, key: key.into(), value, expires_at_ms, access: Access::default() }
}

fn text(value: &str) -> Value {
    Value::Bytes(value.as_bytes().to_vec())
}

fn write(entries: &[Entry], options: RdbOptions) -> Vec<u8> {
    let mut writer = RdbWriter::new(Vec::new(), options).unwrap();
    for entry in entries {
        writer.entry(entry).unwrap();
    }
    let bytes_before_end = writer.bytes();
    let (file, summary) = writer.finish().unwrap();
    assert_eq!(summary, RdbSummary { bytes: file.len() as u64, keys: entries.len() as u64 });
    assert_eq!(summary.bytes, bytes_before_end + 9);
    file
}

fn read(file: &[u8]) -> Result<Collected, ReadRdbError> {
    let mut collected = Collected::default();
    let summary = read_rdb(file, &mut collected)?;
    assert_eq!(summary, RdbSummary { bytes: file.len() as u64, keys: collected.entries.len() as u64 });
    Ok(collected)
}

/// A file of the given version and items, with a correct checksum.
fn file(version: &str, items: &[&[u8]]) -> Vec<u8> {
    let mut file = [b"REDIS".as_slice(), version.as_bytes(), &items.concat(), &[OP_EOF]].concat();
    let checksum = CRC64.checksum(&file);
    file.extend_from_slice(&checksum.to_le_bytes());
    file
}

fn sample() -> Vec<Entry> {
    vec![
        entry(0, b"", text(""), None),
        entry(0, b"12", Value::Int(-7), Some(1_700_000_000_000)),
        entry(3, b"wide", Value::Int(i64::MIN), Some(-1)),
        entry(0, b"binary\0\xff", Value::Bytes(vec![0xff; 40]), None),
        entry(u32::MAX, b"k", text("nothing repeats in here 0123456789"), Some(i64::MAX)),
        entry(0, b"long", Value::Bytes(b"0123456789abcdef".repeat(20_000)), None),
    ]
}

#[test]
fn entries_return_in_order_with_every_option() {
    for compression in [false, true] {
        for checksum in [false, true] {
            let file = write(&sample(), RdbOptions { compression, checksum, aux: Vec::new() });
            assert_eq!(file.ends_with(&[0; 8]), !checksum);
            assert_eq!(read(&file).unwrap().entries, sample());
        }
    }
}

#[test]
fn aux_fields_and_size_hints_return() {
    let aux = SnapshotAux { created_s: 5, aof_base: true, epoch: Some(9), ..SnapshotAux::default() };
    let mut writer =
        RdbWriter::new(Vec::new(), RdbOptions { aux: aux.fields(), ..RdbOptions::default() }).unwrap();
    writer.size_hint(2, 100_000, 7).unwrap();
    let (file, _) = writer.finish().unwrap();
    let collected = read(&file).unwrap();
    assert_eq!(collected.aux, aux);
    assert_eq!(collected.hints, [(2, 100_000, 7)]);
}

#[test]
fn small_values_take_the_bytes_that_redis_takes() {
    fn check(value: Value, expected: &[u8]) {
        let file = write(&[entry(0, b"k", value, None)], RdbOptions::default());
        let head = [b"REDIS0010\xFE\x00\x00\x01k".as_slice(), expected, &[OP_EOF]].concat();
        assert_eq!(file[..file.len() - 8], head);
    }
    check(Value::Int(5), &[0xC0, 5]);
    check(Value::Int(-300), &[0xC1, 0xD4, 0xFE]);
    check(Value::Int(4_294_967_296), b"\x0a4294967296");
    check(text("007"), b"\x03007");
    check(Value::Bytes(vec![b'a'; 20]), &[&[20], [b'a'; 20].as_slice()].concat());
    check(Value::Bytes(vec![b'a'; 21]), &[0xC3, 5, 21, 0, b'a', 0xE0, 11, 0]);
}

#[test]
fn progress_rises_to_the_length_of_the_file() {
    let file = write(&sample(), RdbOptions { compression: false, ..RdbOptions::default() });
    let progress = read(&file).unwrap().progress;
    assert!(progress.len() >= 2 && progress.is_sorted(), "{progress:?}");
    assert_eq!(progress.last(), Some(&(file.len() as u64)));
}

#[test]
fn older_and_foreign_forms_are_read() {
    fn check(file: &[u8], expected: &[Entry]) {
        assert_eq!(read(file).unwrap().entries, expected);
    }
    let key = b"\x00\x01k\x01v";
    let plain = entry(0, b"k", text("v"), None);
    check(&[b"REDIS0003".as_slice(), key, &[OP_EOF]].concat(), std::slice::from_ref(&plain));
    check(&file("0012", &[key]), std::slice::from_ref(&plain));
    // Expiry in seconds, idle time and access frequency before the key.
    let access = Access { idle_seconds: Some(100), frequency: Some(255) };
    check(
        &file("0009", &[b"\xFD\x02\0\0\0\xF8\x40\x64\xF9\xFF", key]),
        &[Entry { expires_at_ms: Some(2_000), access, ..plain.clone() }],
    );
    // They are of the next key alone, and as much as fits.
    let longest = Access { idle_seconds: Some(u32::MAX), frequency: None };
    check(
        &file("0010", &[b"\xF8\x81\0\0\0\x01\0\0\0\0", key, b"\x00\x01l\x01v"]),
        &[Entry { access: longest, ..plain.clone() }, entry(0, b"l", text("v"), None)],
    );
    // The key a number, the value a number written as text: the reader makes it canonical.
    check(&file("0010", &[b"\x00\xC0\x05\x0242"]), &[entry(0, b"5", Value::Int(42), None)]);
    // Lengths in longer forms than necessary.
    check(&file("0010", &[b"\x00\x81\0\0\0\0\0\0\0\x01k\x80\0\0\0\x01v"]), &[plain]);
}

#[test]
fn what_cannot_be_kept_is_refused_by_name() {
    fn check(file: &[u8], expected: &str) {
        assert_eq!(read(file).unwrap_err().to_string(), expected);
    }
    check(
        &file("0010", &[b"\xFE\x02\x15\x02h\xff"]),
        "key \"h\\xff\" in database 2 at byte 11 is a stream, which is not supported; delete or \
         convert such keys in Redis and save again",
    );
    check(
        &file("0010", &[b"\xF5\x03lib"]),
        "the snapshot holds a library of functions at byte 9, which is not supported; remove it with FUNCTION FLUSH, \
         and save again",
    );
    check(
        &file("0010", &[b"\x63"]),
        "byte 9 of the snapshot is 0x63, which is no known type or opcode; the file is damaged or newer",
    );
    check(
        &file("0099", &[]),
        "RDB version 99 is not supported (1 to 12 are, and 80 of Valkey); load the file with the program that wrote it \
         and copy the keys over the network",
    );
    check(
        b"*2\r\n$6\r\nSELECT\r\n",
        "not an RDB: the file begins with \"*2\\r\\n$6\\r\\nS\" instead of \"REDIS\" and four digits",
    );
    check(
        b"REDIS00",
        "the snapshot ends at byte 7, inside the header; the file is cut short, use another copy of it",
    );
    check(
        b"",
        "the snapshot ends at byte 0, inside the header; the file is cut short, use another copy of it",
    );
    check(
        &file("0010", &[b"\x00\xC7"]),
        "the snapshot is damaged at byte 10: an unknown encoding of a string",
    );
    check(
        &file("0010", &[b"\xFE\xC0\x01"]),
        "the snapshot is damaged at byte 10: an encoded string in the place of a length",
    );
    let mut trailing = file("0010", &[]);
    trailing.push(0);
    check(&trailing, "the snapshot ends at byte 18, but the file goes on; it is not a snapshot alone");
}

/// As [`file`], with Valkey's magic.
fn valkey(version: &str, items: &[&[u8]]) -> Vec<u8> {
    let mut file = [b"VALKEY".as_slice(), version.as_bytes(), &items.concat(), &[OP_EOF]].concat();
    let checksum = CRC64.checksum(&file);
    file.extend_from_slice(&checksum.to_le_bytes());
    file
}

#[test]
fn what_stands_between_an_expiry_and_its_key_changes_nothing() {
    let plain = entry(0, b"k", text("v"), Some(2_000));
    let access = Access { idle_seconds: Some(7), frequency: Some(5) };
    let expiry = b"\xFC\xD0\x07\0\0\0\0\0\0";
    for between in [
        b"".as_slice(),
        // KeyDB writes an auxiliary field for each key.
        b"\xFA\x0bmvcc-tstamp\x011",
        b"\xF9\x05\xF8\x07",
        b"\xF4\x40\x64\x80\0\x01\0\0\x05",
        b"\xFB\x01\x01",
    ] {
        let file = file("0012", &[expiry, between, b"\x00\x01k\x01v"]);
        let access = if between.starts_with(b"\xF9") { access } else { Access::default() };
        let expected = [Entry { access, ..plain.clone() }];
        assert_eq!(read(&file).unwrap().entries, expected, "{}", between.escape_ascii());
    }
    // It belongs to the next key alone, also to one that is left out.
    let file = file("0012", &[expiry, b"\x02\x01s\0", b"\x00\x01k\x01v"]);
    assert_eq!(read(&file).unwrap().entries, [entry(0, b"k", text("v"), None)]);
}

#[test]
fn the_sizes_of_cluster_slots_are_a_hint() {
    let slot = b"\xF4\x7F\xFF\x81\0\0\0\x01\0\0\0\0\0";
    let collected = read(&file("0012", &[b"\xFE\0", slot, b"\x00\x01k\x01v", slot])).unwrap();
    assert_eq!(collected.entries, [entry(0, b"k", text("v"), None)]);
    let cut = [b"REDIS0012".as_slice(), &slot[..slot.len() - 1]].concat();
    assert!(matches!(read(&cut), Err(ReadRdbError::UnexpectedEnd { .. })));
    assert!(matches!(
        read(&file("0012", &[b"\xF4\xC0\x01"])),
        Err(ReadRdbError::Malformed { offset: 10, .. })
    ));
}

#[test]
fn the_files_of_valkey_9_are_read_by_its_numbers() {
    let slot = b"\xF4\x01\x02\x03";
    let collected = read(&valkey("080", &[slot, b"\x00\x01k\x01v"])).unwrap();
    assert_eq!(collected.entries, [entry(0, b"k", text("v"), None)]);
    let check = |file: &[u8], expected: &str| {
        let error = read(file).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&valkey("080", &[b"\x16\x01h"]), "key \"h\" in database 0 at byte 9 is a hash with field expiry");
    check(&valkey("080", &[b"\x17\x01h"]), "byte 9 of the snapshot is 0x17, which is no known type");
    check(&valkey("080", &[b"\xF3\x01x"]), "a slot migration that has not ended at byte 9");
    check(&file("0012", &[b"\xF3\x01x"]), "byte 9 of the snapshot is 0xf3");
    check(&valkey("081", &[]), "RDB version 81 is not supported");
    check(&file("0080", &[]), "RDB version 80 is not supported");
    check(b"VALKEY08", "the snapshot ends at byte 8, inside the header");
    check(b"VALKEYS", "not an RDB");
}

#[test]
fn modules_are_named() {
    let check = |items: &[u8], expected: &str| {
        let error = read(&file("0010", &[items])).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    // The id is 64 bits: nine characters of six bits, then ten bits of version.
    let id = b"\x81\x10\x41\x04\x10\x41\x04\x10\x01";
    check(
        &[b"\x07\x01m".as_slice(), id].concat(),
        "key \"m\" in database 0 at byte 9 is a value of the module type \"EEEEEEEEE\"",
    );
    check(
        &[b"\xF7".as_slice(), id].concat(),
        "the snapshot holds data of the module type \"EEEEEEEEE\" at byte 9",
    );
    check(b"\x07\x01m", "key \"m\" in database 0 at byte 9 is a module value");
}

#[test]
fn keys_without_elements_are_left_out() {
    let ziplist = b"\x0b\x0b\0\0\0\x0a\0\0\0\0\0\xFF".as_slice();
    let listpack = b"\x07\x07\0\0\0\0\0\xFF".as_slice();
    let nodes = |node: &[u8]| [b"\x02", node, node].concat();
    let plain: Vec<(u8, Vec<u8>)> = (1..=5).map(|kind| (kind, vec![0])).collect();
    let packed = [10, 12, 13].map(|kind| (kind, ziplist.to_vec()));
    let listpacks = [16, 17, 20].map(|kind| (kind, listpack.to_vec()));
    let lists =
        [(14, vec![0]), (14, nodes(ziplist)), (18, vec![0]), (18, nodes(&[b"\x02", listpack].concat()))];
    for (kind, value) in plain.into_iter().chain(packed).chain(listpacks).chain(lists) {
        let item = [&[kind, 1, b'e'], &value[..]].concat();
        let collected = read(&file("0010", &[&item, b"\x00\x01k\x01v"]))
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(collected.empty, [(0, b"e".to_vec())], "{kind}");
        assert_eq!(collected.entries, [entry(0, b"k", text("v"), None)], "{kind}");
        // One more in its number, or another form of it: not empty, or damaged, and never passed over.
        let mut damaged = value.clone();
        damaged[0] += 1;
        let item = [&[kind, 1, b'e'], &damaged[..]].concat();
        assert!(read(&file("0010", &[&item, b"\x00\x01k\x01v"])).is_err(), "{kind}");
    }
}

#[test]
fn a_visitor_ends_the_reading() {
    let file = write(
        &[entry(0, b"a", text("1x"), None), entry(0, b"refused", text(""), None)],
        RdbOptions::default(),
    );
    let error = read(&file).unwrap_err();
    assert!(
        matches!(&error, ReadRdbError::Refused { source, .. } if source.to_string() == "no such key wanted"),
        "{error:?}"
    );
}

#[test]
fn declared_lengths_reserve_nothing() {
    // A string of 2^63 bytes and a compressed one that claims 2^40: both end as soon as the bytes do.
    let huge = file("0010", &[b"\x00\x81\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF"]);
    assert!(matches!(read(&huge), Err(ReadRdbError::UnexpectedEnd { .. })));
    let bomb = file("0010", &[b"\x00\x01k\xC3\x02\x81\0\0\x01\0\0\0\0\0\x00a"]);
    assert!(matches!(read(&bomb), Err(ReadRdbError::Malformed { .. })));
}

#[test]
fn reading_ends_behind_a_preamble() {
    let mut source = write(&sample(), RdbOptions::default());
    let preamble_len = source.len() as u64;
    source.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
    let mut reader = RdbReader::new(&source[..]);
    assert_eq!(reader.read(&mut Collected::default()).unwrap().bytes, preamble_len);
}

#[test]
fn every_cut_is_noticed() {
    let mut entries = sample();
    entries.pop();
    let file = write(&entries, RdbOptions { aux: SnapshotAux::default().fields(), ..RdbOptions::default() });
    for len in 0..file.len() {
        let error = read(&file[..len]).unwrap_err();
        assert!(
            matches!(error, ReadRdbError::UnexpectedEnd { offset, .. } if offset == len as u64),
            "{len}: {error}"
        );
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let mut entries = sample();
    entries.pop();
    let file = write(&entries, RdbOptions { aux: SnapshotAux::default().fields(), ..RdbOptions::default() });
    for index in 0..file.len() {
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[index] ^= 1 << bit;
            // A lower version number with a checksum still reads the same data; below 5 the checksum is not expected.
            let result = read(&damaged);
            if let Ok(collected) = result {
                panic!("bit {bit} of byte {index} changed unnoticed: {collected:?}");
            }
        }
    }
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let value = prop_oneof![
        any::<i64>().prop_map(Value::Int),
        any::<i16>().prop_map(|number| Value::Int(number.into())),
        prop::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), any::<u8>()], 0..300)
            .prop_filter("an integer has its own form", |bytes| parse_i64(bytes).is_none())
            .prop_map(Value::Bytes),
    ];
    let key = prop::collection::vec(any::<u8>(), 0..30);
    let access = (prop::option::of(any::<u32>()), prop::option::of(any::<u8>()))
        .prop_map(|(idle_seconds, frequency)| Access { idle_seconds, frequency });
    let entry = (0_u32..20, key, value, prop::option::of(any::<i64>()), access).prop_map(
        |(db, key, value, expires_at_ms, access)| Entry { db, key: key.into(), value, expires_at_ms, access },
    );
    prop::collection::vec(entry, 0..40)
}

proptest! {
    #[test]
    fn any_entries_return(entries in entries(), compression: bool, checksum: bool) {
        let file = write(&entries, RdbOptions { compression, checksum, aux: Vec::new() });
        prop_assert_eq!(read(&file).unwrap().entries, entries);
    }

    #[test]
    fn no_input_makes_the_reader_panic(items in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(read(&file("0010", &[&items])));
        drop(read(&items));
    }

    #[test]
    fn damage_without_a_checksum_never_panics(entries in entries(), index: prop::sample::Index, byte: u8) {
        let mut file = write(&entries, RdbOptions { checksum: false, ..RdbOptions::default() });
        let index = index.index(file.len());
        file[index] = byte;
        drop(read(&file));
    }

    #[test]
    fn short_reads_change_nothing(entries in entries(), step in 1_usize..9) {
        struct Slow<'a>(&'a [u8], usize);
        impl Read for Slow<'_> {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                let step = self.1.min(out.len());
                self.0.read(&mut out[..step])
            }
        }
        let file = write(&entries, RdbOptions::default());
        let mut collected = Collected::default();
        read_rdb(Slow(&file, step), &mut collected).unwrap();
        prop_assert_eq!(collected.entries, entries);
    }
}

#[test]
fn a_long_length_is_read_as_written() {
    let mut encoded = Vec::new();
    encode_length(&mut encoded, 1 << 33);
    let collected = read(&file("0010", &[&[OP_RESIZE_DB], &encoded, &[1]])).unwrap();
    assert_eq!(collected.hints, [(0, 1 << 33, 1)]);
}
