//! What several clients see of each other, on the real server: pauses, limits, connections that end.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod support;

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::{Client, PATIENCE, Reply, Server, free_port};

fn cache(args: &[&str]) -> (tempfile::TempDir, Server) {
    cache_with(args, &[])
}

fn cache_with(args: &[&str], environment: &[(&str, &str)]) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let args: Vec<&str> = ["--persistent", "no"].iter().chain(args).copied().collect();
    let server = Server::spawn_with(&folder.path().join("data"), &args, environment);
    (folder, server)
}

/// I/O threads have work also where it brings nothing, as on a machine that runs other tests.
const ALWAYS_SHARE: &[(&str, &str)] = &[("HOLDFAST_FAULT", "always-share")];

fn send(client: &mut Client, words: &str) {
    let mut bytes = Vec::new();
    Client::encode(&words.split(' ').collect::<Vec<_>>(), &mut bytes);
    client.send_bytes(&bytes).unwrap();
}

/// A pause promises that nothing changes: RANDOMKEY passes over expired keys as long as there may be others.
#[test]
fn a_random_key_removes_nothing_in_a_pause() {
    let (_folder, server) = cache(&["--enable-debug-command", "yes"]);
    let mut admin = server.client();
    admin.run("DEBUG SET-ACTIVE-EXPIRE 0");
    admin.run("SET short lived PX 1");
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(admin.run("CLIENT PAUSE 60000 WRITE"), Reply::ok());
    assert_eq!(admin.run("RANDOMKEY"), Reply::bulk("short"), "there is no other");
    assert_eq!(admin.run("DBSIZE"), Reply::Int(1));
    assert_eq!(admin.run("CLIENT UNPAUSE"), Reply::ok());
    assert_eq!(admin.run("RANDOMKEY"), Reply::Bulk(None));
    assert_eq!(admin.run("DBSIZE"), Reply::Int(0));

    admin.run("SET long lived");
    admin.run("SET short lived PX 1");
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(admin.run("CLIENT PAUSE 60000 WRITE"), Reply::ok());
    for _ in 0..20 {
        assert_eq!(admin.run("RANDOMKEY"), Reply::bulk("long"));
    }
    assert_eq!(admin.run("DBSIZE"), Reply::Int(2));
    assert_eq!(admin.info("expired_keys"), "1", "a key has been removed in a pause");
}

/// DEBUG is not held back by a pause, and writes: an expired key must not be there twice.
#[test]
fn what_writes_in_a_pause_takes_the_place_of_expired_keys() {
    let (_folder, server) = cache(&["--enable-debug-command", "yes"]);
    let mut admin = server.client();
    for command in ["DEBUG POPULATE 1", "EXEC"] {
        admin.run("DEBUG SET-ACTIVE-EXPIRE 0");
        admin.run("SET key:0 x PX 1");
        std::thread::sleep(Duration::from_millis(5));
        if command == "EXEC" {
            admin.run("MULTI");
            admin.run("DEBUG POPULATE 1");
        }
        let mut other = server.client();
        assert_eq!(other.run("CLIENT PAUSE 60000 WRITE"), Reply::ok());
        assert!(!matches!(admin.run(command), Reply::Error(_)));
        assert_eq!(other.run("CLIENT UNPAUSE"), Reply::ok());
        admin.run("DEBUG SET-ACTIVE-EXPIRE 1");
        assert_eq!(admin.run("GET key:0"), Reply::bulk("value:0"));
        std::thread::sleep(Duration::from_millis(250));
        assert_eq!(admin.run("GET key:0"), Reply::bulk("value:0"));
        assert_eq!(admin.run("DBSIZE"), Reply::Int(1));
        admin.run("FLUSHALL");
    }
}

/// Nobody waits for a command that is refused anyway.
#[test]
fn a_stranger_is_refused_in_a_pause_as_well() {
    let (_folder, server, mut admin) = guarded_cache();
    assert_eq!(admin.run("CLIENT PAUSE 60000 ALL"), Reply::ok());
    let mut stranger = Client::connect(server.port).unwrap();
    assert!(matches!(stranger.run("GET a"), Reply::Error(text) if text.starts_with("NOAUTH")));
}

/// Whoever was there when the password went may do what those may who come now.
#[test]
fn without_a_password_nobody_is_a_stranger() {
    let (_folder, server, mut admin) = guarded_cache();
    let mut early = Client::connect(server.port).unwrap();
    assert!(matches!(early.run("GET a"), Reply::Error(text) if text.starts_with("NOAUTH")));
    assert_eq!(admin.run("CONFIG SET requirepass "), Reply::ok());
    assert_eq!(early.run("MSET a 1 b 2 c 3 d 4 e 5 f 6"), Reply::ok());
    let long = "x".repeat(100_000);
    assert_eq!(early.run(&format!("SET long {long}")), Reply::ok());
    assert_eq!(early.run("GET long"), Reply::bulk(&long));
}

/// A transaction that names a client twice kills it once.
#[test]
fn a_client_is_killed_once() {
    let (_folder, server) = cache(&[]);
    let (mut admin, mut victim) = (server.client(), server.client());
    let id = victim.run("CLIENT ID").int();
    admin.run("MULTI");
    admin.run(&format!("CLIENT KILL ID {id}"));
    admin.run(&format!("CLIENT KILL ID {id}"));
    assert_eq!(admin.run("EXEC"), Reply::Array(Some(vec![Reply::Int(1), Reply::Int(0)])));
}

/// It sends nothing, and waits for what others do.
#[test]
fn timeout_closes_no_monitor() {
    let (_folder, server) = cache(&["--timeout", "1"]);
    let mut monitor = server.client();
    assert_eq!(monitor.run("MONITOR"), Reply::ok());
    std::thread::sleep(Duration::from_millis(2500));
    let mut admin = server.client();
    admin.run("SET a 1");
    while !matches!(monitor.read_reply().unwrap(), Reply::Simple(line) if line.contains("\"a\"")) {}
}

/// The memory of a long request goes with it, although its client goes on.
#[test]
fn the_room_of_a_long_request_is_given_back() {
    let (_folder, server) = cache(&[]);
    let (mut admin, mut sender) = (server.client(), server.client());
    let id = sender.run("CLIENT ID").int();
    let mut bytes = Vec::new();
    Client::encode(&[&b"SET"[..], b"key", &[b'v'; 8 << 20]], &mut bytes);
    bytes.extend_from_slice(b"*1\r\n$4\r\nPI");
    sender.send_bytes(&bytes).unwrap();
    assert_eq!(sender.read_reply().unwrap(), Reply::ok());
    let line = admin.run(&format!("CLIENT LIST ID {id}")).text();
    assert!(client_field(&line, "qbuf") < 100 && client_field(&line, "qbuf-free") < 256 << 10, "{line}");
    sender.send_bytes(b"NG\r\n").unwrap();
    assert_eq!(sender.read_reply().unwrap(), Reply::Simple("PONG".into()));
}

/// Room of a long request is kept for the next one, and told; it shrinks when less is needed, and goes when its client is idle.
#[test]
fn room_of_long_requests_is_kept_while_it_is_needed() {
    const LEN: usize = 400_000;
    let (_folder, server) = cache(&[]);
    let (mut admin, mut sender) = (server.client(), server.client());
    let id = sender.run("CLIENT ID").int();
    let mut line = move || admin.run(&format!("CLIENT LIST ID {id}")).text();
    let set = |sender: &mut Client, len: usize| {
        assert_eq!(sender.command(&[&b"SET"[..], b"key", &vec![b'v'; len]]), Reply::ok());
    };
    let deadline = Instant::now() + PATIENCE;
    set(&mut sender, 100);
    assert_eq!(client_field(&line(), "qbuf-free"), 0, "short requests need none: {}", line());
    // Where time passes between the two it shrinks.
    let told = loop {
        set(&mut sender, LEN);
        let told = line();
        if client_field(&told, "qbuf-free") >= LEN {
            break told;
        }
        assert!(Instant::now() < deadline, "none is kept: {told}");
    };
    assert_eq!(client_field(&told, "qbuf"), 0, "{told}");
    assert!(client_field(&told, "tot-mem") >= client_field(&told, "qbuf-free"), "{told}");
    // The client itself is told the same.
    let own = loop {
        set(&mut sender, LEN);
        let own = sender.run("CLIENT INFO").text();
        if client_field(&own, "qbuf-free") >= LEN {
            break own;
        }
        assert!(Instant::now() < deadline, "none is kept: {own}");
    };
    assert_eq!(client_field(&own, "argv-mem"), "CLIENTINFO".len(), "{own}");
    while client_field(&line(), "qbuf-free") > 0 {
        assert!(Instant::now() < deadline, "it is still there: {}", line());
        set(&mut sender, 100);
    }

    // Half of a request: what is there is kept, the rest of its room is not.
    sender.send_bytes(format!("*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n${LEN}\r\n").as_bytes()).unwrap();
    while client_field(&line(), "qbuf-free") < LEN {
        assert!(Instant::now() < deadline, "no room is made for it: {}", line());
    }
    while client_field(&line(), "qbuf-free") > 0 {
        assert!(Instant::now() < deadline, "an idle client holds it: {}", line());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(client_field(&line(), "idle") >= 2, "it has waited for too short: {}", line());
    sender.send_bytes(&[&vec![b'v'; LEN][..], b"\r\n"].concat()).unwrap();
    assert_eq!(sender.read_reply().unwrap(), Reply::ok());
    assert_eq!(sender.run("STRLEN key"), Reply::Int(400_000));
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
    let error = Reply::Error("ERR wrong number of arguments for 'set' command".into());
    assert_eq!(admin.run("SET key"), error, "what is no command has nothing to wait for");
    // Longer than `timeout` and than the key lives.
    std::thread::sleep(Duration::from_millis(1500));
    assert!(admin.try_command(&["PING"]).is_err(), "`timeout` does not close a client that only waits");
    let mut admin = server.client();
    assert_eq!(admin.run("GET short"), Reply::Bulk(None), "its time is over all the same");
    assert_eq!(admin.run("EXISTS short"), Reply::Int(0));
    assert_eq!(admin.run("DBSIZE"), Reply::Int(1));
    assert_eq!(admin.info("expired_keys"), "1", "a key has been removed in a pause");
    let mut publisher = server.client();
    send(&mut publisher, "PUBLISH channel message");
    admin.wait_for_info("blocked_clients", "2");
    assert_eq!(admin.run("CLIENT UNPAUSE"), Reply::ok());
    assert_eq!(writer.read_reply().unwrap(), Reply::ok());
    assert_eq!(publisher.read_reply().unwrap(), Reply::Int(0), "what speaks to replicas waits as well");
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

/// Redis answers what came before a wait that nobody is left for; and nobody is served in the place of those who are there.
#[test]
fn a_wait_of_a_client_that_has_ended_takes_nothing_and_what_came_before_is_answered() {
    let (_folder, server) = cache(&[]);
    let mut admin = server.client();
    for wait in ["BLPOP queue 0", "WAIT 1 0", "BLPOP queue 0\r\nPING"] {
        let mut ending = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        ending.set_read_timeout(Some(PATIENCE)).unwrap();
        ending.write_all(format!("SET a 1\r\n{wait}\r\n").as_bytes()).unwrap();
        ending.shutdown(Shutdown::Write).unwrap();
        let mut answers = String::new();
        ending.read_to_string(&mut answers).unwrap();
        assert_eq!(answers, "+OK\r\n", "{wait}");
    }
    admin.wait_for_info("blocked_clients", "0");
    assert_eq!(admin.run("RPUSH queue element"), Reply::Int(1));
    assert_eq!(admin.run("LLEN queue"), Reply::Int(1));
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

/// Who is connected is served between two shares of a storm of new connections, and each of these is served, too.
#[test]
fn new_connections_are_accepted_a_share_at_a_time() {
    const NEW: usize = 400;
    let (_folder, server) = cache(&[]);
    let mut client = server.client();
    let accepted = |text: String| text.parse::<usize>().unwrap();
    let before = accepted(client.info("total_connections_received"));
    // Stopped meanwhile, so that it learns of all of them and of the request at once.
    server.signal("STOP");
    let mut new: Vec<_> = (0..NEW).map(|_| Client::connect(server.port).unwrap()).collect();
    send(&mut client, "INFO stats");
    server.signal("CONT");
    let text = client.read_reply().unwrap().text();
    let line = text.lines().find_map(|line| line.strip_prefix("total_connections_received:")).unwrap();
    assert!(accepted(line.to_owned()) < before + NEW, "the client waited for all of them");
    for client in &mut new {
        assert_eq!(client.run("PING"), Reply::Simple("PONG".into()));
    }
    assert_eq!(accepted(client.info("total_connections_received")), before + NEW);
}

/// Sends `bytes` again and again until the server takes nothing for ten seconds, or `limit` bytes are sent; returns how many.
fn send_until_refused(stream: &mut TcpStream, bytes: &[u8], limit: usize) -> usize {
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    let block = bytes.repeat((64 << 10) / bytes.len() + 1);
    let mut sent = 0;
    while sent < limit {
        match stream.write(&block) {
            Ok(len) => sent += len,
            // Refused by silence, or by the end of the connection.
            Err(_) => break,
        }
    }
    sent
}

fn resident_mib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

/// A server with a password, and a client that has given it.
fn guarded_cache() -> (tempfile::TempDir, Server, Client) {
    // On a busy machine strangers need more than their ten seconds.
    let (folder, server) = cache(&["--requirepass", "secret", "--authentication-timeout", "0"]);
    let admin = server.client_with_password("secret");
    (folder, server, admin)
}

/// A stranger who sends and never reads cannot make the server grow.
#[test]
fn replies_to_strangers_that_do_not_read_are_bounded() {
    // More than the kernel keeps for both ends.
    const SENT_MAX: usize = 24 << 20;
    let (_folder, server, mut admin) = guarded_cache();
    let before = resident_mib(&server);
    let mut strangers: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
            let sent = send_until_refused(&mut stream, b"GET x\r\n", SENT_MAX);
            assert!(sent < SENT_MAX, "the server takes whatever it is sent");
            stream
        })
        .collect();
    let after = resident_mib(&server);
    assert!(after < before + 16, "from {before} to {after} MiB");
    assert_eq!(admin.run("PING"), Reply::Simple("PONG".into()), "others are served");
    // As in Redis they are closed; whoever only writes would wait for us for ever.
    for stranger in &mut strangers {
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut some = vec![0; 1 << 20];
        let end = loop {
            match stranger.read(&mut some) {
                Ok(0) => break None,
                Ok(_) => {}
                Err(error) => break Some(error.kind()),
            }
        };
        assert!(matches!(end, None | Some(ErrorKind::ConnectionReset)), "{end:?}");
    }
}

/// Wherever the sockets of a stranger are full, it is closed: also when more is left than half of what it may make the server
/// hold, so that nothing is executed for it, and less than all.
#[test]
fn a_stranger_whose_replies_are_cut_off_anywhere_is_closed() {
    const HELD_MAX: usize = 4 << 10;
    let (_folder, server, mut admin) = guarded_cache();
    let left_over = || -> Vec<usize> {
        let log = server.log_text();
        let closed = log.lines().filter(|line| line.contains("it does not read its replies"));
        let unsent = closed.filter_map(|line| line.split("unsent=").nth(1)?.split(' ').next());
        unsent.map(|number| number.trim().parse().unwrap()).collect()
    };
    // Replies leave in pieces of about 4 KiB, and the kernel takes them in parts of half the window of their reader, which is
    // small here: what it takes of the last piece depends on how much came before. Each stranger begins half a KiB further.
    for round in 0..32 {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        socket.connect(&std::net::SocketAddr::from(([127, 0, 0, 1], server.port)).into()).unwrap();
        let mut stranger = TcpStream::from(socket);
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        stranger.write_all(&b"GET x\r\n".repeat(1 + round % 8 * 15)).unwrap();
        // One reply has come, so all of them have been written.
        assert!(stranger.peek(&mut [0]).unwrap() > 0);
        send_until_refused(&mut stranger, b"GET x\r\n", 24 << 20);
        admin.wait_for_info("connected_clients", "1");
        if left_over().iter().any(|len| (HELD_MAX / 2 + 1..=HELD_MAX).contains(len)) {
            return;
        }
    }
    panic!("no stranger was left with more than half: {:?}", left_over());
}

/// Commands of a client that does not read its replies wait, and none of them is lost.
#[test]
fn commands_wait_until_their_replies_are_read() {
    const COUNT: usize = 600;
    const LEN: usize = 100_000;
    let (_folder, server) = cache(&[]);
    let mut admin = server.client();
    let value = vec![b'v'; LEN];
    admin.command(&[b"SET", b"big", &value[..]]);
    let mut reader = server.client();
    let mut bytes = Vec::new();
    for _ in 0..COUNT {
        Client::encode(&["GET", "big"], &mut bytes);
        Client::encode(&["INCR", "count"], &mut bytes);
    }
    reader.send_bytes(&bytes).unwrap();
    let done = |admin: &mut Client| match admin.run("GET count") {
        Reply::Bulk(Some(text)) => String::from_utf8(text).unwrap().parse::<usize>().unwrap(),
        _ => 0,
    };
    let mut executed = usize::MAX;
    while std::mem::replace(&mut executed, done(&mut admin)) != executed {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(executed < COUNT, "all of them are executed although nobody reads");
    let held: u64 = admin.info("mem_clients_normal").parse().unwrap();
    assert!(held < 2 << 20, "{held} bytes are held");
    for number in 1..=COUNT {
        assert!(reader.read_reply().unwrap() == Reply::bulk(&value));
        assert_eq!(reader.read_reply().unwrap().int(), i64::try_from(number).unwrap());
    }
}

#[test]
fn output_of_a_normal_client_is_limited_where_that_is_asked_for() {
    let (_folder, server) = cache(&["--client-output-buffer-limit", "normal", "1mb", "0", "0"]);
    let mut admin = server.client();
    admin.command(&[b"SET", b"big", &vec![b'v'; 32 << 20][..]]);
    let mut reader = server.client();
    send(&mut reader, "GET big");
    admin.wait_for_info("connected_clients", "1");
    assert!(server.log_text().contains("exceeds client-output-buffer-limit"), "{}", server.log_text());
}

#[test]
fn a_query_buffer_is_limited() {
    let (_folder, server) = cache(&["--client-query-buffer-limit", "1mb"]);
    let mut admin = server.client();
    let mut sender = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let _ = sender.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000000\r\n");
    send_until_refused(&mut sender, b"v", 8 << 20);
    admin.wait_for_info("connected_clients", "1");
    // Queued commands count as well.
    let mut queuer = server.client();
    queuer.run("MULTI");
    let value = vec![b'v'; 100_000];
    for _ in 0..20 {
        if queuer.try_command(&[&b"SET"[..], b"a", &value]).is_err() {
            break;
        }
    }
    admin.wait_for_info("connected_clients", "1");
    assert_eq!(server.log_text().matches("reached the limit of its query buffer").count(), 2);
}

/// One field of a line of CLIENT LIST.
fn client_field(line: &str, name: &str) -> usize {
    let value = line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no number {name} in {line}"))
}

/// What a client makes the server hold is told: the bytes of a request in progress, where its arguments are, and what a
/// transaction has queued.
#[test]
fn memory_of_a_request_in_progress_is_told() {
    const ARGS: usize = 10_000;
    let (_folder, server) = cache(&[]);
    let (mut admin, mut sender) = (server.client(), server.client());
    let id = sender.run("CLIENT ID").int();
    let line_when = |admin: &mut Client, is_there: &dyn Fn(&str) -> bool| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = admin.run(&format!("CLIENT LIST ID {id}")).text();
            if is_there(&line) {
                return line;
            }
            assert!(Instant::now() < deadline, "{line}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let arg = b"$1\r\na\r\n";
    let front = [format!("*{}\r\n", ARGS + 1).as_bytes(), &arg.repeat(ARGS)].concat();
    sender.send_bytes(&front).unwrap();
    // What is understood counts as arguments: the bytes, and where each of them is.
    let line = line_when(&mut admin, &|line| client_field(line, "argv-mem") >= front.len() + 4 * ARGS);
    assert!(client_field(&line, "qbuf") <= "\r\n".len(), "{line}");
    let arguments = client_field(&line, "argv-mem");
    assert!(arguments < 2 * front.len(), "{line}");
    let held_for_it = client_field(&line, "qbuf-free") + arguments;
    assert!(client_field(&line, "tot-mem") >= held_for_it, "{line}");
    let held: usize = admin.info("mem_clients_normal").parse().unwrap();
    assert!(held >= held_for_it, "{held} bytes are held: {line}");

    sender.send_bytes(arg).unwrap();
    assert!(matches!(sender.read_reply().unwrap(), Reply::Error(_)), "there is no command of this name");
    line_when(&mut admin, &|line| client_field(line, "argv-mem") < 4 << 10);

    sender.run("MULTI");
    sender.command(&[&b"SET"[..], b"key", &[b'v'; 100_000]]);
    let held: usize = admin.info("mem_clients_normal").parse().unwrap();
    assert!(held > 100_000, "{held} bytes are held");
}

/// CONFIG SET port and bind: whoever is connected stays, and where nothing can be bound nothing changes.
#[test]
fn the_server_listens_elsewhere_when_it_is_told_to() {
    let (_folder, server) = cache(&[]);
    let mut client = server.client();
    let connects = |address: &str, port: u16| TcpStream::connect((address, port)).is_ok();
    let failed = |name: &str, reason: &str| {
        Reply::Error(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"))
    };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let reply = client.run(&format!("CONFIG SET hz 20 port {}", taken.local_addr().unwrap().port()));
    assert_eq!(reply, failed("port", "Unable to listen on this port. Check server logs."));
    assert_eq!(client.run("CONFIG GET hz").items()[1], Reply::bulk("10"));
    assert_eq!(client.info("tcp_port"), server.port.to_string());
    assert_eq!(server.client().run("PING"), Reply::Simple("PONG".into()));

    let port = free_port();
    assert_eq!(client.run(&format!("CONFIG SET port {port}")), Reply::ok());
    assert_eq!(Client::connect(port).unwrap().run("PING"), Reply::Simple("PONG".into()));
    assert!(!connects("127.0.0.1", server.port), "it listens at the old port");
    assert_eq!(client.info("tcp_port"), port.to_string());

    assert_eq!(client.run("CONFIG SET bind 127.0.0.2"), Reply::ok());
    assert!(connects("127.0.0.2", port) && !connects("127.0.0.1", port));
    let reply = client.run("CONFIG SET bind 203.0.113.7");
    assert_eq!(reply, failed("bind", "Failed to bind to specified addresses."));
    assert!(connects("127.0.0.2", port), "it listens nowhere");
    assert_eq!(client.command(&["CONFIG", "SET", "bind", "127.0.0.1 127.0.0.2"]), Reply::ok());
    assert!(connects("127.0.0.2", port) && connects("127.0.0.1", port));
}

/// Whoever waits and leaves is noticed: by then nobody reads from its socket.
#[test]
fn waiting_clients_that_leave_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::spawn(&folder.path().join("data"), &["--appendonly", "yes"]);
    let mut admin = server.client();
    let mut crowd: Vec<Client> = Vec::new();
    for number in 0..200 {
        let mut client = server.client();
        match number % 4 {
            0 => send(&mut client, "WAIT 1 0"),
            1 => send(&mut client, "WAITAOF 0 1 0"),
            // Later commands wait with it and are still unread when it leaves.
            2 => {
                send(&mut client, "WAIT 1 0");
                send(&mut client, "SET later executed");
            }
            _ => send(&mut client, "WAIT 1 10000000"),
        }
        crowd.push(client);
    }
    admin.wait_for_info("blocked_clients", "200");
    drop(crowd);
    admin.wait_for_info("connected_clients", "1");
    assert_eq!(admin.info("blocked_clients"), "0");
    assert_eq!(admin.run("EXISTS later"), Reply::Int(0));
    // The same in a pause, and for those whose end comes together with what they wait for.
    assert_eq!(admin.run("CLIENT PAUSE 60000 WRITE"), Reply::ok());
    let crowd: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = server.client();
            send(&mut client, "SET later executed");
            client
        })
        .collect();
    admin.wait_for_info("blocked_clients", "20");
    drop(crowd);
    admin.wait_for_info("connected_clients", "1");
    server.signal("STOP");
    for _ in 0..20 {
        let mut client = Client::connect(server.port).unwrap();
        send(&mut client, "WAIT 1 0");
    }
    server.signal("CONT");
    admin.wait_for_info("connected_clients", "1");
    assert_eq!(admin.info("blocked_clients"), "0");
    assert_eq!(admin.run("CLIENT UNPAUSE"), Reply::ok());
    assert_eq!(admin.run("EXISTS later"), Reply::Int(0));
}

/// A reply that takes longer to read than `timeout` is read to its end.
#[test]
fn a_client_that_reads_a_long_reply_is_not_idle() {
    const LEN: usize = 48 << 20;
    let (_folder, server) = cache(&["--timeout", "1"]);
    let mut writer = server.client();
    writer.command(&[b"SET", b"big", &vec![b'v'; LEN][..]]);
    let mut reader = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    reader.write_all(b"GET big\r\n").unwrap();
    reader.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut left = LEN + format!("${LEN}\r\n\r\n").len();
    let mut part = vec![0; 1 << 20];
    while left > 0 {
        let len = left.min(part.len());
        reader
            .read_exact(&mut part[..len])
            .unwrap_or_else(|error| panic!("{left} bytes are missing: {error}"));
        left -= len;
        std::thread::sleep(Duration::from_millis(60));
    }
}

/// A web page makes a browser send this. Source: Redis 7.0, `securityWarningCommand`.
#[test]
fn whoever_speaks_http_is_cut_off() {
    let (_folder, server) = cache(&[]);
    let mut admin = server.client();
    for request in [
        &b"POST / HTTP/1.1\r\nSET pwned 1\r\n"[..],
        b"GET / HTTP/1.1\r\nhOsT: localhost\r\n\r\nSET pwned 1\r\n",
        b"*1\r\n$4\r\npost\r\n*3\r\n$3\r\nSET\r\n$5\r\npwned\r\n$1\r\n1\r\n",
        b"MULTI\r\nHost: x\r\nSET pwned 1\r\nEXEC\r\n",
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer);
        assert!(end.is_err() || answer.is_empty(), "{:?}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(admin.run("EXISTS pwned"), Reply::Int(0));
    assert_eq!(server.log_text().matches("Possible SECURITY ATTACK detected").count(), 1, "once a minute");
    assert_eq!(admin.run("GET post"), Reply::Bulk(None), "only the name of a command counts");
}

/// From the moment of its death on, nothing that a killed client has sent is executed.
#[test]
fn a_killed_client_executes_nothing_more() {
    let (_folder, server) = cache(&[]);
    let (mut admin, mut victim) = (server.client(), server.client());
    let id = victim.run("CLIENT ID").int();
    // Stopped meanwhile, so that it learns of both in one turn.
    server.signal("STOP");
    send(&mut admin, &format!("CLIENT KILL ID {id}"));
    std::thread::sleep(Duration::from_millis(20));
    send(&mut victim, "SET late 1");
    server.signal("CONT");
    assert_eq!(admin.read_reply().unwrap(), Reply::Int(1));
    assert!(victim.read_reply().is_err(), "the killed client is answered");
    assert_eq!(admin.run("EXISTS late"), Reply::Int(0));
}

#[test]
fn flushing_starts_no_threads() {
    let (_folder, server) = cache(&["--enable-debug-command", "yes"]);
    let mut admin = server.client();
    let threads = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap();
        tasks.filter(Result::is_ok).count()
    };
    let before = threads();
    for _ in 0..2 {
        // So many that freeing them takes longer than the next look.
        admin.run("DEBUG POPULATE 200000");
        assert_eq!(admin.run("FLUSHALL ASYNC"), Reply::ok());
        assert!(threads() <= before, "{} threads instead of {before}", threads());
    }
    assert_eq!(admin.run("DBSIZE"), Reply::Int(0));
}

/// A panic never goes on with data that is half changed: nothing of its turn is written or answered.
#[test]
fn a_panic_ends_the_process_and_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let args = ["--appendonly", "yes", "--enable-debug-command", "yes"];
    let mut server = Server::spawn(&dir, &args);
    let mut client = server.client();
    let mut other = server.client();
    assert_eq!(client.run("SET before 1"), Reply::ok());
    let mut bytes = Vec::new();
    Client::encode(&["SET", "half", "1"], &mut bytes);
    Client::encode(&["DEBUG", "PANIC"], &mut bytes);
    Client::encode(&["SET", "after", "1"], &mut bytes);
    client.send_bytes(&bytes).unwrap();
    assert!(client.read_reply().is_err(), "a command of the turn is answered");
    assert!(other.try_command(&["PING"]).is_err());
    assert_eq!(server.wait().code(), Some(5), "{}", server.log_text());
    let log = server.log_text();
    assert!(log.contains("panic: DEBUG PANIC") && log.contains("command=\"debug\""), "{log}");
    let server = Server::spawn(&dir, &args);
    let mut client = server.client();
    assert_eq!(client.run("MGET before half after").items()[0], Reply::bulk("1"));
    assert_eq!(client.run("EXISTS half after"), Reply::Int(0));
}

/// However much each sends and however it is cut, everybody's commands are executed in order and nobody starves.
#[test]
fn long_pipelines_of_many_clients_are_answered_in_order() {
    const COUNT: usize = 30_000;
    let (_folder, server) = cache(&[]);
    let mut bystander = server.client();
    let pipeliners: Vec<_> = (0..4)
        .map(|number| {
            let port = server.port;
            std::thread::spawn(move || {
                let mut client = Client::connect(port).unwrap();
                let key = format!("count-{number}");
                let mut bytes = Vec::new();
                for at in 0..COUNT {
                    match at % 3 {
                        0 => Client::encode(&["INCR", &key], &mut bytes),
                        1 => bytes.extend_from_slice(format!("\r\nincr {key}\r\n").as_bytes()),
                        _ => Client::encode(&["APPEND", &format!("{key}-text"), "x"], &mut bytes),
                    }
                }
                let mut sender = client.clone_writer();
                let writer = std::thread::spawn(move || {
                    // In pieces that end anywhere.
                    for (at, piece) in bytes.chunks(70_001).enumerate() {
                        sender.write_all(piece).unwrap();
                        if at % 4 == 0 {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                });
                for at in 0..COUNT {
                    let expected = if at % 3 == 2 { at / 3 + 1 } else { at / 3 * 2 + at % 3 + 1 };
                    assert_eq!(client.read_reply().unwrap(), Reply::Int(i64::try_from(expected).unwrap()));
                }
                writer.join().unwrap();
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    while pipeliners.iter().any(|thread| !thread.is_finished()) {
        let began = Instant::now();
        assert_eq!(bystander.run("PING"), Reply::Simple("PONG".into()));
        slowest = slowest.max(began.elapsed());
    }
    pipeliners.into_iter().for_each(|thread| thread.join().unwrap());
    // Far above what a turn takes: a busy machine must not fail this.
    assert!(slowest < Duration::from_secs(5), "a bystander waited {slowest:?}");
}

/// A turn ends in time: whoever has waited in it comes first in the next one, before those who have been served.
#[test]
fn slow_commands_of_others_are_waited_for_once_each() {
    let (_folder, server) = cache(&["--enable-debug-command", "yes"]);
    let mut slow: Vec<Client> = (0..8).map(|_| server.client()).collect();
    let mut bystander = server.client();
    // Stopped meanwhile, so that it learns of all of them in one turn.
    server.signal("STOP");
    for client in &mut slow {
        for _ in 0..5 {
            send(client, "DEBUG SLEEP 0.1");
        }
    }
    std::thread::sleep(Duration::from_millis(20));
    send(&mut bystander, "PING");
    let began = Instant::now();
    server.signal("CONT");
    assert_eq!(bystander.read_reply().unwrap(), Reply::Simple("PONG".into()));
    // Eight commands of 0.1 s stand before it, 40 in all.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    for client in &mut slow {
        (0..5).for_each(|_| assert_eq!(client.read_reply().unwrap(), Reply::ok()));
    }
}

/// Replies of all lengths, read slowly or never, by clients that come and go: whoever sends them, each arrives whole and in
/// order (`io-threads`).
#[test]
fn io_threads_send_every_reply_whole_and_in_order() {
    const CLIENTS: usize = 16;
    const ROUNDS: usize = 25;
    let (_folder, server) = cache_with(&["--io-threads", "3"], ALWAYS_SHARE);
    let mut admin = server.client();
    let values: Vec<String> = [10, 3000, 40_000, 700_000]
        .iter()
        .map(|len| {
            (0..*len).map(|at| char::from(b'a' + u8::try_from((at * 7 + len) % 26).unwrap())).collect()
        })
        .collect();
    for (number, value) in values.iter().enumerate() {
        assert_eq!(admin.try_command(&["SET", &number.to_string(), value]).unwrap(), Reply::ok());
    }
    let connect = || {
        let client = server.client();
        // The server's socket is full soon, in the middle of a reply.
        socket2::SockRef::from(client.socket()).set_recv_buffer_size(64 << 10).unwrap();
        (client, VecDeque::new())
    };
    let is_enough = AtomicBool::new(false);
    let drive = |mut seed: u64| {
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap() % below
        };
        let mut clients: Vec<(Client, VecDeque<usize>)> = (0..CLIENTS).map(|_| connect()).collect();
        let mut round = 0;
        while round < ROUNDS || !is_enough.load(Ordering::Relaxed) {
            round += 1;
            for _ in 0..5 {
                for (client, pending) in &mut clients {
                    let mut bytes = Vec::new();
                    for _ in 0..random(4) {
                        let number = [0, 0, 0, 0, 0, 1, 1, 1, 2, 3][random(10)];
                        Client::encode(&["GET", &number.to_string()], &mut bytes);
                        pending.push_back(number);
                    }
                    client.send_bytes(&bytes).unwrap();
                }
            }
            for (client, pending) in &mut clients {
                for _ in 0..random(pending.len() + 2).min(pending.len()) {
                    let number = pending.pop_front().unwrap();
                    assert_eq!(client.read_reply().unwrap(), Reply::bulk(&values[number]), "round {round}");
                }
            }
            // Gone with all its replies; the next one has its slot.
            clients[random(CLIENTS)] = connect();
        }
        for (client, pending) in &mut clients {
            for number in pending {
                assert_eq!(client.read_reply().unwrap(), Reply::bulk(&values[*number]));
            }
            assert_eq!(client.run("QUIT"), Reply::ok());
            assert!(client.read_reply().is_err(), "QUIT has ended the connection");
        }
    };
    std::thread::scope(|scope| {
        for seed in 1..=4 {
            let drive = &drive;
            scope.spawn(move || drive(seed));
        }
        // The busier the machine, the later a thread gets to send something.
        let began = Instant::now();
        while admin.info("io_threaded_writes_processed") == "0" && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        is_enough.store(true, Ordering::Relaxed);
    });
    assert_ne!(admin.info("io_threaded_writes_processed"), "0", "no I/O thread has ever sent anything");
    admin.wait_for_info("connected_clients", "1");
}

/// A long value is sent from where it lies: as many readers as there are take no copies of it, and each gets what it was when
/// it asked.
#[test]
fn readers_of_a_long_value_share_it() {
    const LEN: usize = 8 << 20;
    const READERS: usize = 40;
    let (_folder, server) = cache(&[]);
    let mut admin = server.client();
    let value = "v".repeat(LEN);
    assert_eq!(admin.try_command(&["SET", "long", &value]).unwrap(), Reply::ok());
    let before = resident_mib(&server);
    let mut readers: Vec<Client> = (0..READERS).map(|_| server.client()).collect();
    for (number, reader) in readers.iter_mut().enumerate() {
        send(reader, if number % 2 == 0 { "GET long" } else { "MGET none long" });
    }
    admin.wait_for_info("keyspace_hits", &READERS.to_string());
    let after = resident_mib(&server);
    assert!(after < before + 64, "RSS grew from {before} to {after} MiB for {READERS} readers of 8 MiB");
    assert_eq!(admin.run("SETRANGE long 0 changed"), Reply::Int(i64::try_from(LEN).unwrap()));
    assert_eq!(admin.run("DEL long"), Reply::Int(1));
    for (number, reader) in readers.iter_mut().enumerate() {
        let reply = reader.read_reply().unwrap();
        let expected = if number % 2 == 0 {
            Reply::bulk(&value)
        } else {
            Reply::Array(Some(vec![Reply::Bulk(None), Reply::bulk(&value)]))
        };
        assert!(reply == expected, "reader {number} got something else");
    }
}

/// A stranger may hold little output, and that is what it has not read: not what is about to be sent to it, or being sent.
#[test]
fn strangers_that_read_are_not_cut_off_by_what_is_being_sent() {
    const COMMANDS: usize = 180;
    let (_folder, server) =
        cache_with(&["--io-threads", "3", "--hz", "500", "--authentication-timeout", "0"], ALWAYS_SHARE);
    let mut admin = server.client();
    assert_eq!(admin.run("CONFIG SET requirepass secret"), Reply::ok());
    let mut burst = Vec::new();
    for _ in 0..COMMANDS {
        Client::encode(&["PING"], &mut burst);
    }
    let drive = || {
        let mut strangers: Vec<Client> = (0..16).map(|_| Client::connect(server.port).unwrap()).collect();
        for round in 0..15 {
            for _ in 0..3 {
                for stranger in &mut strangers {
                    stranger.send_bytes(&burst).unwrap();
                }
            }
            for stranger in &mut strangers {
                for _ in 0..3 * COMMANDS {
                    let reply = stranger
                        .read_reply()
                        .unwrap_or_else(|error| panic!("a stranger was cut off in round {round}: {error}"));
                    assert!(matches!(&reply, Reply::Error(text) if text.starts_with("NOAUTH")), "{reply:?}");
                }
            }
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(drive))));
}

/// On few processors another thread would take them from the clients, or from the one that executes.
#[test]
fn io_threads_follow_the_processors_that_the_process_has() {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let active = |args: &[&str]| cache(args).1.client().info("io_threads_active");
    let all = sched_getaffinity(None).unwrap();
    let expected = if std::thread::available_parallelism().unwrap().get() > 3 { "1" } else { "0" };
    assert_eq!(active(&[]), expected);
    assert_eq!(active(&["--io-threads", "1"]), "0");
    assert_eq!(active(&["--io-threads", "2"]), "1");
    // What this thread starts inherits what it is allowed.
    let mut one = CpuSet::new();
    one.set((0..CpuSet::MAX_CPU).find(|processor| all.is_set(*processor)).unwrap());
    sched_setaffinity(None, &one).unwrap();
    assert_eq!(active(&[]), "0");
    assert_eq!(active(&["--io-threads", "2"]), "1", "who asks for them gets them");
}

/// CLIENT NO-TOUCH (<https://redis.io/docs/latest/commands/client-no-touch/>): reads are no use of a key, but for TOUCH.
#[test]
fn what_a_client_reads_that_touches_nothing_stays_unused() {
    let (_folder, server) = cache(&[]);
    let (mut client, mut admin) = (server.client(), server.client());
    admin.run("SET key value");
    assert_eq!(client.run("CLIENT NO-TOUCH ON"), Reply::ok());
    assert!(client.run("CLIENT INFO").text().contains(" flags=T "));
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(client.run("GET key"), Reply::bulk("value"));
    assert!(admin.run("OBJECT IDLETIME key").int() >= 2);
    client.run("TOUCH key");
    assert!(admin.run("OBJECT IDLETIME key").int() < 2);
    client.run("CLIENT NO-TOUCH OFF");
    std::thread::sleep(Duration::from_millis(2100));
    client.run("GET key");
    assert!(admin.run("OBJECT IDLETIME key").int() < 2);
}

/// CLIENT SETINFO (<https://redis.io/docs/latest/commands/client-setinfo/>).
#[test]
fn libraries_are_shown_and_output_that_waits_is_told() {
    let (_folder, server) = cache(&[]);
    let (mut client, mut admin) = (server.client(), server.client());
    client.run("CLIENT SETINFO LIB-NAME driver");
    client.run("CLIENT SETINFO LIB-VER 1.2.3");
    let line = client.run("CLIENT INFO").text();
    assert!(line.contains(" resp=2 lib-name=driver lib-ver=1.2.3"), "{line}");
    let id = client.run("CLIENT ID").int();
    admin.command(&["SET", "long", &"x".repeat(8 << 20)]);
    send(&mut client, "GET long");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let line = admin.run(&format!("CLIENT LIST ID {id}")).text();
        if client_field(&line, "omem") > 1 << 20 {
            assert_eq!(client_field(&line, "obl"), 16 << 10);
            assert!(client_field(&line, "oll") >= 1 && client_field(&line, "tot-mem") > 1 << 20, "{line}");
            break;
        }
        assert!(Instant::now() < deadline, "nothing waits: {line}");
    }
}
