//! Reading of arguments that several families share.

use super::error;
use super::{Call, ReplyError};
use crate::protocol::parse_i64;

/// An integer.
pub(crate) fn integer(arg: &[u8]) -> Result<i64, ReplyError> {
    parse_i64(arg).ok_or(error::NOT_INTEGER)
}

/// A 32-bit integer.
pub(crate) fn integer_i32(arg: &[u8]) -> Option<i32> {
    parse_i64(arg).and_then(|value| i32::try_from(value).ok())
}

/// A database index.
pub(crate) fn database(call: &Call<'_, '_>, arg: &[u8]) -> Result<u32, ReplyError> {
    let index = i32::try_from(integer(arg)?).map_err(|_| error::NOT_I32)?;
    u32::try_from(index)
        .ok()
        .filter(|&index| index < call.ctx.engine.databases())
        .ok_or(error::DB_INDEX_OUT_OF_RANGE)
}

/// Whether an argument is this word, in any case.
pub(crate) fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// A timeout in milliseconds.
pub(crate) fn timeout_ms(arg: &[u8]) -> Result<u64, ReplyError> {
    let timeout = parse_i64(arg).ok_or(error::TIMEOUT_NOT_INTEGER)?;
    u64::try_from(timeout).map_err(|_| error::TIMEOUT_NEGATIVE)
}

/// How an expiry is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExpiryUnit {
    Seconds,
    Milliseconds,
    AtSeconds,
    AtMilliseconds,
}

impl ExpiryUnit {
    pub(crate) fn is_absolute(self) -> bool {
        matches!(self, ExpiryUnit::AtSeconds | ExpiryUnit::AtMilliseconds)
    }

    /// The absolute time in milliseconds; none when it is out of range.
    pub(crate) fn to_unix_ms(self, amount: i64, now_ms: i64) -> Option<i64> {
        match self {
            ExpiryUnit::Seconds => amount.checked_mul(1000)?.checked_add(now_ms),
            ExpiryUnit::Milliseconds => amount.checked_add(now_ms),
            ExpiryUnit::AtSeconds => amount.checked_mul(1000),
            ExpiryUnit::AtMilliseconds => Some(amount),
        }
    }

    /// The unit that an option of SET and GETEX names.
    pub(crate) fn from_option(option: &[u8]) -> Option<ExpiryUnit> {
        match option {
            _ if is(option, "ex") => Some(ExpiryUnit::Seconds),
            _ if is(option, "px") => Some(ExpiryUnit::Milliseconds),
            _ if is(option, "exat") => Some(ExpiryUnit::AtSeconds),
            _ if is(option, "pxat") => Some(ExpiryUnit::AtMilliseconds),
            _ => None,
        }
    }

    /// The absolute time that SET, GETEX and their kin mean: positive, and in range.
    pub(crate) fn positive_unix_ms(self, arg: &[u8], call: &Call<'_, '_>) -> Result<i64, ReplyError> {
        let amount = integer(arg)?;
        (amount > 0)
            .then(|| self.to_unix_ms(amount, call.ctx.now_ms))
            .flatten()
            .filter(|&at| at > 0)
            .ok_or_else(|| error::invalid_expire(call.command.full_name))
    }
}
