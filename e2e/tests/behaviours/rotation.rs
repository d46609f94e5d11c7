//! A rotation of the log is visible in the Store's status, whether asked for or due by growth.

use anyhow::{Context as _, Result, ensure};
use holdfast_e2e::dataset;
use holdfast_e2e::scenario::{Reach, Scenario, run};
use holdfast_operator::api::v1alpha1::{JobStatus, Store};

fn last_rotation(store: &Store) -> Option<JobStatus> {
    store.status.as_ref()?.persistence.as_ref()?.last_rotation.clone()
}

async fn rotated(s: &Scenario, store: &str, before: Option<&JobStatus>) -> Result<JobStatus> {
    let store = s
        .store_when(store, "a rotation is in its status", |store| {
            let rotation = last_rotation(store);
            ensure!(rotation.is_some() && rotation.as_ref() != before, "the last one: {rotation:?}");
            Ok(())
        })
        .await?;
    last_rotation(&store).context("no rotation")
}

#[tokio::test]
async fn a_rotation_by_command_or_size_is_visible_in_status() -> Result<()> {
    run("rotation", Reach::OwnNamespace, async |s| {
        let spec = "{persistence: {log: {rotation: {growthPercentage: 0, maxSize: 4Mi}}}}";
        s.ready_store("orders", spec).await?;
        let mut redis = s.redis("orders").await?;
        redis.call::<()>("SET a 1").await?;
        redis.call::<redis::Value>("BGREWRITEAOF").await?;
        let by_command = rotated(s, "orders", None).await?;

        // Three times a megabyte for each of three databases, and more: beyond the size of the policy.
        let mut expected = dataset::fill(&mut redis, 100).await?;
        for _ in 0..2 {
            expected = dataset::fill(&mut redis, 100).await?;
        }
        let by_size = rotated(s, "orders", Some(&by_command)).await?;
        ensure!(by_size.bytes > by_command.bytes, "{by_command:?}, then {by_size:?}");

        s.delete_pod("orders", Some(0)).await?;
        s.ready("orders").await?;
        dataset::compare(&expected, &dataset::read(&mut s.redis("orders").await?).await?)
    })
    .await
}
