//! A log that is switched on or off while the server runs (`CONFIG SET appendonly`).
//!
//! ```text
//! on    cut ─ a segment takes what changes from here on ─ the base is written ─ manifest: there is a log
//! off   sync ─ there is no log; its files stay as they are, a copy of the data at this moment
//! ```
//!
//! Before the manifest names them, base and segment promise nothing: what is durable is what was so without a log, and a job that
//! fails or a process that ends leaves that as it was. A log that was switched off is not appended to again: it gives way to a
//! snapshot or another log that reaches further, and is what the next start loads where there is none.

use std::path::PathBuf;

use super::jobs::JobKind;
use super::syncs::SyncThread;
use super::{Journal, JournalError};
use crate::error_chain::error_chain;
use crate::persistence::log::segments::{BegunLog, SegmentStart};
use crate::persistence::policy::SyncSchedule;

impl Journal {
    /// Begins a log at a cut between two turns. Returns where its base is to be written; the error is why not, as text.
    pub(super) fn begin_log(&mut self, now_ms: u64) -> Result<PathBuf, String> {
        if self.sync_thread.is_none() {
            let thread = SyncThread::start(std::sync::Arc::clone(&self.events));
            let thread = thread.map_err(|error| format!("failed to start the log's sync thread: {error}"))?;
            self.sync_thread = Some(thread);
        }
        let start = SegmentStart { offset: self.offset, seed: rand::random(), now_ms };
        let (paths, owner) = (self.settings.log.clone(), self.settings.owner.clone());
        let begun =
            BegunLog::begin(&*self.storage, paths, owner, start).map_err(|error| error_chain(&error))?;
        let temp_path = begun.temp_base();
        self.begun = Some(begun);
        Ok(temp_path)
    }

    /// Whether a log could begin now, as far as the disk tells before there is one; the error is why not, as text.
    pub(crate) fn try_log(&self) -> Result<(), String> {
        if self.log.is_some() || self.begun.is_some() {
            return Ok(());
        }
        BegunLog::rehearse(&*self.storage, &self.settings.log, &self.settings.owner)
            .map_err(|error| error_chain(&error))
    }

    /// The base of a log that has begun is written: from now on there is a log, and all of it is durable.
    pub(super) fn log_begins(&mut self, base_len: u64) -> Result<(), String> {
        let Some(begun) = self.begun.take() else { return Err("no log has begun".to_owned()) };
        let first_segment = begun.segment_seq();
        let log = begun.finish(&*self.storage, base_len).map_err(|error| error_chain(&error))?;
        debug_assert_eq!(log.offset(), self.offset, "every byte of the stream is in one of them");
        self.first_segment = first_segment;
        self.schedule = SyncSchedule::default();
        self.log = Some(log);
        Ok(())
    }

    /// A job has ended badly: if it was to begin a log, what it has made goes.
    pub(super) fn discard_begun(&mut self, kind: &JobKind) {
        if matches!(kind, JobKind::Begin)
            && let Some(begun) = self.begun.take()
        {
            begun.discard(&*self.storage);
        }
    }

    /// Switches the log off: everything in it is durable when this returns, and it is appended to no more. A rewrite of it must
    /// have been given up before.
    ///
    /// # Errors
    /// [`JournalError`]: the sync failed.
    pub fn end_log(&mut self) -> Result<(), JournalError> {
        self.sync()?;
        let Some(log) = self.log.take() else { return Ok(()) };
        self.offset = log.offset();
        self.saved_offset = log.durable_offset();
        self.schedule = SyncSchedule::default();
        self.unsaved = SyncSchedule::default();
        if matches!(self.running_job(), Some((JobKind::Save, _))) {
            // What changes from here on is not in it.
            self.unsaved.started();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::Duration;

    use super::super::testing::{engine, journal, journal_alone};
    use super::super::{JobRequest, JournalEvent};
    use super::*;
    use crate::engine::Engine;
    use crate::engine::effects::EffectBuffer;
    use crate::persistence::policy::SyncMode;
    use crate::storage::memory::{Fault, MemoryDisk};

    fn change(journal: &mut Journal) {
        let mut effects = EffectBuffer::new();
        effects.begin_unit(false);
        effects.push(0, &[b"SET", b"key", b"value"]);
        effects.end_unit();
        journal.commit(&mut effects, 2, false).unwrap();
    }

    fn begin(journal: &mut Journal, engine: &mut Engine) -> Result<(), String> {
        journal.start_job(JobRequest::Begin, engine, &mut EffectBuffer::new(), 2).unwrap()
    }

    /// Drives the job to its end, with a change on the way; whether it worked.
    fn finish(
        journal: &mut Journal,
        engine: &mut Engine,
        events: &std::sync::mpsc::Receiver<JournalEvent>,
    ) -> bool {
        change(journal);
        while journal.job_is_walking() {
            journal.drive_job(engine);
        }
        let JournalEvent::SnapshotWritten { id, result } = events.recv().unwrap() else { panic!("no job") };
        journal.snapshot_written(id, result, engine).unwrap().unwrap().result.is_ok()
    }

    fn parts(disk: &MemoryDisk) -> Vec<String> {
        let names = disk.files().into_iter().filter(|(path, _)| path.starts_with("/data/log"));
        names.map(|(path, _)| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_log_begins_with_everything_from_its_cut_on() {
        let disk = MemoryDisk::new();
        let mut engine = engine(100);
        let (mut journal, events) = journal_alone(&disk);
        journal.set_mode(SyncMode::Always);
        change(&mut journal);
        let before = journal.offset();
        begin(&mut journal, &mut engine).unwrap();
        assert!(!journal.log_is_live() && journal.durable_offset() < before, "nothing is promised yet");
        assert!(parts(&disk).contains(&"log.manifest.retired".to_owned()), "{:?}", parts(&disk));
        assert!(begin(&mut journal, &mut engine).is_err(), "one at a time");
        assert!(finish(&mut journal, &mut engine, &events));
        assert!(journal.log_is_live() && journal.offset() > before);
        assert_eq!(journal.durable_offset(), journal.offset(), "all of it is durable");
        assert_eq!(parts(&disk), ["log.1.base.rdb", "log.1.incr.aof", "log.manifest"]);
        change(&mut journal);
        assert_eq!(journal.durable_offset(), journal.offset());

        journal.end_log().unwrap();
        let end = journal.offset();
        assert_eq!((journal.durable_offset(), journal.log_is_live()), (end, false));
        change(&mut journal);
        assert!(journal.offset() > end && journal.durable_offset() == end);
        assert_eq!(parts(&disk).len(), 3, "its files stay");
        begin(&mut journal, &mut engine).unwrap();
        assert!(finish(&mut journal, &mut engine, &events));
        assert_eq!(parts(&disk), ["log.2.base.rdb", "log.2.incr.aof", "log.manifest"]);
    }

    #[test]
    fn a_log_that_does_not_begin_leaves_nothing_and_may_be_tried_again() {
        for is_off in [false, true] {
            for call in 0.. {
                let disk = MemoryDisk::new();
                let mut engine = engine(3);
                let (mut journal, events) =
                    if is_off { journal(&disk, &mut engine) } else { journal_alone(&disk) };
                journal.end_log().unwrap();
                let durable = journal.durable_offset();
                let calls = disk.calls();
                let fault = Fault { call: calls + call, kind: ErrorKind::StorageFull, forever: false };
                disk.inject(Some(fault));
                let began = begin(&mut journal, &mut engine).is_ok();
                let worked = began && finish(&mut journal, &mut engine, &events);
                let place = format!("call {call}, after a log: {is_off}");
                if disk.calls() <= calls + call {
                    assert!(worked, "{place}");
                    break;
                }
                assert_eq!(worked, journal.log_is_live(), "{place}");
                disk.inject(None);
                if !worked {
                    assert_eq!(journal.durable_offset(), durable, "{place}: nothing more is promised");
                    assert!(journal.running_job().is_none() && !engine.snapshot_active(), "{place}");
                    begin(&mut journal, &mut engine).unwrap();
                    assert!(finish(&mut journal, &mut engine, &events), "{place}");
                    let after = parts(&disk);
                    assert!(!after.iter().any(|name| name.ends_with(".retired")), "{place}: {after:?}");
                }
            }
        }
    }

    #[test]
    fn a_trial_leaves_nothing_and_fails_as_a_log_would() {
        for is_off in [false, true] {
            let disk = MemoryDisk::new();
            let mut engine = engine(3);
            let (mut journal, events) =
                if is_off { journal(&disk, &mut engine) } else { journal_alone(&disk) };
            journal.end_log().unwrap();
            let before = parts(&disk);
            journal.try_log().unwrap();
            assert_eq!(parts(&disk), before, "after a log: {is_off}");
            let mut failures = 0;
            for call in 0.. {
                let calls = disk.calls();
                let fault = Fault { call: calls + call, kind: ErrorKind::StorageFull, forever: false };
                disk.inject(Some(fault));
                let tried = journal.try_log();
                if disk.calls() <= calls + call {
                    assert_eq!(tried, Ok(()), "call {call}");
                    break;
                }
                assert!(tried.is_err(), "call {call}, after a log: {is_off}");
                failures += 1;
            }
            assert!(failures > 3, "{failures}");
            disk.inject(None);
            begin(&mut journal, &mut engine).unwrap();
            let begun = parts(&disk);
            journal.try_log().unwrap();
            assert_eq!(parts(&disk), begun, "one that has begun is left alone");
            assert!(finish(&mut journal, &mut engine, &events));
            journal.try_log().unwrap();
            assert!(journal.log_is_live());
        }
    }

    #[test]
    fn what_is_told_of_a_log_that_was_switched_off_does_not_count() {
        let disk = MemoryDisk::new();
        let mut engine = engine(3);
        let (mut journal, events) = journal(&disk, &mut engine);
        journal.set_mode(SyncMode::EverySecond);
        change(&mut journal);
        journal.start_sync();
        let JournalEvent::LogSynced { segment, offset, took, .. } = events.recv().unwrap() else {
            panic!("no sync")
        };
        journal.end_log().unwrap();
        begin(&mut journal, &mut engine).unwrap();
        assert!(finish(&mut journal, &mut engine, &events));
        change(&mut journal);
        let late = Err(ErrorKind::Other.into());
        journal.log_synced(segment, offset, took, late).unwrap();
        assert!(journal.durable_offset() < journal.offset());
        journal.sync().unwrap();
    }

    #[test]
    fn a_job_that_is_given_up_takes_the_log_with_it() {
        let disk = MemoryDisk::new();
        let mut engine = engine(1_000);
        let (mut journal, events) = journal_alone(&disk);
        begin(&mut journal, &mut engine).unwrap();
        change(&mut journal);
        journal.abort_job(&mut engine, "the log is switched off").unwrap();
        assert_eq!(parts(&disk), Vec::<String>::new());
        drop(events.recv());
        begin(&mut journal, &mut engine).unwrap();
        assert!(finish(&mut journal, &mut engine, &events));
    }

    #[test]
    fn a_snapshot_that_was_cut_while_there_was_a_log_saves_nothing_that_came_behind_it() {
        let disk = MemoryDisk::new();
        let mut engine = engine(1_000);
        let (mut journal, events) = journal(&disk, &mut engine);
        change(&mut journal);
        journal.start_job(JobRequest::Save, &mut engine, &mut EffectBuffer::new(), 2).unwrap().unwrap();
        change(&mut journal);
        journal.end_log().unwrap();
        let end = journal.offset();
        assert_eq!(journal.unsynced_age(), Duration::ZERO, "all of the log is durable");
        assert!(finish(&mut journal, &mut engine, &events));
        assert_eq!(journal.durable_offset(), end, "it reaches less far than the log");
        assert!(journal.offset() > end);
        std::thread::sleep(Duration::from_millis(1));
        assert!(journal.unsynced_age() > Duration::ZERO);
    }

    #[test]
    fn a_delay_for_each_key_slows_a_snapshot_down_until_it_is_taken_back() {
        let disk = MemoryDisk::new();
        let mut engine = engine(3);
        let (mut journal, events) = journal_alone(&disk);
        journal.set_key_delay(Duration::from_secs(1_000));
        journal.start_job(JobRequest::Save, &mut engine, &mut EffectBuffer::new(), 2).unwrap().unwrap();
        assert!(!journal.drive_job(&mut engine) && journal.job_is_walking() && journal.job_is_stuck());
        journal.set_key_delay(Duration::ZERO);
        while journal.job_is_walking() {
            journal.drive_job(&mut engine);
        }
        let JournalEvent::SnapshotWritten { id, result } = events.recv().unwrap() else { panic!("no job") };
        assert!(journal.snapshot_written(id, result, &mut engine).unwrap().unwrap().result.is_ok());
    }
}
