//! Scanning by hash.
//!
//! Home buckets are visited in the order of (top bits of the hash, bits that choose the home bucket). A cursor names the next place:
//! the first bits of the hash that the segment shares, how many they are, and the bits that choose the home bucket. Everything
//! before that has been visited, whatever the segments look like by now:
//!
//! - the segment has another number of buckets: the place is within one of them, which is visited whole;
//! - it has split since: its first half is continued at the place, the second half is visited whole, so some keys are met
//!   twice and none is missed;
//! - it has merged since: the merged one is visited from its first bucket, again meeting some keys twice.
//!
//! A key never changes its hash, so every key that is there throughout is met at least once.
//!
//! A cursor is below 2⁵³: clients of Redis read it as a double, as a signed number, or as both, because those of Redis are small.

use super::segment::{ORDER_BITS, Place, Segment, home_of};
use super::{DEPTH_MAX, Position, Table};

/// Bits of the hash that can choose a segment.
const PREFIX_BITS: u32 = DEPTH_MAX;
const DEPTH_BITS: u32 = 5;
const _: () = assert!(DEPTH_MAX < 1 << DEPTH_BITS && PREFIX_BITS + DEPTH_BITS + ORDER_BITS <= 53);

struct Cursor {
    /// The first bits of the hash.
    prefix: u64,
    depth: u32,
    /// The bits of the hash that choose the home bucket.
    order: u64,
}

impl Cursor {
    fn from_number(number: u64) -> Cursor {
        Cursor {
            prefix: number >> (ORDER_BITS + DEPTH_BITS) & ((1 << PREFIX_BITS) - 1),
            depth: u32::try_from(number >> ORDER_BITS & ((1 << DEPTH_BITS) - 1)).expect("five bits"),
            order: number & ((1 << ORDER_BITS) - 1),
        }
    }

    fn to_number(&self) -> u64 {
        self.prefix << (ORDER_BITS + DEPTH_BITS) | u64::from(self.depth) << ORDER_BITS | self.order
    }

    /// A hash at this place.
    fn to_hash(&self) -> u64 {
        self.prefix << (64 - PREFIX_BITS) | self.order << (32 - ORDER_BITS)
    }
}

impl Table {
    /// Visits the keys of one home bucket and returns the cursor of the next; 0 stands for the start, and for the end.
    ///
    /// Any number is accepted as a cursor; one that was never returned continues somewhere.
    pub(crate) fn scan_bucket(&self, cursor: u64, mut visit: impl FnMut(Position)) -> u64 {
        let mut cursor = Cursor::from_number(cursor);
        let Some(route) = self.route(cursor.to_hash()) else { return 0 };
        let segment = self.segment(route.segment);
        if segment.depth < cursor.depth {
            cursor.order = 0;
        }
        let count = segment.buckets.count();
        let home = home_of(cursor.to_hash(), count);
        for place in self.at_home(segment, home) {
            let bucket = segment.buckets.address(place.bucket);
            visit(Position { bucket, version: self.version, segment: route.segment, place });
        }
        let (start, depth) = (segment.start >> (64 - PREFIX_BITS), segment.depth);
        let next = if home + 1 < count {
            Cursor { prefix: start, depth, order: first_of(home + 1, count) }
        } else {
            let prefix = start + (1 << (PREFIX_BITS - depth));
            if prefix >> PREFIX_BITS != 0 {
                return 0;
            }
            Cursor { prefix, depth, order: 0 }
        };
        next.to_number()
    }

    /// The places of the entries whose home is a bucket.
    fn at_home(&self, segment: &Segment, home: usize) -> Vec<Place> {
        let buckets = segment.buckets.all();
        let mut places = Vec::new();
        for step in 0..buckets.len() {
            let at = (home + step) % buckets.len();
            let bucket = &buckets[at];
            places.extend(bucket.occupied().filter_map(|slot| {
                let hash = self.hasher.hash(bucket.view(slot).key());
                (home_of(hash, buckets.len()) == home).then_some(Place { bucket: at, slot })
            }));
            if !bucket.has_overflowed() {
                break;
            }
        }
        places
    }
}

/// The first place in the order that belongs to a home bucket.
fn first_of(home: usize, count: usize) -> u64 {
    ((home as u64) << ORDER_BITS).div_ceil(count as u64)
}
