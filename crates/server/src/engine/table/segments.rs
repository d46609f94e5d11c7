//! The segments of a table by number.

use super::segment::Segment;

/// Segments in a block.
const BLOCK_LEN: usize = 256;

/// Segments by number, in blocks: to add one moves a block at most, never all of them.
#[derive(Debug, Default)]
pub(super) struct Segments {
    blocks: Vec<Vec<Option<Segment>>>,
    len: usize,
    /// Numbers that are free.
    free: Vec<u32>,
}

impl Segments {
    /// Numbers that have ever been used.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Segments that there are.
    pub(super) fn count(&self) -> usize {
        self.len - self.free.len()
    }

    #[inline]
    pub(super) fn get(&self, number: usize) -> Option<&Segment> {
        self.blocks.get(number / BLOCK_LEN)?.get(number % BLOCK_LEN)?.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut Segment> {
        self.blocks.get_mut(number / BLOCK_LEN)?.get_mut(number % BLOCK_LEN)?.as_mut()
    }

    /// Takes a segment out; its number stays in use.
    pub(super) fn take(&mut self, number: u32) -> Option<Segment> {
        self.slot(number).take()
    }

    /// Puts a segment where none is, under a number that is in use.
    pub(super) fn put(&mut self, number: u32, segment: Segment) {
        *self.slot(number) = Some(segment);
    }

    fn slot(&mut self, number: u32) -> &mut Option<Segment> {
        &mut self.blocks[number as usize / BLOCK_LEN][number as usize % BLOCK_LEN]
    }

    /// A number for another segment.
    pub(super) fn reserve(&mut self) -> u32 {
        if let Some(number) = self.free.pop() {
            return number;
        }
        if self.len.is_multiple_of(BLOCK_LEN) {
            self.blocks.push(Vec::new());
        }
        self.blocks.last_mut().expect("there is a block with room").push(None);
        self.len += 1;
        u32::try_from(self.len - 1).expect("memory ends before the numbers do")
    }

    /// Lets a number be used again; its segment has been taken.
    pub(super) fn release(&mut self, number: u32) {
        self.free.push(number);
    }

    /// Frees the segment of the highest number, and the number; false when there is none.
    pub(super) fn drop_last(&mut self) -> bool {
        while let Some(block) = self.blocks.last_mut() {
            if block.pop().is_some() {
                self.len -= 1;
                return true;
            }
            self.blocks.pop();
        }
        false
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Segment> + Clone {
        self.blocks.iter().flatten().flatten()
    }
}
