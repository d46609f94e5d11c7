//! Leaves of parts of hashes with the scores of their members, in order of both.
//!
//! ```text
//!  hash parts   4 bytes each, little-endian
//!  scores       4 or 8 bytes each, see `Width`
//! ```

use super::width::{Width, fours, partition_point};
use crate::buffer::{grow, shrink};
use crate::memory::class_size;
use crate::spread::Spread;
use crate::tree::{Bias, Child, Descend, Leaf};

/// Most entries of a leaf.
const LEN_MAX: usize = 128;
const PART_LEN: usize = 4;

/// The score of a member, and the part of its hash by which it is found. Members with equal parts have an entry each.
pub(super) type Entry = (u32, f64);

/// Some entries in order. See the [module](self).
#[derive(Debug)]
pub(super) struct Scores {
    bytes: Vec<u8>,
    count: u16,
    width: Width,
}

impl Clone for Scores {
    /// With the capacity of the original, as the tree has counted it.
    fn clone(&self) -> Scores {
        let mut bytes = Vec::with_capacity(self.bytes.capacity());
        bytes.extend_from_slice(&self.bytes);
        Scores { bytes, ..*self }
    }
}

impl Leaf for Scores {
    type Key = Entry;

    #[inline]
    fn len(&self) -> usize {
        usize::from(self.count)
    }

    fn key(&self) -> Entry {
        self.entry(0)
    }

    fn memory_bytes(&self) -> usize {
        if self.bytes.capacity() == 0 { 0 } else { class_size(self.bytes.capacity()) }
    }

    fn is_full(&self) -> bool {
        self.len() > LEN_MAX
    }

    fn split(&mut self, _bias: Bias) -> Scores {
        let middle = self.len() / 2;
        let rest = Scores::of(self.entries(middle));
        *self = Scores::of(self.entries(0).take(middle));
        rest
    }

    fn can_absorb(&self, next: &Scores) -> bool {
        self.len() + next.len() <= LEN_MAX * 3 / 4
    }

    fn absorb(&mut self, next: &Scores) {
        *self = Scores::of(self.entries(0).chain(next.entries(0)));
    }
}

impl Scores {
    /// As many as a leaf is made of at once: with room for a few insertions before the leaf is split.
    pub(super) const BUILT_LEN: usize = LEN_MAX * 7 / 8;

    pub(super) const fn new() -> Scores {
        Scores { bytes: Vec::new(), count: 0, width: Width::Integer }
    }

    /// Packs entries that are in order, at most [`LEN_MAX`] or so.
    pub(super) fn of(entries: impl Iterator<Item = Entry> + Clone) -> Scores {
        let width = Width::of(entries.clone().map(|(_, score)| score));
        let count = entries.clone().count();
        let len = count * (PART_LEN + width.len());
        let mut bytes = Vec::with_capacity(class_size(len));
        bytes.resize(len, 0);
        let (parts, scores) = bytes.split_at_mut(count * PART_LEN);
        for (place, (part, score)) in entries.enumerate() {
            parts[place * PART_LEN..][..PART_LEN].copy_from_slice(&part.to_le_bytes());
            width.write(scores, place, score);
        }
        Scores { bytes, count: u16::try_from(count).expect("a leaf has few entries"), width }
    }

    #[inline]
    fn scores_start(&self) -> usize {
        self.len() * PART_LEN
    }

    #[inline]
    fn parts(&self) -> &[[u8; PART_LEN]] {
        fours(&self.bytes[..self.scores_start()])
    }

    #[inline]
    pub(super) fn part(&self, place: usize) -> u32 {
        u32::from_le_bytes(self.parts()[place])
    }

    #[inline]
    pub(super) fn entry(&self, place: usize) -> Entry {
        (self.part(place), self.width.read(&self.bytes[self.scores_start()..], place))
    }

    /// The entries from a place on.
    pub(super) fn entries(&self, from: usize) -> impl Iterator<Item = Entry> + Clone {
        (from..self.len()).map(|place| self.entry(place))
    }

    /// Number of entries with smaller hash parts.
    #[inline]
    pub(super) fn count_below(&self, part: u32) -> usize {
        partition_point(self.parts(), |it| u32::from_le_bytes(*it) < part)
    }

    /// Number of smaller entries.
    fn count_below_entry(&self, (part, score): Entry) -> usize {
        let first = self.count_below(part);
        if first == self.len() || self.part(first) != part {
            return first;
        }
        let equal = self.parts()[first..].partition_point(|it| u32::from_le_bytes(*it) == part);
        let width = self.width.len();
        let scores = &self.bytes[self.scores_start()..][first * width..][..equal * width];
        first + self.width.count_below(scores, score, false)
    }

    /// Inserts an entry.
    pub(super) fn insert(&mut self, entry: Entry) {
        let place = self.count_below_entry(entry);
        let (part, score) = entry;
        if !self.width.fits(score) {
            let width = Width::of(self.entries(0).map(|(_, score)| score).chain([score]));
            self.widen(width);
        }
        let width = self.width.len();
        let (scores, part_at) = (self.scores_start(), place * PART_LEN);
        let score_at = scores + place * width;
        let (old_len, added) = (self.bytes.len(), PART_LEN + width);
        grow(&mut self.bytes, added);
        let bytes = &mut self.bytes;
        bytes.resize(old_len + added, 0);
        // Order matters: from the last byte to the first, each moves where nothing is read any more.
        bytes.copy_within(score_at..old_len, score_at + added);
        bytes.copy_within(scores..score_at, scores + PART_LEN);
        bytes.copy_within(part_at..scores, part_at + PART_LEN);
        bytes[part_at..part_at + PART_LEN].copy_from_slice(&part.to_le_bytes());
        self.count += 1;
        let scores = self.scores_start();
        self.width.write(&mut self.bytes[scores..], place, score);
    }

    /// Removes an entry; the one of a member with the same score and the same hash part is as good as its own.
    pub(super) fn remove(&mut self, entry: Entry) {
        let place = self.count_below_entry(entry);
        if place < self.len() && self.entry(place) == entry {
            self.remove_at(place);
        }
    }

    fn remove_at(&mut self, place: usize) {
        let width = self.width.len();
        let (scores, part_at) = (self.scores_start(), place * PART_LEN);
        let score_at = scores + place * width;
        let bytes = &mut self.bytes;
        // Order matters: from the first byte to the last, each moves where nothing is read any more.
        bytes.copy_within(part_at + PART_LEN..score_at, part_at);
        bytes.copy_within(score_at + width.., score_at - PART_LEN);
        bytes.truncate(bytes.len() - PART_LEN - width);
        shrink(bytes);
        self.count -= 1;
    }

    /// Removes an entry, and inserts it with another score if no other entry of any leaf can be in between. Returns whether it
    /// did the latter.
    pub(super) fn replace(&mut self, entry: Entry, score: f64) -> bool {
        let place = self.count_below_entry(entry);
        if place >= self.len() || self.entry(place) != entry {
            return false;
        }
        let is_alone = place > 0
            && place + 1 < self.len()
            && self.part(place - 1) < entry.0
            && self.part(place + 1) > entry.0;
        if is_alone && self.width.fits(score) {
            let scores = self.scores_start();
            self.width.write(&mut self.bytes[scores..], place, score);
            return true;
        }
        self.remove_at(place);
        if is_alone {
            self.insert((entry.0, score));
        }
        is_alone
    }

    fn widen(&mut self, width: Width) {
        let entries: Vec<Entry> = self.entries(0).collect();
        let len = entries.len() * (PART_LEN + width.len());
        let mut bytes = Vec::with_capacity(class_size(len));
        bytes.extend_from_slice(&self.bytes[..self.scores_start()]);
        bytes.resize(len, 0);
        self.bytes = bytes;
        self.width = width;
        let scores = self.scores_start();
        for (place, (_, score)) in entries.into_iter().enumerate() {
            width.write(&mut self.bytes[scores..], place, score);
        }
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.bytes.len(), self.len() * (PART_LEN + self.width.len()));
        assert!(self.entries(0).is_sorted_by(|a, b| a <= b), "entries are in order");
    }
}

/// Leads to the last leaf whose first entry has a smaller hash part, or else to the first: to the one with the first entry
/// that has the part, if it is there, unless that begins the leaf behind.
#[derive(Debug, Clone, Copy)]
pub(super) struct BeforePart {
    part: u32,
    spread: Spread,
}

impl BeforePart {
    #[inline]
    pub(super) fn new(part: u32) -> BeforePart {
        BeforePart { part, spread: Spread::all() }
    }
}

impl Descend<Scores> for BeforePart {
    #[inline]
    fn choose(&mut self, children: &[Child<Scores>]) -> usize {
        let part = self.part;
        self.spread.choose(part, children, |child| child.key().0, |child| child.key().0 >= part)
    }
}

/// Leads to the last leaf whose first entry is not greater than this one, or else to the first.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByEntry {
    entry: Entry,
    spread: Spread,
}

impl ByEntry {
    #[inline]
    pub(super) fn new(entry: Entry) -> ByEntry {
        ByEntry { entry, spread: Spread::all() }
    }
}

impl Descend<Scores> for ByEntry {
    #[inline]
    fn choose(&mut self, children: &[Child<Scores>]) -> usize {
        let entry = self.entry;
        self.spread.choose(entry.0, children, |child| child.key().0, |child| child.key() > entry)
    }
}
