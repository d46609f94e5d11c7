//! Brings a backup from its bucket onto an empty volume.
//!
//! ```text
//!   volume root (mount point, e.g. /data)
//!     store/                     the data directory (`dir`): absent or without data until the last step
//!     .holdfast-restore-<epoch>/ the side directory, beside it, on the same file system
//!         <dbfilename>           downloaded, SHA-256 compared, synced, opened by the checking load
//!         holdfast-identity.json written after all that, synced
//!   last step: rename the side directory to store/, sync the volume root
//! ```
//!
//! The data directory is therefore never the mount point itself, which cannot be renamed over. The one rename is the
//! activation: before it the volume holds nothing that anybody reads, after it it holds a complete data directory with
//! its identity inside. A kill, a power cut or an error at any point leads to one of the two, and running again finishes
//! the work: leftovers of earlier tries are removed first, a finished restore is recognised by its identity.
//!
//! What must hold: a directory with an identity or unknown data is never touched, however the restore was asked for; the
//! bucket's bytes are compared with the manifest before any of them can be served. The identity is written with
//! `granted: false`, so that the first write waits until the new epoch is recorded.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_bucket::{Bucket, BucketError, Credentials};
use holdfast_contract::bucket::{BASE_FILE, BackupFile, BackupManifest};
use holdfast_contract::identity::{IDENTITY_VERSION, Identity, Parent};
use holdfast_contract::record::{DecisionKind, DecisionReport, RestorePlan, reason};
use sha2::{Digest, Sha256};

use super::check::{check_rdb, chunk_pipe};
use super::decide::VolumeState;
use super::volume::{FILE_SYSTEM_NAMES, inspect};
use crate::error_chain::error_chain;
use crate::persistence::identity::write_identity;
use crate::persistence::snapshot::ReadRdbError;
use crate::storage::{LOCK_FILE, SIDE_PREFIX, Storage, TEMP_PREFIX};

/// Room that must be left beside the restored file, in bytes: identity, log of the first writes, file system overhead.
const SPACE_RESERVE_LEN: u64 = 16 << 20;
/// Bytes after which the download is synced, so that the disk is busy while the network is, and not only at the end.
const SYNC_INTERVAL_LEN: u64 = 32 << 20;
/// Bytes handed to the file system at a time.
const WRITE_LEN: usize = 1 << 20;

/// How far a restore is; shared with whoever reports it.
#[derive(Debug, Default)]
pub struct RestoreProgress {
    done: AtomicU64,
    total: AtomicU64,
}

impl RestoreProgress {
    /// Bytes that are on the volume, and bytes in all; both 0 until the manifest has been read.
    #[must_use]
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    /// From 0 to 1, for [`holdfast_contract::control::ServerStatus::progress`]; `None` until the size is known.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a fraction for people needs no more than 53 bits")]
    pub fn fraction(&self) -> Option<f64> {
        let (done, total) = self.bytes();
        (total > 0).then(|| done as f64 / total as f64)
    }
}

/// What to restore, and where to.
pub struct Restore<'a> {
    /// The file system of the volume.
    pub storage: Arc<dyn Storage>,
    /// The open location of the plan; see [`open_plan`].
    pub bucket: &'a Bucket,
    /// What to restore.
    pub plan: &'a RestorePlan,
    /// Id of this Store, for the identity. Not necessarily that of the backup.
    pub store_id: &'a str,
    /// Name of this instance, for the identity.
    pub instance: &'a str,
    /// The data directory. Nobody may hold its lock: the directory is replaced, and the lock file with it.
    pub dir: &'a Path,
    /// Name of the snapshot in it (`dbfilename`).
    pub snapshot_name: &'a str,
    /// Told of the bytes as they come.
    pub progress: &'a RestoreProgress,
    /// Wall time, for the identity.
    pub now_ms: u64,
}

/// How a restore ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// The backup is on the volume.
    Done {
        /// The identity that was written.
        identity: Identity,
        /// Keys restored.
        keys: u64,
        /// Bytes restored.
        bytes: u64,
    },
    /// An earlier run had finished: the volume carries the plan's epoch.
    AlreadyDone {
        /// The identity that was found.
        identity: Identity,
    },
}

/// Why a backup was not restored. The volume holds no data then, as before, except where a variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The volume is not empty.
    #[error(
        "refusing to restore into {dir:?}: it {found}; a restore never replaces data, give the Store an empty volume"
    )]
    VolumeNotEmpty {
        /// The data directory.
        dir: PathBuf,
        /// What is there.
        found: String,
    },
    /// The data directory is no directory inside of a volume.
    #[error(
        "cannot restore into {dir:?}: {problem}; set dir to a directory below the mount point of the volume"
    )]
    NoSideDirectory {
        /// The data directory.
        dir: PathBuf,
        /// Why.
        problem: String,
    },
    /// The bucket, or what lies in it.
    #[error("failed to restore backup {backup:?}")]
    Bucket {
        /// Path of the backup below the prefix.
        backup: String,
        /// The cause.
        #[source]
        source: Box<BucketError>,
    },
    /// The plan would not move the epoch forward.
    #[error(
        "refusing to restore backup {backup:?} of epoch {backup_epoch} as epoch {plan_epoch}: the epoch must grow at a restore"
    )]
    EpochNotAbove {
        /// Path of the backup below the prefix.
        backup: String,
        /// Epoch of the backup.
        backup_epoch: u64,
        /// Epoch of the plan.
        plan_epoch: u64,
    },
    /// The volume is too small.
    #[error(
        "backup {backup:?} needs {needed} bytes and the volume has {available} free; give the Store a larger volume"
    )]
    NoSpace {
        /// Path of the backup below the prefix.
        backup: String,
        /// Bytes needed, reserve included.
        needed: u64,
        /// Bytes free.
        available: u64,
    },
    /// The bytes from the bucket are not those of the manifest.
    #[error("backup {backup:?} is damaged: {problem}; choose another backup")]
    Damaged {
        /// Path of the backup below the prefix.
        backup: String,
        /// What differs.
        problem: String,
    },
    /// The bytes are those of the manifest, and no snapshot that this release can open.
    #[error("backup {backup:?} does not open; choose another backup, or use the release that wrote it")]
    Unreadable {
        /// Path of the backup below the prefix.
        backup: String,
        /// The cause.
        #[source]
        source: ReadRdbError,
    },
    /// The volume failed.
    #[error("failed to {action} {path:?}")]
    Volume {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The thread that writes died.
    #[error("the restore was interrupted")]
    Interrupted,
}

impl RestoreError {
    /// True when the same plan may succeed later: the bucket answers again, its keys are corrected, there is room. False when
    /// another plan is needed, most of all where that is only known after the whole download.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Bucket { source, .. } => {
                !matches!(**source, BucketError::Damaged { .. } | BucketError::Newer { .. })
            }
            Self::Volume { .. } | Self::Interrupted | Self::NoSpace { .. } => true,
            Self::VolumeNotEmpty { .. }
            | Self::NoSideDirectory { .. }
            | Self::EpochNotAbove { .. }
            | Self::Damaged { .. }
            | Self::Unreadable { .. } => false,
        }
    }

    /// The report of a server that holds because of this.
    #[must_use]
    pub fn report(&self) -> DecisionReport {
        let message = error_chain(self);
        DecisionReport {
            decision: DecisionKind::Hold,
            reason: reason::RESTORE_FAILED.to_owned(),
            message: format!("The restore failed and nothing was written to the data directory: {message}."),
        }
    }
}

/// Opens the location of `plan` with the credentials below `credentials_root`.
///
/// # Errors
/// [`BucketError`]; a directory that points out of `credentials_root` counts as missing credentials.
pub fn open_plan(plan: &RestorePlan, credentials_root: &Path) -> Result<Bucket, BucketError> {
    let dir = credentials_below(credentials_root, &plan.credentials_dir)?;
    Bucket::open(&plan.location, Credentials::read_dir(&dir)?)
}

/// The directory `named` below `root`; absolute names must lie below it as well.
pub(super) fn credentials_below(root: &Path, named: &str) -> Result<PathBuf, BucketError> {
    use std::path::Component;
    let named = Path::new(named);
    let below = if named.is_absolute() { named.strip_prefix(root).ok() } else { Some(named) };
    below
        .filter(|below| {
            below.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        })
        .map(|below| root.join(below))
        .ok_or_else(|| BucketError::CredentialsMissing {
            item: format!("directory {named:?}"),
            problem: format!("not below {root:?}"),
        })
}

/// Restores a backup as the module says. Safe to kill at any point, and to run again.
///
/// # Errors
/// [`RestoreError`]; nothing of the backup can be seen in the data directory then.
pub async fn restore_into(restore: Restore<'_>) -> Result<Restored, RestoreError> {
    let Restore { storage, bucket, plan, store_id, instance, dir, snapshot_name, progress, now_ms } = restore;
    let root = dir.parent().filter(|root| !root.as_os_str().is_empty()).ok_or_else(|| {
        RestoreError::NoSideDirectory {
            dir: dir.to_owned(),
            problem: "it has no parent directory".to_owned(),
        }
    })?;
    if let Some(identity) = refuse_data(&*storage, dir, store_id, plan.epoch)? {
        // The sync of an earlier run may be what failed.
        on_volume("sync", root, storage.sync_dir(root))?;
        return Ok(Restored::AlreadyDone { identity });
    }

    let backup = plan.backup_path.clone();
    let in_bucket = |source| RestoreError::Bucket { backup: backup.clone(), source: Box::new(source) };
    let manifest = bucket.read_manifest(&plan.backup_path).await.map_err(in_bucket)?;
    if manifest.store_id == store_id && manifest.epoch >= plan.epoch {
        return Err(RestoreError::EpochNotAbove {
            backup,
            backup_epoch: manifest.epoch,
            plan_epoch: plan.epoch,
        });
    }
    let file = base_of(&manifest, &backup)?;

    on_volume("create", root, storage.create_dir(root))?;
    remove_side_directories(&*storage, root)?;
    let needed = file.bytes.saturating_add(file.bytes / 20).saturating_add(SPACE_RESERVE_LEN);
    let available = on_volume("measure", root, storage.space(root))?.available;
    if available < needed {
        return Err(RestoreError::NoSpace { backup, needed, available });
    }

    let side = root.join(format!("{SIDE_PREFIX}restore-{}", plan.epoch));
    on_volume("create", &side, storage.create_dir(&side))?;
    progress.total.store(file.bytes, Ordering::Relaxed);
    progress.done.store(0, Ordering::Relaxed);
    let snapshot = side.join(snapshot_name);
    download(&storage, bucket, &backup, &file, &snapshot, progress).await?;
    check(&storage, &backup, &manifest, &snapshot).await?;

    let identity = Identity {
        version: IDENTITY_VERSION,
        store_id: store_id.to_owned(),
        instance: instance.to_owned(),
        epoch: plan.epoch,
        last_offset: manifest.offset,
        durable_offset: manifest.offset,
        granted: false,
        clean_shutdown: true,
        has_log: None,
        parent: Some(Parent {
            store_id: manifest.store_id.clone(),
            epoch: manifest.epoch,
            offset: manifest.offset,
            backup_path: Some(plan.backup_path.clone()),
        }),
        written_ms: now_ms,
    };
    // Syncs the side directory as well, and with it the name of the snapshot.
    on_volume("write the identity in", &side, write_identity(&*storage, &side, &identity))?;
    activate(&*storage, root, &side, dir, store_id, plan.epoch)?;
    tracing::info!(
        backup = %plan.backup_path, epoch = plan.epoch, keys = manifest.dataset.keys, bytes = file.bytes,
        "backup restored"
    );
    Ok(Restored::Done { identity, keys: manifest.dataset.keys, bytes: file.bytes })
}

/// `Some` when this restore is done already; an error when there is anything else.
fn refuse_data(
    storage: &dyn Storage,
    dir: &Path,
    store_id: &str,
    epoch: u64,
) -> Result<Option<Identity>, RestoreError> {
    let found = match inspect(storage, dir, None) {
        VolumeState::Empty => return Ok(None),
        VolumeState::Identity(identity) if identity.store_id == store_id && identity.epoch == epoch => {
            return Ok(Some(identity));
        }
        VolumeState::Identity(identity) => {
            format!("holds Store {} at epoch {}", identity.store_id, identity.epoch)
        }
        VolumeState::UnknownData { files } => {
            format!("holds files without an identity ({})", files.join(", "))
        }
        VolumeState::DamagedIdentity { why } => format!("cannot be understood ({why})"),
    };
    Err(RestoreError::VolumeNotEmpty { dir: dir.to_owned(), found })
}

fn base_of(manifest: &BackupManifest, backup: &str) -> Result<BackupFile, RestoreError> {
    manifest.files.iter().find(|file| file.name == BASE_FILE).cloned().ok_or_else(|| RestoreError::Damaged {
        backup: backup.to_owned(),
        problem: format!("its manifest names no {BASE_FILE:?}"),
    })
}

fn remove_side_directories(storage: &dyn Storage, root: &Path) -> Result<(), RestoreError> {
    let prefix = format!("{SIDE_PREFIX}restore-");
    for entry in on_volume("list", root, storage.list(root))? {
        if entry.is_directory && entry.name.starts_with(&prefix) {
            let left = root.join(&entry.name);
            tracing::info!(path = %left.display(), "removing what an earlier restore left");
            on_volume("remove", &left, storage.remove_dir_all(&left))?;
        }
    }
    Ok(())
}

/// Streams the base file to `path`, compares length and SHA-256, and syncs it.
async fn download(
    storage: &Arc<dyn Storage>,
    bucket: &Bucket,
    backup: &str,
    file: &BackupFile,
    path: &Path,
    progress: &RestoreProgress,
) -> Result<(), RestoreError> {
    let in_bucket = |source| RestoreError::Bucket { backup: backup.to_owned(), source: Box::new(source) };
    let damaged = |problem| RestoreError::Damaged { backup: backup.to_owned(), problem };
    let mut stream = bucket.get_stream(&format!("{backup}/{}", file.name)).await.map_err(in_bucket)?;
    if stream.bytes() != file.bytes {
        return Err(damaged(format!(
            "{:?} has {} bytes, its manifest says {}",
            file.name,
            stream.bytes(),
            file.bytes
        )));
    }
    let (sender, reader) = chunk_pipe();
    let writing = {
        let (storage, path) = (Arc::clone(storage), path.to_owned());
        tokio::task::spawn_blocking(move || write_file(&*storage, &path, reader))
    };
    let received = async {
        while let Some(chunk) = stream.next_chunk().await.map_err(in_bucket)? {
            let chunk_len = chunk.len() as u64;
            if sender.send(chunk).await.is_err() {
                // The writer has stopped, and its error says why.
                break;
            }
            progress.done.fetch_add(chunk_len, Ordering::Relaxed);
        }
        Ok(())
    }
    .await;
    drop(sender);
    let written = writing.await.map_err(|_| RestoreError::Interrupted)?;
    received?;
    let sha256 = written?;
    if sha256 == file.sha256 {
        return Ok(());
    }
    Err(damaged(format!("{:?} has SHA-256 {sha256}, its manifest says {}", file.name, file.sha256)))
}

fn write_file(storage: &dyn Storage, path: &Path, mut reader: impl Read) -> Result<String, RestoreError> {
    let mut file = on_volume("create", path, storage.create(path))?;
    let mut hash = Sha256::new();
    let mut buffer = Vec::with_capacity(WRITE_LEN);
    let mut synced_len = 0;
    loop {
        buffer.clear();
        let read = reader.by_ref().take(WRITE_LEN as u64).read_to_end(&mut buffer);
        if on_volume("receive", path, read)? == 0 {
            break;
        }
        hash.update(&buffer);
        on_volume("write", path, file.append(&buffer))?;
        if file.len() - synced_len >= SYNC_INTERVAL_LEN {
            on_volume("sync", path, file.syncer().sync())?;
            synced_len = file.len();
            file.forget_cached(synced_len);
        }
    }
    on_volume("sync", path, file.syncer().sync())?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The checking load of the file as it lies on the volume.
async fn check(
    storage: &Arc<dyn Storage>,
    backup: &str,
    manifest: &BackupManifest,
    path: &Path,
) -> Result<(), RestoreError> {
    let checking = {
        let (storage, path) = (Arc::clone(storage), path.to_owned());
        tokio::task::spawn_blocking(move || {
            let reader = on_volume("open", &path, storage.open_read(&path))?;
            Ok(check_rdb(reader))
        })
    };
    let checked = checking.await.map_err(|_| RestoreError::Interrupted)??;
    let checked = checked.map_err(|source| RestoreError::Unreadable { backup: backup.to_owned(), source })?;
    match checked.difference(manifest) {
        None => Ok(()),
        Some(problem) => Err(RestoreError::Damaged { backup: backup.to_owned(), problem }),
    }
}

/// The one step that makes the restored data the data of the volume.
fn activate(
    storage: &dyn Storage,
    root: &Path,
    side: &Path,
    dir: &Path,
    store_id: &str,
    epoch: u64,
) -> Result<(), RestoreError> {
    // Looked at again: a download takes minutes, and a rename replaces what an empty directory has become.
    if refuse_data(storage, dir, store_id, epoch)?.is_some() {
        return on_volume("remove", side, storage.remove_dir_all(side));
    }
    clear_leftovers(storage, dir)?;
    match storage.rename(side, dir) {
        Ok(()) => on_volume("sync", root, storage.sync_dir(root)),
        Err(error) if matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::CrossesDevices) => {
            Err(RestoreError::NoSideDirectory {
                dir: dir.to_owned(),
                problem: format!("it is a mount point itself ({error})"),
            })
        }
        Err(source) => Err(RestoreError::Volume { action: "activate", path: dir.to_owned(), source }),
    }
}

/// Removes what an interrupted start of ours left in a data directory without data, by name: a rename replaces only an
/// empty directory, and nothing that is not known to be ours is ever removed.
fn clear_leftovers(storage: &dyn Storage, dir: &Path) -> Result<(), RestoreError> {
    let entries = match storage.list(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(RestoreError::Volume { action: "list", path: dir.to_owned(), source }),
    };
    for entry in entries {
        let path = dir.join(&entry.name);
        let ours = entry.name == LOCK_FILE
            || [TEMP_PREFIX, SIDE_PREFIX].iter().any(|own| entry.name.starts_with(own));
        let removed = if entry.is_directory {
            let empty = on_volume("list", &path, storage.list(&path))?.is_empty();
            if !ours && (!empty || FILE_SYSTEM_NAMES.contains(&entry.name.as_str())) {
                return Err(RestoreError::NoSideDirectory {
                    dir: dir.to_owned(),
                    problem: format!("{:?} in it is not ours to remove", entry.name),
                });
            }
            storage.remove_dir_all(&path)
        } else if ours {
            storage.remove(&path)
        } else {
            Ok(())
        };
        on_volume("remove", &path, removed)?;
    }
    Ok(())
}

fn on_volume<T>(action: &'static str, path: &Path, result: io::Result<T>) -> Result<T, RestoreError> {
    result.map_err(|source| RestoreError::Volume { action, path: path.to_owned(), source })
}
