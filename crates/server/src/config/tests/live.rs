//! `CONFIG GET` and `CONFIG SET`.

use proptest::prelude::{any, prop, proptest};

use super::*;
use crate::persistence::directives::PersistDirective;

#[test]
fn config_get_takes_patterns_in_any_case() {
    fn check(patterns: &[&[u8]], expected: &[&str]) {
        let found = config_get(&Config::default(), patterns);
        assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), expected);
    }
    check(&[b"port"], &["port"]);
    check(&[b"APPEND*"], &["appendonly", "appendfsync", "appendfilename", "appenddirname"]);
    check(&[b"port", b"p?rt", b"hz"], &["port", "hz"]);
    check(&[b"persist-on-warning-max-delay"], &["persist-on-warning-max-delay"]);
    check(&[b"notify-*"], &["notify-keyspace-events"]);
    check(&[b"POrt", b"H?"], &["POrt", "hz"]);
    check(&[b"hash-max-ziplist-value"], &["hash-max-ziplist-value"]);
    check(&[b"no-such"], &[]);
    check(&[b"*key-*delay"], &[]);
    check(&[b"Key-Load-Delay"], &["Key-Load-Delay"]);
    check(&[b"slaveof"], &["slaveof"]);
    check(
        &[b"MIN-slaves-to-write", b"min-replicas-to-write"],
        &["MIN-slaves-to-write", "min-replicas-to-write"],
    );
    check(&[b"*-to-write"], &["min-slaves-to-write", "min-replicas-to-write"]);
    let all = config_get(&Config::default(), &[b"persist-*"]);
    assert_eq!(all.len(), PersistDirective::all().len() + 1, "the grid, the ladder and the strategy");
}

#[test]
fn what_is_slow_is_configured_as_in_redis() {
    let check = |name: &str, value: &str, expected: Result<&str, &str>| {
        let mut config = Config::default();
        let result = config_set(&mut config, &[(name.as_bytes(), value.as_bytes())]);
        let (_, shown) = config_get(&config, &[name.as_bytes()]).remove(0);
        match expected {
            Ok(expected) => assert_eq!((result.is_ok(), shown), (true, expected.into()), "{name} {value}"),
            Err(reason) => {
                let text =
                    format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}");
                assert_eq!(result, Err(text), "{name} {value}");
            }
        }
    };
    check("slowlog-log-slower-than", "-1", Ok("-1"));
    let range = "argument must be between -1 and 9223372036854775807 inclusive";
    check("slowlog-log-slower-than", "-2", Err(range));
    check("slowlog-log-slower-than", "x", Err("argument couldn't be parsed into an integer"));
    check("slowlog-max-len", "0", Ok("0"));
    check("latency-monitor-threshold", "100", Ok("100"));
    check("latency-tracking", "no", Ok("no"));
    let percentiles = "latency-tracking-info-percentiles";
    check(percentiles, "0.0 50.0 99.90", Ok("0 50 99.9"));
    check(percentiles, "", Ok(""));
    check(percentiles, "50 a", Err("Invalid latency-tracking-info-percentiles parameters"));
    check(
        percentiles,
        "NaN",
        Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"),
    );
    check(
        percentiles,
        "101",
        Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"),
    );
    let config = Config::default();
    assert_eq!(config_get(&config, &[percentiles.as_bytes()])[0].1, b"50 99 99.9");
}

#[test]
fn config_set_changes_all_or_nothing() {
    fn check(pairs: &[(&str, &str)], expected: Result<&[&str], &str>) {
        let mut config = Config::default();
        let bytes: Vec<_> = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let result = config_set(&mut config, &bytes);
        let found = result.as_ref().map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(found.as_deref().map_err(|error| error.as_str()), expected, "{pairs:?}");
        if result.is_err() {
            assert_eq!(config, Config::default(), "{pairs:?}");
        }
    }
    check(&[("maxmemory", "1gb"), ("HZ", "20")], Ok(&["maxmemory", "hz"]));
    check(&[("hz", "10")], Ok(&[]));
    check(&[("save", "60 1 300 5")], Ok(&["save"]));
    check(&[("save", "")], Ok(&["save"]));
    check(&[("appendfsync", "always")], Ok(&["persist-strategy", "appendfsync"]));
    check(&[("persist-strategy", "no")], Ok(&["persist-strategy", "appendfsync"]));
    check(&[("appendonly", "yes")], Ok(&[]));
    check(&[("persist-after-exec", "yes")], Ok(&["persist-after-exec"]));
    check(&[("shutdown-on-sigterm", "nosave now")], Ok(&["shutdown-on-sigterm"]));
    check(&[("cluster-enabled", "no")], Ok(&[]));
    check(&[("min-slaves-to-write", "0")], Ok(&[]));
    check(
        &[("hz", "20"), ("foo", "bar")],
        Err("ERR Unknown option or number of arguments for CONFIG SET - 'foo'"),
    );
    let failed = |name: &str, reason: &str| {
        format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")
    };
    check(
        &[("hz", "20"), ("port", "9181")],
        Err("ERR CONFIG SET failed - port and control-port are both 9181: choose different ports"),
    );
    check(
        &[("hz", "20"), ("timeout", "x")],
        Err(&failed("timeout", "argument couldn't be parsed into an integer")),
    );
    check(&[("hz", "20"), ("hz", "30")], Err(&failed("hz", "duplicate parameter")));
    check(&[("port", "6379"), ("bind", "* -::*")], Ok(&[]));
    check(&[("daemonize", "no")], Ok(&[]));
    let daemon = "can't set immutable config: daemonize has no effect, the server runs in the foreground: run it under a \
                  supervisor such as systemd (Type=exec)";
    check(&[("daemonize", "yes")], Err(&failed("daemonize", daemon)));
    check(&[("port", "7000"), ("bind", "127.0.0.1")], Ok(&["bind", "port"]));
    check(&[("port", "0"), ("bind", "")], Ok(&["bind", "port"]));
    check(&[("unixsocket", ""), ("unixsocketperm", "0")], Ok(&[]));
    check(&[("unixsocket", "/s")], Err(&failed("unixsocket", "can't set immutable config")));
    check(&[("unixsocketperm", "700")], Err(&failed("unixsocketperm", "can't set immutable config")));
    check(&[("bind", "999.0.0.1")], Err(&failed("bind", "Failed to bind to specified addresses.")));
    check(&[("tcp-backlog", "7000")], Err(&failed("tcp-backlog", "can't set immutable config")));
    check(&[("dir", "/tmp")], Err(&failed("dir", "can't set protected config")));
    check(&[("dbfilename", "other.rdb")], Err(&failed("dbfilename", "can't set protected config")));
    check(
        &[("requirepass-file", "/etc/shadow")],
        Err(&failed("requirepass-file", "can't set immutable config")),
    );
    check(&[("protected-mode", "maybe")], Err(&failed("protected-mode", "argument must be 'yes' or 'no'")));
    check(&[("maxmemory", "x")], Err(&failed("maxmemory", "argument must be a memory value")));
    check(&[("hz", "20"), ("appendonly", "no")], Ok(&["persist-strategy", "appendonly", "hz"]));
    check(&[("persist-strategy", "never")], Ok(&["persist-strategy", "appendonly"]));
    let restart = "persistence cannot be switched on or off while the server runs: change the configuration and restart";
    check(&[("persistent", "no")], Err(&failed("persistent", restart)));
    check(&[("appendonly", "no"), ("persistent", "no")], Err(&failed("appendonly", restart)));
    check(&[("sanitize-dump-payload", "clients"), ("aof-use-rdb-preamble", "no")], Ok(&[]));
    check(
        &[("sanitize-dump-payload", "maybe")],
        Err(&failed("sanitize-dump-payload", "argument(s) must be one of the following: no, yes, clients")),
    );
    check(&[("rdb-key-save-delay", "200")], Ok(&["rdb-key-save-delay"]));
    check(
        &[("stream-node-max-entries", "12")],
        Err(&failed(
            "stream-node-max-entries",
            "stream-node-max-entries has no effect, the type does not exist in this version",
        )),
    );
    check(
        &[("list-compress-depth", "x")],
        Err(&failed("list-compress-depth", "argument couldn't be parsed into an integer")),
    );
    check(
        &[("list-compress-depth", "-1")],
        Err(&failed("list-compress-depth", "argument must be between 0 and 2147483647 inclusive")),
    );
    let mut config = Config::default();
    assert!(config_set(&mut config, &[(b"persist-strategy", b"always"), (b"appendfsync", b"no")]).is_err());
    assert_eq!(config_set(&mut config, &[(b"requirepass", b"\xff")]), Ok(vec!["requirepass".to_owned()]));
    assert_eq!(config.requirepass.reveal(), b"\xff");
    assert!(config_set(&mut config, &[(b"save", b"\xff")]).is_err());
}

#[test]
fn a_log_cannot_be_switched_on_where_nothing_is_persisted() {
    let mut config = Config { persistent: false, log: false, ..Config::default() };
    let refused = config_set(&mut config, &[(b"hz", b"20"), (b"appendonly", b"yes")]).unwrap_err();
    assert!(refused.contains("'appendonly'") && refused.contains("persistent is no"), "{refused}");
    assert_eq!((config.log, config.hz), (false, Config::default().hz));
}

#[test]
fn a_depth_of_compression_is_accepted_and_lists_stay_as_they_are() {
    let mut config = Config::default();
    assert_eq!(config_set(&mut config, &[(b"list-compress-depth", b"2")]), Ok(Vec::new()));
    let shown = config_get(&config, &[b"list-compress-depth"]);
    assert_eq!(shown, [("list-compress-depth".to_owned(), b"0".to_vec())]);
}

/// A program that sets again what CONFIG GET shows must not switch the password off.
#[test]
fn an_empty_password_does_not_replace_the_password_file() {
    let file = Some(PathBuf::from("/run/secret"));
    let mut config = Config { requirepass_file: file.clone(), ..Config::default() };
    let refused = config_set(&mut config, &[(b"hz", b"20"), (b"requirepass", b"")]).unwrap_err();
    assert!(refused.contains("'requirepass'") && refused.contains("requirepass-file"), "{refused}");
    assert_eq!((config.requirepass_file.clone(), config.hz), (file, Config::default().hz));
    assert!(config_set(&mut config, &[(b"requirepass", b"another")]).is_ok());
    assert_eq!((config.requirepass.reveal(), config.requirepass_file.clone()), (b"another".as_slice(), None));
    assert!(config_set(&mut config, &[(b"requirepass", b"")]).is_ok());
}

#[test]
fn every_live_value_can_be_set_again() {
    let mut config = Config::default();
    for directive in table::all().iter().filter(|directive| directive.live) {
        let current = directive.get(&config);
        let result = config_set(&mut config, &[(directive.name.as_bytes(), &current)]);
        assert_eq!(result, Ok(Vec::new()), "{}", directive.name);
    }
}

proptest! {
    #[test]
    fn no_command_makes_config_set_panic(pairs in prop::collection::vec((prop::sample::select(table::all().iter().map(|directive| directive.name.to_string()).collect::<Vec<_>>()), any::<Vec<u8>>()), 0..3)) {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_slice())).collect();
        drop(config_set(&mut Config::default(), &pairs));
    }
}
