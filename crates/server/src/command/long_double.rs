//! The numbers of INCRBYFLOAT: the 80-bit floats of x86, in which Redis computes.
//!
//! With them `3.0 + 1.1` prints as `4.1`; with 64 bits it would not, and the text is what is stored. Reading and printing
//! are exact and rounded once, as the C library does it.

use std::cmp::Ordering;
use std::fmt;

/// Longest text that is read. Source: Redis 7.0, `MAX_LONG_DOUBLE_CHARS`.
const TEXT_LEN_MAX: usize = 5 * 1024;
/// Exponent of the least bit of the largest finite number.
const EXPONENT_MAX: i64 = 16_383 - 63;
/// Exponent of the least bit of the smallest number.
const EXPONENT_MIN: i64 = -16_445;
/// Exponents that are read; a larger one is as good as this one.
const DECIMAL_EXPONENT_MAX: i64 = 20_000;
/// Digits in front of the point (negative: zeros behind it) beyond which every number is infinite, or zero. The largest
/// number has 4,933, the smallest 4,950 zeros.
const MAGNITUDE_MAX: i64 = 4_940;
const MAGNITUDE_MIN: i64 = -4_960;
/// Digits printed behind the point.
const DECIMALS: u32 = 17;

/// `mantissa` times two to the power of `exponent`; or infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LongDouble {
    negative: bool,
    /// The highest bit is set, save for zero and for numbers with the smallest exponent.
    mantissa: u64,
    exponent: i64,
    infinite: bool,
}

impl LongDouble {
    pub(crate) const ZERO: LongDouble =
        LongDouble { negative: false, mantissa: 0, exponent: 0, infinite: false };

    /// Reads decimal, hexadecimal or infinite numbers, as `strtold` does; none for anything else, for NaN, and for what
    /// is too large or too small to be told from infinity or zero.
    pub(crate) fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() >= TEXT_LEN_MAX {
            return None;
        }
        let (negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        if text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity") {
            return Some(LongDouble { negative, infinite: true, ..LongDouble::ZERO });
        }
        let number = match text {
            [b'0', b'x' | b'X', digits @ ..] => parse_digits(digits, 16, b'p', 4)?,
            digits => parse_digits(digits, 10, b'e', 1)?,
        };
        Some(LongDouble { negative, ..number })
    }

    pub(crate) fn is_infinite(self) -> bool {
        self.infinite
    }

    /// Whether it is more than zero, however little.
    pub(crate) fn is_positive(self) -> bool {
        !self.negative && (self.mantissa > 0 || self.infinite)
    }

    /// The sum, rounded; none when it is infinite or not a number.
    pub(crate) fn add(self, other: LongDouble) -> Option<LongDouble> {
        if self.infinite || other.infinite {
            return None;
        }
        if self.mantissa == 0 || other.mantissa == 0 {
            let negative = self.negative && other.negative;
            return Some(match (self.mantissa, other.mantissa) {
                (0, 0) => LongDouble { negative, ..LongDouble::ZERO },
                (0, _) => other,
                _ => self,
            });
        }
        let (large, small) = if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        // 62 bits below the mantissa of the larger one; what falls off below them is kept as one sticky bit.
        let first = u128::from(large.mantissa) << 62;
        let second = shift_right_sticky(u128::from(small.mantissa) << 62, large.exponent - small.exponent);
        let (negative, sum) = if large.negative == small.negative {
            (large.negative, first + second)
        } else if first >= second {
            (large.negative, first - second)
        } else {
            (small.negative, second - first)
        };
        if sum == 0 {
            return Some(LongDouble::ZERO);
        }
        let rounded = round(sum, false, large.exponent - 62)?;
        Some(LongDouble { negative, ..rounded })
    }
}

impl fmt::Display for LongDouble {
    /// As `%.17Lf` without zeros at the end of the fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (integer, fraction) = if self.exponent >= 0 {
            let mut integer = Big::from(self.mantissa);
            integer.shift_left(u64::try_from(self.exponent).expect("not negative"));
            (integer.to_decimal(), 0)
        } else {
            let scale = 10u128.pow(DECIMALS);
            // 64 bits times 57 bits.
            let scaled = u128::from(self.mantissa) * scale;
            let rounded = round_half_even(scaled, self.exponent.unsigned_abs());
            ((rounded / scale).to_string(), rounded % scale)
        };
        let fraction = format!("{fraction:0width$}", width = DECIMALS as usize);
        let fraction = fraction.trim_end_matches('0');
        let is_zero = integer == "0" && fraction.is_empty();
        if self.negative && !is_zero {
            f.write_str("-")?;
        }
        f.write_str(&integer)?;
        if !fraction.is_empty() {
            write!(f, ".{fraction}")?;
        }
        Ok(())
    }
}

/// Reads digits with a point and an exponent; `digit_bits` is what a hexadecimal digit is worth.
fn parse_digits(text: &[u8], radix: u32, exponent_marker: u8, digit_bits: i64) -> Option<LongDouble> {
    let mut digits = Big::default();
    let mut at = 0;
    let mut seen = false;
    let mut point = false;
    let mut exponent: i64 = 0;
    while let Some(&byte) = text.get(at) {
        if byte == b'.' && !point {
            point = true;
        } else if let Some(digit) = char::from(byte).to_digit(radix) {
            digits.multiply_add(radix, digit);
            seen = true;
            exponent -= i64::from(point);
        } else {
            break;
        }
        at += 1;
    }
    if !seen {
        return None;
    }
    exponent *= digit_bits;
    match &text[at..] {
        [] => {}
        [marker, rest @ ..] if marker.eq_ignore_ascii_case(&exponent_marker) => {
            let (sign, rest) = match rest {
                [b'-', rest @ ..] => (-1, rest),
                [b'+', rest @ ..] => (1, rest),
                rest => (1, rest),
            };
            if rest.is_empty() || !rest.iter().all(u8::is_ascii_digit) {
                return None;
            }
            let amount = rest.iter().fold(0i64, |amount, digit| {
                (amount * 10 + i64::from(digit - b'0')).min(DECIMAL_EXPONENT_MAX * 10)
            });
            exponent += sign * amount;
        }
        _ => return None,
    }
    if digits.is_zero() {
        return Some(LongDouble::ZERO);
    }
    let number = if radix == 16 { digits.round(false, exponent)? } else { scale_decimal(digits, exponent)? };
    (number.mantissa != 0).then_some(number)
}

/// `digits` times ten to the power of `exponent`, rounded once.
fn scale_decimal(mut digits: Big, exponent: i64) -> Option<LongDouble> {
    // Digits of an integer with so many bits, or one more than there are. Checked first: the work below grows with the
    // square of the exponent.
    let len = i64::try_from(digits.bits()).ok()? * 30_103 / 100_000 + 1;
    if !(MAGNITUDE_MIN..=MAGNITUDE_MAX).contains(&(len + exponent)) {
        return None;
    }
    if exponent >= 0 {
        for _ in 0..exponent {
            digits.multiply_add(10, 0);
        }
        return digits.round(false, 0);
    }
    let mut divisor = Big::from(1);
    for _ in 0..exponent.unsigned_abs() {
        divisor.multiply_add(10, 0);
    }
    // Enough bits of the quotient to round to 64: its lowest bit is below the half.
    let shift = (66 + divisor.bits()).saturating_sub(digits.bits());
    digits.shift_left(shift);
    let (quotient, exact) = digits.divide(&divisor);
    quotient.round(!exact, -i64::try_from(shift).ok()?)
}

/// Rounds `value` (and a bit of what is below it, `sticky`) times two to the power of `exponent` to a number.
fn round(value: u128, sticky: bool, exponent: i64) -> Option<LongDouble> {
    let bits = i64::from(128 - value.leading_zeros());
    let drop = (bits - 64).max(EXPONENT_MIN - exponent);
    let (mut mantissa, mut exponent) = if drop <= 0 {
        (value << drop.unsigned_abs(), exponent + drop)
    } else {
        let kept = if sticky {
            round_half_even_sticky(value, drop.unsigned_abs())
        } else {
            round_half_even(value, drop.unsigned_abs())
        };
        (kept, exponent + drop)
    };
    if mantissa >> 64 != 0 {
        mantissa >>= 1;
        exponent += 1;
    }
    if exponent > EXPONENT_MAX {
        return None;
    }
    let mantissa = u64::try_from(mantissa).expect("64 bits were kept");
    Some(LongDouble { negative: false, mantissa, exponent, infinite: false })
}

/// `value` without its `drop` lowest bits, rounded to the nearest, halves to even.
fn round_half_even(value: u128, drop: u64) -> u128 {
    if drop == 0 {
        return value;
    }
    if drop >= 128 {
        // Less than a half, or in the one case of exactly 128 bits possibly more.
        return u128::from(drop == 128 && value > 1 << 127);
    }
    let kept = value >> drop;
    let rest = value & ((1 << drop) - 1);
    match rest.cmp(&(1 << (drop - 1))) {
        Ordering::Less => kept,
        Ordering::Equal => kept + (kept & 1),
        Ordering::Greater => kept + 1,
    }
}

/// As [`round_half_even`], when something is below the lowest bit of `value`.
fn round_half_even_sticky(value: u128, drop: u64) -> u128 {
    match drop {
        0 => value,
        drop => round_half_even(value | 1, drop.max(2)),
    }
}

fn shift_right_sticky(value: u128, by: i64) -> u128 {
    match u32::try_from(by) {
        Ok(by) if by < 128 => {
            let lost = value & ((1u128 << by) - 1) != 0;
            value >> by | u128::from(lost)
        }
        _ => 1,
    }
}

/// An unsigned integer of any size, the lowest limb first, without leading zeros.
#[derive(Debug, Clone, Default)]
struct Big {
    limbs: Vec<u32>,
}

impl From<u64> for Big {
    fn from(value: u64) -> Big {
        let low = u32::try_from(value & u64::from(u32::MAX)).expect("32 bits are left");
        let high = u32::try_from(value >> 32).expect("32 bits are left");
        let mut big = Big { limbs: vec![low, high] };
        big.trim();
        big
    }
}

impl Big {
    fn is_zero(&self) -> bool {
        self.limbs.is_empty()
    }

    fn bits(&self) -> u64 {
        match self.limbs.last() {
            Some(top) => self.limbs.len() as u64 * 32 - u64::from(top.leading_zeros()),
            None => 0,
        }
    }

    fn trim(&mut self) {
        while self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
    }

    fn multiply_add(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for limb in &mut self.limbs {
            let product = u64::from(*limb) * u64::from(factor) + carry;
            *limb = low_half(product);
            carry = product >> 32;
        }
        if carry > 0 {
            self.limbs.push(low_half(carry));
        }
    }

    fn shift_left(&mut self, by: u64) {
        let bits = u32::try_from(by % 32).expect("below 32");
        self.multiply_add(1 << bits, 0);
        let limbs = usize::try_from(by / 32).expect("a number of bits in memory");
        if !self.is_zero() {
            self.limbs.splice(0..0, std::iter::repeat_n(0, limbs));
        }
    }

    /// The quotient, which must have few bits, and whether the division leaves nothing.
    fn divide(mut self, divisor: &Big) -> (Big, bool) {
        let mut quotient = Big::default();
        let steps = self.bits().saturating_sub(divisor.bits());
        for step in (0..=steps).rev() {
            quotient.multiply_add(2, 0);
            let mut part = divisor.clone();
            part.shift_left(step);
            if self.subtract(&part) {
                quotient.multiply_add(1, 1);
            }
        }
        (quotient, self.is_zero())
    }

    /// Subtracts, if the result is not negative; tells whether it did.
    fn subtract(&mut self, other: &Big) -> bool {
        let order = self.limbs.len().cmp(&other.limbs.len());
        let order = order.then_with(|| self.limbs.iter().rev().cmp(other.limbs.iter().rev()));
        if order == Ordering::Less {
            return false;
        }
        let mut borrow = false;
        for (at, limb) in self.limbs.iter_mut().enumerate() {
            let subtrahend = other.limbs.get(at).copied().unwrap_or(0);
            let (difference, first) = limb.overflowing_sub(subtrahend);
            let (difference, second) = difference.overflowing_sub(u32::from(borrow));
            *limb = difference;
            borrow = first || second;
        }
        self.trim();
        true
    }

    /// Rounds to a number, as the function [`round`] does.
    fn round(&self, sticky: bool, exponent: i64) -> Option<LongDouble> {
        let limbs = self.limbs.len();
        let top = limbs.saturating_sub(4);
        let value = self.limbs[top..].iter().rev().fold(0u128, |value, limb| value << 32 | u128::from(*limb));
        let below = self.limbs[..top].iter().any(|&limb| limb != 0);
        round(value, sticky || below, exponent + i64::try_from(top * 32).ok()?)
    }

    fn to_decimal(&self) -> String {
        const CHUNK: u64 = 1_000_000_000;
        let mut limbs = self.limbs.clone();
        let mut chunks = Vec::new();
        while !limbs.is_empty() {
            let mut rest = 0u64;
            for limb in limbs.iter_mut().rev() {
                let value = rest << 32 | u64::from(*limb);
                *limb = low_half(value / CHUNK);
                rest = value % CHUNK;
            }
            chunks.push(rest);
            while limbs.last() == Some(&0) {
                limbs.pop();
            }
        }
        let Some(first) = chunks.pop() else { return "0".to_owned() };
        chunks.iter().rev().fold(first.to_string(), |text, chunk| format!("{text}{chunk:09}"))
    }
}

fn low_half(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).expect("32 bits are left")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: &str, b: &str, expected: Option<&str>) {
        let sum = LongDouble::parse(a.as_bytes())
            .and_then(|a| a.add(LongDouble::parse(b.as_bytes())?))
            .map(|sum| sum.to_string());
        assert_eq!(sum.as_deref(), expected, "{a} + {b}");
    }

    #[test]
    fn sums_print_as_in_redis() {
        check("3", "1.1", Some("4.1"));
        check("10.5", "0.1", Some("10.6"));
        check("1.23", "-0.23", Some("1"));
        check("5.0e3", "2.0e2", Some("5200"));
        check("0", "-0", Some("0"));
        check("-1", "1", Some("0"));
        check("17179869184", "1.5", Some("17179869185.5"));
        check("1", "1e-17", Some("1.00000000000000001"));
        check("0x10", "0x.8p1", Some("17"));
        check("1e300", "0", Some(&LongDouble::parse(b"1e300").expect("a number").to_string()));
        check("18446744073709551616", "1", Some("18446744073709551616"));
        check("9223372036854775807", "1", Some("9223372036854775808"));
        check("1e4932", "1e4932", None);
        check("inf", "1", None);
        check("1", "-inf", None);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in
            ["", " 1", "1 ", "1e", "abc", "nan", "0x", "1.2.3", ".", "1e99999", "1e-99999", "--1", "1p3"]
        {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn numbers_at_the_ends_of_the_range_are_read() {
        let is_number = |text: &str| LongDouble::parse(text.as_bytes()).is_some();
        assert!(is_number("1.18e4932") && !is_number("1.19e4932"));
        assert!(is_number("3.7e-4951") && !is_number("1.8e-4951"));
        let zeros = "0".repeat(5_000);
        assert!(is_number(&format!("1{zeros}e-5000")) && is_number(&format!("0.{zeros}1e5001")));
        assert!(!is_number("1e19999") && !is_number("1e-19999"));
    }

    #[test]
    fn rounding_is_exact() {
        // 2^64 + 1 lies between two numbers and goes to the even one; 2^64 + 3 goes up.
        check("18446744073709551617", "0", Some("18446744073709551616"));
        check("18446744073709551619", "0", Some("18446744073709551620"));
        check("0.1", "0.2", Some("0.3"));
        check("1e-4940", "0", Some("0"));
    }
}
