//! Buckets: nine slots and their tags in one line of the cache.
//!
//! A slot is the address of an entry in six bytes; its tag is one byte of the hash, so that nearly every key that is not
//! there is ruled out without touching an entry. An entry whose home bucket is full lies in the next one that has room;
//! every bucket that was passed counts it, so that a search ends at the first bucket that was never too small.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use crate::engine::object::{Entry, EntryView};

/// Slots of a bucket.
pub(super) const SLOTS: usize = 9;
const ADDRESS_LEN: usize = 6;
/// Lines of the cache, on the processors that this runs on.
const LINE_LEN: usize = 64;
/// A count that has come this far is not exact any more, and stays.
const OVERFLOW_MAX: u8 = u8::MAX;

/// Invariant: a slot holds the address of an entry that it owns if and only if its tag is not 0.
#[repr(C, align(64))]
pub(super) struct Bucket {
    tags: [u8; SLOTS],
    /// Entries that passed this bucket because it was full.
    overflow: u8,
    slots: [[u8; ADDRESS_LEN]; SLOTS],
}

const _: () = assert!(size_of::<Bucket>() == LINE_LEN, "a bucket is one line of the cache");

/// The slots whose tags were looked for, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slots(u32);

impl Iterator for Slots {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let slot = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        (slot < u32::BITS).then_some(slot as usize)
    }
}

/// The tag of a hash: never 0. Its bits choose neither segment nor bucket.
#[inline]
pub(super) fn tag_of(hash: u64) -> u8 {
    let [.., tag, _, _, _, _] = hash.to_be_bytes();
    tag.max(1)
}

/// Compares all tags one by one; what the vector instruction must agree with.
#[cfg(any(test, not(all(target_arch = "x86_64", target_feature = "sse2"))))]
fn matches_scalar(tags: &[u8; SLOTS], tag: u8) -> Slots {
    Slots(tags.iter().enumerate().fold(0, |bits, (slot, &it)| bits | u32::from(it == tag) << slot))
}

impl Bucket {
    /// The slots with this tag; with tag 0, the free ones.
    #[inline]
    pub(super) fn matches(&self, tag: u8) -> Slots {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
        {
            use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8};
            // SAFETY: a bucket has 64 bytes, of which the first 16 are loaded: the tags, and what is masked away.
            let equal = unsafe {
                let tags = _mm_loadu_si128(std::ptr::from_ref(self).cast());
                _mm_movemask_epi8(_mm_cmpeq_epi8(tags, _mm_set1_epi8(tag.cast_signed())))
            };
            Slots(equal.cast_unsigned() & ((1 << SLOTS) - 1))
        }
        #[cfg(not(all(target_arch = "x86_64", target_feature = "sse2")))]
        {
            matches_scalar(&self.tags, tag)
        }
    }

    /// The slots that hold an entry.
    #[inline]
    pub(super) fn occupied(&self) -> Slots {
        Slots(!self.matches(0).0 & ((1 << SLOTS) - 1))
    }

    pub(super) fn has_overflowed(&self) -> bool {
        self.overflow > 0
    }

    pub(super) fn count_passing(&mut self) {
        self.overflow = self.overflow.saturating_add(1);
    }

    /// An entry that passed this bucket has gone.
    pub(super) fn forget_passing(&mut self) {
        if self.overflow < OVERFLOW_MAX {
            self.overflow = self.overflow.saturating_sub(1);
        }
    }

    #[inline]
    fn address(&self, slot: usize) -> u64 {
        let [a, b, c, d, e, f] = self.slots[slot];
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    /// The entry in a slot.
    ///
    /// # Panics
    /// If there is none.
    #[inline]
    pub(super) fn view(&self, slot: usize) -> EntryView<'_> {
        assert!(self.tags[slot] != 0, "the slot holds an entry");
        // SAFETY: the slot owns the entry, and the bucket is borrowed as long as the view lives.
        unsafe { EntryView::from_address(self.address(slot)) }
    }

    /// Asks the processor for the first `len` bytes of the entry in a slot, if there is one, and for one line at least.
    #[inline]
    pub(super) fn prefetch_entry(&self, slot: usize, len: usize) {
        let start = usize::try_from(self.address(slot)).unwrap_or(0);
        let first = start & !(LINE_LEN - 1);
        for line in (first..start + len.max(1)).step_by(LINE_LEN) {
            prefetch(line);
        }
    }

    pub(super) fn tag(&self, slot: usize) -> u8 {
        self.tags[slot]
    }

    /// Takes the entry out of a slot.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn take(&mut self, slot: usize) -> Entry {
        assert!(self.tags[slot] != 0, "the slot holds an entry");
        self.tags[slot] = 0;
        // SAFETY: the slot owned the entry, and does so no more.
        unsafe { Entry::from_address(self.address(slot)) }
    }

    /// Puts an entry into a free slot.
    ///
    /// # Panics
    /// If it is not free, or the tag is 0.
    pub(super) fn put(&mut self, slot: usize, tag: u8, entry: Entry) {
        assert!(self.tags[slot] == 0 && tag != 0, "the slot is free");
        let [a, b, c, d, e, f, _, _] = entry.into_address().to_le_bytes();
        self.slots[slot] = [a, b, c, d, e, f];
        self.tags[slot] = tag;
    }

    /// Changes the entry in a slot. Should `change` panic, the slot is empty afterwards.
    #[inline]
    pub(super) fn change<R>(&mut self, slot: usize, change: impl FnOnce(&mut Entry) -> R) -> R {
        let tag = self.tags[slot];
        let mut entry = self.take(slot);
        let result = change(&mut entry);
        self.put(slot, tag, entry);
        result
    }
}

/// Asks the processor for a line of memory. The address need not be valid.
#[inline]
pub(super) fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// The buckets of a segment, and the entries in them.
pub(super) struct Buckets {
    first: NonNull<Bucket>,
    count: usize,
}

// SAFETY: the buckets are owned, and entries may be sent.
unsafe impl Send for Buckets {}

impl Buckets {
    pub(super) fn new(count: usize) -> Buckets {
        let layout = Buckets::layout(count);
        // SAFETY: the size is not zero: a segment has a bucket at least. A bucket of zeros is an empty one.
        match NonNull::new(unsafe { alloc_zeroed(layout) }.cast()) {
            Some(first) => Buckets { first, count },
            None => handle_alloc_error(layout),
        }
    }

    fn layout(count: usize) -> Layout {
        assert!(count > 0, "a segment has a bucket at least");
        Layout::array::<Bucket>(count).expect("segments are small")
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Bytes that so many buckets take.
    pub(super) const fn memory_bytes(count: usize) -> usize {
        crate::engine::object::class_size(count * size_of::<Bucket>())
    }

    pub(super) fn all(&self) -> &[Bucket] {
        // SAFETY: there are so many buckets, all of them initialised.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }

    pub(super) fn all_mut(&mut self) -> &mut [Bucket] {
        // SAFETY: as above, and the buckets are borrowed for changes.
        unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr(), self.count) }
    }

    /// Where they are, for whoever keeps the address beside the owner.
    pub(super) fn first(&self) -> NonNull<Bucket> {
        self.first
    }

    /// Where one of them is.
    pub(super) fn address(&self, at: usize) -> NonNull<Bucket> {
        assert!(at < self.count, "the bucket exists");
        // SAFETY: there are `count` buckets.
        unsafe { self.first.add(at) }
    }
}

impl Drop for Buckets {
    fn drop(&mut self) {
        for bucket in self.all_mut() {
            for slot in bucket.occupied() {
                drop(bucket.take(slot));
            }
        }
        // SAFETY: allocated with this layout, and not used any more.
        unsafe { dealloc(self.first.as_ptr().cast(), Buckets::layout(self.count)) };
    }
}

impl std::fmt::Debug for Buckets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buckets").field("count", &self.count).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_vector_comparison_finds_what_the_scalar_one_finds(tags: [u8; SLOTS], tag: u8, overflow: u8, noise: [u8; 6]) {
            let bucket = std::mem::ManuallyDrop::new(Bucket { tags, overflow, slots: [noise; SLOTS] });
            for tag in [tag, tags[0], tags[8], 0, overflow, noise[0]] {
                prop_assert_eq!(bucket.matches(tag), matches_scalar(&tags, tag));
            }
            let occupied: Vec<usize> = (0..SLOTS).filter(|&slot| tags[slot] != 0).collect();
            prop_assert_eq!(bucket.occupied().collect::<Vec<_>>(), occupied);
        }
    }

    #[test]
    fn no_hash_has_the_tag_of_a_free_slot() {
        assert_eq!(tag_of(0), 1);
        assert_eq!(tag_of(0x0000_00ab_0000_0000), 0xab);
        assert_eq!(tag_of(u64::MAX), 255);
    }
}
