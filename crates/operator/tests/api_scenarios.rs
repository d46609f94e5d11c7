//! The real reconcile code against a Kubernetes API in memory, where each call can be counted, changed and refused.

#[path = "support/apiserver.rs"]
#[expect(dead_code, reason = "there is no real API server here")]
mod apiserver;
#[path = "support/defaults.rs"]
mod defaults;
#[path = "support/faults.rs"]
#[expect(dead_code, reason = "calls fail here by the API in memory")]
mod faults;
#[path = "support/mock_api.rs"]
mod mock_api;
#[path = "support/model.rs"]
#[expect(dead_code, reason = "no volume is lost here")]
mod model;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use holdfast_operator::api::conditions::{self, kind};
use holdfast_operator::api::v1alpha1::{Store, StoreBackup};
use holdfast_operator::backup::checks::BackupChecks;
use holdfast_operator::context::Context;
use holdfast_operator::controller::controllers;
use holdfast_operator::events::Events;
use holdfast_operator::metrics::Metrics;
use holdfast_operator::restart_gate::RestartGate;
use holdfast_operator::{names, reconcile};
use http::Method;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::faults::{FaultState, Mode};
use crate::mock_api::{Call, MockApi};
use crate::model::{Model, STORE};

const NAMESPACE: &str = "shop";
/// Turns until everything must have settled.
const SETTLE_TURNS: usize = 60;
/// Longest wait for controllers, whose pauses after three errors are some seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// One Store and its surroundings.
struct World {
    api: MockApi,
    model: Model,
    ctx: Context,
}

impl World {
    /// A world with a Store of which nothing is there yet.
    async fn new(extra: Value) -> Self {
        let api = MockApi::default();
        let client = api.client();
        let model = Model::new(api.admin(), NAMESPACE, FaultState::new(Mode::Off, 0));
        let ctx = Context {
            events: Events::new(client.clone(), Some("test".into())),
            client,
            servers: Arc::new(model.clone()),
            buckets: Arc::new(model.clone()),
            defaults: defaults::defaults(),
            metrics: Metrics::default(),
            caches: None,
            restarts: RestartGate::new(1),
            checks: BackupChecks::default(),
        };
        let mut spec = json!({
            "storage": {"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "1Gi"}}}}},
            "memory": {"maxMemory": "64Mi"},
        });
        for (key, value) in extra.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        let store = json!({
            "apiVersion": "holdfast.dev/v1alpha1", "kind": "Store", "metadata": {"name": STORE}, "spec": spec,
        });
        let store: Store = serde_json::from_value(store).expect("a Store");
        model.api::<Store>().create(&PostParams::default(), &store).await.expect("create");
        Self { api, model, ctx }
    }

    async fn settled(extra: Value) -> Self {
        let world = Self::new(extra).await;
        world.settle().await;
        world
    }

    async fn look(&self) {
        Box::pin(reconcile::reconcile(&self.ctx, NAMESPACE, STORE)).await.expect("a look");
    }

    async fn turn(&self) {
        self.look().await;
        Box::pin(self.model.tick()).await;
    }

    /// Turns until all is as the spec says, and some more.
    async fn settle(&self) {
        for _ in 0..SETTLE_TURNS {
            self.turn().await;
            if self.is_settled().await {
                for _ in 0..4 {
                    self.turn().await;
                }
                return;
            }
        }
        panic!("does not settle: {:#?}", self.conditions().await);
    }

    async fn conditions(&self) -> Vec<Condition> {
        let store = self.model.api::<Store>().get(STORE).await.expect("read");
        store.status.unwrap_or_default().conditions
    }

    async fn condition(&self, kind: &str) -> Condition {
        conditions::find(&self.conditions().await, kind).expect("the condition").clone()
    }

    async fn is_settled(&self) -> bool {
        let store = self.model.api::<Store>().get(STORE).await.expect("read");
        let status = store.status.unwrap_or_default();
        status.observed_generation == store.metadata.generation
            && conditions::is_true(&status.conditions, kind::READY)
            && conditions::is_true(&status.conditions, kind::PERSISTENCE_HEALTHY)
            && !conditions::is_true(&status.conditions, kind::RECONCILING)
            && !conditions::is_true(&status.conditions, kind::STALLED)
    }

    async fn change(&self, spec: Value) {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.model.api::<Store>().patch(STORE, &PatchParams::default(), &patch).await.expect("change");
    }

    async fn pod(&self) -> Pod {
        self.model.api::<Pod>().get(&names::pod(STORE)).await.expect("a pod")
    }
}

/// The calls that delete a pod.
fn restarts(calls: &[Call]) -> Vec<&Call> {
    calls.iter().filter(|call| call.is(&Method::DELETE, "/pods/orders-0")).collect()
}

fn writes(calls: &[Call]) -> Vec<&Call> {
    calls.iter().filter(|call| call.is_write()).collect()
}

/// What defaulting webhooks do: the template gets an annotation and a toleration.
fn add_to_template(plural: &str, object: &mut Value) {
    if plural != "statefulsets" {
        return;
    }
    let template = &mut object["spec"]["template"];
    template["metadata"]["annotations"]["mesh.test/injected"] = json!("yes");
    let tolerations = &mut template["spec"]["tolerations"];
    let added = json!({"key": "mesh.test/slow", "operator": "Exists", "effect": "NoExecute"});
    match tolerations.as_array_mut() {
        Some(list) if list.contains(&added) => {}
        Some(list) => list.push(added),
        None => *tolerations = json!([added]),
    }
}

#[tokio::test]
async fn a_webhook_that_adds_to_the_template_causes_no_restart_and_no_write() {
    let world = World::new(json!({})).await;
    world.api.set_webhook(add_to_template);
    world.settle().await;
    assert!(restarts(&world.api.take_calls()).is_empty(), "a new Store has nothing to restart for");
    let set = world.model.api::<StatefulSet>().get(STORE).await.expect("read");
    let template = serde_json::to_value(set.spec.template).expect("JSON");
    assert_eq!(template["metadata"]["annotations"]["mesh.test/injected"], "yes");
    assert_eq!(template["spec"]["tolerations"][0]["key"], "mesh.test/slow");
    for _ in 0..10 {
        world.turn().await;
    }
    let calls = world.api.take_calls();
    assert!(writes(&calls).is_empty(), "{:#?}", writes(&calls));

    // A change of the spec restarts once, and what is added then causes no other.
    world.change(json!({"persistence": {"strategy": "Always"}})).await;
    world.settle().await;
    assert_eq!(restarts(&world.api.take_calls()).len(), 1);
    for _ in 0..10 {
        world.turn().await;
    }
    let calls = world.api.take_calls();
    assert!(writes(&calls).is_empty(), "{:#?}", writes(&calls));
}

/// The same webhook comes to a Store that is settled already: the StatefulSet has another revision then.
#[tokio::test]
async fn a_webhook_that_is_installed_later_restarts_nothing() {
    let world = World::settled(json!({})).await;
    world.api.set_webhook(add_to_template);
    let sets = world.model.api::<StatefulSet>();
    let mut set = serde_json::to_value(sets.get(STORE).await.expect("read")).expect("JSON");
    add_to_template("statefulsets", &mut set);
    let patch = Patch::Merge(json!({"spec": {"template": set["spec"]["template"]}}));
    sets.patch(STORE, &PatchParams::default(), &patch).await.expect("a changed template");
    world.api.take_calls();
    for _ in 0..10 {
        world.turn().await;
    }
    let calls = world.api.take_calls();
    assert!(writes(&calls).is_empty(), "{:#?}", writes(&calls));
}

#[tokio::test]
async fn a_settled_store_costs_no_list_of_events() {
    let world = World::settled(json!({})).await;
    world.api.take_calls();
    for _ in 0..3 {
        world.look().await;
    }
    let calls = world.api.take_calls();
    assert!(!calls.is_empty(), "objects are read");
    let of_events: Vec<_> = calls.iter().filter(|call| call.path.ends_with("/events")).collect();
    assert!(of_events.is_empty(), "{of_events:#?}");
}

#[tokio::test]
async fn events_are_asked_for_by_the_object_that_is_not_as_it_should_be() {
    let world = World::settled(json!({})).await;
    let pods = world.model.api::<Pod>();
    let waits = json!({"status": {
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [{
            "name": names::SERVER_CONTAINER, "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ContainerCreating"}},
        }],
    }});
    let patch = Patch::Merge(waits);
    pods.patch_status(&names::pod(STORE), &PatchParams::default(), &patch).await.expect("status");
    world.api.take_calls();
    world.look().await;
    let calls = world.api.take_calls();
    let of_events: Vec<_> =
        calls.iter().filter(|call| call.method == Method::GET && call.path.ends_with("/events")).collect();
    let uid = world.pod().await.metadata.uid.expect("a UID");
    assert_eq!(of_events.len(), 1, "{of_events:#?}");
    let query = of_events[0].query.replace("%3D", "=").replace("%2C", ",");
    assert!(query.contains(&format!("fieldSelector=involvedObject.uid={uid},type=Warning")), "{query}");
    assert!(query.contains("limit="), "{query}");
}

/// The pod that ends was made with less time than the spec gives it now.
#[tokio::test]
async fn a_pod_is_deleted_with_the_grace_period_of_the_spec_as_it_is_now() {
    let shutdown =
        |seconds: u32| json!({"persistence": {"strategy": "Never", "shutdown": {"budgetSeconds": seconds}}});
    let world = World::settled(shutdown(60)).await;
    let grace = async || world.pod().await.spec.expect("a spec").termination_grace_period_seconds;
    assert_eq!(grace().await, Some(60));
    world.api.take_calls();
    world.change(shutdown(600)).await;
    world.settle().await;
    let calls = world.api.take_calls();
    let graces: Vec<_> =
        restarts(&calls).into_iter().map(|call| call.body["gracePeriodSeconds"].clone()).collect();
    assert_eq!(graces, [600]);
    assert_eq!(grace().await, Some(600));
}

#[tokio::test]
async fn an_object_that_the_api_refuses_is_told_and_forgotten_when_it_is_taken() {
    let world = World::settled(json!({})).await;
    world.api.refuse(Method::PATCH, "/services/orders", 403);
    world.model.remove::<k8s_openapi::api::core::v1::Service>(STORE).await;
    world.turn().await;
    let stalled = world.condition(kind::STALLED).await;
    assert_eq!((stalled.status.as_str(), stalled.reason.as_str()), ("True", "ApiRefused"));
    for part in ["apply Service \"orders\"", "injected 403"] {
        assert!(stalled.message.contains(part), "{}", stalled.message);
    }
    world.api.refuse_nothing();
    world.settle().await;
    assert_eq!(world.condition(kind::STALLED).await.status, "False");
}

/// Waits until the condition Reconciling has, or has no longer, the reason `ReconcileFailed`.
async fn until_failed(world: &World, expected: bool) -> Condition {
    let begun = Instant::now();
    loop {
        let found = world.condition_if_any(kind::RECONCILING).await;
        if let Some(found) = found
            && (found.reason == "ReconcileFailed") == expected
        {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{:#?}", world.conditions().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl World {
    async fn condition_if_any(&self, kind: &str) -> Option<Condition> {
        conditions::find(&self.conditions().await, kind).cloned()
    }
}

#[tokio::test]
async fn a_reconcile_that_keeps_failing_says_so_in_the_status_until_it_works_again() {
    for (method, path, code, what, remedy) in [
        (Method::PATCH, "/services/orders", 500, "failed to apply Service \"orders\"", "its webhooks"),
        (
            Method::GET,
            "/secrets/orders-auth",
            403,
            "failed to read Secret \"orders-auth\"",
            "kubectl auth can-i",
        ),
    ] {
        let world = World::settled(json!({})).await;
        world.model.remove::<k8s_openapi::api::core::v1::Service>(STORE).await;
        world.api.refuse(method, path, code);
        let stop = futures::future::pending::<()>().boxed().shared();
        let running: Vec<_> =
            controllers(&world.ctx, Some(NAMESPACE), 1, stop).into_iter().map(tokio::spawn).collect();
        let failed = until_failed(&world, true).await;
        assert_eq!(failed.status, "True");
        let cause = format!("injected {code}");
        for part in [what, cause.as_str(), remedy] {
            assert!(failed.message.contains(part), "{}", failed.message);
        }
        assert_eq!(world.condition(kind::READY).await.status, "True", "what is known otherwise stays");

        world.api.refuse_nothing();
        until_failed(&world, false).await;
        running.iter().for_each(tokio::task::JoinHandle::abort);
        world.settle().await;
    }
}

/// The finalizer of a backup that has ended well cannot be taken away: a webhook on StoreBackups does not answer.
#[tokio::test]
async fn a_backup_that_has_ended_stays_what_it_is_when_looking_at_it_fails() {
    let world = World::settled(json!({})).await;
    let backup: StoreBackup = serde_json::from_value(json!({
        "apiVersion": "holdfast.dev/v1alpha1", "kind": "StoreBackup",
        "metadata": {"name": "nightly", "finalizers": [names::BACKUP_FINALIZER]},
        "spec": {"storeRef": {"name": STORE}},
    }))
    .expect("a StoreBackup");
    let backups = world.model.api::<StoreBackup>();
    backups.create(&PostParams::default(), &backup).await.expect("create");
    let ended = json!({"status": {
        "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:00Z",
        "conditions": [{
            "type": "Succeeded", "status": "True", "reason": "Uploaded", "message": "",
            "lastTransitionTime": "2026-01-01T00:01:00Z",
        }],
    }});
    backups.patch_status("nightly", &PatchParams::default(), &Patch::Merge(ended)).await.expect("a status");
    world.api.refuse(Method::PATCH, "/storebackups/nightly", 500);
    world.api.take_calls();
    let stop = futures::future::pending::<()>().boxed().shared();
    let running: Vec<_> =
        controllers(&world.ctx, Some(NAMESPACE), 1, stop).into_iter().map(tokio::spawn).collect();
    let begun = Instant::now();
    let mut tries = 0;
    // Three failures in a row are told; the report belongs to the third try.
    while tries < 4 {
        assert!(begun.elapsed() < PATIENCE, "{tries} tries");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let calls = world.api.take_calls();
        tries += calls.iter().filter(|call| call.is(&Method::PATCH, "/storebackups/nightly")).count();
    }
    let found = backups.get("nightly").await.expect("read").status.unwrap_or_default();
    let succeeded = conditions::find(&found.conditions, kind::SUCCEEDED).expect("a condition");
    assert_eq!((succeeded.status.as_str(), succeeded.reason.as_str()), ("True", "Uploaded"));
    running.iter().for_each(tokio::task::JoinHandle::abort);
}

/// The reasons of the events that the operator has made.
fn events(calls: &[Call]) -> Vec<&str> {
    let made = calls.iter().filter(|call| call.is(&Method::POST, "/events"));
    made.filter_map(|call| call.body["reason"].as_str()).collect()
}

#[tokio::test]
async fn a_secret_that_is_made_again_is_told_in_an_event() {
    let world = World::new(json!({})).await;
    world.settle().await;
    assert!(
        !events(&world.api.take_calls()).contains(&"AuthSecretRecreated"),
        "the first one is nothing to tell"
    );
    world.model.remove::<k8s_openapi::api::core::v1::Secret>(&names::auth_secret(STORE)).await;
    world.settle().await;
    let calls = world.api.take_calls();
    let told: Vec<_> = events(&calls).into_iter().filter(|reason| *reason == "AuthSecretRecreated").collect();
    assert_eq!(told.len(), 1, "{:?}", events(&calls));
}

/// What happened to the volume while nobody looked, as the status tells it, and the event that follows.
#[tokio::test]
async fn a_volume_that_is_there_again_is_told_in_an_event() {
    let restore = json!({
        "location": "offsite", "backupPath": "id/backups/a-1-2", "epoch": 2,
        "cutTime": "2026-01-01T00:00:00Z", "startTime": "2026-01-01T00:00:00Z",
    });
    let claim = json!({"name": names::claim(STORE), "uid": "uid-of-another-claim"});
    for (known, reason) in
        [(json!({"restore": restore}), "RestoreDropped"), (json!({"claim": claim}), "ClaimReplaced")]
    {
        let world = World::settled(json!({})).await;
        let patch = Patch::Merge(json!({"status": known}));
        let stores = world.model.api::<Store>();
        stores.patch_status(STORE, &PatchParams::default(), &patch).await.expect("a status");
        world.api.take_calls();
        world.settle().await;
        let calls = world.api.take_calls();
        let told: Vec<_> = events(&calls).into_iter().filter(|told| *told == reason).collect();
        assert_eq!(told.len(), 1, "{reason}: {:?}", events(&calls));
        let status = stores.get(STORE).await.expect("read").status.unwrap_or_default();
        assert!(
            status.restore.is_none() && status.claim.is_some_and(|claim| claim.uid != "uid-of-another-claim")
        );
    }
}
