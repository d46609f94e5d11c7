//! What several clients see of each other, on the real server: pauses, limits, connections that end.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use support::{Client, PATIENCE, Reply, Server, free_port};

fn cache(args: &[&str]) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let args: Vec<&str> = ["--persistent", "no"].iter().chain(args).copied().collect();
    let server = Server::spawn(&folder.path().join("data"), &args);
    (folder, server)
}

fn send(client: &mut Client, words: &str) {
    let mut bytes = Vec::new();
    Client::encode(&words.split(' ').collect::<Vec<_>>(), &mut bytes);
    client.send_bytes(&bytes).unwrap();
}

/// CLIENT PAUSE (<https://redis.io/docs/latest/commands/client-pause/>): who is held back is counted as blocked.
#[test]
fn a_pause_holds_writes_and_expiry_back_until_it_ends() {
    let (_folder, server) = cache(&["--timeout", "1"]);
    let mut admin = server.client();
    let mut writer = server.client();
    admin.run("SET short lived PX 1");
    admin.wait_for_info("expired_keys", "1");
    admin.run("SET short lived PX 50");
    assert_eq!(admin.run("CLIENT PAUSE 60000 WRITE"), Reply::ok());
    send(&mut writer, "SET key written");
    admin.wait_for_info("blocked_clients", "1");
    assert_eq!(admin.run("GET key"), Reply::Bulk(None), "reads go on, and the write waits");
    // Longer than `timeout` and than the key lives.
    std::thread::sleep(Duration::from_millis(1500));
    assert!(admin.try_command(&["PING"]).is_err(), "`timeout` does not close a client that only waits");
    let mut admin = server.client();
    assert_eq!(admin.info("expired_keys"), "1", "a key has been removed in a pause");
    assert_eq!(admin.run("CLIENT UNPAUSE"), Reply::ok());
    assert_eq!(writer.read_reply().unwrap(), Reply::ok());
    assert_eq!(admin.run("GET key"), Reply::bulk("written"));
    assert_eq!(admin.info("blocked_clients"), "0");
    admin.wait_for_info("expired_keys", "2");

    assert_eq!(admin.run("CLIENT PAUSE 100"), Reply::ok());
    let began = Instant::now();
    assert_eq!(admin.run("GET key"), Reply::bulk("written"), "a pause ends by itself");
    assert!(began.elapsed().as_millis() >= 90, "the pause of 100 ms took {:?}", began.elapsed());
}

#[test]
fn one_client_too_many_is_told_so() {
    let (_folder, server) = cache(&["--maxclients", "2"]);
    let mut first = server.client();
    let second = server.client();
    let mut third = Client::connect(server.port).unwrap();
    assert_eq!(third.read_reply().unwrap(), Reply::Error("ERR max number of clients reached".into()));
    assert!(third.read_reply().is_err(), "the connection stays open");
    drop(second);
    first.wait_for_info("connected_clients", "1");
    let mut fourth = Client::connect(server.port).unwrap();
    assert_eq!(fourth.run("PING"), Reply::Simple("PONG".into()));
}

/// What has arrived is carried out before the end is noticed, as by Redis, and answered as far as somebody listens.
#[test]
fn commands_before_the_end_of_a_connection_are_carried_out() {
    let (_folder, server) = cache(&[]);
    let mut client = server.client();
    let mut bytes = Vec::new();
    for number in 0..100 {
        Client::encode(&["INCRBY", "sum", &number.to_string()], &mut bytes);
    }
    let mut ending = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    ending.set_read_timeout(Some(PATIENCE)).unwrap();
    // Stopped meanwhile, so that it learns of the bytes and of the end at once.
    server.signal("STOP");
    ending.write_all(&bytes).unwrap();
    ending.shutdown(Shutdown::Write).unwrap();
    server.signal("CONT");
    let mut answers = String::new();
    ending.read_to_string(&mut answers).unwrap();
    assert!(answers.ends_with(":4950\r\n"), "{answers}");
    client.wait_for_info("connected_clients", "1");
    assert_eq!(client.run("GET sum"), Reply::bulk("4950"));
}

#[test]
fn a_killed_client_is_cut_off_and_no_other() {
    let (_folder, server) = cache(&[]);
    let (mut admin, mut victim, mut other) = (server.client(), server.client(), server.client());
    let id = victim.run("CLIENT ID").int();
    assert_eq!(admin.run(&format!("CLIENT KILL ID {id}")), Reply::Int(1));
    assert!(victim.try_command(&["PING"]).is_err(), "the killed client is answered");
    assert_eq!(other.run("PING"), Reply::Simple("PONG".into()));
    assert_eq!(admin.run(&format!("CLIENT KILL ID {id}")), Reply::Int(0));
}

/// However few files the system lets a process open, clients cannot take all of them: the log is still rotated.
#[test]
fn clients_leave_descriptors_for_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let log = folder.path().join("server.log");
    let file = std::fs::File::create(&log).unwrap();
    let port = free_port();
    let script = format!(
        "ulimit -n 100; exec {} --port {port} --bind 127.0.0.1 --health-port 0 --control-port 0 --maxclients 200 --dir {}",
        env!("CARGO_BIN_EXE_holdfast-server"),
        dir.display()
    );
    let child = Command::new("sh").args(["-c", &script]).stdout(file).spawn().unwrap();
    let server = Server { child, port, log };
    let mut admin = server.client();
    // All of them where this user may raise the limit, else what fits.
    let room = usize::try_from(admin.run("CONFIG GET maxclients").items()[1].text().parse::<i64>().unwrap())
        .unwrap();
    assert!(room == 200 || (20..=100).contains(&room), "{room}:\n{}", server.log_text());
    assert_eq!(
        room < 200,
        server.log_text().contains("maxclients has been reduced"),
        "{}",
        server.log_text()
    );
    let mut crowd: Vec<Client> = (1..room).map(|_| server.client()).collect();
    let mut refused = Client::connect(port).unwrap();
    assert_eq!(refused.read_reply().unwrap(), Reply::Error("ERR max number of clients reached".into()));
    assert_eq!(crowd[room - 2].run("SET a 1"), Reply::ok());
    for _ in 0..3 {
        admin.run("BGREWRITEAOF");
        admin.wait_for_info("aof_rewrite_in_progress", "0");
        assert_eq!(admin.info("aof_last_bgrewrite_status"), "ok", "{}", server.log_text());
    }
    let reply = admin.run("CONFIG SET maxclients 4000000000");
    assert!(
        matches!(&reply, Reply::Error(text) if text.contains("not able to handle the specified number of clients")),
        "{reply:?}"
    );
}

/// The poll tells once of those who wait; whoever could not be accepted then is served as soon as it can be.
#[test]
fn who_could_not_be_accepted_is_served_later() {
    let (_folder, server) = cache(&[]);
    let _ready = server.client();
    let limit_open_files = |soft: &str| {
        let pid = server.child.id().to_string();
        let limit = format!("--nofile={soft}:");
        assert!(Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
    };
    let complaints = || server.log_text().matches("failed to accept a connection").count();
    limit_open_files("4");
    let mut late = Client::connect(server.port).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while complaints() == 0 {
        assert!(Instant::now() < deadline, "no complaint:\n{}", server.log_text());
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(complaints(), 1, "one trouble is told once:\n{}", server.log_text());
    limit_open_files("1024");
    assert_eq!(late.run("PING"), Reply::Simple("PONG".into()));
}
