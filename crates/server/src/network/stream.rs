//! A client's socket, by TCP or by the Unix socket, and what its ends are called.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use mio::net::{TcpStream, UnixStream};

/// What an end is called that is not known: the peer left at once, or there is no connection.
pub(crate) const UNKNOWN: &str = "?:0";

/// A connected, non-blocking socket.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => Read::read(&mut { stream }, space),
            Stream::Unix(stream) => Read::read(&mut { stream }, space),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => Write::write(&mut { stream }, bytes),
            Stream::Unix(stream) => Write::write(&mut { stream }, bytes),
        }
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => Write::write_vectored(&mut { stream }, pieces),
            Stream::Unix(stream) => Write::write_vectored(&mut { stream }, pieces),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // Neither socket has a buffer of its own.
        Ok(())
    }
}

/// The two ends of a connection.
#[derive(Debug, Clone)]
pub(crate) enum Ends {
    /// Addresses; none where the peer left before it was asked for.
    Tcp { peer: Option<SocketAddr>, local: Option<SocketAddr> },
    /// The path of the Unix socket, as the configuration has it: it stands for both ends, as in Redis.
    Unix { path: Arc<str> },
}

impl Ends {
    /// The peer as CLIENT LIST names it: `ip:port`, or `path:0`.
    pub(crate) fn peer_name(&self) -> String {
        match self {
            Self::Tcp { peer, .. } => address_name(*peer),
            Self::Unix { path } => format!("{path}:0"),
        }
    }

    /// Our end, in the same form.
    pub(crate) fn local_name(&self) -> String {
        match self {
            Self::Tcp { local, .. } => address_name(*local),
            Self::Unix { path } => format!("{path}:0"),
        }
    }

    /// The peer as MONITOR names it: `ip:port`, or `unix:path`. Source: Redis 7.0, `replicationFeedMonitors`.
    pub(crate) fn monitor_name(&self) -> String {
        match self {
            Self::Tcp { peer, .. } => address_name(*peer),
            Self::Unix { path } => format!("unix:{path}"),
        }
    }

    /// True for a connection by the Unix socket.
    pub(crate) fn is_unix(&self) -> bool {
        matches!(self, Self::Unix { .. })
    }

    /// True when the peer is on this machine: it came by the Unix socket, or by the loopback interface.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp { peer, .. } => peer.is_some_and(|address| address.ip().to_canonical().is_loopback()),
            Self::Unix { .. } => true,
        }
    }
}

fn address_name(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| UNKNOWN.to_owned(), |address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_named_as_by_redis() {
        fn check(ends: &Ends, expected: [&str; 3], is_local: bool) {
            assert_eq!([ends.peer_name(), ends.local_name(), ends.monitor_name()], expected);
            assert_eq!(ends.is_local(), is_local, "{ends:?}");
        }
        let tcp = |peer: &str| Ends::Tcp {
            peer: Some(peer.parse().unwrap()),
            local: Some("10.0.0.1:6379".parse().unwrap()),
        };
        check(&tcp("127.0.0.1:5"), ["127.0.0.1:5", "10.0.0.1:6379", "127.0.0.1:5"], true);
        check(&tcp("[::1]:5"), ["[::1]:5", "10.0.0.1:6379", "[::1]:5"], true);
        check(&tcp("10.0.0.2:5"), ["10.0.0.2:5", "10.0.0.1:6379", "10.0.0.2:5"], false);
        check(&Ends::Tcp { peer: None, local: None }, ["?:0", "?:0", "?:0"], false);
        check(&Ends::Unix { path: "/run/s".into() }, ["/run/s:0", "/run/s:0", "unix:/run/s"], true);
    }

    #[test]
    fn both_kinds_of_socket_carry_bytes() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (ours, theirs) = (Stream::Unix(ours), Stream::Unix(theirs));
        assert_eq!((&ours).write_vectored(&[IoSlice::new(b"two "), IoSlice::new(b"pieces")]).unwrap(), 10);
        assert_eq!((&ours).write(b"!").unwrap(), 1);
        let mut space = [0; 16];
        let len = (&theirs).read(&mut space).unwrap();
        assert_eq!(&space[..len], b"two pieces!");
        assert_eq!((&theirs).read(&mut space).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(ours.as_raw_fd() != theirs.as_raw_fd());
    }
}
