//! Options of SORT.

use std::ops::Range;

use super::pattern::Pattern;
use crate::command::args::{integer, is};
use crate::command::{ReplyError, error};
use crate::protocol::Request;

/// What SORT is asked for.
#[derive(Debug)]
pub(super) struct Options<'a> {
    pub(super) descending: bool,
    /// Weights are compared as texts instead of numbers.
    pub(super) alphabetic: bool,
    /// A BY without `*` leaves the elements in the order of their key.
    pub(super) unsorted: bool,
    /// Where weights are; the elements themselves if there is none.
    pub(super) by: Option<Pattern<'a>>,
    /// What is shown of each element; the element itself if there is none.
    pub(super) columns: Vec<Pattern<'a>>,
    /// The key that gets the result.
    pub(super) target: Option<&'a [u8]>,
    /// First element, and how many; a negative number of them is all.
    limit: (i64, i64),
}

impl<'a> Options<'a> {
    /// Reads the options behind the key.
    pub(super) fn parse(request: &Request<'a>, may_store: bool) -> Result<Options<'a>, ReplyError> {
        let mut options = Options {
            descending: false,
            alphabetic: false,
            unsorted: false,
            by: None,
            columns: Vec::new(),
            target: None,
            limit: (0, -1),
        };
        let mut args = request.args_from(2);
        while let Some(option) = args.next() {
            if is(option, "asc") {
                options.descending = false;
            } else if is(option, "desc") {
                options.descending = true;
            } else if is(option, "alpha") {
                options.alphabetic = true;
            } else if is(option, "limit") && args.len() >= 2 {
                let mut number = || integer(args.next().unwrap_or_default());
                options.limit = (number()?, number()?);
            } else if let Some(value) = args.next() {
                if may_store && is(option, "store") {
                    options.target = Some(value);
                } else if is(option, "by") {
                    let pattern = Pattern::parse(value);
                    // One such pattern is enough, whatever follows.
                    options.unsorted |= pattern.is_constant();
                    options.by = Some(pattern);
                } else if is(option, "get") {
                    options.columns.push(Pattern::parse(value));
                } else {
                    return Err(error::SYNTAX);
                }
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(options)
    }

    /// The range that LIMIT leaves of so many elements.
    pub(super) fn range(&self, len: usize) -> Range<usize> {
        let (start, count) = self.limit;
        let start = usize::try_from(start.max(0)).unwrap_or(usize::MAX).min(len);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        start..start.saturating_add(count).min(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::OwnedRequest;

    fn parse<R>(words: &str, may_store: bool, see: impl FnOnce(Result<Options<'_>, ReplyError>) -> R) -> R {
        let request = OwnedRequest::from_args(&words.split(' ').collect::<Vec<_>>());
        see(Options::parse(&request.as_request(), may_store))
    }

    fn check_range(limit: &str, len: usize, expected: Range<usize>) {
        let range = parse(&format!("SORT k LIMIT {limit}"), true, |options| options.unwrap().range(len));
        assert_eq!((range.start.min(range.end), range.len()), (expected.start, expected.len()), "{limit}");
    }

    #[test]
    fn limits_are_cut_to_the_elements() {
        check_range("0 -1", 5, 0..5);
        check_range("1 3", 5, 1..4);
        check_range("-10 100", 5, 0..5);
        check_range("5 10", 5, 5..5);
        check_range("2 0", 5, 2..2);
        check_range("2 9223372036854775807", 3, 2..3);
        check_range("-9223372036854775808 -9223372036854775808", 3, 0..3);
        check_range("0 10", 0, 0..0);
    }

    #[test]
    fn options_are_read_in_order() {
        parse(
            "sort k by nosort by w_* get # get a limit 0 1 alpha desc asc store a store b",
            true,
            |options| {
                let options = options.unwrap();
                assert!(options.unsorted && options.alphabetic && !options.descending);
                assert!(options.by.is_some_and(|by| !by.is_constant()));
                assert_eq!((options.columns.len(), options.target), (2, Some(&b"b"[..])));
            },
        );
        let check_error = |words: &str, may_store, expected| {
            parse(words, may_store, |options| assert_eq!(options.unwrap_err(), expected, "{words}"));
        };
        check_error("sort k limit 1", true, error::SYNTAX);
        check_error("sort k limit a 1", true, error::NOT_INTEGER);
        check_error("sort k by", true, error::SYNTAX);
        check_error("sort k get", true, error::SYNTAX);
        check_error("sort k store", true, error::SYNTAX);
        check_error("sort k descending", true, error::SYNTAX);
        check_error("sort_ro k store a", false, error::SYNTAX);
    }
}
