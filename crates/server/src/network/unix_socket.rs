//! The listening socket of `unixsocket` and `unixsocketperm`, and its file.
//!
//! The file stays behind when a process is killed. Redis removes whatever is in its place; here only a socket at which nobody
//! listens is removed.

use std::fs::{self, File, FileType, OpenOptions, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

/// Longest path in the address of a Unix socket, in bytes. Source: unix(7), `sun_path`, without its final zero.
const PATH_LEN_MAX: usize = 107;
/// Longest wait for another process that has locked the directory. A server that opens its socket takes milliseconds.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);
/// Pause between two attempts to lock the directory.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Why there is no Unix socket. What it is about, the path, is named by whoever asked for it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The path is longer than the address of a socket.
    #[error("the path has {len} bytes, and that of a socket has at most {max}: choose a shorter one", max = PATH_LEN_MAX)]
    PathTooLong { len: usize },
    /// What is in its place cannot be seen.
    #[error("failed to look at what is there")]
    Inspect(#[source] io::Error),
    /// Something else is in its place.
    #[error(
        "{kind} is there, and only a socket that nobody listens at is replaced: remove it, or change unixsocket"
    )]
    Occupied { kind: &'static str },
    /// Somebody listens there.
    #[error("another process listens there: stop it, or change unixsocket")]
    InUse,
    /// It cannot be learnt whether somebody listens there.
    #[error("failed to learn whether another process listens there")]
    Probe(#[source] io::Error),
    /// The socket of a process that is gone cannot be removed.
    #[error("failed to remove the socket of a process that is gone")]
    RemoveStale(#[source] io::Error),
    /// The operating system refuses the socket.
    #[error("failed to bind")]
    Bind(#[source] io::Error),
    /// The permissions of the file cannot be set.
    #[error("failed to set the permissions {mode:o}")]
    SetPermissions { mode: u32, source: io::Error },
    /// The operating system does not let it accept connections.
    #[error("failed to listen")]
    Listen(#[source] io::Error),
}

/// A listening Unix socket.
#[derive(Debug)]
pub(crate) struct UnixSocket {
    // Order matters: the file goes first. While the socket is there, no other file has its inode number.
    pub(crate) file: SocketFile,
    pub(crate) listener: UnixListener,
    /// The path as the configuration has it.
    pub(crate) name: Arc<str>,
}

/// The file of a socket. It goes when this is dropped, unless another is in its place by then.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl UnixSocket {
    /// Opens a non-blocking listening socket at `path`. `mode` are the permissions of the file; 0: what the umask leaves.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed then, but for a stale socket.
    pub(crate) fn open(path: &Path, name: &Path, mode: u32, backlog: u32) -> Result<Self, OpenError> {
        let len = path.as_os_str().as_bytes().len();
        if len > PATH_LEN_MAX {
            return Err(OpenError::PathTooLong { len });
        }
        // Order matters: between `bind` and `listen` the socket looks stale to another server that starts at the same time.
        let _lock = lock_directory(path);
        // A path that names no file, because of a zero byte, is refused here as well.
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.file_type().is_socket() => remove_stale(path)?,
            Ok(metadata) => return Err(OpenError::Occupied { kind: kind_of(metadata.file_type()) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(OpenError::Inspect(error)),
        }
        let socket = socket().map_err(OpenError::Bind)?;
        socket.bind(&SockAddr::unix(path).map_err(OpenError::Bind)?).map_err(OpenError::Bind)?;
        let file = SocketFile::of(path).map_err(OpenError::Inspect)?;
        // Order matters: nobody can connect before `listen`, so nobody does by what the umask has left.
        if mode != 0 {
            fs::set_permissions(path, Permissions::from_mode(mode))
                .map_err(|source| OpenError::SetPermissions { mode, source })?;
        }
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX)).map_err(OpenError::Listen)?;
        Ok(Self { file, listener: OwnedFd::from(socket).into(), name: name.to_string_lossy().into() })
    }
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = |metadata: fs::Metadata| (metadata.dev(), metadata.ino()) == (self.device, self.inode);
        if !fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            return;
        }
        tracing::info!(path = ?self.path, "removing the file of the Unix socket");
        if let Err(error) = fs::remove_file(&self.path) {
            // The next start replaces it.
            tracing::warn!(path = ?self.path, %error, "failed to remove the file of the Unix socket");
        }
    }
}

/// Locks the directory of a socket against other servers that open theirs; the lock ends with the file. Best effort: there is
/// none where the directory cannot be read, or where somebody else holds the lock for longer than [`LOCK_WAIT_MAX`].
fn lock_directory(path: &Path) -> Option<File> {
    let directory =
        OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path.parent()?).ok()?;
    let deadline = Instant::now() + LOCK_WAIT_MAX;
    loop {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(directory),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(LOCK_PAUSE),
            Err(_) => return None,
        }
    }
}

fn socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Removes a socket at which nobody listens.
fn remove_stale(path: &Path) -> Result<(), OpenError> {
    let probe = socket().map_err(OpenError::Probe)?;
    let address = SockAddr::unix(path).map_err(OpenError::Probe)?;
    let error = match probe.connect(&address) {
        Ok(()) => return Err(OpenError::InUse),
        Err(error) => error,
    };
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(OpenError::RemoveStale(error)),
            _ => {
                tracing::info!(?path, "the Unix socket of a process that is gone was removed");
                Ok(())
            }
        },
        // It was removed meanwhile.
        Some(libc::ENOENT) => Ok(()),
        // Too many wait to be accepted, or the socket is of another type.
        Some(libc::EAGAIN | libc::EPROTOTYPE) => Err(OpenError::InUse),
        _ => Err(OpenError::Probe(error)),
    }
}

fn kind_of(kind: FileType) -> &'static str {
    if kind.is_file() {
        "a file"
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else {
        "a pipe or device"
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    fn open(path: &Path, mode: u32) -> Result<UnixSocket, OpenError> {
        UnixSocket::open(path, Path::new("as/written"), mode, 16)
    }

    #[test]
    fn the_file_has_its_permissions_and_goes_with_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let mode = || fs::symlink_metadata(&path).unwrap().mode() & 0o777;
        for wanted in [0o700, 0o777, 0o600] {
            let socket = open(&path, wanted).unwrap();
            assert_eq!((mode(), &*socket.name), (wanted, "as/written"));
            UnixStream::connect(&path).unwrap();
            drop(socket);
            assert!(!path.exists());
        }
        let plain = UnixListener::bind(&path).unwrap();
        let left_by_the_umask = mode();
        drop(plain);
        let _socket = open(&path, 0).unwrap();
        assert_eq!(mode(), left_by_the_umask);
    }

    #[test]
    fn another_socket_in_its_place_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let socket = open(&path, 0).unwrap();
        fs::rename(&path, dir.path().join("moved")).unwrap();
        let other = open(&path, 0).unwrap();
        drop(socket);
        assert!(path.exists(), "it is the other's");
        drop(other);
        assert!(!path.exists());
    }

    #[test]
    fn of_servers_that_start_at_once_one_has_the_socket() {
        const SERVERS: usize = 4;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        for _ in 0..50 {
            drop(UnixListener::bind(&path).unwrap());
            let opened: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..SERVERS).map(|_| scope.spawn(|| open(&path, 0o600))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let in_use = opened.iter().filter(|opened| matches!(opened, Err(OpenError::InUse))).count();
            assert_eq!(in_use, SERVERS - 1, "{opened:?}");
            UnixStream::connect(&path).unwrap();
        }
    }

    /// Whoever may read the directory can hold its lock.
    #[test]
    fn a_directory_that_stays_locked_delays_a_start_and_prevents_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let lock = lock_directory(&path).unwrap();
        let socket = open(&path, 0).unwrap();
        UnixStream::connect(&path).unwrap();
        drop((lock, socket));
        lock_directory(&path).unwrap();
    }

    #[test]
    fn only_a_socket_that_nobody_listens_at_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let refused = |name: &str| {
            let path = dir.path().join(name);
            let before = fs::symlink_metadata(&path).unwrap().ino();
            let error = open(&path, 0).unwrap_err();
            assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), before, "{error}");
            error.to_string()
        };
        // A listener of std leaves its file behind, as a killed process does.
        drop(UnixListener::bind(&path).unwrap());
        drop(open(&path, 0).unwrap());
        drop(UnixDatagram::bind(&path).unwrap());
        let socket = open(&path, 0).unwrap();
        assert!(refused("socket").starts_with("another process listens there"));
        UnixStream::connect(&path).unwrap();
        drop(socket);

        let _datagram = UnixDatagram::bind(dir.path().join("datagram")).unwrap();
        assert!(refused("datagram").starts_with("another process listens there"));
        fs::write(dir.path().join("file"), "precious").unwrap();
        assert!(refused("file").starts_with("a file is there"));
        fs::create_dir(dir.path().join("directory")).unwrap();
        assert!(refused("directory").starts_with("a directory is there"));
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        assert!(refused("link").starts_with("a symbolic link is there"));
    }

    #[test]
    fn a_path_that_fits_no_socket_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(PATH_LEN_MAX));
        assert!(matches!(open(&long, 0), Err(OpenError::PathTooLong { .. })));
        let longest = dir.path().join("x".repeat(PATH_LEN_MAX - dir.path().as_os_str().len() - 1));
        open(&longest, 0).unwrap();
        assert!(matches!(open(Path::new("a\0b"), 0), Err(OpenError::Inspect(_))));
        let error = open(&dir.path().join("none/socket"), 0).unwrap_err();
        assert!(matches!(error, OpenError::Bind(_)), "{error}");
    }
}
