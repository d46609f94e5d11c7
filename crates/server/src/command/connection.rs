//! Connections.

use super::args::{self, is};
use super::{Call, Outcome, ReplyError, Run, client, error, pubsub, tracking};
use crate::protocol::{RespVersion, parse_i64};

/// The version of Redis whose commands, replies and files are spoken; clients decide by it what they may send.
pub(crate) const REDIS_VERSION: &str = "7.0.15";

pub(crate) fn ping(call: &mut Call<'_, '_>) -> Run {
    match call.request.arg_at(1) {
        Some(_) if call.len() > 2 => return Err(error::wrong_arity(call.command.full_name)),
        text if call.session.is_restricted_to_subscriptions() => pubsub::pong(&mut call.reply, text),
        Some(text) => call.reply.bulk(text),
        None => call.reply.simple("PONG"),
    }
    Ok(Outcome::Done)
}

pub(crate) fn echo(call: &mut Call<'_, '_>) -> Run {
    call.reply.bulk(call.request.arg(1));
    Ok(Outcome::Done)
}

pub(crate) fn quit(call: &mut Call<'_, '_>) -> Run {
    call.reply.ok();
    Ok(Outcome::Close)
}

pub(crate) fn reset(call: &mut Call<'_, '_>) -> Run {
    call.session.close(call.ctx.engine);
    tracking::disable(call);
    pubsub::forget(call);
    if std::mem::take(&mut call.session.monitors) {
        call.ctx.host.set_monitor(call.session, false);
    }
    call.session.db = 0;
    call.session.name.clear();
    call.session.version = RespVersion::Resp2;
    call.session.no_evict = false;
    call.session.no_touch = false;
    call.session.reply_mode.reset();
    call.session.authenticated = !call.ctx.host.has_password();
    call.reply.set_version(RespVersion::Resp2);
    call.reply.simple("RESET");
    Ok(Outcome::Done)
}

pub(crate) fn select(call: &mut Call<'_, '_>) -> Run {
    call.session.db = args::database(call, call.arg(1))?;
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn auth(call: &mut Call<'_, '_>) -> Run {
    let (user, password) = match call.len() {
        2 if !call.ctx.host.has_password() => return Err(error::AUTH_WITHOUT_PASSWORD),
        2 => (&b"default"[..], call.arg(1)),
        3 => (call.arg(1), call.arg(2)),
        _ => return Err(error::SYNTAX),
    };
    authenticate(call, user, password)?;
    call.reply.ok();
    Ok(Outcome::Done)
}

fn authenticate(call: &mut Call<'_, '_>, user: &[u8], password: &[u8]) -> Result<(), ReplyError> {
    // Without a password any is right for the default user.
    let right =
        (user == b"default" && !call.ctx.host.has_password()) || call.ctx.host.authenticate(user, password);
    if !right {
        return Err(error::WRONG_PASSWORD);
    }
    call.session.authenticated = true;
    Ok(())
}

pub(crate) fn hello(call: &mut Call<'_, '_>) -> Run {
    let version = match call.request.arg_at(1) {
        None => None,
        Some(version) => match parse_i64(version).ok_or(error::PROTO_NOT_INTEGER)? {
            2 => Some(RespVersion::Resp2),
            3 => Some(RespVersion::Resp3),
            _ => return Err(error::NO_PROTO),
        },
    };
    // Options take effect as they are read, also before one that is refused, as in Redis.
    let mut at = 2;
    while let Some(option) = call.request.arg_at(at) {
        let left = call.len() - at - 1;
        if is(option, "auth") && left >= 2 {
            authenticate(call, call.request.arg(at + 1), call.request.arg(at + 2))?;
            at += 3;
        } else if is(option, "setname") && left >= 1 {
            client::set_name(call.session, call.request.arg(at + 1))?;
            at += 2;
        } else {
            return Err(error::hello_option(option));
        }
    }
    if call.ctx.settings.auth_required && !call.session.authenticated {
        return Err(error::HELLO_NO_AUTH);
    }
    if let Some(version) = version {
        call.session.version = version;
        call.reply.set_version(version);
    }
    let id = i64::try_from(call.session.id()).unwrap_or(i64::MAX);
    let reply = &mut call.reply;
    let protocol = if reply.version() == RespVersion::Resp3 { 3 } else { 2 };
    reply.map(7);
    for (key, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(protocol);
    reply.bulk(b"id");
    reply.integer(id);
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
    Ok(Outcome::Done)
}
