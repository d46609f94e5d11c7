//! Elements in order and in reverse.

use std::fmt;

use super::ranked::Ranked;
use crate::tree::{AtIndex, Leaf, Tree, Walk};

/// Members and scores in order. Made by [`iter_from`](super::SortedSet::iter_from).
#[derive(Clone)]
pub struct Iter<'a> {
    walk: Option<Walk<'a, Ranked>>,
    /// The place of the next element in the leaf, and where it starts there.
    place: usize,
    start: usize,
    left: usize,
}

impl fmt::Debug for Iter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("left", &self.left).finish_non_exhaustive()
    }
}

impl<'a> Iter<'a> {
    pub(super) fn new(tree: &'a Tree<Ranked>, index: usize) -> Iter<'a> {
        let left = tree.len().saturating_sub(index);
        let mut way = AtIndex(index);
        let walk = if left > 0 { tree.walk(&mut way) } else { None };
        let place = way.0;
        let start = walk.as_ref().map_or(0, |walk| walk.leaf().start(place));
        Iter { walk, place, start, left }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], f64);

    #[inline]
    fn next(&mut self) -> Option<(&'a [u8], f64)> {
        let walk = self.walk.as_mut()?;
        if self.place == walk.leaf().len() {
            if !walk.advance() {
                self.walk = None;
                return None;
            }
            (self.place, self.start) = (0, walk.leaf().start(0));
        }
        let element = walk.leaf().element_from(self.place, self.start);
        self.place += 1;
        self.start += element.0.len();
        self.left -= 1;
        Some(element)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// Members and scores in reverse order. Made by [`iter_back_from`](super::SortedSet::iter_back_from).
#[derive(Clone)]
pub struct IterBack<'a> {
    walk: Option<Walk<'a, Ranked>>,
    /// The place behind the next element in the leaf, and where that starts.
    place: usize,
    start: usize,
    left: usize,
}

impl fmt::Debug for IterBack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IterBack").field("left", &self.left).finish_non_exhaustive()
    }
}

impl<'a> IterBack<'a> {
    pub(super) fn new(tree: &'a Tree<Ranked>, index: usize) -> IterBack<'a> {
        let left = tree.len().min(index.saturating_add(1));
        let mut way = AtIndex(left.saturating_sub(1));
        let walk = tree.walk(&mut way);
        let place = way.0 + 1;
        let start = walk.as_ref().map_or(0, |walk| walk.leaf().start(place));
        IterBack { walk, place, start, left }
    }
}

impl<'a> Iterator for IterBack<'a> {
    type Item = (&'a [u8], f64);

    #[inline]
    fn next(&mut self) -> Option<(&'a [u8], f64)> {
        let walk = self.walk.as_mut()?;
        if self.place == 0 {
            if !walk.retreat() {
                self.walk = None;
                return None;
            }
            self.place = walk.leaf().len();
            self.start = walk.leaf().start(self.place);
        }
        self.place -= 1;
        self.start -= walk.leaf().member_len(self.place);
        self.left -= 1;
        Some(walk.leaf().element_from(self.place, self.start))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for IterBack<'_> {}
