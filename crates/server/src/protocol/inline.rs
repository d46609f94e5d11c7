//! Splitting of inline commands: blanks separate, quotes group, with the escapes that Redis knows.

/// Splits `line` into arguments and hands each to `push`; false when quotes do not close. `scratch` is where an argument
/// is put together.
///
/// `"…"` knows `\n \r \t \b \a \xHH` and `\` before any other byte for itself; `'…'` knows only `\'`. A closing quote
/// must be followed by a blank or the end. Also the syntax of values in a configuration file.
pub(super) fn split(line: &[u8], scratch: &mut Vec<u8>, mut push: impl FnMut(&[u8])) -> bool {
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|&byte| is_blank(byte)) {
            at += 1;
        }
        if at == line.len() {
            return true;
        }
        scratch.clear();
        match split_one(&line[at..], scratch) {
            Some(len) => at += len,
            None => return false,
        }
        push(scratch);
    }
}

/// Reads one argument, which begins at the front of `line`, and returns the bytes it took.
fn split_one(line: &[u8], bytes: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        match line.get(at) {
            None | Some(b' ' | b'\n' | b'\r' | b'\t' | 0) => return Some(at),
            Some(b'"') => {
                let len = read_double_quoted(&line[at + 1..], bytes)?;
                return is_end(line, at + 1 + len).then_some(at + 1 + len);
            }
            Some(b'\'') => {
                let len = read_single_quoted(&line[at + 1..], bytes)?;
                return is_end(line, at + 1 + len).then_some(at + 1 + len);
            }
            Some(&byte) => bytes.push(byte),
        }
        at += 1;
    }
}

fn read_double_quoted(text: &[u8], bytes: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        match &text[at..] {
            [] => return None,
            [b'"', ..] => return Some(at + 1),
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                bytes.push(hex_digit(*high) * 16 + hex_digit(*low));
                at += 4;
            }
            [b'\\', escaped, ..] => {
                bytes.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                at += 2;
            }
            [byte, ..] => {
                bytes.push(*byte);
                at += 1;
            }
        }
    }
}

fn read_single_quoted(text: &[u8], bytes: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        match &text[at..] {
            [] => return None,
            [b'\'', ..] => return Some(at + 1),
            [b'\\', b'\'', ..] => {
                bytes.push(b'\'');
                at += 2;
            }
            [byte, ..] => {
                bytes.push(*byte);
                at += 1;
            }
        }
    }
}

fn is_end(line: &[u8], at: usize) -> bool {
    line.get(at).is_none_or(|&byte| is_blank(byte))
}

/// C's `isspace`.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}
