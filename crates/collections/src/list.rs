//! Large lists: a sequence of listpacks.
//!
//! ```text
//!  front    the first node, while it is in use     its listpack has room to grow
//!  middle   tree of nodes                          each as long as the setting allows, or nearly, without unused room
//!  back     the last node, while it is in use      its listpack has room to grow
//! ```
//!
//! Pushes and pops change `front` and `back`, which no others share, so they do not go down a tree. A node that is full moves to
//! the tree, and when one is empty it takes its neighbour from there. Either may be empty. Changes elsewhere move both to the
//! tree first.
//!
//! The limits of nodes are those of quicklists of Redis 7.0, so a snapshot has them as Redis would.

mod fill;
mod iter;
mod node;
mod pack;
#[cfg(test)]
mod tests;

use std::cell::Cell;

pub use iter::{Iter, IterBack};

use crate::listpack::{Item, TooLarge, View};
use crate::memory::class_size;
use crate::place::PlaceOf;
use crate::tree::{AtIndex, Bias, Leaf, Tree};
use fill::Fill;
use node::Node;

/// Elements that are removed at an end one by one rather than as a range.
const POPS_MAX: usize = 64;
/// The longest buffer that is kept for the next push.
const SCRATCH_LEN_MAX: usize = 256;

/// Elements in their order. See the [module](self).
///
/// Indexes count from 0; where they are signed, -1 is the last element. A clone copies the nodes at the ends, shares the others,
/// and keeps what it has; either side copies the nodes that it changes.
#[derive(Debug, Clone)]
pub struct List {
    fill: Fill,
    front: Node,
    middle: Tree<Node>,
    back: Node,
    /// Where elements are encoded before they are put in a gap.
    scratch: Vec<u8>,
}

/// Whether a node may have so many bytes and elements (`list-max-listpack-size`).
pub(crate) fn fits(bytes: usize, count: usize, fill: i64) -> bool {
    Fill::new(fill).holds(bytes, count)
}

impl List {
    /// An empty list. `fill` is the setting `list-max-listpack-size`: -1 to -5 for nodes of 4, 8, 16, 32 or 64 KiB, or else a
    /// number of elements, with at most 8 KiB. What is out of range means the nearest that is not.
    #[must_use]
    pub fn new(fill: i64) -> List {
        let fill = Fill::new(fill);
        List {
            fill,
            front: Node::new(fill),
            middle: Tree::default(),
            back: Node::new(fill),
            scratch: Vec::new(),
        }
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.front.len() + self.middle.len() + self.back.len()
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the list with all its allocations, as estimated. Nodes shared with clones count whole.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let scratch = if self.scratch.capacity() == 0 { 0 } else { class_size(self.scratch.capacity()) };
        let ends = self.front.memory_bytes() + self.back.memory_bytes();
        size_of::<List>() + scratch + ends + self.middle.memory_bytes()
    }

    /// Bytes that a clone does not share, as estimated: the nodes at the ends.
    #[must_use]
    pub fn cloned_bytes(&self) -> usize {
        self.front.memory_bytes() + self.back.memory_bytes()
    }

    /// Adds an element before the first.
    /// # Errors
    /// [`TooLarge`], and nothing is changed.
    #[inline]
    pub fn push_front(&mut self, item: Item<'_>) -> Result<(), TooLarge> {
        let len = item.len_as_bytes();
        if !self.front.admits(len) || self.front.is_empty() {
            self.make_room_at_front(len);
        }
        // A list of one node may have it at the back.
        let is_at_back = self.front.is_empty() && self.middle.is_empty() && self.back.admits(len);
        let node = if is_at_back { &mut self.back } else { &mut self.front };
        match node {
            Node::Packed(pack) if !self.fill.is_large(len) => pack.push_front(item, &mut self.scratch)?,
            _ => *node = Node::of_one(item, self.fill)?,
        }
        self.release_scratch();
        Ok(())
    }

    /// Adds an element behind the last.
    /// # Errors
    /// [`TooLarge`], and nothing is changed.
    #[inline]
    pub fn push_back(&mut self, item: Item<'_>) -> Result<(), TooLarge> {
        let len = item.len_as_bytes();
        if !self.back.admits(len) || self.back.is_empty() {
            self.make_room_at_back(len);
        }
        // A list of one node may have it at the front.
        let is_at_front = self.back.is_empty() && self.middle.is_empty() && self.front.admits(len);
        let node = if is_at_front { &mut self.front } else { &mut self.back };
        match node {
            Node::Packed(pack) if !self.fill.is_large(len) => pack.push_back(item, &mut self.scratch)?,
            _ => *node = Node::of_one(item, self.fill)?,
        }
        self.release_scratch();
        Ok(())
    }

    /// Takes the first node from the tree if it has room, or moves the one in use there.
    fn make_room_at_front(&mut self, item_len: usize) {
        if !self.front.is_empty() {
            self.store_front();
        } else if self.middle.find(&mut AtIndex(0)).is_some_and(|node| node.admits(item_len)) {
            self.take_front();
        }
    }

    /// Takes the last node from the tree if it has room, or moves the one in use there.
    fn make_room_at_back(&mut self, item_len: usize) {
        if !self.back.is_empty() {
            self.store_back();
        } else if self.middle.find(&mut AtIndex(usize::MAX)).is_some_and(|node| node.admits(item_len)) {
            self.take_back();
        }
    }

    fn store_front(&mut self) {
        let mut node = std::mem::replace(&mut self.front, Node::new(self.fill));
        if node.is_empty() {
            return;
        }
        node.settle();
        if self.middle.is_empty() {
            self.middle.push_leaf(node);
            return;
        }
        let fill = self.fill;
        self.middle.edit(
            &mut AtIndex(0),
            Bias::Front,
            || None,
            |first| {
                let second = std::mem::replace(first, Node::new(fill));
                *first = Node::of_parts(vec![node, second]);
            },
        );
    }

    fn store_back(&mut self) {
        let mut node = std::mem::replace(&mut self.back, Node::new(self.fill));
        node.settle();
        self.middle.push_leaf(node);
    }

    fn take_front(&mut self) {
        if let Some(node) = self.take(0) {
            self.front = node;
        }
    }

    fn take_back(&mut self) {
        if let Some(node) = self.take(usize::MAX) {
            self.back = node;
        }
    }

    /// Takes the node with the element at an index from the tree.
    fn take(&mut self, index: usize) -> Option<Node> {
        let fill = self.fill;
        self.middle.edit(
            &mut AtIndex(index),
            Bias::Middle,
            || None,
            |node| std::mem::replace(node, Node::new(fill)),
        )
    }

    fn release_scratch(&mut self) {
        if self.scratch.capacity() > SCRATCH_LEN_MAX {
            self.scratch = Vec::new();
        }
    }

    /// Removes the first element and returns what `show` makes of it; `None` if there is none.
    #[inline]
    pub fn pop_front_with<R>(&mut self, show: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        if self.front.is_empty() {
            self.take_front();
        }
        let node = if self.front.is_empty() { &mut self.back } else { &mut self.front };
        node.pop(true, self.fill, show)
    }

    /// Removes the last element and returns what `show` makes of it; `None` if there is none.
    #[inline]
    pub fn pop_back_with<R>(&mut self, show: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        if self.back.is_empty() {
            self.take_back();
        }
        let node = if self.back.is_empty() { &mut self.front } else { &mut self.back };
        node.pop(false, self.fill, show)
    }

    /// Removes the first element and returns its bytes.
    pub fn pop_front(&mut self) -> Option<Vec<u8>> {
        self.pop_front_with(|item| item.to_vec())
    }

    /// Removes the last element and returns its bytes.
    pub fn pop_back(&mut self) -> Option<Vec<u8>> {
        self.pop_back_with(|item| item.to_vec())
    }

    /// The element at an index.
    #[must_use]
    pub fn get(&self, index: isize) -> Option<Item<'_>> {
        let mut left = self.index(index)?;
        let mut node = &self.front;
        if left >= node.len() {
            left -= node.len();
            node = &self.back;
            if left < self.middle.len() {
                let mut way = AtIndex(left);
                node = self.middle.find(&mut way)?;
                left = way.0;
            } else {
                left -= self.middle.len();
            }
        }
        node.view().get(isize::try_from(left).ok()?)
    }

    /// An index below the length.
    fn index(&self, index: isize) -> Option<usize> {
        let len = self.len();
        let index = match usize::try_from(index) {
            Ok(index) => index,
            Err(_) => len.checked_sub(index.unsigned_abs())?,
        };
        (index < len).then_some(index)
    }

    /// Puts an element in the place of the one at an index; returns whether there is one.
    /// # Errors
    /// [`TooLarge`], and nothing is changed.
    pub fn set(&mut self, index: isize, item: Item<'_>) -> Result<bool, TooLarge> {
        let fill = self.fill;
        let Some(index) = self.index(index) else { return Ok(false) };
        self.edit(index, |node, place| node.replace(place, item, fill)).transpose()?;
        Ok(true)
    }

    /// Inserts an element before the one at an index; returns whether there is one.
    /// # Errors
    /// [`TooLarge`], and nothing is changed.
    pub fn insert_before(&mut self, index: isize, item: Item<'_>) -> Result<bool, TooLarge> {
        self.insert(index, 0, item)
    }

    /// Inserts an element behind the one at an index; returns whether there is one.
    /// # Errors
    /// [`TooLarge`], and nothing is changed.
    pub fn insert_after(&mut self, index: isize, item: Item<'_>) -> Result<bool, TooLarge> {
        self.insert(index, 1, item)
    }

    fn insert(&mut self, index: isize, behind: usize, item: Item<'_>) -> Result<bool, TooLarge> {
        let fill = self.fill;
        let Some(index) = self.index(index) else { return Ok(false) };
        self.edit(index, |node, place| node.insert(place + behind, item, fill)).transpose()?;
        Ok(true)
    }

    /// Moves the nodes at the ends to the tree.
    fn settle(&mut self) {
        self.store_front();
        self.store_back();
    }

    /// Lets `change` change the node with the element at an index, of which it is told the place.
    fn edit<R>(&mut self, index: usize, change: impl FnOnce(&mut Node, usize) -> R) -> Option<R> {
        self.settle();
        let place = Cell::new(index);
        self.middle.edit(&mut PlaceOf(&place), Bias::Middle, || None, |node| change(node, place.get()))
    }

    /// Removes up to `count` elements from the one at index `start` on; returns how many there were.
    pub fn remove_range(&mut self, start: usize, count: usize) -> usize {
        let len = self.len();
        let count = count.min(len.saturating_sub(start));
        if count == len {
            (self.front, self.back) = (Node::new(self.fill), Node::new(self.fill));
            self.middle = Tree::default();
        } else if start == 0 && count <= POPS_MAX {
            (0..count).for_each(|_| _ = self.pop_front_with(|_| ()));
        } else if start + count == len && count <= POPS_MAX {
            (0..count).for_each(|_| _ = self.pop_back_with(|_| ()));
        } else {
            let fill = self.fill;
            let mut left = count;
            while left > 0 {
                let removed = self.edit(start, |node, place| node.remove(place, left, fill));
                left -= removed.unwrap_or(left);
            }
        }
        count
    }

    /// Removes up to `count` elements that are these bytes, the first ones or, `from_back`, the last ones; returns how many.
    pub fn remove_matching(&mut self, bytes: &[u8], count: usize, from_back: bool) -> usize {
        self.settle();
        if from_back {
            self.remove_last_matching(bytes, count)
        } else {
            self.remove_first_matching(bytes, count)
        }
    }

    fn remove_first_matching(&mut self, bytes: &[u8], count: usize) -> usize {
        let fill = self.fill;
        let (mut removed, mut start) = (0, 0);
        while removed < count && start < self.len() {
            let mut way = AtIndex(start);
            let Some(node) = self.middle.find(&mut way) else { break };
            let (view, place, len) = (node.view(), way.0, node.len());
            let matches = view.iter().skip(place).filter(|item| item.is(bytes)).count().min(count - removed);
            let first = start;
            start += len - place - matches;
            if matches == 0 {
                continue;
            }
            let (mut at, mut left) = (0, matches);
            self.edit(first, |node, _| {
                node.remove_if(fill, |item| {
                    let is_removed = at >= place && left > 0 && item.is(bytes);
                    at += 1;
                    left -= usize::from(is_removed);
                    is_removed
                });
            });
            removed += matches;
        }
        removed
    }

    fn remove_last_matching(&mut self, bytes: &[u8], count: usize) -> usize {
        let fill = self.fill;
        let (mut removed, mut end) = (0, self.len());
        while removed < count && end > 0 {
            let mut way = AtIndex(end - 1);
            let Some(node) = self.middle.find(&mut way) else { break };
            let place = way.0;
            let all = node.view().iter().take(place + 1).filter(|item| item.is(bytes)).count();
            let matches = all.min(count - removed);
            end -= place + 1;
            if matches == 0 {
                continue;
            }
            let (mut at, mut kept) = (0, all - matches);
            self.edit(end, |node, _| {
                node.remove_if(fill, |item| {
                    let is_match = at <= place && item.is(bytes);
                    at += 1;
                    let is_removed = is_match && kept == 0;
                    kept -= usize::from(is_match && !is_removed);
                    is_removed
                });
            });
            removed += matches;
        }
        removed
    }

    /// All elements in order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        self.iter_from(0)
    }

    /// The elements from an index on, in order; none when the index is not below the length.
    #[must_use]
    pub fn iter_from(&self, index: usize) -> Iter<'_> {
        Iter::new(self, index)
    }

    /// The element at an index and those before it, in reverse order. An index behind the end means the last element.
    #[must_use]
    pub fn iter_back_from(&self, index: usize) -> IterBack<'_> {
        IterBack::new(self, index)
    }

    /// The listpack of each node, in order. None is empty.
    pub fn leaves(&self) -> impl Iterator<Item = &[u8]> {
        let ends = |node| std::iter::once(node).filter(|node: &&Node| !node.is_empty());
        let nodes = ends(&self.front).chain(self.middle.leaves()).chain(ends(&self.back));
        nodes.map(|node| node.view().bytes())
    }

    /// Number of nodes.
    #[must_use]
    pub fn leaf_count(&self) -> usize {
        let ends = usize::from(!self.front.is_empty()) + usize::from(!self.back.is_empty());
        ends + self.middle.leaf_count()
    }

    /// Adds the elements of a listpack behind the others, as a node of its own unless it is longer than nodes may be. The bytes
    /// must have passed [`listpack::check`](crate::listpack::check).
    /// # Errors
    /// [`TooLarge`] if an element is; those before it are in the list.
    pub fn push_node(&mut self, bytes: Vec<u8>) -> Result<(), TooLarge> {
        let view = View::trusted(&bytes);
        let count = view.len();
        if count > 1 && !self.fill.holds(bytes.len(), count) {
            return view.iter().try_for_each(|item| self.push_back(item));
        }
        if count > 0 {
            if !self.back.is_empty() {
                self.store_back();
            }
            self.back = Node::of_bytes(bytes, self.fill);
        }
        Ok(())
    }

    /// Checks all nodes.
    #[cfg(test)]
    fn check(&self) {
        self.middle.check();
        self.middle.leaves().for_each(Node::check_settled);
        [&self.front, &self.back].into_iter().chain(self.middle.leaves()).for_each(Node::check);
    }
}
