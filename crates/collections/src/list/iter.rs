//! Elements of a list in order and in reverse, and its nodes.

use super::List;
use super::node::Node;
use crate::listpack::{At, Item, View};
use crate::tree::{AtIndex, Leaf, Walk};

/// A node and where it is.
#[derive(Debug, Clone)]
enum Place<'a> {
    Front,
    Middle(Walk<'a, Node>),
    Back,
}

/// A node of a list, from which one can go on to its neighbours.
#[derive(Debug, Clone)]
pub(super) struct NodeWalk<'a> {
    list: &'a List,
    place: Place<'a>,
}

impl<'a> NodeWalk<'a> {
    /// The node with the element at an index that is below the length, and the place of that element in it.
    pub(super) fn new(list: &'a List, index: usize) -> (NodeWalk<'a>, usize) {
        let mut left = index;
        if left < list.front.len() {
            return (NodeWalk { list, place: Place::Front }, left);
        }
        left -= list.front.len();
        let mut way = AtIndex(left);
        if left < list.middle.len()
            && let Some(walk) = list.middle.walk(&mut way)
        {
            return (NodeWalk { list, place: Place::Middle(walk) }, way.0);
        }
        (NodeWalk { list, place: Place::Back }, left - list.middle.len())
    }

    pub(super) fn node(&self) -> &'a Node {
        match &self.place {
            Place::Front => &self.list.front,
            Place::Middle(walk) => walk.leaf(),
            Place::Back => &self.list.back,
        }
    }

    /// Goes on to the next node that has elements; false if there is none.
    fn advance(&mut self) -> bool {
        let next = match &mut self.place {
            Place::Front => self.list.middle.walk(&mut AtIndex(0)).map(Place::Middle),
            Place::Middle(walk) => {
                if walk.advance() {
                    return true;
                }
                None
            }
            Place::Back => return false,
        };
        self.place = next.unwrap_or(Place::Back);
        !self.node().is_empty()
    }

    /// Goes back to the node before that has elements; false if there is none.
    fn retreat(&mut self) -> bool {
        let next = match &mut self.place {
            Place::Back => self.list.middle.walk(&mut AtIndex(usize::MAX)).map(Place::Middle),
            Place::Middle(walk) => {
                if walk.retreat() {
                    return true;
                }
                None
            }
            Place::Front => return false,
        };
        self.place = next.unwrap_or(Place::Front);
        !self.node().is_empty()
    }
}

/// Elements in order. Made by [`List::iter_from`].
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    walk: Option<NodeWalk<'a>>,
    view: View<'a>,
    at: Option<At>,
}

impl<'a> Iter<'a> {
    pub(super) fn new(list: &'a List, index: usize) -> Iter<'a> {
        if index >= list.len() {
            return Iter { walk: None, view: View::trusted(&[]), at: None };
        }
        let (walk, place) = NodeWalk::new(list, index);
        let view = walk.node().view();
        let at = isize::try_from(place).ok().and_then(|place| view.seek(place));
        Iter { walk: Some(walk), view, at }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        loop {
            if let Some(at) = self.at {
                self.at = self.view.next(at);
                return self.view.at(at);
            }
            if !self.walk.as_mut()?.advance() {
                self.walk = None;
                return None;
            }
            self.view = self.walk.as_ref()?.node().view();
            self.at = self.view.first();
        }
    }
}

/// Elements in reverse order. Made by [`List::iter_back_from`].
#[derive(Debug, Clone)]
pub struct IterBack<'a> {
    walk: Option<NodeWalk<'a>>,
    view: View<'a>,
    at: Option<At>,
}

impl<'a> IterBack<'a> {
    pub(super) fn new(list: &'a List, index: usize) -> IterBack<'a> {
        let Some(last) = list.len().checked_sub(1) else {
            return IterBack { walk: None, view: View::trusted(&[]), at: None };
        };
        let (walk, place) = NodeWalk::new(list, index.min(last));
        let view = walk.node().view();
        let at = isize::try_from(place).ok().and_then(|place| view.seek(place));
        IterBack { walk: Some(walk), view, at }
    }
}

impl<'a> Iterator for IterBack<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        loop {
            if let Some(at) = self.at {
                self.at = self.view.previous(at);
                return self.view.at(at);
            }
            if !self.walk.as_mut()?.retreat() {
                self.walk = None;
                return None;
            }
            self.view = self.walk.as_ref()?.node().view();
            self.at = self.view.last();
        }
    }
}
