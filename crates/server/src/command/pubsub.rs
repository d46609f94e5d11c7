//! Publish and subscribe.

use super::{Call, Outcome, Run, error};
use crate::protocol::ReplyWriter;
use crate::pubsub::{Message, Topic};

pub(crate) fn subscribe(call: &mut Call<'_, '_>) -> Run {
    enter(call, Topic::Channel)
}

pub(crate) fn psubscribe(call: &mut Call<'_, '_>) -> Run {
    enter(call, Topic::Pattern)
}

pub(crate) fn ssubscribe(call: &mut Call<'_, '_>) -> Run {
    if call.in_exec {
        return Err(error::SHARD_SUBSCRIBE_DENIED);
    }
    enter(call, Topic::Shard)
}

pub(crate) fn unsubscribe(call: &mut Call<'_, '_>) -> Run {
    leave(call, Topic::Channel)
}

pub(crate) fn punsubscribe(call: &mut Call<'_, '_>) -> Run {
    leave(call, Topic::Pattern)
}

pub(crate) fn sunsubscribe(call: &mut Call<'_, '_>) -> Run {
    leave(call, Topic::Shard)
}

fn enter(call: &mut Call<'_, '_>, topic: Topic) -> Run {
    for name in call.request.args_from(1) {
        let me = call.ctx.host.subscriber(call.session);
        if let Some(pubsub) = call.ctx.host.pubsub() {
            pubsub.subscribe(me, topic, name);
            call.session.subscriptions = pubsub.counts(me);
        }
        confirm(call, topic, true, Some(name));
    }
    Ok(Outcome::Done)
}

fn leave(call: &mut Call<'_, '_>, topic: Topic) -> Run {
    let me = call.ctx.host.subscriber(call.session);
    if call.len() > 1 {
        for name in call.request.args_from(1) {
            if let Some(pubsub) = call.ctx.host.pubsub() {
                pubsub.unsubscribe(me, topic, name);
                call.session.subscriptions = pubsub.counts(me);
            }
            confirm(call, topic, false, Some(name));
        }
        return Ok(Outcome::Done);
    }
    let names = call.ctx.host.pubsub().map(|pubsub| pubsub.subscriptions(me, topic)).unwrap_or_default();
    for name in &names {
        if let Some(pubsub) = call.ctx.host.pubsub() {
            pubsub.unsubscribe(me, topic, name);
            call.session.subscriptions = pubsub.counts(me);
        }
        confirm(call, topic, false, Some(name));
    }
    if names.is_empty() {
        confirm(call, topic, false, None);
    }
    Ok(Outcome::Done)
}

/// Tells the connection of a subscription that began or ended, and how many it has.
fn confirm(call: &mut Call<'_, '_>, topic: Topic, begins: bool, name: Option<&[u8]>) {
    let kind: &[u8] = match (topic, begins) {
        (Topic::Channel, true) => b"subscribe",
        (Topic::Channel, false) => b"unsubscribe",
        (Topic::Pattern, true) => b"psubscribe",
        (Topic::Pattern, false) => b"punsubscribe",
        (Topic::Shard, true) => b"ssubscribe",
        (Topic::Shard, false) => b"sunsubscribe",
    };
    let counts = call.session.subscriptions;
    let count = if topic == Topic::Shard { counts.shards } else { counts.channels + counts.patterns };
    call.reply.push(3);
    call.reply.bulk(kind);
    match name {
        Some(name) => call.reply.bulk(name),
        None => call.reply.null(),
    }
    call.reply.count(count);
}

pub(crate) fn publish(call: &mut Call<'_, '_>) -> Run {
    send(call, Topic::Channel)
}

pub(crate) fn spublish(call: &mut Call<'_, '_>) -> Run {
    send(call, Topic::Shard)
}

fn send(call: &mut Call<'_, '_>, topic: Topic) -> Run {
    let message = Message { topic, channel: call.arg(1), payload: call.arg(2) };
    let mut own = Vec::new();
    let receivers = call.ctx.host.publish(&message, call.session, &mut own);
    call.session.push(&mut call.reply, &own);
    call.reply.count(receivers);
    Ok(Outcome::Done)
}

pub(crate) fn channels(call: &mut Call<'_, '_>) -> Run {
    list(call, Topic::Channel)
}

pub(crate) fn shardchannels(call: &mut Call<'_, '_>) -> Run {
    list(call, Topic::Shard)
}

fn list(call: &mut Call<'_, '_>, topic: Topic) -> Run {
    if call.len() > 3 {
        return Err(error::unknown_subcommand_or_arity(call.arg(1), "PUBSUB"));
    }
    let pattern = call.request.arg_at(2);
    let names = call.ctx.host.pubsub().map(|pubsub| pubsub.names(topic, pattern)).unwrap_or_default();
    call.reply.array(names.len());
    names.iter().for_each(|name| call.reply.bulk(name));
    Ok(Outcome::Done)
}

pub(crate) fn numsub(call: &mut Call<'_, '_>) -> Run {
    count(call, Topic::Channel)
}

pub(crate) fn shardnumsub(call: &mut Call<'_, '_>) -> Run {
    count(call, Topic::Shard)
}

fn count(call: &mut Call<'_, '_>, topic: Topic) -> Run {
    let names = call.request.args_from(2);
    call.reply.array(names.len() * 2);
    for name in names {
        let subscribers = call.ctx.host.pubsub().map_or(0, |pubsub| pubsub.subscribers(topic, name));
        call.reply.bulk(name);
        call.reply.count(subscribers);
    }
    Ok(Outcome::Done)
}

pub(crate) fn numpat(call: &mut Call<'_, '_>) -> Run {
    let patterns = call.ctx.host.pubsub().map_or(0, |pubsub| pubsub.len(Topic::Pattern));
    call.reply.count(patterns);
    Ok(Outcome::Done)
}

/// Ends all subscriptions of the connection without a word (RESET).
pub(super) fn forget(call: &mut Call<'_, '_>) {
    let me = call.ctx.host.subscriber(call.session);
    if let Some(pubsub) = call.ctx.host.pubsub() {
        pubsub.forget(me);
    }
    call.session.subscriptions = Default::default();
}

/// PING of a subscriber in RESP2, whose reply must have the form of a message.
pub(super) fn pong(reply: &mut ReplyWriter<'_>, text: Option<&[u8]>) {
    reply.array(2);
    reply.bulk(b"pong");
    reply.bulk(text.unwrap_or_default());
}
