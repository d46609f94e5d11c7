//! INFO.

use std::fmt::Write;

use super::args::is;
use super::{Call, Outcome, Run};
use crate::command::host::InfoSection;
use crate::measure::percentile_text;

/// A section, in the order in which they are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Host(InfoSection),
    Modules,
    CommandStats,
    ErrorStats,
    LatencyStats,
    Cluster,
    Keyspace,
}

impl Section {
    /// Whether it is printed when no section is named, or `default`.
    fn is_default(self) -> bool {
        !matches!(self, Section::CommandStats | Section::LatencyStats)
    }
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
    ("commandstats", "Commandstats", Section::CommandStats),
    ("errorstats", "Errorstats", Section::ErrorStats),
    ("latencystats", "Latencystats", Section::LatencyStats),
    ("cluster", "Cluster", Section::Cluster),
    ("keyspace", "Keyspace", Section::Keyspace),
];

pub(crate) fn info(call: &mut Call<'_, '_>) -> Run {
    let request = call.request;
    let is_wanted = |name: &str, section: Section| {
        let names = |arg: &[u8]| {
            is(arg, name)
                || is(arg, "all")
                || is(arg, "everything")
                || (is(arg, "default") && section.is_default())
                || (is(arg, "module_list") && section == Section::Modules)
        };
        if request.len() == 1 { section.is_default() } else { request.args_from(1).any(names) }
    };
    let mut text = String::new();
    for (name, title, section) in SECTIONS {
        if !is_wanted(name, *section) {
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

/// A name as it may stand in front of a colon. Source: Redis 7.0, `getSafeInfoString`.
fn safe(name: &str) -> String {
    name.replace(['#', ':', '\n', '\r'], "_")
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
        Section::CommandStats => write_command_stats(call, text)?,
        Section::ErrorStats => {
            let mut errors: Vec<_> = call.ctx.engine.stats.errors.iter().collect();
            errors.sort_unstable();
            for (code, count) in errors {
                write!(text, "errorstat_{}:count={count}\r\n", safe(code))?;
            }
        }
        Section::LatencyStats => write_latency_stats(call, text)?,
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

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn write_command_stats(call: &mut Call<'_, '_>, text: &mut String) -> std::fmt::Result {
    let Some(meter) = call.ctx.host.meter() else { return Ok(()) };
    for (command, stats) in meter.calls().all() {
        let mean = if stats.calls == 0 { 0.0 } else { stats.nanoseconds as f64 / 1e3 / stats.calls as f64 };
        write!(
            text,
            "cmdstat_{}:calls={},usec={},usec_per_call={mean:.2},rejected_calls={},failed_calls={}\r\n",
            command.full_name,
            stats.calls,
            stats.nanoseconds / 1000,
            stats.rejected,
            stats.failed
        )?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn write_latency_stats(call: &mut Call<'_, '_>, text: &mut String) -> std::fmt::Result {
    let Some(meter) = call.ctx.host.meter().filter(|meter| meter.settings().tracking) else { return Ok(()) };
    for (command, stats) in meter.calls().all() {
        if stats.latencies.total() == 0 {
            continue;
        }
        write!(text, "latency_percentiles_usec_{}:", command.full_name)?;
        for (index, percentile) in meter.settings().percentiles.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let microseconds = stats.latencies.percentile(*percentile) as f64 / 1e3;
            write!(text, "{comma}p{}={microseconds:.3}", percentile_text(*percentile))?;
        }
        text.push_str("\r\n");
    }
    Ok(())
}
