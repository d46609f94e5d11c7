//! Memory that many deletions leave in pieces: entries are moved together, a few at a time, until whole pages are free and
//! go back to the system.

use std::time::{Duration, Instant};

use holdfast_allocator::{Figures, figures, flush_thread_cache};

use crate::engine::Engine;

/// Time between two looks at the allocator.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Waste below which nothing is moved, in bytes.
const WASTE_MIN: u64 = 16 << 20;
/// Part of the allocated bytes that may be wasted.
const WASTE_SHARE: u64 = 8;
/// Entries moved between two looks at the clock.
const SLICE_ENTRIES: usize = 256;
/// How long entries are moved at once: short enough not to be felt.
const SLICE_TIME: Duration = Duration::from_micros(500);
/// Time between two slices: a tenth of the time is spent.
const SLICE_PAUSE: Duration = Duration::from_micros(4500);
/// Passes one after the other after which there is a pause: what is wasted then does not belong to entries.
const PASSES_MAX: u32 = 3;
/// How long that pause is.
const USELESS_PAUSE: Duration = Duration::from_secs(120);

/// Bytes of pages that hold allocations and are not allocated themselves.
fn waste(figures: Figures) -> u64 {
    figures.active.saturating_sub(figures.allocated)
}

/// Whether moving entries together would give back enough memory to be worth it.
fn is_worth_it(figures: Figures) -> bool {
    waste(figures) > WASTE_MIN.max(figures.allocated / WASTE_SHARE)
}

/// Moves entries together when that is worth it.
#[derive(Debug)]
pub(super) struct Compaction {
    /// When the next slice is due, or the next look at the allocator.
    next: Instant,
    is_running: bool,
    passes: u64,
    /// Passes since there was last little waste.
    in_a_row: u32,
}

impl Compaction {
    pub(super) fn new(now: Instant) -> Compaction {
        Compaction { next: now, is_running: false, passes: 0, in_a_row: 0 }
    }

    pub(super) fn is_running(&self) -> bool {
        self.is_running
    }

    /// Passes that were completed.
    pub(super) fn passes(&self) -> u64 {
        self.passes
    }

    /// When [`Compaction::drive`] wants to be called; none when a later tick will do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.is_running.then_some(self.next)
    }

    /// Does what is due.
    pub(super) fn drive(&mut self, engine: &mut Engine, now: Instant) {
        if now < self.next {
            return;
        }
        if !self.is_running {
            self.look(engine, now);
            return;
        }
        let started = Instant::now();
        while started.elapsed() < SLICE_TIME {
            if engine.relocate_step(SLICE_ENTRIES) {
                self.passes += 1;
                self.in_a_row += 1;
                self.look(engine, now);
                return;
            }
        }
        self.next = Instant::now() + SLICE_PAUSE;
    }

    /// Asks the allocator and the engine, and begins a pass if it is worth it.
    fn look(&mut self, engine: &Engine, now: Instant) {
        let figures = figures();
        self.is_running = is_worth_it(figures) || engine.is_unshrunk();
        self.next = now + LOOK_INTERVAL;
        if !self.is_running {
            self.in_a_row = 0;
        } else if self.in_a_row < PASSES_MAX {
            // What the thread keeps for itself would be left out.
            flush_thread_cache();
            self.next = now;
            tracing::debug!(allocated = figures.allocated, waste = waste(figures), "compacting memory");
        } else {
            self.is_running = false;
            self.in_a_row = 0;
            self.next = now + USELESS_PAUSE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_waste_of_much_memory_is_worth_it() {
        let check =
            |allocated: u64, active: u64| is_worth_it(Figures { allocated, active, resident: active });
        assert!(!check(0, 0));
        assert!(!check(1 << 20, 10 << 20), "little memory may be wasted");
        assert!(!check(1 << 30, (1 << 30) + (100 << 20)), "a tenth may be wasted");
        assert!(check(1 << 30, (1 << 30) + (200 << 20)));
        assert!(check(100 << 20, 500 << 20));
        assert!(!check(2, 1), "figures of different moments do no harm");
    }
}
