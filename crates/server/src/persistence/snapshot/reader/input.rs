//! A buffered source that knows its offset and the checksum of what was taken from it.

use std::fmt;
use std::io::{self, Read};

use crc::{Digest, Table};

use super::error::ReadRdbError;
use crate::persistence::snapshot::format::CRC64;

/// Bytes asked of the source at once, and the most that is reserved ahead of the bytes that have arrived.
const BUFFER_LEN: usize = 256 * 1024;

pub(super) struct Input<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that hold data.
    filled: usize,
    /// Bytes of `buffer` that were consumed; never above `filled`.
    position: usize,
    /// Offset of `buffer[0]` in the source.
    base: u64,
    digest: Digest<'static, u64, Table<16>>,
    /// Bytes of `buffer` that `digest` has seen; never above `position`.
    digested: usize,
}

impl<R> fmt::Debug for Input<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("offset", &self.offset()).finish_non_exhaustive()
    }
}

impl<R> Input<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: vec![0; BUFFER_LEN],
            filled: 0,
            position: 0,
            base: 0,
            digest: CRC64.digest(),
            digested: 0,
        }
    }

    /// Bytes consumed.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.position as u64
    }

    /// Bytes taken from the source, those read ahead included.
    pub(super) fn taken(&self) -> u64 {
        self.base + self.filled as u64
    }

    /// Checksum of the bytes consumed.
    pub(super) fn checksum(&mut self) -> u64 {
        self.digest.update(&self.buffer[self.digested..self.position]);
        self.digested = self.position;
        self.digest.clone().finalize()
    }
}

impl<R: Read> Input<R> {
    /// Appends the next `len` bytes to `out`; false if the source ends before (`out` has then what there was).
    pub(super) fn read_up_to(&mut self, len: u64, out: &mut Vec<u8>) -> Result<bool, ReadRdbError> {
        let mut left = len;
        while left > 0 {
            if self.position == self.filled && !self.fill()? {
                return Ok(false);
            }
            let ready = &self.buffer[self.position..self.filled];
            let part = &ready[..usize::try_from(left).map_or(ready.len(), |left| left.min(ready.len()))];
            if out.is_empty() {
                // A string that is here as a whole gets exactly its size.
                out.reserve_exact(part.len());
            }
            out.extend_from_slice(part);
            self.position += part.len();
            left -= part.len() as u64;
        }
        Ok(true)
    }

    /// The next `N` bytes, or `None` if the source ends before.
    pub(super) fn array<const N: usize>(&mut self) -> Result<Option<[u8; N]>, ReadRdbError> {
        if let Some(ready) = self.buffer[self.position..self.filled].first_chunk() {
            self.position += N;
            return Ok(Some(*ready));
        }
        let mut bytes = [0; N];
        for byte in &mut bytes {
            if self.position == self.filled && !self.fill()? {
                return Ok(None);
            }
            *byte = self.buffer[self.position];
            self.position += 1;
        }
        Ok(Some(bytes))
    }

    /// True if nothing follows what was consumed.
    pub(super) fn at_end(&mut self) -> Result<bool, ReadRdbError> {
        Ok(self.position == self.filled && !self.fill()?)
    }

    /// Replaces the consumed buffer by the next bytes of the source; false at its end.
    fn fill(&mut self) -> Result<bool, ReadRdbError> {
        self.checksum();
        self.base += self.filled as u64;
        (self.filled, self.position, self.digested) = (0, 0, 0);
        self.filled = loop {
            match self.reader.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ReadRdbError::Read { offset: self.base, source }),
                Ok(read) => break read,
            }
        };
        Ok(self.filled > 0)
    }
}
