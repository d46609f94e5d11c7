//! What SCAN, HSCAN, SSCAN and ZSCAN share.

use super::args::{integer, is};
use super::{Call, ReplyError, error};
use crate::glob;
use crate::protocol::ReplyWriter;

/// Options of a scan.
#[derive(Debug)]
pub(crate) struct ScanOptions<'a> {
    pub(crate) count: usize,
    pattern: Option<&'a [u8]>,
    /// SCAN alone: the name of a type.
    pub(crate) of_type: Option<&'a [u8]>,
}

impl<'a> ScanOptions<'a> {
    /// Reads the options from `at` on.
    pub(crate) fn parse(call: &Call<'a, '_>, at: usize) -> Result<ScanOptions<'a>, ReplyError> {
        let mut options = ScanOptions { count: 10, pattern: None, of_type: None };
        let mut at = at;
        while let Some(option) = call.request.arg_at(at) {
            let Some(value) = call.request.arg_at(at + 1) else { return Err(error::SYNTAX) };
            if is(option, "count") {
                options.count =
                    usize::try_from(integer(value)?).ok().filter(|&it| it > 0).ok_or(error::SYNTAX)?;
            } else if is(option, "match") {
                options.pattern = Some(value).filter(|pattern| *pattern != b"*");
            } else if is(option, "type") && is(call.arg(0), "scan") {
                options.of_type = Some(value);
            } else {
                return Err(error::SYNTAX);
            }
            at += 2;
        }
        Ok(options)
    }

    /// Whether the pattern, if there is one, fits.
    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name))
    }
}

/// What a scan has found, in one piece of memory.
#[derive(Debug, Default)]
pub(crate) struct Found {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Found {
    pub(crate) fn push(&mut self, name: &[u8]) {
        self.bytes.extend_from_slice(name);
        self.ends.push(self.bytes.len());
    }

    /// Writes the reply of a scan that goes on at `cursor`.
    pub(crate) fn write(&self, reply: &mut ReplyWriter<'_>, cursor: u64) {
        reply.array(2);
        reply.bulk(itoa::Buffer::new().format(cursor).as_bytes());
        reply.array(self.ends.len());
        let mut start = 0;
        for end in &self.ends {
            reply.bulk(&self.bytes[start..*end]);
            start = *end;
        }
    }
}

/// Reads a cursor.
pub(crate) fn cursor(arg: &[u8]) -> Result<u64, ReplyError> {
    parse_cursor(arg).ok_or(error::INVALID_CURSOR)
}

/// As `strtoul` has it: digits behind one sign, a negative number wraps, and nothing at all is 0.
fn parse_cursor(text: &[u8]) -> Option<u64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() && !text.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0u64, |value, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })?;
    Some(if is_negative { value.wrapping_neg() } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_strtoul_reads_them() {
        let cases: [(&[u8], Option<u64>); 10] = [
            (b"", Some(0)),
            (b"0", Some(0)),
            (b"+7", Some(7)),
            (b"-1", Some(u64::MAX)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"-", None),
            (b"--1", None),
            (b" 1", None),
            (b"1x", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_cursor(text), expected, "{}", text.escape_ascii());
        }
    }
}
