//! What must not be done to a Store although its spec, a fault or somebody's hand seems to ask for it.

use super::*;

pub(super) fn hazards(text: &mut String) {
    silence(text);
    unusable_secret(text);
    overtaken(text);
    done_restarts(text);
    edited_epochs(text);
    wrong_backups(text);
    several_stalls(text);
}

fn server(scene: &mut Scene) -> &mut ServerStatus {
    match &mut scene.facts.server {
        ServerFact::Status(server) => server,
        other => panic!("no server answers: {other:?}"),
    }
}

/// Under `Never` a restart needs a snapshot, and nobody can be asked for one.
fn silence(text: &mut String) {
    let mut scene = Scene::serving(", persistence: {strategy: Never}", 4);
    server(&mut scene).last_offset = 12;
    scene.store.status.get_or_insert_default().persistence = Some(from_json(json!({
        "desired": "Never", "effective": "Never", "configurationCurrent": true,
    })));
    scene.store.spec.persistence.strategy = Strategy::EverySecond;
    let mut scene = scene.settle_objects();
    scene.step();
    let silent = ServerFact::Unreachable("no answer within 3 s".into());
    let answers = std::mem::replace(&mut scene.facts.server, silent);
    scene.describe("under Never a server that does not answer keeps its pod", text);
    scene.facts.server = ServerFact::Unauthorized("the server refuses the token".into());
    scene.describe("one that refuses the token needs a person", text);
    scene.facts.server = answers;
    let restart = scene.store.status.get_or_insert_default().last_pod_restart.as_mut();
    restart.expect("a restart is recorded").offset = None;
    scene.describe("a restart that was recorded while nobody answered is recorded again", text);
    scene.step();
    assert_eq!(scene.decide().plan.step, Some(Step::SaveSnapshot), "then its snapshot is written");
}

fn empty_password(scene: &mut Scene) {
    let auth = scene.facts.children.auth.as_mut().expect("a Secret");
    auth.data.get_or_insert_default().insert(names::PASSWORD_KEY.into(), ByteString(Vec::new()));
}

fn unusable_secret(text: &mut String) {
    let mut scene = Scene::serving("", 4);
    scene.store.spec.image = Some("server:2".into());
    empty_password(&mut scene);
    let mut scene = scene.settle_objects();
    scene.describe("a server that would start without its password is not updated", text);
    scene.expect_applied(IMAGE, None);
    scene.facts.backups = vec![backup("nightly", json!({}))];
    scene.describe("nor restarted for a backup", text);
}

/// A spec that changes again while the update before it is under way.
fn overtaken(text: &mut String) {
    let mut scene = Scene::serving("", 4);
    scene.store.spec.image = Some("server:2".into());
    let mut scene = scene.settle();
    scene.serve(ServerState::Loading, 4);
    scene.store.spec.config = vec!["hz abc".into()];
    let message = "argument couldn't be parsed into an integer".to_owned();
    scene.facts.config_check = Some(ConfigCheck { problems: vec![ConfigProblem { line: None, message }] });
    scene.at(300);
    scene.step();
    let scene = scene.settle_objects();
    scene.describe("a bad line does not end the update that is under way", text);
    scene.expect_applied("server:2", None);

    let mut scene = Scene::serving(", updateStrategy: {type: Supervised}", 4);
    scene.store.spec.image = Some("server:2".into());
    let name = scene.valid().update.name();
    scene.store.metadata.annotations = Some([(names::key::APPROVE_UPDATE.to_owned(), name)].into());
    let mut scene = scene.settle();
    scene.serve(ServerState::Loading, 4);
    scene.store.spec.config = vec!["hz 20".into()];
    let mut scene = scene.settle_objects();
    scene.describe("nor does a change that waits for its approval", text);
    scene.expect_applied("server:2", None);
    scene.fail_to_start();
    scene.at(600);
    let scene = scene.settle_objects();
    scene.describe("one that has had its time gives way to what worked", text);
    scene.expect_applied(IMAGE, None);

    let mut scene = Scene::serving(", updateStrategy: {type: Supervised}", 4);
    scene.store.spec.image = Some("server:2".into());
    let persistence = json!({"desired": "EverySecond", "configurationCurrent": true, "formatVersion": 2});
    scene.store.status.get_or_insert_default().persistence = Some(from_json(persistence));
    scene.drain();
    scene.at(9_999);
    scene.describe("what worked before does not come back over files that it cannot read", text);
}

fn done_restarts(text: &mut String) {
    let mut scene = Scene::serving("", 4);
    scene.change_password();
    let mut scene = scene.settle();
    scene.serve(ServerState::Ready, 4);
    scene.facts.pod.as_mut().expect("a pod").metadata.uid = Some("uid-pod-2".into());
    scene.describe("that a restart has done its work is noted", text);
    let mut scene = scene.settle_objects();
    // Another pod, whoever made it, is not what the restart came to.
    let pod = scene.facts.pod.as_mut().expect("a pod");
    pod.metadata.uid = Some("uid-pod-3".into());
    pod.metadata.annotations.get_or_insert_default().insert(names::key::TEMPLATE_HASH.into(), "older".into());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert("controller-revision-hash".into(), "orders-older".into());
    scene.describe("so that the same one later is no repetition", text);
}

fn edited_epochs(text: &mut String) {
    let mut scene = Scene::serving("", 4);
    scene.store.status.get_or_insert_default().epoch = Some(99);
    scene.describe("an epoch that somebody wrote into the status is not written into the record", text);
    let accept = [(names::key::ACCEPT_EPOCH.to_owned(), "4".to_owned())];
    scene.store.metadata.annotations = Some(accept.into());
    scene.describe("a person says that what is served is right", text);
}

fn wrong_backups(text: &mut String) {
    let mut scene = Scene::new(", bootstrap: {restore: {backupRef: {name: friday}}}");
    scene.store.status.get_or_insert_default().store_id = Some(STORE_ID.into());
    scene.facts.source = SourceFact::Backup(Box::new(done_backup()));
    let mut scene = scene.with_location().settle();
    scene.serve(ServerState::AwaitingRecord, 4);
    let parent = json!({
        "storeID": OTHER_ID, "epoch": 3, "offset": 50,
        "backupPath": format!("{OTHER_ID}/backups/20260101T030405Z-000003-00000000000000000050"),
    });
    server(&mut scene).identity.as_mut().expect("an identity").parent = Some(from_json(parent));
    scene.describe("a first volume that another backup has filled is not taken for the right one", text);

    let mut scene = Scene::serving(RESTORE, 4).lose_volume();
    scene.facts.latest_backup = Some(Ok(Some(latest(4))));
    scene.step();
    scene.hold(reason::RESTORE_FAILED, "the backup is damaged; choose another backup");
    let mut scene = scene.settle_objects();
    scene.describe("a restore that fails needs a person", text);
    let mut halted = scene.copy();
    halted.store.spec.recovery = Default::default();
    halted.describe("who may give it up", text);
    scene.facts.latest_backup = Some(Ok(Some(latest(3))));
    scene.describe("or remove the backup, so that another one is the newest", text);
}

fn several_stalls(text: &mut String) {
    let mut scene = Scene::new(", backup: {locationRef: {name: offsite}}");
    scene.facts.locations.insert("offsite".into(), None);
    let mut scene = scene.start(4);
    empty_password(&mut scene);
    scene.describe("of several problems the harmless one does not hide the others", text);

    let windows = ", maintenanceWindows: [{name: night, schedule: '0 3 * * *', durationSeconds: 3600, timeZone: Europe/Berlin}]";
    let mut scene = Scene::serving(windows, 4);
    scene.store.spec.image = Some("server:2".into());
    scene.facts.server = ServerFact::Absent;
    scene.facts.pod.as_mut().expect("a pod").status = Some(from_json(json!({"containerStatuses": [{
        "name": "server", "image": IMAGE, "imageID": "", "ready": false, "restartCount": 7,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
    }]})));
    scene.describe("and one that waits for a window hides no pod that fails", text);
}
