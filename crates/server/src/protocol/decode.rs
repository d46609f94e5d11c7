//! Requests: arrays of bulk strings, and inline commands.
//!
//! The decoder keeps what it has understood of a partial request, so that bytes which arrive one at a time cost no more
//! than bytes which arrive together. Its answers depend only on the bytes, never on how they were cut.
//!
//! It copies nothing and holds no bytes of a request (an inline command, whose quotes must be resolved, excepted): an
//! argument is an offset of four bytes, and its length is read back from the `$` header in front of it. Memory thus
//! follows what was sent, never what was declared.

use std::ops::Index;

use memchr::memchr2;

use super::inline;
use crate::limits::{
    LINE_LEN_MAX, REQUEST_ARGS_MAX, UNAUTHENTICATED_ARGS_MAX, UNAUTHENTICATED_BULK_LEN_MAX,
    UNAUTHENTICATED_REQUEST_LEN_MAX,
};

/// Arguments whose offsets the scratch list has room for between requests.
const SCRATCH_ARGS_KEPT: usize = 256;
/// Capacity in bytes that the scratch for inline commands keeps between requests.
const SCRATCH_INLINE_KEPT: usize = 1024;
/// Offsets are kept in 32 bits; [`Starts::wraps`] counts what does not fit.
const OFFSET_BITS: u32 = 32;
/// Longest argument whose header [`short_header`] reads.
const SHORT_LEN_MAX: u64 = 999;

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

    /// Longest line that may still come when `understood` bytes of the request are there.
    fn line_len_max(&self, understood: usize) -> usize {
        if self.authenticated {
            LINE_LEN_MAX
        } else {
            UNAUTHENTICATED_REQUEST_LEN_MAX.saturating_sub(understood).min(LINE_LEN_MAX)
        }
    }
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
    /// An argument above [`UNAUTHENTICATED_BULK_LEN_MAX`], or a request above [`UNAUTHENTICATED_REQUEST_LEN_MAX`],
    /// before authentication.
    #[error("unauthenticated bulk length")]
    BulkUnauthenticated,
    /// An inline command above [`LINE_LEN_MAX`], or above [`UNAUTHENTICATED_REQUEST_LEN_MAX`] before authentication.
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

/// Where the arguments of one request begin, relative to its bytes.
///
/// Four bytes for each argument, of which a sender needs at least six. A request above 4 GiB is possible (many values of
/// `proto-max-bulk-len` in one MSET); its offsets wrap, and `wraps` has an entry for each time that they did.
#[derive(Debug, Clone, Default)]
pub(super) struct Starts {
    /// The low 32 bits of each offset.
    low: Vec<u32>,
    /// For each multiple of 4 GiB, the index of the first argument that begins at or behind it.
    wraps: Vec<u32>,
}

impl Starts {
    fn push(&mut self, start: usize) {
        match u32::try_from(start) {
            Ok(low) if self.wraps.is_empty() => self.push_low(low),
            _ => self.push_wrapped(start as u64),
        }
    }

    /// As `push`, for an offset that fits where none has wrapped.
    #[inline]
    fn push_low(&mut self, low: u32) {
        if self.low.len() == self.low.capacity() {
            self.grow();
        }
        self.low.push(low);
    }

    /// Doubles short lists; a long one grows by a quarter, so that what it has room for stays near what was sent.
    #[cold]
    fn grow(&mut self) {
        let len = self.low.len();
        self.low.reserve_exact(if len < SCRATCH_ARGS_KEPT { len.max(4) } else { len / 4 });
    }

    #[cold]
    fn push_wrapped(&mut self, start: u64) {
        let index = u32::try_from(self.low.len()).expect("REQUEST_ARGS_MAX arguments at most");
        while (self.wraps.len() as u64) < start >> OFFSET_BITS {
            self.wraps.push(index);
        }
        self.push_low(u32::try_from(start & u64::from(u32::MAX)).expect("32 bits are left"));
    }

    #[inline]
    fn reset(&mut self) {
        self.low.clear();
        if self.low.capacity() > SCRATCH_ARGS_KEPT || !self.wraps.is_empty() {
            *self = Starts::default();
        }
    }

    #[inline]
    fn get(&self, index: usize) -> usize {
        let low = self.low[index];
        if self.wraps.is_empty() { low as usize } else { self.get_wrapped(low, index) }
    }

    #[cold]
    fn get_wrapped(&self, low: u32, index: usize) -> usize {
        let wraps = self.wraps.partition_point(|&first| first as usize <= index);
        wraps << OFFSET_BITS | low as usize
    }

    fn memory_bytes(&self) -> usize {
        (self.low.capacity() + self.wraps.capacity()) * size_of::<u32>()
    }
}

/// One request: its arguments, the command name first; never empty.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Holds every argument with its `$` header in front.
    bytes: &'a [u8],
    starts: &'a Starts,
}

impl<'a> Request<'a> {
    /// Number of arguments, the command name included.
    pub fn len(&self) -> usize {
        self.starts.low.len()
    }

    /// Always false: the decoder skips empty requests.
    pub fn is_empty(&self) -> bool {
        self.starts.low.is_empty()
    }

    /// The argument at `index`; 0 is the command name. Panics when out of range, as indexing does.
    #[inline]
    pub fn arg(&self, index: usize) -> &'a [u8] {
        bulk_at(self.bytes, self.starts.get(index))
    }

    /// The argument at `index`, if there is one.
    #[inline]
    pub fn arg_at(&self, index: usize) -> Option<&'a [u8]> {
        (index < self.len()).then(|| self.arg(index))
    }

    /// The arguments from `first` on, in order.
    pub fn args_from(&self, first: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let request = *self;
        (first.min(self.len())..self.len()).map(move |index| request.arg(index))
    }

    /// Bytes of all arguments together.
    pub fn args_len(&self) -> usize {
        self.args_from(0).map(<[u8]>::len).sum()
    }

    /// A copy that owns its bytes.
    pub fn to_owned(&self) -> OwnedRequest {
        OwnedRequest { bytes: self.bytes.into(), starts: self.starts.clone() }
    }
}

impl Index<usize> for Request<'_> {
    type Output = [u8];
    fn index(&self, index: usize) -> &[u8] {
        self.arg(index)
    }
}

/// The bulk string that begins at `start`. Its header, which the decoder has accepted, is `$`, the length in its one
/// canonical form, and two bytes.
#[inline]
fn bulk_at(bytes: &[u8], start: usize) -> &[u8] {
    let digit = |byte: u8| usize::from(byte.wrapping_sub(b'0'));
    let (head, rest) = bytes.split_at(start);
    let len = match *head {
        [.., b'$', a, _, _] => digit(a),
        [.., b'$', a, b, _, _] => digit(a) * 10 + digit(b),
        [.., b'$', a, b, c, _, _] => digit(a) * 100 + digit(b) * 10 + digit(c),
        _ => long_len(head),
    };
    &rest[..len]
}

/// The length in the header at the end of `head`.
#[cold]
fn long_len(head: &[u8]) -> usize {
    let digits = head.iter().rev().skip(2).take_while(|&&byte| byte != b'$');
    let (len, _) = digits.fold((0usize, 1usize), |(len, unit), &byte| {
        let digit = usize::from(byte.wrapping_sub(b'0'));
        (len.wrapping_add(digit.wrapping_mul(unit)), unit.wrapping_mul(10))
    });
    len
}

/// A request that owns its bytes: what a transaction queues.
#[derive(Debug, Clone)]
pub struct OwnedRequest {
    bytes: Box<[u8]>,
    starts: Starts,
}

impl OwnedRequest {
    /// A request of these arguments, the command name first.
    pub fn from_args<A: AsRef<[u8]>>(args: &[A]) -> OwnedRequest {
        let mut bytes = Vec::new();
        let mut starts = Starts::default();
        for arg in args {
            push_bulk(&mut bytes, &mut starts, arg.as_ref());
        }
        OwnedRequest { bytes: bytes.into(), starts }
    }

    /// The same request, borrowed.
    pub fn as_request(&self) -> Request<'_> {
        Request { bytes: &self.bytes, starts: &self.starts }
    }

    /// Bytes held, for memory accounting.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.len() + self.starts.memory_bytes() + size_of::<OwnedRequest>()
    }
}

/// Appends an argument in the form in which [`Request`] expects it.
fn push_bulk(bytes: &mut Vec<u8>, starts: &mut Starts, arg: &[u8]) {
    bytes.push(b'$');
    bytes.extend_from_slice(itoa::Buffer::new().format(arg.len()).as_bytes());
    bytes.extend_from_slice(b"\r\n");
    starts.push(bytes.len());
    bytes.extend_from_slice(arg);
    bytes.extend_from_slice(b"\r\n");
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

impl Step<'_> {
    fn need_more(consumed: usize) -> Self {
        Step { consumed, request: None }
    }
}

/// The state of one sender between calls.
///
/// The decoder keeps offsets and no pointer, so the bytes of a request may move between calls. One read buffer can
/// therefore serve all connections: a read goes into the shared buffer when the connection holds no rest, requests are
/// decoded from there, and only the partial request that is left is copied to the connection.
///
/// ```
/// # use holdfast_server::protocol::{DecodeLimits, Decoder};
/// # let limits = DecodeLimits { bulk_len_max: 512 << 20, authenticated: true, inline: true };
/// # let (mut decoder, mut shared, mut rest) = (Decoder::new(), [0_u8; 64], Vec::new());
/// # let mut names = Vec::new();
/// # for read in [&b"PING\r\n*1\r\n$4\r\nQU"[..], b"IT\r\n"] {
/// # shared[..read.len()].copy_from_slice(read);
/// # let len = read.len();
/// let input = if rest.is_empty() {
///     &shared[..len]
/// } else {
///     rest.extend_from_slice(&shared[..len]);
///     &rest[..]
/// };
/// let mut done = 0;
/// loop {
///     let step = decoder.decode(&input[done..], &limits)?;
///     done += step.consumed;
///     let Some(request) = step.request else { break };
///     names.push(request.arg(0).to_vec());
/// }
/// rest = input[done..].to_vec();
/// # }
/// # assert_eq!(names, [&b"PING"[..], b"QUIT"]);
/// # assert!(rest.is_empty());
/// # Ok::<(), holdfast_server::protocol::ProtocolError>(())
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    /// Arguments understood so far.
    starts: Starts,
    /// Arguments that are still to come; 0 between requests.
    args_missing: usize,
    /// Bytes of the request in progress that are understood.
    understood: usize,
    /// Bytes behind `understood` known to hold no line end.
    scanned: usize,
    /// Declared length of the argument that is being received.
    bulk_len: Option<usize>,
    /// Arguments of an inline command after its quotes were resolved.
    inline: Vec<u8>,
}

/// A search for the end of a line.
enum LineEnd {
    /// Not there yet.
    Partial,
    /// Not within the longest line that is allowed.
    TooLong,
    /// Its offset.
    At(usize),
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

    /// Bytes allocated, for memory accounting: at most about the length of the request in progress.
    pub fn memory_bytes(&self) -> usize {
        self.starts.memory_bytes() + self.inline.capacity()
    }

    /// Looks for the next request at the front of `input`.
    ///
    /// Between calls `input` may lose the `consumed` bytes at its front, grow at its end, and move to another place in
    /// memory; the bytes that stay must be the same. `limits` may change between requests.
    ///
    /// What the call before has allocated for a long request is freed, so memory of a sender is small again as soon as
    /// a call has returned no request.
    /// # Errors
    /// [`ProtocolError`]; afterwards the decoder must not be used again.
    pub fn decode<'a>(
        &'a mut self,
        input: &'a [u8],
        limits: &DecodeLimits,
    ) -> Result<Step<'a>, ProtocolError> {
        let mut start = 0;
        if self.args_missing == 0 {
            self.starts.reset();
            if !self.inline.is_empty() {
                self.inline.clear();
                self.inline.shrink_to(SCRATCH_INLINE_KEPT);
            }
        }
        while self.args_missing == 0 {
            let rest = &input[start..];
            let Some(&first) = rest.first() else { return Ok(Step::need_more(start)) };
            if first == b'*' {
                let Some(len) = self.read_count(rest, limits)? else { return Ok(Step::need_more(start)) };
                if self.args_missing == 0 {
                    start += len;
                }
                continue;
            }
            if !limits.inline {
                return Err(ProtocolError::ArrayExpected(first));
            }
            let Some(len) = self.read_inline(rest, limits)? else { return Ok(Step::need_more(start)) };
            start += len;
            if !self.starts.low.is_empty() {
                return Ok(Step {
                    consumed: start,
                    request: Some(Request { bytes: &self.inline, starts: &self.starts }),
                });
            }
        }
        let request = &input[start..];
        if !self.read_bulks(request, limits)? {
            return Ok(Step::need_more(start));
        }
        let len = std::mem::take(&mut self.understood);
        Ok(Step {
            consumed: start + len,
            request: Some(Request { bytes: &request[..len], starts: &self.starts }),
        })
    }

    /// Reads the number of arguments at the front of `rest`; returns the length of its line, or none when bytes run out.
    #[inline]
    fn read_count(&mut self, rest: &[u8], limits: &DecodeLimits) -> Result<Option<usize>, ProtocolError> {
        let (count, len) = match *rest {
            // Nearly every command has fewer than ten arguments.
            [_, digit @ b'0'..=b'9', b'\r', _, ..] => (Some(i64::from(digit - b'0')), 4),
            _ => match self.find_line_end(rest, b'\r', limits.line_len_max(0)) {
                LineEnd::Partial => return Ok(None),
                LineEnd::TooLong => return Err(ProtocolError::CountLineLen),
                // The byte behind the carriage return is awaited and not looked at, as in Redis.
                LineEnd::At(at) if rest.len() < at + 2 => return Ok(None),
                LineEnd::At(at) => (rest.get(1..at).and_then(parse_i64), at + 2),
            },
        };
        let count = count.filter(|&count| count <= REQUEST_ARGS_MAX).ok_or(ProtocolError::Count)?;
        if count > UNAUTHENTICATED_ARGS_MAX && !limits.authenticated {
            return Err(ProtocolError::CountUnauthenticated);
        }
        self.scanned = 0;
        if let Ok(count @ 1..) = usize::try_from(count) {
            self.args_missing = count;
            self.understood = len;
        }
        Ok(Some(len))
    }

    /// Reads the inline command at the front of `rest`, which may be blank; returns its length, or none when bytes run out.
    fn read_inline(&mut self, rest: &[u8], limits: &DecodeLimits) -> Result<Option<usize>, ProtocolError> {
        let at = match self.find_line_end(rest, b'\n', limits.line_len_max(0)) {
            LineEnd::Partial => return Ok(None),
            LineEnd::TooLong => return Err(ProtocolError::InlineLen),
            LineEnd::At(at) => at,
        };
        self.scanned = 0;
        let line = rest[..at].strip_suffix(b"\r").unwrap_or(&rest[..at]);
        let Decoder { inline, starts, .. } = self;
        let mut arg = Vec::new();
        let balanced = inline::split(line, &mut arg, |arg| push_bulk(inline, starts, arg));
        if balanced { Ok(Some(at + 1)) } else { Err(ProtocolError::InlineQuotes) }
    }

    /// Reads arguments until none is missing (true) or bytes run out (false).
    #[inline]
    fn read_bulks(&mut self, rest: &[u8], limits: &DecodeLimits) -> Result<bool, ProtocolError> {
        let unlimited = limits.authenticated && limits.bulk_len_max >= SHORT_LEN_MAX;
        if unlimited && self.bulk_len.is_none() {
            self.read_short_bulks(rest);
        }
        while self.args_missing > 0 {
            let len = match self.bulk_len {
                Some(len) => len,
                None => match self.read_bulk_len(rest, limits)? {
                    Some(len) => *self.bulk_len.insert(len),
                    None => return Ok(false),
                },
            };
            // The two bytes behind an argument are awaited and not looked at, as in Redis.
            let end = self.understood.saturating_add(len).saturating_add(2);
            if rest.len() < end {
                return Ok(false);
            }
            self.starts.push(self.understood);
            self.understood = end;
            self.bulk_len = None;
            self.args_missing -= 1;
            if unlimited {
                self.read_short_bulks(rest);
            }
        }
        Ok(true)
    }

    /// Reads arguments as long as they are short and complete: nearly always all of them.
    #[inline]
    fn read_short_bulks(&mut self, rest: &[u8]) {
        let (mut at, mut missing) = (self.understood, self.args_missing);
        if !self.starts.wraps.is_empty() {
            return;
        }
        while missing > 0 {
            let Some((len, header_len)) = rest.get(at..).and_then(short_header) else { break };
            let start = at + header_len;
            let end = start + len + 2;
            let Ok(low) = u32::try_from(start) else { break };
            if rest.len() < end {
                break;
            }
            self.starts.push_low(low);
            at = end;
            missing -= 1;
        }
        if at > self.understood {
            (self.understood, self.args_missing, self.scanned) = (at, missing, 0);
        }
    }

    /// Reads the header of the next argument; none when bytes run out.
    fn read_bulk_len(&mut self, rest: &[u8], limits: &DecodeLimits) -> Result<Option<usize>, ProtocolError> {
        let line = rest.get(self.understood..).unwrap_or_default();
        let Some(&first) = line.first() else { return Ok(None) };
        let line_len_max = limits.line_len_max(self.understood);
        let at = match self.find_line_end(line, b'\r', line_len_max) {
            LineEnd::Partial => return Ok(None),
            LineEnd::TooLong if line_len_max < LINE_LEN_MAX => {
                return Err(ProtocolError::BulkUnauthenticated);
            }
            LineEnd::TooLong => return Err(ProtocolError::BulkLineLen),
            LineEnd::At(at) => at,
        };
        if line.len() < at + 2 {
            return Ok(None);
        }
        // The carriage return itself may be the first byte.
        if first != b'$' {
            return Err(ProtocolError::BulkExpected(first));
        }
        let len = line.get(1..at).and_then(parse_i64).and_then(|len| u64::try_from(len).ok());
        let len = len.filter(|&len| len <= limits.bulk_len_max).ok_or(ProtocolError::Bulk)?;
        let len = usize::try_from(len).map_err(|_| ProtocolError::Bulk)?;
        let start = self.understood + at + 2;
        if !limits.authenticated
            && (len > UNAUTHENTICATED_BULK_LEN_MAX || start + len + 2 > UNAUTHENTICATED_REQUEST_LEN_MAX)
        {
            return Err(ProtocolError::BulkUnauthenticated);
        }
        self.scanned = 0;
        self.understood = start;
        Ok(Some(len))
    }

    /// Looks for `end` in the line at the front of `line`, at an offset of at most `len_max`.
    fn find_line_end(&mut self, line: &[u8], end: u8, len_max: usize) -> LineEnd {
        let allowed = &line[..line.len().min(len_max.saturating_add(1))];
        // A zero byte ends the search, as it does for a C string: such a line can never end.
        let unseen = allowed.get(self.scanned..).unwrap_or_default();
        match memchr2(end, 0, unseen).map(|at| at + self.scanned) {
            Some(at) if allowed[at] == end => {
                self.scanned = at;
                LineEnd::At(at)
            }
            _ if line.len() > len_max => LineEnd::TooLong,
            stuck => {
                self.scanned = stuck.unwrap_or(allowed.len());
                LineEnd::Partial
            }
        }
    }
}

/// The length that the header at the front of `line` declares and the length of the header, if that is complete and the
/// argument is not longer than [`SHORT_LEN_MAX`].
#[inline]
fn short_header(line: &[u8]) -> Option<(usize, usize)> {
    let digit = |byte: u8| usize::from(byte - b'0');
    match *line {
        [b'$', a @ b'0'..=b'9', b'\r', _, ..] => Some((digit(a), 4)),
        [b'$', a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', _, ..] => Some((digit(a) * 10 + digit(b), 5)),
        [b'$', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b'\r', _, ..] => {
            Some((digit(a) * 100 + digit(b) * 10 + digit(c), 6))
        }
        _ => None,
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
        assert_eq!(decoder.memory_bytes(), 0);
        assert_eq!(decoder.needed_len(), Some(13 + 12 + 536_870_912 + 2));
    }

    /// The six bytes that took the process down, and what resembles them.
    #[test]
    fn a_line_end_in_the_place_of_a_header_is_refused() {
        let table: &[(&[u8], &str)] = &[
            (b"*1\r\n\r\n", "expected '$', got '\r'"),
            (b"*2\r\n$0\r\n\r\n\r1\r\n", "expected '$', got '\r'"),
            (b"*1\r\n\n\r\n", "expected '$', got '\n'"),
            (b"*1\r\n$\r\n", "invalid bulk length"),
            (b"*\r\n", "invalid multibulk length"),
            (b"*1\r\n 1\r\n", "expected '$', got ' '"),
            (b"*1\r\na12\r\n", "expected '$', got 'a'"),
        ];
        for (input, text) in table {
            check_refused(input, &OPEN, text);
            check_refused(input, &CLOSED, text);
        }
        // A header that begins with a zero byte never ends, however short the number behind it.
        check(b"*1\r\n\x001\r\nx\r\n", &[], 11);
    }

    /// Every text of up to `len` bytes that the grammar cares about, behind `prefix`.
    fn check_all_texts(prefix: &[u8], len: u32) {
        const ALPHABET: &[u8] = b"*$012-\r\na \"\0";
        for len in 0..=len {
            for number in 0..ALPHABET.len().pow(len) {
                let digits = (0..len).map(|at| number / ALPHABET.len().pow(at) % ALPHABET.len());
                let text: Vec<u8> = prefix.iter().copied().chain(digits.map(|at| ALPHABET[at])).collect();
                let whole = decode_pieces([&text[..]], &OPEN);
                assert_eq!(
                    decode_pieces(text.chunks(1), &OPEN),
                    whole,
                    "{:?}",
                    text.escape_ascii().to_string()
                );
            }
        }
    }

    #[test]
    fn all_short_texts_are_answered_and_do_not_depend_on_cuts() {
        check_all_texts(b"", 4);
        check_all_texts(b"*1\r\n", 4);
        check_all_texts(b"*2\r\n$1\r\n", 4);
        check_all_texts(b"*1\r\n$", 4);
    }

    #[test]
    fn the_longest_lines_do_not_depend_on_cuts() {
        let pad = |len: usize| vec![b' '; len];
        for (head, tail) in
            [(&b"*"[..], &b"\r\n"[..]), (b"*1\r\n$", b"\r\n"), (b"", b"\n"), (b"", b"\r\n"), (b"a\0", b"\n")]
        {
            for limits in [&OPEN, &CLOSED] {
                for len in [UNAUTHENTICATED_REQUEST_LEN_MAX, LINE_LEN_MAX] {
                    for len in len - 8..len + 4 {
                        let text = [head, &pad(len), tail, b"PING\r\n"].concat();
                        let whole = decode_pieces([&text[..]], limits);
                        assert_eq!(decode_pieces(text.chunks(4096), limits), whole, "{head:?} {len}");
                        let (front, back) = text.split_at(len - 2);
                        let pieces = std::iter::once(front).chain(back.chunks(1));
                        assert_eq!(decode_pieces(pieces, limits), whole, "{head:?} {len}");
                    }
                }
            }
        }
    }

    /// Most bytes that the decoder holds, and most that it leaves in the input, while `input` arrives.
    fn peak(input: &[u8], limits: &DecodeLimits) -> (usize, usize, Result<(), ProtocolError>) {
        let mut decoder = Decoder::new();
        let (mut start, mut memory, mut left) = (0, 0, 0);
        for end in (0..=input.len()).step_by(1 + input.len() / 2000) {
            loop {
                match decoder.decode(&input[start..end], limits) {
                    Err(error) => return (memory, left, Err(error)),
                    Ok(step) => {
                        start += step.consumed;
                        if step.request.is_none() {
                            break;
                        }
                    }
                }
            }
            memory = memory.max(decoder.memory_bytes());
            left = left.max(end - start);
        }
        (memory, left, Ok(()))
    }

    #[test]
    fn many_arguments_take_no_more_memory_than_they_have_bytes() {
        for count in [1_000, 100_000, 1_000_000] {
            let input = [b"*2147483647\r\n", &b"$0\r\n\r\n".repeat(count)[..]].concat();
            let (memory, _, result) = peak(&input, &OPEN);
            assert_eq!(result, Ok(()));
            assert!(memory <= input.len() + 4 * SCRATCH_ARGS_KEPT, "{memory} for {}", input.len());
        }
    }

    #[test]
    fn memory_of_a_long_request_is_given_back() {
        let mut bulk = format!("*{}\r\n", 100_000).into_bytes();
        bulk.extend(b"$1\r\nx\r\n".repeat(100_000));
        let mut inline = b"x ".repeat(30_000);
        inline.push(b'\n');
        for input in [bulk, inline] {
            let mut decoder = Decoder::new();
            let step = decoder.decode(&input, &OPEN).expect("well-formed");
            assert!(step.request.is_some_and(|request| request.len() >= 30_000));
            assert!(decoder.memory_bytes() > 100_000);
            let step = decoder.decode(b"", &OPEN).expect("nothing is wrong with nothing");
            assert!(step.request.is_none());
            assert!(decoder.memory_bytes() <= 4 * SCRATCH_ARGS_KEPT + SCRATCH_INLINE_KEPT);
        }
    }

    #[test]
    fn a_stranger_makes_us_hold_no_more_than_the_bound() {
        let bulk = |len: usize| [format!("${len}\r\n").as_bytes(), &vec![b'x'; len], b"\r\n"].concat();
        let longest = UNAUTHENTICATED_BULK_LEN_MAX;
        let table: &[(Vec<u8>, Result<(), ProtocolError>)] = &[
            (
                b"*10\r\n".iter().copied().chain(bulk(longest).repeat(10)).collect(),
                Err(ProtocolError::BulkUnauthenticated),
            ),
            (
                b"*10\r\n".iter().copied().chain(bulk(4096).repeat(10)).collect(),
                Err(ProtocolError::BulkUnauthenticated),
            ),
            ([b"*2\r\n".to_vec(), bulk(4), bulk(longest)].concat(), Ok(())),
            ([b"*3\r\n".to_vec(), bulk(8000), bulk(8000), bulk(longest)].concat(), Ok(())),
            (
                [b"*3\r\n".to_vec(), bulk(longest), bulk(longest - 60), b"$000".repeat(10_000)].concat(),
                Err(ProtocolError::BulkUnauthenticated),
            ),
            (vec![b'x'; 100_000], Err(ProtocolError::InlineLen)),
            (vec![b'*'; 100_000], Err(ProtocolError::CountLineLen)),
            ([b"*1\r\n$".to_vec(), vec![b'1'; 100_000]].concat(), Err(ProtocolError::BulkUnauthenticated)),
        ];
        for (input, expected) in table {
            let (memory, left, result) = peak(input, &CLOSED);
            let name = input[..input.len().min(30)].escape_ascii().to_string();
            assert_eq!(&result, expected, "{name}");
            assert!(left <= UNAUTHENTICATED_REQUEST_LEN_MAX + 1, "{name}: {left}");
            assert!(memory <= 4 * SCRATCH_ARGS_KEPT, "{name}: {memory}");
        }
    }

    #[test]
    fn requests_above_four_gibibytes_keep_their_arguments() {
        // Zero pages that nobody touches: only the headers take memory.
        let first_len = (5_usize << 30) + 7;
        let head = format!("*4\r\n$3\r\nSET\r\n${first_len}\r\n").into_bytes();
        let tail = b"\r\n$2\r\nab\r\n$0\r\n\r\n";
        let mut input = vec![0; head.len() + first_len + tail.len()];
        input[..head.len()].copy_from_slice(&head);
        input[head.len() + first_len..].copy_from_slice(tail);
        input[head.len() + first_len - 1] = b'!';
        let mut decoder = Decoder::new();
        let step = decoder.decode(&input, &DecodeLimits::LOG).expect("well-formed");
        assert_eq!(step.consumed, input.len());
        let request = step.request.expect("whole");
        assert_eq!((request.arg(0), request.arg(1).len()), (&b"SET"[..], first_len));
        assert_eq!(
            (request.arg(1)[first_len - 1], request.arg(2), request.arg(3)),
            (b'!', &b"ab"[..], &b""[..])
        );
        assert_eq!(request.args_from(2).collect::<Vec<_>>(), [&b"ab"[..], b""]);
    }

    #[test]
    fn owned_requests_have_the_same_arguments() {
        let args: [&[u8]; 4] = [b"MSET", b"", b"a\r\n$1\r\n", &[b'x'; 12_345]];
        let owned = OwnedRequest::from_args(&args);
        assert_eq!(owned.as_request().args_from(0).collect::<Vec<_>>(), args);
        let copy = owned.as_request().to_owned();
        assert_eq!(copy.as_request().args_from(0).collect::<Vec<_>>(), args);
        assert_eq!(copy.as_request().arg_at(4), None);
        let len: usize = args.iter().map(|arg| arg.len()).sum();
        assert_eq!(copy.as_request().args_len(), len);
        assert!((len..len + 200).contains(&copy.memory_bytes()));
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
