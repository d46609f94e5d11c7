//! SORT and SORT_RO.
//!
//! ```text
//!  options ─▶ elements of the key ─▶ a weight for each (other keys) ─▶ order ─▶ LIMIT ─▶ columns (other keys) ─▶ reply, or list
//! ```

mod options;
mod pattern;

use std::cmp::Ordering;
use std::ops::Range;

use holdfast_collections::listpack::{Item, Scratch};
use holdfast_collections::types::List;

use super::lists::check_elements;
use super::store::{Strings, store};
use super::{Call, Outcome, ReplyError, Run, error, numbers};
use crate::engine::events::Change;
use crate::engine::object::EntryView;
use crate::engine::{Keyspace, ValueRef};
use options::Options;
use pattern::Pattern;

pub(crate) fn sort(call: &mut Call<'_, '_>) -> Run {
    let options = Options::parse(&call.request, true)?;
    run(call, options)
}

pub(crate) fn sort_ro(call: &mut Call<'_, '_>) -> Run {
    let options = Options::parse(&call.request, false)?;
    run(call, options)
}

fn run(call: &mut Call<'_, '_>, mut options: Options<'_>) -> Run {
    let key = call.arg(1);
    let mut keys = call.keys();
    let mut sorting = Sorting::default();
    let range = match keys.read(key).map(EntryView::value) {
        Some(ValueRef::Set(set)) => {
            // A set has no order of its own, so what is stored would differ from one program to another.
            if options.unsorted && options.target.is_some() {
                (options.unsorted, options.alphabetic, options.by) = (false, true, None);
            }
            sorting.load(set.iter());
            options.range(set.len())
        }
        Some(ValueRef::List(list)) if options.unsorted => {
            let range = options.range(list.len());
            sorting.load_part(
                range,
                list.len(),
                options.descending,
                |at| list.iter_from(at),
                |at| list.iter_back_from(at),
            )
        }
        Some(ValueRef::SortedSet(set)) if options.unsorted => {
            let member = |(member, _)| member;
            let range = options.range(set.len());
            let (forth, back) = (|at| set.iter_from(at).map(member), |at| set.iter_back_from(at).map(member));
            sorting.load_part(range, set.len(), options.descending, forth, back)
        }
        Some(ValueRef::List(list)) => {
            sorting.load(list.iter());
            options.range(list.len())
        }
        Some(ValueRef::SortedSet(set)) => {
            sorting.load(set.iter().map(|(member, _)| member));
            options.range(set.len())
        }
        Some(ValueRef::String(_) | ValueRef::Hash(_)) => return Err(error::WRONG_TYPE),
        None => 0..0,
    };
    if !options.unsorted {
        sorting.weigh(&mut keys, &options)?;
        sorting.sort(&options);
    }
    match options.target {
        Some(target) => keep(call, &sorting, range, &options.columns, target)?,
        None => show(call, &sorting, range, &options.columns),
    }
    Ok(Outcome::Done)
}

/// Replies with the result.
fn show(call: &mut Call<'_, '_>, sorting: &Sorting, range: Range<usize>, columns: &[Pattern<'_>]) {
    let (mut keys, reply) = call.keys_and_reply();
    let mut name = Vec::new();
    reply.array(range.len() * columns.len().max(1));
    for element in &sorting.elements[range] {
        let text = sorting.text(&element.text);
        if columns.is_empty() {
            reply.bulk(text);
        }
        for column in columns {
            column.look_up(&mut keys, text, &mut name, |value| match value {
                Some(value) => reply.bulk(value),
                None => reply.null(),
            });
        }
    }
}

/// Stores the result as a list and replies with its length.
fn keep(
    call: &mut Call<'_, '_>,
    sorting: &Sorting,
    range: Range<usize>,
    columns: &[Pattern<'_>],
    target: &[u8],
) -> Result<(), ReplyError> {
    let mut keys = call.keys();
    let (mut results, mut name) = (Strings::default(), Vec::new());
    for element in &sorting.elements[range] {
        let text = sorting.text(&element.text);
        if columns.is_empty() {
            results.push(text);
        }
        for column in columns {
            column.look_up(&mut keys, text, &mut name, |value| results.push(value.unwrap_or_default()));
        }
    }
    // A pattern may have brought a string that is longer than elements may be.
    check_elements(results.iter())?;
    let tools = keys.tools();
    let mut list = List::empty(Vec::new());
    results.iter().for_each(|result| list.push_back(result, &tools.limits));
    let existed = keys.find(target).is_some();
    store(&mut keys, target, list, Change::list("sortstore").counted(results.len() as u64));
    // The result is logged, since equal weights leave the order open.
    if existed {
        call.log(&[b"DEL", target]);
    }
    call.log_chunked(b"RPUSH", target, &results);
    call.reply.count(results.len());
    Ok(())
}

/// Elements with what they are sorted by.
#[derive(Debug, Default)]
struct Sorting {
    /// Texts of elements and of weights, one after another.
    bytes: Vec<u8>,
    elements: Vec<Element>,
}

#[derive(Debug)]
struct Element {
    /// Where its text is.
    text: Range<usize>,
    weight: Weight,
}

#[derive(Debug)]
enum Weight {
    /// The element has none; it comes before all others.
    Absent,
    Number(f64),
    /// Where its text is.
    Text(Range<usize>),
}

impl Sorting {
    fn text(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes[range.clone()]
    }

    fn push(&mut self, text: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text);
        start..self.bytes.len()
    }

    fn load<'a>(&mut self, items: impl Iterator<Item = Item<'a>>) {
        let mut scratch = Scratch::new();
        for item in items {
            let text = self.push(item.as_bytes(&mut scratch));
            self.elements.push(Element { text, weight: Weight::Absent });
        }
    }

    /// Loads a range of elements that stay in the order of their key, or the reverse; returns where the range is now.
    fn load_part<'a, F: Iterator<Item = Item<'a>>, B: Iterator<Item = Item<'a>>>(
        &mut self,
        range: Range<usize>,
        len: usize,
        descending: bool,
        forth_from: impl FnOnce(usize) -> F,
        back_from: impl FnOnce(usize) -> B,
    ) -> Range<usize> {
        if !range.is_empty() {
            if descending {
                self.load(back_from(len - 1 - range.start).take(range.len()));
            } else {
                self.load(forth_from(range.start).take(range.len()));
            }
        }
        0..range.len()
    }

    /// Finds what each element is sorted by.
    fn weigh(&mut self, keys: &mut Keyspace<'_>, options: &Options<'_>) -> Result<(), ReplyError> {
        let mut name = Vec::new();
        let mut all_are_numbers = true;
        for at in 0..self.elements.len() {
            let text = self.elements[at].text.clone();
            let weight = match (&options.by, options.alphabetic) {
                (None, true) => Weight::Text(text),
                (None, false) => number_of(Some(self.text(&text)), &mut all_are_numbers),
                (Some(by), false) => by.look_up(keys, self.text(&text), &mut name, |value| {
                    number_of(value, &mut all_are_numbers)
                }),
                (Some(by), true) => {
                    let mut weight: Option<Vec<u8>> = None;
                    by.look_up(keys, self.text(&text), &mut name, |value| weight = value.map(<[u8]>::to_vec));
                    weight.map_or(Weight::Absent, |weight| Weight::Text(self.push(&weight)))
                }
            };
            self.elements[at].weight = weight;
        }
        if all_are_numbers { Ok(()) } else { Err(error::SORT_NOT_DOUBLE) }
    }

    fn sort(&mut self, options: &Options<'_>) {
        let Sorting { bytes, elements } = self;
        // Equal elements stay in order, as long as the sort is stable.
        elements.sort_by(|one, other| {
            let order = compare(bytes, one, other);
            if options.descending { order.reverse() } else { order }
        });
    }
}

/// A weight that has to be a number; 0 where it is absent.
fn number_of(value: Option<&[u8]>, all_are_numbers: &mut bool) -> Weight {
    let number = value.map_or(Some(0.0), numbers::parse_weight);
    *all_are_numbers &= number.is_some();
    Weight::Number(number.unwrap_or(0.0))
}

fn compare(bytes: &[u8], one: &Element, other: &Element) -> Ordering {
    let text = |range: &Range<usize>| &bytes[range.clone()];
    match (&one.weight, &other.weight) {
        (Weight::Number(number), Weight::Number(other_number)) => number
            .partial_cmp(other_number)
            .unwrap_or(Ordering::Equal)
            .then_with(|| text(&one.text).cmp(text(&other.text))),
        (Weight::Text(weight), Weight::Text(other_weight)) => text(weight).cmp(text(other_weight)),
        (Weight::Absent, Weight::Absent) => Ordering::Equal,
        (Weight::Absent, _) => Ordering::Less,
        (_, Weight::Absent) => Ordering::Greater,
        (Weight::Number(_), Weight::Text(_)) | (Weight::Text(_), Weight::Number(_)) => {
            unreachable!("all weights of one command are of one kind")
        }
    }
}
