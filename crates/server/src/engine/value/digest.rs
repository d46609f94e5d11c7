//! What of a value goes into a digest: the same for equal values, however they are stored.

use sha2::{Digest as _, Sha256};

use super::{StringRef, ValueRef};

/// A string with its length before it.
fn put(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// Collects elements whose order means nothing.
#[derive(Default)]
struct Unordered([u8; 32]);

impl Unordered {
    fn add(&mut self, element: impl FnOnce(&mut Sha256)) {
        let mut hash = Sha256::new();
        element(&mut hash);
        for (sum, byte) in self.0.iter_mut().zip(hash.finalize()) {
            *sum ^= byte;
        }
    }
}

impl ValueRef<'_> {
    /// A digest of the value alone, for those who debug.
    pub(crate) fn digest(self) -> [u8; 20] {
        let mut hash = Sha256::new();
        self.hash_into(&mut hash);
        let full = hash.finalize();
        std::array::from_fn(|at| full[at])
    }

    /// Adds the value to a digest.
    ///
    /// ```text
    /// value  = type u8 (0 string, 1 list, 2 set, 3 sorted set, 4 hash), content
    /// string = length u64le, bytes
    /// list   = count u64le, its elements as strings in order
    /// set    = count u64le, XOR over its members of SHA-256(string)
    /// sorted = count u64le, its members as strings in order, each with its score f64le, of zero without its sign
    /// hash   = count u64le, XOR over its fields of SHA-256(field as string, value as string)
    /// ```
    pub(crate) fn hash_into(self, hash: &mut Sha256) {
        hash.update([self.kind() as u8]);
        let mut texts = [holdfast_collections::listpack::Scratch::new(); 2];
        let [first, second] = &mut texts;
        match self {
            ValueRef::String(StringRef::Bytes(bytes)) => put(hash, bytes),
            ValueRef::String(string) => put(hash, string.as_bytes(&mut itoa::Buffer::new())),
            ValueRef::List(list) => {
                hash.update((list.len() as u64).to_le_bytes());
                list.iter().for_each(|element| put(hash, element.as_bytes(first)));
            }
            ValueRef::Set(set) => {
                hash.update((set.len() as u64).to_le_bytes());
                let mut sum = Unordered::default();
                set.iter().for_each(|member| sum.add(|hash| put(hash, member.as_bytes(first))));
                hash.update(sum.0);
            }
            ValueRef::SortedSet(set) => {
                hash.update((set.len() as u64).to_le_bytes());
                for (member, score) in set.iter() {
                    put(hash, member.as_bytes(first));
                    // A packed form has no sign for zero, so whether there is one depends on how the value came here.
                    hash.update((score + 0.0).to_le_bytes());
                }
            }
            ValueRef::Hash(fields) => {
                hash.update((fields.len() as u64).to_le_bytes());
                let mut sum = Unordered::default();
                for (field, value) in fields.iter() {
                    sum.add(|hash| {
                        put(hash, field.as_bytes(first));
                        put(hash, value.as_bytes(second));
                    });
                }
                hash.update(sum.0);
            }
        }
    }
}
