//! Models of what surrounds the operator in a cluster: StatefulSet controller, kubelet, CSI driver with snapshots, servers
//! with their volumes, and a bucket. Small, and strict: what must never happen is a panic here.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use holdfast_contract::bucket::{DatasetSummary, Location, backup_path};
use holdfast_contract::control::{
    BackupPhase, BackupProgress, BackupRequest, Barrier, BarrierRequest, CONTRACT_VERSION, ConfigCheck,
    ConfigCheckRequest, ConfigProblem, JobReport, ServerState, ServerStatus, backup_reason,
};
use holdfast_contract::identity::Identity;
use holdfast_contract::record::{DecisionKind, DecisionReport, Origin, StoreRecord, reason};
use holdfast_operator::backup::facts::Presence;
use holdfast_operator::bucket_client::{BucketClient, SecretData};
use holdfast_operator::context::volume_snapshot_resource;
use holdfast_operator::names;
use holdfast_operator::reconcile::build::{secret, sha256_hex};
use holdfast_operator::reconcile::facts::{LatestBackup, LocationProblem};
use holdfast_operator::server_client::{Endpoint, ServerClient, ServerError};
use http::{Method, StatusCode};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use crate::faults::{Fault, FaultState};

/// Name of the one Store of a model.
pub(crate) const STORE: &str = "orders";
/// In the name of an image that no kubelet can pull.
pub(crate) const BROKEN_IMAGE: &str = "broken";
/// Name of its location.
pub(crate) const LOCATION: &str = "offsite";

/// A volume: whose data, and the number of the last acknowledged write.
#[derive(Debug, Clone, Default)]
pub(crate) struct Volume {
    pub(crate) identity: Option<Identity>,
    pub(crate) writes: u64,
}

#[derive(Debug, Clone)]
struct Stored {
    path: String,
    store_id: String,
    epoch: u64,
    offset: u64,
    writes: u64,
}

struct Server {
    address: IpAddr,
    pod_uid: String,
    volume: String,
    record: Option<StoreRecord>,
    config: String,
    token: String,
    state: ServerState,
    decision: Option<DecisionReport>,
    barriers: HashMap<String, Barrier>,
    backups: HashMap<String, BackupProgress>,
    /// Write up to which the last snapshot goes.
    saved: Option<u64>,
}

#[derive(Default)]
struct Inner {
    volumes: HashMap<String, Volume>,
    server: Option<Server>,
    bucket: Vec<Stored>,
    snapshots: HashMap<String, Volume>,
    /// The write that whoever serves must have: the last acknowledged, or what a lost volume left in the bucket.
    floor: u64,
    pods: u8,
    restores: u32,
    /// Somebody has emptied the bucket.
    is_emptied: bool,
    /// The servers are those of v0.1.0.
    is_first_version: bool,
    /// Nobody makes pods.
    is_away: bool,
    /// Who was told which place in the bucket, in order.
    told: Vec<(&'static str, Location)>,
}

/// The world around one Store; a clone shares it.
#[derive(Clone)]
pub(crate) struct Model {
    inner: Arc<Mutex<Inner>>,
    namespace: String,
    admin: Client,
    faults: FaultState,
}

/// The revision of a StatefulSet's template: one name for one content.
fn revision(set: &StatefulSet) -> String {
    let json = serde_json::to_vec(&set.spec.template).expect("JSON");
    sha256_hex(&json)[..10].to_owned()
}

fn now_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).expect("after 1970")
}

impl Model {
    pub(crate) fn new(admin: Client, namespace: &str, faults: FaultState) -> Self {
        Self { inner: Arc::default(), namespace: namespace.to_owned(), admin, faults }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test thread has panicked in here")
    }

    /// A client that may do everything.
    pub(crate) fn admin(&self) -> Client {
        self.admin.clone()
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }

    fn snapshots_api(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.admin.clone(), &self.namespace, &volume_snapshot_resource())
    }

    /// Write that whoever serves must have.
    pub(crate) fn floor(&self) -> u64 {
        self.lock().floor
    }

    /// From now on a Store made from the newest VolumeSnapshot is served: what was written after its cut is not in it.
    pub(crate) fn serves_newest_snapshot(&self) {
        let mut inner = self.lock();
        inner.floor = inner.snapshots.values().map(|volume| volume.writes).max().unwrap_or(0);
    }

    /// Somebody empties the bucket, or puts everything back.
    pub(crate) fn empty_bucket(&self, is_emptied: bool) {
        self.lock().is_emptied = is_emptied;
    }

    /// Whether the bucket holds a backup.
    pub(crate) fn has_backup(&self) -> bool {
        !self.lock().bucket.is_empty()
    }

    /// The server has nothing to serve yet, until the next step of the surroundings.
    pub(crate) fn load(&self) {
        if let Some(server) = &mut self.lock().server {
            server.state = ServerState::Loading;
        }
    }

    /// From now on the servers are those of v0.1.0, or of this version.
    pub(crate) fn is_first_version(&self, is_first_version: bool) {
        self.lock().is_first_version = is_first_version;
    }

    /// From now on nobody makes pods for StatefulSets, or they do again.
    pub(crate) fn is_away(&self, is_away: bool) {
        self.lock().is_away = is_away;
    }

    /// The places that `who` was told since this was last asked.
    pub(crate) fn told(&self, who: &str) -> Vec<Location> {
        let mut inner = self.lock();
        inner.told.extract_if(.., |(name, _)| *name == who).map(|(_, location)| location).collect()
    }

    /// How often a server has restored a backup.
    pub(crate) fn restores(&self) -> u32 {
        self.lock().restores
    }

    /// Number of the last write on the volume that is served.
    pub(crate) fn served_writes(&self) -> Option<u64> {
        let inner = self.lock();
        let server = inner.server.as_ref().filter(|server| server.state == ServerState::Ready)?;
        inner.volumes.get(&server.volume).map(|volume| volume.writes)
    }

    /// The claim's volume is gone: what remains is the newest backup.
    pub(crate) async fn lose_volume(&self) {
        let claim = self.api::<PersistentVolumeClaim>().get_opt(&names::claim(STORE)).await.expect("read");
        self.remove::<PersistentVolumeClaim>(&names::claim(STORE)).await;
        self.remove::<Pod>(&names::pod(STORE)).await;
        let mut inner = self.lock();
        if let Some(claim) = claim {
            inner.volumes.remove(&claim.uid().unwrap_or_default());
        }
        inner.server = None;
        inner.floor = inner.bucket.iter().map(|stored| stored.writes).max().unwrap_or(0);
    }

    /// Deletes an object as a person would, without waiting for anybody's leave.
    pub(crate) async fn remove<K>(&self, name: &str)
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        let none: Vec<String> = Vec::new();
        let patch = Patch::Merge(json!({"metadata": {"finalizers": none}}));
        let _ = api.patch(name, &PatchParams::default(), &patch).await;
        let _ = api.delete(name, &kube::api::DeleteParams::default().grace_period(0)).await;
    }

    /// Lets the surroundings move on by one step.
    pub(crate) async fn tick(&self) {
        let sets = self.api::<StatefulSet>();
        let set = sets.get_opt(names::stateful_set(STORE).as_str()).await.expect("read");
        if let Some(set) = &set
            && set.status.as_ref().and_then(|status| status.observed_generation) != set.metadata.generation
        {
            let status = json!({"status": {
                "observedGeneration": set.metadata.generation, "replicas": 1, "updateRevision": revision(set),
            }});
            sets.patch_status(STORE, &PatchParams::default(), &Patch::Merge(status)).await.expect("status");
        }
        let pod = self.api::<Pod>().get_opt(&names::pod(STORE)).await.expect("read");
        let is_away = self.lock().is_away;
        if let (Some(set), None, false) = (&set, &pod, is_away) {
            self.make_claim(set).await;
            self.make_pod(set).await;
        }
        self.bind_claim().await;
        self.run_pod().await;
        self.cut_snapshots().await;
        self.write();
    }

    async fn make_claim(&self, set: &StatefulSet) {
        let claims = self.api::<PersistentVolumeClaim>();
        let name = names::claim(STORE);
        if claims.get_opt(&name).await.expect("read").is_none()
            && let Some(template) = set.spec.volume_claim_templates.iter().flatten().next()
        {
            let mut claim = template.clone();
            claim.metadata.name = Some(name);
            claim.status = None;
            claims.create(&PostParams::default(), &claim).await.expect("claim");
        }
    }

    async fn make_pod(&self, set: &StatefulSet) {
        let template = set.spec.template.clone();
        let mut spec = template.spec.expect("a spec");
        spec.volumes.get_or_insert_default().push(
            serde_json::from_value(json!({
                "name": names::DATA_VOLUME, "persistentVolumeClaim": {"claimName": names::claim(STORE)},
            }))
            .expect("a volume"),
        );
        let mut metadata = template.metadata.expect("metadata");
        metadata.name = Some(names::pod(STORE));
        metadata.labels.get_or_insert_default().insert("controller-revision-hash".into(), revision(set));
        metadata.owner_references = Some(
            serde_json::from_value(json!([{
                "apiVersion": "apps/v1", "kind": "StatefulSet", "name": STORE, "uid": set.metadata.uid, "controller": true,
            }]))
            .expect("an owner"),
        );
        let pod = Pod { metadata, spec: Some(spec), status: None };
        // Admission may refuse what the template says; the StatefulSet controller tries again.
        match self.api::<Pod>().create(&PostParams::default(), &pod).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 422) => {}
            Err(error) => panic!("pod: {error}"),
        }
    }

    async fn bind_claim(&self) {
        let claims = self.api::<PersistentVolumeClaim>();
        let name = names::claim(STORE);
        let Some(claim) = claims.get_opt(&name).await.expect("read") else { return };
        let uid = claim.uid().expect("a UID");
        {
            let mut inner = self.lock();
            if !inner.volumes.contains_key(&uid) {
                let source = claim.spec.as_ref().and_then(|spec| spec.data_source.as_ref());
                let volume = match source {
                    Some(source) => {
                        inner.snapshots.get(&source.name).cloned().expect("a snapshot that is there")
                    }
                    None => Volume::default(),
                };
                inner.volumes.insert(uid, volume);
            }
        }
        let status = json!({"status": {"phase": "Bound"}});
        claims.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.expect("status");
    }

    async fn run_pod(&self) {
        let pods = self.api::<Pod>();
        let pod = pods.get_opt(&names::pod(STORE)).await.expect("read");
        let claim = self.api::<PersistentVolumeClaim>().get_opt(&names::claim(STORE)).await.expect("read");
        let config = self.api::<ConfigMap>().get_opt(&names::config(STORE)).await.expect("read");
        let record = self.api::<ConfigMap>().get_opt(&names::record(STORE)).await.expect("read");
        let auth = self.api::<Secret>().get_opt(&names::auth_secret(STORE)).await.expect("read");
        let (Some(pod), Some(claim)) = (pod, claim) else {
            self.lock().server = None;
            return;
        };
        let data = |map: Option<ConfigMap>, key: &str| map.and_then(|map| map.data?.remove(key));
        let record: Option<StoreRecord> =
            data(record, "store.json").and_then(|text| serde_json::from_str(&text).ok());
        let uid = pod.uid().expect("a UID");
        let ready_before = serde_json::to_value(&pod.status).expect("JSON");
        let image = pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone()).unwrap_or_default();
        if image.contains(BROKEN_IMAGE) {
            self.lock().server = None;
            if ready_before["conditions"].is_null() {
                let status = json!({
                    "phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}],
                    "containerStatuses": [{
                        "name": names::SERVER_CONTAINER, "image": image, "imageID": "", "ready": false, "restartCount": 0,
                        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}},
                    }],
                });
                let patch = Patch::Merge(json!({"status": status}));
                pods.patch_status(&names::pod(STORE), &PatchParams::default(), &patch).await.expect("status");
            }
            return;
        }
        let (address, state) = {
            let mut inner = self.lock();
            if inner.server.as_ref().is_none_or(|server| server.pod_uid != uid) {
                // A pod starts only when everything it mounts is there.
                let Some(auth) = auth.and_then(|auth| secret::read(&auth).ok()) else { return };
                let (Some(config), Some(_)) = (data(config, names::CONFIG_KEY), &record) else { return };
                inner.pods = inner.pods.wrapping_add(1);
                inner.server = Some(Server {
                    address: IpAddr::from([10, 244, 0, inner.pods]),
                    pod_uid: uid.clone(),
                    volume: claim.uid().expect("a UID"),
                    record: None,
                    config,
                    token: auth.token,
                    state: ServerState::Loading,
                    decision: None,
                    barriers: HashMap::new(),
                    backups: HashMap::new(),
                    saved: None,
                });
            }
            // The mount is refreshed now and then.
            if let Some(record) = record {
                inner.decide(&record);
            }
            inner.finish_backups();
            let server = inner.server.as_ref().expect("a server");
            (server.address, server.state)
        };
        let ready = if state == ServerState::Ready { "True" } else { "False" };
        let status = json!({
            "phase": "Running", "podIP": address.to_string(),
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [{
                "name": names::SERVER_CONTAINER, "image": "i", "imageID": "i", "ready": state == ServerState::Ready,
                "restartCount": 0, "state": {"running": {}},
            }],
        });
        if ready_before["podIP"] != status["podIP"] || ready_before["conditions"][0]["status"] != ready {
            pods.patch_status(
                &names::pod(STORE),
                &PatchParams::default(),
                &Patch::Merge(json!({"status": status})),
            )
            .await
            .expect("status");
        }
    }

    /// The CSI driver: a VolumeSnapshot is cut on one tick and usable on the next.
    async fn cut_snapshots(&self) {
        let api = self.snapshots_api();
        for snapshot in api.list(&ListParams::default()).await.expect("list") {
            let name = snapshot.name_any();
            let status = &snapshot.data["status"];
            let patch = if status["creationTime"].is_null() {
                let mut inner = self.lock();
                let claim = inner.server.as_ref().map(|server| server.volume.clone());
                let Some(volume) = claim.and_then(|uid| inner.volumes.get(&uid).cloned()) else { continue };
                inner.snapshots.insert(name.clone(), volume);
                json!({"status": {"creationTime": Timestamp::now().to_string()}})
            } else if status["readyToUse"].is_null() {
                json!({"status": {"readyToUse": true, "restoreSize": "1Gi"}})
            } else {
                continue;
            };
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("status");
        }
    }

    /// A client writes, and is answered.
    fn write(&self) {
        let mut inner = self.lock();
        let Some(server) = inner.server.as_ref().filter(|server| server.state == ServerState::Ready) else {
            return;
        };
        let volume = server.volume.clone();
        let floor = inner.floor;
        let volume = inner.volumes.get_mut(&volume).expect("a served volume");
        assert!(
            volume.writes >= floor,
            "data older than what it must be is served: write {} instead of {floor}",
            volume.writes
        );
        volume.writes += 1;
        inner.floor = volume.writes;
    }

    fn call(&self, what: &str, is_write: bool) -> Fault {
        self.faults.next(what, is_write)
    }

    /// Runs `act` on the server behind `endpoint`, unless a fault is in the way.
    fn with_server<T>(
        &self,
        endpoint: &Endpoint,
        what: &str,
        is_write: bool,
        act: impl FnOnce(&mut Inner) -> Result<T, ServerError>,
    ) -> Result<T, ServerError> {
        let unreachable = |problem: &str| ServerError::Unreachable {
            address: endpoint.address,
            method: Method::GET,
            path: what.to_owned(),
            problem: problem.to_owned(),
        };
        let fault = self.call(what, is_write);
        if matches!(fault, Fault::LostBefore | Fault::DeadBefore | Fault::Refused(_)) {
            return Err(unreachable("injected, before"));
        }
        let mut inner = self.lock();
        match &inner.server {
            Some(server) if server.address == endpoint.address.ip() => {
                if server.token != endpoint.token {
                    return Err(ServerError::Unauthorized { address: endpoint.address });
                }
            }
            _ => return Err(unreachable("nobody is there")),
        }
        let result = act(&mut inner);
        if matches!(fault, Fault::LostAfter | Fault::DeadAfter) {
            return Err(unreachable("injected, after"));
        }
        result
    }
}

impl Inner {
    /// The server looks at record and volume, as the contract says.
    fn decide(&mut self, record: &StoreRecord) {
        let Some(server) = &mut self.server else { return };
        // A stale copy is never above what the server has seen.
        if server.record.as_ref().is_some_and(|seen| seen.epoch > record.epoch) {
            return;
        }
        server.record = Some(record.clone());
        let volume = self.volumes.get_mut(&server.volume).expect("a mounted volume");
        let hold = |reason: &str| {
            let report = DecisionReport {
                decision: DecisionKind::Hold,
                reason: reason.to_owned(),
                message: format!("{reason}, says the model"),
            };
            (ServerState::Holding, Some(report))
        };
        let (state, decision) = match volume.identity.clone() {
            None => {
                let plan = record.restore.as_ref().filter(|plan| plan.epoch > record.epoch);
                let first = match &record.origin {
                    Origin::Restore { plan } => Some(plan),
                    _ => None,
                };
                match plan.or(first.filter(|_| record.epoch == 0)) {
                    Some(plan) => {
                        self.told.push(("restore", plan.location.clone()));
                        let stored = self.bucket.iter().find(|stored| stored.path == plan.backup_path);
                        let stored = stored.expect("a backup that is there");
                        volume.identity = Some(identity(&record.store_id, plan.epoch));
                        volume.writes = stored.writes;
                        self.restores += 1;
                        (ServerState::AwaitingRecord, None)
                    }
                    None if record.epoch > 0 => hold(reason::VOLUME_LOST),
                    None if record.origin == Origin::Empty => {
                        volume.identity = Some(identity(&record.store_id, 1));
                        (ServerState::AwaitingRecord, None)
                    }
                    None => hold(reason::SOURCE_VOLUME_EMPTY),
                }
            }
            Some(found) if found.store_id != record.store_id => match &record.origin {
                Origin::Clone { source_store_id, source_epoch, .. }
                    if *source_store_id == found.store_id && *source_epoch == found.epoch =>
                {
                    volume.identity = Some(identity(&record.store_id, found.epoch + 1));
                    (ServerState::AwaitingRecord, None)
                }
                _ => hold(reason::FOREIGN_VOLUME),
            },
            Some(found) if found.epoch < record.epoch => hold(reason::STALE_VOLUME),
            Some(found) if found.epoch == record.epoch || found.granted => {
                volume.identity = Some(Identity { granted: true, ..found });
                (ServerState::Ready, None)
            }
            Some(_) => (ServerState::AwaitingRecord, None),
        };
        server.state = state;
        server.decision = decision;
    }

    fn finish_backups(&mut self) {
        let Some(server) = &mut self.server else { return };
        let Some(volume) = self.volumes.get(&server.volume) else { return };
        let Some(identity) = &volume.identity else { return };
        for progress in
            server.backups.values_mut().filter(|progress| progress.phase == BackupPhase::Uploading)
        {
            let time = format!("20260101T{:06}Z", self.bucket.len());
            let path = backup_path(&identity.store_id, &time, identity.epoch, volume.writes);
            self.bucket.push(Stored {
                path: path.clone(),
                store_id: identity.store_id.clone(),
                epoch: identity.epoch,
                offset: volume.writes,
                writes: volume.writes,
            });
            progress.phase = BackupPhase::Succeeded;
            progress.backup_path = Some(path);
            progress.epoch = identity.epoch;
            progress.offset = volume.writes;
            progress.total_bytes = 1;
            progress.dataset =
                Some(DatasetSummary { keys: volume.writes, expiring: 0, digest: "0".repeat(64) });
            progress.completed_ms = Some(now_ms());
        }
    }

    fn status(&self) -> ServerStatus {
        let server = self.server.as_ref().expect("a server");
        let volume = &self.volumes[&server.volume];
        let strategy = server.config.lines().find_map(|line| line.strip_prefix("persist-strategy "));
        ServerStatus {
            version: "model".into(),
            contract_version: if self.is_first_version { 1 } else { CONTRACT_VERSION },
            state: server.state,
            identity: volume.identity.clone(),
            decision: server.decision.clone(),
            problem: None,
            strategy: strategy.unwrap_or("disabled").to_owned(),
            config_sha256: sha256_hex(server.config.as_bytes()),
            last_offset: volume.writes,
            durable_offset: volume.writes,
            keys: volume.writes,
            progress: None,
            last_snapshot: server.saved.map(|offset| JobReport {
                completed_ms: 1_767_225_600_000,
                bytes: 1,
                duration_ms: 1,
                offset,
            }),
            last_rotation: None,
            last_job_error: None,
        }
    }
}

fn identity(store_id: &str, epoch: u64) -> Identity {
    Identity {
        version: 1,
        store_id: store_id.to_owned(),
        instance: names::pod(STORE),
        epoch,
        last_offset: 0,
        durable_offset: 0,
        granted: false,
        clean_shutdown: false,
        has_log: None,
        parent: None,
        written_ms: 0,
    }
}

fn not_found(path: &str) -> ServerError {
    ServerError::Refused {
        method: Method::DELETE,
        path: path.to_owned(),
        status: StatusCode::NOT_FOUND,
        reason: "NotFound".into(),
        message: "no such thing".into(),
    }
}

fn refuse_unless_ready(server: &Server) -> Result<(), ServerError> {
    if server.state == ServerState::Ready {
        return Ok(());
    }
    Err(ServerError::Refused {
        method: Method::POST,
        path: "/v1".into(),
        status: StatusCode::CONFLICT,
        reason: "NotReady".into(),
        message: format!("the server is {:?}", server.state),
    })
}

#[async_trait]
impl ServerClient for Model {
    async fn status(&self, endpoint: &Endpoint) -> Result<ServerStatus, ServerError> {
        self.with_server(endpoint, "GET status", false, |inner| Ok(inner.status()))
    }

    async fn decide(&self, endpoint: &Endpoint, record: &StoreRecord) -> Result<ServerStatus, ServerError> {
        self.with_server(endpoint, "PUT decision", true, |inner| {
            inner.decide(record);
            Ok(inner.status())
        })
    }

    async fn check_config(
        &self,
        endpoint: &Endpoint,
        request: &ConfigCheckRequest,
    ) -> Result<ConfigCheck, ServerError> {
        self.with_server(endpoint, "POST config check", false, |inner| {
            assert!(!inner.is_first_version, "v0.1.0 has no such path");
            let bad = request.text.lines().position(|line| line == "hz abc");
            let problem =
                |line: usize| ConfigProblem { line: Some(line + 1), message: "hz takes a number".into() };
            Ok(ConfigCheck { problems: bad.map(problem).into_iter().collect() })
        })
    }

    async fn save_snapshot(&self, endpoint: &Endpoint) -> Result<ServerStatus, ServerError> {
        self.with_server(endpoint, "POST snapshot", true, |inner| {
            let server = inner.server.as_mut().expect("a server");
            server.saved = Some(inner.volumes[&server.volume].writes);
            Ok(inner.status())
        })
    }

    async fn find_backup(&self, endpoint: &Endpoint, id: &str) -> Result<BackupProgress, ServerError> {
        self.with_server(endpoint, "GET backup", false, |inner| {
            let server = inner.server.as_ref().expect("a server");
            server.backups.get(id).cloned().ok_or_else(|| not_found(id))
        })
    }

    async fn take_barrier(
        &self,
        endpoint: &Endpoint,
        request: &BarrierRequest,
    ) -> Result<Barrier, ServerError> {
        self.with_server(endpoint, "POST barrier", true, |inner| {
            let server = inner.server.as_mut().expect("a server");
            refuse_unless_ready(server)?;
            let volume = &inner.volumes[&server.volume];
            let identity = volume.identity.as_ref().expect("a volume with data");
            let barrier = server.barriers.entry(request.token.clone()).or_insert_with(|| Barrier {
                token: request.token.clone(),
                store_id: identity.store_id.clone(),
                epoch: identity.epoch,
                offset: volume.writes,
                taken_ms: now_ms(),
                expires_ms: now_ms() + request.timeout_seconds * 1000,
                released_ms: None,
                expired: false,
            });
            Ok(barrier.clone())
        })
    }

    async fn release_barrier(&self, endpoint: &Endpoint, token: &str) -> Result<Barrier, ServerError> {
        self.with_server(endpoint, "DELETE barrier", true, |inner| {
            let server = inner.server.as_mut().expect("a server");
            let barrier = server.barriers.get_mut(token).ok_or_else(|| not_found(token))?;
            barrier.released_ms.get_or_insert(now_ms());
            Ok(barrier.clone())
        })
    }

    async fn start_backup(
        &self,
        endpoint: &Endpoint,
        request: &BackupRequest,
    ) -> Result<BackupProgress, ServerError> {
        self.with_server(endpoint, "POST backup", true, |inner| {
            inner.told.push(("backup", request.location.clone()));
            let server = inner.server.as_mut().expect("a server");
            // A server that is not ready takes the request, and ends it at once.
            let is_ready = server.state == ServerState::Ready;
            let progress = server.backups.entry(request.id.clone()).or_insert_with(|| BackupProgress {
                id: request.id.clone(),
                phase: if is_ready { BackupPhase::Uploading } else { BackupPhase::Failed },
                reason: (!is_ready).then(|| backup_reason::NOT_READY.to_owned()),
                message: (!is_ready).then(|| "the server is not ready".to_owned()),
                backup_path: None,
                uploaded_bytes: 0,
                total_bytes: 0,
                epoch: 0,
                offset: 0,
                dataset: None,
                started_ms: now_ms(),
                completed_ms: (!is_ready).then(now_ms),
            });
            Ok(progress.clone())
        })
    }

    async fn cancel_backup(&self, endpoint: &Endpoint, id: &str) -> Result<BackupProgress, ServerError> {
        self.with_server(endpoint, "DELETE backup", true, |inner| {
            let server = inner.server.as_mut().expect("a server");
            let progress = server.backups.get_mut(id).ok_or_else(|| not_found(id))?;
            if progress.completed_ms.is_none() {
                progress.phase = BackupPhase::Failed;
                progress.completed_ms = Some(now_ms());
            }
            Ok(progress.clone())
        })
    }
}

#[async_trait]
impl BucketClient for Model {
    async fn probe(&self, location: &Location, _: &SecretData) -> Result<(), LocationProblem> {
        self.lock().told.push(("probe", location.clone()));
        Ok(())
    }

    async fn latest_backup(
        &self,
        location: &Location,
        _: &SecretData,
        store_id: &str,
    ) -> Result<Option<LatestBackup>, LocationProblem> {
        if !matches!(self.call("LIST bucket", false), Fault::None) {
            return Err(LocationProblem { reason: "LocationUnavailable".into(), message: "injected".into() });
        }
        let mut inner = self.lock();
        inner.told.push(("list", location.clone()));
        let newest = inner
            .bucket
            .iter()
            .filter(|stored| stored.store_id == store_id)
            .max_by_key(|stored| (stored.epoch, stored.offset));
        Ok(newest.map(|stored| LatestBackup {
            path: stored.path.clone(),
            epoch: stored.epoch,
            offset: stored.offset,
            cut_ms: 1_767_225_600_000,
        }))
    }

    async fn find_backup(
        &self,
        location: &Location,
        _: &SecretData,
        path: &str,
    ) -> Result<Presence, LocationProblem> {
        if !matches!(self.call("HEAD bucket", false), Fault::None) {
            return Err(LocationProblem { reason: "LocationUnavailable".into(), message: "injected".into() });
        }
        let mut inner = self.lock();
        inner.told.push(("find", location.clone()));
        let is_there = !inner.is_emptied && inner.bucket.iter().any(|stored| stored.path == path);
        Ok(if is_there { Presence::There(1) } else { Presence::Missing(format!("no object {path:?}")) })
    }
}
