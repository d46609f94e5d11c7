//! The way to an element by its index, for changes, which need to know the place in the leaf too.

use std::cell::Cell;

use crate::tree::{AtIndex, Child, Descend, Leaf};

/// Leads to the leaf with the element at an index. The cell holds that index before, and the place in the leaf after.
#[derive(Debug)]
pub(crate) struct PlaceOf<'a>(pub(crate) &'a Cell<usize>);

impl<L: Leaf> Descend<L> for PlaceOf<'_> {
    fn choose(&mut self, children: &[Child<L>]) -> usize {
        let mut index = AtIndex(self.0.get());
        let chosen = index.choose(children);
        self.0.set(index.0);
        chosen
    }
}
