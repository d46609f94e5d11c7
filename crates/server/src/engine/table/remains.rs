//! A table that nobody uses any more, to be freed a few segments at a time.

use std::collections::BTreeSet;

use super::Table;
use super::segments::Segments;

/// What holds the memory of a table.
#[derive(Debug)]
pub(crate) struct Remains {
    segments: Segments,
    /// At most one for each segment.
    due: BTreeSet<(u64, u32)>,
}

impl Table {
    /// Ends the table; its entries are still there, and nobody finds them.
    pub(crate) fn into_remains(self) -> Remains {
        let Table { segments, due, .. } = self;
        Remains { segments, due }
    }
}

impl Remains {
    /// Frees up to `count` segments; true when none is left.
    pub(crate) fn free(&mut self, count: usize) -> bool {
        for _ in 0..count {
            self.due.pop_first();
            if !self.segments.drop_last() {
                return true;
            }
        }
        self.segments.len() == 0
    }
}
