//! The identity file on a volume: whose data this is, and how far it goes.

use serde::{Deserialize, Serialize};

/// File name of the identity in the data directory.
pub const IDENTITY_FILE: &str = "holdfast-identity.json";

/// Version of [`Identity`] written by this release. A reader refuses a higher one.
pub const IDENTITY_VERSION: u32 = 1;

/// Contents of [`IDENTITY_FILE`]: one JSON object, replaced atomically (write aside, sync, rename, sync directory).
///
/// `epoch` grows at a restore and at a clone and never at a restart, so that of two volumes of one Store the one with
/// the greater (`epoch`, `last_offset`) holds the newer data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// [`IDENTITY_VERSION`] of the writer.
    pub version: u32,
    /// Id of the Store (a UUID), chosen once when the Store is new; the first path element of its backups.
    #[serde(rename = "storeID")]
    pub store_id: String,
    /// Name of the instance that wrote this, `<pod name>` in Kubernetes, the host name elsewhere.
    pub instance: String,
    /// Generation of the data, from 1.
    pub epoch: u64,
    /// Offset after the last write that this instance had executed when the file was written, in stream bytes.
    pub last_offset: u64,
    /// Offset up to which the data was on stable storage when the file was written; never above `last_offset`.
    pub durable_offset: u64,
    /// True once the epoch is known to be recorded outside the volume (or needs no record): writes may be accepted.
    pub granted: bool,
    /// True when the instance stopped cleanly and nothing has been written since.
    pub clean_shutdown: bool,
    /// Whether a log was live when a server that had loaded the data wrote this. Absent before the first load, and in
    /// files of earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_log: Option<bool>,
    /// Where the data came from, when it was restored or cloned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// When the file was written.
    pub written_ms: u64,
}

/// The source of restored or cloned data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parent {
    /// Store id of the source.
    #[serde(rename = "storeID")]
    pub store_id: String,
    /// Epoch of the source.
    pub epoch: u64,
    /// Offset of the source at which the copy was cut.
    pub offset: u64,
    /// Path of the backup below the location's prefix; absent for a volume snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_path: Option<String>,
}
