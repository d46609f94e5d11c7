//! The life of a server process: gate, load, serve, stop; and what becomes of a refusal.
//!
//! ```text
//!         ┌───────────────────────── the record changes, or is sent ────────────────────────┐
//!         ▼                                                                                  │
//!   lock ─ gate ─ (await record) ─ load ─ serve ─ clean stop ─ exit 0                        │
//!            └────────────┴──────────┴──────┴── refusal ──▶ on-refusal exit: exit code, text │
//!                                                       └─▶ on-refusal hold: alive, unready ─┘
//! ```

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use holdfast_contract::control::{CONTRACT_VERSION, ServerState, ServerStatus};
use holdfast_contract::identity::Identity;
use holdfast_contract::ports;
use holdfast_contract::record::{DecisionReport, StoreRecord, reason};

use crate::admin::{Admin, AdminOptions, StartAdminError};
use crate::backup::restore::RestoreProgress;
use crate::backup::upload::remove_leftovers;
use crate::bridge::{AdminRequest, Bridge, Refusal, ServerHandle, bridge};
use crate::config::{Config, OnRefusal, Strategy};
use crate::engine::Engine;
use crate::error_chain::error_chain;
use crate::executor::inbox::InboxSender;
use crate::executor::{
    Ended, Event, Executor, ExecutorError, ExecutorOptions, LoadFailure, LoadProgress, Loaded, NotMade,
    StopCause, engine_options,
};
use crate::exit_code;
use crate::gate::{Gate, Passed, Refused, hold};
use crate::load::{load, reload};
use crate::metrics::Metrics;
use crate::network::descriptors;
use crate::network::listener::listen_for_clients;
use crate::persistence::distrust::distrust;
use crate::persistence::identity::stamp;
use crate::persistence::policy::SyncMode;
use crate::persistence::recovery::RecoverError;
use crate::pid_file::PidFile;
use crate::storage::disk::Disk;
use crate::storage::{Storage, StorageLock};

/// While held, the record is looked at this often.
const HOLD_LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Where a stop goes: to the executor that runs, or to whoever waits.
#[derive(Default)]
pub(crate) struct StopLine {
    state: Mutex<StopState>,
}

#[derive(Default)]
struct StopState {
    requested: Option<StopCause>,
    executor: Option<InboxSender<Event>>,
}

impl StopLine {
    fn state(&self) -> std::sync::MutexGuard<'_, StopState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks whoever owns the data to stop.
    pub(crate) fn request(&self, cause: StopCause) {
        let mut state = self.state();
        state.requested = Some(cause);
        if let Some(executor) = &state.executor {
            executor.send(Event::Stop(cause));
        }
    }

    /// True once a stop was asked for.
    #[must_use]
    pub(crate) fn is_requested(&self) -> bool {
        self.state().requested.is_some()
    }

    /// Routes a stop, also one that has come already, to this executor.
    fn attach(&self, executor: Option<InboxSender<Event>>) {
        let mut state = self.state();
        if let (Some(executor), Some(cause)) = (&executor, state.requested) {
            executor.send(Event::Stop(cause));
        }
        state.executor = executor;
    }

    fn wake_executor(&self) {
        if let Some(executor) = &self.state().executor {
            executor.wake();
        }
    }
}

/// Stops on SIGTERM and SIGINT.
///
/// # Errors
/// The handlers cannot be installed.
pub(crate) fn stop_on_signals() -> std::io::Result<Arc<StopLine>> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let stop = Arc::new(StopLine::default());
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
    let line = Arc::clone(&stop);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in &mut signals {
            let (name, cause) = if signal == SIGINT {
                ("SIGINT", StopCause::Interrupted)
            } else {
                ("SIGTERM", StopCause::Terminated)
            };
            tracing::info!("Received {name} scheduling shutdown...");
            line.request(cause);
        }
    })?;
    Ok(stop)
}

/// Why a life ended badly.
enum Trouble {
    /// Nothing may be written; another decision may come.
    Refused(DecisionReport, u8),
    /// The same, at the gate.
    AtGate(Refused),
    /// This process cannot go on.
    Fatal(anyhow::Error),
    /// A command has panicked; the data in memory must not be used any more.
    Panicked,
}

/// A record that was sent, and the one that was mounted at that moment. The mount follows with a delay, so what is mounted later and
/// is another one came later, too.
struct Sent {
    record: StoreRecord,
    mounted: Option<StoreRecord>,
}

/// Everything that outlives one walk through the gate.
struct Process {
    config: Config,
    storage: Arc<dyn Storage>,
    gate: Gate,
    stop: Arc<StopLine>,
    metrics: Arc<Metrics>,
    runtime: tokio::runtime::Runtime,
    sent: Option<Sent>,
    status: ServerStatus,
    lock: Option<Box<dyn StorageLock>>,
    pid_file: Option<PidFile>,
    /// The banner was shown, or nobody asked for it.
    has_shown_logo: bool,
}

/// Runs a server until it is stopped.
///
/// # Errors
/// What ended the process, when it is not a refusal: those are told and become exit codes.
pub fn serve(mut config: Config) -> anyhow::Result<ExitCode> {
    let room = descriptors::make_room(config.maxclients);
    anyhow::ensure!(
        room > 0,
        "the limit of open files leaves no room for a single client; raise it (ulimit -n) to {} for maxclients {}",
        descriptors::needed(config.maxclients),
        config.maxclients
    );
    if room < config.maxclients {
        tracing::warn!(
            "maxclients has been reduced from {} to {room}: the limit of open files is too low; raise it (ulimit -n)",
            config.maxclients
        );
        config.maxclients = room;
    }
    let stop = stop_on_signals()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let status = first_status(&config);
    let (handle, inbox, publisher) = bridge(status.clone());
    let waker = Arc::clone(&stop);
    handle.set_waker(Arc::new(move || waker.wake_executor()));
    let metrics = Arc::new(Metrics::new());
    let gate = Gate::new(Arc::clone(&storage), &config);
    let admin = start_admin(&runtime, &config, &gate.instance, &handle, &metrics)?;
    let mut process = Process {
        has_shown_logo: !config.always_show_logo,
        config,
        storage,
        gate,
        stop,
        metrics,
        runtime,
        sent: None,
        status,
        lock: None,
        pid_file: None,
    };
    let result = process.run(Bridge { inbox, publisher });
    // Order matters: the bridge is gone, so nobody waits for an answer that cannot come.
    admin.stop();
    result
}

/// Opens the health and control ports. The default health port may be taken by another server on this machine: outside
/// Kubernetes, where nobody probes it, that is no reason not to start.
fn start_admin(
    runtime: &tokio::runtime::Runtime,
    config: &Config,
    instance: &str,
    handle: &ServerHandle,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Admin> {
    let options = || AdminOptions::new(config, instance.to_owned());
    match Admin::start(runtime.handle(), options(), handle, metrics) {
        Err(error @ StartAdminError::Listen { name: "health", .. })
            if config.health_port == ports::HEALTH && config.store_record_file.is_none() =>
        {
            tracing::warn!("{}; going on without it", error_chain(&error));
            let without = AdminOptions { health: Vec::new(), ..options() };
            Ok(Admin::start(runtime.handle(), without, handle, metrics)?)
        }
        started => Ok(started?),
    }
}

fn first_status(config: &Config) -> ServerStatus {
    ServerStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        contract_version: CONTRACT_VERSION,
        state: ServerState::Loading,
        identity: None,
        decision: None,
        problem: None,
        strategy: config.strategy().word().to_owned(),
        config_sha256: config.file_sha256.clone(),
        last_offset: 0,
        durable_offset: 0,
        keys: 0,
        progress: None,
        last_snapshot: None,
        last_rotation: None,
        last_job_error: None,
    }
}

impl Process {
    /// Walks until a stop, or until a refusal ends the process.
    fn run(&mut self, mut bridge: Bridge) -> anyhow::Result<ExitCode> {
        // Attempts since the record changed.
        let mut attempts = 0;
        loop {
            let (result, returned) = self.live(bridge);
            bridge = returned;
            let (refused, code) = match result {
                Ok(()) => return Ok(ExitCode::SUCCESS),
                Err(Trouble::Fatal(error)) => return Err(error),
                Err(Trouble::Panicked) => return Ok(ExitCode::from(exit_code::PANICKED)),
                Err(Trouble::Refused(report, code)) => (Refused::from(report), code),
                Err(Trouble::AtGate(refused)) => (refused, exit_code::REFUSED),
            };
            self.show_logo();
            let report = refused.report();
            tracing::error!(reason = report.reason, "refused: {}", report.message);
            if self.config.on_refusal == OnRefusal::Exit {
                return Ok(ExitCode::from(code));
            }
            attempts = match self.wait_for_change(&mut bridge, report.clone(), refused.retry_pause(attempts))
            {
                Waited::Stopped => return Ok(ExitCode::SUCCESS),
                Waited::Changed => 0,
                Waited::TimePassed => attempts.saturating_add(1),
            };
        }
    }

    /// One walk from the gate to the end.
    fn live(&mut self, mut bridge: Bridge) -> (Result<(), Trouble>, Bridge) {
        let password = match self.config.read_password() {
            Ok(password) => password,
            Err(error) => {
                let message =
                    format!("{}. Without it every client would be let in, so none is.", error_chain(&error));
                return (Err(Trouble::Refused(hold("PasswordMissing", message), exit_code::CONFIG)), bridge);
            }
        };
        let passed = match self.pass_gate(&mut bridge) {
            Ok(Some(passed)) => passed,
            Ok(None) => return (Ok(()), bridge),
            Err(trouble) => return (Err(trouble), bridge),
        };
        let sockets = match listen_for_clients(&self.config) {
            Ok(sockets) => sockets,
            Err(error) => return (Err(Trouble::Fatal(error.into())), bridge),
        };
        self.show_logo();
        self.write_pid_file();
        tracing::info!(port = self.config.port, "Server initialized");
        let progress = Arc::new(LoadProgress::default());
        let options = ExecutorOptions {
            config: self.config.clone(),
            password,
            sockets,
            progress: Arc::clone(&progress),
            metrics: Arc::clone(&self.metrics),
            bridge,
            decision: passed.as_ref().and_then(|passed| passed.report.clone()),
            reload,
        };
        let (executor, sender) = match Executor::new(options) {
            Ok(made) => made,
            Err(failed) => {
                let NotMade { error, bridge } = *failed;
                return (Err(Trouble::Fatal(error.into())), bridge);
            }
        };
        if let Err(error) = self.start_loading(passed, progress, sender.clone()) {
            return (Err(Trouble::Fatal(error.into())), executor.give_up());
        }
        self.stop.attach(Some(sender));
        let (result, bridge, config) = executor.run();
        self.stop.attach(None);
        // What clients have changed counts in the next life as well.
        self.config = config;
        (self.settle(result), bridge)
    }

    /// Shows the banner once. Test suites for Redis wait for its " PID: <pid>" to learn that a server has begun, and look before
    /// that whether its port is taken: it comes when the sockets are open, or when it is clear that they will not be.
    fn show_logo(&mut self) {
        if !std::mem::replace(&mut self.has_shown_logo, true) {
            let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
            tracing::info!("\n\n    Holdfast {version}\n    Port: {}\n    PID: {pid}\n", self.config.port);
        }
    }

    /// Tells supervisors the process id. Only a process that has its directory and its sockets does: one that was started beside
    /// it by mistake changes nothing.
    fn write_pid_file(&mut self) {
        let Some(path) = self.config.pid_path().filter(|_| self.pid_file.is_none()) else { return };
        match PidFile::write(path.clone()) {
            Ok(file) => self.pid_file = Some(file),
            Err(error) => tracing::warn!(?path, %error, "Failed to write PID file"),
        }
    }

    /// Waits in front of the gate until it is open; none when a stop came first. Without persistence there is no gate.
    fn pass_gate(&mut self, bridge: &mut Bridge) -> Result<Option<Option<Passed>>, Trouble> {
        if self.config.strategy() == Strategy::Disabled {
            return Ok(Some(None));
        }
        let refused = |report| Trouble::Refused(report, exit_code::REFUSED);
        if self.lock.is_none() {
            self.lock = Some(self.gate.lock().map_err(refused)?);
            if let Err(error) = remove_leftovers(&*self.storage, &self.config.dir)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "failed to remove what an earlier backup left");
            }
        }
        self.publish(bridge, ServerState::Restoring, None);
        self.forget_outdated();
        let sent = self.sent.as_ref().map(|sent| sent.record.clone());
        let progress = RestoreProgress::default();
        let passing = async {
            tokio::select! {
                passed = self.gate.pass(sent.as_ref(), &progress) => Some(passed),
                () = self.watch_restore(bridge, &progress) => None,
            }
        };
        // A restore that is given up has changed nothing that anybody reads.
        let Some(passed) = self.runtime.block_on(passing) else { return Ok(None) };
        let mut passed = passed.map_err(Trouble::AtGate)?;
        self.status.identity = Some(passed.identity.clone());
        self.status.decision.clone_from(&passed.report);
        if passed.awaits_record && !self.await_record(bridge, &passed.identity) {
            return Ok(None);
        }
        // A server that ended between the record and this leaves the epoch recorded, and the volume without knowing it.
        if passed.report.is_some() && !passed.identity.granted {
            passed.identity.granted = true;
            if passed.stamp.is_none() {
                self.gate.write(&passed.identity).map_err(refused)?;
            }
        }
        Ok(Some(Some(passed)))
    }

    /// Tells how far a restore is; ends when a stop was asked for.
    async fn watch_restore(&self, bridge: &Bridge, progress: &RestoreProgress) {
        while !self.stop.is_requested() {
            bridge.publisher.update(|status| status.progress = progress.fraction());
            tokio::time::sleep(HOLD_LOOK_INTERVAL).await;
        }
    }

    /// Waits until the epoch of `identity` is recorded; false when a stop came first.
    fn await_record(&mut self, bridge: &mut Bridge, identity: &Identity) -> bool {
        tracing::info!(epoch = identity.epoch, "waiting until the epoch is recorded by the operator");
        self.publish(bridge, ServerState::AwaitingRecord, None);
        loop {
            let mounted = self.gate.mounted_record().and_then(Result::ok);
            let recorded = [mounted.as_ref(), self.sent.as_ref().map(|sent| &sent.record)]
                .into_iter()
                .flatten()
                .any(|record| record.store_id == identity.store_id && record.epoch >= identity.epoch);
            if recorded {
                return true;
            }
            if self.stop.is_requested() {
                return false;
            }
            self.serve_requests(bridge);
        }
    }

    /// Forgets what was sent when something newer is mounted.
    fn forget_outdated(&mut self) {
        if let Some(Sent { record, mounted: before }) = &self.sent
            && let Some(Ok(mounted)) = self.gate.mounted_record()
            && before.as_ref() != Some(&mounted)
            && mounted.store_id == record.store_id
            && mounted.epoch >= record.epoch
        {
            self.sent = None;
        }
    }

    /// Answers what can be answered without data; waits a moment for requests.
    fn serve_requests(&mut self, bridge: &Bridge) -> bool {
        let Some(request) = bridge.inbox.next_within(HOLD_LOOK_INTERVAL) else { return false };
        let not_ready = || Refusal::NotReady("the server does not serve data; see its decision".to_owned());
        match request {
            AdminRequest::Decide { record, reply } => {
                let mounted = self.gate.mounted_record().and_then(Result::ok);
                self.sent = Some(Sent { record: *record, mounted });
                reply.send(Ok(()));
                return true;
            }
            AdminRequest::TakeBarrier { reply, .. }
            | AdminRequest::FindBarrier { reply, .. }
            | AdminRequest::ReleaseBarrier { reply, .. } => {
                reply.send(Err(not_ready()));
            }
            AdminRequest::CutSnapshot { reply, .. } => {
                reply.send(Err(not_ready()));
            }
            AdminRequest::StartRotation { reply } => {
                reply.send(Err(not_ready()));
            }
        }
        false
    }

    fn publish(&mut self, bridge: &Bridge, state: ServerState, report: Option<DecisionReport>) {
        self.status.state = state;
        if report.is_some() {
            self.status.decision = report;
        }
        self.metrics.set_state(state);
        bridge.publisher.publish(self.status.clone());
    }

    fn start_loading(
        &self,
        passed: Option<Passed>,
        progress: Arc<LoadProgress>,
        sender: InboxSender<Event>,
    ) -> std::io::Result<()> {
        let (config, storage) = (self.config.clone(), Arc::clone(&self.storage));
        std::thread::Builder::new().name("loader".to_owned()).spawn(move || {
            let result = match passed {
                None => {
                    let engine = Engine::new(engine_options(&config));
                    Ok(Loaded { engine, journal: None, identity: None, cut_bytes: 0 })
                }
                Some(Passed { identity, stamp, .. }) => {
                    load(&storage, &config, identity, stamp, &progress, sender.clone())
                }
            };
            // An executor that has ended needs no data.
            sender.send(Event::Loaded(Box::new(result)));
        })?;
        Ok(())
    }

    /// After the executor: the mark of a clean stop, or the refusal.
    fn settle(&mut self, result: Result<Ended, ExecutorError>) -> Result<(), Trouble> {
        match result {
            Ok(Ended { identity: None, .. }) => Ok(()),
            Ok(Ended { identity: Some(mut identity), offset, durable_offset }) => {
                identity.clean_shutdown = offset == durable_offset;
                stamp(&*self.storage, &self.config.dir, &mut identity, offset, durable_offset).map_err(
                    |error| Trouble::Refused(hold(reason::STORAGE_FAILED, error), exit_code::STORAGE),
                )
            }
            Err(ExecutorError::Load(failure)) => {
                let (reason, message, code) =
                    explain_load(&failure, self.config.on_refusal == OnRefusal::Exit);
                Err(Trouble::Refused(hold(reason, message), code))
            }
            Err(error @ ExecutorError::Storage(_)) => {
                self.metrics.storage_failed();
                distrust(&*self.storage, &self.config.dir);
                let acknowledged = match self.config.sync_mode {
                    SyncMode::Always => "What was acknowledged is on the disk",
                    SyncMode::EverySecond | SyncMode::Never => {
                        "What was acknowledged last may not be on the disk, as the strategy allows"
                    }
                };
                let message =
                    format!("{}. {acknowledged}; check the volume: is it full?", error_chain(&error));
                Err(Trouble::Refused(hold(reason::STORAGE_FAILED, message), exit_code::STORAGE))
            }
            Err(error @ ExecutorError::Panicked) => {
                tracing::error!(
                    "{error}. This is a defect: please report it with the lines above. The process ends; the next start loads \
                     what was acknowledged"
                );
                Err(Trouble::Panicked)
            }
            Err(error) => Err(Trouble::Fatal(error.into())),
        }
    }

    /// Stays alive and unready until something changes, or for the time after which it may have passed.
    fn wait_for_change(
        &mut self,
        bridge: &mut Bridge,
        report: DecisionReport,
        retry_pause: Option<Duration>,
    ) -> Waited {
        self.publish(bridge, ServerState::Holding, Some(report));
        let before = self.gate.mounted_record();
        let retry_at = retry_pause.map(|pause| Instant::now() + pause);
        loop {
            if self.stop.is_requested() {
                return Waited::Stopped;
            }
            let was_sent = self.serve_requests(bridge);
            let is_changed = was_sent || self.gate.mounted_record() != before;
            if is_changed || retry_at.is_some_and(|at| Instant::now() >= at) {
                tracing::info!("deciding again");
                return if is_changed { Waited::Changed } else { Waited::TimePassed };
            }
        }
    }
}

/// A load that failed, for people: reason, message and exit code. `exits`: these are the last words of the process.
fn explain_load(failure: &LoadFailure, exits: bool) -> (&'static str, String, u8) {
    let error = error_chain(failure);
    let (reason, remedy, code) = match failure {
        LoadFailure::Prepare(_) => (
            reason::STORAGE_FAILED,
            ". The data was read whole and nothing of it is lost, but the volume cannot be written: make room on it, or mend it",
            exit_code::STORAGE,
        ),
        LoadFailure::NotSynced(_) => (
            reason::STORAGE_FAILED,
            ". The data was read whole, and this machine must not go down before a start has worked: mend the volume, or make \
             room on it",
            exit_code::STORAGE,
        ),
        LoadFailure::Recover(cause) if cause.may_have_changed() => (
            reason::STORAGE_FAILED,
            ". The data was read whole; repairs have begun, and the next start goes on with them: make room on the volume, or \
             mend it",
            exit_code::STORAGE,
        ),
        LoadFailure::Recover(cause) if cause.is_storage() => (
            reason::STORAGE_FAILED,
            ". Nothing was changed, and this says nothing against the data; make room on the volume, or mend it",
            exit_code::STORAGE,
        ),
        // The last words of Redis, which people look for in logs.
        LoadFailure::Recover(RecoverError::Snapshot { .. }) if exits => {
            (reason::DATA_DAMAGED, ". Terminating server after rdb file reading failure.", exit_code::REFUSED)
        }
        LoadFailure::Recover(_) => (reason::DATA_DAMAGED, "", exit_code::REFUSED),
    };
    (reason, error + remedy, code)
}

/// Why a held server goes on.
enum Waited {
    /// A stop was asked for.
    Stopped,
    /// There is another record.
    Changed,
    /// It is time to try again.
    TimePassed,
}

/// The init container: decides, restores if that is what was decided, and says so.
///
/// # Errors
/// What ended the process, when it is not a refusal.
pub fn restore(config: &Config) -> anyhow::Result<ExitCode> {
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let gate = Gate::new(storage, config);
    if config.store_record_file.is_none() {
        anyhow::bail!(
            "nothing tells what to restore: store-record-file is not set. `restore` is the init container of a Store; \
             it needs the record that the operator mounts"
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let progress = RestoreProgress::default();
    let locked = gate.lock().map_err(Refused::from);
    let decided = locked.and_then(|_lock| runtime.block_on(gate.pass(None, &progress)));
    let (report, code) = match decided {
        Ok(passed) => (passed.report, ExitCode::SUCCESS),
        Err(refused) if config.on_refusal == OnRefusal::Hold => {
            (Some(refused.report().clone()), ExitCode::SUCCESS)
        }
        Err(refused) => (Some(refused.report().clone()), ExitCode::from(exit_code::REFUSED)),
    };
    if let Some(report) = report {
        let text = serde_json::to_string(&report)?;
        println!("{text}");
        if let Some(path) = &config.termination_message_file {
            // The decision stands whether or not it can be told this way: the server tells it again.
            if let Err(error) = std::fs::write(path, &text) {
                tracing::warn!(?path, %error, "failed to write the termination message");
            }
        }
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_failed_load_says_what_is_true_of_the_files() {
        const WORDS: [&str; 4] =
            ["Nothing was changed", "nothing of it is lost", "repairs have begun", "must not go down"];
        let check = |failure: LoadFailure, expected: (&str, u8), word: Option<&str>| {
            let (reason, message, code) = explain_load(&failure, true);
            assert_eq!((reason, code), expected, "{message}");
            let said: Vec<_> = WORDS.into_iter().filter(|words| message.contains(words)).collect();
            assert_eq!(said, Vec::from_iter(word), "{message}");
        };
        let (storage, damaged) =
            ((reason::STORAGE_FAILED, exit_code::STORAGE), (reason::DATA_DAMAGED, exit_code::REFUSED));
        let path = || PathBuf::from("/data/dump.rdb");
        let no_room = || std::io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
        let open = RecoverError::Storage { action: "open", path: path(), source: no_room() };
        check(open.into(), storage, Some("Nothing was changed"));
        let not_cut = RecoverError::NotCut { path: path(), source: no_room() };
        check(not_cut.into(), storage, Some("repairs have begun"));
        let remove = RecoverError::Storage { action: "remove", path: path(), source: no_room() };
        check(remove.in_tidying().into(), storage, Some("repairs have begun"));
        check(LoadFailure::Prepare("no room".to_owned()), storage, Some("nothing of it is lost"));
        check(LoadFailure::NotSynced("in memory alone".to_owned()), storage, Some("must not go down"));
        check(RecoverError::FileMissing { path: path() }.into(), damaged, None);
    }
}
