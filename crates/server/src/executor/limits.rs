//! Closes clients for what they hold, or for what they do not do. The ledger knows what clients hold; what a client may leave
//! unread is decided in the outbox.

use std::time::{Duration, Instant};

use super::Executor;
use super::client::Client;
use crate::config::Config;

/// Strangers closed in one turn because they did not authenticate. Those that connected together are late together, and closing
/// one takes 10 µs: thousands at once would be a pause for all others.
const OVERDUE_CLOSED_MAX: usize = 32;

/// Most room that all clients together keep for long requests to come, in bytes: a few keep what they need, and many cost
/// little.
const KEPT_ROOM_MAX: u64 = 4 << 20;
/// The part of what all clients may hold that it may be.
const KEPT_ROOM_OF_CLIENTS: u64 = 8;
/// The part of `maxmemory` that it may be: it takes room from the data.
const KEPT_ROOM_OF_DATA: u64 = 64;

/// What all clients together may hold, in bytes; 0: no limit.
pub(super) fn client_memory_max(config: &Config) -> u64 {
    config.maxmemory_clients.bytes(config.maxmemory, crate::memory_limit::available)
}

/// What all clients together may keep of room for long requests to come, in bytes. Limits of 0 are none.
pub(super) fn kept_room_max(client_memory_max: u64, maxmemory: u64) -> usize {
    let share = |limit: u64, part: u64| if limit == 0 { u64::MAX } else { limit / part };
    let max = KEPT_ROOM_MAX
        .min(share(client_memory_max, KEPT_ROOM_OF_CLIENTS))
        .min(share(maxmemory, KEPT_ROOM_OF_DATA));
    usize::try_from(max).unwrap_or(usize::MAX)
}

/// Notes since when a client is a stranger, and since when its request is in progress, after `consumed` bytes of its input
/// were executed. One that a pause holds back has all its time when that ends, at `pause_end`.
pub(super) fn note_stranger(client: &mut Client, consumed: usize, now: Instant, pause_end: Option<Instant>) {
    if client.session.is_authenticated() {
        (client.stranger_since, client.partial_since) = (None, None);
        return;
    }
    if client.postponed {
        (client.stranger_since, client.partial_since) = (pause_end.max(client.stranger_since), None);
        return;
    }
    client.stranger_since.get_or_insert(now);
    if client.connection.input.is_empty() {
        client.partial_since = None;
    } else if consumed > 0 || client.partial_since.is_none() {
        client.partial_since = Some(now);
    }
}

/// Whether a stranger has taken too long to finish its request.
pub(super) fn is_too_slow(client: &Client, limit: Duration, now: Instant) -> bool {
    let since = client.partial_since.filter(|_| !limit.is_zero());
    since.is_some_and(|since| now.saturating_duration_since(since) >= limit)
}

impl Executor {
    /// Closes clients until the others fit: of strangers the oldest, of all the largest.
    ///
    /// Order matters: it follows the sending of a turn, so that what a client holds is what it has not read; and the reading,
    /// so that a request that has no room is not executed. No client is out of its slot then.
    pub(super) fn close_those_without_room(&mut self) {
        let strangers_max = self.core.config.maxmemory_unauthenticated;
        while let Some(slot) = self.core.clients.ledger().stranger_to_close(strangers_max)
            && let Some(client) = self.core.clients.take(slot)
        {
            self.core.stats.strangers_closed += 1;
            tracing::debug!(client = client.session.id(), "client closed: too many have not authenticated");
            self.forget_client(slot, client);
        }
        let limit = self.core.client_memory_max;
        if self.core.clients.ledger().client_to_evict(limit).is_some() {
            // Nobody is closed for room that is only kept.
            self.core.clients.give_up_room();
        }
        while let Some(slot) = self.core.clients.ledger().client_to_evict(limit)
            && let Some(client) = self.core.clients.take(slot)
        {
            self.core.stats.evicted_clients += 1;
            tracing::warn!(
                client = client.session.id(),
                address = client.connection.peer_name(),
                held = client.memory_bytes(),
                all = self.core.clients.ledger().total_bytes(),
                limit,
                "client closed: all clients exceed maxmemory-clients, and it is one of the largest"
            );
            self.forget_client(slot, client);
        }
    }

    /// Whether there are strangers whose time to authenticate is over.
    pub(super) fn has_overdue_strangers(&self, now: Instant) -> bool {
        self.core.clients.ledger().overdue_stranger(self.core.config.authentication_timeout, now).is_some()
    }

    /// Closes strangers whose time to authenticate is over, some in each turn.
    pub(super) fn close_overdue_strangers(&mut self, now: Instant) {
        let limit = self.core.config.authentication_timeout;
        for _ in 0..OVERDUE_CLOSED_MAX {
            let Some(slot) = self.core.clients.ledger().overdue_stranger(limit, now) else { return };
            let Some(client) = self.core.clients.get(slot) else { return };
            let has_time = |since: Instant| now.saturating_duration_since(since) < limit;
            if client.stranger_since.is_none_or(has_time) {
                // It has been served in this turn, and its answer is not sent yet.
                self.core.clients.settle(slot);
                continue;
            }
            let Some(client) = self.core.clients.take(slot) else { return };
            self.core.stats.strangers_closed += 1;
            tracing::debug!(client = client.session.id(), "client closed: it has not authenticated in time");
            self.forget_client(slot, client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::kept_room_max;

    #[test]
    fn little_room_is_kept_where_little_may_be_held() {
        let check = |clients: u64, data: u64, expected: usize| {
            assert_eq!(kept_room_max(clients, data), expected, "{clients} for clients, {data} in all");
        };
        check(0, 0, 4 << 20);
        check(1 << 30, 10 << 30, 4 << 20);
        check(16 << 20, 0, 2 << 20);
        check(0, 64 << 20, 1 << 20);
        check(16 << 20, 1 << 20, 16 << 10);
    }
}
