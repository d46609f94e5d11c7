//! Eviction by the real server: settings that change while it runs, what clients hold, what a restart knows of it.

mod support;

use std::time::Instant;

use support::{Client, PATIENCE, Reply, Server};

/// Sets keys `key:0` and so on.
fn fill(client: &mut Client, count: u32, value: &str) {
    let keys: Vec<String> = (0..count).map(|number| format!("key:{number}")).collect();
    for keys in keys.chunks(50) {
        let pairs = keys.iter().flat_map(|key| [key, value]);
        let command: Vec<&str> = std::iter::once("MSET").chain(pairs).collect();
        assert_eq!(client.command(&command), Reply::ok());
    }
}

fn number(client: &mut Client, field: &str) -> u64 {
    client.info(field).parse().unwrap_or_else(|_| panic!("INFO has a number called {field}"))
}

/// Waits until a number of INFO is as it should be.
fn wait_for(client: &mut Client, field: &str, is_right: impl Fn(u64) -> bool) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = number(client, field);
        if is_right(found) {
            return found;
        }
        assert!(Instant::now() < deadline, "{field} is {found}");
        std::thread::yield_now();
    }
}

#[test]
fn a_lower_limit_evicts_and_a_restart_knows_what_went() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    let server =
        Server::spawn(&dir, &["--maxmemory-policy", "allkeys-lru", "--notify-keyspace-events", "Ee"]);
    let (mut client, mut subscriber) = (server.client(), server.client());
    fill(&mut client, 2_000, &"v".repeat(100));
    subscriber.run("SUBSCRIBE __keyevent@0__:evicted");
    let limit = number(&mut client, "used_memory") * 3 / 4;
    assert_eq!(number(&mut client, "evicted_keys"), 0);
    assert_eq!(client.run(&format!("CONFIG SET maxmemory {limit}")), Reply::ok());
    wait_for(&mut client, "used_memory", |used| used <= limit);
    let evicted = number(&mut client, "evicted_keys");
    let left = client.run("DBSIZE").int();
    assert!((300..1_500).contains(&left), "{left} keys are left");
    assert_eq!(u64::try_from(2_000 - left), Ok(evicted));
    let event = subscriber.read_reply().unwrap();
    assert_eq!(event.items()[1], Reply::bulk("__keyevent@0__:evicted"));
    assert_eq!(client.command(&["EXISTS", &event.items()[2].text()]).int(), 0);

    // Writes go on, and memory stays where it is.
    fill(&mut client, 1_000, &"w".repeat(100));
    wait_for(&mut client, "used_memory", |used| used <= limit);
    assert_eq!(number(&mut client, "current_eviction_exceeded_time"), 0);

    // Nothing expires, so nothing may go.
    assert_eq!(client.run("CONFIG SET maxmemory 1 maxmemory-policy volatile-ttl"), Reply::ok());
    let refused = Reply::Error("OOM command not allowed when used memory > 'maxmemory'.".into());
    assert_eq!(client.run("SET another 1"), refused);
    let current = wait_for(&mut client, "current_eviction_exceeded_time", |ms| ms > 0);
    assert!(number(&mut client, "total_eviction_exceeded_time") >= current);
    assert_eq!(client.info("maxmemory_policy"), "volatile-ttl");
    let left = client.run("DBSIZE").int();
    assert_eq!(client.run("CONFIG SET maxmemory 0"), Reply::ok());
    server.kill();

    let server = Server::spawn(&dir, &[]);
    assert_eq!(server.client().run("DBSIZE").int(), left);
}

/// A reply that leaves with its turn takes no room: no key goes for it.
#[test]
fn replies_that_are_read_evict_nothing() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    let server = Server::spawn(&dir, &["--appendonly", "no", "--maxmemory-policy", "allkeys-random"]);
    let mut client = server.client();
    fill(&mut client, 20, &"v".repeat(100_000));
    let limit = number(&mut client, "used_memory") + 50_000;
    assert_eq!(client.run(&format!("CONFIG SET maxmemory {limit}")), Reply::ok());
    for key in 0..20 {
        assert_eq!(client.run(&format!("GET key:{key}")).text().len(), 100_000);
    }
    assert_eq!(number(&mut client, "evicted_keys"), 0);
}

#[test]
fn what_clients_hold_counts() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    let server = Server::spawn(&dir, &["--appendonly", "no", "--maxmemory-policy", "allkeys-random"]);
    let (mut client, mut other) = (server.client(), server.client());
    fill(&mut client, 200, &"v".repeat(10_000));
    let limit = number(&mut client, "used_memory") + 500_000;
    assert_eq!(client.run(&format!("CONFIG SET maxmemory {limit}")), Reply::ok());
    assert_eq!(number(&mut client, "evicted_keys"), 0);
    let part = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2000000\r\n{}", "v".repeat(1_500_000));
    other.send_bytes(part.as_bytes()).unwrap();
    wait_for(&mut client, "evicted_keys", |evicted| evicted >= 50);
    wait_for(&mut client, "used_memory", |used| used <= limit);
    drop(other);
    wait_for(&mut client, "used_memory", |used| used + 1_000_000 <= limit);
}

#[test]
fn counters_of_use_survive_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    let args =
        ["--appendonly", "no", "--save", "", "--maxmemory-policy", "allkeys-lfu", "--lfu-log-factor", "0"];
    let args = [&args[..], &["--lfu-decay-time", "0"]].concat();
    let server = Server::spawn(&dir, &args);
    let mut client = server.client();
    client.run("SET k v");
    for _ in 0..20 {
        client.run("GET k");
    }
    assert_eq!(client.run("OBJECT FREQ k").int(), 25);
    assert_eq!(client.run("SAVE"), Reply::ok());
    server.kill();
    let server = Server::spawn(&dir, &args);
    assert_eq!(server.client().run("OBJECT FREQ k").int(), 25);
}
