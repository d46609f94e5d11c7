//! The storage seam: everything that persistence does to files goes through [`Storage`], so that tests can put a
//! simulated disk below it that forgets what was not synced ([`memory`]).
//!
//! The contract is that of a POSIX file system with a volatile cache: bytes are on stable storage after
//! [`FileSync::sync`] of their file, and a name (created, renamed, removed) only after [`Storage::sync_dir`] of its
//! directory.

pub mod disk;
#[cfg(any(test, feature = "testing"))]
pub mod memory;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use holdfast_contract::identity::IDENTITY_FILE;

/// A file opened for appending. Dropping it closes it without syncing.
pub trait StorageFile: Send {
    /// Appends all of `bytes` and returns when they are with the kernel.
    ///
    /// # Errors
    /// Whatever the file system says. The file may then end in a part of `bytes`.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Length of the file in bytes, appended bytes included.
    fn len(&self) -> u64;

    /// True when nothing has been written.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The handle that syncs this file, also from another thread.
    fn syncer(&self) -> Arc<dyn FileSync>;

    /// Hints that the first `len` bytes will not be read soon, so that the page cache can let them go.
    fn forget_cached(&self, _len: u64) {}
}

/// A file opened for reading.
pub trait StorageReader: io::Read + io::Seek + Send {}

impl<T: io::Read + io::Seek + Send> StorageReader for T {}

/// Syncs one open file.
pub trait FileSync: Send + Sync {
    /// Returns when every byte appended before the call is on stable storage.
    ///
    /// # Errors
    /// Whatever the file system says. After an error the fate of the unsynced bytes is unknown for good: a later sync
    /// of the same file proves nothing about them.
    fn sync(&self) -> io::Result<()>;
}

/// Syncs a file on behalf of several threads: once a sync has failed, all others fail, those that were waiting included.
///
/// The kernel reports an error of write-back once for each open file, to whoever syncs next (`errseq_t`; Linux,
/// `Documentation/filesystems/vfs.rst`, "Handling errors during writeback"). Another thread that syncs the same open file is then
/// told that all is well.
pub(crate) struct SharedSync {
    file: Arc<dyn FileSync>,
    has_failed: Mutex<bool>,
}

impl SharedSync {
    pub(crate) fn new(file: Arc<dyn FileSync>) -> Self {
        Self { file, has_failed: Mutex::new(false) }
    }
}

impl FileSync for SharedSync {
    fn sync(&self) -> io::Result<()> {
        // Order matters: one sync at a time, because only how this one ends says whether the next proves anything.
        let mut has_failed = self.has_failed.lock().unwrap_or_else(PoisonError::into_inner);
        if *has_failed {
            return Err(io::Error::other("an earlier sync of this file has failed"));
        }
        // A sync that panics has proven nothing either.
        *has_failed = true;
        let result = self.file.sync();
        *has_failed = result.is_err();
        result
    }
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Name without the directory.
    pub name: String,
    /// True for a directory.
    pub(crate) is_directory: bool,
    /// Size in bytes; 0 for a directory.
    pub len: u64,
}

/// Size of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Size of the file system in bytes.
    pub total: u64,
    /// Bytes that this process may still use.
    pub(crate) available: u64,
}

impl Space {
    /// How much of the volume is in use, in percent, rounded up; 0 for a volume without a size.
    #[must_use]
    pub(crate) fn used_percentage(self) -> u64 {
        let free = (u128::from(self.available.min(self.total)) * 100).checked_div(self.total.into());
        free.map_or(0, |free| 100_u64.saturating_sub(u64::try_from(free).unwrap_or(100)))
    }
}

/// Keeps a lock until it is dropped.
pub trait StorageLock: Send + Sync {}

/// A file system, as far as persistence uses one.
pub trait Storage: Send + Sync {
    /// Creates (or empties) a file for writing.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>>;

    /// Opens an existing file for appending.
    ///
    /// # Errors
    /// `NotFound` when there is none; whatever else the file system says.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn StorageFile>>;

    /// Opens an existing file for reading from its start.
    ///
    /// # Errors
    /// `NotFound` when there is none; whatever else the file system says.
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn StorageReader>>;

    /// Cuts a file to `len` bytes and syncs it.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()>;

    /// Renames a file or directory, replacing a file or an empty directory at `to`.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound` when there is none; whatever else the file system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory and those above it; one that exists is no error.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with everything in it; one that does not exist is no error.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// `NotFound` when there is no such directory; whatever else the file system says.
    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>>;

    /// Returns when the names in a directory are on stable storage.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes the exclusive lock of `path`, which is created when missing.
    ///
    /// # Errors
    /// `WouldBlock` when another process (or another holder in this one) has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn StorageLock>>;

    /// Size of the volume that holds `path`.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn space(&self, path: &Path) -> io::Result<Space>;
}

/// Reads a whole file of at most `len_max` bytes.
///
/// # Errors
/// `FileTooLarge` when it is longer; whatever else the file system says.
pub fn read_all(storage: &dyn Storage, path: &Path, len_max: u64) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    storage.open_read(path)?.take(len_max + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > len_max) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {len_max} bytes")));
    }
    Ok(bytes)
}

/// Creates a directory and those above it, with durable names; one that exists is no error.
///
/// The name of an existing directory is synced as well: who made it may have died before.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn create_dir_durably(storage: &dyn Storage, path: &Path) -> io::Result<()> {
    let parent_of = |path: &Path| match path.parent() {
        None => None,
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        Some(parent) => Some(parent.to_owned()),
    };
    let is_missing =
        |path: &Path| storage.list(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    let mut missing = Vec::new();
    let mut next = Some(path.to_owned());
    while let Some(directory) = next.filter(|directory| is_missing(directory)) {
        next = parent_of(&directory);
        missing.push(directory);
    }
    if missing.is_empty() {
        let Some(parent) = parent_of(path) else { return Ok(()) };
        return match storage.sync_dir(&parent) {
            // Whoever may not look into the parent has not made the directory.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            result => result,
        };
    }
    storage.create_dir(path)?;
    missing.iter().rev().filter_map(|made| parent_of(made)).try_for_each(|parent| storage.sync_dir(&parent))
}

/// Replaces a small file atomically and durably: write aside, sync, rename, sync the directory.
///
/// Order matters: a crash at any point leaves the old or the new contents under the name.
///
/// # Errors
/// Whatever the file system says; the old contents then stay, unless the last step failed, when either may.
pub(crate) fn replace_file(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let aside = directory.join(format!("{TEMP_PREFIX}{name}"));
    let mut file = storage.create(&aside)?;
    file.append(bytes)?;
    file.syncer().sync()?;
    drop(file);
    storage.rename(&aside, path)?;
    storage.sync_dir(directory)
}

/// Prefix of files that are not finished: removed at start, never read.
pub(crate) const TEMP_PREFIX: &str = "temp-";
/// Prefix of side directories and temporary files of backup and restore. Never data of record.
pub(crate) const SIDE_PREFIX: &str = ".holdfast-";
/// Name of the file whose lock makes a process the owner of a data directory. Holds no data.
pub(crate) const LOCK_FILE: &str = "holdfast.lock";

/// Whether the server has files of this name for itself, so that no snapshot and no log may be called so: they would be
/// removed at a start, or overwritten.
pub(crate) fn is_own_name(name: &str) -> bool {
    [TEMP_PREFIX, SIDE_PREFIX].iter().any(|prefix| name.starts_with(prefix))
        || [LOCK_FILE, IDENTITY_FILE].contains(&name)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Fails once, when it is allowed to end, as a kernel reports an error once.
    struct FailsOnce {
        begun: Sender<()>,
        may_end: Mutex<Option<Receiver<()>>>,
    }

    impl FileSync for FailsOnce {
        fn sync(&self) -> io::Result<()> {
            self.begun.send(()).unwrap();
            let Some(may_end) = self.may_end.lock().unwrap().take() else { return Ok(()) };
            may_end.recv().unwrap();
            Err(io::ErrorKind::Other.into())
        }
    }

    #[test]
    fn the_use_of_a_volume_has_no_size_at_which_it_wraps() {
        let check = |total, available, expected| {
            assert_eq!(Space { total, available }.used_percentage(), expected, "{available} of {total}");
        };
        check(0, 0, 0);
        check(1000, 1000, 0);
        check(1000, 995, 1);
        check(1000, 0, 100);
        // Quotas and compression may tell of more room than there is in all.
        check(1000, 5000, 0);
        check(u64::MAX, u64::MAX / 2, 51);
        check(1 << 60, 1 << 59, 50);
    }

    #[test]
    fn a_failed_sync_fails_the_concurrent_and_the_later_ones() {
        let (begun, begins) = channel();
        let (end, may_end) = channel();
        let syncer = SharedSync::new(Arc::new(FailsOnce { begun, may_end: Mutex::new(Some(may_end)) }));
        std::thread::scope(|scope| {
            let first = scope.spawn(|| syncer.sync());
            begins.recv().unwrap();
            let second = scope.spawn(|| syncer.sync());
            end.send(()).unwrap();
            first.join().unwrap().unwrap_err();
            second.join().unwrap().unwrap_err();
        });
        syncer.sync().unwrap_err();
        assert!(begins.try_recv().is_err(), "the file is not synced again");
    }
}
