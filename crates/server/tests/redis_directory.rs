//! Anyone can leave, and come back: Debian's Redis opens our directory and answers the same data, we open its
//! directories, and both take turns on one.
//!
//! Redis works on copies, except where it is to change the directory.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod support;
mod turns;

use support::{Client, Reply, Server};
use turns::{
    Dataset, commands, copy, difference, epoch, fill, newest_segment, read, redis_reads, shut_down, we_read,
};

const STRATEGIES: [&str; 4] = ["always", "everysec", "no", "never"];

#[test]
fn redis_opens_our_directory_after_a_clean_stop_and_after_our_recovery() {
    let root = tempfile::tempdir().unwrap();
    for strategy in STRATEGIES {
        let dir = root.path().join(strategy);
        let args = ["--persist-strategy", strategy, "--save", ""];
        let server = Server::spawn(&dir, &args);
        let mut client = server.client();
        fill(&mut client, 1);
        let stopped = read(&mut client);
        assert!(server.stop().success());
        redis_reads(&dir, &stopped, &format!("{strategy}, clean stop"));

        let server = Server::spawn(&dir, &args);
        let mut client = server.client();
        assert!(read(&mut client) == stopped, "{strategy}: our own data differ after a clean stop");
        fill(&mut client, 2);
        if strategy == "never" {
            assert_eq!(client.run("SAVE"), Reply::ok());
        }
        let killed = read(&mut client);
        server.kill();
        we_read(&dir, strategy, &killed, &format!("{strategy}, killed"));
        redis_reads(&dir, &killed, &format!("{strategy}, killed and recovered"));
    }
}

#[test]
fn redis_opens_our_directory_around_a_rotation() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("rotated");
    let args = ["--persist-strategy", "everysec", "--save", ""];
    let server = Server::spawn(&dir, &args);
    let mut client = server.client();
    fill(&mut client, 1);
    client.run("BGREWRITEAOF");
    fill(&mut client, 2);
    client.wait_for_info("aof_rewrite_in_progress", "0");
    fill(&mut client, 3);
    let rotated = read(&mut client);
    assert!(server.stop().success());
    redis_reads(&dir, &rotated, "rotated");

    // A rotation that is cut short by a kill and by a stop: enough data that it takes a while.
    for kill in [true, false] {
        let server = Server::spawn(&dir, &args);
        let mut client = server.client();
        let mut bytes = Vec::new();
        for number in 0..20_000 {
            Client::encode(&["SET", &format!("filler:{number}"), &format!("{number:0>50}")], &mut bytes);
        }
        client.send_bytes(&bytes).unwrap();
        (0..20_000).for_each(|_| assert_eq!(client.read_reply().unwrap(), Reply::ok()));
        client.run("BGREWRITEAOF");
        client.run("SET during rotation");
        let during = read(&mut client);
        client.run("BGREWRITEAOF");
        client.run("SET during rotation");
        if kill {
            server.kill();
            we_read(&dir, "everysec", &during, "killed while it rotates");
        } else {
            assert!(server.stop().success());
        }
        redis_reads(&dir, &during, &format!("stopped while it rotates, kill {kill}"));
    }
}

#[test]
fn we_open_directories_that_redis_wrote() {
    let root = tempfile::tempdir().unwrap();
    let cases: [(&str, &[&str], &[&str], &str); 5] = [
        ("snapshot", &["--appendonly", "no", "--save", ""], &["SAVE"], "NOSAVE"),
        ("log", &["--appendonly", "yes", "--save", ""], &[], "NOSAVE"),
        ("rewritten-log", &["--appendonly", "yes", "--save", ""], &["BGREWRITEAOF"], "NOSAVE"),
        (
            "log-of-commands",
            &["--appendonly", "yes", "--aof-use-rdb-preamble", "no", "--save", ""],
            &["BGREWRITEAOF"],
            "NOSAVE",
        ),
        (
            "log-with-times",
            &["--appendonly", "yes", "--aof-timestamp-enabled", "yes", "--save", ""],
            &["BGREWRITEAOF"],
            "NOSAVE",
        ),
    ];
    for (name, args, commands, how) in cases {
        let origin = root.path().join(name);
        std::fs::create_dir(&origin).unwrap();
        let redis = Server::spawn_redis(&origin, args);
        let mut client = redis.client();
        fill(&mut client, 1);
        for command in commands {
            client.run(command);
            client.wait_for_info("aof_rewrite_in_progress", "0");
        }
        if args.contains(&"yes") {
            fill(&mut client, 2);
        }
        let expected = read(&mut client);
        drop(client);
        shut_down(redis, how);
        for strategy in ["always", "never"] {
            let dir = root.path().join(format!("{name}-{strategy}"));
            copy(&origin, &dir);
            we_read(&dir, strategy, &expected, &format!("{name}, {strategy}, taken over"));
            we_read(&dir, strategy, &expected, &format!("{name}, {strategy}, started again"));
            redis_reads(&dir, &expected, &format!("{name}, {strategy}"));
        }
    }
}

#[test]
fn we_open_the_single_file_of_a_server_before_redis_7() {
    let root = tempfile::tempdir().unwrap();
    let mut commands = Vec::new();
    for words in ["SELECT 0", "SET a 1", "SET b 2", "SELECT 5", "SET c 3", "MULTI", "INCR c", "EXEC"] {
        Client::encode(&words.split(' ').collect::<Vec<_>>(), &mut commands);
    }
    let expected: Dataset = [((0, "a"), "1"), ((0, "b"), "2"), ((5, "c"), "4")]
        .map(|((db, key), value)| ((db, key.into()), (value.into(), -1)))
        .into();
    for strategy in ["always", "never"] {
        for torn in [&b""[..], b"*3\r\n$3\r\nSET\r\n$1\r\nx"] {
            let dir = root.path().join(format!("{strategy}-{}", torn.len()));
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("appendonly.aof"), [&commands[..], torn].concat()).unwrap();
            for time in ["first", "second", "third"] {
                we_read(&dir, strategy, &expected, &format!("single file, {strategy}, {time} start"));
            }
            // Newer data than the file's must win over it, whatever becomes of the log.
            let server = Server::spawn(&dir, &["--persist-strategy", strategy, "--save", ""]);
            server.client().run("SET a newer");
            assert!(server.stop().success());
            let mut newer = expected.clone();
            newer.insert((0, b"a".to_vec()), (b"newer".to_vec(), -1));
            for strategy in ["never", "always", "never"] {
                we_read(&dir, strategy, &newer, &format!("single file, then {strategy}"));
            }
            redis_reads(&dir, &newer, "after a single file");
        }
    }
}

#[test]
fn redis_and_we_take_turns_on_one_directory() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("turns");
    let ours = ["--persist-strategy", "everysec", "--save", ""];
    let theirs = ["--appendonly", "yes", "--save", ""];
    let server = Server::spawn(&dir, &ours);
    fill(&mut server.client(), 1);
    assert!(server.stop().success());
    for (round, rewrite) in [(2, false), (3, true), (4, false)] {
        let before = epoch(&dir);
        let redis = Server::spawn_redis(&dir, &theirs);
        let mut client = redis.client();
        fill(&mut client, round);
        if rewrite {
            client.run("BGREWRITEAOF");
            client.wait_for_info("aof_rewrite_in_progress", "0");
            client.run("SET after rewrite");
        }
        client.run("SET round:redis done");
        let theirs = read(&mut client);
        drop(client);
        shut_down(redis, "NOSAVE");
        let place = format!("round {round}, Redis rewrote the log: {rewrite}");
        let server = Server::spawn(&dir, &ours);
        let mut client = server.client();
        let found = read(&mut client);
        assert!(found == theirs, "{place}: {}", difference(&theirs, &found));
        assert!(epoch(&dir) > before, "{place}: the epoch tells that another server was here");
        fill(&mut client, round + 10);
        let ours = read(&mut client);
        server.kill();
        let after = epoch(&dir);
        we_read(&dir, "everysec", &ours, &format!("{place}, and we were killed"));
        assert_eq!(epoch(&dir), after, "{place}: no other server was here");
        redis_reads(&dir, &ours, &place);
    }
}

/// `aof-annotations no`: commands alone, which survive a kill, a rotation and a torn tail, and which Redis reads.
#[test]
fn a_log_without_our_lines_is_what_redis_would_write() {
    const RAW: &[&str] = &["--aof-annotations", "no", "--appendfsync", "always", "--save", ""];
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    let server = Server::spawn(&dir, RAW);
    let mut client = server.client();
    client.run("SET a 1");
    client.run("APPEND a 2");
    assert_eq!(newest_segment(&dir).1, commands(&["SELECT 0", "SET a 1", "APPEND a 2"]));
    fill(&mut client, 1);
    let expected = read(&mut client);
    let offset: u64 = client.info("persist_durable_offset").parse().unwrap();
    server.kill();
    redis_reads(&dir, &expected, "raw log after a kill");
    // Goes on in the same segment, and in the next one behind a rotation.
    let segment = newest_segment(&dir);
    let server = Server::spawn(&dir, RAW);
    let mut client = server.client();
    assert!(read(&mut client) == expected, "{}", difference(&expected, &read(&mut client)));
    assert!(client.info("persist_last_offset").parse::<u64>().unwrap() >= offset);
    client.run("SET b 1");
    let (path, bytes) = newest_segment(&dir);
    assert_eq!((&path, bytes.starts_with(&segment.1)), (&segment.0, true));
    assert!(bytes.ends_with(&commands(&["SET b 1"])), "{}", bytes.escape_ascii());
    assert_eq!(client.run("BGREWRITEAOF").text(), "Background append only file rewriting started");
    client.wait_for_info("aof_rewrite_in_progress", "0");
    client.run("SET c 1");
    assert_eq!(newest_segment(&dir).1, commands(&["SELECT 0", "SET c 1"]));
    let expected = read(&mut client);
    server.kill();
    redis_reads(&dir, &expected, "raw log after a rotation");
    // A torn last command is cut, and nothing else.
    let mut torn = std::fs::OpenOptions::new().append(true).open(newest_segment(&dir).0).unwrap();
    std::io::Write::write_all(&mut torn, b"*3\r\n$3\r\nSET\r\n$1\r\nd\r\n$1").unwrap();
    drop(torn);
    let server = Server::spawn(&dir, RAW);
    let mut client = server.client();
    assert!(read(&mut client) == expected, "{}", difference(&expected, &read(&mut client)));
    client.run("SET e 1");
    assert_eq!(newest_segment(&dir).1, commands(&["SELECT 0", "SET c 1", "SELECT 0", "SET e 1"]));
    // Garbage in the middle is no tail.
    server.kill();
    let (path, mut bytes) = newest_segment(&dir);
    bytes[0] = b'!';
    std::fs::write(&path, &bytes).unwrap();
    let mut server = Server::spawn(&dir, RAW);
    assert_eq!(server.wait().code(), Some(3), "{}", server.log_text());
    assert!(server.log_text().contains("the append only file, at byte 0"), "{}", server.log_text());
}

/// The directive changes between two starts: the log is rewritten in the other form, and stays ours.
#[test]
fn the_form_of_the_log_may_change_at_a_start() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    let mut expected = Dataset::new();
    let mut epoch = None;
    for (round, annotations) in ["yes", "no", "no", "yes", "no"].into_iter().enumerate() {
        let server = Server::spawn(&dir, &["--aof-annotations", annotations, "--save", ""]);
        let mut client = server.client();
        let found = read(&mut client);
        assert!(found == expected, "round {round}: {}", difference(&expected, &found));
        client.run(&format!("SET round {round}"));
        client.run(&format!("SET round:{round} 1"));
        expected = read(&mut client);
        let (_, bytes) = newest_segment(&dir);
        assert_eq!(bytes.starts_with(b"#HS1 "), annotations == "yes", "round {round}");
        assert_eq!(bytes.contains(&b'#'), annotations == "yes", "round {round}");
        if round % 2 == 0 {
            server.kill()
        } else {
            assert!(server.stop().success())
        }
        let identity = std::fs::read_to_string(dir.join("holdfast-identity.json")).unwrap();
        let now =
            identity.split("\"epoch\":").nth(1).and_then(|rest| rest.split(',').next()).unwrap().to_owned();
        assert_eq!(epoch.get_or_insert(now.clone()), &now, "round {round}: no other server has written here");
        redis_reads(&dir, &expected, &format!("round {round}"));
    }
}

/// A key of a stand-alone snapshot that has expired is left out, as by Redis; the base of a log is loaded whole, because
/// the log behind it refers to what was there.
#[test]
fn expired_keys_are_left_out_of_a_snapshot_and_kept_in_a_base() {
    /// Two keys, of which one expired in 2018.
    const FILE: &[u8] = include_bytes!("fixtures/rdb/replicator__dump-lfu.rdb");
    for (name, loaded) in [("dump.rdb", 1), ("appendonly.aof", 2)] {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("data");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join(name), FILE).unwrap();
        let server = Server::spawn(&dir, &["--save", ""]);
        let mut client = server.client();
        assert_eq!(client.run("GET key"), Reply::Bulk(None), "{name}");
        assert_eq!(client.run("GET key1"), Reply::bulk("value1"), "{name}");
        let text = server.log_text();
        assert!(text.contains(&format!("keys_loaded={loaded}")), "{name}: {text}");
        assert_eq!(text.contains("had expired and were left out"), loaded == 1, "{name}: {text}");
        // Nothing is deleted that was never loaded.
        let (_, log) = newest_segment(&dir);
        let deletes = log.windows(3).filter(|bytes| *bytes == b"DEL").count();
        assert_eq!(deletes, loaded - 1, "{name}: {}", log.escape_ascii());
        server.kill();
    }
}
