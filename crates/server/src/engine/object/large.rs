//! Collections that are too large to be packed, and the bridge between packed bytes and what commands change.

use holdfast_collections::types::{Hash, List, Set, SortedSet};

use super::{Kind, Packed};
use crate::engine::value::ValueRef;

/// A large collection. A clone costs nothing and keeps what it had while the original changes.
#[derive(Debug, Clone)]
pub(crate) enum Large {
    List(List),
    Set(Set),
    SortedSet(SortedSet),
    Hash(Hash),
}

impl Large {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Large::List(_) => Kind::List,
            Large::Set(_) => Kind::Set,
            Large::SortedSet(_) => Kind::SortedSet,
            Large::Hash(_) => Kind::Hash,
        }
    }

    /// The collection, borrowed.
    pub(crate) fn view(&self) -> ValueRef<'_> {
        match self {
            Large::List(list) => ValueRef::List(list.view()),
            Large::Set(set) => ValueRef::Set(set.view()),
            Large::SortedSet(set) => ValueRef::SortedSet(set.view()),
            Large::Hash(hash) => ValueRef::Hash(hash.view()),
        }
    }

    /// Bytes that a clone has for itself besides its handle, as estimated.
    pub(crate) fn cloned_bytes(&self) -> usize {
        match self {
            Large::List(list) => list.cloned_bytes(),
            Large::Set(_) | Large::SortedSet(_) | Large::Hash(_) => 0,
        }
    }

    /// Bytes of all its allocations, as estimated.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Large>()
            + match self {
                Large::List(list) => list.memory_bytes(),
                Large::Set(set) => set.memory_bytes(),
                Large::SortedSet(set) => set.memory_bytes(),
                Large::Hash(hash) => hash.memory_bytes(),
            }
    }
}

/// A type whose values are changed in place while they are large, and as a run of bytes while they are packed.
pub(crate) trait Collection: Sized {
    /// What the type is.
    const KIND: Kind;

    /// A value without elements, in memory that may be used again.
    fn empty(memory: Vec<u8>) -> Self;

    /// The value that has these bytes.
    fn from_packed(packed: Packed, bytes: Vec<u8>) -> Self;

    /// The bytes, and what they are; none when the value is large.
    fn as_packed(&self) -> Option<(Packed, &[u8])>;

    /// The memory of a packed value, to be used again.
    fn into_memory(self) -> Vec<u8>;

    fn into_large(self) -> Large;

    /// The value in a large collection of this type.
    fn of(large: &mut Large) -> Option<&mut Self>;

    fn is_empty(&self) -> bool;
}

impl Collection for List {
    const KIND: Kind = Kind::List;

    fn empty(memory: Vec<u8>) -> Self {
        List::empty(memory)
    }

    fn from_packed(_: Packed, bytes: Vec<u8>) -> Self {
        List::Packed(bytes)
    }

    fn as_packed(&self) -> Option<(Packed, &[u8])> {
        match self {
            List::Packed(bytes) => Some((Packed::List, bytes)),
            List::Large(_) => None,
        }
    }

    fn into_memory(self) -> Vec<u8> {
        match self {
            List::Packed(bytes) => bytes,
            List::Large(_) => Vec::new(),
        }
    }

    fn into_large(self) -> Large {
        Large::List(self)
    }

    fn of(large: &mut Large) -> Option<&mut Self> {
        if let Large::List(list) = large { Some(list) } else { None }
    }

    fn is_empty(&self) -> bool {
        self.view().is_empty()
    }
}

impl Collection for Set {
    const KIND: Kind = Kind::Set;

    fn empty(memory: Vec<u8>) -> Self {
        Set::empty(memory)
    }

    fn from_packed(packed: Packed, bytes: Vec<u8>) -> Self {
        if packed == Packed::Ints { Set::Ints(bytes) } else { Set::Packed(bytes) }
    }

    fn as_packed(&self) -> Option<(Packed, &[u8])> {
        match self {
            Set::Ints(bytes) => Some((Packed::Ints, bytes)),
            Set::Packed(bytes) => Some((Packed::Set, bytes)),
            Set::Large(_) => None,
        }
    }

    fn into_memory(self) -> Vec<u8> {
        match self {
            Set::Ints(bytes) | Set::Packed(bytes) => bytes,
            Set::Large(_) => Vec::new(),
        }
    }

    fn into_large(self) -> Large {
        Large::Set(self)
    }

    fn of(large: &mut Large) -> Option<&mut Self> {
        if let Large::Set(set) = large { Some(set) } else { None }
    }

    fn is_empty(&self) -> bool {
        self.view().is_empty()
    }
}

impl Collection for SortedSet {
    const KIND: Kind = Kind::SortedSet;

    fn empty(memory: Vec<u8>) -> Self {
        SortedSet::empty(memory)
    }

    fn from_packed(_: Packed, bytes: Vec<u8>) -> Self {
        SortedSet::Packed(bytes)
    }

    fn as_packed(&self) -> Option<(Packed, &[u8])> {
        match self {
            SortedSet::Packed(bytes) => Some((Packed::SortedSet, bytes)),
            SortedSet::Large(_) => None,
        }
    }

    fn into_memory(self) -> Vec<u8> {
        match self {
            SortedSet::Packed(bytes) => bytes,
            SortedSet::Large(_) => Vec::new(),
        }
    }

    fn into_large(self) -> Large {
        Large::SortedSet(self)
    }

    fn of(large: &mut Large) -> Option<&mut Self> {
        if let Large::SortedSet(set) = large { Some(set) } else { None }
    }

    fn is_empty(&self) -> bool {
        self.view().is_empty()
    }
}

impl Collection for Hash {
    const KIND: Kind = Kind::Hash;

    fn empty(memory: Vec<u8>) -> Self {
        Hash::empty(memory)
    }

    fn from_packed(_: Packed, bytes: Vec<u8>) -> Self {
        Hash::Packed(bytes)
    }

    fn as_packed(&self) -> Option<(Packed, &[u8])> {
        match self {
            Hash::Packed(bytes) => Some((Packed::Hash, bytes)),
            Hash::Large(_) => None,
        }
    }

    fn into_memory(self) -> Vec<u8> {
        match self {
            Hash::Packed(bytes) => bytes,
            Hash::Large(_) => Vec::new(),
        }
    }

    fn into_large(self) -> Large {
        Large::Hash(self)
    }

    fn of(large: &mut Large) -> Option<&mut Self> {
        if let Large::Hash(hash) = large { Some(hash) } else { None }
    }

    fn is_empty(&self) -> bool {
        self.view().is_empty()
    }
}
