//! Sets.

use super::{INTERSECTION_COUNT, MEMBER, SCAN_KEY, SEVERAL_MEMBERS, Usage, integer, key};

const KEY_MEMBERS: Usage = Usage::new(&[key("key"), MEMBER.repeated()]);
const COMBINE_AND_STORE: Usage = Usage::new(&[key("destination"), key("key").in_key_spec(1).repeated()]);

pub(crate) const SADD: Usage = KEY_MEMBERS.changed(&[SEVERAL_MEMBERS]);
pub(crate) const SREM: Usage = KEY_MEMBERS.changed(&[SEVERAL_MEMBERS]);
pub(crate) const SISMEMBER: Usage = Usage::new(&[key("key"), MEMBER]);
pub(crate) const SMISMEMBER: Usage = KEY_MEMBERS;
pub(crate) const SRANDMEMBER: Usage = Usage::new(&[key("key"), integer("count").optional().since("2.6.0")])
    .changed(&[("2.6.0", "Takes a count.")]);
pub(crate) const SPOP: Usage = Usage::new(&[key("key"), integer("count").optional().since("3.2.0")])
    .changed(&[("3.2.0", "Takes a count.")]);
pub(crate) const SMOVE: Usage = Usage::new(&[key("source"), key("destination").in_key_spec(1), MEMBER]);
pub(crate) const SINTERSTORE: Usage = COMBINE_AND_STORE;
pub(crate) const SINTERCARD: Usage = INTERSECTION_COUNT;
pub(crate) const SUNIONSTORE: Usage = COMBINE_AND_STORE;
pub(crate) const SDIFFSTORE: Usage = COMBINE_AND_STORE;
pub(crate) const SSCAN: Usage = SCAN_KEY;
