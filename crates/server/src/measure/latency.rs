//! The latency monitor: for each kind of event the worst delay of each of the last seconds that had one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Samples kept of one event. Source: Redis 7.0, `LATENCY_TS_LEN`.
const SAMPLES_MAX: usize = 160;
/// Width of a graph in characters, and its height in rows. Source: Redis 7.0, `LATENCY_GRAPH_COLS`.
const GRAPH_COLUMNS: usize = 80;
const GRAPH_ROWS: usize = 4;
/// How a row of a graph shows a third of its height.
const GRAPH_MARKS: [char; 3] = ['_', 'o', '#'];

/// The worst delay within one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Seconds since the Unix epoch.
    pub(crate) unix_s: i64,
    /// The delay.
    pub(crate) milliseconds: u64,
}

/// The samples of one event, in order of time; never empty.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    samples: std::collections::VecDeque<Sample>,
    worst: u64,
}

/// Figures of a series, for a report. Source: Redis 7.0, `analyzeLatencyForEvent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Analysis {
    pub(crate) samples: u64,
    /// Of the samples.
    pub(crate) average: u64,
    /// Mean distance from the average.
    pub(crate) deviation: u64,
    /// Since the oldest sample, at least 1.
    pub(crate) period_s: i64,
    /// Of all delays, also those whose samples are gone.
    pub(crate) worst: u64,
}

impl Series {
    /// The samples, the oldest first.
    pub(crate) fn samples(&self) -> impl ExactSizeIterator<Item = &Sample> {
        self.samples.iter()
    }

    /// The newest sample.
    pub(crate) fn last(&self) -> Sample {
        *self.samples.back().expect("a series begins with a sample")
    }

    /// The worst delay since the series began, in milliseconds.
    pub(crate) fn worst(&self) -> u64 {
        self.worst
    }

    fn add(&mut self, sample: Sample) {
        self.worst = self.worst.max(sample.milliseconds);
        match self.samples.back_mut() {
            Some(last) if last.unix_s == sample.unix_s => {
                last.milliseconds = last.milliseconds.max(sample.milliseconds);
            }
            _ => {
                if self.samples.len() == SAMPLES_MAX {
                    self.samples.pop_front();
                }
                self.samples.push_back(sample);
            }
        }
    }

    /// Average, spread and age.
    pub(crate) fn analyse(&self, now_s: i64) -> Analysis {
        let samples = self.samples.len() as u64;
        let average = self.samples.iter().map(|it| it.milliseconds).sum::<u64>() / samples.max(1);
        let distances: u64 = self.samples.iter().map(|it| it.milliseconds.abs_diff(average)).sum();
        let oldest = self.samples.iter().map(|it| it.unix_s).min().unwrap_or(now_s);
        Analysis {
            samples,
            average,
            deviation: distances / samples.max(1),
            period_s: (now_s - oldest).max(1),
            worst: self.worst,
        }
    }

    /// A graph in letters, the newest sample on the right, with the age of each below it. Source of the form: Redis 7.0,
    /// `latencyCommandGenSparkline`.
    pub(crate) fn graph(&self, event: &str, now_s: i64) -> String {
        let values = || self.samples.iter().map(|it| it.milliseconds);
        let (low, high) = (values().min().unwrap_or(0), values().max().unwrap_or(0));
        let mut text = format!("{event} - high {high} ms, low {low} ms (all time high {} ms)\n", self.worst);
        text.push_str(&"-".repeat(GRAPH_COLUMNS));
        text.push('\n');
        let samples: Vec<Sample> = self.samples.iter().copied().collect();
        for (index, part) in samples.chunks(GRAPH_COLUMNS).enumerate() {
            if index > 0 {
                text.push('\n');
            }
            write_graph(part, low, high, now_s, &mut text);
        }
        text
    }
}

/// How long ago something was, in the largest unit that leaves a number above 0.
fn age(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn write_graph(samples: &[Sample], low: u64, high: u64, now_s: i64, text: &mut String) {
    let marks = GRAPH_MARKS.len();
    let steps = (marks * GRAPH_ROWS) as u64;
    let spread = (high - low).max(1);
    let step = |sample: &Sample| ((sample.milliseconds - low) * steps / spread).min(steps - 1);
    for row in (0..GRAPH_ROWS).rev() {
        let floor = (row * marks) as u64;
        text.extend(samples.iter().map(|sample| match step(sample).checked_sub(floor) {
            None => ' ',
            Some(above) => {
                usize::try_from(above).ok().and_then(|it| GRAPH_MARKS.get(it)).copied().unwrap_or('|')
            }
        }));
        text.push('\n');
    }
    let labels: Vec<String> = samples.iter().map(|sample| age(now_s - sample.unix_s)).collect();
    // One empty row in between.
    text.push_str(&" ".repeat(samples.len()));
    text.push('\n');
    for row in 0..labels.iter().map(String::len).max().unwrap_or(0) {
        text.extend(
            labels.iter().map(|label| label.as_bytes().get(row).map_or(' ', |&byte| char::from(byte))),
        );
        text.push('\n');
    }
}

/// All series, by event.
#[derive(Debug, Default)]
pub(crate) struct LatencyMonitor {
    series: BTreeMap<&'static str, Series>,
}

impl LatencyMonitor {
    /// Notes a delay.
    pub(crate) fn add(&mut self, event: &'static str, sample: Sample) {
        let empty = || Series { samples: std::collections::VecDeque::new(), worst: 0 };
        self.series.entry(event).or_insert_with(empty).add(sample);
    }

    /// The series of an event.
    pub(crate) fn series(&self, event: &[u8]) -> Option<(&'static str, &Series)> {
        self.series.iter().find(|(name, _)| name.as_bytes() == event).map(|(name, series)| (*name, series))
    }

    /// All series, in order of their names.
    pub(crate) fn all(&self) -> impl ExactSizeIterator<Item = (&'static str, &Series)> {
        self.series.iter().map(|(name, series)| (*name, series))
    }

    /// Forgets an event, named in any case, or all; returns how many there were.
    pub(crate) fn reset(&mut self, event: Option<&[u8]>) -> usize {
        let before = self.series.len();
        self.series.retain(|name, _| event.is_some_and(|event| !name.as_bytes().eq_ignore_ascii_case(event)));
        before - self.series.len()
    }

    /// What people should do about what was seen. Source: Redis 7.0, `createLatencyReport`, without what cannot happen here.
    pub(crate) fn report(&self, facts: &ReportFacts) -> String {
        if self.series.is_empty() {
            return if facts.threshold_ms == 0 {
                "The latency monitor is off. \"CONFIG SET latency-monitor-threshold <milliseconds>\" switches it on.\n".to_owned()
            } else {
                "No event took as long as latency-monitor-threshold since the start, or since LATENCY RESET.\n".to_owned()
            };
        }
        let mut text = "Delays that reached latency-monitor-threshold:\n\n".to_owned();
        let mut advice: Vec<String> = Vec::new();
        for (number, (event, series)) in self.series.iter().enumerate() {
            let Analysis { samples, average, deviation, period_s, worst } = series.analyse(facts.now_s);
            #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
            let period = period_s as f64 / samples as f64;
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{}. {event}: {samples} latency spikes (average {average}ms, mean deviation {deviation}ms, period {period:.2} \
                 sec). Worst all time event {worst}ms.",
                number + 1
            );
            advice.extend(advise(event, facts));
        }
        advice.dedup();
        text.push_str("\nWhat can help:\n\n");
        for line in advice {
            let _ = writeln!(text, "- {line}");
        }
        text
    }
}

/// What a report depends on besides the samples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReportFacts {
    /// `latency-monitor-threshold` in milliseconds.
    pub(crate) threshold_ms: u64,
    /// `slowlog-log-slower-than` in microseconds.
    pub(crate) slower_than_us: i64,
    /// Seconds since the Unix epoch.
    pub(crate) now_s: i64,
}

fn advise(event: &str, facts: &ReportFacts) -> Vec<String> {
    let text = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect();
    match event {
        "command" | "command-unblocking" => {
            let threshold_us = facts.threshold_ms.saturating_mul(1000);
            let mut lines = Vec::new();
            if u64::try_from(facts.slower_than_us).is_ok_and(|it| it <= threshold_us) {
                lines.push("SLOWLOG GET shows which commands were slow.".to_owned());
            } else {
                lines.push(format!(
                    "\"CONFIG SET slowlog-log-slower-than {threshold_us}\" lets the slow log show which commands were slow."
                ));
            }
            lines.push("Commands over many elements hold up all others: take them in parts (SCAN, HSCAN, SSCAN, ZSCAN, LIMIT).".to_owned());
            lines
        }
        "fast-command" => text(&[
            "Commands that do little were slow: the process did not get a processor. Give it one of its own, and look for \
             others on the machine; redis-cli --intrinsic-latency 100 shows what the machine itself does.",
        ]),
        "expire-cycle" => text(&[
            "Many keys expire at once: spread their times, or raise hz, which removes fewer at a time more often.",
        ]),
        "eviction-cycle" | "eviction-del" => {
            text(&["maxmemory was passed by much at once: raise it, or add large values in parts."])
        }
        _ => text(&[
            "The disk of the log is slow, or others write to it: use a local SSD; appendfsync everysec lets writes wait for \
             it less often than always.",
        ]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(unix_s: i64, milliseconds: u64) -> Sample {
        Sample { unix_s, milliseconds }
    }

    fn monitor(samples: &[(i64, u64)]) -> LatencyMonitor {
        let mut monitor = LatencyMonitor::default();
        samples
            .iter()
            .for_each(|&(unix_s, milliseconds)| monitor.add("command", sample(unix_s, milliseconds)));
        monitor
    }

    #[test]
    fn a_second_has_one_sample_its_worst() {
        let monitor = monitor(&[(10, 5), (10, 9), (10, 7), (12, 3)]);
        let (_, series) = monitor.series(b"command").expect("it was added");
        assert_eq!(series.samples().copied().collect::<Vec<_>>(), [sample(10, 9), sample(12, 3)]);
        assert_eq!((series.last(), series.worst()), (sample(12, 3), 9));
        let analysis = series.analyse(20);
        assert_eq!(
            (analysis.samples, analysis.average, analysis.deviation, analysis.period_s),
            (2, 6, 3, 10)
        );
    }

    #[test]
    fn the_last_samples_are_kept_and_the_worst_of_all_is_known() {
        let mut all: Vec<(i64, u64)> = vec![(1, 1000)];
        all.extend((2..=200).map(|second| (second, 5)));
        let monitor = monitor(&all);
        let (_, series) = monitor.series(b"command").expect("it was added");
        assert_eq!((series.samples().len(), series.worst()), (160, 1000));
        assert_eq!(series.samples().next(), Some(&sample(41, 5)));
    }

    #[test]
    fn a_reset_names_events_in_any_case() {
        let mut monitor = monitor(&[(1, 1)]);
        monitor.add("expire-cycle", sample(1, 1));
        assert_eq!((monitor.reset(Some(b"nothing")), monitor.reset(Some(b"COMMAND"))), (0, 1));
        assert!(monitor.series(b"command").is_none());
        assert_eq!((monitor.reset(None), monitor.reset(None)), (1, 0));
    }

    /// The text that Redis 7.0.15 draws of the same samples.
    #[test]
    fn a_graph_is_drawn_as_by_redis() {
        let monitor = monitor(&[(0, 10), (100, 20), (4000, 15), (100_000, 40)]);
        let (event, series) = monitor.series(b"command").expect("it was added");
        let expected = [
            "command - high 40 ms, low 10 ms (all time high 40 ms)",
            &"-".repeat(80),
            "   #",
            "   |",
            " o |",
            "_|#|",
            "    ",
            "1112",
            "ddd6",
            "   s",
            "",
        ];
        let drawn = series.graph(event, 100_026);
        assert_eq!(drawn.split('\n').collect::<Vec<_>>(), expected, "{drawn}");
    }

    #[test]
    fn a_report_says_what_was_slow_and_what_helps() {
        let facts = ReportFacts { threshold_ms: 100, slower_than_us: 10_000, now_s: 20 };
        let off = ReportFacts { threshold_ms: 0, ..facts };
        let empty = LatencyMonitor::default();
        assert!(empty.report(&off).contains("is off"));
        assert!(empty.report(&facts).contains("No event"));
        let monitor = monitor(&[(10, 150)]);
        let text = monitor.report(&facts);
        assert!(text.contains("1. command: 1 latency spikes (average 150ms, mean deviation 0ms, period 10.00 sec). Worst all time event 150ms."), "{text}");
        assert!(text.contains("SLOWLOG GET"), "{text}");
        let unlogged = ReportFacts { slower_than_us: -1, ..facts };
        assert!(monitor.report(&unlogged).contains("CONFIG SET slowlog-log-slower-than 100000"));
    }
}
