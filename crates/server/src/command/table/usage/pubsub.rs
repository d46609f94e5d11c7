//! Publish and subscribe.

use super::{Usage, block, pattern, string};

const ANY_CHANNELS: Usage = Usage::new(&[string("channel").optional().repeated()]);
const ANY_SHARD_CHANNELS: Usage = Usage::new(&[string("shardchannel").optional().repeated()]);
const ANY_PATTERN: Usage = Usage::new(&[pattern("pattern").optional()]);

pub(crate) const SUBSCRIBE: Usage = Usage::new(&[string("channel").repeated()]);
pub(crate) const UNSUBSCRIBE: Usage = ANY_CHANNELS;
pub(crate) const PSUBSCRIBE: Usage = Usage::new(&[block("pattern", &[pattern("pattern")]).repeated()]);
pub(crate) const PUNSUBSCRIBE: Usage = Usage::new(&[pattern("pattern").optional().repeated()]);
pub(crate) const SSUBSCRIBE: Usage = Usage::new(&[string("shardchannel").repeated()]);
pub(crate) const SUNSUBSCRIBE: Usage = ANY_SHARD_CHANNELS;
pub(crate) const PUBLISH: Usage = Usage::new(&[string("channel"), string("message")]);
pub(crate) const SPUBLISH: Usage = Usage::new(&[string("shardchannel"), string("message")]);
pub(crate) const PUBSUB_CHANNELS: Usage = ANY_PATTERN;
pub(crate) const PUBSUB_NUMSUB: Usage = ANY_CHANNELS;
pub(crate) const PUBSUB_SHARDCHANNELS: Usage = ANY_PATTERN;
pub(crate) const PUBSUB_SHARDNUMSUB: Usage = ANY_SHARD_CHANNELS;
