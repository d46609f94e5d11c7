//! Glob patterns match as `KEYS` of Redis matches them.

use std::collections::BTreeSet;

use holdfast_server::glob;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::peer::{Redis, Reply};

/// Texts over few letters, so that patterns match often; among them bytes that are no text, and the empty one.
fn texts() -> BTreeSet<Vec<u8>> {
    let alphabet = b"abAB[]-\\^*?\xff\x80\0";
    let mut texts: BTreeSet<Vec<u8>> = BTreeSet::from([Vec::new()]);
    for a in alphabet {
        texts.insert(vec![*a]);
        for b in alphabet {
            texts.insert(vec![*a, *b]);
            texts.insert(vec![*a, *b, b'a', *a]);
        }
    }
    texts
}

#[test]
fn patterns_match_the_keys_that_they_match_in_redis() {
    let dir = tempfile::tempdir().unwrap();
    let mut redis = Redis::start(dir.path(), &[]);
    let texts = texts();
    for text in &texts {
        redis.command(&[b"SET", text, b""]);
    }
    let piece = proptest::sample::select(vec![
        &b"a"[..],
        b"b",
        b"A",
        b"*",
        b"**",
        b"?",
        b"[",
        b"]",
        b"[^",
        b"-",
        b"\\",
        b"[a-b]",
        b"[b-a]",
        b"[^a]",
        b"[\\]",
        b"\xff",
        b"\x80",
        b"^",
    ]);
    let pattern = proptest::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat());
    let mut runner = TestRunner::new(Config { cases: 2_000, failure_persistence: None, ..Config::default() });
    let redis = std::cell::RefCell::new(redis);
    runner
        .run(&pattern, |pattern| {
            let Reply::Array(keys) = redis.borrow_mut().command(&[b"KEYS", &pattern]) else {
                panic!("KEYS answers with an array")
            };
            let expected: BTreeSet<Vec<u8>> = keys.into_iter().map(Reply::bytes).collect();
            let found = texts.iter().filter(|text| glob::matches(&pattern, text)).cloned().collect();
            prop_assert_eq!(expected, found, "{}", pattern.escape_ascii());
            Ok(())
        })
        .unwrap();
}
