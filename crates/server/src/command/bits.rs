//! Bits of strings.

mod bitfield;

pub(crate) use bitfield::{bitfield, bitfield_ro};

use super::args::{integer, is};
use super::strings::clip_range;
use super::{Call, Outcome, ReplyError, Run, error};
use crate::protocol::decode::parse_i64;

/// A bit offset within the longest string; with `width` also `#N` for the N-th integer of that width.
fn bit_offset(call: &Call<'_, '_>, arg: &[u8], width: Option<u32>) -> Result<u64, ReplyError> {
    let (digits, factor) = match (arg, width) {
        ([b'#', digits @ ..], Some(width)) => (digits, u64::from(width)),
        _ => (arg, 1),
    };
    parse_i64(digits)
        .and_then(|offset| u64::try_from(offset).ok()?.checked_mul(factor))
        .filter(|offset| offset >> 3 < call.ctx.settings.proto_max_bulk_len || call.is_replay())
        .ok_or(error::BIT_OFFSET)
}

fn byte_index(bit: u64) -> Result<usize, ReplyError> {
    usize::try_from(bit >> 3).map_err(|_| error::BIT_OFFSET)
}

/// Offset 0 is the highest bit of the first byte.
fn mask(bit: u64) -> u8 {
    0x80 >> (bit & 7)
}

pub(crate) fn setbit(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let bit = bit_offset(call, call.arg(2), None)?;
    let on = match parse_i64(call.arg(3)) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(error::BIT_VALUE),
    };
    let at = byte_index(bit)?;
    let mut keys = call.keys();
    let found = keys.find(key);
    let (len, was_on) = keys.value(found).map_or((None, false), |value| {
        let mut buffer = itoa::Buffer::new();
        let bytes = value.as_bytes(&mut buffer);
        (Some(bytes.len()), bytes.get(at).is_some_and(|byte| byte & mask(bit) != 0))
    });
    // A write that changes nothing is none; a string that grows has changed.
    if len.is_none_or(|len| len <= at) || was_on != on {
        keys.edit(found, key, |bytes| {
            if bytes.len() <= at {
                bytes.resize(at + 1, 0);
            }
            if on {
                bytes[at] |= mask(bit);
            } else {
                bytes[at] &= !mask(bit);
            }
        });
        call.ctx.engine.add_dirty(1);
        call.log_verbatim();
    }
    call.reply.integer(i64::from(was_on));
    Ok(Outcome::Done)
}

pub(crate) fn getbit(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let bit = bit_offset(call, call.arg(2), None)?;
    let at = byte_index(bit)?;
    let mut buffer = itoa::Buffer::new();
    let on = call.keys().read(key).is_some_and(|record| {
        record.value.as_bytes(&mut buffer).get(at).is_some_and(|byte| byte & mask(bit) != 0)
    });
    call.reply.integer(i64::from(on));
    Ok(Outcome::Done)
}

/// A range of bits that need not begin or end with a byte.
struct BitRange {
    first: usize,
    last: usize,
}

impl BitRange {
    /// The range that arguments from `at` on (start, end, unit; each may be missing) give of `len` bytes.
    fn parse(call: &Call<'_, '_>, at: usize, len: usize) -> Result<Option<BitRange>, ReplyError> {
        let start = call.request.arg_at(at).map_or(Ok(0), integer)?;
        let unit_is_bit = match call.request.arg_at(at + 2) {
            Some(unit) if is(unit, "bit") => true,
            Some(unit) if !is(unit, "byte") => return Err(error::SYNTAX),
            _ => false,
        };
        let end = call.request.arg_at(at + 1).map_or(Ok(-1), integer)?;
        let scale = if unit_is_bit { 1 } else { 8 };
        Ok(clip_range(start, end, len * 8 / scale)
            .map(|range| BitRange { first: range.start() * scale, last: range.end() * scale + scale - 1 }))
    }

    /// The bytes of the range, the bits outside of it as `outside`.
    fn bytes<'b>(&self, bytes: &'b [u8], outside: bool) -> impl Iterator<Item = u8> + use<'b> {
        let (first, last) = (self.first, self.last);
        let head = 0xffu8 >> (first & 7);
        let tail = 0xffu8 << (7 - (last & 7));
        bytes[first / 8..=last / 8].iter().enumerate().map(move |(at, &byte)| {
            let mut inside = 0xff;
            if at == 0 {
                inside &= head;
            }
            if at == last / 8 - first / 8 {
                inside &= tail;
            }
            if outside { byte | !inside } else { byte & inside }
        })
    }
}

pub(crate) fn bitcount(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let Some(bytes) = read(call, key) else {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    };
    if call.len() == 3 || call.len() > 5 {
        return Err(error::SYNTAX);
    }
    // Here numbers are looked at before the unit; BITPOS has it the other way round.
    call.request.args_from(2).take(2).try_for_each(|arg| integer(arg).map(|_| ()))?;
    let count = BitRange::parse(call, 2, bytes.len())?
        .map_or(0, |range| range.bytes(&bytes, false).map(|byte| byte.count_ones() as usize).sum());
    call.reply.count(count);
    Ok(Outcome::Done)
}

/// A copy of the string at a key.
fn read(call: &mut Call<'_, '_>, key: &[u8]) -> Option<Vec<u8>> {
    let mut buffer = itoa::Buffer::new();
    call.keys().read(key).map(|record| record.value.as_bytes(&mut buffer).to_vec())
}

pub(crate) fn bitpos(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let on = match integer(call.arg(2))? {
        0 => false,
        1 => true,
        _ => return Err(error::BIT_ARGUMENT),
    };
    let Some(bytes) = read(call, key) else {
        call.reply.integer(if on { -1 } else { 0 });
        return Ok(Outcome::Done);
    };
    if call.len() > 6 {
        return Err(error::SYNTAX);
    }
    let Some(range) = BitRange::parse(call, 3, bytes.len())? else {
        call.reply.integer(-1);
        return Ok(Outcome::Done);
    };
    let found = range
        .bytes(&bytes, !on)
        .map(|byte| if on { byte } else { !byte })
        .position(|byte| byte != 0)
        .and_then(|at| {
            let byte = range.bytes(&bytes, !on).nth(at)?;
            let wanted = if on { byte } else { !byte };
            Some((range.first / 8 + at) * 8 + wanted.leading_zeros() as usize)
        });
    match found {
        Some(at) => call.reply.count(at),
        // A string goes on with zeros for ever, unless an end was given.
        None if !on && call.len() < 5 => call.reply.count(range.last + 1),
        None => call.reply.integer(-1),
    }
    Ok(Outcome::Done)
}

pub(crate) fn bitop(call: &mut Call<'_, '_>) -> Run {
    let operation = call.arg(1);
    let combine: fn(u8, u8) -> u8 = match operation {
        _ if is(operation, "and") => |a, b| a & b,
        _ if is(operation, "or") => |a, b| a | b,
        _ if is(operation, "xor") => |a, b| a ^ b,
        _ if is(operation, "not") => |a, _| a,
        _ => return Err(error::SYNTAX),
    };
    let negated = is(operation, "not");
    if negated && call.len() != 4 {
        return Err(error::BITOP_NOT);
    }
    let sources: Vec<Vec<u8>> =
        call.request.args_from(3).map(|key| read(call, key).unwrap_or_default()).collect();
    let len = sources.iter().map(Vec::len).max().unwrap_or(0);
    let mut result = vec![0; len];
    for (number, source) in sources.iter().enumerate() {
        let padded = source.iter().copied().chain(std::iter::repeat(0));
        for (byte, other) in result.iter_mut().zip(padded) {
            *byte = if number == 0 { other } else { combine(*byte, other) };
        }
    }
    if negated {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    let target = call.arg(2);
    let mut keys = call.keys();
    let found = keys.find(target);
    if result.is_empty() {
        if keys.remove(found, target).is_some() {
            call.ctx.engine.add_dirty(1);
            call.log(&[b"DEL", target]);
        }
    } else {
        keys.set_raw(found, target, result);
        call.ctx.engine.add_dirty(1);
        call.log_verbatim();
    }
    call.reply.count(len);
    Ok(Outcome::Done)
}
