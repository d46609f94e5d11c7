//! Full blocks move into huge pages, with what they hold; others stay as they are.

use std::collections::BTreeSet;

use holdfast_allocator::huge_pages::{BLOCK_LEN, HugePages, Unavailable};

const BLOCKS: usize = 8;

/// Memory of this process alone, with a whole number of blocks in it.
struct Mapping {
    start: *mut u8,
    len: usize,
}

impl Mapping {
    fn new() -> Self {
        let len = (BLOCKS + 1) * BLOCK_LEN;
        let (protection, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, kind, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        Self { start: start.cast(), len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: mapped, writable, and borrowed from here alone.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }

    /// Addresses of the whole blocks.
    fn blocks(&self) -> BTreeSet<usize> {
        let first = self.start.addr().next_multiple_of(BLOCK_LEN);
        let end = self.start.addr() + self.len;
        (first..).step_by(BLOCK_LEN).take_while(|at| at + BLOCK_LEN <= end).collect()
    }

    /// Gives one page of the block at `address` back.
    fn make_hole(&mut self, address: usize) {
        // SAFETY: the page lies in the mapping, and nobody has a reference to it.
        let code = unsafe {
            let page = self.start.add(address - self.start.addr() + 7 * 4096);
            libc::madvise(page.cast(), 4096, libc::MADV_DONTNEED)
        };
        assert_eq!(code, 0);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped with this length, and not used any more.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}

/// What the byte at `index` holds; each page differs from its neighbours.
fn content(index: usize) -> u8 {
    (index / 4096 + index).to_le_bytes()[0]
}

/// All blocks that are found, in calls of two at a time.
fn find_all(pages: &mut HugePages) -> BTreeSet<usize> {
    let (mut all, mut blocks) = (BTreeSet::new(), Vec::new());
    loop {
        blocks.clear();
        let goes_on = pages.find(2, &mut blocks).expect("the kernel says what is mapped");
        all.extend(&blocks);
        if !goes_on {
            return all;
        }
    }
}

/// Whether the kernel is older than 6.7, or huge pages are forbidden: then nothing can be tested but that it is said.
fn is_rightly_unavailable(why: &Unavailable) -> bool {
    match why {
        Unavailable::Forbidden => std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
            .is_ok_and(|policy| policy.contains("[never]")),
        Unavailable::Kernel(_) => {
            let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
            let mut numbers = release.split(['.', '-']).map(|word| word.parse::<u32>().unwrap_or(0));
            (numbers.next(), numbers.next()) < (Some(6), Some(7))
        }
    }
}

#[test]
fn full_blocks_are_found_and_moved_with_what_they_hold() {
    let mut pages = match HugePages::open() {
        Ok(pages) => pages,
        Err(why) => {
            assert!(is_rightly_unavailable(&why), "{why}");
            return;
        }
    };
    let mut mapping = Mapping::new();
    let ours = mapping.blocks();
    let untouched = find_all(&mut pages);
    assert!(ours.is_disjoint(&untouched), "nothing of it is in use");

    for (index, byte) in mapping.bytes().iter_mut().enumerate() {
        *byte = content(index);
    }
    let (hole, last) = (*ours.first().expect("blocks"), *ours.last().expect("blocks"));
    mapping.make_hole(hole);
    mapping.make_hole(last);
    let expected: BTreeSet<usize> = ours.iter().copied().filter(|at| *at != hole && *at != last).collect();
    let found: BTreeSet<usize> = find_all(&mut pages).intersection(&ours).copied().collect();
    assert_eq!(found, expected, "all full blocks, and none with a hole");

    assert!(!pages.move_block(hole), "a hole is not filled");
    for block in &expected {
        assert!(pages.move_block(*block));
    }
    assert!(find_all(&mut pages).is_disjoint(&ours), "what lies in huge pages is not found again");
    let start = mapping.start.addr();
    for (index, byte) in mapping.bytes().iter().enumerate() {
        let address = start + index;
        let is_hole =
            [hole, last].iter().any(|block| (block + 7 * 4096..block + 8 * 4096).contains(&address));
        let expected = if is_hole { 0 } else { content(index) };
        assert_eq!(*byte, expected, "byte {index}");
    }

    // Part of a huge page is given back: the rest is in small pages, and not full.
    mapping.make_hole(*expected.first().expect("blocks"));
    assert!(find_all(&mut pages).is_disjoint(&ours));
    drop(mapping);
    assert!(!pages.move_block(hole), "nothing is mapped there any more");
}
