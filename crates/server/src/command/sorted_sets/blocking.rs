//! BZPOPMIN, BZPOPMAX and BZMPOP.

use super::Layout;
use super::pops::{End, PopRequest, pop, pop_first};
use crate::command::blocking::{available, timeout_ms, wait};
use crate::command::{Call, Outcome, Run};
use crate::engine::object::Kind;

pub(crate) fn bzpopmin(call: &mut Call<'_, '_>) -> Run {
    pop_first_of_all(call, End::Min)
}

pub(crate) fn bzpopmax(call: &mut Call<'_, '_>) -> Run {
    pop_first_of_all(call, End::Max)
}

fn pop_first_of_all(call: &mut Call<'_, '_>, end: End) -> Run {
    let last = call.len() - 1;
    let timeout_ms = timeout_ms(call.arg(last))?;
    for at in 1..last {
        let key = call.arg(at);
        if let Some(found) = available(call, key, Kind::SortedSet)? {
            pop(call, found, key, end, 1, Layout { with_scores: true, nested: false }, |reply, _| {
                reply.array(3);
                reply.bulk(key);
            });
            call.log(&[end.command(), key]);
            return Ok(Outcome::Done);
        }
    }
    wait(call, Kind::SortedSet, 1..last, timeout_ms, |reply| reply.null_array())
}

pub(crate) fn bzmpop(call: &mut Call<'_, '_>) -> Run {
    // Order matters: Redis complains of the timeout last.
    let request = PopRequest::parse(call, 2)?;
    let timeout_ms = timeout_ms(call.arg(1))?;
    if pop_first(call, request)? {
        return Ok(Outcome::Done);
    }
    wait(call, Kind::SortedSet, request.keys(), timeout_ms, |reply| reply.null_array())
}
