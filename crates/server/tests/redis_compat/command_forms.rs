//! Every form of a command that `COMMAND DOCS` describes is taken, or refused in the words of Redis.

use crate::pair::{Pair, Typed};
use crate::support::{Client, Reply};

/// What is not tried, with the reason.
const SKIPPED: &[(&str, &str)] = &[
    ("shutdown", "ends the server"),
    ("client|kill", "ends connections of this test"),
    ("client|reply", "is not answered"),
    ("save", "fails while the other process still saves"),
    ("bgsave", "the same"),
    ("bgrewriteaof", "the same"),
];

/// Stands for the number of keys until all words are known.
const NUMKEYS: &str = "<numkeys>";

type Words = Vec<String>;

/// Ways to write arguments, one after another: the shortest, and then each other way to write one of them.
fn forms(arguments: &[Typed]) -> Vec<Words> {
    let ways: Vec<Vec<Words>> = arguments.iter().map(argument_forms).collect();
    let join = |chosen: &dyn Fn(usize) -> usize| -> Words {
        ways.iter().enumerate().flat_map(|(at, ways)| ways[chosen(at)].clone()).collect()
    };
    let mut all = vec![join(&|_| 0)];
    for (at, ways) in ways.iter().enumerate() {
        all.extend((1..ways.len()).map(|way| join(&|other| if other == at { way } else { 0 })));
    }
    all
}

/// Ways to write one argument; the first is nothing, if it may be left out.
fn argument_forms(argument: &Typed) -> Vec<Words> {
    let text = |name: &str| argument.field(name).map(Typed::text);
    let is = |flag: &str| {
        argument.field("flags").is_some_and(|flags| flags.items().iter().any(|it| it.text() == flag))
    };
    let members = argument.field("arguments").map(Typed::items).unwrap_or_default();
    let (name, kind) = (text("name").expect("a name"), text("type").expect("a type"));
    let mut values = match kind {
        "pure-token" => vec![Words::new()],
        // Alternatives may be marked as optional.
        "oneof" => members.iter().flat_map(argument_forms).filter(|words| !words.is_empty()).collect(),
        "block" => forms(members),
        _ => vec![vec![value(kind, name).to_owned()]],
    };
    let token: Words = text("token").into_iter().map(str::to_owned).collect();
    if is("multiple") {
        let again = if is("multiple_token") { token.clone() } else { Words::new() };
        values.push([values[0].clone(), again, values[0].clone()].concat());
    }
    let written = values.into_iter().map(|value| [token.clone(), value].concat());
    if is("optional") { std::iter::once(Words::new()).chain(written).collect() } else { written.collect() }
}

/// A value that a command takes.
fn value<'a>(kind: &str, name: &'a str) -> &'a str {
    match (kind, name) {
        (_, "numkeys") => NUMKEYS,
        (_, "cursor") => "0",
        (_, "protover") => "2",
        (_, "client-id") => "99999",
        (_, "numreplicas") => "0",
        ("integer", _) => "1",
        ("double", _) => "0.01",
        ("pattern", _) => "*",
        ("unix-time", _) => "9999999999",
        (_, "start") => "0",
        (_, "stop") => "1",
        (_, "min") => "-",
        (_, "max") => "+",
        (_, "operation") => "AND",
        (_, "encoding") => "u8",
        (_, "yes/no") => "yes",
        (_, "username") => "default",
        (_, "ip:port") => "127.0.0.1:1",
        (_, "parameter") => "maxmemory",
        (_, "category") => "read",
        (_, name) => name,
    }
}

/// Every form of a command, in words.
fn requests(name: &str, docs: &Typed) -> Vec<Words> {
    let arguments = docs.field("arguments").map(Typed::items).unwrap_or_default();
    let finish = |mut words: Words| -> Words {
        if let Some(at) = words.iter().position(|word| word == NUMKEYS) {
            words[at] = words[at..].iter().filter(|word| *word == "key").count().to_string();
        }
        name.split('|').map(str::to_owned).chain(words).collect()
    };
    forms(arguments).into_iter().map(finish).collect()
}

fn error(client: &mut Client, request: &[String]) -> Option<String> {
    match client.command(request) {
        Reply::Error(error) => Some(error),
        _ => None,
    }
}

#[test]
fn documented_forms_are_taken_as_by_redis() {
    let mut pair = Pair::start();
    let (mut tried, mut taken, mut failures) = (0, 0, Vec::new());
    for name in pair.commands() {
        let docs = pair.ours.ask(&["COMMAND", "DOCS", &name]);
        let docs = docs.field(&name).expect("one description");
        let is_skipped = SKIPPED.iter().any(|(skipped, _)| *skipped == name);
        if is_skipped || docs.field("subcommands").is_some() {
            continue;
        }
        for request in requests(&name, docs) {
            pair.ours.ask(&["FLUSHALL"]);
            pair.theirs.ask(&["FLUSHALL"]);
            let ours = error(&mut pair.ours.client(), &request);
            let theirs = error(&mut pair.theirs.client(), &request);
            tried += 1;
            taken += i32::from(ours.is_none());
            if ours != theirs {
                failures.push(format!("{}: {ours:?}, in Redis {theirs:?}", request.join(" ")));
            }
            // The keys of every form are found, too.
            let words: Vec<&str> = ["COMMAND", "GETKEYSANDFLAGS"]
                .into_iter()
                .chain(request.iter().map(String::as_str))
                .collect();
            let (ours, theirs) = (pair.ours.ask(&words), pair.theirs.ask(&words));
            if ours != theirs {
                failures.push(format!("{}: {ours:?}, in Redis {theirs:?}", words.join(" ")));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // The others are what the descriptions do not tell, such as options that exclude each other.
    assert!(tried > 500 && taken * 10 > tried * 9, "{taken} of {tried} forms are taken");
}
