//! Doubles as text.

/// Integers below this are exact.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// The integer that a double is; none for others, for those that are not exact, and for -0.
#[inline]
#[must_use]
pub fn as_integer(value: f64) -> Option<i64> {
    let is_integer =
        value.trunc() == value && value.abs() < INTEGER_MAX && (value != 0.0 || value.is_sign_positive());
    #[expect(clippy::cast_possible_truncation, reason = "it is an integer, and small enough")]
    is_integer.then_some(value as i64)
}

/// Up to 17 significant digits, as C's `%.17g` writes them, with `inf`, `-inf` and `nan`: how Redis 7.0 writes doubles.
#[must_use]
pub fn format_double(value: f64) -> String {
    const DIGITS: i32 = 17;
    if let Some(integer) = as_integer(value) {
        return integer.to_string();
    }
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    if value == 0.0 {
        return "-0".to_owned();
    }
    let scientific = format!("{value:.16e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    if !(-4..DIGITS).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim_fraction(mantissa), exponent.unsigned_abs());
    }
    let decimals = usize::try_from(DIGITS - 1 - exponent).unwrap_or(0);
    trim_fraction(&format!("{value:.decimals$}")).to_owned()
}

/// Drops zeros at the end of a fraction, and the point when nothing is left behind it.
fn trim_fraction(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_have_seventeen_significant_digits() {
        let table = [
            (0.1, "0.10000000000000001"),
            (2.141, "2.141"),
            (-0.0, "-0"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (0.0001, "0.0001"),
            (0.00001, "1.0000000000000001e-05"),
            (1.5e300, "1.5000000000000001e+300"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, expected) in table {
            assert_eq!(format_double(value), expected);
        }
    }
}
