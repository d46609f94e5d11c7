//! Clients that subscribe to the channel of `publish` and count what is delivered.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use mio::net::TcpStream;
use mio::{Interest, Poll, Token};

use crate::Load;
use crate::requests::CHANNEL;

/// All of them. Messages have one size and one channel, so that bytes tell how many came: to parse each of fifty copies would
/// cost the client more than a fast server needs to send them.
pub(crate) struct Subscribers {
    all: Vec<Subscriber>,
    /// What each message begins with; the value and a line end follow.
    head: Vec<u8>,
    message_len: u64,
}

struct Subscriber {
    stream: TcpStream,
    received: u64,
}

impl Subscribers {
    /// Subscribes each, with tokens from `first_token` on.
    pub(crate) fn connect(options: &Load, poll: &Poll, first_token: usize) -> anyhow::Result<Self> {
        let size = *options.size.end();
        ensure!(
            options.subscribers == 0 || options.size.start() == options.size.end(),
            "subscribers need values of one size"
        );
        let head =
            format!("*3\r\n$7\r\nmessage\r\n${}\r\n{CHANNEL}\r\n${size}\r\n", CHANNEL.len()).into_bytes();
        let message_len = (head.len() + size + 2) as u64;
        let all = (0..options.subscribers as usize)
            .map(|number| subscribe(options, poll, Token(first_token + number)))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { all, head, message_len })
    }

    /// Takes what came to the subscriber of this number.
    pub(crate) fn read(&mut self, number: usize, buffer: &mut [u8]) -> anyhow::Result<()> {
        let subscriber = &mut self.all[number];
        loop {
            let len = match subscriber.stream.read(buffer) {
                Ok(0) => {
                    bail!("the server closed a subscriber's connection after {} bytes", subscriber.received)
                }
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("failed to receive"),
            };
            // The first message tells whether the form is the expected one; the sum of all bytes must fit at the end.
            if subscriber.received == 0 && !buffer[..len].starts_with(&self.head[..self.head.len().min(len)])
            {
                bail!(
                    "what was delivered is no message: {:?}",
                    String::from_utf8_lossy(&buffer[..len.min(100)])
                );
            }
            subscriber.received += len as u64;
            // What comes later is a new event.
            if len < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Whether each has all of so many messages.
    ///
    /// # Errors
    /// One has more.
    pub(crate) fn have_all(&self, messages: u64) -> anyhow::Result<bool> {
        let expected = messages * self.message_len;
        if let Some(it) = self.all.iter().find(|it| it.received > expected) {
            bail!("a subscriber has {} bytes of {messages} messages, {expected} were expected", it.received);
        }
        Ok(self.all.iter().all(|it| it.received == expected))
    }

    /// Messages that came, over all subscribers.
    pub(crate) fn deliveries(&self) -> u64 {
        self.all.iter().map(|it| it.received / self.message_len).sum()
    }
}

/// Returns when the server has confirmed the subscription, so that no message can be missed.
fn subscribe(options: &Load, poll: &Poll, token: Token) -> anyhow::Result<Subscriber> {
    let mut stream = crate::target::connect(&options.target).context("failed to connect a subscriber")?;
    stream
        .write_all(format!("*2\r\n$9\r\nSUBSCRIBE\r\n${}\r\n{CHANNEL}\r\n", CHANNEL.len()).as_bytes())
        .context("failed to send")?;
    let expected = format!("*3\r\n$9\r\nsubscribe\r\n${}\r\n{CHANNEL}\r\n:1\r\n", CHANNEL.len());
    let mut confirmed = vec![0; expected.len()];
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .and_then(|()| stream.read_exact(&mut confirmed))
        .context("failed to receive the subscription")?;
    ensure!(
        confirmed == expected.as_bytes(),
        "the server refused to subscribe: {:?}",
        String::from_utf8_lossy(&confirmed)
    );
    stream.set_nonblocking(true).context("failed to prepare a connection")?;
    let mut stream = TcpStream::from_std(stream);
    poll.registry()
        .register(&mut stream, token, Interest::READABLE)
        .context("failed to register a connection")?;
    Ok(Subscriber { stream, received: 0 })
}
