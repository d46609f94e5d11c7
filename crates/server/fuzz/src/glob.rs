//! Glob patterns against a transcription of Redis's recursive matcher.
//!
//! Checked: every answer is that of `util.c`, `stringmatchlen`, of Redis 7.0.15. libFuzzer's time limit for an input
//! catches a blow-up.

use holdfast_server::glob::{matches, matches_ignore_case};

use crate::Target;

/// See the module.
pub const TARGET: Target = Target {
    name: "glob",
    run,
    len_max: 1024,
    words: &[
        "*", "**", "?", "[", "]", "[^", "[a-z]", "[z-a]", "-", "\\", "a*", "[^]", "\\]", "[\\]", "[a-", "a",
        "A", "b",
    ],
};

/// The pattern is what stands before the first line feed, the text what stands behind it.
fn run(data: &[u8]) {
    let Some(at) = data.iter().position(|&byte| byte == b'\n') else { return };
    let (pattern, text) = (&data[..at], &data[at + 1..]);
    for (ignore_case, answer) in [(false, matches(pattern, text)), (true, matches_ignore_case(pattern, text))]
    {
        let expected = pattern == b"*" || match_slowly(pattern, text, ignore_case, &mut false);
        assert_eq!(
            answer,
            expected,
            "{} on {}, ignoring case: {ignore_case}",
            pattern.escape_ascii(),
            text.escape_ascii()
        );
    }
}

/// `stringmatchlen_impl`, without its limit of nesting. Callers of Redis take `*` for everything without asking it.
fn match_slowly(pattern: &[u8], text: &[u8], nocase: bool, skip_longer: &mut bool) -> bool {
    let at = |index: usize| pattern.get(index).copied().unwrap_or(0);
    let lower = |byte: u8| if nocase { byte.to_ascii_lowercase() } else { byte };
    let (mut p, mut t) = (0, 0);
    while p < pattern.len() && t < text.len() {
        match pattern[p] {
            b'*' => {
                while at(p + 1) == b'*' {
                    p += 1;
                }
                if p + 1 == pattern.len() {
                    return true;
                }
                while t < text.len() {
                    if match_slowly(&pattern[p + 1..], &text[t..], nocase, skip_longer) {
                        return true;
                    }
                    if *skip_longer {
                        return false;
                    }
                    t += 1;
                }
                *skip_longer = true;
                return false;
            }
            b'?' => t += 1,
            b'[' => {
                p += 1;
                let negated = at(p) == b'^' && p < pattern.len();
                p += usize::from(negated);
                let mut found = false;
                loop {
                    let left = pattern.len() - p;
                    if left >= 2 && at(p) == b'\\' {
                        p += 1;
                        found |= at(p) == text[t];
                    } else if left > 0 && at(p) == b']' {
                        break;
                    } else if left == 0 {
                        p -= 1;
                        break;
                    } else if left >= 3 && at(p + 1) == b'-' {
                        let signed = |byte: u8| i32::from(byte.cast_signed());
                        let (mut start, mut end) = (signed(at(p)), signed(at(p + 2)));
                        if start > end {
                            (start, end) = (end, start);
                        }
                        let fold = |it: i32| {
                            let upper = nocase && (i32::from(b'A')..=i32::from(b'Z')).contains(&it);
                            if upper { it + 32 } else { it }
                        };
                        p += 2;
                        found |= (fold(start)..=fold(end)).contains(&fold(signed(text[t])));
                    } else {
                        found |= lower(at(p)) == lower(text[t]);
                    }
                    p += 1;
                }
                if found == negated {
                    return false;
                }
                t += 1;
            }
            byte => {
                if byte == b'\\' && pattern.len() - p >= 2 {
                    p += 1;
                }
                if lower(at(p)) != lower(text[t]) {
                    return false;
                }
                t += 1;
            }
        }
        p += 1;
        if t == text.len() {
            while at(p) == b'*' {
                p += 1;
            }
            break;
        }
    }
    p >= pattern.len() && t == text.len()
}
