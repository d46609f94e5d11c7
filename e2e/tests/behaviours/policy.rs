//! From the policy in a Store to the objects and the server, and back into its status.

use anyhow::{Context as _, Result, ensure};
use holdfast_e2e::scenario::{Reach, run};
use holdfast_operator::api::conditions::{is_true, kind};
use holdfast_operator::api::v1alpha1::Strategy;
use holdfast_operator::names;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

const POLICY: &str = r"
persistence:
  strategy: Always
  snapshot: {rules: [{periodSeconds: 900, minChanges: 100}]}
  log: {rotation: {growthPercentage: 50, minSize: 8Mi, maxSize: 32Mi}}
  shutdown: {snapshot: Never, budgetSeconds: 45}
memory: {maxMemory: 64Mi, evictionPolicy: AllKeysLRU}
resources: {limits: {memory: 128Mi}}
config: [hz 20]
podTemplate: {metadata: {labels: {team: shop}}}
";

#[tokio::test]
async fn a_policy_becomes_objects_and_the_server_runs_with_it() -> Result<()> {
    run("policy", Reach::OwnNamespace, async |s| {
        let store = s.ready_store("orders", POLICY).await?;

        let config = s.api::<ConfigMap>().get(&names::config("orders")).await?;
        let text =
            config.data.unwrap_or_default().remove(names::CONFIG_KEY).context("no configuration file")?;
        for line in [
            "persist-strategy always",
            "save 900 100",
            "auto-aof-rewrite-percentage 50",
            "auto-aof-rewrite-min-size 8388608",
            "auto-aof-rewrite-max-size 33554432",
            "maxmemory 67108864",
            "maxmemory-policy allkeys-lru",
            "shutdown-on-sigterm nosave",
            "hz 20",
        ] {
            ensure!(text.lines().any(|found| found == line), "the configuration lacks {line:?}:\n{text}");
        }

        let set = s.api::<StatefulSet>().get("orders").await?.spec;
        let strategy = set.update_strategy.and_then(|strategy| strategy.type_);
        ensure!(strategy.as_deref() == Some("OnDelete"), "the StatefulSet would restart pods by itself");
        let pod = s.pod("orders").await?;
        let labels = pod.metadata.labels.unwrap_or_default();
        ensure!(
            labels.get("team").map(String::as_str) == Some("shop"),
            "the pod lacks its label: {labels:?}"
        );
        let spec = pod.spec.context("the pod has no spec")?;
        ensure!(spec.termination_grace_period_seconds == Some(45), "the stop has another budget");
        ensure!(spec.automount_service_account_token == Some(false), "the pod carries a token of the API");
        let budget =
            s.api::<PodDisruptionBudget>().get("orders").await?.spec.and_then(|spec| spec.max_unavailable);
        ensure!(budget.is_some(), "the budget would let a drain hang");
        s.api::<Service>().get("orders").await.context("the clients' Service")?;
        s.api::<ServiceAccount>()
            .get(&names::service_account("orders"))
            .await
            .context("the pod's account")?;

        let mut redis = s.redis("orders").await?;
        for (directive, expected) in [
            ("persist-strategy", "always"),
            ("hz", "20"),
            ("maxmemory", "67108864"),
            ("maxmemory-policy", "allkeys-lru"),
        ] {
            let answer: Vec<String> = redis.call(&format!("CONFIG GET {directive}")).await?;
            ensure!(answer == [directive, expected], "the server answers {answer:?}");
        }

        let status = store.status.context("no status")?;
        let persistence = status.persistence.context("no persistence in the status")?;
        ensure!(persistence.desired == Strategy::Always, "desired: {:?}", persistence.desired);
        ensure!(persistence.effective == Some(Strategy::Always), "effective: {:?}", persistence.effective);
        ensure!(status.epoch == Some(1) && status.store_id.is_some(), "the identity is not recorded");
        ensure!(is_true(&status.conditions, kind::PERSISTENCE_HEALTHY), "{:?}", status.conditions);
        let stale = status
            .conditions
            .iter()
            .find(|condition| condition.observed_generation != store.metadata.generation);
        ensure!(stale.is_none(), "a condition answers another generation: {stale:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_a_person_changes_in_the_objects_is_put_back() -> Result<()> {
    run("drift", Reach::OwnNamespace, async |s| {
        s.ready_store("orders", "{}").await?;
        let budgets = s.api::<PodDisruptionBudget>();
        budgets.delete("orders", &kube::api::DeleteParams::default()).await?;
        holdfast_e2e::wait::until("the budget to come back", holdfast_e2e::wait::SOON, async || {
            let budget = budgets.get("orders").await?;
            ensure!(budget.metadata.deletion_timestamp.is_none(), "it is being deleted");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn kubectl_answers_whether_all_is_fine() -> Result<()> {
    run("columns", Reach::OwnNamespace, async |s| {
        s.location().await?;
        s.ready_store("orders", "{backup: {locationRef: {name: offsite}}}").await?;
        s.backup("nightly", "orders").await?;
        let table = s.cluster.tool("kubectl", &["-n", &s.namespace, "get", "st,stb,bl"]).await?;
        for word in ["READY", "STRATEGY", "EverySecond", "SUCCEEDED", "Completed", "AVAILABLE", "True"] {
            ensure!(table.contains(word), "kubectl get st,stb,bl does not show {word:?}:\n{table}");
        }
        let explained =
            s.cluster.tool("kubectl", &["explain", "store.spec.persistence", "--recursive"]).await?;
        ensure!(explained.contains("strategy") && explained.contains("DESCRIPTION"), "{explained}");
        Ok(())
    })
    .await
}
