//! The operator is of another version than the one that has made the pod.

use holdfast_operator::reconcile::build::{
    Desired, Inputs, build, sha256_hex, stateful_set::mounted_locations,
};
use holdfast_operator::reconcile::build::{Kept, MountedLocation};
use holdfast_operator::reconcile::plan::auth_revision;
use holdfast_operator::reconcile::plan::identity::Known;

use super::*;

/// Number of a rendering that this version does not know.
const NEWER: &str = "3000";

impl Scene {
    pub(super) fn change_password(&mut self) {
        let auth = self.facts.children.auth.as_mut().expect("a Secret");
        let data = auth.data.as_mut().expect("data");
        data.insert(names::PASSWORD_KEY.into(), ByteString("another".into()));
    }

    /// What the Store's spec, as it is in `valid`, yields in `rendering`.
    pub(super) fn built(&self, valid: &ValidatedStore, rendering: Rendering) -> Desired {
        let live = self.facts.children.stateful_set.as_ref().expect("a StatefulSet");
        let locations = mounted_locations(live).into_iter();
        let inputs = Inputs {
            rendering,
            kept: None::<Kept>,
            record: self.decide().known.as_ref().map(Known::record),
            auth_revision: auth_revision(&self.facts),
            locations: locations.map(|(name, secret)| MountedLocation { name, secret }).collect(),
            claim_templates: live.spec.volume_claim_templates.clone(),
        };
        build(valid, &inputs)
    }

    /// `desired` is applied, and the pod runs with it.
    pub(super) fn runs(&mut self, desired: &Desired) {
        let decision = Decision { desired: Some(desired.clone()), ..Decision::default() };
        self.act(&Step::Apply(vec![ChildKind::Config, ChildKind::StatefulSet]), &decision);
        self.serve(ServerState::Ready, 4);
    }

    /// As v0.1.0 has left it: the first rendering, and nothing in the status that it does not know.
    fn of_first_version(spec: &str) -> Self {
        let mut scene = Self::serving(spec, 4);
        let first = scene.built(&scene.valid(), Rendering::FIRST);
        scene.runs(&first);
        let status = scene.store.status.get_or_insert_default();
        (status.last_good_update, status.last_pod_restart) = (None, None);
        scene.speaks_first_contract();
        scene
    }

    fn speaks_first_contract(&mut self) {
        if let ServerFact::Status(server) = &mut self.facts.server {
            (server.contract_version, server.version) = (1, "0.1.0".into());
        }
    }

    /// As a later version has left it: with a template and a configuration that this one cannot write.
    fn of_later_version(spec: &str) -> Self {
        let mut scene = Self::serving(spec, 4);
        let mut later = scene.built(&scene.valid(), Rendering::CURRENT);
        let text =
            later.config.data.as_mut().expect("data").get_mut(names::CONFIG_KEY).expect("a configuration");
        text.push_str("directive-of-tomorrow yes\n");
        later.config_sha256 = sha256_hex(text.as_bytes());
        later.template_hash = "later".into();
        let template = &mut later.stateful_set.spec.template;
        template.spec.as_mut().expect("a spec").hostname = Some("tomorrow".into());
        let annotations = template.metadata.as_mut().expect("metadata").annotations.as_mut().expect("a map");
        annotations.insert(names::key::RENDERING.into(), NEWER.into());
        annotations.insert(names::key::CONFIG_SHA256.into(), later.config_sha256.clone());
        annotations.insert(names::key::TEMPLATE_HASH.into(), later.template_hash.clone());
        scene.runs(&later);
        let status = scene.store.status.get_or_insert_default();
        let good = status.last_good_update.as_mut().expect("a good update");
        good["rendering"] = json!(3000);
        good["fieldOfTomorrow"] = json!(true);
        scene
    }

    #[track_caller]
    fn expect_renderings(&self, template: &str, pod: &str) {
        let of = |annotations: Option<&BTreeMap<String, String>>| {
            let named = annotations.and_then(|annotations| annotations.get(names::key::RENDERING));
            named.map_or_else(|| "1".to_owned(), String::clone)
        };
        let set = self.facts.children.stateful_set.as_ref().expect("a StatefulSet");
        let applied = set.spec.template.metadata.as_ref().and_then(|metadata| metadata.annotations.as_ref());
        let running = self
            .facts
            .pod
            .as_ref()
            .map_or_else(|| "none".into(), |pod| of(pod.metadata.annotations.as_ref()));
        assert_eq!(
            (of(applied).as_str(), running.as_str()),
            (template, pod),
            "renderings of template and pod"
        );
        let text = serde_json::to_value(&self.facts.children.config).expect("JSON");
        let text = text["data"][names::CONFIG_KEY].as_str().expect("a configuration");
        let sha256 = applied.expect("annotations").get(names::key::CONFIG_SHA256);
        assert_eq!(sha256, Some(&sha256_hex(text.as_bytes())), "the configuration is that of the template");
    }

    /// The configuration has this policy, and the server runs with that configuration.
    #[track_caller]
    fn expect_eviction_policy(&self, word: &str) {
        let data = self.facts.children.config.as_ref().and_then(|config| config.data.as_ref());
        let text = &data.expect("data")[names::CONFIG_KEY];
        let line = format!("maxmemory-policy {word}");
        assert!(text.lines().any(|found| found == line), "the configuration lacks {line:?}:\n{text}");
        let server = self.facts.server.status().expect("a server");
        assert_eq!(server.config_sha256, sha256_hex(text.as_bytes()), "the server runs with it");
    }

    /// All steps are taken, the pod's restart too, and its server is ready with what it was made from.
    fn restarted(self) -> Self {
        let mut scene = self.settle();
        assert!(scene.facts.pod.is_none(), "the pod was to be restarted");
        scene.serve(ServerState::Ready, 4);
        scene.settle_objects()
    }
}

pub(super) fn upgrades(text: &mut String) {
    from_first_version(text);
    eviction(text);
    rollbacks(text);
    from_later_version(text);
}

/// v0.1.0 → this version.
fn from_first_version(text: &mut String) {
    let scene = Scene::of_first_version("");
    scene.describe("the operator is a new version: it records what works", text);
    let scene = scene.settle_objects();
    scene.describe("and restarts nothing, although it renders differently now", text);
    scene.expect_renderings("1", "1");

    let mut lost = Scene { store: scene.store.clone(), facts: scene.facts.clone(), now: scene.now };
    lost.facts.children.config = None;
    lost.facts.children.stateful_set = None;
    // `kubectl delete --cascade=orphan`.
    lost.facts.pod.as_mut().expect("a pod").metadata.owner_references = None;
    lost.describe("objects that are gone come back as the pod was made", text);
    let lost = lost.settle_objects();
    lost.expect_renderings("1", "1");

    let mut drained = Scene { store: scene.store.clone(), facts: scene.facts.clone(), now: scene.now };
    (drained.facts.pod, drained.facts.server) = (None, ServerFact::Absent);
    let mut drained = drained.settle();
    drained.serve(ServerState::Ready, 4);
    drained.describe("a pod that somebody takes away comes back as it was", text);
    drained.expect_renderings("1", "1");

    let mut located = Scene { store: scene.store.clone(), facts: scene.facts.clone(), now: scene.now };
    located.store.spec.backup = Some(from_json(json!({"locationRef": {"name": "offsite"}})));
    let located = located.settle_objects();
    located.describe("nor does what needs no restart bring another rendering", text);
    located.expect_renderings("1", "1");

    let mut changed = scene;
    changed.store.spec.config = vec!["hz 20".into()];
    changed.describe("then the spec changes", text);
    let mut changed = changed.settle_objects();
    changed.speaks_first_contract();
    changed.describe(
        "and the one restart for it brings the new rendering; an old server cannot check it before",
        text,
    );
    changed.expect_renderings("2", "1");
    let mut undone = Scene { store: changed.store.clone(), facts: changed.facts.clone(), now: changed.now };
    undone.store.spec.config.clear();
    let undone = undone.settle_objects();
    undone.describe("a change that is undone before the restart needs none", text);
    undone.expect_renderings("1", "1");
    let changed = changed.restarted();
    changed.describe("once", text);
    changed.expect_renderings("2", "2");

    let mut image = Scene::of_first_version("");
    image.store.spec.image = Some("server:2".into());
    image.describe("a new default image comes with the new operator: what works is recorded first", text);
    let image = image.restarted();
    image.describe("then the image and the rendering come in one restart", text);
    image.expect_renderings("2", "2");

    let mut waits = Scene::of_first_version(", updateStrategy: {type: Supervised}");
    waits.store.spec.image = Some("server:2".into());
    let mut waits = waits.settle_objects();
    waits.describe("or wait for an approval", text);
    waits.expect_renderings("1", "1");
    waits.change_password();
    let waits = waits.restarted();
    waits.expect_renderings("2", "2");
    waits.describe("another password needs a restart of its own, and that brings the rendering", text);
}

/// A server that cannot evict is sent no policy, and is not restarted for one.
fn eviction(text: &mut String) {
    let policy = |word: &str| Some(from_json(json!({"maxMemory": "64Mi", "evictionPolicy": word})));
    let mut old = Scene::of_first_version("").settle_objects();
    old.store.spec.memory = policy("AllKeysLRU");
    let mut old = old.settle_objects();
    old.describe("a server of v0.1.0 is not restarted for an eviction policy that it does not know", text);
    old.expect_renderings("1", "1");
    old.store.spec.image = Some("server:2".into());
    let old = old.restarted();
    old.describe("the policy takes effect with a later image", text);
    old.expect_eviction_policy("allkeys-lru");

    let mut none = Scene::of_first_version("").settle_objects();
    none.store.spec.memory = policy("NoEviction");
    let none = none.restarted();
    none.expect_eviction_policy("noeviction");

    for rendering in Rendering::known() {
        let mut scene = Scene::serving("", 4);
        let former = scene.built(&scene.valid(), rendering);
        scene.runs(&former);
        scene.store.spec.memory = policy("VolatileTTL");
        let scene = scene.restarted();
        scene.expect_eviction_policy("volatile-ttl");
    }
}

/// What came with a new rendering does not become ready.
fn rollbacks(text: &mut String) {
    let mut scene = Scene::of_first_version(", updateStrategy: {readyTimeoutSeconds: 60}").settle_objects();
    scene.store.spec.image = Some("typo:1".into());
    let mut scene = scene.settle();
    scene.expect_renderings("2", "none");
    scene.fail_to_start();
    scene.expect_renderings("2", "2");
    scene.at(60);
    let scene = scene.settle();
    assert!(scene.facts.pod.is_none(), "the pod that does not start is deleted");
    let mut scene = scene;
    scene.serve(ServerState::Ready, 4);
    scene.describe("what is taken back has the rendering that worked, too", text);
    scene.expect_renderings("1", "1");

    let mut scene = Scene::of_first_version(", updateStrategy: {readyTimeoutSeconds: 60}").settle_objects();
    scene.change_password();
    let mut scene = scene.settle();
    scene.fail_to_start();
    scene.at(60).describe("a rendering with which nothing but the password changed can fail as well", text);
    let scene = scene.restarted();
    scene.describe("and is taken back", text);
    scene.expect_renderings("1", "1");

    let spec = ", updateStrategy: {readyTimeoutSeconds: 60, type: Supervised}";
    let mut scene = Scene::of_first_version(spec).settle_objects();
    scene.store.spec.image = Some("server:2".into());
    scene.change_password();
    let mut scene = scene.settle();
    scene.fail_to_start();
    scene.at(60);
    let scene = scene.restarted();
    scene.describe("also while an update waits for its approval", text);
    scene.expect_renderings("1", "1");

    let mut scene = Scene::serving(", updateStrategy: {readyTimeoutSeconds: 60}", 4);
    scene.store.spec.image = Some("server:2".into());
    let mut scene = scene.settle();
    scene.serve(ServerState::Loading, 4);
    if let ServerFact::Status(server) = &mut scene.facts.server {
        server.identity.as_mut().expect("an identity").version = 2;
    }
    let seen = status::status(
        &scene.store,
        Some(&scene.valid()),
        &scene.facts,
        &Applied::preview(scene.decide().plan),
        scene.now,
    );
    scene.store.status = Some(seen);
    scene.fail_to_start();
    scene.at(60).describe("what has written files of a newer format is not taken back", text);
    assert!(scene.store.status.as_ref().is_some_and(|status| status.failed_update.is_none()));
}

/// A later version → this one.
fn from_later_version(text: &mut String) {
    let scene = Scene::of_later_version("");
    let scene = scene.settle_objects();
    scene.describe("the operator is set back to this version: what the later one has rendered stays", text);
    scene.expect_renderings(NEWER, NEWER);

    let mut edited = Scene { store: scene.store.clone(), facts: scene.facts.clone(), now: scene.now };
    edited.facts.children.config = None;
    edited.describe("unless it is gone: only its maker could write it again", text);

    let mut changed = scene;
    changed.store.spec.config = vec!["hz 20".into()];
    let changed = changed.settle_objects();
    changed.describe("or the spec changes: then this version renders it", text);
    let changed = changed.restarted();
    changed.expect_renderings("2", "2");
}
