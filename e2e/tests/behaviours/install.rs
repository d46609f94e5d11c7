//! Installation by the chart, for all namespaces and for one, and by the one-file manifest: all end in an operator that works.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use holdfast_e2e::cluster::repository;
use holdfast_e2e::install::{OPERATOR_NAMESPACE, RELEASE, by_chart, by_chart_with, ready};
use holdfast_e2e::scenario::{Reach, Scenario, run};
use holdfast_e2e::wait::{STARTS, throughout, until};
use holdfast_operator::api::v1alpha1::Store;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::json;

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
            ensure!(operators.list(&ListParams::default()).await?.items.is_empty(), "it is still there");
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

/// A namespace that the operator is not to see.
async fn another_namespace(s: &Scenario) -> Result<String> {
    let name = format!("{}-other", s.namespace);
    let object = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    Api::<Namespace>::all(s.client.clone()).create(&PostParams::default(), &object).await?;
    Ok(name)
}

#[tokio::test]
async fn an_operator_of_one_namespace_works_there_and_nowhere_else() -> Result<()> {
    run("namespaced", Reach::WholeCluster, async |s| {
        let other = another_namespace(s).await?;
        by_chart_with(&s.cluster, &s.client, &[format!("watchNamespaces={{{}}}", s.namespace)]).await?;
        let outcome = async {
            let roles: Api<ClusterRole> = Api::all(s.client.clone());
            ensure!(roles.get_opt(RELEASE).await?.is_none(), "it has a ClusterRole");
            let stores: Api<Store> = Api::namespaced(s.client.clone(), &other);
            let store = serde_json::from_value(s.store_manifest("orders", "{}")?)?;
            stores.create(&PostParams::default(), &store).await?;
            // Everything that it needs rights for: claims, Secrets, events, backups, volume snapshots.
            s.location().await?;
            s.ready_store("orders", "{backup: {locationRef: {name: offsite}}}").await?;
            s.backup("nightly", "orders").await?;
            s.volume_snapshot("cut", "orders").await?;
            s.event("StoreBackup", "nightly", "BackupSucceeded").await?;
            throughout("the Store elsewhere is left alone", Duration::from_secs(5), async || {
                ensure!(stores.get("orders").await?.status.is_none(), "it has a status");
                Ok(())
            })
            .await
        };
        let outcome = outcome.await;
        Api::<Namespace>::all(s.client.clone()).delete(&other, &DeleteParams::default()).await?;
        by_chart(&s.cluster, &s.client).await?;
        outcome
    })
    .await
}
