//! Client-side caching on the real server: who is told what, when, and in which form; where both know it, beside Debian's Redis.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod support;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::{Client, PATIENCE, Reply, Server};

fn cache(args: &[&str]) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let args: Vec<&str> =
        ["--persistent", "no", "--enable-debug-command", "yes"].iter().chain(args).copied().collect();
    let server = Server::spawn(&folder.path().join("data"), &args);
    (folder, server)
}

/// Number of the last connection before those of a test.
const FIRST_ID: i64 = 50;

/// Connections to one server by name. A step may name another connection's number as `{name}`.
struct Stage {
    port: u16,
    connections: BTreeMap<String, (TcpStream, i64)>,
    steps: usize,
}

impl Stage {
    fn new(server: &Server) -> Self {
        // The same numbers on either server.
        let mut last = server.client();
        while last.run("CLIENT ID").int() < FIRST_ID {
            last = server.client();
        }
        Self { port: server.port, connections: BTreeMap::new(), steps: 0 }
    }

    fn connect(&mut self, name: &str) {
        if !self.connections.contains_key(name) {
            let mut client = Client::connect(self.port).unwrap();
            let id = client.run("CLIENT ID").int();
            let stream = client.socket().try_clone().unwrap();
            self.connections.insert(name.to_owned(), (stream, id));
        }
    }

    /// One connection sends commands, in one piece; returns what each connection has received when all is done, in order of
    /// name.
    fn step(&mut self, line: &str) -> Vec<String> {
        let (name, commands) = line.split_once(": ").unwrap();
        self.connect(name);
        self.steps += 1;
        let mark = format!("step-{}", self.steps);
        let mut bytes = Vec::new();
        for command in commands.split("; ").filter(|it| !it.is_empty()) {
            let mut command = command.to_owned();
            for (other, (_, id)) in &self.connections {
                command = command.replace(&format!("{{{other}}}"), &id.to_string());
            }
            Client::encode(&command.split(' ').collect::<Vec<_>>(), &mut bytes);
        }
        let mut received = BTreeMap::new();
        // First who acts, then everybody, and who acts once more: what is told at the end of its turn may come behind.
        self.connections[name].0.try_clone().unwrap().write_all(&bytes).unwrap();
        let order: Vec<String> = std::iter::once(name.to_owned())
            .chain(self.connections.keys().filter(|other| *other != name).cloned())
            .chain(std::iter::once(name.to_owned()))
            .collect();
        for name in order {
            let (stream, _) = self.connections.get_mut(&name).unwrap();
            let mut bytes = Vec::new();
            Client::encode(&["PING", &mark], &mut bytes);
            stream.write_all(&bytes).unwrap();
            let text = read_to_mark(stream, &mark);
            *received.entry(name).or_insert_with(String::new) += &text;
        }
        received.into_iter().map(|(name, text)| format!("{name} {text}")).collect()
    }

    fn leave(&mut self, name: &str) {
        self.connections.remove(name);
        let mut client = Client::connect(self.port).unwrap();
        // One more asks.
        client.wait_for_info("connected_clients", &(self.connections.len() + 1).to_string());
    }
}

/// Reads up to the answer to `PING mark`, in whatever form it comes, and leaves it out.
fn read_to_mark(stream: &mut TcpStream, mark: &str) -> String {
    let plain = format!("${}\r\n{mark}\r\n", mark.len());
    let as_message = format!("*2\r\n$4\r\npong\r\n{plain}");
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some(at) = text.find(&as_message) {
            return [&text[..at], &text[at + as_message.len()..]].concat();
        }
        if let Some(at) = text.find(&plain) {
            return [&text[..at], &text[at + plain.len()..]].concat();
        }
        let len =
            stream.read(&mut chunk).unwrap_or_else(|error| panic!("no answer to {mark}: {error}; {text:?}"));
        assert!(len > 0, "the connection was closed: {text:?}");
        bytes.extend_from_slice(&chunk[..len]);
    }
}

/// Plays the steps to us and to Redis and compares every byte that anybody receives. `-name` is the end of a connection.
fn check_beside_redis(steps: &[&str]) {
    let (folder, server) = cache(&[]);
    let peer_dir = folder.path().join("redis");
    std::fs::create_dir(&peer_dir).unwrap();
    let redis = Server::spawn_redis(
        &peer_dir,
        &["--save", "", "--appendonly", "no", "--enable-debug-command", "yes"],
    );
    let (mut ours, mut theirs) = (Stage::new(&server), Stage::new(&redis));
    for step in steps {
        if let Some(name) = step.strip_prefix('-') {
            ours.leave(name);
            theirs.leave(name);
            continue;
        }
        let expected = theirs.step(step);
        assert_eq!(ours.step(step), expected, "after {step:?}");
    }
}

#[test]
fn readers_are_told_as_by_redis() {
    check_beside_redis(&[
        "a: HELLO 3 SETNAME a; CLIENT TRACKING ON; CLIENT TRACKINGINFO; CLIENT GETREDIR",
        "b: HELLO 3 SETNAME b; CLIENT TRACKING ON NOLOOP; CLIENT TRACKINGINFO",
        "a: SET x 1; GET x; GET missing; MGET x y z; HGETALL h; LRANGE l 0 -1; ZRANGE z 0 -1; STRLEN x; EXISTS x q",
        "b: GET x; SET x 2; GET x; APPEND x 3; APPEND x 4",
        "c: SET y 1; SET missing 1; DEL z; HSET h f v; RPUSH l a b; ZADD z 1 m",
        "a: GET x; INCR x; GET x; INCR x",
        // A write whose answer is an error changes nothing, and a reading of the wrong type is one all the same.
        "a: GET h; TYPE l; GET l",
        "c: LPOP h; HDEL h f; DEL l",
        "a: GET s; TTL s; OBJECT ENCODING s; DUMP s",
        "c: SETRANGE s 0 abc; SETRANGE s 0 abc; EXPIRE s 100; PERSIST s; RENAME s t",
        "a: GET t; GET s; EXISTS s t u; TOUCH t",
        "c: COPY t u; RENAME t s; SWAPDB 0 1; SWAPDB 0 1",
        "a: SELECT 1; GET k; SELECT 0",
        "c: SET k of-database-0",
        "a: LRANGE l 0 -1; SMEMBERS m; ZSCORE zz a; GETBIT bit 7; SORT_RO l; LCS x y; SUBSTR x 0 1",
        "c: RPUSH l 1 2; LTRIM l 0 -1; SADD m a; SADD m a; ZADD zz 1 a; SETBIT bit 7 1; LPUSH l 0",
        "a: LRANGE l 0 -1; EXISTS store1 store2 store3",
        "c: LTRIM l 0 -1; SORT l STORE store1; SUNIONSTORE store2 m; BITOP NOT store3 bit",
        "a: CLIENT TRACKING OFF; CLIENT TRACKING OFF; CLIENT TRACKINGINFO; CLIENT GETREDIR; GET x",
        "c: SET x 9",
        "a: CLIENT TRACKING ON; GET x; RESET; HELLO 3; CLIENT TRACKINGINFO",
        "c: SET x 10",
    ]);
}

#[test]
fn transactions_are_told_behind_their_replies_as_by_redis() {
    check_beside_redis(&[
        "a: HELLO 3; CLIENT TRACKING ON; MGET x y z",
        "a: MULTI; SET x 1; GET x; SET y 2; GET y; EXEC; GET z",
        "b: HELLO 3; CLIENT TRACKING ON; GET x; GET y; MULTI; SET x 1; SET y 1; DISCARD",
        "b: MULTI; SET x 5; GET x; SET x 6; EXEC",
        "a: MULTI; FLUSHDB; SET x 1; FLUSHALL; EXEC; GET x",
        "b: MULTI; GET w; CLIENT TRACKING OFF; SET w 1; CLIENT TRACKING ON; GET w; EXEC; SET w 2",
        "a: WATCH x; GET x; SET x 1; MULTI; GET x; EXEC",
        "a: MULTI; NOSUCH; EXEC; FLUSHDB; FLUSHALL ASYNC",
        "c: MULTI; HELLO 3; CLIENT TRACKING ON; GET q; SET q 1; EXEC; SET q 2; CLIENT TRACKINGINFO",
    ]);
}

#[test]
fn prefixes_are_told_at_the_end_of_a_turn_as_by_redis() {
    check_beside_redis(&[
        "a: HELLO 3; CLIENT TRACKING ON BCAST; CLIENT TRACKINGINFO",
        "b: HELLO 3; CLIENT TRACKING ON BCAST PREFIX b: PREFIX a: NOLOOP; CLIENT TRACKINGINFO",
        "c: MSET b:2 1 b:1 1 a:1 1 c:1 1; GET b:1; INCR b:1",
        "b: SET b:1 1; SET a:1 1; PING",
        "c: SET b:1 1",
        "b: CLIENT TRACKING ON BCAST PREFIX d:; CLIENT TRACKINGINFO; CLIENT TRACKING ON BCAST PREFIX d:x",
        "b: CLIENT TRACKING ON BCAST PREFIX d; CLIENT TRACKING ON BCAST PREFIX x PREFIX xx",
        "c: SET d:1 1; DEL nothing; DEL b:1 a:1; MULTI; SET b:3 1; SET a:3 1; EXEC",
        "c: FLUSHALL; FLUSHDB",
        "a: CLIENT TRACKING ON; CLIENT TRACKING OFF; CLIENT TRACKING ON; GET b:1; CLIENT TRACKING ON BCAST",
        "c: SET b:1 1; SWAPDB 0 1",
        "b: RESET",
        "c: SET b:1 1",
    ]);
}

#[test]
fn consent_is_given_for_one_command_as_in_redis() {
    check_beside_redis(&[
        "a: HELLO 3; CLIENT CACHING YES; CLIENT TRACKING ON; CLIENT CACHING YES; CLIENT CACHING NO; CLIENT CACHING MAYBE",
        "a: CLIENT TRACKING ON OPTIN; CLIENT CACHING NO; CLIENT CACHING YES; CLIENT TRACKINGINFO; GET x; GET y; CLIENT TRACKINGINFO",
        "b: SET x 1; SET y 1",
        "a: CLIENT CACHING YES; MULTI; GET x; GET y; EXEC; GET z; CLIENT TRACKINGINFO",
        "b: SET x 1; SET y 1; SET z 1",
        "a: CLIENT CACHING YES; CLIENT GETNAME; CLIENT ID; GET x; CLIENT CACHING YES; NOSUCH; GET y",
        "b: SET x 1; SET y 1",
        "a: CLIENT TRACKING ON OPTOUT; CLIENT TRACKING OFF; CLIENT TRACKING ON OPTOUT; CLIENT TRACKING ON OPTIN",
        "a: CLIENT CACHING NO; CLIENT TRACKINGINFO; GET x; GET y; CLIENT CACHING YES; CLIENT CACHING NO; PING; GET z",
        "b: SET x 1; SET y 1; SET z 1",
        "a: CLIENT TRACKING ON; CLIENT TRACKING ON OPTIN; CLIENT TRACKING OFF",
    ]);
}

#[test]
fn other_clients_are_told_in_its_place_as_by_redis() {
    check_beside_redis(&[
        "listener: SUBSCRIBE __redis__:invalidate",
        "deaf: PING",
        "three: HELLO 3",
        "a: CLIENT TRACKING ON REDIRECT {listener}; CLIENT GETREDIR; CLIENT TRACKINGINFO; MGET x y",
        // Everything at once is told in the dialect of who is told; by Redis in that of who tracks.
        "b: HELLO 3; CLIENT TRACKING ON REDIRECT {three} NOLOOP; MGET x y",
        "c: CLIENT TRACKING ON REDIRECT {deaf}; MGET x y",
        "d: CLIENT TRACKING ON; MGET x y",
        "b: SET x 1; MSET x 1 y 2",
        "a: MGET x y; SET x 1; MULTI; SET y 1; FLUSHALL; EXEC; GET x",
        "listener: PING",
        "three: SET x 1; UNSUBSCRIBE",
        "a: CLIENT TRACKING ON REDIRECT 999999; CLIENT TRACKING ON REDIRECT x; CLIENT TRACKING ON REDIRECT -1",
        "a: CLIENT TRACKING ON REDIRECT {listener} REDIRECT {three}; CLIENT TRACKING ON REDIRECT; CLIENT TRACKING",
        "a: CLIENT TRACKING OFF; CLIENT TRACKING ON BCAST REDIRECT {listener} PREFIX x",
        "three: MSET x1 1 x2 2 y 1",
        "self: SUBSCRIBE one; HELLO 3; UNSUBSCRIBE one; CLIENT TRACKING ON REDIRECT {self}; GET q",
        "three: SET q 1",
    ]);
}

#[test]
fn a_client_whose_receiver_has_left_is_told_so_as_by_redis() {
    check_beside_redis(&[
        "z: SUBSCRIBE __redis__:invalidate",
        "a: HELLO 3; CLIENT TRACKING ON REDIRECT {z}; GET x; GET y",
        "b: CLIENT TRACKING ON REDIRECT {z}; GET x",
        "c: PING",
        "-z",
        "c: SET x 1; SET y 1; SET x 1",
        "a: CLIENT TRACKINGINFO; GET x; SET x 1; MULTI; FLUSHALL; EXEC",
        "b: CLIENT TRACKINGINFO",
        "a: CLIENT TRACKING ON; CLIENT TRACKINGINFO; GET x; SET x 1",
    ]);
}

#[test]
fn options_of_tracking_are_refused_as_by_redis() {
    check_beside_redis(&[
        "a: CLIENT TRACKING; CLIENT TRACKING maybe; CLIENT TRACKING ON PREFIX x; CLIENT TRACKING ON PREFIX",
        "a: CLIENT TRACKING ON OPTIN OPTOUT; CLIENT TRACKING ON BCAST OPTIN; CLIENT TRACKING ON NOSUCH",
        "a: CLIENT TRACKING OFF BCAST PREFIX x; CLIENT TRACKING OFF NOSUCH; CLIENT CACHING; CLIENT CACHING yes no",
        "a: CLIENT TRACKINGINFO x; CLIENT GETREDIR x; CLIENT TRACKING ON BCAST PREFIX x PREFIX xy; CLIENT TRACKINGINFO",
        "a: CLIENT TRACKING ON BCAST PREFIX foo PREFIX bar; CLIENT TRACKING ON BCAST PREFIX fo; CLIENT TRACKING ON BCAST; CLIENT TRACKINGINFO",
    ]);
}

#[test]
fn unanswered_clients_are_told_as_by_redis() {
    check_beside_redis(&[
        "a: HELLO 3; CLIENT TRACKING ON; GET x; GET y; CLIENT REPLY OFF; GET z; SET x 1; CLIENT REPLY ON",
        "b: SET y 1; SET z 1",
        "a: GET x; CLIENT REPLY OFF; NOSUCH; MULTI; GET y; SET x 1; EXEC; CLIENT REPLY ON",
        "a: GET x; CLIENT REPLY SKIP; SET x 2; SET x 3; GET x; MULTI; CLIENT REPLY OFF; SET x 4; CLIENT REPLY ON; EXEC",
        "a: CLIENT REPLY OFF; MULTI; SUBSCRIBE three; GET x; CLIENT REPLY ON; SUBSCRIBE four; GET x; EXEC; PING",
        "a: SUBSCRIBE one; CLIENT REPLY OFF; PUBLISH one hello; SUBSCRIBE two; CLIENT REPLY ON; PUBLISH one again",
    ]);
}

/// What CLIENT REPLY says counts from there on, inside of a transaction as well.
#[test]
fn replies_are_switched_within_transactions_as_by_redis() {
    check_beside_redis(&[
        "a: MULTI; SET x 1; CLIENT REPLY OFF; SET x 2; NOSUCH; CLIENT REPLY ON; GET x; EXEC",
        "a: MULTI; SET x 1; CLIENT REPLY OFF; SET x 2; GET x; CLIENT REPLY ON; GET x; EXEC; GET x",
        "a: MULTI; GET x; CLIENT REPLY OFF; GET x; EXEC; GET x; CLIENT REPLY ON",
        "a: CLIENT REPLY OFF; MULTI; GET x; CLIENT REPLY ON; GET x; EXEC; GET x",
        "a: MULTI; CLIENT REPLY SKIP; GET x; EXEC; GET x; ECHO seen",
        "a: CLIENT REPLY SKIP; MULTI; GET x; CLIENT REPLY SKIP; GET x; EXEC; ECHO unseen; ECHO seen",
        "a: CLIENT REPLY SKIP; NOSUCH; CLIENT REPLY SKIP; CLIENT REPLY ON; ECHO unseen; ECHO seen",
        "a: CLIENT REPLY OFF; CLIENT REPLY SKIP; RESET; ECHO seen; CLIENT REPLY SKIP; RESET; ECHO seen",
        "a: CLIENT REPLY SKIP; WATCH x; SET x 1; MULTI; CLIENT REPLY OFF; EXEC; ECHO seen; CLIENT REPLY OFF; EXEC; CLIENT REPLY ON",
    ]);
}

/// Whoever waited is served within the turn of another, and each is told of the other's changes.
#[test]
fn clients_that_waited_are_told_as_by_redis() {
    let (folder, server) = cache(&[]);
    let peer_dir = folder.path().join("redis");
    std::fs::create_dir(&peer_dir).unwrap();
    let redis = Server::spawn_redis(&peer_dir, &["--save", "", "--appendonly", "no"]);
    let play = |server: &Server| {
        let mut stage = Stage::new(server);
        let mut received = Vec::new();
        stage.step("a: HELLO 3");
        stage.step("b: HELLO 3");
        received.push(stage.step("a: CLIENT TRACKING ON; LRANGE to 0 -1; LRANGE from 0 -1"));
        received.push(stage.step("b: CLIENT TRACKING ON; LRANGE to 0 -1; LRANGE from 0 -1"));
        let mut bytes = Vec::new();
        Client::encode(&["BLMOVE", "from", "to", "LEFT", "RIGHT", "0"], &mut bytes);
        stage.connections["a"].0.try_clone().unwrap().write_all(&bytes).unwrap();
        server.client().wait_for_info("blocked_clients", "1");
        received.push(stage.step("b: RPUSH from 1; LRANGE to 0 -1"));
        received.push(stage.step("b: RPUSH to 2"));
        received
    };
    assert_eq!(play(&server), play(&redis));
}

#[test]
fn keys_that_expire_are_told_whoever_meets_them() {
    let (_folder, server) = cache(&[]);
    let mut reader = server.client();
    let mut other = server.client();
    let told = |reader: &mut Client, key: &str| {
        assert_eq!(message(reader), [key], "a key that has expired");
    };
    hello_3(&mut reader);
    reader.run("CLIENT TRACKING ON NOLOOP");
    // Read within the moment in which it is set, however slow the machine is; NOLOOP says nothing of that.
    let set_and_read = |reader: &mut Client, key: &str| {
        reader.run("MULTI");
        reader.run(&format!("SET {key} x PX 20"));
        reader.run(&format!("EXISTS {key}"));
        assert_eq!(reader.run("EXEC").items()[1], Reply::Int(1));
    };
    set_and_read(&mut reader, "soon");
    told(&mut reader, "soon");
    other.run("DEBUG SET-ACTIVE-EXPIRE 0");
    set_and_read(&mut reader, "late");
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(other.run("GET late"), Reply::Bulk(None));
    told(&mut reader, "late");
    // NOLOOP is about what the client changes itself.
    set_and_read(&mut reader, "own");
    std::thread::sleep(Duration::from_millis(30));
    reader.send_bytes(b"EXISTS own\r\n").unwrap();
    assert_eq!(reader.read_reply().unwrap(), Reply::Int(0));
    told(&mut reader, "own");
    // By prefix as well, and never by NOLOOP.
    let mut broadcast = server.client();
    hello_3(&mut broadcast);
    broadcast.run("CLIENT TRACKING ON BCAST NOLOOP");
    broadcast.run("SET mine x PX 20");
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(broadcast.run("PING"), Reply::Simple("PONG".into()));
    broadcast.send_bytes(b"GET mine\r\n").unwrap();
    assert!(matches!(null(&mut broadcast), Ok(())));
    told(&mut broadcast, "mine");
}

#[test]
fn the_table_of_keys_has_a_limit_and_whoever_falls_out_is_told() {
    let (_folder, server) = cache(&["--tracking-table-max-keys", "3"]);
    let mut reader = server.client();
    let mut admin = server.client();
    hello_3(&mut reader);
    reader.run("CLIENT TRACKING ON");
    assert_eq!(admin.run("CONFIG GET tracking-table-max-keys").items()[1], Reply::bulk("3"));
    let mut told = Vec::new();
    let mut bytes = Vec::new();
    for number in 0..1000 {
        Client::encode(&["EXISTS", &format!("key:{number}")], &mut bytes);
    }
    reader.send_bytes(&bytes).unwrap();
    let mut answers = 0;
    while answers < 1000 || told.len() < 997 {
        match next(&mut reader) {
            Next::Message(keys) => told.extend(keys),
            Next::Reply => answers += 1,
        }
    }
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), 997, "each key that fell out is told once");
    admin.wait_for_info("tracking_total_keys", "3");
    assert_eq!(admin.info("tracking_total_items"), "3");
    admin.run("CONFIG SET tracking-table-max-keys 0");
    reader.run("EXISTS more");
    reader.run("EXISTS and-more");
    admin.wait_for_info("tracking_total_keys", "5");
    assert_eq!(admin.info("tracking_clients"), "1");
    drop(reader);
    admin.wait_for_info("tracking_clients", "0");
    assert_eq!(admin.info("tracking_total_keys"), "0", "nothing is kept for nobody");
}

#[test]
fn clients_that_track_are_shown_and_counted() {
    let (_folder, server) = cache(&[]);
    let (mut admin, mut one, mut two) = (server.client(), server.client(), server.client());
    let id = admin.run("CLIENT ID").int();
    let line = |client: &mut Client| client.run("CLIENT INFO").text();
    assert!(line(&mut one).contains(" flags=N ") && line(&mut one).contains(" redir=-1 "));
    one.run(&format!("CLIENT TRACKING ON REDIRECT {id}"));
    assert!(line(&mut one).contains(" flags=t ") && line(&mut one).contains(&format!(" redir={id} ")));
    two.run("CLIENT TRACKING ON BCAST PREFIX a PREFIX b");
    two.run("CLIENT NO-EVICT ON");
    let shown = line(&mut two);
    assert!(shown.contains(" flags=tBe ") && shown.contains(" redir=0 "), "{shown}");
    one.run("MGET a b a");
    for (field, expected) in [
        ("tracking_clients", "2"),
        ("tracking_total_keys", "2"),
        ("tracking_total_items", "2"),
        ("tracking_total_prefixes", "2"),
    ] {
        assert_eq!(admin.info(field), expected, "{field}");
    }
    drop(admin);
    let mut admin = server.client();
    admin.wait_for_info("connected_clients", "3");
    admin.run("SET a 1");
    assert!(line(&mut one).contains(" flags=tR "), "{}", line(&mut one));
    assert_eq!(two.run("CLIENT TRACKING OFF"), Reply::ok());
    assert!(line(&mut two).contains(" flags=e "), "{}", line(&mut two));
    assert_eq!(admin.info("tracking_total_prefixes"), "0");
}

/// Messages cannot wait for their reader: one that does not read them is closed, and replies alone close nobody.
#[test]
fn a_client_that_does_not_read_what_it_is_told_is_closed() {
    let (_folder, server) = cache(&["--client-output-buffer-limit", "pubsub", "2mb", "1mb", "1"]);
    let (mut writer, mut reader) = (server.client(), server.client());
    let value = "x".repeat(6 << 20);
    writer.command(&["SET", "long", &value]);
    hello_3(&mut reader);
    reader.run("CLIENT TRACKING ON BCAST");
    reader.send_bytes(b"GET long\r\n").unwrap();
    writer.run("SET told 1");
    // Longer than the soft limit allows for messages.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(writer.info("connected_clients"), "2", "a reply that waits for its reader closes nobody");
    let deadline = Instant::now() + PATIENCE;
    let key = "k".repeat(20_000);
    let mut rounds = 0;
    while writer.info("connected_clients") != "1" {
        assert!(Instant::now() < deadline, "the reader is still there");
        for number in 0..50 {
            writer.command(&["SET", &format!("{key}{number}"), "x"]);
        }
        rounds += 1;
    }
    assert!((2..=20).contains(&rounds), "closed after {rounds} MB");
    assert_eq!(writer.info("tracking_clients"), "0");
    assert!(server.log_text().contains("client-output-buffer-limit"), "{}", server.log_text());
}

#[test]
fn a_reload_makes_everything_worthless() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::spawn(&folder.path().join("data"), &["--enable-debug-command", "yes"]);
    let (mut reader, mut writer) = (server.client(), server.client());
    writer.run("SET key value");
    hello_3(&mut reader);
    reader.run("CLIENT TRACKING ON");
    reader.run("STRLEN key");
    assert_eq!(writer.run("DEBUG RELOAD"), Reply::ok());
    assert_eq!(message(&mut reader), ["*"]);
    reader.run("STRLEN key");
    writer.run("SET key other");
    assert_eq!(message(&mut reader), ["key"], "clients track on after a reload");
}

/// Under `always` nobody is told of a change before it is on disk: no invalidation is ahead of the sync of its turn.
#[test]
fn invalidations_wait_until_their_change_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::spawn(&folder.path().join("data"), &["--persist-strategy", "always"]);
    let (mut reader, mut broadcast, mut writer) = (server.client(), server.client(), server.client());
    hello_3(&mut reader);
    reader.run("CLIENT TRACKING ON");
    hello_3(&mut broadcast);
    broadcast.run("CLIENT TRACKING ON BCAST");
    for number in 0..50 {
        reader.run("EXISTS key");
        let mut bytes = Vec::new();
        Client::encode(&["SET", "key", &number.to_string()], &mut bytes);
        writer.send_bytes(&bytes).unwrap();
        assert_eq!(message(&mut reader), ["key"]);
        assert_eq!(message(&mut broadcast), ["key"]);
        // Asked by a third client, which waits for nothing: what was told must be durable already.
        let mut witness = server.client();
        let durable: u64 = witness.info("persist_durable_offset").parse().unwrap();
        let last: u64 = witness.info("persist_last_offset").parse().unwrap();
        assert_eq!(durable, last, "told before it was durable");
        assert_eq!(writer.read_reply().unwrap(), Reply::ok());
    }
    server.kill();
    let server = Server::spawn(&folder.path().join("data"), &["--persist-strategy", "always"]);
    assert_eq!(server.client().run("GET key"), Reply::bulk("49"));
}

/// A key that many clients have read is told to each, and a client that comes and goes leaves nothing.
#[test]
fn every_reader_is_told_and_those_who_left_are_forgotten() {
    let (_folder, server) = cache(&[]);
    let mut writer = server.client();
    for _ in 0..200 {
        let mut passing = server.client();
        passing.run("CLIENT TRACKING ON");
        passing.run("EXISTS key");
    }
    let mut readers: Vec<Client> = (0..20)
        .map(|_| {
            let mut reader = server.client();
            hello_3(&mut reader);
            reader.run("CLIENT TRACKING ON");
            reader.run("EXISTS key");
            reader
        })
        .collect();
    writer.wait_for_info("tracking_clients", "20");
    let items: usize = writer.info("tracking_total_items").parse().unwrap();
    assert!((20..=64).contains(&items), "{items} readers of one key");
    writer.run("SET key 1");
    readers.iter_mut().for_each(|reader| assert_eq!(message(reader), ["key"]));
    assert_eq!(writer.info("tracking_total_items"), "0");
}

/// What one connection receives next.
enum Next {
    /// Keys that it must forget; `*` for all.
    Message(Vec<String>),
    Reply,
}

/// Switches to RESP3; its reply is a map.
fn hello_3(client: &mut Client) {
    client.send_bytes(b"HELLO 3\r\n").unwrap();
    let mut line = String::new();
    // Seven pairs, the last of which is an empty array.
    while !line.starts_with('*') {
        line = client.read_line();
    }
}

/// The keys of an invalidation, which must come next.
fn message(client: &mut Client) -> Vec<String> {
    match next(client) {
        Next::Message(keys) => keys,
        Next::Reply => panic!("a reply came in place of an invalidation"),
    }
}

fn null(client: &mut Client) -> Result<(), String> {
    let line = client.read_line();
    if line == "_" { Ok(()) } else { Err(line) }
}

fn next(client: &mut Client) -> Next {
    let line = client.read_line();
    if line != ">2" {
        assert!(line.starts_with([':', '+', '_']), "{line}");
        return Next::Reply;
    }
    let mut lines = || client.read_line();
    assert_eq!((lines(), lines()), ("$10".to_owned(), "invalidate".to_owned()));
    let head = lines();
    let Some(count) = head.strip_prefix('*') else {
        assert_eq!(head, "_");
        return Next::Message(vec!["*".to_owned()]);
    };
    let keys = (0..count.parse::<usize>().unwrap()).map(|_| {
        lines();
        lines()
    });
    Next::Message(keys.collect())
}

/// Clients that do not listen are not told, and are told of nothing in between.
#[test]
fn old_connections_without_a_receiver_receive_replies_alone() {
    let (_folder, server) = cache(&[]);
    let mut stage = Stage::new(&server);
    stage.step("a: CLIENT TRACKING ON; GET x; GET y");
    let received = stage.step("b: SET x 1; FLUSHALL");
    assert_eq!(received[0], "a ");
    let (stream, _) = stage.connections.get_mut("a").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let error = stream.read(&mut [0; 64]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
}
