//! The closed loop: one thread, all connections in one poll.
//!
//! A lane is what sends the next batch when the last one has been answered: one connection, or the two sides of a hand-over.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde::Serialize;

use crate::histogram::Histogram;
use crate::replies::Replies;
use crate::requests::Requests;
use crate::subscribers::Subscribers;
use crate::{Load, cpu_seconds};

/// What one read may bring.
const READ_LEN: usize = 1 << 18;
/// A server that answers nothing for so long is taken for dead: longer than any pause that is measured.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// What was measured. Latencies count from the sending of a batch to its last reply.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Requests that were answered, the ones of the warm-up included; of a hand-over, what was received.
    total: u64,
    /// Without the warm-up.
    requests_per_second: f64,
    seconds: f64,
    pub(crate) errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_error: Option<String>,
    /// Replies that are null or an empty array.
    misses: u64,
    /// Messages that reached subscribers.
    deliveries: u64,
    mean_us: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
    /// Share of a core that this program used; near 1 it measured itself.
    client_cpu: f64,
}

/// What replies came so far.
#[derive(Debug, Default)]
struct Tally {
    total: u64,
    errors: u64,
    misses: u64,
    first_error: Option<String>,
}

struct Connection {
    stream: TcpStream,
    replies: Replies,
    /// Whether its replies are answered requests: of the connections of a lane those of the first.
    counts: bool,
    /// The batch, and how much of it has been sent.
    out: Vec<u8>,
    sent: usize,
    /// Replies to come.
    pending: u64,
}

/// The batch of a lane.
struct Lane {
    batch: u64,
    since: Instant,
    /// Connections that have not sent their part yet.
    unsent: usize,
}

/// Sends until the time is over or each key was used, then waits for what is still to come.
pub(crate) fn run(options: &Load) -> anyhow::Result<Report> {
    let mut poll = Poll::new().context("failed to create a poll")?;
    let mut requests = Requests::new(options)?;
    let per_lane = requests.connections_per_lane();
    ensure!(options.connections as usize >= per_lane, "a hand-over needs two connections");
    let mut lanes: Vec<Lane> = (0..options.connections as usize / per_lane)
        .map(|_| Lane { batch: 0, since: Instant::now(), unsent: 0 })
        .collect();
    let mut connections = (0..lanes.len() * per_lane)
        .map(|number| connect(options, &poll, Token(number), number % per_lane == 0))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut subscribers = Subscribers::connect(options, &poll, connections.len())?;
    let pipeline = u64::from(options.pipeline);
    let (mut events, mut buffer) = (Events::with_capacity(1024), vec![0; READ_LEN]);

    let (start, start_cpu) = (Instant::now(), cpu_seconds());
    let counted_from = start + Duration::from_secs_f64(options.warm_up);
    let end = (!options.fill).then(|| counted_from + Duration::from_secs_f64(options.seconds));
    let mut counted = (options.warm_up <= 0.0).then_some((start, 0));
    let (mut tally, mut histogram) = (Tally::default(), Histogram::new());
    let (mut open, mut last_reply) = (0usize, start);
    // The batch that a lane sends next; 0 when it is done.
    let next_batch = |requests: &Requests, now: Instant| match (end, requests.left()) {
        (Some(end), _) if now >= end => 0,
        (_, Some(left)) => left.min(pipeline),
        _ => pipeline,
    };
    // Lanes whose further connections are to send: in the next turn, so that the first one waits by then.
    let mut halfway = Vec::new();
    for (number, lane) in lanes.iter_mut().enumerate() {
        let batch = next_batch(&requests, start);
        if batch > 0 {
            lane.begin(number, batch, &mut connections[number * per_lane..][..per_lane], &mut requests)?;
            if lane.unsent > 0 {
                halfway.push(number);
            }
            open += 1;
        }
    }
    while open > 0 || !subscribers.have_all(tally.total)? {
        for number in halfway.drain(..) {
            lanes[number].go_on(number, &mut connections[number * per_lane..][..per_lane], &mut requests)?;
        }
        poll.poll(&mut events, Some(Duration::from_secs(1)))
            .or_else(ignore_interrupt)
            .context("failed to poll")?;
        for event in &events {
            let token = event.token().0;
            if token >= connections.len() {
                subscribers.read(token - connections.len(), &mut buffer)?;
                last_reply = Instant::now();
                continue;
            }
            let connection = &mut connections[token];
            if event.is_writable() && connection.sent < connection.out.len() {
                connection.flush()?;
            }
            if connection.pending == 0 || !connection.read(&mut buffer, &mut tally)? {
                continue;
            }
            let now = Instant::now();
            last_reply = now;
            let number = token / per_lane;
            let (lane, members) = (&mut lanes[number], &mut connections[number * per_lane..][..per_lane]);
            if lane.unsent > 0 || members.iter().any(|it| it.pending > 0) {
                continue;
            }
            if counted.is_some() {
                histogram.add(now - lane.since, lane.batch);
            } else if now >= counted_from {
                counted = Some((now, tally.total));
            }
            match next_batch(&requests, now) {
                0 => open -= 1,
                batch => {
                    lane.begin(number, batch, members, &mut requests)?;
                    if lane.unsent > 0 {
                        halfway.push(number);
                    }
                }
            }
        }
        if last_reply.elapsed() > SILENCE_MAX {
            bail!("no reply for {} s; {} until then", SILENCE_MAX.as_secs(), tally.total);
        }
    }
    let (from, before) = counted.unwrap_or((start, 0));
    let seconds = (last_reply - from).as_secs_f64().max(1e-9);
    let whole = start.elapsed().as_secs_f64().max(1e-9);
    Ok(Report {
        total: tally.total,
        #[expect(clippy::cast_precision_loss, reason = "a statistic")]
        requests_per_second: (tally.total - before) as f64 / seconds,
        seconds,
        errors: tally.errors,
        first_error: tally.first_error,
        misses: tally.misses,
        deliveries: subscribers.deliveries(),
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

fn connect(options: &Load, poll: &Poll, token: Token, counts: bool) -> anyhow::Result<Connection> {
    let stream = crate::target::connect(&options.target)?;
    stream.set_nonblocking(true).context("failed to prepare a connection")?;
    let mut stream = TcpStream::from_std(stream);
    poll.registry()
        .register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)
        .context("failed to register a connection")?;
    Ok(Connection { stream, replies: Replies::default(), counts, out: Vec::new(), sent: 0, pending: 0 })
}

impl Lane {
    /// Sends the first connection's part of a batch.
    fn begin(
        &mut self,
        number: usize,
        batch: u64,
        members: &mut [Connection],
        requests: &mut Requests,
    ) -> anyhow::Result<()> {
        (self.batch, self.since, self.unsent) = (batch, Instant::now(), members.len() - 1);
        members[0].send(requests, number, 0, batch)
    }

    /// Sends the parts of the others.
    fn go_on(
        &mut self,
        number: usize,
        members: &mut [Connection],
        requests: &mut Requests,
    ) -> anyhow::Result<()> {
        self.unsent = 0;
        for (place, member) in members.iter_mut().enumerate().skip(1) {
            member.send(requests, number, place, self.batch)?;
        }
        Ok(())
    }
}

impl Connection {
    /// Sends its part of a batch, as the connection of this place in that lane.
    fn send(&mut self, requests: &mut Requests, lane: usize, place: usize, batch: u64) -> anyhow::Result<()> {
        requests.render(lane, place, usize::try_from(batch)?, &mut self.out);
        (self.sent, self.pending) = (0, batch);
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
    fn read(&mut self, buffer: &mut [u8], tally: &mut Tally) -> anyhow::Result<bool> {
        let mut any = false;
        loop {
            let len = match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed a connection after {} replies", tally.total),
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
            tally.total += if self.counts { counted.replies } else { 0 };
            tally.errors += counted.errors;
            tally.misses += counted.misses;
            if tally.first_error.is_none() {
                tally.first_error = counted.first_error;
            }
            // Nothing more can come before the next batch, and what comes later is a new event: a further read, only to
            // learn that there is nothing, would cost as much as the request itself.
            if self.pending == 0 || len < buffer.len() {
                return Ok(any);
            }
        }
    }
}
