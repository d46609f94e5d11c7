//! Union, intersection and difference of sets and sorted sets. A member of a set has the score 1.
//!
//! Sums depend on the order of what is added, which is that of Redis 7.0: from the smallest input to the largest.

use std::cmp::{Ordering, Reverse};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use holdfast_collections::listpack::{Item, Scratch};
use holdfast_collections::types::{SetRef, SortedSet, SortedSetRef};

use crate::engine::Tools;

/// What is combined.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    /// A key that is not there.
    Absent,
    Set(SetRef<'a>),
    SortedSet(SortedSetRef<'a>),
}

impl<'a> Source<'a> {
    fn len(self) -> usize {
        match self {
            Source::Absent => 0,
            Source::Set(set) => set.len(),
            Source::SortedSet(set) => set.len(),
        }
    }

    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Source::Absent => None,
            Source::Set(set) => set.contains(member).then_some(1.0),
            Source::SortedSet(set) => set.score(member),
        }
    }

    fn iter(self) -> impl Iterator<Item = (Item<'a>, f64)> {
        let (set, sorted_set) = match self {
            Source::Absent => (None, None),
            Source::Set(set) => (Some(set), None),
            Source::SortedSet(sorted_set) => (None, Some(sorted_set)),
        };
        let members = set.into_iter().flat_map(|set| set.iter()).map(|member| (member, 1.0));
        members.chain(sorted_set.into_iter().flat_map(|set| set.iter()))
    }
}

/// A source, and what its scores are multiplied by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) source: Source<'a>,
    pub(super) weight: f64,
}

impl Input<'_> {
    /// A score of the source as it counts. Infinity times 0 is 0.
    fn weigh(self, score: f64) -> f64 {
        let weighed = score * self.weight;
        if weighed.is_nan() { 0.0 } else { weighed }
    }
}

/// What becomes of the scores of a member that several inputs have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    /// Adds a score, which may be NaN. The sum of both infinities is 0.
    fn add(self, total: f64, score: f64) -> f64 {
        match self {
            Aggregate::Sum => {
                let sum = total + score;
                if sum.is_nan() { 0.0 } else { sum }
            }
            Aggregate::Min if score < total => score,
            Aggregate::Max if score > total => score,
            Aggregate::Min | Aggregate::Max => total,
        }
    }
}

/// Members with scores, in no particular order.
pub(super) type Members<'a> = Vec<(Item<'a>, f64)>;

/// The members of all inputs, of which there is one at least; in the order of the smallest input.
pub(super) fn intersection<'a>(
    mut inputs: Vec<Input<'a>>,
    aggregate: Aggregate,
) -> impl Iterator<Item = (Item<'a>, f64)> {
    inputs.sort_by_key(|input| input.source.len());
    let first = inputs.remove(0);
    first.source.iter().filter_map(move |(member, score)| {
        let mut text = Scratch::new();
        let name = member.as_bytes(&mut text);
        inputs
            .iter()
            // Unlike the first one, these products may be NaN here, as in Redis.
            .try_fold(first.weigh(score), |total, input| {
                Some(aggregate.add(total, input.source.score(name)? * input.weight))
            })
            .map(|total| (member, total))
    })
}

/// The members of any input.
pub(super) fn union(mut inputs: Vec<Input<'_>>, aggregate: Aggregate) -> Members<'_> {
    inputs.sort_by_key(|input| input.source.len());
    let capacity = inputs.last().map_or(0, |input| input.source.len());
    let mut places: HashMap<Name<'_>, usize> = HashMap::with_capacity(capacity);
    let mut members: Members<'_> = Vec::with_capacity(capacity);
    for input in inputs {
        for (member, score) in input.source.iter() {
            let score = input.weigh(score);
            match places.entry(Name::from(member)) {
                Entry::Occupied(place) => {
                    let total = &mut members[*place.get()].1;
                    *total = aggregate.add(*total, score);
                }
                Entry::Vacant(place) => {
                    place.insert(members.len());
                    members.push((member, score));
                }
            }
        }
    }
    members
}

/// The members of the first input that no other one has. There is one input at least; weights do not count.
pub(super) fn difference(mut inputs: Vec<Input<'_>>) -> Members<'_> {
    let first = inputs.remove(0).source;
    let mut others: Vec<Source<'_>> = inputs.into_iter().map(|input| input.source).collect();
    if first.len() == 0 {
        return Vec::new();
    }
    // Two ways, as in Redis: looking up each member costs about half as much as putting one into a table.
    let lookups = first.len().saturating_mul(others.len() + 1);
    let elements: usize = others.iter().map(|source| source.len()).sum::<usize>().saturating_add(first.len());
    if lookups / 2 <= elements {
        others.sort_by_key(|source| Reverse(source.len()));
        let mut text = Scratch::new();
        return first
            .iter()
            .filter(|(member, _)| {
                let name = member.as_bytes(&mut text);
                others.iter().all(|source| source.score(name).is_none())
            })
            .collect();
    }
    let removed: HashSet<Name<'_>> =
        others.iter().flat_map(|source| source.iter()).map(|(member, _)| Name::from(member)).collect();
    first.iter().filter(|(member, _)| !removed.contains(&Name::from(*member))).collect()
}

/// Brings members into the order of a sorted set.
pub(super) fn sort(members: &mut Members<'_>) {
    let (mut text, mut other_text) = (Scratch::new(), Scratch::new());
    members.sort_by(|(member, score), (other, other_score)| {
        let order = score.partial_cmp(other_score).unwrap_or(Ordering::Equal);
        order.then_with(|| member.as_bytes(&mut text).cmp(other.as_bytes(&mut other_text)))
    });
}

/// The sorted set that has these members.
pub(super) fn build_set(members: &Members<'_>, tools: &Tools) -> SortedSet {
    let mut set = SortedSet::empty(Vec::new());
    let mut text = Scratch::new();
    for (member, score) in members {
        set.insert(member.as_bytes(&mut text), *score, &tools.limits, tools.hasher);
    }
    set
}

/// A member as the key of a table: an [`Item`] in the one of its two forms that Redis writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Name<'a> {
    Int(i64),
    Bytes(&'a [u8]),
}

impl<'a> From<Item<'a>> for Name<'a> {
    fn from(item: Item<'a>) -> Name<'a> {
        let item = if let Item::Bytes(bytes) = item { Item::from_bytes(bytes) } else { item };
        match item {
            Item::Int(number) => Name::Int(number),
            Item::Bytes(bytes) => Name::Bytes(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use holdfast_collections::types::Set;

    use super::*;

    const INFINITY: f64 = f64::INFINITY;

    fn sorted_set(members: &[(&str, f64)], tools: &Tools) -> SortedSet {
        let mut set = SortedSet::empty(Vec::new());
        for (member, score) in members {
            set.insert(member.as_bytes(), *score, &tools.limits, tools.hasher);
        }
        set
    }

    fn input(set: &SortedSet, weight: f64) -> Input<'_> {
        Input { source: Source::SortedSet(set.view()), weight }
    }

    fn text(mut members: Members<'_>) -> String {
        sort(&mut members);
        let member = |(member, score): &(Item<'_>, f64)| {
            format!("{}:{score}", String::from_utf8_lossy(member.as_bytes(&mut Scratch::new())))
        };
        members.iter().map(member).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn scores_are_aggregated_with_weights() {
        let tools = Tools::random();
        let one = sorted_set(&[("a", 1.0), ("b", 2.0), ("7", 3.0)], &tools);
        let other = sorted_set(&[("b", 1.0), ("7", 2.0), ("d", 3.0), ("e", 9.0)], &tools);
        let inputs = || vec![input(&one, 2.0), input(&other, 3.0)];
        assert_eq!(text(union(inputs(), Aggregate::Sum)), "a:2 b:7 d:9 7:12 e:27");
        assert_eq!(text(union(inputs(), Aggregate::Min)), "a:2 b:3 7:6 d:9 e:27");
        assert_eq!(text(union(inputs(), Aggregate::Max)), "a:2 b:4 7:6 d:9 e:27");
        assert_eq!(text(intersection(inputs(), Aggregate::Sum).collect()), "b:7 7:12");
        assert_eq!(text(intersection(inputs(), Aggregate::Min).collect()), "b:3 7:6");
        assert_eq!(text(difference(inputs())), "a:1");
    }

    #[test]
    fn sets_have_the_score_one_and_absent_keys_nothing() {
        let tools = Tools::random();
        let scores = sorted_set(&[("1", 5.0), ("b", 2.0)], &tools);
        let (mut numbers, mut names) = (Set::empty(Vec::new()), Set::empty(Vec::new()));
        for member in ["1", "2"] {
            numbers.insert(member.as_bytes(), &tools.limits, tools.hasher);
        }
        for member in ["1", "b", "c"] {
            names.insert(member.as_bytes(), &tools.limits, tools.hasher);
        }
        let input = |source| Input { source, weight: 1.0 };
        let scores = input(Source::SortedSet(scores.view()));
        let (numbers, names) = (input(Source::Set(numbers.view())), input(Source::Set(names.view())));
        let absent = input(Source::Absent);
        assert_eq!(text(union(vec![scores, numbers, names, absent], Aggregate::Sum)), "2:1 c:1 b:3 1:7");
        assert_eq!(text(intersection(vec![scores, numbers, names], Aggregate::Sum).collect()), "1:7");
        assert_eq!(text(intersection(vec![scores, absent], Aggregate::Sum).collect()), "");
        assert_eq!(text(difference(vec![scores, numbers, absent])), "b:2");
        assert_eq!(text(difference(vec![names, scores])), "c:1");
        assert_eq!(text(difference(vec![absent, scores])), "");
        assert_eq!(text(difference(vec![scores, scores])), "");
    }

    #[test]
    fn a_difference_is_the_same_both_ways() {
        let tools = Tools::random();
        let names: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let members: Vec<(&str, f64)> =
            names.iter().map(String::as_str).zip((0..100).map(f64::from)).collect();
        let all = sorted_set(&members, &tools);
        let few = sorted_set(&members[..97], &tools);
        let none = sorted_set(&[("x", 1.0)], &tools);
        assert_eq!(text(difference(vec![input(&all, 1.0), input(&few, 1.0)])), "97:97 98:98 99:99");
        let mut many = vec![input(&all, 1.0), input(&few, 1.0)];
        many.resize(20, input(&none, 1.0));
        assert_eq!(text(difference(many)), "97:97 98:98 99:99");
    }

    #[test]
    fn what_is_not_a_number_counts_as_zero() {
        assert_eq!(Aggregate::Sum.add(INFINITY, -INFINITY), 0.0);
        assert_eq!(Aggregate::Sum.add(1.0, f64::NAN), 0.0);
        assert_eq!(Aggregate::Min.add(1.0, f64::NAN), 1.0);
        assert_eq!(Aggregate::Max.add(1.0, f64::NAN), 1.0);
        assert_eq!(Aggregate::Max.add(-INFINITY, 1.0), 1.0);
        assert_eq!(Input { source: Source::Absent, weight: 0.0 }.weigh(INFINITY), 0.0);
        let tools = Tools::random();
        let (one, other) = (sorted_set(&[("a", INFINITY)], &tools), sorted_set(&[("a", 5.0)], &tools));
        let inputs = [input(&one, 0.0), input(&other, 1.0)];
        assert_eq!(text(union(inputs.to_vec(), Aggregate::Sum)), "a:5");
        // As Redis: of the first input the product counts as 0, of any other one the sum does.
        let [one, other] = inputs;
        assert_eq!(text(intersection(vec![one, other], Aggregate::Sum).collect()), "a:5");
        assert_eq!(text(intersection(vec![other, one], Aggregate::Sum).collect()), "a:0");
    }
}
