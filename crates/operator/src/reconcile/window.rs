//! Maintenance windows: when they are open, and when the next one opens. Pure.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::api::v1alpha1::MaintenanceWindow;

/// A maintenance window that can be obeyed.
#[derive(Debug, Clone)]
pub struct Window {
    /// Name, schedule and zone, for messages.
    title: String,
    schedule: Cron,
    duration: SignedDuration,
    zone: TimeZone,
}

/// What cannot be obeyed of a window: the field and why.
pub type Problem = (&'static str, String);

/// When a window opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Its name, schedule and zone.
    pub window: String,
    /// The time.
    pub time: Timestamp,
}

impl Window {
    /// Understands `window`.
    /// # Errors
    /// An unknown time zone, or a schedule that is not one or names no time at all.
    pub fn parse(window: &MaintenanceWindow) -> Result<Self, Problem> {
        let MaintenanceWindow { name, schedule: text, duration_seconds, time_zone } = window;
        let zone_name = time_zone.as_deref().unwrap_or("UTC");
        let zone = TimeZone::get(zone_name).map_err(|_| {
            (
                "timeZone",
                format!("there is no time zone {zone_name:?}; write its name as in Europe/Berlin, or UTC"),
            )
        })?;
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let wrong = |error: String| {
            let help = "write minute, hour, day of the month, month and day of the week, as in 0 3 * * 6";
            ("schedule", format!("{text:?} is not a cron schedule: {error}; {help}"))
        };
        let schedule = parser.parse(text).map_err(|error| wrong(error.to_string()))?;
        let duration = SignedDuration::from_secs((*duration_seconds).into());
        let title = format!("{name:?} ({text} {zone_name})");
        let window = Self { title, schedule, duration, zone };
        // Such as the 30th of February.
        window.next(Timestamp::UNIX_EPOCH).ok_or_else(|| wrong("there is no such day".to_owned()))?;
        Ok(window)
    }

    fn is_open(&self, now: Timestamp) -> bool {
        let opened = self.schedule.find_previous_occurrence(&now.to_zoned(self.zone.clone()), true);
        opened.is_ok_and(|opened| now.duration_since(opened.timestamp()) < self.duration)
    }

    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let opens = self.schedule.find_next_occurrence(&now.to_zoned(self.zone.clone()), false);
        opens.ok().map(|opens| opens.timestamp())
    }
}

/// The opening that has to be waited for; absent while a window is open, or when there are none.
#[must_use]
pub(crate) fn next_opening(windows: &[Window], now: Timestamp) -> Option<Opening> {
    if windows.iter().any(|window| window.is_open(now)) {
        return None;
    }
    let openings = windows.iter().filter_map(|window| Some((window.next(now)?, &window.title)));
    openings.min().map(|(time, window)| Opening { window: window.clone(), time })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(schedule: &str, minutes: u32, zone: Option<&str>) -> MaintenanceWindow {
        MaintenanceWindow {
            name: schedule.to_owned(),
            schedule: schedule.to_owned(),
            duration_seconds: minutes * 60,
            time_zone: zone.map(str::to_owned),
        }
    }

    #[track_caller]
    fn check(windows: &[MaintenanceWindow], now: &str, expected: Option<&str>) {
        let windows: Vec<Window> = windows.iter().map(|window| Window::parse(window).unwrap()).collect();
        let opening = next_opening(&windows, now.parse().unwrap()).map(|opening| opening.time.to_string());
        assert_eq!(opening.as_deref(), expected, "at {now}");
    }

    #[test]
    fn a_window_is_open_for_its_time() {
        let night = [window("30 3 * * *", 90, None)];
        check(&night, "2026-11-29T03:29:59Z", Some("2026-11-29T03:30:00Z"));
        check(&night, "2026-11-29T03:30:00Z", None);
        check(&night, "2026-11-29T04:59:59Z", None);
        check(&night, "2026-11-29T05:00:00Z", Some("2026-11-30T03:30:00Z"));
        check(&[], "2026-11-29T05:00:00Z", None);
        // Longer than the pause between two openings: always open.
        check(&[window("0 * * * *", 120, None)], "2026-11-29T05:59:59Z", None);
        let two = [window("0 3 * * *", 60, None), window("0 22 * * 7", 60, None)];
        check(&two, "2026-11-29T12:00:00Z", Some("2026-11-29T22:00:00Z"));
    }

    #[test]
    fn the_clock_of_a_window_is_that_of_its_zone() {
        let night = [window("30 2 * * *", 60, Some("Europe/Berlin"))];
        check(&night, "2026-11-29T01:29:00Z", Some("2026-11-29T01:30:00Z"));
        check(&night, "2026-07-01T00:00:00Z", Some("2026-07-01T00:30:00Z"));
        // 2026-03-29: there is no 02:30, and 03:00 follows upon 01:59. The window opens all the same.
        let at = "2026-03-29T00:59:00Z".parse().unwrap();
        let opening = next_opening(&[Window::parse(&night[0]).unwrap()], at).unwrap();
        assert!(opening.time <= "2026-03-29T01:30:00Z".parse().unwrap(), "{opening:?}");
    }

    #[test]
    fn what_is_no_window_is_named() {
        #[track_caller]
        fn refused(window: &MaintenanceWindow, field: &str, text: &str) {
            let (found, message) = Window::parse(window).expect_err("it is refused");
            assert!(found == field && message.contains(text), "{found}: {message}");
        }
        refused(&window("0 3 * * *", 1, Some("Mars/Olympus")), "timeZone", "\"Mars/Olympus\"");
        refused(&window("0 3 * *", 1, None), "schedule", "\"0 3 * *\" is not a cron schedule");
        refused(&window("0 0 3 * * *", 1, None), "schedule", "is not a cron schedule");
        refused(&window("61 3 * * *", 1, None), "schedule", "is not a cron schedule");
        refused(&window("0 3 30 2 *", 1, None), "schedule", "no such day");
    }
}
