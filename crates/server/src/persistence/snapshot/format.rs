//! The byte values of RDB and its variable-length integers.
//!
//! ```text
//! file    = ("REDIS" version(4 digits) | "VALKEY" version(3 digits)) item* 0xFF crc64(8, little-endian; zeros: not computed; absent below version 5)
//! item    = 0xFA string string                          auxiliary field: name, value
//!         | 0xFE length                                 the following entries belong to this database
//!         | 0xFB length length                          size hints of the database: keys, keys with an expiry
//!         | 0xF4 length length length                   size hints of a cluster slot: slot, keys, keys with an expiry
//!         | [0xFC i64le | 0xFD i32le] [0xF8 length] [0xF9 u8] type string value     one key
//! length  = 00xxxxxx | 01xxxxxx +1 | 0x80 u32be | 0x81 u64be
//! string  = length bytes | 0xC0 i8 | 0xC1 i16le | 0xC2 i32le | 0xC3 length(compressed) length(plain) lzf-bytes
//! ```

use crc::{CRC_64_REDIS, Crc, Table};

/// First bytes of every RDB but those of Valkey 9 and later.
pub(crate) const MAGIC: &[u8; 5] = b"REDIS";
/// First bytes of an RDB of Valkey 9 and later.
pub(crate) const MAGIC_VALKEY: &[u8; 6] = b"VALKEY";
/// Length of magic and version: five and four, or six and three bytes.
pub(crate) const HEADER_LEN: usize = 9;
/// Version that is written: the newest that Redis 7.0 loads.
pub(crate) const VERSION_WRITTEN: u32 = 10;
/// Newest version that is read. Versions up to this one differ only in opcodes and types that are refused by name.
pub(crate) const VERSION_MAX: u32 = 12;
/// The version behind Valkey's magic that is read: the one of Valkey 9.
pub(crate) const VERSION_VALKEY: u32 = 80;
/// Oldest version that ends with a checksum.
pub(crate) const VERSION_CHECKSUM: u32 = 5;

/// The checksum of RDB. Sixteen tables, because a load is otherwise limited by it.
pub(crate) static CRC64: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// Opcode: state of a slot migration (Valkey 9 and later; other servers use the byte for other things).
pub(crate) const OP_SLOT_IMPORT: u8 = 0xF3;
/// Opcode: per-slot sizes of a cluster node (Redis 7.4, Valkey 8 and later). Only a hint.
pub(crate) const OP_SLOT_INFO: u8 = 0xF4;
/// Opcode: a library of functions.
pub(crate) const OP_FUNCTION2: u8 = 0xF5;
/// Opcode: a library of functions, as release candidates of Redis 7.0 wrote it.
pub(crate) const OP_FUNCTION_PRE_GA: u8 = 0xF6;
/// Opcode: data of a module that belongs to no key.
pub(crate) const OP_MODULE_AUX: u8 = 0xF7;
/// Opcode: seconds since the last access of the next key.
pub(crate) const OP_IDLE: u8 = 0xF8;
/// Opcode: access frequency of the next key.
pub(crate) const OP_FREQ: u8 = 0xF9;
/// Opcode: auxiliary field.
pub(crate) const OP_AUX: u8 = 0xFA;
/// Opcode: size hints.
pub(crate) const OP_RESIZE_DB: u8 = 0xFB;
/// Opcode: expiry of the next key in milliseconds since the Unix epoch.
pub(crate) const OP_EXPIRE_MS: u8 = 0xFC;
/// Opcode: expiry of the next key in seconds since the Unix epoch.
pub(crate) const OP_EXPIRE_S: u8 = 0xFD;
/// Opcode: database of the following keys.
pub(crate) const OP_SELECT_DB: u8 = 0xFE;
/// Opcode: end of the data.
pub(crate) const OP_EOF: u8 = 0xFF;

/// Value type: string.
pub(crate) const TYPE_STRING: u8 = 0;
/// Value type: list, its elements as strings.
pub(crate) const TYPE_LIST: u8 = 1;
/// Value type: set, its members as strings.
pub(crate) const TYPE_SET: u8 = 2;
/// Value type: sorted set, members as strings and scores as text.
pub(crate) const TYPE_ZSET: u8 = 3;
/// Value type: hash, fields and values as strings.
pub(crate) const TYPE_HASH: u8 = 4;
/// Value type: sorted set, members as strings and scores as doubles.
pub(crate) const TYPE_ZSET_2: u8 = 5;
/// Value type: hash as a zipmap (before 2.6).
pub(crate) const TYPE_HASH_ZIPMAP: u8 = 9;
/// Value type: list as a ziplist (before 7.0).
pub(crate) const TYPE_LIST_ZIPLIST: u8 = 10;
/// Value type: set as an intset.
pub(crate) const TYPE_SET_INTSET: u8 = 11;
/// Value type: sorted set as a ziplist (before 7.0).
pub(crate) const TYPE_ZSET_ZIPLIST: u8 = 12;
/// Value type: hash as a ziplist (before 7.0).
pub(crate) const TYPE_HASH_ZIPLIST: u8 = 13;
/// Value type: list as ziplists (before 7.0).
pub(crate) const TYPE_LIST_QUICKLIST: u8 = 14;
/// Value type: hash as a listpack.
pub(crate) const TYPE_HASH_LISTPACK: u8 = 16;
/// Value type: sorted set as a listpack.
pub(crate) const TYPE_ZSET_LISTPACK: u8 = 17;
/// Value type: list as nodes: listpacks, and single elements.
pub(crate) const TYPE_LIST_QUICKLIST_2: u8 = 18;
/// Value type: set as a listpack (7.2 and later).
pub(crate) const TYPE_SET_LISTPACK: u8 = 20;

/// A node of a list that is one element.
pub(crate) const NODE_PLAIN: u64 = 1;
/// A node of a list that is a listpack.
pub(crate) const NODE_PACKED: u64 = 2;

/// Value type: value of a module, as release candidates of Redis 4 wrote it.
pub(crate) const TYPE_MODULE: u8 = 6;
/// Value type: value of a module.
pub(crate) const TYPE_MODULE_2: u8 = 7;

/// First byte of a 32-bit length.
pub(crate) const LEN_32: u8 = 0x80;
/// First byte of a 64-bit length.
pub(crate) const LEN_64: u8 = 0x81;
/// First byte of a string that is an 8-bit integer.
pub(crate) const ENC_INT8: u8 = 0xC0;
/// First byte of a string that is a 16-bit integer.
pub(crate) const ENC_INT16: u8 = 0xC1;
/// First byte of a string that is a 32-bit integer.
pub(crate) const ENC_INT32: u8 = 0xC2;
/// First byte of a compressed string.
pub(crate) const ENC_LZF: u8 = 0xC3;

/// Longest decimal form of a 32-bit integer: longer strings need no attempt to encode them as a number.
pub(crate) const INT32_TEXT_LEN_MAX: usize = 11;
/// Strings up to this length are never compressed: it cannot pay for the header.
pub(crate) const UNCOMPRESSED_LEN_MAX: usize = 20;
/// A compressed string must be at least this much shorter than the plain one (the size of its header).
pub(crate) const COMPRESSION_GAIN_MIN: usize = 4;

/// Whose numbers a file uses. Up to type 21 and in the other opcodes the two agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Redis, and Valkey before its version 9.
    Redis,
    /// Valkey 9 and later.
    Valkey,
}

/// What users call the data behind a type byte that is not a string, or `None` for a byte that no known version uses.
#[must_use]
pub(crate) fn type_name(dialect: Dialect, type_byte: u8) -> Option<&'static str> {
    Some(match type_byte {
        1 | 10 | 14 | 18 => "list",
        2 | 11 | 20 => "set",
        3 | 5 | 12 | 17 => "sorted set",
        4 | 9 | 13 | 16 => "hash",
        22 => "hash with field expiry",
        23..=25 if dialect == Dialect::Redis => "hash with field expiry",
        15 | 19 | 21 => "stream",
        6 | 7 => "module value",
        _ => return None,
    })
}

/// The name of a module's type: nine characters of six bits, above ten bits of its encoding version.
#[must_use]
pub(crate) fn module_name(id: u64) -> String {
    const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = (0..9).rev().map(|index| id >> (10 + 6 * index) & 63);
    bits.filter_map(|index| CHARACTERS.get(usize::try_from(index).ok()?))
        .map(|byte| char::from(*byte))
        .collect()
}

/// Appends the shortest form of `length`.
pub(crate) fn encode_length(out: &mut Vec<u8>, length: u64) {
    if let Ok(short) = u16::try_from(length)
        && short < 1 << 14
    {
        let [high, low] = short.to_be_bytes();
        if short < 1 << 6 {
            out.push(low);
        } else {
            out.extend_from_slice(&[0x40 | high, low]);
        }
    } else if let Ok(medium) = u32::try_from(length) {
        out.push(LEN_32);
        out.extend_from_slice(&medium.to_be_bytes());
    } else {
        out.push(LEN_64);
        out.extend_from_slice(&length.to_be_bytes());
    }
}

/// Appends `number` as an integer-encoded string and returns true, or returns false if it needs more than 32 bits.
#[must_use]
pub(crate) fn encode_int(out: &mut Vec<u8>, number: i64) -> bool {
    if let Ok(number) = i8::try_from(number) {
        out.push(ENC_INT8);
        out.extend_from_slice(&number.to_le_bytes());
    } else if let Ok(number) = i16::try_from(number) {
        out.push(ENC_INT16);
        out.extend_from_slice(&number.to_le_bytes());
    } else if let Ok(number) = i32::try_from(number) {
        out.push(ENC_INT32);
        out.extend_from_slice(&number.to_le_bytes());
    } else {
        return false;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        fn check(length: u64, expected: &[u8]) {
            let mut out = Vec::new();
            encode_length(&mut out, length);
            assert_eq!(out, expected, "{length}");
        }
        check(0, &[0]);
        check(63, &[63]);
        check(64, &[0x40, 64]);
        check(16_383, &[0x7F, 0xFF]);
        check(16_384, &[0x80, 0, 0, 0x40, 0]);
        check(u64::from(u32::MAX), &[0x80, 0xFF, 0xFF, 0xFF, 0xFF]);
        check(1 << 32, &[0x81, 0, 0, 0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn integers_take_the_narrowest_width() {
        fn check(number: i64, expected: Option<&[u8]>) {
            let mut out = Vec::new();
            assert_eq!(encode_int(&mut out, number), expected.is_some(), "{number}");
            assert_eq!(out, expected.unwrap_or_default(), "{number}");
        }
        check(-128, Some(&[0xC0, 0x80]));
        check(127, Some(&[0xC0, 0x7F]));
        check(128, Some(&[0xC1, 0x80, 0]));
        check(-32_769, Some(&[0xC2, 0xFF, 0x7F, 0xFF, 0xFF]));
        check(i64::from(i32::MAX), Some(&[0xC2, 0xFF, 0xFF, 0xFF, 0x7F]));
        check(i64::from(i32::MAX) + 1, None);
        check(i64::from(i32::MIN) - 1, None);
    }

    #[test]
    fn modules_have_names_of_nine_characters() {
        assert_eq!(module_name(0), "AAAAAAAAA");
        assert_eq!(module_name(u64::MAX), "_________");
        assert_eq!(module_name(63 << 10 | 1 << 58), "BAAAAAAA_");
    }

    #[test]
    fn the_checksum_is_the_one_of_redis() {
        assert_eq!(CRC64.checksum(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }
}
