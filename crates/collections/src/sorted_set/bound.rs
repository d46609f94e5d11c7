//! Places between elements, and the way to them.

use super::ranked::Ranked;
use crate::tree::{Child, Descend, partition_point};

/// A place between two elements in order of score and member.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bound<'a> {
    /// Before the elements with this score, or behind them.
    Score { score: f64, inclusive: bool },
    /// Before the element with this member, or behind it, where all scores are equal.
    Member { member: &'a [u8], inclusive: bool },
    /// Before the element with this score and member, or behind it.
    Element { score: f64, member: &'a [u8], inclusive: bool },
}

impl Bound<'_> {
    /// The score at this place, if scores matter.
    #[inline]
    fn score(&self) -> Option<f64> {
        match *self {
            Bound::Score { score, .. } | Bound::Element { score, .. } => Some(score),
            Bound::Member { .. } => None,
        }
    }

    /// Whether an element comes before this place. Its member is looked up only when the score does not decide.
    #[inline]
    pub(super) fn is_above<'b>(&self, score: f64, member: impl FnOnce() -> &'b [u8]) -> bool {
        match *self {
            Bound::Score { score: bound, inclusive } => score < bound || (inclusive && score == bound),
            Bound::Member { member: bound, inclusive } => is_below(member(), bound, inclusive),
            Bound::Element { score: bound, member: bound_member, inclusive } => {
                score < bound || (score == bound && is_below(member(), bound_member, inclusive))
            }
        }
    }
}

/// Whether a member comes before this place.
#[inline]
pub(super) fn is_below(member: &[u8], bound: &[u8], inclusive: bool) -> bool {
    if inclusive { member <= bound } else { member < bound }
}

/// Leads to the last leaf whose first element comes before this place, or else to the first.
impl Descend<Ranked> for Bound<'_> {
    #[inline]
    fn choose(&mut self, children: &[Child<Ranked>]) -> usize {
        let score = self.score();
        let below = score.map_or(0, |score| partition_point(children, |child| child.key() < score));
        let is_tied = children.get(below).is_some_and(|child| score.is_none_or(|score| child.key() == score));
        // To look at the first members costs a cache miss each, so only where scores do not decide.
        let ties = if is_tied {
            let is_above =
                |child: &Child<Ranked>| self.is_above(child.key(), || child.first_leaf().first_member());
            children[below..].partition_point(is_above)
        } else {
            0
        };
        (below + ties).saturating_sub(1)
    }
}
