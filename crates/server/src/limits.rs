//! Hard upper bounds and the relations between them.

/// Bytes of a mebibyte.
pub const MIB: u64 = 1024 * 1024;

/// Longest inline command and longest header line of a request, in bytes. Source: Redis 7.0, `PROTO_INLINE_MAX_SIZE`.
pub const LINE_LEN_MAX: usize = 64 * 1024;

/// Most arguments of a request. Source: Redis 7.0 (`INT_MAX`). Memory is bounded by the query buffer, since every
/// argument takes at least six bytes of it.
pub const REQUEST_ARGS_MAX: i64 = i32::MAX as i64;

/// Most arguments of a request before authentication. Source: Redis 7.0.
pub const UNAUTHENTICATED_ARGS_MAX: i64 = 10;

/// Longest argument before authentication, in bytes. Source: Redis 7.0.
pub const UNAUTHENTICATED_BULK_LEN_MAX: i64 = 16 * 1024;

/// Longest string in bytes, unless `proto-max-bulk-len` says otherwise. Source: Redis 7.0.
pub const STRING_LEN_MAX_DEFAULT: u64 = 512 * MIB;

const _: () = assert!(UNAUTHENTICATED_ARGS_MAX <= REQUEST_ARGS_MAX, "authentication never narrows a bound");
const _: () = assert!(
    UNAUTHENTICATED_BULK_LEN_MAX.unsigned_abs() <= STRING_LEN_MAX_DEFAULT,
    "authentication never narrows a bound"
);
const _: () = assert!(
    UNAUTHENTICATED_ARGS_MAX * UNAUTHENTICATED_BULK_LEN_MAX <= MIB.cast_signed(),
    "a stranger cannot make us hold more than a mebibyte for one request"
);
