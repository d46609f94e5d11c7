//! The open location: small objects, owner marker, manifest, probe.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use holdfast_contract::bucket::{
    BASE_FILE, BackupManifest, EPOCH_MAX, LAYOUT_VERSION, Location, MANIFEST_FILE, StoreMarker, backup_path,
    marker_path,
};
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::path::{self, Path};
use object_store::{
    BackoffConfig, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};
use serde::Deserialize;

use crate::http::{Connector, Failure, authorities, observed};
use crate::{BucketError, Credentials, Place};

/// Largest manifest or marker that is read, in bytes. Written ones have under 2 KiB.
const DOCUMENT_LEN_MAX: usize = 1 << 20;

/// Bounds of every request. The defaults suit a server that must report within a minute that its bucket is away.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Time to connect, TLS included.
    pub connect: Duration,
    /// Longest silence of the other side while an answer is awaited or read. Requests that send something are bounded by
    /// [`Limits::operation`] or [`Limits::part`] alone: how long the sending takes is a matter of the line.
    pub silence: Duration,
    /// Attempts per request; the first is one of them.
    pub attempts: usize,
    /// Time for one small operation, all its attempts included.
    pub operation: Duration,
    /// Time for one part of an upload, or for completing it, all attempts included.
    pub part: Duration,
    /// Bytes per part of an upload; more when the object would need over 9,000 parts (S3 allows 10,000).
    pub part_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            silence: Duration::from_secs(20),
            attempts: 3,
            operation: Duration::from_secs(30),
            part: Duration::from_secs(120),
            part_bytes: 8 << 20,
        }
    }
}

/// The object of [`Bucket::probe`], below the prefix. No store id begins with a dot.
const PROBE_FILE: &str = ".holdfast-probe";
/// What is in it, always.
const PROBE_CONTENTS: &[u8] = b"holdfast probe";
/// A name below the prefix at which, and below which, nothing ever is.
const ABSENT_FILE: &str = ".holdfast-absent";

/// Whose owner marker gives way in [`Bucket::claim_owner`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeOver<'a> {
    /// Nobody's.
    Nobody,
    /// That of anybody who owned the same data.
    Anybody,
    /// That of these UIDs: of two Stores that adopt the same data, the second does not displace the first.
    From(&'a [String]),
}

/// An open location. Cheap to keep; opening sends nothing.
#[derive(Debug)]
pub struct Bucket {
    pub(crate) store: AmazonS3,
    pub(crate) location: Location,
    pub(crate) place: Place,
    pub(crate) limits: Limits,
}

impl Bucket {
    /// Opens `location` with `credentials`. Nothing is sent: use [`Bucket::probe`] to learn whether it works.
    /// # Errors
    /// [`BucketError::InvalidLocation`] naming the field.
    pub fn open(location: &Location, credentials: Credentials) -> Result<Self, BucketError> {
        Self::open_with(location, credentials, Limits::default())
    }

    /// As [`Bucket::open`], with other bounds.
    /// # Errors
    /// As [`Bucket::open`].
    pub fn open_with(
        location: &Location,
        credentials: Credentials,
        limits: Limits,
    ) -> Result<Self, BucketError> {
        let invalid = |field, value: &str, problem: &str| BucketError::InvalidLocation {
            field,
            value: value.to_owned(),
            problem: problem.to_owned(),
        };
        if location.bucket.is_empty() {
            return Err(invalid("bucket", "", "is empty"));
        }
        if location.region.is_empty() {
            return Err(invalid(
                "region",
                "",
                "is empty; use \"us-east-1\" when the object store has no regions",
            ));
        }
        // Both become parts of URLs and headers, which the client below takes for well-formed.
        let is_word = |byte: u8, more: &[u8]| byte.is_ascii_alphanumeric() || more.contains(&byte);
        if !location.region.bytes().all(|byte| is_word(byte, b"-_")) {
            return Err(invalid("region", &location.region, "may have letters, digits, '-' and '_' only"));
        }
        if !location.bucket.bytes().all(|byte| is_word(byte, b"-_.")) {
            return Err(invalid(
                "bucket",
                &location.bucket,
                "may have letters, digits, '.', '-' and '_' only",
            ));
        }
        if Path::parse(&location.prefix).is_err()
            || location.prefix.starts_with('/')
            || location.prefix.ends_with('/')
        {
            return Err(invalid(
                "prefix",
                &location.prefix,
                "must be names separated by single slashes, without a slash at either end",
            ));
        }
        let segments = location.prefix.split('/');
        if segments.into_iter().any(|segment| matches!(segment, "." | "..")) {
            return Err(invalid("prefix", &location.prefix, "must not have `.` or `..` between its slashes"));
        }
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&location.bucket)
            .with_region(&location.region)
            .with_access_key_id(credentials.access_key_id)
            .with_secret_access_key(credentials.secret_access_key)
            .with_virtual_hosted_style_request(!location.path_style)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            // One plain DELETE works everywhere; the bulk form does not.
            .with_disable_bulk_delete(true)
            .with_retry(RetryConfig {
                backoff: BackoffConfig {
                    init_backoff: Duration::from_millis(200),
                    max_backoff: Duration::from_secs(3),
                    base: 3.0,
                },
                max_retries: limits.attempts.saturating_sub(1),
                // Each operation has its own limit besides, in `run`; this must not end the attempts of a part earlier.
                retry_timeout: limits.operation.max(limits.part),
            });
        if let Some(token) = credentials.session_token {
            builder = builder.with_token(token);
        }
        let mut allow_http = false;
        if let Some(endpoint) = &location.endpoint {
            let (scheme, host) = endpoint
                .split_once("://")
                .filter(|(scheme, host)| {
                    matches!(*scheme, "http" | "https") && !host.trim_end_matches('/').is_empty()
                })
                .ok_or_else(|| {
                    invalid("endpoint", endpoint, "must be http://host[:port] or https://host[:port]")
                })?;
            let host = host.trim_end_matches('/');
            if host.contains('@') {
                return Err(invalid(
                    "endpoint",
                    "…",
                    "must not contain a user or password; credentials come from the Secret",
                ));
            }
            allow_http = scheme == "http";
            let url = if location.path_style {
                format!("{scheme}://{host}")
            } else {
                format!("{scheme}://{}.{host}", location.bucket)
            };
            if let Err(problem) = check_url(&format!("{url}/{}", location.bucket)) {
                return Err(invalid("endpoint", endpoint, &problem));
            }
            builder = builder.with_endpoint(url);
        }
        let store = builder
            .with_allow_http(allow_http)
            .with_http_connector(Connector {
                limits: limits.clone(),
                allow_http,
                ca_bundle: authorities(location.ca_bundle.as_deref())
                    .map_err(|problem| invalid("caBundle", "…", &problem))?,
            })
            .build()
            .map_err(|error| {
                invalid("endpoint", location.endpoint.as_deref().unwrap_or(""), &error.to_string())
            })?;
        Ok(Self { store, location: location.clone(), place: Place::new(location), limits })
    }

    /// Bucket and endpoint, for messages.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Proves that backups would work here: one small object below the prefix can be written, is read back, and cannot be
    /// overwritten by a conditional put; the bucket can be listed, and an object that is absent is said to be.
    ///
    /// The object stays. A bucket that keeps versions so gets one version and not one with each probe, a bucket whose keys
    /// may not delete can be used, and the text of an error is the same each time.
    /// # Errors
    /// The first step that failed.
    pub async fn probe(&self) -> Result<(), BucketError> {
        let contents = Bytes::from_static(PROBE_CONTENTS);
        match self.put_if_absent(PROBE_FILE, contents.clone()).await {
            // It was there, and the put was refused for that alone: the keys may write, and conditions count.
            Err(BucketError::Exists { .. }) => {}
            Ok(()) => match self.put_if_absent(PROBE_FILE, contents.clone()).await {
                Err(BucketError::Exists { .. }) => {}
                Ok(()) => {
                    return Err(BucketError::NoConditionalPut {
                        object: self.location.key(PROBE_FILE),
                        place: self.place.clone(),
                    });
                }
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        }
        let found = self.read_document("read back", PROBE_FILE).await?;
        if found != contents {
            let problem = "what was read back is not what was written".to_owned();
            return Err(self.damaged(PROBE_FILE, problem));
        }
        self.probe_absent().await
    }

    /// Keys that may not list are told 403 of an absent object as well: then neither a free name for a backup nor the newest
    /// backup can be found. Both requests are needed, because a permission to list may depend on what is listed.
    async fn probe_absent(&self) -> Result<(), BucketError> {
        let below = self.object_path(ABSENT_FILE)?;
        let listed = async { self.store.list(Some(&below)).try_next().await };
        self.run("list", ABSENT_FILE, self.limits.operation, listed).await?;
        match self.read_document("look for", ABSENT_FILE).await {
            Err(BucketError::ObjectNotFound { .. }) => Ok(()),
            Ok(_) => Err(BucketError::Stray {
                object: self.location.key(ABSENT_FILE),
                place: self.place.clone(),
                problem: "probes need this name to be free".to_owned(),
            }),
            Err(error) => Err(error),
        }
    }

    /// Makes the Store of `marker` the owner of its part of the bucket; does nothing when it is. Another owner gives way
    /// only when `take_over` names it.
    /// # Errors
    /// [`BucketError::ForeignOwner`] when the marker there names another owner; [`BucketError::Newer`] or
    /// [`BucketError::Damaged`] when it cannot be read.
    pub async fn claim_owner(
        &self,
        marker: &StoreMarker,
        take_over: TakeOver<'_>,
    ) -> Result<(), BucketError> {
        let path = marker_path(&marker.store_id);
        let contents = to_json(marker);
        match self.put_if_absent(&path, contents.clone()).await {
            Ok(()) => return Ok(()),
            Err(BucketError::Exists { .. }) => {}
            Err(error) => return Err(error),
        }
        let found: StoreMarker = self.read_versioned(&path).await?;
        if found.owner_uid == marker.owner_uid && found.store_id == marker.store_id {
            return Ok(());
        }
        let gives_way = match take_over {
            TakeOver::Nobody => false,
            TakeOver::Anybody => true,
            TakeOver::From(former) => former.contains(&found.owner_uid),
        };
        if gives_way && found.store_id == marker.store_id {
            return self.put(&path, contents, PutMode::Overwrite).await;
        }
        Err(BucketError::ForeignOwner {
            object: self.location.key(&path),
            place: self.place.clone(),
            owner_name: found.owner_name,
            owner_uid: found.owner_uid,
        })
    }

    /// Writes the manifest of the backup at `backup_path`, which exists from then on, and reads it back.
    ///
    /// Writing the same manifest again succeeds.
    /// # Errors
    /// [`BucketError::Exists`] when another manifest is there.
    pub async fn put_manifest(
        &self,
        backup_path: &str,
        manifest: &BackupManifest,
    ) -> Result<(), BucketError> {
        self.put_new(&format!("{backup_path}/{MANIFEST_FILE}"), to_json(manifest)).await?;
        if self.read_manifest(backup_path).await? == *manifest {
            return Ok(());
        }
        Err(self.damaged(
            &format!("{backup_path}/{MANIFEST_FILE}"),
            "what was read back is not what was written".to_owned(),
        ))
    }

    /// Reads and checks the manifest of the backup at `backup_path` (below the prefix).
    ///
    /// Checked: layout version, one file with size and a SHA-256, and that store id, epoch and offset are those that
    /// the path names.
    /// # Errors
    /// [`BucketError::ObjectNotFound`] when there is no such backup, [`BucketError::Newer`], [`BucketError::Damaged`].
    pub async fn read_manifest(&self, backup_path: &str) -> Result<BackupManifest, BucketError> {
        let path = format!("{backup_path}/{MANIFEST_FILE}");
        let manifest: BackupManifest = self.read_versioned(&path).await?;
        match manifest_problem(backup_path, &manifest) {
            None => Ok(manifest),
            Some(problem) => Err(self.damaged(&path, problem)),
        }
    }

    /// As [`Bucket::read_manifest`], and asks for the size of the file that the manifest names: two small requests, whatever the
    /// size of the backup. Its contents are not read.
    /// # Errors
    /// As [`Bucket::read_manifest`]; [`BucketError::ObjectNotFound`] also when the file is gone, [`BucketError::Damaged`] when it has
    /// another size.
    pub async fn inspect_backup(&self, backup_path: &str) -> Result<BackupManifest, BucketError> {
        let manifest = self.read_manifest(backup_path).await?;
        for file in &manifest.files {
            let path = format!("{backup_path}/{}", file.name);
            let object = self.object_path(&path)?;
            let found = self.run("look for", &path, self.limits.operation, self.store.head(&object)).await?;
            if found.size != file.bytes {
                let problem = format!("it has {} bytes, and its manifest says {}", found.size, file.bytes);
                return Err(self.damaged(&path, problem));
            }
        }
        Ok(manifest)
    }

    /// Deletes the object at `path`; succeeds when there is none.
    /// # Errors
    /// Classes of access and availability.
    pub async fn delete(&self, path: &str) -> Result<(), BucketError> {
        let object = self.object_path(path)?;
        match self.run("delete", path, self.limits.operation, self.store.delete(&object)).await {
            Err(BucketError::ObjectNotFound { .. }) => Ok(()),
            result => result,
        }
    }

    /// Writes `contents` unless an object is there; one with the same contents counts as written.
    ///
    /// A request whose answer was lost is sent again and then meets its own object: so contents are compared.
    async fn put_new(&self, path: &str, contents: Bytes) -> Result<(), BucketError> {
        let exists = match self.put_if_absent(path, contents.clone()).await {
            Err(error @ BucketError::Exists { .. }) => error,
            result => return result,
        };
        match self.read_document("read back", path).await {
            Ok(found) if found == contents => Ok(()),
            Ok(_) => Err(exists),
            Err(error) => Err(error),
        }
    }

    async fn put_if_absent(&self, path: &str, contents: Bytes) -> Result<(), BucketError> {
        self.put(path, contents, PutMode::Create).await
    }

    async fn put(&self, path: &str, contents: Bytes, mode: PutMode) -> Result<(), BucketError> {
        let object = self.object_path(path)?;
        let options = PutOptions { mode, ..PutOptions::default() };
        let put = self.store.put_opts(&object, PutPayload::from_bytes(contents), options);
        self.run("write", path, self.limits.operation, put).await.map(|_| ())
    }

    async fn read_document(&self, action: &'static str, path: &str) -> Result<Bytes, BucketError> {
        let object = self.object_path(path)?;
        let read = async {
            let mut stream = self.store.get(&object).await?.into_stream();
            let mut contents = Vec::new();
            while let Some(chunk) = stream.try_next().await? {
                contents.extend_from_slice(&chunk);
                if contents.len() > DOCUMENT_LEN_MAX {
                    break;
                }
            }
            Ok(contents)
        };
        let contents = self.run(action, path, self.limits.operation, read).await?;
        if contents.len() > DOCUMENT_LEN_MAX {
            return Err(self.damaged(path, format!("longer than {DOCUMENT_LEN_MAX} bytes")));
        }
        Ok(Bytes::from(contents))
    }

    /// Reads a JSON document, its `version` first: a newer one may not fit the type at all.
    async fn read_versioned<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, BucketError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let contents = self.read_document("read", path).await?;
        let parse_error =
            |error: serde_json::Error| self.damaged(path, format!("not the expected JSON: {error}"));
        let Version { version } = serde_json::from_slice(&contents).map_err(parse_error)?;
        if version > LAYOUT_VERSION {
            return Err(BucketError::Newer {
                object: self.location.key(path),
                place: self.place.clone(),
                found: version,
                supported: LAYOUT_VERSION,
            });
        }
        serde_json::from_slice(&contents).map_err(parse_error)
    }

    pub(crate) fn damaged(&self, path: &str, problem: String) -> BucketError {
        BucketError::Damaged { object: self.location.key(path), place: self.place.clone(), problem }
    }

    pub(crate) fn object_path(&self, path: &str) -> Result<Path, BucketError> {
        Path::parse(self.location.key(path)).map_err(|_| BucketError::InvalidLocation {
            field: "path",
            value: path.to_owned(),
            problem: "is not an object name".to_owned(),
        })
    }

    /// Runs one operation within `limit` and sorts its error into a class.
    pub(crate) async fn run<T>(
        &self,
        action: &'static str,
        path: &str,
        limit: Duration,
        operation: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, BucketError> {
        let (result, failure) = observed(tokio::time::timeout(limit, operation)).await;
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.classify(action, path, &error, failure)),
            Err(_elapsed) => Err(self.unavailable(action, path, late(limit, failure))),
        }
    }

    pub(crate) fn unavailable(&self, action: &'static str, path: &str, problem: String) -> BucketError {
        BucketError::Unavailable {
            action,
            object: self.location.key(path),
            place: self.place.clone(),
            problem,
        }
    }

    pub(crate) fn classify(
        &self,
        action: &'static str,
        path: &str,
        error: &object_store::Error,
        failure: Option<Failure>,
    ) -> BucketError {
        let object = self.location.key(path);
        let place = self.place.clone();
        match error {
            object_store::Error::AlreadyExists { .. } => return BucketError::Exists { object, place },
            // A list ends at the first key that is no path, so it hides what comes after it: somebody must remove it.
            object_store::Error::InvalidPath { source } => {
                let (found, problem) = not_a_path(source);
                return BucketError::Stray { object: found.unwrap_or(object), place, problem };
            }
            _ => {}
        }
        let (status, code) = match failure {
            Some(Failure::Status { status, code }) => (status, code),
            Some(Failure::Transport(problem)) => return self.unavailable(action, path, problem),
            None => return self.unavailable(action, path, error.to_string()),
        };
        let answer = if code.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status} {code}") };
        match (status, code.as_str()) {
            (_, "NoSuchBucket") => BucketError::BucketNotFound { action, object, place },
            // The code counts, not the status: some object stores answer 404 when they do not know the access key.
            (401 | 403, _) => BucketError::AccessDenied { action, object, place, code: answer },
            (_, code) if is_access_code(code) => {
                BucketError::AccessDenied { action, object, place, code: answer }
            }
            (404, "" | "NoSuchKey" | "NotFound" | "NoSuchVersion") => {
                if matches!(action, "write" | "list" | "send") {
                    BucketError::BucketNotFound { action, object, place }
                } else {
                    BucketError::ObjectNotFound { object, place }
                }
            }
            (301 | 307, _) => {
                self.unavailable(action, path, format!("{answer}; the bucket lies in another region"))
            }
            _ => self.unavailable(action, path, answer),
        }
    }
}

/// The key that is no path, where the error has it, and what is wrong with it.
fn not_a_path(error: &path::Error) -> (Option<String>, String) {
    let (found, problem) = match error {
        path::Error::EmptySegment { path } => (path, "two slashes follow each other in its name"),
        path::Error::BadSegment { path, .. } => {
            (path, "its name has `.` or `..` between slashes, or a control character")
        }
        other => return (None, other.to_string()),
    };
    (Some(found.clone()), problem.to_owned())
}

/// Whether an S3 error code is about who asks: keys that are unknown, expired or not allowed.
fn is_access_code(code: &str) -> bool {
    const CODES: [&str; 9] = [
        "AccessDenied",
        "AccountProblem",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "NoSuchUser",
        "SignatureDoesNotMatch",
        // versitygw, with any of its account stores.
        "XAdminUserNotFound",
    ];
    CODES.iter().any(|known| known.eq_ignore_ascii_case(code))
}

fn late(limit: Duration, failure: Option<Failure>) -> String {
    let seconds = limit.as_secs_f32();
    match failure {
        Some(Failure::Status { status, code }) => {
            format!("no success within {seconds} s, last answer HTTP {status} {code}")
        }
        Some(Failure::Transport(problem)) => format!("no success within {seconds} s, last error {problem}"),
        None => format!("no answer within {seconds} s"),
    }
}

fn to_json(document: &impl serde::Serialize) -> Bytes {
    let mut text = serde_json::to_vec_pretty(document)
        .expect("contract documents have string keys and no failing serializer");
    text.push(b'\n');
    Bytes::from(text)
}

/// Why requests cannot be sent to `url`. The client reads it by both of these, and ends in a panic where one of them refuses.
fn check_url(url: &str) -> Result<(), String> {
    url.parse::<http::Uri>().map_err(|error| format!("is no URL: {error}"))?;
    reqwest::Url::parse(url).map_err(|error| format!("is no URL: {error}"))?;
    Ok(())
}

/// What is wrong with a manifest found at `path`, if anything.
fn manifest_problem(path: &str, manifest: &BackupManifest) -> Option<String> {
    let hex =
        |text: &str| text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let time = path.rsplit('/').next().and_then(|name| name.split('-').next()).unwrap_or_default();
    let named = backup_path(&manifest.store_id, time, manifest.epoch, manifest.offset);
    if named != path {
        return Some(format!("it describes backup {named:?}, and lies at {path:?}"));
    }
    if manifest.epoch > EPOCH_MAX {
        return Some(format!("its epoch {} is above {EPOCH_MAX}, which no Store comes to", manifest.epoch));
    }
    let [file] = manifest.files.as_slice() else {
        return Some(format!("it names {} files instead of one", manifest.files.len()));
    };
    if file.name != BASE_FILE {
        return Some(format!("it names file {:?} instead of {BASE_FILE:?}", file.name));
    }
    if !hex(&file.sha256) || !hex(&manifest.dataset.digest) {
        return Some("a digest in it is not 64 lower-case hex digits".to_owned());
    }
    None
}
