//! What senders do wrong, in Redis's words. The bounds are those of [`crate::limits`].

/// The sender does not speak the protocol. The connection gets [`ProtocolError::reply_text`] and is closed.
///
/// Texts are Redis 7.0's, to the byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// More than `LINE_LEN_MAX` bytes without a line end after `*`.
    #[error("too big mbulk count string")]
    CountLineLen,
    /// The number of arguments is not a number, or above `REQUEST_ARGS_MAX`.
    #[error("invalid multibulk length")]
    Count,
    /// More than `UNAUTHENTICATED_ARGS_MAX` arguments before authentication.
    #[error("unauthenticated multibulk length")]
    CountUnauthenticated,
    /// More than `LINE_LEN_MAX` bytes without a line end after `$`.
    #[error("too big bulk count string")]
    BulkLineLen,
    /// An argument did not begin with `$`.
    #[error("expected '$', got '{}'", char::from(*.0))]
    BulkExpected(u8),
    /// The length of an argument is not a number, negative, or above the limit.
    #[error("invalid bulk length")]
    Bulk,
    /// An argument above `UNAUTHENTICATED_BULK_LEN_MAX`, or a request above `UNAUTHENTICATED_REQUEST_LEN_MAX`,
    /// before authentication.
    #[error("unauthenticated bulk length")]
    BulkUnauthenticated,
    /// An inline command above `LINE_LEN_MAX`, or above `UNAUTHENTICATED_REQUEST_LEN_MAX` before authentication.
    #[error("too big inline request")]
    InlineLen,
    /// An inline command whose quotes do not close.
    #[error("unbalanced quotes in request")]
    InlineQuotes,
    /// A request that does not begin with `*` where only arrays are allowed.
    #[error("expected '*', got '{}'", char::from(*.0))]
    ArrayExpected(u8),
}

impl ProtocolError {
    /// The error reply without its leading `-` and line end.
    pub(crate) fn reply_text(&self) -> Vec<u8> {
        let mut text = b"ERR Protocol error: ".to_vec();
        match self {
            // The byte as it came, which need not be valid UTF-8.
            ProtocolError::BulkExpected(byte) => {
                text.extend_from_slice(b"expected '$', got '");
                text.extend_from_slice(&[*byte, b'\'']);
            }
            other => text.extend_from_slice(other.to_string().as_bytes()),
        }
        text
    }
}
