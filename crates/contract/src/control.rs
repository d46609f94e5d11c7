//! Messages of the control port. Every request carries `Authorization: Bearer <token>`.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /v1/status` | – | [`ServerStatus`] |
//! | `PUT /v1/decision` | [`crate::record::StoreRecord`] | [`ServerStatus`]; the server decides again with this record |
//! | `POST /v1/barriers` | [`BarrierRequest`] | [`Barrier`]; asking again with the same token answers the same barrier |
//! | `GET /v1/barriers/{token}` | – | [`Barrier`] |
//! | `DELETE /v1/barriers/{token}` | – | [`Barrier`], released; asking again answers the same |
//! | `POST /v1/backups` | [`BackupRequest`] | [`BackupProgress`]; asking again with the same id answers its progress |
//! | `GET /v1/backups/{id}` | – | [`BackupProgress`] |
//! | `DELETE /v1/backups/{id}` | – | [`BackupProgress`], cancelled unless it had ended |
//! | `POST /v1/config/check` | [`ConfigCheckRequest`] | [`ConfigCheck`]; nothing changes |
//! | `POST /v1/snapshot` | – | [`ServerStatus`]; starts a log rewrite (with a log) or a snapshot (without) |
//!
//! An error is a status code of the 400s or 500s with [`ErrorBody`].
//!
//! # Versions
//!
//! A server says in [`ServerStatus::contract_version`] which version it speaks, and the operator asks it for nothing that
//! came later. Fields and answers are only ever added; who does not know one ignores it.
//!
//! | version | since | adds |
//! |---|---|---|
//! | 1 | v0.1.0, which does not say its version | |
//! | 2 | the version after it | `contractVersion`; `POST /v1/config/check`; `formerOwnerUIDs` of a backup; every `maxmemory-policy` in its configuration |

use serde::{Deserialize, Serialize};

use crate::bucket::{DatasetSummary, Location};
use crate::identity::Identity;
use crate::record::DecisionReport;

/// Version of these messages that this release speaks.
pub const CONTRACT_VERSION: u32 = 2;

/// The version of servers that do not say one.
const CONTRACT_VERSION_FIRST: u32 = 1;

/// First version with `POST /v1/config/check`.
pub const CONFIG_CHECK_SINCE: u32 = 2;

/// First version whose server starts with a `maxmemory-policy` other than `noeviction`.
pub const EVICTION_SINCE: u32 = 2;

fn contract_version_first() -> u32 {
    CONTRACT_VERSION_FIRST
}

/// What the server is doing, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ServerState {
    /// Opens nothing for writing; [`ServerStatus::decision`] says why.
    Holding,
    /// Restores a backup into a side directory.
    Restoring,
    /// Has the data, and waits until its epoch is recorded before the first write.
    AwaitingRecord,
    /// Loads its files; answers `LOADING`.
    Loading,
    /// Serves clients.
    Ready,
    /// Serves reads; writes are refused because a write or sync of the log failed, or the disk is full.
    WritesRefused,
    /// Is stopping.
    Stopping,
}

/// Everything that the operator wants to know of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// Version of the server.
    pub version: String,
    /// Version of the contract that the server speaks: [`CONTRACT_VERSION`] of its release.
    #[serde(default = "contract_version_first")]
    pub contract_version: u32,
    /// What it is doing.
    pub state: ServerState,
    /// What the volume says; absent while there is no readable identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// The last decision about the volume; absent outside Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionReport>,
    /// Why writes are refused, in the state [`ServerState::WritesRefused`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The effective strategy in the words of the configuration: `always`, `everysec`, `no`, `never`, `disabled`.
    pub strategy: String,
    /// SHA-256 of the configuration file as it was read at start, lower-case hex; empty when there is none.
    pub config_sha256: String,
    /// Offset after the last executed write.
    pub last_offset: u64,
    /// Offset up to which everything is on stable storage.
    pub durable_offset: u64,
    /// Keys in all databases.
    pub keys: u64,
    /// Progress of a load or restore, 0 to 1; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// The last finished snapshot (RDB file); absent when there was none since start and none was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_snapshot: Option<JobReport>,
    /// The last finished log rewrite; absent when there was none since start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rotation: Option<JobReport>,
    /// Error of the last snapshot or rewrite, when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_job_error: Option<String>,
}

/// A finished snapshot or log rewrite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobReport {
    /// When it ended; of a snapshot that was loaded, when its data was cut.
    pub completed_ms: u64,
    /// Size of the snapshot or base file in bytes.
    pub bytes: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Offset of its cut.
    pub offset: u64,
}

/// Asks for a persistence barrier: log and directory synced, no file deleted or renamed while it is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BarrierRequest {
    /// Name chosen by the caller (the UID of the StoreBackup), so that a restarted operator finds its barrier.
    pub token: String,
    /// The server lets go by itself after this time.
    pub timeout_seconds: u64,
}

/// A persistence barrier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Barrier {
    /// The caller's token.
    pub token: String,
    /// Id of the Store.
    #[serde(rename = "storeID")]
    pub store_id: String,
    /// Epoch of the data.
    pub epoch: u64,
    /// Everything up to this offset is on stable storage, and recovery can stop at exactly this offset.
    pub offset: u64,
    /// When the barrier was taken.
    pub taken_ms: u64,
    /// When the server lets go, or has let go, by itself.
    pub expires_ms: u64,
    /// When the barrier ended; absent while it is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_ms: Option<u64>,
    /// True when it ended by its time-out.
    pub expired: bool,
}

/// Asks the server to upload a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupRequest {
    /// Name chosen by the caller (the UID of the StoreBackup): asking again never starts a second upload.
    pub id: String,
    /// Where to.
    pub location: Location,
    /// Directory in the pod with the credentials of the location.
    pub credentials_dir: String,
    /// UID of the Store object, for the owner marker.
    #[serde(rename = "ownerUID")]
    pub owner_uid: String,
    /// `namespace/name` of the Store object, for the owner marker.
    pub owner_name: String,
    /// The Store has adopted this data: the owner marker of a Store that had it before gives way.
    #[serde(default)]
    pub takes_over: bool,
    /// UIDs of the Store objects that had this data before: only their marker gives way. Absent in requests of older
    /// operators, which do not know them; then any marker of this data gives way.
    #[serde(default, rename = "formerOwnerUIDs", skip_serializing_if = "Option::is_none")]
    pub former_owner_uids: Option<Vec<String>>,
}

/// Where a backup stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BackupPhase {
    /// The snapshot is being cut.
    Cutting,
    /// The snapshot goes to the bucket.
    Uploading,
    /// The bucket's copy is read back and opened.
    Verifying,
    /// The manifest is in the bucket.
    Succeeded,
    /// It ended without a manifest.
    Failed,
}

/// Progress of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupProgress {
    /// The caller's id.
    pub id: String,
    /// Where it stands.
    pub phase: BackupPhase,
    /// PascalCase reason when it failed, fit for a condition; one of [`backup_reason`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What failed, on which object, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Path of the backup below the location's prefix, from the cut on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_path: Option<String>,
    /// Bytes sent so far.
    pub uploaded_bytes: u64,
    /// Bytes in all; 0 until the cut is written.
    pub total_bytes: u64,
    /// Epoch of the data.
    pub epoch: u64,
    /// Offset of the cut.
    pub offset: u64,
    /// What the backup holds, once it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<DatasetSummary>,
    /// When it started.
    pub started_ms: u64,
    /// When it ended; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_ms: Option<u64>,
}

/// Reasons of [`BackupProgress::reason`].
pub mod backup_reason {
    /// A credentials file is missing or empty.
    pub const CREDENTIALS_MISSING: &str = "CredentialsMissing";
    /// The object store refused the credentials.
    pub const ACCESS_DENIED: &str = "AccessDenied";
    /// No such bucket.
    pub const BUCKET_NOT_FOUND: &str = "BucketNotFound";
    /// The object store did not answer, or answered with an error.
    pub const LOCATION_UNAVAILABLE: &str = "LocationUnavailable";
    /// Another Store owns this part of the bucket.
    pub const FOREIGN_OWNER: &str = "ForeignOwner";
    /// The snapshot could not be written locally.
    pub const SNAPSHOT_FAILED: &str = "SnapshotFailed";
    /// The volume has no room for the snapshot beside the data; the message has the bytes that it needs and those that are free.
    pub const INSUFFICIENT_SPACE: &str = "InsufficientSpace";
    /// What was read back is not what was sent, or does not open.
    pub const VERIFICATION_FAILED: &str = "VerificationFailed";
    /// It met a defect of the server.
    pub const DEFECT: &str = "Defect";
    /// The caller cancelled it, or the server is stopping.
    pub const CANCELLED: &str = "Cancelled";
    /// The server holds no data to back up (`disabled`, holding, loading).
    pub const NOT_READY: &str = "NotReady";
}

/// Asks whether this server could start with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigCheckRequest {
    /// The whole file.
    pub text: String,
}

/// What the server says of a configuration file: read by the same code as at start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigCheck {
    /// Why it would not start; empty: it would.
    pub problems: Vec<ConfigProblem>,
}

/// One reason for which a server would not start with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigProblem {
    /// Number of the line, from 1; absent when it is about several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// What is wrong and what is allowed. Values of secret directives are not repeated.
    pub message: String,
}

/// Body of an error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// PascalCase reason.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}
