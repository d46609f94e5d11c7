//! Prometheus metrics: one struct of counters and gauges, updated where things happen, rendered at `/metrics`.
//!
//! Names are `holdfast_…` with the unit at the end. Labels are few and their values fixed in this program, so that the
//! number of series never depends on data or clients: the one exception, the version, has one value per process.
//!
//! Everything is an atomic: updating costs the executor a few nanoseconds and never waits.

use std::sync::atomic::AtomicU64;

use holdfast_contract::control::ServerState;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A gauge that takes sizes and times without a cast.
pub type Amount = Gauge<u64, AtomicU64>;
/// A gauge of seconds.
pub type Seconds = Gauge<f64, AtomicU64>;

/// Shortest sync that is told apart, in seconds: an NVMe device with a volatile cache takes about this long.
const SYNC_BUCKET_FIRST: f64 = 0.000_1;
/// Each bucket is twice the one before: 18 of them reach 13 s, and a sync that takes longer is a stalled disk.
const SYNC_BUCKETS: u16 = 18;

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    result: &'static str,
}

impl Outcome {
    /// It did what it should.
    pub const SUCCESS: Self = Self { result: "success" };
    /// It failed or was cancelled.
    pub const FAILURE: Self = Self { result: "failure" };

    /// One of the two.
    #[must_use]
    pub fn of<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() { Self::SUCCESS } else { Self::FAILURE }
    }
}

/// Which warning was raised. `kind` is a name in this program, never data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WarningKind {
    /// Such as `slow_sync`.
    pub kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// All metrics of a server. The fields are the series; see the help texts in [`Metrics::new`].
#[derive(Debug)]
pub struct Metrics {
    /// Executed commands.
    pub commands: Counter,
    /// Bytes in keys and values, as `maxmemory` counts them.
    pub used_memory_bytes: Amount,
    /// Keys in all databases.
    pub keys: Amount,
    /// Open client connections.
    pub connections: Amount,
    /// Accepted client connections.
    pub connections_accepted: Counter,
    /// Connections refused because of a limit.
    pub connections_refused: Counter,
    /// Writes refused because the log failed, the disk is full or memory is.
    pub writes_refused: Counter,
    /// Size of the log's live files.
    pub log_bytes: Amount,
    /// Bytes appended to the log.
    pub log_written_bytes: Counter,
    /// Bytes acknowledged and not yet synced.
    pub unsynced_bytes: Amount,
    /// Age of the oldest of them: what a power cut would lose now.
    pub unsynced_age_seconds: Seconds,
    /// Finished syncs of the log.
    pub syncs: Family<Outcome, Counter>,
    /// Duration of syncs of the log.
    pub sync_duration_seconds: Histogram,
    /// Finished snapshots.
    pub snapshots: Family<Outcome, Counter>,
    /// When the last snapshot succeeded.
    pub snapshot_last_success_timestamp_seconds: Seconds,
    /// Duration of the last snapshot.
    pub snapshot_last_duration_seconds: Seconds,
    /// Finished log rotations.
    pub rotations: Family<Outcome, Counter>,
    /// Durability points taken by the `persist-*` triggers.
    pub points: Counter,
    /// Warnings raised, by kind.
    pub warnings: Family<WarningKind, Counter>,
    /// Bytes of a torn tail that the recovery at start cut off.
    pub recovery_truncated_bytes: Amount,
    /// Duration of the load at start.
    pub recovery_duration_seconds: Seconds,
    /// Finished backups to a bucket.
    pub backups: Family<Outcome, Counter>,
    /// When the last backup succeeded; 0 when none has since start.
    pub backup_last_success_timestamp_seconds: Seconds,
    /// Bytes sent to buckets.
    pub backup_uploaded_bytes: Counter,
    /// 1 while a persistence barrier is held.
    pub barrier_held: Amount,
    /// Barriers that ended by their time-out.
    pub barriers_expired: Counter,
    states: Family<StateLabel, Amount>,
    registry: Registry,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero, registered under their names.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("holdfast");
        let metrics = Self {
            commands: register(&mut registry, "commands", "Executed commands"),
            used_memory_bytes: bytes(
                &mut registry,
                "used_memory",
                "Memory of keys and values, as maxmemory counts it",
            ),
            keys: register(&mut registry, "keys", "Keys in all databases"),
            connections: register(&mut registry, "connections", "Open client connections"),
            connections_accepted: register(
                &mut registry,
                "connections_accepted",
                "Accepted client connections",
            ),
            connections_refused: register(
                &mut registry,
                "connections_refused",
                "Client connections refused because of a limit",
            ),
            writes_refused: register(
                &mut registry,
                "writes_refused",
                "Writes refused because the log failed or there was no room",
            ),
            log_bytes: bytes(&mut registry, "log", "Size of the live files of the log"),
            log_written_bytes: bytes(&mut registry, "log_written", "Bytes appended to the log"),
            unsynced_bytes: bytes(
                &mut registry,
                "unsynced",
                "Bytes acknowledged and not yet on stable storage",
            ),
            unsynced_age_seconds: seconds(
                &mut registry,
                "unsynced_age",
                "Age of the oldest acknowledged byte that is not on stable storage",
            ),
            syncs: register(&mut registry, "syncs", "Finished syncs of the log"),
            sync_duration_seconds: {
                let buckets = exponential_buckets(SYNC_BUCKET_FIRST, 2.0, SYNC_BUCKETS);
                let histogram = Histogram::new(buckets);
                registry.register_with_unit(
                    "sync_duration",
                    "Duration of syncs of the log",
                    Unit::Seconds,
                    histogram.clone(),
                );
                histogram
            },
            snapshots: register(&mut registry, "snapshots", "Finished snapshots"),
            snapshot_last_success_timestamp_seconds: seconds(
                &mut registry,
                "snapshot_last_success_timestamp",
                "When the last snapshot succeeded, as Unix time",
            ),
            snapshot_last_duration_seconds: seconds(
                &mut registry,
                "snapshot_last_duration",
                "Duration of the last snapshot",
            ),
            rotations: register(&mut registry, "rotations", "Finished log rotations"),
            points: register(&mut registry, "points", "Durability points taken by triggers"),
            warnings: register(&mut registry, "warnings", "Warnings raised"),
            recovery_truncated_bytes: bytes(
                &mut registry,
                "recovery_truncated",
                "Bytes of a torn tail that recovery cut off at start",
            ),
            recovery_duration_seconds: seconds(
                &mut registry,
                "recovery_duration",
                "Duration of the load at start",
            ),
            backups: register(&mut registry, "backups", "Finished backups to a bucket"),
            backup_last_success_timestamp_seconds: seconds(
                &mut registry,
                "backup_last_success_timestamp",
                "When the last backup succeeded, as Unix time; 0 when none has since start",
            ),
            backup_uploaded_bytes: bytes(&mut registry, "backup_uploaded", "Bytes sent to buckets"),
            barrier_held: register(&mut registry, "barrier_held", "1 while a persistence barrier is held"),
            barriers_expired: register(
                &mut registry,
                "barriers_expired",
                "Persistence barriers that ended by their time-out",
            ),
            states: register(&mut registry, "state", "1 for what the server is doing, 0 for everything else"),
            registry: Registry::default(),
        };
        let build: Family<BuildLabels, Amount> =
            register(&mut registry, "build_info", "Version of the server");
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        // A series that appears only with its first event cannot be alerted on: a rate needs a zero before.
        for outcome in [Outcome::SUCCESS, Outcome::FAILURE] {
            for family in [&metrics.syncs, &metrics.snapshots, &metrics.rotations, &metrics.backups] {
                drop(family.get_or_create(&outcome));
            }
        }
        Self { registry, ..metrics }
    }

    /// Sets which of the states is the current one.
    pub fn set_state(&self, current: ServerState) {
        for state in STATES {
            self.states
                .get_or_create(&StateLabel { state: state_name(state) })
                .set(u64::from(state == current));
        }
    }

    /// Counts one sync of the log.
    pub fn synced(&self, outcome: Outcome, duration: std::time::Duration) {
        self.syncs.get_or_create(&outcome).inc();
        self.sync_duration_seconds.observe(duration.as_secs_f64());
    }

    /// Everything as text of type [`CONTENT_TYPE`].
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(8 << 10);
        encode(&mut text, &self.registry).expect("a String takes every write");
        text
    }
}

const STATES: [ServerState; 7] = [
    ServerState::Holding,
    ServerState::Restoring,
    ServerState::AwaitingRecord,
    ServerState::Loading,
    ServerState::Ready,
    ServerState::WritesRefused,
    ServerState::Stopping,
];

/// The word for a state in metrics and readiness answers.
#[must_use]
pub fn state_name(state: ServerState) -> &'static str {
    match state {
        ServerState::Holding => "holding",
        ServerState::Restoring => "restoring",
        ServerState::AwaitingRecord => "awaiting_record",
        ServerState::Loading => "loading",
        ServerState::Ready => "ready",
        ServerState::WritesRefused => "writes_refused",
        ServerState::Stopping => "stopping",
    }
}

fn register<M: prometheus_client::registry::Metric + Clone + Default>(
    registry: &mut Registry,
    name: &str,
    help: &str,
) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn bytes<M: prometheus_client::registry::Metric + Clone + Default>(
    registry: &mut Registry,
    name: &str,
    help: &str,
) -> M {
    let metric = M::default();
    registry.register_with_unit(name, help, Unit::Bytes, metric.clone());
    metric
}

fn seconds(registry: &mut Registry, name: &str, help: &str) -> Seconds {
    let metric = Seconds::default();
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

/// Milliseconds since the Unix epoch as the seconds that Prometheus wants.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "53 bits of milliseconds last 285,000 years")]
pub fn unix_seconds(unix_ms: u64) -> f64 {
    unix_ms as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_name_has_the_prefix_and_every_series_a_help_text() {
        let metrics = Metrics::new();
        metrics.set_state(ServerState::Ready);
        let text = metrics.render();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.starts_with("holdfast_"), "{line}");
        }
        let names = text.lines().filter(|line| line.starts_with("# TYPE")).count();
        let helps = text.lines().filter(|line| line.starts_with("# HELP")).count();
        assert!(names > 25 && names == helps);
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn what_happened_can_be_read() {
        let metrics = Metrics::new();
        metrics.commands.inc_by(3);
        metrics.synced(Outcome::SUCCESS, Duration::from_millis(3));
        metrics.warnings.get_or_create(&WarningKind { kind: "slow_sync" }).inc();
        metrics.backup_last_success_timestamp_seconds.set(unix_seconds(1_700_000_000_500));
        metrics.used_memory_bytes.set(1 << 40);
        metrics.set_state(ServerState::Loading);
        metrics.set_state(ServerState::Ready);
        let text = metrics.render();
        for line in [
            "holdfast_commands_total 3",
            "holdfast_syncs_total{result=\"success\"} 1",
            "holdfast_syncs_total{result=\"failure\"} 0",
            "holdfast_sync_duration_seconds_count 1",
            "holdfast_warnings_total{kind=\"slow_sync\"} 1",
            "holdfast_backup_last_success_timestamp_seconds 1700000000.5",
            "holdfast_used_memory_bytes 1099511627776",
            "holdfast_state{state=\"ready\"} 1",
            "holdfast_state{state=\"loading\"} 0",
            "holdfast_log_written_bytes_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} not in\n{text}");
        }
    }
}
