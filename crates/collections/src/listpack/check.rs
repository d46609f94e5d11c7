//! The check of bytes that come from a file or a client, and what can be wrong with them.

use std::fmt;

use super::View;
use super::entry::{self, ELEMENTS_UNKNOWN, EMPTY_LEN, END, HEADER_LEN};
use crate::element;

/// Why bytes are no valid value of a packed encoding. The bytes are at fault; a retry cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// The encoding the bytes were checked against.
    pub format: Format,
    /// Offset of the first damaged entry or header field; the number of bytes for [`Reason::TooShort`].
    pub at: usize,
    /// What is wrong there.
    pub reason: Reason,
}

/// The packed encodings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// See [`crate::listpack`].
    Listpack,
    /// See [`crate::intset`].
    Intset,
    /// See [`crate::ziplist`].
    Ziplist,
    /// See [`crate::zipmap`].
    Zipmap,
}

/// What can be wrong with the bytes of a packed encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There are fewer bytes than an empty value has.
    TooShort,
    /// The length in the header is not the number of bytes.
    Length,
    /// The header has an integer width other than 2, 4 and 8 bytes.
    Width,
    /// The last byte is not the end marker.
    End,
    /// An entry needs more bytes than there are.
    PastEnd,
    /// No entry begins with such a byte.
    Encoding,
    /// An entry states a wrong length of itself (listpack) or of the entry before it (ziplist).
    BackwardLength,
    /// The number of elements in the header is not that of the entries.
    Count,
    /// The header has a wrong offset of the last entry.
    Tail,
    /// An integer is not greater than the one before it.
    Order,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Listpack => "listpack",
            Format::Intset => "intset",
            Format::Ziplist => "ziplist",
            Format::Zipmap => "zipmap",
        })
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { format, at, reason } = self;
        match reason {
            Reason::TooShort => write!(f, "{format} of {at} bytes is too short"),
            Reason::Length => {
                write!(f, "length in the header of the {format} is not the number of its bytes")
            }
            Reason::Width => write!(f, "integer width in the header of the {format} is not 2, 4 or 8"),
            Reason::End => write!(f, "last byte of the {format}, at byte {at}, is not the end marker"),
            Reason::PastEnd => write!(f, "entry at byte {at} extends past the end of the {format}"),
            Reason::Encoding => write!(f, "entry at byte {at} of the {format} has an unknown encoding"),
            Reason::BackwardLength => {
                write!(f, "entry at byte {at} of the {format} has a wrong backward length")
            }
            Reason::Count => {
                write!(f, "number of elements in the header of the {format} is not that of its entries")
            }
            Reason::Tail => write!(f, "offset of the last entry in the header of the {format} is wrong"),
            Reason::Order => {
                write!(f, "integer at byte {at} of the {format} is not greater than the one before it")
            }
        }
    }
}

impl std::error::Error for Damage {}

/// Checks every byte of a listpack that another program may have written.
///
/// Encodings that are longer than necessary are accepted, as Redis accepts them.
/// # Errors
/// The first damage found, in this order: length, end, entries, number of elements.
pub fn check(bytes: &[u8]) -> Result<View<'_>, Damage> {
    let damage = |at, reason| Damage { format: Format::Listpack, at, reason };
    let header = bytes.first_chunk::<HEADER_LEN>().filter(|_| bytes.len() >= EMPTY_LEN);
    let Some(&[a, b, c, d, low, high]) = header else {
        return Err(damage(bytes.len(), Reason::TooShort));
    };
    if u32::from_le_bytes([a, b, c, d]) as usize != bytes.len() {
        return Err(damage(0, Reason::Length));
    }
    let end = bytes.len() - 1;
    if bytes[end] != END {
        return Err(damage(end, Reason::End));
    }
    let mut count = 0;
    let mut at = HEADER_LEN;
    while at < end {
        at = check_entry(&bytes[..end], at).map_err(|reason| damage(at, reason))?;
        count += 1;
    }
    let elements = u16::from_le_bytes([low, high]);
    if elements != ELEMENTS_UNKNOWN && usize::from(elements) != count {
        return Err(damage(HEADER_LEN - 2, Reason::Count));
    }
    Ok(View::trusted(bytes))
}

/// Checks one entry and returns where it ends. `bytes` are those before the end marker.
fn check_entry(bytes: &[u8], at: usize) -> Result<usize, Reason> {
    let len = element::content_len(bytes, at).ok_or_else(|| match bytes.get(at) {
        Some(first) if !element::is_long_bytes(*first) => Reason::Encoding,
        _ => Reason::PastEnd,
    })?;
    let rest = bytes.get(at..).and_then(|rest| rest.get(len..)).ok_or(Reason::PastEnd)?;
    if len <= 127 {
        return match rest.first() {
            Some(backlen) if usize::from(*backlen) == len => Ok(at + len + 1),
            Some(_) => Err(Reason::BackwardLength),
            None => Err(Reason::PastEnd),
        };
    }
    let (backlen, backlen_len) = entry::backlen_of(len);
    let actual = rest.get(..backlen_len).ok_or(Reason::PastEnd)?;
    if actual != &backlen[..backlen_len] {
        return Err(Reason::BackwardLength);
    }
    Ok(at + len + backlen_len)
}
