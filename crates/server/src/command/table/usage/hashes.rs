//! Hashes.

use super::{Argument, SCAN_KEY, Usage, block, double, integer, key, string, word};

const KEY_FIELD: Usage = Usage::new(&[key("key"), string("field")]);
const KEY_FIELDS: Usage = Usage::new(&[key("key"), string("field").repeated()]);
const PAIRS: Argument = block("field_value", &[string("field"), string("value")]).repeated();

pub(crate) const HSET: Usage =
    Usage::new(&[key("key"), PAIRS]).changed(&[("4.0.0", "Takes several fields.")]);
pub(crate) const HSETNX: Usage = Usage::new(&[key("key"), string("field"), string("value")]);
pub(crate) const HGET: Usage = KEY_FIELD;
pub(crate) const HMSET: Usage = Usage::new(&[key("key"), PAIRS]);
pub(crate) const HMGET: Usage = KEY_FIELDS;
pub(crate) const HINCRBY: Usage = Usage::new(&[key("key"), string("field"), integer("increment")]);
pub(crate) const HINCRBYFLOAT: Usage = Usage::new(&[key("key"), string("field"), double("increment")]);
pub(crate) const HDEL: Usage = KEY_FIELDS.changed(&[("2.4.0", "Takes several fields.")]);
pub(crate) const HSTRLEN: Usage = KEY_FIELD;
pub(crate) const HEXISTS: Usage = KEY_FIELD;
pub(crate) const HRANDFIELD: Usage = Usage::new(&[
    key("key"),
    block("options", &[integer("count"), word("WITHVALUES").optional()]).optional(),
]);
pub(crate) const HSCAN: Usage = SCAN_KEY;
