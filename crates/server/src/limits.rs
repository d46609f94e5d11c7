//! Hard upper bounds and the relations between them.

/// Bytes of a mebibyte.
pub const MIB: u64 = 1024 * 1024;

/// Longest inline command and longest header line of a request, in bytes. Source: Redis 7.0, `PROTO_INLINE_MAX_SIZE`.
pub const LINE_LEN_MAX: usize = 64 * 1024;

/// Most arguments of a request. Source: Redis 7.0 (`INT_MAX`). The decoder needs four bytes for each, and a
/// sender at least six.
pub const REQUEST_ARGS_MAX: i64 = i32::MAX as i64;

/// Most arguments of a request before authentication. Source: Redis 7.0.
pub const UNAUTHENTICATED_ARGS_MAX: i64 = 10;

/// Longest argument before authentication, in bytes. Source: Redis 7.0.
pub const UNAUTHENTICATED_BULK_LEN_MAX: usize = 16 * 1024;

/// Longest request before authentication, in bytes, headers included; an inline command counts as one, too. This is what a
/// stranger can make us hold for one connection.
///
/// Our own bound: ten arguments of 16 KiB would be 160 KiB. What has a meaning before authentication (`AUTH`, `HELLO` with
/// `AUTH` and `SETNAME`) fits with a password of the longest length that Redis accepts there.
pub const UNAUTHENTICATED_REQUEST_LEN_MAX: usize = 24 * 1024;

/// Nothing more is executed for an unauthenticated connection while more output than this waits, in bytes; one that does not
/// read it is closed. Errors of about 40 bytes are all that it gets.
pub(crate) const UNAUTHENTICATED_OUTPUT_LEN_MAX: usize = 4 * 1024;

/// Most memory of the process that one unauthenticated connection may hold, in bytes. Source: `reliability` target H1; Redis
/// was measured at about 250 KiB.
pub(crate) const UNAUTHENTICATED_MEMORY_MAX: usize = 32 * 1024;

/// What a connection holds besides its buffers, at most: its entries in our tables, and what the decoder keeps.
pub(crate) const CONNECTION_OVERHEAD_MAX: usize = 4 * 1024;

/// Longest key, in bytes, whatever `proto-max-bulk-len` says: an entry, and a snapshot in memory, have four bytes for its
/// length.
pub(crate) const KEY_LEN_MAX: usize = u32::MAX as usize;

/// Longest string in bytes, unless `proto-max-bulk-len` says otherwise. Source: Redis 7.0.
pub(crate) const STRING_LEN_MAX_DEFAULT: u64 = 512 * MIB;

/// Longest string whatever `proto-max-bulk-len` says, and while a log is replayed: no offset that a client or a damaged
/// log may send leads to a length that cannot be computed with.
pub(crate) const STRING_LEN_MAX: u64 = 64 * 1024 * MIB;

const _: () = assert!(STRING_LEN_MAX_DEFAULT <= STRING_LEN_MAX, "the default is allowed");
const _: () =
    assert!(STRING_LEN_MAX_DEFAULT <= KEY_LEN_MAX as u64, "by default a key may be as long as any string");
const _: () = assert!(UNAUTHENTICATED_ARGS_MAX <= REQUEST_ARGS_MAX, "authentication never narrows a bound");
const _: () = assert!(
    UNAUTHENTICATED_BULK_LEN_MAX as u64 <= STRING_LEN_MAX_DEFAULT,
    "authentication never narrows a bound"
);
const _: () = assert!(
    UNAUTHENTICATED_REQUEST_LEN_MAX <= LINE_LEN_MAX,
    "the bound before authentication is the narrower one for lines, too"
);
const _: () = assert!(
    UNAUTHENTICATED_REQUEST_LEN_MAX + UNAUTHENTICATED_OUTPUT_LEN_MAX + CONNECTION_OVERHEAD_MAX
        <= UNAUTHENTICATED_MEMORY_MAX,
    "a request, its replies and the connection fit in what a stranger may hold"
);
const _: () = assert!(
    UNAUTHENTICATED_BULK_LEN_MAX + 1024 <= UNAUTHENTICATED_REQUEST_LEN_MAX,
    "the longest password fits beside the other words of HELLO"
);
