//! Metrics of the operator.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of the duration of a reconcile, in seconds: from one round of reads to a slow bucket.
const DURATION_BUCKETS: [f64; 8] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// How a reconcile ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It came to its end.
    Ok,
    /// It ended early.
    Error,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreLabels {
    namespace: String,
    name: String,
}

/// All metrics; a clone counts into the same.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    reconciles: Family<ReconcileLabels, Counter>,
    durations: Family<KindLabels, Histogram, fn() -> Histogram>,
    ready: Family<StoreLabels, Gauge>,
    stalled: Family<StoreLabels, Gauge>,
    last_backup: Family<StoreLabels, Gauge>,
    leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("holdfast_operator");
        let reconciles = Family::<ReconcileLabels, Counter>::default();
        let durations: Family<KindLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS));
        let ready = Family::<StoreLabels, Gauge>::default();
        let stalled = Family::<StoreLabels, Gauge>::default();
        let last_backup = Family::<StoreLabels, Gauge>::default();
        let leader = Gauge::default();
        registry.register("reconciles", "Reconciles by kind and outcome", reconciles.clone());
        registry.register_with_unit(
            "reconcile_duration",
            "How long reconciles took",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register("store_ready", "1 while the Store serves clients", ready.clone());
        registry.register("store_stalled", "1 while the Store waits for a person", stalled.clone());
        registry.register_with_unit(
            "store_last_backup_timestamp",
            "When the newest good backup ended, in seconds since the Unix epoch; absent without one",
            Unit::Seconds,
            last_backup.clone(),
        );
        registry.register("leader", "1 while this process reconciles", leader.clone());
        Self {
            registry: Arc::new(Mutex::new(registry)),
            reconciles,
            durations,
            ready,
            stalled,
            last_backup,
            leader,
        }
    }
}

impl Metrics {
    /// Counts a reconcile of `kind`.
    pub(crate) fn observe_reconcile(&self, kind: &'static str, outcome: Outcome, duration: Duration) {
        let outcome = match outcome {
            Outcome::Ok => "ok",
            Outcome::Error => "error",
        };
        self.reconciles.get_or_create(&ReconcileLabels { kind, outcome }).inc();
        self.durations.get_or_create(&KindLabels { kind }).observe(duration.as_secs_f64());
    }

    /// Sets the state of a Store.
    pub(crate) fn set_store(
        &self,
        namespace: &str,
        name: &str,
        ready: bool,
        stalled: bool,
        last_backup_seconds: Option<i64>,
    ) {
        let labels = StoreLabels { namespace: namespace.to_owned(), name: name.to_owned() };
        self.ready.get_or_create(&labels).set(i64::from(ready));
        self.stalled.get_or_create(&labels).set(i64::from(stalled));
        if let Some(seconds) = last_backup_seconds {
            self.last_backup.get_or_create(&labels).set(seconds);
        }
    }

    /// Forgets a Store that is gone.
    pub(crate) fn forget_store(&self, namespace: &str, name: &str) {
        let labels = StoreLabels { namespace: namespace.to_owned(), name: name.to_owned() };
        self.ready.remove(&labels);
        self.stalled.remove(&labels);
        self.last_backup.remove(&labels);
    }

    /// Says whether this process leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// All metrics in the OpenMetrics text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match text::encode(&mut out, &registry) {
            Ok(()) => out,
            Err(error) => {
                tracing::warn!(%error, "metrics not rendered");
                String::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleted_store_leaves_no_metrics() {
        let metrics = Metrics::default();
        metrics.observe_reconcile("Store", Outcome::Ok, Duration::from_millis(5));
        metrics.set_store("shop", "orders", true, false, Some(7));
        let text = metrics.render();
        assert!(
            text.contains("holdfast_operator_store_ready{namespace=\"shop\",name=\"orders\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("store_last_backup_timestamp_seconds{namespace=\"shop\",name=\"orders\"} 7"),
            "{text}"
        );
        metrics.forget_store("shop", "orders");
        assert!(!metrics.render().contains("orders"));
    }
}
