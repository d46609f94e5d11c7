//! The bytes of one entry: an element with the length that leads back to its begin.

use super::Item;
use crate::element;

/// Bytes before the first entry: total bytes and number of elements.
pub(super) const HEADER_LEN: usize = 6;

/// The last byte of a listpack.
pub(super) const END: u8 = 0xFF;

/// A listpack without elements: header and end.
pub(super) const EMPTY_LEN: usize = HEADER_LEN + 1;

/// Number of elements in the header when it does not fit there.
pub(super) const ELEMENTS_UNKNOWN: u16 = u16::MAX;

/// The shortest entry: an encoding without data, and its backlen.
pub(super) const ENTRY_LEN_MIN: usize = 2;

/// Where the entry at `at` ends. It may be after the last byte.
#[inline]
pub(super) fn end(bytes: &[u8], at: usize) -> Option<usize> {
    let first = *bytes.get(at)?;
    // A search waits for this length before it can read the next entry. A predicted branch is faster than the table.
    if element::is_short_bytes(first) {
        return Some(at + element::short_bytes_len(first) + 1);
    }
    let len = element::content_len(bytes, at)?;
    at.checked_add(len)?.checked_add(backlen_len(len))
}

/// The entry that ends at `end`, `None` if that is the first one's begin.
#[inline]
pub(super) fn before(bytes: &[u8], end: usize) -> Option<usize> {
    let mut backlen_at = end;
    let (mut len, mut shift) = (0_usize, 0);
    loop {
        backlen_at = backlen_at.checked_sub(1)?;
        let byte = *bytes.get(backlen_at)?;
        len |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
        if shift > 28 {
            return None;
        }
    }
    backlen_at.checked_sub(len).filter(|at| *at >= HEADER_LEN)
}

/// The element at `at`, and where its entry ends.
#[inline]
pub(super) fn read(bytes: &[u8], at: usize) -> Option<(Item<'_>, usize)> {
    let (item, len) = element::read(bytes, at)?;
    Some((item, at + len + backlen_len(len)))
}

/// Number of bytes of the backlen of an entry whose encoding and data have this length.
///
/// The bounds are one below the largest number that fits, except for one byte: so does `lpEncodeBacklen`.
#[inline]
pub(super) const fn backlen_len(content_len: usize) -> usize {
    match content_len {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

/// The bytes of an entry.
pub(super) struct Encoded<'a> {
    content: element::Encoded<'a>,
    backlen: [u8; 5],
    backlen_len: usize,
}

impl<'a> Encoded<'a> {
    #[inline]
    pub(super) fn of(item: Item<'a>) -> Encoded<'a> {
        let content = element::Encoded::of(item);
        let (backlen, backlen_len) = backlen_of(content.len());
        Encoded { content, backlen, backlen_len }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.content.len() + self.backlen_len
    }

    /// Adds the bytes to the end.
    #[inline]
    pub(super) fn push(&self, list: &mut Vec<u8>) {
        self.content.push(list);
        match self.backlen_len {
            1 => list.push(self.backlen[0]),
            len => list.extend_from_slice(&self.backlen[..len]),
        }
    }

    /// Writes the bytes to a place of exactly [`Encoded::len`] bytes.
    #[inline]
    pub(super) fn write(&self, place: &mut [u8]) {
        let (content, backlen) = place.split_at_mut(self.content.len());
        self.content.write(content);
        backlen.copy_from_slice(&self.backlen[..self.backlen_len]);
    }
}

/// Bytes of the backlen, and their number.
#[inline]
pub(super) fn backlen_of(content_len: usize) -> ([u8; 5], usize) {
    let len = backlen_len(content_len);
    let mut bytes = [0; 5];
    if len == 1 {
        [bytes[0], ..] = content_len.to_le_bytes();
        return (bytes, 1);
    }
    let mut rest = content_len;
    for (index, byte) in bytes[..len].iter_mut().enumerate().rev() {
        let [low, ..] = rest.to_le_bytes();
        *byte = if index == 0 { low & 0x7F } else { low | 0x80 };
        rest >>= 7;
    }
    (bytes, len)
}
