//! The operator's own `/livez`, `/readyz` and `/metrics`: read-only, no authentication.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// Media type of the OpenMetrics text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The operator is not ready when the API has not answered for so long: the lease is asked for every two seconds, and lost
/// after ten.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// The operator is not alive when it has not even asked the API for so long: answered or not, it does every two seconds.
const STANDSTILL_MAX: Duration = Duration::from_secs(120);

/// Whether the operator can do its work, by what it has heard of the API. A clone shows the same.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<Pulse>>);

#[derive(Debug, Default)]
struct Pulse {
    asked: Option<Instant>,
    answered: Option<Instant>,
}

impl Readiness {
    /// The API is asked just now.
    pub fn api_asked(&self) {
        self.lock().asked = Some(Instant::now());
    }

    /// The API has answered just now.
    pub fn api_answered(&self) {
        self.lock().answered = Some(Instant::now());
    }

    fn is_ready(&self, now: Instant) -> bool {
        self.lock().answered.is_some_and(|at| now.saturating_duration_since(at) < SILENCE_MAX)
    }

    /// A process that has only begun is alive.
    fn is_alive(&self, now: Instant) -> bool {
        self.lock().asked.is_none_or(|at| now.saturating_duration_since(at) < STANDSTILL_MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Pulse> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
struct Shared {
    readiness: Readiness,
    metrics: Metrics,
}

/// Serves until the process ends.
/// # Errors
/// The address is in use or not permitted.
pub async fn serve(address: SocketAddr, readiness: Readiness, metrics: Metrics) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render_metrics))
        .with_state(Shared { readiness, metrics });
    let listener = listen(address, TcpListener::bind).await?;
    axum::serve(listener, router).await
}

/// Listens by `bind` at `address`. All IPv6 addresses, which is the default, are all of IPv4 as well; where the kernel has no
/// IPv6 it is these alone.
async fn listen<L, F>(address: SocketAddr, bind: impl Fn(SocketAddr) -> F) -> std::io::Result<L>
where
    F: Future<Output = std::io::Result<L>>,
{
    let error = match bind(address).await {
        Ok(listener) => return Ok(listener),
        Err(error) => error,
    };
    let is_about_the_port = matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied);
    if address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED) || is_about_the_port {
        return Err(error);
    }
    let instead = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
    match bind(instead).await {
        Ok(listener) => {
            tracing::info!(%address, %instead, %error, "health port listens without IPv6");
            Ok(listener)
        }
        Err(_) => Err(error),
    }
}

/// Alive while it asks the API now and then: one that does not, although it leads or wants to, hangs. An API that is away is
/// no reason to start again.
async fn livez(State(shared): State<Shared>) -> impl IntoResponse {
    if shared.readiness.is_alive(Instant::now()) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the Kubernetes API has not been asked for two minutes\n")
    }
}

/// Ready while the API answers; also while another operator leads, for then this one stands by.
async fn readyz(State(shared): State<Shared>) -> impl IntoResponse {
    if shared.readiness.is_ready(Instant::now()) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the Kubernetes API does not answer\n")
    }
}

async fn render_metrics(State(shared): State<Shared>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], shared.metrics.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_ipv6_all_addresses_are_those_of_ipv4() {
        let check = async |address: &str, refused: ErrorKind, expected: Option<&str>| {
            // A machine where nothing but this one address can be had.
            let bind = |at: SocketAddr| {
                futures::future::ready(if at.is_ipv6() { Err(refused.into()) } else { Ok(at.to_string()) })
            };
            let listener = listen(address.parse().expect("an address"), bind).await;
            assert_eq!(listener.map_err(|error| error.kind()), expected.map(str::to_owned).ok_or(refused));
        };
        check("[::]:8080", ErrorKind::Unsupported, Some("0.0.0.0:8080")).await;
        check("[::]:8080", ErrorKind::AddrNotAvailable, Some("0.0.0.0:8080")).await;
        check("[::]:8080", ErrorKind::AddrInUse, None).await;
        check("[::]:80", ErrorKind::PermissionDenied, None).await;
        check("[::1]:8080", ErrorKind::AddrNotAvailable, None).await;
        check("127.0.0.1:8080", ErrorKind::Unsupported, Some("127.0.0.1:8080")).await;
    }

    #[test]
    fn readiness_falls_when_the_api_is_silent_and_life_ends_much_later() {
        let readiness = Readiness::default();
        let now = Instant::now();
        assert!(!readiness.is_ready(now) && readiness.is_alive(now), "it has just begun");
        readiness.api_asked();
        readiness.api_answered();
        assert!(readiness.is_ready(now));
        let later = Instant::now() + SILENCE_MAX;
        assert!(!readiness.is_ready(later) && readiness.is_alive(later));
        assert!(!readiness.is_alive(Instant::now() + STANDSTILL_MAX));
        readiness.api_answered();
        assert!(readiness.is_ready(Instant::now()));
    }
}
