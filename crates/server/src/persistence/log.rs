//! The append-only log: framed segments in Redis's multi-part layout.
//!
//! ```text
//! segment = header frame*            one `*.incr.aof` file
//! frame   = "#HF1 …" line, then RESP commands: the effects of one turn of the executor
//! ```
//!
//! Redis 7 skips lines that begin with `#`, so what it reads is the plain stream of commands. Format: `docs/format.md`.

pub mod reader;
pub mod record;
pub(crate) mod segments;
mod tail;
pub(crate) mod writer;
