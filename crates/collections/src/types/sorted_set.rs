//! Sorted sets: members with scores, in the order of (score, member).

use std::cmp::Ordering;

use super::{Either, Limits, PACKED_LEN_MAX, pairs};
use crate::double::{as_integer, format_double};
use crate::hash::KeyHasher;
use crate::listpack::{self, At, Item, Scratch, View};
use crate::sorted_set;

/// Members with scores that are numbers, in ascending order of score, then member.
#[derive(Debug, Clone)]
pub enum SortedSet {
    /// A listpack: each member followed by its score.
    Packed(Vec<u8>),
    /// Two trees.
    Large(sorted_set::SortedSet),
}

/// A [`SortedSet`], borrowed.
#[derive(Debug, Clone, Copy)]
pub enum SortedSetRef<'a> {
    /// See [`SortedSet::Packed`].
    Packed(View<'a>),
    /// See [`SortedSet::Large`].
    Large(&'a sorted_set::SortedSet),
}

/// The score that an element of a listpack stands for; none if it is no number.
#[must_use]
pub fn parse_score(item: Item<'_>) -> Option<f64> {
    match item {
        #[expect(
            clippy::cast_precision_loss,
            reason = "an integer that was written for a score is one of its values"
        )]
        Item::Int(number) => Some(number as f64),
        Item::Bytes(text) => {
            let score: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
            (!score.is_nan()).then_some(score)
        }
    }
}

/// The score of a listpack that was checked.
fn score_of(item: Item<'_>) -> f64 {
    parse_score(item).unwrap_or(0.0)
}

/// A score as an element of a listpack: an integer where it is one.
fn with_score<R>(score: f64, write: impl FnOnce(Item<'_>) -> R) -> R {
    // Redis writes -0 as 0.
    match as_integer(score + 0.0) {
        Some(integer) => write(Item::Int(integer)),
        None => write(Item::Bytes(format_double(score).as_bytes())),
    }
}

/// Compares an element of a listpack with a member, byte by byte.
fn compare(item: Item<'_>, member: &[u8]) -> Ordering {
    item.as_bytes(&mut Scratch::new()).cmp(member)
}

impl SortedSet {
    /// A sorted set without members, in memory that may be used again.
    #[must_use]
    pub fn empty(mut memory: Vec<u8>) -> SortedSet {
        listpack::clear_into(&mut memory);
        SortedSet::Packed(memory)
    }

    /// The sorted set, borrowed.
    #[must_use]
    pub fn view(&self) -> SortedSetRef<'_> {
        match self {
            SortedSet::Packed(list) => SortedSetRef::Packed(View::trusted(list)),
            SortedSet::Large(set) => SortedSetRef::Large(set),
        }
    }

    /// Sets the score of a member; returns the one that it had.
    pub fn insert(&mut self, member: &[u8], score: f64, limits: &Limits, hasher: KeyHasher) -> Option<f64> {
        match self {
            SortedSet::Packed(list) => {
                let view = View::trusted(list);
                let old = view.find(member, 1).and_then(|at| Some((at, score_of(view.at(view.next(at)?)?))));
                if let Some((at, old)) = old {
                    #[expect(clippy::float_cmp, reason = "whether it is another score")]
                    let is_other = old != score;
                    if is_other {
                        listpack::remove(list, at, 2);
                        insert_in_order(list, member, score);
                    }
                    return Some(old);
                }
                if view.len() / 2 >= limits.sorted_set_entries
                    || member.len() > limits.sorted_set_value
                    || list.len() + member.len() > PACKED_LEN_MAX
                {
                    self.make_large(hasher);
                    return self.insert(member, score, limits, hasher);
                }
                insert_in_order(list, member, score);
                None
            }
            SortedSet::Large(set) => set.insert(member, score),
        }
    }

    /// Removes a member; returns its score.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match self {
            SortedSet::Packed(list) => {
                let view = View::trusted(list);
                let at = view.find(member, 1)?;
                let score = score_of(view.at(view.next(at)?)?);
                listpack::remove(list, at, 2);
                Some(score)
            }
            SortedSet::Large(set) => set.remove(member),
        }
    }

    /// Removes the members from one place to before another; returns how many there were.
    pub fn remove_range(&mut self, start: usize, end: usize) -> usize {
        let end = end.min(self.view().len());
        if start >= end {
            return 0;
        }
        match self {
            SortedSet::Packed(list) => {
                let index = isize::try_from(start * 2).expect("packed values are short");
                listpack::remove_range(list, index, (end - start) * 2) / 2
            }
            SortedSet::Large(set) => set.remove_range(start, end, |_, _| {}),
        }
    }

    /// Bytes of all its allocations, as estimated.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match self {
            SortedSet::Packed(bytes) => bytes.capacity(),
            SortedSet::Large(set) => set.memory_bytes(),
        }
    }

    fn make_large(&mut self, hasher: KeyHasher) {
        let SortedSet::Packed(list) = self else { return };
        let mut set = sorted_set::SortedSet::new(hasher);
        let mut text = Scratch::new();
        for (member, score) in pairs(View::trusted(list)) {
            set.insert(member.as_bytes(&mut text), score_of(score));
        }
        *self = SortedSet::Large(set);
    }
}

/// Adds a member that is not there where it belongs.
fn insert_in_order(list: &mut Vec<u8>, member: &[u8], score: f64) {
    let view = View::trusted(list);
    let mut place = view.first();
    while let Some(at) = place {
        let (Some(known), Some(score_at)) = (view.at(at), view.next(at)) else { break };
        let known_score = view.at(score_at).map_or(0.0, score_of);
        let order = known_score.partial_cmp(&score).unwrap_or(Ordering::Equal);
        if order.then_with(|| compare(known, member)) == Ordering::Greater {
            break;
        }
        place = view.next(score_at);
    }
    let mut put = |place: Option<At>, item: Item<'_>| {
        let done = match place {
            Some(at) => listpack::insert_before(list, at, item).map(|_| ()),
            None => listpack::push_back(list, item),
        };
        done.expect("packed values are far below 1 GiB");
    };
    match place {
        // What is inserted last comes first.
        Some(_) => {
            with_score(score, |item| put(place, item));
            put(place, Item::from_bytes(member));
        }
        None => {
            put(None, Item::from_bytes(member));
            with_score(score, |item| put(None, item));
        }
    }
}

impl<'a> SortedSetRef<'a> {
    /// Number of members.
    #[must_use]
    pub fn len(self) -> usize {
        match self {
            SortedSetRef::Packed(list) => list.len() / 2,
            SortedSetRef::Large(set) => set.len(),
        }
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The name of the encoding, as `OBJECT ENCODING` of Redis 7.0 says it.
    #[must_use]
    pub fn encoding(self) -> &'static str {
        match self {
            SortedSetRef::Packed(_) => "listpack",
            SortedSetRef::Large(_) => "skiplist",
        }
    }

    /// The score of a member.
    #[must_use]
    pub fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            SortedSetRef::Packed(list) => list.at(list.next(list.find(member, 1)?)?).map(score_of),
            SortedSetRef::Large(set) => set.score(member),
        }
    }

    /// Number of members before this one.
    #[must_use]
    pub fn rank(self, member: &[u8]) -> Option<usize> {
        match self {
            SortedSetRef::Packed(list) => pairs(list).position(|(known, _)| known.is(member)),
            SortedSetRef::Large(set) => set.rank(member),
        }
    }

    /// The member with so many before it.
    #[must_use]
    pub fn nth(self, index: usize) -> Option<(Item<'a>, f64)> {
        match self {
            SortedSetRef::Packed(list) => {
                pairs(list).nth(index).map(|(member, score)| (member, score_of(score)))
            }
            SortedSetRef::Large(set) => set.at(index).map(|(member, score)| (Item::Bytes(member), score)),
        }
    }

    /// Members with scores, ascending.
    pub fn iter(self) -> impl Iterator<Item = (Item<'a>, f64)> {
        self.iter_from(0)
    }

    /// Members with scores, ascending from the one with so many before it.
    pub fn iter_from(self, index: usize) -> impl Iterator<Item = (Item<'a>, f64)> {
        match self {
            SortedSetRef::Packed(list) => {
                Either::Packed(pairs(list).skip(index).map(|(member, score)| (member, score_of(score))))
            }
            SortedSetRef::Large(set) => {
                Either::Large(set.iter_from(index).map(|(member, score)| (Item::Bytes(member), score)))
            }
        }
    }

    /// Shows up to `count` members with scores to `visit`, ascending from the one with so many before it.
    pub fn visit_from(self, index: usize, count: usize, mut visit: impl FnMut(Item<'a>, f64)) {
        match self {
            SortedSetRef::Packed(_) => {
                self.iter_from(index).take(count).for_each(|(member, score)| visit(member, score));
            }
            SortedSetRef::Large(set) => {
                set.visit_from(index, count, |member, score| visit(Item::Bytes(member), score));
            }
        }
    }

    /// Members with scores, descending from the one with so many before it.
    pub fn iter_back_from(self, index: usize) -> impl Iterator<Item = (Item<'a>, f64)> {
        match self {
            SortedSetRef::Packed(list) => {
                let behind = (list.len() / 2).saturating_sub(index.saturating_add(1));
                let mut items = list.iter().rev().skip(behind * 2);
                Either::Packed(std::iter::from_fn(move || {
                    let score = items.next()?;
                    Some((items.next()?, score_of(score)))
                }))
            }
            SortedSetRef::Large(set) => {
                Either::Large(set.iter_back_from(index).map(|(member, score)| (Item::Bytes(member), score)))
            }
        }
    }

    /// Number of members with a score below this one, or at most this one where it is `inclusive`.
    #[must_use]
    pub fn count_below(self, score: f64, inclusive: bool) -> usize {
        match self {
            SortedSetRef::Packed(_) => {
                self.iter().take_while(|(_, known)| *known < score || (inclusive && *known == score)).count()
            }
            SortedSetRef::Large(set) => set.count_below(score, inclusive),
        }
    }

    /// Number of members that come before this one, itself included where it is there and that is wanted. Of use where all
    /// scores are equal; otherwise unspecified.
    #[must_use]
    pub fn count_below_member(self, member: &[u8], inclusive: bool) -> usize {
        match self {
            SortedSetRef::Packed(_) => {
                let is_below = |known| match compare(known, member) {
                    Ordering::Less => true,
                    Ordering::Equal => inclusive,
                    Ordering::Greater => false,
                };
                self.iter().take_while(|(known, _)| is_below(*known)).count()
            }
            SortedSetRef::Large(set) => set.count_below_member(member, inclusive),
        }
    }

    /// As [`super::HashRef::scan`].
    pub fn scan(self, cursor: u64, count: usize, mut visit: impl FnMut(Item<'_>, f64)) -> u64 {
        match self {
            SortedSetRef::Packed(_) => {
                self.iter().for_each(|(member, score)| visit(member, score));
                0
            }
            SortedSetRef::Large(set) => {
                set.scan(cursor, count, |member, score| visit(Item::Bytes(member), score))
            }
        }
    }
}
