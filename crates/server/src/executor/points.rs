//! When persistence points are wanted: the grid of events, delays, and the ladder of warnings. Pure but for the clock.

use std::time::{Duration, Instant};

use crate::config::Config;
use crate::persistence::directives::{Event, Ladder, PersistPoints, WarningKind};
use crate::persistence::policy::JobBackoff;

/// Name of the directive that takes a point behind a wait, whose answer is then about what was written before.
pub(super) const AFTER_WAIT: &str = "persist-after-wait";

/// Names of the directives by event, for INFO.
fn after_name(event: Event) -> &'static str {
    match event {
        Event::Fork => "persist-after-fork",
        Event::Exec => "persist-after-exec",
        Event::Wait => AFTER_WAIT,
        Event::Sync => "persist-after-sync",
        Event::ReplicaLinkup => "persist-after-replica-linkup",
        Event::ReplicaSync => "persist-after-replica-sync",
        Event::SysCrash => "persist-after-sys-crash",
    }
}

/// What is wanted, and since when.
pub(crate) struct Points {
    grid: PersistPoints,
    ladder: Ladder,
    clock: Instant,
    last_taken: Option<Duration>,
    /// A point that is due later, and the directive that asked for it.
    due: Option<(Duration, &'static str)>,
    /// A point that must be taken before the replies of this turn leave.
    now: Option<&'static str>,
    /// Spaces the attempts at points that nobody waits for.
    backoff: JobBackoff,
}

impl Points {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            grid: config.persist.points.clone(),
            ladder: Ladder::new(config.persist.ladder.clone()),
            clock: Instant::now(),
            last_taken: None,
            due: None,
            now: None,
            backoff: JobBackoff::default(),
        }
    }

    pub(crate) fn reconfigure(&mut self, config: &Config) {
        self.grid = config.persist.points.clone();
        self.ladder.reconfigure(config.persist.ladder.clone());
    }

    /// Whether a point has to be taken before `event`; one that is young enough counts.
    pub(crate) fn before(&self, event: Event) -> bool {
        let Some(age_max) = self.grid.before(event) else { return false };
        let young_enough =
            |taken: Duration| age_max > Duration::ZERO && self.clock.elapsed() - taken <= age_max;
        !self.last_taken.is_some_and(young_enough)
    }

    /// `event` has happened. True when a point must be taken before the replies of this turn leave.
    pub(crate) fn after(&mut self, event: Event) -> bool {
        let Some(delay) = self.grid.after(event) else { return false };
        let name = after_name(event);
        if delay.is_zero() {
            self.now = Some(name);
            return true;
        }
        self.becomes_due(delay, name);
        false
    }

    fn becomes_due(&mut self, delay: Duration, name: &'static str) {
        let at = self.clock.elapsed() + delay;
        if self.due.is_none_or(|(due, _)| at < due) {
            self.due = Some((at, name));
        }
    }

    /// A warning was raised.
    pub(crate) fn warned(&mut self, kind: WarningKind) {
        self.ladder.on_warning(kind, self.clock.elapsed());
    }

    /// The directive on whose account a point has to be taken now.
    pub(crate) fn wanted(&mut self) -> Option<&'static str> {
        let now = self.clock.elapsed();
        if let Some(name) = self.now {
            return Some(name);
        }
        if !self.backoff.allows(now) {
            return None;
        }
        if let Some((due, name)) = self.due
            && now >= due
        {
            return Some(name);
        }
        self.ladder.due(now).then_some("persist-on-warning")
    }

    /// A point was taken, whoever asked for it.
    pub(crate) fn taken(&mut self) {
        let now = self.clock.elapsed();
        if self.ladder.due(now) {
            self.ladder.taken(now);
        } else {
            self.ladder.covered();
        }
        self.last_taken = Some(now);
        self.due = None;
        self.now = None;
        self.backoff.succeeded();
    }

    /// The point that [`Points::wanted`] has named could not be taken. It stays wanted, though no reply waits for it any more:
    /// it is tried again after a pause, which grows with every failure.
    pub(crate) fn failed(&mut self) {
        self.backoff.failed(self.clock.elapsed());
        if let Some(name) = self.now.take() {
            self.becomes_due(Duration::ZERO, name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::directives::PersistDirective;

    fn points(directives: &[&str]) -> Points {
        let mut config = Config::default();
        for name in directives {
            config.persist.set(PersistDirective::from_name(name).unwrap(), "yes").unwrap();
        }
        Points::new(&config)
    }

    #[test]
    fn a_point_that_failed_is_not_young_enough_and_stays_wanted() {
        let mut points = points(&["persist-after-exec", "persist-before-wait", "persist-before-wait-delay"]);
        assert!(points.after(Event::Exec) && !points.after(Event::Wait));
        assert_eq!(points.wanted(), Some("persist-after-exec"));
        points.failed();
        assert!(points.before(Event::Wait), "nothing was made durable");
        assert_eq!(points.wanted(), None, "it is tried again after a pause");
        points.backoff = JobBackoff::default();
        assert_eq!(points.wanted(), Some("persist-after-exec"));
        points.failed();
        assert!(points.after(Event::Exec));
        assert_eq!(points.wanted(), Some("persist-after-exec"), "a reply waits for it");
        points.taken();
        assert_eq!(points.wanted(), None);
        assert!(!points.before(Event::Wait));
    }
}
