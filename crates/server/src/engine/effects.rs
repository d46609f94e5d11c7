//! What a command changed, as the commands that replay it: the content of the log and of the replication stream.
//!
//! Effects are deterministic (absolute times, results instead of increments of floats, deletions instead of expiry) and
//! use only commands and options that Redis 7.0 knows. They are encoded straight into bytes.
//!
//! A *unit* is one command, or one transaction from MULTI to EXEC. A unit with more than one effect is wrapped in MULTI
//! and EXEC, so that a reader applies all of it or nothing; one effect stands alone, none leaves no bytes.

use crate::protocol::encode::write_command;

/// Collects the effects of one turn of the executor.
///
/// Invariant: between units [`EffectBuffer::bytes`] is a sequence of whole commands, so it may be cut off, framed and
/// cleared there and only there.
#[derive(Debug, Default)]
pub struct EffectBuffer {
    bytes: Vec<u8>,
    /// Commands in `bytes`, including SELECT, MULTI and EXEC.
    commands: u64,
    /// Database in which a reader of the stream is after `bytes`; none at the start of a segment.
    selected: Option<u32>,
    unit: Option<Unit>,
    disabled: bool,
}

#[derive(Debug)]
struct Unit {
    start: usize,
    effects: u64,
    wrapped: bool,
    /// Whether more than one effect is to be wrapped.
    atomic: bool,
}

/// Capacity that a buffer keeps whatever it is used for, in bytes.
const CAPACITY_KEPT: usize = 1 << 20;

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

impl EffectBuffer {
    /// An empty buffer at the start of a segment.
    pub fn new() -> EffectBuffer {
        EffectBuffer::default()
    }

    /// A buffer that ignores everything: for replay, and for stores without a log.
    pub(crate) fn disabled() -> EffectBuffer {
        EffectBuffer { disabled: true, ..EffectBuffer::default() }
    }

    /// The encoded effects since the last [`EffectBuffer::clear`].
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether there is nothing to log.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Length of [`EffectBuffer::bytes`].
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Number of commands in [`EffectBuffer::bytes`], SELECT, MULTI and EXEC included.
    #[cfg(test)]
    pub(crate) fn commands(&self) -> u64 {
        self.commands
    }

    /// Forgets the bytes and keeps their memory; the selected database stays known.
    pub fn clear(&mut self) {
        debug_assert!(self.unit.is_none(), "units are not cut");
        // An unusually large turn does not keep its memory: it goes in halves, so that a steady load allocates nothing.
        if self.bytes.capacity() > CAPACITY_KEPT && self.bytes.len() < self.bytes.capacity() / 8 {
            self.bytes.truncate(0);
            self.bytes.shrink_to(self.bytes.capacity() / 2);
        }
        self.bytes.clear();
        self.commands = 0;
    }

    /// Gives the bytes away.
    pub fn take(&mut self) -> Vec<u8> {
        debug_assert!(self.unit.is_none(), "units are not cut");
        self.commands = 0;
        std::mem::take(&mut self.bytes)
    }

    /// Makes the next effect begin with SELECT: a reader starts every segment in database 0 with a fresh client.
    pub fn reset_database(&mut self) {
        self.selected = None;
    }

    /// Begins a unit. With `atomic` its effects are wrapped in MULTI and EXEC when there is more than one.
    pub(crate) fn begin_unit(&mut self, atomic: bool) {
        debug_assert!(self.unit.is_none(), "units do not nest");
        self.unit = Some(Unit { start: self.bytes.len(), effects: 0, wrapped: false, atomic });
    }

    /// Ends the unit.
    pub(crate) fn end_unit(&mut self) {
        if self.unit.take().is_some_and(|unit| unit.wrapped) {
            self.bytes.extend_from_slice(EXEC);
            self.commands += 1;
        }
    }

    /// Adds one effect, a command to be run in database `db`.
    pub(crate) fn push(&mut self, db: u32, args: &[&[u8]]) {
        if self.start_effect(db) {
            write_command(&mut self.bytes, args);
        }
    }

    /// Adds one effect given as an iterator over its arguments.
    pub(crate) fn push_iter<'a>(&mut self, db: u32, args: impl ExactSizeIterator<Item = &'a [u8]>) {
        if self.start_effect(db) {
            use crate::protocol::{ReplyWriter, RespVersion};
            let mut writer = ReplyWriter::new(&mut self.bytes, RespVersion::Resp2);
            writer.array(args.len());
            for arg in args {
                writer.bulk(arg);
            }
        }
    }

    fn start_effect(&mut self, db: u32) -> bool {
        if self.disabled {
            return false;
        }
        if let Some(unit) = &mut self.unit {
            unit.effects += 1;
            if unit.effects == 2 && unit.atomic {
                // Order matters: MULTI goes before the SELECT of the first effect, as in the stream of Redis.
                self.bytes.splice(unit.start..unit.start, MULTI.iter().copied());
                self.commands += 1;
                unit.wrapped = true;
            }
        }
        if self.selected != Some(db) {
            self.selected = Some(db);
            let mut number = itoa::Buffer::new();
            write_command(&mut self.bytes, &[b"SELECT", number.format(db).as_bytes()]);
            self.commands += 1;
        }
        self.commands += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs units of (db, command) and returns the stream as words.
    fn stream(units: &[&[(u32, &str)]]) -> String {
        let mut effects = EffectBuffer::new();
        for unit in units {
            effects.begin_unit(true);
            for (db, command) in *unit {
                effects.push(*db, &command.split(' ').map(str::as_bytes).collect::<Vec<_>>());
            }
            effects.end_unit();
        }
        let mut decoder = crate::protocol::Decoder::new();
        let mut words = Vec::new();
        let mut rest = effects.bytes();
        while !rest.is_empty() {
            let step = decoder.decode(rest, &crate::protocol::DecodeLimits::LOG).expect("whole commands");
            let request = step.request.expect("whole commands");
            words.push(request.args_from(0).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" "));
            rest = &rest[step.consumed..];
        }
        assert_eq!(effects.commands(), words.len() as u64);
        words.join("; ")
    }

    #[test]
    fn select_precedes_the_first_effect_and_every_change_of_database() {
        assert_eq!(stream(&[&[(0, "DEL a")]]), "SELECT 0; DEL a");
        assert_eq!(
            stream(&[&[(3, "DEL a")], &[(3, "DEL b")], &[(0, "DEL c")]]),
            "SELECT 3; DEL a; DEL b; SELECT 0; DEL c"
        );
    }

    #[test]
    fn units_with_several_effects_are_wrapped_and_others_are_not() {
        assert_eq!(stream(&[&[], &[(0, "DEL a")], &[]]), "SELECT 0; DEL a");
        assert_eq!(
            stream(&[&[(0, "DEL a"), (1, "DEL b")], &[(1, "DEL c")]]),
            "MULTI; SELECT 0; DEL a; SELECT 1; DEL b; EXEC; DEL c"
        );
    }

    #[test]
    fn a_new_segment_begins_with_select() {
        let mut effects = EffectBuffer::new();
        effects.push(0, &[b"DEL", b"a"]);
        assert_eq!(effects.take(), b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*2\r\n$3\r\nDEL\r\n$1\r\na\r\n");
        effects.push(0, &[b"DEL", b"a"]);
        assert_eq!(effects.commands(), 1);
        effects.clear();
        effects.reset_database();
        effects.push(0, &[b"DEL", b"a"]);
        assert_eq!(effects.commands(), 2);
    }

    #[test]
    fn the_memory_of_a_large_turn_is_given_back() {
        let mut effects = EffectBuffer::new();
        effects.push(0, &[b"SET", b"a", &vec![0; 64 << 20]]);
        effects.clear();
        for _ in 0..10 {
            effects.push(0, &[b"SET", b"a", b"b"]);
            effects.clear();
        }
        assert!(effects.bytes.capacity() <= 2 * CAPACITY_KEPT, "{}", effects.bytes.capacity());
    }

    #[test]
    fn a_disabled_buffer_stays_empty() {
        let mut effects = EffectBuffer::disabled();
        effects.begin_unit(true);
        effects.push(0, &[b"DEL", b"a"]);
        effects.push(0, &[b"DEL", b"b"]);
        effects.end_unit();
        assert!(effects.is_empty());
    }
}
