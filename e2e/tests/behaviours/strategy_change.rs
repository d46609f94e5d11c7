//! A change of strategy takes effect by one controlled restart and loses nothing, in either direction.

use anyhow::{Context as _, Result, ensure};
use holdfast_e2e::dataset;
use holdfast_e2e::scenario::{Reach, run};
use holdfast_operator::api::v1alpha1::Strategy;

#[tokio::test]
async fn a_change_of_strategy_keeps_the_data_and_shows_what_is_in_effect() -> Result<()> {
    run("strategy-change", Reach::OwnNamespace, async |s| {
        s.ready_store("orders", "{persistence: {strategy: Never}}").await?;
        let expected = dataset::fill(&mut s.redis("orders").await?, 200).await?;
        let steps = [
            (Strategy::EverySecond, "everysec"),
            (Strategy::Always, "always"),
            (Strategy::Never, "never"),
            (Strategy::NoSync, "no"),
        ];
        for (strategy, word) in steps {
            s.patch_store("orders", &format!("{{spec: {{persistence: {{strategy: {strategy:?}}}}}}}"))
                .await?;
            let persistence = s.ready("orders").await?.status.and_then(|status| status.persistence);
            let persistence = persistence.context("no persistence in the status")?;
            ensure!(
                persistence.desired == strategy && persistence.effective == Some(strategy),
                "{strategy:?} was asked for: {persistence:?}"
            );
            let mut redis = s.redis("orders").await?;
            let answer: Vec<String> = redis.call("CONFIG GET persist-strategy").await?;
            ensure!(answer == ["persist-strategy", word], "the server answers {answer:?}");
            dataset::compare(&expected, &dataset::read(&mut redis).await?)
                .with_context(|| format!("under {strategy:?}"))?;
        }
        Ok(())
    })
    .await
}

/// A pod that anyone deletes takes on the new template at once; half of a change is safe to start from.
#[tokio::test]
async fn a_pod_deleted_in_the_middle_of_a_change_keeps_the_data() -> Result<()> {
    run("half-changed", Reach::OwnNamespace, async |s| {
        s.ready_store("orders", "{persistence: {strategy: EverySecond}}").await?;
        let expected = dataset::fill(&mut s.redis("orders").await?, 100).await?;
        for strategy in ["Never", "Always"] {
            s.patch_store("orders", &format!("{{spec: {{persistence: {{strategy: {strategy}}}}}}}")).await?;
            s.delete_pod("orders", None).await?;
            s.ready("orders").await?;
            dataset::compare(&expected, &dataset::read(&mut s.redis("orders").await?).await?)
                .with_context(|| format!("under {strategy}"))?;
        }
        Ok(())
    })
    .await
}
