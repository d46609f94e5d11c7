//! The committed CustomResourceDefinitions are those of the types.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use holdfast_operator::api::schema::crd_files;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[track_caller]
fn check_directory(dir: &str) {
    let expected: BTreeMap<String, String> =
        crd_files().into_iter().map(|file| (file.file_name, file.text)).collect();
    let dir = repository().join(dir);
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("read {dir:?}: {error}")) {
        let entry = entry.expect("directory entry");
        let text = std::fs::read_to_string(entry.path()).expect("readable text");
        found.insert(entry.file_name().into_string().expect("UTF-8 name"), text);
    }
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected), "files in {dir:?}; run `make gen`");
    for (name, text) in expected {
        assert!(found[&name] == text, "{dir:?}/{name} differs from the types; run `make gen`");
    }
}

#[test]
fn committed_definitions_are_those_of_the_types() {
    check_directory("crds");
}
