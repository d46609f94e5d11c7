//! Slow commands, latency and memory.

use super::{Usage, integer, key, string};

const EVENT: Usage = Usage::new(&[string("event")]);

pub(crate) const SLOWLOG_GET: Usage = Usage::new(&[integer("count").optional()])
    .changed(&[("4.0.0", "Shows the address and the name of the client.")]);
pub(crate) const LATENCY_GRAPH: Usage = EVENT;
pub(crate) const LATENCY_HISTOGRAM: Usage = Usage::new(&[string("command").optional().repeated()]);
pub(crate) const LATENCY_HISTORY: Usage = EVENT;
pub(crate) const LATENCY_RESET: Usage = Usage::new(&[string("event").optional().repeated()]);
pub(crate) const MEMORY_USAGE: Usage =
    Usage::new(&[key("key"), integer("count").after("SAMPLES").optional()]);
