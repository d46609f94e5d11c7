//! The life of a Store as the operator drives it, with the real binary and a real object store: born, recorded, written,
//! backed up, lost, restored, restarted.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use holdfast_bucket::testing::{Gateway, plain_client, write_credentials};
use holdfast_contract::bucket::Location;
use holdfast_contract::control::{
    BackupPhase, BackupProgress, BackupRequest, Barrier, ErrorBody, ServerState, ServerStatus,
};
use holdfast_contract::record::{DecisionKind, DecisionReport, Origin, RestorePlan, StoreRecord, reason};
use serde::de::DeserializeOwned;
use support::{PATIENCE, Reply, Server, copy, free_port};

const STORE: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
const TOKEN: &str = "token-of-the-test";

/// A pod without a log, whose EXECs are each durable.
const NEVER: [&str; 8] = [
    "--persist-strategy",
    "never",
    "--save",
    "",
    "--persist-after-exec",
    "yes",
    "--enable-debug-command",
    "yes",
];

/// What stays when the pod and its volume go.
struct Cluster {
    directory: tempfile::TempDir,
    gateway: Gateway,
    runtime: tokio::runtime::Runtime,
    health_port: u16,
    control_port: u16,
}

impl Cluster {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("volume")).unwrap();
        std::fs::write(directory.path().join("token"), TOKEN).unwrap();
        write_credentials(&directory.path().join("locations/main"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (health_port, control_port) = (free_port(), free_port());
        Self { directory, gateway: Gateway::start(), runtime, health_port, control_port }
    }

    fn dir(&self) -> PathBuf {
        self.directory.path().join("volume/store")
    }

    fn location(&self) -> Location {
        self.gateway.location("team")
    }

    fn mount(&self, record: &StoreRecord) {
        std::fs::write(self.directory.path().join("store.json"), serde_json::to_vec(record).unwrap())
            .unwrap();
    }

    fn args(&self) -> Vec<String> {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        [
            ("--health-port", self.health_port.to_string()),
            ("--control-port", self.control_port.to_string()),
            ("--control-token-file", path("token")),
            ("--store-record-file", path("store.json")),
            ("--credentials-dir", path("locations")),
            ("--instance-name", "cache-0".to_owned()),
            ("--on-refusal", "hold".to_owned()),
            ("--persist-strategy", "always".to_owned()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
    }

    fn pod(&self) -> Server {
        self.pod_with(&[])
    }

    fn pod_with(&self, more: &[&str]) -> Server {
        let args = self.args();
        let dir = self.dir();
        let mut args: Vec<_> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
        args.extend(["--dir", dir.to_str().unwrap()]);
        // The log goes beside the first directory, and the last one counts: a log in the volume would be unknown data.
        Server::spawn(&self.directory.path().join("pod"), &args)
    }

    /// A pod that serves a new Store.
    fn born(&self, more: &[&str]) -> Server {
        self.mount(&record(0, None));
        let pod = self.pod_with(more);
        self.wait_for(&pod, ServerState::AwaitingRecord);
        self.mount(&record(1, None));
        self.wait_for(&pod, ServerState::Ready);
        pod
    }

    fn init_container(&self) -> (Output, DecisionReport) {
        let output = Command::new(env!("CARGO_BIN_EXE_holdfast-server"))
            .arg("restore")
            .args(["--dir", self.dir().to_str().unwrap()])
            .args(self.args())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let report = text.lines().find_map(|line| serde_json::from_str(line).ok());
        let report = report.unwrap_or_else(|| panic!("no decision in {output:?}"));
        (output, report)
    }

    fn try_ask(&self, method: &str, path: &str, body: &impl serde::Serialize) -> Option<(u16, String)> {
        let url = format!("http://127.0.0.1:{}{path}", self.control_port);
        let request = plain_client()
            .request(method.parse().unwrap(), url)
            .header("authorization", format!("Bearer {TOKEN}"))
            .body(serde_json::to_vec(body).unwrap());
        self.runtime.block_on(async {
            let answer = request.send().await.ok()?;
            Some((answer.status().as_u16(), answer.text().await.ok()?))
        })
    }

    fn ask<T: DeserializeOwned>(&self, method: &str, path: &str, body: &impl serde::Serialize) -> T {
        let (code, text) = self.try_ask(method, path, body).unwrap();
        assert_eq!(code, 200, "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    fn health(&self, path: &str) -> (u16, String) {
        let url = format!("http://127.0.0.1:{}{path}", self.health_port);
        self.runtime.block_on(async {
            let answer = plain_client().get(url).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    }

    #[track_caller]
    fn wait_for(&self, pod: &Server, state: ServerState) -> ServerStatus {
        let deadline = Instant::now() + PATIENCE;
        let mut last = None;
        while Instant::now() < deadline {
            if let Some((200, text)) = self.try_ask("GET", "/v1/status", &()) {
                let status: ServerStatus = serde_json::from_str(&text).unwrap();
                if status.state == state {
                    return status;
                }
                last = Some(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("not {state:?} but {last:?}; log:\n{}", pod.log_text());
    }

    fn backup_request(&self, id: &str) -> BackupRequest {
        BackupRequest {
            id: id.to_owned(),
            location: self.location(),
            credentials_dir: "main".to_owned(),
            owner_uid: "uid-1".to_owned(),
            owner_name: "team/cache".to_owned(),
            takes_over: false,
            former_owner_uids: None,
        }
    }

    fn back_up(&self, pod: &Server, id: &str) -> BackupProgress {
        let _: BackupProgress = self.ask("POST", "/v1/backups", &self.backup_request(id));
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let progress: BackupProgress = self.ask("GET", &format!("/v1/backups/{id}"), &());
            if progress.completed_ms.is_some() {
                return progress;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the backup does not end; log:\n{}", pod.log_text());
    }
}

fn record(epoch: u64, restore: Option<RestorePlan>) -> StoreRecord {
    StoreRecord { store_id: STORE.to_owned(), epoch, origin: Origin::Empty, restore }
}

fn write_keys(pod: &Server) {
    let mut client = pod.client();
    for number in 0..300 {
        let (key, value) = (format!("key:{number}"), format!("value \r\n\0 {number}"));
        assert_eq!(client.command(&["SET", &key, &value]), Reply::Simple("OK".into()));
    }
    assert_eq!(client.run("PEXPIREAT key:7 4000000000000"), Reply::Int(1));
    client.run("SELECT 5");
    assert_eq!(client.run("SET other 5"), Reply::Simple("OK".into()));
}

#[track_caller]
fn expect_keys(pod: &Server) {
    let mut client = pod.client();
    assert_eq!(client.run("DBSIZE"), Reply::Int(300));
    for number in 0..300 {
        assert_eq!(client.run(&format!("GET key:{number}")), Reply::bulk(format!("value \r\n\0 {number}")),);
    }
    assert_eq!(client.run("PEXPIRETIME key:7"), Reply::Int(4_000_000_000_000));
    client.run("SELECT 5");
    assert_eq!(client.run("GET other"), Reply::bulk("5"));
}

#[test]
fn a_store_is_born_recorded_backed_up_lost_and_restored() {
    let cluster = Cluster::start();

    // Born: no write before the epoch is recorded.
    cluster.mount(&record(0, None));
    let (output, report) = cluster.init_container();
    assert!(output.status.success());
    assert_eq!((report.decision, report.reason.as_str()), (DecisionKind::Initialise, reason::NEW_STORE));
    let pod = cluster.pod();
    let status = cluster.wait_for(&pod, ServerState::AwaitingRecord);
    let identity = status.identity.unwrap();
    assert_eq!((identity.store_id.as_str(), identity.epoch, identity.granted), (STORE, 1, false));
    assert_eq!(cluster.health("/livez").0, 200);
    assert_eq!(cluster.health("/readyz").0, 503);
    assert!(support::Client::connect(pod.port).is_err(), "nobody is served yet");

    // Recorded: serves.
    let _: ServerStatus = cluster.ask("PUT", "/v1/decision", &record(1, None));
    let status = cluster.wait_for(&pod, ServerState::Ready);
    assert!(status.identity.unwrap().granted);
    assert_eq!(cluster.health("/readyz"), (200, "ready\n".to_owned()));
    write_keys(&pod);

    // A barrier holds while writes go on.
    let request = holdfast_contract::control::BarrierRequest { token: "b-1".into(), timeout_seconds: 30 };
    let barrier: Barrier = cluster.ask("POST", "/v1/barriers", &request);
    assert_eq!((barrier.store_id.as_str(), barrier.epoch), (STORE, 1));
    let again: Barrier = cluster.ask("POST", "/v1/barriers", &request);
    assert_eq!(again, barrier);
    write_keys(&pod);
    let released: Barrier = cluster.ask("DELETE", "/v1/barriers/b-1", &());
    assert!(released.released_ms.is_some() && !released.expired);

    // Backed up, read back, listed.
    let backup = cluster.back_up(&pod, "backup-1");
    assert_eq!(backup.phase, BackupPhase::Succeeded, "{backup:?}");
    assert_eq!(backup.dataset.as_ref().unwrap().keys, 301);
    let path = backup.backup_path.unwrap();
    // The metrics are those of the last tick.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, text) = cluster.health("/metrics");
        if text.contains("holdfast_backups_total{result=\"success\"} 1") && text.contains("holdfast_keys 301")
        {
            break;
        }
        assert!(Instant::now() < deadline, "{text}");
        std::thread::sleep(Duration::from_millis(5));
    }
    pod.kill();

    // Lost: an empty volume is never served, and a restart by itself changes nothing.
    std::fs::remove_dir_all(cluster.dir()).unwrap();
    cluster.mount(&record(1, None));
    let (output, report) = cluster.init_container();
    assert!(output.status.success(), "a refusal is no crash loop");
    assert_eq!((report.decision, report.reason.as_str()), (DecisionKind::Hold, reason::VOLUME_LOST));
    let pod = cluster.pod();
    let status = cluster.wait_for(&pod, ServerState::Holding);
    assert_eq!(status.decision.unwrap().reason, reason::VOLUME_LOST);
    assert_eq!(cluster.health("/livez").0, 200);
    assert_eq!(cluster.health("/readyz"), (503, "holding: VolumeLost\n".to_owned()));
    let (code, text) = cluster.try_ask("POST", "/v1/snapshot", &()).unwrap();
    assert_eq!((code, serde_json::from_str::<ErrorBody>(&text).unwrap().reason.as_str()), (409, "NotReady"));
    assert!(!cluster.dir().exists(), "nothing was written");

    // A plan that cannot work is told, and the next one is obeyed.
    let plan = |backup_path: &str| RestorePlan {
        epoch: 2,
        location: cluster.location(),
        credentials_dir: "main".to_owned(),
        backup_path: backup_path.to_owned(),
    };
    let wrong = format!("{STORE}/backups/20260101T000000Z-000001-00000000000000000001");
    let _: ServerStatus = cluster.ask("PUT", "/v1/decision", &record(1, Some(plan(&wrong))));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status: ServerStatus = cluster.ask("GET", "/v1/status", &());
        let decision = status.decision.unwrap();
        if status.state == ServerState::Holding && decision.reason == reason::RESTORE_FAILED {
            assert!(decision.message.contains(&wrong), "{}", decision.message);
            break;
        }
        assert!(Instant::now() < deadline, "{decision:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The operator tells of a corrected plan by the mount alone.
    cluster.mount(&record(1, Some(plan(&path))));
    let status = cluster.wait_for(&pod, ServerState::AwaitingRecord);
    let identity = status.identity.unwrap();
    assert_eq!((identity.epoch, identity.granted), (2, false));
    assert_eq!(identity.parent.unwrap().backup_path, Some(path.clone()));
    let _: ServerStatus = cluster.ask("PUT", "/v1/decision", &record(2, None));
    cluster.wait_for(&pod, ServerState::Ready);
    expect_keys(&pod);
    assert_eq!(pod.client().run("SET after restore"), Reply::Simple("OK".into()));
    pod.kill();

    // Restarted with a stale record and no operator: keeps what is newer.
    cluster.mount(&record(1, None));
    let (_, report) = cluster.init_container();
    assert_eq!((report.decision, report.reason.as_str()), (DecisionKind::Keep, reason::VOLUME_NEWER));
    let pod = cluster.pod();
    cluster.wait_for(&pod, ServerState::Ready);
    assert_eq!(pod.client().run("GET after"), Reply::bulk("restore"));
    assert!(pod.stop().success());
}

#[test]
fn the_init_container_restores_once_and_keeps_ever_after() {
    let cluster = Cluster::start();
    cluster.mount(&record(1, None));
    std::fs::create_dir(cluster.dir()).unwrap();
    let pod = cluster.pod();
    cluster.wait_for(&pod, ServerState::Holding);
    pod.kill();

    cluster.mount(&record(0, None));
    let pod = cluster.pod();
    cluster.wait_for(&pod, ServerState::AwaitingRecord);
    cluster.mount(&record(1, None));
    cluster.wait_for(&pod, ServerState::Ready);
    write_keys(&pod);
    let backup = cluster.back_up(&pod, "b");
    assert_eq!(backup.phase, BackupPhase::Succeeded, "{backup:?}");
    pod.kill();

    std::fs::remove_dir_all(cluster.dir()).unwrap();
    let plan = RestorePlan {
        epoch: 2,
        location: cluster.location(),
        credentials_dir: "main".to_owned(),
        backup_path: backup.backup_path.unwrap(),
    };
    cluster.mount(&record(1, Some(plan)));
    for expected in [reason::VOLUME_LOST_RESTORING, reason::VOLUME_CURRENT, reason::VOLUME_CURRENT] {
        let (output, report) = cluster.init_container();
        assert!(output.status.success() && report.reason == expected, "{report:?}");
    }
    let pod = cluster.pod();
    cluster.wait_for(&pod, ServerState::AwaitingRecord);
    cluster.mount(&record(2, None));
    cluster.wait_for(&pod, ServerState::Ready);
    expect_keys(&pod);
    assert!(pod.stop().success());
}

#[test]
fn a_clone_holds_the_data_of_the_barrier_and_is_another_store() {
    let source = Cluster::start();
    source.mount(&record(0, None));
    let pod = source.pod();
    source.wait_for(&pod, ServerState::AwaitingRecord);
    source.mount(&record(1, None));
    source.wait_for(&pod, ServerState::Ready);
    write_keys(&pod);
    let request = holdfast_contract::control::BarrierRequest { token: "b-1".into(), timeout_seconds: 30 };
    let barrier: Barrier = source.ask("POST", "/v1/barriers", &request);
    // The cut of the volume comes later, and holds more than the barrier.
    let mut client = pod.client();
    client.run("DEL key:1 key:2 key:3");
    client.run("SET late write");
    let target = Cluster::start();
    copy(&source.dir(), &target.dir());
    let _: Barrier = source.ask("DELETE", "/v1/barriers/b-1", &());
    pod.kill();

    let clone = |epoch, source_offset| StoreRecord {
        store_id: "0b1c2d3e-0000-4000-8000-000000000000".to_owned(),
        epoch,
        origin: Origin::Clone {
            source_store_id: STORE.to_owned(),
            source_epoch: barrier.epoch,
            source_offset,
        },
        restore: None,
    };
    target.mount(&clone(0, u64::MAX));
    let (_, report) = target.init_container();
    assert_eq!((report.decision, report.reason.as_str()), (DecisionKind::Hold, reason::SOURCE_MISMATCH));

    target.mount(&clone(0, barrier.offset));
    for _ in 0..2 {
        let (_, report) = target.init_container();
        assert_eq!((report.decision, report.reason.as_str()), (DecisionKind::Stamp, reason::BOOTSTRAP_CLONE));
    }
    let pod = target.pod();
    let identity = target.wait_for(&pod, ServerState::AwaitingRecord).identity.unwrap();
    assert_eq!((identity.store_id.as_str(), identity.epoch), ("0b1c2d3e-0000-4000-8000-000000000000", 2));
    target.mount(&clone(2, barrier.offset));
    target.wait_for(&pod, ServerState::Ready);
    expect_keys(&pod);
    assert_eq!(pod.client().run("EXISTS late"), Reply::Int(0));
    assert_eq!(pod.client().run("SET own write"), Reply::Simple("OK".into()));
    pod.kill();
    let (_, report) = target.init_container();
    assert_eq!((report.decision, report.reason.as_str()), (DecisionKind::Keep, reason::VOLUME_CURRENT));
    let pod = target.pod();
    target.wait_for(&pod, ServerState::Ready);
    assert_eq!(pod.client().run("GET own"), Reply::bulk("write"));
    assert_eq!(pod.client().run("DBSIZE"), Reply::Int(301));
    assert!(pod.stop().success());
}

/// A backup may hold more than a volume after a kill. What is written then is newer all the same, and so is its backup.
#[test]
fn a_backup_after_a_loss_is_newer_than_one_before() {
    let cluster = Cluster::start();
    let never = ["--persist-strategy", "never"];
    let pod = cluster.born(&never);
    write_keys(&pod);
    let before = cluster.back_up(&pod, "b-1").backup_path.unwrap();
    pod.kill();
    for round in 0..2 {
        let pod = cluster.pod_with(&never);
        cluster.wait_for(&pod, ServerState::Ready);
        assert_eq!(pod.client().run("DBSIZE"), Reply::Int(round), "lost, as the strategy allows");
        assert_eq!(pod.client().run(&format!("SET since:{round} 1")), Reply::Simple("OK".into()));
        if round == 0 {
            // What is saved behind the gap is found again.
            assert_eq!(pod.client().run("SAVE"), Reply::Simple("OK".into()));
        }
        let after = cluster.back_up(&pod, &format!("b-{}", round + 2)).backup_path.unwrap();
        let bucket = cluster.gateway.open("team");
        let newest = cluster.runtime.block_on(bucket.newest_backup(STORE)).unwrap().unwrap();
        assert_eq!(newest.0, after, "not {before}");
        pod.kill();
    }
}

/// A start makes no snapshot: the one that it loads is as old as before.
#[test]
fn a_snapshot_that_was_loaded_keeps_its_time() {
    let cluster = Cluster::start();
    let never = ["--persist-strategy", "never"];
    let last_snapshot = |pod: &Server| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Told at the next tick.
            if let Some(snapshot) = cluster.wait_for(pod, ServerState::Ready).last_snapshot {
                return snapshot;
            }
            assert!(Instant::now() < deadline, "no snapshot; log:\n{}", pod.log_text());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let pod = cluster.born(&never);
    write_keys(&pod);
    assert_eq!(pod.client().run("SAVE"), Reply::Simple("OK".into()));
    let saved = last_snapshot(&pod);
    pod.kill();
    // Files note seconds.
    std::thread::sleep(Duration::from_millis(1100));
    let loaded = last_snapshot(&cluster.pod_with(&never));
    assert_eq!(loaded.offset, saved.offset);
    assert!(loaded.completed_ms <= saved.completed_ms, "{loaded:?} {saved:?}");
}

/// Without a log each point of an EXEC is a snapshot, in whose place no other can be written at the same time.
#[test]
fn a_point_ends_a_backup_that_is_being_cut_and_the_next_one_is_made() {
    let cluster = Cluster::start();
    let pod = cluster.born(&NEVER);
    let mut client = pod.client();
    assert_eq!(client.run("DEBUG POPULATE 20000 key 1000"), Reply::ok());
    // More of them than may wait.
    for round in 0..5 {
        let id = format!("ended-{round}");
        let request = cluster.backup_request(&id);
        let _: BackupProgress = cluster.ask("POST", "/v1/backups", &request);
        let mut number = 0;
        let progress = loop {
            client.run("MULTI");
            client.run(&format!("SET number {number}"));
            assert_eq!(client.run("EXEC"), Reply::Array(Some(vec![Reply::ok()])));
            number += 1;
            let progress: BackupProgress = cluster.ask("GET", &format!("/v1/backups/{id}"), &());
            if progress.completed_ms.is_some() {
                break progress;
            }
        };
        assert_eq!(progress.phase, BackupPhase::Failed, "{progress:?}");
        let text = serde_json::to_string(&progress).unwrap();
        assert!(text.contains("persist-after-exec takes a persistence point"), "{text}");
    }
    let backup = cluster.back_up(&pod, "whole");
    assert_eq!(backup.phase, BackupPhase::Succeeded, "{backup:?}");
    assert_eq!(backup.dataset.unwrap().keys, 20_001);
    assert!(pod.stop().success());
}

#[test]
fn a_stop_ends_a_barrier_and_nothing_is_renamed_before_that() {
    let cluster = Cluster::start();
    let mut pod = cluster.born(&NEVER);
    let mut client = pod.client();
    client.run("SET before 1");
    let request = holdfast_contract::control::BarrierRequest { token: "b-1".into(), timeout_seconds: 300 };
    let _: Barrier = cluster.ask("POST", "/v1/barriers", &request);
    let snapshot = || std::fs::read(cluster.dir().join("dump.rdb")).unwrap();
    let held = snapshot();

    // A point would replace the snapshot.
    client.run("MULTI");
    client.run("SET after 1");
    let Reply::Error(text) = client.run("EXEC") else { panic!("the point was taken under the barrier") };
    assert!(text.starts_with("MISCONF persist-after-exec"), "{text}");
    assert_eq!(snapshot(), held);
    assert!(matches!(client.run("SAVE"), Reply::Error(_)));
    assert_eq!(snapshot(), held);

    // A stop that is refused has ended the barrier as well, and says so to whoever holds it.
    let away = cluster.directory.path().join("away");
    std::fs::rename(cluster.dir(), &away).unwrap();
    assert!(matches!(client.run("SHUTDOWN"), Reply::Error(_)));
    std::fs::rename(&away, cluster.dir()).unwrap();
    assert_eq!(cluster.try_ask("DELETE", "/v1/barriers/b-1", &()).unwrap().0, 404);
    assert_eq!(pod.log_text().matches("persistence barrier ended before its time").count(), 1);

    let _: Barrier = cluster.ask("POST", "/v1/barriers", &request);
    client.run("SET late 1");
    drop(client);
    pod.signal("TERM");
    assert!(pod.wait().success());
    assert_eq!(pod.log_text().matches("persistence barrier ended before its time").count(), 2);
    let pod = cluster.pod_with(&NEVER);
    cluster.wait_for(&pod, ServerState::Ready);
    assert_eq!(pod.client().run("EXISTS before after late"), Reply::Int(3));
    assert!(pod.stop().success());
}

#[test]
fn every_kind_of_job_that_waits_for_a_barrier_is_done_once() {
    let cluster = Cluster::start();
    let pod = cluster.born(&["--save", "", "--enable-debug-command", "yes"]);
    let mut client = pod.client();
    client.run("SET key value");
    let request = holdfast_contract::control::BarrierRequest { token: "b-1".into(), timeout_seconds: 300 };
    let _: Barrier = cluster.ask("POST", "/v1/barriers", &request);
    assert_eq!(client.run("BGSAVE").text(), "Background saving scheduled");
    for _ in 0..2 {
        assert_eq!(client.run("BGREWRITEAOF").text(), "Background append only file rewriting scheduled");
        let _: ServerStatus = cluster.ask("POST", "/v1/snapshot", &());
    }
    assert_eq!(client.info("aof_rewrite_scheduled"), "1");
    let _: Barrier = cluster.ask("DELETE", "/v1/barriers/b-1", &());
    client.wait_for_info("aof_rewrites", "1");
    client.wait_for_info("rdb_saves", "1");
    assert_eq!(client.info("aof_rewrite_scheduled"), "0");

    // What runs is not done a second time for the control port.
    assert_eq!(client.run("DEBUG POPULATE 200000 key 200"), Reply::ok());
    assert_eq!(client.run("BGREWRITEAOF").text(), "Background append only file rewriting started");
    let _: ServerStatus = cluster.ask("POST", "/v1/snapshot", &());
    client.wait_for_info("aof_rewrite_in_progress", "0");
    assert_eq!(client.info("aof_rewrite_scheduled"), "0");
    assert_eq!(client.info("aof_rewrites"), "2");
    assert!(pod.stop().success());
}

#[test]
fn an_epoch_that_was_recorded_while_no_server_ran_is_granted_on_the_volume() {
    let cluster = Cluster::start();
    cluster.mount(&record(0, None));
    let pod = cluster.pod();
    cluster.wait_for(&pod, ServerState::AwaitingRecord);
    pod.kill();
    cluster.mount(&record(1, None));
    let pod = cluster.pod();
    let status = cluster.wait_for(&pod, ServerState::Ready);
    assert!(status.identity.unwrap().granted);
    assert_eq!(pod.client().run("SET a 1"), Reply::ok());
    pod.kill();
    // A record that lags behind holds back nobody who was granted the epoch.
    cluster.mount(&record(0, None));
    let pod = cluster.pod();
    cluster.wait_for(&pod, ServerState::Ready);
    assert_eq!(pod.client().run("GET a"), Reply::bulk("1"));
    assert!(pod.stop().success());
}

#[test]
fn metrics_count_every_snapshot_and_every_barrier_that_ran_out() {
    let cluster = Cluster::start();
    let pod = cluster.born(&NEVER);
    let mut client = pod.client();
    let metric = |name: &str| {
        let text = cluster.health("/metrics").1;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in\n{text}")).to_owned()
    };
    let wait_for = |what: &str, is_met: &dyn Fn() -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !is_met() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let snapshots = || {
        ["success", "failure"]
            .map(|result| metric(&format!("holdfast_snapshots_total{{result=\"{result}\"}}")))
    };
    client.run("SET a 1");
    wait_for("the age of a change", &|| metric("holdfast_unsynced_age_seconds") != "0.0");
    assert_eq!(client.run("SAVE"), Reply::ok());
    assert_eq!(snapshots(), ["1", "0"]);
    assert_ne!(metric("holdfast_snapshot_last_success_timestamp_seconds"), "0.0");
    wait_for("no unsaved change", &|| metric("holdfast_unsynced_age_seconds") == "0.0");
    client.run("MULTI");
    client.run("SET a 2");
    client.run("EXEC");
    assert_eq!(snapshots(), ["2", "0"], "a point is one");
    let away = cluster.directory.path().join("away");
    std::fs::rename(cluster.dir(), &away).unwrap();
    assert!(matches!(client.run("SAVE"), Reply::Error(_)));
    std::fs::rename(&away, cluster.dir()).unwrap();
    assert_eq!(snapshots(), ["2", "1"]);

    // Without periodic work only those who ask notice that the time is over.
    assert_eq!(client.run("DEBUG PAUSE-CRON 1"), Reply::ok());
    let request = holdfast_contract::control::BarrierRequest { token: "b-1".into(), timeout_seconds: 1 };
    let _: Barrier = cluster.ask("POST", "/v1/barriers", &request);
    wait_for("the end of the barrier", &|| {
        let barrier: Barrier = cluster.ask("GET", "/v1/barriers/b-1", &());
        barrier.expired
    });
    assert_eq!(metric("holdfast_barriers_expired_total"), "1");
    // A signal to stop is periodic work as well.
    assert_eq!(client.run("DEBUG PAUSE-CRON 0"), Reply::ok());
    assert!(pod.stop().success());
}
