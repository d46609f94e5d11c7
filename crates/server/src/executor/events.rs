//! What other threads tell the executor.

use super::journal::JournalEvent;
use super::loaded::{LoadFailure, Loaded};

/// A message to the executor.
pub enum Event {
    /// A background sync or the snapshot thread has ended.
    Journal(JournalEvent),
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
