//! Other hands on the objects of a Store: a claim that is being deleted, a field of another manager, a line that the server
//! refuses, a pod of its name, a deletion that leaves everything behind, a tool that prunes. The pod that serves goes on
//! serving, and nothing that belongs to others is touched.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use holdfast_e2e::scenario::{Reach, Scenario, run};
use holdfast_e2e::stores::expect_condition;
use holdfast_e2e::wait::{STARTS, throughout, until};
use holdfast_operator::api::conditions::{kind, reason};
use holdfast_operator::api::v1alpha1::Store;
use holdfast_operator::names;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DeleteParams, Patch, PatchParams, PropagationPolicy};
use serde_json::{Value, json};

/// Longer than the pause of any loop of the operator that was ever seen.
const QUIET: Duration = Duration::from_secs(20);

async fn pod_uid(s: &Scenario) -> Result<String> {
    s.pod("orders").await?.metadata.uid.context("the pod has no UID")
}

/// The pod stays the one that it is, and serves.
async fn same_pod(s: &Scenario, uid: &str) -> Result<()> {
    throughout("the pod stays", QUIET, async || {
        ensure!(pod_uid(s).await? == uid, "it was replaced");
        s.pod_ready("orders").await
    })
    .await?;
    let kept: String = s.redis("orders").await?.call("GET kept").await?;
    ensure!(kept == "1", "the value is {kept:?}");
    Ok(())
}

#[tokio::test]
async fn a_claim_that_is_being_deleted_keeps_its_pod_and_its_data() -> Result<()> {
    run("dying-claim", Reach::OwnNamespace, async |s| {
        s.location().await?;
        s.ready_store("orders", "{backup: {locationRef: {name: offsite}}}").await?;
        s.redis("orders").await?.call::<()>("SET kept 1").await?;
        let pod = pod_uid(s).await?;
        s.destroy_volume("orders").await?;
        let message =
            s.store_condition("orders", kind::STALLED, "True", reason::VOLUME_CLAIM_DELETING).await?;
        ensure!(message.contains("data-orders-0") && message.contains("StoreBackup"), "{message}");
        s.patch_store("orders", "{spec: {persistence: {strategy: Always}, config: [hz 20]}}").await?;
        same_pod(s, &pod).await?;
        // The way out that the condition names.
        s.backup("rescue", "orders").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_line_that_the_server_refuses_takes_no_pod_down() -> Result<()> {
    run("bad-line", Reach::OwnNamespace, async |s| {
        s.ready_store("orders", "{}").await?;
        s.redis("orders").await?.call::<()>("SET kept 1").await?;
        let pod = pod_uid(s).await?;
        s.patch_store("orders", "{spec: {config: [hz abc]}}").await?;
        let message =
            s.store_condition("orders", kind::STALLED, "True", reason::CONFIGURATION_REFUSED).await?;
        ensure!(message.contains("spec.config[0]") && message.contains("hz"), "{message}");
        same_pod(s, &pod).await?;
        s.patch_store("orders", "{spec: {config: [hz 20]}}").await?;
        until("the good line to take effect", STARTS, async || {
            let store = s.ready("orders").await?;
            expect_condition(&store, kind::STALLED, "False", reason::NOT_STALLED)?;
            let answer: Vec<String> = s.redis("orders").await?.call("CONFIG GET hz").await?;
            ensure!(answer == ["hz", "20"], "the server answers {answer:?}");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_port_of_another_manager_causes_only_the_restart_that_is_due() -> Result<()> {
    run("foreign-port", Reach::OwnNamespace, async |s| {
        s.ready_store("orders", "{}").await?;
        s.redis("orders").await?.call::<()>("SET kept 1").await?;
        let before = pod_uid(s).await?;
        let port = json!({"spec": {"ports": [{"name": "extra", "port": 9999, "protocol": "TCP"}]}});
        let services = s.api::<Service>();
        services.patch("orders", &PatchParams::default(), &Patch::Strategic(port)).await?;
        s.patch_store("orders", "{spec: {config: [hz 20]}}").await?;
        s.pod_replaced("orders", Some(&before)).await?;
        s.ready("orders").await?;
        let after = pod_uid(s).await?;
        same_pod(s, &after).await?;
        let ports = services.get("orders").await?.spec.and_then(|spec| spec.ports).unwrap_or_default();
        ensure!(ports.len() == 2, "the other's port is gone: {ports:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pod_of_the_same_name_is_left_alone_and_named() -> Result<()> {
    run("foreign-pod", Reach::OwnNamespace, async |s| {
        // It needs no image: no node takes it.
        s.apply(
            "{apiVersion: v1, kind: Pod, metadata: {name: orders-0}, spec: {nodeSelector: {holdfast.test/node: none},
            securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}},
            containers: [{name: main, image: localhost/none,
            securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]}}",
        )
        .await?;
        let foreign = pod_uid(s).await?;
        s.apply_store("orders", "{}").await?;
        let message = s.store_condition("orders", kind::STALLED, "True", reason::OBJECT_CONFLICT).await?;
        ensure!(message.contains("pod \"orders-0\"") && message.contains("has no owner"), "{message}");
        throughout("the pod of somebody else stays", QUIET, async || {
            let pod = s.pod("orders").await?;
            ensure!(pod.metadata.uid.as_deref() == Some(&foreign), "it was replaced");
            ensure!(pod.metadata.deletion_timestamp.is_none(), "it is being deleted");
            Ok(())
        })
        .await?;
        s.api::<Pod>().delete("orders-0", &DeleteParams::default()).await?;
        s.ready("orders").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_orphaned_deletion_leaves_everything_as_it_is() -> Result<()> {
    run("orphaned", Reach::OwnNamespace, async |s| {
        s.ready_store("orders", "{deletionPolicy: DeleteVolumes}").await?;
        s.redis("orders").await?.call::<()>("SET kept 1").await?;
        let pod = pod_uid(s).await?;
        let orphan =
            DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
        s.api::<Store>().delete("orders", &orphan).await?;
        until("the Store to go", STARTS, async || {
            ensure!(s.api::<Store>().get_opt("orders").await?.is_none(), "it is still there");
            Ok(())
        })
        .await?;
        same_pod(s, &pod).await?;
        let claim = s.claim("orders").await?;
        ensure!(claim.metadata.deletion_timestamp.is_none(), "the claim is being deleted");
        Ok(())
    })
    .await
}

/// Labels by which Argo CD (both of its ways) and Flux tell what they have applied.
const TRACKED_BY: [&str; 3] =
    [names::INSTANCE_LABEL, "argocd.argoproj.io/instance", "kustomize.toolkit.fluxcd.io/name"];
/// Kinds that such a tool looks through.
const PRUNED: &str = "pvc,statefulset,service,secret,configmap,pod,serviceaccount,poddisruptionbudget,volumesnapshot,storebackup";

/// What a pruning tool would delete: objects with a label of its application that nobody owns, unless they say that they
/// are not to be pruned.
async fn prunable(s: &Scenario, application: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for label in TRACKED_BY {
        let selector = format!("{label}={application}");
        let answer = s
            .cluster
            .tool("kubectl", &["get", PRUNED, "--namespace", &s.namespace, "-l", &selector, "-o", "json"])
            .await?;
        let answer: Value = serde_json::from_str(&answer)?;
        for object in answer["items"].as_array().context("no list")? {
            let metadata = &object["metadata"];
            let notes = &metadata["annotations"];
            let is_spared = notes["argocd.argoproj.io/sync-options"]
                .as_str()
                .is_some_and(|options| options.contains("Prune=false"))
                && notes["kustomize.toolkit.fluxcd.io/prune"] == "disabled";
            if metadata["ownerReferences"].is_null() && !is_spared {
                found.push(format!("{} {} ({label})", object["kind"], metadata["name"]));
            }
        }
    }
    Ok(found)
}

#[tokio::test]
async fn a_tool_that_prunes_finds_nothing_of_a_store() -> Result<()> {
    run("pruned", Reach::OwnNamespace, async |s| {
        let mut manifest = s.store_manifest("orders", "{}")?;
        for label in TRACKED_BY {
            manifest["metadata"]["labels"][label] = "orders".into();
        }
        s.apply_value(manifest).await?;
        s.ready("orders").await?;
        s.volume_snapshot("cut", "orders").await?;
        let found = prunable(s, "orders").await?;
        ensure!(found.is_empty(), "it would delete {found:?}");
        // An object that would go is found.
        s.apply(
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: other, labels: {argocd.argoproj.io/instance: orders}}}",
        )
        .await?;
        let found = prunable(s, "orders").await?;
        ensure!(found.len() == 1 && found[0].contains("other"), "the look finds {found:?}");
        Ok(())
    })
    .await
}
