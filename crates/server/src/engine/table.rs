//! The key table of one database: a segmented extendible hash table that can be saved while it changes.
//!
//! ```text
//!  hash (32 bits):  dddd…d ............ bbbbbb
//!                   │                   └ bucket within the segment
//!                   └ directory ─▶ segment of 64 buckets ─▶ bucket: a short list of records, and an epoch
//! ```
//!
//! - A segment that is full on average splits in two by one more bit of the hash; no insert ever moves more than one
//!   segment. Two halves that have become nearly empty merge again, and the directory shrinks with them.
//! - **Snapshots.** A cut starts a new epoch. A bucket whose epoch is older has not been saved; whoever is about to change
//!   it saves it first (a split saves its whole segment), and a walk saves the rest. So what is saved is exactly the
//!   content at the cut, each key once, in no particular order. Saved entries wait in the table until they are taken.
//! - **Scanning** goes by hash, so a position stays valid when segments split or merge ([`scan`]).
//! - **Expiry** is in the record; an ordered index of (expiry, hash) finds what is due.
//!
//! Clients choose keys, so the hash is keyed by a secret seed.

mod scan;
mod segment;
mod snapshot;

use std::collections::BTreeSet;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::engine::value::{Entry, Value};
pub(crate) use segment::Record;
use segment::{BUCKETS, Segment, bucket_of};
use snapshot::Saving;

/// Records a segment holds before it splits: ten a bucket.
const SPLIT_LEN: usize = BUCKETS * 10;
/// Records two halves may hold together to be merged: two a bucket, far enough from [`SPLIT_LEN`] not to swing.
const MERGE_LEN: usize = BUCKETS * 2;
/// Most bits of the hash that choose a segment; the other six choose the bucket.
const DEPTH_MAX: u32 = 26;
/// Estimate of what one element of the expiry index takes, nodes and their slack included, in bytes.
const EXPIRY_COST: usize = 24;

/// Key of the hash function; secret, random per process.
#[derive(Debug, Clone, Copy)]
pub struct HashSeed(pub [u64; 2]);

/// Where a record is. Valid until the table changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    segment: u32,
    bucket: u32,
    slot: u32,
}

#[derive(Debug)]
pub(crate) struct Table {
    seed: HashSeed,
    /// Index into `segments` by the top `depth` bits of the hash.
    directory: Vec<u32>,
    depth: u32,
    /// Segments by number; numbers of merged segments are used again.
    segments: Vec<Option<Box<Segment>>>,
    free: Vec<u32>,
    /// Number of segments at each depth, to know when the directory can shrink.
    at_depth: [u32; DEPTH_MAX as usize + 1],
    len: usize,
    /// Bytes of records, segments and index, as estimated by `Record::memory_bytes` and the constants here.
    bytes: usize,
    /// Pairs of (expiry, hash). Two keys that share both share an element, so lookups scan the bucket.
    expiry: BTreeSet<(i64, u32)>,
    expiring: usize,
    /// Sum of all expiries, for their mean.
    expiry_sum: i128,
    epoch: u32,
    saving: Option<Saving>,
    /// Saved and not yet taken.
    pending: Vec<Entry>,
    pending_bytes: usize,
}

impl Table {
    pub(crate) fn new(seed: HashSeed, epoch: u32) -> Table {
        Table {
            seed,
            directory: Vec::new(),
            depth: 0,
            segments: Vec::new(),
            free: Vec::new(),
            at_depth: [0; DEPTH_MAX as usize + 1],
            len: 0,
            bytes: 0,
            expiry: BTreeSet::new(),
            expiring: 0,
            expiry_sum: 0,
            epoch,
            saving: None,
            pending: Vec::new(),
            pending_bytes: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Keys that have an expiry.
    pub(crate) fn expiring(&self) -> usize {
        self.expiring
    }

    /// Mean of all expiries in milliseconds since the Unix epoch.
    pub(crate) fn expiry_mean_ms(&self) -> Option<i64> {
        let count = i128::try_from(self.expiring).ok().filter(|&count| count > 0)?;
        i64::try_from(self.expiry_sum / count).ok()
    }

    /// Bytes held, saved and not yet taken entries included.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes + self.pending_bytes + self.directory.len() * size_of::<u32>()
    }

    pub(crate) fn hash(&self, key: &[u8]) -> u32 {
        let mut hasher = SipHasher13::new_with_keys(self.seed.0[0], self.seed.0[1]);
        hasher.write(key);
        u32::try_from(hasher.finish() >> 32).expect("32 bits are left")
    }

    pub(crate) fn find(&self, hash: u32, key: &[u8]) -> Option<Position> {
        if self.len == 0 {
            return None;
        }
        let segment = self.segment_of(hash);
        let bucket = bucket_of(hash);
        let records = &self.segments[segment as usize].as_ref()?.buckets[bucket].records;
        let slot = records.iter().position(|record| record.hash == hash && *record.key == *key)?;
        Some(Position { segment, bucket: index(bucket), slot: index(slot) })
    }

    pub(crate) fn record(&self, at: Position) -> &Record {
        &self.segment(at.segment).buckets[at.bucket as usize].records[at.slot as usize]
    }

    /// Notes an access, which is not part of what snapshots save.
    pub(crate) fn touch(&mut self, at: Position, seconds: u32) {
        let segment = self.segments[at.segment as usize].as_mut().expect("positions point at segments");
        segment.buckets[at.bucket as usize].records[at.slot as usize].set_accessed(seconds);
    }

    /// Inserts a key that is not there.
    pub(crate) fn insert(&mut self, hash: u32, record: Record) {
        debug_assert!(self.find(hash, &record.key).is_none(), "the key is new");
        if self.directory.is_empty() {
            self.directory.push(0);
            self.segments.push(Some(Segment::new(0, 0, self.epoch)));
            self.at_depth[0] = 1;
            self.bytes += Segment::MEMORY_BYTES;
        }
        let mut number = self.segment_of(hash);
        if self.segment(number).len >= SPLIT_LEN && self.split(number) {
            number = self.segment_of(hash);
        }
        let bucket = bucket_of(hash);
        self.save_bucket(number, bucket);
        self.bytes += record.memory_bytes();
        self.len += 1;
        if let Some(expiry) = record.expires_at_ms() {
            self.index_expiry(expiry, hash);
        }
        let segment = self.segment_mut(number);
        segment.len += 1;
        segment.buckets[bucket].records.push(record);
    }

    pub(crate) fn remove(&mut self, at: Position) -> Record {
        self.save_bucket(at.segment, at.bucket as usize);
        let segment = self.segment_mut(at.segment);
        let bucket = &mut segment.buckets[at.bucket as usize];
        let record = bucket.records.swap_remove(at.slot as usize);
        bucket.release_slack();
        segment.len -= 1;
        let segment_len = segment.len;
        self.bytes -= record.memory_bytes();
        self.len -= 1;
        if let Some(expiry) = record.expires_at_ms() {
            self.unindex_expiry(expiry, record.hash);
        }
        // Looking at the neighbour now and then is enough, and keeps removal cheap.
        if segment_len <= MERGE_LEN && segment_len.is_multiple_of(BUCKETS / 2) {
            self.merge(at.segment);
        }
        record
    }

    /// Changes the value of a record in place.
    pub(crate) fn modify<R>(&mut self, at: Position, change: impl FnOnce(&mut Record) -> R) -> R {
        self.save_bucket(at.segment, at.bucket as usize);
        let segment = self.segments[at.segment as usize].as_mut().expect("positions point at segments");
        let record = &mut segment.buckets[at.bucket as usize].records[at.slot as usize];
        let before = record.memory_bytes();
        let expiry = record.expires_at_ms();
        let result = change(record);
        debug_assert_eq!(record.expires_at_ms(), expiry, "expiry is changed by set_expiry");
        self.bytes = self.bytes - before + record.memory_bytes();
        result
    }

    pub(crate) fn set_expiry(&mut self, at: Position, expires_at_ms: Option<i64>) {
        let record = self.record(at);
        let (hash, before) = (record.hash, record.expires_at_ms());
        if before == expires_at_ms {
            return;
        }
        self.save_bucket(at.segment, at.bucket as usize);
        let segment = self.segments[at.segment as usize].as_mut().expect("positions point at segments");
        segment.buckets[at.bucket as usize].records[at.slot as usize].set_expires_at_ms(expires_at_ms);
        if let Some(expiry) = before {
            self.unindex_expiry(expiry, hash);
        }
        if let Some(expiry) = expires_at_ms {
            self.index_expiry(expiry, hash);
        }
    }

    /// The earliest expiry of all keys.
    pub(crate) fn first_expiry(&self) -> Option<i64> {
        self.expiry.first().map(|&(expiry, _)| expiry)
    }

    /// A key whose expiry is before `now_ms`, the earliest first.
    pub(crate) fn first_expired(&mut self, now_ms: i64) -> Option<Position> {
        loop {
            let &(expiry, hash) = self.expiry.first()?;
            if expiry >= now_ms {
                return None;
            }
            let segment = self.segment_of(hash);
            let bucket = bucket_of(hash);
            let slot = self.segment(segment).buckets[bucket]
                .records
                .iter()
                .position(|record| record.hash == hash && record.expires_at_ms() == Some(expiry));
            match slot {
                Some(slot) => return Some(Position { segment, bucket: index(bucket), slot: index(slot) }),
                // Cannot happen; a stale element must not stop expiry for ever.
                None => {
                    self.expiry.pop_first();
                }
            }
        }
    }

    /// A record near the place that `random` points at; every record can be met.
    pub(crate) fn near(&self, random: u64) -> Option<Position> {
        if self.len == 0 {
            return None;
        }
        let start = self.segment_of(u32::try_from(random >> 32).expect("32 bits are left"));
        let count = self.segments.len();
        (0..count)
            .map(|step| (start as usize + step) % count)
            .filter_map(|number| Some((number, self.segments[number].as_ref()?)))
            .find(|(_, segment)| segment.len > 0)
            .and_then(|(number, segment)| {
                let first = usize::try_from(random & (BUCKETS as u64 - 1)).expect("fits");
                let bucket = (0..BUCKETS)
                    .map(|step| (first + step) % BUCKETS)
                    .find(|&bucket| !segment.buckets[bucket].records.is_empty())?;
                let len = segment.buckets[bucket].records.len();
                let slot = usize::try_from((random >> 6) & 0xff_ffff).expect("24 bits") % len;
                Some(Position { segment: index(number), bucket: index(bucket), slot: index(slot) })
            })
    }

    /// All records, in no particular order.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.segments
            .iter()
            .flatten()
            .flat_map(|segment| segment.buckets.iter().flat_map(|bucket| bucket.records.iter()))
    }

    fn index_expiry(&mut self, expiry: i64, hash: u32) {
        self.expiring += 1;
        self.expiry_sum += i128::from(expiry);
        if self.expiry.insert((expiry, hash)) {
            self.bytes += EXPIRY_COST;
        }
    }

    /// To be called when no record bears `expiry` on behalf of this key any more.
    fn unindex_expiry(&mut self, expiry: i64, hash: u32) {
        self.expiring -= 1;
        self.expiry_sum -= i128::from(expiry);
        let shared = self.segment(self.segment_of(hash)).buckets[bucket_of(hash)]
            .records
            .iter()
            .any(|record| record.hash == hash && record.expires_at_ms() == Some(expiry));
        if !shared && self.expiry.remove(&(expiry, hash)) {
            self.bytes -= EXPIRY_COST;
        }
    }

    fn segment_of(&self, hash: u32) -> u32 {
        self.directory[directory_index(hash, self.depth)]
    }

    fn segment(&self, number: u32) -> &Segment {
        self.segments[number as usize].as_ref().expect("the directory points at segments")
    }

    fn segment_mut(&mut self, number: u32) -> &mut Segment {
        self.segments[number as usize].as_mut().expect("the directory points at segments")
    }

    /// Splits a segment by its next bit; false when there is none left.
    fn split(&mut self, number: u32) -> bool {
        let depth = self.segment(number).depth;
        if depth == DEPTH_MAX {
            return false;
        }
        self.save_segment(number);
        if depth == self.depth {
            self.directory = self.directory.iter().flat_map(|&number| [number, number]).collect();
            self.depth += 1;
        }
        let sibling = match self.free.pop() {
            Some(number) => number,
            None => {
                self.segments.push(None);
                index(self.segments.len() - 1)
            }
        };
        // The entries of a segment are neighbours; the upper half of them becomes the sibling's.
        let entries = self.directory_range(number);
        let epoch = self.epoch;
        let upper = self.segment_mut(number).split(epoch);
        self.segments[sibling as usize] = Some(upper);
        self.bytes += Segment::MEMORY_BYTES;
        self.at_depth[depth as usize] -= 1;
        self.at_depth[depth as usize + 1] += 2;
        let middle = entries.start + entries.len() / 2;
        self.directory[middle..entries.end].fill(sibling);
        true
    }

    /// Directory entries of a segment.
    fn directory_range(&self, number: u32) -> std::ops::Range<usize> {
        let segment = self.segment(number);
        let start = directory_index(segment.start, self.depth);
        start..start + (1usize << (self.depth - segment.depth))
    }

    /// Merges a nearly empty segment with its other half, if that is not split further and nearly empty too.
    fn merge(&mut self, number: u32) {
        // The walk of a snapshot goes by segment number; merging waits until it is over.
        if self.saving.is_some() {
            return;
        }
        if self.len == 0 {
            *self = Table::new(self.seed, self.epoch);
            return;
        }
        let depth = self.segment(number).depth;
        if depth == 0 {
            return;
        }
        let entries = self.directory_range(number);
        let sibling_start = entries.start ^ entries.len();
        let sibling = self.directory[sibling_start];
        let other = self.segment(sibling);
        if other.depth != depth || other.len + self.segment(number).len > MERGE_LEN {
            return;
        }
        let emptied = self.segments[sibling as usize].take().expect("the directory points at segments");
        self.free.push(sibling);
        self.bytes -= Segment::MEMORY_BYTES;
        self.segment_mut(number).absorb(*emptied);
        self.directory[sibling_start..sibling_start + entries.len()].fill(number);
        self.at_depth[depth as usize] -= 2;
        self.at_depth[depth as usize - 1] += 1;
        while self.depth > 0 && self.at_depth[self.depth as usize] == 0 {
            self.directory = self.directory.iter().copied().step_by(2).collect();
            self.depth -= 1;
        }
    }
}

fn directory_index(hash: u32, depth: u32) -> usize {
    // A shift by 32 is not defined, hence the detour.
    usize::try_from(u64::from(hash) >> (32 - depth)).expect("at most 26 bits are left")
}

/// Numbers of segments, buckets and slots fit: memory ends first.
fn index(value: usize) -> u32 {
    u32::try_from(value).expect("fewer than 2^32")
}

impl Record {
    pub(crate) fn new(key: Box<[u8]>, value: Value, hash: u32, expires_at_ms: Option<i64>) -> Record {
        let mut record = Record { key, value, expires: Record::NO_EXPIRY, hash, state: 0 };
        record.set_expires_at_ms(expires_at_ms);
        record
    }
}

#[cfg(test)]
mod tests;
