//! What commands that wait for keys share: BLPOP and its relatives.
//!
//! A blocked command is run again when one of its keys holds a value of its type, in the order in which clients began to
//! wait, until it has something to answer: on the key that became ready first, whatever the order of its arguments. It logs
//! what it then did, never that it waited.

use super::{Call, Deferred, Outcome, ReplyError, Run, error};
use crate::command::long_double::LongDouble;
use crate::engine::Found;
use crate::engine::object::Kind;

/// A timeout in seconds, as milliseconds; 0 is for ever.
pub(crate) fn timeout_ms(arg: &[u8]) -> Result<u64, ReplyError> {
    let number = LongDouble::parse(arg).ok_or(error::TIMEOUT_NOT_FLOAT)?;
    let seconds: f64 = match arg {
        [b'-', ..] if number.is_infinite() => f64::NEG_INFINITY,
        _ if number.is_infinite() => f64::INFINITY,
        // In decimal, since it may have been hexadecimal.
        _ => number.to_string().parse().unwrap_or(f64::INFINITY),
    };
    // A time that is too short for the digits of the text is no wait for ever.
    let is_short = seconds == 0.0 && number.is_positive();
    let milliseconds = if is_short { 1.0 } else { (seconds * 1000.0).ceil() };
    if milliseconds < 0.0 {
        return Err(error::TIMEOUT_NEGATIVE);
    }
    #[expect(clippy::cast_precision_loss, reason = "a limit beyond any time")]
    if milliseconds > i64::MAX as f64 {
        return Err(error::TIMEOUT_OUT_OF_RANGE);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    Ok(milliseconds as u64)
}

/// The value at a key, if there is one of this type. A command that is run again passes over others, and over keys besides the
/// one that has become ready, since it goes on waiting.
pub(crate) fn available(
    call: &mut Call<'_, '_>,
    key: &[u8],
    kind: Kind,
) -> Result<Option<Found>, ReplyError> {
    let is_retry = call.ready_key.is_some();
    if call.ready_key.is_some_and(|ready| ready != key) {
        return Ok(None);
    }
    match call.keys().find_kind(key, kind) {
        Ok(found) => Ok(found.is_some().then_some(found)),
        Err(_) if is_retry => Ok(None),
        Err(wrong) => Err(wrong.into()),
    }
}

/// Waits for a value of a type at one of the keys at some places among the arguments, or for the time to be over. Where
/// nothing may wait, `write_nothing` writes the reply.
pub(crate) fn wait(
    call: &mut Call<'_, '_>,
    kind: Kind,
    keys: std::ops::Range<usize>,
    timeout_ms: u64,
    write_nothing: impl FnOnce(&mut crate::protocol::ReplyWriter<'_>),
) -> Run {
    if call.in_exec {
        write_nothing(&mut call.reply);
        return Ok(Outcome::Done);
    }
    Ok(Outcome::Deferred(Deferred::Block { kind, first_key: keys.start, keys: keys.len(), timeout_ms }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_seconds_with_fractions() {
        let check = |text: &str, expected: Result<u64, ReplyError>| {
            assert_eq!(timeout_ms(text.as_bytes()), expected, "{text}");
        };
        check("0", Ok(0));
        check("1", Ok(1000));
        check("0.0001", Ok(1));
        check("1.5e2", Ok(150_000));
        check("0x1p3", Ok(8000));
        for short in ["1e-18", "1e-20", "1e-300", "0x1p-900"] {
            check(short, Ok(1));
        }
        for zero in ["0.0", "-0", "0e5", "-0x0p9"] {
            check(zero, Ok(0));
        }
        check("-1", Err(error::TIMEOUT_NEGATIVE));
        check("x", Err(error::TIMEOUT_NOT_FLOAT));
        check("1e100", Err(error::TIMEOUT_OUT_OF_RANGE));
        check("inf", Err(error::TIMEOUT_OUT_OF_RANGE));
    }
}
