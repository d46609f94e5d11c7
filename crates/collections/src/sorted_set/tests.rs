//! Sorted sets against a model.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;

use super::{Builder, RepeatedMember, SortedSet};
use crate::hash::{HashSeed, KeyHasher};

fn hasher() -> KeyHasher {
    KeyHasher::new(HashSeed([7, 11]))
}

/// An empty set whose hash parts keep only these bits.
fn set_with_parts(part_mask: u32) -> SortedSet {
    SortedSet { part_mask, ..SortedSet::new(hasher()) }
}

/// Numbers without an order that could be noticed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// At least 0 and less than 1, with 53 random bits.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A score that is ordered, for the model.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Score(f64);

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.partial_cmp(&other.0).expect("scores are numbers")
    }
}

#[derive(Debug, Clone, Default)]
struct Model {
    scores: HashMap<Vec<u8>, f64>,
    ranked: BTreeMap<(Score, Vec<u8>), ()>,
}

impl Model {
    fn insert(&mut self, member: &[u8], score: f64) -> Option<f64> {
        let old = self.scores.get(member).copied();
        if old == Some(score) {
            return old;
        }
        self.remove(member);
        self.scores.insert(member.to_vec(), score);
        self.ranked.insert((Score(score), member.to_vec()), ());
        old
    }

    fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let score = self.scores.remove(member)?;
        self.ranked.remove(&(Score(score), member.to_vec()));
        Some(score)
    }

    fn elements(&self) -> Vec<(Vec<u8>, f64)> {
        self.ranked.keys().map(|(score, member)| (member.clone(), score.0)).collect()
    }
}

fn elements(set: &SortedSet) -> Vec<(Vec<u8>, f64)> {
    set.iter().map(|(member, score)| (member.to_vec(), score)).collect()
}

/// Whether all ways to read the set agree with its elements.
fn check_reads(set: &SortedSet, expected: &[(Vec<u8>, f64)]) {
    set.check();
    assert_eq!(elements(set), expected);
    assert_eq!(set.len(), expected.len());
    assert_eq!(set.is_empty(), expected.is_empty());
    let step = (expected.len() / 50).max(1);
    for (index, (member, score)) in expected.iter().enumerate().step_by(step) {
        assert_eq!(set.score(member).map(f64::to_bits), Some(score.to_bits()));
        assert_eq!(set.rank(member), Some(index));
        assert_eq!(set.at(index), Some((&member[..], *score)));
        let below = expected.iter().filter(|it| it.1 < *score).count();
        let up_to = expected.iter().filter(|it| it.1 <= *score).count();
        assert_eq!((set.count_below(*score, false), set.count_below(*score, true)), (below, up_to));
        let onward: Vec<_> =
            set.iter_from(index).take(200).map(|(member, score)| (member.to_vec(), score)).collect();
        assert_eq!(onward, expected[index..expected.len().min(index + 200)]);
        let mut visited = Vec::new();
        set.visit_from(index, 200, |member, score| visited.push((member.to_vec(), score)));
        assert_eq!(visited, onward);
        let mut back: Vec<_> =
            set.iter_back_from(index).take(200).map(|(member, score)| (member.to_vec(), score)).collect();
        back.reverse();
        assert_eq!(back, expected[(index + 1).saturating_sub(200)..=index]);
    }
    assert_eq!(set.at(expected.len()), None);
    assert_eq!(set.iter_from(expected.len()).next(), None);
    set.visit_from(expected.len(), 1, |_, _| panic!("nothing is there"));
    set.visit_from(0, 0, |_, _| panic!("nothing was asked for"));
    let last = expected.last().map(|(member, score)| (&member[..], *score));
    assert_eq!(set.iter_back_from(usize::MAX).next(), last);
    assert_eq!(set.iter_back_from(usize::MAX).count(), expected.len());
    assert_eq!(set.iter().len(), expected.len());
    assert_eq!(set.count_below(f64::INFINITY, true), expected.len());
    assert_eq!(set.count_below(f64::NEG_INFINITY, false), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Insert(Vec<u8>, f64),
    Remove(Vec<u8>),
    RemoveAt(usize),
    MoveAt(usize, f64),
    NudgeAt(usize, f64),
    RemoveRange(usize, usize),
    Keep,
}

fn member() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => (0u32..400).prop_map(|number| format!("m{number}").into_bytes()),
        1 => prop::collection::vec(0u8..3, 0..4),
        1 => (250usize..260, 0u8..3).prop_map(|(len, byte)| vec![byte; len]),
        1 => (1020usize..1030, 0u8..2).prop_map(|(len, byte)| vec![byte; len]),
    ]
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => (-20i32..20).prop_map(f64::from),
        2 => (-20i32..20).prop_map(|it| f64::from(it) / 4.0),
        1 => (-20i32..20).prop_map(|it| f64::from(it) / 10.0),
        1 => prop::sample::select(vec![f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, 1e300, 3e9, 4e18, 2_147_483_647.0]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (member(), score()).prop_map(|(member, score)| Step::Insert(member, score)),
        3 => member().prop_map(Step::Remove),
        3 => any::<usize>().prop_map(Step::RemoveAt),
        3 => (any::<usize>(), score()).prop_map(|(at, score)| Step::MoveAt(at, score)),
        3 => (any::<usize>(), -0.5f64..0.5).prop_map(|(at, by)| Step::NudgeAt(at, by)),
        1 => (any::<usize>(), 0usize..200).prop_map(|(at, len)| Step::RemoveRange(at, len)),
        1 => Just(Step::Keep),
    ]
}

fn run(set: &mut SortedSet, model: &mut Model, step: Step) {
    let nth = |model: &Model, at: usize| {
        let elements = model.elements();
        (!elements.is_empty()).then(|| elements[at % elements.len()].clone())
    };
    match step {
        Step::Insert(member, score) => {
            assert_eq!(set.insert(&member, score), model.insert(&member, score));
        }
        Step::Remove(member) => assert_eq!(set.remove(&member), model.remove(&member)),
        Step::RemoveAt(at) => {
            let Some((member, score)) = nth(model, at) else { return };
            assert_eq!(set.remove(&member), Some(score));
            model.remove(&member);
        }
        Step::MoveAt(at, score) => {
            let Some((member, _)) = nth(model, at) else { return };
            assert_eq!(set.insert(&member, score), model.insert(&member, score));
        }
        Step::NudgeAt(at, by) => {
            let Some((member, score)) = nth(model, at) else { return };
            assert_eq!(set.insert(&member, score + by), model.insert(&member, score + by));
        }
        Step::RemoveRange(at, len) => {
            let elements = model.elements();
            let start = at % (elements.len() + 1);
            let end = start + len;
            let expected = &elements[start..elements.len().min(end)];
            let mut removed = Vec::new();
            let number = set.remove_range(start, end, |member, score| removed.push((member.to_vec(), score)));
            assert_eq!((number, &removed[..]), (expected.len(), expected));
            for (member, _) in expected {
                model.remove(member);
            }
        }
        Step::Keep => {}
    }
}

fn check_steps(mut set: SortedSet, first: Vec<(Vec<u8>, f64)>, steps: Vec<Step>) {
    let mut model = Model::default();
    for (member, score) in first {
        run(&mut set, &mut model, Step::Insert(member, score));
    }
    let mut kept = None;
    for step in steps {
        if matches!(step, Step::Keep) {
            kept = Some((set.clone(), model.elements()));
        }
        run(&mut set, &mut model, step);
        set.check();
    }
    check_reads(&set, &model.elements());
    if let Some((set, expected)) = kept {
        check_reads(&set, &expected);
    }
}

proptest! {
    // Each case is long.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_set_holds_what_a_model_holds_and_clones_keep_what_they_had(
        first in prop::collection::vec((member(), score()), 0..600),
        steps in prop::collection::vec(step(), 0..150),
    ) {
        check_steps(SortedSet::new(hasher()), first, steps);
    }

    #[test]
    fn members_with_equal_hash_parts_are_told_apart(
        mask in prop::sample::select(vec![0, 1, 0b111, 0xF000_0000]),
        first in prop::collection::vec((member(), score()), 0..600),
        steps in prop::collection::vec(step(), 0..100),
    ) {
        check_steps(set_with_parts(mask), first, steps);
    }

    #[test]
    fn a_scan_visits_all_that_is_there_throughout(
        mask in prop::sample::select(vec![0, 0b111, u32::MAX]),
        first in prop::collection::vec((member(), score()), 0..600),
        count in 0usize..50,
        steps in prop::collection::vec(step(), 0..150),
    ) {
        let mut set = set_with_parts(mask);
        let mut model = Model::default();
        for (member, score) in first {
            run(&mut set, &mut model, Step::Insert(member, score));
        }
        let mut throughout: HashSet<Vec<u8>> = model.scores.keys().cloned().collect();
        let mut seen = HashSet::new();
        let mut steps = steps.into_iter();
        let mut cursor = 0;
        loop {
            let mut visited = HashSet::new();
            cursor = set.scan(cursor, count, |member, score| {
                assert_eq!(model.scores.get(member), Some(&score));
                assert!(visited.insert(member.to_vec()), "no element comes twice in one call");
            });
            assert!(cursor == 0 || visited.len() >= count);
            seen.extend(visited);
            if cursor == 0 {
                break;
            }
            for step in steps.by_ref().take(5) {
                run(&mut set, &mut model, step);
                throughout.retain(|member| model.scores.contains_key(member));
            }
        }
        prop_assert!(throughout.is_subset(&seen), "{} of {} were visited", seen.len(), throughout.len());
    }

    #[test]
    fn a_set_is_built_from_elements_in_any_order(
        elements in prop::collection::vec((member(), score()), 0..800),
        sorted in 0usize..3,
    ) {
        let mut model = Model::default();
        for (member, score) in elements.iter().rev() {
            model.insert(member, *score);
        }
        let expected = model.elements();
        // Each member once, in the order of `elements`, or sorted.
        let mut order: Vec<(Vec<u8>, f64)> = match sorted {
            0 => model.scores.iter().map(|(member, score)| (member.clone(), *score)).collect(),
            _ => expected.clone(),
        };
        if sorted == 2 {
            order.reverse();
        }
        let mut builder = Builder::new(hasher());
        order.iter().for_each(|(member, score)| builder.push(member, *score));
        let mut set = builder.finish().expect("each member came once");
        check_reads(&set, &expected);
        for (member, score) in &elements {
            prop_assert_eq!(set.insert(member, score + 1.0), model.insert(member, score + 1.0));
        }
        check_reads(&set, &model.elements());
    }
}

#[test]
fn a_member_that_comes_twice_is_refused() {
    let check = |elements: &[(&str, f64)], expected: bool| {
        let mut builder = Builder::new(hasher());
        elements.iter().for_each(|(member, score)| builder.push(member.as_bytes(), *score));
        assert_eq!(builder.finish().err(), expected.then_some(RepeatedMember), "{elements:?}");
    };
    check(&[("a", 1.0), ("b", 1.0), ("a", 2.0)], true);
    check(&[("a", 2.0), ("b", 1.0), ("a", 0.0)], true);
    check(&[("a", 1.0), ("a", 1.0)], true);
    check(&[("a", 2.0), ("b", 1.0), ("c", 3.0), ("b", 9.0)], true);
    check(&[("a", 2.0), ("b", 1.0), ("c", 3.0)], false);
    check(&[("b", 0.0), ("a", -0.0)], false);
}

#[test]
fn equal_scores_spread_over_many_leaves_in_order_of_members() {
    let mut set = SortedSet::new(hasher());
    let members: Vec<String> = (0..5_000).map(|number| format!("{:04}", number * 7919 % 5_000)).collect();
    for member in &members {
        assert_eq!(set.insert(member.as_bytes(), 3.5), None);
    }
    let expected: Vec<_> = (0..5_000).map(|number| (format!("{number:04}").into_bytes(), 3.5)).collect();
    check_reads(&set, &expected);
    let check = |member: &str, inclusive: bool, below: usize| {
        assert_eq!(set.count_below_member(member.as_bytes(), inclusive), below, "{member} {inclusive}");
    };
    check("", true, 0);
    check("0000", false, 0);
    check("0000", true, 1);
    check("2500", false, 2_500);
    check("2500", true, 2_501);
    check("25", true, 2_500);
    check("25000", false, 2_501);
    check("9", false, 5_000);
    // One of 64 at least, and each only once.
    let mut cursor = 0;
    let mut calls = 0;
    let mut seen = HashSet::new();
    loop {
        cursor = set.scan(cursor, 10, |member, _| assert!(seen.insert(member.to_vec())));
        calls += 1;
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen.len(), 5_000);
    assert!((32..=64).contains(&calls), "{calls} calls");
}

#[test]
fn a_scan_of_different_scores_visits_as_many_as_asked() {
    let mut set = SortedSet::new(hasher());
    for number in 0..1_000 {
        set.insert(format!("{number}").as_bytes(), f64::from(number));
    }
    let (mut cursor, mut calls) = (0, 0);
    loop {
        let mut visited = 0;
        cursor = set.scan(cursor, 10, |_, _| visited += 1);
        calls += 1;
        assert_eq!(visited, 10);
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(calls, 100);
    for foreign in [u64::from(u32::MAX) + 1, u64::MAX] {
        assert_eq!(set.scan(foreign, 10, |_, _| panic!("nothing is there")), 0);
    }
}

#[test]
fn leaves_widen_for_scores_that_need_it_and_narrow_when_they_are_split() {
    let mut set = SortedSet::new(hasher());
    let name = |number: u32| format!("member:{number:09}").into_bytes();
    for number in 0..2_000 {
        set.insert(&name(number), f64::from(number));
    }
    let narrow = set.memory_bytes();
    for number in (0..2_000).step_by(10) {
        set.insert(&name(number), f64::from(number) + 0.1);
    }
    let wide = set.memory_bytes();
    assert!(wide > narrow + 2_000 * 6, "{narrow} bytes, and {wide} with long scores");
    let expected: Vec<_> = (0..2_000)
        .map(|number| (name(number), f64::from(number) + if number % 10 == 0 { 0.1 } else { 0.0 }))
        .collect();
    check_reads(&set, &expected);
    for number in (0..2_000).step_by(10) {
        set.insert(&name(number), f64::from(number));
    }
    for number in 2_000..10_000 {
        set.insert(&name(number * 7919 % 8_000 + 2_000), f64::from(number));
        set.remove(&name(number - 2_000));
    }
    assert!(set.memory_bytes() < (set.len() * 48), "{} bytes for {}", set.memory_bytes(), set.len());
    set.check();
}

#[test]
fn members_of_any_length_join_those_of_one_length() {
    let (mut set, mut model) = (SortedSet::new(hasher()), Model::default());
    for number in 0..300 {
        let (member, score) = (format!("{number:08}").into_bytes(), f64::from(number * 7919 % 300));
        assert_eq!(set.insert(&member, score), model.insert(&member, score));
    }
    check_reads(&set, &model.elements());
    for (score, len) in [(7.0, 0), (150.0, 9), (299.0, 255), (20.5, 256), (0.0, 1024), (151.0, 1025)] {
        let member = vec![b'x'; len];
        assert_eq!(set.insert(&member, score), model.insert(&member, score));
        check_reads(&set, &model.elements());
    }
}

/// Some of those with one score are compared one after the other, and the others are halved.
#[test]
fn members_are_found_among_any_number_of_equal_scores() {
    for count in [0, 1, 7, 8, 9, 17, 100] {
        // All hash parts are equal, so that each score is tried for each member, also for one that is not there.
        let (mut set, mut model) = (set_with_parts(0), Model::default());
        let ties = (0..count).map(|number| (format!("tie {number:03}"), 5.0));
        for (member, score) in ties.chain([("front".to_owned(), 4.0), ("tie 999".to_owned(), 6.0)]) {
            assert_eq!(set.insert(member.as_bytes(), score), model.insert(member.as_bytes(), score));
        }
        check_reads(&set, &model.elements());
        for absent in ["", "a", "tie", "tie 0005", "tie 100", "tie 998", "z"] {
            let found = (set.rank(absent.as_bytes()), set.score(absent.as_bytes()));
            assert_eq!(found, (None, None), "{absent:?} of {count}");
        }
    }
}

#[test]
fn minus_zero_is_kept_and_equals_zero() {
    let mut set = SortedSet::new(hasher());
    set.insert(b"b", -0.0);
    set.insert(b"a", 0.0);
    check_reads(&set, &[(b"a".to_vec(), 0.0), (b"b".to_vec(), -0.0)]);
    assert_eq!(set.score(b"b").map(f64::to_bits), Some((-0.0_f64).to_bits()));
    assert_eq!(
        set.insert(b"b", 0.0).map(f64::to_bits),
        Some((-0.0_f64).to_bits()),
        "an equal score changes nothing"
    );
    assert_eq!(set.score(b"b").map(f64::to_bits), Some((-0.0_f64).to_bits()));
}

#[test]
fn memory_per_member_is_within_its_target() {
    let check = |name: &str, len: usize, target: f64, mut score: Box<dyn FnMut(&mut Random) -> f64>| {
        let mut random = Random(88_172_645_463_325_252);
        let mut set = SortedSet::new(hasher());
        while set.len() < len {
            let score = score(&mut random);
            set.insert(format!("{:016x}", random.next()).as_bytes(), score);
        }
        set.check();
        let per_member = set.memory_bytes() as f64 / len as f64;
        assert!(per_member <= target, "{name}: {per_member} bytes per member");
    };
    check("random integers", 100_000, 41.0, Box::new(|random| random.below(1_000_000) as f64));
    check("random integers of 31 bits", 20_000, 41.0, Box::new(|random| random.below(1 << 31) as f64));
    check("random fractions", 100_000, 45.0, Box::new(Random::fraction));
    let mut next = 0.0;
    check(
        "ascending integers",
        20_000,
        41.0,
        Box::new(move |_| {
            next += 1.0;
            next
        }),
    );
    let mut next = 1.7e12;
    check(
        "timestamps in milliseconds",
        20_000,
        45.0,
        Box::new(move |random| {
            next += random.below(100) as f64;
            next
        }),
    );
    check("equal scores", 20_000, 41.0, Box::new(|_| 0.0));
}

#[test]
fn leaves_filled_in_order_stay_full() {
    for descending in [false, true] {
        let mut set = SortedSet::new(hasher());
        for number in 0..20_000 {
            let number = if descending { 20_000 - number } else { number };
            set.insert(format!("{number:016}").as_bytes(), f64::from(number));
        }
        set.check();
        let per_leaf = set.len() / set.ranked.leaf_count();
        // 20 bytes each: the length of the members is stored once.
        assert!(per_leaf >= 100, "{per_leaf} elements in a leaf, descending: {descending}");
    }
}

#[test]
fn an_emptied_set_takes_no_memory() {
    for ways in 0..2 {
        let mut set = SortedSet::new(hasher());
        let empty = set.memory_bytes();
        for number in 0..3_000 {
            set.insert(format!("{number}").as_bytes(), f64::from(number) / 10.0);
        }
        if ways == 0 {
            assert_eq!(set.remove_range(0, usize::MAX, |_, _| {}), 3_000);
        } else {
            (0..3_000).for_each(|number| assert!(set.remove(format!("{number}").as_bytes()).is_some()));
        }
        assert_eq!(set.memory_bytes(), empty);
        check_reads(&set, &[]);
    }
}

#[test]
fn a_removal_of_most_elements_returns_memory() {
    let mut set = SortedSet::new(hasher());
    for number in 0..20_000 {
        set.insert(format!("{number:016}").as_bytes(), f64::from(number));
    }
    for number in (0..20_000).filter(|number| number % 10 != 0) {
        set.remove(format!("{number:016}").as_bytes());
    }
    set.check();
    let per_member = set.memory_bytes() / set.len();
    assert!(per_member < 45, "{per_member} bytes per member");
}

#[test]
fn long_members_are_shared_with_clones() {
    let mut set = SortedSet::new(hasher());
    let long = |number: u32| format!("{number}{}", "x".repeat(100_000)).into_bytes();
    for number in 0..20 {
        set.insert(&long(number), f64::from(number));
        set.insert(format!("{number}").as_bytes(), f64::from(number));
    }
    let kept = set.clone();
    let place = |set: &SortedSet, number: u32| set.at(set.rank(&long(number)).unwrap()).unwrap().0.as_ptr();
    set.insert(b"between", 9.5);
    set.remove(&long(3));
    for number in (0..20).filter(|number| *number != 3) {
        assert_eq!(place(&set, number), place(&kept, number), "the bytes of the member are not copied");
    }
    set.check();
    assert_eq!(kept.len(), 40);
    assert_eq!(set.len(), 40);
}

#[test]
fn sets_are_sent_to_other_threads() {
    fn check<T: Clone + Send + Sync + 'static>() {}
    check::<SortedSet>();
}
