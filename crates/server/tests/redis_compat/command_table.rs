//! COMMAND and its subcommands describe every command as Redis does, but for sentences, which are our own.

use std::collections::BTreeSet;

use crate::pair::{Pair, Peer, Typed};

/// What differs on purpose, with the reason: the beginning of a fact.
const DIFFERENT: &[(&str, &str)] =
    &[("DOCS lolwut.complexity", "Redis states none"), ("DOCS monitor.complexity", "Redis states none")];

/// The facts that a reply consists of, each with its path. The order of a set is that of Redis; sentences only have to be there.
struct Facts<'a> {
    /// Commands and subcommands that both servers have; of others nothing is said.
    known: &'a BTreeSet<String>,
    facts: BTreeSet<String>,
}

impl Facts<'_> {
    fn add(&mut self, path: &str, value: &Typed) {
        match value {
            Typed::Map(pairs) => {
                self.facts.insert(format!("{path} is a map"));
                for (name, value) in pairs {
                    if self.is_known(name) {
                        self.add(&format!("{path}.{}", name.text()), value);
                    }
                }
            }
            Typed::Set(items) => {
                self.facts.insert(format!("{path} is a set"));
                self.add_items(path, items);
            }
            Typed::Array(items) => {
                self.facts.insert(format!("{path} is an array"));
                self.add_items(path, items);
            }
            _ if is_sentence(path) => {
                assert!(!value.text().is_empty(), "{path}");
                self.facts.insert(format!("{path} is a sentence"));
            }
            _ => {
                self.facts.insert(format!("{path} = {value:?}"));
            }
        }
    }

    fn add_items(&mut self, path: &str, items: &[Typed]) {
        for (at, item) in items.iter().enumerate() {
            let first = if let Typed::Array(fields) = item { fields.first() } else { None };
            match first {
                // The description of a subcommand, in COMMAND INFO.
                Some(Typed::Bulk(name)) if name.contains('|') => {
                    if self.known.contains(name) {
                        self.add(&format!("{path}.{name}"), item);
                    }
                }
                _ => self.add(&format!("{path}[{at}]"), item),
            }
        }
    }

    /// Whether it is no name of a subcommand, or of one that both servers have.
    fn is_known(&self, name: &Typed) -> bool {
        !name.text().contains('|') || self.known.contains(name.text())
    }
}

fn is_sentence(path: &str) -> bool {
    let is_change = path.contains(".history[") && path.ends_with("[1]");
    is_change || [".summary", ".complexity", ".notes"].iter().any(|end| path.ends_with(end))
}

#[test]
fn every_command_is_described_as_by_redis() {
    let mut pair = Pair::start();
    let known: BTreeSet<String> = pair.commands().into_iter().collect();
    let [ours, theirs] = [&mut pair.ours, &mut pair.theirs].map(|peer| {
        let mut facts = Facts { known: &known, facts: BTreeSet::new() };
        for name in &known {
            let docs = peer.ask(&["COMMAND", "DOCS", name]);
            facts.add(&format!("DOCS {name}"), docs.field(name).expect("one description"));
            facts.add(&format!("INFO {name}"), &peer.ask(&["COMMAND", "INFO", name]).items()[0]);
        }
        facts.facts
    });
    assert!(ours.len() > 10_000, "only {} facts", ours.len());
    let mut differences: Vec<String> = ours
        .difference(&theirs)
        .map(|fact| format!("{fact}, only here"))
        .chain(theirs.difference(&ours).map(|fact| format!("{fact}, only in Redis")))
        .collect();
    for (path, reason) in DIFFERENT {
        let len = differences.len();
        differences.retain(|fact| !fact.starts_with(path));
        assert!(differences.len() < len, "{path} does not differ: {reason}");
    }
    differences.sort();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Without names, all commands are described, each once.
#[test]
fn all_commands_are_described_at_once() {
    let mut pair = Pair::start();
    let ours = &mut pair.ours;
    let Typed::Map(docs) = ours.ask(&["COMMAND", "DOCS"]) else { panic!("expected a map") };
    let count = Typed::Int(i64::try_from(docs.len()).unwrap());
    assert_eq!(ours.ask(&["COMMAND", "COUNT"]), count);
    assert_eq!(ours.ask(&["COMMAND"]).items().len(), docs.len());
    for (name, description) in docs {
        let one = ours.ask(&["COMMAND", "DOCS", name.text()]);
        assert_eq!(one, Typed::Map(vec![(name, description)]));
    }
    // Names are found in any case, and what is none is left out.
    let request = "COMMAND DOCS CONFIG|Set nosuch config|nosuch config| config|set|x | ";
    let request: Vec<&str> = request.split(' ').collect();
    assert_eq!(ours.ask(&request), ours.ask(&["COMMAND", "DOCS", "config|set"]));
}

#[test]
fn names_are_found_and_listed_as_by_redis() {
    let mut pair = Pair::start();
    let known = pair.commands();
    let ask = |peer: &mut Peer, request: &str| {
        let request: Vec<&str> = request.split(' ').collect();
        match peer.ask(&request) {
            Typed::Array(mut names) => {
                names.retain(|it| !matches!(it, Typed::Bulk(name) if !known.contains(name)));
                names.sort();
                Typed::Array(names)
            }
            reply => reply,
        }
    };
    let categories = pair.theirs.ask(&["ACL", "CAT"]);
    let mut requests: Vec<String> = categories
        .items()
        .iter()
        .map(|category| format!("COMMAND LIST FILTERBY ACLCAT {}", category.text().to_uppercase()))
        .collect();
    requests.extend(
        [
            "COMMAND LIST",
            "COMMAND LIST FILTERBY PATTERN *",
            "COMMAND LIST FILTERBY PATTERN g?t*",
            "COMMAND LIST FILTERBY PATTERN G[a-e]T",
            "COMMAND LIST FILTERBY PATTERN *|help",
            "COMMAND LIST FILTERBY PATTERN client|*",
            "COMMAND LIST FILTERBY PATTERN ",
            "COMMAND LIST filterby pattern get",
            "COMMAND LIST FILTERBY MODULE any",
            "COMMAND LIST FILTERBY ACLCAT @read",
            "COMMAND LIST FILTERBY ACLCAT nosuch",
            "COMMAND LIST FILTERBY nosuch get",
            "COMMAND LIST FILTERBY PATTERN",
            "COMMAND LIST FILTERBY PATTERN a b",
            "COMMAND LIST nosuch",
            "COMMAND INFO GeT CLIENT|List",
            "COMMAND INFO nosuch get| client|nosuch client|list|x |",
            "COMMAND DOCS nosuch get| client|nosuch client|list|x |",
            "COMMAND COUNT x",
            "COMMAND nosuch",
        ]
        .map(str::to_owned),
    );
    for request in requests {
        assert_eq!(ask(&mut pair.ours, &request), ask(&mut pair.theirs, &request), "{request}");
    }
}

#[test]
fn keys_are_found_as_by_redis() {
    let mut pair = Pair::start();
    for request in [
        "get",
        "get a",
        "get a b",
        "get|x a",
        "nosuch a",
        "ping a",
        "client list",
        "client nosuch",
        "client",
        "config get a",
        "config|get a",
        "mset a 1 b 2",
        "mset a 1 b",
        "mset a",
        "set a get",
        "set a b gEt",
        "set a b EX GET",
        "set a b NX GETT",
        "bitfield a",
        "bitfield a x",
        "bitfield a GET u8",
        "bitfield a GET SET 0",
        "bitfield a GET u8 SET 1",
        "bitfield a GET u8 0 x",
        "bitfield a GET u8 0 SET u8 0 1",
        "bitfield a INCRBY u8 0",
        "bitfield a OVERFLOW",
        "bitfield a OVERFLOW WRAP",
        "bitfield a OVERFLOW WRAP GET u8 0",
        "bitop AND d a b",
        "sort a",
        "sort a STORE b",
        "sort a limit store store b",
        "sort a by store store c store d",
        "sort_ro a store b",
        "lcs a b",
        "blpop a",
        "blpop a b 0",
        "lmpop 1 a",
        "lmpop 1 a LEFT",
        "bzmpop 1 2 a b MIN",
        "bzmpop 1 -2 a b MIN",
        "zunion 0 a",
        "zunion x a",
        "zunionstore d 1 a WEIGHTS 1",
        "zunionstore d 3 a b",
        "zdiffstore d 9223372036854775807 a b",
        "sintercard 1 a b",
        "object encoding a",
        "object freq",
        "object help x",
        "memory usage a SAMPLES 1",
        "memory usage",
        "command getkeys get a",
        "debug object a",
        "ssubscribe a",
        "spublish a b",
        "sunsubscribe a",
        "subscribe a",
        "exec x",
    ] {
        for subcommand in ["GETKEYS", "GETKEYSANDFLAGS"] {
            let words: Vec<&str> = ["COMMAND", subcommand].into_iter().chain(request.split(' ')).collect();
            assert_eq!(pair.ours.ask(&words), pair.theirs.ask(&words), "{subcommand} {request}");
        }
    }
}
