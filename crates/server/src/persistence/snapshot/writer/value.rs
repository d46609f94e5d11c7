//! Values: the type byte and what follows it. Large ones are handed on piece by piece.

use std::io::{self, Write};

use holdfast_collections::listpack::{Item, Scratch};
use holdfast_collections::types::{HashRef, SetRef, SortedSetRef};

use super::super::format::{
    NODE_PACKED, TYPE_HASH, TYPE_HASH_LISTPACK, TYPE_LIST_QUICKLIST_2, TYPE_SET, TYPE_SET_INTSET,
    TYPE_STRING, TYPE_ZSET_2, TYPE_ZSET_LISTPACK, encode_int, encode_length,
};
use super::RdbWriter;
use crate::engine::{StringRef, ValueRef};

/// The byte that says how a value is written.
pub(crate) fn type_byte(value: ValueRef<'_>) -> u8 {
    match value {
        ValueRef::String(_) => TYPE_STRING,
        ValueRef::List(_) => TYPE_LIST_QUICKLIST_2,
        ValueRef::Set(SetRef::Ints(_)) => TYPE_SET_INTSET,
        ValueRef::Set(SetRef::Packed(_) | SetRef::Large(_)) => TYPE_SET,
        ValueRef::SortedSet(SortedSetRef::Packed(_)) => TYPE_ZSET_LISTPACK,
        ValueRef::SortedSet(SortedSetRef::Large(_)) => TYPE_ZSET_2,
        ValueRef::Hash(HashRef::Packed(_)) => TYPE_HASH_LISTPACK,
        ValueRef::Hash(HashRef::Large(_)) => TYPE_HASH,
    }
}

impl<W: Write> RdbWriter<W> {
    /// Writes what follows the type byte and the key.
    pub(crate) fn value(&mut self, value: ValueRef<'_>) -> io::Result<()> {
        match value {
            ValueRef::String(StringRef::Int(number)) => self.put_item(Item::Int(number)),
            ValueRef::String(StringRef::Bytes(bytes)) => self.put_string(bytes),
            ValueRef::List(list) => {
                self.put_length(list.nodes().count());
                for node in list.nodes() {
                    encode_length(&mut self.buffer, NODE_PACKED);
                    self.put_string(node.bytes())?;
                    self.flush_if_full()?;
                }
                Ok(())
            }
            ValueRef::Set(SetRef::Ints(ints)) => self.put_string(ints.bytes()),
            ValueRef::Set(set) => {
                self.put_length(set.len());
                for member in set.iter() {
                    self.put_item(member)?;
                    self.flush_if_full()?;
                }
                Ok(())
            }
            ValueRef::SortedSet(SortedSetRef::Packed(list)) => self.put_string(list.bytes()),
            ValueRef::SortedSet(set) => {
                self.put_length(set.len());
                for (member, score) in set.iter() {
                    self.put_item(member)?;
                    self.buffer.extend_from_slice(&score.to_le_bytes());
                    self.flush_if_full()?;
                }
                Ok(())
            }
            ValueRef::Hash(HashRef::Packed(pairs)) => {
                let mut list = std::mem::take(&mut self.listpack);
                pairs.write_listpack(&mut list);
                let result = self.put_string(&list);
                self.listpack = list;
                result
            }
            ValueRef::Hash(hash) => {
                self.put_length(hash.len());
                for (field, value) in hash.iter() {
                    self.put_item(field)?;
                    self.put_item(value)?;
                    self.flush_if_full()?;
                }
                Ok(())
            }
        }
    }

    fn put_length(&mut self, len: usize) {
        encode_length(&mut self.buffer, len as u64);
    }

    fn put_item(&mut self, item: Item<'_>) -> io::Result<()> {
        match item {
            Item::Int(number) if encode_int(&mut self.buffer, number) => Ok(()),
            Item::Int(_) => self.put_plain(item.as_bytes(&mut Scratch::new())),
            Item::Bytes(bytes) => self.put_string(bytes),
        }
    }
}
