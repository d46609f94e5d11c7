//! Each strategy survives the deletion of its pod with what it promises.

use anyhow::{Result, ensure};
use holdfast_e2e::scenario::{Reach, Scenario, run};
use holdfast_e2e::{dataset, load};
use holdfast_operator::api::conditions::{kind, reason};

/// Under a strategy with a log, every acknowledged write survives, whether the pod is asked to stop or killed.
async fn acknowledged_writes_survive(s: &Scenario, strategy: &str) -> Result<()> {
    s.ready_store("orders", &format!("{{persistence: {{strategy: {strategy}}}}}")).await?;
    let expected = dataset::fill(&mut s.redis("orders").await?, 200).await?;

    let mut acknowledged = 0;
    for grace_seconds in [None, Some(0)] {
        let writes = load::Load::start(s.redis("orders").await?, acknowledged);
        writes.advance(200).await?;
        s.delete_pod("orders", grace_seconds).await?;
        acknowledged = writes.stop().await?;
        s.ready("orders").await?;
        let found = load::count(&mut s.redis("orders").await?).await?;
        // One more may have been written whose answer never came.
        ensure!(
            found == acknowledged || found == acknowledged + 1,
            "{acknowledged} writes were acknowledged, {found} are there (grace {grace_seconds:?})"
        );
        acknowledged = found;
    }
    let mut redis = s.redis("orders").await?;
    for index in 0..acknowledged {
        redis.call::<()>(&format!("DEL load:{index:010}")).await?;
    }
    dataset::compare(&expected, &dataset::read(&mut redis).await?)
}

#[tokio::test]
async fn under_always_every_acknowledged_write_survives_pod_deletion() -> Result<()> {
    run("always", Reach::OwnNamespace, async |s| acknowledged_writes_survive(s, "Always").await).await
}

#[tokio::test]
async fn under_every_second_no_acknowledged_write_is_lost_with_the_process() -> Result<()> {
    run("every-second", Reach::OwnNamespace, async |s| acknowledged_writes_survive(s, "EverySecond").await)
        .await
}

#[tokio::test]
async fn under_no_sync_no_acknowledged_write_is_lost_with_the_process() -> Result<()> {
    run("no-sync", Reach::OwnNamespace, async |s| acknowledged_writes_survive(s, "NoSync").await).await
}

#[tokio::test]
async fn under_never_a_clean_stop_keeps_everything_and_a_kill_the_last_snapshot() -> Result<()> {
    run("never", Reach::OwnNamespace, async |s| {
        s.ready_store("orders", "{persistence: {strategy: Never}}").await?;
        let mut redis = s.redis("orders").await?;
        let expected = dataset::fill(&mut redis, 200).await?;
        s.delete_pod("orders", None).await?;
        s.ready("orders").await?;
        let mut redis = s.redis("orders").await?;
        dataset::compare(&expected, &dataset::read(&mut redis).await?)?;

        redis.call::<()>("SAVE").await?;
        redis.call::<()>("SET written:after snapshot").await?;
        s.delete_pod("orders", Some(0)).await?;
        s.ready("orders").await?;
        let found = dataset::read(&mut s.redis("orders").await?).await?;
        // The kill may have left time for a clean stop; older than the snapshot it must not be.
        let mut redis = s.redis("orders").await?;
        redis.call::<()>("DEL written:after").await?;
        ensure!(
            found.len() <= expected.len() + 1,
            "{} keys are there, {} were written",
            found.len(),
            expected.len()
        );
        dataset::compare(&expected, &dataset::read(&mut redis).await?)
    })
    .await
}

#[tokio::test]
async fn disabled_is_a_cache_that_comes_back_empty_and_says_so() -> Result<()> {
    run("disabled", Reach::OwnNamespace, async |s| {
        let spec = "{storage: null, persistence: {strategy: Disabled}}";
        s.ready_store("cache", spec).await?;
        s.store_condition("cache", kind::PERSISTENCE_HEALTHY, "True", reason::PERSISTENCE_DISABLED).await?;
        ensure!(s.claim("cache").await.is_err(), "a pure cache has a claim");
        s.redis("cache").await?.call::<()>("SET gone soon").await?;
        s.delete_pod("cache", None).await?;
        s.ready("cache").await?;
        let size: u64 = s.redis("cache").await?.call("DBSIZE").await?;
        ensure!(size == 0, "{size} keys outlived a pure cache");
        Ok(())
    })
    .await
}
