//! Sorted sets.

use super::{
    Argument, COUNT, INTERSECTION_COUNT, LIMIT, MEMBER, NUMKEYS, SCAN_KEY, SEVERAL_MEMBERS, Usage,
    WAIT_FOR_KEYS, block, double, integer, key, one_of, string, word,
};

const SORT_BY: Argument = one_of("sortby", &[word("BYSCORE"), word("BYLEX")]).optional();
const REV: Argument = word("REV").optional();
const WITHSCORES: Argument = word("WITHSCORES").optional();
const WEIGHTS: Argument = integer("weight").after("WEIGHTS").optional().repeated();
const AGGREGATE: Argument =
    one_of("aggregate", &[word("SUM"), word("MIN"), word("MAX")]).after("AGGREGATE").optional();
const ENDS: Argument = one_of("where", &[word("MIN"), word("MAX")]);

const KEY_MEMBER: Usage = Usage::new(&[key("key"), MEMBER]);
const KEY_MEMBERS: Usage = Usage::new(&[key("key"), MEMBER.repeated()]);
const KEY_SCORES: Usage = Usage::new(&[key("key"), double("min"), double("max")]);
const KEY_TEXTS: Usage = Usage::new(&[key("key"), string("min"), string("max")]);
const POP: Usage = Usage::new(&[key("key"), integer("count").optional()]);
const COMBINE: Usage = Usage::new(&[NUMKEYS, key("key").repeated(), WEIGHTS, AGGREGATE, WITHSCORES]);
const COMBINE_AND_STORE: Usage =
    Usage::new(&[key("destination"), NUMKEYS, key("key").in_key_spec(1).repeated(), WEIGHTS, AGGREGATE]);

pub(crate) const ZADD: Usage = Usage::new(&[
    key("key"),
    one_of("condition", &[word("NX"), word("XX")]).optional().since("3.0.2"),
    one_of("comparison", &[word("GT"), word("LT")]).optional().since("6.2.0"),
    word("CH").named("change").optional().since("3.0.2"),
    word("INCR").named("increment").optional().since("3.0.2"),
    block("score_member", &[double("score"), MEMBER]).repeated(),
])
.changed(&[
    SEVERAL_MEMBERS,
    ("3.0.2", "Takes `NX`, `XX`, `CH` and `INCR`."),
    ("6.2.0", "Takes `GT` and `LT`."),
]);
pub(crate) const ZREM: Usage = KEY_MEMBERS.changed(&[SEVERAL_MEMBERS]);
pub(crate) const ZINCRBY: Usage = Usage::new(&[key("key"), integer("increment"), MEMBER]);
pub(crate) const ZSCORE: Usage = KEY_MEMBER;
pub(crate) const ZMSCORE: Usage = KEY_MEMBERS;
pub(crate) const ZCOUNT: Usage = KEY_SCORES;
pub(crate) const ZLEXCOUNT: Usage = KEY_TEXTS;
pub(crate) const ZRANK: Usage = KEY_MEMBER;
pub(crate) const ZREVRANK: Usage = KEY_MEMBER;
pub(crate) const ZRANGE: Usage = Usage::new(&[
    key("key"),
    string("start"),
    string("stop"),
    SORT_BY.since("6.2.0"),
    REV.since("6.2.0"),
    LIMIT.since("6.2.0"),
    WITHSCORES,
])
.changed(&[("6.2.0", "Takes `BYSCORE`, `BYLEX`, `REV` and `LIMIT`.")]);
pub(crate) const ZRANGESTORE: Usage =
    Usage::new(&[key("dst"), key("src").in_key_spec(1), string("min"), string("max"), SORT_BY, REV, LIMIT]);
pub(crate) const ZRANGEBYSCORE: Usage =
    Usage::new(&[key("key"), double("min"), double("max"), WITHSCORES.since("2.0.0"), LIMIT])
        .changed(&[("2.0.0", "Takes `WITHSCORES`.")]);
pub(crate) const ZREVRANGEBYSCORE: Usage =
    Usage::new(&[key("key"), double("max"), double("min"), WITHSCORES, LIMIT])
        .changed(&[("2.1.6", "Either end of the range may be exclusive.")]);
pub(crate) const ZRANGEBYLEX: Usage = Usage::new(&[key("key"), string("min"), string("max"), LIMIT]);
pub(crate) const ZREVRANGEBYLEX: Usage = Usage::new(&[key("key"), string("max"), string("min"), LIMIT]);
pub(crate) const ZREVRANGE: Usage = Usage::new(&[key("key"), integer("start"), integer("stop"), WITHSCORES]);
pub(crate) const ZREMRANGEBYRANK: Usage = Usage::new(&[key("key"), integer("start"), integer("stop")]);
pub(crate) const ZREMRANGEBYSCORE: Usage = KEY_SCORES;
pub(crate) const ZREMRANGEBYLEX: Usage = KEY_TEXTS;
pub(crate) const ZPOPMIN: Usage = POP;
pub(crate) const ZPOPMAX: Usage = POP;
pub(crate) const BZPOPMIN: Usage = WAIT_FOR_KEYS;
pub(crate) const BZPOPMAX: Usage = WAIT_FOR_KEYS;
pub(crate) const ZMPOP: Usage = Usage::new(&[NUMKEYS, key("key").repeated(), ENDS, COUNT]);
pub(crate) const BZMPOP: Usage =
    Usage::new(&[double("timeout"), NUMKEYS, key("key").repeated(), ENDS, COUNT]);
pub(crate) const ZRANDMEMBER: Usage =
    Usage::new(&[key("key"), block("options", &[integer("count"), WITHSCORES]).optional()]);
pub(crate) const ZSCAN: Usage = SCAN_KEY;
pub(crate) const ZUNION: Usage = COMBINE;
pub(crate) const ZUNIONSTORE: Usage = COMBINE_AND_STORE;
pub(crate) const ZINTER: Usage = COMBINE;
pub(crate) const ZINTERSTORE: Usage = COMBINE_AND_STORE;
pub(crate) const ZINTERCARD: Usage = INTERSECTION_COUNT;
pub(crate) const ZDIFF: Usage = Usage::new(&[NUMKEYS, key("key").repeated(), WITHSCORES]);
pub(crate) const ZDIFFSTORE: Usage =
    Usage::new(&[key("destination"), NUMKEYS, key("key").in_key_spec(1).repeated()]);
