//! The few messages that the operator sends to a server's control port, with deadlines.
//!
//! The trait is the seam at which tests put a modelled server.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use holdfast_contract::control::{
    BackupProgress, BackupRequest, Barrier, BarrierRequest, ConfigCheck, ConfigCheckRequest, ErrorBody,
    ServerStatus,
};
use holdfast_contract::record::StoreRecord;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::conditions::reason;
use crate::context::with_causes;
use crate::slow_calls::SlowCalls;

/// Time to connect; a pod that is there answers within milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for an answer of a server that is well; after it the call is one of the slow ones.
const SOON: Duration = Duration::from_secs(1);
/// Time for an answer that needs no disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for an answer that waits for a sync: a stalled disk may take many seconds, and a barrier is worth waiting for.
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer that is read, in bytes; real ones have a few KiB.
const ANSWER_LEN_MAX: usize = 1 << 20;

/// Where a server's control port is, and what opens it. `Debug` prints no token.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Address of the control port.
    pub address: SocketAddr,
    /// Bearer token.
    pub token: String,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Why a message had no effect that can be relied on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No answer in time, or none at all. The server may have acted on the message.
    #[error("server at {address} did not answer {method} {path}: {problem}")]
    Unreachable {
        /// Control port.
        address: SocketAddr,
        /// HTTP method.
        method: Method,
        /// Path of the request.
        path: String,
        /// What went wrong.
        problem: String,
    },
    /// The token is not the server's.
    #[error(
        "server at {address} refused the operator's token; the Secret was changed after the server's start, or the address belongs to another pod by now"
    )]
    Unauthorized {
        /// Control port.
        address: SocketAddr,
    },
    /// The server understood and refused.
    #[error("server refused {method} {path} ({reason}): {message}")]
    Refused {
        /// HTTP method.
        method: Method,
        /// Path of the request.
        path: String,
        /// HTTP status.
        status: StatusCode,
        /// PascalCase reason.
        reason: String,
        /// The server's sentence.
        message: String,
    },
    /// The answer is not what the contract says.
    #[error("server at {address} answered {method} {path} with something else than expected: {problem}")]
    Malformed {
        /// Control port.
        address: SocketAddr,
        /// HTTP method.
        method: Method,
        /// Path of the request.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl ServerError {
    /// PascalCase reason for a condition.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            ServerError::Unreachable { .. } => reason::SERVER_UNREACHABLE,
            ServerError::Unauthorized { .. } => reason::SERVER_UNAUTHORIZED,
            ServerError::Refused { reason, .. } if is_reason(reason) => reason,
            ServerError::Refused { .. } | ServerError::Malformed { .. } => reason::SERVER_ANSWER_INVALID,
        }
    }

    /// Whether the server says that it does not know what was asked about.
    #[must_use]
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, ServerError::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
    }
}

/// Whether the API takes `text` as the reason of a condition.
fn is_reason(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The messages of [`holdfast_contract::control`] that the operator uses. Each may be sent again at any time.
#[async_trait]
pub trait ServerClient: Send + Sync {
    /// What the server says of itself.
    async fn status(&self, endpoint: &Endpoint) -> Result<ServerStatus, ServerError>;
    /// Tells it the record; it decides again.
    async fn decide(&self, endpoint: &Endpoint, record: &StoreRecord) -> Result<ServerStatus, ServerError>;
    /// Asks whether the server would start with a configuration.
    async fn check_config(
        &self,
        endpoint: &Endpoint,
        request: &ConfigCheckRequest,
    ) -> Result<ConfigCheck, ServerError>;
    /// Asks for a snapshot, or a log rewrite where there is a log.
    async fn save_snapshot(&self, endpoint: &Endpoint) -> Result<ServerStatus, ServerError>;
    /// Takes a barrier, or finds the one with this token.
    async fn take_barrier(
        &self,
        endpoint: &Endpoint,
        request: &BarrierRequest,
    ) -> Result<Barrier, ServerError>;
    /// Releases the barrier with this token.
    async fn release_barrier(&self, endpoint: &Endpoint, token: &str) -> Result<Barrier, ServerError>;
    /// Starts a backup, or finds the one with this id.
    async fn start_backup(
        &self,
        endpoint: &Endpoint,
        request: &BackupRequest,
    ) -> Result<BackupProgress, ServerError>;
    /// How far the backup with this id is; never starts one.
    async fn find_backup(&self, endpoint: &Endpoint, id: &str) -> Result<BackupProgress, ServerError>;
    /// Cancels the backup with this id unless it has ended.
    async fn cancel_backup(&self, endpoint: &Endpoint, id: &str) -> Result<BackupProgress, ServerError>;
}

/// Talks HTTP/1.1 to real servers.
#[derive(Debug, Clone)]
pub struct HttpServerClient {
    client: Client<HttpConnector, Full<bytes::Bytes>>,
    slow: SlowCalls,
}

impl HttpServerClient {
    /// A client that waits for as many servers that do not answer soon as `slow` allows.
    #[must_use]
    pub fn new(slow: SlowCalls) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        // No idle connections: pods come and go, and an address may belong to another pod a moment later.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Self { client, slow }
    }

    async fn send<T: DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
        timeout: Duration,
    ) -> Result<T, ServerError> {
        let address = endpoint.address;
        let malformed = |problem: String| ServerError::Malformed {
            address,
            method: method.clone(),
            path: path.to_owned(),
            problem,
        };
        let unreachable = |problem: String| ServerError::Unreachable {
            address,
            method: method.clone(),
            path: path.to_owned(),
            problem,
        };
        let body = match body {
            Some(body) => serde_json::to_vec(body).map_err(|error| malformed(error.to_string()))?,
            None => Vec::new(),
        };
        let request = Request::builder()
            .method(method.clone())
            .uri(format!("http://{address}{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", endpoint.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body))
            .map_err(|error| malformed(error.to_string()))?;
        let exchange = async {
            let response =
                self.client.request(request).await.map_err(|error| unreachable(with_causes(&error)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_LEN_MAX)
                .collect()
                .await
                .map_err(|error| unreachable(error.to_string()))?;
            Ok((status, body.to_bytes()))
        };
        // One text for both: it stands in conditions, and which of the two it is differs from try to try.
        let late = || unreachable("no answer in time".to_owned());
        let answered = self.slow.run(SOON, tokio::time::timeout(timeout, exchange)).await;
        let (status, body) = answered.ok_or_else(late)?.map_err(|_| late())??;
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            return Err(ServerError::Unauthorized { address });
        }
        if !status.is_success() {
            let refusal: ErrorBody = serde_json::from_slice(&body)
                .unwrap_or_else(|_| ErrorBody { reason: status.to_string(), message: String::new() });
            return Err(ServerError::Refused {
                method,
                path: path.to_owned(),
                status,
                reason: refusal.reason,
                message: refusal.message,
            });
        }
        serde_json::from_slice(&body).map_err(|error| malformed(error.to_string()))
    }
}

const NO_BODY: Option<&()> = None;

#[async_trait]
impl ServerClient for HttpServerClient {
    async fn status(&self, endpoint: &Endpoint) -> Result<ServerStatus, ServerError> {
        self.send(endpoint, Method::GET, "/v1/status", NO_BODY, ANSWER_TIMEOUT).await
    }

    async fn decide(&self, endpoint: &Endpoint, record: &StoreRecord) -> Result<ServerStatus, ServerError> {
        self.send(endpoint, Method::PUT, "/v1/decision", Some(record), SYNC_TIMEOUT).await
    }

    async fn take_barrier(
        &self,
        endpoint: &Endpoint,
        request: &BarrierRequest,
    ) -> Result<Barrier, ServerError> {
        self.send(endpoint, Method::POST, "/v1/barriers", Some(request), SYNC_TIMEOUT).await
    }

    async fn release_barrier(&self, endpoint: &Endpoint, token: &str) -> Result<Barrier, ServerError> {
        let path = format!("/v1/barriers/{token}");
        self.send(endpoint, Method::DELETE, &path, NO_BODY, ANSWER_TIMEOUT).await
    }

    async fn start_backup(
        &self,
        endpoint: &Endpoint,
        request: &BackupRequest,
    ) -> Result<BackupProgress, ServerError> {
        self.send(endpoint, Method::POST, "/v1/backups", Some(request), ANSWER_TIMEOUT).await
    }

    async fn check_config(
        &self,
        endpoint: &Endpoint,
        request: &ConfigCheckRequest,
    ) -> Result<ConfigCheck, ServerError> {
        self.send(endpoint, Method::POST, "/v1/config/check", Some(request), ANSWER_TIMEOUT).await
    }

    async fn save_snapshot(&self, endpoint: &Endpoint) -> Result<ServerStatus, ServerError> {
        self.send(endpoint, Method::POST, "/v1/snapshot", NO_BODY, ANSWER_TIMEOUT).await
    }

    async fn find_backup(&self, endpoint: &Endpoint, id: &str) -> Result<BackupProgress, ServerError> {
        let path = format!("/v1/backups/{id}");
        self.send(endpoint, Method::GET, &path, NO_BODY, ANSWER_TIMEOUT).await
    }

    async fn cancel_backup(&self, endpoint: &Endpoint, id: &str) -> Result<BackupProgress, ServerError> {
        let path = format!("/v1/backups/{id}");
        self.send(endpoint, Method::DELETE, &path, NO_BODY, ANSWER_TIMEOUT).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_hangs_is_given_up_soon_while_others_hang() {
        // The kernel takes the connection, and nobody answers.
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let endpoint = Endpoint { address, token: "t".into() };
        let client = HttpServerClient::new(SlowCalls::for_workers(2));
        let begun = std::time::Instant::now();
        let mut asked = futures::stream::FuturesUnordered::new();
        asked.push(client.status(&endpoint));
        asked.push(client.status(&endpoint));
        let first = futures::StreamExt::next(&mut asked).await.expect("an end").expect_err("no answer");
        assert!(begun.elapsed() < ANSWER_TIMEOUT / 2, "one of them keeps its worker: {:?}", begun.elapsed());
        assert_eq!(first.reason(), reason::SERVER_UNREACHABLE);
        assert!(first.to_string().ends_with("no answer in time"), "{first}");
    }

    #[test]
    fn each_kind_of_server_error_has_a_reason_of_its_own() {
        let refused = |reason: &str| ServerError::Refused {
            method: Method::GET,
            path: "/v1/status".into(),
            status: StatusCode::CONFLICT,
            reason: reason.into(),
            message: String::new(),
        };
        assert_eq!(refused("NotReady").reason(), "NotReady");
        assert_eq!(refused("502 Bad Gateway").reason(), reason::SERVER_ANSWER_INVALID);
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(ServerError::Unauthorized { address }.reason(), reason::SERVER_UNAUTHORIZED);
    }
}
