//! A server without sockets on a simulated disk: the real gate, the real load, the real journal and the real commands.
//!
//! The world remembers the dataset after every batch, which batches were acknowledged, and which of them a power cut
//! must not take; what a restart finds is compared with that.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use crate::value::value_bytes;
use holdfast_contract::record::StoreRecord;
use holdfast_server::backup::restore::RestoreProgress;
use holdfast_server::command::{Context, Session, Settings, execute};
use holdfast_server::config::Config;
use holdfast_server::engine::Engine;
use holdfast_server::engine::effects::EffectBuffer;
use holdfast_server::error_chain::error_chain;
use holdfast_server::executor::Event;
use holdfast_server::executor::LoadProgress;
use holdfast_server::executor::inbox::{InboxSender, inbox};
use holdfast_server::executor::journal::{JobKind, JobRequest, Journal, JournalEvent};
use holdfast_server::gate::{Gate, Refused};
use holdfast_server::load::load;
use holdfast_server::persistence::identity::stamp;
use holdfast_server::persistence::policy::SyncMode;
use holdfast_server::protocol::{DecodeLimits, Decoder, ReplyWriter};
use holdfast_server::storage::memory::MemoryDisk;
use holdfast_server::storage::{Storage, StorageLock};

use crate::nobody::Nobody;

/// The data directory, one level below the root of its volume.
pub(crate) const DIR: &str = "/data/store";
/// Where the operator's record is mounted.
pub(crate) const RECORD: &str = "/record/store.json";

/// Value and absolute expiry of each key of each database.
pub(crate) type Dataset = BTreeMap<(u32, Vec<u8>), (Vec<u8>, Option<i64>)>;

/// Why a step did not happen: the machine went down, or a call failed.
#[derive(Debug)]
pub(crate) struct Stopped(pub(crate) String);

pub(crate) type Step<T = ()> = Result<T, Stopped>;

/// A running server.
pub(crate) struct Machine {
    pub(crate) engine: Engine,
    pub(crate) journal: Journal,
    identity: holdfast_contract::identity::Identity,
    effects: EffectBuffer,
    _lock: Box<dyn StorageLock>,
}

/// The channel to the executor, which the world plays. One for all worlds of a test: it costs three descriptors.
pub(crate) struct Wires {
    sender: InboxSender<Event>,
    receiver: Receiver<Event>,
    _poll: mio::Poll,
}

impl Wires {
    pub(crate) fn new() -> Self {
        let poll = mio::Poll::new().unwrap();
        let (sender, receiver) = inbox(poll.registry(), mio::Token(0)).unwrap();
        Self { sender, receiver, _poll: poll }
    }
}

pub(crate) struct World<'w> {
    wires: &'w Wires,
    pub(crate) disk: MemoryDisk,
    pub(crate) config: Config,
    pub(crate) machine: Option<Machine>,
    /// The dataset after each batch, and the stream offset behind it where it is known; in a log of commands alone,
    /// after each command that a reader may stop behind.
    pub(crate) states: Vec<(Dataset, u64)>,
    /// Index of the newest state whose batch was acknowledged: a killed process must not lose it.
    pub(crate) acknowledged: usize,
    /// Index of the newest state that a power cut must not take.
    pub(crate) durable: usize,
}

/// The form of the log (`aof-annotations`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    /// With our lines: a turn is in the log whole or not at all.
    WithLines,
    /// Commands as Redis writes them, of which any number may be left of the last turn.
    CommandsAlone,
}

/// A configuration on [`DIR`] that does nothing by itself.
pub(crate) fn config(strategy: &str) -> Config {
    let mut config = Config { dir: PathBuf::from(DIR), save: Vec::new(), ..Config::default() };
    config.instance_name = "crash-0".to_owned();
    set_strategy(&mut config, strategy);
    config
}

fn set_strategy(config: &mut Config, strategy: &str) {
    config.log = strategy != "never";
    config.sync_mode = match strategy {
        "always" => SyncMode::Always,
        "everysec" => SyncMode::EverySecond,
        _ => SyncMode::Never,
    };
}

pub(crate) fn dataset(engine: &Engine) -> Dataset {
    engine
        .entries()
        .map(|entry| ((entry.db, entry.key.to_vec()), (value_bytes(entry.value), entry.expires_at_ms)))
        .collect()
}

impl<'w> World<'w> {
    pub(crate) fn new(wires: &'w Wires, disk: MemoryDisk, config: Config) -> Self {
        let states = vec![(Dataset::new(), 0)];
        Self { wires, disk, config, machine: None, states, acknowledged: 0, durable: 0 }
    }

    /// The same world on another disk, with nothing running.
    pub(crate) fn on(&self, disk: MemoryDisk) -> World<'w> {
        World {
            wires: self.wires,
            disk,
            config: self.config.clone(),
            machine: None,
            states: self.states.clone(),
            acknowledged: self.acknowledged,
            durable: self.durable,
        }
    }

    /// Goes through the gate and loads; an error is a refusal, with its text.
    pub(crate) fn boot(&mut self) -> Step {
        assert!(self.machine.is_none(), "one server at a time");
        while self.wires.receiver.try_recv().is_ok() {}
        let storage: Arc<dyn Storage> = Arc::new(self.disk.clone());
        let gate = Gate::new(Arc::clone(&storage), &self.config);
        let refused = |refused: Refused| Stopped(refused.report().message.clone());
        let lock = gate.lock().map_err(|report| refused(report.into()))?;
        let progress = RestoreProgress::default();
        let passed = block_on(gate.pass(None, &progress)).map_err(refused)?;
        let before = self.disk.files();
        let loaded = load(
            &storage,
            &self.config,
            passed.identity,
            passed.stamp,
            &LoadProgress::default(),
            self.wires.sender.clone(),
        )
        .map_err(|error| {
            let error_text = error_chain(&error);
            // A machine that went down in a call changes nothing back.
            if !error.may_have_changed() && !self.disk.crashed() {
                assert_eq!(self.disk.files(), before, "it says that nothing was changed: {error_text}");
            }
            Stopped(error_text)
        })?;
        self.machine = Some(Machine {
            engine: loaded.engine,
            journal: loaded.journal.expect("something is persisted"),
            identity: loaded.identity.expect("something is persisted"),
            effects: EffectBuffer::new(),
            _lock: lock,
        });
        Ok(())
    }

    /// Whether a log, if there is one or one begins, is without our lines.
    pub(crate) fn has_commands_alone(&self) -> bool {
        !self.config.aof_annotations
    }

    pub(crate) fn set_log(&mut self, log: Log) {
        self.config.aof_annotations = log == Log::WithLines;
    }

    pub(crate) fn machine(&mut self) -> &mut Machine {
        self.machine.as_mut().expect("the server runs")
    }

    /// One turn: executes the commands and commits them. On `Ok` their replies have left.
    pub(crate) fn write(&mut self, commands: &[&str]) -> Step {
        let has_commands_alone = self.has_commands_alone();
        let machine = self.machine.as_mut().expect("the server runs");
        let mut session = Session::new(1, true);
        let mut reply = Vec::new();
        for words in commands {
            let before = has_commands_alone.then(|| (dataset(&machine.engine), machine.effects.len()));
            let mut bytes = format!("*{}\r\n", words.split(' ').count()).into_bytes();
            for word in words.split(' ') {
                bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
            }
            let mut decoder = Decoder::new();
            let step = decoder.decode(&bytes, &DecodeLimits::LOG).unwrap();
            let mut context = Context {
                engine: &mut machine.engine,
                effects: &mut machine.effects,
                host: &mut Nobody,
                settings: Settings::default(),
                now_ms: 1_000_000_000_000,
            };
            let reply = ReplyWriter::new(&mut reply, session.version());
            execute(&mut context, &mut session, &step.request.unwrap(), reply);
            if let Some((dataset_before, len_before)) = before {
                let offset = machine.journal.offset();
                let effects = &machine.effects.bytes()[len_before..];
                if let Some(len) = leading_select_len(effects) {
                    self.states.push((dataset_before, offset + (len_before + len) as u64));
                }
                if !effects.is_empty() {
                    self.states.push((dataset(&machine.engine), offset + machine.effects.len() as u64));
                }
            }
        }
        let text = String::from_utf8_lossy(&reply);
        assert!(!text.lines().any(|line| line.starts_with('-')), "{commands:?}: {text}");
        if !has_commands_alone {
            let offset = machine.journal.offset() + machine.effects.len() as u64;
            self.states.push((dataset(&machine.engine), offset));
        }
        let committed = machine.journal.commit(&mut machine.effects, 7, false);
        committed.map_err(|error| Stopped(error.to_string()))?;
        self.acknowledged = self.states.len() - 1;
        if self.config.log && self.config.sync_mode == SyncMode::Always {
            // Whatever the journal says: no reply leaves before it is durable.
            self.durable = self.acknowledged;
        }
        self.note_durable();
        Ok(())
    }

    /// Whatever the journal says is durable must be.
    pub(crate) fn note_durable(&mut self) {
        let durable_offset = self.machine().journal.durable_offset();
        let newest = self.states.iter().rposition(|(_, offset)| *offset <= durable_offset);
        self.durable = self.durable.max(newest.unwrap_or(0).min(self.acknowledged));
    }

    /// Begins a background job and lets its thread end, without settling it.
    pub(crate) fn start_job(&mut self, request: JobRequest) -> Step<Event> {
        let Machine { engine, journal, effects, .. } = self.machine();
        let started = journal.start_job(request, engine, effects, 8);
        started.map_err(|error| Stopped(error.to_string()))?.map_err(Stopped)?;
        while journal.job_is_walking() {
            if !journal.drive_job(engine) && journal.job_is_walking() {
                std::thread::yield_now();
            }
        }
        let event = self.wires.receiver.recv_timeout(Duration::from_secs(60)).expect("the job ends");
        self.note_durable();
        Ok(event)
    }

    /// Settles a job whose thread has ended. Returns whether it worked.
    pub(crate) fn settle(&mut self, event: Event) -> Step<bool> {
        let Event::Journal(JournalEvent::SnapshotWritten { id, result }) = event else {
            panic!("not the end of a job")
        };
        let Machine { engine, journal, .. } = self.machine();
        let ended = journal.snapshot_written(id, result, engine);
        let ended = ended.map_err(|error| Stopped(error.to_string()))?.filter(|job| job.result.is_ok());
        self.note_durable();
        if ended.as_ref().is_some_and(|job| matches!(job.kind, JobKind::Save)) {
            self.promise_snapshot();
        }
        Ok(ended.is_some())
    }

    /// A whole background job.
    pub(crate) fn job(&mut self, request: JobRequest) -> Step<bool> {
        let event = self.start_job(request)?;
        self.settle(event)
    }

    pub(crate) fn save(&mut self) -> Step {
        let Machine { engine, journal, .. } = self.machine();
        journal.save_now(engine, 9).map_err(Stopped)?;
        self.note_durable();
        self.promise_snapshot();
        Ok(())
    }

    /// Without a log the identity says how far a snapshot reaches. As the executor does it: that it cannot is no failure.
    fn promise_snapshot(&mut self) {
        let disk = self.disk.clone();
        let dir = self.config.dir.clone();
        let Machine { journal, identity, .. } = self.machine();
        if !journal.log_is_live() {
            let _ = stamp(&disk, &dir, identity, journal.offset(), journal.durable_offset());
        }
    }

    /// Makes everything durable, as a barrier does, and stamps the identity.
    pub(crate) fn barrier(&mut self) -> Step<u64> {
        let disk = self.disk.clone();
        let dir = self.config.dir.clone();
        let Machine { journal, identity, .. } = self.machine();
        journal.sync().map_err(|error| Stopped(error.to_string()))?;
        let offset = journal.offset();
        stamp(&disk, &dir, identity, offset, journal.durable_offset()).map_err(Stopped)?;
        self.note_durable();
        Ok(offset)
    }

    /// A clean stop, as SIGTERM does it.
    pub(crate) fn stop(&mut self) -> Step {
        let Machine { engine, journal, effects, .. } = self.machine();
        let has_log = journal.log_is_live();
        journal.commit(effects, 10, false).map_err(|error| Stopped(error.to_string()))?;
        journal.abort_job(engine, "the server stops");
        journal.sync().map_err(|error| Stopped(error.to_string()))?;
        if !has_log && journal.offset() != journal.durable_offset() {
            journal.save_now(engine, 11).map_err(Stopped)?;
        }
        self.note_durable();
        let disk = self.disk.clone();
        let dir = self.config.dir.clone();
        let Machine { journal, identity, .. } = self.machine();
        let (offset, durable) = (journal.offset(), journal.durable_offset());
        identity.clean_shutdown = offset == durable;
        stamp(&disk, &dir, identity, offset, durable).map_err(Stopped)?;
        self.machine = None;
        Ok(())
    }

    /// A clean stop and a start with another strategy.
    pub(crate) fn restart_as(&mut self, strategy: &str) -> Step {
        self.stop()?;
        self.start_as(strategy)
    }

    pub(crate) fn start_as(&mut self, strategy: &str) -> Step {
        set_strategy(&mut self.config, strategy);
        self.boot()
    }

    /// The log is switched on, and its base is written: `settle` makes it live, and then [`World::log_is_on`] follows.
    pub(crate) fn switch_log_on(&mut self) -> Step<Event> {
        self.start_job(JobRequest::Begin)
    }

    /// What the executor does when a log that was switched on is there. With `in_file` the configuration says so at the next
    /// start as well.
    pub(crate) fn log_is_on(&mut self, in_file: bool) -> Step {
        if !self.machine().journal.log_is_live() {
            assert!(self.disk.crashed(), "the log is there");
            return Err(Stopped("no log has begun".to_owned()));
        }
        self.machine().journal.set_mode(SyncMode::Always);
        if in_file {
            set_strategy(&mut self.config, "always");
        }
        self.note_log(true)
    }

    /// The log is switched off, in the configuration of the next start as well.
    pub(crate) fn switch_log_off(&mut self) -> Step {
        let Machine { journal, .. } = self.machine();
        journal.end_log().map_err(|error| Stopped(error.to_string()))?;
        set_strategy(&mut self.config, "never");
        self.note_durable();
        self.note_log(false)
    }

    fn note_log(&mut self, has_log: bool) -> Step {
        let disk = self.disk.clone();
        let dir = self.config.dir.clone();
        let Machine { journal, identity, .. } = self.machine();
        identity.has_log = Some(has_log);
        stamp(&disk, &dir, identity, journal.offset(), journal.durable_offset()).map_err(Stopped)
    }

    /// The machine goes down, and comes up with this disk.
    pub(crate) fn lose_power(&mut self) {
        self.machine = None;
    }

    pub(crate) fn found(&mut self) -> Dataset {
        dataset(&self.machine().engine)
    }

    pub(crate) fn mount_record(&mut self, record: &StoreRecord) {
        self.disk.put(Path::new(RECORD), &serde_json::to_vec(record).unwrap());
        self.config.store_record_file = Some(PathBuf::from(RECORD));
    }
}

/// Length of a SELECT that `effects`, one command or one transaction, begin with.
fn leading_select_len(effects: &[u8]) -> Option<usize> {
    if effects.is_empty() {
        return None;
    }
    let mut decoder = Decoder::new();
    let mut len = |from: usize| {
        let step = decoder.decode(&effects[from..], &DecodeLimits::LOG).expect("effects are well-formed");
        (step.consumed, step.request.expect("effects are whole").arg(0).to_vec())
    };
    let (select_len, name) = len(0);
    match &name[..] {
        b"SELECT" => {
            let (rest_len, _) = len(select_len);
            assert_eq!(select_len + rest_len, effects.len(), "one command in the selected database");
            Some(select_len)
        }
        b"MULTI" => None,
        _ => {
            assert_eq!(select_len, effects.len(), "one command");
            None
        }
    }
}

/// Runs a future that never waits: without a bucket, the gate has nothing to wait for.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("the gate waits for something"),
    }
}
