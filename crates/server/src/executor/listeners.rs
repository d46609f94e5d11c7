//! The listening sockets, and which of them have connections that wait to be accepted.

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;

use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};

use super::CLIENT_TOKEN_MIN;
use crate::config::Config;
use crate::error_chain::error_chain;
use crate::network::connection::Connection;
use crate::network::listener::{ListenError, Sockets, listen_by_tcp};
use crate::network::unix_socket::{SocketFile, UnixSocket};

/// The number of the Unix socket: above those of the TCP sockets, of which there are as many as `bind` has addresses.
const UNIX_NUMBER: usize = CLIENT_TOKEN_MIN - 1;

/// Why the server does not listen where it was told to.
#[derive(Debug, thiserror::Error)]
pub(super) enum MoveError {
    /// The addresses cannot be bound.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The poll does not take a socket.
    #[error("failed to wait for connections")]
    Register(#[source] io::Error),
}

/// See the module. A listener is known by its number, which is its token.
#[derive(Debug)]
pub(super) struct Listeners {
    registry: Registry,
    tcp: Vec<TcpListener>,
    /// It stays as long as the server runs.
    unix: Option<UnixEntrance>,
    /// Those that may have pending connections: each turn accepts some.
    pending: Vec<usize>,
    /// Those whose `accept` has failed: they are tried again at every tick, because the poll does not tell again.
    failed: Vec<usize>,
    /// A failure was reported already.
    is_failing: bool,
}

/// The Unix socket, with its file, and the path by which its connections are named.
#[derive(Debug)]
struct UnixEntrance {
    // Order matters: see `UnixSocket`.
    _file: SocketFile,
    listener: UnixListener,
    path: Arc<str>,
}

impl Listeners {
    /// Registers the sockets.
    ///
    /// # Errors
    /// What the poll says.
    pub(super) fn new(registry: Registry, sockets: Sockets) -> io::Result<Self> {
        let Sockets { tcp, unix } = sockets;
        let unix = match unix {
            Some(UnixSocket { file, listener, name }) => {
                let mut listener = UnixListener::from_std(listener);
                registry.register(&mut listener, Token(UNIX_NUMBER), Interest::READABLE)?;
                Some(UnixEntrance { _file: file, listener, path: name })
            }
            None => None,
        };
        let mut listeners = Self {
            registry,
            tcp: Vec::new(),
            unix,
            pending: Vec::new(),
            failed: Vec::new(),
            is_failing: false,
        };
        listeners.replace(tcp)?;
        Ok(listeners)
    }

    fn replace(&mut self, sockets: Vec<StdListener>) -> io::Result<()> {
        let mut sockets: Vec<_> = sockets.into_iter().map(TcpListener::from_std).collect();
        for (number, socket) in sockets.iter_mut().enumerate() {
            self.registry.register(socket, Token(number), Interest::READABLE)?;
        }
        self.tcp = sockets;
        self.pending.retain(|number| *number == UNIX_NUMBER);
        self.failed.retain(|number| *number == UNIX_NUMBER);
        Ok(())
    }

    /// Whether there is a TCP socket.
    pub(super) fn has_tcp(&self) -> bool {
        !self.tcp.is_empty()
    }

    /// The path of the Unix socket, as the configuration has it.
    pub(super) fn unix_path(&self) -> Option<&str> {
        self.unix.as_ref().map(|unix| &*unix.path)
    }

    /// Listens by TCP where `to` says instead of where `from` says. On an error it listens as before.
    ///
    /// # Errors
    /// [`MoveError`].
    pub(super) fn relocate(&mut self, from: &Config, to: &Config) -> Result<(), MoveError> {
        let keeps_port = from.port == to.port;
        if keeps_port {
            // Two sockets cannot listen on one port of addresses that overlap.
            self.tcp.clear();
        }
        let result = self.listen(to);
        if keeps_port
            && result.is_err()
            && let Err(error) = self.listen(from)
        {
            tracing::error!(
                error = error_chain(&error),
                "the server no longer listens by TCP: the former addresses cannot be bound again; set bind or port by CONFIG SET on a \
                 connection that is open, or restart the server"
            );
        }
        result
    }

    fn listen(&mut self, config: &Config) -> Result<(), MoveError> {
        let sockets = listen_by_tcp(config)?;
        self.replace(sockets).map_err(MoveError::Register)
    }

    /// The next connection of a listener.
    ///
    /// # Errors
    /// What the socket says; [`io::ErrorKind::WouldBlock`] when no connection is pending.
    pub(super) fn accept(&mut self, number: usize) -> io::Result<Connection> {
        let result = if let Some(UnixEntrance { listener, path, .. }) = &self.unix
            && number == UNIX_NUMBER
        {
            let accepted = listener.accept();
            accepted.map(|(stream, _)| Connection::by_unix_socket(stream, Arc::clone(path)))
        } else if let Some(listener) = self.tcp.get(number) {
            listener.accept().map(|(stream, _)| Connection::by_tcp(stream))
        } else {
            // It was closed since it was noted.
            return Err(io::ErrorKind::WouldBlock.into());
        };
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.is_failing = false;
        }
        result
    }

    /// A listener may have pending connections.
    pub(super) fn note_pending(&mut self, number: usize) {
        if !self.pending.contains(&number) {
            self.pending.push(number);
        }
    }

    /// The accept of a listener has failed; whether that is to be reported.
    pub(super) fn note_failure(&mut self, number: usize) -> bool {
        self.failed.push(number);
        !std::mem::replace(&mut self.is_failing, true)
    }

    /// Whether there may be pending connections.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Those that may have pending connections, until they are noted again.
    pub(super) fn take_pending(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.pending)
    }

    /// Those whose accept has failed, until it fails again.
    pub(super) fn take_failed(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.failed)
    }
}
