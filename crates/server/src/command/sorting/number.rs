//! Weights that are numbers.

use crate::command::error::c_text;

/// The number that a weight is, as `strtod` reads it: with blanks before it, decimal, hexadecimal or infinite. Nothing at all
/// is 0. None for what is no number, and for what is too large or too small to be told from infinity or zero.
///
/// Nothing counts from the first zero byte on, as in Redis.
pub(super) fn parse(text: &[u8]) -> Option<f64> {
    let text = c_text(text, usize::MAX);
    if text.is_empty() {
        return Some(0.0);
    }
    let blanks = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r')).count();
    let (is_negative, digits) = match &text[blanks..] {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let value = match digits {
        [b'0', b'x' | b'X', digits @ ..] => parse_hexadecimal(digits)?,
        // A sign was there, if any.
        [b'+' | b'-', ..] => return None,
        digits => parse_decimal(digits)?,
    };
    Some(if is_negative { -value } else { value })
}

fn parse_decimal(digits: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(digits).ok()?;
    let value: f64 = text.parse().ok()?;
    let is_infinity = matches!(digits, [b'i' | b'I', ..]);
    let significant = digits.iter().take_while(|byte| !matches!(byte, b'e' | b'E'));
    let is_zero = significant.into_iter().all(|byte| matches!(byte, b'0' | b'.'));
    (is_infinity || is_zero || value.is_normal()).then_some(value)
}

/// Reads what follows `0x`.
fn parse_hexadecimal(text: &[u8]) -> Option<f64> {
    /// Exponents are read up to here: a larger one is as good as this one, whatever the digits before it are.
    const EXPONENT_MAX: i64 = 1 << 40;
    let (digits, exponent) = match text.iter().position(|byte| matches!(byte, b'p' | b'P')) {
        Some(at) => (&text[..at], parse_exponent(&text[at + 1..], EXPONENT_MAX)?),
        None => (text, 0),
    };
    let (mut mantissa, mut exponent) = (0u64, exponent);
    let (mut point_seen, mut any) = (false, false);
    for byte in digits {
        if *byte == b'.' && !point_seen {
            point_seen = true;
            continue;
        }
        let digit = u64::from(char::from(*byte).to_digit(16)?);
        any = true;
        if mantissa >> 59 == 0 {
            mantissa = mantissa << 4 | digit;
            exponent -= if point_seen { 4 } else { 0 };
        } else {
            // What falls off counts for rounding alone: as one bit.
            mantissa |= u64::from(digit != 0);
            exponent += if point_seen { 0 } else { 4 };
        }
    }
    if !any || mantissa == 0 {
        return any.then_some(0.0);
    }
    #[expect(clippy::cast_precision_loss, reason = "this is where it is rounded")]
    let mut value = mantissa as f64;
    let step = if exponent < 0 { 0.5 } else { 2.0 };
    for _ in 0..exponent.unsigned_abs() {
        value *= step;
        if !value.is_normal() {
            return None;
        }
    }
    Some(value)
}

fn parse_exponent(text: &[u8], max: i64) -> Option<i64> {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] => (1, digits),
        digits => (1, digits),
    };
    if digits.is_empty() {
        return None;
    }
    digits
        .iter()
        .try_fold(0i64, |value, byte| {
            let digit = char::from(*byte).to_digit(10)?;
            Some((value * 10 + i64::from(digit)).min(max))
        })
        .map(|value| value * sign)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn numbers_are_read_as_strtod_reads_them() {
        let cases: &[(&str, Option<f64>)] = &[
            ("", Some(0.0)),
            ("\0a", Some(0.0)),
            ("12\0a", Some(12.0)),
            (" ", None),
            (" \t-12.5", Some(-12.5)),
            ("12 ", None),
            ("1.", Some(1.0)),
            (".5", Some(0.5)),
            (".", None),
            ("+7", Some(7.0)),
            ("+-7", None),
            ("1e3", Some(1000.0)),
            ("1e", None),
            ("abc", None),
            ("inf", Some(f64::INFINITY)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("nan", None),
            ("-nan", None),
            ("1e400", None),
            ("-1e400", None),
            ("1e-400", None),
            ("1e-310", None),
            ("0e9999", Some(0.0)),
            ("0.000", Some(0.0)),
            ("0x10", Some(16.0)),
            ("-0X1.8p1", Some(-3.0)),
            ("0x.8", Some(0.5)),
            ("0x", None),
            ("0x1p", None),
            ("0x1p99999999999999999999", None),
            ("0x0p99999999999999999999", Some(0.0)),
            ("0x1p-99999999999999999999", None),
            ("0x20000000000001", Some(9_007_199_254_740_992.0)),
            ("0x20000000000001000000000000000001", Some(4.253_529_586_511_732e37)),
            ("0x1g", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text.as_bytes()), *expected, "{text:?}");
        }
    }
}
