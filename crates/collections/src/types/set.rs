//! Sets: members, each once.

use super::{Either, Limits, PACKED_LEN_MAX, push};
use crate::dict::Dict;
use crate::hash::KeyHasher;
use crate::intset;
use crate::listpack::{self, Item, View, integer};

/// Members in no particular order, each once.
#[derive(Debug, Clone)]
pub enum Set {
    /// An intset: integers alone.
    Ints(Vec<u8>),
    /// A listpack.
    Packed(Vec<u8>),
    /// A dict without values.
    Large(Dict),
}

/// A [`Set`], borrowed.
#[derive(Debug, Clone, Copy)]
pub enum SetRef<'a> {
    /// See [`Set::Ints`].
    Ints(intset::View<'a>),
    /// See [`Set::Packed`].
    Packed(View<'a>),
    /// See [`Set::Large`].
    Large(&'a Dict),
}

impl Set {
    /// A set without members, in memory that may be used again.
    #[must_use]
    pub fn empty(mut memory: Vec<u8>) -> Set {
        memory.clear();
        memory.extend_from_slice(&intset::new());
        Set::Ints(memory)
    }

    /// The set, borrowed.
    #[must_use]
    pub fn view(&self) -> SetRef<'_> {
        match self {
            Set::Ints(ints) => SetRef::Ints(intset::View::trusted(ints)),
            Set::Packed(list) => SetRef::Packed(View::trusted(list)),
            Set::Large(dict) => SetRef::Large(dict),
        }
    }

    /// Adds a member; true when it is new.
    pub fn insert(&mut self, member: &[u8], limits: &Limits, hasher: KeyHasher) -> bool {
        match self {
            Set::Ints(ints) => match integer(member) {
                Some(number) => {
                    let is_new = intset::insert(ints, number);
                    if is_new && intset::View::trusted(ints).len() > limits.set_ints.min(PACKED_LEN_MAX / 8) {
                        self.leave_ints(0, limits, hasher);
                    }
                    return is_new;
                }
                None => self.leave_ints(member.len(), limits, hasher),
            },
            Set::Packed(list) => {
                if View::trusted(list).find(member, 0).is_some() {
                    return false;
                }
                if member.len() > limits.set_value
                    || View::trusted(list).len() >= limits.set_entries
                    || list.len() + member.len() > PACKED_LEN_MAX
                {
                    self.make_large(hasher);
                }
            }
            Set::Large(_) => {}
        }
        match self {
            Set::Packed(list) => {
                push(list, Item::from_bytes(member));
                true
            }
            Set::Large(dict) => dict.insert(member, b""),
            Set::Ints(_) => unreachable!("a member that is no integer has ended this form"),
        }
    }

    /// Removes a member; false when it is not there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match self {
            Set::Ints(ints) => integer(member).is_some_and(|number| intset::remove(ints, number)),
            Set::Packed(list) => match View::trusted(list).find(member, 0) {
                Some(at) => {
                    listpack::remove(list, at, 1);
                    true
                }
                None => false,
            },
            Set::Large(dict) => dict.remove(member),
        }
    }

    /// Ends the form for integers, with room for one member more of this length.
    fn leave_ints(&mut self, member_len: usize, limits: &Limits, hasher: KeyHasher) {
        let Set::Ints(ints) = self else { return };
        let view = intset::View::trusted(ints);
        if view.len() < limits.set_entries && member_len <= limits.set_value.min(PACKED_LEN_MAX) {
            let mut list = listpack::new();
            view.iter().for_each(|number| push(&mut list, Item::Int(number)));
            *self = Set::Packed(list);
        } else {
            self.make_large(hasher);
        }
    }

    /// Bytes of all its allocations, as estimated.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match self {
            Set::Ints(bytes) | Set::Packed(bytes) => bytes.capacity(),
            Set::Large(dict) => dict.memory_bytes(),
        }
    }

    fn make_large(&mut self, hasher: KeyHasher) {
        let mut dict = Dict::without_values(hasher);
        let mut text = listpack::Scratch::new();
        for member in self.view().iter() {
            dict.insert(member.as_bytes(&mut text), b"");
        }
        *self = Set::Large(dict);
    }
}

impl<'a> SetRef<'a> {
    /// Number of members.
    #[must_use]
    pub fn len(self) -> usize {
        match self {
            SetRef::Ints(ints) => ints.len(),
            SetRef::Packed(list) => list.len(),
            SetRef::Large(dict) => dict.len(),
        }
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The name of the encoding, as `OBJECT ENCODING` of Redis 7.0 says it. That version has two.
    #[must_use]
    pub fn encoding(self) -> &'static str {
        match self {
            SetRef::Ints(_) => "intset",
            SetRef::Packed(_) | SetRef::Large(_) => "hashtable",
        }
    }

    /// Whether a member is there.
    #[must_use]
    pub fn contains(self, member: &[u8]) -> bool {
        match self {
            SetRef::Ints(ints) => integer(member).is_some_and(|number| ints.contains(number)),
            SetRef::Packed(list) => list.find(member, 0).is_some(),
            SetRef::Large(dict) => dict.contains(member),
        }
    }

    /// All members.
    pub fn iter(self) -> impl Iterator<Item = Item<'a>> {
        match self {
            SetRef::Ints(ints) => Either::Packed(Either::Packed(ints.iter().map(Item::Int))),
            SetRef::Packed(list) => Either::Packed(Either::Large(list.iter())),
            SetRef::Large(dict) => Either::Large(dict.iter().map(|(member, _)| Item::Bytes(member))),
        }
    }

    /// The member at a place in an order that lasts until the next change; none behind the end.
    #[must_use]
    pub fn nth(self, index: usize) -> Option<Item<'a>> {
        match self {
            SetRef::Ints(ints) => ints.get(index).map(Item::Int),
            SetRef::Packed(list) => list.get(isize::try_from(index).ok()?),
            SetRef::Large(dict) => dict.nth(index).map(|(member, _)| Item::Bytes(member)),
        }
    }

    /// As [`super::HashRef::scan`].
    pub fn scan(self, cursor: u64, count: usize, mut visit: impl FnMut(Item<'_>)) -> u64 {
        match self {
            SetRef::Large(dict) => dict.scan(cursor, count, |member, _| visit(Item::Bytes(member))),
            _ => {
                self.iter().for_each(visit);
                0
            }
        }
    }
}
