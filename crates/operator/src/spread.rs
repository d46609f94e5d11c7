//! Pauses that do not keep step: after a start of the operator, or an outage, everything is looked at in the same moment, and
//! with equal pauses it would be so for ever.

use std::time::Duration;

/// Largest difference from the pause that is asked for, as a share of it.
const SHARE_MAX: f64 = 0.25;

/// `pause`, a little shorter or longer at random.
pub(crate) fn spread(pause: Duration) -> Duration {
    at(pause, rand::random())
}

/// `pause` with the difference at `position` (0 to 1) of what is possible.
fn at(pause: Duration, position: f64) -> Duration {
    pause.mul_f64(1.0 - SHARE_MAX + 2.0 * SHARE_MAX * position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_stays_what_it_is_on_average() {
        let pause = Duration::from_secs(40);
        assert_eq!(at(pause, 0.0), Duration::from_secs(30));
        assert_eq!(at(pause, 0.5), pause);
        assert_eq!(at(pause, 1.0), Duration::from_secs(50));
        assert_eq!(spread(Duration::ZERO), Duration::ZERO);
    }
}
