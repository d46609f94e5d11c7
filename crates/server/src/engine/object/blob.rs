//! Bytes of large values: one allocation, shared by count.

use std::alloc::{alloc, dealloc, handle_alloc_error, realloc};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use super::{class_size, layout};

#[repr(C)]
struct Head {
    owners: AtomicUsize,
    len: usize,
    /// Bytes of the allocation, this head included.
    size: usize,
}

const HEAD_LEN: usize = size_of::<Head>();

/// A byte string that several owners may hold and the only owner may change. Cloning copies no bytes.
///
/// Snapshots and replies hold values in this way while commands go on.
pub(crate) struct Blob(NonNull<Head>);

// SAFETY: the count is atomic, and bytes are only changed by an owner that has no other beside it.
unsafe impl Send for Blob {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for Blob {}

impl Blob {
    pub(crate) fn new(bytes: &[u8]) -> Blob {
        let mut blob = Blob::with_capacity(bytes.len());
        // SAFETY: the allocation has room for the bytes behind its head, and nobody else knows it.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), blob.data(), bytes.len());
            blob.0.as_mut().len = bytes.len();
        }
        blob
    }

    fn with_capacity(capacity: usize) -> Blob {
        let layout = layout(HEAD_LEN + capacity);
        // SAFETY: the size is not zero.
        let block = unsafe { alloc(layout) };
        let Some(head) = NonNull::new(block.cast::<Head>()) else { handle_alloc_error(layout) };
        // SAFETY: the allocation is large enough for a head, and aligned for it.
        unsafe { head.write(Head { owners: AtomicUsize::new(1), len: 0, size: layout.size() }) };
        Blob(head)
    }

    fn head(&self) -> &Head {
        // SAFETY: the head lives as long as an owner does.
        unsafe { self.0.as_ref() }
    }

    fn data(&self) -> *mut u8 {
        // SAFETY: the bytes follow the head in the same allocation.
        unsafe { self.0.as_ptr().cast::<u8>().add(HEAD_LEN) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes behind the head were written, and nobody changes them while there is a shared reference.
        unsafe { std::slice::from_raw_parts(self.data(), self.head().len) }
    }

    /// Bytes of the allocation.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.head().size
    }

    fn is_shared(&self) -> bool {
        self.head().owners.load(Ordering::Acquire) != 1
    }

    /// The bytes for a change, `len` of them: cut, or filled up with zeros. A blob that others hold is copied first.
    pub(crate) fn bytes_mut(&mut self, len: usize) -> &mut [u8] {
        self.make_room(len);
        let old_len = self.head().len;
        // SAFETY: this is the only owner, and there is room for `len` bytes; those behind the old length are written before
        // they count.
        unsafe {
            if len > old_len {
                self.data().add(old_len).write_bytes(0, len - old_len);
            }
            self.0.as_mut().len = len;
            std::slice::from_raw_parts_mut(self.data(), len)
        }
    }

    /// Replaces the bytes, in an allocation of the class that they need. What grows by being replaced is copied each time, so
    /// room to grow would save nothing.
    pub(super) fn replace(&mut self, bytes: &[u8]) {
        if self.is_shared() || class_size(HEAD_LEN + bytes.len()) != self.head().size {
            *self = Blob::new(bytes);
            return;
        }
        // SAFETY: this is the only owner, and an allocation of the class of these bytes has room for them.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.data(), bytes.len());
            self.0.as_mut().len = bytes.len();
        }
    }

    /// Makes this the only owner, of an allocation of the right size for `len` bytes.
    fn make_room(&mut self, len: usize) {
        let size = self.head().size;
        if self.is_shared() {
            let kept = self.head().len.min(len);
            let mut copy = Blob::with_capacity(len);
            // SAFETY: both have `kept` bytes, and they are distinct.
            unsafe {
                std::ptr::copy_nonoverlapping(self.data(), copy.data(), kept);
                copy.0.as_mut().len = kept;
            }
            *self = copy;
            return;
        }
        let needed = class_size(HEAD_LEN + len);
        if needed <= size && needed > size / 4 * 3 {
            return;
        }
        // A value that grows will go on growing: an eighth more than needed, of pages that are not touched before.
        let wanted = if needed > size { class_size(HEAD_LEN + len + len / 8) } else { needed };
        let old = layout(size);
        // SAFETY: this is the only owner of an allocation that was made with this layout; the new size is not zero. What
        // is cut off is no longer counted in the length.
        unsafe {
            let block = realloc(self.0.as_ptr().cast(), old, wanted);
            let Some(head) = NonNull::new(block.cast::<Head>()) else { handle_alloc_error(layout(wanted)) };
            self.0 = head;
            self.0.as_mut().size = wanted;
            self.0.as_mut().len = self.head().len.min(len);
        }
    }

    /// Hands the ownership over as an address.
    pub(super) fn into_address(self) -> usize {
        std::mem::ManuallyDrop::new(self).address()
    }

    /// The address that [`Blob::into_address`] returns; the ownership stays here.
    pub(super) fn address(&self) -> usize {
        self.0.as_ptr().expose_provenance()
    }

    /// Takes the ownership back.
    ///
    /// # Safety
    /// The address is from [`Blob::into_address`], and each is taken back once at most.
    pub(super) unsafe fn from_address(address: usize) -> Blob {
        // SAFETY: the address of a head is not zero.
        Blob(unsafe { NonNull::new_unchecked(std::ptr::with_exposed_provenance_mut(address)) })
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Clone for Blob {
    fn clone(&self) -> Blob {
        // A new owner is made from an old one, so there is nothing to wait for.
        self.head().owners.fetch_add(1, Ordering::Relaxed);
        Blob(self.0)
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        if self.head().owners.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        // What other owners did happens before the memory is freed.
        fence(Ordering::Acquire);
        // SAFETY: this was the last owner, and the allocation was made with a layout of this size.
        unsafe { dealloc(self.0.as_ptr().cast(), layout(self.head().size)) };
    }
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blob").field("len", &self.bytes().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_blob_is_copied_before_it_changes() {
        let mut mine = Blob::new(&[7; 5000]);
        let held = mine.clone();
        mine.bytes_mut(5001)[0] = 1;
        assert_eq!(held.bytes(), &[7; 5000]);
        assert_eq!((mine.bytes()[0], mine.bytes()[1], mine.bytes()[5000]), (1, 7, 0));
        drop(held);
        let before = mine.bytes().as_ptr();
        mine.bytes_mut(5001)[1] = 2;
        assert_eq!(mine.bytes().as_ptr(), before, "the only owner changes in place");
    }

    #[test]
    fn the_allocation_follows_the_length() {
        let mut blob = Blob::new(&[1; 100_000]);
        blob.bytes_mut(10);
        assert!(blob.memory_bytes() < 100, "memory comes back");
        assert_eq!(blob.bytes(), &[1; 10]);
        blob.bytes_mut(1 << 20);
        assert!(blob.memory_bytes() <= (1 << 20) * 9 / 8 + 4096, "at most an eighth too much");
        assert_eq!((blob.bytes()[9], blob.bytes()[10]), (1, 0));
    }

    #[test]
    fn replaced_bytes_take_their_class_and_others_keep_what_they_had() {
        let mut blob = Blob::new(&[1; 3000]);
        let held = blob.clone();
        for len in [3000, 3010, 3060, 5000, 100_000, 99_000, 5000, 10] {
            blob.replace(&vec![2; len]);
            assert_eq!(blob.bytes(), vec![2; len]);
            assert_eq!(blob.memory_bytes(), class_size(HEAD_LEN + len), "{len} bytes");
        }
        assert_eq!(held.bytes(), &[1; 3000]);
    }

    #[test]
    fn owners_may_live_in_several_threads() {
        let blob = Blob::new(&[3; 4000]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let held = blob.clone();
                scope.spawn(move || {
                    for _ in 0..1000 {
                        assert_eq!(held.clone().bytes().len(), 4000);
                    }
                });
            }
        });
        assert!(!blob.is_shared());
    }
}
