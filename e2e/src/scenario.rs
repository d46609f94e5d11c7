//! One scenario: a namespace of its own, a lock against those that disturb everybody, a dump when it fails.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use futures::FutureExt as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, PostParams};
use kube::{Client, Resource};
use tokio::sync::Notify;

use crate::cluster::Cluster;
use crate::{dump, install};

/// Label of every namespace that a scenario makes; its value is the scenario.
pub const SCENARIO_LABEL: &str = "holdfast.dev/e2e";

/// What a scenario does to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Stays in its namespace; runs beside others.
    OwnNamespace,
    /// Touches nodes or the operator; runs alone.
    WholeCluster,
}

/// A running scenario.
pub struct Scenario {
    /// Where it runs.
    pub cluster: Cluster,
    /// A client of this scenario's runtime.
    pub client: Client,
    /// Its namespace; new, and deleted at the end.
    pub namespace: String,
    /// Its name.
    pub name: &'static str,
}

/// Runs `body` as the scenario `name`: installs the product if no scenario has, makes a namespace, and afterwards deletes
/// it (unless `HOLDFAST_E2E_KEEP` is set). When the body fails or panics, objects, events and logs go to a folder, and a
/// summary to the console.
/// # Errors
/// What `body` says, with the folder of the dump.
pub async fn run(
    name: &'static str,
    reach: Reach,
    body: impl AsyncFnOnce(&Scenario) -> Result<()>,
) -> Result<()> {
    let cluster = Cluster::from_environment();
    let client = cluster.connect().await?;
    install::ensure(&cluster, &client).await?;
    let turn = Turn::wait(reach).await;
    let scenario = Scenario::begin(cluster, client, name).await?;
    let start = Instant::now();
    let outcome = AssertUnwindSafe(body(&scenario)).catch_unwind().await.unwrap_or_else(|panic| {
        let text =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(anyhow!("panicked: {}", text.unwrap_or("without a text")))
    });
    let outcome = match outcome {
        Ok(()) => Ok(()),
        Err(error) => {
            let folder = dump::write(&scenario, &error).await;
            Err(error.context(format!("scenario {name} failed; objects, events and logs: {folder}")))
        }
    };
    scenario.end().await;
    drop(turn);
    // Not by `println!`, whose lines the test runner keeps when a test has passed.
    let _ = writeln!(
        std::io::stdout(),
        "scenario {name}: {} after {} s",
        if outcome.is_ok() { "passed" } else { "FAILED" },
        start.elapsed().as_secs()
    );
    outcome
}

impl Scenario {
    async fn begin(cluster: Cluster, client: Client, name: &'static str) -> Result<Self> {
        let namespace = format!("e2e-{name}-{:05x}", rand::random::<u32>() & 0xf_ffff);
        let object = Namespace {
            metadata: ObjectMeta {
                name: Some(namespace.clone()),
                labels: Some(BTreeMap::from([
                    (SCENARIO_LABEL.to_owned(), name.to_owned()),
                    // Whatever the operator makes must pass the strictest profile, unmodified.
                    ("pod-security.kubernetes.io/enforce".to_owned(), "restricted".to_owned()),
                ])),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        Api::<Namespace>::all(client.clone())
            .create(&PostParams::default(), &object)
            .await
            .with_context(|| format!("create namespace {namespace:?}"))?;
        Ok(Self { cluster, client, namespace, name })
    }

    /// The objects of one kind in this namespace.
    #[must_use]
    pub fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn end(&self) {
        if std::env::var_os("HOLDFAST_E2E_KEEP").is_some() {
            println!("namespace {} is kept", self.namespace);
            return;
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        if let Err(error) = namespaces.delete(&self.namespace, &DeleteParams::default()).await {
            println!("namespace {} was not deleted: {error}", self.namespace);
        }
    }
}

/// Scenarios side by side: enough to fill the waiting of each, few enough that a machine of two cores starts their pods
/// within the deadlines. The test runner's threads only wait, so there should be one for each test.
const SIDE_BY_SIDE: usize = 5;

/// Who runs at the moment. Scenarios that touch the whole cluster run alone; those that do not go first, so that the
/// former do not make the latter queue.
#[derive(Debug, Default)]
struct Running {
    beside_others: usize,
    alone: bool,
}

static RUNNING: Mutex<Running> = Mutex::new(Running { beside_others: 0, alone: false });
static TURN_ENDED: Notify = Notify::const_new();

/// The right to run, until dropped.
struct Turn(Reach);

impl Turn {
    async fn wait(reach: Reach) -> Self {
        loop {
            let ended = TURN_ENDED.notified();
            tokio::pin!(ended);
            // Order matters: listen first, then look, or an end in between is missed.
            ended.as_mut().enable();
            {
                let mut running = lock();
                match reach {
                    Reach::OwnNamespace if !running.alone && running.beside_others < SIDE_BY_SIDE => {
                        running.beside_others += 1;
                        return Self(reach);
                    }
                    Reach::WholeCluster if !running.alone && running.beside_others == 0 => {
                        running.alone = true;
                        return Self(reach);
                    }
                    _ => {}
                }
            }
            ended.await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut running = lock();
        match self.0 {
            Reach::OwnNamespace => running.beside_others -= 1,
            Reach::WholeCluster => running.alone = false,
        }
        drop(running);
        TURN_ENDED.notify_waiters();
    }
}

fn lock() -> std::sync::MutexGuard<'static, Running> {
    // A scenario that panics does so outside of these few lines.
    RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
