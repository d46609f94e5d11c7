//! Positions of the keys of a command: the key specs of Redis 7, and the single range that older clients read.

use std::iter::StepBy;
use std::ops::Range;

use crate::protocol::parse_i64;

/// Where a command has keys, and what it does with them. Positions count from the command name at 0.
#[derive(Debug, Clone, Copy)]
pub struct KeySpec {
    /// Names as in `COMMAND INFO`: RO, RW, OW or RM, then access, update, insert, delete and others.
    pub flags: &'static [&'static str],
    /// A remark for readers of `COMMAND INFO`.
    pub(crate) notes: Option<&'static str>,
    /// Where the search for keys begins.
    pub begin_search: BeginSearch,
    /// Which arguments from there on are keys.
    pub find_keys: FindKeys,
}

/// Where the search for keys begins.
#[derive(Debug, Clone, Copy)]
pub enum BeginSearch {
    /// At a position.
    Index(usize),
    /// After a word.
    Keyword {
        /// The word, in any case.
        word: &'static str,
        /// Where the search for the word begins; negative counts from the end and searches backwards.
        from: i64,
    },
    /// Only the command itself knows.
    Unknown,
}

/// Which arguments are keys, counted from where the search begins.
#[derive(Debug, Clone, Copy)]
pub enum FindKeys {
    /// Arguments at regular distances.
    Range {
        /// Last key relative to the first; negative counts from the end, -1 is the last argument.
        last: i64,
        /// Distance of keys.
        step: usize,
        /// With a negative `last`, the fraction of the remaining arguments that are keys: 2 is a half; 0 and 1 are all.
        limit: usize,
    },
    /// As many arguments as another argument says.
    KeyNum {
        /// The argument with the number, relative to where the search begins.
        count: usize,
        /// First key, relative to where the search begins.
        first: usize,
        /// Distance of keys.
        step: usize,
    },
    /// Only the command itself knows.
    Unknown,
}

impl KeySpec {
    /// One key at a position.
    pub(super) const fn at(position: usize, flags: &'static [&'static str]) -> KeySpec {
        KeySpec::range(position, 0, 1, flags)
    }

    /// Keys from `first` on; `last` is relative to it, or counts from the end if negative.
    pub(super) const fn range(
        first: usize,
        last: i64,
        step: usize,
        flags: &'static [&'static str],
    ) -> KeySpec {
        let find_keys = FindKeys::Range { last, step, limit: 0 };
        KeySpec { flags, notes: None, begin_search: BeginSearch::Index(first), find_keys }
    }

    /// The number of keys at `position`, followed by the keys.
    pub(super) const fn numkeys(position: usize, flags: &'static [&'static str]) -> KeySpec {
        let find_keys = FindKeys::KeyNum { count: 0, first: 1, step: 1 };
        KeySpec { flags, notes: None, begin_search: BeginSearch::Index(position), find_keys }
    }

    /// Keys that only the command itself knows.
    pub(super) const fn unknown(flags: &'static [&'static str]) -> KeySpec {
        KeySpec { flags, notes: None, begin_search: BeginSearch::Unknown, find_keys: FindKeys::Unknown }
    }

    /// Whether only the command itself knows the keys.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self.begin_search, BeginSearch::Unknown) || matches!(self.find_keys, FindKeys::Unknown)
    }

    /// Whether what it finds are keys, rather than channels that a cluster treats like keys.
    pub(crate) fn finds_keys(&self) -> bool {
        !self.flags.contains(&"not_key")
    }

    /// The same spec with a remark.
    pub(super) const fn with_notes(mut self, notes: &'static str) -> KeySpec {
        self.notes = Some(notes);
        self
    }

    /// Positions of the keys in `args`, which begin with the name; `None` if the arguments are wrong.
    ///
    /// There are none if the keyword is missing, or if only the command itself knows its keys.
    pub(super) fn positions(&self, args: &[&[u8]]) -> Option<StepBy<Range<usize>>> {
        const NO_KEYS: Range<usize> = 0..0;
        let begin = match self.begin_search {
            BeginSearch::Index(index) => Some(index),
            BeginSearch::Keyword { word, from } => find_word(args, word, from).map(|at| at + 1),
            BeginSearch::Unknown => None,
        };
        let Some(begin) = begin else { return Some(NO_KEYS.step_by(1)) };
        let (first, end, step) = match self.find_keys {
            FindKeys::Range { last, step, limit } => {
                let end = match (usize::try_from(last), limit) {
                    (Ok(last), _) => begin + last + 1,
                    (Err(_), 0 | 1) => from_end(args.len(), last)? + 1,
                    (Err(_), _) => begin + args.len().saturating_sub(begin) / limit,
                };
                (begin, end, step)
            }
            FindKeys::KeyNum { count, first, step } => {
                let number = usize::try_from(parse_i64(args.get(begin + count)?)?).ok()?;
                (begin + first, (begin + first).checked_add(number)?, step)
            }
            FindKeys::Unknown => return Some(NO_KEYS.step_by(1)),
        };
        (first < end && end <= args.len()).then(|| (first..end).step_by(step))
    }
}

/// The position of a word, searched from `from` on.
///
/// Searching forwards skips the last argument, which no key could follow. Searching backwards stops before the first two
/// arguments, as Redis does.
fn find_word(args: &[&[u8]], word: &str, from: i64) -> Option<usize> {
    let is_word = |at: &usize| args[*at].eq_ignore_ascii_case(word.as_bytes());
    match usize::try_from(from) {
        Ok(from) => (from..args.len().saturating_sub(1)).find(is_word),
        Err(_) => (2..=from_end(args.len(), from)?).rev().find(is_word),
    }
}

/// The position that a negative number means, -1 being the last.
fn from_end(len: usize, back: i64) -> Option<usize> {
    len.checked_sub(usize::try_from(back.unsigned_abs()).ok()?)
}

/// First, last and step of the keys, as `COMMAND` reports them for clients that do not read key specs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyRange {
    /// First key; 0 if the range is empty.
    pub(crate) first: usize,
    /// Last key; negative counts from the end, -1 is the last argument.
    pub(crate) last: i64,
    /// Distance of keys.
    pub(crate) step: usize,
    /// Whether all keys are within the range.
    pub(crate) covers_all_keys: bool,
}

impl KeyRange {
    /// Takes a single range as it is, and joins ranges of adjacent keys; any other spec is left out.
    pub(super) fn from_specs(specs: &[KeySpec]) -> KeyRange {
        let mut all = KeyRange { first: 0, last: 0, step: 0, covers_all_keys: true };
        for spec in specs {
            let (BeginSearch::Index(first), FindKeys::Range { last, step, .. }) =
                (spec.begin_search, spec.find_keys)
            else {
                all.covers_all_keys = false;
                continue;
            };
            let begin = i64::try_from(first).unwrap_or(i64::MAX);
            let is_next = all.last == 0 || all.last == begin - 1;
            if specs.len() > 1 && (step != 1 || !is_next) {
                all.covers_all_keys = false;
                continue;
            }
            let first = if all.first == 0 { first } else { all.first };
            all = KeyRange { first, last: if last < 0 { last } else { begin + last }, step, ..all };
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::{BeginSearch, FindKeys, KeyRange, KeySpec};

    /// Checks the keys that a request has by a spec, in order; `None` where its arguments are wrong.
    fn check(spec: KeySpec, request: &str, expected: Option<&str>) {
        let args: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        let found = spec.positions(&args).map(|positions| {
            let keys: Vec<_> = positions.map(|at| String::from_utf8_lossy(args[at])).collect();
            keys.join(" ")
        });
        assert_eq!(found.as_deref(), expected, "{request}");
    }

    #[test]
    fn a_range_ends_relative_to_its_first_key_or_to_the_last_argument() {
        check(KeySpec::at(1, &[]), "GET a b", Some("a"));
        check(KeySpec::at(2, &[]), "GET a", None);
        check(KeySpec::range(1, 1, 1, &[]), "LCS a b IDX", Some("a b"));
        check(KeySpec::range(1, -1, 1, &[]), "DEL a b c", Some("a b c"));
        check(KeySpec::range(1, -2, 1, &[]), "BLPOP a b 0", Some("a b"));
        check(KeySpec::range(1, -2, 1, &[]), "BLPOP 0", None);
        check(KeySpec::range(1, -1, 2, &[]), "MSET a 1 b 2", Some("a b"));
    }

    #[test]
    fn a_number_of_keys_is_at_least_one_and_within_the_arguments() {
        let check =
            |request: &str, expected: Option<&str>| check(KeySpec::numkeys(1, &[]), request, expected);
        check("ZUNION 2 a b WEIGHTS 1 2", Some("a b"));
        check("ZUNION 1 a b", Some("a"));
        for number in ["0", "3", "-1", "x", "02", "9223372036854775807"] {
            check(&format!("ZUNION {number} a b"), None);
        }
        check("ZUNION", None);
    }

    #[test]
    fn keys_behind_a_keyword_are_searched_in_its_direction() {
        let streams = KeySpec {
            begin_search: BeginSearch::Keyword { word: "STREAMS", from: 1 },
            find_keys: FindKeys::Range { last: -1, step: 1, limit: 2 },
            ..KeySpec::unknown(&[])
        };
        check(streams, "XREAD COUNT 2 streams a b 0 0", Some("a b"));
        check(streams, "XREAD COUNT 2 a STREAMS", Some(""));
        let keys = KeySpec {
            begin_search: BeginSearch::Keyword { word: "KEYS", from: -2 },
            find_keys: FindKeys::Range { last: -1, step: 1, limit: 0 },
            ..KeySpec::unknown(&[])
        };
        check(keys, "MIGRATE h 1 KEYS 0 5 KEYS a b", Some("a b"));
        check(keys, "MIGRATE h 1 a 0 5", Some(""));
        check(keys, "MIGRATE", Some(""));
    }

    #[test]
    fn keys_that_only_the_command_knows_are_left_out() {
        check(KeySpec::unknown(&[]), "SORT a BY b", Some(""));
    }

    #[test]
    fn the_range_of_a_command_joins_adjacent_specs() {
        let check = |specs: &[KeySpec], expected: (usize, i64, usize), covers_all_keys| {
            let (first, last, step) = expected;
            let expected = KeyRange { first, last, step, covers_all_keys };
            assert_eq!(KeyRange::from_specs(specs), expected, "{specs:?}");
        };
        let (one, two, number) = (KeySpec::at(1, &[]), KeySpec::at(2, &[]), KeySpec::numkeys(2, &[]));
        check(&[], (0, 0, 0), true);
        check(&[one], (1, 1, 1), true);
        check(&[KeySpec::range(1, -1, 2, &[])], (1, -1, 2), true);
        check(&[one, two], (1, 2, 1), true);
        check(&[one, KeySpec::range(2, -1, 1, &[])], (1, -1, 1), true);
        check(&[one, KeySpec::at(3, &[])], (1, 1, 1), false);
        check(&[number], (0, 0, 0), false);
        check(&[one, number], (1, 1, 1), false);
        check(&[one, KeySpec::unknown(&[])], (1, 1, 1), false);
    }

    #[test]
    fn only_keys_count_where_the_table_knows_them() {
        let check = |request: &str, expected: bool| {
            let args: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
            let command = crate::command::table::find(args[0]).unwrap();
            assert_eq!(command.has_key_longer_than(3, &args), expected, "{request}");
        };
        check("SET key value", false);
        check("SET longer 1", true);
        check("MSET a value b value", false);
        check("MSET a value longer 1", true);
        check("ZUNIONSTORE to 2 a b WEIGHTS 1 2", false);
        check("ZUNIONSTORE to 2 a longer", true);
        // Wrong arguments, and keys that the table does not know.
        check("ZUNIONSTORE to x longer", true);
        check("SORT a STORE longer", true);
    }
}
