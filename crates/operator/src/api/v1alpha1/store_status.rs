//! Status of a Store.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Strategy;

/// What the operator knows of a Store. Losing it never makes a Store look new: id and epoch are also in the ConfigMap
/// `<name>-record` and on the volume.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StoreStatus {
    /// Generation of the spec that this status answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Id of the data, chosen once; first path element of its backups and label of its claim.
    #[serde(default, rename = "storeID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub store_id: Option<String>,
    /// Generation of the data, from 1; grows at each restore, never at a restart. Absent until the first volume is set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The claim whose volume holds the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimStatus>,
    /// Persistence as asked for and as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<PersistenceStatus>,
    /// The newest backups of this Store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupSummary>,
    /// The restore that is under way, recorded before it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreStatus>,
    /// The last restore that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_restore: Option<RestoreStatus>,
    /// The last restart of the pod by the operator, recorded before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_pod_restart: Option<PodRestartStatus>,
    /// What the spec said, of all that needs a restart, when the pod last became ready with it. A failed update goes back to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub last_good_update: Option<serde_json::Value>,
    /// The update that did not become ready and was taken back. It stays until another one has become ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_update: Option<FailedUpdate>,
    /// The update that has begun. Before that, nothing of an update is applied: what last worked stays in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_update: Option<StartedUpdate>,
    /// The update that the running server has refused. It does not begin before a server accepts it, or the spec says
    /// something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_update: Option<RefusedUpdate>,
    /// Ready, Reconciling, Stalled, PersistenceHealthy, LastBackupSucceeded, ConfigurationWarning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A field whose parts belong to the spec of the operator's version that wrote it.
fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// An update that was taken back.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FailedUpdate {
    /// Digest of what the spec said. It is not tried again before the spec says something else, or allows another time.
    #[schemars(length(max = 64))]
    pub update: String,
    /// The seconds in which it was to become ready.
    pub ready_timeout_seconds: u32,
    /// Why the pod was not ready: the reason of the condition Ready.
    #[schemars(length(max = 256))]
    pub reason: String,
    /// The pod's own message.
    #[schemars(length(max = 32_768))]
    pub message: String,
    /// When it was taken back.
    pub time: Time,
}

/// An update that has begun: it is approved, checked, and its turn has come.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct StartedUpdate {
    /// Digest of what the spec said. Once begun, it is finished, also when its maintenance window has closed.
    #[schemars(length(max = 64))]
    pub update: String,
    /// When it began.
    pub start_time: Time,
}

/// An update that the running server would not start with.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RefusedUpdate {
    /// Digest of what the spec said.
    #[schemars(length(max = 64))]
    pub update: String,
    /// What the server objects to, and what to do.
    #[schemars(length(max = 32_768))]
    pub message: String,
}

/// The claim whose volume holds the data.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClaimStatus {
    /// Name of the claim.
    #[schemars(length(max = 253))]
    pub name: String,
    /// UID of the claim. Another claim of that name is another volume.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// Persistence as asked for and as it is.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PersistenceStatus {
    /// Strategy of the spec.
    pub desired: Strategy,
    /// Strategy that the server runs with; absent while it has not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<Strategy>,
    /// True when the server runs with exactly the configuration that the spec yields.
    pub configuration_current: bool,
    /// Version of the files on the volume, as its server last said. A server that reads no such files is not brought back by
    /// itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format_version: Option<u32>,
    /// The last finished snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_snapshot: Option<JobStatus>,
    /// The last finished rotation of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rotation: Option<JobStatus>,
}

/// A finished snapshot or rotation.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// When it ended.
    pub completion_time: Time,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// How long it took.
    pub duration_milliseconds: u64,
}

/// The newest backups of a Store.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BackupSummary {
    /// The newest StoreBackup that succeeded and lies in the bucket: what a lost volume is restored from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub last_successful_backup: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<Time>,
    /// The newest StoreBackup of the method VolumeSnapshot that succeeded. A lost volume is not restored from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub last_volume_snapshot: Option<String>,
    /// The newest StoreBackup that failed after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub last_failed_backup: Option<String>,
}

/// A restart of the pod by the operator.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PodRestartStatus {
    /// What it was for.
    pub cause: RestartCause,
    /// What the pod was to come up with: a revision of the StatefulSet, or the SHA-256 of a configuration.
    #[schemars(length(max = 253))]
    pub target: String,
    /// UID of the pod that was restarted.
    #[serde(rename = "podUID")]
    #[schemars(length(max = 64))]
    pub pod_uid: String,
    /// Name of the update that was in force. Only earlier versions wrote it; `startedUpdate` took its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub update: Option<String>,
    /// Restarts in a row for this cause and target. When they change nothing, the operator stops.
    pub count: u32,
    /// Position in the stream of writes when it was decided; under strategy Never a snapshot must hold it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// When it was decided.
    pub start_time: Time,
}

/// What a restart of the pod is for.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartCause {
    /// The pod comes from an older template.
    Template,
    /// The server has started with an older copy of the configuration.
    Configuration,
}

impl RestartCause {
    /// Restarts in a row that may change nothing. A pod always comes back with the new template; a kubelet may lag behind
    /// with a ConfigMap for a moment.
    pub(crate) fn restarts_max(self) -> u32 {
        match self {
            RestartCause::Template => 1,
            RestartCause::Configuration => 3,
        }
    }
}

/// A restore from a bucket.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RestoreStatus {
    /// The BackupLocation.
    #[schemars(length(max = 253))]
    pub location: String,
    /// Path of the backup below the location's prefix.
    #[schemars(length(max = 1024))]
    pub backup_path: String,
    /// When the data of the backup was cut; writes after it are not in it.
    pub cut_time: Time,
    /// Epoch of the restored data.
    pub epoch: u64,
    /// When the restore was decided.
    pub start_time: Time,
    /// When the restored data was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
}
