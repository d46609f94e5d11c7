//! The ladder of limits behind `persist-on-warning`: a storm of warnings must not become a storm of syncs.
//!
//! ```text
//! warning ──▶ wait `delay` after the latest one, at most `max-delay` after the first ──▶ point
//!                                                                                         │ counted by
//! level 0   at most `count` points in a window, then one more each `delay`                ▼
//!           window ends (count = 0)  `reset` after the latest warning, effective `reset-delay` later
//!                                    or by a warning of a kind that is new in the window ─┐ counted by
//! level 1   at most `count` such resets of level 0, then one more each `delay`            ▼
//!           count = 0 by its own `reset`, or by the same warning ─┐ counted by
//! level 2   at most `count` such resets of level 1, …             ▼
//! ```
//!
//! All levels obey the same rule. Zero means no limit for the points (level 0) and none at all for the resets (above);
//! as a time it means at once (`delay`, `reset-delay`), no limit (`max-delay`) or never (`reset`, `delay` of a level).
//! A point that a limit holds back stays wanted, and is taken as soon as the limit lets it.
//!
//! Instants are a monotonic clock's, as a [`Duration`] since the process started, and never go back.

use std::time::Duration;

/// Number of levels: the limit of points, and eight levels of `-reset-on-warning` above it.
pub(crate) const LEVELS: usize = 9;

/// A condition that the server raises itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WarningKind {
    /// A sync took longer than `warning-slow-sync-ms`.
    SlowSync,
    /// Memory rose above `warning-memory-percentage` of `maxmemory`.
    MemoryHigh,
    /// The volume filled above `warning-volume-percentage`.
    VolumeHigh,
    /// The wall clock jumped.
    ClockJump,
    /// A background job failed.
    JobFailed,
}

impl WarningKind {
    /// Every kind.
    pub(crate) const ALL: [Self; 5] =
        [Self::SlowSync, Self::MemoryHigh, Self::VolumeHigh, Self::ClockJump, Self::JobFailed];

    /// The name in metrics and logs.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SlowSync => "slow_sync",
            Self::MemoryHigh => "memory_high",
            Self::VolumeHigh => "volume_high",
            Self::ClockJump => "clock_jump",
            Self::JobFailed => "job_failed",
        }
    }
}

/// What the directives say of points on warnings. Times are seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LadderSettings {
    /// Take points on warnings at all.
    pub(crate) enabled: bool,
    /// Wait so long after the latest warning; those that come meanwhile share the point.
    pub(crate) delay_s: u32,
    /// But never longer than so long after the first of them; 0 = no limit.
    pub(crate) max_delay_s: u32,
    /// Level 0 limits the points, each further level the resets of the one before.
    pub(crate) levels: [LevelSettings; LEVELS],
}

/// One limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LevelSettings {
    /// At most so many; 0 = no limit for points, no reset on warning above.
    pub(crate) count: u32,
    /// With the limit reached, one more each so many seconds; 0 = none.
    pub(crate) delay_s: u32,
    /// The count returns to zero so many seconds after the latest warning; 0 = never.
    pub(crate) reset_s: u32,
    /// That takes effect so many seconds later, whether or not warnings come meanwhile.
    pub(crate) reset_delay_s: u32,
}

/// The state machine. It takes no point itself: ask [`Ladder::due`], take one, and say so with [`Ladder::taken`].
#[derive(Debug, Clone)]
pub(crate) struct Ladder {
    settings: LadderSettings,
    levels: [Level; LEVELS],
    wanted: Option<Wanted>,
    latest_warning: Option<Duration>,
    /// Kinds seen since level 0 was last reset.
    kinds: [bool; WarningKind::ALL.len()],
}

#[derive(Debug, Clone, Copy, Default)]
struct Level {
    used: u32,
    latest_use: Option<Duration>,
    /// A reset that is decided and not yet in effect.
    reset_at: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Wanted {
    first: Duration,
    latest: Duration,
}

impl Ladder {
    /// Starts with nothing wanted and every count at zero.
    #[must_use]
    pub(crate) fn new(settings: LadderSettings) -> Self {
        Self {
            settings,
            levels: [Level::default(); LEVELS],
            wanted: None,
            latest_warning: None,
            kinds: [false; WarningKind::ALL.len()],
        }
    }

    /// Takes over changed settings. Counts and a wanted point stay; switching warnings off forgets what is wanted.
    pub(crate) fn reconfigure(&mut self, settings: LadderSettings) {
        if !settings.enabled {
            self.wanted = None;
        }
        self.settings = settings;
    }

    /// A warning was raised.
    pub(crate) fn on_warning(&mut self, kind: WarningKind, now: Duration) {
        if !self.settings.enabled {
            return;
        }
        // Order matters: resets that time alone has decided come before this warning postpones the next one.
        self.apply_resets(now);
        self.latest_warning = Some(now);
        let seen = std::mem::replace(&mut self.kinds[kind as usize], true);
        if !seen && self.levels[0].used > 0 && self.use_level(1, now) {
            self.reset(0);
            self.kinds[kind as usize] = true;
        }
        self.wanted.get_or_insert(Wanted { first: now, latest: now }).latest = now;
    }

    /// When a point is due if no other warning comes; `None` if none is wanted or a limit holds it back for good.
    #[must_use]
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let Wanted { first, latest } = self.wanted?;
        let waited = latest + seconds(self.settings.delay_s);
        let wanted_at = match self.settings.max_delay_s {
            0 => waited,
            max => waited.min(first + seconds(max)),
        };
        if self.settings.levels[0].count == 0 {
            return Some(wanted_at);
        }
        Some(wanted_at.max(self.allowed_at(0)?))
    }

    /// True when a point is to be taken now.
    #[must_use]
    pub(crate) fn due(&self, now: Duration) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// The point that was due has been taken.
    pub(crate) fn taken(&mut self, now: Duration) {
        self.apply_resets(now);
        self.wanted = None;
        self.levels[0].used = self.levels[0].used.saturating_add(1);
        self.levels[0].latest_use = Some(now);
    }

    /// Another reason has made everything durable: nothing is wanted any more, and nothing is counted.
    pub(crate) fn covered(&mut self) {
        self.wanted = None;
    }

    /// The earliest instant at which the level lets one more pass, by its count, its delay or its own reset.
    fn allowed_at(&self, index: usize) -> Option<Duration> {
        let (level, settings) = (&self.levels[index], &self.settings.levels[index]);
        if level.used < settings.count {
            return Some(Duration::ZERO);
        }
        let by_delay = level
            .latest_use
            .filter(|_| settings.delay_s > 0)
            .map(|latest| latest + seconds(settings.delay_s));
        // A reset makes room only if the limit leaves any.
        let by_reset = self.reset_at(index).filter(|_| settings.count > 0);
        by_delay.into_iter().chain(by_reset).min()
    }

    /// When the count of the level returns to zero if no other warning comes.
    fn reset_at(&self, index: usize) -> Option<Duration> {
        let LevelSettings { reset_s, reset_delay_s, .. } = self.settings.levels[index];
        let decided = self.latest_warning.filter(|_| reset_s > 0).map(|latest| latest + seconds(reset_s));
        self.levels[index].reset_at.or(decided.map(|decided| decided + seconds(reset_delay_s)))
    }

    /// Uses one of the level's count, by way of the levels above if it is used up; false if none of them allows it.
    fn use_level(&mut self, index: usize, now: Duration) -> bool {
        let Some(settings) = self.settings.levels.get(index) else { return false };
        if settings.count == 0 {
            return false;
        }
        if self.allowed_at(index).is_none_or(|allowed| now < allowed) {
            if !self.use_level(index + 1, now) {
                return false;
            }
            self.reset(index);
        }
        self.levels[index].used = self.levels[index].used.saturating_add(1);
        self.levels[index].latest_use = Some(now);
        true
    }

    fn apply_resets(&mut self, now: Duration) {
        for index in 0..LEVELS {
            let LevelSettings { reset_s, reset_delay_s, .. } = self.settings.levels[index];
            if self.levels[index].used == 0 || reset_s == 0 {
                continue;
            }
            if self.levels[index].reset_at.is_none()
                && let Some(decided) = self.latest_warning.map(|latest| latest + seconds(reset_s))
                && now >= decided
            {
                self.levels[index].reset_at = Some(decided + seconds(reset_delay_s));
            }
            if self.levels[index].reset_at.is_some_and(|reset_at| now >= reset_at) {
                self.reset(index);
            }
        }
    }

    fn reset(&mut self, index: usize) {
        self.levels[index] = Level::default();
        if index == 0 {
            self.kinds = Default::default();
        }
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

#[cfg(test)]
mod tests;
