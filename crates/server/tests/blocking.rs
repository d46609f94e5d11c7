//! Commands that wait for keys, on the real server.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod support;

use std::path::Path;
use std::time::Instant;

use support::{Client, Reply, Server};

const ARGS: [&str; 4] = ["--enable-debug-command", "yes", "--appendfsync", "always"];

fn start() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = spawn(folder.path());
    (folder, server)
}

fn spawn(folder: &Path) -> Server {
    Server::spawn(&folder.join("data"), &ARGS)
}

/// Waits until so many clients are blocked.
fn wait_for_blocked(admin: &mut Client, count: usize) {
    admin.wait_for_info("blocked_clients", &count.to_string());
}

fn send(client: &mut Client, command: &str) {
    let mut bytes = Vec::new();
    Client::encode(&command.split(' ').collect::<Vec<_>>(), &mut bytes);
    client.send_bytes(&bytes).unwrap();
}

fn bulks(words: &[&str]) -> Reply {
    Reply::Array(Some(words.iter().map(|word| Reply::Bulk(Some(word.as_bytes().to_vec()))).collect()))
}

#[test]
fn clients_are_served_in_the_order_in_which_they_began() {
    let (_folder, server) = start();
    let mut admin = server.client();
    let mut waiting: Vec<Client> = (0..5).map(|_| server.client()).collect();
    for (number, client) in waiting.iter_mut().enumerate() {
        send(client, "BLPOP other queue 0");
        wait_for_blocked(&mut admin, number + 1);
    }
    assert_eq!(admin.run("RPUSH queue a b c"), Reply::Int(3));
    for (client, element) in waiting.iter_mut().zip(["a", "b", "c"]) {
        assert_eq!(client.read_reply().unwrap(), bulks(&["queue", element]));
    }
    wait_for_blocked(&mut admin, 2);
    assert_eq!(admin.run("EXISTS queue"), Reply::Int(0));
    assert_eq!(admin.run("RPUSH other d"), Reply::Int(1));
    assert_eq!(waiting[3].read_reply().unwrap(), bulks(&["other", "d"]));
}

/// However long the turn has lasted by then.
#[test]
fn a_timeout_counts_from_its_command() {
    let (_folder, server) = start();
    let mut client = server.client();
    let mut bytes = Vec::new();
    let elements: Vec<String> = (0..50_000).map(|number| format!("{:x}", number * 7919 % 50_021)).collect();
    let push: Vec<&str> = ["RPUSH", "list"].into_iter().chain(elements.iter().map(String::as_str)).collect();
    assert_eq!(client.command(&push), Reply::Int(50_000));
    // Commands that take some time, and nothing that looks at the clock between them and the wait.
    let slow = "SORT list ALPHA LIMIT 0 1";
    let took = (0..3)
        .map(|_| {
            let started = Instant::now();
            client.run(slow);
            started.elapsed()
        })
        .min()
        .unwrap();
    Client::encode(&slow.split(' ').collect::<Vec<_>>(), &mut bytes);
    Client::encode(&["BLPOP", "queue", &format!("{:.6}", took.as_secs_f64())], &mut bytes);
    let started = Instant::now();
    client.send_bytes(&bytes).unwrap();
    client.read_reply().unwrap();
    assert_eq!(client.read_reply().unwrap(), Reply::Array(None));
    assert!(
        started.elapsed() > took + took / 2,
        "{:?} for a wait of {took:?} behind as much",
        started.elapsed()
    );
}

#[test]
fn a_wait_for_the_log_that_is_ended_says_how_far_it_is() {
    let (_folder, server) = start();
    let (mut admin, mut client) = (server.client(), server.client());
    let id = client.run("CLIENT ID").int();
    assert_eq!(client.run("SET a 1"), Reply::ok());
    send(&mut client, "WAITAOF 1 1 0");
    wait_for_blocked(&mut admin, 1);
    assert_eq!(admin.run(&format!("CLIENT UNBLOCK {id}")), Reply::Int(1));
    assert_eq!(client.read_reply().unwrap(), Reply::Array(Some(vec![Reply::Int(1), Reply::Int(0)])));
}

#[test]
fn a_wait_ends_with_its_time_its_client_or_by_command() {
    let (_folder, server) = start();
    let mut admin = server.client();
    let mut patient = server.client();
    assert_eq!(patient.run("BLPOP queue 0.02"), Reply::Array(None));
    let id = patient.run("CLIENT ID").int();
    send(&mut patient, "BZPOPMIN z 0");
    wait_for_blocked(&mut admin, 1);
    assert_eq!(admin.run(&format!("CLIENT UNBLOCK {id} ERROR")), Reply::Int(1));
    assert!(matches!(patient.read_reply().unwrap(), Reply::Error(error) if error.starts_with("UNBLOCKED")));
    assert_eq!(admin.run(&format!("CLIENT UNBLOCK {id}")), Reply::Int(0), "it waits no more");
    send(&mut patient, "BLMOVE queue target LEFT LEFT 0");
    wait_for_blocked(&mut admin, 1);
    drop(patient);
    wait_for_blocked(&mut admin, 0);
    assert_eq!(admin.run("RPUSH queue kept"), Reply::Int(1));
    assert_eq!(admin.run("LLEN queue"), Reply::Int(1), "nobody takes what nobody waits for");
}

#[test]
fn one_that_is_served_may_serve_the_next() {
    let (_folder, server) = start();
    let (mut admin, mut first, mut second) = (server.client(), server.client(), server.client());
    send(&mut first, "BLPOP b 0");
    wait_for_blocked(&mut admin, 1);
    send(&mut second, "BLMOVE a b LEFT RIGHT 0");
    wait_for_blocked(&mut admin, 2);
    admin.run("SET a text");
    admin.run("ZADD b 1 member");
    wait_for_blocked(&mut admin, 2);
    admin.run("DEL a b");
    // All at once, so that nobody is served half-way.
    for command in ["MULTI", "RPUSH a x", "RPUSH a y", "EXEC"] {
        admin.run(command);
    }
    assert_eq!(second.read_reply().unwrap(), Reply::Bulk(Some(b"x".to_vec())));
    assert_eq!(first.read_reply().unwrap(), bulks(&["b", "x"]));
    assert_eq!(admin.run("LRANGE a 0 -1"), bulks(&["y"]));
}

#[test]
fn what_was_taken_is_gone_after_a_restart_too() {
    let (folder, server) = start();
    let (mut admin, mut client) = (server.client(), server.client());
    send(&mut client, "BLMPOP 0 2 a b LEFT COUNT 2");
    wait_for_blocked(&mut admin, 1);
    admin.run("RPUSH b 1 2 3");
    let popped = Reply::Array(Some(vec![Reply::Bulk(Some(b"b".to_vec())), bulks(&["1", "2"])]));
    assert_eq!(client.read_reply().unwrap(), popped);
    send(&mut client, "BZPOPMAX z 0");
    wait_for_blocked(&mut admin, 1);
    assert_eq!(admin.run("DEBUG RELOAD"), Reply::ok());
    wait_for_blocked(&mut admin, 1);
    admin.run("ZADD z 1 one 2 two");
    assert_eq!(client.read_reply().unwrap(), bulks(&["z", "two", "2"]));
    server.kill();
    let server = spawn(folder.path());
    let mut admin = server.client();
    assert_eq!(admin.run("LRANGE b 0 -1"), bulks(&["3"]));
    assert_eq!(admin.run("ZRANGE z 0 -1"), bulks(&["one"]));
}

/// Lets a client wait, executes the changes in one transaction, and returns what the client is answered.
fn serve_at_once(admin: &mut Client, waiting: &mut Client, wait: &str, changes: &[&str]) -> Reply {
    send(waiting, wait);
    wait_for_blocked(admin, 1);
    run_at_once(admin, changes);
    waiting.read_reply().unwrap()
}

fn run_at_once(admin: &mut Client, changes: &[&str]) {
    admin.run("MULTI");
    for change in changes {
        assert_eq!(admin.run(change), Reply::Simple("QUEUED".into()), "{change}");
    }
    for reply in admin.run("EXEC").items() {
        assert!(!matches!(reply, Reply::Error(_)), "{changes:?}: {reply:?}");
    }
}

/// Redis serves a client from the key that became ready first (<https://redis.io/docs/latest/commands/blpop/>, "What key is
/// served first?"), whatever the order of the arguments.
#[test]
fn the_key_that_became_ready_first_is_served() {
    let (folder, server) = start();
    let (mut admin, mut client) = (server.client(), server.client());
    let mut check = |wait: &str, changes: &[&str], expected: Reply, left: &[&str]| {
        admin.run("FLUSHALL");
        assert_eq!(
            serve_at_once(&mut admin, &mut client, wait, changes),
            expected,
            "{wait} after {changes:?}"
        );
        let mut keys: Vec<String> = admin.run("KEYS *").items().iter().map(Reply::text).collect();
        keys.sort();
        assert_eq!(keys, left, "{wait} after {changes:?}");
    };
    let nested = |key: &str, inner: Reply| Reply::Array(Some(vec![Reply::bulk(key), inner]));
    let pairs = |words: &[&str]| Reply::Array(Some(vec![bulks(words)]));

    let lists = ["RPUSH b 1", "RPUSH a 2"];
    check("BLPOP a b 0", &lists, bulks(&["b", "1"]), &["a"]);
    check("BRPOP a b 0", &lists, bulks(&["b", "1"]), &["a"]);
    check("BLMPOP 0 2 a b LEFT", &lists, nested("b", bulks(&["1"])), &["a"]);
    check("BLMPOP 0 2 a b RIGHT COUNT 5", &lists, nested("b", bulks(&["1"])), &["a"]);
    check("BLMOVE b t LEFT LEFT 0", &lists, Reply::bulk("1"), &["a", "t"]);
    check("BRPOPLPUSH b t 0", &lists, Reply::bulk("1"), &["a", "t"]);
    let sets = ["ZADD b 1 x", "ZADD a 2 y"];
    check("BZPOPMIN a b 0", &sets, bulks(&["b", "x", "1"]), &["a"]);
    check("BZPOPMAX a b 0", &sets, bulks(&["b", "x", "1"]), &["a"]);
    check("BZMPOP 0 2 a b MIN", &sets, nested("b", pairs(&["x", "1"])), &["a"]);
    check("BZMPOP 0 2 a b MAX COUNT 5", &sets, nested("b", pairs(&["x", "1"])), &["a"]);

    // Emptied and filled again, a key keeps its turn; one that is empty at the end is passed over.
    let again = ["RPUSH a 1", "DEL a", "RPUSH b 2", "RPUSH a 3"];
    check("BLPOP b a 0", &again, bulks(&["a", "3"]), &["b"]);
    check("BLPOP a b 0", &["RPUSH a 1", "RPUSH b 2", "LPOP a"], bulks(&["b", "2"]), &[]);
    // Another type makes no key ready.
    let other = ["SET a text", "RPUSH b 1", "DEL a", "RPUSH a 2"];
    check("BLPOP a b 0", &other, bulks(&["b", "1"]), &["a"]);
    let other = ["RPUSH a 1", "ZADD b 1 x", "DEL a", "ZADD a 2 y"];
    check("BZPOPMIN a b 0", &other, bulks(&["b", "x", "1"]), &["a"]);
    // An element more makes a key no more ready.
    check("BLPOP a b 0", &["RPUSH b 1", "RPUSH a 2", "RPUSH b 3"], bulks(&["b", "1"]), &["a", "b"]);

    // The last one is in the log as it happened.
    drop(admin);
    server.kill();
    let server = spawn(folder.path());
    let mut admin = server.client();
    assert_eq!(admin.run("LRANGE a 0 -1"), bulks(&["2"]));
    assert_eq!(admin.run("LRANGE b 0 -1"), bulks(&["3"]));
}

#[test]
fn whatever_brings_a_value_makes_a_key_ready() {
    let (_folder, server) = start();
    let (mut admin, mut client) = (server.client(), server.client());
    let mut check = |prepare: &[&str], changes: &[&str], expected: &[&str]| {
        admin.run("FLUSHALL");
        for command in prepare {
            admin.run(command);
        }
        let reply = serve_at_once(&mut admin, &mut client, "BLPOP a b 0", changes);
        assert_eq!(reply, bulks(expected), "{changes:?}");
    };
    check(&["RPUSH x 1"], &["RENAME x b", "RPUSH a 2"], &["b", "1"]);
    check(&["RPUSH x 1"], &["COPY x b", "RPUSH a 2"], &["b", "1"]);
    check(&["RPUSH x 1"], &["SORT x STORE b", "RPUSH a 2"], &["b", "1"]);
    check(&["RPUSH x 1"], &["LMOVE x b LEFT LEFT", "RPUSH a 2"], &["b", "1"]);
    let others = ["SELECT 1", "RPUSH b 1", "SELECT 0"];
    check(&others, &["SELECT 1", "MOVE b 0", "SELECT 0", "RPUSH a 2"], &["b", "1"]);
    check(&others, &["SWAPDB 0 1", "RPUSH a 2"], &["b", "1"]);
    check(&[], &["SWAPDB 0 1", "RPUSH b 1", "RPUSH a 2"], &["b", "1"]);
    // In the place of another value too.
    check(&["RPUSH x 1"], &["SET b text", "SORT x STORE b", "RPUSH a 2"], &["b", "1"]);
    check(&["RPUSH x 1"], &["SET b text", "COPY x b REPLACE", "RPUSH a 2"], &["b", "1"]);

    admin.run("FLUSHALL");
    admin.run("RPUSH x 1");
    let Reply::Bulk(Some(payload)) = admin.run("DUMP x") else { panic!("a payload") };
    for prepare in ["DEL b", "SET b text"] {
        send(&mut client, "BLPOP a b 0");
        wait_for_blocked(&mut admin, 1);
        admin.run(prepare);
        admin.run("MULTI");
        admin.command(&[&b"RESTORE"[..], b"b", b"0", &payload, b"REPLACE"]);
        admin.run("RPUSH a 2");
        admin.run("EXEC");
        assert_eq!(client.read_reply().unwrap(), bulks(&["b", "1"]));
        admin.run("DEL a");
    }
}

#[test]
fn clients_that_wait_for_another_type_keep_their_places() {
    let (_folder, server) = start();
    let mut admin = server.client();
    let mut lists: Vec<Client> = (0..2).map(|_| server.client()).collect();
    let mut sets: Vec<Client> = (0..2).map(|_| server.client()).collect();
    for number in 0..2 {
        send(&mut lists[number], "BLPOP k 0");
        wait_for_blocked(&mut admin, 2 * number + 1);
        send(&mut sets[number], "BZPOPMIN k 0");
        wait_for_blocked(&mut admin, 2 * number + 2);
    }
    admin.run("SET k text");
    admin.run("DEL k");
    admin.run("ZADD k 1 x");
    assert_eq!(sets[0].read_reply().unwrap(), bulks(&["k", "x", "1"]));
    admin.run("RPUSH k 1 2 3");
    for (client, element) in lists.iter_mut().zip(["1", "2"]) {
        assert_eq!(client.read_reply().unwrap(), bulks(&["k", element]));
    }
    wait_for_blocked(&mut admin, 1);
    assert_eq!(admin.run("LRANGE k 0 -1"), bulks(&["3"]));
}

#[test]
fn a_chain_of_moves_ends_behind_the_keys_that_were_ready_before() {
    let (_folder, server) = start();
    let mut admin = server.client();
    let [mut first, mut second, mut last] = std::array::from_fn(|_| server.client());
    send(&mut first, "BLMOVE a b LEFT RIGHT 0");
    wait_for_blocked(&mut admin, 1);
    send(&mut second, "BLMOVE b c LEFT RIGHT 0");
    wait_for_blocked(&mut admin, 2);
    send(&mut last, "BLPOP c d 0");
    wait_for_blocked(&mut admin, 3);
    run_at_once(&mut admin, &["RPUSH a x", "RPUSH d y"]);
    assert_eq!(first.read_reply().unwrap(), Reply::bulk("x"));
    assert_eq!(second.read_reply().unwrap(), Reply::bulk("x"));
    assert_eq!(last.read_reply().unwrap(), bulks(&["d", "y"]), "it was ready before the chain came to c");
    assert_eq!(admin.run("LRANGE c 0 -1"), bulks(&["x"]));
}

#[test]
fn who_is_unblocked_by_a_transaction_is_not_served_by_it() {
    let (_folder, server) = start();
    let (mut admin, mut client) = (server.client(), server.client());
    let id = client.run("CLIENT ID").int();
    send(&mut client, "BLPOP k 0");
    wait_for_blocked(&mut admin, 1);
    admin.run("MULTI");
    for _ in 0..2 {
        admin.run(&format!("CLIENT UNBLOCK {id} ERROR"));
    }
    admin.run("RPUSH k v");
    let replies = [1, 0, 1].map(Reply::Int);
    assert_eq!(admin.run("EXEC").items(), replies, "the second one finds nobody who waits");
    assert!(matches!(client.read_reply().unwrap(), Reply::Error(error) if error.starts_with("UNBLOCKED")));
    assert_eq!(admin.run("LLEN k"), Reply::Int(1));
}
