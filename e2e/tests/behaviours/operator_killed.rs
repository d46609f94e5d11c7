//! The operator is killed in the middle of its work; its successor finishes it. Where two run, the other takes over.

use anyhow::{Context as _, Result, ensure};
use holdfast_e2e::faults::SUCCESSION;
use holdfast_e2e::scenario::{Reach, run};
use holdfast_e2e::stores::describe;
use holdfast_e2e::wait::{SOON, until};
use holdfast_e2e::{dataset, install};

#[tokio::test]
async fn a_backup_survives_the_death_of_the_operator() -> Result<()> {
    run("killed-in-backup", Reach::WholeCluster, async |s| {
        s.location().await?;
        s.ready_store("orders", "{backup: {locationRef: {name: offsite}}}").await?;
        let expected = dataset::fill(&mut s.redis("orders").await?, 2000).await?;
        s.begin_backup("nightly", "orders", "{method: Snapshot}").await?;
        s.backup_when("nightly", SOON, "it has begun", |backup| {
            ensure!(backup.status.as_ref().is_some_and(|status| status.start_time.is_some()), "not yet");
            Ok(())
        })
        .await?;
        s.kill_operator().await?;
        let backup = s.succeeded("nightly").await?.status.context("no status")?;
        ensure!(backup.keys == Some(u64::try_from(expected.len())?), "{:?} keys", backup.keys);
        install::ready(&s.client).await?;
        s.ready_store("copy", "{bootstrap: {restore: {backupRef: {name: nightly}}}}").await?;
        dataset::compare(&expected, &dataset::read(&mut s.redis("copy").await?).await?)
    })
    .await
}

#[tokio::test]
async fn a_volume_snapshot_survives_the_death_of_the_operator() -> Result<()> {
    run("killed-in-snapshot", Reach::WholeCluster, async |s| {
        s.ready_store("orders", "{}").await?;
        let expected = dataset::fill(&mut s.redis("orders").await?, 300).await?;
        s.begin_volume_snapshot("cut", "orders").await?;
        s.backup_when("cut", SOON, "its barrier is held", |backup| {
            ensure!(backup.status.as_ref().is_some_and(|status| status.barrier.is_some()), "not yet");
            Ok(())
        })
        .await?;
        s.kill_operator().await?;
        let backup = s.succeeded("cut").await?.status.context("no status")?;
        install::ready(&s.client).await?;
        let snapshot = &backup.volume_snapshots.first().context("no VolumeSnapshot")?.name;
        let spec = format!("{{bootstrap: {{restore: {{volumeSnapshotRef: {{name: {snapshot}}}}}}}}}");
        s.ready_store("copy", &spec).await?;
        dataset::compare(&expected, &dataset::read(&mut s.redis("copy").await?).await?)?;
        // No barrier is left behind: the source rotates its log.
        let mut redis = s.redis("orders").await?;
        redis.call::<redis::Value>("BGREWRITEAOF").await?;
        s.store_when("orders", "it rotates", |store| {
            let rotation =
                store.status.as_ref().and_then(|status| status.persistence.as_ref()?.last_rotation.as_ref());
            rotation.map(drop).context("no rotation in the status")
        })
        .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_restore_survives_the_death_of_the_operator() -> Result<()> {
    run("killed-in-restore", Reach::WholeCluster, async |s| {
        s.location().await?;
        let spec = "{backup: {locationRef: {name: offsite}}, recovery: {onVolumeLoss: RestoreLatestBackup}}";
        s.ready_store("orders", spec).await?;
        let expected = dataset::fill(&mut s.redis("orders").await?, 1000).await?;
        s.backup("nightly", "orders").await?;
        s.destroy_volume("orders").await?;
        s.drain_own_pods("orders").await?.lift().await?;
        s.store_when("orders", "a restore is planned", |store| {
            let status = store.status.as_ref().context("no status")?;
            ensure!(
                status.restore.is_some() || status.last_restore.is_some(),
                "{}",
                describe(&status.conditions)
            );
            Ok(())
        })
        .await?;
        s.kill_operator().await?;
        let store = s
            .store_when("orders", "the restore has ended", |store| {
                let status = store.status.as_ref().context("no status")?;
                ensure!(
                    status.last_restore.is_some() && status.restore.is_none(),
                    "{}",
                    describe(&status.conditions)
                );
                Ok(())
            })
            .await?;
        install::ready(&s.client).await?;
        ensure!(store.status.and_then(|status| status.epoch) == Some(2), "it was restored more than once");
        s.ready("orders").await?;
        dataset::compare(&expected, &dataset::read(&mut s.redis("orders").await?).await?)
    })
    .await
}

#[tokio::test]
#[ignore = "takes a minute and a half alone: make e2e-full"]
async fn of_two_operators_the_other_takes_over() -> Result<()> {
    run("leader-lost", Reach::WholeCluster, async |s| {
        s.ready_store("orders", "{}").await?;
        let pod = s.pod("orders").await?.metadata.uid;
        s.scale_operator(2).await?;
        install::ready(&s.client).await?;
        let outcome = async {
            let leader = s.leading_operator().await?;
            s.kill_operator_pod(&leader).await?;
            // A change that needs the leader.
            s.patch_store("orders", "{spec: {config: [hz 20]}}").await?;
            let successor = until("another operator to lead", SUCCESSION, async || {
                let now = s.leading_operator().await?;
                ensure!(now != leader, "{now} still leads");
                Ok(now)
            })
            .await?;
            s.ready("orders").await?;
            let answer: Vec<String> = s.redis("orders").await?.call("CONFIG GET hz").await?;
            ensure!(answer == ["hz", "20"], "the server answers {answer:?}");
            install::ready(&s.client).await?;
            ensure!(s.leading_operator().await? == successor, "they take the lease from each other");
            ensure!(s.pod("orders").await?.metadata.uid != pod, "the change took no effect");
            Ok(())
        };
        let outcome = outcome.await;
        s.scale_operator(1).await?;
        install::ready(&s.client).await?;
        outcome
    })
    .await
}
