//! Updates that fail, wait for an approval or for a maintenance window.

use super::*;

impl Scene {
    /// The changed pod is there, since the beginning of time, and its image cannot be pulled.
    pub(super) fn fail_to_start(&mut self) {
        self.serve(ServerState::Loading, 4);
        self.facts.server = ServerFact::Absent;
        let pod = self.facts.pod.as_mut().expect("a pod");
        pod.metadata.creation_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        pod.status = Some(from_json(json!({"containerStatuses": [{
            "name": "server", "image": "typo:1", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}},
        }]})));
    }

    /// Whoever looks at the Store knows that nobody is served since then.
    pub(super) fn unready_since(&mut self, second: i64) {
        let time = Timestamp::from_second(second).expect("a time");
        let status = self.store.status.get_or_insert_default();
        status.conditions.retain(|condition| condition.type_ != "Ready");
        status.conditions.push(from_json(json!({
            "type": "Ready", "status": "False", "reason": "PodTerminating", "message": "", "lastTransitionTime": Time(time),
        })));
    }

    pub(super) fn at(&mut self, second: i64) -> &mut Self {
        self.now = Timestamp::from_second(second).expect("a time");
        self
    }
}

/// A change that may fail, and one that needs an approval.
pub(super) fn updates(text: &mut String) {
    let mut scene = Scene::serving(", updateStrategy: {readyTimeoutSeconds: 60}", 4);
    scene.store.spec.image = Some("typo:1".into());
    let mut scene = scene.settle();
    scene.fail_to_start();
    scene.at(59).describe("a changed pod has its time to become ready", text);
    scene.at(60).describe("one that does not is recorded as failed", text);
    let mut loading = Scene { store: scene.store.clone(), facts: scene.facts.clone(), now: scene.now };
    loading.serve(ServerState::Loading, 4);
    loading.describe("but not while it loads", text);
    let mut unchanged = Scene::serving(", updateStrategy: {readyTimeoutSeconds: 60}", 4);
    unchanged.fail_to_start();
    unchanged.at(999).describe("nor when nothing was changed", text);
    let mut drained = Scene::serving("", 4).settle_objects();
    drained.store.status.get_or_insert_default().last_pod_restart =
        scene.store.status.clone().and_then(|it| it.last_pod_restart);
    drained.store.spec.image = Some("server:2".into());
    (drained.facts.pod, drained.facts.server) = (None, ServerFact::Absent);
    drained.at(999_999);
    let drained = drained.settle_objects();
    drained.describe("nor is a pod late that somebody took away before the update began", text);
    let mut queued = Scene::serving(", updateStrategy: {readyTimeoutSeconds: 60}", 4);
    queued.store.spec.image = Some("server:2".into());
    let mut queued = queued.settle();
    assert!(queued.facts.pod.is_none(), "the pod is deleted");
    queued.at(120).describe(
        "nor is one late that went a moment ago, however long its restart has waited for its turn",
        text,
    );
    queued.unready_since(120);
    queued.at(179).describe("its time begins when it goes, not when its restart was decided", text);
    queued.at(180).describe("and ends as for any other", text);
    let decision = scene.decide();
    scene.act(&decision.plan.step.clone().expect("a step"), &decision);
    scene.describe("then what worked before is applied", text);
    let mut scene = scene.settle();
    assert!(scene.facts.pod.is_none(), "the pod that does not start is deleted");
    scene.serve(ServerState::Ready, 4);
    scene.describe("with it the Store serves, and says what is held", text);
    scene.store.spec.deletion_policy = DeletionPolicy::DeleteVolumes;
    let scene = scene.settle_objects();
    scene.describe("what needs no restart goes on", text);
    let Scene { mut store, facts, now } = scene;
    store.spec.update_strategy.ready_timeout_seconds = Some(90);
    let again = Scene { store, facts, now };
    again.describe("with another time it is tried again", text);
    let Scene { mut store, facts, now } = again;
    store.spec.image = None;
    Scene { store, facts, now }.describe("and what the spec said before is no update at all", text);

    let mut scene = Scene::serving(", updateStrategy: {type: Supervised}", 4);
    scene.store.spec.image = Some("server:2".into());
    let mut scene = scene.settle_objects();
    scene.describe("a supervised update waits, and nothing is written for it", text);
    let name = scene.valid().update.name();
    scene.store.metadata.annotations = Some([(names::key::APPROVE_UPDATE.to_owned(), name)].into());
    scene.describe("until it is approved by its name", text);
    scene.store.spec.config = vec!["hz 20".into()];
    scene.describe("which is that of no other", text);

    let windows = ", maintenanceWindows: [{name: night, schedule: '0 3 * * *', durationSeconds: 3600, timeZone: Europe/Berlin}]";
    let mut scene = Scene::serving(windows, 4);
    scene.store.spec.image = Some("server:2".into());
    scene.describe("an update waits for a maintenance window", text);
    scene.at(2 * 3600).describe("in it, it begins", text);
    let mut scene = scene.settle();
    scene.fail_to_start();
    let Scene { store, facts, .. } = scene;
    let mut late = Scene { store, facts, now: Timestamp::from_second(9 * 3600).expect("a time") };
    late.store.spec.update_strategy.ready_timeout_seconds = Some(86_400);
    late.describe("what has begun is finished, also behind the end of the window", text);

    let mut scene = Scene::serving(", updateStrategy: {type: Supervised}", 4);
    let cluster = Defaults { pod_user: PodUser::Cluster, ..crate::defaults::defaults() };
    let before = validate(&scene.store, &cluster, scene.now).expect("a valid Store");
    let desired = scene.built(&before, Rendering::CURRENT);
    scene.runs(&desired);
    scene.store.status.get_or_insert_default().last_good_update = None;
    let decision = scene.decide();
    scene.act(&decision.plan.step.clone().expect("a step"), &decision);
    scene.settle_objects().describe("a changed flag of the operator waits as a changed spec does", text);

    let mut scene = Scene::serving("", 4);
    scene.store.status.get_or_insert_default().last_good_update = None;
    scene.store.spec.image = Some("server:2".into());
    scene.describe("of a pod that an earlier operator made, the image is recorded before it changes", text);
}
