//! Memory of flushed tables is freed beside the executor: millions of keys take long. Where that cannot be, a slice of it is
//! freed in each turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use crate::engine::Garbage;

/// Pieces that may wait for the thread in its channel; more wait with the executor.
const QUEUE_LEN: usize = 4;

/// How many keys and values were given to the freer, and how many of them are freed.
#[derive(Debug, Default)]
pub(super) struct FreedObjects {
    given: AtomicU64,
    freed: AtomicU64,
}

impl FreedObjects {
    /// Those that wait to be freed.
    pub(super) fn pending(&self) -> u64 {
        let freed = self.freed.load(Ordering::Relaxed);
        self.given.load(Ordering::Relaxed).saturating_sub(freed)
    }

    /// Those that are freed.
    pub(super) fn freed(&self) -> u64 {
        self.freed.load(Ordering::Relaxed)
    }
}

/// What is to be freed, and how many keys and values it was made of.
#[derive(Debug)]
struct Piece {
    garbage: Garbage,
    objects: u64,
}

/// One thread that frees, for the life of the executor.
#[derive(Debug)]
pub(super) struct Freer {
    thread: Option<SyncSender<Piece>>,
    waiting: VecDeque<Piece>,
    objects: Arc<FreedObjects>,
}

impl Freer {
    /// Starts the thread. Where that is refused, the executor frees in its turns.
    pub(super) fn start(objects: Arc<FreedObjects>) -> Self {
        let (sender, pieces) = sync_channel::<Piece>(QUEUE_LEN);
        let counted = Arc::clone(&objects);
        let thread = std::thread::Builder::new().name("freer".to_owned()).spawn(move || {
            while let Ok(Piece { garbage, objects }) = pieces.recv() {
                drop(garbage);
                counted.freed.fetch_add(objects, Ordering::Relaxed);
            }
        });
        let thread = match thread {
            Ok(_) => Some(sender),
            Err(error) => {
                tracing::warn!(%error, "failed to start the thread that frees memory: the executor frees it in its turns");
                None
            }
        };
        Self { thread, waiting: VecDeque::new(), objects }
    }

    /// Frees `garbage` soon.
    pub(super) fn free(&mut self, garbage: Garbage) {
        let objects = garbage.objects() as u64;
        self.objects.given.fetch_add(objects, Ordering::Relaxed);
        self.waiting.push_back(Piece { garbage, objects });
    }

    /// Whether something is to be freed in turns.
    pub(super) fn needs_turns(&self) -> bool {
        self.thread.is_none() && !self.waiting.is_empty()
    }

    /// Once in each turn: hands over what waits, or frees a slice of it.
    pub(super) fn drive(&mut self) {
        while let Some(thread) = &self.thread
            && let Some(piece) = self.waiting.pop_front()
        {
            match thread.try_send(piece) {
                Ok(()) => {}
                Err(TrySendError::Full(piece)) => {
                    self.waiting.push_front(piece);
                    return;
                }
                Err(TrySendError::Disconnected(piece)) => {
                    self.waiting.push_front(piece);
                    self.thread = None;
                }
            }
        }
        if let Some(piece) = self.waiting.front_mut()
            && piece.garbage.free_slice()
        {
            self.objects.freed.fetch_add(piece.objects, Ordering::Relaxed);
            self.waiting.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::value::{Entry, Value};
    use crate::engine::{Access, Engine, EngineOptions, HashSeed, Limits};

    /// Two tables.
    fn garbage(keys: i64) -> Garbage {
        let mut engine =
            Engine::new(EngineOptions { databases: 2, limits: Limits::default(), seed: HashSeed([1, 2]) });
        let mut load = |db, key: &[u8], value, expires_at_ms| {
            engine
                .load(Entry { db, key: key.into(), value, expires_at_ms, access: Access::default() }, 0)
                .unwrap();
        };
        for number in 0..keys {
            let (key, expires_at_ms) = (number.to_string(), (number % 2 == 0).then_some(number + 1_000_000));
            load(0, key.as_bytes(), Value::Int(number), expires_at_ms);
            load(1, key.as_bytes(), Value::Bytes(vec![b'v'; 100]), None);
        }
        engine.flush(None, 0);
        engine.take_garbage().expect("two tables were flushed")
    }

    #[test]
    fn without_a_thread_each_turn_frees_a_slice() {
        const KEYS: i64 = 50_000;
        let mut freer = Freer { thread: None, waiting: VecDeque::new(), objects: Arc::default() };
        let objects = Arc::clone(&freer.objects);
        freer.free(garbage(KEYS));
        freer.free(garbage(1));
        let all = 2 * KEYS.unsigned_abs() + 2;
        assert_eq!((objects.pending(), objects.freed()), (all, 0));
        let mut turns = 0;
        while freer.needs_turns() {
            freer.drive();
            turns += 1;
        }
        // No segment holds more than 576 keys, and no slice more than 16 segments.
        assert!(turns > 2 * KEYS / (16 * 576), "{turns} turns");
        assert!(turns < 1000, "{turns} turns");
        assert_eq!((objects.pending(), objects.freed()), (0, all));
    }

    #[test]
    fn what_a_dead_thread_does_not_take_is_freed_in_turns() {
        let (thread, _) = sync_channel(QUEUE_LEN);
        let mut freer = Freer { thread: Some(thread), waiting: VecDeque::new(), objects: Arc::default() };
        freer.free(garbage(10));
        assert!(!freer.needs_turns());
        freer.drive();
        assert!(freer.thread.is_none());
        while freer.needs_turns() {
            freer.drive();
        }
    }
}
