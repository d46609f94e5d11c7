//! Which buckets a hash belongs to.

use std::ptr::NonNull;

use super::bucket::Bucket;

/// Bits of the hash that choose a part, once there are several.
const PART_BITS: u32 = 8;

/// Where the buckets of a segment are, beside the segment that owns them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pub(super) first: NonNull<Bucket>,
    pub(super) count: u32,
    pub(super) segment: u32,
}

/// Routes by the top bits of the hash.
///
/// A directory of many segments is megabytes long, and to double it in one go would be a pause. So it is divided once, when it
/// is small, and each part doubles by itself.
#[derive(Debug, Default)]
pub(super) struct Directory {
    /// None, one, or one for each value of the top [`PART_BITS`] bits.
    parts: Vec<Part>,
    part_bits: u32,
    /// Bytes of the parts and their routes.
    bytes: usize,
}

#[derive(Debug)]
struct Part {
    /// By the next `depth` bits.
    routes: Vec<Route>,
    depth: u32,
}

/// The top bits of a hash as a number.
#[inline]
fn top(hash: u64, bits: u32) -> usize {
    // A shift by 64 is not defined, hence the detour.
    usize::try_from((hash >> 1) >> (63 - bits)).expect("at most 30 bits are left")
}

impl Directory {
    /// A directory with one segment.
    pub(super) fn of(route: Route) -> Directory {
        let parts = vec![Part { routes: vec![route], depth: 0 }];
        Directory { part_bits: 0, bytes: size_of::<Part>() + size_of::<Route>(), parts }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    pub(super) fn route(&self, hash: u64) -> Option<&Route> {
        let part = self.parts.get(top(hash, self.part_bits))?;
        part.routes.get(top(hash << self.part_bits, part.depth))
    }

    /// Makes `route` that of all hashes that begin with the first `depth` bits of `start`.
    pub(super) fn set(&mut self, start: u64, depth: u32, route: Route) {
        let first = top(start, self.part_bits);
        if let Some(bits) = self.part_bits.checked_sub(depth) {
            for part in &mut self.parts[first..first + (1 << bits)] {
                part.routes.fill(route);
            }
        } else {
            let part = &mut self.parts[first];
            let count = 1usize << (self.part_bits + part.depth - depth);
            let first = top(start << self.part_bits, part.depth);
            part.routes[first..first + count].fill(route);
        }
    }

    /// Makes sure that hashes that begin with the first `depth` bits of `start` can be told apart by one bit more.
    pub(super) fn deepen(&mut self, start: u64, depth: u32) {
        let part = &self.parts[top(start, self.part_bits)];
        if depth < self.part_bits + part.depth {
            return;
        }
        if self.part_bits == 0 && part.depth == PART_BITS {
            self.divide();
        }
        let part = &mut self.parts[top(start, self.part_bits)];
        self.bytes -= part.routes.capacity() * size_of::<Route>();
        let mut routes = Vec::with_capacity(part.routes.len() * 2);
        part.routes.iter().for_each(|&route| routes.extend([route, route]));
        part.routes = routes;
        part.depth += 1;
        self.bytes += part.routes.capacity() * size_of::<Route>();
    }

    /// Makes a part of each route.
    fn divide(&mut self) {
        let routes = std::mem::take(&mut self.parts[0].routes);
        self.parts = routes.iter().map(|&route| Part { routes: vec![route], depth: 0 }).collect();
        self.part_bits = PART_BITS;
        self.bytes = self.parts.capacity() * size_of::<Part>() + routes.len() * size_of::<Route>();
    }

    /// Gives up bits in the part of `start` that tell nothing apart any more.
    pub(super) fn flatten(&mut self, start: u64) {
        let part = &mut self.parts[top(start, self.part_bits)];
        self.bytes -= part.routes.capacity() * size_of::<Route>();
        while part.depth > 0 && part.routes.chunks_exact(2).all(|pair| pair[0].segment == pair[1].segment) {
            part.routes = part.routes.iter().copied().step_by(2).collect();
            part.depth -= 1;
        }
        self.bytes += part.routes.capacity() * size_of::<Route>();
    }

    /// Every route with the first hash that it is for.
    #[cfg(test)]
    pub(super) fn routes(&self) -> impl Iterator<Item = (u64, &Route)> {
        (0u64..).zip(&self.parts).flat_map(move |(number, part)| {
            let start = if self.part_bits == 0 { 0 } else { number << (64 - self.part_bits) };
            let bits = self.part_bits + part.depth;
            (0u64..)
                .zip(&part.routes)
                .map(move |(at, route)| (start | at.checked_shl(64 - bits).unwrap_or(0), route))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(segment: usize) -> Route {
        Route { first: NonNull::dangling(), count: 1, segment: u32::try_from(segment).unwrap() }
    }

    /// Splits and merges on a directory and on a plain list of prefixes.
    #[derive(Debug)]
    struct Model {
        directory: Directory,
        /// Start and depth of each segment; none where it was merged.
        segments: Vec<Option<(u64, u32)>>,
    }

    impl Model {
        fn new() -> Model {
            Model { directory: Directory::of(route(0)), segments: vec![Some((0, 0))] }
        }

        fn split(&mut self, hash: u64) {
            let number = self.directory.route(hash).unwrap().segment as usize;
            let (start, depth) = self.segments[number].unwrap();
            if depth == 14 {
                return;
            }
            let upper = start | 1 << (63 - depth);
            self.directory.deepen(start, depth);
            self.segments[number] = Some((start, depth + 1));
            self.segments.push(Some((upper, depth + 1)));
            self.directory.set(start, depth + 1, route(number));
            self.directory.set(upper, depth + 1, route(self.segments.len() - 1));
        }

        fn merge(&mut self, hash: u64) {
            let number = self.directory.route(hash).unwrap().segment as usize;
            let (start, depth) = self.segments[number].unwrap();
            if depth == 0 {
                return;
            }
            let sibling = self.directory.route(start ^ 1 << (64 - depth)).unwrap().segment as usize;
            let (other, other_depth) = self.segments[sibling].unwrap();
            if other_depth == depth {
                self.segments[sibling] = None;
                self.segments[number] = Some((start.min(other), depth - 1));
                self.directory.set(start.min(other), depth - 1, route(number));
                self.directory.flatten(start);
            }
        }

        fn check(&self) {
            for (number, segment) in self.segments.iter().enumerate() {
                let Some((start, depth)) = *segment else { continue };
                for hash in [start, start | u64::MAX.checked_shr(depth).unwrap_or(0)] {
                    let found = self.directory.route(hash).unwrap().segment;
                    assert_eq!(found as usize, number, "{hash:x} belongs to {start:x} by {depth} bits");
                }
            }
            let parts = &self.directory.parts;
            let routes: usize = parts.iter().map(|part| part.routes.capacity()).sum();
            let bytes = parts.capacity() * size_of::<Part>() + routes * size_of::<Route>();
            assert_eq!(self.directory.memory_bytes(), bytes);
            for part in parts {
                assert_eq!(part.routes.len(), 1 << part.depth);
            }
            let routes: usize = parts.iter().map(|part| part.routes.len()).sum();
            assert_eq!(self.directory.routes().count(), routes);
        }
    }

    proptest! {
        #[test]
        fn hashes_lead_to_their_segments(
            steps in prop::collection::vec((any::<u64>(), 0..8_u32, prop::bool::weighted(0.8)), 1..600)
        ) {
            let mut model = Model::new();
            for (random, narrow, split) in steps {
                // Near zero the directory becomes deep.
                let hash = random >> (narrow * 2);
                if split { model.split(hash) } else { model.merge(hash) }
            }
            model.check();
        }
    }

    #[test]
    fn a_divided_directory_becomes_flat_again() {
        let mut model = Model::new();
        for depth in 0..12 {
            for number in 0..1_u64 << depth {
                model.split(number.checked_shl(64 - depth).unwrap_or(0));
            }
        }
        model.check();
        assert_eq!((model.directory.parts.len(), model.directory.routes().count()), (256, 4096));
        let longest = model.directory.parts.iter().map(|part| part.routes.len()).max();
        assert_eq!(longest, Some(16), "no part is doubled that is long");
        for depth in (1..=12).rev() {
            for number in 0..1_u64 << (depth - 1) {
                model.merge(number.checked_shl(65 - depth).unwrap_or(0));
            }
        }
        model.check();
        assert_eq!(model.segments.iter().flatten().count(), 1);
        assert!(model.directory.parts.iter().all(|part| part.depth == 0));
    }
}
