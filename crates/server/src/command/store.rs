//! Results that are stored under a key, and effects with many elements: what families of collections share.

use super::Call;
use crate::engine::events::Change;
use crate::engine::object::{Collection, NewValue};
use crate::engine::{Expiry, Keyspace};

/// Most elements of one effect.
const CHUNK_STRINGS_MAX: usize = 4096;
/// Bytes of elements after which an effect ends.
const CHUNK_LEN_MAX: usize = 1 << 20;

/// Replaces whatever a key holds by a collection, or removes the key if that is empty. Returns whether anything changed.
pub(crate) fn store<C: Collection>(
    keys: &mut Keyspace<'_>,
    key: &[u8],
    collection: C,
    change: Change,
) -> bool {
    let found = keys.find(key);
    if collection.is_empty() {
        return keys.remove(found, key, Change::generic("del"));
    }
    match collection.as_packed() {
        Some((packed, bytes)) => keys.set(found, key, NewValue::Packed(packed, bytes), Expiry::Clear, change),
        None => {
            let large = NewValue::Large(Box::new(collection.into_large()));
            keys.set(found, key, large, Expiry::Clear, change);
        }
    }
    true
}

/// Strings one after another, in one piece of memory.
#[derive(Debug, Default)]
pub(crate) struct Strings {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Strings {
    pub(crate) fn push(&mut self, string: &[u8]) {
        self.bytes.extend_from_slice(string);
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| &self.bytes[std::mem::replace(&mut start, *end)..*end])
    }

    /// Runs of strings that are each short enough for one effect.
    fn chunks(&self) -> impl Iterator<Item = Vec<&[u8]>> {
        let mut strings = self.iter().peekable();
        std::iter::from_fn(move || {
            strings.peek()?;
            let mut len = 0;
            let mut chunk = Vec::new();
            while chunk.len() < CHUNK_STRINGS_MAX
                && len < CHUNK_LEN_MAX
                && let Some(string) = strings.next()
            {
                len += string.len();
                chunk.push(string);
            }
            Some(chunk)
        })
    }
}

impl Call<'_, '_> {
    /// Records effects that apply a command to a key and all of these strings.
    pub(crate) fn log_chunked(&mut self, command: &[u8], key: &[u8], strings: &Strings) {
        for mut chunk in strings.chunks() {
            chunk.splice(0..0, [command, key]);
            self.log(&chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_chunks(lens: &[usize], expected: &[usize]) {
        let mut strings = Strings::default();
        lens.iter().for_each(|len| strings.push(&vec![b'x'; *len]));
        assert_eq!(strings.chunks().map(|chunk| chunk.len()).collect::<Vec<_>>(), expected);
        assert_eq!(strings.chunks().flatten().map(<[u8]>::len).collect::<Vec<_>>(), lens);
    }

    #[test]
    fn chunks_are_short_and_miss_nothing() {
        check_chunks(&[], &[]);
        check_chunks(&[0, 3, 0], &[3]);
        check_chunks(&[0; CHUNK_STRINGS_MAX + 1], &[CHUNK_STRINGS_MAX, 1]);
        check_chunks(&[1, CHUNK_LEN_MAX, 2, 3], &[2, 2]);
        check_chunks(&[CHUNK_LEN_MAX, CHUNK_LEN_MAX], &[1, 1]);
    }
}
