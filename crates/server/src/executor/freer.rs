//! Memory of flushed tables is freed beside the executor: millions of keys take long.

use std::collections::VecDeque;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use crate::engine::Garbage;

/// Pieces that may wait for the thread in its channel; more wait with the executor.
const QUEUE_LEN: usize = 4;

/// One thread that frees, for the life of the executor.
#[derive(Debug)]
pub(super) struct Freer {
    thread: Option<SyncSender<Garbage>>,
    waiting: VecDeque<Garbage>,
}

impl Freer {
    /// Starts the thread. Where that is refused, the executor frees by itself.
    pub(super) fn start() -> Self {
        let (sender, garbage) = sync_channel::<Garbage>(QUEUE_LEN);
        let thread = std::thread::Builder::new().name("freer".to_owned()).spawn(move || {
            while let Ok(garbage) = garbage.recv() {
                drop(garbage);
            }
        });
        let thread = match thread {
            Ok(_) => Some(sender),
            Err(error) => {
                tracing::warn!(%error, "failed to start the thread that frees memory: the executor frees it by itself");
                None
            }
        };
        Self { thread, waiting: VecDeque::new() }
    }

    /// Frees `garbage` soon.
    pub(super) fn free(&mut self, garbage: Garbage) {
        self.waiting.push_back(garbage);
        self.drive();
    }

    /// Hands over what waits.
    pub(super) fn drive(&mut self) {
        while let Some(garbage) = self.waiting.pop_front() {
            match &self.thread {
                None => drop(garbage),
                Some(thread) => match thread.try_send(garbage) {
                    Ok(()) => {}
                    Err(TrySendError::Full(garbage)) => {
                        self.waiting.push_front(garbage);
                        return;
                    }
                    Err(TrySendError::Disconnected(garbage)) => drop(garbage),
                },
            }
        }
    }
}
