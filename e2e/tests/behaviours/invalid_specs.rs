//! Invalid manifests are refused with a sentence that helps; what only the operator can see becomes a condition.

use anyhow::{Context as _, Result, ensure};
use holdfast_e2e::scenario::{Reach, Scenario, run};
use holdfast_operator::api::conditions::{kind, reason};
use holdfast_operator::api::v1alpha1::Store;

/// Specs that admission refuses, and a part of the sentence.
const REFUSED: [(&str, &str); 15] = [
    ("{storage: null}", "spec.storage is required"),
    ("{persistence: {strategy: Disabled}}", "spec.storage has no effect with persistence.strategy Disabled"),
    (
        "{persistence: {strategy: Sometimes}}",
        "supported values: \"Always\", \"EverySecond\", \"NoSync\", \"Never\", \"Disabled\"",
    ),
    (
        "{persistence: {strategy: Never, log: {rotation: {growthPercentage: 50}}}}",
        "persistence.log has no effect without a log",
    ),
    ("{persistence: {strategy: Never, shutdown: {snapshot: Never}}}", "would keep nothing"),
    (
        "{persistence: {snapshot: {rules: [{periodSeconds: 0, minChanges: 1}]}}}",
        "should be greater than or equal to 1",
    ),
    ("{recovery: {onVolumeLoss: RestoreLatestBackup}}", "needs spec.backup.locationRef"),
    ("{config: [appendonly yes]}", "spec.persistence for persist-strategy"),
    ("{config: ['  SAVE \"\"']}", "sets a directive that the operator manages"),
    ("{config: [\"hz 10\\nrequirepass x\"]}", "should match"),
    ("{bootstrap: {}}", "spec.bootstrap names exactly one source"),
    (
        "{bootstrap: {restore: {backupRef: {name: a}, volumeSnapshotRef: {name: b}}}}",
        "exactly one of backupRef and volumeSnapshotRef",
    ),
    ("{bootstrap: {adopt: {storeID: mine}}}", "storeID"),
    ("{podTemplate: {metadata: {labels: {app.kubernetes.io/name: mine}}}}", "are the operator's"),
    ("{memory: {maxMemory: lots}}", "maxMemory"),
];

#[track_caller]
fn explains(outcome: Result<()>, sentence: &str, what: &str) -> Result<()> {
    let Err(error) = outcome else { anyhow::bail!("{what} was accepted") };
    let text = format!("{error:#}");
    ensure!(text.contains(sentence), "{what} was refused, but not with {sentence:?}: {text}");
    Ok(())
}

#[tokio::test]
async fn invalid_stores_are_refused_with_a_sentence() -> Result<()> {
    run("refused", Reach::OwnNamespace, async |s| {
        for (spec, sentence) in REFUSED {
            explains(s.apply_store("orders", spec).await, sentence, spec)?;
        }
        let long = "a-name-with-more-than-the-forty-characters-allowed";
        explains(s.apply_store(long, "{}").await, "at most 40 characters", "a long name")?;
        let mut unknown = s.store_manifest("orders", "{}")?;
        unknown["spec"]["persistance"] = "typo".into();
        explains(s.apply_value(unknown).await, "persistance", "an unknown field")?;
        ensure!(s.api::<Store>().get_opt("orders").await?.is_none(), "something was applied");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn invalid_backups_are_refused_with_a_sentence() -> Result<()> {
    run("refused-backups", Reach::OwnNamespace, async |s| {
        explains(
            s.begin_backup("b", "orders", "{method: VolumeSnapshot}").await,
            "needs spec.volumeSnapshotClassName; list the classes with: kubectl get volumesnapshotclass",
            "a volume snapshot without class",
        )?;
        explains(
            s.begin_backup("b", "orders", "{method: Snapshot, volumeSnapshotClassName: fast}").await,
            "has no effect with method Snapshot",
            "a bucket backup with a class",
        )?;
        s.begin_backup("b", "orders", "{method: Snapshot}").await?;
        explains(
            s.begin_backup("b", "orders", "{method: Snapshot, deadlineSeconds: 60}").await,
            "create another StoreBackup",
            "a changed backup",
        )
    })
    .await
}

#[tokio::test]
async fn changes_that_cannot_be_obeyed_are_refused() -> Result<()> {
    run("refused-changes", Reach::OwnNamespace, async |s| {
        s.ready_store("orders", "{}").await?;
        let larger =
            "{spec: {storage: {volumeClaimTemplate: {spec: {resources: {requests: {storage: 1Gi}}}}}}}";
        let refused = [
            (larger, "spec.storage cannot change in this version"),
            (
                "{spec: {storage: null, persistence: {strategy: Disabled}}}",
                "cannot change from or to Disabled",
            ),
            (
                "{spec: {bootstrap: {restore: {backupRef: {name: nightly}}}}}",
                "spec.bootstrap cannot change once the Store holds data",
            ),
        ];
        for (patch, sentence) in refused {
            explains(s.patch_store("orders", patch).await, sentence, patch)?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_only_the_operator_sees_becomes_a_condition_and_stops_nothing() -> Result<()> {
    run("stalled", Reach::OwnNamespace, async |s| {
        s.ready_store("orders", "{}").await?;
        s.patch_store("orders", "{spec: {memory: {maxMemory: 2Gi}, resources: {limits: {memory: 1Gi}}}}")
            .await?;
        let message = s.store_condition("orders", kind::STALLED, "True", reason::INVALID_SPEC).await?;
        ensure!(
            message.contains("spec.memory.maxMemory") && message.contains("lower it or raise the limit"),
            "{message}"
        );
        still_serves(s).await?;
        s.patch_store("orders", "{spec: {memory: {maxMemory: 64Mi}}}").await?;
        s.ready("orders").await?;
        Ok(())
    })
    .await
}

async fn still_serves(s: &Scenario) -> Result<()> {
    s.redis("orders").await?.call::<()>("SET still served").await.context("the Store has stopped serving")
}
