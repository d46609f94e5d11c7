//! Splitting a line into words and writing a word so that it splits into itself: Redis's rules for quotes.
//!
//! Words are separated by white space; a vertical tab or a form feed inside a word does not end it, as in Redis. `"…"` takes `\n \r \t \b \a \xHH` and `\` before anything else as itself;
//! `'…'` takes only `\'`. A closing quote must be followed by white space or the end.

/// Why a line is not a list of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// A quote is not closed, or something follows a closing one.
    #[error("Unbalanced quotes in configuration line")]
    Unbalanced,
    /// Escapes make a word that is no text.
    #[error("a word is not UTF-8")]
    NotUtf8,
}

/// The words of a line.
/// # Errors
/// [`SplitError`].
pub fn split(line: &str) -> Result<Vec<String>, SplitError> {
    let mut words = Vec::new();
    let mut rest = line.trim_start_matches(is_space).as_bytes();
    while !rest.is_empty() {
        let mut word = Vec::new();
        while let Some((&byte, after)) = rest.split_first() {
            rest = match byte {
                // A closing quote ends the word.
                b'"' => {
                    rest = double_quoted(after, &mut word)?;
                    break;
                }
                b'\'' => {
                    rest = single_quoted(after, &mut word)?;
                    break;
                }
                b' ' | b'\t' | b'\n' | b'\r' => break,
                byte => {
                    word.push(byte);
                    after
                }
            };
        }
        words.push(String::from_utf8(word).map_err(|_| SplitError::NotUtf8)?);
        while let [byte, after @ ..] = rest
            && is_space(char::from(*byte))
        {
            rest = after;
        }
    }
    Ok(words)
}

/// `word` as it must be written in a line.
#[must_use]
pub fn quote(word: &str) -> String {
    let plain = |c: char| !c.is_control() && !is_space(c) && !matches!(c, '"' | '\'' | '\\');
    if !word.is_empty() && !word.starts_with('#') && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut quoted = String::from('"');
    for c in word.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// White space of C's locale, by which Redis splits.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

fn closed(rest: &[u8]) -> Result<&[u8], SplitError> {
    match rest.first() {
        Some(&byte) if !is_space(char::from(byte)) => Err(SplitError::Unbalanced),
        _ => Ok(rest),
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], SplitError> {
    loop {
        rest = match rest {
            [] | [b'\\'] => return Err(SplitError::Unbalanced),
            [b'"', after @ ..] => return closed(after),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.push(hex(*high) << 4 | hex(*low));
                after
            }
            [b'\\', escaped, after @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                after
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        };
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], SplitError> {
    loop {
        rest = match rest {
            [] => return Err(SplitError::Unbalanced),
            [b'\'', after @ ..] => return closed(after),
            [b'\\', b'\'', after @ ..] => {
                word.push(b'\'');
                after
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        };
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        letter => letter.to_ascii_lowercase() - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_split_as_in_redis() {
        fn check(line: &str, expected: Result<&[&str], SplitError>) {
            let words = split(line);
            let words = words.as_ref().map(|words| words.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(words.as_deref().map_err(|error| **error), expected, "{line:?}");
        }
        check("", Ok(&[]));
        check("  port\t6379  ", Ok(&["port", "6379"]));
        check(r#"save """#, Ok(&["save", ""]));
        check(r#"a "b c" 'd "e'"#, Ok(&["a", "b c", "d \"e"]));
        check(r#""\x41\n\t\\\"\z""#, Ok(&["A\n\t\\\"z"]));
        check(r"'it\'s \n'", Ok(&[r"it's \n"]));
        check(r#"pre"fix" x"#, Ok(&["prefix", "x"]));
        check("a\x0bb \x0bc", Ok(&["a\x0bb", "c"]));
        check("'a'\x0bb", Ok(&["a", "b"]));
        check(r#""\xe6\x8c\x81""#, Ok(&["持"]));
        check(r#""\xff""#, Err(SplitError::NotUtf8));
        check(r#""\xg0""#, Ok(&["xg0"]));
        for line in ["\"a", "'a", "\"a\"b", "'a'b", "\"a\\", "\"a\\\""] {
            check(line, Err(SplitError::Unbalanced));
        }
    }

    proptest! {
        #[test]
        fn a_quoted_word_splits_into_itself(words in prop::collection::vec(any::<String>(), 1..4)) {
            let line = words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
            prop_assert!(!line.contains('\n') && !line.starts_with('#'));
            prop_assert_eq!(split(&line), Ok(words));
        }

        #[test]
        fn no_line_makes_the_splitter_panic(line: String) {
            drop(split(&line));
        }
    }
}
