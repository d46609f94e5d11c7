//! Data files that this Store did not write and that were not loaded: they get another name and stay, and it is said.
//!
//! An older `dump.rdb`, copied in as guides to migration say, or the log that a server left behind when its log was
//! switched off, may be the only copy of something. Nothing here removes or overwrites a file.

use std::io;
use std::path::{Path, PathBuf};

use holdfast_contract::identity::Parent;

use super::snapshot::{BoxError, RdbReader, RdbVisitor, ReadRdbError, SnapshotAux};
use crate::clock::unix_ms;
use crate::engine::value::Entry;
use crate::storage::Storage;

/// What the new name begins with; the time in milliseconds and the old name follow.
const ASIDE_PREFIX: &str = "aside-";

/// Renames a file or directory to a name that nothing else has, durably, and returns that name.
///
/// # Errors
/// Whatever the file system says; the old name then stays, unless the last step failed, when either may.
pub(crate) fn set_aside(storage: &dyn Storage, path: &Path) -> io::Result<PathBuf> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let taken = storage.list(directory)?;
    let name_at = |ms: u64| format!("{ASIDE_PREFIX}{ms}-{name}");
    let mut ms = unix_ms();
    while taken.iter().any(|entry| entry.name == name_at(ms)) {
        ms += 1;
    }
    let kept_at = directory.join(name_at(ms));
    storage.rename(path, &kept_at)?;
    storage.sync_dir(directory)?;
    Ok(kept_at)
}

/// Whether a file with these fields holds data of Store `store_id`, or of the backup or volume that it was made from.
#[must_use]
pub(crate) fn is_kin(aux: &SnapshotAux, store_id: &str, parent: Option<&Parent>) -> bool {
    let Some(found) = &aux.store_id else { return false };
    // What the parent wrote after the copy is data that this Store never had.
    let is_of = |parent: &Parent| {
        *found == parent.store_id
            && aux.epoch.is_some_and(|epoch| epoch <= parent.epoch)
            && aux.offset.is_some_and(|offset| offset <= parent.offset)
    };
    found == store_id || parent.is_some_and(is_of)
}

/// Which snapshot may be replaced by the next one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replaceable {
    /// Where the data of this Store came from: see [`is_kin`].
    pub(crate) parent: Option<Parent>,
    /// Length and fields of the file that was loaded: what it held is in the data, whoever wrote it.
    pub(crate) loaded: Option<(u64, SnapshotAux)>,
}

/// Gives the file at `path` another name, unless the next snapshot of Store `store_id` may replace it.
///
/// # Errors
/// Whatever the file system says; the file is there then, under one of the two names.
pub(crate) fn make_way(
    storage: &dyn Storage,
    path: &Path,
    store_id: &str,
    replaceable: &Replaceable,
) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    let present = storage.list(directory)?;
    let found = present.iter().find(|entry| path.file_name().is_some_and(|name| *name == *entry.name));
    // A directory is not replaced by the rename that follows either.
    let Some(found) = found.filter(|entry| entry.len > 0 && !entry.is_directory) else { return Ok(()) };
    let aux = peek(storage, path).map(|peek| peek.aux).unwrap_or_default();
    let is_loaded = replaceable.loaded.as_ref().is_some_and(|loaded| *loaded == (found.len, aux.clone()));
    if is_loaded || is_kin(&aux, store_id, replaceable.parent.as_ref()) {
        return Ok(());
    }
    let kept_at = set_aside(storage, path)?;
    tracing::warn!(
        snapshot = ?path,
        ?kept_at,
        created_s = aux.created_s,
        "a snapshot that this server has neither written nor loaded is kept under another name; remove it when it is not \
         needed"
    );
    Ok(())
}

/// The auxiliary fields of an RDB, and whether there is anything in it.
///
/// # Errors
/// The file cannot be opened. A damaged file is no error: it shows when it is loaded.
pub(crate) fn peek(storage: &dyn Storage, path: &Path) -> io::Result<Peek> {
    let mut peek = Peek::default();
    let reader = storage.open_read(path)?;
    // The visitor stops at the first thing that is not an auxiliary field.
    peek.is_readable = match RdbReader::new(reader).read(&mut peek) {
        Ok(_) => true,
        Err(error) => matches!(error, ReadRdbError::Refused { .. }),
    };
    Ok(peek)
}

/// Reads the auxiliary fields and stops at what follows them.
#[derive(Debug, Default)]
pub(crate) struct Peek {
    pub(crate) aux: SnapshotAux,
    /// There is at least one key.
    pub(crate) has_keys: bool,
    /// What was read of it is an RDB.
    pub(crate) is_readable: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the auxiliary fields have ended")]
struct PeekEnded;

impl RdbVisitor for Peek {
    fn aux(&mut self, name: &str, value: &str) -> Result<(), BoxError> {
        self.aux.set(name, value);
        Ok(())
    }

    fn size_hint(&mut self, _db: u32, keys: u64, _expiring: u64) -> Result<(), BoxError> {
        // The first value may be large, and nothing of it is wanted.
        if keys == 0 {
            return Ok(());
        }
        self.has_keys = true;
        Err(PeekEnded.into())
    }

    fn entry(&mut self, _entry: Entry) -> Result<(), BoxError> {
        self.has_keys = true;
        Err(PeekEnded.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryDisk;

    const STORE: &str = "6f1c2b7e-8a55-4d0e-9d5e-0c8f4ad2b611";

    fn parent() -> Parent {
        Parent { store_id: "source".to_owned(), epoch: 3, offset: 100, backup_path: None }
    }

    fn aux(store_id: &str, epoch: u64, offset: u64) -> SnapshotAux {
        SnapshotAux {
            store_id: Some(store_id.to_owned()),
            epoch: Some(epoch),
            offset: Some(offset),
            ..SnapshotAux::default()
        }
    }

    #[test]
    fn only_what_the_store_has_had_is_its_kin() {
        let check = |aux: &SnapshotAux, expected: bool| {
            assert_eq!(is_kin(aux, STORE, Some(&parent())), expected, "{aux:?}");
        };
        check(&aux(STORE, 9, 900), true);
        check(&aux("source", 3, 100), true);
        check(&aux("source", 2, 50), true);
        check(&aux("source", 3, 101), false);
        check(&aux("source", 4, 1), false);
        check(&aux("another", 1, 1), false);
        check(&SnapshotAux::default(), false);
        assert!(!is_kin(&aux("source", 3, 100), STORE, None));
    }

    #[test]
    fn a_file_that_is_set_aside_replaces_no_other() {
        let disk = MemoryDisk::new();
        let path = Path::new("/data/dump.rdb");
        let mut kept = Vec::new();
        for contents in [&b"one"[..], b"two", b"three"] {
            disk.put(path, contents);
            kept.push((set_aside(&disk, path).unwrap(), contents.to_vec()));
        }
        kept.sort();
        assert_eq!(disk.files(), kept);
    }
}
