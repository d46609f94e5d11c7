//! What an object store may answer when it is ill: each answer becomes its class, in bounded time.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use futures::StreamExt;
use holdfast_bucket::testing::{credentials, free_address, location};
use holdfast_bucket::{Bucket, BucketError, Limits, TakeOver, cancel_pair};
use holdfast_contract::bucket::{StoreMarker, backup_path};

/// A server whose every answer is `answer(number of the request, request)`.
struct Ill {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Ill {
    async fn start(answer: impl Fn(usize, Request) -> Response + Clone + Send + Sync + 'static) -> Self {
        Self::start_slow(|_, _| Duration::ZERO, answer).await
    }

    /// As [`Ill::start`]; nothing of an answer is sent before `pause` has passed.
    async fn start_slow(
        pause: impl Fn(usize, &Request) -> Duration + Clone + Send + Sync + 'static,
        answer: impl Fn(usize, Request) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        let app = axum::Router::new().fallback(move |request: Request| {
            let number = count.fetch_add(1, Ordering::SeqCst);
            let pause = pause(number, &request);
            let response = answer(number, request);
            async move {
                tokio::time::sleep(pause).await;
                response
            }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, requests }
    }

    fn bucket(&self) -> Bucket {
        open(self.address)
    }
}

fn open(address: SocketAddr) -> Bucket {
    let limits = Limits {
        silence: Duration::from_millis(300),
        operation: Duration::from_secs(2),
        part: Duration::from_secs(2),
        ..Limits::default()
    };
    Bucket::open_with(&location(address, "p"), credentials(), limits).unwrap()
}

fn s3_error(status: u16, code: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><AWSAccessKeyId>test-key</AWSAccessKeyId></Error>"
    );
    Response::builder().status(status).body(Body::from(body)).unwrap()
}

fn marker() -> StoreMarker {
    StoreMarker { version: 1, store_id: "s".into(), owner_uid: "u".into(), owner_name: "n/s".into() }
}

async fn every_operation(bucket: &Bucket) -> Vec<BucketError> {
    let (_canceller, cancel) = cancel_pair();
    vec![
        bucket.probe().await.unwrap_err(),
        bucket.claim_owner(&marker(), TakeOver::Nobody).await.unwrap_err(),
        bucket.put_file("s/x", &b"data"[..], 4, &|_| {}, &cancel).await.unwrap_err(),
        bucket.get_stream("s/x").await.unwrap_err(),
        bucket.read_manifest(&backup_path("s", "20260101T000000Z", 1, 1)).await.unwrap_err(),
        bucket.newest_backup("s").await.unwrap_err(),
    ]
}

#[tokio::test]
async fn each_answer_has_its_class_and_no_secret() {
    let check = async |status: u16, code: &'static str, reason: &str| {
        let ill = Ill::start(move |_, _| s3_error(status, code)).await;
        for error in every_operation(&ill.bucket()).await {
            let text = error.to_string();
            assert_eq!(error.reason(), reason, "{status} {code}: {text}");
            assert!(
                text.contains("backups") && text.contains("127.0.0.1"),
                "names bucket and endpoint: {text}"
            );
            assert!(!text.contains("test-key"), "{text}");
        }
    };
    check(403, "AccessDenied", "AccessDenied").await;
    check(403, "SignatureDoesNotMatch", "AccessDenied").await;
    check(403, "RequestTimeTooSkewed", "AccessDenied").await;
    check(400, "ExpiredToken", "AccessDenied").await;
    check(401, "", "AccessDenied").await;
    check(404, "NoSuchBucket", "BucketNotFound").await;
    check(404, "XAdminUserNotFound", "AccessDenied").await;
    check(404, "InvalidAccessKeyID", "AccessDenied").await;
    check(404, "NoSuchUpgrade", "LocationUnavailable").await;
    check(503, "SlowDown", "LocationUnavailable").await;
    check(500, "InternalError", "LocationUnavailable").await;
    check(301, "PermanentRedirect", "LocationUnavailable").await;
    check(400, "MalformedXML", "LocationUnavailable").await;
}

#[tokio::test]
async fn a_server_error_is_tried_three_times() {
    let ill = Ill::start(|_, _| s3_error(503, "SlowDown")).await;
    let error = ill.bucket().claim_owner(&marker(), TakeOver::Nobody).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("503 SlowDown"), "{error}");
    assert_eq!(ill.requests.load(Ordering::SeqCst), 3);

    let ill = Ill::start(
        |number, _| {
            if number < 2 { s3_error(503, "SlowDown") } else { Response::new(Body::empty()) }
        },
    )
    .await;
    let (_canceller, cancel) = cancel_pair();
    let sent = ill.bucket().put_file("s/x", &b"data"[..], 4, &|_| {}, &cancel).await;
    // The answer lacks an ETag, which only the success path notices.
    assert!(sent.is_err_and(|error| !error.to_string().contains("503")));
    assert_eq!(ill.requests.load(Ordering::SeqCst), 3);
}

/// What an object store answers to the requests of an upload in parts.
fn upload_answer(request: &Request) -> Response {
    let body = match request.method().as_str() {
        "POST" if request.uri().query().is_some_and(|query| query.starts_with("uploads")) => {
            "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
        }
        "POST" => "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>",
        _ => "",
    };
    Response::builder().header("etag", "\"e\"").body(Body::from(body)).unwrap()
}

async fn send(address: SocketAddr, limits: Limits, contents: &[u8]) -> Result<(), BucketError> {
    let bucket = Bucket::open_with(&location(address, "p"), credentials(), limits).unwrap();
    let (_canceller, cancel) = cancel_pair();
    let sent = bucket.put_file("s/x", contents, contents.len() as u64, &|_| {}, &cancel).await?;
    assert_eq!(sent.bytes, contents.len() as u64);
    Ok(())
}

#[tokio::test]
async fn what_is_sent_may_take_longer_than_a_silence() {
    let limits = Limits { silence: Duration::from_millis(100), part_bytes: 4, ..Limits::default() };
    let pause = Duration::from_millis(500);
    // A part, a whole file, and completing an upload.
    for (slow, contents) in [("PUT", &b"12345678"[..]), ("PUT", &b"1234"[..]), ("POST", &b"12345678"[..])] {
        let ill = Ill::start_slow(
            move |_, request| if request.method() == slow { pause } else { Duration::ZERO },
            |_, request| upload_answer(&request),
        )
        .await;
        let begun = Instant::now();
        send(ill.address, limits.clone(), contents).await.unwrap();
        assert!(begun.elapsed() >= pause, "{slow} was not slow");
    }
    // A document is sent, too.
    let ill = Ill::start_slow(move |_, _| pause, |_, request| upload_answer(&request)).await;
    let bucket = Bucket::open_with(&location(ill.address, "p"), credentials(), limits.clone()).unwrap();
    bucket.claim_owner(&marker(), TakeOver::Nobody).await.unwrap();
    let error = bucket.read_manifest(&backup_path("s", "20260101T000000Z", 1, 1)).await.unwrap_err();
    assert!(error.is_transient(), "a silence while nothing is sent is one: {error}");
    assert!(error.to_string().contains("timed out"), "{error}");
}

#[tokio::test]
async fn the_time_of_a_part_is_for_all_its_attempts() {
    let limits = Limits { operation: Duration::from_millis(400), part_bytes: 4, ..Limits::default() };
    let failed = Arc::new(AtomicUsize::new(0));
    let failures = Arc::clone(&failed);
    let is_part = |request: &Request| request.method() == "PUT";
    // The first attempt fails when the time of a small operation is over.
    let ill = Ill::start_slow(
        move |_, request| if is_part(request) { Duration::from_millis(600) } else { Duration::ZERO },
        move |_, request| {
            if is_part(&request) && failures.fetch_add(1, Ordering::SeqCst) == 0 {
                return s3_error(503, "SlowDown");
            }
            upload_answer(&request)
        },
    )
    .await;
    send(ill.address, limits, b"1234").await.unwrap();
    assert_eq!(failed.load(Ordering::SeqCst), 2);

    let begun = Instant::now();
    let ill = Ill::start_slow(|_, _| Duration::from_secs(60), |_, request| upload_answer(&request)).await;
    let limits = Limits { part: Duration::from_millis(300), ..Limits::default() };
    let error = send(ill.address, limits, b"1234").await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// A body that never ends, and what was read of it in bytes.
fn endless(sent: &Arc<AtomicUsize>) -> Body {
    let sent = Arc::clone(sent);
    Body::from_stream(futures::stream::repeat_with(move || {
        sent.fetch_add(64 << 10, Ordering::SeqCst);
        Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 64 << 10]))
    }))
}

#[tokio::test]
async fn an_answer_without_an_end_is_read_to_a_limit() {
    let check = async |status: u16, len_max: usize, expected: &str| {
        let sent = Arc::new(AtomicUsize::new(0));
        let body = Arc::clone(&sent);
        let ill = Ill::start(move |_, _| {
            let response = Response::builder().status(status).header("etag", "\"e\"");
            response.body(endless(&body)).unwrap()
        })
        .await;
        let begun = Instant::now();
        let error = ill.bucket().newest_backup("s").await.unwrap_err();
        assert!(error.to_string().contains(expected), "{status}: {error}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{status}: {:?}", begun.elapsed());
        // Buffers of both ends are filled besides what is read.
        let sent = sent.load(Ordering::SeqCst) / ill.requests.load(Ordering::SeqCst);
        assert!(sent < len_max + (16 << 20), "{status}: {sent} bytes");
    };
    check(500, 64 << 10, "500").await;
    check(403, 64 << 10, "403").await;
    check(200, 8 << 20, "longer than 8388608 bytes").await;
}

/// A page of a list with these keys.
fn list_answer(keys: &[&str]) -> Response {
    let contents: String = keys
        .iter()
        .map(|key| {
            format!(
                "<Contents><Key>{key}</Key><Size>1</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            )
        })
        .collect();
    let body = format!("<ListBucketResult>{contents}</ListBucketResult>");
    Response::new(Body::from(body))
}

#[tokio::test]
async fn a_key_that_is_no_path_is_named() {
    let check = async |key: &'static str, problem: &str| {
        let ill = Ill::start(move |_, _| list_answer(&["p/s/backups/a", key, "p/s/backups/z"])).await;
        let error = ill.bucket().newest_backup("s").await.unwrap_err();
        assert!(matches!(error, BucketError::Stray { .. }) && !error.is_transient(), "{error:?}");
        assert_eq!(error.reason(), "VerificationFailed");
        let text = error.to_string();
        assert!(text.contains(&format!("{key:?} in bucket")), "{text}");
        assert!(text.contains(problem) && text.contains("remove it"), "{text}");
    };
    check("p/s/backups//x", "two slashes").await;
    check("p/s/backups//x/manifest.json", "two slashes").await;
    check("p/s/backups/../x", "`..`").await;
    // A folder, as consoles make them, is a key that ends with a slash.
    let ill = Ill::start(|_, _| list_answer(&["p/s/backups/", "p/s/backups/folder/"])).await;
    assert_eq!(ill.bucket().newest_backup("s").await.unwrap(), None);
}

#[tokio::test]
async fn denied_access_is_not_tried_again() {
    let ill = Ill::start(|_, _| s3_error(403, "AccessDenied")).await;
    assert!(ill.bucket().get_stream("s/x").await.is_err());
    assert_eq!(ill.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn nobody_there_and_no_answer_are_unavailable_in_bounded_time() {
    let begun = Instant::now();
    for error in every_operation(&open(free_address())).await {
        assert_eq!(error.reason(), "LocationUnavailable", "{error}");
        assert!(error.to_string().to_lowercase().contains("refused"), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20));

    let silent = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let begun = Instant::now();
    for error in every_operation(&open(silent.local_addr().unwrap())).await {
        assert_eq!(error.reason(), "LocationUnavailable", "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_download_that_stops_early_is_an_error_and_never_a_short_file() {
    let ill = Ill::start(|_, _| {
        // The head and the first half leave before the connection breaks.
        let half = futures::stream::once(async { Ok(Bytes::from_static(b"half of ")) });
        let cut = futures::stream::once(async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Err(std::io::Error::other("cable cut"))
        });
        Response::builder()
            .header("content-length", 16)
            .header("etag", "\"e\"")
            .header("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            .body(Body::from_stream(half.chain(cut)))
            .unwrap()
    })
    .await;
    let bucket = ill.bucket();
    let mut download = bucket.get_stream("s/x").await.unwrap();
    assert_eq!(download.bytes(), 16);
    let error = loop {
        match download.next_chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the file seemed to be whole"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.reason(), "LocationUnavailable", "{error}");
}

/// What a store where probes have been before answers to another one, to keys that may do all but delete.
fn probe_answer(request: &Request) -> Response {
    match request.method().as_str() {
        "DELETE" => s3_error(403, "AccessDenied"),
        "PUT" => s3_error(412, "PreconditionFailed"),
        _ if is_list(request) => list_answer(&[]),
        _ if is_of_absent(request) => s3_error(404, "NoSuchKey"),
        _ => Response::builder()
            .header("etag", "\"e\"")
            .header("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            .body(Body::from("holdfast probe"))
            .unwrap(),
    }
}

fn is_list(request: &Request) -> bool {
    request.method() == "GET" && request.uri().query().is_some()
}

fn is_of_absent(request: &Request) -> bool {
    request.method() == "GET" && request.uri().path() == "/backups/p/.holdfast-absent"
}

#[tokio::test]
async fn a_bucket_whose_keys_may_not_delete_can_be_used() {
    let ill = Ill::start(|_, request| probe_answer(&request)).await;
    ill.bucket().probe().await.unwrap();
}

#[tokio::test]
async fn keys_that_may_not_list_fail_the_probe() {
    let check =
        async |denied: fn(&Request) -> bool, expected: &str| {
            let ill = Ill::start(move |_, request| {
                if denied(&request) { s3_error(403, "AccessDenied") } else { probe_answer(&request) }
            })
            .await;
            let error = ill.bucket().probe().await.unwrap_err();
            assert_eq!(error.reason(), "AccessDenied", "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        };
    check(|request| is_list(request) || is_of_absent(request), "denied to list").await;
    // The permission names the prefixes that may be listed: then a read of an absent object is still denied.
    check(is_of_absent, "denied to look for \"p/.holdfast-absent\"").await;
    check(is_list, "denied to list").await;
}

#[tokio::test]
async fn an_object_where_a_probe_expects_none_is_named() {
    let ill = Ill::start(|_, request| {
        if is_of_absent(&request) { Response::new(Body::from("here")) } else { probe_answer(&request) }
    })
    .await;
    let error = ill.bucket().probe().await.unwrap_err();
    assert!(matches!(error, BucketError::Stray { .. }), "{error:?}");
    assert!(error.to_string().contains("p/.holdfast-absent"), "{error}");
}

#[tokio::test]
async fn a_store_that_ignores_conditions_fails_the_probe() {
    let ill = Ill::start(|_, request| {
        let body = if request.method() == "GET" { "holdfast probe" } else { "" };
        Response::builder()
            .header("etag", "\"e\"")
            .header("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            .body(Body::from(body))
            .unwrap()
    })
    .await;
    let error = ill.bucket().probe().await.unwrap_err();
    assert!(matches!(error, BucketError::NoConditionalPut { .. }), "{error}");
}

#[test]
fn locations_that_make_no_sense_name_their_field() {
    let check = |change: fn(&mut holdfast_contract::bucket::Location), field: &str| {
        let mut location = location(free_address(), "p");
        change(&mut location);
        match Bucket::open(&location, credentials()).unwrap_err() {
            BucketError::InvalidLocation { field: found, .. } => assert_eq!(found, field),
            error => panic!("{error}"),
        }
    };
    check(|location| location.bucket = String::new(), "bucket");
    check(|location| location.region = String::new(), "region");
    check(|location| location.prefix = "/a".into(), "prefix");
    check(|location| location.prefix = "a/".into(), "prefix");
    check(|location| location.prefix = "a//b".into(), "prefix");
    check(|location| location.prefix = "a/../b".into(), "prefix");
    check(|location| location.endpoint = Some("http://user:pass@minio:9000".into()), "endpoint");
    check(|location| location.ca_bundle = Some("hello".into()), "caBundle");
    check(|location| location.endpoint = Some("minio:9000".into()), "endpoint");
    check(|location| location.endpoint = Some("ftp://minio".into()), "endpoint");
    check(|location| location.endpoint = Some("http://".into()), "endpoint");
    for endpoint in [
        "http://10.0.0.256:9000",
        "http://minio:99999",
        "http://${MINIO}:9000",
        "https://<host>",
        "http://a b",
    ] {
        let mut location = location(free_address(), "p");
        for path_style in [true, false] {
            location.path_style = path_style;
            location.endpoint = Some(endpoint.into());
            let error = Bucket::open(&location, credentials()).unwrap_err();
            assert!(
                matches!(error, BucketError::InvalidLocation { field: "endpoint", .. }),
                "{endpoint}: {error}"
            );
        }
    }
    check(|location| location.region = "eu\ncentral".into(), "region");
    check(|location| location.bucket = "a b".into(), "bucket");
}

#[tokio::test]
async fn an_https_location_needs_no_certificate_file_and_a_stranger_is_not_trusted() {
    // Opening builds the TLS client from the compiled-in roots. What answers here does not speak TLS at all.
    let ill = Ill::start(|_, _| Response::new(Body::empty())).await;
    let mut location = location(ill.address, "p");
    location.endpoint = Some(format!("https://{}", ill.address));
    let bucket = Bucket::open(&location, credentials()).unwrap();
    let error = bucket.probe().await.unwrap_err();
    assert_eq!(error.reason(), "LocationUnavailable", "{error}");
    assert_eq!(ill.requests.load(Ordering::SeqCst), 0, "nothing was sent in the clear");
}
