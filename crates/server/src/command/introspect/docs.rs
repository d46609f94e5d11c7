//! Entries of COMMAND DOCS.

use crate::command::table::{Argument, Command, flags};
use crate::protocol::ReplyWriter;

/// What a field holds.
enum Value<'a> {
    Text(&'a str),
    Index(usize),
    Flags(Vec<&'static str>),
    History(&'static [(&'static str, &'static str)]),
    Arguments(&'static [Argument]),
    Subcommands(&'static [Command]),
}

type Fields<'a> = Vec<(&'static str, Value<'a>)>;

/// The name of a command and its fields, in the order of Redis; those of subcommands are within.
pub(super) fn write_docs(reply: &mut ReplyWriter<'_>, command: &Command) {
    let mut fields: Fields<'_> = vec![
        ("summary", Value::Text(command.summary)),
        ("since", Value::Text(command.since)),
        ("group", Value::Text(command.group.name())),
        ("complexity", Value::Text(command.complexity)),
    ];
    if command.has(flags::SYSTEM) {
        fields.push(("doc_flags", Value::Flags(vec!["syscmd"])));
    }
    if let Some((since, replacement)) = command.deprecated {
        fields.push(("doc_flags", Value::Flags(vec!["deprecated"])));
        fields.push(("deprecated_since", Value::Text(since)));
        fields.push(("replaced_by", Value::Text(replacement)));
    }
    if !command.usage.history.is_empty() {
        fields.push(("history", Value::History(command.usage.history)));
    }
    if !command.usage.arguments.is_empty() {
        fields.push(("arguments", Value::Arguments(command.usage.arguments)));
    }
    if !command.subcommands.is_empty() {
        fields.push(("subcommands", Value::Subcommands(command.subcommands)));
    }
    reply.bulk(command.full_name.as_bytes());
    write_fields(reply, fields);
}

fn write_argument(reply: &mut ReplyWriter<'_>, argument: &Argument) {
    let (name, argument_flags) = (argument.name.to_ascii_lowercase(), argument.flags());
    let mut fields: Fields<'_> =
        vec![("name", Value::Text(&name)), ("type", Value::Text(argument.kind.name()))];
    if let Some(index) = argument.key_spec {
        fields.push(("key_spec_index", Value::Index(index)));
    }
    let texts = [
        ("token", argument.token),
        ("since", argument.since),
        ("deprecated_since", argument.deprecated_since),
    ];
    fields.extend(texts.into_iter().filter_map(|(name, text)| Some((name, Value::Text(text?)))));
    if !argument_flags.is_empty() {
        fields.push(("flags", Value::Flags(argument_flags)));
    }
    if !argument.kind.members().is_empty() {
        fields.push(("arguments", Value::Arguments(argument.kind.members())));
    }
    write_fields(reply, fields);
}

fn write_fields(reply: &mut ReplyWriter<'_>, fields: Fields<'_>) {
    reply.map(fields.len());
    for (name, value) in fields {
        reply.bulk(name.as_bytes());
        match value {
            Value::Text(text) => reply.bulk(text.as_bytes()),
            Value::Index(index) => reply.count(index),
            Value::Flags(names) => {
                reply.set(names.len());
                names.into_iter().for_each(|name| reply.simple(name));
            }
            Value::History(changes) => {
                reply.set(changes.len());
                for (version, change) in changes {
                    reply.array(2);
                    reply.bulk(version.as_bytes());
                    reply.bulk(change.as_bytes());
                }
            }
            Value::Arguments(arguments) => {
                reply.array(arguments.len());
                arguments.iter().for_each(|argument| write_argument(reply, argument));
            }
            Value::Subcommands(commands) => {
                reply.map(commands.len());
                commands.iter().for_each(|command| write_docs(reply, command));
            }
        }
    }
}
