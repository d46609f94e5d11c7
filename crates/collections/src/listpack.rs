//! Listpacks: all elements of a small list, hash or sorted set in one run of bytes.
//!
//! The bytes are identical to those of Redis 7.0 (`listpack.c`), so a snapshot stores them unchanged.
//!
//! ```text
//!  total bytes   u32 LE, header and end included
//!  elements      u16 LE; 65535: unknown, count them
//!  entry         for each element
//!    encoding    kind of the element, with the length of its bytes or the integer itself: see `element`
//!    data
//!    backlen     length of encoding and data: 7 bits per byte, most significant first, every byte but the first
//!                has its top bit set; read from its last byte backward
//!  end           0xFF
//! ```
//!
//! An element that is the canonical decimal text of an `i64` is stored as an integer and reads as [`Item::Int`].
//!
//! Bytes from a file must pass [`check`] before they are read or edited. No function here panics or reads out of bounds,
//! even for bytes that were not checked; what it then returns is unspecified.

mod check;
mod edit;
mod entry;
mod item;
#[cfg(test)]
mod tests;

use crate::element::Sought;
pub use check::{Damage, Format, Reason, check};
pub(crate) use edit::write_encoded;
pub use edit::{
    TOTAL_BYTES_MAX, TooLarge, append, clear_into, encoded_len, insert_after, insert_before, new, push_back,
    push_front, recount, remove, remove_range, replace, split_off,
};
use entry::{ELEMENTS_UNKNOWN, HEADER_LEN};
pub use item::{Item, Scratch, integer};

/// The first byte of an entry, counted from the first byte of the listpack.
///
/// It belongs to one state of one listpack: an edit before it makes it invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At(usize);

impl At {
    /// The offset in bytes, at least 6.
    #[must_use]
    pub fn offset(self) -> usize {
        self.0
    }
}

/// The bytes of one listpack, for reading. Nothing here allocates.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    bytes: &'a [u8],
}

impl<'a> View<'a> {
    /// A view of bytes that this module wrote, or that passed [`check`] before. Costs nothing.
    #[inline]
    #[must_use]
    pub const fn trusted(bytes: &'a [u8]) -> View<'a> {
        View { bytes }
    }

    /// All the bytes, header and end included.
    #[inline]
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Number of bytes, header and end included.
    #[inline]
    #[must_use]
    pub const fn total_bytes(self) -> usize {
        self.bytes.len()
    }

    /// Number of elements. Constant time below 65535 elements; above, and after such a listpack shrank without
    /// [`recount`], all entries are visited.
    #[inline]
    #[must_use]
    pub fn len(self) -> usize {
        self.elements_known().unwrap_or_else(|| self.count())
    }

    /// Whether there are no elements. Constant time.
    #[inline]
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.end() <= HEADER_LEN
    }

    /// The first entry.
    #[inline]
    #[must_use]
    pub fn first(self) -> Option<At> {
        (!self.is_empty()).then_some(At(HEADER_LEN))
    }

    /// The last entry.
    #[inline]
    #[must_use]
    pub fn last(self) -> Option<At> {
        entry::before(self.bytes, self.end()).map(At)
    }

    /// The entry after `at`.
    #[inline]
    #[must_use]
    pub fn next(self, at: At) -> Option<At> {
        entry::end(self.bytes, at.0).filter(|next| *next < self.end()).map(At)
    }

    /// The entry before `at`.
    #[inline]
    #[must_use]
    pub fn previous(self, at: At) -> Option<At> {
        entry::before(self.bytes, at.0).map(At)
    }

    /// The element at `at`; `None` if no entry starts there.
    #[inline]
    #[must_use]
    pub fn at(self, at: At) -> Option<Item<'a>> {
        if at.0 >= self.end() {
            return None;
        }
        entry::read(self.bytes, at.0).map(|(item, _)| item)
    }

    /// The entry with this index, found from the nearer end. Indexes start at 0; -1 is the last one.
    #[must_use]
    pub fn seek(self, index: isize) -> Option<At> {
        let steps = if index < 0 { index.unsigned_abs() - 1 } else { index.unsigned_abs() };
        let (mut backward, mut steps) = (index < 0, steps);
        if let Some(elements) = self.elements_known() {
            let last = elements.checked_sub(1)?;
            let other_steps = last.checked_sub(steps)?;
            if other_steps < steps {
                (backward, steps) = (!backward, other_steps);
            }
        }
        let mut at = if backward { self.last()? } else { self.first()? };
        for _ in 0..steps {
            at = if backward { self.previous(at)? } else { self.next(at)? };
        }
        Some(at)
    }

    /// The element with this index, as [`View::seek`] counts.
    #[must_use]
    pub fn get(self, index: isize) -> Option<Item<'a>> {
        self.at(self.seek(index)?)
    }

    /// The elements in order, from either end.
    #[inline]
    #[must_use]
    pub fn iter(self) -> Iter<'a> {
        Iter(self.entries())
    }

    /// The elements in order with the place of each, from either end.
    #[inline]
    #[must_use]
    pub fn entries(self) -> Entries<'a> {
        Entries { bytes: self.bytes, front: HEADER_LEN, back: self.end() }
    }

    /// As [`View::entries`], from the one at `at` on.
    #[inline]
    #[must_use]
    pub fn entries_from(self, at: At) -> Entries<'a> {
        Entries { bytes: self.bytes, front: at.0, back: self.end() }
    }

    /// The first entry that equals `searched`, among the first one and then every `skip + 1`-th.
    ///
    /// With `skip` 0 all elements are compared, with 1 the fields of a hash.
    #[inline]
    #[must_use]
    pub fn find(self, searched: &[u8], skip: usize) -> Option<At> {
        self.find_from(At(HEADER_LEN), searched, skip)
    }

    /// As [`View::find`], where the entry at `from` is the first one.
    #[must_use]
    pub fn find_from(self, from: At, searched: &[u8], skip: usize) -> Option<At> {
        let sought = Sought::new(searched);
        let entries = self.bytes.get(..self.end())?;
        let mut at = from.0;
        while !sought.is_at(entries, at) {
            at = entry::end(entries, at)?;
            for _ in 0..skip {
                at = entry::end(entries, at)?;
            }
        }
        Some(At(at))
    }

    /// Offset of the end byte. The bytes before it are header and entries.
    #[inline]
    fn end(self) -> usize {
        self.bytes.len().saturating_sub(1)
    }

    /// Number of elements as the header has it.
    #[inline]
    fn elements_known(self) -> Option<usize> {
        let &[_, _, _, _, low, high] = self.bytes.first_chunk::<HEADER_LEN>()?;
        let elements = u16::from_le_bytes([low, high]);
        (elements != ELEMENTS_UNKNOWN).then_some(usize::from(elements))
    }

    fn count(self) -> usize {
        let mut count = 0;
        let mut at = self.first();
        while let Some(here) = at {
            count += 1;
            at = self.next(here);
        }
        count
    }
}

impl<'a> IntoIterator for View<'a> {
    type Item = Item<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The elements of a listpack and where they are: see [`View::entries`].
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    /// The entry that is next.
    front: usize,
    /// Where the last entry ends.
    back: usize,
}

impl<'a> Entries<'a> {
    fn stop<T>(&mut self) -> Option<T> {
        self.front = self.back;
        None
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (At, Item<'a>);

    #[inline]
    fn next(&mut self) -> Option<(At, Item<'a>)> {
        if self.front >= self.back {
            return None;
        }
        let at = self.front;
        let Some((item, end)) = entry::read(self.bytes, at) else { return self.stop() };
        self.front = end;
        Some((At(at), item))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.back.saturating_sub(self.front).div_ceil(entry::ENTRY_LEN_MIN)))
    }
}

impl DoubleEndedIterator for Entries<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        let Some(at) = entry::before(self.bytes, self.back).filter(|at| *at >= self.front) else {
            return self.stop();
        };
        let Some((item, _)) = entry::read(self.bytes, at) else { return self.stop() };
        self.back = at;
        Some((At(at), item))
    }
}

/// The elements of a listpack: see [`View::iter`].
#[derive(Debug, Clone)]
pub struct Iter<'a>(Entries<'a>);

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        self.0.next().map(|(_, item)| item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(_, item)| item)
    }
}
