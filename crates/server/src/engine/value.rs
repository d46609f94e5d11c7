//! Values of keys, and the form in which a key leaves and enters the engine as a whole.

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
