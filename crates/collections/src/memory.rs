//! What the allocator takes for an allocation.

/// The longest allocation that has a size class; longer ones are whole pages.
const CLASS_LEN_MAX: usize = 14 << 10;
const PAGE_LEN: usize = 4096;

/// The size of the allocation for `len` bytes: the size classes of jemalloc with a quantum of 8 bytes. A buffer that grows
/// to such a size wastes nothing of its allocation, and a change that stays in its class needs none. Source: jemalloc(3),
/// "IMPLEMENTATION NOTES".
#[must_use]
#[inline]
pub const fn class_size(len: usize) -> usize {
    if len <= 64 {
        return if len == 0 { 8 } else { len.next_multiple_of(8) };
    }
    if len > CLASS_LEN_MAX {
        return len.next_multiple_of(PAGE_LEN);
    }
    // Four classes for each power of two.
    let step = 1usize << ((len - 1).ilog2() - 2);
    len.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::class_size;

    #[test]
    fn sizes_are_those_of_the_allocator() {
        let check = |len, expected| assert_eq!(class_size(len), expected, "{len} bytes");
        check(0, 8);
        check(1, 8);
        check(17, 24);
        check(64, 64);
        check(65, 80);
        check(129, 160);
        check(1025, 1280);
        check(2048, 2048);
        check(14 << 10, 14 << 10);
        check((14 << 10) + 1, 16 << 10);
        check((1 << 20) + 1, (1 << 20) + 4096);
    }
}
