//! The keys in a request, which COMMAND GETKEYS and GETKEYSANDFLAGS find without executing it.

use crate::command::args::is;
use crate::command::table::{self, KeySpec};
use crate::command::{ReplyError, error};

/// A key, and the names of what the command does with it.
pub(super) type FoundKey<'a> = (&'a [u8], &'static [&'static str]);

/// The keys in `args`, which begin with the name of a command, in the order of its key specs.
/// # Errors
/// The words of Redis for no command, a command without keys, and arguments that are wrong; never an empty list.
pub(super) fn find_keys<'a>(args: &[&'a [u8]]) -> Result<Vec<FoundKey<'a>>, ReplyError> {
    let (name, subcommand) = (args.first().ok_or(error::INVALID_COMMAND)?, args.get(1));
    let mut command = table::find(name).ok_or(error::INVALID_COMMAND)?;
    if !command.subcommands.is_empty()
        && let Some(subcommand) = subcommand
    {
        command = command.subcommand(subcommand).ok_or(error::INVALID_COMMAND)?;
    }
    if !command.keys.iter().any(KeySpec::finds_keys) {
        return Err(error::NO_KEY_ARGUMENTS);
    }
    if !command.accepts_len(args.len()) {
        return Err(error::GETKEYS_ARITY);
    }
    let mut positions = command.key_positions(args).ok_or(error::GETKEYS_ARGUMENTS)?;
    if command.name == "sort"
        && let (Some(at), Some(spec)) = (sort_destination(args), command.keys.last())
    {
        positions.push((at, spec));
    }
    if positions.is_empty() {
        return Err(error::GETKEYS_ARGUMENTS);
    }
    Ok(positions.into_iter().map(|(at, spec)| (args[at], flags(args, spec))).collect())
}

/// What a command does with the keys of a spec, where that depends on its options as well.
fn flags(args: &[&[u8]], spec: &KeySpec) -> &'static [&'static str] {
    if !spec.flags.contains(&"variable_flags") {
        return spec.flags;
    }
    let (reads, writes) = match args {
        [name, _, _, options @ ..] if is(name, "set") => (options.iter().any(|it| is(it, "get")), true),
        [_, _, operations @ ..] => (true, bitfield_writes(operations)),
        _ => (true, true),
    };
    match (reads, writes) {
        (true, true) => &["RW", "access", "update"],
        (true, false) => &["RO", "access"],
        (false, _) => &["OW", "update"],
    }
}

/// Whether the operations of a BITFIELD write: the first that does decides, and so does what is no operation.
fn bitfield_writes(mut operations: &[&[u8]]) -> bool {
    loop {
        operations = match operations {
            [] => return false,
            [word, _, _, rest @ ..] if is(word, "get") => rest,
            [word, _, rest @ ..] if is(word, "overflow") => rest,
            _ => return true,
        };
    }
}

/// Finds the key after the last STORE of a SORT as Redis does; no key spec can express it.
fn sort_destination(args: &[&[u8]]) -> Option<usize> {
    let (mut at, mut found) = (2, None);
    while at < args.len() {
        match args[at] {
            option if is(option, "limit") => at += 2,
            option if is(option, "get") || is(option, "by") => at += 1,
            option if is(option, "store") && at + 1 < args.len() => found = Some(at + 1),
            _ => {}
        }
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{find_keys, sort_destination};

    fn words(request: &str) -> Vec<&[u8]> {
        request.split(' ').map(str::as_bytes).collect()
    }

    #[test]
    fn the_last_store_that_is_no_argument_of_an_option_names_the_destination_of_a_sort() {
        let check = |request: &str, expected: Option<usize>| {
            assert_eq!(sort_destination(&words(request)), expected, "{request}");
        };
        check("SORT k", None);
        check("SORT k STORE", None);
        check("SORT k BY store", None);
        check("SORT k GET # DESC STORE d", Some(6));
        check("SORT k store d STORE e", Some(5));
        check("SORT k LIMIT store 1", None);
        check("SORT k LIMIT", None);
    }

    #[test]
    fn options_decide_whether_a_key_is_read_or_written() {
        let check = |request: &str, expected: &str| {
            let keys = find_keys(&words(request)).map_err(|_| "refused").unwrap();
            assert_eq!(keys[0].1.join(" "), expected, "{request}");
        };
        check("SET k get", "OW update");
        check("SET k v GET", "RW access update");
        check("BITFIELD k", "RO access");
        check("BITFIELD k GET u8 set GET u8 0", "RO access");
        check("BITFIELD k OVERFLOW SAT GET u8 0", "RO access");
        check("BITFIELD k GET u8 0 INCRBY u8 0 1", "RW access update");
        check("BITFIELD k GET u8", "RW access update");
        check("BITFIELD k OVERFLOW", "RW access update");
    }

    #[test]
    fn a_shard_channel_is_no_key() {
        for request in ["SSUBSCRIBE c", "SPUBLISH c m", "SUNSUBSCRIBE c"] {
            assert!(find_keys(&words(request)).is_err(), "{request}");
        }
    }
}
