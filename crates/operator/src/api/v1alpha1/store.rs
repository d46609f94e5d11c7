//! Spec of a Store.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each type, with its visibility, inside a function body"
)]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StoreStatus;
use crate::api::quantity::Quantity;

/// CEL: no line of `config` begins with a directive that the operator manages. A test holds it against the table in
/// `reconcile::validate`, which names the field to use for each.
pub(crate) const CONFIG_RULE: &str = "self.all(line, !line.matches('(?i)^\\\\s*\"?(dir|port|bind|bind-source-addr|unixsocket|protected-mode|requirepass|requirepass-file|control-token-file|store-record-file|credentials-dir|instance-name|on-refusal|termination-message-file|health-port|control-port|persist-strategy|persistent|appendonly|appendfsync|save|auto-aof-rewrite-percentage|auto-aof-rewrite-min-size|auto-aof-rewrite-max-size|maxmemory|shutdown-on-sigterm|shutdown-timeout|shutdown-on-sigint|include|daemonize|pidfile|supervised|logfile|dbfilename|appendfilename|appenddirname)\"?(\\\\s|$)'))";

/// CEL: the name of a directive is written plainly. Quotes and escapes in it would hide from [`CONFIG_RULE`] what the server
/// reads.
const PLAIN_NAME_RULE: &str = r#"self.all(line, !line.matches('^\\s*[^\\s"\'\\\\#]*["\'\\\\]'))"#;

/// CEL: an eviction policy has a limit at which it evicts.
const EVICTION_LIMIT_RULE: &str = "!has(self.memory) || !has(self.memory.evictionPolicy) || self.memory.evictionPolicy == 'NoEviction' || has(self.memory.maxMemory) || (has(self.resources) && has(self.resources.limits) && has(self.resources.limits.memory))";

/// CEL: the eviction policy is set in one place.
const ONE_EVICTION_POLICY_RULE: &str = r"!has(self.memory) || !has(self.memory.evictionPolicy) || !has(self.config) || self.config.all(line, !line.matches('(?i)^\\s*maxmemory-policy(\\s|$)'))";

/// A Store: one dataset in memory, kept on a volume as its persistence policy says.
///
/// The operator runs one pod `<name>-0` with the volume claim `data-<name>-0`. Clients connect to the Service `<name>` on
/// port 6379 with the password under the key `password` of the Secret `<name>-auth`.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[kube(
    group = "holdfast.dev",
    version = "v1alpha1",
    kind = "Store",
    plural = "stores",
    shortname = "st",
    category = "holdfast",
    namespaced,
    status = "StoreStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A Store: one dataset in memory, kept on a volume as its persistence policy says. The operator runs one pod <name>-0 with the volume claim data-<name>-0. Clients connect to the Service <name> on port 6379 with the password under the key password of the Secret <name>-auth.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether clients are served"),
    printcolumn(name = "Strategy", type_ = "string", json_path = ".status.persistence.effective", description = "Log strategy in effect"),
    printcolumn(name = "Persistence", type_ = "string", json_path = ".status.conditions[?(@.type==\"PersistenceHealthy\")].status", description = "Whether the persistence policy is being kept"),
    printcolumn(name = "Last-Backup", type_ = "date", json_path = ".status.backup.lastSuccessTime", description = "Age of the newest good backup"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Why it is, or is not, ready"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".status.epoch", description = "Generation of the data; grows at each restore", priority = 1),
    printcolumn(name = "Store-ID", type_ = "string", json_path = ".status.storeID", priority = 1),
    validation = Rule::new("size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("the name of a Store has at most 40 characters, lower-case letters, digits and '-', and begins with a letter, because pods, Services and claims are named after it"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.epoch) || (has(self.spec.bootstrap) == has(oldSelf.spec.bootstrap) && (!has(self.spec.bootstrap) || self.spec.bootstrap == oldSelf.spec.bootstrap))").message("spec.bootstrap cannot change once the Store holds data: it says how the first volume was filled; create another Store instead"),
)]
#[x_kube(
    validation = Rule::new("self.persistence.strategy == 'Disabled' || has(self.storage)").message("spec.storage is required: a Store keeps its data on a volume; only persistence.strategy Disabled goes without"),
    validation = Rule::new("self.persistence.strategy != 'Disabled' || !has(self.storage)").message("spec.storage has no effect with persistence.strategy Disabled: remove it, or choose a strategy that keeps data"),
    validation = Rule::new("self.persistence.strategy != 'Disabled' || !has(self.bootstrap) || has(self.bootstrap.empty)").message("spec.bootstrap has no effect with persistence.strategy Disabled: nothing is loaded; remove it"),
    validation = Rule::new("self.persistence.strategy != 'Disabled' || self.recovery.onVolumeLoss == 'Halt'").message("spec.recovery.onVolumeLoss RestoreLatestBackup needs a volume; persistence.strategy Disabled has none"),
    validation = Rule::new("self.recovery.onVolumeLoss != 'RestoreLatestBackup' || has(self.backup)").message("spec.recovery.onVolumeLoss RestoreLatestBackup needs spec.backup.locationRef: the place to restore from"),
    validation = Rule::new("self.persistence.strategy != 'Disabled' || !has(self.backup) || oldSelf.optMap(o, o.persistence.strategy == 'Disabled' && has(o.backup)).orValue(false)").message("spec.backup has no effect with persistence.strategy Disabled: there is nothing to back up; remove it").optional_old_self(true),
    validation = Rule::new("self.persistence.strategy != 'Disabled' || self.deletionPolicy != 'DeleteVolumes' || oldSelf.optMap(o, o.persistence.strategy == 'Disabled' && o.deletionPolicy == 'DeleteVolumes').orValue(false)").message("spec.deletionPolicy DeleteVolumes has no effect with persistence.strategy Disabled: there is no volume; remove it").optional_old_self(true),
    validation = Rule::new("(self.persistence.strategy == 'Disabled') == (oldSelf.persistence.strategy == 'Disabled')").message("persistence.strategy cannot change from or to Disabled: a Store with a volume keeps it; create another Store"),
    validation = Rule::new(EVICTION_LIMIT_RULE).message("spec.memory.evictionPolicy has no effect while nothing limits the data: set spec.memory.maxMemory or spec.resources.limits.memory, or remove it"),
    validation = Rule::new(ONE_EVICTION_POLICY_RULE).message("spec.memory.evictionPolicy and a line maxmemory-policy of spec.config both set the eviction policy: remove the line"),
    validation = Rule::new("has(self.storage) == has(oldSelf.storage) && (!has(self.storage) || self.storage == oldSelf.storage)").message("spec.storage cannot change in this version; create another Store, from a backup or a volume snapshot of this one"),
)]
#[serde(rename_all = "camelCase")]
pub struct StoreSpec {
    /// Image of holdfast-server. Default: the image of the operator's own version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// CPU and memory of the server. A memory limit without `memory.maxMemory` sets `maxmemory` to 75 % of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// How much memory the data may take, and what happens when it is full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemorySettings>,

    /// What is kept on the volume, and when.
    #[serde(default)]
    pub persistence: Persistence,

    /// The volume. Required unless the strategy is `Disabled`. Cannot change in this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSettings>,

    /// Where backups go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupSettings>,

    /// How the first volume is filled; exactly one source. Default: empty. Cannot change once the Store holds data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,

    /// What happens when the data is lost.
    #[serde(default)]
    pub recovery: RecoverySettings,

    /// What happens to the volume when the Store is deleted. `RetainVolumes`: the claim stays and can be taken up again
    /// by a Store of the same name with `bootstrap.adopt`. `DeleteVolumes`: it is deleted with the Store. Backups in
    /// the bucket and VolumeSnapshots stay either way.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// Further lines of the server's configuration file, as in redis.conf. Directives that the operator manages are
    /// refused; the field for each is in this spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512), pattern(r"^[^\r\n\x00]+$")))]
    #[x_kube(validation = Rule::new(PLAIN_NAME_RULE).message("the first word of a line of spec.config has quotes or backslashes in it; write the name of the directive plainly, and quote only its value"))]
    #[x_kube(validation = Rule::new(CONFIG_RULE).message("a line of spec.config sets a directive that the operator manages; use the field instead: spec.persistence for persist-strategy, appendonly, appendfsync, save, auto-aof-rewrite-* and shutdown-*, spec.memory.maxMemory for maxmemory, the Secret <name>-auth for requirepass; ports, addresses, paths and files are fixed"))]
    pub config: Vec<String>,

    /// What the pod carries besides the server: labels, annotations, where it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,

    /// How changes that need a restart reach the pod: image, resources, memory, persistence, config, podTemplate.
    #[serde(default)]
    pub update_strategy: UpdateStrategy,

    /// When such changes may begin. Default: at any time. The annotation `holdfast.dev/approve-update` lets one begin outside of
    /// them. Without effect under `updateStrategy.type: Supervised`, where only that annotation counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub maintenance_windows: Vec<MaintenanceWindow>,
}

/// A recurring period in which updates may begin.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceWindow {
    /// Its name, for messages.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// When it opens: five fields of cron (minute, hour, day of the month, month, day of the week), such as `0 3 * * 6,7`.
    #[schemars(length(min = 1, max = 256))]
    pub schedule: String,
    /// How long it is open, in seconds.
    #[schemars(range(min = 60, max = 604_800))]
    pub duration_seconds: u32,
    /// Time zone of the schedule by its name, such as `Europe/Berlin`. Default: `UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
}

/// How changes that need a restart reach the pod.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStrategy {
    /// `Automatic`: at once, one Store after the other. `Supervised`: when the annotation `holdfast.dev/approve-update`
    /// of the Store names the update that waits, which the condition Reconciling shows; the first start needs no approval.
    #[serde(default, rename = "type")]
    pub kind: UpdateType,
    /// Seconds in which a changed pod must become ready; loading, restoring and waiting for a decision about the volume do not
    /// count. A pod that does not is taken back to the last image, configuration and template that worked. Default: 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 86_400))]
    pub ready_timeout_seconds: Option<u32>,
}

/// Who lets an update begin.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UpdateType {
    /// The operator.
    #[default]
    Automatic,
    /// A person, by an annotation.
    Supervised,
}

/// CPU and memory of the server.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the scheduler sets aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<ResourceList>,
    /// What the server may use at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceList>,
}

/// Amounts of CPU and memory.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ResourceList {
    /// CPUs, for example `500m` or `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Bytes of memory, for example `2Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// Bytes of the node's own disk, for example `1Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "ephemeral-storage")]
    pub ephemeral_storage: Option<Quantity>,
}

/// How much memory the data may take, and what happens when it is full.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MemorySettings {
    /// Writes that would take more evict keys as `evictionPolicy` says, or are refused with Redis's `OOM` error. Must be below
    /// the memory limit. Default: 75 % of `resources.limits.memory`, without a limit unbounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<Quantity>,
    /// Which keys are evicted when a write needs more than `maxMemory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eviction_policy: Option<EvictionPolicy>,
}

/// Which keys are evicted when a write needs more than `maxMemory` (Redis's `maxmemory-policy`). `NoEviction`: none, the
/// write is refused. `AllKeysLRU`: those that were not used for the longest time. `AllKeysLFU`: those that are used least
/// often. `AllKeysRandom`: any. `VolatileLRU`, `VolatileLFU`, `VolatileRandom`: the same, but only keys with an expiry.
/// `VolatileTTL`: those that expire soonest. An evicted key is deleted on the volume and in later backups, too. Needs
/// `maxMemory` or a memory limit. Default: `NoEviction`, unless a line `maxmemory-policy` of `config` says otherwise.
//
// The schema of an optional field has the description of its type.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EvictionPolicy {
    /// None: the write is refused.
    #[default]
    NoEviction,
    /// Keys that were not used for longest.
    #[serde(rename = "AllKeysLRU")]
    AllKeysLru,
    /// Keys that are used least often.
    #[serde(rename = "AllKeysLFU")]
    AllKeysLfu,
    /// Any keys.
    AllKeysRandom,
    /// Keys with an expiry that were not used for longest.
    #[serde(rename = "VolatileLRU")]
    VolatileLru,
    /// Keys with an expiry that are used least often.
    #[serde(rename = "VolatileLFU")]
    VolatileLfu,
    /// Any keys with an expiry.
    VolatileRandom,
    /// Keys that expire soonest.
    #[serde(rename = "VolatileTTL")]
    VolatileTtl,
}

/// What is kept on the volume, and when.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, Default, PartialEq)]
#[x_kube(
    validation = Rule::new("!has(self.log) || self.strategy in ['Always', 'EverySecond', 'NoSync']").message("persistence.log has no effect without a log: use strategy Always, EverySecond or NoSync, or remove it"),
    validation = Rule::new("!has(self.snapshot) || self.strategy != 'Disabled'").message("persistence.snapshot has no effect with strategy Disabled: nothing is kept; remove it or choose another strategy"),
    validation = Rule::new("!has(self.shutdown) || !has(self.shutdown.snapshot) || self.shutdown.snapshot == 'Automatic' || self.strategy != 'Disabled'").message("persistence.shutdown.snapshot has no effect with strategy Disabled: nothing is kept"),
    validation = Rule::new("self.strategy != 'Never' || !has(self.shutdown) || !has(self.shutdown.snapshot) || self.shutdown.snapshot != 'Never' || (has(self.snapshot) && size(self.snapshot.rules) > 0)").message("strategy Never with shutdown.snapshot Never and no snapshot rule would keep nothing: add a rule to persistence.snapshot.rules, or say strategy Disabled"),
    validation = Rule::new("self.strategy != 'Never' || !has(self.shutdown) || !has(self.shutdown.budgetSeconds) || self.shutdown.budgetSeconds >= 10 || self.shutdown.snapshot == 'Never' || oldSelf.optMap(o, o.strategy == 'Never' && has(o.shutdown) && has(o.shutdown.budgetSeconds) && o.shutdown.budgetSeconds < 10).orValue(false)").message("persistence.shutdown.budgetSeconds below 10 is probably too short to write the dataset, and under strategy Never nothing else keeps it: allow 10 or more").optional_old_self(true),
)]
#[serde(rename_all = "camelCase")]
pub struct Persistence {
    /// When a write is safe. `Always`: it is answered only when its log record is on stable storage. `EverySecond`: the
    /// log is synced every second; a power cut loses at most that second. `NoSync`: the log is written, the operating
    /// system decides when it reaches the disk. `Never`: no log; a snapshot at a clean stop (and by rules) is all.
    /// `Disabled`: nothing is kept and nothing is loaded, a pure cache without a volume.
    #[serde(default)]
    pub strategy: Strategy,

    /// Snapshots besides the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotSettings>,

    /// The log. Only with the strategies `Always`, `EverySecond` and `NoSync`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogSettings>,

    /// The clean stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown: Option<ShutdownSettings>,
}

/// When a write is safe.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// On stable storage before the answer.
    Always,
    /// On stable storage within a second.
    #[default]
    EverySecond,
    /// In the log; the operating system decides when it is synced.
    NoSync,
    /// Snapshots only.
    Never,
    /// Nothing is kept.
    Disabled,
}

/// Snapshots besides the log.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotSettings {
    /// A snapshot is taken when any rule holds. Empty: none but the one at shutdown.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub rules: Vec<SnapshotRule>,
}

/// Take a snapshot when so many changes have come since the last one, and it is so old.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotRule {
    /// Least age of the last snapshot in seconds.
    #[schemars(range(min = 1, max = 31_536_000))]
    pub period_seconds: u32,
    /// Least number of changes since the last snapshot.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub min_changes: u32,
}

/// The log.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LogSettings {
    /// When the log is rotated: rewritten as a fresh base, with a new empty log after it.
    #[serde(default)]
    pub rotation: LogRotation,
}

/// When the log is rotated. Growth and size stand beside each other: the first that holds rotates.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LogRotation {
    /// Rotate when the log has grown by this percentage over its size after the last rotation. 0: never by growth.
    /// Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub growth_percentage: Option<u32>,
    /// No rotation by growth below this size. Default: 64Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size: Option<Quantity>,
    /// Rotate when the log written since the last rotation exceeds this size, whatever its growth. Default: no such limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Quantity>,
}

/// The clean stop.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ShutdownSettings {
    /// Whether a snapshot is taken at a clean stop. `Automatic`: when the policy needs one (strategy `Never`, or
    /// snapshot rules). `Always`, `Never`: as they say.
    #[serde(default)]
    pub snapshot: ShutdownSnapshot,
    /// How many seconds a clean stop may take before the process is killed (`terminationGracePeriodSeconds` of the pod).
    /// Under `Never` it must suffice to write the whole dataset. Default: 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub budget_seconds: Option<u32>,
}

/// Whether a snapshot is taken at a clean stop.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ShutdownSnapshot {
    /// When the policy needs one.
    #[default]
    Automatic,
    /// At every clean stop.
    Always,
    /// At none.
    Never,
}

/// The volume.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StorageSettings {
    /// Template of the claim `data-<name>-0`.
    pub volume_claim_template: ClaimTemplate,
}

/// Template of a PersistentVolumeClaim.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClaimTemplate {
    /// What the claim asks for.
    pub spec: ClaimSpec,
}

/// What the claim asks for.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClaimSpec {
    /// How the volume is mounted. Prefer `ReadWriteOncePod` where the driver has it. Default: `[ReadWriteOnce]`.
    #[serde(default = "default_access_modes")]
    #[schemars(length(min = 1, max = 1))]
    pub access_modes: Vec<AccessMode>,
    /// Storage class; `""`: a volume without a class. Default: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,
    /// Size of the volume.
    pub resources: ClaimResources,
}

fn default_access_modes() -> Vec<AccessMode> {
    vec![AccessMode::ReadWriteOnce]
}

/// How the volume is mounted.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessMode {
    /// By pods of one node.
    ReadWriteOnce,
    /// By one pod.
    ReadWriteOncePod,
}

impl AccessMode {
    /// The name in a claim.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            AccessMode::ReadWriteOnce => "ReadWriteOnce",
            AccessMode::ReadWriteOncePod => "ReadWriteOncePod",
        }
    }
}

/// Size of the volume.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClaimResources {
    /// What is requested.
    pub requests: StorageRequests,
}

/// What is requested.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StorageRequests {
    /// Bytes, for example `10Gi`. Room for about three times the dataset lets a rotation and a restore run beside it.
    pub storage: Quantity,
}

/// Where backups go.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BackupSettings {
    /// The BackupLocation, in this namespace.
    pub location_ref: ObjectRef,
}

/// An object in this namespace.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// Its name.
    #[schemars(
        length(min = 1, max = 253),
        pattern(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
}

/// How the first volume is filled; exactly one source.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, Default, PartialEq)]
#[x_kube(
    validation = Rule::new("(has(self.empty) ? 1 : 0) + (has(self.restore) ? 1 : 0) + (has(self.adopt) ? 1 : 0) == 1").message("spec.bootstrap names exactly one source: empty, restore or adopt"),
)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// A new, empty dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty: Option<Empty>,
    /// The data of a backup or a volume snapshot of any Store in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreSource>,
    /// The retained volume of a deleted Store of the same name. Its part of the bucket is taken over with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopt: Option<Adopt>,
}

/// A new, empty dataset; nothing to set.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq, Eq)]
pub struct Empty {}

/// Where the data comes from; exactly one.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, Default, PartialEq)]
#[x_kube(
    validation = Rule::new("has(self.backupRef) != has(self.volumeSnapshotRef)").message("spec.bootstrap.restore names exactly one of backupRef and volumeSnapshotRef"),
)]
#[serde(rename_all = "camelCase")]
pub struct RestoreSource {
    /// A StoreBackup that is ready to use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_ref: Option<ObjectRef>,
    /// A VolumeSnapshot that a StoreBackup of the method VolumeSnapshot has made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_snapshot_ref: Option<ObjectRef>,
}

/// The retained volume of a deleted Store.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Adopt {
    /// Id of the Store whose volume it is: the label `holdfast.dev/store-id` of the claim `data-<name>-0`.
    #[serde(rename = "storeID")]
    #[schemars(length(min = 36, max = 36), pattern("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"))]
    pub store_id: String,
}

/// What happens when the data is lost.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RecoverySettings {
    /// The volume is lost when its claim is gone, or a new claim holds none of this Store's data. `Halt`: nothing is
    /// served until a person decides; never empty data. `RestoreLatestBackup`: the newest verified backup in
    /// `backup.locationRef` is restored; writes since that backup are lost. A node that is down, a volume that is
    /// attached elsewhere or cannot be mounted is not lost: the Store waits.
    #[serde(default)]
    pub on_volume_loss: OnVolumeLoss,
}

/// What happens when the volume is lost.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnVolumeLoss {
    /// Serve nothing until a person decides.
    #[default]
    Halt,
    /// Restore the newest verified backup.
    RestoreLatestBackup,
}

/// What happens to the volume when the Store is deleted.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// The claim stays.
    #[default]
    RetainVolumes,
    /// The claim is deleted with the Store.
    DeleteVolumes,
}

/// What the pod carries besides the server.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels and annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<PodMetadata>,
    /// Labels that a node must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Affinity to nodes and pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Taints that are tolerated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// How pods spread over the topology.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["topologyKey", "whenUnsatisfiable"]))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Priority class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Secrets with credentials of the image's registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub image_pull_secrets: Vec<ObjectRef>,
}

/// Labels and annotations of the pod.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodMetadata {
    /// Further labels. Keys of `holdfast.dev/` and `app.kubernetes.io/` are the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('holdfast.dev/') && !key.startsWith('app.kubernetes.io/'))").message("label keys of holdfast.dev/ and app.kubernetes.io/ are the operator's; choose another key"))]
    pub labels: BTreeMap<String, String>,
    /// Further annotations. Keys of `holdfast.dev/` are the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('holdfast.dev/'))").message("annotation keys of holdfast.dev/ are the operator's; choose another key"))]
    pub annotations: BTreeMap<String, String>,
}
