//! Bits of strings.

mod bitfield;

pub(crate) use bitfield::{bitfield, bitfield_ro};

use super::args::{integer, is};
use super::strings::clip_range;
use super::{Call, Outcome, ReplyError, Run, error};
use crate::engine::events::Change;
use crate::engine::object::Kind;
use crate::engine::{StringRef, WrongType};
use crate::protocol::parse_i64;

/// A bit offset within the longest string; with `width` also `#N` for the N-th integer of that width.
fn bit_offset(call: &Call<'_, '_>, arg: &[u8], width: Option<u32>) -> Result<u64, ReplyError> {
    let (digits, factor) = match (arg, width) {
        ([b'#', digits @ ..], Some(width)) => (digits, u64::from(width)),
        _ => (arg, 1),
    };
    parse_i64(digits)
        .and_then(|offset| u64::try_from(offset).ok()?.checked_mul(factor))
        .filter(|offset| offset >> 3 < call.string_len_max())
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
    let found = keys.find_kind(key, Kind::String)?;
    let (len, was_on) = keys.view(found).map_or((None, false), |entry| {
        let mut buffer = itoa::Buffer::new();
        let bytes = entry.string().as_bytes(&mut buffer);
        (Some(bytes.len()), bytes.get(at).is_some_and(|byte| byte & mask(bit) != 0))
    });
    // A write that changes nothing is none; a string that grows has changed.
    if len.is_none_or(|len| len <= at) || was_on != on {
        let len = len.unwrap_or(0).max(at + 1);
        keys.edit(found, key, len, Change::string("setbit"), |bytes| {
            if on {
                bytes[at] |= mask(bit);
            } else {
                bytes[at] &= !mask(bit);
            }
        });
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
    let on = call
        .keys()
        .read_string(key)?
        .is_some_and(|string| string.as_bytes(&mut buffer).get(at).is_some_and(|byte| byte & mask(bit) != 0));
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

    /// The whole bytes that the range touches, with the bits outside of it as `outside`: the first, those between, and the
    /// last, which is none when it is the first.
    fn parts<'b>(&self, bytes: &'b [u8], outside: bool) -> (u8, &'b [u8], Option<u8>) {
        let (first, last) = (self.first / 8, self.last / 8);
        let (mut head, tail) = (0xffu8 >> (self.first & 7), 0xffu8 << (7 - (self.last & 7)));
        let fill = |byte: u8, inside: u8| if outside { byte | !inside } else { byte & inside };
        if first == last {
            head &= tail;
            return (fill(bytes[first], head), &[], None);
        }
        (fill(bytes[first], head), &bytes[first + 1..last], Some(fill(bytes[last], tail)))
    }

    fn count_ones(&self, bytes: &[u8]) -> usize {
        let (first, between, last) = self.parts(bytes, false);
        let words = between.chunks_exact(8);
        let rest: u32 = words.remainder().iter().map(|byte| byte.count_ones()).sum();
        let words: usize = words
            .map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes")).count_ones() as usize)
            .sum();
        words + (first.count_ones() + rest + last.map_or(0, u8::count_ones)) as usize
    }

    /// The first bit of the range that is `on`, counted from the start of the string.
    fn find(&self, bytes: &[u8], on: bool) -> Option<usize> {
        let (first, between, last) = self.parts(bytes, !on);
        let wanted = |byte: u8| if on { byte } else { !byte };
        let start = self.first / 8;
        let at = |index: usize, byte: u8| index * 8 + wanted(byte).leading_zeros() as usize;
        if wanted(first) != 0 {
            return Some(at(start, first));
        }
        // What is not wanted is skipped in words.
        let dull = if on { 0 } else { 0xff };
        let skipped =
            between.chunks_exact(8).take_while(|word| word.iter().all(|&byte| byte == dull)).count() * 8;
        if let Some(found) = between[skipped..].iter().position(|&byte| byte != dull) {
            let index = skipped + found;
            return Some(at(start + 1 + index, between[index]));
        }
        last.filter(|&byte| wanted(byte) != 0).map(|byte| at(self.last / 8, byte))
    }
}

pub(crate) fn bitcount(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let Some(len) = read_len(call, key)? else {
        call.reply.integer(0);
        return Ok(Outcome::Done);
    };
    if call.len() == 3 || call.len() > 5 {
        return Err(error::SYNTAX);
    }
    // Here numbers are looked at before the unit; BITPOS has it the other way round.
    let bounds = call.request.args_from(2).take(2).map(integer).collect::<Result<Vec<i64>, _>>()?;
    if let [start, end] = bounds[..]
        && start < 0
        && end < 0
        && start > end
    {
        // As in Redis, nobody looks at the unit of an empty range that is given from the end.
        call.reply.integer(0);
        return Ok(Outcome::Done);
    }
    let range = BitRange::parse(call, 2, len)?;
    let count = range.map_or(0, |range| with_bytes(call, key, |bytes| range.count_ones(bytes)));
    call.reply.count(count);
    Ok(Outcome::Done)
}

/// The length of the string at a key, which counts as a read of it.
fn read_len(call: &mut Call<'_, '_>, key: &[u8]) -> Result<Option<usize>, WrongType> {
    Ok(call.keys().read_string(key)?.map(StringRef::len))
}

/// Calls `use_bytes` with the string at a key whose type was checked, empty when there is none.
fn with_bytes<R>(call: &mut Call<'_, '_>, key: &[u8], use_bytes: impl FnOnce(&[u8]) -> R) -> R {
    let mut buffer = itoa::Buffer::new();
    use_bytes(call.keys().view_of(key).map_or(&[][..], |entry| entry.string().as_bytes(&mut buffer)))
}

pub(crate) fn bitpos(call: &mut Call<'_, '_>) -> Run {
    let key = call.arg(1);
    let on = match integer(call.arg(2))? {
        0 => false,
        1 => true,
        _ => return Err(error::BIT_ARGUMENT),
    };
    let Some(len) = read_len(call, key)? else {
        call.reply.integer(if on { -1 } else { 0 });
        return Ok(Outcome::Done);
    };
    if call.len() > 6 {
        return Err(error::SYNTAX);
    }
    let Some(range) = BitRange::parse(call, 3, len)? else {
        call.reply.integer(-1);
        return Ok(Outcome::Done);
    };
    match with_bytes(call, key, |bytes| range.find(bytes, on)) {
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
        _ if is(operation, "not") => |a, _| !a,
        _ => return Err(error::SYNTAX),
    };
    let negated = is(operation, "not");
    if negated && call.len() != 4 {
        return Err(error::BITOP_NOT);
    }
    let request = call.request;
    let mut len = 0;
    for key in request.args_from(3) {
        len = len.max(read_len(call, key)?.unwrap_or(0));
    }
    let mut result = vec![0; len];
    for (number, key) in request.args_from(3).enumerate() {
        with_bytes(call, key, |source| {
            let (inside, behind) = result.split_at_mut(source.len());
            if number == 0 {
                inside.copy_from_slice(source);
            } else {
                inside.iter_mut().zip(source).for_each(|(byte, &other)| *byte = combine(*byte, other));
                // Behind its end a string goes on with zeros.
                behind.iter_mut().for_each(|byte| *byte = combine(*byte, 0));
            }
        });
    }
    if negated {
        result.iter_mut().for_each(|byte| *byte = combine(*byte, 0));
    }
    let target = call.arg(2);
    let mut keys = call.keys();
    let found = keys.find(target);
    if result.is_empty() {
        if keys.remove(found, target, Change::generic("del")) {
            call.log(&[b"DEL", target]);
        }
    } else {
        let mut found = found;
        if keys.view(found).is_some_and(|entry| entry.kind() != Kind::String) {
            keys.remove(found, target, Change::silent());
            found = keys.find(target);
        }
        keys.edit(found, target, len, Change::string("set"), |bytes| bytes.copy_from_slice(&result));
        let found = keys.find(target);
        keys.set_expiry(found, target, None, Change::silent());
        call.log_verbatim();
    }
    call.reply.count(len);
    Ok(Outcome::Done)
}
