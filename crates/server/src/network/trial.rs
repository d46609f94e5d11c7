//! Whether help brings anything, found by trying: some windows with it and some without, in turn, again and again.
//!
//! Nothing that a process can ask tells whether there is a processor for another thread: its clients may be on the same
//! machine, its quota may be half used up, its neighbour may be busy. What helps is seen in the commands of a second.

use std::time::Duration;

/// Length of a window: several turns of a server that is busy.
const WINDOW: Duration = Duration::from_millis(10);
/// Windows of a trial: without help, with it, and so on.
const WINDOWS: u32 = 20;
/// Help that brings less than this many times the commands costs more processor time than it is worth.
const GAIN_MIN: f64 = 1.1;
/// Who sleeps for a larger share of the time than this waits for the clients, and needs no help.
const SLEEP_MAX: f64 = 0.1;
/// From a trial that has shown that help is worth it to the next.
const HELP_FOR: Duration = Duration::from_secs(4);
/// From a trial that has shown that it is not to the next; longer with each one.
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(16);

/// What was seen in the windows of one kind.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    commands: u64,
    slept: Duration,
    elapsed: Duration,
}

impl Seen {
    #[expect(clippy::cast_precision_loss, reason = "a rate is compared with another")]
    fn rate(&self) -> f64 {
        self.commands as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    fn sleeps(&self) -> bool {
        self.slept.as_secs_f64() > SLEEP_MAX * self.elapsed.as_secs_f64()
    }
}

#[derive(Debug)]
enum Phase {
    /// For so long nothing is tried.
    Settled(Duration),
    /// The windows that are left, and how much of this one.
    Trying { windows: u32, window: Duration },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Trial {
    phase: Phase,
    helps: bool,
    rest: Duration,
    without: Seen,
    with: Seen,
}

impl Trial {
    /// Begins without help, and with a trial.
    pub(crate) fn new() -> Self {
        let mut trial = Self {
            phase: Phase::Settled(Duration::ZERO),
            helps: false,
            rest: REST_MIN,
            without: Seen::default(),
            with: Seen::default(),
        };
        trial.begin();
        trial
    }

    /// Whether help is to be used now.
    pub(crate) fn helps(&self) -> bool {
        match self.phase {
            Phase::Settled(_) => self.helps,
            Phase::Trying { windows, .. } => windows % 2 == 1,
        }
    }

    /// Learns of a turn: how long was slept before it, how long it took, and how many commands were executed.
    pub(crate) fn note_turn(&mut self, slept: Duration, took: Duration, commands: u64) {
        let elapsed = slept.saturating_add(took);
        match &mut self.phase {
            Phase::Settled(left) => {
                *left = left.saturating_sub(elapsed);
                if left.is_zero() {
                    self.begin();
                }
            }
            // The clients have paused: what was seen before is of another time.
            Phase::Trying { .. } if slept > WINDOW => self.begin(),
            Phase::Trying { windows, window } => {
                let with_help = *windows % 2 == 1;
                let seen = if with_help { &mut self.with } else { &mut self.without };
                seen.commands += commands;
                seen.slept += slept;
                seen.elapsed += elapsed;
                *window = window.saturating_sub(elapsed);
                if window.is_zero() {
                    *windows -= 1;
                    *window = WINDOW;
                    let (is_first, is_last) = (*windows == WINDOWS - 1, *windows == 0);
                    if self.without.sleeps() && is_first {
                        // To look costs nothing: help was not used yet.
                        self.begin();
                    } else if self.without.sleeps() {
                        self.settle(false);
                    } else if is_last {
                        self.settle(self.with.rate() > GAIN_MIN * self.without.rate());
                    }
                }
            }
        }
    }

    fn begin(&mut self) {
        self.without = Seen::default();
        self.with = Seen::default();
        self.phase = Phase::Trying { windows: WINDOWS, window: WINDOW };
    }

    fn settle(&mut self, helps: bool) {
        self.helps = helps;
        self.phase = Phase::Settled(if helps { HELP_FOR } else { self.rest });
        self.rest = if helps { REST_MIN } else { (self.rest * 2).min(REST_MAX) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: Duration = Duration::from_millis(1);

    /// Turns until the trial has settled, of a server that executes `without` and `with` commands a turn.
    fn run(trial: &mut Trial, slept: Duration, without: u64, with: u64) -> u32 {
        for turns in 1..100_000 {
            trial.note_turn(slept, TURN - slept, if trial.helps() { with } else { without });
            if matches!(trial.phase, Phase::Settled(_)) {
                return turns;
            }
        }
        panic!("no trial ends: {trial:?}");
    }

    /// Turns until the next trial.
    fn pause(trial: &mut Trial) -> u32 {
        for turns in 0..100_000 {
            if matches!(trial.phase, Phase::Trying { .. }) {
                return turns;
            }
            trial.note_turn(Duration::ZERO, TURN, 1);
        }
        panic!("there is no other trial: {trial:?}");
    }

    #[test]
    fn help_that_brings_a_tenth_is_kept_and_tried_again() {
        let mut trial = Trial::new();
        assert!(!trial.helps(), "a trial begins as one goes on without help");
        assert_eq!(run(&mut trial, Duration::ZERO, 1000, 1101), 200);
        assert!(trial.helps());
        assert_eq!(pause(&mut trial), 4000);
        assert_eq!(run(&mut trial, Duration::ZERO, 1000, 1099), 200);
        assert!(!trial.helps(), "the processor has been taken away");
        assert_eq!(pause(&mut trial), 1000);
    }

    #[test]
    fn help_that_brings_nothing_is_tried_more_and_more_rarely() {
        let mut trial = Trial::new();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            run(&mut trial, Duration::ZERO, 1000, 1000);
            assert!(!trial.helps());
            pauses.push(pause(&mut trial));
        }
        assert_eq!(pauses, [1000, 2000, 4000, 8000, 16000, 16000, 16000]);
        run(&mut trial, Duration::ZERO, 1000, 2000);
        pause(&mut trial);
        run(&mut trial, Duration::ZERO, 1000, 1000);
        assert_eq!(pause(&mut trial), 1000);
    }

    #[test]
    fn who_sleeps_is_given_none_and_is_not_even_tried_with_it() {
        let mut trial = Trial::new();
        for _ in 0..50_000 {
            trial.note_turn(TURN / 5, TURN * 4 / 5, 1000);
            assert!(!trial.helps());
        }
        assert_eq!(run(&mut trial, TURN / 20, 1000, 2000), 200, "it is tried as soon as there is much to do");
        assert!(trial.helps());
        pause(&mut trial);
        for turn in 0..30 {
            let slept = if turn < 20 { Duration::ZERO } else { TURN / 2 };
            trial.note_turn(slept, TURN - slept, 1000);
        }
        assert!(
            matches!(trial.phase, Phase::Settled(_)) && !trial.helps(),
            "there is less to do in the middle of it"
        );
    }

    #[test]
    fn a_pause_of_the_clients_begins_the_trial_anew() {
        let mut trial = Trial::new();
        for _ in 0..195 {
            trial.note_turn(Duration::ZERO, TURN, 1000);
        }
        trial.note_turn(Duration::from_secs(3600), TURN, 0);
        assert_eq!(run(&mut trial, Duration::ZERO, 1000, 1200), 200);
        assert!(trial.helps());
        trial.note_turn(Duration::MAX, TURN, 0);
        assert!(!trial.helps());
    }
}
