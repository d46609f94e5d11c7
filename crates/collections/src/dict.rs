//! Large hashes and sets: fields, with values or without, in the order of the hashes of the fields.
//!
//! ```text
//!  Dict ─▶ Tree ─▶ leaves of fields by hash      a lookup: down the tree by hash, then one leaf
//! ```
//!
//! - The order by hash is the cursor of `SCAN`: what is behind the cursor has not been visited yet, whatever is added or
//!   removed meanwhile.
//! - A clone costs nothing and keeps what it had: nodes are shared until one side changes them.
//! - Fields are ordered by the upper half of their hash only, so that a member takes 6 bytes and no more beside itself.
//!   Several fields may have the same; leaves may be split between them, and lookups know that.
//!
//! No table grows, so no operation pauses for that.

mod fields;
mod loader;

use std::fmt;

pub use self::loader::Loader;

use self::fields::Fields;
use crate::hash::KeyHasher;
use crate::spread::Spread;
use crate::tree::{AtIndex, Bias, Child, Descend, Leaf, Tree, Walk};

/// Fields by hash, with values (a hash) or without (a set, whose members are called fields here). See the [module](self).
#[derive(Clone)]
pub struct Dict {
    tree: Tree<Fields>,
    hasher: KeyHasher,
    with_values: bool,
}

/// Says how many fields there are, not which: they belong to clients.
impl fmt::Debug for Dict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dict").field("len", &self.len()).field("with_values", &self.with_values).finish()
    }
}

/// Leads to the last leaf whose first hash is not above this one, or else to the first, like [`ByKey`](crate::tree::ByKey).
struct ByHash {
    hash: u32,
    spread: Spread,
}

impl ByHash {
    fn new(hash: u32) -> ByHash {
        ByHash { hash, spread: Spread::all() }
    }
}

impl Descend<Fields> for ByHash {
    #[inline]
    fn choose(&mut self, children: &[Child<Fields>]) -> usize {
        let hash = self.hash;
        self.spread.choose(hash, children, Child::key, |child| child.key() > hash)
    }
}

/// What an insert finds in a leaf.
enum Found {
    /// The field, at this place.
    Same(usize),
    /// Not the field, which belongs at this place.
    Gap(usize),
}

impl Dict {
    /// An empty hash: fields with values.
    #[must_use]
    pub fn with_values(hasher: KeyHasher) -> Dict {
        Dict { tree: Tree::default(), hasher, with_values: true }
    }

    /// An empty set: fields alone.
    #[must_use]
    pub fn without_values(hasher: KeyHasher) -> Dict {
        Dict { tree: Tree::default(), hasher, with_values: false }
    }

    /// Number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    /// Bytes of all allocations, in whole size classes; estimated for the inner nodes. What clones share counts in each.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.tree.memory_bytes()
    }

    /// The value of a field, which is empty in a set; `None` when there is no such field.
    #[inline]
    #[must_use]
    pub fn get(&self, field: &[u8]) -> Option<&[u8]> {
        self.get_hashed(self.hash(field), field)
    }

    /// Whether there is such a field.
    #[inline]
    #[must_use]
    pub fn contains(&self, field: &[u8]) -> bool {
        self.get(field).is_some()
    }

    /// Adds a field with a value, or gives a field another value; true when the field is new. A set ignores the value, and
    /// does not copy shared nodes when it has the field already.
    pub fn insert(&mut self, field: &[u8], value: &[u8]) -> bool {
        self.insert_hashed(self.hash(field), field, value)
    }

    /// Removes a field; true when there was one.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        self.remove_hashed(self.hash(field), field)
    }

    /// The field at a position in the order of hashes, with its value; `None` behind the end. With a random position, every
    /// field is equally likely.
    #[must_use]
    pub fn nth(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let mut at = AtIndex(index);
        let leaf = self.tree.find(&mut at)?;
        (at.0 < leaf.len()).then(|| leaf.entry(at.0))
    }

    /// Removes the field at a position and returns it with its value; `None` behind the end.
    pub fn take_nth(&mut self, index: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        if index >= self.len() {
            return None;
        }
        let mut at = AtIndex(index);
        let (field, value) = self.tree.find(&mut at).map(|leaf| leaf.entry(at.0))?;
        let taken = (field.to_vec(), value.to_vec());
        self.remove_nth(index, at.0);
        Some(taken)
    }

    /// All fields with their values, in the order of hashes. Dicts with the same hasher have the same order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.tree.leaves().flat_map(Fields::entries)
    }

    /// Visits at least `count` fields with their values, and at least one, if there are as many from the cursor on, and
    /// returns the cursor to go on with: 0 at the end. A scan starts with cursor 0.
    ///
    /// Every field that is there from the first call to the last of a scan is visited exactly once, whatever else is added
    /// and removed between the calls. Fields with equal hashes are visited by the same call, which may then visit more than
    /// `count`. Cursors are at most `u32::MAX`; from one above that, nothing is visited.
    pub fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(&[u8], &[u8])) -> u64 {
        let Some((mut walk, mut at)) = u32::try_from(cursor).ok().and_then(|hash| self.lower_bound(hash))
        else {
            return 0;
        };
        let mut visited = 0;
        let mut last = None;
        loop {
            let leaf = walk.leaf();
            for at in at..leaf.len() {
                let hash = leaf.hash(at);
                if visited >= count && last.is_some_and(|last| last != hash) {
                    return hash.into();
                }
                let (field, value) = leaf.entry(at);
                visit(field, value);
                visited += 1;
                last = Some(hash);
            }
            if !walk.advance() {
                return 0;
            }
            at = 0;
        }
    }

    /// All fields with their values piece by piece, for whoever writes a large dict over some time or on another thread. What
    /// is changed here later is not seen there.
    #[must_use]
    pub fn pieces(&self) -> Pieces {
        Pieces { tree: self.tree.clone(), index: 0 }
    }

    /// What the field is ordered by.
    #[inline]
    fn hash(&self, field: &[u8]) -> u32 {
        upper_half(self.hasher.hash(field))
    }

    #[inline]
    fn get_hashed(&self, hash: u32, field: &[u8]) -> Option<&[u8]> {
        let leaf = self.tree.find(&mut ByHash::new(hash))?;
        match leaf.find(hash, field) {
            Ok(at) => Some(leaf.entry(at).1),
            Err(_) if leaf.continues(hash) => {
                let (walk, at) = self.find_before(hash, field)?;
                Some(walk.leaf().entry(at).1)
            }
            Err(_) => None,
        }
    }

    fn insert_hashed(&mut self, hash: u32, field: &[u8], value: &[u8]) -> bool {
        let with_values = self.with_values;
        let value = if with_values { value } else { &[] };
        let mut continues = false;
        let is_new = self.tree.edit_if(
            &mut ByHash::new(hash),
            Bias::Middle,
            || Some(Fields::new(with_values)),
            |leaf| match leaf.find(hash, field) {
                Ok(at) => with_values.then_some(Found::Same(at)),
                Err(_) if leaf.continues(hash) => {
                    continues = true;
                    None
                }
                Err(at) => Some(Found::Gap(at)),
            },
            |leaf, found| match found {
                Found::Same(at) => {
                    leaf.set_value(at, value);
                    false
                }
                Found::Gap(at) => {
                    leaf.insert(at, hash, field, value);
                    true
                }
            },
        );
        if continues { self.insert_after_equal(hash, field, value) } else { is_new.unwrap_or(false) }
    }

    /// Inserts a field whose leaf begins with its hash but does not have it.
    #[cold]
    fn insert_after_equal(&mut self, hash: u32, field: &[u8], value: &[u8]) -> bool {
        if let Some((walk, at)) = self.find_before(hash, field) {
            if self.with_values {
                let mut index = AtIndex(walk.before() + at);
                self.tree.edit(&mut index, Bias::Middle, || None, |leaf| leaf.set_value(at, value));
            }
            return false;
        }
        self.tree.edit(
            &mut ByHash::new(hash),
            Bias::Middle,
            || None,
            |leaf| {
                if let Err(at) = leaf.find(hash, field) {
                    leaf.insert(at, hash, field, value);
                }
            },
        );
        true
    }

    fn remove_hashed(&mut self, hash: u32, field: &[u8]) -> bool {
        let mut continues = false;
        let removed = self.tree.edit_if(
            &mut ByHash::new(hash),
            Bias::Middle,
            || None,
            |leaf| {
                let found = leaf.find(hash, field).ok();
                continues = found.is_none() && leaf.continues(hash);
                found
            },
            Fields::remove,
        );
        if !continues {
            return removed.is_some();
        }
        let Some((walk, at)) = self.find_before(hash, field) else { return false };
        let index = walk.before() + at;
        self.remove_nth(index, at);
        true
    }

    /// Removes the field at a position, whose place in its leaf is known.
    fn remove_nth(&mut self, index: usize, place: usize) {
        self.tree.edit(&mut AtIndex(index), Bias::Middle, || None, |leaf| leaf.remove(place));
    }

    /// Where a field is in a leaf before the last one with its hash. With a good hash function, hardly ever anywhere.
    #[cold]
    fn find_before(&self, hash: u32, field: &[u8]) -> Option<(Walk<'_, Fields>, usize)> {
        let mut walk = self.tree.walk(&mut ByHash::new(hash))?;
        while walk.leaf().continues(hash) && walk.retreat() {
            if let Ok(at) = walk.leaf().find(hash, field) {
                return Some((walk, at));
            }
        }
        None
    }

    /// Where the first field is whose hash is not below this one.
    fn lower_bound(&self, hash: u32) -> Option<(Walk<'_, Fields>, usize)> {
        let mut walk = self.tree.walk(&mut ByHash::new(hash))?;
        while walk.leaf().continues(hash) && walk.retreat() {}
        let at = walk.leaf().lower_bound(hash);
        if at < walk.leaf().len() {
            return Some((walk, at));
        }
        walk.advance().then_some((walk, 0))
    }
}

/// What fields are ordered by: half of a hash.
#[inline]
fn upper_half(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// The fields and values that a dict had at one moment, piece by piece: each piece is some hundred fields at most, in the
/// order of hashes.
#[derive(Clone)]
pub struct Pieces {
    tree: Tree<Fields>,
    /// Number of fields returned.
    index: usize,
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces").field("len", &self.tree.len()).field("index", &self.index).finish()
    }
}

impl Pieces {
    /// The next piece, which has at least one field; `None` after the last.
    pub fn next_piece(&mut self) -> Option<impl ExactSizeIterator<Item = (&[u8], &[u8])>> {
        if self.index == self.tree.len() {
            return None;
        }
        let piece = self.tree.find(&mut AtIndex(self.index))?.entries();
        self.index += piece.len();
        Some(piece)
    }

    /// Number of fields in the pieces that are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.tree.len() - self.index
    }
}

#[cfg(test)]
mod tests;
