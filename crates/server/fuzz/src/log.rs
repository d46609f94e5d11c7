//! Segments of the log, from the first byte to the commands applied to an engine.
//!
//! Checked: what is cut off as a torn tail leaves a segment that is whole and has the same commands; positions lie within
//! the file. Frames need checksums that no mutation finds, so one form of input is put together here: bodies of any bytes
//! in a well-formed segment, cut at any byte.

use std::io::Cursor;

use holdfast_server::command::Replayer;
use holdfast_server::engine::{Engine, EngineOptions, HashSeed, Limits};
use holdfast_server::persistence::log::reader::{
    ApplyError, Expectation, LogVisitor, SegmentSummary, Tail, read_segment,
};
use holdfast_server::persistence::log::record::{FrameHeader, SegmentHeader};
use holdfast_server::protocol::{Request, parse_i64};

use crate::Target;

/// See the module.
pub const TARGET: Target = Target {
    name: "log",
    run,
    len_max: 4096,
    words: &[
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n",
        "*1\r\n$5\r\nMULTI\r\n",
        "*1\r\n$4\r\nEXEC\r\n",
        "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n",
        "#TS:1700000000\r\n",
        "#HS1 ",
        "#HF1 ",
        "$0\r\n\r\n",
        "*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n",
        "*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n$4\r\nPXAT\r\n$13\r\n1700000000000\r\n",
    ],
};

const STORE: &str = "6f1c2b7e-8a55-4d0e-9d5e-0c8f4ad2b611";
/// Larger numbers in a log may ask for as much memory; only a damaged upstream log has them.
const NUMBER_MAX: i64 = 1 << 20;

/// The first byte chooses the form, the next eight are the offset at which the segment begins.
fn run(data: &[u8]) {
    let Some((&[flags, ref offset @ ..], rest)) = data.split_first_chunk::<9>() else { return };
    let offset = u64::from_le_bytes(*offset);
    let file = if flags & 1 == 0 { rest.to_vec() } else { assemble(offset, rest, flags >> 4) };
    let expectation = Expectation {
        offset: (flags & 2 != 0).then_some(offset),
        store_id: (flags & 4 != 0).then(|| STORE.to_owned()),
        seq: 1,
        ours: flags & 8 != 0,
        stop_at: None,
    };
    let Ok((commands, summary)) = read(&file, &expectation) else { return };
    match summary.tail {
        Tail::Clean => {}
        Tail::Torn { position, len } => {
            assert_eq!(position + len, file.len() as u64, "a torn tail reaches to the end");
            let kept = usize::try_from(position).expect("a position in memory");
            let (again, clean) = read(&file[..kept], &expectation).expect("what is kept is whole");
            // A transaction that never ended is applied by no replay, but visited.
            assert!(commands.starts_with(&again), "{again:?} of {commands:?}");
            assert_eq!((clean.tail, clean.end_offset), (Tail::Clean, summary.end_offset));
        }
        Tail::Stopped { .. } => panic!("nothing was to stop the reader"),
    }
}

/// A segment with a frame for each part of `bodies`, which zero bytes separate; `cut` bytes of 16 ths are cut off.
fn assemble(offset: u64, bodies: &[u8], cut: u8) -> Vec<u8> {
    let header =
        SegmentHeader { store_id: STORE.to_owned(), epoch: 1, seq: 1, offset, started_ms: 5, seed: 0xdead };
    let (mut file, mut prev) = header.encode();
    let mut offset = offset;
    for body in bodies.split(|&byte| byte == 0) {
        let frame = FrameHeader::for_body(header.seed, prev, offset, 7, body);
        frame.encode_into(&mut file);
        file.extend_from_slice(body);
        prev = frame.crc;
        offset = offset.wrapping_add(body.len() as u64);
    }
    let kept = file.len() - file.len() / 16 * usize::from(cut & 7);
    file.truncate(kept);
    file
}

type Commands = Vec<Vec<Vec<u8>>>;

fn read(file: &[u8], expectation: &Expectation) -> Result<(Commands, SegmentSummary), String> {
    let mut engine =
        Engine::new(EngineOptions { databases: 16, limits: Limits::default(), seed: HashSeed([1, 2]) });
    let replayer = Replayer::begin(&mut engine);
    let mut target = Applying { engine, replayer, commands: Vec::new() };
    let result = read_segment(&mut Cursor::new(file.to_vec()), file.len() as u64, expectation, &mut target);
    target.replayer.end(&mut target.engine);
    match result {
        Ok(summary) => Ok((target.commands, summary)),
        Err(error) => Err(error.to_string()),
    }
}

struct Applying {
    engine: Engine,
    replayer: Replayer,
    commands: Commands,
}

impl LogVisitor for Applying {
    fn command(&mut self, request: &Request<'_>) -> Result<(), ApplyError> {
        let number = |arg: &[u8]| parse_i64(arg.strip_prefix(b"#").unwrap_or(arg));
        if request.args_from(1).filter_map(number).any(|it| it > NUMBER_MAX && it < 1 << 37) {
            return Err("the number may ask for much memory".into());
        }
        self.replayer.apply(&mut self.engine, request, 0)?;
        self.commands.push(request.args_from(0).map(<[u8]>::to_vec).collect());
        Ok(())
    }
}
