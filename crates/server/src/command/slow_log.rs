//! SLOWLOG.

use super::{Call, Outcome, ReplyError, Run, error, introspect};
use crate::measure::SlowEntry;
use crate::protocol::parse_i64;

/// Entries of SLOWLOG GET without a count. Source: Redis 7.0.
const COUNT_DEFAULT: usize = 10;

pub(crate) fn get(call: &mut Call<'_, '_>) -> Run {
    let count = match call.request.arg_at(2) {
        None => COUNT_DEFAULT,
        Some(_) if call.len() > 3 => return Err(error::unknown_subcommand_or_arity(call.arg(1), "SLOWLOG")),
        Some(count) => match parse_i64(count) {
            Some(-1) => usize::MAX,
            Some(count) => usize::try_from(count).map_err(|_| SLOW_LOG_COUNT)?,
            None => return Err(SLOW_LOG_COUNT),
        },
    };
    let Some(meter) = call.ctx.host.meter() else {
        call.reply.array(0);
        return Ok(Outcome::Done);
    };
    let entries = meter.slow_log.iter().take(count);
    call.reply.array(entries.len());
    for SlowEntry { id, unix_s, microseconds, args, address, client_name } in entries {
        call.reply.array(6);
        call.reply.integer(i64::try_from(*id).unwrap_or(i64::MAX));
        call.reply.integer(*unix_s);
        call.reply.integer(i64::try_from(*microseconds).unwrap_or(i64::MAX));
        call.reply.array(args.len());
        args.iter().for_each(|arg| call.reply.bulk(arg));
        call.reply.bulk(address.as_bytes());
        call.reply.bulk(client_name);
    }
    Ok(Outcome::Done)
}

const SLOW_LOG_COUNT: ReplyError = ReplyError::fixed("ERR count should be greater than or equal to -1");

pub(crate) fn len(call: &mut Call<'_, '_>) -> Run {
    let len = call.ctx.host.meter().map_or(0, |meter| meter.slow_log.len());
    call.reply.count(len);
    Ok(Outcome::Done)
}

pub(crate) fn reset(call: &mut Call<'_, '_>) -> Run {
    if let Some(meter) = call.ctx.host.meter() {
        meter.slow_log.clear();
    }
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn help(call: &mut Call<'_, '_>) -> Run {
    introspect::write_help(call)
}
