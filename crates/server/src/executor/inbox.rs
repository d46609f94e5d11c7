//! What other threads tell the executor: a channel and the waker of its poll.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Sends to the executor and wakes it.
pub struct InboxSender<T> {
    sender: Sender<T>,
    waker: Arc<mio::Waker>,
}

impl<T> Clone for InboxSender<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), waker: Arc::clone(&self.waker) }
    }
}

impl<T> InboxSender<T> {
    /// Makes the executor take a turn.
    pub(crate) fn wake(&self) {
        // A waker that fails leaves the message to the executor's next turn, at most one tick later.
        let _ = self.waker.wake();
    }

    /// Sends; false when the executor has ended.
    pub(crate) fn send(&self, message: T) -> bool {
        let sent = self.sender.send(message).is_ok();
        self.wake();
        sent
    }
}

/// Makes an inbox that wakes the poll of `registry` with `token`.
///
/// # Errors
/// Whatever the operating system says.
pub fn inbox<T>(registry: &mio::Registry, token: mio::Token) -> io::Result<(InboxSender<T>, Receiver<T>)> {
    let waker = Arc::new(mio::Waker::new(registry, token)?);
    let (sender, receiver) = channel();
    Ok((InboxSender { sender, waker }, receiver))
}
