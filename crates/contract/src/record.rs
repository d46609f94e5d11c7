//! What the operator remembers of a Store outside its volume, and hands to the server.
//!
//! The record lies in an owned ConfigMap under the key [`RECORD_KEY`], mounted into the pod; the same document goes over
//! the control port (`PUT /v1/decision`) when a change should not wait for the kubelet to refresh the mount. A mounted
//! copy may be stale, and a stale `epoch` is always lower, never higher: the server compares with `≥`.

use serde::{Deserialize, Serialize};

use crate::bucket::Location;

/// Key of the record in the ConfigMap, and its file name below the mount.
pub const RECORD_KEY: &str = "store.json";

/// The operator's record of one Store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreRecord {
    /// Id of the Store (a UUID).
    #[serde(rename = "storeID")]
    pub store_id: String,
    /// Highest epoch that is recorded in the Store's status as well; 0 while the Store has never held data.
    pub epoch: u64,
    /// How the first volume of the Store is filled; has no effect once `epoch` is above 0.
    pub origin: Origin,
    /// Restore onto a lost volume. Obeyed only while its `epoch` is above the recorded one and the volume is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestorePlan>,
}

/// How the first volume of a new Store is filled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Origin {
    /// A new, empty dataset; the identity is stamped with epoch 1.
    Empty,
    /// From a backup in a bucket, onto an empty volume only.
    Restore {
        /// What to restore; the identity is stamped with the plan's epoch.
        plan: RestorePlan,
    },
    /// The volume was made from a volume snapshot of another Store: exactly this identity is accepted and then stamped
    /// with this Store's id, once.
    Clone {
        /// Id that the volume must carry.
        #[serde(rename = "sourceStoreID")]
        source_store_id: String,
        /// Epoch that the volume must carry.
        source_epoch: u64,
        /// Offset stamped by the barrier of the snapshot. The data is recovered to exactly this offset.
        source_offset: u64,
    },
    /// A retained volume of a deleted Store: the record's store id is the volume's, any epoch is accepted.
    Adopt,
}

/// One restore from a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestorePlan {
    /// Epoch of the restored data; greater than every epoch that the Store has had.
    pub epoch: u64,
    /// Where the backup lies.
    pub location: Location,
    /// Directory below the mount of the pod with the location's credentials ([`crate::bucket::credentials`]).
    pub credentials_dir: String,
    /// Path of the backup below the location's prefix, `<storeID>/backups/<name>`.
    pub backup_path: String,
}

/// What the init container and the held server make of record and volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionReport {
    /// What is done.
    pub decision: DecisionKind,
    /// PascalCase reason, fit for a condition.
    pub reason: String,
    /// A sentence for people: what was found, what it means, what to do.
    pub message: String,
}

/// The decision in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DecisionKind {
    /// The volume holds the data of this Store: start from it.
    Keep,
    /// The Store is new and the volume empty: stamp an identity.
    Initialise,
    /// The volume is a clone: stamp the new store id.
    Stamp,
    /// The volume is empty: restore the named backup onto it.
    Restore,
    /// Nothing may be written: stay alive, unready, and say why.
    Hold,
}

/// Reasons of [`DecisionReport::reason`].
pub mod reason {
    /// The volume's identity fits the record.
    pub const VOLUME_CURRENT: &str = "VolumeCurrent";
    /// The volume's epoch is above the recorded one; the volume wins.
    pub const VOLUME_NEWER: &str = "VolumeNewer";
    /// A new Store on an empty volume.
    pub const NEW_STORE: &str = "NewStore";
    /// The backup named by bootstrap is restored onto the first volume.
    pub const BOOTSTRAP_RESTORE: &str = "BootstrapRestore";
    /// The volume was cloned from the snapshot that bootstrap names.
    pub const BOOTSTRAP_CLONE: &str = "BootstrapClone";
    /// The recorded data was lost with its volume and is restored as planned.
    pub const VOLUME_LOST_RESTORING: &str = "VolumeLostRestoring";
    /// The Store has held data, the volume is empty and no restore is planned.
    pub const VOLUME_LOST: &str = "VolumeLost";
    /// The volume carries another Store's identity.
    pub const FOREIGN_VOLUME: &str = "ForeignVolume";
    /// The volume's epoch is below the recorded one.
    pub const STALE_VOLUME: &str = "StaleVolume";
    /// The volume has data files and no identity.
    pub const UNKNOWN_DATA: &str = "UnknownData";
    /// The identity file cannot be read.
    pub const DAMAGED_IDENTITY: &str = "DamagedIdentity";
    /// Bootstrap names a snapshot or a retained volume, and the volume is empty.
    pub const SOURCE_VOLUME_EMPTY: &str = "SourceVolumeEmpty";
    /// The volume is not the snapshot that bootstrap names.
    pub const SOURCE_MISMATCH: &str = "SourceMismatch";
    /// The record cannot be read or is not there.
    pub const RECORD_UNREADABLE: &str = "RecordUnreadable";
    /// The restore failed; it is tried again.
    pub const RESTORE_FAILED: &str = "RestoreFailed";
    /// Recovery of the data on the volume refused (damage).
    pub const DATA_DAMAGED: &str = "DataDamaged";
    /// The volume cannot be written (full, failing): what was acknowledged is on it, and it is tried again.
    pub const STORAGE_FAILED: &str = "StorageFailed";
    /// The epoch of the volume is not recorded yet; the first write waits for it.
    pub const AWAITING_RECORD: &str = "AwaitingRecord";
}
