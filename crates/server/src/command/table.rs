//! One table that describes every command: dispatch, arity, flags, `COMMAND` and its parts all come from it.
//!
//! Names, arities, flags, categories, key positions, arguments and versions are those of Redis 7.0 (WAITAOF, CLIENT NO-TOUCH
//! and SETINFO: 7.2), because clients read them; summaries, complexities and other sentences are our words.

mod key_spec;
mod rows;
mod usage;

pub use key_spec::{BeginSearch, FindKeys, KeySpec};
pub(crate) use usage::{Argument, Usage};

use std::sync::LazyLock;

use crate::command::error;
use crate::command::{Call, ReplyError, Run};
use crate::protocol::Request;
use key_spec::KeyRange;

/// What a command is like, as bits of [`Command::flags`].
pub mod flags {
    /// May change data.
    pub const WRITE: u64 = 1;
    /// Only reads data.
    pub(crate) const READONLY: u64 = 1 << 1;
    /// May grow memory: refused above `maxmemory`.
    pub(crate) const DENYOOM: u64 = 1 << 2;
    /// For administrators.
    pub(crate) const ADMIN: u64 = 1 << 3;
    /// Not for scripts.
    pub(crate) const NOSCRIPT: u64 = 1 << 4;
    /// Allowed while the data set is loaded.
    pub const LOADING: u64 = 1 << 5;
    /// Allowed on a replica with old data.
    pub(crate) const STALE: u64 = 1 << 6;
    /// Not counted as slow.
    pub(crate) const SKIP_SLOWLOG: u64 = 1 << 7;
    /// Takes constant or logarithmic time.
    pub(crate) const FAST: u64 = 1 << 8;
    /// Allowed before authentication.
    pub const NO_AUTH: u64 = 1 << 9;
    /// Has keys that the first, last and step of `COMMAND` do not cover; follows from the key specs.
    pub(crate) const MOVABLE_KEYS: u64 = 1 << 10;
    /// Not while a replica loads beside its data.
    pub(crate) const NO_ASYNC_LOADING: u64 = 1 << 11;
    /// Not in a transaction.
    pub(crate) const NO_MULTI: u64 = 1 << 12;
    /// Allowed while a script is busy.
    pub(crate) const ALLOW_BUSY: u64 = 1 << 13;
    /// About publish and subscribe.
    pub(crate) const PUBSUB: u64 = 1 << 14;
    /// May wait until another client changes a key.
    pub(crate) const BLOCKING: u64 = 1 << 15;
    /// Ours: needs `enable-…-command`.
    pub(crate) const PROTECTED: u64 = 1 << 32;
    /// Ours: meets keys that it does not name, so what expires on the way is not one unit with it.
    pub(crate) const TOUCHES_ARBITRARY_KEYS: u64 = 1 << 33;
    /// Ours: runs at once between MULTI and EXEC.
    pub(crate) const RUNS_IN_MULTI: u64 = 1 << 34;
    /// Ours: one of EXEC, DISCARD, RESET, QUIT, which end a transaction.
    pub(crate) const ENDS_MULTI: u64 = 1 << 35;
    /// Ours: EXEC, which answers for what it would run.
    pub(crate) const EXEC: u64 = 1 << 36;
    /// Ours: PING, refused like a write when the disk fails, so that monitoring notices.
    pub const PING: u64 = 1 << 37;
    /// Ours: what a subscriber may say in RESP2.
    pub(crate) const SUBSCRIBER: u64 = 1 << 38;
    /// Ours: may speak to replicas without a change of data (PUBLISH), so a connection that monitors may not.
    pub(crate) const MAY_REPLICATE: u64 = 1 << 39;
    /// Ours: SET, which takes as long as what is [`FAST`], as a rule, and is timed with it.
    pub(crate) const SHORT: u64 = 1 << 40;
    /// Ours: DEBUG, which `COMMAND DOCS` calls a system command.
    pub(crate) const SYSTEM: u64 = 1 << 41;

    /// Names in the order in which `COMMAND` lists them.
    pub(crate) const NAMES: &[(u64, &str)] = &[
        (WRITE, "write"),
        (READONLY, "readonly"),
        (DENYOOM, "denyoom"),
        (ADMIN, "admin"),
        (PUBSUB, "pubsub"),
        (NOSCRIPT, "noscript"),
        (BLOCKING, "blocking"),
        (LOADING, "loading"),
        (STALE, "stale"),
        (SKIP_SLOWLOG, "skip_slowlog"),
        (FAST, "fast"),
        (NO_AUTH, "no_auth"),
        (NO_ASYNC_LOADING, "no_async_loading"),
        (NO_MULTI, "no_multi"),
        (MOVABLE_KEYS, "movablekeys"),
        (ALLOW_BUSY, "allow_busy"),
    ];
}

/// ACL categories, as bits of [`Command::categories`].
pub(crate) mod categories {
    /// Works on names of keys, whatever they hold.
    pub(crate) const KEYSPACE: u32 = 1;
    /// Reads.
    pub(crate) const READ: u32 = 1 << 1;
    /// Writes.
    pub(crate) const WRITE: u32 = 1 << 2;
    /// Strings.
    pub(crate) const STRING: u32 = 1 << 3;
    /// Bits of strings.
    pub(crate) const BITMAP: u32 = 1 << 4;
    /// Publish and subscribe.
    pub(crate) const PUBSUB: u32 = 1 << 5;
    /// Administration.
    pub(crate) const ADMIN: u32 = 1 << 6;
    /// Constant or logarithmic time.
    pub(crate) const FAST: u32 = 1 << 7;
    /// Everything else.
    pub(crate) const SLOW: u32 = 1 << 8;
    /// May harm.
    pub(crate) const DANGEROUS: u32 = 1 << 9;
    /// The connection itself.
    pub(crate) const CONNECTION: u32 = 1 << 10;
    /// Transactions.
    pub(crate) const TRANSACTION: u32 = 1 << 11;
    /// Scripts and functions.
    pub(crate) const SCRIPTING: u32 = 1 << 12;
    /// Sets.
    pub(crate) const SET: u32 = 1 << 13;
    /// Sorted sets.
    pub(crate) const SORTED_SET: u32 = 1 << 14;
    /// Lists.
    pub(crate) const LIST: u32 = 1 << 15;
    /// Hashes.
    pub(crate) const HASH: u32 = 1 << 16;
    /// May wait for another client.
    pub(crate) const BLOCKING: u32 = 1 << 17;

    /// Names in the order in which `COMMAND` lists them.
    pub(crate) const NAMES: &[(u32, &str)] = &[
        (KEYSPACE, "keyspace"),
        (READ, "read"),
        (WRITE, "write"),
        (SET, "set"),
        (SORTED_SET, "sortedset"),
        (LIST, "list"),
        (HASH, "hash"),
        (STRING, "string"),
        (BITMAP, "bitmap"),
        (PUBSUB, "pubsub"),
        (ADMIN, "admin"),
        (FAST, "fast"),
        (SLOW, "slow"),
        (BLOCKING, "blocking"),
        (DANGEROUS, "dangerous"),
        (CONNECTION, "connection"),
        (TRANSACTION, "transaction"),
        (SCRIPTING, "scripting"),
    ];
}

/// Documentation group of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Keys of any type.
    Generic,
    /// Strings.
    String,
    /// Lists.
    List,
    /// Sets.
    Set,
    /// Sorted sets.
    SortedSet,
    /// Hashes.
    Hash,
    /// Bits.
    Bitmap,
    /// Connections.
    Connection,
    /// The server.
    Server,
    /// Transactions.
    Transactions,
    /// Scripts and functions.
    Scripting,
    /// Publish and subscribe.
    PubSub,
}

impl Group {
    /// The name in `COMMAND DOCS`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Group::Generic => "generic",
            Group::String => "string",
            Group::List => "list",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Hash => "hash",
            Group::Bitmap => "bitmap",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Transactions => "transactions",
            Group::Scripting => "scripting",
            Group::PubSub => "pubsub",
        }
    }
}

/// One command, or one subcommand.
#[derive(Debug)]
pub struct Command {
    /// Lower-case name; of a subcommand without its parent's.
    pub name: &'static str,
    /// Lower-case name with the parent's, such as `client|list`.
    pub(crate) full_name: &'static str,
    /// Number of arguments with the name; negative means at least.
    pub(crate) arity: i32,
    /// Bits of [`flags`].
    pub flags: u64,
    /// Bits of [`categories`] that do not follow from the flags.
    pub(crate) extra_categories: u32,
    /// Keys.
    pub keys: &'static [KeySpec],
    /// Hints for clients and proxies.
    pub(crate) tips: &'static [&'static str],
    /// Documentation group.
    pub group: Group,
    /// First version with the command.
    pub(crate) since: &'static str,
    /// Time it takes.
    pub(crate) complexity: &'static str,
    /// What it does, in one line.
    pub(crate) summary: &'static str,
    /// Version that discouraged it, and what to use instead.
    pub(crate) deprecated: Option<(&'static str, &'static str)>,
    /// Arguments, and how they changed.
    pub(crate) usage: Usage,
    /// Subcommands; if there are any, the command itself does nothing.
    pub subcommands: &'static [Command],
    pub(crate) run: fn(&mut Call<'_, '_>) -> Run,
}

impl Command {
    /// Whether any of the given flags is set.
    pub fn has(&self, flags: u64) -> bool {
        self.flags & flags != 0
    }

    /// All categories: the extra ones, and those that follow from the flags.
    pub(crate) fn categories(&self) -> u32 {
        let mut all = self.extra_categories;
        if self.has(flags::WRITE) {
            all |= categories::WRITE;
        }
        if self.has(flags::READONLY) {
            all |= categories::READ;
        }
        if self.has(flags::ADMIN) {
            all |= categories::ADMIN | categories::DANGEROUS;
        }
        if self.has(flags::PUBSUB) {
            all |= categories::PUBSUB;
        }
        if self.has(flags::BLOCKING) {
            all |= categories::BLOCKING;
        }
        all | if self.has(flags::FAST) { categories::FAST } else { categories::SLOW }
    }

    /// Whether a request of `len` arguments is long and short enough.
    pub(crate) fn accepts_len(&self, len: usize) -> bool {
        let arity = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { len >= arity } else { len == arity }
    }

    /// The subcommand of this name, in any case.
    pub(crate) fn subcommand(&self, name: &[u8]) -> Option<&'static Command> {
        self.subcommands.iter().find(|it| it.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// The flags that clients see: those of the row, and [`flags::MOVABLE_KEYS`] where the key specs imply it.
    pub(crate) fn visible_flags(&self) -> u64 {
        if self.key_range().covers_all_keys { self.flags } else { self.flags | flags::MOVABLE_KEYS }
    }

    /// The key specs as one range.
    pub(crate) fn key_range(&self) -> KeyRange {
        KeyRange::from_specs(self.keys)
    }

    /// Whether a key among `args`, which begin with the name, is longer than `len_max` bytes. Where the arguments are wrong, or
    /// only the command itself knows its keys, every argument counts as one.
    pub(crate) fn has_key_longer_than(&self, len_max: usize, args: &[&[u8]]) -> bool {
        let is_longer = |arg: &&[u8]| arg.len() > len_max;
        match self.key_positions(args) {
            Some(positions) if !self.keys.iter().any(KeySpec::is_unknown) => {
                positions.iter().filter_map(|(at, _)| args.get(*at)).any(is_longer)
            }
            _ => args.iter().any(is_longer),
        }
    }

    /// Positions of the keys in `args`, which begin with the name, each with its spec; `None` if the arguments are wrong.
    pub(crate) fn key_positions(&self, args: &[&[u8]]) -> Option<Vec<(usize, &'static KeySpec)>> {
        let mut all = Vec::new();
        for spec in self.keys {
            all.extend(spec.positions(args)?.map(|at| (at, spec)));
        }
        Some(all)
    }
}

/// All commands in order of name.
pub fn commands() -> &'static [&'static Command] {
    &rows::ALL
}

/// The command of this name, in any case.
pub fn find(name: &[u8]) -> Option<&'static Command> {
    INDEX.find(name)
}

/// A request that names no command, or has too many or too few arguments for it.
#[derive(Debug)]
pub(crate) struct Unresolved {
    /// What is wrong, in the words of Redis.
    pub(crate) error: ReplyError,
    /// The command, if it was found.
    pub(crate) command: Option<&'static Command>,
}

/// The command or subcommand that a request means.
/// # Errors
/// [`Unresolved`].
pub(crate) fn resolve(request: &Request<'_>) -> Result<&'static Command, Unresolved> {
    let name = request.arg(0);
    let unknown = |error| Unresolved { error, command: None };
    let Some(mut command) = find(name) else {
        return Err(unknown(error::unknown_command(name, request.args_from(1))));
    };
    if !command.subcommands.is_empty()
        && let Some(subcommand) = request.arg_at(1)
    {
        match command.subcommand(subcommand) {
            Some(found) => command = found,
            None => return Err(unknown(error::unknown_subcommand(subcommand, command.name))),
        }
    }
    if !command.accepts_len(request.len()) {
        return Err(Unresolved { error: error::wrong_arity(command.full_name), command: Some(command) });
    }
    Ok(command)
}

/// An open-addressed hash table of the names, twice as large as needed and more.
struct Index {
    slots: Vec<Option<&'static Command>>,
}

const NAME_LEN_MAX: usize = 16;

static INDEX: LazyLock<Index> = LazyLock::new(|| {
    let mut slots = vec![None; (rows::ALL.len() * 4).next_power_of_two()];
    for command in rows::ALL.iter().copied() {
        let mut at = hash_name(command.name.as_bytes()) & (slots.len() - 1);
        while slots[at].is_some() {
            at = (at + 1) & (slots.len() - 1);
        }
        slots[at] = Some(command);
    }
    Index { slots }
});

impl Index {
    fn find(&self, name: &[u8]) -> Option<&'static Command> {
        if name.len() > NAME_LEN_MAX {
            return None;
        }
        let mut at = hash_name(name) & (self.slots.len() - 1);
        while let Some(command) = self.slots[at] {
            if command.name.as_bytes().eq_ignore_ascii_case(name) {
                return Some(command);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        None
    }
}

/// FNV-1a over the name in lower case.
fn hash_name(name: &[u8]) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    for byte in name {
        hash = (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193);
    }
    (hash ^ (hash >> 15)) as usize
}
