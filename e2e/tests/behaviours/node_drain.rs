//! A drained node: the pod moves, its volume follows, the data is there.

use anyhow::{Result, ensure};
use holdfast_e2e::dataset;
use holdfast_e2e::scenario::{Reach, run};

#[tokio::test]
#[ignore = "takes a minute and a half alone: make e2e-full"]
async fn a_drained_node_gives_its_stores_to_another_with_their_data() -> Result<()> {
    run("node-drain", Reach::WholeCluster, async |s| {
        s.ready_store("orders", "{}").await?;
        let expected = dataset::fill(&mut s.redis("orders").await?, 300).await?;
        let before = s.node("orders").await?;

        let uid = s.pod("orders").await?.metadata.uid;
        let cordon = s.drain_node(&before).await?;
        let outcome = async {
            s.pod_replaced("orders", uid.as_deref()).await?;
            s.ready("orders").await?;
            let after = s.node("orders").await?;
            ensure!(after != before, "the pod is on {after} again");
            dataset::compare(&expected, &dataset::read(&mut s.redis("orders").await?).await?)
        };
        let outcome = outcome.await;
        cordon.lift().await?;
        outcome
    })
    .await
}
