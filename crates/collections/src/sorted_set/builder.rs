//! A sorted set made from elements that come in order, as files have them.

use std::fmt;

use super::SortedSet;
use super::packed::{BYTES_BUILT, LEN_BUILT, MEMBER_LEN_MAX, Packed};
use super::ranked::Ranked;
use super::scores::{Entry, Scores};
use crate::hash::KeyHasher;
use crate::tree::Leaf;

/// A member came twice. The data is damaged; a retry cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepeatedMember;

impl fmt::Display for RepeatedMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member of a sorted set came twice")
    }
}

impl std::error::Error for RepeatedMember {}

/// The order in which elements have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// There are less than two.
    Unknown,
    Ascending,
    Descending,
    /// They are inserted one by one.
    None,
}

/// Makes a [`SortedSet`]: fast from elements in order or in reverse order, which is how Redis saves them; in any other order
/// as fast as they are inserted.
#[derive(Debug)]
pub struct Builder {
    set: SortedSet,
    order: Order,
    /// Leaves in the order in which they were made.
    leaves: Vec<Ranked>,
    /// The elements for the next leaf as they came: members one after another, the end of each, and its score.
    members: Vec<u8>,
    pending: Vec<(usize, f64)>,
    /// The last element.
    last: Option<(Vec<u8>, f64)>,
    /// For each element its hash part, its number from 0, and its score.
    entries: Vec<(u32, u32, f64)>,
    is_repeated: bool,
}

impl Builder {
    /// Nothing yet.
    #[must_use]
    pub fn new(hasher: KeyHasher) -> Builder {
        Builder {
            set: SortedSet::new(hasher),
            order: Order::Unknown,
            leaves: Vec::new(),
            members: Vec::new(),
            pending: Vec::new(),
            last: None,
            entries: Vec::new(),
            is_repeated: false,
        }
    }

    /// Adds an element. The score must not be NaN.
    pub fn push(&mut self, member: &[u8], score: f64) {
        debug_assert!(!score.is_nan(), "a score is a number");
        let number = u32::try_from(self.entries.len());
        match (self.next_order(member, score), number) {
            (Order::None, _) | (_, Err(_)) => {
                self.give_up_order();
                self.is_repeated |= self.set.insert(member, score).is_some();
            }
            (order, Ok(number)) => {
                self.order = order;
                self.entries.push((self.set.part(member), number, score));
                self.add_pending(member, score);
            }
        }
    }

    /// The order of the elements with one more.
    fn next_order(&mut self, member: &[u8], score: f64) -> Order {
        if self.order == Order::None {
            return Order::None;
        }
        let Some((last_member, last_score)) = &mut self.last else {
            self.last = Some((member.to_vec(), score));
            return self.order;
        };
        let (last, this) = ((*last_score, &last_member[..]), (score, member));
        let order = match self.order {
            Order::Unknown | Order::Ascending if this > last => Order::Ascending,
            Order::Unknown | Order::Descending if this < last => Order::Descending,
            _ => Order::None,
        };
        last_member.clear();
        last_member.extend_from_slice(member);
        *last_score = score;
        order
    }

    fn add_pending(&mut self, member: &[u8], score: f64) {
        // As if scores were long, for simplicity.
        let len = self.members.len() + member.len() + (self.pending.len() + 1) * (size_of::<f64>() + 1);
        let is_long = member.len() > MEMBER_LEN_MAX;
        if is_long || len > BYTES_BUILT || self.pending.len() == LEN_BUILT {
            self.make_leaf();
        }
        if is_long {
            self.leaves.push(Ranked::of_one(member, score));
            return;
        }
        self.members.extend_from_slice(member);
        self.pending.push((self.members.len(), score));
    }

    /// Makes a leaf of the pending elements.
    fn make_leaf(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let element = |place: usize| {
            let start = if place == 0 { 0 } else { self.pending[place - 1].0 };
            let (end, score) = self.pending[place];
            (&self.members[start..end], score)
        };
        let last = self.pending.len() - 1;
        let packed = if self.order == Order::Descending {
            Packed::of((0..=last).rev().map(element))
        } else {
            Packed::of((0..=last).map(element))
        };
        self.leaves.push(Ranked::Packed(packed));
        self.members.clear();
        self.pending.clear();
    }

    /// Goes on by single insertions.
    fn give_up_order(&mut self) {
        if self.order != Order::None {
            self.build();
            self.order = Order::None;
        }
    }

    /// Moves all elements that came in order to the set, which is empty.
    fn build(&mut self) {
        self.make_leaf();
        if self.order == Order::Descending {
            self.leaves.reverse();
        }
        self.leaves.drain(..).for_each(|leaf| self.set.ranked.push_leaf(leaf));
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_unstable_by(|a, b| (a.0, a.2).partial_cmp(&(b.0, b.2)).expect("scores are numbers"));
        self.is_repeated |= self.has_repeated(&entries);
        for chunk in entries.chunks(Scores::BUILT_LEN) {
            let entries = chunk.iter().map(|(part, _, score)| -> Entry { (*part, *score) });
            self.set.scores.push_leaf(Scores::of(entries));
        }
    }

    /// Whether two elements have the same member; entries are in order of hash parts.
    fn has_repeated(&self, entries: &[(u32, u32, f64)]) -> bool {
        let member = |number: u32| {
            let number = number as usize;
            let index = if self.order == Order::Descending { entries.len() - 1 - number } else { number };
            self.set.at(index).map(|(member, _)| member)
        };
        entries.chunk_by(|a, b| a.0 == b.0).filter(|equal| equal.len() > 1).any(|equal| {
            let mut members: Vec<_> = equal.iter().map(|(_, number, _)| member(*number)).collect();
            members.sort_unstable();
            members.windows(2).any(|pair| pair[0] == pair[1])
        })
    }

    /// The set of all elements.
    /// # Errors
    /// [`RepeatedMember`] when two elements had the same member.
    pub fn finish(mut self) -> Result<SortedSet, RepeatedMember> {
        if self.order != Order::None {
            self.build();
        }
        debug_assert_eq!(self.set.ranked.len(), self.set.scores.len());
        debug_assert!(self.set.ranked.leaves().all(|leaf| !leaf.is_full()));
        if self.is_repeated { Err(RepeatedMember) } else { Ok(self.set) }
    }
}
