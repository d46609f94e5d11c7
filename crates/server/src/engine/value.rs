//! Values as others see them, and the form in which a key enters the engine as a whole.

use holdfast_collections::types::{Hash, HashRef, List, ListRef, Set, SetRef, SortedSet, SortedSetRef};

mod digest;

use super::Access;
pub use super::object::Kind;

/// A value that owns its bytes.
#[derive(Debug, Clone)]
pub enum Value {
    /// A string that is the canonical decimal form of an integer.
    Int(i64),
    /// Any other string; possibly empty.
    Bytes(Vec<u8>),
    /// A list.
    List(List),
    /// A set.
    Set(Set),
    /// A sorted set.
    SortedSet(SortedSet),
    /// A hash.
    Hash(Hash),
}

/// One key with everything that belongs to it: what a load inserts.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Database index.
    pub db: u32,
    /// Key; possibly empty.
    pub key: Box<[u8]>,
    /// Value.
    pub value: Value,
    /// Absolute expiry in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<i64>,
    /// What is known of its use.
    pub access: Access,
}

/// What a string is, borrowed from where it lies. Two are equal when their bytes are.
#[derive(Debug, Clone, Copy)]
pub enum StringRef<'a> {
    /// The canonical decimal form of an integer.
    Int(i64),
    /// Any other string; possibly empty.
    Bytes(&'a [u8]),
}

/// What a value is, borrowed from where it lies. Two are equal when clients cannot tell them apart, however they are stored.
#[derive(Debug, Clone, Copy)]
pub enum ValueRef<'a> {
    /// A string.
    String(StringRef<'a>),
    /// A list.
    List(ListRef<'a>),
    /// A set.
    Set(SetRef<'a>),
    /// A sorted set.
    SortedSet(SortedSetRef<'a>),
    /// A hash.
    Hash(HashRef<'a>),
}

impl PartialEq for StringRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (StringRef::Int(one), StringRef::Int(other)) => one == other,
            _ => self.as_bytes(&mut itoa::Buffer::new()) == other.as_bytes(&mut itoa::Buffer::new()),
        }
    }
}

impl<'a> StringRef<'a> {
    /// The bytes of the string; `buffer` holds them for an integer.
    pub fn as_bytes<'b>(self, buffer: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            StringRef::Int(number) => buffer.format(number).as_bytes(),
            StringRef::Bytes(bytes) => bytes,
        }
    }

    /// Length in bytes.
    pub(crate) fn len(self) -> usize {
        self.as_bytes(&mut itoa::Buffer::new()).len()
    }
}

impl ValueRef<'_> {
    /// What the value is.
    pub fn kind(self) -> Kind {
        match self {
            ValueRef::String(_) => Kind::String,
            ValueRef::List(_) => Kind::List,
            ValueRef::Set(_) => Kind::Set,
            ValueRef::SortedSet(_) => Kind::SortedSet,
            ValueRef::Hash(_) => Kind::Hash,
        }
    }

    /// A copy that owns its bytes. Large collections are shared.
    pub fn to_value(self) -> Value {
        match self {
            ValueRef::String(StringRef::Int(number)) => Value::Int(number),
            ValueRef::String(StringRef::Bytes(bytes)) => Value::Bytes(bytes.to_vec()),
            ValueRef::List(ListRef::Packed(list)) => Value::List(List::Packed(list.bytes().to_vec())),
            ValueRef::List(ListRef::Large(list)) => Value::List(List::Large(list.clone())),
            ValueRef::Set(SetRef::Ints(ints)) => Value::Set(Set::Ints(ints.bytes().to_vec())),
            ValueRef::Set(SetRef::Packed(list)) => Value::Set(Set::Packed(list.bytes().to_vec())),
            ValueRef::Set(SetRef::Large(dict)) => Value::Set(Set::Large(dict.clone())),
            ValueRef::SortedSet(SortedSetRef::Packed(list)) => {
                Value::SortedSet(SortedSet::Packed(list.bytes().to_vec()))
            }
            ValueRef::SortedSet(SortedSetRef::Large(set)) => Value::SortedSet(SortedSet::Large(set.clone())),
            ValueRef::Hash(HashRef::Packed(list)) => Value::Hash(Hash::Packed(list.bytes().to_vec())),
            ValueRef::Hash(HashRef::Large(dict)) => Value::Hash(Hash::Large(dict.clone())),
        }
    }
}

impl Value {
    /// The value, borrowed.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Value::Int(number) => ValueRef::String(StringRef::Int(*number)),
            Value::Bytes(bytes) => ValueRef::String(StringRef::Bytes(bytes)),
            Value::List(list) => ValueRef::List(list.view()),
            Value::Set(set) => ValueRef::Set(set.view()),
            Value::SortedSet(set) => ValueRef::SortedSet(set.view()),
            Value::Hash(hash) => ValueRef::Hash(hash.view()),
        }
    }
}

#[cfg(test)]
impl Value {
    /// The string that the value is.
    pub(crate) fn as_string(&self) -> StringRef<'_> {
        match self.as_ref() {
            ValueRef::String(string) => string,
            other => panic!("{other:?} is no string"),
        }
    }
}

impl PartialEq for ValueRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (*self, *other) {
            (ValueRef::String(one), ValueRef::String(other)) => one == other,
            (ValueRef::List(one), ValueRef::List(other)) => {
                one.len() == other.len() && one.iter().eq(other.iter())
            }
            (ValueRef::Set(one), ValueRef::Set(other)) => {
                one.len() == other.len() && one.iter().all(|member| other.contains(&member.to_vec()))
            }
            (ValueRef::SortedSet(one), ValueRef::SortedSet(other)) => {
                one.len() == other.len() && one.iter().eq(other.iter())
            }
            (ValueRef::Hash(one), ValueRef::Hash(other)) => {
                one.len() == other.len()
                    && one
                        .iter()
                        .all(|(field, value)| other.get(&field.to_vec()).is_some_and(|it| it == value))
            }
            _ => false,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}
