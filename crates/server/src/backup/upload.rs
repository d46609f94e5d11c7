//! Backups to a bucket: cut, claim, send, read back, manifest last.
//!
//! ```text
//!   start(request) ─▶ queued ─▶ open location ─▶ claim owner ─▶ cut (owner of the data) ─▶ send
//!      phases:        Cutting ─────────────────────────────────────────────────────────▶ Uploading
//!                     ─▶ read all of it back: SHA-256, checking load, count and digest ─▶ manifest by conditional put
//!                        Verifying ─────────────────────────────────────────────────────▶ Succeeded
//! ```
//!
//! What must hold: a backup exists only with its manifest, which is written after the bucket's own copy was read back
//! and opened; what a failed or cancelled backup has sent is removed, by a later one if the process ends before; the local file
//! is removed in every case. One backup runs at a time, the next ones wait. An id never runs twice while it is remembered.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use holdfast_bucket::{Bucket, BucketError, Cancel, Canceller, Credentials, TakeOver, cancel_pair};
use holdfast_contract::bucket::{
    BASE_FILE, BackupFile, BackupManifest, LAYOUT_VERSION, StoreMarker, backup_path,
};
use holdfast_contract::control::{BackupPhase, BackupProgress, BackupRequest, backup_reason};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, watch};

use super::check::{check_rdb, chunk_pipe};
use super::restore::credentials_below;
use crate::bridge::{AdminRequest, CutFile, Refusal, ServerHandle};
use crate::metrics::Metrics;
use crate::storage::{SIDE_PREFIX, Storage};

/// Backups that are remembered; the oldest ended one makes room.
const REMEMBERED_MAX: usize = 32;
/// Backups that may run or wait.
const UNFINISHED_MAX: usize = 4;
/// Longest id, in bytes; a UID has 36.
const ID_LEN_MAX: usize = 128;
/// Longest time for a cut. It is bounded by the disk: 64 GiB at 20 MB/s take 54 minutes.
const CUT_TIME_MAX: Duration = Duration::from_secs(3_600);
/// Longest wait of [`Backups::cancel`] and [`Backups::shutdown`] for a backup to end.
const CANCEL_TIME_MAX: Duration = Duration::from_secs(8);
/// Age from which data without a manifest is taken for what a killed upload has left: a day more than the longest deadline of a
/// StoreBackup, so that nobody can still be at it.
const ORPHAN_AGE_MIN: Duration = Duration::from_secs(8 * 86_400);
/// Names that are tried for backups of one second.
const NAMES_MAX: u64 = 60;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Where snapshots for backups come from.
pub trait SnapshotSource: Send + Sync + 'static {
    /// Id of the Store whose data is served; `None` while there is none.
    fn store_id(&self) -> Option<String>;

    /// Cuts a snapshot into the new file `dest`, which is the caller's from then on.
    fn cut(&self, dest: PathBuf) -> BoxFuture<Result<CutFile, Refusal>>;
}

impl SnapshotSource for ServerHandle {
    fn store_id(&self) -> Option<String> {
        self.status().identity.map(|identity| identity.store_id)
    }

    fn cut(&self, dest: PathBuf) -> BoxFuture<Result<CutFile, Refusal>> {
        let handle = self.clone();
        Box::pin(
            async move { handle.ask(CUT_TIME_MAX, |reply| AdminRequest::CutSnapshot { dest, reply }).await },
        )
    }
}

/// What all backups of a server have in common.
#[derive(Debug, Clone)]
pub struct BackupSettings {
    /// Directory for the local file of a running backup: on the volume, since it is as large as the data. The data
    /// directory is fine, its temporary names are never taken for data.
    pub temp_dir: PathBuf,
    /// Directory below which the credentials of locations are mounted.
    pub credentials_root: PathBuf,
    /// Name of this instance, for the manifest.
    pub instance: String,
}

/// Why a backup was not even begun.
#[derive(Debug, thiserror::Error)]
pub enum StartBackupError {
    /// The id cannot be one.
    #[error("backup id must have 1 to {ID_LEN_MAX} letters, digits or hyphens, such as a UID")]
    InvalidId,
    /// Too many others.
    #[error("{UNFINISHED_MAX} backups run or wait already; ask again when one of them has ended")]
    TooMany,
}

/// The backups of this server: runs them, remembers the last ones. Clones are the same.
#[derive(Clone)]
pub struct Backups(Arc<Shared>);

struct Shared {
    source: Arc<dyn SnapshotSource>,
    settings: BackupSettings,
    metrics: Arc<Metrics>,
    running: Arc<Semaphore>,
    /// In the order in which they were asked for.
    jobs: Mutex<VecDeque<Job>>,
}

struct Job {
    progress: watch::Receiver<BackupProgress>,
    canceller: Canceller,
}

impl Job {
    fn has_ended(&self) -> bool {
        self.progress.borrow().completed_ms.is_some()
    }
}

impl fmt::Debug for Backups {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Backups").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

impl Backups {
    /// Nothing runs yet.
    #[must_use]
    pub fn new(source: Arc<dyn SnapshotSource>, settings: BackupSettings, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Shared {
            source,
            settings,
            metrics,
            running: Arc::new(Semaphore::new(1)),
            jobs: Mutex::new(VecDeque::new()),
        }))
    }

    /// Starts a backup, or says how far the one with this id is. Must be called within a runtime.
    ///
    /// # Errors
    /// [`StartBackupError`]; everything else that goes wrong is in the progress.
    pub fn start(&self, request: BackupRequest) -> Result<BackupProgress, StartBackupError> {
        let well_formed = (1..=ID_LEN_MAX).contains(&request.id.len())
            && request.id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !well_formed {
            return Err(StartBackupError::InvalidId);
        }
        let mut jobs = self.jobs();
        if let Some(job) = jobs.iter().find(|job| job.progress.borrow().id == request.id) {
            return Ok(job.progress.borrow().clone());
        }
        if jobs.iter().filter(|job| !job.has_ended()).count() >= UNFINISHED_MAX {
            return Err(StartBackupError::TooMany);
        }
        if jobs.len() >= REMEMBERED_MAX
            && let Some(oldest) = jobs.iter().position(Job::has_ended)
        {
            jobs.remove(oldest);
        }
        let progress = BackupProgress {
            id: request.id.clone(),
            phase: BackupPhase::Cutting,
            reason: None,
            message: None,
            backup_path: None,
            uploaded_bytes: 0,
            total_bytes: 0,
            epoch: 0,
            offset: 0,
            dataset: None,
            started_ms: now_ms(),
            completed_ms: None,
        };
        let (canceller, cancel) = cancel_pair();
        let (publish, watched) = watch::channel(progress.clone());
        jobs.push_back(Job { progress: watched, canceller });
        drop(jobs);
        tokio::spawn(Arc::clone(&self.0).run(request, publish, cancel));
        Ok(progress)
    }

    /// How far the backup `id` is; `None` when it is not remembered.
    #[must_use]
    pub fn progress(&self, id: &str) -> Option<BackupProgress> {
        self.jobs().iter().map(|job| job.progress.borrow().clone()).find(|progress| progress.id == id)
    }

    /// Cancels the backup `id` unless it has ended, and waits a bounded time until it has.
    pub async fn cancel(&self, id: &str) -> Option<BackupProgress> {
        let mut progress = {
            let jobs = self.jobs();
            let job = jobs.iter().find(|job| job.progress.borrow().id == id)?;
            job.canceller.cancel();
            job.progress.clone()
        };
        wait_for_end(&mut progress).await;
        let last = progress.borrow().clone();
        Some(last)
    }

    /// Cancels everything and waits a bounded time until it has ended.
    pub async fn shutdown(&self) {
        let ending: Vec<_> = self
            .jobs()
            .iter()
            .map(|job| {
                job.canceller.cancel();
                job.progress.clone()
            })
            .collect();
        for mut progress in ending {
            wait_for_end(&mut progress).await;
        }
    }

    fn jobs(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn wait_for_end(progress: &mut watch::Receiver<BackupProgress>) {
    // Whether it ended or not is in the progress, which the caller looks at.
    let _ =
        tokio::time::timeout(CANCEL_TIME_MAX, progress.wait_for(|progress| progress.completed_ms.is_some()))
            .await;
}

/// Removes local files that backups of an earlier process left in `temp_dir`. Call it before any backup is started.
///
/// # Errors
/// Whatever the file system says.
pub fn remove_leftovers(storage: &dyn Storage, temp_dir: &Path) -> io::Result<()> {
    for entry in storage.list(temp_dir)? {
        if !entry.is_directory && entry.name.starts_with(&format!("{SIDE_PREFIX}backup-")) {
            storage.remove(&temp_dir.join(&entry.name))?;
        }
    }
    Ok(())
}

/// How a backup failed.
#[derive(Debug)]
struct Failure {
    reason: &'static str,
    message: String,
}

impl From<BucketError> for Failure {
    fn from(error: BucketError) -> Self {
        let mut message = error.to_string();
        if let Some(cause) = std::error::Error::source(&error) {
            message.push_str(&format!(": {cause}"));
        }
        Self { reason: error.reason(), message }
    }
}

impl Failure {
    fn cancelled() -> Self {
        Self { reason: backup_reason::CANCELLED, message: "the backup was cancelled".to_owned() }
    }

    /// Without it the job would count as one that runs, for ever.
    fn panicked() -> Self {
        Self {
            reason: backup_reason::DEFECT,
            message: "the backup ended in a panic, which is a defect of the server: report it, with the lines of its log \
                      about the panic"
                .to_owned(),
        }
    }

    fn verification(path: &str, problem: &str) -> Self {
        Self {
            reason: backup_reason::VERIFICATION_FAILED,
            message: format!(
                "what was read back of {path:?} is not what was sent: {problem}; try again and check the object store if \
                 it happens twice"
            ),
        }
    }
}

/// A backup that has its manifest.
struct Completed {
    completed_ms: u64,
    bucket: Bucket,
    store_id: String,
}

impl Completed {
    /// Removes what earlier uploads of this Store have left that were killed. Whatever comes of it, the backup stays good.
    async fn remove_orphans(&self) {
        match self.bucket.remove_orphans(&self.store_id, ORPHAN_AGE_MIN).await {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => tracing::info!(?removed, "data of backups that were never completed removed"),
            Err(error) => {
                tracing::warn!(%error, "failed to remove what backups that were never completed have left");
            }
        }
    }
}

/// Removes the local file when dropped.
struct LocalFile(PathBuf);

impl Drop for LocalFile {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.0.display(), %error, "failed to remove the local file of a backup");
            }
            _ => {}
        }
    }
}

impl Shared {
    async fn run(
        self: Arc<Self>,
        request: BackupRequest,
        publish: watch::Sender<BackupProgress>,
        cancel: Cancel,
    ) {
        let id = request.id.clone();
        let job = AssertUnwindSafe(self.back_up(&request, &publish, &cancel)).catch_unwind();
        let (result, completed) = match job.await.unwrap_or_else(|_| Err(Failure::panicked())) {
            Ok(completed) => (Ok(completed.completed_ms), Some(completed)),
            Err(failure) => (Err(failure), None),
        };
        self.metrics.backup_ended(result.as_ref().ok().copied());
        let completed_ms = match &result {
            Ok(completed_ms) => {
                tracing::info!(%id, path = publish.borrow().backup_path, "backup completed");
                *completed_ms
            }
            Err(failure) => {
                tracing::warn!(%id, reason = failure.reason, message = failure.message, "backup failed");
                now_ms()
            }
        };
        publish.send_modify(|progress| {
            progress.completed_ms = Some(completed_ms);
            match result {
                Ok(_) => progress.phase = BackupPhase::Succeeded,
                Err(failure) => {
                    progress.phase = BackupPhase::Failed;
                    progress.reason = Some(failure.reason.to_owned());
                    progress.message = Some(failure.message);
                }
            }
        });
        if let Some(completed) = completed {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                () = completed.remove_orphans() => {}
            }
        }
    }

    async fn back_up(
        &self,
        request: &BackupRequest,
        publish: &watch::Sender<BackupProgress>,
        cancel: &Cancel,
    ) -> Result<Completed, Failure> {
        let turn = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Failure::cancelled()),
            turn = Arc::clone(&self.running).acquire_owned() => turn,
        };
        let _turn = turn.map_err(|_closed| Failure::cancelled())?;

        let bucket = unless(cancel, self.open_and_claim(request)).await?;
        let cut = self.cut(cancel).await?;
        let _local = LocalFile(cut.path.clone());
        let path = unless(cancel, free_path(&bucket, &cut)).await?;
        publish.send_modify(|progress| {
            progress.phase = BackupPhase::Uploading;
            progress.backup_path = Some(path.clone());
            progress.total_bytes = cut.bytes;
            progress.epoch = cut.epoch;
            progress.offset = cut.offset;
            progress.dataset = Some(cut.dataset.clone());
        });

        let prepared = self.send_and_verify(&bucket, &path, &cut, publish, cancel).await;
        let manifest = match prepared {
            Ok(manifest) => manifest,
            Err(mut failure) => {
                // Without a manifest it is no backup, and nobody would ever remove it.
                let file = format!("{path}/{BASE_FILE}");
                match bucket.delete(&file).await {
                    Ok(()) => failure.message.push_str("; nothing of it is left in the bucket"),
                    Err(error) => {
                        let left = format!("; what was sent may be left as {file:?}, remove it: {error}");
                        failure.message.push_str(&left);
                    }
                }
                return Err(failure);
            }
        };
        // Not cancelled any more: a manifest that may have arrived must keep its data.
        bucket.put_manifest(&path, &manifest).await?;
        Ok(Completed { completed_ms: manifest.completed_ms, bucket, store_id: manifest.store_id })
    }

    async fn open_and_claim(&self, request: &BackupRequest) -> Result<Bucket, Failure> {
        let store_id = self.source.store_id().ok_or_else(|| Failure {
            reason: backup_reason::NOT_READY,
            message: "the server holds no data yet; back up when it is ready".to_owned(),
        })?;
        let dir = credentials_below(&self.settings.credentials_root, &request.credentials_dir)?;
        let bucket = Bucket::open(&request.location, Credentials::read_dir(&dir)?)?;
        let marker = StoreMarker {
            version: LAYOUT_VERSION,
            store_id,
            owner_uid: request.owner_uid.clone(),
            owner_name: request.owner_name.clone(),
        };
        let take_over = match (&request.former_owner_uids, request.takes_over) {
            (Some(former), _) => TakeOver::From(former),
            (None, true) => TakeOver::Anybody,
            (None, false) => TakeOver::Nobody,
        };
        bucket.claim_owner(&marker, take_over).await?;
        Ok(bucket)
    }

    /// Not left alone when cancelled: the file would appear after everybody has gone.
    async fn cut(&self, cancel: &Cancel) -> Result<CutFile, Failure> {
        let name = format!("{SIDE_PREFIX}backup-{}.rdb", uuid::Uuid::new_v4());
        let cut =
            self.source.cut(self.settings.temp_dir.join(name)).await.map_err(|refusal| match refusal {
                Refusal::NotReady(message) => Failure { reason: backup_reason::NOT_READY, message },
                Refusal::Stopped => Failure::cancelled(),
                Refusal::NoSpace(problem) => Failure {
                    reason: backup_reason::INSUFFICIENT_SPACE,
                    message: format!("the volume has no room for the snapshot of the backup: {problem}"),
                },
                other => Failure {
                    reason: backup_reason::SNAPSHOT_FAILED,
                    message: format!("the snapshot for the backup failed: {other}"),
                },
            })?;
        if cancel.is_cancelled() {
            drop(LocalFile(cut.path));
            return Err(Failure::cancelled());
        }
        Ok(cut)
    }

    async fn send_and_verify(
        &self,
        bucket: &Bucket,
        path: &str,
        cut: &CutFile,
        publish: &watch::Sender<BackupProgress>,
        cancel: &Cancel,
    ) -> Result<BackupManifest, Failure> {
        let base = format!("{path}/{BASE_FILE}");
        let file = tokio::fs::File::open(&cut.path).await.map_err(|error| Failure {
            reason: backup_reason::SNAPSHOT_FAILED,
            message: format!("failed to open the snapshot {:?} for the backup: {error}", cut.path),
        })?;
        let progress = |bytes: u64| {
            publish.send_modify(|progress| {
                self.metrics.uploaded(bytes.saturating_sub(progress.uploaded_bytes));
                progress.uploaded_bytes = bytes;
            });
        };
        let sent = bucket.put_file(&base, file, cut.bytes, &progress, cancel).await?;
        publish.send_modify(|progress| progress.phase = BackupPhase::Verifying);
        let manifest = BackupManifest {
            version: LAYOUT_VERSION,
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            store_id: cut.store_id.clone(),
            instance: self.settings.instance.clone(),
            epoch: cut.epoch,
            offset: cut.offset,
            cut_ms: cut.cut_ms,
            completed_ms: now_ms(),
            files: vec![BackupFile { name: BASE_FILE.to_owned(), bytes: sent.bytes, sha256: sent.sha256 }],
            dataset: cut.dataset.clone(),
        };
        unless(cancel, verify(bucket, &base, &manifest)).await?;
        Ok(BackupManifest { completed_ms: now_ms(), ..manifest })
    }
}

async fn unless<T>(cancel: &Cancel, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Failure::cancelled()),
        result = work => result,
    }
}

/// A path below which there is no backup yet. Two backups of one second without a write between would share a name, and
/// the second would overwrite the data of the first.
async fn free_path(bucket: &Bucket, cut: &CutFile) -> Result<String, Failure> {
    for later in 0..NAMES_MAX {
        let time = name_time(cut.cut_ms.saturating_add(later * 1_000));
        let path = backup_path(&cut.store_id, &time, cut.epoch, cut.offset);
        match bucket.read_manifest(&path).await {
            Err(BucketError::ObjectNotFound { .. }) => return Ok(path),
            Ok(_) | Err(BucketError::Damaged { .. } | BucketError::Newer { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure {
        reason: backup_reason::FOREIGN_OWNER,
        message: format!(
            "all {NAMES_MAX} names for a backup at {} are taken; something else writes below this prefix",
            name_time(cut.cut_ms)
        ),
    })
}

/// Reads all of the object back: its bytes are those that were sent, and a load that checks everything opens them.
async fn verify(bucket: &Bucket, base: &str, manifest: &BackupManifest) -> Result<(), Failure> {
    let [file] = manifest.files.as_slice() else {
        return Err(Failure::verification(base, "the manifest names no file"));
    };
    let mut stream = bucket.get_stream(base).await?;
    let (sender, reader) = chunk_pipe();
    let checking = tokio::task::spawn_blocking(move || check_rdb(reader));
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let received = async {
        while let Some(chunk) = stream.next_chunk().await? {
            hash.update(&chunk);
            bytes += chunk.len() as u64;
            if sender.send(chunk).await.is_err() {
                // The check has ended, and its result says why.
                break;
            }
        }
        Ok::<(), BucketError>(())
    }
    .await;
    drop(sender);
    let checked = checking.await;
    received?;
    let checked = match checked {
        Ok(Ok(checked)) => checked,
        Ok(Err(error)) => return Err(Failure::verification(base, &format!("it does not open: {error}"))),
        Err(_) => return Err(Failure::verification(base, "the check was interrupted")),
    };
    let sha256: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if (bytes, &sha256) != (file.bytes, &file.sha256) {
        let problem = format!(
            "{bytes} bytes with SHA-256 {sha256} came back, {} with {} were sent",
            file.bytes, file.sha256
        );
        return Err(Failure::verification(base, &problem));
    }
    match checked.difference(manifest) {
        None => Ok(()),
        Some(problem) => Err(Failure::verification(base, &problem)),
    }
}

/// UTC `YYYYMMDDTHHMMSSZ`.
fn name_time(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|unix_ms| Timestamp::from_millisecond(unix_ms).ok());
    time.unwrap_or(Timestamp::MAX).strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_the_second_of_the_cut_in_utc() {
        assert_eq!(name_time(0), "19700101T000000Z");
        assert_eq!(name_time(1_790_000_000_999), "20260921T141320Z");
        assert_eq!(name_time(u64::MAX).len(), 16);
    }
}
