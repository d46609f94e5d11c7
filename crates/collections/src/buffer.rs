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
