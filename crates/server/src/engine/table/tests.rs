use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

use crate::engine::Access;
use crate::engine::object::NewValue;
use crate::engine::value::{Entry as Loaded, StringRef, Value, ValueRef};
use holdfast_collections::hash::HashSeed;

pub(super) fn table() -> Table {
    Table::new(KeyHasher::new(HashSeed([1, 2])), 0)
}

fn find(table: &Table, key: &[u8]) -> Option<Position> {
    table.find(table.hasher.hash(key), key)
}

pub(super) fn put(table: &mut Table, key: &[u8], value: i64, expiry: Option<i64>) {
    match find(table, key) {
        Some(at) => table.change(at, |entry| {
            entry.set_value(NewValue::Int(value));
            entry.set_expires_at_ms(expiry);
        }),
        None => table.insert(table.hasher.hash(key), Entry::new(key, NewValue::Int(value), expiry, 0)),
    }
}

pub(super) fn take(table: &mut Table, key: &[u8]) -> bool {
    let found = find(table, key);
    found.map(|at| table.remove(at)).is_some()
}

pub(super) fn name(number: u32) -> Vec<u8> {
    format!("key:{number}").into_bytes()
}

/// What the table holds, by key.
fn content(table: &Table) -> BTreeMap<Vec<u8>, Loaded> {
    table.entries().map(|entry| (entry.key().to_vec(), loaded(entry))).collect()
}

fn loaded(entry: EntryView<'_>) -> Loaded {
    let (key, expires_at_ms) = (Box::from(entry.key()), entry.expires_at_ms());
    Loaded { db: 0, key, value: entry.value().to_value(), expires_at_ms, access: Access::default() }
}

/// Checks what must hold between operations.
fn check_invariants(table: &Table) {
    let entries: Vec<EntryView<'_>> = table.entries().collect();
    assert_eq!(entries.len(), table.len());
    for entry in &entries {
        let found = find(table, entry.key()).expect("every entry can be found");
        assert_eq!(table.view(found).key(), entry.key());
    }
    let expiring = entries.iter().filter_map(|it| it.expires_at_ms());
    assert_eq!(expiring.clone().count(), table.expiring());
    assert_eq!(expiring.map(i128::from).sum::<i128>(), table.expiry_sum);
    let live = table.segments.iter();
    let bytes = entries.iter().map(|it| it.memory_bytes()).sum::<usize>()
        + live.clone().map(Segment::memory_bytes).sum::<usize>();
    assert_eq!(bytes, table.bytes, "memory is accounted for exactly");
    for number in 0..index(table.segments.len()) {
        let Some(segment) = table.segments.get(number as usize) else { continue };
        assert_eq!(segment.entries().count(), segment.len);
        assert!(segment.len <= segment.limit, "there is room in every segment");
        for (place, entry) in segment.entries() {
            if let Some(at) = entry.expires_at_ms() {
                let announced = segment.expiry.announced.expect("segments with expiries are announced");
                assert!(announced <= index_time(at) && table.due.contains(&(announced, number)));
                assert!(segment.is_true(index_time(at), place));
            }
        }
    }
    assert_eq!(table.due.len(), live.filter(|segment| segment.expiry.announced.is_some()).count());
    for (start, route) in table.directory.routes() {
        let segment = table.segment(route.segment);
        let belongs = segment.depth == 0 || (start ^ segment.start) >> (64 - segment.depth) == 0;
        assert!(belongs, "routes lead where the hash belongs");
        assert_eq!((route.first, route.count as usize), (segment.buckets.first(), segment.buckets.count()));
    }
}

#[test]
fn tables_grow_and_shrink_without_losing_keys() {
    let mut table = table();
    for number in 0..20_000 {
        put(&mut table, &name(number), i64::from(number), None);
    }
    check_invariants(&table);
    let full = (table.directory.routes().count(), table.memory_bytes());
    assert!(full.0 >= 32, "20,000 keys need 32 segments");
    assert!(full.1 < 20_000 * (32 + 12), "32 bytes for an entry, and a slot at an average fill: {}", full.1);
    for number in 0..19_000 {
        assert!(take(&mut table, &name(number)));
    }
    check_invariants(&table);
    assert!(
        table.directory.routes().count() < full.0 && table.memory_bytes() < full.1 / 8,
        "memory comes back"
    );
    for number in 19_000..20_000 {
        assert!(take(&mut table, &name(number)));
    }
    assert_eq!((table.len(), table.memory_bytes()), (0, 0));
}

/// Segments cannot be merged while a snapshot walks over them.
#[test]
fn a_table_that_loses_its_keys_while_it_is_saved_gives_memory_back_afterwards() {
    for kept in [0, 100] {
        let mut table = table();
        for number in 0..40_000 {
            put(&mut table, &name(number), 0, None);
        }
        let full = table.memory_bytes();
        table.begin_saving(1, 0, None);
        for number in kept..40_000 {
            assert!(take(&mut table, &name(number)));
            if number % 1000 == 0 {
                table.save(1, &mut Chunk::default());
            }
        }
        assert!(!table.is_unshrunk(), "not yet");
        while !table.save(1 << 20, &mut Chunk::default()) {}
        assert!(table.is_unshrunk() && table.segments.count() > DROPPED_MAX);
        // To empty it again does not free all of that within a command.
        put(&mut table, b"one", 0, None);
        assert!(take(&mut table, b"one"));
        assert!(table.is_unshrunk() && table.segments.count() > DROPPED_MAX);
        let emptied = table.take_emptied();
        assert_eq!(emptied.is_some(), kept == 0);
        while !table.relocate(256) {}
        assert!(!table.is_unshrunk());
        assert!(table.memory_bytes() < full / 50, "{} of {full} bytes are left", table.memory_bytes());
        check_invariants(&table);
        assert_eq!(table.len(), kept as usize);
    }
}

#[test]
fn every_key_can_be_met_at_random() {
    let mut table = table();
    for number in 0..200 {
        put(&mut table, &name(number), 0, None);
    }
    let mut random = 0x1234_5678_9abc_def0u64;
    let mut met = BTreeSet::new();
    for _ in 0..200_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = table.near(random ^ random >> 29).expect("there are keys");
        met.insert(table.view(at).key().to_vec());
    }
    assert_eq!(met.len(), 200);
}

#[test]
fn expired_keys_are_found_the_earliest_first() {
    let mut table = table();
    for (number, expiry) in [(1, 30), (2, 10), (3, 20), (4, 10)] {
        put(&mut table, &name(number), 0, Some(expiry));
    }
    put(&mut table, &name(5), 0, None);
    let mut order = Vec::new();
    while let Some(at) = table.first_expired(30) {
        order.push(table.view(at).expires_at_ms());
        table.remove(at);
    }
    assert_eq!(order, [Some(10), Some(10), Some(20)], "30 is not over at 30");
    assert_eq!(table.len(), 2);
}

#[test]
fn keys_that_go_before_their_time_leave_no_memory() {
    let mut table = table();
    put(&mut table, b"other", 0, None);
    for round in 0..10_000 {
        put(&mut table, b"session", 0, Some(1_000_000 + round));
        assert!(take(&mut table, b"session"));
    }
    put(&mut table, b"session", 0, Some(5));
    for round in 0..10_000 {
        put(&mut table, b"session", 0, Some(1_000_000 + round));
    }
    assert!(table.memory_bytes() < 4096, "{} bytes for two keys", table.memory_bytes());
    check_invariants(&table);
}

#[test]
fn any_cursor_is_accepted() {
    let mut table = table();
    for number in 0..5000 {
        put(&mut table, &name(number), 0, None);
    }
    for cursor in [0, 1, 63, u64::MAX, u64::MAX << 11, 1 << 43, 0xffff_ffff << 11 | 31 << 6 | 63] {
        let mut steps = 0;
        let mut at = cursor;
        loop {
            at = table.scan_bucket(at, |_| {});
            assert!(at < 1 << 53, "a double holds it: {at}");
            steps += 1;
            if at == 0 {
                break;
            }
            assert!(steps < 100_000, "a scan ends");
        }
    }
}

/// Keys added or removed by one growth or shrinkage: enough for several segments.
const GROWTH: u32 = 3000;

#[derive(Debug, Clone)]
enum Change {
    Put(u32, i64, Option<i64>),
    Remove(u32),
    /// Many keys at once, so that segments split.
    Grow(u32),
    /// Many fewer, so that they merge.
    Shrink(u32),
    Expire(u32, Option<i64>),
}

fn change() -> impl Strategy<Value = Change> {
    let key = 0..GROWTH * 2;
    let expiry = proptest::option::of(0..100i64);
    prop_oneof![
        6 => (key.clone(), any::<i64>(), expiry.clone()).prop_map(|(k, v, e)| Change::Put(k, v, e)),
        4 => key.clone().prop_map(Change::Remove),
        2 => key.clone().prop_map(Change::Grow),
        2 => key.clone().prop_map(Change::Shrink),
        4 => (key, expiry).prop_map(|(k, e)| Change::Expire(k, e)),
    ]
}

fn apply(table: &mut Table, change: &Change) {
    match change {
        Change::Put(number, value, expiry) => put(table, &name(*number), *value, *expiry),
        Change::Remove(number) => {
            take(table, &name(*number));
        }
        Change::Grow(first) => (*first..first + GROWTH).for_each(|it| put(table, &name(it), 1, None)),
        Change::Shrink(first) => (*first..first + GROWTH).for_each(|it| {
            take(table, &name(it));
        }),
        Change::Expire(number, expiry) => {
            let key = name(*number);
            if let Some(at) = find(table, &key) {
                table.change(at, |entry| entry.set_expires_at_ms(*expiry));
            }
        }
    }
}

#[test]
fn a_position_of_before_is_noticed() {
    let mut table = table();
    put(&mut table, b"a", 1, None);
    let at = find(&table, b"a").expect("it is there");
    (0..100).for_each(|number| put(&mut table, &name(number), 1, None));
    let stale = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        table.view(at).value() == ValueRef::String(StringRef::Int(1))
    }));
    assert!(stale.is_err(), "the buckets have moved");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_table_behaves_like_a_map(changes in proptest::collection::vec(change(), 1..40)) {
        let mut table = table();
        let mut map: BTreeMap<Vec<u8>, (i64, Option<i64>)> = BTreeMap::new();
        for change in &changes {
            apply(&mut table, change);
            match change {
                Change::Put(number, value, expiry) => {
                    map.insert(name(*number), (*value, *expiry));
                }
                Change::Remove(number) => {
                    map.remove(&name(*number));
                }
                Change::Grow(first) => (*first..first + GROWTH).for_each(|it| {
                    map.insert(name(it), (1, None));
                }),
                Change::Shrink(first) => (*first..first + GROWTH).for_each(|it| {
                    map.remove(&name(it));
                }),
                Change::Expire(number, expiry) => {
                    if let Some((_, old)) = map.get_mut(&name(*number)) {
                        *old = *expiry;
                    }
                }
            }
        }
        check_invariants(&table);
        let expected: BTreeMap<Vec<u8>, Loaded> = map
            .into_iter()
            .map(|(key, (value, expires_at_ms))| {
                (key.clone(), Loaded { db: 0, key: key.into(), value: Value::Int(value), expires_at_ms, access: Access::default() })
            })
            .collect();
        prop_assert_eq!(content(&table), expected);
    }

    #[test]
    fn a_scan_meets_every_key_that_is_there_throughout(
        before in proptest::collection::vec(change(), 4..12),
        during in proptest::collection::vec((0..60usize, change()), 4..30),
    ) {
        let mut table = table();
        before.iter().for_each(|change| apply(&mut table, change));
        let mut throughout: BTreeSet<Vec<u8>> = content(&table).into_keys().collect();
        let mut met = BTreeSet::new();
        let mut during = during.into_iter();
        let mut cursor = 0;
        let mut steps = 0;
        loop {
            // Many buckets between two changes, so that changes meet scans everywhere.
            let pause = during.next();
            let buckets = pause.as_ref().map_or(usize::MAX, |(buckets, _)| *buckets);
            let mut done = false;
            for _ in 0..buckets {
                cursor = table.scan_bucket(cursor, |at| {
                    met.insert(table.view(at).key().to_vec());
                });
                steps += 1;
                prop_assert!(steps < 1_000_000, "the scan ends");
                if cursor == 0 {
                    done = true;
                    break;
                }
            }
            if done {
                break;
            }
            if let Some((_, change)) = pause {
                apply(&mut table, &change);
                let now = content(&table);
                throughout.retain(|key| now.contains_key(key));
            }
        }
        prop_assert!(throughout.is_subset(&met), "missed {:?}", throughout.difference(&met).next());
    }

    #[test]
    fn a_snapshot_is_the_content_at_the_cut(
        before in proptest::collection::vec(change(), 4..12),
        during in proptest::collection::vec((0..300usize, change()), 4..30),
    ) {
        let mut table = table();
        before.iter().for_each(|change| apply(&mut table, change));
        for epoch in 1..3 {
            let expected = content(&table);
            table.begin_saving(epoch, 0, None);
            let mut saved: Vec<Loaded> = Vec::new();
            let mut step = |table: &mut Table, budget: usize| {
                let mut chunk = Chunk::default();
                let done = table.save(budget, &mut chunk);
                saved.extend(chunk.entries().map(|entry| entry.to_entry()));
                done
            };
            for (budget, change) in &during {
                step(&mut table, *budget * 16);
                apply(&mut table, change);
            }
            while !step(&mut table, 1000) {}
            prop_assert_eq!(saved.len(), expected.len(), "each key once");
            let saved: BTreeMap<_, _> = saved.into_iter().map(|it| (it.key.to_vec(), it)).collect();
            prop_assert_eq!(saved, expected);
            check_invariants(&table);
        }
    }
}
