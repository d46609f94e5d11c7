//! The data as the loader hands it over, and how far it has come.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use holdfast_contract::identity::Identity;

use super::journal::Journal;
use crate::config::Config;
use crate::engine::{Engine, EngineOptions, HashSeed};
use crate::persistence::recovery::RecoverError;

/// The dataset, ready to be served.
pub struct Loaded {
    /// The data.
    pub engine: Engine,
    /// The journal behind it; absent when nothing is persisted.
    pub journal: Option<Journal>,
    /// The identity as it was written; absent when nothing is persisted.
    pub identity: Option<Identity>,
    /// Bytes of a torn tail that were cut off.
    pub(crate) cut_bytes: u64,
}

/// The dataset could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadFailure {
    /// The files were refused.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// A file could not be written.
    #[error("{0}")]
    Prepare(String),
    /// What was read cannot be made durable: some of it may be in memory alone.
    #[error("{0}")]
    NotSynced(String),
}

impl LoadFailure {
    /// Whether files on disk may have been changed before it failed.
    #[must_use]
    pub fn may_have_changed(&self) -> bool {
        match self {
            Self::Recover(error) => error.may_have_changed(),
            Self::Prepare(_) | Self::NotSynced(_) => true,
        }
    }

    /// Whether what a later start reads may be in memory alone.
    pub(crate) fn leaves_doubt(&self) -> bool {
        matches!(self, Self::NotSynced(_) | Self::Recover(RecoverError::NotCut { .. }))
    }
}

/// How far a load has come; shared with the loader.
#[derive(Debug, Default)]
pub struct LoadProgress {
    /// Bytes read.
    pub done: AtomicU64,
    /// Bytes to read.
    pub total: AtomicU64,
    /// Keys loaded.
    pub keys: AtomicU64,
    /// Keys of a snapshot that had expired and were left out; known when it is loaded.
    pub(crate) expired: AtomicU64,
    /// Set by the executor: the loader is to stop.
    pub stop: AtomicBool,
}

impl LoadProgress {
    /// Part of the bytes that have been read, 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a fraction for people needs no more than 53 bits")]
    pub(crate) fn fraction(&self) -> f64 {
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        if total == 0 { 0.0 } else { done as f64 / total as f64 }
    }
}

/// Reads the data again from the files: the snapshot, or (true) the log. The error is a text for the client.
pub type Reload = fn(&Journal, &Config, bool) -> Result<Engine, String>;

/// An engine for this configuration, with a seed of its own: clients choose keys.
#[must_use]
pub(crate) fn engine_options(config: &Config) -> EngineOptions {
    EngineOptions { databases: config.databases, limits: config.limits, seed: HashSeed(rand::random()) }
}
