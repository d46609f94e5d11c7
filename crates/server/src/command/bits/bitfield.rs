//! BITFIELD: integers of any width within a string.

use std::collections::BTreeMap;

use super::{bit_offset, byte_index};
use crate::command::args::{integer, is};
use crate::command::{Call, Outcome, ReplyError, Run, error};
use crate::engine::events::Change;
use crate::engine::object::Kind;

/// The type of a field, such as `i16` or `u8`.
#[derive(Debug, Clone, Copy)]
struct Width {
    bits: u32,
    signed: bool,
}

#[derive(Debug, Clone, Copy)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Get,
    Set(i64),
    Increment(i64),
}

#[derive(Debug, Clone, Copy)]
struct Operation {
    action: Action,
    width: Width,
    offset: u64,
    overflow: Overflow,
}

impl Width {
    fn parse(text: &[u8]) -> Result<Width, ReplyError> {
        let (signed, digits) = match text {
            [b'i', digits @ ..] => (true, digits),
            [b'u', digits @ ..] => (false, digits),
            _ => return Err(error::BITFIELD_TYPE),
        };
        let bits_max = if signed { 64 } else { 63 };
        crate::protocol::parse_i64(digits)
            .and_then(|bits| u32::try_from(bits).ok())
            .filter(|bits| (1..=bits_max).contains(bits))
            .map(|bits| Width { bits, signed })
            .ok_or(error::BITFIELD_TYPE)
    }

    fn range(self) -> (i128, i128) {
        if self.signed {
            (-(1i128 << (self.bits - 1)), (1i128 << (self.bits - 1)) - 1)
        } else {
            (0, (1i128 << self.bits) - 1)
        }
    }

    /// The lowest bits of `value`, read as this type.
    fn wrap(self, value: i128) -> i128 {
        let (_, max) = self.range();
        let span = 1i128 << self.bits;
        let low = value.rem_euclid(span);
        if low > max { low - span } else { low }
    }

    /// Brings `value` into the range; none if it is outside and that means to fail.
    fn fit(self, value: i128, overflow: Overflow) -> Option<i128> {
        let (min, max) = self.range();
        match overflow {
            _ if (min..=max).contains(&value) => Some(value),
            Overflow::Wrap => Some(self.wrap(value)),
            Overflow::Saturate => Some(value.clamp(min, max)),
            Overflow::Fail => None,
        }
    }
}

pub(crate) fn bitfield(call: &mut Call<'_, '_>) -> Run {
    execute(call, false)
}

pub(crate) fn bitfield_ro(call: &mut Call<'_, '_>) -> Run {
    execute(call, true)
}

/// Reads the operations, and the length in bytes that the writes among them need.
fn parse(call: &Call<'_, '_>, read_only: bool) -> Result<(Vec<Operation>, Option<usize>), ReplyError> {
    let request = call.request;
    let mut operations = Vec::new();
    let mut needed: Option<usize> = None;
    let mut overflow = Overflow::Wrap;
    let mut at = 2;
    while let Some(name) = request.arg_at(at) {
        let left = request.len() - at - 1;
        if is(name, "overflow") && left >= 1 {
            overflow = match request.arg(at + 1) {
                kind if is(kind, "wrap") => Overflow::Wrap,
                kind if is(kind, "sat") => Overflow::Saturate,
                kind if is(kind, "fail") => Overflow::Fail,
                _ => return Err(error::BITFIELD_OVERFLOW),
            };
            at += 2;
            continue;
        }
        let is_get = is(name, "get") && left >= 2;
        let is_set = is(name, "set") && left >= 3;
        let is_increment = is(name, "incrby") && left >= 3;
        if !(is_get || is_set || is_increment) {
            return Err(error::SYNTAX);
        }
        let width = Width::parse(request.arg(at + 1))?;
        let offset = bit_offset(call, request.arg(at + 2), Some(width.bits))?;
        let action = if is_get {
            at += 3;
            Action::Get
        } else {
            let amount = integer(request.arg(at + 3))?;
            let len = byte_index(offset + u64::from(width.bits) - 1)? + 1;
            needed = needed.max(Some(len));
            at += 4;
            if is_set { Action::Set(amount) } else { Action::Increment(amount) }
        };
        operations.push(Operation { action, width, offset, overflow });
    }
    // As in Redis, what is wrong with any of them comes first.
    if read_only && needed.is_some() {
        return Err(error::BITFIELD_RO);
    }
    Ok((operations, needed))
}

fn execute(call: &mut Call<'_, '_>, read_only: bool) -> Run {
    let key = call.arg(1);
    let (operations, needed) = parse(call, read_only)?;
    let mut buffer = itoa::Buffer::new();
    call.reply.array(operations.len());
    let Some(needed) = needed else {
        let (mut keys, reply) = call.keys_and_reply();
        let bytes = keys.read_string(key)?.map_or(&b""[..], |string| string.as_bytes(&mut buffer));
        for operation in &operations {
            let value = read(|at| bytes.get(at).copied().unwrap_or(0), operation.offset, operation.width);
            reply.integer(narrow(value));
        }
        return Ok(Outcome::Done);
    };
    let (mut keys, reply) = call.keys_and_reply();
    let found = keys.find_kind(key, Kind::String)?;
    let bytes = keys.view(found).map_or(&b""[..], |entry| entry.string().as_bytes(&mut buffer));
    let len = bytes.len().max(needed);
    let grows = len > bytes.len();
    // The bytes that differ from the string; operations see those of operations before them.
    let mut changed: BTreeMap<usize, u8> = BTreeMap::new();
    let mut written = 0;
    for operation in &operations {
        let Operation { action, width, offset, overflow } = *operation;
        let byte_at =
            |at: usize| changed.get(&at).copied().unwrap_or_else(|| bytes.get(at).copied().unwrap_or(0));
        let before = read(byte_at, offset, width);
        let (after, answer) = match action {
            Action::Get => (None, Some(before)),
            Action::Set(value) => {
                // A value for an unsigned field is given in 64 bits, whose highest may be set.
                let value = if width.signed { i128::from(value) } else { i128::from(value.cast_unsigned()) };
                let after = width.fit(value, overflow);
                (after, after.map(|_| before))
            }
            Action::Increment(amount) => {
                let after = width.fit(before + i128::from(amount), overflow);
                (after, after)
            }
        };
        if let Some(after) = after {
            written += u64::from(after != before || grows);
            let mut field: Vec<(usize, u8)> = (byte_index(offset)?
                ..=byte_index(offset + u64::from(width.bits) - 1)?)
                .map(|at| (at, byte_at(at)))
                .collect();
            write(&mut field, offset, width, after);
            changed.extend(field);
        }
        match answer {
            Some(answer) => reply.integer(narrow(answer)),
            None => reply.null(),
        }
    }
    let differs = changed.iter().any(|(&at, &byte)| bytes.get(at) != Some(&byte));
    if grows || differs {
        let change = Change::string("setbit").counted(written.max(1));
        keys.edit(found, key, len, change, |bytes| {
            for (at, byte) in changed {
                bytes[at] = byte;
            }
        });
        call.log_verbatim();
    }
    Ok(Outcome::Done)
}

fn narrow(value: i128) -> i64 {
    i64::try_from(value).expect("fields have at most 64 bits, unsigned ones 63")
}

/// The field at a bit offset.
fn read(byte_at: impl Fn(usize) -> u8, offset: u64, width: Width) -> i128 {
    let value = (offset..offset + u64::from(width.bits)).fold(0i128, |value, bit| {
        let byte = usize::try_from(bit >> 3).map_or(0, &byte_at);
        value << 1 | i128::from(byte >> (7 - (bit & 7)) & 1)
    });
    width.wrap(value)
}

/// Writes a field into the bytes that hold it, which are given with their places, in order.
fn write(bytes: &mut [(usize, u8)], offset: u64, width: Width, value: i128) {
    for number in 0..width.bits {
        let bit = offset + u64::from(number);
        let at = usize::try_from((bit >> 3) - (offset >> 3)).unwrap_or(usize::MAX);
        let Some((_, byte)) = bytes.get_mut(at) else { return };
        let mask = 0x80 >> (bit & 7);
        if value >> (width.bits - 1 - number) & 1 == 1 {
            *byte |= mask;
        } else {
            *byte &= !mask;
        }
    }
}
