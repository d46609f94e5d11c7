//! Counters of the engine, as INFO shows them.

/// Counters since the start, or since CONFIG RESETSTAT.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests, refused ones included (`total_commands_processed`).
    pub commands: u64,
    /// Reads of a key that was there.
    pub(crate) keyspace_hits: u64,
    /// Reads of a key that was not there.
    pub(crate) keyspace_misses: u64,
    /// Keys removed because their time had come.
    pub expired_keys: u64,
    /// Keys removed because there was no room.
    pub evicted_keys: u64,
    /// Values of RESTORE that were checked in depth.
    pub(crate) payloads_checked: u64,
    /// Error replies.
    pub(crate) error_replies: u64,
    /// Error replies by their code (`ERR`, `WRONGTYPE` …), at most [`Stats::ERROR_CODES_MAX`] of them.
    pub(crate) errors: Vec<(String, u64)>,
}

/// Where the end of a code is looked for. Source: Redis 7.0, `afterErrorReply`.
const CODE_LEN_MAX: usize = 32;

impl Stats {
    /// Codes counted apart; later ones are only part of the sum, so that nobody grows the list for ever.
    pub(crate) const ERROR_CODES_MAX: usize = 64;

    /// Counts an error reply by the first word of its text.
    pub(crate) fn record_error(&mut self, text: &[u8]) {
        self.error_replies += 1;
        // A text without a word in front has the general code.
        let head = &text[..text.len().min(CODE_LEN_MAX)];
        let code = head.iter().position(|&byte| byte == b' ').map_or(&b"ERR"[..], |len| &head[..len]);
        if let Some((_, count)) = self.errors.iter_mut().find(|(known, _)| known.as_bytes() == code) {
            *count += 1;
        } else if self.errors.len() < Stats::ERROR_CODES_MAX {
            self.errors.push((String::from_utf8_lossy(code).into_owned(), 1));
        }
    }
}
