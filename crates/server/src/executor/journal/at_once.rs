//! What is written while everything waits: the snapshot of SAVE and of a clean stop, and the base of a new log.

use std::time::{Duration, Instant};

use holdfast_contract::control::JobReport;

use super::jobs::{JobKind, slice_len};
use super::{Journal, JournalSettings};
use crate::engine::{Chunk, Engine};
use crate::error_chain::error_chain;
use crate::persistence::log::segments::{Log, SegmentStart, create_log_directory};
use crate::persistence::manifest::Manifest;
use crate::persistence::snapshot::job::{SnapshotJobError, SnapshotPlan, WrittenSnapshot, write_snapshot};
use crate::persistence::snapshot::{RdbOptions, SnapshotAux, TEMP_SNAPSHOT};
use crate::storage::Storage;

impl JournalSettings {
    /// How a snapshot of `engine` at `offset` is written, and what it says of itself.
    pub(super) fn rdb_options(
        &self,
        aof_base: bool,
        offset: u64,
        engine: &Engine,
        now_ms: u64,
    ) -> RdbOptions {
        let aux = SnapshotAux {
            created_s: now_ms / 1000,
            used_memory: engine.used_memory(),
            aof_base,
            replication: None,
            store_id: Some(self.owner.store_id.clone()),
            epoch: Some(self.owner.epoch),
            offset: Some(offset),
        };
        RdbOptions { compression: self.compression, checksum: self.checksum, aux: aux.fields() }
    }
}

impl Journal {
    /// Writes the snapshot here and now (SAVE, clean stop).
    ///
    /// # Errors
    /// Why not, as text; the snapshot from before then stays.
    pub fn save_now(&mut self, engine: &mut Engine, now_ms: u64) -> Result<(), String> {
        if self.job.is_some() {
            return Err("another background job is running".to_owned());
        }
        let started = Instant::now();
        let offset = self.offset();
        let plan = SnapshotPlan {
            temp_path: self.settings.dir.join(TEMP_SNAPSHOT),
            final_path: Some(self.snapshot_path()),
            rdb: self.settings.rdb_options(false, offset, engine, now_ms),
            digest: false,
            leaves_room: false,
        };
        let written = self.make_way_for_snapshot().and_then(|()| {
            write_all(&*self.storage, &plan, engine, now_ms, self.key_delay)
                .map_err(|error| error_chain(&error))
        });
        match written {
            Ok(written) => {
                let took = started.elapsed();
                let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                let report = JobReport {
                    completed_ms: now_ms + duration_ms,
                    bytes: written.bytes,
                    duration_ms,
                    offset,
                };
                self.save_backoff.succeeded();
                self.saved(report, took, engine.dirty());
                Ok(())
            }
            Err(error) => {
                self.save_backoff.failed(self.now());
                self.job_failed(&JobKind::Save, error.clone());
                Err(error)
            }
        }
    }
}

/// Writes all of the engine's data.
///
/// # Errors
/// [`SnapshotJobError`].
fn write_all(
    storage: &dyn Storage,
    plan: &SnapshotPlan,
    engine: &mut Engine,
    now_ms: u64,
    key_delay: Duration,
) -> Result<WrittenSnapshot, SnapshotJobError> {
    engine.snapshot_begin(i64::try_from(now_ms).unwrap_or(i64::MAX));
    let mut done = false;
    let chunks = std::iter::from_fn(|| {
        if done {
            return None;
        }
        let mut chunk = Chunk::default();
        done = engine.snapshot_step(slice_len(key_delay), &mut chunk);
        if !key_delay.is_zero() {
            std::thread::sleep(key_delay.saturating_mul(u32::try_from(chunk.keys()).unwrap_or(u32::MAX)));
        }
        Some(chunk)
    });
    let result = write_snapshot(storage, plan, chunks);
    engine.snapshot_abort();
    result
}

/// Starts a log over the data in `engine`: writes the base, then the manifest.
///
/// # Errors
/// The reason, as text.
pub(crate) fn create_log(
    storage: &dyn Storage,
    settings: &JournalSettings,
    previous: Option<&Manifest>,
    engine: &mut Engine,
    offset: u64,
    now_ms: u64,
) -> Result<Log, String> {
    create_log_directory(storage, &settings.log).map_err(|error| error_chain(&error))?;
    let plan = SnapshotPlan {
        temp_path: settings.log.temp_base(),
        final_path: None,
        rdb: settings.rdb_options(true, offset, engine, now_ms),
        digest: false,
        leaves_room: false,
    };
    let written =
        write_all(storage, &plan, engine, now_ms, Duration::ZERO).map_err(|error| error_chain(&error))?;
    let start = SegmentStart { offset, seed: rand::random(), now_ms };
    Log::create(storage, settings.log.clone(), settings.owner.clone(), previous, start, written.bytes)
        .map_err(|error| error_chain(&error))
}
