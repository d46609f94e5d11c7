//! DEBUG: what Redis's own test suite needs, for those who may use it.

use super::args::{integer, is};
use super::{Call, DebugRequest, Deferred, Outcome, ReplyError, Run, error};
use crate::engine::Expiry;
use crate::engine::events::Change;
use crate::engine::object::NewValue;
use crate::protocol::{RespVersion, parse_i64};

const HELP: &[(&str, &str)] = &[
    ("AOF-FLUSH-SLEEP <microseconds>", "Waits so long before it writes to the log."),
    ("CONFIG-REWRITE-FORCE-ALL", "As CONFIG REWRITE, with every directive."),
    ("DIGEST", "Gives a digest of all data, equal for equal data."),
    ("DIGEST-VALUE <key> [<key> ...]", "Gives a digest of each value, equal for equal values."),
    ("LOADAOF", "Writes out the log, empties the data set and loads the log."),
    ("LOG <message>", "Does nothing; test suites mark their log with it."),
    ("MALLCTL <name>", "Returns a number that the allocator knows by this name."),
    ("OBJECT <key>", "Tells how the value at a key is stored."),
    ("PANIC", "Ends the server as a defect in a command would."),
    ("PAUSE-CRON <0|1>", "Stops the periodic work, and begins it again."),
    ("POPULATE <count> [<prefix>] [<size>]", "Makes keys that are not there yet."),
    ("PROTOCOL <type>", "Answers with a sample of a reply type."),
    (
        "QUICKLIST-PACKED-THRESHOLD <size>",
        "Has no effect: list-max-listpack-size says which elements stand alone.",
    ),
    (
        "REPLYBUFFER <RESIZING|PEAK-RESET-TIME> <value>",
        "Has no effect: no reply buffer is kept for an idle client.",
    ),
    ("RELOAD", "Saves, empties the data set and loads what was saved."),
    ("SEGFAULT", "As PANIC: no memory is touched that is not the server's."),
    ("SET-ACTIVE-EXPIRE <0|1>", "Switches the removal of expired keys that nobody meets."),
    (
        "SET-SKIP-CHECKSUM-VALIDATION <0|1>",
        "RESTORE takes payloads whatever their checksum, or as it should.",
    ),
    ("SLEEP <seconds>", "Stops the server for a time."),
    ("HELP", "Lists the subcommands."),
];

pub(crate) fn debug(call: &mut Call<'_, '_>) -> Run {
    let (name, len) = (call.arg(1), call.len());
    match name {
        _ if is(name, "sleep") && len == 3 => {
            let seconds = std::str::from_utf8(call.arg(2)).ok().and_then(|text| text.parse::<f64>().ok());
            let time = std::time::Duration::try_from_secs_f64(seconds.unwrap_or(0.0)).unwrap_or_default();
            call.ctx.host.sleep(time);
            call.reply.ok();
            Ok(Outcome::Done)
        }
        _ if is(name, "config-rewrite-force-all") && len == 2 => {
            call.ctx.host.rewrite_config(true).map_err(ReplyError::from)?;
            call.reply.ok();
            Ok(Outcome::Done)
        }
        _ if is(name, "reload") && len == 2 => defer(call, DebugRequest::Reload),
        _ if is(name, "loadaof") && len == 2 => defer(call, DebugRequest::LoadLog),
        _ if is(name, "set-active-expire") && len == 3 => {
            let active = integer(call.arg(2))? != 0;
            call.ctx.engine.set_active_expiry(active);
            call.reply.ok();
            Ok(Outcome::Done)
        }
        _ if is(name, "set-skip-checksum-validation") && len == 3 => {
            let skips = integer(call.arg(2))? != 0;
            call.ctx.engine.set_skips_checksums(skips);
            call.reply.ok();
            Ok(Outcome::Done)
        }
        _ if is(name, "aof-flush-sleep") && len == 3 => {
            let time = u64::try_from(integer(call.arg(2))?).unwrap_or(0);
            call.ctx.host.delay_log(std::time::Duration::from_micros(time));
            call.reply.ok();
            Ok(Outcome::Done)
        }
        _ if is(name, "pause-cron") && len == 3 => {
            let pauses = integer(call.arg(2))? != 0;
            defer(call, DebugRequest::PauseCron(pauses))
        }
        _ if (is(name, "log") || is(name, "quicklist-packed-threshold")) && len == 3
            || is(name, "replybuffer") && len == 4 =>
        {
            call.reply.ok();
            Ok(Outcome::Done)
        }
        _ if is(name, "digest") && len == 2 => {
            let digest = call.ctx.engine.digest(call.ctx.now_ms);
            call.reply.simple(&hexadecimal(&digest));
            Ok(Outcome::Done)
        }
        _ if is(name, "digest-value") => digest_values(call),
        _ if is(name, "mallctl") && len == 3 => {
            let control = std::ffi::CString::new(call.arg(2)).ok();
            let value = control.and_then(|control| call.ctx.host.allocator_control(&control));
            let value = value.and_then(|value| i64::try_from(value).ok());
            call.reply.integer(value.ok_or(error::NO_SUCH_CONTROL)?);
            Ok(Outcome::Done)
        }
        _ if is(name, "object") && len == 3 => object(call),
        // What the executor does about a panic is tested with this one.
        _ if (is(name, "panic") || is(name, "segfault")) && len == 2 => panic!("DEBUG PANIC was asked for"),
        _ if is(name, "populate") && (3..=5).contains(&len) => populate(call),
        _ if is(name, "protocol") && len == 3 => protocol(call),
        _ if is(name, "help") && len == 2 => {
            call.reply.array(HELP.len() * 2);
            for (usage, text) in HELP {
                call.reply.simple(usage);
                call.reply.simple(&format!("    {text}"));
            }
            Ok(Outcome::Done)
        }
        _ => Err(error::unknown_subcommand_or_arity(name, "DEBUG")),
    }
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest_values(call: &mut Call<'_, '_>) -> Run {
    let request = call.request;
    let (mut keys, reply) = call.keys_and_reply();
    reply.array(request.len() - 2);
    for key in request.args_from(2) {
        let found = keys.find(key);
        // No value has zeros, as in Redis.
        let digest = keys.view(found).map_or([0; 20], |entry| entry.value().digest());
        reply.simple(&hexadecimal(&digest));
    }
    Ok(Outcome::Done)
}

fn defer(call: &Call<'_, '_>, request: DebugRequest) -> Run {
    if call.in_exec { Err(error::NO_MULTI) } else { Ok(Outcome::Deferred(Deferred::Debug(request))) }
}

fn object(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(2);
    let shares_integers = super::keys::shares_integers(call);
    let mut keys = call.keys();
    let found = keys.find(key);
    let Some(entry) = keys.view(found) else { return Err(error::NO_SUCH_KEY) };
    let text = format!(
        "Value at:0x0 refcount:{} encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{}",
        super::keys::refcount(entry, shares_integers),
        super::keys::encoding(entry),
        crate::persistence::snapshot::dump::serialized_len(entry.value()),
        entry.accessed(),
        keys.access_meter().idle_seconds(entry.accessed()),
    );
    call.reply.simple(&text);
    Ok(Outcome::Done)
}

fn populate(call: &mut Call<'_, '_>) -> Run {
    let count = parse_i64(call.arg(2)).and_then(|it| u64::try_from(it).ok()).ok_or(error::NOT_POSITIVE)?;
    let prefix = call.request.arg_at(3).unwrap_or(b"key");
    let size = match call.request.arg_at(4) {
        Some(size) => Some(usize::try_from(integer(size)?).map_err(|_| error::NOT_POSITIVE)?),
        None => None,
    };
    if size.is_some_and(|size| size as u64 > call.string_len_max()) {
        return Err(error::STRING_TOO_LONG);
    }
    for number in 0..count {
        let key = [prefix, b":", number.to_string().as_bytes()].concat();
        let mut value = format!("value:{number}").into_bytes();
        if let Some(size) = size.filter(|&size| size > 0) {
            value.resize(size, 0);
        }
        let mut keys = call.keys();
        let found = keys.find(&key);
        if !found.is_some() {
            keys.set(found, &key, NewValue::from_bytes(&value), Expiry::Clear, Change::string("set"));
            call.log(&[b"SET", &key, &value]);
        }
    }
    call.reply.ok();
    Ok(Outcome::Done)
}

/// The samples of Redis 7.0, which client libraries test their parsers with.
fn protocol(call: &mut Call<'_, '_>) -> Run {
    let name = call.request.arg(2);
    let reply = &mut call.reply;
    let three = |reply: &mut crate::protocol::ReplyWriter<'_>| (0..3).for_each(|it| reply.integer(it));
    match name {
        _ if is(name, "string") => reply.bulk(b"Hello World"),
        _ if is(name, "integer") => reply.integer(12345),
        _ if is(name, "double") => reply.double(3141.0 / 1000.0),
        _ if is(name, "null") => reply.null(),
        _ if is(name, "array") => {
            reply.array(3);
            three(reply);
        }
        _ if is(name, "set") => {
            reply.set(3);
            three(reply);
        }
        _ if is(name, "map") => {
            reply.map(3);
            for it in 0..3 {
                reply.integer(it);
                reply.boolean(it == 1);
            }
        }
        _ if is(name, "bignum") => reply.big_number("1234567999999999999999999999999999999"),
        _ if is(name, "true") => reply.boolean(true),
        _ if is(name, "false") => reply.boolean(false),
        _ if is(name, "verbatim") => reply.verbatim(*b"txt", b"This is a verbatim\nstring"),
        _ if is(name, "attrib") => {
            if reply.version() == RespVersion::Resp3 {
                reply.attribute(1);
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.integer(90);
            }
            reply.bulk(b"Some real reply following the attribute");
        }
        _ if is(name, "push") => {
            if reply.version() == RespVersion::Resp2 {
                return Err(error::RESP3_ONLY);
            }
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.integer(42);
            reply.bulk(b"Some real reply following the push reply");
        }
        _ => return Err(error::PROTOCOL_SAMPLE),
    }
    Ok(Outcome::Done)
}
