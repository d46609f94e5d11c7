//! The bytes of one entry: how it is read, and how it is written.

use super::Item;

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

/// Length of encoding and data by the first byte; 0 where more bytes must be read, and where no entry begins so.
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
pub(super) fn short_bytes_encoding(len: usize) -> Option<u8> {
    u8::try_from(len).ok().filter(|_| len < SHORT_LEN_END).map(|len| SHORT_BYTES | len)
}

#[inline]
pub(super) fn is_short_bytes(first: u8) -> bool {
    matches!(first, SHORT_BYTES..INT_13)
}

/// Whether bytes follow that have an encoding of several bytes.
#[inline]
pub(super) fn is_long_bytes(first: u8) -> bool {
    matches!(first, MEDIUM_BYTES..=LONG_BYTES)
}

/// Length of encoding and data of the entry at `at`. It may be more than there are bytes.
#[inline]
pub(super) fn content_len(bytes: &[u8], at: usize) -> Option<usize> {
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

/// Where the entry at `at` ends. It may be after the last byte.
#[inline]
pub(super) fn end(bytes: &[u8], at: usize) -> Option<usize> {
    let first = *bytes.get(at)?;
    // A search waits for this length before it can read the next entry. A predicted branch is faster than the table.
    if is_short_bytes(first) {
        return Some(at + usize::from(first - SHORT_BYTES) + 2);
    }
    match CONTENT_LEN[usize::from(first)] {
        0 => {
            let len = long_content_len(bytes.get(at..)?)?;
            at.checked_add(len)?.checked_add(backlen_len(len))
        }
        len => Some(at + usize::from(len) + 1),
    }
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
    let (&first, rest) = bytes.get(at..)?.split_first()?;
    let end_of = |len: usize| at + len + backlen_len(len);
    Some(match first {
        0..SHORT_BYTES => (Item::Int(first.into()), end_of(1)),
        SHORT_BYTES..INT_13 => {
            let len = usize::from(first - SHORT_BYTES);
            (Item::Bytes(rest.get(..len)?), at + 1 + len + 1)
        }
        INT_13..MEDIUM_BYTES => {
            // The shift to the left drops the three bits of the encoding, the one to the right repeats the sign.
            let value = i16::from_be_bytes([first, *rest.first()?]) << 3 >> 3;
            (Item::Int(value.into()), end_of(2))
        }
        MEDIUM_BYTES..LONG_BYTES => {
            let (&low, rest) = rest.split_first()?;
            let len = medium_len(first, low);
            (Item::Bytes(rest.get(..len)?), end_of(2 + len))
        }
        LONG_BYTES => {
            let (len, rest) = rest.split_first_chunk()?;
            let len = u32::from_le_bytes(*len) as usize;
            (Item::Bytes(rest.get(..len)?), end_of(5 + len))
        }
        INT_16 => (Item::Int(i16::from_le_bytes(*rest.first_chunk()?).into()), end_of(3)),
        INT_24 => {
            let &[low, middle, high] = rest.first_chunk()?;
            (Item::Int((i32::from_le_bytes([0, low, middle, high]) >> 8).into()), end_of(4))
        }
        INT_32 => (Item::Int(i32::from_le_bytes(*rest.first_chunk()?).into()), end_of(5)),
        INT_64 => (Item::Int(i64::from_le_bytes(*rest.first_chunk()?)), end_of(9)),
        _ => return None,
    })
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

/// The bytes of an entry, but for the element's own.
pub(super) struct Encoded<'a> {
    /// Encoding, and data of an integer.
    head: [u8; 9],
    head_len: usize,
    body: &'a [u8],
    backlen: [u8; 5],
    backlen_len: usize,
}

impl<'a> Encoded<'a> {
    #[inline]
    pub(super) fn of(item: Item<'a>) -> Encoded<'a> {
        let (head, head_len, body) = match item {
            Item::Int(value) => encode_int(value),
            Item::Bytes(bytes) => match super::integer(bytes) {
                Some(value) => encode_int(value),
                None => encode_bytes(bytes),
            },
        };
        let content_len = head_len + body.len();
        let (backlen, backlen_len) = backlen_of(content_len);
        Encoded { head, head_len, body, backlen, backlen_len }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.head_len + self.body.len() + self.backlen_len
    }

    /// Adds the bytes to the end.
    #[inline]
    pub(super) fn push(&self, list: &mut Vec<u8>) {
        list.extend_from_slice(&self.head[..self.head_len]);
        list.extend_from_slice(self.body);
        match self.backlen_len {
            1 => list.push(self.backlen[0]),
            len => list.extend_from_slice(&self.backlen[..len]),
        }
    }

    /// Writes the bytes to a place of exactly [`Encoded::len`] bytes.
    #[inline]
    pub(super) fn write(&self, place: &mut [u8]) {
        let (head, place) = place.split_at_mut(self.head_len);
        let (body, backlen) = place.split_at_mut(self.body.len());
        head.copy_from_slice(&self.head[..self.head_len]);
        body.copy_from_slice(self.body);
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
