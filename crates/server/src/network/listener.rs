//! Listening sockets from `bind` and `port`, in Redis's words.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::BindAddress;

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
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
}

/// Opens one non-blocking listening socket for each address. An optional address may be missing on this machine.
/// Source: Redis 7.0, `redis.conf`, `bind`.
///
/// # Errors
/// [`ListenError`].
pub fn listen(
    bind: &[BindAddress],
    port: u16,
    backlog: u32,
) -> Result<Vec<std::net::TcpListener>, ListenError> {
    let mut listeners = Vec::new();
    for address in bind {
        match open(address.with_port(port), i32::try_from(backlog).unwrap_or(i32::MAX)) {
            Ok(listener) => listeners.push(listener),
            Err(error) if address.optional && is_missing(&error) => {}
            Err(source) => return Err(ListenError::Bind { port, address: address.ip, source }),
        }
    }
    if listeners.is_empty() && !bind.is_empty() {
        return Err(ListenError::NoAddress { addresses: bind.iter().map(ToString::to_string).collect() });
    }
    Ok(listeners)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT))
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
    fn a_busy_port_is_named() {
        let first = listen(&[BindAddress::parse("127.0.0.1").unwrap()], 0, 16).unwrap();
        let port = first[0].local_addr().unwrap().port();
        let error = listen(&[BindAddress::parse("127.0.0.1").unwrap()], port, 16).unwrap_err();
        assert!(error.to_string().contains(&format!("Failed listening on port {port}")), "{error}");
    }
}
