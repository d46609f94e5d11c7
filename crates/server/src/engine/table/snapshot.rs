//! Saving a table while it changes: the cut, the pre-images, the walk.

use super::segment::BUCKETS;
use super::{Record, Table};
use crate::engine::value::{Entry, Value};

/// The walk over what has not been saved yet.
///
/// Segments numbered `segment_count` and above were made by splits after the cut, hence saved; splits put the upper half
/// of an unsaved segment there only after saving it whole. Merges wait until the walk is over.
#[derive(Debug)]
pub(super) struct Saving {
    /// Database index at the cut.
    db: u32,
    segment: usize,
    bucket: usize,
    segment_count: usize,
}

impl Table {
    /// Takes the cut: everything here now belongs to the snapshot, as database `db`.
    pub(crate) fn begin_saving(&mut self, epoch: u32, db: u32) {
        debug_assert!(epoch > self.epoch, "epochs grow");
        self.epoch = epoch;
        self.pending = Vec::new();
        self.pending_bytes = 0;
        self.saving = Some(Saving { db, segment: 0, bucket: 0, segment_count: self.segments.len() });
    }

    /// Whether the snapshot still needs something of this table.
    pub(crate) fn is_saving(&self) -> bool {
        self.saving.is_some()
    }

    /// Ends the snapshot without completing it.
    pub(crate) fn abort_saving(&mut self) {
        self.saving = None;
        self.pending = Vec::new();
        self.pending_bytes = 0;
    }

    /// Bytes of entries saved because they were about to change, and not yet taken.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Moves about `budget` entries (whole buckets) of the snapshot to `out`; gives what is left of the budget, and
    /// whether the table is done.
    pub(crate) fn save(&mut self, budget: usize, out: &mut Vec<Entry>) -> (usize, bool) {
        let mut left = budget;
        if !self.pending.is_empty() {
            left = left.saturating_sub(self.pending.len());
            out.append(&mut self.pending);
            self.pending = Vec::new();
            self.pending_bytes = 0;
        }
        let Some(saving) = &mut self.saving else { return (left, true) };
        while saving.segment < saving.segment_count {
            if left == 0 {
                return (0, false);
            }
            if let Some(Some(segment)) = self.segments.get_mut(saving.segment) {
                let bucket = &mut segment.buckets[saving.bucket];
                if bucket.epoch < self.epoch {
                    bucket.epoch = self.epoch;
                    left = left.saturating_sub(bucket.records.len());
                    out.extend(bucket.records.iter().map(|record| record.to_entry(saving.db)));
                }
            }
            saving.bucket += 1;
            if saving.bucket == BUCKETS {
                saving.bucket = 0;
                saving.segment += 1;
            }
        }
        self.saving = None;
        (left, true)
    }

    /// Saves a bucket that is about to change.
    pub(super) fn save_bucket(&mut self, number: u32, bucket: usize) {
        let Some(saving) = &self.saving else { return };
        let segment = self.segments[number as usize].as_mut().expect("the directory points at segments");
        let bucket = &mut segment.buckets[bucket];
        if bucket.epoch < self.epoch {
            bucket.epoch = self.epoch;
            for record in &bucket.records {
                let entry = record.to_entry(saving.db);
                self.pending_bytes += entry_bytes(&entry);
                self.pending.push(entry);
            }
        }
    }

    /// Saves a segment that is about to split.
    pub(super) fn save_segment(&mut self, number: u32) {
        if self.saving.is_some() {
            for bucket in 0..BUCKETS {
                self.save_bucket(number, bucket);
            }
        }
    }
}

impl Record {
    pub(crate) fn to_entry(&self, db: u32) -> Entry {
        Entry { db, key: self.key.clone(), value: self.value.clone(), expires_at_ms: self.expires_at_ms() }
    }
}

/// Bytes an entry takes while it waits.
pub(super) fn entry_bytes(entry: &Entry) -> usize {
    let value = match &entry.value {
        Value::Int(_) => 0,
        Value::Bytes(bytes) => bytes.len(),
    };
    size_of::<Entry>() + entry.key.len() + value
}
