//! What every reconcile is given, and how it fails.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Client, Error as KubeError};

use crate::backup::checks::BackupChecks;
use crate::bucket_client::{BucketClient, SecretData};
use crate::caches::Caches;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::reconcile::build::claim::SNAPSHOT_GROUP;
use crate::reconcile::facts::LocationProblem;
use crate::reconcile::validate::Defaults;
use crate::restart_gate::RestartGate;
use crate::server_client::ServerClient;

/// What every reconcile is given.
#[derive(Clone)]
pub struct Context {
    /// The API.
    pub client: Client,
    /// Control ports.
    pub servers: Arc<dyn ServerClient>,
    /// Buckets.
    pub buckets: Arc<dyn BucketClient>,
    /// What a Store may leave out.
    pub defaults: Defaults,
    /// Events.
    pub events: Events,
    /// Metrics.
    pub metrics: Metrics,
    /// How many Stores restart at a time.
    pub restarts: RestartGate,
    /// When ended backups are looked for in their buckets.
    pub checks: BackupChecks,
    /// What the watches of a controller have brought; absent: everything is read live.
    pub caches: Option<Arc<Caches>>,
}

/// Why a reconcile ended early. It is repeated; nothing that was done has to be undone.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// A call to the API failed.
    #[error("failed to {action} {kind} {name:?}")]
    Call {
        /// What was attempted.
        action: &'static str,
        /// Kind of the object.
        kind: &'static str,
        /// Name of the object.
        name: String,
        /// The API's answer.
        #[source]
        source: Box<KubeError>,
    },
    /// The API has dropped a field that was written: the definition of the kind has no such field.
    #[error(
        "the definition of {kind} in this cluster has no status.{field}, so it is that of an earlier version than this operator"
    )]
    OldDefinition {
        /// The kind.
        kind: &'static str,
        /// The field.
        field: String,
    },
}

impl ReconcileError {
    /// Wraps an answer of the API.
    pub(crate) fn call(
        action: &'static str,
        kind: &'static str,
        name: &str,
    ) -> impl FnOnce(KubeError) -> ReconcileError {
        let name = name.to_owned();
        move |source| ReconcileError::Call { action, kind, name, source: Box::new(source) }
    }

    /// HTTP status of the API's answer; absent when there was none.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            ReconcileError::Call { source, .. } => code(source),
            ReconcileError::OldDefinition { .. } => None,
        }
    }

    /// The API's own sentence when it has refused an object for what is in it, or for a quota or policy: repeating it
    /// does not help until something else changes.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        match self {
            ReconcileError::Call { action, kind, name, source } => match &**source {
                KubeError::Api(status) if matches!(status.code, 400 | 403 | 422) => {
                    Some(format!("the API refused to {action} {kind} {name:?}: {}", status.message))
                }
                _ => None,
            },
            ReconcileError::OldDefinition { .. } => None,
        }
    }
}

/// HTTP status of an answer of the API.
pub(crate) fn code(error: &KubeError) -> Option<u16> {
    match error {
        KubeError::Api(status) => Some(status.code),
        _ => None,
    }
}

/// The error with its causes; the outer one alone often says only that something failed.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// The kind VolumeSnapshot.
#[must_use]
pub fn volume_snapshot_resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk(SNAPSHOT_GROUP, "v1", "VolumeSnapshot"),
        "volumesnapshots",
    )
}

impl Context {
    /// VolumeSnapshots in `namespace`.
    #[must_use]
    pub fn volume_snapshots(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &volume_snapshot_resource())
    }

    /// Whether the cluster has VolumeSnapshots.
    /// # Errors
    /// The API did not answer.
    pub(crate) async fn has_volume_snapshots(&self, namespace: &str) -> Result<bool, ReconcileError> {
        let list = self.volume_snapshots(namespace).list_metadata(&ListParams::default().limit(1)).await;
        match list {
            Ok(_) => Ok(true),
            Err(error) if code(&error) == Some(404) => Ok(false),
            Err(source) => Err(ReconcileError::call("list", "VolumeSnapshot", "")(source)),
        }
    }

    /// Data of the credentials Secret `name`; the inner error says that it is missing.
    /// # Errors
    /// The API did not answer.
    pub(crate) async fn secret_data(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Result<SecretData, LocationProblem>, ReconcileError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = secrets.get_opt(name).await.map_err(ReconcileError::call("read", "Secret", name))?;
        Ok(match secret {
            Some(secret) => {
                Ok(secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect())
            }
            None => Err(LocationProblem::secret_missing(name)),
        })
    }
}
