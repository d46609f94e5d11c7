//! When a command has ended: its time is counted, and noted where it was long.

use super::{Command, Context, Deferred, Host, Outcome, Session, monitor};
use crate::measure::{Meter, Noted, SlowEntry, Watch, trimmed_args};
use crate::protocol::Request;

/// A command has ended, or waits, or is left to the executor, which then calls [`end_deferred`].
#[inline]
pub(super) fn end(
    ctx: &mut Context<'_>,
    session: &mut Session,
    command: &'static Command,
    request: &Request<'_>,
    watch: Watch,
    outcome: Outcome,
) {
    let Some(meter) = ctx.host.meter() else { return };
    if let Outcome::Deferred(deferred) = outcome {
        return match deferred {
            Deferred::Block { .. } | Deferred::Wait { .. } | Deferred::WaitAof { .. } => {
                meter.end_waiting(watch, command);
            }
            Deferred::Save | Deferred::Shutdown(_) | Deferred::Debug(_) => session.deferred = Some(watch),
        };
    }
    let noted = meter.end(watch, command);
    if noted.slow || noted.late {
        let address = ctx.host.address(session);
        note(ctx.host, session, command, request, noted, address);
    }
}

/// The executor has done what a command left to it; `failed` when it has answered with an error.
pub(crate) fn end_deferred(host: &mut dyn Host, session: &mut Session, request: &Request<'_>, failed: bool) {
    let (watch, command) = (session.deferred.take(), session.last_command);
    let (Some(watch), Some(command), Some(meter)) = (watch, command, host.meter()) else { return };
    let noted = meter.end(watch, command);
    if failed {
        meter.failed(command);
    }
    if noted.slow || noted.late {
        let address = host.address(session);
        note(host, session, command, request, noted, address);
    }
}

/// A command that waited was run again.
pub(super) fn end_retry(
    ctx: &mut Context<'_>,
    command: &'static Command,
    watch: Option<Watch>,
    outcome: Outcome,
) -> Noted {
    let (Some(watch), Some(meter)) = (watch, ctx.host.meter()) else { return Noted::default() };
    if matches!(outcome, Outcome::Deferred(_)) {
        meter.still_waiting(watch, command);
        return Noted::default();
    }
    // The latency monitor knows it by another name: see `note_resumed`.
    meter.resumed(watch, command)
}

/// Puts a command that took long into the slow log and the latency monitor, as each wants it.
#[cold]
fn note(
    host: &mut dyn Host,
    session: &Session,
    command: &'static Command,
    request: &Request<'_>,
    noted: Noted,
    address: String,
) {
    let event = if command.has(super::flags::FAST) { "fast-command" } else { "command" };
    let now_s = host.unix_time_us().div_euclid(1_000_000);
    let Some(meter) = host.meter() else { return };
    record(meter, session, request, noted, address, now_s, event);
}

/// As `note`, for a command that has waited and was run again.
pub(crate) fn note_resumed(
    meter: &mut Meter,
    session: &Session,
    request: &Request<'_>,
    noted: Noted,
    address: String,
    now_s: i64,
) {
    record(meter, session, request, noted, address, now_s, "command-unblocking");
}

/// `event` is the name by which the latency monitor knows the command.
fn record(
    meter: &mut Meter,
    session: &Session,
    request: &Request<'_>,
    noted: Noted,
    address: String,
    now_s: i64,
    event: &'static str,
) {
    if noted.late {
        meter.sample(event, now_s, noted.microseconds / 1000);
    }
    if !noted.slow {
        return;
    }
    let len_max = meter.settings().slow_log_len_max;
    let entry = SlowEntry {
        id: 0,
        unix_s: now_s,
        microseconds: noted.microseconds,
        args: trimmed_args(request, |index| monitor::is_secret(request, index)),
        address,
        client_name: session.name.clone(),
    };
    meter.slow_log.add(entry, len_max);
}
