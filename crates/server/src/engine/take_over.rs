//! An engine in the place of another: after a load, and after the data was read again from the files.

use super::watch::Presence;
use super::{Engine, Snapshot};

impl Engine {
    /// Takes the place of `old`, whose data it replaces: whoever watches, awaits or tracks keys goes on as if all of them had
    /// been written, counters and switches stay, and the old data are [`Garbage`](super::Garbage).
    ///
    /// A snapshot of the old data ends without its last entries. None of the new data has its cut: see [`Engine::cut`].
    pub(crate) fn take_over(&mut self, mut old: Engine, now_ms: i64) {
        debug_assert!(self.snapshot.is_none(), "nobody saves an engine that serves nobody");
        old.touch_watches_of_successor(self, now_ms);
        // Without `..`: whoever adds a field decides here whether it belongs to the data or to the process.
        let Engine {
            databases,
            hasher: _,
            limits: _,
            scratch: _,
            used: _,
            epoch,
            snapshot,
            garbage,
            watches,
            awaited,
            events,
            tracking,
            owed: _,
            ahead: _,
            replaying: _,
            active_expiry,
            skips_checksums,
            eviction: _,
            keeps_expired,
            keeps_access,
            expire_next: _,
            random: _,
            relocating: _,
            dirty: _,
            stats,
        } = old;
        self.epoch = self.epoch.max(epoch);
        self.garbage.append(garbage);
        let detached = snapshot.into_iter().flat_map(|Snapshot { detached }| detached);
        databases.into_iter().chain(detached).for_each(|table| self.garbage.add_table(table));
        self.watches = watches;
        self.awaited = awaited;
        for db in 0..self.databases() {
            self.note_replaced(db);
        }
        self.events = events;
        self.tracking = tracking;
        self.active_expiry = active_expiry;
        self.skips_checksums = skips_checksums;
        self.keeps_expired = keeps_expired;
        self.keeps_access = keeps_access;
        self.stats = stats;
    }

    /// Notes for the watched keys that the content of all databases is about to be replaced by that of `successor`.
    fn touch_watches_of_successor(&mut self, successor: &Engine, now_ms: i64) {
        let mut watches = std::mem::take(&mut self.watches);
        for db in 0..self.databases() {
            let presence = |engine: &Engine, key: &[u8]| match engine.databases.get(db as usize) {
                Some(table) => engine.presence(table, key, now_ms),
                None => Presence::Absent,
            };
            watches.replaced(db, |key| presence(self, key), |key| presence(successor, key));
        }
        self.watches = watches;
    }
}

#[cfg(test)]
mod tests {
    use super::super::object::Kind;
    use super::super::value::{Entry, Value};
    use super::super::{Access, Chunk, EngineOptions, HashSeed, Limits};
    use super::*;

    fn engine(seed: u64) -> Engine {
        Engine::new(EngineOptions { databases: 2, limits: Limits::default(), seed: HashSeed([seed, 1]) })
    }

    fn put(engine: &mut Engine, key: &[u8], expires_at_ms: Option<i64>) {
        let value = Value::Bytes(b"value".to_vec());
        let entry = Entry { db: 0, key: key.into(), value, expires_at_ms, access: Access::default() };
        engine.load(entry, 0).unwrap();
    }

    #[test]
    fn watched_keys_have_changed_where_there_is_data_and_nowhere_else() {
        let (mut old, mut new) = (engine(1), engine(2));
        put(&mut old, b"kept", None);
        put(&mut new, b"kept", None);
        put(&mut old, b"lost", None);
        put(&mut new, b"found", None);
        put(&mut old, b"expired", Some(5));
        let names: [&[u8]; 5] = [b"kept", b"lost", b"found", b"expired", b"nowhere"];
        let tokens = names.map(|key| old.watch(0, key, 10));
        new.take_over(old, 10);
        let changed = tokens.each_ref().map(|token| new.has_changed(token, 10));
        assert_eq!(changed, [true, true, true, false, false]);
        // Another watcher of the same key does not make the first believe that nothing has happened.
        let later = new.watch(0, b"kept", 10);
        assert!(new.has_changed(&tokens[0], 10) && !new.has_changed(&later, 10));
        tokens.into_iter().for_each(|token| new.unwatch(token));
        assert!(!new.has_changed(&later, 10), "the later watcher is still there");
        new.unwatch(later);
        assert!(new.watches.is_empty());
    }

    #[test]
    fn what_belongs_to_the_process_stays() {
        let (mut old, mut new) = (engine(1), engine(2));
        put(&mut old, b"old", None);
        put(&mut new, b"new", None);
        old.set_active_expiry(false);
        old.set_keeps_access(true);
        old.stats.commands = 7;
        for (db, key) in [(1, b"new"), (0, b"new"), (0, b"old")] {
            old.await_key(db, key, Kind::String);
        }
        new.take_over(old, 0);
        assert!(!new.active_expiry && new.keeps_access);
        assert_eq!((new.stats.commands, new.len()), (7, 1));
        assert_eq!(new.take_garbage().map(|garbage| garbage.objects()), Some(1), "the old data");
        let ready: Vec<_> = std::iter::from_fn(|| new.next_ready()).collect();
        assert_eq!(ready, [(0, Box::from(&b"new"[..]))], "those that the new data have");
    }

    #[test]
    fn a_cut_of_the_old_data_is_none_of_the_new_ones() {
        let (mut old, mut new) = (engine(1), engine(2));
        (0..2_000_u32).for_each(|number| put(&mut old, &number.to_le_bytes(), None));
        old.snapshot_begin(0);
        let cut = old.cut();
        assert!(cut.is_some());
        assert!(!old.snapshot_step(100, &mut Chunk::default()));
        new.take_over(old, 0);
        assert_eq!(new.cut(), None);
        new.snapshot_begin(0);
        assert!(new.cut().is_some() && new.cut() != cut, "numbers of cuts are used once");
    }
}
