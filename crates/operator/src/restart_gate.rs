//! How many Stores restart at a time. An upgrade of the operator brings a new default image to all of them at once; they take
//! it one after the other.
//!
//! Kept in memory: a new operator process begins with nobody restarting, and at worst lets one Store more go at that moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A Store that has not become ready for so long stands in nobody's way any more; its conditions say what is wrong with it.
const PATIENCE: Duration = Duration::from_secs(600);

/// Namespace and name of a Store.
type Key = (String, String);

/// Lets a number of Stores restart at a time. A clone is the same gate.
#[derive(Debug, Clone)]
pub struct RestartGate {
    restarts_max: usize,
    restarting: Arc<Mutex<HashMap<Key, Instant>>>,
}

impl RestartGate {
    /// A gate for `restarts_max` Stores at a time.
    #[must_use]
    pub fn new(restarts_max: u16) -> Self {
        Self { restarts_max: usize::from(restarts_max).max(1), restarting: Arc::default() }
    }

    /// Lets the Store restart, or names one that it has to wait for.
    pub(crate) fn enter(&self, namespace: &str, name: &str, now: Instant) -> Result<(), String> {
        let mut restarting = self.restarting.lock().unwrap_or_else(PoisonError::into_inner);
        restarting.retain(|_, since| now.saturating_duration_since(*since) < PATIENCE);
        let key = (namespace.to_owned(), name.to_owned());
        if restarting.contains_key(&key) {
            return Ok(());
        }
        if restarting.len() >= self.restarts_max
            && let Some((namespace, name)) = restarting.keys().min()
        {
            return Err(format!("{namespace}/{name}"));
        }
        restarting.insert(key, now);
        Ok(())
    }

    /// The Store is ready again, or gone.
    pub(crate) fn leave(&self, namespace: &str, name: &str) {
        let mut restarting = self.restarting.lock().unwrap_or_else(PoisonError::into_inner);
        restarting.remove(&(namespace.to_owned(), name.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_restart_one_after_the_other() {
        let gate = RestartGate::new(1);
        let now = Instant::now();
        assert_eq!(gate.enter("shop", "a", now), Ok(()));
        assert_eq!(gate.enter("shop", "a", now), Ok(()), "the same Store does not wait for itself");
        assert_eq!(gate.enter("shop", "b", now), Err("shop/a".to_owned()));
        gate.leave("shop", "a");
        assert_eq!(gate.enter("shop", "b", now), Ok(()));
        assert_eq!(
            gate.enter("shop", "a", now + PATIENCE),
            Ok(()),
            "one that never comes back blocks nobody for ever"
        );
    }
}
