//! Backups to restore from, in a real object store.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(dead_code, reason = "each test uses its part")]

use std::net::{Ipv4Addr, SocketAddr};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use holdfast_bucket::{Bucket, cancel_pair};
use holdfast_contract::bucket::{BASE_FILE, BackupFile, BackupManifest, backup_path};
use holdfast_contract::record::RestorePlan;
use holdfast_server::backup::check::check_rdb;
use holdfast_server::engine::Access;
use holdfast_server::engine::value::{Entry, Value};
use holdfast_server::persistence::snapshot::{RdbOptions, RdbWriter, SnapshotAux};

/// Store whose backup [`store_backup`] writes.
pub(crate) const STORE: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
/// Epoch of that backup.
pub(crate) const EPOCH: u64 = 4;
/// Offset of that backup.
pub(crate) const OFFSET: u64 = 77;

/// An RDB with `keys` keys, some with a time to live, in three databases.
pub(crate) fn rdb(keys: u32) -> Vec<u8> {
    let aux = SnapshotAux {
        store_id: Some(STORE.to_owned()),
        epoch: Some(EPOCH),
        offset: Some(OFFSET),
        ..SnapshotAux::default()
    };
    let options = RdbOptions { aux: aux.fields(), ..RdbOptions::default() };
    let mut writer = RdbWriter::new(Vec::new(), options).unwrap();
    for db in 0..3 {
        for number in (0..keys).filter(|number| number % 3 == db) {
            let key = format!("key:{number}\0\u{ff}").into_bytes().into();
            let value = Value::Bytes(number.to_le_bytes().repeat(20));
            let expires_at_ms = (number % 5 == 0).then_some(4_000_000_000_000 + i64::from(number));
            writer.entry(&Entry { db, key, value, expires_at_ms, access: Access::default() }).unwrap();
        }
    }
    writer.finish().unwrap().0
}

/// Writes a whole backup of `file` and returns its path and manifest.
pub(crate) async fn store_backup(bucket: &Bucket, file: &[u8]) -> (String, BackupManifest) {
    let path = backup_path(STORE, "20260101T000000Z", EPOCH, OFFSET);
    let (_canceller, cancel) = cancel_pair();
    let sent = bucket
        .put_file(&format!("{path}/{BASE_FILE}"), file, file.len() as u64, &|_| {}, &cancel)
        .await
        .unwrap();
    let manifest = BackupManifest {
        version: 1,
        server_version: "0.1.0".to_owned(),
        store_id: STORE.to_owned(),
        instance: "instance-0".to_owned(),
        epoch: EPOCH,
        offset: OFFSET,
        cut_ms: 1,
        completed_ms: 2,
        files: vec![BackupFile { name: BASE_FILE.to_owned(), bytes: sent.bytes, sha256: sent.sha256 }],
        dataset: check_rdb(file).unwrap().dataset,
    };
    bucket.put_manifest(&path, &manifest).await.unwrap();
    (path, manifest)
}

/// A plan that restores the backup at `path` as `epoch`.
pub(crate) fn plan(bucket: holdfast_contract::bucket::Location, path: &str, epoch: u64) -> RestorePlan {
    RestorePlan {
        epoch,
        location: bucket,
        credentials_dir: "location".to_owned(),
        backup_path: path.to_owned(),
    }
}

/// An answer of the object store, on its way back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Stands before the object store at `behind` and hands everything on; `alter` may change an answer, given the method
/// and the path of its request.
pub(crate) async fn front(behind: SocketAddr, alter: fn(&str, &str, &mut Answer)) -> SocketAddr {
    let client = holdfast_bucket::testing::plain_client();
    let app = axum::Router::new().fallback(move |request: Request| {
        let client = client.clone();
        async move {
            let (head, body) = request.into_parts();
            let path = head.uri.path().to_owned();
            let method = head.method.to_string();
            let answered = client
                .request(head.method, format!("http://{behind}{}", head.uri))
                .headers(head.headers)
                .body(to_bytes(body, usize::MAX).await.unwrap())
                .send()
                .await
                .unwrap();
            let mut response = Response::builder();
            for (name, value) in answered.headers() {
                if name != "content-length" {
                    response = response.header(name, value);
                }
            }
            let mut answer =
                Answer { status: answered.status().as_u16(), body: answered.bytes().await.unwrap().to_vec() };
            alter(&method, &path, &mut answer);
            response.status(answer.status).body(Body::from(answer.body)).unwrap()
        }
    });
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}
