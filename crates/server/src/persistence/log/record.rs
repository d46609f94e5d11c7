//! Pure codec of the annotation lines in a segment. Bytes: `docs/format.md`, "Segments".
//!
//! ```text
//! #HS1 <store id> <epoch> <seq> <offset> <ms> <seed> <crc>\r\n     first line of a segment
//! #HF1 <len> <offset> <ms> <prev> <crc>\r\n                        in front of each batch
//! ```
//!
//! Decimal numbers without leading zeros, CRC32C and seed as 8 lower-case hex digits. The CRC of a frame covers seed,
//! `prev` (the CRC of the line before it in the chain), length, offset, time and body. The seed is random for each
//! segment and never leaves the server, so that a client cannot write a value that looks like a frame.

use std::fmt::Write as _;

/// Longest annotation line, the end of line included. Redis reads a line into 1,024 bytes and takes what is longer for
/// commands (`aof.c`, `AOF_ANNOTATION_LINE_MAX_LEN`).
pub const LINE_LEN_MAX: usize = 1023;
/// Largest stream offset, far beyond any: what a reader adds to one, the length of a file at most, does not overflow.
pub(crate) const OFFSET_MAX: u64 = i64::MAX as u64;
const SEGMENT_MAGIC: &[u8] = b"#HS1 ";
const FRAME_MAGIC: &[u8] = b"#HF1 ";
/// What every frame line begins with.
pub(crate) const FRAME_PREFIX: &[u8] = FRAME_MAGIC;
/// What every segment header begins with.
pub(crate) const SEGMENT_PREFIX: &[u8] = SEGMENT_MAGIC;

/// The first line of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Id of the Store.
    pub store_id: String,
    /// Epoch of the data.
    pub epoch: u64,
    /// Sequence number of the segment in the manifest.
    pub seq: u64,
    /// Stream offset of its first command byte.
    pub offset: u64,
    /// When it was started, in milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// Seed of the frames' checksums.
    pub seed: u32,
}

/// The line in front of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Length of the body in bytes.
    pub len: u64,
    /// Stream offset of the body's first byte.
    pub offset: u64,
    /// When the batch was executed, in milliseconds since the Unix epoch.
    pub(crate) time_ms: u64,
    /// CRC of the line before this one in the chain.
    pub prev: u32,
    /// CRC32C of this frame.
    pub crc: u32,
}

/// Why a line is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineError {
    /// It does not begin as such a line.
    NotThisKind,
    /// It begins as one and is not whole or not well-formed.
    Malformed,
    /// It is well-formed and its checksum does not fit.
    Checksum,
}

impl SegmentHeader {
    /// The line with its end, and its CRC, which the first frame names as `prev`.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, u32) {
        let mut line = format!(
            "#HS1 {} {} {} {} {} {:08x} ",
            self.store_id, self.epoch, self.seq, self.offset, self.started_ms, self.seed
        );
        let crc = crc32c::crc32c(line.as_bytes());
        // Writing to a String cannot fail.
        let _ = write!(line, "{crc:08x}\r\n");
        (line.into_bytes(), crc)
    }

    /// Reads a line (with or without its end).
    ///
    /// # Errors
    /// [`LineError`] when it is not a whole, undamaged header.
    pub fn decode(line: &[u8]) -> Result<(Self, u32), LineError> {
        if !line.starts_with(SEGMENT_MAGIC) {
            return Err(LineError::NotThisKind);
        }
        let text = std::str::from_utf8(line).map_err(|_| LineError::Malformed)?;
        let text = text.strip_suffix("\r\n").ok_or(LineError::Malformed)?;
        let (covered, crc) = text.rsplit_once(' ').ok_or(LineError::Malformed)?;
        let crc = parse_hex(crc)?;
        let fields: Vec<&str> = covered.split(' ').collect();
        let [_, store_id, epoch, seq, offset, started_ms, seed] = fields[..] else {
            return Err(LineError::Malformed);
        };
        if crc32c::crc32c_append(crc32c::crc32c(covered.as_bytes()), b" ") != crc {
            return Err(LineError::Checksum);
        }
        let header = Self {
            store_id: store_id.to_owned(),
            epoch: parse_decimal(epoch)?,
            seq: parse_decimal(seq)?,
            offset: parse_offset(offset)?,
            started_ms: parse_decimal(started_ms)?,
            seed: parse_hex(seed)?,
        };
        Ok((header, crc))
    }
}

impl FrameHeader {
    /// The header of `body` in the chain after `prev`.
    #[must_use]
    pub fn for_body(seed: u32, prev: u32, offset: u64, time_ms: u64, body: &[u8]) -> Self {
        let len = body.len() as u64;
        let crc = crc32c::crc32c_append(header_crc(seed, prev, len, offset, time_ms), body);
        Self { len, offset, time_ms, prev, crc }
    }

    /// True when `body` is the one that the header was made for, in a segment with this seed.
    #[must_use]
    pub(crate) fn fits(&self, seed: u32, body: &[u8]) -> bool {
        body.len() as u64 == self.len && crc32c::crc32c_append(self.crc_before_body(seed), body) == self.crc
    }

    /// CRC of all that the frame's CRC covers before the body.
    pub(super) fn crc_before_body(&self, seed: u32) -> u32 {
        header_crc(seed, self.prev, self.len, self.offset, self.time_ms)
    }

    /// Appends the line with its end.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        out.extend_from_slice(FRAME_MAGIC);
        for number in [self.len, self.offset, self.time_ms] {
            out.extend_from_slice(digits.format(number).as_bytes());
            out.push(b' ');
        }
        push_hex(out, self.prev);
        out.push(b' ');
        push_hex(out, self.crc);
        out.extend_from_slice(b"\r\n");
    }

    /// Reads a line with its end.
    ///
    /// # Errors
    /// [`LineError`] when it is not a whole frame line; the checksum is that of the body and not looked at here.
    pub fn decode(line: &[u8]) -> Result<Self, LineError> {
        if !line.starts_with(FRAME_MAGIC) {
            return Err(LineError::NotThisKind);
        }
        let text = std::str::from_utf8(line).map_err(|_| LineError::Malformed)?;
        let text = text.strip_suffix("\r\n").ok_or(LineError::Malformed)?;
        let mut fields = text.split(' ').skip(1);
        let mut next = || fields.next().ok_or(LineError::Malformed);
        let header = Self {
            len: parse_decimal(next()?)?,
            offset: parse_offset(next()?)?,
            time_ms: parse_decimal(next()?)?,
            prev: parse_hex(next()?)?,
            crc: parse_hex(next()?)?,
        };
        if fields.next().is_some() { Err(LineError::Malformed) } else { Ok(header) }
    }
}

fn header_crc(seed: u32, prev: u32, len: u64, offset: u64, time_ms: u64) -> u32 {
    let mut covered = [0_u8; 32];
    covered[..4].copy_from_slice(&seed.to_le_bytes());
    covered[4..8].copy_from_slice(&prev.to_le_bytes());
    covered[8..16].copy_from_slice(&len.to_le_bytes());
    covered[16..24].copy_from_slice(&offset.to_le_bytes());
    covered[24..].copy_from_slice(&time_ms.to_le_bytes());
    crc32c::crc32c(&covered)
}

fn push_hex(out: &mut Vec<u8>, number: u32) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for shift in (0..8).rev() {
        out.push(DIGITS[(number >> (shift * 4)) as usize & 15]);
    }
}

/// One form only for each number, so that a changed byte is never read as the same line.
fn parse_decimal(text: &str) -> Result<u64, LineError> {
    let canonical = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().map_err(|_| LineError::Malformed) } else { Err(LineError::Malformed) }
}

fn parse_offset(text: &str) -> Result<u64, LineError> {
    Some(parse_decimal(text)?).filter(|&offset| offset <= OFFSET_MAX).ok_or(LineError::Malformed)
}

fn parse_hex(text: &str) -> Result<u32, LineError> {
    let canonical = text.len() == 8 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if canonical {
        u32::from_str_radix(text, 16).map_err(|_| LineError::Malformed)
    } else {
        Err(LineError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            store_id: "6f1c2b7e-8a55-4d0e-9d5e-0c8f4ad2b611".into(),
            epoch: u64::MAX,
            seq: u64::MAX,
            offset: OFFSET_MAX,
            started_ms: u64::MAX,
            seed: u32::MAX,
        }
    }

    #[test]
    fn lines_stay_within_what_redis_skips() {
        let (line, _) = header().encode();
        assert!(line.len() <= LINE_LEN_MAX);
        let mut line = Vec::new();
        FrameHeader { len: u64::MAX, offset: u64::MAX, time_ms: u64::MAX, prev: u32::MAX, crc: u32::MAX }
            .encode_into(&mut line);
        assert!(line.len() <= LINE_LEN_MAX);
        assert!(!line.starts_with(b"#TS:"));
    }

    #[test]
    fn every_flipped_bit_of_a_segment_header_is_seen() {
        let (line, crc) = header().encode();
        assert_eq!(SegmentHeader::decode(&line), Ok((header(), crc)));
        let (beyond, _) = SegmentHeader { offset: OFFSET_MAX + 1, ..header() }.encode();
        assert_eq!(SegmentHeader::decode(&beyond), Err(LineError::Malformed));
        for bit in 0..line.len() * 8 {
            let mut damaged = line.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_seen() {
        let body = b"*1\r\n$4\r\nPING\r\n";
        let mut frame = Vec::new();
        FrameHeader::for_body(7, 8, 9, 10, body).encode_into(&mut frame);
        let line_len = frame.len();
        frame.extend_from_slice(body);
        let valid = |frame: &[u8]| {
            FrameHeader::decode(&frame[..line_len]).is_ok_and(|header| header.fits(7, &frame[line_len..]))
        };
        assert!(valid(&frame));
        for bit in 0..frame.len() * 8 {
            let mut damaged = frame.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!valid(&damaged), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn frames_round_trip(
            seed: u32,
            prev: u32,
            offset in 0..=OFFSET_MAX,
            time_ms: u64,
            body: Vec<u8>,
        ) {
            let header = FrameHeader::for_body(seed, prev, offset, time_ms, &body);
            let mut line = Vec::new();
            header.encode_into(&mut line);
            prop_assert_eq!(FrameHeader::decode(&line), Ok(header));
            prop_assert!(header.fits(seed, &body));
            prop_assert!(!header.fits(seed.wrapping_add(1), &body));
        }

        #[test]
        fn arbitrary_lines_never_panic(line: Vec<u8>) {
            let _ = SegmentHeader::decode(&line);
            let _ = FrameHeader::decode(&line);
        }
    }
}
