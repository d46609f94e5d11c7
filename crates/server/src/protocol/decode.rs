//! The decoder: arrays of bulk strings, and inline commands.
//!
//! The decoder keeps what it has understood of a partial request, so that bytes which arrive one at a time cost no more
//! than bytes which arrive together. Its answers depend only on the bytes, never on how they were cut.
//!
//! It copies nothing and holds no bytes of a request (an inline command, whose quotes must be resolved, excepted): an
//! argument is an offset of four bytes, and its length is read back from the `$` header in front of it. Memory thus
//! follows what was sent, never what was declared.

use memchr::memchr2;

use super::error::ProtocolError;
use super::inline;
use super::integer::parse_i64;
use super::request::{Request, Starts, push_bulk};
use crate::limits::{
    LINE_LEN_MAX, REQUEST_ARGS_MAX, UNAUTHENTICATED_ARGS_MAX, UNAUTHENTICATED_BULK_LEN_MAX,
    UNAUTHENTICATED_REQUEST_LEN_MAX,
};

/// Capacity in bytes that the scratch for inline commands keeps between requests.
const SCRATCH_INLINE_KEPT: usize = 1024;
/// From this length on an argument is long. Source: Redis 7.0, `PROTO_MBULK_BIG_ARG`.
const LONG_ARGUMENT_LEN: usize = 32 * 1024;
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

    /// How many bytes in all (counted from the start of the request) are needed to complete the argument in progress.
    ///
    /// A reader may use it to size its reads; it must bound it by what it is willing to hold.
    pub fn needed_len(&self) -> Option<usize> {
        self.bulk_len.map(|len| self.understood.saturating_add(len).saturating_add(2))
    }

    /// Bytes of the request in progress that are understood.
    pub(crate) fn understood_len(&self) -> usize {
        self.understood
    }

    /// Whether the argument in progress is long: its buffer then ends where the argument does, as in Redis
    /// (`PROTO_MBULK_BIG_ARG`).
    pub(crate) fn is_long_argument(&self) -> bool {
        self.bulk_len.is_some_and(|len| len >= LONG_ARGUMENT_LEN)
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
            if !self.starts.is_empty() {
                let request = Some(Request::new(&self.inline, &self.starts));
                return Ok(Step { consumed: start, request });
            }
        }
        let request = &input[start..];
        if !self.read_bulks(request, limits)? {
            return Ok(Step::need_more(start));
        }
        let len = std::mem::take(&mut self.understood);
        Ok(Step { consumed: start + len, request: Some(Request::new(&request[..len], &self.starts)) })
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
        if self.starts.has_wrapped() {
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

#[cfg(test)]
mod tests;
