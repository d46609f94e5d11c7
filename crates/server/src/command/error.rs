//! Error replies. Codes and wording are Redis 7.0's: clients compare them.

use std::borrow::Cow;

use crate::engine::WrongType;
use crate::engine::tracking::Overlap;

/// The text of an error reply, beginning with its code and without the `-`.
///
/// It may quote bytes of the request, so it is not always UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplyError(Cow<'static, [u8]>);

impl ReplyError {
    /// A fixed text.
    pub(crate) const fn fixed(text: &'static str) -> ReplyError {
        ReplyError(Cow::Borrowed(text.as_bytes()))
    }

    /// The text.
    pub(crate) fn text(&self) -> Cow<'static, [u8]> {
        self.0.clone()
    }
}

impl From<String> for ReplyError {
    fn from(text: String) -> ReplyError {
        ReplyError(Cow::Owned(text.into_bytes()))
    }
}

impl From<Vec<u8>> for ReplyError {
    fn from(text: Vec<u8>) -> ReplyError {
        ReplyError(Cow::Owned(text))
    }
}

impl From<WrongType> for ReplyError {
    fn from(_: WrongType) -> ReplyError {
        WRONG_TYPE
    }
}

macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub(crate) const $name: ReplyError = ReplyError::fixed($text);)*
    };
}

fixed! {
    WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value";
    SYNTAX = "ERR syntax error";
    NOT_INTEGER = "ERR value is not an integer or out of range";
    NOT_POSITIVE = "ERR value is out of range, must be positive";
    NOT_I32 = "ERR value is out of range, value must between -2147483648 and 2147483647";
    BUSY_KEY = "BUSYKEY Target key name already exists.";
    RESTORE_TTL = "ERR Invalid TTL value, must be >= 0";
    RESTORE_IDLE = "ERR Invalid IDLETIME value, must be >= 0";
    RESTORE_FREQUENCY = "ERR Invalid FREQ value, must be >= 0 and <= 255";
    HASH_NOT_INTEGER = "ERR hash value is not an integer";
    HASH_NOT_FLOAT = "ERR hash value is not a float";
    INFINITE_VALUE = "ERR value is NaN or Infinity";
    OUT_OF_RANGE = "ERR value is out of range";
    RANDOM_COUNT = "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807";
    NOT_FLOAT = "ERR value is not a valid float";
    OVERFLOW = "ERR increment or decrement would overflow";
    DECREMENT_OVERFLOW = "ERR decrement would overflow";
    NAN_OR_INFINITY = "ERR increment would produce NaN or Infinity";
    STRING_TOO_LONG = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    KEY_TOO_LONG = "ERR key exceeds the maximum length of 4294967295 bytes";
    OFFSET_OUT_OF_RANGE = "ERR offset is out of range";
    NO_SUCH_KEY = "ERR no such key";
    SAME_OBJECT = "ERR source and destination objects are the same";
    DB_INDEX_OUT_OF_RANGE = "ERR DB index is out of range";
    INDEX_OUT_OF_RANGE = "ERR index out of range";
    LPOS_RANK = "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list";
    LPOS_COUNT = "ERR COUNT can't be negative";
    LPOS_MAXLEN = "ERR MAXLEN can't be negative";
    TOO_MANY_KEYS = "ERR Number of keys can't be greater than number of args";
    SORT_NOT_DOUBLE = "ERR One or more scores can't be converted into double";
    INVALID_CURSOR = "ERR invalid cursor";
    BIT_OFFSET = "ERR bit offset is not an integer or out of range";
    BIT_VALUE = "ERR bit is not an integer or out of range";
    BIT_ARGUMENT = "ERR The bit argument must be 1 or 0.";
    BITFIELD_TYPE = "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";
    BITFIELD_OVERFLOW = "ERR Invalid OVERFLOW type specified";
    BITFIELD_RO = "ERR BITFIELD_RO only supports the GET subcommand";
    BITOP_NOT = "ERR BITOP NOT must be called with a single source key.";
    LCS_BOTH = "ERR If you want both the length and indexes, please just use IDX.";
    LCS_TYPE = "ERR The specified keys must contain string values";
    LCS_TOO_LONG = "ERR String too long for LCS";
    LCS_MEMORY = "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
    EXPIRE_NX = "ERR NX and XX, GT or LT options at the same time are not compatible";
    EXPIRE_GT_LT = "ERR GT and LT options at the same time are not compatible";
    SCORE_NAN = "ERR resulting score is not a number (NaN)";
    ZADD_NX_XX = "ERR XX and NX options at the same time are not compatible";
    ZADD_GT_LT_NX = "ERR GT, LT, and/or NX options at the same time are not compatible";
    ZADD_INCR = "ERR INCR option supports a single increment-element pair";
    BOUND_NOT_FLOAT = "ERR min or max is not a float";
    BOUND_NOT_MEMBER = "ERR min or max not valid string range item";
    RANGE_LIMIT = "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX";
    RANGE_WITH_SCORES = "ERR syntax error, WITHSCORES not supported in combination with BYLEX";
    WEIGHT_NOT_FLOAT = "ERR weight value is not a float";
    LIMIT_NEGATIVE = "ERR LIMIT can't be negative";
    NUMKEYS = "ERR numkeys should be greater than 0";
    COUNT_POSITIVE = "ERR count should be greater than 0";
    NO_AUTH = "NOAUTH Authentication required.";
    WRONG_PASSWORD = "WRONGPASS invalid username-password pair or user is disabled.";
    AUTH_WITHOUT_PASSWORD = "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?";
    HELLO_NO_AUTH = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time";
    NO_PROTO = "NOPROTO unsupported protocol version";
    PROTO_NOT_INTEGER = "ERR Protocol version is not an integer or out of range";
    CLIENT_NAME = "ERR Client names cannot contain spaces, newlines or special characters.";
    NO_MULTI = "ERR Command not allowed inside a transaction";
    NESTED_MULTI = "ERR MULTI calls can not be nested";
    EXEC_WITHOUT_MULTI = "ERR EXEC without MULTI";
    DISCARD_WITHOUT_MULTI = "ERR DISCARD without MULTI";
    WATCH_INSIDE_MULTI = "ERR WATCH inside MULTI is not allowed";
    EXEC_ABORT = "EXECABORT Transaction discarded because of previous errors.";
    OUT_OF_MEMORY = "OOM command not allowed when used memory > 'maxmemory'.";
    LOADING = "LOADING Redis is loading the dataset in memory";
    NO_SUCH_CLIENT = "ERR No such client";
    CLIENT_ID = "ERR Invalid client ID";
    CLIENT_ID_POSITIVE = "ERR client-id should be greater than 0";
    UNBLOCK_REASON = "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR";
    PAUSE_MODE = "ERR CLIENT PAUSE mode must be WRITE or ALL";
    TIMEOUT_NOT_INTEGER = "ERR timeout is not an integer or out of range";
    TIMEOUT_NOT_FLOAT = "ERR timeout is not a float or out of range";
    TIMEOUT_OUT_OF_RANGE = "ERR timeout is out of range";
    TIMEOUT_NEGATIVE = "ERR timeout is negative";
    REDIRECT_TWICE = "ERR A client can only redirect to a single other client";
    REDIRECT_UNKNOWN = "ERR The client ID you want redirect to does not exist";
    PREFIX_WITHOUT_BCAST = "ERR PREFIX option requires BCAST mode to be enabled";
    BCAST_SWITCHED = "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.";
    CONSENT_WITH_BCAST = "ERR OPTIN and OPTOUT are not compatible with BCAST";
    CONSENT_TWICE = "ERR You can't specify both OPTIN mode and OPTOUT mode";
    CONSENT_SWITCHED = "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode.";
    CACHING_WITHOUT_TRACKING = "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled";
    CACHING_YES = "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.";
    CACHING_NO = "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.";
    NO_SHUTDOWN = "ERR No shutdown in progress.";
    PROTOCOL_SAMPLE = "ERR Wrong protocol type name. Please use one of the following: string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false";
    NO_SUCH_CONTROL = "ERR the allocator has no number of this name";
    RESP3_ONLY = "ERR RESP2 is not supported by this command";
    WAITAOF_LOCAL = "ERR value is out of range, value must between 0 and 1";
    FUNCTION_FLUSH = "ERR FUNCTION FLUSH only supports SYNC|ASYNC option";
    SCRIPT_FLUSH = "ERR SCRIPT FLUSH only support SYNC|ASYNC option";
    FUNCTION_LIST_NAME = "ERR library name argument was not given";
    WAITAOF_DISABLED = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
    NO_IDLE_TIME = "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.";
    NO_FREQUENCY = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.";
    MONITOR_DENIED = "ERR MONITOR isn't allowed for DENY BLOCKING client";
    SHARD_SUBSCRIBE_DENIED = "ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client";
    MONITOR_IN_KEYSPACE = "ERR Replica can't interact with the keyspace";
    INVALID_COMMAND = "ERR Invalid command specified";
    NO_KEY_ARGUMENTS = "ERR The command has no key arguments";
    GETKEYS_ARITY = "ERR Invalid number of arguments specified for command";
    GETKEYS_ARGUMENTS = "ERR Invalid arguments specified for command";
}

/// `cause` is the text of the error that EXEC got; its code is repeated unless it is the general one, as in Redis.
pub(crate) fn exec_aborted(cause: &[u8]) -> ReplyError {
    let cause = cause.strip_prefix(b"ERR ").unwrap_or(cause);
    ReplyError::from([&b"EXECABORT Transaction discarded because of: "[..], cause].concat())
}

pub(crate) fn wrong_arity(full_name: &str) -> ReplyError {
    ReplyError::from(format!("ERR wrong number of arguments for '{full_name}' command"))
}

pub(crate) fn no_input_keys(full_name: &str) -> ReplyError {
    ReplyError::from(format!("ERR at least 1 input key is needed for '{full_name}' command"))
}

pub(crate) fn invalid_expire(full_name: &str) -> ReplyError {
    ReplyError::from(format!("ERR invalid expire time in '{full_name}' command"))
}

/// `setting` allows the command named `name`, which is refused without it.
pub(crate) fn protected(name: &str) -> ReplyError {
    let setting = format!("enable-{name}-command");
    ReplyError::from(format!(
        "ERR {} command not allowed. If the {setting} option is set to \"local\", you can run it from a local \
         connection, otherwise you need to set this option in the configuration file, and then restart the server.",
        name.to_uppercase()
    ))
}

pub(crate) fn unknown_command(name: &[u8], args: impl Iterator<Item = impl AsRef<[u8]>>) -> ReplyError {
    const SHOWN_MAX: usize = 128;
    let mut shown: Vec<u8> = Vec::new();
    for arg in args {
        if shown.len() >= SHOWN_MAX {
            break;
        }
        let room = SHOWN_MAX - shown.len();
        shown.push(b'\'');
        shown.extend_from_slice(c_text(arg.as_ref(), room));
        shown.extend_from_slice(b"' ");
    }
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(c_text(name, SHOWN_MAX));
    text.extend_from_slice(b"', with args beginning with: ");
    text.extend_from_slice(&shown);
    ReplyError::from(text)
}

pub(crate) fn unknown_subcommand(subcommand: &[u8], command: &str) -> ReplyError {
    let mut text = b"ERR unknown subcommand '".to_vec();
    text.extend_from_slice(c_text(subcommand, 128));
    text.extend_from_slice(format!("'. Try {} HELP.", command.to_uppercase()).as_bytes());
    ReplyError::from(text)
}

/// `text` as `%.*s` prints it: at most `max` bytes, and nothing from the first zero byte on.
pub(crate) fn c_text(text: &[u8], max: usize) -> &[u8] {
    let text = &text[..text.len().min(max)];
    text.iter().position(|&byte| byte == 0).map_or(text, |end| &text[..end])
}

pub(crate) fn unsupported_option(option: &[u8]) -> ReplyError {
    ReplyError::from([b"ERR Unsupported option ", c_text(option, usize::MAX)].concat())
}

pub(crate) fn hello_option(option: &[u8]) -> ReplyError {
    ReplyError::from([b"ERR Syntax error in HELLO option '", c_text(option, usize::MAX), b"'"].concat())
}

pub(crate) fn unknown_client_type(name: &[u8]) -> ReplyError {
    ReplyError::from([b"ERR Unknown client type '", c_text(name, usize::MAX), b"'"].concat())
}

pub(crate) fn client_attribute(name: &[u8]) -> ReplyError {
    ReplyError::from([b"ERR Unrecognized option '", c_text(name, usize::MAX), b"'"].concat())
}

pub(crate) fn client_attribute_text(name: &str) -> ReplyError {
    ReplyError::from(format!("ERR {name} cannot contain spaces, newlines or special characters."))
}

pub(crate) fn no_such_user(name: &[u8]) -> ReplyError {
    ReplyError::from([b"ERR No such user '", c_text(name, usize::MAX), b"'"].concat())
}

pub(crate) fn prefix_overlap(overlap: &Overlap) -> ReplyError {
    let kind: &[u8] = if overlap.in_use { b"an existing" } else { b"another provided" };
    ReplyError::from(
        [
            b"ERR Prefix '",
            c_text(&overlap.prefix, usize::MAX),
            b"' overlaps with ",
            kind,
            b" prefix '",
            c_text(&overlap.with, usize::MAX),
            b"'. Prefixes for a single client must not overlap.",
        ]
        .concat(),
    )
}

pub(crate) fn unknown_argument(argument: &[u8]) -> ReplyError {
    ReplyError::from([b"ERR Unknown argument ", c_text(argument, usize::MAX)].concat())
}

pub(crate) fn unknown_subcommand_or_arity(subcommand: &[u8], command: &str) -> ReplyError {
    let mut text = b"ERR unknown subcommand or wrong number of arguments for '".to_vec();
    text.extend_from_slice(c_text(subcommand, 128));
    text.extend_from_slice(format!("'. Try {command} HELP.").as_bytes());
    ReplyError::from(text)
}

/// A command that a subscriber cannot give in RESP2.
pub(crate) fn only_subscriptions(full_name: &str) -> ReplyError {
    ReplyError::from(format!(
        "ERR Can't execute '{full_name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
         context"
    ))
}
