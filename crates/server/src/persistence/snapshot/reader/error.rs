//! Why an RDB is not read.

use std::borrow::Cow;
use std::io;

use crate::persistence::snapshot::format::{VERSION_MAX, VERSION_VALKEY};

/// Why a visitor does not want to go on.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why an RDB was not read. Entries before the place of the error have been visited.
#[derive(Debug, thiserror::Error)]
pub enum ReadRdbError {
    /// The source failed.
    #[error("failed to read the snapshot at byte {offset}")]
    Read {
        /// Bytes read before.
        offset: u64,
        /// The cause.
        source: io::Error,
    },
    /// The file does not begin as an RDB does.
    #[error("not an RDB: the file begins with {found:?} instead of \"REDIS\" and four digits")]
    NotRdb {
        /// The first bytes, at most nine, as text.
        found: String,
    },
    /// The file is newer than this program, or has no version at all.
    #[error(
        "RDB version {version} is not supported (1 to {VERSION_MAX} are, and {VERSION_VALKEY} of Valkey); load the file with \
         the program that wrote it and copy the keys over the network"
    )]
    UnsupportedVersion {
        /// The version that the header names.
        version: u32,
    },
    /// The file ends too early.
    #[error(
        "the snapshot ends at byte {offset}, inside {expected}; the file is cut short, use another copy of it"
    )]
    UnexpectedEnd {
        /// Length of the file.
        offset: u64,
        /// What was being read.
        expected: &'static str,
    },
    /// The value of a key is damaged.
    #[error(
        "key {key} in database {db} is damaged, in its value at byte {offset}: {what}; use another copy of the file"
    )]
    DamagedValue {
        /// The key, quoted and escaped.
        key: String,
        /// Its database.
        db: u32,
        /// Where its value begins.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// A key has a type that does not exist here.
    #[error(
        "key {key} in database {db} at byte {offset} is a {type_name}, which is not supported; delete or convert \
         such keys in Redis and save again"
    )]
    UnsupportedType {
        /// What kind of value it is.
        type_name: Cow<'static, str>,
        /// The key, quoted and escaped.
        key: String,
        /// Its database.
        db: u32,
        /// Where its type byte stands.
        offset: u64,
    },
    /// The file holds something besides keys that would be lost.
    #[error("the snapshot holds {what} at byte {offset}, which is not supported; {remedy}, and save again")]
    UnsupportedItem {
        /// What it is.
        what: Cow<'static, str>,
        /// Where its opcode stands.
        offset: u64,
        /// What to do in the program that wrote the file.
        remedy: &'static str,
    },
    /// A byte that is neither an opcode nor a type.
    #[error(
        "byte {offset} of the snapshot is {byte:#04x}, which is no known type or opcode; the file is damaged or newer"
    )]
    UnknownOpcode {
        /// The byte.
        byte: u8,
        /// Where it stands.
        offset: u64,
    },
    /// An item cannot be what it says.
    #[error("the snapshot is damaged at byte {offset}: {what}")]
    Malformed {
        /// Where the item begins.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// There is no memory for what a compressed string says of its length.
    #[error(
        "there is no memory for the string at byte {offset} of the snapshot, which says that it has {len} bytes; give the \
         server more memory, or, if there is no such string, use another copy of the file"
    )]
    OutOfMemory {
        /// Where the string begins.
        offset: u64,
        /// Its length, as the file says.
        len: u64,
    },
    /// The bytes do not fit the checksum.
    #[error(
        "the checksum of the snapshot is wrong (CRC error: the file says {expected:016x}, its {bytes} bytes give \
         {found:016x}); the file is damaged, use another copy of it"
    )]
    ChecksumMismatch {
        /// The checksum in the file.
        expected: u64,
        /// The checksum of the bytes.
        found: u64,
        /// How many bytes it covers.
        bytes: u64,
    },
    /// Something follows the end.
    #[error("the snapshot ends at byte {offset}, but the file goes on; it is not a snapshot alone")]
    TrailingBytes {
        /// Where the RDB ends.
        offset: u64,
    },
    /// The visitor ended the reading.
    #[error("stopped reading the snapshot at byte {offset}")]
    Refused {
        /// Bytes read so far.
        offset: u64,
        /// The visitor's reason.
        source: BoxError,
    },
}
