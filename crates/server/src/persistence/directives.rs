//! The `persist-*` directives besides the strategy: at which moments a persistence point is taken.
//!
//! ```text
//! persist-{before|after}-EVENT          yes|no     take a point at this moment
//! persist-{before|after}-EVENT-delay    SECONDS    before: a point of this age counts; after: take it this much later
//! EVENT = fork | exec | wait | sync | replica-linkup | replica-sync | sys-crash
//!
//! persist-on-warning                    yes|no     take a point when a warning is raised; see [`ladder`]
//! persist-on-warning-delay              SECONDS
//! persist-on-warning-max-delay          SECONDS
//! LEVEL                                 NUMBER
//! LEVEL-delay | LEVEL-reset | LEVEL-reset-delay    SECONDS
//! LEVEL = persist-on-warning-max-count [-reset-on-warning]{0..8}
//! ```
//!
//! A *persistence point* makes everything executed so far durable: with a log it is appended and synced, without one a
//! snapshot is taken. This module knows the names, the values and the moments; taking a point is the executor's part.

pub(crate) mod ladder;

use std::fmt;
use std::time::Duration;

use ladder::{LEVELS, LevelSettings};
pub(crate) use ladder::{Ladder, LadderSettings, WarningKind};

/// Longest time that a directive may name: a year, so that sums of them cannot leave the range of a clock.
pub(crate) const SECONDS_MAX: u32 = 365 * 24 * 60 * 60;
/// Largest count that a directive may name.
pub(crate) const COUNT_MAX: u32 = 1_000_000_000;

/// A moment at which a point can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A background job (snapshot or log rewrite) starts; nothing forks, the name is the article's.
    Fork,
    /// `EXEC` of a transaction.
    Exec,
    /// `WAIT` or `WAITAOF`.
    Wait,
    /// A replica asks for a full synchronisation.
    Sync,
    /// The link of a replica becomes online.
    ReplicaLinkup,
    /// This server, as a replica, replaces its dataset.
    ReplicaSync,
    /// The start after an unclean stop.
    SysCrash,
}

impl Event {
    /// Every event, in the order of the grid.
    pub const ALL: [Self; 7] = [
        Self::Fork,
        Self::Exec,
        Self::Wait,
        Self::Sync,
        Self::ReplicaLinkup,
        Self::ReplicaSync,
        Self::SysCrash,
    ];

    /// The event's part of a directive's name.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Exec => "exec",
            Self::Wait => "wait",
            Self::Sync => "sync",
            Self::ReplicaLinkup => "replica-linkup",
            Self::ReplicaSync => "replica-sync",
            Self::SysCrash => "sys-crash",
        }
    }

    /// True if this version can raise the event; there is no replication yet.
    #[must_use]
    pub(crate) fn can_occur(self) -> bool {
        !matches!(self, Self::Sync | Self::ReplicaLinkup | Self::ReplicaSync)
    }
}

/// Which side of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Before it takes effect.
    Before,
    /// Once it has taken effect.
    After,
}

impl Side {
    /// Both sides.
    pub const ALL: [Self; 2] = [Self::Before, Self::After];

    fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Point {
    enabled: bool,
    delay_s: u32,
}

/// The grid: at which events a point is taken. Nothing is, by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersistPoints {
    grid: [[Point; 2]; Event::ALL.len()],
}

impl PersistPoints {
    /// Whether everything must be durable before `event` takes effect. A point that is not older than the returned time
    /// is enough; zero: everything executed so far.
    #[must_use]
    pub fn before(&self, event: Event) -> Option<Duration> {
        self.delay(Side::Before, event)
    }

    /// Whether a point is taken after `event`, and how long after it. Any point taken in between, by whatever reason,
    /// takes its place.
    #[must_use]
    pub(crate) fn after(&self, event: Event) -> Option<Duration> {
        self.delay(Side::After, event)
    }

    fn delay(&self, side: Side, event: Event) -> Option<Duration> {
        let point = self.point(side, event);
        point.enabled.then(|| Duration::from_secs(point.delay_s.into()))
    }

    fn point(&self, side: Side, event: Event) -> &Point {
        &self.grid[event as usize][side as usize]
    }

    fn point_mut(&mut self, side: Side, event: Event) -> &mut Point {
        &mut self.grid[event as usize][side as usize]
    }
}

/// What all `persist-before-*`, `persist-after-*` and `persist-on-warning*` directives say together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersistSettings {
    /// The grid of events.
    pub points: PersistPoints,
    /// Points on warnings.
    pub(crate) ladder: LadderSettings,
}

/// One of the directives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PersistDirective {
    /// `persist-{before|after}-EVENT`.
    Point(Side, Event),
    /// `persist-{before|after}-EVENT-delay`.
    PointDelay(Side, Event),
    /// `persist-on-warning`.
    OnWarning,
    /// `persist-on-warning-delay`.
    OnWarningDelay,
    /// `persist-on-warning-max-delay`.
    OnWarningMaxDelay,
    /// A directive of a level of the ladder, counted from zero (`persist-on-warning-max-count`).
    Level(usize, LevelPart),
}

/// The four directives of a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelPart {
    /// How many.
    Count,
    /// When the limit is reached: one more each so many seconds.
    Delay,
    /// Seconds without a warning until the count returns to zero.
    Reset,
    /// How many seconds later that takes effect.
    ResetDelay,
}

impl LevelPart {
    const ALL: [Self; 4] = [Self::Count, Self::Delay, Self::Reset, Self::ResetDelay];

    fn suffix(self) -> &'static str {
        match self {
            Self::Count => "",
            Self::Delay => "-delay",
            Self::Reset => "-reset",
            Self::ResetDelay => "-reset-delay",
        }
    }
}

/// Why a name that begins with `persist-on-warning` or has the shape of the grid is none of the directives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PersistNameError {
    /// Not one of these directives at all.
    #[error("not a persist directive")]
    Unknown,
    /// A ladder with too many levels.
    #[error("the ladder of limits has at most {} levels of -reset-on-warning", LEVELS - 1)]
    TooDeep,
}

/// Why a value is refused; in the words that Redis uses for its own directives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PersistValueError {
    /// Neither `yes` nor `no`.
    #[error("argument must be 'yes' or 'no'")]
    NotYesNo,
    /// Not a number in range.
    #[error("argument must be between 0 and {max} inclusive, or 'yes' (1) or 'no' (0)")]
    NotInRange {
        /// The largest number.
        max: u32,
    },
}

const WARNING: &str = "persist-on-warning";
const LEVEL: &str = "persist-on-warning-max-count";
const DEEPER: &str = "-reset-on-warning";

impl PersistDirective {
    /// Every directive, in the order of the documentation.
    #[must_use]
    pub(crate) fn all() -> Vec<Self> {
        let grid = Event::ALL.into_iter().flat_map(|event| {
            Side::ALL
                .into_iter()
                .flat_map(move |side| [Self::Point(side, event), Self::PointDelay(side, event)])
        });
        let warning = [Self::OnWarning, Self::OnWarningDelay, Self::OnWarningMaxDelay];
        let levels = (0..LEVELS)
            .flat_map(|level| LevelPart::ALL.into_iter().map(move |part| Self::Level(level, part)));
        grid.chain(warning).chain(levels).collect()
    }

    /// The directive called `name` (lower case).
    /// # Errors
    /// [`PersistNameError::TooDeep`] for a ladder of more levels than there are, otherwise `Unknown`.
    pub(crate) fn from_name(name: &str) -> Result<Self, PersistNameError> {
        if let Some(mut rest) = name.strip_prefix(LEVEL) {
            let mut level = 0;
            while let Some(deeper) = rest.strip_prefix(DEEPER) {
                rest = deeper;
                level += 1;
            }
            let part = LevelPart::ALL
                .into_iter()
                .find(|part| part.suffix() == rest)
                .ok_or(PersistNameError::Unknown)?;
            return if level < LEVELS {
                Ok(Self::Level(level, part))
            } else {
                Err(PersistNameError::TooDeep)
            };
        }
        match name.strip_prefix(WARNING) {
            Some("") => return Ok(Self::OnWarning),
            Some("-delay") => return Ok(Self::OnWarningDelay),
            Some("-max-delay") => return Ok(Self::OnWarningMaxDelay),
            _ => {}
        }
        let (side, rest) = Side::ALL
            .into_iter()
            .find_map(|side| Some((side, name.strip_prefix("persist-")?.strip_prefix(side.name())?)))
            .ok_or(PersistNameError::Unknown)?;
        let event =
            |rest: &str| Event::ALL.into_iter().find(|event| rest.strip_prefix('-') == Some(event.name()));
        if let Some(event) = event(rest) {
            return Ok(Self::Point(side, event));
        }
        rest.strip_suffix("-delay")
            .and_then(event)
            .map(|event| Self::PointDelay(side, event))
            .ok_or(PersistNameError::Unknown)
    }

    /// What a user may write behind the name.
    #[must_use]
    pub(crate) fn allowed(self) -> &'static str {
        match self {
            Self::Point(..) | Self::OnWarning => "yes or no",
            Self::Level(_, LevelPart::Count) => "a number from 0 to 1000000000 (no = 0, yes = 1)",
            _ => "a number of seconds from 0 to 31536000 (no = 0, yes = 1)",
        }
    }
}

impl fmt::Display for PersistDirective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Point(side, event) => write!(f, "persist-{}-{}", side.name(), event.name()),
            Self::PointDelay(side, event) => write!(f, "persist-{}-{}-delay", side.name(), event.name()),
            Self::OnWarning => f.write_str(WARNING),
            Self::OnWarningDelay => write!(f, "{WARNING}-delay"),
            Self::OnWarningMaxDelay => write!(f, "{WARNING}-max-delay"),
            Self::Level(level, part) => write!(f, "{LEVEL}{}{}", DEEPER.repeat(*level), part.suffix()),
        }
    }
}

enum Slot<'a> {
    Flag(&'a mut bool),
    Number(&'a mut u32, u32),
}

impl PersistSettings {
    /// Takes over the value of one directive.
    /// # Errors
    /// [`PersistValueError`]; nothing has changed then.
    pub(crate) fn set(&mut self, directive: PersistDirective, value: &str) -> Result<(), PersistValueError> {
        let flag = match value.to_ascii_lowercase().as_str() {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        };
        match self.slot(directive) {
            Slot::Flag(slot) => *slot = flag.ok_or(PersistValueError::NotYesNo)?,
            Slot::Number(slot, max) => {
                *slot = flag
                    .map(u32::from)
                    .or_else(|| value.parse().ok())
                    .filter(|number| *number <= max)
                    .ok_or(PersistValueError::NotInRange { max })?;
            }
        }
        Ok(())
    }

    /// The value of one directive, in the form in which it can be set.
    #[must_use]
    pub(crate) fn value(&self, directive: PersistDirective) -> String {
        // The table of slots exists once, for writing; the settings are small enough to copy for a reader.
        match self.clone().slot(directive) {
            Slot::Flag(true) => "yes".to_owned(),
            Slot::Flag(false) => "no".to_owned(),
            Slot::Number(number, _) => number.to_string(),
        }
    }

    /// The directives that are set to `yes` although their event cannot occur in this version.
    #[must_use]
    pub(crate) fn without_event(&self) -> Vec<PersistDirective> {
        let impossible = Event::ALL.into_iter().filter(|event| !event.can_occur());
        impossible
            .flat_map(|event| Side::ALL.map(|side| (side, event)))
            .filter(|&(side, event)| self.points.point(side, event).enabled)
            .map(|(side, event)| PersistDirective::Point(side, event))
            .collect()
    }

    /// The delays of points that are taken at once, at the start that finds the crash.
    #[must_use]
    pub(crate) fn delays_without_effect(&self) -> Vec<PersistDirective> {
        let sides = Side::ALL.into_iter().filter(|&side| {
            let point = self.points.point(side, Event::SysCrash);
            point.enabled && point.delay_s > 0
        });
        sides.map(|side| PersistDirective::PointDelay(side, Event::SysCrash)).collect()
    }

    fn slot(&mut self, directive: PersistDirective) -> Slot<'_> {
        let Self { points, ladder } = self;
        match directive {
            PersistDirective::Point(side, event) => Slot::Flag(&mut points.point_mut(side, event).enabled),
            PersistDirective::PointDelay(side, event) => {
                Slot::Number(&mut points.point_mut(side, event).delay_s, SECONDS_MAX)
            }
            PersistDirective::OnWarning => Slot::Flag(&mut ladder.enabled),
            PersistDirective::OnWarningDelay => Slot::Number(&mut ladder.delay_s, SECONDS_MAX),
            PersistDirective::OnWarningMaxDelay => Slot::Number(&mut ladder.max_delay_s, SECONDS_MAX),
            PersistDirective::Level(level, part) => {
                let LevelSettings { count, delay_s, reset_s, reset_delay_s } = &mut ladder.levels[level];
                match part {
                    LevelPart::Count => Slot::Number(count, COUNT_MAX),
                    LevelPart::Delay => Slot::Number(delay_s, SECONDS_MAX),
                    LevelPart::Reset => Slot::Number(reset_s, SECONDS_MAX),
                    LevelPart::ResetDelay => Slot::Number(reset_delay_s, SECONDS_MAX),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directive_is_found_by_its_name_and_keeps_its_own_value() {
        let all = PersistDirective::all();
        assert_eq!(all.len(), 7 * 4 + 3 + 9 * 4);
        let mut settings = PersistSettings::default();
        for directive in &all {
            assert_eq!(PersistDirective::from_name(&directive.to_string()), Ok(*directive));
            settings.set(*directive, "yes").unwrap();
            let changed =
                all.iter().filter(|other| settings.value(**other) != "no" && settings.value(**other) != "0");
            assert_eq!(changed.collect::<Vec<_>>(), [directive]);
            settings.set(*directive, "no").unwrap();
        }
        assert_eq!(settings, PersistSettings::default());
    }

    #[test]
    fn names_follow_one_rule() {
        fn check(name: &str, expected: Result<PersistDirective, PersistNameError>) {
            assert_eq!(PersistDirective::from_name(name), expected, "{name}");
        }
        let deepest = format!("persist-on-warning-max-count{}", "-reset-on-warning".repeat(8));
        check(&deepest, Ok(PersistDirective::Level(8, LevelPart::Count)));
        check(&format!("{deepest}-reset-delay"), Ok(PersistDirective::Level(8, LevelPart::ResetDelay)));
        check(&format!("{deepest}-reset-on-warning"), Err(PersistNameError::TooDeep));
        check(&format!("{deepest}-reset-on-warning-delay"), Err(PersistNameError::TooDeep));
        check(
            "persist-after-replica-sync-delay",
            Ok(PersistDirective::PointDelay(Side::After, Event::ReplicaSync)),
        );
        for unknown in [
            "persist-after-",
            "persist-after-delay",
            "persist-after-exec-delay-delay",
            "persist-between-exec",
            "persist-on-warning-reset",
            "persist-on-warning-max-count-",
            "persist-on-warning-max-counts",
            "persist",
        ] {
            check(unknown, Err(PersistNameError::Unknown));
        }
    }

    #[test]
    fn values_are_checked() {
        fn check(name: &str, value: &str, expected: Option<&str>) {
            let directive = PersistDirective::from_name(name).unwrap();
            let mut settings = PersistSettings::default();
            let result = settings.set(directive, value).ok().map(|()| settings.value(directive));
            assert_eq!(result.as_deref(), expected, "{name} {value}");
        }
        check("persist-after-exec", "YES", Some("yes"));
        check("persist-after-exec", "1", None);
        check("persist-after-exec-delay", "yes", Some("1"));
        check("persist-after-exec-delay", "no", Some("0"));
        check("persist-after-exec-delay", "31536000", Some("31536000"));
        check("persist-after-exec-delay", "31536001", None);
        check("persist-after-exec-delay", "-1", None);
        check("persist-on-warning-max-count", "1000000000", Some("1000000000"));
        check("persist-on-warning-max-count", "1000000001", None);
        check("persist-on-warning-max-count", "", None);
    }

    #[test]
    fn points_answer_for_their_side_and_event() {
        let mut settings = PersistSettings::default();
        for event in Event::ALL {
            assert_eq!((settings.points.before(event), settings.points.after(event)), (None, None));
        }
        settings.set(PersistDirective::PointDelay(Side::After, Event::Fork), "7").unwrap();
        assert_eq!(settings.points.after(Event::Fork), None, "a delay alone takes no point");
        settings.set(PersistDirective::Point(Side::After, Event::Fork), "yes").unwrap();
        settings.set(PersistDirective::Point(Side::Before, Event::Exec), "yes").unwrap();
        assert_eq!(settings.points.after(Event::Fork), Some(Duration::from_secs(7)));
        assert_eq!(settings.points.before(Event::Fork), None);
        assert_eq!(settings.points.before(Event::Exec), Some(Duration::ZERO));
    }

    #[test]
    fn directives_without_an_event_are_named() {
        let mut settings = PersistSettings::default();
        settings.set(PersistDirective::Point(Side::After, Event::ReplicaLinkup), "yes").unwrap();
        settings.set(PersistDirective::Point(Side::After, Event::SysCrash), "yes").unwrap();
        settings.set(PersistDirective::PointDelay(Side::After, Event::Sync), "5").unwrap();
        let names: Vec<_> = settings.without_event().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["persist-after-replica-linkup"]);
        assert_eq!(settings.delays_without_effect(), []);
        settings.set(PersistDirective::PointDelay(Side::After, Event::SysCrash), "5").unwrap();
        settings.set(PersistDirective::PointDelay(Side::Before, Event::SysCrash), "5").unwrap();
        let names: Vec<_> = settings.delays_without_effect().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["persist-after-sys-crash-delay"], "the other is off");
    }
}
