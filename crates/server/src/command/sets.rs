//! Sets.

mod algebra;

pub(crate) use algebra::{sdiff, sdiffstore, sinter, sintercard, sinterstore, sunion, sunionstore};

use holdfast_collections::listpack::{Item, Scratch};
use holdfast_collections::types::Set;

use super::hashes::write_item;
use super::lists::positive;
use super::random::{self, Places};
use super::scan::{self, ScanOptions};
use super::store::Strings;
use super::{Call, Outcome, Run, error};
use crate::engine::events::Change;
use crate::engine::object::{EntryView, Kind};
use crate::engine::{Found, Keyspace, ValueRef};

pub(crate) fn sadd(call: &mut Call<'_, '_>) -> Run {
    let (key, request) = (call.arg(1), call.request);
    let mut keys = call.keys();
    let found = keys.find_kind(key, Kind::Set)?;
    let added = keys.change(found, key, |set: &mut Set, tools| {
        let members = request.args_from(2);
        let added = members.filter(|member| set.insert(member, &tools.limits, tools.hasher)).count();
        (added, (added > 0).then_some(Change::set("sadd").counted(added as u64)))
    });
    if added > 0 {
        call.log_verbatim();
    }
    call.reply.count(added);
    Ok(Outcome::Done)
}

pub(crate) fn srem(call: &mut Call<'_, '_>) -> Run {
    let (key, request) = (call.arg(1), call.request);
    let mut keys = call.keys();
    let found = keys.find_kind(key, Kind::Set)?;
    let mut removed = 0;
    if found.is_some() {
        removed = keys.change(found, key, |set: &mut Set, _| {
            let removed = request.args_from(2).filter(|member| set.remove(member)).count();
            (removed, (removed > 0).then_some(Change::set("srem").counted(removed as u64)))
        });
        if removed > 0 {
            call.log_verbatim();
        }
    }
    call.reply.count(removed);
    Ok(Outcome::Done)
}

pub(crate) fn smove(call: &mut Call<'_, '_>) -> Run {
    let (source, target, member) = (call.arg(1), call.arg(2), call.arg(3));
    let mut keys = call.keys();
    if !keys.find_kind(source, Kind::Set)?.is_some() {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    }
    keys.find_kind(target, Kind::Set)?;
    let is_member =
        if source == target { contains(&mut keys, source, member) } else { take(&mut keys, source, member) };
    if is_member && source != target {
        let found = keys.find(target);
        keys.change(found, target, |set: &mut Set, tools| {
            let is_new = set.insert(member, &tools.limits, tools.hasher);
            ((), is_new.then_some(Change::set("sadd")))
        });
        call.log_verbatim();
    }
    call.reply.integer(i64::from(is_member));
    Ok(Outcome::Done)
}

/// Whether a set, which is there, has a member.
fn contains(keys: &mut Keyspace<'_>, key: &[u8], member: &[u8]) -> bool {
    let found = keys.find(key);
    let value = keys.view(found).map(EntryView::value);
    matches!(value, Some(ValueRef::Set(set)) if set.contains(member))
}

/// Removes a member from a set, which is there; false when it is no member.
fn take(keys: &mut Keyspace<'_>, key: &[u8], member: &[u8]) -> bool {
    let found = keys.find(key);
    keys.change(found, key, |set: &mut Set, _| {
        let removed = set.remove(member);
        (removed, removed.then_some(Change::set("srem")))
    })
}

pub(crate) fn sismember(call: &mut Call<'_, '_>) -> Run {
    let (key, member) = (call.arg(1), call.arg(2));
    let is_member = call.keys().read_set(key)?.is_some_and(|set| set.contains(member));
    call.reply.integer(i64::from(is_member));
    Ok(Outcome::Done)
}

pub(crate) fn smismember(call: &mut Call<'_, '_>) -> Run {
    let (key, request) = (call.arg(1), call.request);
    let (mut keys, reply) = call.keys_and_reply();
    let set = keys.read_set(key)?;
    reply.array(request.len() - 2);
    for member in request.args_from(2) {
        reply.integer(i64::from(set.is_some_and(|set| set.contains(member))));
    }
    Ok(Outcome::Done)
}

pub(crate) fn scard(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let len = call.keys().read_set(key)?.map_or(0, |set| set.len());
    call.reply.count(len);
    Ok(Outcome::Done)
}

pub(crate) fn smembers(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let (mut keys, reply) = call.keys_and_reply();
    let set = keys.read_set(key)?;
    reply.set(set.map_or(0, |set| set.len()));
    set.iter().flat_map(|set| set.iter()).for_each(|member| write_item(reply, member));
    Ok(Outcome::Done)
}

pub(crate) fn srandmember(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let Some(count) = call.request.arg_at(2) else {
        let (mut keys, reply) = call.keys_and_reply();
        let mut numbers = keys.random();
        match keys.read_set(key)?.and_then(|set| set.nth(numbers.below(set.len()))) {
            Some(member) => write_item(reply, member),
            None => reply.null(),
        }
        return Ok(Outcome::Done);
    };
    if call.len() > 3 {
        return Err(error::SYNTAX);
    }
    let count = random::count(count)?;
    let (mut keys, reply) = call.keys_and_reply();
    let mut numbers = keys.random();
    let Some(set) = keys.read_set(key)? else {
        reply.array(0);
        return Ok(Outcome::Done);
    };
    let places = Places::choose(count, set.len(), &mut numbers);
    reply.array(places.count(set.len()));
    random::each(&places, set.len(), set.iter(), |place| set.nth(place), |member| write_item(reply, member));
    Ok(Outcome::Done)
}

pub(crate) fn spop(call: &mut Call<'_, '_>) -> Run {
    if call.len() > 3 {
        return Err(error::SYNTAX);
    }
    let key = call.arg(1);
    let count = call.request.arg_at(2).map(positive).transpose()?;
    let mut keys = call.keys();
    let found = keys.find_kind(key, Kind::Set)?;
    if !found.is_some() || count == Some(0) {
        match count {
            Some(_) => call.reply.set(0),
            None => call.reply.null(),
        }
        return Ok(Outcome::Done);
    }
    let popped = pop(&mut keys, found, key, count.unwrap_or(1));
    let is_gone = !keys.find(key).is_some();
    if is_gone && count.is_some() {
        call.log(&[b"DEL", key]);
    } else {
        call.log_chunked(b"SREM", key, &popped);
    }
    if count.is_some() {
        call.reply.set(popped.len());
    }
    popped.iter().for_each(|member| call.reply.bulk(member));
    Ok(Outcome::Done)
}

/// Removes up to `count` members at random from a set that is there.
fn pop(keys: &mut Keyspace<'_>, found: Found, key: &[u8], count: usize) -> Strings {
    let mut popped = Strings::default();
    let mut text = Scratch::new();
    let mut push = |member: Item<'_>| popped.push(member.as_bytes(&mut text));
    let mut numbers = keys.random();
    let Some(ValueRef::Set(set)) = keys.view(found).map(EntryView::value) else { return popped };
    if count >= set.len() {
        set.iter().for_each(push);
        keys.remove(found, key, Change::set("spop").counted(popped.len() as u64));
        keys.announce(key, Change::generic("del"));
        return popped;
    }
    let places = Places::choose(i64::try_from(count).unwrap_or(i64::MAX), set.len(), &mut numbers);
    random::each(&places, set.len(), set.iter(), |place| set.nth(place), &mut push);
    keys.change(found, key, |set: &mut Set, _| {
        for member in popped.iter() {
            set.remove(member);
        }
        ((), Some(Change::set("spop").counted(popped.len() as u64)))
    });
    popped
}

pub(crate) fn sscan(call: &mut Call<'_, '_>) -> Run {
    let (key, start) = (call.arg(1), scan::cursor(call.arg(2))?);
    let options = ScanOptions::parse(call, 3);
    let (mut keys, reply) = call.keys_and_reply();
    let (mut found, mut cursor) = (scan::Found::default(), 0);
    if let Some(set) = keys.read_set(key)? {
        // Order matters: as in Redis, wrong options of a scan of nothing are no error.
        let options = options?;
        let mut text = Scratch::new();
        cursor = set.scan(start, options.count, |member| {
            let member = member.as_bytes(&mut text);
            if options.matches(member) {
                found.push(member);
            }
        });
    }
    found.write(reply, cursor);
    Ok(Outcome::Done)
}
