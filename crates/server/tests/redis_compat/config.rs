//! `CONFIG SET` refuses in the words of Redis, and `CONFIG GET` shows values in its form.

use holdfast_server::config::{Config, config_get, config_set};

use crate::peer::{Redis, Reply};

/// Our reply to `CONFIG SET name value …`.
fn ours(config: &mut Config, words: &[&str]) -> String {
    let (pairs, _) = words.as_chunks::<2>();
    let pairs: Vec<_> = pairs.iter().map(|[name, value]| (name.as_bytes(), value.as_bytes())).collect();
    config_set(config, &pairs).map_or_else(|error| error, |_| "OK".to_owned())
}

fn theirs(redis: &mut Redis, words: &[&str]) -> String {
    let mut request: Vec<&[u8]> = vec![b"CONFIG", b"SET"];
    request.extend(words.iter().map(|word| word.as_bytes()));
    match redis.send(&request) {
        Reply::Error(error) => error,
        Reply::Status => "OK".to_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn replies_are_those_of_redis() {
    let dir = tempfile::tempdir().unwrap();
    let mut redis = Redis::start(dir.path(), &["--appendonly", "yes"]);
    let mut config = Config::default();
    for words in [
        &["hz", "20"][..],
        &["HZ", "20"],
        &["hz", "20", "hz", "30"],
        &["hz", "20", "HZ", "30"],
        &["MaxMemory", "x"],
        &["TCP-Backlog", "5"],
        &["no-such", "1"],
        &["no-such", "1", "hz", "x"],
        &["No-Such", "1"],
        &["hz", "x"],
        &["hz", ""],
        &["hz", "1x"],
        &["timeout", "-1"],
        &["timeout", "99999999999"],
        &["timeout", "99999999999999999999999"],
        &["timeout", "007"],
        &["maxclients", "0"],
        &["tcp-keepalive", "abc"],
        &["tcp-backlog", "5"],
        &["databases", "5"],
        &["appendfilename", "x"],
        &["protected-mode", "maybe"],
        &["protected-mode", "YES"],
        &["appendonly", "maybe"],
        &["appendfsync", "sometimes"],
        &["appendfsync", "ALWAYS"],
        &["loglevel", "loud"],
        &["maxmemory", "x"],
        &["maxmemory", "-1"],
        &["maxmemory", "1tb"],
        &["maxmemory", "1GB"],
        &["maxmemory", "100"],
        &["proto-max-bulk-len", "1mb"],
        &["auto-aof-rewrite-min-size", "16mb"],
        &["auto-aof-rewrite-percentage", "-1"],
        &["maxmemory-policy", "nothing"],
        &["maxmemory-policy", "noeviction"],
        &["save", "60"],
        &["save", "x 1"],
        &["save", "0 1"],
        &["save", "60 1 x"],
        &["save", "60 1 300 10"],
        &["save", "60 0"],
        &["save", ""],
        &["shutdown-timeout", "x"],
        &["shutdown-on-sigterm", "later"],
        &["shutdown-on-sigterm", "save nosave"],
        &["shutdown-on-sigterm", "now NOSAVE"],
        &["shutdown-on-sigint", "default force"],
        &["requirepass", "two words \"quoted\""],
        &["requirepass", ""],
        &["rdbcompression", "no", "stop-writes-on-bgsave-error", "no"],
    ] {
        let expected = theirs(&mut redis, words);
        assert_eq!(ours(&mut config, words), expected, "{words:?}");
        // What was changed reads the same.
        let (pairs, _) = words.as_chunks::<2>();
        for [name, _] in pairs.iter().filter(|_| expected == "OK") {
            let shown = config_get(&config, &[name.as_bytes()]);
            let shown: Vec<_> = shown
                .into_iter()
                .flat_map(|(name, value)| [name, String::from_utf8(value).unwrap()])
                .collect();
            assert_eq!(shown, redis.command(&[b"CONFIG", b"GET", name.as_bytes()]).strings(), "{words:?}");
        }
    }
}

#[test]
fn defaults_are_those_of_redis() {
    /// What differs on purpose, with the reason.
    const DIFFERENT: &[(&str, &str)] = &[
        ("dir", "Redis shows the absolute path"),
        ("save", "the peer is started without rules"),
        ("port", "the peer is started without a port"),
        ("pidfile", "a process id file is written only where one was asked for"),
        ("unixsocket", "the peer is reached by it"),
    ];
    let dir = tempfile::tempdir().unwrap();
    // The log is on by default here.
    let mut redis = Redis::start(dir.path(), &["--appendonly", "yes"]);
    let mut compared = 0;
    for (name, value) in config_get(&Config::default(), &[b"*"]) {
        let theirs = redis.command(&[b"CONFIG", b"GET", name.as_bytes()]).strings();
        if let [_, theirs] = &theirs[..]
            && !DIFFERENT.iter().any(|(different, _)| *different == name)
        {
            assert_eq!(value, theirs.as_bytes(), "{name}");
            compared += 1;
        }
    }
    assert!(compared > 40, "only {compared} directives are known to both");
}
