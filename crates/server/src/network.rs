//! Listener and connections: bytes and back-pressure. Knows no command's meaning.

pub mod connection;
pub mod descriptors;
pub mod listener;
