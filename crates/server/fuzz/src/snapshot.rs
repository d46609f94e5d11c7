//! RDB files, from the first byte to the keys in an engine.
//!
//! Checked: the outcome does not depend on how much the source gives at once; what is loaded is bounded by the length of
//! the file (LZF makes at most 88 bytes of one).

use std::io::{self, Read};

use holdfast_server::engine::value::Entry;
use holdfast_server::engine::{Engine, EngineOptions, HashSeed, Limits};
use holdfast_server::persistence::snapshot::{BoxError, RdbVisitor, read_rdb};

use crate::Target;

/// See the module.
pub const TARGET: Target = Target {
    name: "snapshot",
    run,
    len_max: 4096,
    words: &[
        "REDIS0010",
        "REDIS0003",
        "REDIS0012",
        "\u{0}\u{1}a\u{1}b",
        "redis-ver",
        "repl-stream-db",
        "\u{1}\u{40}",
        "aof-base",
    ],
};

/// How much longer than its file a value may be.
const EXPANSION_MAX: u64 = 100;

fn run(data: &[u8]) {
    let whole = read(data, data.len().max(1));
    for piece in [1, 7] {
        assert_eq!(read(data, piece), whole, "in pieces of {piece}");
    }
}

/// What was seen of a file: fields and hints in order, the digest of the data, and the summary or the error.
fn read(data: &[u8], piece_len: usize) -> (Vec<String>, [u8; 20], String) {
    let engine =
        Engine::new(EngineOptions { databases: 16, limits: Limits::default(), seed: HashSeed([1, 2]) });
    let mut target = Loading { engine, seen: Vec::new() };
    let result = read_rdb(Pieces { rest: data, piece_len }, &mut target);
    if let Ok(summary) = &result {
        assert_eq!(summary.bytes, data.len() as u64);
        assert_eq!(summary.keys, target.engine.len() as u64);
    }
    let held = target.engine.used_memory();
    assert!(held <= data.len() as u64 * EXPANSION_MAX + (1 << 20), "{held} bytes of {}", data.len());
    let outcome = match result {
        Ok(summary) => format!("{summary:?}"),
        // How far the source was read when the visitor objected depends on the pieces.
        Err(error) => error.to_string().split(" at byte ").next().unwrap_or_default().to_owned(),
    };
    (target.seen, target.engine.digest(0), outcome)
}

struct Loading {
    engine: Engine,
    seen: Vec<String>,
}

impl RdbVisitor for Loading {
    fn aux(&mut self, name: &str, value: &str) -> Result<(), BoxError> {
        self.seen.push(format!("{name:?} {value:?}"));
        Ok(())
    }

    fn size_hint(&mut self, db: u32, keys: u64, expiring: u64) -> Result<(), BoxError> {
        self.seen.push(format!("{db} {keys} {expiring}"));
        Ok(())
    }

    fn entry(&mut self, entry: Entry) -> Result<(), BoxError> {
        Ok(self.engine.load(entry, 0)?)
    }
}

struct Pieces<'a> {
    rest: &'a [u8],
    piece_len: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(self.piece_len).min(self.rest.len());
        let (piece, rest) = self.rest.split_at(len);
        buffer[..len].copy_from_slice(piece);
        self.rest = rest;
        Ok(len)
    }
}
