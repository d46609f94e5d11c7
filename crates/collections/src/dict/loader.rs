//! Building a dict from many fields that come in any order.

use std::ops::Range;

use super::fields::{Fields, Fill};
use super::{Dict, Tree, fmt};

/// Bytes of fields and values that are collected before they are sorted and added: enough that leaves are built whole, or
/// get several fields while they are in the cache, and little beside a dict that needs it.
const BATCH_LEN_MAX: usize = 8 << 20;
/// An entry of this length is added at once: it gains nothing from being collected, which copies it.
const SINGLE_LEN_MIN: usize = 64 << 10;

/// Adds many fields to a dict, sorted by hash, in less time than [`Dict::insert`] takes for each.
///
/// When a field is added twice, the last value counts. The dict is complete only after [`Loader::finish`].
pub struct Loader {
    dict: Dict,
    /// Fields and values one after the other.
    bytes: Vec<u8>,
    added: Vec<Added>,
}

/// A field and its value in the bytes.
#[derive(Clone, Copy)]
struct Added {
    hash: u32,
    /// Where the field starts; the value follows it.
    start: u32,
    field_len: u32,
    value_len: u32,
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").field("dict", &self.dict).field("collected", &self.added.len()).finish()
    }
}

impl Loader {
    /// Adds to a dict, which is empty as a rule.
    #[must_use]
    pub fn new(dict: Dict) -> Loader {
        Loader { dict, bytes: Vec::new(), added: Vec::new() }
    }

    /// Adds a field with its value; a set ignores the value.
    pub fn add(&mut self, field: &[u8], value: &[u8]) {
        self.add_hashed(self.dict.hash(field), field, value);
    }

    pub(super) fn add_hashed(&mut self, hash: u32, field: &[u8], value: &[u8]) {
        let value = if self.dict.with_values { value } else { &[] };
        let len = field.len() + value.len();
        if len >= SINGLE_LEN_MIN {
            self.flush();
            self.dict.insert_hashed(hash, field, value);
            return;
        }
        if self.bytes.len() + len > BATCH_LEN_MAX || self.added.len() == BATCH_LEN_MAX / size_of::<Added>() {
            self.flush();
        }
        self.added.push(Added {
            hash,
            start: narrow(self.bytes.len()),
            field_len: narrow(field.len()),
            value_len: narrow(value.len()),
        });
        self.bytes.extend_from_slice(field);
        self.bytes.extend_from_slice(value);
    }

    /// The dict with everything that was added. Its length tells whether fields were added twice.
    #[must_use]
    pub fn finish(mut self) -> Dict {
        self.flush();
        self.dict
    }

    /// Adds what has been collected.
    fn flush(&mut self) {
        // Order matters: of equal fields the last one counts.
        self.added.sort_unstable_by_key(|it| (it.hash, it.start));
        if self.dict.is_empty() {
            self.dict.tree = self.build();
        } else {
            for it in &self.added {
                let (field, value) = it.parts(&self.bytes);
                self.dict.insert_hashed(it.hash, field, value);
            }
        }
        self.added.clear();
        self.bytes.clear();
    }

    /// Builds whole leaves.
    fn build(&mut self) -> Tree<Fields> {
        self.drop_replaced();
        let with_values = self.dict.with_values;
        let mut tree = Tree::default();
        let mut left = &self.added[..];
        while !left.is_empty() {
            let mut fill = Fill::new();
            let fits = |it: &&Added| {
                let (field, value) = it.parts(&self.bytes);
                fill.add(field, value, with_values)
            };
            let count = left.iter().take_while(fits).count();
            let (entries, rest) = left.split_at(count);
            let entries = entries.iter().map(|it| {
                let (field, value) = it.parts(&self.bytes);
                (it.hash, field, value)
            });
            tree.push_leaf(fill.build(entries, with_values));
            left = rest;
        }
        tree
    }

    /// Drops entries whose field is added again later.
    fn drop_replaced(&mut self) {
        let field = |it: &Added| &self.bytes[it.field_range()];
        let is_replaced = |at: usize| {
            let it = &self.added[at];
            let later = self.added[at + 1..].iter().take_while(|later| later.hash == it.hash);
            later.into_iter().any(|later| field(later) == field(it))
        };
        let replaced: Vec<usize> = (0..self.added.len()).filter(|at| is_replaced(*at)).collect();
        let mut replaced = replaced.into_iter().peekable();
        let mut at = 0;
        self.added.retain(|_| {
            let is_kept = replaced.next_if_eq(&at).is_none();
            at += 1;
            is_kept
        });
    }
}

impl Added {
    fn field_range(&self) -> Range<usize> {
        let start = self.start as usize;
        start..start + self.field_len as usize
    }

    /// Field and value.
    fn parts<'a>(&self, bytes: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let field = self.field_range();
        (&bytes[field.clone()], &bytes[field.end..field.end + self.value_len as usize])
    }
}

fn narrow(len: usize) -> u32 {
    u32::try_from(len).expect("a batch is far shorter than 4 GiB")
}
