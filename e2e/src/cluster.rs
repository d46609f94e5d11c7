//! Which cluster, which images, which object store: from the environment, with the values of `e2e/cluster/env.sh` as
//! defaults.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// Where the product and the tests run.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Context in the kubeconfig.
    pub context: String,
    /// The kubeconfig; absent: as kubectl finds it.
    pub kubeconfig: Option<PathBuf>,
    /// Folder with `kubectl` and `helm`; absent: as the shell finds them.
    pub tools: Option<PathBuf>,
    /// What stands before `/holdfast-server:VERSION` and `/holdfast-operator:VERSION`.
    pub images: String,
    /// Storage class with snapshots, whose volumes outlive their node.
    pub storage_class: String,
    /// Snapshot class of its driver.
    pub snapshot_class: String,
    /// The object store, as pods reach it.
    pub object_store: ObjectStore,
}

/// A bucket for the tests.
#[derive(Debug, Clone)]
pub struct ObjectStore {
    /// URL as pods reach it, without path.
    pub endpoint: String,
    /// Bucket; it exists.
    pub bucket: String,
    /// Region to sign for.
    pub region: String,
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn variable_or(name: &str, default: &str) -> String {
    variable(name).unwrap_or_else(|| default.to_owned())
}

impl Cluster {
    /// The cluster that `HOLDFAST_E2E_CONTEXT` names, else the one that `e2e/cluster/up` makes; never the caller's
    /// current context by chance.
    #[must_use]
    pub fn from_environment() -> Self {
        let home = variable_or("HOME", "/");
        let cache = variable("HOLDFAST_CACHE")
            .map_or_else(|| PathBuf::from(home).join(".cache/holdfast"), PathBuf::from);
        let name = variable_or("HOLDFAST_CLUSTER", "holdfast");
        let foreign = variable("HOLDFAST_E2E_CONTEXT");
        let own = cache.join("cluster");
        Self {
            kubeconfig: foreign.is_none().then(|| own.join(format!("{name}.kubeconfig"))),
            tools: variable("HOLDFAST_KUBE_BIN")
                .map(PathBuf::from)
                .or_else(|| foreign.is_none().then(|| own.join("bin"))),
            context: foreign.unwrap_or_else(|| format!("kind-{name}")),
            images: variable_or("HOLDFAST_IMAGES", "localhost"),
            storage_class: variable_or("HOLDFAST_STORAGE_CLASS", "imagefile"),
            snapshot_class: variable_or("HOLDFAST_SNAPSHOT_CLASS", "imagefile"),
            object_store: ObjectStore {
                endpoint: variable_or("HOLDFAST_S3_ENDPOINT", "http://object-store.object-store.svc:7070"),
                bucket: variable_or("HOLDFAST_S3_BUCKET", "holdfast"),
                region: variable_or("HOLDFAST_S3_REGION", "us-east-1"),
                access_key: variable_or("HOLDFAST_S3_ACCESS_KEY", "holdfast-test"),
                secret_key: variable_or("HOLDFAST_S3_SECRET_KEY", "holdfast-test-secret"),
            },
        }
    }

    /// A client, proven to reach the cluster. It belongs to the runtime that makes it.
    /// # Errors
    /// No such context, or the cluster does not answer; the sentence names `make e2e`.
    pub async fn connect(&self) -> Result<Client> {
        self.try_connect().await.with_context(|| {
            format!(
                "no cluster answers in context {:?}: `make e2e` makes one and runs the tests on it; to use another, set HOLDFAST_E2E_CONTEXT and HOLDFAST_IMAGES",
                self.context
            )
        })
    }

    async fn try_connect(&self) -> Result<Client> {
        let kubeconfig = match &self.kubeconfig {
            Some(path) => Kubeconfig::read_from(path).with_context(|| format!("read {}", path.display()))?,
            None => Kubeconfig::read().context("read the kubeconfig")?,
        };
        let options =
            KubeConfigOptions { context: Some(self.context.clone()), ..KubeConfigOptions::default() };
        let config =
            Config::from_custom_kubeconfig(kubeconfig, &options).await.context("use the kubeconfig")?;
        let client = Client::try_from(config).context("make a client")?;
        client.apiserver_version().await.context("ask for the version of the API")?;
        Ok(client)
    }

    /// Runs `kubectl` or `helm` against this cluster and returns what it prints.
    /// # Errors
    /// The program is missing or fails; what it said is in the error.
    pub async fn tool(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let path = self.tools.as_ref().map_or_else(|| PathBuf::from(program), |tools| tools.join(program));
        let mut command = tokio::process::Command::new(&path);
        command.arg(if program == "helm" { "--kube-context" } else { "--context" }).arg(&self.context);
        if let Some(kubeconfig) = &self.kubeconfig {
            command.arg("--kubeconfig").arg(kubeconfig);
        }
        let output = command.args(arguments).output().await.with_context(|| {
            format!("run {}; HOLDFAST_KUBE_BIN names the folder of kubectl and helm", path.display())
        })?;
        if !output.status.success() {
            bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, PathBuf::from)
}
