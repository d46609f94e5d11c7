//! Transactions.

use std::collections::btree_map::Entry;

use super::session::Transaction;
use super::{Call, Outcome, Run, error, run};

pub(crate) fn multi(call: &mut Call<'_, '_>) -> Run {
    if call.session.transaction.is_some() {
        return Err(error::NESTED_MULTI);
    }
    call.session.transaction = Some(Transaction::default());
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn discard(call: &mut Call<'_, '_>) -> Run {
    if call.session.transaction.is_none() {
        return Err(error::DISCARD_WITHOUT_MULTI);
    }
    call.session.close(call.ctx.engine);
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn watch(call: &mut Call<'_, '_>) -> Run {
    if call.session.transaction.is_some() {
        return Err(error::WATCH_INSIDE_MULTI);
    }
    let db = call.session.db;
    for key in call.request.args_from(1) {
        if let Entry::Vacant(unwatched) = call.session.watches.entry((db, Box::from(key))) {
            let token = unwatched.insert(call.ctx.engine.watch(db, key, call.ctx.now_ms));
            call.session.watched_bytes += token.memory_bytes();
        }
    }
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn unwatch(call: &mut Call<'_, '_>) -> Run {
    call.session.unwatch(call.ctx.engine);
    call.reply.ok();
    Ok(Outcome::Done)
}

pub(crate) fn exec(call: &mut Call<'_, '_>) -> Run {
    let Some(transaction) = call.session.transaction.take() else {
        return Err(error::EXEC_WITHOUT_MULTI);
    };
    let (engine, now_ms) = (&mut *call.ctx.engine, call.ctx.now_ms);
    let changed = call.session.watches.values().any(|token| engine.has_changed(token, now_ms));
    call.session.unwatch(engine);
    if transaction.failed {
        return Err(error::EXEC_ABORT);
    }
    // What is answered from here on is decided command by command: CLIENT REPLY may be among them.
    let silent = call.session.reply_mode.is_silent();
    if changed {
        if !silent {
            call.reply.null_array();
        }
        return Ok(Outcome::Done);
    }
    let replies_start = call.reply.position();
    if !silent {
        call.reply.array(transaction.queue.len());
    }
    let mut outcome = Outcome::Done;
    let replies_len_max = call.ctx.settings.replies_len_max;
    for (command, request) in &transaction.queue {
        // HELLO may change the dialect half-way.
        call.reply.set_version(call.session.version);
        let ended = run(call.ctx, call.session, command, request.as_request(), call.reply.reborrow(), true);
        if ended == Outcome::Close && outcome == Outcome::Done {
            outcome = Outcome::Close;
        }
        // The transaction goes on, as in Redis: it is executed as a whole, whoever is told.
        if replies_len_max > 0 && call.reply.total_len() as u64 > replies_len_max {
            outcome = Outcome::Overrun;
        }
        if outcome == Outcome::Overrun {
            call.reply.rewind(replies_start);
        }
    }
    Ok(outcome)
}
