//! Other hands on the objects of a Store: a claim that is being deleted, a field of another manager, a line that the server
//! refuses. The pod that serves goes on serving.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use holdfast_e2e::scenario::{Reach, Scenario, run};
use holdfast_e2e::stores::expect_condition;
use holdfast_e2e::wait::{STARTS, throughout, until};
use holdfast_operator::api::conditions::{kind, reason};
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use serde_json::json;

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
