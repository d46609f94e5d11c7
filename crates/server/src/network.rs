//! Listener and connections: bytes and back-pressure.
