//! A real kube-apiserver and etcd, with the definitions and the rights that the operator is installed with.
//!
//! The binaries are found in the directory `HOLDFAST_KUBE_BIN`, by default where the cluster scripts put them.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use holdfast_operator::api::schema::crds;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::client::{Body, ClientBuilder};
use kube::config::AuthInfo;
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tower::{BoxError, Layer, Service, ServiceExt as _};

const ADMIN_TOKEN: &str = "admin-token";
/// Token of the account that has the operator's rights.
pub(crate) const OPERATOR_TOKEN: &str = "operator-token";
/// The account that `deploy/holdfast.yaml` binds the operator's rights to.
pub(crate) const OPERATOR_USER: &str = "system:serviceaccount:holdfast-system:holdfast";
/// Longest time until the API answers; a few seconds on a quiet machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Further attempts of a call whose connection broke.
const REPEATS: u32 = 10;

/// What stands before the point of a P-256 key in its DER form (RFC 5480).
const P256_PUBLIC_KEY_HEADER: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Running etcd and kube-apiserver; both end when this is dropped.
pub(crate) struct ApiServer {
    port: u16,
    children: Vec<Child>,
    dir: tempfile::TempDir,
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn binary(name: &str) -> PathBuf {
    let dir = std::env::var_os("HOLDFAST_KUBE_BIN").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/holdfast/cluster/bin"),
        PathBuf::from,
    );
    let path = dir.join(name);
    assert!(
        path.exists(),
        "no {name} in {dir:?}; `make setup` builds it, or HOLDFAST_KUBE_BIN names its directory"
    );
    path
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Writes `der` as PEM.
fn write_pem(path: &Path, label: &str, der: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let group =
            chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for position in 0..4 {
            let index = usize::try_from(group >> (18 - 6 * position) & 63).expect("six bits");
            text.push(if position <= chunk.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    fs::write(path, format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n"))
        .expect("write a key");
}

impl ApiServer {
    /// Starts both, the API server with further `arguments`, and installs definitions and rights.
    pub(crate) async fn start(arguments: &[String]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        // A key for account tokens, which the API server insists on and nothing here uses.
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .expect("a key");
        write_pem(&path("account.key"), "PRIVATE KEY", key.as_ref());
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.as_ref(), &SystemRandom::new());
        let public = [P256_PUBLIC_KEY_HEADER, pair.expect("a key").public_key().as_ref()].concat();
        write_pem(&path("account.pub"), "PUBLIC KEY", &public);
        let tokens = format!(
            "{ADMIN_TOKEN},admin,admin,system:masters\n{OPERATOR_TOKEN},{OPERATOR_USER},operator,system:serviceaccounts\n"
        );
        fs::write(path("tokens.csv"), tokens).expect("write tokens");

        let (port, client_port, peer_port) = (free_port(), free_port(), free_port());
        let (client_url, peer_url) =
            (format!("http://127.0.0.1:{client_port}"), format!("http://127.0.0.1:{peer_port}"));
        let log = |name: &str| Stdio::from(fs::File::create(path(name)).expect("a log file"));
        let etcd = Command::new(binary("etcd"))
            .arg("--data-dir")
            .arg(path("etcd"))
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}"), "--unsafe-no-fsync"])
            .stdout(Stdio::null())
            .stderr(log("etcd.log"))
            .spawn()
            .expect("start etcd");
        let apiserver = Command::new(binary("kube-apiserver"))
            .args(arguments)
            .args(["--etcd-servers", &client_url, "--bind-address", "127.0.0.1"])
            .args(["--secure-port", &port.to_string(), "--service-cluster-ip-range", "10.0.0.0/16"])
            .args(["--service-account-issuer", "https://holdfast.test", "--authorization-mode", "RBAC"])
            .args(["--disable-admission-plugins", "ServiceAccount"])
            .arg("--cert-dir")
            .arg(path("certificates"))
            .arg("--service-account-signing-key-file")
            .arg(path("account.key"))
            .arg("--service-account-key-file")
            .arg(path("account.pub"))
            .arg("--token-auth-file")
            .arg(path("tokens.csv"))
            .stdout(Stdio::null())
            .stderr(log("kube-apiserver.log"))
            .spawn()
            .expect("start kube-apiserver");
        let mut server = Self { port, children: vec![etcd, apiserver], dir };
        let admin = server.admin();
        let started = Instant::now();
        while admin.apiserver_version().await.is_err() || !Self::is_ready(&admin).await {
            let has_ended = server.children.iter_mut().any(|child| !matches!(child.try_wait(), Ok(None)));
            assert!(
                !has_ended && started.elapsed() < START_TIMEOUT,
                "the API server does not start: {}",
                server.logs()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        install(&admin).await;
        server
    }

    async fn is_ready(client: &Client) -> bool {
        let request = Request::get("/readyz").body(Vec::new()).expect("a request");
        client.request_text(request).await.is_ok()
    }

    fn logs(&self) -> String {
        fs::read_to_string(self.dir.path().join("kube-apiserver.log")).unwrap_or_default()
    }

    /// How to reach it with `token`.
    pub(crate) fn config(&self, token: &str) -> Config {
        let mut config = Config::new(format!("https://127.0.0.1:{}", self.port).parse().expect("a URL"));
        config.accept_invalid_certs = true;
        let auth: AuthInfo = serde_json::from_value(json!({"token": token})).expect("a token");
        config.auth_info = auth;
        config
    }

    /// A client that may do everything and never fails on purpose.
    pub(crate) fn admin(&self) -> Client {
        ClientBuilder::try_from(self.config(ADMIN_TOKEN)).expect("a client").with_layer(&PatientLayer).build()
    }
}

/// Repeats calls whose connection broke: on a busy machine the API server closes connections now and then, and the
/// surroundings of the operator shall not fail with it.
struct PatientLayer;

impl<S> Layer<S> for PatientLayer {
    type Service = PatientService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        PatientService { inner: Arc::new(tokio::sync::Mutex::new(inner)) }
    }
}

struct PatientService<S> {
    inner: Arc<tokio::sync::Mutex<S>>,
}

impl<S, B> Service<Request<Body>> for PatientService<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = self.inner.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes().to_vec();
            let mut left = REPEATS;
            loop {
                let again = Request::from_parts(parts.clone(), Body::from(body.clone()));
                let sent = {
                    let mut inner = inner.lock().await;
                    inner.ready().await.map_err(Into::into)?.call(again)
                };
                match sent.await.map_err(Into::into) {
                    Err(error) if left == 0 => return Err(error),
                    Err(_) => left -= 1,
                    Ok(response) => return Ok(response),
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })
    }
}

/// Installs the definitions, the operator's rights, and a definition of VolumeSnapshot.
async fn install(admin: &Client) {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/holdfast.yaml");
    let text = fs::read_to_string(manifest).expect("deploy/holdfast.yaml");
    let mut objects: Vec<Value> = serde_yaml::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).expect("YAML"))
        .filter(|object| {
            matches!(
                object["kind"].as_str(),
                Some("Namespace" | "Role" | "RoleBinding" | "ClusterRole" | "ClusterRoleBinding")
            )
        })
        .collect();
    objects.extend(crds());
    objects.push(snapshot_definition());
    for object in objects {
        let (group, version) = match object["apiVersion"].as_str().expect("apiVersion").split_once('/') {
            Some((group, version)) => (group, version),
            None => ("", object["apiVersion"].as_str().expect("apiVersion")),
        };
        let kind = object["kind"].as_str().expect("kind");
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let name = object["metadata"]["name"].as_str().expect("name");
        let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(admin.clone(), namespace, &resource),
            None => Api::all_with(admin.clone(), &resource),
        };
        let params = PatchParams::apply("test").force();
        api.patch(name, &params, &Patch::Apply(&object))
            .await
            .unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
    }
    // The API server serves a new kind a moment after it has taken its definition.
    for plural in ["stores", "storebackups", "backuplocations"] {
        wait_for_kind(admin, &format!("/apis/holdfast.dev/v1alpha1/{plural}")).await;
    }
    wait_for_kind(admin, "/apis/snapshot.storage.k8s.io/v1/volumesnapshots").await;
}

async fn wait_for_kind(admin: &Client, path: &str) {
    let started = Instant::now();
    loop {
        let request = Request::get(path).body(Vec::new()).expect("a request");
        if admin.request_text(request).await.is_ok() {
            return;
        }
        assert!(started.elapsed() < START_TIMEOUT, "{path} is not served");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn snapshot_definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "volumesnapshots.snapshot.storage.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-csi/external-snapshotter"},
        },
        "spec": {
            "group": "snapshot.storage.k8s.io", "scope": "Namespaced",
            "names": {"kind": "VolumeSnapshot", "listKind": "VolumeSnapshotList", "plural": "volumesnapshots", "singular": "volumesnapshot"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    })
}
