//! Counters and rates of the executor, as INFO and the metrics show them.

use std::time::{Duration, Instant};

/// Samples behind an `instantaneous_…` rate (Redis: `STATS_METRIC_SAMPLES`).
const SAMPLES: usize = 16;

/// A rate over the last [`SAMPLES`] ticks.
#[derive(Debug, Clone)]
pub(crate) struct Rate {
    samples: [f64; SAMPLES],
    next: usize,
    last_total: u64,
    last_at: Instant,
}

impl Rate {
    /// A rate that begins at zero.
    #[must_use]
    pub(crate) fn new(now: Instant) -> Self {
        Self { samples: [0.0; SAMPLES], next: 0, last_total: 0, last_at: now }
    }

    /// Takes a sample of the running total.
    #[expect(clippy::cast_precision_loss, reason = "a rate is shown with two digits")]
    pub(crate) fn sample(&mut self, total: u64, now: Instant) {
        let elapsed = now.duration_since(self.last_at).as_secs_f64();
        if elapsed > 0.0 {
            self.samples[self.next] = total.saturating_sub(self.last_total) as f64 / elapsed;
            self.next = (self.next + 1) % SAMPLES;
            self.last_total = total;
            self.last_at = now;
        }
    }

    /// Events a second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "sixteen samples")]
    pub(crate) fn per_second(&self) -> f64 {
        self.samples.iter().sum::<f64>() / SAMPLES as f64
    }
}

/// What the executor counts.
#[derive(Debug, Clone)]
pub(crate) struct Stats {
    /// Connections accepted.
    pub(crate) connections_received: u64,
    /// Connections refused because of `maxclients`.
    pub(crate) connections_rejected: u64,
    /// Clients closed because all of them held more than `maxmemory-clients`.
    pub(crate) evicted_clients: u64,
    /// Clients closed because they had not authenticated: in time, or while all such held too much.
    pub(crate) strangers_closed: u64,
    /// Bytes received.
    pub(crate) input_bytes: u64,
    /// Bytes sent.
    pub(crate) output_bytes: u64,
    /// Outputs sent by I/O threads.
    pub(crate) threaded_writes: u64,
    /// Commands a second.
    pub(crate) commands_rate: Rate,
    /// Bytes received a second.
    pub(crate) input_rate: Rate,
    /// Bytes sent a second.
    pub(crate) output_rate: Rate,
    /// Highest memory use seen, in bytes.
    pub(crate) memory_peak: u64,
    /// Persistence points taken, by what asked for them.
    pub points: Vec<(&'static str, u64)>,
    /// Warnings raised, by kind.
    pub(crate) warnings: Vec<(&'static str, u64)>,
    /// Time spent on removing expired keys that nobody met.
    pub(crate) expiry_time: Duration,
    /// How often that had to stop because its time was over.
    pub(crate) expiry_stops: u64,
    /// Reads of sockets.
    pub(crate) reads: u64,
    /// Sends to sockets, those of I/O threads included.
    pub(crate) writes: u64,
    /// Objects that were freed beside commands before the counters were reset.
    pub(crate) freed_before: u64,
    /// Turns in which writes waited for a slow sync.
    pub(crate) delayed_syncs: u64,
    /// Longest turn.
    pub(crate) longest_turn: Duration,
    /// Since when there is less room than `maxmemory` says.
    no_room_since: Option<Instant>,
    /// How long that was so before.
    no_room_total: Duration,
}

impl Stats {
    /// Everything at zero.
    #[must_use]
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            connections_received: 0,
            connections_rejected: 0,
            evicted_clients: 0,
            strangers_closed: 0,
            input_bytes: 0,
            output_bytes: 0,
            threaded_writes: 0,
            commands_rate: Rate::new(now),
            input_rate: Rate::new(now),
            output_rate: Rate::new(now),
            memory_peak: 0,
            points: Vec::new(),
            warnings: Vec::new(),
            expiry_time: Duration::ZERO,
            expiry_stops: 0,
            reads: 0,
            writes: 0,
            freed_before: 0,
            delayed_syncs: 0,
            longest_turn: Duration::ZERO,
            no_room_since: None,
            no_room_total: Duration::ZERO,
        }
    }

    /// There is room.
    pub(crate) fn note_room(&mut self) {
        if let Some(since) = self.no_room_since.take() {
            self.no_room_total += since.elapsed();
        }
    }

    /// There is less room than there should be.
    pub(crate) fn note_no_room(&mut self) {
        self.no_room_since.get_or_insert_with(Instant::now);
    }

    /// How long there has been too little room: this time, and in all.
    pub(crate) fn no_room(&self) -> (Duration, Duration) {
        let current = self.no_room_since.map_or(Duration::ZERO, |since| since.elapsed());
        (current, self.no_room_total + current)
    }

    /// Counts under a name; names are few and constant.
    pub(crate) fn count(counts: &mut Vec<(&'static str, u64)>, name: &'static str) {
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
}
