//! RDB files: the codec that writes base files, snapshots and backups, and reads them back.
//!
//! ```text
//!   Entry ──▶ RdbWriter ──▶ bytes ──▶ RdbReader ──▶ RdbVisitor (Entry, aux fields, size hints, progress)
//!                    └──── format, lzf: pure ────┘
//! ```
//!
//! Written is RDB version 10, which Redis 7.0 and everything later loads; read is every version up to
//! [`format::VERSION_MAX`] as long as it holds neither streams, modules nor functions. Nothing here opens, syncs or renames a file, and nothing
//! drops an expired key: whether that is right depends on what the file is used for.

pub(crate) mod aux;
pub(crate) mod dump;
pub(crate) mod format;
pub(crate) mod job;
pub(crate) mod lzf;
pub(crate) mod reader;
pub(crate) mod writer;

pub use aux::SnapshotAux;
pub(crate) use reader::RdbReader;
pub use reader::{BoxError, RdbVisitor, ReadRdbError, read_rdb};
pub use writer::{RdbOptions, RdbWriter};

/// Name of a snapshot that is not whole, in the data directory.
pub(crate) const TEMP_SNAPSHOT: &str = "temp-save.rdb";

/// What was written or read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RdbSummary {
    /// Length of the RDB in bytes, from its first byte to the last byte of its checksum.
    pub bytes: u64,
    /// Number of entries in all databases.
    pub keys: u64,
}
