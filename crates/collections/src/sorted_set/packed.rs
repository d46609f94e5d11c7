//! Elements with members of moderate length in one run of bytes, in columns so that a place is found by binary search.
//!
//! ```text
//!  scores    4 or 8 bytes each, see `Width`
//!  lengths   of the members, 0, 1 or 2 bytes each, see `Lengths`
//!  members   one after another
//! ```

use super::bound::{Bound, is_below};
use super::lengths::Lengths;
use super::width::Width;
use crate::buffer::{grow, shrink};
use crate::memory::class_size;

/// Most elements of a leaf: insertion moves half of it, and a member is found by adding up the lengths before it.
const LEN_MAX: usize = 128;
/// Most bytes of a leaf with more than one element.
const BYTES_MAX: usize = 2048;
/// What leaves are made of at once: with room for a few insertions before the leaf is split.
pub(super) const LEN_BUILT: usize = LEN_MAX * 7 / 8;
pub(super) const BYTES_BUILT: usize = BYTES_MAX * 7 / 8;
/// The longest member that is packed with others.
pub(super) const MEMBER_LEN_MAX: usize = 1024;
/// Elements in a row that were added at the same end of a leaf, after which the next ones are expected there too. Fewer could
/// come about in any order, and a split at the end would leave leaves with one element.
const RUN_LEN_MIN: i8 = 8;
/// Elements with one score that are compared one after the other, before the rest is halved. Few scores have more.
const TIES_NEAR: usize = 8;

/// A leaf's elements in order. See the [module](self).
#[derive(Debug)]
pub(super) struct Packed {
    bytes: Vec<u8>,
    count: u16,
    width: Width,
    lengths: Lengths,
    /// How many of the last insertions in a row were at the end, or negative, at the front.
    run: i8,
}

impl Clone for Packed {
    /// With the capacity of the original, as the tree has counted it.
    fn clone(&self) -> Packed {
        let mut bytes = Vec::with_capacity(self.bytes.capacity());
        bytes.extend_from_slice(&self.bytes);
        Packed { bytes, ..*self }
    }
}

impl Packed {
    pub(super) const fn new() -> Packed {
        Packed { bytes: Vec::new(), count: 0, width: Width::Integer, lengths: Lengths::Equal(0), run: 0 }
    }

    /// Packs elements that are in order, at most [`LEN_MAX`] or so, with members of at most [`MEMBER_LEN_MAX`] bytes.
    pub(super) fn of<'a>(elements: impl Iterator<Item = (&'a [u8], f64)> + Clone) -> Packed {
        let (mut count, mut member_bytes) = (0, 0);
        for (member, _) in elements.clone() {
            count += 1;
            member_bytes += member.len();
        }
        let mut packed = Packed {
            count: u16::try_from(count).expect("a leaf has few elements"),
            width: Width::of(elements.clone().map(|(_, score)| score)),
            lengths: Lengths::of(elements.clone().map(|(member, _)| member.len())),
            ..Packed::new()
        };
        let len = packed.members_start() + member_bytes;
        packed.bytes = Vec::with_capacity(class_size(len));
        packed.bytes.resize(packed.members_start(), 0);
        for (place, (member, score)) in elements.enumerate() {
            packed.write_fixed(place, score, member.len());
            packed.bytes.extend_from_slice(member);
        }
        packed
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        usize::from(self.count)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        if self.bytes.capacity() == 0 { 0 } else { class_size(self.bytes.capacity()) }
    }

    pub(super) fn is_full(&self) -> bool {
        self.count > 1 && (self.len() > LEN_MAX || self.bytes.len() > BYTES_MAX)
    }

    /// Whether both fit in one leaf with room for a third as many.
    pub(super) fn can_absorb(&self, next: &Packed) -> bool {
        self.len() + next.len() <= LEN_MAX * 3 / 4 && self.bytes.len() + next.bytes.len() <= BYTES_MAX * 3 / 4
    }

    /// Bytes of an element without its member.
    #[inline]
    fn fixed_len(&self) -> usize {
        self.width.len() + self.lengths.len()
    }

    #[inline]
    fn lengths_start(&self) -> usize {
        self.len() * self.width.len()
    }

    #[inline]
    fn members_start(&self) -> usize {
        self.len() * self.fixed_len()
    }

    #[inline]
    fn lengths_column(&self) -> &[u8] {
        &self.bytes[self.lengths_start()..self.members_start()]
    }

    /// Where the member at a place begins, or behind the last place, where the last one ends.
    #[inline]
    pub(super) fn start(&self, place: usize) -> usize {
        self.members_start() + self.lengths.sum_before(self.lengths_column(), place)
    }

    #[inline]
    pub(super) fn member_len(&self, place: usize) -> usize {
        self.lengths.read(self.lengths_column(), place)
    }

    /// Writes what an element has beside its member.
    fn write_fixed(&mut self, place: usize, score: f64, member_len: usize) {
        let (lengths, members) = (self.lengths_start(), self.members_start());
        self.width.write(&mut self.bytes[..lengths], place, score);
        self.lengths.write(&mut self.bytes[lengths..members], place, member_len);
    }

    #[inline]
    pub(super) fn score(&self, place: usize) -> f64 {
        self.width.read(&self.bytes, place)
    }

    #[inline]
    pub(super) fn member(&self, place: usize) -> &[u8] {
        self.member_from(place, self.start(place))
    }

    /// The member at a place, of which the start is known.
    #[inline]
    pub(super) fn member_from(&self, place: usize, start: usize) -> &[u8] {
        &self.bytes[start..][..self.member_len(place)]
    }

    /// The elements from a place on.
    pub(super) fn elements(&self, from: usize) -> impl Iterator<Item = (&[u8], f64)> + Clone {
        let mut start = self.start(from);
        (from..self.len()).map(move |place| {
            let member = self.member_from(place, start);
            start += member.len();
            (member, self.score(place))
        })
    }

    /// Number of elements with a score below this one, or `inclusive`, not above it.
    #[inline]
    fn count_below_score(&self, score: f64, inclusive: bool) -> usize {
        self.width.count_below(&self.bytes[..self.lengths_start()], score, inclusive)
    }

    /// Number of elements below a bound.
    pub(super) fn count_below(&self, bound: &Bound<'_>) -> usize {
        match *bound {
            Bound::Score { score, inclusive } => self.count_below_score(score, inclusive),
            Bound::Member { member, inclusive } => {
                self.partition_point(0, |place| is_below(self.member(place), member, inclusive))
            }
            Bound::Element { score, member, inclusive } => {
                let first = self.count_below_score(score, false);
                if first == self.len() || self.score(first) != score {
                    return first;
                }
                self.partition_point(first, |place| {
                    self.score(place) == score && is_below(self.member(place), member, inclusive)
                })
            }
        }
    }

    /// The place of the element with this score and member, and the score as it is stored.
    pub(super) fn find(&self, member: &[u8], score: f64) -> Option<(usize, f64)> {
        let first = self.count_below_score(score, false);
        let near = self.len().min(first + TIES_NEAR);
        let mut start = self.start(first);
        for place in first..near {
            let stored = self.score(place);
            if stored != score {
                return None;
            }
            let found = self.member_from(place, start);
            if found == member {
                return Some((place, stored));
            }
            start += found.len();
        }
        let place = self.partition_point(near, |place| {
            self.score(place) == score && is_below(self.member(place), member, false)
        });
        if place == self.len() {
            return None;
        }
        let stored = self.score(place);
        (stored == score && self.member(place) == member).then_some((place, stored))
    }

    /// The first place from `low` on for which `is_below` does not hold; then it holds for none behind.
    fn partition_point(&self, mut low: usize, is_below: impl Fn(usize) -> bool) -> usize {
        let mut high = self.len();
        while low < high {
            let middle = low.midpoint(high);
            if is_below(middle) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Inserts an element before the one at a place. The member has at most [`MEMBER_LEN_MAX`] bytes.
    pub(super) fn insert(&mut self, place: usize, member: &[u8], score: f64) {
        self.note_insertion(place);
        self.make_fit(member.len(), score);
        let (width, fixed) = (self.width.len(), self.fixed_len());
        let (lengths, members, start) = (self.lengths_start(), self.members_start(), self.start(place));
        let length_at = lengths + place * self.lengths.len();
        let score_at = place * width;
        let old_len = self.bytes.len();
        let added = fixed + member.len();
        grow(&mut self.bytes, added);
        let bytes = &mut self.bytes;
        bytes.resize(old_len + added, 0);
        // Order matters: from the last byte to the first, each moves where nothing is read any more.
        bytes.copy_within(start..old_len, start + added);
        bytes[start + fixed..start + added].copy_from_slice(member);
        bytes.copy_within(members..start, members + fixed);
        bytes.copy_within(length_at..members, length_at + fixed);
        bytes.copy_within(lengths..length_at, lengths + width);
        bytes.copy_within(score_at..lengths, score_at + width);
        self.count += 1;
        self.write_fixed(place, score, member.len());
    }

    /// Packs the elements in a form that can hold one more.
    fn make_fit(&mut self, member_len: usize, score: f64) {
        if self.width.fits(score) && self.lengths.fits(member_len) {
            return;
        }
        let scores = (0..self.len()).map(|place| self.score(place));
        let width = if self.width.fits(score) { self.width } else { Width::of(scores.chain([score])) };
        let lengths = (0..self.len()).map(|place| self.member_len(place));
        let lengths = if self.lengths.fits(member_len) {
            self.lengths
        } else {
            Lengths::of(lengths.chain([member_len]))
        };
        if self.count == 0 {
            (self.width, self.lengths) = (width, lengths);
        } else {
            self.repack(width, lengths);
        }
    }

    fn note_insertion(&mut self, place: usize) {
        self.run = if place == self.len() {
            self.run.max(0).saturating_add(1)
        } else if place == 0 {
            self.run.min(0).saturating_sub(1)
        } else {
            0
        };
    }

    /// Removes the elements at the places from `from` to before `to`.
    pub(super) fn remove(&mut self, from: usize, to: usize) {
        let (width, length_len) = (self.width.len(), self.lengths.len());
        let (lengths, members) = (self.lengths_start(), self.members_start());
        let (start, end) = (self.start(from), self.start(to));
        let rest = self.len() - (to - from);
        let (new_lengths, new_members) = (rest * width, rest * self.fixed_len());
        let bytes = &mut self.bytes;
        // Order matters: from the first byte to the last, each moves where nothing is read any more.
        bytes.copy_within(to * width..lengths, from * width);
        bytes.copy_within(lengths..lengths + from * length_len, new_lengths);
        bytes.copy_within(lengths + to * length_len..members, new_lengths + from * length_len);
        bytes.copy_within(members..start, new_members);
        bytes.copy_within(end.., new_members + (start - members));
        bytes.truncate(bytes.len() - (to - from) * (width + length_len) - (end - start));
        shrink(bytes);
        self.count = u16::try_from(rest).expect("it is less than before");
    }

    /// Keeps the first half, or what is left when elements are added at an end in order; returns the rest.
    pub(super) fn split(&mut self) -> Packed {
        let last = self.len() - 1;
        let place = if self.run >= RUN_LEN_MIN {
            last
        } else if self.run <= -RUN_LEN_MIN {
            1
        } else {
            self.middle().clamp(1, last)
        };
        self.split_off(place)
    }

    /// The place where half of the bytes are before, or nearly.
    fn middle(&self) -> usize {
        let mut bytes = 0;
        let places = 0..self.len();
        places
            .into_iter()
            .position(|place| {
                bytes += self.fixed_len() + self.member_len(place);
                bytes * 2 >= self.bytes.len()
            })
            .unwrap_or(0)
    }

    /// Removes the elements from a place on and returns them.
    pub(super) fn split_off(&mut self, place: usize) -> Packed {
        let rest = Packed::of(self.elements(place));
        *self = Packed::of(self.elements(0).take(place));
        rest
    }

    /// Adds the elements of the leaf that follows.
    pub(super) fn absorb(&mut self, next: &Packed) {
        *self = Packed::of(self.elements(0).chain(next.elements(0)));
    }

    /// Packs the same elements in a form that holds them too.
    fn repack(&mut self, width: Width, lengths: Lengths) {
        let mut wider = Packed { width, lengths, bytes: Vec::new(), ..*self };
        let members = &self.bytes[self.members_start()..];
        let len = wider.members_start() + members.len();
        wider.bytes = Vec::with_capacity(class_size(len));
        wider.bytes.resize(wider.members_start(), 0);
        wider.bytes.extend_from_slice(members);
        for place in 0..self.len() {
            wider.write_fixed(place, self.score(place), self.member_len(place));
        }
        *self = wider;
    }

    /// Checks the columns and the order of the elements.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.bytes.len(), self.start(self.len()), "the members end where the bytes do");
        assert!(self.elements(0).is_sorted_by(|a, b| (a.1, a.0) < (b.1, b.0)), "elements are in order");
        assert!(self.elements(0).all(|(_, score)| !score.is_nan()));
        let used = class_size(self.bytes.len());
        assert!(self.count == 0 || self.memory_bytes() * 3 <= used.max(8) * 4, "little room is unused");
    }
}
