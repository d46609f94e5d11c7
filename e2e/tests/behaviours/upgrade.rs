//! From v0.1.0 to this version: the operator changes, no pod does, and no write is refused; then the servers, one at a time.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_e2e::cluster::repository;
use holdfast_e2e::install::{by_chart, by_chart_of, by_chart_with};
use holdfast_e2e::load::{self, Load};
use holdfast_e2e::scenario::{Reach, Scenario, run};
use holdfast_e2e::wait::{LONG, throughout, until};
use holdfast_operator::api::conditions::{kind, reason};
use holdfast_operator::api::v1alpha1::Store;
use holdfast_operator::names;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::process::Command;

/// The commit of v0.1.0.
const RELEASED: &str = "f00b60a";
/// Tag of its images.
const RELEASED_TAG: &str = "0.1.0-f00b60a";
/// Longer than any pause between two looks of the operator at a Store.
const LOOKS: Duration = Duration::from_secs(60);

/// The Stores, with what differs between them.
const STORES: [(&str, &str); 5] = [
    ("always", "{persistence: {strategy: Always}}"),
    ("everysec", "{persistence: {strategy: EverySecond}, backup: {locationRef: {name: offsite}}}"),
    ("nosync", "{persistence: {strategy: NoSync}, config: [hz 20], memory: {maxMemory: 32Mi}}"),
    ("labelled", "{podTemplate: {metadata: {labels: {team: shop}}}, resources: {limits: {memory: 128Mi}}}"),
    ("never", "{persistence: {strategy: Never}}"),
];

/// Kinds and chart of v0.1.0 below `folder`.
async fn released_sources(folder: &Path) -> Result<()> {
    let command = format!("git archive {RELEASED} crds charts/holdfast | tar -x -C \"$0\"");
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &command])
        .arg(folder)
        .current_dir(repository())
        .output()
        .await
        .context("run git")?;
    if !output.status.success() {
        bail!(
            "the sources of {RELEASED} cannot be read; a shallow clone lacks them (git fetch --unshallow): {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// What tells one run of a container from the next: the pod, and how often it was started in it.
type Runs = BTreeMap<String, (Option<String>, Vec<i32>)>;

async fn runs(s: &Scenario) -> Result<Runs> {
    let pods = s.api::<Pod>().list(&ListParams::default()).await?.items;
    let run = |pod: Pod| {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        let starts = statuses.into_iter().flatten().map(|status| status.restart_count).collect();
        ensure!(pod.metadata.deletion_timestamp.is_none(), "pod {} is being deleted", pod.name_any());
        Ok((pod.name_any(), (pod.uid(), starts)))
    };
    pods.into_iter().map(run).collect()
}

fn rendering(pod: &Pod) -> Option<&String> {
    pod.annotations().get(names::key::RENDERING)
}

#[tokio::test]
#[ignore = "takes minutes, and needs the images of v0.1.0: make e2e-full"]
async fn an_upgrade_of_the_operator_restarts_nothing() -> Result<()> {
    run("upgrade", Reach::WholeCluster, async |s| {
        let folder = std::env::temp_dir().join(format!("{}-released", s.namespace));
        std::fs::create_dir_all(&folder)?;
        let outcome = async {
            released_sources(&folder).await?;
            upgrade(s, &folder).await
        }
        .await;
        let _ = std::fs::remove_dir_all(&folder);
        by_chart(&s.cluster, &s.client).await?;
        outcome
    })
    .await
}

async fn upgrade(s: &Scenario, released: &Path) -> Result<()> {
    let old = [format!("image.tag={RELEASED_TAG}"), format!("serverImage.tag={RELEASED_TAG}")];
    by_chart_of(released, &s.cluster, &s.client, &old).await.context("install v0.1.0")?;
    s.location().await?;
    for (name, spec) in STORES {
        s.apply_store(name, spec).await?;
    }
    let mut loads = BTreeMap::new();
    for (name, _) in STORES {
        s.ready(name).await.context("with v0.1.0")?;
        loads.insert(name, Load::start(s.redis(name).await?, 0));
    }
    for load in loads.values() {
        load.advance(100).await?;
    }
    let before = runs(s).await?;
    ensure!(before.len() == STORES.len(), "pods: {before:?}");

    // The operator alone: its servers stay the default.
    install(s, RELEASED_TAG).await.context("upgrade the operator")?;
    for (name, _) in STORES {
        let recorded = s.store_when(name, "the new operator has recorded what works", |store| {
            let good = store.status.as_ref().and_then(|status| status.last_good_update.as_ref());
            let good = good.context("nothing is recorded")?;
            ensure!(good["rendering"] == 1, "{good}");
            Ok(())
        });
        recorded.await?;
        s.ready(name).await?;
    }
    throughout("no pod restarts by itself, and no write is refused", LOOKS, async || {
        ensure!(runs(s).await? == before, "the pods were {before:?}");
        loads.values().try_for_each(Load::unbroken)
    })
    .await?;
    for load in loads.values() {
        load.advance(100).await?;
    }

    supervised(s, loads, before).await
}

async fn install(s: &Scenario, server_tag: &str) -> Result<()> {
    let values = ["maxConcurrentRestarts=1".to_owned(), format!("serverImage.tag={server_tag}")];
    by_chart_with(&s.cluster, &s.client, &values).await
}

/// The servers, one Store at a time, when a person says so.
async fn supervised(s: &Scenario, mut loads: BTreeMap<&str, Load>, mut expected: Runs) -> Result<()> {
    for (name, _) in STORES {
        s.patch_store(name, "{spec: {updateStrategy: {type: Supervised}}}").await?;
    }
    for (name, _) in STORES {
        s.ready(name).await?;
    }
    install(s, env!("CARGO_PKG_VERSION")).await.context("upgrade the servers' default image")?;
    let mut approvals = BTreeMap::new();
    for (name, _) in STORES {
        let waits =
            s.store_condition(name, kind::RECONCILING, "True", reason::UPDATE_AWAITS_APPROVAL).await?;
        let approval = waits.split_once("approve-update=").context("the message names no annotation")?.1;
        approvals.insert(name, approval.split(' ').next().unwrap_or_default().to_owned());
    }
    throughout("all wait", Duration::from_secs(15), async || {
        ensure!(runs(s).await? == expected, "the pods were {expected:?}");
        loads.values().try_for_each(Load::unbroken)
    })
    .await?;

    for (name, _) in STORES {
        let load = loads.remove(name).context("a load")?;
        load.advance(100).await?;
        // Every strategy keeps what was acknowledged before a clean stop; under Never that is what the last snapshot holds.
        let early = if name == "never" { Err(load.stop().await?) } else { Ok(load) };
        let pod = s.pod(name).await?;
        ensure!(rendering(&pod).is_none(), "{:?}", pod.annotations());
        approve(s, name, &approvals[name]).await?;
        s.pod_replaced(name, pod.uid().as_deref()).await?;
        until(&format!("Store {name} to serve with the new image"), LONG, async || {
            let pod = s.pod(name).await?;
            let image = pod.spec.as_ref().and_then(|spec| spec.containers.first()?.image.clone());
            ensure!(
                image.as_ref().is_some_and(|image| image.ends_with(concat!(":", env!("CARGO_PKG_VERSION")))),
                "image {image:?}"
            );
            ensure!(rendering(&pod).is_some(), "the new rendering comes with the restart");
            s.pod_ready(name).await
        })
        .await?;
        s.ready(name).await?;
        let acknowledged = match early {
            Ok(load) => load.stop().await?,
            Err(acknowledged) => acknowledged,
        };
        let found = load::count(&mut s.redis(name).await?).await?;
        ensure!(found >= acknowledged, "{name}: {acknowledged} writes were acknowledged, {found} are there");

        let now = runs(s).await?;
        let pod = names::pod(name);
        expected.insert(pod.clone(), now.get(&pod).context("no pod")?.clone());
        ensure!(now == expected, "another pod has restarted as well: {now:?}, not {expected:?}");
        loads.values().try_for_each(Load::unbroken)?;
    }
    Ok(())
}

async fn approve(s: &Scenario, store: &str, update: &str) -> Result<()> {
    let approval = json!({"metadata": {"annotations": {names::key::APPROVE_UPDATE: update}}});
    let stores = s.api::<Store>();
    stores.patch(store, &PatchParams::default(), &Patch::Merge(approval)).await.context("approve")?;
    Ok(())
}
