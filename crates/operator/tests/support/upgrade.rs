//! The operator is of another version than the one that has made the objects of a Store, while the controllers run as they do
//! in the operator.

use std::collections::BTreeMap;

use holdfast_operator::reconcile::build::{
    Desired, Inputs, MountedLocation, build, config_map, sha256_hex, stateful_set::mounted_locations,
};
use holdfast_operator::reconcile::rendering::Rendering;
use holdfast_operator::reconcile::validate::validate;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::jiff::Timestamp;

use super::disturbances::{image_of_pod, pod_uid, quiet, restarts, run, settled, until};
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_version_of_the_operator_restarts_nothing() {
    let api = ApiServer::start(&[]).await;
    tokio::join!(
        what_the_first_version_made_is_left_alone_until_the_spec_changes(&api),
        what_the_first_version_made_comes_back_as_it_was(&api),
        a_failed_update_goes_back_to_the_rendering_that_worked(&api),
        what_a_later_version_made_is_left_alone_until_the_spec_changes(&api),
    );
}

/// What is applied, read as the operator does, and built again in `rendering`.
async fn built(world: &World, rendering: Rendering) -> Desired {
    let store = world.store().await.expect("a Store");
    let valid = validate(&store, &defaults::defaults(), Timestamp::now()).expect("a valid Store");
    let set = world.model.api::<StatefulSet>().get(STORE).await.expect("read");
    let record = world.model.api::<ConfigMap>().get(&names::record(STORE)).await.expect("read");
    let inputs = Inputs {
        rendering,
        kept: None,
        record: config_map::read_record(Some(&record)).expect("a record"),
        auth_revision: annotations_of(&set)[names::key::AUTH_REVISION].clone(),
        locations: mounted_locations(&set)
            .into_iter()
            .map(|(name, secret)| MountedLocation { name, secret })
            .collect(),
        claim_templates: set.spec.volume_claim_templates.clone(),
    };
    build(&valid, &inputs)
}

fn annotations_of(set: &StatefulSet) -> BTreeMap<String, String> {
    set.spec.template.metadata.clone().and_then(|metadata| metadata.annotations).unwrap_or_default()
}

/// Another version of the operator has applied `made`, and the pod and `status` are what it left.
async fn leave(world: &World, made: Desired, status: impl FnOnce(&mut serde_json::Value)) {
    // By the operator's field manager, with the annotation that v0.1.0 put on every object.
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    let mut config = made.config;
    config
        .metadata
        .annotations
        .get_or_insert_default()
        .insert("holdfast.dev/desired-hash".into(), "1".into());
    let mut set = made.stateful_set;
    set.metadata.annotations.get_or_insert_default().insert("holdfast.dev/desired-hash".into(), "1".into());
    let model = &world.model;
    let configs = model.api::<ConfigMap>();
    configs.patch(&names::config(STORE), &params, &Patch::Apply(config)).await.expect("apply");
    let sets = model.api::<StatefulSet>();
    let set = sets.patch(STORE, &params, &Patch::Apply(set)).await.expect("apply");
    model.remove::<Pod>(&names::pod(STORE)).await;
    let rendering = |annotations: Option<&BTreeMap<String, String>>| {
        annotations.and_then(|annotations| annotations.get(names::key::RENDERING)).cloned()
    };
    until(world, "its pod serves", async || {
        Box::pin(model.tick()).await;
        let pod = model.api::<Pod>().get_opt(&names::pod(STORE)).await.expect("read");
        let is_made = pod.is_some_and(|pod| {
            rendering(pod.metadata.annotations.as_ref()) == rendering(Some(&annotations_of(&set)))
        });
        is_made && model.served_writes().is_some()
    })
    .await;
    let store = world.store().await.expect("a Store");
    let mut object = serde_json::to_value(&store).expect("JSON");
    status(&mut object["status"]);
    let mut store: Store = serde_json::from_value(object).expect("a Store");
    store.metadata.managed_fields = None;
    let stores = model.api::<Store>();
    stores.replace_status(STORE, &PostParams::default(), &store).await.expect("status");
}

/// A Store as the operator and the server of v0.1.0 have left it.
async fn of_first_version(api: &ApiServer, namespace: &str, spec: serde_json::Value) -> World {
    let world = World::new(api, namespace, Mode::Off, 0).await;
    world.create_store(spec).await;
    let running = run(&world);
    settled(&world).await;
    drop(running);
    world.model.is_first_version(true);
    let made = built(&world, Rendering::FIRST).await;
    leave(&world, made, |status| {
        let status = status.as_object_mut().expect("a status");
        for later in ["lastGoodUpdate", "lastPodRestart"] {
            status.remove(later);
        }
        status["persistence"].as_object_mut().expect("a map").remove("formatVersion");
    })
    .await;
    world
}

/// The rendering of the pod that is there; that of v0.1.0 has no name.
/// A change of the spec restarts the pod once, and the restart brings what this version writes.
async fn a_change_brings_the_newest_rendering(world: &World) {
    world.change_store(json!({"config": ["hz 20"]})).await;
    until(world, "the change takes effect", async || restarts(world) == 1).await;
    settled(world).await;
    quiet(world).await;
    assert_eq!(restarts(world), 1, "{:?}", world.faults.log());
    assert_eq!(rendering_of_pod(world).await, Some(Rendering::CURRENT.to_string()));
}

async fn rendering_of_pod(world: &World) -> Option<String> {
    let pod = world.model.api::<Pod>().get_opt(&names::pod(STORE)).await.expect("read");
    pod.and_then(|pod| pod.annotations().get(names::key::RENDERING).cloned())
}

async fn what_the_first_version_made_is_left_alone_until_the_spec_changes(api: &ApiServer) {
    let world = of_first_version(api, "first-version", json!({})).await;
    let pod = pod_uid(&world).await;
    let set = world.model.api::<StatefulSet>().get(STORE).await.expect("read").metadata.generation;
    let running = run(&world);
    settled(&world).await;
    quiet(&world).await;
    assert_eq!((restarts(&world), pod_uid(&world).await), (0, pod.clone()), "{:?}", world.faults.log());
    let now = world.model.api::<StatefulSet>().get(STORE).await.expect("read");
    assert_eq!(now.metadata.generation, set, "its spec was not written");
    assert!(!now.annotations().contains_key("holdfast.dev/desired-hash"), "what restarts nothing is ours");
    let good = world.store().await.and_then(|store| store.status?.last_good_update).expect("what works");
    assert_eq!(good["rendering"], 1);

    // What needs no restart, and the next start of the operator.
    world.change_store(json!({"deletionPolicy": "DeleteVolumes"})).await;
    settled(&world).await;
    drop(running);
    let _running = run(&world);
    settled(&world).await;
    quiet(&world).await;
    assert_eq!((restarts(&world), pod_uid(&world).await), (0, pod));
    assert_eq!(rendering_of_pod(&world).await, None);

    a_change_brings_the_newest_rendering(&world).await;
    let about = ListParams::default().fields("involvedObject.kind=Store,reason=Restarting");
    let events = world.model.api::<k8s_openapi::api::core::v1::Event>().list(&about).await.expect("list");
    let told = events
        .iter()
        .any(|event| event.message.as_ref().is_some_and(|text| text.contains("cannot check one beforehand")));
    assert!(told, "what could not be checked is said");
}

async fn what_the_first_version_made_comes_back_as_it_was(api: &ApiServer) {
    let world = of_first_version(api, "first-version-lost", json!({})).await;
    let _running = run(&world);
    settled(&world).await;
    let pod = pod_uid(&world).await;
    let configs = world.model.api::<ConfigMap>();
    let text = configs.get(&names::config(STORE)).await.expect("read").data;
    world.model.remove::<ConfigMap>(&names::config(STORE)).await;
    until(&world, "the configuration is back", async || {
        configs.get_opt(&names::config(STORE)).await.expect("read").is_some()
    })
    .await;
    assert_eq!(configs.get(&names::config(STORE)).await.expect("read").data, text);
    quiet(&world).await;
    assert_eq!((restarts(&world), pod_uid(&world).await), (0, pod.clone()));
    world.model.remove::<Pod>(&names::pod(STORE)).await;
    until(&world, "another pod is there", async || {
        let now = pod_uid(&world).await;
        now.is_some() && now != pod
    })
    .await;
    settled(&world).await;
    quiet(&world).await;
    assert_eq!((restarts(&world), rendering_of_pod(&world).await), (0, None), "a drain is no update");
}

async fn a_failed_update_goes_back_to_the_rendering_that_worked(api: &ApiServer) {
    let spec = json!({"updateStrategy": {"readyTimeoutSeconds": 10}});
    let world = of_first_version(api, "first-version-failed", spec).await;
    let _running = run(&world);
    settled(&world).await;
    let image = image_of_pod(&world).await;
    world.change_store(json!({"image": format!("test/{}:2", model::BROKEN_IMAGE)})).await;
    until(&world, "the update is taken back", async || {
        reason_of(&world, kind::STALLED).await == "UpdateRolledBack"
    })
    .await;
    until(&world, "the Store serves again", async || world.model.served_writes().is_some()).await;
    quiet(&world).await;
    assert_eq!((restarts(&world), image_of_pod(&world).await), (2, image));
    assert_eq!(rendering_of_pod(&world).await, None, "to the letter");
}

async fn what_a_later_version_made_is_left_alone_until_the_spec_changes(api: &ApiServer) {
    let world = World::new(api, "later-version", Mode::Off, 0).await;
    world.create_store(json!({})).await;
    let running = run(&world);
    settled(&world).await;
    drop(running);
    let mut later = built(&world, Rendering::CURRENT).await;
    let text = later.config.data.as_mut().expect("data").get_mut(names::CONFIG_KEY).expect("a file");
    text.push_str("directive-of-tomorrow yes\n");
    let template = &mut later.stateful_set.spec.template;
    template.spec.as_mut().expect("a spec").hostname = Some("tomorrow".into());
    template.metadata.as_mut().expect("metadata").annotations.as_mut().expect("annotations").extend([
        (names::key::RENDERING.to_owned(), "3000".to_owned()),
        (names::key::CONFIG_SHA256.to_owned(), sha256_hex(text.as_bytes())),
        (names::key::TEMPLATE_HASH.to_owned(), "later".to_owned()),
    ]);
    leave(&world, later, |status| status["lastGoodUpdate"]["rendering"] = json!(3000)).await;
    let pod = pod_uid(&world).await;
    let _running = run(&world);
    settled(&world).await;
    quiet(&world).await;
    assert_eq!((restarts(&world), pod_uid(&world).await), (0, pod), "{:?}", world.faults.log());
    let config = world.model.api::<ConfigMap>().get(&names::config(STORE)).await.expect("read");
    assert!(format!("{:?}", config.data).contains("directive-of-tomorrow"), "nor is it written");

    a_change_brings_the_newest_rendering(&world).await;
}
