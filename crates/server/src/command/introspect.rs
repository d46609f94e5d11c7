//! COMMAND and all HELP subcommands: the table, told to clients.

mod docs;
mod info;
mod keys;

use super::args::is;
use super::table::{self, Command, categories};
use super::{Call, Outcome, Run, error};
use crate::glob;
use docs::write_docs;
use info::write_info;
use keys::find_keys;

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
    let args: Vec<&[u8]> = call.request.args_from(2).collect();
    let keys = find_keys(&args)?;
    call.reply.array(keys.len());
    for (key, _) in keys {
        call.reply.bulk(key);
    }
    Ok(Outcome::Done)
}

pub(crate) fn getkeysandflags(call: &mut Call<'_, '_>) -> Run {
    let args: Vec<&[u8]> = call.request.args_from(2).collect();
    let keys = find_keys(&args)?;
    call.reply.array(keys.len());
    for (key, flags) in keys {
        call.reply.array(2);
        call.reply.bulk(key);
        call.reply.set(flags.len());
        flags.iter().for_each(|flag| call.reply.simple(flag));
    }
    Ok(Outcome::Done)
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
