//! LZF, the compression of strings in RDB.
//!
//! ```text
//! 000LLLLL bytes                  L+1 literal bytes
//! LLLooooo oooooooo               copy L+2 bytes (L is 1 to 6) from o+1 bytes back
//! 111ooooo llllllll oooooooo      copy l+9 bytes from o+1 bytes back
//! ```
//!
//! The encoder is our own because a snapshot compresses millions of short strings: it keeps its table between calls, so
//! that a string costs time by its own length. The `lzf` crate, which clears half a megabyte for each string, is the
//! oracle of the tests.

/// A copy reaches at most this many bytes back.
const DISTANCE_MAX: usize = 1 << 13;
/// Longest copy.
const COPY_LEN_MAX: usize = 264;
/// Shortest copy that is worth its two bytes.
const COPY_LEN_MIN: usize = 3;
/// Longest run of literal bytes.
const LITERAL_LEN_MAX: usize = 32;
/// Bits of the index into the table of positions: 64 KiB of table, small enough for a core's own cache.
const TABLE_BITS: u32 = 14;
/// No input can grow by more than this factor: three bytes make at most [`COPY_LEN_MAX`].
const EXPANSION_MAX: usize = COPY_LEN_MAX / 3;

/// Compressor with a reusable table.
#[derive(Debug, Clone)]
pub(crate) struct Encoder {
    /// `base + position` of the latest occurrence of each hash; below `base`: left by an earlier input.
    table: Vec<u32>,
    base: u32,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { table: vec![0; 1 << TABLE_BITS], base: 1 }
    }
}

impl Encoder {
    /// Replaces the contents of `out` by the compressed `input` and returns true, or returns false (and leaves anything
    /// in `out`) if that would be longer than `len_max`.
    #[must_use]
    pub(crate) fn encode(&mut self, input: &[u8], len_max: usize, out: &mut Vec<u8>) -> bool {
        out.clear();
        let Ok(input_len) = u32::try_from(input.len()) else { return false };
        let Some(base_next) = self.base.checked_add(input_len) else {
            *self = Self::default();
            return input_len < u32::MAX && self.encode(input, len_max, out);
        };
        let mut literal_start = 0;
        let mut position = 0;
        while let Some(window) = input.get(position..position + COPY_LEN_MIN) {
            let Some(distance) = self.find(input, window, position) else {
                position += 1;
                continue;
            };
            put_literals(out, &input[literal_start..position]);
            let len = match_len(input, position, distance);
            put_copy(out, distance, len);
            // The end of a copy is where the next match often starts; indexing all of it costs more than it gains.
            for inner in position + len - 2..position + len {
                if let Some(window) = input.get(inner..inner + COPY_LEN_MIN) {
                    self.find(input, window, inner);
                }
            }
            position += len;
            literal_start = position;
            if out.len() > len_max {
                break;
            }
        }
        self.base = base_next;
        put_literals(out, &input[literal_start..]);
        out.len() <= len_max
    }

    /// Records that `window` stands at `position` and returns how far back it was seen before, if that is in reach.
    fn find(&mut self, input: &[u8], window: &[u8], position: usize) -> Option<usize> {
        let bytes = u32::from_be_bytes([0, window[0], window[1], window[2]]);
        let slot = &mut self.table[(bytes.wrapping_mul(0x9E37_79B1) >> (32 - TABLE_BITS)) as usize];
        let offset = u32::try_from(position).expect("the input is shorter than 4 GiB");
        let earlier = std::mem::replace(slot, self.base + offset).checked_sub(self.base)? as usize;
        let distance = position - earlier;
        (distance <= DISTANCE_MAX && distance > 0 && input[earlier..].starts_with(window)).then_some(distance)
    }
}

/// Number of bytes from `position` that repeat those `distance` before, up to [`COPY_LEN_MAX`].
fn match_len(input: &[u8], position: usize, distance: usize) -> usize {
    let ahead = &input[position..input.len().min(position + COPY_LEN_MAX)];
    ahead.iter().zip(&input[position - distance..]).take_while(|(a, b)| a == b).count()
}

fn put_literals(out: &mut Vec<u8>, literals: &[u8]) {
    for run in literals.chunks(LITERAL_LEN_MAX) {
        out.push(low_byte(run.len() - 1));
        out.extend_from_slice(run);
    }
}

fn put_copy(out: &mut Vec<u8>, distance: usize, len: usize) {
    let offset = distance - 1;
    let len = len - 2;
    let high = low_byte(offset >> 8);
    if len < 7 {
        out.push(low_byte(len << 5) | high);
    } else {
        out.extend_from_slice(&[0xE0 | high, low_byte(len - 7)]);
    }
    out.push(low_byte(offset));
}

fn low_byte(number: usize) -> u8 {
    number.to_le_bytes()[0]
}

/// Why [`decode`] makes nothing of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// No encoder produces these bytes for this length.
    Damaged,
    /// There is no memory for so many bytes.
    OutOfMemory,
}

/// Decompresses `input`, which must make exactly `len` bytes.
///
/// Memory is bounded by the input: a `len` that the input cannot make is refused before anything is reserved, and what is
/// reserved is not exceeded.
/// # Errors
/// [`DecodeError::Damaged`] if `input` ends inside a run, copies from before the start, or makes more or less than `len`
/// bytes; [`DecodeError::OutOfMemory`].
pub(crate) fn decode(mut input: &[u8], len: usize) -> Result<Vec<u8>, DecodeError> {
    use DecodeError::{Damaged, OutOfMemory};
    if len / EXPANSION_MAX > input.len() {
        return Err(Damaged);
    }
    let mut out = Vec::new();
    out.try_reserve_exact(len).map_err(|_| OutOfMemory)?;
    while let Some((&control, rest)) = input.split_first() {
        let high = usize::from(control & 0x1F);
        let short_len = usize::from(control >> 5);
        if short_len == 0 {
            let (literals, rest) = rest.split_at_checked(high + 1).ok_or(Damaged)?;
            if literals.len() > len - out.len() {
                return Err(Damaged);
            }
            out.extend_from_slice(literals);
            input = rest;
        } else {
            let (copy_len, low, rest) = match (short_len, rest) {
                (7, [more, low, rest @ ..]) => (9 + usize::from(*more), low, rest),
                (1..=6, [low, rest @ ..]) => (short_len + 2, low, rest),
                _ => return Err(Damaged),
            };
            let distance = (high << 8 | usize::from(*low)) + 1;
            let mut from = out.len().checked_sub(distance).ok_or(Damaged)?;
            if copy_len > len - out.len() {
                return Err(Damaged);
            }
            let mut left = copy_len;
            // A copy may overlap its own output: each pass doubles what is there to copy.
            while left > 0 {
                let part = left.min(out.len() - from);
                out.extend_from_within(from..from + part);
                from += part;
                left -= part;
            }
            input = rest;
        }
    }
    if out.len() == len { Ok(out) } else { Err(Damaged) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(encoder: &mut Encoder, input: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(encoder.encode(input, usize::MAX, &mut out));
        out
    }

    #[test]
    fn repeated_text_shrinks_and_returns() {
        fn check(input: &[u8], len_max: usize) {
            let out = encoded(&mut Encoder::default(), input);
            assert!(out.len() <= len_max, "{} bytes", out.len());
            assert_eq!(decode(&out, input.len()).as_deref(), Ok(input));
        }
        check(b"", 0);
        check(b"ab", 3);
        check(&[b'a'; 100_000], 1_200);
        check("the same words, ".repeat(50).as_bytes(), 30);
    }

    #[test]
    fn a_limit_is_kept() {
        let mut out = Vec::new();
        assert!(!Encoder::default().encode(b"0123456789abcdefghijklmnopqrstuvwxyz", 32, &mut out));
    }

    #[test]
    fn the_table_outlives_the_range_of_its_positions() {
        let mut encoder = Encoder { base: u32::MAX - 50, ..Encoder::default() };
        for _ in 0..3 {
            let input = [7; 40];
            let out = encoded(&mut encoder, &input);
            assert_eq!(decode(&out, 40).as_deref(), Ok(&input[..]));
        }
    }

    #[test]
    fn damaged_input_is_refused() {
        fn check(input: &[u8], len: usize) {
            assert_eq!(decode(input, len), Err(DecodeError::Damaged), "{input:?}");
        }
        check(&[], 1);
        check(&[4, b'a'], 5);
        check(&[0, b'a'], 2);
        check(&[1, b'a', b'b'], 1);
        check(&[0x20, 0], 3);
        check(&[0, b'a', 0xE0, 0], 10);
        check(&[0, b'a', 0x20, 1], 4);
        check(&[0, b'a'], usize::MAX);
    }

    proptest! {
        #[test]
        fn both_implementations_understand_each_other(
            inputs in prop::collection::vec(prop::collection::vec(0_u8..4, 0..600), 1..6)
        ) {
            let mut encoder = Encoder::default();
            for input in inputs {
                let out = encoded(&mut encoder, &input);
                prop_assert_eq!(decode(&out, input.len()), Ok(input.clone()));
                if !input.is_empty() {
                    prop_assert_eq!(lzf::decompress(&out, input.len()).ok(), Some(input.clone()));
                }
                if let Ok(out) = lzf::compress(&input) {
                    prop_assert_eq!(decode(&out, input.len()), Ok(input.clone()));
                }
            }
        }

        #[test]
        fn no_input_makes_the_decoder_panic(input in prop::collection::vec(any::<u8>(), 0..200), len in 0_usize..2_000) {
            if let Ok(out) = decode(&input, len) {
                prop_assert_eq!(out.len(), len);
            }
        }
    }
}
