//! What others get to see of a command: invalidations, keyspace events and MONITOR lines, in the order in which things happen.

use super::{Command, Context, Session, flags, tracking};
use crate::protocol::{ReplyWriter, Request};

/// Publishes what was evicted before a command runs. What its own connection gets of it goes in front of its reply.
#[cold]
pub(super) fn observe_eviction(ctx: &mut Context<'_>, session: &Session, reply: &mut ReplyWriter<'_>) {
    let events = ctx.engine.take_key_events();
    if !events.is_empty() {
        let mut own = Vec::new();
        ctx.host.publish_key_events(&events, session, &mut own);
        reply.append(&own);
    }
}

/// Publishes what a command has left behind. What its own connection gets of it goes in front of its reply, which begins at
/// `start`: events happen while a command runs, and it is answered when it has run. What it must forget it is told at last,
/// behind the reply of the whole transaction.
#[cold]
pub(super) fn observe(
    ctx: &mut Context<'_>,
    session: &mut Session,
    command: &'static Command,
    request: &Request<'_>,
    reply: &mut ReplyWriter<'_>,
    start: usize,
    in_exec: bool,
) {
    tracking::tell(ctx, session);
    publish_events(ctx, session, reply, start);
    tracking::remember(ctx, session, command, request);
    // What administrators do is not shown, as in Redis.
    if !command.has(flags::ADMIN) {
        let mut own = Vec::new();
        ctx.host.feed_monitors(request, session, &mut own);
        // Lines are no messages: CLIENT REPLY switches them off.
        if !session.reply_mode.is_silent() {
            reply.append(&own);
        }
    }
    if !in_exec {
        tracking::tell_own(ctx, session, reply);
    }
}

fn publish_events(ctx: &mut Context<'_>, session: &mut Session, reply: &mut ReplyWriter<'_>, start: usize) {
    let events = ctx.engine.take_key_events();
    if events.is_empty() {
        return;
    }
    let mut own = Vec::new();
    ctx.host.publish_key_events(&events, session, &mut own);
    if session.reply_mode.is_silent() {
        session.push(reply, &own);
    } else if !own.is_empty() {
        reply.insert(start, &own);
    }
}
