//! Publish and subscribe, keyspace events and MONITOR, on the real server; where both know it, beside Debian's Redis.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::{Client, PATIENCE, Reply, Server};

fn cache(args: &[&str]) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let args: Vec<&str> = ["--persistent", "no"].iter().chain(args).copied().collect();
    let server = Server::spawn(&folder.path().join("data"), &args);
    (folder, server)
}

/// Connections to one server by name, and everything that each has received.
struct Stage {
    port: u16,
    connections: BTreeMap<String, TcpStream>,
    /// Connections that have given MONITOR.
    monitors: BTreeSet<String>,
    steps: usize,
}

impl Stage {
    fn new(server: &Server) -> Self {
        let _ready = server.client();
        Self { port: server.port, connections: BTreeMap::new(), monitors: BTreeSet::new(), steps: 0 }
    }

    /// One connection sends commands; returns what each connection has received when all is done, in order of name.
    fn step(&mut self, line: &str) -> Vec<String> {
        let (name, commands) = line.split_once(": ").unwrap();
        let port = self.port;
        self.connections.entry(name.to_owned()).or_insert_with(|| {
            let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
        });
        let mut bytes = Vec::new();
        for command in commands.split("; ") {
            Client::encode(&command.split(' ').collect::<Vec<_>>(), &mut bytes);
        }
        if commands == "MONITOR" {
            self.monitors.insert(name.to_owned());
        } else if commands == "RESET" {
            self.monitors.remove(name);
        }
        self.steps += 1;
        let mark = format!("step-{}", self.steps);
        // First who acts, then everybody: a message is put into an output before the publisher is answered.
        let mut received = BTreeMap::new();
        let acting = self.connections.get_mut(name).unwrap();
        Client::encode(&["PING", &mark], &mut bytes);
        acting.write_all(&bytes).unwrap();
        received.insert(name.to_owned(), read_to_mark(acting, &mark, self.monitors.contains(name)));
        for (other, stream) in self.connections.iter_mut().filter(|(other, _)| *other != name) {
            // A monitor is shown the PING of who acts.
            let monitors = self.monitors.contains(other);
            if !monitors {
                let mut bytes = Vec::new();
                Client::encode(&["PING", &mark], &mut bytes);
                stream.write_all(&bytes).unwrap();
            }
            received.insert(other.clone(), read_to_mark(stream, &mark, monitors));
        }
        received.into_iter().map(|(name, text)| format!("{name} {text}")).collect()
    }
}

/// Reads up to the answer to `PING mark`, in whatever form it comes, and leaves it out; a monitor reads up to the line that
/// shows it.
fn read_to_mark(stream: &mut TcpStream, mark: &str, monitors: bool) -> String {
    let shown = format!("\"PING\" \"{mark}\"\r\n");
    let plain = format!("${}\r\n{mark}\r\n", mark.len());
    let as_message = format!("*2\r\n$4\r\npong\r\n{plain}");
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if monitors && text.ends_with(&shown) {
            return text.into_owned();
        }
        if let Some(rest) = text.strip_suffix(&as_message).or_else(|| text.strip_suffix(&plain))
            && !monitors
        {
            return rest.to_owned();
        }
        let len =
            stream.read(&mut chunk).unwrap_or_else(|error| panic!("no answer to {mark}: {error}; {text:?}"));
        assert!(len > 0, "the connection was closed: {text:?}");
        bytes.extend_from_slice(&chunk[..len]);
    }
}

/// Plays the steps to us and to Redis and compares every byte that anybody receives.
fn check_beside_redis(steps: &[&str], normalize: impl Fn(&str) -> String) {
    let (folder, server) = cache(&[]);
    let peer_dir = folder.path().join("redis");
    std::fs::create_dir(&peer_dir).unwrap();
    let redis = Server::spawn_redis(&peer_dir, &["--save", "", "--appendonly", "no"]);
    let (mut ours, mut theirs) = (Stage::new(&server), Stage::new(&redis));
    for step in steps {
        let normalized = |received: Vec<String>| received.iter().map(|it| normalize(it)).collect::<Vec<_>>();
        let expected = normalized(theirs.step(step));
        assert_eq!(normalized(ours.step(step)), expected, "after {step:?}");
    }
}

#[test]
fn subscriptions_and_messages_are_those_of_redis() {
    check_beside_redis(
        &[
            "a: SUBSCRIBE one two one",
            "a: PSUBSCRIBE o* t* o*",
            "a: SSUBSCRIBE one",
            "b: PUBLISH one hello; PUBLISH none hello; SPUBLISH one shard; SPUBLISH none shard",
            "b: PUBSUB CHANNELS tw*; PUBSUB NUMSUB one two none; PUBSUB NUMSUB; PUBSUB NUMPAT",
            "b: PUBSUB SHARDCHANNELS; PUBSUB SHARDNUMSUB one none; PUBSUB NOPE; PUBSUB CHANNELS a b; PUBSUB",
            // What a subscriber may say in RESP2.
            "a: GET x; CLIENT LIST; NOSUCH; PING; PING x y; MULTI; HELLO 3; PUBLISH one x; SELECT 1",
            "c: SUBSCRIBE one; PSUBSCRIBE *",
            "b: PUBLISH one again",
            "a: UNSUBSCRIBE one; PUNSUBSCRIBE o*; UNSUBSCRIBE never; PUNSUBSCRIBE never; SUNSUBSCRIBE never",
            "b: PUBLISH one third",
            "a: UNSUBSCRIBE; PUNSUBSCRIBE; SUNSUBSCRIBE; UNSUBSCRIBE; PUNSUBSCRIBE; SUNSUBSCRIBE",
            "a: GET x",
            "b: PUBLISH one last",
            "c: RESET",
            "c: GET x; PUBSUB NUMPAT; PUBSUB CHANNELS",
        ],
        str::to_owned,
    );
    check_beside_redis(
        &[
            "a: CLIENT SETNAME x",
            "a: SUBSCRIBE one; PSUBSCRIBE o*; GET x; PUBLISH one mine; PING; PING x; MULTI; PUBLISH one queued; EXEC",
            "a: UNSUBSCRIBE; PUNSUBSCRIBE; UNSUBSCRIBE",
            "b: MULTI; MONITOR; SUBSCRIBE one; SSUBSCRIBE one; PSUBSCRIBE o*; PUBLISH one x; EXEC",
            "b: UNSUBSCRIBE; PUNSUBSCRIBE",
        ],
        str::to_owned,
    );
}

#[test]
fn messages_in_resp3_are_those_of_redis() {
    check_beside_redis(
        &["z: PING", "a: RESET; HELLO 2 SETNAME me; CLIENT GETNAME", "b: SUBSCRIBE one", "a: PUBLISH one x"],
        |text| {
            // The number of the connection.
            let Some((before, after)) = text.split_once("id\r\n:") else { return text.to_owned() };
            format!("{before}id\r\n{}", after.trim_start_matches(|it: char| it.is_ascii_digit()))
        },
    );
    let (folder, server) = cache(&[]);
    let peer_dir = folder.path().join("redis");
    std::fs::create_dir(&peer_dir).unwrap();
    let redis = Server::spawn_redis(&peer_dir, &["--save", "", "--appendonly", "no"]);
    let play = |server: &Server| {
        let mut stage = Stage::new(server);
        stage.step("a: HELLO 3");
        [
            "a: SUBSCRIBE one; PSUBSCRIBE o*; SSUBSCRIBE one; GET x; PUBLISH one mine; SPUBLISH one mine; PING; PING x",
            "a: MULTI; PUBLISH one queued; PING; EXEC",
            "b: SUBSCRIBE one",
            "c: PUBLISH one other",
            "a: UNSUBSCRIBE; PUNSUBSCRIBE; SUNSUBSCRIBE; UNSUBSCRIBE",
        ]
        .map(|step| stage.step(step))
    };
    assert_eq!(play(&server), play(&redis));
}

/// Who lets another go on is told what that one does, like everybody.
#[test]
fn events_of_commands_that_waited_are_those_of_redis() {
    let (folder, server) = cache(&["--notify-keyspace-events", "KEA"]);
    let peer_dir = folder.path().join("redis");
    std::fs::create_dir(&peer_dir).unwrap();
    let redis = Server::spawn_redis(
        &peer_dir,
        &["--save", "", "--appendonly", "no", "--notify-keyspace-events", "KEA"],
    );
    let play = |server: &Server| {
        let mut stage = Stage::new(server);
        stage.step("a: PING");
        stage.step("b: HELLO 3");
        stage.step("b: RPUSH source 1");
        stage.step("b: PSUBSCRIBE __keyevent*");
        stage.step("c: PSUBSCRIBE __keyspace*");
        let mut bytes = Vec::new();
        Client::encode(&["BLMOVE", "from", "to", "LEFT", "RIGHT", "0"], &mut bytes);
        stage.connections.get_mut("a").unwrap().write_all(&bytes).unwrap();
        server.client().wait_for_info("blocked_clients", "1");
        [stage.step("b: COPY source from; ECHO behind"), stage.step("b: GET nothing")]
    };
    assert_eq!(play(&server), play(&redis));
}

/// Time and address of a monitored command differ between two servers.
fn without_time_and_port(text: &str) -> String {
    let lines = text.split("\r\n").map(|line| match line.split_once(" [") {
        Some((time, rest)) if time.rsplit(' ').next().unwrap_or(time).starts_with('+') => {
            let (address, command) = rest.split_once("] ").unwrap();
            let db = address.split(' ').next().unwrap();
            let name = time.rsplit_once(' ').map_or("", |(name, _)| name);
            format!("{name}+[{db}] {command}")
        }
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\r\n")
}

#[test]
fn monitored_commands_are_those_of_redis() {
    check_beside_redis(
        &[
            "m: MONITOR",
            "a: SELECT 3; SET key value; GET \"\\\r\n; NOSUCH; GET; CONFIG GET hz; CLIENT GETNAME; CLIENT LIST TYPE master",
            "a: MULTI; GET a; PING; EXEC; MULTI; DISCARD; WATCH a; EXPIRE key 100",
            "a: AUTH x; HELLO 2 AUTH default x SETNAME me extra; PUBLISH one x",
            "m: MONITOR",
            "m: GET x; SET x y; PUBLISH one x; ECHO text",
            "m: RESET",
            "a: SET key other",
            "m: GET x",
        ],
        without_time_and_port,
    );
}

#[test]
fn what_clients_do_is_shown_in_lists() {
    let (_folder, server) = cache(&[]);
    let mut admin = server.client();
    let mut subscriber = server.client();
    let mut monitor = server.client();
    subscriber.run("SUBSCRIBE a");
    subscriber.run("PSUBSCRIBE b");
    subscriber.run("SSUBSCRIBE c");
    monitor.run("MONITOR");
    let list = |admin: &mut Client, command: &str| admin.run(command).text();
    let subscribers = list(&mut admin, "CLIENT LIST TYPE pubsub");
    assert!(
        subscribers.contains(" flags=P ") && subscribers.contains(" sub=1 psub=1 ssub=1 "),
        "{subscribers}"
    );
    assert_eq!(subscribers.lines().count(), 1, "{subscribers}");
    let normal = list(&mut admin, "CLIENT LIST TYPE normal");
    assert!(normal.contains(" flags=O ") && normal.lines().count() == 2, "{normal}");
    assert_eq!(admin.info("pubsub_channels"), "1");
    assert_eq!(admin.info("pubsub_patterns"), "1");
    assert_eq!(admin.info("pubsubshard_channels"), "1");
    assert_eq!(admin.run("CLIENT KILL TYPE pubsub"), Reply::Int(1));
    admin.wait_for_info("connected_clients", "2");
    assert_eq!(admin.info("pubsub_channels"), "0", "who has left is subscribed to nothing");
    assert_eq!(admin.run("PUBLISH a x"), Reply::Int(0));
    drop(monitor);
    admin.wait_for_info("connected_clients", "1");
}

#[test]
fn subscribers_are_never_idle() {
    let (_folder, server) = cache(&["--timeout", "1"]);
    let mut subscriber = server.client();
    subscriber.run("SUBSCRIBE a");
    let mut idle = server.client();
    std::thread::sleep(Duration::from_millis(2500));
    assert!(idle.try_command(&["PING"]).is_err());
    assert_eq!(server.client().run("PUBLISH a x"), Reply::Int(1));
    assert_eq!(subscriber.read_reply().unwrap().items()[2], Reply::bulk("x"));
}

/// Messages cannot wait for their reader: one that does not read is closed.
#[test]
fn subscribers_and_monitors_that_do_not_read_are_closed() {
    let (_folder, server) = cache(&["--client-output-buffer-limit", "pubsub", "4mb", "1mb", "1"]);
    let mut publisher = server.client();
    let mut subscriber = server.client();
    subscriber.run("SUBSCRIBE a");
    let message = vec![b'm'; 100_000];
    let deadline = Instant::now() + PATIENCE;
    while publisher.command(&[&b"PUBLISH"[..], b"a", &message]) == Reply::Int(1) {
        assert!(Instant::now() < deadline, "the subscriber stays");
    }
    assert_eq!(server.log_text().matches("exceeds client-output-buffer-limit").count(), 1);
    let mut monitor = server.client();
    monitor.run("MONITOR");
    while publisher.info("connected_clients") == "2" {
        publisher.command(&[b"ECHO", &message[..]]);
        assert!(Instant::now() < deadline, "the monitor stays");
    }
    // The soft limit, for as long as it may be exceeded.
    let mut subscriber = server.client();
    subscriber.run("SUBSCRIBE a");
    while publisher
        .run("CLIENT LIST TYPE pubsub")
        .text()
        .split(' ')
        .all(|field| field.strip_prefix("omem=").is_none_or(|len| len.parse::<usize>().unwrap() < 2 << 20))
    {
        publisher.command(&[&b"PUBLISH"[..], b"a", &message]);
    }
    assert_eq!(publisher.run("PUBSUB NUMSUB a").items()[1], Reply::Int(1), "not at once");
    publisher.wait_for_info("connected_clients", "1");
}

#[test]
fn one_message_for_many_is_held_once() {
    let (_folder, server) = cache(&[]);
    let mut publisher = server.client();
    let mut crowd: Vec<Client> = (0..50).map(|_| server.client()).collect();
    for client in &mut crowd {
        client.run("SUBSCRIBE a");
    }
    let message = vec![b'm'; 20 << 20];
    let resident = |publisher: &mut Client| publisher.info("used_memory_rss").parse::<u64>().unwrap() >> 20;
    let before = resident(&mut publisher);
    assert_eq!(publisher.command(&[&b"PUBLISH"[..], b"a", &message]), Reply::Int(50));
    let after = resident(&mut publisher);
    assert!(after < before + 200, "from {before} to {after} MiB for 50 receivers of 20 MiB");
    for client in &mut crowd {
        assert!(client.read_reply().unwrap().items()[2] == Reply::bulk(&message));
    }
}

#[test]
fn keys_that_expire_are_announced() {
    let (_folder, server) = cache(&["--notify-keyspace-events", "Kx"]);
    let mut subscriber = server.client();
    let mut writer = server.client();
    subscriber.run("PSUBSCRIBE __key*__:*");
    writer.run("SELECT 2");
    writer.run("SET short lived PX 1");
    let message = subscriber.read_reply().unwrap();
    let expected = ["pmessage", "__key*__:*", "__keyspace@2__:short", "expired"].map(Reply::bulk);
    assert_eq!(message.items(), expected);
    writer.run("CONFIG SET notify-keyspace-events Ex");
    assert_eq!(writer.run("CONFIG GET notify-keyspace-events").items()[1], Reply::bulk("xE"));
    writer.run("SET short lived PX 1");
    std::thread::sleep(Duration::from_millis(5));
    // Met by a command before the periodic work comes.
    writer.run("GET short");
    let message = subscriber.read_reply().unwrap();
    let expected = ["pmessage", "__key*__:*", "__keyevent@2__:expired", "short"].map(Reply::bulk);
    assert_eq!(message.items(), expected);
}

/// What is announced of keys, and in which order, is what Redis announces.
#[test]
fn keyspace_events_are_those_of_redis() {
    check_beside_redis(
        &[
            "w: CONFIG SET notify-keyspace-events KEAmn",
            "s: PSUBSCRIBE __key*__:*",
            "w: SET a 1; SET a 2 EX 100; SETNX a 1; SETNX b 1; SETEX c 100 x; PSETEX c 100000 x; GETSET a 3; GETDEL c",
            "w: MSET a 1 b 2; MSETNX a 1 d 1; MSETNX e 1 f 1; APPEND a x; SETRANGE a 1 yz; SETRANGE none 0 \"\"; SETBIT bits 7 1",
            "w: INCR n; INCRBY n 5; DECR n; DECRBY n 2; INCRBYFLOAT n 1.5; GETEX n EX 100; GETEX n PERSIST; GETEX n",
            "w: EXPIRE a 100; PEXPIRE a 100000; EXPIREAT a 4000000000; EXPIRE a 100 NX; PERSIST a; PERSIST a; EXPIRE a -1",
            "w: RENAME b g; RENAMENX g h; COPY h i; COPY h i REPLACE; MOVE i 1; DEL h none; UNLINK e f; BITOP NOT bits2 bits",
            "w: BITFIELD bits SET u8 0 5; BITFIELD bits GET u8 0; GET none; STRLEN none; EXISTS none; TYPE none; TTL none",
            "w: SET v 1 GET; SET v 1 XX; SET none 1 XX; SET v 2 KEEPTTL; TOUCH v; OBJECT ENCODING v; SWAPDB 0 1; FLUSHDB",
            "w: MULTI; SET m 1; DEL m; EXEC; SELECT 3; SET in three; SELECT 0; FLUSHALL",
            "w: RPUSH l a b c; LTRIM l 0 -1; LTRIM l 1 1; LTRIM l 5 6; OBJECT ENCODING none; OBJECT REFCOUNT none",
            "w: OBJECT IDLETIME none; MEMORY USAGE none; TTL none; TYPE none; EXISTS none; TOUCH none; LPUSH l a b",
            "w: RPOPLPUSH l m; LMOVE l m LEFT LEFT; LMOVE m m LEFT RIGHT; LPOP m 5; LMPOP 1 none LEFT; RPUSH m 1 2",
            "w: LMPOP 2 none m LEFT COUNT 5; RPUSH l a b a; LINSERT l BEFORE a x; LSET l 0 y; LREM l 0 a; LREM l 0 none; LPUSHX none x",
            "w: LINDEX none 0; LLEN none; LPOS none a; LRANGE none 0 1; LPOP none; RPUSH l 9; BLPOP none l 0; BLMOVE l q LEFT LEFT 0",
            "w: BLMPOP 0 1 q LEFT; SADD s 1 2 3; SADD s 1; SREM s 1; SREM s none; SMOVE s t 2; SMOVE s t 9; SPOP t; SADD t 7; SPOP t 5",
            "w: SPOP none; SRANDMEMBER none; SADD a 1 2; SADD b 2 3; SINTERSTORE d a b; SINTERSTORE d a none; SUNIONSTORE d a b",
            "w: SDIFFSTORE d a a; SINTER a none; SUNION none a; SDIFF none a; SINTERCARD 2 a none; SCARD none; SMEMBERS none",
            "w: SISMEMBER none a; SMISMEMBER none a; SSCAN none 0; HSET h a 1 b 2; HSETNX h a 1; HSETNX h c 1; HINCRBY h a 1",
            "w: HINCRBYFLOAT h a 1; HDEL h a none; HDEL h b c; HMSET h a 1; HGET none a; HMGET none a; HLEN none; HGETALL none",
            "w: HSTRLEN none a; HEXISTS none a; HRANDFIELD none; HSCAN none 0; ZADD z 1 a 2 b 3 c 4 d 5 e 6 f 7 g; ZADD z 1 a",
            "w: ZADD z XX 1 none; ZADD z INCR 1 a; ZADD z 9 a; ZINCRBY z 1 a; ZREM z a none; ZPOPMIN z; ZPOPMAX z 1; ZPOPMIN none",
            "w: ZREMRANGEBYRANK z 0 0; ZREMRANGEBYSCORE z 4 4; ZREMRANGEBYLEX z [e [e; ZREMRANGEBYLEX z [e [e; ZRANGESTORE d z 0 -1",
            "w: ZRANGESTORE d z 9 10; ZUNIONSTORE d 1 z; ZINTERSTORE d 2 z none; ZDIFFSTORE d 1 z; ZMPOP 1 z MIN COUNT 10",
            "w: BZPOPMIN d 0; ZADD z 1 a; BZMPOP 0 1 z MAX; ZSCORE none a; ZCARD none; ZRANGE none 0 1; ZRANK none a; ZCOUNT none 0 1",
            "w: ZUNION 1 none; ZINTER 1 none; ZDIFF 1 none; ZRANDMEMBER none; ZSCAN none 0; RPUSH l 3 1 2; SORT l STORE d",
            "w: SORT none STORE d; SORT none; SORT_RO none; DUMP none; RPUSH l a; LPUSH w a; RENAME l w; COPY w v; DEL w v",
            "w: GETRANGE none 0 1",
        ],
        str::to_owned,
    );
}

/// Messages, events and monitored commands leave through the same gate as replies: what is not committed was never said.
#[test]
fn nothing_is_told_of_a_turn_that_is_not_committed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let args = ["--appendonly", "yes", "--enable-debug-command", "yes", "--notify-keyspace-events", "KA"];
    let mut server = Server::spawn(&dir, &args);
    let mut writer = server.client();
    let mut subscriber = server.client();
    let mut monitor = server.client();
    subscriber.run("PSUBSCRIBE *");
    monitor.run("MONITOR");
    writer.run("SET told 1");
    let message = subscriber.read_reply().unwrap();
    assert_eq!(message.items()[2..], ["__keyspace@0__:told", "set"].map(Reply::bulk));
    assert!(monitor.read_reply().unwrap().text().ends_with("\"SET\" \"told\" \"1\""));
    let mut bytes = Vec::new();
    for command in ["SET untold 1", "PUBLISH channel untold", "DEBUG PANIC"] {
        Client::encode(&command.split(' ').collect::<Vec<_>>(), &mut bytes);
    }
    writer.send_bytes(&bytes).unwrap();
    assert!(subscriber.read_reply().is_err(), "a subscriber was told");
    assert!(monitor.read_reply().is_err(), "a monitor was told");
    assert_eq!(server.wait().code(), Some(5));
    let server = Server::spawn(&dir, &args);
    assert_eq!(server.client().run("EXISTS told untold"), Reply::Int(1));
}
