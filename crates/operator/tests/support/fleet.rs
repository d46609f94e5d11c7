//! A stub in place of StatefulSet controller, kubelet and servers, for as many Stores as there are: each StatefulSet gets its
//! pod, and each pod a server that answers the control port. All pods have the address of this machine; which server is
//! meant is known by the token.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use futures::StreamExt as _;
use holdfast_contract::control::{CONTRACT_VERSION, ServerState, ServerStatus};
use holdfast_contract::identity::Identity;
use holdfast_contract::ports;
use holdfast_contract::record::StoreRecord;
use holdfast_operator::names;
use holdfast_operator::reconcile::build::{secret, sha256_hex};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource, ResourceExt as _};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Pods that are brought up at the same time.
const SIDE_BY_SIDE: usize = 8;

/// The stub; a clone is the same.
#[derive(Clone)]
pub(crate) struct Fleet(Arc<Inner>);

struct Inner {
    admin: Client,
    /// By token.
    servers: Mutex<HashMap<String, Server>>,
}

#[derive(Clone)]
struct Server {
    namespace: String,
    store: String,
    config: String,
    record: StoreRecord,
    /// The record has reached it.
    is_granted: bool,
}

impl Fleet {
    /// Serves the control port and looks after the StatefulSets of all namespaces, until the tasks are dropped.
    pub(crate) async fn start(admin: Client, tasks: &mut JoinSet<()>) -> Self {
        let fleet = Self(Arc::new(Inner { admin, servers: Mutex::default() }));
        let router = Router::new()
            .route("/v1/status", get(status))
            .route("/v1/decision", put(decide))
            .with_state(fleet.clone());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::CONTROL));
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .unwrap_or_else(|error| panic!("the control port {address} of the stub: {error}"));
        tasks.spawn(async move { axum::serve(listener, router).await.expect("the control port") });
        let looks = fleet.clone();
        tasks.spawn(async move { looks.look_after_sets().await });
        fleet
    }

    /// Servers that run.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Server>> {
        self.0.servers.lock().expect("no thread has panicked in here")
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.0.admin.clone(), namespace)
    }

    async fn look_after_sets(&self) {
        let sets = watcher(Api::<StatefulSet>::all(self.0.admin.clone()), watcher::Config::default());
        let mut seen = HashSet::new();
        let new = sets.default_backoff().applied_objects().filter_map(|set| {
            let set = set.ok().filter(|set| seen.insert(set.uid()));
            futures::future::ready(set)
        });
        new.for_each_concurrent(SIDE_BY_SIDE, |set| async move { self.bring_up(&set).await }).await;
    }

    async fn bring_up(&self, set: &StatefulSet) {
        let (namespace, store) = (set.namespace().expect("a namespace"), set.name_any());
        let revision = "revision-1";
        let status = json!({
            "observedGeneration": set.metadata.generation, "replicas": 1, "updateRevision": revision,
        });
        self.set_status::<StatefulSet>(&namespace, &store, status).await;
        self.set_status::<PersistentVolumeClaim>(
            &namespace,
            &names::claim(&store),
            json!({"phase": "Bound"}),
        )
        .await;

        let template = set.spec.template.clone();
        let mut metadata = template.metadata.expect("metadata");
        metadata.name = Some(names::pod(&store));
        metadata.labels.get_or_insert_default().insert("controller-revision-hash".into(), revision.into());
        metadata.owner_references = Some(
            serde_json::from_value(json!([{
                "apiVersion": "apps/v1", "kind": "StatefulSet", "name": store, "uid": set.metadata.uid, "controller": true,
            }]))
            .expect("an owner"),
        );
        let mut spec = template.spec.expect("a spec");
        spec.volumes.get_or_insert_default().push(
            serde_json::from_value(json!({
                "name": names::DATA_VOLUME, "persistentVolumeClaim": {"claimName": names::claim(&store)},
            }))
            .expect("a volume"),
        );
        let pod = Pod { metadata, spec: Some(spec), status: None };
        self.api::<Pod>(&namespace).create(&PostParams::default(), &pod).await.expect("a pod");

        let auth = self.api::<Secret>(&namespace).get(&names::auth_secret(&store)).await.expect("a Secret");
        let token = secret::read(&auth).expect("a password and a token").token;
        let record = self.data(&namespace, names::record(&store), "store.json").await;
        let server = Server {
            config: self.data(&namespace, names::config(&store), names::CONFIG_KEY).await,
            record: serde_json::from_str(&record).expect("a record"),
            namespace,
            store,
            is_granted: false,
        };
        self.lock().insert(token, server.clone());
        self.report_pod(&server).await;
    }

    async fn data(&self, namespace: &str, name: String, key: &str) -> String {
        let map = self.api::<ConfigMap>(namespace).get(&name).await.expect("a ConfigMap");
        map.data.and_then(|mut data| data.remove(key)).unwrap_or_else(|| panic!("{name} has no {key}"))
    }

    async fn report_pod(&self, server: &Server) {
        let is_ready = server.is_granted;
        let status = json!({
            "phase": "Running", "podIP": Ipv4Addr::LOCALHOST.to_string(),
            "conditions": [{"type": "Ready", "status": if is_ready { "True" } else { "False" }}],
            "containerStatuses": [{
                "name": names::SERVER_CONTAINER, "image": "i", "imageID": "i", "ready": is_ready, "restartCount": 0,
                "state": {"running": {}},
            }],
        });
        self.set_status::<Pod>(&server.namespace, &names::pod(&server.store), status).await;
    }

    async fn set_status<K>(&self, namespace: &str, name: &str, status: Value)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let patch = Patch::Merge(json!({"status": status}));
        let api = self.api::<K>(namespace);
        api.patch_status(name, &PatchParams::default(), &patch).await.expect("a status");
    }
}

impl Server {
    fn status(&self) -> ServerStatus {
        let strategy = self.config.lines().find_map(|line| line.strip_prefix("persist-strategy "));
        ServerStatus {
            version: "stub".into(),
            contract_version: CONTRACT_VERSION,
            state: if self.is_granted { ServerState::Ready } else { ServerState::AwaitingRecord },
            identity: Some(Identity {
                version: 1,
                store_id: self.record.store_id.clone(),
                instance: names::pod(&self.store),
                epoch: 1,
                last_offset: 0,
                durable_offset: 0,
                granted: self.is_granted,
                clean_shutdown: false,
                has_log: None,
                parent: None,
                written_ms: 0,
            }),
            decision: None,
            problem: None,
            strategy: strategy.unwrap_or("disabled").to_owned(),
            config_sha256: sha256_hex(self.config.as_bytes()),
            last_offset: 0,
            durable_offset: 0,
            keys: 0,
            progress: None,
            last_snapshot: None,
            last_rotation: None,
            last_job_error: None,
        }
    }
}

/// The token of a request.
fn token(headers: &HeaderMap) -> &str {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    value.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default()
}

async fn status(State(fleet): State<Fleet>, headers: HeaderMap) -> Response {
    match fleet.lock().get(token(&headers)) {
        Some(server) => Json(server.status()).into_response(),
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}

async fn decide(State(fleet): State<Fleet>, headers: HeaderMap, Json(record): Json<StoreRecord>) -> Response {
    let server = {
        let mut servers = fleet.lock();
        let Some(server) = servers.get_mut(token(&headers)) else {
            return StatusCode::UNAUTHORIZED.into_response();
        };
        server.is_granted |= record.epoch >= 1;
        server.record = record;
        server.clone()
    };
    fleet.report_pod(&server).await;
    Json(server.status()).into_response()
}
