//! Memory that many deletions leave in pieces: entries are moved together, a few at a time, until whole pages are free and
//! go back to the system.

use std::time::{Duration, Instant};

use holdfast_allocator::{Figures, decay, figures, flush_thread_cache};

use crate::engine::Engine;

/// Time between two looks at the allocator.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Waste below which nothing is moved, in bytes.
const WASTE_MIN: u64 = 16 << 20;
/// Part of the allocated bytes that may be wasted.
const WASTE_SHARE: u64 = 8;
/// Entries moved between two looks at the clock.
const SLICE_ENTRIES: usize = 512;
/// Part of the time between two ticks that may be spent.
const TIME_SHARE: u32 = 40;
/// How long to wait after a pass that has not helped: what is wasted then belongs to others.
const USELESS_PAUSE: Duration = Duration::from_secs(300);

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
    next_look: Instant,
    /// The waste when the pass began that is under way.
    pass: Option<u64>,
    figures: Figures,
    passes: u64,
}

impl Compaction {
    pub(super) fn new(now: Instant) -> Compaction {
        Compaction { next_look: now, pass: None, figures: Figures::default(), passes: 0 }
    }

    /// What the allocator reported last.
    pub(super) fn figures(&self) -> Figures {
        self.figures
    }

    pub(super) fn is_running(&self) -> bool {
        self.pass.is_some()
    }

    /// Passes that were completed.
    pub(super) fn passes(&self) -> u64 {
        self.passes
    }

    /// Called at each tick.
    pub(super) fn drive(&mut self, engine: &mut Engine, now: Instant, tick: Duration) {
        if let Some(waste_before) = self.pass {
            let time_max = tick / TIME_SHARE;
            let started = Instant::now();
            loop {
                if engine.relocate_step(SLICE_ENTRIES) {
                    self.end_pass(waste_before, now);
                    return;
                }
                if started.elapsed() >= time_max {
                    return;
                }
            }
        }
        if now >= self.next_look {
            self.next_look = now + LOOK_INTERVAL;
            decay();
            self.figures = figures();
            if is_worth_it(self.figures) {
                // What the thread keeps for itself would be left out.
                flush_thread_cache();
                self.pass = Some(waste(self.figures));
            }
        }
    }

    fn end_pass(&mut self, waste_before: u64, now: Instant) {
        self.pass = None;
        self.passes += 1;
        decay();
        self.figures = figures();
        let has_helped = waste(self.figures) < waste_before / 4 * 3;
        self.next_look = now + if has_helped { LOOK_INTERVAL } else { USELESS_PAUSE };
        tracing::debug!(waste_before, waste = waste(self.figures), "entries were moved together");
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
