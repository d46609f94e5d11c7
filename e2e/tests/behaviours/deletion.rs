//! What is left of a deleted Store, and the way back to it.

use anyhow::{Context as _, Result, ensure};
use holdfast_e2e::dataset;
use holdfast_e2e::scenario::{Reach, Scenario, run};
use holdfast_e2e::wait::{STARTS, until};
use holdfast_operator::api::conditions::{kind, reason};
use holdfast_operator::api::v1alpha1::Store;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;

async fn delete_store(s: &Scenario, name: &str) -> Result<()> {
    s.api::<Store>().delete(name, &DeleteParams::default()).await?;
    until(&format!("Store {name:?} and its pod to go"), STARTS, async || {
        ensure!(s.api::<Store>().get_opt(name).await?.is_none(), "the Store is still there");
        ensure!(
            s.api::<Pod>().list(&kube::api::ListParams::default()).await?.items.is_empty(),
            "the pod is still there"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_retained_volume_is_taken_up_again_only_when_asked_for() -> Result<()> {
    run("adopt", Reach::OwnNamespace, async |s| {
        s.location().await?;
        let located = "{backup: {locationRef: {name: offsite}}}";
        let store = s.ready_store("orders", located).await?;
        let id = store.status.and_then(|status| status.store_id).context("no id")?;
        let expected = dataset::fill(&mut s.redis("orders").await?, 200).await?;
        s.backup("before", "orders").await?;
        delete_store(s, "orders").await?;
        s.claim("orders").await.context("the claim is gone")?;

        s.apply_store("orders", located).await?;
        let message =
            s.store_condition("orders", kind::STALLED, "True", reason::RETAINED_VOLUME_FOUND).await?;
        ensure!(message.contains(&id), "the message does not name the id to adopt: {message}");
        s.patch_store("orders", &format!("{{spec: {{bootstrap: {{adopt: {{storeID: {id}}}}}}}}}")).await?;
        let store = s.ready("orders").await?;
        ensure!(store.status.and_then(|status| status.store_id) == Some(id), "the id has changed");
        dataset::compare(&expected, &dataset::read(&mut s.redis("orders").await?).await?)?;
        // Its part of the bucket too, although the object is another.
        s.backup("after", "orders").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn volumes_are_deleted_with_the_store_only_under_that_policy() -> Result<()> {
    run("delete-volumes", Reach::OwnNamespace, async |s| {
        s.ready_store("orders", "{deletionPolicy: DeleteVolumes}").await?;
        delete_store(s, "orders").await?;
        until("the claim to go", STARTS, async || {
            ensure!(s.claim("orders").await.is_err(), "it is still there");
            Ok(())
        })
        .await?;
        s.ready_store("orders", "{}").await?;
        let size: u64 = s.redis("orders").await?.call("DBSIZE").await?;
        ensure!(size == 0, "{size} keys outlived their volume");
        Ok(())
    })
    .await
}
