//! What is behind the last good frame, when it is no good frame.
//!
//! Redis skips our lines, cuts a command off that is not whole, and appends. So a frame that was torn may be followed by
//! commands that Redis has acknowledged; then it is no torn tail.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::SeekFrom;

use super::reader::{CHUNK_LEN, ReadSegmentError, Window, read_up_to};
use super::record::{FRAME_PREFIX, FrameHeader, LINE_LEN_MAX};
use crate::protocol::{DecodeLimits, Decoder};
use crate::storage::StorageReader;

/// Told of positions in the file; an error ends the search.
pub(super) type Progress<'p> = dyn FnMut(u64) -> Result<(), ReadSegmentError> + 'p;

/// Where a frame of ours may still be.
#[derive(Debug, Clone, Copy)]
pub(super) struct TailSearch {
    /// Position behind the first byte of what should have been a frame.
    pub(super) from: u64,
    /// Length of the file.
    pub(super) file_len: u64,
    /// Seed of the segment's checksums.
    pub(super) seed: u32,
    /// Stream offset up to which everything is known.
    pub(super) offset_min: u64,
}

/// A line that may be a frame's: whether it is shows at the end of its body. Ordered by that end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    end: u64,
    position: u64,
    offset: u64,
    /// The running CRC at `end`, if the frame is valid.
    wanted: u32,
}

impl TailSearch {
    /// Position and stream offset of the valid frame that ends first.
    ///
    /// The seed makes it certain that a frame found is one that this server wrote into this segment, and no text inside a
    /// value. A frame counts whatever comes before it in the chain, since its predecessor may be what is damaged.
    ///
    /// Any value may be full of lines that look like frames, so each byte is read once, whatever they say: the CRC of a
    /// body follows from those of everything before its start and before its end. What waits for its end takes about as
    /// much memory as the tail has bytes, at the most.
    ///
    /// # Errors
    /// [`ReadSegmentError::Read`], and what `progress` returns.
    pub(super) fn find_valid_frame(
        &self,
        reader: &mut dyn StorageReader,
        progress: &mut Progress<'_>,
    ) -> Result<Option<(u64, u64)>, ReadSegmentError> {
        let zeros = ZeroBytes::new();
        let mut waiting = BinaryHeap::new();
        let mut chunk = vec![0; CHUNK_LEN];
        let mut chunk_position = self.from;
        let mut running = RunningCrc { crc: 0, position: self.from };
        loop {
            let read_error = |source| ReadSegmentError::Read { position: chunk_position, source };
            reader.seek(SeekFrom::Start(chunk_position)).map_err(read_error)?;
            let filled = read_up_to(reader, &mut chunk).map_err(read_error)?;
            let bytes = &chunk[..filled];
            // A line that begins near the end of the chunk is looked at with the next one.
            let is_last = filled < chunk.len();
            let search_len = if is_last { filled } else { filled - LINE_LEN_MAX };
            let search_end = chunk_position + search_len as u64;
            let mut lines = frame_lines(bytes, search_len);
            loop {
                let line = lines.next();
                let until =
                    line.as_ref().map_or(search_end, |line| chunk_position + (line.at + line.len) as u64);
                while let Some(&Reverse(Candidate { end, position, offset, wanted })) = waiting.peek()
                    && end <= until
                {
                    waiting.pop();
                    if running.advance(end, bytes, chunk_position) == wanted {
                        return Ok(Some((position, offset)));
                    }
                }
                let crc = running.advance(until, bytes, chunk_position);
                let Some(FrameLine { at, header, .. }) = line else { break };
                if header.offset < self.offset_min || header.len > self.file_len.saturating_sub(until) {
                    continue;
                }
                // crc(frame) = crc(fields) behind len zeros ^ crc(body), and crc(body) is to the running CRCs what
                // crc(frame) is to the fields' and its own.
                let wanted = zeros.append(header.crc_before_body(self.seed) ^ crc, header.len) ^ header.crc;
                let (end, position) = (until + header.len, chunk_position + at as u64);
                waiting.push(Reverse(Candidate { end, position, offset: header.offset, wanted }));
            }
            if is_last {
                return Ok(None);
            }
            chunk_position = search_end;
            progress(chunk_position)?;
        }
    }
}

/// A well-formed frame line in a chunk.
struct FrameLine {
    at: usize,
    len: usize,
    header: FrameHeader,
}

fn frame_lines(chunk: &[u8], search_len: usize) -> impl Iterator<Item = FrameLine> + '_ {
    let places = chunk.windows(FRAME_PREFIX.len()).take(search_len).enumerate();
    places.filter(|(_, window)| *window == FRAME_PREFIX).filter_map(|(at, _)| {
        let line = &chunk[at..chunk.len().min(at + LINE_LEN_MAX)];
        let len = line.iter().position(|byte| *byte == b'\n')? + 1;
        let header = FrameHeader::decode(&line[..len]).ok()?;
        Some(FrameLine { at, len, header })
    })
}

/// CRC-32C of everything from where the search began.
struct RunningCrc {
    crc: u32,
    position: u64,
}

impl RunningCrc {
    /// The CRC up to `to`, which never goes back; `chunk` holds the bytes from `chunk_position` on, those up to `to` among
    /// them.
    fn advance(&mut self, to: u64, chunk: &[u8], chunk_position: u64) -> u32 {
        let within = |position: u64| {
            usize::try_from(position.saturating_sub(chunk_position))
                .map_or(chunk.len(), |at| at.min(chunk.len()))
        };
        if to > self.position {
            self.crc = crc32c::crc32c_append(self.crc, &chunk[within(self.position)..within(to)]);
            self.position = to;
        }
        self.crc
    }
}

/// What any number of zero bytes makes of a CRC-32C: one matrix over GF(2) for each power of two. The method is that of
/// zlib's `crc32_combine`, which computes the matrices each time.
struct ZeroBytes {
    powers: [[u32; 32]; 64],
}

impl ZeroBytes {
    /// The polynomial of CRC-32C, lowest bit first.
    const POLYNOMIAL: u32 = 0x82F6_3B78;

    fn new() -> Self {
        let mut bit = [Self::POLYNOMIAL; 32];
        for (row, power) in bit.iter_mut().skip(1).zip(0..) {
            *row = 1 << power;
        }
        let byte = (0..3).fold(bit, |matrix, _| Self::square(&matrix));
        let mut powers = [byte; 64];
        for at in 1..powers.len() {
            powers[at] = Self::square(&powers[at - 1]);
        }
        Self { powers }
    }

    fn square(matrix: &[u32; 32]) -> [u32; 32] {
        matrix.map(|row| Self::times(matrix, row))
    }

    fn times(matrix: &[u32; 32], vector: u32) -> u32 {
        let rows = matrix.iter().zip(0..).filter(|(_, bit)| vector >> bit & 1 == 1);
        rows.fold(0, |sum, (row, _)| sum ^ row)
    }

    /// The part that bytes with this CRC have in the CRC of them and `len` bytes behind them.
    fn append(&self, crc: u32, len: u64) -> u32 {
        let powers = self.powers.iter().zip(0..).filter(|(_, bit)| len >> bit & 1 == 1);
        powers.fold(crc, |crc, (matrix, _)| Self::times(matrix, crc))
    }
}

/// Commands in a tail that holds no good frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TailCommands {
    /// Not one is whole.
    None,
    /// Some are whole. They may all be of the frame that was torn.
    Some,
    /// Whole commands, of which some cannot be of the frame that was torn.
    Foreign {
        /// Position of the first command behind the frame's line.
        commands_at: u64,
    },
}

/// Looks for whole commands in what follows the front of `window`, where a frame of ours should be; `last_crc` is that of
/// the line before it.
///
/// # Errors
/// [`ReadSegmentError::Read`], and what `progress` returns.
pub(super) fn find_commands(
    window: &mut Window<'_>,
    last_crc: Option<u32>,
    progress: &mut Progress<'_>,
) -> Result<TailCommands, ReadSegmentError> {
    let Some(line) = window.line()? else { return Ok(TailCommands::None) };
    let torn_len = line.iter().position(|byte| *byte == b'*').filter(|len| is_torn_line(&line[..*len]));
    let frame_len = FrameHeader::decode(line).ok().filter(|header| Some(header.prev) == last_crc);
    let (skipped_len, ours_len) = match (torn_len, frame_len) {
        // Inside of the line: nothing of the body was written.
        (Some(len), _) => (len, Some(0)),
        (None, Some(header)) => (line.len(), Some(header.len)),
        // How much of what follows is ours is not known.
        (None, None) if line.ends_with(b"\n") => (line.len(), None),
        (None, None) => return Ok(TailCommands::None),
    };
    window.advance(skipped_len);
    let commands_at = window.position();
    let end = skip_commands(window, progress)?;
    Ok(match ours_len {
        _ if end == commands_at => TailCommands::None,
        Some(len) if end - commands_at > len => TailCommands::Foreign { commands_at },
        _ => TailCommands::Some,
    })
}

/// True for a part of a frame line, from its first byte on.
fn is_torn_line(line: &[u8]) -> bool {
    let is_of_line = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b' ' | b'\r');
    !line.is_empty()
        && (FRAME_PREFIX.starts_with(line)
            || line.strip_prefix(FRAME_PREFIX).is_some_and(|rest| rest.iter().all(is_of_line)))
}

/// Moves behind the last whole command in a row, and returns its end.
fn skip_commands(window: &mut Window<'_>, progress: &mut Progress<'_>) -> Result<u64, ReadSegmentError> {
    let mut decoder = Decoder::new();
    let mut end = window.position();
    let mut told = end;
    loop {
        if window.position() - told >= CHUNK_LEN as u64 {
            told = window.position();
            progress(told)?;
        }
        if let Some(line) = window.line()?
            && line.starts_with(b"#TS:")
            && line.ends_with(b"\n")
        {
            let len = line.len();
            window.advance(len);
            continue;
        }
        let (consumed, is_command) = loop {
            let available = window.bytes().len();
            let Ok(step) = decoder.decode(window.bytes(), &DecodeLimits::LOG) else { return Ok(end) };
            if step.request.is_some() || step.consumed > 0 {
                break (step.consumed, step.request.is_some());
            }
            if window.fill_more(available)? == available {
                return Ok(end);
            }
        };
        window.advance(consumed);
        if is_command {
            end = window.position();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Seek};

    use proptest::prelude::*;

    use super::*;

    /// Counts the bytes that are read.
    struct Counted {
        file: io::Cursor<Vec<u8>>,
        bytes_read: u64,
    }

    impl Read for Counted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = self.file.read(buffer)?;
            self.bytes_read += len as u64;
            Ok(len)
        }
    }

    impl Seek for Counted {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.file.seek(to)
        }
    }

    const SEED: u32 = 0xdead;

    fn search(file: &[u8]) -> (Option<(u64, u64)>, u64) {
        let mut reader = Counted { file: io::Cursor::new(file.to_vec()), bytes_read: 0 };
        let search = TailSearch { from: 1, file_len: file.len() as u64, seed: SEED, offset_min: 100 };
        let found = search.find_valid_frame(&mut reader, &mut |_| Ok(())).unwrap();
        (found, reader.bytes_read)
    }

    /// A line that is well-formed and no frame's, for a body of so many bytes.
    fn fake(len: u64) -> Vec<u8> {
        let mut line = Vec::new();
        FrameHeader { len, offset: 200, time_ms: 7, prev: 1, crc: 2 }.encode_into(&mut line);
        line
    }

    /// About `len` bytes of lines that all claim the rest of the file.
    fn fakes(len: usize) -> Vec<u8> {
        let mut file = b"#".to_vec();
        while file.len() < len {
            let rest = len.saturating_sub(file.len() + 60);
            file.extend(fake(rest as u64));
        }
        file
    }

    #[test]
    fn lines_that_look_like_frames_do_not_make_the_search_longer() {
        let file = fakes(3 << 20);
        let (found, bytes_read) = search(&file);
        assert_eq!(found, None);
        assert!(bytes_read < 2 * file.len() as u64, "{bytes_read} bytes of {} were read", file.len());
    }

    #[test]
    fn a_valid_frame_is_found_wherever_it_is() {
        for before in [0, 40, CHUNK_LEN - 1_030, CHUNK_LEN - 60, CHUNK_LEN - 20, CHUNK_LEN, 3 * CHUNK_LEN] {
            for body_len in [0, 1, 5_000, 2 * CHUNK_LEN] {
                let mut file = fakes(before);
                let position = file.len();
                let body = vec![b'x'; body_len];
                let header = FrameHeader::for_body(SEED, 9, 300, 7, &body);
                header.encode_into(&mut file);
                file.extend_from_slice(&body);
                file.extend(fakes(1_000));
                assert_eq!(search(&file).0, Some((position as u64, 300)), "{body_len} bytes behind {before}");
                // Neither one of another segment, nor one from before.
                let mut other = file.clone();
                other[position + 6] ^= 1;
                assert_eq!(search(&other).0, None, "{body_len} bytes behind {before}, damaged");
            }
        }
    }

    #[test]
    fn a_search_can_be_stopped() {
        let file = fakes(1 << 20);
        let search = TailSearch { from: 1, file_len: file.len() as u64, seed: SEED, offset_min: 0 };
        let stop = |position| Err(ReadSegmentError::Apply { position, source: "stopped".into() });
        let result = search.find_valid_frame(&mut io::Cursor::new(file), &mut { stop });
        assert!(matches!(result, Err(ReadSegmentError::Apply { .. })), "{result:?}");
    }

    proptest! {
        #[test]
        fn zero_bytes_are_appended_as_by_the_crate(crc: u32, other: u32, len in 0_usize..=usize::MAX >> 1) {
            let combined = crc32c::crc32c_combine(crc, other, len);
            let ours = ZeroBytes::new().append(crc, len as u64) ^ if len == 0 { 0 } else { other };
            prop_assert_eq!(ours, combined);
        }
    }
}
