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
            self.offset += effects.len() as u64;
            effects.clear();
            return Ok(());
        };
        if !effects.is_empty() {
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
        let Some(log) = &mut self.log else { return Ok(()) };
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

    /// Age of the oldest byte of the log that is not on stable storage.
    #[must_use]
    pub(crate) fn unsynced_age(&self) -> Duration {
        self.schedule.unsynced_age(self.now())
    }
}
