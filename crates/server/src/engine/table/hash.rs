//! The hash of keys. Clients choose keys, so it has a secret seed.

use siphasher::sip::SipHasher13;

/// Key of the hash function; secret, random per process.
#[derive(Debug, Clone, Copy)]
pub struct HashSeed(pub [u64; 2]);

/// The keyed hash of keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyHasher(SipHasher13);

impl KeyHasher {
    pub(crate) fn new(seed: HashSeed) -> KeyHasher {
        KeyHasher(SipHasher13::new_with_keys(seed.0[0], seed.0[1]))
    }

    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        self.0.hash(key)
    }
}
