//! LMOVE, RPOPLPUSH and LMPOP.

use super::ends::{self, End};
use crate::command::args::is;
use crate::command::blocking::available;
use crate::command::{Call, Outcome, ReplyError, Run, error};
use crate::engine::object::Kind;
use crate::protocol::parse_i64;

pub(crate) fn lmove(call: &mut Call<'_, '_>) -> Run {
    let from = End::parse(call.arg(3))?;
    let to = End::parse(call.arg(4))?;
    transfer(call, from, to)
}

pub(crate) fn rpoplpush(call: &mut Call<'_, '_>) -> Run {
    transfer(call, End::Right, End::Left)
}

fn transfer(call: &mut Call<'_, '_>, from: End, to: End) -> Run {
    let (source, target) = (call.arg(1), call.arg(2));
    match ends::move_element(&mut call.keys(), (source, from), (target, to))? {
        Some(element) => {
            call.log_verbatim();
            call.reply.bulk(&element);
        }
        None => call.reply.null(),
    }
    Ok(Outcome::Done)
}

/// What LMPOP and BLMPOP are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct PopRequest {
    /// Where the keys are among the arguments.
    first_key: usize,
    keys: usize,
    end: End,
    /// Most elements, at least 1.
    count: usize,
}

impl PopRequest {
    /// Reads the number of keys at `at` and what follows it.
    pub(super) fn parse(call: &Call<'_, '_>, at: usize) -> Result<PopRequest, ReplyError> {
        let positive = |arg| parse_i64(arg).and_then(|it| usize::try_from(it).ok()).filter(|it| *it > 0);
        let keys = positive(call.arg(at)).ok_or(error::NUMKEYS)?;
        let end_at = keys.checked_add(at + 1).ok_or(error::SYNTAX)?;
        let end = End::parse(call.request.arg_at(end_at).ok_or(error::SYNTAX)?)?;
        let count = match (call.request.arg_at(end_at + 1), call.request.arg_at(end_at + 2)) {
            (None, _) => 1,
            (Some(option), Some(count)) if is(option, "count") => {
                let count = positive(count).ok_or(error::COUNT_POSITIVE)?;
                if call.len() > end_at + 3 {
                    return Err(error::SYNTAX);
                }
                count
            }
            (Some(_), _) => return Err(error::SYNTAX),
        };
        Ok(PopRequest { first_key: at + 1, keys, end, count })
    }

    /// Places of the keys among the arguments.
    pub(super) fn keys(self) -> std::ops::Range<usize> {
        self.first_key..self.first_key + self.keys
    }
}

pub(crate) fn lmpop(call: &mut Call<'_, '_>) -> Run {
    let request = PopRequest::parse(call, 1)?;
    if !pop_first(call, request)? {
        call.reply.null_array();
    }
    Ok(Outcome::Done)
}

/// Pops from the first list that is there; false when there is none, and nothing was written.
pub(super) fn pop_first(call: &mut Call<'_, '_>, request: PopRequest) -> Result<bool, ReplyError> {
    let PopRequest { first_key, keys: number_of_keys, end, count } = request;
    for key in call.request.args_from(first_key).take(number_of_keys) {
        if let Some(found) = available(call, key, Kind::List)? {
            let (mut keys, reply) = call.keys_and_reply();
            reply.array(2);
            reply.bulk(key);
            let popped = ends::pop_many(&mut keys, found, key, end, count, reply);
            call.log(&[end.pop_command(), key, itoa::Buffer::new().format(popped).as_bytes()]);
            return Ok(true);
        }
    }
    Ok(false)
}
