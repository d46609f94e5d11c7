//! `CONFIG SET` refuses in the words of Redis, and `CONFIG GET` shows values in its form.

use std::path::Path;

use holdfast_server::config::{Config, Problem, SourceName, check, config_get, config_set};

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
        &["port", "65536"],
        &["port", "-1"],
        &["port", "0"],
        &["bind", ""],
        &["bind", "127.0.0.1 -::1"],
        &["unixsocket", "x"],
        &["unixsocketperm", "700"],
        &["UnixSocketPerm", "x"],
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
        &["maxmemory-policy", "AllKeys-LRU"],
        &["maxmemory-policy", "volatile-ttl", "maxmemory-samples", "10"],
        &["maxmemory-samples", "0"],
        &["maxmemory-eviction-tenacity", "101"],
        &["lfu-log-factor", "-1"],
        &["lfu-decay-time", "0", "lfu-log-factor", "0"],
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
        ("tcp-keepalive", "a client that has gone is noticed within two minutes"),
        ("maxmemory-clients", "all clients together have a limit"),
        ("io-threads", "half as many as there are processors, instead of none"),
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

/// Loads a text over the defaults, as `POST /v1/config/check` would.
fn checked(text: &[u8]) -> Result<Config, Vec<Problem>> {
    let nothing = &mut |_: &Path| vec![Err(std::io::Error::other("nothing is included"))];
    check(&SourceName::File("redis.conf".into()), text, &Config::default(), nothing)
}

/// Each directive that Redis has, old names included, with the value that it has there.
#[test]
fn every_directive_of_redis_is_taken() {
    /// What is refused on purpose, with the reason.
    const REFUSED: &[(&str, &str)] = &[
        ("replicaof", "an empty value is what Redis reports, not what one writes"),
        ("slaveof", "the same"),
    ];
    /// Taken in a file, and reported by no `CONFIG GET *`.
    const ONLY_IN_FILES: &[&str] = &[
        "list-max-ziplist-entries 512",
        "list-max-ziplist-value 64",
        "lua-replicate-commands yes",
        "use-exit-on-panic no",
        "lua-enable-deprecated-api no",
        "rdb-key-save-delay 0",
        "key-load-delay 0",
        "watchdog-period 0",
        "loading-process-events-interval-bytes 2097152",
        "replicaof no one",
        "slaveof no one",
        "client-output-buffer-limit slave 256mb 64mb 60",
        "client-output-buffer-limit replica 256mb 64mb 60",
    ];
    let dir = tempfile::tempdir().unwrap();
    let mut redis = Redis::start(dir.path(), &[]);
    let all = redis.command(&[b"CONFIG", b"GET", b"*"]).strings();
    let (pairs, _) = all.as_chunks::<2>();
    assert!(pairs.len() > 180, "only {} directives", pairs.len());
    let lines: Vec<String> = pairs
        .iter()
        .map(|[name, value]| format!("{name} {}", if value.is_empty() { "\"\"" } else { value }))
        .chain(ONLY_IN_FILES.iter().map(ToString::to_string))
        .collect();
    let refused: Vec<_> = lines
        .iter()
        .filter_map(|line| Some((line, checked(line.as_bytes()).err()?)))
        .filter(|(line, _)| !REFUSED.iter().any(|(name, _)| line.split(' ').next() == Some(name)))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
}

/// The file of Debian's package, with its comments, and with one that is not UTF-8.
#[test]
fn the_file_of_the_package_is_taken_whole() {
    const PATH: &str = "/etc/redis/redis.conf";
    let mut file = match std::fs::read(PATH) {
        Ok(file) => file,
        // Only root and the group of Redis may read it; the same directives without comments are in a fixture.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            include_bytes!("../fixtures/debian-redis-7.0.conf").to_vec()
        }
        Err(error) => panic!("{PATH}: {error}; Debian's redis-server brings it (`make setup` installs it)"),
    };
    file.splice(0..0, b"# f\xfcr M\xfcller\r\n".iter().copied());
    let config = checked(&file).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!((config.port, config.databases), (6379, 16));
}

/// `CONFIG GET` answers to an old name, to the new one, and to a pattern that matches both.
#[test]
fn old_names_are_answered_as_by_redis() {
    let dir = tempfile::tempdir().unwrap();
    let mut redis = Redis::start(dir.path(), &[]);
    for patterns in [
        &["slaveof"][..],
        &["replicaof"],
        &["SlaveOf"],
        &["*slaveof", "replica?f"],
        &["min-slaves-to-write", "min-replicas-to-write"],
        &["min-*-to-write"],
    ] {
        let patterns: Vec<&[u8]> = patterns.iter().map(|pattern| pattern.as_bytes()).collect();
        let request: Vec<&[u8]> =
            [b"CONFIG".as_slice(), b"GET"].into_iter().chain(patterns.iter().copied()).collect();
        let mut theirs: Vec<_> = redis.command(&request).strings().as_chunks::<2>().0.to_vec();
        let ours = config_get(&Config::default(), &patterns);
        let mut ours: Vec<_> =
            ours.into_iter().map(|(name, value)| [name, String::from_utf8(value).unwrap()]).collect();
        theirs.sort();
        ours.sort();
        assert_eq!(ours, theirs);
    }
}
