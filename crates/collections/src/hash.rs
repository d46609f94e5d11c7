//! The hash of keys, fields and members. Clients choose them, so it has a secret seed.

use siphasher::sip::SipHasher13;

/// Key of the hash function; secret, random per process.
#[derive(Debug, Clone, Copy)]
pub struct HashSeed(pub [u64; 2]);

/// A keyed hash: SipHash-1-3, all 64 bits.
#[derive(Debug, Clone, Copy)]
pub struct KeyHasher(SipHasher13);

impl KeyHasher {
    /// A hash function of its own for each seed.
    #[must_use]
    pub fn new(seed: HashSeed) -> KeyHasher {
        KeyHasher(SipHasher13::new_with_keys(seed.0[0], seed.0[1]))
    }

    /// The hash of some bytes.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.0.hash(key)
    }
}
