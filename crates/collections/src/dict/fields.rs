//! A leaf of a dict: fields, and their values, in the order of their hashes.
//!
//! ```text
//!  bytes   entry 0 │ … │ entry n-1 │ hash 0 │ … │ hash n-1 │ offset 0 │ … │ offset n-1
//!          each as long as it is     u32, little-endian      u16, little-endian: 15 bits of offset, LONG
//!
//!  entry   of a set                        field
//!          of a hash                       length of the field (1 or 2 bytes) │ field │ value
//!          LONG: field, value, or both     which of them (1 byte) │ the other one
//!          are in `long`
//! ```
//!
//! One allocation holds everything but the long strings. The hashes are side by side, so that a lookup compares several at
//! once, and an entry ends where the next one begins, so that a member of a set takes 6 bytes more than itself.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use crate::memory::class_size;
use crate::tree::{Bias, Leaf};

/// Length from which a field or value has an allocation of its own, which copies of the leaf share. There, the 40 bytes
/// that this costs are below 4 %.
pub(super) const LONG_LEN_MIN: usize = 1024;

/// Most bytes of a leaf, and most entries, before it is split. Leaves of half the size take 5 % more memory, of twice the
/// size 2 to 3 % less; there is no such difference in time, but a change of a shared leaf copies all of it. Measured with a
/// million fields of 16 bytes, without values and with values of 32 bytes.
const BYTES_MAX: usize = 2048;
const ENTRIES_MAX: usize = 128;
/// Two neighbours with no more bytes and entries than this become one.
const BYTES_JOINED_MAX: usize = BYTES_MAX / 4 * 3;
const ENTRIES_JOINED_MAX: usize = ENTRIES_MAX / 4 * 3;
/// A leaf that is built from entries in order gets as many as fit in this: a size class that leaves room for inserts.
const BYTES_BUILT_MAX: usize = BYTES_MAX / 8 * 7;
const ENTRIES_BUILT_MAX: usize = ENTRIES_MAX / 8 * 7;

const HASH_LEN: usize = size_of::<u32>();
const OFFSET_LEN: usize = size_of::<u16>();
const INDEX_LEN: usize = HASH_LEN + OFFSET_LEN;

/// Bit of an offset: the field, the value, or both are long.
const LONG: u16 = 1 << 15;
/// Bits of the first byte of an entry with a long string.
const LONG_FIELD: u8 = 1;
const LONG_VALUE: u8 = 2;
/// Bit of the first of two bytes of a length.
const TWO_BYTES: u8 = 0x80;

// An entry is added before a full leaf is split.
const _: () = assert!(BYTES_MAX + 2 * LONG_LEN_MIN < LONG as usize, "every offset must fit in 15 bits");
const _: () = assert!(LONG_LEN_MIN <= 1 << 15, "the length of a short field must fit in 15 bits");

/// Why offsets and lengths can be cast.
const OFFSETS_FIT: &str = "a leaf is far shorter than 32 KiB";

/// Fields and values in the order of their hashes. See the [module](self).
#[derive(Debug)]
pub(super) struct Fields {
    bytes: Vec<u8>,
    long: Option<Box<Long>>,
    len: u16,
    with_values: bool,
}

/// The strings that are not among the bytes, in the order of their entries, each field before its value.
#[derive(Debug, Clone, Default)]
struct Long {
    strings: Vec<Arc<[u8]>>,
    /// Bytes of their allocations.
    bytes: usize,
}

impl Long {
    fn insert(&mut self, at: usize, string: &[u8]) {
        self.bytes += allocated(string.len());
        self.strings.insert(at, Arc::from(string));
    }

    fn remove(&mut self, at: usize) {
        self.bytes -= allocated(self.strings.remove(at).len());
    }

    fn replace(&mut self, at: usize, string: &[u8]) {
        let old = &mut self.strings[at];
        self.bytes = self.bytes - allocated(old.len()) + allocated(string.len());
        match Arc::get_mut(old) {
            Some(old) if old.len() == string.len() => old.copy_from_slice(string),
            _ => *old = Arc::from(string),
        }
    }

    fn split_off(&mut self, at: usize) -> Long {
        let strings = self.strings.split_off(at);
        self.strings.shrink_to_fit();
        let bytes = strings.iter().map(|string| allocated(string.len())).sum();
        self.bytes -= bytes;
        Long { strings, bytes }
    }

    fn memory_bytes(&self) -> usize {
        class_size(size_of::<Long>())
            + class_size(self.strings.capacity() * size_of::<Arc<[u8]>>())
            + self.bytes
    }
}

/// What the allocation of a long string takes, with its two counts.
fn allocated(len: usize) -> usize {
    class_size(2 * size_of::<usize>() + len)
}

/// An entry as it is written.
struct Entry<'a> {
    head: [u8; 2],
    head_len: usize,
    /// The field and the value, as far as they are among the bytes.
    field: &'a [u8],
    value: &'a [u8],
    /// Which of them are long.
    long: u8,
}

impl<'a> Entry<'a> {
    fn new(field: &'a [u8], value: &'a [u8], with_values: bool) -> Entry<'a> {
        let is_long = |string: &[u8], bit| if string.len() >= LONG_LEN_MIN { bit } else { 0 };
        let long = is_long(field, LONG_FIELD) | is_long(value, LONG_VALUE);
        if long != 0 {
            return Entry {
                head: [long, 0],
                head_len: 1,
                field: if long & LONG_FIELD == 0 { field } else { &[] },
                value: if long & LONG_VALUE == 0 { value } else { &[] },
                long,
            };
        }
        if !with_values {
            return Entry { head: [0; 2], head_len: 0, field, value: &[], long };
        }
        let [high, low] = narrow(field.len()).to_be_bytes();
        let (head, head_len) =
            if field.len() < usize::from(TWO_BYTES) { ([low, 0], 1) } else { ([high | TWO_BYTES, low], 2) };
        Entry { head, head_len, field, value, long }
    }

    fn len(&self) -> usize {
        self.head_len + self.field.len() + self.value.len()
    }

    /// Writes it to the start of `place`.
    fn write(&self, place: &mut [u8]) {
        let (head, rest) = place.split_at_mut(self.head_len);
        head.copy_from_slice(&self.head[..self.head_len]);
        let (field, rest) = rest.split_at_mut(self.field.len());
        field.copy_from_slice(self.field);
        rest[..self.value.len()].copy_from_slice(self.value);
    }
}

/// An offset or length as it is stored.
fn narrow(len: usize) -> u16 {
    u16::try_from(len).expect(OFFSETS_FIT)
}

/// Where the field of an entry without long strings is: its start, its end.
#[inline]
fn field_range(entry: &[u8]) -> Range<usize> {
    match entry[0] {
        len if len < TWO_BYTES => 1..1 + usize::from(len),
        high => 2..2 + usize::from(u16::from_be_bytes([high & !TWO_BYTES, entry[1]])),
    }
}

/// How full a leaf will be that is built from entries in order.
pub(super) struct Fill {
    bytes: usize,
    entries: usize,
}

impl Fields {
    /// No fields.
    pub(super) fn new(with_values: bool) -> Fields {
        Fields { bytes: Vec::new(), long: None, len: 0, with_values }
    }

    /// Length of the entries.
    #[inline]
    fn entries_len(&self) -> usize {
        self.bytes.len() - usize::from(self.len) * INDEX_LEN
    }

    #[inline]
    fn hashes(&self) -> &[[u8; HASH_LEN]] {
        let start = self.entries_len();
        self.bytes[start..start + usize::from(self.len) * HASH_LEN].as_chunks().0
    }

    #[inline]
    fn offsets(&self) -> &[[u8; OFFSET_LEN]] {
        self.bytes[self.entries_len() + usize::from(self.len) * HASH_LEN..].as_chunks().0
    }

    fn offsets_mut(&mut self) -> &mut [[u8; OFFSET_LEN]] {
        let start = self.entries_len() + usize::from(self.len) * HASH_LEN;
        self.bytes[start..].as_chunks_mut().0
    }

    /// The hash of an entry.
    #[inline]
    pub(super) fn hash(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.hashes()[at])
    }

    /// Number of entries whose hash is below this one: the place of the first that has it or a higher one.
    #[inline]
    pub(super) fn lower_bound(&self, hash: u32) -> usize {
        // Not a binary search: these loads do not wait for each other, and the compiler compares several at once.
        let below: u32 = self.hashes().iter().map(|it| u32::from(u32::from_le_bytes(*it) < hash)).sum();
        below as usize
    }

    /// Where the bytes of an entry are, and whether a string of it is elsewhere.
    #[inline]
    fn place(&self, at: usize) -> (Range<usize>, bool) {
        let offsets = self.offsets();
        let start = u16::from_le_bytes(offsets[at]);
        let end = match offsets.get(at + 1) {
            Some(end) => usize::from(u16::from_le_bytes(*end) & !LONG),
            None => self.entries_len(),
        };
        (usize::from(start & !LONG)..end, start & LONG != 0)
    }

    /// Number of long strings of the entries before this one: the place of its own.
    fn long_before(&self, at: usize) -> usize {
        let long = self.offsets()[..at].iter().map(|offset| u16::from_le_bytes(*offset));
        long.filter(|offset| offset & LONG != 0)
            .map(|offset| self.bytes[usize::from(offset & !LONG)].count_ones() as usize)
            .sum()
    }

    /// An entry: field and value. `long_at` tells the place of its first long string.
    #[inline]
    fn entry_with(&self, at: usize, long_at: impl FnOnce() -> usize) -> (&[u8], &[u8]) {
        let (range, is_long) = self.place(at);
        let entry = &self.bytes[range];
        if is_long {
            return self.long_entry(entry, long_at());
        }
        if !self.with_values {
            return (entry, &[]);
        }
        let field = field_range(entry);
        (&entry[field.clone()], &entry[field.end..])
    }

    #[cold]
    fn long_entry<'a>(&'a self, entry: &'a [u8], long_at: usize) -> (&'a [u8], &'a [u8]) {
        let strings: &[Arc<[u8]>] = self.long.as_ref().map_or(&[], |long| &long.strings[long_at..]);
        let short = &entry[1..];
        match entry[0] {
            LONG_FIELD => (&strings[0], short),
            LONG_VALUE => (short, &strings[0]),
            _ => (&strings[0], &strings[1]),
        }
    }

    /// An entry: field and value; the value is empty in a set.
    #[inline]
    pub(super) fn entry(&self, at: usize) -> (&[u8], &[u8]) {
        self.entry_with(at, || self.long_before(at))
    }

    /// All entries in order.
    pub(super) fn entries(&self) -> Entries<'_> {
        Entries { fields: self, at: 0, long_at: 0 }
    }

    /// Where a field is, or else the place behind all entries with its hash, where it belongs.
    #[inline]
    pub(super) fn find(&self, hash: u32, field: &[u8]) -> Result<usize, usize> {
        let mut at = self.lower_bound(hash);
        let hashes = self.hashes();
        while hashes.get(at).is_some_and(|it| u32::from_le_bytes(*it) == hash) {
            if self.entry(at).0 == field {
                return Ok(at);
            }
            at += 1;
        }
        Err(at)
    }

    /// Whether the leaf before this one may also have entries with this hash.
    #[inline]
    pub(super) fn continues(&self, hash: u32) -> bool {
        self.len > 0 && self.hash(0) == hash
    }

    /// Adds an entry at the place where it belongs.
    pub(super) fn insert(&mut self, at: usize, hash: u32, field: &[u8], value: &[u8]) {
        let entry = Entry::new(field, value, self.with_values);
        if entry.long != 0 {
            let mut long_at = self.long_before(at);
            let long = self.long.get_or_insert_default();
            for (bit, string) in [(LONG_FIELD, field), (LONG_VALUE, value)] {
                if entry.long & bit != 0 {
                    long.insert(long_at, string);
                    long_at += 1;
                }
            }
        }
        let start = if at < usize::from(self.len) { self.place(at).0.start } else { self.entries_len() };
        self.open(at, start, entry.len());
        entry.write(&mut self.bytes[start..]);
        let hash_at = self.entries_len() + at * HASH_LEN;
        self.bytes[hash_at..hash_at + HASH_LEN].copy_from_slice(&hash.to_le_bytes());
        let long_bit = if entry.long == 0 { 0 } else { LONG };
        let offset = narrow(start) | long_bit;
        self.offsets_mut()[at] = offset.to_le_bytes();
        self.move_offsets(at + 1, |offset| offset + narrow(entry.len()));
    }

    /// Makes room for an entry of a length and for its place in the index; the offsets stay as they are.
    fn open(&mut self, at: usize, start: usize, len: usize) {
        let entries = self.entries_len();
        let count = usize::from(self.len);
        let end = self.bytes.len();
        self.reserve(len + INDEX_LEN);
        self.bytes.resize(end + len + INDEX_LEN, 0);
        let offsets = entries + count * HASH_LEN;
        // Order matters: each part moves to where the one behind it has been.
        let (hash_at, offset_at) = (entries + at * HASH_LEN, offsets + at * OFFSET_LEN);
        self.bytes.copy_within(offset_at..end, offset_at + len + INDEX_LEN);
        self.bytes.copy_within(hash_at..offset_at, hash_at + len + HASH_LEN);
        self.bytes.copy_within(start..hash_at, start + len);
        self.len += 1;
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, at: usize) {
        let (range, is_long) = self.place(at);
        if is_long {
            let long_at = self.long_before(at);
            let count = self.bytes[range.start].count_ones();
            if let Some(long) = &mut self.long {
                (0..count).for_each(|_| long.remove(long_at));
                if long.strings.is_empty() {
                    self.long = None;
                }
            }
        }
        let entries = self.entries_len();
        let hash_at = entries + at * HASH_LEN;
        let offset_at = entries + usize::from(self.len) * HASH_LEN + at * OFFSET_LEN;
        let (len, end) = (range.len(), self.bytes.len());
        // Order matters: each part moves to where the one before it has been.
        self.bytes.copy_within(range.end..hash_at, range.start);
        self.bytes.copy_within(hash_at + HASH_LEN..offset_at, hash_at - len);
        self.bytes.copy_within(offset_at + OFFSET_LEN..end, offset_at - len - HASH_LEN);
        self.bytes.truncate(end - len - INDEX_LEN);
        self.len -= 1;
        self.move_offsets(at, |offset| offset - narrow(len));
        self.release();
    }

    /// Gives an entry another value. In a set, nothing changes.
    pub(super) fn set_value(&mut self, at: usize, value: &[u8]) {
        if !self.with_values {
            return;
        }
        let (range, is_long) = self.place(at);
        let is_value_long = value.len() >= LONG_LEN_MIN;
        if is_long && is_value_long && self.bytes[range.start] & LONG_VALUE != 0 {
            let field_count = usize::from(self.bytes[range.start] & LONG_FIELD);
            let long_at = self.long_before(at) + field_count;
            if let Some(long) = &mut self.long {
                long.replace(long_at, value);
            }
        } else if is_long || is_value_long {
            let (hash, field) = (self.hash(at), self.entry(at).0.to_vec());
            self.remove(at);
            self.insert(at, hash, &field, value);
        } else {
            let start = range.start + field_range(&self.bytes[range.clone()]).end;
            self.resize(at, start..range.end, value.len());
            self.bytes[start..start + value.len()].copy_from_slice(value);
        }
    }

    /// Makes the end of an entry longer or shorter.
    fn resize(&mut self, at: usize, range: Range<usize>, len: usize) {
        let (end, old) = (self.bytes.len(), range.len());
        match len.cmp(&old) {
            Ordering::Equal => {}
            Ordering::Greater => {
                let more = len - old;
                self.reserve(more);
                self.bytes.resize(end + more, 0);
                self.bytes.copy_within(range.end..end, range.end + more);
                self.move_offsets(at + 1, |offset| offset + narrow(more));
            }
            Ordering::Less => {
                let less = old - len;
                self.bytes.copy_within(range.end..end, range.end - less);
                self.bytes.truncate(end - less);
                self.move_offsets(at + 1, |offset| offset - narrow(less));
                self.release();
            }
        }
    }

    /// Changes the offsets from a place on. What `to` adds or takes away leaves [`LONG`] alone.
    #[inline]
    fn move_offsets(&mut self, from: usize, to: impl Fn(u16) -> u16) {
        for offset in &mut self.offsets_mut()[from..] {
            *offset = to(u16::from_le_bytes(*offset)).to_le_bytes();
        }
    }

    /// Makes sure that there is room for some more bytes: as many as the allocator gives anyway.
    fn reserve(&mut self, more: usize) {
        let len = self.bytes.len() + more;
        if len > self.bytes.capacity() {
            self.bytes.reserve_exact(class_size(len) - self.bytes.len());
        }
    }

    /// Gives back unused bytes when they are many: more than what the next smaller size class or two would save, so that
    /// a leaf that shrinks and grows by turns keeps what it has.
    fn release(&mut self) {
        let capacity = self.bytes.capacity();
        if capacity - self.bytes.len() > capacity / 4 {
            self.bytes.shrink_to(class_size(self.bytes.len()));
        }
    }

    /// Where the leaf is split: half of its bytes, but at least one entry on each side.
    fn middle(&self) -> usize {
        let half = self.bytes.len() / 2;
        let is_before = |at: usize| self.place(at).0.end + (at + 1) * INDEX_LEN <= half;
        let count = usize::from(self.len);
        (0..count).take_while(|at| is_before(*at)).count().clamp(1, count - 1)
    }

    /// A leaf from parts of others: entries, hashes, offsets.
    fn join(&self, parts: [&[u8]; 6], len: u16, long: Option<Box<Long>>) -> Fields {
        let mut bytes = Vec::with_capacity(class_size(parts.iter().map(|part| part.len()).sum()));
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        Fields { bytes, long, len, with_values: self.with_values }
    }

    /// Entries, hashes and offsets.
    fn parts(&self) -> (&[u8], &[u8], &[u8]) {
        let entries = self.entries_len();
        let (entries, index) = self.bytes.split_at(entries);
        let (hashes, offsets) = index.split_at(usize::from(self.len) * HASH_LEN);
        (entries, hashes, offsets)
    }
}

impl Clone for Fields {
    fn clone(&self) -> Self {
        // A copy is made to be changed, and its allocation is as large as the size class in any case.
        let mut bytes = Vec::with_capacity(class_size(self.bytes.len()));
        bytes.extend_from_slice(&self.bytes);
        Fields { bytes, long: self.long.clone(), len: self.len, with_values: self.with_values }
    }
}

impl Leaf for Fields {
    type Key = u32;

    #[inline]
    fn len(&self) -> usize {
        usize::from(self.len)
    }

    #[inline]
    fn key(&self) -> u32 {
        self.hash(0)
    }

    fn memory_bytes(&self) -> usize {
        let bytes = if self.bytes.capacity() == 0 { 0 } else { class_size(self.bytes.capacity()) };
        bytes + self.long.as_ref().map_or(0, |long| long.memory_bytes())
    }

    fn is_full(&self) -> bool {
        self.len > 1 && (self.bytes.len() > BYTES_MAX || self.len() > ENTRIES_MAX)
    }

    /// Splits at the middle: fields come in no order, so that `bias` does not matter.
    fn split(&mut self, _bias: Bias) -> Self {
        let at = self.middle();
        let start = self.place(at).0.start;
        let long_at = self.long_before(at);
        let long = self.long.as_mut().map(|long| Box::new(long.split_off(long_at)));
        let long = long.filter(|long| !long.strings.is_empty());
        if long_at == 0 {
            self.long = None;
        }
        let (entries, hashes, offsets) = self.parts();
        let (hashes, last_hashes) = hashes.split_at(at * HASH_LEN);
        let (offsets, last_offsets) = offsets.split_at(at * OFFSET_LEN);
        let len = narrow(at);
        let mut last =
            self.join([&entries[start..], last_hashes, last_offsets, &[], &[], &[]], self.len - len, long);
        last.move_offsets(0, |offset| offset - narrow(start));
        let mut first = self.join([&entries[..start], hashes, offsets, &[], &[], &[]], len, None);
        first.long = self.long.take();
        *self = first;
        last
    }

    fn can_absorb(&self, next: &Self) -> bool {
        // Only a leaf that is small itself looks at its neighbour, which may not be in the cache.
        self.bytes.len() < BYTES_JOINED_MAX
            && self.bytes.len() + next.bytes.len() <= BYTES_JOINED_MAX
            && self.len() + next.len() <= ENTRIES_JOINED_MAX
    }

    fn absorb(&mut self, next: &Self) {
        let start = self.entries_len();
        let mut long = self.long.take();
        if let Some(more) = &next.long {
            let long = long.get_or_insert_default();
            long.strings.extend_from_slice(&more.strings);
            long.bytes += more.bytes;
        }
        let (ours, theirs) = (self.parts(), next.parts());
        let parts = [ours.0, theirs.0, ours.1, theirs.1, ours.2, theirs.2];
        let mut joined = self.join(parts, self.len + next.len, long);
        joined.move_offsets(self.len(), |offset| offset + narrow(start));
        *self = joined;
    }
}

impl Fill {
    /// A leaf without entries.
    pub(super) fn new() -> Fill {
        Fill { bytes: 0, entries: 0 }
    }

    /// Counts an entry; false, and it is not counted, when it would be too many. The first always fits.
    pub(super) fn add(&mut self, field: &[u8], value: &[u8], with_values: bool) -> bool {
        let bytes = self.bytes + Entry::new(field, value, with_values).len() + INDEX_LEN;
        if self.entries > 0 && (bytes > BYTES_BUILT_MAX || self.entries == ENTRIES_BUILT_MAX) {
            return false;
        }
        *self = Fill { bytes, entries: self.entries + 1 };
        true
    }

    /// A leaf of entries in order, which are those counted.
    pub(super) fn build<'a>(
        &self,
        entries: impl Iterator<Item = (u32, &'a [u8], &'a [u8])> + Clone,
        with_values: bool,
    ) -> Fields {
        let mut fields = Fields::new(with_values);
        fields.bytes.reserve_exact(class_size(self.bytes));
        fields.bytes.resize(self.bytes, 0);
        let (places, index) = fields.bytes.split_at_mut(self.bytes - self.entries * INDEX_LEN);
        let (hashes, offsets) = index.split_at_mut(self.entries * HASH_LEN);
        let index = hashes.as_chunks_mut().0.iter_mut().zip(offsets.as_chunks_mut().0);
        let mut start = 0;
        for ((hash, field, value), (hash_place, offset_place)) in entries.zip(index) {
            let entry = Entry::new(field, value, with_values);
            entry.write(&mut places[start..]);
            *hash_place = hash.to_le_bytes();
            let long_bit = if entry.long == 0 { 0 } else { LONG };
            *offset_place = (narrow(start) | long_bit).to_le_bytes();
            for (bit, string) in [(LONG_FIELD, field), (LONG_VALUE, value)] {
                if entry.long & bit != 0 {
                    let long = fields.long.get_or_insert_default();
                    long.insert(long.strings.len(), string);
                }
            }
            start += entry.len();
        }
        fields.len = narrow(self.entries);
        fields
    }
}

/// The entries of a leaf in order: fields and values.
#[derive(Debug, Clone)]
pub(super) struct Entries<'a> {
    fields: &'a Fields,
    at: usize,
    long_at: usize,
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.fields.len() {
            return None;
        }
        let entry = self.fields.entry_with(self.at, || self.long_at);
        self.at += 1;
        if entry.0.len() >= LONG_LEN_MIN {
            self.long_at += 1;
        }
        if entry.1.len() >= LONG_LEN_MIN {
            self.long_at += 1;
        }
        Some(entry)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.fields.len() - self.at;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Entries<'_> {}

#[cfg(test)]
impl Fields {
    /// Checks what holds within a leaf.
    pub(super) fn check(&self) {
        let hashes: Vec<u32> = (0..self.len()).map(|at| self.hash(at)).collect();
        assert!(hashes.is_sorted(), "hashes are in order");
        assert!(!self.is_full(), "{} bytes, {} entries", self.bytes.len(), self.len);
        let mut end = 0;
        let mut long = 0;
        for at in 0..self.len() {
            let (range, is_long) = self.place(at);
            assert_eq!(range.start, end, "entries follow each other");
            end = range.end;
            let (field, value) = self.entry(at);
            assert_eq!(is_long, field.len() >= LONG_LEN_MIN || value.len() >= LONG_LEN_MIN);
            long += [field, value].iter().filter(|string| string.len() >= LONG_LEN_MIN).count();
        }
        assert_eq!(end, self.entries_len());
        let strings: &[Arc<[u8]>] = self.long.as_ref().map_or(&[], |long| &long.strings);
        assert_eq!(strings.len(), long);
        assert_eq!(self.long.is_some(), long > 0, "without long strings, there is no place for them");
        let bytes: usize = strings.iter().map(|string| allocated(string.len())).sum();
        assert_eq!(self.long.as_ref().map_or(0, |long| long.bytes), bytes);
        assert!(self.bytes.capacity() <= class_size(self.bytes.len() * 4 / 3 + 1), "little is unused");
    }
}
