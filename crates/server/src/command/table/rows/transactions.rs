//! Transactions.

use crate::command::table::{Command, Group, KeySpec, Usage, categories, flags};
use crate::command::transaction;

pub(super) static ROWS: &[Command] = &[
    Command {
        name: "multi",
        full_name: "multi",
        arity: 1,
        flags: flags::NOSCRIPT
            | flags::LOADING
            | flags::STALE
            | flags::FAST
            | flags::ALLOW_BUSY
            | flags::RUNS_IN_MULTI,
        extra_categories: categories::TRANSACTION,
        keys: &[],
        tips: &[],
        group: Group::Transactions,
        since: "1.2.0",
        complexity: "O(1)",
        summary: "Begins a transaction: commands are queued.",
        deprecated: None,
        usage: Usage::NONE,
        subcommands: &[],
        run: transaction::multi,
    },
    Command {
        name: "exec",
        full_name: "exec",
        arity: 1,
        flags: flags::NOSCRIPT
            | flags::LOADING
            | flags::STALE
            | flags::SKIP_SLOWLOG
            | flags::RUNS_IN_MULTI
            | flags::ENDS_MULTI
            | flags::EXEC,
        extra_categories: categories::TRANSACTION,
        keys: &[],
        tips: &[],
        group: Group::Transactions,
        since: "1.2.0",
        complexity: "That of the queued commands",
        summary: "Runs the queued commands as one.",
        deprecated: None,
        usage: Usage::NONE,
        subcommands: &[],
        run: transaction::exec,
    },
    Command {
        name: "discard",
        full_name: "discard",
        arity: 1,
        flags: flags::NOSCRIPT
            | flags::LOADING
            | flags::STALE
            | flags::FAST
            | flags::ALLOW_BUSY
            | flags::RUNS_IN_MULTI
            | flags::ENDS_MULTI,
        extra_categories: categories::TRANSACTION,
        keys: &[],
        tips: &[],
        group: Group::Transactions,
        since: "2.0.0",
        complexity: "O(N), N the number of queued commands",
        summary: "Drops the queued commands.",
        deprecated: None,
        usage: Usage::NONE,
        subcommands: &[],
        run: transaction::discard,
    },
    Command {
        name: "watch",
        full_name: "watch",
        arity: -2,
        flags: flags::NOSCRIPT
            | flags::LOADING
            | flags::STALE
            | flags::FAST
            | flags::ALLOW_BUSY
            | flags::RUNS_IN_MULTI,
        extra_categories: categories::TRANSACTION,
        keys: &[KeySpec::range(1, -1, 1, &["RO"])],
        tips: &[],
        group: Group::Transactions,
        since: "2.2.0",
        complexity: "O(N), N the number of keys",
        summary: "Makes the next EXEC fail if one of the keys changes before it.",
        deprecated: None,
        usage: Usage::KEYS,
        subcommands: &[],
        run: transaction::watch,
    },
    Command {
        name: "unwatch",
        full_name: "unwatch",
        arity: 1,
        flags: flags::NOSCRIPT | flags::LOADING | flags::STALE | flags::FAST | flags::ALLOW_BUSY,
        extra_categories: categories::TRANSACTION,
        keys: &[],
        tips: &[],
        group: Group::Transactions,
        since: "2.2.0",
        complexity: "O(N), N the number of watched keys",
        summary: "Forgets all watched keys.",
        deprecated: None,
        usage: Usage::NONE,
        subcommands: &[],
        run: transaction::unwatch,
    },
];
