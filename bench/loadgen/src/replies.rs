//! Counts replies in a stream of bytes without keeping them.

/// Where a stream stands between two reads. RESP2: simple, error, integer, bulk, null, and arrays of any depth.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    /// Values that the reply still lacks; 0 between two replies. An array takes one and adds its length, so that no stack
    /// is needed.
    lacking: u64,
    /// Bytes of a bulk string, with its line end, that are still to come.
    skip: usize,
    /// The first bytes of a line whose end is still to come.
    line: Vec<u8>,
}

/// What a read brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// An array is one reply, whatever it holds.
    pub(crate) replies: u64,
    /// Replies that are an error, or hold one.
    pub(crate) errors: u64,
    /// Replies that are null or an empty array: what was asked for was not there.
    pub(crate) misses: u64,
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
                if self.skip == 0 {
                    self.complete(&mut counted);
                }
                continue;
            }
            let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
                self.line.extend_from_slice(bytes);
                break;
            };
            let (line, rest) = bytes.split_at(end + 1);
            bytes = rest;
            if self.line.is_empty() {
                self.take_line(line, &mut counted);
            } else {
                let mut whole = std::mem::take(&mut self.line);
                whole.extend_from_slice(line);
                self.take_line(&whole, &mut counted);
                whole.clear();
                self.line = whole;
            }
        }
        counted
    }

    /// Takes the value that a line is, or notes what follows the line.
    fn take_line(&mut self, line: &[u8], counted: &mut Counted) {
        let digits = line.get(1..line.len().saturating_sub(2)).unwrap_or(&[]);
        match line.first() {
            Some(b'+' | b':') => self.complete(counted),
            Some(b'_') => self.miss(counted),
            Some(b'$' | b'*') if digits == b"-1" => self.miss(counted),
            Some(b'*') if digits == b"0" => self.miss(counted),
            Some(b'$') => match parse_len(digits) {
                Some(len) => self.skip = len + 2,
                None => counted.garbled = true,
            },
            Some(b'*') => match parse_len(digits) {
                Some(len) => self.lacking = self.lacking.max(1) - 1 + len as u64,
                None => counted.garbled = true,
            },
            Some(b'-') => {
                counted.errors += 1;
                counted
                    .first_error
                    .get_or_insert_with(|| String::from_utf8_lossy(line).trim_end().to_owned());
                self.complete(counted);
            }
            _ => counted.garbled = true,
        }
    }

    /// A value without parts is whole; so is the reply when it lacks no other.
    fn complete(&mut self, counted: &mut Counted) {
        self.lacking = self.lacking.max(1) - 1;
        counted.replies += u64::from(self.lacking == 0);
    }

    fn miss(&mut self, counted: &mut Counted) {
        counted.misses += u64::from(self.lacking == 0);
        self.complete(counted);
    }
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

    const STREAM: &[u8] = b"+OK\r\n$3\r\na\nb\r\n:12\r\n$-1\r\n-ERR no\r\n$0\r\n\r\n+PONG\r\n\
        *2\r\n$1\r\nx\r\n*2\r\n:1\r\n*0\r\n*0\r\n*-1\r\n*1\r\n$-1\r\n";

    #[test]
    fn replies_are_counted_wherever_reads_split_them() {
        for first in 0..=STREAM.len() {
            for second in first..=STREAM.len() {
                let mut replies = Replies::default();
                let parts = [&STREAM[..first], &STREAM[first..second], &STREAM[second..]];
                let counted = parts.map(|part| replies.count(part));
                assert_eq!(counted.iter().map(|it| it.replies).sum::<u64>(), 11, "{first} {second}");
                assert_eq!(counted.iter().map(|it| it.misses).sum::<u64>(), 3, "{first} {second}");
                assert_eq!(counted.iter().map(|it| it.errors).sum::<u64>(), 1, "{first} {second}");
                assert!(counted.iter().all(|it| !it.garbled));
                assert_eq!(counted.into_iter().find_map(|it| it.first_error).as_deref(), Some("-ERR no"));
            }
        }
    }

    #[test]
    fn other_bytes_are_reported() {
        for stream in [&b"HTTP/1.1 400\r\n"[..], b"$x\r\n", b"*x\r\n", b"\n"] {
            assert!(Replies::default().count(stream).garbled, "{stream:?}");
        }
    }
}
