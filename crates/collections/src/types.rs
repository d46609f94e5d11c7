//! What a hash, a set, a list and a sorted set can do, whichever way they lie in memory.
//!
//! Each type is packed while it is small and becomes large when it passes its [`Limits`]; it never becomes small again, as
//! in Redis. A packed value is one `Vec<u8>`, so that its owner may keep the bytes wherever it likes: `…Ref` reads them from
//! there.

mod hash;
mod list;
mod set;
mod sorted_set;
#[cfg(test)]
mod tests;

pub use hash::{Hash, HashRef};
pub use list::{LIST_ELEMENT_LEN_MAX, List, ListRef};
pub use set::{Set, SetRef};
pub use sorted_set::{SortedSet, SortedSetRef, parse_score};

use crate::listpack::{self, Item, View};

/// Bytes that no packed value passes, whatever its limits are: each change moves or copies all of it.
pub(crate) const PACKED_LEN_MAX: usize = 1 << 20;

/// When a collection stops being packed. Defaults are those of Redis 7.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most fields of a packed hash (`hash-max-listpack-entries`).
    pub hash_entries: usize,
    /// Longest field or value of a packed hash, in bytes (`hash-max-listpack-value`).
    pub hash_value: usize,
    /// Most members of a set of integers (`set-max-intset-entries`).
    pub set_ints: usize,
    /// Most members of a packed set that are not all integers (`set-max-listpack-entries`, of Redis 7.2).
    pub set_entries: usize,
    /// Longest member of such a set, in bytes (`set-max-listpack-value`, of Redis 7.2).
    pub set_value: usize,
    /// Most members of a packed sorted set (`zset-max-listpack-entries`).
    pub sorted_set_entries: usize,
    /// Longest member of a packed sorted set, in bytes (`zset-max-listpack-value`).
    pub sorted_set_value: usize,
    /// Longest listpack of a list: -1 to -5 for 4 to 64 KiB, or a number of elements (`list-max-listpack-size`).
    pub list_fill: i32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            hash_entries: 512,
            hash_value: 64,
            set_ints: 512,
            set_entries: 128,
            set_value: 64,
            sorted_set_entries: 128,
            sorted_set_value: 64,
            list_fill: -2,
        }
    }
}

/// One of two iterators over the same.
enum Either<A, B> {
    Packed(A),
    Large(B),
}

impl<T, A: Iterator<Item = T>, B: Iterator<Item = T>> Iterator for Either<A, B> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match self {
            Either::Packed(inner) => inner.next(),
            Either::Large(inner) => inner.next(),
        }
    }
}

/// Elements two by two.
fn pairs<'a>(list: View<'a>) -> impl Iterator<Item = (Item<'a>, Item<'a>)> {
    let mut items = list.iter();
    std::iter::from_fn(move || Some((items.next()?, items.next()?)))
}

/// Adds an element to a packed value that is shorter than its limits by far.
fn push(list: &mut Vec<u8>, item: Item<'_>) {
    listpack::push_back(list, item).expect("packed values are far below 1 GiB");
}
