//! An update that waits, is refused or is taken back leaves nothing behind that a pod could come up with.

use super::*;

/// What an update waits for before it begins, and what becomes of it then.
pub(super) fn gates(text: &mut String) {
    turns(text);
    refusals(text);
    starts(text);
    failures(text);
}

/// The Store that is to get another image.
fn updated(spec: &str) -> Scene {
    let mut scene = Scene::serving(spec, 4);
    scene.store.spec.image = Some("server:2".into());
    scene
}

fn others_restart() -> Turn {
    Turn { others_restart: true, failed_with_image: None }
}

fn turns(text: &mut String) {
    let mut scene = updated("");
    scene.facts.turn = others_restart();
    let mut scene = scene.settle_objects();
    scene.describe("an update waits for its turn, and nothing of it is applied", text);
    let mut drained = scene.copy();
    drained.drain();
    let drained = drained.settle_objects();
    drained.expect_applied(IMAGE, None);
    drained.describe("a pod that dies meanwhile comes back as it was", text);
    scene.facts.turn = Turn { others_restart: false, failed_with_image: Some("shop/a".into()) };
    let scene = scene.settle_objects();
    scene.describe("so does an update to an image with which another Store did not become ready", text);
    let mut drained = scene.copy();
    drained.drain();
    drained.at(86_400);
    drained.unready_since(0);
    drained.settle_objects().expect_applied(IMAGE, None);
    let mut scene = scene;
    scene.facts.turn = Turn::default();
    scene.describe("when its turn comes, it begins", text);
    scene.step();
    let mut scene = scene.settle_objects();
    scene.expect_applied("server:2", None);
    scene.facts.turn = others_restart();
    let mut earlier = scene.copy();
    scene.describe("one that has begun and loses its turn before the restart has not begun", text);
    scene.settle_objects().expect_applied(IMAGE, None);
    // An earlier version recorded the restart, and waited with the template applied.
    let status = earlier.store.status.get_or_insert_default();
    let update = status.started_update.take().expect("it has begun").update;
    let target = earlier.facts.children.stateful_set.as_ref().expect("a StatefulSet").status.clone();
    let target = target.and_then(|status| status.update_revision).expect("a revision");
    status.last_pod_restart = Some(from_json(json!({
        "cause": "Template", "target": target, "podUID": "uid-pod", "update": update, "count": 1, "offset": 0,
        "startTime": "1970-01-01T00:00:00Z",
    })));
    earlier.describe("nor has one that an earlier version of the operator left in the StatefulSet", text);
    earlier.settle_objects().expect_applied(IMAGE, None);

    let mut scene = Scene::serving("", 4);
    scene.change_password();
    scene.facts.turn = others_restart();
    let scene = scene.settle_objects();
    scene.describe("a restart without an update waits for its turn, too", text);
    assert!(scene.store.status.as_ref().is_some_and(|status| status.last_pod_restart.is_none()));

    let mut scene = updated("");
    scene.facts.backups = vec![backup("nightly", json!({"startTime": "2026-01-02T03:04:05Z"}))];
    scene.describe("an update begins when the running backup has ended", text);
}

fn refusals(text: &mut String) {
    let mut scene = updated("");
    scene.facts.trial = Some(Trial::Refused("no PriorityClass with name nope was found".into()));
    let mut scene = scene.settle_objects();
    scene.describe("a pod that the API refuses is not applied", text);
    scene.drain();
    scene.at(86_400);
    scene.unready_since(0);
    scene.settle_objects().expect_applied(IMAGE, None);
    let mut scene = updated("");
    scene.facts.trial = Some(Trial::Failed("etcd is away".into()));
    scene.describe("nor is one that could not be tried", text);

    let mut scene = updated("");
    scene.drain();
    scene.describe("while the pod is on its way, an update waits for it", text);
    scene.at(599);
    scene.unready_since(0);
    assert_eq!(scene.decide().plan.step, None, "it has its time");
    scene.at(600).describe("one that does not come back has nothing to wait for", text);

    let mut scene = updated("");
    scene.facts.server = ServerFact::Unreachable("no answer within 3 s".into());
    scene.describe("and so it does while the server does not answer, for nobody can be asked", text);
}

/// When an update has begun, and when not.
fn starts(text: &mut String) {
    let windows = ", maintenanceWindows: [{name: night, schedule: '0 3 * * *', durationSeconds: 3600, timeZone: Europe/Berlin}]";
    let mut scene = updated(windows);
    scene.at(2 * 3600);
    scene.facts.turn = others_restart();
    let mut scene = scene.settle_objects();
    scene.at(9 * 3600).describe("who has waited through the window waits for the next", text);
    let mut scene = updated(windows);
    scene.at(2 * 3600);
    scene.step();
    let mut scene = scene.settle_objects();
    assert!(scene.store.status.as_ref().is_some_and(|status| status.started_update.is_some()));
    scene.store.spec.image = None;
    let mut scene = scene.settle_objects();
    scene.expect_applied(IMAGE, None);
    scene.store.spec.image = Some("server:2".into());
    scene.at(9 * 3600).describe("one that was taken back by its author has to wait again", text);

    let mut scene = Scene::serving(", persistence: {strategy: Never}", 4);
    if let ServerFact::Status(server) = &mut scene.facts.server {
        server.last_offset = 12;
        server.last_snapshot = None;
    }
    scene.store.spec.persistence.strategy = Strategy::EverySecond;
    let mut scene = scene.settle_objects();
    scene.step();
    scene.step();
    if let ServerFact::Status(server) = &mut scene.facts.server {
        server.last_offset = 99;
    }
    let mut late = scene.copy();
    late.at(3_600)
        .describe("a snapshot that was written long before the restart is not enough under Never", text);
    scene.at(60).describe("one that was written a moment ago is", text);
}

/// What has failed, and is or is not taken back.
fn failures(text: &mut String) {
    let timeout = ", updateStrategy: {readyTimeoutSeconds: 60}";
    let mut scene = updated(timeout);
    scene.at(0);
    let mut scene = scene.settle();
    scene.at(100).unready_since(0);
    scene.step();
    let mut scene = scene.settle_objects();
    scene.serve(ServerState::Ready, 4);
    let mut scene = scene.settle_objects();
    scene.expect_applied(IMAGE, None);
    assert!(scene.store.status.as_ref().is_some_and(|status| status.last_pod_restart.is_none()));
    scene.store.spec.update_strategy.ready_timeout_seconds = Some(90);
    let mut scene = scene.settle_objects();
    scene.describe("one that could not be made is tried again as the condition says", text);
    scene.step();
    assert!(matches!(scene.decide().plan.step, Some(Step::RestartPod { .. })), "no RestartIneffective");

    let mut scene = Scene::serving(timeout, 4);
    scene.store.status.get_or_insert_default().last_good_update.as_mut().expect("it works")["rendering"] =
        json!(3000);
    scene.change_password();
    let mut scene = scene.settle();
    scene.fail_to_start();
    scene.at(60).describe("what this version cannot bring back is said once and not recorded", text);

    let mut scene = Scene::serving(", updateStrategy: {type: Supervised}", 4);
    let good = scene.store.status.get_or_insert_default().last_good_update.as_mut().expect("it works");
    good["config"] = json!(["dir /elsewhere"]);
    scene.store.spec.image = Some("server:2".into());
    let scene = scene.settle_objects();
    scene.describe(
        "what worked before breaks a rule by now: the update waits for its approval all the same",
        text,
    );
    scene.expect_applied(IMAGE, None);

    let mut scene = Scene::serving(timeout, 4);
    let mut other = scene.valid().update;
    other.image = "server:9".into();
    scene.store.status.get_or_insert_default().failed_update = Some(from_json(json!({
        "update": other.name(), "readyTimeoutSeconds": 60, "reason": "PodNotReady", "message": "", "time": "1970-01-01T00:00:00Z",
    })));
    scene.store.status.get_or_insert_default().last_good_update.as_mut().expect("it works")["config"] =
        json!(["dir /elsewhere"]);
    scene.store.spec.image = Some("server:9".into());
    scene.describe("nor is it taken back to what this version would refuse", text);
}
