//! ZPOPMIN, ZPOPMAX and ZMPOP.

use std::ops::Range;

use holdfast_collections::types::SortedSet;

use super::Layout;
use super::selection::visit;
use crate::command::args::is;
use crate::command::blocking::available;
use crate::command::{Call, Outcome, ReplyError, Run, error};
use crate::engine::Found;
use crate::engine::events::Change;
use crate::engine::object::Kind;
use crate::protocol::{ReplyWriter, RespVersion, parse_i64};

/// Which end of a sorted set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Min,
    Max,
}

impl End {
    fn event(self) -> &'static str {
        match self {
            End::Min => "zpopmin",
            End::Max => "zpopmax",
        }
    }

    /// The command that is logged.
    pub(super) fn command(self) -> &'static [u8] {
        match self {
            End::Min => b"ZPOPMIN",
            End::Max => b"ZPOPMAX",
        }
    }
}

pub(crate) fn zpopmin(call: &mut Call<'_, '_>) -> Run {
    pop_from_one(call, End::Min)
}

pub(crate) fn zpopmax(call: &mut Call<'_, '_>) -> Run {
    pop_from_one(call, End::Max)
}

fn pop_from_one(call: &mut Call<'_, '_>, end: End) -> Run {
    let (key, count) = (call.arg(1), call.request.arg_at(2));
    if call.len() > 3 {
        return Err(error::SYNTAX);
    }
    // Without a count, the reply is one pair in both dialects.
    let nested = count.is_some() && call.reply.version() == RespVersion::Resp3;
    let layout = Layout { with_scores: true, nested };
    let count = match count {
        Some(count) => {
            parse_i64(count).and_then(|count| u64::try_from(count).ok()).ok_or(error::NOT_POSITIVE)?
        }
        None => 1,
    };
    let found = call.keys().find_kind(key, Kind::SortedSet)?;
    if !found.is_some() || count == 0 {
        call.reply.array(0);
        return Ok(Outcome::Done);
    }
    pop(call, found, key, end, count, layout, |reply, popped| {
        layout.write_head(reply, popped);
    });
    call.log_verbatim();
    Ok(Outcome::Done)
}

/// Removes up to `count` members, at least one, from a sorted set that is there, and replies with them behind what
/// `write_start` writes; returns how many there were.
pub(super) fn pop(
    call: &mut Call<'_, '_>,
    found: Found,
    key: &[u8],
    end: End,
    count: u64,
    layout: Layout,
    write_start: impl FnOnce(&mut ReplyWriter<'_>, usize),
) -> usize {
    let (mut keys, reply) = call.keys_and_reply();
    keys.change(found, key, |set: &mut SortedSet, _| {
        let len = set.view().len();
        let popped = usize::try_from(count).unwrap_or(len).min(len);
        let places = match end {
            End::Min => 0..popped,
            End::Max => len - popped..len,
        };
        write_start(reply, popped);
        visit(set.view(), places.clone(), end == End::Max, |member, score| {
            layout.write_member(reply, member, score)
        });
        set.remove_range(places.start, places.end);
        (popped, Some(Change::sorted_set(end.event()).counted(popped as u64)))
    })
}

/// What ZMPOP and BZMPOP are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct PopRequest {
    /// Where the keys are among the arguments.
    first_key: usize,
    keys: usize,
    end: End,
    /// Most members, at least 1.
    count: u64,
}

impl PopRequest {
    /// Reads the number of keys at `at` and what follows it.
    pub(super) fn parse(call: &Call<'_, '_>, at: usize) -> Result<PopRequest, ReplyError> {
        let positive =
            |arg| parse_i64(arg).and_then(|value| u64::try_from(value).ok()).filter(|&value| value > 0);
        let keys = positive(call.arg(at)).ok_or(error::NUMKEYS)?;
        let end_at = usize::try_from(keys).unwrap_or(usize::MAX).saturating_add(at + 1);
        let end = match call.request.arg_at(end_at) {
            Some(end) if is(end, "min") => End::Min,
            Some(end) if is(end, "max") => End::Max,
            _ => return Err(error::SYNTAX),
        };
        let mut count = None;
        let mut option_at = end_at + 1;
        while let Some(option) = call.request.arg_at(option_at) {
            match call.request.arg_at(option_at + 1) {
                Some(value) if count.is_none() && is(option, "count") => {
                    count = Some(positive(value).ok_or(error::COUNT_POSITIVE)?);
                }
                _ => return Err(error::SYNTAX),
            }
            option_at += 2;
        }
        Ok(PopRequest { first_key: at + 1, keys: end_at - at - 1, end, count: count.unwrap_or(1) })
    }

    /// Places of the keys among the arguments.
    pub(super) fn keys(self) -> Range<usize> {
        self.first_key..self.first_key + self.keys
    }
}

pub(crate) fn zmpop(call: &mut Call<'_, '_>) -> Run {
    let request = PopRequest::parse(call, 1)?;
    if !pop_first(call, request)? {
        call.reply.null_array();
    }
    Ok(Outcome::Done)
}

/// Pops from the first sorted set that is there; false when there is none, and nothing was written.
pub(super) fn pop_first(call: &mut Call<'_, '_>, request: PopRequest) -> Result<bool, ReplyError> {
    for at in request.keys() {
        let key = call.arg(at);
        if let Some(found) = available(call, key, Kind::SortedSet)? {
            let layout = Layout { with_scores: true, nested: true };
            let popped = pop(call, found, key, request.end, request.count, layout, |reply, popped| {
                reply.array(2);
                reply.bulk(key);
                layout.write_head(reply, popped);
            });
            call.log(&[request.end.command(), key, itoa::Buffer::new().format(popped).as_bytes()]);
            return Ok(true);
        }
    }
    Ok(false)
}
