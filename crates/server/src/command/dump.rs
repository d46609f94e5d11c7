//! DUMP and RESTORE: values as payloads.

use super::args::{integer, is};
use super::{Call, Outcome, ReplyError, Run, error};
use crate::engine::events::Change;
use crate::engine::object::NewValue;
use crate::engine::{Access, Expiry};
use crate::persistence::snapshot::dump::{self, RestoreError};

pub(crate) fn dump(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let (mut keys, reply) = call.keys_and_reply();
    match keys.read(key) {
        Some(entry) => reply.bulk(&dump::dump(entry.value())),
        None => reply.null(),
    }
    Ok(Outcome::Done)
}

#[derive(Debug, Default)]
struct RestoreOptions {
    replace: bool,
    absolute: bool,
    access: Access,
}

impl RestoreOptions {
    fn parse(call: &Call<'_, '_>) -> Result<RestoreOptions, ReplyError> {
        let mut options = RestoreOptions::default();
        let mut at = 4;
        while let Some(option) = call.request.arg_at(at) {
            let argument = call.request.arg_at(at + 1);
            match argument {
                _ if is(option, "replace") => options.replace = true,
                _ if is(option, "absttl") => options.absolute = true,
                // Either may be told, not both, as in Redis; whether it counts is up to the policy.
                Some(seconds) if is(option, "idletime") && options.access.frequency.is_none() => {
                    at += 1;
                    let seconds = u64::try_from(integer(seconds)?).map_err(|_| error::RESTORE_IDLE)?;
                    options.access.idle_seconds = Some(u32::try_from(seconds).unwrap_or(u32::MAX));
                }
                Some(frequency) if is(option, "freq") && options.access.idle_seconds.is_none() => {
                    at += 1;
                    let frequency = u8::try_from(integer(frequency)?);
                    options.access.frequency = Some(frequency.map_err(|_| error::RESTORE_FREQUENCY)?);
                }
                _ => return Err(error::SYNTAX),
            }
            at += 1;
        }
        Ok(options)
    }
}

pub(crate) fn restore(call: &mut Call<'_, '_>) -> Run {
    let (key, payload) = (call.arg(1), call.arg(3));
    let options = RestoreOptions::parse(call)?;
    let now_ms = call.ctx.now_ms;
    let mut keys = call.keys();
    let found = keys.find(key);
    if found.is_some() && !options.replace {
        return Err(error::BUSY_KEY);
    }
    let ttl_ms = integer(call.arg(2))?;
    if ttl_ms < 0 {
        return Err(error::RESTORE_TTL);
    }
    let tools = call.keys().tools();
    call.ctx.engine.stats.payloads_checked += 1;
    let restore = if call.ctx.engine.skips_checksums() { dump::restore_unchecked } else { dump::restore };
    let value = restore(payload, tools).map_err(|error| match &error {
        RestoreError::Data(cause) => ReplyError::from(format!("ERR {error}: {cause}")),
        RestoreError::VersionOrChecksum | RestoreError::Empty => ReplyError::from(format!("ERR {error}")),
    })?;
    let expires_at_ms = match ttl_ms {
        0 => None,
        _ if options.absolute => Some(ttl_ms),
        _ => {
            let at = ttl_ms.checked_add(now_ms);
            Some(at.ok_or_else(|| error::invalid_expire(call.command.full_name))?)
        }
    };
    let is_replay = call.is_replay();
    let mut keys = call.keys();
    if expires_at_ms.is_some_and(|at| at <= now_ms) && !is_replay {
        // It would be gone at once; what was there before is.
        if keys.remove(found, key, Change::generic("del")) {
            call.log(&[b"DEL", key]);
        }
    } else {
        let expiry = expires_at_ms.map_or(Expiry::Clear, Expiry::At);
        keys.set(found, key, NewValue::from(&value), expiry, Change::generic("restore"));
        keys.restore_access(key, options.access);
        match expires_at_ms {
            Some(at) if !options.absolute => log_absolute(call, at),
            _ => call.log_verbatim(),
        }
    }
    call.reply.ok();
    Ok(Outcome::Done)
}

/// Records the command with an absolute time in the place of a relative one.
fn log_absolute(call: &mut Call<'_, '_>, expires_at_ms: i64) {
    let mut number = itoa::Buffer::new();
    let mut args: Vec<&[u8]> = call.request.args_from(0).collect();
    args[2] = number.format(expires_at_ms).as_bytes();
    args.push(b"ABSTTL");
    call.log(&args);
}
