//! What the server tells about itself: the slow log, the latency monitor, memory, and the sections of INFO.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod support;

use std::collections::BTreeMap;

use support::{Client, Reply, Server};

const ARGS: [&str; 4] = ["--enable-debug-command", "yes", "--appendfsync", "always"];

fn start() -> (tempfile::TempDir, Server, Client) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::spawn(&folder.path().join("data"), &ARGS);
    let client = server.client();
    (folder, server, client)
}

fn set(client: &mut Client, setting: &str, value: &str) {
    assert_eq!(client.command(&["CONFIG", "SET", setting, value]), Reply::ok(), "{setting}");
}

/// The arguments of each entry of the slow log, the newest first, joined by blanks.
fn slow(client: &mut Client) -> Vec<String> {
    let entries = client.run("SLOWLOG GET -1");
    let words = |entry: &Reply| entry.items()[3].items().iter().map(Reply::text).collect::<Vec<_>>();
    entries.items().iter().map(|entry| words(entry).join(" ")).collect()
}

/// The fields of a section of INFO.
fn section(client: &mut Client, names: &str) -> BTreeMap<String, String> {
    let text = client.run(&format!("INFO {names}")).text();
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// What INFO counts of a command, without the times.
fn counted(client: &mut Client, name: &str) -> Option<(u64, u64, u64)> {
    let all = section(client, "commandstats");
    let fields = all.get(&format!("cmdstat_{name}"))?;
    let number = |field: &str| {
        let value = fields.split(',').find_map(|it| it.strip_prefix(field)?.strip_prefix('='));
        value.unwrap().parse::<u64>().unwrap()
    };
    Some((number("calls"), number("rejected_calls"), number("failed_calls")))
}

fn error_of(reply: Reply) -> String {
    match reply {
        Reply::Error(text) => text,
        other => panic!("{other:?} is no error"),
    }
}

#[test]
fn the_slow_log_holds_what_took_long_with_who_sent_it() {
    let (_folder, _server, mut client) = start();
    assert_eq!(client.run("CLIENT SETNAME me"), Reply::ok());
    set(&mut client, "slowlog-log-slower-than", "20000");
    client.run("SLOWLOG RESET");
    client.run("SET fast 1");
    client.run("DEBUG SLEEP 0.05");
    client.run("GET fast");
    let entries = client.run("SLOWLOG GET");
    let [entry] = entries.items() else { panic!("{entries:?}") };
    let [_, time, took, args, address, name] = entry.items() else { panic!("{entry:?}") };
    assert!(time.int() > 1_700_000_000, "{time:?}");
    assert!((50_000..5_000_000).contains(&took.int()), "{took:?}");
    assert_eq!(args.items().iter().map(Reply::text).collect::<Vec<_>>(), ["DEBUG", "SLEEP", "0.05"]);
    let own = client.socket().local_addr().unwrap().to_string();
    assert_eq!((address.text(), name.text()), (own, "me".to_owned()));
}

#[test]
fn the_slow_log_has_a_length_and_can_be_switched_off() {
    let (_folder, _server, mut client) = start();
    set(&mut client, "slowlog-max-len", "3");
    set(&mut client, "slowlog-log-slower-than", "0");
    for number in 0..5 {
        client.run(&format!("SET key {number}"));
    }
    assert_eq!(slow(&mut client), ["SET key 4", "SET key 3", "SET key 2"]);
    assert_eq!(client.run("SLOWLOG LEN"), Reply::Int(3));
    assert_eq!(client.run("SLOWLOG GET 1").items().len(), 1);
    set(&mut client, "slowlog-max-len", "1");
    assert_eq!(client.run("SLOWLOG LEN"), Reply::Int(1), "a shorter log is shortened at once");
    set(&mut client, "slowlog-log-slower-than", "-1");
    assert_eq!(slow(&mut client), ["SLOWLOG LEN"], "what switches it off is not logged");
    assert_eq!(client.run("SLOWLOG RESET"), Reply::ok());
    client.run("SET key 5");
    assert_eq!(client.run("SLOWLOG LEN"), Reply::Int(0));
}

#[test]
fn the_slow_log_shows_no_secrets_and_what_exec_runs_instead_of_exec() {
    let (_folder, server, mut client) = start();
    set(&mut client, "slowlog-log-slower-than", "0");
    client.run("CONFIG SET requirepass secret hz 10");
    assert_eq!(client.run("AUTH secret"), Reply::ok());
    client.run("HELLO 2 AUTH default secret");
    assert_eq!(client.run("MULTI"), Reply::ok());
    client.run("INCR number");
    client.run("EXEC");
    set(&mut client, "requirepass", "");
    let entries = slow(&mut client);
    assert!(entries.contains(&"CONFIG SET requirepass (redacted) hz 10".to_owned()), "{entries:?}");
    assert!(!entries.iter().any(|entry| entry.contains("secret")), "{entries:?}");
    assert!(entries.contains(&"INCR number".to_owned()), "{entries:?}");
    assert!(!entries.contains(&"EXEC".to_owned()), "{entries:?}");
    drop(server);
}

#[test]
fn a_wait_for_keys_is_neither_slow_nor_counted_as_time() {
    let (_folder, server, mut admin) = start();
    set(&mut admin, "slowlog-log-slower-than", "40000");
    admin.run("SLOWLOG RESET");
    let mut waiting = server.client();
    let mut bytes = Vec::new();
    Client::encode(&["BLPOP", "queue", "0"], &mut bytes);
    waiting.send_bytes(&bytes).unwrap();
    admin.wait_for_info("blocked_clients", "1");
    admin.run("DEBUG SLEEP 0.1");
    admin.run("RPUSH queue element");
    assert_eq!(waiting.read_reply().unwrap().items().len(), 2);
    assert_eq!(slow(&mut admin), ["DEBUG SLEEP 0.1"]);
    assert_eq!(counted(&mut admin, "blpop"), Some((1, 0, 0)));
    let fields = section(&mut admin, "commandstats")["cmdstat_blpop"].clone();
    let usec = fields.split(',').find_map(|it| it.strip_prefix("usec=")).unwrap().parse::<u64>().unwrap();
    assert!(usec < 40_000, "{fields}");
    set(&mut admin, "slowlog-log-slower-than", "0");
    waiting.send_bytes(&bytes).unwrap();
    admin.wait_for_info("blocked_clients", "1");
    admin.run("RPUSH queue element");
    waiting.read_reply().unwrap();
    assert!(slow(&mut admin).contains(&"BLPOP queue 0".to_owned()), "it is logged when it is done");
}

#[test]
fn calls_refusals_and_failures_are_counted_by_command() {
    let (_folder, server, mut client) = start();
    client.run("CONFIG RESETSTAT");
    let mut bytes = Vec::new();
    (0..200).for_each(|_| Client::encode(&["GET", "key"], &mut bytes));
    client.send_bytes(&bytes).unwrap();
    (0..200).for_each(|_| drop(client.read_reply().unwrap()));
    assert_eq!(counted(&mut client, "get"), Some((200, 0, 0)), "commands of a pipeline");
    error_of(client.run("GET"));
    error_of(client.run("SET key value NX XX"));
    error_of(client.run("NOTHING"));
    client.run("MULTI");
    client.run("SET key value");
    client.run("INCR key");
    client.run("EXEC");
    assert_eq!(counted(&mut client, "get"), Some((200, 1, 0)));
    assert_eq!(counted(&mut client, "set"), Some((2, 0, 1)));
    assert_eq!(counted(&mut client, "incr"), Some((1, 0, 1)));
    assert_eq!(counted(&mut client, "multi"), Some((1, 0, 0)));
    assert_eq!(counted(&mut client, "exec"), Some((1, 0, 0)));
    assert_eq!(counted(&mut client, "config|resetstat"), Some((1, 0, 0)), "it counts itself");
    assert_eq!(section(&mut client, "errorstats")["errorstat_ERR"], "count=4");
    let mut waiting = server.client();
    let id = waiting.run("CLIENT ID").int();
    let mut bytes = Vec::new();
    Client::encode(&["BLPOP", "queue", "0"], &mut bytes);
    waiting.send_bytes(&bytes).unwrap();
    client.wait_for_info("blocked_clients", "1");
    client.run(&format!("CLIENT UNBLOCK {id} ERROR"));
    error_of(waiting.read_reply().unwrap());
    assert_eq!(counted(&mut client, "blpop"), Some((1, 0, 1)));
    assert_eq!(section(&mut client, "errorstats")["errorstat_UNBLOCKED"], "count=1");
    assert_eq!(client.info("total_error_replies"), "5");
    client.run("CONFIG RESETSTAT");
    assert_eq!(counted(&mut client, "get"), None);
    assert!(section(&mut client, "errorstats").is_empty());
    assert_eq!(client.info("total_error_replies"), "0");
}

#[test]
fn percentiles_and_histograms_say_how_long_calls_took() {
    let (_folder, _server, mut client) = start();
    client.run("CONFIG RESETSTAT");
    client.run("DEBUG SLEEP 0.05");
    client.run("CLIENT ID");
    set(&mut client, "latency-tracking-info-percentiles", "0 50 100");
    let stats = section(&mut client, "latencystats");
    let debug = &stats["latency_percentiles_usec_debug"];
    let p50: f64 = debug.split(',').find_map(|it| it.strip_prefix("p50=")).unwrap().parse().unwrap();
    assert!((50_000.0..5_000_000.0).contains(&p50), "{debug}");
    assert!(debug.starts_with("p0=") && debug.contains(",p100="), "{debug}");
    assert!(stats.contains_key("latency_percentiles_usec_client|id"), "{stats:?}");
    let histogram = client.run("LATENCY HISTOGRAM debug client nothing");
    let names: Vec<String> = histogram.items().iter().step_by(2).map(Reply::text).collect();
    assert_eq!(names, ["debug", "client|id"]);
    let debug = histogram.items()[1].items();
    assert_eq!(
        (debug[0].text(), debug[1].int(), debug[2].text()),
        ("calls".into(), 1, "histogram_usec".into())
    );
    assert!(debug[3].items()[0].int() >= 50_000, "{debug:?}");
    set(&mut client, "latency-tracking", "no");
    assert!(section(&mut client, "latencystats").is_empty());
    client.run("CONFIG RESETSTAT");
    client.run("CLIENT ID");
    assert_eq!(client.run("LATENCY HISTOGRAM client").items().len(), 0);
    let refused = error_of(client.command(&["CONFIG", "SET", "latency-tracking-info-percentiles", "50 101"]));
    assert!(refused.contains("[0.0,100.0]"), "{refused}");
}

#[test]
fn the_latency_monitor_keeps_what_reaches_its_threshold() {
    let (_folder, _server, mut client) = start();
    client.run("DEBUG SLEEP 0.03");
    assert_eq!(client.run("LATENCY LATEST").items().len(), 0, "it is off");
    set(&mut client, "latency-monitor-threshold", "20");
    client.run("SET key value");
    client.run("DEBUG SLEEP 0.03");
    client.run("MULTI");
    client.run("DEBUG SLEEP 0.04");
    client.run("EXEC");
    // A busy machine may add others.
    let latest = client.run("LATENCY LATEST");
    let event = latest.items().iter().find(|event| event.items()[0].text() == "command").unwrap();
    let [_, time, last, worst] = event.items() else { panic!("{event:?}") };
    assert!(worst.int() >= 40 && worst.int() >= last.int(), "EXEC takes as long as what it runs: {event:?}");
    let history = client.run("LATENCY HISTORY command");
    assert_eq!(history.items().last().unwrap().items()[0], *time);
    let graph = client.run("LATENCY GRAPH command").text();
    assert!(graph.starts_with("command - high "), "{graph}");
    assert!(client.run("LATENCY DOCTOR").text().contains("1. command:"));
    assert_eq!(client.run("LATENCY RESET nothing"), Reply::Int(0));
    assert!(client.run("LATENCY RESET").int() >= 1);
    assert_eq!(client.run("LATENCY HISTORY command").items().len(), 0);
}

#[test]
fn writes_to_the_log_and_expiry_are_events_of_the_latency_monitor() {
    let (_folder, _server, mut client) = start();
    set(&mut client, "latency-monitor-threshold", "1");
    client.run("LATENCY RESET");
    let events = |client: &mut Client| -> Vec<String> {
        client.run("LATENCY LATEST").items().iter().map(|event| event.items()[0].text()).collect()
    };
    let value = vec![b'v'; 32 << 20];
    assert_eq!(client.command(&[&b"SET"[..], b"key", &value]), Reply::ok());
    let found = events(&mut client);
    for event in ["aof-fsync-always", "aof-write", "aof-write-alone"] {
        assert!(found.iter().any(|name| name == event), "{event} is not among {found:?}");
    }
    client.run("DEBUG SET-ACTIVE-EXPIRE 0");
    let mut bytes = Vec::new();
    for number in 0..20_000 {
        Client::encode(&["SET", &number.to_string(), "value", "PX", "1"], &mut bytes);
    }
    client.send_bytes(&bytes).unwrap();
    (0..20_000).for_each(|_| assert_eq!(client.read_reply().unwrap(), Reply::ok()));
    client.run("DEBUG SET-ACTIVE-EXPIRE 1");
    client.wait_for_info("expired_keys", "20000");
    assert!(events(&mut client).contains(&"expire-cycle".to_owned()));
    assert!(client.info("expire_cycle_cpu_milliseconds").parse::<u64>().unwrap() > 0);
}

#[test]
fn info_has_the_sections_and_fields_of_redis() {
    let (folder, _server, mut client) = start();
    let redis_folder = folder.path().join("redis");
    std::fs::create_dir(&redis_folder).unwrap();
    let redis = Server::spawn_redis(&redis_folder, &["--save", "", "--appendonly", "yes"]);
    let mut redis = redis.client();
    let fill = |client: &mut Client| {
        client.run("CONFIG RESETSTAT");
        client.run("SET key value");
        client.run("NOTHING");
    };
    fill(&mut client);
    fill(&mut redis);
    let titles = |client: &mut Client, names: &str| -> Vec<String> {
        let text = client.run(format!("INFO {names}").trim_end()).text();
        text.lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect()
    };
    for names in
        ["", "default", "all", "everything", "cpu memory", "default commandstats", "module_list", "Nothing"]
    {
        assert_eq!(titles(&mut client, names), titles(&mut redis, names), "INFO {names}");
    }
    for name in
        ["server", "clients", "memory", "persistence", "stats", "replication", "cpu", "modules", "cluster"]
    {
        let (ours, theirs) = (section(&mut client, name), section(&mut redis, name));
        let missing: Vec<&String> = theirs.keys().filter(|field| !ours.contains_key(*field)).collect();
        assert_eq!(missing, Vec::<&String>::new(), "{name}");
    }
    let form = |client: &mut Client| {
        let text = section(client, "commandstats")["cmdstat_set"].clone();
        text.split(',').map(|field| field.split('=').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(form(&mut client), form(&mut redis));
    let fields = |client: &mut Client| -> Vec<String> {
        let stats = client.run("MEMORY STATS");
        stats.items().iter().step_by(2).map(Reply::text).collect()
    };
    assert_eq!(fields(&mut client), fields(&mut redis));
}

#[test]
fn memory_is_told_truthfully() {
    let (_folder, _server, mut client) = start();
    assert!(client.run("MEMORY DOCTOR").text().contains("hardly any data"));
    client.run("DEBUG POPULATE 20000 key 500");
    let memory = section(&mut client, "memory");
    let number = |name: &str| memory[name].parse::<u64>().unwrap();
    let used = number("used_memory");
    assert!(used > 20_000 * 500, "{used}");
    assert_eq!(used, number("used_memory_overhead") + number("used_memory_dataset"));
    assert!(number("used_memory_dataset") > 20_000 * 500);
    assert!(number("allocator_allocated") >= used, "{memory:?}");
    assert!(number("allocator_active") >= number("allocator_allocated"), "{memory:?}");
    assert!(number("used_memory_peak") >= used);
    let stats = client.run("MEMORY STATS");
    let of = |name: &str| {
        let pairs = stats.items().chunks_exact(2);
        pairs.filter(|pair| pair[0].text() == name).map(|pair| pair[1].clone()).next().unwrap()
    };
    assert_eq!(of("keys.count"), Reply::Int(20_000));
    assert!((500..700).contains(&of("keys.bytes-per-key").int()), "{stats:?}");
    assert_eq!(of("dataset.bytes").int(), i64::try_from(number("used_memory_dataset")).unwrap());
    let usage = client.run("MEMORY USAGE key:1 SAMPLES 0").int();
    assert!((500..700).contains(&usage), "{usage}");
    assert!(client.run("MEMORY MALLOC-STATS").text().contains("jemalloc"));
    assert_eq!(client.run("MEMORY PURGE"), Reply::ok());
    assert_eq!(client.run("DEBUG MALLCTL arenas.page"), Reply::Int(4096));
    assert_eq!(client.run("DEBUG MALLCTL opt.narenas").int(), 2);
    error_of(client.run("DEBUG MALLCTL nothing"));
}

#[test]
fn large_values_are_freed_beside_commands_and_counted() {
    let (_folder, _server, mut client) = start();
    client.run("CONFIG RESETSTAT");
    let members: Vec<String> = (0..20_000).map(|number| format!("member:{number}")).collect();
    let request: Vec<&str> = ["SADD", "set"].into_iter().chain(members.iter().map(String::as_str)).collect();
    assert_eq!(client.command(&request), Reply::Int(20_000));
    assert_eq!(client.run("UNLINK set"), Reply::Int(1));
    client.wait_for_info("lazyfree_pending_objects", "0");
    assert_eq!(client.info("lazyfreed_objects"), "1");
    client.run("CONFIG RESETSTAT");
    assert_eq!(client.info("lazyfreed_objects"), "0");
}
