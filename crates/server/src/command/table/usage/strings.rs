//! Strings.

use super::{Argument, Usage, block, double, integer, key, one_of, string, unix_time, word};

const KEY_VALUE: Usage = Usage::new(&[key("key"), string("value")]);
const KEY_RANGE: Usage = Usage::new(&[key("key"), integer("start"), integer("end")]);
const PAIRS: Usage = Usage::new(&[block("key_value", &[key("key"), string("value")]).repeated()]);

const SECONDS: Argument = integer("seconds").after("EX");
const MILLISECONDS: Argument = integer("milliseconds").after("PX");
const UNIX_SECONDS: Argument = unix_time("unix-time-seconds").after("EXAT");
const UNIX_MILLISECONDS: Argument = unix_time("unix-time-milliseconds").after("PXAT");

pub(crate) const SET: Usage = Usage::new(&[
    key("key"),
    string("value"),
    one_of("condition", &[word("NX"), word("XX")]).optional().since("2.6.12"),
    word("GET").optional().since("6.2.0"),
    one_of(
        "expiration",
        &[
            SECONDS.since("2.6.12"),
            MILLISECONDS.since("2.6.12"),
            UNIX_SECONDS.since("6.2.0"),
            UNIX_MILLISECONDS.since("6.2.0"),
            word("KEEPTTL").since("6.0.0"),
        ],
    )
    .optional(),
])
.changed(&[
    ("2.6.12", "Takes `EX`, `PX`, `NX` and `XX`."),
    ("6.0.0", "Takes `KEEPTTL`."),
    ("6.2.0", "Takes `GET`, `EXAT` and `PXAT`."),
    ("7.0.0", "Takes `NX` together with `GET`."),
]);
pub(crate) const SETNX: Usage = KEY_VALUE;
pub(crate) const SETEX: Usage = Usage::new(&[key("key"), integer("seconds"), string("value")]);
pub(crate) const PSETEX: Usage = Usage::new(&[key("key"), integer("milliseconds"), string("value")]);
pub(crate) const GETSET: Usage = KEY_VALUE;
pub(crate) const GETEX: Usage = Usage::new(&[
    key("key"),
    one_of("expiration", &[SECONDS, MILLISECONDS, UNIX_SECONDS, UNIX_MILLISECONDS, word("PERSIST")])
        .optional(),
]);
pub(crate) const MSET: Usage = PAIRS;
pub(crate) const MSETNX: Usage = PAIRS;
pub(crate) const INCRBY: Usage = Usage::new(&[key("key"), integer("increment")]);
pub(crate) const DECRBY: Usage = Usage::new(&[key("key"), integer("decrement")]);
pub(crate) const INCRBYFLOAT: Usage = Usage::new(&[key("key"), double("increment")]);
pub(crate) const APPEND: Usage = KEY_VALUE;
pub(crate) const GETRANGE: Usage = KEY_RANGE;
pub(crate) const SUBSTR: Usage = KEY_RANGE;
pub(crate) const SETRANGE: Usage = Usage::new(&[key("key"), integer("offset"), string("value")]);
pub(crate) const LCS: Usage = Usage::new(&[
    key("key1"),
    key("key2"),
    word("LEN").optional(),
    word("IDX").optional(),
    integer("len").after("MINMATCHLEN").optional(),
    word("WITHMATCHLEN").optional(),
]);
