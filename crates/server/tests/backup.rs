//! Backups to a real object store, from a source that stands for the executor.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod backup_support;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backup_support::{Answer, EPOCH, OFFSET, STORE, front, plan, rdb};
use holdfast_bucket::testing::{AUTHORITY, Certificate, Gateway, free_address, write_credentials};
use holdfast_contract::bucket::{StoreMarker, backup_path};
use holdfast_contract::control::{BackupPhase, BackupProgress, BackupRequest};
use holdfast_contract::record::RestorePlan;
use holdfast_server::backup::check::check_rdb;
use holdfast_server::backup::restore::{Restore, RestoreProgress, Restored, open_plan, restore_into};
use holdfast_server::backup::upload::{
    BackupSettings, Backups, SnapshotSource, StartBackupError, remove_leftovers,
};
use holdfast_server::bridge::{CutFile, Refusal};
use holdfast_server::metrics::Metrics;
use holdfast_server::storage::disk::Disk;
use holdfast_server::storage::memory::MemoryDisk;

/// Writes the same file for every cut, after a delay.
struct Source {
    answer: Mutex<Result<Vec<u8>, Refusal>>,
    delay: Duration,
    store_id: Option<String>,
}

impl SnapshotSource for Source {
    fn store_id(&self) -> Option<String> {
        self.store_id.clone()
    }

    fn cut(&self, dest: PathBuf) -> Pin<Box<dyn Future<Output = Result<CutFile, Refusal>> + Send>> {
        let answer = self.answer.lock().unwrap().clone();
        let delay = self.delay;
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            let file = answer?;
            std::fs::write(&dest, &file).unwrap();
            let dataset = check_rdb(file.as_slice()).unwrap().dataset;
            Ok(CutFile {
                path: dest,
                bytes: file.len() as u64,
                store_id: STORE.to_owned(),
                epoch: EPOCH,
                offset: OFFSET,
                cut_ms: 1_790_000_000_000,
                dataset,
            })
        })
    }
}

struct World {
    gateway: Gateway,
    directory: tempfile::TempDir,
    metrics: Arc<Metrics>,
    backups: Backups,
}

impl World {
    fn start(source: Source) -> Self {
        Self::start_on(Gateway::start(), source)
    }

    fn start_on(gateway: Gateway, source: Source) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("store")).unwrap();
        write_credentials(&directory.path().join("credentials/location"));
        let metrics = Arc::new(Metrics::new());
        let settings = BackupSettings {
            temp_dir: directory.path().join("store"),
            credentials_root: directory.path().join("credentials"),
            instance: "instance-0".to_owned(),
        };
        let backups = Backups::new(Arc::new(source), settings, Arc::clone(&metrics));
        Self { gateway, directory, metrics, backups }
    }

    fn request(&self, id: &str) -> BackupRequest {
        BackupRequest {
            id: id.to_owned(),
            location: self.gateway.location("team/a"),
            credentials_dir: "location".to_owned(),
            owner_uid: "uid-1".to_owned(),
            owner_name: "team/cache".to_owned(),
            takes_over: false,
            former_owner_uids: None,
        }
    }

    async fn run(&self, request: BackupRequest) -> BackupProgress {
        let id = request.id.clone();
        self.backups.start(request).unwrap();
        self.end_of(&id).await
    }

    async fn end_of(&self, id: &str) -> BackupProgress {
        let mut last = None;
        for _ in 0..3_000 {
            let progress = self.backups.progress(id).unwrap();
            assert!(progress.uploaded_bytes <= progress.total_bytes, "{progress:?}");
            if progress.completed_ms.is_some() {
                assert_eq!(files_in(&self.directory.path().join("store")), 0, "the local file is gone");
                return progress;
            }
            last = Some(progress);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the backup did not end: {last:?}");
    }

    fn objects(&self) -> Vec<String> {
        let mut names = Vec::new();
        let root = self.gateway.objects();
        let mut directories = vec![root.clone()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    names.push(path.strip_prefix(&root).unwrap().display().to_string());
                }
            }
        }
        names.sort();
        names
    }
}

fn files_in(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

fn source(keys: u32) -> Source {
    Source { answer: Mutex::new(Ok(rdb(keys))), delay: Duration::ZERO, store_id: Some(STORE.to_owned()) }
}

#[tokio::test]
async fn a_backup_is_complete_verified_and_can_be_restored() {
    let world = World::start(source(300));
    let progress = world.run(world.request("b1")).await;
    assert_eq!(progress.phase, BackupPhase::Succeeded, "{progress:?}");
    assert_eq!(
        (progress.epoch, progress.offset, progress.uploaded_bytes),
        (EPOCH, OFFSET, progress.total_bytes)
    );
    assert_eq!(progress.dataset.as_ref().unwrap().keys, 300);
    let path = progress.backup_path.clone().unwrap();
    assert_eq!(path, format!("{STORE}/backups/20260921T141320Z-000004-00000000000000000077"));
    let prefix = format!("team/a/{STORE}");
    assert_eq!(
        world.objects(),
        [
            format!("team/a/{path}/base.rdb"),
            format!("team/a/{path}/manifest.json"),
            format!("{prefix}/store.json"),
        ]
    );
    let text = world.metrics.render();
    assert!(text.contains("holdfast_backups_total{result=\"success\"} 1"), "{text}");
    assert!(text.contains(&format!("holdfast_backup_uploaded_bytes_total {}", progress.total_bytes)));

    let disk = MemoryDisk::new();
    disk.put(Path::new("/data/.holdfast-marker"), b"");
    let restored = restore_into(Restore {
        storage: Arc::new(disk),
        bucket: &world.gateway.open("team/a"),
        plan: &plan(world.gateway.location("team/a"), &path, EPOCH + 1),
        store_id: STORE,
        instance: "instance-1",
        dir: Path::new("/data/store"),
        snapshot_name: "dump.rdb",
        progress: &RestoreProgress::default(),
        now_ms: 1,
    })
    .await;
    assert!(matches!(restored.unwrap(), Restored::Done { keys: 300, .. }));
}

#[tokio::test]
async fn the_authority_of_a_location_is_trusted_for_backup_and_restore() {
    let world = World::start_on(Gateway::start_with_tls(Certificate::Valid), source(30));
    let refused = world.run(world.request("stranger")).await;
    assert_eq!(refused.reason.as_deref(), Some("LocationUnavailable"), "{refused:?}");
    assert!(refused.message.unwrap().contains("certificate"));

    // As the control port gets the request, and the init container its plan: as JSON.
    let mut request = world.request("b1");
    request.location.ca_bundle = Some(AUTHORITY.to_owned());
    let request: BackupRequest = through_json(&request);
    let location = request.location.clone();
    let progress = world.run(request).await;
    assert_eq!(progress.phase, BackupPhase::Succeeded, "{progress:?}");

    let path = progress.backup_path.unwrap();
    let restore_plan: RestorePlan = through_json(&plan(location, &path, EPOCH + 1));
    let bucket = open_plan(&restore_plan, &world.directory.path().join("credentials")).unwrap();
    let disk = MemoryDisk::new();
    disk.put(Path::new("/data/.holdfast-marker"), b"");
    let restored = restore_into(Restore {
        storage: Arc::new(disk),
        bucket: &bucket,
        plan: &restore_plan,
        store_id: STORE,
        instance: "instance-1",
        dir: Path::new("/data/store"),
        snapshot_name: "dump.rdb",
        progress: &RestoreProgress::default(),
        now_ms: 1,
    })
    .await;
    assert!(matches!(restored.unwrap(), Restored::Done { keys: 30, .. }));
}

fn through_json<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
}

#[tokio::test]
async fn an_id_runs_once_and_two_backups_of_one_second_have_two_names() {
    let world = World::start(source(3));
    let first = world.run(world.request("b1")).await;
    assert_eq!(world.backups.start(world.request("b1")).unwrap(), first);
    let second = world.run(world.request("b2")).await;
    assert_eq!(second.phase, BackupPhase::Succeeded, "{second:?}");
    assert_ne!(first.backup_path, second.backup_path);
    let bucket = world.gateway.open("team/a");
    for path in [&first.backup_path, &second.backup_path] {
        bucket.read_manifest(path.as_deref().expect("a path")).await.unwrap();
    }
}

#[tokio::test]
async fn what_fails_has_its_reason_and_leaves_no_data() {
    let check = async |source: Source, change: &dyn Fn(&World, &mut BackupRequest), reason: &str| {
        let world = World::start(source);
        let mut request = world.request("b");
        change(&world, &mut request);
        if request.owner_uid == "taken" {
            let marker = StoreMarker {
                version: 1,
                store_id: STORE.to_owned(),
                owner_uid: "uid-2".to_owned(),
                owner_name: "team/other".to_owned(),
            };
            world
                .gateway
                .open("team/a")
                .claim_owner(&marker, holdfast_bucket::TakeOver::Nobody)
                .await
                .unwrap();
        }
        let progress = world.run(request).await;
        assert_eq!(
            (progress.phase, progress.reason.as_deref()),
            (BackupPhase::Failed, Some(reason)),
            "{progress:?}"
        );
        assert!(progress.message.is_some_and(|message| message.len() > 20));
        let left: Vec<_> = world.objects().into_iter().filter(|name| !name.ends_with("store.json")).collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(world.metrics.render().contains("holdfast_backups_total{result=\"failure\"} 1"));
    };
    check(source(3), &|_, request| request.credentials_dir = "absent".into(), "CredentialsMissing").await;
    check(source(3), &|_, request| request.credentials_dir = "/etc".into(), "CredentialsMissing").await;
    check(source(3), &|_, request| request.location.bucket = "absent".into(), "BucketNotFound").await;
    let nobody = format!("http://{}", free_address());
    check(source(3), &|_, request| request.location.endpoint = Some(nobody.clone()), "LocationUnavailable")
        .await;
    let wrong_key = |world: &World, request: &mut BackupRequest| {
        let dir = world.directory.path().join("credentials/wrong");
        write_credentials(&dir);
        std::fs::write(dir.join("secretAccessKey"), "wrong").unwrap();
        request.credentials_dir = "wrong".into();
    };
    check(source(3), &wrong_key, "AccessDenied").await;
    check(source(3), &|_, request| request.owner_uid = "taken".into(), "ForeignOwner").await;
    check(Source { store_id: None, ..source(3) }, &|_, _| {}, "NotReady").await;
    let refusing = |refusal| Source { answer: Mutex::new(Err(refusal)), ..source(3) };
    check(refusing(Refusal::Failed("disk full".into())), &|_, _| {}, "SnapshotFailed").await;
    check(refusing(Refusal::NoSpace("it needs 2 bytes".into())), &|_, _| {}, "InsufficientSpace").await;
    check(refusing(Refusal::NotReady("the server is loading its data".into())), &|_, _| {}, "NotReady").await;
    check(refusing(Refusal::Stopped), &|_, _| {}, "Cancelled").await;
}

#[tokio::test]
async fn what_a_killed_upload_has_left_is_removed_by_a_later_backup() {
    let world = World::start(source(20));
    let bucket = world.gateway.open("team/a");
    let (_canceller, cancel) = holdfast_bucket::cancel_pair();
    let name = |path: String| format!("{path}/{}", holdfast_contract::bucket::BASE_FILE);
    let left = name(backup_path(STORE, "20200101T000000Z", EPOCH, 1));
    let young = name(backup_path(STORE, "20200101T000000Z", EPOCH, 2));
    for (path, days) in [(&left, 9_u64), (&young, 7)] {
        bucket.put_file(path, &b"data"[..], 4, &|_| {}, &cancel).await.unwrap();
        let file = world.gateway.objects().join("team/a").join(path);
        let file = std::fs::File::options().write(true).open(file).unwrap();
        let written = std::time::SystemTime::now() - Duration::from_secs(days * 86_400);
        file.set_modified(written).unwrap();
    }
    let ends_with = |path: &String| world.objects().iter().any(|object| object.ends_with(path.as_str()));
    assert!(ends_with(&left) && ends_with(&young));
    let progress = world.run(world.request("b")).await;
    assert_eq!(progress.phase, BackupPhase::Succeeded, "{progress:?}");
    for _ in 0..1_000 {
        if !ends_with(&left) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!ends_with(&left), "{:?}", world.objects());
    assert!(ends_with(&young), "somebody may still be at it");
}

#[tokio::test]
async fn a_bucket_that_damages_what_it_stores_gets_no_manifest() {
    let check = async |alter: fn(&str, &str, &mut Answer), reason: &str| {
        let world = World::start(source(2_000));
        let front = front(world.gateway.address(), alter).await;
        let mut request = world.request("b");
        request.location.endpoint = Some(format!("http://{front}"));
        let progress = world.run(request).await;
        assert_eq!(
            (progress.phase, progress.reason.as_deref()),
            (BackupPhase::Failed, Some(reason)),
            "{progress:?}"
        );
        let left: Vec<_> = world.objects().into_iter().filter(|name| !name.ends_with("store.json")).collect();
        assert!(left.is_empty(), "{left:?}");
    };
    let flipped = |method: &str, path: &str, answer: &mut Answer| {
        if method == "GET" && path.ends_with("base.rdb") {
            let middle = answer.body.len() / 2;
            answer.body[middle] ^= 1;
        }
    };
    check(flipped, "VerificationFailed").await;
    let shorter = |method: &str, path: &str, answer: &mut Answer| {
        if method == "GET" && path.ends_with("base.rdb") {
            answer.body.truncate(answer.body.len() / 2);
        }
    };
    check(shorter, "VerificationFailed").await;
    let unreadable = |method: &str, path: &str, answer: &mut Answer| {
        if method == "GET" && path.ends_with("base.rdb") {
            *answer = Answer { status: 503, body: Vec::new() };
        }
    };
    check(unreadable, "LocationUnavailable").await;
}

#[tokio::test]
async fn a_manifest_whose_answer_is_lost_counts_when_it_arrived() {
    let world = World::start(source(3));
    let lost = |method: &str, path: &str, answer: &mut Answer| {
        if method == "PUT" && path.ends_with("manifest.json") && answer.status == 200 {
            *answer = Answer { status: 503, body: Vec::new() };
        }
    };
    let front = front(world.gateway.address(), lost).await;
    let mut request = world.request("b");
    request.location.endpoint = Some(format!("http://{front}"));
    let progress = world.run(request).await;
    assert_eq!(progress.phase, BackupPhase::Succeeded, "{progress:?}");
    let newest = world.gateway.open("team/a").newest_backup(STORE).await.unwrap();
    assert_eq!(newest.map(|(path, _)| path), progress.backup_path);
}

#[tokio::test]
async fn a_cancelled_backup_ends_and_leaves_nothing() {
    let slow = Source { delay: Duration::from_millis(300), ..source(3) };
    let world = World::start(slow);
    world.backups.start(world.request("running")).unwrap();
    world.backups.start(world.request("waiting")).unwrap();
    let waiting = world.backups.cancel("waiting").await.unwrap();
    assert_eq!((waiting.phase, waiting.reason.as_deref()), (BackupPhase::Failed, Some("Cancelled")));
    let running = world.backups.cancel("running").await.unwrap();
    assert_eq!((running.phase, running.reason.as_deref()), (BackupPhase::Failed, Some("Cancelled")));
    assert_eq!(world.backups.cancel("running").await.unwrap(), running);
    assert_eq!(world.backups.cancel("never").await, None);
    assert!(world.objects().iter().all(|name| name.ends_with("store.json")));
    assert_eq!(files_in(&world.directory.path().join("store")), 0);
}

#[tokio::test]
async fn backups_are_bounded_and_the_oldest_is_forgotten() {
    let world = World::start(Source { store_id: None, ..source(1) });
    assert!(matches!(world.backups.start(world.request("../x")), Err(StartBackupError::InvalidId)));
    assert!(matches!(world.backups.start(world.request("")), Err(StartBackupError::InvalidId)));
    for number in 0..40 {
        world.run(world.request(&format!("b{number}"))).await;
    }
    assert!(world.backups.progress("b0").is_none());
    assert!(world.backups.progress("b39").is_some());

    let slow = World::start(Source { delay: Duration::from_secs(2), ..source(1) });
    for number in 0..4 {
        slow.backups.start(slow.request(&format!("b{number}"))).unwrap();
    }
    assert!(matches!(slow.backups.start(slow.request("b4")), Err(StartBackupError::TooMany)));
    slow.backups.shutdown().await;
    for number in 0..4 {
        assert_eq!(slow.backups.progress(&format!("b{number}")).unwrap().phase, BackupPhase::Failed);
    }
}

#[tokio::test]
async fn local_files_of_an_earlier_process_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    for name in [".holdfast-backup-1.rdb", "dump.rdb"] {
        std::fs::write(directory.path().join(name), b"x").unwrap();
    }
    remove_leftovers(&Disk, directory.path()).unwrap();
    assert_eq!(files_in(directory.path()), 1);
    assert!(directory.path().join("dump.rdb").exists());
}
