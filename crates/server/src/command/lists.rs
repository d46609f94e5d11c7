//! Lists.

mod blocking;
mod ends;
mod search;
mod transfer;

pub(crate) use blocking::{blmove, blmpop, blpop, brpop, brpoplpush};
pub(crate) use ends::check_elements;
pub(crate) use search::lpos;
pub(crate) use transfer::{lmove, lmpop, rpoplpush};

use std::ops::Range;

use holdfast_collections::types::List;

use super::args::{integer, is};
use super::hashes::write_item;
use super::{Call, Outcome, ReplyError, Run, error};
use crate::engine::events::Change;
use crate::engine::object::Kind;
use crate::protocol::parse_i64;
use ends::End;

pub(crate) fn lpush(call: &mut Call<'_, '_>) -> Run {
    push(call, End::Left, false)
}

pub(crate) fn rpush(call: &mut Call<'_, '_>) -> Run {
    push(call, End::Right, false)
}

pub(crate) fn lpushx(call: &mut Call<'_, '_>) -> Run {
    push(call, End::Left, true)
}

pub(crate) fn rpushx(call: &mut Call<'_, '_>) -> Run {
    push(call, End::Right, true)
}

fn push(call: &mut Call<'_, '_>, end: End, only_existing: bool) -> Run {
    let (key, request) = (call.arg(1), call.request);
    check_elements(request.args_from(2))?;
    let mut keys = call.keys();
    let found = keys.find_kind(key, Kind::List)?;
    if only_existing && !found.is_some() {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    }
    let elements = request.args_from(2);
    let change = Change::list(end.push_event()).counted(elements.len() as u64);
    let len = keys.change(found, key, |list: &mut List, tools| {
        elements.for_each(|element| end.push(list, element, &tools.limits));
        (list.view().len(), Some(change))
    });
    call.log_verbatim();
    call.reply.count(len);
    Ok(Outcome::Done)
}

pub(crate) fn lpop(call: &mut Call<'_, '_>) -> Run {
    pop(call, End::Left)
}

pub(crate) fn rpop(call: &mut Call<'_, '_>) -> Run {
    pop(call, End::Right)
}

fn pop(call: &mut Call<'_, '_>, end: End) -> Run {
    if call.len() > 3 {
        return Err(error::wrong_arity(call.command.full_name));
    }
    let key = call.arg(1);
    let count = call.request.arg_at(2).map(positive).transpose()?;
    let (mut keys, reply) = call.keys_and_reply();
    let found = keys.find_kind(key, Kind::List)?;
    match count {
        _ if !found.is_some() => {
            if count.is_some() {
                reply.null_array();
            } else {
                reply.null();
            }
            return Ok(Outcome::Done);
        }
        Some(0) => {
            reply.array(0);
            return Ok(Outcome::Done);
        }
        Some(count) => {
            ends::pop_many(&mut keys, found, key, end, count, reply);
        }
        None => ends::pop_one(&mut keys, found, key, end, reply),
    }
    call.log_verbatim();
    Ok(Outcome::Done)
}

/// A number of elements that is not negative.
pub(super) fn positive(arg: &[u8]) -> Result<usize, ReplyError> {
    parse_i64(arg).and_then(|count| usize::try_from(count).ok()).ok_or(error::NOT_POSITIVE)
}

pub(crate) fn llen(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let len = call.keys().read_list(key)?.map_or(0, |list| list.len());
    call.reply.count(len);
    Ok(Outcome::Done)
}

pub(crate) fn lindex(call: &mut Call<'_, '_>) -> Run {
    let (key, index) = (call.arg(1), call.arg(2));
    let (mut keys, reply) = call.keys_and_reply();
    let Some(list) = keys.read_list(key)? else {
        // An absent key is answered before the index is read, as in Redis.
        reply.null();
        return Ok(Outcome::Done);
    };
    match position(integer(index)?, list.len()).and_then(|at| list.get(at)) {
        Some(element) => write_item(reply, element),
        None => reply.null(),
    }
    Ok(Outcome::Done)
}

pub(crate) fn lset(call: &mut Call<'_, '_>) -> Run {
    let (key, index, element) = (call.arg(1), call.arg(2), call.arg(3));
    let mut keys = call.keys();
    let found = keys.find_kind(key, Kind::List)?;
    if !found.is_some() {
        return Err(error::NO_SUCH_KEY);
    }
    let index = integer(index)?;
    check_elements([element].into_iter())?;
    let replaced = keys.change(found, key, |list: &mut List, tools| {
        let at = position(index, list.view().len());
        let replaced = at.is_some_and(|at| list.set(at, element, &tools.limits));
        (replaced, replaced.then_some(Change::list("lset")))
    });
    if !replaced {
        return Err(error::INDEX_OUT_OF_RANGE);
    }
    call.log_verbatim();
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn lrange(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let (start, stop) = (integer(call.arg(2))?, integer(call.arg(3))?);
    let (mut keys, reply) = call.keys_and_reply();
    let Some(list) = keys.read_list(key)? else {
        reply.array(0);
        return Ok(Outcome::Done);
    };
    let range = positions(start, stop, list.len());
    reply.array(range.len());
    list.iter_from(range.start).take(range.len()).for_each(|element| write_item(reply, element));
    Ok(Outcome::Done)
}

pub(crate) fn ltrim(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let (start, stop) = (integer(call.arg(2))?, integer(call.arg(3))?);
    let mut keys = call.keys();
    let found = keys.find_kind(key, Kind::List)?;
    if found.is_some() {
        let removed = keys.change(found, key, |list: &mut List, _| {
            let len = list.view().len();
            let kept = positions(start, stop, len);
            let removed = len - kept.len();
            if removed > 0 {
                list.remove_range(kept.end, len - kept.end);
                list.remove_range(0, kept.start);
            }
            (removed, (removed > 0).then_some(Change::list("ltrim").counted(removed as u64)))
        });
        if removed > 0 {
            call.log_verbatim();
        } else {
            keys.touch_unchanged(key, Change::list("ltrim"));
        }
    }
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn lrem(call: &mut Call<'_, '_>) -> Run {
    let (key, count, element) = (call.arg(1), integer(call.arg(2))?, call.arg(3));
    let mut keys = call.keys();
    let found = keys.find_kind(key, Kind::List)?;
    let mut removed = 0;
    if found.is_some() {
        let limit = match count {
            0 => usize::MAX,
            _ => usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX),
        };
        removed = keys.change(found, key, |list: &mut List, _| {
            let removed = list.remove_matching(element, limit, count < 0);
            (removed, (removed > 0).then_some(Change::list("lrem").counted(removed as u64)))
        });
        if removed > 0 {
            call.log_verbatim();
        }
    }
    call.reply.count(removed);
    Ok(Outcome::Done)
}

pub(crate) fn linsert(call: &mut Call<'_, '_>) -> Run {
    let (key, pivot, element) = (call.arg(1), call.arg(3), call.arg(4));
    let behind = match call.arg(2) {
        place if is(place, "after") => 1,
        place if is(place, "before") => 0,
        _ => return Err(error::SYNTAX),
    };
    check_elements([element].into_iter())?;
    let mut keys = call.keys();
    let found = keys.find_kind(key, Kind::List)?;
    if !found.is_some() {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    }
    let len = keys.change(found, key, |list: &mut List, tools| {
        let Some(at) = list.view().positions(pivot).next() else { return (None, None) };
        list.insert(at + behind, element, &tools.limits);
        (Some(list.view().len()), Some(Change::list("linsert")))
    });
    match len {
        Some(len) => {
            call.log_verbatim();
            call.reply.count(len);
        }
        None => call.reply.integer(-1),
    }
    Ok(Outcome::Done)
}

/// The position that an index means; a negative one counts from the end.
fn position(index: i64, len: usize) -> Option<usize> {
    let distance = usize::try_from(index.unsigned_abs()).ok()?;
    if index < 0 { len.checked_sub(distance) } else { (distance < len).then_some(distance) }
}

/// The positions from `start` to `stop`, both included; a negative one counts from the end.
fn positions(start: i64, stop: i64, len: usize) -> Range<usize> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let from_start = |index: i64| if index < 0 { index + len } else { index };
    let (start, end) = (from_start(start).max(0), from_start(stop).min(len - 1) + 1);
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if start < end => start..end,
        _ => 0..0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_indexes_count_from_the_end() {
        let check = |index, expected| assert_eq!(position(index, 3), expected, "{index}");
        check(0, Some(0));
        check(2, Some(2));
        check(3, None);
        check(-1, Some(2));
        check(-3, Some(0));
        check(-4, None);
        check(i64::MAX, None);
        check(i64::MIN, None);
    }

    #[test]
    fn ranges_are_cut_to_the_list() {
        let check = |start, stop, expected| assert_eq!(positions(start, stop, 5), expected, "{start} {stop}");
        check(0, -1, 0..5);
        check(1, 3, 1..4);
        check(-2, -1, 3..5);
        check(-100, 100, 0..5);
        check(4, 4, 4..5);
        check(5, 9, 0..0);
        check(3, 2, 0..0);
        check(-1, -2, 0..0);
        check(0, -6, 0..0);
        check(i64::MIN, i64::MAX, 0..5);
        check(i64::MAX, i64::MIN, 0..0);
        assert_eq!(positions(0, -1, 0), 0..0);
    }
}
