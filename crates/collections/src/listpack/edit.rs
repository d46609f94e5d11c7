//! Changes of a listpack in place. Each moves the bytes after the change once.
//!
//! Every function takes the bytes of exactly one listpack. Fewer than 7 bytes count as an empty listpack. An [`At`] after the
//! last entry means the end. An outdated [`At`] is an error of the caller: the edit does not panic, but it may leave bytes that
//! are not a valid listpack.

use std::fmt;

use super::entry::{self, ELEMENTS_UNKNOWN, EMPTY_LEN, END, Encoded, HEADER_LEN};
use super::{At, Item, View};
use crate::buffer::{grow, make_place};

/// The largest listpack an edit may make, in bytes: `LISTPACK_MAX_SAFETY_LIMIT` of Redis 7.0 (`listpack.c`).
pub const TOTAL_BYTES_MAX: usize = 1 << 30;

const EMPTY: [u8; EMPTY_LEN] = [7, 0, 0, 0, 0, 0, END];

/// An edit would make a listpack longer than [`TOTAL_BYTES_MAX`]. Nothing was changed; a retry cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    /// The number of bytes it would have.
    pub total_bytes: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listpack would have {} bytes, more than the {TOTAL_BYTES_MAX} allowed", self.total_bytes)
    }
}

impl std::error::Error for TooLarge {}

/// An empty listpack.
#[must_use]
pub fn new() -> Vec<u8> {
    EMPTY.to_vec()
}

/// Makes `list` an empty listpack and keeps its capacity.
pub fn clear_into(list: &mut Vec<u8>) {
    list.clear();
    list.extend_from_slice(&EMPTY);
}

/// Number of bytes by which an insertion of `item` makes a listpack longer.
#[inline]
#[must_use]
pub fn encoded_len(item: Item<'_>) -> usize {
    Encoded::of(item).len()
}

/// Adds `item` after the last element.
/// # Errors
/// [`TooLarge`], and nothing is changed.
#[inline]
pub fn push_back(list: &mut Vec<u8>, item: Item<'_>) -> Result<(), TooLarge> {
    let entry = Encoded::of(item);
    ensure(list);
    check_growth(list, 0, entry.len())?;
    let elements = elements(list);
    grow(list, entry.len());
    list.pop();
    entry.push(list);
    list.push(END);
    write_header(list, elements.map(|elements| elements + 1));
    Ok(())
}

/// Adds `item` before the first element.
/// # Errors
/// [`TooLarge`], and nothing is changed.
pub fn push_front(list: &mut Vec<u8>, item: Item<'_>) -> Result<(), TooLarge> {
    insert_before(list, At(HEADER_LEN), item).map(|_| ())
}

/// Inserts `item` before the element at `at` and returns where it is, which is `at`.
/// # Errors
/// [`TooLarge`], and nothing is changed.
pub fn insert_before(list: &mut Vec<u8>, at: At, item: Item<'_>) -> Result<At, TooLarge> {
    ensure(list);
    let at = at.0.min(end(list));
    let elements = elements(list);
    splice(list, at, 0, &Encoded::of(item))?;
    write_header(list, elements.map(|elements| elements + 1));
    Ok(At(at))
}

/// Inserts `item` after the element at `at` and returns where it is.
/// # Errors
/// [`TooLarge`], and nothing is changed.
pub fn insert_after(list: &mut Vec<u8>, at: At, item: Item<'_>) -> Result<At, TooLarge> {
    let next = View::trusted(list).next(at).unwrap_or(At(usize::MAX));
    insert_before(list, next, item)
}

/// Puts `item` in the place of the element at `at`; the new one is at `at` too. No change if `at` is the end.
/// # Errors
/// [`TooLarge`], and nothing is changed.
pub fn replace(list: &mut Vec<u8>, at: At, item: Item<'_>) -> Result<(), TooLarge> {
    let Some(next) = entry::end(list, at.0).filter(|next| *next <= end(list)) else { return Ok(()) };
    let elements = elements(list);
    splice(list, at.0, next - at.0, &Encoded::of(item))?;
    write_header(list, elements);
    Ok(())
}

/// Removes up to `count` elements from the one at `at` on and returns the place of the element that followed them.
/// `None` if there is none.
pub fn remove(list: &mut Vec<u8>, at: At, count: usize) -> Option<At> {
    remove_counted(list, at, count);
    (at.0 < end(list)).then_some(at)
}

/// Removes up to `count` elements from the one with index `index` on and returns how many there were. Indexes start at 0;
/// -1 is the last element.
pub fn remove_range(list: &mut Vec<u8>, index: isize, count: usize) -> usize {
    match View::trusted(list).seek(index) {
        Some(at) => remove_counted(list, at, count),
        None => 0,
    }
}

/// Adds all elements of `other` after the last one.
/// # Errors
/// [`TooLarge`], and nothing is changed.
pub fn append(list: &mut Vec<u8>, other: View<'_>) -> Result<(), TooLarge> {
    let Some(added) = other.bytes().get(HEADER_LEN..) else { return Ok(()) };
    ensure(list);
    check_growth(list, 0, added.len().saturating_sub(1))?;
    let elements = elements(list).zip(other.elements_known()).map(|(own, others)| own + others);
    grow(list, added.len());
    list.pop();
    list.extend_from_slice(added);
    write_header(list, elements);
    Ok(())
}

/// Moves the elements from index `index` on to a new listpack, which is empty if there are no more than `index` elements.
/// `list` keeps its capacity.
#[must_use]
pub fn split_off(list: &mut Vec<u8>, index: usize) -> Vec<u8> {
    let at = isize::try_from(index).ok().and_then(|index| View::trusted(list).seek(index));
    let Some(At(at)) = at else { return new() };
    let elements = elements(list);
    let mut tail = Vec::with_capacity(HEADER_LEN + (list.len() - at));
    tail.extend_from_slice(&EMPTY[..HEADER_LEN]);
    tail.extend_from_slice(&list[at..]);
    list.truncate(at);
    list.push(END);
    write_header(list, Some(index));
    match elements {
        Some(elements) => write_header(&mut tail, elements.checked_sub(index)),
        None => {
            write_header(&mut tail, None);
            recount(&mut tail);
        }
    }
    tail
}

/// Counts the elements, writes their number to the header if it fits there, and returns it.
///
/// The header of a listpack that had 65535 elements says "unknown" until this is called, as in Redis until `lpLength` is.
pub fn recount(list: &mut [u8]) -> usize {
    let count = View::trusted(list).len();
    write_header(list, Some(count));
    count
}

/// Writes to `list` a listpack of elements that are encoded already, each without a backlen. What was there is gone.
pub(crate) fn write_encoded<'a>(list: &mut Vec<u8>, elements: impl Iterator<Item = &'a [u8]>) {
    list.clear();
    list.extend_from_slice(&EMPTY[..HEADER_LEN]);
    let mut count = 0;
    for content in elements {
        let (backlen, backlen_len) = entry::backlen_of(content.len());
        list.extend_from_slice(content);
        list.extend_from_slice(&backlen[..backlen_len]);
        count += 1;
    }
    list.push(END);
    write_header(list, Some(count));
}

fn remove_counted(list: &mut Vec<u8>, at: At, count: usize) -> usize {
    let list_end = end(list);
    let (mut removed, mut until) = (0, at.0);
    while removed < count && until < list_end {
        let Some(next) = entry::end(list, until).filter(|next| *next <= list_end) else { break };
        (removed, until) = (removed + 1, next);
    }
    if removed > 0 {
        let elements = elements(list);
        list.drain(at.0..until);
        write_header(list, elements.map(|elements| elements.saturating_sub(removed)));
    }
    removed
}

/// Puts `entry` in the place of the `removed` bytes at `at`. The caller writes the header.
fn splice(list: &mut Vec<u8>, at: usize, removed: usize, entry: &Encoded<'_>) -> Result<(), TooLarge> {
    let added = entry.len();
    check_growth(list, removed, added)?;
    entry.write(make_place(list, at, removed, added));
    Ok(())
}

fn check_growth(list: &[u8], removed: usize, added: usize) -> Result<(), TooLarge> {
    let total_bytes = list.len().saturating_sub(removed).saturating_add(added);
    if added > removed && total_bytes > TOTAL_BYTES_MAX { Err(TooLarge { total_bytes }) } else { Ok(()) }
}

fn ensure(list: &mut Vec<u8>) {
    if list.len() < EMPTY_LEN {
        clear_into(list);
    }
}

fn end(list: &[u8]) -> usize {
    View::trusted(list).end()
}

fn elements(list: &[u8]) -> Option<usize> {
    View::trusted(list).elements_known()
}

/// Writes number of bytes and of elements; a number that is unknown or does not fit is written as unknown.
#[inline]
fn write_header(list: &mut [u8], elements: Option<usize>) {
    // Longer ones than `TOTAL_BYTES_MAX` come from files only, whose header says their length in 32 bits.
    let total_bytes = u32::try_from(list.len()).unwrap_or(u32::MAX);
    let elements = elements.and_then(|elements| u16::try_from(elements).ok()).unwrap_or(ELEMENTS_UNKNOWN);
    if let Some((total, rest)) = list.split_first_chunk_mut::<4>()
        && let Some(count) = rest.first_chunk_mut::<2>()
    {
        *total = total_bytes.to_le_bytes();
        *count = elements.to_le_bytes();
    }
}
