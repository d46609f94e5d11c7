//! A backup in a bucket, and a new Store from it.

use anyhow::{Context as _, Result, ensure};
use holdfast_e2e::dataset;
use holdfast_e2e::scenario::{Reach, run};
use holdfast_e2e::stores::{LOCATION, expect_condition};
use holdfast_e2e::wait::{SOON, STARTS, until};
use holdfast_operator::api::conditions::{kind, reason};
use holdfast_operator::api::v1alpha1::{BackupLocation, StoreBackup};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

const LOCATED: &str = "{backup: {locationRef: {name: offsite}}}";

/// The bucket is named by the host name of a Service: that a backup succeeds proves that the server resolves and reaches it
/// from an image without anything but the program.
#[tokio::test]
async fn a_new_store_starts_from_a_backup_in_a_bucket() -> Result<()> {
    run("backup", Reach::OwnNamespace, async |s| {
        s.location().await?;
        let source = s.ready_store("orders", LOCATED).await?;
        let expected = dataset::fill(&mut s.redis("orders").await?, 500).await?;
        let backup = s.backup("nightly", "orders").await?.status.context("no status")?;
        let keys = u64::try_from(expected.len())?;
        ensure!(backup.keys == Some(keys), "the backup holds {:?} keys of {keys}", backup.keys);
        s.store_when("orders", "it shows its backup", |store| {
            let summary = store.status.as_ref().and_then(|status| status.backup.as_ref());
            ensure!(
                summary.is_some_and(|backup| backup.last_successful_backup.as_deref() == Some("nightly")),
                "{summary:?}"
            );
            Ok(())
        })
        .await?;
        s.store_condition("orders", kind::LAST_BACKUP_SUCCEEDED, "True", reason::BACKUP_SUCCEEDED).await?;
        s.redis("orders").await?.call::<()>("SET after backup").await?;

        let copy = s.ready_store("copy", "{bootstrap: {restore: {backupRef: {name: nightly}}}}").await?;
        dataset::compare(&expected, &dataset::read(&mut s.redis("copy").await?).await?)?;
        let id =
            |store: holdfast_operator::api::v1alpha1::Store| store.status.and_then(|status| status.store_id);
        ensure!(id(copy) != id(source), "two Stores have one id");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn deleting_a_backup_leaves_its_data_in_the_bucket() -> Result<()> {
    run("backup-deleted", Reach::OwnNamespace, async |s| {
        s.location().await?;
        s.ready_store(
            "orders",
            "{backup: {locationRef: {name: offsite}}, recovery: {onVolumeLoss: RestoreLatestBackup}}",
        )
        .await?;
        let expected = dataset::fill(&mut s.redis("orders").await?, 50).await?;
        s.backup("nightly", "orders").await?;
        s.api::<StoreBackup>().delete("nightly", &DeleteParams::default()).await?;
        until("the StoreBackup to go", SOON, async || {
            ensure!(s.api::<StoreBackup>().get_opt("nightly").await?.is_none(), "it is still there");
            Ok(())
        })
        .await?;
        s.destroy_volume("orders").await?;
        s.drain_own_pods("orders").await?.lift().await?;
        s.ready("orders").await?;
        dataset::compare(&expected, &dataset::read(&mut s.redis("orders").await?).await?)
    })
    .await
}

#[tokio::test]
async fn a_backup_whose_location_names_another_place_is_not_ready_to_use() -> Result<()> {
    run("location-changed", Reach::OwnNamespace, async |s| {
        s.location().await?;
        s.ready_store("orders", LOCATED).await?;
        let expected = dataset::fill(&mut s.redis("orders").await?, 50).await?;
        s.backup("nightly", "orders").await?;

        let locations = s.api::<BackupLocation>();
        let elsewhere = Patch::Merge(json!({"spec": {"prefix": "elsewhere"}}));
        locations.patch(LOCATION, &PatchParams::default(), &elsewhere).await?;
        let told = s
            .backup_when("nightly", STARTS, "it says that its place has changed", |backup| {
                expect_condition(backup, kind::READY_TO_USE, "False", reason::LOCATION_CHANGED).map(drop)
            })
            .await?;
        let condition = expect_condition(&told, kind::READY_TO_USE, "False", reason::LOCATION_CHANGED)?;
        ensure!(
            condition.message.contains(&s.namespace),
            "it does not say where the backup lies: {condition:?}"
        );
        s.apply_store("copy", "{bootstrap: {restore: {backupRef: {name: nightly}}}}").await?;
        let message =
            s.store_condition("copy", kind::STALLED, "True", reason::BOOTSTRAP_SOURCE_INVALID).await?;
        ensure!(message.contains("nightly") && message.contains("set it back"), "{message}");

        s.location().await?;
        s.backup_when("nightly", STARTS, "it can be used again", |backup| {
            expect_condition(backup, kind::READY_TO_USE, "True", reason::COMPLETED).map(drop)
        })
        .await?;
        s.ready("copy").await?;
        dataset::compare(&expected, &dataset::read(&mut s.redis("copy").await?).await?)
    })
    .await
}
