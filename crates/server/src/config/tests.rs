mod live;
mod rewriting;

use std::io;
use std::path::{Path, PathBuf};

use super::check::load_with;
use super::table::directive::Kind;
use super::words::quote;
use super::*;
use crate::persistence::directives::Event;

const SEED: &str = include_str!("../../tests/fixtures/seed.conf");
const DEBIAN: &str = include_str!("../../tests/fixtures/debian-redis-7.0.conf");

fn start(arguments: &[&str]) -> Arguments {
    match parse_arguments(arguments.iter().map(Into::into).collect()) {
        Invocation::Start(arguments) => arguments,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

/// Loads a file and arguments as a start does; `-` among them, standard input, holds the same.
fn load_bytes(file: &[u8], arguments: &[&str]) -> Result<Config, ConfigError> {
    let arguments: Vec<_> = std::iter::once("/etc/t.conf").chain(arguments.iter().copied()).collect();
    let read = |path: Option<&Path>| {
        assert!(path.is_none_or(|path| path == Path::new("/etc/t.conf")), "{path:?}");
        Ok(file.to_vec())
    };
    load_with(&start(&arguments), read, &mut |_| panic!("nothing is included"))
}

fn load_text(file: &str, arguments: &[&str]) -> Result<Config, ConfigError> {
    load_bytes(file.as_bytes(), arguments)
}

/// The one thing that is wrong.
fn problem_of(file: &str, arguments: &[&str]) -> Problem {
    let mut problems = load_text(file, arguments).unwrap_err().problems;
    assert_eq!(problems.len(), 1, "{file:?}: {problems:?}");
    problems.remove(0)
}

fn lines_of(config: &Config) -> Vec<String> {
    notice_lines(&config.notices)
}

fn values(config: &Config) -> Vec<(String, Vec<u8>)> {
    config_get(config, &[b"*"])
}

fn value(config: &Config, name: &str) -> String {
    let found = config_get(config, &[name.as_bytes()]);
    assert_eq!(found.len(), 1, "{name}");
    String::from_utf8(found[0].1.clone()).unwrap()
}

#[test]
fn nothing_given_is_a_durable_store_on_the_port_of_redis() {
    let here = std::env::current_dir().unwrap();
    let config = load(&Arguments::default()).unwrap();
    assert_eq!(config, Config { dir: here, ..Config::default() });
    let config = Config::default();
    assert_eq!(config.strategy(), Strategy::EverySecond);
    assert_eq!(value(&config, "save"), "3600 1 300 100 60 10000");
    assert_eq!(value(&config, "bind"), "* -::*");
    assert_eq!(value(&config, "auto-aof-rewrite-min-size"), "67108864");
    assert_eq!((config.port, config.health_port, config.control_port), (6379, 9180, 9181));
    assert_eq!(changed_from_default(&config), []);
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
        lines_of(&config),
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
    let lines = lines_of(&config);
    assert_eq!(
        lines[0],
        "daemonize (line 8 of \"/etc/t.conf\"): has no effect, the server runs in the foreground: run it under a supervisor \
         such as systemd (Type=exec)"
    );
    let asking: Vec<_> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(asking, ["daemonize", "without"]);
    assert!(lines.last().unwrap().contains("hll-sparse-max-bytes"));
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
        let error = problem_of(file, arguments);
        assert!(matches!(error, Problem::Contradiction { .. }), "{error}");
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
fn snapshot_rules_replace_the_defaults_and_accumulate_over_all_sources() {
    fn check(file: &str, arguments: &[&str], expected: &str) {
        assert_eq!(value(&load_text(file, arguments).unwrap(), "save"), expected, "{file:?} {arguments:?}");
    }
    check("save 10 1\nsave 20 2 30 3", &[], "10 1 20 2 30 3");
    check("save 10 1\nsave \"\"\nsave 5 5", &[], "5 5");
    check("", &["--save", "7", "7"], "7 7");
    check("save 10 1", &["--save", "7", "7"], "10 1 7 7");
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
        (b"".as_slice(), Some(Path::new("/b")))
    );
    let config = load_text("requirepass-file /b", &["--requirepass", "a"]).unwrap();
    assert_eq!((config.requirepass.reveal(), config.requirepass_file.as_deref()), (b"a".as_slice(), None));
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
            "port takes a number from 0 to 65535",
        ),
    );
    check(
        "port 65536",
        &[],
        &line(
            1,
            "port 65536",
            "argument must be between 0 and 65535 inclusive",
            "port takes a number from 0 to 65535",
        ),
    );
    check("port", &[], &line(1, "port", "wrong number of arguments", "port takes a number from 0 to 65535"));
    check(
        "port 1 2",
        &[],
        &line(1, "port 1 2", "wrong number of arguments", "port takes a number from 0 to 65535"),
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
    check(
        "dbfilename appendonlydir",
        &[],
        "dbfilename and appenddirname are both appendonlydir: a file and a directory cannot have one name; change one of them",
    );
}

#[test]
fn values_out_of_bounds_are_refused() {
    for text in [
        "bind localhost",
        "bind \"\" 127.0.0.1",
        "unixsocket a b",
        "unixsocketperm 778",
        "unixsocketperm 1000",
        "unixsocketperm -1",
        "databases 0",
        "maxclients 0",
        "proto-max-bulk-len 1",
        "maxmemory 1tb",
        "maxmemory -1",
        "maxmemory 99999999999gb",
        "dbfilename a/b",
        "dbfilename ..",
        "dbfilename temp-x.rdb",
        "dbfilename holdfast-identity.json",
        "dbfilename holdfast.lock",
        "dbfilename .holdfast-storage-failed",
        "appendfilename temp-log",
        "appenddirname temp-logs",
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
        "maxmemory-policy allkeys",
        "maxmemory-samples 0",
        "maxmemory-eviction-tenacity 101",
        "lfu-log-factor -1",
        "lfu-decay-time x",
        "persistent",
    ] {
        let error = problem_of(&format!("port 1\n{text}"), &[]);
        assert!(matches!(&error, Problem::Directive { place, .. } if place.number == 2), "{text}: {error}");
    }
}

#[test]
fn a_policy_says_which_keys_go_and_tenacity_for_how_long() {
    use crate::engine::{EvictionOrder, EvictionPolicy};
    let eviction = |text: &str| load_text(text, &[]).unwrap().eviction();
    assert_eq!(eviction(""), crate::engine::EvictionSettings::default());
    for (place, volatile) in [("allkeys", false), ("volatile", true)] {
        for (word, order) in [
            ("lru", EvictionOrder::LeastRecent),
            ("lfu", EvictionOrder::LeastFrequent),
            ("random", EvictionOrder::Random),
        ] {
            let policy = eviction(&format!("maxmemory-policy {place}-{word}")).policy;
            assert_eq!(policy, Some(EvictionPolicy { volatile, order }));
        }
    }
    let next = EvictionPolicy { volatile: true, order: EvictionOrder::NextToExpire };
    assert_eq!(eviction("maxmemory-policy Volatile-TTL").policy, Some(next));
    let settings = eviction("maxmemory-samples 7\nlfu-log-factor 1\nlfu-decay-time 60");
    assert_eq!((settings.samples, settings.lfu_log_factor, settings.lfu_decay_minutes), (7, 1, 60));

    let micros = |tenacity: u32| {
        let config = load_text(&format!("maxmemory-eviction-tenacity {tenacity}"), &[]).unwrap();
        config.eviction_time_max().map(|max| max.as_micros())
    };
    assert_eq!([micros(0), micros(1), micros(10)], [Some(0), Some(50), Some(500)]);
    assert!(micros(11).is_some_and(|max| (574..576).contains(&max)));
    // About two minutes, as in Redis.
    assert!(micros(99).is_some_and(|max| (120_000_000..130_000_000).contains(&max)), "{:?}", micros(99));
    assert_eq!(micros(100), None);
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
    ] {
        let error = load_text(text, &[]).unwrap_err().to_string();
        let name = text.split(' ').next().unwrap();
        assert!(error.contains(&format!("{name} is refused")), "{error}");
        assert!(!error.contains("nopass"), "{error}");
    }
    for text in
        ["replicaof no one", "cluster-enabled no", "tls-port 0", "min-replicas-to-write 0", "aclfile \"\""]
    {
        assert_eq!(lines_of(&load_text(text, &[]).unwrap()), [""; 0], "{text}");
    }
}

#[test]
fn a_port_open_to_everybody_is_noticed() {
    let lines = |text| lines_of(&load_text(text, &[]).unwrap());
    assert!(lines("protected-mode no")[0].starts_with("protected-mode: is off and there is no password"));
    assert_eq!(lines("protected-mode no\nrequirepass x"), [""; 0]);
    assert_eq!(lines("protected-mode no\nrequirepass-file /x"), [""; 0]);
}

#[test]
fn secrets_are_printed_nowhere() {
    let file = "requirepass hunter2\nmasterauth hunter2\ntls-key-file-pass hunter2";
    let config = load_text(file, &[]).unwrap();
    let printed = format!("{config:?} {:?} {:?}", changed_from_default(&config), lines_of(&config));
    assert!(!printed.contains("hunter2"), "{printed}");
    assert!(changed_from_default(&config).contains(&("requirepass".to_owned(), "(hidden)".to_owned())));
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
    let arguments = start(&["f.conf", "--port", "3", "-"]);
    let read = |path: Option<&Path>| {
        Ok(if path.is_some() { "port 1\nhz 1\ntimeout 1" } else { "port 2\nhz 2" }.into())
    };
    let config = load_with(&arguments, read, &mut |_| panic!("nothing is included")).unwrap();
    assert_eq!((config.port, config.hz, config.timeout.as_secs()), (3, 2, 1));
    assert!(config.file.unwrap().is_absolute());
    assert_eq!(config.file_sha256, "d7f1be1891ce596a3a6ef02316e585a5e384aa59ee9ba2b93329199db7bcd53b");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let report = load(&start(&["/no/such.conf"])).unwrap_err().report();
    assert!(
        report.ends_with(
            "failed to read the configuration from \"/no/such.conf\": No such file or directory (os error 2)"
        ),
        "{report}"
    );
}

#[test]
fn everything_that_is_wrong_is_named_in_one_run() {
    let file = "port abc\nmaxmemroy 1gb\nhz 20\ndir \"x\nreplicaof 1.2.3.4 6379\nappendonly maybe\npersist-strategy never";
    let error = load_text(file, &["-x", "y", "--loglevel", "loud", "--no-such", "1"]).unwrap_err();
    let found: Vec<_> = error
        .problems
        .iter()
        .map(|problem| match problem {
            Problem::Directive { place, directive, .. } => format!("{place} {directive}"),
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(
        found,
        [
            "line 1 of \"/etc/t.conf\" port",
            "line 2 of \"/etc/t.conf\" maxmemroy",
            "line 4 of \"/etc/t.conf\" dir",
            "line 5 of \"/etc/t.conf\" replicaof",
            "line 6 of \"/etc/t.conf\" appendonly",
            "directive 1 of the arguments ",
            "directive 2 of the arguments loglevel",
            "directive 3 of the arguments no-such",
        ],
        "and the strategy contradicts no value that is none"
    );
    let report = error.report();
    for expected in [
        ">>> 'port abc'\nargument couldn't be parsed into an integer\nline 1 of \"/etc/t.conf\": port takes a number",
        "did you mean maxmemory?",
        "directive 2 of the arguments: loglevel takes one of debug, verbose, notice, warning",
    ] {
        assert!(report.contains(expected), "{report}");
    }
    assert!(
        report.ends_with("\n\n8 problems: the server does not start before each of them is solved"),
        "{report}"
    );
}

#[test]
fn a_text_is_checked_without_a_file() {
    let source = SourceName::File(PathBuf::from("store.conf"));
    let mut nothing = |_: &Path| vec![Err(io::Error::other("not here"))];
    let base = Config { hz: 50, ..Config::default() };
    let config = check(&source, b"maxmemory 1gb\ntcp-backlog 5", &base, &mut nothing).unwrap();
    assert_eq!((config.maxmemory, config.hz), (1 << 30, 50));
    let problems = check(&source, b"port x\ninclude other.conf\nhz y", &base, &mut nothing).unwrap_err();
    let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert!(shown[0].starts_with("line 1 of \"store.conf\": "), "{shown:?}");
    assert!(shown[1].starts_with("line 2 of \"store.conf\": Can't read other.conf: not here; "), "{shown:?}");
    assert!(shown[2].starts_with("line 3 of \"store.conf\": "), "{shown:?}");
}

#[test]
fn included_lines_stand_in_the_place_of_their_include() {
    let files = |path: &Path| {
        let text = match path.to_str().unwrap() {
            "a" => "hz 1\ntimeout 1\nsave 1 1",
            "b" => "port x\ninclude a",
            "twice" => "include a\ninclude a",
            "circle" => "include f.conf",
            "f.conf" => "include circle",
            "many" | "mixed" => {
                let file = |path: &str, text: &[u8]| Ok((path.into(), text.to_vec()));
                let unreadable = Err(io::Error::from(io::ErrorKind::PermissionDenied));
                return match path.to_str().unwrap() {
                    "many" => vec![file("a", b"hz 7"), file("c", b"maxclients 8")],
                    _ => vec![file("a", b"hz x"), unreadable, file("c", b"maxclients y")],
                };
            }
            _ => return vec![Err(io::Error::from(io::ErrorKind::NotFound))],
        };
        vec![Ok((path.to_owned(), text.as_bytes().to_vec()))]
    };
    let load = |text: &str, arguments: &[&str]| {
        let arguments: Vec<_> = std::iter::once("f.conf").chain(arguments.iter().copied()).collect();
        load_with(&start(&arguments), |_| Ok(text.into()), &mut { files })
    };
    let config = load("hz 2\ninclude a\ntimeout 3\nsave 2 2", &[]).unwrap();
    assert_eq!((config.hz, config.timeout.as_secs(), value(&config, "save")), (1, 3, "1 1 2 2".to_owned()));
    let config = load("INCLUDE many", &["--include", "a"]).unwrap();
    assert_eq!((config.hz, config.maxclients), (1, 8));
    load("include twice", &[]).unwrap();
    let check = |text: &str, expected: &[&str]| {
        let problems = load(text, &[]).unwrap_err().problems;
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.starts_with(expected), "{problem}");
        }
    };
    check(
        "include b\nhz x",
        &["line 1 of \"b\": argument couldn't", "line 2 of \"f.conf\": argument couldn't"],
    );
    check(
        "\ninclude none\ninclude",
        &["line 2 of \"f.conf\": Can't read none: ", "line 3 of \"f.conf\": wrong number"],
    );
    check(
        "include mixed",
        &[
            "line 1 of \"a\": argument couldn't",
            "line 1 of \"f.conf\": Can't read mixed: permission denied",
            "line 1 of \"c\": argument couldn't",
        ],
    );
    check("include circle", &["line 1 of \"circle\": \"f.conf\" includes itself"]);
    let wide = "include a\n".repeat(300);
    assert!(load(&wide, &[]).unwrap_err().to_string().contains("more than 256 files are included"));
}

#[test]
fn files_that_redis_7_takes_start_here() {
    let check = |text: &[u8], name: &str, expected: &str| {
        let config = load_bytes(text, &[]).unwrap_or_else(|error| panic!("{}: {error}", text.escape_ascii()));
        assert_eq!(value(&config, name), expected);
    };
    check(b"# f\xfcr M\xfcller\r\nhz 20\r\n", "hz", "20");
    check(b"save \"3600 1 300 10\"", "save", "3600 1 300 10");
    check(b"bind \"127.0.0.1 ::1\"", "bind", "127.0.0.1 ::1");
    check(b"bind \"\"", "bind", "");
    check(b"bind", "bind", "");
    check(b"port 0", "port", "0");
    check(b"unixsocket run/redis.sock", "unixsocket", "run/redis.sock");
    check(b"unixsocketperm 0770", "unixsocketperm", "770");
    check(b"unixsocketperm \"\"", "unixsocketperm", "0");
    check(b"save 60 1\nsave ", "save", "");
    check(b"hz 1000", "hz", "500");
    check(b"hz 0", "hz", "1");
    let config = load_bytes(b"requirepass p\xe4ss\ndir /caf\xe9\nsyslog-ident \xff", &[]).unwrap();
    assert_eq!(config.requirepass.reveal(), b"p\xe4ss");
    assert_eq!(config_get(&config, &[b"dir"]), [("dir".to_owned(), b"/caf\xe9".to_vec())]);
    assert!(load_bytes(b"dbfilename \xff", &[]).is_err());
}

#[test]
fn a_start_that_nobody_could_connect_to_is_refused() {
    for arguments in [&["--port", "0"][..], &["--bind", ""], &["--port", "0", "--unixsocket", ""]] {
        let report = load(&start(arguments)).unwrap_err().report();
        assert!(report.contains("the server would not listen anywhere"), "{arguments:?}: {report}");
    }
    for arguments in [&["--port", "0"][..], &["--bind", ""]] {
        let arguments: Vec<_> = arguments.iter().chain(&["--unixsocket", "s"]).copied().collect();
        let config = load(&start(&arguments)).unwrap();
        assert_eq!(config.unix_socket_path(), Some(std::env::current_dir().unwrap().join("s")));
    }
}

#[test]
fn old_names_stand_for_the_new_ones() {
    for alias in names::aliases() {
        let name = names::canonical(alias);
        assert_ne!(name, alias);
        assert!(table::find(name).is_some() || foreign::find(name).is_some(), "{alias} stands for {name}");
        assert!(table::find(alias).is_some() || foreign::find(alias).is_some(), "{alias}");
    }
    // Each with the default of Redis, and as an error and a notice repeat it.
    let text = "slave-priority 100\nlua-time-limit 5000\nzset-max-ziplist-value 64\nmin-slaves-to-write 0";
    let lines = lines_of(&load_text(text, &[]).unwrap());
    assert_eq!(lines, ["without effect here, and at Redis's default anyway: slave-priority, lua-time-limit"]);
    assert_eq!(load_text("zset-max-ziplist-value 65", &[]).unwrap().limits.sorted_set_value, 65);
    assert!(problem_of("min-slaves-to-write 1", &[]).to_string().contains("min-slaves-to-write is refused"));
    let ignored = "list-max-ziplist-entries 512\nlist-max-ziplist-value 64\nlua-replicate-commands yes";
    assert_eq!(lines_of(&load_text(ignored, &[]).unwrap()).len(), 3);
    load_text("client-output-buffer-limit slave 256mb 64mb 60", &[]).unwrap();
}

#[test]
fn a_directive_of_ours_that_does_nothing_is_noticed() {
    let noticed = |text: &str| lines_of(&load_text(text, &[]).unwrap());
    assert_eq!(noticed("shutdown-timeout 10\npersist-after-sys-crash yes"), [""; 0]);
    let [line] = &noticed("shutdown-timeout 5")[..] else { panic!("one line") };
    assert!(line.starts_with("shutdown-timeout: has no effect"), "{line}");
    let [line] = &noticed("persist-after-sys-crash yes\npersist-after-sys-crash-delay 5")[..] else {
        panic!("one line")
    };
    assert!(line.starts_with("persist-after-sys-crash-delay: "), "{line}");
}

/// The value of a name that is one letter off is as secret as that of the right one.
#[test]
fn the_value_of_a_misspelt_secret_is_not_repeated() {
    for line in ["requirepas hunter2", "requirepasss hunter2", "requirpass hunter2"] {
        let report = load_text(line, &[]).unwrap_err().report();
        assert!(report.contains("did you mean requirepass?") && !report.contains("hunter2"), "{report}");
    }
}

#[test]
fn the_table_is_sound() {
    let mut names: Vec<_> = table::all().iter().map(|directive| directive.name.as_ref()).collect();
    names.extend(foreign::names());
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "each name stands once");
    assert!(names::aliases().all(|alias| !names.contains(&alias)));
    for directive in table::all() {
        assert_eq!(directive.name, directive.name.to_ascii_lowercase());
        assert_eq!(directive.secret, names::is_secret(&directive.name), "{}", directive.name);
        // Each value of the default configuration can be set again and changes nothing.
        let mut config = Config::default();
        let arguments = directive.arguments_of(&directive.get(&config)).unwrap();
        if directive.name == "save" {
            config.save.clear();
        }
        directive.set(&mut config, &arguments).unwrap_or_else(|error| panic!("{}: {error}", directive.name));
        assert_eq!(config, Config::default(), "{}", directive.name);
        // The bounds themselves are taken, one beyond them is not.
        if let Kind::Number { min, max, .. } | Kind::Memory { min, max, .. } = &directive.kind {
            let mut accepts = |number: u64| directive.set(&mut config, &[number.to_string().into()]).is_ok();
            assert!(accepts(*min) && accepts(*max), "{}", directive.name);
            assert!(min.checked_sub(1).is_none_or(|number| !accepts(number)), "{}", directive.name);
            assert!(max.checked_add(1).is_none_or(|number| !accepts(number)), "{}", directive.name);
        }
    }
    for (name, reported) in foreign::reported() {
        assert_eq!(foreign::find(name).unwrap().set(reported), Ok(()), "{name}");
    }
}
