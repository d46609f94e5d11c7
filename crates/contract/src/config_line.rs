//! The words of a configuration line: how the server splits one, and how a word is written so that it splits into itself.
//!
//! The operator refuses the directives that it manages by these rules, so that the name it refuses is the one that the
//! server would read, however it is quoted.
//!
//! Words are separated by white space; a vertical tab or a form feed inside a word does not end it, as in Redis. `"…"` takes
//! `\n \r \t \b \a \xHH` and `\` before anything else as itself;
//! `'…'` takes only `\'`. A closing quote must be followed by white space or the end.

/// Why a line is not a list of words: a quote is not closed, or something follows a closing one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unbalanced;

impl std::fmt::Display for Unbalanced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unbalanced quotes in configuration line")
    }
}

impl std::error::Error for Unbalanced {}

/// A line of a configuration file as the server reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// The name in lower case, quotes and escapes resolved; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// The arguments, quotes and escapes resolved.
    pub arguments: Vec<Vec<u8>>,
}

/// The directive of a line; `None` for an empty line and a comment.
/// # Errors
/// [`Unbalanced`].
pub fn directive(line: &[u8]) -> Result<Option<Directive>, Unbalanced> {
    let text = trim(line);
    if text.is_empty() || text.starts_with(b"#") {
        return Ok(None);
    }
    let mut words = split(text)?.into_iter();
    // A form feed between sections is white space.
    let Some(name) = words.next() else { return Ok(None) };
    let name = String::from_utf8_lossy(&name).to_ascii_lowercase();
    Ok(Some(Directive { name, arguments: words.collect() }))
}

fn trim(line: &[u8]) -> &[u8] {
    let is_outer = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let line = &line[line.iter().take_while(|byte| is_outer(byte)).count()..];
    &line[..line.len() - line.iter().rev().take_while(|byte| is_outer(byte)).count()]
}

/// The words of a line, which may be any bytes.
/// # Errors
/// [`Unbalanced`].
pub fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, Unbalanced> {
    let mut words = Vec::new();
    let mut rest = skip_space(line);
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
        words.push(word);
        rest = skip_space(rest);
    }
    Ok(words)
}

/// `word` as it must be written in a line.
#[must_use]
pub fn quote(word: &[u8]) -> Vec<u8> {
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
    fn a_directive_is_known_by_its_name_however_it_is_quoted() {
        let name = |line: &str| directive(line.as_bytes()).unwrap().map(|directive| directive.name);
        for line in ["dir /x", "\tDIR /x", "\"\\x64ir\" /x", "'dir' /x", "d\"ir\" /x", "\x0b\"D\x69r\" /x"] {
            assert_eq!(name(line).as_deref(), Some("dir"), "{line:?}");
        }
        assert_eq!(name("  # dir /x"), None);
        assert_eq!(name(" \r\n"), None);
        assert_eq!(name(" \x0c\x0b\r\n"), None);
        assert_eq!(directive(b"dir \"/x"), Err(Unbalanced));
        assert_eq!(directive(b"save 900 1").unwrap().unwrap().arguments, [b"900".to_vec(), b"1".to_vec()]);
    }

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
        check("a\x0bb \x0bc", &["a\x0bb", "c"]);
        check("'a'\x0bb", &["a", "b"]);
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
