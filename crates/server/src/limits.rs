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
pub const UNAUTHENTICATED_REQUEST_LEN_MAX: usize = 2 * UNAUTHENTICATED_BULK_LEN_MAX;

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
    UNAUTHENTICATED_BULK_LEN_MAX + 1024 <= UNAUTHENTICATED_REQUEST_LEN_MAX,
    "the longest password fits beside the other words of HELLO"
);
