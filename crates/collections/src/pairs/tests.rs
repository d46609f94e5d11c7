use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn empty() -> Vec<u8> {
    let mut pairs = Vec::new();
    clear_into(&mut pairs);
    pairs
}

fn listpack_of(pairs: &[u8]) -> Vec<u8> {
    let mut list = b"what was there".to_vec();
    View::trusted(pairs).write_listpack(&mut list);
    list
}

fn texts(pairs: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    View::trusted(pairs).iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect()
}

#[test]
fn each_pair_has_the_bytes_of_the_format() {
    let check = |field: &[u8], value: &[u8], expected: &[u8]| {
        let mut pairs = empty();
        assert!(set(&mut pairs, field, value));
        assert_eq!(pairs, [&[1], expected].concat(), "{} {}", field.escape_ascii(), value.escape_ascii());
        assert_eq!(texts(&pairs), [(field.to_vec(), value.to_vec())]);
    };
    check(b"field", b"value", b"\x85field\x85value");
    check(b"", b"", b"\x80\x80");
    check(b"0", b"127", b"\x00\x7F");
    check(b"-1", b"-4096", b"\xDF\xFF\xD0\x00");
    check(b"4096", b"-32768", b"\xF1\x00\x10\xF1\x00\x80");
    check(b"8388607", b"2147483647", b"\xF2\xFF\xFF\x7F\xF3\xFF\xFF\xFF\x7F");
    check(b"01", b"-9223372036854775808", b"\x8201\xF4\0\0\0\0\0\0\0\x80");
    let long = [b'x'; 4096];
    check(&long[..63], &long[..64], &[b"\xBF", &long[..63], b"\xE0\x40", &long[..64]].concat());
    check(&long[..4095], &long, &[b"\xEF\xFF", &long[..4095], b"\xF0\x00\x10\x00\x00", &long].concat());
}

#[test]
fn the_number_of_pairs_grows_and_shrinks_with_them() {
    let mut pairs = empty();
    let name = |number: u32| format!("field {number}").into_bytes();
    let check = |pairs: &[u8], count: u32| {
        let head = match u8::try_from(count) {
            Ok(short) if short < 255 => vec![short],
            _ => [&[255][..], &count.to_le_bytes()].concat(),
        };
        assert!(pairs.starts_with(&head), "{count} pairs begin with {:?}", &pairs[..5]);
        let view = View::trusted(pairs);
        assert_eq!((view.len(), view.iter().count()), (count as usize, count as usize));
        assert_eq!(view.get(&name(0)), Some(Item::Int(7)));
        assert_eq!(view.get(&name(count - 1)), Some(Item::Int(7)));
        assert_eq!(view.get(&name(count)), None);
        assert_eq!(listpack::check(&listpack_of(pairs)).unwrap().len(), 2 * view.len());
    };
    for count in 1..=300 {
        assert!(set(&mut pairs, &name(count - 1), b"7"));
        check(&pairs, count);
    }
    for count in (1..300).rev() {
        assert!(remove(&mut pairs, &name(count)));
        check(&pairs, count);
    }
    assert!(remove(&mut pairs, &name(0)));
    assert_eq!(pairs, empty());
    assert!(View::trusted(&pairs).is_empty());
}

#[test]
fn no_bytes_are_no_pairs() {
    let nothing = View::trusted(&[]);
    assert!(nothing.is_empty());
    assert_eq!((nothing.len(), nothing.iter().count(), nothing.get(b"field")), (0, 0, None));
    assert_eq!(listpack_of(&[]), listpack::new());
    let mut pairs = Vec::new();
    assert!(!remove(&mut pairs, b"field"));
    assert!(set(&mut pairs, b"field", b"value"));
    assert_eq!(texts(&pairs), [(b"field".to_vec(), b"value".to_vec())]);
}

#[test]
fn more_pairs_than_a_listpack_counts_become_a_listpack_without_a_count() {
    let mut pairs = empty();
    for number in 0..32_768 {
        write_count(&mut pairs, number + 1);
        Encoded::of(Item::Int(i64::try_from(number).unwrap())).push(&mut pairs);
        Encoded::of(Item::Int(1)).push(&mut pairs);
    }
    let list = listpack_of(&pairs);
    assert_eq!(list[4..6], [0xFF, 0xFF]);
    assert_eq!(listpack::check(&list).unwrap().len(), 65_536);
    assert_eq!(View::trusted(&pairs).len(), 32_768);
}

/// Few different ones, so that they meet again: integers of each width, and bytes of each length of their encoding.
fn element() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (-20i64..20).prop_map(|number| number.to_string().into_bytes()),
        4 => (0u8..20).prop_map(|letter| vec![b'a' + letter; usize::from(letter % 7)]),
        2 => (any::<i64>(), 0..4u32).prop_map(|(number, shift)| (number >> (shift * 16)).to_string().into_bytes()),
        1 => (60usize..70).prop_map(|len| vec![b'x'; len]),
        1 => (120usize..130).prop_map(|len| vec![b'y'; len]),
        1 => prop_oneof![Just(4095usize), Just(4096), Just(16_380), Just(16_400)].prop_map(|len| vec![b'z'; len]),
    ]
}

/// The same change of a listpack, as a hash that was one made it.
fn change_listpack(list: &mut Vec<u8>, field: &[u8], value: Option<&[u8]>) {
    let view = listpack::View::trusted(list);
    let place = view.find(field, 1).and_then(|at| Some((at, view.next(at)?)));
    match (place, value) {
        (Some((_, at)), Some(value)) => listpack::replace(list, at, Item::from_bytes(value)).unwrap(),
        (Some((at, _)), None) => {
            listpack::remove(list, at, 2);
        }
        (None, Some(value)) => {
            listpack::push_back(list, Item::from_bytes(field)).unwrap();
            listpack::push_back(list, Item::from_bytes(value)).unwrap();
        }
        (None, None) => {}
    }
}

proptest! {
    #[test]
    fn pairs_hold_what_a_map_and_a_listpack_hold(
        steps in prop::collection::vec((element(), prop::option::weighted(0.7, element())), 0..80),
    ) {
        let (mut pairs, mut list, mut model) = (empty(), listpack::new(), BTreeMap::new());
        for (field, value) in steps {
            change_listpack(&mut list, &field, value.as_deref());
            match value {
                Some(value) => {
                    let is_new = set(&mut pairs, &field, &value);
                    prop_assert_eq!(is_new, model.insert(field, value).is_none());
                }
                None => prop_assert_eq!(remove(&mut pairs, &field), model.remove(&field).is_some()),
            }
            let view = View::trusted(&pairs);
            prop_assert_eq!(view.len(), model.len());
            prop_assert_eq!(view.is_empty(), model.is_empty());
            prop_assert_eq!(texts(&pairs).into_iter().collect::<BTreeMap<_, _>>(), model.clone());
            for (field, value) in &model {
                prop_assert_eq!(view.get(field).map(Item::to_vec), Some(value.clone()));
            }
            prop_assert_eq!(view.get(b"no field is this"), None);
            for (place, pair) in view.iter().enumerate() {
                prop_assert_eq!(view.iter().nth(place), Some(pair));
            }
            prop_assert_eq!(view.iter().nth(model.len()), None);
            prop_assert_eq!(&listpack_of(&pairs), &list, "the listpack is the one that was changed alike");
            prop_assert!(pairs.len() + 6 + 2 * model.len() <= list.len(), "{} of {} bytes", pairs.len(), list.len());
        }
    }

    #[test]
    fn any_bytes_are_read_and_changed_without_a_panic(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x7Eu8..0x84, 0xF0u8..0xF5], 0..40),
        fields in prop::collection::vec(element(), 1..4),
    ) {
        let view = View::trusted(&bytes);
        let _ = (view.len(), view.is_empty(), view.iter().count(), view.iter().nth(3));
        let _ = listpack_of(&bytes);
        let own: Vec<_> = view.iter().map(|(field, _)| field.to_vec()).collect();
        for field in fields.into_iter().chain(own) {
            let _ = view.get(&field);
            set(&mut bytes.clone(), &field, b"value");
            remove(&mut bytes.clone(), &field);
        }
    }
}
