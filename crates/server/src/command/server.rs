//! The server: saving, stopping, waiting, and small answers.

use super::args::{self, integer, is};
use super::connection::REDIS_VERSION;
use super::host::JobStart;
use super::{Call, Deferred, Outcome, ReplyError, Run, ShutdownOptions, error, introspect};

pub(crate) fn time(call: &mut Call<'_, '_>) -> Run {
    let now_us = call.ctx.host.unix_time_us();
    call.reply.array(2);
    call.reply.bulk_integer(now_us.div_euclid(1_000_000));
    call.reply.bulk_integer(now_us.rem_euclid(1_000_000));
    Ok(Outcome::Done)
}

pub(crate) fn save(_call: &mut Call<'_, '_>) -> Run {
    Ok(Outcome::Deferred(Deferred::Save))
}

pub(crate) fn bgsave(call: &mut Call<'_, '_>) -> Run {
    let schedule = match call.request.arg_at(1) {
        None => false,
        Some(option) if call.len() == 2 && is(option, "schedule") => true,
        Some(_) => return Err(error::SYNTAX),
    };
    let start = call.ctx.host.start_background_save(schedule).map_err(ReplyError::from)?;
    call.reply.simple(match start {
        JobStart::Started => "Background saving started",
        JobStart::Scheduled => "Background saving scheduled",
    });
    Ok(Outcome::Done)
}

pub(crate) fn bgrewriteaof(call: &mut Call<'_, '_>) -> Run {
    let start = call.ctx.host.start_log_rewrite().map_err(ReplyError::from)?;
    call.reply.simple(match start {
        JobStart::Started => "Background append only file rewriting started",
        JobStart::Scheduled => "Background append only file rewriting scheduled",
    });
    Ok(Outcome::Done)
}

pub(crate) fn lastsave(call: &mut Call<'_, '_>) -> Run {
    let seconds = call.ctx.host.last_save_s();
    call.reply.integer(seconds);
    Ok(Outcome::Done)
}

pub(crate) fn shutdown(call: &mut Call<'_, '_>) -> Run {
    let mut options = ShutdownOptions::default();
    let mut abort = false;
    for option in call.request.args_from(1) {
        match option {
            _ if is(option, "nosave") && options.save != Some(true) => options.save = Some(false),
            _ if is(option, "save") && options.save != Some(false) => options.save = Some(true),
            _ if is(option, "now") => options.now = true,
            _ if is(option, "force") => options.force = true,
            _ if is(option, "abort") => abort = true,
            _ => return Err(error::SYNTAX),
        }
    }
    if !abort {
        return Ok(Outcome::Deferred(Deferred::Shutdown(options)));
    }
    if options != ShutdownOptions::default() {
        return Err(error::SYNTAX);
    }
    if !call.ctx.host.abort_shutdown() {
        return Err(error::NO_SHUTDOWN);
    }
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn wait(call: &mut Call<'_, '_>) -> Run {
    let replicas = integer(call.arg(1))?;
    let timeout_ms = args::timeout_ms(call.arg(2))?;
    // There are no replicas yet: whoever waits for one waits until the time is over.
    let replicas = u64::try_from(replicas).unwrap_or(0);
    if call.in_exec {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    }
    Ok(Outcome::Deferred(Deferred::Wait { replicas, timeout_ms }))
}

pub(crate) fn waitaof(call: &mut Call<'_, '_>) -> Run {
    let local = match integer(call.arg(1))? {
        0 => 0,
        1 => 1,
        _ => return Err(error::WAITAOF_LOCAL),
    };
    let replicas = u64::try_from(integer(call.arg(2))?).map_err(|_| error::NOT_POSITIVE)?;
    let timeout_ms = args::timeout_ms(call.arg(3))?;
    if local == 1 && !call.ctx.host.log_enabled() {
        return Err(error::WAITAOF_DISABLED);
    }
    if call.in_exec {
        let is_durable = call.ctx.host.log_enabled() && call.ctx.host.is_durable(call.session);
        call.reply.array(2);
        call.reply.integer(i64::from(is_durable));
        call.reply.integer(0);
        return Ok(Outcome::Done);
    }
    Ok(Outcome::Deferred(Deferred::WaitAof { local, replicas, timeout_ms }))
}

pub(crate) fn role(call: &mut Call<'_, '_>) -> Run {
    let offset = call.ctx.host.replication_offset();
    call.reply.array(3);
    call.reply.bulk(b"master");
    call.reply.integer(i64::try_from(offset).unwrap_or(i64::MAX));
    call.reply.array(0);
    Ok(Outcome::Done)
}

pub(crate) fn lolwut(call: &mut Call<'_, '_>) -> Run {
    let text =
        format!("Holdfast {}, in the words of Redis ver. {REDIS_VERSION}\n", env!("CARGO_PKG_VERSION"));
    call.reply.verbatim(*b"txt", text.as_bytes());
    Ok(Outcome::Done)
}

pub(crate) fn acl_whoami(call: &mut Call<'_, '_>) -> Run {
    call.reply.bulk(call.session.user().as_bytes());
    Ok(Outcome::Done)
}

pub(crate) fn acl_users(call: &mut Call<'_, '_>) -> Run {
    call.reply.array(1);
    call.reply.bulk(call.session.user().as_bytes());
    Ok(Outcome::Done)
}

pub(crate) fn acl_help(call: &mut Call<'_, '_>) -> Run {
    introspect::write_help(call)
}

/// ASYNC or SYNC, which mean the same where there is nothing to flush.
fn check_flush_mode(call: &Call<'_, '_>, refusal: ReplyError) -> Result<(), ReplyError> {
    match call.request.arg_at(2) {
        None => Ok(()),
        Some(mode) if call.len() == 3 && (is(mode, "async") || is(mode, "sync")) => Ok(()),
        Some(_) => Err(refusal),
    }
}

pub(crate) fn function_flush(call: &mut Call<'_, '_>) -> Run {
    check_flush_mode(call, error::FUNCTION_FLUSH)?;
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn function_list(call: &mut Call<'_, '_>) -> Run {
    let mut at = 2;
    while let Some(option) = call.request.arg_at(at) {
        if is(option, "libraryname") {
            at += 1;
            if at >= call.len() {
                return Err(error::FUNCTION_LIST_NAME);
            }
        } else if !is(option, "withcode") {
            return Err(error::unknown_argument(option));
        }
        at += 1;
    }
    call.reply.array(0);
    Ok(Outcome::Done)
}

pub(crate) fn function_stats(call: &mut Call<'_, '_>) -> Run {
    call.reply.map(2);
    call.reply.bulk(b"running_script");
    call.reply.null();
    call.reply.bulk(b"engines");
    call.reply.map(0);
    Ok(Outcome::Done)
}

pub(crate) fn function_help(call: &mut Call<'_, '_>) -> Run {
    introspect::write_help(call)
}

pub(crate) fn script_flush(call: &mut Call<'_, '_>) -> Run {
    check_flush_mode(call, error::SCRIPT_FLUSH)?;
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn script_exists(call: &mut Call<'_, '_>) -> Run {
    let count = call.len() - 2;
    call.reply.array(count);
    for _ in 0..count {
        call.reply.integer(0);
    }
    Ok(Outcome::Done)
}

pub(crate) fn script_help(call: &mut Call<'_, '_>) -> Run {
    introspect::write_help(call)
}
