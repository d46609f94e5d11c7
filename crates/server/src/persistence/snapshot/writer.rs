//! Writes an RDB of version 10.

mod value;

use value::type_byte;

use std::io::{self, Write};

use crc::{Digest, Table};

use super::format::{
    COMPRESSION_GAIN_MIN, CRC64, ENC_LZF, INT32_TEXT_LEN_MAX, MAGIC, OP_AUX, OP_EOF, OP_EXPIRE_MS, OP_FREQ,
    OP_IDLE, OP_RESIZE_DB, OP_SELECT_DB, UNCOMPRESSED_LEN_MAX, VERSION_WRITTEN, encode_int, encode_length,
};
use super::{RdbSummary, lzf};
use crate::engine::value::Entry;
use crate::engine::{Access, ChunkEntry, ValueRef};
use crate::protocol::parse_i64;

/// Bytes collected before they are handed on: large enough that a system call per write does not matter.
const BUFFER_LEN: usize = 64 * 1024;

/// Strings from this length on are compressed only if their front is worth it, in bytes.
const PROBED_LEN_MIN: usize = 64 * 1024;
/// Bytes of the front that are tried.
const PROBE_LEN: usize = 16 * 1024;

/// Whether a string shrinks, judged by its front if it is long: random or compressed bytes never do, and trying all of a
/// large one costs more than writing it.
fn is_worth_compressing(bytes: &[u8], encoder: &mut lzf::Encoder, scratch: &mut Vec<u8>) -> bool {
    bytes.len() < PROBED_LEN_MIN || encoder.encode(&bytes[..PROBE_LEN], PROBE_LEN - PROBE_LEN / 16, scratch)
}

/// How to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RdbOptions {
    /// Compress strings that become shorter (`rdbcompression`).
    pub compression: bool,
    /// End with a checksum instead of zeros (`rdbchecksum`).
    pub checksum: bool,
    /// Auxiliary fields in order; see [`super::SnapshotAux::fields`].
    pub aux: Vec<(String, String)>,
}

impl Default for RdbOptions {
    fn default() -> Self {
        Self { compression: true, checksum: true, aux: Vec::new() }
    }
}

/// Writes entries in the order in which they come. The file is complete only after [`RdbWriter::finish`].
pub struct RdbWriter<W: Write> {
    output: W,
    buffer: Vec<u8>,
    digest: Option<Digest<'static, u64, Table<16>>>,
    compressor: Option<(lzf::Encoder, Vec<u8>)>,
    /// Memory for the listpack of one packed hash, whose form in memory is another. Stays short, as packed values do.
    listpack: Vec<u8>,
    db: Option<u32>,
    /// Bytes already handed to `output`.
    written: u64,
    keys: u64,
}

impl<W: Write> std::fmt::Debug for RdbWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RdbWriter")
            .field("bytes", &self.bytes())
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

/// A type byte and the value behind it.
pub(crate) fn write_value(value: ValueRef<'_>) -> Vec<u8> {
    let mut writer = RdbWriter::bare(Vec::new(), true, false);
    writer.buffer.push(type_byte(value));
    let written = writer.value(value).and_then(|()| writer.flush());
    written.expect("memory takes every byte");
    writer.output
}

impl<W: Write> RdbWriter<W> {
    fn bare(output: W, compression: bool, checksum: bool) -> Self {
        Self {
            output,
            buffer: Vec::with_capacity(BUFFER_LEN * 2),
            digest: checksum.then(|| CRC64.digest()),
            compressor: compression.then(Default::default),
            listpack: Vec::new(),
            db: None,
            written: 0,
            keys: 0,
        }
    }

    /// Starts a file: header and auxiliary fields.
    /// # Errors
    /// What `output` returns.
    pub fn new(output: W, options: RdbOptions) -> io::Result<Self> {
        let RdbOptions { compression, checksum, aux } = options;
        let mut writer = Self::bare(output, compression, checksum);
        writer.buffer.extend_from_slice(MAGIC);
        writer.buffer.extend_from_slice(format!("{VERSION_WRITTEN:04}").as_bytes());
        for (name, value) in aux {
            writer.buffer.push(OP_AUX);
            writer.put_string(name.as_bytes())?;
            writer.put_string(value.as_bytes())?;
        }
        Ok(writer)
    }

    /// Tells the reader how many keys of `db` follow, and how many of them expire, so that it can size its tables.
    /// Only a hint: leaving it out, or giving other numbers, changes nothing but speed.
    /// # Errors
    /// What the output returns.
    pub fn size_hint(&mut self, db: u32, keys: u64, expiring: u64) -> io::Result<()> {
        self.select(db);
        self.buffer.push(OP_RESIZE_DB);
        encode_length(&mut self.buffer, keys);
        encode_length(&mut self.buffer, expiring);
        self.flush_if_full()
    }

    /// Writes one key. Entries of several databases may alternate.
    /// # Errors
    /// What the output returns; the file is then incomplete for good.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.saved_entry(ChunkEntry::from(entry))
    }

    /// Writes one key as a snapshot saved it.
    /// # Errors
    /// As [`RdbWriter::entry`].
    pub(crate) fn saved_entry(&mut self, entry: ChunkEntry<'_>) -> io::Result<()> {
        let ChunkEntry { db, key, value, expires_at_ms, access } = entry;
        self.select(db);
        if let Some(expires_at_ms) = expires_at_ms {
            self.buffer.push(OP_EXPIRE_MS);
            self.buffer.extend_from_slice(&expires_at_ms.to_le_bytes());
        }
        let Access { idle_seconds, frequency } = access;
        if let Some(seconds) = idle_seconds {
            self.buffer.push(OP_IDLE);
            encode_length(&mut self.buffer, seconds.into());
        }
        if let Some(frequency) = frequency {
            self.buffer.extend_from_slice(&[OP_FREQ, frequency]);
        }
        self.buffer.push(type_byte(value));
        self.put_string(key)?;
        self.value(value)?;
        self.keys += 1;
        self.flush_if_full()
    }

    /// Length of the file so far.
    #[must_use]
    pub(crate) fn bytes(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Ends the file and returns the output, which has been given every byte but has not been flushed or synced.
    /// # Errors
    /// What the output returns.
    pub fn finish(mut self) -> io::Result<(W, RdbSummary)> {
        self.buffer.push(OP_EOF);
        self.flush()?;
        let checksum = self.digest.take().map_or(0, Digest::<u64, Table<16>>::finalize);
        self.buffer.extend_from_slice(&checksum.to_le_bytes());
        self.flush()?;
        Ok((self.output, RdbSummary { bytes: self.written, keys: self.keys }))
    }

    fn select(&mut self, db: u32) {
        if self.db != Some(db) {
            self.db = Some(db);
            self.buffer.push(OP_SELECT_DB);
            encode_length(&mut self.buffer, u64::from(db));
        }
    }

    fn put_string(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() <= INT32_TEXT_LEN_MAX
            && let Some(number) = parse_i64(bytes)
            && encode_int(&mut self.buffer, number)
        {
            return Ok(());
        }
        if bytes.len() > UNCOMPRESSED_LEN_MAX
            && let Some((encoder, scratch)) = &mut self.compressor
            && is_worth_compressing(bytes, encoder, scratch)
            && encoder.encode(bytes, bytes.len() - COMPRESSION_GAIN_MIN, scratch)
        {
            self.buffer.push(ENC_LZF);
            encode_length(&mut self.buffer, scratch.len() as u64);
            encode_length(&mut self.buffer, bytes.len() as u64);
            self.buffer.extend_from_slice(scratch);
            // A huge string must not keep its size in both buffers for the rest of the file.
            scratch.shrink_to(BUFFER_LEN);
            return Ok(());
        }
        self.put_plain(bytes)
    }

    fn put_plain(&mut self, bytes: &[u8]) -> io::Result<()> {
        encode_length(&mut self.buffer, bytes.len() as u64);
        if bytes.len() < BUFFER_LEN {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.flush()?;
        self.hand_on(bytes)
    }

    fn flush_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() < BUFFER_LEN { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.hand_on(&buffer);
        buffer.clear();
        buffer.shrink_to(BUFFER_LEN * 2);
        self.buffer = buffer;
        result
    }

    fn hand_on(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(digest) = &mut self.digest {
            digest.update(bytes);
        }
        self.output.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}
