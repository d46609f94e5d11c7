//! Commands that wait for keys, on the real server.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod support;

use std::path::Path;

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
