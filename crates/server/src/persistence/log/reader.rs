//! Reads a segment: verifies each frame before its commands are handed on, and tells a torn tail from damage.
//!
//! A frame that is not valid, with no valid frame after it, is a torn tail: the writer died while it was written, so
//! none of it was acknowledged under `always`. A valid frame *after* it means that bytes changed which had been written
//! long before: that is damage, and nothing behind it may be trusted to be complete. So do commands behind it that cannot
//! be its own: an upstream server has gone on behind a torn frame.
//!
//! Commands without frames are accepted by Redis's rules where an upstream server wrote them, or we did so by
//! `aof-annotations no`: in a segment without our header, and behind our last frame.

use std::io::{self, SeekFrom};

use super::record::{FrameHeader, LINE_LEN_MAX, LineError, SEGMENT_PREFIX, SegmentHeader};
use super::tail::{TailCommands, TailSearch, find_commands};
use crate::protocol::{DecodeLimits, Decoder, ProtocolError, Request};
use crate::storage::StorageReader;

/// How much is read at once, in bytes.
pub(super) const CHUNK_LEN: usize = 1 << 18;

/// Why a command of the log could not be applied.
pub type ApplyError = Box<dyn std::error::Error + Send + Sync>;

/// Takes the commands of a segment in their order.
pub trait LogVisitor {
    /// One command, verified.
    ///
    /// # Errors
    /// Any reason not to read on.
    fn command(&mut self, request: &Request<'_>) -> Result<(), ApplyError>;

    /// Called with the position in the file now and then.
    ///
    /// # Errors
    /// A reason to stop reading, such as a stop of the server.
    fn progress(&mut self, _position: u64) -> Result<(), ApplyError> {
        Ok(())
    }
}

/// Why a segment cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadSegmentError {
    /// The file system failed.
    #[error("failed to read at byte {position}")]
    Read {
        /// Position in the file.
        position: u64,
        /// What the file system said.
        source: io::Error,
    },
    /// The first line is a damaged header of ours.
    #[error("the header line at byte 0 is damaged")]
    Header,
    /// The header is that of another segment.
    #[error("the header says {found}, expected {expected}")]
    OtherSegment {
        /// What it says.
        found: String,
        /// What the manifest and the files before it say.
        expected: String,
    },
    /// The segment begins where the file before it does not end.
    #[error("it begins at stream offset {found}, and the file before it ends at {expected}")]
    Offset {
        /// Where it begins.
        found: u64,
        /// Where the file before it ends.
        expected: u64,
    },
    /// An invalid frame with a valid one after it.
    #[error(
        "damaged at byte {position} with valid records from byte {next_position} on; \
         stream offsets {lost_from} to {lost_to} are lost ({lost_len} bytes)",
        lost_len = lost_to - lost_from
    )]
    Damaged {
        /// Position of the first bad byte's frame.
        position: u64,
        /// Position of the next valid frame.
        next_position: u64,
        /// First lost stream offset.
        lost_from: u64,
        /// First stream offset after the gap.
        lost_to: u64,
    },
    /// Commands that are in no record, behind a record that is not whole.
    #[error(
        "the record at byte {position} is not whole, and commands from byte {commands_at} on cannot be its own: another \
         server has gone on behind it. Cut off, they would be lost. To keep them, remove bytes {position} to \
         {commands_at} (the record's line); to give them up, cut the file at byte {position}"
    )]
    Overwritten {
        /// Position of the record.
        position: u64,
        /// Position of the first command.
        commands_at: u64,
    },
    /// Frames are whole and do not follow each other.
    #[error(
        "the record at byte {position} does not follow the one before it: stream offset {found}, expected {expected}"
    )]
    Gap {
        /// Position of the frame.
        position: u64,
        /// Its offset.
        found: u64,
        /// Where the frame before it ends.
        expected: u64,
    },
    /// Not a command, in the part without frames. The first words are those of Redis, which people look for in logs.
    #[error("Bad file format reading the append only file, at byte {position}: {source}")]
    Format {
        /// Position of the command.
        position: u64,
        /// What is wrong.
        source: ProtocolError,
    },
    /// A command could not be applied.
    #[error("failed to apply the command at byte {position}")]
    Apply {
        /// Position of the frame or command.
        position: u64,
        /// Why.
        source: ApplyError,
    },
    /// The offset to stop at is inside a batch or behind the end.
    #[error("stream offset {wanted} is no boundary between batches; the nearest one before it is {before}")]
    NoBoundary {
        /// The offset asked for.
        wanted: u64,
        /// End of the last whole batch before it.
        before: u64,
    },
}

/// What the segment is expected to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// Stream offset of its first byte, when the files before it say.
    pub offset: Option<u64>,
    /// Id of the Store; a header with another one is refused.
    pub store_id: Option<String>,
    /// Sequence number in the manifest.
    pub seq: u64,
    /// True: the segment must have our header (our own manifest names it, as one with our lines).
    pub ours: bool,
    /// Stop when exactly this offset is reached.
    pub stop_at: Option<u64>,
}

/// What is at the end of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// Whole commands to the last byte.
    Clean,
    /// The last record is not whole: the file is to be cut here.
    Torn {
        /// Where the torn record begins.
        position: u64,
        /// Bytes from there to the end of the file.
        len: u64,
    },
    /// The offset to stop at was reached; what follows is not wanted.
    Stopped {
        /// Where the unwanted bytes begin.
        position: u64,
    },
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSummary {
    /// Our header; absent in a segment of an upstream server.
    pub header: Option<SegmentHeader>,
    /// CRC of the last line of the chain, when the file ends with a frame (or the header) of ours.
    pub(crate) last_crc: Option<u32>,
    /// Stream offset after the last whole command.
    pub end_offset: u64,
    /// Frames read.
    pub frames: u64,
    /// Commands without a frame.
    pub(crate) foreign_commands: u64,
    /// Stream offset after our last frame, in a segment with our header; else that of the end.
    pub(crate) own_end_offset: u64,
    /// Time of the last frame, in milliseconds since the Unix epoch.
    pub(crate) last_time_ms: Option<u64>,
    /// Its end.
    pub tail: Tail,
    /// There are whole commands in a torn tail of frames.
    pub(crate) tail_holds_commands: bool,
}

/// Reads a segment of `file_len` bytes to its end.
///
/// # Errors
/// [`ReadSegmentError`]. Commands before the place of the error have been visited.
pub fn read_segment(
    reader: &mut dyn StorageReader,
    file_len: u64,
    expectation: &Expectation,
    visitor: &mut dyn LogVisitor,
) -> Result<SegmentSummary, ReadSegmentError> {
    let mut window = Window { reader, buffer: Vec::new(), start: 0, position: 0, at_end: false };
    let header = read_header(&mut window, expectation)?;
    let mut summary = SegmentSummary {
        last_crc: header.as_ref().map(|(_, crc)| *crc),
        end_offset: header.as_ref().map(|(header, _)| header.offset).or(expectation.offset).unwrap_or(0),
        header: header.map(|(header, _)| header),
        frames: 0,
        foreign_commands: 0,
        own_end_offset: 0,
        last_time_ms: None,
        tail: Tail::Clean,
        tail_holds_commands: false,
    };
    if let Some(seed) = summary.header.as_ref().map(|header| header.seed) {
        read_frames(&mut window, file_len, seed, expectation, &mut summary, visitor)?;
    }
    let frames_end_offset = summary.end_offset;
    let stopped = expectation.stop_at == Some(summary.end_offset);
    if summary.tail == Tail::Clean && stopped && !window.is_at_end()? {
        summary.tail = Tail::Stopped { position: window.position };
    }
    if summary.tail == Tail::Clean && !window.is_at_end()? {
        read_commands(&mut window, file_len, expectation, &mut summary, visitor)?;
    }
    summary.own_end_offset = if summary.header.is_some() { frames_end_offset } else { summary.end_offset };
    Ok(summary)
}

fn read_header(
    window: &mut Window<'_>,
    expectation: &Expectation,
) -> Result<Option<(SegmentHeader, u32)>, ReadSegmentError> {
    let line = window.line()?;
    let decoded = match line {
        Some(line) if line.starts_with(SEGMENT_PREFIX) => SegmentHeader::decode(line),
        _ if expectation.ours => return Err(ReadSegmentError::Header),
        // A damaged first byte of ours would make the rest a comment line and frames: refuse what is neither a
        // command nor an upstream timestamp.
        Some(line) if line.starts_with(b"#") && !line.starts_with(b"#TS:") => Err(LineError::Malformed),
        _ => return Ok(None),
    };
    let len = line.map_or(0, <[u8]>::len);
    let (header, crc) = decoded.map_err(|_| ReadSegmentError::Header)?;
    let mismatch = |found: String, expected: String| Err(ReadSegmentError::OtherSegment { found, expected });
    if header.seq != expectation.seq {
        return mismatch(format!("seq {}", header.seq), format!("seq {}", expectation.seq));
    }
    if let Some(store_id) = &expectation.store_id
        && *store_id != header.store_id
    {
        return mismatch(format!("store {}", header.store_id), format!("store {store_id}"));
    }
    if let Some(offset) = expectation.offset
        && offset != header.offset
    {
        return Err(ReadSegmentError::Offset { found: header.offset, expected: offset });
    }
    window.advance(len);
    Ok(Some((header, crc)))
}

fn read_frames(
    window: &mut Window<'_>,
    file_len: u64,
    seed: u32,
    expectation: &Expectation,
    summary: &mut SegmentSummary,
    visitor: &mut dyn LogVisitor,
) -> Result<(), ReadSegmentError> {
    let mut decoder = Decoder::new();
    loop {
        if expectation.stop_at == Some(summary.end_offset) {
            return Ok(());
        }
        let position = window.position;
        let line = match window.line()? {
            None => return Ok(()),
            // An upstream server has run on our directory and appended plain commands.
            Some(line) if line.starts_with(b"*") || line.starts_with(b"#TS:") => {
                summary.last_crc = None;
                return Ok(());
            }
            Some(line) => line,
        };
        let line_len = line.len();
        let header = FrameHeader::decode(line).ok().filter(|header| {
            Some(header.prev) == summary.last_crc
                && header.len <= file_len.saturating_sub(position + line_len as u64)
        });
        let Some(header) = header else { return read_tail(window, file_len, seed, summary, visitor) };
        // Bounded by the length of the file, checked above.
        let body_len = usize::try_from(header.len).map_err(|_| out_of_memory(position))?;
        window.fill(line_len + body_len)?;
        let body = window.bytes().get(line_len..line_len + body_len);
        let Some(body) = body.filter(|body| header.fits(seed, body)) else {
            return read_tail(window, file_len, seed, summary, visitor);
        };
        if header.offset != summary.end_offset {
            return Err(ReadSegmentError::Gap {
                position,
                found: header.offset,
                expected: summary.end_offset,
            });
        }
        if let Some(wanted) = expectation.stop_at
            && wanted < header.offset + header.len
        {
            return Err(ReadSegmentError::NoBoundary { wanted, before: summary.end_offset });
        }
        visit_body(body, &mut decoder, visitor)
            .map_err(|source| ReadSegmentError::Apply { position, source })?;
        window.advance(line_len + body_len);
        summary.last_crc = Some(header.crc);
        summary.end_offset += header.len;
        summary.frames += 1;
        summary.last_time_ms = Some(header.time_ms);
        visitor
            .progress(window.position)
            .map_err(|source| ReadSegmentError::Apply { position: window.position, source })?;
    }
}

fn out_of_memory(position: u64) -> ReadSegmentError {
    ReadSegmentError::Read { position, source: io::ErrorKind::OutOfMemory.into() }
}

/// A frame's body is whole commands; its checksum has been verified, so anything else is a defect of the writer.
fn visit_body(
    mut body: &[u8],
    decoder: &mut Decoder,
    visitor: &mut dyn LogVisitor,
) -> Result<(), ApplyError> {
    while !body.is_empty() {
        let step = decoder.decode(body, &DecodeLimits::LOG)?;
        let consumed = step.consumed;
        match step.request {
            Some(request) => visitor.command(&request)?,
            None if consumed == body.len() => {}
            None => return Err("the record ends inside a command".into()),
        }
        body = &body[consumed..];
    }
    Ok(())
}

/// The frame at the window's position is not valid: looks for a valid one behind it.
fn read_tail(
    window: &mut Window<'_>,
    file_len: u64,
    seed: u32,
    summary: &mut SegmentSummary,
    visitor: &mut dyn LogVisitor,
) -> Result<(), ReadSegmentError> {
    let position = window.position;
    let mut progress =
        |position| visitor.progress(position).map_err(|source| ReadSegmentError::Apply { position, source });
    let tail = TailSearch { from: position + 1, file_len, seed, offset_min: summary.end_offset };
    match tail.find_valid_frame(window.reader, &mut progress)? {
        Some((next_position, offset)) => Err(ReadSegmentError::Damaged {
            position,
            next_position,
            lost_from: summary.end_offset,
            lost_to: offset,
        }),
        None => {
            window.rewind_to(position)?;
            match find_commands(window, summary.last_crc, &mut progress)? {
                TailCommands::Foreign { commands_at } => {
                    return Err(ReadSegmentError::Overwritten { position, commands_at });
                }
                commands => summary.tail_holds_commands = commands == TailCommands::Some,
            }
            summary.tail = Tail::Torn { position, len: file_len - position };
            Ok(())
        }
    }
}

pub(super) fn read_up_to(reader: &mut dyn StorageReader, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Commands without frames, by Redis's rules (`aof.c`, `loadSingleAppendOnlyFile`): lines that begin with `#` are
/// skipped, a command or transaction that is not whole at the end of the file is a torn tail.
fn read_commands(
    window: &mut Window<'_>,
    file_len: u64,
    expectation: &Expectation,
    summary: &mut SegmentSummary,
    visitor: &mut dyn LogVisitor,
) -> Result<(), ReadSegmentError> {
    let mut decoder = Decoder::new();
    let mut transaction: Option<(u64, u64)> = None;
    loop {
        if expectation.stop_at == Some(summary.end_offset) && transaction.is_none() {
            summary.tail = Tail::Stopped { position: window.position };
            return Ok(());
        }
        let position = window.position;
        if let Some(line) = window.line()?
            && line.starts_with(b"#")
        {
            // A line without an end is longer than Redis skips, or the file ends in it.
            if line.ends_with(b"\n") {
                let len = line.len();
                window.advance(len);
                continue;
            }
        }
        let (consumed, is_request) = loop {
            let available = window.bytes().len();
            let step = decoder
                .decode(window.bytes(), &DecodeLimits::LOG)
                .map_err(|source| ReadSegmentError::Format { position, source })?;
            let Some(request) = step.request else {
                if step.consumed > 0 {
                    break (step.consumed, false);
                }
                if window.fill(available + CHUNK_LEN)? == available {
                    if available > 0 || transaction.is_some() {
                        let (torn, offset) = transaction.unwrap_or((position, summary.end_offset));
                        summary.end_offset = offset;
                        summary.tail = Tail::Torn { position: torn, len: file_len - torn };
                    }
                    return Ok(());
                }
                continue;
            };
            if request.arg(0).eq_ignore_ascii_case(b"multi") {
                transaction = Some((position, summary.end_offset));
            } else if request.arg(0).eq_ignore_ascii_case(b"exec") {
                transaction = None;
            }
            visitor.command(&request).map_err(|source| ReadSegmentError::Apply { position, source })?;
            break (step.consumed, true);
        };
        window.advance(consumed);
        // Where an upstream segment begins is not its own word: an offset at the end of all numbers stays there.
        summary.end_offset = summary.end_offset.saturating_add(consumed as u64);
        summary.foreign_commands += u64::from(is_request);
        if summary.foreign_commands.is_multiple_of(1024) {
            visitor
                .progress(window.position)
                .map_err(|source| ReadSegmentError::Apply { position, source })?;
        }
    }
}

/// A moving view of the file.
pub(super) struct Window<'r> {
    reader: &'r mut dyn StorageReader,
    buffer: Vec<u8>,
    start: usize,
    /// Position in the file of the first byte of the view.
    position: u64,
    at_end: bool,
}

impl Window<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Position in the file of the first byte in view.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Goes back, or on, to a position in the file.
    fn rewind_to(&mut self, position: u64) -> Result<(), ReadSegmentError> {
        self.reader
            .seek(SeekFrom::Start(position))
            .map_err(|source| ReadSegmentError::Read { position, source })?;
        self.buffer.clear();
        (self.start, self.position, self.at_end) = (0, position, false);
        Ok(())
    }

    /// Reads on behind the `available` bytes in view; gives how many there are.
    pub(super) fn fill_more(&mut self, available: usize) -> Result<usize, ReadSegmentError> {
        self.fill(available + CHUNK_LEN)
    }

    /// Reads until `wanted` bytes are in view or the file ends; gives how many there are.
    fn fill(&mut self, wanted: usize) -> Result<usize, ReadSegmentError> {
        while !self.at_end && self.bytes().len() < wanted {
            if self.start > 0 {
                self.buffer.drain(..self.start);
                self.start = 0;
            }
            let len = self.buffer.len();
            let more = (wanted - len).clamp(CHUNK_LEN, 64 * CHUNK_LEN);
            self.buffer.resize(len + more, 0);
            let read = read_up_to(self.reader, &mut self.buffer[len..]);
            let filled = read.map_err(|source| ReadSegmentError::Read { position: self.position, source })?;
            self.buffer.truncate(len + filled);
            self.at_end = filled < more;
        }
        Ok(self.bytes().len())
    }

    /// The line at the front with its end, cut at [`LINE_LEN_MAX`]; none at the end of the file.
    pub(super) fn line(&mut self) -> Result<Option<&[u8]>, ReadSegmentError> {
        let len = self.fill(LINE_LEN_MAX)?.min(LINE_LEN_MAX);
        let bytes = &self.buffer[self.start..self.start + len];
        let end = bytes.iter().position(|byte| *byte == b'\n').map_or(len, |end| end + 1);
        Ok(if end == 0 { None } else { Some(&bytes[..end]) })
    }

    fn is_at_end(&mut self) -> Result<bool, ReadSegmentError> {
        Ok(self.fill(1)? == 0)
    }

    pub(super) fn advance(&mut self, len: usize) {
        self.start += len;
        self.position += len as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: &str = "6f1c2b7e-8a55-4d0e-9d5e-0c8f4ad2b611";

    #[derive(Default)]
    struct Commands(Vec<String>);

    impl LogVisitor for Commands {
        fn command(&mut self, request: &Request<'_>) -> Result<(), ApplyError> {
            let words: Vec<_> = request.args_from(0).map(String::from_utf8_lossy).collect();
            self.0.push(words.join(" "));
            Ok(())
        }
    }

    fn command(words: &str) -> Vec<u8> {
        let words: Vec<_> = words.split(' ').collect();
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
        bytes
    }

    /// A segment with one frame for each batch, and the positions at which frames begin.
    fn segment(batches: &[&str]) -> (Vec<u8>, Vec<usize>) {
        let header = SegmentHeader {
            store_id: STORE.into(),
            epoch: 1,
            seq: 1,
            offset: 100,
            started_ms: 5,
            seed: 0xdead,
        };
        let (mut file, mut prev) = header.encode();
        let mut offset = header.offset;
        let mut positions = Vec::new();
        for batch in batches {
            positions.push(file.len());
            let body = command(batch);
            let frame = FrameHeader::for_body(header.seed, prev, offset, 7, &body);
            frame.encode_into(&mut file);
            file.extend_from_slice(&body);
            prev = frame.crc;
            offset += body.len() as u64;
        }
        (file, positions)
    }

    fn expectation() -> Expectation {
        Expectation { offset: Some(100), store_id: Some(STORE.into()), seq: 1, ours: true, stop_at: None }
    }

    fn read(
        file: &[u8],
        expectation: &Expectation,
    ) -> (Vec<String>, Result<SegmentSummary, ReadSegmentError>) {
        let mut commands = Commands::default();
        let result =
            read_segment(&mut io::Cursor::new(file.to_vec()), file.len() as u64, expectation, &mut commands);
        (commands.0, result)
    }

    #[test]
    fn whole_segments_are_read_to_their_end() {
        let (file, _) = segment(&["SELECT 0", "SET a 1", "SET b 2"]);
        let (commands, summary) = read(&file, &expectation());
        let summary = summary.unwrap();
        assert_eq!(commands, ["SELECT 0", "SET a 1", "SET b 2"]);
        assert_eq!((summary.tail, summary.frames), (Tail::Clean, 3));
        assert_eq!(
            summary.end_offset,
            100 + (command("SELECT 0").len() + 2 * command("SET a 1").len()) as u64
        );
    }

    #[test]
    fn a_cut_at_every_byte_loses_the_torn_batch_and_no_other() {
        let (file, positions) = segment(&["SET a 1", "SET b 2", "SET c 3"]);
        for len in positions[0]..file.len() {
            let (commands, summary) = read(&file[..len], &expectation());
            let summary = summary.unwrap();
            let whole = positions.iter().filter(|position| **position <= len).count() - 1;
            assert_eq!(commands.len(), whole, "cut at {len}");
            let expected = if positions.contains(&len) {
                Tail::Clean
            } else {
                Tail::Torn { position: positions[whole] as u64, len: (len - positions[whole]) as u64 }
            };
            assert_eq!(summary.tail, expected, "cut at {len}");
        }
    }

    #[test]
    fn every_flipped_bit_is_seen_and_only_the_last_batch_may_be_cut() {
        let (file, positions) = segment(&["SET a 1", "SET b 2", "SET c 3"]);
        for bit in 0..file.len() * 8 {
            let mut damaged = file.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let (_, result) = read(&damaged, &expectation());
            let at = bit / 8;
            if at >= positions[2] {
                // The first byte of a frame turned into `*` would be a foreign command, and is none.
                let torn = matches!(&result, Ok(summary) if matches!(summary.tail, Tail::Torn { .. }));
                // A frame that is shorter by its line is followed by commands that are not its own.
                let is_refused = matches!(
                    result,
                    Err(ReadSegmentError::Format { .. } | ReadSegmentError::Overwritten { .. })
                );
                assert!(torn || is_refused, "bit {bit}: {result:?}");
            } else {
                assert!(result.is_err(), "bit {bit}: {result:?}");
            }
        }
    }

    #[test]
    fn damage_is_reported_with_position_and_lost_offsets() {
        let (mut file, positions) = segment(&["SET a 1", "SET b 2", "SET c 3"]);
        file[positions[1] + 50] ^= 1;
        let (commands, result) = read(&file, &expectation());
        assert_eq!(commands, ["SET a 1"]);
        let Err(ReadSegmentError::Damaged { position, next_position, lost_from, lost_to }) = result else {
            panic!("{result:?}");
        };
        assert_eq!((position, next_position), (positions[1] as u64, positions[2] as u64));
        assert_eq!(lost_to - lost_from, command("SET b 2").len() as u64);
    }

    #[test]
    fn a_frame_inside_a_value_is_no_valid_frame() {
        let (inner, positions) = segment(&["SET x 1"]);
        let forged = String::from_utf8(inner[positions[0]..].to_vec()).unwrap();
        let header =
            SegmentHeader { store_id: STORE.into(), epoch: 1, seq: 1, offset: 100, started_ms: 5, seed: 1 };
        let (mut file, prev) = header.encode();
        let start = file.len();
        let body = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n{forged}\r\n", forged.len()).into_bytes();
        FrameHeader::for_body(header.seed, prev, 100, 7, &body).encode_into(&mut file);
        file.extend_from_slice(&body);
        let (_, result) = read(&file[..file.len() - 1], &expectation());
        assert!(matches!(result.unwrap().tail, Tail::Torn { position, .. } if position == start as u64));
    }

    #[test]
    fn zeros_behind_the_last_frame_are_a_torn_tail() {
        let (mut file, _) = segment(&["SET a 1"]);
        let len = file.len();
        file.resize(len + 10_000, 0);
        let (_, result) = read(&file, &expectation());
        assert_eq!(result.unwrap().tail, Tail::Torn { position: len as u64, len: 10_000 });
    }

    #[test]
    fn commands_of_an_upstream_server_behind_our_frames_are_read() {
        let (mut file, _) = segment(&["SET a 1"]);
        file.extend_from_slice(b"#TS:1700000000\r\n");
        file.extend(command("SET b 2"));
        let whole = file.len();
        let (commands, result) = read(&file, &expectation());
        assert_eq!(commands, ["SET a 1", "SET b 2"]);
        let summary = result.unwrap();
        assert_eq!((summary.foreign_commands, summary.last_crc, summary.tail), (1, None, Tail::Clean));
        let foreign_len = command("SET b 2").len() as u64;
        assert_eq!(summary.own_end_offset, summary.end_offset - foreign_len);
        file.extend(command("MULTI"));
        file.extend(command("SET c 3"));
        let (_, result) = read(&file, &expectation());
        assert_eq!(
            result.unwrap().tail,
            Tail::Torn { position: whole as u64, len: (file.len() - whole) as u64 }
        );
    }

    /// A segment whose last frame holds these commands, and the positions of its line and of its body.
    fn last_frame(commands: &[&str]) -> (Vec<u8>, usize, usize) {
        let (mut file, _) = segment(&["SET a 1"]);
        let last_crc = read(&file, &expectation()).1.unwrap().last_crc.unwrap();
        let line_at = file.len();
        let body: Vec<u8> = commands.iter().flat_map(|words| command(words)).collect();
        FrameHeader::for_body(0xdead, last_crc, 100 + command("SET a 1").len() as u64, 7, &body)
            .encode_into(&mut file);
        let body_at = file.len();
        file.extend_from_slice(&body);
        assert_eq!(read(&file, &expectation()).1.unwrap().tail, Tail::Clean);
        (file, line_at, body_at)
    }

    #[test]
    fn commands_that_follow_a_torn_frame_and_are_not_its_own_are_no_torn_tail() {
        let (whole, line_at, body_at) = last_frame(&["SET b 2", "SET c 3"]);
        let first_len = command("SET b 2").len();
        let more: Vec<u8> =
            ["SELECT 0", "SET d 4", "SET e 5"].iter().flat_map(|words| command(words)).collect();
        let check = |kept: usize, commands_at: usize| {
            let mut file = whole[..kept].to_vec();
            file.extend_from_slice(&more);
            let (commands, result) = read(&file, &expectation());
            assert_eq!(commands, ["SET a 1"], "cut at {kept}");
            let Err(ReadSegmentError::Overwritten { position, commands_at: found }) = result else {
                panic!("cut at {kept}: {result:?}");
            };
            assert_eq!((position, found), (line_at as u64, commands_at as u64), "cut at {kept}");
            // The remedy of the message: what the other server has is all there.
            let mut mended = file[..line_at].to_vec();
            mended.extend_from_slice(&file[commands_at..]);
            let (commands, result) = read(&mended, &expectation());
            assert!(result.is_ok() && commands.ends_with(&["SET d 4".to_owned(), "SET e 5".to_owned()]));
        };
        // Redis skips a line that is not whole, and appends to it; it cuts a command that is not whole.
        (line_at + 1..body_at).for_each(|kept| check(kept, kept));
        check(body_at, body_at);
        check(body_at + first_len, body_at);
        // A time does not hide them.
        let mut file = whole[..body_at].to_vec();
        file.extend_from_slice(b"#TS:1700000000\r\n");
        file.extend_from_slice(&more);
        let (_, result) = read(&file, &expectation());
        assert!(matches!(result, Err(ReadSegmentError::Overwritten { .. })), "{result:?}");
    }

    #[test]
    fn whole_commands_in_a_torn_tail_are_noted() {
        let (whole, line_at, body_at) = last_frame(&["SET b 2", "SET c 3"]);
        let first_len = command("SET b 2").len();
        for len in line_at..whole.len() {
            let (commands, result) = read(&whole[..len], &expectation());
            let summary = result.unwrap();
            assert_eq!(commands, ["SET a 1"]);
            assert_eq!(summary.tail_holds_commands, len >= body_at + first_len, "cut at {len}");
        }
        // They may be another server's, as long as they are no more than the frame had.
        let mut file = whole[..body_at].to_vec();
        file.extend(command("SET d 4"));
        assert!(read(&file, &expectation()).1.unwrap().tail_holds_commands);
        // Pages that did not reach the disk are nobody's commands.
        let mut file = whole[..body_at + 3].to_vec();
        file.resize(whole.len() + 5_000, 0);
        assert!(!read(&file, &expectation()).1.unwrap().tail_holds_commands);
        // A line that is damaged does not say how much is its own.
        let mut file = whole;
        file[line_at + 6] = b'x';
        let summary = read(&file, &expectation()).1.unwrap();
        assert!(summary.tail_holds_commands && matches!(summary.tail, Tail::Torn { .. }));
    }

    #[test]
    fn reading_stops_at_exactly_the_wanted_offset() {
        let (file, positions) = segment(&["SET a 1", "SET b 2", "SET c 3"]);
        let len = command("SET a 1").len() as u64;
        let stop = |stop_at| read(&file, &Expectation { stop_at: Some(stop_at), ..expectation() });
        let (commands, result) = stop(100 + 2 * len);
        assert_eq!(commands, ["SET a 1", "SET b 2"]);
        let summary = result.unwrap();
        assert_eq!(summary.tail, Tail::Stopped { position: positions[2] as u64 });
        let (_, result) = stop(101);
        assert!(matches!(result, Err(ReadSegmentError::NoBoundary { wanted: 101, before: 100 })));
        let (_, result) = stop(100 + 3 * len);
        assert_eq!(result.unwrap().tail, Tail::Clean);
    }

    #[test]
    fn segments_that_are_not_the_expected_one_are_refused() {
        let (file, _) = segment(&["SET a 1"]);
        let check = |expectation: Expectation| {
            let (commands, result) = read(&file, &expectation);
            assert!(commands.is_empty());
            assert!(matches!(result, Err(ReadSegmentError::OtherSegment { .. })), "{result:?}");
        };
        check(Expectation { seq: 2, ..expectation() });
        let (_, result) = read(&file, &Expectation { offset: Some(99), ..expectation() });
        assert!(matches!(result, Err(ReadSegmentError::Offset { found: 100, expected: 99 })), "{result:?}");
        check(Expectation { store_id: Some("other".into()), ..expectation() });
        let (_, result) = read(&command("SET a 1"), &expectation());
        assert!(matches!(result, Err(ReadSegmentError::Header)));
        let (_, result) = read(b"", &expectation());
        assert!(matches!(result, Err(ReadSegmentError::Header)));
    }

    #[test]
    fn plain_upstream_segments_are_read() {
        let foreign = Expectation { ours: false, store_id: None, ..expectation() };
        let mut file = command("SELECT 0");
        file.extend(command("SET a 1"));
        let (commands, result) = read(&file, &foreign);
        assert_eq!(commands.len(), 2);
        assert_eq!(result.unwrap().end_offset, 100 + file.len() as u64);
        let (_, result) = read(b"", &foreign);
        assert_eq!(result.unwrap().tail, Tail::Clean);
        let (_, result) = read(&file[..file.len() - 3], &foreign);
        assert!(matches!(result.unwrap().tail, Tail::Torn { .. }));
        let (_, result) = read(b"hello\r\n", &foreign);
        assert!(matches!(result, Err(ReadSegmentError::Format { position: 0, .. })));
    }
}
