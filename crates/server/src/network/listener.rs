//! Listening sockets from `bind`, `port` and `unixsocket`, in Redis's words.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use socket2::{Domain, Protocol, Socket, Type};

use super::unix_socket::{OpenError, UnixSocket};
use crate::config::{BindAddress, Config};

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// The address cannot be bound. The first words are Redis's, which tools look for.
    #[error("Failed listening on port {port} (tcp), address {address}")]
    Bind {
        /// The port.
        port: u16,
        /// The address.
        address: IpAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// No address was left.
    #[error("none of the bind addresses is available on this machine: {addresses:?}")]
    NoAddress {
        /// All of them.
        addresses: Vec<String>,
    },
    /// The Unix socket cannot be opened. The first words are Redis's.
    #[error("Failed opening Unix socket {path:?}")]
    Unix {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: OpenError,
    },
}

/// What clients connect to.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) tcp: Vec<std::net::TcpListener>,
    pub(crate) unix: Option<UnixSocket>,
}

/// Opens all sockets for clients.
///
/// # Errors
/// [`ListenError`].
pub(crate) fn listen_for_clients(config: &Config) -> Result<Sockets, ListenError> {
    let tcp = listen_by_tcp(config)?;
    let unix = match (&config.unixsocket, config.unix_socket_path()) {
        (Some(name), Some(path)) => {
            let opened = UnixSocket::open(&path, name, config.unixsocketperm, config.tcp_backlog);
            Some(opened.map_err(|source| ListenError::Unix { path, source })?)
        }
        _ => None,
    };
    Ok(Sockets { tcp, unix })
}

/// Opens the TCP sockets for clients: none for `port 0`, and none for `bind ""`.
///
/// # Errors
/// [`ListenError::Bind`], and [`ListenError::NoAddress`] where there is no Unix socket instead.
pub(crate) fn listen_by_tcp(config: &Config) -> Result<Vec<std::net::TcpListener>, ListenError> {
    if config.port == 0 {
        return Ok(Vec::new());
    }
    match listen(&config.bind, config.port, config.tcp_backlog) {
        Err(ListenError::NoAddress { .. }) if config.unixsocket.is_some() => Ok(Vec::new()),
        result => result,
    }
}

/// Opens one non-blocking listening socket for each address. An address that this machine cannot have is skipped, with a
/// warning: of a family that it does not know, or, if it is optional, one that no interface has.
/// Source: Redis 7.0, `redis.conf`, `bind`; `server.c`, `listenToPort`.
///
/// # Errors
/// [`ListenError`].
pub(crate) fn listen(
    bind: &[BindAddress],
    port: u16,
    backlog: u32,
) -> Result<Vec<std::net::TcpListener>, ListenError> {
    let mut listeners = Vec::new();
    for address in bind {
        match open(address.with_port(port), i32::try_from(backlog).unwrap_or(i32::MAX)) {
            Ok(listener) => listeners.push(listener),
            Err(error) if may_be_missing(&error, address.optional) => {
                tracing::warn!(address = %address.ip, port, %error, "an address of bind is not available, going on without it");
            }
            Err(source) => return Err(ListenError::Bind { port, address: address.ip, source }),
        }
    }
    if listeners.is_empty() && !bind.is_empty() {
        return Err(ListenError::NoAddress { addresses: bind.iter().map(ToString::to_string).collect() });
    }
    Ok(listeners)
}

/// Whether the start goes on without an address that failed in this way. A family that the kernel does not know is no
/// mistake of whoever wrote `127.0.0.1 ::1` for every machine; an address that no interface has may be one.
fn may_be_missing(error: &io::Error, optional: bool) -> bool {
    match error.raw_os_error() {
        Some(
            libc::ENOPROTOOPT
            | libc::EPROTONOSUPPORT
            | libc::ESOCKTNOSUPPORT
            | libc::EPFNOSUPPORT
            | libc::EAFNOSUPPORT,
        ) => true,
        Some(libc::EADDRNOTAVAIL) => optional,
        _ => false,
    }
}

fn open(address: SocketAddr, backlog: i32) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_optional_address_is_skipped_and_a_wrong_one_named() {
        let listen = |bind: &[&str]| {
            let bind: Vec<_> = bind.iter().map(|text| BindAddress::parse(text).unwrap()).collect();
            listen(&bind, 0, 16)
        };
        assert_eq!(listen(&["127.0.0.1", "-203.0.113.7"]).unwrap().len(), 1);
        assert!(matches!(listen(&["203.0.113.7"]), Err(ListenError::Bind { .. })));
        assert!(matches!(listen(&["-203.0.113.7"]), Err(ListenError::NoAddress { .. })));
    }

    #[test]
    fn without_a_port_or_an_address_nothing_is_listened_on_by_tcp() {
        let config = |bind: &str, port, unixsocket: Option<&str>| Config {
            bind: bind.split_whitespace().map(|word| BindAddress::parse(word).unwrap()).collect(),
            port,
            unixsocket: unixsocket.map(Into::into),
            ..Config::default()
        };
        assert!(listen_by_tcp(&config("127.0.0.1", 0, None)).unwrap().is_empty());
        assert!(listen_by_tcp(&config("", 1, None)).unwrap().is_empty());
        // A missing optional address is a mistake only where nothing is left.
        assert!(matches!(
            listen_by_tcp(&config("-203.0.113.7", 1, None)),
            Err(ListenError::NoAddress { .. })
        ));
        assert!(listen_by_tcp(&config("-203.0.113.7", 1, Some("s"))).unwrap().is_empty());
    }

    #[test]
    fn a_family_that_the_kernel_does_not_know_is_no_mistake() {
        let check = |code, optional, expected| {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(may_be_missing(&error, optional), expected, "{error}, optional: {optional}");
        };
        for code in [
            libc::EAFNOSUPPORT,
            libc::EPFNOSUPPORT,
            libc::EPROTONOSUPPORT,
            libc::ESOCKTNOSUPPORT,
            libc::ENOPROTOOPT,
        ] {
            check(code, false, true);
            check(code, true, true);
        }
        check(libc::EADDRNOTAVAIL, false, false);
        check(libc::EADDRNOTAVAIL, true, true);
        for code in [libc::EADDRINUSE, libc::EACCES, libc::EMFILE] {
            check(code, false, false);
            check(code, true, false);
        }
    }

    #[test]
    fn a_busy_port_is_named() {
        let first = listen(&[BindAddress::parse("127.0.0.1").unwrap()], 0, 16).unwrap();
        let port = first[0].local_addr().unwrap().port();
        let error = listen(&[BindAddress::parse("127.0.0.1").unwrap()], port, 16).unwrap_err();
        assert!(error.to_string().contains(&format!("Failed listening on port {port}")), "{error}");
    }
}
