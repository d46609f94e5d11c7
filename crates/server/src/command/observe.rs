//! What others get to see of a command: keyspace events and MONITOR lines, in the order in which things happen.

use super::{Command, Context, Session, flags};
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
/// `start`: events happen while a command runs, and it is answered when it has run.
#[cold]
pub(super) fn observe(
    ctx: &mut Context<'_>,
    session: &Session,
    command: &'static Command,
    request: &Request<'_>,
    reply: &mut ReplyWriter<'_>,
    start: usize,
) {
    let mut own = Vec::new();
    let events = ctx.engine.take_key_events();
    if !events.is_empty() {
        ctx.host.publish_key_events(&events, session, &mut own);
        if !own.is_empty() {
            reply.insert(start, &own);
            own.clear();
        }
    }
    // What administrators do is not shown, as in Redis.
    if !command.has(flags::ADMIN) {
        ctx.host.feed_monitors(request, session, &mut own);
        reply.append(&own);
    }
}
