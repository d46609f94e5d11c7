//! How many Stores restart at a time. An upgrade of the operator brings a new default image to all of them at once; they take
//! it one after the other.
//!
//! An image with which a Store did not become ready goes no further: the others keep theirs until that Store has another update.
//!
//! A Store has its turn until it is ready again, or for as long as it may take to become ready: a server that loads, and a snapshot
//! that is written before the restart, extend it.
//!
//! Kept in memory: a new operator process begins with nobody restarting, and at worst lets one Store more go at that moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::reconcile::facts::Turn;

/// A Store that has not become ready for so long after its update was to be taken back stands in nobody's way any more; its
/// conditions say what is wrong with it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Namespace and name of a Store.
type Key = (String, String);

/// Lets a number of Stores restart at a time. A clone is the same gate.
#[derive(Debug, Clone)]
pub struct RestartGate {
    restarts_max: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    restarting: HashMap<Key, Entry>,
    /// Images that were taken back, by the Store that could not run with them.
    failed_images: HashMap<Key, String>,
}

/// The turn of a Store.
#[derive(Debug)]
struct Entry {
    /// Until when it may keep others waiting.
    until: Instant,
    /// How long it may do so without a sign of progress.
    patience: Duration,
}

impl RestartGate {
    /// A gate for `restarts_max` Stores at a time.
    #[must_use]
    pub fn new(restarts_max: u16) -> Self {
        Self { restarts_max: usize::from(restarts_max).max(1), state: Arc::default() }
    }

    /// Whom the Store would have to wait for. `new_image`: what it would change to.
    pub(crate) fn look(&self, namespace: &str, name: &str, new_image: Option<&str>, now: Instant) -> Turn {
        let state = self.lock();
        let key = (namespace.to_owned(), name.to_owned());
        let failed = state.failed_images.iter().filter(|(_, image)| Some(image.as_str()) == new_image);
        let failed = failed.map(|(key, _)| key).filter(|other| **other != key).min();
        Turn {
            others_restart: state.is_full_for(&key, self.restarts_max, now),
            failed_with_image: failed.map(|(namespace, name)| format!("{namespace}/{name}")),
        }
    }

    /// Gives the Store its turn, unless as many others as may have theirs. `ready_timeout`: the time that it has to become ready.
    #[must_use]
    pub(crate) fn enter(&self, namespace: &str, name: &str, ready_timeout: Duration, now: Instant) -> bool {
        let mut state = self.lock();
        state.restarting.retain(|_, entry| entry.until > now);
        let key = (namespace.to_owned(), name.to_owned());
        if state.is_full_for(&key, self.restarts_max, now) {
            return false;
        }
        let patience = ready_timeout + PATIENCE;
        state.restarting.entry(key).or_insert(Entry { until: now + patience, patience });
        true
    }

    /// The Store makes progress: if it has its turn, it keeps it.
    pub(crate) fn renew(&self, namespace: &str, name: &str, now: Instant) {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(entry) = self.lock().restarting.get_mut(&key).filter(|entry| entry.until > now) {
            entry.until = now + entry.patience;
        }
    }

    /// The Store is ready again.
    pub(crate) fn leave(&self, namespace: &str, name: &str) {
        self.lock().restarting.remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// The Store is gone.
    pub(crate) fn forget(&self, namespace: &str, name: &str) {
        self.leave(namespace, name);
        self.note_failed_image(namespace, name, None);
    }

    /// The image that was taken back from this Store; absent: none.
    pub(crate) fn note_failed_image(&self, namespace: &str, name: &str, image: Option<&str>) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut state = self.lock();
        match image {
            Some(image) => drop(state.failed_images.insert(key, image.to_owned())),
            None => drop(state.failed_images.remove(&key)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether as many Stores as may have their turn, and this one has not.
    fn is_full_for(&self, key: &Key, restarts_max: usize, now: Instant) -> bool {
        let restarting = self.restarting.values().filter(|entry| entry.until > now).count();
        let has_turn = self.restarting.get(key).is_some_and(|entry| entry.until > now);
        !has_turn && restarting >= restarts_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(600);

    #[test]
    fn stores_restart_one_after_the_other() {
        let gate = RestartGate::new(1);
        let now = Instant::now();
        assert!(gate.enter("shop", "a", TIME, now));
        assert!(gate.enter("shop", "a", TIME, now), "the same Store does not wait for itself");
        assert!(!gate.look("shop", "a", None, now).others_restart);
        assert!(!gate.enter("shop", "b", TIME, now));
        assert!(gate.look("shop", "b", None, now).others_restart);
        gate.leave("shop", "a");
        assert!(!gate.look("shop", "b", None, now).others_restart);
        assert!(gate.enter("shop", "b", TIME, now));
        let later = now + TIME + PATIENCE;
        assert!(gate.enter("shop", "a", TIME, later), "one that never comes back blocks nobody for ever");
    }

    #[test]
    fn a_store_that_makes_progress_keeps_its_turn() {
        let gate = RestartGate::new(1);
        let mut now = Instant::now();
        assert!(gate.enter("shop", "a", TIME, now));
        for _ in 0..5 {
            now += TIME;
            gate.renew("shop", "a", now);
            assert!(!gate.enter("shop", "b", TIME, now), "its server loads");
        }
        now += TIME + PATIENCE;
        gate.renew("shop", "a", now);
        assert!(gate.enter("shop", "b", TIME, now), "a turn that has ended does not come back");
    }

    #[test]
    fn an_image_that_failed_stops_at_the_first_store() {
        let gate = RestartGate::new(9);
        let now = Instant::now();
        let failed = |name: &str, image| gate.look("shop", name, image, now).failed_with_image;
        gate.note_failed_image("shop", "a", Some("server:2"));
        assert_eq!(failed("b", Some("server:2")), Some("shop/a".to_owned()));
        assert_eq!(failed("b", Some("server:3")), None, "another image goes on");
        assert_eq!(failed("c", None), None, "so does a restart with the same image");
        assert_eq!(failed("a", Some("server:2")), None, "it may try again itself");
        gate.forget("shop", "a");
        assert_eq!(failed("b", Some("server:2")), None);
    }
}
