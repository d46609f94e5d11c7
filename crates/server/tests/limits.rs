//! What clients may hold and for how long, each limit on the real server.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod support;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::{Client, PATIENCE, Reply, Server};

const MIB: usize = 1 << 20;

fn cache(args: &[&str]) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let args: Vec<&str> = ["--persistent", "no"].iter().chain(args).copied().collect();
    let server = Server::spawn(&folder.path().join("data"), &args);
    (folder, server)
}

/// A server with a password, and a client that has given it.
fn guarded_cache(args: &[&str]) -> (tempfile::TempDir, Server, Client) {
    let args: Vec<&str> = ["--requirepass", "secret"].iter().chain(args).copied().collect();
    let (folder, server) = cache(&args);
    let admin = server.client_with_password("secret");
    (folder, server, admin)
}

fn stranger(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Waits until the server has ended a connection, whatever comes before.
fn wait_for_end(stream: &mut TcpStream) {
    let mut some = [0; 4096];
    loop {
        match stream.read(&mut some) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "it is still open");
                return;
            }
        }
    }
}

fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let found = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    matches!(found, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Sends the front of a SET whose value has `len` bytes, and all of the value but the last byte.
fn hold_request(client: &mut Client, len: usize) {
    client.send_bytes(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${len}\r\n").as_bytes()).unwrap();
    // The server may close it meanwhile.
    let _ = client.send_bytes(&vec![b'v'; len - 1]);
}

fn number(client: &mut Client, field: &str) -> usize {
    client.info(field).parse().unwrap()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One field of a line of CLIENT LIST.
fn field(line: &str, name: &str) -> usize {
    let value = line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no number {name} in {line}"))
}

/// `authentication-timeout`: the time starts when a client connects, or sends RESET.
#[test]
fn a_stranger_has_to_authenticate_in_time() {
    let (_folder, server, mut admin) = guarded_cache(&["--authentication-timeout", "1"]);
    let began = Instant::now();
    let mut silent = stranger(&server);
    let mut busy = Client::connect(server.port).unwrap();
    let mut former = Client::connect(server.port).unwrap();
    assert_eq!(former.run("AUTH secret"), Reply::ok());
    wait_for_end(&mut silent);
    assert!(began.elapsed() >= Duration::from_millis(900), "closed after {:?}", began.elapsed());
    // Whoever sends without end has no more time.
    wait_until("whoever asks for everything else stays", || busy.try_command(&["PING"]).is_err());
    assert_eq!(former.run("PING"), Reply::Simple("PONG".into()), "it has authenticated");
    assert_eq!(former.run("RESET"), Reply::Simple("RESET".into()));
    wait_until("a client that has sent RESET stays", || former.try_command(&["PING"]).is_err());
    assert_eq!(admin.info("unauthenticated_clients_closed"), "3");
    assert_eq!(admin.info("connected_clients"), "1");
}

/// Time in which the server does not serve is not the stranger's: a pause, or a command that takes long.
#[test]
fn a_stranger_that_is_not_served_is_not_late() {
    let args = ["--authentication-timeout", "1", "--enable-debug-command", "yes"];
    let (_folder, server, mut admin) = guarded_cache(&args);
    for (command, takes_ms) in [("CLIENT PAUSE 2500 ALL", 2500), ("DEBUG SLEEP 2.5", 2500)] {
        let mut comer = Client::connect(server.port).unwrap();
        assert!(matches!(comer.run("PING"), Reply::Error(_)), "it is known to the server");
        let mut bytes = Vec::new();
        Client::encode(&command.split(' ').collect::<Vec<_>>(), &mut bytes);
        let began = Instant::now();
        admin.send_bytes(&bytes).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        comer.send_bytes(b"AUTH secret\r\n").unwrap();
        let answer = comer.read_reply();
        assert_eq!(answer.ok(), Some(Reply::ok()), "{command}: {}", server.log_text());
        assert!(began.elapsed() > Duration::from_millis(takes_ms - 500), "{command}");
        assert_eq!(admin.read_reply().unwrap(), Reply::ok());
    }
}

/// `partial-request-timeout`, where there is more time to authenticate.
#[test]
fn a_stranger_has_to_finish_its_request_in_time() {
    let args = ["--authentication-timeout", "0", "--partial-request-timeout", "1"];
    let (_folder, server, mut admin) = guarded_cache(&args);
    let mut idle = Client::connect(server.port).unwrap();
    let mut slow = stranger(&server);
    let began = Instant::now();
    slow.write_all(b"*2\r\n$4\r\nAUTH\r\n$6\r\nsec").unwrap();
    wait_for_end(&mut slow);
    assert!(began.elapsed() >= Duration::from_millis(900), "closed after {:?}", began.elapsed());
    assert!(matches!(idle.run("PING"), Reply::Error(_)), "a stranger without a request may stay");
    // Nobody else is hurried.
    hold_request(&mut admin, 1000);
    std::thread::sleep(Duration::from_millis(2500));
    admin.send_bytes(b"v\r\n").unwrap();
    assert_eq!(admin.read_reply().unwrap(), Reply::ok());
}

/// `maxmemory-unauthenticated`: one holds little, and all together hold little, because the oldest go.
#[test]
fn strangers_hold_little_and_the_oldest_go() {
    const COUNT: usize = 100;
    let args = ["--authentication-timeout", "0", "--maxmemory-unauthenticated", "1mb"];
    let (_folder, server, mut admin) = guarded_cache(&args);
    // As much as a stranger may send without having asked for anything.
    let request =
        [&b"*3\r\n$4\r\nAUTH\r\n$16000\r\n"[..], &[b'x'; 16000], b"\r\n$7000\r\n", &[b'x'; 6000]].concat();
    let first = stranger(&server);
    wait_until("it does not count", || number(&mut admin, "mem_clients_unauthenticated") > 0);
    let idle = number(&mut admin, "mem_clients_unauthenticated");
    assert!(idle < 4096, "an idle stranger holds {idle} bytes");
    let mut strangers = vec![first];
    for number_of_all in 1..=COUNT {
        let read_before = number(&mut admin, "total_net_input_bytes");
        let mut next = stranger(&server);
        next.write_all(&request).unwrap();
        strangers.push(next);
        wait_until("a request is not read", || {
            number(&mut admin, "total_net_input_bytes") >= read_before + request.len()
        });
        let held = number(&mut admin, "mem_clients_unauthenticated");
        let least = (number_of_all * request.len()).min(MIB - (32 << 10));
        assert!((least..=MIB).contains(&held), "{held} bytes are held by {number_of_all}");
    }
    let closed = number(&mut admin, "unauthenticated_clients_closed");
    let left = strangers.len() - closed;
    assert!(left * (32 << 10) >= MIB - (32 << 10), "{left} hold what 32 could");
    wait_for_end(&mut strangers[0]);
    wait_for_end(&mut strangers[closed - 1]);
    assert!(strangers[closed..].iter().all(is_open), "a younger one was closed");
    assert_eq!(number(&mut admin, "connected_clients"), left + 1);
}

/// `maxmemory-clients`: the largest are closed until the rest fits, and nobody whom CLIENT NO-EVICT exempts.
#[test]
fn the_largest_clients_are_evicted() {
    let (_folder, server) = cache(&["--maxmemory-clients", "4mb"]);
    let mut admin = server.client();
    let [mut small, mut large, mut exempt] = std::array::from_fn(|_| server.client());
    assert_eq!(exempt.run("CLIENT NO-EVICT ON"), Reply::ok());
    hold_request(&mut exempt, 2 * MIB + MIB / 2);
    hold_request(&mut small, MIB / 4);
    hold_request(&mut large, MIB);
    wait_until("requests do not count", || number(&mut admin, "mem_clients_normal") > 3 * MIB + MIB / 2);
    assert_eq!(admin.info("evicted_clients"), "0");
    let mut last = server.client();
    hold_request(&mut last, MIB / 2);
    admin.wait_for_info("evicted_clients", "1");
    assert!(large.try_command(&["PING"]).is_err(), "the largest is there");
    let held = number(&mut admin, "mem_clients_normal");
    assert!((3 * MIB..=4 * MIB).contains(&held), "{held} bytes are held");
    for client in [&mut small, &mut exempt, &mut last] {
        client.send_bytes(b"v\r\n").unwrap();
        assert_eq!(client.read_reply().unwrap(), Reply::ok());
    }
    assert!(server.log_text().contains("exceed maxmemory-clients"), "{}", server.log_text());
    // A smaller limit works at once, and a request that has no room is not executed.
    hold_request(&mut small, MIB);
    wait_until("the request does not count", || number(&mut admin, "mem_clients_normal") > MIB);
    assert_eq!(admin.run("CONFIG SET maxmemory-clients 1mb"), Reply::ok());
    assert!(small.try_command(&["PING"]).is_err(), "it holds more than all may");
    assert!(last.try_command(&[&b"SET"[..], b"huge", &vec![b'v'; 2 * MIB]]).is_err(), "it is executed");
    assert_eq!(admin.run("EXISTS huge"), Reply::Int(0));
}

/// Room for requests to come is little for all clients together, and makes way for what is there.
#[test]
fn room_that_is_kept_closes_nobody() {
    const LEN: usize = 200_000;
    // Not as much as is needed for three.
    let (_folder, server) = cache(&["--maxmemory-clients", "4mb"]);
    let mut admin = server.client();
    let mut senders: [Client; 8] = std::array::from_fn(|_| server.client());
    let kept = |admin: &mut Client| -> usize {
        let list = admin.run("CLIENT LIST").text();
        let between_requests = list.lines().filter(|line| field(line, "qbuf") == 0);
        between_requests.map(|line| field(line, "qbuf-free")).sum()
    };
    wait_until("no room is kept", || {
        for sender in &mut senders {
            assert_eq!(sender.command(&[&b"SET"[..], b"key", &[b'v'; LEN]]), Reply::ok());
        }
        let all = kept(&mut admin);
        assert!(all <= MIB / 2, "{all} bytes are kept");
        all > LEN
    });
    let mut large = server.client();
    hold_request(&mut large, 4 * MIB - LEN / 2);
    wait_until("the request does not count", || number(&mut admin, "mem_clients_normal") > 4 * MIB - LEN / 2);
    assert_eq!((kept(&mut admin), admin.info("evicted_clients")), (0, "0".into()));
    large.send_bytes(b"v\r\n").unwrap();
    assert_eq!(large.read_reply().unwrap(), Reply::ok());
    for sender in &mut senders {
        assert_eq!(sender.run("PING"), Reply::Simple("PONG".into()));
    }
}

/// Whoever has to authenticate again keeps nothing of what it was trusted with.
#[test]
fn a_client_that_is_a_stranger_again_keeps_no_room() {
    let (_folder, server, mut admin) = guarded_cache(&[]);
    let mut former = server.client_with_password("secret");
    let id = former.run("CLIENT ID").int();
    assert_eq!(former.command(&[&b"SET"[..], b"key", &[b'v'; 400_000]]), Reply::ok());
    assert_eq!(former.run("RESET"), Reply::Simple("RESET".into()));
    let line = admin.run(&format!("CLIENT LIST ID {id}")).text();
    assert_eq!(field(&line, "qbuf-free"), 0, "{line}");
}

/// Many short names cost more than their bytes: places in several maps, and allocations of their own.
#[test]
fn short_names_are_counted_with_what_holds_them() {
    const COUNT: usize = 30_000;
    let (_folder, server) = cache(&[]);
    let mut admin = server.client();
    for (command, last) in [("SUBSCRIBE", ""), ("PSUBSCRIBE", ""), ("WATCH", ""), ("BLPOP", "0")] {
        let names: Vec<String> = (0..COUNT).map(|number| format!("{command}{number:06}")).collect();
        let mut bytes = Vec::new();
        let words: Vec<&str> = [command].into_iter().chain(names.iter().map(String::as_str)).collect();
        let words: Vec<&str> = words.into_iter().chain((!last.is_empty()).then_some(last)).collect();
        Client::encode(&words, &mut bytes);
        let mut state =
            || (number(&mut admin, "allocator_allocated"), number(&mut admin, "mem_clients_normal"));
        let before = state();
        let mut client = server.client();
        client.send_bytes(&bytes).unwrap();
        match command {
            "BLPOP" => server.client().wait_for_info("blocked_clients", "1"),
            "WATCH" => assert_eq!(client.read_reply().unwrap(), Reply::ok()),
            _ => (0..COUNT).for_each(|_| drop(client.read_reply().unwrap())),
        }
        let after = state();
        let (taken, told) = (after.0 - before.0, after.1 - before.1);
        assert!(
            told * 10 > taken * 9 && told * 10 < taken * 14,
            "{command}: {taken} bytes taken, {told} told"
        );
    }
}

/// What a queued transaction, watched keys, subscriptions and unread messages take counts.
#[test]
fn everything_that_a_client_makes_the_server_hold_is_told() {
    let (_folder, server) = cache(&[]);
    let mut admin = server.client();
    let all = |admin: &mut Client| {
        // Only what was sent is counted in the end.
        admin.run("PING");
        number(admin, "mem_clients_normal")
    };
    let mut before = all(&mut admin);
    let mut grows = |admin: &mut Client, name: &str| {
        let now = all(admin);
        assert!(now >= before + 100_000, "{name}: from {before} to {now} bytes");
        let list = admin.run("CLIENT LIST").text();
        let sum: usize = list.lines().map(|line| field(line, "tot-mem")).sum();
        // The one that asks holds its request meanwhile.
        assert!(sum.abs_diff(now) < 1024, "{name}: {sum} in the list and {now} in all\n{list}");
        before = now;
        list
    };
    let mut watcher = server.client();
    let key = "k".repeat(1000);
    for number in 0..100 {
        watcher.run(&format!("WATCH {key}{number}"));
    }
    grows(&mut admin, "watched keys");
    let mut queuer = server.client();
    queuer.run("MULTI");
    queuer.command(&[&b"SET"[..], b"key", &[b'v'; 100_000]]);
    let list = grows(&mut admin, "a transaction");
    let queues = |line: &str| field(line, "multi-mem") >= 100_000 && line.contains(" multi=1 ");
    assert!(list.lines().any(queues), "{list}");
    let mut subscriber = server.client();
    for number in 0..100 {
        subscriber.run(&format!("SUBSCRIBE {key}{number}"));
    }
    grows(&mut admin, "subscriptions");
    // Unread messages, also while many share them.
    let message = "m".repeat(MIB);
    let command = ["PUBLISH", &format!("{key}7"), &message];
    wait_until("unread messages do not count", || {
        assert_eq!(admin.command(&command), Reply::Int(1));
        let list = admin.run("CLIENT LIST TYPE pubsub").text();
        field(&list, "omem") >= 2 * MIB && field(&list, "tot-mem") >= field(&list, "omem") + 100_000
    });
    drop((watcher, queuer, subscriber));
    admin.wait_for_info("connected_clients", "1");
    let held = all(&mut admin);
    assert!(held < 4096, "{held} bytes are held for one idle client");
}

/// The default of `maxmemory-clients` follows `maxmemory`; a share that was set has no lower bound.
#[test]
fn the_limit_of_all_clients_follows_maxmemory() {
    let (_folder, server) = cache(&["--maxmemory", "1gb"]);
    let mut client = server.client();
    assert_eq!(client.run("CONFIG GET maxmemory-clients").items()[1], Reply::bulk("10%"));
    assert_eq!(number(&mut client, "mem_clients_limit"), (1 << 30) / 10);
    for (settings, expected) in [
        ("maxmemory 1mb", 16 * MIB),
        ("maxmemory-clients 7%", MIB * 7 / 100),
        ("maxmemory-clients 5mb", 5 * MIB),
        ("maxmemory-clients 0", 0),
    ] {
        assert_eq!(client.run(&format!("CONFIG SET {settings}")), Reply::ok());
        assert_eq!(number(&mut client, "mem_clients_limit"), expected, "{settings}");
    }
    let reply = client.run("CONFIG SET maxmemory-clients 101%");
    assert!(matches!(&reply, Reply::Error(text) if text.contains("maxmemory-clients")), "{reply:?}");
    assert_eq!(client.run("CONFIG SET maxmemory 0 maxmemory-clients 10%"), Reply::ok());
    assert!(number(&mut client, "mem_clients_limit") > 0, "nothing is known of this machine");
}

/// Whoever reads is served to the end, however long it takes; whoever reads nothing is closed (`unread-output-timeout`).
#[test]
fn only_whoever_reads_nothing_is_closed() {
    const PARTS: usize = 100;
    let (_folder, server) = cache(&["--unread-output-timeout", "3", "--maxmemory-clients", "1gb"]);
    let mut admin = server.client();
    let part = vec![b'v'; MIB];
    for _ in 0..PARTS {
        admin.command(&[&b"RPUSH"[..], b"list", &part]);
    }
    let mut reader = server.client();
    let mut deaf = server.client();
    for client in [&mut reader, &mut deaf] {
        let mut bytes = Vec::new();
        Client::encode(&["LRANGE", "list", "0", "-1"], &mut bytes);
        client.send_bytes(&bytes).unwrap();
    }
    let mut stream = reader.clone_writer();
    let expected = format!("*{PARTS}\r\n").len() + PARTS * (MIB + format!("${MIB}\r\n\r\n").len());
    let (mut left, mut some) = (expected, vec![0; MIB]);
    let began = Instant::now();
    while left > 0 {
        let len = left.min(some.len());
        stream
            .read_exact(&mut some[..len])
            .unwrap_or_else(|error| panic!("{left} bytes are missing: {error}"));
        left -= len;
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(began.elapsed() > Duration::from_secs(4), "it took no longer than the limit");
    admin.wait_for_info("connected_clients", "2");
    assert_eq!(server.log_text().matches("it has read nothing for the time of").count(), 1);
    assert_eq!(reader.run("PING"), Reply::Simple("PONG".into()));
    drop(deaf);
}

/// Sends GET of a value of 100,000 bytes again and again and reads nothing.
fn pile_up_replies(server: &Server) -> TcpStream {
    let mut bytes = Vec::new();
    Client::encode(&["GET", "big"], &mut bytes);
    let mut stream = stranger(server);
    // As much as is sent without anybody taking it; the server may close the connection meanwhile.
    let _ = stream.write_all(&bytes.repeat(2000));
    stream
}

/// A client that does not read waits, but not below a limit that somebody has set: that is still reached.
#[test]
fn a_pause_keeps_no_limit_from_being_reached() {
    let (_folder, server) = cache(&[]);
    let mut admin = server.client();
    admin.command(&[&b"SET"[..], b"big", &[b'v'; 100_000]]);
    let waiting = pile_up_replies(&server);
    wait_until("its output is not told", || {
        let list = admin.run("CLIENT LIST").text();
        list.lines().any(|line| (200 << 10..MIB).contains(&field(line, "omem")))
    });
    drop(waiting);
    admin.wait_for_info("connected_clients", "1");
    for (settings, message) in [
        (["client-output-buffer-limit", "normal 40mb 0 0"], "it exceeds client-output-buffer-limit"),
        (["client-output-buffer-limit", "normal 0 8mb 1"], "it exceeds client-output-buffer-limit"),
        (["maxmemory-clients", "20mb"], "exceed maxmemory-clients"),
    ] {
        assert_eq!(admin.command(&["CONFIG", "SET", settings[0], settings[1]]), Reply::ok());
        let before = server.log_text().matches(message).count();
        let _stream = pile_up_replies(&server);
        wait_until("the limit is not reached", || server.log_text().matches(message).count() > before);
        admin.wait_for_info("connected_clients", "1");
        assert_eq!(
            server.log_text().matches(message).count(),
            before + 1,
            "{settings:?}\n{}",
            server.log_text()
        );
        let none = ["CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0"];
        assert_eq!(admin.command(&none), Reply::ok());
    }
}

/// As in Redis a reply beyond a hard limit is not sent at all, even where the sockets had room for it.
#[test]
fn a_reply_beyond_a_hard_limit_is_not_begun() {
    let (_folder, server) = cache(&["--client-output-buffer-limit", "normal", "100000", "0", "0"]);
    let mut admin = server.client();
    for _ in 0..150 {
        admin.command(&[&b"RPUSH"[..], b"list", &[b'v'; 1000]]);
    }
    let mut client = server.client();
    let mut bytes = Vec::new();
    for command in [&["SET", "key", "1"][..], &["LRANGE", "list", "0", "-1"], &["SET", "after", "1"]] {
        Client::encode(command, &mut bytes);
    }
    // Stopped meanwhile, so that all of it is executed in one turn.
    server.signal("STOP");
    client.send_bytes(&bytes).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    server.signal("CONT");
    assert!(client.read_reply().is_err(), "something is answered");
    assert_eq!(admin.run("EXISTS key after"), Reply::Int(1), "only what came before is executed");
}

/// A transaction is executed as a whole, and its replies are no way around the limits.
#[test]
fn the_replies_of_a_transaction_are_limited_while_it_runs() {
    let limits = [
        ["--client-output-buffer-limit", "normal 1mb 0 0", "it exceeds client-output-buffer-limit"],
        ["--maxmemory-clients", "1mb", "it exceeds client-output-buffer-limit"],
    ];
    for [name, value, message] in limits {
        let arguments: Vec<&str> = [name].into_iter().chain(value.split(' ')).collect();
        let (_folder, server) = cache(&arguments);
        let mut admin = server.client();
        admin.command(&[&b"RPUSH"[..], b"list", &[b'v'; 100_000]]);
        let before = peak_memory(&server);
        let mut client = server.client();
        let mut bytes = Vec::new();
        Client::encode(&["MULTI"], &mut bytes);
        for _ in 0..1000 {
            Client::encode(&["LRANGE", "list", "0", "-1"], &mut bytes);
        }
        Client::encode(&["SET", "key", "1"], &mut bytes);
        Client::encode(&["EXEC"], &mut bytes);
        client.send_bytes(&bytes).unwrap();
        wait_for_end(&mut client.socket().try_clone().unwrap());
        assert_eq!(admin.run("GET key"), Reply::bulk("1"), "{name}: all of it is executed");
        let grown = peak_memory(&server) - before;
        assert!(grown < 30 * MIB, "{name}: {grown} bytes more at the peak");
        assert!(server.log_text().contains(message), "{name}: {}", server.log_text());
    }
}

/// Most memory that the process has had, in bytes.
fn peak_memory(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}
