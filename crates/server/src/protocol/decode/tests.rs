use proptest::prelude::*;

use super::*;
use crate::protocol::request::SCRATCH_ARGS_KEPT;

const OPEN: DecodeLimits =
    DecodeLimits { bulk_len_max: 512 * 1024 * 1024, authenticated: true, inline: true };
const CLOSED: DecodeLimits = DecodeLimits { authenticated: false, ..OPEN };

type Decoded = (Vec<Vec<Vec<u8>>>, Result<usize, ProtocolError>);

/// Decodes `input` as it arrives in `pieces`; returns the requests, and the bytes left over or the error.
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
            assert_eq!(decode_pieces(text.chunks(1), &OPEN), whole, "{:?}", text.escape_ascii().to_string());
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
        ([b"*3\r\n".to_vec(), bulk(4000), bulk(4000), bulk(longest)].concat(), Ok(())),
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
    assert_eq!((request.arg(1)[first_len - 1], request.arg(2), request.arg(3)), (b'!', &b"ab"[..], &b""[..]));
    assert_eq!(request.args_from(2).collect::<Vec<_>>(), [&b"ab"[..], b""]);
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let bulk =
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..12).prop_map(|args| {
            let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
            for arg in args {
                bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
                bytes.extend_from_slice(&arg);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes
        });
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
