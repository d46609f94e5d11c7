//! Records, buckets and segments: the memory of the table.

use crate::engine::value::Value;

/// Buckets of a segment.
pub(super) const BUCKETS: usize = 64;

/// A key with its value and what belongs to it: 56 bytes, and two allocations at most.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) key: Box<[u8]>,
    pub(crate) value: Value,
    pub(super) expires: i64,
    pub(super) hash: u32,
    /// Bit 31: the value was built by changes in place. The other bits: seconds of the last access, modulo 2^31.
    pub(super) state: u32,
}

const RAW: u32 = 1 << 31;

impl Record {
    /// Stands for "no expiry"; as an expiry it would be 292 million years ago.
    pub(super) const NO_EXPIRY: i64 = i64::MIN;

    pub(crate) fn expires_at_ms(&self) -> Option<i64> {
        (self.expires != Record::NO_EXPIRY).then_some(self.expires)
    }

    pub(super) fn set_expires_at_ms(&mut self, expires_at_ms: Option<i64>) {
        self.expires = match expires_at_ms {
            Some(at) => at.max(Record::NO_EXPIRY + 1),
            None => Record::NO_EXPIRY,
        };
    }

    /// The same record under another key.
    pub(crate) fn renamed(self, key: Box<[u8]>, hash: u32) -> Record {
        Record { key, hash, ..self }
    }

    /// Whether the value was built by changes in place, which OBJECT ENCODING shows.
    pub(crate) fn is_raw(&self) -> bool {
        self.state & RAW != 0
    }

    pub(crate) fn set_raw(&mut self, raw: bool) {
        self.state = if raw { self.state | RAW } else { self.state & !RAW };
    }

    /// Seconds (modulo 2^31) of the last access.
    pub(crate) fn accessed(&self) -> u32 {
        self.state & !RAW
    }

    pub(crate) fn set_accessed(&mut self, seconds: u32) {
        self.state = (self.state & RAW) | (seconds & !RAW);
    }

    /// Bytes of the record and its allocations, with the share of its bucket's slack.
    pub(crate) fn memory_bytes(&self) -> usize {
        // Lists grow by doubling and are three quarters full on average.
        const RECORD_COST: usize = size_of::<Record>() * 4 / 3;
        let value = match &self.value {
            Value::Int(_) => 0,
            Value::Bytes(bytes) => allocated(bytes.capacity()),
        };
        RECORD_COST + allocated(self.key.len()) + value
    }
}

/// What an allocation of `len` bytes takes: rounded up to 16, as size classes of allocators roughly do.
fn allocated(len: usize) -> usize {
    len.next_multiple_of(16)
}

#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) records: Vec<Record>,
    /// Epoch in which this bucket was last saved or made.
    pub(super) epoch: u32,
}

impl Bucket {
    /// Gives memory back when few of many records are left.
    pub(super) fn release_slack(&mut self) {
        let (len, capacity) = (self.records.len(), self.records.capacity());
        if len == 0 {
            self.records = Vec::new();
        } else if capacity >= 8 && len <= capacity / 4 {
            self.records.shrink_to(capacity / 2);
        }
    }
}

#[derive(Debug)]
pub(super) struct Segment {
    /// Bits of the hash that all its records share.
    pub(super) depth: u32,
    /// The smallest hash it may hold.
    pub(super) start: u32,
    pub(super) len: usize,
    pub(super) buckets: Box<[Bucket]>,
}

impl Segment {
    pub(super) const MEMORY_BYTES: usize = size_of::<Segment>() + BUCKETS * size_of::<Bucket>() + 32;

    pub(super) fn new(depth: u32, start: u32, epoch: u32) -> Box<Segment> {
        let buckets = (0..BUCKETS).map(|_| Bucket { records: Vec::new(), epoch }).collect();
        Box::new(Segment { depth, start, len: 0, buckets })
    }

    /// Keeps the records whose next bit is 0 and gives the others away. All buckets of both are of `epoch`.
    pub(super) fn split(&mut self, epoch: u32) -> Box<Segment> {
        self.depth += 1;
        let bit = 1 << (32 - self.depth);
        let mut upper = Segment::new(self.depth, self.start | bit, epoch);
        for (from, to) in self.buckets.iter_mut().zip(upper.buckets.iter_mut()) {
            to.records = from.records.extract_if(.., |record| record.hash & bit != 0).collect();
            from.release_slack();
            from.epoch = epoch;
            upper.len += to.records.len();
        }
        self.len -= upper.len;
        upper
    }

    /// Takes in the records of its other half. A bucket is as old as the older of the two it came from.
    pub(super) fn absorb(&mut self, other: Segment) {
        self.depth -= 1;
        self.start = self.start.min(other.start);
        self.len += other.len;
        for (to, mut from) in self.buckets.iter_mut().zip(other.buckets) {
            to.records.append(&mut from.records);
            to.epoch = to.epoch.min(from.epoch);
        }
    }
}

/// The bucket of a hash: its lowest six bits.
pub(super) fn bucket_of(hash: u32) -> usize {
    hash as usize & (BUCKETS - 1)
}
