//! Expiry.

use super::{Argument, Usage, integer, key, one_of, unix_time, word};

const CONDITION: Argument =
    one_of("condition", &[word("NX"), word("XX"), word("GT"), word("LT")]).optional().since("7.0.0");
const CONDITIONAL: &[(&str, &str)] = &[("7.0.0", "Takes a condition: `NX`, `XX`, `GT` or `LT`.")];
const REMAINING: Usage = Usage::KEY.changed(&[("2.8.0", "Answers -2 for a missing key.")]);

pub(crate) const EXPIRE: Usage =
    Usage::new(&[key("key"), integer("seconds"), CONDITION]).changed(CONDITIONAL);
pub(crate) const PEXPIRE: Usage =
    Usage::new(&[key("key"), integer("milliseconds"), CONDITION]).changed(CONDITIONAL);
pub(crate) const EXPIREAT: Usage =
    Usage::new(&[key("key"), unix_time("unix-time-seconds"), CONDITION]).changed(CONDITIONAL);
pub(crate) const PEXPIREAT: Usage =
    Usage::new(&[key("key"), unix_time("unix-time-milliseconds"), CONDITION]).changed(CONDITIONAL);
pub(crate) const TTL: Usage = REMAINING;
pub(crate) const PTTL: Usage = REMAINING;
