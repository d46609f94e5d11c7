//! A log that is switched on and off while the server runs, and what else Redis does with its files on demand, on the real server.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::{Client, PATIENCE, Reply, Server};

/// A server that saves by no rule; `args` are added.
fn spawn(dir: &Path, args: &[&str]) -> Server {
    Server::spawn(dir, &[&["--enable-debug-command", "yes", "--save", ""], args].concat())
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    (folder, dir)
}

fn error(reply: Reply) -> String {
    match reply {
        Reply::Error(text) => text,
        other => panic!("expected an error, got {other:?}"),
    }
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn manifest(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("appendonlydir/appendonly.aof.manifest")).unwrap_or_default()
}

#[test]
fn a_log_that_is_switched_on_keeps_what_is_acknowledged_behind_it() {
    for in_file in [true, false] {
        let (_folder, dir) = folder();
        let server = spawn(&dir, &["--appendonly", "no"]);
        let mut client = server.client();
        assert_eq!(client.run("DEBUG POPULATE 100000 key 100"), Reply::ok());
        assert_eq!(error(client.run("WAITAOF 1 0 0")).split(' ').next(), Some("ERR"));
        assert_eq!(client.run("CONFIG SET appendonly yes appendfsync always"), Reply::ok());
        assert_eq!(
            client.run("CONFIG GET appendonly"),
            Reply::Array(Some(vec![Reply::bulk("appendonly"), Reply::bulk("yes"),]))
        );
        let mut during = 0;
        while client.info("aof_rewrite_in_progress") == "1" {
            during += 1;
            assert_eq!(client.run(&format!("SET during:{during} {during}")), Reply::ok());
        }
        assert!(during > 0, "the log began too fast: the test has lost its aim");
        assert_eq!(client.info("persist_strategy"), "always");
        assert_eq!(client.run("SET after 1"), Reply::ok());
        assert_eq!(client.info("persist_durable_offset"), client.info("persist_last_offset"));
        let lines = manifest(&dir);
        assert!(lines.contains(".1.base.rdb") && lines.contains(".1.incr.aof"), "{lines}");
        server.kill();
        let server = spawn(&dir, &["--appendonly", if in_file { "yes" } else { "no" }]);
        let mut client = server.client();
        assert_eq!(client.run("DBSIZE"), Reply::Int(100_001 + during), "in the file: {in_file}");
        assert_eq!(client.run("GET after"), Reply::bulk("1"));
        assert!(server.stop().success());
    }
}

#[test]
fn a_log_that_cannot_begin_is_refused_and_nothing_has_changed() {
    let (_folder, dir) = folder();
    let server = spawn(&dir, &["--appendonly", "no"]);
    let mut client = server.client();
    client.run("SET a 1");
    let value = |client: &mut Client, name: &str| client.run(&format!("CONFIG GET {name}")).items()[1].text();
    let hz = value(&mut client, "hz");
    let in_the_way = dir.join("appendonlydir");
    std::fs::write(&in_the_way, b"").unwrap();
    for (words, name) in [
        ("CONFIG SET appendonly yes", "appendonly"),
        ("CONFIG SET hz 77 persist-strategy always", "persist-strategy"),
    ] {
        let text = error(client.run(words));
        assert!(text.contains(&format!("'{name}'")) && text.contains("Unable to turn on AOF"), "{text}");
        assert_eq!((value(&mut client, "appendonly"), value(&mut client, "hz")), ("no".into(), hz.clone()));
        assert_eq!(client.info("persist_strategy"), "never");
        assert_eq!(client.info("aof_rewrite_scheduled"), "0");
    }
    assert!(server.log_text().contains("appendonlydir"), "{}", server.log_text());
    assert_eq!(client.run("SAVE"), Reply::ok(), "it goes on without a log");
    std::fs::remove_file(&in_the_way).unwrap();
    assert_eq!(client.run("CONFIG SET appendonly yes"), Reply::ok());
    client.wait_for_info("persist_strategy", "everysec");
    server.kill();
    let server = spawn(&dir, &["--appendonly", "yes"]);
    assert_eq!(server.client().run("GET a"), Reply::bulk("1"));
}

#[test]
fn a_log_that_is_switched_off_is_what_a_start_loads_until_there_is_a_newer_snapshot() {
    let (_folder, dir) = folder();
    let server = spawn(&dir, &["--appendonly", "yes"]);
    let mut client = server.client();
    client.run("SET a 1");
    assert_eq!(client.run("CONFIG SET persist-strategy never"), Reply::ok());
    assert_eq!(client.info("persist_strategy"), "never");
    assert_eq!(client.info("persist_unsynced_bytes"), "0", "what was in the log is durable");
    let before = manifest(&dir);
    client.run("SET a 2");
    assert_ne!(client.info("persist_unsynced_bytes"), "0");
    server.kill();

    let server = spawn(&dir, &["--appendonly", "yes"]);
    let mut client = server.client();
    assert_eq!(client.run("GET a"), Reply::bulk("1"), "nothing has saved the second");
    assert_eq!(manifest(&dir), before, "it goes on");
    client.run("SET a 3");
    client.run("CONFIG SET appendonly no");
    client.run("SET a 4");
    assert_eq!(client.run("SAVE"), Reply::ok());
    server.kill();

    let server = spawn(&dir, &["--appendonly", "yes"]);
    let mut client = server.client();
    assert_eq!(client.run("GET a"), Reply::bulk("4"));
    assert_ne!(manifest(&dir), before, "a new log, over the snapshot");
    client.run("SET a 5");
    client.run("CONFIG SET appendonly no");
    client.run("SET a 6");
    // Back on: over everything that is there.
    client.run("CONFIG SET appendonly yes");
    client.wait_for_info("aof_rewrite_in_progress", "0");
    assert_eq!(client.run("WAITAOF 1 0 0"), Reply::Array(Some(vec![Reply::Int(1), Reply::Int(0)])));
    server.kill();
    let server = spawn(&dir, &["--appendonly", "yes"]);
    assert_eq!(server.client().run("GET a"), Reply::bulk("6"));
    assert!(server.stop().success());
}

/// As in Redis: what was written is a log that a start with `appendonly yes` goes on with.
#[test]
fn a_rewrite_where_the_log_is_off_writes_one_that_is_not_appended_to() {
    let (_folder, dir) = folder();
    let server = spawn(&dir, &["--appendonly", "no"]);
    let mut client = server.client();
    client.run("SET a 1");
    assert_eq!(error(client.run("DEBUG LOADAOF")), "ERR there is no log");
    assert_eq!(client.run("GET a"), Reply::bulk("1"));
    let text = client.run("BGREWRITEAOF").text();
    assert!(text.contains("started"), "{text}");
    client.wait_for_info("aof_rewrite_in_progress", "0");
    assert_eq!((client.info("aof_enabled"), client.info("persist_strategy")), ("0".into(), "never".into()));
    assert_eq!(client.info("persist_unsynced_bytes"), "0");
    let before = manifest(&dir);
    assert!(before.contains(".1.base.rdb"), "{before}");
    client.run("SET a 2");
    assert_ne!(client.info("persist_unsynced_bytes"), "0");
    assert_eq!(client.run("DEBUG LOADAOF"), Reply::ok());
    assert_eq!(client.run("GET a"), Reply::bulk("1"));
    // One that must wait is done afterwards.
    client.run("CONFIG SET rdb-key-save-delay 100000000");
    client.run("BGSAVE");
    let text = client.run("BGREWRITEAOF").text();
    assert!(text.contains("scheduled"), "{text}");
    assert_eq!(client.info("aof_rewrite_scheduled"), "1");
    client.run("CONFIG SET rdb-key-save-delay 0");
    client.wait_for_info("aof_rewrite_scheduled", "0");
    client.wait_for_info("aof_rewrite_in_progress", "0");
    let after = manifest(&dir);
    assert!(after.contains(".2.base.rdb"), "{after}");
    server.kill();
    let server = spawn(&dir, &["--appendonly", "yes"]);
    assert_eq!(server.client().run("GET a"), Reply::bulk("1"));
    assert_eq!(manifest(&dir), after, "it goes on");
}

#[test]
fn switching_gives_up_what_it_must_and_waits_for_the_rest() {
    let (_folder, dir) = folder();
    let server = spawn(&dir, &["--appendonly", "no"]);
    let mut client = server.client();
    client.run("SET a 1");
    // A snapshot that is being taken is waited for.
    client.run("CONFIG SET rdb-key-save-delay 100000000");
    client.run("BGSAVE");
    assert_eq!(client.run("CONFIG SET appendonly yes"), Reply::ok());
    assert_eq!(client.info("aof_rewrite_scheduled"), "1");
    assert_eq!(client.info("rdb_bgsave_in_progress"), "1");
    client.run("CONFIG SET rdb-key-save-delay 0");
    client.wait_for_info("persist_strategy", "everysec");
    assert_eq!(client.info("rdb_last_bgsave_status"), "ok");
    // A rewrite is given up.
    client.run("CONFIG SET rdb-key-save-delay 100000000");
    client.run("BGREWRITEAOF");
    assert!(error(client.run("BGREWRITEAOF")).contains("already in progress"));
    assert_eq!(client.run("CONFIG SET appendonly no"), Reply::ok());
    assert_eq!(client.info("aof_rewrite_in_progress"), "0");
    // So is a log that begins.
    assert_eq!(client.run("CONFIG SET appendonly yes"), Reply::ok());
    assert_eq!(client.info("aof_rewrite_in_progress"), "1");
    assert_eq!(client.info("persist_strategy"), "never", "there is none yet");
    assert_eq!(client.run("CONFIG SET appendonly no"), Reply::ok());
    assert_eq!(client.info("aof_rewrite_in_progress"), "0");
    client.run("SET a 2");
    client.run("CONFIG SET appendonly yes");
    assert_eq!(client.info("aof_rewrite_in_progress"), "1");
    client.run("CONFIG SET rdb-key-save-delay 0");
    client.wait_for_info("persist_strategy", "everysec");
    // Both within a transaction: the last one counts.
    client.run("MULTI");
    client.run("CONFIG SET appendonly no");
    client.run("SET a 3");
    client.run("CONFIG SET appendonly yes");
    client.run("EXEC");
    client.wait_for_info("persist_strategy", "everysec");
    assert_eq!(client.run("WAITAOF 1 0 0"), Reply::Array(Some(vec![Reply::Int(1), Reply::Int(0)])));
    server.kill();
    let server = spawn(&dir, &["--appendonly", "yes"]);
    assert_eq!(server.client().run("GET a"), Reply::bulk("3"));
}

#[test]
fn a_wait_for_the_log_ends_when_it_is_switched_off() {
    let (_folder, dir) = folder();
    let server = spawn(&dir, &["--appendonly", "yes", "--appendfsync", "no"]);
    let (mut waiting, mut switching) = (server.client(), server.client());
    for round in 0..50 {
        let mut bytes = Vec::new();
        for words in [format!("SET a {round}"), "WAITAOF 1 0 0".to_owned()] {
            Client::encode(&words.split(' ').collect::<Vec<_>>(), &mut bytes);
        }
        waiting.send_bytes(&bytes).unwrap();
        assert_eq!(switching.run("CONFIG SET appendonly no"), Reply::ok());
        assert_eq!(waiting.read_reply().unwrap(), Reply::ok());
        match waiting.read_reply().expect("the wait ends") {
            // It came when there was no log any more.
            Reply::Error(text) => assert!(text.starts_with("ERR WAITAOF"), "{text}"),
            answer => assert_eq!(answer, Reply::Array(Some(vec![Reply::Int(1), Reply::Int(0)]))),
        }
        assert_eq!(switching.run("CONFIG SET appendonly yes"), Reply::ok());
        switching.wait_for_info("persist_strategy", "no");
    }
}

#[test]
fn that_there_is_a_log_is_noted_as_soon_as_the_volume_takes_it() {
    let (_folder, dir) = folder();
    let server = spawn(&dir, &["--appendonly", "no"]);
    let mut client = server.client();
    client.run("SET a 1");
    let has_log = || {
        let identity = std::fs::read_to_string(dir.join("holdfast-identity.json")).unwrap();
        identity.contains("\"hasLog\":true")
    };
    // The identity is written there before it is renamed.
    let in_the_way = dir.join("temp-holdfast-identity.json");
    std::fs::create_dir(&in_the_way).unwrap();
    assert_eq!(client.run("CONFIG SET appendonly yes"), Reply::ok());
    client.wait_for_info("persist_strategy", "everysec");
    assert!(!has_log(), "the test has lost its aim");
    std::fs::remove_dir(&in_the_way).unwrap();
    wait_for("nothing was noted", has_log);
    server.kill();
    std::fs::remove_dir_all(dir.join("appendonlydir")).unwrap();
    let mut server = spawn(&dir, &["--appendonly", "yes"]);
    assert_eq!(server.wait().code(), Some(3), "{}", server.log_text());
    assert!(server.log_text().contains("missing"), "{}", server.log_text());
}

#[test]
fn a_stop_in_the_same_turn_begins_no_log() {
    let (_folder, dir) = folder();
    let mut server = spawn(&dir, &["--appendonly", "no"]);
    let mut client = server.client();
    let mut bytes = Vec::new();
    for words in ["SET a 1", "CONFIG SET appendonly yes", "SHUTDOWN SAVE"] {
        Client::encode(&words.split(' ').collect::<Vec<_>>(), &mut bytes);
    }
    client.send_bytes(&bytes).unwrap();
    assert!(server.wait().success());
    let left = std::fs::read_dir(dir.join("appendonlydir")).into_iter().flatten().flatten();
    let left: Vec<_> = left.map(|file| file.file_name()).collect();
    assert_eq!(left, Vec::<std::ffi::OsString>::new());
    let server = spawn(&dir, &["--appendonly", "no"]);
    assert_eq!(server.client().run("GET a"), Reply::bulk("1"));
}

#[test]
fn what_is_asked_while_data_is_loaded_is_done_afterwards() {
    let (_folder, dir) = folder();
    let server = spawn(&dir, &["--appendonly", "no"]);
    let mut client = server.client();
    client.run("DEBUG POPULATE 1000");
    assert!(server.stop().success());
    let server = spawn(&dir, &["--appendonly", "no", "--key-load-delay", "1000"]);
    wait_for("no connection", || Client::connect(server.port).is_ok());
    let mut early = Client::connect(server.port).unwrap();
    assert_eq!(early.info("loading"), "1");
    assert_eq!(early.run("CONFIG SET appendonly yes"), Reply::ok());
    let mut client = server.client();
    client.wait_for_info("persist_strategy", "everysec");
    assert_eq!(client.info("rdb_last_load_keys_loaded"), "1000");
    assert!(server.stop().success());
}

#[test]
fn a_flush_ends_a_snapshot_and_is_saved_where_there_are_rules() {
    let (_folder, dir) = folder();
    let server = spawn(&dir, &["--appendonly", "no", "--rdb-key-save-delay", "1000000"]);
    let mut client = server.client();
    client.run("DEBUG POPULATE 1000");
    client.run("BGSAVE");
    assert_eq!(client.info("rdb_bgsave_in_progress"), "1");
    assert_eq!(client.run("FLUSHALL"), Reply::ok());
    assert_eq!(client.info("rdb_bgsave_in_progress"), "0");
    assert_eq!(client.info("rdb_last_bgsave_status"), "ok", "it was given up");
    assert!(client.info("rdb_changes_since_last_save").parse::<u64>().unwrap() >= 1000);
    client.run("CONFIG SET rdb-key-save-delay 0");
    client.run("SET a 1");
    assert_eq!(client.run("SAVE"), Reply::ok());
    assert_eq!(client.command(&["CONFIG", "SET", "save", "3600 1"]), Reply::ok());
    assert_eq!(client.run("FLUSHALL"), Reply::ok());
    assert_eq!(client.info("rdb_changes_since_last_save"), "0");
    server.kill();
    let server = spawn(&dir, &["--appendonly", "no"]);
    assert_eq!(server.client().run("DBSIZE"), Reply::Int(0), "what was flushed is not back");
}

#[test]
fn expired_keys_that_a_start_leaves_out_are_counted() {
    let (_folder, dir) = folder();
    let server = spawn(&dir, &["--appendonly", "no"]);
    let mut client = server.client();
    client.run("DEBUG SET-ACTIVE-EXPIRE 0");
    client.run("SET stays 1");
    for number in 0..7 {
        client.run(&format!("SET goes:{number} 1 PX 1"));
    }
    std::thread::sleep(Duration::from_millis(5));
    client.run("SAVE");
    server.kill();
    let server = spawn(&dir, &["--appendonly", "no"]);
    let mut client = server.client();
    assert_eq!(client.info("rdb_last_load_keys_expired"), "7");
    assert_eq!(client.info("rdb_last_load_keys_loaded"), "1");
}

/// As in Redis, a signal is part of the periodic work.
#[test]
fn a_signal_to_stop_can_be_taken_back_while_there_is_no_periodic_work() {
    let (_folder, dir) = folder();
    let mut server = spawn(&dir, &[]);
    let mut client = server.client();
    assert!(error(client.run("SHUTDOWN ABORT")).contains("No shutdown in progress"));
    client.run("DEBUG PAUSE-CRON 1");
    server.signal("TERM");
    wait_for("no signal", || server.log_text().contains("SIGTERM"));
    // It takes its way to the executor.
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(client.run("SHUTDOWN ABORT"), Reply::ok());
    client.run("DEBUG PAUSE-CRON 0");
    assert_eq!(client.run("PING"), Reply::Simple("PONG".into()));
    client.run("DEBUG PAUSE-CRON 1");
    server.signal("TERM");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(client.run("PING"), Reply::Simple("PONG".into()));
    client.run("DEBUG PAUSE-CRON 0");
    assert!(server.wait().success());
}

#[test]
fn a_reply_waits_for_a_log_that_is_slow() {
    let (_folder, dir) = folder();
    let server = spawn(&dir, &["--appendfsync", "no"]);
    let mut client = server.client();
    client.run("DEBUG AOF-FLUSH-SLEEP 200000");
    let started = Instant::now();
    assert_eq!(client.run("SET a 1"), Reply::ok());
    assert!(started.elapsed() >= Duration::from_millis(200));
    client.run("DEBUG AOF-FLUSH-SLEEP 0");
    let started = Instant::now();
    assert_eq!(client.run("SET a 2"), Reply::ok());
    assert!(started.elapsed() < Duration::from_millis(200));
}

#[test]
fn payloads_are_checked_whole_also_without_their_checksum_and_the_log_says_what_is_wrong() {
    let (_folder, dir) = folder();
    let server = spawn(&dir, &["--loglevel", "verbose"]);
    let mut client = server.client();
    // A ziplist of a sorted set whose bytes end too early, with a checksum that fits none.
    let payload: &[u8] = b"\x0c\x05\x19\0\0\0\x02\x0a\0\0\0\0\0\0\0\0\0";
    let restore =
        |client: &mut Client, payload: &[u8]| client.command(&[b"RESTORE".as_slice(), b"key", b"0", payload]);
    assert!(error(restore(&mut client, payload)).contains("checksum are wrong"));
    assert_eq!(client.run("DEBUG SET-SKIP-CHECKSUM-VALIDATION 1"), Reply::ok());
    assert!(error(restore(&mut client, payload)).contains("Bad data format"));
    let log = server.log_text();
    assert!(log.contains("Zset ziplist integrity check failed"), "{log}");
    assert_eq!(client.run("DEBUG SET-SKIP-CHECKSUM-VALIDATION 0"), Reply::ok());
    assert!(error(restore(&mut client, payload)).contains("checksum are wrong"));
}

/// Whoever watches the log of Redis for these words finds them here.
#[test]
fn a_start_that_is_refused_says_so_in_the_words_of_redis() {
    let part = |name: &str| format!("appendonlydir/appendonly.aof.{name}");
    let check = |files: &[(String, &[u8])], args: &[&str], expected: &str| {
        let (_folder, dir) = folder();
        std::fs::create_dir_all(dir.join("appendonlydir")).unwrap();
        for (name, contents) in files {
            std::fs::write(dir.join(name), contents).unwrap();
        }
        let mut server = spawn(&dir, args);
        assert_eq!(server.wait().code(), Some(3), "{expected}");
        let log = server.log_text();
        let found = log.lines().filter(|line| line.contains(expected)).count();
        assert_eq!(found, 1, "{expected}: {log}");
        assert!(log.lines().last().is_some_and(|line| line.contains(expected)), "{expected}: {log}");
    };
    let segment = |bytes: &'static [u8]| {
        let line = b"file appendonly.aof.1.incr.aof seq 1 type i\n".as_slice();
        vec![(part("manifest"), line), (part("1.incr.aof"), bytes)]
    };
    let set = b"*3\r\n$3\r\nset\r\n$1\r\na\r\n$1\r\nb\r\n!!!";
    check(&segment(set), &[], "Bad file format reading the append only file");
    check(
        &segment(b"*2\r\n$3\r\nbla\r\n$1\r\na\r\n"),
        &[],
        "Unknown command 'bla' reading the append only file",
    );
    check(
        &segment(b"*2\r\n$3\r\nget\r\n$1\r\n"),
        &["--aof-load-truncated", "no"],
        "Unexpected end of file reading the append only file",
    );
    check(&segment(b"")[..1], &[], "appendonly.aof.1.incr.aof is missing (");
    let lines = |text: &'static [u8]| vec![(part("manifest"), text)];
    check(&lines(b""), &[], "Found an empty AOF manifest");
    check(&lines(b"filx a seq 1 type b\n"), &[], "Invalid AOF manifest file format");
    check(
        &lines(b"file a seq 2 type i\nfile b seq 1 type i\n"),
        &[],
        "Found a non-monotonic sequence number",
    );
}
