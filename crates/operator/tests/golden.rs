//! Golden files of the pure stages: what is built from a Store, and what is decided in which situation.
//!
//! `UPDATE_GOLDEN=1 cargo test -p holdfast-operator --test golden` writes them anew; read the difference before you
//! commit it.

#[path = "support/defaults.rs"]
mod defaults;
#[path = "support/scenarios.rs"]
mod scenarios;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use holdfast_contract::record::{Origin, StoreRecord};
use holdfast_operator::api::v1alpha1::Store;
use holdfast_operator::reconcile::build::{Inputs, MountedLocation, build, claim};
use holdfast_operator::reconcile::validate::{ValidatedStore, validate};
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

fn render(valid: &ValidatedStore) -> String {
    let store_id = "0b7c1d2e-0000-4000-8000-000000000001";
    let record = valid.storage.as_ref().map(|_| StoreRecord {
        store_id: store_id.into(),
        epoch: 4,
        origin: Origin::Empty,
        restore: None,
    });
    let locations = valid
        .backup_location
        .iter()
        .map(|name| MountedLocation { name: name.clone(), secret: "offsite-keys".into() })
        .collect();
    let desired =
        build(valid, &Inputs { record, auth_revision: "auth-1".into(), locations, claim_templates: None });
    let mut text = String::new();
    document(&mut text, &desired.service_account);
    if let Some(record) = &desired.record {
        document(&mut text, record);
    }
    document(&mut text, &desired.config);
    document(&mut text, &desired.service);
    document(&mut text, &desired.headless_service);
    document(&mut text, &desired.pdb);
    if let Some(storage) = &valid.storage {
        document(&mut text, &claim::build(valid, storage, store_id, Some("friday")));
    }
    document(&mut text, &desired.stateful_set);
    text
}

#[test]
fn objects_of_a_store() {
    for name in ["minimal", "full", "disabled"] {
        let input = fs::read_to_string(golden(&format!("build/{name}.in.yaml"))).expect("input");
        let store: Store = serde_yaml::from_str(&input).expect("a Store");
        let valid = validate(&store, &defaults::defaults()).expect("a valid Store");
        check(&format!("build/{name}.out.yaml"), &render(&valid));
    }
}

#[test]
fn decisions_in_each_situation() {
    check("plan.txt", &scenarios::describe_all());
}
