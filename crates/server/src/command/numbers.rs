//! Scores, weights and bounds as the C library reads them (`strtod`): decimal, hexadecimal, or infinite.

use crate::protocol::parse_i64;

/// Reads a score or a weight: a number without blanks around it that is not NaN, and not too large or too small to be told
/// from infinity or zero. As `string2d` of Redis 7.0 (`util.c`).
pub(crate) fn parse_score(text: &[u8]) -> Option<f64> {
    if let Some(number) = parse_i64(text) {
        // Rounded once, as by `strtod`.
        return Some(number as f64);
    }
    let Number { value, range } = parse_number(text)?;
    (range != Range::Outside).then_some(value)
}

/// Reads the number of a bound. It ends at a zero byte, may have blanks in front, is 0 where there is nothing, and infinite
/// where it is too large: Redis 7.0 (`zslParseRange`) looks at nothing but where `strtod` stops.
pub(crate) fn parse_bound(text: &[u8]) -> Option<f64> {
    parse_prefix(text).map(|number| number.value)
}

/// Reads what SORT compares: as a bound, but none if the C library reports a range error, as Redis 7.0 demands
/// (`sortCommandGeneric`).
pub(crate) fn parse_weight(text: &[u8]) -> Option<f64> {
    let Number { value, range } = parse_prefix(text)?;
    (range == Range::Within).then_some(value)
}

/// Reads what stands before the first zero byte as a number; blanks may precede it, and nothing is 0.
fn parse_prefix(text: &[u8]) -> Option<Number> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some(Number { value: 0.0, range: Range::Within });
    }
    let blanks = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r')).count();
    parse_number(&text[blanks..])
}

#[derive(Debug, Clone, Copy)]
struct Number {
    value: f64,
    range: Range,
}

/// Where the number of a text lies. The C library reports `ERANGE` for all but the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Range {
    Within,
    /// Below the smallest number with all bits, and rounded to fewer of them.
    Subnormal,
    /// The value is infinity or zero, and the text says another number.
    Outside,
}

/// Reads a whole text as a number that is not NaN.
fn parse_number(text: &[u8]) -> Option<Number> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if let [b'0', b'x' | b'X', digits @ ..] = digits {
        let number = parse_hexadecimal(digits)?;
        return Some(Number { value: if is_negative { -number.value } else { number.value }, ..number });
    }
    // Decimal numbers and infinities have the same grammar in Rust.
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok().filter(|value: &f64| !value.is_nan())?;
    let mut mantissa = digits.iter().take_while(|byte| !matches!(byte, b'e' | b'E'));
    let range = match value {
        _ if value.is_infinite() && mantissa.any(u8::is_ascii_digit) => Range::Outside,
        _ if value == 0.0 && mantissa.any(|byte| matches!(byte, b'1'..=b'9')) => Range::Outside,
        // Rounded, unless there are hundreds of digits.
        _ if value.is_subnormal() => Range::Subnormal,
        _ => Range::Within,
    };
    Some(Number { value, range })
}

/// Reads what follows `0x`: digits with at most one point and at most one exponent of two.
fn parse_hexadecimal(text: &[u8]) -> Option<Number> {
    /// Exponents that are read; a larger one is as good as this one, whatever the digits are: a request is shorter.
    const EXPONENT_MAX: i64 = 1 << 40;
    let (digits, exponent) = match text.iter().position(|byte| matches!(byte, b'p' | b'P')) {
        Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?.clamp(-EXPONENT_MAX, EXPONENT_MAX)),
        None => (text, 0),
    };
    // The value is `mantissa` times two to the power of `exponent`, and a little more if a bit was `lost`.
    let (mut mantissa, mut exponent, mut lost) = (0_u64, exponent, false);
    let (mut has_digits, mut is_fraction) = (false, false);
    for byte in digits {
        if *byte == b'.' && !is_fraction {
            is_fraction = true;
            continue;
        }
        let digit = char::from(*byte).to_digit(16)?;
        has_digits = true;
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | u64::from(digit);
            exponent -= if is_fraction { 4 } else { 0 };
        } else {
            lost |= digit != 0;
            exponent += if is_fraction { 0 } else { 4 };
        }
    }
    if !has_digits {
        return None;
    }
    let (value, is_exact) = scale(mantissa, exponent, lost);
    let range = match value {
        _ if value.is_infinite() || (value == 0.0 && mantissa != 0) => Range::Outside,
        _ if value.is_subnormal() && !is_exact => Range::Subnormal,
        _ => Range::Within,
    };
    Some(Number { value, range })
}

/// A sign and digits; none if there is anything else, or no digit. Saturates.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let magnitude = digits.iter().try_fold(0_i64, |value, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        Some(value.saturating_mul(10).saturating_add(i64::from(digit)))
    })?;
    Some(if is_negative { -magnitude } else { magnitude })
}

/// `mantissa` times two to the power of `exponent`, rounded once: to the nearest number, and to the even one of two. `lost`
/// says that the exact value is above that, by less than one unit of the mantissa. Returns whether the result is exact as well.
fn scale(mantissa: u64, exponent: i64, lost: bool) -> (f64, bool) {
    /// Bits of a mantissa, and the exponents of the least bit of the smallest and of the largest numbers.
    const BITS: i64 = 53;
    const EXPONENT_MIN: i64 = -1074;
    const EXPONENT_MAX: i64 = 971;
    if mantissa == 0 {
        return (0.0, true);
    }
    let len = i64::from(u64::BITS - mantissa.leading_zeros());
    // The exponent of the least bit that stays.
    let least = (exponent + len - BITS).max(EXPONENT_MIN);
    if least > EXPONENT_MAX {
        return (f64::INFINITY, false);
    }
    let dropped = least - exponent;
    let (kept, is_exact) = if dropped <= 0 {
        // At most 53 bits are there, so shifting them up to 53 loses none.
        (mantissa << u32::try_from(-dropped).unwrap_or(0), !lost)
    } else {
        let mantissa = u128::from(mantissa);
        let dropped = u32::try_from(dropped).unwrap_or(u32::MAX).min(100);
        let (kept, half) = (mantissa >> dropped, 1_u128 << (dropped - 1));
        let rest = mantissa & ((1 << dropped) - 1);
        let rounds_up = rest > half || (rest == half && (lost || kept & 1 == 1));
        (u64::try_from(kept).unwrap_or(0) + u64::from(rounds_up), !lost && rest == 0)
    };
    // Exact: `kept` has 53 bits at most, or is 2 to the power of 53.
    (kept as f64 * power_of_two(least), is_exact)
}

/// Two to a power from -1074 to 1023.
fn power_of_two(exponent: i64) -> f64 {
    let exponent = u64::try_from(exponent + 1074).expect("the exponent is -1074 at least");
    match exponent.checked_sub(51) {
        // The smallest numbers have no exponent of their own, but one bit at its place.
        None | Some(0) => f64::from_bits(1 << exponent),
        Some(biased) => f64::from_bits(biased << 52),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_read_as_the_c_library_reads_them() {
        let table: [(&str, Option<f64>); 41] = [
            ("0", Some(0.0)),
            ("-0", Some(-0.0)),
            ("1.5", Some(1.5)),
            ("+1.5", Some(1.5)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("1e3", Some(1000.0)),
            ("9223372036854775807", Some(9_223_372_036_854_775_808.0)),
            ("9007199254740993", Some(9_007_199_254_740_992.0)),
            ("inf", Some(f64::INFINITY)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("1e308", Some(1e308)),
            ("5e-324", Some(5e-324)),
            ("0e-999", Some(0.0)),
            ("0x10", Some(16.0)),
            ("-0X.8p1", Some(-1.0)),
            ("0x1p-1074", Some(5e-324)),
            ("0x1.fffffffffffff7p0", Some(2.0 - f64::EPSILON)),
            ("0x1.fffffffffffff8p0", Some(2.0)),
            ("0x10000000000000800000000000000001", Some(2_f64.powi(124) + 2_f64.powi(72))),
            ("0x1p-1075", None),
            ("0x1.8p-1075", Some(5e-324)),
            ("0x1p1024", None),
            ("0x1p99999999999999999999", None),
            ("0x", None),
            ("0x.", None),
            ("0x1p", None),
            ("0x1..1", None),
            ("1e999", None),
            ("-1e999", None),
            ("1e-999", None),
            (".001e-999", None),
            ("nan", None),
            ("-nan", None),
            ("", None),
            ("-", None),
            (".", None),
            (" 1", None),
            ("1 ", None),
            ("1\0", None),
            ("1e", None),
        ];
        for (text, expected) in table {
            let bits = |score: Option<f64>| score.map(f64::to_bits);
            let score = parse_score(text.as_bytes());
            assert_eq!(bits(score), bits(expected), "{text:?} is {score:?}");
        }
    }

    #[test]
    fn bounds_are_read_less_strictly() {
        let table: [(&str, Option<f64>); 12] = [
            ("", Some(0.0)),
            ("\0", Some(0.0)),
            ("5", Some(5.0)),
            (" \t5", Some(5.0)),
            ("5\0x", Some(5.0)),
            ("1e999", Some(f64::INFINITY)),
            ("1e-999", Some(0.0)),
            ("+inf", Some(f64::INFINITY)),
            ("5 ", None),
            (" ", None),
            ("nan", None),
            ("x", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_bound(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn weights_are_bounds_that_are_in_range() {
        let table: [(&str, Option<f64>); 35] = [
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
            ("0x1p", None),
            ("0x1p99999999999999999999", None),
            ("0x0p99999999999999999999", Some(0.0)),
            ("0x1p-99999999999999999999", None),
            // Exact, although it is below the smallest number with all bits.
            ("0x1p-1074", Some(5e-324)),
            ("0x1.8p-1074", None),
            ("0x20000000000001", Some(9_007_199_254_740_992.0)),
            ("0x20000000000001000000000000000001", Some(4.253_529_586_511_732e37)),
        ];
        for (text, expected) in table {
            assert_eq!(parse_weight(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn hexadecimal_numbers_are_rounded_once() {
        for seed in 0..2000_u64 {
            let mantissa = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            // The conversion of an integer rounds to the nearest, and the power of two changes nothing.
            let expected = mantissa as f64 * power_of_two(-30);
            assert_eq!(parse_score(format!("{mantissa:#x}p-30").as_bytes()), Some(expected), "{mantissa:#x}");
        }
    }
}
