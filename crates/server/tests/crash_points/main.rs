//! A power cut in the middle of every call that changes the disk, for every protocol of persistence, on a simulated
//! disk that forgets, tears and reorders what was not synced; then recovery through the real code, and again a power
//! cut in the middle of each of its calls.
//!
//! After each of these the server must start, with a dataset that it had after some batch: not before the newest one
//! that the strategy promises to keep (under `always` the newest acknowledged one), so that nothing acknowledged is
//! lost, nothing deleted is back, and no transaction is half there. What a start has shown must then survive the next
//! power cut, and the server must go on from there through another clean stop and start.
//!
//! Every call of a protocol is cut short. Recovery is cut short on one of `HOLDFAST_CRASH_SHARE` disks (default 61, and 241
//! with a log of commands alone; 1 for all of them), `HOLDFAST_CRASH_DEPTH` times in a row (default 1, that is two power
//! cuts).

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

/// Prints a line that is shown for passing tests too: the test runner keeps what `println!` says.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

mod commands_alone;
mod corruption;
mod explore;
mod faults;
mod nobody;
mod scenarios;
#[path = "../common/value.rs"]
mod value;
mod world;
