//! Lists.

use super::{
    Argument, COUNT, FRACTIONAL_TIMEOUT, NUMKEYS, Usage, WAIT_FOR_KEYS, double, integer, key, one_of, string,
    word,
};

const ENDS: &[Argument] = &[word("LEFT"), word("RIGHT")];
const SOURCE: Argument = key("source");
const DESTINATION: Argument = key("destination").in_key_spec(1);
const FROM: Argument = one_of("wherefrom", ENDS);
const TO: Argument = one_of("whereto", ENDS);
const KEY_ELEMENTS: Usage = Usage::new(&[key("key"), string("element").repeated()]);
const PUSH: Usage = KEY_ELEMENTS.changed(&[("2.4.0", "Takes several elements.")]);
const PUSH_TO_LIST: Usage = KEY_ELEMENTS.changed(&[("4.0.0", "Takes several elements.")]);
const POP: Usage = Usage::new(&[key("key"), integer("count").optional().since("6.2.0")])
    .changed(&[("6.2.0", "Takes a count.")]);
const KEY_RANGE: Usage = Usage::new(&[key("key"), integer("start"), integer("stop")]);

pub(crate) const LPUSH: Usage = PUSH;
pub(crate) const RPUSH: Usage = PUSH;
pub(crate) const LPUSHX: Usage = PUSH_TO_LIST;
pub(crate) const RPUSHX: Usage = PUSH_TO_LIST;
pub(crate) const LPOP: Usage = POP;
pub(crate) const RPOP: Usage = POP;
pub(crate) const LINDEX: Usage = Usage::new(&[key("key"), integer("index")]);
pub(crate) const LSET: Usage = Usage::new(&[key("key"), integer("index"), string("element")]);
pub(crate) const LRANGE: Usage = KEY_RANGE;
pub(crate) const LTRIM: Usage = KEY_RANGE;
pub(crate) const LREM: Usage = Usage::new(&[key("key"), integer("count"), string("element")]);
pub(crate) const LINSERT: Usage = Usage::new(&[
    key("key"),
    one_of("where", &[word("BEFORE"), word("AFTER")]),
    string("pivot"),
    string("element"),
]);
pub(crate) const LPOS: Usage = Usage::new(&[
    key("key"),
    string("element"),
    integer("rank").after("RANK").optional(),
    integer("num-matches").after("COUNT").optional(),
    integer("len").after("MAXLEN").optional(),
]);
pub(crate) const LMOVE: Usage = Usage::new(&[SOURCE, DESTINATION, FROM, TO]);
pub(crate) const RPOPLPUSH: Usage = Usage::new(&[SOURCE, DESTINATION]);
pub(crate) const LMPOP: Usage = Usage::new(&[NUMKEYS, key("key").repeated(), one_of("where", ENDS), COUNT]);
pub(crate) const BLPOP: Usage = WAIT_FOR_KEYS;
pub(crate) const BRPOP: Usage = WAIT_FOR_KEYS;
pub(crate) const BLMOVE: Usage = Usage::new(&[SOURCE, DESTINATION, FROM, TO, double("timeout")]);
pub(crate) const BRPOPLPUSH: Usage =
    Usage::new(&[SOURCE, DESTINATION, double("timeout")]).changed(&[FRACTIONAL_TIMEOUT]);
pub(crate) const BLMPOP: Usage =
    Usage::new(&[double("timeout"), NUMKEYS, key("key").repeated(), one_of("where", ENDS), COUNT]);
