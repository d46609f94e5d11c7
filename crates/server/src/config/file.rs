//! `CONFIG REWRITE` on the file system: the file is replaced whole, and stays whose and how it was.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use super::include::read_files;
use super::rewrite::{RewriteExtent, RewriteTextError, rewrite};
use super::settings::Config;

/// Mode of a file that was not there: it may hold the password.
const MODE_NEW: u32 = 0o600;
/// Links that are followed one behind the other, as in the kernel.
const LINKS_MAX: usize = 40;

/// Why the file was not rewritten. It is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RewriteError {
    /// There is none.
    #[error("The server is running without a config file")]
    NoFile,
    /// It cannot be read, or its links cannot be followed.
    #[error("failed to read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Its text does not allow it.
    #[error(transparent)]
    Text(#[from] RewriteTextError),
    /// The new file cannot be given to the owner of the old one.
    #[error("the file belongs to user {uid}, group {gid}, and a new one cannot be given to them")]
    Owner {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
        /// What the operating system said.
        source: io::Error,
    },
    /// The new file cannot be written, or not put in the place of the old one.
    #[error("failed to replace {path:?}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Rewrites the file that the configuration came from, and returns its path.
///
/// A symbolic link is followed and stays. Mode and owner stay. At every moment the name stands for the old or the new
/// file, whole, and when this returns the new one is on stable storage.
/// # Errors
/// [`RewriteError`].
pub(crate) fn rewrite_file(config: &Config, extent: RewriteExtent) -> Result<PathBuf, RewriteError> {
    let path = config.file.as_deref().ok_or(RewriteError::NoFile)?;
    let read_error = |source| RewriteError::Read { path: path.to_owned(), source };
    let target = follow(path).map_err(read_error)?;
    let (original, before) = match fs::read(&target) {
        Ok(text) => (text, Some(fs::metadata(&target).map_err(read_error)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), None),
        Err(error) => return Err(read_error(error)),
    };
    let text = rewrite(config, &original, extent, &mut read_files)?;
    let temp = temp_path(&target);
    let result = write(&temp, &text, before.as_ref()).and_then(|()| {
        let placed = fs::rename(&temp, &target).and_then(|()| File::open(directory_of(&target))?.sync_all());
        placed.map_err(|source| RewriteError::Write { path: target.clone(), source })
    });
    if result.is_err() {
        // Gone already if the rename was made. One that stays is only waste, and is replaced the next time.
        let _ = fs::remove_file(&temp);
    }
    result.map(|()| target)
}

/// The file behind all links, which need not exist.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            Ok(target) => path = directory_of(&path).join(target),
            // No link, or nothing there.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many links one behind the other"))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn temp_path(target: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(".rewrite");
    target.with_file_name(name)
}

fn write(temp: &Path, text: &[u8], before: Option<&fs::Metadata>) -> Result<(), RewriteError> {
    let failed = |source| RewriteError::Write { path: temp.to_owned(), source };
    match fs::remove_file(temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // Nobody else may read it before it has the mode of the old one.
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(MODE_NEW).open(temp).map_err(failed)?;
    file.write_all(text).map_err(failed)?;
    if let Some(before) = before {
        let (uid, gid) = (before.uid(), before.gid());
        let now = file.metadata().map_err(failed)?;
        if (now.uid(), now.gid()) != (uid, gid) {
            fchown(&file, Some(uid), Some(gid)).map_err(|source| RewriteError::Owner { uid, gid, source })?;
        }
        // Behind the change of owner, which clears bits of the mode.
        file.set_permissions(Permissions::from_mode(before.mode() & 0o7777)).map_err(failed)?;
    }
    file.sync_all().map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn config(file: &Path, hz: u32) -> Config {
        Config { file: Some(file.to_owned()), hz, ..Config::default() }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_link_stays_a_link_and_its_target_is_rewritten() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir(&real).unwrap();
        fs::write(real.join("store.conf"), "hz 5\n").unwrap();
        symlink("store.conf", real.join("inner.conf")).unwrap();
        let link = dir.path().join("link.conf");
        symlink("real/inner.conf", &link).unwrap();
        assert_eq!(
            rewrite_file(&config(&link, 20), RewriteExtent::Changed).unwrap(),
            real.join("store.conf")
        );
        for link in [&link, &real.join("inner.conf")] {
            assert!(fs::symlink_metadata(link).unwrap().is_symlink(), "{link:?}");
        }
        assert_eq!(fs::read_to_string(real.join("store.conf")).unwrap(), "hz 20\n");
        let names: Vec<_> = fs::read_dir(&real).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "nothing else is left: {names:?}");
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        symlink(&b, &a).unwrap();
        symlink(&a, &b).unwrap();
        assert!(matches!(
            rewrite_file(&config(&a, 20), RewriteExtent::Changed),
            Err(RewriteError::Read { .. })
        ));
    }

    #[test]
    fn the_mode_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.conf");
        for expected in [0o600, 0o640, 0o664, 0o400] {
            let _ = fs::remove_file(&path);
            fs::write(&path, "requirepass secret\n").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(expected)).unwrap();
            let requirepass = crate::config::secret::Secret::new("secret");
            rewrite_file(&Config { requirepass, ..config(&path, 20) }, RewriteExtent::Changed).unwrap();
            assert_eq!(mode(&path), expected, "{expected:o}");
            assert!(fs::read_to_string(&path).unwrap().ends_with("hz 20\n"));
        }
        fs::remove_file(&path).unwrap();
        rewrite_file(&config(&path, 20), RewriteExtent::Changed).unwrap();
        assert_eq!(mode(&path), MODE_NEW, "a file that was not there");
    }

    /// Only root may give a file away; others keep their own, which the tests above show.
    #[test]
    fn the_owner_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.conf");
        fs::write(&path, "hz 5\n").unwrap();
        let own = fs::metadata(&path).unwrap().uid();
        let (uid, gid) = if own == 0 { (4321, 8765) } else { (own, fs::metadata(&path).unwrap().gid()) };
        fchown(File::open(&path).unwrap(), Some(uid), Some(gid)).unwrap();
        rewrite_file(&config(&path, 20), RewriteExtent::Changed).unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_eq!((after.uid(), after.gid()), (uid, gid));
    }

    #[test]
    fn bytes_that_are_not_utf8_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.conf");
        fs::write(&path, b"# M\xfcller\r\nhz 5\r\nsyslog-ident caf\xe9").unwrap();
        rewrite_file(&config(&path, 20), RewriteExtent::Changed).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"# M\xfcller\r\nhz 20\r\nsyslog-ident caf\xe9\n");
    }

    #[test]
    fn a_file_that_cannot_be_replaced_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.conf");
        fs::write(&path, "hz abc\n").unwrap();
        assert!(matches!(
            rewrite_file(&config(&path, 20), RewriteExtent::Changed),
            Err(RewriteError::Text(RewriteTextError::Original(_)))
        ));
        fs::write(&path, "hz 5\n").unwrap();
        // In the way of the temporary file.
        fs::create_dir(temp_path(&path)).unwrap();
        assert!(matches!(
            rewrite_file(&config(&path, 20), RewriteExtent::Changed),
            Err(RewriteError::Write { .. })
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "hz 5\n");
        assert!(matches!(
            rewrite_file(&Config::default(), RewriteExtent::Changed),
            Err(RewriteError::NoFile)
        ));
    }
}
