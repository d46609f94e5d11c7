//! ZUNION, ZINTER and ZDIFF, with the forms that store, and ZINTERCARD.

use super::combine::{Aggregate, Input, Members, Source, build_set, difference, intersection, sort, union};
use super::{Layout, store_and_reply};
use crate::command::args::{integer, is};
use crate::command::numbers;
use crate::command::{Call, Outcome, ReplyError, Run, error};
use crate::engine::Keyspace;
use crate::engine::ValueRef;
use crate::engine::object::{EntryView, Kind};
use crate::protocol::parse_i64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// What a command does with the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Reply,
    Store,
    Count,
}

pub(crate) fn zunion(call: &mut Call<'_, '_>) -> Run {
    reply_result(call, Operation::Union)
}

pub(crate) fn zunionstore(call: &mut Call<'_, '_>) -> Run {
    store_result(call, Operation::Union, "zunionstore")
}

pub(crate) fn zinter(call: &mut Call<'_, '_>) -> Run {
    reply_result(call, Operation::Intersection)
}

pub(crate) fn zinterstore(call: &mut Call<'_, '_>) -> Run {
    store_result(call, Operation::Intersection, "zinterstore")
}

pub(crate) fn zdiff(call: &mut Call<'_, '_>) -> Run {
    reply_result(call, Operation::Difference)
}

pub(crate) fn zdiffstore(call: &mut Call<'_, '_>) -> Run {
    store_result(call, Operation::Difference, "zdiffstore")
}

/// The arguments of one of these commands.
#[derive(Debug)]
struct Arguments<'a> {
    /// Keys that hold sets or sorted sets, or are not there; at least one. With weights.
    inputs: Vec<(&'a [u8], f64)>,
    aggregate: Aggregate,
    with_scores: bool,
    /// Of ZINTERCARD: where counting ends.
    limit: Option<usize>,
}

impl<'a> Arguments<'a> {
    /// Reads the number of keys at `at` and what follows. The keys are read as well, since Redis refuses one that holds
    /// another type before it looks at the options.
    fn parse(
        call: &mut Call<'a, '_>,
        at: usize,
        operation: Operation,
        form: Form,
    ) -> Result<Arguments<'a>, ReplyError> {
        let key_count = integer(call.arg(at))?;
        if key_count < 1 {
            return Err(error::no_input_keys(call.command.full_name));
        }
        let keys_at = at + 1;
        let key_count = usize::try_from(key_count)
            .ok()
            .filter(|&count| count <= call.len() - keys_at)
            .ok_or(error::SYNTAX)?;
        let mut inputs = Vec::with_capacity(key_count);
        for at in keys_at..keys_at + key_count {
            let key = call.arg(at);
            if !matches!(call.keys().read(key).map(EntryView::kind), None | Some(Kind::Set | Kind::SortedSet))
            {
                return Err(error::WRONG_TYPE);
            }
            inputs.push((key, 1.0));
        }
        let mut arguments = Arguments { inputs, aggregate: Aggregate::Sum, with_scores: false, limit: None };
        arguments.parse_options(call, keys_at + key_count, operation, form)?;
        Ok(arguments)
    }

    fn parse_options(
        &mut self,
        call: &Call<'a, '_>,
        mut at: usize,
        operation: Operation,
        form: Form,
    ) -> Result<(), ReplyError> {
        let has_weights = operation != Operation::Difference && form != Form::Count;
        while let Some(option) = call.request.arg_at(at) {
            let values = call.len() - at - 1;
            if has_weights && values >= self.inputs.len() && is(option, "weights") {
                for (_, weight) in &mut self.inputs {
                    at += 1;
                    *weight = numbers::parse_score(call.arg(at)).ok_or(error::WEIGHT_NOT_FLOAT)?;
                }
            } else if has_weights && values >= 1 && is(option, "aggregate") {
                at += 1;
                self.aggregate = match call.arg(at) {
                    name if is(name, "sum") => Aggregate::Sum,
                    name if is(name, "min") => Aggregate::Min,
                    name if is(name, "max") => Aggregate::Max,
                    _ => return Err(error::SYNTAX),
                };
            } else if form == Form::Reply && is(option, "withscores") {
                self.with_scores = true;
            } else if form == Form::Count && values >= 1 && is(option, "limit") {
                at += 1;
                let limit = parse_i64(call.arg(at)).and_then(|limit| u64::try_from(limit).ok());
                let limit = limit.ok_or(error::LIMIT_NEGATIVE)?;
                self.limit = (limit > 0).then(|| usize::try_from(limit).unwrap_or(usize::MAX));
            } else {
                return Err(error::SYNTAX);
            }
            at += 1;
        }
        Ok(())
    }

    fn inputs<'k>(&self, keys: &'k Keyspace<'_>) -> Vec<Input<'k>> {
        let source = |key| match keys.view_of(key).map(EntryView::value) {
            Some(ValueRef::Set(set)) => Source::Set(set),
            Some(ValueRef::SortedSet(set)) => Source::SortedSet(set),
            _ => Source::Absent,
        };
        self.inputs.iter().map(|(key, weight)| Input { source: source(key), weight: *weight }).collect()
    }

    /// The result, in order.
    fn combine<'k>(&self, keys: &'k Keyspace<'_>, operation: Operation) -> Members<'k> {
        let inputs = self.inputs(keys);
        let mut members = match operation {
            Operation::Union => union(inputs, self.aggregate),
            Operation::Intersection => intersection(inputs, self.aggregate).collect(),
            Operation::Difference => difference(inputs),
        };
        sort(&mut members);
        members
    }
}

fn reply_result(call: &mut Call<'_, '_>, operation: Operation) -> Run {
    let arguments = Arguments::parse(call, 1, operation, Form::Reply)?;
    let layout = Layout::new(arguments.with_scores, call.reply.version());
    let (keys, reply) = call.keys_and_reply();
    let members = arguments.combine(&keys, operation);
    layout.write_head(reply, members.len());
    for (member, score) in members {
        layout.write_member(reply, member, score);
    }
    Ok(Outcome::Done)
}

fn store_result(call: &mut Call<'_, '_>, operation: Operation, event: &'static str) -> Run {
    let destination = call.arg(1);
    let arguments = Arguments::parse(call, 2, operation, Form::Store)?;
    let keys = call.keys();
    let result = build_set(&arguments.combine(&keys, operation), &keys.tools());
    store_and_reply(call, destination, result, event);
    Ok(Outcome::Done)
}

pub(crate) fn zintercard(call: &mut Call<'_, '_>) -> Run {
    let arguments = Arguments::parse(call, 1, Operation::Intersection, Form::Count)?;
    let (keys, reply) = call.keys_and_reply();
    let members = intersection(arguments.inputs(&keys), Aggregate::Sum);
    reply.count(members.take(arguments.limit.unwrap_or(usize::MAX)).count());
    Ok(Outcome::Done)
}
