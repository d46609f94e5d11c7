//! Leaves of a list.

use std::sync::Arc;

use super::fill::Fill;
use super::pack::Pack;
use crate::listpack::{self, Item, TooLarge, View};
use crate::memory::class_size;
use crate::tree::{Bias, Leaf};

/// Some elements in their order.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Packed(Pack),
    /// A listpack with one element that is longer than nodes should be. It is shared, so that to copy the node costs nothing.
    Large(Arc<Vec<u8>>),
    /// Two nodes or more, which the tree takes apart at once.
    Several(Vec<Node>),
}

impl Leaf for Node {
    type Key = ();

    fn len(&self) -> usize {
        match self {
            Node::Packed(pack) => pack.len(),
            Node::Large(_) => 1,
            Node::Several(parts) => parts.iter().map(Node::len).sum(),
        }
    }

    fn key(&self) {}

    fn memory_bytes(&self) -> usize {
        match self {
            Node::Packed(pack) => pack.memory_bytes(),
            // With both counts of the Arc.
            Node::Large(bytes) => {
                class_size(2 * size_of::<usize>() + size_of::<Vec<u8>>()) + class_size(bytes.capacity())
            }
            Node::Several(parts) => parts.iter().map(Node::memory_bytes).sum(),
        }
    }

    fn is_full(&self) -> bool {
        matches!(self, Node::Several(_))
    }

    fn split(&mut self, _bias: Bias) -> Node {
        let Node::Several(parts) = self else { return Node::Several(Vec::new()) };
        let rest = Node::of_parts(parts.split_off(1));
        *self = Node::of_parts(std::mem::take(parts));
        rest
    }

    fn can_absorb(&self, next: &Node) -> bool {
        match (self, next) {
            (Node::Packed(pack), Node::Packed(next)) => pack.can_absorb(next),
            _ => false,
        }
    }

    fn absorb(&mut self, next: &Node) {
        if let (Node::Packed(pack), Node::Packed(next)) = (self, next) {
            pack.absorb(next);
        }
    }
}

impl Node {
    pub(super) const fn new(fill: Fill) -> Node {
        Node::Packed(Pack::new(fill))
    }

    /// A node with one element.
    pub(super) fn of_one(item: Item<'_>, fill: Fill) -> Result<Node, TooLarge> {
        let mut bytes = Vec::with_capacity(class_size(listpack::encoded_len(item) + 7));
        listpack::push_back(&mut bytes, item)?;
        Ok(Node::of_bytes(bytes, fill))
    }

    /// A node with the elements of a listpack, which has some.
    pub(super) fn of_bytes(mut bytes: Vec<u8>, fill: Fill) -> Node {
        let view = View::trusted(&bytes);
        if fill.is_large(view.total_bytes()) && view.len() == 1 {
            bytes.shrink_to(class_size(bytes.len()));
            return Node::Large(Arc::new(bytes));
        }
        Node::Packed(Pack::of(bytes, fill))
    }

    /// A node of one part, or what the tree takes apart. None of the parts is empty.
    pub(super) fn of_parts(mut parts: Vec<Node>) -> Node {
        if parts.len() == 1
            && let Some(only) = parts.pop()
        {
            return only;
        }
        Node::Several(parts)
    }

    #[inline]
    pub(super) fn view(&self) -> View<'_> {
        match self {
            Node::Packed(pack) => pack.view(),
            Node::Large(bytes) => View::trusted(bytes),
            Node::Several(parts) => parts.first().map_or(View::trusted(&[]), Node::view),
        }
    }

    #[inline]
    pub(super) fn admits(&self, item_len: usize) -> bool {
        match self {
            Node::Packed(pack) => pack.admits(item_len),
            Node::Large(_) | Node::Several(_) => false,
        }
    }

    pub(super) fn settle(&mut self) {
        if let Node::Packed(pack) = self {
            pack.settle();
        }
    }

    /// Removes the first element or the last and shows it.
    #[inline]
    pub(super) fn pop<R>(
        &mut self,
        at_front: bool,
        fill: Fill,
        show: impl FnOnce(Item<'_>) -> R,
    ) -> Option<R> {
        match self {
            Node::Packed(pack) if at_front => pack.pop_front(show),
            Node::Packed(pack) => pack.pop_back(show),
            Node::Large(_) | Node::Several(_) => {
                let node = std::mem::replace(self, Node::new(fill));
                node.view().get(0).map(show)
            }
        }
    }

    /// Puts an element in the place of another.
    pub(super) fn replace(&mut self, place: usize, item: Item<'_>, fill: Fill) -> Result<(), TooLarge> {
        if fill.is_large(item.len_as_bytes()) || self.len() == 1 {
            let one = Node::of_one(item, fill)?;
            self.remove(place, 1, fill);
            self.insert_node(place, one, fill);
            return Ok(());
        }
        if let Node::Packed(pack) = self {
            pack.replace(place, item)?;
            self.divide(fill);
        }
        Ok(())
    }

    /// Inserts an element before the one at a place, or behind all.
    pub(super) fn insert(&mut self, place: usize, item: Item<'_>, fill: Fill) -> Result<(), TooLarge> {
        match self {
            Node::Packed(pack) if !fill.is_large(item.len_as_bytes()) => {
                pack.insert(place, item)?;
                self.divide(fill);
            }
            _ => self.insert_node(place, Node::of_one(item, fill)?, fill),
        }
        Ok(())
    }

    fn insert_node(&mut self, place: usize, node: Node, fill: Fill) {
        let mut first = std::mem::replace(self, Node::new(fill));
        let rest = match &mut first {
            Node::Packed(pack) => Node::Packed(pack.split_off(place)),
            _ if place == 0 => std::mem::replace(&mut first, Node::new(fill)),
            _ => Node::new(fill),
        };
        let parts = [first, node, rest];
        *self = Node::of_parts(parts.into_iter().filter(|part| !part.is_empty()).collect());
    }

    /// Makes several nodes of one that is too long.
    fn divide(&mut self, fill: Fill) {
        if let Node::Packed(pack) = self {
            let parts = std::mem::replace(pack, Pack::new(fill)).into_parts();
            *self = Node::of_parts(parts.into_iter().map(Node::Packed).collect());
        }
    }

    /// Removes some elements from the one at a place on; returns how many there were.
    pub(super) fn remove(&mut self, place: usize, count: usize, fill: Fill) -> usize {
        match self {
            Node::Packed(pack) => pack.remove(place, count),
            _ if place == 0 && count > 0 => {
                *self = Node::new(fill);
                1
            }
            _ => 0,
        }
    }

    /// Removes the elements for which `is_removed` holds, asked for each in order.
    pub(super) fn remove_if(&mut self, fill: Fill, mut is_removed: impl FnMut(Item<'_>) -> bool) {
        match self {
            Node::Packed(pack) => pack.remove_if(is_removed),
            _ => {
                if self.view().get(0).is_some_and(&mut is_removed) {
                    *self = Node::new(fill);
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        match self {
            Node::Packed(pack) => pack.check(),
            Node::Large(bytes) => assert_eq!(listpack::check(bytes).expect("it is a listpack").len(), 1),
            Node::Several(_) => panic!("the tree takes it apart"),
        }
    }

    #[cfg(test)]
    pub(super) fn check_settled(&self) {
        if let Node::Packed(pack) = self {
            pack.check_settled();
        }
    }
}
