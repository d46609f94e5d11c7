//! Who listens to what: channels, patterns and shard channels with their subscribers, and the messages they get.
//!
//! Pure: subscribers are numbers that the executor chooses; what is said to them goes through its outbox. Delivery is in
//! order of subscription: first the channel's subscribers, then those of each pattern that matches.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::glob;
use crate::protocol::{ReplyWriter, RespVersion};

/// A subscriber: whatever the owner of the registry knows its clients by.
pub type Subscriber = u64;

/// What can be subscribed to. The spaces of names are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// A channel (SUBSCRIBE).
    Channel,
    /// A glob pattern of channels (PSUBSCRIBE).
    Pattern,
    /// A shard channel (SSUBSCRIBE).
    Shard,
}

impl Topic {
    fn index(self) -> usize {
        match self {
            Topic::Channel => 0,
            Topic::Pattern => 1,
            Topic::Shard => 2,
        }
    }
}

/// How many subscriptions one client has, by topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SubscriptionCounts {
    /// Channels.
    pub(crate) channels: usize,
    /// Patterns.
    pub(crate) patterns: usize,
    /// Shard channels.
    pub(crate) shards: usize,
    /// Bytes that all of them take, for memory accounting.
    pub(crate) bytes: usize,
}

impl SubscriptionCounts {
    /// Whether there is none.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.channels + self.patterns + self.shards == 0
    }
}

type Name = Arc<[u8]>;

/// Who has subscribed to a name.
#[derive(Debug, Default)]
struct Listeners {
    /// Number of the first subscription, by which patterns are found.
    since: u64,
    /// In order of their subscriptions.
    subscribers: Vec<Subscriber>,
}

/// What one client has subscribed to; names in order of subscription are found by their number.
#[derive(Debug, Default)]
struct Membership {
    by_name: [HashMap<Name, u64>; 3],
    in_order: [BTreeMap<u64, Name>; 3],
    /// Bytes that the subscriptions take.
    bytes: usize,
}

/// Bytes of one subscription: the name, which several may share, its places in both maps of its client and in that of all,
/// as full as such maps are, and the list of its subscribers; of a pattern that of its number, too. Measured:
/// `tests/limits.rs` compares.
fn subscription_bytes(topic: Topic, name: &[u8]) -> usize {
    const PLACES_LEN: usize = 260;
    const PATTERN_LEN: usize = 55;
    PLACES_LEN + name.len() + if topic == Topic::Pattern { PATTERN_LEN } else { 0 }
}

/// All subscriptions.
#[derive(Debug, Default)]
pub struct PubSub {
    topics: [HashMap<Name, Listeners>; 3],
    /// Patterns in the order in which they came into use, by [`Listeners::since`]: every published message is compared with
    /// each.
    patterns: BTreeMap<u64, Name>,
    members: HashMap<Subscriber, Membership>,
    next_number: u64,
}

impl PubSub {
    /// Subscribes; false when `subscriber` was subscribed already.
    pub(crate) fn subscribe(&mut self, subscriber: Subscriber, topic: Topic, name: &[u8]) -> bool {
        let index = topic.index();
        let member = self.members.entry(subscriber).or_default();
        if member.by_name[index].contains_key(name) {
            return false;
        }
        self.next_number += 1;
        let known = self.topics[index].get_key_value(name).map(|(name, _)| Arc::clone(name));
        let shared = known.unwrap_or_else(|| {
            let shared = Name::from(name);
            let listeners = Listeners { since: self.next_number, subscribers: Vec::new() };
            self.topics[index].insert(Arc::clone(&shared), listeners);
            if topic == Topic::Pattern {
                self.patterns.insert(self.next_number, Arc::clone(&shared));
            }
            shared
        });
        self.topics[index].entry(Arc::clone(&shared)).or_default().subscribers.push(subscriber);
        member.by_name[index].insert(Arc::clone(&shared), self.next_number);
        member.in_order[index].insert(self.next_number, shared);
        member.bytes += subscription_bytes(topic, name);
        true
    }

    /// Ends a subscription; false when there was none.
    pub(crate) fn unsubscribe(&mut self, subscriber: Subscriber, topic: Topic, name: &[u8]) -> bool {
        let index = topic.index();
        let Some(member) = self.members.get_mut(&subscriber) else { return false };
        let Some(number) = member.by_name[index].remove(name) else { return false };
        member.in_order[index].remove(&number);
        member.bytes -= subscription_bytes(topic, name);
        if member.by_name.iter().all(HashMap::is_empty) {
            self.members.remove(&subscriber);
        }
        self.leave(subscriber, topic, name);
        true
    }

    fn leave(&mut self, subscriber: Subscriber, topic: Topic, name: &[u8]) {
        let names = &mut self.topics[topic.index()];
        let Some(listeners) = names.get_mut(name) else { return };
        listeners.subscribers.retain(|it| *it != subscriber);
        if listeners.subscribers.is_empty() {
            if topic == Topic::Pattern {
                self.patterns.remove(&listeners.since);
            }
            names.remove(name);
        }
    }

    /// Ends all subscriptions of a client that leaves, or that asks for RESET.
    pub(crate) fn forget(&mut self, subscriber: Subscriber) {
        let Some(member) = self.members.remove(&subscriber) else { return };
        for topic in [Topic::Channel, Topic::Pattern, Topic::Shard] {
            for name in member.in_order[topic.index()].values() {
                self.leave(subscriber, topic, name);
            }
        }
    }

    /// What a client has subscribed to, in order.
    #[must_use]
    pub(crate) fn subscriptions(&self, subscriber: Subscriber, topic: Topic) -> Vec<Arc<[u8]>> {
        self.members
            .get(&subscriber)
            .map(|member| member.in_order[topic.index()].values().map(Arc::clone).collect())
            .unwrap_or_default()
    }

    /// How many subscriptions a client has.
    #[must_use]
    pub(crate) fn counts(&self, subscriber: Subscriber) -> SubscriptionCounts {
        let Some(member) = self.members.get(&subscriber) else { return SubscriptionCounts::default() };
        let [channels, patterns, shards] = &member.by_name;
        SubscriptionCounts {
            channels: channels.len(),
            patterns: patterns.len(),
            shards: shards.len(),
            bytes: member.bytes,
        }
    }

    /// Names of a topic that somebody has subscribed to and that match `pattern`, in no particular order.
    #[must_use]
    pub(crate) fn names(&self, topic: Topic, pattern: Option<&[u8]>) -> Vec<Arc<[u8]>> {
        let names = self.topics[topic.index()].keys();
        names.filter(|name| pattern.is_none_or(|it| glob::matches(it, name))).map(Arc::clone).collect()
    }

    /// Number of subscribers of exactly this name.
    #[must_use]
    pub(crate) fn subscribers(&self, topic: Topic, name: &[u8]) -> usize {
        self.topics[topic.index()].get(name).map_or(0, |listeners| listeners.subscribers.len())
    }

    /// Number of different names of a topic.
    #[must_use]
    pub(crate) fn len(&self, topic: Topic) -> usize {
        self.topics[topic.index()].len()
    }

    /// Whether nobody has subscribed to anything.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Calls `deliver` for every message that publishing to `channel` makes: its receiver, and the pattern on whose account
    /// it gets it. `topic` is [`Topic::Channel`] or [`Topic::Shard`].
    pub(crate) fn receivers(
        &self,
        topic: Topic,
        channel: &[u8],
        mut deliver: impl FnMut(Subscriber, Option<&[u8]>),
    ) {
        if let Some(listeners) = self.topics[topic.index()].get(channel) {
            listeners.subscribers.iter().for_each(|subscriber| deliver(*subscriber, None));
        }
        if topic != Topic::Channel {
            return;
        }
        for pattern in self.patterns.values().filter(|pattern| glob::matches(pattern, channel)) {
            let listeners = self.topics[Topic::Pattern.index()].get(pattern);
            listeners
                .into_iter()
                .flat_map(|it| &it.subscribers)
                .for_each(|subscriber| deliver(*subscriber, Some(pattern)));
        }
    }
}

/// One message as its receivers get it.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// [`Topic::Channel`] or [`Topic::Shard`].
    pub(crate) topic: Topic,
    /// Where it was published.
    pub(crate) channel: &'a [u8],
    /// What.
    pub(crate) payload: &'a [u8],
}

impl Message<'_> {
    /// The bytes in one dialect; `pattern` is the one on whose account it is received.
    #[must_use]
    pub(crate) fn encode(&self, version: RespVersion, pattern: Option<&[u8]>) -> Vec<u8> {
        const HEADERS_LEN: usize = 96;
        let names_len = self.channel.len() + pattern.map_or(0, <[u8]>::len);
        let mut bytes = Vec::with_capacity(HEADERS_LEN + names_len + self.payload.len());
        let mut writer = ReplyWriter::new(&mut bytes, version);
        match pattern {
            Some(pattern) => {
                writer.push(4);
                writer.bulk(b"pmessage");
                writer.bulk(pattern);
            }
            None => {
                writer.push(3);
                writer.bulk(if self.topic == Topic::Shard { b"smessage" } else { b"message" });
            }
        }
        writer.bulk(self.channel);
        writer.bulk(self.payload);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(pubsub: &PubSub, topic: Topic, channel: &str) -> Vec<(u64, Option<String>)> {
        let mut all = Vec::new();
        pubsub.receivers(topic, channel.as_bytes(), |subscriber, pattern| {
            all.push((subscriber, pattern.map(|it| String::from_utf8_lossy(it).into_owned())));
        });
        all
    }

    #[test]
    fn messages_go_to_the_channel_and_then_to_each_pattern_in_order_of_subscription() {
        let mut pubsub = PubSub::default();
        assert!(pubsub.subscribe(2, Topic::Pattern, b"n*"));
        assert!(pubsub.subscribe(1, Topic::Pattern, b"*s"));
        assert!(pubsub.subscribe(3, Topic::Channel, b"news"));
        assert!(pubsub.subscribe(1, Topic::Channel, b"news"));
        assert!(!pubsub.subscribe(1, Topic::Channel, b"news"), "twice is once");
        assert!(pubsub.subscribe(4, Topic::Shard, b"news"));
        let pattern = |it: &str| Some(it.to_owned());
        assert_eq!(
            received(&pubsub, Topic::Channel, "news"),
            [(3, None), (1, None), (2, pattern("n*")), (1, pattern("*s"))]
        );
        assert_eq!(received(&pubsub, Topic::Shard, "news"), [(4, None)]);
        assert_eq!(received(&pubsub, Topic::Channel, "other"), []);
    }

    #[test]
    fn nothing_is_kept_of_subscriptions_that_ended() {
        let mut pubsub = PubSub::default();
        for subscriber in 0..10 {
            for name in ["a", "b", "c"] {
                pubsub.subscribe(subscriber, Topic::Channel, name.as_bytes());
                pubsub.subscribe(subscriber, Topic::Pattern, name.as_bytes());
                pubsub.subscribe(subscriber, Topic::Shard, name.as_bytes());
            }
        }
        let bytes_of = |topic| subscription_bytes(topic, b"a");
        let bytes = 3 * [Topic::Channel, Topic::Pattern, Topic::Shard].map(bytes_of).iter().sum::<usize>();
        let counts = SubscriptionCounts { channels: 3, patterns: 3, shards: 3, bytes };
        assert_eq!(pubsub.counts(7), counts);
        assert_eq!(
            pubsub.subscriptions(7, Topic::Pattern).iter().map(|it| it.to_vec()).collect::<Vec<_>>(),
            [b"a", b"b", b"c"]
        );
        for subscriber in 0..10 {
            assert!(pubsub.unsubscribe(subscriber, Topic::Channel, b"b"));
            assert!(!pubsub.unsubscribe(subscriber, Topic::Channel, b"b"));
            assert_eq!(pubsub.counts(subscriber).bytes, bytes - bytes_of(Topic::Channel));
            pubsub.forget(subscriber);
        }
        assert!(pubsub.is_empty() && pubsub.patterns.is_empty());
        assert!(pubsub.topics.iter().all(HashMap::is_empty));
        assert_eq!(pubsub.counts(7), SubscriptionCounts::default());
    }

    #[test]
    fn messages_have_the_form_of_their_topic() {
        let message = Message { topic: Topic::Channel, channel: b"c", payload: b"m" };
        assert_eq!(
            message.encode(RespVersion::Resp2, None),
            b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n"
        );
        assert_eq!(
            message.encode(RespVersion::Resp3, Some(b"c*")),
            b">4\r\n$8\r\npmessage\r\n$2\r\nc*\r\n$1\r\nc\r\n$1\r\nm\r\n"
        );
        let message = Message { topic: Topic::Shard, ..message };
        assert_eq!(
            message.encode(RespVersion::Resp3, None),
            b">3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$1\r\nm\r\n"
        );
    }
}
