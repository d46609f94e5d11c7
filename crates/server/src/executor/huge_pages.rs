//! Entries lie in huge pages, as far as memory is full: a thread of its own has the kernel move it, a block at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use holdfast_allocator::huge_pages::HugePages;
use rustix::process::setpriority_process;
use rustix::time::{ClockId, clock_gettime};

/// Blocks found before they are moved.
const BATCH: usize = 64;
/// Time between two searches.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);
/// Time until the next search where blocks were found and none could be moved.
const USELESS_PAUSE: Duration = Duration::from_secs(60);
/// After so many blocks in a row that could not be moved the others wait for the next search: there is no huge page free.
const REFUSED_MAX: u32 = 16;
/// The thread pauses for so many times what it has computed: a tenth of one processor is spent.
const PAUSE_FACTOR: u32 = 9;
/// Whoever executes commands comes first where both share a processor.
const NICENESS: i32 = 10;

/// A store that grows by more than so many bytes in [`GROWTH_INTERVAL`] is being filled.
const FILLING_LEN: u64 = 8 << 20;
/// Time over which growth is looked at.
const GROWTH_INTERVAL: Duration = Duration::from_secs(1);

/// Why memory is moved into huge pages or not, as INFO says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HugePagesState {
    On,
    /// `huge-pages no`.
    Off,
    /// The machine does not have them, or forbids them.
    Unavailable,
}

impl HugePagesState {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Unavailable => "unavailable",
        }
    }
}

#[derive(Debug)]
struct Shared {
    moved: AtomicU64,
    rests: AtomicBool,
    /// The kernel has refused to say what is mapped.
    failed: AtomicBool,
}

impl Shared {
    /// The thread rests until the first turn: what the files hold is loaded before.
    fn new() -> Self {
        Self { moved: AtomicU64::new(0), rests: AtomicBool::new(true), failed: AtomicBool::new(false) }
    }
}

/// The thread, which ends with this value.
#[derive(Debug)]
pub(super) struct Mover {
    state: HugePagesState,
    shared: Arc<Shared>,
    filling: Filling,
    /// Nothing is sent; the thread sees that it is gone.
    _stop: Option<Sender<()>>,
}

impl Mover {
    /// Starts the thread if it is wanted and can do something.
    pub(super) fn start(is_wanted: bool, now: Instant) -> Self {
        let without =
            |state| Self { state, shared: Arc::new(Shared::new()), filling: Filling::new(now), _stop: None };
        if !is_wanted {
            return without(HugePagesState::Off);
        }
        let pages = match HugePages::open() {
            Ok(pages) => pages,
            Err(error) => {
                tracing::info!("huge pages are not used: {error}");
                return without(HugePagesState::Unavailable);
            }
        };
        let (stop, stopped) = channel();
        let shared = Arc::new(Shared::new());
        let ours = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("huge-pages".to_owned());
        match thread.spawn(move || move_blocks(pages, &ours, &stopped)) {
            Ok(_) => {
                Self { state: HugePagesState::On, shared, filling: Filling::new(now), _stop: Some(stop) }
            }
            Err(error) => {
                tracing::warn!(%error, "failed to start the thread that moves memory into huge pages: none are used");
                without(HugePagesState::Unavailable)
            }
        }
    }

    pub(super) fn state(&self) -> HugePagesState {
        if self.shared.failed.load(Ordering::Relaxed) { HugePagesState::Unavailable } else { self.state }
    }

    /// Once in each turn: has the thread rest while entries are moved together, because blocks that are full now are to be
    /// emptied; and while the store is being filled.
    pub(super) fn drive(&mut self, is_compacting: bool, used_memory: u64, now: Instant) {
        self.filling.look(used_memory, now);
        self.shared.rests.store(is_compacting || self.filling.is_running, Ordering::Relaxed);
    }

    /// Blocks of 2 MiB that were moved since the start.
    pub(super) fn moved(&self) -> u64 {
        self.shared.moved.load(Ordering::Relaxed)
    }
}

/// Whether the store is being filled. Each block that is moved gives 512 pages back, and a virtual machine that reports free
/// pages to its host may stand still for milliseconds then: not while tables grow beside it.
#[derive(Debug)]
struct Filling {
    is_running: bool,
    looked_at: Instant,
    used_memory: u64,
}

impl Filling {
    fn new(now: Instant) -> Self {
        Self { is_running: true, looked_at: now, used_memory: 0 }
    }

    fn look(&mut self, used_memory: u64, now: Instant) {
        let since = now.duration_since(self.looked_at);
        if since < GROWTH_INTERVAL {
            return;
        }
        // A store without clients takes fewer turns, so the time between two looks may be longer.
        let growth = u128::from(used_memory.saturating_sub(self.used_memory));
        self.is_running = growth * GROWTH_INTERVAL.as_millis() > u128::from(FILLING_LEN) * since.as_millis();
        (self.looked_at, self.used_memory) = (now, used_memory);
    }
}

/// Until whoever started the thread is gone.
fn move_blocks(mut pages: HugePages, shared: &Shared, stopped: &Receiver<()>) {
    if let Err(error) = setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "failed to lower the priority of the thread that moves memory into huge pages");
    }
    let mut blocks = Vec::with_capacity(BATCH);
    let mut pause = SEARCH_INTERVAL;
    while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        let (found, moved) = match walk(&mut pages, &mut blocks, shared, stopped) {
            Ok(counts) => counts,
            Err(error) => {
                tracing::warn!(%error, "failed to look for memory that could lie in huge pages; none is moved any more");
                shared.failed.store(true, Ordering::Relaxed);
                return;
            }
        };
        pause = if found > 0 && moved == 0 && !shared.rests.load(Ordering::Relaxed) {
            USELESS_PAUSE
        } else {
            SEARCH_INTERVAL
        };
    }
}

/// Once through the memory; how many blocks were found and moved.
fn walk(
    pages: &mut HugePages,
    blocks: &mut Vec<usize>,
    shared: &Shared,
    stopped: &Receiver<()>,
) -> std::io::Result<(usize, usize)> {
    let (mut found, mut moved, mut refused) = (0, 0, 0);
    loop {
        let before = processor_time();
        blocks.clear();
        let goes_on = pages.find(BATCH, blocks)?;
        found += blocks.len();
        let mut spent = processor_time().saturating_sub(before);
        for block in blocks.drain(..) {
            if shared.rests.load(Ordering::Relaxed) {
                return Ok((found, moved));
            }
            if stopped.recv_timeout(spent * PAUSE_FACTOR) != Err(RecvTimeoutError::Timeout) {
                return Ok((found, moved));
            }
            let before = processor_time();
            if pages.move_block(block) {
                (moved, refused) = (moved + 1, 0);
                shared.moved.fetch_add(1, Ordering::Relaxed);
            } else {
                refused += 1;
                if refused == REFUSED_MAX {
                    return Ok((found, moved));
                }
            }
            spent = processor_time().saturating_sub(before);
        }
        if !goes_on {
            return Ok((found, moved));
        }
    }
}

/// What this thread has computed, the kernel's work for it included.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_moved_before_the_first_turn() {
        let mover = Mover::start(true, Instant::now());
        assert!(mover.shared.rests.load(Ordering::Relaxed), "files are loaded before the first turn");
    }

    #[test]
    fn a_store_is_being_filled_while_it_grows_quickly() {
        let start = Instant::now();
        let mut filling = Filling::new(start);
        let mut look = |seconds: f64, mebibytes: u64| {
            filling.look(mebibytes << 20, start + Duration::from_secs_f64(seconds));
            filling.is_running
        };
        assert!(look(0.5, 0), "nothing is known of the first second");
        assert!(look(1.0, 100), "loaded at the start");
        assert!(!look(2.0, 108));
        assert!(look(3.0, 117));
        assert!(look(3.9, 117), "it is looked at once a second");
        assert!(!look(4.0, 117));
        assert!(!look(5.0, 20), "what goes does not grow");
        assert!(!look(25.0, 180), "8 MiB a second");
        assert!(look(26.0, 189));
    }
}
