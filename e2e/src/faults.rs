//! Breaking things, each as an administrator or an accident does it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_operator::names;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, EvictParams, ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};

use crate::install::{OPERATOR_LABEL, OPERATOR_NAMESPACE, RELEASE};
use crate::scenario::Scenario;
use crate::wait::{LONG, STARTS, until};

/// One node at a time is taken out of service: with two, nothing could run.
static CORDON: Mutex<()> = Mutex::const_new(());

/// A node that takes no new pods. [`Cordon::lift`] puts it back.
#[must_use = "the node stays out of service until it is lifted"]
pub struct Cordon<'a> {
    scenario: &'a Scenario,
    /// Name of the node.
    pub node: String,
    _turn: MutexGuard<'static, ()>,
}

impl Cordon<'_> {
    /// Puts the node back into service.
    /// # Errors
    /// The API did not answer.
    pub async fn lift(self) -> Result<()> {
        self.scenario.set_unschedulable(&self.node, false).await
    }
}

impl Scenario {
    /// Deletes the Store's pod, within `grace_seconds` or in the time that it asks for itself, and waits until another one
    /// has taken its place.
    /// # Errors
    /// No other pod in time.
    pub async fn delete_pod(&self, store: &str, grace_seconds: Option<u32>) -> Result<()> {
        let uid = self.pod(store).await?.uid();
        let params = DeleteParams { grace_period_seconds: grace_seconds, ..DeleteParams::default() };
        self.api::<Pod>().delete(&names::pod(store), &params).await.context("delete the pod")?;
        self.pod_replaced(store, uid.as_deref()).await
    }

    /// Waits until the Store's pod is another one than `uid`.
    /// # Errors
    /// It is not in time.
    pub async fn pod_replaced(&self, store: &str, uid: Option<&str>) -> Result<()> {
        until(&format!("another pod of Store {store:?}"), STARTS, async || {
            let pod = self.pod(store).await?;
            ensure!(pod.uid().as_deref() != uid, "pod {:?} is still there", pod.name_any());
            Ok(())
        })
        .await
    }

    /// Takes the node of the Store's pod out of service and evicts the pods of this namespace from it, as
    /// `kubectl drain --pod-selector` does. Waits until the Store has another pod.
    /// # Errors
    /// The pod cannot be evicted, or no other takes its place.
    pub async fn drain_own_pods(&self, store: &str) -> Result<Cordon<'_>> {
        let turn = CORDON.lock().await;
        let pod = self.pod(store).await?;
        let cordon = self.cordon(self.node(store).await?, turn).await?;
        let outcome = async {
            self.evict(&pod).await?;
            self.pod_replaced(store, pod.uid().as_deref()).await
        };
        match outcome.await {
            Ok(()) => Ok(cordon),
            Err(error) => {
                cordon.lift().await?;
                Err(error)
            }
        }
    }

    /// Drains a node of everything, as `kubectl drain --ignore-daemonsets --delete-emptydir-data` does. Only for scenarios
    /// that run alone.
    /// # Errors
    /// A pod cannot be evicted.
    pub async fn drain_node(&self, node: &str) -> Result<Cordon<'_>> {
        let cordon = self.cordon(node.to_owned(), CORDON.lock().await).await?;
        match self
            .cluster
            .tool(
                "kubectl",
                &["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s"],
            )
            .await
        {
            Ok(_) => Ok(cordon),
            Err(error) => {
                cordon.lift().await?;
                Err(error)
            }
        }
    }

    async fn cordon(&self, node: String, turn: MutexGuard<'static, ()>) -> Result<Cordon<'_>> {
        self.set_unschedulable(&node, true).await?;
        Ok(Cordon { scenario: self, node, _turn: turn })
    }

    async fn set_unschedulable(&self, node: &str, unschedulable: bool) -> Result<()> {
        let patch = json!({"spec": {"unschedulable": unschedulable}});
        Api::<Node>::all(self.client.clone())
            .patch(node, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .with_context(|| format!("set unschedulable of node {node:?} to {unschedulable}"))?;
        Ok(())
    }

    /// Evicts a pod, trying again while a disruption budget forbids it.
    async fn evict(&self, pod: &Pod) -> Result<()> {
        let name = pod.name_any();
        until(&format!("the eviction of pod {name:?}"), STARTS, async || {
            self.api::<Pod>().evict(&name, &EvictParams::default()).await?;
            Ok(())
        })
        .await
    }

    /// Destroys the Store's volume: deletes its claim, whose volume goes as soon as no pod uses it.
    /// # Errors
    /// There is no claim.
    pub async fn destroy_volume(&self, store: &str) -> Result<()> {
        let name = names::claim(store);
        self.api::<PersistentVolumeClaim>()
            .delete(&name, &DeleteParams::default())
            .await
            .with_context(|| format!("delete claim {name:?}"))?;
        Ok(())
    }

    /// Kills the pods of the operator without warning.
    /// # Errors
    /// There is none.
    pub async fn kill_operator(&self) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE);
        let list = pods.list(&ListParams::default().labels(OPERATOR_LABEL)).await?;
        ensure!(!list.items.is_empty(), "no pod of the operator runs");
        for pod in list {
            self.kill_operator_pod(&pod.name_any()).await?;
        }
        Ok(())
    }

    /// Kills one of them without warning.
    /// # Errors
    /// It is not there.
    pub async fn kill_operator_pod(&self, name: &str) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE);
        pods.delete(name, &DeleteParams::default().grace_period(0)).await.context("kill the operator")?;
        Ok(())
    }

    /// Name of the operator's pod that holds the Lease.
    /// # Errors
    /// None does.
    pub async fn leading_operator(&self) -> Result<String> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE);
        let lease = leases.get(&format!("{RELEASE}-operator")).await.context("read the operator's Lease")?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity);
        holder.filter(|holder| !holder.is_empty()).context("nobody holds the Lease")
    }

    /// Scales the operator and waits until so many pods of it are there.
    /// # Errors
    /// They are not in time.
    pub async fn scale_operator(&self, replicas: i32) -> Result<()> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE);
        let selector = ListParams::default().labels(OPERATOR_LABEL);
        for deployment in deployments.list(&selector).await? {
            let patch = json!({"spec": {"replicas": replicas}});
            deployments.patch(&deployment.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        let wanted = usize::try_from(replicas)?;
        until(&format!("{replicas} pods of the operator"), STARTS, async || {
            let count = pods.list(&selector).await?.items.len();
            ensure!(count == wanted, "there are {count}");
            Ok(())
        })
        .await
    }
}

/// A way to the object store that can be cut for one scenario: a Service of its own namespace without selector, whose
/// endpoint comes and goes.
pub struct ObjectStoreGate<'a> {
    scenario: &'a Scenario,
    address: String,
    port: u16,
}

const GATE: &str = "object-store-gate";
/// Ties an EndpointSlice to its Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

impl Scenario {
    /// Makes the gate, open.
    /// # Errors
    /// The object store of the tests has no address, which is so when it lies outside the cluster.
    pub async fn object_store_gate(&self) -> Result<ObjectStoreGate<'_>> {
        let endpoint = &self.cluster.object_store.endpoint;
        let host =
            endpoint.strip_prefix("http://").with_context(|| format!("{endpoint:?} is not http://"))?;
        let (host, port) = host.split_once(':').unwrap_or((host, "80"));
        let mut parts = host.split('.');
        let (Some(name), Some(namespace)) = (parts.next(), parts.next()) else {
            bail!("{endpoint:?} is not a Service of this cluster");
        };
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), namespace);
        let slices = slices.list(&ListParams::default().labels(&format!("{SERVICE_LABEL}={name}"))).await?;
        // The pod itself: an endpoint cannot be the address of another Service.
        let address = slices
            .into_iter()
            .flat_map(|slice| slice.endpoints.unwrap_or_default())
            .flat_map(|endpoint| endpoint.addresses)
            .next();
        let address = address.with_context(|| format!("Service {name:?} has no endpoint"))?;
        let gate = ObjectStoreGate { scenario: self, address, port: port.parse()? };
        let manifest = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": GATE},
            "spec": {"ports": [{"port": gate.port, "protocol": "TCP"}]},
        });
        self.apply_value(manifest).await?;
        gate.open().await?;
        Ok(gate)
    }
}

impl ObjectStoreGate<'_> {
    /// URL of the object store by way of the gate.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{GATE}.{}.svc:{}", self.scenario.namespace, self.port)
    }

    /// Lets everything through.
    /// # Errors
    /// The API did not answer.
    pub async fn open(&self) -> Result<()> {
        let labels = BTreeMap::from([(SERVICE_LABEL, GATE)]);
        let manifest = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": GATE, "labels": labels},
            "addressType": "IPv4", "ports": [{"port": self.port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [self.address], "conditions": {"ready": true}}],
        });
        self.scenario.apply_value(manifest).await
    }

    /// Refuses every new connection.
    /// # Errors
    /// The API did not answer.
    pub async fn close(&self) -> Result<()> {
        self.scenario
            .api::<EndpointSlice>()
            .delete(GATE, &DeleteParams::default())
            .await
            .context("close the gate")?;
        Ok(())
    }
}

/// How long the operator may be away before its successor works: the Lease of one that was killed must run out first.
pub const SUCCESSION: Duration = LONG;
