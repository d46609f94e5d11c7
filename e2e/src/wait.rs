//! Waiting: for a condition, with a deadline, never for a time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// For what needs nothing but the operator and the API.
pub const SOON: Duration = Duration::from_secs(45);
/// For what needs a pod to start or to move, on a machine that runs several scenarios.
pub const STARTS: Duration = Duration::from_secs(150);
/// For what goes through several pods, volumes or uploads.
pub const LONG: Duration = Duration::from_secs(300);

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(250);

/// Looks until `look` answers; its errors mean "not yet", and the last one is in the error at the deadline.
/// # Errors
/// The deadline has passed.
pub async fn until<T>(what: &str, deadline: Duration, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        // One look may hang when a node or the API server is away; the deadline holds all the same.
        let left = deadline.saturating_sub(start.elapsed()).max(PERIOD);
        let error = match tokio::time::timeout(left, look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => error,
            Err(elapsed) => elapsed.into(),
        };
        if start.elapsed() >= deadline {
            return Err(error)
                .with_context(|| format!("{} s were not enough for: {what}", deadline.as_secs()));
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Looks for the whole of `time` and fails as soon as `look` does: for what must not happen.
/// # Errors
/// The first error of `look`.
pub async fn throughout(what: &str, time: Duration, mut look: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < time {
        look().await.with_context(|| format!("{what}, after {} s", start.elapsed().as_secs()))?;
        tokio::time::sleep(PERIOD).await;
    }
    Ok(())
}
