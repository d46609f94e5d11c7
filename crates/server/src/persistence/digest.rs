//! Digest of a dataset: equal for equal data, whatever the order of its keys and the program that holds it.
//!
//! ```text
//! digest = XOR over all keys of SHA-256(
//!   database u32le, key length u64le, key, value, expiry)
//! value  = see `ValueRef::hash_into`
//! expiry = 0 | 1, milliseconds since the Unix epoch i64le
//! ```
//!
//! Keys that have expired but are still held count as well, so that a snapshot and its copy agree at any time.

use holdfast_contract::bucket::DatasetSummary;
use sha2::{Digest as _, Sha256};

use crate::engine::ChunkEntry;
use crate::engine::value::Entry;

/// Collects the keys of a dataset, each exactly once, in any order.
#[derive(Debug, Clone, Default)]
pub struct Digester {
    digest: [u8; 32],
    keys: u64,
    expiring: u64,
}

impl Digester {
    /// Adds one key.
    pub fn add(&mut self, entry: &Entry) {
        self.add_saved(ChunkEntry::from(entry));
    }

    /// Adds one key as a snapshot saved it.
    pub(crate) fn add_saved(&mut self, entry: ChunkEntry<'_>) {
        // When a key was last used is not its content.
        let ChunkEntry { db, key, value, expires_at_ms, access: _ } = entry;
        let mut hash = Sha256::new();
        hash.update(db.to_le_bytes());
        hash.update((key.len() as u64).to_le_bytes());
        hash.update(key);
        value.hash_into(&mut hash);
        match expires_at_ms {
            None => hash.update([0]),
            Some(expires_at_ms) => {
                hash.update([1]);
                hash.update(expires_at_ms.to_le_bytes());
                self.expiring += 1;
            }
        }
        for (sum, byte) in self.digest.iter_mut().zip(hash.finalize()) {
            *sum ^= byte;
        }
        self.keys += 1;
    }

    /// The summary of everything added.
    #[must_use]
    pub fn finish(&self) -> DatasetSummary {
        let digest = self.digest.iter().map(|byte| format!("{byte:02x}")).collect();
        DatasetSummary { keys: self.keys, expiring: self.expiring, digest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Access;
    use crate::engine::value::Value;

    fn entry(db: u32, key: &str, value: Value, expires_at_ms: Option<i64>) -> Entry {
        Entry { db, key: key.as_bytes().into(), value, expires_at_ms, access: Access::default() }
    }

    fn digest(entries: &[Entry]) -> DatasetSummary {
        let mut digester = Digester::default();
        entries.iter().for_each(|entry| digester.add(entry));
        digester.finish()
    }

    #[test]
    fn an_empty_dataset_has_64_zeros() {
        assert_eq!(digest(&[]), DatasetSummary { keys: 0, expiring: 0, digest: "0".repeat(64) });
    }

    #[test]
    fn one_key_has_the_documented_digest() {
        // sha256 of: 02000000 0100000000000000 6b 00 0100000000000000 76 01 0500000000000000
        let summary = digest(&[entry(2, "k", Value::Bytes(b"v".to_vec()), Some(5))]);
        assert_eq!((summary.keys, summary.expiring), (1, 1));
        assert_eq!(summary.digest, "22945215dd92d5246f8d38c7165aab6590c67bdf327e7787baaeb2915b34c06b");
    }

    #[test]
    fn order_and_encoding_do_not_matter() {
        let a = entry(0, "a", Value::Int(12), None);
        let a_as_bytes = entry(0, "a", Value::Bytes(b"12".to_vec()), None);
        let b = entry(1, "b", Value::Bytes(vec![0, 255]), Some(-1));
        assert_eq!(digest(&[a, b.clone()]), digest(&[b, a_as_bytes]));
    }

    #[test]
    fn every_part_of_a_key_counts() {
        let base = entry(0, "ab", Value::Bytes(b"c".to_vec()), None);
        for other in [
            entry(1, "ab", Value::Bytes(b"c".to_vec()), None),
            entry(0, "a", Value::Bytes(b"bc".to_vec()), None),
            entry(0, "ab", Value::Bytes(b"d".to_vec()), None),
            entry(0, "ab", Value::Bytes(b"c".to_vec()), Some(0)),
        ] {
            assert_ne!(digest(std::slice::from_ref(&base)).digest, digest(&[other]).digest);
        }
    }
}
