//! One client's socket with its input and output.

use std::io::{self, Read as _};
use std::net::SocketAddr;

use mio::net::TcpStream;

use super::output::{Output, SendOutcome};

/// Most bytes taken from a socket in one turn: a client that sends without end does not starve the others.
pub(crate) const READ_LEN_MAX: usize = 64 << 10;
/// Most bytes read at once into a buffer that holds the front of a long request already.
const LONG_READ_LEN_MAX: usize = 1 << 20;
/// Most bytes sent to one client in one turn, for the same reason.
const SEND_LEN_MAX: usize = 1 << 20;

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadOutcome {
    /// Everything that had arrived was taken.
    Drained,
    /// There may be more: read again in the next turn.
    More,
    /// The peer sends nothing more; what was read before counts.
    Closed,
}

/// A connection. Bytes only; sessions and commands are the executor's.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// Bytes that were received and could not be executed yet: the front of a request, or what a client sent that waits.
    /// Empty, and without memory, for a client whose requests arrive whole.
    pub(crate) input: Vec<u8>,
    /// Replies and messages. They may leave once the turn is committed.
    pub(crate) output: Output,
    /// The poll has reported the end, which a read that takes the last bytes does not see. It reports it once.
    end_announced: bool,
    peer: Option<SocketAddr>,
    local: Option<SocketAddr>,
}

/// An address as `ip:port`; `?:0` when it is unknown (the peer left at once).
pub(crate) fn address_name(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "?:0".to_owned(), |address| address.to_string())
}

impl Connection {
    /// Takes over an accepted, non-blocking socket.
    pub(crate) fn new(stream: TcpStream) -> Self {
        let (peer, local) = (stream.peer_addr().ok(), stream.local_addr().ok());
        Self { stream, input: Vec::new(), output: Output::default(), end_announced: false, peer, local }
    }

    /// The socket, to register it.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// The peer's address.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The address of our end.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// True when the peer is on this machine's loopback interface.
    pub(crate) fn is_loopback(&self) -> bool {
        self.peer.is_some_and(|address| address.ip().to_canonical().is_loopback())
    }

    /// File descriptor of the socket.
    pub(crate) fn fd(&self) -> i32 {
        use std::os::fd::AsRawFd as _;
        self.stream.as_raw_fd()
    }

    /// Notes that the peer has ended its side, or that the connection is broken: reads go on until they meet that.
    pub(crate) fn announce_end(&mut self) {
        self.end_announced = true;
    }

    /// Whether the peer is known to have ended its side, although bytes of it may still be unread.
    pub(crate) fn is_end_announced(&self) -> bool {
        self.end_announced
    }

    /// Reads what has arrived into `space`; returns how much.
    ///
    /// # Errors
    /// What the socket reports, without `WouldBlock`. Bytes that came before an error are returned first.
    pub(crate) fn read(&mut self, space: &mut [u8]) -> io::Result<(usize, ReadOutcome)> {
        let mut len = 0;
        while len < space.len() {
            match self.stream.read(&mut space[len..]) {
                Ok(0) => return Ok((len, ReadOutcome::Closed)),
                Ok(read) => {
                    len += read;
                    // A short read of a stream socket means that it is empty: what comes next makes a new event. An end that
                    // has come already does not.
                    if len < space.len() && !self.end_announced {
                        return Ok((len, ReadOutcome::Drained));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok((len, ReadOutcome::Drained));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if len > 0 => return Ok((len, ReadOutcome::Closed)),
                Err(error) => return Err(error),
            }
        }
        Ok((len, ReadOutcome::More))
    }

    /// Reads behind what [`Self::input`] holds; returns how much. `needed_len` is the length of the input with which the
    /// request in progress is complete, if that is known: the buffer grows by doubling, and not beyond it.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn read_more(&mut self, needed_len: Option<usize>) -> io::Result<(usize, ReadOutcome)> {
        let mut input = std::mem::take(&mut self.input);
        let before = input.len();
        let missing = needed_len.map_or(0, |needed| needed.saturating_sub(before));
        let space = missing.clamp(READ_LEN_MAX, LONG_READ_LEN_MAX);
        let wanted = before + space;
        if input.capacity() < wanted {
            let doubled = wanted.max(before * 2);
            let capacity = needed_len.map_or(doubled, |needed| doubled.min(needed.max(wanted)));
            input.reserve_exact(capacity - before);
        }
        input.resize(wanted, 0);
        let result = self.read(&mut input[before..]);
        input.truncate(before + result.as_ref().map_or(0, |(len, _)| *len));
        self.input = input;
        result
    }

    /// Sends what the socket takes; returns how much that was.
    ///
    /// # Errors
    /// What the socket reports, without `WouldBlock`.
    pub(crate) fn send(&mut self) -> (usize, io::Result<SendOutcome>) {
        self.output.send(&mut self.stream, SEND_LEN_MAX)
    }
}
