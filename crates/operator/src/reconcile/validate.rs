//! From the raw spec to a [`ValidatedStore`]; nothing later reads the raw spec. Pure.
//!
//! What the schema and its CEL rules refuse is refused there. Here is what they cannot see, and once more what would
//! harm if an object came past them.

use holdfast_contract::config_line;
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use super::build::server_config::EVICTION_DIRECTIVE;
use super::update::{self, GoodUpdate, HeldBy, HeldUpdate, Update};
use super::window::{Window, next_opening};
use crate::api::quantity::Quantity;
use crate::api::v1alpha1::{
    AccessMode, Adopt, BackupSettings, Bootstrap, ClaimResources, ClaimSpec, ClaimTemplate, DeletionPolicy,
    Empty, EvictionPolicy, LogRotation, LogSettings, MemorySettings, ObjectRef, OnVolumeLoss, Persistence,
    PodTemplate, RecoverySettings, ResourceList, Resources, RestoreSource, ShutdownSettings,
    ShutdownSnapshot, SnapshotRule, SnapshotSettings, StorageRequests, StorageSettings, Store, StoreSpec,
    Strategy, UpdateStrategy, UpdateType,
};

/// Share of a memory limit that becomes `maxmemory` when the spec names none, in percent. The rest is for the process
/// itself, client buffers and the pages that a running snapshot keeps.
const MAX_MEMORY_SHARE: u64 = 75;

/// Seconds that a clean stop may take unless the spec says otherwise; twice Kubernetes's own default, since a snapshot
/// of a few GiB takes longer than that.
pub const SHUTDOWN_BUDGET_SECONDS: u32 = 60;

/// Growth in percent at which the log is rotated unless the spec says otherwise: Redis's default.
const GROWTH_PERCENTAGE: u32 = 100;
/// Size in bytes below which growth does not rotate the log unless the spec says otherwise: Redis's default.
const MIN_SIZE: u64 = 64 << 20;

/// Directives that the operator manages, and what to use instead.
pub const MANAGED_DIRECTIVES: [(&str, &str); 36] = [
    ("dir", "the path is fixed"),
    ("port", "the port is fixed to 6379"),
    ("bind", "the server listens on all addresses of its pod"),
    ("bind-source-addr", "the server listens on all addresses of its pod"),
    ("unixsocket", "clients reach the pod by its Service"),
    ("protected-mode", "a password is always set"),
    ("requirepass", "use the key \"password\" of the Secret <name>-auth"),
    ("requirepass-file", "use the key \"password\" of the Secret <name>-auth"),
    ("control-token-file", "use the key \"token\" of the Secret <name>-auth"),
    ("store-record-file", "the path is fixed"),
    ("credentials-dir", "the path is fixed"),
    ("instance-name", "the name is that of the pod"),
    ("on-refusal", "a refusal inside Kubernetes is always held"),
    ("termination-message-file", "the path is fixed"),
    ("health-port", "the port is fixed to 9180"),
    ("control-port", "the port is fixed to 9181"),
    ("persist-strategy", "use spec.persistence.strategy"),
    ("persistent", "use spec.persistence.strategy: Disabled"),
    ("appendonly", "use spec.persistence.strategy"),
    ("appendfsync", "use spec.persistence.strategy"),
    ("save", "use spec.persistence.snapshot.rules"),
    ("auto-aof-rewrite-percentage", "use spec.persistence.log.rotation.growthPercentage"),
    ("auto-aof-rewrite-min-size", "use spec.persistence.log.rotation.minSize"),
    ("auto-aof-rewrite-max-size", "use spec.persistence.log.rotation.maxSize"),
    ("maxmemory", "use spec.memory.maxMemory"),
    ("shutdown-on-sigterm", "use spec.persistence.shutdown.snapshot"),
    ("shutdown-on-sigint", "use spec.persistence.shutdown.snapshot"),
    ("shutdown-timeout", "use spec.persistence.shutdown.budgetSeconds"),
    ("include", "write the lines into spec.config"),
    ("daemonize", "the server is the container's one process"),
    ("pidfile", "the server is the container's one process"),
    ("supervised", "the kubelet supervises the server"),
    ("logfile", "the log goes to the container's output"),
    ("dbfilename", "file names are fixed"),
    ("appendfilename", "file names are fixed"),
    ("appenddirname", "file names are fixed"),
];

/// Directives with which the server refuses to start unless they have this value; any value is refused without one.
const REFUSED_DIRECTIVES: [(&str, Option<&str>); 11] = [
    ("replicaof", Some("no one")),
    ("slaveof", Some("no one")),
    ("min-replicas-to-write", Some("0")),
    ("min-slaves-to-write", Some("0")),
    ("cluster-enabled", Some("no")),
    ("tls-port", Some("0")),
    ("aclfile", Some("")),
    ("user", None),
    ("loadmodule", None),
    ("rename-command", None),
    ("sentinel", None),
];

/// Least seconds of a stop that must write the whole dataset.
const NEVER_BUDGET_SECONDS_MIN: u32 = 10;
/// Least size of a volume: a restore keeps 16 MiB beside the data, and every file system needs room of its own.
const VOLUME_LEN_MIN: u64 = 32 << 20;

/// What the operator was started with and a Store may leave out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// Image of the server.
    pub server_image: String,
    /// Pull policy of the server's image; absent: Kubernetes's own rule.
    pub image_pull_policy: Option<String>,
    /// Who chooses user and group of the pods.
    pub pod_user: PodUser,
}

/// Who chooses user and group of the pods.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PodUser {
    /// The operator: always the same numbers.
    #[default]
    Fixed,
    /// The cluster: OpenShift gives each namespace a range of its own.
    Cluster,
}

/// A Store whose fields can be obeyed, but for those in [`ValidatedStore::refused`].
#[derive(Debug, Clone)]
pub struct ValidatedStore {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID of the object.
    pub uid: String,
    /// Image of the server.
    pub image: String,
    /// Pull policy of the image.
    pub image_pull_policy: Option<String>,
    /// Resources of both containers.
    pub resources: ResourceRequirements,
    /// `maxmemory` in bytes.
    pub max_memory: Option<u64>,
    /// Which keys are evicted at `maxmemory`; absent: the server's default, or a line of [`ValidatedStore::config`].
    pub eviction_policy: Option<EvictionPolicy>,
    /// Log strategy.
    pub strategy: Strategy,
    /// Snapshot rules in the order of the spec.
    pub snapshot_rules: Vec<SnapshotRule>,
    /// When the log is rotated.
    pub rotation: Rotation,
    /// Snapshot at a clean stop.
    pub shutdown_snapshot: ShutdownSnapshot,
    /// Seconds that a clean stop may take.
    pub shutdown_budget_seconds: u32,
    /// The claim; absent exactly with [`Strategy::Disabled`].
    pub storage: Option<Storage>,
    /// Name of the BackupLocation.
    pub backup_location: Option<String>,
    /// How the first volume is filled.
    pub bootstrap: Source,
    /// What happens when the volume is lost.
    pub on_volume_loss: OnVolumeLoss,
    /// What happens to the volume at deletion.
    pub deletion_policy: DeletionPolicy,
    /// Further configuration lines.
    pub config: Vec<String>,
    /// What the pod carries besides.
    pub pod: PodTemplate,
    /// Who chooses user and group of the pods.
    pub pod_user: PodUser,
    /// Fields that cannot be obeyed. What they stand for stays as it is in the cluster; a Store without a pod waits.
    pub refused: Vec<Refusal>,
    /// What works, and perhaps not as somebody thinks.
    pub concerns: Vec<Refusal>,
    /// The part of the spec and of the flags that reaches the pod only by a restart.
    pub update: Update,
    /// Seconds in which a changed pod must become ready.
    pub ready_timeout_seconds: u32,
    /// When that part may be carried out; none: at any time.
    pub windows: Vec<Window>,
    /// Present while that part is not carried out.
    pub held_update: Option<Box<HeldUpdate>>,
}

impl ValidatedStore {
    /// The Store that pod and configuration are made from.
    #[must_use]
    pub fn in_force(&self) -> &ValidatedStore {
        self.held_update.as_deref().and_then(|held| held.instead.as_ref().ok()).unwrap_or(self)
    }

    /// Whether the update has nothing to wait for but its start.
    pub(crate) fn waits_to_start(&self) -> bool {
        self.held_update.as_deref().is_some_and(|held| held.why == HeldBy::NotStarted)
    }

    /// Whether an update is held and what worked before cannot be built: then pod and configuration stay as they are.
    pub(crate) fn keeps_what_is_there(&self) -> bool {
        self.held_update.as_deref().is_some_and(|held| held.instead.is_err())
    }
}

/// When the log is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Growth in percent; 0: never.
    pub growth_percentage: u32,
    /// Bytes below which growth does not count.
    pub min_size: u64,
    /// Bytes of log at which it is rotated whatever its growth.
    pub max_size: Option<u64>,
}

/// What the claim asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// How it is mounted.
    pub access_modes: Vec<AccessMode>,
    /// Storage class.
    pub class: Option<String>,
    /// Size as written.
    pub size: Quantity,
}

/// How the first volume is filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nothing in it.
    Empty,
    /// From the StoreBackup of this name.
    Backup(String),
    /// From the VolumeSnapshot of this name.
    VolumeSnapshot(String),
    /// The retained volume with this store id.
    Adopt(String),
}

/// A field that cannot be obeyed, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Path of the field.
    pub field: String,
    /// What is wrong with it and what is allowed.
    pub message: String,
}

impl Refusal {
    fn new(field: &str, message: impl Into<String>) -> Self {
        Self { field: field.to_owned(), message: message.into() }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Validates `store`, filling in `defaults`, and finds out whether an update is held.
/// # Errors
/// The fields without which nothing is known of the data (volume, source), and all others that cannot be obeyed, in the
/// order of the spec; never empty.
pub fn validate(store: &Store, defaults: &Defaults, now: Timestamp) -> Result<ValidatedStore, Vec<Refusal>> {
    let mut valid = validate_spec(store, defaults)?;
    if valid.refused.is_empty()
        && let Some(good) = GoodUpdate::last_good(store)
        && let Some(why) = update::held_by(
            store,
            &valid.update,
            valid.ready_timeout_seconds,
            &good,
            next_opening(&valid.windows, now),
        )
    {
        let (as_good, defaults) = good.update.clone().in_place(store);
        let instead = match validate_spec(&as_good, &defaults) {
            Ok(instead) if instead.refused.is_empty() => Ok(instead),
            Ok(ValidatedStore { refused, .. }) | Err(refused) => Err(refused),
        };
        valid.held_update = Some(Box::new(HeldUpdate { good: good.update, instead, why }));
    }
    Ok(valid)
}

/// Every field of the spec is taken apart here, so that one that nobody reads does not compile.
fn validate_spec(store: &Store, defaults: &Defaults) -> Result<ValidatedStore, Vec<Refusal>> {
    let StoreSpec {
        image,
        resources,
        memory,
        persistence,
        storage,
        backup,
        bootstrap,
        recovery,
        deletion_policy,
        config,
        pod_template,
        // Its kind is read where updates are held.
        update_strategy: UpdateStrategy { kind: update_type, ready_timeout_seconds },
        maintenance_windows,
    } = &store.spec;
    let Persistence { strategy, snapshot, log, shutdown } = persistence;
    let SnapshotSettings { rules: snapshot_rules } = snapshot.clone().unwrap_or_default();
    let LogSettings { rotation: LogRotation { growth_percentage, min_size, max_size } } =
        log.clone().unwrap_or_default();
    let ShutdownSettings { snapshot: shutdown_snapshot, budget_seconds } =
        shutdown.clone().unwrap_or_default();
    let Resources { requests, limits } = resources.clone().unwrap_or_default();
    let MemorySettings { max_memory, eviction_policy } = memory.clone().unwrap_or_default();
    let claim =
        storage.as_ref().map(|StorageSettings { volume_claim_template: ClaimTemplate { spec } }| spec);
    let named_location = backup.as_ref().map(|BackupSettings { location_ref: ObjectRef { name } }| name);
    let RecoverySettings { on_volume_loss } = *recovery;
    let mut refused = Vec::new();
    let mut fatal = Vec::new();
    let mut concerns = Vec::new();
    let mut bytes = |field: &str, quantity: Option<&Quantity>| -> Option<u64> {
        match quantity?.bytes() {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                refused.push(Refusal::new(field, error.to_string()));
                None
            }
        }
    };

    let memory_limit =
        bytes("spec.resources.limits.memory", limits.as_ref().and_then(|limits| limits.memory.as_ref()));
    let max_memory = bytes("spec.memory.maxMemory", max_memory.as_ref());
    let min_size = bytes("spec.persistence.log.rotation.minSize", min_size.as_ref());
    let max_size = bytes("spec.persistence.log.rotation.maxSize", max_size.as_ref());

    if let (Some(limit), Some(max)) = (memory_limit, max_memory)
        && max >= limit
    {
        refused.push(Refusal::new(
            "spec.memory.maxMemory",
            format!(
                "{max} bytes are not below spec.resources.limits.memory ({limit} bytes): the process needs room besides the data; lower it or raise the limit"
            ),
        ));
    }
    if memory_limit.is_none() && max_memory.is_none() {
        concerns.push(Refusal::new(
            "spec.memory.maxMemory",
            "neither maxMemory nor resources.limits.memory is set: the data may grow until the node has no memory left and kills the process; set one of them",
        ));
    }
    if memory_limit.is_none() && max_memory.is_none() && evicts(eviction_policy) {
        concerns.push(Refusal::new(
            "spec.memory.evictionPolicy",
            "has no effect while nothing limits the data: set maxMemory or resources.limits.memory, or remove it",
        ));
    }
    if max_memory == Some(0) {
        refused.push(Refusal::new(
            "spec.memory.maxMemory",
            "0 would mean unbounded; leave the field out for that",
        ));
    }
    if max_size == Some(0) {
        refused.push(Refusal::new(
            "spec.persistence.log.rotation.maxSize",
            "0 would mean no limit; leave the field out for that",
        ));
    }
    if let Some(image) = image
        && !is_image(image)
    {
        refused.push(Refusal::new(
            "spec.image",
            format!("{image:?} is not the name of an image; write for example registry.example/team/holdfast-server:1.2"),
        ));
    }
    // The API takes no pod template with two entries of one key.
    let spread = pod_template.iter().flat_map(|pod| &pod.topology_spread_constraints);
    if let Some((key, _)) = doubled(spread.map(|entry| (&entry.topology_key, &entry.when_unsatisfiable))) {
        refused.push(Refusal::new(
            "spec.podTemplate.topologySpreadConstraints",
            format!(
                "two entries have topologyKey {key:?} and the same whenUnsatisfiable; remove one of them"
            ),
        ));
    }
    let secrets = pod_template.iter().flat_map(|pod| &pod.image_pull_secrets);
    if let Some(name) = doubled(secrets.map(|secret| &secret.name)) {
        refused.push(Refusal::new(
            "spec.podTemplate.imagePullSecrets",
            format!("{name:?} is named twice; remove one of the entries"),
        ));
    }
    let size_field = "spec.storage.volumeClaimTemplate.spec.resources.requests.storage";
    let has_data = store.status.as_ref().is_some_and(|status| status.epoch.is_some());
    let claim = claim.map(|spec| {
        let ClaimSpec { access_modes, storage_class_name: class, resources } = spec.clone();
        let ClaimResources { requests: StorageRequests { storage: size } } = resources;
        Storage { access_modes, class, size }
    });
    match claim.as_ref().map(|claim| claim.size.bytes()) {
        Some(Err(error)) => fatal.push(Refusal::new(size_field, error.to_string())),
        Some(Ok(size)) if size < VOLUME_LEN_MIN => {
            let problem = Refusal::new(
                size_field,
                format!("{size} bytes are too few for any dataset; ask for {VOLUME_LEN_MIN} or more"),
            );
            // A volume that holds data already works, whatever was asked for.
            if has_data { concerns.push(problem) } else { fatal.push(problem) }
        }
        Some(Ok(_)) | None => {}
    }
    let disabled = *strategy == Strategy::Disabled;
    if disabled != claim.is_none() {
        fatal.push(Refusal::new(
            "spec.storage",
            if disabled { "has no effect with persistence.strategy Disabled; remove it" } else { "is required: a Store keeps its data on a volume; only persistence.strategy Disabled goes without" },
        ));
    }
    let backup_location = named_location.filter(|name| is_object_name(name)).cloned();
    if let (Some(name), None) = (named_location, &backup_location) {
        refused.push(Refusal::new("spec.backup.locationRef.name", no_object_name(name)));
    }
    if disabled && named_location.is_some() {
        concerns.push(Refusal::new(
            "spec.backup",
            "has no effect with persistence.strategy Disabled: there is nothing to back up; remove it",
        ));
    }
    if disabled && *deletion_policy == DeletionPolicy::DeleteVolumes {
        concerns.push(Refusal::new(
            "spec.deletionPolicy",
            "DeleteVolumes has no effect with persistence.strategy Disabled: there is no volume; remove it",
        ));
    }
    if on_volume_loss == OnVolumeLoss::RestoreLatestBackup && named_location.is_none() {
        refused.push(Refusal::new(
            "spec.recovery.onVolumeLoss",
            "RestoreLatestBackup needs spec.backup.locationRef",
        ));
    }
    if *update_type == UpdateType::Supervised && !maintenance_windows.is_empty() {
        concerns.push(Refusal::new(
            "spec.maintenanceWindows",
            "has no effect with updateStrategy.type Supervised, which waits for an approval at any time; remove it, or set the type Automatic",
        ));
    }
    let budget = budget_seconds.unwrap_or(SHUTDOWN_BUDGET_SECONDS);
    if *strategy == Strategy::Never
        && shutdown_snapshot != ShutdownSnapshot::Never
        && budget < NEVER_BUDGET_SECONDS_MIN
    {
        concerns.push(Refusal::new(
            "spec.persistence.shutdown.budgetSeconds",
            format!(
                "{budget} s are probably too few to write the whole dataset, and under strategy Never nothing else keeps it; allow {NEVER_BUDGET_SECONDS_MIN} s or more"
            ),
        ));
    }
    for (index, line) in config.iter().enumerate() {
        let message = refused_line(line).or_else(|| {
            let doubles = eviction_policy.is_some() && sets(line, EVICTION_DIRECTIVE);
            doubles.then(|| format!("directive {EVICTION_DIRECTIVE:?} is set by spec.memory.evictionPolicy as well; remove the line"))
        });
        if let Some(message) = message {
            refused.push(Refusal::new(&format!("spec.config[{index}]"), message));
        }
    }
    let mut windows = Vec::with_capacity(maintenance_windows.len());
    for (index, window) in maintenance_windows.iter().enumerate() {
        match Window::parse(window) {
            Ok(window) => windows.push(window),
            Err((field, message)) => {
                refused.push(Refusal::new(&format!("spec.maintenanceWindows[{index}].{field}"), message));
            }
        }
    }
    let source = source(bootstrap.as_ref()).unwrap_or_else(|message| {
        fatal.push(Refusal::new("spec.bootstrap", message));
        Source::Empty
    });
    if !fatal.is_empty() {
        fatal.append(&mut refused);
        return Err(fatal);
    }

    Ok(ValidatedStore {
        namespace: store.namespace().unwrap_or_default(),
        name: store.name_any(),
        uid: store.uid().unwrap_or_default(),
        image: image.clone().unwrap_or_else(|| defaults.server_image.clone()),
        image_pull_policy: defaults.image_pull_policy.clone(),
        resources: ResourceRequirements {
            requests: requests.as_ref().map(api_quantities),
            limits: limits.as_ref().map(api_quantities),
            claims: None,
        },
        max_memory: max_memory.or(memory_limit.map(|limit| limit / 100 * MAX_MEMORY_SHARE)),
        eviction_policy,
        strategy: *strategy,
        snapshot_rules,
        rotation: Rotation {
            growth_percentage: growth_percentage.unwrap_or(GROWTH_PERCENTAGE),
            min_size: min_size.unwrap_or(MIN_SIZE),
            max_size,
        },
        shutdown_snapshot,
        shutdown_budget_seconds: budget,
        storage: claim,
        backup_location,
        bootstrap: source,
        on_volume_loss,
        deletion_policy: *deletion_policy,
        config: config.clone(),
        pod: pod_template.clone().unwrap_or_default(),
        pod_user: defaults.pod_user,
        refused,
        concerns,
        update: Update::of(&store.spec, defaults),
        ready_timeout_seconds: ready_timeout_seconds.unwrap_or(update::READY_TIMEOUT_SECONDS),
        windows,
        held_update: None,
    })
}

/// Whether keys may be evicted under `policy`.
pub(super) fn evicts(policy: Option<EvictionPolicy>) -> bool {
    policy.is_some_and(|policy| policy != EvictionPolicy::NoEviction)
}

/// Whether the server would read `directive` in this line.
fn sets(line: &str, directive: &str) -> bool {
    config_line::directive(line.as_bytes())
        .is_ok_and(|found| found.is_some_and(|found| found.name == directive))
}

/// The first item that comes again.
fn doubled<T: Ord + Copy>(items: impl Iterator<Item = T>) -> Option<T> {
    let mut seen = std::collections::BTreeSet::new();
    items.into_iter().find(|item| !seen.insert(*item))
}

/// Whether the API may have an object of this name (RFC 1123, a subdomain).
fn is_object_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(is_plain) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn no_object_name(name: &str) -> String {
    format!(
        "{name:?} is not the name of an object; names have lower-case letters, digits, '-' and '.' between them"
    )
}

fn source(bootstrap: Option<&Bootstrap>) -> Result<Source, String> {
    let Some(bootstrap) = bootstrap else { return Ok(Source::Empty) };
    let Bootstrap { empty, restore, adopt } = bootstrap;
    match (empty, restore, adopt) {
        (Some(Empty {}), None, None) => Ok(Source::Empty),
        (None, None, Some(Adopt { store_id })) => Ok(Source::Adopt(store_id.clone())),
        (None, Some(RestoreSource { backup_ref, volume_snapshot_ref }), None) => {
            match (backup_ref, volume_snapshot_ref) {
                (Some(named), None) | (None, Some(named)) if !is_object_name(&named.name) => {
                    Err(format!("restore: {}", no_object_name(&named.name)))
                }
                (Some(backup), None) => Ok(Source::Backup(backup.name.clone())),
                (None, Some(snapshot)) => Ok(Source::VolumeSnapshot(snapshot.name.clone())),
                _ => Err("restore names exactly one of backupRef and volumeSnapshotRef".into()),
            }
        }
        _ => Err("names exactly one source: empty, restore or adopt".into()),
    }
}

/// Why a line of `spec.config` is refused; absent when it is not.
fn refused_line(line: &str) -> Option<String> {
    if line.contains(['\n', '\r', '\0']) {
        return Some("is more than one line; write one directive for each entry".into());
    }
    // The words of the server, however they are quoted: what it would read is what counts.
    let directive = match config_line::directive(line.as_bytes()) {
        Ok(directive) => directive?,
        Err(error) => return Some(format!("{error}: {line:?}; end a value in quotes with the same quote")),
    };
    let name = &directive.name;
    if let Some((_, instead)) = MANAGED_DIRECTIVES.iter().find(|(managed, _)| managed == name) {
        return Some(format!("directive {name:?} is managed by the operator: {instead}"));
    }
    let (_, allowed) = REFUSED_DIRECTIVES.iter().find(|(refused, _)| refused == name)?;
    let value = directive.arguments.join(&b' ').to_ascii_lowercase();
    match allowed {
        Some(allowed) if value == allowed.as_bytes() => None,
        Some(allowed) => Some(format!(
            "directive {name:?} has no other value than {allowed:?} in this version: the server would not start; remove the line"
        )),
        None => Some(format!("the server would not start with directive {name:?}; remove the line")),
    }
}

/// Whether `text` can be the name of an image: what is certainly none must not take a running pod down.
fn is_image(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    let (name, _) = text.split_once('@').unwrap_or((text, ""));
    let path = name.rsplit_once('/').map_or(name, |(_, last)| last);
    let repository = path.split_once(':').map_or(path, |(repository, _)| repository);
    text.bytes().all(is_plain)
        && !repository.is_empty()
        && name.split('/').all(|part| part.starts_with(|first: char| first.is_ascii_alphanumeric()))
        && !repository.bytes().any(|byte| byte.is_ascii_uppercase())
        && !text.ends_with([':', '@', '/'])
}

fn api_quantities(list: &ResourceList) -> std::collections::BTreeMap<String, ApiQuantity> {
    let ResourceList { cpu, memory, ephemeral_storage } = list;
    [("cpu", cpu), ("memory", memory), ("ephemeral-storage", ephemeral_storage)]
        .into_iter()
        .filter_map(|(name, quantity)| Some((name.to_owned(), ApiQuantity(quantity.as_ref()?.0.clone()))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::Store;

    fn store(spec: &str) -> Store {
        let text = format!(
            "apiVersion: holdfast.dev/v1alpha1\nkind: Store\nmetadata: {{name: orders, namespace: shop, uid: u-1}}\nspec: {spec}"
        );
        serde_yaml::from_str(&text).expect("a Store")
    }

    const STORAGE: &str = "storage: {volumeClaimTemplate: {spec: {resources: {requests: {storage: 1Gi}}}}}";

    fn defaults() -> Defaults {
        Defaults { server_image: "image:1".into(), image_pull_policy: None, pod_user: PodUser::Fixed }
    }

    #[track_caller]
    fn check_refused(spec: &str, expected: &[&str]) {
        let spec = spec.replace("STORAGE", STORAGE);
        let refusals = match validate(&store(&spec), &defaults(), Timestamp::UNIX_EPOCH) {
            Ok(valid) => valid.refused,
            Err(fatal) => fatal,
        };
        let lines: Vec<String> = refusals.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), expected.len(), "{lines:?}");
        for (line, start) in lines.iter().zip(expected) {
            assert!(line.starts_with(start), "{line:?} does not start with {start:?}");
        }
    }

    fn valid(spec: &str) -> ValidatedStore {
        validate(&store(&spec.replace("STORAGE", STORAGE)), &defaults(), Timestamp::UNIX_EPOCH)
            .expect("a valid Store")
    }

    #[test]
    fn fields_that_cannot_be_obeyed_are_named() {
        check_refused("{}", &["spec.storage: is required"]);
        check_refused("{STORAGE, memory: {maxMemory: '1.5'}}", &["spec.memory.maxMemory: \"1.5\" is not"]);
        check_refused(
            "{STORAGE, memory: {maxMemory: 1Gi}, resources: {limits: {memory: 1Gi}}}",
            &["spec.memory.maxMemory: 1073741824 bytes are not below"],
        );
        check_refused(
            "{STORAGE, config: [hz 10, ' SAVE \"\"', '\"appendonly\" no', \"a\\nb\"]}",
            &[
                "spec.config[1]: directive \"save\" is managed by the operator: use spec.persistence.snapshot",
                "spec.config[2]: directive \"appendonly\"",
                "spec.config[3]: is more than one line",
            ],
        );
        check_refused(
            "{STORAGE, image: 'server 1'}",
            &["spec.image: \"server 1\" is not the name of an image"],
        );
        check_refused("{STORAGE, bootstrap: {}}", &["spec.bootstrap: names exactly one"]);
        check_refused(
            "{STORAGE, maintenanceWindows: [{name: a, schedule: '0 3 * * 1', durationSeconds: 60}, {name: b, schedule: night, durationSeconds: 60}]}",
            &["spec.maintenanceWindows[1].schedule: \"night\" is not a cron schedule"],
        );
        check_refused(
            "{STORAGE, recovery: {onVolumeLoss: RestoreLatestBackup}}",
            &["spec.recovery.onVolumeLoss: RestoreLatestBackup needs"],
        );
    }

    #[test]
    fn a_managed_directive_is_refused_however_it_is_quoted() {
        for line in [
            r#"requirepass-fil"e" """#,
            r#""\x64ir" /tmp/elsewhere"#,
            r"'dir' /tmp/elsewhere",
            "\tDIR /tmp/elsewhere",
            "credentials-dir /x",
        ] {
            let message = refused_line(line).unwrap_or_else(|| panic!("{line:?} is accepted"));
            assert!(message.contains("is managed by the operator"), "{line:?}: {message}");
        }
        assert!(refused_line("logfile 'x").is_some_and(|message| message.contains("Unbalanced quotes")));
        for line in ["hz 10", "# dir /tmp", "save-nothing 1", "replicaof no one"] {
            assert_eq!(refused_line(line), None, "{line:?}");
        }
        for line in ["replicaof a 1", "user alice on", "tls-port 6380"] {
            assert!(
                refused_line(line).is_some_and(|message| message.contains("remove the line")),
                "{line:?}"
            );
        }
    }

    #[test]
    fn what_is_no_image_is_refused_before_a_pod_goes_down_for_it() {
        for image in ["a", "localhost/holdfast-server:1", "r.test:5000/a/b:tag", "a/b@sha256:00ff"] {
            assert!(is_image(image), "{image:?}");
        }
        for image in ["", "a b", "a:", "Server:1", "a//b", "a/", "-1", "a/.b", "http://a/b:1?x"] {
            assert!(!is_image(image), "{image:?}");
        }
    }

    #[test]
    fn entries_that_a_pod_cannot_have_twice_are_named() {
        let spread = "{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}";
        check_refused(
            &format!("{{STORAGE, podTemplate: {{topologySpreadConstraints: [{spread}, {spread}]}}}}"),
            &["spec.podTemplate.topologySpreadConstraints: two entries have topologyKey \"zone\""],
        );
        check_refused(
            "{STORAGE, podTemplate: {imagePullSecrets: [{name: a}, {name: b}, {name: a}]}}",
            &["spec.podTemplate.imagePullSecrets: \"a\" is named twice"],
        );
    }

    /// The definition refuses them, but not in objects that are older than it.
    #[test]
    fn what_no_object_can_be_called_is_refused_before_the_api_is_asked_for_it() {
        for name in ["a", "offsite-2", "a.b", "0"] {
            assert!(is_object_name(name), "{name:?}");
        }
        for name in ["", "käse 🧀", "A", "a/b", "-a", "a-", "a..b", "..", "a b", &"a".repeat(254)] {
            assert!(!is_object_name(name), "{name:?}");
        }
        let valid = valid("{STORAGE, backup: {locationRef: {name: 'käse'}}}");
        assert_eq!(valid.backup_location, None);
        assert!(valid.refused.iter().any(|refusal| refusal.field == "spec.backup.locationRef.name"));
        check_refused(
            "{STORAGE, bootstrap: {restore: {backupRef: {name: '../x'}}}}",
            &["spec.bootstrap: restore: \"../x\" is not the name of an object"],
        );
    }

    #[test]
    fn what_works_but_not_as_somebody_thinks_is_a_concern() {
        let fields =
            |spec: &str| valid(spec).concerns.into_iter().map(|concern| concern.field).collect::<Vec<_>>();
        let bounded = "memory: {maxMemory: 64Mi}";
        assert_eq!(fields("{STORAGE}"), ["spec.memory.maxMemory"]);
        assert_eq!(fields(&format!("{{STORAGE, {bounded}}}")), Vec::<String>::new());
        assert_eq!(
            fields(&format!(
                "{{STORAGE, {bounded}, persistence: {{strategy: Never, shutdown: {{budgetSeconds: 1}}}}}}"
            )),
            ["spec.persistence.shutdown.budgetSeconds"]
        );
        assert_eq!(
            fields(&format!(
                "{{{bounded}, persistence: {{strategy: Disabled}}, backup: {{locationRef: {{name: a}}}}, deletionPolicy: DeleteVolumes}}"
            )),
            ["spec.backup", "spec.deletionPolicy"]
        );
    }

    #[test]
    fn an_eviction_policy_needs_a_limit() {
        let fields = |memory: &str| {
            let valid = valid(&format!("{{STORAGE, {memory}}}"));
            valid.concerns.into_iter().map(|concern| concern.field).collect::<Vec<_>>()
        };
        assert_eq!(
            fields("memory: {evictionPolicy: VolatileTTL}"),
            ["spec.memory.maxMemory", "spec.memory.evictionPolicy"]
        );
        assert_eq!(fields("memory: {evictionPolicy: NoEviction}"), ["spec.memory.maxMemory"]);
        for limit in [
            "memory: {maxMemory: 64Mi, evictionPolicy: AllKeysLRU}",
            "memory: {evictionPolicy: AllKeysLRU}, resources: {limits: {memory: 64Mi}}",
        ] {
            assert_eq!(fields(limit), Vec::<String>::new(), "{limit}");
        }
    }

    #[test]
    fn the_eviction_policy_is_set_in_one_place() {
        let policy = "memory: {maxMemory: 64Mi, evictionPolicy: NoEviction}";
        check_refused(
            &format!("{{STORAGE, {policy}, config: [hz 10, ' \"MaxMemory-Policy\" allkeys-lru']}}"),
            &["spec.config[1]: directive \"maxmemory-policy\" is set by spec.memory.evictionPolicy as well"],
        );
        check_refused("{STORAGE, memory: {maxMemory: 64Mi}, config: [maxmemory-policy allkeys-lru]}", &[]);
        check_refused(&format!("{{STORAGE, {policy}, config: [maxmemory-policies 1]}}"), &[]);
    }

    #[test]
    fn a_volume_that_can_hold_nothing_is_refused_only_for_a_new_store() {
        let spec = "{storage: {volumeClaimTemplate: {spec: {resources: {requests: {storage: '1'}}}}}}";
        check_refused(spec, &["spec.storage.volumeClaimTemplate.spec.resources.requests.storage: 1 bytes"]);
        let mut old = store(spec);
        old.status = Some(crate::api::v1alpha1::StoreStatus { epoch: Some(1), ..Default::default() });
        let valid = validate(&old, &defaults(), Timestamp::UNIX_EPOCH).expect("what works goes on");
        assert!(valid.concerns.iter().any(|concern| concern.message.contains("too few")));
    }

    #[test]
    fn defaults_are_filled_in() {
        let valid = valid("{STORAGE, resources: {limits: {memory: 1000Ki}}}");
        assert_eq!(valid.image, "image:1");
        assert_eq!(valid.max_memory, Some(768_000));
        assert_eq!(valid.strategy, Strategy::EverySecond);
        assert_eq!(valid.shutdown_budget_seconds, SHUTDOWN_BUDGET_SECONDS);
        assert_eq!(valid.bootstrap, Source::Empty);
        assert_eq!(valid.storage.map(|storage| storage.access_modes), Some(vec![AccessMode::ReadWriteOnce]));
    }

    #[test]
    fn the_rule_at_admission_knows_every_managed_directive() {
        let rule = crate::api::v1alpha1::CONFIG_RULE;
        let start = rule.find("\"?(").expect("the list") + 3;
        let list = &rule[start..start + rule[start..].find(")\"?").expect("its end")];
        let mut admission: Vec<&str> = list.split('|').collect();
        let mut managed: Vec<&str> = MANAGED_DIRECTIVES.iter().map(|(directive, _)| *directive).collect();
        admission.sort_unstable();
        managed.sort_unstable();
        assert_eq!(admission, managed);
    }
}
