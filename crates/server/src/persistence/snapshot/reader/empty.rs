//! Collections without elements, in every form in which a server may have written one. Redis leaves such keys out.
//!
//! Nothing is read beyond what proves that there is an element: the file is refused then.

use std::io::Read;

use super::{Length, RdbVisitor, ReadRdbError, Reading};

/// A ziplist without entries: length, offset of the last entry, number of entries, end.
const ZIPLIST: [u8; 11] = [11, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0xFF];
/// A listpack without elements: length, number of elements, end.
const LISTPACK: [u8; 7] = [7, 0, 0, 0, 0, 0, 0xFF];
/// A node of a list that is a listpack, not a single large element.
const NODE_PACKED: u64 = 2;

impl<R: Read, V: RdbVisitor> Reading<'_, R, V> {
    /// Reads the value of type `type_byte` as far as it takes to know whether it has an element.
    pub(super) fn is_empty_collection(&mut self, type_byte: u8) -> Result<bool, ReadRdbError> {
        match type_byte {
            // List, set, sorted sets, hash: the number of elements in front.
            1..=5 => Ok(self.length("the number of elements")? == 0),
            // List, sorted set, hash.
            10 | 12 | 13 => self.is_string(&ZIPLIST),
            // Hash, sorted set, set.
            16 | 17 | 20 => self.is_string(&LISTPACK),
            // A list of nodes.
            14 => {
                for _ in 0..self.length("the number of nodes")? {
                    if !self.is_string(&ZIPLIST)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            18 => {
                for _ in 0..self.length("the number of nodes")? {
                    if self.length("the form of a node")? != NODE_PACKED || !self.is_string(&LISTPACK)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Whether the next string is this one. It is read only if it has the same length; none so short is compressed.
    fn is_string(&mut self, expected: &[u8]) -> Result<bool, ReadRdbError> {
        match self.length_or_special("a collection")? {
            Length::Plain(len) if len == expected.len() as u64 => {
                Ok(self.bytes(len, "a collection")? == expected)
            }
            _ => Ok(false),
        }
    }
}
