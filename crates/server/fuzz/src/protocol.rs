//! Requests: the decoder against a slow one that reads from the start each time.
//!
//! Checked: the answers are those of the slow decoder, wherever the bytes are cut; what an unauthenticated sender leaves
//! in the input is bounded; what the decoder holds is bounded by the length of the request in progress.

use holdfast_server::limits::{
    LINE_LEN_MAX, REQUEST_ARGS_MAX, UNAUTHENTICATED_ARGS_MAX, UNAUTHENTICATED_BULK_LEN_MAX,
    UNAUTHENTICATED_REQUEST_LEN_MAX,
};
use holdfast_server::protocol::{DecodeLimits, Decoder, ProtocolError, Step, parse_i64};

use crate::Target;
use crate::inline::split_slowly;
use crate::mutate::Random;

/// See the module.
pub const TARGET: Target = Target {
    name: "protocol",
    run,
    len_max: 4096,
    words: &[
        "*1\r\n",
        "*2\r\n",
        "*10\r\n",
        "*11\r\n",
        "*2147483647\r\n",
        "$0\r\n\r\n",
        "$1\r\n",
        "$16384\r\n",
        "$-1\r\n",
        "$536870912\r\n",
        "\r\n",
        "\"",
        "'",
        "\\x41",
        "PING",
        "\u{1d}\u{5}\u{7f}",
        "\u{1d}\0\u{7f}",
    ],
};

/// A byte that seldom comes by chance.
const REPEAT: u8 = 0x1d;
/// Most bytes after expansion: enough for every bound of the decoder.
const EXPANDED_LEN_MAX: usize = 96 * 1024;
/// Most pieces that an input is cut into, on average: long inputs come in longer ones.
const PIECES_MAX: usize = 2_000;
/// What the decoder may hold whatever the request is.
const SCRATCH_LEN: usize = 4096;

type Requests = Vec<Vec<Vec<u8>>>;

/// The first byte chooses the limits, the second how the rest is cut.
fn run(data: &[u8]) {
    let [flags, cuts, program @ ..] = data else { return };
    let limits = DecodeLimits {
        bulk_len_max: if flags & 4 == 0 { 512 << 20 } else { 1 << 20 },
        authenticated: flags & 1 != 0,
        inline: flags & 2 != 0,
    };
    let bytes = expand(program);
    let expected = decode_slowly(&bytes, &limits);
    assert_eq!(decode(&bytes, &limits, usize::MAX, 0), expected, "in one piece");
    let longest = (1 << (cuts % 16)).max(2 * bytes.len() / PIECES_MAX);
    assert_eq!(decode(&bytes, &limits, longest, (*cuts).into()), expected, "in pieces of up to {longest}");
}

/// Long inputs from short ones: [`REPEAT`], then a length and a number, repeats the bytes before it.
fn expand(program: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = program;
    while let [byte, after @ ..] = rest {
        rest = after;
        match (*byte, rest) {
            (REPEAT, [len, times, after @ ..]) => {
                rest = after;
                let from = bytes.len().saturating_sub(usize::from(*len) + 1);
                let part = bytes[from..].to_vec();
                let room = (EXPANDED_LEN_MAX - bytes.len().min(EXPANDED_LEN_MAX)) / part.len().max(1);
                let times = (usize::from(*times) * usize::from(*times)).min(room);
                bytes.extend(part.repeat(times));
            }
            _ => bytes.push(*byte),
        }
    }
    bytes
}

/// The requests, and the length of what is left or the error.
fn decode(
    bytes: &[u8],
    limits: &DecodeLimits,
    piece_len_max: usize,
    seed: u64,
) -> (Requests, Result<usize, ProtocolError>) {
    let mut random = Random::new(seed);
    let mut decoder = Decoder::new();
    let mut requests = Vec::new();
    let (mut start, mut end) = (0, 0);
    loop {
        end = (end + 1 + random.below(piece_len_max.min(bytes.len()))).min(bytes.len());
        loop {
            let Step { consumed, request } = match decoder.decode(&bytes[start..end], limits) {
                Ok(step) => step,
                Err(error) => return (requests, Err(error)),
            };
            start += consumed;
            let Some(request) = request else { break };
            assert!(!request.is_empty());
            requests.push(request.args_from(0).map(<[u8]>::to_vec).collect());
        }
        let left = end - start;
        assert!(
            decoder.memory_bytes() <= left + SCRATCH_LEN,
            "{} bytes are held for a request of {left}",
            decoder.memory_bytes()
        );
        if !limits.authenticated {
            assert!(left <= UNAUTHENTICATED_REQUEST_LEN_MAX, "an unauthenticated sender left {left} bytes");
        }
        if let Some(needed) = decoder.needed_len() {
            assert!(needed > left, "{needed} bytes are needed and {left} are there");
        }
        if end == bytes.len() {
            return (requests, Ok(end - start));
        }
    }
}

/// The rules of Redis 7.0 (`networking.c`, `processInputBuffer`), one request at a time, nothing remembered.
fn decode_slowly(bytes: &[u8], limits: &DecodeLimits) -> (Requests, Result<usize, ProtocolError>) {
    let mut requests = Vec::new();
    let mut rest = bytes;
    loop {
        match read_request(rest, limits) {
            Err(error) => return (requests, Err(error)),
            Ok(None) => return (requests, Ok(rest.len())),
            Ok(Some((args, len))) => {
                if !args.is_empty() {
                    requests.push(args);
                }
                rest = &rest[len..];
            }
        }
    }
}

type Read = Result<Option<(Vec<Vec<u8>>, usize)>, ProtocolError>;

fn read_request(bytes: &[u8], limits: &DecodeLimits) -> Read {
    let request_len_max = if limits.authenticated { usize::MAX } else { UNAUTHENTICATED_REQUEST_LEN_MAX };
    // The offset of `end` in the line from `from` on, or whether more is awaited.
    let line_end = |from: usize, end: u8| {
        let len_max = LINE_LEN_MAX.min(request_len_max.saturating_sub(from));
        let line = &bytes[from..];
        let found = line.iter().position(|&byte| byte == end || byte == 0);
        match found {
            Some(at) if line[at] == end && at <= len_max => Ok(Some(from + at)),
            _ if line.len() > len_max => Err(len_max < LINE_LEN_MAX),
            _ => Ok(None),
        }
    };
    let Some(&first) = bytes.first() else { return Ok(None) };
    if first != b'*' {
        if !limits.inline {
            return Err(ProtocolError::ArrayExpected(first));
        }
        let Some(at) = line_end(0, b'\n').map_err(|_| ProtocolError::InlineLen)? else { return Ok(None) };
        let line = &bytes[..at];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let args = split_slowly(line).ok_or(ProtocolError::InlineQuotes)?;
        return Ok(Some((args, at + 1)));
    }
    let Some(at) = line_end(0, b'\r').map_err(|_| ProtocolError::CountLineLen)? else { return Ok(None) };
    if bytes.len() < at + 2 {
        return Ok(None);
    }
    let count = parse_i64(&bytes[1..at]).filter(|&it| it <= REQUEST_ARGS_MAX).ok_or(ProtocolError::Count)?;
    if count > UNAUTHENTICATED_ARGS_MAX && !limits.authenticated {
        return Err(ProtocolError::CountUnauthenticated);
    }
    let mut position = at + 2;
    let mut args = Vec::new();
    for _ in 0..count {
        if position == bytes.len() {
            return Ok(None);
        }
        let found = line_end(position, b'\r');
        let stranger = |is| if is { ProtocolError::BulkUnauthenticated } else { ProtocolError::BulkLineLen };
        let Some(at) = found.map_err(stranger)? else { return Ok(None) };
        if bytes.len() < at + 2 {
            return Ok(None);
        }
        if bytes[position] != b'$' {
            return Err(ProtocolError::BulkExpected(bytes[position]));
        }
        let len = parse_i64(&bytes[position + 1..at]).and_then(|len| usize::try_from(len).ok());
        let len = len.filter(|&len| len as u64 <= limits.bulk_len_max).ok_or(ProtocolError::Bulk)?;
        position = at + 2;
        let too_long = len > UNAUTHENTICATED_BULK_LEN_MAX || position + len + 2 > request_len_max;
        if too_long && !limits.authenticated {
            return Err(ProtocolError::BulkUnauthenticated);
        }
        if bytes.len() < position + len + 2 {
            return Ok(None);
        }
        args.push(bytes[position..position + len].to_vec());
        position += len + 2;
    }
    Ok(Some((args, position)))
}
