//! Requests: arrays of bulk strings, and inline commands.
//!
//! The decoder keeps what it has understood of a partial request, so that bytes which arrive one at a time cost no more
//! than bytes which arrive together. Its answers depend only on the bytes, never on how they were cut.

use std::ops::{Index, Range};

use super::inline;
use crate::limits::{LINE_LEN_MAX, REQUEST_ARGS_MAX, UNAUTHENTICATED_ARGS_MAX, UNAUTHENTICATED_BULK_LEN_MAX};

/// Capacity of the scratch list that survives a request with very many arguments.
const SCRATCH_KEPT: usize = 1024;

/// What a sender may declare at the moment.
#[derive(Debug, Clone, Copy)]
pub struct DecodeLimits {
    /// Longest argument in bytes (`proto-max-bulk-len`).
    pub bulk_len_max: u64,
    /// Whether the stricter bounds for unauthenticated senders are lifted.
    pub authenticated: bool,
    /// Whether inline commands are allowed; a log of commands allows none.
    pub inline: bool,
}

impl DecodeLimits {
    /// For a log of commands: multibulk only, and any length that an `i64` holds.
    pub const LOG: DecodeLimits =
        DecodeLimits { bulk_len_max: i64::MAX as u64, authenticated: true, inline: false };
}

/// The sender does not speak the protocol. The connection gets [`ProtocolError::reply_text`] and is closed.
///
/// Texts are Redis 7.0's, to the byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// More than [`LINE_LEN_MAX`] bytes without a line end after `*`.
    #[error("too big mbulk count string")]
    CountLineLen,
    /// The number of arguments is not a number, or above [`REQUEST_ARGS_MAX`].
    #[error("invalid multibulk length")]
    Count,
    /// More than [`UNAUTHENTICATED_ARGS_MAX`] arguments before authentication.
    #[error("unauthenticated multibulk length")]
    CountUnauthenticated,
    /// More than [`LINE_LEN_MAX`] bytes without a line end after `$`.
    #[error("too big bulk count string")]
    BulkLineLen,
    /// An argument did not begin with `$`.
    #[error("expected '$', got '{}'", char::from(*.0))]
    BulkExpected(u8),
    /// The length of an argument is not a number, negative, or above the limit.
    #[error("invalid bulk length")]
    Bulk,
    /// An argument above [`UNAUTHENTICATED_BULK_LEN_MAX`] before authentication.
    #[error("unauthenticated bulk length")]
    BulkUnauthenticated,
    /// An inline command above [`LINE_LEN_MAX`].
    #[error("too big inline request")]
    InlineLen,
    /// An inline command whose quotes do not close.
    #[error("unbalanced quotes in request")]
    InlineQuotes,
    /// A request that does not begin with `*` where only arrays are allowed.
    #[error("expected '*', got '{}'", char::from(*.0))]
    ArrayExpected(u8),
}

impl ProtocolError {
    /// The error reply without its leading `-` and line end.
    pub fn reply_text(&self) -> Vec<u8> {
        let mut text = b"ERR Protocol error: ".to_vec();
        match self {
            // The byte as it came, which need not be valid UTF-8.
            ProtocolError::BulkExpected(byte) => {
                text.extend_from_slice(b"expected '$', got '");
                text.extend_from_slice(&[*byte, b'\'']);
            }
            other => text.extend_from_slice(other.to_string().as_bytes()),
        }
        text
    }
}

/// One request: its arguments, the command name first; never empty.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    bytes: &'a [u8],
    args: &'a [Range<usize>],
}

impl<'a> Request<'a> {
    /// Number of arguments, the command name included.
    pub fn len(&self) -> usize {
        self.args.len()
    }

    /// Always false: the decoder skips empty requests.
    pub fn is_empty(&self) -> bool {
        self.args.is_empty()
    }

    /// The argument at `index`; 0 is the command name. Panics when out of range, as indexing does.
    pub fn arg(&self, index: usize) -> &'a [u8] {
        &self.bytes[self.args[index].clone()]
    }

    /// The argument at `index`, if there is one.
    pub fn arg_at(&self, index: usize) -> Option<&'a [u8]> {
        self.args.get(index).map(|range| &self.bytes[range.clone()])
    }

    /// The arguments from `first` on, in order.
    pub fn args_from(&self, first: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let bytes = self.bytes;
        self.args[first.min(self.args.len())..].iter().map(move |range| &bytes[range.clone()])
    }

    /// Bytes of all arguments together.
    pub fn args_len(&self) -> usize {
        self.args.iter().map(ExactSizeIterator::len).sum()
    }

    /// A copy that owns its bytes.
    pub fn to_owned(&self) -> OwnedRequest {
        let mut owned = OwnedRequest { bytes: Vec::with_capacity(self.args_len()), args: Vec::new() };
        owned.args.reserve_exact(self.len());
        for arg in self.args_from(0) {
            owned.push(arg);
        }
        owned
    }
}

impl Index<usize> for Request<'_> {
    type Output = [u8];
    fn index(&self, index: usize) -> &[u8] {
        self.arg(index)
    }
}

/// A request that owns its bytes: what a transaction queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRequest {
    bytes: Vec<u8>,
    args: Vec<Range<usize>>,
}

impl OwnedRequest {
    /// A request of these arguments, the command name first.
    pub fn from_args<A: AsRef<[u8]>>(args: &[A]) -> OwnedRequest {
        let mut owned = OwnedRequest { bytes: Vec::new(), args: Vec::with_capacity(args.len()) };
        for arg in args {
            owned.push(arg.as_ref());
        }
        owned
    }

    /// The same request, borrowed.
    pub fn as_request(&self) -> Request<'_> {
        Request { bytes: &self.bytes, args: &self.args }
    }

    /// Bytes held, for memory accounting.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.args.capacity() * size_of::<Range<usize>>() + size_of::<OwnedRequest>()
    }

    fn push(&mut self, arg: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(arg);
        self.args.push(start..self.bytes.len());
    }
}

/// The result of looking at the bytes once.
#[derive(Debug)]
pub struct Step<'a> {
    /// Bytes at the front that are done with and are to be dropped before the next call. May be above 0 without a
    /// request, when empty requests were skipped.
    pub consumed: usize,
    /// The next request; none when more bytes are needed.
    pub request: Option<Request<'a>>,
}

/// The state of one sender between calls.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Arguments understood so far, relative to the start of the request.
    args: Vec<Range<usize>>,
    /// Arguments that are still to come; 0 between requests.
    args_missing: usize,
    /// Bytes of the request in progress that are understood.
    understood: usize,
    /// Bytes behind `understood` known to hold no line end.
    scanned: usize,
    /// Declared length of the argument that is being received.
    bulk_len: Option<usize>,
    /// Bytes of an inline command after its quotes were resolved.
    inline: Vec<u8>,
}

/// A header line such as `*3`.
enum Line {
    /// Not complete yet.
    Partial,
    /// No line end within [`LINE_LEN_MAX`].
    TooLong,
    /// The number, if it is one, and the offset behind the line end.
    Number(Option<i64>, usize),
}

impl Decoder {
    /// A decoder at the start of a request.
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Whether part of a request has been received.
    pub fn is_partial(&self) -> bool {
        self.understood > 0 || self.scanned > 0
    }

    /// How many bytes in all (counted from the start of the request) are needed to complete the argument in progress.
    ///
    /// A reader may use it to size its reads; it must bound it by what it is willing to hold.
    pub fn needed_len(&self) -> Option<usize> {
        self.bulk_len.map(|len| self.understood.saturating_add(len).saturating_add(2))
    }

    /// Looks for the next request at the front of `input`.
    ///
    /// Between calls `input` may only lose the `consumed` bytes at its front and grow at its end.
    /// # Errors
    /// [`ProtocolError`]; afterwards the decoder must not be used again.
    pub fn decode<'a>(
        &'a mut self,
        input: &'a [u8],
        limits: &DecodeLimits,
    ) -> Result<Step<'a>, ProtocolError> {
        let mut start = 0;
        loop {
            let rest = &input[start..];
            if self.args_missing == 0 {
                let Some(&first) = rest.first() else { return Ok(Step { consumed: start, request: None }) };
                if first != b'*' {
                    if !limits.inline {
                        return Err(ProtocolError::ArrayExpected(first));
                    }
                    let Some(line_len) = self.find_inline_end(rest)? else {
                        return Ok(Step { consumed: start, request: None });
                    };
                    let line = rest[..line_len].strip_suffix(b"\r").unwrap_or(&rest[..line_len]);
                    start += line_len + 1;
                    self.scanned = 0;
                    self.args.clear();
                    self.inline.clear();
                    if !inline::split(line, &mut self.inline, &mut self.args) {
                        return Err(ProtocolError::InlineQuotes);
                    }
                    if self.args.is_empty() {
                        continue;
                    }
                    return Ok(Step {
                        consumed: start,
                        request: Some(Request { bytes: &self.inline, args: &self.args }),
                    });
                }
                match self.read_line(rest) {
                    Line::Partial => return Ok(Step { consumed: start, request: None }),
                    Line::TooLong => return Err(ProtocolError::CountLineLen),
                    Line::Number(count, end) => {
                        let count =
                            count.filter(|&count| count <= REQUEST_ARGS_MAX).ok_or(ProtocolError::Count)?;
                        if count > UNAUTHENTICATED_ARGS_MAX && !limits.authenticated {
                            return Err(ProtocolError::CountUnauthenticated);
                        }
                        self.scanned = 0;
                        if count <= 0 {
                            start += end;
                            continue;
                        }
                        self.args.clear();
                        self.args.shrink_to(SCRATCH_KEPT);
                        self.args_missing = usize::try_from(count).map_err(|_| ProtocolError::Count)?;
                        self.understood = end;
                    }
                }
            }
            if !self.read_bulks(&input[start..], limits)? {
                return Ok(Step { consumed: start, request: None });
            }
            let end = std::mem::take(&mut self.understood);
            return Ok(Step {
                consumed: start + end,
                request: Some(Request { bytes: &input[start..start + end], args: &self.args }),
            });
        }
    }

    /// Reads arguments until none is missing (true) or bytes run out (false).
    fn read_bulks(&mut self, rest: &[u8], limits: &DecodeLimits) -> Result<bool, ProtocolError> {
        while self.args_missing > 0 {
            let len = match self.bulk_len {
                Some(len) => len,
                None => {
                    let line = &rest[self.understood..];
                    let Some(&first) = line.first() else { return Ok(false) };
                    let (len, end) = match self.read_line(line) {
                        Line::Partial => return Ok(false),
                        Line::TooLong => return Err(ProtocolError::BulkLineLen),
                        Line::Number(len, end) => (len, end),
                    };
                    if first != b'$' {
                        return Err(ProtocolError::BulkExpected(first));
                    }
                    let len = len.filter(|&len| len >= 0).ok_or(ProtocolError::Bulk)?;
                    if len.unsigned_abs() > limits.bulk_len_max {
                        return Err(ProtocolError::Bulk);
                    }
                    if len > UNAUTHENTICATED_BULK_LEN_MAX && !limits.authenticated {
                        return Err(ProtocolError::BulkUnauthenticated);
                    }
                    self.scanned = 0;
                    self.understood += end;
                    let len = usize::try_from(len).map_err(|_| ProtocolError::Bulk)?;
                    *self.bulk_len.insert(len)
                }
            };
            // The two bytes behind an argument are not looked at, as in Redis.
            if rest.len() - self.understood < len.saturating_add(2) {
                return Ok(false);
            }
            self.args.push(self.understood..self.understood + len);
            self.understood += len + 2;
            self.bulk_len = None;
            self.args_missing -= 1;
        }
        Ok(true)
    }

    /// Reads the header line at the front of `line`, whose first byte is its marker.
    fn read_line(&mut self, line: &[u8]) -> Line {
        // Nearly every header is a marker, one or two digits and the line end.
        if let [_, a @ b'0'..=b'9', b'\r', _, ..] = *line {
            return Line::Number(Some(i64::from(a - b'0')), 4);
        }
        if let [_, a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', _, ..] = *line {
            return Line::Number(Some(i64::from(a - b'0') * 10 + i64::from(b - b'0')), 5);
        }
        // A zero byte ends the search, as it does for a C string: such a line can never end.
        let found = line[self.scanned..].iter().position(|&byte| byte == b'\r' || byte == 0);
        let at = found.map(|at| at + self.scanned).filter(|&at| line[at] == b'\r');
        let Some(at) = at else {
            if line.len() > LINE_LEN_MAX {
                return Line::TooLong;
            }
            self.scanned = found.map_or(line.len(), |at| self.scanned + at);
            return Line::Partial;
        };
        self.scanned = at;
        if line.len() < at + 2 {
            return Line::Partial;
        }
        Line::Number(parse_i64(&line[1..at]), at + 2)
    }

    /// The offset of the line feed that ends the inline command at the front of `rest`.
    fn find_inline_end(&mut self, rest: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let found = rest[self.scanned..].iter().position(|&byte| byte == b'\n' || byte == 0);
        match found.map(|at| at + self.scanned) {
            Some(at) if rest[at] == b'\n' => Ok(Some(at)),
            _ if rest.len() > LINE_LEN_MAX => Err(ProtocolError::InlineLen),
            stuck => {
                self.scanned = stuck.unwrap_or(rest.len());
                Ok(None)
            }
        }
    }
}

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
    use super::*;
    use proptest::prelude::*;

    const OPEN: DecodeLimits =
        DecodeLimits { bulk_len_max: 512 * 1024 * 1024, authenticated: true, inline: true };
    const CLOSED: DecodeLimits = DecodeLimits { authenticated: false, ..OPEN };

    type Decoded = (Vec<Vec<Vec<u8>>>, Result<usize, ProtocolError>);

    /// Decodes `input` as it arrives in `pieces`; gives the requests, and the bytes left over or the error.
    fn decode_pieces<'p>(pieces: impl IntoIterator<Item = &'p [u8]>, limits: &DecodeLimits) -> Decoded {
        let mut decoder = Decoder::new();
        let mut buffer: Vec<u8> = Vec::new();
        let mut requests = Vec::new();
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                match decoder.decode(&buffer, limits) {
                    Err(error) => return (requests, Err(error)),
                    Ok(Step { consumed, request }) => {
                        let done = request.is_none();
                        if let Some(request) = request {
                            requests.push(request.args_from(0).map(<[u8]>::to_vec).collect());
                        }
                        buffer.drain(..consumed);
                        if done {
                            break;
                        }
                    }
                }
            }
        }
        (requests, Ok(buffer.len()))
    }

    fn check(input: &[u8], expected: &[&[&[u8]]], left: usize) {
        let (requests, rest) = decode_pieces([input], &OPEN);
        let expected: Vec<Vec<Vec<u8>>> =
            expected.iter().map(|args| args.iter().map(|arg| arg.to_vec()).collect()).collect();
        assert_eq!((requests, rest), (expected, Ok(left)), "{:?}", String::from_utf8_lossy(input));
    }

    fn check_refused(input: &[u8], limits: &DecodeLimits, text: &str) {
        let (_, result) = decode_pieces([input], limits);
        let error = result.expect_err("must be refused");
        assert_eq!(String::from_utf8_lossy(&error.reply_text()), format!("ERR Protocol error: {text}"));
    }

    #[test]
    fn requests_are_split_into_arguments() {
        check(b"*1\r\n$4\r\nPING\r\n", &[&[b"PING"]], 0);
        check(
            b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n*2\r\n$3\r\nGET\r\n$2\r\n\r\n\r\n",
            &[&[b"GET", b""], &[b"GET", b"\r\n"]],
            0,
        );
        check(b"*2\r\n$3\r\nGET\r\n$5\r\nab", &[], 22 - 3);
        check(b"*0\r\n*-1\r\n\r\n  \r\n*1\r\n$4\r\nPING\r\n*0\r\n", &[&[b"PING"]], 0);
    }

    #[test]
    fn inline_commands_follow_quoting_rules() {
        check(b"PING\r\nGET a\n", &[&[b"PING"], &[b"GET", b"a"]], 0);
        check(b"SET k \"a b\\n\\x41\\\"\" 'it\\'s \\n'\r\n", &[&[b"SET", b"k", b"a b\nA\"", b"it's \\n"]], 0);
        check(b"SET k \"\"\r\n", &[&[b"SET", b"k", b""]], 0);
        check(b"PIN", &[], 3);
    }

    #[test]
    fn refusals_use_the_words_of_redis() {
        let table: &[(&[u8], &DecodeLimits, &str)] = &[
            (b"*3000000000\r\n", &OPEN, "invalid multibulk length"),
            (b"*\r\n", &OPEN, "invalid multibulk length"),
            (b"*+1\r\n", &OPEN, "invalid multibulk length"),
            (b"*1\r\n:1\r\n", &OPEN, "expected '$', got ':'"),
            (b"*1\r\n$-1\r\n", &OPEN, "invalid bulk length"),
            (b"*1\r\n$blabla\r\n", &OPEN, "invalid bulk length"),
            (b"*1\r\n$2000000000\r\n", &OPEN, "invalid bulk length"),
            (b"*11\r\n", &CLOSED, "unauthenticated multibulk length"),
            (b"*1\r\n$16385\r\n", &CLOSED, "unauthenticated bulk length"),
            (b"SET k \"v\r\n", &OPEN, "unbalanced quotes in request"),
            (b"SET k \"v\"x\r\n", &OPEN, "unbalanced quotes in request"),
            (b"PING\r\n", &DecodeLimits::LOG, "expected '*', got 'P'"),
        ];
        for (input, limits, text) in table {
            check_refused(input, limits, text);
        }
        let long = vec![b'a'; LINE_LEN_MAX + 1];
        check_refused(&long, &OPEN, "too big inline request");
        check_refused(&[b"*", &long[..]].concat(), &OPEN, "too big mbulk count string");
        check_refused(&[b"*1\r\n$", &long[..]].concat(), &OPEN, "too big bulk count string");
        check_refused(&[b"\0\r\n", &long[..]].concat(), &OPEN, "too big inline request");
    }

    #[test]
    fn declared_lengths_allocate_nothing() {
        let mut decoder = Decoder::new();
        let step = decoder.decode(b"*2147483647\r\n$536870912\r\n", &OPEN).expect("well-formed so far");
        assert!(step.request.is_none());
        assert!(decoder.args.capacity() <= SCRATCH_KEPT);
        assert_eq!(decoder.needed_len(), Some(13 + 12 + 536_870_912 + 2));
    }

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

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let bulk = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..12).prop_map(
            |args| {
                let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
                for arg in args {
                    bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
                    bytes.extend_from_slice(&arg);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes
            },
        );
        let inline = "[a-c \"'\\\\x0-9]{0,12}\r?\n".prop_map(String::into_bytes);
        let noise = proptest::collection::vec(
            proptest::sample::select(&[b'*', b'$', b'1', b'2', b'-', b'\r', b'\n', b'a', b' ', 0][..]),
            0..10,
        );
        proptest::collection::vec(prop_oneof![6 => bulk, 3 => inline, 1 => noise], 0..6)
            .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn answers_do_not_depend_on_how_bytes_are_cut(
            bytes in stream(),
            cuts in proptest::collection::vec(1usize..9, 1..8),
            authenticated: bool,
        ) {
            let limits = DecodeLimits { authenticated, ..OPEN };
            let whole = decode_pieces([&bytes[..]], &limits);
            let mut pieces = Vec::new();
            let mut rest = &bytes[..];
            for len in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, tail) = rest.split_at((*len).min(rest.len()));
                pieces.push(piece);
                rest = tail;
            }
            prop_assert_eq!(decode_pieces(pieces, &limits), whole);
        }
    }
}
