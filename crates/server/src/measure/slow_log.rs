//! The slow log: the last commands that took long, with who sent them.

use std::collections::VecDeque;

use crate::protocol::Request;

/// Most arguments of an entry. Source: Redis 7.0, `SLOWLOG_ENTRY_MAX_ARGC`.
const ARGS_MAX: usize = 32;
/// Longest argument of an entry in bytes. Source: Redis 7.0, `SLOWLOG_ENTRY_MAX_STRING`.
const ARG_LEN_MAX: usize = 128;

/// A command that took long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlowEntry {
    /// Number, increasing over the life of the process.
    pub(crate) id: u64,
    /// When it ended, in seconds since the Unix epoch.
    pub(crate) unix_s: i64,
    /// How long it took.
    pub(crate) microseconds: u64,
    /// Its arguments, the name first; trimmed, secrets left out.
    pub(crate) args: Vec<Vec<u8>>,
    /// Address of the client.
    pub(crate) address: String,
    /// Name of the connection; empty when it has none.
    pub(crate) client_name: Vec<u8>,
}

/// The entries, the newest first.
#[derive(Debug, Default)]
pub(crate) struct SlowLog {
    entries: VecDeque<SlowEntry>,
    next_id: u64,
}

impl SlowLog {
    /// Adds an entry, gives it the next number, and drops the oldest beyond `len_max`.
    pub(crate) fn add(&mut self, entry: SlowEntry, len_max: usize) {
        let id = self.next_id;
        self.next_id += 1;
        self.entries.push_front(SlowEntry { id, ..entry });
        self.trim(len_max);
    }

    /// Drops the oldest entries beyond `len_max`.
    pub(crate) fn trim(&mut self, len_max: usize) {
        self.entries.truncate(len_max);
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries, the newest first.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &SlowEntry> {
        self.entries.iter()
    }

    /// Drops all entries; numbers go on.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

/// The arguments of a request as an entry holds them: no more than 32, none longer than 128 bytes, each cut said so.
/// `is_secret` names those that are not shown. Source: Redis 7.0, `slowlogCreateEntry`.
pub(crate) fn trimmed_args(request: &Request<'_>, is_secret: impl Fn(usize) -> bool) -> Vec<Vec<u8>> {
    let len = request.len();
    let shown = if len > ARGS_MAX { ARGS_MAX - 1 } else { len };
    let mut args: Vec<Vec<u8>> = (0..shown)
        .map(|index| {
            let arg = if is_secret(index) { b"(redacted)" } else { request.arg(index) };
            match arg.len().checked_sub(ARG_LEN_MAX) {
                None | Some(0) => arg.to_vec(),
                Some(more) => [&arg[..ARG_LEN_MAX], format!("... ({more} more bytes)").as_bytes()].concat(),
            }
        })
        .collect();
    if shown < len {
        args.push(format!("... ({} more arguments)", len - shown).into_bytes());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::OwnedRequest;

    fn check(args: &[&[u8]], expected: &[&[u8]]) {
        let request = OwnedRequest::from_args(args);
        assert_eq!(trimmed_args(&request.as_request(), |_| false), expected);
    }

    #[test]
    fn arguments_are_trimmed_as_by_redis() {
        check(&[b"get", b"k"], &[b"get", b"k"]);
        let (fits, long) = (vec![b'a'; 128], vec![b'a'; 129]);
        check(&[b"set", &fits, &long], &[b"set", &fits, &[&fits[..], b"... (1 more bytes)"].concat()]);
        let many = [&b"x"[..]; 33];
        check(&many[..32], &many[..32]);
        check(&many, &[&many[..31], &[&b"... (2 more arguments)"[..]]].concat());
    }

    #[test]
    fn the_newest_stay_and_numbers_go_on() {
        let entry = SlowEntry {
            id: 0,
            unix_s: 1,
            microseconds: 2,
            args: Vec::new(),
            address: String::new(),
            client_name: Vec::new(),
        };
        let ids = |log: &SlowLog| log.iter().map(|entry| entry.id).collect::<Vec<_>>();
        let mut log = SlowLog::default();
        (0..4).for_each(|_| log.add(entry.clone(), 3));
        assert_eq!(ids(&log), [3, 2, 1]);
        log.trim(1);
        assert_eq!((ids(&log), log.len()), (vec![3], 1));
        log.clear();
        log.add(entry, 3);
        assert_eq!(ids(&log), [4]);
    }
}
