//! Expiry.

use super::args::{ExpiryUnit, integer, is};
use super::{Call, Outcome, ReplyError, Run, error};
use crate::engine::events::Change;

#[derive(Debug, Default)]
struct Conditions {
    absent: bool,
    present: bool,
    greater: bool,
    less: bool,
}

impl Conditions {
    fn parse(call: &Call<'_, '_>) -> Result<Conditions, ReplyError> {
        let mut conditions = Conditions::default();
        for option in call.request.args_from(3) {
            if is(option, "nx") {
                conditions.absent = true;
            } else if is(option, "xx") {
                conditions.present = true;
            } else if is(option, "gt") {
                conditions.greater = true;
            } else if is(option, "lt") {
                conditions.less = true;
            } else {
                return Err(error::unsupported_option(option));
            }
        }
        if conditions.absent && (conditions.present || conditions.greater || conditions.less) {
            return Err(error::EXPIRE_NX);
        }
        if conditions.greater && conditions.less {
            return Err(error::EXPIRE_GT_LT);
        }
        Ok(conditions)
    }

    /// Whether an expiry may be set where `current` is; none counts as for ever.
    fn allow(&self, current: Option<i64>, new: i64) -> bool {
        match current {
            None => !self.present && !self.greater,
            Some(current) => {
                !self.absent && (!self.greater || new > current) && (!self.less || new < current)
            }
        }
    }
}

pub(crate) fn expire(call: &mut Call<'_, '_>) -> Run {
    set_expiry(call, ExpiryUnit::Seconds)
}

pub(crate) fn pexpire(call: &mut Call<'_, '_>) -> Run {
    set_expiry(call, ExpiryUnit::Milliseconds)
}

pub(crate) fn expireat(call: &mut Call<'_, '_>) -> Run {
    set_expiry(call, ExpiryUnit::AtSeconds)
}

pub(crate) fn pexpireat(call: &mut Call<'_, '_>) -> Run {
    set_expiry(call, ExpiryUnit::AtMilliseconds)
}

fn set_expiry(call: &mut Call<'_, '_>, unit: ExpiryUnit) -> Run {
    let key = call.arg(1);
    let conditions = Conditions::parse(call)?;
    let at = unit
        .to_unix_ms(integer(call.arg(2))?, call.ctx.now_ms)
        .ok_or_else(|| error::invalid_expire(call.command.full_name))?;
    let now_ms = call.ctx.now_ms;
    let is_replay = call.is_replay();
    let mut keys = call.keys();
    let found = keys.find(key);
    let allowed = keys.view(found).is_some_and(|entry| conditions.allow(entry.expires_at_ms(), at));
    if !allowed {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    }
    if at <= now_ms && !is_replay {
        keys.remove(found, key, Change::generic("del"));
        call.log(&[b"DEL", key]);
    } else {
        keys.set_expiry(found, key, Some(at), Change::generic("expire"));
        call.log(&[b"PEXPIREAT", key, itoa::Buffer::new().format(at).as_bytes()]);
    }
    call.reply.integer(1);
    Ok(Outcome::Done)
}

/// Writes what `describe` makes of the expiry: -2 for no key, -1 for no expiry.
fn write_expiry(call: &mut Call<'_, '_>, describe: impl FnOnce(i64) -> i64) -> Run {
    let key = call.arg(1);
    let expiry = call.keys().peek(key).map(|entry| entry.expires_at_ms());
    call.reply.integer(match expiry {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => describe(at),
    });
    Ok(Outcome::Done)
}

/// Milliseconds in seconds, rounded to the nearest.
fn to_seconds(ms: i64) -> i64 {
    // Not rounded before it is divided: a time at the end of the range would not fit.
    ms / 1000 + i64::from(ms % 1000 >= 500)
}

pub(crate) fn ttl(call: &mut Call<'_, '_>) -> Run {
    let now_ms = call.ctx.now_ms;
    write_expiry(call, |at| to_seconds(at.saturating_sub(now_ms).max(0)))
}

pub(crate) fn pttl(call: &mut Call<'_, '_>) -> Run {
    let now_ms = call.ctx.now_ms;
    write_expiry(call, |at| at.saturating_sub(now_ms).max(0))
}

pub(crate) fn expiretime(call: &mut Call<'_, '_>) -> Run {
    write_expiry(call, to_seconds)
}

pub(crate) fn pexpiretime(call: &mut Call<'_, '_>) -> Run {
    write_expiry(call, |at| at)
}

pub(crate) fn persist(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let mut keys = call.keys();
    let found = keys.find(key);
    let had = keys.view(found).is_some_and(|entry| entry.expires_at_ms().is_some());
    if had {
        keys.set_expiry(found, key, None, Change::generic("persist"));
        call.log_verbatim();
    }
    call.reply.integer(i64::from(had));
    Ok(Outcome::Done)
}
