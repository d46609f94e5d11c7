//! Every object name, label, annotation, path and port that the operator gives out. Pure.
//!
//! What a pod mounts, and where, is a contract with holdfast-server:
//!
//! | object | mounted at | holds |
//! |---|---|---|
//! | ConfigMap `<store>-config` | `CONFIG_DIR` | [`CONFIG_KEY`], the configuration file |
//! | ConfigMap `<store>-record` | `RECORD_DIR` | [`holdfast_contract::record::RECORD_KEY`] |
//! | Secret `<store>-auth` | `AUTH_DIR` | [`PASSWORD_KEY`], [`TOKEN_KEY`] |
//! | Secret of each location | `LOCATIONS_DIR/<location>` | [`holdfast_contract::bucket::credentials`] |
//! | claim `data-<store>-0` | `DATA_DIR` | `STORE_DIR`, the data directory |

use std::collections::BTreeMap;

/// Field manager of every server-side apply, and the reporting controller of events.
pub const FIELD_MANAGER: &str = "holdfast-operator";

/// Container of the server.
pub const SERVER_CONTAINER: &str = "server";
/// Init container that decides about the volume.
pub(crate) const RESTORE_CONTAINER: &str = "restore";

/// Where the configuration is mounted.
pub(crate) const CONFIG_DIR: &str = "/etc/holdfast/config";
/// Key of the configuration file in its ConfigMap.
pub const CONFIG_KEY: &str = "holdfast.conf";
/// Where the record is mounted.
pub(crate) const RECORD_DIR: &str = "/etc/holdfast/record";
/// Where password and token are mounted.
pub(crate) const AUTH_DIR: &str = "/etc/holdfast/auth";
/// Key of the clients' password in the Secret `<store>-auth`.
pub const PASSWORD_KEY: &str = "password";
/// Key of the control port's bearer token in the Secret `<store>-auth`.
pub const TOKEN_KEY: &str = "token";
/// Below it, one directory with credentials for each location.
pub(crate) const LOCATIONS_DIR: &str = "/etc/holdfast/locations";
/// Mount of the volume.
pub(crate) const DATA_DIR: &str = "/data";
/// Data directory, below the mount so that a restore is activated by one rename.
pub(crate) const STORE_DIR: &str = "/data/store";
/// Volume and claim template of the data.
pub const DATA_VOLUME: &str = "data";

/// Label and annotation keys.
pub mod key {
    /// Label: name of the Store.
    pub const STORE: &str = "holdfast.dev/store";
    /// Label of claims and VolumeSnapshots: id of the data.
    pub const STORE_ID: &str = "holdfast.dev/store-id";
    /// Label of VolumeSnapshots: epoch of the data.
    pub(crate) const EPOCH: &str = "holdfast.dev/epoch";
    /// Label of VolumeSnapshots: offset stamped by the barrier.
    pub(crate) const OFFSET: &str = "holdfast.dev/offset";
    /// Label of VolumeSnapshots: UID of the StoreBackup.
    pub(crate) const BACKUP_UID: &str = "holdfast.dev/backup-uid";
    /// Annotation of claims: UID of the Store object that uses it.
    pub const STORE_UID: &str = "holdfast.dev/store-uid";
    /// Annotation of adopted claims: UIDs of the Store objects that used it before, separated by commas, newest last. Their
    /// owner markers in buckets give way to the one that uses it now.
    pub(crate) const FORMER_STORE_UIDS: &str = "holdfast.dev/former-store-uids";
    /// Annotation of pods: digest of the pod template they come from.
    pub const TEMPLATE_HASH: &str = "holdfast.dev/template-hash";
    /// Annotation of pods: number of the rendering of their template and configuration; absent: the first one.
    pub const RENDERING: &str = "holdfast.dev/rendering";
    /// Annotation of pods: SHA-256 of the configuration file they start with.
    pub const CONFIG_SHA256: &str = "holdfast.dev/config-sha256";
    /// Annotation of pods: digest of the password and token they start with.
    pub const AUTH_REVISION: &str = "holdfast.dev/auth-revision";
    /// Annotation that a person sets on a Store: the volume's epoch that is to be taken as the Store's.
    pub const ACCEPT_EPOCH: &str = "holdfast.dev/accept-epoch";
    /// Annotation that a person sets on a Store: the update that may begin, whatever spec.updateStrategy
    /// and spec.maintenanceWindows say.
    pub const APPROVE_UPDATE: &str = "holdfast.dev/approve-update";
}

/// Finalizer of a Store with the deletion policy DeleteVolumes.
pub const STORE_FINALIZER: &str = "holdfast.dev/delete-volumes";
/// Finalizer of a StoreBackup while it runs.
pub const BACKUP_FINALIZER: &str = "holdfast.dev/cancel-backup";

/// Name of the StatefulSet, the client Service and the PodDisruptionBudget.
#[must_use]
pub fn stateful_set(store: &str) -> String {
    store.to_owned()
}

/// Name of the headless Service.
#[must_use]
pub fn headless_service(store: &str) -> String {
    format!("{store}-headless")
}

/// Name of the ConfigMap with the configuration file.
#[must_use]
pub fn config(store: &str) -> String {
    format!("{store}-config")
}

/// Name of the ConfigMap with the record.
#[must_use]
pub fn record(store: &str) -> String {
    format!("{store}-record")
}

/// Name of the Secret with password and token.
#[must_use]
pub fn auth_secret(store: &str) -> String {
    format!("{store}-auth")
}

/// Name of the ServiceAccount of the pods.
#[must_use]
pub fn service_account(store: &str) -> String {
    format!("{store}-server")
}

/// Name of the pod.
#[must_use]
pub fn pod(store: &str) -> String {
    format!("{store}-0")
}

/// Name of the claim: what the StatefulSet's claim template yields.
#[must_use]
pub fn claim(store: &str) -> String {
    format!("{DATA_VOLUME}-{store}-0")
}

/// Name of the volume with the credentials of a location.
#[must_use]
pub(crate) fn location_volume(location: &str) -> String {
    format!("location-{location}")
}

/// The location of a volume that `location_volume` named.
#[must_use]
pub(crate) fn location_of_volume(volume: &str) -> Option<&str> {
    volume.strip_prefix("location-")
}

/// Directory in the pod with the credentials of a location.
#[must_use]
pub(crate) fn credentials_dir(location: &str) -> String {
    format!("{LOCATIONS_DIR}/{location}")
}

/// Name of the VolumeSnapshot of one attempt of a StoreBackup. A backup of the same name that was made again has another
/// UID and so another name.
#[must_use]
pub fn volume_snapshot(backup: &str, uid: &str, attempt: u32) -> String {
    format!("{backup}-{}-{attempt}", uid.get(..8).unwrap_or(uid))
}

/// Labels that select the pods of a Store; they never change.
#[must_use]
pub fn selector(store: &str) -> BTreeMap<String, String> {
    [("app.kubernetes.io/name", "holdfast-server"), (INSTANCE_LABEL, store), (key::STORE, store)]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Labels of what holds data and has no owner: claims and VolumeSnapshots. Without `app.kubernetes.io/instance`, by which
/// GitOps tools know what is theirs: an object that they know and do not find in their source they delete.
#[must_use]
pub(crate) fn data_labels(store: &str) -> BTreeMap<String, String> {
    let mut labels = labels(store);
    labels.remove(INSTANCE_LABEL);
    labels
}

/// Annotations by which Argo CD, Flux and Helm leave an object alone that they take for theirs.
pub const KEEP_ANNOTATIONS: [(&str, &str); 4] = [
    ("argocd.argoproj.io/compare-options", "IgnoreExtraneous"),
    ("argocd.argoproj.io/sync-options", "Prune=false,Delete=false"),
    ("helm.sh/resource-policy", "keep"),
    ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
];

/// Label that names an installation of an application.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";

/// Labels of every object of a Store.
#[must_use]
pub fn labels(store: &str) -> BTreeMap<String, String> {
    let mut labels = selector(store);
    labels.insert("app.kubernetes.io/managed-by".into(), FIELD_MANAGER.into());
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_names_fit_their_kinds() {
        let store = "s".repeat(40);
        // Services and the label with the StatefulSet's revision (name, '-', 10 characters) have 63.
        assert!(headless_service(&store).len() <= 63);
        assert!(stateful_set(&store).len() + 11 <= 63);
        assert!(location_volume(&"l".repeat(50)).len() <= 63);
        assert!(volume_snapshot(&"b".repeat(50), "01234567-89ab", 3).len() <= 63);
    }

    #[test]
    fn location_volumes_are_told_from_others() {
        assert_eq!(location_of_volume(&location_volume("offsite")), Some("offsite"));
        assert_eq!(location_of_volume(DATA_VOLUME), None);
    }
}
