//! How the scores of one leaf are stored: in 4 bytes each where that loses nothing, else in 8.

use crate::search;

const CACHE_LINE_LEN: usize = 64;

/// The form of all scores in one leaf. Little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// Integers of 32 bits.
    Integer,
    /// Floating-point numbers of 32 bits.
    Single,
    /// Floating-point numbers of 64 bits.
    Double,
}

impl Width {
    /// The narrowest form that holds all these scores exactly.
    pub(super) fn of(scores: impl Iterator<Item = f64>) -> Width {
        let (mut integer, mut single) = (true, true);
        for score in scores {
            integer = integer && to_integer(score).is_some();
            single = single && to_single(score).is_some();
            if !integer && !single {
                return Width::Double;
            }
        }
        if integer { Width::Integer } else { Width::Single }
    }

    /// Bytes of one score.
    #[inline]
    pub(super) fn len(self) -> usize {
        match self {
            Width::Integer | Width::Single => 4,
            Width::Double => 8,
        }
    }

    /// Whether this form holds a score exactly.
    pub(super) fn fits(self, score: f64) -> bool {
        match self {
            Width::Integer => to_integer(score).is_some(),
            Width::Single => to_single(score).is_some(),
            Width::Double => true,
        }
    }

    /// The score at a place of a column of scores.
    #[inline]
    pub(super) fn read(self, column: &[u8], place: usize) -> f64 {
        match self {
            Width::Integer => f64::from(i32::from_le_bytes(fours(column)[place])),
            Width::Single => f64::from(f32::from_le_bytes(fours(column)[place])),
            Width::Double => f64::from_le_bytes(column.as_chunks().0[place]),
        }
    }

    /// Number of scores in a sorted column that are below this one, or `inclusive`, not above it.
    #[inline]
    pub(super) fn count_below(self, column: &[u8], score: f64, inclusive: bool) -> usize {
        let (fours, (eights, _)) = (fours(column), column.as_chunks::<8>());
        let is_below = |it: f64| it < score || (inclusive && it == score);
        match self {
            // Integers are compared as such, several at once.
            Width::Integer => match integers_below(score, inclusive) {
                Below::All => fours.len(),
                Below::Limit(limit) => partition_point(fours, |it| i32::from_le_bytes(*it) < limit),
            },
            Width::Single => partition_point(fours, |it| is_below(f64::from(f32::from_le_bytes(*it)))),
            Width::Double => partition_point(eights, |it| is_below(f64::from_le_bytes(*it))),
        }
    }

    /// Writes a score that [`Width::fits`].
    #[inline]
    pub(super) fn write(self, column: &mut [u8], place: usize, score: f64) {
        let four = match self {
            Width::Integer => to_integer(score).unwrap_or_default().to_le_bytes(),
            Width::Single => to_single(score).unwrap_or_default().to_le_bytes(),
            Width::Double => {
                column[place * 8..][..8].copy_from_slice(&score.to_le_bytes());
                return;
            }
        };
        column[place * 4..][..4].copy_from_slice(&four);
    }
}

/// Which integers of 32 bits are below a score.
enum Below {
    All,
    /// Those less than this one.
    Limit(i32),
}

/// The integers that are below a score, or `inclusive`, not above it.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "what the cast loses is seen when the result is compared"
)]
fn integers_below(score: f64, inclusive: bool) -> Below {
    // Towards zero, and of what is out of range the nearest.
    let integer = score as i32;
    let is_below = f64::from(integer) < score || (inclusive && f64::from(integer) == score);
    if is_below { integer.checked_add(1).map_or(Below::All, Below::Limit) } else { Below::Limit(integer) }
}

/// Number of elements of a sorted column for which `is_below` holds; see [`search::partition_point`].
#[inline]
pub(super) fn partition_point<T>(column: &[T], is_below: impl Fn(&T) -> bool) -> usize {
    search::partition_point(column, CACHE_LINE_LEN / size_of::<T>(), is_below)
}

/// A column of four bytes each.
#[inline]
pub(super) fn fours(column: &[u8]) -> &[[u8; 4]] {
    column.as_chunks().0
}

/// The same number as an integer. Minus zero is none, because it reads as `-0`.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "what the cast loses is seen when the result is compared"
)]
fn to_integer(score: f64) -> Option<i32> {
    let integer = score as i32;
    (f64::from(integer).to_bits() == score.to_bits()).then_some(integer)
}

/// The same number in 32 bits.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "what the cast loses is seen when the result is compared"
)]
fn to_single(score: f64) -> Option<f32> {
    let single = score as f32;
    (f64::from(single).to_bits() == score.to_bits()).then_some(single)
}

#[cfg(test)]
mod tests {
    use super::{Below, Width, integers_below};

    #[test]
    fn integers_are_counted_as_the_doubles_that_they_are() {
        let integers = [i32::MIN, i32::MIN + 1, -8, -7, -1, 0, 1, 7, 8, 1 << 24, i32::MAX - 1, i32::MAX];
        let near = |integer: i32| [-0.75, -0.5, 0.0, 0.5, 0.75].map(|it| f64::from(integer) + it);
        let far = [f64::NEG_INFINITY, f64::INFINITY, -1e300, 1e300, -3e9, 3e9, -0.0, f64::MIN_POSITIVE];
        for score in integers.into_iter().flat_map(near).chain(far) {
            for inclusive in [false, true] {
                let below = integers_below(score, inclusive);
                for integer in integers {
                    let number = f64::from(integer);
                    let expected = number < score || (inclusive && number == score);
                    let found = match below {
                        Below::All => true,
                        Below::Limit(limit) => integer < limit,
                    };
                    assert_eq!(found, expected, "{integer} below {score}, inclusive: {inclusive}");
                }
            }
        }
    }

    #[test]
    fn scores_are_stored_in_the_narrowest_exact_form() {
        let check = |scores: &[f64], expected: Width| {
            let width = Width::of(scores.iter().copied());
            assert_eq!(width, expected, "{scores:?}");
            let mut column = vec![0; scores.len() * width.len()];
            for (place, score) in scores.iter().enumerate() {
                assert!(width.fits(*score));
                width.write(&mut column, place, *score);
            }
            for (place, score) in scores.iter().enumerate() {
                assert_eq!(width.read(&column, place).to_bits(), score.to_bits(), "{scores:?}");
            }
        };
        check(&[], Width::Integer);
        check(&[0.0, -1.0, 2_147_483_647.0, -2_147_483_648.0], Width::Integer);
        check(&[0.5, 1.0, f64::INFINITY, f64::NEG_INFINITY, -0.0], Width::Single);
        check(&[2_147_483_648.0], Width::Single);
        check(&[16_777_217.0, 0.5], Width::Double);
        check(&[0.1], Width::Double);
        check(&[f64::MIN_POSITIVE, f64::MAX], Width::Double);
        check(&[2_147_483_649.0], Width::Double);
    }
}
