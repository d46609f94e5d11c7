//! Kills the real server with SIGKILL under load, again and again, and compares what comes back with what was
//! acknowledged.
//!
//! Each writer owns its keys and its connection, so its commands have one order. After a kill there must be a number
//! `n`, at least the acknowledged and at most the sent commands, such that the writer's keys are exactly what the first
//! `n` commands make: nothing acknowledged is lost, no deleted key is back, no transaction is half there, every expiry
//! is the one that was set. Kills are spread over plain load, snapshot, rewrite of the log and recovery.
//!
//! The kernel kills as well, when the control group of a growing server is out of memory: under load, then while it loads.
//! As root a machine that cannot make such a group fails the test; other users are told that it was skipped.
//!
//! `HOLDFAST_CRASH_CYCLES` sets the number of kills in all (default 60); the seed is printed and can be given back as
//! `HOLDFAST_CRASH_SEED`.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod memory_group;
mod support;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memory_group::MemoryGroup;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use support::{Client, Reply, Server};

/// Prints a line that is shown for passing tests too: the test runner keeps what `println!` says.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

const WRITERS: usize = 4;
/// Acknowledged writes in a cycle before the kill may come.
const WRITES_MIN: u64 = 1000;
const KEYS_PER_WRITER: u32 = 150;
const STRATEGIES: [&str; 3] = ["always", "everysec", "no"];

/// What a key holds: value and absolute expiry in milliseconds.
type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>;

#[derive(Debug, Clone)]
enum Op {
    Set(Vec<u8>, Vec<u8>),
    SetUntil(Vec<u8>, Vec<u8>, i64),
    Append(Vec<u8>, Vec<u8>),
    Incr(Vec<u8>),
    Del(Vec<u8>),
    ExpireAt(Vec<u8>, i64),
    Persist(Vec<u8>),
    /// Both keys get the value in one transaction, or neither.
    Pair(Vec<u8>, Vec<u8>, Vec<u8>),
    Rename(Vec<u8>, Vec<u8>),
    /// An element is added to a collection of the kind that the key names.
    Add(Vec<u8>, String),
    /// And taken away.
    Take(Vec<u8>, String),
    /// In one transaction an element goes to the end of a list, and the first one on to another list by the command that would
    /// wait for it.
    AddAndMove(Vec<u8>, Vec<u8>, String),
}

/// The kinds of collections, as keys name them, with the commands that add and take.
fn commands_of(key: &[u8]) -> Option<(&'static str, &'static str)> {
    let kind = std::str::from_utf8(key).unwrap().split(':').nth(1).unwrap();
    Some(match kind {
        "list" => ("RPUSH", "LREM"),
        "set" => ("SADD", "SREM"),
        "zset" => ("ZADD", "ZREM"),
        "hash" => ("HSET", "HDEL"),
        _ => return None,
    })
}

/// Changes the elements of a collection, which a model holds as text in their order.
fn change_elements(model: &mut Model, key: &[u8], change: impl FnOnce(&mut Vec<String>)) {
    let (text, until) = model.remove(key).unwrap_or_default();
    let text = String::from_utf8(text).unwrap();
    let mut elements: Vec<String> = text.split_terminator(' ').map(str::to_owned).collect();
    change(&mut elements);
    if !elements.is_empty() {
        let text: String = elements.iter().map(|element| format!("{element} ")).collect();
        model.insert(key.to_vec(), (text.into_bytes(), until));
    }
}

impl Op {
    fn random(rng: &mut StdRng, writer: usize, number: u64) -> Self {
        let mut key =
            |kind: &str| format!("{writer}:{kind}:{}", rng.random_range(0..KEYS_PER_WRITER)).into_bytes();
        let (a, b, counter) = (key("k"), key("k"), key("n"));
        let collection = key(["list", "set", "zset", "hash"][usize::try_from(number % 4).unwrap()]);
        let (list, other_list) = (key("list"), key("list"));
        // From few, so that some are met again.
        let element = format!("e{}", rng.random_range(0..400));
        let value = match rng.random_range(0..20) {
            0 => vec![b'x'; rng.random_range(0..20_000)],
            1 => (0..rng.random_range(0..200)).map(|_| rng.random::<u8>()).collect(),
            _ => format!("v{number}").into_bytes(),
        };
        // Far enough away that nothing expires while the test runs.
        let until = 4_000_000_000_000 + rng.random_range(0..1_000_000_000);
        match rng.random_range(0..150) {
            0..35 => Self::Set(a, value),
            35..45 => Self::SetUntil(a, value, until),
            45..52 => Self::Append(a, value),
            52..62 => Self::Incr(counter),
            62..74 => Self::Del(a),
            74..80 => Self::ExpireAt(a, until),
            80..84 => Self::Persist(a),
            84..96 => Self::Pair(a, b, value),
            96..100 => Self::Rename(a, b),
            100..130 => Self::Add(collection, element),
            130..140 => Self::Take(collection, element),
            _ => Self::AddAndMove(list, other_list, element),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let command = |args: &[&[u8]], out: &mut Vec<u8>| Client::encode(args, out);
        match self {
            Self::Set(key, value) => command(&[b"SET", key, value], out),
            Self::SetUntil(key, value, until) => {
                command(&[b"SET", key, value, b"PXAT", until.to_string().as_bytes()], out);
            }
            Self::Append(key, value) => command(&[b"APPEND", key, value], out),
            Self::Incr(key) => command(&[b"INCR", key], out),
            Self::Del(key) => command(&[b"DEL", key], out),
            Self::ExpireAt(key, until) => command(&[b"PEXPIREAT", key, until.to_string().as_bytes()], out),
            Self::Persist(key) => command(&[b"PERSIST", key], out),
            Self::Pair(a, b, value) => {
                command(&[b"MULTI"], out);
                command(&[b"SET", a, value], out);
                command(&[b"SET", b, value], out);
                command(&[b"EXEC"], out);
            }
            Self::Rename(from, to) => command(&[b"RENAME", from, to], out),
            Self::Add(key, element) => {
                let (add, _) = commands_of(key).unwrap();
                match add {
                    "ZADD" => command(&[add.as_bytes(), key, b"1.5", element.as_bytes()], out),
                    "HSET" => command(&[add.as_bytes(), key, element.as_bytes(), b"v"], out),
                    _ => command(&[add.as_bytes(), key, element.as_bytes()], out),
                }
            }
            Self::Take(key, element) => match commands_of(key).unwrap() {
                (_, "LREM") => command(&[b"LREM", key, b"1", element.as_bytes()], out),
                (_, take) => command(&[take.as_bytes(), key, element.as_bytes()], out),
            },
            Self::AddAndMove(from, to, element) => {
                command(&[b"MULTI"], out);
                command(&[b"RPUSH", from, element.as_bytes()], out);
                command(&[b"BLMOVE", from, to, b"LEFT", b"RIGHT", b"0"], out);
                command(&[b"EXEC"], out);
            }
        }
    }

    /// Replies that belong to the operation; the last one is the acknowledgement.
    fn replies(&self) -> usize {
        if matches!(self, Self::Pair(..) | Self::AddAndMove(..)) { 4 } else { 1 }
    }

    fn apply(&self, model: &mut Model) {
        match self {
            Self::Set(key, value) => {
                model.insert(key.clone(), (value.clone(), None));
            }
            Self::SetUntil(key, value, until) => {
                model.insert(key.clone(), (value.clone(), Some(*until)));
            }
            Self::Append(key, value) => {
                model.entry(key.clone()).or_insert_with(|| (Vec::new(), None)).0.extend_from_slice(value);
            }
            Self::Incr(key) => {
                let entry = model.entry(key.clone()).or_insert_with(|| (b"0".to_vec(), None));
                let number: i64 = std::str::from_utf8(&entry.0).unwrap().parse().unwrap();
                entry.0 = (number + 1).to_string().into_bytes();
            }
            Self::Del(key) => {
                model.remove(key);
            }
            Self::ExpireAt(key, until) => {
                if let Some(entry) = model.get_mut(key) {
                    entry.1 = Some(*until);
                }
            }
            Self::Persist(key) => {
                if let Some(entry) = model.get_mut(key) {
                    entry.1 = None;
                }
            }
            Self::Pair(a, b, value) => {
                model.insert(a.clone(), (value.clone(), None));
                model.insert(b.clone(), (value.clone(), None));
            }
            Self::Rename(from, to) => {
                if let Some(entry) = model.remove(from) {
                    model.insert(to.clone(), entry);
                }
            }
            Self::Add(key, element) => change_elements(model, key, |elements| {
                if commands_of(key) == Some(("RPUSH", "LREM")) {
                    elements.push(element.clone());
                } else if let Err(place) = elements.binary_search(element) {
                    elements.insert(place, element.clone());
                }
            }),
            Self::Take(key, element) => change_elements(model, key, |elements| {
                if let Some(place) = elements.iter().position(|it| it == element) {
                    elements.remove(place);
                }
            }),
            Self::AddAndMove(from, to, element) => {
                let mut moved = None;
                change_elements(model, from, |elements| {
                    elements.push(element.clone());
                    moved = Some(elements.remove(0));
                });
                change_elements(model, to, |elements| elements.extend(moved));
            }
        }
    }
}

/// One writer: what it has been told, and what it has sent beyond that.
struct Writer {
    number: usize,
    rng: StdRng,
    model: Model,
    /// Sent and not acknowledged, in order.
    open: Vec<Op>,
    ops: u64,
    /// Every other operation adds a key that stays.
    is_growing: bool,
}

impl Writer {
    fn new(number: usize, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self { number, rng, model: Model::new(), open: Vec::new(), ops: 0, is_growing: false }
    }

    fn growing(number: usize, seed: u64) -> Self {
        Self { is_growing: true, ..Self::new(number, seed) }
    }

    fn next_op(&mut self) -> Op {
        self.ops += 1;
        if self.is_growing && self.rng.random() {
            let key = format!("{}:new:{}", self.number, self.ops);
            let value = format!("{}-", self.ops).repeat(self.rng.random_range(0..4000));
            return Op::Set(key.into_bytes(), value.into_bytes());
        }
        Op::random(&mut self.rng, self.number, self.ops)
    }

    /// Writes until the connection breaks or `stop` is set.
    fn run(&mut self, port: u16, stop: &AtomicBool, acknowledged: &AtomicU64) {
        let Ok(mut client) = Client::connect(port) else { return };
        while !stop.load(Ordering::Relaxed) {
            let depth = *[1, 1, 4, 16].get(self.rng.random_range(0..4)).unwrap();
            let mut bytes = Vec::new();
            for _ in 0..depth {
                let op = self.next_op();
                op.encode(&mut bytes);
                self.open.push(op);
            }
            if client.send_bytes(&bytes).is_err() {
                return;
            }
            for _ in 0..depth {
                let replies = self.open[0].replies();
                let result: io::Result<Vec<Reply>> = (0..replies).map(|_| client.read_reply()).collect();
                let Ok(replies) = result else { return };
                let op = self.open.remove(0);
                self.acknowledge(&op, &replies);
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn acknowledge(&mut self, op: &Op, replies: &[Reply]) {
        if let Some(Reply::Error(text)) = replies.last() {
            // The only error that an operation may meet: there was nothing to rename.
            assert!(matches!(op, Op::Rename(from, _) if !self.model.contains_key(from)), "{op:?}: {text}");
            return;
        }
        op.apply(&mut self.model);
    }

    /// Compares the server's keys of this writer with every state that may be; gives how many open operations were
    /// found applied.
    fn verify(&mut self, client: &mut Client) -> Result<usize, String> {
        let found = read_keys(client, self.number);
        let mut model = self.model.clone();
        let mut first_difference = None;
        for applied in 0..=self.open.len() {
            if model == found {
                self.model = model;
                self.open.clear();
                return Ok(applied);
            }
            first_difference.get_or_insert_with(|| difference(&model, &found));
            if let Some(op) = self.open.get(applied) {
                op.apply(&mut model);
            }
        }
        Err(format!(
            "writer {}: no state between the {} acknowledged operations and {} more that were sent fits; \
             against the acknowledged state: {}",
            self.number,
            self.ops - self.open.len() as u64,
            self.open.len(),
            first_difference.unwrap_or_default()
        ))
    }
}

fn difference(expected: &Model, found: &Model) -> String {
    let show = |entry: Option<&(Vec<u8>, Option<i64>)>| match entry {
        None => "nothing".to_owned(),
        Some((value, until)) => {
            format!(
                "{} bytes {:?} until {until:?}",
                value.len(),
                String::from_utf8_lossy(&value[..value.len().min(40)])
            )
        }
    };
    let keys: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    let differing: Vec<_> = keys
        .into_iter()
        .filter(|key| expected.get(*key) != found.get(*key))
        .map(|key| {
            let key_text = String::from_utf8_lossy(key);
            format!("{key_text}: expected {}, found {}", show(expected.get(key)), show(found.get(key)))
        })
        .collect();
    format!("{} keys differ: {}", differing.len(), differing[..differing.len().min(5)].join("; "))
}

/// The bytes of a string; the elements of a collection as a model holds them.
fn read_value(client: &mut Client, key: &[u8]) -> Vec<u8> {
    let request: &[&[u8]] = match commands_of(key) {
        None => &[b"GET", key],
        Some(("RPUSH", _)) => &[b"LRANGE", key, b"0", b"-1"],
        Some(("SADD", _)) => &[b"SMEMBERS", key],
        Some(("ZADD", _)) => &[b"ZRANGE", key, b"0", b"-1"],
        Some(_) => &[b"HKEYS", key],
    };
    let reply = client.command(request);
    if let Reply::Bulk(value) = reply {
        return value.unwrap_or_else(|| panic!("{} vanished", String::from_utf8_lossy(key)));
    }
    let mut elements: Vec<String> = reply.items().iter().map(Reply::text).collect();
    if !matches!(commands_of(key), Some(("RPUSH", _))) {
        elements.sort_unstable();
    }
    elements.iter().map(|element| format!("{element} ")).collect::<String>().into_bytes()
}

fn read_keys(client: &mut Client, writer: usize) -> Model {
    let mut model = Model::new();
    let keys = client.command(&["KEYS", &format!("{writer}:*")]);
    for key in keys.items() {
        let Reply::Bulk(Some(key)) = key else { panic!("{key:?}") };
        let value = read_value(client, key);
        let until = match client.command(&[b"PEXPIRETIME", &key[..]]).int() {
            -1 => None,
            until => Some(until),
        };
        model.insert(key.clone(), (value, until));
    }
    model
}

/// What goes on in the server when the kill comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Load,
    Snapshot,
    Rewrite,
    Recovery,
}

const MOMENTS: [Moment; 4] = [Moment::Load, Moment::Snapshot, Moment::Rewrite, Moment::Recovery];

struct Cycle<'a> {
    dir: &'a Path,
    strategy: &'a str,
    moment: Moment,
    environment: &'a [(&'a str, &'a str)],
}

impl Cycle<'_> {
    fn spawn(&self) -> Server {
        let args =
            ["--persist-strategy", self.strategy, "--save", "", "--auto-aof-rewrite-min-size", "512kb"];
        Server::spawn_with(self.dir, &args, self.environment)
    }

    /// One kill. Gives the acknowledged writes and the moment that was really met.
    fn run(&self, rng: &mut StdRng, writers: &mut [Writer]) -> (u64, Moment) {
        let server = self.spawn();
        let mut control = server.client();
        if control.run("DBSIZE").int() < 30_000 {
            // Something to load, so that recovery and snapshots take a while.
            let mut bytes = Vec::new();
            for number in 0..30_000 {
                Client::encode(&["SET", &format!("filler:{number}"), &format!("{number:0>100}")], &mut bytes);
            }
            control.send_bytes(&bytes).unwrap();
            for _ in 0..30_000 {
                assert_eq!(control.read_reply().unwrap(), Reply::ok());
            }
        }
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = AtomicU64::new(0);
        let port = server.port;
        let mut met = Moment::Load;
        std::thread::scope(|scope| {
            for writer in writers.iter_mut() {
                scope.spawn(|| writer.run(port, &stop, &acknowledged));
            }
            let deadline = Instant::now() + support::PATIENCE;
            while acknowledged.load(Ordering::Relaxed) < WRITES_MIN {
                assert!(Instant::now() < deadline, "too few writes are acknowledged:\n{}", server.log_text());
                std::thread::sleep(Duration::from_micros(200));
            }
            let (command, field) = match self.moment {
                Moment::Snapshot => ("BGSAVE", "rdb_bgsave_in_progress"),
                Moment::Rewrite => ("BGREWRITEAOF", "aof_rewrite_in_progress"),
                Moment::Load | Moment::Recovery => ("PING", ""),
            };
            let reply = control.run(command);
            std::thread::sleep(Duration::from_micros(rng.random_range(0..30_000)));
            if !field.is_empty() && !matches!(reply, Reply::Error(_)) && control.info(field) == "1" {
                met = self.moment;
            }
            server.kill();
            stop.store(true, Ordering::Relaxed);
        });
        if self.moment == Moment::Recovery {
            // Killed again while it loads: recovery must be able to start over from wherever it was.
            for _ in 0..3 {
                let server = self.spawn();
                let early = Instant::now() + Duration::from_micros(rng.random_range(5_000..120_000));
                while Instant::now() < early {
                    std::thread::sleep(Duration::from_micros(500));
                }
                let loading =
                    Client::connect(server.port).and_then(|mut client| client.try_command(&["PING"]));
                if matches!(loading, Ok(Reply::Error(text)) if text.starts_with("LOADING")) {
                    met = Moment::Recovery;
                }
                server.kill();
            }
        }
        (acknowledged.into_inner(), met)
    }
}

fn seed() -> u64 {
    std::env::var("HOLDFAST_CRASH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random)
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let cycles: usize =
        std::env::var("HOLDFAST_CRASH_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let seed = seed();
    say!("{cycles} kills, seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let root = tempfile::tempdir().unwrap();
    let mut met: BTreeMap<(&str, Moment), u32> = BTreeMap::new();
    let mut total_acknowledged = 0;
    let mut applied_unacknowledged = 0;
    for (lane, strategy) in STRATEGIES.into_iter().enumerate() {
        let dir = root.path().join(strategy);
        let mut writers: Vec<_> = (0..WRITERS).map(|number| Writer::new(number, seed)).collect();
        let share = cycles / STRATEGIES.len() + usize::from(lane < cycles % STRATEGIES.len());
        for number in 0..share {
            let cycle =
                Cycle { dir: &dir, strategy, moment: MOMENTS[number % MOMENTS.len()], environment: &[] };
            let (acknowledged, moment) = cycle.run(&mut rng, &mut writers);
            total_acknowledged += acknowledged;
            *met.entry((strategy, moment)).or_default() += 1;
            let server = cycle.spawn();
            let mut client = server.client();
            for writer in &mut writers {
                match writer.verify(&mut client) {
                    Ok(applied) => applied_unacknowledged += applied,
                    Err(error) => {
                        let kept = root.keep();
                        panic!(
                            "{strategy}, kill {number} at {moment:?}, seed {seed}, files in {kept:?}: {error}"
                        )
                    }
                }
            }
            server.kill();
        }
        say!("{strategy}: {share} kills done");
    }
    for ((strategy, moment), count) in &met {
        say!("{strategy:>9} {moment:?}: {count} kills");
    }
    say!(
        "{total_acknowledged} acknowledged writes, 0 lost; {applied_unacknowledged} unacknowledged ones were there too"
    );
    for moment in MOMENTS {
        let count: u32 = met.iter().filter(|((_, met), _)| *met == moment).map(|(_, count)| count).sum();
        assert!(cycles < 24 || count > 0, "no kill came at {moment:?}: the test has lost its aim");
    }
}

/// A group for memory, or none for a user who may not make one; root must have it.
fn memory_group(limit: u64) -> Option<MemoryGroup> {
    match MemoryGroup::create("out-of-memory", limit) {
        Ok(group) => Some(group),
        Err(missing) if rustix::process::geteuid().is_root() => {
            panic!(
                "a promise would go untested, because the kernel cannot be made to kill for memory: {missing}"
            )
        }
        Err(missing) => {
            say!("SKIPPED, and only root can run it everywhere: {missing}");
            None
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_memory_runs_out() {
    const LIMIT: u64 = 64 << 20;
    // The log is rewritten a few times on the way.
    const ARGS: [&str; 6] =
        ["--persist-strategy", "always", "--save", "", "--auto-aof-rewrite-min-size", "4mb"];
    let Some(group) = memory_group(LIMIT) else { return };
    let seed = seed();
    say!("seed {seed}");
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    let mut writers: Vec<_> = (0..WRITERS).map(|number| Writer::growing(number, seed)).collect();
    let killed_by_the_kernel = |mut server: Server, kills: u64| {
        let status = server.wait();
        assert_eq!((status.signal(), group.kills()), (Some(9), kills), "{status}:\n{}", server.log_text());
    };

    let acknowledged = AtomicU64::new(0);
    let server = Server::spawn_in_group(&group.procs(), &dir, &ARGS);
    drop(server.client());
    std::thread::scope(|scope| {
        for writer in &mut writers {
            scope.spawn(|| writer.run(server.port, &AtomicBool::new(false), &acknowledged));
        }
    });
    killed_by_the_kernel(server, 1);
    let acknowledged = acknowledged.into_inner();
    assert!(acknowledged >= WRITES_MIN, "only {acknowledged} writes were acknowledged");

    // As in a pod whose limit is too low: it is killed again while it loads.
    group.set_limit(LIMIT / 2).unwrap();
    killed_by_the_kernel(Server::spawn_in_group(&group.procs(), &dir, &ARGS), 2);

    let server = Server::spawn(&dir, &ARGS);
    let mut client = server.client();
    let mut unacknowledged = 0;
    for writer in &mut writers {
        match writer.verify(&mut client) {
            Ok(applied) => unacknowledged += applied,
            Err(error) => panic!("seed {seed}, files in {:?}: {error}", root.keep()),
        }
    }
    say!("{acknowledged} acknowledged writes, 0 lost; {unacknowledged} unacknowledged ones were there too");
}

#[test]
fn the_oracle_notices_a_server_that_replies_before_it_writes() {
    let seed = seed();
    say!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let root = tempfile::tempdir().unwrap();
    for number in 0..20 {
        let dir = root.path().join(number.to_string());
        let mut writers: Vec<_> = (0..WRITERS).map(|number| Writer::new(number, seed)).collect();
        let environment = [("HOLDFAST_FAULT", "reply-before-write")];
        let cycle =
            Cycle { dir: &dir, strategy: "everysec", moment: Moment::Load, environment: &environment };
        cycle.run(&mut rng, &mut writers);
        let server = Server::spawn(&dir, &["--save", ""]);
        let mut client = server.client();
        if let Some(error) = writers.iter_mut().find_map(|writer| writer.verify(&mut client).err()) {
            say!("noticed at kill {number}: {error}");
            return;
        }
    }
    panic!("20 kills of a server that replies before it writes, and nothing was noticed");
}
