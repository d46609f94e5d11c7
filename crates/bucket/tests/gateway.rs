//! The bucket against a real S3 server (versitygw).

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use holdfast_bucket::testing::{AUTHORITY, Certificate, Gateway, credentials};
use holdfast_bucket::{Bucket, BucketError, Canceller, Limits, TakeOver, Uploaded, cancel_pair};
use holdfast_contract::bucket::{
    BASE_FILE, BackupFile, BackupManifest, DatasetSummary, LAYOUT_VERSION, MANIFEST_FILE, StoreMarker,
    backup_path,
};

const STORE: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";

fn marker(owner_uid: &str) -> StoreMarker {
    StoreMarker {
        version: LAYOUT_VERSION,
        store_id: STORE.to_owned(),
        owner_uid: owner_uid.to_owned(),
        owner_name: format!("team/{owner_uid}"),
    }
}

fn manifest(epoch: u64, offset: u64, file: &Uploaded) -> BackupManifest {
    BackupManifest {
        version: LAYOUT_VERSION,
        server_version: "0.1.0".to_owned(),
        store_id: STORE.to_owned(),
        instance: "instance-0".to_owned(),
        epoch,
        offset,
        cut_ms: 1_000,
        completed_ms: 2_000,
        files: vec![BackupFile {
            name: BASE_FILE.to_owned(),
            bytes: file.bytes,
            sha256: file.sha256.clone(),
        }],
        dataset: DatasetSummary { keys: 3, expiring: 1, digest: "0".repeat(64) },
    }
}

/// Bytes in which every part differs from every other.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| u8::try_from((index / 7 + index / 65_537) % 251).unwrap()).collect()
}

fn small_parts(gateway: &Gateway) -> Bucket {
    let limits = Limits { part_bytes: 5 << 20, ..Limits::default() };
    Bucket::open_with(&gateway.location("parts"), credentials(), limits).unwrap()
}

async fn put(bucket: &Bucket, path: &str, contents: &[u8]) -> Result<Uploaded, BucketError> {
    let (_canceller, cancel) = cancel_pair();
    bucket.put_file(path, contents, contents.len() as u64, &|_| {}, &cancel).await
}

async fn get(bucket: &Bucket, path: &str) -> Result<Vec<u8>, BucketError> {
    let mut download = bucket.get_stream(path).await?;
    let mut contents = Vec::new();
    while let Some(chunk) = download.next_chunk().await? {
        contents.extend_from_slice(&chunk);
    }
    Ok(contents)
}

#[tokio::test]
async fn probes_keep_to_one_object_however_often_they_come() {
    let gateway = Gateway::start();
    let bucket = gateway.open("team/a");
    bucket.probe().await.unwrap();
    let first = walk(&gateway.objects());
    assert_eq!(first.len(), 1, "{first:?}");
    let written = std::fs::metadata(&first[0]).unwrap().modified().unwrap();
    for _ in 0..3 {
        bucket.probe().await.unwrap();
    }
    assert_eq!(walk(&gateway.objects()), first);
    assert_eq!(std::fs::metadata(&first[0]).unwrap().modified().unwrap(), written, "it was written again");
    gateway.open("").probe().await.unwrap();
}

#[tokio::test]
async fn an_unknown_access_key_is_told_from_a_missing_bucket() {
    let gateway = Gateway::start();
    let keys = [("accessKeyID", "nobody"), ("secretAccessKey", "wrong")];
    let keys = keys.into_iter().map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).collect();
    let keys = holdfast_bucket::Credentials::from_map(&keys).unwrap();
    let bucket = Bucket::open(&gateway.location("p"), keys).unwrap();
    let error = bucket.probe().await.unwrap_err();
    assert_eq!(error.reason(), "AccessDenied", "{error}");
    let again = bucket.probe().await.unwrap_err();
    assert_eq!(error.to_string(), again.to_string(), "a message without random parts");
}

#[tokio::test]
async fn a_private_authority_is_trusted_only_where_the_location_names_it() {
    let gateway = Gateway::start_with_tls(Certificate::Valid);
    let mut location = gateway.location("p");
    let error = Bucket::open(&location, credentials()).unwrap().probe().await.unwrap_err();
    assert_eq!(error.reason(), "LocationUnavailable", "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(walk(&gateway.objects()).is_empty(), "nothing is sent to a stranger");

    location.ca_bundle = Some(AUTHORITY.to_owned());
    let bucket = Bucket::open(&location, credentials()).unwrap();
    bucket.probe().await.unwrap();
    put(&bucket, "s/x", b"data").await.unwrap();
    assert_eq!(get(&bucket, "s/x").await.unwrap(), b"data");
}

#[tokio::test]
async fn an_expired_certificate_is_told_without_the_seconds_since() {
    let gateway = Gateway::start_with_tls(Certificate::Expired);
    let mut location = gateway.location("p");
    location.ca_bundle = Some(AUTHORITY.to_owned());
    let error = Bucket::open(&location, credentials()).unwrap().probe().await.unwrap_err();
    assert_eq!(error.reason(), "LocationUnavailable", "{error}");
    assert!(error.to_string().contains(": the certificate of the object store has expired; "), "{error}");
}

#[tokio::test]
async fn wrong_key_and_wrong_bucket_are_told_apart() {
    let gateway = Gateway::start();
    let mut location = gateway.location("p");
    let wrong = [("accessKeyID", "test-key"), ("secretAccessKey", "wrong")];
    let wrong = wrong.into_iter().map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).collect();
    let wrong = holdfast_bucket::Credentials::from_map(&wrong).unwrap();
    let error = Bucket::open(&location, wrong).unwrap().probe().await.unwrap_err();
    assert_eq!(error.reason(), "AccessDenied", "{error}");
    assert!(!error.to_string().contains("test-key"), "{error}");

    location.bucket = "absent".to_owned();
    let bucket = Bucket::open(&location, credentials()).unwrap();
    for error in [
        bucket.probe().await.unwrap_err(),
        bucket.claim_owner(&marker("one"), TakeOver::Nobody).await.unwrap_err(),
        bucket.newest_backup(STORE).await.unwrap_err(),
        bucket.read_manifest(&backup_path(STORE, "20260101T000000Z", 1, 1)).await.unwrap_err(),
        put(&bucket, "s/x", b"1").await.unwrap_err(),
    ] {
        assert_eq!(error.reason(), "BucketNotFound", "{error}");
        assert!(error.to_string().contains("absent"), "{error}");
    }
}

#[tokio::test]
async fn an_owner_keeps_its_prefix_until_another_takes_over() {
    let gateway = Gateway::start();
    let bucket = gateway.open("p");
    bucket.claim_owner(&marker("one"), TakeOver::Nobody).await.unwrap();
    bucket.claim_owner(&marker("one"), TakeOver::Nobody).await.unwrap();
    let error = bucket.claim_owner(&marker("two"), TakeOver::Nobody).await.unwrap_err();
    assert_eq!(error.reason(), "ForeignOwner");
    assert!(error.to_string().contains("team/one"), "{error}");
    gateway.open("q").claim_owner(&marker("two"), TakeOver::Nobody).await.unwrap();

    let stranger = ["uid-stranger".to_owned()];
    let error = bucket.claim_owner(&marker("two"), TakeOver::From(&stranger)).await.unwrap_err();
    assert_eq!(error.reason(), "ForeignOwner", "a second adopter displaces nobody but the Store before it");
    let former = [marker("one").owner_uid];
    bucket.claim_owner(&marker("two"), TakeOver::From(&former)).await.unwrap();
    bucket.claim_owner(&marker("two"), TakeOver::Nobody).await.unwrap();
    let error = bucket.claim_owner(&marker("one"), TakeOver::Nobody).await.unwrap_err();
    assert!(error.to_string().contains("team/two"), "{error}");

    let path = gateway.objects().join("p").join(STORE).join("store.json");
    std::fs::write(&path, r#"{"version": 2, "unknown": true}"#).unwrap();
    let error = bucket.claim_owner(&marker("one"), TakeOver::Nobody).await.unwrap_err();
    assert!(matches!(error, BucketError::Newer { found: 2, .. }), "{error}");
}

#[tokio::test]
async fn files_of_every_number_of_parts_come_back_whole() {
    let gateway = Gateway::start();
    let bucket = small_parts(&gateway);
    for len in [0, 1, (5 << 20) - 1, 5 << 20, (5 << 20) + 1, 13 << 20] {
        let contents = pattern(len);
        let told = AtomicU64::new(0);
        let (_canceller, cancel) = cancel_pair();
        let progress = |bytes| {
            assert!(told.swap(bytes, Ordering::Relaxed) <= bytes, "progress never goes back");
        };
        let sent =
            bucket.put_file("s/base", contents.as_slice(), len as u64, &progress, &cancel).await.unwrap();
        assert_eq!(sent.bytes, len as u64);
        assert_eq!(told.into_inner(), len as u64);
        assert!(get(&bucket, "s/base").await.unwrap() == contents, "{len} bytes");
    }
}

#[tokio::test]
async fn an_upload_that_fails_or_is_cancelled_leaves_no_parts() {
    let gateway = Gateway::start();
    let bucket = small_parts(&gateway);
    let contents = pattern(12 << 20);

    let (_canceller, cancel) = cancel_pair();
    let error = bucket
        .put_file("s/short", contents.as_slice(), contents.len() as u64 + 1, &|_| {}, &cancel)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "SnapshotFailed", "{error}");

    let (canceller, cancel) = cancel_pair();
    let cancel_at_first_part = |_| Canceller::cancel(&canceller);
    let error = bucket
        .put_file("s/cancelled", contents.as_slice(), contents.len() as u64, &cancel_at_first_part, &cancel)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "Cancelled", "{error}");

    let left: Vec<_> = walk(&gateway.objects());
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn the_newest_backup_is_the_one_with_a_manifest_and_the_newest_data() {
    let gateway = Gateway::start();
    let bucket = gateway.open("p");
    let file = put(&bucket, "s/unrelated", b"data").await.unwrap();
    let newest = backup_path(STORE, "20250101T000000Z", 2, 7);
    let oldest = backup_path(STORE, "20260101T000000Z", 1, 9);
    let incomplete = backup_path(STORE, "20270101T000000Z", 3, 1);
    for path in [&newest, &oldest, &incomplete] {
        put(&bucket, &format!("{path}/{BASE_FILE}"), b"data").await.unwrap();
    }
    assert_eq!(bucket.newest_backup(STORE).await.unwrap(), None);
    bucket.put_manifest(&newest, &manifest(2, 7, &file)).await.unwrap();
    bucket.put_manifest(&oldest, &manifest(1, 9, &file)).await.unwrap();
    bucket.put_manifest(&oldest, &manifest(1, 9, &file)).await.unwrap();

    assert_eq!(bucket.newest_backup(STORE).await.unwrap(), Some((newest.clone(), manifest(2, 7, &file))));
    assert_eq!(bucket.newest_backup("another").await.unwrap(), None);

    let mut other = manifest(1, 9, &file);
    other.completed_ms += 1;
    let error = bucket.put_manifest(&oldest, &other).await.unwrap_err();
    assert!(matches!(error, BucketError::Exists { .. }), "{error}");
}

#[tokio::test]
async fn a_backup_is_there_with_its_manifest_and_its_file_only() {
    let gateway = Gateway::start();
    let bucket = gateway.open("p");
    let path = backup_path(STORE, "20260101T000000Z", 1, 9);
    let base = format!("{path}/{BASE_FILE}");
    let file = put(&bucket, &base, b"data").await.unwrap();
    let error = bucket.inspect_backup(&path).await.unwrap_err();
    assert!(matches!(error, BucketError::ObjectNotFound { .. }), "{error}");
    bucket.put_manifest(&path, &manifest(1, 9, &file)).await.unwrap();
    assert_eq!(bucket.inspect_backup(&path).await.unwrap(), manifest(1, 9, &file));
    put(&bucket, &base, b"dat").await.unwrap();
    let error = bucket.inspect_backup(&path).await.unwrap_err();
    assert!(matches!(error, BucketError::Damaged { .. }), "{error}");
    bucket.delete(&base).await.unwrap();
    let error = bucket.inspect_backup(&path).await.unwrap_err();
    assert!(matches!(error, BucketError::ObjectNotFound { .. }), "{error}");
}

/// Makes an object look as if it had been written so many days ago.
fn set_age(gateway: &Gateway, key: &str, days: u64) {
    let file = std::fs::File::options().write(true).open(gateway.objects().join(key)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(days * 86_400)).unwrap();
}

#[tokio::test]
async fn what_a_killed_upload_has_left_is_removed_once_it_is_old() {
    const AGE_MIN: Duration = Duration::from_secs(8 * 86_400);
    let gateway = Gateway::start();
    let bucket = gateway.open("p");
    let base =
        |store: &str, offset| format!("{}/{BASE_FILE}", backup_path(store, "20260101T000000Z", 1, offset));
    let [whole, left, young, foreign] = [base(STORE, 1), base(STORE, 2), base(STORE, 3), base("another", 4)];
    let notes = format!("{STORE}/backups/notes/{BASE_FILE}");
    for (path, days) in [(&whole, 9), (&left, 9), (&young, 7), (&foreign, 9), (&notes, 9)] {
        put(&bucket, path, b"data").await.unwrap();
        set_age(&gateway, &format!("p/{path}"), days);
    }
    assert!(bucket.remove_orphans(STORE, AGE_MIN).await.unwrap().is_empty(), "nothing here is of today");
    let file = put(&bucket, "unrelated", b"data").await.unwrap();
    let path = backup_path(STORE, "20260101T000000Z", 1, 1);
    bucket.put_manifest(&path, &manifest(1, 1, &file)).await.unwrap();
    assert_eq!(bucket.remove_orphans(STORE, AGE_MIN).await.unwrap(), std::slice::from_ref(&left));
    assert!(matches!(get(&bucket, &left).await, Err(BucketError::ObjectNotFound { .. })));
    for path in [&whole, &young, &foreign, &notes] {
        assert_eq!(get(&bucket, path).await.unwrap(), b"data", "{path}");
    }
    assert!(bucket.remove_orphans(STORE, AGE_MIN).await.unwrap().is_empty());
}

#[tokio::test]
async fn manifests_that_do_not_fit_are_refused() {
    let gateway = Gateway::start();
    let bucket = gateway.open("");
    let path = backup_path(STORE, "20260101T000000Z", 4, 5);
    let good = manifest(4, 5, &Uploaded { bytes: 4, sha256: "a".repeat(64) });
    let dir = gateway.objects().join(&path);
    std::fs::create_dir_all(&dir).unwrap();
    let check = async |contents: String, expected: &str| {
        std::fs::write(dir.join(MANIFEST_FILE), &contents).unwrap();
        let error = bucket.read_manifest(&path).await.unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(MANIFEST_FILE), "{error}");
        assert_eq!(bucket.newest_backup(STORE).await.unwrap_err().to_string(), error);
    };
    let json = |manifest: BackupManifest| serde_json::to_string(&manifest).unwrap();
    let whole = json(good.clone());
    check(whole[..whole.len() / 2].to_owned(), "damaged").await;
    check(String::new(), "damaged").await;
    check("x".repeat((1 << 20) + 1), "longer").await;
    check(json(BackupManifest { version: 2, ..good.clone() }), "layout version 2").await;
    check(json(BackupManifest { store_id: "other".into(), ..good.clone() }), "it describes backup").await;
    check(json(BackupManifest { epoch: 3, ..good.clone() }), "it describes backup").await;
    check(json(BackupManifest { offset: 6, ..good.clone() }), "it describes backup").await;
    check(json(BackupManifest { files: Vec::new(), ..good.clone() }), "0 files").await;
    let mut bad_digest = good.clone();
    bad_digest.files[0].sha256 = "A".repeat(64);
    check(json(bad_digest), "hex").await;

    std::fs::write(dir.join(MANIFEST_FILE), &whole).unwrap();
    assert_eq!(bucket.read_manifest(&path).await.unwrap(), good);
}

#[tokio::test]
async fn a_newer_unreadable_backup_stops_the_choice_of_an_older_one() {
    let check =
        async |readable: &[(u64, u64)], unreadable: &[&str], expected: Result<Option<(u64, u64)>, ()>| {
            let gateway = Gateway::start();
            let bucket = gateway.open("");
            let file = Uploaded { bytes: 4, sha256: "a".repeat(64) };
            for &(epoch, offset) in readable {
                let path = backup_path(STORE, "20260101T000000Z", epoch, offset);
                bucket.put_manifest(&path, &manifest(epoch, offset, &file)).await.unwrap();
            }
            for name in unreadable {
                let dir = gateway.objects().join(STORE).join("backups").join(name);
                std::fs::create_dir_all(&dir).unwrap();
                std::fs::write(dir.join(MANIFEST_FILE), "{").unwrap();
            }
            let found = bucket.newest_backup(STORE).await;
            let found = found.map(|newest| newest.map(|(_, found)| (found.epoch, found.offset)));
            assert_eq!(found.map_err(|_| ()), expected, "{readable:?} {unreadable:?}");
        };
    check(&[(1, 5), (2, 1)], &[], Ok(Some((2, 1)))).await;
    check(&[(1, 5)], &["20260101T000000Z-000001-00000000000000000004"], Ok(Some((1, 5)))).await;
    check(&[(1, 5)], &["20250101T000000Z-000001-00000000000000000005"], Ok(Some((1, 5)))).await;
    check(&[(1, 5)], &["20270101T000000Z-000001-00000000000000000005"], Ok(Some((1, 5)))).await;
    check(&[(1, 5)], &["20250101T000000Z-000001-00000000000000000006"], Err(())).await;
    check(&[(1, 5)], &["20250101T000000Z-000002-00000000000000000000"], Err(())).await;
    check(&[], &["20250101T000000Z-000001-00000000000000000000"], Err(())).await;
    check(&[(1, 5)], &["strange"], Err(())).await;
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}
