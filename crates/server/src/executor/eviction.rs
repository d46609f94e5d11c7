//! Room below `maxmemory`: what commands have not made for themselves.
//!
//! A command that may need memory evicts before it runs, for a bounded time. Here, once a turn, goes what is left: what such a
//! command took beyond the limit, what clients hold, what a lower limit asks for.

use std::time::Instant;

use super::{Executor, Phase};
use crate::engine::Room;

impl Executor {
    /// Evicts for as long as a turn may. Order matters: what is evicted is logged with the turn.
    pub(super) fn make_room(&mut self) {
        let room = self.try_to_make_room();
        self.is_evicting = room == Some(Room::Late);
        match room {
            Some(Room::Enough) => self.core.stats.note_room(),
            Some(Room::Late | Room::None) => self.core.stats.note_no_room(),
            None => {}
        }
    }

    /// None when this is no time to evict.
    fn try_to_make_room(&mut self) -> Option<Room> {
        let Self { core, engine, effects, .. } = self;
        let limit = match core.config.maxmemory {
            0 => return Some(Room::Enough),
            limit => limit.saturating_sub(core.clients.ledger().held_bytes()),
        };
        if engine.counted_memory() <= limit {
            return Some(Room::Enough);
        }
        // A pause promises that nothing is written, and what a stop has saved is all there is; what changes while a save is
        // behind makes it fall back further.
        if matches!(core.phase, Phase::Loading)
            || core.pause.is_some()
            || core.stopping
            || self.save_is_behind
        {
            return None;
        }
        let (started, time_max) = (Instant::now(), core.config.eviction_time_max());
        let is_late = || time_max.is_some_and(|max| started.elapsed() >= max);
        let room = engine.make_room(limit, core.clock.now_ms, effects, is_late);
        if core.notified() != 0 {
            let events = engine.take_key_events();
            core.announce_key_events(&events, None, &mut Vec::new());
        }
        Some(room)
    }
}
