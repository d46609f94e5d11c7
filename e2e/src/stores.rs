//! Manifests as a user writes them, and waiting for what the API says about them.

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_operator::api::conditions::{self, kind};
use holdfast_operator::api::v1alpha1::{BackupLocation, Store, StoreBackup};
use holdfast_operator::names;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use serde::Deserialize as _;
use serde_json::Value;

use crate::scenario::Scenario;
use crate::wait::{LONG, SOON, STARTS, until};

/// Name of the location that [`Scenario::location`] makes.
pub const LOCATION: &str = "offsite";
/// Its Secret.
pub const CREDENTIALS: &str = "offsite-credentials";

/// An object that says by conditions how it is.
pub trait HasConditions {
    /// Its conditions; none while it has no status.
    fn conditions(&self) -> &[Condition];
}

macro_rules! has_conditions {
    ($($kind:ty),*) => {$(
        impl HasConditions for $kind {
            fn conditions(&self) -> &[Condition] {
                self.status.as_ref().map_or(&[], |status| &status.conditions)
            }
        }
    )*};
}
has_conditions!(Store, StoreBackup, BackupLocation);

/// The conditions in one line, for messages.
#[must_use]
pub fn describe(conditions: &[Condition]) -> String {
    let one = |condition: &Condition| {
        let message =
            if condition.message.is_empty() { String::new() } else { format!(": {}", condition.message) };
        format!("{}={} ({}{message})", condition.type_, condition.status, condition.reason)
    };
    conditions.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Fails unless the condition `kind` has this status and reason.
/// # Errors
/// All conditions as they are.
pub fn expect_condition(
    object: &impl HasConditions,
    kind: &str,
    status: &str,
    reason: &str,
) -> Result<Condition> {
    let found = conditions::find(object.conditions(), kind)
        .filter(|condition| condition.status == status && condition.reason == reason);
    let Some(found) = found else {
        bail!("{kind} is not {status} ({reason}): {}", describe(object.conditions()));
    };
    Ok(found.clone())
}

impl Scenario {
    /// The manifest of a Store on a small volume, with the entries of `spec` (YAML) over the defaults.
    /// # Errors
    /// `spec` is not a mapping.
    pub fn store_manifest(&self, name: &str, spec: &str) -> Result<Value> {
        let class = &self.cluster.storage_class;
        let text = format!(
            "apiVersion: holdfast.dev/v1alpha1\nkind: Store\nmetadata: {{name: {name}}}\nspec: {{storage: {{volumeClaimTemplate: {{spec: {{storageClassName: {class}, resources: {{requests: {{storage: 100Mi}}}}}}}}}}}}"
        );
        let mut manifest: Value = serde_yaml::from_str(&text).context("read the default Store")?;
        let given: Value = serde_yaml::from_str(spec).with_context(|| format!("read the spec {spec:?}"))?;
        let Value::Object(given) = given else { bail!("the spec {spec:?} is not a mapping") };
        for (field, value) in given {
            manifest["spec"][field] = value;
        }
        // `storage: null` leaves it out.
        if manifest["spec"]["storage"].is_null()
            && let Some(spec) = manifest["spec"].as_object_mut()
        {
            spec.remove("storage");
        }
        Ok(manifest)
    }

    /// Applies a Store; see [`Scenario::store_manifest`].
    /// # Errors
    /// It is refused.
    pub async fn apply_store(&self, name: &str, spec: &str) -> Result<()> {
        self.apply_value(self.store_manifest(name, spec)?).await
    }

    /// Applies a Store, waits until it is ready and settled, and returns it.
    /// # Errors
    /// It is refused, or not ready in time.
    pub async fn ready_store(&self, name: &str, spec: &str) -> Result<Store> {
        self.apply_store(name, spec).await?;
        self.ready(name).await
    }

    /// Applies the documents of `text` (YAML) by server-side apply, as `kubectl apply --server-side` does.
    /// # Errors
    /// A document is refused.
    pub async fn apply(&self, text: &str) -> Result<()> {
        for document in serde_yaml::Deserializer::from_str(text) {
            self.apply_value(Value::deserialize(document).with_context(|| format!("read {text}"))?).await?;
        }
        Ok(())
    }

    /// Applies one object in this namespace.
    /// # Errors
    /// It is refused.
    pub async fn apply_value(&self, manifest: Value) -> Result<()> {
        let object: DynamicObject = serde_json::from_value(manifest).context("read an object")?;
        let types = object.types.clone().context("the object names no kind")?;
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let name = object.name_any();
        api.patch(&name, &PatchParams::apply("e2e").force(), &Patch::Apply(&object))
            .await
            .with_context(|| format!("apply {} {name:?}", types.kind))?;
        Ok(())
    }

    /// Merges `patch` (YAML) into a Store.
    /// # Errors
    /// It is refused.
    pub async fn patch_store(&self, name: &str, patch: &str) -> Result<()> {
        let patch: Value = serde_yaml::from_str(patch)?;
        self.api::<Store>()
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .with_context(|| format!("patch Store {name:?}"))?;
        Ok(())
    }

    /// Waits until a Store is ready, settled, and runs with the configuration that its spec yields, and until its pod is
    /// ready by the kubelet's word: the operator may not have seen yet what a test has just done to the pod.
    /// # Errors
    /// Not in time; its conditions are in the error.
    pub async fn ready(&self, name: &str) -> Result<Store> {
        let api = self.api::<Store>();
        until(&format!("Store {name:?}: it is ready and settled"), STARTS, async || {
            let store = api.get(name).await?;
            let status = store.status.clone().unwrap_or_default();
            ensure!(
                status.observed_generation == store.metadata.generation,
                "the operator has not seen the spec"
            );
            ensure!(
                conditions::is_true(&status.conditions, kind::READY)
                    && !conditions::is_true(&status.conditions, kind::RECONCILING)
                    && status.persistence.is_some_and(|persistence| persistence.configuration_current),
                "{}",
                describe(&status.conditions)
            );
            self.pod_ready(name).await?;
            Ok(store)
        })
        .await
    }

    /// Fails unless the Store's pod is ready by the kubelet's word and not about to go.
    /// # Errors
    /// How the pod is.
    pub async fn pod_ready(&self, store: &str) -> Result<()> {
        let pod = self.pod(store).await?;
        ensure!(pod.metadata.deletion_timestamp.is_none(), "the pod is being deleted");
        let status = pod.status.unwrap_or_default();
        let mut conditions = status.conditions.iter().flatten();
        let is_ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
        ensure!(
            is_ready,
            "the pod is {:?}: {:?}",
            status.phase.unwrap_or_default(),
            status.container_statuses
        );
        Ok(())
    }

    /// Waits until `look` accepts the Store and returns it.
    /// # Errors
    /// Not in time; the error includes the last failed check.
    pub async fn store_when(
        &self,
        name: &str,
        what: &str,
        look: impl Fn(&Store) -> Result<()>,
    ) -> Result<Store> {
        let api = self.api::<Store>();
        until(&format!("Store {name:?}: {what}"), STARTS, async || {
            let store = api.get(name).await?;
            look(&store)?;
            Ok(store)
        })
        .await
    }

    /// Waits until a Store's condition has this status and reason, and returns its message.
    /// # Errors
    /// Not in time; its conditions are in the error.
    pub async fn store_condition(
        &self,
        name: &str,
        kind: &str,
        status: &str,
        reason: &str,
    ) -> Result<String> {
        let store = self
            .store_when(name, &format!("{kind}={status} ({reason})"), |store| {
                expect_condition(store, kind, status, reason).map(drop)
            })
            .await?;
        Ok(expect_condition(&store, kind, status, reason)?.message)
    }

    /// Makes the BackupLocation [`LOCATION`] on the tests' object store, below a prefix of this namespace.
    /// # Errors
    /// It is refused.
    pub async fn location(&self) -> Result<()> {
        self.location_at(&self.cluster.object_store.endpoint).await
    }

    /// The same by another way to the object store.
    /// # Errors
    /// It is refused.
    pub async fn location_at(&self, endpoint: &str) -> Result<()> {
        let s3 = &self.cluster.object_store;
        self.apply(&format!(
            r"
apiVersion: v1
kind: Secret
metadata: {{name: {CREDENTIALS}}}
stringData: {{accessKeyID: {}, secretAccessKey: {}}}
---
apiVersion: holdfast.dev/v1alpha1
kind: BackupLocation
metadata: {{name: {LOCATION}}}
spec:
  s3: {{bucket: {}, endpoint: '{endpoint}', region: {}}}
  prefix: {}
  credentialsSecretRef: {{name: {CREDENTIALS}}}
",
            s3.access_key, s3.secret_key, s3.bucket, s3.region, self.namespace
        ))
        .await
    }

    /// Makes a StoreBackup and does not wait for it.
    /// # Errors
    /// It is refused.
    pub async fn begin_backup(&self, name: &str, store: &str, spec: &str) -> Result<()> {
        let mut manifest: Value = serde_yaml::from_str(&format!(
            "{{apiVersion: holdfast.dev/v1alpha1, kind: StoreBackup, metadata: {{name: {name}}}, spec: {{storeRef: {{name: {store}}}}}}}"
        ))?;
        let given: Value = serde_yaml::from_str(spec).with_context(|| format!("read the spec {spec:?}"))?;
        for (field, value) in given.as_object().into_iter().flatten() {
            manifest["spec"][field] = value.clone();
        }
        self.apply_value(manifest).await
    }

    /// Makes a backup in the bucket and waits until it has succeeded.
    /// # Errors
    /// It failed, or did not end in time.
    pub async fn backup(&self, name: &str, store: &str) -> Result<StoreBackup> {
        self.begin_backup(name, store, "{method: Snapshot}").await?;
        self.succeeded(name).await
    }

    /// Makes a backup by volume snapshot and waits until it has succeeded.
    /// # Errors
    /// It failed, or did not end in time.
    pub async fn volume_snapshot(&self, name: &str, store: &str) -> Result<StoreBackup> {
        self.begin_volume_snapshot(name, store).await?;
        self.succeeded(name).await
    }

    /// Makes a backup by volume snapshot and does not wait for it.
    /// # Errors
    /// It is refused.
    pub async fn begin_volume_snapshot(&self, name: &str, store: &str) -> Result<()> {
        let class = &self.cluster.snapshot_class;
        self.begin_backup(
            name,
            store,
            &format!("{{method: VolumeSnapshot, volumeSnapshotClassName: {class}}}"),
        )
        .await
    }

    /// Waits until a backup has succeeded and can be used.
    /// # Errors
    /// It failed, or did not end in time.
    pub async fn succeeded(&self, name: &str) -> Result<StoreBackup> {
        let backup = self
            .backup_when(name, LONG, "it has ended", |backup| {
                let status = backup.status.as_ref();
                ensure!(
                    status.is_some_and(|status| status.completion_time.is_some()),
                    "{}",
                    describe(backup.conditions())
                );
                Ok(())
            })
            .await?;
        ensure!(
            conditions::is_true(backup.conditions(), kind::SUCCEEDED)
                && conditions::is_true(backup.conditions(), kind::READY_TO_USE),
            "StoreBackup {name:?} has not succeeded: {}",
            describe(backup.conditions())
        );
        Ok(backup)
    }

    /// Waits until `look` accepts the StoreBackup and returns it.
    /// # Errors
    /// Not in time; the error includes the last failed check.
    pub async fn backup_when(
        &self,
        name: &str,
        deadline: std::time::Duration,
        what: &str,
        look: impl Fn(&StoreBackup) -> Result<()>,
    ) -> Result<StoreBackup> {
        let api = self.api::<StoreBackup>();
        until(&format!("StoreBackup {name:?}: {what}"), deadline, async || {
            let backup = api.get(name).await?;
            look(&backup)?;
            Ok(backup)
        })
        .await
    }

    /// The Store's pod.
    /// # Errors
    /// There is none.
    pub async fn pod(&self, store: &str) -> Result<Pod> {
        Ok(self.api::<Pod>().get(&names::pod(store)).await?)
    }

    /// The node that the Store's pod runs on.
    /// # Errors
    /// There is no pod, or it has no node.
    pub async fn node(&self, store: &str) -> Result<String> {
        self.pod(store).await?.spec.and_then(|spec| spec.node_name).context("the pod has no node")
    }

    /// The Store's claim.
    /// # Errors
    /// There is none.
    pub async fn claim(&self, store: &str) -> Result<PersistentVolumeClaim> {
        Ok(self.api::<PersistentVolumeClaim>().get(&names::claim(store)).await?)
    }

    /// Waits for an event about the object of this kind and name, and returns its note.
    /// # Errors
    /// None in time; the reasons that were seen are in the error.
    pub async fn event(&self, kind: &str, name: &str, reason: &str) -> Result<String> {
        let api = self.api::<Event>();
        let fields = format!("involvedObject.kind={kind},involvedObject.name={name}");
        until(&format!("event {reason} about {kind} {name:?}"), SOON, async || {
            let events = api.list(&ListParams::default().fields(&fields)).await?;
            let found = events.items.iter().find(|event| event.reason.as_deref() == Some(reason));
            let seen: Vec<&str> = events.items.iter().filter_map(|event| event.reason.as_deref()).collect();
            let event = found.with_context(|| format!("there are: {}", seen.join(", ")))?;
            Ok(event.message.clone().unwrap_or_default())
        })
        .await
    }
}
