//! Redis's patterns: `*`, `?`, `[abc]`, `[a-z]`, `[^a]`, and `\` before a byte that stands for itself.

/// True if `pattern` matches the whole of `text`, byte by byte.
///
/// Takes time proportional to the product of both lengths at most, however many stars there are.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern_rest, mut text_rest) = (pattern, text);
    // Behind the latest star: what follows it, and the text at which that is tried next.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', after @ ..] = pattern_rest {
            pattern_rest = after;
            retry = Some((after, text_rest));
            continue;
        }
        if let Some((&byte, text_after)) = text_rest.split_first() {
            if let Some(pattern_after) = match_one(pattern_rest, byte) {
                (pattern_rest, text_rest) = (pattern_after, text_after);
                continue;
            }
        } else if pattern_rest.is_empty() {
            return true;
        }
        let Some((after_star, [_, tried_next @ ..])) = retry else { return false };
        (pattern_rest, text_rest) = (after_star, tried_next);
        retry = Some((after_star, tried_next));
    }
}

/// What follows the first element of `pattern` if that matches `byte`.
fn match_one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', after @ ..] => Some(after),
        [b'[', class @ ..] => match_class(class, byte),
        [b'\\', literal, after @ ..] | [literal, after @ ..] => (*literal == byte).then_some(after),
    }
}

/// A class that is not closed ends with the pattern.
fn match_class(class: &[u8], byte: u8) -> Option<&[u8]> {
    let (negated, mut rest) = match class {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    loop {
        rest = match rest {
            [] => break,
            [b']', after @ ..] => {
                rest = after;
                break;
            }
            [b'\\', literal, after @ ..] => {
                found |= *literal == byte;
                after
            }
            [from, b'-', to, after @ ..] => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                after
            }
            [literal, after @ ..] => {
                found |= *literal == byte;
                after
            }
        };
    }
    (found != negated).then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        fn check(pattern: &str, text: &str, expected: bool) {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern:?} {text:?}");
        }
        check("", "", true);
        check("", "a", false);
        check("*", "", true);
        check("***", "abc", true);
        check("a*c", "abbc", true);
        check("a*c", "abbd", false);
        check("*ab*ab", "abxababab", true);
        check("h?llo", "hello", true);
        check("h?llo", "hllo", false);
        check("h[ae]llo", "hallo", true);
        check("h[^e]llo", "hello", false);
        check("h[a-c]llo", "hbllo", true);
        check("h[c-a]llo", "hbllo", true);
        check("h[\\]]llo", "h]llo", true);
        check("a\\*b", "a*b", true);
        check("a\\*b", "axb", false);
        check("a\\", "a\\", true);
        check("[abc", "c", true);
        check("save", "Save", false);
    }

    proptest! {
        #[test]
        fn a_literal_matches_itself_and_with_stars(text in "[a-z]{0,20}", at in 0_usize..20) {
            let at = at.min(text.len());
            let starred = format!("{}*{}", &text[..at], &text[at..]);
            prop_assert!(matches(text.as_bytes(), text.as_bytes()));
            prop_assert!(matches(starred.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn no_pattern_makes_the_matcher_panic(pattern: Vec<u8>, text: Vec<u8>) {
            let _ = matches(&pattern, &text);
        }
    }

    #[test]
    fn many_stars_end_in_time() {
        let pattern = "*a".repeat(2_000);
        assert!(!matches(pattern.as_bytes(), "a".repeat(1_999).as_bytes()));
    }
}
