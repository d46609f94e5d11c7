//! Splitting a line into words and writing a word so that it splits into itself: Redis's rules for quotes.
//!
//! Words are separated by white space. `"…"` takes `\n \r \t \b \a \xHH` and `\` before anything else as itself;
//! `'…'` takes only `\'`. A closing quote must be followed by white space or the end.

/// Why a line is not a list of words: a quote is not closed, or something follows a closing one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Unbalanced quotes in configuration line")]
pub(super) struct Unbalanced;

/// The words of a line.
pub(super) fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, Unbalanced> {
    let mut words = Vec::new();
    let mut rest = skip_space(line);
    while !rest.is_empty() {
        let mut word = Vec::new();
        while let Some((&byte, after)) = rest.split_first() {
            rest = match byte {
                b'"' => double_quoted(after, &mut word)?,
                b'\'' => single_quoted(after, &mut word)?,
                byte if is_space(byte) => break,
                byte => {
                    word.push(byte);
                    after
                }
            };
        }
        words.push(word);
        rest = skip_space(rest);
    }
    Ok(words)
}

/// `word` as it must be written in a line.
pub(super) fn quote(word: &[u8]) -> Vec<u8> {
    let plain =
        |byte: &u8| !byte.is_ascii_control() && !is_space(*byte) && !matches!(byte, b'"' | b'\'' | b'\\');
    if !word.is_empty() && !word.starts_with(b"#") && word.iter().all(plain) {
        return word.to_vec();
    }
    let mut quoted = vec![b'"'];
    for &byte in word {
        match byte {
            b'"' | b'\\' => quoted.extend([b'\\', byte]),
            b'\n' => quoted.extend(b"\\n"),
            b'\r' => quoted.extend(b"\\r"),
            b'\t' => quoted.extend(b"\\t"),
            byte if byte.is_ascii_control() => quoted.extend(format!("\\x{byte:02x}").bytes()),
            byte => quoted.push(byte),
        }
    }
    quoted.push(b'"');
    quoted
}

/// White space of C's locale, by which Redis splits.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c')
}

fn skip_space(line: &[u8]) -> &[u8] {
    &line[line.iter().take_while(|byte| is_space(**byte)).count()..]
}

fn closed(rest: &[u8]) -> Result<&[u8], Unbalanced> {
    match rest.first() {
        Some(&byte) if !is_space(byte) => Err(Unbalanced),
        _ => Ok(rest),
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        rest = match rest {
            [] | [b'\\'] => return Err(Unbalanced),
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

fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], Unbalanced> {
    loop {
        rest = match rest {
            [] => return Err(Unbalanced),
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
        fn check(line: &str, expected: &[&str]) {
            let words = split(line.as_bytes()).unwrap();
            assert_eq!(words, expected.iter().map(|word| word.as_bytes()).collect::<Vec<_>>(), "{line:?}");
        }
        check("", &[]);
        check("  port\t6379  ", &["port", "6379"]);
        check(r#"save """#, &["save", ""]);
        check(r#"a "b c" 'd "e'"#, &["a", "b c", "d \"e"]);
        check(r#""\x41\n\t\\\"\z""#, &["A\n\t\\\"z"]);
        check(r"'it\'s \n'", &[r"it's \n"]);
        check(r#"pre"fix" x"#, &["prefix", "x"]);
        check(r#""\xe6\x8c\x81""#, &["持"]);
        check(r#""\xg0""#, &["xg0"]);
        assert_eq!(split(b"\"\\xff\" M\xfcller").unwrap(), [b"\xff".as_slice(), b"M\xfcller"]);
        for line in ["\"a", "'a", "\"a\"b", "'a'b", "\"a\\", "\"a\\\""] {
            assert_eq!(split(line.as_bytes()), Err(Unbalanced), "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn a_quoted_word_splits_into_itself(words in prop::collection::vec(any::<Vec<u8>>(), 1..4)) {
            let line = words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(&b' ');
            prop_assert!(!line.contains(&b'\n') && !line.starts_with(b"#"));
            prop_assert_eq!(split(&line), Ok(words));
        }

        #[test]
        fn no_line_makes_the_splitter_panic(line: Vec<u8>) {
            drop(split(&line));
        }
    }
}
