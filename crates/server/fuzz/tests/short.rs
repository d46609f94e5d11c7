//! Every target on its committed inputs and on mutations of them: the same ones in each run, for a few seconds.
//!
//! A run ends after a number of mutations or after some seconds of its thread's CPU time, so that a busy machine tries as many.
//! `make fuzz` goes on from the same inputs for as long as wanted, led by coverage.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use holdfast_fuzz::Target;
use holdfast_fuzz::mutate::{Random, mutate};

/// Mutations of a target, unless the time is over first.
const MUTATIONS: u64 = 20_000;
/// CPU time of a target: a slow machine tries fewer mutations, never others.
const CPU_TIME_MAX: Duration = Duration::from_secs(3);
/// Longest run of a target whatever it waits for.
const TIME_MAX: Duration = Duration::from_secs(60);

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells it");
    let nanoseconds =
        text.split(' ').next().and_then(|number| number.parse().ok()).expect("nanoseconds come first");
    Duration::from_nanos(nanoseconds)
}

fn check(name: &str) {
    let target = Target::find(name).expect("a target");
    let inputs = target.inputs();
    for (path, input) in &inputs {
        println!("{}", path.display());
        (target.run)(input);
    }
    let started = Instant::now();
    let bytes: Vec<&[u8]> = inputs.iter().map(|(_, input)| &input[..]).collect();
    let mut tried = 0;
    let cpu_started = cpu_time();
    while tried < MUTATIONS && cpu_time() - cpu_started < CPU_TIME_MAX && started.elapsed() < TIME_MAX {
        let mut random = Random::new(tried);
        let mut input = bytes[random.below(bytes.len())].to_vec();
        mutate(&mut random, &mut input, target.words, &bytes, target.len_max);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(&input))) {
            println!("mutation {tried} of {name}: {}", input.escape_ascii());
            std::panic::resume_unwind(panic);
        }
        tried += 1;
    }
    println!("{tried} mutations of {} inputs", bytes.len());
    assert!(tried > 0, "{name} is too slow");
}

#[test]
fn requests_are_read_alike_however_they_are_cut() {
    check("protocol");
}

#[test]
fn lines_are_split_as_redis_splits_them() {
    check("inline");
}

#[test]
fn globs_match_as_redis_matches_them() {
    check("glob");
}

#[test]
fn configurations_survive_being_rewritten() {
    check("config");
}

#[test]
fn metadata_survives_being_rewritten() {
    check("metadata");
}

#[test]
fn snapshots_are_read_alike_however_they_come() {
    check("snapshot");
}

#[test]
fn payloads_are_restored_whole_or_refused() {
    check("restore");
}

#[test]
fn logs_are_whole_after_a_torn_tail_was_cut() {
    check("log");
}

#[test]
fn commands_answer_as_redis_does() {
    check("commands");
}

#[test]
fn every_target_is_run_here() {
    let source = include_str!("short.rs");
    for target in holdfast_fuzz::TARGETS {
        assert!(source.contains(&format!("check(\"{}\")", target.name)), "{} has no short run", target.name);
    }
}
