//! Values of keys, and the form in which a key leaves and enters the engine as a whole.

use crate::protocol::decode::parse_i64;

/// A value. Strings are the only type that exists; the enum is where others join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A string that is the canonical decimal form of an integer.
    Int(i64),
    /// Any other string; possibly empty.
    Bytes(Vec<u8>),
}

/// One key with everything that belongs to it: what a snapshot writes and what a load inserts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Database index.
    pub db: u32,
    /// Key; possibly empty.
    pub key: Box<[u8]>,
    /// Value.
    pub value: Value,
    /// Absolute expiry in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<i64>,
}

impl Value {
    /// The value that holds these bytes: an integer if they are the canonical form of one.
    pub fn from_bytes(bytes: &[u8]) -> Value {
        match parse_i64(bytes) {
            Some(number) => Value::Int(number),
            None => Value::Bytes(bytes.to_vec()),
        }
    }

    /// The bytes of the value; `buffer` holds them for an integer.
    pub fn as_bytes<'a>(&'a self, buffer: &'a mut itoa::Buffer) -> &'a [u8] {
        match self {
            Value::Int(number) => buffer.format(*number).as_bytes(),
            Value::Bytes(bytes) => bytes,
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.as_bytes(&mut itoa::Buffer::new()).len()
    }

    /// Whether the value has no bytes.
    pub fn is_empty(&self) -> bool {
        matches!(self, Value::Bytes(bytes) if bytes.is_empty())
    }

    /// The bytes for changes in place; afterwards the value is not an integer, whatever the bytes say.
    pub(crate) fn make_bytes(&mut self) -> &mut Vec<u8> {
        if let Value::Int(number) = self {
            *self = Value::Bytes(itoa::Buffer::new().format(*number).as_bytes().to_vec());
        }
        match self {
            Value::Bytes(bytes) => bytes,
            Value::Int(_) => unreachable!("integers were converted above"),
        }
    }
}
