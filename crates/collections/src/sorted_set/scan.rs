//! Some elements at a time, while the set changes.
//!
//! The cursor is a hash part: a call visits the elements with the parts from there up to the next cursor. Whatever happens to
//! an element between two calls, its part stays, so one that is there throughout is visited.
//!
//! The tree of scores has the part and the score, but not the member, which is searched among the elements with that score.
//! Those may be many, so a range of parts is made long enough that each of these searches finds a fair share of them.

use super::bound::Bound;
use super::scores::BeforePart;
use super::{SortedSet, part_of};

/// Elements to look at for each one that is visited, at most: about a microsecond.
const SEARCHED_PER_VISIT_MAX: usize = 64;

/// The elements with one score: the index of the first, and how many there are.
struct Ties {
    start: usize,
    count: usize,
}

impl SortedSet {
    /// Visits at least `count` elements, or the last ones; returns the cursor to go on with, which is 0 at the end. The first
    /// cursor is 0. When many members have the same score, one in 64 of them may be visited at once, whatever the count.
    ///
    /// An element that is there from the first call to the last one is visited at least once, whatever is changed in between,
    /// its score included. No element is visited twice in one call. A cursor of another origin is no error.
    pub fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(&[u8], f64)) -> u64 {
        let Ok(from) = u32::try_from(cursor) else { return 0 };
        let mut count = count.max(1);
        loop {
            let (scores, end) = self.scores_of_parts(from, count);
            let found = scores.len();
            let ties = self.ties(scores);
            let searched: usize = ties.iter().map(|ties| ties.count).filter(|count| *count > 1).sum();
            if end.is_some() && searched > found.saturating_mul(SEARCHED_PER_VISIT_MAX) {
                count = found.saturating_mul(2);
                continue;
            }
            for Ties { start, count } in ties {
                for (member, score) in self.iter_from(start).take(count) {
                    // An element without ties is the one that was found.
                    let is_due = count == 1 || {
                        let part = part_of(&self.hasher, member) & self.mask();
                        part >= from && end.is_none_or(|end| part < end)
                    };
                    if is_due {
                        visit(member, score);
                    }
                }
            }
            return end.map_or(0, u64::from);
        }
    }

    /// The scores of `count` members or more, those with the first hash parts that are not less than this one, and the part up
    /// to which they are all, or `None` for the end.
    fn scores_of_parts(&self, from: u32, count: usize) -> (Vec<f64>, Option<u32>) {
        let mut scores = Vec::with_capacity(count.min(self.len()));
        let Some(mut walk) = self.scores.walk(&mut BeforePart::new(from)) else { return (scores, None) };
        let mut first = walk.leaf().count_below(from);
        let mut last = None;
        loop {
            for (part, score) in walk.leaf().entries(first) {
                if scores.len() >= count && last != Some(part) {
                    return (scores, Some(part));
                }
                scores.push(score);
                last = Some(part);
            }
            if !walk.advance() {
                return (scores, None);
            }
            first = 0;
        }
    }

    /// Where the elements with these scores are, in order.
    fn ties(&self, mut scores: Vec<f64>) -> Vec<Ties> {
        scores.sort_unstable_by(f64::total_cmp);
        scores.dedup_by(|a, b| a == b);
        let ties = scores.into_iter().map(|score| {
            let start = self.count_before(Bound::Score { score, inclusive: false });
            let end = self.count_before(Bound::Score { score, inclusive: true });
            Ties { start, count: end - start }
        });
        ties.collect()
    }
}
