//! Reads an RDB, from our server, Redis or Valkey.
//!
//! Every byte may be damaged: nothing here panics on input, and memory is taken only as the bytes for it arrive, so a
//! length that is not true costs nothing. What is wrong is reported with the offset of the item that holds it.

mod error;
mod input;
mod value;

use std::borrow::Cow;
use std::fmt;
use std::io::Read;

pub use error::{BoxError, ReadRdbError};
pub(super) use value::check_failed;

use input::Input;

use super::RdbSummary;
use super::format::{
    Dialect, ENC_INT8, ENC_INT16, ENC_INT32, ENC_LZF, HEADER_LEN, LEN_32, LEN_64, MAGIC, MAGIC_VALKEY,
    OP_AUX, OP_EOF, OP_EXPIRE_MS, OP_EXPIRE_S, OP_FREQ, OP_FUNCTION_PRE_GA, OP_FUNCTION2, OP_IDLE,
    OP_MODULE_AUX, OP_RESIZE_DB, OP_SELECT_DB, OP_SLOT_IMPORT, OP_SLOT_INFO, TYPE_MODULE, TYPE_MODULE_2,
    VERSION_CHECKSUM, VERSION_MAX, VERSION_VALKEY, module_name, type_name,
};
use super::lzf::{self, DecodeError};
use crate::engine::value::{Entry, Value};
use crate::engine::{Access, Tools};
use crate::protocol::parse_i64;

/// What [`RdbReader::read`] tells of a file, in its order. An error ends the reading.
pub trait RdbVisitor {
    /// An auxiliary field; bytes that are not UTF-8 are replaced. [`super::SnapshotAux::set`] takes those that we know.
    /// # Errors
    /// Any reason not to read on.
    fn aux(&mut self, name: &str, value: &str) -> Result<(), BoxError> {
        let _ = (name, value);
        Ok(())
    }

    /// How many keys of `db` follow, and how many of them expire. Only a hint, and as damaged as anything else: reserve
    /// no memory by it without a bound.
    /// # Errors
    /// Any reason not to read on.
    fn size_hint(&mut self, db: u32, keys: u64, expiring: u64) -> Result<(), BoxError> {
        let _ = (db, keys, expiring);
        Ok(())
    }

    /// One key, also if its expiry has passed. A key may come twice in a damaged file.
    /// # Errors
    /// Any reason not to read on, such as a database that is not configured.
    fn entry(&mut self, entry: Entry) -> Result<(), BoxError>;

    /// What collections are made with.
    fn tools(&self) -> Tools {
        Tools::random()
    }

    /// A key whose collection has no element. Such a key cannot exist; servers have written some by mistake, and Redis
    /// leaves them out.
    fn empty_collection(&mut self, db: u32, key: &[u8]) {
        let _ = (db, key);
    }

    /// Called about every quarter of a megabyte with the number of bytes taken from the source.
    /// # Errors
    /// Any reason not to read on, such as a request to stop.
    fn progress(&mut self, bytes: u64) -> Result<(), BoxError> {
        let _ = bytes;
        Ok(())
    }
}

/// Reads a file that is an RDB and nothing else.
/// # Errors
/// [`ReadRdbError`]; among them [`ReadRdbError::TrailingBytes`].
pub fn read_rdb(reader: impl Read, visitor: &mut impl RdbVisitor) -> Result<RdbSummary, ReadRdbError> {
    let mut reader = RdbReader::new(reader);
    let summary = reader.read(visitor)?;
    if reader.input.at_end()? {
        Ok(summary)
    } else {
        Err(ReadRdbError::TrailingBytes { offset: summary.bytes })
    }
}

/// Reads a type byte and the value behind it, and nothing else; none for a collection without elements.
/// # Errors
/// [`ReadRdbError`].
pub(crate) fn read_value(bytes: &[u8], tools: Tools) -> Result<Option<Value>, ReadRdbError> {
    let mut input = Input::new(bytes);
    let dialect = Dialect::Redis;
    let mut reading =
        Reading { input: &mut input, visitor: &mut Nobody, tools, dialect, db: 0, keys: 0, reported: 0 };
    let type_byte = reading.byte("a type")?;
    if !Reading::<&[u8], Nobody>::is_value(type_byte) {
        return Err(ReadRdbError::UnknownOpcode { byte: type_byte, offset: 0 });
    }
    let value = reading.value(type_byte, b"")?;
    if input.at_end()? { Ok(value) } else { Err(ReadRdbError::TrailingBytes { offset: input.offset() }) }
}

/// Whoever reads a value alone has nobody to tell.
struct Nobody;

impl RdbVisitor for Nobody {
    fn entry(&mut self, _: Entry) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Reads one RDB from the start of a source that may go on behind it, as a log with an RDB preamble does.
pub(crate) struct RdbReader<R> {
    input: Input<R>,
}

impl<R> fmt::Debug for RdbReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RdbReader").field("input", &self.input).finish()
    }
}

impl<R: Read> RdbReader<R> {
    /// Reads from `reader`, which needs no buffer of its own.
    pub(crate) fn new(reader: R) -> Self {
        Self { input: Input::new(reader) }
    }

    /// Reads the RDB to its end. The summary's `bytes` is where the rest of the source begins.
    /// # Errors
    /// [`ReadRdbError`], all but [`ReadRdbError::TrailingBytes`].
    pub(crate) fn read(&mut self, visitor: &mut impl RdbVisitor) -> Result<RdbSummary, ReadRdbError> {
        let tools = visitor.tools();
        Reading {
            input: &mut self.input,
            visitor,
            tools,
            dialect: Dialect::Redis,
            db: 0,
            keys: 0,
            reported: 0,
        }
        .run()
    }
}

struct Reading<'a, R, V> {
    input: &'a mut Input<R>,
    visitor: &'a mut V,
    tools: Tools,
    dialect: Dialect,
    db: u32,
    keys: u64,
    /// Number of bytes that the visitor was told of last.
    reported: u64,
}

/// A string as it stands in the file.
enum RdbString {
    Int(i64),
    Bytes(Vec<u8>),
}

impl RdbString {
    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Int(number) => itoa::Buffer::new().format(number).as_bytes().to_vec(),
            Self::Bytes(bytes) => bytes,
        }
    }

    fn into_value(self) -> Value {
        match self {
            Self::Int(number) => Value::Int(number),
            Self::Bytes(bytes) => parse_i64(&bytes).map_or(Value::Bytes(bytes), Value::Int),
        }
    }
}

enum Length {
    Plain(u64),
    /// The first byte of a specially encoded string.
    Special(u8),
}

impl<R: Read, V: RdbVisitor> Reading<'_, R, V> {
    fn run(mut self) -> Result<RdbSummary, ReadRdbError> {
        let version = self.header()?;
        let mut expires_at_ms = None;
        let mut access = Access::default();
        loop {
            let offset = self.input.offset();
            let opcode = self.byte("an opcode")?;
            match opcode {
                _ if Self::is_value(opcode) => {
                    let key = self.string("a key")?.into_bytes().into_boxed_slice();
                    let (expires_at_ms, access) = (expires_at_ms.take(), std::mem::take(&mut access));
                    match self.value(opcode, &key)? {
                        Some(value) => {
                            let entry = Entry { db: self.db, key, value, expires_at_ms, access };
                            self.keys += 1;
                            self.visitor.entry(entry).map_err(|source| self.refused(source))?;
                        }
                        None => self.visitor.empty_collection(self.db, &key),
                    }
                }
                OP_EXPIRE_MS => expires_at_ms = Some(i64::from_le_bytes(self.array("an expiry")?)),
                OP_EXPIRE_S => {
                    expires_at_ms = Some(i64::from(i32::from_le_bytes(self.array("an expiry")?)) * 1_000);
                }
                OP_IDLE => {
                    let seconds = self.length("an idle time")?;
                    access.idle_seconds = Some(u32::try_from(seconds).unwrap_or(u32::MAX));
                }
                OP_FREQ => access.frequency = Some(self.byte("an access frequency")?),
                OP_AUX => self.aux_field()?,
                OP_SELECT_DB => self.db = self.database()?,
                OP_RESIZE_DB => {
                    let keys = self.length("a size hint")?;
                    let expiring = self.length("a size hint")?;
                    self.visitor.size_hint(self.db, keys, expiring).map_err(|source| self.refused(source))?;
                }
                OP_SLOT_INFO => {
                    for _ in 0..3 {
                        self.length("the size of a cluster slot")?;
                    }
                }
                OP_EOF => return self.finish(version),
                other => match self.other(other, offset)? {},
            }
            self.report()?;
        }
    }

    /// Tells the visitor how much was read, if that is news.
    fn report(&mut self) -> Result<(), ReadRdbError> {
        let bytes = self.input.taken();
        if bytes != self.reported {
            self.reported = bytes;
            self.visitor.progress(bytes).map_err(|source| self.refused(source))?;
        }
        Ok(())
    }

    fn header(&mut self) -> Result<u32, ReadRdbError> {
        let mut header = Vec::new();
        let complete = self.input.read_up_to(HEADER_LEN as u64, &mut header)?;
        let (dialect, digits) = match header.strip_prefix(MAGIC_VALKEY) {
            Some(digits) => (Dialect::Valkey, Some(digits)),
            None => (Dialect::Redis, header.strip_prefix(MAGIC)),
        };
        self.dialect = dialect;
        let known = match dialect {
            Dialect::Redis => 1..=VERSION_MAX,
            Dialect::Valkey => VERSION_VALKEY..=VERSION_VALKEY,
        };
        let version = digits.and_then(|digits| {
            digits.iter().try_fold(0_u32, |version, digit| {
                digit.is_ascii_digit().then(|| version * 10 + u32::from(digit - b'0'))
            })
        });
        match version {
            Some(version) if complete && known.contains(&version) => Ok(version),
            Some(version) if complete => Err(ReadRdbError::UnsupportedVersion { version }),
            None if !MAGIC.starts_with(&header) && !MAGIC_VALKEY.starts_with(&header) => {
                Err(ReadRdbError::NotRdb { found: String::from_utf8_lossy(&header).into_owned() })
            }
            _ => Err(self.unexpected_end("the header")),
        }
    }

    fn aux_field(&mut self) -> Result<(), ReadRdbError> {
        let name = self.string("the name of an auxiliary field")?.into_bytes();
        let value = self.string("the value of an auxiliary field")?.into_bytes();
        self.visitor
            .aux(&String::from_utf8_lossy(&name), &String::from_utf8_lossy(&value))
            .map_err(|source| self.refused(source))
    }

    fn database(&mut self) -> Result<u32, ReadRdbError> {
        let offset = self.input.offset();
        let db = self.length("a database number")?;
        u32::try_from(db)
            .map_err(|_| ReadRdbError::Malformed { offset, what: "a database number above 2^32" })
    }

    fn finish(&mut self, version: u32) -> Result<RdbSummary, ReadRdbError> {
        let bytes = self.input.offset();
        if version >= VERSION_CHECKSUM {
            let found = self.input.checksum();
            let expected = u64::from_le_bytes(self.array("the checksum")?);
            if expected != 0 && expected != found {
                return Err(ReadRdbError::ChecksumMismatch { expected, found, bytes });
            }
        }
        let summary = RdbSummary { bytes: self.input.offset(), keys: self.keys };
        self.visitor.progress(summary.bytes).map_err(|source| self.refused(source))?;
        Ok(summary)
    }

    /// Why an item that is not read is refused, by name.
    fn other(&mut self, opcode: u8, offset: u64) -> Result<std::convert::Infallible, ReadRdbError> {
        if let Some(type_name) = type_name(self.dialect, opcode) {
            let key = self.string("a key")?.into_bytes();
            let type_name = match opcode {
                TYPE_MODULE | TYPE_MODULE_2 => match self.length("the name of a module") {
                    Ok(id) => format!("value of the module type {:?}", module_name(id)).into(),
                    Err(_) => type_name.into(),
                },
                _ => type_name.into(),
            };
            let key = format!("\"{}\"", key.escape_ascii());
            return Err(ReadRdbError::UnsupportedType { type_name, key, db: self.db, offset });
        }
        let (what, remedy): (Cow<'static, str>, _) = match opcode {
            OP_FUNCTION2 | OP_FUNCTION_PRE_GA => {
                ("a library of functions".into(), "remove it with FUNCTION FLUSH")
            }
            OP_MODULE_AUX => {
                let what = match self.length("the name of a module") {
                    Ok(id) => format!("data of the module type {:?}", module_name(id)).into(),
                    Err(_) => "data of a module".into(),
                };
                (what, "unload the module")
            }
            OP_SLOT_IMPORT if self.dialect == Dialect::Valkey => {
                ("a slot migration that has not ended".into(), "finish or cancel it")
            }
            byte => return Err(ReadRdbError::UnknownOpcode { byte, offset }),
        };
        Err(ReadRdbError::UnsupportedItem { what, offset, remedy })
    }

    fn string(&mut self, expected: &'static str) -> Result<RdbString, ReadRdbError> {
        let offset = self.input.offset();
        let encoding = match self.length_or_special(expected)? {
            Length::Plain(len) => return self.bytes(len, expected).map(RdbString::Bytes),
            Length::Special(encoding) => encoding,
        };
        Ok(match encoding {
            ENC_INT8 => RdbString::Int(i8::from_le_bytes(self.array(expected)?).into()),
            ENC_INT16 => RdbString::Int(i16::from_le_bytes(self.array(expected)?).into()),
            ENC_INT32 => RdbString::Int(i32::from_le_bytes(self.array(expected)?).into()),
            ENC_LZF => {
                let compressed_len = self.length(expected)?;
                let len = self.length(expected)?;
                let compressed = self.bytes(compressed_len, expected)?;
                let plain_len = usize::try_from(len).unwrap_or(usize::MAX);
                RdbString::Bytes(lzf::decode(&compressed, plain_len).map_err(|error| match error {
                    DecodeError::Damaged => ReadRdbError::Malformed {
                        offset,
                        what: "a compressed string does not decompress to its length",
                    },
                    DecodeError::OutOfMemory => ReadRdbError::OutOfMemory { offset, len },
                })?)
            }
            _ => return Err(ReadRdbError::Malformed { offset, what: "an unknown encoding of a string" }),
        })
    }

    fn length(&mut self, expected: &'static str) -> Result<u64, ReadRdbError> {
        let offset = self.input.offset();
        match self.length_or_special(expected)? {
            Length::Plain(length) => Ok(length),
            Length::Special(_) => {
                Err(ReadRdbError::Malformed { offset, what: "an encoded string in the place of a length" })
            }
        }
    }

    fn length_or_special(&mut self, expected: &'static str) -> Result<Length, ReadRdbError> {
        let offset = self.input.offset();
        let first = self.byte(expected)?;
        Ok(match first {
            0x00..=0x3F => Length::Plain(first.into()),
            0x40..=0x7F => Length::Plain(u64::from(first & 0x3F) << 8 | u64::from(self.byte(expected)?)),
            LEN_32 => Length::Plain(u32::from_be_bytes(self.array(expected)?).into()),
            LEN_64 => Length::Plain(u64::from_be_bytes(self.array(expected)?)),
            0xC0..=0xFF => Length::Special(first),
            _ => return Err(ReadRdbError::Malformed { offset, what: "an unknown form of a length" }),
        })
    }

    fn bytes(&mut self, len: u64, expected: &'static str) -> Result<Vec<u8>, ReadRdbError> {
        let mut bytes = Vec::new();
        if self.input.read_up_to(len, &mut bytes)? { Ok(bytes) } else { Err(self.unexpected_end(expected)) }
    }

    fn array<const N: usize>(&mut self, expected: &'static str) -> Result<[u8; N], ReadRdbError> {
        match self.input.array()? {
            Some(bytes) => Ok(bytes),
            None => Err(self.unexpected_end(expected)),
        }
    }

    fn byte(&mut self, expected: &'static str) -> Result<u8, ReadRdbError> {
        self.array(expected).map(|[byte]| byte)
    }

    fn unexpected_end(&self, expected: &'static str) -> ReadRdbError {
        ReadRdbError::UnexpectedEnd { offset: self.input.taken(), expected }
    }

    fn refused(&self, source: BoxError) -> ReadRdbError {
        ReadRdbError::Refused { offset: self.input.offset(), source }
    }
}

#[cfg(test)]
mod tests;
