//! What was observed of a StoreBackup in one look: plain data, the input of every decision.

use std::time::Duration;

use holdfast_contract::control::{BackupProgress, ServerState};
use k8s_openapi::api::core::v1::Pod;

use super::plan::Obstacle;
use super::volume_snapshot::SnapshotState;
use crate::api::v1alpha1::{BackupLocation, Store};
use crate::server_client::Endpoint;

/// Everything that one look at a StoreBackup has read. What the state of the backup makes unneeded is not read, and absent.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The Store.
    pub store: Option<Store>,
    /// The pod of the Store.
    pub pod: Option<Pod>,
    /// Where the server of that pod listens; absent while none runs.
    pub endpoint: Option<Endpoint>,
    /// The location that holds the backup or is to hold it.
    pub location: Option<BackupLocation>,
    /// What the server is doing, or why it does not say; asked before each look at an upload.
    pub server: Option<Result<ServerState, Obstacle>>,
    /// UIDs of the Store objects that had the claim before: their owner markers in the bucket give way, and no other.
    pub former_owners: Vec<String>,
    /// How far the upload is, as far as the server knows of one; asked only after the deadline.
    pub upload: Option<BackupProgress>,
    /// The VolumeSnapshot of the current attempt.
    pub snapshot: SnapshotFact,
    /// What was found of the ended backup in its bucket; absent when nobody looked, or the bucket did not say.
    pub presence: Option<Presence>,
    /// The time until an ended backup is looked for again; absent when it is not.
    pub next_check: Option<Duration>,
}

/// What was found of an ended backup in its bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// Its manifest, and a file of the size that this says, in bytes.
    There(u64),
    /// Manifest or file are gone; in words.
    Missing(String),
    /// They are not what was written; in words.
    Altered(String),
}

/// The VolumeSnapshot of the current attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SnapshotFact {
    /// There is none.
    #[default]
    Absent,
    /// The API server has no VolumeSnapshots.
    Unavailable,
    /// As it is.
    There(SnapshotState),
}

impl SnapshotFact {
    /// The VolumeSnapshot, if it is there.
    #[must_use]
    pub fn state(&self) -> Option<&SnapshotState> {
        match self {
            SnapshotFact::There(state) => Some(state),
            SnapshotFact::Absent | SnapshotFact::Unavailable => None,
        }
    }
}
