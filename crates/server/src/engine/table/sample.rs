//! Entries at random, for whoever looks for one to evict.

use std::ops::Bound;

use super::segment::{Place, home_of};
use super::{Position, Table};
use crate::engine::object::EntryView;

impl Table {
    /// Visits entries near the place that `random` points at, up to `count`; every entry can be met, about equally often.
    ///
    /// They lie side by side: a bucket and the next ones, which costs fewer cache misses than as many places. The hash has mixed
    /// the keys, so that neighbours have nothing in common.
    pub(crate) fn sample(&self, random: u64, count: usize, mut visit: impl FnMut(Position, EntryView<'_>)) {
        let Some(Position { segment: number, place, .. }) = self.near(random) else { return };
        let segment = self.segment(number);
        let buckets = segment.buckets.all();
        let places = (0..buckets.len()).flat_map(|step| {
            let bucket = (place.bucket + step) % buckets.len();
            let slots = buckets[bucket].occupied();
            // The first bucket is begun at the place, and ended when all others are through.
            slots.filter(move |&slot| step > 0 || slot >= place.slot).map(move |slot| Place { bucket, slot })
        });
        let rest = buckets[place.bucket].occupied().filter(|&slot| slot < place.slot);
        let places = places.chain(rest.map(|slot| Place { bucket: place.bucket, slot }));
        for place in places.take(count) {
            visit(self.position(number, place), buckets[place.bucket].view(place.slot));
        }
    }

    /// As [`Table::sample`], of the entries that expire. Segments that have some take turns.
    pub(crate) fn sample_expiring(
        &mut self,
        random: u64,
        count: usize,
        mut visit: impl FnMut(Position, EntryView<'_>),
    ) {
        while self.expiring > 0 {
            let after = (Bound::Excluded(self.sampled), Bound::Unbounded);
            let Some(&next) = self.due.range(after).next().or_else(|| self.due.first()) else { return };
            self.sampled = next;
            let (_, number) = next;
            // The index may hold nothing but what is stale: then the segment is passed over for good.
            if self.earliest_of(number).is_none() {
                continue;
            }
            let segment = self.segment(number);
            let len = segment.expiry.len();
            let start = home_of(random, len);
            let elements = (0..len).map(|step| segment.expiry.element((start + step) % len));
            let live = elements.filter(|&(time, place)| segment.is_true(time, place));
            for (_, place) in live.take(count) {
                visit(self.position(number, place), segment.buckets.all()[place.bucket].view(place.slot));
            }
            return;
        }
    }

    /// The entry whose key has this hash, whatever the key is.
    pub(crate) fn find_hash(&self, hash: u64) -> Option<Position> {
        let route = self.route(hash)?;
        let (count, tag) = (route.count as usize, super::tag_of(hash));
        let mut at = home_of(hash, count);
        for _ in 0..count {
            let bucket = self.bucket_of(route, at);
            let mut slots = bucket.matches(tag);
            if let Some(slot) = slots.find(|&slot| self.hasher.hash(bucket.view(slot).key()) == hash) {
                return Some(self.position(route.segment, Place { bucket: at, slot }));
            }
            if !bucket.has_overflowed() {
                return None;
            }
            at = if at + 1 == count { 0 } else { at + 1 };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tests::{name, put, table, take};
    use super::*;
    use crate::engine::random::Random;

    /// How often each key is met in many samples of up to five, which all meet some.
    fn met(
        samples: usize,
        mut sample: impl FnMut(u64, &mut dyn FnMut(Position, EntryView<'_>)),
    ) -> BTreeMap<Vec<u8>, u32> {
        let mut random = Random::new(7);
        let mut met = BTreeMap::new();
        for _ in 0..samples {
            let mut keys = 0;
            sample(random.next(), &mut |_, entry| {
                keys += 1;
                *met.entry(entry.key().to_vec()).or_default() += 1;
            });
            assert!((1..=5).contains(&keys));
        }
        met
    }

    #[test]
    fn every_key_is_sampled_and_none_much_more_often_than_others() {
        let mut table = table();
        for number in 0..3_000 {
            put(&mut table, &name(number), 0, None);
        }
        let met = met(120_000, |random, visit| table.sample(random, 5, visit));
        assert_eq!((met.len(), met.values().sum()), (3_000, 600_000));
        let most = met.values().max().unwrap();
        assert!(*most < 1_000, "200 times on average: {most}");
    }

    #[test]
    fn a_sample_of_a_small_table_is_all_of_it() {
        let mut table = table();
        table.sample(1, 5, |_, _| panic!("there is nothing"));
        table.sample_expiring(1, 5, |_, _| panic!("there is nothing"));
        assert!(table.next_to_expire().is_none());
        for number in 0..4 {
            put(&mut table, &name(number), 0, None);
        }
        for random in 0..1000 {
            let mut keys = Vec::new();
            table.sample(random << 54 | random, 5, |at, entry| {
                assert_eq!(table.view(at).key(), entry.key());
                keys.push(entry.key().to_vec());
            });
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), 4);
        }
    }

    #[test]
    fn keys_that_expire_are_found_among_many_that_do_not() {
        let mut table = table();
        for number in 0..20_000 {
            let expiry = (number % 500 == 0).then_some(1_000_000 + i64::from(number));
            put(&mut table, &name(number), 0, expiry);
        }
        // Stale elements: times that have changed, keys that have gone, keys that expire no more.
        for number in (0..20_000).step_by(500) {
            put(&mut table, &name(number), 0, Some(2_000_000 - i64::from(number)));
        }
        assert!(take(&mut table, &name(19_500)));
        put(&mut table, &name(19_000), 0, None);
        let met = met(4_000, |random, visit| table.sample_expiring(random, 5, visit));
        assert_eq!(met.len(), 38);
        assert!(met.values().all(|&count| count > 20), "{met:?}");
        for number in (0..19_000).step_by(500).rev() {
            let at = table.next_to_expire().unwrap();
            assert_eq!(table.view(at).key(), name(number), "the shortest time to live is exact");
            table.remove(at);
        }
        assert_eq!((table.next_to_expire().is_none(), table.expiring()), (true, 0));
        put(&mut table, b"late", 0, Some(i64::MAX));
        assert!(table.next_to_expire().is_some(), "however late it is");
    }

    #[test]
    fn an_entry_is_found_by_its_hash_alone() {
        let mut table = table();
        for number in 0..2_000 {
            put(&mut table, &name(number), 0, None);
        }
        for number in 0..2_000 {
            let at = table.find_hash(table.hasher.hash(&name(number))).unwrap();
            assert_eq!(table.view(at).key(), name(number));
        }
        assert!(table.find_hash(table.hasher.hash(b"none")).is_none());
    }
}
