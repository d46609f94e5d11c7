//! Accepts a bounded number of connections, and keeps none of them for nothing.
//!
//! A peer must not keep the kubelet's probe out, whatever it sends or does not send:
//!
//! ```text
//!   connection ─▶ waits for a request ─▶ sends its head ─▶ is answered ─┐
//!                 ▲  75 s without a byte    10 s from the    as long as │
//!                 │                         first byte       it takes   │
//!                 └─────────────────────────────────────────────────────┘
//! ```
//!
//! When a connection comes and all are taken, the one on which nothing has happened for longest is closed. Those whose
//! request is being answered stay: a barrier takes as long as the disk.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::extract::connect_info::{ConnectInfo, Connected, IntoMakeServiceWithConnectInfo};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

/// Bounds of a port.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Connections at a time.
    pub(super) connections_max: usize,
    /// Longest time without a byte in either direction.
    pub(super) idle_time_max: Duration,
    /// Time for the head of a request, from its first byte.
    pub(super) head_time_max: Duration,
}

/// Pause after a failed accept: the usual cause, no free file descriptor, does not go away faster.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Time to begin to write an answer that is there.
const WRITE_TIME_MAX: Duration = Duration::from_secs(1);
/// Wait for the permit of a connection that was told to close, before another one is.
const CLOSE_PAUSE: Duration = Duration::from_millis(200);

/// `router` for connections of a [`BoundedListener`], so that it learns when a request is being answered.
pub(super) fn service(router: Router) -> IntoMakeServiceWithConnectInfo<Router, Peer> {
    router.layer(from_fn(answer)).into_make_service_with_connect_info()
}

async fn answer(ConnectInfo(peer): ConnectInfo<Peer>, request: Request, next: Next) -> Response {
    let _handling = Handling::begin(&peer);
    next.run(request).await
}

pub(super) struct BoundedListener {
    listener: TcpListener,
    bounds: Bounds,
    permits: Arc<Semaphore>,
    /// Open connections, and some that are gone.
    peers: Vec<Weak<Mutex<PeerState>>>,
}

impl BoundedListener {
    pub(super) fn new(listener: TcpListener, bounds: Bounds) -> Self {
        let permits = Arc::new(Semaphore::new(bounds.connections_max));
        Self { listener, bounds, permits, peers: Vec::new() }
    }

    /// Waits for a permit. Each connection that waits for nothing but a request may have to give its own.
    async fn take_permit(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
                return permit;
            }
            self.close_idlest();
            // Without one to close, all are being answered: the next look finds those that are not any more.
            let freed = Arc::clone(&self.permits).acquire_owned();
            if let Ok(Ok(permit)) = timeout(CLOSE_PAUSE, freed).await {
                return permit;
            }
        }
    }

    fn close_idlest(&self) {
        let now = Instant::now();
        let open = self.peers.iter().filter_map(Weak::upgrade).map(Peer);
        let idlest = open
            .filter_map(|peer| {
                let since = peer.lock().idle_since(now)?;
                Some((since, peer))
            })
            .min_by_key(|(since, _)| *since);
        if let Some((_, peer)) = idlest {
            tracing::debug!("a connection is closed to make room for another one");
            peer.lock().close = None;
        }
    }
}

impl Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    // Order matters: nobody is closed before somebody has come.
                    let permit = self.take_permit().await;
                    let stream = BoundedStream::new(stream, self.bounds, permit);
                    self.peers.retain(|peer| peer.strong_count() > 0);
                    self.peers.push(Arc::downgrade(&stream.peer.0));
                    return (stream, address);
                }
                Err(error) => {
                    tracing::debug!(%error, "failed to accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// What is known of the other side of a connection. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Peer(Arc<Mutex<PeerState>>);

/// Where the newest request of a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not there, or not whole.
    Awaited,
    /// With its handler.
    Handled,
    /// Its answer is about to be written.
    Answered,
}

#[derive(Debug)]
struct PeerState {
    /// When a byte went in either direction, or a request was answered.
    active_at: Instant,
    /// When the first byte of a head came that is not whole yet.
    head_since: Option<Instant>,
    stage: Stage,
    /// Dropped to close the connection.
    close: Option<oneshot::Sender<()>>,
}

impl PeerState {
    fn deadline(&self, bounds: Bounds) -> Instant {
        let idle = self.active_at + bounds.idle_time_max;
        self.head_since.map_or(idle, |since| idle.min(since + bounds.head_time_max))
    }

    /// Since when this connection waits; `None` when it is being answered or closed.
    fn idle_since(&self, now: Instant) -> Option<Instant> {
        let answering = match self.stage {
            Stage::Awaited => false,
            Stage::Handled => true,
            // A peer that does not read its answer must not stay for that.
            Stage::Answered => now.saturating_duration_since(self.active_at) < WRITE_TIME_MAX,
        };
        (!answering && self.close.is_some()).then_some(self.active_at)
    }
}

impl Peer {
    fn lock(&self) -> MutexGuard<'_, PeerState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected<IncomingStream<'_, BoundedListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> Self {
        stream.io().peer.clone()
    }
}

/// A request that is with its handler, until this is dropped.
struct Handling<'peer>(&'peer Peer);

impl<'peer> Handling<'peer> {
    fn begin(peer: &'peer Peer) -> Self {
        let mut state = peer.lock();
        state.stage = Stage::Handled;
        state.head_since = None;
        drop(state);
        Self(peer)
    }
}

impl Drop for Handling<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.stage = Stage::Answered;
        state.active_at = Instant::now();
    }
}

pub(super) struct BoundedStream {
    stream: TcpStream,
    bounds: Bounds,
    peer: Peer,
    closed: oneshot::Receiver<()>,
    /// Wakes the connection at its deadline.
    timer: Pin<Box<Sleep>>,
    /// Why it has ended.
    ended: Option<io::ErrorKind>,
    _permit: OwnedSemaphorePermit,
}

impl BoundedStream {
    fn new(stream: TcpStream, bounds: Bounds, permit: OwnedSemaphorePermit) -> Self {
        let (close, closed) = oneshot::channel();
        let now = Instant::now();
        let state = PeerState { active_at: now, head_since: None, stage: Stage::Awaited, close: Some(close) };
        let timer = Box::pin(sleep_until(state.deadline(bounds)));
        let peer = Peer(Arc::new(Mutex::new(state)));
        Self { stream, bounds, peer, closed, timer, ended: None, _permit: permit }
    }

    /// Ready when this connection must end, and why.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let kind = match self.ended {
            Some(kind) => kind,
            None => ready!(self.poll_end_once(context)),
        };
        self.ended = Some(kind);
        Poll::Ready(kind.into())
    }

    fn poll_end_once(&mut self, context: &mut Context<'_>) -> Poll<io::ErrorKind> {
        if Pin::new(&mut self.closed).poll(context).is_ready() {
            return Poll::Ready(io::ErrorKind::ConnectionAborted);
        }
        // Whatever happens on the connection moves its deadline, and leaves the timer as it is.
        let deadline = self.peer.lock().deadline(self.bounds);
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        ready!(self.timer.as_mut().poll(context));
        Poll::Ready(io::ErrorKind::TimedOut)
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Order matters: the end comes first, or bytes that never cease would put it off.
        if let Poll::Ready(error) = self.poll_end(context) {
            return Poll::Ready(Err(error));
        }
        let len_before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        if buffer.filled().len() > len_before {
            let now = Instant::now();
            let mut state = self.peer.lock();
            state.active_at = now;
            if state.stage == Stage::Awaited {
                state.head_since.get_or_insert(now);
            }
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // A peer that reads nothing of its answer is idle as well.
        if let Poll::Ready(error) = self.poll_end(context) {
            return Poll::Ready(Err(error));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        let mut state = self.peer.lock();
        state.active_at = Instant::now();
        if state.stage == Stage::Answered {
            state.stage = Stage::Awaited;
        }
        drop(state);
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
