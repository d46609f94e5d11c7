//! How long commands take: INFO's commandstats and latencystats, the slow log and the latency monitor.
//!
//! ```text
//! command begins ─ short: joins the run ────────── ends ─ the coarse clock has moved, or the run is full ─▶ run settled
//!                └ other: settles the run, clock ─ ends ─ clock ─▶ noted alone
//! ```
//!
//! Two readings of the clock for each command would cost as much as a tenth of a GET. Short commands that follow each other
//! therefore form a *run*, which is timed as one, and each is given its share. So that a run cannot hide a slow command, the
//! kernel's coarse clock, which costs a quarter as much, is read after each: when it has moved the run ends, and what is more than
//! usual was the last command's. Where a threshold asks for more than the coarse clock can tell every command is
//! timed alone. See `docs/decisions/0027-commands-share-clock-readings.md`.
//!
//! Pure: the clocks come in as functions.

mod calls;
mod histogram;
mod latency;
mod slow_log;

pub(crate) use latency::{LatencyMonitor, ReportFacts, Sample};
pub(crate) use slow_log::{SlowEntry, SlowLog, trimmed_args};

use calls::Calls;

use crate::command::{Command, flags};

/// Short commands that share two readings of the clock.
const RUN_LEN_MAX: u32 = 64;
/// Different commands in a run.
const RUN_ROWS_MAX: usize = 8;
/// What a run took beyond its usual time is spread over its commands up to this much, in nanoseconds. More was one of them.
const SPREAD_MAX: u64 = 200_000;

/// The clocks, as functions that return nanoseconds since any moment.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// Exact.
    pub(crate) exact: fn() -> u64,
    /// Cheap; moves in steps.
    pub(crate) coarse: fn() -> u64,
    /// Length of a step.
    pub(crate) coarse_step: u64,
}

impl Default for Clocks {
    /// Clocks that stand still.
    fn default() -> Self {
        Self { exact: || 0, coarse: || 0, coarse_step: 0 }
    }
}

/// The directives.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasureSettings {
    /// `slowlog-log-slower-than` in microseconds; negative: nothing is logged.
    pub(crate) slower_than_us: i64,
    /// `slowlog-max-len`.
    pub(crate) slow_log_len_max: usize,
    /// `latency-monitor-threshold` in milliseconds; 0: off.
    pub(crate) latency_threshold_ms: u64,
    /// `latency-tracking`.
    pub(crate) tracking: bool,
    /// `latency-tracking-info-percentiles`.
    pub(crate) percentiles: Vec<f64>,
}

impl Default for MeasureSettings {
    /// Those of Redis 7.0.
    fn default() -> Self {
        Self {
            slower_than_us: 10_000,
            slow_log_len_max: 128,
            latency_threshold_ms: 0,
            tracking: true,
            percentiles: vec![50.0, 99.0, 99.9],
        }
    }
}

// A percentile is a number from 0 to 100, never NaN.
impl Eq for MeasureSettings {}

/// A percentile as Redis prints it: at most six decimals, and none that end in 0.
pub(crate) fn percentile_text(percentile: f64) -> String {
    let text = format!("{percentile:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A command that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// It is part of the run.
    Shared,
    /// It is timed alone, since this moment.
    Alone(u64),
}

/// What a command that has ended is to be noted for, and the microseconds that it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Noted {
    /// The slow log wants it.
    pub(crate) slow: bool,
    /// The latency monitor wants it.
    pub(crate) late: bool,
    /// How long it took.
    pub(crate) microseconds: u64,
}

/// Short commands that follow each other.
#[derive(Debug, Default)]
struct Run {
    /// When it began; none while there is none.
    began: Option<u64>,
    coarse: u64,
    len: u32,
    /// Its commands, each with how often it came.
    rows: Vec<(&'static Command, u32)>,
    /// Which of them came last.
    last: usize,
    /// Usual time of one short command, from the run before.
    usual: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Meter {
    clocks: Clocks,
    settings: MeasureSettings,
    /// Every command is timed alone.
    exact: bool,
    run: Run,
    /// The last reading, while nothing but commands was done since: the next command has begun then.
    last_reading: Option<u64>,
    /// [`Meter::reading`] has told it.
    is_told: bool,
    calls: Calls,
    pub(crate) slow_log: SlowLog,
    pub(crate) latency: LatencyMonitor,
}

/// Whether a command takes about as long as the others of a run, as a rule. What may wait is timed alone.
#[inline]
fn is_short(command: &Command) -> bool {
    command.flags & (flags::FAST | flags::SHORT) != 0 && !command.has(flags::BLOCKING)
}

impl Meter {
    /// A meter that has counted nothing.
    pub(crate) fn new(clocks: Clocks, settings: MeasureSettings) -> Self {
        let mut meter = Self { clocks, ..Self::default() };
        meter.configure(settings);
        meter
    }

    /// Obeys other directives from now on.
    pub(crate) fn configure(&mut self, settings: MeasureSettings) {
        // The coarse clock moves within every command of two steps.
        let told_apart = 2 * self.clocks.coarse_step;
        let slow = u64::try_from(settings.slower_than_us).ok().map(|it| it.saturating_mul(1000));
        let late = Some(settings.latency_threshold_ms.saturating_mul(1_000_000)).filter(|&it| it > 0);
        self.exact = [slow, late].into_iter().flatten().any(|threshold| threshold < told_apart);
        self.slow_log.trim(settings.slow_log_len_max);
        self.settings = settings;
    }

    /// The directives that it obeys.
    pub(crate) fn settings(&self) -> &MeasureSettings {
        &self.settings
    }

    /// A command begins. Whatever reads counters must begin with [`Watch::Alone`], which settles the run.
    #[inline]
    pub(crate) fn begin(&mut self, command: &'static Command) -> Watch {
        if self.exact || !is_short(command) {
            return self.begin_alone();
        }
        if self.run.began.is_none() {
            self.run.began = Some(self.last_reading.take().unwrap_or_else(self.clocks.exact));
            self.run.coarse = (self.clocks.coarse)();
        }
        Watch::Shared
    }

    /// Something begins that is timed alone.
    pub(crate) fn begin_alone(&mut self) -> Watch {
        let now = self.last_reading.take().unwrap_or_else(self.clocks.exact);
        self.settle_at(now, false);
        Watch::Alone(now)
    }

    /// The exact clock: as it was read when the last command ended, if that was timed alone or ended a run, or else now.
    ///
    /// A reading is told once: commands that are refused or queued make none, and their time passes as well.
    #[inline]
    pub(crate) fn reading(&mut self) -> u64 {
        let was_told = std::mem::replace(&mut self.is_told, true);
        self.last_reading.filter(|_| !was_told).unwrap_or_else(self.clocks.exact)
    }

    /// The executor does something else than commands until the next begins.
    #[inline]
    pub(crate) fn pause(&mut self) {
        if self.run.began.is_some() {
            let now = (self.clocks.exact)();
            self.settle_at(now, false);
        }
        self.last_reading = None;
    }

    /// A command has ended.
    #[inline]
    pub(crate) fn end(&mut self, watch: Watch, command: &'static Command) -> Noted {
        match watch {
            Watch::Shared => self.end_shared(command),
            Watch::Alone(began) => {
                let took = self.since(began);
                self.count(command, took, 1);
                self.note(command, took)
            }
        }
    }

    /// A command has begun to wait for something; [`Meter::resumed`] ends it.
    pub(crate) fn end_waiting(&mut self, watch: Watch, command: &'static Command) {
        if let Watch::Alone(began) = watch {
            let took = self.since(began);
            let stats = self.calls.of(command);
            stats.calls += 1;
            stats.nanoseconds += took;
        }
    }

    /// A command that waited was run again and is done: what that took is part of its call.
    pub(crate) fn resumed(&mut self, watch: Watch, command: &'static Command) -> Noted {
        let Watch::Alone(began) = watch else { return Noted::default() };
        let took = self.since(began);
        let stats = self.calls.of(command);
        stats.nanoseconds += took;
        if self.settings.tracking {
            stats.latencies.record(took, 1);
        }
        self.note(command, took)
    }

    /// A command that waited was run again for nothing.
    pub(crate) fn still_waiting(&mut self, watch: Watch, command: &'static Command) {
        if let Watch::Alone(began) = watch {
            let took = self.since(began);
            self.calls.of(command).nanoseconds += took;
        }
    }

    /// Nanoseconds from a moment until now; the run, if there is one, is settled first.
    fn since(&mut self, began: u64) -> u64 {
        let now = (self.clocks.exact)();
        self.settle_at(now, false);
        self.note_reading(now);
        now.saturating_sub(began)
    }

    /// A command has ended at this moment.
    #[inline]
    fn note_reading(&mut self, now: u64) {
        (self.last_reading, self.is_told) = (Some(now), false);
    }

    #[inline]
    fn end_shared(&mut self, command: &'static Command) -> Noted {
        let run = &mut self.run;
        // Few commands follow each other in most runs, so that looking through them is faster than any order.
        match run.rows.iter_mut().enumerate().find(|(_, (row, _))| std::ptr::eq(*row, command)) {
            Some((place, (_, times))) => {
                *times += 1;
                run.last = place;
            }
            None => {
                run.last = run.rows.len();
                run.rows.push((command, 1));
            }
        }
        run.len += 1;
        let has_moved = (self.clocks.coarse)() != run.coarse;
        if !has_moved && run.len < RUN_LEN_MAX && run.rows.len() < RUN_ROWS_MAX {
            return Noted::default();
        }
        let now = (self.clocks.exact)();
        let took = self.settle_at(now, has_moved);
        self.note_reading(now);
        self.note(command, took)
    }

    /// Ends the run and gives each of its commands its share; returns that of the last. `last_may_be_slow` when the coarse
    /// clock has moved within the last command; otherwise more than usual was spent outside of commands.
    fn settle_at(&mut self, now: u64, last_may_be_slow: bool) -> u64 {
        let Some(began) = self.run.began.take() else { return 0 };
        let len = u64::from(std::mem::take(&mut self.run.len));
        let mut rows = std::mem::take(&mut self.run.rows);
        let took = now.saturating_sub(began);
        if len == 0 {
            return 0;
        }
        let usual = len * self.run.usual;
        let mut last = took / len;
        if took > usual + SPREAD_MAX {
            let others = if len == 1 { 0 } else { self.run.usual };
            last = if last_may_be_slow || len == 1 { took - others * (len - 1) } else { others };
            if let Some((command, times)) = rows.get_mut(self.run.last) {
                *times -= 1;
                let command = *command;
                self.count(command, last, 1);
            }
            for (command, times) in rows.drain(..) {
                self.count(command, others, times);
            }
        } else {
            self.run.usual = last;
            for (command, times) in rows.drain(..) {
                self.count(command, last, times);
            }
        }
        self.run.rows = rows;
        last
    }

    /// Counts calls that took so long each.
    fn count(&mut self, command: &'static Command, nanoseconds: u64, calls: u32) {
        if calls == 0 {
            return;
        }
        let (calls, stats) = (u64::from(calls), self.calls.of(command));
        stats.calls += calls;
        stats.nanoseconds += nanoseconds * calls;
        if self.settings.tracking {
            stats.latencies.record(nanoseconds, calls);
        }
    }

    fn note(&self, command: &'static Command, nanoseconds: u64) -> Noted {
        let microseconds = nanoseconds / 1000;
        let MeasureSettings { slower_than_us, latency_threshold_ms, .. } = self.settings;
        Noted {
            slow: u64::try_from(slower_than_us).is_ok_and(|threshold| microseconds >= threshold)
                && !command.has(flags::SKIP_SLOWLOG),
            late: latency_threshold_ms > 0 && microseconds / 1000 >= latency_threshold_ms,
            microseconds,
        }
    }

    /// Adds a sample to the latency monitor if it reaches the threshold.
    pub(crate) fn sample(&mut self, event: &'static str, unix_s: i64, milliseconds: u64) {
        let threshold = self.settings.latency_threshold_ms;
        if threshold > 0 && milliseconds >= threshold {
            self.latency.add(event, Sample { unix_s, milliseconds });
        }
    }

    /// A command was refused before it ran.
    pub(crate) fn rejected(&mut self, command: &'static Command) {
        self.calls.of(command).rejected += 1;
    }

    /// A command has ended with an error.
    pub(crate) fn failed(&mut self, command: &'static Command) {
        self.calls.of(command).failed += 1;
    }

    /// The counters; those of the run in progress are missing.
    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// CONFIG RESETSTAT: the counters begin again. The slow log and the latency monitor have resets of their own.
    pub(crate) fn reset_calls(&mut self) {
        self.calls.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::command::table;

    const STEP: u64 = 4_000_000;

    thread_local! {
        static NOW: Cell<u64> = const { Cell::new(0) };
        static READINGS: Cell<u32> = const { Cell::new(0) };
    }

    fn exact() -> u64 {
        READINGS.set(READINGS.get() + 1);
        NOW.get()
    }

    fn coarse() -> u64 {
        NOW.get() / STEP
    }

    fn pass(nanoseconds: u64) {
        NOW.set(NOW.get() + nanoseconds);
    }

    fn meter(settings: MeasureSettings) -> Meter {
        NOW.set(1);
        READINGS.set(0);
        Meter::new(Clocks { exact, coarse, coarse_step: STEP }, settings)
    }

    fn row(name: &str) -> &'static Command {
        table::find(name.as_bytes()).expect("a command")
    }

    fn execute(meter: &mut Meter, name: &str, nanoseconds: u64) -> Noted {
        let watch = meter.begin(row(name));
        pass(nanoseconds);
        meter.end(watch, row(name))
    }

    /// Calls and nanoseconds.
    fn counted(meter: &Meter, name: &str) -> (u64, u64) {
        meter.calls().find(row(name)).map_or((0, 0), |stats| (stats.calls, stats.nanoseconds))
    }

    #[test]
    fn short_commands_share_two_readings_of_the_clock() {
        let mut meter = meter(MeasureSettings::default());
        for _ in 0..RUN_LEN_MAX {
            assert_eq!(execute(&mut meter, "get", 500), Noted::default());
        }
        assert_eq!(counted(&meter, "get"), (64, 32_000));
        assert_eq!(READINGS.get(), 2);
        let histogram = &meter.calls().find(row("get")).expect("it was called").latencies;
        assert_eq!((histogram.total(), histogram.percentile(50.0)), (64, 501));
    }

    #[test]
    fn what_a_run_took_is_given_to_its_commands_in_whole() {
        let mut meter = meter(MeasureSettings::default());
        execute(&mut meter, "set", 500);
        execute(&mut meter, "get", 300);
        execute(&mut meter, "set", 700);
        assert_eq!(counted(&meter, "set"), (0, 0), "it is not settled");
        meter.pause();
        assert_eq!((counted(&meter, "get"), counted(&meter, "set")), ((1, 500), (2, 1000)));
        pass(1_000_000);
        meter.pause();
        assert_eq!(counted(&meter, "get"), (1, 500), "what happens between runs is nobody's");
    }

    #[test]
    fn a_command_that_is_not_short_is_timed_alone_and_settles_what_was_before() {
        let mut meter = meter(MeasureSettings::default());
        execute(&mut meter, "get", 400);
        execute(&mut meter, "keys", 9_000);
        execute(&mut meter, "keys", 5_000);
        execute(&mut meter, "get", 400);
        meter.pause();
        assert_eq!((counted(&meter, "get"), counted(&meter, "keys")), ((2, 800), (2, 14_000)));
        assert_eq!(READINGS.get(), 5, "one where a command begins as the last has ended");
    }

    #[test]
    fn what_was_timed_alone_has_read_the_clock() {
        let mut meter = meter(MeasureSettings::default());
        execute(&mut meter, "keys", 9_000);
        assert_eq!((meter.reading(), READINGS.get()), (9_001, 2));
        execute(&mut meter, "get", 400);
        assert_eq!((meter.reading(), READINGS.get()), (9_401, 3), "the run goes on");
        meter.pause();
        pass(5_000);
        assert_eq!(meter.reading(), 14_401, "time passes while nothing is executed");
    }

    /// Commands that are refused or queued are not timed. A turn of them must end as well.
    #[test]
    fn time_passes_while_no_command_is_timed() {
        let mut meter = meter(MeasureSettings::default());
        execute(&mut meter, "keys", 9_000);
        assert_eq!((meter.reading(), READINGS.get()), (9_001, 2));
        pass(3_000_000);
        assert_eq!(meter.reading(), 3_009_001, "a reading is told once");
        pass(1_000);
        assert_eq!(meter.reading(), 3_010_001, "nor is what was read for it told again");
        execute(&mut meter, "keys", 500);
        let readings = READINGS.get();
        assert_eq!((meter.reading(), READINGS.get()), (3_010_501, readings), "the next one has its own");
    }

    #[test]
    fn a_slow_command_in_a_run_is_found_by_the_coarse_clock() {
        let mut meter = meter(MeasureSettings::default());
        (0..64).for_each(|_| assert!(!execute(&mut meter, "get", 500).slow));
        (0..10).for_each(|_| assert!(!execute(&mut meter, "get", 500).slow));
        let noted = execute(&mut meter, "set", 12_000_000);
        assert_eq!(noted, Noted { slow: true, late: false, microseconds: 12_000 });
        assert_eq!(counted(&meter, "get"), (74, 37_000), "the others took what they take");
        assert_eq!(counted(&meter, "set"), (1, 12_000_000));
        let histogram = &meter.calls().find(row("set")).expect("it was called").latencies;
        assert_eq!(histogram.total(), 1);
    }

    #[test]
    fn a_step_of_the_coarse_clock_alone_makes_nothing_slow() {
        let mut meter = meter(MeasureSettings::default());
        pass(STEP - 1_000);
        (0..10).for_each(|_| assert!(!execute(&mut meter, "get", 500).slow));
        meter.pause();
        assert_eq!(counted(&meter, "get"), (10, 5_000));
    }

    #[test]
    fn time_lost_between_commands_is_nobodys() {
        let mut meter = meter(MeasureSettings::default());
        (0..64).for_each(|_| assert!(!execute(&mut meter, "get", 500).slow));
        execute(&mut meter, "get", 500);
        execute(&mut meter, "get", 500);
        pass(50_000_000);
        meter.pause();
        assert_eq!(counted(&meter, "get"), (66, 33_000));
    }

    #[test]
    fn a_threshold_below_the_coarse_clock_times_every_command() {
        let mut meter = meter(MeasureSettings { slower_than_us: 1_000, ..MeasureSettings::default() });
        assert!(!execute(&mut meter, "get", 999_999).slow);
        assert!(execute(&mut meter, "get", 1_000_000).slow);
        meter.configure(MeasureSettings { slower_than_us: 0, ..MeasureSettings::default() });
        assert!(execute(&mut meter, "get", 0).slow);
        meter.configure(MeasureSettings { slower_than_us: -1, ..MeasureSettings::default() });
        assert!(!execute(&mut meter, "keys", 50_000_000).slow);
    }

    #[test]
    fn the_latency_monitor_wants_what_reaches_its_threshold() {
        let settings =
            MeasureSettings { slower_than_us: -1, latency_threshold_ms: 2, ..MeasureSettings::default() };
        let mut meter = meter(settings);
        assert!(!execute(&mut meter, "get", 1_999_999).late);
        assert!(execute(&mut meter, "get", 2_000_000).late);
        meter.sample("expire-cycle", 7, 1);
        meter.sample("expire-cycle", 7, 2);
        assert_eq!(meter.latency.all().len(), 1);
    }

    #[test]
    fn a_wait_is_no_part_of_a_call() {
        let mut meter = meter(MeasureSettings::default());
        let watch = meter.begin(row("blpop"));
        pass(2_000);
        meter.end_waiting(watch, row("blpop"));
        meter.pause();
        pass(60_000_000_000);
        let watch = meter.begin_alone();
        pass(3_000);
        assert_eq!(meter.resumed(watch, row("blpop")), Noted { microseconds: 3, ..Noted::default() });
        assert_eq!(counted(&meter, "blpop"), (1, 5_000));
        assert_eq!(meter.calls().find(row("blpop")).expect("it was called").latencies.total(), 1);
    }

    #[test]
    fn percentiles_are_printed_as_by_redis() {
        let all = [0.0, 50.0, 99.9, 99.990_000_1, 100.0].map(percentile_text);
        assert_eq!(all, ["0", "50", "99.9", "99.99", "100"]);
    }

    #[test]
    fn refusals_and_failures_are_counted_and_reset() {
        let mut meter = meter(MeasureSettings { tracking: false, ..MeasureSettings::default() });
        meter.rejected(row("get"));
        execute(&mut meter, "keys", 10);
        meter.failed(row("keys"));
        let of = |name| meter.calls().find(row(name)).expect("it was counted");
        assert_eq!((of("get").rejected, of("keys").failed, of("keys").latencies.total()), (1, 1, 0));
        assert_eq!(meter.calls().all().iter().map(|(row, _)| row.name).collect::<Vec<_>>(), ["get", "keys"]);
        meter.reset_calls();
        assert!(meter.calls().all().is_empty());
    }
}
