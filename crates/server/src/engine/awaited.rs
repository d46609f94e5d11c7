//! Keys that blocked commands wait for.
//!
//! Whoever executes commands is told which of them hold a value that somebody may wait for, in the order in which they got
//! it; who waits, and in which order, is its business.
//!
//! A key becomes ready when it gets a value as a whole, never when its value changes: a client that waits for a type was
//! served when the key got a value of that type. Source: `signalKeyAsReady` of Redis 7.0.

use std::collections::{BTreeMap, VecDeque};

use super::Engine;
use super::object::Kind;

#[derive(Debug, Default)]
struct Awaited {
    waiters: usize,
    /// It is among `ready`.
    is_ready: bool,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct AwaitedKeys {
    keys: BTreeMap<(u32, Box<[u8]>), Awaited>,
    /// Waits for values of each type, all keys together.
    waits: [usize; Kind::COUNT],
    ready: VecDeque<(u32, Box<[u8]>)>,
}

impl Engine {
    /// Begins to tell when a key gets a value of this type, to one more waiter.
    pub(crate) fn await_key(&mut self, db: u32, key: &[u8], kind: Kind) {
        self.awaited.waits[kind as usize] += 1;
        self.awaited.keys.entry((db, Box::from(key))).or_default().waiters += 1;
    }

    /// Ends what [`Engine::await_key`] has begun.
    pub(crate) fn forget_awaited(&mut self, db: u32, key: &[u8], kind: Kind) {
        let name = (db, Box::from(key));
        if let Some(awaited) = self.awaited.keys.get_mut(&name) {
            self.awaited.waits[kind as usize] -= 1;
            awaited.waiters -= 1;
            if awaited.waiters == 0 {
                self.awaited.keys.remove(&name);
            }
        }
    }

    /// Notes that a key was given a value.
    #[inline]
    pub(super) fn given(&mut self, db: u32, key: &[u8]) {
        if !self.awaited.keys.is_empty() {
            self.note_ready(db, key);
        }
    }

    #[cold]
    fn note_ready(&mut self, db: u32, key: &[u8]) {
        let Some(kind) = self.kind_of(db, key) else { return };
        let AwaitedKeys { keys, waits, ready } = &mut self.awaited;
        if waits[kind as usize] == 0 {
            return;
        }
        let name = (db, Box::from(key));
        if let Some(awaited) = keys.get_mut(&name)
            && !std::mem::replace(&mut awaited.is_ready, true)
        {
            ready.push_back(name);
        }
    }

    /// Notes that a database has another content.
    pub(super) fn note_replaced(&mut self, db: u32) {
        let awaited = self.awaited.keys.range((db, Box::default())..(db + 1, Box::default()));
        let keys: Vec<Box<[u8]>> = awaited.map(|((_, key), _)| key.clone()).collect();
        for key in keys {
            self.note_ready(db, &key);
        }
    }

    /// The key that has been ready for longest and was not returned since; by now it may hold another value, or none.
    #[inline]
    pub(crate) fn next_ready(&mut self) -> Option<(u32, Box<[u8]>)> {
        let ready = self.awaited.ready.pop_front()?;
        if let Some(awaited) = self.awaited.keys.get_mut(&ready) {
            awaited.is_ready = false;
        }
        Some(ready)
    }

    /// The type of the value at a key, expired or not.
    pub(crate) fn kind_of(&self, db: u32, key: &[u8]) -> Option<Kind> {
        let table = self.table(db);
        table.find(self.hash_of(key), key).map(|at| table.view(at).kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Replayer;
    use crate::engine::{EngineOptions, HashSeed, Limits};
    use crate::protocol::OwnedRequest;

    /// Which of the keys `a` and `b` the commands make ready, where clients wait for these types.
    fn check(awaited: &[(&str, Kind)], commands: &[&str], expected: &[&str]) {
        let mut engine =
            Engine::new(EngineOptions { databases: 2, limits: Limits::default(), seed: HashSeed([1, 2]) });
        for (key, kind) in awaited {
            engine.await_key(0, key.as_bytes(), *kind);
        }
        let mut replayer = Replayer::begin(&mut engine);
        for command in commands {
            let request = OwnedRequest::from_args(&command.split(' ').collect::<Vec<_>>());
            replayer.apply(&mut engine, &request.as_request(), 0).expect("a valid command");
        }
        replayer.end(&mut engine);
        let ready: Vec<_> = std::iter::from_fn(|| engine.next_ready()).collect();
        let names: Vec<_> = ready.iter().map(|(_, key)| std::str::from_utf8(key).expect("text")).collect();
        assert_eq!(names, expected, "{commands:?}");
        for (key, kind) in awaited {
            engine.forget_awaited(0, key.as_bytes(), *kind);
        }
        assert_eq!((engine.awaited.keys.len(), engine.awaited.waits), (0, [0; Kind::COUNT]));
    }

    #[test]
    fn a_key_is_ready_once_it_holds_what_somebody_waits_for() {
        let lists = [("a", Kind::List), ("b", Kind::List)];
        check(&lists, &["RPUSH b 1", "RPUSH a 1", "RPUSH b 2"], &["b", "a"]);
        check(&lists, &["RPUSH a 1", "DEL a", "RPUSH b 1", "RPUSH a 1"], &["a", "b"]);
        check(&lists, &["RPUSH c 1", "RENAME c b", "RPUSH a 1"], &["b", "a"]);
        check(&lists, &["SELECT 1", "RPUSH a 1", "MOVE a 0"], &["a"]);
        check(&lists, &["SELECT 1", "RPUSH b 1", "SWAPDB 0 1"], &["b"]);
    }

    /// Otherwise each SET would run the commands of all who wait for a list.
    #[test]
    fn a_value_that_nobody_waits_for_makes_no_key_ready() {
        let lists = [("a", Kind::List), ("b", Kind::List)];
        check(&lists, &["SET a 1", "SET a 2", "HSET b f v", "SADD c 1"], &[]);
        check(&lists, &["ZADD a 1 x", "SWAPDB 0 1", "SWAPDB 0 1"], &[]);
        check(&lists, &["SET a 1", "RPUSH b 1", "DEL a", "RPUSH a 1"], &["b", "a"]);
        // As in Redis, types count over all keys: who is served looks at the type again.
        check(&[("a", Kind::List), ("b", Kind::SortedSet)], &["ZADD a 1 x", "ZADD b 1 x"], &["a", "b"]);
    }
}
