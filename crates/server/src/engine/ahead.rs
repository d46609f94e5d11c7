//! Keys of commands that come next: their hashes are computed once, and their memory is on its way into the caches when
//! the commands run.
//!
//! Buckets are asked for when a batch of requests is received, entries a few commands before they are needed: those of a whole
//! batch, together with the replies, are more than the caches near the processor hold.

use super::Engine;

/// Keys that are looked ahead to at once: what they need of the table stays in the second-level cache.
const KEYS_MAX: usize = 4096;
/// Keys whose entries are on their way at once: what a processor fetches at the same time, and a part of the first-level cache.
const ENTRIES_AHEAD: usize = 16;
/// Where a key takes more bytes than this on average, most of a value lies elsewhere, and one line of the entry is asked for.
const ENTRY_LEN_MAX: usize = 1200;

/// The keys of a batch of requests, in the order in which they lie in the buffer that the requests were read into.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Address and length of the buffer.
    buffer: (usize, usize),
    /// Keys by their place in the buffer.
    keys: Vec<Key>,
    /// The first key that has not been passed.
    next: usize,
    /// The first key whose entry has not been asked for.
    unasked: usize,
    /// Bytes of an entry to ask for.
    entry_len: usize,
    /// Keys that lie elsewhere.
    others: Vec<(u32, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Key {
    offset: usize,
    len: usize,
    db: u32,
    hash: u64,
}

impl Ahead {
    /// Where a key is in the buffer, if it is there.
    #[inline]
    fn offset_of(&self, key: &[u8]) -> Option<usize> {
        let (start, len) = self.buffer;
        let offset = key.as_ptr().addr().wrapping_sub(start);
        (offset < len).then_some(offset)
    }

    /// The hash of a key, if it is one of the batch: the same bytes of the same buffer.
    #[inline]
    fn hash_of(&mut self, key: &[u8]) -> Option<u64> {
        let offset = self.offset_of(key)?;
        while let Some(known) = self.keys.get(self.next)
            && known.offset < offset
        {
            self.next += 1;
        }
        let known = self.keys.get(self.next)?;
        (known.offset == offset && known.len == key.len()).then_some(known.hash)
    }
}

impl Engine {
    /// Begins a batch of requests, which are read into `buffer`. Until the next call its bytes must not change once a key
    /// of it was looked ahead to.
    pub(crate) fn look_ahead_in(&mut self, buffer: &[u8]) {
        self.ahead.buffer = (buffer.as_ptr().addr(), buffer.len());
        self.ahead.keys.clear();
        self.ahead.others.clear();
        self.ahead.next = 0;
        self.ahead.unasked = 0;
    }

    /// A command of the batch will look for this key: asks for its bucket. Keys are announced in the order in which they lie
    /// in the buffer.
    #[inline]
    pub(crate) fn look_ahead(&mut self, db: u32, key: &[u8]) {
        if self.ahead.keys.len() + self.ahead.others.len() >= KEYS_MAX {
            return;
        }
        let hash = self.hasher.hash(key);
        self.table(db).prefetch_bucket(hash);
        match self.ahead.offset_of(key) {
            Some(offset) => self.ahead.keys.push(Key { offset, len: key.len(), db, hash }),
            None => self.ahead.others.push((db, hash)),
        }
    }

    /// The key that was announced last, in the same database, stands here again. Its hash is known, and what it needs is on its
    /// way.
    #[inline]
    pub(crate) fn look_ahead_again(&mut self, key: &[u8]) {
        // Order matters: of more keys than these, the last one was not kept.
        if self.ahead.keys.len() + self.ahead.others.len() < KEYS_MAX
            && let Some(offset) = self.ahead.offset_of(key)
            && let Some(&last) = self.ahead.keys.last()
        {
            debug_assert_eq!(last.hash, self.hasher.hash(key), "it is the same key");
            self.ahead.keys.push(Key { offset, ..last });
        }
    }

    /// All keys of the batch are announced: asks for the first entries, whose buckets have arrived by now.
    pub(crate) fn look_at_entries(&mut self) {
        let mean = self.used / self.len().max(1);
        self.ahead.entry_len = if mean > ENTRY_LEN_MAX { 1 } else { mean };
        for &(db, hash) in self.ahead.others.iter().take(ENTRIES_AHEAD) {
            self.table(db).prefetch_entry(hash, self.ahead.entry_len);
        }
        self.ask_for_entries();
    }

    /// Asks for the entries of the keys that come next.
    #[inline]
    fn ask_for_entries(&mut self) {
        while self.ahead.unasked < self.ahead.next + ENTRIES_AHEAD
            && let Some(&Key { db, hash, .. }) = self.ahead.keys.get(self.ahead.unasked)
        {
            let before = self.ahead.unasked.checked_sub(1).map(|before| self.ahead.keys[before]);
            self.ahead.unasked += 1;
            // Many commands in a row may be about one large collection.
            if before.is_none_or(|before| (before.db, before.hash) != (db, hash)) {
                self.table(db).prefetch_entry(hash, self.ahead.entry_len);
            }
        }
    }

    /// The hash of a key that a command looks for.
    #[inline]
    pub(super) fn hash_for(&mut self, key: &[u8]) -> u64 {
        match self.ahead.hash_of(key) {
            Some(hash) => {
                self.ask_for_entries();
                hash
            }
            None => self.hasher.hash(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EngineOptions, HashSeed, Limits};
    use super::*;

    #[test]
    fn keys_that_were_announced_and_others_have_their_own_hashes() {
        let mut engine =
            Engine::new(EngineOptions { databases: 2, limits: Limits::default(), seed: HashSeed([1, 2]) });
        let buffer = b"GET aa GET b GET aaa".to_vec();
        let elsewhere = b"zz".to_vec();
        engine.look_ahead_in(&buffer);
        for range in [4..6, 11..12, 17..20] {
            engine.look_ahead(0, &buffer[range]);
        }
        engine.look_ahead(1, &elsewhere);
        engine.look_at_entries();
        // Passed over, met twice, cut differently, and not of the buffer.
        for range in [4..6, 4..6, 4..5, 17..20, 11..12, 17..19, 0..3] {
            let key = &buffer[range];
            assert_eq!(engine.hash_for(key), engine.hash_of(key), "{:?}", String::from_utf8_lossy(key));
        }
        assert_eq!(engine.hash_for(&elsewhere), engine.hash_of(&elsewhere));
        let again = b"GET aa GET aa GET b GET b GET aa".to_vec();
        engine.look_ahead_in(&again);
        engine.look_ahead(0, &again[4..6]);
        engine.look_ahead_again(&again[11..13]);
        engine.look_ahead(0, &again[18..19]);
        engine.look_ahead_again(&again[24..25]);
        engine.look_ahead_again(&elsewhere);
        assert_eq!(engine.ahead.keys.len(), 4);
        for range in [4..6, 11..13, 18..19, 24..25, 30..32] {
            let key = &again[range];
            assert_eq!(engine.hash_for(key), engine.hash_of(key), "{:?}", String::from_utf8_lossy(key));
        }
        let other = b"GET bb GET a GET bbb".to_vec();
        engine.look_ahead_in(&other);
        assert_eq!(engine.hash_for(&buffer[4..6]), engine.hash_of(b"aa"), "the batch of before is forgotten");
    }

    #[test]
    fn of_too_many_keys_those_that_are_not_kept_are_not_repeated() {
        let mut engine =
            Engine::new(EngineOptions { databases: 1, limits: Limits::default(), seed: HashSeed([1, 2]) });
        let buffer = vec![b'a'; KEYS_MAX + 10];
        engine.look_ahead_in(&buffer);
        for at in 0..KEYS_MAX {
            engine.look_ahead(0, &buffer[at..=at]);
        }
        engine.look_ahead(0, &buffer[KEYS_MAX..KEYS_MAX + 2]);
        engine.look_ahead_again(&buffer[KEYS_MAX + 2..KEYS_MAX + 4]);
        assert_eq!(engine.ahead.keys.len(), KEYS_MAX);
        let key = &buffer[KEYS_MAX + 2..KEYS_MAX + 4];
        assert_eq!(engine.hash_for(key), engine.hash_of(key));
    }
}
