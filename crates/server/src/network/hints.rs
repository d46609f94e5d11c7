//! Keys in bytes that were received and not decoded yet: hints for the cache, never for decisions.

/// Which arguments of a request are keys: every how many from the first on; none: only the first.
fn key_step(name: &[u8]) -> Option<usize> {
    let is = |word: &[u8]| name.eq_ignore_ascii_case(word);
    match name.len() {
        3 if is(b"del") => Some(1),
        4 if is(b"mget") => Some(1),
        4 if is(b"mset") => Some(2),
        6 if is(b"unlink") || is(b"exists") => Some(1),
        _ => None,
    }
}

/// Calls `found` with the keys of each request that stands whole at the front of `bytes`: the first argument behind the
/// name, and others of the commands that have many.
///
/// What is not an array of bulk strings in its plainest form ends the search; nothing depends on what is found.
pub(crate) fn for_each_key<'a>(mut bytes: &'a [u8], mut found: impl FnMut(&'a [u8])) {
    while let Some((count, rest)) = header(bytes, b'*') {
        let mut rest = rest;
        let mut step = None;
        for index in 0..count {
            let Some((len, body)) = header(rest, b'$') else { return };
            let Some((argument, behind)) = body.split_at_checked(len) else { return };
            if index == 0 {
                step = key_step(argument);
            } else if index == 1 || step.is_some_and(|step| (index - 1).is_multiple_of(step)) {
                found(argument);
            }
            let Some(behind) = behind.get(2..) else { return };
            rest = behind;
        }
        bytes = rest;
    }
}

/// The number of a line such as `*3\r\n` at the front of `bytes`, and what follows it.
fn header(bytes: &[u8], marker: u8) -> Option<(usize, &[u8])> {
    match bytes {
        [first, a @ b'0'..=b'9', b'\r', b'\n', rest @ ..] if *first == marker => {
            Some((usize::from(a - b'0'), rest))
        }
        [first, a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', b'\n', rest @ ..] if *first == marker => {
            Some((usize::from(a - b'0') * 10 + usize::from(b - b'0'), rest))
        }
        [first, a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b'\r', b'\n', rest @ ..]
            if *first == marker =>
        {
            let number = usize::from(a - b'0') * 100 + usize::from(b - b'0') * 10 + usize::from(c - b'0');
            Some((number, rest))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &str, expected: &[&str]) {
        let mut keys = Vec::new();
        for_each_key(bytes.as_bytes(), |key| keys.push(String::from_utf8_lossy(key).into_owned()));
        assert_eq!(keys, expected, "{bytes:?}");
    }

    #[test]
    fn keys_of_whole_requests_are_found() {
        check(
            "*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$12\r\nabcdefghijkl\r\n",
            &["a", "abcdefghijkl"],
        );
        check("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n*2\r\n$3\r\nGE", &["a"]);
        check("*5\r\n$4\r\nmset\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n", &["a", "b"]);
        check("*3\r\n$6\r\nUNLINK\r\n$1\r\na\r\n$1\r\nb\r\n", &["a", "b"]);
    }

    #[test]
    fn nothing_is_made_of_what_is_malformed_or_cut() {
        for bytes in [
            "",
            "*",
            "*1",
            "*2\r\n",
            "*2\r\n$3\r\nGET\r\n$9\r\na",
            "GET a\r\n",
            "*2\r\n$-1\r\n",
            "*0\r\n*0\r\n",
            "*2\r\n$3\r\nGET\r\n$999\r\n",
        ] {
            check(bytes, &[]);
        }
    }
}
