//! Faults between the operator and everything it calls: the API (as a layer of its client) and the servers.
//!
//! The death of the operator is a fault too: from some call on nothing goes out any more, before or after that call took
//! effect, until [`FaultState::revive`]. The operator keeps nothing in memory that a restart would lose.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use crate::apiserver::{ApiServer, OPERATOR_TOKEN};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use kube::Client;
use kube::client::{Body, ClientBuilder};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tower::{BoxError, Layer, Service, ServiceExt as _};

/// What may go wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mode {
    /// Nothing.
    Off,
    /// Each call with this probability in percent, in any of the ways of [`Fault`].
    Random(u32),
    /// The operator dies right after the write of this number (from 0) took effect.
    DieAfter { write: usize },
}

/// How one call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The connection breaks before anything is sent.
    LostBefore,
    /// The connection breaks after the call took effect.
    LostAfter,
    /// The API answers with this status and does nothing.
    Refused(u16),
    /// The operator dies before the call.
    DeadBefore,
    /// The operator dies after the call took effect.
    DeadAfter,
}

struct Inner {
    mode: Mode,
    rng: StdRng,
    dead: bool,
    writes: usize,
    reads: usize,
    log: Vec<String>,
}

/// Decides about faults, and remembers every write; a clone shares it.
#[derive(Clone)]
pub(crate) struct FaultState(Arc<Mutex<Inner>>);

impl FaultState {
    pub(crate) fn new(mode: Mode, seed: u64) -> Self {
        let inner = Inner {
            mode,
            rng: StdRng::seed_from_u64(seed),
            dead: false,
            writes: 0,
            reads: 0,
            log: Vec::new(),
        };
        Self(Arc::new(Mutex::new(inner)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().expect("no test thread has panicked in here")
    }

    pub(crate) fn set_mode(&self, mode: Mode) {
        self.lock().mode = mode;
    }

    /// A new operator process.
    pub(crate) fn revive(&self) {
        self.lock().dead = false;
    }

    /// Number of writes so far.
    pub(crate) fn writes(&self) -> usize {
        self.lock().writes
    }

    /// Number of other calls of the API so far.
    pub(crate) fn reads(&self) -> usize {
        self.lock().reads
    }

    /// Every write so far, for messages.
    pub(crate) fn log(&self) -> Vec<String> {
        self.lock().log.clone()
    }

    /// What happens to the call `what`.
    pub(crate) fn next(&self, what: &str, is_write: bool) -> Fault {
        let mut guard = self.lock();
        let inner = &mut *guard;
        if inner.dead {
            return Fault::DeadBefore;
        }
        let write = inner.writes;
        if is_write {
            inner.writes += 1;
        } else if what.contains("/api") {
            inner.reads += 1;
        }
        let fault = match inner.mode {
            Mode::Off => Fault::None,
            Mode::DieAfter { write: at } if is_write && write == at => Fault::DeadAfter,
            Mode::DieAfter { .. } => Fault::None,
            Mode::Random(percent) if inner.rng.random_range(0..100) < percent => {
                match inner.rng.random_range(0..8_u32) {
                    0 => Fault::LostBefore,
                    1 | 2 if is_write => Fault::LostAfter,
                    3 if is_write => Fault::Refused(409),
                    4 => Fault::Refused(500),
                    5 => Fault::Refused(503),
                    6 => Fault::DeadBefore,
                    7 if is_write => Fault::DeadAfter,
                    _ => Fault::Refused(429),
                }
            }
            Mode::Random(_) => Fault::None,
        };
        inner.dead = matches!(fault, Fault::DeadBefore | Fault::DeadAfter);
        if is_write {
            inner.log.push(format!("{write}: {what} {fault:?}"));
        }
        fault
    }
}

/// A client with the operator's rights, whose calls meet `faults`.
pub(crate) fn operator_client(api: &ApiServer, faults: &FaultState) -> Client {
    ClientBuilder::try_from(api.config(OPERATOR_TOKEN))
        .expect("a client")
        .with_layer(&FaultLayer(faults.clone()))
        .build()
}

/// Puts [`FaultState`] into a client.
#[derive(Clone)]
struct FaultLayer(FaultState);

impl<S> Layer<S> for FaultLayer {
    type Service = FaultService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        FaultService { inner: Arc::new(tokio::sync::Mutex::new(inner)), state: self.0.clone() }
    }
}

/// A client's service with faults.
struct FaultService<S> {
    inner: Arc<tokio::sync::Mutex<S>>,
    state: FaultState,
}

type AnyBody = UnsyncBoxBody<bytes::Bytes, BoxError>;
type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response<AnyBody>, BoxError>> + Send>>;

impl<S, B> Service<Request<Body>> for FaultService<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<AnyBody>;
    type Error = BoxError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> ResponseFuture {
        let inner = self.inner.clone();
        let state = self.state.clone();
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let query = request.uri().query().unwrap_or_default().to_owned();
            // A watch lasts, and what it brings is read live before anything is decided.
            let is_watch = query.contains("watch=true");
            let is_trial = query.contains("dryRun=All");
            // Events inform, and nothing depends on them.
            let is_event = path.starts_with("/apis/events.k8s.io/");
            let is_write = request.method() != Method::GET && !is_event && !is_trial;
            let request = check_preconditions(request).await?;
            let what = format!("{} {path}", request.method());
            let fault = if is_event { Fault::None } else { state.next(&what, is_write) };
            match fault {
                Fault::LostBefore | Fault::DeadBefore => return Err(format!("{fault:?}").into()),
                Fault::Refused(code) => return Ok(refusal(code)),
                Fault::None | Fault::LostAfter | Fault::DeadAfter => {}
            }
            let sent = {
                let mut inner = inner.lock().await;
                inner.ready().await.map_err(Into::into)?.call(request)
            };
            let response = sent.await.map_err(Into::into)?;
            let (parts, body) = response.into_parts();
            if is_watch {
                return Ok(Response::from_parts(parts, body.map_err(Into::into).boxed_unsync()));
            }
            let bytes = body.collect().await.map_err(Into::into)?.to_bytes();
            if matches!(fault, Fault::LostAfter | Fault::DeadAfter) {
                return Err(format!("{fault:?}").into());
            }
            Ok(Response::from_parts(parts, whole(bytes)))
        })
    }
}

fn whole(bytes: bytes::Bytes) -> AnyBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// Every delete names the object that was looked at, and no volume is deleted as long as its Store wants it.
async fn check_preconditions(request: Request<Body>) -> Result<Request<Body>, BoxError> {
    if request.method() != Method::DELETE {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let bytes = body.collect().await?.to_bytes();
    let options: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    assert!(
        options["preconditions"]["uid"].is_string(),
        "DELETE {} without a UID: {options}",
        parts.uri.path()
    );
    Ok(Request::from_parts(parts, Body::from(bytes.to_vec())))
}

fn refusal(code: u16) -> Response<AnyBody> {
    let reason = match code {
        409 => "Conflict",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "injected",
    });
    Response::builder()
        .status(StatusCode::from_u16(code).expect("a status"))
        .body(whole(status.to_string().into()))
        .expect("a response")
}
