//! The rate of hits under a policy, beside that of Redis on the same trace.
//!
//! Keys are asked for by Zipf's law (the n-th most popular with a probability of 1/n), and one that is not there is set, as by
//! whoever uses a cache. Both servers get the same requests at the same time, because last uses have the resolution of a
//! second, and as much memory as the same number of keys takes.
//!
//! `HOLDFAST_TRACE_SECONDS` makes the trace longer; `-- --nocapture` shows the figures.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holdfast_server::engine::{EvictionOrder, EvictionPolicy, EvictionSettings};

use super::peer::{Redis, Reply};
use super::store::Store;

/// Keys that are asked for.
const KEYS: u32 = 100_000;
/// Keys that there is room for.
const ROOM: u32 = 10_000;
/// Requests sent to one server before the other gets them.
const BATCH_LEN: usize = 250;
/// Requests in a second.
const RATE: u64 = 20_000;
/// The least part of Redis's rate of hits that ours may have.
const RATE_MIN: f64 = 0.98;

/// Numbers of keys by Zipf's law, the same in each run.
struct Zipf {
    sums: Vec<f64>,
    state: u64,
}

impl Zipf {
    fn new() -> Zipf {
        let mut sum = 0.0;
        let sums = (1..=KEYS).map(|rank| {
            sum += 1.0 / f64::from(rank);
            sum
        });
        Zipf { sums: sums.collect(), state: 0x9e37_79b9_7f4a_7c15 }
    }

    fn next(&mut self) -> Vec<u8> {
        // xorshift64*
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let random = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        let total = self.sums.last().copied().unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let point = random as f64 / (1_u64 << 53) as f64 * total;
        let rank = self.sums.partition_point(|&sum| sum <= point);
        // Popular keys are no neighbours.
        format!("key:{:010}", (rank as u64).wrapping_mul(7_919) % u64::from(KEYS)).into_bytes()
    }
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

const VALUE: &[u8] = &[b'v'; 32];

/// One of the two servers.
trait Cache {
    /// Asks for keys; whether each was there.
    fn get(&mut self, keys: &[Vec<u8>]) -> Vec<bool>;
    fn set(&mut self, keys: &[Vec<u8>]);
    fn len(&mut self) -> i64;
}

impl Cache for Redis {
    fn get(&mut self, keys: &[Vec<u8>]) -> Vec<bool> {
        let replies = self.pipeline(keys.iter().map(|key| vec![&b"GET"[..], key]));
        replies.into_iter().map(|reply| matches!(reply, Reply::Bytes(_))).collect()
    }
    fn set(&mut self, keys: &[Vec<u8>]) {
        for reply in self.pipeline(keys.iter().map(|key| vec![&b"SET"[..], key, VALUE])) {
            assert!(matches!(reply, Reply::Status), "{reply:?}");
        }
    }
    fn len(&mut self) -> i64 {
        self.command(&[b"DBSIZE"]).int()
    }
}

impl Cache for Store {
    fn get(&mut self, keys: &[Vec<u8>]) -> Vec<bool> {
        self.now_ms = now_ms();
        keys.iter().map(|key| self.run_on(1, &[&b"GET"[..], key]).0 != b"$-1\r\n").collect()
    }
    fn set(&mut self, keys: &[Vec<u8>]) {
        self.now_ms = now_ms();
        for key in keys {
            assert_eq!(self.run_on(1, &[&b"SET"[..], key, VALUE]).0, b"+OK\r\n");
        }
        self.effects.clear();
    }
    fn len(&mut self) -> i64 {
        i64::try_from(self.engine.len()).unwrap()
    }
}

/// Counts hits of one server.
#[derive(Default)]
struct Hits {
    hits: u32,
    requests: u32,
}

impl Hits {
    fn ask(&mut self, cache: &mut impl Cache, keys: &[Vec<u8>], counts: bool) {
        let found = cache.get(keys);
        let missing: Vec<Vec<u8>> =
            keys.iter().zip(&found).filter(|(_, found)| !**found).map(|(key, _)| key.clone()).collect();
        cache.set(&missing);
        if counts {
            self.hits += u32::try_from(keys.len() - missing.len()).unwrap();
            self.requests += u32::try_from(keys.len()).unwrap();
        }
    }

    fn rate(&self) -> f64 {
        f64::from(self.hits) / f64::from(self.requests)
    }
}

/// Bytes that Redis uses.
fn used_memory(redis: &mut Redis) -> u64 {
    let info = String::from_utf8(redis.command(&[b"INFO", b"memory"]).bytes()).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    line.parse().unwrap()
}

fn set_limit(redis: &mut Redis, bytes: u64) {
    redis.command(&[b"CONFIG", b"SET", b"maxmemory", bytes.to_string().as_bytes()]);
}

fn check(policy: &str, order: EvictionOrder) {
    let dir = tempfile::tempdir().unwrap();
    let mut redis = Redis::start(dir.path(), &["--maxmemory-policy", policy]);
    let mut ours = Store::new();
    let policy_of_ours = Some(EvictionPolicy { volatile: false, order });
    ours.engine.set_eviction(EvictionSettings { policy: policy_of_ours, ..EvictionSettings::default() });
    // What so many keys take is the limit. They are none of the trace, so that the first ones to go are these.
    let empty = used_memory(&mut redis);
    let fill: Vec<Vec<u8>> = (0..ROOM).map(|number| format!("new:{number:010}").into_bytes()).collect();
    for keys in fill.chunks(BATCH_LEN) {
        redis.set(keys);
        ours.set(keys);
    }
    let limit = used_memory(&mut redis);
    let per_key = (limit - empty) / u64::from(ROOM);
    set_limit(&mut redis, limit);
    ours.settings.maxmemory = ours.engine.used_memory();

    let seconds = std::env::var("HOLDFAST_TRACE_SECONDS").map_or(8, |text| text.parse().expect("a number"));
    let mut zipf = Zipf::new();
    let (mut hits, mut hits_of_redis) = (Hits::default(), Hits::default());
    let start = Instant::now();
    let batches = seconds * RATE / BATCH_LEN as u64;
    for batch in 0..batches {
        // At a steady rate: the time between two uses of a key is what is judged.
        let due = start + Duration::from_secs(seconds).mul_f64(f64_of(batch) / f64_of(batches));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let keys: Vec<Vec<u8>> = (0..BATCH_LEN).map(|_| zipf.next()).collect();
        // Redis counts the buffers of its clients, which grow with the first requests: it is given room for as many keys.
        if batch == batches / 8 {
            let missing = u64::try_from(ours.len() - redis.len()).unwrap_or(0);
            set_limit(&mut redis, limit + missing * per_key);
        }
        // The first quarter only fills the caches.
        let counts = batch >= batches / 4;
        hits_of_redis.ask(&mut redis, &keys, counts);
        hits.ask(&mut ours, &keys, counts);
    }
    let (rate, rate_of_redis) = (hits.rate(), hits_of_redis.rate());
    let (len, len_of_redis) = (ours.len(), redis.len());
    println!(
        "{policy}: hits {rate:.4}, Redis {rate_of_redis:.4}, ratio {:.4}; keys at the end {len}, Redis {len_of_redis}",
        rate / rate_of_redis
    );
    assert!(
        len.abs_diff(len_of_redis) < u64::from(ROOM) / 20,
        "{len} and {len_of_redis} keys have the same room"
    );
    assert!(
        rate >= rate_of_redis * RATE_MIN,
        "{policy}: {rate:.4} of the requests hit, {rate_of_redis:.4} with Redis"
    );
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn f64_of(number: u64) -> f64 {
    number as f64
}

#[test]
fn allkeys_lru_hits_as_often_as_that_of_redis() {
    check("allkeys-lru", EvictionOrder::LeastRecent);
}

#[test]
fn allkeys_lfu_hits_as_often_as_that_of_redis() {
    check("allkeys-lfu", EvictionOrder::LeastFrequent);
}
