//! Intersections, unions and differences.

use holdfast_collections::listpack::{Item, Scratch};
use holdfast_collections::types::{Set, SetRef};

use crate::command::args::is;
use crate::command::hashes::write_item;
use crate::command::store::store;
use crate::command::{Call, Outcome, ReplyError, Run, error};
use crate::engine::events::Change;
use crate::engine::object::EntryView;
use crate::engine::{Keyspace, Tools, ValueRef};
use crate::protocol::{ReplyWriter, parse_i64};

/// What is made of several sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Intersection,
    Union,
    Difference,
}

impl Operation {
    fn event(self) -> &'static str {
        match self {
            Operation::Intersection => "sinterstore",
            Operation::Union => "sunionstore",
            Operation::Difference => "sdiffstore",
        }
    }
}

pub(crate) fn sinter(call: &mut Call<'_, '_>) -> Run {
    show(call, Operation::Intersection)
}

pub(crate) fn sinterstore(call: &mut Call<'_, '_>) -> Run {
    keep(call, Operation::Intersection)
}

pub(crate) fn sunion(call: &mut Call<'_, '_>) -> Run {
    show(call, Operation::Union)
}

pub(crate) fn sunionstore(call: &mut Call<'_, '_>) -> Run {
    keep(call, Operation::Union)
}

pub(crate) fn sdiff(call: &mut Call<'_, '_>) -> Run {
    show(call, Operation::Difference)
}

pub(crate) fn sdiffstore(call: &mut Call<'_, '_>) -> Run {
    keep(call, Operation::Difference)
}

pub(crate) fn sintercard(call: &mut Call<'_, '_>) -> Run {
    let not_negative = |arg| parse_i64(arg).and_then(|it| usize::try_from(it).ok());
    let number_of_keys = not_negative(call.arg(1)).filter(|it| *it > 0).ok_or(error::NUMKEYS)?;
    if number_of_keys > call.len() - 2 {
        return Err(error::TOO_MANY_KEYS);
    }
    let mut limit = 0;
    let mut at = 2 + number_of_keys;
    while let Some(option) = call.request.arg_at(at) {
        match call.request.arg_at(at + 1) {
            Some(value) if is(option, "limit") => limit = not_negative(value).ok_or(error::LIMIT_NEGATIVE)?,
            _ => return Err(error::SYNTAX),
        }
        at += 2;
    }
    let limit = if limit == 0 { usize::MAX } else { limit };
    let names: Vec<&[u8]> = call.request.args_from(2).take(number_of_keys).collect();
    let mut keys = call.keys();
    let len = with_sets(&mut keys, &names, |sets, _| intersection(sets).take(limit).count())?;
    call.reply.count(len);
    Ok(Outcome::Done)
}

/// Replies with the result.
fn show(call: &mut Call<'_, '_>, operation: Operation) -> Run {
    let names: Vec<&[u8]> = call.request.args_from(1).collect();
    let (mut keys, reply) = call.keys_and_reply();
    with_sets(&mut keys, &names, |sets, tools| match operation {
        Operation::Intersection => write(reply, &intersection(sets).collect::<Vec<_>>()),
        Operation::Difference => write(reply, &difference(sets, tools).view().iter().collect::<Vec<_>>()),
        Operation::Union => write(reply, &union(sets, tools).view().iter().collect::<Vec<_>>()),
    })?;
    Ok(Outcome::Done)
}

fn write(reply: &mut ReplyWriter<'_>, members: &[Item<'_>]) {
    reply.set(members.len());
    members.iter().for_each(|member| write_item(reply, *member));
}

/// Stores the result.
fn keep(call: &mut Call<'_, '_>, operation: Operation) -> Run {
    let target = call.arg(1);
    let names: Vec<&[u8]> = call.request.args_from(2).collect();
    let mut keys = call.keys();
    let result = with_sets(&mut keys, &names, |sets, tools| match operation {
        Operation::Intersection => set_of(intersection(sets), tools),
        Operation::Difference => difference(sets, tools),
        Operation::Union => union(sets, tools),
    })?;
    let len = result.view().len();
    if store(&mut keys, target, result, Change::set(operation.event())) {
        call.log_verbatim();
    }
    call.reply.count(len);
    Ok(Outcome::Done)
}

/// Shows sets to `visit`, in the order of their keys; none for a key that is absent.
fn with_sets<R>(
    keys: &mut Keyspace<'_>,
    names: &[&[u8]],
    visit: impl FnOnce(&[Option<SetRef<'_>>], &Tools) -> R,
) -> Result<R, ReplyError> {
    // Order matters: what a read brings about may change the database, so the sets are borrowed after all of it.
    for name in names {
        keys.read_set(name)?;
    }
    let view = |name: &&[u8]| match keys.view_of(name).map(EntryView::value) {
        Some(ValueRef::Set(set)) => Some(set),
        _ => None,
    };
    let sets: Vec<Option<SetRef<'_>>> = names.iter().map(view).collect();
    Ok(visit(&sets, &keys.tools()))
}

/// The members that all of them have.
fn intersection<'a>(sets: &[Option<SetRef<'a>>]) -> impl Iterator<Item = Item<'a>> {
    // An absent set is empty, and so is the intersection.
    let mut sets: Vec<SetRef<'a>> = sets.iter().copied().collect::<Option<_>>().unwrap_or_default();
    sets.sort_by_key(|set| set.len());
    let smallest = sets.first().copied();
    let mut text = Scratch::new();
    smallest.into_iter().flat_map(SetRef::iter).filter(move |member| {
        let member = member.as_bytes(&mut text);
        sets[1..].iter().all(|set| set.contains(member))
    })
}

/// The members that any of them has.
fn union(sets: &[Option<SetRef<'_>>], tools: &Tools) -> Set {
    set_of(sets.iter().flatten().flat_map(|set| set.iter()), tools)
}

/// The members that the first has and no other.
fn difference(sets: &[Option<SetRef<'_>>], tools: &Tools) -> Set {
    let Some((Some(first), others)) = sets.split_first() else { return Set::empty(Vec::new()) };
    let mut others: Vec<SetRef<'_>> = others.iter().flatten().copied().collect();
    let lookups = first.len().saturating_mul(others.len() + 1);
    let members = others.iter().map(|set| set.len()).sum::<usize>() + first.len();
    let mut text = Scratch::new();
    // Redis takes a lookup for half as expensive as an insertion. Its choice shows: a set that ever held a member that is no
    // integer has another encoding.
    if lookups / 2 <= members {
        others.sort_by_key(|set| std::cmp::Reverse(set.len()));
        let is_left = |member: &Item<'_>| {
            let member = member.as_bytes(&mut text);
            !others.iter().any(|set| set.contains(member))
        };
        return set_of(first.iter().filter(is_left), tools);
    }
    let mut left = set_of(first.iter(), tools);
    for member in others.iter().flat_map(|set| set.iter()) {
        if left.view().is_empty() {
            break;
        }
        left.remove(member.as_bytes(&mut text));
    }
    left
}

fn set_of<'a>(members: impl Iterator<Item = Item<'a>>, tools: &Tools) -> Set {
    let mut set = Set::empty(Vec::new());
    let mut text = Scratch::new();
    for member in members {
        set.insert(member.as_bytes(&mut text), &tools.limits, tools.hasher);
    }
    set
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn check(sets: &[Option<BTreeSet<u32>>]) {
        let tools = Tools::random();
        let made: Vec<Option<Set>> = sets
            .iter()
            .map(|set| {
                let numbers = set.as_ref()?.iter();
                let names: Vec<String> =
                    numbers.map(|it| if it % 2 == 0 { it.to_string() } else { format!("m{it}") }).collect();
                Some(set_of(names.iter().map(|name| Item::from_bytes(name.as_bytes())), &tools))
            })
            .collect();
        let views: Vec<Option<SetRef<'_>>> = made.iter().map(|set| set.as_ref().map(Set::view)).collect();
        let sorted = |members: Vec<Item<'_>>| {
            let number = |it: Item<'_>| {
                String::from_utf8(it.to_vec()).unwrap().trim_start_matches('m').parse().unwrap()
            };
            let mut numbers: Vec<u32> = members.into_iter().map(number).collect();
            numbers.sort_unstable();
            numbers
        };
        let all: Vec<BTreeSet<u32>> = sets.iter().map(|set| set.clone().unwrap_or_default()).collect();
        let expected = |keep: &dyn Fn(&u32) -> bool| {
            all.iter()
                .flatten()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .copied()
                .filter(keep)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            sorted(intersection(&views).collect()),
            expected(&|it| all.iter().all(|set| set.contains(it))),
        );
        assert_eq!(
            sorted(difference(&views, &tools).view().iter().collect()),
            expected(&|it| all[0].contains(it) && !all[1..].iter().any(|set| set.contains(it))),
        );
        assert_eq!(sorted(union(&views, &tools).view().iter().collect()), expected(&|_| true));
    }

    #[test]
    fn results_are_those_of_the_model() {
        let range = |step: usize, end: u32| Some((0..end).step_by(step).collect::<BTreeSet<u32>>());
        check(&[range(1, 10)]);
        check(&[None]);
        check(&[range(1, 10), None]);
        check(&[None, range(1, 10)]);
        check(&[range(2, 100), range(3, 200), range(5, 1000)]);
        check(&[range(2, 2000), range(4, 2000)]);
        check(&[range(1, 20), range(1, 20)]);
        // Many small ones.
        check(&(0..50).map(|it| range(it + 1, 30)).collect::<Vec<_>>());
        check(
            &(0..50).map(|it| if it == 0 { range(1, 3000) } else { range(it + 1, 60) }).collect::<Vec<_>>(),
        );
    }
}
