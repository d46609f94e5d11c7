use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const SEED: HashSeed = HashSeed([1, 2]);

fn table() -> Table {
    Table::new(SEED, 0)
}

fn put(table: &mut Table, key: &[u8], value: i64, expiry: Option<i64>) {
    let hash = table.hash(key);
    match table.find(hash, key) {
        Some(at) => {
            table.modify(at, |record| record.value = Value::Int(value));
            table.set_expiry(at, expiry);
        }
        None => table.insert(hash, Record::new(Box::from(key), Value::Int(value), hash, expiry)),
    }
}

fn take(table: &mut Table, key: &[u8]) -> bool {
    let found = table.find(table.hash(key), key);
    found.map(|at| table.remove(at)).is_some()
}

fn name(number: u32) -> Vec<u8> {
    format!("key:{number}").into_bytes()
}

/// What the table holds, by key.
fn content(table: &Table) -> BTreeMap<Vec<u8>, Entry> {
    table.records().map(|record| (record.key.to_vec(), record.to_entry(0))).collect()
}

/// Checks what must hold between operations.
fn check_invariants(table: &Table) {
    let records: Vec<&Record> = table.records().collect();
    assert_eq!(records.len(), table.len());
    for record in &records {
        assert!(table.find(record.hash, &record.key).is_some(), "every record can be found");
    }
    let live = table.segments.iter().flatten().count();
    let expiries: BTreeSet<(i64, u32)> =
        records.iter().filter_map(|it| Some((it.expires_at_ms()?, it.hash))).collect();
    assert_eq!(expiries, table.expiry);
    assert_eq!(records.iter().filter(|it| it.expires_at_ms().is_some()).count(), table.expiring());
    let bytes = records.iter().map(|it| it.memory_bytes()).sum::<usize>()
        + live * Segment::MEMORY_BYTES
        + expiries.len() * EXPIRY_COST;
    assert_eq!(bytes, table.bytes, "memory is accounted for exactly");
    if !table.directory.is_empty() {
        assert_eq!(table.directory.len(), 1 << table.depth);
        for (at, number) in table.directory.iter().enumerate() {
            assert!(
                table.directory_range(*number).contains(&at),
                "entries point at the segment they belong to"
            );
        }
    }
}

#[test]
fn tables_grow_and_shrink_without_losing_keys() {
    let mut table = table();
    for number in 0..20_000 {
        put(&mut table, &name(number), i64::from(number), None);
    }
    check_invariants(&table);
    let full = (table.depth, table.memory_bytes());
    assert!(full.0 >= 5, "20,000 keys need 32 segments");
    for number in 0..19_000 {
        assert!(take(&mut table, &name(number)));
    }
    check_invariants(&table);
    assert!(table.depth < full.0 && table.memory_bytes() < full.1 / 4, "memory comes back");
    for number in 19_000..20_000 {
        assert!(take(&mut table, &name(number)));
    }
    assert_eq!((table.len(), table.memory_bytes()), (0, 0));
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
        met.insert(table.record(at).key.clone());
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
        order.push(table.record(at).expires_at_ms());
        table.remove(at);
    }
    assert_eq!(order, [Some(10), Some(10), Some(20)], "30 is not over at 30");
    assert_eq!(table.len(), 2);
}

#[test]
fn any_cursor_is_accepted() {
    let mut table = table();
    for number in 0..5000 {
        put(&mut table, &name(number), 0, None);
    }
    for cursor in [1, 63, u64::MAX, u64::MAX << 11, 1 << 43, 0xffff_ffff << 11 | 31 << 6 | 63] {
        let mut steps = 0;
        let mut at = cursor;
        loop {
            at = table.scan_bucket(at, |_| {});
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
            if let Some(at) = table.find(table.hash(&key), &key) {
                table.set_expiry(at, *expiry);
            }
        }
    }
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
        let expected: BTreeMap<Vec<u8>, Entry> = map
            .into_iter()
            .map(|(key, (value, expires_at_ms))| {
                (key.clone(), Entry { db: 0, key: key.into(), value: Value::Int(value), expires_at_ms })
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
                    met.insert(table.record(at).key.to_vec());
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
            table.begin_saving(epoch, 0);
            let mut saved = Vec::new();
            for (budget, change) in &during {
                table.save(*budget, &mut saved);
                apply(&mut table, change);
            }
            while !table.save(100, &mut saved).1 {}
            prop_assert_eq!(saved.len(), expected.len(), "each key once");
            let saved: BTreeMap<_, _> = saved.into_iter().map(|it| (it.key.to_vec(), it)).collect();
            prop_assert_eq!(saved, expected);
            check_invariants(&table);
        }
    }
}
