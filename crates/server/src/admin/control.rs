//! The control port: the messages of [`holdfast_contract::control`] over HTTP with a bearer token.
//!
//! Every answer that is not a success carries an [`ErrorBody`]. The token is checked before anything else is looked at,
//! unknown paths included.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path as PathSegment, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use holdfast_contract::control::{
    BackupProgress, BackupRequest, Barrier, BarrierRequest, ConfigCheck, ConfigCheckRequest, ErrorBody,
    ServerStatus, backup_reason,
};
use holdfast_contract::record::StoreRecord;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::config_check;
use crate::backup::upload::{Backups, StartBackupError};
use crate::bridge::{AdminRequest, Refusal, ServerHandle};

/// Largest request, in bytes; the largest real one is a configuration file of some dozen long lines.
const BODY_LEN_MAX: usize = 512 << 10;
/// Longest token file that is read, in bytes.
const TOKEN_LEN_MAX: usize = 4 << 10;
/// Time for one request with everything that it waits for. A barrier waits for a sync, which a stalled disk makes long.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);
/// Time for an answer of the owner of the data to a question that needs no disk.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// Time for the owner to sync and stamp before a barrier; below [`REQUEST_TIME_MAX`], so that its text reaches people.
const BARRIER_TIME_MAX: Duration = Duration::from_secs(50);
/// Pause before a wrong token is refused: guesses are slow, and a mistake costs nobody anything.
const REFUSAL_PAUSE: Duration = Duration::from_millis(200);

#[derive(Clone)]
struct Control {
    handle: ServerHandle,
    backups: Backups,
    token_file: Option<PathBuf>,
}

pub(super) fn router(handle: ServerHandle, backups: Backups, token_file: Option<PathBuf>) -> Router {
    let control = Control { handle, backups, token_file };
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/decision", put(decide))
        .route("/v1/barriers", post(take_barrier))
        .route("/v1/barriers/{token}", get(find_barrier).delete(release_barrier))
        .route("/v1/backups", post(start_backup))
        .route("/v1/backups/{id}", get(find_backup).delete(cancel_backup))
        .route("/v1/config/check", post(check_config))
        .route("/v1/snapshot", post(rotate))
        .fallback(async || Failure::not_found("no such path on the control port".to_owned()))
        .method_not_allowed_fallback(async || {
            Failure::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "the path takes other methods".to_owned(),
            )
        })
        .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
        .layer(from_fn_with_state(control.clone(), guard))
        .with_state(control)
}

/// An answer that is not a success.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    body: ErrorBody,
}

impl Failure {
    fn new(status: StatusCode, reason: &str, message: String) -> Self {
        Self { status, body: ErrorBody { reason: reason.to_owned(), message } }
    }

    fn not_found(message: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    fn invalid(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidRequest", message)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let (status, reason) = match &refusal {
            Refusal::Invalid(_) => (StatusCode::BAD_REQUEST, "InvalidRequest"),
            Refusal::NotFound(_) => (StatusCode::NOT_FOUND, "NotFound"),
            Refusal::Busy(_) => (StatusCode::CONFLICT, "Busy"),
            Refusal::NotReady(_) => (StatusCode::CONFLICT, "NotReady"),
            Refusal::NoSpace(_) => (StatusCode::INSUFFICIENT_STORAGE, backup_reason::INSUFFICIENT_SPACE),
            Refusal::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "Failed"),
            Refusal::TimedOut(_) => (StatusCode::GATEWAY_TIMEOUT, "TimedOut"),
            Refusal::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "Stopping"),
        };
        Self::new(status, reason, refusal.to_string())
    }
}

/// Checks the token, then bounds the time of the request.
async fn guard(State(control): State<Control>, request: Request, next: Next) -> Response {
    let presented = request.headers().get(header::AUTHORIZATION).cloned();
    if let Err(failure) = authorize(control.token_file.as_deref(), presented.as_ref()).await {
        let mut response = failure.into_response();
        if response.status() == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        return response;
    }
    match tokio::time::timeout(REQUEST_TIME_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_elapsed) => {
            let message = format!("the request took longer than {REQUEST_TIME_MAX:?}");
            Failure::new(StatusCode::GATEWAY_TIMEOUT, "TimedOut", message).into_response()
        }
    }
}

/// A missing or empty token never means that none is needed.
async fn authorize(token_file: Option<&Path>, presented: Option<&HeaderValue>) -> Result<(), Failure> {
    let closed = |problem: String| {
        Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ControlTokenMissing",
            format!("the control port is closed: {problem}"),
        )
    };
    let Some(path) = token_file else {
        return Err(closed("no control-token-file is configured".to_owned()));
    };
    let token = match tokio::fs::read(path).await {
        Ok(token) => token,
        Err(error) => return Err(closed(format!("the token file {path:?} cannot be read ({error})"))),
    };
    let token = token.trim_ascii();
    if token.is_empty() || token.len() > TOKEN_LEN_MAX {
        return Err(closed(format!("the token file {path:?} is empty or longer than {TOKEN_LEN_MAX} bytes")));
    }
    let presented = presented.map(HeaderValue::as_bytes).and_then(|value| value.strip_prefix(b"Bearer "));
    // Digests have one length, so that the time to compare says nothing about the token's.
    let fits = presented
        .is_some_and(|presented| Sha256::digest(presented.trim_ascii()).ct_eq(&Sha256::digest(token)).into());
    if fits {
        return Ok(());
    }
    tokio::time::sleep(REFUSAL_PAUSE).await;
    tracing::debug!("a request to the control port had no valid token");
    Err(Failure::new(
        StatusCode::UNAUTHORIZED,
        "Unauthorized",
        "the control port needs the header `Authorization: Bearer <token>` with the Store's control token"
            .to_owned(),
    ))
}

fn parse<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Failure> {
    let body = body.map_err(|rejection| {
        let message = format!("the body cannot be read (at most {BODY_LEN_MAX} bytes are): {rejection}");
        Failure::new(rejection.status(), "InvalidRequest", message)
    })?;
    serde_json::from_slice(&body)
        .map_err(|error| Failure::invalid(format!("the body is not the expected JSON: {error}")))
}

type Answer<T> = Result<Json<T>, Failure>;
type RawBody = Result<Bytes, BytesRejection>;

async fn status(State(control): State<Control>) -> Json<ServerStatus> {
    Json(control.handle.status())
}

async fn decide(State(control): State<Control>, body: RawBody) -> Answer<ServerStatus> {
    let record: Box<StoreRecord> = parse(body)?;
    control.handle.ask(ANSWER_TIME_MAX, |reply| AdminRequest::Decide { record, reply }).await?;
    Ok(Json(control.handle.status()))
}

async fn take_barrier(State(control): State<Control>, body: RawBody) -> Answer<Barrier> {
    let request: BarrierRequest = parse(body)?;
    let barrier =
        control.handle.ask(BARRIER_TIME_MAX, |reply| AdminRequest::TakeBarrier { request, reply }).await?;
    Ok(Json(barrier))
}

async fn find_barrier(
    State(control): State<Control>,
    PathSegment(token): PathSegment<String>,
) -> Answer<Barrier> {
    let ask = |reply| AdminRequest::FindBarrier { token, reply };
    Ok(Json(control.handle.ask(ANSWER_TIME_MAX, ask).await?))
}

async fn release_barrier(
    State(control): State<Control>,
    PathSegment(token): PathSegment<String>,
) -> Answer<Barrier> {
    let ask = |reply| AdminRequest::ReleaseBarrier { token, reply };
    Ok(Json(control.handle.ask(ANSWER_TIME_MAX, ask).await?))
}

async fn start_backup(State(control): State<Control>, body: RawBody) -> Answer<BackupProgress> {
    let request: BackupRequest = parse(body)?;
    control.backups.start(request).map(Json).map_err(|error| match error {
        StartBackupError::InvalidId => Failure::invalid(error.to_string()),
        StartBackupError::TooMany => Failure::new(StatusCode::TOO_MANY_REQUESTS, "Busy", error.to_string()),
    })
}

fn unknown_backup(id: &str) -> Failure {
    Failure::not_found(format!("no backup {id:?} since this server started, or it is too long ago"))
}

async fn find_backup(
    State(control): State<Control>,
    PathSegment(id): PathSegment<String>,
) -> Answer<BackupProgress> {
    control.backups.progress(&id).map(Json).ok_or_else(|| unknown_backup(&id))
}

async fn cancel_backup(
    State(control): State<Control>,
    PathSegment(id): PathSegment<String>,
) -> Answer<BackupProgress> {
    control.backups.cancel(&id).await.map(Json).ok_or_else(|| unknown_backup(&id))
}

async fn check_config(body: RawBody) -> Answer<ConfigCheck> {
    let request: ConfigCheckRequest = parse(body)?;
    // It may read files that the configuration includes.
    let checked = tokio::task::spawn_blocking(move || config_check::check(&request.text)).await;
    checked.map(Json).map_err(|error| {
        let problem = format!("the configuration cannot be checked: {error}");
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "Failed", problem)
    })
}

async fn rotate(State(control): State<Control>, _body: Body) -> Answer<ServerStatus> {
    control.handle.ask(ANSWER_TIME_MAX, |reply| AdminRequest::StartRotation { reply }).await?;
    Ok(Json(control.handle.status()))
}
