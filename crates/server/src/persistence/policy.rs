//! When to sync, to rewrite the log and to take a snapshot: pure decisions over plain numbers.
//!
//! Instants are a monotonic clock's, as a [`Duration`] since the process started.

use std::time::Duration;

/// Under `everysec` a sync is started when the oldest unsynced byte is this old, so that it starts before the byte is
/// one second old even when the executor is late by a turn.
pub(crate) const EVERYSEC_START: Duration = Duration::from_millis(950);
/// Under `everysec` writes wait when the oldest unsynced byte is this old and its sync is not done.
pub(crate) const EVERYSEC_STALL: Duration = Duration::from_secs(2);

/// When log bytes reach stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// Before the reply.
    Always,
    /// At most a second later.
    EverySecond,
    /// When the operating system likes.
    Never,
}

/// What the sync schedule asks for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SyncStep {
    /// Nothing before this instant; `None` when nothing is unsynced.
    Idle(Option<Duration>),
    /// Start a sync in the background.
    Start,
    /// Wait for the running sync before anything else is acknowledged.
    Stall,
}

/// Keeps the age of the oldest byte that is not on stable storage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SyncSchedule {
    /// When the oldest byte that no sync has covered was written.
    oldest_unsynced: Option<Duration>,
    /// The same for bytes appended while the running sync runs.
    oldest_after_sync: Option<Duration>,
    running: bool,
}

impl SyncSchedule {
    /// A batch was appended at `now`.
    pub(crate) fn appended(&mut self, now: Duration) {
        if self.running {
            self.oldest_after_sync.get_or_insert(now);
        } else {
            self.oldest_unsynced.get_or_insert(now);
        }
    }

    /// A background sync of everything appended so far starts.
    pub(crate) fn started(&mut self) {
        self.running = true;
    }

    /// The background sync has ended well.
    pub(crate) fn finished(&mut self) {
        self.running = false;
        self.oldest_unsynced = self.oldest_after_sync.take();
    }

    /// The background sync has ended and covers nothing.
    pub(crate) fn failed(&mut self) {
        self.running = false;
        let after = self.oldest_after_sync.take();
        self.oldest_unsynced = self.oldest_unsynced.or(after);
    }

    /// Everything is on stable storage.
    pub(crate) fn all_synced(&mut self) {
        *self = Self::default();
    }

    /// True while a background sync runs.
    #[must_use]
    pub(crate) fn is_running(&self) -> bool {
        self.running
    }

    /// Age of the oldest byte that is not on stable storage; zero when there is none.
    #[must_use]
    pub(crate) fn unsynced_age(&self, now: Duration) -> Duration {
        self.oldest_unsynced
            .or(self.oldest_after_sync)
            .map_or(Duration::ZERO, |oldest| now.saturating_sub(oldest))
    }

    /// What to do now.
    #[must_use]
    pub(crate) fn step(&self, mode: SyncMode, now: Duration) -> SyncStep {
        let Some(oldest) = self.oldest_unsynced else { return SyncStep::Idle(None) };
        match mode {
            SyncMode::Always | SyncMode::Never => SyncStep::Idle(None),
            SyncMode::EverySecond if self.running => {
                let stall = oldest + EVERYSEC_STALL;
                if now >= stall { SyncStep::Stall } else { SyncStep::Idle(Some(stall)) }
            }
            SyncMode::EverySecond => {
                let start = oldest + EVERYSEC_START;
                if now >= start { SyncStep::Start } else { SyncStep::Idle(Some(start)) }
            }
        }
    }
}

/// Sizes that decide about a rewrite of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogSizes {
    /// Bytes of base and segments together.
    pub(crate) current: u64,
    /// Bytes of base and segments after the last rewrite or start.
    pub(crate) at_last_rewrite: u64,
    /// Bytes of the segments alone.
    pub(crate) incremental: u64,
}

/// `auto-aof-rewrite-*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RewriteRules {
    /// Growth since the last rewrite that triggers one, in percent; 0 = off.
    pub(crate) growth_percentage: u64,
    /// No rewrite for growth below this size, in bytes.
    pub(crate) min_size: u64,
    /// Size of the segments that triggers a rewrite whatever the growth, in bytes; 0 = off.
    pub(crate) max_size: u64,
}

impl RewriteRules {
    /// True when the log is to be rewritten. Source of the growth rule: Redis, `redis.conf`, `auto-aof-rewrite-percentage`.
    #[must_use]
    pub(crate) fn due(&self, sizes: LogSizes) -> bool {
        let base = sizes.at_last_rewrite.max(1);
        let growth = sizes.current.saturating_sub(sizes.at_last_rewrite).saturating_mul(100) / base;
        let by_growth =
            self.growth_percentage > 0 && sizes.current > self.min_size && growth >= self.growth_percentage;
        by_growth || (self.max_size > 0 && sizes.incremental > self.max_size)
    }
}

/// One `save` rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaveRule {
    /// At least this long since the last snapshot.
    pub(crate) period: Duration,
    /// At least this many changes since the last snapshot.
    pub(crate) min_changes: u64,
}

/// True when one of the rules asks for a snapshot.
#[must_use]
pub(crate) fn save_due(rules: &[SaveRule], changes: u64, since_last_save: Duration) -> bool {
    changes > 0 && rules.iter().any(|rule| changes >= rule.min_changes && since_last_save >= rule.period)
}

/// First wait after a failed background job (Redis: `CONFIG_BGSAVE_RETRY_DELAY`, five seconds).
const RETRY_MIN: Duration = Duration::from_secs(5);
/// Longest wait between failing background jobs.
const RETRY_MAX: Duration = Duration::from_secs(3600);

/// Spaces the attempts of a background job that fails, so that a full disk does not see a storm of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct JobBackoff {
    failures: u32,
    not_before: Option<Duration>,
}

impl JobBackoff {
    /// The job failed at `now`.
    pub(crate) fn failed(&mut self, now: Duration) {
        let wait = RETRY_MIN.saturating_mul(1 << self.failures.min(16)).min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + wait);
    }

    /// Failures since the last success.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// The job succeeded.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// True when an automatic attempt may be made.
    #[must_use]
    pub(crate) fn allows(&self, now: Duration) -> bool {
        self.not_before.is_none_or(|not_before| now >= not_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn everysec_starts_a_sync_before_the_oldest_byte_is_a_second_old() {
        let mut schedule = SyncSchedule::default();
        assert_eq!(schedule.step(SyncMode::EverySecond, ms(0)), SyncStep::Idle(None));
        schedule.appended(ms(100));
        schedule.appended(ms(900));
        assert_eq!(schedule.step(SyncMode::EverySecond, ms(500)), SyncStep::Idle(Some(ms(1050))));
        assert_eq!(schedule.step(SyncMode::EverySecond, ms(1050)), SyncStep::Start);
        assert!(EVERYSEC_START < ms(1000));
    }

    #[test]
    fn everysec_stalls_writes_at_two_seconds_and_counts_from_the_oldest_byte() {
        let mut schedule = SyncSchedule::default();
        schedule.appended(ms(0));
        schedule.started();
        schedule.appended(ms(1500));
        assert_eq!(schedule.step(SyncMode::EverySecond, ms(1999)), SyncStep::Idle(Some(ms(2000))));
        assert_eq!(schedule.step(SyncMode::EverySecond, ms(2000)), SyncStep::Stall);
        schedule.finished();
        assert_eq!(schedule.unsynced_age(ms(2000)), ms(500));
        assert_eq!(schedule.step(SyncMode::EverySecond, ms(2000)), SyncStep::Idle(Some(ms(2450))));
        schedule.started();
        schedule.finished();
        assert_eq!(schedule.unsynced_age(ms(9000)), Duration::ZERO);
    }

    #[test]
    fn a_sync_that_covers_nothing_leaves_the_oldest_byte() {
        let mut schedule = SyncSchedule::default();
        schedule.appended(ms(0));
        schedule.started();
        schedule.appended(ms(500));
        schedule.failed();
        assert_eq!(schedule.unsynced_age(ms(2000)), ms(2000));
        schedule.all_synced();
        schedule.started();
        schedule.appended(ms(500));
        schedule.failed();
        schedule.appended(ms(700));
        assert_eq!(schedule.unsynced_age(ms(2000)), ms(1500));
    }

    #[test]
    fn always_and_no_never_sync_in_the_background() {
        let mut schedule = SyncSchedule::default();
        schedule.appended(ms(0));
        assert_eq!(schedule.step(SyncMode::Always, ms(9000)), SyncStep::Idle(None));
        assert_eq!(schedule.step(SyncMode::Never, ms(9000)), SyncStep::Idle(None));
    }

    #[test]
    fn the_log_is_rewritten_by_growth_above_the_minimum_or_by_size() {
        let rules = RewriteRules { growth_percentage: 100, min_size: 1000, max_size: 5000 };
        let check = |current, at_last_rewrite, incremental, expected| {
            assert_eq!(rules.due(LogSizes { current, at_last_rewrite, incremental }), expected);
        };
        check(999, 10, 989, false);
        check(1001, 10, 991, true);
        check(1900, 1000, 900, false);
        check(2000, 1000, 1000, true);
        check(100_000, 95_000, 5000, false);
        check(100_001, 95_000, 5001, true);
        let off = RewriteRules { growth_percentage: 0, max_size: 0, ..rules };
        assert!(!off.due(LogSizes { current: u64::MAX, at_last_rewrite: 1, incremental: u64::MAX }));
    }

    #[test]
    fn save_rules_need_both_time_and_changes() {
        let rules = [
            SaveRule { period: Duration::from_secs(60), min_changes: 100 },
            SaveRule { period: Duration::from_secs(900), min_changes: 1 },
        ];
        let check = |changes, seconds, expected| {
            assert_eq!(
                save_due(&rules, changes, Duration::from_secs(seconds)),
                expected,
                "{changes} {seconds}"
            );
        };
        check(100, 59, false);
        check(99, 60, false);
        check(100, 60, true);
        check(1, 899, false);
        check(1, 900, true);
        check(0, 10_000, false);
    }

    #[test]
    fn failing_jobs_are_spaced_further_and_further() {
        let mut backoff = JobBackoff::default();
        assert!(backoff.allows(ms(0)));
        backoff.failed(ms(0));
        assert!(!backoff.allows(ms(4999)));
        assert!(backoff.allows(ms(5000)));
        backoff.failed(ms(5000));
        assert!(!backoff.allows(ms(14_999)));
        for _ in 0..100 {
            backoff.failed(ms(0));
        }
        assert!(backoff.allows(RETRY_MAX));
        backoff.succeeded();
        assert!(backoff.allows(ms(0)));
    }
}
