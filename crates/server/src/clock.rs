//! Wall time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Wall time in milliseconds since the Unix epoch.
#[must_use]
pub fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Wall time in microseconds since the Unix epoch.
#[must_use]
pub fn unix_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
