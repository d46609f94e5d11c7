//! What CLIENT LIST says of a connection and commands do not know.

/// Kinds of clients, as CLIENT LIST TYPE and CLIENT KILL TYPE name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    /// Ordinary clients.
    Normal,
    /// Connections from our primary.
    Master,
    /// Replicas.
    Replica,
    /// Subscribers.
    PubSub,
}

/// Facts about a connection that only the network knows.
#[derive(Debug, Clone, Default)]
pub struct ClientFacts {
    /// Peer, as `ip:port` or `path:0` of a Unix socket.
    pub address: String,
    /// Our end of the connection, in the same form.
    pub local_address: String,
    /// Whether the connection was made by the Unix socket.
    pub is_unix: bool,
    /// File descriptor; -1 when there is none.
    pub fd: i64,
    /// Seconds since the connection was made.
    pub age_s: u64,
    /// Seconds since the last command.
    pub idle_s: u64,
    /// Bytes received and not yet understood.
    pub query_bytes: u64,
    /// Bytes free in the receive buffer.
    pub query_free_bytes: u64,
    /// Bytes that the arguments of a request in progress take.
    pub argument_bytes: u64,
    /// Size of a reply buffer that holds nothing, in bytes.
    pub reply_buffer_bytes: u64,
    /// Bytes waiting to be sent, as far as Redis would have them in its reply buffer.
    pub output_bytes: u64,
    /// Pieces of the others.
    pub output_pieces: u64,
    /// Bytes of the others.
    pub output_pieces_bytes: u64,
    /// All that the connection makes the server hold, in bytes.
    pub total_bytes: u64,
    /// Whether the connection ends once everything was sent.
    pub is_closing: bool,
    /// Whether the connection waits, for other replies or for the end of a pause.
    pub is_blocked: bool,
}
