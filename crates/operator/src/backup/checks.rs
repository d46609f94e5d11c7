//! When an ended backup is looked for in its bucket again.
//!
//! Kept in memory, for a time that is lost costs one more question: a new operator process spreads the first ones over the whole
//! interval, so that a bucket with ten thousand backups is asked about one every other second, whatever starts together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::spread::spread;

/// Between two looks for one backup: two small requests, and one for its credentials. Somebody who empties a bucket is noticed on
/// the same day.
const INTERVAL: Duration = Duration::from_secs(6 * 3600);
/// The part of the interval in which nothing is looked for at first: a process that has just started has enough to ask.
const QUIET_SHARE: f64 = 1.0 / 12.0;

/// Namespace and name of a StoreBackup.
type Key = (String, String);

/// Says when a backup is due. A clone is the same.
#[derive(Debug, Clone)]
pub struct BackupChecks {
    interval: Duration,
    due: Arc<Mutex<HashMap<Key, Instant>>>,
}

impl Default for BackupChecks {
    fn default() -> Self {
        Self::every(INTERVAL)
    }
}

impl BackupChecks {
    /// Looks for each backup once in `interval`.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        Self { interval, due: Arc::default() }
    }

    /// The time until the backup is due; zero: it is. Asked for the first time, it is given one.
    pub(crate) fn left(&self, namespace: &str, name: &str, now: Instant) -> Duration {
        let mut due = self.lock();
        let key = (namespace.to_owned(), name.to_owned());
        let at = due.entry(key).or_insert_with(|| now + first(self.interval, rand::random()));
        at.saturating_duration_since(now)
    }

    /// The backup was looked for; returns the time until it is due again.
    pub(crate) fn done(&self, namespace: &str, name: &str, now: Instant) -> Duration {
        let pause = spread(self.interval);
        self.lock().insert((namespace.to_owned(), name.to_owned()), now + pause);
        pause
    }

    /// The backup is gone.
    pub(crate) fn forget(&self, namespace: &str, name: &str) {
        self.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Instant>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pause before the first look, at `position` (0 to 1) of what is possible.
fn first(interval: Duration, position: f64) -> Duration {
    interval.mul_f64(QUIET_SHARE + (1.0 - QUIET_SHARE) * position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_looks_come_one_after_the_other_and_none_at_once() {
        assert_eq!(first(INTERVAL, 0.0), Duration::from_secs(1800));
        assert_eq!(first(INTERVAL, 1.0), INTERVAL);
        let (checks, now) = (BackupChecks::default(), Instant::now());
        let left = checks.left("shop", "nightly", now);
        assert!((Duration::from_secs(1800)..=INTERVAL).contains(&left), "{left:?}");
        assert_eq!(checks.left("shop", "nightly", now), left, "asking again puts nothing off");
        assert_eq!(checks.left("shop", "nightly", now + left), Duration::ZERO, "it is due");
    }

    #[test]
    fn each_backup_is_looked_for_once_in_an_interval() {
        let (checks, now) = (BackupChecks::every(Duration::from_secs(400)), Instant::now());
        let pause = checks.done("shop", "nightly", now);
        assert!((Duration::from_secs(300)..=Duration::from_secs(500)).contains(&pause), "{pause:?}");
        assert_eq!(checks.left("shop", "nightly", now), pause);
        checks.forget("shop", "nightly");
        assert!(checks.lock().is_empty());
    }
}
