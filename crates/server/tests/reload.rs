//! Background jobs, reloads, persistence points and clients beside each other, on the real server.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::{Client, PATIENCE, Reply, Server};

fn start(args: &[&str]) -> (tempfile::TempDir, PathBuf, Server) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let server = spawn(&dir, args);
    (folder, dir, server)
}

fn spawn(dir: &Path, args: &[&str]) -> Server {
    Server::spawn(dir, &[&["--enable-debug-command", "yes", "--save", ""], args].concat())
}

fn array(items: &[Reply]) -> Reply {
    Reply::Array(Some(items.to_vec()))
}

fn error(reply: Reply) -> String {
    match reply {
        Reply::Error(text) => text,
        other => panic!("expected an error, got {other:?}"),
    }
}

/// The count of points that `directive` has had taken; none if INFO shows none.
fn points(client: &mut Client, directive: &str) -> Option<String> {
    let text = client.run("INFO").text();
    let prefix = format!("persist_points_{}:", directive.replace('-', "_"));
    text.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
}

#[test]
fn a_reload_waits_for_no_job_and_takes_nothing_from_it() {
    let (_folder, dir, server) = start(&["--appendfsync", "always"]);
    let mut client = server.client();
    assert_eq!(client.run("DEBUG POPULATE 100000 key 200"), Reply::ok());
    assert!(matches!(client.run("BGREWRITEAOF"), Reply::Simple(_)));
    let refused = "ERR a background job is running; try again when it is done";
    assert_eq!(error(client.run("DEBUG LOADAOF")), refused);
    assert_eq!(error(client.run("DEBUG RELOAD")), refused);
    client.wait_for_info("aof_rewrite_in_progress", "0");
    assert_eq!(client.info("aof_last_bgrewrite_status"), "ok");
    assert_eq!(client.run("DEBUG LOADAOF"), Reply::ok());
    assert_eq!(client.run("DBSIZE"), Reply::Int(100_000));
    server.kill();
    let server = spawn(&dir, &["--appendfsync", "always"]);
    assert_eq!(server.client().run("DBSIZE"), Reply::Int(100_000));
}

#[test]
fn without_a_log_none_is_loaded() {
    let (_folder, _dir, server) = start(&["--appendonly", "no"]);
    let mut client = server.client();
    client.run("SET key value");
    assert_eq!(error(client.run("DEBUG LOADAOF")), "ERR there is no log");
    assert_eq!(client.run("GET key"), Reply::bulk("value"));
}

#[test]
fn transactions_go_on_after_a_reload_and_watched_keys_have_changed() {
    let (_folder, _dir, server) = start(&[]);
    let (mut admin, mut watcher, mut queuer) = (server.client(), server.client(), server.client());
    admin.run("SET watched 1");
    watcher.run("WATCH watched");
    queuer.run("MULTI");
    queuer.run("SET queued 1");
    assert_eq!(admin.run("DEBUG LOADAOF"), Reply::ok());
    admin.run("SET watched 2");
    // Who watches the same key afterwards does not hide the change from who watched it before.
    admin.run("WATCH watched");

    watcher.run("MULTI");
    watcher.run("SET watched 3");
    assert_eq!(watcher.run("EXEC"), Reply::Array(None), "the key has changed");
    assert_eq!(admin.run("GET watched"), Reply::bulk("2"));

    assert_eq!(queuer.run("SET queued 2"), Reply::Simple("QUEUED".into()));
    assert_eq!(admin.run("EXISTS queued"), Reply::Int(0));
    assert_eq!(queuer.run("EXEC"), array(&[Reply::ok(), Reply::ok()]));

    // A key that is nowhere has not changed.
    watcher.run("WATCH nowhere");
    assert_eq!(admin.run("DEBUG RELOAD"), Reply::ok());
    watcher.run("MULTI");
    watcher.run("PING");
    assert_eq!(watcher.run("EXEC"), array(&[Reply::Simple("PONG".into())]));
}

#[test]
fn a_reload_changes_no_switch() {
    let (_folder, _dir, server) = start(&[]);
    let mut client = server.client();
    client.run("DEBUG SET-ACTIVE-EXPIRE 0");
    client.run("SET key value PX 1");
    let commands: u64 = client.info("total_commands_processed").parse().unwrap();
    assert_eq!(client.run("DEBUG RELOAD"), Reply::ok());
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(client.run("DBSIZE"), Reply::Int(1), "the expired key is collected by nobody");
    assert!(client.info("total_commands_processed").parse::<u64>().unwrap() > commands);
}

#[test]
fn a_point_that_fails_after_a_transaction_is_its_answer_and_is_taken_later() {
    let args = ["--appendonly", "no", "--persist-after-exec", "yes"];
    let (folder, dir, server) = start(&args);
    let (mut client, mut other) = (server.client(), server.client());
    let away = folder.path().join("away");
    std::fs::rename(&dir, &away).unwrap();

    let mut bytes = Vec::new();
    for words in ["MULTI", "SET a 1", "EXEC", "GET a"] {
        Client::encode(&words.split(' ').collect::<Vec<_>>(), &mut bytes);
    }
    client.send_bytes(&bytes).unwrap();
    assert_eq!(client.read_reply().unwrap(), Reply::ok());
    assert_eq!(client.read_reply().unwrap(), Reply::Simple("QUEUED".into()));
    let text = error(client.read_reply().unwrap());
    assert!(text.starts_with("MISCONF persist-after-exec: it was executed, but is not durable"), "{text}");
    assert_eq!(client.read_reply().unwrap(), Reply::bulk("1"), "it was executed");
    assert_eq!(points(&mut client, "persist-after-exec"), None);
    assert_eq!(client.info("persist_durable_offset"), "0");
    // Another one is refused as well: a point that failed is not a young one.
    client.run("MULTI");
    client.run("SET a 2");
    assert!(error(client.run("EXEC")).starts_with("MISCONF "));
    // Reads, and writes that no point was promised for, go on.
    assert_eq!(other.run("SET b 1"), Reply::ok());

    std::fs::rename(&away, &dir).unwrap();
    // It stays wanted: nobody asks again.
    let deadline = Instant::now() + PATIENCE;
    while points(&mut client, "persist-after-exec").is_none() {
        assert!(Instant::now() < deadline, "no point is taken");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(client.info("persist_durable_offset"), client.info("persist_last_offset"));
    client.run("MULTI");
    client.run("SET a 3");
    assert_eq!(client.run("EXEC"), array(&[Reply::ok()]));
    server.kill();
    let server = spawn(&dir, &args);
    assert_eq!(server.client().run("MGET a b"), array(&[Reply::bulk("3"), Reply::bulk("1")]));
}

#[test]
fn what_a_point_is_promised_before_is_refused_where_it_fails() {
    let args = ["--appendonly", "no", "--persist-before-exec", "yes", "--persist-before-wait", "yes"];
    let (folder, dir, server) = start(&args);
    let mut client = server.client();
    client.run("SET a 1");
    let away = folder.path().join("away");
    std::fs::rename(&dir, &away).unwrap();
    client.run("MULTI");
    client.run("SET b 1");
    let text = error(client.run("EXEC"));
    let expected =
        "EXECABORT Transaction discarded because of: MISCONF persist-before-exec: nothing was executed";
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(client.run("EXISTS b"), Reply::Int(0));
    assert_eq!(error(client.run("EXEC")), "ERR EXEC without MULTI", "the transaction is over");
    let text = error(client.run("WAIT 1 10"));
    assert!(text.starts_with("MISCONF persist-before-wait: what was written before"), "{text}");
    std::fs::rename(&away, &dir).unwrap();
    assert_eq!(client.run("WAIT 1 10"), Reply::Int(0));
    assert_eq!(points(&mut client, "persist-before-wait").as_deref(), Some("1"));
    client.run("MULTI");
    client.run("SET b 1");
    assert_eq!(client.run("EXEC"), array(&[Reply::ok()]));
}

#[test]
fn a_wait_for_nothing_takes_the_points_around_it() {
    for directive in ["persist-before-wait", "persist-after-wait"] {
        let (_folder, _dir, server) = start(&["--appendonly", "yes", &format!("--{directive}"), "yes"]);
        let mut client = server.client();
        let answers =
            [("WAIT 0 0", Reply::Int(0)), ("WAITAOF 0 0 0", array(&[Reply::Int(1), Reply::Int(0)]))];
        for (number, (words, answer)) in answers.into_iter().enumerate() {
            client.run("SET key value");
            let reply = client.run(words);
            // The point behind it is taken when its answer has been made.
            assert!(reply == answer || directive == "persist-after-wait", "{directive}, {words}: {reply:?}");
            assert_eq!(client.info("persist_unsynced_bytes"), "0", "{directive}, {words}");
            assert_eq!(
                points(&mut client, directive),
                Some((number + 1).to_string()),
                "{directive}, {words}"
            );
        }
    }
}

#[test]
fn an_answer_of_a_wait_depends_on_the_point_behind_it() {
    let (folder, dir, server) = start(&["--appendonly", "no", "--persist-after-wait", "yes"]);
    let (mut client, mut admin) = (server.client(), server.client());
    client.run("SET a 1");
    let away = folder.path().join("away");
    std::fs::rename(&dir, &away).unwrap();
    let refused = "MISCONF persist-after-wait: what was written before is not durable";
    for words in ["WAIT 0 0", "WAIT 1 10", "WAITAOF 0 0 0", "WAITAOF 0 1 10"] {
        let text = error(client.run(words));
        assert!(text.starts_with(refused), "{words}: {text}");
    }
    // A wait that another client ends is one as well.
    let id = client.run("CLIENT ID").int();
    client.send_bytes(b"WAIT 1 0\r\n").unwrap();
    admin.wait_for_info("blocked_clients", "1");
    assert_eq!(admin.run(&format!("CLIENT UNBLOCK {id}")), Reply::Int(1));
    let text = error(client.read_reply().unwrap());
    assert!(text.starts_with(refused), "{text}");
    std::fs::rename(&away, &dir).unwrap();
    assert_eq!(client.run("WAIT 0 0"), Reply::Int(0));
    assert_eq!(client.info("persist_durable_offset"), client.info("persist_last_offset"));
}

#[test]
fn nothing_is_begun_or_removed_behind_a_stop() {
    let (_folder, dir, mut server) = start(&["--appendonly", "yes"]);
    let mut client = server.client();
    client.run("SET key value");
    client.send_bytes(b"BGREWRITEAOF\r\nSHUTDOWN\r\n").unwrap();
    assert!(server.wait().success());
    let files: Vec<_> = std::fs::read_dir(dir.join("appendonlydir"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(files.iter().filter(|name| name.ends_with(".incr.aof")).count(), 1, "{files:?}");

    // The key expires, and the periodic work is due, while the server sleeps; then it is stopped.
    let mut server = spawn(&dir, &["--appendonly", "yes"]);
    let (mut client, mut other) = (server.client(), server.client());
    client.send_bytes(b"SET key value PX 50\r\nDEBUG SLEEP 1\r\n").unwrap();
    other.socket().set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    // Nobody is answered while it sleeps.
    while other.try_command(&["PING"]).is_ok() {}
    other.send_bytes(b"SHUTDOWN\r\n").unwrap();
    assert!(server.wait().success());
    let identity = std::fs::read_to_string(dir.join("holdfast-identity.json")).unwrap();
    assert!(identity.contains("\"cleanShutdown\":true"), "{identity}");
}

#[test]
fn a_point_is_one_sync() {
    let (_folder, _dir, server) = start(&[
        "--appendonly",
        "yes",
        "--appendfsync",
        "no",
        "--persist-before-wait",
        "yes",
        "--persist-after-exec",
        "yes",
    ]);
    let mut client = server.client();
    let syncs = |client: &mut Client| client.info("persist_syncs").parse::<u64>().unwrap();
    let before = syncs(&mut client);
    client.run("MULTI");
    client.run("SET a 1");
    assert_eq!(client.run("EXEC"), array(&[Reply::ok()]));
    assert_eq!(syncs(&mut client), before + 1);
    client.run("SET a 2");
    client.run("WAIT 0 0");
    assert_eq!(syncs(&mut client), before + 2);
    client.run("WAIT 0 0");
    assert_eq!(syncs(&mut client), before + 2, "nothing has changed");
    assert_eq!(points(&mut client, "persist-before-wait").as_deref(), Some("2"));
}
