//! The mark that says of the files in a data directory that a write or sync of them has failed.
//!
//! After a failed sync the page cache may hold, as if they were written, bytes that never reach the disk: a process that
//! starts on the same machine reads them, and no sync of the same file makes them durable. So the next load writes everything
//! again, and trusts the files from then on. The mark need not be durable itself, because a machine that went down has no such
//! cache.

use std::path::{Path, PathBuf};

use crate::storage::{SIDE_PREFIX, Storage};

fn mark(dir: &Path) -> PathBuf {
    dir.join(format!("{SIDE_PREFIX}storage-failed"))
}

/// Remembers that a write or sync has failed, so that the next load of `dir` writes everything again.
pub fn distrust(storage: &dyn Storage, dir: &Path) {
    let path = mark(dir);
    if let Err(error) = storage.create(&path) {
        tracing::error!(
            ?path,
            %error,
            "failed to note that the storage failed: restart the machine, not only the server, before it is used again"
        );
    }
}

/// Whether a write or sync has failed since everything in `dir` was written.
pub(crate) fn is_distrusted(storage: &dyn Storage, dir: &Path) -> bool {
    storage.open_read(&mark(dir)).is_ok()
}

/// Everything in `dir` was written again.
///
/// # Errors
/// Why the mark cannot be removed, as text.
pub(crate) fn trust(storage: &dyn Storage, dir: &Path) -> Result<(), String> {
    let path = mark(dir);
    storage.remove(&path).map_err(|error| format!("failed to remove {path:?}: {error}"))
}
