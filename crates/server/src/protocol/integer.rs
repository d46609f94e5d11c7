//! Integers in the one form that Redis takes for one.

/// Parses the canonical decimal form of an `i64`: no sign but `-`, no leading zero, no blank, not empty.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut value: u64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        // 19 digits fit in a u64.
        value = value * 10 + u64::from(digit - b'0');
    }
    if negative { 0i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() }
}

#[cfg(test)]
mod tests {
    use super::parse_i64;

    #[test]
    fn integers_are_canonical() {
        let table: &[(&[u8], Option<i64>)] = &[
            (b"0", Some(0)),
            (b"-0", None),
            (b"", None),
            (b"-", None),
            (b"01", None),
            (b"+1", None),
            (b" 1", None),
            (b"-7", Some(-7)),
            (b"9223372036854775807", Some(i64::MAX)),
            (b"9223372036854775808", None),
            (b"-9223372036854775808", Some(i64::MIN)),
            (b"-9223372036854775809", None),
            (b"99999999999999999999", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_i64(text), *expected, "{:?}", String::from_utf8_lossy(text));
        }
    }
}
