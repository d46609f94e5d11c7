//! How commands are called: the argument trees and histories of `COMMAND DOCS`, by family as the rows are.
//!
//! ```text
//! SET key value [NX | XX] [GET] [EX seconds | KEEPTTL]      ZADD key score member [score member …]
//!
//! key("key")                                                    a key, found by the first key spec of the row
//! string("value")                                               a value of a type
//! word("GET").optional()                                        a fixed word
//! integer("seconds").after("EX")                                a value with a word before it
//! one_of("condition", &[word("NX"), word("XX")])                alternatives
//! block("score_member", &[double("score"), string("member")])   arguments that belong together
//! ```
//!
//! Names, types, words, versions and structure are those of Redis 7.0 (of what is newer: 7.2), because `redis-cli` and generators
//! of clients read them; the texts of histories are our own. Only `COMMAND DOCS` reads any of this.

pub(super) mod bits;
pub(super) mod connection;
pub(super) mod expiry;
pub(super) mod hashes;
pub(super) mod keys;
pub(super) mod lists;
pub(super) mod observation;
pub(super) mod pubsub;
pub(super) mod scripting;
pub(super) mod server;
pub(super) mod sets;
pub(super) mod sorted_sets;
pub(super) mod sorting;
pub(super) mod strings;

/// How a command is called, and how that changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Arguments after the name, in order.
    pub(crate) arguments: &'static [Argument],
    /// Versions that changed arguments or reply, the oldest first, each with the change. A version may occur twice.
    pub(crate) history: &'static [(&'static str, &'static str)],
}

impl Usage {
    /// No arguments, or none that Redis documents.
    pub(super) const NONE: Usage = Usage::new(&[]);
    /// One key.
    pub(super) const KEY: Usage = Usage::new(&[key("key")]);
    /// Keys.
    pub(super) const KEYS: Usage = Usage::new(&[key("key").repeated()]);

    const fn new(arguments: &'static [Argument]) -> Usage {
        Usage { arguments, history: &[] }
    }

    /// The same usage with a history.
    const fn changed(mut self, history: &'static [(&'static str, &'static str)]) -> Usage {
        self.history = history;
        self
    }
}

/// One argument, or several that form a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Argument {
    /// The name; `COMMAND DOCS` shows it in lower case.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// The fixed word: of [`Kind::Word`] the argument itself, of the others a word before the value.
    pub(crate) token: Option<&'static str>,
    /// Index, among the key specs of the command, of the one that finds this key.
    pub(crate) key_spec: Option<usize>,
    /// First version with the argument, if the command is older.
    pub(crate) since: Option<&'static str>,
    /// Version that discouraged the argument.
    pub(crate) deprecated_since: Option<&'static str>,
    pub(crate) is_optional: bool,
    pub(crate) is_repeated: bool,
    /// Whether a repeated argument has its word before each value, rather than once.
    pub(crate) repeats_token: bool,
}

/// What an argument is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Any string.
    String,
    /// A whole number.
    Integer,
    /// A floating-point number.
    Double,
    /// The name of a key.
    Key,
    /// A glob pattern.
    Pattern,
    /// A time, in seconds or milliseconds since the Unix epoch.
    UnixTime,
    /// A fixed word.
    Word,
    /// One of these.
    OneOf(&'static [Argument]),
    /// All of these, in order.
    Block(&'static [Argument]),
}

impl Kind {
    /// The type in `COMMAND DOCS`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Double => "double",
            Kind::Key => "key",
            Kind::Pattern => "pattern",
            Kind::UnixTime => "unix-time",
            Kind::Word => "pure-token",
            Kind::OneOf(_) => "oneof",
            Kind::Block(_) => "block",
        }
    }

    /// The arguments of a group.
    pub(crate) fn members(self) -> &'static [Argument] {
        match self {
            Kind::OneOf(members) | Kind::Block(members) => members,
            _ => &[],
        }
    }
}

impl Argument {
    const fn new(name: &'static str, kind: Kind) -> Argument {
        Argument {
            name,
            kind,
            token: None,
            key_spec: None,
            since: None,
            deprecated_since: None,
            is_optional: false,
            is_repeated: false,
            repeats_token: false,
        }
    }

    /// May be left out.
    const fn optional(mut self) -> Argument {
        self.is_optional = true;
        self
    }

    /// May be given several times; a word before it only once.
    const fn repeated(mut self) -> Argument {
        self.is_repeated = true;
        self
    }

    /// May be given several times, each time with the word before it.
    const fn repeated_with_token(mut self) -> Argument {
        self.is_repeated = true;
        self.repeats_token = true;
        self
    }

    /// Stands behind a word.
    const fn after(mut self, token: &'static str) -> Argument {
        self.token = Some(token);
        self
    }

    /// Gives a word a name other than its own.
    const fn named(mut self, name: &'static str) -> Argument {
        self.name = name;
        self
    }

    /// Is found by another key spec than the first.
    const fn in_key_spec(mut self, index: usize) -> Argument {
        self.key_spec = Some(index);
        self
    }

    /// Is newer than the command.
    const fn since(mut self, version: &'static str) -> Argument {
        self.since = Some(version);
        self
    }

    /// Is discouraged.
    const fn deprecated_since(mut self, version: &'static str) -> Argument {
        self.deprecated_since = Some(version);
        self
    }

    /// The flags in `COMMAND DOCS`.
    pub(crate) fn flags(&self) -> Vec<&'static str> {
        let flags = [
            (self.is_optional, "optional"),
            (self.is_repeated, "multiple"),
            (self.repeats_token, "multiple_token"),
        ];
        flags.into_iter().filter_map(|(is_set, name)| is_set.then_some(name)).collect()
    }
}

const fn string(name: &'static str) -> Argument {
    Argument::new(name, Kind::String)
}

const fn integer(name: &'static str) -> Argument {
    Argument::new(name, Kind::Integer)
}

const fn double(name: &'static str) -> Argument {
    Argument::new(name, Kind::Double)
}

const fn pattern(name: &'static str) -> Argument {
    Argument::new(name, Kind::Pattern)
}

const fn unix_time(name: &'static str) -> Argument {
    Argument::new(name, Kind::UnixTime)
}

/// A key that the first key spec finds.
const fn key(name: &'static str) -> Argument {
    Argument::new(name, Kind::Key).in_key_spec(0)
}

/// A fixed word, which is its name as well.
const fn word(token: &'static str) -> Argument {
    Argument::new(token, Kind::Word).after(token)
}

const fn one_of(name: &'static str, alternatives: &'static [Argument]) -> Argument {
    Argument::new(name, Kind::OneOf(alternatives))
}

const fn block(name: &'static str, members: &'static [Argument]) -> Argument {
    Argument::new(name, Kind::Block(members))
}

// Arguments that commands of several families have.

const LIMIT: Argument =
    block("offset_count", &[integer("offset"), integer("count")]).after("LIMIT").optional();
const MATCH: Argument = pattern("pattern").after("MATCH").optional();
const COUNT: Argument = integer("count").after("COUNT").optional();
const NUMKEYS: Argument = integer("numkeys");
const MEMBER: Argument = string("member");

/// Steps over the elements of a value.
const SCAN_KEY: Usage = Usage::new(&[key("key"), integer("cursor"), MATCH, COUNT]);
/// Counts an intersection.
const INTERSECTION_COUNT: Usage =
    Usage::new(&[NUMKEYS, key("key").repeated(), integer("limit").after("LIMIT").optional()]);
/// Waits for the first of several keys.
const WAIT_FOR_KEYS: Usage =
    Usage::new(&[key("key").repeated(), double("timeout")]).changed(&[FRACTIONAL_TIMEOUT]);

const FRACTIONAL_TIMEOUT: (&str, &str) = ("6.0.0", "The timeout may have a fraction.");
const SEVERAL_MEMBERS: (&str, &str) = ("2.4.0", "Takes several members.");

#[cfg(test)]
mod tests {
    use super::{Argument, Kind};
    use crate::command::table::{self, Command};

    fn every_command(check: impl Fn(&Command)) {
        for command in table::commands() {
            check(command);
            command.subcommands.iter().for_each(&check);
        }
    }

    fn every_argument(arguments: &[Argument], check: &impl Fn(&Argument)) {
        for argument in arguments {
            check(argument);
            every_argument(argument.kind.members(), check);
        }
    }

    /// Fewest arguments that can be given, and whether there may be more, if the argument is not left out.
    fn len(argument: &Argument) -> (usize, bool) {
        let (value, varies) = match argument.kind {
            Kind::Word => return (1, argument.is_repeated),
            Kind::OneOf(members) => {
                let lens: Vec<_> = members.iter().map(len).collect();
                let least = lens.iter().map(|(len, _)| *len).min().expect("alternatives are not empty");
                (least, lens.iter().any(|(len, varies)| *varies || *len != least))
            }
            Kind::Block(members) => total_len(members),
            _ => (1, false),
        };
        (value + usize::from(argument.token.is_some()), varies || argument.is_repeated)
    }

    fn total_len(arguments: &[Argument]) -> (usize, bool) {
        arguments.iter().fold((0, false), |(total, varies), argument| match len(argument) {
            _ if argument.is_optional => (total, true),
            (len, also_varies) => (total + len, varies || also_varies),
        })
    }

    #[test]
    fn arities_follow_from_arguments() {
        /// Those whose arguments Redis does not document.
        const UNDOCUMENTED: &[&str] = &["command|getkeys", "command|getkeysandflags", "debug", "quit"];
        every_command(|command| {
            if UNDOCUMENTED.contains(&command.full_name) || !command.subcommands.is_empty() {
                assert!(command.usage.arguments.is_empty(), "{}", command.full_name);
                return;
            }
            let (len, varies) = total_len(command.usage.arguments);
            let name_len = command.full_name.split('|').count();
            let arity = i32::try_from(name_len + len).unwrap() * if varies { -1 } else { 1 };
            assert_eq!(command.arity, arity, "{}", command.full_name);
        });
    }

    #[test]
    fn arguments_are_of_one_piece() {
        every_command(|command| {
            every_argument(command.usage.arguments, &|argument| {
                let at = format!("{} {}", command.full_name, argument.name);
                let is_group = matches!(argument.kind, Kind::OneOf(_) | Kind::Block(_));
                assert_eq!(is_group, !argument.kind.members().is_empty(), "{at}");
                assert!(!matches!(argument.kind, Kind::Word) || argument.token.is_some(), "{at}");
                assert!(!argument.repeats_token || argument.token.is_some(), "{at}");
                assert!(argument.key_spec.is_none_or(|index| index < command.keys.len()), "{at}");
            });
        });
    }
}
