//! Bounds and ranks as arguments, and the members that they select.
//!
//! Members are in ascending order, so that each selection is a range of places. Where scores differ, a selection by member
//! means nothing, as in Redis.

use std::ops::Range;

use holdfast_collections::listpack::{Item, Scratch};
use holdfast_collections::types::SortedSetRef;

use crate::command::args::integer;
use crate::command::numbers;
use crate::command::{ReplyError, error};

/// What members are selected by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Rank,
    Score,
    Member,
}

/// The least or the greatest score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ScoreBound {
    score: f64,
    /// The score itself is not in the range.
    is_open: bool,
}

impl ScoreBound {
    fn parse(arg: &[u8]) -> Option<ScoreBound> {
        match arg {
            [b'(', number @ ..] => Some(ScoreBound { score: numbers::parse_bound(number)?, is_open: true }),
            number => Some(ScoreBound { score: numbers::parse_bound(number)?, is_open: false }),
        }
    }
}

/// The least or the greatest member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberBound<'a> {
    /// Less than all members.
    Lowest,
    /// Greater than all members.
    Highest,
    Member {
        member: &'a [u8],
        /// The member itself is not in the range.
        is_open: bool,
    },
}

impl<'a> MemberBound<'a> {
    fn parse(arg: &'a [u8]) -> Option<MemberBound<'a>> {
        match arg {
            // Redis takes a zero byte for the end.
            [b'-'] | [b'-', 0, ..] => Some(MemberBound::Lowest),
            [b'+'] | [b'+', 0, ..] => Some(MemberBound::Highest),
            [b'(', member @ ..] => Some(MemberBound::Member { member, is_open: true }),
            [b'[', member @ ..] => Some(MemberBound::Member { member, is_open: false }),
            _ => None,
        }
    }

    /// Number of members before a range that begins here.
    fn count_before(self, set: SortedSetRef<'_>) -> usize {
        match self {
            MemberBound::Lowest => 0,
            MemberBound::Highest => set.len(),
            MemberBound::Member { member, is_open } => set.count_below_member(member, is_open),
        }
    }

    /// Whether a member lies before a range that begins here.
    fn is_behind(self, found: &[u8]) -> bool {
        match self {
            MemberBound::Lowest => false,
            MemberBound::Highest => true,
            MemberBound::Member { member, is_open } => found < member || (is_open && found == member),
        }
    }

    /// Whether a member lies beyond a range that ends here.
    fn is_ahead_of(self, found: &[u8]) -> bool {
        match self {
            MemberBound::Lowest => true,
            MemberBound::Highest => false,
            MemberBound::Member { member, is_open } => found > member || (is_open && found == member),
        }
    }

    /// Number of members up to the end of a range that ends here.
    fn count_through(self, set: SortedSetRef<'_>) -> usize {
        match self {
            MemberBound::Lowest => 0,
            MemberBound::Highest => set.len(),
            MemberBound::Member { member, is_open } => set.count_below_member(member, !is_open),
        }
    }
}

/// Which members a command works with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Selection<'a> {
    /// Both included; negative ranks count from the end.
    Ranks {
        first: i64,
        last: i64,
    },
    Scores {
        min: ScoreBound,
        max: ScoreBound,
    },
    Members {
        min: MemberBound<'a>,
        max: MemberBound<'a>,
    },
}

impl<'a> Selection<'a> {
    pub(super) fn parse(by: By, min: &'a [u8], max: &'a [u8]) -> Result<Selection<'a>, ReplyError> {
        match by {
            By::Rank => Ok(Selection::Ranks { first: integer(min)?, last: integer(max)? }),
            By::Score => match (ScoreBound::parse(min), ScoreBound::parse(max)) {
                (Some(min), Some(max)) => Ok(Selection::Scores { min, max }),
                _ => Err(error::BOUND_NOT_FLOAT),
            },
            By::Member => match (MemberBound::parse(min), MemberBound::parse(max)) {
                (Some(min), Some(max)) => Ok(Selection::Members { min, max }),
                _ => Err(error::BOUND_NOT_MEMBER),
            },
        }
    }

    /// The places of the members, in ascending order of members. With `reverse`, ranks count from the last member.
    pub(super) fn places(self, set: SortedSetRef<'_>, reverse: bool) -> Range<usize> {
        match self {
            Selection::Ranks { first, last } => {
                let len = set.len();
                let places = places_of_ranks(first, last, len);
                if reverse { len - places.end..len - places.start } else { places }
            }
            Selection::Scores { min, max } => {
                let start = set.count_below(min.score, min.is_open);
                start..set.count_below(max.score, !max.is_open).max(start)
            }
            // As in Redis, which looks at both ends first: that matters where scores differ, and members are in no order.
            Selection::Members { min, max } if is_outside(set, min, max) => 0..0,
            Selection::Members { min, max } => {
                let start = min.count_before(set);
                start..max.count_through(set).max(start)
            }
        }
    }

    /// First and last rank of `places`, where these depend on more than the members: a range of members is found by halving,
    /// and where scores differ, members are in no order, so the same set in another form yields another range. Whoever
    /// repeats the command later needs the ranks.
    pub(super) fn by_rank(self, set: SortedSetRef<'_>, places: &Range<usize>) -> Option<[String; 2]> {
        let score = |at: usize| set.nth(at).map(|(_, score)| score);
        let is_mixed = || score(0) != score(set.len() - 1);
        (matches!(self, Selection::Members { .. }) && !places.is_empty() && is_mixed())
            .then(|| [places.start, places.end - 1].map(|at| at.to_string()))
    }
}

/// Whether the last member lies before a range of members, or the first one beyond it.
fn is_outside(set: SortedSetRef<'_>, min: MemberBound<'_>, max: MemberBound<'_>) -> bool {
    let mut text = Scratch::new();
    let mut ends_as = |at: usize, test: &dyn Fn(&[u8]) -> bool| {
        set.nth(at).is_none_or(|(member, _)| test(member.as_bytes(&mut text)))
    };
    ends_as(set.len().wrapping_sub(1), &|last| min.is_behind(last))
        || ends_as(0, &|first| max.is_ahead_of(first))
}

fn places_of_ranks(first: i64, last: i64, len: usize) -> Range<usize> {
    let from_end = |rank: i64| len.checked_sub(usize::try_from(rank.unsigned_abs()).unwrap_or(usize::MAX));
    let start =
        if first < 0 { from_end(first).unwrap_or(0) } else { usize::try_from(first).unwrap_or(usize::MAX) };
    let last = if last < 0 { from_end(last) } else { Some(usize::try_from(last).unwrap_or(usize::MAX)) };
    let end = last.map_or(0, |last| last.saturating_add(1).min(len));
    if start < end { start..end } else { 0..0 }
}

/// The places that LIMIT leaves: `count` of them after `offset`, all of them if `count` is negative, and none if `offset` is.
/// With `reverse` they are counted from the end.
pub(super) fn limit(places: Range<usize>, reverse: bool, offset: i64, count: i64) -> Range<usize> {
    let Ok(offset) = usize::try_from(offset) else { return 0..0 };
    let offset = offset.min(places.len());
    let left = places.len() - offset;
    let count = usize::try_from(count).map_or(left, |count| count.min(left));
    if reverse {
        let end = places.end - offset;
        end - count..end
    } else {
        let start = places.start + offset;
        start..start + count
    }
}

/// Visits the members at some places, backwards if `reverse`.
pub(super) fn visit<'a>(
    set: SortedSetRef<'a>,
    places: Range<usize>,
    reverse: bool,
    mut visit: impl FnMut(Item<'a>, f64),
) {
    let count = places.len();
    if count == 0 {
        return;
    }
    if reverse {
        set.iter_back_from(places.end - 1).take(count).for_each(|(member, score)| visit(member, score));
    } else {
        set.visit_from(places.start, count, visit);
    }
}

#[cfg(test)]
mod tests {
    use holdfast_collections::types::SortedSet;

    use super::*;
    use crate::engine::Tools;

    fn set(members: &[(&str, f64)]) -> SortedSet {
        let tools = Tools::random();
        let mut set = SortedSet::empty(Vec::new());
        for (member, score) in members {
            set.insert(member.as_bytes(), *score, &tools.limits, tools.hasher);
        }
        set
    }

    fn members(set: &SortedSet, places: Range<usize>, reverse: bool) -> String {
        let mut found = Vec::new();
        visit(set.view(), places, reverse, |member, _| {
            found.push(String::from_utf8(member.to_vec()).unwrap())
        });
        found.join(" ")
    }

    /// Selects with arguments as they are given, the least first.
    fn check(set: &SortedSet, by: By, min: &str, max: &str, expected: &str) {
        let selection = Selection::parse(by, min.as_bytes(), max.as_bytes()).unwrap();
        let places = selection.places(set.view(), false);
        assert_eq!(members(set, places, false), expected, "{by:?} {min} {max}");
    }

    #[test]
    fn scores_are_selected_with_open_and_closed_bounds() {
        let set = set(&[
            ("a", f64::NEG_INFINITY),
            ("b", 1.0),
            ("c", 2.0),
            ("d", 2.0),
            ("e", 3.5),
            ("f", f64::INFINITY),
        ]);
        check(&set, By::Score, "-inf", "+inf", "a b c d e f");
        check(&set, By::Score, "(-inf", "(+inf", "b c d e");
        check(&set, By::Score, "1", "2", "b c d");
        check(&set, By::Score, "(1", "2", "c d");
        check(&set, By::Score, "1", "(2", "b");
        check(&set, By::Score, "(2", "(2", "");
        check(&set, By::Score, "3", "2", "");
        check(&set, By::Score, "-1e999", "0", "a");
        check(&set, By::Score, "", "1", "b");
    }

    #[test]
    fn members_are_selected_with_open_and_closed_bounds() {
        let set = set(&[("", 0.0), ("alpha", 0.0), ("bar", 0.0), ("cool", 0.0), ("down", 0.0)]);
        check(&set, By::Member, "-", "+", " alpha bar cool down");
        check(&set, By::Member, "[alpha", "[cool", "alpha bar cool");
        check(&set, By::Member, "(alpha", "(cool", "bar");
        check(&set, By::Member, "[", "(", "");
        check(&set, By::Member, "(", "[b", "alpha");
        check(&set, By::Member, "+", "-", "");
        check(&set, By::Member, "-", "-", "");
        check(&set, By::Member, "+", "+", "");
        check(&set, By::Member, "[d", "[a", "");
        check(&set, By::Member, "(bar", "[bar", "");
    }

    #[test]
    fn ranks_count_from_both_ends() {
        let set = set(&[("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0)]);
        check(&set, By::Rank, "0", "-1", "a b c d");
        check(&set, By::Rank, "1", "2", "b c");
        check(&set, By::Rank, "-2", "-1", "c d");
        check(&set, By::Rank, "-9", "1", "a b");
        check(&set, By::Rank, "0", "-5", "");
        check(&set, By::Rank, "4", "9", "");
        check(&set, By::Rank, "2", "1", "");
        check(&set, By::Rank, "-9223372036854775808", "9223372036854775807", "a b c d");
        let selection = Selection::Ranks { first: 0, last: 1 };
        assert_eq!(members(&set, selection.places(set.view(), true), true), "d c");
        let selection = Selection::Ranks { first: -1, last: -1 };
        assert_eq!(members(&set, selection.places(set.view(), true), true), "a");
    }

    #[test]
    fn bounds_that_say_nothing_are_refused() {
        for (by, min, max, expected) in [
            (By::Rank, "1.0", "2", error::NOT_INTEGER),
            (By::Score, "str", "1", error::BOUND_NOT_FLOAT),
            (By::Score, "1", "nan", error::BOUND_NOT_FLOAT),
            (By::Score, "((1", "2", error::BOUND_NOT_FLOAT),
            (By::Member, "foo", "[b", error::BOUND_NOT_MEMBER),
            (By::Member, "[a", "", error::BOUND_NOT_MEMBER),
            (By::Member, "+x", "[b", error::BOUND_NOT_MEMBER),
            (By::Member, "-x", "[b", error::BOUND_NOT_MEMBER),
        ] {
            assert_eq!(
                Selection::parse(by, min.as_bytes(), max.as_bytes()),
                Err(expected),
                "{min:?} {max:?}"
            );
        }
        let bound = MemberBound::Member { member: b"a", is_open: false };
        let expected = Selection::Members { min: MemberBound::Lowest, max: bound };
        assert_eq!(Selection::parse(By::Member, b"-\0x", b"[a"), Ok(expected));
    }

    #[test]
    fn limits_count_in_the_direction_of_the_range() {
        assert_eq!(limit(2..8, false, 1, 2), 3..5);
        assert_eq!(limit(2..8, true, 1, 2), 5..7);
        assert_eq!(limit(2..8, false, 4, 9), 6..8);
        assert_eq!(limit(2..8, true, 4, -1), 2..4);
        assert_eq!(limit(2..8, false, 0, 0).len(), 0);
        assert_eq!(limit(2..8, false, 6, -1).len(), 0);
        assert_eq!(limit(2..8, true, i64::MAX, i64::MAX).len(), 0);
        assert_eq!(limit(2..8, false, -1, -1).len(), 0);
        assert_eq!(limit(2..8, false, 0, i64::MIN), 2..8);
    }
}
