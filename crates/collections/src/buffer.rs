//! Runs of bytes that take whole allocations and no more than they need.

use crate::memory::class_size;

/// Makes room for some more bytes: as much as the allocator gives for those, and no more.
#[inline]
pub(crate) fn grow(bytes: &mut Vec<u8>, added: usize) {
    let len = bytes.len() + added;
    if len > bytes.capacity() {
        bytes.reserve_exact(class_size(len) - bytes.len());
    }
}

/// Returns unused room when it is a quarter or more.
#[inline]
pub(crate) fn shrink(bytes: &mut Vec<u8>) {
    let wanted = class_size(bytes.len());
    if wanted * 4 <= bytes.capacity() * 3 {
        bytes.shrink_to(wanted);
    }
}

/// Gives the `removed` bytes at `at` the length `added` and returns their place, to be written. What follows moves.
#[inline]
pub(crate) fn make_place(bytes: &mut Vec<u8>, at: usize, removed: usize, added: usize) -> &mut [u8] {
    let (old_len, tail) = (bytes.len(), at + removed);
    if added > removed {
        let growth = added - removed;
        grow(bytes, growth);
        bytes.resize(old_len + growth, 0);
        bytes.copy_within(tail..old_len, at + added);
    } else if added < removed {
        bytes.copy_within(tail.., at + added);
        bytes.truncate(old_len - (removed - added));
    }
    &mut bytes[at..at + added]
}
