//! Saving a table while it changes: the cut, the pre-images, the walk.

use super::Table;
use crate::engine::access::AccessMeter;
use crate::engine::chunk::Chunk;

/// The walk over what has not been saved yet.
///
/// Segments numbered `segment_count` and above were made by splits after the cut, hence saved. Merges wait until the walk
/// is over.
#[derive(Debug)]
pub(super) struct Saving {
    /// Database index at the cut.
    db: u32,
    /// How the last use of keys is saved; none when it is not.
    meter: Option<AccessMeter>,
    segment: usize,
    bucket: usize,
    segment_count: usize,
}

impl Table {
    /// Takes the cut: everything here now belongs to the snapshot, as database `db`.
    pub(crate) fn begin_saving(&mut self, epoch: u32, db: u32, meter: Option<AccessMeter>) {
        debug_assert!(epoch > self.epoch, "epochs grow");
        self.epoch = epoch;
        self.pending = Chunk::default();
        self.saving = Some(Saving { db, meter, segment: 0, bucket: 0, segment_count: self.segments.len() });
    }

    /// Whether the snapshot still needs something of this table.
    pub(crate) fn is_saving(&self) -> bool {
        self.saving.is_some()
    }

    /// Ends the snapshot without completing it.
    pub(crate) fn abort_saving(&mut self) {
        self.saving = None;
        self.pending = Chunk::default();
    }

    /// Bytes of entries saved because they were about to change, and not yet taken.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending.held_bytes()
    }

    /// Moves whole buckets of the snapshot to `out` until it holds about `budget` bytes; true when the table is done.
    pub(crate) fn save(&mut self, budget: usize, out: &mut Chunk) -> bool {
        out.append(&mut self.pending);
        let Some(saving) = &mut self.saving else { return true };
        let mut looked_at = 0;
        while saving.segment < saving.segment_count {
            // Buckets that hold nothing cost time as well.
            if out.held_bytes() + looked_at >= budget {
                return false;
            }
            if let Some(segment) = self.segments.get_mut(saving.segment)
                && saving.bucket < segment.buckets.count()
            {
                looked_at += 16;
                if !segment.is_saved(saving.bucket, self.epoch) {
                    segment.set_saved(saving.bucket, self.epoch);
                    let bucket = &segment.buckets.all()[saving.bucket];
                    bucket.occupied().for_each(|slot| out.push(saving.db, bucket.view(slot), saving.meter));
                }
                saving.bucket += 1;
            } else {
                saving.bucket = 0;
                saving.segment += 1;
            }
        }
        self.saving = None;
        true
    }

    /// Saves a bucket that is about to change.
    #[inline]
    pub(super) fn save_bucket(&mut self, number: u32, bucket: usize) {
        if self.saving.is_some() {
            self.save_bucket_now(number, bucket);
        }
    }

    fn save_bucket_now(&mut self, number: u32, bucket: usize) {
        let Some(saving) = &self.saving else { return };
        let segment = self.segments.get_mut(number as usize).expect("routes and positions name segments");
        if !segment.is_saved(bucket, self.epoch) {
            segment.set_saved(bucket, self.epoch);
            let bucket = &segment.buckets.all()[bucket];
            bucket.occupied().for_each(|slot| self.pending.push(saving.db, bucket.view(slot), saving.meter));
        }
    }

    /// Saves a segment that is about to be rebuilt.
    pub(super) fn save_segment(&mut self, number: u32) {
        if self.saving.is_some() {
            for bucket in 0..self.segment(number).buckets.count() {
                self.save_bucket_now(number, bucket);
            }
        }
    }
}
