//! Hashes: fields with values.

use super::{Either, Limits, PACKED_LEN_MAX};
use crate::dict::Dict;
use crate::hash::KeyHasher;
use crate::listpack::{Item, Scratch};
use crate::pairs::{self, View};

/// Fields with their values, in no particular order.
#[derive(Debug, Clone)]
pub enum Hash {
    /// Packed pairs. A snapshot has a listpack instead.
    Packed(Vec<u8>),
    /// A dict.
    Large(Dict),
}

/// A [`Hash`], borrowed.
#[derive(Debug, Clone, Copy)]
pub enum HashRef<'a> {
    /// See [`Hash::Packed`].
    Packed(View<'a>),
    /// See [`Hash::Large`].
    Large(&'a Dict),
}

impl Hash {
    /// A hash without fields, in memory that may be used again.
    #[must_use]
    pub fn empty(mut memory: Vec<u8>) -> Hash {
        pairs::clear_into(&mut memory);
        Hash::Packed(memory)
    }

    /// The hash, borrowed.
    #[must_use]
    pub fn view(&self) -> HashRef<'_> {
        match self {
            Hash::Packed(pairs) => HashRef::Packed(View::trusted(pairs)),
            Hash::Large(dict) => HashRef::Large(dict),
        }
    }

    /// Makes the hash large if one of these strings is too long for a packed one. To be called with everything that a command
    /// is about to set, as Redis does.
    pub fn prepare<'s>(
        &mut self,
        mut strings: impl Iterator<Item = &'s [u8]>,
        limits: &Limits,
        hasher: KeyHasher,
    ) {
        if matches!(self, Hash::Packed(_)) && strings.any(|it| it.len() > limits.hash_value) {
            self.make_large(hasher);
        }
    }

    /// Sets a field; true when it is new.
    pub fn set(&mut self, field: &[u8], value: &[u8], limits: &Limits, hasher: KeyHasher) -> bool {
        if let Hash::Packed(pairs) = self
            && (field.len().max(value.len()) > limits.hash_value
                || pairs.len() + field.len() + value.len() > PACKED_LEN_MAX)
        {
            self.make_large(hasher);
        }
        match self {
            Hash::Packed(pairs) => {
                let is_new = pairs::set(pairs, field, value);
                if is_new && View::trusted(pairs).len() > limits.hash_entries {
                    self.make_large(hasher);
                }
                is_new
            }
            Hash::Large(dict) => dict.insert(field, value),
        }
    }

    /// Removes a field; false when there is none.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match self {
            Hash::Packed(pairs) => pairs::remove(pairs, field),
            Hash::Large(dict) => dict.remove(field),
        }
    }

    /// Bytes of all its allocations, as estimated.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match self {
            Hash::Packed(bytes) => bytes.capacity(),
            Hash::Large(dict) => dict.memory_bytes(),
        }
    }

    fn make_large(&mut self, hasher: KeyHasher) {
        let Hash::Packed(pairs) = self else { return };
        let mut dict = Dict::with_values(hasher);
        let (mut field_text, mut value_text) = (Scratch::new(), Scratch::new());
        for (field, value) in View::trusted(pairs) {
            dict.insert(field.as_bytes(&mut field_text), value.as_bytes(&mut value_text));
        }
        *self = Hash::Large(dict);
    }
}

impl<'a> HashRef<'a> {
    /// Number of fields.
    #[must_use]
    pub fn len(self) -> usize {
        match self {
            HashRef::Packed(pairs) => pairs.len(),
            HashRef::Large(dict) => dict.len(),
        }
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The name of the encoding, as `OBJECT ENCODING` of Redis 7.0 says it.
    #[must_use]
    pub fn encoding(self) -> &'static str {
        match self {
            HashRef::Packed(_) => "listpack",
            HashRef::Large(_) => "hashtable",
        }
    }

    /// The value of a field.
    #[must_use]
    pub fn get(self, field: &[u8]) -> Option<Item<'a>> {
        match self {
            HashRef::Packed(pairs) => pairs.get(field),
            HashRef::Large(dict) => dict.get(field).map(Item::Bytes),
        }
    }

    /// Fields and values.
    pub fn iter(self) -> impl Iterator<Item = (Item<'a>, Item<'a>)> {
        match self {
            HashRef::Packed(pairs) => Either::Packed(pairs.iter()),
            HashRef::Large(dict) => {
                Either::Large(dict.iter().map(|(field, value)| (Item::Bytes(field), Item::Bytes(value))))
            }
        }
    }

    /// The field at a place in an order that lasts until the next change; none behind the end.
    #[must_use]
    pub fn nth(self, index: usize) -> Option<(Item<'a>, Item<'a>)> {
        match self {
            HashRef::Packed(pairs) => pairs.iter().nth(index),
            HashRef::Large(dict) => {
                let (field, value) = dict.nth(index)?;
                Some((Item::Bytes(field), Item::Bytes(value)))
            }
        }
    }

    /// Visits at least `count` fields from `cursor` on, if there are as many, and returns the next cursor; 0 begins and ends.
    /// A field that is there from beginning to end is visited at least once. A packed hash is visited whole.
    pub fn scan(self, cursor: u64, count: usize, mut visit: impl FnMut(Item<'_>, Item<'_>)) -> u64 {
        match self {
            HashRef::Packed(pairs) => {
                pairs.iter().for_each(|(field, value)| visit(field, value));
                0
            }
            HashRef::Large(dict) => {
                dict.scan(cursor, count, |field, value| visit(Item::Bytes(field), Item::Bytes(value)))
            }
        }
    }
}
