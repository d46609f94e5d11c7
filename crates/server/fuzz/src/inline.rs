//! Inline commands and configuration lines: quotes and escapes against a transcription of Redis's splitter.
//!
//! Checked: words and refusals are those of `sds.c`, `sdssplitargs`, in both of our splitters; what the configuration
//! quotes splits into itself.

use holdfast_server::config;
use holdfast_server::protocol::{DecodeLimits, Decoder, ProtocolError};

use crate::Target;

/// See the module.
pub const TARGET: Target = Target {
    name: "inline",
    run,
    len_max: 512,
    words: &[
        "\"", "'", "\\", "\\x", "\\x41", "\\n", "\\'", "\\\"", " ", "\t", "\u{b}", "\u{c}", "\r", "\0", "é",
    ],
};

fn run(line: &[u8]) {
    if line.contains(&b'\n') || line.contains(&0) || line.starts_with(b"*") {
        // Another line, or another kind of request.
        return;
    }
    let expected = split_slowly(line.strip_suffix(b"\r").unwrap_or(line));
    let limits = DecodeLimits { bulk_len_max: 1 << 20, authenticated: true, inline: true };
    let input = [line, b"\n"].concat();
    let mut decoder = Decoder::new();
    let words = match decoder.decode(&input, &limits) {
        Ok(step) => {
            assert_eq!(step.consumed, input.len());
            Some(step.request.map_or(Vec::new(), |it| it.args_from(0).map(<[u8]>::to_vec).collect()))
        }
        Err(ProtocolError::InlineQuotes) => None,
        Err(other) => panic!("{other}"),
    };
    assert_eq!(words, expected, "an inline command");
    let words = config::split(line).ok();
    assert_eq!(words, split_slowly(line), "a line of a configuration");
    if let Some(words) = words {
        let quoted = words.iter().map(|word| config::quote(word)).collect::<Vec<_>>().join(&b' ');
        assert_eq!(config::split(&quoted), Ok(words), "{}", quoted.escape_ascii());
    }
}

/// `sds.c`, `sdssplitargs` of Redis 7.0.15, state by state. The line holds no zero byte.
pub(crate) fn split_slowly(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let at = |index: usize| line.get(index).copied().unwrap_or(0);
    let is_space = |byte: u8| matches!(byte, b' ' | 9..=13);
    let mut index = 0;
    let mut words = Vec::new();
    loop {
        while at(index) != 0 && is_space(at(index)) {
            index += 1;
        }
        if at(index) == 0 {
            return Some(words);
        }
        let (mut in_double, mut in_single) = (false, false);
        let mut word = Vec::new();
        loop {
            let byte = at(index);
            if in_double {
                let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                match (byte, at(index + 1)) {
                    (b'\\', b'x') if hex(at(index + 2)).is_some() && hex(at(index + 3)).is_some() => {
                        word.push(hex(at(index + 2))? * 16 + hex(at(index + 3))?);
                        index += 3;
                    }
                    (b'\\', next) if next != 0 => {
                        index += 1;
                        word.push(match next {
                            b'n' => b'\n',
                            b'r' => b'\r',
                            b't' => b'\t',
                            b'b' => 8,
                            b'a' => 7,
                            other => other,
                        });
                    }
                    (b'"', next) if next != 0 && !is_space(next) => return None,
                    (b'"', _) => {
                        index += 1;
                        break;
                    }
                    (0, _) => return None,
                    _ => word.push(byte),
                }
            } else if in_single {
                match (byte, at(index + 1)) {
                    (b'\\', b'\'') => {
                        index += 1;
                        word.push(b'\'');
                    }
                    (b'\'', next) if next != 0 && !is_space(next) => return None,
                    (b'\'', _) => {
                        index += 1;
                        break;
                    }
                    (0, _) => return None,
                    _ => word.push(byte),
                }
            } else {
                match byte {
                    b' ' | b'\n' | b'\r' | b'\t' | 0 => break,
                    b'"' => in_double = true,
                    b'\'' => in_single = true,
                    other => word.push(other),
                }
            }
            if byte != 0 {
                index += 1;
            }
        }
        words.push(word);
    }
}
