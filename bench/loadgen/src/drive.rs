//! The closed loop: one thread, all connections in one poll.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde::Serialize;

use crate::histogram::Histogram;
use crate::replies::Replies;
use crate::requests::Requests;
use crate::{Load, cpu_seconds};

/// What one read may bring.
const READ_LEN: usize = 1 << 18;
/// A server that answers nothing for so long is taken for dead: longer than any pause that is measured.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// What was measured. Latencies count from the sending of a batch to its last reply.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Requests that were answered, the ones of the warm-up included.
    total: u64,
    /// Without the warm-up.
    requests_per_second: f64,
    seconds: f64,
    pub(crate) errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_error: Option<String>,
    mean_us: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
    /// Share of a core that this program used; near 1 it measured itself.
    client_cpu: f64,
}

struct Connection {
    stream: TcpStream,
    replies: Replies,
    /// The batch, and how much of it has been sent.
    out: Vec<u8>,
    sent: usize,
    batch: u64,
    /// Replies to come.
    pending: u64,
    since: Instant,
}

/// Sends until the time is over or each key was used, then waits for what is still to come.
pub(crate) fn run(options: &Load) -> anyhow::Result<Report> {
    let mut poll = Poll::new().context("failed to create a poll")?;
    let mut connections = (0..options.connections as usize)
        .map(|number| connect(options, &poll, Token(number)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut requests = Requests::new(options);
    let pipeline = u64::from(options.pipeline);
    let (mut events, mut buffer) = (Events::with_capacity(1024), vec![0; READ_LEN]);

    let (start, start_cpu) = (Instant::now(), cpu_seconds());
    let counted_from = start + Duration::from_secs_f64(options.warm_up);
    let end = (!options.fill).then(|| counted_from + Duration::from_secs_f64(options.seconds));
    let mut counted = (options.warm_up <= 0.0).then_some((start, 0));
    let (mut total, mut errors, mut first_error, mut histogram) = (0, 0, None, Histogram::new());
    let (mut open, mut last_reply) = (0usize, start);
    // The batch that a connection sends next; 0 when it is done.
    let next_batch = |requests: &Requests, now: Instant| match (end, requests.left()) {
        (Some(end), _) if now >= end => 0,
        (_, Some(left)) => left.min(pipeline),
        _ => pipeline,
    };
    for connection in &mut connections {
        let batch = next_batch(&requests, start);
        if batch > 0 {
            connection.send(&mut requests, batch)?;
            open += 1;
        }
    }
    while open > 0 {
        poll.poll(&mut events, Some(Duration::from_secs(1)))
            .or_else(ignore_interrupt)
            .context("failed to poll")?;
        for event in &events {
            let connection = &mut connections[event.token().0];
            if event.is_writable() && connection.sent < connection.out.len() {
                connection.flush()?;
            }
            if connection.pending == 0
                || !connection.read(&mut buffer, &mut total, &mut errors, &mut first_error)?
            {
                continue;
            }
            let now = Instant::now();
            last_reply = now;
            if connection.pending > 0 {
                continue;
            }
            if counted.is_some() {
                histogram.add(now - connection.since, connection.batch);
            } else if now >= counted_from {
                counted = Some((now, total));
            }
            match next_batch(&requests, now) {
                0 => open -= 1,
                batch => connection.send(&mut requests, batch)?,
            }
        }
        if last_reply.elapsed() > SILENCE_MAX {
            bail!("no reply for {} s; {total} until then", SILENCE_MAX.as_secs());
        }
    }
    let (from, before) = counted.unwrap_or((start, 0));
    let seconds = (last_reply - from).as_secs_f64().max(1e-9);
    let whole = start.elapsed().as_secs_f64().max(1e-9);
    Ok(Report {
        total,
        #[expect(clippy::cast_precision_loss, reason = "a statistic")]
        requests_per_second: (total - before) as f64 / seconds,
        seconds,
        errors,
        first_error,
        mean_us: histogram.mean_us(),
        p50_us: histogram.percentile_us(0.5),
        p99_us: histogram.percentile_us(0.99),
        p999_us: histogram.percentile_us(0.999),
        max_us: histogram.max_us(),
        client_cpu: (cpu_seconds() - start_cpu) / whole,
    })
}

fn ignore_interrupt(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == ErrorKind::Interrupted { Ok(()) } else { Err(error) }
}

fn connect(options: &Load, poll: &Poll, token: Token) -> anyhow::Result<Connection> {
    let stream = std::net::TcpStream::connect(options.target.server).context("failed to connect")?;
    stream
        .set_nodelay(true)
        .and_then(|()| stream.set_nonblocking(true))
        .context("failed to prepare a connection")?;
    let mut stream = TcpStream::from_std(stream);
    poll.registry()
        .register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)
        .context("failed to register a connection")?;
    let (replies, out, since) = (Replies::default(), Vec::new(), Instant::now());
    Ok(Connection { stream, replies, out, sent: 0, batch: 0, pending: 0, since })
}

impl Connection {
    fn send(&mut self, requests: &mut Requests, batch: u64) -> anyhow::Result<()> {
        requests.render(usize::try_from(batch)?, &mut self.out);
        (self.sent, self.batch, self.pending, self.since) = (0, batch, batch, Instant::now());
        self.flush()
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(written) => self.sent += written,
                // The next event says when there is room.
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("failed to send"),
            }
        }
        Ok(())
    }

    /// Takes the replies that are there; false when there were none.
    fn read(
        &mut self,
        buffer: &mut [u8],
        total: &mut u64,
        errors: &mut u64,
        first_error: &mut Option<String>,
    ) -> anyhow::Result<bool> {
        let mut any = false;
        loop {
            let len = match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed a connection after {total} replies"),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(any),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("failed to receive"),
            };
            let counted = self.replies.count(&buffer[..len]);
            if counted.garbled || counted.replies > self.pending {
                bail!(
                    "the server sent what is no reply: {:?}",
                    String::from_utf8_lossy(&buffer[..len.min(100)])
                );
            }
            any |= counted.replies > 0;
            self.pending -= counted.replies;
            *total += counted.replies;
            *errors += counted.errors;
            if first_error.is_none() {
                *first_error = counted.first_error;
            }
            // Nothing more can come before the next batch, and what comes later is a new event: a further read, only to
            // learn that there is nothing, would cost as much as the request itself.
            if self.pending == 0 || len < buffer.len() {
                return Ok(any);
            }
        }
    }
}
