//! The key table of one database: a segmented extendible hash table that can be saved while it changes.
//!
//! ```text
//!  hash (64 bits):  dddd…d ………… tttttttt llllllll llllllll llllllll llllllll
//!                   │           │        └ home bucket within the segment: this part as a fraction
//!                   │           └ tag: compared for all nine slots of a bucket at once
//!                   └ directory ─▶ buckets of a segment ─▶ bucket: one line of the cache ─▶ entry
//! ```
//!
//! - **Growth.** A segment has up to 64 buckets. It grows once, then splits in two by one more bit of the hash; no insert
//!   ever moves more than one segment. Segments take different paths, so that they do not grow all at the same time. Two
//!   halves that have become nearly empty merge again, and the directory shrinks with them.
//! - **Snapshots.** A cut starts a new epoch; a bit for each bucket says whether it is saved. Whoever is about to change a
//!   bucket saves it first (a rebuilt segment is saved whole), and a walk saves the rest. So what is saved is exactly the
//!   content at the cut, each key once, in no particular order.
//! - **Scanning** goes by hash, so a position stays valid when segments grow, split or merge ([`scan`]).
//! - **Expiry** is in the entry; each segment keeps a heap of what is due, and the table an ordered set of their tops.
//! - **Cluster slots.** The caller computes the hash. A hash whose top bits are a slot makes the keys of a slot neighbours.
//!
//! Clients choose keys, so the hash is keyed by a secret seed.

#![expect(
    unsafe_code,
    reason = "addresses of buckets and entries: see docs/decisions/0018-entry-and-table.md"
)]

mod bucket;
mod directory;
mod remains;
mod sample;
mod scan;
mod segment;
mod segments;
mod snapshot;

use std::collections::BTreeSet;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) use remains::Remains;

use super::chunk::Chunk;
use super::object::{Entry, EntryView};
use bucket::{Bucket, prefetch, tag_of};
use directory::{Directory, Route};
use holdfast_collections::hash::KeyHasher;
use segment::{Place, Segment, home_of, index_time};
use segments::Segments;
use snapshot::Saving;

/// Entries that two halves may hold together to be merged: far enough from the limit not to swing.
const MERGE_LEN: usize = 230;
/// Most segments that are freed within a command: some fifty microseconds.
const DROPPED_MAX: usize = 64;
/// Most bits of the hash that choose a segment.
const DEPTH_MAX: u32 = 30;

/// Where an entry is. Valid until the table changes its structure; a position that is not valid any more is noticed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    bucket: NonNull<Bucket>,
    /// What [`Table::version`] was.
    version: u64,
    segment: u32,
    place: Place,
}

/// How long rebuilding segments took, in the processor's time of the thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Growth {
    /// Segments rebuilt.
    pub(crate) rebuilds: u64,
    /// The longest.
    pub(crate) longest: Duration,
    /// Numbers of rebuilds below 16, 32, 64, 128, 256, 512 and 1024 microseconds, and of the others.
    pub(crate) histogram: [u64; 8],
}

#[derive(Debug)]
pub(crate) struct Table {
    hasher: KeyHasher,
    /// Invariant: a route names the buckets of the segment with its number.
    directory: Directory,
    segments: Segments,
    len: usize,
    /// Bytes of entries and segments.
    bytes: usize,
    /// The earliest expiry of each segment that has one, or an earlier time.
    due: BTreeSet<(u64, u32)>,
    expiring: usize,
    /// Sum of all expiries, for their mean.
    expiry_sum: i128,
    epoch: u32,
    saving: Option<Saving>,
    /// Saved because it was about to change, and not yet taken.
    pending: Chunk,
    /// Unique among all tables of the process, and new whenever buckets are moved.
    version: u64,
    growth: Growth,
    /// Where the next step of [`Table::relocate`] goes on.
    relocated: usize,
    /// Memory of segments could not be given back when it became free: a pass of [`Table::relocate`] does it.
    unshrunk: bool,
    /// The element of `due` whose segment was sampled last.
    sampled: (u64, u32),
}

// SAFETY: routes point at buckets that the segments of the same table own, and are used through it only.
unsafe impl Send for Table {}

fn next_version() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Table {
    pub(crate) fn new(hasher: KeyHasher, epoch: u32) -> Table {
        Table {
            hasher,
            directory: Directory::default(),
            segments: Segments::default(),
            len: 0,
            bytes: 0,
            due: BTreeSet::new(),
            expiring: 0,
            expiry_sum: 0,
            epoch,
            saving: None,
            pending: Chunk::default(),
            version: next_version(),
            growth: Growth::default(),
            relocated: 0,
            unshrunk: false,
            sampled: (0, 0),
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
        self.bytes
            + self.pending.held_bytes()
            + self.directory.memory_bytes()
            + self.due.len() * 2 * size_of::<(u64, u32)>()
    }

    /// What is held besides entries, in bytes: buckets and directory, and the order of expiries.
    pub(crate) fn own_bytes(&self) -> (usize, usize) {
        let all: usize = self.segments.iter().map(Segment::memory_bytes).sum();
        let expiry: usize = self.segments.iter().map(Segment::expiry_bytes).sum();
        let due = self.due.len() * 2 * size_of::<(u64, u32)>();
        (self.directory.memory_bytes() + all - expiry, expiry + due)
    }

    pub(crate) fn growth(&self) -> Growth {
        self.growth
    }

    #[inline]
    fn route(&self, hash: u64) -> Option<&Route> {
        self.directory.route(hash)
    }

    /// Asks the processor for the bucket of a key.
    #[inline]
    pub(crate) fn prefetch_bucket(&self, hash: u64) {
        if let Some(route) = self.route(hash) {
            let offset = home_of(hash, route.count as usize) * size_of::<Bucket>();
            prefetch(route.first.as_ptr().addr() + offset);
        }
    }

    /// Asks the processor for the first `len` bytes of the entry of a key, whose bucket has arrived by now.
    #[inline]
    pub(crate) fn prefetch_entry(&self, hash: u64, len: usize) {
        if let Some(route) = self.route(hash) {
            let bucket = self.bucket_of(route, home_of(hash, route.count as usize));
            for slot in bucket.matches(tag_of(hash)) {
                bucket.prefetch_entry(slot, len);
            }
        }
    }

    #[inline]
    fn bucket_of(&self, route: &Route, at: usize) -> &Bucket {
        // SAFETY: the bucket is one of our segments', and the table is borrowed.
        unsafe { Table::bucket_address(route, at).as_ref() }
    }

    #[inline]
    fn bucket_address(route: &Route, at: usize) -> NonNull<Bucket> {
        assert!(at < route.count as usize, "the bucket exists");
        // SAFETY: the route names the buckets of one of our segments, which has `count` of them.
        unsafe { route.first.add(at) }
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64, key: &[u8]) -> Option<Position> {
        let route = self.route(hash)?;
        let (count, tag) = (route.count as usize, tag_of(hash));
        let mut at = home_of(hash, count);
        for _ in 0..count {
            let bucket = self.bucket_of(route, at);
            for slot in bucket.matches(tag) {
                if bucket.view(slot).key() == key {
                    return Some(Position {
                        bucket: Table::bucket_address(route, at),
                        version: self.version,
                        segment: route.segment,
                        place: Place { bucket: at, slot },
                    });
                }
            }
            if !bucket.has_overflowed() {
                return None;
            }
            at = if at + 1 == count { 0 } else { at + 1 };
        }
        None
    }

    /// The entry at a position.
    ///
    /// # Panics
    /// If the position is not valid any more.
    #[inline]
    pub(crate) fn view(&self, at: Position) -> EntryView<'_> {
        assert!(at.version == self.version, "the position is of this table as it is");
        // SAFETY: versions are unique, and buckets stay where they are until the version changes.
        unsafe { at.bucket.as_ref() }.view(at.place.slot)
    }

    /// Notes an access: no change, of which a snapshot would have to save what was before.
    #[inline]
    pub(crate) fn touch(&mut self, at: Position, bits: u32) {
        if self.view(at).accessed() != bits {
            self.segment_mut(at.segment)
                .bucket_mut(at.place.bucket)
                .change(at.place.slot, |entry| entry.set_accessed(bits));
        }
    }

    /// Inserts a key that is not there.
    pub(crate) fn insert(&mut self, hash: u64, entry: Entry) {
        debug_assert!(self.find(hash, entry.view().key()).is_none(), "the key is new");
        let number = self.segment_with_room(hash);
        let place = self.segment(number).free_place(hash);
        self.save_bucket(number, place.bucket);
        self.bytes += entry.view().memory_bytes();
        self.len += 1;
        let expiry = entry.view().expires_at_ms();
        self.account_segment(number, |segment| {
            segment.put(hash, place, entry);
            // Keys that are made and removed before their time leave their elements.
            if expiry.is_some() && segment.expiry.is_mostly_stale() {
                segment.index_again();
            }
        });
        if let Some(at) = expiry {
            self.expiring += 1;
            self.expiry_sum += i128::from(at);
            self.announce(number);
        }
    }

    /// Removes the entry at a position.
    ///
    /// # Panics
    /// If the position is not valid any more.
    pub(crate) fn remove(&mut self, at: Position) -> Entry {
        let hash = self.hasher.hash(self.view(at).key());
        let number = at.segment;
        self.save_bucket(number, at.place.bucket);
        let entry = self.account_segment(number, |segment| {
            let entry = segment.take(hash, at.place);
            // Keys that go before their time leave their elements.
            if entry.view().expires_at_ms().is_some() && segment.expiry.is_mostly_stale() {
                segment.index_again();
            }
            entry
        });
        self.bytes -= entry.view().memory_bytes();
        self.len -= 1;
        if let Some(at) = entry.view().expires_at_ms() {
            self.expiring -= 1;
            self.expiry_sum -= i128::from(at);
        }
        self.shrink(number);
        entry
    }

    /// Changes the entry at a position in place; its key must stay.
    ///
    /// # Panics
    /// If the position is not valid any more.
    pub(crate) fn change<R>(&mut self, at: Position, change: impl FnOnce(&mut Entry) -> R) -> R {
        let view = self.view(at);
        let (bytes_before, expiry_before) = (view.memory_bytes(), view.expires_at_ms());
        self.save_bucket(at.segment, at.place.bucket);
        let result = self.segment_mut(at.segment).bucket_mut(at.place.bucket).change(at.place.slot, change);
        let view = self.view(at);
        let (bytes_after, expiry_after) = (view.memory_bytes(), view.expires_at_ms());
        self.bytes = self.bytes + bytes_after - bytes_before;
        if expiry_before != expiry_after {
            self.expiry_changed(at, expiry_before, expiry_after);
        }
        result
    }

    fn expiry_changed(&mut self, at: Position, before: Option<i64>, after: Option<i64>) {
        if let Some(before) = before {
            self.expiring -= 1;
            self.expiry_sum -= i128::from(before);
        }
        if let Some(after) = after {
            self.expiring += 1;
            self.expiry_sum += i128::from(after);
        }
        self.account_segment(at.segment, |segment| {
            if before.is_some() {
                segment.expiry.forget_one();
            }
            if let Some(after) = after {
                segment.expiry.add(after, at.place);
            }
            if segment.expiry.is_mostly_stale() {
                segment.index_again();
            }
        });
        self.announce(at.segment);
    }

    /// Changes a segment and accounts for what its own memory grows or shrinks by.
    fn account_segment<R>(&mut self, number: u32, change: impl FnOnce(&mut Segment) -> R) -> R {
        let segment = self.segment_mut(number);
        let before = segment.memory_bytes();
        let result = change(segment);
        let after = segment.memory_bytes();
        self.bytes = self.bytes + after - before;
        result
    }

    /// Tells the table's order of expiries the earliest of a segment.
    fn announce(&mut self, number: u32) {
        let segment = self.segment_mut(number);
        let first = segment.expiry.first().map(|(time, _)| time);
        let announced = std::mem::replace(&mut segment.expiry.announced, first);
        if announced != first {
            if let Some(time) = announced {
                self.due.remove(&(time, number));
            }
            if let Some(time) = first {
                self.due.insert((time, number));
            }
        }
    }

    /// The earliest expiry of all keys, or an earlier time.
    pub(crate) fn first_expiry(&self) -> Option<i64> {
        self.due.first().map(|&(time, _)| time.cast_signed())
    }

    /// A key whose expiry is before `now_ms`, the earliest first.
    pub(crate) fn first_expired(&mut self, now_ms: i64) -> Option<Position> {
        self.earliest_before(index_time(now_ms))
    }

    /// The key that expires next.
    pub(crate) fn next_to_expire(&mut self) -> Option<Position> {
        self.earliest_before(u64::MAX)
    }

    /// The key with the earliest expiry, if that is before a time of the index.
    fn earliest_before(&mut self, end: u64) -> Option<Position> {
        loop {
            let &(time, number) = self.due.first()?;
            if time >= end {
                return None;
            }
            // Dropping what was stale may have put another segment in front, or a later time.
            if let Some(at) = self.earliest_of(number)
                && self.due.first() == Some(&(time, number))
            {
                return Some(at);
            }
        }
    }

    /// The key of a segment that expires first. What is stale in front of it is dropped.
    fn earliest_of(&mut self, number: u32) -> Option<Position> {
        let earliest = self.account_segment(number, |segment| {
            while let Some((time, place)) = segment.expiry.first() {
                if segment.is_true(time, place) {
                    return Some(place);
                }
                segment.expiry.drop_first();
            }
            None
        });
        self.announce(number);
        earliest.map(|place| self.position(number, place))
    }

    fn position(&self, number: u32, place: Place) -> Position {
        let bucket = self.segment(number).buckets.address(place.bucket);
        Position { bucket, version: self.version, segment: number, place }
    }

    /// An entry near the place that `random` points at; every entry can be met.
    pub(crate) fn near(&self, random: u64) -> Option<Position> {
        if self.len == 0 {
            return None;
        }
        let start = self.route(random)?.segment as usize;
        let count = self.segments.len();
        let (number, segment) = (0..count)
            .map(|step| (start + step) % count)
            .filter_map(|number| Some((number, self.segments.get(number)?)))
            .find(|(_, segment)| segment.len > 0)?;
        let buckets = segment.buckets.all();
        let first = home_of(random, buckets.len());
        let bucket = (0..buckets.len())
            .map(|step| (first + step) % buckets.len())
            .find(|&bucket| buckets[bucket].occupied().next().is_some())?;
        let occupied = buckets[bucket].occupied();
        let nth = usize::try_from(random >> 32 & 0xffff).expect("16 bits") % occupied.count();
        let slot = occupied.into_iter().nth(nth)?;
        Some(self.position(index(number), Place { bucket, slot }))
    }

    /// All entries, in no particular order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = EntryView<'_>> {
        self.segments.iter().flat_map(|segment| segment.entries().map(|(_, entry)| entry))
    }

    /// Whether a pass of [`Table::relocate`] would give memory back.
    pub(crate) fn is_unshrunk(&self) -> bool {
        self.unshrunk && self.saving.is_none()
    }

    /// All segments of a table that has lost its last key while it had many of them: to free them at once would take too long.
    pub(crate) fn take_emptied(&mut self) -> Option<Table> {
        (self.len == 0 && self.is_unshrunk()).then(|| self.take())
    }

    /// Leaves a table without segments behind.
    fn take(&mut self) -> Table {
        let (growth, relocated) = (self.growth, self.relocated);
        std::mem::replace(self, Table { growth, relocated, ..Table::new(self.hasher, self.epoch) })
    }

    /// Moves up to `budget` entries to where the allocator would rather have them; true when all have been tried.
    pub(crate) fn relocate(&mut self, budget: usize) -> bool {
        if self.relocated == 0 && self.saving.is_none() {
            self.unshrunk = false;
        }
        let mut left = budget;
        while left > 0 {
            if self.relocated >= self.segments.len() {
                self.relocated = 0;
                return true;
            }
            if let Some(segment) = self.segments.get_mut(self.relocated) {
                left = left.saturating_sub(segment.len.max(1));
                for bucket in segment.buckets.all_mut() {
                    for slot in bucket.occupied() {
                        bucket.change(slot, Entry::relocate);
                    }
                }
            }
            if self.segments.get(self.relocated).is_some() {
                self.shrink(index(self.relocated));
            }
            self.relocated += 1;
        }
        false
    }

    fn segment(&self, number: u32) -> &Segment {
        self.segments.get(number as usize).expect("routes and positions name segments")
    }

    fn segment_mut(&mut self, number: u32) -> &mut Segment {
        self.segments.get_mut(number as usize).expect("routes and positions name segments")
    }

    /// The segment of a hash, with room for one entry more.
    fn segment_with_room(&mut self, hash: u64) -> u32 {
        if self.directory.is_empty() {
            let segment = Segment::new(0, 0, 1, self.epoch);
            self.bytes += segment.memory_bytes();
            let number = self.segments.reserve();
            self.segments.put(number, segment);
            self.directory = Directory::of(self.route_to(number));
        }
        loop {
            let number = self.route(hash).expect("the directory is not empty").segment;
            let segment = self.segment(number);
            if segment.len < segment.limit {
                return number;
            }
            match segment.next_count() {
                Some(count) => self.rebuild(number, count),
                None => self.split(number),
            }
        }
    }

    fn route_to(&self, number: u32) -> Route {
        let buckets = &self.segment(number).buckets;
        Route { first: buckets.first(), count: index(buckets.count()), segment: number }
    }

    /// Points the directory at the buckets of a segment.
    fn reroute(&mut self, number: u32) {
        let (segment, route) = (self.segment(number), self.route_to(number));
        let (start, depth) = (segment.start, segment.depth);
        self.directory.set(start, depth, route);
        self.version = next_version();
    }

    fn take_segment(&mut self, number: u32) -> Segment {
        let segment = self.segments.take(number).expect("routes and positions name segments");
        self.bytes -= segment.memory_bytes();
        if let Some(time) = segment.expiry.announced {
            self.due.remove(&(time, number));
        }
        segment
    }

    fn put_segment(&mut self, number: u32, segment: Segment) {
        self.bytes += segment.memory_bytes();
        self.segments.put(number, segment);
        self.announce(number);
    }

    /// Measures the processor's time that rebuilding a segment takes.
    fn measured(&mut self, rebuild: impl FnOnce(&mut Table)) {
        let started = thread_time();
        rebuild(self);
        let took = thread_time().saturating_sub(started);
        self.growth.rebuilds += 1;
        self.growth.longest = self.growth.longest.max(took);
        let class = took.as_micros().checked_ilog2().map_or(0, |log| (log as usize).saturating_sub(3)).min(7);
        self.growth.histogram[class] += 1;
    }

    /// Gives a segment another number of buckets.
    fn rebuild(&mut self, number: u32, count: usize) {
        self.save_segment(number);
        self.measured(|table| {
            let old = table.take_segment(number);
            let mut new = Segment::new(old.start, old.depth, count, table.epoch);
            let hashes = old.hashes(table.hasher);
            old.move_into(&hashes, |_| 0, &mut [&mut new]);
            table.put_segment(number, new);
            table.reroute(number);
        });
    }

    /// Splits a segment by its next bit.
    fn split(&mut self, number: u32) {
        assert!(self.segment(number).depth < DEPTH_MAX, "a table holds less than 2^38 keys");
        self.save_segment(number);
        self.measured(|table| table.split_saved(number));
    }

    fn split_saved(&mut self, number: u32) {
        let old = self.take_segment(number);
        let (depth, start, len) = (old.depth, old.start, old.len);
        self.directory.deepen(start, depth);
        let bit = 1u64 << (63 - depth);
        let [mut lower, mut upper] = [start, start | bit].map(|start| {
            Segment::new(start, depth + 1, Segment::count_for(start, depth + 1, len / 2), self.epoch)
        });
        let hashes = old.hashes(self.hasher);
        let upper_len = hashes.iter().filter(|&&hash| hash & bit != 0).count();
        for (segment, len) in [(&mut lower, len - upper_len), (&mut upper, upper_len)] {
            // A half that gets nearly all of them needs as much room as there was.
            if len > segment.limit {
                *segment = Segment::new(segment.start, segment.depth, old.buckets.count(), self.epoch);
            }
        }
        old.move_into(&hashes, |hash| usize::from(hash & bit != 0), &mut [&mut lower, &mut upper]);
        let sibling = self.segments.reserve();
        self.put_segment(number, lower);
        self.put_segment(sibling, upper);
        self.reroute(number);
        self.reroute(sibling);
    }

    /// Gives memory back when few entries of a segment are left.
    fn shrink(&mut self, number: u32) {
        // The walk of a snapshot goes by number of segment; merging waits until it is over.
        if self.saving.is_some() {
            self.unshrunk = true;
            return;
        }
        if self.len == 0 {
            if self.segments.count() > DROPPED_MAX {
                self.unshrunk = true;
            } else {
                drop(self.take());
            }
            return;
        }
        if self.merge(number) {
            // The other half of what it has become may have waited for it.
            while self.merge(number) {}
            return;
        }
        if let Some(count) = self.segment(number).smaller_count() {
            self.rebuild(number, count);
        }
    }

    /// Merges a nearly empty segment with its other half, if that is not split further and nearly empty too.
    fn merge(&mut self, number: u32) -> bool {
        let (start, depth) = (self.segment(number).start, self.segment(number).depth);
        if depth == 0 {
            return false;
        }
        let other_half = start ^ 1 << (64 - depth);
        let sibling = self.route(other_half).expect("every hash has a route").segment;
        let other = self.segment(sibling);
        let len = other.len + self.segment(number).len;
        if other.depth != depth || len > MERGE_LEN {
            return false;
        }
        self.measured(|table| {
            let (one, two) = (table.take_segment(number), table.take_segment(sibling));
            let start = one.start.min(two.start);
            let count = Segment::count_for(start, depth - 1, len);
            let mut merged = Segment::new(start, depth - 1, count, table.epoch);
            for half in [one, two] {
                let hashes = half.hashes(table.hasher);
                half.move_into(&hashes, |_| 0, &mut [&mut merged]);
            }
            table.segments.release(sibling);
            table.put_segment(number, merged);
            table.reroute(number);
            table.directory.flatten(start);
        });
        true
    }
}

/// Numbers of segments and buckets fit: memory ends first.
fn index(value: usize) -> u32 {
    u32::try_from(value).expect("fewer than 2^32")
}

/// The processor's time that this thread has taken.
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // Not by rustix, whose way around the C library valgrind does not know.
    // SAFETY: the time is a place to write to. The clock exists on every Linux; without it, zero is as good.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests;
