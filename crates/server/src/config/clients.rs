//! Directives about what clients may hold and get: limits of their output, and which keyspace events are published.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::units::parse_memory;
use crate::engine::events::class;
use crate::protocol::parse_i64;

/// `maxmemory-clients`: how much memory all clients together may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientMemory {
    /// So many bytes; 0: no limit.
    Bytes(u64),
    /// A share of `maxmemory`, or of the memory that the process may use where there is no `maxmemory`.
    Percent(u64),
}

impl ClientMemory {
    /// A tenth. Redis has no limit; its documentation recommends 5 %.
    pub(crate) const DEFAULT: ClientMemory = ClientMemory::Percent(10);
    /// Least memory that the default allows, in bytes: where `maxmemory` is small, a few ordinary clients still fit.
    const DEFAULT_MIN: u64 = 16 << 20;

    /// Reads a number of bytes or a percentage. Errors in Redis 7.0's words.
    pub(super) fn parse(text: &str) -> Result<ClientMemory, String> {
        let invalid = || "argument must be a memory or percent value".to_owned();
        let Some(digits) = text.strip_suffix('%') else {
            return parse_memory(text).map(ClientMemory::Bytes).ok_or_else(invalid);
        };
        let percent = parse_i64(digits.as_bytes()).and_then(|percent| u64::try_from(percent).ok());
        match percent.ok_or_else(invalid)? {
            percent @ 0..=100 => Ok(ClientMemory::Percent(percent)),
            _ => Err("percentage argument must be less or equal to 100".to_owned()),
        }
    }

    /// The limit in bytes; 0: none. `available` is asked only where there is no `maxmemory`.
    pub(crate) fn bytes(self, maxmemory: u64, available: impl FnOnce() -> u64) -> u64 {
        let percent = match self {
            ClientMemory::Bytes(bytes) => return bytes,
            ClientMemory::Percent(percent) => percent,
        };
        let whole = if maxmemory > 0 { maxmemory } else { available() };
        let share = whole / 100 * percent + whole % 100 * percent / 100;
        if whole > 0 && self == Self::DEFAULT { share.max(Self::DEFAULT_MIN) } else { share }
    }
}

impl fmt::Display for ClientMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientMemory::Bytes(bytes) => write!(formatter, "{bytes}"),
            ClientMemory::Percent(percent) => write!(formatter, "{percent}%"),
        }
    }
}

/// How much output of a client may wait before the client is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputLimit {
    /// Beyond so many bytes the client is closed at once; 0: no limit.
    pub(crate) hard: u64,
    /// Beyond so many bytes for [`OutputLimit::soft_period`] it is closed, too; 0: no limit.
    pub soft: u64,
    /// How long the soft limit may be exceeded.
    pub(crate) soft_period: Duration,
}

impl OutputLimit {
    /// Whether it limits nothing.
    pub(crate) fn is_none(self) -> bool {
        self.hard == 0 && self.soft == 0
    }
}

/// `client-output-buffer-limit`: a limit for each class of clients. Defaults are Redis 7.0's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputLimits {
    /// Clients that only get replies.
    pub(crate) normal: OutputLimit,
    /// Replicas, of which there are none in this version.
    pub(crate) replica: OutputLimit,
    /// Subscribers.
    pub pubsub: OutputLimit,
}

impl Default for OutputLimits {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        let limit =
            |hard, soft, seconds| OutputLimit { hard, soft, soft_period: Duration::from_secs(seconds) };
        Self {
            normal: limit(0, 0, 0),
            replica: limit(256 * MIB, 64 * MIB, 60),
            pubsub: limit(32 * MIB, 8 * MIB, 60),
        }
    }
}

impl OutputLimits {
    /// Changes the classes that are named: groups of class, hard limit, soft limit, seconds.
    /// # Errors
    /// A sentence in Redis's words; nothing has changed then.
    pub(super) fn set(&mut self, words: &[&str]) -> Result<(), String> {
        if let [word] = words
            && word.is_empty()
        {
            return Ok(());
        }
        let (groups, rest) = words.as_chunks::<4>();
        if !rest.is_empty() {
            return Err("Wrong number of arguments in buffer limit configuration.".to_owned());
        }
        let mut changed = *self;
        for [class, hard, soft, seconds] in groups {
            let target = match class.to_ascii_lowercase().as_str() {
                "normal" => &mut changed.normal,
                "replica" | "slave" => &mut changed.replica,
                "pubsub" => &mut changed.pubsub,
                _ => return Err("Invalid client class specified in buffer limit configuration.".to_owned()),
            };
            let seconds = parse_i64(seconds.as_bytes())
                .and_then(|number| i32::try_from(number).ok())
                .and_then(|number| u64::try_from(number).ok());
            let (Some(hard), Some(soft), Some(seconds)) = (parse_memory(hard), parse_memory(soft), seconds)
            else {
                return Err(
                    "Error in hard, soft or soft_seconds setting in buffer limit configuration.".to_owned()
                );
            };
            *target = OutputLimit { hard, soft, soft_period: Duration::from_secs(seconds) };
        }
        *self = changed;
        Ok(())
    }

    /// One line of arguments for each class, in Redis's order.
    pub(super) fn lines(&self) -> Vec<String> {
        [("normal", &self.normal), ("slave", &self.replica), ("pubsub", &self.pubsub)]
            .into_iter()
            .map(|(class, OutputLimit { hard, soft, soft_period })| {
                format!("{class} {hard} {soft} {}", soft_period.as_secs())
            })
            .collect()
    }
}

/// Letters of `notify-keyspace-events` in the order in which Redis 7.0 prints them.
const CLASSES: &[(char, u32)] = &[
    ('g', class::GENERIC),
    ('$', class::STRING),
    ('l', class::LIST),
    ('s', class::SET),
    ('h', class::HASH),
    ('z', class::ZSET),
    ('x', class::EXPIRED),
    ('e', class::EVICTED),
    ('t', class::STREAM),
    ('d', class::MODULE),
    ('n', class::NEW),
];
const KINDS: &[(char, u32)] = &[('K', class::KEYSPACE), ('E', class::KEYEVENT), ('m', class::KEY_MISS)];

/// Reads `notify-keyspace-events`: bits of [`class`].
pub(super) fn parse_notified(letters: &str) -> Option<u32> {
    letters.chars().try_fold(0, |flags, letter| {
        if letter == 'A' {
            return Some(flags | class::ALL);
        }
        let known = CLASSES.iter().chain(KINDS).find(|(known, _)| *known == letter);
        known.map(|(_, bit)| flags | bit)
    })
}

/// Prints `notify-keyspace-events` as Redis 7.0 does (which leaves `n` out beside `A`).
pub(super) fn render_notified(flags: u32) -> String {
    let mut text = String::new();
    if flags & class::ALL == class::ALL {
        text.push('A');
    } else {
        text.extend(CLASSES.iter().filter(|(_, bit)| flags & bit != 0).map(|(letter, _)| letter));
    }
    for (letter, bit) in KINDS {
        if flags & bit != 0 {
            // Writing to a string cannot fail.
            let _ = text.write_char(*letter);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notified_events_are_read_and_printed_as_by_redis() {
        for (letters, expected) in [
            ("", Some("")),
            ("AKE", Some("AKE")),
            ("KEA", Some("AKE")),
            ("KEg$lshzxetdn", Some("AKE")),
            ("Kx", Some("xK")),
            ("nmK", Some("nKm")),
            ("An", Some("A")),
            ("Elg", Some("glE")),
            ("Q", None),
        ] {
            let printed = parse_notified(letters).map(render_notified);
            assert_eq!(printed.as_deref(), expected, "{letters:?}");
        }
    }

    #[test]
    fn memory_of_clients_is_a_number_or_a_share() {
        fn check(text: &str, maxmemory: u64, expected: Result<u64, &str>) {
            let limit = ClientMemory::parse(text);
            let bytes =
                limit.as_ref().map(|limit| limit.bytes(maxmemory, || 1 << 30)).map_err(String::as_str);
            assert_eq!(bytes, expected, "{text} of {maxmemory}");
            if let Ok(limit) = limit {
                assert_eq!(ClientMemory::parse(&limit.to_string()), Ok(limit));
            }
        }
        check("0", 1 << 30, Ok(0));
        check("3mb", 0, Ok(3 << 20));
        check("7%", 6 << 20, Ok((6 << 20) * 7 / 100));
        check("0%", 1 << 30, Ok(0));
        check("100%", u64::MAX, Ok(u64::MAX));
        check("5%", 0, Ok((1 << 30) * 5 / 100));
        check("10%", 1 << 40, Ok((1 << 40) / 10));
        check("10%", 1 << 20, Ok(16 << 20));
        assert_eq!(ClientMemory::DEFAULT.bytes(0, || 0), 0, "nobody knows");
        for text in ["", "%", "x%", "5 %", "-1%", "1tb", "-1"] {
            check(text, 0, Err("argument must be a memory or percent value"));
        }
        check("101%", 0, Err("percentage argument must be less or equal to 100"));
    }

    #[test]
    fn output_limits_are_read_and_printed_as_by_redis() {
        fn check(words: &str, expected: Result<&str, &str>) {
            let mut limits = OutputLimits::default();
            let words: Vec<&str> = words.split(' ').collect();
            let printed = limits.set(&words).map(|()| limits.lines().join(" "));
            assert_eq!(printed.as_deref().map_err(String::as_str), expected);
        }
        check("", Ok("normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"));
        check(
            "normal 1mb 2 3 pubsub 4k 5 6",
            Ok("normal 1048576 2 3 slave 268435456 67108864 60 pubsub 4000 5 6"),
        );
        check("normal 1 2", Err("Wrong number of arguments in buffer limit configuration."));
        check("master 1 2 3", Err("Invalid client class specified in buffer limit configuration."));
        for words in ["normal 1 2 x", "replica 1 2 -3"] {
            check(words, Err("Error in hard, soft or soft_seconds setting in buffer limit configuration."));
        }
    }
}
