//! Sorted sets.
//!
//! ```text
//!  sorted_sets.rs   one sorted set: reads, removals, scans; how members are written and results are stored
//!  ├ add            ZADD and its options, ZINCRBY
//!  ├ selection      pure: bounds and ranks as arguments ─▶ places in a sorted set
//!  ├ ranges         ZRANGE and its relatives, ZRANGESTORE, ZREMRANGEBY…
//!  ├ pops           ZPOPMIN, ZPOPMAX, ZMPOP
//!  ├ blocking       BZPOPMIN, BZPOPMAX, BZMPOP
//!  ├ combine        pure: union, intersection and difference of sets and sorted sets
//!  ├ operations     the commands that combine
//!  └ numbers        pure: scores as arguments
//! ```

mod add;
mod blocking;
mod combine;
mod operations;
mod pops;
mod ranges;
mod selection;

pub(crate) use add::{zadd, zincrby};
pub(crate) use blocking::{bzmpop, bzpopmax, bzpopmin};
pub(crate) use operations::{zdiff, zdiffstore, zinter, zintercard, zinterstore, zunion, zunionstore};
pub(crate) use pops::{zmpop, zpopmax, zpopmin};
pub(crate) use ranges::{
    zrange, zrangebylex, zrangebyscore, zrangestore, zremrangebylex, zremrangebyrank, zremrangebyscore,
    zrevrange, zrevrangebylex, zrevrangebyscore,
};

use holdfast_collections::double::format_double;
use holdfast_collections::listpack::{Item, Scratch};
use holdfast_collections::types::{SortedSet, SortedSetRef};

use super::args::is;
use super::hashes::write_item;
use super::random::{self, Places};
use super::scan::{self, ScanOptions};
use super::store::store;
use super::{Call, Outcome, Run, error};
use crate::engine::events::Change;
use crate::engine::object::Kind;
use crate::protocol::{ReplyWriter, RespVersion};
use selection::{By, Selection};

/// How a reply shows members.
#[derive(Debug, Clone, Copy)]
struct Layout {
    with_scores: bool,
    /// Each member and its score are an array of their own.
    nested: bool,
}

impl Layout {
    /// Members, or members with scores: nested in RESP3, one after the other in RESP2.
    fn new(with_scores: bool, version: RespVersion) -> Layout {
        Layout { with_scores, nested: with_scores && version == RespVersion::Resp3 }
    }

    /// Writes the head of an array of `len` members.
    fn write_head(self, reply: &mut ReplyWriter<'_>, len: usize) {
        reply.array(if self.with_scores && !self.nested { len * 2 } else { len });
    }

    fn write_member(self, reply: &mut ReplyWriter<'_>, member: Item<'_>, score: f64) {
        if self.nested {
            reply.array(2);
        }
        write_item(reply, member);
        if self.with_scores {
            reply.double(score);
        }
    }
}

/// Stores the result of a command under a key, or removes the key if the result is empty; replies with the number of
/// members. `event` is the name of the command.
fn store_and_reply(call: &mut Call<'_, '_>, key: &[u8], result: SortedSet, event: &'static str) {
    store_logged_and_reply(call, key, result, event, Call::log_verbatim);
}

/// As [`store_and_reply`], where something else than the command itself is logged.
fn store_logged_and_reply<'c, 'x>(
    call: &mut Call<'c, 'x>,
    key: &[u8],
    result: SortedSet,
    event: &'static str,
    log: impl FnOnce(&mut Call<'c, 'x>),
) {
    let len = result.view().len();
    if store(&mut call.keys(), key, result, Change::sorted_set(event)) {
        if len > 0 { log(call) } else { call.log(&[b"DEL", key]) }
    }
    call.reply.count(len);
}

pub(crate) fn zscore(call: &mut Call<'_, '_>) -> Run {
    let (key, member) = (call.arg(1), call.arg(2));
    match call.keys().read_sorted_set(key)?.and_then(|set| set.score(member)) {
        Some(score) => call.reply.double(score),
        None => call.reply.null(),
    }
    Ok(Outcome::Done)
}

pub(crate) fn zmscore(call: &mut Call<'_, '_>) -> Run {
    let (key, request) = (call.arg(1), call.request);
    let (mut keys, reply) = call.keys_and_reply();
    let set = keys.read_sorted_set(key)?;
    reply.array(request.len() - 2);
    for member in request.args_from(2) {
        match set.and_then(|set| set.score(member)) {
            Some(score) => reply.double(score),
            None => reply.null(),
        }
    }
    Ok(Outcome::Done)
}

pub(crate) fn zcard(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let len = call.keys().read_sorted_set(key)?.map_or(0, SortedSetRef::len);
    call.reply.count(len);
    Ok(Outcome::Done)
}

pub(crate) fn zrank(call: &mut Call<'_, '_>) -> Run {
    reply_rank(call, |rank, _| rank)
}

pub(crate) fn zrevrank(call: &mut Call<'_, '_>) -> Run {
    reply_rank(call, |rank, len| len - 1 - rank)
}

/// Replies with what `place` makes of the rank of a member among so many.
fn reply_rank(call: &mut Call<'_, '_>, place: impl FnOnce(usize, usize) -> usize) -> Run {
    let (key, member) = (call.arg(1), call.arg(2));
    let rank =
        call.keys().read_sorted_set(key)?.and_then(|set| set.rank(member).map(|rank| place(rank, set.len())));
    match rank {
        Some(rank) => call.reply.count(rank),
        None => call.reply.null(),
    }
    Ok(Outcome::Done)
}

pub(crate) fn zcount(call: &mut Call<'_, '_>) -> Run {
    reply_count(call, By::Score)
}

pub(crate) fn zlexcount(call: &mut Call<'_, '_>) -> Run {
    reply_count(call, By::Member)
}

fn reply_count(call: &mut Call<'_, '_>, by: By) -> Run {
    let key = call.arg(1);
    let selection = Selection::parse(by, call.arg(2), call.arg(3))?;
    let count = call.keys().read_sorted_set(key)?.map_or(0, |set| selection.places(set, false).len());
    call.reply.count(count);
    Ok(Outcome::Done)
}

pub(crate) fn zrem(call: &mut Call<'_, '_>) -> Run {
    let (key, request) = (call.arg(1), call.request);
    let mut keys = call.keys();
    let found = keys.find_kind(key, Kind::SortedSet)?;
    let mut removed = 0;
    if found.is_some() {
        removed = keys.change(found, key, |set: &mut SortedSet, _| {
            let removed = request.args_from(2).filter(|member| set.remove(member).is_some()).count();
            (removed, (removed > 0).then_some(Change::sorted_set("zrem").counted(removed as u64)))
        });
        if removed > 0 {
            call.log_verbatim();
        }
    }
    call.reply.count(removed);
    Ok(Outcome::Done)
}

pub(crate) fn zrandmember(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let Some(count) = call.request.arg_at(2) else {
        let (mut keys, reply) = call.keys_and_reply();
        let mut numbers = keys.random();
        match keys.read_sorted_set(key)?.and_then(|set| set.nth(numbers.below(set.len()))) {
            Some((member, _)) => write_item(reply, member),
            None => reply.null(),
        }
        return Ok(Outcome::Done);
    };
    let count = random::count(count)?;
    let with_scores = match call.request.arg_at(3) {
        None => false,
        Some(option) if is(option, "withscores") && call.len() == 4 => true,
        Some(_) => return Err(error::SYNTAX),
    };
    // With scores the reply is twice as long, and Redis counts that in an i64.
    if with_scores && !(-(i64::MAX / 2)..=i64::MAX / 2).contains(&count) {
        return Err(error::OUT_OF_RANGE);
    }
    let layout = Layout::new(with_scores, call.reply.version());
    let (mut keys, reply) = call.keys_and_reply();
    let mut numbers = keys.random();
    let Some(set) = keys.read_sorted_set(key)? else {
        reply.array(0);
        return Ok(Outcome::Done);
    };
    let places = Places::choose(count, set.len(), &mut numbers);
    layout.write_head(reply, places.count(set.len()));
    random::each(
        &places,
        set.len(),
        set.iter(),
        |place| set.nth(place),
        |(member, score)| layout.write_member(reply, member, score),
    );
    Ok(Outcome::Done)
}

pub(crate) fn zscan(call: &mut Call<'_, '_>) -> Run {
    let (key, start) = (call.arg(1), scan::cursor(call.arg(2))?);
    let options = ScanOptions::parse(call, 3);
    let (mut keys, reply) = call.keys_and_reply();
    let (mut found, mut cursor) = (scan::Found::default(), 0);
    if let Some(set) = keys.read_sorted_set(key)? {
        // Order matters: as in Redis, wrong options of a scan of nothing are no error.
        let options = options?;
        let mut text = Scratch::new();
        cursor = set.scan(start, options.count, |member, score| {
            let member = member.as_bytes(&mut text);
            if options.matches(member) {
                found.push(member);
                found.push(scanned_score(set, score).as_bytes());
            }
        });
    }
    found.write(reply, cursor);
    Ok(Outcome::Done)
}

/// A score as ZSCAN shows it. Redis shows what a packed sorted set holds, in which integers have all their digits.
fn scanned_score(set: SortedSetRef<'_>, score: f64) -> String {
    /// Redis 7.0, `double2ll` (`util.c`).
    const INTEGER_MAX: f64 = (i64::MAX / 2) as f64;
    if matches!(set, SortedSetRef::Packed(_)) && score.trunc() == score && score.abs() <= INTEGER_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "it is an integer, and small enough")]
        return (score as i64).to_string();
    }
    format_double(score)
}
