//! What other hands do to the objects of a Store while the controllers run as they do in the operator: watches, back-off,
//! several workers. Objects here are really Terminating, and field managers really share objects.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use futures::FutureExt as _;
use holdfast_contract::bucket::Location;
use holdfast_operator::backup::facts::Presence;
use holdfast_operator::bucket_client::{BucketClient, SecretData};
use holdfast_operator::controller::controllers;
use holdfast_operator::events::Note;
use holdfast_operator::reconcile::facts::{LatestBackup, LocationProblem};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::api::PropagationPolicy;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::*;

/// Longest wait for anything; everything here takes seconds.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long nothing may happen. Longer than the pause of every loop that was ever seen here.
const QUIET: Duration = Duration::from_secs(6);
/// How long what follows from a change may still be written.
const SETTLING: Duration = Duration::from_secs(20);

/// Controllers and surroundings at work; both end when this is dropped.
pub(crate) struct Running(Vec<JoinHandle<()>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

pub(crate) fn run(world: &World) -> Running {
    let stop = futures::future::pending::<()>().boxed().shared();
    let mut tasks: Vec<_> =
        controllers(&world.ctx, Some(&world.namespace), 2, stop).into_iter().map(tokio::spawn).collect();
    let model = world.model.clone();
    tasks.push(tokio::spawn(async move {
        loop {
            Box::pin(model.tick()).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }));
    Running(tasks)
}

pub(crate) async fn until(world: &World, what: &str, mut look: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !look().await {
        if begun.elapsed() > PATIENCE {
            world.fail(&format!("waited in vain until {what}")).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub(crate) async fn settled(world: &World) {
    until(world, "all is as the spec says", async || world.is_settled().await).await;
}

async fn stalled(world: &World, reason: &str) {
    until(world, reason, async || reason_of(world, kind::STALLED).await == reason).await;
}

pub(crate) async fn pod_uid(world: &World) -> Option<String> {
    world.model.api::<Pod>().get_opt(&names::pod(STORE)).await.expect("read").and_then(|pod| pod.metadata.uid)
}

/// How often the operator has deleted a pod.
pub(crate) fn restarts(world: &World) -> usize {
    writes_of(world, "DELETE", "/pods/")
}

/// How often the operator has sent this kind of write to such a path.
fn writes_of(world: &World, method: &str, path: &str) -> usize {
    world.faults.log().iter().filter(|line| line.contains(method) && line.contains(path)).count()
}

/// Nothing is written for a while. What was just seen may still be told first: how long that takes depends on the machine.
pub(crate) async fn quiet(world: &World) {
    let deadline = Instant::now() + SETTLING;
    loop {
        let before = world.faults.writes();
        tokio::time::sleep(QUIET).await;
        if world.faults.writes() == before {
            return;
        }
        if Instant::now() >= deadline {
            world.fail("goes on writing although nothing changes").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_hands_never_make_the_operator_harm_a_store() {
    let api = ApiServer::start(&[]).await;
    tokio::join!(
        a_port_of_another_manager_causes_no_restart_but_the_one_that_is_due(&api),
        a_claim_that_is_being_deleted_keeps_its_pod(&api),
        a_pod_of_somebody_else_is_not_deleted(&api),
        an_orphaned_deletion_keeps_the_volume(&api),
        an_orphaned_deletion_keeps_the_volume_while_the_operator_is_there(&api),
        a_location_that_cannot_work_is_told_once(&api),
        a_line_that_the_server_refuses_takes_no_pod_down(&api),
        a_pod_that_the_api_refuses_takes_no_pod_down(&api),
        an_update_that_waits_for_others_is_not_applied(&api),
        an_image_that_does_not_start_is_taken_back(&api),
        a_supervised_update_waits_for_its_approval(&api),
        a_claim_of_an_earlier_version_is_marked_for_gitops_tools(&api),
        a_deleted_store_leaves_no_metrics_behind(&api),
        events_show_what_was_found_and_how_often(&api),
    );
    // It changes the definition for all.
    a_definition_of_an_earlier_version_is_named(&api).await;
}

/// The API drops a field that its definition of the kind does not know, without a word.
async fn a_definition_of_an_earlier_version_is_named(api: &ApiServer) {
    let world = World::new(api, "old-definition", Mode::Off, 0).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(api.admin());
    let set = async |change: &dyn Fn(&mut JSONSchemaProps)| {
        let mut definition = definitions.get("stores.holdfast.dev").await.expect("the definition");
        let schema = definition.spec.versions[0].schema.as_mut().expect("a schema");
        let status =
            schema.open_api_v3_schema.as_mut().and_then(|all| all.properties.as_mut()?.get_mut("status"));
        change(status.expect("a status"));
        definitions
            .replace("stores.holdfast.dev", &PostParams::default(), &definition)
            .await
            .expect("replace");
        // The API server takes it up a moment later, and tells nobody when.
        tokio::time::sleep(Duration::from_secs(3)).await;
    };
    let whole = definitions.get("stores.holdfast.dev").await.expect("the definition").spec.versions;
    let field = whole[0].schema.as_ref().and_then(|schema| {
        let all = schema.open_api_v3_schema.as_ref()?.properties.as_ref()?;
        all.get("status")?.properties.as_ref()?.get("lastGoodUpdate").cloned()
    });
    let field = field.expect("the field");
    set(&|status| drop(status.properties.as_mut().expect("fields").remove("lastGoodUpdate"))).await;
    world.create_store(json!({})).await;
    let _running = run(&world);
    until(&world, "it says so", async || reason_of(&world, kind::RECONCILING).await == "ReconcileFailed")
        .await;
    let conditions = world.store().await.and_then(|store| store.status).expect("a status").conditions;
    let message = &conditions::find(&conditions, kind::RECONCILING).expect("the condition").message;
    assert!(
        message.contains("has no status.lastGoodUpdate") && message.contains("kubectl apply"),
        "{message}"
    );
    set(&|status| {
        status.properties.as_mut().expect("fields").insert("lastGoodUpdate".to_owned(), field.clone());
    })
    .await;
    settled(&world).await;
}

async fn a_port_of_another_manager_causes_no_restart_but_the_one_that_is_due(api: &ApiServer) {
    let world = World::new(api, "foreign-manager", Mode::Off, 0).await;
    world.create_store(json!({})).await;
    let _running = run(&world);
    settled(&world).await;
    let services = world.model.api::<Service>();
    let applied = writes_of(&world, "PATCH", "/services/orders ");
    let port = json!({"spec": {"ports": [{"name": "extra", "port": 9999, "protocol": "TCP"}]}});
    services.patch(STORE, &PatchParams::default(), &Patch::Strategic(port)).await.expect("a foreign port");
    let note = json!({"metadata": {"annotations": {"mesh.test/injected": "yes"}}});
    let notes = json!({"metadata": note["metadata"], "spec": {"template": note}});
    let sets = world.model.api::<StatefulSet>();
    sets.patch(STORE, &PatchParams::default(), &Patch::Merge(notes)).await.expect("foreign annotations");
    quiet(&world).await;
    assert_eq!(restarts(&world), 0, "nothing of ours has changed");
    let again = writes_of(&world, "PATCH", "/services/orders ");
    assert_eq!(again, applied, "nor is anything applied for it: {:?}", world.faults.log());
    world.create_backup("nightly", "Snapshot").await;
    settled(&world).await;
    assert_eq!(restarts(&world), 0, "and a backup needs no restart for it");

    world.change_store(json!({"persistence": {"strategy": "Always"}})).await;
    until(&world, "the pod is replaced", async || restarts(&world) > 0).await;
    settled(&world).await;
    quiet(&world).await;
    assert_eq!(restarts(&world), 1, "{:?}", world.faults.log());
    let ports = services.get(STORE).await.expect("read").spec.and_then(|spec| spec.ports).unwrap_or_default();
    assert_eq!(ports.len(), 2, "what is not ours stays: {ports:?}");

    // What is taken from us comes back.
    let taken = json!({"spec": {"selector": {"app.kubernetes.io/name": "another"}}});
    services.patch(STORE, &PatchParams::default(), &Patch::Merge(taken)).await.expect("a changed selector");
    until(&world, "the selector is ours again", async || {
        let service = services.get(STORE).await.expect("read");
        let selector = service.spec.and_then(|spec| spec.selector).unwrap_or_default();
        selector.get("app.kubernetes.io/name").is_some_and(|name| name == "holdfast-server")
    })
    .await;
    assert_eq!(restarts(&world), 1);
}

async fn a_claim_that_is_being_deleted_keeps_its_pod(api: &ApiServer) {
    let world = World::new(api, "dying-claim", Mode::Off, 0).await;
    world.create_store(json!({})).await;
    let _running = run(&world);
    settled(&world).await;
    let claims = world.model.api::<PersistentVolumeClaim>();
    claims.delete(&names::claim(STORE), &DeleteParams::default()).await.expect("delete");
    let claim = claims.get(&names::claim(STORE)).await.expect("the protection finalizer holds it");
    assert!(claim.metadata.deletion_timestamp.is_some());
    stalled(&world, "VolumeClaimDeleting").await;
    assert_eq!(reason_of(&world, kind::READY).await, "Serving");

    let pod = pod_uid(&world).await;
    world.change_store(json!({"persistence": {"strategy": "Always"}})).await;
    world.change_store(json!({"config": ["hz 20"]})).await;
    tokio::time::sleep(QUIET).await;
    assert_eq!((restarts(&world), pod_uid(&world).await), (0, pod), "{:?}", world.faults.log());
    assert!(world.model.served_writes() >= Some(world.model.floor()));
    // The way out that the condition names.
    world.create_backup("rescue", "Snapshot").await;
    until(&world, "the backup has succeeded", async || {
        let backup = world.model.api::<StoreBackup>().get("rescue").await.expect("read");
        backup.status.is_some_and(|status| conditions::is_true(&status.conditions, kind::SUCCEEDED))
    })
    .await;
}

async fn a_pod_of_somebody_else_is_not_deleted(api: &ApiServer) {
    let world = World::new(api, "foreign-pod", Mode::Off, 0).await;
    world
        .create::<Pod>(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": names::pod(STORE), "labels": {"app": "theirs"}},
            "spec": {"containers": [{"name": "c", "image": "theirs:1"}]},
        }))
        .await;
    let theirs = pod_uid(&world).await;
    world.create_store(json!({})).await;
    let _running = run(&world);
    stalled(&world, "ObjectConflict").await;
    tokio::time::sleep(QUIET).await;
    assert_eq!((restarts(&world), pod_uid(&world).await), (0, theirs));
}

async fn an_orphaned_deletion_keeps_the_volume(api: &ApiServer) {
    let world = World::new(api, "orphaned", Mode::Off, 0).await;
    world.create_store(json!({"deletionPolicy": "DeleteVolumes"})).await;
    let running = run(&world);
    settled(&world).await;
    // The operator is away for a moment.
    drop(running);
    let stores = world.model.api::<Store>();
    let orphan =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    stores.delete(STORE, &orphan).await.expect("delete");
    // What the garbage collector does: it lets the children go, then takes its finalizer away.
    let let_go = Patch::Merge(json!({"metadata": {"ownerReferences": null}}));
    let params = PatchParams::default();
    let model = &world.model;
    model.api::<StatefulSet>().patch(STORE, &params, &let_go).await.expect("let go");
    model.api::<Service>().patch(STORE, &params, &let_go).await.expect("let go");
    for config in [names::config(STORE), names::record(STORE)] {
        model.api::<ConfigMap>().patch(&config, &params, &let_go).await.expect("let go");
    }
    let store = stores.get(STORE).await.expect("our finalizer holds it");
    assert!(store.finalizers().iter().any(|finalizer| finalizer == "orphan"), "{:?}", store.finalizers());
    let ours: Vec<_> = store.finalizers().iter().filter(|finalizer| *finalizer != "orphan").collect();
    let patch = Patch::Merge(json!({"metadata": {"finalizers": ours}}));
    stores.patch(STORE, &params, &patch).await.expect("take the finalizer away");

    let _running = run(&world);
    until(&world, "the Store is gone", async || stores.get_opt(STORE).await.expect("read").is_none()).await;
    let claim =
        model.api::<PersistentVolumeClaim>().get(&names::claim(STORE)).await.expect("the claim stays");
    assert_eq!(claim.metadata.deletion_timestamp, None, "somebody wanted to keep everything");
}

async fn an_orphaned_deletion_keeps_the_volume_while_the_operator_is_there(api: &ApiServer) {
    let world = World::new(api, "orphaned-at-once", Mode::Off, 0).await;
    world.create_store(json!({"deletionPolicy": "DeleteVolumes"})).await;
    let _running = run(&world);
    settled(&world).await;
    let stores = world.model.api::<Store>();
    let orphan =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    stores.delete(STORE, &orphan).await.expect("delete");
    // The garbage collector has not come yet: the children are still the Store's.
    until(&world, "the operator lets the Store go", async || {
        stores.get(STORE).await.expect("the garbage collector holds it").finalizers() == ["orphan"]
    })
    .await;
    let claims = world.model.api::<PersistentVolumeClaim>();
    let claim = claims.get(&names::claim(STORE)).await.expect("the claim stays");
    assert_eq!(claim.metadata.deletion_timestamp, None, "somebody wanted to keep everything");
}

/// A bucket whose keys are wrong.
#[derive(Default)]
struct Denied {
    probes: AtomicUsize,
}

#[async_trait]
impl BucketClient for Denied {
    async fn probe(&self, _: &Location, _: &SecretData) -> Result<(), LocationProblem> {
        self.probes.fetch_add(1, Ordering::SeqCst);
        Err(LocationProblem { reason: "AccessDenied".into(), message: "the key is not known".into() })
    }

    async fn latest_backup(
        &self,
        _: &Location,
        _: &SecretData,
        _: &str,
    ) -> Result<Option<LatestBackup>, LocationProblem> {
        Ok(None)
    }

    async fn find_backup(&self, _: &Location, _: &SecretData, _: &str) -> Result<Presence, LocationProblem> {
        Err(LocationProblem { reason: "AccessDenied".into(), message: "the key is not known".into() })
    }
}

async fn a_location_that_cannot_work_is_told_once(api: &ApiServer) {
    let mut world = World::new(api, "denied", Mode::Off, 0).await;
    let bucket = Arc::new(Denied::default());
    world.ctx.buckets = bucket.clone();
    let _running = run(&world);
    let locations = world.model.api::<BackupLocation>();
    until(&world, "the location says that it is not available", async || {
        let status = locations.get(LOCATION).await.expect("read").status.unwrap_or_default();
        conditions::find(&status.conditions, kind::AVAILABLE).is_some_and(|found| found.status == "False")
    })
    .await;
    quiet(&world).await;
    assert_eq!(world.faults.writes(), 1, "{:?}", world.faults.log());
    let probes = bucket.probes.load(Ordering::SeqCst);
    assert!(probes <= 2, "{probes} probes within seconds: its own status wakes it");
}

async fn a_line_that_the_server_refuses_takes_no_pod_down(api: &ApiServer) {
    let world = World::new(api, "bad-line", Mode::Off, 0).await;
    world.create_store(json!({})).await;
    let _running = run(&world);
    settled(&world).await;
    let pod = pod_uid(&world).await;
    world.change_store(json!({"config": ["hz abc"]})).await;
    stalled(&world, "ConfigurationRefused").await;
    tokio::time::sleep(QUIET).await;
    assert_eq!((restarts(&world), pod_uid(&world).await), (0, pod));
    let has_line = async || {
        let config = world.model.api::<ConfigMap>().get(&names::config(STORE)).await.expect("read");
        format!("{:?}", config.data).contains("hz abc")
    };
    assert!(!has_line().await, "a pod that dies now would not come back");
    // It dies, and nobody answers meanwhile.
    world.model.is_away(true);
    world.model.remove::<Pod>(&names::pod(STORE)).await;
    tokio::time::sleep(QUIET).await;
    assert!(!has_line().await, "the refusal holds while the server does not answer");
    world.model.is_away(false);
    until(&world, "the Store serves again", async || world.model.served_writes().is_some()).await;
    stalled(&world, "ConfigurationRefused").await;
    assert!(!has_line().await);
    world.change_store(json!({"config": ["hz 20"]})).await;
    until(&world, "the good line takes effect", async || restarts(&world) == 1).await;
    settled(&world).await;
}

async fn a_pod_that_the_api_refuses_takes_no_pod_down(api: &ApiServer) {
    let world = World::new(api, "refused-pod", Mode::Off, 0).await;
    world.create_store(json!({"updateStrategy": {"readyTimeoutSeconds": 10}})).await;
    let _running = run(&world);
    settled(&world).await;
    let pod = pod_uid(&world).await;
    let refused = json!({"podTemplate": {"priorityClassName": "nope"}, "config": ["hz 20"]});
    world.change_store(refused.clone()).await;
    stalled(&world, "PodRefused").await;
    quiet(&world).await;
    assert_eq!((restarts(&world), pod_uid(&world).await), (0, pod.clone()));
    let nothing_is_applied = async || {
        let set = world.model.api::<StatefulSet>().get(STORE).await.expect("read");
        let config = world.model.api::<ConfigMap>().get(&names::config(STORE)).await.expect("read");
        assert!(!format!("{:?} {:?}", set.spec, config.data).contains("nope"));
        assert!(!format!("{:?}", config.data).contains("hz 20"), "nothing is half applied");
    };
    nothing_is_applied().await;
    // The pod is drained away, and it takes a while until the next one is made.
    world.model.is_away(true);
    world.model.remove::<Pod>(&names::pod(STORE)).await;
    tokio::time::sleep(QUIET).await;
    nothing_is_applied().await;
    world.model.is_away(false);
    until(&world, "the Store serves again", async || world.model.served_writes().is_some()).await;
    stalled(&world, "PodRefused").await;
    nothing_is_applied().await;
    let pod = pod_uid(&world).await;
    // What needs no other pod goes on meanwhile.
    world.model.remove::<Service>(STORE).await;
    until(&world, "the Service is back", async || {
        world.model.api::<Service>().get_opt(STORE).await.expect("read").is_some()
    })
    .await;
    assert_eq!((restarts(&world), pod_uid(&world).await), (0, pod));

    world.change_store(json!({"podTemplate": null})).await;
    until(&world, "what is right takes effect", async || restarts(&world) == 1).await;
    settled(&world).await;
}

pub(crate) async fn image_of_pod(world: &World) -> String {
    let pod = world.model.api::<Pod>().get_opt(&names::pod(STORE)).await.expect("read");
    pod.and_then(|pod| pod.spec?.containers[0].image.clone()).unwrap_or_default()
}

async fn an_image_that_does_not_start_is_taken_back(api: &ApiServer) {
    let world = World::new(api, "bad-image", Mode::Off, 0).await;
    world.create_store(json!({"updateStrategy": {"readyTimeoutSeconds": 10}})).await;
    let _running = run(&world);
    settled(&world).await;
    let image = image_of_pod(&world).await;
    world.change_store(json!({"image": format!("test/{}:2", model::BROKEN_IMAGE)})).await;
    until(&world, "the changed pod is there", async || image_of_pod(&world).await.contains("broken")).await;
    stalled(&world, "UpdateRolledBack").await;
    until(&world, "the Store serves again", async || world.model.served_writes().is_some()).await;
    assert_eq!((image_of_pod(&world).await, restarts(&world)), (image, 2));
    let message =
        world.store().await.and_then(|store| store.status?.failed_update).expect("a failure").message;
    assert!(message.contains("cannot be pulled"), "{message}");
    quiet(&world).await;
    assert_eq!(restarts(&world), 2, "it is not tried again");

    // What needs no restart goes on meanwhile.
    world.change_store(json!({"deletionPolicy": "DeleteVolumes"})).await;
    until(&world, "the finalizer is set", async || {
        world.store().await.is_some_and(|store| !store.finalizers().is_empty())
    })
    .await;
    world.change_store(json!({"image": "test/server:3"})).await;
    until(&world, "the corrected image runs", async || image_of_pod(&world).await == "test/server:3").await;
    settled(&world).await;
    until(&world, "the failure is forgotten", async || {
        world
            .store()
            .await
            .is_some_and(|store| store.status.is_some_and(|status| status.failed_update.is_none()))
    })
    .await;
    assert_eq!(restarts(&world), 3);
}

async fn an_update_that_waits_for_others_is_not_applied(api: &ApiServer) {
    let first = World::new(api, "turn-first", Mode::Off, 0).await;
    let mut second = World::new(api, "turn-second", Mode::Off, 0).await;
    second.ctx.restarts = first.ctx.restarts.clone();
    for world in [&first, &second] {
        world.create_store(json!({"updateStrategy": {"readyTimeoutSeconds": 15}})).await;
    }
    let _running = (run(&first), run(&second));
    settled(&first).await;
    settled(&second).await;
    let image = image_of_pod(&second).await;
    let broken = json!({"image": format!("test/{}:2", model::BROKEN_IMAGE)});
    first.change_store(broken.clone()).await;
    until(&first, "the changed pod is there", async || image_of_pod(&first).await.contains("broken")).await;
    second.change_store(broken).await;
    let waits = async || {
        let set = second.model.api::<StatefulSet>().get(STORE).await.expect("read");
        assert!(!format!("{:?}", set.spec).contains("broken"), "it is not this Store's turn");
        reason_of(&second, kind::RECONCILING).await == "WaitingForOthers"
    };
    until(&second, "the second waits for its turn", waits).await;
    second.model.remove::<Pod>(&names::pod(STORE)).await;
    stalled(&first, "UpdateRolledBack").await;
    until(&first, "the first serves again", async || first.model.served_writes().is_some()).await;
    until(&second, "the second waits for the image", async || {
        let conditions = second.store().await.and_then(|store| store.status).unwrap_or_default().conditions;
        let found = conditions::find(&conditions, kind::RECONCILING).map(|found| found.message.clone());
        waits().await
            && found.is_some_and(|message| message.contains("turn-first/orders did not become ready"))
    })
    .await;
    second.model.remove::<Pod>(&names::pod(STORE)).await;
    until(&second, "another pod is there", async || image_of_pod(&second).await == image).await;
    until(&second, "the second serves again", async || second.model.served_writes().is_some()).await;
    until(&second, "it waits as before", waits).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = (second.faults.reads(), second.faults.writes());
    tokio::time::sleep(QUIET).await;
    let (reads, writes) = (second.faults.reads() - before.0, second.faults.writes() - before.1);
    // One look upon live reads has more than a dozen.
    assert!(reads < 12 && writes == 0, "waiting costs {reads} reads and {writes} writes");
    assert_eq!(restarts(&second), 0);
    // The first is corrected, and both go on, one after the other.
    for world in [&first, &second] {
        world.change_store(json!({"image": "test/server:3"})).await;
    }
    for world in [&first, &second] {
        until(world, "the corrected image runs", async || image_of_pod(world).await == "test/server:3").await;
        settled(world).await;
    }
}

async fn a_supervised_update_waits_for_its_approval(api: &ApiServer) {
    let world = World::new(api, "supervised", Mode::Off, 0).await;
    world.create_store(json!({"updateStrategy": {"type": "Supervised"}})).await;
    let _running = run(&world);
    settled(&world).await;
    world.change_store(json!({"image": "test/server:2"})).await;
    until(&world, "it waits", async || reason_of(&world, kind::RECONCILING).await == "UpdateAwaitsApproval")
        .await;
    // Whatever takes the pod away meanwhile: the one that comes back is as it was.
    let pod = pod_uid(&world).await;
    world.model.remove::<Pod>(&names::pod(STORE)).await;
    until(&world, "the operator has seen it go", async || {
        reason_of(&world, kind::READY).await != "Serving" || pod_uid(&world).await != pod
    })
    .await;
    until(&world, "another pod serves, and the operator knows", async || {
        let status = world.store().await.and_then(|store| store.status).unwrap_or_default();
        let is_ready = conditions::is_true(&status.conditions, kind::READY)
            && conditions::is_true(&status.conditions, kind::PERSISTENCE_HEALTHY);
        is_ready && pod_uid(&world).await.is_some_and(|now| Some(now) != pod)
    })
    .await;
    quiet(&world).await;
    assert_ne!(image_of_pod(&world).await, "test/server:2");
    let conditions = world.store().await.and_then(|store| store.status).expect("a status").conditions;
    let message =
        &conditions.iter().find(|condition| condition.type_ == kind::RECONCILING).expect("it").message;
    let (_, name) = message.split_once("approve-update=").expect("the message names the annotation");
    let name = name.split(' ').next().expect("a word");
    let approval = json!({"metadata": {"annotations": {names::key::APPROVE_UPDATE: name}}});
    let stores = world.model.api::<Store>();
    stores.patch(STORE, &PatchParams::default(), &Patch::Merge(approval)).await.expect("approve");
    until(&world, "the update runs", async || image_of_pod(&world).await == "test/server:2").await;
    settled(&world).await;
}

async fn a_claim_of_an_earlier_version_is_marked_for_gitops_tools(api: &ApiServer) {
    let world = World::new(api, "gitops", Mode::Off, 0).await;
    world.create_store(json!({})).await;
    let _running = run(&world);
    settled(&world).await;
    let claims = world.model.api::<PersistentVolumeClaim>();
    let marks = async || {
        let claim = claims.get(&names::claim(STORE)).await.expect("read");
        let keeps = names::KEEP_ANNOTATIONS.iter().all(|(key, _)| claim.annotations().contains_key(*key));
        (keeps, claim.labels().contains_key(names::INSTANCE_LABEL))
    };
    assert_eq!(marks().await, (true, false), "the first claim is made so");
    let annotations: Value =
        names::KEEP_ANNOTATIONS.into_iter().map(|(key, _)| (key.to_owned(), Value::Null)).collect();
    let as_before =
        json!({"metadata": {"annotations": annotations, "labels": {names::INSTANCE_LABEL: STORE}}});
    claims
        .patch(&names::claim(STORE), &PatchParams::default(), &Patch::Merge(as_before))
        .await
        .expect("a claim as an earlier version made it");
    until(&world, "the claim is marked", async || marks().await == (true, false)).await;
    assert_eq!(restarts(&world), 0);
}

async fn a_deleted_store_leaves_no_metrics_behind(api: &ApiServer) {
    let world = World::new(api, "metrics", Mode::Off, 0).await;
    world.create_store(json!({})).await;
    let _running = run(&world);
    settled(&world).await;
    assert!(world.ctx.metrics.render().contains("namespace=\"metrics\""));
    world.model.api::<Store>().delete(STORE, &DeleteParams::default()).await.expect("delete");
    collect_garbage(&world).await;
    until(&world, "its metrics are gone", async || {
        !world.ctx.metrics.render().contains("namespace=\"metrics\"")
    })
    .await;
}

async fn events_show_what_was_found_and_how_often(api: &ApiServer) {
    let world = World::new(api, "events", Mode::Off, 0).await;
    let location = world.model.api::<BackupLocation>().get(LOCATION).await.expect("read");
    let note = |text: &str| Note { warning: true, reason: "AccessDenied".into(), text: text.into() };
    for text in ["to bucket a", "to bucket b", "to bucket b", "to bucket b"] {
        world.ctx.events.publish(&location, note(text)).await;
    }
    // As people see them: kubectl lists the older kind.
    let about =
        ListParams::default().fields("involvedObject.kind=BackupLocation,involvedObject.name=offsite");
    let events = world.model.api::<k8s_openapi::api::core::v1::Event>().list(&about).await.expect("list");
    let mut seen: Vec<_> = events
        .into_iter()
        .map(|event| (event.message.unwrap_or_default(), event.series.and_then(|series| series.count)))
        .collect();
    seen.sort();
    assert_eq!(seen, [("to bucket a".to_owned(), None), ("to bucket b".to_owned(), Some(3))]);
}
