//! ZADD with its options, and ZINCRBY.

use holdfast_collections::types::SortedSet;

use crate::command::args::is;
use crate::command::numbers;
use crate::command::{Call, Outcome, ReplyError, Run, error};
use crate::engine::Tools;
use crate::engine::events::Change;
use crate::engine::object::Kind;

pub(crate) fn zadd(call: &mut Call<'_, '_>) -> Run {
    add(call, Options::default())
}

pub(crate) fn zincrby(call: &mut Call<'_, '_>) -> Run {
    // Redis reads options here too: an increment that is the name of one leaves arguments of which there are too few.
    add(call, Options { increments: true, ..Options::default() })
}

/// Options of ZADD.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Options {
    /// NX.
    only_absent: bool,
    /// XX.
    only_present: bool,
    /// GT.
    only_greater: bool,
    /// LT.
    only_less: bool,
    /// CH.
    counts_changed: bool,
    /// INCR.
    increments: bool,
}

impl Options {
    /// Takes one option; false if it is none.
    fn take(&mut self, option: &[u8]) -> bool {
        let flag = match option {
            _ if is(option, "nx") => &mut self.only_absent,
            _ if is(option, "xx") => &mut self.only_present,
            _ if is(option, "gt") => &mut self.only_greater,
            _ if is(option, "lt") => &mut self.only_less,
            _ if is(option, "ch") => &mut self.counts_changed,
            _ if is(option, "incr") => &mut self.increments,
            _ => return false,
        };
        *flag = true;
        true
    }

    fn check(self, pairs: usize) -> Result<(), ReplyError> {
        if self.only_absent && self.only_present {
            return Err(error::ZADD_NX_XX);
        }
        if [self.only_absent, self.only_greater, self.only_less].into_iter().filter(|it| *it).count() > 1 {
            return Err(error::ZADD_GT_LT_NX);
        }
        if self.increments && pairs > 1 { Err(error::ZADD_INCR) } else { Ok(()) }
    }

    /// Whether each member gets the score that is given.
    fn are_plain(self) -> bool {
        self == Options { counts_changed: self.counts_changed, ..Options::default() }
    }

    /// The score that a member is to have; none if the options leave it as it is.
    fn decide(self, old: Option<f64>, given: f64) -> Result<Option<f64>, ReplyError> {
        let Some(old) = old else { return Ok((!self.only_present).then_some(given)) };
        if self.only_absent {
            return Ok(None);
        }
        let new = if self.increments { old + given } else { given };
        if new.is_nan() {
            return Err(error::SCORE_NAN);
        }
        let is_left = (self.only_less && new >= old) || (self.only_greater && new <= old);
        Ok((!is_left).then_some(new))
    }
}

/// What a command has done.
#[derive(Debug, Default)]
struct Done {
    added: usize,
    updated: usize,
    /// The score of the last member that the options did not leave as it was.
    score: Option<f64>,
}

impl Done {
    fn changed(&self) -> usize {
        self.added + self.updated
    }
}

fn add(call: &mut Call<'_, '_>, mut options: Options) -> Run {
    let (key, request) = (call.arg(1), call.request);
    let mut start = 2;
    while request.arg_at(start).is_some_and(|option| options.take(option)) {
        start += 1;
    }
    let args = request.len() - start;
    if args == 0 || !args.is_multiple_of(2) {
        return Err(error::SYNTAX);
    }
    options.check(args / 2)?;
    let scores = (start..request.len())
        .step_by(2)
        .map(|at| numbers::parse_score(request.arg(at)).ok_or(error::NOT_FLOAT))
        .collect::<Result<Vec<f64>, ReplyError>>()?;
    let mut keys = call.keys();
    let found = keys.find_kind(key, Kind::SortedSet)?;
    let done = keys.change(found, key, |set: &mut SortedSet, tools| {
        let mut done = Done::default();
        let members = (start + 1..request.len()).step_by(2).map(|at| request.arg(at));
        for (score, member) in scores.iter().zip(members) {
            // Nothing was changed before: a sum is of one pair, and only a sum is not a number.
            if let Err(error) = put(set, member, *score, options, tools, &mut done) {
                return (Err(error), None);
            }
        }
        let event = if options.increments { "zincr" } else { "zadd" };
        let changed = done.changed();
        (Ok(done), (changed > 0).then_some(Change::sorted_set(event).counted(changed as u64)))
    })?;
    if done.changed() > 0 {
        // Sums of doubles are the same everywhere, so that INCR may be replayed.
        call.log_verbatim();
    }
    match (options.increments, done.score) {
        (true, Some(score)) => call.reply.double(score),
        (true, None) => call.reply.null(),
        (false, _) => call.reply.count(if options.counts_changed { done.changed() } else { done.added }),
    }
    Ok(Outcome::Done)
}

/// Adds one member, or changes its score.
fn put(
    set: &mut SortedSet,
    member: &[u8],
    given: f64,
    options: Options,
    tools: &Tools,
    done: &mut Done,
) -> Result<(), ReplyError> {
    let (old, new) = if options.are_plain() {
        (set.insert(member, given, &tools.limits, tools.hasher), given)
    } else {
        let old = set.view().score(member);
        let Some(new) = options.decide(old, given)? else { return Ok(()) };
        if old != Some(new) {
            set.insert(member, new, &tools.limits, tools.hasher);
        }
        (old, new)
    };
    done.score = Some(new);
    done.added += usize::from(old.is_none());
    done.updated += usize::from(old.is_some_and(|old| old != new));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &str) -> Options {
        let mut options = Options::default();
        assert!(words.split_whitespace().all(|word| options.take(word.as_bytes())), "{words}");
        options
    }

    #[test]
    fn options_decide_what_becomes_of_a_score() {
        for (words, old, given, expected) in [
            ("", None, 1.0, Some(1.0)),
            ("", Some(2.0), 1.0, Some(1.0)),
            ("NX", None, 1.0, Some(1.0)),
            ("nx", Some(2.0), 1.0, None),
            ("xx", None, 1.0, None),
            ("xx", Some(2.0), 1.0, Some(1.0)),
            ("gt", None, 1.0, Some(1.0)),
            ("gt", Some(1.0), 1.0, None),
            ("gt", Some(1.0), 2.0, Some(2.0)),
            ("lt", Some(1.0), 1.0, None),
            ("lt xx", Some(1.0), 0.0, Some(0.0)),
            ("lt xx", None, 0.0, None),
            ("incr", None, 1.5, Some(1.5)),
            ("incr", Some(1.0), 1.5, Some(2.5)),
            ("incr gt", Some(1.0), -1.5, None),
            ("incr lt", Some(1.0), -1.5, Some(-0.5)),
            ("incr nx", Some(1.0), 1.0, None),
        ] {
            assert_eq!(options(words).decide(old, given), Ok(expected), "{words} {old:?} {given}");
        }
        let sum = options("incr").decide(Some(f64::INFINITY), f64::NEG_INFINITY);
        assert_eq!(sum, Err(error::SCORE_NAN));
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        for (words, pairs, expected) in [
            ("nx xx", 1, Err(error::ZADD_NX_XX)),
            ("nx xx gt", 1, Err(error::ZADD_NX_XX)),
            ("nx gt", 1, Err(error::ZADD_GT_LT_NX)),
            ("lt nx", 1, Err(error::ZADD_GT_LT_NX)),
            ("gt lt", 1, Err(error::ZADD_GT_LT_NX)),
            ("incr", 2, Err(error::ZADD_INCR)),
            ("incr", 1, Ok(())),
            ("xx gt ch", 2, Ok(())),
        ] {
            assert_eq!(options(words).check(pairs), expected, "{words} {pairs}");
        }
        assert!(!Options::default().take(b"1"));
    }
}
