//! jemalloc is built as `.cargo/config.toml` says, and alignments are honoured in spite of it.

use std::alloc::{GlobalAlloc as _, Layout, alloc, dealloc};
use std::ptr::NonNull;

use holdfast_allocator::{Jemalloc, class_size, figures, is_active, relocate};

#[global_allocator]
static GLOBAL: Jemalloc = Jemalloc;

#[test]
fn size_classes_are_eight_bytes_apart() {
    let table = [(1, 8), (25, 32), (33, 40), (50, 56), (54, 56), (57, 64), (65, 80), (122, 128)];
    for (size, class) in table {
        assert_eq!(class_size(size), class, "{size} bytes");
    }
}

#[test]
fn every_alignment_is_honoured() {
    for align in [1, 2, 4, 8, 16, 32, 64, 4096] {
        for size in [1, 8, 24, 40, 52, 56, 72, 88, 104, 120, 3000, 5000] {
            let layout = Layout::from_size_align(size, align).expect("small");
            let blocks: Vec<*mut u8> = (0..64)
                .map(|number| {
                    // SAFETY: the size is not zero.
                    unsafe {
                        if number % 2 == 0 { Jemalloc.alloc(layout) } else { Jemalloc.alloc_zeroed(layout) }
                    }
                })
                .collect();
            for block in blocks {
                assert_eq!(block.addr() % align, 0, "{size} bytes at {align}");
                // SAFETY: allocated above with this layout; the new size is not zero.
                unsafe {
                    let grown = Jemalloc.realloc(block, layout, size + 40);
                    assert_eq!(grown.addr() % align, 0, "{size} bytes at {align}, reallocated");
                    let layout = Layout::from_size_align(size + 40, align).expect("small");
                    Jemalloc.dealloc(grown, layout);
                }
            }
        }
    }
}

#[test]
fn figures_follow_allocations() {
    assert!(is_active());
    let before = figures();
    // The tests beside this one free up to 30 MiB meanwhile.
    let kept = std::hint::black_box(vec![1u8; 128 << 20]);
    let during = figures();
    assert!(during.allocated >= before.allocated + (96 << 20), "{before:?} {during:?}");
    drop(kept);
}

#[test]
fn relocation_empties_sparse_pages() {
    const LEN: usize = 400_000;
    let layout = Layout::from_size_align(56, 8).expect("small");
    let mut blocks: Vec<Option<NonNull<u8>>> = (0..LEN)
        .map(|number| {
            // SAFETY: the size is not zero; the block has 56 bytes.
            unsafe {
                let block = NonNull::new(alloc(layout)).expect("memory");
                block.cast::<usize>().write(number);
                Some(block)
            }
        })
        .collect();
    for (number, block) in blocks.iter_mut().enumerate() {
        if number % 5 != 0 {
            // SAFETY: allocated above with this layout.
            unsafe { dealloc(block.take().expect("still there").as_ptr(), layout) };
        }
    }
    holdfast_allocator::flush_thread_cache();
    let sparse = figures();
    for block in blocks.iter_mut().flatten() {
        // SAFETY: allocated above with this layout, and nobody else has it.
        if let Some(moved) = unsafe { relocate(*block, layout) } {
            *block = moved;
        }
    }
    let dense = figures();
    for (number, block) in blocks.into_iter().enumerate() {
        let Some(block) = block else { continue };
        // SAFETY: allocated with this layout; the number was written at its start.
        unsafe {
            assert_eq!(block.cast::<usize>().read(), number, "content moves along");
            dealloc(block.as_ptr(), layout);
        }
    }
    let payload = (LEN / 5 * 56) as u64;
    assert!(sparse.active - dense.active > payload, "four fifths were free: {sparse:?}, then {dense:?}");
}
