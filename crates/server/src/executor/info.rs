//! The sections of INFO that the process fills, with Redis 7.0's field names.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::journal::{JobKind, Journal};
use super::{Core, Phase};
use crate::clock::unix_ms;
use crate::command::memory::{TableMemory, excess, ratio};
use crate::command::{InfoSection, MemoryFacts};
use crate::engine::{Engine, TableSummary};
use crate::memory_limit;
use crate::pubsub::Topic;

pub(super) fn write(core: &Core, section: InfoSection, engine: &Engine, out: &mut String) {
    match section {
        InfoSection::Server => server(core, out),
        InfoSection::Clients => clients(core, out),
        InfoSection::Memory => memory(core, engine, out),
        InfoSection::Persistence => persistence(core, engine, out),
        InfoSection::Stats => stats(core, engine, out),
        InfoSection::Replication => replication(core, out),
        InfoSection::Cpu => cpu(out),
    }
}

/// One line. Writing to a String cannot fail.
fn line(out: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = write!(out, "{name}:{value}\r\n");
}

/// The version of Redis whose commands and files these are: clients switch features by it.
const REDIS_VERSION: &str = "7.0.15";

/// Bits of the clock in seconds by which Redis tells how long a key was not used. Source: Redis 7.0, `LRU_BITS`.
const LRU_CLOCK_MASK: i64 = (1 << 24) - 1;

fn server(core: &Core, out: &mut String) {
    let uptime = core.started.elapsed().as_secs();
    line(out, "redis_version", REDIS_VERSION);
    line(out, "redis_git_sha1", "00000000");
    line(out, "redis_git_dirty", 0);
    line(out, "redis_build_id", "0");
    line(out, "holdfast_version", env!("CARGO_PKG_VERSION"));
    line(out, "redis_mode", "standalone");
    let system = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    line(
        out,
        "os",
        format_args!("{} {} {}", text(system.sysname()), text(system.release()), text(system.machine())),
    );
    line(out, "arch_bits", usize::BITS);
    line(out, "monotonic_clock", "POSIX clock_gettime");
    line(out, "multiplexing_api", "epoll");
    line(out, "atomicvar_api", "c11-builtin");
    line(out, "gcc_version", "0.0.0");
    line(out, "process_id", std::process::id());
    line(out, "process_supervised", "no");
    line(out, "run_id", &core.run_id);
    line(out, "tcp_port", core.config.port);
    let now_us = unix_ms() * 1000;
    line(out, "server_time_usec", now_us);
    line(out, "uptime_in_seconds", uptime);
    line(out, "uptime_in_days", uptime / 86_400);
    line(out, "hz", 1000 / core.tick_interval().as_millis().max(1));
    line(out, "configured_hz", core.config.hz);
    line(out, "lru_clock", (core.clock.now_ms / 1000) & LRU_CLOCK_MASK);
    let executable = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
    line(out, "executable", executable);
    let file = core.config.file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    line(out, "config_file", file);
    line(out, "io_threads_active", u8::from(core.io_threads > 1));
}

fn clients(core: &Core, out: &mut String) {
    // The client that asks is out of its slot and counted all the same.
    let connections = || core.clients.iter().map(|(_, client)| &client.connection);
    let largest = |sizes: &mut dyn Iterator<Item = usize>| sizes.max().unwrap_or(0);
    line(out, "connected_clients", core.clients.len());
    line(out, "cluster_connections", 0);
    line(out, "maxclients", core.config.maxclients);
    let input = largest(&mut connections().map(|connection| connection.input.capacity()));
    line(out, "client_recent_max_input_buffer", input);
    let output = largest(&mut connections().map(|connection| connection.output_memory_bytes()));
    line(out, "client_recent_max_output_buffer", output);
    line(out, "blocked_clients", core.waiters.len() + core.paused.len());
    line(out, "tracking_clients", core.trackers);
    line(out, "clients_in_timeout_table", 0);
}

/// Bytes in the unit that people read: `1.50M`.
fn human(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let scaled = |unit: u64| bytes as f64 / unit as f64;
    match bytes {
        0..0x400 => format!("{bytes}B"),
        0x400..0x10_0000 => format!("{:.2}K", scaled(0x400)),
        0x10_0000..0x4000_0000 => format!("{:.2}M", scaled(0x10_0000)),
        _ => format!("{:.2}G", scaled(0x4000_0000)),
    }
}

/// Resident memory of the process in bytes. Source: proc(5), `/proc/self/statm`.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

pub(super) fn memory_facts(core: &Core, engine: &Engine) -> MemoryFacts {
    let used = engine.used_memory() + core.clients.ledger().held_bytes();
    let figures = holdfast_allocator::figures();
    let table = |it: TableSummary| TableMemory {
        db: it.db,
        keys: it.keys as u64,
        main: it.main_bytes as u64,
        expires: it.expiry_bytes as u64,
    };
    MemoryFacts {
        used,
        peak: core.stats.memory_peak.max(used),
        startup: core.memory_at_start,
        tables: engine.tables().into_iter().map(table).collect(),
        keys: engine.len() as u64,
        clients: core.clients.ledger().held_bytes(),
        client_count: core.clients.len() as u64,
        // Effects are appended before a turn ends.
        log_buffer: 0,
        allocated: figures.allocated,
        active: figures.active,
        resident: figures.resident,
        process_resident: resident(),
    }
}

fn memory(core: &Core, engine: &Engine, out: &mut String) {
    let facts = memory_facts(core, engine);
    let MemoryFacts { used, peak, allocated, active, resident, process_resident, .. } = facts;
    let two_digits = |value: f64| format!("{value:.2}");
    let both = |out: &mut String, name: &str, bytes: u64| {
        line(out, name, bytes);
        line(out, &format!("{name}_human"), human(bytes));
    };
    both(out, "used_memory", used);
    both(out, "used_memory_rss", process_resident);
    both(out, "used_memory_peak", peak);
    line(out, "used_memory_peak_perc", format_args!("{:.2}%", facts.peak_percentage()));
    line(out, "used_memory_overhead", facts.overhead());
    line(out, "used_memory_startup", facts.startup);
    line(out, "used_memory_dataset", facts.dataset());
    line(out, "used_memory_dataset_perc", format_args!("{:.2}%", facts.dataset_percentage()));
    line(out, "allocator_allocated", allocated);
    line(out, "allocator_active", active);
    line(out, "allocator_resident", resident);
    both(out, "total_system_memory", memory_limit::of_machine());
    // There are no scripts and no functions.
    line(out, "used_memory_lua", 0);
    line(out, "used_memory_vm_eval", 0);
    line(out, "used_memory_lua_human", human(0));
    line(out, "used_memory_scripts_eval", 0);
    line(out, "number_of_cached_scripts", 0);
    line(out, "number_of_functions", 0);
    line(out, "number_of_libraries", 0);
    line(out, "used_memory_vm_functions", 0);
    both(out, "used_memory_vm_total", 0);
    line(out, "used_memory_functions", 0);
    both(out, "used_memory_scripts", 0);
    both(out, "maxmemory", core.config.maxmemory);
    line(out, "maxmemory_policy", core.config.maxmemory_policy.word());
    line(out, "allocator_frag_ratio", two_digits(ratio(active, allocated)));
    line(out, "allocator_frag_bytes", excess(active, allocated));
    line(out, "allocator_rss_ratio", two_digits(ratio(resident, active)));
    line(out, "allocator_rss_bytes", excess(resident, active));
    line(out, "rss_overhead_ratio", two_digits(ratio(process_resident, resident)));
    line(out, "rss_overhead_bytes", excess(process_resident, resident));
    line(out, "mem_fragmentation_ratio", two_digits(ratio(process_resident, used)));
    line(out, "mem_fragmentation_bytes", excess(process_resident, used));
    line(out, "mem_not_counted_for_evict", engine.snapshot_memory());
    line(out, "mem_replication_backlog", 0);
    line(out, "mem_total_replication_buffers", 0);
    line(out, "mem_clients_slaves", 0);
    line(out, "mem_clients_normal", facts.clients);
    line(out, "mem_clients_unauthenticated", core.clients.ledger().stranger_bytes());
    line(out, "mem_clients_limit", core.client_memory_max);
    line(out, "mem_cluster_links", 0);
    line(out, "mem_aof_buffer", facts.log_buffer);
    line(out, "mem_allocator", if holdfast_allocator::is_active() { "jemalloc-5.3.1" } else { "libc" });
    line(out, "active_defrag_running", u8::from(core.compaction.is_running()));
    line(out, "active_defrag_passes", core.compaction.passes());
    line(out, "huge_pages", core.huge_pages.state().word());
    line(out, "huge_pages_moved", core.huge_pages.moved());
    let growth = engine.growth();
    line(out, "table_rebuilds", growth.rebuilds);
    line(out, "table_rebuild_longest_usec", growth.longest.as_micros());
    let histogram: Vec<String> = growth.histogram.iter().map(u64::to_string).collect();
    line(out, "table_rebuild_usec_below_16_32_64_128_256_512_1024_more", histogram.join(","));
    line(out, "lazyfree_pending_objects", core.freed_objects.pending());
    let freed = core.freed_objects.freed().saturating_sub(core.stats.freed_before);
    line(out, "lazyfreed_objects", freed);
}

fn seconds(took: Option<Duration>) -> i64 {
    took.map_or(-1, |took| i64::try_from(took.as_secs()).unwrap_or(i64::MAX))
}

fn status(ok: bool) -> &'static str {
    if ok { "ok" } else { "err" }
}

fn persistence(core: &Core, engine: &Engine, out: &mut String) {
    let loading = matches!(core.phase, Phase::Loading);
    let journal = core.journal.as_ref();
    let facts = journal.map(Journal::facts);
    let running = journal.and_then(Journal::running_job);
    let is_of_log = |kind: &JobKind| matches!(kind, JobKind::Rewrite(_) | JobKind::Begin);
    let saving = running.filter(|(kind, _)| !is_of_log(kind));
    let rewriting = running.filter(|(kind, _)| is_of_log(kind));
    let now = |took: Option<(&JobKind, Duration)>| seconds(took.map(|(_, took)| took));
    let log = journal.and_then(Journal::log);
    line(out, "loading", u8::from(loading));
    line(out, "async_loading", 0);
    line(out, "current_cow_peak", 0);
    // Nothing forks, so nothing is copied on a write.
    line(out, "current_cow_size", 0);
    line(out, "current_cow_size_age", 0);
    line(out, "current_fork_perc", "0.00");
    line(out, "current_save_keys_processed", 0);
    line(out, "current_save_keys_total", 0);
    line(out, "rdb_changes_since_last_save", journal.map_or(0, |journal| journal.changes_since_save(engine)));
    line(out, "rdb_bgsave_in_progress", u8::from(saving.is_some()));
    line(out, "rdb_last_save_time", facts.map_or(core.started_ms, |facts| facts.last_save_ms) / 1000);
    line(out, "rdb_last_bgsave_status", status(facts.is_none_or(|facts| facts.last_save_ok)));
    line(out, "rdb_last_bgsave_time_sec", seconds(facts.and_then(|facts| facts.last_save_took)));
    line(out, "rdb_current_bgsave_time_sec", now(saving));
    line(out, "rdb_saves", facts.map_or(0, |facts| facts.saves));
    line(out, "rdb_last_cow_size", 0);
    line(out, "rdb_last_load_keys_expired", core.progress.expired.load(Ordering::Relaxed));
    line(out, "rdb_last_load_keys_loaded", core.progress.keys.load(Ordering::Relaxed));
    line(out, "aof_enabled", u8::from(core.config.log && core.config.persistent));
    line(out, "aof_rewrite_in_progress", u8::from(rewriting.is_some()));
    let is_scheduled = core.scheduled_jobs.contains(&super::JobRequest::Rewrite)
        || (core.awaits_log() && rewriting.is_none());
    line(out, "aof_rewrite_scheduled", u8::from(is_scheduled));
    line(out, "aof_last_rewrite_time_sec", seconds(facts.and_then(|facts| facts.last_rewrite_took)));
    line(out, "aof_current_rewrite_time_sec", now(rewriting));
    line(out, "aof_last_bgrewrite_status", status(facts.is_none_or(|facts| facts.last_rewrite_ok)));
    line(out, "aof_rewrites", facts.map_or(0, |facts| facts.rewrites));
    line(out, "aof_rewrites_consecutive_failures", journal.map_or(0, Journal::rewrite_failures));
    // The server ends when the log cannot be written.
    line(out, "aof_last_write_status", "ok");
    line(out, "aof_last_cow_size", 0);
    line(out, "module_fork_in_progress", 0);
    line(out, "module_fork_last_cow_size", 0);
    if let (Some(log), Some(journal)) = (log, journal) {
        line(out, "aof_current_size", log.current_len());
        line(out, "aof_base_size", log.len_at_rewrite());
        line(out, "aof_pending_rewrite", 0);
        line(out, "aof_buffer_length", 0);
        line(out, "aof_pending_bio_fsync", u8::from(journal.unsynced_age() > Duration::ZERO));
        line(out, "aof_delayed_fsync", core.stats.delayed_syncs);
        line(out, "aof_segments", log.segments());
    }
    line(out, "persist_strategy", core.strategy().word());
    if let Some(journal) = journal {
        let settings = journal.settings();
        line(out, "persist_store_id", &settings.owner.store_id);
        line(out, "persist_epoch", settings.owner.epoch);
        line(out, "persist_last_offset", journal.offset());
        line(out, "persist_durable_offset", journal.durable_offset());
        line(out, "persist_unsynced_bytes", journal.offset().saturating_sub(journal.durable_offset()));
        line(out, "persist_unsynced_age_ms", journal.unsynced_age().as_millis());
        line(out, "persist_syncs", journal.facts().syncs);
    }
    for (name, count) in &core.stats.points {
        line(out, &format!("persist_points_{}", name.replace('-', "_")), count);
    }
    for (name, count) in &core.stats.warnings {
        line(out, &format!("persist_warnings_{}", name.replace('-', "_")), count);
    }
    if loading {
        let done = core.progress.done.load(Ordering::Relaxed);
        let total = core.progress.total.load(Ordering::Relaxed);
        let elapsed = core.started.elapsed().as_secs().max(1);
        let left = total.saturating_sub(done);
        line(out, "loading_start_time", core.started_ms / 1000);
        line(out, "loading_total_bytes", total);
        line(out, "loading_rdb_used_mem", 0);
        line(out, "loading_loaded_bytes", done);
        #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
        let percentage = if total == 0 { 0.0 } else { done as f64 * 100.0 / total as f64 };
        line(out, "loading_loaded_perc", format_args!("{percentage:.2}"));
        line(out, "loading_eta_seconds", left / (done / elapsed).max(1));
    }
}

fn stats(core: &Core, engine: &Engine, out: &mut String) {
    let stats = &core.stats;
    line(out, "total_connections_received", stats.connections_received);
    line(out, "total_commands_processed", engine.stats.commands);
    line(out, "instantaneous_ops_per_sec", format_args!("{:.0}", stats.commands_rate.per_second()));
    line(out, "total_net_input_bytes", stats.input_bytes);
    line(out, "total_net_output_bytes", stats.output_bytes);
    line(out, "total_net_repl_input_bytes", 0);
    line(out, "total_net_repl_output_bytes", 0);
    line(out, "instantaneous_input_kbps", format_args!("{:.2}", stats.input_rate.per_second() / 1024.0));
    line(out, "instantaneous_output_kbps", format_args!("{:.2}", stats.output_rate.per_second() / 1024.0));
    line(out, "instantaneous_input_repl_kbps", "0.00");
    line(out, "instantaneous_output_repl_kbps", "0.00");
    line(out, "rejected_connections", stats.connections_rejected);
    line(out, "sync_full", 0);
    line(out, "sync_partial_ok", 0);
    line(out, "sync_partial_err", 0);
    line(out, "expired_keys", engine.stats.expired_keys);
    // Keys are removed in order of their times, not by samples, so none is known to be left.
    line(out, "expired_stale_perc", "0.00");
    line(out, "expired_time_cap_reached_count", stats.expiry_stops);
    line(out, "expire_cycle_cpu_milliseconds", stats.expiry_time.as_millis());
    let (no_room, no_room_total) = stats.no_room();
    line(out, "evicted_keys", engine.stats.evicted_keys);
    line(out, "evicted_clients", stats.evicted_clients);
    line(out, "unauthenticated_clients_closed", stats.strangers_closed);
    line(out, "total_eviction_exceeded_time", no_room_total.as_millis());
    line(out, "current_eviction_exceeded_time", no_room.as_millis());
    line(out, "keyspace_hits", engine.stats.keyspace_hits);
    line(out, "keyspace_misses", engine.stats.keyspace_misses);
    line(out, "pubsub_channels", core.pubsub.len(Topic::Channel));
    line(out, "pubsub_patterns", core.pubsub.len(Topic::Pattern));
    line(out, "pubsubshard_channels", core.pubsub.len(Topic::Shard));
    line(out, "latest_fork_usec", 0);
    line(out, "total_forks", 0);
    line(out, "migrate_cached_sockets", 0);
    line(out, "slave_expires_tracked_keys", 0);
    for name in ["hits", "misses", "key_hits", "key_misses"] {
        line(out, &format!("active_defrag_{name}"), 0);
    }
    line(out, "total_active_defrag_time", 0);
    line(out, "current_active_defrag_time", 0);
    let (tracked_keys, tracked_items, tracked_prefixes) = engine.tracked();
    line(out, "tracking_total_keys", tracked_keys);
    line(out, "tracking_total_items", tracked_items);
    line(out, "tracking_total_prefixes", tracked_prefixes);
    line(out, "unexpected_error_replies", 0);
    line(out, "total_error_replies", engine.stats.error_replies);
    line(out, "dump_payload_sanitizations", engine.stats.payloads_checked);
    line(out, "total_reads_processed", stats.reads);
    line(out, "total_writes_processed", stats.writes);
    line(out, "io_threaded_reads_processed", 0);
    line(out, "io_threaded_writes_processed", stats.threaded_writes);
    line(out, "reply_buffer_shrinks", 0);
    line(out, "reply_buffer_expands", 0);
}

fn replication(core: &Core, out: &mut String) {
    line(out, "role", "master");
    line(out, "connected_slaves", 0);
    line(out, "master_failover_state", "no-failover");
    line(out, "master_replid", &core.run_id);
    line(out, "master_replid2", "0".repeat(40));
    line(out, "master_repl_offset", core.offset());
    line(out, "second_repl_offset", -1);
    line(out, "repl_backlog_active", 0);
    line(out, "repl_backlog_size", 1 << 20);
    line(out, "repl_backlog_first_byte_offset", 0);
    line(out, "repl_backlog_histlen", 0);
}

/// Times of processors. Source: proc(5), `/proc/self/stat` and `/proc/thread-self/stat`, fields 14 to 17.
fn cpu(out: &mut String) {
    let process = processor_times("/proc/self/stat");
    let time = |seconds: f64| format!("{seconds:.6}");
    line(out, "used_cpu_sys", time(process[1]));
    line(out, "used_cpu_user", time(process[0]));
    line(out, "used_cpu_sys_children", time(process[3]));
    line(out, "used_cpu_user_children", time(process[2]));
    // The thread that executes commands, which this is.
    let thread = processor_times("/proc/thread-self/stat");
    line(out, "used_cpu_sys_main_thread", time(thread[1]));
    line(out, "used_cpu_user_main_thread", time(thread[0]));
}

/// Seconds in user mode, in the kernel, and those of children that have ended.
fn processor_times(path: &str) -> [f64; 4] {
    let stat = std::fs::read_to_string(path).unwrap_or_default();
    // The second field is the name in parentheses and may hold anything.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    #[expect(clippy::cast_precision_loss, reason = "hundredths of a second are shown")]
    let time = |index: usize| {
        let ticks: u64 = fields.get(index).and_then(|ticks| ticks.parse().ok()).unwrap_or(0);
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    };
    [11, 12, 13, 14].map(time)
}
