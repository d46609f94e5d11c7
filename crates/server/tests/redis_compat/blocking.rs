//! Which of several waiting clients is served from which of several keys, beside a running Redis 7.0.
//!
//! A scene: clients begin to wait one after another, another one changes keys, alone or in transactions, and ends the waits
//! that are left. What all of them are answered, and the data at the end, must be equal.

use crate::support::{Client, Reply, Server};

/// Scenes of a run.
const SCENES: u64 = 60;
const KEYS: [&str; 4] = ["a", "b", "c", "d"];

/// A generator of small numbers; a scene is made from its own seed alone.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        // Source of the numbers: Knuth's MMIX.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn key(&mut self) -> &'static str {
        KEYS[self.below(KEYS.len())]
    }

    fn pick(&mut self, words: &[&'static str]) -> &'static str {
        words[self.below(words.len())]
    }
}

fn wait_command(random: &mut Random) -> String {
    let mut keys = KEYS.to_vec();
    for at in (1..keys.len()).rev() {
        keys.swap(at, random.below(at + 1));
    }
    keys.truncate(1 + random.below(KEYS.len()));
    let (count, all) = (keys.len(), keys.join(" "));
    let side = random.pick(&["LEFT", "RIGHT"]);
    match random.below(8) {
        0 | 1 => format!("{} {all} 0", random.pick(&["BLPOP", "BRPOP"])),
        2 => format!("BLMPOP 0 {count} {all} {side}"),
        3 => format!("BLMPOP 0 {count} {all} {side} COUNT 2"),
        4 => format!("BLMOVE {} {} {side} {} 0", random.key(), random.key(), random.pick(&["LEFT", "RIGHT"])),
        5 => format!("BRPOPLPUSH {} {} 0", random.key(), random.key()),
        6 => format!("{} {all} 0", random.pick(&["BZPOPMIN", "BZPOPMAX"])),
        _ => format!("BZMPOP 0 {count} {all} {} COUNT 2", random.pick(&["MIN", "MAX"])),
    }
}

/// One change, as one command or several. A result is stored where nothing is: a difference in that is known.
fn change(random: &mut Random, clients: usize) -> Vec<String> {
    let (key, other, element) = (random.key(), random.key(), random.below(1000));
    let score = random.below(9);
    match random.below(15) {
        0 | 1 => vec![format!("RPUSH {key} {element} x y")],
        2 => vec![format!("LPUSH {key} {element}")],
        3 | 4 => vec![format!("ZADD {key} {score} {element} 5 x")],
        5 => vec![format!("SET {key} text")],
        6 | 7 => vec![format!("DEL {key}")],
        8 => vec![format!("LPOP {key}")],
        9 => vec![format!("{} {key} {other}", random.pick(&["RENAME", "COPY"]))],
        10 => ["SELECT 1", &format!("RPUSH {key} {element}"), &format!("MOVE {key} 0"), "SELECT 0"]
            .map(str::to_owned)
            .to_vec(),
        11 if key != other => vec![format!("DEL {key}"), format!("SORT {other} BY nosort STORE {key}")],
        12 => vec![format!("LMOVE {key} {other} LEFT RIGHT")],
        13 => {
            let fill = ["FLUSHALL", "SELECT 1", &format!("RPUSH {key} {element}"), "SELECT 0", "SWAPDB 0 1"];
            fill.map(str::to_owned).to_vec()
        }
        _ => {
            vec![format!("CLIENT UNBLOCK @{} {}", random.below(clients), random.pick(&["ERROR", "TIMEOUT"]))]
        }
    }
}

struct Scene {
    waits: Vec<String>,
    /// Each in one transaction, or one after another.
    changes: Vec<(bool, Vec<String>)>,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let clients = 2 + random.below(4);
        let waits = (0..clients).map(|_| wait_command(&mut random)).collect();
        let changes = (0..=random.below(4)).map(|_| {
            let commands = (0..=random.below(4)).flat_map(|_| change(&mut random, clients)).collect();
            (random.below(2) == 0, commands)
        });
        Scene { waits, changes: changes.collect() }
    }

    /// Everything that can be observed, in order.
    fn play(&self, admin: &mut Client, clients: &mut [Client]) -> Vec<Reply> {
        admin.run("FLUSHALL");
        let mut ids = Vec::new();
        for (number, (wait, client)) in self.waits.iter().zip(&mut *clients).enumerate() {
            ids.push(client.run("CLIENT ID").int());
            let mut bytes = Vec::new();
            Client::encode(&wait.split(' ').collect::<Vec<_>>(), &mut bytes);
            client.send_bytes(&bytes).unwrap();
            admin.wait_for_info("blocked_clients", &(number + 1).to_string());
        }
        let mut replies = Vec::new();
        for (is_transaction, commands) in &self.changes {
            if *is_transaction {
                admin.run("MULTI");
            }
            for command in commands {
                let words = command.split(' ').map(|word| match word.strip_prefix('@') {
                    Some(number) => ids[number.parse::<usize>().unwrap()].to_string(),
                    None => word.to_owned(),
                });
                replies.push(admin.command(&words.collect::<Vec<_>>()));
            }
            if *is_transaction {
                replies.push(admin.run("EXEC"));
            }
        }
        replies.extend(ids.iter().map(|id| admin.run(&format!("CLIENT UNBLOCK {id}"))));
        replies.extend(clients[..ids.len()].iter_mut().map(|client| client.read_reply().unwrap()));
        for (db, key) in ["0", "1"].into_iter().flat_map(|db| KEYS.map(|key| (db, key))) {
            admin.run(&format!("SELECT {db}"));
            let kind = admin.run(&format!("TYPE {key}")).text();
            replies.push(match kind.as_str() {
                "list" => admin.run(&format!("LRANGE {key} 0 -1")),
                "zset" => admin.run(&format!("ZRANGE {key} 0 -1 WITHSCORES")),
                _ => admin.run(&format!("GET {key}")),
            });
        }
        admin.run("SELECT 0");
        replies
    }
}

#[test]
fn waiting_clients_are_served_as_redis_serves_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("theirs")).unwrap();
    let theirs = Server::spawn_redis(&folder.path().join("theirs"), &["--save", ""]);
    let ours = Server::spawn(&folder.path().join("ours"), &["--enable-debug-command", "yes"]);
    let connect = |server: &Server| -> (Client, [Client; 5]) {
        (server.client(), std::array::from_fn(|_| server.client()))
    };
    let ((mut our_admin, mut our_clients), (mut their_admin, mut their_clients)) =
        (connect(&ours), connect(&theirs));
    for seed in 0..SCENES {
        let scene = Scene::new(seed);
        let expected = scene.play(&mut their_admin, &mut their_clients);
        let actual = scene.play(&mut our_admin, &mut our_clients);
        let Scene { waits, changes } = &scene;
        assert_eq!(actual, expected, "scene {seed}: {waits:#?} {changes:#?}");
        // What was served is in the log as what was popped.
        let digest = our_admin.run("DEBUG DIGEST");
        assert_eq!(our_admin.run("DEBUG LOADAOF"), Reply::ok());
        assert_eq!(our_admin.run("DEBUG DIGEST"), digest, "scene {seed}: {waits:#?} {changes:#?}");
    }
}
