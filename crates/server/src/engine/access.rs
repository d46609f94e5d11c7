//! When, or how often, a key was used: 24 bits in the header of its entry, as Redis has them.
//!
//! ```text
//!  under an LFU policy:  minutes of the last access 16 │ logarithmic counter 8
//!  under all others:     seconds of the last access 24
//! ```
//!
//! Both wrap. The bits do not say which form they have: after a change of the policy they are read in the other one until keys
//! are used again, as in Redis. Source: Redis 7.0, `evict.c`, `LRU_CLOCK`, `LFULogIncr`, `LFUDecrAndReturn`.

/// Bits that an entry has for this.
pub(crate) const ACCESS_MASK: u32 = 0x00ff_ffff;
const MINUTES_SHIFT: u32 = 8;
const COUNTER_MAX: u8 = u8::MAX;
/// Counter of a new key: high enough not to be evicted before it had a chance. Source: `LFU_INIT_VAL`.
const COUNTER_NEW: u8 = 5;

/// What files and RESTORE tell of the use of a key; which of the two counts is up to the policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Access {
    /// Seconds since the last access.
    pub idle_seconds: Option<u32>,
    /// Counter of accesses, logarithmic.
    pub frequency: Option<u8>,
}

/// How accesses are kept and read at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccessMeter {
    /// Accesses are counted, not dated.
    counts: bool,
    /// The higher, the more accesses a counter takes to rise (`lfu-log-factor`).
    log_factor: u32,
    /// Minutes after which a counter falls by one; 0 is never (`lfu-decay-time`).
    decay_minutes: u32,
    /// Time of the moment in seconds, modulo 2^24.
    seconds: u32,
    /// Time of the moment in minutes, modulo 2^16.
    minutes: u16,
}

/// The seconds of a moment as entries keep them. Only differences matter, so the upper bits may go.
#[inline]
pub(super) fn seconds_of(now_ms: i64) -> u32 {
    u32::try_from((now_ms / 1000) & i64::from(ACCESS_MASK)).unwrap_or(0)
}

impl AccessMeter {
    pub(super) fn new(counts: bool, log_factor: u32, decay_minutes: u32, now_ms: i64) -> AccessMeter {
        let minutes = (now_ms / 60_000) & i64::from(u16::MAX);
        AccessMeter {
            counts,
            log_factor,
            decay_minutes,
            seconds: seconds_of(now_ms),
            minutes: u16::try_from(minutes).unwrap_or(0),
        }
    }

    /// Whether accesses are counted, not dated.
    pub(crate) fn counts(self) -> bool {
        self.counts
    }

    fn counted(self, counter: u8) -> u32 {
        u32::from(self.minutes) << MINUTES_SHIFT | u32::from(counter)
    }

    /// The bits of a key that is made.
    pub(crate) fn new_key(self) -> u32 {
        if self.counts { self.counted(COUNTER_NEW) } else { self.seconds }
    }

    /// The bits after an access. The counter rises with a probability that falls as it rises.
    pub(super) fn after_access(self, bits: u32, random: u64) -> u32 {
        if !self.counts {
            return self.seconds;
        }
        let counter = self.frequency(bits);
        let steps = u64::from(counter.saturating_sub(COUNTER_NEW)) * u64::from(self.log_factor) + 1;
        let rises = counter < COUNTER_MAX && random >> 32 < (1 << 32) / steps;
        self.counted(counter + u8::from(rises))
    }

    /// Seconds since the last access; 0 when it was after the moment.
    pub(crate) fn idle_seconds(self, bits: u32) -> u32 {
        let idle = self.seconds.wrapping_sub(bits) & ACCESS_MASK;
        // A snapshot measures by its cut, and keys are used after it.
        if ACCESS_MASK - idle < FUTURE_SECONDS_MAX { 0 } else { idle }
    }

    /// The counter of accesses: it falls while the key is not used.
    pub(crate) fn frequency(self, bits: u32) -> u8 {
        let [counter, low, high, _] = bits.to_le_bytes();
        if self.decay_minutes == 0 {
            return counter;
        }
        let elapsed = self.minutes.wrapping_sub(u16::from_le_bytes([low, high]));
        // Minutes of a future that is near count as now, as above.
        let elapsed = if elapsed > u16::MAX - FUTURE_MINUTES_MAX { 0 } else { u32::from(elapsed) };
        counter.saturating_sub(u8::try_from(elapsed / self.decay_minutes).unwrap_or(COUNTER_MAX))
    }

    /// How much a key asks to be evicted: the higher, the more.
    pub(super) fn score(self, bits: u32) -> u32 {
        if self.counts { u32::from(COUNTER_MAX - self.frequency(bits)) } else { self.idle_seconds(bits) }
    }

    /// The bits of a key of which this is told; none when that is nothing that counts.
    pub(super) fn restored(self, access: Access) -> Option<u32> {
        if self.counts {
            access.frequency.map(|counter| self.counted(counter))
        } else {
            // Longer than the bits can tell is as long as they can.
            let idle = access.idle_seconds?.min(ACCESS_MASK - FUTURE_SECONDS_MAX);
            Some(self.seconds.wrapping_sub(idle) & ACCESS_MASK)
        }
    }
}

/// A last access that lies up to so far in the future is one that came after the moment of the meter: a save takes less.
const FUTURE_SECONDS_MAX: u32 = 24 * 3600;
const FUTURE_MINUTES_MAX: u16 = 24 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn meter(counts: bool, after_ms: i64) -> AccessMeter {
        AccessMeter::new(counts, 10, 1, NOW_MS + after_ms)
    }

    #[test]
    fn idle_times_survive_the_wrap_of_their_bits() {
        // 2^24 seconds are 194 days.
        for start_ms in [0, NOW_MS, (1 << 24) * 1000 - 5000] {
            let bits = AccessMeter::new(false, 10, 1, start_ms).new_key();
            for idle in [0, 1, 10, 100_000, 16_000_000] {
                let later = AccessMeter::new(false, 10, 1, start_ms + i64::from(idle) * 1000);
                assert_eq!(later.idle_seconds(bits), idle);
                assert_eq!(later.score(bits), idle);
            }
        }
        assert_eq!(meter(false, 0).idle_seconds(meter(false, 5000).new_key()), 0, "used after the moment");
    }

    #[test]
    fn a_counter_rises_ever_more_slowly_and_falls_with_time() {
        let now = meter(true, 0);
        let mut random = crate::engine::Random::new(1);
        let mut counter_after = |accesses: u32| {
            let bits = (0..accesses).fold(now.new_key(), |bits, _| now.after_access(bits, random.next()));
            now.frequency(bits)
        };
        assert_eq!(counter_after(0), 5);
        // Redis's own table for a factor of 10: 100 hits 10, 1,000 hits 18, 100,000 hits 142.
        assert!((7..=14).contains(&counter_after(100)));
        assert!((15..=24).contains(&counter_after(1_000)));
        assert!((130..=155).contains(&counter_after(100_000)));
        assert_eq!(counter_after(3_000_000), 255);

        let bits = now.after_access(now.counted(100), u64::MAX);
        assert_eq!(now.frequency(bits), 100, "an unlucky access changes nothing");
        assert_eq!(meter(true, 30 * 60_000).frequency(bits), 70);
        assert_eq!(meter(true, 101 * 60_000).frequency(bits), 0);
        assert_eq!(meter(true, -60_000).frequency(bits), 100, "counted after the moment");
        let never = AccessMeter { decay_minutes: 0, ..meter(true, 101 * 60_000) };
        assert_eq!(never.frequency(bits), 100);
        let always = AccessMeter { log_factor: 0, ..now };
        assert_eq!(always.frequency(always.after_access(bits, u64::MAX)), 101);
    }

    #[test]
    fn what_is_told_of_a_key_counts_under_the_policy_it_is_for() {
        let access = Access { idle_seconds: Some(1000), frequency: Some(77) };
        for counts in [false, true] {
            let meter = meter(counts, 0);
            let bits = meter.restored(access).unwrap();
            assert!(if counts { meter.frequency(bits) == 77 } else { meter.idle_seconds(bits) == 1000 });
            assert_eq!(meter.restored(Access::default()), None);
        }
        let longest = Access { idle_seconds: Some(u32::MAX), frequency: None };
        assert!(meter(false, 0).score(meter(false, 0).restored(longest).unwrap()) > 16_000_000);
    }
}
