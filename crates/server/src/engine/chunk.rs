//! Saved entries on their way to the thread that writes them: bytes, not clones.

use super::object::{Blob, EntryView, Kind, Large, Packed};
use super::value::{StringRef, ValueRef};
use super::{Access, AccessMeter};

const HAS_EXPIRY: u8 = 1;
const HAS_DATABASE: u8 = 1 << 1;
const FORM: u8 = 0b11 << 2;
const FORM_INT: u8 = 0;
const FORM_BYTES: u8 = 1 << 2;
const FORM_BLOB: u8 = 2 << 2;
const FORM_LARGE: u8 = 3 << 2;
/// What bytes are: 0 a string, else the number of a packed collection in [`PACKED`], counted from 1.
const PACKED_SHIFT: u8 = 4;
const PACKED_MASK: u8 = 0b111;
const HAS_ACCESS: u8 = 1 << 7;
/// Of an access: it is a counter; else seconds.
const IS_FREQUENCY: u32 = 1 << 31;
const PACKED: [Packed; 5] = [Packed::List, Packed::Ints, Packed::Set, Packed::SortedSet, Packed::Hash];

/// What is counted for a large collection besides what its clone copies, in bytes: it is shared with the data set.
const LARGE_HELD_BYTES: usize = 256;

/// Entries one behind the other, encoded; long bytes and large collections are held, not copied.
#[derive(Debug, Default)]
pub struct Chunk {
    /// For each entry: flags, [database u32], [expiry i64], [access u32], key length u32, key, then integer i64, or length u32 and bytes,
    /// or nothing for the next of `blobs` or `larges`.
    bytes: Vec<u8>,
    blobs: Vec<Blob>,
    larges: Vec<Large>,
    keys: u64,
    held_bytes: usize,
    database: Option<u32>,
}

/// One entry of a chunk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChunkEntry<'a> {
    /// Database index at the cut.
    pub(crate) db: u32,
    /// Key.
    pub(crate) key: &'a [u8],
    /// Value.
    pub(crate) value: ValueRef<'a>,
    /// Absolute expiry in milliseconds since the Unix epoch.
    pub(crate) expires_at_ms: Option<i64>,
    /// What is known of its use.
    pub(crate) access: Access,
}

impl<'a> From<&'a super::value::Entry> for ChunkEntry<'a> {
    fn from(entry: &'a super::value::Entry) -> ChunkEntry<'a> {
        let super::value::Entry { db, key, value, expires_at_ms, access } = entry;
        let (value, expires_at_ms, access) = (value.as_ref(), *expires_at_ms, *access);
        ChunkEntry { db: *db, key, value, expires_at_ms, access }
    }
}

impl ChunkEntry<'_> {
    /// A copy that owns its bytes.
    pub fn to_entry(self) -> super::value::Entry {
        let ChunkEntry { db, key, value, expires_at_ms, access } = self;
        super::value::Entry { db, key: Box::from(key), value: value.to_value(), expires_at_ms, access }
    }
}

impl Chunk {
    /// Adds an entry; what is known of its use only with a meter.
    pub(super) fn push(&mut self, db: u32, entry: EntryView<'_>, meter: Option<AccessMeter>) {
        let (key, expires_at_ms) = (entry.key(), entry.expires_at_ms());
        let (large, blob) = (entry.large(), entry.shared_blob());
        let int = match entry.kind() {
            Kind::String => match entry.string() {
                StringRef::Int(number) => Some(number),
                StringRef::Bytes(_) => None,
            },
            _ => None,
        };
        let form = match (large, &blob, int) {
            (Some(_), _, _) => FORM_LARGE,
            (_, Some(_), _) => FORM_BLOB,
            (_, _, Some(_)) => FORM_INT,
            _ => FORM_BYTES,
        };
        let packed = match entry.kind() {
            Kind::String => 0,
            _ => {
                PACKED.iter().zip(1..).find(|(it, _)| **it == entry.packed()).map_or(0, |(_, number)| number)
            }
        };
        let is_new_db = self.database != Some(db);
        let flags = form
            | packed << PACKED_SHIFT
            | if expires_at_ms.is_some() { HAS_EXPIRY } else { 0 }
            | if is_new_db { HAS_DATABASE } else { 0 }
            | if meter.is_some() { HAS_ACCESS } else { 0 };
        self.bytes.push(flags);
        if is_new_db {
            self.database = Some(db);
            self.bytes.extend_from_slice(&db.to_le_bytes());
        }
        if let Some(at) = expires_at_ms {
            self.bytes.extend_from_slice(&at.to_le_bytes());
        }
        if let Some(meter) = meter {
            let bits = entry.accessed();
            let access = if meter.counts() {
                u32::from(meter.frequency(bits)) | IS_FREQUENCY
            } else {
                meter.idle_seconds(bits)
            };
            self.bytes.extend_from_slice(&access.to_le_bytes());
        }
        self.put_bytes(key);
        if let Some(large) = large {
            self.held_bytes += LARGE_HELD_BYTES + large.cloned_bytes();
            self.larges.push(large.clone());
        } else if let Some(blob) = blob {
            self.held_bytes += blob.memory_bytes();
            self.blobs.push(blob);
        } else if let Some(number) = int {
            self.bytes.extend_from_slice(&number.to_le_bytes());
        } else {
            self.put_bytes(entry.bytes());
        }
        self.keys += 1;
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        let len =
            u32::try_from(bytes.len()).expect("keys, and values that are no blobs, are shorter than 4 GiB");
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(bytes);
    }

    /// Number of entries.
    pub(crate) fn keys(&self) -> u64 {
        self.keys
    }

    /// Whether there is no entry.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// Bytes that the chunk holds: encoded entries, and large values, which may be the data set's as well.
    pub(crate) fn held_bytes(&self) -> usize {
        self.bytes.capacity() + self.held_bytes
    }

    /// Bytes of memory that only this chunk holds as long as the data set does not change.
    #[cfg(test)]
    pub(crate) fn encoded_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Moves all entries of another chunk behind these.
    pub(super) fn append(&mut self, other: &mut Chunk) {
        if self.is_empty() {
            std::mem::swap(self, other);
        } else if !other.is_empty() {
            // The first entry of every chunk names its database.
            self.bytes.append(&mut other.bytes);
            self.blobs.append(&mut other.blobs);
            self.larges.append(&mut other.larges);
            self.keys += other.keys;
            self.held_bytes += other.held_bytes;
            self.database = other.database;
        }
        *other = Chunk::default();
    }

    /// The entries, in the order in which they were saved.
    pub fn entries(&self) -> Entries<'_> {
        Entries { bytes: &self.bytes, blobs: self.blobs.iter(), larges: self.larges.iter(), db: 0 }
    }
}

/// See [`Chunk::entries`].
#[derive(Debug)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    blobs: std::slice::Iter<'a, Blob>,
    larges: std::slice::Iter<'a, Large>,
    db: u32,
}

impl<'a> Entries<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(len);
        self.bytes = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().expect("so many bytes were taken")
    }

    fn string(&mut self) -> &'a [u8] {
        let len = u32::from_le_bytes(self.array());
        self.take(len as usize)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = ChunkEntry<'a>;

    fn next(&mut self) -> Option<ChunkEntry<'a>> {
        if self.bytes.is_empty() {
            return None;
        }
        let [flags] = self.array();
        if flags & HAS_DATABASE != 0 {
            self.db = u32::from_le_bytes(self.array());
        }
        let expires_at_ms = (flags & HAS_EXPIRY != 0).then(|| i64::from_le_bytes(self.array()));
        let access = match (flags & HAS_ACCESS != 0).then(|| u32::from_le_bytes(self.array())) {
            None => Access::default(),
            Some(frequency) if frequency & IS_FREQUENCY != 0 => {
                Access { frequency: u8::try_from(frequency & !IS_FREQUENCY).ok(), idle_seconds: None }
            }
            Some(seconds) => Access { idle_seconds: Some(seconds), frequency: None },
        };
        let (db, key) = (self.db, self.string());
        let entry = |value| Some(ChunkEntry { db, key, value, expires_at_ms, access });
        let bytes = match flags & FORM {
            FORM_INT => {
                return entry(ValueRef::String(StringRef::Int(i64::from_le_bytes(self.array()))));
            }
            FORM_LARGE => {
                return entry(self.larges.next().expect("one for each such entry").view());
            }
            FORM_BYTES => self.string(),
            _ => self.blobs.next().expect("one for each such entry").bytes(),
        };
        entry(match usize::from(flags >> PACKED_SHIFT & PACKED_MASK).checked_sub(1) {
            None => ValueRef::String(StringRef::Bytes(bytes)),
            Some(number) => PACKED[number].view(bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use holdfast_collections::types::{Limits, List};

    use super::*;
    use crate::engine::object::{Entry, NewValue};

    #[test]
    fn what_the_clone_of_a_list_copies_is_counted() {
        let limits = Limits::default();
        let mut list = List::empty(Vec::new());
        (0..100).for_each(|_| list.push_back(&[b'x'; 1000], &limits));
        let entry = Entry::new(b"list", NewValue::Large(Box::new(Large::List(list))), None, 0);
        let mut chunk = Chunk::default();
        chunk.push(0, entry.view(), None);
        assert!((2000..30_000).contains(&chunk.held_bytes()), "{} bytes", chunk.held_bytes());
    }

    #[test]
    fn a_chunk_returns_what_was_put_into_it() {
        let large = vec![9; 5000];
        let entries = [
            (0, &b"a"[..], NewValue::Int(-5), None),
            (0, b"", NewValue::Bytes(b""), Some(-1)),
            (3, b"b", NewValue::Bytes(&large), Some(i64::MAX)),
            (3, b"c", NewValue::Bytes(b"xyz"), None),
            (0, b"d", NewValue::Bytes(&large), None),
        ];
        let meter = |counts| Some(AccessMeter::new(counts, 10, 1, 1_700_000_000_000));
        let meters = [None, meter(false), meter(true)];
        let told = [
            Access::default(),
            Access { idle_seconds: Some(70_000), frequency: None },
            Access { idle_seconds: None, frequency: Some(200) },
        ];
        let mut first = Chunk::default();
        let mut second = Chunk::default();
        let mut expected = Vec::new();
        for (number, (db, key, value, expires_at_ms)) in entries.into_iter().enumerate() {
            let meter = meters[number % 3];
            let bits = meter.map_or(0, |meter| meter.restored(told[number % 3]).unwrap());
            let entry = Entry::new(key, value, expires_at_ms, bits);
            let access = told[number % 3];
            expected.push((db, key.to_vec(), entry.view().value().to_value(), expires_at_ms, access));
            if number < 2 { &mut first } else { &mut second }.push(db, entry.view(), meter);
        }
        first.append(&mut second);
        assert!(second.is_empty() && second.held_bytes() == 0);
        let found: Vec<_> = first
            .entries()
            .map(|it| (it.db, it.key.to_vec(), it.value.to_value(), it.expires_at_ms, it.access))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(first.keys(), 5);
        assert!(first.encoded_bytes() < 200, "large values are held, not copied");
        assert!(first.held_bytes() > 10_000);
    }
}
