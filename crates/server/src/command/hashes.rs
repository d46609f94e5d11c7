//! Hashes.

use holdfast_collections::listpack::{Item, Scratch};
use holdfast_collections::types::Hash;

use super::args::{integer, is};
use super::random::{self, Places};
use super::scan::{self, ScanOptions};
use super::{Call, Outcome, ReplyError, Run, error};
use crate::command::long_double::LongDouble;
use crate::engine::events::Change;
use crate::engine::object::Kind;
use crate::protocol::{ReplyWriter, RespVersion, parse_i64};

pub(crate) fn hset(call: &mut Call<'_, '_>) -> Run {
    let made = set_fields(call)?;
    call.reply.count(made);
    Ok(Outcome::Done)
}

pub(crate) fn hmset(call: &mut Call<'_, '_>) -> Run {
    set_fields(call)?;
    call.reply.ok();
    Ok(Outcome::Done)
}

/// Sets the fields of HSET; returns how many are new.
fn set_fields(call: &mut Call<'_, '_>) -> Result<usize, ReplyError> {
    if !call.len().is_multiple_of(2) {
        return Err(error::wrong_arity(call.command.full_name));
    }
    let (key, request) = (call.arg(1), call.request);
    let mut keys = call.keys();
    let found = keys.find_kind(key, Kind::Hash)?;
    let fields = (request.len() / 2 - 1) as u64;
    let made = keys.change(found, key, |hash: &mut Hash, tools| {
        hash.prepare(request.args_from(2), &tools.limits, tools.hasher);
        let mut made = 0;
        for at in (2..request.len()).step_by(2) {
            let is_new = hash.set(request.arg(at), request.arg(at + 1), &tools.limits, tools.hasher);
            made += usize::from(is_new);
        }
        (made, Some(Change::hash("hset").counted(fields)))
    });
    call.log_verbatim();
    Ok(made)
}

pub(crate) fn hsetnx(call: &mut Call<'_, '_>) -> Run {
    let (key, field, value) = (call.arg(1), call.arg(2), call.arg(3));
    let mut keys = call.keys();
    let found = keys.find_kind(key, Kind::Hash)?;
    let is_new = keys.change(found, key, |hash: &mut Hash, tools| {
        if hash.view().get(field).is_some() {
            return (false, None);
        }
        hash.set(field, value, &tools.limits, tools.hasher);
        (true, Some(Change::hash("hset")))
    });
    if is_new {
        call.log_verbatim();
    }
    call.reply.integer(i64::from(is_new));
    Ok(Outcome::Done)
}

/// Writes an element as a string.
pub(crate) fn write_item(reply: &mut ReplyWriter<'_>, item: Item<'_>) {
    match item {
        Item::Int(number) => reply.bulk_integer(number),
        Item::Bytes(bytes) => reply.bulk(bytes),
    }
}

pub(crate) fn hget(call: &mut Call<'_, '_>) -> Run {
    let (key, field) = (call.arg(1), call.arg(2));
    let (mut keys, reply) = call.keys_and_reply();
    match keys.read_hash(key)?.and_then(|hash| hash.get(field)) {
        Some(value) => write_item(reply, value),
        None => reply.null(),
    }
    Ok(Outcome::Done)
}

pub(crate) fn hmget(call: &mut Call<'_, '_>) -> Run {
    let (key, request) = (call.arg(1), call.request);
    let (mut keys, reply) = call.keys_and_reply();
    let hash = keys.read_hash(key)?;
    reply.array(request.len() - 2);
    for field in request.args_from(2) {
        match hash.and_then(|hash| hash.get(field)) {
            Some(value) => write_item(reply, value),
            None => reply.null(),
        }
    }
    Ok(Outcome::Done)
}

pub(crate) fn hincrby(call: &mut Call<'_, '_>) -> Run {
    let (key, field, amount) = (call.arg(1), call.arg(2), integer(call.arg(3))?);
    let mut keys = call.keys();
    let found = keys.find_kind(key, Kind::Hash)?;
    let new = keys.change(found, key, |hash: &mut Hash, tools| {
        let old = match hash.view().get(field) {
            None => Some(0),
            Some(Item::Int(number)) => Some(number),
            Some(Item::Bytes(text)) => parse_i64(text),
        };
        let new = match old {
            None => return (Err(error::HASH_NOT_INTEGER), None),
            Some(old) => match old.checked_add(amount) {
                Some(new) => new,
                None => return (Err(error::OVERFLOW), None),
            },
        };
        hash.set(field, itoa::Buffer::new().format(new).as_bytes(), &tools.limits, tools.hasher);
        (Ok(new), Some(Change::hash("hincrby")))
    })?;
    call.log_verbatim();
    call.reply.integer(new);
    Ok(Outcome::Done)
}

pub(crate) fn hincrbyfloat(call: &mut Call<'_, '_>) -> Run {
    let (key, field) = (call.arg(1), call.arg(2));
    let amount = LongDouble::parse(call.arg(3)).ok_or(error::NOT_FLOAT)?;
    if amount.is_infinite() {
        return Err(error::INFINITE_VALUE);
    }
    let mut keys = call.keys();
    let found = keys.find_kind(key, Kind::Hash)?;
    let new = keys.change(found, key, |hash: &mut Hash, tools| {
        let old = match hash.view().get(field) {
            None => Some(LongDouble::ZERO),
            Some(value) => LongDouble::parse(value.as_bytes(&mut Scratch::new())),
        };
        let Some(old) = old else { return (Err(error::HASH_NOT_FLOAT), None) };
        let Some(new) = old.add(amount) else { return (Err(error::NAN_OR_INFINITY), None) };
        let text = new.to_string().into_bytes();
        hash.set(field, &text, &tools.limits, tools.hasher);
        (Ok(text), Some(Change::hash("hincrbyfloat")))
    })?;
    // The sum is logged, since another program may round differently.
    call.log(&[b"HSET", key, field, &new]);
    call.reply.bulk(&new);
    Ok(Outcome::Done)
}

pub(crate) fn hdel(call: &mut Call<'_, '_>) -> Run {
    let (key, request) = (call.arg(1), call.request);
    let mut keys = call.keys();
    let found = keys.find_kind(key, Kind::Hash)?;
    let mut removed = 0;
    if found.is_some() {
        removed = keys.change(found, key, |hash: &mut Hash, _| {
            let removed = request.args_from(2).filter(|field| hash.remove(field)).count();
            (removed, (removed > 0).then_some(Change::hash("hdel").counted(removed as u64)))
        });
        if removed > 0 {
            call.log_verbatim();
        }
    }
    call.reply.count(removed);
    Ok(Outcome::Done)
}

pub(crate) fn hlen(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let len = call.keys().read_hash(key)?.map_or(0, |hash| hash.len());
    call.reply.count(len);
    Ok(Outcome::Done)
}

pub(crate) fn hstrlen(call: &mut Call<'_, '_>) -> Run {
    let (key, field) = (call.arg(1), call.arg(2));
    let len = call.keys().read_hash(key)?.and_then(|hash| hash.get(field)).map_or(0, Item::len_as_bytes);
    call.reply.count(len);
    Ok(Outcome::Done)
}

pub(crate) fn hexists(call: &mut Call<'_, '_>) -> Run {
    let (key, field) = (call.arg(1), call.arg(2));
    let exists = call.keys().read_hash(key)?.is_some_and(|hash| hash.get(field).is_some());
    call.reply.integer(i64::from(exists));
    Ok(Outcome::Done)
}

pub(crate) fn hkeys(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let (mut keys, reply) = call.keys_and_reply();
    let hash = keys.read_hash(key)?;
    reply.array(hash.map_or(0, |hash| hash.len()));
    for (field, _) in hash.iter().flat_map(|hash| hash.iter()) {
        write_item(reply, field);
    }
    Ok(Outcome::Done)
}

pub(crate) fn hvals(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let (mut keys, reply) = call.keys_and_reply();
    let hash = keys.read_hash(key)?;
    reply.array(hash.map_or(0, |hash| hash.len()));
    for (_, value) in hash.iter().flat_map(|hash| hash.iter()) {
        write_item(reply, value);
    }
    Ok(Outcome::Done)
}

pub(crate) fn hgetall(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let (mut keys, reply) = call.keys_and_reply();
    let hash = keys.read_hash(key)?;
    reply.map(hash.map_or(0, |hash| hash.len()));
    for (field, value) in hash.iter().flat_map(|hash| hash.iter()) {
        write_item(reply, field);
        write_item(reply, value);
    }
    Ok(Outcome::Done)
}

pub(crate) fn hrandfield(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let Some(count) = call.request.arg_at(2) else {
        let (mut keys, reply) = call.keys_and_reply();
        let mut numbers = keys.random();
        match keys.read_hash(key)?.and_then(|hash| hash.nth(numbers.below(hash.len()))) {
            Some((field, _)) => write_item(reply, field),
            None => reply.null(),
        }
        return Ok(Outcome::Done);
    };
    let count = random::count(count)?;
    let with_values = match call.request.arg_at(3) {
        None => false,
        Some(option) if is(option, "withvalues") && call.len() == 4 => true,
        Some(_) => return Err(error::SYNTAX),
    };
    if with_values && !(i64::MIN / 2..=i64::MAX / 2).contains(&count) {
        return Err(error::OUT_OF_RANGE);
    }
    let nested = with_values && call.reply.version() == RespVersion::Resp3;
    let (mut keys, reply) = call.keys_and_reply();
    let mut numbers = keys.random();
    let Some(hash) = keys.read_hash(key)? else {
        reply.array(0);
        return Ok(Outcome::Done);
    };
    let places = Places::choose(count, hash.len(), &mut numbers);
    let chosen = places.count(hash.len());
    reply.array(if with_values && !nested { chosen * 2 } else { chosen });
    random::each(
        &places,
        hash.len(),
        hash.iter(),
        |place| hash.nth(place),
        |(field, value)| {
            if nested {
                reply.array(2);
            }
            write_item(reply, field);
            if with_values {
                write_item(reply, value);
            }
        },
    );
    Ok(Outcome::Done)
}

pub(crate) fn hscan(call: &mut Call<'_, '_>) -> Run {
    let (key, start) = (call.arg(1), scan::cursor(call.arg(2))?);
    let options = ScanOptions::parse(call, 3);
    let (mut keys, reply) = call.keys_and_reply();
    let (mut found, mut cursor) = (scan::Found::default(), 0);
    if let Some(hash) = keys.read_hash(key)? {
        // Order matters: as in Redis, wrong options of a scan of nothing are no error.
        let options = options?;
        let (mut field_text, mut value_text) = (Scratch::new(), Scratch::new());
        cursor = hash.scan(start, options.count, |field, value| {
            let field = field.as_bytes(&mut field_text);
            if options.matches(field) {
                found.push(field);
                found.push(value.as_bytes(&mut value_text));
            }
        });
    }
    found.write(reply, cursor);
    Ok(Outcome::Done)
}
