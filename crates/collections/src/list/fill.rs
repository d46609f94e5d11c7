//! How long a node of a list may be: the setting `list-max-listpack-size`.

/// Most bytes of a node for the settings -1 to -5. Source: `optimization_level` of Redis 7.0 (`quicklist.c`).
const BYTES_MAX: [usize; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];
/// Most bytes of a node for other settings. Source: `SIZE_SAFETY_LIMIT` of `quicklist.c`.
const BYTES_MAX_BY_COUNT: usize = 8 << 10;
/// What an element is assumed to take beside its bytes. Source: `SIZE_ESTIMATE_OVERHEAD` of `quicklist.c`.
const ENTRY_OVERHEAD: usize = 8;
/// The bytes of a listpack without elements.
const EMPTY_LEN: usize = 7;

/// The setting, within its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fill(i16);

impl Fill {
    pub(super) fn new(fill: i64) -> Fill {
        Fill(i16::try_from(fill.clamp(-5, i64::from(i16::MAX))).expect("it is within this range"))
    }

    /// Most bytes of a node with several elements.
    fn bytes_max(self) -> usize {
        let level = usize::from(self.0.unsigned_abs()).wrapping_sub(1);
        let by_level = if self.0 < 0 { BYTES_MAX.get(level) } else { None };
        by_level.copied().unwrap_or(BYTES_MAX_BY_COUNT)
    }

    /// Most elements of a node.
    fn count_max(self) -> usize {
        if self.0 < 0 { usize::MAX } else { usize::from(self.0.unsigned_abs()).max(1) }
    }

    /// Whether a node of some bytes and elements has room for an element of `item_len` bytes. As
    /// `_quicklistNodeAllowInsert` of `quicklist.c`.
    #[inline]
    pub(super) fn admits(self, bytes: usize, count: usize, item_len: usize) -> bool {
        bytes + item_len + ENTRY_OVERHEAD <= self.bytes_max() && count < self.count_max()
    }

    /// Whether an element of this length has a node of its own.
    #[inline]
    pub(super) fn is_large(self, item_len: usize) -> bool {
        EMPTY_LEN + item_len + ENTRY_OVERHEAD > self.bytes_max()
    }

    /// Whether a node may stay as it is.
    pub(super) fn holds(self, bytes: usize, count: usize) -> bool {
        bytes <= self.bytes_max() && count <= self.count_max()
    }

    /// Whether two nodes can be one, with room for a third as much.
    pub(super) fn joins(self, bytes: usize, count: usize) -> bool {
        bytes <= self.bytes_max() / 4 * 3
            && count <= self.count_max().div_ceil(4).saturating_mul(3)
            && count <= self.count_max()
    }
}

#[cfg(test)]
mod tests {
    use super::Fill;

    #[test]
    fn nodes_admit_what_those_of_redis_do() {
        let check = |fill, bytes, count, item_len, expected| {
            assert_eq!(
                Fill::new(fill).admits(bytes, count, item_len),
                expected,
                "{fill} {bytes} {count} {item_len}"
            );
        };
        check(-1, 4000, 1000, 88, true);
        check(-1, 4000, 1000, 89, false);
        check(-2, 8000, 4000, 184, true);
        check(-2, 8000, 4000, 185, false);
        check(-5, 65_000, 4000, 528, true);
        check(-5, 65_000, 4000, 529, false);
        check(-99, 65_000, 4000, 528, true);
        check(1, 20, 0, 10, true);
        check(1, 20, 1, 10, false);
        check(128, 8000, 127, 184, true);
        check(128, 8000, 127, 185, false);
        check(128, 8000, 128, 1, false);
        check(0, 20, 1, 1, false);
        check(1 << 40, 20, 32_766, 1, true);
        check(1 << 40, 20, 32_767, 1, false);
    }
}
