//! INFO.

use std::fmt::Write;

use super::args::is;
use super::{Call, Outcome, Run};
use crate::command::host::InfoSection;

/// A section, in the order in which they are printed.
#[derive(Debug, Clone, Copy)]
enum Section {
    Host(InfoSection),
    Modules,
    ErrorStats,
    Cluster,
    Keyspace,
}

const SECTIONS: &[(&str, &str, Section)] = &[
    ("server", "Server", Section::Host(InfoSection::Server)),
    ("clients", "Clients", Section::Host(InfoSection::Clients)),
    ("memory", "Memory", Section::Host(InfoSection::Memory)),
    ("persistence", "Persistence", Section::Host(InfoSection::Persistence)),
    ("stats", "Stats", Section::Host(InfoSection::Stats)),
    ("replication", "Replication", Section::Host(InfoSection::Replication)),
    ("cpu", "CPU", Section::Host(InfoSection::Cpu)),
    ("modules", "Modules", Section::Modules),
    ("errorstats", "Errorstats", Section::ErrorStats),
    ("cluster", "Cluster", Section::Cluster),
    ("keyspace", "Keyspace", Section::Keyspace),
];

pub(crate) fn info(call: &mut Call<'_, '_>) -> Run {
    let request = call.request;
    let is_wanted = |name: &str| {
        request.len() == 1
            || request
                .args_from(1)
                .any(|arg| is(arg, name) || is(arg, "default") || is(arg, "all") || is(arg, "everything"))
    };
    let mut text = String::new();
    for (name, title, section) in SECTIONS {
        if !is_wanted(name) {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        write_section(call, title, *section, &mut text).expect("writing to a string cannot fail");
    }
    call.reply.verbatim(*b"txt", text.as_bytes());
    Ok(Outcome::Done)
}

fn write_section(
    call: &mut Call<'_, '_>,
    title: &str,
    section: Section,
    text: &mut String,
) -> std::fmt::Result {
    write!(text, "# {title}\r\n")?;
    match section {
        Section::Host(section) => call.ctx.host.write_info(section, call.ctx.engine, text),
        Section::Modules => {}
        Section::ErrorStats => {
            for (code, count) in &call.ctx.engine.stats.errors {
                write!(text, "errorstat_{code}:count={count}\r\n")?;
            }
        }
        Section::Cluster => text.push_str("cluster_enabled:0\r\n"),
        Section::Keyspace => {
            for it in call.ctx.engine.summaries(call.ctx.now_ms) {
                let (db, keys, expires, mean) = (it.db, it.keys, it.expires, it.ttl_mean_ms);
                write!(text, "db{db}:keys={keys},expires={expires},avg_ttl={mean}\r\n")?;
            }
        }
    }
    Ok(())
}
