//! One client's socket with its input and output buffers.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;

use mio::net::TcpStream;

/// Most bytes taken from one client in one turn: a client that sends without end does not starve the others.
pub const READ_LEN_MAX: usize = 256 << 10;
/// Capacity that an emptied buffer keeps, in bytes.
const BUFFER_LEN_KEPT: usize = 64 << 10;

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOutcome {
    /// Everything that had arrived was taken.
    Drained,
    /// There may be more: read again in the next turn.
    More,
    /// The peer will not send anything more; what was read before is in the buffer.
    Closed,
}

/// A connection. Bytes only; sessions and commands are the executor's.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Bytes that were received and not yet executed.
    pub input: Vec<u8>,
    /// Replies that may leave; the first `sent` of them have left.
    pub output: Vec<u8>,
    sent: usize,
    /// The poll has told of the end, which a read that takes the last bytes does not see, and tells of it once.
    end_announced: bool,
    peer: Option<SocketAddr>,
    local: Option<SocketAddr>,
}

impl Connection {
    /// Takes over an accepted, non-blocking socket.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        let (peer, local) = (stream.peer_addr().ok(), stream.local_addr().ok());
        Self { stream, input: Vec::new(), output: Vec::new(), sent: 0, end_announced: false, peer, local }
    }

    /// The socket, to register it.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Peer as `ip:port`, `?:0` when it is unknown (it left at once).
    #[must_use]
    pub fn peer_name(&self) -> String {
        self.peer.map_or_else(|| "?:0".to_owned(), |address| address.to_string())
    }

    /// Our end as `ip:port`.
    #[must_use]
    pub fn local_name(&self) -> String {
        self.local.map_or_else(|| "?:0".to_owned(), |address| address.to_string())
    }

    /// True when the peer is on this machine's loopback interface.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.peer.is_some_and(|address| address.ip().to_canonical().is_loopback())
    }

    /// File descriptor of the socket.
    #[must_use]
    pub fn fd(&self) -> i32 {
        use std::os::fd::AsRawFd as _;
        self.stream.as_raw_fd()
    }

    /// Notes that the peer has ended its side, or that the connection is broken: reads go on until they meet that.
    pub fn announce_end(&mut self) {
        self.end_announced = true;
    }

    /// Appends what has arrived to [`Self::input`], about [`READ_LEN_MAX`] bytes at most.
    ///
    /// # Errors
    /// Whatever the socket says, without `WouldBlock`.
    pub fn read(&mut self, scratch: &mut [u8]) -> io::Result<ReadOutcome> {
        let mut taken = 0;
        while taken < READ_LEN_MAX {
            match self.stream.read(scratch) {
                Ok(0) => return Ok(ReadOutcome::Closed),
                Ok(len) => {
                    self.input.extend_from_slice(&scratch[..len]);
                    taken += len;
                    // A short read of a stream socket means that it is empty: what comes next makes a new event. An end that
                    // has come already does not.
                    if len < scratch.len() && !self.end_announced {
                        return Ok(ReadOutcome::Drained);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(ReadOutcome::Drained),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ReadOutcome::More)
    }

    /// Drops the first `len` bytes of the input.
    pub fn consume(&mut self, len: usize) {
        if len == self.input.len() {
            self.input.clear();
            if self.input.capacity() > BUFFER_LEN_KEPT {
                self.input = Vec::new();
            }
        } else {
            self.input.drain(..len);
        }
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn unsent_len(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Sends as much of the output as the socket takes.
    ///
    /// # Errors
    /// Whatever the socket says, without `WouldBlock`.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.sent = 0;
        self.output.clear();
        if self.output.capacity() > BUFFER_LEN_KEPT {
            self.output = Vec::new();
        }
        Ok(())
    }
}
