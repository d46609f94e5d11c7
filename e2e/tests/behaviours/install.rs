//! Installation by the chart and by the one-file manifest: both end in an operator that works.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use holdfast_e2e::cluster::repository;
use holdfast_e2e::install::{OPERATOR_NAMESPACE, RELEASE, by_chart, ready};
use holdfast_e2e::scenario::{Reach, run};
use holdfast_e2e::wait::{STARTS, until};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};

/// The one-file manifest, with the images of this run.
fn plain_manifest(images: &str) -> Result<PathBuf> {
    let text = std::fs::read_to_string(repository().join("deploy/holdfast.yaml"))?;
    let path = std::env::temp_dir().join(format!("holdfast-e2e-{}.yaml", std::process::id()));
    std::fs::write(&path, text.replace("localhost/holdfast-", &format!("{images}/holdfast-")))?;
    Ok(path)
}

#[tokio::test]
async fn the_chart_and_the_plain_manifest_both_install_a_working_operator() -> Result<()> {
    run("install", Reach::WholeCluster, async |s| {
        s.ready_store("by-chart", "{}").await.context("with the chart")?;

        let manifest = plain_manifest(&s.cluster.images)?;
        s.cluster.tool("helm", &["uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--wait"]).await?;
        let operators: Api<Pod> = Api::namespaced(s.client.clone(), OPERATOR_NAMESPACE);
        until("the operator to go", STARTS, async || {
            anyhow::ensure!(operators.list(&ListParams::default()).await?.items.is_empty(), "it is still there");
            Ok(())
        })
        .await?;
        s.cluster.tool("kubectl", &["apply", "--server-side", "--force-conflicts", "-f", &manifest.to_string_lossy()]).await?;
        let outcome = async {
            ready(&s.client).await?;
            // Uninstalling has harmed nothing, and the new one takes over.
            s.ready("by-chart").await?;
            s.ready_store("by-manifest", "{}").await.context("with the manifest").map(drop)
        };
        let outcome = outcome.await;
        // The CRDs stay: with them every Store in the cluster would go.
        let selector = "app.kubernetes.io/name=holdfast-operator";
        let kinds = "deployment,service,serviceaccount,clusterrole,clusterrolebinding,role,rolebinding,poddisruptionbudget";
        s.cluster
            .tool("kubectl", &["delete", kinds, "--namespace", OPERATOR_NAMESPACE, "-l", selector, "--ignore-not-found"])
            .await?;
        by_chart(&s.cluster, &s.client).await?;
        outcome?;
        s.ready("by-manifest").await?;
        Ok(())
    })
    .await
}
