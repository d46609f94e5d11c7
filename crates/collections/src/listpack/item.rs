//! An element as it is read or written: an integer or bytes.

use std::fmt;

/// One element of a packed encoding.
///
/// Bytes that are the canonical decimal text of an `i64` and that integer are the same element, and equal. Redis writes the
/// integer, as [`super::push_back`] and its relatives do; a file of another origin may hold either.
#[derive(Debug, Clone, Copy)]
pub enum Item<'a> {
    /// An integer, stored in binary.
    Int(i64),
    /// Any bytes, possibly none.
    Bytes(&'a [u8]),
}

/// Space for the text of one integer: see [`Item::as_bytes`].
#[derive(Clone, Copy, Default)]
pub struct Scratch(itoa::Buffer);

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scratch")
    }
}

impl Scratch {
    /// Makes the space, on the stack.
    #[inline]
    #[must_use]
    pub fn new() -> Scratch {
        Scratch(itoa::Buffer::new())
    }
}

impl<'a> Item<'a> {
    /// The element that these bytes are: an integer if they are the canonical decimal text of an `i64`.
    #[inline]
    #[must_use]
    pub fn from_bytes(bytes: &'a [u8]) -> Item<'a> {
        match integer(bytes) {
            Some(value) => Item::Int(value),
            None => Item::Bytes(bytes),
        }
    }

    /// The bytes a client sees. The text of an integer is written to `scratch`.
    #[inline]
    pub fn as_bytes<'s>(self, scratch: &'s mut Scratch) -> &'s [u8]
    where
        'a: 's,
    {
        match self {
            Item::Int(value) => scratch.0.format(value).as_bytes(),
            Item::Bytes(bytes) => bytes,
        }
    }

    /// Number of bytes a client sees.
    #[inline]
    #[must_use]
    pub fn len_as_bytes(self) -> usize {
        match self {
            Item::Int(value) => {
                let digits = value.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
                digits + usize::from(value < 0)
            }
            Item::Bytes(bytes) => bytes.len(),
        }
    }

    /// A copy of the bytes a client sees.
    #[must_use]
    pub fn to_vec(self) -> Vec<u8> {
        self.as_bytes(&mut Scratch::new()).to_vec()
    }

    /// Whether a client sees these bytes.
    #[inline]
    #[must_use]
    pub fn is(self, bytes: &[u8]) -> bool {
        match self {
            Item::Int(value) => integer(bytes) == Some(value),
            Item::Bytes(own) => own == bytes,
        }
    }
}

impl<'a> From<&'a [u8]> for Item<'a> {
    fn from(bytes: &'a [u8]) -> Item<'a> {
        Item::from_bytes(bytes)
    }
}

impl From<i64> for Item<'_> {
    fn from(value: i64) -> Self {
        Item::Int(value)
    }
}

impl PartialEq<Item<'_>> for Item<'_> {
    fn eq(&self, other: &Item<'_>) -> bool {
        match (*self, *other) {
            (Item::Int(value), Item::Int(other)) => value == other,
            (item, Item::Bytes(bytes)) | (Item::Bytes(bytes), item) => item.is(bytes),
        }
    }
}

impl Eq for Item<'_> {}

/// The integer whose canonical decimal text this is: no leading zero, no `+`, no `-0`, within the range of `i64`.
///
/// As `string2ll` of Redis 7.0 (`util.c`).
#[inline]
#[must_use]
pub fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    // `i64::MIN` has 19 digits. The largest number of 19 digits fits a `u64`.
    if digits.len() > 19 {
        return None;
    }
    let mut magnitude = 0_u64;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        magnitude = magnitude * 10 + u64::from(digit);
    }
    if negative { 0_i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}
