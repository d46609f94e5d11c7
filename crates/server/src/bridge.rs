//! Between the admin ports and whoever owns the data: the gate that decides before there is an executor, then the
//! executor.
//!
//! ```text
//!   handlers, backups ── ServerHandle ──▶ bounded queue, then the waker ──▶ Inbox ── owner thread
//!                             ▲                                                          │
//!                             └────────── latest ServerStatus ◀── StatusPublisher ───────┘
//! ```
//!
//! The owner never waits for anybody here: it drains the queue once per turn and answers through a one-shot channel that
//! cannot block. The handlers never wait for ever: the queue is bounded and refuses when full, and each answer has its
//! time. Dropping the [`Inbox`] tells everybody that the owner is gone.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use holdfast_contract::bucket::DatasetSummary;
use holdfast_contract::control::{Barrier, BarrierRequest, ServerStatus};
use holdfast_contract::record::StoreRecord;
use tokio::sync::{oneshot, watch};

/// Requests that may wait for the owner. It drains them every turn; more than this is a caller in a loop.
const REQUESTS_MAX: usize = 64;

/// Why the owner does not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// Something else is under way; trying again later can help.
    #[error("{0}")]
    Busy(String),
    /// The server holds no data that this could be done with (holding, loading, `disabled`).
    #[error("{0}")]
    NotReady(String),
    /// The volume has no room for it.
    #[error("{0}")]
    NoSpace(String),
    /// It was tried and failed.
    #[error("{0}")]
    Failed(String),
    /// The owner did not answer in time.
    #[error("the server did not answer within {0:?}; it may be busy with its disk, ask again")]
    TimedOut(Duration),
    /// The owner has ended.
    #[error("the server is stopping")]
    Stopped,
}

/// Where an answer goes. Answering somebody who has gone away is no error.
pub struct Reply<T>(oneshot::Sender<Result<T, Refusal>>);

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Reply(..)")
    }
}

impl<T> Reply<T> {
    /// Answers. False: nobody waits any more, and what the answer would have handed over is the caller's to clean up.
    pub(crate) fn send(self, answer: Result<T, Refusal>) -> bool {
        self.0.send(answer).is_ok()
    }
}

/// A snapshot that was cut into a file of its own for a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutFile {
    /// The file: synced, closed, the receiver's to delete.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Id of the Store that the data belongs to.
    pub store_id: String,
    /// Epoch of the data.
    pub epoch: u64,
    /// Offset of the cut.
    pub offset: u64,
    /// When it was cut.
    pub cut_ms: u64,
    /// What it holds.
    pub dataset: DatasetSummary,
}

/// What the owner of the data is asked for.
#[derive(Debug)]
pub enum AdminRequest {
    /// Take a persistence barrier, or answer the one with this token; see [`crate::persistence::barrier`].
    TakeBarrier {
        /// The caller's request.
        request: BarrierRequest,
        /// Where the barrier goes.
        reply: Reply<Barrier>,
    },
    /// Look up a barrier.
    FindBarrier {
        /// Its token.
        token: String,
        /// Where it goes; [`Refusal::NotFound`] when there is none.
        reply: Reply<Barrier>,
    },
    /// Let go of a barrier.
    ReleaseBarrier {
        /// Its token.
        token: String,
        /// Where it goes as it ended; [`Refusal::NotFound`] when there is none.
        reply: Reply<Barrier>,
    },
    /// Cut a snapshot into `dest`, with store id, epoch and offset in its auxiliary fields. One that fails leaves no
    /// file; when [`Reply::send`] says that nobody waits, the file is removed by the owner.
    CutSnapshot {
        /// The file to write; its directory exists.
        dest: PathBuf,
        /// Where it goes.
        reply: Reply<CutFile>,
    },
    /// Start a log rewrite (with a log) or a snapshot (without). Answered at once: it begins at the end of the turn, waits for a
    /// job or barrier, or is under way already, and then no second one follows.
    StartRotation {
        /// Where the answer goes.
        reply: Reply<()>,
    },
    /// Decide again with this record. Answered when decided, not when a restore that follows has ended.
    Decide {
        /// The operator's record.
        record: Box<StoreRecord>,
        /// Where the answer goes.
        reply: Reply<()>,
    },
}

type Waker = dyn Fn() + Send + Sync;

struct Shared {
    requests: SyncSender<AdminRequest>,
    status: watch::Receiver<ServerStatus>,
    waker: OnceLock<Arc<Waker>>,
    alive: Arc<AtomicBool>,
}

/// What handlers and backups hold. Clones are the same handle.
#[derive(Clone)]
pub struct ServerHandle(Arc<Shared>);

impl fmt::Debug for ServerHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ServerHandle").field("alive", &self.is_alive()).finish_non_exhaustive()
    }
}

/// What the owner takes its requests from. Moves from the gate to the executor; dropping it says that the owner died.
#[derive(Debug)]
pub struct Inbox {
    requests: Receiver<AdminRequest>,
    alive: Arc<AtomicBool>,
}

/// Tells everybody how the server is. Clones publish to the same place.
#[derive(Debug, Clone)]
pub struct StatusPublisher(watch::Sender<ServerStatus>);

/// The owner's end of the bridge, handed on to whoever owns the data next.
#[derive(Debug)]
pub(crate) struct Bridge {
    /// Requests.
    pub(crate) inbox: Inbox,
    /// Status.
    pub(crate) publisher: StatusPublisher,
}

/// A connected bridge. `initial` is served until the owner publishes.
#[must_use]
pub fn bridge(initial: ServerStatus) -> (ServerHandle, Inbox, StatusPublisher) {
    let (requests, received) = sync_channel(REQUESTS_MAX);
    let (published, status) = watch::channel(initial);
    let alive = Arc::new(AtomicBool::new(true));
    let shared = Shared { requests, status, waker: OnceLock::new(), alive: Arc::clone(&alive) };
    (ServerHandle(Arc::new(shared)), Inbox { requests: received, alive }, StatusPublisher(published))
}

impl StatusPublisher {
    /// Replaces the status.
    pub(crate) fn publish(&self, status: ServerStatus) {
        self.0.send_replace(status);
    }

    /// Changes parts of the status.
    pub(crate) fn update(&self, change: impl FnOnce(&mut ServerStatus)) {
        self.0.send_modify(change);
    }
}

impl Inbox {
    /// The next request, if one waits. For an owner with a loop of its own.
    pub(crate) fn try_next(&self) -> Option<AdminRequest> {
        self.requests.try_recv().ok()
    }

    /// The next request within `timeout`. For an owner that has nothing else to do; `None` on time-out.
    pub(crate) fn next_within(&self, timeout: Duration) -> Option<AdminRequest> {
        match self.requests.recv_timeout(timeout) {
            Ok(request) => Some(request),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                // No handle is left, so nothing can ever come: keep the promised pace of the caller's loop.
                std::thread::sleep(timeout);
                None
            }
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.alive.store(false, Ordering::Release);
    }
}

impl ServerHandle {
    /// Called after each request is queued, from any thread: makes the owner drain its inbox soon. Set once, by the
    /// executor; before that the owner waits in [`Inbox::next_within`] and needs none.
    pub(crate) fn set_waker(&self, waker: Arc<Waker>) {
        if self.0.waker.set(waker).is_err() {
            tracing::debug!("the waker of the admin bridge is set already");
        }
    }

    /// The latest status.
    #[must_use]
    pub(crate) fn status(&self) -> ServerStatus {
        self.0.status.borrow().clone()
    }

    /// False once the owner has ended.
    #[must_use]
    pub(crate) fn is_alive(&self) -> bool {
        self.0.alive.load(Ordering::Acquire)
    }

    /// Queues a request and waits for its answer, at most `limit`.
    ///
    /// # Errors
    /// What the owner answers; [`Refusal::Busy`] when the queue is full, [`Refusal::TimedOut`], [`Refusal::Stopped`].
    pub(crate) async fn ask<T>(
        &self,
        limit: Duration,
        request: impl FnOnce(Reply<T>) -> AdminRequest,
    ) -> Result<T, Refusal> {
        let (sender, answer) = oneshot::channel();
        match self.0.requests.try_send(request(Reply(sender))) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Err(Refusal::Busy(format!("{REQUESTS_MAX} requests are waiting already; ask again")));
            }
            Err(TrySendError::Disconnected(_)) => return Err(Refusal::Stopped),
        }
        if let Some(waker) = self.0.waker.get() {
            waker();
        }
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_dropped)) => Err(Refusal::Stopped),
            Err(_elapsed) => Err(Refusal::TimedOut(limit)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use holdfast_contract::control::{CONTRACT_VERSION, ServerState};
    use std::sync::atomic::AtomicUsize;

    pub(crate) fn status(state: ServerState) -> ServerStatus {
        ServerStatus {
            version: "0.1.0".into(),
            contract_version: CONTRACT_VERSION,
            state,
            identity: None,
            decision: None,
            problem: None,
            strategy: "always".into(),
            config_sha256: String::new(),
            last_offset: 0,
            durable_offset: 0,
            keys: 0,
            progress: None,
            last_snapshot: None,
            last_rotation: None,
            last_job_error: None,
        }
    }

    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_request_wakes_the_owner_and_gets_its_answer() {
        let (handle, inbox, _publisher) = bridge(status(ServerState::Loading));
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        handle.set_waker(Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        }));
        let owner = std::thread::spawn(move || {
            let Some(AdminRequest::StartRotation { reply }) = inbox.next_within(Duration::from_secs(5))
            else {
                panic!("another request came");
            };
            assert!(reply.send(Err(Refusal::Busy("a rotation runs".into()))));
            inbox
        });
        let answer = handle.ask(Duration::from_secs(5), |reply| AdminRequest::StartRotation { reply }).await;
        assert_eq!(answer, Err(Refusal::Busy("a rotation runs".into())));
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        drop(owner.join().unwrap());
        assert!(!handle.is_alive());
        let answer = handle.ask(SHORT, |reply| AdminRequest::StartRotation { reply }).await;
        assert_eq!(answer, Err(Refusal::Stopped));
    }

    #[tokio::test]
    async fn an_owner_that_is_slow_or_buried_is_told_apart() {
        let (handle, inbox, _publisher) = bridge(status(ServerState::Ready));
        let answer = handle.ask(SHORT, |reply| AdminRequest::StartRotation { reply }).await;
        assert_eq!(answer, Err(Refusal::TimedOut(SHORT)));
        let Some(AdminRequest::StartRotation { reply }) = inbox.try_next() else { panic!("it was queued") };
        assert!(!reply.send(Ok(())));
        for _ in 0..REQUESTS_MAX {
            let _ = handle.ask(Duration::ZERO, |reply| AdminRequest::StartRotation { reply }).await;
        }
        let answer = handle.ask(SHORT, |reply| AdminRequest::StartRotation { reply }).await;
        assert!(matches!(answer, Err(Refusal::Busy(_))), "{answer:?}");
        drop(inbox);
        assert!(!handle.is_alive());
    }

    #[test]
    fn the_latest_status_is_served() {
        let (handle, _inbox, publisher) = bridge(status(ServerState::Holding));
        assert_eq!(handle.status().state, ServerState::Holding);
        publisher.clone().publish(status(ServerState::Loading));
        publisher.update(|status| status.keys = 7);
        assert_eq!((handle.status().state, handle.status().keys), (ServerState::Loading, 7));
    }
}
