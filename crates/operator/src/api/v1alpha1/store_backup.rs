//! A backup of a Store.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each type, with its visibility, inside a function body"
)]

use holdfast_contract::bucket::Location;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BackupLocation, ObjectRef};

/// One backup of a Store, taken once. Deleting it leaves the data in the bucket, and the VolumeSnapshot, where they are.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "holdfast.dev",
    version = "v1alpha1",
    kind = "StoreBackup",
    plural = "storebackups",
    shortname = "stb",
    category = "holdfast",
    namespaced,
    status = "StoreBackupStatus",
    derive = "PartialEq",
    doc = "One backup of a Store, taken once. Deleting it leaves the data in the bucket, and the VolumeSnapshot, where they are; a backup that still runs is cancelled.",
    printcolumn(name = "Store", type_ = "string", json_path = ".spec.storeRef.name"),
    printcolumn(name = "Method", type_ = "string", json_path = ".spec.method"),
    printcolumn(name = "Succeeded", type_ = "string", json_path = ".status.conditions[?(@.type==\"Succeeded\")].status"),
    printcolumn(name = "Usable", type_ = "string", json_path = ".status.conditions[?(@.type==\"ReadyToUse\")].status", description = "Whether it can be restored from"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Succeeded\")].reason"),
    printcolumn(name = "Keys", type_ = "integer", json_path = ".status.keys"),
    printcolumn(name = "Bytes", type_ = "integer", json_path = ".status.bytes"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Path", type_ = "string", json_path = ".status.path", priority = 1),
    validation = Rule::new("size(self.metadata.name) <= 50").message("the name of a StoreBackup has at most 50 characters, because VolumeSnapshots are named after it"),
)]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("a StoreBackup cannot change: it describes one backup; create another StoreBackup"),
    validation = Rule::new("self.method != 'VolumeSnapshot' || has(self.volumeSnapshotClassName)").message("method VolumeSnapshot needs spec.volumeSnapshotClassName; list the classes with: kubectl get volumesnapshotclass"),
    validation = Rule::new("self.method == 'VolumeSnapshot' || !has(self.volumeSnapshotClassName)").message("spec.volumeSnapshotClassName has no effect with method Snapshot: remove it, or say method VolumeSnapshot"),
)]
#[serde(rename_all = "camelCase")]
pub struct StoreBackupSpec {
    /// The Store, in this namespace.
    pub store_ref: ObjectRef,
    /// `Snapshot`: the server uploads its dataset to the Store's `backup.locationRef`; it is complete only when it was
    /// read back, compared and opened. `VolumeSnapshot`: a snapshot of the volume by its CSI driver.
    #[serde(default)]
    pub method: BackupMethod,
    /// VolumeSnapshotClass, for the method VolumeSnapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub volume_snapshot_class_name: Option<String>,
    /// The backup fails when it has not begun so many seconds after it was created, or has not ended so many seconds after
    /// it began (`status.startTime`). Default: 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 604_800))]
    pub deadline_seconds: Option<u32>,
}

/// How a backup is made.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BackupMethod {
    /// The dataset, to the bucket of the Store's location.
    #[default]
    Snapshot,
    /// The volume, by its CSI driver.
    VolumeSnapshot,
}

/// What is known of a backup.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StoreBackupStatus {
    /// Generation of the spec that this status answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When it began: its Store was ready. From then on `spec.deadlineSeconds` counts again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended, well or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Id of the data.
    #[serde(default, rename = "storeID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub store_id: Option<String>,
    /// The pod that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub instance: Option<String>,
    /// Generation of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Position in the stream of writes at which the data was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Keys in all databases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
    /// Digest of all keys and values, independent of their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub digest: Option<String>,
    /// The BackupLocation that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub location: Option<String>,
    /// Where that was when the backup began. A BackupLocation that names another place now does not hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<BackupPlace>,
    /// Path below the location's prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub path: Option<String>,
    /// Attempts so far: a further one is made when the server stopped meanwhile, or the cut missed its barrier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The barrier of the current attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barrier: Option<BarrierStatus>,
    /// The volume snapshots that make up the backup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub volume_snapshots: Vec<VolumeSnapshotStatus>,
    /// Succeeded, ReadyToUse.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A place in an object store.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BackupPlace {
    /// Name of the bucket.
    #[schemars(length(max = 63))]
    pub bucket: String,
    /// URL of the service; absent for AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub endpoint: Option<String>,
    /// Path below which everything lies; absent for the root of the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub prefix: Option<String>,
}

impl BackupPlace {
    /// The place that `location` names.
    pub(crate) fn of(location: &BackupLocation) -> Self {
        Self {
            bucket: location.spec.s3.bucket.clone(),
            endpoint: location.spec.s3.endpoint.clone(),
            prefix: location.spec.prefix.clone(),
        }
    }

    /// `location`, but this bucket and prefix.
    pub(crate) fn within(&self, location: Location) -> Location {
        Location { bucket: self.bucket.clone(), prefix: self.prefix.clone().unwrap_or_default(), ..location }
    }

    /// This place in words when `location` names another one. Another endpoint may be another way to the same bucket, so
    /// only bucket and prefix count.
    pub(crate) fn differs_from(&self, location: &BackupLocation) -> Option<String> {
        let now = Self::of(location);
        (self.bucket != now.bucket || self.prefix != now.prefix).then(|| {
            format!("bucket {:?}, prefix {:?}", self.bucket, self.prefix.as_deref().unwrap_or_default())
        })
    }
}

/// A persistence barrier: the server keeps its files still while the volume is cut.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BarrierStatus {
    /// Name under which the server knows it.
    #[schemars(length(max = 64))]
    pub token: String,
    /// When it was taken, by the server's clock.
    pub taken_time: Time,
    /// When the server lets go by itself, by its clock.
    pub expiry_time: Time,
    /// When the operator had it, by the operator's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_time: Option<Time>,
    /// True once the cut is proven to lie within the barrier and the barrier is released.
    pub released: bool,
}

/// A volume snapshot of a backup.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshotStatus {
    /// Name of the VolumeSnapshot.
    #[schemars(length(max = 253))]
    pub name: String,
    /// When the volume was cut, by the driver's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<Time>,
}
