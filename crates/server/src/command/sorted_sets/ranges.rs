//! ZRANGE with its options, and the commands for one of its forms; ZRANGESTORE; and the removal of ranges.

use std::ops::Range;

use holdfast_collections::listpack::Scratch;
use holdfast_collections::types::{SortedSet, SortedSetRef};

use super::selection::{By, Selection, limit, visit};
use super::{Layout, store_and_reply, store_logged_and_reply};
use crate::command::args::{integer, is};
use crate::command::{Call, Outcome, ReplyError, Run, error};
use crate::engine::events::Change;
use crate::engine::object::Kind;

pub(crate) fn zrange(call: &mut Call<'_, '_>) -> Run {
    reply_range(call, None, None)
}

pub(crate) fn zrevrange(call: &mut Call<'_, '_>) -> Run {
    reply_range(call, Some(By::Rank), Some(true))
}

pub(crate) fn zrangebyscore(call: &mut Call<'_, '_>) -> Run {
    reply_range(call, Some(By::Score), Some(false))
}

pub(crate) fn zrevrangebyscore(call: &mut Call<'_, '_>) -> Run {
    reply_range(call, Some(By::Score), Some(true))
}

pub(crate) fn zrangebylex(call: &mut Call<'_, '_>) -> Run {
    reply_range(call, Some(By::Member), Some(false))
}

pub(crate) fn zrevrangebylex(call: &mut Call<'_, '_>) -> Run {
    reply_range(call, Some(By::Member), Some(true))
}

/// What one of these commands asks for.
#[derive(Debug)]
struct Query<'a> {
    selection: Selection<'a>,
    /// From the greatest member to the least.
    reverse: bool,
    with_scores: bool,
    /// LIMIT: members to skip, and most members to show; a negative count is no limit.
    offset: i64,
    count: i64,
}

impl<'a> Query<'a> {
    /// Reads the bounds at `at` and the options behind them. `by` and `reverse` are given where the command has no options
    /// for them.
    fn parse(
        call: &Call<'a, '_>,
        at: usize,
        mut by: Option<By>,
        mut reverse: Option<bool>,
        stores: bool,
    ) -> Result<Query<'a>, ReplyError> {
        let (mut min, mut max) = (call.arg(at), call.arg(at + 1));
        let (mut with_scores, mut offset, mut count) = (false, 0, -1);
        let mut at = at + 2;
        while let Some(option) = call.request.arg_at(at) {
            if !stores && is(option, "withscores") {
                with_scores = true;
            } else if is(option, "limit") && at + 2 < call.len() {
                offset = integer(call.arg(at + 1))?;
                count = integer(call.arg(at + 2))?;
                at += 2;
            } else if reverse.is_none() && is(option, "rev") {
                reverse = Some(true);
            } else if by.is_none() && is(option, "bylex") {
                by = Some(By::Member);
            } else if by.is_none() && is(option, "byscore") {
                by = Some(By::Score);
            } else {
                return Err(error::SYNTAX);
            }
            at += 1;
        }
        let (by, reverse) = (by.unwrap_or(By::Rank), reverse.unwrap_or(false));
        // Redis tells whether there was a LIMIT from the count alone.
        if count != -1 && by == By::Rank {
            return Err(error::RANGE_LIMIT);
        }
        if with_scores && by == By::Member {
            return Err(error::RANGE_WITH_SCORES);
        }
        if reverse && by != By::Rank {
            std::mem::swap(&mut min, &mut max);
        }
        Ok(Query { selection: Selection::parse(by, min, max)?, reverse, with_scores, offset, count })
    }

    fn places(&self, set: SortedSetRef<'_>) -> Range<usize> {
        let places = self.selection.places(set, self.reverse);
        match self.selection {
            Selection::Ranks { .. } => places,
            _ => limit(places, self.reverse, self.offset, self.count),
        }
    }
}

fn reply_range(call: &mut Call<'_, '_>, by: Option<By>, reverse: Option<bool>) -> Run {
    let key = call.arg(1);
    let query = Query::parse(call, 2, by, reverse, false)?;
    let layout = Layout::new(query.with_scores, call.reply.version());
    let (mut keys, reply) = call.keys_and_reply();
    match keys.read_sorted_set(key)? {
        Some(set) => {
            let places = query.places(set);
            layout.write_head(reply, places.len());
            visit(set, places, query.reverse, |member, score| layout.write_member(reply, member, score));
        }
        None => reply.array(0),
    }
    Ok(Outcome::Done)
}

pub(crate) fn zrangestore(call: &mut Call<'_, '_>) -> Run {
    let (destination, key) = (call.arg(1), call.arg(2));
    let query = Query::parse(call, 3, None, None, true)?;
    let mut keys = call.keys();
    let tools = keys.tools();
    let mut result = SortedSet::empty(Vec::new());
    let mut by_rank = None;
    if let Some(set) = keys.read_sorted_set(key)? {
        let mut text = Scratch::new();
        let places = query.places(set);
        by_rank = query.selection.by_rank(set, &places);
        visit(set, places, query.reverse, |member, score| {
            result.insert(member.as_bytes(&mut text), score, &tools.limits, tools.hasher);
        });
    }
    match by_rank {
        Some([first, last]) if !result.view().is_empty() => {
            let effect: [&[u8]; 5] = [b"ZRANGESTORE", destination, key, first.as_bytes(), last.as_bytes()];
            store_logged_and_reply(call, destination, result, "zrangestore", |call| call.log(&effect));
        }
        _ => store_and_reply(call, destination, result, "zrangestore"),
    }
    Ok(Outcome::Done)
}

pub(crate) fn zremrangebyrank(call: &mut Call<'_, '_>) -> Run {
    remove_range(call, By::Rank, "zremrangebyrank")
}

pub(crate) fn zremrangebyscore(call: &mut Call<'_, '_>) -> Run {
    remove_range(call, By::Score, "zremrangebyscore")
}

pub(crate) fn zremrangebylex(call: &mut Call<'_, '_>) -> Run {
    remove_range(call, By::Member, "zremrangebylex")
}

fn remove_range(call: &mut Call<'_, '_>, by: By, event: &'static str) -> Run {
    let key = call.arg(1);
    let selection = Selection::parse(by, call.arg(2), call.arg(3))?;
    let mut keys = call.keys();
    let found = keys.find_kind(key, Kind::SortedSet)?;
    let (mut removed, mut by_rank) = (0, None);
    if found.is_some() {
        removed = keys.change(found, key, |set: &mut SortedSet, _| {
            let places = selection.places(set.view(), false);
            by_rank = selection.by_rank(set.view(), &places);
            let removed = set.remove_range(places.start, places.end);
            (removed, (removed > 0).then_some(Change::sorted_set(event).counted(removed as u64)))
        });
        match by_rank {
            _ if removed == 0 => {}
            Some([first, last]) => {
                call.log(&[b"ZREMRANGEBYRANK", key, first.as_bytes(), last.as_bytes()]);
            }
            None => call.log_verbatim(),
        }
    }
    call.reply.count(removed);
    Ok(Outcome::Done)
}
