//! Many Stores and one new image: one restarts at a time, and an image that does not work stops at the first.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_e2e::install::by_chart_with;
use holdfast_e2e::scenario::{Reach, Scenario, run};
use holdfast_e2e::wait::{LONG, throughout, until};
use holdfast_operator::api::conditions::{self, kind, reason};
use holdfast_operator::api::v1alpha1::Store;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::ListParams;

/// Stores of the fleet.
const STORES: usize = 20;
/// Longest time for all of them to restart one after the other.
const ROUND_TIME_MAX: Duration = Duration::from_secs(900);

async fn install(s: &Scenario, tag: &str) -> Result<()> {
    let values = ["maxConcurrentRestarts=1".to_owned(), format!("serverImage.tag={tag}")];
    by_chart_with(&s.cluster, &s.client, &values).await
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn image(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.containers.first()?.image.as_deref()).unwrap_or_default()
}

/// The pods that serve, by name, and what they are.
async fn serving(s: &Scenario) -> Result<BTreeMap<String, Pod>> {
    let pods = s.api::<Pod>().list(&ListParams::default()).await?.items;
    Ok(pods.into_iter().filter(is_ready).map(|pod| (pod.name_any(), pod)).collect())
}

#[tokio::test]
#[ignore = "takes ten minutes: make e2e-full"]
async fn one_store_restarts_at_a_time_and_a_bad_image_stops_at_the_first() -> Result<()> {
    run("fleet", Reach::WholeCluster, async |s| {
        let outcome = fleet(s).await;
        by_chart_with(&s.cluster, &s.client, &[]).await?;
        outcome
    })
    .await
}

async fn fleet(s: &Scenario) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    install(s, version).await?;
    let names: Vec<String> = (0..STORES).map(|number| format!("store-{number:02}")).collect();
    for name in &names {
        s.apply_store(name, "{updateStrategy: {readyTimeoutSeconds: 60}}").await?;
    }
    until("all Stores to serve", LONG, async || {
        let count = serving(s).await?.len();
        ensure!(count == STORES, "{count} serve");
        Ok(())
    })
    .await?;
    for name in &names {
        s.ready(name).await?;
    }

    // The same server under another name is another image to everybody.
    let next = format!("{version}-next");
    install(s, &next).await?;
    let begun = Instant::now();
    loop {
        let serving = serving(s).await?;
        ensure!(serving.len() + 1 >= STORES, "only {:?} serve", serving.keys());
        if serving.len() == STORES && serving.values().all(|pod| image(pod).ends_with(&next)) {
            break;
        }
        ensure!(begun.elapsed() < ROUND_TIME_MAX, "not all have the new image in time");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("{STORES} Stores restarted one after the other in {} s", begun.elapsed().as_secs());
    for name in &names {
        s.ready(name).await?;
    }

    let before = serving(s).await?;
    install(s, "no-such-version").await?;
    let first = until("one Store to be taken back", LONG, async || {
        let stores = s.api::<Store>().list(&ListParams::default()).await?.items;
        let taken_back = stores.iter().find(|store| {
            let conditions =
                store.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            conditions::find(conditions, kind::STALLED).is_some_and(|stalled| {
                stalled.status == "True" && stalled.reason == reason::UPDATE_ROLLED_BACK
            })
        });
        Ok(taken_back.context("none is")?.name_any())
    })
    .await?;
    until("that Store to serve again", LONG, async || s.pod_ready(&first).await).await?;
    throughout("the others are left alone", Duration::from_secs(30), async || {
        for (name, pod) in serving(s).await? {
            let was = before.get(&name).context("a new pod")?;
            if name != format!("{first}-0") && pod.uid() != was.uid() {
                bail!("pod {name} has restarted as well");
            }
            ensure!(image(&pod) == image(was), "pod {name} has image {:?}", image(&pod));
        }
        Ok(())
    })
    .await
}
