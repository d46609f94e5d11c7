//! Connections to the server, as all modes open them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, bail};

use crate::Target;

/// AUTH with the password, as bytes; nothing without one.
pub(crate) fn authentication(target: &Target) -> Vec<u8> {
    match &target.password {
        Some(password) => format!("*2\r\n$4\r\nAUTH\r\n${}\r\n{password}\r\n", password.len()).into_bytes(),
        None => Vec::new(),
    }
}

/// A connection that has given the password, if there is one; it blocks.
pub(crate) fn connect(target: &Target) -> anyhow::Result<TcpStream> {
    const OK: &[u8] = b"+OK\r\n";
    let mut stream = TcpStream::connect(target.server).context("failed to connect")?;
    stream.set_nodelay(true).context("failed to prepare a connection")?;
    let request = authentication(target);
    if !request.is_empty() {
        let mut reply = [0; OK.len()];
        stream
            .write_all(&request)
            .and_then(|()| stream.read_exact(&mut reply))
            .context("failed to authenticate")?;
        if reply != OK {
            bail!("the server refused the password: {:?}", String::from_utf8_lossy(&reply));
        }
    }
    Ok(stream)
}
