//! The real file system.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Once};

use super::{DirectoryEntry, FileSync, Space, Storage, StorageFile, StorageLock, StorageReader};

/// The file system of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

struct DiskFile {
    file: Arc<File>,
    len: u64,
}

struct DiskSync(Arc<File>);

struct DiskLock {
    _file: File,
}

impl StorageLock for DiskLock {}

impl FileSync for DiskSync {
    fn sync(&self) -> io::Result<()> {
        // fdatasync: the length is metadata that is needed to read the data back, so it is synced as well.
        self.0.sync_data()
    }
}

impl StorageFile for DiskFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&*self.file).write_all(bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn syncer(&self) -> Arc<dyn FileSync> {
        Arc::new(DiskSync(Arc::clone(&self.file)))
    }

    fn forget_cached(&self, len: u64) {
        // A hint only: a file system that does not know it loses nothing.
        let _ =
            rustix::fs::fadvise(&*self.file, 0, std::num::NonZeroU64::new(len), rustix::fs::Advice::DontNeed);
    }
}

/// Whether an error of the sync of a directory says that the file system has no such thing, as CIFS and some of FUSE do.
/// Redis goes on as well (`util.c`, `fsyncFileDir`).
fn is_unsupported(error: &io::Error) -> bool {
    [rustix::io::Errno::INVAL, rustix::io::Errno::BADF, rustix::io::Errno::NOTSUP]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

impl Storage for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        Ok(Box::new(DiskFile { file: Arc::new(file), len: 0 }))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let file = OpenOptions::new().append(true).open(path)?;
        let len = file.metadata()?.len();
        Ok(Box::new(DiskFile { file: Arc::new(file), len }))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn StorageReader>> {
        let file = File::open(path)?;
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
        Ok(Box::new(file))
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(len)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                // Removed between the listing and the look.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            entries.push(DirectoryEntry {
                name: entry.file_name().to_string_lossy().into_owned(),
                is_directory: metadata.is_dir(),
                len: if metadata.is_dir() { 0 } else { metadata.len() },
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let result = File::open(path)?.sync_all();
        if result.as_ref().is_err_and(is_unsupported) {
            static TOLD: Once = Once::new();
            TOLD.call_once(|| {
                tracing::warn!(
                    ?path,
                    "the file system of this directory cannot sync directories: files that were created or renamed last may be \
                     lost or have their old names after a power cut"
                );
            });
            return Ok(());
        }
        result
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn StorageLock>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Box::new(DiskLock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(io::Error::new(io::ErrorKind::WouldBlock, "another process holds the lock"))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Space { total: bytes(stat.f_blocks), available: bytes(stat.f_bavail) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_that_there_is_no_sync_of_directories_is_passed_over() {
        let check = |errno: rustix::io::Errno, expected: bool| {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(is_unsupported(&error), expected, "{error}");
        };
        check(rustix::io::Errno::INVAL, true);
        check(rustix::io::Errno::BADF, true);
        check(rustix::io::Errno::NOTSUP, true);
        check(rustix::io::Errno::IO, false);
        check(rustix::io::Errno::NOSPC, false);
        check(rustix::io::Errno::DQUOT, false);
        check(rustix::io::Errno::NOENT, false);
        assert!(!is_unsupported(&io::Error::other("no number")));
    }
}
