//! From the raw spec to a [`ValidatedStore`]; nothing later reads the raw spec. Pure.
//!
//! What the schema and its CEL rules refuse is refused there. Here is what they cannot see, and once more what would
//! harm if an object came past them.

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use kube::ResourceExt;

use crate::api::quantity::Quantity;
use crate::api::v1alpha1::{
    AccessMode, DeletionPolicy, OnVolumeLoss, PodTemplate, ResourceList, ShutdownSnapshot, SnapshotRule,
    Store, Strategy,
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
pub const MANAGED_DIRECTIVES: [(&str, &str); 35] = [
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

/// What the operator was started with and a Store may leave out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// Image of the server.
    pub server_image: String,
    /// Pull policy of the server's image; absent: Kubernetes's own rule.
    pub image_pull_policy: Option<String>,
}

/// A Store whose every field can be obeyed.
#[derive(Debug, Clone, PartialEq)]
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

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Validates `store`, filling in `defaults`.
/// # Errors
/// Every field that cannot be obeyed, in the order of the spec; never empty.
pub fn validate(store: &Store, defaults: &Defaults) -> Result<ValidatedStore, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let spec = &store.spec;
    let mut bytes = |field: &str, quantity: Option<&Quantity>| -> Option<u64> {
        match quantity?.bytes() {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                refusals.push(Refusal { field: field.to_owned(), message: error.to_string() });
                None
            }
        }
    };

    let resources = spec.resources.clone().unwrap_or_default();
    let memory_limit = bytes(
        "spec.resources.limits.memory",
        resources.limits.as_ref().and_then(|limits| limits.memory.as_ref()),
    );
    let max_memory = bytes("spec.memory.maxMemory", spec.memory.as_ref().map(|memory| &memory.max_memory));
    let rotation = spec.persistence.log.clone().unwrap_or_default().rotation;
    let min_size = bytes("spec.persistence.log.rotation.minSize", rotation.min_size.as_ref());
    let max_size = bytes("spec.persistence.log.rotation.maxSize", rotation.max_size.as_ref());
    let storage = spec.storage.as_ref().map(|storage| &storage.volume_claim_template.spec);
    let size = bytes(
        "spec.storage.volumeClaimTemplate.spec.resources.requests.storage",
        storage.map(|claim| &claim.resources.requests.storage),
    );

    let mut refuse = |field: &str, message: String| {
        refusals.push(Refusal { field: field.to_owned(), message });
    };
    if let (Some(limit), Some(max)) = (memory_limit, max_memory)
        && max >= limit
    {
        refuse(
            "spec.memory.maxMemory",
            format!(
                "{max} bytes are not below spec.resources.limits.memory ({limit} bytes): the process needs room besides the data; lower it or raise the limit"
            ),
        );
    }
    if max_memory == Some(0) {
        refuse("spec.memory.maxMemory", "0 would mean unbounded; leave the field out for that".into());
    }
    if max_size == Some(0) {
        refuse(
            "spec.persistence.log.rotation.maxSize",
            "0 would mean no limit; leave the field out for that".into(),
        );
    }
    if size == Some(0) {
        refuse("spec.storage.volumeClaimTemplate.spec.resources.requests.storage", "must be above 0".into());
    }
    let disabled = spec.persistence.strategy == Strategy::Disabled;
    if disabled != storage.is_none() {
        refuse(
            "spec.storage",
            if disabled { "has no effect with persistence.strategy Disabled; remove it" } else { "is required: a Store keeps its data on a volume; only persistence.strategy Disabled goes without" }.into(),
        );
    }
    let backup_location = spec.backup.as_ref().map(|backup| backup.location_ref.name.clone());
    if spec.recovery.on_volume_loss == OnVolumeLoss::RestoreLatestBackup && backup_location.is_none() {
        refuse("spec.recovery.onVolumeLoss", "RestoreLatestBackup needs spec.backup.locationRef".into());
    }
    for (index, line) in spec.config.iter().enumerate() {
        if let Some(message) = refused_line(line) {
            refuse(&format!("spec.config[{index}]"), message);
        }
    }
    let bootstrap = source(store).unwrap_or_else(|message| {
        refuse("spec.bootstrap", message);
        Source::Empty
    });
    let namespace = store.namespace().unwrap_or_default();
    let uid = store.uid().unwrap_or_default();
    if !refusals.is_empty() {
        return Err(refusals);
    }

    let shutdown = spec.persistence.shutdown.clone().unwrap_or_default();
    Ok(ValidatedStore {
        namespace,
        name: store.name_any(),
        uid,
        image: spec.image.clone().unwrap_or_else(|| defaults.server_image.clone()),
        image_pull_policy: defaults.image_pull_policy.clone(),
        resources: ResourceRequirements {
            requests: resources.requests.as_ref().map(api_quantities),
            limits: resources.limits.as_ref().map(api_quantities),
            claims: None,
        },
        max_memory: max_memory.or(memory_limit.map(|limit| limit / 100 * MAX_MEMORY_SHARE)),
        strategy: spec.persistence.strategy,
        snapshot_rules: spec.persistence.snapshot.clone().unwrap_or_default().rules,
        rotation: Rotation {
            growth_percentage: rotation.growth_percentage.unwrap_or(GROWTH_PERCENTAGE),
            min_size: min_size.unwrap_or(MIN_SIZE),
            max_size,
        },
        shutdown_snapshot: shutdown.snapshot,
        shutdown_budget_seconds: shutdown.budget_seconds.unwrap_or(SHUTDOWN_BUDGET_SECONDS),
        storage: storage.map(|claim| Storage {
            access_modes: claim.access_modes.clone(),
            class: claim.storage_class_name.clone(),
            size: claim.resources.requests.storage.clone(),
        }),
        backup_location,
        bootstrap,
        on_volume_loss: spec.recovery.on_volume_loss,
        deletion_policy: spec.deletion_policy,
        config: spec.config.clone(),
        pod: spec.pod_template.clone().unwrap_or_default(),
    })
}

fn source(store: &Store) -> Result<Source, String> {
    let Some(bootstrap) = &store.spec.bootstrap else { return Ok(Source::Empty) };
    match (&bootstrap.empty, &bootstrap.restore, &bootstrap.adopt) {
        (Some(_), None, None) => Ok(Source::Empty),
        (None, None, Some(adopt)) => Ok(Source::Adopt(adopt.store_id.clone())),
        (None, Some(restore), None) => match (&restore.backup_ref, &restore.volume_snapshot_ref) {
            (Some(backup), None) => Ok(Source::Backup(backup.name.clone())),
            (None, Some(snapshot)) => Ok(Source::VolumeSnapshot(snapshot.name.clone())),
            _ => Err("restore names exactly one of backupRef and volumeSnapshotRef".into()),
        },
        _ => Err("names exactly one source: empty, restore or adopt".into()),
    }
}

/// Why a line of `spec.config` is refused; absent when it is not.
fn refused_line(line: &str) -> Option<String> {
    if line.contains(['\n', '\r', '\0']) {
        return Some("is more than one line; write one directive for each entry".into());
    }
    let word = line.split_whitespace().next()?.trim_matches(['"', '\'']).to_ascii_lowercase();
    let (_, instead) = MANAGED_DIRECTIVES.iter().find(|(directive, _)| *directive == word)?;
    Some(format!("directive {word:?} is managed by the operator: {instead}"))
}

fn api_quantities(list: &ResourceList) -> std::collections::BTreeMap<String, ApiQuantity> {
    [("cpu", &list.cpu), ("memory", &list.memory), ("ephemeral-storage", &list.ephemeral_storage)]
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
        Defaults { server_image: "image:1".into(), image_pull_policy: None }
    }

    #[track_caller]
    fn check_refused(spec: &str, expected: &[&str]) {
        let spec = spec.replace("STORAGE", STORAGE);
        let refusals = validate(&store(&spec), &defaults()).expect_err("a refusal");
        let lines: Vec<String> = refusals.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), expected.len(), "{lines:?}");
        for (line, start) in lines.iter().zip(expected) {
            assert!(line.starts_with(start), "{line:?} does not start with {start:?}");
        }
    }

    fn valid(spec: &str) -> ValidatedStore {
        validate(&store(&spec.replace("STORAGE", STORAGE)), &defaults()).expect("a valid Store")
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
        check_refused("{STORAGE, bootstrap: {}}", &["spec.bootstrap: names exactly one"]);
        check_refused(
            "{STORAGE, recovery: {onVolumeLoss: RestoreLatestBackup}}",
            &["spec.recovery.onVolumeLoss: RestoreLatestBackup needs"],
        );
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
