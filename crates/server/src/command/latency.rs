//! LATENCY: what took long, and how long commands take.

use super::table::Command;
use super::{Call, Outcome, ReplyError, Run, error, introspect};
use crate::measure::ReportFacts;
use crate::protocol::ReplyWriter;

pub(crate) fn history(call: &mut Call<'_, '_>) -> Run {
    let event = call.arg(2);
    match call.ctx.host.meter().and_then(|meter| meter.latency.series(event)) {
        None => call.reply.array(0),
        Some((_, series)) => {
            call.reply.array(series.samples().len());
            for sample in series.samples() {
                call.reply.array(2);
                call.reply.integer(sample.unix_s);
                call.reply.integer(to_i64(sample.milliseconds));
            }
        }
    }
    Ok(Outcome::Done)
}

pub(crate) fn latest(call: &mut Call<'_, '_>) -> Run {
    let Some(meter) = call.ctx.host.meter() else {
        call.reply.array(0);
        return Ok(Outcome::Done);
    };
    let all = meter.latency.all();
    call.reply.array(all.len());
    for (event, series) in all {
        call.reply.array(4);
        call.reply.bulk(event.as_bytes());
        call.reply.integer(series.last().unix_s);
        call.reply.integer(to_i64(series.last().milliseconds));
        call.reply.integer(to_i64(series.worst()));
    }
    Ok(Outcome::Done)
}

pub(crate) fn reset(call: &mut Call<'_, '_>) -> Run {
    let request = call.request;
    let count = call.ctx.host.meter().map_or(0, |meter| match request.len() {
        2 => meter.latency.reset(None),
        _ => request.args_from(2).map(|event| meter.latency.reset(Some(event))).sum(),
    });
    call.reply.count(count);
    Ok(Outcome::Done)
}

pub(crate) fn graph(call: &mut Call<'_, '_>) -> Run {
    let event = call.arg(2);
    let now_s = now_s(call);
    let series = call.ctx.host.meter().and_then(|meter| meter.latency.series(event));
    let Some((event, series)) = series else {
        let event = error::c_text(event, usize::MAX);
        let text = [b"ERR No samples available for event '", event, b"'"].concat();
        return Err(ReplyError::from(text));
    };
    call.reply.verbatim(*b"txt", series.graph(event, now_s).as_bytes());
    Ok(Outcome::Done)
}

pub(crate) fn doctor(call: &mut Call<'_, '_>) -> Run {
    let now_s = now_s(call);
    let report = call.ctx.host.meter().map_or_else(String::new, |meter| {
        let settings = meter.settings();
        let facts = ReportFacts {
            threshold_ms: settings.latency_threshold_ms,
            slower_than_us: settings.slower_than_us,
            now_s,
        };
        meter.latency.report(&facts)
    });
    call.reply.verbatim(*b"txt", report.as_bytes());
    Ok(Outcome::Done)
}

/// The named commands with their subcommands, or all: those of which a call was counted.
pub(crate) fn histogram(call: &mut Call<'_, '_>) -> Run {
    let request = call.request;
    let Some(meter) = call.ctx.host.meter() else {
        call.reply.map(0);
        return Ok(Outcome::Done);
    };
    let calls = meter.calls();
    let rows: Vec<&'static Command> = match request.len() {
        2 => calls.all().into_iter().map(|(command, _)| command).collect(),
        _ => request
            .args_from(2)
            .filter_map(introspect::find)
            .flat_map(|command| std::iter::once(command).chain(command.subcommands))
            .collect(),
    };
    let counted = rows.into_iter().filter_map(|command| {
        let latencies = &calls.find(command)?.latencies;
        (latencies.total() > 0).then_some((command, latencies))
    });
    let counted: Vec<_> = counted.collect();
    let reply: &mut ReplyWriter<'_> = &mut call.reply;
    reply.map(counted.len());
    for (command, latencies) in counted {
        reply.bulk(command.full_name.as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.integer(to_i64(latencies.total()));
        reply.bulk(b"histogram_usec");
        let steps = latencies.doublings();
        reply.map(steps.len());
        for (microseconds, count) in steps {
            reply.integer(to_i64(microseconds));
            reply.integer(to_i64(count));
        }
    }
    Ok(Outcome::Done)
}

pub(crate) fn help(call: &mut Call<'_, '_>) -> Run {
    introspect::write_help(call)
}

fn now_s(call: &mut Call<'_, '_>) -> i64 {
    call.ctx.host.unix_time_us().div_euclid(1_000_000)
}

fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
