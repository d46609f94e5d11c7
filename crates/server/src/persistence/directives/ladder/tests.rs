use proptest::prelude::*;

use super::*;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn settings(levels: &[LevelSettings]) -> LadderSettings {
    let mut settings = LadderSettings { enabled: true, ..LadderSettings::default() };
    settings.levels[..levels.len()].copy_from_slice(levels);
    settings
}

fn count(count: u32) -> LevelSettings {
    LevelSettings { count, ..LevelSettings::default() }
}

/// The seconds at which points are taken when warnings come at the given seconds and the ladder is asked each second.
fn points(settings: &LadderSettings, warnings: &[(u64, WarningKind)], until: u64) -> Vec<u64> {
    let mut ladder = Ladder::new(settings.clone());
    let mut points = Vec::new();
    for second in 0..=until {
        for (_, kind) in warnings.iter().filter(|(at, _)| *at == second) {
            ladder.on_warning(*kind, at(second));
        }
        if ladder.due(at(second)) {
            ladder.taken(at(second));
            points.push(second);
        }
    }
    points
}

fn storm(seconds: impl IntoIterator<Item = u64>) -> Vec<(u64, WarningKind)> {
    seconds.into_iter().map(|second| (second, WarningKind::SlowSync)).collect()
}

#[test]
fn nothing_is_taken_unless_switched_on() {
    assert_eq!(points(&LadderSettings::default(), &storm(0..10), 20), [0; 0]);
    assert_eq!(points(&settings(&[]), &storm([3, 5]), 20), [3, 5]);
}

#[test]
fn warnings_within_the_delay_share_a_point() {
    let delayed = LadderSettings { delay_s: 5, ..settings(&[]) };
    assert_eq!(points(&delayed, &storm([0]), 20), [5]);
    assert_eq!(points(&delayed, &storm([0, 4, 8]), 20), [13]);
    assert_eq!(points(&delayed, &storm([0, 6]), 20), [5, 11]);
}

#[test]
fn the_maximal_delay_counts_from_the_first_warning() {
    let delayed = LadderSettings { delay_s: 5, max_delay_s: 7, ..settings(&[]) };
    assert_eq!(points(&delayed, &storm(0..10), 30), [7, 14]);
    assert_eq!(points(&LadderSettings { max_delay_s: 2, ..delayed }, &storm([0]), 20), [2]);
}

#[test]
fn at_most_the_count_is_taken() {
    assert_eq!(points(&settings(&[count(3)]), &storm(0..10), 100), [0, 1, 2]);
}

#[test]
fn with_the_limit_reached_one_more_is_taken_each_delay() {
    let level = LevelSettings { count: 2, delay_s: 10, ..LevelSettings::default() };
    assert_eq!(points(&settings(&[level]), &storm(0..25), 100), [0, 1, 11, 21, 31]);
    assert_eq!(
        points(&settings(&[level]), &storm([0, 1, 2]), 100),
        [0, 1, 11],
        "what was held back is taken later"
    );
}

#[test]
fn the_count_returns_to_zero_after_the_latest_warning() {
    let level = LevelSettings { count: 1, reset_s: 10, ..LevelSettings::default() };
    assert_eq!(
        points(&settings(&[level]), &storm([0, 9, 18, 28]), 27),
        [0],
        "each warning postpones the reset"
    );
    assert_eq!(points(&settings(&[level]), &storm([0, 10]), 15), [0, 10]);
    assert_eq!(
        points(&settings(&[level]), &storm([0, 3]), 30),
        [0, 13],
        "what was held back is taken at the reset"
    );
}

#[test]
fn the_reset_takes_effect_later_even_if_warnings_come_meanwhile() {
    let level = LevelSettings { count: 1, reset_s: 10, reset_delay_s: 5, ..LevelSettings::default() };
    assert_eq!(points(&settings(&[level]), &storm([0, 12]), 40), [0, 15]);
    assert_eq!(
        points(&settings(&[level]), &storm([0, 9, 12]), 26),
        [0],
        "the warning at 9 came before the decision"
    );
    assert_eq!(points(&settings(&[level]), &storm([0, 9, 12]), 27), [0, 27]);
}

#[test]
fn a_new_kind_resets_the_count_as_often_as_the_next_level_says() {
    use WarningKind::{ClockJump, JobFailed, MemoryHigh, SlowSync, VolumeHigh};
    let warnings = [
        (0, SlowSync),
        (1, SlowSync),
        (2, MemoryHigh),
        (3, MemoryHigh),
        (4, VolumeHigh),
        (5, ClockJump),
        (6, JobFailed),
    ];
    fn check(levels: &[LevelSettings], warnings: &[(u64, WarningKind)], expected: &[u64]) {
        assert_eq!(points(&settings(levels), warnings, 100), expected);
    }
    check(&[count(1)], &warnings, &[0]);
    check(&[count(1), count(1)], &warnings, &[0, 2]);
    check(&[count(1), count(2)], &warnings, &[0, 2, 4]);
    // Level 2 resets level 1 once: two more.
    check(&[count(1), count(1), count(1)], &warnings, &[0, 2, 4]);
    check(&[count(1), count(1), count(2)], &warnings, &[0, 2, 4, 5]);
    check(&[count(1), count(1), count(1), count(1)], &warnings, &[0, 2, 4, 5]);
    // A level without a count ends the ladder.
    check(&[count(1), count(1), count(0), count(9)], &warnings, &[0, 2]);
}

#[test]
fn a_kind_seen_in_this_window_resets_nothing() {
    use WarningKind::{MemoryHigh, SlowSync};
    let warnings = [(0, SlowSync), (0, MemoryHigh), (1, MemoryHigh), (2, SlowSync)];
    assert_eq!(points(&settings(&[count(1), count(5)]), &warnings, 50), [0]);
    // The reset at 2 begins a new window, in which slow syncs are new again.
    let warnings = [(0, SlowSync), (2, MemoryHigh), (3, SlowSync)];
    assert_eq!(points(&settings(&[count(1), count(5)]), &warnings, 50), [0, 2, 3]);
}

#[test]
fn upper_levels_have_their_own_delay_and_reset() {
    use WarningKind::{JobFailed, MemoryHigh, SlowSync, VolumeHigh};
    let warnings = [(0, SlowSync), (1, MemoryHigh), (2, VolumeHigh), (20, SlowSync), (21, JobFailed)];
    let delayed = LevelSettings { count: 1, delay_s: 15, ..LevelSettings::default() };
    assert_eq!(points(&settings(&[count(1), delayed]), &warnings, 50), [0, 1, 20]);
    let resetting = LevelSettings { count: 1, reset_s: 15, ..LevelSettings::default() };
    assert_eq!(points(&settings(&[count(1), resetting]), &warnings, 50), [0, 1, 20]);
    let late = LevelSettings { count: 1, reset_s: 15, reset_delay_s: 4, ..LevelSettings::default() };
    assert_eq!(points(&settings(&[count(1), late]), &warnings, 50), [0, 1, 21]);
}

#[test]
fn a_point_for_another_reason_is_not_counted() {
    let mut ladder = Ladder::new(LadderSettings { delay_s: 5, ..settings(&[count(1)]) });
    ladder.on_warning(WarningKind::SlowSync, at(0));
    ladder.covered();
    assert_eq!(ladder.deadline(), None);
    ladder.on_warning(WarningKind::SlowSync, at(10));
    assert_eq!(ladder.deadline(), Some(at(15)));
}

#[test]
fn changed_settings_apply_to_what_is_wanted() {
    let mut ladder = Ladder::new(LadderSettings { delay_s: 5, ..settings(&[]) });
    ladder.on_warning(WarningKind::SlowSync, at(0));
    ladder.reconfigure(LadderSettings { delay_s: 2, ..settings(&[]) });
    assert_eq!(ladder.deadline(), Some(at(2)));
    ladder.reconfigure(LadderSettings::default());
    assert_eq!(ladder.deadline(), None);
}

fn level() -> impl Strategy<Value = LevelSettings> {
    (0_u32..4, 0_u32..20, 0_u32..20, 0_u32..6).prop_map(|(count, delay_s, reset_s, reset_delay_s)| {
        LevelSettings { count, delay_s, reset_s, reset_delay_s }
    })
}

fn warnings() -> impl Strategy<Value = Vec<(u64, WarningKind)>> {
    prop::collection::vec((0_u64..200, prop::sample::select(&WarningKind::ALL[..])), 0..120)
}

proptest! {
    /// Without any time that makes room again, the counts alone bound the points: each level multiplies the one before.
    #[test]
    fn counts_bound_the_points(counts in prop::collection::vec(0_u32..4, LEVELS), warnings in warnings()) {
        let levels: Vec<_> = counts.iter().copied().map(count).collect();
        let points = points(&settings(&levels), &warnings, 300);
        let resets = counts[1..].iter().rev().fold(0_usize, |above, count| *count as usize * (1 + above));
        if counts[0] > 0 {
            prop_assert!(points.len() <= counts[0] as usize * (1 + resets), "{points:?}");
        }
    }

    /// Without resets, any span of time has at most the count and one more for each delay that fits into it.
    #[test]
    fn points_keep_their_distance(count in 1_u32..4, delay_s in 1_u32..20, warnings in warnings()) {
        let level = LevelSettings { count, delay_s, ..LevelSettings::default() };
        let points = points(&settings(&[level]), &warnings, 400);
        for (index, pair) in points.windows(2).enumerate() {
            prop_assert!(index + 1 < count as usize || pair[1] - pair[0] >= u64::from(delay_s), "{points:?}");
        }
    }

    /// Without a limit, every warning is followed by a point, no later than the maximal delay after it.
    #[test]
    fn every_warning_is_answered(delay_s in 0_u32..10, max_delay_s in 1_u32..20, warnings in warnings()) {
        let points = points(&LadderSettings { delay_s, max_delay_s, ..settings(&[]) }, &warnings, 300);
        let bound = u64::from(delay_s.min(max_delay_s)).max(u64::from(max_delay_s));
        for (warning, _) in warnings {
            prop_assert!(points.iter().any(|point| (warning..=warning + bound).contains(point)), "{warning} {points:?}");
        }
    }

    /// Whatever the settings: a point is due only when wanted, the deadline does not lie, and nothing overflows.
    #[test]
    fn the_deadline_is_when_a_point_becomes_due(
        levels in prop::collection::vec(level(), LEVELS),
        delay_s in 0_u32..10,
        max_delay_s in 0_u32..10,
        mut warnings in warnings(),
    ) {
        warnings.sort_by_key(|(at, _)| *at);
        let mut ladder = Ladder::new(LadderSettings { delay_s, max_delay_s, ..settings(&levels) });
        for (second, kind) in warnings {
            let now = at(second);
            ladder.on_warning(kind, now);
            prop_assert_eq!(ladder.due(now), ladder.deadline().is_some_and(|deadline| deadline <= now));
            if ladder.due(now) {
                ladder.taken(now);
                prop_assert!(!ladder.due(now));
            }
        }
        if let Some(deadline) = ladder.deadline() {
            prop_assert!(ladder.due(deadline));
            ladder.taken(deadline);
            prop_assert_eq!(ladder.deadline(), None);
        }
    }
}
