//! Counts of durations in classes of less than one per cent, laid out as HdrHistogram's with two significant digits: Redis
//! 7.0 keeps one of these for each command, and clients compare its bounds.

/// Classes of the first bucket, which is exact: the power of two above twice the two digits.
const CLASSES: u64 = 256;
/// Classes that each further bucket adds, each twice as wide as before.
const HALF: u64 = CLASSES / 2;
/// Longest duration that is told apart: one second, in nanoseconds. Source: Redis 7.0, `LATENCY_HISTOGRAM_MAX_VALUE`.
const VALUE_MAX: u64 = 1_000_000_000;
/// The first bound of [`Histogram::doublings`] in nanoseconds; each is twice the one before.
const DOUBLING_FIRST: u64 = 1024;
/// The last bound: where the last class ends.
const DOUBLING_LAST: u64 = (CLASSES << 22) - 1;

/// How often which durations were seen, in nanoseconds from 1 to [`VALUE_MAX`]; others count as the nearer of the two.
#[derive(Debug, Clone, Default)]
pub(crate) struct Histogram {
    /// By class; as long as the longest duration needs.
    counts: Vec<u64>,
    total: u64,
}

/// The bucket and the place in it of a duration.
fn place(value: u64) -> (u32, u64) {
    let bucket = (u64::BITS - (value | (CLASSES - 1)).leading_zeros()) - CLASSES.trailing_zeros();
    (bucket, value >> bucket)
}

fn class_of(value: u64) -> usize {
    let (bucket, sub) = place(value);
    usize::try_from(u64::from(bucket) * HALF + sub).expect("some thousands at most")
}

/// The shortest duration of a class, and the width of the class.
fn bounds(class: usize) -> (u64, u64) {
    let class = class as u64;
    let (bucket, sub) = match (class / HALF).checked_sub(1) {
        Some(bucket) => (bucket, class % HALF + HALF),
        None => (0, class),
    };
    (sub << bucket, 1 << bucket)
}

/// The longest duration that counts as the same as `value`.
fn highest_equivalent(value: u64) -> u64 {
    let (low, width) = bounds(class_of(value));
    low + width - 1
}

fn lowest_equivalent(value: u64) -> u64 {
    bounds(class_of(value)).0
}

impl Histogram {
    /// Counts `times` durations of `nanoseconds`.
    pub(crate) fn record(&mut self, nanoseconds: u64, times: u64) {
        let class = class_of(nanoseconds.clamp(1, VALUE_MAX));
        if class >= self.counts.len() {
            self.counts.resize(class + 1, 0);
        }
        self.counts[class] += times;
        self.total += times;
    }

    /// Durations counted.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The duration that `percentile` per cent of all do not exceed, in nanoseconds; 0 when there are none.
    #[expect(clippy::cast_precision_loss, reason = "as in Redis; counts beyond 2^53 take centuries")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0 and the count")]
    pub(crate) fn percentile(&self, percentile: f64) -> u64 {
        let wanted = ((percentile.min(100.0) / 100.0) * self.total as f64 + 0.5) as u64;
        let mut seen = 0;
        for (class, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= wanted.max(1) {
                let (low, width) = bounds(class);
                return if percentile == 0.0 { low } else { low + width - 1 };
            }
        }
        0
    }

    /// The sum of all counts up to bounds that double, as pairs of microseconds and count; bounds that add nothing are left
    /// out. Source: Redis 7.0, `fillCommandCDF`, which steps through HdrHistogram's logarithmic iterator.
    pub(crate) fn doublings(&self) -> Vec<(u64, u64)> {
        let mut steps = Vec::new();
        let (mut seen, mut reported) = (0, 0);
        let mut report = |at: u64, seen: u64| {
            if seen > reported {
                steps.push((highest_equivalent(at).min(DOUBLING_LAST) / 1000, seen));
                reported = seen;
            }
        };
        let mut level = DOUBLING_FIRST;
        for (class, count) in self.counts.iter().enumerate() {
            seen += count;
            let (value, _) = bounds(class);
            while value >= lowest_equivalent(level) {
                report(value, seen);
                level *= 2;
            }
        }
        // The last bound of the iterator is where the counts end.
        let last = lowest_equivalent(level);
        report(last, seen);
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_contiguous_and_narrower_than_one_per_cent() {
        let mut next = 0;
        for class in 0..3000 {
            let (low, width) = bounds(class);
            assert_eq!(low, next, "class {class}");
            assert_eq!((class_of(low), class_of(low + width - 1)), (class, class));
            assert!(width == 1 || width * 100 <= low, "class {class}");
            next = low + width;
        }
    }

    /// Figures of HdrHistogram 0.11.8 as Redis 7.0.15 bundles it, `hdr_init(1, 1000000000, 2)`.
    #[test]
    fn percentiles_are_those_of_hdr_histogram() {
        let mut histogram = Histogram::default();
        for value in 1..=1000 {
            histogram.record(value * 1000, 1);
        }
        let at = |percentile| histogram.percentile(percentile);
        assert_eq!(
            (at(0.0), at(50.0), at(99.0), at(99.9), at(100.0)),
            (1000, 501_759, 991_231, 999_423, 1_003_519)
        );
        assert_eq!(Histogram::default().percentile(50.0), 0);
        let mut one = Histogram::default();
        one.record(5_000_000_000, 1);
        assert_eq!(one.percentile(50.0), 1_002_438_655, "as long as can be told apart");
    }

    #[test]
    fn doublings_are_those_of_hdr_histogram() {
        let check = |values: &[u64], expected: &[(u64, u64)]| {
            let mut histogram = Histogram::default();
            values.iter().for_each(|value| histogram.record(*value, 1));
            assert_eq!(histogram.doublings(), expected, "{values:?}");
        };
        check(&[], &[]);
        check(&[500, 500, 500], &[(1, 3)]);
        check(&[1, 1023, 1024, 1025, 1032, 2047, 2048, 70_000, 131_072], &[(1, 4), (2, 7), (132, 9)]);
        check(&[50_000_000; 3], &[(67_633, 3)]);
        check(&[1_000_000_000], &[(1_073_741, 1)]);
        let thousand: Vec<u64> = (1..=1000).map(|value| value * 1000).collect();
        let doubled = [
            (1, 1),
            (2, 2),
            (4, 4),
            (8, 8),
            (16, 16),
            (33, 33),
            (66, 66),
            (132, 132),
            (264, 264),
            (528, 528),
        ];
        check(&thousand, &[&doubled[..], &[(1056, 1000)]].concat());
    }
}
