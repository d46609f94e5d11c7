//! Prometheus metrics.

use std::time::Duration;

use crate::storage::Space;

/// What the executor publishes.
#[derive(Debug, Default)]
pub struct Metrics {}

impl Metrics {
    /// A sync of the log took this long.
    pub fn sync_took(&self, _took: Duration) {}
    /// Size of the volume.
    pub fn volume(&self, _space: Space) {}
}
