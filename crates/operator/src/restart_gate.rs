//! How many Stores restart at a time. An upgrade of the operator brings a new default image to all of them at once; they take
//! it one after the other.
//!
//! An image with which a Store did not become ready goes no further: the others keep theirs until that Store has another update.
//!
//! Kept in memory: a new operator process begins with nobody restarting, and at worst lets one Store more go at that moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
    /// Until when each of them may keep others waiting.
    restarting: HashMap<Key, Instant>,
    /// Images that were taken back, by the Store that could not run with them.
    failed_images: HashMap<Key, String>,
}

/// Why a Store must not restart now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// As many as may are restarting; this is one of them.
    ForTurn(String),
    /// This Store did not become ready with the image.
    ForImage(String),
}

impl RestartGate {
    /// A gate for `restarts_max` Stores at a time.
    #[must_use]
    pub fn new(restarts_max: u16) -> Self {
        Self { restarts_max: usize::from(restarts_max).max(1), state: Arc::default() }
    }

    /// Lets the Store restart, or names one that it has to wait for. `new_image`: what it would change to; `ready_timeout`: the
    /// time that it has to become ready.
    pub(crate) fn enter(
        &self,
        namespace: &str,
        name: &str,
        new_image: Option<&str>,
        ready_timeout: Duration,
        now: Instant,
    ) -> Result<(), Wait> {
        let mut state = self.lock();
        state.restarting.retain(|_, until| *until > now);
        let key = (namespace.to_owned(), name.to_owned());
        let failed = state.failed_images.iter().filter(|(_, image)| Some(image.as_str()) == new_image);
        if let Some((namespace, name)) = failed.map(|(key, _)| key).filter(|other| **other != key).min() {
            return Err(Wait::ForImage(format!("{namespace}/{name}")));
        }
        if state.restarting.contains_key(&key) {
            return Ok(());
        }
        if state.restarting.len() >= self.restarts_max
            && let Some((namespace, name)) = state.restarting.keys().min()
        {
            return Err(Wait::ForTurn(format!("{namespace}/{name}")));
        }
        state.restarting.insert(key, now + ready_timeout + PATIENCE);
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(600);

    #[test]
    fn stores_restart_one_after_the_other() {
        let gate = RestartGate::new(1);
        let now = Instant::now();
        assert_eq!(gate.enter("shop", "a", None, TIME, now), Ok(()));
        assert_eq!(
            gate.enter("shop", "a", None, TIME, now),
            Ok(()),
            "the same Store does not wait for itself"
        );
        assert_eq!(gate.enter("shop", "b", None, TIME, now), Err(Wait::ForTurn("shop/a".to_owned())));
        gate.leave("shop", "a");
        assert_eq!(gate.enter("shop", "b", None, TIME, now), Ok(()));
        assert_eq!(
            gate.enter("shop", "a", None, TIME, now + TIME + PATIENCE),
            Ok(()),
            "one that never comes back blocks nobody for ever"
        );
    }

    #[test]
    fn an_image_that_failed_stops_at_the_first_store() {
        let gate = RestartGate::new(9);
        let now = Instant::now();
        assert_eq!(gate.enter("shop", "a", Some("server:2"), TIME, now), Ok(()));
        gate.note_failed_image("shop", "a", Some("server:2"));
        let wait = Err(Wait::ForImage("shop/a".to_owned()));
        assert_eq!(gate.enter("shop", "b", Some("server:2"), TIME, now), wait);
        assert_eq!(gate.enter("shop", "b", Some("server:3"), TIME, now), Ok(()), "another image goes on");
        assert_eq!(gate.enter("shop", "c", None, TIME, now), Ok(()), "so does a restart with the same image");
        assert_eq!(gate.enter("shop", "a", Some("server:2"), TIME, now), Ok(()), "it may try again itself");
        gate.forget("shop", "a");
        assert_eq!(gate.enter("shop", "b", Some("server:2"), TIME, now), Ok(()));
    }
}
