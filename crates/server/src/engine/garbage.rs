//! What was flushed or replaced and is still to be freed, which may take long.

use super::object::{Blob, Discarded, Large};
use super::table::{Remains, Table};
use super::tracking::TrackedKeys;

/// Values from this length on are freed by somebody who has time: unmapping them takes as long as a thousand commands.
const BLOB_LEN_MIN: usize = 1 << 20;
/// Collections from this size on are freed by somebody who has time, in bytes.
const LARGE_LEN_MIN: usize = 64 << 10;
/// Segments freed in one slice: up to 9,216 keys, about half a millisecond where their values are short.
const SLICE_SEGMENTS: usize = 16;
/// Tracked keys freed in one slice: about half a millisecond.
const SLICE_TRACKED: usize = 4096;

/// Memory that nobody needs any more. Dropping it frees it at once, [`Garbage::free_slice`] a part.
#[derive(Debug, Default)]
pub(crate) struct Garbage {
    tables: Vec<Table>,
    /// The table that is being freed in slices.
    remains: Option<Remains>,
    blobs: Vec<Blob>,
    larges: Vec<Large>,
    /// Keys that clients have read.
    tracked: Vec<TrackedKeys>,
}

impl Garbage {
    /// Adds a table.
    pub(super) fn add_table(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// Adds what was replaced or removed, if it is worth it; else frees it.
    #[inline]
    pub(super) fn add(&mut self, discarded: Discarded) {
        match discarded {
            Discarded::Blob(blob) if blob.memory_bytes() >= BLOB_LEN_MIN => self.blobs.push(blob),
            Discarded::Large(large) if large.memory_bytes() >= LARGE_LEN_MIN => self.larges.push(*large),
            Discarded::Blob(_) | Discarded::Large(_) => {}
        }
    }

    /// Adds keys that clients have read.
    pub(super) fn add_tracked(&mut self, tracked: TrackedKeys) {
        if !tracked.is_empty() {
            self.tracked.push(tracked);
        }
    }

    /// Adds all of another.
    pub(super) fn append(&mut self, other: Garbage) {
        let Garbage { tables, remains, blobs, larges, tracked } = other;
        self.tables.extend(tables);
        // A second table that is half freed has no place: the rest of it is freed at once.
        self.remains = self.remains.take().or(remains);
        self.blobs.extend(blobs);
        self.larges.extend(larges);
        self.tracked.extend(tracked);
    }

    /// Keys and values that are to be freed.
    pub(crate) fn objects(&self) -> usize {
        self.tables.iter().map(Table::len).sum::<usize>() + self.blobs.len() + self.larges.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty()
            && self.remains.is_none()
            && self.blobs.is_empty()
            && self.larges.is_empty()
            && self.tracked.is_empty()
    }

    /// Frees a long value, a collection, or some keys or segments of a table; true when nothing is left.
    pub(crate) fn free_slice(&mut self) -> bool {
        if let Some(tracked) = self.tracked.last_mut() {
            (0..SLICE_TRACKED).for_each(|_| drop(tracked.pop_first()));
            if tracked.is_empty() {
                self.tracked.pop();
            }
            return self.is_empty();
        }
        if self.blobs.pop().is_none()
            && self.larges.pop().is_none()
            && let Some(mut remains) =
                self.remains.take().or_else(|| self.tables.pop().map(Table::into_remains))
            && !remains.free(SLICE_SEGMENTS)
        {
            self.remains = Some(remains);
        }
        self.is_empty()
    }
}
