//! SORT, which takes lists, sets and sorted sets.

use crate::command::sorting;
use crate::command::table::usage::sorting as usage;
use crate::command::table::{Command, Group, KeySpec, categories, flags};

pub(super) static ROWS: &[Command] = &[
    Command {
        name: "sort",
        full_name: "sort",
        arity: -2,
        flags: flags::WRITE | flags::DENYOOM,
        extra_categories: categories::SET | categories::SORTED_SET | categories::LIST | categories::DANGEROUS,
        keys: &[
            KeySpec::at(1, &["RO", "access"]),
            KeySpec::unknown(&["RO", "access"])
                .with_notes("BY and GET read keys whose names depend on the elements"),
            KeySpec::unknown(&["OW", "update"]).with_notes("STORE may be anywhere among the options"),
        ],
        tips: &[],
        group: Group::Generic,
        since: "1.0.0",
        complexity: "O(N+M*log(M)), N the number of elements, M the number of elements returned",
        summary: "Returns the elements of a list, set or sorted set in order, or stores them at a key.",
        deprecated: None,
        usage: usage::SORT,
        subcommands: &[],
        run: sorting::sort,
    },
    Command {
        name: "sort_ro",
        full_name: "sort_ro",
        arity: -2,
        flags: flags::READONLY,
        extra_categories: categories::SET | categories::SORTED_SET | categories::LIST | categories::DANGEROUS,
        keys: &[
            KeySpec::at(1, &["RO", "access"]),
            KeySpec::unknown(&["RO", "access"])
                .with_notes("BY and GET read keys whose names depend on the elements"),
        ],
        tips: &[],
        group: Group::Generic,
        since: "7.0.0",
        complexity: "O(N+M*log(M)), N the number of elements, M the number of elements returned",
        summary: "Returns the elements of a list, set or sorted set in order.",
        deprecated: None,
        usage: usage::SORT_RO,
        subcommands: &[],
        run: sorting::sort_ro,
    },
];
