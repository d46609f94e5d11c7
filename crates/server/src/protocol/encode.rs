//! Replies: every type of RESP2 and RESP3, in the bytes of Redis 7.0.

use bytes::Bytes;

/// From this length on bytes with several owners are shared instead of copied into the output of each receiver. A copy of
/// less is cheaper than the bookkeeping of a piece.
pub(crate) const SHARED_LEN_MIN: usize = 16 << 10;

/// The dialect a connection has chosen with HELLO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RespVersion {
    /// The default of every connection.
    #[default]
    Resp2,
    /// Typed replies.
    Resp3,
}

/// Long values within replies, which are not copied: each with the place in the other bytes where it belongs.
#[derive(Debug, Default)]
pub(crate) struct SharedValues {
    values: Vec<(usize, Bytes)>,
    /// Bytes of all of them.
    len: usize,
}

impl SharedValues {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Takes all of them, in order.
    pub(crate) fn take(&mut self) -> Vec<(usize, Bytes)> {
        self.len = 0;
        std::mem::take(&mut self.values)
    }

    fn push(&mut self, at: usize, value: Bytes) {
        self.len += value.len();
        self.values.push((at, value));
    }

    /// Drops those behind the first `len` other bytes. One that stands exactly there belongs to what is dropped: a reply never
    /// ends with a value.
    fn truncate(&mut self, len: usize) {
        while self.values.last().is_some_and(|(at, _)| *at >= len) {
            self.len -= self.values.pop().map_or(0, |(_, value)| value.len());
        }
    }

    /// Makes room for `len` other bytes at `position`.
    fn shift(&mut self, position: usize, len: usize) {
        for (at, _) in self.values.iter_mut().rev().take_while(|(at, _)| *at >= position) {
            *at += len;
        }
    }
}

/// Appends replies to a byte vector in one dialect.
///
/// Types that RESP2 does not have are written in the form Redis uses there: maps and sets as arrays, doubles, big
/// numbers and verbatim strings as bulk strings, booleans as 0 or 1.
#[derive(Debug)]
pub struct ReplyWriter<'a> {
    out: &'a mut Vec<u8>,
    shared: Option<&'a mut SharedValues>,
    version: RespVersion,
}

impl<'a> ReplyWriter<'a> {
    /// A writer that appends to `out`.
    pub fn new(out: &'a mut Vec<u8>, version: RespVersion) -> ReplyWriter<'a> {
        ReplyWriter { out, shared: None, version }
    }

    /// A writer that appends to `out`, and leaves long values to `shared`.
    pub(crate) fn sharing(
        out: &'a mut Vec<u8>,
        shared: &'a mut SharedValues,
        version: RespVersion,
    ) -> ReplyWriter<'a> {
        ReplyWriter { out, shared: Some(shared), version }
    }

    /// The dialect written from now on.
    pub(crate) fn set_version(&mut self, version: RespVersion) {
        self.version = version;
    }

    /// The dialect in use.
    pub(crate) fn version(&self) -> RespVersion {
        self.version
    }

    /// Bytes in the vector, including what was there before, without values that are shared.
    pub(crate) fn position(&self) -> usize {
        self.out.len()
    }

    /// Bytes in the buffer and of the values that are shared.
    pub(crate) fn total_len(&self) -> usize {
        self.out.len() + self.shared.as_ref().map_or(0, |shared| shared.len())
    }

    /// Takes back everything written since `position`.
    pub(crate) fn rewind(&mut self, position: usize) {
        self.out.truncate(position);
        if let Some(shared) = &mut self.shared {
            shared.truncate(position);
        }
    }

    /// What was written since `position`, without values that are shared.
    pub(crate) fn written_since(&self, position: usize) -> &[u8] {
        &self.out[position..]
    }

    /// Puts bytes in front of what was written since `position`.
    pub(crate) fn insert(&mut self, position: usize, bytes: &[u8]) {
        self.out.splice(position..position, bytes.iter().copied());
        if let Some(shared) = &mut self.shared {
            shared.shift(position, bytes.len());
        }
    }

    /// Appends bytes that are encoded already.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// A writer for the same vector with a shorter life.
    pub(crate) fn reborrow(&mut self) -> ReplyWriter<'_> {
        ReplyWriter { out: self.out, shared: self.shared.as_deref_mut(), version: self.version }
    }

    fn is_resp3(&self) -> bool {
        self.version == RespVersion::Resp3
    }

    /// `+OK`.
    pub(crate) fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A simple string; `text` must not contain line ends.
    pub(crate) fn simple(&mut self, text: &str) {
        self.out.push(b'+');
        self.out.extend_from_slice(text.as_bytes());
        self.end();
    }

    /// An error; `text` begins with its code. Line ends in it become blanks.
    pub(crate) fn error(&mut self, text: &[u8]) {
        self.out.push(b'-');
        self.out.extend(text.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
        self.end();
    }

    /// An integer.
    pub(crate) fn integer(&mut self, value: i64) {
        self.number(b':', value);
    }

    /// A count of things in memory as an integer.
    pub(crate) fn count(&mut self, value: usize) {
        self.length(b':', value);
    }

    /// A bulk string.
    pub(crate) fn bulk(&mut self, bytes: &[u8]) {
        self.out.reserve(bytes.len() + 16);
        self.length(b'$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.end();
    }

    /// A bulk string that may have other owners. `share` returns it as another owner of the same bytes, and is called only
    /// where that is cheaper than a copy.
    pub(crate) fn bulk_shared(&mut self, bytes: &[u8], share: impl FnOnce() -> Option<Bytes>) {
        if bytes.len() >= SHARED_LEN_MIN
            && let Some(shared) = &mut self.shared
            && let Some(value) = share()
        {
            debug_assert_eq!(value.len(), bytes.len(), "a share is of the whole value");
            write_length(self.out, b'$', value.len());
            shared.push(self.out.len(), value);
            self.end();
            return;
        }
        self.bulk(bytes);
    }

    /// An integer in decimal as a bulk string.
    pub(crate) fn bulk_integer(&mut self, value: i64) {
        self.bulk(itoa::Buffer::new().format(value).as_bytes());
    }

    /// The absent value.
    pub(crate) fn null(&mut self) {
        self.out.extend_from_slice(if self.is_resp3() { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// The absent array.
    pub(crate) fn null_array(&mut self) {
        self.out.extend_from_slice(if self.is_resp3() { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// The head of an array; `len` values follow.
    pub(crate) fn array(&mut self, len: usize) {
        self.length(b'*', len);
    }

    /// The head of a map; `len` pairs follow.
    pub(crate) fn map(&mut self, len: usize) {
        if self.is_resp3() { self.length(b'%', len) } else { self.length(b'*', len * 2) }
    }

    /// The head of a set; `len` values follow.
    pub(crate) fn set(&mut self, len: usize) {
        self.length(if self.is_resp3() { b'~' } else { b'*' }, len);
    }

    /// The head of an out-of-band message; `len` values follow.
    pub(crate) fn push(&mut self, len: usize) {
        self.length(if self.is_resp3() { b'>' } else { b'*' }, len);
    }

    /// The head of attributes of the value behind them; `len` pairs follow. Only RESP3 has them.
    pub(crate) fn attribute(&mut self, len: usize) {
        self.length(b'|', len);
    }

    /// A truth value.
    pub(crate) fn boolean(&mut self, value: bool) {
        self.out.extend_from_slice(match (self.is_resp3(), value) {
            (true, true) => b"#t\r\n",
            (true, false) => b"#f\r\n",
            (false, true) => b":1\r\n",
            (false, false) => b":0\r\n",
        });
    }

    /// A double with up to 17 significant digits (`%.17g`).
    pub(crate) fn double(&mut self, value: f64) {
        let text = holdfast_collections::double::format_double(value);
        if self.is_resp3() {
            self.out.push(b',');
            self.out.extend_from_slice(text.as_bytes());
            self.end();
        } else {
            self.bulk(text.as_bytes());
        }
    }

    /// An integer of any size, given in decimal.
    pub(crate) fn big_number(&mut self, digits: &str) {
        if self.is_resp3() {
            self.out.push(b'(');
            self.out.extend_from_slice(digits.as_bytes());
            self.end();
        } else {
            self.bulk(digits.as_bytes());
        }
    }

    /// A text for people; `format` is its three-letter kind (`txt`, `mkd`).
    pub(crate) fn verbatim(&mut self, format: [u8; 3], text: &[u8]) {
        if self.is_resp3() {
            self.length(b'=', text.len() + 4);
            self.out.extend_from_slice(&format);
            self.out.push(b':');
            self.out.extend_from_slice(text);
            self.end();
        } else {
            self.bulk(text);
        }
    }

    fn end(&mut self) {
        self.out.extend_from_slice(b"\r\n");
    }

    fn number(&mut self, marker: u8, value: i64) {
        self.out.push(marker);
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self.end();
    }

    fn length(&mut self, marker: u8, len: usize) {
        write_length(self.out, marker, len);
    }
}

fn write_length(out: &mut Vec<u8>, marker: u8, len: usize) {
    // Most lengths have one or two digits, and a reply has many: those are appended at once.
    match u8::try_from(len) {
        Ok(digit @ 0..=9) => out.extend_from_slice(&[marker, b'0' + digit, b'\r', b'\n']),
        Ok(len @ 10..=99) => {
            out.extend_from_slice(&[marker, b'0' + len / 10, b'0' + len % 10, b'\r', b'\n']);
        }
        _ => {
            out.push(marker);
            out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Appends a command in the form in which clients send it and logs hold it.
pub fn write_command(out: &mut Vec<u8>, args: &[&[u8]]) {
    let mut writer = ReplyWriter::new(out, RespVersion::Resp2);
    writer.array(args.len());
    for arg in args {
        writer.bulk(arg);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(write: impl Fn(&mut ReplyWriter<'_>), resp2: &str, resp3: &str) {
        for (version, expected) in [(RespVersion::Resp2, resp2), (RespVersion::Resp3, resp3)] {
            let mut out = Vec::new();
            write(&mut ReplyWriter::new(&mut out, version));
            assert_eq!(String::from_utf8_lossy(&out), expected, "{version:?}");
        }
    }

    #[test]
    fn lengths_have_their_digits() {
        for len in (0..1_200).chain([65_535, 1_000_000, usize::MAX]) {
            let mut out = b"before".to_vec();
            write_length(&mut out, b'*', len);
            assert_eq!(String::from_utf8_lossy(&out), format!("before*{len}\r\n"));
        }
    }

    #[test]
    fn every_type_has_its_bytes_in_both_dialects() {
        check(|w| w.ok(), "+OK\r\n", "+OK\r\n");
        check(|w| w.simple("PONG"), "+PONG\r\n", "+PONG\r\n");
        check(|w| w.error(b"ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n");
        check(|w| w.integer(-12), ":-12\r\n", ":-12\r\n");
        check(|w| w.bulk(b"abc"), "$3\r\nabc\r\n", "$3\r\nabc\r\n");
        check(|w| w.bulk(&[b'a'; 10]), "$10\r\naaaaaaaaaa\r\n", "$10\r\naaaaaaaaaa\r\n");
        check(
            |w| w.bulk_integer(i64::MIN),
            "$20\r\n-9223372036854775808\r\n",
            "$20\r\n-9223372036854775808\r\n",
        );
        check(|w| w.null(), "$-1\r\n", "_\r\n");
        check(|w| w.null_array(), "*-1\r\n", "_\r\n");
        check(|w| w.array(0), "*0\r\n", "*0\r\n");
        check(|w| w.map(3), "*6\r\n", "%3\r\n");
        check(|w| w.set(12), "*12\r\n", "~12\r\n");
        check(|w| w.push(2), "*2\r\n", ">2\r\n");
        check(|w| w.boolean(true), ":1\r\n", "#t\r\n");
        check(|w| w.boolean(false), ":0\r\n", "#f\r\n");
        check(
            |w| w.big_number("12345678901234567890"),
            "$20\r\n12345678901234567890\r\n",
            "(12345678901234567890\r\n",
        );
        check(|w| w.verbatim(*b"txt", b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n");
        check(|w| w.double(3.0), "$1\r\n3\r\n", ",3\r\n");
    }
}
