//! Elements at the ends of lists: what commands share that push, pop and move, and those that wait for an element.

use holdfast_collections::listpack::Item;
use holdfast_collections::types::{LIST_ELEMENT_LEN_MAX, Limits, List, ListRef};

use crate::command::args::is;
use crate::command::hashes::write_item;
use crate::command::{ReplyError, error};
use crate::engine::events::Change;
use crate::engine::object::{EntryView, Kind};
use crate::engine::{Found, Keyspace, ValueRef, WrongType};
use crate::protocol::ReplyWriter;

/// Refuses elements that no list can hold, which `proto-max-bulk-len` may let in.
pub(crate) fn check_elements<'a>(mut elements: impl Iterator<Item = &'a [u8]>) -> Result<(), ReplyError> {
    if elements.any(|element| element.len() > LIST_ELEMENT_LEN_MAX) {
        Err(error::STRING_TOO_LONG)
    } else {
        Ok(())
    }
}

/// One end of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Left,
    Right,
}

impl End {
    pub(crate) fn parse(arg: &[u8]) -> Result<End, ReplyError> {
        match arg {
            _ if is(arg, "left") => Ok(End::Left),
            _ if is(arg, "right") => Ok(End::Right),
            _ => Err(error::SYNTAX),
        }
    }

    /// The word that names the end in a request.
    pub(super) fn name(self) -> &'static [u8] {
        match self {
            End::Left => b"LEFT",
            End::Right => b"RIGHT",
        }
    }

    pub(super) fn push_event(self) -> &'static str {
        match self {
            End::Left => "lpush",
            End::Right => "rpush",
        }
    }

    fn pop_event(self) -> &'static str {
        match self {
            End::Left => "lpop",
            End::Right => "rpop",
        }
    }

    /// The command that removes elements from here.
    pub(crate) fn pop_command(self) -> &'static [u8] {
        match self {
            End::Left => b"LPOP",
            End::Right => b"RPOP",
        }
    }

    pub(super) fn push(self, list: &mut List, element: &[u8], limits: &Limits) {
        match self {
            End::Left => list.push_front(element, limits),
            End::Right => list.push_back(element, limits),
        }
    }

    fn pop<R>(self, list: &mut List, visit: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        match self {
            End::Left => list.pop_front(visit),
            End::Right => list.pop_back(visit),
        }
    }

    fn first(self, list: ListRef<'_>) -> Option<Item<'_>> {
        match self {
            End::Left => list.get(0),
            End::Right => list.get(list.len().checked_sub(1)?),
        }
    }
}

/// Removes the element at an end of a list that is there, and writes it.
pub(crate) fn pop_one(
    keys: &mut Keyspace<'_>,
    found: Found,
    key: &[u8],
    end: End,
    reply: &mut ReplyWriter<'_>,
) {
    keys.change(found, key, |list: &mut List, _| {
        let popped = end.pop(list, |element| write_item(reply, element));
        ((), popped.map(|()| Change::list(end.pop_event())))
    });
}

/// Removes up to `count` elements at an end of a list that is there, and writes an array of them, the outermost first. Returns
/// how many there were.
pub(crate) fn pop_many(
    keys: &mut Keyspace<'_>,
    found: Found,
    key: &[u8],
    end: End,
    count: usize,
    reply: &mut ReplyWriter<'_>,
) -> usize {
    keys.change(found, key, |list: &mut List, _| {
        let len = list.view().len();
        let count = count.min(len);
        reply.array(count);
        match end {
            End::Left => {
                list.view().iter().take(count).for_each(|element| write_item(reply, element));
                list.remove_range(0, count);
            }
            End::Right => {
                let last = len.saturating_sub(1);
                list.view().iter_back_from(last).take(count).for_each(|element| write_item(reply, element));
                list.remove_range(len - count, count);
            }
        }
        (count, Some(Change::list(end.pop_event()).counted(count as u64)))
    })
}

/// Moves an element from one list, which may be absent, to one that may be the same. Returns the element.
pub(crate) fn move_element(
    keys: &mut Keyspace<'_>,
    (source, from): (&[u8], End),
    (target, to): (&[u8], End),
) -> Result<Option<Vec<u8>>, WrongType> {
    if !keys.find_kind(source, Kind::List)?.is_some() {
        return Ok(None);
    }
    let target_found = keys.find_kind(target, Kind::List)?;
    let Some(element) = first_of(keys, source, from) else { return Ok(None) };
    if source == target {
        keys.change(target_found, target, |list: &mut List, tools| {
            from.pop(list, |_| ());
            to.push(list, &element, &tools.limits);
            ((), Some(Change::silent().counted(1)))
        });
        keys.announce(target, Change::list(to.push_event()));
        keys.announce(source, Change::list(from.pop_event()));
        return Ok(Some(element));
    }
    // Order matters: events tell of the push first, as in Redis.
    keys.change(target_found, target, |list: &mut List, tools| {
        to.push(list, &element, &tools.limits);
        ((), Some(Change::list(to.push_event()).counted(0)))
    });
    let source_found = keys.find(source);
    keys.change(source_found, source, |list: &mut List, _| {
        from.pop(list, |_| ());
        ((), Some(Change::list(from.pop_event())))
    });
    Ok(Some(element))
}

/// A copy of the element at an end of a list.
fn first_of(keys: &mut Keyspace<'_>, key: &[u8], end: End) -> Option<Vec<u8>> {
    let found = keys.find(key);
    match keys.view(found).map(EntryView::value) {
        Some(ValueRef::List(list)) => end.first(list).map(Item::to_vec),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_that_no_list_can_hold_are_refused() {
        // Zeroed memory that nobody touches takes no room.
        let bytes = vec![0; LIST_ELEMENT_LEN_MAX + 1];
        let check = |elements: &[&[u8]], expected| {
            assert_eq!(check_elements(elements.iter().copied()), expected);
        };
        check(&[b"a", &bytes[1..]], Ok(()));
        check(&[b"a", &bytes], Err(error::STRING_TOO_LONG));
    }
}
