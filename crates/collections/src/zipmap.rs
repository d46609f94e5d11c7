//! Zipmaps, read only: the format of small hashes before Redis 2.6.
//!
//! Source: `zipmap.c` of Redis 7.0, which reads the format from old snapshots.
//!
//! ```text
//!  pairs        u8; 254: unknown, count them
//!  pair         for each field
//!    field      length, bytes
//!    value      length, number of unused bytes (u8), bytes, unused bytes
//!  end          0xFF
//!
//!  length       u8 below 254, or 0xFE and u32 LE
//! ```
//!
//! No function here panics or reads out of bounds, even for bytes that were not checked.

#[cfg(test)]
mod tests;

use crate::listpack::{Damage, Format, Item, Reason};

const END: u8 = 0xFF;

/// First byte of a length of five bytes, and the number of pairs that says to count them.
const LONG: u8 = 0xFE;

/// The bytes of one zipmap.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Pairs, without header and end.
    pairs: &'a [u8],
}

impl<'a> View<'a> {
    /// A view of bytes that passed [`check`] before. Costs nothing.
    #[must_use]
    pub fn trusted(bytes: &'a [u8]) -> View<'a> {
        match bytes {
            [_, pairs @ .., _] => View { pairs },
            _ => View { pairs: &[] },
        }
    }

    /// Number of pairs. All are visited.
    #[must_use]
    pub fn len(self) -> usize {
        self.iter().count()
    }

    /// Whether there are no pairs.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.pairs.is_empty()
    }

    /// Fields and values in the order of the bytes, each as [`Item::Bytes`].
    #[must_use]
    pub fn iter(self) -> Iter<'a> {
        Iter { rest: self.pairs }
    }
}

impl<'a> IntoIterator for View<'a> {
    type Item = (Item<'a>, Item<'a>);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Fields and values of a zipmap: see [`View::iter`].
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = (Item<'a>, Item<'a>);

    fn next(&mut self) -> Option<(Item<'a>, Item<'a>)> {
        match read_pair(self.rest) {
            Ok(Pair { field, value, rest }) => {
                self.rest = rest;
                Some((Item::Bytes(field), Item::Bytes(value)))
            }
            Err(_) => {
                self.rest = &[];
                None
            }
        }
    }
}

/// Checks every byte of a zipmap. A field that occurs twice is not damage here.
/// # Errors
/// The first damage found, in this order: end, pairs, number of pairs.
pub fn check(bytes: &[u8]) -> Result<View<'_>, Damage> {
    let damage = |at, reason| Damage { format: Format::Zipmap, at, reason };
    let [pairs, entries @ .., end] = bytes else { return Err(damage(bytes.len(), Reason::TooShort)) };
    if *end != END {
        return Err(damage(bytes.len() - 1, Reason::End));
    }
    let (mut rest, mut count) = (entries, 0);
    while !rest.is_empty() {
        let at = 1 + (entries.len() - rest.len());
        rest = read_pair(rest).map_err(|reason| damage(at, reason))?.rest;
        count += 1;
    }
    if *pairs != LONG && usize::from(*pairs) != count {
        return Err(damage(0, Reason::Count));
    }
    Ok(View { pairs: entries })
}

struct Pair<'a> {
    field: &'a [u8],
    value: &'a [u8],
    rest: &'a [u8],
}

/// The pair that `bytes`, without the end, begin with.
fn read_pair(bytes: &[u8]) -> Result<Pair<'_>, Reason> {
    let (field_len, rest) = read_len(bytes)?;
    let (field, rest) = rest.split_at_checked(field_len).ok_or(Reason::PastEnd)?;
    let (value_len, rest) = read_len(rest)?;
    let (unused_len, rest) = rest.split_first().ok_or(Reason::PastEnd)?;
    let (value, rest) = rest.split_at_checked(value_len).ok_or(Reason::PastEnd)?;
    let rest = rest.get(usize::from(*unused_len)..).ok_or(Reason::PastEnd)?;
    Ok(Pair { field, value, rest })
}

fn read_len(bytes: &[u8]) -> Result<(usize, &[u8]), Reason> {
    match bytes {
        [LONG, a, b, c, d, rest @ ..] => Ok((u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest)),
        [LONG, ..] | [] => Err(Reason::PastEnd),
        [END, ..] => Err(Reason::Encoding),
        [len, rest @ ..] => Ok((usize::from(*len), rest)),
    }
}
