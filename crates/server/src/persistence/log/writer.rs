//! Appends batches to the open segment. One owner; knows nothing of strategies, only of bytes and of what is durable.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::{FrameHeader, SegmentHeader};
use crate::storage::{FileSync, SharedSync, Storage, StorageFile};

/// Why an append failed. The segment's end is then unknown, and the writer refuses everything from then on.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The write failed; a part of the batch may be in the file.
    #[error("failed to append {len} bytes to log segment {path:?} at byte {position}")]
    Append {
        /// The segment.
        path: PathBuf,
        /// Bytes of the frame.
        len: usize,
        /// Length of the file before.
        position: u64,
        /// What the file system said.
        source: io::Error,
    },
    /// The sync failed; what was not durable before may never be.
    #[error("failed to sync log segment {path:?}; bytes after stream offset {durable_offset} may be lost")]
    Sync {
        /// The segment.
        path: PathBuf,
        /// Everything up to here is durable.
        durable_offset: u64,
        /// What the file system said.
        source: io::Error,
    },
    /// An earlier write or sync failed.
    #[error("log segment {path:?} is not written any more since a write or sync failed")]
    Poisoned {
        /// The segment.
        path: PathBuf,
    },
}

/// Where a segment ends, so that a later process goes on behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentEnd {
    /// Sequence number in the manifest.
    pub(crate) seq: u64,
    /// It has our lines: a header, and a frame for each batch.
    pub(crate) annotated: bool,
    /// Seed of its checksums.
    pub(crate) seed: u32,
    /// CRC of its last line, for the chain.
    pub(crate) last_crc: u32,
    /// Stream offset after its last command.
    pub(crate) offset: u64,
}

/// The open segment.
pub(crate) struct LogWriter {
    path: PathBuf,
    file: Box<dyn StorageFile>,
    /// Shared with whoever syncs in the background.
    syncer: Arc<SharedSync>,
    end: SegmentEnd,
    durable_offset: u64,
    poisoned: bool,
    scratch: Vec<u8>,
}

impl LogWriter {
    /// Creates a segment and writes its header, if it is to have our lines. Neither header nor name is synced: the caller does
    /// both before the manifest names the file.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) fn create(
        storage: &dyn Storage,
        path: &Path,
        header: &SegmentHeader,
        annotated: bool,
    ) -> io::Result<Self> {
        let mut file = storage.create(path)?;
        let (line, crc) = header.encode();
        if annotated {
            file.append(&line)?;
        }
        Ok(Self {
            path: path.to_owned(),
            syncer: Arc::new(SharedSync::new(file.syncer())),
            file,
            end: SegmentEnd {
                seq: header.seq,
                annotated,
                seed: header.seed,
                last_crc: crc,
                offset: header.offset,
            },
            durable_offset: header.offset,
            poisoned: false,
            scratch: Vec::new(),
        })
    }

    /// Opens a segment that recovery has read to its end (and cut, if its tail was torn). What it holds may still be only
    /// in the cache of the process that died: the caller syncs it before the writer's offset is claimed.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) fn resume(storage: &dyn Storage, path: &Path, end: SegmentEnd) -> io::Result<Self> {
        let file = storage.open_append(path)?;
        let syncer = Arc::new(SharedSync::new(file.syncer()));
        let durable_offset = end.offset;
        let path = path.to_owned();
        Ok(Self { path, file, syncer, end, durable_offset, poisoned: false, scratch: Vec::new() })
    }

    /// Appends one batch. When this returns, the bytes are with the kernel.
    ///
    /// # Errors
    /// [`AppendError`]; the writer is poisoned then.
    pub(crate) fn append(&mut self, body: &[u8], time_ms: u64) -> Result<(), AppendError> {
        self.refuse_when_poisoned()?;
        let position = self.file.len();
        let bytes = if self.end.annotated {
            let end = &mut self.end;
            let header = FrameHeader::for_body(end.seed, end.last_crc, end.offset, time_ms, body);
            self.scratch.clear();
            header.encode_into(&mut self.scratch);
            self.scratch.extend_from_slice(body);
            end.last_crc = header.crc;
            &self.scratch
        } else {
            body
        };
        if let Err(source) = self.file.append(bytes) {
            self.poisoned = true;
            let len = bytes.len();
            return Err(AppendError::Append { path: self.path.clone(), len, position, source });
        }
        if self.scratch.capacity() > SCRATCH_LEN_KEPT {
            self.scratch = Vec::new();
        }
        self.end.offset += body.len() as u64;
        Ok(())
    }

    /// Syncs everything appended so far and returns when it is durable. Waits for a sync that another thread runs.
    ///
    /// # Errors
    /// [`AppendError`], also when the sync of another thread has failed; the writer is poisoned then: a second sync of the same
    /// file proves nothing.
    pub(crate) fn sync(&mut self) -> Result<(), AppendError> {
        self.refuse_when_poisoned()?;
        let offset = self.end.offset;
        let result = self.syncer.sync();
        self.synced(offset, result)
    }

    /// Takes the result of a sync that another thread made of [`Self::syncer`] when the segment ended at `offset`.
    ///
    /// # Errors
    /// [`AppendError`] when the sync failed; the writer is poisoned then.
    pub(crate) fn synced(&mut self, offset: u64, result: io::Result<()>) -> Result<(), AppendError> {
        match result {
            Ok(()) => {
                self.durable_offset = self.durable_offset.max(offset);
                Ok(())
            }
            Err(source) => {
                self.poisoned = true;
                Err(AppendError::Sync {
                    path: self.path.clone(),
                    durable_offset: self.durable_offset,
                    source,
                })
            }
        }
    }

    fn refuse_when_poisoned(&self) -> Result<(), AppendError> {
        if self.poisoned { Err(AppendError::Poisoned { path: self.path.clone() }) } else { Ok(()) }
    }

    /// Refuses everything from now on: what a restart would make of the segment is unknown.
    pub(crate) fn poison(&mut self) {
        self.poisoned = true;
    }

    /// The handle with which another thread syncs the segment. A sync of it that fails fails every other of the segment.
    #[must_use]
    pub(crate) fn syncer(&self) -> Arc<dyn FileSync> {
        Arc::clone(&self.syncer) as Arc<dyn FileSync>
    }

    /// Stream offset after the last appended byte.
    #[must_use]
    pub(crate) fn offset(&self) -> u64 {
        self.end.offset
    }

    /// Stream offset up to which everything is durable.
    #[must_use]
    pub(crate) fn durable_offset(&self) -> u64 {
        self.durable_offset
    }

    /// Length of the segment's file in bytes.
    #[must_use]
    pub(crate) fn file_len(&self) -> u64 {
        self.file.len()
    }

    /// Where the segment ends now.
    #[must_use]
    pub(crate) fn end(&self) -> &SegmentEnd {
        &self.end
    }
}

/// Largest scratch buffer that is kept between batches, in bytes; a larger one was needed by one large value.
const SCRATCH_LEN_KEPT: usize = 1 << 20;
