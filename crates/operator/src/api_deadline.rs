//! A deadline for every call to the Kubernetes API but watches: a call that hangs must not hold a worker for minutes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use kube::client::Body;
use tower::{BoxError, Layer, Service};

/// Longest time until the API server begins to answer. It gives up by itself after 60 s; an answer that takes this long is of
/// no use any more.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

/// Puts the deadline into a client.
#[derive(Debug, Clone, Copy)]
pub struct DeadlineLayer(pub Duration);

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Deadline { inner, limit: self.0 }
    }
}

/// A client's service with a deadline.
#[derive(Debug, Clone)]
pub struct Deadline<S> {
    inner: S,
    limit: Duration,
}

/// The API server has not begun to answer in time.
#[derive(Debug, thiserror::Error)]
#[error("the Kubernetes API has not answered within {} s", .0.as_secs())]
struct Late(Duration);

impl<S, R> Service<Request<Body>> for Deadline<S>
where
    S: Service<Request<Body>, Response = R>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    R: 'static,
{
    type Response = R;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<R, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let limit = self.limit;
        // A watch is answered at once as well, but by a server that may first bring its own cache up to date.
        let is_watch =
            request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"));
        let answer = self.inner.call(request);
        Box::pin(async move {
            if is_watch {
                return answer.await.map_err(Into::into);
            }
            match tokio::time::timeout(limit, answer).await {
                Ok(answer) => answer.map_err(Into::into),
                Err(_) => Err(Late(limit).into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::ServiceExt as _;

    async fn call(path: &str) -> Result<(), String> {
        let hangs = tower::service_fn(|_: Request<Body>| async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok::<_, BoxError>(())
        });
        let service = DeadlineLayer(Duration::from_millis(20)).layer(hangs);
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let call = service.oneshot(request);
        match tokio::time::timeout(Duration::from_millis(500), call).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("still waiting".to_owned()),
        }
    }

    #[tokio::test]
    async fn a_call_that_hangs_ends_and_a_watch_may_last() {
        let late = call("/api/v1/pods?limit=5").await.expect_err("a deadline");
        assert!(late.contains("has not answered within"), "{late}");
        assert_eq!(call("/api/v1/pods?limit=5&watch=true").await, Err("still waiting".to_owned()));
    }
}
