//! Messages, keyspace events and monitored commands on their way to the outbox.

use bytes::Bytes;

use super::Core;
use crate::command::{Session, monitor_line};
use crate::engine::events::{KeyEvent, class};
use crate::network::stream::UNKNOWN;
use crate::protocol::{Request, RespVersion};
use crate::pubsub::{Message, Topic};

impl Core {
    /// Which keyspace events the engine has to note; 0 when they are published nowhere.
    pub(super) fn notified(&self) -> u32 {
        let mask = self.config.notify_keyspace_events;
        if mask & (class::KEYSPACE | class::KEYEVENT) == 0 { 0 } else { mask }
    }

    /// Puts a message into the outputs of its receivers; returns how many there are. The session that is served, `me`, is
    /// out of its slot: what it gets is appended to `own`.
    pub(super) fn publish_message(
        &mut self,
        message: &Message<'_>,
        me: Option<&Session>,
        own: &mut Vec<u8>,
    ) -> usize {
        let Self { pubsub, clients, outbox, current, .. } = self;
        if pubsub.is_empty() {
            return 0;
        }
        let current = current.as_ref().map(|current| current.slot);
        let mut count = 0;
        // Each form is encoded once, however many get it.
        let mut encoded: [Option<Bytes>; 2] = [None, None];
        let mut encoded_for: Option<Vec<u8>> = None;
        pubsub.receivers(message.topic, message.channel, |subscriber, pattern| {
            count += 1;
            let Ok(slot) = usize::try_from(subscriber) else { return };
            if encoded_for.as_deref() != pattern {
                encoded = [None, None];
                encoded_for = pattern.map(<[u8]>::to_vec);
            }
            let me = me.filter(|_| current == Some(slot));
            let version = match me {
                Some(me) => me.version(),
                None => match clients.get_mut(slot) {
                    Some(client) => client.session.version(),
                    None => return,
                },
            };
            let index = usize::from(version == RespVersion::Resp3);
            let bytes = encoded[index].get_or_insert_with(|| Bytes::from(message.encode(version, pattern)));
            match me {
                Some(_) => own.extend_from_slice(bytes),
                None => outbox.push(clients, slot, bytes),
            }
        });
        count
    }

    /// Publishes keyspace events as messages. Source: Redis 7.0, `notifyKeyspaceEvent`.
    pub(super) fn announce_key_events(
        &mut self,
        events: &[KeyEvent],
        me: Option<&Session>,
        own: &mut Vec<u8>,
    ) {
        let mask = self.config.notify_keyspace_events;
        for KeyEvent { db, name, key, .. } in events {
            if mask & class::KEYSPACE != 0 {
                let channel = [format!("__keyspace@{db}__:").as_bytes(), key].concat();
                let message = Message { topic: Topic::Channel, channel: &channel, payload: name.as_bytes() };
                self.publish_message(&message, me, own);
            }
            if mask & class::KEYEVENT != 0 {
                let channel = format!("__keyevent@{db}__:{name}");
                let message = Message { topic: Topic::Channel, channel: channel.as_bytes(), payload: key };
                self.publish_message(&message, me, own);
            }
        }
    }

    /// Shows a command to those who monitor.
    pub(super) fn show_command(&mut self, request: &Request<'_>, me: &Session, own: &mut Vec<u8>) {
        let Self { monitors, clients, outbox, current, .. } = self;
        if monitors.is_empty() {
            return;
        }
        let address = current.as_ref().map(|current| current.origin.ends.monitor_name());
        let address = address.as_deref().unwrap_or(UNKNOWN);
        let line = Bytes::from(monitor_line(request, crate::clock::unix_us(), me.db(), address));
        let current = current.as_ref().map(|current| current.slot);
        for &slot in &*monitors {
            if current == Some(slot) {
                own.extend_from_slice(&line);
            } else {
                outbox.push(clients, slot, &line);
            }
        }
    }
}
