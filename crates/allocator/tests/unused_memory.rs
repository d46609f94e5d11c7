//! Memory that nobody uses goes back to the kernel, and whoever allocates and frees is not kept waiting by it.

use std::time::{Duration, Instant};

use holdfast_allocator::{Jemalloc, figures};

#[global_allocator]
static GLOBAL: Jemalloc = Jemalloc;

/// Many times what the test harness itself allocates meanwhile.
const LEN: usize = 256 << 20;
/// Freed in pieces of a few pages, as tables and values are; what is much larger is unmapped at once.
const PIECE: usize = 16 << 10;

#[test]
fn unused_memory_goes_back_while_its_thread_sleeps() {
    let pieces: Vec<Vec<u8>> = (0..LEN / PIECE).map(|_| vec![1; PIECE]).collect();
    let full = figures().resident;
    drop(std::hint::black_box(pieces));
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let left = figures().resident;
        if left < full - LEN as u64 * 3 / 4 {
            return;
        }
        assert!(Instant::now() < deadline, "{full} bytes were resident, {left} still are");
        std::thread::sleep(Duration::from_millis(100));
    }
}
