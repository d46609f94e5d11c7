//! Segments: the part of a table that is rebuilt at once when it grows.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::bucket::{Bucket, Buckets, SLOTS, tag_of};
use crate::engine::object::{Entry, EntryView};
use holdfast_collections::hash::KeyHasher;

/// Most buckets of a segment: which of them are saved fits into one word, and with all of them it is a page of memory.
pub(super) const BUCKETS_MAX: usize = 64;

/// Where an entry is within its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) bucket: usize,
    pub(super) slot: usize,
}

/// The keys whose hashes begin with the same bits.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) buckets: Buckets,
    /// The smallest hash that belongs here.
    pub(super) start: u64,
    /// Bits of the hash that all its keys share.
    pub(super) depth: u32,
    pub(super) len: usize,
    /// Entries that it may hold before it grows or splits.
    pub(super) limit: usize,
    /// Buckets that are saved in the snapshot of `epoch`, as bits.
    saved: u64,
    epoch: u32,
    pub(super) expiry: ExpiryIndex,
}

/// Bits of the hash that choose the home bucket: as many as fit into a cursor, from the lower half.
pub(super) const ORDER_BITS: u32 = 18;
const ORDER_SHIFT: u32 = 32 - ORDER_BITS;

/// The home bucket of a hash. It grows with those bits, so that a place in this order stays valid when the number of
/// buckets changes.
#[inline]
pub(super) fn home_of(hash: u64, count: usize) -> usize {
    let order = hash >> ORDER_SHIFT & ((1 << ORDER_BITS) - 1);
    usize::try_from((order * count as u64) >> ORDER_BITS).expect("below the number of buckets")
}

/// Spreads what segments have in common, so that neighbours do not fill up at the same time.
fn mix(start: u64, depth: u32) -> u64 {
    let mixed = (start ^ u64::from(depth).rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

/// Buckets of a segment that has just split, and the next number before it splits: one of two paths. With both, and a
/// limit that differs a little, tables of any size are filled to about three quarters.
fn path(start: u64, depth: u32) -> [usize; 2] {
    if mix(start, depth) & 1 == 0 { [40, 56] } else { [48, BUCKETS_MAX] }
}

impl Segment {
    pub(super) const HEAD_LEN: usize = size_of::<Segment>();

    /// An empty segment, which needs no saving in the snapshot of `epoch`.
    pub(super) fn new(start: u64, depth: u32, count: usize, epoch: u32) -> Segment {
        let full = if count == 1 { SLOTS } else { count * SLOTS * 7 / 8 };
        let stagger =
            if count < 40 { 0 } else { usize::try_from(mix(start, depth) >> 8 & 31).expect("below 32") };
        Segment {
            buckets: Buckets::new(count),
            start,
            depth,
            len: 0,
            limit: full - stagger,
            saved: u64::MAX,
            epoch,
            expiry: ExpiryIndex::default(),
        }
    }

    /// Buckets of a segment that begins with `len` entries of a split or a merge.
    pub(super) fn count_for(start: u64, depth: u32, len: usize) -> usize {
        let [first, second] = path(start, depth);
        if len <= first * SLOTS * 3 / 4 { first } else { second }
    }

    /// The next number of buckets; none when it is time to split.
    pub(super) fn next_count(&self) -> Option<usize> {
        let count = self.buckets.count();
        let [first, second] = path(self.start, self.depth);
        match count {
            0..32 => Some(count * 2),
            32..40 => Some(first),
            _ if count < second => Some(second),
            _ => None,
        }
    }

    /// The number of buckets that so few entries need; none when the present one is right.
    pub(super) fn smaller_count(&self) -> Option<usize> {
        let count = self.buckets.count();
        if self.len * 4 >= count * SLOTS || count == 1 {
            return None;
        }
        let [first, _] = path(self.start, self.depth);
        Some(if count > first {
            first
        } else if count > 32 {
            32
        } else {
            count / 2
        })
    }

    pub(super) fn memory_bytes(&self) -> usize {
        Segment::HEAD_LEN + Buckets::memory_bytes(self.buckets.count()) + self.expiry.memory_bytes()
    }

    /// The part of [`Segment::memory_bytes`] that is the order of expiries.
    pub(super) fn expiry_bytes(&self) -> usize {
        self.expiry.memory_bytes()
    }

    pub(super) fn bucket_mut(&mut self, bucket: usize) -> &mut Bucket {
        &mut self.buckets.all_mut()[bucket]
    }

    /// All entries.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Place, EntryView<'_>)> {
        self.buckets.all().iter().enumerate().flat_map(|(at, bucket)| {
            bucket.occupied().map(move |slot| (Place { bucket: at, slot }, bucket.view(slot)))
        })
    }

    /// The bucket that an entry with this hash would be put into, and the free slot there. There is one below the limit.
    pub(super) fn free_place(&self, hash: u64) -> Place {
        let count = self.buckets.count();
        let home = home_of(hash, count);
        (0..count)
            .map(|step| (home + step) % count)
            .find_map(|bucket| {
                let slot = self.buckets.all()[bucket].matches(0).next()?;
                Some(Place { bucket, slot })
            })
            .expect("a segment splits before it is full")
    }

    /// Puts an entry where [`Segment::free_place`] says.
    pub(super) fn put(&mut self, hash: u64, place: Place, entry: Entry) {
        if let Some(at) = entry.view().expires_at_ms() {
            self.expiry.add(at, place);
        }
        self.each_passed(hash, place, Bucket::count_passing);
        self.bucket_mut(place.bucket).put(place.slot, tag_of(hash), entry);
        self.len += 1;
    }

    pub(super) fn take(&mut self, hash: u64, place: Place) -> Entry {
        let entry = self.bucket_mut(place.bucket).take(place.slot);
        self.each_passed(hash, place, Bucket::forget_passing);
        self.len -= 1;
        if entry.view().expires_at_ms().is_some() {
            self.expiry.forget_one();
        }
        entry
    }

    /// Visits the buckets between the home of a hash and a place.
    fn each_passed(&mut self, hash: u64, place: Place, visit: impl Fn(&mut Bucket)) {
        let count = self.buckets.count();
        let mut at = home_of(hash, count);
        while at != place.bucket {
            visit(self.bucket_mut(at));
            at = if at + 1 == count { 0 } else { at + 1 };
        }
    }

    /// The hashes of all entries, in the order of [`Segment::entries`].
    pub(super) fn hashes(&self, hasher: KeyHasher) -> Vec<u64> {
        let buckets = self.buckets.all();
        let mut hashes = Vec::with_capacity(self.len);
        for (at, bucket) in buckets.iter().enumerate() {
            // The entries of the bucket after the next arrive while those of this one are hashed.
            if let Some(ahead) = buckets.get(at + 2) {
                ahead.occupied().for_each(|slot| ahead.prefetch_entry(slot, 1));
            }
            hashes.extend(bucket.occupied().map(|slot| hasher.hash(bucket.view(slot).key())));
        }
        hashes
    }

    /// Moves all entries into other segments, each into the one that `choose` says of its hash. `hashes` are those of
    /// [`Segment::hashes`].
    pub(super) fn move_into(
        mut self,
        hashes: &[u64],
        choose: impl Fn(u64) -> usize,
        targets: &mut [&mut Segment],
    ) {
        let mut hashes = hashes.iter();
        for bucket in self.buckets.all_mut() {
            for slot in bucket.occupied() {
                let hash = *hashes.next().expect("one for each entry");
                let entry = bucket.take(slot);
                let target = &mut *targets[choose(hash)];
                let place = target.free_place(hash);
                target.put(hash, place, entry);
            }
        }
    }

    pub(super) fn is_saved(&self, bucket: usize, epoch: u32) -> bool {
        self.epoch == epoch && self.saved & 1 << bucket != 0
    }

    pub(super) fn set_saved(&mut self, bucket: usize, epoch: u32) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.saved = 0;
        }
        self.saved |= 1 << bucket;
    }
}

/// The keys of a segment that expire, the earliest first: eight bytes each.
///
/// Nothing is removed when an expiry changes or a key goes: what is met and no longer true is dropped then. The index is
/// rebuilt by its segment when most of it is stale.
#[derive(Debug, Default)]
pub(super) struct ExpiryIndex {
    heap: BinaryHeap<Reverse<u64>>,
    /// Keys that expire.
    live: usize,
    /// What the table knows as the earliest; none when it knows nothing of this segment.
    pub(super) announced: Option<u64>,
}

/// Bits of an element that name the place.
const PLACE_BITS: u32 = 10;
const _: () = assert!(BUCKETS_MAX * SLOTS <= 1 << PLACE_BITS, "places fit");
/// Latest time that an element can name, in milliseconds since the Unix epoch: the year 287,000. Later ones count as this.
const TIME_MAX: i64 = (1 << (63 - PLACE_BITS)) - 1;

/// A time as elements hold it.
pub(super) fn index_time(expires_at_ms: i64) -> u64 {
    expires_at_ms.clamp(0, TIME_MAX).cast_unsigned()
}

impl ExpiryIndex {
    pub(super) fn add(&mut self, expires_at_ms: i64, place: Place) {
        let place = (place.bucket * SLOTS + place.slot) as u64;
        self.heap.push(Reverse(index_time(expires_at_ms) << PLACE_BITS | place));
        self.live += 1;
    }

    /// A key expires no more, or another element speaks for it.
    pub(super) fn forget_one(&mut self) {
        self.live -= 1;
    }

    pub(super) fn is_mostly_stale(&self) -> bool {
        self.heap.len() > 2 * self.live + 16
    }

    /// The earliest element: its time, and where the key was that it speaks for.
    pub(super) fn first(&self) -> Option<(u64, Place)> {
        self.heap.peek().map(|&Reverse(element)| ExpiryIndex::parts(element))
    }

    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// An element by its place in the index: the first is the earliest, the others are in no particular order.
    pub(super) fn element(&self, at: usize) -> (u64, Place) {
        let Reverse(element) = self.heap.as_slice()[at];
        ExpiryIndex::parts(element)
    }

    fn parts(element: u64) -> (u64, Place) {
        let place = usize::try_from(element & ((1 << PLACE_BITS) - 1)).expect("ten bits");
        (element >> PLACE_BITS, Place { bucket: place / SLOTS, slot: place % SLOTS })
    }

    pub(super) fn drop_first(&mut self) {
        self.heap.pop();
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.heap.capacity() * size_of::<u64>()
    }
}

impl Segment {
    /// Whether an element of the index is still true.
    pub(super) fn is_true(&self, time: u64, place: Place) -> bool {
        self.buckets.all().get(place.bucket).is_some_and(|bucket| {
            bucket.tag(place.slot) != 0
                && bucket.view(place.slot).expires_at_ms().is_some_and(|at| index_time(at) == time)
        })
    }

    /// Rebuilds the index from the entries.
    pub(super) fn index_again(&mut self) {
        let mut index = ExpiryIndex { announced: self.expiry.announced, ..ExpiryIndex::default() };
        for (place, entry) in self.entries() {
            if let Some(at) = entry.expires_at_ms() {
                index.add(at, place);
            }
        }
        self.expiry = index;
    }
}
