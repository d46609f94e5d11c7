//! One client's socket with its input and output.

use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use mio::net::{TcpStream, UnixStream};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::output::{Output, SendOutcome};
use super::stream::{Ends, Stream};

/// Most bytes taken from a socket in one turn: a client that sends without end does not starve the others.
pub(crate) const READ_LEN_MAX: usize = 64 << 10;
/// Most bytes read at once into a buffer that holds the front of a long request already.
const LONG_READ_LEN_MAX: usize = 1 << 20;
/// Shortest room that is kept between long requests, in bytes: less is given back. Source: Redis 7.0, `PROTO_RESIZE_THRESHOLD`.
const KEPT_ROOM_MIN: usize = 32 << 10;
/// Longest such room, in bytes: an argument that needs more leaves none behind.
const KEPT_ROOM_MAX: usize = LONG_READ_LEN_MAX;
/// Free room that a buffer may have, however long its client is idle, in bytes. Source: Redis 7.0, `clientsCronResizeQueryBuffer`.
const FREE_ROOM_MAX: usize = 4 << 10;
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
    /// Shared with the I/O thread that sends to it at the moment.
    stream: Arc<Stream>,
    /// Bytes that were received and could not be executed yet: the front of a request, or what a client sent that waits.
    /// Empty for a client whose requests arrive whole. Without memory then, unless the last ones were long: see
    /// [`Self::kept_room`].
    pub(crate) input: Vec<u8>,
    /// Longest input that a long argument has needed since [`Self::check_room`], up to [`KEPT_ROOM_MAX`]; 0: there was none.
    long_peak: usize,
    /// Replies and messages. They may leave once the turn is committed.
    pub(crate) output: Output,
    /// Output that an I/O thread has: what is written meanwhile follows it.
    away: Option<Away>,
    /// The poll has reported the end, which a read that takes the last bytes does not see. It reports it once.
    end_announced: bool,
    ends: Ends,
}

/// What is known of output while it is away.
#[derive(Debug)]
struct Away {
    unsent_len: usize,
    memory_bytes: usize,
    /// The poll has reported room in the socket since. It reports it once.
    has_room: bool,
}

/// Sends what a socket takes of `output`, within the limit of one turn; returns how much that was.
///
/// # Errors
/// What the socket reports, without `WouldBlock`.
pub(crate) fn send(output: &mut Output, mut stream: &Stream) -> (usize, io::Result<SendOutcome>) {
    output.send(&mut stream, SEND_LEN_MAX)
}

impl Connection {
    /// Takes over an accepted, non-blocking socket.
    pub(crate) fn by_tcp(stream: TcpStream) -> Self {
        let ends = Ends::Tcp { peer: stream.peer_addr().ok(), local: stream.local_addr().ok() };
        Self::new(Stream::Tcp(stream), ends)
    }

    /// The same for one that was accepted at the Unix socket `path`.
    pub(crate) fn by_unix_socket(stream: UnixStream, path: Arc<str>) -> Self {
        Self::new(Stream::Unix(stream), Ends::Unix { path })
    }

    fn new(stream: Stream, ends: Ends) -> Self {
        Self {
            stream: Arc::new(stream),
            input: Vec::new(),
            long_peak: 0,
            output: Output::default(),
            away: None,
            end_announced: false,
            ends,
        }
    }

    /// The socket.
    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Makes `poll` tell of the socket, with `token`.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub(crate) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut SourceFd(&self.fd()), token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Makes the poll tell no more, also while an I/O thread still has the socket.
    pub(crate) fn deregister(&self, registry: &Registry) {
        // It was registered, unless that failed; then there is nothing to do.
        let _ = registry.deregister(&mut SourceFd(&self.fd()));
    }

    /// Where it comes from, and where it has arrived.
    pub(crate) fn ends(&self) -> &Ends {
        &self.ends
    }

    /// The peer as CLIENT LIST names it.
    pub(crate) fn peer_name(&self) -> String {
        self.ends.peer_name()
    }

    /// File descriptor of the socket.
    pub(crate) fn fd(&self) -> i32 {
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
            match (&*self.stream).read(&mut space[len..]) {
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

    /// Keeps what was read elsewhere and not executed; [`Self::input`] is empty. `needed_len` is the length of the input with
    /// which a long argument is complete: the next read needs that room.
    pub(crate) fn keep(&mut self, bytes: &[u8], needed_len: Option<usize>) {
        debug_assert!(self.input.is_empty(), "what a client has sent is in one place");
        let mut room = bytes.len();
        if let Some(needed) = needed_len {
            self.note_long(needed);
            room = room.max(needed.min(bytes.len() + LONG_READ_LEN_MAX));
        }
        if self.input.capacity() < room {
            self.input = Vec::with_capacity(room);
        }
        self.input.extend_from_slice(bytes);
    }

    /// Notes that a long argument needs so much input.
    fn note_long(&mut self, needed_len: usize) {
        if needed_len <= KEPT_ROOM_MAX {
            self.long_peak = self.long_peak.max(needed_len);
        }
    }

    /// Takes the input back, of which the first `consumed` bytes are done. Its room stays for the next long request if there
    /// was one lately, up to `kept_max` bytes; some of it stays for a pipeline that goes on.
    pub(crate) fn put_back_input(&mut self, mut input: Vec<u8>, consumed: usize, kept_max: usize) {
        input.drain(..consumed);
        if input.is_empty() {
            let kept_max = if self.long_peak > 0 { kept_max.min(KEPT_ROOM_MAX) } else { 0 };
            if input.capacity() > kept_max {
                input = Vec::new();
            }
        } else if consumed > 0 {
            let room = READ_LEN_MAX.max(2 * input.len());
            if input.capacity() > 2 * room {
                input.shrink_to(room);
            }
        }
        self.input = input;
    }

    /// Room for the next long request, in bytes: capacity of an input that is empty.
    pub(crate) fn kept_room(&self) -> usize {
        if self.input.is_empty() { self.input.capacity() } else { 0 }
    }

    /// Gives free room back that is not needed: all of it for a client that `is_idle`; else half of a room of which less is
    /// used, was needed since the last call, or is needed by the long argument in progress, which is complete with
    /// `needed_len` bytes of input. Returns whether there was any.
    pub(crate) fn check_room(&mut self, is_idle: bool, needed_len: Option<usize>) -> bool {
        let peak = std::mem::take(&mut self.long_peak).max(needed_len.unwrap_or(0));
        let (len, capacity) = (self.input.len(), self.input.capacity());
        if capacity - len <= FREE_ROOM_MAX {
            return false;
        }
        if is_idle {
            self.input.shrink_to_fit();
            return true;
        }
        let half = capacity / 2;
        let is_too_long = half > peak.max(len);
        if is_too_long {
            self.input.shrink_to(if half < KEPT_ROOM_MIN { 0 } else { half });
        }
        is_too_long
    }

    /// Gives all free room back.
    pub(crate) fn give_up_room(&mut self) {
        self.long_peak = 0;
        self.input.shrink_to_fit();
    }

    /// Reads at most as much as `space` has room for, into it, or behind what [`Self::input`] holds, which then has no room
    /// beyond its content.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn read_exactly(&mut self, space: &mut [u8]) -> io::Result<(usize, ReadOutcome)> {
        let (len, outcome) = self.read(space)?;
        if !self.input.is_empty() {
            self.input.reserve_exact(len);
            self.input.extend_from_slice(&space[..len]);
        }
        Ok((len, outcome))
    }

    /// Reads behind what [`Self::input`] holds; returns how much. `needed_len` is the length of the input with which the
    /// argument in progress is complete, if that is known: the buffer grows by doubling, and not beyond it. `is_long` says
    /// that this argument alone is worth its reads: nothing behind it is read, so that the buffer has its length in the end.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn read_more(
        &mut self,
        needed_len: Option<usize>,
        is_long: bool,
    ) -> io::Result<(usize, ReadOutcome)> {
        if let Some(needed) = needed_len.filter(|_| is_long) {
            self.note_long(needed);
        }
        let mut input = std::mem::take(&mut self.input);
        let before = input.len();
        let missing = needed_len.map_or(0, |needed| needed.saturating_sub(before));
        let space_min = if is_long && missing > 0 { missing.min(READ_LEN_MAX) } else { READ_LEN_MAX };
        let space = missing.clamp(space_min, LONG_READ_LEN_MAX);
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
        debug_assert!(self.away.is_none(), "what is away goes first");
        send(&mut self.output, &self.stream)
    }

    /// Gives the output away to be sent by an I/O thread.
    pub(crate) fn give_away(&mut self) -> (Arc<Stream>, Output) {
        debug_assert!(self.away.is_none(), "one piece is away at a time");
        let output = std::mem::take(&mut self.output);
        self.away = Some(Away {
            unsent_len: output.unsent_len(),
            memory_bytes: output.memory_bytes(),
            has_room: false,
        });
        (Arc::clone(&self.stream), output)
    }

    /// Takes back what was given away and not sent, in front of what was written since: an empty `rest` stays with the
    /// caller. True when the socket has had room in the meantime.
    pub(crate) fn take_back(&mut self, rest: &mut Output) -> bool {
        if !rest.is_empty() {
            let since = std::mem::replace(&mut self.output, std::mem::take(rest));
            self.output.append(since);
        }
        self.away.take().is_some_and(|away| away.has_room)
    }

    /// Whether an I/O thread has output of this connection.
    pub(crate) fn is_away(&self) -> bool {
        self.away.is_some()
    }

    /// Notes that the socket takes bytes again, for whoever has the output.
    pub(crate) fn note_room(&mut self) {
        if let Some(away) = &mut self.away {
            away.has_room = true;
        }
    }

    /// Bytes that are still to be sent; those that are away count until their delivery is told.
    pub(crate) fn unsent_len(&self) -> usize {
        self.output.unsent_len() + self.away.as_ref().map_or(0, |away| away.unsent_len)
    }

    /// Bytes that the output holds.
    pub(crate) fn output_memory_bytes(&self) -> usize {
        self.output.memory_bytes() + self.away.as_ref().map_or(0, |away| away.memory_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream as StdStream};

    use super::*;
    use crate::protocol::RespVersion;

    fn write(connection: &mut Connection, text: &str) {
        connection.output.writer(RespVersion::Resp2).append(text.as_bytes());
    }

    /// Both ends of a connection.
    fn connect() -> (StdStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        (client, Connection::by_tcp(TcpStream::from_std(stream)))
    }

    /// What comes in pieces of any size is kept without room for more: of a long argument as far as it goes, of a stranger
    /// always.
    #[test]
    fn kept_input_has_no_more_room_than_it_needs() {
        const LEN: usize = 300_000;
        for piece in [1000, 70_000, LEN] {
            for is_stranger in [false, true] {
                let (mut client, mut connection) = connect();
                connection.input = b"front".to_vec();
                let needed = connection.input.len() + LEN;
                let mut space = vec![0; READ_LEN_MAX];
                for piece in vec![b'v'; LEN].chunks(piece) {
                    client.write_all(piece).unwrap();
                    let until = connection.input.len() + piece.len();
                    while connection.input.len() < until {
                        if is_stranger {
                            connection.read_exactly(&mut space).unwrap();
                            assert_eq!(connection.input.capacity(), connection.input.len());
                        } else {
                            connection.read_more(Some(needed), true).unwrap();
                        }
                    }
                }
                assert_eq!(connection.input.len(), needed);
                assert_eq!(connection.input.capacity(), needed, "in pieces of {piece}");
            }
        }
    }

    /// Room after a request of `len` bytes, of which the first read took some, that may keep `kept_max`.
    fn serve_long(connection: &mut Connection, len: usize, kept_max: usize) -> usize {
        connection.keep(b"front", Some(len));
        connection.input.resize(len, b'v');
        let input = std::mem::take(&mut connection.input);
        connection.put_back_input(input, len, kept_max);
        connection.kept_room()
    }

    #[test]
    fn room_of_long_requests_is_kept_and_goes_by_halves() {
        const LEN: usize = 400_000;
        let (_client, mut connection) = connect();
        assert_eq!(serve_long(&mut connection, LEN, usize::MAX), LEN);
        assert!(!connection.check_room(false, None), "it was needed");
        let address = connection.input.as_ptr();
        assert_eq!(serve_long(&mut connection, LEN / 2 + 1, usize::MAX), LEN);
        assert_eq!(connection.input.as_ptr(), address, "the next request has used it");
        assert!(!connection.check_room(false, None), "more than half of it was needed");
        for left in [LEN / 2, LEN / 4, LEN / 8, 0] {
            assert!(connection.check_room(false, None));
            assert_eq!(connection.kept_room(), left);
        }
        assert!(!connection.check_room(false, None), "there is nothing to be given back");

        serve_long(&mut connection, LEN, usize::MAX);
        assert!(connection.check_room(true, None));
        assert_eq!(connection.kept_room(), 0, "an idle client keeps none");
    }

    #[test]
    fn no_room_is_kept_beyond_a_limit_or_without_a_long_request() {
        let (_client, mut connection) = connect();
        assert_eq!(serve_long(&mut connection, KEPT_ROOM_MAX, usize::MAX), KEPT_ROOM_MAX);
        assert_eq!(serve_long(&mut connection, KEPT_ROOM_MAX + 1, usize::MAX), 0, "it is too long");
        assert_eq!(serve_long(&mut connection, 100_000, 99_999), 0, "others keep the rest");
        connection.check_room(false, None);
        connection.keep(b"front of a short one", None);
        connection.input.reserve_exact(READ_LEN_MAX);
        let (input, len) = (std::mem::take(&mut connection.input), b"front of a short one".len());
        connection.put_back_input(input, len, usize::MAX);
        assert_eq!(connection.kept_room(), 0);
    }

    /// A client that stops in the middle of a request holds what it has sent.
    #[test]
    fn the_front_of_a_request_has_no_free_room_once_its_client_is_idle() {
        let (_client, mut connection) = connect();
        connection.keep(b"front", Some(400_000));
        assert_eq!((connection.input.capacity(), connection.kept_room()), (400_000, 0));
        for _ in 0..3 {
            assert!(!connection.check_room(false, Some(400_000)), "it goes on");
        }
        assert!(connection.check_room(true, Some(400_000)));
        assert_eq!((&connection.input[..], connection.input.capacity()), (&b"front"[..], 5));
        assert!(!connection.check_room(true, None));
    }

    /// Whoever sends the fronts of short requests does not hold what a long one has left.
    #[test]
    fn room_behind_the_front_of_a_short_request_goes_by_halves() {
        const LEN: usize = 400_000;
        let (_client, mut connection) = connect();
        serve_long(&mut connection, LEN, usize::MAX);
        connection.keep(b"front", None);
        assert_eq!((connection.input.capacity(), connection.kept_room()), (LEN, 0));
        assert!(!connection.check_room(false, None), "it was needed");
        for left in [LEN / 2, LEN / 4, LEN / 8, b"front".len()] {
            assert!(connection.check_room(false, None));
            assert_eq!(connection.input.capacity(), left);
        }
        assert_eq!(connection.input, b"front");
        assert!(!connection.check_room(false, None), "there is nothing to be given back");

        connection.input.resize(60_000, b'v');
        connection.input.reserve_exact(40_000);
        assert!(!connection.check_room(false, None), "more than half of it is used");
    }

    #[test]
    fn what_is_written_while_output_is_away_follows_it() {
        let (mut client, mut connection) = connect();
        write(&mut connection, "first ");
        let (_, mut away) = connection.give_away();
        assert!(connection.is_away());
        write(&mut connection, "second ");
        assert_eq!(connection.unsent_len(), 13, "what is away is not sent yet");
        // Not sent: the socket was full, and has had room since.
        connection.note_room();
        assert!(connection.take_back(&mut away));
        assert!(!connection.is_away());
        assert_eq!(connection.send().0, 13);

        write(&mut connection, "third ");
        let (socket, mut away) = connection.give_away();
        write(&mut connection, "fourth");
        assert_eq!(send(&mut away, &socket).0, 6);
        assert!(!connection.take_back(&mut away), "nobody has told of room");
        assert_eq!(connection.unsent_len(), 6);
        assert_eq!(connection.send().0, 6);
        drop((connection, socket));
        let mut received = String::new();
        client.read_to_string(&mut received).unwrap();
        assert_eq!(received, "first second third fourth");
    }
}
