//! Values that several directives share, as users write them, and what is said of a value that is none.

/// Reads a number of bytes with an optional unit; `k` is 1000 and `kb` is 1024, as in Redis.
pub(super) fn parse_memory(text: &str) -> Option<u64> {
    let digits_len = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(digits_len);
    let unit: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1000 * 1000,
        "mb" => 1 << 20,
        "g" => 1000 * 1000 * 1000,
        "gb" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// Writes a number of bytes with the largest unit that keeps it exact.
pub(super) fn render_memory(bytes: u64) -> String {
    for (shift, unit) in [(30, "gb"), (20, "mb"), (10, "kb")] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// The text of a value, for the directives that take no other bytes.
pub(super) fn text(value: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(value).map_err(|_| "the value is not UTF-8".to_owned())
}

pub(super) fn between(min: u64, max: u64) -> String {
    format!("argument must be between {min} and {max} inclusive")
}

pub(super) fn one_of(words: &[&str]) -> String {
    format!("argument(s) must be one of the following: {}", words.join(", "))
}
