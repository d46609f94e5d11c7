//! Elements at random: what HRANDFIELD, SRANDMEMBER and ZRANDMEMBER share.

use std::collections::HashSet;

use super::{ReplyError, error};
use crate::engine::Random;
use crate::protocol::parse_i64;

/// Most elements with repetitions at once. Redis has no limit and fills its memory with the reply.
const REPEATED_MAX: u64 = 1 << 24;

/// A number of elements: positive for different ones, negative for some that may repeat.
pub(crate) fn count(arg: &[u8]) -> Result<i64, ReplyError> {
    let count = parse_i64(arg).ok_or(error::NOT_INTEGER)?;
    if count == i64::MIN {
        return Err(error::RANDOM_COUNT);
    }
    if count < 0 && count.unsigned_abs() > REPEATED_MAX { Err(error::OUT_OF_RANGE) } else { Ok(count) }
}

/// Places of elements at random.
#[derive(Debug)]
pub(crate) enum Places {
    /// Every element once, in its order.
    All,
    These(Vec<usize>),
}

impl Places {
    /// Places for `count` among `len` elements, of which there is one at least.
    pub(crate) fn choose(count: i64, len: usize, random: &mut Random) -> Places {
        let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        if count < 0 {
            return Places::These((0..wanted).map(|_| random.below(len)).collect());
        }
        if wanted >= len {
            return Places::All;
        }
        // Floyd's algorithm: as many numbers as are wanted, however many there are.
        let mut chosen = HashSet::with_capacity(wanted);
        let mut places = Vec::with_capacity(wanted);
        for last in len - wanted..len {
            let place = random.below(last + 1);
            let place = if chosen.insert(place) { place } else { last };
            chosen.insert(place);
            places.push(place);
        }
        Places::These(places)
    }

    /// How many places there are among `len` elements.
    pub(crate) fn count(&self, len: usize) -> usize {
        match self {
            Places::All => len,
            Places::These(places) => places.len(),
        }
    }
}

/// Visits the elements at some places. `nth` finds one; `all` lists them, and is used where few are there or all are wanted.
pub(crate) fn each<T: Copy>(
    places: &Places,
    len: usize,
    all: impl Iterator<Item = T>,
    nth: impl Fn(usize) -> Option<T>,
    visit: impl FnMut(T),
) {
    /// Listing so many costs less than finding a few.
    const LISTED_MAX: usize = 1024;
    match places {
        Places::All => all.for_each(visit),
        Places::These(places) if len <= LISTED_MAX => {
            let listed: Vec<T> = all.collect();
            places.iter().filter_map(|place| listed.get(*place).copied()).for_each(visit);
        }
        Places::These(places) => places.iter().filter_map(|place| nth(*place)).for_each(visit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_places_are_different_and_all_are_met() {
        let mut random = Random::new(1);
        let mut met = HashSet::new();
        for _ in 0..1000 {
            let Places::These(places) = Places::choose(5, 9, &mut random) else {
                panic!("fewer than there are")
            };
            assert_eq!(places.iter().collect::<HashSet<_>>().len(), 5);
            assert!(places.iter().all(|place| *place < 9));
            met.extend(places);
        }
        assert_eq!(met.len(), 9);
        assert!(matches!(Places::choose(9, 9, &mut random), Places::All));
        let Places::These(repeated) = Places::choose(-100, 3, &mut random) else { panic!("they repeat") };
        assert_eq!(repeated.len(), 100);
    }
}
