//! Listeners and connections, by TCP and by a Unix socket: bytes and back-pressure. Knows no command's meaning.

pub(crate) mod connection;
pub(crate) mod descriptors;
pub(crate) mod hints;
pub(crate) mod listener;
pub(crate) mod output;
pub(crate) mod senders;
pub(crate) mod stream;
mod trial;
pub(crate) mod unix_socket;
