//! The chart: lint, golden rendering, values that are refused, rights that are minimal, generated files that are current.
//!
//! Needs the helm binary: on the PATH, or named by `HOLDFAST_HELM`. `UPDATE_GOLDEN=1` writes the golden files again.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize as _;
use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

fn helm(arguments: &[&str]) -> Result<String, String> {
    let binary = std::env::var_os("HOLDFAST_HELM").unwrap_or_else(|| OsString::from("helm"));
    let output =
        Command::new(&binary).args(arguments).current_dir(repository()).output().unwrap_or_else(|error| {
            panic!(
                "cannot run helm as {binary:?}: {error}; `make setup` installs it, or HOLDFAST_HELM names it"
            )
        });
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

fn render(extra: &[&str]) -> Result<String, String> {
    let base =
        ["template", "keeper", "charts/holdfast", "--namespace", "operators", "--kube-version", "1.36.0"];
    helm(&[&base, extra].concat())
}

fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).expect("YAML"))
        .filter(|document| !document.is_null())
        .collect()
}

#[track_caller]
fn check_golden(name: &str, found: &str) {
    let path = repository().join("charts/holdfast/tests").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, found).expect("golden file is writable");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{path:?} differs from what helm renders; UPDATE_GOLDEN=1 writes it again");
}

#[test]
fn chart_passes_lint() {
    helm(&["lint", "--strict", "charts/holdfast"]).expect("lint");
    helm(&[
        "lint",
        "--strict",
        "charts/holdfast",
        "--values",
        "charts/holdfast/tests/namespaced.values.yaml",
    ])
    .expect("lint");
}

#[test]
fn rendering_is_as_committed() {
    check_golden("default.golden.yaml", &render(&[]).expect("rendering"));
    let values = ["--values", "charts/holdfast/tests/namespaced.values.yaml"];
    check_golden("namespaced.golden.yaml", &render(&values).expect("rendering"));
}

#[test]
fn values_that_make_no_sense_are_refused() {
    for set in [
        "watchNamespaces={A}",
        "log.format=xml",
        "replicas=-1",
        "colour=blue",
        "image.pullPolicy=Sometimes",
        "podUser=root",
        "maxConcurrentRestarts=0",
        "image.tag=a b",
        "image.repository=example.test/operator@sha256:00",
        "serviceAccount.name=Keeper",
        "podLabels.app\\.kubernetes\\.io/name=mine",
        "replicas=null",
        "image=null",
        "serverImage=null",
        "serverImage.pullPolicy=null",
        "rbac=null",
        "rbac.create=null",
        "serviceAccount=null",
        "log=null",
        "log.format=null",
        "metrics=null",
        "metrics.service=null",
        "concurrency=null",
    ] {
        let error = render(&["--set", set]).expect_err(set);
        assert!(error.contains("values don't meet the specifications"), "{set}: {error}");
    }
}

/// `helm upgrade --reuse-values` takes the former chart's values, without those that came later.
#[test]
fn values_of_an_earlier_version_are_enough() {
    let earlier = ["--set", "maxConcurrentRestarts=null,podUser=null"];
    assert_eq!(render(&earlier), render(&[]), "those of v0.1.0");
}

#[test]
fn rights_are_named_one_by_one() {
    let rules: Vec<Value> = documents(&render(&[]).expect("rendering"))
        .into_iter()
        .filter(|document| matches!(document["kind"].as_str(), Some("Role" | "ClusterRole")))
        .flat_map(|role| role["rules"].as_array().cloned().unwrap_or_default())
        .collect();
    assert!(rules.len() > 10, "{rules:?}");
    let strings = |rule: &Value, field: &str| -> BTreeSet<String> {
        rule[field].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    for rule in &rules {
        let (resources, verbs) = (strings(rule, "resources"), strings(rule, "verbs"));
        for forbidden in ["*", "escalate", "bind", "impersonate", "deletecollection"] {
            assert!(!verbs.contains(forbidden), "{rule}");
        }
        for forbidden in ["*", "pods/exec", "nodes", "roles", "clusterroles", "customresourcedefinitions"] {
            assert!(!resources.contains(forbidden), "{rule}");
        }
        assert!(!strings(rule, "apiGroups").contains("*"), "{rule}");
        if resources.contains("secrets") {
            assert_eq!(verbs, BTreeSet::from(["get".to_owned(), "create".to_owned()]), "{rule}");
        }
    }
}

#[test]
fn two_releases_in_one_namespace_have_leases_of_their_own() {
    let lease = |release: &str| {
        let arguments = ["template", release, "charts/holdfast", "--namespace", "operators"];
        let text = helm(&[&arguments[..], &["--kube-version", "1.36.0"]].concat()).expect("rendering");
        let documents = documents(&text);
        let deployment = documents.iter().find(|document| document["kind"] == "Deployment").expect("one");
        let env = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().expect("env");
        let named = env.iter().find(|variable| variable["name"] == "HOLDFAST_LEASE_NAME").expect("a lease");
        let allowed: Vec<&Value> = documents
            .iter()
            .filter(|document| document["kind"] == "Role")
            .flat_map(|role| role["rules"].as_array().into_iter().flatten())
            .flat_map(|rule| rule["resourceNames"].as_array().into_iter().flatten())
            .collect();
        assert_eq!(allowed, [&named["value"]], "the operator may renew its Lease and no other");
        named["value"].clone()
    };
    assert_eq!(lease("holdfast"), "holdfast-operator", "that of earlier versions");
    assert_ne!(lease("holdfast"), lease("keeper"));
}

/// Renders a chart that has ours among its `dependencies` (YAML, without version and repository).
fn render_in_parent(dependencies: &str, values: &[&str]) -> Result<Vec<Value>, String> {
    let parent = tempfile::tempdir().expect("a directory");
    let ours = parent.path().join("charts/holdfast");
    fs::create_dir(parent.path().join("charts")).expect("a directory");
    let copied = Command::new("cp").arg("-r").arg(repository().join("charts/holdfast")).arg(&ours).status();
    assert!(copied.expect("cp").success());
    let manifest = format!(
        "{{apiVersion: v2, name: shop, version: 1.0.0, dependencies: [{}]}}",
        dependencies.replace("name: holdfast", "name: holdfast, version: '>=0.0.0-0'")
    );
    fs::write(parent.path().join("Chart.yaml"), manifest).expect("a manifest");
    let path = parent.path().to_string_lossy().into_owned();
    let base = ["template", "shop", &path, "--namespace", "shop", "--kube-version", "1.36.0"];
    let sets: Vec<&str> = values.iter().flat_map(|value| ["--set", value]).collect();
    Ok(documents(&helm(&[&base[..], &sets].concat())?))
}

#[test]
fn a_parent_chart_installs_it_by_a_condition() {
    let dependency = "{name: holdfast, condition: holdfast.enabled}";
    let with = render_in_parent(dependency, &["holdfast.enabled=true"]).expect("rendering");
    let deployment = with.iter().find(|document| document["kind"] == "Deployment").expect("one");
    assert_eq!(deployment["metadata"]["name"], "shop-holdfast", "the parent's own may be called shop");
    let without = render_in_parent(dependency, &["holdfast.enabled=false"]).expect("rendering");
    assert_eq!(without, Vec::<Value>::new());
    // Nobody reads it where there is no condition; then it would have installed what was to be left out.
    for error in [
        render(&["--set", "enabled=false"]).expect_err("no parent"),
        render_in_parent("{name: holdfast}", &["holdfast.enabled=false"]).expect_err("no condition"),
    ] {
        assert!(error.contains("condition: holdfast.enabled"), "{error}");
    }
    let error = render(&["--set", "enabled=maybe"]).expect_err("no such value");
    assert!(error.contains("values don't meet the specifications"), "{error}");
}

#[test]
fn a_parent_chart_may_have_it_twice() {
    let both = "{name: holdfast, alias: first}, {name: holdfast, alias: second}";
    let values = ["first.watchNamespaces={a}", "second.watchNamespaces={b}"];
    let documents = render_in_parent(both, &values).expect("rendering");
    let named: BTreeSet<String> = documents
        .iter()
        .map(|document| {
            let metadata = &document["metadata"];
            format!("{} {}/{}", document["kind"], metadata["namespace"], metadata["name"])
        })
        .collect();
    assert_eq!(named.len(), documents.len(), "{named:?}");
    let selectors: BTreeSet<String> = documents
        .iter()
        .filter(|document| document["kind"] == "Deployment")
        .map(|document| document["spec"]["selector"].to_string())
        .collect();
    assert_eq!(selectors.len(), 2, "each Deployment has pods of its own: {selectors:?}");
}

#[test]
fn some_namespaces_need_no_right_in_the_whole_cluster() {
    let text = render(&["--set", "watchNamespaces={shop}"]).expect("rendering");
    for document in documents(&text) {
        let kind = document["kind"].as_str().unwrap_or_default();
        assert!(!kind.starts_with("Cluster"), "{kind}");
    }
}

#[test]
fn a_cluster_that_chooses_users_chooses_that_of_the_operator_too() {
    let context = |set: &str| {
        let documents = documents(&render(&["--set", set]).expect("rendering"));
        let deployment = documents.iter().find(|document| document["kind"] == "Deployment").expect("one");
        deployment["spec"]["template"]["spec"]["securityContext"].clone()
    };
    let (fixed, cluster) = (context("podUser=fixed"), context("podUser=cluster"));
    assert_eq!(fixed["runAsUser"], 65_532);
    assert_eq!((&cluster["runAsUser"], &cluster["runAsGroup"]), (&Value::Null, &Value::Null));
    assert_eq!(cluster["runAsNonRoot"], true);
}

#[test]
fn users_of_a_namespace_may_have_stores() {
    let aggregated = |set: &str| -> BTreeSet<String> {
        let documents = documents(&render(&["--set", set]).expect("rendering"));
        let labels = documents.iter().filter(|it| it["kind"] == "ClusterRole").flat_map(|role| {
            let labels = role["metadata"]["labels"].as_object().cloned().unwrap_or_default();
            labels.into_iter().map(|(name, _)| name).filter(|name| name.contains("aggregate-to-"))
        });
        labels.filter_map(|name| name.rsplit_once("aggregate-to-").map(|(_, role)| role.to_owned())).collect()
    };
    assert_eq!(aggregated("replicas=1"), BTreeSet::from(["admin", "edit", "view"].map(str::to_owned)));
    assert!(aggregated("rbac.aggregate=false").is_empty());
}

#[test]
fn copies_of_the_definitions_are_current() {
    let read = |dir: &str| -> Vec<(OsString, String)> {
        let mut files: Vec<_> = fs::read_dir(repository().join(dir))
            .expect("directory")
            .map(|entry| entry.expect("entry"))
            .map(|entry| (entry.file_name(), fs::read_to_string(entry.path()).expect("text")))
            .collect();
        files.sort();
        files
    };
    assert!(
        read("crds") == read("charts/holdfast/crds"),
        "charts/holdfast/crds differs from crds; run `make gen`"
    );
}

#[test]
fn install_manifest_is_the_rendered_chart() {
    let base =
        ["template", "holdfast", "charts/holdfast", "--namespace", "holdfast-system", "--include-crds"];
    let rendered = documents(&helm(&[&base[..], &["--kube-version", "1.36.0"]].concat()).expect("rendering"));
    let committed =
        fs::read_to_string(repository().join("deploy/holdfast.yaml")).expect("deploy/holdfast.yaml");
    let mut committed = documents(&committed);
    assert_eq!(committed.remove(0)["kind"], "Namespace");
    assert!(committed == rendered, "deploy/holdfast.yaml differs from the chart; run `make gen`");
}
