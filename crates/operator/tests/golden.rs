//! Golden files of the pure stages: what is built from a Store, and what is decided in which situation.
//!
//! `UPDATE_GOLDEN=1 cargo test -p holdfast-operator --test golden` writes them anew; read the difference before you
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

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use holdfast_contract::record::{Origin, StoreRecord};
use holdfast_operator::api::v1alpha1::Store;
use holdfast_operator::names;
use holdfast_operator::reconcile::build::{Desired, Inputs, MountedLocation, build, claim};
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
    if let Some((number, (found, expected))) =
        found.lines().zip(expected.lines()).enumerate().find(|(_, (found, expected))| found != expected)
    {
        panic!(
            "{path:?} line {}:\n found    {found}\n expected {expected}\nUPDATE_GOLDEN=1 writes it anew",
            number + 1
        );
    }
    assert!(found == expected, "{path:?} has another length; UPDATE_GOLDEN=1 writes it anew");
}

fn document(text: &mut String, object: &impl Serialize) {
    let yaml = serde_yaml::to_string(object).expect("an object has a YAML form");
    let _ = write!(text, "---\n{yaml}");
}

const STORE_ID: &str = "0b7c1d2e-0000-4000-8000-000000000001";

/// What the objects of `valid` depend on besides, in a cluster where all is well.
fn inputs(valid: &ValidatedStore) -> Inputs {
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
    Inputs { record, auth_revision: "auth-1".into(), locations, claim_templates: None }
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
    } = build(valid, &inputs(valid));
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

#[test]
fn objects_of_a_store() {
    for name in ["minimal", "full", "disabled"] {
        let input = fs::read_to_string(golden(&format!("build/{name}.in.yaml"))).expect("input");
        let store: Store = serde_yaml::from_str(&input).expect("a Store");
        let valid = validate(&store, &defaults::defaults(), Timestamp::UNIX_EPOCH).expect("a valid Store");
        check(&format!("build/{name}.out.yaml"), &render(&valid));
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
        let built = build(&valid, &inputs(&valid)).stateful_set.spec.template;
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
