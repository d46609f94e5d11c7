//! MEMORY: what keys, tables and the allocator take.

use super::args::{integer, is};
use super::{Call, Outcome, Run, error, introspect};
use crate::engine::object::EntryView;

/// Memory in use, in bytes, as INFO and MEMORY STATS show it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryFacts {
    /// Keys, values, tables and what clients hold.
    pub(crate) used: u64,
    /// The most that was ever used.
    pub(crate) peak: u64,
    /// What was used before there was any data.
    pub(crate) startup: u64,
    /// Of the tables: what is not keys and values.
    pub(crate) tables: Vec<TableMemory>,
    /// Keys of all databases.
    pub(crate) keys: u64,
    /// What clients hold: buffers and queues.
    pub(crate) clients: u64,
    /// Number of clients.
    pub(crate) client_count: u64,
    /// What waits to be appended to the log.
    pub(crate) log_buffer: u64,
    /// Allocated by the process.
    pub(crate) allocated: u64,
    /// In pages that hold allocations.
    pub(crate) active: u64,
    /// Resident, as far as the allocator knows.
    pub(crate) resident: u64,
    /// Resident of the process.
    pub(crate) process_resident: u64,
}

/// What the table of a database takes besides its entries, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableMemory {
    /// Database index.
    pub(crate) db: u32,
    /// Keys in it.
    pub(crate) keys: u64,
    /// Buckets and directory.
    pub(crate) main: u64,
    /// The order of expiries.
    pub(crate) expires: u64,
}

impl MemoryFacts {
    /// What is used and is no data.
    pub(crate) fn overhead(&self) -> u64 {
        self.clients + self.tables.iter().map(|table| table.main + table.expires).sum::<u64>()
    }

    /// What keys and values take.
    pub(crate) fn dataset(&self) -> u64 {
        self.used.saturating_sub(self.overhead())
    }

    /// The part of the data in what was added since the start, in per cent.
    pub(crate) fn dataset_percentage(&self) -> f64 {
        100.0 * ratio(self.dataset(), self.used.saturating_sub(self.startup).max(1))
    }

    /// What is used of what was ever used, in per cent.
    pub(crate) fn peak_percentage(&self) -> f64 {
        100.0 * ratio(self.used, self.peak)
    }

    /// Mean bytes of a key with its value and its share of the table; 0 when there is none.
    pub(crate) fn bytes_per_key(&self) -> u64 {
        self.used.saturating_sub(self.startup).checked_div(self.keys).unwrap_or(0)
    }
}

/// One number in relation to another; 1 when that is 0.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub(crate) fn ratio(of: u64, to: u64) -> f64 {
    if to == 0 { 1.0 } else { of as f64 / to as f64 }
}

/// How much larger one number is than another.
pub(crate) fn excess(of: u64, over: u64) -> i64 {
    i64::try_from(i128::from(of) - i128::from(over)).unwrap_or(0)
}

pub(crate) fn usage(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(2);
    let mut at = 3;
    while let Some(option) = call.request.arg_at(at) {
        // Every value is measured whole: its parts are counted while they change, so there is nothing to sample.
        match call.request.arg_at(at + 1) {
            Some(samples) if is(option, "samples") => {
                if integer(samples)? < 0 {
                    return Err(error::SYNTAX);
                }
            }
            _ => return Err(error::SYNTAX),
        }
        at += 2;
    }
    match call.keys().stored(key).map(EntryView::memory_bytes) {
        Some(bytes) => call.reply.count(bytes),
        None => call.reply.null(),
    }
    Ok(Outcome::Done)
}

pub(crate) fn stats(call: &mut Call<'_, '_>) -> Run {
    let facts = call.ctx.host.memory(call.ctx.engine);
    let tables: Vec<&TableMemory> = facts.tables.iter().filter(|table| table.keys > 0).collect();
    let reply = &mut call.reply;
    let to_i64 = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    reply.map(27 + tables.len());
    let mut number = |name: &str, value: i64| {
        reply.bulk(name.as_bytes());
        reply.integer(value);
    };
    number("peak.allocated", to_i64(facts.peak));
    number("total.allocated", to_i64(facts.used));
    number("startup.allocated", to_i64(facts.startup));
    number("replication.backlog", 0);
    number("clients.slaves", 0);
    number("clients.normal", to_i64(facts.clients));
    number("cluster.links", 0);
    number("aof.buffer", to_i64(facts.log_buffer));
    number("lua.caches", 0);
    number("functions.caches", 0);
    for table in tables {
        reply.bulk(format!("db.{}", table.db).as_bytes());
        reply.map(3);
        reply.bulk(b"overhead.hashtable.main");
        reply.integer(to_i64(table.main));
        reply.bulk(b"overhead.hashtable.expires");
        reply.integer(to_i64(table.expires));
        reply.bulk(b"overhead.hashtable.slot-to-keys");
        reply.integer(0);
    }
    enum Figure {
        Number(i64),
        Share(f64),
    }
    use Figure::{Number, Share};
    let MemoryFacts { used, allocated, active, resident, process_resident, .. } = facts;
    let figures = [
        ("overhead.total", Number(to_i64(facts.overhead()))),
        ("keys.count", Number(to_i64(facts.keys))),
        ("keys.bytes-per-key", Number(to_i64(facts.bytes_per_key()))),
        ("dataset.bytes", Number(to_i64(facts.dataset()))),
        ("dataset.percentage", Share(facts.dataset_percentage())),
        ("peak.percentage", Share(facts.peak_percentage())),
        ("allocator.allocated", Number(to_i64(allocated))),
        ("allocator.active", Number(to_i64(active))),
        ("allocator.resident", Number(to_i64(resident))),
        ("allocator-fragmentation.ratio", Share(ratio(active, allocated))),
        ("allocator-fragmentation.bytes", Number(excess(active, allocated))),
        ("allocator-rss.ratio", Share(ratio(resident, active))),
        ("allocator-rss.bytes", Number(excess(resident, active))),
        ("rss-overhead.ratio", Share(ratio(process_resident, resident))),
        ("rss-overhead.bytes", Number(excess(process_resident, resident))),
        ("fragmentation", Share(ratio(process_resident, used))),
        ("fragmentation.bytes", Number(excess(process_resident, used))),
    ];
    for (name, figure) in figures {
        reply.bulk(name.as_bytes());
        match figure {
            Number(value) => reply.integer(value),
            Share(value) => reply.double(value),
        }
    }
    Ok(Outcome::Done)
}

/// Below this the figures say nothing, in bytes. Source of the bounds: Redis 7.0, `getMemoryDoctorReport`.
const USED_MIN: u64 = 5 << 20;
/// Waste that is worth a word, in bytes.
const WASTE_MIN: i64 = 10 << 20;
/// Mean bytes of a client that are worth a word.
const CLIENT_MEMORY_MAX: u64 = 200 << 10;

/// What people should know about the memory.
fn report(facts: &MemoryFacts) -> String {
    let MemoryFacts { used, peak, allocated, active, resident, process_resident, .. } = *facts;
    if used < USED_MIN {
        return "There is hardly any data: memory can only be judged when there is more.\n".to_owned();
    }
    let wastes = |of, over, share| ratio(of, over) > share && excess(of, over) > WASTE_MIN;
    let findings = [
        (
            ratio(peak, used) > 1.5,
            "Peak: more than one and a half times as much was used before. The memory goes back to the system by and by; \
             MEMORY PURGE releases free memory at once.",
        ),
        (
            wastes(process_resident, used, 1.4),
            "Resident memory: the process holds more than 1.4 times what data takes. The points below say where it lies; \
             buffers of clients and of a running snapshot count as well.",
        ),
        (
            wastes(active, allocated, 1.1),
            "Fragmentation: pages hold more than a tenth that is not allocated, as after many deletions. Entries are moved \
             together in the background; active_defrag_running in INFO tells when.",
        ),
        (
            wastes(resident, active, 1.1),
            "Allocator: more than a tenth of its memory is free and not released yet. MEMORY PURGE releases it at once.",
        ),
        (
            wastes(process_resident, resident, 1.1),
            "Process: more than a tenth lies outside of the allocator, in stacks, mapped files or huge pages.",
        ),
        (
            facts.clients.checked_div(facts.client_count).is_some_and(|mean| mean > CLIENT_MEMORY_MAX),
            "Clients: they hold more than 200 KiB each. CLIENT LIST shows who does not read, or sends much at once.",
        ),
    ];
    let found: Vec<String> =
        findings.iter().filter(|(applies, _)| *applies).map(|(_, text)| format!("- {text}\n")).collect();
    if found.is_empty() {
        return "Nothing is wrong with the memory of this server.\n".to_owned();
    }
    format!("What was found about the memory of this server:\n\n{}", found.concat())
}

pub(crate) fn doctor(call: &mut Call<'_, '_>) -> Run {
    let facts = call.ctx.host.memory(call.ctx.engine);
    call.reply.verbatim(*b"txt", report(&facts).as_bytes());
    Ok(Outcome::Done)
}

pub(crate) fn malloc_stats(call: &mut Call<'_, '_>) -> Run {
    let text = call.ctx.host.allocator_report();
    call.reply.verbatim(*b"txt", text.as_bytes());
    Ok(Outcome::Done)
}

pub(crate) fn purge(call: &mut Call<'_, '_>) -> Run {
    call.ctx.host.purge_memory();
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn help(call: &mut Call<'_, '_>) -> Run {
    introspect::write_help(call)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// 100 MiB of data, and nothing wasted.
    fn sound() -> MemoryFacts {
        MemoryFacts {
            used: 100 * MIB,
            peak: 100 * MIB,
            tables: vec![TableMemory { db: 0, keys: 1000, main: 9 * MIB, expires: MIB }],
            keys: 1000,
            clients: 10 * 4096,
            client_count: 10,
            allocated: 105 * MIB,
            active: 106 * MIB,
            resident: 110 * MIB,
            process_resident: 115 * MIB,
            ..MemoryFacts::default()
        }
    }

    #[test]
    fn what_is_neither_table_nor_of_clients_is_data() {
        let facts = MemoryFacts { used: 102 * MIB, clients: 2 * MIB, ..sound() };
        assert_eq!((facts.overhead(), facts.dataset()), (12 * MIB, 90 * MIB));
        let facts = MemoryFacts { clients: 0, ..sound() };
        assert_eq!((facts.dataset_percentage(), facts.bytes_per_key()), (90.0, 100 * MIB / 1000));
        assert_eq!(MemoryFacts::default().bytes_per_key(), 0);
    }

    #[test]
    fn a_report_names_what_is_wrong_and_nothing_else() {
        let check = |change: &dyn Fn(&mut MemoryFacts), expected: &[&str]| {
            let mut facts = sound();
            change(&mut facts);
            let report = report(&facts);
            let found: Vec<&str> =
                report.lines().filter_map(|line| line.strip_prefix("- ")?.split(':').next()).collect();
            assert_eq!(found, expected, "{report}");
        };
        check(&|_| {}, &[]);
        check(&|facts| facts.used = MIB, &[]);
        check(&|facts| facts.peak = 151 * MIB, &["Peak"]);
        check(&|facts| facts.clients = 10 * 201 * 1024, &["Clients"]);
        check(&|facts| facts.process_resident = 150 * MIB, &["Resident memory", "Process"]);
        check(&|facts| facts.allocated = 90 * MIB, &["Fragmentation"]);
        check(&|facts| (facts.resident, facts.process_resident) = (130 * MIB, 131 * MIB), &["Allocator"]);
    }
}
