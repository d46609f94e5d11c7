//! A fleet of Stores: the operator as a process of its own, against a real kube-apiserver and etcd, with a stub in place of
//! StatefulSet controller, kubelet and servers. What is counted comes from the audit log of the API server.
//!
//! By default a small fleet, of which is asserted what does not depend on the machine: that nothing is written when all is
//! settled, that the number of reads does not grow with the looks, and how much is kept of each object. `make
//! bench-operator` runs a thousand Stores with the release build and asserts the figures too:
//!
//! `HOLDFAST_SCALE_STORES` (20), `HOLDFAST_SCALE_BACKUPS` for each of them (5), `HOLDFAST_SCALE_IDLE_SECONDS` (40),
//! `HOLDFAST_SCALE_CHANGES` (10); `HOLDFAST_OPERATOR` the binary, by default that of this build; `HOLDFAST_SCALE_PAGE` a
//! Markdown page whose figures are written again, which also makes the limits count.

#[path = "support/apiserver.rs"]
mod apiserver;
#[path = "support/fleet.rs"]
mod fleet;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use holdfast_bucket::testing::{BUCKET, Gateway};
use holdfast_operator::api::v1alpha1::{BackupLocation, Store, StoreBackup};
use holdfast_operator::names;
use holdfast_operator::packed::{Keep, Packed, Sample};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource, ResourceExt as _};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::apiserver::{ApiServer, OPERATOR_TOKEN, OPERATOR_USER};
use crate::fleet::Fleet;

/// Stores in a namespace, which has one location.
const STORES_PER_NAMESPACE: usize = 100;
/// Objects that are created at the same time.
const SIDE_BY_SIDE: usize = 16;
/// Longest time for a fleet to be made from nothing.
const CREATION_MAX: Duration = Duration::from_secs(3600);
/// After the fleet has settled: what was begun before ends.
const CALM: Duration = Duration::from_secs(10);

/// Metrics of the operator.
const STORE_READY: &str = "holdfast_operator_store_ready";
const RECONCILES: &str = "holdfast_operator_reconciles_total";

/// What the caches keep of a Store with its objects, and of an ended StoreBackup, in bytes of their texts. Twenty Stores have
/// 3,741 and 111; as plain text they would have 26,000 and 1,066. It is the same in every build.
const KEPT_OF_STORE_MAX: usize = 8 << 10;
const KEPT_OF_BACKUP_MAX: usize = 512;
/// Resident memory of the small fleet in any build; 36 MiB in that for debugging.
const RESIDENT_SMALL_MIB_MAX: f64 = 64.0;
/// Stores of the small fleet.
const STORES_SMALL: usize = 20;

/// What is promised of a thousand Stores, in `docs/scale.md`.
const START_MAX: Duration = Duration::from_secs(180);
const REQUESTS_PER_SECOND_MAX: f64 = 20.0;
const RESIDENT_MIB_MAX: f64 = 100.0;
const CHANGE_MAX: Duration = Duration::from_secs(1);

fn setting(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is not a number")),
        Err(_) => default,
    }
}

/// The operator as a process; killed when dropped.
struct Operator {
    process: Child,
    health: SocketAddr,
    started: Instant,
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Operator {
    fn start(server: &ApiServer, dir: &Path) -> Self {
        let config = server.config(OPERATOR_TOKEN);
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": config.cluster_url.to_string(), "insecure-skip-tls-verify": true,
            }}],
            "users": [{"name": "test", "user": {"token": OPERATOR_TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "holdfast-system"}}],
        });
        let path = dir.join("kubeconfig.json");
        fs::write(&path, kubeconfig.to_string()).expect("write the configuration of the client");
        let health = {
            let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
            listener.local_addr().expect("an address")
        };
        let binary = std::env::var_os("HOLDFAST_OPERATOR")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_holdfast-operator")), PathBuf::from);
        let log = fs::File::create(dir.join("operator.log")).expect("a log file");
        let process = Command::new(&binary)
            .args(["run", "--lease-namespace", "holdfast-system", "--identity", "fleet"])
            .args(["--health-address", &health.to_string()])
            .env("KUBECONFIG", &path)
            .env("HOLDFAST_LOG", "warn")
            .stdout(Stdio::from(log.try_clone().expect("the same file")))
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap_or_else(|error| panic!("start {binary:?}: {error}"));
        Self { process, health, started: Instant::now() }
    }

    /// Its metrics; empty while its port is not open yet.
    fn metrics(&self) -> String {
        let mut text = String::new();
        if let Ok(mut stream) = TcpStream::connect(self.health) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let _ = stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n");
            let _ = stream.read_to_string(&mut text);
        }
        text
    }

    /// The sum of the metrics whose name and labels begin with `name` and contain `label`.
    fn sum(&self, name: &str, label: &str) -> usize {
        let metrics = self.metrics();
        let lines = metrics.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
    }

    /// Waits until it has looked at every Store, all of which are ready, and at every StoreBackup.
    async fn has_looked(&self, stores: usize, backups: usize) {
        until("Stores looked at", CREATION_MAX, || (self.sum(STORE_READY, ""), stores)).await;
        let backup = "kind=\"StoreBackup\"";
        until("StoreBackups looked at", CREATION_MAX, || (self.sum(RECONCILES, backup), backups)).await;
    }

    /// A field of `/proc/PID/status` in MiB.
    fn memory_mib(&self, field: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field is there");
        let kib: f64 = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number");
        kib / 1024.0
    }

    /// Ends it as the kubelet would.
    fn stop(mut self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        assert!(self.process.wait().expect("it ends").success(), "the operator does not stop cleanly");
    }
}

/// Waits until `done`, and tells how far it is.
async fn until(what: &str, limit: Duration, mut done: impl FnMut() -> (usize, usize)) -> Duration {
    let begun = Instant::now();
    let mut told = 0;
    loop {
        let (count, wanted) = done();
        if count >= wanted {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < limit, "{what}: {count} of {wanted} after {} s", limit.as_secs());
        if begun.elapsed().as_secs() / 30 > told {
            told = begun.elapsed().as_secs() / 30;
            println!("{what}: {count} of {wanted} after {} s", begun.elapsed().as_secs());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Where a Store of the fleet is.
fn place(number: usize) -> (String, String) {
    (format!("fleet-{}", number / STORES_PER_NAMESPACE), format!("store-{number}"))
}

struct Admin(Client);

impl Admin {
    async fn create<K>(&self, namespace: &str, object: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        let object: K = serde_json::from_value(object).expect("an object");
        let api: Api<K> = Api::namespaced(self.0.clone(), namespace);
        api.create(&PostParams::default(), &object).await.expect("it is taken")
    }

    async fn create_namespace(&self, number: usize, gateway: &Gateway) {
        let namespace = format!("fleet-{number}");
        let object: Namespace =
            serde_json::from_value(json!({"metadata": {"name": namespace}})).expect("a namespace");
        let namespaces: Api<Namespace> = Api::all(self.0.clone());
        namespaces.create(&PostParams::default(), &object).await.expect("a namespace");
        self.create::<Secret>(
            &namespace,
            json!({"metadata": {"name": "keys"}, "stringData": {"accessKeyID": "test-key", "secretAccessKey": "test-secret"}}),
        )
        .await;
        let spec = json!({
            "s3": {"bucket": BUCKET, "endpoint": format!("http://{}", gateway.address()), "region": "test-region"},
            "credentialsSecretRef": {"name": "keys"}, "prefix": namespace,
        });
        self.create::<BackupLocation>(
            &namespace,
            json!({
                "apiVersion": "holdfast.dev/v1alpha1", "kind": "BackupLocation",
                "metadata": {"name": "offsite"}, "spec": spec,
            }),
        )
        .await;
    }

    async fn create_store(&self, number: usize) {
        let (namespace, name) = place(number);
        let spec = json!({
            "storage": {"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "1Gi"}}}}},
            "backup": {"locationRef": {"name": "offsite"}},
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
        });
        let object = json!({
            "apiVersion": "holdfast.dev/v1alpha1", "kind": "Store", "metadata": {"name": name}, "spec": spec,
        });
        self.create::<Store>(&namespace, object).await;
    }

    /// A backup that has succeeded long ago.
    async fn create_backup(&self, store: usize, number: usize) {
        let (namespace, store) = place(store);
        let name = format!("{store}-{number}");
        let object = json!({
            "apiVersion": "holdfast.dev/v1alpha1", "kind": "StoreBackup", "metadata": {"name": name},
            "spec": {"storeRef": {"name": store}},
        });
        self.create::<StoreBackup>(&namespace, object).await;
        let time = Timestamp::from_second(1_790_000_000).expect("a time").to_string();
        let condition = |kind: &str, message: &str| {
            json!({
                "type": kind, "status": "True", "reason": "Completed", "message": message,
                "observedGeneration": 1, "lastTransitionTime": time,
            })
        };
        let status = json!({
            "observedGeneration": 1, "startTime": time, "completionTime": time, "storeID": "0".repeat(36),
            "instance": names::pod(&store), "epoch": 1, "offset": 1, "bytes": 1_000_000, "keys": 1000,
            "digest": "0".repeat(64), "location": "offsite", "place": {"bucket": BUCKET, "prefix": namespace},
            "path": format!("{store}/20260101T000000Z/{number}"),
            "conditions": [
                condition("Succeeded", "uploaded, read back, compared and opened"), condition("ReadyToUse", ""),
            ],
        });
        let api: Api<StoreBackup> = Api::namespaced(self.0.clone(), &namespace);
        let patch = Patch::Merge(json!({"status": status}));
        api.patch_status(&name, &PatchParams::default(), &patch).await.expect("a status");
    }

    /// Changes the specs of `count` Stores one after the other; how long until the operator has acted upon each.
    async fn change(&self, stores: usize, count: usize) -> Vec<Duration> {
        let watch = watcher(Api::<Store>::all(self.0.clone()), watcher::Config::default());
        let mut seen = Box::pin(watch.default_backoff().applied_objects());
        let mut took = Vec::new();
        for number in 0..count {
            let (namespace, name) = place(number * 7 % stores);
            let api: Api<Store> = Api::namespaced(self.0.clone(), &namespace);
            let patch =
                Patch::Merge(json!({"spec": {"updateStrategy": {"readyTimeoutSeconds": 600 + number}}}));
            let begun = Instant::now();
            let changed = api.patch(&name, &PatchParams::default(), &patch).await.expect("a change");
            let is_done = |store: &Store| {
                let observed = store.status.as_ref().and_then(|status| status.observed_generation);
                store.uid() == changed.uid() && observed >= changed.metadata.generation
            };
            loop {
                let next = tokio::time::timeout(CREATION_MAX, seen.next()).await;
                let store = next.expect("the change is acted upon").expect("the watch goes on");
                if store.is_ok_and(|store| is_done(&store)) {
                    break;
                }
            }
            took.push(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        took.sort();
        took
    }
}

/// What the caches keep of all objects of a kind, in bytes of their texts.
async fn kept<K>(admin: &Client, labels: &str) -> usize
where
    K: Keep<Scope = NamespaceResourceScope> + Clone + std::fmt::Debug,
{
    let list = Api::<Packed<K>>::all(admin.clone()).list(&ListParams::default().labels(labels)).await;
    let mut sample = Sample::default();
    list.expect("a list").iter().map(|object| object.to_keep(&mut sample).text_len()).sum()
}

/// Arguments of an API server that writes every request of the operator's account into `log`: a line of JSON for each one that
/// has ended, and for each watch that has begun.
fn audit(dir: &Path, log: &Path) -> Vec<String> {
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "users": [OPERATOR_USER]}, {"level": "None"}],
    });
    let path = dir.join("audit.yaml");
    fs::write(&path, policy.to_string()).expect("write the audit policy");
    vec![format!("--audit-policy-file={}", path.display()), format!("--audit-log-path={}", log.display())]
}

/// The requests of the operator that are in the audit log from byte `from` on: how many, by verb and resource.
fn requests(log: &Path, from: u64) -> BTreeMap<String, usize> {
    let text = fs::read(log).expect("the audit log");
    let text = &text[usize::try_from(from).expect("a length")..];
    let mut counts = BTreeMap::new();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        // The last line may be half written.
        let Ok(event) = serde_json::from_slice::<Value>(line) else { continue };
        let verb = event["verb"].as_str().unwrap_or_default();
        // A watch ends when the API server thinks fit; what it costs is to be begun.
        let stage = if verb == "watch" { "ResponseStarted" } else { "ResponseComplete" };
        if event["stage"] == stage {
            let resource = event["objectRef"]["resource"].as_str().unwrap_or("other");
            *counts.entry(format!("{verb} {resource}")).or_default() += 1;
        }
    }
    counts
}

fn is_write(request: &str) -> bool {
    !["get ", "list ", "watch "].iter().any(|verb| request.starts_with(verb))
}

async fn each(count: usize, act: impl AsyncFn(usize)) {
    futures::stream::iter(0..count).for_each_concurrent(SIDE_BY_SIDE, |number| act(number)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settled_fleet_costs_next_to_nothing() {
    let stores = setting("HOLDFAST_SCALE_STORES", STORES_SMALL);
    let backups = setting("HOLDFAST_SCALE_BACKUPS", 5);
    let idle = Duration::from_secs(setting("HOLDFAST_SCALE_IDLE_SECONDS", 40) as u64);
    let changes = setting("HOLDFAST_SCALE_CHANGES", 10);
    let page = std::env::var_os("HOLDFAST_SCALE_PAGE").map(PathBuf::from);

    let dir = tempfile::tempdir().expect("a directory");
    let gateway = Gateway::start();
    let log = dir.path().join("audit.log");
    let server = ApiServer::start(&audit(dir.path(), &log)).await;
    let admin = Admin(server.admin());
    let mut tasks = JoinSet::new();
    let fleet = Fleet::start(server.admin(), &mut tasks).await;
    each(stores.div_ceil(STORES_PER_NAMESPACE), async |number| {
        admin.create_namespace(number, &gateway).await
    })
    .await;

    let operator = Operator::start(&server, dir.path());
    each(stores, async |number| admin.create_store(number).await).await;
    until("Stores ready", CREATION_MAX, || (operator.sum(STORE_READY, ""), stores)).await;
    let created = operator.started.elapsed();
    println!("{stores} Stores made and ready after {:.1} s; {} servers", created.as_secs_f64(), fleet.len());
    operator.stop();
    each(stores * backups, async |number| admin.create_backup(number % stores, number / stores).await).await;
    // One operator takes note of them; the start of the next one is that of an operator for which nothing is to do.
    let operator = Operator::start(&server, dir.path());
    operator.has_looked(stores, stores * backups).await;
    tokio::time::sleep(CALM).await;
    operator.stop();
    println!("{} StoreBackups made", stores * backups);

    let length = || fs::metadata(&log).expect("the audit log").len();
    let before_start = length();
    let operator = Operator::start(&server, dir.path());
    operator.has_looked(stores, stores * backups).await;
    let settled = operator.started.elapsed();
    tokio::time::sleep(CALM).await;
    let at_start = requests(&log, before_start);
    println!("settled after {:.1} s; requests until then: {at_start:?}", settled.as_secs_f64());

    let before_idle = length();
    tokio::time::sleep(idle).await;
    let in_idle = requests(&log, before_idle);
    let (resident, peak) = (operator.memory_mib("VmRSS"), operator.memory_mib("VmHWM"));
    let count: usize = in_idle.values().sum();
    let rate = count as f64 / idle.as_secs_f64();
    println!("idle for {} s: {rate:.2} requests/s, {in_idle:?}", idle.as_secs());
    println!("memory: {resident:.1} MiB, at most {peak:.1} MiB");
    let ours = format!("app.kubernetes.io/managed-by={}", names::FIELD_MANAGER);
    let of_stores = kept::<Store>(&admin.0, "").await
        + kept::<StatefulSet>(&admin.0, &ours).await
        + kept::<Pod>(&admin.0, &ours).await
        + kept::<PersistentVolumeClaim>(&admin.0, &ours).await
        + kept::<ConfigMap>(&admin.0, &ours).await
        + kept::<Service>(&admin.0, &ours).await
        + kept::<ServiceAccount>(&admin.0, &ours).await
        + kept::<PodDisruptionBudget>(&admin.0, &ours).await;
    let of_backups = kept::<StoreBackup>(&admin.0, "").await;
    let (of_store, of_backup) = (of_stores / stores, of_backups / (stores * backups).max(1));
    println!("kept: {of_store} bytes of a Store, {of_backup} of a StoreBackup");
    let took = admin.change(stores, changes).await;
    let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)];
    println!("changes acted upon: {:?} (median), {:?} (p99)", at(50), at(99));

    let writes: Vec<_> = in_idle.iter().filter(|(request, _)| is_write(request)).collect();
    assert!(
        writes.iter().all(|(request, _)| request.ends_with(" leases")),
        "something is written although all is settled: {writes:?}\n{}",
        fs::read_to_string(dir.path().join("operator.log")).unwrap_or_default()
    );
    let started = at_start.iter().filter(|(request, _)| is_write(request) && !request.ends_with(" leases"));
    assert_eq!(started.count(), 0, "a start writes although all is settled: {at_start:?}");
    // A look at each Store every 30 seconds would read a dozen objects of each.
    let looked_at = stores as f64 * idle.as_secs_f64() / 30.0;
    let about_stores: usize =
        in_idle.iter().filter(|(request, _)| !request.ends_with(" leases")).map(|(_, count)| count).sum();
    assert!((about_stores as f64) < 2.0 * looked_at + 30.0, "{about_stores} requests: {in_idle:?}");

    assert!(of_store <= KEPT_OF_STORE_MAX, "{of_store} bytes are kept of a Store");
    assert!(of_backup <= KEPT_OF_BACKUP_MAX, "{of_backup} bytes are kept of a StoreBackup");
    assert!(stores > STORES_SMALL || resident <= RESIDENT_SMALL_MIB_MAX, "{resident} MiB");

    let Some(page) = page else { return };
    let mut rows = String::new();
    let mut row = |what: &str, is: String, limit: String| {
        writeln!(rows, "| {what} | {is} | {limit} |").expect("a string takes all");
    };
    row("Stores made from nothing, all ready", format!("{:.0} s", created.as_secs_f64()), String::new());
    row(
        "cold start: every object looked at",
        format!("{:.1} s", settled.as_secs_f64()),
        format!("≤ {} s", START_MAX.as_secs()),
    );
    row("requests until then", at_start.values().sum::<usize>().to_string(), String::new());
    row("idle: requests per second", format!("{rate:.1}"), format!("≤ {REQUESTS_PER_SECOND_MAX}"));
    row("idle: writes besides the lease", "0".to_owned(), "0".to_owned());
    row(
        "resident memory",
        format!("{resident:.0} MiB (peak {peak:.0})"),
        format!("≤ {RESIDENT_MIB_MAX} MiB"),
    );
    row(
        "a change is acted upon: median, p99",
        format!("{} ms, {} ms", at(50).as_millis(), at(99).as_millis()),
        format!("≤ {} ms", CHANGE_MAX.as_millis()),
    );
    let mut text = format!(
        "{}; {stores} Stores in {} namespaces, {} StoreBackups; idle for {} s, {changes} changes.\n\n| | measured | limit |\n|---|---|---|\n{rows}",
        Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"),
        stores.div_ceil(STORES_PER_NAMESPACE),
        stores * backups,
        idle.as_secs(),
    );
    writeln!(text, "\nRequests while idle: {in_idle:?}").expect("a string takes all");
    write_figures(&page, &text);
    assert!(settled <= START_MAX, "settled after {settled:?}");
    assert!(rate <= REQUESTS_PER_SECOND_MAX, "{rate} requests per second");
    assert!(resident <= RESIDENT_MIB_MAX, "{resident} MiB");
    assert!(at(99) <= CHANGE_MAX, "a change was acted upon after {:?}", at(99));
}

/// Replaces what is between the markers of the page.
fn write_figures(page: &Path, figures: &str) {
    let (begin, end) = ("<!-- figures: begin", "<!-- figures: end");
    let text = fs::read_to_string(page).unwrap_or_else(|error| panic!("{page:?}: {error}"));
    let (head, rest) = text.split_once(begin).expect("a marker where the figures begin");
    let (marker, rest) = rest.split_once('\n').expect("the end of the line");
    let (_, tail) = rest.split_once(end).expect("a marker where the figures end");
    fs::write(page, format!("{head}{begin}{marker}\n{figures}{end}{tail}")).expect("write the page");
}
