//! COMMAND and all HELP subcommands: the table, told to clients.

use super::args::is;
use super::table::{self, BeginSearch, Command, FindKeys, KeySpec, categories, flags};
use super::{Call, Outcome, ReplyError, Run, error};
use crate::glob;
use crate::protocol::ReplyWriter;

/// COMMAND without a subcommand: the whole table.
pub(crate) fn all(call: &mut Call<'_, '_>) -> Run {
    call.reply.array(table::commands().len());
    for command in table::commands() {
        write_info(&mut call.reply, command);
    }
    Ok(Outcome::Done)
}

pub(crate) fn count(call: &mut Call<'_, '_>) -> Run {
    call.reply.count(table::commands().len());
    Ok(Outcome::Done)
}

pub(crate) fn list(call: &mut Call<'_, '_>) -> Run {
    let request = call.request;
    let wanted: Box<dyn Fn(&Command) -> bool> =
        match (request.arg_at(2), request.arg_at(3), request.arg_at(4)) {
            (None, ..) => Box::new(|_| true),
            (Some(word), Some(kind), Some(value)) if is(word, "filterby") && request.len() == 5 => {
                if is(kind, "module") {
                    Box::new(|_| false)
                } else if is(kind, "aclcat") {
                    let bit =
                        categories::NAMES.iter().find(|(_, name)| is(value, name)).map_or(0, |(bit, _)| *bit);
                    Box::new(move |command| command.categories() & bit != 0)
                } else if is(kind, "pattern") {
                    Box::new(move |command| glob::matches_ignore_case(value, command.full_name.as_bytes()))
                } else {
                    return Err(error::SYNTAX);
                }
            }
            _ => return Err(error::SYNTAX),
        };
    let mut names = Vec::new();
    for command in table::commands() {
        let family = std::iter::once(*command).chain(command.subcommands);
        names.extend(family.filter(|it| wanted(it)).map(|it| it.full_name));
    }
    call.reply.array(names.len());
    for name in names {
        call.reply.bulk(name.as_bytes());
    }
    Ok(Outcome::Done)
}

/// The command of a name such as `get` or `client|list`.
pub(super) fn find(name: &[u8]) -> Option<&'static Command> {
    match name.iter().position(|&byte| byte == b'|') {
        Some(at) => table::find(&name[..at])?.subcommand(&name[at + 1..]),
        None => table::find(name),
    }
}

pub(crate) fn info(call: &mut Call<'_, '_>) -> Run {
    if call.len() == 2 {
        return all(call);
    }
    let names = call.request.args_from(2);
    call.reply.array(names.len());
    for name in names {
        match find(name) {
            Some(command) => write_info(&mut call.reply, command),
            None => call.reply.null(),
        }
    }
    Ok(Outcome::Done)
}

pub(crate) fn docs(call: &mut Call<'_, '_>) -> Run {
    let found: Vec<&'static Command> = if call.len() == 2 {
        table::commands().to_vec()
    } else {
        call.request.args_from(2).filter_map(find).collect()
    };
    call.reply.map(found.len());
    for command in found {
        write_docs(&mut call.reply, command);
    }
    Ok(Outcome::Done)
}

pub(crate) fn getkeys(call: &mut Call<'_, '_>) -> Run {
    let keys = find_keys(call)?;
    call.reply.array(keys.len());
    for (key, _) in keys {
        call.reply.bulk(key);
    }
    Ok(Outcome::Done)
}

pub(crate) fn getkeysandflags(call: &mut Call<'_, '_>) -> Run {
    let keys = find_keys(call)?;
    call.reply.array(keys.len());
    for (key, spec) in keys {
        let flags = actual_flags(call, spec);
        call.reply.array(2);
        call.reply.bulk(key);
        call.reply.set(flags.len());
        for flag in flags {
            call.reply.simple(flag);
        }
    }
    Ok(Outcome::Done)
}

/// What the command that follows the first two arguments does with a key, where that depends on its options.
fn actual_flags(call: &Call<'_, '_>, spec: &KeySpec) -> &'static [&'static str] {
    if !spec.flags.contains(&"variable_flags") {
        return spec.flags;
    }
    let mut options = call.request.args_from(4);
    let (reads, writes) = match call.arg(2) {
        name if is(name, "set") => (options.any(|option| is(option, "get")), true),
        _ => (true, options.any(|option| is(option, "set") || is(option, "incrby"))),
    };
    match (reads, writes) {
        (true, true) => &["RW", "access", "update"],
        (true, false) => &["RO", "access"],
        (false, _) => &["OW", "update"],
    }
}

/// The keys of the command that follows the first two arguments.
fn find_keys<'c>(call: &Call<'c, '_>) -> Result<Vec<(&'c [u8], &'static KeySpec)>, ReplyError> {
    let (name, len) = (call.arg(2), call.len() - 2);
    let mut command = table::find(name).ok_or(error::INVALID_COMMAND)?;
    if !command.subcommands.is_empty()
        && let Some(subcommand) = call.request.arg_at(3)
    {
        command = command.subcommand(subcommand).ok_or(error::INVALID_COMMAND)?;
    }
    if command.keys.is_empty() {
        return Err(error::NO_KEY_ARGUMENTS);
    }
    if !command.accepts_len(len) {
        return Err(error::GETKEYS_ARITY);
    }
    let args: Vec<&[u8]> = call.request.args_from(2).collect();
    let mut positions = command.key_positions(&args).ok_or(error::GETKEYS_ARGUMENTS)?;
    if command.name == "sort"
        && let (Some(at), Some(spec)) = (sort_destination(&args), command.keys.last())
    {
        positions.push((at, spec));
    }
    if positions.is_empty() {
        return Err(error::GETKEYS_ARGUMENTS);
    }
    Ok(positions.into_iter().map(|(at, spec)| (args[at], spec)).collect())
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

pub(crate) fn help(call: &mut Call<'_, '_>) -> Run {
    write_help(call)
}

/// Answers a HELP subcommand: the subcommands of its parent, each with its summary.
pub(crate) fn write_help(call: &mut Call<'_, '_>) -> Run {
    let Some(parent) = table::find(call.request.arg(0)) else {
        return Err(error::INVALID_COMMAND);
    };
    call.reply.array(parent.subcommands.len() * 2 + 1);
    let name = parent.name.to_uppercase();
    call.reply.simple(&format!("{name} <subcommand> [<argument> ...], where the subcommand is one of:"));
    for subcommand in parent.subcommands {
        call.reply.simple(&subcommand.name.to_uppercase());
        call.reply.simple(&format!("    {}", subcommand.summary));
    }
    Ok(Outcome::Done)
}

/// One element of COMMAND INFO: ten values.
fn write_info(reply: &mut ReplyWriter<'_>, command: &Command) {
    let (visible_flags, range) = (command.visible_flags(), command.key_range());
    reply.array(10);
    reply.bulk(command.full_name.as_bytes());
    reply.integer(i64::from(command.arity));
    let names = flags::NAMES.iter().filter(|(bit, _)| visible_flags & bit != 0);
    reply.set(names.clone().count());
    names.for_each(|(_, name)| reply.simple(name));
    reply.count(range.first);
    reply.integer(range.last);
    reply.count(range.step);
    let names = categories::NAMES.iter().filter(|(bit, _)| command.categories() & bit != 0);
    reply.set(names.clone().count());
    names.for_each(|(_, name)| reply.simple(&format!("@{name}")));
    reply.set(command.tips.len());
    command.tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    reply.set(command.keys.len());
    command.keys.iter().for_each(|spec| write_key_spec(reply, spec));
    // As in Redis, an empty set or an array.
    match command.subcommands.len() {
        0 => reply.set(0),
        len => reply.array(len),
    }
    command.subcommands.iter().for_each(|subcommand| write_info(reply, subcommand));
}

fn write_key_spec(reply: &mut ReplyWriter<'_>, spec: &KeySpec) {
    let bulk = |reply: &mut ReplyWriter<'_>, text: &str| reply.bulk(text.as_bytes());
    reply.map(3 + usize::from(spec.notes.is_some()));
    if let Some(notes) = spec.notes {
        bulk(reply, "notes");
        bulk(reply, notes);
    }
    bulk(reply, "flags");
    reply.set(spec.flags.len());
    spec.flags.iter().for_each(|flag| reply.simple(flag));
    bulk(reply, "begin_search");
    match spec.begin_search {
        BeginSearch::Index(index) => write_search(reply, "index", &[("index", to_i64(index))]),
        BeginSearch::Keyword { word, from } => {
            write_search_head(reply, "keyword", 2);
            bulk(reply, "keyword");
            bulk(reply, word);
            bulk(reply, "startfrom");
            reply.integer(from);
        }
        BeginSearch::Unknown => write_search(reply, "unknown", &[]),
    }
    bulk(reply, "find_keys");
    match spec.find_keys {
        FindKeys::Range { last, step, limit } => {
            let fields = [("lastkey", last), ("keystep", to_i64(step)), ("limit", to_i64(limit))];
            write_search(reply, "range", &fields);
        }
        FindKeys::KeyNum { count, first, step } => {
            let fields =
                [("keynumidx", to_i64(count)), ("firstkey", to_i64(first)), ("keystep", to_i64(step))];
            write_search(reply, "keynum", &fields);
        }
        FindKeys::Unknown => write_search(reply, "unknown", &[]),
    }
}

fn to_i64(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// One of the two parts of a key spec.
fn write_search(reply: &mut ReplyWriter<'_>, kind: &str, fields: &[(&str, i64)]) {
    write_search_head(reply, kind, fields.len());
    for (name, value) in fields {
        reply.bulk(name.as_bytes());
        reply.integer(*value);
    }
}

/// The beginning of a part of a key spec; `len` pairs follow.
fn write_search_head(reply: &mut ReplyWriter<'_>, kind: &str, len: usize) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(len);
}

/// One pair of COMMAND DOCS.
fn write_docs(reply: &mut ReplyWriter<'_>, command: &Command) {
    let fields = [
        ("summary", command.summary),
        ("since", command.since),
        ("group", command.group.name()),
        ("complexity", command.complexity),
    ];
    let deprecated = command.deprecated.map_or(0, |_| 3);
    let subcommands = usize::from(!command.subcommands.is_empty());
    reply.bulk(command.full_name.as_bytes());
    reply.map(fields.len() + deprecated + subcommands);
    for (name, value) in fields {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    if let Some((since, replacement)) = command.deprecated {
        reply.bulk(b"doc_flags");
        reply.set(1);
        reply.simple("deprecated");
        reply.bulk(b"deprecated_since");
        reply.bulk(since.as_bytes());
        reply.bulk(b"replaced_by");
        reply.bulk(replacement.as_bytes());
    }
    if subcommands == 1 {
        reply.bulk(b"subcommands");
        reply.map(command.subcommands.len());
        command.subcommands.iter().for_each(|subcommand| write_docs(reply, subcommand));
    }
}

#[cfg(test)]
mod tests {
    use super::sort_destination;

    #[test]
    fn the_last_store_that_is_no_argument_of_an_option_names_the_destination_of_a_sort() {
        let check = |request: &str, expected: Option<usize>| {
            let args: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
            assert_eq!(sort_destination(&args), expected, "{request}");
        };
        check("SORT k", None);
        check("SORT k STORE", None);
        check("SORT k BY store", None);
        check("SORT k GET # DESC STORE d", Some(6));
        check("SORT k store d STORE e", Some(5));
        check("SORT k LIMIT store 1", None);
        check("SORT k LIMIT", None);
    }
}
