//! Lists: elements in the order in which they were put.

use super::{Either, Limits};
use crate::list;
use crate::listpack::{self, Item, View};

/// Longest element of a list, in bytes: a listpack of it alone stays within its limit.
pub const LIST_ELEMENT_LEN_MAX: usize = listpack::TOTAL_BYTES_MAX - 64;

/// Elements by position. None is longer than [`LIST_ELEMENT_LEN_MAX`]: the functions that add elements panic then.
#[derive(Debug, Clone)]
pub enum List {
    /// A listpack.
    Packed(Vec<u8>),
    /// Listpacks in a tree.
    Large(list::List),
}

/// A [`List`], borrowed.
#[derive(Debug, Clone, Copy)]
pub enum ListRef<'a> {
    /// See [`List::Packed`].
    Packed(View<'a>),
    /// See [`List::Large`].
    Large(&'a list::List),
}

impl List {
    /// A list without elements, in memory that may be used again.
    #[must_use]
    pub fn empty(mut memory: Vec<u8>) -> List {
        listpack::clear_into(&mut memory);
        List::Packed(memory)
    }

    /// The list, borrowed.
    #[must_use]
    pub fn view(&self) -> ListRef<'_> {
        match self {
            List::Packed(list) => ListRef::Packed(View::trusted(list)),
            List::Large(list) => ListRef::Large(list),
        }
    }

    /// Adds an element before all others.
    pub fn push_front(&mut self, element: &[u8], limits: &Limits) {
        match self.packed_with_room(element, limits) {
            Some(list) => put(listpack::push_front(list, Item::from_bytes(element))),
            None => put(self.large(limits).push_front(Item::from_bytes(element))),
        }
    }

    /// Adds an element behind all others.
    pub fn push_back(&mut self, element: &[u8], limits: &Limits) {
        match self.packed_with_room(element, limits) {
            Some(list) => put(listpack::push_back(list, Item::from_bytes(element))),
            None => put(self.large(limits).push_back(Item::from_bytes(element))),
        }
    }

    /// Adds the elements of a listpack behind all others.
    pub fn push_node(&mut self, node: Vec<u8>, limits: &Limits) {
        let view = View::trusted(&node);
        match self {
            List::Packed(list)
                if View::trusted(list).is_empty()
                    && list::fits(node.len(), view.len(), limits.list_fill.into()) =>
            {
                *list = node;
            }
            _ if view.is_empty() => {}
            _ => put(self.large(limits).push_node(node)),
        }
    }

    /// Removes the first element and shows it to `visit`; none when the list is empty.
    pub fn pop_front<R>(&mut self, visit: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        let result = visit(self.view().get(0)?);
        self.remove_range(0, 1);
        Some(result)
    }

    /// Removes the last element and shows it to `visit`; none when the list is empty.
    pub fn pop_back<R>(&mut self, visit: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        let last = self.view().len().checked_sub(1)?;
        let result = visit(self.view().get(last)?);
        self.remove_range(last, 1);
        Some(result)
    }

    /// Replaces the element at a position; false when there is none.
    pub fn set(&mut self, index: usize, element: &[u8], limits: &Limits) -> bool {
        if index >= self.view().len() {
            return false;
        }
        match self.packed_with_room(element, limits) {
            Some(list) => {
                let at = View::trusted(list).seek(signed(index));
                if let Some(at) = at {
                    put(listpack::replace(list, at, Item::from_bytes(element)));
                }
                true
            }
            None => {
                let index = signed(index);
                self.large(limits).set(index, Item::from_bytes(element)).expect(SHORT)
            }
        }
    }

    /// Inserts an element before the one at a position, or behind all where the position is the length.
    pub fn insert(&mut self, index: usize, element: &[u8], limits: &Limits) {
        if index >= self.view().len() {
            return self.push_back(element, limits);
        }
        match self.packed_with_room(element, limits) {
            Some(list) => {
                let at = View::trusted(list).seek(signed(index));
                if let Some(at) = at {
                    put(listpack::insert_before(list, at, Item::from_bytes(element)).map(|_| ()));
                }
            }
            None => {
                let index = signed(index);
                self.large(limits).insert_before(index, Item::from_bytes(element)).expect(SHORT);
            }
        }
    }

    /// Removes so many elements from a position on; returns how many there were.
    pub fn remove_range(&mut self, start: usize, count: usize) -> usize {
        match self {
            List::Packed(list) => {
                listpack::remove_range(list, isize::try_from(start).unwrap_or(isize::MAX), count)
            }
            List::Large(list) => list.remove_range(start, count),
        }
    }

    /// Removes the first so many elements that are equal to this one, or the last ones where `from_tail`; 0 removes all.
    /// Returns how many there were.
    pub fn remove_matching(&mut self, element: &[u8], count: usize, from_tail: bool) -> usize {
        match self {
            List::Packed(_) => {
                let limit = if count == 0 { usize::MAX } else { count };
                let mut places: Vec<usize> = match from_tail {
                    false => self.view().positions(element).take(limit).collect(),
                    true => {
                        let mut places: Vec<usize> = self.view().positions(element).collect();
                        places.drain(..places.len().saturating_sub(limit));
                        places
                    }
                };
                places.reverse();
                for place in &places {
                    self.remove_range(*place, 1);
                }
                places.len()
            }
            List::Large(list) => {
                list.remove_matching(element, if count == 0 { usize::MAX } else { count }, from_tail)
            }
        }
    }

    /// Bytes of all its allocations, as estimated.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match self {
            List::Packed(bytes) => bytes.capacity(),
            List::Large(list) => list.memory_bytes(),
        }
    }

    /// Bytes that a clone does not share, as estimated.
    #[must_use]
    pub fn cloned_bytes(&self) -> usize {
        match self {
            List::Packed(bytes) => bytes.len(),
            List::Large(list) => list.cloned_bytes(),
        }
    }

    /// The listpack, if it has room for one element more of this length.
    fn packed_with_room(&mut self, element: &[u8], limits: &Limits) -> Option<&mut Vec<u8>> {
        match self {
            List::Packed(bytes) => {
                let added = listpack::encoded_len(Item::from_bytes(element));
                list::fits(bytes.len() + added, View::trusted(bytes).len() + 1, limits.list_fill.into())
                    .then_some(bytes)
            }
            List::Large(_) => None,
        }
    }

    /// The tree, made from the listpack where there was none.
    fn large(&mut self, limits: &Limits) -> &mut list::List {
        if let List::Packed(bytes) = self {
            let mut large = list::List::new(limits.list_fill.into());
            put(large.push_node(std::mem::take(bytes)));
            *self = List::Large(large);
        }
        match self {
            List::Large(list) => list,
            List::Packed(_) => unreachable!("it was replaced"),
        }
    }
}

const SHORT: &str = "no element is too long, and a long node holds one";

fn put(result: Result<(), listpack::TooLarge>) {
    result.expect(SHORT);
}

fn signed(index: usize) -> isize {
    isize::try_from(index).unwrap_or(isize::MAX)
}

impl<'a> ListRef<'a> {
    /// Number of elements.
    #[must_use]
    pub fn len(self) -> usize {
        match self {
            ListRef::Packed(list) => list.len(),
            ListRef::Large(list) => list.len(),
        }
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The name of the encoding, as `OBJECT ENCODING` of Redis 7.0 says it. That version has one.
    #[must_use]
    pub fn encoding(self) -> &'static str {
        "quicklist"
    }

    /// The element at a position.
    #[must_use]
    pub fn get(self, index: usize) -> Option<Item<'a>> {
        match self {
            ListRef::Packed(list) => list.get(isize::try_from(index).ok()?),
            ListRef::Large(list) => list.get(signed(index)),
        }
    }

    /// All elements.
    pub fn iter(self) -> impl Iterator<Item = Item<'a>> {
        self.iter_from(0)
    }

    /// Elements from a position to the end.
    pub fn iter_from(self, index: usize) -> impl Iterator<Item = Item<'a>> {
        match self {
            ListRef::Packed(list) => Either::Packed(list.iter().skip(index)),
            ListRef::Large(list) => Either::Large(list.iter_from(index)),
        }
    }

    /// Elements from a position back to the first.
    pub fn iter_back_from(self, index: usize) -> impl Iterator<Item = Item<'a>> {
        match self {
            ListRef::Packed(list) => {
                Either::Packed(list.iter().rev().skip(list.len().saturating_sub(index.saturating_add(1))))
            }
            ListRef::Large(list) => Either::Large(list.iter_back_from(index)),
        }
    }

    /// Positions of the elements that are equal to this one, ascending.
    pub fn positions<'b>(self, element: &'b [u8]) -> impl Iterator<Item = usize> + use<'a, 'b> {
        self.iter().enumerate().filter(move |(_, item)| item.is(element)).map(|(place, _)| place)
    }

    /// The listpacks of which the list consists, in order.
    pub fn nodes(self) -> impl Iterator<Item = View<'a>> {
        match self {
            ListRef::Packed(list) => Either::Packed(std::iter::once(list)),
            ListRef::Large(list) => Either::Large(list.leaves().map(View::trusted)),
        }
    }
}
