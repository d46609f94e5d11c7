//! Looks at a data directory and says what it holds, without changing anything.
//!
//! In Kubernetes the volume is mounted one level above the data directory (`/data`, with `dir /data/store`), because a
//! restore is activated by renaming a directory, and a mount point cannot be renamed. So two places are looked at: the
//! data directory, and the root of the volume when it is known. Files in the root that are not ours are somebody's
//! data as well, and make a volume that is not empty.

use std::io;
use std::path::Path;

use super::decide::VolumeState;
use crate::persistence::identity::read_identity;
use crate::storage::{DirectoryEntry, LOCK_FILE, SIDE_PREFIX, Storage, TEMP_PREFIX};

/// Names that a file system or a storage driver puts into a volume by itself.
pub(super) const FILE_SYSTEM_NAMES: [&str; 2] = ["lost+found", ".snapshot"];
/// Names in [`VolumeState::UnknownData`] at most.
const NAMES_MAX: usize = 5;

/// Says what data directory `dir` holds. `root` is the root of its volume, when the volume is only for this server.
///
/// A directory that does not exist is empty; one that cannot be read is [`VolumeState::DamagedIdentity`]: nothing is
/// known of it, so nothing may be done with it.
#[must_use]
pub fn inspect(storage: &dyn Storage, dir: &Path, root: Option<&Path>) -> VolumeState {
    match read_identity(storage, dir) {
        Ok(Some(identity)) => return VolumeState::Identity(identity),
        Ok(None) => {}
        Err(error) => return VolumeState::DamagedIdentity { why: error.to_string() },
    }
    let mut files = Vec::new();
    let own_name = dir.file_name().map(|name| name.to_string_lossy().into_owned());
    for place in std::iter::once(dir).chain(root) {
        match data_in(storage, place) {
            Ok(names) if place == dir => files.extend(names),
            Ok(names) => files.extend(names.into_iter().filter(|name| Some(name) != own_name.as_ref())),
            Err(error) => {
                return VolumeState::DamagedIdentity { why: format!("cannot list {place:?}: {error}") };
            }
        }
    }
    if files.is_empty() {
        return VolumeState::Empty;
    }
    let left_out = files.len().saturating_sub(NAMES_MAX);
    files.truncate(NAMES_MAX);
    if left_out > 0 {
        files.push(format!("{left_out} more"));
    }
    VolumeState::UnknownData { files }
}

/// Names in `place` that may be data. An empty directory is none.
fn data_in(storage: &dyn Storage, place: &Path) -> io::Result<Vec<String>> {
    let entries = match storage.list(place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for DirectoryEntry { name, is_directory, .. } in entries {
        let ours = name.starts_with(SIDE_PREFIX) || (!is_directory && name.starts_with(TEMP_PREFIX));
        if ours || name == LOCK_FILE || FILE_SYSTEM_NAMES.contains(&name.as_str()) {
            continue;
        }
        // One that cannot be listed may hold anything.
        if is_directory && storage.list(&place.join(&name)).is_ok_and(|entries| entries.is_empty()) {
            continue;
        }
        names.push(name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::identity::write_identity;
    use crate::storage::disk::Disk;
    use crate::storage::memory::MemoryDisk;
    use holdfast_contract::identity::Identity;

    fn check(files: &[&str], expected: &[&str]) {
        let disk = MemoryDisk::new();
        disk.put(Path::new("/data/.holdfast-marker"), b"");
        for file in files {
            disk.put(&Path::new("/data").join(file), b"x");
        }
        let found = inspect(&disk, Path::new("/data/store"), Some(Path::new("/data")));
        let expected = match expected {
            [] => VolumeState::Empty,
            files => {
                VolumeState::UnknownData { files: files.iter().map(|file| (*file).to_owned()).collect() }
            }
        };
        assert_eq!(found, expected, "{files:?}");
    }

    #[test]
    fn what_holds_no_data_is_empty_and_everything_else_is_data() {
        check(&[], &[]);
        check(&["lost+found/#12"], &[]);
        check(&[".snapshot/hourly/x"], &[]);
        check(&["store/holdfast.lock"], &[]);
        check(&["store/temp-holdfast-identity.json"], &[]);
        check(&[".holdfast-restore-2/dump.rdb"], &[]);
        check(&["store/.holdfast-backup-1.rdb"], &[]);
        check(&["store/dump.rdb"], &["dump.rdb"]);
        check(&["store/appendonlydir/appendonly.aof.manifest"], &["appendonlydir"]);
        check(&["dump.rdb"], &["dump.rdb"]);
        check(&["other/file"], &["other"]);
        check(&["store/a", "b"], &["a", "b"]);
        check(&["1", "2", "3", "4", "5", "6", "7"], &["1", "2", "3", "4", "5", "2 more"]);
    }

    #[test]
    fn an_identity_wins_over_files_and_a_damaged_one_is_told() {
        let disk = MemoryDisk::new();
        let dir = Path::new("/data/store");
        disk.put(&dir.join("dump.rdb"), b"");
        let identity = Identity {
            version: 1,
            store_id: "s".into(),
            instance: "i".into(),
            epoch: 1,
            last_offset: 0,
            durable_offset: 0,
            granted: false,
            clean_shutdown: false,
            has_log: None,
            parent: None,
            written_ms: 0,
        };
        write_identity(&disk, dir, &identity).unwrap();
        assert_eq!(inspect(&disk, dir, None), VolumeState::Identity(identity));
        disk.put(&dir.join("holdfast-identity.json"), b"{}");
        assert!(matches!(inspect(&disk, dir, None), VolumeState::DamagedIdentity { .. }));
    }

    #[test]
    fn a_directory_that_cannot_be_read_is_not_empty() {
        use std::os::unix::ffi::OsStrExt as _;
        let dir = tempfile::tempdir().unwrap();
        // Its name as text leads nowhere.
        std::fs::create_dir(dir.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"))).unwrap();
        assert_eq!(
            inspect(&Disk, dir.path(), None),
            VolumeState::UnknownData { files: vec!["caf\u{fffd}".into()] }
        );
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store");
        std::fs::write(&file, b"a file where a directory should be").unwrap();
        assert!(matches!(inspect(&Disk, &file, None), VolumeState::DamagedIdentity { .. }));
        assert_eq!(inspect(&Disk, &dir.path().join("absent"), None), VolumeState::Empty);
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        assert_eq!(
            inspect(&Disk, &dir.path().join("new"), Some(dir.path())),
            VolumeState::UnknownData { files: vec!["store".into()] }
        );
    }
}
