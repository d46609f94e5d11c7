//! A listpack that grows and shrinks at both ends.
//!
//! Elements removed at the front leave a gap before the header, and elements added there use it, so neither moves the others.
//! The header moves instead.

use super::fill::Fill;
use crate::buffer::grow;
use crate::listpack::{self, Item, TooLarge, View};
use crate::memory::class_size;

const HEADER_LEN: usize = 6;
/// The byte that ends a listpack.
const END: u8 = 0xFF;
/// A buffer of at most so many bytes is kept, however little of it is used.
const KEPT_LEN: usize = 128;

/// A listpack with a gap before it. Without elements it has no bytes.
#[derive(Debug)]
pub(super) struct Pack {
    bytes: Vec<u8>,
    /// The bytes of the gap.
    gap: usize,
    count: u32,
    fill: Fill,
}

impl Clone for Pack {
    /// With the capacity of the original, as the tree has counted it.
    fn clone(&self) -> Pack {
        let mut bytes = Vec::with_capacity(self.bytes.capacity());
        bytes.extend_from_slice(&self.bytes);
        Pack { bytes, ..*self }
    }
}

impl Pack {
    pub(super) const fn new(fill: Fill) -> Pack {
        Pack { bytes: Vec::new(), gap: 0, count: 0, fill }
    }

    /// A listpack as it is.
    pub(super) fn of(bytes: Vec<u8>, fill: Fill) -> Pack {
        let count = View::trusted(&bytes).len();
        let mut pack = Pack { bytes, count: count_of(count), ..Pack::new(fill) };
        pack.settle();
        pack
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.count as usize
    }

    #[inline]
    pub(super) fn view(&self) -> View<'_> {
        View::trusted(&self.bytes[self.gap..])
    }

    fn total(&self) -> usize {
        self.bytes.len() - self.gap
    }

    pub(super) fn memory_bytes(&self) -> usize {
        if self.bytes.capacity() == 0 { 0 } else { class_size(self.bytes.capacity()) }
    }

    /// Whether there is room for an element of this length.
    #[inline]
    pub(super) fn admits(&self, item_len: usize) -> bool {
        self.fill.admits(self.total(), self.len(), item_len)
    }

    pub(super) fn can_absorb(&self, next: &Pack) -> bool {
        self.fill.joins(self.total() + next.total(), self.len() + next.len())
    }

    /// Adds the elements of the one that follows.
    pub(super) fn absorb(&mut self, next: &Pack) {
        let count = self.count + next.count;
        listpack::append(self.whole(), next.view()).expect("both are short");
        self.count = count;
        self.settle();
    }

    /// The listpack without a gap. Who changes the number of elements must set it.
    fn whole(&mut self) -> &mut Vec<u8> {
        self.bytes.drain(..self.gap);
        self.gap = 0;
        &mut self.bytes
    }

    /// Gives up the gap and all unused room.
    pub(super) fn settle(&mut self) {
        let bytes = self.whole();
        let wanted = class_size(bytes.len());
        if bytes.is_empty() {
            *bytes = Vec::new();
        } else if wanted < bytes.capacity() {
            bytes.shrink_to(wanted);
        }
    }

    /// Adds an element behind the others. `scratch` is a listpack of any content, used for the moment.
    #[inline]
    pub(super) fn push_back(&mut self, item: Item<'_>, scratch: &mut Vec<u8>) -> Result<(), TooLarge> {
        if self.gap > 0 {
            // Rather than that a queue grows for ever, it moves to the front when that is free.
            let is_full = self.bytes.len() + listpack::encoded_len(item) > self.bytes.capacity();
            if is_full && self.gap >= self.total() {
                self.whole();
            }
        }
        if self.gap == 0 {
            listpack::push_back(&mut self.bytes, item)?;
            self.count += 1;
            return Ok(());
        }
        let entry = encode(item, scratch)?;
        grow(&mut self.bytes, entry.len());
        self.bytes.pop();
        self.bytes.extend_from_slice(entry);
        self.bytes.push(END);
        self.count += 1;
        self.write_header();
        Ok(())
    }

    /// Adds an element before the others. `scratch` is a listpack of any content, used for the moment.
    pub(super) fn push_front(&mut self, item: Item<'_>, scratch: &mut Vec<u8>) -> Result<(), TooLarge> {
        if self.count == 0 {
            return self.push_back(item, scratch);
        }
        let entry = encode(item, scratch)?;
        if self.gap < entry.len() {
            self.widen_gap(entry.len());
        }
        self.gap -= entry.len();
        self.bytes[self.gap + HEADER_LEN..][..entry.len()].copy_from_slice(entry);
        self.count += 1;
        self.write_header();
        Ok(())
    }

    /// Makes a gap of some bytes, or more, so that there are few such moves while a listpack is filled.
    fn widen_gap(&mut self, needed: usize) {
        let total = self.total();
        let capacity = class_size(total + needed.max(total / 4));
        let mut bytes = Vec::with_capacity(capacity);
        bytes.resize(capacity - total, 0);
        bytes.extend_from_slice(&self.bytes[self.gap..]);
        self.gap = capacity - total;
        self.bytes = bytes;
    }

    /// Removes the first element and shows it.
    pub(super) fn pop_front<R>(&mut self, show: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        let view = self.view();
        let at = view.first()?;
        let result = show(view.at(at)?);
        match view.next(at) {
            Some(next) => {
                self.gap += next.offset() - HEADER_LEN;
                self.count -= 1;
                self.write_header();
                self.trim();
            }
            None => self.clear(),
        }
        Some(result)
    }

    /// Removes the last element and shows it.
    pub(super) fn pop_back<R>(&mut self, show: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        let view = self.view();
        let at = view.last()?;
        let result = show(view.at(at)?);
        if at.offset() > HEADER_LEN {
            let end = self.gap + at.offset();
            self.bytes.truncate(end);
            self.bytes.push(END);
            self.count -= 1;
            self.write_header();
            self.trim();
        } else {
            self.clear();
        }
        Some(result)
    }

    fn clear(&mut self) {
        if self.bytes.capacity() > KEPT_LEN {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        (self.gap, self.count) = (0, 0);
    }

    /// Moves to half of the room when a quarter is in use.
    fn trim(&mut self) {
        let capacity = self.bytes.capacity();
        if capacity > KEPT_LEN && self.total() * 4 <= capacity {
            let mut bytes = Vec::with_capacity(class_size(capacity / 2));
            bytes.extend_from_slice(&self.bytes[self.gap..]);
            (self.bytes, self.gap) = (bytes, 0);
        }
    }

    fn write_header(&mut self) {
        let total = u32::try_from(self.total()).unwrap_or(u32::MAX).to_le_bytes();
        let count = u16::try_from(self.count).unwrap_or(u16::MAX).to_le_bytes();
        let header = &mut self.bytes[self.gap..][..HEADER_LEN];
        header[..4].copy_from_slice(&total);
        header[4..].copy_from_slice(&count);
    }

    /// Puts an element in the place of another.
    pub(super) fn replace(&mut self, place: usize, item: Item<'_>) -> Result<(), TooLarge> {
        if let Some(at) = self.view().seek(signed(place)) {
            listpack::replace(self.whole(), at, item)?;
        }
        Ok(())
    }

    /// Inserts an element before the one at a place, or behind all.
    pub(super) fn insert(&mut self, place: usize, item: Item<'_>) -> Result<(), TooLarge> {
        let at = self.view().seek(signed(place));
        let bytes = self.whole();
        match at {
            Some(at) => listpack::insert_before(bytes, at, item).map(|_| ())?,
            None => listpack::push_back(bytes, item)?,
        }
        self.count += 1;
        Ok(())
    }

    /// Removes some elements from the one at a place on; returns how many there were.
    pub(super) fn remove(&mut self, place: usize, count: usize) -> usize {
        if place == 0 && count >= self.len() {
            let removed = self.len();
            *self = Pack::new(self.fill);
            return removed;
        }
        let removed = listpack::remove_range(self.whole(), signed(place), count);
        self.count -= count_of(removed);
        self.settle();
        removed
    }

    /// Removes the elements for which `is_removed` holds, asked for each in order.
    pub(super) fn remove_if(&mut self, mut is_removed: impl FnMut(Item<'_>) -> bool) {
        let mut rest = Vec::with_capacity(self.total());
        rest.extend_from_slice(&self.bytes[self.gap..][..HEADER_LEN]);
        let (view, mut count) = (self.view(), 0);
        for (at, item) in view.entries() {
            if !is_removed(item) {
                let end = view.next(at).map_or(self.total() - 1, listpack::At::offset);
                rest.extend_from_slice(&view.bytes()[at.offset()..end]);
                count += 1;
            }
        }
        rest.push(END);
        *self = Pack { bytes: rest, gap: 0, count, fill: self.fill };
        if count == 0 {
            self.bytes.clear();
        } else {
            self.write_header();
        }
        self.settle();
    }

    /// Removes the elements from a place on and returns them.
    pub(super) fn split_off(&mut self, place: usize) -> Pack {
        if place == 0 {
            return std::mem::replace(self, Pack::new(self.fill));
        }
        if place >= self.len() {
            return Pack::new(self.fill);
        }
        let rest = listpack::split_off(self.whole(), place);
        self.count = count_of(place);
        self.settle();
        Pack::of(rest, self.fill)
    }

    /// Parts of about equal length, none longer than allowed unless it is one element.
    pub(super) fn into_parts(mut self) -> Vec<Pack> {
        if self.count < 2 || self.fill.holds(self.total(), self.len()) {
            self.settle();
            return vec![self];
        }
        let middle = self.total() / 2;
        let place = self.view().entries().position(|(at, _)| at.offset() >= middle);
        let place = place.unwrap_or(self.len() - 1).clamp(1, self.len() - 1);
        let rest = self.split_off(place);
        let mut parts = self.into_parts();
        parts.extend(rest.into_parts());
        parts
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        if self.count == 0 {
            assert!(self.bytes.is_empty());
            return;
        }
        let view = listpack::check(&self.bytes[self.gap..]).expect("it is a listpack");
        assert_eq!(view.iter().count(), self.len());
        assert!(self.count == 1 || self.fill.holds(self.total(), self.len()), "no node is too long");
    }

    #[cfg(test)]
    pub(super) fn check_settled(&self) {
        assert_eq!((self.gap, self.memory_bytes()), (0, class_size(self.bytes.len())), "no room is unused");
    }
}

/// The entry of an element, made in `scratch`.
fn encode<'a>(item: Item<'_>, scratch: &'a mut Vec<u8>) -> Result<&'a [u8], TooLarge> {
    listpack::clear_into(scratch);
    listpack::push_back(scratch, item)?;
    Ok(&scratch[HEADER_LEN..scratch.len() - 1])
}

fn count_of(count: usize) -> u32 {
    u32::try_from(count).expect("a listpack has less than 2^32 bytes")
}

fn signed(place: usize) -> isize {
    isize::try_from(place).unwrap_or(isize::MAX)
}
