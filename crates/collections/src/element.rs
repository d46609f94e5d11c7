//! One element of a packed value: its encoding, and its data. What stands between elements is up to the value.
//!
//! ```text
//!  0vvvvvvv                    integer, 0 to 127
//!  10llllll                    bytes, length below 64
//!  110vvvvv vvvvvvvv           integer, 13 bits, signed
//!  1110llll llllllll           bytes, length below 4096
//!  11110000 u32 LE             bytes
//!  11110001 to 11110100        integer of 16, 24, 32 or 64 bits, signed, LE
//! ```
//!
//! The encodings are those of Redis 7.0 (`listpack.c`). An element that is the canonical decimal text of an `i64` is an integer.

use crate::listpack::{Item, integer};

/// Lengths of bytes from which on the next longer encoding is used.
const SHORT_LEN_END: usize = 1 << 6;
const MEDIUM_LEN_END: usize = 1 << 12;

const SHORT_BYTES: u8 = 0x80;
const INT_13: u8 = 0xC0;
const MEDIUM_BYTES: u8 = 0xE0;
const LONG_BYTES: u8 = 0xF0;
const INT_16: u8 = 0xF1;
const INT_24: u8 = 0xF2;
const INT_32: u8 = 0xF3;
const INT_64: u8 = 0xF4;

/// Length of encoding and data by the first byte; 0 where more bytes must be read, and where no element begins so.
const CONTENT_LEN: [u8; 256] = {
    let mut table = [0; 256];
    let mut first = 0_u8;
    loop {
        table[first as usize] = match first {
            0..SHORT_BYTES => 1,
            SHORT_BYTES..INT_13 => 1 + (first - SHORT_BYTES),
            INT_13..MEDIUM_BYTES => 2,
            INT_16 => 3,
            INT_24 => 4,
            INT_32 => 5,
            INT_64 => 9,
            _ => 0,
        };
        if first == u8::MAX {
            break table;
        }
        first += 1;
    }
};

/// The encoding of bytes of this length, where it is a single byte.
#[inline]
fn short_bytes_encoding(len: usize) -> Option<u8> {
    u8::try_from(len).ok().filter(|_| len < SHORT_LEN_END).map(|len| SHORT_BYTES | len)
}

#[inline]
pub(crate) fn is_short_bytes(first: u8) -> bool {
    matches!(first, SHORT_BYTES..INT_13)
}

/// Length of encoding and data of bytes with this first byte, see [`is_short_bytes`].
#[inline]
pub(crate) fn short_bytes_len(first: u8) -> usize {
    usize::from(first - SHORT_BYTES) + 1
}

/// Whether bytes follow that have an encoding of several bytes.
#[inline]
pub(crate) fn is_long_bytes(first: u8) -> bool {
    matches!(first, MEDIUM_BYTES..=LONG_BYTES)
}

/// Length of encoding and data of the element at `at`. It may be more than there are bytes.
#[inline]
pub(crate) fn content_len(bytes: &[u8], at: usize) -> Option<usize> {
    match CONTENT_LEN[usize::from(*bytes.get(at)?)] {
        0 => long_content_len(bytes.get(at..)?),
        len => Some(usize::from(len)),
    }
}

fn long_content_len(rest: &[u8]) -> Option<usize> {
    match *rest {
        [first @ MEDIUM_BYTES..LONG_BYTES, low, ..] => Some(2 + medium_len(first, low)),
        [LONG_BYTES, a, b, c, d, ..] => (u32::from_le_bytes([a, b, c, d]) as usize).checked_add(5),
        _ => None,
    }
}

#[inline]
fn medium_len(first: u8, low: u8) -> usize {
    usize::from(u16::from_be_bytes([first & 0x0F, low]))
}

/// Where the element at `at` ends. It may be after the last byte.
#[inline]
pub(crate) fn end(bytes: &[u8], at: usize) -> Option<usize> {
    let first = *bytes.get(at)?;
    // A search waits for this length before it can read the next element. A predicted branch is faster than the table.
    if is_short_bytes(first) {
        return Some(at + short_bytes_len(first));
    }
    at.checked_add(content_len(bytes, at)?)
}

/// The element at `at`, and the length of its encoding and data.
#[inline]
pub(crate) fn read(bytes: &[u8], at: usize) -> Option<(Item<'_>, usize)> {
    let (&first, rest) = bytes.get(at..)?.split_first()?;
    Some(match first {
        0..SHORT_BYTES => (Item::Int(first.into()), 1),
        SHORT_BYTES..INT_13 => {
            let len = usize::from(first - SHORT_BYTES);
            (Item::Bytes(rest.get(..len)?), 1 + len)
        }
        INT_13..MEDIUM_BYTES => {
            // The shift to the left drops the three bits of the encoding, the one to the right repeats the sign.
            let value = i16::from_be_bytes([first, *rest.first()?]) << 3 >> 3;
            (Item::Int(value.into()), 2)
        }
        MEDIUM_BYTES..LONG_BYTES => {
            let (&low, rest) = rest.split_first()?;
            let len = medium_len(first, low);
            (Item::Bytes(rest.get(..len)?), 2 + len)
        }
        LONG_BYTES => {
            let (len, rest) = rest.split_first_chunk()?;
            let len = u32::from_le_bytes(*len) as usize;
            (Item::Bytes(rest.get(..len)?), 5 + len)
        }
        INT_16 => (Item::Int(i16::from_le_bytes(*rest.first_chunk()?).into()), 3),
        INT_24 => {
            let &[low, middle, high] = rest.first_chunk()?;
            (Item::Int((i32::from_le_bytes([0, low, middle, high]) >> 8).into()), 4)
        }
        INT_32 => (Item::Int(i32::from_le_bytes(*rest.first_chunk()?).into()), 5),
        INT_64 => (Item::Int(i64::from_le_bytes(*rest.first_chunk()?)), 9),
        _ => return None,
    })
}

/// An element that is searched for.
pub(crate) struct Sought<'a> {
    bytes: &'a [u8],
    number: Option<i64>,
    /// The first byte of its encoding where that is a single one. It includes the length, so one comparison excludes other
    /// lengths. 0 stands for no such encoding: only integers begin with it.
    mark: u8,
}

impl<'a> Sought<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Sought<'a> {
        let mark = short_bytes_encoding(bytes.len()).unwrap_or(0);
        Sought { bytes, number: integer(bytes), mark }
    }

    /// Whether the element at `at` is this one. Bytes that are the text of an integer are found too, which other programs write.
    #[inline]
    pub(crate) fn is_at(&self, bytes: &[u8], at: usize) -> bool {
        let Some((&first, rest)) = bytes.get(at..).and_then(<[u8]>::split_first) else { return false };
        if is_short_bytes(first) {
            return first == self.mark && rest.starts_with(self.bytes);
        }
        if self.number.is_none() && !is_long_bytes(first) {
            return false;
        }
        match read(bytes, at) {
            Some((Item::Int(value), _)) => self.number == Some(value),
            Some((Item::Bytes(bytes), _)) => bytes == self.bytes,
            None => false,
        }
    }
}

/// The bytes of one element.
pub(crate) struct Encoded<'a> {
    /// Encoding, and data of an integer.
    head: [u8; 9],
    head_len: usize,
    body: &'a [u8],
}

impl<'a> Encoded<'a> {
    #[inline]
    pub(crate) fn of(item: Item<'a>) -> Encoded<'a> {
        let (head, head_len, body) = match item {
            Item::Int(value) => encode_int(value),
            Item::Bytes(bytes) => match integer(bytes) {
                Some(value) => encode_int(value),
                None => encode_bytes(bytes),
            },
        };
        Encoded { head, head_len, body }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.head_len + self.body.len()
    }

    /// Adds the bytes to the end.
    #[inline]
    pub(crate) fn push(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.head[..self.head_len]);
        bytes.extend_from_slice(self.body);
    }

    /// Writes the bytes to a place of exactly [`Encoded::len`] bytes.
    #[inline]
    pub(crate) fn write(&self, place: &mut [u8]) {
        let (head, body) = place.split_at_mut(self.head_len);
        head.copy_from_slice(&self.head[..self.head_len]);
        body.copy_from_slice(self.body);
    }
}

#[inline]
fn encode_int<'a>(value: i64) -> ([u8; 9], usize, &'a [u8]) {
    let mut head = [0; 9];
    // Little endian, so the low bytes are the integer in fewer bits, wherever it fits.
    head[1..].copy_from_slice(&value.to_le_bytes());
    let low = head[1];
    let high = head[2];
    let len = match value {
        0..=127 => {
            head[0] = low;
            1
        }
        -4096..=4095 => {
            head[0] = INT_13 | high & 0x1F;
            2
        }
        -0x8000..=0x7FFF => {
            head[0] = INT_16;
            3
        }
        -0x80_0000..=0x7F_FFFF => {
            head[0] = INT_24;
            4
        }
        -0x8000_0000..=0x7FFF_FFFF => {
            head[0] = INT_32;
            5
        }
        _ => {
            head[0] = INT_64;
            9
        }
    };
    (head, len, &[])
}

#[inline]
fn encode_bytes(bytes: &[u8]) -> ([u8; 9], usize, &[u8]) {
    let mut head = [0; 9];
    // Bytes that do not fit 32 bits never fit a listpack: the caller compares the length with the largest one allowed.
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let [low, high, ..] = len.to_le_bytes();
    let head_len = if bytes.len() < SHORT_LEN_END {
        head[0] = SHORT_BYTES | low;
        1
    } else if bytes.len() < MEDIUM_LEN_END {
        head[0] = MEDIUM_BYTES | high;
        head[1] = low;
        2
    } else {
        head[0] = LONG_BYTES;
        head[1..5].copy_from_slice(&len.to_le_bytes());
        5
    };
    (head, head_len, bytes)
}
