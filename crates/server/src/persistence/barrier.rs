//! The persistence barrier: one at a time, ends by itself, and remembers how the last ones ended.
//!
//! ```text
//!            begin              taken                    release | time-out
//!   free ───────────▶ taking ───────────▶ held ────────────────────────────▶ free, the answer is remembered
//!                        └── failed ──▶ free
//! ```
//!
//! Pure: the executor syncs, stamps the identity and asks the clock; while [`BarrierDesk::blocks_files`] it deletes and
//! renames no file. Time-outs run on monotonic time, because a wall clock that jumps must neither hold a rotation
//! back for hours nor end a barrier in the middle of a snapshot; the times in [`Barrier`] are wall time, for people.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use holdfast_contract::control::{Barrier, BarrierRequest};

/// Longest time-out that is granted, in seconds: what a slow storage system needs to cut a volume, tenfold.
pub(crate) const BARRIER_TIMEOUT_SECONDS_MAX: u64 = 600;
/// Longest token, in bytes; a UID has 36.
pub(crate) const BARRIER_TOKEN_LEN_MAX: usize = 128;
/// Ended barriers that are remembered, so that a restarted operator learns how its own ended.
const ENDED_MAX: usize = 16;

/// Monotonic and wall time of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// For time-outs.
    pub(crate) monotonic: Instant,
    /// For people, milliseconds since the Unix epoch.
    pub(crate) wall_ms: u64,
}

/// What to do with a request for a barrier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Sync, stamp the identity, then call [`BarrierDesk::taken`] (or [`BarrierDesk::failed`]).
    Take,
    /// The request with this token is being worked on: give it the answer of the first one.
    InProgress,
    /// A barrier with this token is held or has ended: this is it.
    Known(Barrier),
    /// Another one is held or being taken.
    Busy {
        /// Its token.
        token: String,
    },
    /// The request makes no sense.
    Refused {
        /// What is wrong with it.
        problem: String,
    },
}

#[derive(Debug)]
enum State {
    Free,
    Taking { token: String, timeout: Duration },
    Held { barrier: Barrier, ends: Instant },
}

/// Owner of the barrier's state.
#[derive(Debug)]
pub(crate) struct BarrierDesk {
    state: State,
    ended: VecDeque<Barrier>,
}

impl Default for BarrierDesk {
    fn default() -> Self {
        Self { state: State::Free, ended: VecDeque::new() }
    }
}

impl BarrierDesk {
    /// Looks at a request; [`Begin::Take`] is answered at most once until `taken` or `failed` is called.
    pub(crate) fn begin(&mut self, request: &BarrierRequest, now: Moment) -> Begin {
        self.expire(now);
        if let Some(problem) = problem_of(request) {
            return Begin::Refused { problem };
        }
        if let Some(barrier) = self.known(&request.token) {
            return Begin::Known(barrier);
        }
        match &self.state {
            State::Free => {
                self.state = State::Taking {
                    token: request.token.clone(),
                    timeout: Duration::from_secs(request.timeout_seconds),
                };
                Begin::Take
            }
            State::Taking { token, .. } if *token == request.token => Begin::InProgress,
            State::Taking { token, .. } => Begin::Busy { token: token.clone() },
            State::Held { barrier, .. } => Begin::Busy { token: barrier.token.clone() },
        }
    }

    /// Everything up to `offset` is synced and stamped: the barrier is held from now on. `None` when none was begun.
    pub(crate) fn taken(&mut self, store_id: &str, epoch: u64, offset: u64, now: Moment) -> Option<Barrier> {
        let State::Taking { token, timeout } = &self.state else { return None };
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let barrier = Barrier {
            token: token.clone(),
            store_id: store_id.to_owned(),
            epoch,
            offset,
            taken_ms: now.wall_ms,
            expires_ms: now.wall_ms.saturating_add(timeout_ms),
            released_ms: None,
            expired: false,
        };
        self.state = State::Held { barrier: barrier.clone(), ends: now.monotonic + *timeout };
        Some(barrier)
    }

    /// The sync or the stamp failed: no barrier, and nothing is remembered of it.
    pub(crate) fn failed(&mut self) {
        if matches!(self.state, State::Taking { .. }) {
            self.state = State::Free;
        }
    }

    /// Lets go of the barrier with `token`; one that has ended is answered as it ended. `None`: no such barrier.
    pub(crate) fn release(&mut self, token: &str, now: Moment) -> Option<Barrier> {
        self.expire(now);
        match &self.state {
            State::Held { barrier, .. } if barrier.token == token => {
                let barrier = Barrier { released_ms: Some(now.wall_ms), ..barrier.clone() };
                self.end(barrier.clone());
                Some(barrier)
            }
            _ => self.known(token),
        }
    }

    /// The barrier with `token`, held or ended. `None`: no such barrier.
    pub(crate) fn find(&mut self, token: &str, now: Moment) -> Option<Barrier> {
        self.expire(now);
        self.known(token)
    }

    /// Ends the barrier if its time is over and returns how it ended, once. Call it when [`BarrierDesk::ends`] is due.
    pub(crate) fn expire(&mut self, now: Moment) -> Option<Barrier> {
        let State::Held { barrier, ends } = &self.state else { return None };
        if now.monotonic < *ends {
            return None;
        }
        let barrier = Barrier { released_ms: Some(now.wall_ms), expired: true, ..barrier.clone() };
        self.end(barrier.clone());
        Some(barrier)
    }

    /// Ends the barrier before its time and returns its token. It is not remembered, as after a restart: whoever holds it must
    /// not believe that the files stood still until its time was over.
    pub(crate) fn break_off(&mut self) -> Option<String> {
        match std::mem::replace(&mut self.state, State::Free) {
            State::Held { barrier, .. } => Some(barrier.token),
            state @ (State::Free | State::Taking { .. }) => {
                self.state = state;
                None
            }
        }
    }

    /// When the held barrier ends by itself.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn ends(&self) -> Option<Instant> {
        match &self.state {
            State::Held { ends, .. } => Some(*ends),
            State::Free | State::Taking { .. } => None,
        }
    }

    /// True while no file may be deleted or renamed.
    #[must_use]
    pub(crate) fn blocks_files(&self) -> bool {
        !matches!(self.state, State::Free)
    }

    fn known(&self, token: &str) -> Option<Barrier> {
        match &self.state {
            State::Held { barrier, .. } if barrier.token == token => Some(barrier.clone()),
            _ => self.ended.iter().find(|barrier| barrier.token == token).cloned(),
        }
    }

    fn end(&mut self, barrier: Barrier) {
        self.state = State::Free;
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(barrier);
    }
}

fn problem_of(request: &BarrierRequest) -> Option<String> {
    if !(1..=BARRIER_TIMEOUT_SECONDS_MAX).contains(&request.timeout_seconds) {
        return Some(format!(
            "timeoutSeconds is {}, allowed are 1 to {BARRIER_TIMEOUT_SECONDS_MAX}",
            request.timeout_seconds
        ));
    }
    let well_formed = (1..=BARRIER_TOKEN_LEN_MAX).contains(&request.token.len())
        && request.token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (!well_formed).then(|| {
        format!("token must have 1 to {BARRIER_TOKEN_LEN_MAX} letters, digits or hyphens, such as a UID")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Clock(Moment);

    impl Clock {
        fn start() -> Self {
            Self(Moment { monotonic: Instant::now(), wall_ms: 1_000_000 })
        }

        fn pass(&mut self, seconds: u64) -> Moment {
            self.0.monotonic += Duration::from_secs(seconds);
            self.0.wall_ms += seconds * 1_000;
            self.0
        }
    }

    fn request(token: &str, timeout_seconds: u64) -> BarrierRequest {
        BarrierRequest { token: token.to_owned(), timeout_seconds }
    }

    fn held(desk: &mut BarrierDesk, token: &str, timeout_seconds: u64, now: Moment) -> Barrier {
        assert_eq!(desk.begin(&request(token, timeout_seconds), now), Begin::Take);
        desk.taken("s", 3, 77, now).unwrap()
    }

    #[test]
    fn asking_again_with_the_same_token_answers_the_same_barrier() {
        let (mut desk, mut clock) = (BarrierDesk::default(), Clock::start());
        let first = held(&mut desk, "a", 30, clock.0);
        assert_eq!((first.epoch, first.offset, first.expires_ms), (3, 77, 1_030_000));
        assert!(desk.blocks_files());
        assert_eq!(desk.begin(&request("a", 30), clock.pass(1)), Begin::Known(first.clone()));
        assert_eq!(desk.find("a", clock.0), Some(first));
        assert_eq!(desk.begin(&request("b", 30), clock.0), Begin::Busy { token: "a".into() });
    }

    #[test]
    fn release_is_answered_the_same_ever_after() {
        let (mut desk, mut clock) = (BarrierDesk::default(), Clock::start());
        held(&mut desk, "a", 30, clock.0);
        let released = desk.release("a", clock.pass(5)).unwrap();
        assert_eq!((released.released_ms, released.expired), (Some(1_005_000), false));
        assert!(!desk.blocks_files());
        assert_eq!(desk.release("a", clock.pass(50)), Some(released.clone()));
        assert_eq!(desk.begin(&request("a", 30), clock.0), Begin::Known(released));
        assert_eq!(desk.release("never", clock.0), None);
        held(&mut desk, "b", 30, clock.0);
    }

    #[test]
    fn a_barrier_ends_by_itself_on_monotonic_time() {
        let (mut desk, mut clock) = (BarrierDesk::default(), Clock::start());
        held(&mut desk, "a", 30, clock.0);
        assert_eq!(desk.ends(), Some(clock.0.monotonic + Duration::from_secs(30)));
        clock.0.wall_ms += 3_600_000;
        assert_eq!(desk.expire(clock.pass(29)), None);
        let ended = desk.expire(clock.pass(1)).unwrap();
        assert!(ended.expired && ended.released_ms.is_some());
        assert_eq!(desk.expire(clock.0), None);
        assert_eq!(desk.release("a", clock.0), Some(ended));
    }

    #[test]
    fn an_overdue_barrier_ends_at_any_question() {
        let (mut desk, mut clock) = (BarrierDesk::default(), Clock::start());
        held(&mut desk, "a", 30, clock.0);
        assert!(desk.release("a", clock.pass(31)).unwrap().expired);
        held(&mut desk, "b", 30, clock.0);
        assert_eq!(desk.begin(&request("c", 30), clock.pass(31)), Begin::Take);
        assert!(desk.find("b", clock.0).unwrap().expired);
    }

    #[test]
    fn a_failed_sync_leaves_nothing_behind() {
        let (mut desk, clock) = (BarrierDesk::default(), Clock::start());
        assert_eq!(desk.begin(&request("a", 30), clock.0), Begin::Take);
        assert_eq!(desk.begin(&request("a", 30), clock.0), Begin::InProgress);
        assert_eq!(desk.begin(&request("b", 30), clock.0), Begin::Busy { token: "a".into() });
        assert!(desk.blocks_files());
        desk.failed();
        assert!(!desk.blocks_files());
        assert_eq!(desk.find("a", clock.0), None);
        assert_eq!(desk.taken("s", 1, 1, clock.0), None);
        held(&mut desk, "a", 30, clock.0);
    }

    #[test]
    fn requests_out_of_bounds_are_refused() {
        let (mut desk, clock) = (BarrierDesk::default(), Clock::start());
        for bad in [
            request("a", 0),
            request("a", BARRIER_TIMEOUT_SECONDS_MAX + 1),
            request("", 5),
            request("../a", 5),
            request(&"a".repeat(129), 5),
        ] {
            assert!(matches!(desk.begin(&bad, clock.0), Begin::Refused { .. }), "{bad:?}");
        }
        assert!(!desk.blocks_files());
    }

    #[test]
    fn only_the_last_ended_barriers_are_remembered() {
        let (mut desk, clock) = (BarrierDesk::default(), Clock::start());
        for number in 0..=ENDED_MAX {
            held(&mut desk, &format!("t{number}"), 30, clock.0);
            desk.release(&format!("t{number}"), clock.0);
        }
        assert_eq!(desk.find("t0", clock.0), None);
        assert!(desk.find("t1", clock.0).is_some());
    }

    #[test]
    fn a_barrier_that_is_broken_off_is_not_remembered() {
        let (mut desk, mut clock) = (BarrierDesk::default(), Clock::start());
        assert_eq!(desk.break_off(), None);
        held(&mut desk, "a", 30, clock.0);
        assert_eq!(desk.break_off(), Some("a".to_owned()));
        assert!(!desk.blocks_files());
        assert_eq!(
            desk.release("a", clock.pass(1)),
            None,
            "nothing says that it held until its time was over"
        );
    }
}
