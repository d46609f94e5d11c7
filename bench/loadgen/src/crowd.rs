//! Clients beside those that are measured: a hostile crowd, or a harmless one that costs the server as much.
//!
//! One thread does `rate` things a second, one connection after the other, whatever the server does meanwhile:
//!
//! ```text
//! hostile   a quarter each   idle         connects and sends nothing
//!                            bytewise     a long request, one byte at a time
//!                            unread       requests as many as the socket takes; it never reads
//!                            reset        half a request, then the client resets the connection and reconnects
//! harmless                   PING, and the reply is read
//! ```
//!
//! Whoever is cut off comes back: that is one of the things.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde::Serialize;

use crate::target::authentication;
use crate::{Crowd, CrowdKind, cpu_seconds};

/// How long the poll may wait: the things of so much time are done at once.
const STEP: Duration = Duration::from_millis(2);
/// Half a request, for those who do not go on.
const HALF: &[u8] = b"*2\r\n$3\r\nGET\r\n$16\r\nkey:";
/// The front of a long request.
const LONG: &[u8] = b"*2\r\n$3\r\nSET\r\n$15000\r\n";
/// Requests of whoever reads nothing.
const UNREAD: &[u8] = b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000001\r\n";
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// What happened.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    seconds: f64,
    /// Things done a second: below the rate that was asked for, this program had no time.
    done_per_second: f64,
    /// Connections that the server has closed.
    closed: u64,
    /// Connections that could not be made.
    failed: u64,
    /// Share of a core that this program used.
    client_cpu: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Idle,
    Bytewise,
    Unread,
    Reset,
    Harmless,
}

struct Member {
    role: Role,
    stream: Option<TcpStream>,
    /// Bytes of its request that it has sent.
    sent: usize,
}

fn role(kind: CrowdKind, number: usize) -> Role {
    match (kind, number % 4) {
        (CrowdKind::Harmless, _) => Role::Harmless,
        (CrowdKind::Hostile, 0) => Role::Idle,
        (CrowdKind::Hostile, 1) => Role::Bytewise,
        (CrowdKind::Hostile, 2) => Role::Unread,
        (CrowdKind::Hostile, _) => Role::Reset,
    }
}

struct Hall<'a> {
    options: &'a Crowd,
    poll: Poll,
    members: Vec<Member>,
    /// Numbers of those who were cut off.
    outside: VecDeque<usize>,
    unread: Vec<u8>,
    closed: u64,
    failed: u64,
}

/// Goes on until the time is over or standard input ends. "ready" on standard output says that all have come.
pub(crate) fn run(options: &Crowd) -> anyhow::Result<Report> {
    let members: Vec<Member> = (0..options.connections as usize)
        .map(|number| Member { role: role(options.kind, number), stream: None, sent: 0 })
        .collect();
    let mut hall = Hall {
        options,
        poll: Poll::new().context("failed to create a poll")?,
        outside: (0..members.len()).collect(),
        members,
        unread: UNREAD.repeat(512),
        closed: 0,
        failed: 0,
    };
    let over = crate::end_of_input();
    let mut events = Events::with_capacity(1024);
    // At first only arrivals count, and as fast as the server takes them.
    let arrival = Instant::now();
    while !hall.outside.is_empty() && arrival.elapsed() < Duration::from_secs(60) {
        for _ in 0..64 {
            hall.enter();
        }
        hall.listen(&mut events, STEP)?;
    }
    println!("ready");
    let (start, start_cpu) = (Instant::now(), cpu_seconds());
    let (mut done, mut next) = (0_u64, 0);
    while start.elapsed().as_secs_f64() < options.seconds && !is_over(&over) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number of things"
        )]
        let due = (start.elapsed().as_secs_f64() * options.rate) as u64;
        // What a pause of this program has left behind is not made up for at once.
        for _ in 0..due.saturating_sub(done).min(1000) {
            if !hall.enter() {
                next = (next + 1) % hall.members.len();
                hall.act(next);
            }
            done += 1;
        }
        hall.listen(&mut events, STEP)?;
    }
    let seconds = start.elapsed().as_secs_f64().max(1e-9);
    Ok(Report {
        seconds,
        #[expect(clippy::cast_precision_loss, reason = "a statistic")]
        done_per_second: done as f64 / seconds,
        closed: hall.closed,
        failed: hall.failed,
        client_cpu: (cpu_seconds() - start_cpu) / seconds,
    })
}

fn is_over(over: &Arc<AtomicBool>) -> bool {
    over.load(Ordering::Relaxed)
}

impl Hall<'_> {
    /// Lets one of those in who are outside; false when nobody is.
    fn enter(&mut self) -> bool {
        let Some(number) = self.outside.pop_front() else { return false };
        if self.connect(number).is_err() {
            self.failed += 1;
            self.outside.push_back(number);
        }
        true
    }

    fn connect(&mut self, number: usize) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(self.options.target.server)?;
        self.poll.registry().register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
        let member = &mut self.members[number];
        (member.stream, member.sent) = (Some(stream), 0);
        Ok(())
    }

    /// What this one does in its turn.
    fn act(&mut self, number: usize) {
        let member = &mut self.members[number];
        let Some(stream) = &mut member.stream else { return };
        let outcome = match member.role {
            Role::Idle => Ok(0),
            Role::Bytewise => {
                let byte = LONG.get(member.sent).copied().unwrap_or(b'x');
                stream.write(&[byte])
            }
            Role::Unread => stream.write(&self.unread),
            Role::Harmless => stream.write(PING),
            Role::Reset => {
                let sent = stream.write(HALF);
                // Without a farewell.
                let _ = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
                member.stream = None;
                self.outside.push_back(number);
                sent
            }
        };
        match outcome {
            Ok(len) => member.sent += len,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {}
            Err(_) => self.lose(number),
        }
    }

    /// A connection that the server has ended.
    fn lose(&mut self, number: usize) {
        if self.members[number].stream.take().is_some() {
            self.closed += 1;
            self.outside.push_back(number);
        }
    }

    /// Takes what the poll tells.
    fn listen(&mut self, events: &mut Events, wait: Duration) -> anyhow::Result<()> {
        if let Err(error) = self.poll.poll(events, Some(wait))
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error).context("failed to poll");
        }
        let mut buffer = [0; 1 << 12];
        for event in &*events {
            let number = event.token().0;
            let member = &mut self.members[number];
            let Some(stream) = &mut member.stream else { continue };
            let mut has_ended = event.is_read_closed() || event.is_error();
            if member.role == Role::Harmless && event.is_writable() && member.sent == 0 {
                let hello = authentication(&self.options.target);
                member.sent = stream.write(&hello).unwrap_or(0);
            }
            while member.role == Role::Harmless && event.is_readable() {
                match stream.read(&mut buffer) {
                    Ok(0) => has_ended = true,
                    Ok(len) if len == buffer.len() => continue,
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => has_ended = true,
                }
                break;
            }
            if has_ended {
                self.lose(number);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_crowd_has_all_roles_in_equal_parts() {
        let count = |wanted| (0..9900).filter(|number| role(CrowdKind::Hostile, *number) == wanted).count();
        for wanted in [Role::Idle, Role::Bytewise, Role::Unread, Role::Reset] {
            assert_eq!(count(wanted), 9900 / 4, "{wanted:?}");
        }
        assert!((0..9900).all(|number| role(CrowdKind::Harmless, number) == Role::Harmless));
    }
}
