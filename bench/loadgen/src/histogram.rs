//! Latencies in buckets whose width grows with the value: constant memory, every percentile within 1 %.

use std::time::Duration;

/// Each power of two is split into 2^7 buckets, so that a bucket is at most 1/128 of its value wide.
const SPLIT_BITS: u32 = 7;
const SPLIT: usize = 1 << SPLIT_BITS;
const BUCKETS: usize = (65 - SPLIT_BITS as usize) << SPLIT_BITS;

pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    sum_ns: u128,
    max_ns: u64,
}

fn bucket_of(ns: u64) -> usize {
    let exponent = u64::BITS.saturating_sub(ns.leading_zeros() + SPLIT_BITS + 1);
    let within = usize::try_from(ns >> exponent).unwrap_or(usize::MAX);
    // From the second power of two on, `within` has its highest bit set: the upper half of a span of two splits.
    ((exponent as usize) << SPLIT_BITS) + within
}

/// The middle of a bucket.
fn value_of(bucket: usize) -> u64 {
    if bucket < 2 * SPLIT {
        return bucket as u64;
    }
    let exponent = (bucket >> SPLIT_BITS) - 1;
    let within = (bucket & (SPLIT - 1)) + SPLIT;
    ((within as u64) << exponent) + (1u64 << exponent) / 2
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { buckets: vec![0; BUCKETS + SPLIT], count: 0, sum_ns: 0, max_ns: 0 }
    }

    /// Adds one latency for each of `times` requests of a batch.
    pub(crate) fn add(&mut self, latency: Duration, times: u64) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(ns)] += times;
        self.count += times;
        self.sum_ns += u128::from(ns) * u128::from(times);
        self.max_ns = self.max_ns.max(ns);
    }

    /// The latency that `share` (0 to 1) of the requests did not exceed, in microseconds; 0 without requests.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a statistic"
    )]
    pub(crate) fn percentile_us(&self, share: f64) -> f64 {
        let wanted = ((share * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return value_of(bucket).min(self.max_ns) as f64 / 1e3;
            }
        }
        0.0
    }

    #[expect(clippy::cast_precision_loss, reason = "a statistic")]
    pub(crate) fn mean_us(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum_ns as f64 / self.count as f64 / 1e3 }
    }

    #[expect(clippy::cast_precision_loss, reason = "a statistic")]
    pub(crate) fn max_us(&self) -> f64 {
        self.max_ns as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_into_a_bucket_within_one_percent_of_it() {
        let powers =
            (0..64).flat_map(|bit| [1u64 << bit, (1u64 << bit) - 1, (1u64 << bit) + (1u64 << bit) / 3]);
        for ns in powers.chain(0..5_000).chain([u64::MAX]) {
            let bucket = bucket_of(ns);
            assert!(bucket < BUCKETS + SPLIT, "{ns}");
            let value = value_of(bucket);
            assert!(value.abs_diff(ns) <= ns / 100, "{ns} became {value}");
        }
    }

    #[test]
    fn percentiles_follow_what_was_added() {
        let mut histogram = Histogram::new();
        assert!(histogram.percentile_us(0.5) == 0.0);
        histogram.add(Duration::from_micros(100), 990);
        histogram.add(Duration::from_millis(20), 10);
        let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 0.01, "{found}");
        close(histogram.percentile_us(0.5), 100.0);
        close(histogram.percentile_us(0.99), 100.0);
        close(histogram.percentile_us(0.999), 20_000.0);
        close(histogram.max_us(), 20_000.0);
        close(histogram.mean_us(), 299.0);
    }
}
