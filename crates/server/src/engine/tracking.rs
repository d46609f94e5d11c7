//! CLIENT TRACKING: which clients may hold copies of which keys, and which copies have become invalid.
//!
//! ```text
//!  a client reads a key ─▶ remember ─▶ table: key → readers ─┐
//!                                                            ├─ changed, expired, flushed ─▶ stale: told as the command ends
//!  CLIENT TRACKING … BCAST ──────────▶ prefixes → clients ───┘                          └─▶ broadcasts: told as the turn ends
//! ```
//!
//! A name of a key stands for that key of every database, as in Redis. A reader is told once: it is in the table again when it
//! reads the key again. Without a client that tracks nothing is kept, and a change looks at one flag.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::sync::Arc;

use holdfast_collections::hash::KeyHasher;

use super::random::Random;

/// Number of a connection.
pub(crate) type ClientId = u64;

/// Keys that one run of [`Tracking::limit`] takes out of the table at least. Source: Redis 7.0, `trackingLimitUsedSlots`.
const LIMIT_EFFORT: usize = 100;

/// Keys of which copies are worthless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stale {
    /// All keys there are.
    All,
    /// These, of any database; at least one.
    Keys(Vec<Box<[u8]>>),
}

/// Who is to be told what.
#[derive(Debug, PartialEq, Eq)]
pub struct Invalidation {
    /// Clients that track, each once.
    pub clients: Vec<ClientId>,
    /// What they must forget.
    pub stale: Stale,
}

/// How a client tracks, as far as changes are concerned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mode {
    /// It is told of all keys with its prefixes, instead of those that it has read.
    pub(crate) broadcasts: bool,
    /// It is not told of what it changes itself.
    pub(crate) noloop: bool,
}

/// Two prefixes of one client that have keys in common.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overlap {
    /// The first of those given that overlaps.
    pub(crate) prefix: Box<[u8]>,
    /// With which.
    pub(crate) with: Box<[u8]>,
    /// Whether that one is in use already, and not given as well.
    pub(crate) in_use: bool,
}

/// Clients that have read one key, in order of their numbers.
#[derive(Debug)]
pub(super) enum Readers {
    /// Most keys have one.
    One(ClientId),
    /// At least one.
    Many(Vec<ClientId>),
}

impl Readers {
    fn as_slice(&self) -> &[ClientId] {
        match self {
            Readers::One(client) => std::slice::from_ref(client),
            Readers::Many(clients) => clients,
        }
    }
}

/// The table of keys. Ordered by hash: it grows without a pause, and a hash at random finds a key at random.
pub(super) type TrackedKeys = BTreeMap<(u64, Box<[u8]>), Readers>;

#[derive(Debug, Default)]
struct Tracker {
    mode: Mode,
    prefixes: BTreeSet<Arc<[u8]>>,
}

#[derive(Debug, Default)]
struct Prefix {
    clients: BTreeSet<ClientId>,
    /// Keys that have changed in this turn, and which client has changed each last.
    changed: BTreeMap<Box<[u8]>, Option<ClientId>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Tracking {
    hasher: KeyHasher,
    /// Clients that track.
    clients: BTreeMap<ClientId, Tracker>,
    keys: TrackedKeys,
    /// Readers of all keys.
    items: usize,
    prefixes: BTreeMap<Arc<[u8]>, Prefix>,
    /// How many prefixes have which length: a key is looked up under each.
    prefix_lens: BTreeMap<usize, usize>,
    /// Prefixes with changed keys.
    touched: Vec<Arc<[u8]>>,
    stale: Vec<Invalidation>,
    /// The client whose command runs.
    author: Option<ClientId>,
    /// How often in a row [`Tracking::limit`] has left too many keys.
    overruns: usize,
}

impl Tracking {
    pub(super) fn new(hasher: KeyHasher) -> Tracking {
        Tracking {
            hasher,
            clients: BTreeMap::new(),
            keys: TrackedKeys::new(),
            items: 0,
            prefixes: BTreeMap::new(),
            prefix_lens: BTreeMap::new(),
            touched: Vec::new(),
            stale: Vec::new(),
            author: None,
            overruns: 0,
        }
    }

    /// Whether any client tracks.
    #[inline]
    pub(crate) fn is_active(&self) -> bool {
        !self.clients.is_empty()
    }

    /// Number of keys in the table.
    pub(crate) fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Readers of all keys in the table.
    pub(crate) fn items(&self) -> usize {
        self.items
    }

    /// Number of different prefixes.
    pub(crate) fn prefixes(&self) -> usize {
        self.prefixes.len()
    }

    /// A client begins to track, or tracks otherwise from now on; prefixes are added to those it has. Without any there is
    /// the empty one, where `mode` broadcasts.
    pub(crate) fn enable(&mut self, client: ClientId, mode: Mode, prefixes: &[&[u8]]) {
        self.clients.entry(client).or_default().mode = mode;
        if !mode.broadcasts {
            return;
        }
        let all = [&b""[..]];
        for prefix in if prefixes.is_empty() { &all } else { prefixes } {
            self.add_prefix(client, prefix);
        }
    }

    fn add_prefix(&mut self, client: ClientId, prefix: &[u8]) {
        let name = match self.prefixes.get_key_value(prefix) {
            Some((name, _)) => Arc::clone(name),
            None => {
                *self.prefix_lens.entry(prefix.len()).or_default() += 1;
                Arc::from(prefix)
            }
        };
        self.prefixes.entry(Arc::clone(&name)).or_default().clients.insert(client);
        if let Some(tracker) = self.clients.get_mut(&client) {
            tracker.prefixes.insert(name);
        }
    }

    /// A client tracks no more. Its readings stay in the table until their keys change; the table is returned, to be freed,
    /// when nobody else tracks.
    pub(super) fn disable(&mut self, client: ClientId) -> Option<TrackedKeys> {
        let tracker = self.clients.remove(&client)?;
        for name in tracker.prefixes {
            let Some(prefix) = self.prefixes.get_mut(&name) else { continue };
            prefix.clients.remove(&client);
            if !prefix.clients.is_empty() {
                continue;
            }
            self.prefixes.remove(&name);
            if let Some(count) = self.prefix_lens.get_mut(&name.len()) {
                *count -= 1;
                if *count == 0 {
                    self.prefix_lens.remove(&name.len());
                }
            }
        }
        if self.is_active() {
            return None;
        }
        self.stale.clear();
        self.touched.clear();
        Some(self.take_keys())
    }

    fn take_keys(&mut self) -> TrackedKeys {
        self.items = 0;
        self.overruns = 0;
        take(&mut self.keys)
    }

    /// Prefixes of a client, in order.
    pub(crate) fn prefixes_of(&self, client: ClientId) -> impl ExactSizeIterator<Item = &[u8]> {
        static NONE: BTreeSet<Arc<[u8]>> = BTreeSet::new();
        self.clients.get(&client).map_or(&NONE, |tracker| &tracker.prefixes).iter().map(|prefix| &**prefix)
    }

    /// Finds the first of these prefixes that has keys in common with another of them behind it, or with one that the client
    /// has. One that it has already counts as overlapping, as in Redis.
    pub(crate) fn overlap(&self, client: ClientId, prefixes: &[&[u8]]) -> Option<Overlap> {
        let with_others = first_overlap(prefixes);
        let overlap = |prefix: &[u8], with: &[u8], in_use| {
            Some(Overlap { prefix: prefix.into(), with: with.into(), in_use })
        };
        let in_use = self.clients.get(&client).map(|tracker| &tracker.prefixes);
        for (index, prefix) in prefixes.iter().enumerate() {
            if let Some(with) = in_use.and_then(|in_use| overlapping(in_use, prefix)) {
                return overlap(prefix, with, true);
            }
            if let Some((first, with)) = with_others
                && first == index
            {
                return overlap(prefix, prefixes[with], false);
            }
        }
        None
    }

    /// A client has read a key.
    pub(crate) fn remember(&mut self, client: ClientId, key: &[u8]) {
        let hash = self.hasher.hash(key);
        let Some(readers) = find(&mut self.keys, hash, key) else {
            self.keys.insert((hash, Box::from(key)), Readers::One(client));
            self.items += 1;
            return;
        };
        match readers {
            Readers::One(other) if *other == client => {}
            Readers::One(other) => {
                *readers = Readers::Many(vec![client.min(*other), client.max(*other)]);
                self.items += 1;
            }
            Readers::Many(all) => {
                let Err(place) = all.binary_search(&client) else { return };
                all.insert(place, client);
                self.items += 1;
                // Those who have left are still there; as many as track is the bound.
                if all.len() > 2 * self.clients.len().max(4) {
                    let before = all.len();
                    let clients = &self.clients;
                    all.retain(|reader| clients.contains_key(reader));
                    self.items -= before - all.len();
                }
            }
        }
    }

    /// Whose command runs.
    pub(crate) fn set_author(&mut self, client: ClientId) {
        self.author = Some(client);
    }

    /// A key was changed by the command that runs.
    #[inline]
    pub(super) fn changed(&mut self, key: &[u8]) {
        if self.is_active() {
            self.invalidate(key, self.author);
        }
    }

    /// A key was removed that nobody has changed: it has expired, or was evicted.
    #[inline]
    pub(super) fn removed(&mut self, key: &[u8]) {
        if self.is_active() {
            self.invalidate(key, None);
        }
    }

    fn invalidate(&mut self, key: &[u8], author: Option<ClientId>) {
        for (&len, _) in self.prefix_lens.range(..=key.len()) {
            let Some((name, _)) = self.prefixes.get_key_value(&key[..len]) else { continue };
            let name = Arc::clone(name);
            let Some(prefix) = self.prefixes.get_mut(&name) else { continue };
            if prefix.changed.is_empty() {
                self.touched.push(name);
            }
            prefix.changed.insert(Box::from(key), author);
        }
        let hash = self.hasher.hash(key);
        if find(&mut self.keys, hash, key).is_some() {
            self.forget((hash, Box::from(key)), author);
        }
    }

    /// Takes a key out of the table; its readers are to be told, but for its author if that wants so.
    fn forget(&mut self, name: (u64, Box<[u8]>), author: Option<ClientId>) {
        let Some(readers) = self.keys.remove(&name) else { return };
        let readers = readers.as_slice();
        self.items -= readers.len();
        let is_told = |client: &ClientId| {
            // Who has turned to broadcasts meanwhile is not told of what it has read before.
            self.clients.get(client).is_some_and(|tracker| {
                let is_author = author == Some(*client);
                !tracker.mode.broadcasts && (!tracker.mode.noloop || !is_author)
            })
        };
        let clients: Vec<ClientId> = readers.iter().copied().filter(is_told).collect();
        if !clients.is_empty() {
            self.stale.push(Invalidation { clients, stale: Stale::Keys(vec![name.1]) });
        }
    }

    /// A database was emptied: everything is invalid for all who track, as in Redis. Returns the table, to be freed.
    pub(super) fn flushed(&mut self) -> Option<TrackedKeys> {
        if !self.is_active() {
            return None;
        }
        let clients = self.clients.keys().copied().collect();
        self.stale.push(Invalidation { clients, stale: Stale::All });
        Some(self.take_keys())
    }

    /// Takes keys at random out of the table while it holds more than `keys_max` (0: any number); their readers are told.
    /// A run does a bounded amount of work, more with every run that does not suffice.
    pub(super) fn limit(&mut self, keys_max: u64, random: &mut Random) {
        let is_over = |tracking: &Self| keys_max > 0 && tracking.keys.len() as u64 > keys_max;
        let mut effort = LIMIT_EFFORT * (self.overruns + 1);
        while is_over(self) {
            if effort == 0 {
                self.overruns += 1;
                return;
            }
            effort -= 1;
            let from = (random.next(), Box::default());
            let Some((name, _)) = self.keys.range(from..).next().or_else(|| self.keys.first_key_value())
            else {
                break;
            };
            self.forget(name.clone(), None);
        }
        self.overruns = 0;
    }

    /// Whether [`Tracking::take_stale`] returns anything.
    pub(crate) fn has_stale(&self) -> bool {
        !self.stale.is_empty()
    }

    /// What has become invalid since the last call, in order.
    pub(crate) fn take_stale(&mut self) -> Vec<Invalidation> {
        take(&mut self.stale)
    }

    /// What has become invalid since the last call for those who are told by prefix: keys of each prefix together, prefixes
    /// and keys in order.
    pub(crate) fn take_broadcasts(&mut self) -> Vec<Invalidation> {
        let mut touched = take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        let mut all = Vec::new();
        for name in touched {
            let Some(prefix) = self.prefixes.get_mut(&name) else { continue };
            let changed = take(&mut prefix.changed);
            if changed.is_empty() {
                continue;
            }
            let authors: BTreeSet<ClientId> = changed.values().flatten().copied().collect();
            let mut clients = Vec::new();
            for &client in &prefix.clients {
                let noloop = self.clients.get(&client).is_some_and(|tracker| tracker.mode.noloop);
                if !noloop || !authors.contains(&client) {
                    clients.push(client);
                    continue;
                }
                let others = changed.iter().filter(|(_, author)| **author != Some(client));
                let keys: Vec<Box<[u8]>> = others.map(|(key, _)| key.clone()).collect();
                if !keys.is_empty() {
                    all.push(Invalidation { clients: vec![client], stale: Stale::Keys(keys) });
                }
            }
            if !clients.is_empty() {
                let keys = changed.into_keys().collect();
                all.push(Invalidation { clients, stale: Stale::Keys(keys) });
            }
        }
        all
    }
}

/// The readers of a key. Keys with one hash stand beside each other.
fn find<'t>(keys: &'t mut TrackedKeys, hash: u64, key: &[u8]) -> Option<&'t mut Readers> {
    let same_hash = keys.range_mut((hash, Box::default())..).take_while(|((other, _), _)| *other == hash);
    same_hash.map(|((_, name), readers)| (name, readers)).find(|(name, _)| ***name == *key).map(|it| it.1)
}

/// The first of some prefixes, none of which begins another, that begins `prefix` or is begun by it.
fn overlapping<'p>(prefixes: &'p BTreeSet<Arc<[u8]>>, prefix: &[u8]) -> Option<&'p [u8]> {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    // Between one that begins `prefix` and `prefix` itself there is none that it does not begin as well.
    let before = prefixes.range::<[u8], _>((Unbounded, Excluded(prefix))).next_back();
    let after = prefixes.range::<[u8], _>((Included(prefix), Unbounded)).next();
    let before = before.filter(|other| prefix.starts_with(other));
    before.or(after.filter(|other| other.starts_with(prefix))).map(|other| &**other)
}

/// The places of the first prefix that has keys in common with a later one, and of the first such.
fn first_overlap(prefixes: &[&[u8]]) -> Option<(usize, usize)> {
    let mut order: Vec<usize> = (0..prefixes.len()).collect();
    order.sort_unstable_by_key(|&index| (prefixes[index], index));
    // Those that begin the one at hand, each with the least place of it and those before it.
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut first: Option<usize> = None;
    for index in order {
        while open.last().is_some_and(|&(other, _)| !prefixes[index].starts_with(prefixes[other])) {
            open.pop();
        }
        let least = open.last().map_or(index, |&(_, least)| least.min(index));
        if !open.is_empty() {
            first = Some(first.map_or(least, |first| first.min(least)));
        }
        open.push((index, least));
    }
    let first = first?;
    let overlaps = |other: &[u8]| other.starts_with(prefixes[first]) || prefixes[first].starts_with(other);
    let with = (first + 1..prefixes.len()).find(|&other| overlaps(prefixes[other]))?;
    Some((first, with))
}

#[cfg(test)]
mod tests {
    use holdfast_collections::hash::HashSeed;

    use super::*;

    const READS: Mode = Mode { broadcasts: false, noloop: false };
    const READS_NOLOOP: Mode = Mode { broadcasts: false, noloop: true };
    const BROADCASTS: Mode = Mode { broadcasts: true, noloop: false };
    const BROADCASTS_NOLOOP: Mode = Mode { broadcasts: true, noloop: true };

    fn tracking() -> Tracking {
        Tracking::new(KeyHasher::new(HashSeed([1, 2])))
    }

    fn render(all: Vec<Invalidation>) -> Vec<String> {
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        let stale = |stale: &Stale| match stale {
            Stale::All => "everything".to_owned(),
            Stale::Keys(keys) => keys.iter().map(|key| text(key)).collect::<Vec<_>>().join(","),
        };
        all.iter().map(|it| format!("{:?} {}", it.clients, stale(&it.stale))).collect()
    }

    #[test]
    fn readers_are_told_once_and_authors_as_they_like() {
        let mut tracking = tracking();
        tracking.enable(1, READS, &[]);
        tracking.enable(2, READS_NOLOOP, &[]);
        for client in [2, 1, 2] {
            tracking.remember(client, b"a");
        }
        tracking.remember(2, b"b");
        assert_eq!((tracking.keys(), tracking.items()), (2, 3));
        tracking.set_author(2);
        tracking.changed(b"a");
        tracking.changed(b"a");
        tracking.changed(b"b");
        assert_eq!(render(tracking.take_stale()), ["[1] a"]);
        tracking.remember(2, b"b");
        tracking.removed(b"b");
        assert_eq!(render(tracking.take_stale()), ["[2] b"], "time is no author");
        assert_eq!((tracking.keys(), tracking.items()), (0, 0));
    }

    #[test]
    fn broadcasts_are_collected_by_prefix() {
        let mut tracking = tracking();
        tracking.enable(1, BROADCASTS, &[b"a", b"b"]);
        tracking.enable(2, BROADCASTS_NOLOOP, &[]);
        tracking.set_author(2);
        for key in [&b"b1"[..], b"a2", b"a1", b"c"] {
            tracking.changed(key);
        }
        tracking.set_author(3);
        tracking.changed(b"a2");
        assert_eq!(render(tracking.take_broadcasts()), ["[2] a2", "[1] a1,a2", "[1] b1"]);
        assert!(tracking.take_broadcasts().is_empty() && !tracking.has_stale());
        assert_eq!(tracking.prefixes(), 3);
        assert!(tracking.disable(1).is_none());
        assert_eq!(tracking.prefixes(), 1);
        tracking.changed(b"a1");
        assert_eq!(render(tracking.take_broadcasts()), ["[2] a1"]);
        assert!(tracking.disable(2).is_some());
        assert!(tracking.prefixes.is_empty() && tracking.prefix_lens.is_empty());
    }

    #[test]
    fn readings_end_with_the_last_client_or_with_a_flush() {
        let mut tracking = tracking();
        tracking.remember(1, b"nobody");
        tracking.enable(1, READS, &[]);
        tracking.enable(2, BROADCASTS, &[]);
        tracking.remember(1, b"a");
        assert_eq!(tracking.flushed().map(|keys| keys.len()), Some(2));
        assert_eq!(render(tracking.take_stale()), ["[1, 2] everything"]);
        tracking.remember(1, b"a");
        assert!(tracking.disable(1).is_none(), "another client tracks");
        tracking.changed(b"a");
        assert!(!tracking.has_stale(), "who tracks no more is not told");
        tracking.remember(3, b"a");
        assert_eq!(tracking.disable(2).map(|keys| keys.len()), Some(1));
        assert_eq!((tracking.items(), tracking.flushed().is_none()), (0, true));
    }

    #[test]
    fn a_key_that_many_clients_have_read_and_left_holds_no_more_than_there_are() {
        let mut tracking = tracking();
        for client in 0..10_000 {
            tracking.enable(client, READS, &[]);
            tracking.remember(client, b"a");
            if client >= 10 {
                tracking.disable(client);
            }
            assert!(tracking.items() <= 2 * 11, "{}", tracking.items());
        }
        tracking.changed(b"a");
        assert_eq!(render(tracking.take_stale()), ["[0, 1, 2, 3, 4, 5, 6, 7, 8, 9] a"]);
        assert_eq!(tracking.items(), 0);
    }

    #[test]
    fn a_full_table_loses_keys_at_random_with_growing_effort() {
        let mut tracking = tracking();
        let mut random = Random::new(1);
        tracking.enable(1, READS_NOLOOP, &[]);
        tracking.set_author(1);
        for number in 0..1000 {
            tracking.remember(1, format!("key:{number}").as_bytes());
        }
        let mut left = Vec::new();
        while tracking.keys() > 5 {
            tracking.limit(5, &mut random);
            left.push(tracking.keys());
        }
        assert_eq!(left, [900, 700, 400, 5]);
        let told = render(tracking.take_stale());
        assert_eq!(told.len(), 995, "everybody is told, the author as well");
        assert_ne!(told[..10], (0..10).map(|it| format!("[1] key:{it}")).collect::<Vec<_>>()[..]);
        tracking.limit(0, &mut random);
        assert_eq!(tracking.keys(), 5, "without a limit any number is kept");
    }

    #[test]
    fn prefixes_of_one_client_do_not_overlap() {
        let mut tracking = tracking();
        tracking.enable(1, BROADCASTS, &[b"bar", b"foo"]);
        let check = |given: &[&str], expected: Option<(&str, &str, bool)>| {
            let given: Vec<&[u8]> = given.iter().map(|it| it.as_bytes()).collect();
            let expected = expected.map(|(prefix, with, in_use)| Overlap {
                prefix: prefix.as_bytes().into(),
                with: with.as_bytes().into(),
                in_use,
            });
            assert_eq!(tracking.overlap(1, &given), expected, "{given:?}");
        };
        check(&["a", "c"], None);
        check(&["fo"], Some(("fo", "foo", true)));
        check(&["food"], Some(("food", "foo", true)));
        check(&["foo"], Some(("foo", "foo", true)));
        check(&[""], Some(("", "bar", true)));
        check(&["x", "z", "zz", "xy", "zzz"], Some(("x", "xy", false)));
        check(&["xy", "z", "x", "barb"], Some(("xy", "x", false)));
        check(&["q", "barb", "q"], Some(("q", "q", false)));
        check(&["a", "barb", "q", "q"], Some(("barb", "bar", true)));
        check(&["a", "b1", "a1", "a2", "b"], Some(("a", "a1", false)));
        assert_eq!(tracking.overlap(2, &[b"foo"]), None, "another client");
        assert_eq!(tracking.prefixes_of(1).collect::<Vec<_>>(), [b"bar", b"foo"]);
    }

    /// As Redis looks for it: each with each.
    #[test]
    fn the_first_overlap_is_that_of_a_search_by_pairs() {
        let mut random = Random::new(7);
        for _ in 0..3000 {
            let words: Vec<Vec<u8>> = (0..random.below(7))
                .map(|_| (0..random.below(4)).map(|_| b"ab"[random.below(2)]).collect())
                .collect();
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let overlaps =
                |a: usize, b: usize| words[a].starts_with(words[b]) || words[b].starts_with(words[a]);
            let pairs = (0..words.len()).flat_map(|a| (a + 1..words.len()).map(move |b| (a, b)));
            let expected = pairs.into_iter().find(|&(a, b)| overlaps(a, b));
            assert_eq!(first_overlap(&words), expected, "{words:?}");
        }
    }

    /// A hash says nothing about equality.
    #[test]
    fn keys_with_one_hash_are_apart() {
        let mut keys = TrackedKeys::new();
        for (client, key) in [(1, &b"a"[..]), (2, b"b"), (3, b"")] {
            assert!(find(&mut keys, 7, key).is_none());
            keys.insert((7, Box::from(key)), Readers::One(client));
        }
        keys.insert((8, Box::from(&b"c"[..])), Readers::One(4));
        let found = find(&mut keys, 7, b"b").map(|readers| readers.as_slice().to_vec());
        assert_eq!(found, Some(vec![2]));
        assert!(find(&mut keys, 7, b"c").is_none());
    }
}
