//! What the control port asks of the executor, and what it is told.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use holdfast_contract::control::{Barrier, BarrierRequest, CONTRACT_VERSION, ServerState, ServerStatus};
use holdfast_contract::identity::Identity;
use holdfast_contract::record::DecisionReport;

use super::journal::{EndedJob, JobKind, JobRequest, Journal};
use super::{Executor, ExecutorError, Phase};
use crate::bridge::{AdminRequest, Bridge, CutFile, Refusal, Reply};
use crate::clock::unix_ms;
use crate::metrics::Totals;
use crate::persistence::barrier::{BarrierDesk, Begin, Moment};
use crate::persistence::identity::stamp;
use crate::persistence::log::segments::Log;

/// What the executor keeps for the control port.
pub(super) struct Desk {
    pub(super) bridge: Bridge,
    pub(super) barrier: BarrierDesk,
    pub(super) identity: Option<Identity>,
    /// The identity says something that could not be written yet.
    pub(super) owes_identity: bool,
    pub(super) decision: Option<DecisionReport>,
    /// Backups that wait for their snapshot; the first one's may be running.
    cuts: VecDeque<(PathBuf, Reply<CutFile>)>,
    cut_is_running: bool,
}

impl Desk {
    pub(super) fn new(bridge: Bridge, decision: Option<DecisionReport>) -> Self {
        Self {
            bridge,
            barrier: BarrierDesk::default(),
            identity: None,
            owes_identity: false,
            decision,
            cuts: VecDeque::new(),
            cut_is_running: false,
        }
    }
}

/// Backups that may wait for their snapshot.
const CUTS_MAX: usize = 4;

pub(super) fn moment() -> Moment {
    Moment { monotonic: Instant::now(), wall_ms: unix_ms() }
}

impl Executor {
    /// Answers what the control port has asked since the last turn.
    pub(super) fn serve_admin(&mut self) -> Result<(), ExecutorError> {
        while let Some(request) = self.desk.bridge.inbox.try_next() {
            // A barrier whose time is over is told as that, counted, and what waited for it settled, whoever notices first.
            let now = moment();
            self.expire_barrier(now)?;
            match request {
                AdminRequest::TakeBarrier { request, reply } => {
                    let answer = self.take_barrier(&request, now)?;
                    reply.send(answer);
                }
                AdminRequest::FindBarrier { token, reply } => {
                    let found = self.desk.barrier.find(&token, now);
                    reply.send(found.ok_or_else(|| no_barrier(&token)));
                }
                AdminRequest::ReleaseBarrier { token, reply } => {
                    let released = self.desk.barrier.release(&token, now);
                    self.let_go_of_files()?;
                    reply.send(released.ok_or_else(|| no_barrier(&token)));
                }
                AdminRequest::CutSnapshot { dest, reply } => self.accept_cut(dest, reply),
                AdminRequest::StartRotation { reply } => {
                    let answer = self.start_rotation();
                    reply.send(answer);
                }
                AdminRequest::Decide { reply, .. } => {
                    // The data is being served: the record can only confirm what the gate has found.
                    reply.send(Ok(()));
                }
            }
        }
        if !self.desk.cut_is_running
            && let Some((dest, _)) = self.desk.cuts.front()
            && self
                .core
                .journal
                .as_ref()
                .is_some_and(|journal| journal.running_job().is_none() && !journal.files_are_held())
        {
            let request = JobRequest::Cut(dest.clone());
            self.desk.cut_is_running = true;
            let journal = self.core.journal.as_ref();
            if let Some(shortage) = journal.and_then(|journal| journal.cut_shortage(&self.engine)) {
                self.answer_cut(Err(Refusal::NoSpace(shortage.to_string())));
            } else if let Err(error) = self.start_job(request)? {
                self.answer_cut(Err(Refusal::Failed(error)));
            }
        }
        Ok(())
    }

    fn take_barrier(
        &mut self,
        request: &BarrierRequest,
        now: Moment,
    ) -> Result<Result<Barrier, Refusal>, ExecutorError> {
        let Some(journal) = &self.core.journal else {
            return Ok(Err(Refusal::NotReady("the server holds no data yet, or persists none".to_owned())));
        };
        let has_log = journal.log().is_some();
        if !has_log && journal.running_job().is_some() {
            return Ok(Err(Refusal::Busy(
                "a snapshot is being written; ask again when it is done".to_owned(),
            )));
        }
        match self.desk.barrier.begin(request, now) {
            Begin::Take => {}
            Begin::Known(barrier) => return Ok(Ok(barrier)),
            Begin::InProgress => return Ok(Err(Refusal::Busy("this barrier is being taken".to_owned()))),
            Begin::Busy { token } => {
                return Ok(Err(Refusal::Busy(format!(
                    "barrier {token:?} is held; release it or wait for its end"
                ))));
            }
            Begin::Refused { problem } => return Ok(Err(Refusal::Invalid(problem))),
        }
        // Whether it was taken shows in the offsets.
        let _ = self.commit_point("barrier")?;
        let Some(journal) = &self.core.journal else { return Ok(Err(Refusal::Stopped)) };
        let (offset, durable) = (journal.offset(), journal.durable_offset());
        let settings = journal.settings();
        let (dir, log_dir) = (settings.dir.clone(), settings.log.directory.clone());
        let storage = std::sync::Arc::clone(journal.storage());
        let owner = settings.owner.clone();
        let mut synced = if durable >= offset {
            storage.sync_dir(&dir).map_err(|error| error.to_string())
        } else {
            Err("the data could not be made durable; see the server's log".to_owned())
        };
        if has_log && synced.is_ok() {
            synced = storage.sync_dir(&log_dir).map_err(|error| error.to_string());
        }
        if synced.is_ok() {
            synced = self.stamp_identity();
        }
        if let Err(error) = synced {
            self.desk.barrier.failed();
            return Ok(Err(Refusal::Failed(error)));
        }
        if let Some(journal) = &mut self.core.journal {
            journal.hold_files(true, &mut self.engine).map_err(ExecutorError::Storage)?;
        }
        tracing::info!(token = request.token, offset, "persistence barrier taken");
        let barrier = self.desk.barrier.taken(&owner.store_id, owner.epoch, offset, moment());
        Ok(barrier.ok_or_else(|| Refusal::Failed("the barrier ended while it was taken".to_owned())))
    }

    /// Ends a barrier whose time is over, and settles what waited for it.
    pub(super) fn expire_barrier(&mut self, now: Moment) -> Result<(), ExecutorError> {
        if let Some(barrier) = self.desk.barrier.expire(now) {
            tracing::warn!(token = barrier.token, "persistence barrier ended by its time-out");
            self.core.metrics.barrier_expired();
        }
        self.let_go_of_files()
    }

    /// Ends a barrier that is held, because what follows changes the files: whoever holds it finds none any more.
    pub(super) fn break_barrier(&mut self) -> Result<(), ExecutorError> {
        self.expire_barrier(moment())?;
        if let Some(token) = self.desk.barrier.break_off() {
            tracing::warn!(token, "persistence barrier ended before its time: the server is asked to stop");
        }
        self.let_go_of_files()
    }

    fn let_go_of_files(&mut self) -> Result<(), ExecutorError> {
        if let Some(journal) = &mut self.core.journal
            && journal.files_are_held()
            && !self.desk.barrier.blocks_files()
        {
            let ended = journal.hold_files(false, &mut self.engine).map_err(ExecutorError::Storage)?;
            tracing::info!("persistence barrier released");
            self.job_ended(ended);
        }
        Ok(())
    }

    fn accept_cut(&mut self, dest: PathBuf, reply: Reply<CutFile>) {
        if self.core.journal.is_none() {
            reply.send(Err(Refusal::NotReady("the server holds no data yet, or persists none".to_owned())));
        } else if self.desk.cuts.len() >= CUTS_MAX {
            reply.send(Err(Refusal::Busy(format!("{CUTS_MAX} backups wait for their snapshot already"))));
        } else {
            self.desk.cuts.push_back((dest, reply));
        }
    }

    /// A background job has ended: if it was the snapshot of a backup, hands it over.
    pub(super) fn cut_ended(&mut self, ended: &EndedJob) {
        let JobKind::Cut(path) = &ended.kind else { return };
        // Order matters: the bucket may remember the offset of the cut for longer than this volume remembers its data.
        let stamped = if ended.result.is_ok() { self.stamp_identity() } else { Ok(()) };
        let settings = self.core.journal.as_ref().map(Journal::settings);
        let answer = match (&ended.result, stamped, settings) {
            (Ok(written), Ok(()), Some(settings)) => Ok(CutFile {
                path: path.clone(),
                bytes: written.bytes,
                store_id: settings.owner.store_id.clone(),
                epoch: settings.owner.epoch,
                offset: ended.offset,
                cut_ms: ended.cut_ms,
                dataset: written.summary.clone().unwrap_or_default(),
            }),
            (Ok(_), Ok(()), None) => Err(Refusal::Stopped),
            (Err(error), ..) if ended.lacks_space => Err(Refusal::NoSpace(error.clone())),
            (Err(error), ..) => Err(Refusal::Failed(error.clone())),
            (Ok(_), Err(error), _) => Err(Refusal::Failed(error)),
        };
        self.answer_cut(answer);
    }

    /// Writes the identity with the offsets of now.
    pub(super) fn stamp_identity(&mut self) -> Result<(), String> {
        let (Some(journal), Some(identity)) = (&self.core.journal, &mut self.desk.identity) else {
            return Ok(());
        };
        let (offset, durable) = (journal.offset(), journal.durable_offset());
        stamp(&**journal.storage(), &journal.settings().dir, identity, offset, durable)?;
        self.desk.owes_identity = false;
        Ok(())
    }

    fn answer_cut(&mut self, answer: Result<CutFile, Refusal>) {
        self.desk.cut_is_running = false;
        let Some((dest, reply)) = self.desk.cuts.pop_front() else { return };
        let failed = answer.is_err();
        if (!reply.send(answer) || failed)
            && let Some(journal) = &self.core.journal
        {
            // Nobody wants it any more; a file that stays is removed at the next start.
            let _ = journal.storage().remove(&dest);
        }
    }

    fn start_rotation(&mut self) -> Result<(), Refusal> {
        let Some(journal) = &self.core.journal else {
            return Err(Refusal::NotReady("the server holds no data yet, or persists none".to_owned()));
        };
        let request = if journal.log().is_some() { JobRequest::Rewrite } else { JobRequest::Save };
        self.core.ensure_job(request);
        Ok(())
    }

    /// Publishes how the server is.
    pub(super) fn publish(&self) {
        let status = self.status();
        let journal = self.core.journal.as_ref();
        let (engine, stats) = (&self.engine.stats, &self.core.stats);
        self.core.metrics.set_state(status.state);
        self.core.metrics.publish(&Totals {
            commands: engine.commands,
            error_replies: engine.error_replies,
            expired_keys: engine.expired_keys,
            evicted_keys: engine.evicted_keys,
            connections: self.core.clients.len() as u64,
            connections_accepted: stats.connections_received,
            connections_refused: stats.connections_rejected,
            input_bytes: stats.input_bytes,
            output_bytes: stats.output_bytes,
            keys: status.keys,
            used_memory_bytes: self.engine.counted_memory() + self.core.clients.ledger().held_bytes(),
            last_offset: status.last_offset,
            durable_offset: status.durable_offset,
            unsynced_age: journal.map_or(Duration::ZERO, Journal::unsynced_age),
            log_bytes: journal.and_then(Journal::log).map_or(0, Log::current_len),
            writes_refused: status.state == ServerState::WritesRefused,
            barrier_held: self.desk.barrier.blocks_files(),
            points: &stats.points,
            warnings: &stats.warnings,
        });
        self.desk.bridge.publisher.publish(status);
    }

    fn status(&self) -> ServerStatus {
        let journal = self.core.journal.as_ref();
        let facts = journal.map(Journal::facts);
        let loading = matches!(self.core.phase, Phase::Loading);
        let state = match (&self.core.phase, self.core.write_block) {
            (Phase::Loading, _) => ServerState::Loading,
            (Phase::Serving, Some(_)) => ServerState::WritesRefused,
            (Phase::Serving, None) => ServerState::Ready,
        };
        ServerStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            contract_version: CONTRACT_VERSION,
            state,
            identity: self.desk.identity.clone(),
            decision: self.desk.decision.clone(),
            problem: self.core.write_block.map(str::to_owned),
            strategy: self.core.strategy().word().to_owned(),
            config_sha256: self.core.config.file_sha256.clone(),
            last_offset: self.core.offset(),
            durable_offset: journal.map_or(0, Journal::durable_offset),
            keys: self.engine.len() as u64,
            progress: loading.then(|| self.core.progress.fraction()),
            last_snapshot: facts.and_then(|facts| facts.last_save.clone()),
            last_rotation: facts.and_then(|facts| facts.last_rewrite.clone()),
            last_job_error: facts.and_then(|facts| facts.last_error.clone()),
        }
    }
}

fn no_barrier(token: &str) -> Refusal {
    Refusal::NotFound(format!("there is no barrier {token:?}"))
}
