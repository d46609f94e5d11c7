//! Entries of COMMAND DOCS.

use crate::command::table::Command;
use crate::protocol::ReplyWriter;

/// One pair of COMMAND DOCS.
pub(super) fn write_docs(reply: &mut ReplyWriter<'_>, command: &Command) {
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
