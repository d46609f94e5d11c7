//! CONFIG: settings, which the process keeps.

use super::{Call, Outcome, ReplyError, Run, error, introspect};
use crate::engine::Stats;

pub(crate) fn get(call: &mut Call<'_, '_>) -> Run {
    let patterns: Vec<&[u8]> = call.request.args_from(2).collect();
    let found = call.ctx.host.config_matching(&patterns);
    call.reply.map(found.len());
    for (name, value) in found {
        call.reply.bulk(name.as_bytes());
        call.reply.bulk(&value);
    }
    Ok(Outcome::Done)
}

pub(crate) fn set(call: &mut Call<'_, '_>) -> Run {
    if !call.len().is_multiple_of(2) {
        return Err(error::SYNTAX);
    }
    let request = call.request;
    let settings: Vec<(&[u8], &[u8])> =
        (2..request.len()).step_by(2).map(|at| (request.arg(at), request.arg(at + 1))).collect();
    call.ctx.host.set_config(&settings).map_err(ReplyError::from)?;
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn rewrite(call: &mut Call<'_, '_>) -> Run {
    call.ctx.host.rewrite_config(false).map_err(ReplyError::from)?;
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn resetstat(call: &mut Call<'_, '_>) -> Run {
    call.ctx.engine.stats = Stats::default();
    if let Some(meter) = call.ctx.host.meter() {
        meter.reset_calls();
    }
    call.ctx.host.reset_statistics();
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn help(call: &mut Call<'_, '_>) -> Run {
    introspect::write_help(call)
}
