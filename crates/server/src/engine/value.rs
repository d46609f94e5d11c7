//! Values as others see them, and the form in which a key enters the engine as a whole.

/// A value that owns its bytes. Strings are the only type that exists; the enum is where others join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A string that is the canonical decimal form of an integer.
    Int(i64),
    /// Any other string; possibly empty.
    Bytes(Vec<u8>),
}

/// One key with everything that belongs to it: what a load inserts.
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

/// What a value is, borrowed from where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueRef<'a> {
    /// A string that is the canonical decimal form of an integer.
    Int(i64),
    /// Any other string; possibly empty.
    Bytes(&'a [u8]),
}

impl<'a> ValueRef<'a> {
    /// The bytes of the value; `buffer` holds them for an integer.
    pub fn as_bytes<'b>(self, buffer: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            ValueRef::Int(number) => buffer.format(number).as_bytes(),
            ValueRef::Bytes(bytes) => bytes,
        }
    }

    /// Length in bytes.
    pub(crate) fn len(self) -> usize {
        self.as_bytes(&mut itoa::Buffer::new()).len()
    }

    /// A copy that owns its bytes.
    pub(crate) fn to_value(self) -> Value {
        match self {
            ValueRef::Int(number) => Value::Int(number),
            ValueRef::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
        }
    }
}

impl Value {
    /// The value, borrowed.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Value::Int(number) => ValueRef::Int(*number),
            Value::Bytes(bytes) => ValueRef::Bytes(bytes),
        }
    }
}
