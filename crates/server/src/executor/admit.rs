//! Connections that come and go.

use std::io;
use std::time::Duration;

use mio::Token;
use mio::net::TcpStream;

use super::client::Client;
use super::{CLIENT_TOKEN_MIN, Executor};
use crate::command::Session;
use crate::network::connection::Connection;
use crate::network::stream::Stream;
use crate::protocol::RespVersion;

/// Connections accepted from one listener in one turn: who connects and leaves again and again does not starve the others.
/// Source: Redis 7.0 accepts 1,000 at once, later versions 10.
const ACCEPTS_MAX: usize = 64;

/// Sets what a connection by TCP needs, as far as the system allows it.
fn set_options(stream: &TcpStream, keepalive: Duration) {
    // Answers of one round leave at once; failing that, they leave a little later.
    let _ = stream.set_nodelay(true);
    if !keepalive.is_zero() {
        let settings = socket2::TcpKeepalive::new()
            .with_time(keepalive)
            .with_interval((keepalive / 3).max(Duration::from_secs(1)))
            .with_retries(3);
        let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&settings);
    }
}

impl Executor {
    /// Accepts connections that are pending, some in each turn.
    pub(super) fn accept_pending(&mut self) {
        for number in self.core.listeners.take_pending() {
            self.accept(number);
        }
    }

    pub(super) fn accept(&mut self, number: usize) {
        for _ in 0..ACCEPTS_MAX {
            match self.core.listeners.accept(number) {
                Ok(connection) => {
                    self.core.stats.connections_received += 1;
                    self.admit(connection);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => {
                    // The machine is out of descriptors, most likely: those who are connected are still served.
                    if self.core.listeners.note_failure(number) {
                        tracing::warn!(
                            %error,
                            "failed to accept a connection; raise the limit of open files if that is the reason. Trying again"
                        );
                    }
                    return;
                }
            }
        }
        self.core.listeners.note_pending(number);
    }

    fn admit(&mut self, mut connection: Connection) {
        let core = &mut self.core;
        let refusal = if core.clients.len() >= core.config.maxclients as usize {
            Some("-ERR max number of clients reached\r\n")
        } else if core.config.protected_mode && core.password().is_none() && !connection.ends().is_local() {
            Some(
                "-DENIED protected mode is on and no password is set, so only this machine may connect. Set requirepass, \
                 or protected-mode no if the network itself keeps strangers away\r\n",
            )
        } else {
            None
        };
        if let Some(text) = refusal {
            core.stats.connections_rejected += 1;
            connection.output.writer(RespVersion::Resp2).append(text.as_bytes());
            // The peer may be gone already; there is nobody to tell.
            let _ = connection.send();
            return;
        }
        if let Stream::Tcp(stream) = connection.stream() {
            set_options(stream, core.config.tcp_keepalive);
        }
        let slot = core.clients.reserve_slot();
        let id = core.clients.next_id();
        let session = Session::new(id, core.password().is_none());
        let registered = connection.register(self.poll.registry(), Token(slot + CLIENT_TOKEN_MIN));
        let mut client = Client::new(connection, session, core.clock.now);
        client.stranger_since = (!client.session.is_authenticated()).then_some(core.clock.now);
        core.clients.put_new(slot, Box::new(client));
        if let Err(error) = registered {
            tracing::warn!(%error, "failed to register a connection");
            self.drop_client(slot);
        }
    }

    /// Ends a connection at once; what was not sent is lost.
    pub(super) fn drop_client(&mut self, slot: usize) {
        if let Some(client) = self.core.clients.take(slot) {
            self.forget_client(slot, client);
        }
    }

    /// Ends what a client waits for, which is out of its slot, without an answer.
    pub(super) fn end_hold(&mut self, slot: usize, client: &mut Client) {
        let core = &mut self.core;
        if let Some(waiting) = client.waiting.take() {
            core.waiters.remove(slot, &waiting);
        }
        core.blocked.remove(client, &mut self.engine);
        if std::mem::take(&mut client.postponed) {
            core.paused.retain(|paused| *paused != slot);
        }
    }

    /// Gives everything back that a client holds, which is out of its slot.
    pub(super) fn forget_client(&mut self, slot: usize, mut client: Box<Client>) {
        client.session.close(&mut self.engine);
        client.connection.deregister(self.poll.registry());
        self.end_hold(slot, &mut client);
        let core = &mut self.core;
        if client.session.is_subscriber() {
            core.pubsub.forget(slot as u64);
        }
        if client.session.is_monitor() {
            core.monitors.retain(|monitor| *monitor != slot);
            core.revision += 1;
        }
        if client.session.is_tracking() {
            self.engine.disable_tracking(client.session.id());
            core.count_tracking(false);
        }
        core.clients.forget(slot, &client);
    }

    /// Ends the connections that CLIENT KILL has named: nothing that they have sent is executed any more.
    pub(super) fn drop_killed(&mut self) {
        for slot in std::mem::take(&mut self.core.killed) {
            self.drop_client(slot);
        }
    }
}
