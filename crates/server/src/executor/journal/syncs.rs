//! What is appended to the log, and when it is synced: before the replies of a turn, or on a thread of its own.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use super::{Journal, JournalError, JournalEvent, JournalEvents};
use crate::engine::effects::EffectBuffer;
use crate::persistence::policy::{SyncMode, SyncStep};
use crate::storage::FileSync;

/// The thread that syncs in the background, for the life of the executor.
pub(super) struct SyncThread {
    requests: Sender<(Arc<dyn FileSync>, u64, u64)>,
}

impl SyncThread {
    pub(super) fn start(events: JournalEvents) -> io::Result<Self> {
        let (requests, received) = channel::<(Arc<dyn FileSync>, u64, u64)>();
        std::thread::Builder::new().name("log-sync".to_owned()).spawn(move || {
            while let Ok((syncer, segment, offset)) = received.recv() {
                let started = Instant::now();
                let result = syncer.sync();
                if !events(JournalEvent::LogSynced { segment, offset, took: started.elapsed(), result }) {
                    return;
                }
            }
        })?;
        Ok(Self { requests })
    }
}

impl Journal {
    /// Appends the effects of a turn, and syncs when the strategy (or `point`) asks for it before the replies leave.
    ///
    /// # Errors
    /// [`JournalError`]: no reply of this turn may leave, and none after it.
    pub fn commit(
        &mut self,
        effects: &mut EffectBuffer,
        now_ms: u64,
        point: bool,
    ) -> Result<(), JournalError> {
        let now = self.now();
        let Some(log) = &mut self.log else {
            if !effects.is_empty() {
                self.unsaved.appended(now);
                if let Some(begun) = &mut self.begun {
                    begun.append(effects.bytes(), now_ms);
                }
            }
            self.offset += effects.len() as u64;
            effects.clear();
            return Ok(());
        };
        if !effects.is_empty() {
            if !self.write_delay.is_zero() {
                std::thread::sleep(self.write_delay);
            }
            log.writer().append(effects.bytes(), now_ms)?;
            effects.clear();
            self.facts.frames += 1;
            self.schedule.appended(now);
        }
        let unsynced = log.offset() > log.durable_offset();
        if unsynced && (point || self.mode == SyncMode::Always) {
            self.sync()?;
        }
        Ok(())
    }

    /// Syncs the log and waits for it. Without a log there is nothing to sync.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn sync(&mut self) -> Result<(), JournalError> {
        let Some(log) = &mut self.log else { return Ok(()) };
        let started = Instant::now();
        log.writer().sync()?;
        self.facts.syncs += 1;
        self.facts.last_sync_took = started.elapsed();
        if !self.schedule.is_running() {
            self.schedule.all_synced();
        }
        Ok(())
    }

    /// Starts the background syncs that are due.
    ///
    /// Returns when it wants to be called again at the latest, and whether nothing may be acknowledged before the running
    /// sync has ended.
    pub(crate) fn drive_syncs(&mut self) -> (Option<Duration>, bool) {
        let now = self.now();
        match self.schedule.step(self.mode, now) {
            SyncStep::Idle(until) => (until.map(|until| until.saturating_sub(now)), false),
            SyncStep::Start => {
                self.start_sync();
                (None, false)
            }
            SyncStep::Stall => (None, true),
        }
    }

    /// Starts a sync of everything appended so far in the background, unless one runs or nothing is unsynced.
    pub(crate) fn start_sync(&mut self) {
        if let (Some(log), Some(thread)) = (&mut self.log, &self.sync_thread)
            && !self.schedule.is_running()
            && log.offset() > log.durable_offset()
        {
            let writer = log.writer();
            let request = (writer.syncer(), writer.end().seq, writer.offset());
            // The thread ends only with the executor.
            if thread.requests.send(request).is_ok() {
                self.schedule.started();
            }
        }
    }

    /// A background sync has ended.
    ///
    /// # Errors
    /// [`JournalError`] when it failed, whichever segment it was of.
    pub(crate) fn log_synced(
        &mut self,
        segment: u64,
        offset: u64,
        took: Duration,
        result: io::Result<()>,
    ) -> Result<(), JournalError> {
        let Some(log) = self.log.as_mut().filter(|_| segment >= self.first_segment) else { return Ok(()) };
        self.facts.syncs += 1;
        self.facts.last_sync_took = took;
        let writer = log.writer();
        if writer.end().seq == segment || result.is_err() {
            writer.synced(offset, result)?;
        }
        self.schedule.finished();
        if log.offset() <= log.durable_offset() {
            self.schedule.all_synced();
        }
        Ok(())
    }

    /// Whether a sync runs in the background.
    pub(crate) fn is_syncing(&self) -> bool {
        self.schedule.is_running()
    }

    /// Age of the oldest change that is not on stable storage: in the log, or in the snapshot where there is no log.
    #[must_use]
    pub(crate) fn unsynced_age(&self) -> Duration {
        let schedule = if self.log.is_some() { &self.schedule } else { &self.unsaved };
        schedule.unsynced_age(self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::super::JobRequest;
    use super::super::testing::{engine, journal, journal_alone};
    use super::*;
    use crate::storage::memory::{Fault, MemoryDisk};

    fn change() -> EffectBuffer {
        let mut effects = EffectBuffer::new();
        effects.begin_unit(false);
        effects.push(0, &[b"SET", b"key", b"value"]);
        effects.end_unit();
        effects
    }

    /// The kernel tells of a failed write-back once, here the thread that syncs in the background.
    #[test]
    fn no_sync_succeeds_after_one_in_the_background_has_failed() {
        type Check = fn(&mut Journal) -> Result<(), JournalError>;
        let checks: [(&str, Check); 3] = [
            ("a stop or a point", |journal| journal.sync()),
            ("a point at the end of a turn", |journal| journal.commit(&mut change(), 3, true)),
            ("the cut of a rotation", |journal| {
                let (mut engine, mut effects) = (engine(1), EffectBuffer::new());
                journal.start_job(JobRequest::Rewrite, &mut engine, &mut effects, 3).map(drop)
            }),
        ];
        for (what, check) in checks {
            let disk = MemoryDisk::new();
            let (mut journal, events) = journal(&disk, &mut engine(1));
            journal.set_mode(SyncMode::EverySecond);
            journal.commit(&mut change(), 2, false).unwrap();
            let durable = journal.durable_offset();
            disk.inject(Some(Fault { call: disk.calls(), kind: io::ErrorKind::Other, forever: false }));
            journal.start_sync();
            let JournalEvent::LogSynced { segment, offset, took, result } = events.recv().unwrap() else {
                panic!("{what}: no sync")
            };
            assert!(check(&mut journal).is_err(), "{what}");
            assert_eq!(journal.durable_offset(), durable, "{what}");
            assert!(journal.log_synced(segment, offset, took, result).is_err(), "{what}");
        }
    }

    #[test]
    fn without_a_log_the_age_is_that_of_the_first_unsaved_change() {
        let disk = MemoryDisk::new();
        let mut engine = engine(3);
        let (mut journal, events) = journal_alone(&disk);
        // At least the age, and no more than the time since `first`.
        let check = |journal: &Journal, first: Instant| {
            let age_min = first.elapsed() / 2;
            let age = journal.unsynced_age();
            assert!(age >= age_min && age <= first.elapsed(), "{age:?}");
        };
        let pause = || std::thread::sleep(Duration::from_millis(5));
        assert_eq!(journal.unsynced_age(), Duration::ZERO);
        let first = Instant::now();
        journal.commit(&mut change(), 2, false).unwrap();
        pause();
        for gives_up in [true, false] {
            journal.start_job(JobRequest::Save, &mut engine, &mut EffectBuffer::new(), 3).unwrap().unwrap();
            let second = Instant::now();
            journal.commit(&mut change(), 4, false).unwrap();
            pause();
            check(&journal, first);
            while !gives_up && journal.job_is_walking() {
                journal.drive_job(&mut engine);
            }
            if gives_up {
                journal.abort_job(&mut engine, "a point").unwrap();
            }
            let JournalEvent::SnapshotWritten { id, result } = events.recv().unwrap() else {
                panic!("no job")
            };
            journal.snapshot_written(id, result, &mut engine).unwrap();
            check(&journal, if gives_up { first } else { second });
        }
        journal.save_now(&mut engine, 5).unwrap();
        assert_eq!(journal.unsynced_age(), Duration::ZERO);
    }
}
