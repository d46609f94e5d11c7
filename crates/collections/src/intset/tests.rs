use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn packed(values: &[i64]) -> Vec<u8> {
    let mut set = new();
    for value in values {
        insert(&mut set, *value);
    }
    set
}

/// Every way to read gives the integers of the model.
fn assert_holds(set: &[u8], model: &BTreeSet<i64>) {
    let view = check(set).unwrap();
    assert_eq!(view.len(), model.len());
    assert_eq!(view.is_empty(), model.is_empty());
    assert!(view.iter().eq(model.iter().copied()));
    assert!(view.iter().rev().eq(model.iter().rev().copied()));
    assert_eq!(view.iter().len(), model.len());
    for (index, value) in model.iter().enumerate() {
        assert_eq!(view.get(index), Some(*value));
        assert_eq!(view.position(*value), Ok(index));
        assert!(view.contains(*value));
    }
    assert_eq!(view.get(model.len()), None);
    for absent in BOUNDS.iter().filter(|value| !model.contains(value)) {
        assert_eq!(view.position(*absent), Err(model.range(..absent).count()));
    }
}

/// Reads and edits bytes in every way. Only a panic is a failure.
fn exercise(bytes: &[u8]) {
    let view = View::trusted(bytes);
    let _ = (view.len(), view.is_empty(), view.iter().count(), view.into_iter().rev().count(), view.get(3));
    for value in BOUNDS {
        let _ = view.position(value);
        insert(&mut bytes.to_vec(), value);
        remove(&mut bytes.to_vec(), value);
    }
}

const BOUNDS: [i64; 13] = [
    0,
    1,
    -1,
    i16::MAX as i64,
    i16::MAX as i64 + 1,
    i16::MIN as i64,
    i16::MIN as i64 - 1,
    i32::MAX as i64,
    i32::MAX as i64 + 1,
    i32::MIN as i64,
    i32::MIN as i64 - 1,
    i64::MAX,
    i64::MIN,
];

#[test]
fn integers_are_sorted_with_the_width_of_the_widest() {
    assert_eq!(new(), [2, 0, 0, 0, 0, 0, 0, 0]);
    let mut set = packed(&[5, -2, 300]);
    assert_eq!(set, [2, 0, 0, 0, 3, 0, 0, 0, 0xFE, 0xFF, 5, 0, 0x2C, 1]);
    assert!(insert(&mut set, 65_536));
    let four = [4, 0, 0, 0, 4, 0, 0, 0, 0xFE, 0xFF, 0xFF, 0xFF, 5, 0, 0, 0, 0x2C, 1, 0, 0, 0, 0, 1, 0];
    assert_eq!(set, four);
    assert!(!insert(&mut set, 5));
    assert_eq!(set, four);
    assert!(remove(&mut set, 300));
    assert!(remove(&mut set, 5));
    assert!(remove(&mut set, 65_536));
    assert!(!remove(&mut set, 65_536));
    assert_eq!(set, [4, 0, 0, 0, 1, 0, 0, 0, 0xFE, 0xFF, 0xFF, 0xFF]);
    assert!(insert(&mut set, i64::MIN));
    let mut eight = vec![8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80];
    eight.extend_from_slice(&(-2_i64).to_le_bytes());
    assert_eq!(set, eight);
    assert_holds(&set, &BTreeSet::from([i64::MIN, -2]));
}

#[test]
fn redis_writes_the_same_bytes() {
    // DUMP of two sets by Redis 7.0.15; 5 was removed from the second one.
    assert_eq!(packed(&[5, -2, 300]), b"\x02\0\0\0\x03\0\0\0\xfe\xff\x05\x00\x2c\x01");
    let mut set = packed(&[5, -2, 300, 65_536]);
    assert!(remove(&mut set, 5));
    assert_eq!(set, b"\x04\0\0\0\x03\0\0\0\xfe\xff\xff\xff\x2c\x01\0\0\0\0\x01\0");
}

#[test]
fn a_wide_integer_goes_to_either_end() {
    for wide in [i64::MIN, i64::MAX, 1 << 20, -(1 << 20)] {
        assert_holds(&packed(&[3, 1, 2, wide]), &BTreeSet::from([1, 2, 3, wide]));
        assert_holds(&packed(&[wide]), &BTreeSet::from([wide]));
    }
}

#[test]
fn damage_is_named_with_its_place() {
    fn check_damage(bytes: &[u8], at: usize, reason: Reason) {
        assert_eq!(check(bytes).unwrap_err(), Damage { format: Format::Intset, at, reason });
    }
    check_damage(&[], 0, Reason::TooShort);
    check_damage(&[2, 0, 0, 0, 0, 0, 0], 7, Reason::TooShort);
    check_damage(&[3, 0, 0, 0, 0, 0, 0, 0], 0, Reason::Width);
    check_damage(&[2, 0, 0, 0, 1, 0, 0, 0], 4, Reason::Length);
    check_damage(&[2, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF], 4, Reason::Length);
    check_damage(&[2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 9], 4, Reason::Length);
    check_damage(&[2, 0, 0, 0, 3, 0, 0, 0, 1, 0, 2, 0, 2, 0], 12, Reason::Order);
    check_damage(&[2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0xFF, 0xFF], 10, Reason::Order);
    assert_eq!(
        check(&[2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0]).unwrap_err().to_string(),
        "integer at byte 10 of the intset is not greater than the one before it"
    );
}

#[test]
fn every_truncation_and_every_changed_byte_is_refused_or_read_without_a_panic() {
    for set in [packed(&[1, 2, 3]), packed(&[-70_000, 5, 6]), packed(&[1 << 40, 0])] {
        for len in 0..set.len() {
            assert!(check(&set[..len]).is_err());
            exercise(&set[..len]);
        }
        for at in 0..set.len() {
            let mut changed = set.clone();
            for byte in 0..=u8::MAX {
                changed[at] = byte;
                if let Ok(view) = check(&changed) {
                    assert_holds(&changed, &view.iter().collect());
                }
                exercise(&changed);
            }
        }
    }
}

fn value() -> impl Strategy<Value = i64> {
    prop_oneof![
        -20..20_i64,
        any::<i16>().prop_map(i64::from),
        (any::<i64>(), 0..64_u32).prop_map(|(v, s)| v >> s)
    ]
}

proptest! {
    #[test]
    fn edits_agree_with_an_ordered_set(edits in prop::collection::vec((any::<bool>(), value()), 0..80)) {
        let (mut set, mut model) = (new(), BTreeSet::new());
        for (adds, value) in edits {
            if adds {
                prop_assert_eq!(insert(&mut set, value), model.insert(value));
            } else {
                prop_assert_eq!(remove(&mut set, value), model.remove(&value));
            }
            assert_holds(&set, &model);
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = check(&bytes);
        exercise(&bytes);
    }
}
