//! Wall time, and the time of a turn.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

use crate::measure::Clocks;

/// Wall time in milliseconds since the Unix epoch.
#[must_use]
pub(crate) fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Wall time in microseconds since the Unix epoch.
#[must_use]
pub(crate) fn unix_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// The clocks as they were read for the turn: commands of one turn happen at one time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TurnClock {
    pub(crate) now: Instant,
    /// Milliseconds since the Unix epoch.
    pub(crate) now_ms: i64,
}

impl TurnClock {
    pub(crate) fn read() -> Self {
        Self { now: Instant::now(), now_ms: i64::try_from(unix_ms()).unwrap_or(i64::MAX) }
    }
}

fn nanoseconds(time: Timespec) -> u64 {
    // Both are positive: the time since the machine started.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// The monotonic clocks that commands are timed by. The coarse one moves with the kernel's ticks, every 1 to 10 ms.
pub(crate) fn monotonic() -> Clocks {
    Clocks {
        exact: || nanoseconds(clock_gettime(ClockId::Monotonic)),
        coarse: || nanoseconds(clock_gettime(ClockId::MonotonicCoarse)),
        coarse_step: nanoseconds(clock_getres(ClockId::MonotonicCoarse)),
    }
}
