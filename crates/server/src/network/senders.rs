//! I/O threads: they send what is ready to leave, beside the executor.
//!
//! The executor hands over a share of its outputs and sends the others itself; what no thread has begun with by then, it
//! takes back. So it never waits for a thread, and where no processor is free for one, it does everything as if there were
//! none. A thread sleeps when there is nothing to do: under a quota, time that is spent waiting is taken from the commands.
//!
//! ```text
//! executor ── Parcel ──▶ waiting ──▶ thread: send ──▶ Delivery ──▶ delivered ── executor
//!     ▲                     │
//!     └───── take_back ─────┘
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use super::connection::send;
use super::output::{Output, SendOutcome};
use super::stream::Stream;
use super::trial::Trial;

/// Most parcels that are handed over and not delivered yet.
const PARCELS_MAX: usize = 1024;
/// Fewer outputs than this for each thread, the executor's included, are sent sooner than a thread is woken.
const OUTPUTS_MIN: usize = 8;

/// Output that is to be sent, and to whom it belongs.
#[derive(Debug)]
pub(crate) struct Parcel {
    /// Slot of the client.
    pub(crate) slot: usize,
    /// Id of the client: another may have its slot when the delivery is told.
    pub(crate) client: u64,
    pub(crate) socket: Arc<Stream>,
    pub(crate) output: Output,
}

/// What became of a parcel.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) slot: usize,
    pub(crate) client: u64,
    /// What was not sent, or an empty buffer.
    pub(crate) output: Output,
    /// Bytes that were sent.
    pub(crate) sent: usize,
    pub(crate) result: io::Result<SendOutcome>,
}

struct Shared {
    waiting: ArrayQueue<Parcel>,
    /// As long as `waiting`, and never full: the executor counts what is under way.
    delivered: ArrayQueue<Delivery>,
    /// The executor sleeps, or is about to.
    is_asleep: AtomicBool,
    stopping: AtomicBool,
}

/// The threads and what is under way to and from them.
pub(crate) struct Senders {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Parcels handed over and not delivered yet.
    under_way: usize,
    trial: Trial,
}

impl Senders {
    /// Starts `count` threads; fewer, with a warning, where the system refuses one. `wake` ends the sleep of the executor.
    pub(crate) fn start(count: usize, wake: impl Fn() + Clone + Send + 'static) -> Senders {
        let shared = Arc::new(Shared {
            waiting: ArrayQueue::new(PARCELS_MAX),
            delivered: ArrayQueue::new(PARCELS_MAX),
            is_asleep: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        });
        let mut threads = Vec::with_capacity(count);
        for number in 1..=count {
            let (shared, wake) = (Arc::clone(&shared), wake.clone());
            let thread = std::thread::Builder::new()
                .name(format!("io_thd_{number}"))
                .spawn(move || deliver_until_stopped(&shared, wake));
            match thread {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    tracing::warn!(%error, "failed to start an I/O thread; going on with {} of {count}", threads.len());
                    break;
                }
            }
        }
        Senders { shared, threads, under_way: 0, trial: Trial::new() }
    }

    /// How many threads there are.
    pub(crate) fn threads(&self) -> usize {
        self.threads.len()
    }

    /// How many of `outputs` are worth handing over in this turn.
    pub(crate) fn share_of(&self, outputs: usize) -> usize {
        let helpers = self.threads.len().min((outputs / OUTPUTS_MIN).saturating_sub(1));
        if helpers == 0 || !(self.trial.helps() || crate::faults::always_shares()) {
            return 0;
        }
        (outputs * helpers / (helpers + 1)).min(PARCELS_MAX - self.under_way)
    }

    /// Learns how long the executor slept before a turn, how long the turn took, and how many commands were executed in it:
    /// help is given as long as it makes them more.
    pub(crate) fn note_turn(&mut self, slept: Duration, took: Duration, commands: u64) {
        if !self.threads.is_empty() {
            self.trial.note_turn(slept, took, commands);
        }
    }

    /// Hands over a parcel.
    pub(crate) fn hand_over(&mut self, parcel: Parcel) {
        match self.shared.waiting.push(parcel) {
            Ok(()) => self.under_way += 1,
            Err(_) => unreachable!("no more is handed over than `share_of` allows"),
        }
    }

    /// Lets threads begin with `parcels` parcels that were handed over.
    pub(crate) fn begin(&self, parcels: usize) {
        for thread in self.threads.iter().take(parcels.div_ceil(OUTPUTS_MIN)) {
            thread.thread().unpark();
        }
    }

    /// A parcel that no thread has begun with.
    pub(crate) fn take_back(&mut self) -> Option<Parcel> {
        let parcel = self.shared.waiting.pop()?;
        self.under_way -= 1;
        Some(parcel)
    }

    /// What became of a parcel, in no particular order.
    pub(crate) fn next_delivery(&mut self) -> Option<Delivery> {
        if self.under_way == 0 {
            return None;
        }
        let delivery = self.shared.delivered.pop()?;
        self.under_way -= 1;
        Some(delivery)
    }

    /// Tells the threads that the executor goes to sleep; false if there is a delivery already.
    pub(crate) fn fall_asleep(&self) -> bool {
        if self.under_way == 0 {
            return true;
        }
        // Order matters: a thread delivers first and looks at the mark then, so one of the two sees the other.
        self.shared.is_asleep.store(true, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
        self.shared.delivered.is_empty()
    }

    /// The executor is awake.
    pub(crate) fn wake_up(&self) {
        if self.shared.is_asleep.load(Ordering::Relaxed) {
            self.shared.is_asleep.store(false, Ordering::Relaxed);
        }
    }
}

impl Drop for Senders {
    /// Everything that was handed over is sent as far as the sockets take it.
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // A panic has ended the process.
            let _ = thread.join();
        }
    }
}

fn deliver_until_stopped(shared: &Shared, wake: impl Fn()) {
    loop {
        let mut has_delivered = false;
        while let Some(Parcel { slot, client, socket, mut output }) = shared.waiting.pop() {
            let (sent, result) = send(&mut output, &socket);
            // Closed here if its client has gone: the executor looks at the delivery only to free the slot.
            drop(socket);
            if shared.delivered.push(Delivery { slot, client, output, sent, result }).is_err() {
                unreachable!("there is room for everything that is under way");
            }
            has_delivered = true;
        }
        if has_delivered {
            std::sync::atomic::fence(Ordering::SeqCst);
            if shared.is_asleep.swap(false, Ordering::SeqCst) {
                wake();
            }
        }
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream as StdStream};
    use std::sync::mpsc::channel;

    use mio::net::TcpStream;

    use super::*;
    use crate::protocol::RespVersion;

    fn pair() -> (Arc<Stream>, StdStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        (Arc::new(Stream::Tcp(TcpStream::from_std(server))), client)
    }

    fn parcel(slot: usize, socket: &Arc<Stream>, len: usize) -> Parcel {
        let mut output = Output::default();
        output.writer(RespVersion::Resp2).append(&vec![u8::try_from(slot % 251).unwrap(); len]);
        Parcel { slot, client: 1000 + slot as u64, socket: Arc::clone(socket), output }
    }

    #[test]
    fn parcels_are_delivered_and_the_executor_is_woken() {
        let (woken, wakes) = channel();
        let mut senders = Senders::start(2, move || woken.send(()).unwrap());
        let pairs: Vec<_> = (0..40).map(|_| pair()).collect();
        for (slot, (socket, _)) in pairs.iter().enumerate() {
            senders.hand_over(parcel(slot, socket, 1 + slot * 100));
        }
        assert!(senders.fall_asleep(), "nothing was begun");
        senders.begin(pairs.len());
        let mut told = Vec::new();
        while told.len() < pairs.len() {
            let delivery = senders.next_delivery();
            let Some(delivery) = delivery else {
                if senders.fall_asleep() {
                    wakes.recv_timeout(Duration::from_secs(60)).unwrap();
                }
                continue;
            };
            assert_eq!(delivery.client, 1000 + delivery.slot as u64);
            assert!(matches!(delivery.result, Ok(SendOutcome::Done)), "{delivery:?}");
            assert_eq!(delivery.sent, 1 + delivery.slot * 100);
            assert!(delivery.output.is_empty());
            told.push(delivery.slot);
        }
        told.sort_unstable();
        assert_eq!(told, (0..pairs.len()).collect::<Vec<_>>());
        assert_eq!(senders.under_way, 0);
        for (slot, (_, client)) in pairs.iter().enumerate() {
            let mut received = vec![0; 1 + slot * 100];
            (&mut &*client).read_exact(&mut received).unwrap();
            assert!(received.iter().all(|byte| usize::from(*byte) == slot % 251));
        }
    }

    #[test]
    fn what_no_thread_has_begun_with_comes_back_as_it_was() {
        let mut senders = Senders::start(0, || ());
        let (socket, _client) = pair();
        assert_eq!(senders.share_of(1000), 0, "there is no thread to share with");
        for slot in 0..PARCELS_MAX {
            senders.hand_over(parcel(slot, &socket, slot + 1));
        }
        for slot in 0..PARCELS_MAX {
            let parcel = senders.take_back().unwrap();
            assert_eq!((parcel.slot, parcel.output.unsent_len()), (slot, slot + 1));
        }
        assert!(senders.take_back().is_none() && senders.next_delivery().is_none());
    }

    #[test]
    fn what_a_socket_does_not_take_comes_back_and_the_end_leaves_nothing_behind() {
        let mut senders = Senders::start(1, || ());
        let (socket, mut client) = pair();
        let len = 32 << 20;
        senders.hand_over(parcel(7, &socket, len));
        senders.begin(1);
        let delivery = loop {
            if let Some(delivery) = senders.next_delivery() {
                break delivery;
            }
            std::thread::yield_now();
        };
        assert!(matches!(delivery.result, Ok(SendOutcome::Blocked | SendOutcome::More)), "{delivery:?}");
        assert_eq!(delivery.output.unsent_len() + delivery.sent, len);
        let (other, mut other_client) = pair();
        senders.hand_over(parcel(8, &other, 10));
        drop(senders);
        drop((socket, other));
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), delivery.sent);
        received.clear();
        other_client.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), 10, "what was handed over is sent before the threads end");
    }

    #[test]
    fn a_panic_of_a_thread_ends_the_process() {
        let senders = Senders::start(2, || ());
        assert_eq!(senders.threads(), 2);
        for thread in &senders.threads {
            let name = thread.thread().name().unwrap();
            assert!(
                crate::telemetry::is_vital(name),
                "nobody would notice that {name} is gone, and its client would wait"
            );
        }
    }

    #[test]
    fn a_share_is_handed_over_while_it_brings_something() {
        let mut senders = Senders::start(3, || ());
        let mut shares = Vec::new();
        for _ in 0..300 {
            let share = senders.share_of(1000);
            shares.push(share);
            senders.note_turn(Duration::ZERO, Duration::from_millis(1), 100 + share as u64);
        }
        assert_eq!((shares[0], shares[10], shares[20], shares[299]), (0, 750, 0, 750));
        assert_eq!(senders.share_of(2 * OUTPUTS_MIN - 1), 0, "too few to wake a thread for");
        assert_eq!(senders.share_of(2 * OUTPUTS_MIN), OUTPUTS_MIN);
    }
}
