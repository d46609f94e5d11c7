//! Intsets: small sets of integers, sorted, all with the same width.
//!
//! The bytes are identical to those of Redis 7.0 (`intset.c`), so a snapshot stores them unchanged.
//!
//! ```text
//!  width      u32 LE: 2, 4 or 8 bytes per integer
//!  count      u32 LE: number of integers
//!  integers   signed, LE, ascending, each once
//! ```
//!
//! The width grows with the first integer that needs it and never shrinks.
//!
//! Bytes from a file must pass [`check`] before they are read or edited. No function here panics or reads out of bounds,
//! even for bytes that were not checked; what it then returns is unspecified.

#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::buffer::grow;
use crate::listpack::{Damage, Format, Reason};

const HEADER_LEN: usize = 8;

/// Bytes per integer. The order is that of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Width {
    Two = 2,
    Four = 4,
    Eight = 8,
}

impl Width {
    fn of(value: i64) -> Width {
        if i16::try_from(value).is_ok() {
            Width::Two
        } else if i32::try_from(value).is_ok() {
            Width::Four
        } else {
            Width::Eight
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Integers<'a> {
    Two(&'a [[u8; 2]]),
    Four(&'a [[u8; 4]]),
    Eight(&'a [[u8; 8]]),
}

/// The bytes of one intset, for reading. Nothing here allocates.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    bytes: &'a [u8],
    integers: Integers<'a>,
}

impl<'a> View<'a> {
    /// A view of bytes that this module wrote, or that passed [`check`] before. Constant time.
    #[inline]
    #[must_use]
    pub fn trusted(bytes: &'a [u8]) -> View<'a> {
        let integers = match read_header(bytes) {
            Some((Ok(width), count, rest)) => match width {
                Width::Two => Integers::Two(first(rest.as_chunks().0, count)),
                Width::Four => Integers::Four(first(rest.as_chunks().0, count)),
                Width::Eight => Integers::Eight(first(rest.as_chunks().0, count)),
            },
            _ => Integers::Two(&[]),
        };
        View { bytes, integers }
    }

    /// The bytes of the whole intset.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Number of integers.
    #[inline]
    #[must_use]
    pub fn len(self) -> usize {
        match self.integers {
            Integers::Two(integers) => integers.len(),
            Integers::Four(integers) => integers.len(),
            Integers::Eight(integers) => integers.len(),
        }
    }

    /// Whether there are no integers.
    #[inline]
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether `value` is there. Logarithmic time.
    #[inline]
    #[must_use]
    pub fn contains(self, value: i64) -> bool {
        self.position(value).is_ok()
    }

    /// The index of `value`, by binary search.
    /// # Errors
    /// The index it would have if it were inserted: there is no such integer.
    #[inline]
    pub fn position(self, value: i64) -> Result<usize, usize> {
        match self.integers {
            Integers::Two(integers) => search(integers, value, i16::from_le_bytes),
            Integers::Four(integers) => search(integers, value, i32::from_le_bytes),
            Integers::Eight(integers) => search(integers, value, i64::from_le_bytes),
        }
    }

    /// The integer with this index in ascending order, from 0.
    #[inline]
    #[must_use]
    pub fn get(self, index: usize) -> Option<i64> {
        match self.integers {
            Integers::Two(integers) => integers.get(index).map(|bytes| i16::from_le_bytes(*bytes).into()),
            Integers::Four(integers) => integers.get(index).map(|bytes| i32::from_le_bytes(*bytes).into()),
            Integers::Eight(integers) => integers.get(index).map(|bytes| i64::from_le_bytes(*bytes)),
        }
    }

    /// The integers in ascending order, from either end.
    #[inline]
    #[must_use]
    pub fn iter(self) -> Iter<'a> {
        Iter { view: self, indexes: 0..self.len() }
    }

    fn width(self) -> Width {
        match self.integers {
            Integers::Two(_) => Width::Two,
            Integers::Four(_) => Width::Four,
            Integers::Eight(_) => Width::Eight,
        }
    }
}

impl<'a> IntoIterator for View<'a> {
    type Item = i64;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The integers of an intset: see [`View::iter`].
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    view: View<'a>,
    indexes: Range<usize>,
}

impl Iterator for Iter<'_> {
    type Item = i64;

    #[inline]
    fn next(&mut self) -> Option<i64> {
        self.indexes.next().and_then(|index| self.view.get(index))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.indexes.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<i64> {
        self.indexes.next_back().and_then(|index| self.view.get(index))
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// Checks every byte of an intset that another program may have written.
///
/// A width that is larger than necessary is accepted: removals leave it.
/// # Errors
/// The first damage found, in this order: width, length, order of the integers.
pub fn check(bytes: &[u8]) -> Result<View<'_>, Damage> {
    let damage = |at, reason| Damage { format: Format::Intset, at, reason };
    let (width, count, integers) = read_header(bytes).ok_or(damage(bytes.len(), Reason::TooShort))?;
    let width = width.map_err(|reason| damage(0, reason))?;
    if count.checked_mul(width as usize) != Some(integers.len()) {
        return Err(damage(4, Reason::Length));
    }
    let view = View::trusted(bytes);
    let disorder = view.iter().zip(view.iter().skip(1)).position(|(former, next)| former >= next);
    match disorder {
        Some(index) => Err(damage(HEADER_LEN + (index + 1) * width as usize, Reason::Order)),
        None => Ok(view),
    }
}

/// An empty intset.
#[must_use]
pub fn new() -> Vec<u8> {
    let mut set = vec![0; HEADER_LEN];
    write_header(&mut set, Width::Two, 0);
    set
}

/// Adds `value` and returns whether it is new. Moves the greater integers once, or all of them to a larger width.
///
/// The caller limits the number of integers, as Redis does with at most 2^30; the format has room for 2^32 - 1. Too few
/// bytes to be an intset, such as none, count as an empty one.
pub fn insert(set: &mut Vec<u8>, value: i64) -> bool {
    if set.len() < HEADER_LEN {
        *set = new();
    }
    let view = View::trusted(set);
    let Err(index) = view.position(value) else { return false };
    let (len, width) = (view.len(), view.width());
    let wide = width.max(Width::of(value));
    let size = wide as usize;
    let bytes_needed = HEADER_LEN + (len + 1) * size;
    grow(set, bytes_needed.saturating_sub(set.len()));
    set.resize(bytes_needed, 0);
    if wide == width {
        let start = HEADER_LEN + index * size;
        set.copy_within(start..HEADER_LEN + len * size, start + size);
    } else {
        // The new integer is less or greater than all others. Order matters: from the last one on, each is read before the
        // longer ones behind it are written over it.
        let shift = usize::from(index == 0);
        for from in (0..len).rev() {
            let former = read(set, width, from);
            write(set, wide, from + shift, former);
        }
    }
    write(set, wide, index, value);
    write_header(set, wide, len + 1);
    true
}

/// Removes `value` and returns whether it was there. The width stays.
pub fn remove(set: &mut Vec<u8>, value: i64) -> bool {
    let view = View::trusted(set);
    let Ok(index) = view.position(value) else { return false };
    let (len, width) = (view.len(), view.width());
    let start = HEADER_LEN + index * width as usize;
    set.drain(start..start + width as usize);
    write_header(set, width, len - 1);
    true
}

/// Searches `integers` for `value`. The comparison is that of the narrow type, so a value outside its range is tested first.
#[inline]
fn search<T: TryFrom<i64> + Ord, const N: usize>(
    integers: &[[u8; N]],
    value: i64,
    decode: fn([u8; N]) -> T,
) -> Result<usize, usize> {
    let Ok(narrow) = T::try_from(value) else {
        return Err(if value < 0 { 0 } else { integers.len() });
    };
    // Sets are often filled in ascending order.
    match integers.last() {
        Some(last) if narrow > decode(*last) => Err(integers.len()),
        _ => integers.binary_search_by(|bytes| decode(*bytes).cmp(&narrow)),
    }
}

/// The first `count` integers, or all if there are fewer.
fn first<const N: usize>(integers: &[[u8; N]], count: usize) -> &[[u8; N]] {
    integers.get(..count).unwrap_or(integers)
}

/// Width, number of integers, and the bytes of these.
#[inline]
fn read_header(bytes: &[u8]) -> Option<(Result<Width, Reason>, usize, &[u8])> {
    let (width, rest) = bytes.split_first_chunk::<4>()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let width = match u32::from_le_bytes(*width) {
        2 => Ok(Width::Two),
        4 => Ok(Width::Four),
        8 => Ok(Width::Eight),
        _ => Err(Reason::Width),
    };
    Some((width, u32::from_le_bytes(*count) as usize, rest))
}

fn write_header(set: &mut [u8], width: Width, count: usize) {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    if let Some((header, rest)) = set.split_first_chunk_mut::<4>()
        && let Some(counter) = rest.first_chunk_mut::<4>()
    {
        *header = (width as u32).to_le_bytes();
        *counter = count.to_le_bytes();
    }
}

/// The integer with this index, which exists.
fn read(set: &[u8], width: Width, index: usize) -> i64 {
    let size = width as usize;
    let bytes = &set[HEADER_LEN + index * size..][..size];
    // The sign is in the last byte.
    let fill = if bytes[size - 1] & 0x80 == 0 { 0 } else { 0xFF };
    let mut wide = [fill; 8];
    wide[..size].copy_from_slice(bytes);
    i64::from_le_bytes(wide)
}

/// Writes an integer to a place that exists. The low bytes are the integer in fewer bits: it fits.
fn write(set: &mut [u8], width: Width, index: usize, value: i64) {
    let size = width as usize;
    set[HEADER_LEN + index * size..][..size].copy_from_slice(&value.to_le_bytes()[..size]);
}
