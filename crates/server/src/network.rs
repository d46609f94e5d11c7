//! Listener and connections: bytes and back-pressure. Knows no command's meaning.

pub(crate) mod connection;
pub(crate) mod descriptors;
pub(crate) mod hints;
pub(crate) mod listener;
pub(crate) mod output;
pub(crate) mod senders;
mod trial;
