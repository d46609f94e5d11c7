//! Writes a snapshot in a thread of its own, from the entries that the executor hands over in chunks.
//!
//! The cut is the engine's business; this is the way from entries to a synced file. Handing over never waits. Memory is
//! bounded by whoever walks: while chunks of [`QUEUE_LEN_MAX`] bytes wait, [`SnapshotJob::is_full`] is true, and the walk
//! pauses.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use holdfast_contract::bucket::DatasetSummary;

use super::{RdbOptions, RdbWriter};
use crate::engine::Chunk;
use crate::persistence::digest::Digester;
use crate::persistence::room::shortage;
use crate::storage::{Storage, StorageFile};

/// Bytes that may wait for the writer before the walk pauses.
pub(crate) const QUEUE_LEN_MAX: usize = 8 << 20;
/// Chunks of a snapshot that is written while everything else waits.
const CHUNKS_IN_FLIGHT: usize = 2;
/// Bytes after which the file is synced and let go from the page cache, so that the end of a snapshot does not stall
/// the disk with all of it at once (Redis: `REDIS_AUTOSYNC_BYTES`, 4 MB).
const SYNC_INTERVAL_LEN: u64 = 32 << 20;
/// Bytes after which a snapshot that must leave room measures the volume: a system call of some microseconds for what takes
/// milliseconds to write.
const MEASURE_INTERVAL_LEN: u64 = 4 << 20;

/// What to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotPlan {
    /// The file that is written; emptied when it exists.
    pub(crate) temp_path: PathBuf,
    /// Where it is moved once it is synced; none: it stays where it is.
    pub(crate) final_path: Option<PathBuf>,
    /// How.
    pub(crate) rdb: RdbOptions,
    /// Whether to compute the digest of what is written.
    pub(crate) digest: bool,
    /// Whether to give up before the volume is full, because others need it more ([`crate::persistence::room`]).
    pub(crate) leaves_room: bool,
}

/// A snapshot that has been written and synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenSnapshot {
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Keys in it.
    pub keys: u64,
    /// What it holds, when the plan asked for it.
    pub(crate) summary: Option<DatasetSummary>,
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

impl SnapshotJobError {
    /// True when the volume has no room for the snapshot.
    #[must_use]
    pub(crate) fn lacks_space(&self) -> bool {
        match self {
            Self::Thread(_) | Self::Cancelled => false,
            Self::Write { source, .. } | Self::Sync { source, .. } | Self::Rename { source, .. } => {
                source.kind() == io::ErrorKind::StorageFull
            }
        }
    }
}

enum Message {
    Chunk(Chunk),
    End,
}

/// A snapshot that is being written.
pub(crate) struct SnapshotJob {
    messages: Sender<Message>,
    thread: JoinHandle<()>,
    /// Bytes of the chunks that wait, the one that is being written included.
    queued: Arc<AtomicUsize>,
}

/// The writer's end of the queue. Only [`Message::End`] is the end of the data: a queue that is closed was given up, by a panic
/// of whoever walks as well.
struct Queue(Receiver<Message>);

impl Iterator for Queue {
    type Item = Result<Chunk, SnapshotJobError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.0.recv() {
            Ok(Message::Chunk(chunk)) => Some(Ok(chunk)),
            Ok(Message::End) => None,
            Err(_) => Some(Err(SnapshotJobError::Cancelled)),
        }
    }
}

/// A thread that waits for its snapshot. Dropped, it ends, and nobody is told.
pub(crate) struct SnapshotThread {
    plans: SyncSender<SnapshotPlan>,
    job: SnapshotJob,
}

impl SnapshotThread {
    /// Starts the thread. `done` is called in it, exactly once, if the snapshot is begun.
    ///
    /// # Errors
    /// [`SnapshotJobError::Thread`].
    pub(crate) fn start(
        storage: Arc<dyn Storage>,
        done: impl FnOnce(Result<WrittenSnapshot, SnapshotJobError>) + Send + 'static,
    ) -> Result<Self, SnapshotJobError> {
        #[cfg(test)]
        if NO_THREADS.get() {
            return Err(SnapshotJobError::Thread(io::ErrorKind::WouldBlock.into()));
        }
        let (plans, planned) = sync_channel(1);
        let (messages, received) = channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&queued);
        let thread = std::thread::Builder::new()
            .name("snapshot".to_owned())
            .spawn(move || {
                let Ok(plan) = planned.recv() else { return };
                done(write_or_remove(&*storage, &plan, Queue(received), |written| {
                    counter.fetch_sub(written, Ordering::Relaxed);
                }));
            })
            .map_err(SnapshotJobError::Thread)?;
        Ok(Self { plans, job: SnapshotJob { messages, thread, queued } })
    }

    /// Begins to write: the file is created, and filled with what is handed over.
    pub(crate) fn begin(self, plan: SnapshotPlan) -> SnapshotJob {
        // The thread waits for it, and for nothing else.
        let _ = self.plans.send(plan);
        self.job
    }
}

#[cfg(test)]
thread_local! {
    /// True: this thread can start none, as where a system has no more of them.
    pub(crate) static NO_THREADS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

impl SnapshotJob {
    /// Hands over a chunk. It never waits; [`Self::is_full`] says when the next had better wait.
    pub(crate) fn push(&mut self, chunk: Chunk) {
        if !chunk.is_empty() {
            let held = chunk.held_bytes();
            self.queued.fetch_add(held, Ordering::Relaxed);
            // An error means that the thread has ended, and says why by itself. What it does not take waits for nobody.
            if self.messages.send(Message::Chunk(chunk)).is_err() {
                self.queued.fetch_sub(held, Ordering::Relaxed);
            }
        }
    }

    /// Bytes that wait for the writer.
    #[must_use]
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// True while so much waits that the walk had better pause.
    #[must_use]
    pub(crate) fn is_full(&self) -> bool {
        self.queued_bytes() >= QUEUE_LEN_MAX
    }

    /// Gives the snapshot up: the thread removes what it wrote, and calls `done` with [`SnapshotJobError::Cancelled`]. Once it
    /// has been waited for, another snapshot may be written to the same place.
    #[must_use]
    pub(crate) fn give_up(self) -> FinishingSnapshot {
        FinishingSnapshot { thread: self.thread }
    }

    /// Everything has been handed over: the thread syncs, moves the file and calls `done`.
    #[must_use]
    pub(crate) fn finish(self) -> FinishingSnapshot {
        let _ = self.messages.send(Message::End);
        FinishingSnapshot { thread: self.thread }
    }
}

/// A snapshot whose entries have all been handed over.
pub(crate) struct FinishingSnapshot {
    thread: JoinHandle<()>,
}

impl FinishingSnapshot {
    /// Waits until `done` has been called.
    pub(crate) fn wait(self) {
        let _ = self.thread.join();
    }
}

struct Output<'s> {
    storage: &'s dyn Storage,
    file: Box<dyn StorageFile>,
    path: &'s Path,
    synced_len: u64,
    leaves_room: bool,
    /// Up to where the volume is known to have room.
    measured_len: u64,
}

impl Output<'_> {
    /// Fails when `next_len` more bytes would take room that is to be left.
    fn leave_room(&mut self, next_len: u64) -> io::Result<()> {
        let written = self.file.len();
        if !self.leaves_room || written + next_len <= self.measured_len {
            return Ok(());
        }
        let directory = self.path.parent().unwrap_or_else(|| Path::new("."));
        // A volume that cannot be measured says by itself when it is full.
        if let Ok(space) = self.storage.space(directory)
            && let Some(shortage) = shortage(written, next_len, space)
        {
            return Err(io::Error::new(io::ErrorKind::StorageFull, shortage));
        }
        self.measured_len = written + next_len.max(MEASURE_INTERVAL_LEN);
        Ok(())
    }
}

impl io::Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.leave_room(bytes.len() as u64)?;
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

/// Writes what comes through the queue, and removes what is not whole.
fn write_or_remove(
    storage: &dyn Storage,
    plan: &SnapshotPlan,
    queue: Queue,
    written: impl FnMut(usize),
) -> Result<WrittenSnapshot, SnapshotJobError> {
    let result = write(storage, plan, queue, written);
    if result.is_err() {
        // What is left is waste that the next start would remove; a failure to do so now changes nothing.
        let _ = storage.remove(&plan.temp_path);
    }
    result
}

fn write(
    storage: &dyn Storage,
    plan: &SnapshotPlan,
    queue: Queue,
    mut written: impl FnMut(usize),
) -> Result<WrittenSnapshot, SnapshotJobError> {
    let path = &plan.temp_path;
    let write_error = |source| SnapshotJobError::Write { path: path.clone(), source };
    let file = storage.create(path).map_err(write_error)?;
    let leaves_room = plan.leaves_room;
    let output = Output { storage, file, path, synced_len: 0, leaves_room, measured_len: 0 };
    let mut writer = RdbWriter::new(output, plan.rdb.clone()).map_err(write_error)?;
    let mut digester = plan.digest.then(Digester::default);
    for chunk in queue {
        let chunk = chunk?;
        for entry in chunk.entries() {
            writer.saved_entry(entry).map_err(write_error)?;
            if let Some(digester) = &mut digester {
                digester.add_saved(entry);
            }
        }
        let len = chunk.held_bytes();
        drop(chunk);
        written(len);
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

/// Writes a snapshot here and now. A panic of `chunks` leaves the snapshot from before.
///
/// # Errors
/// [`SnapshotJobError`].
pub(crate) fn write_snapshot(
    storage: &dyn Storage,
    plan: &SnapshotPlan,
    chunks: impl Iterator<Item = Chunk>,
) -> Result<WrittenSnapshot, SnapshotJobError> {
    // Encoding and writing go on side by side, with few chunks between them.
    let (messages, received) = sync_channel(CHUNKS_IN_FLIGHT);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("save".to_owned());
        let writer = thread
            .spawn_scoped(scope, move || write_or_remove(storage, plan, Queue(received), |_| {}))
            .map_err(SnapshotJobError::Thread)?;
        for message in chunks.map(Message::Chunk).chain([Message::End]) {
            if messages.send(message).is_err() {
                break;
            }
        }
        // Order matters: a panic above drops it, too, and then there was no end.
        drop(messages);
        writer.join().unwrap_or(Err(SnapshotJobError::Cancelled))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::value::{Entry, Value};
    use crate::engine::{Access, Engine, EngineOptions, HashSeed, Limits};
    use crate::storage::memory::MemoryDisk;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// A chunk of so many keys, which begin with a number.
    fn chunk(first: i64, len: i64) -> Chunk {
        let mut engine =
            Engine::new(EngineOptions { databases: 1, limits: Limits::default(), seed: HashSeed([1, 2]) });
        for number in first..first + len {
            let key = number.to_string().into_bytes().into();
            let value = Value::Int(number);
            let entry = Entry { db: 0, key, value, expires_at_ms: None, access: Access::default() };
            engine.load(entry, 0).unwrap();
        }
        engine.snapshot_begin(0);
        let mut chunk = Chunk::default();
        assert!(engine.snapshot_step(usize::MAX, &mut chunk));
        chunk
    }

    fn plan() -> SnapshotPlan {
        SnapshotPlan {
            temp_path: "/d/temp-x.rdb".into(),
            final_path: Some("/d/dump.rdb".into()),
            rdb: RdbOptions::default(),
            digest: true,
            leaves_room: false,
        }
    }

    /// A chunk with one value of so many bytes.
    fn large_chunk(len: usize) -> Chunk {
        let mut engine =
            Engine::new(EngineOptions { databases: 1, limits: Limits::default(), seed: HashSeed([1, 2]) });
        let (key, value) = (Box::from(&b"k"[..]), Value::Bytes(vec![0; len]));
        let entry = Entry { db: 0, key, value, expires_at_ms: None, access: Access::default() };
        engine.load(entry, 0).unwrap();
        engine.snapshot_begin(0);
        let mut chunk = Chunk::default();
        assert!(engine.snapshot_step(usize::MAX, &mut chunk));
        chunk
    }

    fn begin(disk: &MemoryDisk) -> (SnapshotJob, Receiver<Result<WrittenSnapshot, SnapshotJobError>>) {
        let (sender, results) = channel();
        let done = move |result| sender.send(result).unwrap();
        let thread = SnapshotThread::start(Arc::new(disk.clone()), done).unwrap();
        (thread.begin(plan()), results)
    }

    fn disk() -> MemoryDisk {
        let disk = MemoryDisk::new();
        disk.put(Path::new("/d/keep"), b"");
        disk
    }

    #[test]
    fn a_snapshot_appears_whole_under_its_name() {
        let disk = disk();
        let (mut job, results) = begin(&disk);
        for number in 0..100 {
            job.push(chunk(number, 1));
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
        let (mut job, results) = begin(&disk);
        job.push(chunk(1, 1));
        job.give_up().wait();
        assert_eq!(disk.files().len(), 1, "nothing is written or removed after the cancellation");
        assert!(matches!(results.recv().unwrap(), Err(SnapshotJobError::Cancelled)));
    }

    #[test]
    fn a_thread_that_is_not_needed_writes_nothing() {
        let disk = disk();
        let (sender, results) = channel();
        let done = move |result| sender.send(result).unwrap();
        drop(SnapshotThread::start(Arc::new(disk.clone()), done).unwrap());
        assert!(results.recv().is_err(), "nothing has ended");
        assert_eq!(disk.files().len(), 1);
    }

    #[test]
    fn a_walk_that_panics_keeps_the_snapshot_from_before() {
        let disk = disk();
        disk.put(Path::new("/d/dump.rdb"), b"old");
        let chunks = (1..).map(|first| if first > 5 { panic!("a defect") } else { chunk(first, 1) });
        let walk = AssertUnwindSafe(|| write_snapshot(&disk, &plan(), chunks));
        assert!(catch_unwind(walk).is_err());
        assert_eq!(disk.contents(Path::new("/d/dump.rdb")).as_deref(), Some(&b"old"[..]));
        assert_eq!(disk.contents(Path::new("/d/temp-x.rdb")), None);
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
            let result = write_snapshot(&disk, &plan(), [chunk(1, 1)].into_iter());
            if result.is_ok() {
                assert!(call > 4);
                return;
            }
            let found = disk.contents(Path::new("/d/dump.rdb")).unwrap();
            let moved = matches!(result, Err(SnapshotJobError::Rename { .. })) && found.starts_with(b"REDIS");
            assert!(found == b"old" || moved, "call {call}");
        }
    }

    #[test]
    fn a_snapshot_that_leaves_room_ends_before_the_volume_is_full() {
        let rdb = RdbOptions { compression: false, ..RdbOptions::default() };
        let plan = |leaves_room| SnapshotPlan { leaves_room, digest: false, rdb: rdb.clone(), ..plan() };
        let chunks = || (0..6).map(|_| large_chunk(8 << 20));
        let disk = disk();
        disk.limit_space(Some(40 << 20));
        let error = write_snapshot(&disk, &plan(true), chunks()).unwrap_err();
        assert!(error.lacks_space(), "{error:?}");
        let told = crate::error_chain::error_chain(&error);
        assert!(told.contains("bytes beside the data"), "{told}");
        assert_eq!(disk.files().len(), 1, "nothing of it is left");
        // One that keeps the data itself takes what there is.
        write_snapshot(&disk, &plan(false), chunks()).unwrap();
        disk.limit_space(Some(200 << 20));
        write_snapshot(&disk, &plan(true), chunks()).unwrap();
    }

    #[test]
    fn handing_over_never_waits_and_a_full_queue_is_noticed() {
        let disk = disk();
        let (mut job, results) = begin(&disk);
        let mut keys = 0;
        while !job.is_full() {
            job.push(large_chunk(QUEUE_LEN_MAX / 2 + 1));
            keys += 1;
        }
        assert!(job.queued_bytes() >= QUEUE_LEN_MAX);
        job.finish().wait();
        assert_eq!(results.recv().unwrap().unwrap().keys, keys);
    }
}
