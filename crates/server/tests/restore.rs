//! Restores from a real object store onto a simulated disk that crashes, fails and forgets: the volume holds the whole
//! backup or nothing.

mod backup_support;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use backup_support::{EPOCH, OFFSET, STORE, plan, rdb, store_backup};
use holdfast_bucket::Bucket;
use holdfast_bucket::testing::Gateway;
use holdfast_contract::bucket::{BASE_FILE, MANIFEST_FILE};
use holdfast_contract::identity::Identity;
use holdfast_contract::record::RestorePlan;
use holdfast_server::backup::check::check_rdb;
use holdfast_server::backup::decide::VolumeState;
use holdfast_server::backup::restore::{
    Restore, RestoreError, RestoreProgress, Restored, open_plan, restore_into,
};
use holdfast_server::backup::volume::inspect;
use holdfast_server::persistence::identity::write_identity;
use holdfast_server::storage::Storage;
use holdfast_server::storage::disk::Disk;
use holdfast_server::storage::memory::{Fault, MemoryDisk, UnsyncedBytes, UnsyncedNames};

const DIR: &str = "/data/store";

struct World {
    gateway: Gateway,
    bucket: Bucket,
    plan: RestorePlan,
    file: Vec<u8>,
}

impl World {
    async fn start(keys: u32) -> Self {
        let gateway = Gateway::start();
        let bucket = gateway.open("team/a");
        let file = rdb(keys);
        let (path, _manifest) = store_backup(&bucket, &file).await;
        let plan = plan(gateway.location("team/a"), &path, EPOCH + 1);
        Self { gateway, bucket, plan, file }
    }

    async fn restore(&self, storage: Arc<dyn Storage>, dir: &Path) -> Result<Restored, RestoreError> {
        let progress = RestoreProgress::default();
        let restored = restore_into(Restore {
            storage,
            bucket: &self.bucket,
            plan: &self.plan,
            store_id: STORE,
            instance: "instance-1",
            dir,
            snapshot_name: "dump.rdb",
            progress: &progress,
            now_ms: 9,
        })
        .await;
        if matches!(restored, Ok(Restored::Done { .. })) {
            assert_eq!(progress.fraction(), Some(1.0));
        }
        restored
    }

    async fn restore_memory(&self, disk: &MemoryDisk) -> Result<Restored, RestoreError> {
        self.restore(Arc::new(disk.clone()), Path::new(DIR)).await
    }

    fn is_whole(&self, disk: &MemoryDisk) -> bool {
        match inspect(disk, Path::new(DIR), Some(Path::new("/data"))) {
            VolumeState::Empty => false,
            VolumeState::Identity(identity) => {
                assert_eq!((identity.epoch, identity.granted), (EPOCH + 1, false));
                assert_eq!((identity.last_offset, identity.durable_offset), (OFFSET, OFFSET));
                let snapshot = disk.contents(&Path::new(DIR).join("dump.rdb"));
                assert!(
                    snapshot.as_ref() == Some(&self.file),
                    "an identity stands beside a damaged snapshot"
                );
                true
            }
            other => panic!("the volume is neither empty nor restored: {other:?}"),
        }
    }

    fn object(&self, name: &str) -> std::path::PathBuf {
        self.gateway.objects().join("team/a").join(&self.plan.backup_path).join(name)
    }
}

fn volume() -> MemoryDisk {
    let disk = MemoryDisk::new();
    disk.put(Path::new("/data/lost+found/x"), b"");
    disk
}

#[tokio::test]
async fn a_backup_comes_back_whole_and_a_second_run_changes_nothing() {
    let world = World::start(500).await;
    let disk = volume();
    let Restored::Done { identity, keys, bytes } = world.restore_memory(&disk).await.unwrap() else {
        panic!("nothing was there before");
    };
    assert_eq!((keys, bytes), (500, world.file.len() as u64));
    assert_eq!(identity.parent.as_ref().unwrap().backup_path.as_ref(), Some(&world.plan.backup_path));
    assert!(world.is_whole(&disk));
    let after_power_cut = disk.after_crash(UnsyncedBytes::Forgotten, UnsyncedNames::Forgotten);
    assert!(world.is_whole(&after_power_cut), "a finished restore survives a power cut");

    let files = disk.files();
    assert_eq!(world.restore_memory(&disk).await.unwrap(), Restored::AlreadyDone { identity });
    assert_eq!(disk.files(), files);
    let left: Vec<_> = files.iter().filter(|(path, _)| !path.starts_with(DIR)).collect();
    assert_eq!(left.len(), 1, "only lost+found is beside the data: {left:?}");
}

#[tokio::test]
async fn the_real_file_system_does_the_same() {
    let world = World::start(200).await;
    let volume = tempfile::tempdir().unwrap();
    let dir = volume.path().join("store");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("holdfast.lock"), b"").unwrap();
    std::fs::create_dir(volume.path().join(".holdfast-restore-2")).unwrap();
    std::fs::write(volume.path().join(".holdfast-restore-2/dump.rdb"), b"half").unwrap();
    world.restore(Arc::new(Disk), &dir).await.unwrap();
    assert!(std::fs::read(dir.join("dump.rdb")).unwrap() == world.file);
    assert!(matches!(inspect(&Disk, &dir, Some(volume.path())), VolumeState::Identity(_)));
    assert!(!volume.path().join(".holdfast-restore-2").exists());
}

#[tokio::test]
async fn a_crash_at_every_call_leaves_all_or_nothing_and_the_next_run_finishes() {
    let world = World::start(60).await;
    let (mut crashes, mut whole_early) = (0, 0);
    for call in 0.. {
        let disk = volume();
        disk.crash_at(call);
        let result = world.restore_memory(&disk).await;
        if !disk.crashed() {
            assert!(result.is_ok() && call >= 8, "{call} calls");
            break;
        }
        for bytes in
            [UnsyncedBytes::Forgotten, UnsyncedBytes::Kept, UnsyncedBytes::Prefix(100), UnsyncedBytes::Zeroed]
        {
            for names in [UnsyncedNames::Forgotten, UnsyncedNames::Kept] {
                crashes += 1;
                let found = disk.after_crash(bytes, names);
                if world.is_whole(&found) {
                    whole_early += 1;
                }
                let again = world.restore_memory(&found).await;
                assert!(again.is_ok(), "after a crash at call {call} ({bytes:?}, {names:?}): {again:?}");
                assert!(world.is_whole(&found));
                let settled = found.after_crash(UnsyncedBytes::Forgotten, UnsyncedNames::Forgotten);
                assert!(world.is_whole(&settled), "call {call} ({bytes:?}, {names:?})");
            }
        }
    }
    assert!(whole_early > 0 && whole_early < crashes, "{whole_early} of {crashes}");
    println!("{crashes} crash states, {whole_early} of them after the activation");
}

#[tokio::test]
async fn a_failure_of_every_call_leaves_all_or_nothing_and_the_next_run_finishes() {
    let world = World::start(60).await;
    for forever in [false, true] {
        for call in 0.. {
            let disk = volume();
            disk.inject(Some(Fault { call, kind: ErrorKind::StorageFull, forever }));
            let result = world.restore_memory(&disk).await;
            let calls = disk.calls();
            disk.inject(None);
            if result.is_ok() {
                assert!(world.is_whole(&disk));
            }
            world.restore_memory(&disk).await.unwrap();
            assert!(world.is_whole(&disk), "call {call}");
            assert!(world.is_whole(&disk.after_crash(UnsyncedBytes::Forgotten, UnsyncedNames::Forgotten)));
            if calls <= call {
                break;
            }
        }
    }
}

#[tokio::test]
async fn no_damaged_backup_is_restored() {
    let world = World::start(40).await;
    let base = world.object(BASE_FILE);
    let manifest = world.object(MANIFEST_FILE);
    let (good_base, good_manifest) = (std::fs::read(&base).unwrap(), std::fs::read(&manifest).unwrap());
    let mut damaged = 0;
    let mut refused = async |what: &str| {
        damaged += 1;
        let disk = volume();
        let error = world.restore_memory(&disk).await.expect_err(what);
        assert!(error.report().message.contains(&world.plan.backup_path), "{error:?}");
        assert!(!world.is_whole(&disk), "{what}");
        // It would be downloaded whole again each time.
        assert!(!what.contains(BASE_FILE) || !error.may_pass(), "{what}: {error:?}");
    };
    for (path, good) in [(&base, &good_base), (&manifest, &good_manifest)] {
        // About 1,000 damaged backups in all.
        for position in (0..good.len()).step_by(3) {
            let mut bytes = good.clone();
            bytes[position] ^= 1 << (position % 8);
            let spare = path == &manifest
                && serde_json::from_slice::<serde_json::Value>(&bytes).is_ok_and(|changed| {
                    // Facts for people, which no check can know.
                    let facts = |value: &serde_json::Value| {
                        let mut value = value.clone();
                        for free in ["serverVersion", "instance", "cutMs", "completedMs"] {
                            value.as_object_mut().unwrap().remove(free);
                        }
                        value
                    };
                    facts(&changed) == facts(&serde_json::from_slice(good).unwrap())
                });
            if !spare {
                std::fs::write(path, &bytes).unwrap();
                refused(&format!("{path:?} changed at {position}")).await;
            }
            std::fs::write(path, &good[..position]).unwrap();
            refused(&format!("{path:?} cut at {position}")).await;
        }
        std::fs::write(path, [good.as_slice(), good.as_slice()].concat()).unwrap();
        refused("doubled").await;
        std::fs::remove_file(path).unwrap();
        refused("removed").await;
        std::fs::write(path, good).unwrap();
    }
    // A whole file that is not what the manifest describes: the digest finds what the checksums cannot.
    let other = rdb(41);
    let text = String::from_utf8(good_manifest.clone()).unwrap();
    let sha256 = |bytes: &[u8]| {
        use sha2::Digest;
        sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let text = text
        .replace(&sha256(&good_base), &sha256(&other))
        .replace(&format!("\"bytes\": {}", good_base.len()), &format!("\"bytes\": {}", other.len()));
    std::fs::write(&base, &other).unwrap();
    std::fs::write(&manifest, &text).unwrap();
    refused("another dataset").await;
    std::fs::write(&base, &good_base).unwrap();
    std::fs::write(&manifest, &good_manifest).unwrap();
    println!("{damaged} damaged backups, none restored");
    let disk = volume();
    world.restore_memory(&disk).await.unwrap();
    assert!(world.is_whole(&disk));
    assert_eq!(check_rdb(good_base.as_slice()).unwrap().dataset.keys, 40);
}

#[tokio::test]
async fn a_volume_with_data_is_never_touched() {
    let world = World::start(10).await;
    let identity = |store_id: &str, epoch| Identity {
        version: 1,
        store_id: store_id.to_owned(),
        instance: "i".to_owned(),
        epoch,
        last_offset: 1,
        durable_offset: 1,
        granted: true,
        clean_shutdown: false,
        has_log: None,
        parent: None,
        written_ms: 0,
    };
    let check = async |prepare: &dyn Fn(&MemoryDisk), word: &str| {
        let disk = volume();
        disk.put(&Path::new(DIR).join("holdfast.lock"), b"");
        prepare(&disk);
        let before = disk.files();
        let error = world.restore_memory(&disk).await.unwrap_err();
        assert!(matches!(error, RestoreError::VolumeNotEmpty { .. }) && !error.may_pass(), "{error:?}");
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(disk.files(), before);
    };
    let write =
        |disk: &MemoryDisk, identity: &Identity| write_identity(disk, Path::new(DIR), identity).unwrap();
    check(&|disk| write(disk, &identity(STORE, EPOCH)), "epoch 4").await;
    check(&|disk| write(disk, &identity(STORE, EPOCH + 2)), "epoch 6").await;
    check(&|disk| write(disk, &identity("other", EPOCH + 1)), "Store other").await;
    check(&|disk| disk.put(&Path::new(DIR).join("dump.rdb"), b"REDIS"), "dump.rdb").await;
    check(&|disk| disk.put(&Path::new(DIR).join("holdfast-identity.json"), b"{"), "damaged").await;
}

#[tokio::test]
async fn what_stands_in_the_way_is_named() {
    let mut world = World::start(10).await;
    world.plan.epoch = EPOCH;
    let error = world.restore_memory(&volume()).await.unwrap_err();
    assert!(matches!(error, RestoreError::EpochNotAbove { .. }), "{error}");

    world.plan.epoch = EPOCH + 1;
    let good = world.plan.backup_path.clone();
    world.plan.backup_path = good.replace("000004", "000003");
    let error = world.restore_memory(&volume()).await.unwrap_err();
    assert!(error.report().message.contains("no object"), "{}", error.report().message);
    world.plan.backup_path = good;

    let root = tempfile::tempdir().unwrap();
    let error = open_plan(&world.plan, root.path()).unwrap_err();
    assert_eq!(error.reason(), "CredentialsMissing");
    holdfast_bucket::testing::write_credentials(&root.path().join("location"));
    open_plan(&world.plan, root.path()).unwrap();
    world.plan.credentials_dir = "../location".to_owned();
    assert!(open_plan(&world.plan, root.path()).is_err());

    // More than the simulated disk has.
    let manifest = std::fs::read_to_string(world.object(MANIFEST_FILE)).unwrap();
    let bytes = format!("\"bytes\": {}", world.file.len());
    std::fs::write(world.object(MANIFEST_FILE), manifest.replace(&bytes, "\"bytes\": 2199023255552"))
        .unwrap();
    let error = world.restore_memory(&volume()).await.unwrap_err();
    assert!(
        matches!(error, RestoreError::NoSpace { .. }) && error.to_string().contains("larger volume"),
        "{error}"
    );
}
