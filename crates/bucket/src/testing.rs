//! An S3 server that someone else wrote, for tests: versitygw on loopback over a temporary directory.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_contract::bucket::Location;
use holdfast_contract::bucket::credentials::{ACCESS_KEY_ID, SECRET_ACCESS_KEY};

use crate::{Bucket, Credentials, Limits};

/// Environment variable with the path of the versitygw binary.
pub const GATEWAY_VARIABLE: &str = "HOLDFAST_VERSITYGW";
/// Name of the bucket that a [`Gateway`] holds.
pub const BUCKET: &str = "backups";

/// Certificate (PEM) of the private authority of [`Gateway::start_with_tls`]; `testing/generate.sh` made it.
pub const AUTHORITY: &str = include_str!("testing/authority.pem");

const START_TIME_MAX: Duration = Duration::from_secs(30);

/// What a gateway that speaks TLS shows: a certificate of [`AUTHORITY`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// Valid until 2120.
    Valid,
    /// Expired in 2021.
    Expired,
}

/// A running versitygw with one bucket, [`BUCKET`]. Killed and removed when dropped.
#[derive(Debug)]
pub struct Gateway {
    process: Child,
    address: SocketAddr,
    scheme: &'static str,
    directory: tempfile::TempDir,
}

impl Gateway {
    /// Starts a gateway on a free port of the loopback interface.
    /// # Panics
    /// When the binary is missing or does not start, with a text that says what to do.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// As [`Gateway::start`], for TLS only.
    /// # Panics
    /// As [`Gateway::start`].
    #[must_use]
    pub fn start_with_tls(certificate: Certificate) -> Self {
        Self::start_with(Some(certificate))
    }

    fn start_with(certificate: Option<Certificate>) -> Self {
        let binary = gateway_binary();
        assert!(
            binary.is_file(),
            "no versitygw at {binary:?}; run `make setup`, or name the binary in {GATEWAY_VARIABLE}"
        );
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        std::fs::create_dir_all(directory.path().join("data").join(BUCKET)).expect("it can hold a bucket");
        std::fs::create_dir(directory.path().join("attributes")).expect("it can hold attributes");
        // Another process may take the port between the two; then the gateway exits and another port is tried.
        for _attempt in 0..5 {
            let address = free_address();
            let mut process = Command::new(&binary)
                .args([
                    "--access",
                    "test-key",
                    "--secret",
                    "test-secret",
                    "--region",
                    "test-region",
                    "--quiet",
                ])
                .args(certificate.into_iter().flat_map(tls_arguments))
                .args(["--port", &address.to_string(), "posix"])
                .arg("--sidecar")
                .arg(directory.path().join("attributes"))
                .arg(directory.path().join("data"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("versitygw can be started");
            if answers(&mut process, address) {
                let scheme = if certificate.is_some() { "https" } else { "http" };
                return Self { process, address, scheme, directory };
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        panic!("versitygw at {binary:?} did not answer within {START_TIME_MAX:?}; run it by hand to see why");
    }

    /// Address of the S3 port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The bucket with `prefix`.
    #[must_use]
    pub fn location(&self, prefix: &str) -> Location {
        let endpoint = Some(format!("{}://{}", self.scheme, self.address));
        Location { endpoint, ..location(self.address, prefix) }
    }

    /// [`Gateway::location`], opened.
    #[must_use]
    pub fn open(&self, prefix: &str) -> Bucket {
        Bucket::open_with(&self.location(prefix), credentials(), Limits::default())
            .expect("the location is valid")
    }

    /// The directory whose files are the objects of the bucket.
    #[must_use]
    pub fn objects(&self) -> PathBuf {
        self.directory.path().join("data").join(BUCKET)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// [`BUCKET`] behind any address that speaks S3.
#[must_use]
pub fn location(address: SocketAddr, prefix: &str) -> Location {
    Location {
        endpoint: Some(format!("http://{address}")),
        region: "test-region".to_owned(),
        bucket: BUCKET.to_owned(),
        prefix: prefix.to_owned(),
        path_style: true,
        ca_bundle: None,
    }
}

/// The keys that a [`Gateway`] accepts.
#[must_use]
pub fn credentials() -> Credentials {
    let keys = [(ACCESS_KEY_ID, "test-key"), (SECRET_ACCESS_KEY, "test-secret")];
    let map: BTreeMap<_, _> =
        keys.into_iter().map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).collect();
    Credentials::from_map(&map).expect("both keys are there")
}

/// Writes the keys that a [`Gateway`] accepts as the files of a mounted Secret.
pub fn write_credentials(dir: &Path) {
    std::fs::create_dir_all(dir).expect("the directory can be made");
    for (name, value) in [(ACCESS_KEY_ID, "test-key"), (SECRET_ACCESS_KEY, "test-secret")] {
        std::fs::write(dir.join(name), value).expect("a file can be written");
    }
}

/// A client for plain HTTP, which needs no TLS provider to be chosen for the process.
#[must_use]
pub fn plain_client() -> reqwest::Client {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the default protocol versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build();
    client.expect("a client without options can be built")
}

/// An address on which nobody listens.
#[must_use]
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address")
}

fn tls_arguments(certificate: Certificate) -> [String; 4] {
    let file = |name: &str| format!("{}/src/testing/{name}", env!("CARGO_MANIFEST_DIR"));
    let shown = match certificate {
        Certificate::Valid => "gateway.pem",
        Certificate::Expired => "expired.pem",
    };
    ["--cert".to_owned(), file(shown), "--key".to_owned(), file("gateway.key")]
}

fn gateway_binary() -> PathBuf {
    if let Some(path) = std::env::var_os(GATEWAY_VARIABLE) {
        return PathBuf::from(path);
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    home.join(".cache/holdfast/bin/versitygw")
}

fn answers(process: &mut Child, address: SocketAddr) -> bool {
    let deadline = Instant::now() + START_TIME_MAX;
    while Instant::now() < deadline {
        if matches!(process.try_wait(), Ok(Some(_)) | Err(_)) {
            return false;
        }
        if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
