//! Large sorted sets: members in order of their scores, and found by hash.
//!
//! ```text
//!  ranked   tree of leaves: score, member    in order of score, then of member; by position, score or element
//!  scores   tree of leaves: hash part, score in order of both; where in `ranked` a member is
//! ```
//!
//! - Scores are compared as numbers, so -0 equals 0; members with equal scores are compared byte by byte, and a member that
//!   another one continues comes first. That is the order of Redis.
//! - A hash part is the upper half of the hash. Members may share it: each candidate is looked up in `ranked`.
//! - A leaf stores its scores in 4 bytes each while that loses nothing, and the length of its members once while all are equal.

mod bound;
mod builder;
mod iter;
mod lengths;
mod packed;
mod ranked;
mod scan;
mod scores;
#[cfg(test)]
mod tests;
mod width;

use std::cell::Cell;

pub use builder::{Builder, RepeatedMember};
pub use iter::{Iter, IterBack};

use crate::hash::KeyHasher;
use crate::place::PlaceOf;
use crate::tree::{AtIndex, Bias, Leaf, Tree};
use bound::Bound;
use ranked::Ranked;
use scores::{BeforePart, ByEntry, Entry, Scores};

/// Members with scores, in order. See the [module](self).
///
/// A clone shares all leaves, costs nothing, and keeps what it has; either side copies the leaves that it changes. Scores must
/// not be NaN.
#[derive(Debug, Clone)]
pub struct SortedSet {
    hasher: KeyHasher,
    ranked: Tree<Ranked>,
    scores: Tree<Scores>,
    /// The bits of the hash part that tests keep, to have many equal ones.
    #[cfg(test)]
    part_mask: u32,
}

impl SortedSet {
    /// An empty set.
    #[must_use]
    pub fn new(hasher: KeyHasher) -> SortedSet {
        SortedSet {
            hasher,
            ranked: Tree::default(),
            scores: Tree::default(),
            #[cfg(test)]
            part_mask: u32::MAX,
        }
    }

    /// Number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranked.len()
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranked.is_empty()
    }

    /// Bytes of the set with all its allocations, as estimated. Leaves shared with clones count whole.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<SortedSet>() + self.ranked.memory_bytes() + self.scores.memory_bytes()
    }

    /// The score of a member.
    #[must_use]
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        self.find(self.part(member), member)
    }

    /// Adds a member with a score, or changes the score of the one that is there; returns the score that it had. An equal score
    /// changes nothing.
    pub fn insert(&mut self, member: &[u8], score: f64) -> Option<f64> {
        debug_assert!(!score.is_nan(), "a score is a number");
        let part = self.part(member);
        let old = self.find(part, member);
        match old {
            Some(old) if old == score => {}
            Some(old) => self.change(part, member, old, score),
            None => {
                self.insert_ranked(member, score);
                self.insert_score((part, score));
            }
        }
        old
    }

    /// Removes a member; returns the score that it had.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let part = self.part(member);
        let score = self.find(part, member)?;
        let mut way = Bound::Element { score, member, inclusive: true };
        self.ranked.edit(
            &mut way,
            Bias::Middle,
            || None,
            |leaf| {
                if let Some((place, _)) = leaf.find(member, score) {
                    leaf.remove(place, place + 1);
                }
            },
        );
        self.remove_score((part, score));
        Some(score)
    }

    /// The index of a member, from 0.
    #[must_use]
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        // What confirms a candidate's score is the way to its place: to ask for the score first would be to go it twice.
        self.find_by(self.part(member), |score| {
            let way = &mut Bound::Element { score, member, inclusive: true };
            let (leaf, before) = self.ranked.find_counted(way)?;
            leaf.find(member, score).map(|(place, _)| before + place)
        })
    }

    /// The element at an index from 0.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<(&[u8], f64)> {
        if index >= self.len() {
            return None;
        }
        let mut way = AtIndex(index);
        let leaf = self.ranked.find(&mut way)?;
        Some(leaf.element(way.0))
    }

    /// All elements in order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        self.iter_from(0)
    }

    /// The elements from an index on, in order; none when the index is not below the length.
    #[must_use]
    pub fn iter_from(&self, index: usize) -> Iter<'_> {
        Iter::new(&self.ranked, index)
    }

    /// Shows up to `count` elements from an index on to `visit`, in order: a little faster than an iterator.
    pub fn visit_from<'a>(&'a self, index: usize, count: usize, mut visit: impl FnMut(&'a [u8], f64)) {
        let mut left = count.min(self.len().saturating_sub(index));
        let mut way = AtIndex(index);
        let Some(mut walk) = self.ranked.walk(&mut way).filter(|_| left > 0) else { return };
        let mut place = way.0;
        loop {
            let leaf = walk.leaf();
            leaf.visit(place, left, &mut visit);
            left = left.saturating_sub(leaf.len() - place);
            if left == 0 || !walk.advance() {
                return;
            }
            place = 0;
        }
    }

    /// The element at an index and those before it, in reverse order. An index behind the end means the last element.
    #[must_use]
    pub fn iter_back_from(&self, index: usize) -> IterBack<'_> {
        IterBack::new(&self.ranked, index)
    }

    /// Number of elements whose score is less than this one, or `inclusive`, not greater: the index of the first that is not.
    #[must_use]
    pub fn count_below(&self, score: f64, inclusive: bool) -> usize {
        if inclusive && score == f64::INFINITY {
            // The end of a range that has none.
            return self.len();
        }
        self.count_before(Bound::Score { score, inclusive })
    }

    /// Number of elements whose member is less than this one, or `inclusive`, not greater. Means something only if all scores
    /// are equal.
    #[must_use]
    pub fn count_below_member(&self, member: &[u8], inclusive: bool) -> usize {
        self.count_before(Bound::Member { member, inclusive })
    }

    fn count_before(&self, mut bound: Bound<'_>) -> usize {
        let found = self.ranked.find_counted(&mut bound);
        found.map_or(0, |(leaf, before)| before + leaf.count_below(&bound))
    }

    /// Removes the elements at the indexes from `start` to before `end` and shows each to `visit`, in order; returns their
    /// number. An `end` behind the last element means that one.
    pub fn remove_range(&mut self, start: usize, end: usize, mut visit: impl FnMut(&[u8], f64)) -> usize {
        let end = end.min(self.len());
        if start >= end {
            return 0;
        }
        if start == 0 && end == self.len() {
            self.iter().for_each(|(member, score)| visit(member, score));
            self.ranked = Tree::default();
            self.scores = Tree::default();
            return end;
        }
        let mut left = end - start;
        let mut entries = Vec::new();
        while left > 0 {
            // The place of the first element in its leaf, once the way down has been gone.
            let place = Cell::new(start);
            let (hasher, mask) = (self.hasher, self.mask());
            let removed = self.ranked.edit(
                &mut PlaceOf(&place),
                Bias::Middle,
                || None,
                |leaf| {
                    let from = place.get();
                    let to = leaf.len().min(from + left);
                    for (member, score) in leaf.elements(from).take(to - from) {
                        visit(member, score);
                        entries.push((part_of(&hasher, member) & mask, score));
                    }
                    leaf.remove(from, to);
                    to - from
                },
            );
            entries.drain(..).for_each(|entry| self.remove_score(entry));
            left -= removed.unwrap_or(left);
        }
        end - start
    }

    /// The upper half of a member's hash.
    #[inline]
    fn part(&self, member: &[u8]) -> u32 {
        part_of(&self.hasher, member) & self.mask()
    }

    #[cfg(not(test))]
    #[inline]
    fn mask(&self) -> u32 {
        u32::MAX
    }

    #[cfg(test)]
    fn mask(&self) -> u32 {
        self.part_mask
    }

    /// The score of a member with this hash part.
    fn find(&self, part: u32, member: &[u8]) -> Option<f64> {
        self.find_by(part, |score| self.find_ranked(member, score))
    }

    /// What `look_up` finds by the first score, of those that members with this hash part have, by which it finds anything.
    #[inline]
    fn find_by<T>(&self, part: u32, look_up: impl Fn(f64) -> Option<T>) -> Option<T> {
        let leaf = self.scores.find(&mut BeforePart::new(part))?;
        let from = leaf.count_below(part);
        for (found, score) in leaf.entries(from) {
            if found != part {
                return None;
            }
            if let Some(it) = look_up(score) {
                return Some(it);
            }
        }
        // More entries with this part may be in the leaves behind.
        let mut walk = self.scores.walk(&mut BeforePart::new(part))?;
        while walk.advance() {
            for (found, score) in walk.leaf().entries(0) {
                if found != part {
                    return None;
                }
                if let Some(it) = look_up(score) {
                    return Some(it);
                }
            }
        }
        None
    }

    /// The score, as it is stored, of the element with this score and member.
    fn find_ranked(&self, member: &[u8], score: f64) -> Option<f64> {
        let leaf = self.ranked.find(&mut Bound::Element { score, member, inclusive: true })?;
        leaf.find(member, score).map(|(_, score)| score)
    }

    fn insert_ranked(&mut self, member: &[u8], score: f64) {
        let mut way = Bound::Element { score, member, inclusive: true };
        let make = || Some(Ranked::new());
        self.ranked.edit(&mut way, Bias::Middle, make, |leaf| leaf.insert(member, score));
    }

    fn insert_score(&mut self, entry: Entry) {
        let make = || Some(Scores::new());
        self.scores.edit(&mut ByEntry::new(entry), Bias::Middle, make, |leaf| leaf.insert(entry));
    }

    fn remove_score(&mut self, entry: Entry) {
        self.scores.edit(&mut ByEntry::new(entry), Bias::Middle, || None, |leaf| leaf.remove(entry));
    }

    /// Gives a member another score.
    fn change(&mut self, part: u32, member: &[u8], old: f64, new: f64) {
        let mut way = Bound::Element { score: old, member, inclusive: true };
        let is_moved =
            self.ranked.edit(&mut way, Bias::Middle, || None, |leaf| leaf.move_within(member, old, new));
        if is_moved != Some(true) {
            self.insert_ranked(member, new);
        }
        let entry = (part, old);
        let is_replaced = self.scores.edit(
            &mut ByEntry::new(entry),
            Bias::Middle,
            || None,
            |leaf| leaf.replace(entry, new),
        );
        if is_replaced != Some(true) {
            self.insert_score((part, new));
        }
    }

    /// Checks what holds between leaves and between the trees.
    #[cfg(test)]
    fn check(&self) {
        self.ranked.check();
        self.scores.check();
        self.ranked.leaves().for_each(Ranked::check);
        self.scores.leaves().for_each(Scores::check);
        assert!(self.iter().is_sorted_by(|a, b| (a.1, a.0) < (b.1, b.0)), "elements are in order");
        let mut expected: Vec<Entry> =
            self.iter().map(|(member, score)| (self.part(member), score)).collect();
        expected.sort_by(|a, b| a.partial_cmp(b).expect("scores are numbers"));
        let entries: Vec<Entry> = self.scores.leaves().flat_map(|leaf| leaf.entries(0)).collect();
        assert_eq!(entries, expected, "each element has an entry");
    }
}

/// The upper half of a member's hash.
#[inline]
fn part_of(hasher: &KeyHasher, member: &[u8]) -> u32 {
    u32::try_from(hasher.hash(member) >> 32).expect("half of 64 bits")
}
