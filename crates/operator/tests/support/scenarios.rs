//! Situations that a Store can be in, each as plain facts, and what the pure stages make of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use holdfast_contract::control::{ServerState, ServerStatus};
use holdfast_contract::identity::Identity;
use holdfast_contract::record::{DecisionKind, DecisionReport, reason};
use holdfast_operator::api::v1alpha1::{BackupLocation, Store, StoreBackup};
use holdfast_operator::names;
use holdfast_operator::reconcile::build::secret;
use holdfast_operator::reconcile::facts::{
    Facts, LatestBackup, LocationProblem, ServerFact, SnapshotFact, SourceFact,
};
use holdfast_operator::reconcile::plan::{ChildKind, Step};
use holdfast_operator::reconcile::validate::{ValidatedStore, validate};
use holdfast_operator::reconcile::{Decision, decide, status};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

const STORE_ID: &str = "0b7c1d2e-0000-4000-8000-000000000001";
const OTHER_ID: &str = "5e5e5e5e-0000-4000-8000-000000000002";
const STORE_UID: &str = "uid-store";

/// A Store and what is observed of it.
struct Scene {
    store: Store,
    facts: Facts,
}

impl Scene {
    /// A Store that was created a moment ago.
    fn new(spec: &str) -> Self {
        let text = format!(
            "apiVersion: holdfast.dev/v1alpha1\nkind: Store\nmetadata: {{name: orders, namespace: shop, uid: {STORE_UID}, generation: 1}}\nspec: {{storage: {{volumeClaimTemplate: {{spec: {{resources: {{requests: {{storage: 1Gi}}}}}}}}}}{spec}}}"
        );
        Self { store: serde_yaml::from_str(&text).expect("a Store"), facts: Facts::default() }
    }

    fn valid(&self) -> ValidatedStore {
        validate(&self.store, &crate::defaults::defaults()).expect("a valid Store")
    }

    fn decide(&self) -> Decision {
        decide(&self.store, &self.valid(), &self.facts, Timestamp::UNIX_EPOCH, false)
    }

    /// Runs all steps, as far as they change objects and status, until none is left.
    fn settle(mut self) -> Self {
        for _ in 0..20 {
            let decision = self.decide();
            let Some(step) = decision.plan.step.clone() else { return self };
            self.act(&step, &decision);
        }
        panic!("does not settle");
    }

    fn act(&mut self, step: &Step, decision: &Decision) {
        let status = self.store.status.get_or_insert_default();
        match step {
            Step::RecordIdentity { store_id, epoch } => {
                status.store_id = Some(store_id.clone().unwrap_or_else(|| STORE_ID.into()));
                status.epoch = *epoch;
            }
            Step::RecordEpoch { epoch, completes_restore } => {
                status.epoch = Some(*epoch);
                if *completes_restore {
                    status.last_restore = status.restore.take();
                }
            }
            Step::RecordClaim(claim) => status.claim = Some(claim.clone()),
            Step::RecordRestore(restore) => status.restore = Some(restore.clone()),
            Step::DropRestore => status.restore = None,
            Step::SetFinalizer(wanted) => {
                let finalizers = wanted.then(|| vec![names::STORE_FINALIZER.to_owned()]);
                self.store.metadata.finalizers = finalizers;
            }
            Step::AdoptClaim => {
                if let Some(claim) = &mut self.facts.claim {
                    let annotations = claim.metadata.annotations.get_or_insert_default();
                    annotations.insert(names::key::STORE_UID.into(), STORE_UID.into());
                }
            }
            Step::CreateAuth => {
                let data = BTreeMap::from([
                    (names::PASSWORD_KEY.to_owned(), ByteString("p".into())),
                    (names::TOKEN_KEY.to_owned(), ByteString("t".into())),
                ]);
                let built = secret::build(&self.valid(), "p".into(), "t".into());
                self.facts.children.auth = Some(Secret { data: Some(data), string_data: None, ..built });
            }
            Step::Apply(kinds) => {
                let desired = decision.desired.clone().expect("objects were built");
                let children = &mut self.facts.children;
                for kind in kinds {
                    match kind {
                        ChildKind::ServiceAccount => {
                            children.service_account = Some(desired.service_account.clone());
                        }
                        ChildKind::Record => children.record.clone_from(&desired.record),
                        ChildKind::Config => children.config = Some(desired.config.clone()),
                        ChildKind::Service => children.service = Some(desired.service.clone()),
                        ChildKind::HeadlessService => {
                            children.headless_service = Some(desired.headless_service.clone());
                        }
                        ChildKind::Pdb => children.pdb = Some(desired.pdb.clone()),
                        ChildKind::StatefulSet => children.stateful_set = Some(desired.stateful_set.clone()),
                    }
                }
            }
            Step::CreateClaim { data_source } => {
                self.facts.claim = Some(claim("claim-1", STORE_ID, STORE_UID, data_source.as_deref()));
            }
            Step::SendRecord(_) => self.serve(ServerState::Ready, status_epoch(&self.store)),
            Step::RestartPod { .. } => {
                self.facts.pod = None;
                self.facts.server = ServerFact::Absent;
            }
        }
    }

    /// The pod runs as the StatefulSet says, and its server is in `state` with `epoch` on its volume (0: no identity).
    fn serve(&mut self, state: ServerState, epoch: u64) {
        let set = self.facts.children.stateful_set.as_ref().expect("a StatefulSet");
        let template = set.spec.template.metadata.clone().unwrap_or_default();
        let ready = if state == ServerState::Ready { "True" } else { "False" };
        let config = template.annotations.clone().unwrap_or_default();
        self.facts.pod = Some(from_json::<Pod>(json!({
            "metadata": {"name": "orders-0", "uid": "uid-pod", "resourceVersion": "7", "annotations": template.annotations},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        })));
        let text = serde_json::to_value(&self.facts.children.config).expect("JSON")["data"]
            [names::CONFIG_KEY]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let strategy = text
            .lines()
            .find_map(|line| line.strip_prefix("persist-strategy "))
            .unwrap_or("disabled")
            .to_owned();
        self.facts.server = ServerFact::Status(Box::new(ServerStatus {
            version: "1".into(),
            state,
            identity: (epoch > 0).then(|| identity(STORE_ID, epoch)),
            decision: None,
            problem: None,
            strategy,
            config_sha256: config.get(names::key::CONFIG_SHA256).cloned().unwrap_or_default(),
            last_offset: 0,
            durable_offset: 0,
            keys: 0,
            progress: None,
            last_snapshot: None,
            last_rotation: None,
            last_job_error: None,
        }));
    }

    fn hold(&mut self, reason: &str, message: &str) {
        self.serve(ServerState::Holding, 0);
        if let ServerFact::Status(status) = &mut self.facts.server {
            status.decision = Some(DecisionReport {
                decision: DecisionKind::Hold,
                reason: reason.into(),
                message: message.into(),
            });
        }
    }

    /// A Store that serves, at `epoch`.
    fn serving(spec: &str, epoch: u64) -> Self {
        let mut scene = Self::new(spec).with_location().settle();
        scene.serve(ServerState::AwaitingRecord, 1);
        let mut scene = scene.settle();
        scene.store.status.get_or_insert_default().epoch = Some(epoch);
        scene.serve(ServerState::Ready, epoch);
        scene.settle_objects()
    }

    /// As [`Scene::settle`], but the pod stays.
    fn settle_objects(mut self) -> Self {
        for _ in 0..20 {
            let decision = self.decide();
            match decision.plan.step.clone() {
                None | Some(Step::RestartPod { .. } | Step::SendRecord(_)) => return self,
                Some(step) => self.act(&step, &decision),
            }
        }
        panic!("does not settle");
    }

    fn with_location(mut self) -> Self {
        let location: BackupLocation = from_json(json!({
            "apiVersion": "holdfast.dev/v1alpha1", "kind": "BackupLocation",
            "metadata": {"name": "offsite", "namespace": "shop"},
            "spec": {"s3": {"bucket": "archive", "endpoint": "http://s3.test:9000"}, "credentialsSecretRef": {"name": "offsite-keys"}},
        }));
        self.facts.locations.insert("offsite".into(), Some(location));
        self
    }

    fn lose_volume(mut self) -> Self {
        self.facts.claim = Some(claim("claim-2", STORE_ID, STORE_UID, None));
        self.hold(reason::VOLUME_LOST, "the volume is empty");
        self
    }

    fn describe(&self, title: &str, text: &mut String) {
        let decision = self.decide();
        let _ = writeln!(text, "# {title}");
        let step = match &decision.plan.step {
            None => "none".to_owned(),
            Some(Step::SendRecord(record)) => {
                format!("SendRecord {}", serde_json::to_string(record).expect("JSON"))
            }
            Some(step) => format!("{step:?}"),
        };
        let _ = writeln!(text, "step:  {step}");
        for hold in &decision.plan.holds {
            let kind = if hold.stalled { "stalled" } else { "waiting" };
            let _ = writeln!(text, "hold:  {kind} {}: {}", hold.reason, hold.message);
        }
        let status = status::status(
            &self.store,
            Some(&self.valid()),
            &self.facts,
            &decision.plan,
            Timestamp::UNIX_EPOCH,
        );
        for condition in &status.conditions {
            let _ = writeln!(
                text,
                "       {}={} {} {}",
                condition.type_, condition.status, condition.reason, condition.message
            );
        }
        text.push('\n');
    }
}

fn status_epoch(store: &Store) -> u64 {
    store.status.as_ref().and_then(|status| status.epoch).unwrap_or(0)
}

fn from_json<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("an object")
}

fn claim(uid: &str, store_id: &str, store_uid: &str, source: Option<&str>) -> PersistentVolumeClaim {
    let source = source
        .map(|name| json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": name}));
    from_json(json!({
        "metadata": {
            "name": "data-orders-0", "uid": uid,
            "labels": {names::key::STORE_ID: store_id}, "annotations": {names::key::STORE_UID: store_uid},
        },
        "spec": {"dataSource": source},
        "status": {"phase": "Bound"},
    }))
}

fn identity(store_id: &str, epoch: u64) -> Identity {
    Identity {
        version: 1,
        store_id: store_id.into(),
        instance: "orders-0".into(),
        epoch,
        last_offset: 10,
        durable_offset: 10,
        granted: true,
        clean_shutdown: false,
        parent: None,
        written_ms: 0,
    }
}

fn backup(name: &str, status: serde_json::Value) -> StoreBackup {
    from_json(json!({
        "apiVersion": "holdfast.dev/v1alpha1", "kind": "StoreBackup",
        "metadata": {"name": name, "namespace": "shop"}, "spec": {"storeRef": {"name": "orders"}}, "status": status,
    }))
}

fn done_backup() -> StoreBackup {
    let yes = |kind: &str| json!({"type": kind, "status": "True", "reason": "Completed", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"});
    backup(
        "friday",
        json!({
            "startTime": "2026-01-02T03:04:05Z", "completionTime": "2026-01-02T03:05:05Z", "location": "offsite",
            "path": format!("{OTHER_ID}/backups/20260102T030405Z-000003-00000000000000000099"), "epoch": 3, "offset": 99,
            "conditions": [yes("Succeeded"), yes("ReadyToUse")],
        }),
    )
}

const RESTORE: &str =
    ", backup: {locationRef: {name: offsite}}, recovery: {onVolumeLoss: RestoreLatestBackup}";

fn latest(epoch: u64) -> LatestBackup {
    LatestBackup {
        path: format!("{STORE_ID}/backups/20260102T030405Z-{epoch:06}-00000000000000000099"),
        epoch,
        offset: 99,
        cut_ms: 1_767_323_045_000,
    }
}

/// Every situation with what is decided in it.
pub(crate) fn describe_all() -> String {
    let mut text = String::new();
    first_start(&mut text);
    claims(&mut text);
    bootstraps(&mut text);
    status_and_volume(&mut text);
    losses(&mut text);
    changes(&mut text);
    text
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
    scene.facts.source = SourceFact::Backup(Box::new(done_backup()));
    scene.describe("the location of the backup is not there", text);
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
        scene.store.spec.persistence.strategy = holdfast_operator::api::v1alpha1::Strategy::Always;
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
    scene.store.spec.deletion_policy = holdfast_operator::api::v1alpha1::DeletionPolicy::DeleteVolumes;
    scene.describe("DeleteVolumes sets the finalizer", text);
}
