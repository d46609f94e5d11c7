//! COMMAND and all HELP subcommands: the table, told to clients.

use super::args::is;
use super::table::{self, Command, KeySpec, categories, flags};
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
    let filtered = request.len() > 2;
    let mut names = Vec::new();
    for command in table::commands() {
        let family = std::iter::once(*command).chain(command.subcommands.iter().filter(|_| filtered));
        names.extend(family.filter(|it| wanted(it)).map(|it| it.full_name));
    }
    call.reply.array(names.len());
    for name in names {
        call.reply.bulk(name.as_bytes());
    }
    Ok(Outcome::Done)
}

/// The command of a name such as `get` or `client|list`.
fn find(name: &[u8]) -> Option<&'static Command> {
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
    Ok(command.key_positions(len).map(|(at, spec)| (call.arg(at + 2), spec)).collect())
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
    // The first spec tells the classic positions; a command with several says so by `movablekeys` or has them adjacent.
    let (first, last, step) = key_range(command);
    reply.array(10);
    reply.bulk(command.full_name.as_bytes());
    reply.integer(i64::from(command.arity));
    let names = flags::NAMES.iter().filter(|(bit, _)| command.has(*bit));
    reply.set(names.clone().count());
    names.for_each(|(_, name)| reply.simple(name));
    reply.integer(first);
    reply.integer(last);
    reply.integer(step);
    let names = categories::NAMES.iter().filter(|(bit, _)| command.categories() & bit != 0);
    reply.set(names.clone().count());
    names.for_each(|(_, name)| reply.simple(&format!("@{name}")));
    reply.set(command.tips.len());
    command.tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    reply.set(command.keys.len());
    command.keys.iter().for_each(|spec| write_key_spec(reply, spec));
    reply.set(command.subcommands.len());
    command.subcommands.iter().for_each(|subcommand| write_info(reply, subcommand));
}

/// First, last and step of the keys, all specs taken together.
fn key_range(command: &Command) -> (i64, i64, i64) {
    let to_i64 = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    let Some(first) = command.keys.first() else { return (0, 0, 0) };
    let last = |spec: &KeySpec| if spec.last < 0 { spec.last } else { to_i64(spec.first) + spec.last };
    let end = command
        .keys
        .iter()
        .map(last)
        .fold(last(first), |end, last| if end < 0 || last < 0 { end.min(last) } else { end.max(last) });
    (to_i64(first.first), end, to_i64(first.step))
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
    reply.map(2);
    bulk(reply, "type");
    bulk(reply, "index");
    bulk(reply, "spec");
    reply.map(1);
    bulk(reply, "index");
    reply.count(spec.first);
    bulk(reply, "find_keys");
    reply.map(2);
    bulk(reply, "type");
    bulk(reply, "range");
    bulk(reply, "spec");
    reply.map(3);
    bulk(reply, "lastkey");
    reply.integer(spec.last);
    bulk(reply, "keystep");
    reply.count(spec.step);
    bulk(reply, "limit");
    reply.integer(0);
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
