//! The one thread that owns engine and log.
