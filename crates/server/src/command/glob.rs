//! Glob patterns as KEYS, SCAN and CONFIG GET know them: `*`, `?`, `[…]` with ranges and `^`, `\`.

/// Stars in a row count as one. Redis 7.0 takes a pattern with more of them for an attack, and for one that matches
/// nothing; one more at the end is still taken. Source: `stringmatchlen_impl`.
const STARS_MAX: usize = 1000;

/// Whether `text` matches `pattern`, byte by byte.
///
/// Takes at most the product of both lengths. Beyond 1,000 stars nothing matches, as in Redis. An unclosed `[` extends to the end of the pattern; a `\` at the end stands
/// for itself.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    run(pattern, text, false)
}

/// As [`matches`], without regard to ASCII case.
pub fn matches_ignore_case(pattern: &[u8], text: &[u8]) -> bool {
    run(pattern, text, true)
}

fn run(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when the rest does not match: behind the last `*`, which then takes one byte more.
    let mut retry: Option<(usize, usize)> = None;
    let mut stars = 0;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += pattern[p..].iter().take_while(|&&byte| byte == b'*').count();
            if p == pattern.len() {
                return true;
            }
            stars += 1;
            if stars > STARS_MAX {
                return false;
            }
            retry = Some((p, t));
            continue;
        }
        if t == text.len() && p == pattern.len() {
            return true;
        }
        if t < text.len()
            && let Some(len) = match_one(&pattern[p..], text[t], ignore_case)
        {
            p += len;
            t += 1;
            continue;
        }
        match retry {
            Some((after_star, from)) if from < text.len() => {
                retry = Some((after_star, from + 1));
                (p, t) = (after_star, from + 1);
            }
            _ => return false,
        }
    }
}

/// Matches one byte against the front of `pattern`; gives the length of what matched it.
fn match_one(pattern: &[u8], byte: u8, ignore_case: bool) -> Option<usize> {
    let fold = |byte: u8| if ignore_case { byte.to_ascii_lowercase() } else { byte };
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', class @ ..] => {
            let (len, matched) = match_class(class, byte, &fold);
            matched.then_some(1 + len)
        }
        [b'\\', escaped, ..] => (fold(*escaped) == fold(byte)).then_some(2),
        [plain, ..] => (fold(*plain) == fold(byte)).then_some(1),
    }
}

/// Reads a class behind its `[`; gives its length with the `]`, and whether the byte is in it.
fn match_class(class: &[u8], byte: u8, fold: &impl Fn(u8) -> u8) -> (usize, bool) {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut matched = false;
    let byte = fold(byte);
    loop {
        match &class[at..] {
            [] => break,
            [b'\\', escaped, ..] => {
                matched |= fold(*escaped) == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [a, b'-', b, ..] => {
                let (low, high) = (fold(*a.min(b)), fold(*a.max(b)));
                matched |= (low..=high).contains(&byte);
                at += 3;
            }
            [plain, ..] => {
                matched |= fold(*plain) == byte;
                at += 1;
            }
        }
    }
    (at, matched != negated)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern:?} on {text:?}");
    }

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, yes, no) in [
            ("*", &["", "a", "abc"][..], &[][..]),
            ("", &[""], &["a"]),
            ("a*c", &["ac", "abc", "abcc"], &["ab", "acb"]),
            ("h?llo", &["hello", "hallo"], &["hllo", "heello"]),
            ("h[ae]llo", &["hello", "hallo"], &["hillo", "hllo"]),
            ("h[^e]llo", &["hallo"], &["hello"]),
            ("h[a-c]llo", &["hallo", "hbllo"], &["hdllo"]),
            ("h[c-a]llo", &["hbllo"], &["hdllo"]),
            ("h\\*llo", &["h*llo"], &["hello"]),
            ("[\\]]", &["]"], &["\\"]),
            ("[]a]", &[], &["]", "a"]),
            ("[abc", &["a", "c"], &["d"]),
            ("a\\", &["a\\"], &["a"]),
            ("*a*b*c*", &["abc", "xaxbxcx"], &["acb"]),
            ("a**b", &["ab", "aab"], &["a"]),
        ] {
            yes.iter().for_each(|text| check(pattern, text, true));
            no.iter().for_each(|text| check(pattern, text, false));
        }
    }

    #[test]
    fn case_can_be_ignored() {
        assert!(matches_ignore_case(b"MAX[A-M]*", b"maxmemory"));
        assert!(!matches(b"MAX*", b"maxmemory"));
    }

    /// Checked against redis-server 7.0.15: KEYS with 1,000 stars and one at the end finds the key, with one more it does not.
    #[test]
    fn more_stars_than_redis_takes_match_nothing() {
        let text = "a".repeat(5000);
        for (stars, end, expected) in
            [(1000, "a", true), (1000, "*", true), (1001, "a", false), (1001, "", false)]
        {
            check(&format!("{}{end}", "*?".repeat(stars)), &text, expected);
        }
        check(&format!("{}b", "*".repeat(5000)), "ab", true);
    }

    #[test]
    fn many_stars_take_bounded_time() {
        let pattern = b"a*".repeat(1000);
        let text = vec![b'a'; 20_000];
        assert!(!matches(&[&pattern[..], b"b"].concat(), &text));
    }
}
