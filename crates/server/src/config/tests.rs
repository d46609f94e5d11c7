mod live;
mod rewriting;

use super::*;
use crate::persistence::directives::Event;

const SEED: &str = include_str!("../../tests/fixtures/seed.conf");
const DEBIAN: &str = include_str!("../../tests/fixtures/debian-redis-7.0.conf");

/// Loads a file and arguments as a start does.
fn load_text(file: &str, arguments: &[&str]) -> Result<Config, ConfigError> {
    let arguments: Vec<_> =
        std::iter::once("/etc/t.conf").chain(arguments.iter().copied()).map(ToOwned::to_owned).collect();
    let Invocation::Start(arguments) = parse_arguments(&arguments)? else { panic!("{arguments:?}") };
    load_with(&arguments, |path| {
        assert_eq!(path, Some(Path::new("/etc/t.conf")));
        Ok(file.as_bytes().to_vec())
    })
}

fn values(config: &Config) -> Vec<(String, String)> {
    config_get(config, &[b"*"])
}

fn value(config: &Config, name: &str) -> String {
    let found = config_get(config, &[name.as_bytes()]);
    assert_eq!(found.len(), 1, "{name}");
    found[0].1.clone()
}

#[test]
fn nothing_given_is_a_durable_store_on_the_port_of_redis() {
    let config = load(&Arguments::default()).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.strategy(), Strategy::EverySecond);
    assert_eq!(value(&config, "save"), "3600 1 300 100 60 10000");
    assert_eq!(value(&config, "bind"), "* -::*");
    assert_eq!(value(&config, "auto-aof-rewrite-min-size"), "67108864");
    assert_eq!((config.port, config.health_port, config.control_port), (6379, 9180, 9181));
    assert_eq!(config.changed_from_default(), []);
}

#[test]
fn the_articles_file_loads_verbatim() {
    let config = load_text(SEED, &[]).unwrap();
    assert_eq!(config.strategy(), Strategy::EverySecond);
    let points = &config.persist.points;
    let after: Vec<_> = Event::ALL.into_iter().filter(|event| points.after(*event).is_some()).collect();
    assert_eq!(after, [Event::ReplicaLinkup, Event::SysCrash]);
    assert!(Event::ALL.into_iter().all(|event| points.before(event).is_none()));
    assert!(!config.persist.ladder.enabled);
    assert_eq!(
        config.notice_lines(),
        [
            "persist-after-replica-linkup: has no effect, the event cannot occur: there is no replication in this version"
        ]
    );
}

#[test]
fn the_file_of_debians_redis_loads() {
    let config = load_text(DEBIAN, &[]).unwrap();
    assert_eq!(config.strategy(), Strategy::Never);
    assert_eq!(config.dir, Path::new("/var/lib/redis"));
    let lines = config.notice_lines();
    assert_eq!(
        lines[0],
        "daemonize (line 8 of \"/etc/t.conf\"): has no effect, the server runs in the foreground: run it under a supervisor \
         such as systemd (Type=exec)"
    );
    let asking: Vec<_> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(asking, ["daemonize", "without"]);
    assert!(lines.last().unwrap().contains("hash-max-listpack-entries"));
}

#[test]
fn every_source_says_something_of_the_log_and_of_its_sync() {
    fn check(file: &str, arguments: &[&str], expected: Strategy) {
        let config = load_text(file, arguments).unwrap();
        assert_eq!(config.strategy(), expected, "{file:?} {arguments:?}");
    }
    use Strategy::{Always, Disabled, EverySecond, Never, NoSync};
    // One source.
    check("", &[], EverySecond);
    check("persist-strategy always", &[], Always);
    check("persist-strategy no", &[], NoSync);
    check("persist-strategy never", &[], Never);
    check("appendonly no", &[], Never);
    check("appendonly no\nappendfsync always", &[], Never);
    check("appendfsync always", &[], Always);
    check("appendonly yes\nappendfsync no", &[], NoSync);
    check("persist-strategy always\nappendonly yes\nappendfsync always", &[], Always);
    check("persist-strategy never\nappendonly no\nappendfsync everysec", &[], Never);
    check("persistent no\npersist-strategy always", &[], Disabled);
    // The last of a repeated directive counts, for contradictions as well.
    check("appendonly no\nappendonly yes", &[], EverySecond);
    check("persist-strategy never\nappendonly yes\npersist-strategy always", &[], Always);
    check("persist-strategy always\npersist-strategy never", &["--appendonly", "yes"], EverySecond);
    // A later source overrides what it says, and only that.
    check("appendonly yes", &["--appendfsync", "always"], Always);
    check("appendonly no", &["--appendfsync", "always"], Never);
    check("persist-strategy always", &["--appendonly", "no"], Never);
    check("persist-strategy always", &["--appendonly", "yes"], Always);
    check("persist-strategy always", &["--appendfsync", "no"], NoSync);
    check("persist-strategy never", &["--appendonly", "yes"], EverySecond);
    check("appendonly yes\nappendfsync always", &["--persist-strategy", "everysec"], EverySecond);
    check("appendonly yes\nappendfsync always", &["--persist-strategy", "never"], Never);
    check("appendonly no\nappendfsync always", &["--persist-strategy", "no"], NoSync);
    check("persistent no", &["--persist-strategy", "always"], Disabled);
    check("persistent no", &["--persistent", "yes"], EverySecond);
}

#[test]
fn contradictions_in_one_source_name_both_lines() {
    fn check(file: &str, arguments: &[&str], expected: &str) {
        let error = load_text(file, arguments).unwrap_err();
        assert!(matches!(error, ConfigError::Contradiction { .. }), "{error}");
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    check(
        "\n\npersist-strategy never\n\n\n\nappendonly yes",
        &[],
        "line 7 of \"/etc/t.conf\" (appendonly yes) contradicts line 3 of \"/etc/t.conf\" (persist-strategy never): ",
    );
    check(
        "appendonly no\npersist-strategy no",
        &[],
        "line 2 of \"/etc/t.conf\" (persist-strategy no) contradicts line 1",
    );
    check("appendfsync always\npersist-strategy everysec", &[], "line 2");
    check(
        "appendonly no",
        &["--persist-strategy", "always", "--port", "1", "--appendonly", "no"],
        "directive 3 of the arguments (appendonly no) contradicts directive 1 of the arguments (persist-strategy always)",
    );
    check(
        "requirepass hunter2\nrequirepass-file /run/secret",
        &[],
        "line 2 of \"/etc/t.conf\" (requirepass-file /run/secret) contradicts line 1 of \"/etc/t.conf\" (requirepass (hidden))",
    );
}

#[test]
fn contradictions_are_reported_with_both_lines() {
    let error = load_text("persist-strategy never\nport 1\nappendonly yes", &[]).unwrap_err();
    assert_eq!(
        error.report(),
        format!(
            "*** FATAL CONFIG FILE ERROR (Holdfast {}) ***\n\
             Reading the configuration file, at line 1\n>>> 'persist-strategy never'\n\
             Reading the configuration file, at line 3\n>>> 'appendonly yes'\n\
             the two contradict each other: persist-strategy never means no log, as appendonly no does, and every other \
             strategy means a log; keep one of the lines\n\
             line 1 of \"/etc/t.conf\", line 3 of \"/etc/t.conf\"",
            env!("CARGO_PKG_VERSION")
        )
    );
}

#[test]
fn snapshot_rules_accumulate_in_a_source_and_are_replaced_by_the_next() {
    fn check(file: &str, arguments: &[&str], expected: &str) {
        assert_eq!(value(&load_text(file, arguments).unwrap(), "save"), expected, "{file:?} {arguments:?}");
    }
    check("save 10 1\nsave 20 2 30 3", &[], "10 1 20 2 30 3");
    check("save 10 1\nsave \"\"\nsave 5 5", &[], "5 5");
    check("save 10 1", &["--save", "7", "7"], "7 7");
    check("save 10 1", &["--save", "", "--save", "7", "7"], "7 7");
    check("save 10 1", &["--save", ""], "");
    check("save 10 1", &["--save", "--port", "1"], "");
    check("save 10 1", &["--port", "1"], "10 1");
}

#[test]
fn a_later_source_replaces_the_password_in_either_form() {
    let config = load_text("requirepass a", &["--requirepass-file", "/b"]).unwrap();
    assert_eq!(
        (config.requirepass.reveal(), config.requirepass_file.as_deref()),
        ("", Some(Path::new("/b")))
    );
    let config = load_text("requirepass-file /b", &["--requirepass", "a"]).unwrap();
    assert_eq!((config.requirepass.reveal(), config.requirepass_file.as_deref()), ("a", None));
    let config = load_text("requirepass-file /b", &["--requirepass", ""]).unwrap();
    assert_eq!(config.read_password().unwrap(), None);
    let config = load_text("requirepass-file /no/such/file", &[]).unwrap();
    assert!(config.read_password().is_err());
}

#[test]
fn errors_name_the_line_and_what_is_allowed() {
    fn check(file: &str, arguments: &[&str], expected: &str) {
        let report = load_text(file, arguments).unwrap_err().report();
        let (title, body) = report.split_once('\n').unwrap();
        assert_eq!(
            title,
            format!("*** FATAL CONFIG FILE ERROR (Holdfast {}) ***", env!("CARGO_PKG_VERSION"))
        );
        assert_eq!(body, expected);
    }
    fn line(number: usize, text: &str, reason: &str, help: &str) -> String {
        format!(
            "Reading the configuration file, at line {number}\n>>> '{text}'\n{reason}\nline {number} of \"/etc/t.conf\": {help}"
        )
    }
    check(
        "# c\nport abc",
        &[],
        &line(
            2,
            "port abc",
            "argument couldn't be parsed into an integer",
            "port takes a number from 1 to 65535",
        ),
    );
    check(
        "port 0",
        &[],
        &line(
            1,
            "port 0",
            "argument must be between 1 and 65535 inclusive",
            "port takes a number from 1 to 65535",
        ),
    );
    check("port", &[], &line(1, "port", "wrong number of arguments", "port takes a number from 1 to 65535"));
    check(
        "port 1 2",
        &[],
        &line(1, "port 1 2", "wrong number of arguments", "port takes a number from 1 to 65535"),
    );
    check(
        "persist-after-fork",
        &[],
        &line(1, "persist-after-fork", "wrong number of arguments", "persist-after-fork takes yes or no"),
    );
    check(
        "persist-on-warning-max-count-reset-on-warning",
        &[],
        &line(
            1,
            "persist-on-warning-max-count-reset-on-warning",
            "wrong number of arguments",
            "persist-on-warning-max-count-reset-on-warning takes a number from 0 to 1000000000 (no = 0, yes = 1)",
        ),
    );
    let deep = format!("persist-on-warning-max-count{} 0", "-reset-on-warning".repeat(9));
    check(
        &deep,
        &[],
        &line(
            1,
            &deep,
            "Bad directive or wrong number of arguments",
            "the ladder of limits has at most 8 levels of -reset-on-warning",
        ),
    );
    check(
        "maxmemroy 1gb",
        &[],
        &line(
            1,
            "maxmemroy 1gb",
            "Bad directive or wrong number of arguments",
            "there is no directive \"maxmemroy\"; did you mean maxmemory?",
        ),
    );
    check(
        "frobnicate 1",
        &[],
        &line(
            1,
            "frobnicate 1",
            "Bad directive or wrong number of arguments",
            "there is no directive \"frobnicate\"",
        ),
    );
    check(
        "dir \"a",
        &[],
        &line(
            1,
            "dir \"a",
            "Unbalanced quotes in configuration line",
            r#"a value in quotes ends with the same quote; inside "…" write \" for a quote and \\ for a backslash"#,
        ),
    );
    check(
        "",
        &["--appendfsync", "sometimes"],
        "Reading the arguments, at directive 1\n>>> 'appendfsync sometimes'\n\
         argument(s) must be one of the following: everysec, always, no\n\
         directive 1 of the arguments: appendfsync takes one of everysec, always, no",
    );
    check("port 9180", &[], "port and health-port are both 9180: choose different ports");
}

#[test]
fn values_out_of_bounds_are_refused() {
    for text in [
        "bind localhost",
        "bind \"\"",
        "databases 0",
        "maxclients 0",
        "proto-max-bulk-len 1",
        "maxmemory 1tb",
        "maxmemory -1",
        "maxmemory 99999999999gb",
        "dbfilename a/b",
        "dbfilename ..",
        "appenddirname \"\"",
        "dir \"\"",
        "save 60",
        "save 0 1",
        "save x 1",
        "save 1 2 3",
        "timeout -1",
        "tcp-keepalive 007",
        "loglevel loud",
        "shutdown-on-sigterm save nosave",
        "warning-memory-percentage 101",
        "on-refusal wait",
        "persist-after-exec maybe",
        "persist-after-exec-delay 31536001",
        "maxmemory-policy allkeys-lru",
        "persistent",
    ] {
        let error = load_text(&format!("port 1\n{text}"), &[]).unwrap_err();
        assert!(
            matches!(&error, ConfigError::Directive { place, .. } if place.number == 2),
            "{text}: {error}"
        );
    }
}

#[test]
fn what_would_be_unsafe_to_ignore_is_refused() {
    for text in [
        "replicaof 127.0.0.1 6380",
        "slaveof 127.0.0.1 6380",
        "min-replicas-to-write 1",
        "cluster-enabled yes",
        "tls-port 6380",
        "aclfile /etc/users",
        "user alice on nopass ~* +@all",
        "loadmodule /x.so",
        "rename-command FLUSHALL \"\"",
        "include /etc/other.conf",
    ] {
        let error = load_text(text, &[]).unwrap_err().to_string();
        let name = text.split(' ').next().unwrap();
        assert!(error.contains(&format!("{name} is refused")), "{error}");
        assert!(!error.contains("nopass"), "{error}");
    }
    for text in
        ["replicaof no one", "cluster-enabled no", "tls-port 0", "min-replicas-to-write 0", "aclfile \"\""]
    {
        assert_eq!(load_text(text, &[]).unwrap().notice_lines(), [""; 0], "{text}");
    }
}

#[test]
fn a_port_open_to_everybody_is_noticed() {
    let lines = |text| load_text(text, &[]).unwrap().notice_lines();
    assert!(lines("protected-mode no")[0].starts_with("protected-mode: is off and there is no password"));
    assert_eq!(lines("protected-mode no\nrequirepass x"), [""; 0]);
    assert_eq!(lines("protected-mode no\nrequirepass-file /x"), [""; 0]);
}

#[test]
fn secrets_are_printed_nowhere() {
    let file = "requirepass hunter2\nmasterauth hunter2\ntls-key-file-pass hunter2";
    let config = load_text(file, &[]).unwrap();
    let printed = format!("{config:?} {:?} {:?}", config.changed_from_default(), config.notice_lines());
    assert!(!printed.contains("hunter2"), "{printed}");
    assert!(config.changed_from_default().contains(&("requirepass".to_owned(), "(hidden)".to_owned())));
    for text in [
        "requirepass hunter2 x",
        "requirepass \"hunter2",
        "masterauth",
        "REQUIREPASS hunter2 x",
        "\"requirepass hunter2",
    ] {
        let error = load_text(text, &[]).unwrap_err();
        assert!(!format!("{error} {error:?} {}", error.report()).contains("hunter2"), "{error}");
    }
    assert_eq!(value(&config, "requirepass"), "hunter2", "as in Redis, who may ask for it is told");
}

#[test]
fn standard_input_lies_between_file_and_arguments() {
    let Ok(Invocation::Start(arguments)) =
        parse_arguments(&["f.conf", "--port", "3", "-"].map(ToOwned::to_owned))
    else {
        panic!("a start")
    };
    let config = load_with(&arguments, |path| {
        Ok(if path.is_some() { "port 1\nhz 1\ntimeout 1" } else { "port 2\nhz 2" }.into())
    })
    .unwrap();
    assert_eq!((config.port, config.hz, config.timeout.as_secs()), (3, 2, 1));
    assert!(config.file.unwrap().is_absolute());
    assert_eq!(config.file_sha256, "d7f1be1891ce596a3a6ef02316e585a5e384aa59ee9ba2b93329199db7bcd53b");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let Ok(Invocation::Start(arguments)) = parse_arguments(&["/no/such.conf".to_owned()]) else {
        panic!("a start")
    };
    let report = load(&arguments).unwrap_err().report();
    assert!(
        report.ends_with(
            "failed to read the configuration from \"/no/such.conf\": No such file or directory (os error 2)"
        ),
        "{report}"
    );
}

#[test]
fn the_table_is_sound() {
    let mut names: Vec<_> = table::all().iter().map(|directive| directive.name.as_ref()).collect();
    names.extend(foreign::names());
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "each name stands once");
    for directive in table::all() {
        assert_eq!(directive.name, directive.name.to_ascii_lowercase());
        // Each value of the default configuration can be set again and changes nothing.
        let mut config = Config::default();
        let arguments = table::arguments_of(directive, &directive.get(&config)).unwrap();
        if directive.name == "save" {
            config.save.clear();
        }
        directive.set(&mut config, &arguments).unwrap_or_else(|error| panic!("{}: {error}", directive.name));
        assert_eq!(config, Config::default(), "{}", directive.name);
        // The bounds themselves are taken, one beyond them is not.
        if let table::Kind::Number { min, max, .. } | table::Kind::Memory { min, max, .. } = &directive.kind {
            let mut accepts = |number: u64| directive.set(&mut config, &[number.to_string()]).is_ok();
            assert!(accepts(*min) && accepts(*max), "{}", directive.name);
            assert!(min.checked_sub(1).is_none_or(|number| !accepts(number)), "{}", directive.name);
            assert!(max.checked_add(1).is_none_or(|number| !accepts(number)), "{}", directive.name);
        }
    }
    for (name, reported) in foreign::reported() {
        assert_eq!(foreign::find(name).unwrap().set(reported), Ok(()), "{name}");
    }
}
