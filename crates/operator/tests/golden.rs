//! Golden files of the pure stages: what is built from a Store, and what is decided in which situation.
//!
//! `UPDATE_GOLDEN=1 cargo test -p holdfast-operator --test golden` writes them again; read the difference before you
//! commit it.

#[path = "support/backup_scenes.rs"]
mod backup_scenes;
#[path = "support/defaults.rs"]
mod defaults;
#[path = "support/location_scenes.rs"]
mod location_scenes;
#[path = "support/look.rs"]
mod look;
#[path = "support/scenarios.rs"]
mod scenarios;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use holdfast_contract::record::{Origin, StoreRecord};
use holdfast_operator::api::v1alpha1::Store;
use holdfast_operator::names;
use holdfast_operator::reconcile::build::{Desired, Inputs, MountedLocation, build, claim};
use holdfast_operator::reconcile::rendering::Rendering;
use holdfast_operator::reconcile::validate::{Defaults, PodUser, ValidatedStore, validate};
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

#[track_caller]
fn check(name: &str, found: &str) {
    let path = golden(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, found).expect("golden file is writable");
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{path:?}: {}\nUPDATE_GOLDEN=1 writes it again",
        first_difference(found, &expected)
    );
}

fn document(text: &mut String, object: &impl Serialize) {
    let yaml = serde_yaml::to_string(object).expect("an object has a YAML form");
    let _ = write!(text, "---\n{yaml}");
}

const STORE_ID: &str = "0b7c1d2e-0000-4000-8000-000000000001";

/// What the objects of `valid` depend on besides, in a cluster where all is well.
fn inputs(valid: &ValidatedStore, rendering: Rendering) -> Inputs {
    let record = valid.storage.as_ref().map(|_| StoreRecord {
        store_id: STORE_ID.into(),
        epoch: 4,
        origin: Origin::Empty,
        restore: None,
    });
    let locations = valid
        .backup_location
        .iter()
        .map(|name| MountedLocation { name: name.clone(), secret: "offsite-keys".into() })
        .collect();
    let auth_revision = "auth-1".into();
    Inputs { rendering, kept: None, record, auth_revision, locations, claim_templates: None }
}

fn render(valid: &ValidatedStore) -> String {
    let Desired {
        service_account,
        record,
        config,
        service,
        headless_service,
        pdb,
        stateful_set,
        config_sha256: _,
        template_hash: _,
    } = build(valid, &inputs(valid, Rendering::CURRENT));
    let mut text = String::new();
    document(&mut text, &service_account);
    if let Some(record) = &record {
        document(&mut text, record);
    }
    document(&mut text, &config);
    document(&mut text, &service);
    document(&mut text, &headless_service);
    document(&mut text, &pdb);
    if let Some(storage) = &valid.storage {
        document(&mut text, &claim::build(valid, storage, STORE_ID, Some("friday")));
    }
    document(&mut text, &stateful_set);
    text
}

/// The Stores that are built here.
const STORES: [&str; 3] = ["minimal", "full", "disabled"];

fn store(name: &str) -> ValidatedStore {
    let input = fs::read_to_string(golden(&format!("build/{name}.in.yaml"))).expect("input");
    let store: Store = serde_yaml::from_str(&input).expect("a Store");
    validate(&store, &defaults::defaults(), Timestamp::UNIX_EPOCH).expect("a valid Store")
}

#[test]
fn objects_of_a_store() {
    for name in STORES {
        check(&format!("build/{name}.out.yaml"), &render(&store(name)));
    }
}

/// What a pod is made from: a change of it restarts the pod.
fn render_pod(valid: &ValidatedStore, rendering: Rendering) -> String {
    let desired = build(valid, &inputs(valid, rendering));
    let mut text = String::new();
    document(&mut text, &BTreeMap::from([("data", desired.config.data)]));
    document(&mut text, &BTreeMap::from([("template", desired.stateful_set.spec.template)]));
    text
}

/// Files of a rendering are written once and never again: who changes what pods are made from gives it a new number, so
/// that it restarts none of those that run.
#[test]
fn no_rendering_ever_changes() {
    for rendering in Rendering::known() {
        for name in STORES {
            let file = format!("renderings/{rendering}/{name}.yaml");
            let found = render_pod(&store(name), rendering);
            if std::env::var_os("UPDATE_GOLDEN").is_some() && !golden(&file).exists() {
                fs::create_dir_all(golden(&file).parent().expect("a folder")).expect("a folder");
                check(&file, &found);
            }
            let expected = fs::read_to_string(golden(&file)).unwrap_or_default();
            assert!(
                found == expected,
                "rendering {rendering} of {name} is not {file}: pods that run were made from that; give what has changed a new number in src/reconcile/rendering.rs, and let `make gen` write its files.\n{}",
                first_difference(&found, &expected)
            );
        }
    }
}

fn first_difference(found: &str, expected: &str) -> String {
    let pairs = found.lines().zip(expected.lines()).enumerate();
    pairs.into_iter().find(|(_, (found, expected))| found != expected).map_or_else(
        || "one of them is longer".to_owned(),
        |(index, (found, expected))| format!("line {}:\n found    {found}\n expected {expected}", index + 1),
    )
}

/// Selectors, claim templates and names cannot change at all: the API refuses it, or finds the objects no more.
#[test]
fn what_can_never_change_is_the_same_in_every_rendering() {
    for name in STORES {
        let fixed = |rendering: Rendering| {
            let valid = store(name);
            let desired = build(&valid, &inputs(&valid, rendering));
            let set = desired.stateful_set;
            let spec = serde_json::to_value(&set.spec).expect("JSON");
            (
                [&set.metadata, &desired.config.metadata, &desired.service.metadata]
                    .map(|it| it.name.clone()),
                ["selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"]
                    .map(|field| spec[field].clone()),
            )
        };
        for rendering in Rendering::known() {
            assert_eq!(fixed(rendering), fixed(Rendering::FIRST), "{name}, rendering {rendering}");
        }
    }
}

/// OpenShift's rule for pods refuses any number outside the namespace's range, and fills in one of its own.
#[test]
fn where_the_cluster_chooses_the_user_the_pod_names_none() {
    let input = fs::read_to_string(golden("build/full.in.yaml")).expect("input");
    let store: Store = serde_yaml::from_str(&input).expect("a Store");
    let template = |pod_user: PodUser| {
        let valid = validate(&store, &Defaults { pod_user, ..defaults::defaults() }, Timestamp::UNIX_EPOCH)
            .expect("a valid Store");
        let built = build(&valid, &inputs(&valid, Rendering::CURRENT)).stateful_set.spec.template;
        let mut template = serde_json::to_value(built).expect("JSON");
        let numbers = ["runAsUser", "runAsGroup", "fsGroup"]
            .map(|field| template["spec"]["securityContext"].as_object_mut()?.remove(field));
        let hash = template["metadata"]["annotations"].as_object_mut().expect("a map");
        let hash = hash.remove(names::key::TEMPLATE_HASH).expect("a hash");
        (template, numbers, hash)
    };
    let (fixed, numbers, fixed_hash) = template(PodUser::Fixed);
    assert_eq!(numbers, [65_532, 65_532, 65_532].map(|id| Some(serde_json::Value::from(id))));
    let (cluster, numbers, cluster_hash) = template(PodUser::Cluster);
    assert_eq!(numbers, [None, None, None]);
    assert_eq!(fixed, cluster, "nothing else depends on it");
    assert_ne!(fixed_hash, cluster_hash, "a change of it reaches the pods");
    assert_eq!(cluster["spec"]["securityContext"]["runAsNonRoot"], true);
}

#[test]
fn decisions_in_each_situation() {
    check("plan.txt", &scenarios::describe_all());
    check("deletion.txt", &scenarios::deletions::deletions());
    check("backup.txt", &backup_scenes::describe_all());
    check("location.txt", &location_scenes::describe_all());
}
