//! RESP2, RESP3 and inline: incremental codec.
