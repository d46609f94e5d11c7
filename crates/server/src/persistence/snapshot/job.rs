//! Writes a snapshot in a thread of its own, from the entries that the executor hands over in chunks.
//!
//! The cut is the engine's business; this is the way from entries to a synced file. Memory is bounded: at most
//! [`CHUNKS_IN_FLIGHT`] chunks wait, and a full queue makes the executor pause its walk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use holdfast_contract::bucket::DatasetSummary;

use super::{RdbOptions, RdbWriter};
use crate::engine::value::Entry;
use crate::persistence::digest::Digester;
use crate::storage::{Storage, StorageFile};

/// Chunks between executor and writer.
pub const CHUNKS_IN_FLIGHT: usize = 8;
/// Bytes after which the file is synced and let go from the page cache, so that the end of a snapshot does not stall
/// the disk with all of it at once (Redis: `REDIS_AUTOSYNC_BYTES`, 4 MB).
const SYNC_INTERVAL_LEN: u64 = 32 << 20;

/// What to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPlan {
    /// The file that is written; emptied when it exists.
    pub temp_path: PathBuf,
    /// Where it is moved once it is synced; none: it stays where it is.
    pub final_path: Option<PathBuf>,
    /// How.
    pub rdb: RdbOptions,
    /// Whether to compute the digest of what is written.
    pub digest: bool,
}

/// A snapshot that has been written and synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenSnapshot {
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Keys in it.
    pub keys: u64,
    /// What it holds, when the plan asked for it.
    pub summary: Option<DatasetSummary>,
}

/// Why a snapshot was not written. The file under the final name, if any, is the one from before, unless moving failed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotJobError {
    /// The thread cannot be started.
    #[error("failed to start the snapshot thread")]
    Thread(#[source] io::Error),
    /// Writing failed.
    #[error("failed to write snapshot {path:?}")]
    Write {
        /// The temporary file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// Syncing failed.
    #[error("failed to sync snapshot {path:?}")]
    Sync {
        /// The temporary file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// It could not be moved in its place.
    #[error("failed to move the snapshot to {path:?}")]
    Rename {
        /// Its name.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The executor gave it up.
    #[error("the snapshot was cancelled")]
    Cancelled,
}

enum Message {
    Entries(Vec<Entry>),
    End,
}

/// A snapshot that is being written.
pub struct SnapshotJob {
    messages: SyncSender<Message>,
    thread: JoinHandle<()>,
    waiting: Option<Vec<Entry>>,
}

impl SnapshotJob {
    /// Starts the thread. `done` is called in it, exactly once.
    ///
    /// # Errors
    /// [`SnapshotJobError::Thread`].
    pub fn start(
        storage: Arc<dyn Storage>,
        plan: SnapshotPlan,
        done: impl FnOnce(Result<WrittenSnapshot, SnapshotJobError>) + Send + 'static,
    ) -> Result<Self, SnapshotJobError> {
        let (messages, received) = sync_channel(CHUNKS_IN_FLIGHT);
        let thread = std::thread::Builder::new()
            .name("snapshot".to_owned())
            .spawn(move || {
                let result = write(&*storage, &plan, &received);
                if result.is_err() {
                    // What is left is waste that the next start would remove; a failure to do so now changes nothing.
                    let _ = storage.remove(&plan.temp_path);
                }
                done(result);
            })
            .map_err(SnapshotJobError::Thread)?;
        Ok(Self { messages, thread, waiting: None })
    }

    /// Hands over a chunk without waiting. A chunk that finds the queue full is kept, and [`Self::is_full`] is true
    /// until it has found its place.
    pub fn offer(&mut self, entries: Vec<Entry>) {
        debug_assert!(self.waiting.is_none(), "the caller asks is_full first");
        if !entries.is_empty() {
            self.waiting = Some(entries);
            self.flush();
        }
    }

    /// Hands over a chunk, waiting for a place.
    pub fn push(&mut self, entries: Vec<Entry>) {
        for entries in [self.waiting.take(), Some(entries)].into_iter().flatten() {
            // An error means that the thread has ended, and says why by itself.
            let _ = self.messages.send(Message::Entries(entries));
        }
    }

    fn flush(&mut self) {
        if let Some(entries) = self.waiting.take()
            && let Err(TrySendError::Full(Message::Entries(entries))) =
                self.messages.try_send(Message::Entries(entries))
        {
            self.waiting = Some(entries);
        }
    }

    /// True while a chunk waits for a place.
    pub fn is_full(&mut self) -> bool {
        self.flush();
        self.waiting.is_some()
    }

    /// Everything has been handed over: the thread syncs, moves the file and calls `done`. Dropping the job instead
    /// cancels it.
    pub fn finish(mut self) -> FinishingSnapshot {
        if let Some(entries) = self.waiting.take() {
            let _ = self.messages.send(Message::Entries(entries));
        }
        let _ = self.messages.send(Message::End);
        FinishingSnapshot { thread: self.thread }
    }
}

/// A snapshot whose entries have all been handed over.
pub struct FinishingSnapshot {
    thread: JoinHandle<()>,
}

impl FinishingSnapshot {
    /// Waits until `done` has been called.
    pub fn wait(self) {
        let _ = self.thread.join();
    }
}

struct Output<'s> {
    file: Box<dyn StorageFile>,
    path: &'s Path,
    synced_len: u64,
}

impl io::Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.append(bytes)?;
        if self.file.len() - self.synced_len >= SYNC_INTERVAL_LEN {
            self.file.syncer().sync()?;
            self.synced_len = self.file.len();
            self.file.forget_cached(self.synced_len);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(
    storage: &dyn Storage,
    plan: &SnapshotPlan,
    received: &Receiver<Message>,
) -> Result<WrittenSnapshot, SnapshotJobError> {
    let path = &plan.temp_path;
    let write_error = |source| SnapshotJobError::Write { path: path.clone(), source };
    let file = storage.create(path).map_err(write_error)?;
    let mut writer =
        RdbWriter::new(Output { file, path, synced_len: 0 }, plan.rdb.clone()).map_err(write_error)?;
    let mut digester = plan.digest.then(Digester::default);
    loop {
        match received.recv() {
            Ok(Message::Entries(entries)) => {
                for entry in &entries {
                    writer.entry(entry).map_err(write_error)?;
                    if let Some(digester) = &mut digester {
                        digester.add(entry);
                    }
                }
            }
            Ok(Message::End) => break,
            Err(_) => return Err(SnapshotJobError::Cancelled),
        }
    }
    let (output, summary) = writer.finish().map_err(write_error)?;
    output
        .file
        .syncer()
        .sync()
        .map_err(|source| SnapshotJobError::Sync { path: output.path.to_owned(), source })?;
    output.file.forget_cached(output.file.len());
    drop(output);
    let settled = plan.final_path.as_ref().unwrap_or(path);
    let directory = settled.parent().unwrap_or_else(|| Path::new("."));
    let place = || {
        if settled != path {
            storage.rename(path, settled)?;
        }
        storage.sync_dir(directory)
    };
    place().map_err(|source| SnapshotJobError::Rename { path: settled.clone(), source })?;
    Ok(WrittenSnapshot {
        bytes: summary.bytes,
        keys: summary.keys,
        summary: digester.map(|digester| digester.finish()),
    })
}

/// Writes a snapshot here and now.
///
/// # Errors
/// [`SnapshotJobError`].
pub fn write_snapshot(
    storage: &dyn Storage,
    plan: &SnapshotPlan,
    chunks: impl Iterator<Item = Vec<Entry>>,
) -> Result<WrittenSnapshot, SnapshotJobError> {
    // The same code as in the background, fed from a queue that is filled beforehand chunk by chunk would need all of
    // the dataset twice; a rendezvous with a scoped thread keeps one chunk at a time.
    let (sender, receiver) = sync_channel(CHUNKS_IN_FLIGHT);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let result = write(storage, plan, &receiver);
            drop(receiver);
            result
        });
        for entries in chunks {
            if sender.send(Message::Entries(entries)).is_err() {
                break;
            }
        }
        let _ = sender.send(Message::End);
        drop(sender);
        let result = writer.join().unwrap_or(Err(SnapshotJobError::Cancelled));
        if result.is_err() {
            let _ = storage.remove(&plan.temp_path);
        }
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::value::Value;
    use crate::storage::memory::MemoryDisk;
    use std::sync::mpsc::channel;

    fn entry(number: i64) -> Entry {
        Entry {
            db: 0,
            key: number.to_string().into_bytes().into(),
            value: Value::Int(number),
            expires_at_ms: None,
        }
    }

    fn plan() -> SnapshotPlan {
        SnapshotPlan {
            temp_path: "/d/temp-x.rdb".into(),
            final_path: Some("/d/dump.rdb".into()),
            rdb: RdbOptions::default(),
            digest: true,
        }
    }

    fn disk() -> MemoryDisk {
        let disk = MemoryDisk::new();
        disk.put(Path::new("/d/keep"), b"");
        disk
    }

    #[test]
    fn a_snapshot_appears_whole_under_its_name() {
        let disk = disk();
        let (sender, results) = channel();
        let mut job =
            SnapshotJob::start(Arc::new(disk.clone()), plan(), move |result| sender.send(result).unwrap())
                .unwrap();
        for number in 0..100 {
            job.push(vec![entry(number)]);
        }
        job.finish().wait();
        let written = results.recv().unwrap().unwrap();
        assert_eq!((written.keys, written.summary.unwrap().keys), (100, 100));
        assert_eq!(disk.contents(Path::new("/d/dump.rdb")).unwrap().len() as u64, written.bytes);
        assert_eq!(disk.contents(Path::new("/d/temp-x.rdb")), None);
    }

    #[test]
    fn a_cancelled_snapshot_leaves_nothing() {
        let disk = disk();
        let (sender, results) = channel();
        let mut job =
            SnapshotJob::start(Arc::new(disk.clone()), plan(), move |result| sender.send(result).unwrap())
                .unwrap();
        job.push(vec![entry(1)]);
        drop(job);
        assert!(matches!(results.recv().unwrap(), Err(SnapshotJobError::Cancelled)));
        assert_eq!(disk.files().len(), 1);
    }

    #[test]
    fn a_failing_disk_keeps_the_snapshot_from_before() {
        for call in 0.. {
            let disk = disk();
            disk.put(Path::new("/d/dump.rdb"), b"old");
            disk.inject(Some(crate::storage::memory::Fault {
                call,
                kind: io::ErrorKind::StorageFull,
                forever: false,
            }));
            let result = write_snapshot(&disk, &plan(), [vec![entry(1)]].into_iter());
            if result.is_ok() {
                assert!(call > 4);
                return;
            }
            let found = disk.contents(Path::new("/d/dump.rdb")).unwrap();
            let moved = matches!(result, Err(SnapshotJobError::Rename { .. })) && found.starts_with(b"REDIS");
            assert!(found == b"old" || moved, "call {call}");
        }
    }
}
