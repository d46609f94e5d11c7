//! CLIENT: the connections as things.

use super::args::{integer, is, timeout_ms};
use super::facts::ClientKind;
use super::host::{ClientFilter, PauseMode};
use super::{Call, Outcome, ReplyError, Run, Session, error, introspect};
use crate::protocol::parse_i64;

pub(crate) fn id(call: &mut Call<'_, '_>) -> Run {
    call.reply.integer(i64::try_from(call.session.id()).unwrap_or(i64::MAX));
    Ok(Outcome::Done)
}

pub(crate) fn getname(call: &mut Call<'_, '_>) -> Run {
    if call.session.name.is_empty() {
        call.reply.null()
    } else {
        call.reply.bulk(&call.session.name)
    }
    Ok(Outcome::Done)
}

pub(crate) fn setname(call: &mut Call<'_, '_>) -> Run {
    set_name(call.session, call.request.arg(2))?;
    call.reply.ok();
    Ok(Outcome::Done)
}

/// Names a connection; an empty name takes the name away.
pub(crate) fn set_name(session: &mut Session, name: &[u8]) -> Result<(), ReplyError> {
    // Names stand in lines of blank-separated fields.
    if !name.iter().all(u8::is_ascii_graphic) {
        return Err(error::CLIENT_NAME);
    }
    session.name = name.to_vec();
    Ok(())
}

pub(crate) fn list(call: &mut Call<'_, '_>) -> Run {
    let mut filter = ClientFilter::default();
    match call.request.arg_at(2) {
        None => {}
        Some(option) if is(option, "type") && call.len() == 4 => {
            filter.kind = Some(parse_kind(call.arg(3))?);
        }
        Some(option) if is(option, "id") && call.len() > 3 => {
            for id in call.request.args_from(3) {
                let id = parse_i64(id).ok_or(error::CLIENT_ID)?;
                // Negative numbers are nobody's.
                filter.ids.push(u64::try_from(id).unwrap_or(u64::MAX));
            }
        }
        Some(_) => return Err(error::SYNTAX),
    }
    let lines = call.ctx.host.list_clients(&filter, call.session, &call.request);
    call.reply.verbatim(*b"txt", lines.as_bytes());
    Ok(Outcome::Done)
}

pub(crate) fn info(call: &mut Call<'_, '_>) -> Run {
    let filter = ClientFilter { ids: vec![call.session.id()], ..ClientFilter::default() };
    let line = call.ctx.host.list_clients(&filter, call.session, &call.request);
    call.reply.verbatim(*b"txt", line.as_bytes());
    Ok(Outcome::Done)
}

fn parse_kind(name: &[u8]) -> Result<ClientKind, ReplyError> {
    match name {
        _ if is(name, "normal") => Ok(ClientKind::Normal),
        _ if is(name, "master") => Ok(ClientKind::Master),
        _ if is(name, "replica") || is(name, "slave") => Ok(ClientKind::Replica),
        _ if is(name, "pubsub") => Ok(ClientKind::PubSub),
        _ => Err(error::unknown_client_type(name)),
    }
}

pub(crate) fn kill(call: &mut Call<'_, '_>) -> Run {
    if call.len() == 3 {
        let filter = ClientFilter { address: Some(call.arg(2).to_vec()), ..ClientFilter::default() };
        let killed = call.ctx.host.kill_clients(&filter, call.session);
        if killed.count == 0 {
            return Err(error::NO_SUCH_CLIENT);
        }
        call.reply.ok();
        return Ok(if killed.me { Outcome::Close } else { Outcome::Done });
    }
    let mut filter = ClientFilter { skip_me: true, ..ClientFilter::default() };
    let mut at = 3;
    // Options come in pairs behind CLIENT KILL.
    while at <= call.len() {
        let (option, Some(value)) = (call.arg(at - 1), call.request.arg_at(at)) else {
            return Err(error::SYNTAX);
        };
        match option {
            _ if is(option, "id") => {
                let id = parse_i64(value).and_then(|id| u64::try_from(id).ok()).filter(|&id| id > 0);
                filter.ids = vec![id.ok_or(error::CLIENT_ID_POSITIVE)?];
            }
            _ if is(option, "type") => filter.kind = Some(parse_kind(value)?),
            _ if is(option, "addr") => filter.address = Some(value.to_vec()),
            _ if is(option, "laddr") => filter.local_address = Some(value.to_vec()),
            _ if is(option, "user") => {
                if value != call.session.user().as_bytes() {
                    return Err(error::no_such_user(value));
                }
                filter.user = Some(value.to_vec());
            }
            _ if is(option, "skipme") && is(value, "yes") => filter.skip_me = true,
            _ if is(option, "skipme") && is(value, "no") => filter.skip_me = false,
            _ => return Err(error::SYNTAX),
        }
        at += 2;
    }
    let killed = call.ctx.host.kill_clients(&filter, call.session);
    call.reply.count(killed.count);
    Ok(if killed.me { Outcome::Close } else { Outcome::Done })
}

pub(crate) fn unblock(call: &mut Call<'_, '_>) -> Run {
    let with_error = match call.request.arg_at(3) {
        None => false,
        Some(_) if call.len() > 4 => return Err(error::unknown_subcommand_or_arity(call.arg(1), "CLIENT")),
        Some(reason) if is(reason, "timeout") => false,
        Some(reason) if is(reason, "error") => true,
        Some(_) => return Err(error::UNBLOCK_REASON),
    };
    let id = integer(call.arg(2))?;
    let unblocked = u64::try_from(id).is_ok_and(|id| call.ctx.host.unblock_client(id, with_error));
    call.reply.integer(i64::from(unblocked));
    Ok(Outcome::Done)
}

pub(crate) fn reply(call: &mut Call<'_, '_>) -> Run {
    let mode = call.arg(2);
    if is(mode, "on") {
        call.session.reply_mode.switch_on();
        call.reply.append(&std::mem::take(&mut call.session.pushed));
        call.reply.ok();
    } else if is(mode, "off") {
        call.session.reply_mode.switch_off();
    } else if is(mode, "skip") {
        call.session.reply_mode.skip_next();
    } else {
        return Err(error::SYNTAX);
    }
    Ok(Outcome::Done)
}

pub(crate) fn no_evict(call: &mut Call<'_, '_>) -> Run {
    call.session.no_evict = on_or_off(call.arg(2))?;
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn no_touch(call: &mut Call<'_, '_>) -> Run {
    call.session.no_touch = on_or_off(call.arg(2))?;
    call.ctx.host.settings_changed();
    call.reply.ok();
    Ok(Outcome::Done)
}

fn on_or_off(mode: &[u8]) -> Result<bool, ReplyError> {
    match mode {
        _ if is(mode, "on") => Ok(true),
        _ if is(mode, "off") => Ok(false),
        _ => Err(error::SYNTAX),
    }
}

pub(crate) fn setinfo(call: &mut Call<'_, '_>) -> Run {
    let (attribute, value) = (call.arg(2), call.arg(3));
    let (name, place) = match attribute {
        _ if is(attribute, "lib-name") => ("lib-name", &mut call.session.library_name),
        _ if is(attribute, "lib-ver") => ("lib-ver", &mut call.session.library_version),
        _ => return Err(error::client_attribute(attribute)),
    };
    // It stands in a line of blank-separated fields, as names do.
    if !value.iter().all(u8::is_ascii_graphic) {
        return Err(error::client_attribute_text(name));
    }
    *place = value.to_vec();
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn pause(call: &mut Call<'_, '_>) -> Run {
    let mode = match call.request.arg_at(3) {
        None => PauseMode::All,
        Some(_) if call.len() > 4 => return Err(error::unknown_subcommand_or_arity(call.arg(1), "CLIENT")),
        Some(mode) if is(mode, "write") => PauseMode::Write,
        Some(mode) if is(mode, "all") => PauseMode::All,
        Some(_) => return Err(error::PAUSE_MODE),
    };
    let timeout = timeout_ms(call.arg(2))?;
    call.ctx.host.pause_clients(mode, call.ctx.now_ms.saturating_add_unsigned(timeout));
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn unpause(call: &mut Call<'_, '_>) -> Run {
    call.ctx.host.unpause_clients();
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn help(call: &mut Call<'_, '_>) -> Run {
    introspect::write_help(call)
}
