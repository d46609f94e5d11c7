//! Lists against a model.

use proptest::prelude::*;

use super::List;
use super::node::Node;
use crate::listpack::{self, Item, View};
use crate::tree::Leaf;

fn item(bytes: &[u8]) -> Item<'_> {
    Item::from_bytes(bytes)
}

fn elements(list: &List) -> Vec<Vec<u8>> {
    list.iter().map(|item| item.to_vec()).collect()
}

/// Whether all ways to read the list agree with its elements.
fn check_reads(list: &List, expected: &[Vec<u8>]) {
    list.check();
    assert_eq!(elements(list), expected);
    assert_eq!((list.len(), list.is_empty()), (expected.len(), expected.is_empty()));
    let back: Vec<_> = list.iter_back_from(usize::MAX).map(|item| item.to_vec()).collect();
    assert!(back.iter().rev().eq(expected));
    let nodes: Vec<_> = list.leaves().collect();
    assert_eq!(nodes.len(), list.leaf_count());
    let of_nodes = nodes.iter().flat_map(|bytes| View::trusted(bytes).iter()).map(|item| item.to_vec());
    assert!(of_nodes.eq(expected.iter().cloned()));
    let len = isize::try_from(expected.len()).unwrap();
    for (index, bytes) in expected.iter().enumerate().step_by((expected.len() / 40).max(1)) {
        let signed = isize::try_from(index).unwrap();
        assert!(list.get(signed).is_some_and(|item| item.is(bytes)), "{index}");
        assert!(list.get(signed - len).is_some_and(|item| item.is(bytes)), "{index}");
        let onward = list.iter_from(index).take(100).map(|item| item.to_vec());
        assert!(onward.eq(expected[index..].iter().take(100).cloned()));
        let back = list.iter_back_from(index).take(100).map(|item| item.to_vec());
        assert!(back.eq(expected[..=index].iter().rev().take(100).cloned()));
    }
    assert!(list.get(len).is_none() && list.get(-len - 1).is_none());
    assert!(list.iter_from(expected.len()).next().is_none());
}

#[derive(Debug, Clone)]
enum Step {
    PushFront(Vec<Vec<u8>>),
    PushBack(Vec<Vec<u8>>),
    PopFront(usize),
    PopBack(usize),
    Set(isize, Vec<u8>),
    InsertBefore(isize, Vec<u8>),
    InsertAfter(isize, Vec<u8>),
    RemoveRange(usize, usize),
    RemoveMatching(Vec<u8>, usize, bool),
    PushNode(Vec<Vec<u8>>),
    Keep,
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        10 => (0u32..30).prop_map(|number| number.to_string().into_bytes()),
        10 => (0u32..30).prop_map(|number| format!("element {number}").into_bytes()),
        4 => (0usize..700).prop_map(|len| vec![b'x'; len]),
        1 => (3_900usize..4_200).prop_map(|len| vec![b'y'; len]),
        1 => (8_000usize..8_300).prop_map(|len| vec![b'z'; len]),
    ]
}

fn several() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(bytes(), 0..30)
}

fn step() -> impl Strategy<Value = Step> {
    let index = || -400isize..400;
    prop_oneof![
        4 => several().prop_map(Step::PushFront),
        4 => several().prop_map(Step::PushBack),
        2 => (0usize..40).prop_map(Step::PopFront),
        2 => (0usize..40).prop_map(Step::PopBack),
        2 => (index(), bytes()).prop_map(|(index, bytes)| Step::Set(index, bytes)),
        2 => (index(), bytes()).prop_map(|(index, bytes)| Step::InsertBefore(index, bytes)),
        2 => (index(), bytes()).prop_map(|(index, bytes)| Step::InsertAfter(index, bytes)),
        1 => (0usize..400, 0usize..150).prop_map(|(start, count)| Step::RemoveRange(start, count)),
        2 => (bytes(), 0usize..20, any::<bool>()).prop_map(|(it, count, back)| Step::RemoveMatching(it, count, back)),
        1 => several().prop_map(Step::PushNode),
        1 => Just(Step::Keep),
    ]
}

fn index_in(model: &[Vec<u8>], index: isize) -> Option<usize> {
    let len = isize::try_from(model.len()).unwrap();
    let index = if index < 0 { index + len } else { index };
    (0..len).contains(&index).then(|| usize::try_from(index).unwrap())
}

fn run(list: &mut List, model: &mut Vec<Vec<u8>>, step: Step) {
    match step {
        Step::PushFront(all) => {
            for bytes in all {
                list.push_front(item(&bytes)).unwrap();
                model.insert(0, bytes);
            }
        }
        Step::PushBack(all) => {
            for bytes in all {
                list.push_back(item(&bytes)).unwrap();
                model.push(bytes);
            }
        }
        Step::PopFront(count) => {
            for _ in 0..count {
                let expected = (!model.is_empty()).then(|| model.remove(0));
                assert_eq!(list.pop_front(), expected);
            }
        }
        Step::PopBack(count) => (0..count).for_each(|_| assert_eq!(list.pop_back(), model.pop())),
        Step::Set(index, bytes) => {
            let at = index_in(model, index);
            assert_eq!(list.set(index, item(&bytes)), Ok(at.is_some()));
            at.inspect(|at| model[*at] = bytes);
        }
        Step::InsertBefore(index, bytes) => {
            let at = index_in(model, index);
            assert_eq!(list.insert_before(index, item(&bytes)), Ok(at.is_some()));
            at.inspect(|at| model.insert(*at, bytes));
        }
        Step::InsertAfter(index, bytes) => {
            let at = index_in(model, index);
            assert_eq!(list.insert_after(index, item(&bytes)), Ok(at.is_some()));
            at.inspect(|at| model.insert(*at + 1, bytes));
        }
        Step::RemoveRange(start, count) => {
            let end = model.len().min(start + count);
            let expected = end.saturating_sub(start);
            assert_eq!(list.remove_range(start, count), expected);
            model.drain(end - expected..end);
        }
        Step::RemoveMatching(bytes, count, from_back) => {
            let mut places: Vec<usize> = (0..model.len()).filter(|at| model[*at] == bytes).collect();
            if from_back {
                places.reverse();
            }
            places.truncate(count);
            assert_eq!(list.remove_matching(&bytes, count, from_back), places.len());
            places.sort_unstable();
            places.iter().rev().for_each(|at| _ = model.remove(*at));
        }
        Step::PushNode(all) => {
            let mut node = listpack::new();
            all.iter().for_each(|bytes| listpack::push_back(&mut node, item(bytes)).unwrap());
            list.push_node(node).unwrap();
            model.extend(all);
        }
        Step::Keep => {}
    }
}

proptest! {
    // Each case is long.
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_list_holds_what_a_vector_holds_and_clones_keep_what_they_had(
        fill in prop::sample::select(vec![-1_i64, -2, -5, 0, 1, 2, 5, 128, 40_000]),
        steps in prop::collection::vec(step(), 0..150),
    ) {
        let mut list = List::new(fill);
        let mut model = Vec::new();
        let mut kept = None;
        for step in steps {
            if matches!(step, Step::Keep) {
                kept = Some((list.clone(), model.clone()));
            }
            run(&mut list, &mut model, step);
            list.check();
            assert_eq!(list.len(), model.len());
        }
        check_reads(&list, &model);
        if let Some((list, expected)) = kept {
            check_reads(&list, &expected);
        }
    }
}

#[test]
fn pushes_at_either_end_leave_full_nodes() {
    for (fill, per_node) in [(-2, 8_192 / 13), (128, 128)] {
        for at_front in [false, true] {
            let mut list = List::new(fill);
            for number in 0..50_000 {
                let bytes = format!("value:{number:06}");
                let pushed = if at_front {
                    list.push_front(item(bytes.as_bytes()))
                } else {
                    list.push_back(item(bytes.as_bytes()))
                };
                pushed.unwrap();
            }
            list.check();
            let nodes = 50_000 / per_node;
            assert!(list.leaf_count() <= nodes * 10 / 9 + 2, "{} nodes", list.leaf_count());
            let per_element = list.memory_bytes() as f64 / 50_000.0;
            assert!(per_element < 17.0, "{per_element} bytes per element");
        }
    }
}

#[test]
fn a_queue_does_not_grow() {
    let mut list = List::new(-2);
    for number in 0..100 {
        list.push_back(item(format!("element {number}").as_bytes())).unwrap();
    }
    let mut most = 0;
    for number in 0..50_000 {
        list.push_back(item(format!("element {}", number + 100).as_bytes())).unwrap();
        assert_eq!(list.pop_front(), Some(format!("element {number}").into_bytes()));
        most = most.max(list.memory_bytes());
    }
    list.check();
    assert!(most < 20_000, "{most} bytes");
    for number in 0..50_000 {
        list.push_front(item(format!("element {number}").as_bytes())).unwrap();
        assert!(list.pop_back().is_some());
        most = most.max(list.memory_bytes());
    }
    list.check();
    assert!(most < 25_000, "{most} bytes");
}

#[test]
fn an_emptied_list_takes_little_memory() {
    let fill = |list: &mut List| {
        (0..10_000).for_each(|number| list.push_back(item(format!("element {number}").as_bytes())).unwrap());
    };
    let mut list = List::new(-2);
    let empty = list.memory_bytes();
    let check = |list: &List| {
        list.check();
        assert!(list.is_empty() && list.memory_bytes() <= empty + 300, "{} bytes", list.memory_bytes());
    };
    fill(&mut list);
    (0..10_000).for_each(|_| assert!(list.pop_front().is_some()));
    check(&list);
    fill(&mut list);
    (0..10_000).for_each(|_| assert!(list.pop_back().is_some()));
    check(&list);
    fill(&mut list);
    assert_eq!(list.remove_range(0, usize::MAX), 10_000);
    check(&list);
    assert_eq!((list.pop_front(), list.pop_back()), (None, None));
}

#[test]
fn equal_elements_are_removed_from_the_end_that_is_asked_for() {
    let check = |count: usize, from_back: bool, expected: &str| {
        let mut list = List::new(3);
        "a b a c a d a b a".split(' ').for_each(|it| list.push_back(item(it.as_bytes())).unwrap());
        list.remove_matching(b"a", count, from_back);
        list.check();
        let rest: Vec<_> = elements(&list).into_iter().map(|it| String::from_utf8(it).unwrap()).collect();
        assert_eq!(rest.join(" "), expected, "{count} {from_back}");
    };
    check(0, false, "a b a c a d a b a");
    check(1, false, "b a c a d a b a");
    check(3, false, "b c d a b a");
    check(9, false, "b c d b");
    check(1, true, "a b a c a d a b");
    check(3, true, "a b a c d b");
    check(9, true, "b c d b");
}

#[test]
fn large_elements_are_shared_with_clones() {
    let mut list = List::new(-2);
    let large = |number: u8| vec![number; 100_000];
    for number in 0..20 {
        list.push_back(item(&large(number))).unwrap();
        list.push_back(item(b"small")).unwrap();
    }
    let mut kept = list.clone();
    let place = |list: &List, index: isize| match list.get(index) {
        Some(Item::Bytes(bytes)) => bytes.as_ptr(),
        other => panic!("{other:?}"),
    };
    assert_eq!(list.set(5, item(b"other")), Ok(true));
    assert_eq!(list.insert_after(10, item(b"between")), Ok(true));
    for index in (12..40).step_by(2) {
        assert_eq!(place(&list, index + 1), place(&kept, index), "the bytes are not copied");
    }
    list.check();
    assert_eq!(list.pop_front(), Some(large(0)));
    assert_eq!(kept.pop_front(), Some(large(0)));
    assert!(list.memory_bytes() > 1_900_000);
    assert!(matches!(list.middle.leaves().nth(1), Some(Node::Large(_))));
    assert_eq!(list.middle.leaves().filter(|node| node.is_empty()).count(), 0);
}

#[test]
fn nodes_of_a_file_are_taken_as_they_are_unless_they_are_too_long() {
    let node = |count: usize| {
        let mut node = listpack::new();
        (0..count).for_each(|it| {
            listpack::push_back(&mut node, item(format!("{it} of {count}").as_bytes())).unwrap()
        });
        node
    };
    let mut list = List::new(100);
    for count in [3, 0, 100, 1, 250] {
        list.push_node(node(count)).unwrap();
        list.check();
    }
    let counts: Vec<_> = list.leaves().map(|bytes| View::trusted(bytes).len()).collect();
    assert_eq!(counts, [3, 100, 100, 100, 51]);
    list.push_back(item(b"more")).unwrap();
    assert_eq!(list.leaves().last().map(|bytes| View::trusted(bytes).len()), Some(52));
}

#[test]
fn lists_are_sent_to_other_threads() {
    fn check<T: Clone + Send + Sync + 'static>() {}
    check::<List>();
}
