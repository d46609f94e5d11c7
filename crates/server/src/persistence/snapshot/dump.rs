//! One value by itself, as DUMP writes and RESTORE reads it.
//!
//! ```text
//! payload = type u8, value as in an RDB, version u16le, CRC-64 u64le of all before it
//! ```

use super::format::{CRC64, VERSION_MAX, VERSION_WRITTEN};
use super::reader::{ReadRdbError, check_failed, read_value};
use super::writer::write_value;
use crate::engine::value::Value;
use crate::engine::{Tools, ValueRef};

/// Length of version and checksum.
const FOOTER_LEN: usize = 10;

/// Why a payload is not a value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    /// Too short, newer than this program, or damaged.
    #[error("DUMP payload version or checksum are wrong")]
    VersionOrChecksum,
    /// The bytes are no value, although the checksum is right.
    #[error("Bad data format")]
    Data(#[source] ReadRdbError),
    /// The collection has no element.
    #[error("Bad data format: the value has no element")]
    Empty,
}

/// The payload of a value.
pub(crate) fn dump(value: ValueRef<'_>) -> Vec<u8> {
    let mut payload = write_value(value);
    payload.extend_from_slice(&u16::try_from(VERSION_WRITTEN).expect("it is small").to_le_bytes());
    let checksum = CRC64.checksum(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    payload
}

/// Bytes that a value takes in an RDB, without its type.
pub(crate) fn serialized_len(value: ValueRef<'_>) -> usize {
    write_value(value).len() - 1
}

/// The value of a payload.
///
/// # Errors
/// [`RestoreError`].
pub(crate) fn restore(payload: &[u8], tools: Tools) -> Result<Value, RestoreError> {
    let body = check(payload, true)?;
    restore_body(body, tools)
}

/// The value of a payload, whatever its checksum (DEBUG SET-SKIP-CHECKSUM-VALIDATION).
///
/// # Errors
/// [`RestoreError`].
pub(crate) fn restore_unchecked(payload: &[u8], tools: Tools) -> Result<Value, RestoreError> {
    let body = check(payload, false)?;
    restore_body(body, tools)
}

/// Checks version and, if wanted, checksum; the rest of the payload is the value.
fn check(payload: &[u8], has_checksum: bool) -> Result<&[u8], RestoreError> {
    let (body, footer) = payload.split_last_chunk::<FOOTER_LEN>().ok_or(RestoreError::VersionOrChecksum)?;
    let [low, high, checksum @ ..] = *footer;
    let version = u32::from(u16::from_le_bytes([low, high]));
    let covered = &payload[..body.len() + 2];
    let fits = || CRC64.checksum(covered) == u64::from_le_bytes(checksum);
    if version > VERSION_MAX || (has_checksum && !fits()) {
        return Err(RestoreError::VersionOrChecksum);
    }
    Ok(body)
}

fn restore_body(body: &[u8], tools: Tools) -> Result<Value, RestoreError> {
    if let Some(value) = read_value(body, tools).map_err(RestoreError::Data)? {
        return Ok(value);
    }
    let form = body.first().copied().unwrap_or_default();
    tracing::debug!("{}", check_failed(form, "the value has no element"));
    Err(RestoreError::Empty)
}

#[cfg(test)]
mod tests {
    use holdfast_collections::listpack::{self, Item};
    use holdfast_collections::types::{Hash, List, Set, SortedSet};
    use proptest::prelude::*;

    use super::super::format::{TYPE_HASH_LISTPACK, TYPE_HASH_ZIPLIST, TYPE_HASH_ZIPMAP};
    use super::*;
    use crate::engine::StringRef;

    /// A payload of this type with these bytes as a string, and a right checksum.
    fn payload_of(type_byte: u8, bytes: &[u8]) -> Vec<u8> {
        let mut payload = dump(ValueRef::String(StringRef::Bytes(bytes)));
        payload[0] = type_byte;
        let body_len = payload.len() - 8;
        let checksum = CRC64.checksum(&payload[..body_len]);
        payload[body_len..].copy_from_slice(&checksum.to_le_bytes());
        payload
    }

    fn hash_of(pairs: &[(&[u8], &[u8])]) -> Hash {
        let tools = Tools::random();
        let mut hash = Hash::empty(Vec::new());
        for (field, value) in pairs {
            hash.set(field, value, &tools.limits, tools.hasher);
        }
        assert_eq!(hash.view().encoding(), "listpack");
        hash
    }

    fn listpack_of(elements: &[&[u8]]) -> Vec<u8> {
        let mut list = listpack::new();
        elements.iter().for_each(|it| listpack::push_back(&mut list, Item::from_bytes(it)).unwrap());
        list
    }

    #[test]
    fn a_packed_hash_is_dumped_as_the_listpack_of_redis() {
        let long = [b'x'; 64];
        let check = |pairs: &[(&[u8], &[u8])]| {
            let elements: Vec<_> = pairs.iter().flat_map(|(field, value)| [*field, *value]).collect();
            let expected = payload_of(TYPE_HASH_LISTPACK, &listpack_of(&elements));
            let hash = Value::Hash(hash_of(pairs));
            assert_eq!(dump(hash.as_ref()), expected, "{pairs:?}");
            assert_eq!(serialized_len(hash.as_ref()) + 1 + FOOTER_LEN, expected.len());
            let restored = restore(&expected, Tools::random()).unwrap();
            assert_eq!(restored, hash);
            assert_eq!(dump(restored.as_ref()), expected, "the order is kept");
        };
        check(&[(b"field", b"value")]);
        check(&[(b"", b""), (b"1", b"-70000"), (b"name", &long), (&long, b"9223372036854775807")]);
        let names: Vec<_> = (0..512).map(|number| format!("{number:x}").into_bytes()).collect();
        check(&names.iter().map(|name| (&name[..], &b"4000"[..])).collect::<Vec<_>>());
    }

    #[test]
    fn packed_hashes_of_any_origin_are_checked_before_they_are_taken() {
        let field = b"field".as_slice();
        let zipmap = b"\x02\x05field\x02\x0012\x01a\x01\0b\xFF".as_slice();
        let ziplist = b"\x1B\0\0\0\x17\0\0\0\x04\0\x00\x05field\x07\xFE\x0C\x03\x01a\x03\x01b\xFF".as_slice();
        let list = listpack_of(&[field, b"12", b"a", b"b"]);
        let expected = Value::Hash(hash_of(&[(field, b"12"), (b"a", b"b")]));
        for (type_byte, bytes) in
            [(TYPE_HASH_ZIPMAP, zipmap), (TYPE_HASH_ZIPLIST, ziplist), (TYPE_HASH_LISTPACK, &list[..])]
        {
            let value = restore(&payload_of(type_byte, bytes), Tools::random()).unwrap();
            assert_eq!(dump(value.as_ref()), dump(expected.as_ref()), "type {type_byte}");
            for len in 0..bytes.len() {
                let cut = payload_of(type_byte, &bytes[..len]);
                assert!(restore(&cut, Tools::random()).is_err(), "type {type_byte}, {len} bytes");
            }
            for (at, bit) in (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= 1 << bit;
                if let Ok(value) = restore(&payload_of(type_byte, &damaged), Tools::random()) {
                    let again = restore(&dump(value.as_ref()), Tools::random()).unwrap();
                    assert_eq!(again, value, "type {type_byte}, bit {bit} of byte {at}");
                }
            }
        }
        let refused = |elements: &[&[u8]], expected: &str| {
            let payload = payload_of(TYPE_HASH_LISTPACK, &listpack_of(elements));
            match restore(&payload, Tools::random()) {
                Err(RestoreError::Data(error)) => assert!(error.to_string().contains(expected), "{error}"),
                other => panic!("{elements:?}: {other:?}"),
            }
        };
        refused(&[field, b"12", b"a"], "not pairs");
        refused(&[field, b"12", field, b"13"], "there twice");
        let mut wrong = listpack_of(&[field, b"12"]);
        // The backward length of the field.
        wrong[12] += 1;
        assert!(restore(&payload_of(TYPE_HASH_LISTPACK, &wrong), Tools::random()).is_err());
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            any::<i32>().prop_map(|number| number.to_string().into_bytes()),
            prop::collection::vec(any::<u8>(), 0..80),
            (0usize..3).prop_map(|number| vec![7; number * 3000]),
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        let tools = Tools::random();
        let elements =
            || prop_oneof![prop::collection::vec(bytes(), 1..20), prop::collection::vec(bytes(), 500..700)];
        prop_oneof![
            bytes().prop_map(Value::Bytes),
            any::<i64>().prop_map(Value::Int),
            elements().prop_map(move |elements| {
                let mut list = List::empty(Vec::new());
                elements.iter().for_each(|it| list.push_back(it, &tools.limits));
                Value::List(list)
            }),
            elements().prop_map(move |elements| {
                let mut set = Set::empty(Vec::new());
                for it in &elements {
                    set.insert(it, &tools.limits, tools.hasher);
                }
                Value::Set(set)
            }),
            (elements(), any::<f64>()).prop_map(move |(elements, scale)| {
                let mut set = SortedSet::empty(Vec::new());
                let scale = if scale.is_nan() { 1.0 } else { scale };
                for (number, it) in (0u32..).zip(&elements) {
                    let score = f64::from(number) * scale;
                    set.insert(it, if score.is_nan() { 0.0 } else { score }, &tools.limits, tools.hasher);
                }
                Value::SortedSet(set)
            }),
            elements().prop_map(move |elements| {
                let mut hash = Hash::empty(Vec::new());
                for it in &elements {
                    hash.set(it, &[&it[..], b"x"].concat(), &tools.limits, tools.hasher);
                }
                Value::Hash(hash)
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_value_survives_its_dump_and_damage_never_panics(value in value(), at: prop::sample::Index, bit in 0..8) {
            let payload = dump(value.as_ref());
            let restored = restore(&payload, Tools::random()).unwrap();
            prop_assert_eq!(restored.as_ref(), value.as_ref());
            let mut damaged = payload.clone();
            let at = at.index(damaged.len());
            damaged[at] ^= 1u8 << bit;
            prop_assert!(restore(&damaged, Tools::random()).is_err(), "the checksum covers every bit");
            // With a right checksum the value itself is checked.
            let body_len = damaged.len() - 8;
            let checksum = CRC64.checksum(&damaged[..body_len]);
            damaged[body_len..].copy_from_slice(&checksum.to_le_bytes());
            if let Ok(value) = restore(&damaged, Tools::random()) {
                dump(value.as_ref());
            }
            let cut = &payload[..at];
            prop_assert!(restore(cut, Tools::random()).is_err());
        }
    }
}
