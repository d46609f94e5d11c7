//! jemalloc as the global allocator, built with size classes of 8 bytes (`.cargo/config.toml`), and what the store asks
//! of it beyond `malloc`: figures, and moving allocations together.
//!
//! The usual Rust binding passes no alignment to jemalloc for layouts whose alignment is at most 16 and at most their
//! size. That is right with jemalloc's default quantum of 16 bytes and wrong with one of 8: a table of hashbrown that asks
//! for 16 may then lie at 8. [`Jemalloc`] passes every alignment above the quantum.
//!
//! All functions but those of [`Jemalloc`] do nothing, or return zeros, in a program that has another global allocator.

pub mod huge_pages;

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::NonNull;
use std::sync::LazyLock;

use tikv_jemalloc_sys as ffi;

/// Alignment that every allocation has. Source: `JEMALLOC_SYS_WITH_LG_QUANTUM` in `.cargo/config.toml`.
const QUANTUM: usize = 8;

/// The global allocator: `#[global_allocator] static GLOBAL: Jemalloc = Jemalloc;`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Jemalloc;

/// Flags that make jemalloc honour the alignment of `layout`; 0 when its size classes do.
fn align_flags(layout: Layout) -> c_int {
    if layout.align() <= QUANTUM { 0 } else { ffi::MALLOCX_ALIGN(layout.align()) }
}

// SAFETY: jemalloc upholds the contract of `GlobalAlloc`: blocks of at least `layout.size()` bytes, aligned to the quantum
// or to the alignment in the flags, valid until they are freed once, from any thread. Sizes are not zero (the caller's
// duty), as `mallocx`, `rallocx` and `sdallocx` demand.
unsafe impl GlobalAlloc for Jemalloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let flags = align_flags(layout);
        // SAFETY: the size is not zero.
        let block = unsafe {
            if flags == 0 { ffi::malloc(layout.size()) } else { ffi::mallocx(layout.size(), flags) }
        };
        block.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let flags = align_flags(layout) | ffi::MALLOCX_ZERO;
        // SAFETY: the size is not zero.
        unsafe { ffi::mallocx(layout.size(), flags) }.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block was allocated with this size and these flags.
        unsafe { ffi::sdallocx(block.cast(), layout.size(), align_flags(layout)) };
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the block was allocated with these flags, and the new size is not zero.
        unsafe { ffi::rallocx(block.cast(), new_size, align_flags(layout)) }.cast()
    }
}

/// What the allocator holds, in bytes. Source: jemalloc(3), `stats.*`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bytes that the program has allocated, in whole size classes.
    pub allocated: u64,
    /// Bytes in pages that hold at least one allocation.
    pub active: u64,
    /// Bytes of memory that is mapped and resident, as far as the allocator knows.
    pub resident: u64,
}

/// The figures of this moment.
#[must_use]
pub fn figures() -> Figures {
    if !is_active() {
        return Figures::default();
    }
    // The other figures are those of the last epoch.
    write(c"epoch", 1u64);
    Figures {
        allocated: read::<usize>(c"stats.allocated").unwrap_or(0) as u64,
        active: read::<usize>(c"stats.active").unwrap_or(0) as u64,
        resident: read::<usize>(c"stats.resident").unwrap_or(0) as u64,
    }
}

/// Whether [`Jemalloc`] is the global allocator of this program.
#[must_use]
pub fn is_active() -> bool {
    static ACTIVE: LazyLock<bool> = LazyLock::new(|| {
        const PROBE_LEN: u64 = 1 << 20;
        let before = read::<u64>(c"thread.allocated");
        drop(std::hint::black_box(vec![1u8; 1 << 20]));
        let after = read::<u64>(c"thread.allocated");
        matches!((before, after), (Some(before), Some(after)) if after - before >= PROBE_LEN)
    });
    *ACTIVE
}

/// Copies an allocation to where jemalloc serves its size from now, and frees the old one; none in a program that has
/// another allocator, or when there is no memory.
///
/// jemalloc serves from the oldest of the slabs that have room. A program that moves all its allocations once, in any
/// order, therefore fills the oldest slabs and empties the others. The caches of the thread are passed by, since they
/// return what was just freed.
///
/// # Safety
/// `block` was allocated by the global allocator with `layout`, whose size is not zero and whose alignment is at most 8,
/// and is used by nobody else. When a block is returned the old one must not be used any more.
#[must_use]
pub unsafe fn relocate(block: NonNull<u8>, layout: Layout) -> Option<NonNull<u8>> {
    if !is_active() {
        return None;
    }
    debug_assert!(layout.align() <= QUANTUM, "entries need no larger alignment");
    let flags = ffi::MALLOCX_TCACHE_NONE;
    // SAFETY: the size is not zero.
    let moved = NonNull::new(unsafe { ffi::mallocx(layout.size(), flags) }.cast::<u8>())?;
    // SAFETY: both blocks have at least `layout.size()` bytes and are distinct; the old one was allocated by jemalloc with
    // this size.
    unsafe {
        std::ptr::copy_nonoverlapping(block.as_ptr(), moved.as_ptr(), layout.size());
        ffi::sdallocx(block.as_ptr().cast(), layout.size(), flags);
    }
    Some(moved)
}

/// Gives what the thread keeps for its next allocations back to the arenas, so that [`relocate`] can use it.
pub fn flush_thread_cache() {
    if is_active() {
        call(c"thread.tcache.flush");
    }
}

/// Gives free pages of all arenas back to the system at once, and what the thread keeps for its next allocations to the
/// arenas before.
pub fn purge() {
    flush_thread_cache();
    if is_active() {
        // 4096 stands for all arenas. Source: jemalloc(3), `MALLCTL_ARENAS_ALL`.
        call(c"arena.4096.purge");
    }
}

/// What jemalloc tells about itself, in text; empty in a program that has another allocator.
#[must_use]
pub fn report() -> String {
    /// Appends a piece of the report.
    ///
    /// # Safety
    /// `text` is the address of a vector that nobody else uses, and `piece` a C string.
    unsafe extern "C" fn append(text: *mut c_void, piece: *const c_char) {
        // SAFETY: the caller's promise, which is `malloc_stats_print`'s: it passes on what it was given.
        let (text, piece) = unsafe { (&mut *text.cast::<Vec<u8>>(), CStr::from_ptr(piece)) };
        text.extend_from_slice(piece.to_bytes());
    }
    let mut text: Vec<u8> = Vec::new();
    if is_active() {
        // SAFETY: `append` takes the vector, which outlives the call; without options the report is whole.
        unsafe {
            ffi::malloc_stats_print(
                Some(append),
                std::ptr::from_mut(&mut text).cast::<c_void>(),
                std::ptr::null(),
            );
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Bytes that an allocation of `size` bytes takes.
#[must_use]
pub fn class_size(size: usize) -> usize {
    // SAFETY: the size is not zero.
    unsafe { ffi::nallocx(size.max(1), 0) }
}

/// The value of one of jemalloc's controls that are numbers, such as `arenas.page`; none when there is no such control.
#[must_use]
pub fn control(name: &CStr) -> Option<u64> {
    if !is_active() {
        return None;
    }
    // A control is read with exactly its own size.
    read::<u64>(name).or_else(|| read::<u32>(name).map(u64::from)).or_else(|| read::<u8>(name).map(u64::from))
}

fn call(name: &CStr) {
    // SAFETY: the name is a C string, and the control takes no values. A control that does not exist changes nothing.
    unsafe {
        ffi::mallctl(name.as_ptr(), std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut(), 0)
    };
}

fn read<T: Default>(name: &CStr) -> Option<T> {
    let mut value = T::default();
    let mut len = size_of::<T>();
    // SAFETY: the value has the length that is given; jemalloc refuses any other.
    let code = unsafe {
        ffi::mallctl(
            name.as_ptr(),
            std::ptr::from_mut(&mut value).cast::<c_void>(),
            &raw mut len,
            std::ptr::null_mut(),
            0,
        )
    };
    (code == 0 && len == size_of::<T>()).then_some(value)
}

fn write<T>(name: &CStr, mut value: T) {
    // SAFETY: the value has the length that is given; jemalloc refuses any other.
    unsafe {
        ffi::mallctl(
            name.as_ptr(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::from_mut(&mut value).cast::<c_void>(),
            size_of::<T>(),
        )
    };
}
