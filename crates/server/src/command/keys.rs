//! Keys, databases, and what is known of a value.

use super::args::{self, is};
use super::scan::{self, ScanOptions};
use super::{Call, Outcome, ReplyError, Run, error, introspect};
use crate::engine::events::Change;
use crate::engine::object::{Entry, EntryView};
use crate::engine::{Keyspace, StringRef, ValueRef};
use crate::glob;

/// Longest string that Redis stores in one piece with its header. Source: `OBJ_ENCODING_EMBSTR_SIZE_LIMIT`.
const EMBEDDED_LEN_MAX: usize = 44;

pub(crate) fn del(call: &mut Call<'_, '_>) -> Run {
    let request = call.request;
    let mut removed: Vec<&[u8]> = Vec::new();
    for key in request.args_from(1) {
        let mut keys = call.keys();
        let found = keys.find(key);
        if keys.remove(found, key, Change::generic("del")) {
            removed.push(key);
        }
    }
    if !removed.is_empty() {
        let args = std::iter::once(&b"DEL"[..]).chain(removed.iter().copied()).collect::<Vec<_>>();
        call.log(&args);
    }
    call.reply.count(removed.len());
    Ok(Outcome::Done)
}

pub(crate) fn unlink(call: &mut Call<'_, '_>) -> Run {
    del(call)
}

pub(crate) fn exists(call: &mut Call<'_, '_>) -> Run {
    let request = call.request;
    let count = request.args_from(1).filter(|key| call.keys().peek(key).is_some()).count();
    call.reply.count(count);
    Ok(Outcome::Done)
}

pub(crate) fn touch(call: &mut Call<'_, '_>) -> Run {
    let request = call.request;
    let count = request.args_from(1).filter(|key| call.keys().read(key).is_some()).count();
    call.reply.count(count);
    Ok(Outcome::Done)
}

pub(crate) fn type_name(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let name = call.keys().peek(key).map_or("none", |entry| entry.kind().name());
    call.reply.simple(name);
    Ok(Outcome::Done)
}

pub(crate) fn keys(call: &mut Call<'_, '_>) -> Run {
    let pattern = call.arg(1);
    let mut found: Vec<Box<[u8]>> = Vec::new();
    call.keys().for_each(|entry| {
        let key = entry.key();
        if pattern == b"*" || glob::matches(pattern, key) {
            found.push(Box::from(key));
        }
    });
    call.reply.array(found.len());
    for key in found {
        call.reply.bulk(&key);
    }
    Ok(Outcome::Done)
}

pub(crate) fn scan(call: &mut Call<'_, '_>) -> Run {
    let cursor = scan::cursor(call.arg(1))?;
    let options = ScanOptions::parse(call, 2)?;
    let mut found = scan::Found::default();
    let cursor = call.keys().scan(cursor, options.count, |entry| {
        if options.of_type.is_none_or(|name| is(name, entry.kind().name())) && options.matches(entry.key()) {
            found.push(entry.key());
        }
    });
    found.write(&mut call.reply, cursor);
    Ok(Outcome::Done)
}

pub(crate) fn randomkey(call: &mut Call<'_, '_>) -> Run {
    match call.keys().random_key() {
        Some(key) => call.reply.bulk(&key),
        None => call.reply.null(),
    }
    Ok(Outcome::Done)
}

pub(crate) fn rename(call: &mut Call<'_, '_>) -> Run {
    if rename_key(call, false)? {
        call.reply.ok();
    }
    Ok(Outcome::Done)
}

pub(crate) fn renamenx(call: &mut Call<'_, '_>) -> Run {
    let renamed = rename_key(call, true)?;
    call.reply.integer(i64::from(renamed));
    Ok(Outcome::Done)
}

/// Renames; false when the new name is taken and must not be replaced.
fn rename_key(call: &mut Call<'_, '_>, only_absent: bool) -> Result<bool, ReplyError> {
    let (from, to) = (call.arg(1), call.arg(2));
    let mut keys = call.keys();
    if !keys.find(from).is_some() {
        return Err(error::NO_SUCH_KEY);
    }
    if from == to {
        return Ok(!only_absent);
    }
    let target = keys.find(to);
    if target.is_some() {
        if only_absent {
            return Ok(false);
        }
        keys.remove(target, to, Change::silent());
    }
    let source = keys.find(from);
    if let Some(renamed) = keys.view(source).map(|entry| entry.renamed(to)) {
        keys.remove(source, from, Change::silent());
        keys.insert(renamed, Change::silent().counted(1));
        keys.announce(from, Change::generic("rename_from"));
        keys.announce(to, Change::generic("rename_to"));
    }
    call.log_verbatim();
    Ok(true)
}

pub(crate) fn copy(call: &mut Call<'_, '_>) -> Run {
    let (from, to) = (call.arg(1), call.arg(2));
    let mut target_db = call.session.db;
    let mut replace = false;
    let mut at = 3;
    while let Some(option) = call.request.arg_at(at) {
        if is(option, "replace") {
            replace = true;
        } else if is(option, "db") && at + 1 < call.len() {
            target_db = args::database(call, call.arg(at + 1))?;
            at += 1;
        } else {
            return Err(error::SYNTAX);
        }
        at += 1;
    }
    if from == to && target_db == call.session.db {
        return Err(error::SAME_OBJECT);
    }
    let mut keys = call.keys();
    let Some(mut copy) = keys.read(from).map(|entry| entry.renamed(to)) else {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    };
    keys.forget_access(&mut copy);
    if !put(call, target_db, copy, replace, Change::generic("copy_to")) {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    }
    call.log_verbatim();
    call.reply.integer(1);
    Ok(Outcome::Done)
}

/// Puts an entry into a database; false when its key is taken and must not be replaced.
fn put(call: &mut Call<'_, '_>, db: u32, entry: Entry, replace: bool, change: Change) -> bool {
    let mut keys = Keyspace::new(call.ctx.engine, call.ctx.effects, db, call.ctx.now_ms);
    let target = keys.find(entry.view().key());
    if target.is_some() {
        if !replace {
            return false;
        }
        keys.remove(target, entry.view().key(), Change::silent());
    }
    keys.insert(entry, change);
    true
}

pub(crate) fn move_key(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let target_db = args::database(call, call.arg(2))?;
    if target_db == call.session.db {
        return Err(error::SAME_OBJECT);
    }
    let mut keys = call.keys();
    let found = keys.find(key);
    let moved = match keys.view(found).map(|entry| entry.renamed(key)) {
        Some(entry) => put(call, target_db, entry, false, Change::silent()),
        None => false,
    };
    if moved {
        let mut keys = call.keys();
        let found = keys.find(key);
        keys.remove(found, key, Change::generic("move_from"));
        Keyspace::new(call.ctx.engine, call.ctx.effects, target_db, call.ctx.now_ms)
            .announce(key, Change::generic("move_to"));
        call.log_verbatim();
    }
    call.reply.integer(i64::from(moved));
    Ok(Outcome::Done)
}

pub(crate) fn dbsize(call: &mut Call<'_, '_>) -> Run {
    let len = call.keys().len();
    call.reply.count(len);
    Ok(Outcome::Done)
}

pub(crate) fn flushdb(call: &mut Call<'_, '_>) -> Run {
    let db = call.session.db;
    flush(call, Some(db))
}

pub(crate) fn flushall(call: &mut Call<'_, '_>) -> Run {
    flush(call, None)
}

fn flush(call: &mut Call<'_, '_>, db: Option<u32>) -> Run {
    // Memory is freed by and by in either mode: nobody waits for it.
    match call.request.arg_at(1) {
        None => {}
        Some(mode) if call.len() == 2 && (is(mode, "async") || is(mode, "sync")) => {}
        Some(_) => return Err(error::SYNTAX),
    }
    call.ctx.engine.flush(db, call.ctx.now_ms);
    // Also where there was nothing, as in Redis.
    call.log_verbatim();
    if db.is_none() {
        call.ctx.host.all_flushed();
    }
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn swapdb(call: &mut Call<'_, '_>) -> Run {
    let index = |arg, text| args::integer_i32(arg).ok_or(ReplyError::fixed(text));
    let first = index(call.arg(1), "ERR invalid first DB index")?;
    let second = index(call.arg(2), "ERR invalid second DB index")?;
    let existing = |index: i32| {
        u32::try_from(index)
            .ok()
            .filter(|&index| index < call.ctx.engine.databases())
            .ok_or(error::DB_INDEX_OUT_OF_RANGE)
    };
    let (first, second) = (existing(first)?, existing(second)?);
    if first != second {
        call.ctx.engine.swap(first, second, call.ctx.now_ms);
        call.log_verbatim();
    }
    call.reply.ok();
    Ok(Outcome::Done)
}

/// The name that Redis 7.0 gives to the form of a value.
pub(crate) fn encoding(entry: EntryView<'_>) -> &'static str {
    match entry.value() {
        ValueRef::String(StringRef::Int(_)) => "int",
        ValueRef::String(StringRef::Bytes(bytes)) if bytes.len() <= EMBEDDED_LEN_MAX && !entry.is_raw() => {
            "embstr"
        }
        ValueRef::String(_) => "raw",
        ValueRef::List(list) => list.encoding(),
        ValueRef::Set(set) => set.encoding(),
        ValueRef::SortedSet(set) => set.encoding(),
        ValueRef::Hash(hash) => hash.encoding(),
    }
}

pub(crate) fn object_encoding(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(2);
    match call.keys().peek_quietly(key).map(encoding) {
        Some(name) => call.reply.bulk(name.as_bytes()),
        None => call.reply.null(),
    }
    Ok(Outcome::Done)
}

/// The number of users of a value, as Redis reports it: values are never shared here, but Redis keeps one object for each
/// of these numbers and reports this count for all of them, unless each key needs an object of its own for its last use.
/// Source: `OBJ_SHARED_INTEGERS`, `OBJ_SHARED_REFCOUNT`, `MAXMEMORY_FLAG_NO_SHARED_INTEGERS`.
pub(crate) fn refcount(entry: EntryView<'_>, shares_integers: bool) -> i64 {
    match entry.value() {
        ValueRef::String(StringRef::Int(0..10_000)) if shares_integers => i32::MAX.into(),
        _ => 1,
    }
}

/// Whether Redis would share small integers.
pub(crate) fn shares_integers(call: &Call<'_, '_>) -> bool {
    call.ctx.settings.maxmemory == 0 || !call.ctx.engine.eviction().is_by_use()
}

pub(crate) fn object_refcount(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(2);
    let shares = shares_integers(call);
    match call.keys().peek_quietly(key).map(|entry| refcount(entry, shares)) {
        Some(count) => call.reply.integer(count),
        None => call.reply.null(),
    }
    Ok(Outcome::Done)
}

pub(crate) fn object_idletime(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(2);
    let mut keys = call.keys();
    let meter = keys.access_meter();
    match keys.peek_quietly(key).map(EntryView::accessed) {
        Some(_) if meter.counts() => return Err(error::NO_IDLE_TIME),
        Some(accessed) => call.reply.integer(i64::from(meter.idle_seconds(accessed))),
        None => call.reply.null(),
    }
    Ok(Outcome::Done)
}

pub(crate) fn object_freq(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(2);
    let mut keys = call.keys();
    let meter = keys.access_meter();
    match keys.peek_quietly(key).map(EntryView::accessed) {
        Some(_) if !meter.counts() => return Err(error::NO_FREQUENCY),
        Some(accessed) => call.reply.integer(i64::from(meter.frequency(accessed))),
        None => call.reply.null(),
    }
    Ok(Outcome::Done)
}

pub(crate) fn object_help(call: &mut Call<'_, '_>) -> Run {
    introspect::write_help(call)
}
