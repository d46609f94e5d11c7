//! `/livez`, `/readyz`, `/metrics`: read-only and without authentication, since a kubelet's probe carries none. Nothing
//! here names a key, a value or a file.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use holdfast_contract::control::{ServerState, ServerStatus};

use crate::bridge::ServerHandle;
use crate::metrics::{CONTENT_TYPE, Metrics, state_name};

pub(super) fn router(handle: ServerHandle, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state(Health { handle, metrics })
}

#[derive(Clone)]
struct Health {
    handle: ServerHandle,
    metrics: Arc<Metrics>,
}

/// Alive is whoever can still come round by itself: also a server that holds, restores, loads, or waits for its disk.
async fn livez(State(health): State<Health>) -> Response {
    if health.handle.is_alive() {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (StatusCode::INTERNAL_SERVER_ERROR, "the thread that owns the data has ended\n").into_response()
    }
}

async fn readyz(State(health): State<Health>) -> Response {
    let status = health.handle.status();
    let code = if status.state == ServerState::Ready && health.handle.is_alive() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, readiness(&status)).into_response()
}

async fn render(State(health): State<Health>) -> Response {
    health.metrics.set_state(health.handle.status().state);
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], health.metrics.render()).into_response()
}

/// One line: the state and, when there is one, the reason for it. Messages may name Stores and files, and are served on
/// the control port only.
fn readiness(status: &ServerStatus) -> String {
    let state = state_name(status.state);
    match (status.state, &status.decision, status.progress) {
        (ServerState::Holding | ServerState::AwaitingRecord, Some(decision), _) => {
            format!("{state}: {}\n", decision.reason)
        }
        (ServerState::Loading | ServerState::Restoring, _, Some(progress)) => {
            format!("{state}: {:.0} %\n", progress * 100.0)
        }
        _ => format!("{state}\n"),
    }
}
