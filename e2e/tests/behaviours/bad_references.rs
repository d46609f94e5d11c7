//! Wrong or missing credentials, bucket, class, image: a condition and an event that name the object, and what runs goes
//! on running.

use anyhow::{Result, ensure};
use holdfast_contract::control::backup_reason;
use holdfast_e2e::scenario::{Reach, Scenario, run};
use holdfast_e2e::stores::{CREDENTIALS, HasConditions as _, LOCATION, describe, expect_condition};
use holdfast_e2e::wait::{STARTS, until};
use holdfast_operator::api::conditions::{find, kind, reason};
use holdfast_operator::api::v1alpha1::BackupLocation;
use holdfast_operator::names;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

const LOCATED: &str = "{backup: {locationRef: {name: offsite}}}";

async fn location_condition(s: &Scenario, status: &str, reason: &str, names: &str) -> Result<()> {
    let api = s.api::<BackupLocation>();
    until(&format!("location Available={status} ({reason})"), STARTS, async || {
        let location = api.get(LOCATION).await?;
        let found = expect_condition(&location, kind::AVAILABLE, status, reason)?;
        ensure!(found.message.contains(names), "the message does not name {names:?}: {}", found.message);
        Ok(())
    })
    .await
}

/// The backup does not succeed, for this reason, and its message names the object.
async fn backup_hindered(s: &Scenario, name: &str, reason: &str, names: &str) -> Result<()> {
    s.begin_backup(name, "orders", "{method: Snapshot}").await?;
    s.backup_when(name, STARTS, reason, |backup| {
        let condition = find(backup.conditions(), kind::SUCCEEDED);
        ensure!(
            condition.is_some_and(|found| found.status != "True"
                && found.reason == reason
                && found.message.contains(names)),
            "{}",
            describe(backup.conditions())
        );
        Ok(())
    })
    .await?;
    s.event("StoreBackup", name, reason).await?;
    Ok(())
}

async fn still_serves(s: &Scenario) -> Result<()> {
    let mut redis = s.redis("orders").await?;
    let kept: String = redis.call("GET kept").await?;
    ensure!(kept == "1", "the value is {kept:?}");
    redis.call::<()>("SET still served").await
}

#[tokio::test]
async fn missing_and_wrong_credentials_are_named() -> Result<()> {
    run("credentials", Reach::OwnNamespace, async |s| {
        s.location().await?;
        s.ready_store("orders", LOCATED).await?;
        s.redis("orders").await?.call::<()>("SET kept 1").await?;
        location_condition(s, "True", reason::PROBE_SUCCEEDED, "").await?;

        let secrets = s.api::<Secret>();
        let wrong = Patch::Merge(json!({"stringData": {"secretAccessKey": "wrong"}}));
        secrets.patch(CREDENTIALS, &PatchParams::default(), &wrong).await?;
        location_condition(s, "False", backup_reason::ACCESS_DENIED, &s.cluster.object_store.bucket).await?;
        s.event("BackupLocation", LOCATION, backup_reason::ACCESS_DENIED).await?;
        still_serves(s).await?;

        secrets.delete(CREDENTIALS, &DeleteParams::default()).await?;
        location_condition(s, "False", reason::CREDENTIALS_MISSING, CREDENTIALS).await?;
        s.event("BackupLocation", LOCATION, reason::CREDENTIALS_MISSING).await?;
        // Neither does a missing Secret keep the pod from starting.
        s.delete_pod("orders", None).await?;
        s.ready("orders").await?;
        backup_hindered(s, "hindered", reason::CREDENTIALS_MISSING, LOCATION).await?;
        still_serves(s).await?;

        s.location().await?;
        location_condition(s, "True", reason::PROBE_SUCCEEDED, "").await
    })
    .await
}

#[tokio::test]
async fn a_missing_bucket_is_named() -> Result<()> {
    run("bucket", Reach::OwnNamespace, async |s| {
        s.location().await?;
        let patch = Patch::Merge(json!({"spec": {"s3": {"bucket": "no-such-bucket"}}}));
        s.api::<BackupLocation>().patch(LOCATION, &PatchParams::default(), &patch).await?;
        location_condition(s, "False", backup_reason::BUCKET_NOT_FOUND, "no-such-bucket").await?;
        s.event("BackupLocation", LOCATION, backup_reason::BUCKET_NOT_FOUND).await?;
        s.ready_store("orders", LOCATED).await?;
        s.redis("orders").await?.call::<()>("SET kept 1").await?;
        backup_hindered(s, "hindered", backup_reason::BUCKET_NOT_FOUND, "no-such-bucket").await?;
        still_serves(s).await
    })
    .await
}

#[tokio::test]
async fn an_object_store_that_is_away_is_named_and_its_return_noticed() -> Result<()> {
    run("object-store-away", Reach::OwnNamespace, async |s| {
        let gate = s.object_store_gate().await?;
        gate.close().await?;
        s.location_at(&gate.endpoint()).await?;
        s.ready_store("orders", LOCATED).await?;
        s.redis("orders").await?.call::<()>("SET kept 1").await?;
        location_condition(s, "False", backup_reason::LOCATION_UNAVAILABLE, "object-store-gate").await?;
        backup_hindered(s, "hindered", backup_reason::LOCATION_UNAVAILABLE, "object-store-gate").await?;
        still_serves(s).await?;
        gate.open().await?;
        location_condition(s, "True", reason::PROBE_SUCCEEDED, "").await?;
        s.backup("again", "orders").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_missing_location_is_named() -> Result<()> {
    run("location", Reach::OwnNamespace, async |s| {
        s.apply_store("orders", LOCATED).await?;
        let message = s.store_condition("orders", kind::STALLED, "True", reason::LOCATION_NOT_FOUND).await?;
        ensure!(message.contains(LOCATION), "{message}");
        s.store_condition("orders", kind::READY, "True", reason::SERVING).await?;
        s.location().await?;
        s.ready("orders").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_missing_storage_class_is_named() -> Result<()> {
    run("class", Reach::OwnNamespace, async |s| {
        let spec = "{storage: {volumeClaimTemplate: {spec: {storageClassName: no-such-class, resources: {requests: {storage: 100Mi}}}}}}";
        s.apply_store("orders", spec).await?;
        let message = s.store_condition("orders", kind::READY, "False", reason::VOLUME_CLAIM_PENDING).await?;
        ensure!(message.contains(&names::claim("orders")) && message.contains("no-such-class"), "{message}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_missing_snapshot_class_is_named() -> Result<()> {
    run("snapshot-class", Reach::OwnNamespace, async |s| {
        s.ready_store("orders", "{}").await?;
        s.redis("orders").await?.call::<()>("SET kept 1").await?;
        s.begin_backup("cut", "orders", "{method: VolumeSnapshot, volumeSnapshotClassName: no-such-class}")
            .await?;
        s.backup_when("cut", STARTS, "it names the class", |backup| {
            let text = describe(backup.conditions());
            ensure!(text.contains("no-such-class"), "{text}");
            Ok(())
        })
        .await?;
        still_serves(s).await
    })
    .await
}

#[tokio::test]
async fn an_update_that_does_not_become_ready_is_taken_back() -> Result<()> {
    run("rolled-back", Reach::OwnNamespace, async |s| {
        s.ready_store("orders", "{updateStrategy: {readyTimeoutSeconds: 20}}").await?;
        s.redis("orders").await?.call::<()>("SET kept 1").await?;
        // An image that cannot be pulled, and a pod that no node takes, with a line of configuration beside it.
        for patch in [
            "{spec: {image: 'localhost/no-such-image:1'}}",
            "{spec: {image: null, config: [hz 20], podTemplate: {nodeSelector: {holdfast.test/node: none}}}}",
        ] {
            s.patch_store("orders", patch).await?;
            let message =
                s.store_condition("orders", kind::STALLED, "True", reason::UPDATE_ROLLED_BACK).await?;
            ensure!(message.contains("no-such-image:1") || message.contains("has no node"), "{message}");
            s.store_condition("orders", kind::READY, "True", reason::SERVING).await?;
            s.event("Store", "orders", reason::UPDATE_ROLLED_BACK).await?;
            still_serves(s).await?;
            let answer: Vec<String> = s.redis("orders").await?.call("CONFIG GET hz").await?;
            ensure!(answer == ["hz", "10"], "the server answers {answer:?}");
        }
        s.patch_store("orders", "{spec: {podTemplate: null}}").await?;
        s.ready("orders").await?;
        let answer: Vec<String> = s.redis("orders").await?.call("CONFIG GET hz").await?;
        ensure!(answer == ["hz", "20"], "the server answers {answer:?}");
        still_serves(s).await
    })
    .await
}

#[tokio::test]
async fn a_pod_that_would_be_refused_takes_no_pod_down() -> Result<()> {
    run("refused-pod", Reach::OwnNamespace, async |s| {
        s.ready_store("orders", "{}").await?;
        s.redis("orders").await?.call::<()>("SET kept 1").await?;
        let pod = s.pod("orders").await?.metadata.uid;
        s.patch_store("orders", "{spec: {podTemplate: {priorityClassName: no-such-class}}}").await?;
        let message = s.store_condition("orders", kind::STALLED, "True", reason::POD_REFUSED).await?;
        ensure!(message.contains("no-such-class"), "{message}");
        s.event("Store", "orders", reason::POD_REFUSED).await?;
        s.patch_store("orders", "{spec: {podTemplate: null}}").await?;
        s.ready("orders").await?;
        ensure!(s.pod("orders").await?.metadata.uid == pod, "the pod was replaced");
        still_serves(s).await
    })
    .await
}

#[tokio::test]
async fn a_missing_image_is_named_and_the_data_stays() -> Result<()> {
    run("image", Reach::OwnNamespace, async |s| {
        s.ready_store("orders", "{}").await?;
        s.redis("orders").await?.call::<()>("SET kept 1").await?;
        let claim = s.claim("orders").await?.metadata.uid;
        s.patch_store("orders", "{spec: {image: 'localhost/no-such-image:1'}}").await?;
        let message = s.store_condition("orders", kind::READY, "False", reason::IMAGE_UNAVAILABLE).await?;
        ensure!(message.contains("localhost/no-such-image:1"), "{message}");
        s.patch_store("orders", "{spec: {image: null}}").await?;
        s.ready("orders").await?;
        ensure!(
            s.api::<PersistentVolumeClaim>().get(&names::claim("orders")).await?.metadata.uid == claim,
            "another claim"
        );
        still_serves(s).await
    })
    .await
}
