//! Keys with their values in memory: one allocation per small key.
//!
//! ```text
//!  Entry ─▶ header 4 │ [expiry 8] │ key length 1, 3 or 5 │ key │ value
//!                                                                ├ integer: 8 bytes
//!                                                                ├ inline:  length 1 or 3 │ bytes
//!                                                                ├ blob:    pointer to the bytes, shared by count
//!                                                                └ large:   pointer to a large collection
//!  header: type 4 bits │ encoding 2 │ has expiry 1 │ variant 1 │ last access 24 (see engine/access.rs)
//! ```
//!
//! The bytes of a string are the string, those of a collection its packed form: a listpack, an intset, or the pairs of a
//! hash.
//!
//! Nothing here knows tables, databases or time. `unsafe` stays in this folder and in the table's; the faces are safe.

#![expect(
    unsafe_code,
    reason = "the layout of memory is the point: see docs/decisions/0018-entry-and-table.md"
)]

mod blob;
mod entry;
mod large;

pub(crate) use holdfast_collections::memory::class_size;

pub(crate) use blob::Blob;
pub(crate) use entry::{Discarded, Entry, EntryView, NewValue, Packed};
pub(crate) use large::{Collection, Large};

use std::alloc::Layout;

/// What a value is, under the numbers that Redis has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A string.
    String = 0,
    /// A list.
    List = 1,
    /// A set.
    Set = 2,
    /// A sorted set.
    SortedSet = 3,
    /// A hash.
    Hash = 4,
}

impl Kind {
    /// How many types there are.
    pub(crate) const COUNT: usize = Kind::Hash as usize + 1;

    /// The name that `TYPE` replies.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::SortedSet => "zset",
            Kind::Hash => "hash",
        }
    }
}

/// The layout of an allocation for `len` bytes.
fn layout(len: usize) -> Layout {
    Layout::from_size_align(class_size(len), 8).expect("strings are shorter than the address space")
}

#[cfg(test)]
mod tests {
    use super::class_size;

    #[test]
    fn sizes_are_those_of_the_allocator() {
        for len in (1..20_000).chain([1 << 20, (1 << 20) + 1, 500 << 20]) {
            assert_eq!(class_size(len), holdfast_allocator::class_size(len), "{len} bytes");
        }
    }
}
