//! Glob patterns as KEYS, SCAN and CONFIG GET know them: `*`, `?`, `[…]` with ranges and `^`, `\`.
//!
//! Answers are those of Redis 7.0.15 (`util.c`, `stringmatchlen`), with its corner cases: an unclosed class extends to the
//! end of the pattern, a `\` at the end stands for itself, bytes of a range compare as signed (which is what `char` is on
//! x86-64), an empty text matches `*` and the empty pattern only, and beyond 1,000 stars nothing matches.

/// Stars in a row count as one. Redis 7.0 takes a pattern with more of them for an attack, and for one that matches
/// nothing; one more at the end is still taken. Source: `stringmatchlen_impl`.
const STARS_MAX: usize = 1000;

/// Whether `text` matches `pattern`, byte by byte.
///
/// Takes at most time proportional to the product of both lengths, however many stars there are.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    run(pattern, text, Case::Exact)
}

/// As [`matches`], without regard to ASCII case.
#[must_use]
pub fn matches_ignore_case(pattern: &[u8], text: &[u8]) -> bool {
    run(pattern, text, Case::Ignored)
}

#[derive(Clone, Copy)]
enum Case {
    Exact,
    Ignored,
}

impl Case {
    fn fold(self, byte: u8) -> u8 {
        match self {
            Case::Exact => byte,
            Case::Ignored => byte.to_ascii_lowercase(),
        }
    }

    fn equal(self, a: u8, b: u8) -> bool {
        self.fold(a) == self.fold(b)
    }
}

fn run(pattern: &[u8], text: &[u8], case: Case) -> bool {
    if pattern == b"*" {
        return true;
    }
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut pattern_rest, mut text_rest) = (pattern, text);
    // Behind the latest star: what follows it, and the text at which that is tried next. Earlier stars need not be tried
    // again: if the rest matches nowhere behind the latest one, it does not match further on either.
    let mut retry: Option<(&[u8], &[u8])> = None;
    let mut stars = 0;
    loop {
        if let [b'*', ..] = pattern_rest {
            let run_len = pattern_rest.iter().take_while(|&&byte| byte == b'*').count();
            pattern_rest = &pattern_rest[run_len..];
            if pattern_rest.is_empty() {
                return true;
            }
            stars += 1;
            if stars > STARS_MAX {
                return false;
            }
            retry = Some((pattern_rest, text_rest));
            continue;
        }
        match text_rest {
            [] if pattern_rest.is_empty() => return true,
            [] => {}
            [byte, text_after @ ..] => {
                if let Some(pattern_after) = match_one(pattern_rest, *byte, case) {
                    (pattern_rest, text_rest) = (pattern_after, text_after);
                    continue;
                }
            }
        }
        let Some((after_star, [_, tried_next @ ..])) = retry else { return false };
        (pattern_rest, text_rest) = (after_star, tried_next);
        retry = Some((after_star, tried_next));
    }
}

/// What follows the first element of `pattern`, if that matches `byte`.
fn match_one(pattern: &[u8], byte: u8, case: Case) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', after @ ..] => Some(after),
        [b'[', class @ ..] => match_class(class, byte, case),
        [b'\\', literal, after @ ..] | [literal, after @ ..] => case.equal(*literal, byte).then_some(after),
    }
}

/// What follows the class, given without its `[`, if `byte` is in it.
fn match_class(class: &[u8], byte: u8, case: Case) -> Option<&[u8]> {
    let (negated, mut rest) = match class {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    loop {
        rest = match rest {
            [] => break,
            // An escaped byte is compared with regard to case, always.
            [b'\\', literal, after @ ..] => {
                found |= *literal == byte;
                after
            }
            [b']', after @ ..] => {
                rest = after;
                break;
            }
            [from, b'-', to, after @ ..] => {
                found |= in_range(*from, *to, byte, case);
                after
            }
            [literal, after @ ..] => {
                found |= case.equal(*literal, byte);
                after
            }
        };
    }
    (found != negated).then_some(rest)
}

/// Order matters: the bounds are ordered before case is folded, so that `[Z-a]` is empty without regard to case.
fn in_range(from: u8, to: u8, byte: u8, case: Case) -> bool {
    let (from, to) = (from.cast_signed(), to.cast_signed());
    let fold = |byte: i8| case.fold(byte.cast_unsigned()).cast_signed();
    (fold(from.min(to))..=fold(from.max(to))).contains(&fold(byte.cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &[u8], text: &[u8], expected: bool) {
        let (shown, on) = (pattern.escape_ascii(), text.escape_ascii());
        assert_eq!(matches(pattern, text), expected, "{shown} on {on}");
    }

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, yes, no) in [
            ("*", &["", "a", "abc"][..], &[][..]),
            ("", &[""], &["a"]),
            ("**", &["a"], &[""]),
            ("***", &["abc"], &[]),
            ("a*c", &["ac", "abc", "abcc"], &["ab", "acb", "abbd"]),
            ("*ab*ab", &["abxababab"], &["aba"]),
            ("h?llo", &["hello", "hallo"], &["hllo", "heello"]),
            ("h[ae]llo", &["hello", "hallo"], &["hillo", "hllo"]),
            ("h[^e]llo", &["hallo"], &["hello"]),
            ("h[a-c]llo", &["hallo", "hbllo"], &["hdllo"]),
            ("h[c-a]llo", &["hbllo"], &["hdllo"]),
            ("h\\*llo", &["h*llo"], &["hello"]),
            ("[\\]]", &["]"], &["\\"]),
            ("[]a]", &[], &["]", "a"]),
            ("[abc", &["a", "c"], &["d"]),
            ("[^", &["a"], &["", "ab"]),
            ("[", &[], &["[", "a"]),
            ("[a-", &["a", "-"], &["b"]),
            ("[\\", &["\\"], &["a"]),
            ("a\\", &["a\\"], &["a"]),
            ("*a*b*c*", &["abc", "xaxbxcx"], &["acb"]),
            ("a**b", &["ab", "aab"], &["a"]),
            ("a**", &["a", "ab"], &[""]),
            ("save", &["save"], &["Save"]),
        ] {
            yes.iter().for_each(|text| check(pattern.as_bytes(), text.as_bytes(), true));
            no.iter().for_each(|text| check(pattern.as_bytes(), text.as_bytes(), false));
        }
        check(b"[a-\xff]", b"\xff", true);
        check(b"[a-\xff]", b"A", true);
        check(b"[a-\xff]", b"b", false);
        check(b"[\x80-\xff]", b"\x90", true);
    }

    #[test]
    fn case_can_be_ignored() {
        assert!(matches_ignore_case(b"MAX[A-M]*", b"maxmemory"));
        assert!(!matches(b"MAX*", b"maxmemory"));
        assert!(matches_ignore_case(b"\\M", b"m"));
        assert!(!matches_ignore_case(b"[\\M]", b"m"));
        assert!(!matches_ignore_case(b"[Z-a]", b"z"));
    }

    #[test]
    fn many_stars_take_bounded_time() {
        let text = vec![b'a'; 20_000];
        assert!(!matches(&[&b"a*".repeat(1000)[..], b"b"].concat(), &text));
        assert!(!matches(&b"*a".repeat(2_000), &text[..1_999]));
    }

    /// Checked against redis-server 7.0.15: KEYS with 1,000 stars and one at the end finds the key, with one more it does not.
    #[test]
    fn more_stars_than_redis_takes_match_nothing() {
        let text = vec![b'a'; 5000];
        for (stars, end, expected) in
            [(1000, "a", true), (1000, "*", true), (1001, "a", false), (1001, "", false)]
        {
            check(&[&b"*?".repeat(stars)[..], end.as_bytes()].concat(), &text, expected);
        }
        check(&[&b"*".repeat(5000)[..], b"b"].concat(), b"ab", true);
    }
}
