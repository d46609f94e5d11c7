//! What an earlier version has written is read: data directories, the volume of a Store, and a backup in a bucket.
//!
//! `fixtures/<commit>/` holds them, written once by the server of that commit, and beside each a list of the keys that it
//! answered. Every key, value and expiry is compared. A new version of a file's format needs fixtures of its own.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use holdfast_bucket::testing::{Gateway, write_credentials};
use holdfast_contract::record::{DecisionKind, DecisionReport, Origin, RestorePlan, StoreRecord, reason};
use sha2::{Digest as _, Sha256};
use support::{Client, Reply, Server, copy};

/// The Store of `store` and `bucket`.
const STORE: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
/// Where its backups are in the bucket.
const PREFIX: &str = "team";
/// Longer values are listed by their digest.
const LISTED_LEN_MAX: usize = 100;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/f00b60a").join(name)
}

/// What the server answers, a line for each key: database, key, absolute expiry, value.
fn listed(client: &mut Client) -> Vec<String> {
    let mut lines = Vec::new();
    for db in 0..16 {
        client.run(&format!("SELECT {db}"));
        for key in client.run("KEYS *").items() {
            let Reply::Bulk(Some(key)) = key else { panic!("{key:?}") };
            let until = client.command(&[b"PEXPIRETIME", &key[..]]).int();
            let Reply::Bulk(Some(value)) = client.command(&[b"GET", &key[..]]) else {
                panic!("{} vanished", key.escape_ascii())
            };
            lines.push(format!("{db}\t{}\t{until}\t{}", key.escape_ascii(), show(&value)));
        }
    }
    client.run("SELECT 0");
    lines.sort_unstable();
    lines
}

fn show(value: &[u8]) -> String {
    if value.len() <= LISTED_LEN_MAX {
        return value.escape_ascii().to_string();
    }
    let mut text = format!("{} bytes, SHA-256 ", value.len());
    for byte in Sha256::digest(value) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

#[track_caller]
fn expect_keys(server: &Server, expected: &[String], place: &str) {
    let found = listed(&mut server.client());
    let only = |these: &[String], those: &[String]| {
        these.iter().filter(|line| !those.contains(line)).cloned().collect::<Vec<_>>().join("\n  ")
    };
    assert!(
        found == expected,
        "{place}: expected and not there:\n  {}\nthere and not expected:\n  {}",
        only(expected, &found),
        only(&found, expected)
    );
}

/// The keys that the old server answered.
fn keys_of(name: &str) -> Vec<String> {
    let lines: Vec<_> = std::fs::read_to_string(fixture(&format!("{name}.keys")))
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    assert!(lines.len() > 100, "{name}: {} keys", lines.len());
    lines
}

/// Whose data a directory holds. Files that are not taken for our own get another epoch.
fn owner(dir: &Path) -> (String, u64) {
    let text = std::fs::read_to_string(dir.join("holdfast-identity.json")).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    (line["storeID"].as_str().unwrap().to_owned(), line["epoch"].as_u64().unwrap())
}

#[test]
fn a_data_directory_of_f00b60a_has_all_its_keys() {
    let root = tempfile::tempdir().unwrap();
    for (name, own, other) in [
        ("log", "always", "never"),
        ("log-killed", "everysec", "always"),
        ("snapshot", "never", "everysec"),
        ("snapshot-killed", "never", "no"),
    ] {
        let dir = root.path().join(name);
        copy(&fixture(name), &dir);
        let old_owner = owner(&dir);
        let mut expected = keys_of(name);
        for (round, strategy) in [own, own, other, other].into_iter().enumerate() {
            let server = Server::spawn(&dir, &["--persist-strategy", strategy, "--save", ""]);
            expect_keys(&server, &expected, &format!("{name}, start {round} with {strategy}"));
            assert_eq!(server.client().run(&format!("SET round:{round} 1")), Reply::ok());
            expected.push(format!("0\tround:{round}\t-1\t1"));
            expected.sort_unstable();
            assert!(server.stop().success(), "{name}, stop {round}");
            assert_eq!(owner(&dir), old_owner, "{name}, stop {round}");
        }
    }
}

/// What a pod has mounted, and its volume.
struct Pod {
    root: tempfile::TempDir,
}

impl Pod {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("volume")).unwrap();
        write_credentials(&root.path().join("locations/main"));
        Self { root }
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("volume/store")
    }

    fn mount(&self, epoch: u64, restore: Option<RestorePlan>) {
        let record = StoreRecord { store_id: STORE.to_owned(), epoch, origin: Origin::Empty, restore };
        std::fs::write(self.root.path().join("store.json"), serde_json::to_vec(&record).unwrap()).unwrap();
    }

    fn args(&self) -> Vec<String> {
        let path = |name: &str| self.root.path().join(name).display().to_string();
        [
            ("--store-record-file", path("store.json")),
            ("--credentials-dir", path("locations")),
            ("--instance-name", "cache-0".to_owned()),
            ("--persist-strategy", "always".to_owned()),
            ("--dir", self.dir().display().to_string()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
    }

    fn init_container(&self) -> DecisionReport {
        let output = Command::new(env!("CARGO_BIN_EXE_holdfast-server"))
            .arg("restore")
            .args(self.args())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let report = text.lines().find_map(|line| serde_json::from_str(line).ok());
        report.unwrap_or_else(|| panic!("no decision in {output:?}"))
    }

    fn start(&self) -> Server {
        let args = self.args();
        // The log of the server goes beside the first directory: in the volume it would be unknown data.
        Server::spawn(&self.root.path().join("pod"), &args.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

#[test]
fn the_volume_of_a_store_of_f00b60a_is_kept() {
    let pod = Pod::new();
    copy(&fixture("store"), &pod.dir());
    pod.mount(1, None);
    let report = pod.init_container();
    assert_eq!((report.decision, report.reason.as_str()), (DecisionKind::Keep, reason::VOLUME_CURRENT));
    for round in 0..2 {
        let server = pod.start();
        expect_keys(&server, &keys_of("store"), &format!("start {round}"));
        assert!(server.stop().success());
    }
}

#[test]
fn a_backup_of_f00b60a_is_restored() {
    let gateway = Gateway::start();
    copy(&fixture("bucket"), &gateway.objects());
    let backups = fixture("bucket").join(PREFIX).join(STORE).join("backups");
    let backup = std::fs::read_dir(backups).unwrap().next().unwrap().unwrap().file_name();
    let plan = RestorePlan {
        epoch: 2,
        location: gateway.location(PREFIX),
        credentials_dir: "main".to_owned(),
        backup_path: format!("{STORE}/backups/{}", backup.to_str().unwrap()),
    };
    let pod = Pod::new();
    pod.mount(1, Some(plan));
    let report = pod.init_container();
    assert_eq!(report.reason, reason::VOLUME_LOST_RESTORING, "{report:?}");
    pod.mount(2, None);
    for round in 0..2 {
        let server = pod.start();
        expect_keys(&server, &keys_of("bucket"), &format!("start {round}"));
        assert!(server.stop().success());
    }
}
