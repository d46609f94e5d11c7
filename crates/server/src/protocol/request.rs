//! A request as it lies in memory: bytes with a `$` header in front of every argument, and where the arguments begin.

use std::ops::Index;

/// Arguments whose offsets the scratch list has room for between requests.
pub(super) const SCRATCH_ARGS_KEPT: usize = 256;
/// Offsets are kept in 32 bits; [`Starts::wraps`] counts what does not fit.
const OFFSET_BITS: u32 = 32;

/// Where the arguments of one request begin, relative to its bytes.
///
/// Four bytes for each argument, of which a sender needs at least six. A request above 4 GiB is possible (many values of
/// `proto-max-bulk-len` in one MSET); its offsets wrap, and `wraps` has an entry for each time that they did.
#[derive(Debug, Clone, Default)]
pub(super) struct Starts {
    /// The low 32 bits of each offset.
    low: Vec<u32>,
    /// For each multiple of 4 GiB, the index of the first argument that begins at or behind it.
    wraps: Vec<u32>,
}

impl Starts {
    pub(super) fn push(&mut self, start: usize) {
        match u32::try_from(start) {
            Ok(low) if self.wraps.is_empty() => self.push_low(low),
            _ => self.push_wrapped(start as u64),
        }
    }

    /// As `push`, for an offset that fits where none has wrapped.
    #[inline]
    pub(super) fn push_low(&mut self, low: u32) {
        if self.low.len() == self.low.capacity() {
            self.grow();
        }
        self.low.push(low);
    }

    /// Doubles short lists; a long one grows by a quarter, so that what it has room for stays near what was sent.
    #[cold]
    fn grow(&mut self) {
        let len = self.low.len();
        self.low.reserve_exact(if len < SCRATCH_ARGS_KEPT { len.max(4) } else { len / 4 });
    }

    #[cold]
    fn push_wrapped(&mut self, start: u64) {
        let index = u32::try_from(self.low.len()).expect("REQUEST_ARGS_MAX arguments at most");
        while (self.wraps.len() as u64) < start >> OFFSET_BITS {
            self.wraps.push(index);
        }
        self.push_low(u32::try_from(start & u64::from(u32::MAX)).expect("32 bits are left"));
    }

    #[inline]
    pub(super) fn reset(&mut self) {
        self.low.clear();
        if self.low.capacity() > SCRATCH_ARGS_KEPT || !self.wraps.is_empty() {
            *self = Starts::default();
        }
    }

    /// Whether no argument has been pushed.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.low.is_empty()
    }

    /// Whether offsets have passed 4 GiB: [`Self::push_low`] must not be used any more.
    #[inline]
    pub(super) fn has_wrapped(&self) -> bool {
        !self.wraps.is_empty()
    }

    #[inline]
    fn get(&self, index: usize) -> usize {
        let low = self.low[index];
        if self.wraps.is_empty() { low as usize } else { self.get_wrapped(low, index) }
    }

    #[cold]
    fn get_wrapped(&self, low: u32, index: usize) -> usize {
        let wraps = self.wraps.partition_point(|&first| first as usize <= index);
        wraps << OFFSET_BITS | low as usize
    }

    pub(super) fn memory_bytes(&self) -> usize {
        (self.low.capacity() + self.wraps.capacity()) * size_of::<u32>()
    }
}

/// One request: its arguments, the command name first; never empty.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Holds every argument with its `$` header in front.
    bytes: &'a [u8],
    starts: &'a Starts,
}

impl<'a> Request<'a> {
    /// The request whose arguments begin in `bytes` at `starts`.
    #[inline]
    pub(super) fn new(bytes: &'a [u8], starts: &'a Starts) -> Self {
        Request { bytes, starts }
    }

    /// Number of arguments, the command name included.
    pub(crate) fn len(&self) -> usize {
        self.starts.low.len()
    }

    /// Always false: the decoder skips empty requests.
    pub fn is_empty(&self) -> bool {
        self.starts.low.is_empty()
    }

    /// The argument at `index`; 0 is the command name. Panics when out of range, as indexing does.
    #[inline]
    pub fn arg(&self, index: usize) -> &'a [u8] {
        bulk_at(self.bytes, self.starts.get(index))
    }

    /// The argument at `index`, if there is one.
    #[inline]
    pub(crate) fn arg_at(&self, index: usize) -> Option<&'a [u8]> {
        (index < self.len()).then(|| self.arg(index))
    }

    /// The arguments from `first` on, in order.
    pub fn args_from(&self, first: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let request = *self;
        (first.min(self.len())..self.len()).map(move |index| request.arg(index))
    }

    /// No argument is longer than this, in bytes; known without a look at them.
    pub(crate) fn arg_len_bound(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of all arguments together.
    pub(crate) fn args_len(&self) -> usize {
        self.args_from(0).map(<[u8]>::len).sum()
    }

    /// A copy that owns its bytes.
    pub fn to_owned(&self) -> OwnedRequest {
        OwnedRequest { bytes: self.bytes.into(), starts: self.starts.clone() }
    }
}

impl Index<usize> for Request<'_> {
    type Output = [u8];
    fn index(&self, index: usize) -> &[u8] {
        self.arg(index)
    }
}

/// The bulk string that begins at `start`. Its header, which the decoder has accepted, is `$`, the length in its one
/// canonical form, and two bytes.
#[inline]
fn bulk_at(bytes: &[u8], start: usize) -> &[u8] {
    let digit = |byte: u8| usize::from(byte.wrapping_sub(b'0'));
    let (head, rest) = bytes.split_at(start);
    let len = match *head {
        [.., b'$', a, _, _] => digit(a),
        [.., b'$', a, b, _, _] => digit(a) * 10 + digit(b),
        [.., b'$', a, b, c, _, _] => digit(a) * 100 + digit(b) * 10 + digit(c),
        _ => long_len(head),
    };
    &rest[..len]
}

/// The length in the header at the end of `head`.
#[cold]
fn long_len(head: &[u8]) -> usize {
    let digits = head.iter().rev().skip(2).take_while(|&&byte| byte != b'$');
    let (len, _) = digits.fold((0usize, 1usize), |(len, unit), &byte| {
        let digit = usize::from(byte.wrapping_sub(b'0'));
        (len.wrapping_add(digit.wrapping_mul(unit)), unit.wrapping_mul(10))
    });
    len
}

/// A request that owns its bytes: what a transaction queues.
#[derive(Debug, Clone)]
pub struct OwnedRequest {
    bytes: Box<[u8]>,
    starts: Starts,
}

impl OwnedRequest {
    /// A request of these arguments, the command name first.
    pub fn from_args<A: AsRef<[u8]>>(args: &[A]) -> OwnedRequest {
        let mut bytes = Vec::new();
        let mut starts = Starts::default();
        for arg in args {
            push_bulk(&mut bytes, &mut starts, arg.as_ref());
        }
        OwnedRequest { bytes: bytes.into(), starts }
    }

    /// The same request, borrowed.
    pub fn as_request(&self) -> Request<'_> {
        Request { bytes: &self.bytes, starts: &self.starts }
    }

    /// Bytes held, for memory accounting.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes.len() + self.starts.memory_bytes() + size_of::<OwnedRequest>()
    }
}

/// Appends an argument in the form in which [`Request`] expects it.
pub(super) fn push_bulk(bytes: &mut Vec<u8>, starts: &mut Starts, arg: &[u8]) {
    bytes.push(b'$');
    bytes.extend_from_slice(itoa::Buffer::new().format(arg.len()).as_bytes());
    bytes.extend_from_slice(b"\r\n");
    starts.push(bytes.len());
    bytes.extend_from_slice(arg);
    bytes.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::OwnedRequest;

    #[test]
    fn owned_requests_have_the_same_arguments() {
        let args: [&[u8]; 4] = [b"MSET", b"", b"a\r\n$1\r\n", &[b'x'; 12_345]];
        let owned = OwnedRequest::from_args(&args);
        assert_eq!(owned.as_request().args_from(0).collect::<Vec<_>>(), args);
        let copy = owned.as_request().to_owned();
        assert_eq!(copy.as_request().args_from(0).collect::<Vec<_>>(), args);
        assert_eq!(copy.as_request().arg_at(4), None);
        let len: usize = args.iter().map(|arg| arg.len()).sum();
        assert_eq!(copy.as_request().args_len(), len);
        assert!((len..len + 200).contains(&copy.memory_bytes()));
    }
}
