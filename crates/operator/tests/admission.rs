//! What a real API server makes of manifests: the sentences with which bad ones are refused, and that good ones pass.
//! Nothing but the definitions is at work here, no webhook and no operator.

#[path = "support/apiserver.rs"]
mod apiserver;
#[path = "support/defaults.rs"]
mod defaults;

use std::path::Path;

use holdfast_contract::record::{Origin, StoreRecord};
use holdfast_operator::api::schema::crds;
use holdfast_operator::api::v1alpha1::{BackupLocation, Store, StoreBackup, StoreStatus};
use holdfast_operator::names;
use holdfast_operator::reconcile::build::{Inputs, MountedLocation, build};
use holdfast_operator::reconcile::rendering::Rendering;
use holdfast_operator::reconcile::validate::{Defaults, PodUser, validate};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams, ValidationDirective,
};
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::apiserver::ApiServer;

struct Admission {
    client: kube::Client,
}

impl Admission {
    /// Applies a manifest, given as kind, name and spec; the API's sentence if it is refused.
    async fn apply(&self, kind: &str, name: &str, spec: &Value) -> Result<(), String> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("holdfast.dev", "v1alpha1", kind));
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), "default", &resource);
        let object = json!({
            "apiVersion": "holdfast.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
        });
        let applied = api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(&object)).await;
        applied.map(|_| ()).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check(found: &Result<(), String>, expected: Option<&str>, what: &str) {
        match (found, expected) {
            (Ok(()), None) => {}
            (Err(error), Some(sentence)) if error.contains(sentence) => {}
            _ => panic!("{what}: {found:?}, expected {expected:?}"),
        }
    }

    async fn check_store(&self, name: &str, extra: &str, expected: Option<&str>) {
        let mut spec: Value = serde_yaml::from_str(extra).expect("YAML");
        if spec["storage"].is_null() {
            spec["storage"] =
                json!({"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "1Gi"}}}}});
        } else if spec["storage"] == json!("none") {
            spec.as_object_mut().expect("a map").remove("storage");
        }
        Self::check(&self.apply("Store", name, &spec).await, expected, extra);
    }
}

#[tokio::test]
async fn manifests_are_refused_with_a_sentence_that_helps() {
    let api = ApiServer::start(&[]).await;
    let admission = Admission { client: api.admin() };
    new_stores(&admission).await;
    changes_of_stores(&admission).await;
    other_kinds(&admission).await;
    older_objects(&admission).await;
    pods_in_restricted_namespaces(&admission).await;
    examples(&admission).await;
}

/// What people copy is taken as it is, without a field that nobody reads, and says nothing that the operator refuses.
async fn examples(admission: &Admission) {
    let namespace: Namespace =
        serde_json::from_value(json!({"metadata": {"name": "examples"}})).expect("a namespace");
    let namespaces: Api<Namespace> = Api::all(admission.client.clone());
    namespaces.create(&PostParams::default(), &namespace).await.expect("a namespace");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let files = std::fs::read_dir(&directory).expect("examples").map(|entry| entry.expect("an entry").path());
    let manifests: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    assert!(manifests.len() >= 8, "{manifests:?}");
    for path in manifests {
        let text = std::fs::read_to_string(&path).expect("an example");
        for document in serde_yaml::Deserializer::from_str(&text) {
            let object = Value::deserialize(document).expect("YAML");
            let kind = object["kind"].as_str().expect("kind");
            let version = object["apiVersion"].as_str().expect("apiVersion");
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let api: Api<DynamicObject> =
                Api::namespaced_with(admission.client.clone(), "examples", &resource);
            let params = PatchParams {
                field_validation: Some(ValidationDirective::Strict),
                ..PatchParams::apply("test")
            };
            let name = object["metadata"]["name"].as_str().expect("name");
            let applied = api.patch(name, &params.force(), &Patch::Apply(&object)).await;
            let applied = applied.unwrap_or_else(|error| panic!("{path:?}: {error}"));
            if kind == "Store" {
                let store: Store = applied.try_parse().expect("a Store");
                let valid = validate(&store, &defaults::defaults(), Timestamp::UNIX_EPOCH);
                let valid = valid.unwrap_or_else(|refusals| panic!("{path:?}: {refusals:?}"));
                assert!(valid.refused.is_empty(), "{path:?}: {:?}", valid.refused);
                assert!(valid.concerns.is_empty(), "{path:?}: {:?}", valid.concerns);
            }
        }
    }
}

/// The strictest of Kubernetes's own standards takes the pods as they are built, whoever chooses their user.
async fn pods_in_restricted_namespaces(admission: &Admission) {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {
        "name": "restricted", "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
    }}))
    .expect("a namespace");
    let namespaces: Api<Namespace> = Api::all(admission.client.clone());
    namespaces.create(&PostParams::default(), &namespace).await.expect("a namespace");
    let pods: Api<Pod> = Api::namespaced(admission.client.clone(), "restricted");
    let store: Store = serde_yaml::from_str(include_str!("golden/build/full.in.yaml")).expect("a Store");
    let record = StoreRecord {
        store_id: "0b7c1d2e-0000-4000-8000-000000000001".into(),
        epoch: 4,
        origin: Origin::Empty,
        restore: None,
    };
    let inputs = Inputs {
        rendering: Rendering::CURRENT,
        kept: None,
        record: Some(record),
        auth_revision: "auth-1".into(),
        locations: vec![MountedLocation { name: "offsite".into(), secret: "offsite-keys".into() }],
        claim_templates: None,
    };
    let create = async |name: &str, change: &dyn Fn(&mut Value), pod_user: PodUser| {
        let defaults = Defaults { pod_user, ..defaults::defaults() };
        let valid = validate(&store, &defaults, Timestamp::UNIX_EPOCH).expect("a valid Store");
        let set = build(&valid, &inputs).stateful_set;
        let mut pod = serde_json::to_value(set.spec.template).expect("JSON");
        pod["metadata"]["name"] = json!(name);
        // What the StatefulSet controller adds.
        let data =
            json!({"name": names::DATA_VOLUME, "persistentVolumeClaim": {"claimName": "data-orders-0"}});
        pod["spec"]["volumes"].as_array_mut().expect("volumes").push(data);
        // There is no such class in this cluster.
        pod["spec"].as_object_mut().expect("a map").remove("priorityClassName");
        change(&mut pod);
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        pods.create(&PostParams::default(), &pod).await.map(|_| ()).map_err(|error| error.to_string())
    };
    for (name, pod_user) in [("fixed", PodUser::Fixed), ("cluster", PodUser::Cluster)] {
        Admission::check(&create(name, &|_| {}, pod_user).await, None, name);
    }
    let unconfined = |pod: &mut Value| pod["spec"]["securityContext"]["seccompProfile"] = Value::Null;
    Admission::check(
        &create("lax", &unconfined, PodUser::Fixed).await,
        Some("violates PodSecurity \"restricted"),
        "the standard is enforced here",
    );
}

/// The definition of Store as an earlier version had it, without rules (`old`), or as it is now.
async fn define_stores(admission: &Admission, old: bool) {
    fn strip(schema: &mut Value) {
        match schema {
            Value::Object(map) => {
                map.remove("x-kubernetes-validations");
                map.values_mut().for_each(strip);
            }
            Value::Array(list) => list.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut crd = crds().into_iter().find(|crd| crd["spec"]["names"]["kind"] == "Store").expect("Store");
    if old {
        strip(&mut crd);
    }
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
    ));
    let api: Api<DynamicObject> = Api::all_with(admission.client.clone(), &resource);
    api.patch("stores.holdfast.dev", &PatchParams::apply("test").force(), &Patch::Apply(&crd))
        .await
        .expect("a definition");
}

const VOLUME: &str = "storage: {volumeClaimTemplate: {spec: {resources: {requests: {storage: 1Gi}}}}}";

/// Stores that were created before a rule was there go on: they can be changed, and they can be mended.
async fn older_objects(admission: &Admission) {
    let apply = async |spec: &str| {
        let spec: Value = serde_yaml::from_str(spec).expect("YAML");
        admission.apply("Store", "older", &spec).await
    };
    let broken = format!(
        "{{{VOLUME}, persistence: {{strategy: Never, shutdown: {{budgetSeconds: 1}}}}, config: ['\"hz\" 20']}}"
    );
    define_stores(admission, true).await;
    let begun = std::time::Instant::now();
    // The API server takes a changed definition up a moment later.
    while apply(&broken).await.is_err() {
        assert!(begun.elapsed().as_secs() < 60, "the old definition is not taken up");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    define_stores(admission, false).await;
    let fresh = broken.replace("budgetSeconds: 1", "budgetSeconds: 2");
    let fresh: Value = serde_yaml::from_str(&fresh).expect("YAML");
    while admission.apply("Store", "fresh", &fresh).await.is_ok() {
        assert!(begun.elapsed().as_secs() < 60, "the new definition is not taken up");
        let stores: Api<Store> = Api::namespaced(admission.client.clone(), "default");
        let _ = stores.delete("fresh", &Default::default()).await;
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let changed = broken.replace("config:", "deletionPolicy: DeleteVolumes, config:");
    Admission::check(&apply(&changed).await, None, "another field of an older Store changes");
    let mended = changed.replace("budgetSeconds: 1", "budgetSeconds: 20").replace("\"hz\"", "hz");
    Admission::check(&apply(&mended).await, None, "an older Store is mended");
    Admission::check(
        &apply(&changed).await,
        Some("is probably too short"),
        "what was mended cannot be broken again",
    );
}

async fn new_stores(admission: &Admission) {
    for (extra, expected) in [
        ("{}", None),
        ("{persistence: {strategy: Disabled}, storage: none}", None),
        (
            "{resources: {requests: {cpu: 1, memory: 1Gi}, limits: {memory: 2Gi}}, memory: {maxMemory: 1073741824}}",
            None,
        ),
        ("{bootstrap: {restore: {backupRef: {name: friday}}}}", None),
        ("{config: [maxmemory-policy noeviction, saves-nothing 1]}", None),
        ("{memory: {maxMemory: 64Mi, evictionPolicy: AllKeysLRU}}", None),
        ("{memory: {evictionPolicy: VolatileTTL}, resources: {limits: {memory: 64Mi}}}", None),
        ("{memory: {evictionPolicy: NoEviction}, config: [maxmemory-policies 1]}", None),
        (
            "{memory: {maxMemory: 64Mi, evictionPolicy: allkeys-lru}}",
            Some("Unsupported value: \"allkeys-lru\""),
        ),
        ("{memory: {evictionPolicy: AllKeysLRU}}", Some("has no effect while nothing limits the data")),
        (
            "{memory: {evictionPolicy: AllKeysLRU}, resources: {requests: {memory: 64Mi}, limits: {cpu: 1}}}",
            Some("has no effect while nothing limits the data"),
        ),
        (
            "{memory: {maxMemory: 64Mi, evictionPolicy: AllKeysLRU}, config: [hz 10, MaxMemory-Policy allkeys-lru]}",
            Some("both set the eviction policy: remove the line"),
        ),
        ("{storage: none}", Some("spec.storage is required")),
        (
            "{persistence: {strategy: Disabled}}",
            Some("spec.storage has no effect with persistence.strategy Disabled"),
        ),
        ("{persistence: {strategy: Sometimes}}", Some("Unsupported value: \"Sometimes\"")),
        (
            "{persistence: {strategy: Never, log: {rotation: {growthPercentage: 50}}}}",
            Some("persistence.log has no effect without a log"),
        ),
        ("{persistence: {strategy: Never, shutdown: {snapshot: Never}}}", Some("would keep nothing")),
        (
            "{persistence: {strategy: Never, shutdown: {snapshot: Never}, snapshot: {rules: [{periodSeconds: 60, minChanges: 1}]}}}",
            None,
        ),
        (
            "{persistence: {snapshot: {rules: [{periodSeconds: 0, minChanges: 1}]}}}",
            Some("should be greater than or equal to 1"),
        ),
        ("{recovery: {onVolumeLoss: RestoreLatestBackup}}", Some("needs spec.backup.locationRef")),
        ("{bootstrap: {}}", Some("names exactly one source")),
        ("{bootstrap: {empty: {}, restore: {backupRef: {name: a}}}}", Some("names exactly one source")),
        ("{bootstrap: {restore: {}}}", Some("exactly one of backupRef and volumeSnapshotRef")),
        ("{bootstrap: {adopt: {storeID: mine}}}", Some("at least 36 chars")),
        ("{config: ['APPENDONLY no']}", Some("sets a directive that the operator manages")),
        ("{config: ['\"dir\" /tmp']}", Some("sets a directive that the operator manages")),
        ("{config: [credentials-dir /x]}", Some("sets a directive that the operator manages")),
        (r#"{config: ['requirepass-fil"e" ""']}"#, Some("write the name of the directive plainly")),
        (r#"{config: ['"\x64ir" /tmp']}"#, Some("write the name of the directive plainly")),
        (r#"{config: ["'dir' /tmp"]}"#, Some("write the name of the directive plainly")),
        (r##"{config: ['logfile-is-fine "a b"', "# it's \"quoted\""]}"##, None),
        (
            "{persistence: {strategy: Disabled}, storage: none, backup: {locationRef: {name: a}}}",
            Some("spec.backup has no effect with persistence.strategy Disabled"),
        ),
        (
            "{persistence: {strategy: Disabled}, storage: none, deletionPolicy: DeleteVolumes}",
            Some("DeleteVolumes has no effect with persistence.strategy Disabled"),
        ),
        (
            "{persistence: {strategy: Never, shutdown: {budgetSeconds: 1}}}",
            Some("is probably too short to write the dataset"),
        ),
        ("{persistence: {strategy: Never, shutdown: {budgetSeconds: 10}}}", None),
        ("{persistence: {strategy: Always, shutdown: {budgetSeconds: 1}}}", None),
        ("{config: [\"hz 10\\nport 1\"]}", Some("should match")),
        ("{memory: {maxMemory: lots}}", Some("should match")),
        ("{podTemplate: {metadata: {labels: {app.kubernetes.io/name: mine}}}}", Some("are the operator's")),
        ("{deletionPolicy: Delete}", Some("Unsupported value")),
        ("{persistence: {strategy: Always, fsync: often}}", Some("field not declared in schema")),
    ] {
        admission.check_store("fresh", extra, expected).await;
        let stores: Api<Store> = Api::namespaced(admission.client.clone(), "default");
        let _ = stores.delete("fresh", &Default::default()).await;
    }
    admission.check_store("0digit", "{}", Some("begins with a letter")).await;
    admission.check_store(&"long".repeat(11), "{}", Some("at most 40 characters")).await;
}

async fn changes_of_stores(admission: &Admission) {
    admission.check_store("kept", "{bootstrap: {empty: {}}}", None).await;
    // Before it holds data the source may be corrected, afterwards not.
    admission.check_store("kept", "{bootstrap: {restore: {backupRef: {name: friday}}}}", None).await;
    let stores: Api<Store> = Api::namespaced(admission.client.clone(), "default");
    let mut store = stores.get("kept").await.expect("a Store");
    store.status = Some(StoreStatus { epoch: Some(1), ..StoreStatus::default() });
    stores.replace_status("kept", &PostParams::default(), &store).await.expect("status");
    let source = "bootstrap: {restore: {backupRef: {name: friday}}}";
    let other = "{storage: {volumeClaimTemplate: {spec: {resources: {requests: {storage: 2Gi}}}}}";
    for (extra, expected) in [
        (format!("{{{source}, persistence: {{strategy: Always}}}}"), None),
        (format!("{{{source}, deletionPolicy: DeleteVolumes}}"), None),
        ("{bootstrap: {empty: {}}}".to_owned(), Some("spec.bootstrap cannot change")),
        ("{}".to_owned(), Some("spec.bootstrap cannot change")),
        (format!("{other}, {source}}}"), Some("spec.storage cannot change")),
        (
            "{storage: none, persistence: {strategy: Disabled}}".to_owned(),
            Some("cannot change from or to Disabled"),
        ),
    ] {
        admission.check_store("kept", &extra, expected).await;
    }
}

async fn other_kinds(admission: &Admission) {
    let check = async |kind: &str, name: &str, spec: &str, expected: Option<&str>| {
        let spec: Value = serde_yaml::from_str(spec).expect("YAML");
        Admission::check(&admission.apply(kind, name, &spec).await, expected, &spec.to_string());
    };
    check("StoreBackup", "one", "{storeRef: {name: kept}}", None).await;
    check("StoreBackup", "one", "{storeRef: {name: other}}", Some("a StoreBackup cannot change")).await;
    check(
        "StoreBackup",
        "two",
        "{storeRef: {name: kept}, method: VolumeSnapshot}",
        Some("needs spec.volumeSnapshotClassName"),
    )
    .await;
    check(
        "StoreBackup",
        "two",
        "{storeRef: {name: kept}, volumeSnapshotClassName: fast}",
        Some("has no effect with method Snapshot"),
    )
    .await;
    check(
        "StoreBackup",
        "two",
        "{storeRef: {name: kept}, deadlineSeconds: 1}",
        Some("greater than or equal to 10"),
    )
    .await;
    check("StoreBackup", &"long".repeat(13), "{storeRef: {name: kept}}", Some("at most 50 characters")).await;

    let keys = "credentialsSecretRef: {name: keys}";
    check("BackupLocation", "aws", &format!("{{s3: {{bucket: archive}}, {keys}}}"), None).await;
    check(
        "BackupLocation",
        "own",
        &format!(
            "{{s3: {{bucket: archive, endpoint: 'http://s3.test:9000', region: here}}, prefix: a/b, {keys}}}"
        ),
        None,
    )
    .await;
    check(
        "BackupLocation",
        "bad",
        &format!("{{s3: {{bucket: archive, endpoint: s3.test}}, {keys}}}"),
        Some("should match"),
    )
    .await;
    check(
        "BackupLocation",
        "bad",
        &format!("{{s3: {{bucket: archive}}, prefix: /a/, {keys}}}"),
        Some("should match"),
    )
    .await;
    check(
        "BackupLocation",
        "bad",
        &format!("{{s3: {{bucket: archive}}, prefix: a/../b, {keys}}}"),
        Some("must not have . or .."),
    )
    .await;
    check("BackupLocation", "dots", &format!("{{s3: {{bucket: archive}}, prefix: a/..b/.c., {keys}}}"), None)
        .await;
    check(
        "BackupLocation",
        "bad",
        &format!("{{s3: {{bucket: archive, endpoint: 'http://user:pass@s3.test'}}, {keys}}}"),
        Some("should match"),
    )
    .await;
    check("BackupLocation", "bad", "{s3: {bucket: archive}}", Some("Required value")).await;
    check(
        "BackupLocation",
        "dotted.name",
        &format!("{{s3: {{bucket: archive}}, {keys}}}"),
        Some("names a directory"),
    )
    .await;

    // What is stored reads back into the types, defaults filled in.
    let client = admission.client.clone();
    let location: BackupLocation = Api::namespaced(client.clone(), "default").get("aws").await.expect("read");
    assert_eq!(location.spec.s3.region, "us-east-1");
    let backup: StoreBackup = Api::namespaced(client, "default").get("one").await.expect("read");
    assert_eq!(backup.name_any(), "one");
}
