//! Leaves in order, under a tree of counts (a B+ tree).
//!
//! ```text
//!  inner   key │ count │ ─▶ node      up to 64 children: what the first element below is ordered by, and how many there are
//!  leaf    elements as its type packs them
//! ```
//!
//! - An element is found by position, by key, or by both, in a logarithmic number of steps; none moves more than one leaf
//!   and the inner nodes above it, so there is no pause for growth.
//! - Nodes are shared by count: a clone of a tree costs nothing, and a change copies the nodes on its way that somebody else
//!   holds. That is how a snapshot, or whoever frees it, keeps a large collection.
//!
//! What an element is, and where it belongs in a leaf, is the business of the leaf.

use std::fmt::Debug;
use std::sync::Arc;

use crate::memory::class_size;
use crate::search;

/// Most children of an inner node.
const CHILDREN_MAX: usize = 64;
/// Two neighbours with no more children than this become one.
const CHILDREN_MERGED_MAX: usize = 48;

/// Some elements in their order.
pub trait Leaf: Clone {
    /// What leaves are ordered by; `()` where only positions count.
    type Key: Copy + PartialOrd + Debug;

    /// Number of elements.
    fn len(&self) -> usize;

    /// Whether there is no element. Such leaves do not stay in a tree.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the first element is ordered by.
    ///
    /// # Panics
    /// May panic when there is no element.
    fn key(&self) -> Self::Key;

    /// Bytes of the allocations that belong to the leaf.
    fn memory_bytes(&self) -> usize;

    /// Whether the leaf is longer than one should be and can be split.
    fn is_full(&self) -> bool;

    /// Keeps the first elements and returns the others; both are at least one, if the leaf has two.
    fn split(&mut self, bias: Bias) -> Self;

    /// Whether one leaf can hold the elements of this one and of the one that follows, with room to spare.
    fn can_absorb(&self, next: &Self) -> bool;

    /// Adds the elements of the leaf that follows, which is dropped then.
    fn absorb(&mut self, next: &Self);
}

/// Where elements are being added, so that a leaf is split there: leaves that are filled in order stay full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bias {
    /// At the front of all.
    Front,
    /// Anywhere.
    Middle,
    /// At the end of all.
    End,
}

/// A way down the tree.
pub trait Descend<L: Leaf> {
    /// The child to go on with, by its place among its siblings, of which there is at least one.
    fn choose(&mut self, children: &[Child<L>]) -> usize;

    /// As [`Descend::choose`], with the number of elements below the children before the chosen one. `total` is that of all
    /// children.
    #[inline]
    fn choose_counted(&mut self, children: &[Child<L>], total: usize) -> (usize, usize) {
        let place = self.choose(children);
        (place, count_before(children, place, total))
    }
}

/// Leads to the leaf with the element at this position; what is left of it is the place in that leaf. A position behind the
/// end leads to the end.
#[derive(Debug, Clone, Copy)]
pub struct AtIndex(pub usize);

impl<L: Leaf> Descend<L> for AtIndex {
    #[inline]
    fn choose(&mut self, children: &[Child<L>]) -> usize {
        let last = children.len() - 1;
        for (place, child) in children[..last].iter().enumerate() {
            if self.0 < child.count {
                return place;
            }
            self.0 -= child.count;
        }
        last
    }

    #[inline]
    fn choose_counted(&mut self, children: &[Child<L>], _total: usize) -> (usize, usize) {
        let index = self.0;
        let place = self.choose(children);
        (place, index - self.0)
    }
}

/// Leads to the last leaf whose key is not above this one, or else to the first.
#[derive(Debug, Clone, Copy)]
pub struct ByKey<K>(pub K);

impl<L: Leaf> Descend<L> for ByKey<L::Key> {
    #[inline]
    fn choose(&mut self, children: &[Child<L>]) -> usize {
        partition_point(children, |child| child.key <= self.0).saturating_sub(1)
    }
}

/// A subtree, as its parent knows it.
#[derive(Debug)]
pub struct Child<L: Leaf> {
    key: L::Key,
    count: usize,
    node: Arc<Node<L>>,
}

impl<L: Leaf> Clone for Child<L> {
    fn clone(&self) -> Self {
        Child { key: self.key, count: self.count, node: Arc::clone(&self.node) }
    }
}

impl<L: Leaf> Child<L> {
    /// What its first element is ordered by.
    #[inline]
    pub fn key(&self) -> L::Key {
        self.key
    }

    /// The first leaf below.
    pub fn first_leaf(&self) -> &L {
        let mut node = &*self.node;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf,
                Node::Inner(children) => node = &*children[0].node,
            }
        }
    }

    fn of(node: Node<L>) -> Self {
        let (key, count) = (node.key(), node.count());
        Child { key, count, node: Arc::new(node) }
    }

    fn look_again(&mut self) {
        self.key = self.node.key();
        self.count = self.node.count();
    }
}

#[derive(Debug, Clone)]
enum Node<L: Leaf> {
    Inner(Vec<Child<L>>),
    Leaf(L),
}

impl<L: Leaf> Node<L> {
    fn key(&self) -> L::Key {
        match self {
            Node::Inner(children) => children[0].key,
            Node::Leaf(leaf) => leaf.key(),
        }
    }

    fn count(&self) -> usize {
        match self {
            Node::Inner(children) => children.iter().map(|child| child.count).sum(),
            Node::Leaf(leaf) => leaf.len(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Node::Inner(children) => children.is_empty(),
            Node::Leaf(leaf) => leaf.is_empty(),
        }
    }
}

/// A sequence of elements in leaves. See the [module](self).
#[derive(Debug)]
pub struct Tree<L: Leaf> {
    root: Option<Child<L>>,
    usage: Usage,
}

impl<L: Leaf> Clone for Tree<L> {
    fn clone(&self) -> Self {
        Tree { root: self.root.clone(), usage: self.usage }
    }
}

impl<L: Leaf> Default for Tree<L> {
    fn default() -> Self {
        Tree { root: None, usage: Usage::default() }
    }
}

/// What the nodes take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Usage {
    leaves: usize,
    leaf_bytes: usize,
}

impl Usage {
    fn add<L: Leaf>(&mut self, leaf: &L) {
        self.leaves += 1;
        self.leaf_bytes += leaf.memory_bytes();
    }

    fn forget<L: Leaf>(&mut self, leaf: &L) {
        self.leaves -= 1;
        self.leaf_bytes -= leaf.memory_bytes();
    }
}

impl<L: Leaf> Tree<L> {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.root.as_ref().map_or(0, |root| root.count)
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Number of leaves.
    #[must_use]
    pub fn leaf_count(&self) -> usize {
        self.usage.leaves
    }

    /// Bytes of all nodes, as estimated. Nodes that others hold as well count whole.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        // The counts of an Arc, and the place in the parent, with a third for the parents' unused room and themselves.
        let per_leaf = size_of::<Node<L>>() + 2 * size_of::<usize>() + size_of::<Child<L>>() * 4 / 3;
        self.usage.leaf_bytes + self.usage.leaves * per_leaf
    }

    /// The leaf that `descend` leads to.
    #[inline]
    pub fn find(&self, descend: &mut impl Descend<L>) -> Option<&L> {
        let mut node = &*self.root.as_ref()?.node;
        loop {
            match node {
                Node::Leaf(leaf) => return Some(leaf),
                Node::Inner(children) => node = &*children[descend.choose(children)].node,
            }
        }
    }

    /// The leaf that `descend` leads to, with the number of elements in the leaves before it.
    #[inline]
    pub(crate) fn find_counted(&self, descend: &mut impl Descend<L>) -> Option<(&L, usize)> {
        let mut subtree = self.root.as_ref()?;
        let mut before = 0;
        loop {
            match &*subtree.node {
                Node::Leaf(leaf) => return Some((leaf, before)),
                Node::Inner(children) => {
                    let (place, passed) = descend.choose_counted(children, subtree.count);
                    before += passed;
                    subtree = &children[place];
                }
            }
        }
    }

    /// The leaf that `descend` leads to, as a place from which one can go on to its neighbours.
    #[inline]
    pub fn walk(&self, descend: &mut impl Descend<L>) -> Option<Walk<'_, L>> {
        self.root.as_ref().map(|root| Walk::down(root, descend))
    }

    /// All leaves in order.
    pub fn leaves(&self) -> impl Iterator<Item = &L> {
        let mut walk = self.walk(&mut AtIndex(0));
        let mut is_first = true;
        std::iter::from_fn(move || {
            let walk = walk.as_mut()?;
            (std::mem::take(&mut is_first) || walk.advance()).then_some(walk.leaf)
        })
    }

    /// Lets `change` change the leaf that `descend` leads to, and puts the tree right: the leaf is split when it is full,
    /// joined with a neighbour when both are small, and removed when it is empty. `make` makes the first leaf of an empty
    /// tree; without one nothing is changed there.
    ///
    /// The change must keep the order: no element may pass into the range of another leaf.
    pub fn edit<R>(
        &mut self,
        descend: &mut impl Descend<L>,
        bias: Bias,
        make: impl FnOnce() -> Option<L>,
        change: impl FnOnce(&mut L) -> R,
    ) -> Option<R> {
        self.edit_if(descend, bias, make, |_| Some(()), |leaf, ()| change(leaf))
    }

    /// Like [`Tree::edit`], but `decide` sees the leaf first. When it returns nothing, the leaf is neither changed nor
    /// copied; otherwise `change` gets what it returned.
    pub fn edit_if<D, R>(
        &mut self,
        descend: &mut impl Descend<L>,
        bias: Bias,
        make: impl FnOnce() -> Option<L>,
        decide: impl FnOnce(&L) -> Option<D>,
        change: impl FnOnce(&mut L, D) -> R,
    ) -> Option<R> {
        let Some(root) = &mut self.root else {
            let mut leaf = make()?;
            let decision = decide(&leaf)?;
            let result = change(&mut leaf, decision);
            if !leaf.is_empty() {
                self.usage.add(&leaf);
                let mut root = Child::of(Node::Leaf(leaf));
                let more = split_node(Arc::make_mut(&mut root.node), bias, &mut self.usage);
                self.set_root(root, more);
            }
            return Some(result);
        };
        let Edited { result, more, .. } =
            edit_node(&mut root.node, descend, bias, decide, change, &mut self.usage)?;
        let root = self.root.take()?;
        self.set_root(root, more);
        Some(result)
    }

    /// Puts a root with its new siblings under one node, or does without a root that has one child or nothing.
    fn set_root(&mut self, mut root: Child<L>, more: Vec<Node<L>>) {
        if root.node.is_empty() {
            self.root = more.into_iter().next().map(Child::of);
            return;
        }
        root.look_again();
        let mut more = more;
        while !more.is_empty() {
            let children = std::iter::once(root).chain(more.into_iter().map(Child::of)).collect();
            // After many elements came at once, one node may not be enough.
            let mut node = Node::Inner(children);
            more = split_node(&mut node, Bias::Middle, &mut self.usage);
            root = Child::of(node);
        }
        while let Node::Inner(children) = &*root.node
            && let [only] = &children[..]
        {
            root = only.clone();
        }
        self.root = Some(root);
    }

    /// Adds a leaf behind all others: how a tree is built from elements that come in order.
    pub fn push_leaf(&mut self, leaf: L) {
        if leaf.is_empty() {
            return;
        }
        self.usage.add(&leaf);
        let Some(mut root) = self.root.take() else {
            self.root = Some(Child::of(Node::Leaf(leaf)));
            return;
        };
        let more = push_node(&mut root.node, leaf);
        self.set_root(root, more.into_iter().collect());
    }

    /// Checks what holds between nodes.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        fn check<L: Leaf>(child: &Child<L>, usage: &mut Usage) -> usize {
            assert_eq!(child.count, child.node.count(), "counts are sums");
            assert!(child.key == child.node.key(), "keys are those of the first element");
            match &*child.node {
                Node::Leaf(leaf) => {
                    assert!(!leaf.is_empty(), "no leaf is empty");
                    usage.add(leaf);
                    0
                }
                Node::Inner(children) => {
                    assert!((1..=CHILDREN_MAX).contains(&children.len()), "{} children", children.len());
                    assert!(children.is_sorted_by(|a, b| a.key <= b.key), "keys are in order");
                    let heights: Vec<usize> = children.iter().map(|child| check(child, usage)).collect();
                    assert!(
                        heights.iter().all(|height| *height == heights[0]),
                        "all leaves are equally deep"
                    );
                    heights[0] + 1
                }
            }
        }
        let mut usage = Usage::default();
        if let Some(root) = &self.root {
            check(root, &mut usage);
        }
        assert_eq!(usage, self.usage);
    }
}

/// What a change of a leaf did to a node above it.
struct Edited<L: Leaf, R> {
    result: R,
    /// What could not stay in the node, to be put behind it.
    more: Vec<Node<L>>,
    /// Number of elements of the leaf, before and after.
    count: (usize, usize),
}

/// Changes a leaf below a node. Nothing is changed, and nothing returned, when `decide` returns nothing.
fn edit_node<L: Leaf, D, R>(
    node: &mut Arc<Node<L>>,
    descend: &mut impl Descend<L>,
    bias: Bias,
    decide: impl FnOnce(&L) -> Option<D>,
    change: impl FnOnce(&mut L, D) -> R,
    usage: &mut Usage,
) -> Option<Edited<L, R>> {
    let Node::Leaf(leaf) = &**node else {
        return edit_inner(node, descend, bias, decide, change, usage);
    };
    let decision = decide(leaf)?;
    // Order matters: a copy may take less than the leaf that it is made of.
    usage.forget(leaf);
    let node = Arc::make_mut(node);
    let Node::Leaf(leaf) = node else { return None };
    let before = leaf.len();
    let result = change(leaf, decision);
    let count = (before, leaf.len());
    if !leaf.is_empty() {
        usage.add(leaf);
    }
    Some(Edited { result, more: split_node(node, bias, usage), count })
}

/// [`edit_node`] for an inner node.
fn edit_inner<L: Leaf, D, R>(
    node: &mut Arc<Node<L>>,
    descend: &mut impl Descend<L>,
    bias: Bias,
    decide: impl FnOnce(&L) -> Option<D>,
    change: impl FnOnce(&mut L, D) -> R,
    usage: &mut Usage,
) -> Option<Edited<L, R>> {
    let node = Arc::make_mut(node);
    let Node::Inner(children) = node else { return None };
    let place = descend.choose(children);
    let child = &mut children[place];
    let Edited { result, more, count } = edit_node(&mut child.node, descend, bias, decide, change, usage)?;
    if child.node.is_empty() {
        children.remove(place);
    } else if more.is_empty() {
        child.key = child.node.key();
        child.count = child.count + count.1 - count.0;
        if count.1 < count.0 {
            // Only then: a look at the neighbours costs a cache miss for each.
            join_neighbours(children, place, usage);
        }
    } else {
        child.look_again();
        make_room(children, more.len());
        children.splice(place + 1..place + 1, more.into_iter().map(Child::of));
    }
    Some(Edited { result, more: split_node(node, bias, usage), count })
}

/// Splits a node that is too long until no part is; returns the parts behind it in order.
fn split_node<L: Leaf>(node: &mut Node<L>, bias: Bias, usage: &mut Usage) -> Vec<Node<L>> {
    let mut parts = Vec::new();
    match node {
        Node::Leaf(leaf) => {
            // The next part is the last one.
            let mut behind = Vec::new();
            let mut split = |leaf: &mut L| {
                usage.forget(leaf);
                let part = leaf.split(bias);
                usage.add(leaf);
                usage.add(&part);
                part
            };
            while leaf.is_full() {
                behind.push(split(leaf));
            }
            while let Some(mut part) = behind.pop() {
                // After many elements came at once.
                while part.is_full() {
                    behind.push(split(&mut part));
                }
                parts.push(Node::Leaf(part));
            }
        }
        Node::Inner(children) => {
            while children.len() > CHILDREN_MAX {
                let len = match bias {
                    Bias::Front => CHILDREN_MAX,
                    Bias::Middle => CHILDREN_MAX / 2,
                    // What is left over is at the end, and all before it is full.
                    Bias::End => (children.len() - 1) % CHILDREN_MAX + 1,
                };
                parts.push(Node::Inner(children.split_off(children.len() - len)));
            }
            parts.reverse();
        }
    }
    parts
}

/// Joins the child at a place with the one before or behind it, if one node can hold both.
fn join_neighbours<L: Leaf>(children: &mut Vec<Child<L>>, place: usize, usage: &mut Usage) {
    for first in [place, place.wrapping_sub(1)] {
        if first >= children.len() || first + 1 >= children.len() {
            continue;
        }
        let (front, behind) = children.split_at_mut(first + 1);
        let (left, right) = (&mut front[first], &behind[0]);
        if join(left, right, usage) {
            left.look_again();
            children.remove(first + 1);
            return;
        }
    }
}

/// Moves everything in `right` to `left`, if it has room.
fn join<L: Leaf>(left: &mut Child<L>, right: &Child<L>, usage: &mut Usage) -> bool {
    match (&*left.node, &*right.node) {
        (Node::Leaf(leaf), Node::Leaf(next)) if leaf.can_absorb(next) => {
            usage.forget(leaf);
            usage.forget(next);
            let Node::Leaf(leaf) = Arc::make_mut(&mut left.node) else { return false };
            leaf.absorb(next);
            usage.add(leaf);
            true
        }
        (Node::Inner(ours), Node::Inner(theirs)) if ours.len() + theirs.len() <= CHILDREN_MERGED_MAX => {
            let theirs = theirs.clone();
            let Node::Inner(ours) = Arc::make_mut(&mut left.node) else { return false };
            make_room(ours, theirs.len());
            ours.extend(theirs);
            true
        }
        _ => false,
    }
}

/// Number of elements below the children before a place; `total` is that of all. The fewer children are added up.
#[inline]
fn count_before<L: Leaf>(children: &[Child<L>], place: usize, total: usize) -> usize {
    let sum = |part: &[Child<L>]| part.iter().map(|child| child.count).sum::<usize>();
    let (before, behind) = children.split_at(place);
    if before.len() <= behind.len() { sum(before) } else { total - sum(behind) }
}

/// Number of children for which `is_below` holds; see [`search::partition_point`].
#[inline]
pub(crate) fn partition_point<L: Leaf>(children: &[Child<L>], is_below: impl Fn(&Child<L>) -> bool) -> usize {
    search::partition_point(children, 8, is_below)
}

/// Makes room for some more children: as much as the allocator gives for those, and no more.
fn make_room<L: Leaf>(children: &mut Vec<Child<L>>, added: usize) {
    let len = children.len() + added;
    if len > children.capacity() {
        let capacity = class_size(len * size_of::<Child<L>>()) / size_of::<Child<L>>();
        children.reserve_exact(capacity - children.len());
    }
}

/// Adds a leaf behind everything below a node; returns a node that could not stay in it.
fn push_node<L: Leaf>(node: &mut Arc<Node<L>>, leaf: L) -> Option<Node<L>> {
    if let Node::Leaf(_) = &**node {
        return Some(Node::Leaf(leaf));
    }
    let Node::Inner(children) = Arc::make_mut(node) else { return None };
    let last = children.last_mut()?;
    let more = push_node(&mut last.node, leaf);
    last.look_again();
    let more = Child::of(more?);
    if children.len() < CHILDREN_MAX {
        make_room(children, 1);
        children.push(more);
        return None;
    }
    Some(Node::Inner(vec![more]))
}

/// A leaf in its tree.
///
/// Only the node above the leaf is kept, so that a walk needs no memory of its own. Behind the last leaf of that node it goes
/// down from the root again, which is once in some fifty steps.
#[derive(Debug, Clone)]
pub struct Walk<'a, L: Leaf> {
    root: &'a Child<L>,
    /// The leaf with its siblings, and its place among them.
    siblings: &'a [Child<L>],
    place: usize,
    leaf: &'a L,
    before: usize,
}

impl<'a, L: Leaf> Walk<'a, L> {
    #[inline]
    fn down(root: &'a Child<L>, descend: &mut impl Descend<L>) -> Walk<'a, L> {
        let (mut siblings, mut place, mut before) = (std::slice::from_ref(root), 0, 0);
        loop {
            let subtree = &siblings[place];
            match &*subtree.node {
                Node::Leaf(leaf) => return Walk { root, siblings, place, leaf, before },
                Node::Inner(children) => {
                    let (chosen, passed) = descend.choose_counted(children, subtree.count);
                    (siblings, place, before) = (&children[..], chosen, before + passed);
                }
            }
        }
    }

    /// The leaf.
    #[inline]
    pub fn leaf(&self) -> &'a L {
        self.leaf
    }

    /// Number of elements in the leaves before this one.
    pub fn before(&self) -> usize {
        self.before
    }

    /// Goes on to the next leaf; false, and nothing happens, when this is the last.
    pub fn advance(&mut self) -> bool {
        let end = self.before + self.leaf.len();
        if let Some(next) = self.siblings.get(self.place + 1)
            && let Node::Leaf(leaf) = &*next.node
        {
            (self.place, self.leaf, self.before) = (self.place + 1, leaf, end);
            return true;
        }
        if end >= self.root.count {
            return false;
        }
        *self = Walk::down(self.root, &mut AtIndex(end));
        true
    }

    /// Goes back to the leaf before; false, and nothing happens, when this is the first.
    pub fn retreat(&mut self) -> bool {
        let Some(last) = self.before.checked_sub(1) else { return false };
        if let Some(place) = self.place.checked_sub(1)
            && let Node::Leaf(leaf) = &*self.siblings[place].node
        {
            (self.place, self.leaf, self.before) = (place, leaf, self.before - leaf.len());
            return true;
        }
        *self = Walk::down(self.root, &mut AtIndex(last));
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEN_MAX: usize = 8;

    /// Numbers in order.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Numbers(Vec<u32>);

    impl Leaf for Numbers {
        type Key = u32;

        fn len(&self) -> usize {
            self.0.len()
        }

        fn key(&self) -> u32 {
            self.0[0]
        }

        fn memory_bytes(&self) -> usize {
            self.0.len() * 4
        }

        fn is_full(&self) -> bool {
            self.0.len() > LEN_MAX
        }

        fn split(&mut self, bias: Bias) -> Self {
            let len = self.0.len();
            Numbers(self.0.split_off(match bias {
                Bias::Front => len.saturating_sub(LEN_MAX).max(1),
                Bias::Middle => len / 2,
                Bias::End => LEN_MAX.min(len - 1),
            }))
        }

        fn can_absorb(&self, next: &Self) -> bool {
            self.0.len() + next.0.len() <= LEN_MAX * 3 / 4
        }

        fn absorb(&mut self, next: &Self) {
            self.0.extend(&next.0);
        }
    }

    fn insert(tree: &mut Tree<Numbers>, number: u32, bias: Bias) {
        tree.edit(
            &mut ByKey(number),
            bias,
            || Some(Numbers(Vec::new())),
            |leaf| {
                let at = leaf.0.partition_point(|known| *known < number);
                if leaf.0.get(at) != Some(&number) {
                    leaf.0.insert(at, number);
                }
            },
        );
    }

    fn remove(tree: &mut Tree<Numbers>, number: u32) {
        tree.edit(&mut ByKey(number), Bias::Middle, || None, |leaf| leaf.0.retain(|known| *known != number));
    }

    fn numbers(tree: &Tree<Numbers>) -> Vec<u32> {
        tree.leaves().flat_map(|leaf| leaf.0.iter().copied()).collect()
    }

    /// A tree with the numbers below `len`.
    fn filled(len: u32, bias: Bias) -> Tree<Numbers> {
        let mut tree = Tree::default();
        let order: Vec<u32> = match bias {
            Bias::Front => (0..len).rev().collect(),
            Bias::End => (0..len).collect(),
            Bias::Middle => (0..len).map(|it| it.wrapping_mul(7919) % len).collect(),
        };
        for number in order {
            insert(&mut tree, number, bias);
        }
        tree
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u32),
        Remove(u32),
        RemoveAround(usize, usize),
        Keep,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0u32..2000).prop_map(Step::Insert),
            3 => (0u32..2000).prop_map(Step::Remove),
            1 => (0usize..2000, 1usize..300).prop_map(|(at, len)| Step::RemoveAround(at, len)),
            1 => Just(Step::Keep),
        ]
    }

    proptest! {
        #[test]
        fn a_tree_holds_what_a_set_holds_and_clones_keep_what_they_had(
            first in prop::collection::vec(0u32..2000, 0..1500),
            steps in prop::collection::vec(step(), 0..300),
        ) {
            let mut tree = Tree::default();
            let mut model = std::collections::BTreeSet::new();
            for number in first {
                insert(&mut tree, number, Bias::Middle);
                model.insert(number);
            }
            let mut kept: Option<(Tree<Numbers>, Vec<u32>)> = None;
            for step in steps {
                match step {
                    Step::Insert(number) => {
                        insert(&mut tree, number, Bias::Middle);
                        model.insert(number);
                    }
                    Step::Remove(number) => {
                        remove(&mut tree, number);
                        model.remove(&number);
                    }
                    Step::RemoveAround(at, len) => {
                        for number in numbers(&tree).into_iter().skip(at).take(len) {
                            remove(&mut tree, number);
                            model.remove(&number);
                        }
                    }
                    Step::Keep => kept = Some((tree.clone(), numbers(&tree))),
                }
                tree.check();
            }
            let expected: Vec<u32> = model.into_iter().collect();
            prop_assert_eq!(numbers(&tree), expected.clone());
            prop_assert_eq!(tree.len(), expected.len());
            for (index, number) in expected.iter().enumerate() {
                let mut at = AtIndex(index);
                let leaf = tree.find(&mut at).expect("there are elements");
                prop_assert_eq!(leaf.0[at.0], *number);
                let walk = tree.walk(&mut ByKey(*number)).expect("there are elements");
                let place = walk.leaf().0.iter().position(|it| it == number).expect("it is there");
                prop_assert_eq!(walk.before() + place, index);
            }
            if let Some((tree, expected)) = kept {
                tree.check();
                prop_assert_eq!(numbers(&tree), expected);
            }
        }
    }

    #[test]
    fn leaves_that_are_filled_in_order_stay_full() {
        for bias in [Bias::Front, Bias::End] {
            let tree = filled(10_000, bias);
            tree.check();
            assert_eq!(numbers(&tree), (0..10_000).collect::<Vec<_>>());
            assert!(tree.leaf_count() <= 10_000 / LEN_MAX + 2, "{} leaves, {bias:?}", tree.leaf_count());
        }
        let tree = filled(10_000, Bias::Middle);
        tree.check();
        assert!(tree.leaf_count() <= 10_000 * 2 / LEN_MAX, "{} leaves", tree.leaf_count());
    }

    #[test]
    fn walks_go_both_ways_and_know_where_they_are() {
        let tree = filled(5_000, Bias::Middle);
        let mut walk = tree.walk(&mut AtIndex(2_500)).expect("it is not empty");
        let mut seen: Vec<u32> = walk.leaf().0.clone();
        let first = walk.before();
        let mut back = walk.clone();
        while walk.advance() {
            assert_eq!(walk.before(), first + seen.len());
            seen.extend(&walk.leaf().0);
        }
        assert!(!walk.advance());
        while back.retreat() {
            assert_eq!(back.leaf().0[0] as usize, back.before());
            seen.splice(..0, back.leaf().0.iter().copied());
        }
        assert_eq!(seen, (0..5_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_tree_is_built_from_leaves_in_order() {
        let mut tree = Tree::default();
        for start in (0..9_000).step_by(6) {
            tree.push_leaf(Numbers((start..start + 6).collect()));
        }
        tree.push_leaf(Numbers(Vec::new()));
        tree.check();
        assert_eq!(numbers(&tree), (0..9_000).collect::<Vec<_>>());
    }

    #[test]
    fn many_elements_at_once_become_many_leaves() {
        for bias in [Bias::Front, Bias::Middle, Bias::End] {
            for start in [Tree::default(), filled(100, Bias::End)] {
                let mut tree = start;
                let more = u32::try_from(tree.len()).unwrap()..5_000;
                tree.edit(
                    &mut AtIndex(usize::MAX),
                    bias,
                    || Some(Numbers(Vec::new())),
                    |leaf| leaf.0.extend(more),
                );
                tree.check();
                assert_eq!(numbers(&tree), (0..5_000).collect::<Vec<_>>(), "{bias:?}");
            }
        }
    }

    #[test]
    fn a_clone_shares_what_is_not_changed() {
        let mut tree = filled(50_000, Bias::Middle);
        let kept = tree.clone();
        remove(&mut tree, 77);
        let ours: std::collections::HashSet<*const Numbers> = tree.leaves().map(std::ptr::from_ref).collect();
        let copied = kept.leaves().filter(|leaf| !ours.contains(&std::ptr::from_ref(*leaf))).count();
        assert!(copied <= 3, "{copied} leaves were copied for one change");
        assert_eq!(numbers(&kept).len(), 50_000);
    }
}
