//! Every type against a plain collection, with limits so small that values become large on the way.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::hash::{HashSeed, KeyHasher};

fn hasher() -> KeyHasher {
    KeyHasher::new(HashSeed([1, 2]))
}

fn limits() -> impl Strategy<Value = Limits> {
    (0usize..20, 0usize..12, prop_oneof![-2i32..-1, 1i32..6]).prop_map(|(entries, value, list_fill)| Limits {
        hash_entries: entries,
        hash_value: value,
        set_ints: entries,
        set_entries: entries,
        set_value: value,
        sorted_set_entries: entries,
        sorted_set_value: value,
        list_fill,
    })
}

/// Few different ones, so that they meet again: numbers, short text, long text.
fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (-20i64..20).prop_map(|number| number.to_string().into_bytes()),
        4 => (0u8..20).prop_map(|letter| vec![b'a' + letter; usize::from(letter % 7)]),
        1 => (0u8..3).prop_map(|letter| vec![b'x' + letter; 3000]),
    ]
}

fn bytes(item: Item<'_>) -> Vec<u8> {
    item.to_vec()
}

proptest! {
    #[test]
    fn a_hash_holds_what_a_map_holds(
        limits in limits(),
        steps in prop::collection::vec((text(), prop::option::weighted(0.7, text())), 0..120),
    ) {
        let mut hash = Hash::empty(Vec::new());
        let mut model = BTreeMap::new();
        for (field, value) in steps {
            match value {
                Some(value) => {
                    let is_new = hash.set(&field, &value, &limits, hasher());
                    prop_assert_eq!(is_new, model.insert(field, value).is_none());
                }
                None => prop_assert_eq!(hash.remove(&field), model.remove(&field).is_some()),
            }
            let view = hash.view();
            prop_assert_eq!(view.len(), model.len());
            let found: BTreeMap<_, _> = view.iter().map(|(field, value)| (bytes(field), bytes(value))).collect();
            prop_assert_eq!(&found, &model);
            for (field, value) in &model {
                prop_assert_eq!(view.get(field).map(bytes), Some(value.clone()));
            }
            let by_place: BTreeSet<_> = (0..view.len()).filter_map(|place| view.nth(place)).map(|(it, _)| bytes(it)).collect();
            prop_assert_eq!(by_place.len(), model.len());
            prop_assert!(view.nth(view.len()).is_none());
            let is_small = model.len() <= limits.hash_entries
                && model.iter().all(|(field, value)| field.len().max(value.len()) <= limits.hash_value);
            prop_assert!(is_small || view.encoding() == "hashtable");
        }
    }

    #[test]
    fn a_set_holds_what_a_set_holds(
        limits in limits(),
        steps in prop::collection::vec((text(), prop::bool::weighted(0.7)), 0..120),
    ) {
        let mut set = Set::empty(Vec::new());
        let mut model = BTreeSet::new();
        for (member, adds) in steps {
            if adds {
                prop_assert_eq!(set.insert(&member, &limits, hasher()), model.insert(member));
            } else {
                prop_assert_eq!(set.remove(&member), model.remove(&member));
            }
            let view = set.view();
            prop_assert_eq!(view.iter().map(bytes).collect::<BTreeSet<_>>(), model.clone());
            prop_assert_eq!(view.len(), model.len());
            prop_assert!(model.iter().all(|member| view.contains(member)));
            let by_place: BTreeSet<_> = (0..view.len()).filter_map(|place| view.nth(place)).map(bytes).collect();
            prop_assert_eq!(by_place, model.clone());
            if view.encoding() == "intset" {
                prop_assert!(model.iter().all(|member| listpack::integer(member).is_some()));
                prop_assert!(view.len() <= limits.set_ints);
            }
            let mut scanned = BTreeSet::new();
            let mut cursor = 0;
            loop {
                cursor = view.scan(cursor, 3, |member| {
                    scanned.insert(bytes(member));
                });
                if cursor == 0 {
                    break;
                }
            }
            prop_assert_eq!(&scanned, &model);
        }
    }

    #[test]
    fn a_sorted_set_is_in_the_order_of_score_and_member(
        limits in limits(),
        steps in prop::collection::vec((text(), prop::option::weighted(0.7, -8i32..8)), 0..120),
    ) {
        let mut set = SortedSet::empty(Vec::new());
        let mut scores: BTreeMap<Vec<u8>, f64> = BTreeMap::new();
        for (member, score) in steps {
            match score.map(|score| f64::from(score) / 2.0) {
                Some(score) => {
                    let old = set.insert(&member, score, &limits, hasher());
                    prop_assert_eq!(old, scores.insert(member, score));
                }
                None => prop_assert_eq!(set.remove(&member), scores.remove(&member)),
            }
            let mut model: Vec<(f64, Vec<u8>)> = scores.iter().map(|(member, score)| (*score, member.clone())).collect();
            model.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
            let view = set.view();
            let pair = |(member, score): (Item<'_>, f64)| (score, bytes(member));
            prop_assert_eq!(view.iter().map(pair).collect::<Vec<_>>(), model.clone());
            for (place, (score, member)) in model.iter().enumerate() {
                prop_assert_eq!(view.score(member), Some(*score));
                prop_assert_eq!(view.rank(member), Some(place));
                prop_assert_eq!(view.nth(place).map(pair), Some(model[place].clone()));
                for inclusive in [false, true] {
                    let below = model.iter().filter(|it| it.0 < *score || (inclusive && it.0 == *score)).count();
                    prop_assert_eq!(view.count_below(*score, inclusive), below);
                }
                let back: Vec<_> = view.iter_back_from(place).map(pair).collect();
                let expected: Vec<_> = model[..=place].iter().rev().cloned().collect();
                prop_assert_eq!(back, expected);
            }
        }
        let half = set.view().len() / 2;
        let rest: Vec<_> = set.view().iter_from(half).map(|(member, _)| bytes(member)).collect();
        prop_assert_eq!(set.remove_range(0, half), half);
        prop_assert_eq!(set.view().iter().map(|(member, _)| bytes(member)).collect::<Vec<_>>(), rest);
    }

    #[test]
    fn a_list_holds_what_a_vector_holds(
        limits in limits(),
        steps in prop::collection::vec((0u8..8, text(), 0usize..40), 0..120),
    ) {
        let mut list = List::empty(Vec::new());
        let mut model: Vec<Vec<u8>> = Vec::new();
        for (action, element, at) in steps {
            match action {
                0 => {
                    list.push_front(&element, &limits);
                    model.insert(0, element);
                }
                1 | 2 => {
                    list.push_back(&element, &limits);
                    model.push(element);
                }
                3 => {
                    let expected = (!model.is_empty()).then(|| model.remove(0));
                    prop_assert_eq!(list.pop_front(bytes), expected);
                }
                4 => prop_assert_eq!(list.pop_back(bytes), model.pop()),
                5 => {
                    prop_assert_eq!(list.set(at, &element, &limits), at < model.len());
                    if let Some(slot) = model.get_mut(at) {
                        *slot = element;
                    }
                }
                6 => {
                    list.insert(at, &element, &limits);
                    model.insert(at.min(model.len()), element);
                }
                _ => {
                    let (count, from_tail) = (at % 4, at % 2 == 0);
                    let mut places: Vec<usize> = (0..model.len()).filter(|place| model[*place] == element).collect();
                    let wanted = if count == 0 { places.len() } else { count.min(places.len()) };
                    if from_tail {
                        places.drain(..places.len() - wanted);
                    } else {
                        places.truncate(wanted);
                    }
                    prop_assert_eq!(list.remove_matching(&element, count, from_tail), wanted);
                    places.iter().rev().for_each(|place| drop(model.remove(*place)));
                }
            }
            let view = list.view();
            prop_assert_eq!(view.iter().map(bytes).collect::<Vec<_>>(), model.clone());
            prop_assert_eq!(view.len(), model.len());
            prop_assert_eq!(view.nodes().map(|node| node.len()).sum::<usize>(), model.len());
            if !model.is_empty() {
                let place = at % model.len();
                prop_assert_eq!(view.get(place).map(bytes), Some(model[place].clone()));
                let back: Vec<_> = view.iter_back_from(place).map(bytes).collect();
                prop_assert_eq!(back, model[..=place].iter().rev().cloned().collect::<Vec<_>>());
            }
        }
        let len = model.len();
        prop_assert_eq!(list.remove_range(len / 3, len / 3), len / 3);
        model.drain(len / 3..len / 3 * 2);
        prop_assert_eq!(list.view().iter().map(bytes).collect::<Vec<_>>(), model);
    }
}

#[test]
fn scores_are_text_in_a_listpack_and_minus_zero_is_zero() {
    let limits = Limits::default();
    let mut set = SortedSet::empty(Vec::new());
    for (member, score) in
        [("a", 1.5), ("b", f64::INFINITY), ("c", f64::NEG_INFINITY), ("d", -0.0), ("e", 1e300)]
    {
        set.insert(member.as_bytes(), score, &limits, hasher());
    }
    let SortedSet::Packed(list) = &set else { panic!("five members are packed") };
    let texts: Vec<String> =
        View::trusted(list).iter().map(|item| String::from_utf8_lossy(&item.to_vec()).into_owned()).collect();
    assert_eq!(texts, ["c", "-inf", "d", "0", "a", "1.5", "e", "1.0000000000000001e+300", "b", "inf"]);
    assert_eq!(set.view().score(b"b"), Some(f64::INFINITY));
}

#[test]
fn values_become_large_behind_any_limit() {
    let limits = Limits {
        hash_entries: usize::MAX,
        hash_value: usize::MAX,
        set_ints: usize::MAX,
        ..Limits::default()
    };
    let mut hash = Hash::empty(Vec::new());
    for number in 0..3u8 {
        hash.set(&[number], &vec![number; PACKED_LEN_MAX / 2], &limits, hasher());
    }
    assert_eq!(hash.view().encoding(), "hashtable");
    assert_eq!(hash.view().len(), 3);
}
