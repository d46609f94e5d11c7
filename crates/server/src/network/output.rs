//! What waits to be sent to one client: a buffer that replies are written into, and pieces that several clients share.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use bytes::Bytes;

use crate::protocol::encode::{SHARED_LEN_MIN, SharedValues};
use crate::protocol::{ReplyWriter, RespVersion};

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
    /// Long values that stand between the bytes of `tail`.
    values: SharedValues,
    /// Bytes at the front of the first piece (of `tail` if there is none) that have been sent.
    sent: usize,
}

impl Output {
    /// A writer that appends replies.
    pub(crate) fn writer(&mut self, version: RespVersion) -> ReplyWriter<'_> {
        ReplyWriter::sharing(&mut self.tail, &mut self.values, version)
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

    /// Where the next reply is written: see [`ReplyWriter::position`].
    pub(crate) fn position(&self) -> usize {
        self.tail.len()
    }

    /// Appends a message that other clients may get as well.
    pub(crate) fn push_shared(&mut self, message: &Bytes) {
        if message.len() < SHARED_LEN_MIN {
            self.tail.extend_from_slice(message);
            return;
        }
        self.seal();
        self.push_piece(message.clone());
    }

    fn push_piece(&mut self, piece: Bytes) {
        self.sealed_len += piece.len();
        self.sealed.push_back(piece);
    }

    /// Puts the long values between the bytes that they belong between.
    fn weave(&mut self) {
        if self.values.is_empty() {
            return;
        }
        // The sent prefix belongs to the first piece.
        let mut from = if self.sealed.is_empty() { std::mem::take(&mut self.sent) } else { 0 };
        for (at, value) in self.values.take() {
            if at > from {
                self.push_piece(Bytes::copy_from_slice(&self.tail[from..at]));
            }
            self.push_piece(value);
            from = at;
        }
        self.tail.drain(..from);
    }

    /// Makes a piece of the buffer's content.
    fn seal(&mut self) {
        self.weave();
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
        self.push_piece(piece);
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
        other.weave();
        self.sealed_len += other.sealed_len;
        self.sealed.append(&mut other.sealed);
        self.tail = other.tail;
    }

    /// Bytes that are still to be sent.
    pub(crate) fn unsent_len(&self) -> usize {
        self.sealed_len + self.values.len() + self.tail.len() - self.sent
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
        self.sealed_len + self.values.len() + self.tail.capacity()
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
        self.weave();
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
                    // Who does not read holds no large buffer for little output.
                    self.shrink();
                    return (total, Ok(SendOutcome::Blocked));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (total, Err(error)),
            }
        }
    }

    /// Gives back what the buffer has reserved beyond its content.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.tail.shrink_to_fit();
    }

    fn shrink(&mut self) {
        if self.tail.capacity() / 4 > self.tail.len().max(SHARED_LEN_MIN) {
            self.tail.shrink_to(self.tail.len() * 2);
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
            self.shrink();
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
                        output.tail.extend_from_slice(&bytes);
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
            output.tail.extend_from_slice(&text(1000, 0));
            socket.room = 1000;
            assert_eq!(output.send(&mut socket, usize::MAX).0, 1000);
            output.tail.push(0);
            assert!(output.memory_bytes() < 256 << 10, "{}", output.memory_bytes());
        }
        assert_eq!(output.unsent_len(), 10_000);
    }

    #[test]
    fn little_output_holds_no_large_buffer() {
        let mut output = Output::default();
        output.lend(Vec::with_capacity(1 << 20));
        output.tail.extend_from_slice(&text(100, 0));
        let mut socket = Socket { taken: Vec::new(), room: 0, step: usize::MAX };
        assert!(matches!(output.send(&mut socket, usize::MAX), (0, Ok(SendOutcome::Blocked))));
        assert!(output.memory_bytes() < 1000, "{}", output.memory_bytes());
        socket.room = usize::MAX;
        assert_eq!(output.send(&mut socket, usize::MAX).0, 100);
        assert!(socket.taken == text(100, 0));
    }

    #[test]
    fn one_call_sends_no_more_than_its_limit() {
        let mut output = Output::default();
        output.tail.extend_from_slice(&text(10_000, 0));
        let mut socket = Socket { taken: Vec::new(), room: usize::MAX, step: usize::MAX };
        let (sent, result) = output.send(&mut socket, 3000);
        assert_eq!((sent, result.ok()), (3000, Some(SendOutcome::More)));
    }

    #[test]
    fn long_values_stand_where_they_were_written() {
        let value = |len| Bytes::from(text(len, len));
        for step in [999, usize::MAX] {
            let mut output = Output::default();
            let mut expected = Vec::new();
            let mut socket = Socket { taken: Vec::new(), room: 0, step };
            for round in 0..20 {
                let (long, short) = (value(SHARED_LEN_MIN + round), value(SHARED_LEN_MIN - 1));
                let mut copied = Vec::new();
                let mut plain = ReplyWriter::new(&mut copied, RespVersion::Resp2);
                let mut writer = output.writer(RespVersion::Resp2);
                for writer in [&mut writer, &mut plain] {
                    writer.array(3);
                    writer.bulk_shared(&long, || Some(long.clone()));
                    writer.bulk_shared(&short, || unreachable!("it is copied"));
                    let start = writer.position();
                    writer.bulk_shared(&long, || Some(long.clone()));
                    writer.bulk_shared(&long, || Some(long.clone()));
                    writer.rewind(start);
                    writer.bulk_shared(&long, || Some(long.clone()));
                    writer.insert(start, b"inserted");
                    writer.bulk_shared(&long, || None);
                }
                expected.extend_from_slice(&copied);
                if round % 3 == 0 {
                    let message = value(2 * SHARED_LEN_MIN);
                    output.push_shared(&message);
                    expected.extend_from_slice(&message);
                }
                assert_eq!(output.unsent_len() + socket.taken.len(), expected.len());
                socket.room = 50_000;
                assert!(output.send(&mut socket, usize::MAX).1.is_ok());
                assert_eq!(output.unsent_len() + socket.taken.len(), expected.len());
            }
            socket.room = usize::MAX;
            assert!(output.send(&mut socket, usize::MAX).1.is_ok());
            assert!(socket.taken == expected, "step {step}");
        }
    }

    #[test]
    fn an_output_follows_another() {
        for (sent, len) in [(0, 0), (10, 0), (0, 5000), (10, 5000)] {
            let mut front = Output::default();
            front.writer(RespVersion::Resp2).append(&text(20, 1));
            let mut socket = Socket { taken: Vec::new(), room: sent, step: usize::MAX };
            assert!(front.send(&mut socket, usize::MAX).1.is_ok());
            let mut back = Output::default();
            let long = Bytes::from(text(SHARED_LEN_MIN, 2));
            back.writer(RespVersion::Resp2).append(&text(len, 3));
            back.writer(RespVersion::Resp2).bulk_shared(&long, || Some(long.clone()));
            front.append(back);
            socket.room = usize::MAX;
            assert!(front.send(&mut socket, usize::MAX).1.is_ok());
            let mut expected = [text(20, 1), text(len, 3)].concat();
            ReplyWriter::new(&mut expected, RespVersion::Resp2).bulk(&long);
            assert!(socket.taken == expected, "{sent} sent, {len} bytes before the value");
        }
    }
}
