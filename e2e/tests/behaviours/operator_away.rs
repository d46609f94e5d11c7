//! While the operator is away, Stores live on.

use anyhow::{Result, ensure};
use holdfast_e2e::scenario::{Reach, Scenario, run};
use holdfast_e2e::wait::{STARTS, until};
use holdfast_e2e::{dataset, install};
use holdfast_operator::names;

/// Waits until the Store's pod is ready by the kubelet's word: nobody else watches.
async fn pod_ready(s: &Scenario, store: &str) -> Result<()> {
    until(&format!("pod of Store {store:?} to be ready"), STARTS, async || s.pod_ready(store).await).await
}

#[tokio::test]
async fn a_store_comes_back_by_itself_while_the_operator_is_away() -> Result<()> {
    run("operator-away", Reach::WholeCluster, async |s| {
        s.ready_store("orders", "{}").await?;
        let expected = dataset::fill(&mut s.redis("orders").await?, 200).await?;
        s.scale_operator(0).await?;
        let outcome = async {
            s.delete_pod("orders", None).await?;
            pod_ready(s, "orders").await?;
            dataset::compare(&expected, &dataset::read(&mut s.redis("orders").await?).await?)?;

            let node = s.node("orders").await?;
            let cordon = s.drain_own_pods("orders").await?;
            let ready = pod_ready(s, "orders").await;
            let now = s.node("orders").await;
            cordon.lift().await?;
            ready?;
            ensure!(now? != node, "pod {} is on {node} again", names::pod("orders"));
            let mut redis = s.redis("orders").await?;
            dataset::compare(&expected, &dataset::read(&mut redis).await?)?;
            redis.call::<()>("SET written:alone 1").await
        };
        let outcome = outcome.await;
        s.scale_operator(1).await?;
        install::ready(&s.client).await?;
        outcome?;
        s.ready("orders").await?;
        Ok(())
    })
    .await
}
