//! Ziplists, read only: the format of small lists, hashes and sorted sets before Redis 7.0 replaced it by listpacks.
//!
//! Source: `ziplist.c` of Redis 7.0, which reads the format from old snapshots.
//!
//! ```text
//!  total bytes   u32 LE, header and end included
//!  tail          u32 LE: offset of the last entry; of the end if there is none
//!  elements      u16 LE; 65535: unknown, count them
//!  entry         for each element
//!    previous    length of the entry before, 0 for the first one: u8 below 254, or 0xFE and u32 LE
//!    encoding    kind of the element, with the length of its bytes or the integer itself
//!    data
//!  end           0xFF
//!
//!  encoding
//!  00llllll                    bytes, length below 64
//!  01llllll llllllll           bytes, length below 16384, big endian
//!  10...... u32 BE             bytes
//!  11000000, 11010000, 11100000, 11110000, 11111110   integer of 16, 32, 64, 24 or 8 bits, signed, LE
//!  11110001 to 11111101        integer 0 to 12
//! ```
//!
//! No function here panics or reads out of bounds, even for bytes that were not checked.

#[cfg(test)]
mod tests;

use crate::listpack::{Damage, Format, Item, Reason};

const HEADER_LEN: usize = 10;
const END: u8 = 0xFF;
const ELEMENTS_UNKNOWN: u16 = u16::MAX;

/// First byte of a previous length of five bytes; the last value of one byte is one less.
const PREVIOUS_LONG: u8 = 0xFE;

/// The bytes of one ziplist.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Entries, without header and end.
    entries: &'a [u8],
    elements: Option<u16>,
}

impl<'a> View<'a> {
    /// A view of bytes that passed [`check`] before. Costs nothing.
    #[must_use]
    pub fn trusted(bytes: &'a [u8]) -> View<'a> {
        match read_header(bytes) {
            Some((header, entries)) => View { entries, elements: header.elements },
            None => View { entries: &[], elements: None },
        }
    }

    /// Number of elements. Constant time below 65535 elements; above, all entries are visited.
    #[must_use]
    pub fn len(self) -> usize {
        self.elements.map_or_else(|| self.iter().count(), usize::from)
    }

    /// Whether there are no elements. Constant time.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.entries.is_empty()
    }

    /// The elements in order.
    #[must_use]
    pub fn iter(self) -> Iter<'a> {
        Iter { rest: self.entries }
    }
}

impl<'a> IntoIterator for View<'a> {
    type Item = Item<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The elements of a ziplist: see [`View::iter`].
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        match read_entry(self.rest) {
            Ok(entry) => {
                self.rest = entry.rest;
                Some(entry.item)
            }
            Err(_) => {
                self.rest = &[];
                None
            }
        }
    }
}

/// Checks every byte of a ziplist.
///
/// A previous length of five bytes is accepted where one is enough: Redis keeps it when the entry before becomes shorter.
/// # Errors
/// The first damage found, in this order: length, end, entries, tail, number of elements.
pub fn check(bytes: &[u8]) -> Result<View<'_>, Damage> {
    let damage = |at, reason| Damage { format: Format::Ziplist, at, reason };
    let (header, entries) = read_header(bytes).ok_or(damage(bytes.len(), Reason::TooShort))?;
    if header.total_bytes != bytes.len() {
        return Err(damage(0, Reason::Length));
    }
    if bytes.last() != Some(&END) {
        return Err(damage(bytes.len() - 1, Reason::End));
    }
    let mut rest = entries;
    let (mut count, mut tail, mut previous_len) = (0, HEADER_LEN, 0);
    while !rest.is_empty() {
        let at = HEADER_LEN + (entries.len() - rest.len());
        let entry = read_entry(rest).map_err(|reason| damage(at, reason))?;
        if entry.previous_len != previous_len {
            return Err(damage(at, Reason::BackwardLength));
        }
        previous_len = rest.len() - entry.rest.len();
        (count, tail, rest) = (count + 1, at, entry.rest);
    }
    if header.tail != tail {
        return Err(damage(4, Reason::Tail));
    }
    if header.elements.is_some_and(|elements| usize::from(elements) != count) {
        return Err(damage(8, Reason::Count));
    }
    Ok(View { entries, elements: header.elements })
}

struct Header {
    total_bytes: usize,
    tail: usize,
    elements: Option<u16>,
}

/// The header, and the bytes between it and the end.
fn read_header(bytes: &[u8]) -> Option<(Header, &[u8])> {
    let (total_bytes, rest) = bytes.split_first_chunk()?;
    let (tail, rest) = rest.split_first_chunk()?;
    let (elements, rest) = rest.split_first_chunk()?;
    let (_, entries) = rest.split_last()?;
    let elements = u16::from_le_bytes(*elements);
    let header = Header {
        total_bytes: u32::from_le_bytes(*total_bytes) as usize,
        tail: u32::from_le_bytes(*tail) as usize,
        elements: (elements != ELEMENTS_UNKNOWN).then_some(elements),
    };
    Some((header, entries))
}

struct Entry<'a> {
    previous_len: usize,
    item: Item<'a>,
    rest: &'a [u8],
}

/// The entry that `bytes`, without the end, begin with.
fn read_entry(bytes: &[u8]) -> Result<Entry<'_>, Reason> {
    let (previous_len, rest) = match bytes {
        [PREVIOUS_LONG, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        [PREVIOUS_LONG, ..] | [] => return Err(Reason::PastEnd),
        [END, ..] => return Err(Reason::Encoding),
        [len, rest @ ..] => (usize::from(*len), rest),
    };
    let (item, rest) = match rest {
        [first @ 0x00..=0x3F, rest @ ..] => read_bytes(rest, usize::from(*first))?,
        [first @ 0x40..=0x7F, low, rest @ ..] => {
            read_bytes(rest, usize::from(u16::from_be_bytes([first & 0x3F, *low])))?
        }
        [0x80..=0xBF, a, b, c, d, rest @ ..] => {
            read_bytes(rest, u32::from_be_bytes([*a, *b, *c, *d]) as usize)?
        }
        [0xC0, rest @ ..] => read_int(rest, |bytes| i16::from_le_bytes(bytes).into())?,
        [0xD0, rest @ ..] => read_int(rest, |bytes| i32::from_le_bytes(bytes).into())?,
        [0xE0, rest @ ..] => read_int(rest, i64::from_le_bytes)?,
        [0xF0, rest @ ..] => read_int(rest, |[a, b, c]| (i32::from_le_bytes([0, a, b, c]) >> 8).into())?,
        [0xFE, rest @ ..] => read_int(rest, |bytes| i8::from_le_bytes(bytes).into())?,
        [first @ 0xF1..=0xFD, rest @ ..] => (Item::Int(i64::from(*first) - 0xF1), rest),
        [0x40..=0xBF, ..] | [] => return Err(Reason::PastEnd),
        [_, ..] => return Err(Reason::Encoding),
    };
    Ok(Entry { previous_len, item, rest })
}

fn read_bytes(rest: &[u8], len: usize) -> Result<(Item<'_>, &[u8]), Reason> {
    let (bytes, rest) = rest.split_at_checked(len).ok_or(Reason::PastEnd)?;
    Ok((Item::Bytes(bytes), rest))
}

fn read_int<const N: usize>(rest: &[u8], decode: fn([u8; N]) -> i64) -> Result<(Item<'_>, &[u8]), Reason> {
    let (bytes, rest) = rest.split_first_chunk().ok_or(Reason::PastEnd)?;
    Ok((Item::Int(decode(*bytes)), rest))
}
