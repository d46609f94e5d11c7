use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::fields::LONG_LEN_MIN;
use super::*;
use crate::hash::HashSeed;

fn hasher() -> KeyHasher {
    KeyHasher::new(HashSeed([1, 2]))
}

fn empty(with_values: bool) -> Dict {
    if with_values { Dict::with_values(hasher()) } else { Dict::without_values(hasher()) }
}

/// The field of a number: most are short, some take two bytes for their length, some are long, one is empty.
fn field(number: usize) -> Vec<u8> {
    let len = match number {
        0 => 0,
        it if it % 37 == 0 => LONG_LEN_MIN + it % 3,
        it if it % 41 == 0 => LONG_LEN_MIN - 1,
        it if it % 11 == 0 => 120 + it % 16,
        it => 4 + it % 20,
    };
    number.to_string().into_bytes().into_iter().cycle().take(len).collect()
}

/// A value whose length is one of those that make a difference.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![
        4 => 0usize..40,
        2 => 100usize..400,
        1 => LONG_LEN_MIN - 1..LONG_LEN_MIN + 2,
        1 => Just(5000usize),
    ];
    (len, any::<u8>()).prop_map(|(len, byte)| vec![byte; len])
}

/// What a dict should have: fields and values.
type Model = HashMap<Vec<u8>, Vec<u8>>;

/// A dict whose hashes may be made equal, and the fields that it should have.
struct Pair {
    dict: Dict,
    model: Model,
    /// Bits of the hashes that are kept.
    mask: u32,
}

impl Pair {
    fn new(with_values: bool, mask: u32) -> Pair {
        Pair { dict: empty(with_values), model: HashMap::new(), mask }
    }

    fn hash(&self, field: &[u8]) -> u32 {
        self.dict.hash(field) & self.mask
    }

    fn insert(&mut self, field: Vec<u8>, value: Vec<u8>) {
        let value = if self.dict.with_values { value } else { Vec::new() };
        let is_new = self.dict.insert_hashed(self.hash(&field), &field, &value);
        assert_eq!(is_new, self.model.insert(field, value).is_none());
    }

    fn remove(&mut self, field: &[u8]) {
        let removed = self.dict.remove_hashed(self.hash(field), field);
        assert_eq!(removed, self.model.remove(field).is_some());
    }

    fn take(&mut self, index: usize) {
        let expected = self.dict.nth(index).map(|(field, value)| (field.to_vec(), value.to_vec()));
        let taken = self.dict.take_nth(index);
        assert_eq!(taken, expected);
        assert_eq!(taken.is_some(), index < self.model.len());
        if let Some((field, value)) = taken {
            assert_eq!(self.model.remove(&field), Some(value));
        }
    }

    /// Checks the structure and the number of fields.
    fn check(&self) {
        self.dict.tree.check();
        self.dict.tree.leaves().for_each(Fields::check);
        assert_eq!(self.dict.len(), self.model.len());
        assert_eq!(self.dict.is_empty(), self.model.is_empty());
    }

    /// Checks that every way to read agrees with the model.
    fn check_fields(&self) {
        assert_eq!(contents(&self.dict), self.model);
        for (field, value) in &self.model {
            assert_eq!(self.dict.get_hashed(self.hash(field), field), Some(&value[..]));
        }
        for (index, entry) in self.dict.iter().enumerate() {
            assert_eq!(self.dict.nth(index), Some(entry));
        }
        assert_eq!(self.dict.nth(self.model.len()), None);
        let hashes: Vec<u32> = self.dict.iter().map(|(field, _)| self.hash(field)).collect();
        assert!(hashes.is_sorted());
    }
}

fn contents(dict: &Dict) -> Model {
    let all: HashMap<_, _> = dict.iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect();
    assert_eq!(all.len(), dict.len(), "no field is there twice");
    all
}

#[derive(Debug, Clone)]
enum Step {
    Insert(usize, Vec<u8>),
    Remove(usize),
    RemoveMany(usize, usize),
    Take(usize),
    Keep,
    Scan(usize),
}

const FIELDS: usize = 700;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..FIELDS, value()).prop_map(|(number, value)| Step::Insert(number, value)),
        4 => (0..FIELDS).prop_map(Step::Remove),
        1 => (0..FIELDS, 1usize..150).prop_map(|(from, count)| Step::RemoveMany(from, count)),
        1 => (0..FIELDS).prop_map(Step::Take),
        1 => Just(Step::Keep),
        2 => (0usize..60).prop_map(Step::Scan),
    ]
}

/// All bits of the hashes, or so few that leaves are full of equal ones.
fn mask() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(u32::MAX), 1 => Just(3), 1 => Just(0), 1 => Just(0xFF00_0000)]
}

/// A scan that is under way.
struct Scan {
    cursor: u64,
    /// Fields that have been there since the start.
    stayed: HashSet<Vec<u8>>,
    visited: HashSet<Vec<u8>>,
}

impl Scan {
    fn start(pair: &Pair) -> Scan {
        Scan { cursor: 0, stayed: pair.model.keys().cloned().collect(), visited: HashSet::new() }
    }

    fn forget_removed(&mut self, pair: &Pair) {
        self.stayed.retain(|field| pair.model.contains_key(field));
    }

    /// One call; true at the end.
    fn advance(&mut self, pair: &Pair, count: usize) -> bool {
        let mut visited = 0;
        self.cursor = pair.dict.scan(self.cursor, count, |field, value| {
            visited += 1;
            assert_eq!(pair.model.get(field).map(Vec::as_slice), Some(value));
            assert!(self.visited.insert(field.to_vec()), "no field is visited twice");
        });
        assert!(self.cursor <= u64::from(u32::MAX));
        if self.cursor != 0 {
            assert!(visited >= count.max(1), "{visited} of {count}");
            return false;
        }
        assert!(self.stayed.is_subset(&self.visited), "every field that stayed is visited");
        true
    }
}

proptest! {
    // Everything is checked after each step, which takes its time.
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_dict_holds_what_a_map_holds(
        with_values in any::<bool>(),
        mask in mask(),
        first in prop::collection::vec((0..FIELDS, value()), 0..600),
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut pair = Pair::new(with_values, mask);
        for (number, value) in first {
            pair.insert(field(number), value);
        }
        pair.check();
        let mut kept: Vec<(Dict, Model)> = Vec::new();
        let mut scan = Scan::start(&pair);
        for step in steps {
            match step {
                Step::Insert(number, value) => pair.insert(field(number), value),
                Step::Remove(number) => pair.remove(&field(number)),
                Step::RemoveMany(from, count) => (from..from + count).for_each(|number| pair.remove(&field(number))),
                Step::Take(index) => pair.take(index),
                Step::Keep => kept.push((pair.dict.clone(), pair.model.clone())),
                Step::Scan(count) => {
                    if scan.advance(&pair, count) {
                        scan = Scan::start(&pair);
                    }
                }
            }
            pair.check();
            scan.forget_removed(&pair);
        }
        pair.check_fields();
        while !scan.advance(&pair, 7) {}
        for (dict, expected) in kept {
            dict.tree.check();
            prop_assert_eq!(contents(&dict), expected);
        }
    }

    #[test]
    fn a_loader_adds_what_single_inserts_add(
        with_values in any::<bool>(),
        mask in mask(),
        before in prop::collection::vec((0..FIELDS, value()), 0..20),
        added in prop::collection::vec((0..FIELDS, value()), 0..900),
    ) {
        let mut pair = Pair::new(with_values, mask);
        for (number, value) in before {
            pair.insert(field(number), value);
        }
        let mut loader = Loader::new(pair.dict.clone());
        for (number, value) in added {
            let field = field(number);
            loader.add_hashed(pair.hash(&field), &field, &value);
            pair.model.insert(field, if with_values { value } else { Vec::new() });
        }
        pair.dict = loader.finish();
        pair.check();
        pair.check_fields();
    }

    #[test]
    fn pieces_are_what_a_dict_had(
        with_values in any::<bool>(),
        added in prop::collection::vec((0..FIELDS, value()), 0..900),
    ) {
        let mut pair = Pair::new(with_values, u32::MAX);
        for (number, value) in added {
            pair.insert(field(number), value);
        }
        let mut pieces = pair.dict.pieces();
        for number in 0..FIELDS {
            pair.dict.remove(&field(number));
        }
        prop_assert!(pair.dict.is_empty());
        let mut seen = HashMap::new();
        loop {
            prop_assert_eq!(pieces.remaining(), pair.model.len() - seen.len());
            let Some(piece) = pieces.next_piece() else { break };
            prop_assert!(piece.len() > 0);
            let count = piece.len();
            let before = seen.len();
            seen.extend(piece.map(|(field, value)| (field.to_vec(), value.to_vec())));
            prop_assert_eq!(seen.len(), before + count);
        }
        prop_assert_eq!(seen, pair.model);
    }
}

/// A dict with so many fields of 16 bytes, and values of 32 bytes.
fn filled(with_values: bool, len: usize) -> Dict {
    let mut dict = empty(with_values);
    for number in 0..len {
        assert!(dict.insert(&member(number), &[7; 32]));
    }
    dict
}

fn member(number: usize) -> [u8; 16] {
    format!("member:{number:09}").into_bytes().try_into().expect("it has 16 bytes")
}

/// Bytes for each field, in hundredths.
fn bytes_per_field(dict: &Dict) -> usize {
    dict.memory_bytes() * 100 / dict.len()
}

#[test]
fn members_take_few_bytes() {
    let check = |dict: Dict, max: usize| {
        let bytes = bytes_per_field(&dict);
        println!("{dict:?}: {}.{:02} bytes for each field", bytes / 100, bytes % 100);
        assert!(bytes <= max, "{bytes} hundredths of a byte for each field");
    };
    check(filled(false, 100_000), 28_00);
    check(filled(true, 100_000), 64_00);
    for (with_values, max) in [(false, 25_00), (true, 60_00)] {
        let mut loader = Loader::new(empty(with_values));
        (0..100_000).for_each(|number| loader.add(&member(number), &[7; 32]));
        check(loader.finish(), max);
    }
    // What is removed is given back.
    let mut dict = filled(false, 100_000);
    (0..90_000).for_each(|number| assert!(dict.remove(&member(number))));
    check(dict, 34_00);
}

#[test]
fn a_clone_shares_what_is_not_changed() {
    let mut dict = filled(false, 50_000);
    let kept = dict.clone();
    let copied = |dict: &Dict| {
        let ours: HashSet<*const Fields> = dict.tree.leaves().map(std::ptr::from_ref).collect();
        kept.tree.leaves().filter(|leaf| !ours.contains(&std::ptr::from_ref(*leaf))).count()
    };
    assert!(!dict.insert(&member(77), b""));
    assert!(!dict.remove(b"nothing"));
    assert_eq!(copied(&dict), 0, "what changes nothing copies no leaf");
    assert!(dict.remove(&member(77)));
    assert!(copied(&dict) <= 2, "{} leaves were copied for one change", copied(&dict));
    assert!(kept.contains(&member(77)));
}

#[test]
fn copies_of_a_leaf_share_its_long_strings() {
    let mut dict = empty(true);
    dict.insert(b"long", &vec![1; 1 << 20]);
    let start = |dict: &Dict| dict.get(b"long").map(<[u8]>::as_ptr);
    let kept = dict.clone();
    dict.insert(b"short", b"value");
    assert_eq!(start(&dict), start(&kept));
    // The copy takes less than the leaf that it was made of.
    dict.tree.check();
    // A value of the same length is replaced where it is, once nobody else has it.
    drop(kept);
    let before = start(&dict);
    dict.insert(b"long", &vec![2; 1 << 20]);
    assert_eq!(start(&dict), before);
    assert_eq!(dict.get(b"long"), Some(&vec![2; 1 << 20][..]));
    let bytes = dict.memory_bytes();
    assert!((1 << 20..(1 << 20) + 8192).contains(&bytes), "{bytes} bytes");
    dict.remove(b"long");
    assert!(dict.memory_bytes() < 300, "{} bytes", dict.memory_bytes());
}

#[test]
fn a_value_of_the_same_length_needs_no_memory() {
    let mut dict = filled(true, 1000);
    let bytes = dict.memory_bytes();
    for number in 0..1000 {
        assert!(!dict.insert(&member(number), &[8; 32]));
    }
    assert_eq!(dict.memory_bytes(), bytes);
    assert!(dict.iter().all(|(_, value)| value == [8; 32]));
}

#[test]
fn scans_end_and_know_their_cursors() {
    let visit_all = |dict: &Dict, cursor| {
        let mut visited = 0;
        (dict.scan(cursor, usize::MAX, |_, _| visited += 1), visited)
    };
    let dict = filled(false, 10_000);
    assert_eq!(visit_all(&empty(false), 0), (0, 0));
    assert_eq!(visit_all(&dict, 0), (0, 10_000));
    assert_eq!(visit_all(&dict, u64::from(u32::MAX) + 1), (0, 0));
    assert_eq!(visit_all(&dict, u64::MAX), (0, 0));
    let (mut cursor, mut calls, mut visited) = (0, 0, 0);
    loop {
        cursor = dict.scan(cursor, 10, |_, _| visited += 1);
        calls += 1;
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(visited, 10_000);
    assert!((990..=1000).contains(&calls), "{calls} calls");
}

#[test]
fn dicts_with_one_hasher_have_one_order() {
    let numbers: Vec<usize> = (0..5000).collect();
    let build = |numbers: &mut dyn Iterator<Item = &usize>| {
        let mut dict = empty(false);
        numbers.for_each(|number| assert!(dict.insert(&member(*number), b"")));
        dict
    };
    let (forward, back) = (build(&mut numbers.iter()), build(&mut numbers.iter().rev()));
    assert!(forward.iter().eq(back.iter()));
}

#[test]
fn dicts_cross_threads() {
    fn check<T: Send + Sync + Clone + fmt::Debug>() {}
    check::<Dict>();
    check::<Pieces>();
    assert_eq!(format!("{:?}", filled(false, 3)), "Dict { len: 3, with_values: false }");
}
