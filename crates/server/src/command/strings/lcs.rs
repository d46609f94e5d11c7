//! LCS: the longest common subsequence of two strings.

use crate::command::args::{integer, is};
use crate::command::{Call, Outcome, ReplyError, Run, error};
use crate::engine::object::Kind;

#[derive(Debug, Default)]
struct Options {
    len: bool,
    indexes: bool,
    with_match_len: bool,
    match_len_min: i64,
}

impl Options {
    fn parse(call: &Call<'_, '_>) -> Result<Options, ReplyError> {
        let mut options = Options::default();
        let mut at = 3;
        while let Some(option) = call.request.arg_at(at) {
            if is(option, "idx") {
                options.indexes = true;
            } else if is(option, "len") {
                options.len = true;
            } else if is(option, "withmatchlen") {
                options.with_match_len = true;
            } else if is(option, "minmatchlen") && at + 1 < call.len() {
                options.match_len_min = integer(call.arg(at + 1))?.max(0);
                at += 1;
            } else {
                return Err(error::SYNTAX);
            }
            at += 1;
        }
        if options.indexes && options.len {
            return Err(error::LCS_BOTH);
        }
        Ok(options)
    }
}

/// A stretch of bytes that both strings have: its start in either, and its length.
struct Stretch {
    a: usize,
    b: usize,
    len: usize,
}

pub(crate) fn lcs(call: &mut Call<'_, '_>) -> Run {
    // Order matters: Redis looks at the types of both before it reads the options.
    let (a_len, b_len) = (len(call, 1)?, len(call, 2)?);
    let options = Options::parse(call)?;
    // Before anything is copied: both may be as long as a value can be.
    let cells = Lengths::cells(a_len, b_len, call.ctx.settings.proto_max_bulk_len)?;
    let (a, b) = (read(call, 1), read(call, 2));
    let table = Lengths::compute(&a, &b, cells);
    let total = table.at(a.len(), b.len());
    if options.len {
        call.reply.integer(i64::from(total));
        return Ok(Outcome::Done);
    }
    let stretches = table.stretches(&a, &b);
    if !options.indexes {
        let common: Vec<u8> =
            stretches.iter().rev().flat_map(|it| &a[it.a..it.a + it.len]).copied().collect();
        call.reply.bulk(&common);
        return Ok(Outcome::Done);
    }
    let long_enough = |it: &&Stretch| it.len as u64 >= options.match_len_min.unsigned_abs();
    call.reply.map(2);
    call.reply.bulk(b"matches");
    call.reply.array(stretches.iter().filter(long_enough).count());
    for stretch in stretches.iter().filter(long_enough) {
        call.reply.array(if options.with_match_len { 3 } else { 2 });
        for start in [stretch.a, stretch.b] {
            call.reply.array(2);
            call.reply.count(start);
            call.reply.count(start + stretch.len - 1);
        }
        if options.with_match_len {
            call.reply.count(stretch.len);
        }
    }
    call.reply.bulk(b"len");
    call.reply.integer(i64::from(total));
    Ok(Outcome::Done)
}

fn len(call: &mut Call<'_, '_>, at: usize) -> Result<usize, ReplyError> {
    let key = call.arg(at);
    match call.keys().read(key) {
        Some(entry) if entry.kind() != Kind::String => Err(error::LCS_TYPE),
        entry => Ok(entry.map_or(0, |entry| entry.string().len())),
    }
}

fn read(call: &mut Call<'_, '_>, at: usize) -> Vec<u8> {
    let key = call.arg(at);
    let mut buffer = itoa::Buffer::new();
    call.keys().view_of(key).map_or(Vec::new(), |entry| entry.string().as_bytes(&mut buffer).to_vec())
}

/// Lengths of the longest common subsequence of every pair of prefixes.
struct Lengths {
    width: usize,
    lengths: Vec<u32>,
}

impl Lengths {
    /// Cells of the table for strings of these lengths, which must not take more than `memory_max` bytes.
    fn cells(a: usize, b: usize, memory_max: u64) -> Result<usize, ReplyError> {
        let too_long = |len: usize| u32::try_from(len).map_or(true, |len| len >= u32::MAX - 1);
        if too_long(a) || too_long(b) {
            return Err(error::LCS_TOO_LONG);
        }
        let cells = (a + 1).checked_mul(b + 1).filter(|&cells| cells as u64 <= memory_max / 4);
        cells.ok_or(error::LCS_MEMORY)
    }

    /// Fills the table of `cells` cells.
    fn compute(a: &[u8], b: &[u8], cells: usize) -> Lengths {
        let width = b.len() + 1;
        let mut lengths = vec![0u32; cells];
        for (i, byte) in a.iter().enumerate() {
            let (above, row) = lengths[i * width..(i + 2) * width].split_at_mut(width);
            for (j, other) in b.iter().enumerate() {
                row[j + 1] = if byte == other { above[j] + 1 } else { above[j + 1].max(row[j]) };
            }
        }
        Lengths { width, lengths }
    }

    fn at(&self, a_len: usize, b_len: usize) -> u32 {
        self.lengths[a_len * self.width + b_len]
    }

    /// The stretches of one longest common subsequence, the last first. Where there is a choice, the second string is
    /// shortened first, as in Redis.
    fn stretches(&self, a: &[u8], b: &[u8]) -> Vec<Stretch> {
        let mut found: Vec<Stretch> = Vec::new();
        let (mut i, mut j) = (a.len(), b.len());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                i -= 1;
                j -= 1;
                match found.last_mut() {
                    Some(last) if last.a == i + 1 && last.b == j + 1 => {
                        *last = Stretch { a: i, b: j, len: last.len + 1 };
                    }
                    _ => found.push(Stretch { a: i, b: j, len: 1 }),
                }
            } else if self.at(i - 1, j) > self.at(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        found
    }
}
