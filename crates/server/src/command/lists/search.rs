//! LPOS.

use holdfast_collections::listpack::Item;

use crate::command::args::{integer, is};
use crate::command::{Call, Outcome, ReplyError, Run, error};
use crate::protocol::parse_i64;

/// Options of LPOS.
#[derive(Debug)]
struct Search {
    /// The first match that counts, from 1.
    rank: usize,
    from_tail: bool,
    /// Most matches, when an array is asked for; 0 is all.
    count: Option<usize>,
    /// Most elements to compare; 0 is all.
    compared_max: usize,
}

impl Search {
    fn parse(call: &Call<'_, '_>) -> Result<Search, ReplyError> {
        let mut search = Search { rank: 1, from_tail: false, count: None, compared_max: 0 };
        let not_negative = |arg| parse_i64(arg).and_then(|it| usize::try_from(it).ok());
        let mut at = 3;
        while let Some(option) = call.request.arg_at(at) {
            let Some(value) = call.request.arg_at(at + 1) else { return Err(error::SYNTAX) };
            if is(option, "rank") {
                let rank = integer(value)?;
                if rank == 0 {
                    return Err(error::LPOS_RANK);
                }
                search.rank = usize::try_from(rank.unsigned_abs()).unwrap_or(usize::MAX);
                search.from_tail = rank < 0;
            } else if is(option, "count") {
                search.count = Some(not_negative(value).ok_or(error::LPOS_COUNT)?);
            } else if is(option, "maxlen") {
                search.compared_max = not_negative(value).ok_or(error::LPOS_MAXLEN)?;
            } else {
                return Err(error::SYNTAX);
            }
            at += 2;
        }
        Ok(search)
    }

    /// How far from the beginning of `elements` those are that match.
    fn distances<'a>(
        &self,
        elements: impl Iterator<Item = Item<'a>>,
        wanted: &[u8],
    ) -> impl Iterator<Item = usize> {
        let all_for_0 = |limit| if limit == 0 { usize::MAX } else { limit };
        let wanted = Item::from_bytes(wanted);
        elements
            .take(all_for_0(self.compared_max))
            .enumerate()
            .filter(move |(_, element)| *element == wanted)
            .map(|(distance, _)| distance)
            .skip(self.rank - 1)
            .take(all_for_0(self.count.unwrap_or(1)))
    }
}

pub(crate) fn lpos(call: &mut Call<'_, '_>) -> Run {
    let (key, wanted) = (call.arg(1), call.arg(2));
    let search = Search::parse(call)?;
    let (mut keys, reply) = call.keys_and_reply();
    let mut places: Vec<usize> = Vec::new();
    if let Some(list) = keys.read_list(key)? {
        let last = list.len().saturating_sub(1);
        if search.from_tail {
            let distances = search.distances(list.iter_back_from(last), wanted);
            places.extend(distances.map(|distance| last - distance));
        } else {
            places.extend(search.distances(list.iter(), wanted));
        }
    }
    match (search.count, places.first()) {
        (Some(_), _) => {
            reply.array(places.len());
            places.iter().for_each(|place| reply.count(*place));
        }
        (None, Some(place)) => reply.count(*place),
        (None, None) => reply.null(),
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_are_skipped_and_limited() {
        let elements = [b"a", b"b", b"1", b"a", b"a", b"1"];
        let check = |wanted: &[u8], rank, count, compared_max, expected: &[usize]| {
            let search = Search { rank, from_tail: false, count, compared_max };
            let items = elements.iter().map(|it| Item::from_bytes(*it));
            assert_eq!(search.distances(items, wanted).collect::<Vec<_>>(), expected);
        };
        check(b"a", 1, None, 0, &[0]);
        check(b"a", 1, Some(0), 0, &[0, 3, 4]);
        check(b"a", 2, Some(1), 0, &[3]);
        check(b"a", 4, Some(0), 0, &[]);
        check(b"a", 1, Some(0), 4, &[0, 3]);
        check(b"1", 1, Some(9), 0, &[2, 5]);
        check(b"01", 1, Some(0), 0, &[]);
        check(b"a", usize::MAX, None, 0, &[]);
    }
}
