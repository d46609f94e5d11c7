//! Search by hash. Hashes are spread evenly, so that the place of one follows from where it is between the lowest and the
//! highest that can be there: a step down touches one or two cache lines, where a binary search touches five.

use crate::tree::{Child, Leaf};

/// The range of the hashes below a node, on the way down: from the low one to the high one, of which the last may be the first
/// behind the node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    low: u32,
    high: u32,
}

impl Spread {
    /// All hashes of 32 bits.
    #[inline]
    pub(crate) const fn all() -> Spread {
        Spread { low: 0, high: u32::MAX }
    }

    /// The last child that is not behind what is sought, or else the first. `is_behind` holds for no child, or for one and
    /// all that follow; `hash_of` tells the hash that a child begins with.
    #[inline]
    pub(crate) fn choose<L: Leaf>(
        &mut self,
        hash: u32,
        children: &[Child<L>],
        hash_of: impl Fn(&Child<L>) -> u32,
        is_behind: impl Fn(&Child<L>) -> bool,
    ) -> usize {
        let mut place = self.guess(hash, children.len());
        while place > 0 && is_behind(&children[place]) {
            place -= 1;
        }
        while let Some(next) = children.get(place + 1) {
            if is_behind(next) {
                self.high = hash_of(next);
                break;
            }
            place += 1;
        }
        self.low = hash_of(&children[place]);
        place
    }

    /// The likely place of a hash among `count` that are spread evenly over the range: below `count`, which is at least 1.
    #[inline]
    fn guess(self, hash: u32, count: usize) -> usize {
        // A division of 64 bits takes several times as long, and what the shift drops is less than the spread is uneven. Products
        // fit because a node has less than 2⁸ children; of more, the guess would be worse.
        const SHIFT: u32 = 8;
        let before = hash.saturating_sub(self.low) >> SHIFT;
        let all = (self.high.saturating_sub(self.low) >> SHIFT).max(1);
        let place = before.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)) / all;
        (place as usize).min(count - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn a_guess_is_where_evenly_spread_hashes_are() {
        let check = |low: u32, high: u32, hash: u32, count: usize, expected: usize| {
            let found = Spread { low, high }.guess(hash, count);
            assert_eq!(found, expected, "{hash} of {low} to {high}, {count}");
        };
        check(0, u32::MAX, 0, 64, 0);
        check(0, u32::MAX, u32::MAX, 64, 63);
        check(0, u32::MAX, u32::MAX, 65, 64);
        check(0, u32::MAX, 1 << 31, 64, 32);
        check(0, u32::MAX, 1 << 31, 1, 0);
        check(1 << 31, u32::MAX, 3 << 30, 10, 5);
        // Out of the range, which is empty or too short to tell.
        check(1 << 31, u32::MAX, 5, 10, 0);
        check(100, 100, 100, 10, 0);
        check(100, 100, u32::MAX, 10, 9);
        check(100, 150, 149, 10, 0);
    }
}
