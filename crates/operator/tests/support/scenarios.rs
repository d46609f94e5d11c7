//! Situations that a Store can be in, each as plain facts, and what the pure stages make of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use holdfast_contract::control::{
    CONTRACT_VERSION, ConfigCheck, ConfigProblem, JobReport, ServerState, ServerStatus,
};
use holdfast_contract::identity::Identity;
use holdfast_contract::record::{DecisionKind, DecisionReport, reason};
use holdfast_operator::api::v1alpha1::{
    BackupLocation, DeletionPolicy, Store, StoreBackup, StoreStatus, Strategy,
};
use holdfast_operator::names;
use holdfast_operator::packed::{Keep, Packed, Sample};
use holdfast_operator::reconcile::apply::Applied;
use holdfast_operator::reconcile::build::{secret, server_config};
use holdfast_operator::reconcile::facts::{
    Children, Facts, LatestBackup, LocationProblem, ServerFact, SnapshotFact, SourceFact, Trial, Turn,
};
use holdfast_operator::reconcile::plan::{ChildKind, Plan, Recording, Step};
use holdfast_operator::reconcile::rendering::Rendering;
use holdfast_operator::reconcile::validate::{Defaults, PodUser, ValidatedStore, validate};
use holdfast_operator::reconcile::{Decision, decide, status};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

#[path = "scenarios/deletions.rs"]
pub(crate) mod deletions;
#[path = "scenarios/gates.rs"]
mod gates;
#[path = "scenarios/hazards.rs"]
mod hazards;
#[path = "scenarios/scene.rs"]
mod scene;
#[path = "scenarios/updates.rs"]
mod updates;
#[path = "scenarios/upgrades.rs"]
mod upgrades;

use scene::*;

/// Every situation with what is decided in it.
pub(crate) fn describe_all() -> String {
    let mut text = String::new();
    first_start(&mut text);
    claims(&mut text);
    bootstraps(&mut text);
    status_and_volume(&mut text);
    losses(&mut text);
    changes(&mut text);
    vanishing(&mut text);
    strangers(&mut text);
    restarts(&mut text);
    mounts(&mut text);
    refused(&mut text);
    updates::updates(&mut text);
    gates::gates(&mut text);
    hazards::hazards(&mut text);
    upgrades::upgrades(&mut text);
    text
}

/// Something that the Store needs is being deleted while its pod is to be restarted.
fn vanishing(text: &mut String) {
    let deleted = || Some(Time(Timestamp::UNIX_EPOCH));
    let change = |scene: &mut Scene| scene.store.spec.persistence.strategy = Strategy::Always;

    let mut scene = Scene::serving("", 4);
    scene.facts.claim.as_mut().expect("a claim").metadata.deletion_timestamp = deleted();
    scene.describe("a claim that is being deleted is told of at once", text);
    change(&mut scene);
    let scene = scene.settle_objects();
    scene.describe("and no change of the spec restarts the pod that holds it back", text);

    let mut scene = Scene::serving("", 4);
    let mut dying = claim("claim-2", STORE_ID, STORE_UID, None);
    dying.metadata.deletion_timestamp = deleted();
    scene.facts.claim = Some(dying);
    scene.describe("one that is being deleted is not recorded as the claim that holds the data", text);

    let mut scene = Scene::new("");
    let mut earlier = claim("claim-9", OTHER_ID, "uid-gone", None);
    earlier.metadata.deletion_timestamp = deleted();
    scene.facts.claim = Some(earlier.clone());
    scene.describe("one of an earlier Store is waited for until it is gone", text);
    let mut scene = Scene::new(&format!(", bootstrap: {{adopt: {{storeID: {OTHER_ID}}}}}"));
    scene.store.status.get_or_insert_default().store_id = Some(OTHER_ID.into());
    scene.facts.claim = Some(earlier);
    scene.describe("and not taken up", text);

    for kind in ["StatefulSet", "Secret", "ConfigMap"] {
        let mut scene = Scene::serving("", 4);
        change(&mut scene);
        let mut scene = scene.settle_objects();
        let children = &mut scene.facts.children;
        let metadata = match kind {
            "StatefulSet" => &mut children.stateful_set.as_mut().expect("a StatefulSet").metadata,
            "Secret" => &mut children.auth.as_mut().expect("a Secret").metadata,
            _ => &mut children.config.as_mut().expect("a ConfigMap").metadata,
        };
        metadata.deletion_timestamp = deleted();
        metadata.finalizers = Some(vec!["example.test/held".into()]);
        scene.describe(&format!("nothing restarts while the {kind} is being deleted"), text);
    }

    let mut scene = Scene::new(", bootstrap: {restore: {volumeSnapshotRef: {name: cut}}}");
    scene.store.status.get_or_insert_default().store_id = Some(STORE_ID.into());
    let snapshot = SnapshotFact {
        name: "cut".into(),
        store_id: Some(OTHER_ID.into()),
        epoch: Some(2),
        offset: Some(77),
        ready_to_use: true,
        is_deleting: true,
        ..SnapshotFact::default()
    };
    scene.facts.source = SourceFact::VolumeSnapshot(Some(snapshot.clone()));
    scene.describe("a volume snapshot that is being deleted is no source", text);
    let larger = SnapshotFact { is_deleting: false, restore_bytes: Some(2 << 30), ..snapshot };
    scene.facts.source = SourceFact::VolumeSnapshot(Some(larger));
    scene.describe("nor is one that is larger than the volume", text);
}

/// Objects of the Store's names that are somebody else's.
fn strangers(text: &mut String) {
    let mut scene = Scene::new("");
    scene.facts.pod = Some(from_json(json!({
        "metadata": {"name": "orders-0", "uid": "uid-theirs", "resourceVersion": "3", "labels": {"app": "theirs"}},
    })));
    scene.describe("a pod of somebody else is left alone", text);
    scene.facts.pod = Some(from_json(json!({
        "metadata": {
            "name": "orders-0", "uid": "uid-theirs", "resourceVersion": "3",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "orders", "uid": "uid-other", "controller": true}],
        },
    })));
    scene.describe("also when another StatefulSet of that name runs it", text);

    let mut scene = Scene::serving("", 4);
    scene.facts.pod.as_mut().expect("a pod").metadata.owner_references = None;
    scene.store.spec.persistence.strategy = Strategy::Always;
    scene
        .settle_objects()
        .describe("a pod that was let go is not restarted before it is adopted again", text);
}

/// How a restart comes about, and when it stops.
fn restarts(text: &mut String) {
    let mut scene = Scene::serving("", 4);
    scene.facts.children.service.as_mut().expect("a Service").metadata.managed_fields = None;
    scene.change_password();
    scene.describe("an object that looks stale is applied", text);
    let decision = scene.decide_after(&[ChildKind::Service]);
    scene.describe_decision("one that was so already hides no other", &decision, text);

    let mut scene = Scene::serving("", 4);
    scene.store.spec.persistence.strategy = Strategy::Always;
    let mut scene = scene.settle_objects();
    scene.describe("a restart is recorded before it is done", text);
    let decision = scene.decide();
    scene.act(&decision.plan.step.clone().expect("a step"), &decision);
    scene.describe("then the pod is deleted", text);
    scene.serve(ServerState::Ready, 4);
    let pod = scene.facts.pod.as_mut().expect("a pod");
    pod.metadata.uid = Some("uid-pod-2".into());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(names::key::TEMPLATE_HASH.into(), "older".into());
    pod.metadata
        .labels
        .get_or_insert_default()
        .insert("controller-revision-hash".into(), "orders-theirs".into());
    scene.describe("a pod that comes back as it was is not deleted for the same reason again", text);

    let mut scene = Scene::serving("", 4);
    let pod = scene.facts.pod.as_mut().expect("a pod");
    pod.metadata
        .labels
        .get_or_insert_default()
        .insert("controller-revision-hash".into(), "orders-theirs".into());
    scene.describe("what another manager has put into the template restarts nothing", text);
    scene.facts.backups = vec![backup("nightly", json!({}))];
    scene.describe("also not when a backup is to begin", text);

    let mut scene = Scene::serving(", persistence: {strategy: Never}", 4);
    if let ServerFact::Status(server) = &mut scene.facts.server {
        server.last_offset = 12;
        server.last_snapshot = Some(JobReport { completed_ms: 0, bytes: 1, duration_ms: 1, offset: 5 });
    }
    scene.store.spec.persistence.strategy = Strategy::EverySecond;
    let mut scene = scene.settle_objects();
    let decision = scene.decide();
    scene.act(&decision.plan.step.clone().expect("a step"), &decision);
    scene.describe("under Never a snapshot comes before the restart", text);
    if let ServerFact::Status(server) = &mut scene.facts.server {
        server.last_job_error = Some("no space left on device".into());
    }
    scene.describe("and while it fails the pod stays", text);
    if let ServerFact::Status(server) = &mut scene.facts.server {
        server.last_job_error = None;
    }
    let decision = scene.decide();
    scene.act(&decision.plan.step.clone().expect("a step"), &decision);
    scene.describe("with it the pod restarts", text);

    let mut scene = Scene::serving(", persistence: {strategy: Never, shutdown: {budgetSeconds: 60}}", 4);
    scene.store.spec.persistence.shutdown.as_mut().expect("settings").budget_seconds = Some(600);
    let scene = scene.settle_objects().ready_to_restart();
    scene.describe(
        "the pod that ends has the time that the spec gives it now, not that of its template",
        text,
    );
    let grace = match scene.decide().plan.step {
        Some(Step::RestartPod { grace_seconds, .. }) => grace_seconds,
        step => panic!("no restart: {step:?}"),
    };
    assert_eq!(grace, 600, "the pod was made with 60");
}

/// Credentials of a location that change while nobody needs them.
fn mounts(text: &mut String) {
    let mut scene = Scene::serving(", backup: {locationRef: {name: offsite}}", 4);
    let location = scene.facts.locations.get_mut("offsite").and_then(Option::as_mut).expect("a location");
    location.spec.credentials_secret_ref.name = "other-keys".into();
    let mut scene = scene.settle_objects();
    scene.describe("another Secret of a location restarts no Store that backs nothing up", text);
    scene.facts.backups = vec![backup("nightly", json!({}))];
    scene.describe("the first backup that needs it does", text);

    let mut scene = Scene::new(", backup: {locationRef: {name: offsite}}");
    scene.facts.locations.insert("offsite".into(), None);
    let scene = scene.start(4);
    scene.describe("a Store whose location is missing serves", text);
    let scene = scene.with_location();
    scene.describe("the location is made: it goes into the template", text);
    let mut scene = scene.settle_objects();
    scene.describe("and restarts nothing", text);
    assert_eq!(scene.decide().plan.step, None, "no restart for a location that nobody needs yet");
    scene.facts.backups = vec![backup("nightly", json!({}))];
    scene.describe("before the first backup that needs it", text);
}

/// The default image of the scenes.
const IMAGE: &str = "example.test/holdfast-server:1";

/// What cannot be obeyed takes nothing down.
fn refused(text: &mut String) {
    let bad = "requirepass-fil\"e\" \"\"".to_owned();
    let mut scene = Scene::new("");
    scene.store.spec.config = vec![bad.clone()];
    scene.describe("a new Store with a managed directive in disguise waits", text);
    let mut scene = Scene::serving("", 4);
    scene.store.spec.config = vec![bad];
    scene.describe("a serving one goes on as it is", text);
    scene.facts.children.record = None;
    scene.describe("and its record is kept up", text);

    let mut scene = Scene::serving("", 4);
    scene.store.spec.config = vec!["hz abc".into()];
    let number = server_config::render(&scene.valid(), Rendering::CURRENT).lines().count();
    let message = "argument couldn't be parsed into an integer; hz takes a number from 1 to 500".to_owned();
    let problems = vec![ConfigProblem { line: Some(number), message }];
    scene.facts.config_check = Some(ConfigCheck { problems });
    scene.describe("a line that the running server refuses is recorded", text);
    scene.step();
    let mut scene = scene.settle_objects();
    scene.describe("and takes it not down", text);
    scene.drain();
    scene.at(3_600);
    scene.unready_since(0);
    let mut scene = scene.settle_objects();
    scene.describe("nor does it reach the next pod when this one dies and nobody can be asked", text);
    scene.expect_applied(IMAGE, None);
    scene.store.spec.config = vec!["hz 20".into()];
    scene.describe("a corrected line does at once, when the Store stays away", text);
    let mut scene = scene.settle_objects();
    scene.expect_applied(IMAGE, Some("hz 20"));
    scene.serve(ServerState::Ready, 4);
    assert_eq!(scene.settle().store.status.and_then(|status| status.refused_update), None);

    let mut scene = Scene::serving("", 4);
    scene.facts.server = ServerFact::Absent;
    scene.facts.pod.as_mut().expect("a pod").status = Some(from_json(json!({"initContainerStatuses": [{
        "name": "restore", "image": "i", "imageID": "", "ready": false, "restartCount": 3,
        "state": {"terminated": {"exitCode": 2, "reason": "Error", "message": "line 17: hz takes a number"}},
    }]})));
    scene.describe("an init container that fails says why between its starts, too", text);

    let mut scene = Scene::serving("", 4);
    let record = scene.facts.children.record.as_mut().expect("a record").data.as_mut().expect("data");
    let edited = record["store.json"].replace("\"epoch\": 4", "\"epoch\": 99");
    record.insert("store.json".into(), edited);
    let stale = scene.facts.children.record.as_mut().expect("a record");
    stale.metadata.managed_fields = None;
    scene.describe(
        "an epoch that somebody wrote into the ConfigMap is not believed while the volume is served",
        text,
    );
    scene.hold(reason::STALE_VOLUME, "the volume is older than the record");
    scene.describe("a held volume needs a person", text);
    scene.store.metadata.annotations =
        Some(BTreeMap::from([(names::key::ACCEPT_EPOCH.to_owned(), "4".to_owned())]));
    scene.describe("who says which epoch is right", text);
}

fn first_start(text: &mut String) {
    let mut scene = Scene::new("");
    scene.describe("a new Store gets an id before anything else", text);
    for title in [
        "then a password and a token",
        "then its objects, the StatefulSet not yet",
        "then its claim",
        "the claim is recorded",
        "then the StatefulSet",
        "then the operator waits for the pod",
    ] {
        let decision = scene.decide();
        let step = decision.plan.step.clone().expect("a step");
        scene.act(&step, &decision);
        scene.describe(title, text);
    }
    scene.serve(ServerState::AwaitingRecord, 1);
    scene.describe("the volume is stamped: its epoch goes into the status first", text);
    for title in ["then into the ConfigMap", "then the server is told", "now it serves"] {
        let decision = scene.decide();
        let step = decision.plan.step.clone().expect("a step");
        scene.act(&step, &decision);
        scene.describe(title, text);
    }
}

fn claims(text: &mut String) {
    let mut scene = Scene::new("");
    scene.facts.claim = Some(claim("claim-9", OTHER_ID, "uid-gone", None));
    scene.describe("a claim of an earlier Store of this name is never served and never wiped", text);

    let mut scene = Scene::new(&format!(", bootstrap: {{adopt: {{storeID: {OTHER_ID}}}}}"));
    scene.facts.claim = Some(claim("claim-9", OTHER_ID, "uid-gone", None));
    scene.describe("bootstrap.adopt takes up its id", text);
    let decision = scene.decide();
    scene.act(&decision.plan.step.clone().expect("a step"), &decision);
    scene.describe("and marks the claim", text);

    let mut scene = Scene::new(&format!(", bootstrap: {{adopt: {{storeID: {STORE_ID}}}}}"));
    scene.facts.claim = Some(claim("claim-9", OTHER_ID, "uid-gone", None));
    scene.describe("the wrong id adopts nothing", text);
    scene.facts.claim = None;
    scene.facts.claims_with_store_id = vec!["data-invoices-0".into()];
    scene.describe("a claim of another name is not adopted", text);
    scene.facts.claims_with_store_id.clear();
    scene.describe("there is nothing to adopt", text);

    let mut scene = Scene::new("");
    scene.facts.claim = Some(from_json(json!({"metadata": {"name": "data-orders-0", "uid": "claim-9"}})));
    scene.describe("a claim that somebody made is left alone", text);

    let mut scene = Scene::new("").settle();
    let old = json!([{"apiVersion": "holdfast.dev/v1alpha1", "kind": "Store", "name": "orders", "uid": "uid-gone", "controller": true}]);
    scene.facts.children.service.as_mut().expect("a Service").metadata.owner_references =
        Some(from_json(old));
    scene.describe("children of a deleted Store of the same name must go first", text);
    scene.facts.children.service.as_mut().expect("a Service").metadata.owner_references = None;
    scene.describe("an object that somebody made is not taken over", text);
}

fn bootstraps(text: &mut String) {
    let from_backup = ", bootstrap: {restore: {backupRef: {name: friday}}}";
    let identified = |spec: &str| {
        let mut scene = Scene::new(spec);
        scene.store.status.get_or_insert_default().store_id = Some(STORE_ID.into());
        scene
    };
    let mut scene = identified(from_backup);
    scene.facts.source = SourceFact::BackupMissing;
    scene.describe("the backup to start from is not there", text);
    scene.facts.source = SourceFact::Backup(Box::new(backup("friday", json!({}))));
    scene.describe("the backup to start from still runs", text);
    let unusable = |reason: &str| {
        let mut backup = done_backup();
        let conditions = &mut backup.status.get_or_insert_default().conditions;
        let condition =
            conditions.iter_mut().find(|condition| condition.type_ == "ReadyToUse").expect("a condition");
        (condition.status, condition.reason) = ("False".into(), reason.into());
        backup
    };
    let mut moved = unusable("LocationChanged");
    moved.status.get_or_insert_default().place =
        Some(from_json(json!({"bucket": "former", "prefix": "team/a"})));
    scene.facts.source = SourceFact::Backup(Box::new(moved));
    let moved = scene.with_location();
    moved.describe("the location of the backup names another place now", text);
    let mut scene = identified(from_backup);
    scene.facts.source = SourceFact::Backup(Box::new(unusable("LocationNotFound")));
    scene.describe("the location of the backup is not there", text);
    let mut scene = identified(from_backup);
    scene.facts.source = SourceFact::Backup(Box::new(unusable("BackupMissing")));
    let lost = scene.with_location();
    lost.describe("the backup is not in its bucket any more", text);
    let mut scene = identified(from_backup);
    scene.facts.source = SourceFact::Backup(Box::new(done_backup()));
    let scene = scene.with_location().settle();
    let record =
        &scene.facts.children.record.as_ref().expect("a record").data.as_ref().expect("data")["store.json"];
    let _ = writeln!(text, "# the record of a Store that starts from a backup\n{record}");

    let from_snapshot = ", bootstrap: {restore: {volumeSnapshotRef: {name: cut}}}";
    let mut scene = identified(from_snapshot);
    scene.facts.source = SourceFact::VolumeSnapshotsUnavailable;
    scene.describe("the cluster has no volume snapshots", text);
    let mut snapshot = SnapshotFact { name: "cut".into(), ready_to_use: true, ..SnapshotFact::default() };
    scene.facts.source = SourceFact::VolumeSnapshot(Some(snapshot.clone()));
    scene.describe("a snapshot without labels cannot be checked", text);
    snapshot.store_id = Some(OTHER_ID.into());
    snapshot.epoch = Some(2);
    snapshot.offset = Some(77);
    snapshot.ready_to_use = false;
    scene.facts.source = SourceFact::VolumeSnapshot(Some(snapshot.clone()));
    scene.describe("the snapshot is not ready yet", text);
    snapshot.ready_to_use = true;
    scene.facts.source = SourceFact::VolumeSnapshot(Some(snapshot));
    let mut scene = scene.settle();
    let record =
        &scene.facts.children.record.as_ref().expect("a record").data.as_ref().expect("data")["store.json"];
    let _ = writeln!(text, "# the record of a Store that starts from a volume snapshot\n{record}");
    scene.facts.claim = Some(claim("claim-1", STORE_ID, STORE_UID, None));
    scene.describe("the claim was made from something else", text);
}

fn status_and_volume(text: &mut String) {
    let mut scene = Scene::serving("", 4);
    scene.store.status = None;
    scene.describe("a lost status is filled from the ConfigMap", text);

    let mut scene = Scene::serving("", 4);
    scene.facts.children.record = None;
    scene.describe("a lost ConfigMap is filled from the status", text);

    let mut scene = Scene::serving("", 4);
    scene.store.status = None;
    scene.facts.children.record = None;
    scene.describe("with both lost the claim tells the id", text);

    let mut scene = Scene::serving("", 4);
    scene.serve(ServerState::Ready, 6);
    scene.describe("a volume that is newer than its record is served, and stops what is automatic", text);
    scene.store.metadata.annotations =
        Some(BTreeMap::from([(names::key::ACCEPT_EPOCH.to_owned(), "6".to_owned())]));
    scene.describe("until a person accepts it", text);

    let mut scene = Scene::serving("", 4);
    scene.store.status.get_or_insert_default().store_id = Some(OTHER_ID.into());
    scene.describe("status and ConfigMap name different data", text);
}

fn losses(text: &mut String) {
    Scene::serving("", 4).lose_volume().describe("a lost volume halts the Store by default", text);

    let mut scene = Scene::serving(RESTORE, 4).lose_volume();
    scene.facts.latest_backup = Some(Ok(None));
    scene.describe("a lost volume without any backup halts the Store", text);
    let problem = LocationProblem { reason: "AccessDenied".into(), message: "access denied".into() };
    scene.facts.latest_backup = Some(Err(problem));
    scene.describe("a location that cannot be read halts the Store", text);
    scene.facts.latest_backup = Some(Ok(Some(latest(4))));
    scene.describe("a restore is recorded before it begins", text);
    for title in ["then it goes into the ConfigMap", "then the server is told"] {
        let decision = scene.decide();
        let step = decision.plan.step.clone().expect("a step");
        scene.act(&step, &decision);
        scene.facts.latest_backup = None;
        scene.describe(title, text);
    }
    scene.serve(ServerState::AwaitingRecord, 5);
    scene.describe("the restored volume has the planned epoch", text);
    let scene = scene.settle();
    scene.describe("the restored Store serves", text);

    let mut scene = Scene::serving(RESTORE, 4).lose_volume();
    scene.facts.latest_backup = Some(Ok(Some(latest(4))));
    let decision = scene.decide();
    scene.act(&decision.plan.step.clone().expect("a step"), &decision);
    scene.serve(ServerState::Ready, 4);
    scene.describe("the old volume has come back: nothing is restored", text);

    let mut scene = Scene::serving(RESTORE, 4);
    scene.hold(reason::VOLUME_LOST, "the volume is empty");
    scene.facts.latest_backup = Some(Ok(Some(latest(4))));
    scene.describe("an empty file system on the recorded claim is not restored onto", text);
}

fn changes(text: &mut String) {
    let change = |scene: &mut Scene| {
        scene.store.metadata.generation = Some(2);
        scene.store.spec.persistence.strategy = Strategy::Always;
    };
    let mut scene = Scene::serving("", 1);
    change(&mut scene);
    scene.describe("a change of policy is written first", text);
    let mut scene = scene.settle_objects();
    scene.describe("then the pod restarts, that one and no other", text);
    scene.facts.backups = vec![backup("nightly", json!({"startTime": "2026-01-02T03:04:05Z"}))];
    scene.describe("but not while a backup runs", text);
    let server = std::mem::replace(&mut scene.facts.server, ServerFact::Unauthorized("another token".into()));
    scene.describe("unless the backup cannot go on without the restart", text);
    scene.facts.server = ServerFact::Refused {
        reason: "ServerAnswerInvalid".into(),
        message: "the answer of 10.0.0.1:9181 is not understood".into(),
    };
    scene.describe("a server whose answers are not understood is no reason to end the backup", text);
    scene.facts.server = server;
    scene.facts.backups.clear();
    if let ServerFact::Status(status) = &mut scene.facts.server {
        status.state = ServerState::Restoring;
    }
    scene.describe("and not while a restore runs", text);

    let mut scene = Scene::serving("", 1);
    scene.facts.server = ServerFact::Absent;
    scene.facts.pod.as_mut().expect("a pod").status = Some(from_json(json!({"containerStatuses": [{
        "name": "server", "image": "typo:1", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}},
    }]})));
    scene.describe("an image that cannot be pulled needs a person", text);
    scene.store.spec.image = Some("right:1".into());
    scene.settle_objects().describe("who corrects it, and the pod restarts", text);

    let mut scene = Scene::serving("", 1);
    scene.hold(reason::FOREIGN_VOLUME, "the volume belongs to another Store");
    scene.describe("a server that holds a foreign volume needs a person", text);

    let mut scene = Scene::serving("", 1);
    scene.hold(reason::STORAGE_FAILED, "no space left on device");
    scene.describe("and so does one whose volume is full, although it tries again by itself", text);

    let mut scene = Scene::serving("", 1);
    if let ServerFact::Status(status) = &mut scene.facts.server {
        status.config_sha256 = "older".into();
    }
    scene.describe("a pod that started with an older copy of the configuration restarts", text);

    let mut scene = Scene::serving("", 1);
    let data = BTreeMap::from([(names::TOKEN_KEY.to_owned(), ByteString("t".into()))]);
    scene.facts.children.auth.as_mut().expect("a Secret").data = Some(data);
    scene.describe("an emptied password restarts nothing", text);

    let mut scene = Scene::serving(RESTORE, 1);
    scene.facts.locations.insert("offsite".into(), None);
    scene.describe("a missing location restarts nothing", text);

    let mut scene = Scene::serving("", 1);
    scene.store.spec.deletion_policy = DeletionPolicy::DeleteVolumes;
    scene.describe("DeleteVolumes sets the finalizer", text);
}
