//! A simulated disk for tests: remembers what is current and what is durable, fails on request, crashes at any call.
//!
//! The model is the weakest that POSIX allows: bytes are durable after a sync of their file, names after a sync of
//! their directory, and nothing else is. [`MemoryDisk::after_crash`] builds the disk that a machine could find after a
//! power cut, for each of several ways in which unsynced bytes and names may or may not have made it: names one by one,
//! in any order against each other and against the bytes of their files.
//!
//! A sync that fails leaves what page caches leave: bytes that a reader still sees and that no later sync writes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{DirectoryEntry, FileSync, Space, Storage, StorageFile, StorageLock, StorageReader};

/// What becomes of bytes that were not synced, in a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnsyncedBytes {
    /// None is there.
    Forgotten,
    /// All are there.
    Kept,
    /// The first of them are there: this many, or all but one when there are fewer.
    Prefix(usize),
    /// The first half of them is there.
    Half,
    /// The file has its new length, and zeros where the bytes should be.
    Zeroed,
    /// The file has its new length, zeros in the first half of what should be there and the bytes of the second half:
    /// pages need not reach the disk in their order.
    Holed,
}

impl UnsyncedBytes {
    /// One of each kind, with prefixes of one byte, the size of a sector, and all bytes but one.
    pub const ALL: [Self; 8] = [
        Self::Forgotten,
        Self::Kept,
        Self::Prefix(1),
        Self::Half,
        Self::Prefix(512),
        Self::Prefix(usize::MAX),
        Self::Zeroed,
        Self::Holed,
    ];
}

/// What becomes of names that were not synced, in a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnsyncedNames {
    /// The directory is as it was at its last sync.
    Forgotten,
    /// The directory is as it was last seen.
    Kept,
    /// Of the changes that no sync has covered (see [`MemoryDisk::unsynced_names`]), only this one was made.
    Only(usize),
    /// All of them but this one were made.
    AllBut(usize),
}

/// Makes calls fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Number of the call that fails, counted from 0 over all changing calls.
    pub call: u64,
    /// What it fails with.
    pub kind: io::ErrorKind,
    /// True: every later call fails as well.
    pub forever: bool,
}

#[derive(Debug, Clone, Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    /// Bytes that a failed sync has left in the cache only, marked as written.
    lost: Option<Range<usize>>,
}

impl Inode {
    fn synced(contents: Vec<u8>) -> Self {
        Self { current: contents.clone(), durable: contents, lost: None }
    }

    /// What the disk would hold if everything that can still be written were.
    fn writable(&self) -> Vec<u8> {
        let mut contents = self.current.clone();
        if let Some(lost) = &self.lost {
            let end = lost.end.min(contents.len());
            contents[lost.start.min(end)..end].fill(0);
        }
        contents
    }

    fn sync(&mut self) {
        self.durable = self.writable();
    }

    fn fail_sync(&mut self) {
        let start = self.lost.as_ref().map_or(self.durable.len(), |lost| lost.start.min(self.durable.len()));
        if start < self.current.len() {
            self.lost = Some(start..self.current.len());
        }
    }

    fn truncate(&mut self, len: usize) {
        self.current.truncate(len);
        self.lost =
            self.lost.take().map(|lost| lost.start..lost.end.min(len)).filter(|lost| !lost.is_empty());
    }
}

/// A change of a directory that no sync has covered.
#[derive(Debug, Clone)]
enum Change {
    Add(PathBuf, Name),
    Remove(PathBuf),
    /// Within one directory, so that it is one change: both names or neither.
    Move(PathBuf, PathBuf, Name),
}

impl Change {
    fn directory(&self) -> Option<&Path> {
        match self {
            Self::Add(path, _) | Self::Remove(path) | Self::Move(_, path, _) => path.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Name>) {
        match self {
            Self::Add(path, name) => {
                names.insert(path.clone(), *name);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Move(from, to, name) => {
                names.remove(from);
                names.insert(to.clone(), *name);
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Directory,
    File(usize),
}

#[derive(Debug, Clone, Default)]
struct State {
    inodes: Vec<Inode>,
    current: BTreeMap<PathBuf, Name>,
    durable: BTreeMap<PathBuf, Name>,
    /// What `current` has and `durable` has not, in the order in which it was done.
    unsynced: Vec<Change>,
    locks: BTreeSet<PathBuf>,
    calls: u64,
    crash_at: Option<u64>,
    crashed: bool,
    fault: Option<Fault>,
    trace: Vec<String>,
    /// Size of the volume; none: as large as it takes.
    total: Option<u64>,
}

/// The simulated disk; clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

struct MemoryFile {
    disk: MemoryDisk,
    inode: usize,
    path: PathBuf,
}

struct MemorySync {
    disk: MemoryDisk,
    inode: usize,
    path: PathBuf,
}

struct MemoryLock {
    disk: MemoryDisk,
    path: PathBuf,
}

impl StorageLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no such file or directory: {path:?}"))
}

impl State {
    /// Counts one changing call and says what becomes of it: `Ok(true)` it happens, `Ok(false)` the machine dies in the
    /// middle of it, `Err` it fails.
    fn begin(&mut self, what: &str, path: &Path) -> io::Result<bool> {
        if self.crashed {
            return Err(io::Error::other("the machine is down"));
        }
        let call = self.calls;
        self.calls += 1;
        self.trace.push(format!("{call} {what} {}", path.display()));
        if self.crash_at == Some(call) {
            self.crashed = true;
            return Ok(false);
        }
        if let Some(fault) = self.fault
            && (call == fault.call || (fault.forever && call > fault.call))
        {
            return Err(io::Error::new(fault.kind, format!("injected into call {call}: {what}")));
        }
        Ok(true)
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.unsynced.push(change);
    }

    fn died() -> io::Error {
        io::Error::other("the machine went down")
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.current.get(path) {
            Some(Name::File(inode)) => Ok(*inode),
            Some(Name::Directory) => Err(io::Error::new(io::ErrorKind::IsADirectory, format!("{path:?}"))),
            None => Err(not_found(path)),
        }
    }

    fn require_directory(&self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty()
            || path == Path::new("/")
            || self.current.get(path) == Some(&Name::Directory)
        {
            Ok(())
        } else {
            Err(not_found(path))
        }
    }
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the machine die in the middle of changing call number `call` (from 0).
    pub fn crash_at(&self, call: u64) {
        self.state().crash_at = Some(call);
    }

    /// Makes calls fail from now on.
    pub fn inject(&self, fault: Option<Fault>) {
        self.state().fault = fault;
    }

    /// Says that the volume has so many bytes in all. It refuses none beyond them: whoever measures is to see them coming.
    pub fn limit_space(&self, total: Option<u64>) {
        self.state().total = total;
    }

    /// Changing calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// True once the crash has happened.
    #[must_use]
    pub fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// The changing calls so far, one line each, for the message of a failing test.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.state().trace.clone()
    }

    /// The disk that a machine could find after power came back.
    #[must_use]
    pub fn after_crash(&self, bytes: UnsyncedBytes, names: UnsyncedNames) -> Self {
        let state = self.state();
        let chosen: Option<Vec<&Change>> = match names {
            UnsyncedNames::Forgotten => Some(Vec::new()),
            UnsyncedNames::Kept => None,
            UnsyncedNames::Only(number) => Some(state.unsynced.get(number).into_iter().collect()),
            UnsyncedNames::AllBut(number) => {
                let others = state.unsynced.iter().enumerate().filter(|(at, _)| *at != number);
                Some(others.map(|(_, change)| change).collect())
            }
        };
        let kept = match chosen {
            None => state.current.clone(),
            Some(changes) => {
                let mut names = state.durable.clone();
                changes.iter().for_each(|change| change.apply(&mut names));
                names
            }
        };
        let mut after = State::default();
        for (path, name) in &kept {
            // A name below a directory that was lost is lost as well.
            let reachable = path
                .ancestors()
                .skip(1)
                .take_while(|parent| !parent.as_os_str().is_empty() && *parent != Path::new("/"))
                .all(|parent| kept.get(parent) == Some(&Name::Directory));
            if !reachable {
                continue;
            }
            let name = match name {
                Name::Directory => Name::Directory,
                Name::File(inode) => {
                    after.inodes.push(Inode::synced(contents_after(&state.inodes[*inode], bytes)));
                    Name::File(after.inodes.len() - 1)
                }
            };
            after.current.insert(path.clone(), name);
            after.durable.insert(path.clone(), name);
        }
        Self(Arc::new(Mutex::new(after)))
    }

    /// The same disk as another process finds it later, the machine never having been off: what is unsynced stays so,
    /// and nothing fails any more.
    #[must_use]
    pub fn after_restart(&self) -> Self {
        let mut state = self.state().clone();
        state.locks.clear();
        (state.calls, state.crash_at, state.crashed, state.fault) = (0, None, false, None);
        state.trace.clear();
        Self(Arc::new(Mutex::new(state)))
    }

    /// Number of changes of directories that no sync has covered.
    #[must_use]
    pub fn unsynced_names(&self) -> usize {
        self.state().unsynced.len()
    }

    /// Contents of a file as a reader sees them now; none when there is no such file.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let inode = state.file(path).ok()?;
        Some(state.inodes[inode].current.clone())
    }

    /// Puts a durable file, with the directories above it.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        for parent in path.ancestors().skip(1) {
            state.current.insert(parent.to_owned(), Name::Directory);
            state.durable.insert(parent.to_owned(), Name::Directory);
        }
        state.inodes.push(Inode::synced(bytes.to_vec()));
        let name = Name::File(state.inodes.len() - 1);
        state.current.insert(path.to_owned(), name);
        state.durable.insert(path.to_owned(), name);
    }

    /// All files with their contents, sorted by path.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let state = self.state();
        state
            .current
            .iter()
            .filter_map(|(path, name)| match name {
                Name::File(inode) => Some((path.clone(), state.inodes[*inode].current.clone())),
                Name::Directory => None,
            })
            .collect()
    }
}

fn contents_after(inode: &Inode, bytes: UnsyncedBytes) -> Vec<u8> {
    let current = inode.writable();
    let common = inode.durable.len().min(current.len());
    let appended = current.len() > inode.durable.len() && current[..common] == inode.durable[..];
    if !appended {
        // Truncated or rewritten: either version, whole.
        return match bytes {
            UnsyncedBytes::Kept => current,
            UnsyncedBytes::Forgotten
            | UnsyncedBytes::Prefix(_)
            | UnsyncedBytes::Half
            | UnsyncedBytes::Zeroed
            | UnsyncedBytes::Holed => inode.durable.clone(),
        };
    }
    let unsynced = current.len() - common;
    let mut contents = inode.durable.clone();
    match bytes {
        UnsyncedBytes::Forgotten => {}
        UnsyncedBytes::Kept => contents.extend_from_slice(&current[common..]),
        UnsyncedBytes::Prefix(len) => {
            let len = if len < unsynced { len } else { unsynced - 1 };
            contents.extend_from_slice(&current[common..common + len]);
        }
        UnsyncedBytes::Half => contents.extend_from_slice(&current[common..common + unsynced / 2]),
        UnsyncedBytes::Zeroed => contents.resize(current.len(), 0),
        UnsyncedBytes::Holed => {
            contents.resize(common + unsynced / 2, 0);
            contents.extend_from_slice(&current[common + unsynced / 2..]);
        }
    }
    contents
}

impl FileSync for MemorySync {
    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        match state.begin("sync", &self.path) {
            Ok(true) => {
                state.inodes[self.inode].sync();
                Ok(())
            }
            Ok(false) => Err(State::died()),
            Err(error) => {
                if !state.crashed {
                    state.inodes[self.inode].fail_sync();
                }
                Err(error)
            }
        }
    }
}

impl StorageFile for MemoryFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        match state.begin("append", &self.path) {
            Ok(true) => {
                state.inodes[self.inode].current.extend_from_slice(bytes);
                Ok(())
            }
            // The bytes reached the cache before the machine died: what is left of them is up to `UnsyncedBytes`.
            Ok(false) => {
                state.inodes[self.inode].current.extend_from_slice(bytes);
                Err(State::died())
            }
            Err(error) => {
                if !state.crashed {
                    // A failing write may leave a part behind.
                    state.inodes[self.inode].current.extend_from_slice(&bytes[..bytes.len() / 2]);
                }
                Err(error)
            }
        }
    }

    fn len(&self) -> u64 {
        self.disk.state().inodes[self.inode].current.len() as u64
    }

    fn syncer(&self) -> Arc<dyn FileSync> {
        Arc::new(MemorySync { disk: self.disk.clone(), inode: self.inode, path: self.path.clone() })
    }
}

impl Storage for MemoryDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let mut state = self.state();
        state.require_directory(path.parent().unwrap_or_else(|| Path::new("")))?;
        let done = state.begin("create", path)?;
        let inode = match state.file(path) {
            Ok(inode) => {
                state.inodes[inode].truncate(0);
                inode
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.change(Change::Add(path.to_owned(), Name::File(inode)));
                inode
            }
            Err(error) => return Err(error),
        };
        if !done {
            return Err(State::died());
        }
        Ok(Box::new(MemoryFile { disk: self.clone(), inode, path: path.to_owned() }))
    }

    fn open_append(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let inode = self.state().file(path)?;
        Ok(Box::new(MemoryFile { disk: self.clone(), inode, path: path.to_owned() }))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn StorageReader>> {
        let state = self.state();
        if state.crashed {
            return Err(io::Error::other("the machine is down"));
        }
        let inode = state.file(path)?;
        Ok(Box::new(io::Cursor::new(state.inodes[inode].current.clone())))
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.file(path)?;
        let begun = state.begin("truncate", path);
        let len = usize::try_from(len).map_err(io::Error::other)?;
        if !state.crashed || begun.is_ok() {
            state.inodes[inode].truncate(len);
        }
        match begun {
            Ok(true) => {
                state.inodes[inode].sync();
                Ok(())
            }
            Ok(false) => Err(State::died()),
            // Shorter for every reader, and not on the disk.
            Err(error) => {
                if !state.crashed {
                    state.inodes[inode].fail_sync();
                }
                Err(error)
            }
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let name = *state.current.get(from).ok_or_else(|| not_found(from))?;
        let done = state.begin("rename", from)?;
        let below: Vec<_> = state
            .current
            .range(from.to_owned()..)
            .filter(|(path, _)| path.starts_with(from))
            .map(|(p, n)| (p.clone(), *n))
            .collect();
        if name == Name::Directory {
            let occupied = state.current.keys().any(|path| path.starts_with(to) && path != to);
            if occupied {
                return Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, format!("{to:?}")));
            }
        }
        if from.parent() == to.parent() {
            state.unsynced.push(Change::Move(from.to_owned(), to.to_owned(), name));
        } else {
            state.unsynced.extend([Change::Add(to.to_owned(), name), Change::Remove(from.to_owned())]);
        }
        for (path, name) in below {
            state.current.remove(&path);
            let suffix = path.strip_prefix(from).unwrap_or_else(|_| Path::new(""));
            let moved = if suffix.as_os_str().is_empty() { to.to_owned() } else { to.join(suffix) };
            // What was durable below a directory stays durable below its new name once that name is.
            if path != from && state.durable.get(&path) == Some(&name) {
                state.durable.insert(moved.clone(), name);
            }
            state.current.insert(moved, name);
        }
        if done { Ok(()) } else { Err(State::died()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.file(path)?;
        let done = state.begin("remove", path)?;
        state.change(Change::Remove(path.to_owned()));
        if done { Ok(()) } else { Err(State::died()) }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.require_directory(path).is_ok() {
            return Ok(());
        }
        let done = state.begin("create_dir", path)?;
        let missing: Vec<_> = path
            .ancestors()
            .filter(|parent| !parent.as_os_str().is_empty() && !state.current.contains_key(*parent))
            .map(Path::to_owned)
            .collect();
        for parent in missing.into_iter().rev() {
            state.change(Change::Add(parent, Name::Directory));
        }
        if done { Ok(()) } else { Err(State::died()) }
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let below: Vec<_> = state.current.keys().filter(|name| name.starts_with(path)).cloned().collect();
        if below.is_empty() {
            return Ok(());
        }
        let done = state.begin("remove_dir_all", path)?;
        // From the innermost outwards; a machine that dies has come half the way.
        let count = if done { below.len() } else { below.len() / 2 };
        for name in below.into_iter().rev().take(count) {
            state.change(Change::Remove(name));
        }
        if done { Ok(()) } else { Err(State::died()) }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let state = self.state();
        if state.crashed {
            return Err(io::Error::other("the machine is down"));
        }
        state.require_directory(path)?;
        Ok(state
            .current
            .iter()
            .filter(|(name, _)| name.parent() == Some(path))
            .map(|(name, node)| DirectoryEntry {
                name: name.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
                is_directory: *node == Name::Directory,
                len: match node {
                    Name::Directory => 0,
                    Name::File(inode) => state.inodes[*inode].current.len() as u64,
                },
            })
            .collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.require_directory(path)?;
        if !state.begin("sync_dir", path)? {
            return Err(State::died());
        }
        let gone: Vec<_> = state
            .durable
            .keys()
            .filter(|name| name.parent() == Some(path) && !state.current.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            state.durable.retain(|path, _| !path.starts_with(&name));
        }
        let present: Vec<_> = state
            .current
            .iter()
            .filter(|(name, _)| name.parent() == Some(path))
            .map(|(p, n)| (p.clone(), *n))
            .collect();
        for (name, node) in present {
            state.durable.insert(name, node);
        }
        state.unsynced.retain(|change| change.directory() != Some(path));
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn StorageLock>> {
        if self.state().locks.insert(path.to_owned()) {
            Ok(Box::new(MemoryLock { disk: self.clone(), path: path.to_owned() }))
        } else {
            Err(io::Error::new(io::ErrorKind::WouldBlock, "another process holds the lock"))
        }
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        let state = self.state();
        let Some(total) = state.total else { return Ok(Space { total: 1 << 40, available: 1 << 40 }) };
        let len_of = |name: &Name| match name {
            Name::File(inode) => state.inodes[*inode].current.len() as u64,
            Name::Directory => 0,
        };
        let used: u64 = state.current.values().map(len_of).sum();
        Ok(Space { total, available: total.saturating_sub(used) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::replace_file;

    fn disk() -> MemoryDisk {
        let disk = MemoryDisk::new();
        disk.put(Path::new("/d/old"), b"old");
        disk
    }

    #[test]
    fn unsynced_bytes_and_names_are_forgotten() {
        let disk = disk();
        let mut file = disk.create(Path::new("/d/new")).unwrap();
        file.append(b"abc").unwrap();
        let check = |bytes, names, expected: Option<&[u8]>| {
            let found = disk.after_crash(bytes, names).contents(Path::new("/d/new"));
            assert_eq!(found.as_deref(), expected, "{bytes:?} {names:?}");
        };
        check(UnsyncedBytes::Kept, UnsyncedNames::Forgotten, None);
        check(UnsyncedBytes::Forgotten, UnsyncedNames::Kept, Some(b""));
        check(UnsyncedBytes::Prefix(2), UnsyncedNames::Kept, Some(b"ab"));
        check(UnsyncedBytes::Zeroed, UnsyncedNames::Kept, Some(b"\0\0\0"));
        file.syncer().sync().unwrap();
        check(UnsyncedBytes::Forgotten, UnsyncedNames::Kept, Some(b"abc"));
        check(UnsyncedBytes::Forgotten, UnsyncedNames::Forgotten, None);
        disk.sync_dir(Path::new("/d")).unwrap();
        check(UnsyncedBytes::Forgotten, UnsyncedNames::Forgotten, Some(b"abc"));
    }

    #[test]
    fn each_unsynced_name_is_kept_or_forgotten_by_itself() {
        let disk = disk();
        disk.create(Path::new("/d/a")).unwrap();
        disk.rename(Path::new("/d/old"), Path::new("/d/new")).unwrap();
        disk.create(Path::new("/d/b")).unwrap();
        assert_eq!(disk.unsynced_names(), 3);
        let check = |names, expected: &[&str]| {
            let after = disk.after_crash(UnsyncedBytes::Kept, names);
            let found: Vec<_> =
                after.list(Path::new("/d")).unwrap().into_iter().map(|entry| entry.name).collect();
            assert_eq!(found, expected, "{names:?}");
        };
        check(UnsyncedNames::Forgotten, &["old"]);
        check(UnsyncedNames::Kept, &["a", "b", "new"]);
        check(UnsyncedNames::Only(0), &["a", "old"]);
        check(UnsyncedNames::Only(1), &["new"]);
        check(UnsyncedNames::AllBut(1), &["a", "b", "old"]);
        check(UnsyncedNames::AllBut(2), &["a", "new"]);
        disk.sync_dir(Path::new("/d")).unwrap();
        assert_eq!(disk.unsynced_names(), 0);
        check(UnsyncedNames::Forgotten, &["a", "b", "new"]);
    }

    #[test]
    fn bytes_of_a_failed_sync_are_seen_and_never_reach_the_disk() {
        let disk = disk();
        let path = Path::new("/d/old");
        let mut file = disk.open_append(path).unwrap();
        file.append(b"abc").unwrap();
        disk.inject(Some(Fault { call: disk.calls(), kind: io::ErrorKind::Other, forever: false }));
        file.syncer().sync().unwrap_err();
        file.append(b"def").unwrap();
        file.syncer().sync().unwrap();
        assert_eq!(disk.after_restart().contents(path).unwrap(), b"oldabcdef");
        let cut = disk.after_crash(UnsyncedBytes::Kept, UnsyncedNames::Kept);
        assert_eq!(cut.contents(path).unwrap(), b"old\0\0\0def");
    }

    #[test]
    fn replace_file_leaves_the_old_or_the_new_at_every_crash() {
        let mut seen_old = 0;
        for call in 0.. {
            let disk = disk();
            disk.crash_at(call);
            let result = replace_file(&disk, Path::new("/d/old"), b"newer");
            for bytes in [
                UnsyncedBytes::Forgotten,
                UnsyncedBytes::Kept,
                UnsyncedBytes::Prefix(1),
                UnsyncedBytes::Zeroed,
            ] {
                for names in [UnsyncedNames::Forgotten, UnsyncedNames::Kept] {
                    let found = disk.after_crash(bytes, names).contents(Path::new("/d/old")).unwrap();
                    assert!(found == b"old" || found == b"newer", "call {call}: {found:?}");
                    if result.is_ok() {
                        assert_eq!(found, b"newer");
                    } else if found == b"old" {
                        seen_old += 1;
                    }
                }
            }
            if result.is_ok() {
                assert!(call >= 5 && seen_old > 0);
                return;
            }
        }
    }

    #[test]
    fn a_renamed_directory_is_durable_with_its_synced_files_after_one_directory_sync() {
        let disk = MemoryDisk::new();
        disk.put(Path::new("/v/marker"), b"");
        disk.create_dir(Path::new("/v/side")).unwrap();
        let mut file = disk.create(Path::new("/v/side/data")).unwrap();
        file.append(b"x").unwrap();
        file.syncer().sync().unwrap();
        disk.sync_dir(Path::new("/v/side")).unwrap();
        disk.rename(Path::new("/v/side"), Path::new("/v/store")).unwrap();
        let lost = disk.after_crash(UnsyncedBytes::Forgotten, UnsyncedNames::Forgotten);
        assert_eq!(lost.contents(Path::new("/v/store/data")), None);
        disk.sync_dir(Path::new("/v")).unwrap();
        let kept = disk.after_crash(UnsyncedBytes::Forgotten, UnsyncedNames::Forgotten);
        assert_eq!(kept.contents(Path::new("/v/store/data")).as_deref(), Some(&b"x"[..]));
    }
}
