//! The product, installed as a user installs it.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use kube::api::{Api, ListParams};
use tokio::sync::OnceCell;

use crate::cluster::{Cluster, repository};
use crate::wait::{STARTS, until};

/// Where the operator is installed.
pub const OPERATOR_NAMESPACE: &str = "holdfast-system";
/// Helm release.
pub const RELEASE: &str = "holdfast";
/// Selects the operator's deployment and pods.
pub const OPERATOR_LABEL: &str = "app.kubernetes.io/name=holdfast-operator";

static INSTALLED: OnceCell<()> = OnceCell::const_new();

/// Installs CRDs and chart once for each run of the tests; scenarios that come meanwhile wait.
/// # Errors
/// It cannot be installed; every scenario tries again, so each names the cause.
pub async fn ensure(cluster: &Cluster, client: &Client) -> Result<()> {
    INSTALLED.get_or_try_init(async || by_chart(cluster, client).await).await?;
    Ok(())
}

/// Installs or upgrades CRDs and chart, and waits until the operator works.
/// # Errors
/// `kubectl` or `helm` failed, or the operator is not ready in time.
pub async fn by_chart(cluster: &Cluster, client: &Client) -> Result<()> {
    by_chart_with(cluster, client, &[]).await
}

/// The same with further values of the chart, each as `KEY=VALUE`.
/// # Errors
/// As [`by_chart`].
pub async fn by_chart_with(cluster: &Cluster, client: &Client, further: &[String]) -> Result<()> {
    // Scenarios run side by side, and one whose Store does not come back must not hold up the others.
    let values = [&["maxConcurrentRestarts=100".to_owned()], further].concat();
    by_chart_of(&repository(), cluster, client, &values).await
}

/// Installs or upgrades the kinds and the chart of the source tree `root`, which may be that of another version.
/// # Errors
/// As [`by_chart`].
pub async fn by_chart_of(root: &Path, cluster: &Cluster, client: &Client, further: &[String]) -> Result<()> {
    let crds = root.join("crds");
    // Helm installs the CRDs of a chart once and never upgrades them.
    cluster
        .tool("kubectl", &["apply", "--server-side", "--force-conflicts", "-f", &crds.to_string_lossy()])
        .await?;
    let values = [
        format!("image.repository={}/holdfast-operator", cluster.images),
        format!("serverImage.repository={}/holdfast-server", cluster.images),
    ];
    let chart = root.join("charts/holdfast");
    let chart = chart.to_string_lossy();
    let mut arguments = vec!["upgrade", "--install", RELEASE, &chart, "--namespace", OPERATOR_NAMESPACE];
    arguments.extend(["--create-namespace", "--wait", "--timeout", "120s"]);
    for value in values.iter().chain(further) {
        arguments.extend(["--set", value]);
    }
    cluster.tool("helm", &arguments).await.context("install the chart")?;
    ready(client).await
}

/// Waits until the operator's deployment is as it should be.
/// # Errors
/// It is not in time.
pub async fn ready(client: &Client) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
    until("the operator to be ready", STARTS, async || {
        let list = deployments.list(&ListParams::default().labels(OPERATOR_LABEL)).await?;
        let deployment = list.items.first().context("there is no deployment of the operator")?;
        let status = deployment.status.clone().unwrap_or_default();
        let wanted = deployment.spec.replicas;
        ensure!(
            status.observed_generation == deployment.metadata.generation
                && status.updated_replicas == wanted
                && status.ready_replicas == wanted,
            "{status:?}"
        );
        Ok(())
    })
    .await
}
