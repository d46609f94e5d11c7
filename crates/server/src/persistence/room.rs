//! Whether the snapshot for a backup has room beside the data. Pure.
//!
//! It lies on the volume of the log, which must be able to go on: so it is not begun where it cannot fit, is given up where it
//! turns out larger, and never takes the last bytes.

use crate::storage::Space;

/// Bytes that stay free for the log beside the snapshot for a backup: half a minute of writes at 2 MB/s, which is time to see a
/// warning; and of a small volume a tenth, so that it can have backups at all.
const RESERVE_LEN_MAX: u64 = 64 << 20;
const RESERVE_SHARE: u64 = 10;

/// Too little room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it needs at least {needed} bytes beside the data ({reserve} of them stay free for the log), and the volume has {available} \
     free; give the Store a larger volume"
)]
pub(crate) struct Shortage {
    /// Bytes that the whole snapshot needs at least, the reserve included.
    pub(crate) needed: u64,
    /// Bytes of them that it must leave free.
    pub(crate) reserve: u64,
    /// Bytes that were free when it began.
    pub(crate) available: u64,
}

/// What is short for a snapshot of which `written` bytes are there and at least `rest` are to come, on a volume with `space`.
pub(crate) fn shortage(written: u64, rest: u64, space: Space) -> Option<Shortage> {
    let reserve = RESERVE_LEN_MAX.min(space.total / RESERVE_SHARE);
    let needed = rest.saturating_add(reserve);
    (space.available < needed).then(|| Shortage {
        needed: needed.saturating_add(written),
        reserve,
        available: space.available.saturating_add(written),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_snapshot_leaves_room_for_the_log() {
        let check = |written, rest, available, expected: Option<(u64, u64)>| {
            let found = shortage(written, rest, Space { total: 10 * GIB, available });
            assert_eq!(found.map(|found| (found.needed, found.available)), expected, "{rest} in {available}");
        };
        check(0, GIB, GIB + RESERVE_LEN_MAX, None);
        check(0, GIB, GIB + RESERVE_LEN_MAX - 1, Some((GIB + RESERVE_LEN_MAX, GIB + RESERVE_LEN_MAX - 1)));
        check(GIB, 1, RESERVE_LEN_MAX, Some((GIB + 1 + RESERVE_LEN_MAX, GIB + RESERVE_LEN_MAX)));
        check(0, u64::MAX, GIB, Some((u64::MAX, GIB)));
    }

    #[test]
    fn of_a_small_volume_a_tenth_is_left() {
        let space = |available| Space { total: 100, available };
        assert_eq!(shortage(0, 5, space(15)), None);
        let short = shortage(0, 5, space(14)).unwrap();
        assert_eq!((short.needed, short.reserve, short.available), (15, 10, 14));
        assert!(short.to_string().contains("needs at least 15 bytes"), "{short}");
    }
}
