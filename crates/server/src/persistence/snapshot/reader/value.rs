//! Values of keys, in every form in which Redis and Valkey have written them. Packed forms are checked whole before they are
//! used.

use std::fmt::Display;
use std::io::Read;

use holdfast_collections::listpack::{Item, Scratch};
use holdfast_collections::types::{Hash, LIST_ELEMENT_LEN_MAX, Limits, List, Set, SortedSet, parse_score};
use holdfast_collections::{intset, listpack, ziplist, zipmap};

use super::super::format::{
    NODE_PACKED, NODE_PLAIN, TYPE_HASH, TYPE_HASH_LISTPACK, TYPE_HASH_ZIPLIST, TYPE_HASH_ZIPMAP, TYPE_LIST,
    TYPE_LIST_QUICKLIST, TYPE_LIST_QUICKLIST_2, TYPE_LIST_ZIPLIST, TYPE_SET, TYPE_SET_INTSET,
    TYPE_SET_LISTPACK, TYPE_STRING, TYPE_ZSET, TYPE_ZSET_2, TYPE_ZSET_LISTPACK, TYPE_ZSET_ZIPLIST,
};
use super::{RdbVisitor, ReadRdbError, Reading};
use crate::engine::value::Value;

/// The lengths of a score as text that are no lengths.
const SCORE_NAN: u8 = 253;
const SCORE_INFINITY: u8 = 254;
const SCORE_MINUS_INFINITY: u8 = 255;

/// What is wrong with a value.
enum Damage {
    /// The file cannot be read on.
    File(ReadRdbError),
    /// The value is not one.
    Value(String),
}

impl From<ReadRdbError> for Damage {
    fn from(error: ReadRdbError) -> Damage {
        Damage::File(error)
    }
}

fn damage(what: impl Display) -> Damage {
    Damage::Value(what.to_string())
}

/// What is said of a value that cannot be one: first, in the words of Redis, in which form it was.
pub(in super::super) fn check_failed(type_byte: u8, what: &str) -> String {
    let form = match type_byte {
        TYPE_LIST_ZIPLIST => "List ziplist",
        TYPE_LIST_QUICKLIST => "Quicklist ziplist",
        TYPE_LIST_QUICKLIST_2 => "Quicklist listpack",
        TYPE_SET_INTSET => "Intset",
        TYPE_SET_LISTPACK => "Set listpack",
        TYPE_ZSET_ZIPLIST => "Zset ziplist",
        TYPE_ZSET_LISTPACK => "Zset listpack",
        TYPE_HASH_ZIPMAP => "Zipmap",
        TYPE_HASH_ZIPLIST => "Hash ziplist",
        TYPE_HASH_LISTPACK => "Hash listpack",
        _ => "Value",
    };
    format!("{form} integrity check failed: {what}")
}

const ODD: &str = "its elements are not pairs";
const DUPLICATE: &str = "an element is there twice";
const SCORE: &str = "a score is not a number";

impl<R: Read, V: RdbVisitor> Reading<'_, R, V> {
    /// Whether values of this type are read here.
    pub(super) fn is_value(type_byte: u8) -> bool {
        matches!(type_byte, TYPE_STRING..=TYPE_ZSET_2 | TYPE_HASH_ZIPMAP..=TYPE_LIST_QUICKLIST)
            || matches!(type_byte, TYPE_HASH_LISTPACK..=TYPE_LIST_QUICKLIST_2 | TYPE_SET_LISTPACK)
    }

    /// Reads what follows a type byte and a key; none for a collection without elements.
    pub(super) fn value(&mut self, type_byte: u8, key: &[u8]) -> Result<Option<Value>, ReadRdbError> {
        let offset = self.input.offset();
        let (value, is_empty) = match self.any_value(type_byte) {
            Ok(value) => value,
            Err(Damage::File(error)) => return Err(error),
            Err(Damage::Value(what)) => {
                let what = check_failed(type_byte, &what);
                tracing::debug!(offset, "{what}");
                let key = format!("\"{}\"", key.escape_ascii());
                return Err(ReadRdbError::DamagedValue { key, db: self.db, offset, what });
            }
        };
        Ok((!is_empty).then_some(value))
    }

    fn any_value(&mut self, type_byte: u8) -> Result<(Value, bool), Damage> {
        Ok(match type_byte {
            TYPE_STRING => (self.string("a value")?.into_value(), false),
            TYPE_LIST | TYPE_LIST_ZIPLIST | TYPE_LIST_QUICKLIST | TYPE_LIST_QUICKLIST_2 => {
                let list = self.list(type_byte)?;
                let is_empty = list.view().is_empty();
                (Value::List(list), is_empty)
            }
            TYPE_SET | TYPE_SET_INTSET | TYPE_SET_LISTPACK => {
                let set = self.set(type_byte)?;
                let is_empty = set.view().is_empty();
                (Value::Set(set), is_empty)
            }
            TYPE_ZSET | TYPE_ZSET_2 | TYPE_ZSET_ZIPLIST | TYPE_ZSET_LISTPACK => {
                let set = self.sorted_set(type_byte)?;
                let is_empty = set.view().is_empty();
                (Value::SortedSet(set), is_empty)
            }
            _ => {
                let hash = self.hash(type_byte)?;
                let is_empty = hash.view().is_empty();
                (Value::Hash(hash), is_empty)
            }
        })
    }

    fn count(&mut self) -> Result<u64, Damage> {
        Ok(self.length("the number of elements")?)
    }

    fn element(&mut self) -> Result<Vec<u8>, Damage> {
        let element = self.string("an element")?.into_bytes();
        self.report()?;
        Ok(element)
    }

    /// The bytes of a packed form.
    fn packed(&mut self) -> Result<Vec<u8>, Damage> {
        Ok(self.string("a packed value")?.into_bytes())
    }

    fn list(&mut self, type_byte: u8) -> Result<List, Damage> {
        let limits = self.tools.limits;
        let mut list = List::empty(Vec::new());
        match type_byte {
            TYPE_LIST => {
                for _ in 0..self.count()? {
                    push(&mut list, &self.element()?, &limits)?;
                }
            }
            TYPE_LIST_ZIPLIST => push_ziplist(&mut list, &self.packed()?, &limits)?,
            TYPE_LIST_QUICKLIST => {
                for _ in 0..self.length("the number of nodes")? {
                    push_ziplist(&mut list, &self.packed()?, &limits)?;
                    self.report()?;
                }
            }
            _ => {
                for _ in 0..self.length("the number of nodes")? {
                    match self.length("the form of a node")? {
                        NODE_PLAIN => push(&mut list, &self.element()?, &limits)?,
                        NODE_PACKED => {
                            push_node(&mut list, self.packed()?, &limits)?;
                        }
                        form => return Err(damage(format_args!("{form} is no form of a node"))),
                    }
                    self.report()?;
                }
            }
        }
        Ok(list)
    }

    fn set(&mut self, type_byte: u8) -> Result<Set, Damage> {
        let tools = self.tools;
        let mut set = Set::empty(Vec::new());
        let mut add = |member: &[u8]| match set.insert(member, &tools.limits, tools.hasher) {
            true => Ok(()),
            false => Err(damage(DUPLICATE)),
        };
        let mut text = Scratch::new();
        match type_byte {
            TYPE_SET => {
                for _ in 0..self.count()? {
                    add(&self.element()?)?;
                }
            }
            TYPE_SET_INTSET => {
                let bytes = self.packed()?;
                let ints = intset::check(&bytes).map_err(damage)?;
                if ints.len() <= tools.limits.set_ints {
                    return Ok(Set::Ints(bytes));
                }
                for number in ints.iter() {
                    add(Item::Int(number).as_bytes(&mut text))?;
                }
            }
            _ => {
                let bytes = self.packed()?;
                for member in listpack::check(&bytes).map_err(damage)?.iter() {
                    add(member.as_bytes(&mut text))?;
                }
            }
        }
        Ok(set)
    }

    fn sorted_set(&mut self, type_byte: u8) -> Result<SortedSet, Damage> {
        let tools = self.tools;
        let mut set = SortedSet::empty(Vec::new());
        let mut add = |member: &[u8], score: f64| {
            if score.is_nan() {
                return Err(damage(SCORE));
            }
            match set.insert(member, score, &tools.limits, tools.hasher) {
                None => Ok(()),
                Some(_) => Err(damage(DUPLICATE)),
            }
        };
        let mut text = Scratch::new();
        match type_byte {
            TYPE_ZSET | TYPE_ZSET_2 => {
                for _ in 0..self.count()? {
                    let member = self.element()?;
                    let score = match type_byte {
                        TYPE_ZSET => self.score_text()?,
                        _ => f64::from_le_bytes(self.array("a score")?),
                    };
                    add(&member, score)?;
                }
            }
            _ => {
                let bytes = self.packed()?;
                each_pair(type_byte == TYPE_ZSET_ZIPLIST, &bytes, |member, score| {
                    add(member.as_bytes(&mut text), parse_score(score).ok_or_else(|| damage(SCORE))?)
                })?;
            }
        }
        Ok(set)
    }

    /// A score as servers before 4.0 wrote it.
    fn score_text(&mut self) -> Result<f64, Damage> {
        let len = self.byte("a score")?;
        Ok(match len {
            SCORE_NAN => f64::NAN,
            SCORE_INFINITY => f64::INFINITY,
            SCORE_MINUS_INFINITY => f64::NEG_INFINITY,
            _ => {
                let text = self.bytes(len.into(), "a score")?;
                parse_score(Item::Bytes(&text)).ok_or_else(|| damage(SCORE))?
            }
        })
    }

    fn hash(&mut self, type_byte: u8) -> Result<Hash, Damage> {
        let tools = self.tools;
        let mut hash = Hash::empty(Vec::new());
        let mut add = |field: &[u8], value: &[u8]| match hash.set(field, value, &tools.limits, tools.hasher) {
            true => Ok(()),
            false => Err(damage(DUPLICATE)),
        };
        let (mut field_text, mut value_text) = (Scratch::new(), Scratch::new());
        match type_byte {
            TYPE_HASH => {
                for _ in 0..self.count()? {
                    let field = self.element()?;
                    add(&field, &self.element()?)?;
                }
            }
            TYPE_HASH_ZIPMAP => {
                let bytes = self.packed()?;
                for (field, value) in zipmap::check(&bytes).map_err(damage)?.iter() {
                    add(field.as_bytes(&mut field_text), value.as_bytes(&mut value_text))?;
                }
            }
            _ => {
                let bytes = self.packed()?;
                each_pair(type_byte == TYPE_HASH_ZIPLIST, &bytes, |field, value| {
                    add(field.as_bytes(&mut field_text), value.as_bytes(&mut value_text))
                })?;
            }
        }
        Ok(hash)
    }
}

fn push_ziplist(list: &mut List, bytes: &[u8], limits: &Limits) -> Result<(), Damage> {
    let mut text = Scratch::new();
    for item in ziplist::check(bytes).map_err(damage)?.iter() {
        push(list, item.as_bytes(&mut text), limits)?;
    }
    Ok(())
}

fn push_node(list: &mut List, node: Vec<u8>, limits: &Limits) -> Result<(), Damage> {
    let view = listpack::check(&node).map_err(damage)?;
    if node.len() > LIST_ELEMENT_LEN_MAX {
        let mut text = Scratch::new();
        view.iter().try_for_each(|item| check_element(item.as_bytes(&mut text)))?;
    }
    list.push_node(node, limits);
    Ok(())
}

/// Adds an element that may be too long for a list.
fn push(list: &mut List, element: &[u8], limits: &Limits) -> Result<(), Damage> {
    check_element(element)?;
    list.push_back(element, limits);
    Ok(())
}

fn check_element(element: &[u8]) -> Result<(), Damage> {
    match element.len() {
        0..=LIST_ELEMENT_LEN_MAX => Ok(()),
        len => Err(damage(format_args!("an element has {len} bytes, more than {LIST_ELEMENT_LEN_MAX}"))),
    }
}

/// Visits the pairs of a ziplist or a listpack.
fn each_pair(
    is_ziplist: bool,
    bytes: &[u8],
    mut visit: impl FnMut(Item<'_>, Item<'_>) -> Result<(), Damage>,
) -> Result<(), Damage> {
    if is_ziplist {
        each_two(ziplist::check(bytes).map_err(damage)?.iter(), &mut visit)
    } else {
        each_two(listpack::check(bytes).map_err(damage)?.iter(), &mut visit)
    }
}

fn each_two<'a>(
    mut items: impl Iterator<Item = Item<'a>>,
    visit: &mut impl FnMut(Item<'_>, Item<'_>) -> Result<(), Damage>,
) -> Result<(), Damage> {
    while let Some(first) = items.next() {
        visit(first, items.next().ok_or_else(|| damage(ODD))?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = LIST_ELEMENT_LEN_MAX + 1;

    fn refusal(result: Result<(), Damage>) -> String {
        match result {
            Err(Damage::Value(what)) => what,
            Err(Damage::File(error)) => panic!("{error}"),
            Ok(()) => panic!("taken"),
        }
    }

    /// Lists would not take it, and commands that move it would meet it later.
    #[test]
    fn an_element_that_is_too_long_in_a_packed_form_is_refused() {
        let (mut list, limits) = (List::empty(Vec::new()), Limits::default());
        let len = u32::try_from(LEN).unwrap().to_be_bytes();
        let mut ziplist = vec![0; 10 + 1 + 5 + LEN + 1];
        let total = u32::try_from(ziplist.len()).unwrap();
        ziplist[..4].copy_from_slice(&total.to_le_bytes());
        ziplist[4..8].copy_from_slice(&10_u32.to_le_bytes());
        ziplist[8..10].copy_from_slice(&1_u16.to_le_bytes());
        ziplist[11] = 0x80;
        ziplist[12..16].copy_from_slice(&len);
        *ziplist.last_mut().unwrap() = 0xff;
        let expected = format!("an element has {LEN} bytes");
        assert!(refusal(push_ziplist(&mut list, &ziplist, &limits)).starts_with(&expected));
        drop(ziplist);

        let mut node = vec![0; 6 + 5 + LEN + 5 + 1];
        let total = u32::try_from(node.len()).unwrap();
        node[..4].copy_from_slice(&total.to_le_bytes());
        node[4..6].copy_from_slice(&1_u16.to_le_bytes());
        node[6] = 0xf0;
        node[7..11].copy_from_slice(&u32::try_from(LEN).unwrap().to_le_bytes());
        // Length of the element, seven bits in each byte, the lowest at the end; all but the first are marked.
        let entry = LEN + 5;
        let back: Vec<u8> = (0..5)
            .rev()
            .map(|group| {
                u8::try_from((entry >> (7 * group)) & 127).unwrap() | if group == 4 { 0 } else { 128 }
            })
            .collect();
        let end = node.len();
        node[end - 6..end - 1].copy_from_slice(&back);
        node[end - 1] = 0xff;
        assert!(refusal(push_node(&mut list, node, &limits)).starts_with(&expected));
        assert!(list.view().is_empty());
    }
}
