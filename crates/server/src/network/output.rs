//! What waits to be sent to one client: a buffer that replies are written into, and pieces that several clients share.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use bytes::Bytes;

/// From this length on a message is shared by its receivers instead of copied into each one's buffer, in bytes. A copy of
/// less is cheaper than the bookkeeping of a piece.
pub(crate) const SHARED_LEN_MIN: usize = 16 << 10;
/// Pieces given to one `writev`.
const PIECES_MAX: usize = 16;

/// How a send ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendOutcome {
    /// Everything was sent.
    Done,
    /// The socket takes no more at the moment: the poll reports when it does.
    Blocked,
    /// The limit of this call is reached: the socket may take more.
    More,
}

/// Bytes in the order in which they leave. The sent ones are dropped as they go.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Whole pieces in front of `tail`.
    sealed: VecDeque<Bytes>,
    /// Bytes of `sealed`.
    sealed_len: usize,
    /// Where replies are written.
    tail: Vec<u8>,
    /// Bytes at the front of the first piece (of `tail` if there is none) that have been sent.
    sent: usize,
}

impl Output {
    /// The buffer to append replies to.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Replaces the buffer, which must be empty, by one that has room.
    pub(crate) fn lend(&mut self, buffer: Vec<u8>) {
        debug_assert!(self.tail.is_empty() && buffer.is_empty(), "buffers are exchanged empty");
        self.tail = buffer;
    }

    /// Takes the buffer out of an output that has nothing to send.
    pub(crate) fn take_buffer(&mut self) -> Vec<u8> {
        debug_assert!(self.is_empty(), "there is output in the buffer");
        std::mem::take(&mut self.tail)
    }

    /// Whether the buffer has no room reserved.
    pub(crate) fn has_no_buffer(&self) -> bool {
        self.tail.capacity() == 0
    }

    /// Appends a message that other clients may get as well.
    pub(crate) fn push_shared(&mut self, message: &Bytes) {
        if message.len() < SHARED_LEN_MIN {
            self.tail.extend_from_slice(message);
            return;
        }
        self.seal();
        self.sealed_len += message.len();
        self.sealed.push_back(message.clone());
    }

    /// Makes a piece of the buffer's content.
    fn seal(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        if self.sealed.is_empty() {
            // The sent prefix belongs to the piece from now on.
            let sent = std::mem::take(&mut self.sent);
            self.tail.drain(..sent);
        }
        if self.tail.is_empty() {
            return;
        }
        let piece = Bytes::from(std::mem::take(&mut self.tail));
        self.sealed_len += piece.len();
        self.sealed.push_back(piece);
    }

    /// Appends the content of another output, of which nothing has been sent.
    pub(crate) fn append(&mut self, mut other: Output) {
        debug_assert_eq!(other.sent, 0, "only the front of an output is sent");
        if other.is_empty() {
            return;
        }
        if self.is_empty() {
            *self = other;
            return;
        }
        self.seal();
        self.sealed_len += other.sealed_len;
        self.sealed.append(&mut other.sealed);
        self.tail = other.tail;
    }

    /// Bytes that are still to be sent.
    pub(crate) fn unsent_len(&self) -> usize {
        self.sealed_len + self.tail.len() - self.sent
    }

    /// Whether there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.unsent_len() == 0
    }

    /// Pieces behind the buffer, for CLIENT LIST.
    pub(crate) fn pieces(&self) -> usize {
        self.sealed.len()
    }

    /// Bytes held.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.sealed_len + self.tail.capacity()
    }

    /// Forgets everything that was not sent.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Sends up to about `limit` bytes; returns how many were sent.
    ///
    /// # Errors
    /// What the socket reports, without `WouldBlock`.
    pub(crate) fn send(&mut self, socket: &mut impl Write, limit: usize) -> (usize, io::Result<SendOutcome>) {
        let mut total = 0;
        loop {
            if self.is_empty() {
                self.sent = 0;
                self.tail.clear();
                return (total, Ok(SendOutcome::Done));
            }
            if total >= limit {
                return (total, Ok(SendOutcome::More));
            }
            let written = if self.sealed.is_empty() {
                let end = self.tail.len().min(self.sent.saturating_add(limit - total));
                socket.write(&self.tail[self.sent..end])
            } else {
                self.write_pieces(socket)
            };
            match written {
                Ok(0) => return (total, Err(io::ErrorKind::WriteZero.into())),
                Ok(len) => {
                    total += len;
                    self.drop_sent(len);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return (total, Ok(SendOutcome::Blocked));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (total, Err(error)),
            }
        }
    }

    fn write_pieces(&self, socket: &mut impl Write) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); PIECES_MAX];
        let mut count = 0;
        let pieces = self.sealed.iter().map(|piece| &piece[..]).chain([&self.tail[..]]);
        for (slot, piece) in slices.iter_mut().zip(pieces) {
            *slot = IoSlice::new(if count == 0 { &piece[self.sent..] } else { piece });
            count += 1;
        }
        socket.write_vectored(&slices[..count])
    }

    /// Notes that the first `len` unsent bytes have left, and gives their memory back.
    fn drop_sent(&mut self, len: usize) {
        self.sent += len;
        while let Some(piece) = self.sealed.front()
            && self.sent >= piece.len()
        {
            self.sent -= piece.len();
            self.sealed_len -= piece.len();
            self.sealed.pop_front();
        }
        // A prefix as long as the rest is moved away: every byte is moved once at most on average.
        if self.sealed.is_empty() && self.sent < self.tail.len() && self.sent >= self.tail.len() - self.sent {
            self.tail.drain(..self.sent);
            self.sent = 0;
            if self.tail.capacity() / 4 > self.tail.len().max(SHARED_LEN_MIN) {
                self.tail.shrink_to(self.tail.len() * 2);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket that takes `room` bytes, at most `step` of them at once.
    struct Socket {
        taken: Vec<u8>,
        room: usize,
        step: usize,
    }

    impl Write for Socket {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = bytes.len().min(self.room).min(self.step);
            if len == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room -= len;
            self.taken.extend_from_slice(&bytes[..len]);
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn text(len: usize, seed: usize) -> Vec<u8> {
        (0..len).map(|at| u8::try_from((at * 7 + seed) % 251).unwrap_or(0)).collect()
    }

    #[test]
    fn bytes_leave_in_order_however_the_socket_takes_them() {
        for step in [1, 7, 4096, usize::MAX] {
            for room in [1, 1000, 20_000, 100_000] {
                let mut output = Output::default();
                let mut expected = Vec::new();
                for (at, len) in
                    [10, SHARED_LEN_MIN, 3, SHARED_LEN_MIN + 1, SHARED_LEN_MIN, 5].iter().enumerate()
                {
                    let bytes = text(*len, at);
                    expected.extend_from_slice(&bytes);
                    if at % 2 == 0 {
                        output.tail().extend_from_slice(&bytes);
                    } else {
                        output.push_shared(&Bytes::from(bytes));
                    }
                }
                let mut socket = Socket { taken: Vec::new(), room: 0, step };
                while !output.is_empty() {
                    socket.room = room;
                    let (_, result) = output.send(&mut socket, usize::MAX);
                    assert!(result.is_ok());
                    assert_eq!(output.unsent_len() + socket.taken.len(), expected.len());
                }
                assert!(socket.taken == expected, "step {step}, room {room}");
            }
        }
    }

    #[test]
    fn what_was_sent_holds_no_memory() {
        let mut output = Output::default();
        let mut socket = Socket { taken: Vec::new(), room: 0, step: usize::MAX };
        for _ in 0..10_000 {
            output.tail().extend_from_slice(&text(1000, 0));
            socket.room = 1000;
            assert_eq!(output.send(&mut socket, usize::MAX).0, 1000);
            output.tail().push(0);
            assert!(output.memory_bytes() < 256 << 10, "{}", output.memory_bytes());
        }
        assert_eq!(output.unsent_len(), 10_000);
    }

    #[test]
    fn one_call_sends_no_more_than_its_limit() {
        let mut output = Output::default();
        output.tail().extend_from_slice(&text(10_000, 0));
        let mut socket = Socket { taken: Vec::new(), room: usize::MAX, step: usize::MAX };
        let (sent, result) = output.send(&mut socket, 3000);
        assert_eq!((sent, result.ok()), (3000, Some(SendOutcome::More)));
    }
}
