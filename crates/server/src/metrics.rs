//! Prometheus metrics: what happens is counted where it happens, running totals are taken over, all is rendered at
//! `/metrics`.
//!
//! Names are `holdfast_…` with the unit at the end. Labels are few and their values fixed in this program, so that the
//! number of series never depends on data or clients. Everything is an atomic or a short lock: telling costs the executor
//! a few nanoseconds and never waits for a reader.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use holdfast_contract::control::ServerState;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::storage::Space;

/// Content type of [`Metrics::render`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Shortest sync that is told apart, in seconds: an NVMe device with a volatile cache takes about this long.
const SYNC_BUCKET_FIRST: f64 = 0.000_1;
/// Each bucket is twice the one before: 18 of them reach 13 s, and a sync that takes longer is a stalled disk.
const SYNC_BUCKETS: u16 = 18;

/// A gauge that takes sizes and counts without a cast.
type Amount = Gauge<u64, AtomicU64>;
/// A gauge of seconds.
type Seconds = Gauge<f64, AtomicU64>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

impl Outcome {
    const ALL: [Self; 2] = [Self::of(true), Self::of(false)];

    const fn of(succeeded: bool) -> Self {
        Self { result: if succeeded { "success" } else { "failure" } }
    }
}

/// Running totals of the owner of the data, handed over as they are; see [`Metrics::publish`].
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Totals<'a> {
    /// Executed commands, refused ones included.
    pub(crate) commands: u64,
    /// Error replies.
    pub(crate) error_replies: u64,
    /// Keys removed because their time had come.
    pub(crate) expired_keys: u64,
    /// Keys removed because there was no room.
    pub(crate) evicted_keys: u64,
    /// Open client connections.
    pub(crate) connections: u64,
    /// Client connections accepted.
    pub(crate) connections_accepted: u64,
    /// Client connections refused because of a limit.
    pub(crate) connections_refused: u64,
    /// Bytes received from clients.
    pub(crate) input_bytes: u64,
    /// Bytes sent to clients.
    pub(crate) output_bytes: u64,
    /// Keys in all databases.
    pub(crate) keys: u64,
    /// Memory as `maxmemory` counts it.
    pub(crate) used_memory_bytes: u64,
    /// Stream offset after the last write.
    pub(crate) last_offset: u64,
    /// Stream offset up to which everything is on stable storage.
    pub(crate) durable_offset: u64,
    /// Age of the oldest write that is not: what a power cut would lose now.
    pub(crate) unsynced_age: Duration,
    /// Size of the log's live files; 0 without a log.
    pub(crate) log_bytes: u64,
    /// True while writes are refused.
    pub(crate) writes_refused: bool,
    /// True while a persistence barrier is held.
    pub(crate) barrier_held: bool,
    /// Persistence points taken, by what asked for them; names are constants of this program.
    pub(crate) points: &'a [(&'static str, u64)],
    /// Warnings raised, by kind; names are constants of this program.
    pub(crate) warnings: &'a [(&'static str, u64)],
}

/// Background jobs that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// A snapshot (RDB file).
    Snapshot,
    /// A log rewrite.
    Rotation,
}

/// All metrics of a server.
#[derive(Debug)]
pub struct Metrics {
    commands: Counter,
    error_replies: Counter,
    expired_keys: Counter,
    evicted_keys: Counter,
    connections: Amount,
    connections_accepted: Counter,
    connections_refused: Counter,
    input_bytes: Counter,
    output_bytes: Counter,
    keys: Amount,
    used_memory: Amount,
    last_offset: Amount,
    durable_offset: Amount,
    unsynced: Amount,
    unsynced_age: Seconds,
    log: Amount,
    writes_refused: Amount,
    storage_failures: Counter,
    syncs: Counter,
    sync_duration: Histogram,
    snapshots: Family<Outcome, Counter>,
    snapshot_last_success: Seconds,
    snapshot_last_duration: Seconds,
    rotations: Family<Outcome, Counter>,
    rotation_last_success: Seconds,
    rotation_last_duration: Seconds,
    points: Family<Kind, Counter>,
    warnings: Family<Kind, Counter>,
    volume_size: Amount,
    volume_available: Amount,
    recovery_truncated: Amount,
    recovery_duration: Seconds,
    backups: Family<Outcome, Counter>,
    backup_last_success: Seconds,
    backup_uploaded: Counter,
    barrier_held: Amount,
    barriers_expired: Counter,
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
        let mut names = Names(Registry::with_prefix("holdfast"));
        let metrics = Self {
            commands: names.plain("commands", "Executed commands, refused ones included"),
            error_replies: names.plain("error_replies", "Error replies"),
            expired_keys: names.plain("expired_keys", "Keys removed because their time had come"),
            evicted_keys: names
                .plain("evicted_keys", "Keys removed because there was no room below maxmemory"),
            connections: names.plain("connections", "Open client connections"),
            connections_accepted: names.plain("connections_accepted", "Accepted client connections"),
            connections_refused: names
                .plain("connections_refused", "Client connections refused because of a limit"),
            input_bytes: names.bytes("input", "Bytes received from clients"),
            output_bytes: names.bytes("output", "Bytes sent to clients"),
            keys: names.plain("keys", "Keys in all databases"),
            used_memory: names.bytes(
                "used_memory",
                "Memory of keys and values and of what clients hold, as maxmemory counts it",
            ),
            last_offset: names.bytes("last_offset", "Stream offset after the last write"),
            durable_offset: names
                .bytes("durable_offset", "Stream offset up to which all is on stable storage"),
            unsynced: names.bytes("unsynced", "Bytes written and not yet on stable storage"),
            unsynced_age: names
                .seconds("unsynced_age", "Age of the oldest write that a power cut would lose now"),
            log: names.bytes("log", "Size of the live files of the log"),
            writes_refused: names.plain("writes_refused", "1 while writes are refused"),
            storage_failures: names.plain(
                "storage_failures",
                "Writes or syncs that failed and ended the service; the server holds until somebody looks",
            ),
            syncs: names.plain("syncs", "Finished syncs of the log"),
            sync_duration: names.histogram("sync_duration", "Duration of syncs of the log"),
            snapshots: names.plain("snapshots", "Finished snapshots"),
            snapshot_last_success: names.seconds(
                "snapshot_last_success_timestamp",
                "When the last snapshot succeeded, as Unix time; 0 when none has since start",
            ),
            snapshot_last_duration: names.seconds("snapshot_last_duration", "Duration of the last snapshot"),
            rotations: names.plain("rotations", "Finished log rewrites"),
            rotation_last_success: names.seconds(
                "rotation_last_success_timestamp",
                "When the last log rewrite succeeded, as Unix time; 0 when none has since start",
            ),
            rotation_last_duration: names
                .seconds("rotation_last_duration", "Duration of the last log rewrite"),
            points: names.plain("points", "Persistence points taken, by what asked for them"),
            warnings: names.plain("warnings", "Warnings raised, by kind"),
            volume_size: names.bytes("volume_size", "Size of the volume"),
            volume_available: names.bytes("volume_available", "Free space of the volume"),
            recovery_truncated: names
                .bytes("recovery_truncated", "Bytes of a torn tail that were cut off at start"),
            recovery_duration: names.seconds("recovery_duration", "Duration of the load at start"),
            backups: names.plain("backups", "Finished backups to a bucket"),
            backup_last_success: names.seconds(
                "backup_last_success_timestamp",
                "When the last backup succeeded, as Unix time; 0 when none has since start",
            ),
            backup_uploaded: names.bytes("backup_uploaded", "Bytes sent to buckets"),
            barrier_held: names.plain("barrier_held", "1 while a persistence barrier is held"),
            barriers_expired: names
                .plain("barriers_expired", "Persistence barriers that ended by their time-out"),
            states: names.plain("state", "1 for what the server is doing, 0 for everything else"),
            registry: Registry::default(),
        };
        let build: Family<BuildLabels, Amount> = names.plain("build_info", "Version of the server");
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        // A series that appears only with its first event cannot be alerted on: a rate needs a zero before.
        for outcome in Outcome::ALL {
            for family in [&metrics.snapshots, &metrics.rotations, &metrics.backups] {
                drop(family.get_or_create(&outcome));
            }
        }
        Self { registry: names.0, ..metrics }
    }

    /// Takes over the running totals. Cheap enough for every publication of the status.
    pub(crate) fn publish(&self, totals: &Totals<'_>) {
        let Totals {
            commands,
            error_replies,
            expired_keys,
            evicted_keys,
            connections,
            connections_accepted,
            connections_refused,
            input_bytes,
            output_bytes,
            keys,
            used_memory_bytes,
            last_offset,
            durable_offset,
            unsynced_age,
            log_bytes,
            writes_refused,
            barrier_held,
            points,
            warnings,
        } = totals;
        for (counter, total) in [
            (&self.commands, commands),
            (&self.error_replies, error_replies),
            (&self.expired_keys, expired_keys),
            (&self.evicted_keys, evicted_keys),
            (&self.connections_accepted, connections_accepted),
            (&self.connections_refused, connections_refused),
            (&self.input_bytes, input_bytes),
            (&self.output_bytes, output_bytes),
        ] {
            take_over(counter, *total);
        }
        for (gauge, amount) in [
            (&self.connections, *connections),
            (&self.keys, *keys),
            (&self.used_memory, *used_memory_bytes),
            (&self.last_offset, *last_offset),
            (&self.durable_offset, *durable_offset),
            (&self.unsynced, last_offset.saturating_sub(*durable_offset)),
            (&self.log, *log_bytes),
            (&self.writes_refused, u64::from(*writes_refused)),
            (&self.barrier_held, u64::from(*barrier_held)),
        ] {
            gauge.set(amount);
        }
        self.unsynced_age.set(unsynced_age.as_secs_f64());
        for (family, counts) in [(&self.points, points), (&self.warnings, warnings)] {
            for (kind, total) in counts.iter() {
                take_over(&family.get_or_create(&Kind { kind }), *total);
            }
        }
    }

    /// A sync of the log took this long.
    pub(crate) fn sync_took(&self, took: Duration) {
        self.syncs.inc();
        self.sync_duration.observe(took.as_secs_f64());
    }

    /// A write or sync failed, and nothing is acknowledged any more.
    pub(crate) fn storage_failed(&self) {
        self.storage_failures.inc();
    }

    /// A background job ended after this time; `succeeded_ms` is the wall time when it succeeded.
    pub(crate) fn job_ended(&self, job: Job, took: Duration, succeeded_ms: Option<u64>) {
        let (ends, last_success, last_duration) = match job {
            Job::Snapshot => (&self.snapshots, &self.snapshot_last_success, &self.snapshot_last_duration),
            Job::Rotation => (&self.rotations, &self.rotation_last_success, &self.rotation_last_duration),
        };
        ends.get_or_create(&Outcome::of(succeeded_ms.is_some())).inc();
        last_duration.set(took.as_secs_f64());
        if let Some(succeeded_ms) = succeeded_ms {
            last_success.set(unix_seconds(succeeded_ms));
        }
    }

    /// The volume was measured.
    pub(crate) fn volume(&self, space: Space) {
        self.volume_size.set(space.total);
        self.volume_available.set(space.available);
    }

    /// The data was loaded, after a torn tail of this length was cut off.
    pub(crate) fn recovered(&self, took: Duration, truncated_bytes: u64) {
        self.recovery_duration.set(took.as_secs_f64());
        self.recovery_truncated.set(truncated_bytes);
    }

    /// A persistence barrier ended by its time-out.
    pub(crate) fn barrier_expired(&self) {
        self.barriers_expired.inc();
    }

    /// Bytes have arrived in a bucket.
    pub(crate) fn uploaded(&self, bytes: u64) {
        self.backup_uploaded.inc_by(bytes);
    }

    /// A backup ended; `succeeded_ms` is the wall time when it succeeded.
    pub(crate) fn backup_ended(&self, succeeded_ms: Option<u64>) {
        self.backups.get_or_create(&Outcome::of(succeeded_ms.is_some())).inc();
        if let Some(succeeded_ms) = succeeded_ms {
            self.backup_last_success.set(unix_seconds(succeeded_ms));
        }
    }

    /// Sets which of the states is the current one.
    pub(crate) fn set_state(&self, current: ServerState) {
        for state in STATES {
            let label = StateLabel { state: state_name(state) };
            self.states.get_or_create(&label).set(u64::from(state == current));
        }
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
pub(crate) fn state_name(state: ServerState) -> &'static str {
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

/// Registers metrics under their names.
struct Names(Registry);

impl Names {
    fn plain<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    fn bytes<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register_with_unit(name, help, Unit::Bytes, metric.clone());
        metric
    }

    fn seconds(&mut self, name: &str, help: &str) -> Seconds {
        let metric = Seconds::default();
        self.0.register_with_unit(name, help, Unit::Seconds, metric.clone());
        metric
    }

    fn histogram(&mut self, name: &str, help: &str) -> Histogram {
        let metric = Histogram::new(exponential_buckets(SYNC_BUCKET_FIRST, 2.0, SYNC_BUCKETS));
        self.0.register_with_unit(name, help, Unit::Seconds, metric.clone());
        metric
    }
}

/// A total that went back (`CONFIG RESETSTAT`) is what monitors take for a restart.
fn take_over(counter: &Counter, total: u64) {
    counter.inner().store(total, Ordering::Relaxed);
}

/// Milliseconds since the Unix epoch as the seconds that Prometheus wants.
#[expect(clippy::cast_precision_loss, reason = "53 bits of milliseconds last 285,000 years")]
fn unix_seconds(unix_ms: u64) -> f64 {
    unix_ms as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(names > 30 && names == helps);
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn what_happened_can_be_read() {
        let metrics = Metrics::new();
        metrics.publish(&Totals { commands: 9, ..Totals::default() });
        metrics.publish(&Totals {
            commands: 3,
            used_memory_bytes: 1 << 40,
            last_offset: 100,
            durable_offset: 40,
            unsynced_age: Duration::from_millis(250),
            warnings: &[("slow_sync", 2)],
            ..Totals::default()
        });
        metrics.sync_took(Duration::from_millis(3));
        metrics.job_ended(Job::Snapshot, Duration::from_secs(2), Some(1_700_000_000_500));
        metrics.job_ended(Job::Rotation, Duration::from_secs(1), None);
        metrics.backup_ended(Some(1_700_000_000_500));
        metrics.uploaded(7);
        metrics.volume(Space { total: 10, available: 4 });
        metrics.set_state(ServerState::Loading);
        metrics.set_state(ServerState::Ready);
        let text = metrics.render();
        for line in [
            "holdfast_commands_total 3",
            "holdfast_unsynced_bytes 60",
            "holdfast_unsynced_age_seconds 0.25",
            "holdfast_syncs_total 1",
            "holdfast_backups_total{result=\"failure\"} 0",
            "holdfast_sync_duration_seconds_count 1",
            "holdfast_snapshots_total{result=\"success\"} 1",
            "holdfast_snapshot_last_success_timestamp_seconds 1700000000.5",
            "holdfast_rotations_total{result=\"failure\"} 1",
            "holdfast_rotation_last_success_timestamp_seconds 0.0",
            "holdfast_warnings_total{kind=\"slow_sync\"} 2",
            "holdfast_backup_last_success_timestamp_seconds 1700000000.5",
            "holdfast_backup_uploaded_bytes_total 7",
            "holdfast_used_memory_bytes 1099511627776",
            "holdfast_volume_available_bytes 4",
            "holdfast_state{state=\"ready\"} 1",
            "holdfast_state{state=\"loading\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} not in\n{text}");
        }
    }
}
