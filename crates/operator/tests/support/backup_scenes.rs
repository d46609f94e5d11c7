//! Situations that a StoreBackup can be in, each as plain facts, and what the pure stages make of them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use holdfast_contract::bucket::DatasetSummary;
use holdfast_contract::control::{BackupPhase, BackupProgress, Barrier, ServerState, backup_reason};
use holdfast_operator::api::v1alpha1::{StoreBackup, StoreBackupStatus};
use holdfast_operator::backup::facts::{Facts, Presence, SnapshotFact};
use holdfast_operator::backup::plan::{Obstacle, Outcome, Plan, Setback};
use holdfast_operator::backup::volume_snapshot::SnapshotState;
use holdfast_operator::names;
use holdfast_operator::pipeline::Kind as _;
use holdfast_operator::server_client::Endpoint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

fn from_json<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

/// A StoreBackup and what is observed of it.
#[derive(Clone)]
struct Scene {
    backup: StoreBackup,
    facts: Facts,
    now: i64,
}

impl Scene {
    /// A backup that was created a moment ago, of a Store that is ready.
    fn new(spec: Value) -> Self {
        let mut wanted = json!({"storeRef": {"name": "orders"}});
        for (key, value) in spec.as_object().into_iter().flatten() {
            wanted[key] = value.clone();
        }
        let backup = from_json(json!({
            "apiVersion": "holdfast.dev/v1alpha1", "kind": "StoreBackup",
            "metadata": {
                "name": "nightly", "namespace": "shop", "uid": "uid-backup", "generation": 1,
                "creationTimestamp": "1970-01-01T00:00:00Z",
            },
            "spec": wanted,
        }));
        let mut scene = Self { backup, facts: Facts::default(), now: 0 };
        scene.store(json!({}));
        scene.location("archive");
        scene.serve();
        scene
    }

    fn snapshot() -> Self {
        Self::new(json!({}))
    }

    fn volume_snapshot() -> Self {
        Self::new(json!({"method": "VolumeSnapshot", "volumeSnapshotClassName": "fast"}))
    }

    /// The Store is ready, but for these conditions, and these other fields of its spec.
    fn store(&mut self, spec: Value) {
        let mut wanted = json!({"backup": {"locationRef": {"name": "offsite"}}});
        for (key, value) in spec.as_object().into_iter().flatten() {
            wanted[key] = value.clone();
        }
        self.facts.store = Some(from_json(json!({
            "apiVersion": "holdfast.dev/v1alpha1", "kind": "Store",
            "metadata": {"name": "orders", "namespace": "shop", "uid": "uid-store", "generation": 1},
            "spec": wanted,
            "status": {
                "observedGeneration": 1, "storeID": "0b7c1d2e-0000-4000-8000-000000000001",
                "persistence": {"desired": "EverySecond", "configurationCurrent": true},
                "conditions": [condition("Ready", "True", "Serving", ""), condition("Reconciling", "False", "Settled", "")],
            },
        })));
    }

    fn store_condition(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let store = self.facts.store.as_mut().expect("a Store");
        let conditions = &mut store.status.get_or_insert_default().conditions;
        conditions.retain(|condition| condition.type_ != kind);
        conditions.push(from_json(condition(kind, status, reason, message)));
    }

    fn location(&mut self, bucket: &str) {
        self.facts.location = Some(from_json(json!({
            "apiVersion": "holdfast.dev/v1alpha1", "kind": "BackupLocation",
            "metadata": {"name": "offsite", "namespace": "shop"},
            "spec": {"s3": {"bucket": bucket, "endpoint": "http://s3.test:9000"}, "credentialsSecretRef": {"name": "offsite-keys"}},
        })));
    }

    /// The server runs and is ready.
    fn serve(&mut self) {
        self.facts.pod = Some(from_json(json!({
            "metadata": {"name": "orders-0"},
            "spec": {
                "containers": [{"name": "server"}],
                "volumes": [{"name": "location-offsite", "secret": {"secretName": "offsite-keys"}}],
            },
        })));
        let address = SocketAddr::from(([10, 244, 0, 5], 9181));
        self.facts.endpoint = Some(Endpoint { address, token: "t".into() });
        self.facts.server = Some(Ok(ServerState::Ready));
    }

    /// One look, in which whoever is asked answers with `answer`. The status is written.
    fn look_with(&mut self, title: &str, answer: Option<Outcome>, text: &mut String) {
        let now = at(self.now);
        let valid = self.backup.validate(&crate::defaults::defaults(), now);
        let plan = self.backup.decide(&valid, &self.facts, now);
        let said = match &plan {
            Plan::Upload(request) => format!("Upload {}", serde_json::to_string(request).expect("JSON")),
            Plan::CreateSnapshot(object) => {
                format!("CreateSnapshot {}", serde_json::to_string(object).expect("JSON"))
            }
            plan => format!("{plan:?}"),
        };
        let _ = writeln!(text, "# {title}\nplan:  {said}");
        let done = self.carry_out(plan, answer, text);
        let status = crate::look::describe(&self.backup, &self.facts, done, conditions, now, text);
        self.backup.status = status.or(self.backup.status.take());
    }

    /// One look in which nobody has to be asked.
    fn look(&mut self, title: &str, text: &mut String) {
        self.look_with(title, None, text);
    }

    /// Looks without telling.
    fn pass(&mut self, answer: Option<Outcome>) {
        self.look_with("", answer, &mut String::new());
    }

    fn carry_out(&mut self, plan: Plan, answer: Option<Outcome>, text: &mut String) -> Outcome {
        let mut finalizer = |wanted: bool| {
            let finalizers = wanted.then(|| vec![names::BACKUP_FINALIZER.to_owned()]);
            self.backup.metadata.finalizers = finalizers;
        };
        let set_back = |setback: Setback| match setback {
            Setback::Retry { snapshot, error, .. } => Outcome::Missed(snapshot.name, error),
            Setback::Fail(_, failure) => Outcome::Failed(failure),
        };
        match plan {
            Plan::Say(outcome) => outcome,
            Plan::AddFinalizer => {
                finalizer(true);
                Outcome::FinalizerSet
            }
            Plan::LetGo(_) => {
                finalizer(false);
                if self.backup.metadata.deletion_timestamp.is_some() {
                    Outcome::Rest
                } else {
                    Outcome::FinalizerSet
                }
            }
            Plan::SetBack(setback) => set_back(setback),
            Plan::Prove(proof, otherwise) => match answer.expect("an answer") {
                Outcome::BarrierTaken(_, _, barrier) => {
                    let _ = writeln!(text, "then:  barrier released, expired {}", barrier.expired);
                    if proof.holds(barrier.expired) { Outcome::Proven(proof) } else { set_back(otherwise) }
                }
                other => {
                    let _ = writeln!(text, "then:  {other:?}");
                    if matches!(otherwise, Setback::Fail(..)) { set_back(otherwise) } else { other }
                }
            },
            Plan::Upload(_) | Plan::TakeBarrier(..) | Plan::CreateSnapshot(_) => {
                let outcome = answer.expect("an answer");
                let said = match &outcome {
                    Outcome::Upload(progress) => format!("{:?} {:?}", progress.phase, progress.reason),
                    outcome => format!("{outcome:?}"),
                };
                let _ = writeln!(text, "then:  {said}");
                outcome
            }
        }
    }

    /// A backup that has begun.
    fn begun(mut self) -> Self {
        self.pass(None);
        self.pass(None);
        assert!(self.backup.status.as_ref().is_some_and(|status| status.start_time.is_some()));
        self
    }

    /// A backup whose barrier is held and whose VolumeSnapshot is being cut.
    fn cutting() -> Self {
        let mut scene = Self::volume_snapshot().begun();
        scene.pass(Some(barrier("uid-backup", 1, 10)));
        scene.pass(Some(Outcome::CuttingVolume(None)));
        scene.cut(None, false);
        scene
    }

    /// The VolumeSnapshot is there.
    fn cut(&mut self, second: Option<i64>, ready_to_use: bool) {
        self.facts.snapshot = SnapshotFact::There(SnapshotState {
            uid: Some("uid-cut".into()),
            creation_time: second.map(at),
            ready_to_use,
            restore_bytes: ready_to_use.then_some(1 << 30),
            ..SnapshotState::default()
        });
    }

    fn delete(&mut self) {
        self.backup.metadata.deletion_timestamp = Some(Time(at(self.now)));
    }
}

fn conditions(status: &StoreBackupStatus) -> &[Condition] {
    &status.conditions
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    })
}

fn progress(phase: BackupPhase) -> BackupProgress {
    BackupProgress {
        id: "uid-backup".into(),
        phase,
        reason: None,
        message: None,
        backup_path: Some("0b7c1d2e/backups/19700101T000010Z-000001".into()),
        uploaded_bytes: 0,
        total_bytes: 2048,
        epoch: 1,
        offset: 77,
        dataset: (phase == BackupPhase::Succeeded).then(|| DatasetSummary {
            keys: 12,
            digest: "d1".into(),
            ..DatasetSummary::default()
        }),
        started_ms: 1000,
        completed_ms: None,
    }
}

fn upload(phase: BackupPhase) -> Option<Outcome> {
    Some(Outcome::Upload(Box::new(progress(phase))))
}

fn failed_upload(reason: &str, message: &str) -> Option<Outcome> {
    let failed = BackupProgress {
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..progress(BackupPhase::Failed)
    };
    Some(Outcome::Upload(Box::new(failed)))
}

fn barrier(token: &str, attempt: u32, taken: u64) -> Outcome {
    let barrier = Barrier {
        token: token.to_owned(),
        store_id: "0b7c1d2e-0000-4000-8000-000000000001".into(),
        epoch: 1,
        offset: 77,
        taken_ms: taken * 1000,
        expires_ms: (taken + 120) * 1000,
        released_ms: None,
        expired: false,
    };
    Outcome::BarrierTaken(attempt, "orders-0".into(), Box::new(barrier))
}

/// The server's answer to the release of a barrier.
fn released(expired: bool) -> Option<Outcome> {
    let Outcome::BarrierTaken(attempt, instance, mut barrier) = barrier("uid-backup", 1, 10) else {
        return None;
    };
    barrier.expired = expired;
    Some(Outcome::BarrierTaken(attempt, instance, barrier))
}

fn unreachable() -> Obstacle {
    Obstacle::Server("ServerUnreachable".into(), "server at 10.244.0.5:9181 did not answer".into())
}

/// Describes every situation.
pub(crate) fn describe_all() -> String {
    let mut text = String::new();
    waiting(&mut text);
    uploads(&mut text);
    obstacles(&mut text);
    volume_snapshots(&mut text);
    missed_cuts(&mut text);
    deadlines(&mut text);
    deletions(&mut text);
    text
}

fn waiting(text: &mut String) {
    let mut scene = Scene::snapshot();
    scene.facts = Facts::default();
    scene.look("a backup waits for its Store", text);
    scene.look("and says so once", text);
    scene.store(json!({}));
    scene.store_condition("Ready", "False", "VolumeLost", "the volume is empty");
    scene.look("which must be ready", text);
    scene.store_condition("Ready", "True", "Serving", "");
    scene.store_condition("Reconciling", "True", "Applying", "");
    scene.look("and settled, so that no restart comes in between", text);
    scene.store(json!({}));
    scene.look("its server must run", text);
    scene.serve();
    scene.location("archive");
    let pod = scene.facts.pod.clone();
    scene.facts.pod.as_mut().and_then(|pod| pod.spec.as_mut()).expect("a pod").volumes = None;
    scene.look("with the credentials of the location", text);
    scene.facts.pod = pod;
    scene.look("then the finalizer is set, before anything is begun", text);
    scene.look("and the backup begins: where it goes is recorded", text);

    let mut scene = Scene::snapshot();
    let store = scene.facts.store.as_mut().expect("a Store");
    store.status.get_or_insert_default().persistence.as_mut().expect("a part").configuration_current = false;
    scene.look("a Store that has yet to restart is waited for", text);
    scene.store_condition("Stalled", "True", "InvalidSpec", "spec.image");
    scene.look("but not when a person must act before it restarts", text);

    for reason in ["UpdateAwaitsApproval", "UpdateAwaitsWindow", "WaitingForOthers"] {
        let mut scene = Scene::snapshot();
        let store = scene.facts.store.as_mut().expect("a Store");
        store.status.get_or_insert_default().persistence.as_mut().expect("a part").configuration_current =
            false;
        scene.store_condition("Reconciling", "True", reason, "");
        scene.look(&format!("nor when an update waits, perhaps for days: {reason}"), text);
    }
    let mut scene = Scene::snapshot();
    scene.store_condition("Reconciling", "True", "RestartDeferred", "");
    scene.look("but when a restart waits for what ends by itself", text);

    let mut scene = Scene::snapshot();
    scene.store(json!({"persistence": {"strategy": "Disabled"}}));
    scene.look("of a pure cache there is no backup", text);
}

fn uploads(text: &mut String) {
    let mut scene = Scene::snapshot().begun();
    scene.look_with("the server is asked to upload", upload(BackupPhase::Cutting), text);
    scene.look_with("and asked again how far it is", upload(BackupPhase::Uploading), text);
    scene.look_with("until it has read everything back", upload(BackupPhase::Verifying), text);
    scene.now = 20;
    scene.look_with("a manifest in the bucket is success", upload(BackupPhase::Succeeded), text);
    scene.look("then the finalizer goes", text);
    scene.look("and the backup stays usable", text);
    scene.location("elsewhere");
    scene.look("unless its location names another place", text);
    scene.facts.location = None;
    scene.look("or is gone", text);
    scene.location("archive");
    scene.look("until that is mended", text);
    scene.facts.next_check = Some(Duration::from_secs(6 * 3600));
    scene.facts.presence = Some(Presence::There(2048));
    scene.look("from time to time it is looked for in the bucket", text);
    scene.facts.presence =
        Some(Presence::Missing("no object \"manifest.json\" in bucket \"archive\"".into()));
    scene.look("what is not there any more cannot be restored from", text);
    scene.look("which is news once", text);
    scene.facts.presence = None;
    scene.look("and stands until somebody looks again", text);
    scene.facts.presence = Some(Presence::There(1024));
    scene.look("nor can what has another size", text);
    scene.facts.presence = Some(Presence::There(2048));
    scene.look("until it is back", text);

    let mut scene = Scene::snapshot().begun();
    let denied = failed_upload(backup_reason::ACCESS_DENIED, "access denied to write");
    scene.look_with("an upload that fails has the server's reason", denied, text);
    scene.look("then the finalizer goes as well", text);
    scene.look("and nothing more is to be said", text);

    let mut scene = Scene::snapshot().begun();
    let problem = "it needs at least 2048 bytes beside the data, and the volume has 1024 free";
    let full = failed_upload(backup_reason::INSUFFICIENT_SPACE, problem);
    scene.look_with("a volume without room for the snapshot is told with both figures", full, text);
}

fn obstacles(text: &mut String) {
    let mut scene = Scene::snapshot().begun();
    scene.facts.server = Some(Ok(ServerState::Loading));
    scene.look("a server that loads would end each attempt at once", text);
    scene.facts.server = Some(Ok(ServerState::WritesRefused));
    scene.look_with("one that refuses writes can be backed up", upload(BackupPhase::Uploading), text);
    scene.facts.server = Some(Err(unreachable()));
    scene.look("one that does not answer is waited for", text);
    scene.facts.server = Some(Ok(ServerState::Ready));
    let refused = Obstacle::Server("ServerUnauthorized".into(), "server refused the operator's token".into());
    scene.look_with("or refuses the question", Some(Outcome::Waiting(refused)), text);
    let stopped = || failed_upload(backup_reason::CANCELLED, "the server stops");
    scene.look_with("a server that stops has interrupted the upload", stopped(), text);
    scene.look_with("the next attempt has an id of its own, and comes later", stopped(), text);
    (scene.facts.pod, scene.facts.endpoint, scene.facts.server) = (None, None, None);
    scene.look("the pod is away", text);
    scene.serve();
    scene.store_condition("Ready", "False", "PodNotReady", "");
    scene.look_with("what has begun does not wait for the Store", upload(BackupPhase::Uploading), text);
    scene.facts.former_owners = vec!["uid-former".into()];
    scene.location("elsewhere");
    let moved =
        "it goes to where it began, whatever the location names now, and takes over from former owners";
    scene.look_with(moved, upload(BackupPhase::Uploading), text);
    scene.facts.location = None;
    scene.look("without the location nobody knows the way there", text);
    scene.facts.store = None;
    scene.look("its Store is deleted", text);

    let mut scene = Scene::snapshot();
    scene.store(json!({"backup": null}));
    scene.facts.location = None;
    let mut scene = scene.begun();
    scene.look("a Store that names no location", text);
    scene.store(json!({}));
    scene.look("or one that is not there", text);
    scene.location("archive");
    scene.look("where it goes is recorded before the server is told", text);
}

fn volume_snapshots(text: &mut String) {
    let mut scene = Scene::volume_snapshot();
    scene.facts.location = None;
    let mut scene = scene.begun();
    scene.now = 10;
    scene.look_with("a barrier keeps the files still", Some(barrier("uid-backup", 1, 10)), text);
    let refused = Obstacle::ApiRefused("the API refused to create VolumeSnapshot: exceeded quota".into());
    scene.look_with("the API may refuse the VolumeSnapshot", Some(Outcome::Waiting(refused)), text);
    scene.look_with("then the volume is cut", Some(Outcome::CuttingVolume(None)), text);
    scene.cut(None, false);
    scene.look("the driver takes its time", text);
    if let SnapshotFact::There(state) = &mut scene.facts.snapshot {
        state.error = Some("no such class".into());
    }
    scene.look("and says when it has trouble", text);
    scene.cut(Some(15), false);
    let silent = Some(Outcome::Waiting(unreachable()));
    scene.look_with("the barrier cannot be released now", silent, text);
    scene.look_with("a barrier that was still held proves the cut", released(false), text);
    scene.look("the VolumeSnapshot becomes usable", text);
    scene.cut(Some(15), true);
    let mut gone = scene.clone();
    scene.look("and that is success", text);
    scene.look("the finalizer goes", text);
    scene.look("and nothing more is to be done", text);
    gone.facts.snapshot = SnapshotFact::Absent;
    gone.look("a VolumeSnapshot that was deleted after its proof is not made again", text);

    let mut scene = Scene::volume_snapshot().begun();
    scene.facts.snapshot = SnapshotFact::Unavailable;
    scene.look("a cluster without VolumeSnapshots", text);
}

fn missed_cuts(text: &mut String) {
    let mut scene = Scene::cutting();
    scene.cut(Some(15), true);
    let at_once = "a cut within a barrier that is over counts, and is usable at once";
    scene.look_with(at_once, released(true), text);

    let mut scene = Scene::cutting();
    scene.cut(Some(129), false);
    scene.look_with("a cut near its end proves nothing, and is deleted", released(true), text);
    scene.facts.snapshot = SnapshotFact::Absent;
    let over = match barrier("uid-backup-2", 2, 10) {
        Outcome::BarrierTaken(attempt, instance, mut barrier) => {
            barrier.released_ms = Some(130_000);
            Outcome::BarrierTaken(attempt, instance, barrier)
        }
        other => other,
    };
    scene.look_with("a barrier that was over when it was found is worth nothing", Some(over), text);
    scene.now = 300;
    let last = Some(barrier("uid-backup-3", 3, 300));
    scene.look_with("each attempt has a barrier of its own, and is acted upon at once", last, text);
    scene.pass(Some(Outcome::CuttingVolume(None)));
    scene.cut(None, false);
    if let SnapshotFact::There(state) = &mut scene.facts.snapshot {
        state.error = Some("timed out".into());
    }
    scene.now = 500;
    scene.look("the driver has not cut in time", text);
    scene.facts.snapshot = SnapshotFact::Absent;
    scene.look("no attempt is left", text);

    let mut scene = Scene::cutting();
    if let SnapshotFact::There(state) = &mut scene.facts.snapshot {
        state.is_deleting = true;
    }
    scene.look("somebody deletes the VolumeSnapshot while it is being cut", text);
}

fn deadlines(text: &mut String) {
    let mut scene = Scene::snapshot();
    scene.facts = Facts::default();
    scene.pass(None);
    scene.now = 3601;
    scene.look("a backup that has not begun within its deadline has failed", text);

    let mut scene = Scene::new(json!({"deadlineSeconds": 60})).begun();
    scene.pass(upload(BackupPhase::Uploading));
    scene.now = 60;
    scene.look_with("until the deadline it goes on", upload(BackupPhase::Uploading), text);
    scene.now = 61;
    let mut late = scene.clone();
    late.facts.upload = Some(progress(BackupPhase::Uploading));
    late.look("then what still runs is cancelled", text);
    let mut late = scene.clone();
    late.facts.upload = Some(progress(BackupPhase::Succeeded));
    late.look("but what has ended well while nobody looked counts", text);
    scene.facts.store = None;
    scene.look("without its Store nobody can tell", text);

    let mut scene = Scene::cutting();
    scene.now = 3601;
    scene.look("a volume that is not cut by then", text);
    let mut scene = Scene::cutting();
    scene.now = 3601;
    scene.cut(Some(15), true);
    let mut late = scene.clone();
    late.look_with("a VolumeSnapshot that was cut in time counts", released(true), text);
    scene.look_with("unless nobody can prove it", Some(Outcome::Waiting(unreachable())), text);
}

fn deletions(text: &mut String) {
    let mut scene = Scene::snapshot();
    scene.delete();
    scene.look("a backup that has not begun is deleted", text);
    let mut scene = Scene::snapshot().begun();
    scene.delete();
    scene.look("one that runs is cancelled first", text);
    let mut scene = Scene::cutting();
    scene.delete();
    scene.look("an unproven VolumeSnapshot goes, and its barrier", text);
    let mut scene = Scene::cutting();
    scene.cut(Some(15), false);
    scene.pass(released(false));
    scene.delete();
    scene.look("a proven one stays", text);
}
