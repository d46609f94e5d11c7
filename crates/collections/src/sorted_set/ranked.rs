//! Leaves of elements in order of score and member.

use std::sync::Arc;

use super::bound::Bound;
use super::packed::{MEMBER_LEN_MAX, Packed};
use crate::memory::class_size;
use crate::tree::{Bias, Leaf};

/// Some elements in order. Never empty in a tree.
#[derive(Debug, Clone)]
pub(super) enum Ranked {
    /// In one run of bytes.
    Packed(Packed),
    /// One element with a long member. It is shared, so that to copy the leaf costs nothing.
    Long { score: f64, member: Arc<[u8]> },
    /// Two leaves or more, which the tree takes apart at once.
    Several(Vec<Ranked>),
}

impl Leaf for Ranked {
    /// The score; leaves with equal scores are told apart by their first members.
    type Key = f64;

    #[inline]
    fn len(&self) -> usize {
        match self {
            Ranked::Packed(packed) => packed.len(),
            Ranked::Long { .. } => 1,
            Ranked::Several(parts) => parts.iter().map(Ranked::len).sum(),
        }
    }

    fn key(&self) -> f64 {
        match self {
            Ranked::Packed(packed) => packed.score(0),
            Ranked::Long { score, .. } => *score,
            Ranked::Several(parts) => parts[0].key(),
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Ranked::Packed(packed) => packed.memory_bytes(),
            // With both counts of the Arc.
            Ranked::Long { member, .. } => class_size(2 * size_of::<usize>() + member.len()),
            Ranked::Several(parts) => parts.iter().map(Ranked::memory_bytes).sum(),
        }
    }

    fn is_full(&self) -> bool {
        match self {
            Ranked::Packed(packed) => packed.is_full(),
            Ranked::Long { .. } => false,
            Ranked::Several(_) => true,
        }
    }

    /// The leaf knows itself whether it was filled in order.
    fn split(&mut self, _bias: Bias) -> Ranked {
        match self {
            Ranked::Packed(packed) => Ranked::Packed(packed.split()),
            Ranked::Long { .. } => Ranked::Packed(Packed::new()),
            Ranked::Several(parts) => {
                let rest = Ranked::of_parts(parts.split_off(1));
                *self = Ranked::of_parts(std::mem::take(parts));
                rest
            }
        }
    }

    fn can_absorb(&self, next: &Ranked) -> bool {
        match (self, next) {
            (Ranked::Packed(packed), Ranked::Packed(next)) => packed.can_absorb(next),
            _ => false,
        }
    }

    fn absorb(&mut self, next: &Ranked) {
        if let (Ranked::Packed(packed), Ranked::Packed(next)) = (self, next) {
            packed.absorb(next);
        }
    }
}

impl Ranked {
    pub(super) const fn new() -> Ranked {
        Ranked::Packed(Packed::new())
    }

    /// A leaf with one element.
    pub(super) fn of_one(member: &[u8], score: f64) -> Ranked {
        if member.len() > MEMBER_LEN_MAX {
            Ranked::Long { score, member: member.into() }
        } else {
            Ranked::Packed(Packed::of(std::iter::once((member, score))))
        }
    }

    fn of_parts(mut parts: Vec<Ranked>) -> Ranked {
        match parts.pop() {
            Some(only) if parts.is_empty() => only,
            Some(last) => {
                parts.push(last);
                Ranked::Several(parts)
            }
            None => Ranked::new(),
        }
    }

    /// The leaf as a part of a tree, where it is never [`Ranked::Several`].
    #[inline]
    fn packed(&self) -> Result<&Packed, (&[u8], f64)> {
        match self {
            Ranked::Packed(packed) => Ok(packed),
            Ranked::Long { score, member } => Err((member, *score)),
            Ranked::Several(parts) => parts[0].packed(),
        }
    }

    #[inline]
    pub(super) fn first_member(&self) -> &[u8] {
        self.packed().map_or_else(|(member, _)| member, |packed| packed.member(0))
    }

    /// The element at a place below [`Leaf::len`].
    #[inline]
    pub(super) fn element(&self, place: usize) -> (&[u8], f64) {
        self.element_from(place, self.start(place))
    }

    /// What [`Ranked::element_from`] needs to know of a place, which may be the one behind the last.
    #[inline]
    pub(super) fn start(&self, place: usize) -> usize {
        self.packed().map_or_else(|(member, _)| place * member.len(), |packed| packed.start(place))
    }

    #[inline]
    pub(super) fn member_len(&self, place: usize) -> usize {
        self.packed().map_or_else(|(member, _)| member.len(), |packed| packed.member_len(place))
    }

    /// The element at a place with its [`Ranked::start`]. The start of the next place is this one and the member's length.
    #[inline]
    pub(super) fn element_from(&self, place: usize, start: usize) -> (&[u8], f64) {
        match self.packed() {
            Ok(packed) => (packed.member_from(place, start), packed.score(place)),
            Err(element) => element,
        }
    }

    /// The elements from a place on.
    pub(super) fn elements(&self, from: usize) -> impl Iterator<Item = (&[u8], f64)> {
        let (packed, long) = match self.packed() {
            Ok(packed) => (Some(packed.elements(from)), None),
            Err(element) => (None, (from == 0).then_some(element)),
        };
        packed.into_iter().flatten().chain(long)
    }

    /// Shows up to `count` elements from the one at a place on.
    #[inline]
    pub(super) fn visit<'a>(&'a self, from: usize, count: usize, visit: &mut impl FnMut(&'a [u8], f64)) {
        match self.packed() {
            Ok(packed) => packed.elements(from).take(count).for_each(|(member, score)| visit(member, score)),
            Err((member, score)) if from == 0 && count > 0 => visit(member, score),
            Err(_) => {}
        }
    }

    /// Number of elements below a bound.
    #[inline]
    pub(super) fn count_below(&self, bound: &Bound<'_>) -> usize {
        match self.packed() {
            Ok(packed) => packed.count_below(bound),
            Err((member, score)) => usize::from(bound.is_above(score, || member)),
        }
    }

    /// The place of the element with this score and member, and the score as it is stored.
    #[inline]
    pub(super) fn find(&self, member: &[u8], score: f64) -> Option<(usize, f64)> {
        match self.packed() {
            Ok(packed) => packed.find(member, score),
            Err((found, stored)) => (stored == score && found == member).then_some((0, stored)),
        }
    }

    /// Inserts an element that is not there.
    pub(super) fn insert(&mut self, member: &[u8], score: f64) {
        let place = self.count_below(&Bound::Element { score, member, inclusive: false });
        match self {
            Ranked::Packed(packed) if member.len() <= MEMBER_LEN_MAX => packed.insert(place, member, score),
            Ranked::Packed(packed) => {
                let rest = packed.split_off(place);
                let first = std::mem::replace(packed, Packed::new());
                let parts = [Ranked::Packed(first), Ranked::of_one(member, score), Ranked::Packed(rest)];
                *self = Ranked::of_parts(parts.into_iter().filter(|part| !part.is_empty()).collect());
            }
            Ranked::Long { .. } => {
                let mut parts = vec![std::mem::replace(self, Ranked::new())];
                parts.insert(place, Ranked::of_one(member, score));
                *self = Ranked::Several(parts);
            }
            Ranked::Several(_) => debug_assert!(false, "the tree has taken it apart"),
        }
    }

    /// Removes the elements at the places from `from` to before `to`.
    pub(super) fn remove(&mut self, from: usize, to: usize) {
        match self {
            Ranked::Packed(packed) => packed.remove(from, to),
            Ranked::Long { .. } if from < to => *self = Ranked::new(),
            _ => {}
        }
    }

    /// Removes the element with a score and member, if it is there, and inserts it with another score, if that belongs between
    /// two elements of this leaf. Returns whether it did the latter.
    pub(super) fn move_within(&mut self, member: &[u8], old: f64, new: f64) -> bool {
        let Some((place, _)) = self.find(member, old) else { return false };
        self.remove(place, place + 1);
        let Ranked::Packed(packed) = self else { return false };
        let place = packed.count_below(&Bound::Element { score: new, member, inclusive: false });
        let is_within = place > 0 && place < packed.len();
        if is_within {
            packed.insert(place, member, new);
        }
        is_within
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        match self {
            Ranked::Packed(packed) => packed.check(),
            Ranked::Long { member, .. } => assert!(member.len() > MEMBER_LEN_MAX),
            Ranked::Several(_) => panic!("the tree takes it apart"),
        }
    }
}
