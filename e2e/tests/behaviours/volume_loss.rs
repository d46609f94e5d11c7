//! A lost volume: restored from the newest backup where the Store asks for it, halted where it does not, never empty.

use anyhow::{Context as _, Result, ensure};
use holdfast_contract::record::reason as held;
use holdfast_e2e::scenario::{Reach, Scenario, run};
use holdfast_e2e::stores::describe;
use holdfast_e2e::wait::throughout;
use holdfast_e2e::{dataset, wait};
use holdfast_operator::api::conditions::{kind, reason};
use std::time::Duration;

const RESTORING: &str =
    "{backup: {locationRef: {name: offsite}}, recovery: {onVolumeLoss: RestoreLatestBackup}}";

/// Destroys the volume and takes its node out of service, as when both are lost at once.
async fn lose_volume_and_node(s: &Scenario, store: &str) -> Result<()> {
    s.destroy_volume(store).await?;
    s.drain_own_pods(store).await?.lift().await
}

/// Waits until the pod runs and is held: alive, not ready, restarted by nobody.
async fn held_alive(s: &Scenario, store: &str) -> Result<()> {
    let held = async || {
        let pod = s.pod(store).await?;
        let status = pod.status.context("the pod has no status")?;
        let server = status
            .container_statuses
            .unwrap_or_default()
            .into_iter()
            .find(|container| container.name == "server");
        let server = server.context("the server's container has not started")?;
        ensure!(
            server.state.as_ref().is_some_and(|state| state.running.is_some()),
            "the server does not run: {server:?}"
        );
        ensure!(!server.ready, "a held server calls itself ready");
        ensure!(server.restart_count == 0, "the server was restarted {} times", server.restart_count);
        Ok(())
    };
    wait::until("a held pod", wait::STARTS, held).await?;
    // Three periods of the liveness probe would fit.
    throughout("a held server stays alive", Duration::from_secs(15), held).await
}

#[tokio::test]
async fn a_lost_volume_is_restored_on_another_node() -> Result<()> {
    run("volume-lost", Reach::OwnNamespace, async |s| {
        s.location().await?;
        let store = s.ready_store("orders", RESTORING).await?;
        let expected = dataset::fill(&mut s.redis("orders").await?, 500).await?;
        let backup = s.backup("before", "orders").await?.status.context("no status")?;
        let node = s.node("orders").await?;

        s.destroy_volume("orders").await?;
        let cordon = s.drain_own_pods("orders").await?;
        let restored = s.store_when("orders", "the restore is recorded", |store| {
            let status = store.status.as_ref().context("no status")?;
            ensure!(status.last_restore.is_some(), "{}", describe(&status.conditions));
            Ok(())
        });
        let restored = restored.await;
        let ready = s.ready("orders").await;
        let moved = s.node("orders").await;
        cordon.lift().await?;
        let (restored, _, moved) = (restored?, ready?, moved?);

        ensure!(moved != node, "the pod is on {moved} again");
        let status = restored.status.context("no status")?;
        let restore = status.last_restore.context("no restore")?;
        ensure!(
            Some(&restore.backup_path) == backup.path.as_ref(),
            "another backup was restored: {restore:?}"
        );
        ensure!(status.epoch == Some(2), "the epoch is {:?}", status.epoch);
        ensure!(status.store_id == store.status.and_then(|status| status.store_id), "the id has changed");
        dataset::compare(&expected, &dataset::read(&mut s.redis("orders").await?).await?)?;

        // A backup of the restored data has the same count and digest.
        let again = s.backup("after", "orders").await?.status.context("no status")?;
        ensure!(
            again.keys == backup.keys && again.digest == backup.digest,
            "before: {:?} {:?}, after: {:?} {:?}",
            backup.keys,
            backup.digest,
            again.keys,
            again.digest
        );
        s.event("Store", "orders", "RestorePlanned").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_lost_volume_halts_by_default_and_is_never_served_empty() -> Result<()> {
    run("halt", Reach::OwnNamespace, async |s| {
        s.location().await?;
        s.ready_store("orders", "{backup: {locationRef: {name: offsite}}}").await?;
        let expected = dataset::fill(&mut s.redis("orders").await?, 100).await?;
        s.backup("nightly", "orders").await?;
        lose_volume_and_node(s, "orders").await?;

        let message = s.store_condition("orders", kind::STALLED, "True", held::VOLUME_LOST).await?;
        ensure!(message.contains("RestoreLatestBackup"), "the message names no way out: {message}");
        s.store_condition("orders", kind::READY, "False", held::VOLUME_LOST).await?;
        s.event("Store", "orders", held::VOLUME_LOST).await?;
        held_alive(s, "orders").await?;

        // A person decides: the same Store goes on from its backup.
        s.patch_store("orders", "{spec: {recovery: {onVolumeLoss: RestoreLatestBackup}}}").await?;
        s.ready("orders").await?;
        dataset::compare(&expected, &dataset::read(&mut s.redis("orders").await?).await?)
    })
    .await
}

#[tokio::test]
async fn a_lost_volume_without_any_backup_halts_and_says_so() -> Result<()> {
    run("no-backup", Reach::OwnNamespace, async |s| {
        s.location().await?;
        s.ready_store("orders", RESTORING).await?;
        s.redis("orders").await?.call::<()>("SET a 1").await?;
        lose_volume_and_node(s, "orders").await?;
        s.store_condition("orders", kind::STALLED, "True", reason::NO_BACKUP_TO_RESTORE).await?;
        s.store_condition("orders", kind::READY, "False", held::VOLUME_LOST).await?;
        held_alive(s, "orders").await
    })
    .await
}
