//! What other threads tell the executor.

use std::io;
use std::time::Duration;

use super::loaded::{LoadFailure, Loaded};
use crate::persistence::snapshot::job::{SnapshotJobError, WrittenSnapshot};

/// A message to the executor.
pub enum Event {
    /// A background sync has ended.
    LogSynced {
        /// Sequence number of the segment.
        segment: u64,
        /// Stream offset that it ended at when the sync began.
        offset: u64,
        /// How long it took.
        took: Duration,
        /// Whether it worked.
        result: io::Result<()>,
    },
    /// The snapshot thread has ended.
    SnapshotWritten {
        /// Id of the job.
        id: u64,
        /// What was written, or why not.
        result: Result<WrittenSnapshot, SnapshotJobError>,
    },
    /// The loader has ended.
    Loaded(Box<Result<Loaded, LoadFailure>>),
    /// A signal; the configuration says what it stands for.
    Stop(StopCause),
}

/// Which signal asks for a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// SIGTERM.
    Terminated,
    /// SIGINT.
    Interrupted,
}
