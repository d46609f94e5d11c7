//! What was observed of a Store in one reconcile: plain data, the input of every decision.

use std::collections::BTreeMap;

use holdfast_contract::control::{ConfigCheck, ServerState, ServerStatus};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::observe::NamedKind;
use crate::api::conditions::reason;
use crate::api::v1alpha1::{BackupLocation, StoreBackup};

/// Everything that one reconcile of a Store has read.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The owned objects.
    pub children: Children,
    /// The claim `data-<store>-0`.
    pub claim: Option<PersistentVolumeClaim>,
    /// The pod `<store>-0`.
    pub pod: Option<Pod>,
    /// What the server says of itself.
    pub server: ServerFact,
    /// What the running server says of the configuration that the spec yields; asked only when it runs with
    /// another one, and absent when the server cannot tell.
    pub config_check: Option<ConfigCheck>,
    /// Why the API does not take the changed pod; absent when it does, and when nothing was tried.
    pub trial: Option<Trial>,
    /// Whom a restart of the Store has to wait for.
    pub turn: Turn,
    /// The source that bootstrap names; read only while the Store has no epoch.
    pub source: SourceFact,
    /// The locations that spec, status and record name; absent values are missing objects.
    pub locations: BTreeMap<String, Option<BackupLocation>>,
    /// The StoreBackups of this Store.
    pub backups: Vec<StoreBackup>,
    /// The newest backup in the bucket; read only when the volume is lost and shall be restored.
    pub latest_backup: Option<Result<Option<LatestBackup>, LocationProblem>>,
    /// Other claims in the namespace that carry the store id to adopt; read only for an adoption without a claim.
    pub claims_with_store_id: Vec<String>,
    /// Other Stores in the namespace with the store id to adopt.
    pub stores_with_store_id: Vec<String>,
    /// The newest warning event of the pod; read only while it is not ready.
    pub pod_warning: Option<String>,
    /// The newest warning event of the claim; read only while it is not bound.
    pub claim_warning: Option<String>,
}

/// Why the API does not take the changed pod, as a dry run tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    /// It refuses the pod; the text says why.
    Refused(String),
    /// It could not say; the text says why.
    Failed(String),
}

/// Whom a restart of a Store has to wait for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turn {
    /// As many other Stores as may restart now.
    pub others_restart: bool,
    /// Namespace and name of a Store that did not become ready with the image of the update.
    pub failed_with_image: Option<String>,
}

/// The owned objects as they are.
#[derive(Debug, Clone, Default)]
pub struct Children {
    /// Account of the pods.
    pub service_account: Option<ServiceAccount>,
    /// ConfigMap with the record.
    pub record: Option<ConfigMap>,
    /// ConfigMap with the configuration.
    pub config: Option<ConfigMap>,
    /// Secret with password and token.
    pub auth: Option<Secret>,
    /// Service for clients.
    pub service: Option<Service>,
    /// Headless Service.
    pub headless_service: Option<Service>,
    /// PodDisruptionBudget.
    pub pdb: Option<PodDisruptionBudget>,
    /// StatefulSet.
    pub stateful_set: Option<StatefulSet>,
}

/// An owned object of whatever kind.
pub(crate) struct Child<'a> {
    /// Its kind, for messages.
    pub(crate) kind: &'static str,
    /// Its metadata.
    pub(crate) metadata: &'a ObjectMeta,
}

impl Children {
    /// Those that are there. What goes for all owned objects goes through this list, and a kind that is forgotten here does not
    /// compile.
    pub(crate) fn present(&self) -> impl Iterator<Item = Child<'_>> {
        fn child<K: NamedKind>(object: Option<&K>) -> Option<Child<'_>> {
            object.map(|object| Child { kind: K::KIND_NAME, metadata: object.meta() })
        }
        let Children { service_account, record, config, auth, service, headless_service, pdb, stateful_set } =
            self;
        [
            child(service_account.as_ref()),
            child(record.as_ref()),
            child(config.as_ref()),
            child(auth.as_ref()),
            child(service.as_ref()),
            child(headless_service.as_ref()),
            child(pdb.as_ref()),
            child(stateful_set.as_ref()),
        ]
        .into_iter()
        .flatten()
    }
}

/// What the server says of itself.
#[derive(Debug, Clone, Default)]
pub enum ServerFact {
    /// There is no running server to ask.
    #[default]
    Absent,
    /// It did not answer; the text says how.
    Unreachable(String),
    /// It refused the operator's token.
    Unauthorized(String),
    /// It refused the question for another reason, or its answer is not understood.
    Refused {
        /// PascalCase reason.
        reason: String,
        /// A sentence for people.
        message: String,
    },
    /// It answered.
    Status(Box<ServerStatus>),
}

impl ServerFact {
    /// The answer, if there is one.
    #[must_use]
    pub fn status(&self) -> Option<&ServerStatus> {
        match self {
            ServerFact::Status(status) => Some(status),
            ServerFact::Absent
            | ServerFact::Unreachable(_)
            | ServerFact::Unauthorized(_)
            | ServerFact::Refused { .. } => None,
        }
    }

    /// The reason for which the server is held, if it is.
    #[must_use]
    pub fn held_for(&self) -> Option<&str> {
        let status = self.status().filter(|status| status.state == ServerState::Holding)?;
        status.decision.as_ref().map(|decision| decision.reason.as_str())
    }
}

/// The source that bootstrap names.
#[derive(Debug, Clone, Default)]
pub enum SourceFact {
    /// Nothing had to be read.
    #[default]
    NotNeeded,
    /// There is no StoreBackup of that name.
    BackupMissing,
    /// A StoreBackup of the method Snapshot.
    Backup(Box<StoreBackup>),
    /// A VolumeSnapshot, or none of that name.
    VolumeSnapshot(Option<SnapshotFact>),
    /// The API server has no VolumeSnapshots.
    VolumeSnapshotsUnavailable,
}

/// What matters of a VolumeSnapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotFact {
    /// Its name.
    pub name: String,
    /// Label with the id of the data.
    pub store_id: Option<String>,
    /// Label with the epoch of the data.
    pub epoch: Option<u64>,
    /// Label with the offset of the data.
    pub offset: Option<u64>,
    /// `status.readyToUse`.
    pub ready_to_use: bool,
    /// `status.restoreSize` in bytes.
    pub restore_bytes: Option<u64>,
    /// It is being deleted.
    pub is_deleting: bool,
    /// `status.error.message`.
    pub error: Option<String>,
}

/// The newest backup of a Store in its bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatestBackup {
    /// Path below the location's prefix.
    pub path: String,
    /// Epoch of its data.
    pub epoch: u64,
    /// Offset of its cut.
    pub offset: u64,
    /// When it was cut.
    pub cut_ms: u64,
}

/// Why a location cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocationProblem {
    /// PascalCase reason.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

impl LocationProblem {
    /// The Secret with the credentials is not there.
    #[must_use]
    pub fn secret_missing(name: &str) -> Self {
        Self {
            reason: reason::CREDENTIALS_MISSING.to_owned(),
            message: format!(
                "Secret {name:?} is not in this namespace; create it with the keys accessKeyID and secretAccessKey"
            ),
        }
    }
}
