//! A node that dies, and the operator with it: the operator is started elsewhere, nothing is forced while the node may come back,
//! and the Store moves as soon as somebody says that it is gone.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_e2e::cluster::repository;
use holdfast_e2e::install::{OPERATOR_LABEL, OPERATOR_NAMESPACE};
use holdfast_e2e::scenario::{Reach, Scenario, run};
use holdfast_e2e::wait::{LONG, throughout, until};
use holdfast_e2e::{dataset, install};
use holdfast_operator::api::conditions::{self, kind};
use holdfast_operator::api::v1alpha1::Store;
use tokio::process::Command;

const TAINT: &str = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute";

/// `e2e/cluster/node`.
async fn node(command: &str, name: &str) -> Result<()> {
    let output = Command::new(repository().join("e2e/cluster/node")).args([command, name]).output().await?;
    if !output.status.success() {
        bail!("node {command} {name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

#[tokio::test]
#[ignore = "takes minutes, and needs the cluster of e2e/cluster/up: make e2e-full"]
async fn a_dead_node_gives_its_store_away_once_it_is_marked_so() -> Result<()> {
    run("node-death", Reach::WholeCluster, async |s| {
        s.ready_store("orders", "{persistence: {strategy: Always}}").await?;
        let expected = dataset::fill(&mut s.redis("orders").await?, 300).await?;
        let dead = s.node("orders").await?;
        bring_operator_to(s, &dead).await?;
        node("kill", &dead).await?;
        let outcome = moves(s, &dead).await;
        node("start", &dead).await?;
        // A taint that is not there any more is fine.
        let _ = s.cluster.tool("kubectl", &["taint", "node", &dead, &format!("{TAINT}-")]).await;
        install::ready(&s.client).await?;
        outcome?;
        s.ready("orders").await?;
        dataset::compare(&expected, &dataset::read(&mut s.redis("orders").await?).await?)
    })
    .await
}

async fn bring_operator_to(s: &Scenario, node: &str) -> Result<()> {
    let others = format!("kubernetes.io/hostname!={node}");
    s.cluster.tool("kubectl", &["cordon", "--selector", &others]).await?;
    let restart =
        ["rollout", "restart", "deployment", "--namespace", OPERATOR_NAMESPACE, "--selector", OPERATOR_LABEL];
    let outcome = async {
        s.cluster.tool("kubectl", &restart).await?;
        install::ready(&s.client).await
    }
    .await;
    s.cluster.tool("kubectl", &["uncordon", "--selector", &others]).await?;
    outcome
}

async fn moves(s: &Scenario, dead: &str) -> Result<()> {
    until("the Store to be told not ready", LONG, async || {
        let store = s.api::<Store>().get("orders").await?;
        let status = store.status.context("no status")?;
        ensure!(!conditions::is_true(&status.conditions, kind::READY), "it is called ready");
        Ok(())
    })
    .await?;
    let claim = s.claim("orders").await?.metadata.uid;
    throughout("nothing is forced", Duration::from_secs(20), async || {
        ensure!(
            s.node("orders").await? == dead,
            "the pod has moved although nobody said that the node is gone"
        );
        ensure!(s.claim("orders").await?.metadata.uid == claim, "the claim is another one");
        Ok(())
    })
    .await?;
    s.cluster.tool("kubectl", &["taint", "node", dead, TAINT]).await?;
    until("the Store to serve on another node", LONG, async || {
        ensure!(s.node("orders").await? != dead, "the pod is still on {dead}");
        s.pod_ready("orders").await
    })
    .await?;
    ensure!(s.claim("orders").await?.metadata.uid == claim, "the claim is another one");
    Ok(())
}
