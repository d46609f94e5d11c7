//! Puts load on a server that speaks the Redis protocol, and prints one JSON line with what it measured.
//!
//! It exists because redis-benchmark spends more CPU per request than a fast server does, so that on two cores it measures
//! itself. One thread, no allocation per request:
//!
//! ```text
//! load    closed loop: N connections, each with P requests in flight; throughput and latency   requests.rs → drive.rs → replies.rs
//!         hand-over: pairs of them, one blocking, one pushing; publish: with subscribers       subscribers.rs
//! probe   one connection at a fixed rate: how long other clients wait at worst                 probe.rs
//! crowd   thousands of connections beside those that are measured, hostile or harmless         crowd.rs
//! ```
//!
//! Keys and the members of collections are 16 bytes: four letters, such as `key:` and `mem:`, and 12 digits. Values are random bytes: no server can store them as a number or compress them.

#![forbid(unsafe_code)]

mod crowd;
mod drive;
mod histogram;
mod probe;
mod replies;
mod requests;
mod subscribers;
mod target;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};

#[derive(Parser)]
#[command(about = "Puts load on a server that speaks the Redis protocol; prints one JSON line")]
struct Arguments {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Closed loop: each connection sends its next batch when the last one has been answered
    Load(Load),
    /// Open loop on one connection: GETs at a fixed rate, latency from the time each was due
    Probe(Probe),
    /// Many connections that do some things a second, and are not measured
    Crowd(Crowd),
}

/// Options of `load`.
#[derive(Debug, clap::Args)]
pub(crate) struct Load {
    #[command(flatten)]
    target: Target,
    /// Command to send
    #[arg(long, value_enum)]
    command: Command,
    /// Connections
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Requests in flight per connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pipeline: u32,
    /// Value size in bytes, or a range such as 900-1100 of which each value takes a random size
    #[arg(long, default_value = "32", value_parser = parse_sizes)]
    size: RangeInclusive<usize>,
    /// End after this time
    #[arg(long, default_value_t = 2.0, value_parser = parse_seconds)]
    seconds: f64,
    /// Do not count the requests of this time before
    #[arg(long, default_value_t = 0.0, value_parser = parse_seconds)]
    warm_up: f64,
    /// Elements of one request, where the command takes several (default 1, and 10 for mset)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    elements: Option<u32>,
    /// Elements of each collection: element N is in the collection of number N / this (default: one collection has all)
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=requests::KEYS_MAX))]
    members: Option<u64>,
    /// Clients that subscribe to the channel of publish
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    subscribers: u32,
    /// Use each key or element once, in order, and end after the last; no time limit
    #[arg(long)]
    fill: bool,
    /// The key that `--fill` begins with
    #[arg(long, default_value_t = 0, requires = "fill")]
    first_key: u64,
}

/// Options of `probe`.
#[derive(Debug, clap::Args)]
pub(crate) struct Probe {
    #[command(flatten)]
    target: Target,
    /// Requests per second
    #[arg(long, default_value_t = 1000.0, value_parser = parse_rate)]
    rate: f64,
    /// End after this time, or earlier at the end of standard input
    #[arg(long, default_value_t = 2.0, value_parser = parse_seconds)]
    seconds: f64,
}

/// Options of `crowd`.
#[derive(Debug, clap::Args)]
pub(crate) struct Crowd {
    #[command(flatten)]
    target: Target,
    /// What they do
    #[arg(long, value_enum)]
    kind: CrowdKind,
    /// Connections
    #[arg(long, default_value_t = 9900, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: u32,
    /// Things that all of them together do in a second
    #[arg(long, default_value_t = 2000.0, value_parser = parse_rate)]
    rate: f64,
    /// End after this time, or earlier at the end of standard input
    #[arg(long, default_value_t = 2.0, value_parser = parse_seconds)]
    seconds: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CrowdKind {
    /// A quarter each is idle, sends byte by byte, reads nothing, resets its connections; none of them authenticates
    Hostile,
    /// All of them send PING and read the reply
    Harmless,
}

/// What all modes share.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Target {
    /// Address and port of the server
    #[arg(long)]
    server: SocketAddr,
    /// Keys, or the elements of collections, are numbered from 0 to one less than this
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=requests::KEYS_MAX))]
    keys: u64,
    /// Password of the server
    #[arg(long)]
    password: Option<String>,
    /// Start of the random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Command {
    Ping,
    Get,
    Set,
    Incr,
    /// MSET of ten keys; counts as one request
    Mset,
    /// GET four times of five, else SET
    Mixed,
    Lpush,
    Rpush,
    Rpop,
    /// LRANGE 0 99
    Lrange,
    Hset,
    Hget,
    Sadd,
    Sismember,
    /// Scores are random numbers below that of the keys
    Zadd,
    /// Ten members from a random score on
    Zrangebyscore,
    Zrank,
    /// ZRANGE of ten members from a random rank on
    Zrange,
    /// Pairs of connections: one waits in BLPOP, the other pushes by RPUSH; an element handed over counts as one request
    Handover,
    /// PUBLISH to one channel; it ends when every subscriber has every message
    Publish,
}

/// Longest value: the default limit of Redis.
const VALUE_LEN_MAX: usize = 512 << 20;

fn parse_sizes(text: &str) -> Result<RangeInclusive<usize>, String> {
    let number = |text: &str| text.parse::<usize>().map_err(|error| error.to_string());
    let (low, high) = match text.split_once('-') {
        Some((low, high)) => (number(low)?, number(high)?),
        None => (number(text)?, number(text)?),
    };
    if low > high || high > VALUE_LEN_MAX {
        return Err(format!("a size, or a range with the smaller one first, of at most {VALUE_LEN_MAX}"));
    }
    Ok(low..=high)
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|it| (0.0..=86_400.0).contains(it))
        .ok_or_else(|| "0 to 86400 seconds".to_owned())
}

fn parse_rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|it| (0.1..=100_000.0).contains(it))
        .ok_or_else(|| "0.1 to 100000 a second".to_owned())
}

/// CPU time of this process in seconds; it has one thread. The first field of the file is nanoseconds on a CPU.
pub(crate) fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// Becomes true at the end of standard input: the caller closes it when what it watches is over.
pub(crate) fn end_of_input() -> Arc<AtomicBool> {
    let over = Arc::new(AtomicBool::new(false));
    std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            let mut byte = [0];
            while matches!(std::io::Read::read(&mut std::io::stdin(), &mut byte), Ok(1..)) {}
            over.store(true, Ordering::Relaxed);
        }
    });
    over
}

fn run() -> anyhow::Result<bool> {
    let (line, errors) = match Arguments::parse().mode {
        Mode::Load(options) => {
            let report =
                drive::run(&options).with_context(|| format!("load on {} failed", options.target.server))?;
            (serde_json::to_string(&report)?, report.errors)
        }
        Mode::Probe(options) => {
            let report =
                probe::run(&options).with_context(|| format!("probe of {} failed", options.target.server))?;
            (serde_json::to_string(&report)?, report.errors)
        }
        Mode::Crowd(options) => {
            let report =
                crowd::run(&options).with_context(|| format!("crowd at {} failed", options.target.server))?;
            (serde_json::to_string(&report)?, 0)
        }
    };
    println!("{line}");
    Ok(errors == 0)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        // The line on standard output has the first error reply.
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            eprintln!("holdfast-loadgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_a_number_or_an_ordered_range() {
        assert_eq!(parse_sizes("3"), Ok(3..=3));
        assert_eq!(parse_sizes("900-1100"), Ok(900..=1100));
        for wrong in ["", "a", "5-3", "1-", "999999999999"] {
            assert!(parse_sizes(wrong).is_err(), "{wrong}");
        }
    }
}
