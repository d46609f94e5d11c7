//! What is behind the last good frame, when it is no good frame.
//!
//! Redis skips our lines, cuts a command off that is not whole, and appends. So a frame that was torn may be followed by
//! commands that Redis has acknowledged; then it is no torn tail.

use super::reader::{ReadSegmentError, Window};
use super::record::{FRAME_PREFIX, FrameHeader};
use crate::protocol::{DecodeLimits, Decoder};

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
/// [`ReadSegmentError::Read`].
pub(super) fn find_commands(
    window: &mut Window<'_>,
    last_crc: Option<u32>,
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
    let end = skip_commands(window)?;
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
fn skip_commands(window: &mut Window<'_>) -> Result<u64, ReadSegmentError> {
    let mut decoder = Decoder::new();
    let mut end = window.position();
    loop {
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
