//! Entries of COMMAND INFO.

use crate::command::table::{BeginSearch, Command, FindKeys, KeySpec, categories, flags};
use crate::protocol::ReplyWriter;

/// One element of COMMAND INFO: ten values.
pub(super) fn write_info(reply: &mut ReplyWriter<'_>, command: &Command) {
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
