//! From a [`ValidatedStore`] to the objects that it owns. Pure and infallible: validation has refused bad input.

pub mod claim;
pub mod config_map;
pub mod pdb;
pub mod rbac;
pub mod secret;
pub mod server_config;
pub mod service;
pub mod stateful_set;

use std::fmt::Write as _;

use holdfast_contract::record::StoreRecord;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::rendering::Rendering;
use super::validate::ValidatedStore;
use crate::api::v1alpha1::Store;
use crate::names;

/// What the objects depend on besides the spec.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    /// How pod and configuration are rendered.
    pub rendering: Rendering,
    /// Present when pod and configuration stay as a newer operator has rendered them.
    pub kept: Option<Kept>,
    /// The record; absent exactly with the strategy Disabled.
    pub record: Option<StoreRecord>,
    /// Digest of the password and token that the pod shall start with.
    pub auth_revision: String,
    /// Locations whose credentials the pod needs, sorted by name.
    pub locations: Vec<MountedLocation>,
    /// Claim templates of the StatefulSet that is there: they can never change, however a newer operator would write them.
    pub claim_templates: Option<Vec<PersistentVolumeClaim>>,
}

/// What is known of a pod and a configuration that this version cannot render.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Digest of the pod template.
    pub template_hash: String,
    /// SHA-256 of the configuration file, lower-case hex.
    pub config_sha256: String,
}

/// A location whose credentials the pod mounts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MountedLocation {
    /// Name of the BackupLocation.
    pub name: String,
    /// Name of its Secret; it need not exist.
    pub secret: String,
}

/// The objects of a Store in the order in which they are applied: a pod that starts at any point in between finds either
/// the old objects or the new ones, and both are safe to start from.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// Account of the pods, without rights.
    pub service_account: ServiceAccount,
    /// The record; absent exactly with the strategy Disabled.
    pub record: Option<ConfigMap>,
    /// The configuration file.
    pub config: ConfigMap,
    /// For clients.
    pub service: Service,
    /// Stable names of the pods, ready or not.
    pub headless_service: Service,
    /// At most one pod is disrupted.
    pub pdb: PodDisruptionBudget,
    /// Runs the pod.
    pub stateful_set: StatefulSet,
    /// SHA-256 of the configuration file, lower-case hex.
    pub config_sha256: String,
    /// Digest of the pod template.
    pub template_hash: String,
}

/// Builds all objects of `store`.
#[must_use]
pub fn build(store: &ValidatedStore, inputs: &Inputs) -> Desired {
    let config = server_config::render(store, inputs.rendering);
    let config_sha256 = sha256_hex(config.as_bytes());
    let stateful_set = stateful_set::build(store, inputs, &config_sha256);
    let template_hash = stateful_set
        .spec
        .template
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.annotations.as_ref()?.get(names::key::TEMPLATE_HASH))
        .cloned()
        .unwrap_or_default();
    let Kept { template_hash, config_sha256 } =
        inputs.kept.clone().unwrap_or(Kept { template_hash, config_sha256 });
    Desired {
        service_account: rbac::build_service_account(store),
        record: inputs.record.as_ref().map(|record| config_map::build_record(store, record)),
        config: config_map::build_config(store, config),
        service: service::build(store),
        headless_service: service::build_headless(store),
        pdb: pdb::build(store),
        stateful_set,
        config_sha256,
        template_hash,
    }
}

/// Metadata of an object that is owned by `store` and deleted with it.
fn owned(store: &ValidatedStore, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(store.namespace.clone()),
        labels: Some(names::labels(&store.name)),
        owner_references: Some(vec![owner(store)]),
        ..ObjectMeta::default()
    }
}

fn owner(store: &ValidatedStore) -> OwnerReference {
    OwnerReference {
        api_version: Store::api_version(&()).into_owned(),
        kind: Store::kind(&()).into_owned(),
        name: store.name.clone(),
        uid: store.uid.clone(),
        controller: Some(true),
        // A foreground deletion of the Store does not wait for its children.
        block_owner_deletion: None,
    }
}

/// SHA-256 of `bytes` as lower-case hex.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A short digest of what `value` is as JSON: equal for equal values, in any process.
pub(crate) fn digest(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).expect("an API object has a JSON form");
    sha256_hex(&json)[..16].to_owned()
}
