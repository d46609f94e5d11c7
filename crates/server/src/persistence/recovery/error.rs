//! Why data could not be recovered: which file, which byte, what is lost, what to do.

use std::io;
use std::path::PathBuf;

use crate::persistence::log::reader::ReadSegmentError;
use crate::persistence::manifest::ManifestError;
use crate::persistence::snapshot::ReadRdbError;

impl RecoverError {
    /// Whether the operating system refused something, so that it may go when somebody makes room, or mends what is mounted: the
    /// files themselves are not what is wrong.
    pub(crate) fn is_storage(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if error.downcast_ref::<io::Error>().is_some_and(|error| error.raw_os_error().is_some()) {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// Whether files on disk may have been changed before it failed: all of them were found to be well then.
    pub(crate) fn may_have_changed(&self) -> bool {
        matches!(self, Self::NotCut { .. } | Self::NotTidied { .. })
    }

    /// The error of a step that follows changes.
    pub(crate) fn in_tidying(self) -> Self {
        match self {
            Self::Storage { action, path, source } => Self::NotTidied { action, path, source },
            other => other,
        }
    }
}

/// Why the data could not be recovered. Nothing has been changed on disk, but see [`RecoverError::may_have_changed`].
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A directory or file cannot be listed, read, cut or removed.
    #[error("failed to {action} {path:?}")]
    Storage {
        /// A verb.
        action: &'static str,
        /// The object.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The manifest is not usable.
    #[error(
        "manifest {path:?} is not usable; it says which log files are live, so nothing was loaded. \
         Put back the manifest of a copy or backup; without one, keep a copy of the directory and restore a backup"
    )]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        source: ManifestError,
    },
    /// Log files without a manifest.
    #[error(
        "log directory {path:?} holds {file:?} and no manifest {manifest:?}: without it, it is unknown which files are \
         live. Put the manifest back, or move the directory and holdfast-identity.json away to start without the log"
    )]
    ManifestMissing {
        /// The directory.
        path: PathBuf,
        /// One of the files.
        file: String,
        /// Name of the manifest.
        manifest: String,
    },
    /// Log files with writes that the manifest should name and does not.
    #[error(
        "file {path:?} holds writes, and manifest {manifest:?} does not name it: the manifest is older than the log. \
         Put back the newest manifest (of a copied directory, copy all of it again while the server is stopped), or keep a \
         copy of the directory and restore a backup"
    )]
    ManifestStale {
        /// The file.
        path: PathBuf,
        /// The manifest.
        manifest: PathBuf,
    },
    /// The base cannot be what the manifest names.
    #[error(
        "base file {path:?} {problem}; what it held is lost, and nothing was changed. Put the file back, or keep a copy \
         of the directory and restore a backup"
    )]
    Base {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        problem: String,
    },
    /// A file that the manifest names is not there.
    #[error(
        "log file {name} is missing ({path:?}: No such file or directory), and the manifest names it as live: its writes \
         would be lost. Put the file back, or keep a copy of the directory and restore a backup",
        name = path.file_name().unwrap_or_default().display()
    )]
    FileMissing {
        /// The file.
        path: PathBuf,
    },
    /// A directory has the name of the snapshot, which could be neither loaded nor replaced.
    #[error(
        "{path:?} is a directory, and the snapshot has this name: nothing was loaded or changed. Move the directory away, \
         or set dbfilename to another name"
    )]
    SnapshotIsDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// The snapshot or base is damaged.
    #[error(
        "Fatal error loading the DB: snapshot file {path:?} cannot be loaded; nothing was changed. Keep a copy of the directory \
         and restore a backup"
    )]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<ReadRdbError>,
    },
    /// There is more in the file than a snapshot.
    #[error(
        "snapshot file {path:?} goes on behind its end at byte {position} of {total}, as a log does that begins with a \
         snapshot: what follows would be lost, and nothing was changed. Rename the file to {log_name:?}, and let no other log \
         be there, to load all of it; or cut it at byte {position} to give up what follows"
    )]
    SnapshotGoesOn {
        /// The file.
        path: PathBuf,
        /// Where the snapshot ends.
        position: u64,
        /// Length of the file.
        total: u64,
        /// Name of a log in one file.
        log_name: String,
    },
    /// A segment is damaged.
    #[error(
        "log segment {path:?} cannot be replayed; nothing was changed. Keep a copy of the directory and restore a \
         backup"
    )]
    Segment {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<ReadSegmentError>,
    },
    /// Two files that should follow each other do not.
    #[error(
        "log file {before:?} ends at stream offset {ends}, and {path:?} begins at {begins}: one of them is not whole, and \
         nothing was changed. Put the damaged file back, or keep a copy of the directory and restore a backup"
    )]
    Gap {
        /// The first of them.
        before: PathBuf,
        /// Where it ends.
        ends: u64,
        /// The second.
        path: PathBuf,
        /// Where it begins.
        begins: u64,
    },
    /// A segment that is not the last ends in the middle of a record.
    #[error(
        "log segment {path:?} ends in the middle of a record at byte {position}, and later segments follow it: \
         {len} bytes and whatever came after them are lost. Keep a copy of the directory and restore a backup"
    )]
    TornInTheMiddle {
        /// The file.
        path: PathBuf,
        /// Where the record begins.
        position: u64,
        /// Bytes from there on.
        len: u64,
    },
    /// A torn tail that may not be cut.
    #[error(
        "Unexpected end of file reading the append only file: log segment {path:?} ends in the middle of a record at byte \
         {position} ({len} bytes), and aof-load-truncated is no. Set it to yes to cut the tail off; under always, nothing in it was acknowledged"
    )]
    TornTail {
        /// The file.
        path: PathBuf,
        /// Where the record begins.
        position: u64,
        /// Bytes from there on.
        len: u64,
    },
    /// A torn tail cannot be cut off. What is left of the segment may be in memory alone.
    #[error("failed to cut the torn tail off {path:?}; the next start rewrites all data")]
    NotCut {
        /// The segment.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// What is not live cannot be removed or renamed, or some of it: behind the cut of a torn tail, and one file after the other.
    #[error("failed to {action} {path:?}, which is not live")]
    NotTidied {
        /// A verb.
        action: &'static str,
        /// The object.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The files end before what the identity says was there.
    #[error(
        "the data end at stream offset {found}, {end}, and the identity says that everything up to {expected} was on \
         stable storage: {lost} bytes of writes are missing, and nothing was changed. Put the missing or damaged file back, or \
         keep a copy of the directory and restore a backup; to start with what is there, move {identity:?} away",
        lost = expected - found
    )]
    Short {
        /// Which file ends where, in words.
        end: String,
        /// Where the files end.
        found: u64,
        /// What the identity says.
        expected: u64,
        /// The identity file.
        identity: PathBuf,
    },
    /// The files are those of another Store.
    #[error(
        "{path:?} holds data of Store {found}, and {identity:?} says that this directory has data of Store {expected}: they \
         are not there, and nothing was changed. Put the files of this directory back, or restore a backup; to start from \
         those of the other Store, move {identity:?} away"
    )]
    OtherStore {
        /// The snapshot or the manifest.
        path: PathBuf,
        /// Whose data it holds.
        found: String,
        /// Whose data the directory should hold.
        expected: String,
        /// The identity file.
        identity: PathBuf,
    },
    /// The identity says that there is a log, and there is none.
    #[error(
        "the log is missing: {identity:?} says that there was one, {log:?} is not there, and there is {instead} to start \
         from instead: what was acknowledged since would be lost, and nothing was changed. Put the log directory back \
         (appenddirname and appendfilename say where it is expected), or restore a backup; to start without the log, move \
         {identity:?} away"
    )]
    LogMissing {
        /// The manifest.
        log: PathBuf,
        /// What could be loaded, in words.
        instead: String,
        /// The identity file.
        identity: PathBuf,
    },
    /// The only data are of another server, and older than what was served here.
    #[error(
        "{path:?} was written by another server at {created_s} (Unix time), and this server last noted at {written_s} what \
         it had: everything written until then would be lost, and nothing was changed. Put the files of that time back, or \
         restore a backup; to start from {path:?} all the same, move {identity:?} away"
    )]
    Outdated {
        /// The snapshot, or the base of the log.
        path: PathBuf,
        /// When it was made.
        created_s: u64,
        /// When the identity was written.
        written_s: u64,
        /// The identity file.
        identity: PathBuf,
    },
    /// The only data are in a file from which this server has long taken over.
    #[error(
        "{path:?} is the log of a server before Redis 7, and this server noted at {written_s} (Unix time) that it has data \
         of its own, which are not there: everything written since the takeover would be lost, and nothing was changed. Put \
         the log directory or the snapshot back, or restore a backup; to start from {path:?} all the same, move \
         {identity:?} away"
    )]
    Superseded {
        /// The file.
        path: PathBuf,
        /// The identity file.
        identity: PathBuf,
        /// When the identity was written.
        written_s: u64,
    },
    /// Both a log and a snapshot, and neither is known to be the newer one.
    #[error(
        "snapshot {snapshot:?} was written by another server at {snapshot_s} (Unix time), after the last record of the \
         log at {log_s}: it is unknown which of them is wanted. Move the snapshot away to start from the log, or the \
         log directory {log:?} and holdfast-identity.json away to start from the snapshot"
    )]
    Ambiguous {
        /// The snapshot.
        snapshot: PathBuf,
        /// The log directory.
        log: PathBuf,
        /// When the snapshot was made.
        snapshot_s: u64,
        /// When the last record was written.
        log_s: u64,
    },
    /// A log that is not asked for, and that is newer than the snapshot that is.
    #[error(
        "the log in {log:?} was written by another server at {log_s} (Unix time) or later, after snapshot {snapshot:?} of \
         {snapshot_s}, and appendonly is no: what only the log holds would not be loaded. Set appendonly to yes to start \
         from the log, or move the log away to start from the snapshot"
    )]
    LogNotConfigured {
        /// The snapshot.
        snapshot: PathBuf,
        /// The log directory, or the single file.
        log: PathBuf,
        /// When the snapshot was made.
        snapshot_s: u64,
        /// When the base of the log was written.
        log_s: u64,
    },
    /// Both are of another server, the snapshot is newer than the base of the log, and nothing says which of them is current.
    #[error(
        "snapshot {snapshot:?} of {snapshot_s} and the log in {log:?}, whose base is of {log_s} (Unix time), are of another \
         server, and no line says whether that had a log: Redis leaves the files of one that was switched off. Set appendonly as \
         it was there: yes to start from the log, no to start from the snapshot"
    )]
    LogNotMentioned {
        /// The snapshot.
        snapshot: PathBuf,
        /// The log directory, or the single file.
        log: PathBuf,
        /// When the snapshot was made.
        snapshot_s: u64,
        /// When the base of the log was written, 0 where it does not say so.
        log_s: u64,
    },
    /// Another server has begun a log of its own beside our snapshot.
    #[error(
        "the log in {log:?} was begun by another server, after snapshot {snapshot:?} of {snapshot_s} (Unix time), which that \
         server has not loaded with its log: it is unknown which of them is wanted. Move the log directory away to start \
         from the snapshot, or the snapshot away to start from the log"
    )]
    BegunBeside {
        /// The snapshot.
        snapshot: PathBuf,
        /// The log directory.
        log: PathBuf,
        /// When the snapshot was made.
        snapshot_s: u64,
    },
    /// Another server has gone on from our log, which ended before our snapshot.
    #[error(
        "another server has written to the log in {log:?}, which ends before snapshot {snapshot:?} of this server: each of them \
         has data that the other lacks. Keep a copy of the directory, move {identity:?} away, and with it the log directory to \
         start from the snapshot, or the snapshot to start from the log"
    )]
    GoneOnBeside {
        /// The snapshot.
        snapshot: PathBuf,
        /// The log directory.
        log: PathBuf,
        /// The identity file.
        identity: PathBuf,
    },
    /// The offset to stop at is not there.
    #[error("the files in {dir:?} end at stream offset {found}, before offset {wanted} that was asked for")]
    OffsetMissing {
        /// The data directory.
        dir: PathBuf,
        /// Where the files end.
        found: u64,
        /// What was asked for.
        wanted: u64,
    },
}

/// What a [`RecoveryTarget`] answers to stop the recovery.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("interrupted by a stop of the server")]
pub(crate) struct Interrupted;
