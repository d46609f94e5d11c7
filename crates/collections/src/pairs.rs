//! Packed pairs: all fields of a small hash with their values, in one run of bytes.
//!
//! ```text
//!  number of pairs   u8; 255: u32 LE follows
//!  pair              for each
//!    field           an element: see `element`
//!    value           an element
//! ```
//!
//! The form exists in memory alone. Snapshots and DUMP have a listpack of the same elements in the same order, which
//! [`View::write_listpack`] writes. What a listpack has beyond that is of no use here: nobody reads pairs from the end, and
//! whoever holds the bytes knows how many there are. So a hash takes at least two bytes less per pair and two less by itself.
//!
//! The bytes are never those of a file: [`set`] alone makes them. No function here panics or reads out of bounds for any bytes;
//! what it returns for others is unspecified.

#[cfg(test)]
mod tests;

use crate::buffer::{grow, make_place};
use crate::element::{self, Encoded, Sought};
use crate::listpack::{self, Item};

/// The first byte when the number of pairs follows.
const LONG: u8 = 0xFF;
/// Bytes of a number of pairs that follows, and of the first byte.
const LONG_LEN: usize = 5;

/// The bytes of packed pairs, for reading. Nothing here allocates.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    bytes: &'a [u8],
}

/// Where a pair is.
#[derive(Debug, Clone, Copy)]
struct Place {
    field: usize,
    value: usize,
}

impl<'a> View<'a> {
    /// A view of bytes that this module wrote; no bytes are no pairs. Costs nothing.
    #[inline]
    #[must_use]
    pub const fn trusted(bytes: &'a [u8]) -> View<'a> {
        View { bytes }
    }

    /// All the bytes.
    #[inline]
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Number of pairs. Constant time.
    #[inline]
    #[must_use]
    pub fn len(self) -> usize {
        match *self.bytes {
            [LONG, a, b, c, d, ..] => u32::from_le_bytes([a, b, c, d]) as usize,
            [short, ..] => usize::from(short),
            [] => 0,
        }
    }

    /// Whether there are no pairs. Constant time.
    #[inline]
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The value of a field.
    #[inline]
    #[must_use]
    pub fn get(self, field: &[u8]) -> Option<Item<'a>> {
        let (value, _) = element::read(self.bytes, self.find(field)?.value)?;
        Some(value)
    }

    /// Fields and values in the order in which the fields were added.
    #[inline]
    #[must_use]
    pub fn iter(self) -> Iter<'a> {
        Iter { bytes: self.bytes, at: self.start() }
    }

    /// Writes to `list` a listpack of all fields and values, each field before its value, in order. What was there is gone.
    pub fn write_listpack(self, list: &mut Vec<u8>) {
        let mut at = self.start();
        let elements = std::iter::from_fn(|| {
            let end = element::end(self.bytes, at)?;
            let element = self.bytes.get(at..end)?;
            at = end;
            Some(element)
        });
        listpack::write_encoded(list, elements);
    }

    fn find(self, field: &[u8]) -> Option<Place> {
        let sought = Sought::new(field);
        let mut at = self.start();
        loop {
            let value = element::end(self.bytes, at)?;
            if sought.is_at(self.bytes, at) {
                return Some(Place { field: at, value });
            }
            at = element::end(self.bytes, value)?;
        }
    }

    /// Where the first pair begins.
    #[inline]
    fn start(self) -> usize {
        if self.bytes.first() == Some(&LONG) { LONG_LEN } else { 1 }
    }
}

impl<'a> IntoIterator for View<'a> {
    type Item = (Item<'a>, Item<'a>);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Fields and values: see [`View::iter`].
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (Item<'a>, Item<'a>);

    #[inline]
    fn next(&mut self) -> Option<(Item<'a>, Item<'a>)> {
        let (field, field_len) = element::read(self.bytes, self.at)?;
        let (value, value_len) = element::read(self.bytes, self.at + field_len)?;
        self.at += field_len + value_len;
        Some((field, value))
    }

    /// Skips without reading what it passes.
    fn nth(&mut self, index: usize) -> Option<(Item<'a>, Item<'a>)> {
        for _ in 0..index {
            let value = element::end(self.bytes, self.at)?;
            self.at = element::end(self.bytes, value)?;
        }
        self.next()
    }
}

/// Makes `pairs` empty and keeps its capacity.
pub fn clear_into(pairs: &mut Vec<u8>) {
    pairs.clear();
    pairs.push(0);
}

/// Sets the value of a field; true when the field is new. A new one comes last, a known one stays in its place.
pub fn set(pairs: &mut Vec<u8>, field: &[u8], value: &[u8]) -> bool {
    let value = Encoded::of(Item::Bytes(value));
    if let Some(place) = View::trusted(pairs).find(field) {
        let end = value_end(pairs, place.value);
        value.write(make_place(pairs, place.value, end - place.value, value.len()));
        return false;
    }
    let field = Encoded::of(Item::Bytes(field));
    write_count(pairs, View::trusted(pairs).len() + 1);
    grow(pairs, field.len() + value.len());
    field.push(pairs);
    value.push(pairs);
    true
}

/// Removes a field with its value; false when there is none.
pub fn remove(pairs: &mut Vec<u8>, field: &[u8]) -> bool {
    let Some(place) = View::trusted(pairs).find(field) else { return false };
    let end = value_end(pairs, place.value);
    make_place(pairs, place.field, end - place.field, 0);
    write_count(pairs, View::trusted(pairs).len().saturating_sub(1));
    true
}

/// Where the value at `at` ends: where the bytes do, at the latest.
fn value_end(pairs: &[u8], at: usize) -> usize {
    element::end(pairs, at).map_or(pairs.len(), |end| end.min(pairs.len()))
}

/// Writes the number of pairs, in front of them.
fn write_count(pairs: &mut Vec<u8>, count: usize) {
    let old_len = View::trusted(pairs).start().min(pairs.len());
    match u8::try_from(count) {
        Ok(short) if short != LONG => make_place(pairs, 0, old_len, 1)[0] = short,
        _ => {
            // Packed values are far below 4 GiB.
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            let place = make_place(pairs, 0, old_len, LONG_LEN);
            place[0] = LONG;
            place[1..].copy_from_slice(&count.to_le_bytes());
        }
    }
}
