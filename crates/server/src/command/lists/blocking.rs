//! BLPOP, BRPOP, BLMOVE, BRPOPLPUSH and BLMPOP.

use super::ends::{self, End};
use super::transfer::{PopRequest, pop_first};
use crate::command::blocking::{available, timeout_ms, wait};
use crate::command::{Call, Outcome, Run};
use crate::engine::object::Kind;

pub(crate) fn blpop(call: &mut Call<'_, '_>) -> Run {
    pop_first_of_all(call, End::Left)
}

pub(crate) fn brpop(call: &mut Call<'_, '_>) -> Run {
    pop_first_of_all(call, End::Right)
}

fn pop_first_of_all(call: &mut Call<'_, '_>, end: End) -> Run {
    let last = call.len() - 1;
    let timeout_ms = timeout_ms(call.arg(last))?;
    for at in 1..last {
        let key = call.arg(at);
        if let Some(found) = available(call, key, Kind::List)? {
            let (mut keys, reply) = call.keys_and_reply();
            reply.array(2);
            reply.bulk(key);
            ends::pop_one(&mut keys, found, key, end, reply);
            call.log(&[end.pop_command(), key]);
            return Ok(Outcome::Done);
        }
    }
    wait(call, Kind::List, 1..last, timeout_ms, |reply| reply.null_array())
}

pub(crate) fn blmove(call: &mut Call<'_, '_>) -> Run {
    let (from, to) = (End::parse(call.arg(3))?, End::parse(call.arg(4))?);
    move_when_there(call, from, to, 5)
}

pub(crate) fn brpoplpush(call: &mut Call<'_, '_>) -> Run {
    move_when_there(call, End::Right, End::Left, 3)
}

fn move_when_there(call: &mut Call<'_, '_>, from: End, to: End, timeout_at: usize) -> Run {
    let (source, target) = (call.arg(1), call.arg(2));
    let timeout_ms = timeout_ms(call.arg(timeout_at))?;
    if available(call, source, Kind::List)?.is_none() {
        return wait(call, Kind::List, 1..2, timeout_ms, |reply| reply.null());
    }
    if let Some(element) = ends::move_element(&mut call.keys(), (source, from), (target, to))? {
        match timeout_at {
            3 => call.log(&[b"RPOPLPUSH", source, target]),
            _ => call.log(&[b"LMOVE", source, target, from.name(), to.name()]),
        }
        call.reply.bulk(&element);
    }
    Ok(Outcome::Done)
}

pub(crate) fn blmpop(call: &mut Call<'_, '_>) -> Run {
    // Order matters: Redis complains of the timeout last.
    let request = PopRequest::parse(call, 2)?;
    let timeout_ms = timeout_ms(call.arg(1))?;
    if pop_first(call, request)? {
        return Ok(Outcome::Done);
    }
    wait(call, Kind::List, request.keys(), timeout_ms, |reply| reply.null_array())
}
