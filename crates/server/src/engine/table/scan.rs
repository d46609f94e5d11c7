//! Scanning by hash.
//!
//! Buckets are visited in the order of (top bits of the hash, bucket). A cursor names the next one: the smallest hash of
//! its segment, the depth the segment had, and the bucket. Everything before that has been visited, whatever the
//! segments look like by now:
//!
//! - the segment has split since: its first half is continued at the bucket, the second half is visited whole, so some
//!   keys are met twice and none is missed;
//! - it has merged since: the merged one is visited from its first bucket, again meeting some keys twice.
//!
//! A key never changes its hash, so every key that is there throughout is met at least once.

use super::segment::BUCKETS;
use super::{DEPTH_MAX, Position, Table, index};

const DEPTH_SHIFT: u32 = 6;
const HASH_SHIFT: u32 = 11;

impl Table {
    /// Visits one bucket and gives the cursor of the next; 0 stands for the start, and for the end.
    ///
    /// Any number is accepted as a cursor; one that was never given out continues somewhere.
    pub(crate) fn scan_bucket(&self, cursor: u64, mut visit: impl FnMut(Position)) -> u64 {
        if self.len == 0 {
            return 0;
        }
        let hash = u32::try_from((cursor >> HASH_SHIFT) & u64::from(u32::MAX)).expect("32 bits are left");
        let depth = u32::try_from((cursor >> DEPTH_SHIFT) & 31).expect("five bits are left").min(DEPTH_MAX);
        let mut bucket = usize::try_from(cursor).unwrap_or(usize::MAX) & (BUCKETS - 1);
        let number = self.segment_of(hash);
        let segment = self.segment(number);
        if segment.depth < depth {
            bucket = 0;
        }
        for slot in 0..segment.buckets[bucket].records.len() {
            visit(Position { segment: number, bucket: index(bucket), slot: index(slot) });
        }
        let start = u64::from(segment.start);
        let (start, bucket) =
            if bucket + 1 < BUCKETS { (start, bucket + 1) } else { (start + (1 << (32 - segment.depth)), 0) };
        if start > u64::from(u32::MAX) {
            return 0;
        }
        start << HASH_SHIFT | u64::from(segment.depth) << DEPTH_SHIFT | bucket as u64
    }
}
