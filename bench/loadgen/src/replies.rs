//! Counts replies in a stream of bytes without keeping them.

/// Where a stream stands between two reads. Replies without nesting only: simple, error, integer, bulk, null.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    /// Bytes of a bulk string, with its line end, that are still to come.
    skip: usize,
    /// The first bytes of a line whose end is still to come.
    line: Vec<u8>,
}

/// What a read brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) replies: u64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    /// Bytes that no reply of the kinds above begins with.
    pub(crate) garbled: bool,
}

impl Replies {
    pub(crate) fn count(&mut self, mut bytes: &[u8]) -> Counted {
        let mut counted = Counted::default();
        while !bytes.is_empty() {
            if self.skip > 0 {
                let step = self.skip.min(bytes.len());
                self.skip -= step;
                bytes = &bytes[step..];
                counted.replies += u64::from(self.skip == 0);
                continue;
            }
            let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
                self.line.extend_from_slice(bytes);
                break;
            };
            let (line, rest) = bytes.split_at(end + 1);
            bytes = rest;
            if self.line.is_empty() {
                self.skip = take_line(line, &mut counted);
            } else {
                self.line.extend_from_slice(line);
                self.skip = take_line(&self.line, &mut counted);
                self.line.clear();
            }
        }
        counted
    }
}

/// Counts the reply that a line is, or returns the bytes that follow it.
fn take_line(line: &[u8], counted: &mut Counted) -> usize {
    match line.first() {
        Some(b'+' | b':' | b'_') => counted.replies += 1,
        Some(b'$') => {
            let digits = &line[1..line.len().saturating_sub(2)];
            if digits == b"-1" {
                counted.replies += 1;
            } else if let Some(len) = parse_len(digits) {
                return len + 2;
            } else {
                counted.garbled = true;
            }
        }
        Some(b'-') => {
            counted.replies += 1;
            counted.errors += 1;
            counted.first_error.get_or_insert_with(|| String::from_utf8_lossy(line).trim_end().to_owned());
        }
        _ => counted.garbled = true,
    }
    0
}

fn parse_len(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 10 {
        return None;
    }
    digits
        .iter()
        .try_fold(0, |len: usize, digit| digit.is_ascii_digit().then(|| len * 10 + usize::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"+OK\r\n$3\r\na\nb\r\n:12\r\n$-1\r\n-ERR no\r\n$0\r\n\r\n+PONG\r\n";

    #[test]
    fn replies_are_counted_wherever_reads_split_them() {
        for first in 0..=STREAM.len() {
            for second in first..=STREAM.len() {
                let mut replies = Replies::default();
                let parts = [&STREAM[..first], &STREAM[first..second], &STREAM[second..]];
                let counted = parts.map(|part| replies.count(part));
                assert_eq!(counted.iter().map(|it| it.replies).sum::<u64>(), 7, "{first} {second}");
                assert_eq!(counted.iter().map(|it| it.errors).sum::<u64>(), 1, "{first} {second}");
                assert!(counted.iter().all(|it| !it.garbled));
                assert_eq!(counted.into_iter().find_map(|it| it.first_error).as_deref(), Some("-ERR no"));
            }
        }
    }

    #[test]
    fn other_bytes_are_reported() {
        for stream in [&b"HTTP/1.1 400\r\n"[..], b"$x\r\n", b"*1\r\n", b"\n"] {
            assert!(Replies::default().count(stream).garbled, "{stream:?}");
        }
    }
}
