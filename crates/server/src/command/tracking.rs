//! CLIENT TRACKING and its relatives: clients that keep copies of what they read are told when those become worthless.
//!
//! Which keys a client has read is noted behind the command that read them. What becomes invalid meanwhile is told to others at
//! once and to the client itself behind its reply, which may be that of a whole transaction; so a reply is never older than the
//! invalidations in front of it. Source: Redis 7.0, `tracking.c`.

use super::args::{integer, is};
use super::{Call, Command, Context, Outcome, ReplyError, Run, Session, error, flags};
use crate::engine::tracking::Mode;
use crate::protocol::{ReplyWriter, Request};

/// Which of the keys that it reads a client keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Consent {
    /// All.
    #[default]
    Given,
    /// Those that the command behind CLIENT CACHING YES reads.
    OptIn,
    /// All but those that the command behind CLIENT CACHING NO reads.
    OptOut,
}

/// How one connection tracks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tracked {
    pub(crate) mode: Mode,
    consent: Consent,
    /// CLIENT CACHING was given for the next command or transaction.
    caching: bool,
    /// The client that is told instead; 0: none.
    pub(crate) redirect: u64,
    /// That client was not there when it was to be told.
    pub(crate) broken: bool,
    /// Bytes of the prefixes.
    prefix_bytes: usize,
}

impl Tracked {
    /// Bytes held for the connection.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Tracked>() + self.prefix_bytes
    }
}

pub(crate) fn tracking(call: &mut Call<'_, '_>) -> Run {
    let mut options = Tracked::default();
    let (mut opt_in, mut opt_out) = (false, false);
    let mut prefixes: Vec<&[u8]> = Vec::new();
    let mut at = 3;
    while let Some(option) = call.request.arg_at(at) {
        let value = call.request.arg_at(at + 1);
        match (option, value) {
            (_, Some(id)) if is(option, "redirect") => {
                if options.redirect != 0 {
                    return Err(error::REDIRECT_TWICE);
                }
                let id = u64::try_from(integer(id)?).unwrap_or(0);
                if !call.ctx.host.has_client(id, call.session) {
                    return Err(error::REDIRECT_UNKNOWN);
                }
                options.redirect = id;
                at += 1;
            }
            (_, Some(prefix)) if is(option, "prefix") => {
                prefixes.push(prefix);
                at += 1;
            }
            _ if is(option, "bcast") => options.mode.broadcasts = true,
            _ if is(option, "noloop") => options.mode.noloop = true,
            _ if is(option, "optin") => opt_in = true,
            _ if is(option, "optout") => opt_out = true,
            _ => return Err(error::SYNTAX),
        }
        at += 1;
    }
    match call.arg(2) {
        state if is(state, "on") => {
            options.consent = check_options(call, &options, opt_in, opt_out, &prefixes)?;
            enable(call, options, &prefixes);
        }
        state if is(state, "off") => disable(call),
        _ => return Err(error::SYNTAX),
    }
    call.reply.ok();
    Ok(Outcome::Done)
}

/// Whether options go together, with each other and with those in effect.
fn check_options(
    call: &mut Call<'_, '_>,
    options: &Tracked,
    opt_in: bool,
    opt_out: bool,
    prefixes: &[&[u8]],
) -> Result<Consent, ReplyError> {
    let broadcasts = options.mode.broadcasts;
    if !broadcasts && !prefixes.is_empty() {
        return Err(error::PREFIX_WITHOUT_BCAST);
    }
    let before = call.session.tracked.as_deref();
    if before.is_some_and(|before| before.mode.broadcasts != broadcasts) {
        return Err(error::BCAST_SWITCHED);
    }
    let consent = match (opt_in, opt_out) {
        _ if broadcasts && (opt_in || opt_out) => return Err(error::CONSENT_WITH_BCAST),
        (true, true) => return Err(error::CONSENT_TWICE),
        (true, false) => Consent::OptIn,
        (false, true) => Consent::OptOut,
        (false, false) => Consent::Given,
    };
    let opposite = match consent {
        Consent::Given => None,
        Consent::OptIn => Some(Consent::OptOut),
        Consent::OptOut => Some(Consent::OptIn),
    };
    if before.is_some_and(|before| Some(before.consent) == opposite) {
        return Err(error::CONSENT_SWITCHED);
    }
    if broadcasts && let Some(overlap) = call.ctx.engine.tracking().overlap(call.session.id(), prefixes) {
        return Err(error::prefix_overlap(&overlap));
    }
    Ok(consent)
}

fn enable(call: &mut Call<'_, '_>, mut options: Tracked, prefixes: &[&[u8]]) {
    let id = call.session.id();
    call.ctx.engine.tracking().enable(id, options.mode, prefixes);
    call.ctx.engine.tracking().set_author(id);
    options.prefix_bytes = call.ctx.engine.tracking().prefixes_of(id).map(|it| 2 * it.len() + 64).sum();
    match &mut call.session.tracked {
        Some(before) => {
            options.caching = before.caching;
            **before = options;
        }
        None => {
            call.session.tracked = Some(Box::new(options));
            call.ctx.host.set_tracking(call.session, true);
        }
    }
    // The rest of a transaction is tracked as well.
    call.ctx.settings.observed = true;
}

/// Ends the tracking of the connection (also for RESET).
pub(super) fn disable(call: &mut Call<'_, '_>) {
    if call.session.tracked.take().is_some() {
        call.ctx.engine.disable_tracking(call.session.id());
        call.ctx.host.set_tracking(call.session, false);
    }
}

pub(crate) fn caching(call: &mut Call<'_, '_>) -> Run {
    let Some(tracked) = &mut call.session.tracked else { return Err(error::CACHING_WITHOUT_TRACKING) };
    match call.request.arg(2) {
        answer if is(answer, "yes") && tracked.consent != Consent::OptIn => Err(error::CACHING_YES),
        answer if is(answer, "no") && tracked.consent != Consent::OptOut => Err(error::CACHING_NO),
        answer if is(answer, "yes") || is(answer, "no") => {
            tracked.caching = true;
            call.reply.ok();
            Ok(Outcome::Done)
        }
        _ => Err(error::SYNTAX),
    }
}

/// The client that is told instead of this one; 0: none, -1: this one does not track.
pub(crate) fn redirection(session: &Session) -> i64 {
    session.tracked.as_ref().map_or(-1, |tracked| i64::try_from(tracked.redirect).unwrap_or(i64::MAX))
}

pub(crate) fn getredir(call: &mut Call<'_, '_>) -> Run {
    call.reply.integer(redirection(call.session));
    Ok(Outcome::Done)
}

pub(crate) fn trackinginfo(call: &mut Call<'_, '_>) -> Run {
    let tracked = call.session.tracked.as_deref();
    let is_set = |has: fn(&Tracked) -> bool| tracked.is_some_and(has);
    let all = [
        (tracked.is_some(), "on"),
        (tracked.is_none(), "off"),
        (is_set(|it| it.mode.broadcasts), "bcast"),
        (is_set(|it| it.consent == Consent::OptIn), "optin"),
        (is_set(|it| it.consent == Consent::OptIn && it.caching), "caching-yes"),
        (is_set(|it| it.consent == Consent::OptOut), "optout"),
        (is_set(|it| it.consent == Consent::OptOut && it.caching), "caching-no"),
        (is_set(|it| it.mode.noloop), "noloop"),
        (is_set(|it| it.broken), "broken_redirect"),
    ];
    let reply = &mut call.reply;
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(all.iter().filter(|(is_set, _)| *is_set).count());
    for (_, name) in all.iter().filter(|(is_set, _)| *is_set) {
        reply.bulk(name.as_bytes());
    }
    reply.bulk(b"redirect");
    reply.integer(redirection(call.session));
    reply.bulk(b"prefixes");
    let prefixes = call.ctx.engine.tracking().prefixes_of(call.session.id());
    reply.array(prefixes.len());
    prefixes.for_each(|prefix| reply.bulk(prefix));
    Ok(Outcome::Done)
}

/// In front of a command: what was evicted for it, and from the table of keys, is told before its reply.
pub(super) fn before(ctx: &mut Context<'_>, session: &mut Session, reply: &mut ReplyWriter<'_>) {
    ctx.engine.tracking().set_author(session.id());
    if !ctx.engine.tracking().is_active() {
        return;
    }
    ctx.engine.limit_tracked_keys(ctx.host.tracked_keys_max());
    tell(ctx, session);
    tell_own(ctx, session, reply);
}

/// Notes which keys a command has read, if its client keeps copies of them.
pub(super) fn remember(
    ctx: &mut Context<'_>,
    session: &Session,
    command: &'static Command,
    request: &Request<'_>,
) {
    let Some(tracked) = &session.tracked else { return };
    let is_kept = match tracked.consent {
        Consent::Given => true,
        Consent::OptIn => tracked.caching,
        Consent::OptOut => !tracked.caching,
    };
    // Shard channels are told as keys, and are none.
    let reads = command.has(flags::READONLY) && !command.has(flags::PUBSUB);
    if !reads || !is_kept || tracked.mode.broadcasts {
        return;
    }
    let args: Vec<&[u8]> = request.args_from(0).collect();
    for (at, _) in command.key_positions(&args).into_iter().flatten() {
        ctx.engine.tracking().remember(session.id(), args[at]);
    }
}

/// Tells others what has become invalid, and keeps what this client must be told.
pub(super) fn tell(ctx: &mut Context<'_>, session: &mut Session) {
    if ctx.engine.tracking().has_stale() {
        let stale = ctx.engine.tracking().take_stale();
        ctx.host.invalidate(stale, session);
    }
}

/// Tells the client itself, behind everything that it was answered.
pub(super) fn tell_own(ctx: &mut Context<'_>, session: &mut Session, reply: &mut ReplyWriter<'_>) {
    let mut own = Vec::new();
    ctx.host.invalidate_own(session, &mut own);
    session.push(reply, &own);
}

/// Behind a command: CLIENT CACHING counts for one command, or for one transaction.
pub(super) fn after(session: &mut Session, request: &Request<'_>) {
    let in_transaction = session.in_transaction();
    if let Some(tracked) = &mut session.tracked
        && tracked.caching
        && !in_transaction
        && !is(request.arg(0), "client")
    {
        tracked.caching = false;
    }
}
