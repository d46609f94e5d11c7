//! Strings.

use std::ops::RangeInclusive;

use bytes::Bytes;

use super::args::{ExpiryUnit, integer, is};
use super::{Call, Outcome, ReplyError, Run, error};
use crate::command::long_double::LongDouble;
use crate::engine::events::Change;
use crate::engine::object::{EntryView, Kind, NewValue};
use crate::engine::{Expiry, Found, StringRef, WrongType};
use crate::protocol::parse_i64;

mod lcs;

pub(crate) use lcs::lcs;

/// Writes the string at a key, or null; returns whether there is one.
fn write_value(call: &mut Call<'_, '_>, key: &[u8]) -> Result<bool, WrongType> {
    let (mut keys, reply) = call.keys_and_reply();
    let Some(entry) = keys.read(key) else {
        reply.null();
        return Ok(false);
    };
    if entry.kind() != Kind::String {
        return Err(WrongType);
    }
    match entry.string() {
        StringRef::Bytes(bytes) => {
            reply.bulk_shared(bytes, || entry.shared_blob().map(Bytes::from_owner));
        }
        StringRef::Int(number) => reply.bulk_integer(number),
    }
    Ok(true)
}

pub(crate) fn get(call: &mut Call<'_, '_>) -> Run {
    write_value(call, call.request.arg(1))?;
    Ok(Outcome::Done)
}

/// Sets a key and records it as `SET key value [PXAT ms | KEEPTTL]`.
fn set_and_log(call: &mut Call<'_, '_>, found: Found, key: &[u8], value: &[u8], expiry: Expiry) {
    call.keys().set(found, key, NewValue::from_bytes(value), expiry, Change::string("set"));
    match expiry {
        Expiry::Clear => call.log(&[b"SET", key, value]),
        Expiry::Keep => call.log(&[b"SET", key, value, b"KEEPTTL"]),
        Expiry::At(ms) => {
            call.log(&[b"SET", key, value, b"PXAT", itoa::Buffer::new().format(ms).as_bytes()]);
        }
    }
}

#[derive(Debug, Default)]
struct SetOptions {
    only_absent: bool,
    only_present: bool,
    get: bool,
    keep_ttl: bool,
    expiry: Option<(ExpiryUnit, usize)>,
}

impl SetOptions {
    fn parse(call: &Call<'_, '_>) -> Result<SetOptions, ReplyError> {
        let mut options = SetOptions::default();
        let mut at = 3;
        while let Some(option) = call.request.arg_at(at) {
            if is(option, "nx") && !options.only_present {
                options.only_absent = true;
            } else if is(option, "xx") && !options.only_absent {
                options.only_present = true;
            } else if is(option, "get") {
                options.get = true;
            } else if is(option, "keepttl") && options.expiry.is_none() {
                options.keep_ttl = true;
            } else if let Some(unit) = ExpiryUnit::from_option(option)
                && !options.keep_ttl
                && options.expiry.is_none_or(|(known, _)| known == unit)
                && at + 1 < call.len()
            {
                options.expiry = Some((unit, at + 1));
                at += 1;
            } else {
                return Err(error::SYNTAX);
            }
            at += 1;
        }
        Ok(options)
    }
}

pub(crate) fn set(call: &mut Call<'_, '_>) -> Run {
    let (key, value) = (call.arg(1), call.arg(2));
    if call.len() == 3 {
        let mut keys = call.keys();
        let found = keys.find(key);
        keys.set(found, key, NewValue::from_bytes(value), Expiry::Clear, Change::string("set"));
        call.log_verbatim();
        call.reply.ok();
        return Ok(Outcome::Done);
    }
    let options = SetOptions::parse(call)?;
    let expiry = match options.expiry {
        Some((unit, at)) => Expiry::At(unit.positive_unix_ms(call.arg(at), call)?),
        None if options.keep_ttl => Expiry::Keep,
        None => Expiry::Clear,
    };
    if options.get {
        write_value(call, key)?;
    }
    let found = call.keys().find(key);
    if (options.only_absent && found.is_some()) || (options.only_present && !found.is_some()) {
        if !options.get {
            call.reply.null();
        }
        return Ok(Outcome::Done);
    }
    set_and_log(call, found, key, value, expiry);
    if !options.get {
        call.reply.ok();
    }
    Ok(Outcome::Done)
}

pub(crate) fn setnx(call: &mut Call<'_, '_>) -> Run {
    let (key, value) = (call.arg(1), call.arg(2));
    let found = call.keys().find(key);
    if !found.is_some() {
        set_and_log(call, found, key, value, Expiry::Clear);
    }
    call.reply.integer(i64::from(!found.is_some()));
    Ok(Outcome::Done)
}

pub(crate) fn setex(call: &mut Call<'_, '_>) -> Run {
    set_expiring(call, ExpiryUnit::Seconds)
}

pub(crate) fn psetex(call: &mut Call<'_, '_>) -> Run {
    set_expiring(call, ExpiryUnit::Milliseconds)
}

fn set_expiring(call: &mut Call<'_, '_>, unit: ExpiryUnit) -> Run {
    let (key, value) = (call.arg(1), call.arg(3));
    let at = unit.positive_unix_ms(call.arg(2), call)?;
    let found = call.keys().find(key);
    set_and_log(call, found, key, value, Expiry::At(at));
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn getset(call: &mut Call<'_, '_>) -> Run {
    let (key, value) = (call.arg(1), call.arg(2));
    write_value(call, key)?;
    let found = call.keys().find(key);
    set_and_log(call, found, key, value, Expiry::Clear);
    Ok(Outcome::Done)
}

pub(crate) fn getdel(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    if write_value(call, key)? {
        remove_and_log(call, key);
    }
    Ok(Outcome::Done)
}

fn remove_and_log(call: &mut Call<'_, '_>, key: &[u8]) {
    let mut keys = call.keys();
    let found = keys.find(key);
    keys.remove(found, key, Change::generic("del"));
    call.log(&[b"DEL", key]);
}

pub(crate) fn getex(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let mut expiry: Option<(ExpiryUnit, usize)> = None;
    let mut persist = false;
    let mut at = 2;
    while let Some(option) = call.request.arg_at(at) {
        if is(option, "persist") && expiry.is_none() {
            persist = true;
        } else if let Some(unit) = ExpiryUnit::from_option(option)
            && !persist
            && expiry.is_none_or(|(known, _)| known == unit)
            && at + 1 < call.len()
        {
            expiry = Some((unit, at + 1));
            at += 1;
        } else {
            return Err(error::SYNTAX);
        }
        at += 1;
    }
    if !write_value(call, key)? {
        return Ok(Outcome::Done);
    }
    // An error takes back the value that was written.
    let expiry = match expiry {
        Some((unit, at)) => Some((unit, unit.positive_unix_ms(call.arg(at), call)?)),
        None => None,
    };
    let found = call.keys().find(key);
    match expiry {
        Some((unit, ms)) if unit.is_absolute() && ms <= call.ctx.now_ms && !call.is_replay() => {
            remove_and_log(call, key);
        }
        Some((_, ms)) => {
            call.keys().set_expiry(found, key, Some(ms), Change::generic("expire"));
            call.log(&[b"PEXPIREAT", key, itoa::Buffer::new().format(ms).as_bytes()]);
        }
        None if persist => {
            let mut keys = call.keys();
            if keys.view(found).is_some_and(|entry| entry.expires_at_ms().is_some()) {
                keys.set_expiry(found, key, None, Change::generic("persist"));
                call.log(&[b"PERSIST", key]);
            }
        }
        None => {}
    }
    Ok(Outcome::Done)
}

pub(crate) fn mget(call: &mut Call<'_, '_>) -> Run {
    call.reply.array(call.len() - 1);
    for key in call.request.args_from(1) {
        // What is no string is null here, as in Redis.
        if write_value(call, key).is_err() {
            call.reply.null();
        }
    }
    Ok(Outcome::Done)
}

pub(crate) fn mset(call: &mut Call<'_, '_>) -> Run {
    if call.len().is_multiple_of(2) {
        return Err(error::wrong_arity(call.command.full_name));
    }
    set_all(call);
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn msetnx(call: &mut Call<'_, '_>) -> Run {
    if call.len().is_multiple_of(2) {
        return Err(error::wrong_arity(call.command.full_name));
    }
    let request = call.request;
    if request.args_from(1).step_by(2).any(|key| call.keys().find(key).is_some()) {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    }
    set_all(call);
    call.reply.integer(1);
    Ok(Outcome::Done)
}

/// Sets the pairs of MSET or MSETNX, recorded as one MSET.
fn set_all(call: &mut Call<'_, '_>) {
    let request = call.request;
    for at in (1..request.len()).step_by(2) {
        let (key, value) = (request.arg(at), request.arg(at + 1));
        let mut keys = call.keys();
        let found = keys.find(key);
        keys.set(found, key, NewValue::from_bytes(value), Expiry::Clear, Change::string("set"));
    }
    call.log_iter((0..request.len()).map(|at| if at == 0 { &b"MSET"[..] } else { request.arg(at) }));
}

pub(crate) fn incr(call: &mut Call<'_, '_>) -> Run {
    add(call, 1)
}

pub(crate) fn decr(call: &mut Call<'_, '_>) -> Run {
    add(call, -1)
}

pub(crate) fn incrby(call: &mut Call<'_, '_>) -> Run {
    let amount = integer(call.arg(2))?;
    add(call, amount)
}

pub(crate) fn decrby(call: &mut Call<'_, '_>) -> Run {
    let amount = integer(call.arg(2))?.checked_neg().ok_or(error::DECREMENT_OVERFLOW)?;
    add(call, amount)
}

fn add(call: &mut Call<'_, '_>, amount: i64) -> Run {
    let key = call.arg(1);
    let mut keys = call.keys();
    let found = keys.find_kind(key, Kind::String)?;
    let old = match keys.view(found).map(EntryView::string) {
        None => 0,
        Some(StringRef::Int(number)) => number,
        Some(StringRef::Bytes(bytes)) => parse_i64(bytes).ok_or(error::NOT_INTEGER)?,
    };
    let new = old.checked_add(amount).ok_or(error::OVERFLOW)?;
    keys.set(found, key, NewValue::Int(new), Expiry::Keep, Change::string("incrby"));
    call.log_verbatim();
    call.reply.integer(new);
    Ok(Outcome::Done)
}

pub(crate) fn incrbyfloat(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let mut keys = call.keys();
    let found = keys.find_kind(key, Kind::String)?;
    let mut buffer = itoa::Buffer::new();
    let old = match keys.view(found) {
        None => LongDouble::ZERO,
        Some(entry) => LongDouble::parse(entry.string().as_bytes(&mut buffer)).ok_or(error::NOT_FLOAT)?,
    };
    let amount = LongDouble::parse(call.arg(2)).ok_or(error::NOT_FLOAT)?;
    let new = old.add(amount).ok_or(error::NAN_OR_INFINITY)?.to_string().into_bytes();
    // The result is text, as in Redis: an integer is recognised when a client sends one.
    call.keys().set(found, key, NewValue::Bytes(&new), Expiry::Keep, Change::string("incrbyfloat"));
    call.log(&[b"SET", key, &new, b"KEEPTTL"]);
    call.reply.bulk(&new);
    Ok(Outcome::Done)
}

/// Refuses a string of `len` + `more` bytes that is longer than strings may be.
fn check_len(call: &Call<'_, '_>, len: u64, more: u64) -> Result<(), ReplyError> {
    let fits = len.checked_add(more).is_some_and(|total| total <= call.string_len_max());
    if fits { Ok(()) } else { Err(error::STRING_TOO_LONG) }
}

pub(crate) fn append(call: &mut Call<'_, '_>) -> Run {
    let (key, value) = (call.arg(1), call.arg(2));
    let mut keys = call.keys();
    let found = keys.find_kind(key, Kind::String)?;
    let change = Change::string("append");
    let len = match keys.view(found).map(|entry| entry.string().len()) {
        None => {
            keys.set(found, key, NewValue::from_bytes(value), Expiry::Clear, change);
            value.len()
        }
        Some(len) => {
            check_len(call, len as u64, value.len() as u64)?;
            let new_len = len + value.len();
            call.keys().edit(found, key, new_len, change, |bytes| bytes[len..].copy_from_slice(value));
            new_len
        }
    };
    call.log_verbatim();
    call.reply.count(len);
    Ok(Outcome::Done)
}

pub(crate) fn strlen(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let len = call.keys().read_string(key)?.map_or(0, StringRef::len);
    call.reply.count(len);
    Ok(Outcome::Done)
}

/// Bounds of a range of `len` elements, given with negative numbers counting from the end; none when it is empty. As in Redis, a
/// number beyond the first element stands for it, also at the end of the range: whoever does not want `-1 -2` of one element to
/// be that element asks before.
pub(crate) fn clip_range(start: i64, end: i64, len: usize) -> Option<RangeInclusive<usize>> {
    let from_end = |at: i64| match usize::try_from(at) {
        Ok(at) => at,
        Err(_) => len.saturating_sub(usize::try_from(at.unsigned_abs()).unwrap_or(usize::MAX)),
    };
    let (start, end) = (from_end(start), from_end(end).min(len.wrapping_sub(1)));
    (len > 0 && start <= end).then_some(start..=end)
}

pub(crate) fn getrange(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let (start, end) = (integer(call.arg(2))?, integer(call.arg(3))?);
    let (mut keys, reply) = call.keys_and_reply();
    let mut buffer = itoa::Buffer::new();
    let bytes = keys.read_string(key)?.map_or(&b""[..], |string| string.as_bytes(&mut buffer));
    let is_backwards = start < 0 && end < 0 && start > end;
    let range = clip_range(start, end, bytes.len()).filter(|_| !is_backwards);
    reply.bulk(range.map_or(&b""[..], |range| &bytes[range]));
    Ok(Outcome::Done)
}

pub(crate) fn substr(call: &mut Call<'_, '_>) -> Run {
    getrange(call)
}

pub(crate) fn setrange(call: &mut Call<'_, '_>) -> Run {
    let (key, value) = (call.arg(1), call.arg(3));
    let offset = integer(call.arg(2))?;
    let offset = u64::try_from(offset).map_err(|_| error::OFFSET_OUT_OF_RANGE)?;
    let mut keys = call.keys();
    let found = keys.find_kind(key, Kind::String)?;
    let len = keys.view(found).map_or(0, |entry| entry.string().len());
    if value.is_empty() {
        call.reply.count(len);
        return Ok(Outcome::Done);
    }
    check_len(call, offset, value.len() as u64)?;
    let offset = usize::try_from(offset).map_err(|_| error::STRING_TOO_LONG)?;
    let end = offset + value.len();
    let new_len = len.max(end);
    call.keys().edit(found, key, new_len, Change::string("setrange"), |bytes| {
        bytes[offset..end].copy_from_slice(value);
    });
    call.log_verbatim();
    call.reply.count(new_len);
    Ok(Outcome::Done)
}
