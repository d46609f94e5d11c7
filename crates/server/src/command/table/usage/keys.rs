//! Keys of any type, and databases.

use super::{COUNT, MATCH, Usage, integer, key, one_of, pattern, string, word};

const FLUSH: Usage =
    Usage::new(&[one_of("async", &[word("ASYNC").since("4.0.0"), word("SYNC").since("6.2.0")]).optional()])
        .changed(&[("4.0.0", "Takes `ASYNC`."), ("6.2.0", "Takes `SYNC`.")]);
const KEY_NEWKEY: Usage = Usage::new(&[key("key"), key("newkey").in_key_spec(1)]);

pub(crate) const EXISTS: Usage = Usage::KEYS.changed(&[("3.0.3", "Takes several keys.")]);
pub(crate) const KEYS: Usage = Usage::new(&[pattern("pattern")]);
pub(crate) const SCAN: Usage =
    Usage::new(&[integer("cursor"), MATCH, COUNT, string("type").after("TYPE").optional().since("6.0.0")])
        .changed(&[("6.0.0", "Takes `TYPE`.")]);
pub(crate) const RENAME: Usage = KEY_NEWKEY;
pub(crate) const RENAMENX: Usage = KEY_NEWKEY.changed(&[("3.2.0", "Both names may be the same.")]);
pub(crate) const COPY: Usage = Usage::new(&[
    key("source"),
    key("destination").in_key_spec(1),
    integer("destination-db").after("DB").optional(),
    word("REPLACE").optional(),
]);
pub(crate) const MOVE: Usage = Usage::new(&[key("key"), integer("db")]);
pub(crate) const FLUSHDB: Usage = FLUSH;
pub(crate) const FLUSHALL: Usage = FLUSH;
pub(crate) const SWAPDB: Usage = Usage::new(&[integer("index1"), integer("index2")]);
pub(crate) const RESTORE: Usage = Usage::new(&[
    key("key"),
    integer("ttl"),
    string("serialized-value"),
    word("REPLACE").optional().since("3.0.0"),
    word("ABSTTL").optional().since("5.0.0"),
    integer("seconds").after("IDLETIME").optional().since("5.0.0"),
    integer("frequency").after("FREQ").optional().since("5.0.0"),
])
.changed(&[
    ("3.0.0", "Takes `REPLACE`."),
    ("5.0.0", "Takes `ABSTTL`."),
    ("5.0.0", "Takes `IDLETIME` and `FREQ`."),
]);
