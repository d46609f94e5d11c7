//! From the data directory to a served dataset: recovery into the engine, then the journal behind it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use holdfast_contract::control::JobReport;
use holdfast_contract::identity::Identity;

use crate::clock::unix_ms;
use crate::command::Replayer;
use crate::config::{Config, Strategy};
use crate::engine::value::Entry;
use crate::engine::{Engine, Tools};
use crate::error_chain::error_chain;
use crate::executor::inbox::InboxSender;
use crate::executor::journal::{Journal, JournalSettings, create_log};
use crate::executor::{Event, LoadFailure, LoadProgress, Loaded, engine_options};
use crate::persistence::aside::{Replaceable, is_kin};
use crate::persistence::directives::Event as PointEvent;
use crate::persistence::distrust::{distrust, is_distrusted, trust};
use crate::persistence::identity::stamp;
use crate::persistence::log::reader::ApplyError;
use crate::persistence::log::segments::{Log, LogFilesError, LogPaths};
use crate::persistence::log::writer::SegmentEnd;
use crate::persistence::manifest::Owner;
use crate::persistence::recovery::{
    Interrupted, Recovered, RecoveryOptions, RecoveryTarget, Source, recover,
};
use crate::persistence::snapshot::SnapshotAux;
use crate::protocol::Request;
use crate::storage::Storage;

/// Feeds what recovery reads to the engine, through the same door as clients.
struct Target<'a> {
    engine: &'a mut Engine,
    /// Reads the file that is open; a new one for each.
    replayer: Option<Replayer>,
    progress: &'a LoadProgress,
    now_ms: i64,
    /// Time that each key is to take (`key-load-delay`), and what is still to be waited.
    key_delay: Duration,
    owed: Duration,
}

/// Less is not slept at once: the system does not wake up so fast.
const NAP_MIN: Duration = Duration::from_millis(1);

impl RecoveryTarget for Target<'_> {
    fn tools(&self) -> Tools {
        self.engine.tools()
    }

    fn load(&mut self, entry: Entry) -> Result<(), ApplyError> {
        self.progress.keys.fetch_add(1, Ordering::Relaxed);
        self.owed += self.key_delay;
        if self.owed >= NAP_MIN {
            std::thread::sleep(std::mem::take(&mut self.owed));
        }
        Ok(self.engine.load(entry, self.now_ms)?)
    }

    fn command(&mut self, request: &Request<'_>) -> Result<(), ApplyError> {
        let replayer = self.replayer.get_or_insert_with(|| Replayer::begin(self.engine));
        Ok(replayer.apply(self.engine, request, self.now_ms)?)
    }

    fn file_ended(&mut self) {
        self.replayer = None;
    }

    fn progress(&mut self, done: u64, total: u64) -> Result<(), ApplyError> {
        self.progress.done.store(done, Ordering::Relaxed);
        self.progress.total.store(total, Ordering::Relaxed);
        if self.progress.stop.load(Ordering::Relaxed) { Err(Interrupted.into()) } else { Ok(()) }
    }
}

/// Where the files of a configuration lie.
#[must_use]
pub(crate) fn journal_settings(config: &Config, owner: Owner) -> JournalSettings {
    JournalSettings {
        dir: config.dir.clone(),
        snapshot_name: config.dbfilename.clone(),
        log: LogPaths {
            directory: config.dir.join(&config.appenddirname),
            name: config.appendfilename.clone(),
        },
        owner,
        compression: config.rdbcompression,
        checksum: config.rdbchecksum,
    }
}

/// Loads the data of `identity` and opens the journal.
///
/// `stop_at` recovers to exactly that stream offset (a clone of a volume snapshot). The identity on the volume is
/// stamped as not cleanly stopped before this returns.
///
/// # Errors
/// [`LoadFailure`].
pub fn load(
    storage: &Arc<dyn Storage>,
    config: &Config,
    identity: Identity,
    stop_at: Option<u64>,
    progress: &LoadProgress,
    events: InboxSender<Event>,
) -> Result<Loaded, LoadFailure> {
    load_files(storage, config, identity, stop_at, progress, events).inspect_err(|failure| {
        if failure.leaves_doubt() {
            distrust(&**storage, &config.dir);
        }
    })
}

fn load_files(
    storage: &Arc<dyn Storage>,
    config: &Config,
    mut identity: Identity,
    stop_at: Option<u64>,
    progress: &LoadProgress,
    events: InboxSender<Event>,
) -> Result<Loaded, LoadFailure> {
    let owner = Owner {
        store_id: identity.store_id.clone(),
        epoch: identity.epoch,
        annotated: config.aof_annotations,
    };
    let mut settings = journal_settings(config, owner);
    let points = &config.persist.points;
    let options = RecoveryOptions {
        dir: settings.dir.clone(),
        snapshot_name: settings.snapshot_name.clone(),
        log: settings.log.clone(),
        log_is_configured: config.log_is_named.then_some(config.log),
        cut_torn_tail: config.aof_load_truncated,
        keep_torn_tail: points.before(PointEvent::SysCrash).is_some(),
        stop_at,
        identity: Some(identity.clone()),
        read_only: false,
        drop_expired_at_ms: i64::try_from(unix_ms()).ok(),
    };
    let (mut engine, recovered) = recover_into(&**storage, config, &options, progress)?;
    progress.expired.store(recovered.keys_expired, Ordering::Relaxed);
    let unclean = !identity.clean_shutdown && recovered.source != Source::Nothing;
    let is_foreign_since = recovered.foreign && has_lived(&identity, recovered.snapshot.as_ref());
    if let Some(log) = &recovered.log
        && let Some(owner) = log.manifest.owner.as_ref().filter(|owner| owner.store_id == identity.store_id)
    {
        // The epoch that a start has stamped on the log, before it could stamp it on the identity.
        identity.epoch = identity.epoch.max(owner.epoch);
        settings.owner.epoch = identity.epoch;
    }
    if let Some(epoch) =
        recovered.snapshot.as_ref().and_then(|snapshot| snapshot.epoch_of(&identity.store_id))
    {
        // The same of a snapshot: a log begun with a lower one would give way to it at the next start.
        identity.epoch = identity.epoch.max(epoch);
        settings.owner.epoch = identity.epoch;
    }
    if is_foreign_since {
        // Another server has written here: what others remember of this epoch no longer describes it.
        identity.epoch += 1;
        settings.owner.epoch = identity.epoch;
        tracing::warn!(
            epoch = identity.epoch,
            "another server has written to the directory: stamping a new epoch"
        );
    }
    report(&recovered, unclean);
    let prepare = |error: String| LoadFailure::Prepare(error);
    let is_distrusted = is_distrusted(&**storage, &config.dir);
    let fresh_base = is_distrusted || (unclean && points.after(PointEvent::SysCrash).is_some());
    let log =
        open_log(&**storage, config, &settings, &recovered, &mut engine, fresh_base || stop_at.is_some())?;
    let now_ms = unix_ms();
    let events = Arc::new(move |event| events.send(Event::Journal(event)));
    let mut journal =
        Journal::new(Arc::clone(storage), settings, config.sync_mode, log, recovered.offset, now_ms, events)
            .map_err(|error| prepare(format!("failed to start the log's sync thread: {error}")))?;
    journal.snapshot_reaches(recovered.files_offset);
    journal.may_replace(Replaceable {
        parent: identity.parent.clone(),
        loaded: recovered.snapshot.clone().map(|aux| (recovered.snapshot_len, aux)),
    });
    let is_adopted = recovered.snapshot.as_ref().is_some_and(|snapshot| {
        snapshot.store_id.is_some() && !is_kin(snapshot, &identity.store_id, identity.parent.as_ref())
    });
    if config.strategy() == Strategy::Never
        && (recovered.source == Source::Log || fresh_base || is_foreign_since || is_adopted)
    {
        // The strategy has no log: what was in it must be in the snapshot before the log is left behind. And what another
        // Store has written must be ours before the identity speaks of it: at the next start it would be refused.
        journal.save_now(&mut engine, now_ms).map_err(prepare)?;
    }
    let gives_log_up = config.strategy() == Strategy::Never && recovered.log.is_some();
    if gives_log_up {
        // Order matters: the manifest that is put away takes the place of the word that these may go.
        if let Some(names) = &recovered.retired {
            let is_retired = |name: &str| names.iter().any(|retired| retired == name);
            remove_retired(&**storage, journal.settings(), is_retired).map_err(prepare)?;
        }
        put_manifest_away(&**storage, journal.settings()).map_err(prepare)?;
    }
    if recovered.source == Source::Snapshot && journal.facts().last_save.is_none() {
        journal.loaded_snapshot(Some(JobReport {
            completed_ms: made_ms(recovered.snapshot.as_ref()).unwrap_or(now_ms),
            bytes: recovered.snapshot_len,
            duration_ms: 0,
            offset: recovered.files_offset,
        }));
    }
    identity.clean_shutdown = false;
    identity.has_log = Some(config.log);
    stamp(&**storage, &config.dir, &mut identity, recovered.offset, journal.durable_offset())
        .map_err(prepare)?;
    // Order matters: while the identity speaks of a log, the manifest that was put away says what became of it.
    if gives_log_up {
        remove_retired(&**storage, journal.settings(), |_| true).map_err(prepare)?;
    } else if let Some(names) = &recovered.retired {
        let is_retired = |name: &str| names.iter().any(|retired| retired == name);
        remove_retired(&**storage, journal.settings(), is_retired).map_err(prepare)?;
    }
    if is_distrusted {
        trust(&**storage, &config.dir).map_err(prepare)?;
    }
    let cut_bytes = recovered.cut.as_ref().map_or(0, |cut| cut.len);
    Ok(Loaded { engine, journal: Some(journal), identity: Some(identity), cut_bytes })
}

/// Whether a server of ours has lived on the directory before what another one has left there now. A life that was cut
/// short leaves no offset, but whether it had a log; and where it had none, the snapshot of the other may be from before.
fn has_lived(identity: &Identity, snapshot: Option<&SnapshotAux>) -> bool {
    let is_younger = |snapshot: &SnapshotAux| snapshot.created_s >= identity.written_ms / 1000;
    identity.last_offset > 0
        || match identity.has_log {
            Some(true) => true,
            Some(false) => snapshot.is_some_and(is_younger),
            None => false,
        }
}

/// When a snapshot was cut, in milliseconds since the Unix epoch; none when it does not say.
fn made_ms(snapshot: Option<&SnapshotAux>) -> Option<u64> {
    snapshot.map(|aux| aux.created_s.saturating_mul(1000)).filter(|made_ms| *made_ms > 0)
}

fn recover_into(
    storage: &dyn Storage,
    config: &Config,
    options: &RecoveryOptions,
    progress: &LoadProgress,
) -> Result<(Engine, Recovered), LoadFailure> {
    let mut engine = Engine::new(engine_options(config));
    engine.set_eviction(config.eviction());
    engine.set_replaying(true);
    let now_ms = i64::try_from(unix_ms()).unwrap_or(i64::MAX);
    let key_delay = Duration::from_micros(config.key_load_delay_us.into());
    let owed = Duration::ZERO;
    let mut target = Target { engine: &mut engine, replayer: None, progress, now_ms, key_delay, owed };
    let recovered = recover(storage, options, &mut target)?;
    engine.set_replaying(false);
    Ok((engine, recovered))
}

fn open_log(
    storage: &dyn Storage,
    config: &Config,
    settings: &JournalSettings,
    recovered: &Recovered,
    engine: &mut Engine,
    fresh_base: bool,
) -> Result<Option<Log>, LoadFailure> {
    if !config.log {
        return Ok(None);
    }
    let now_ms = unix_ms();
    let previous = recovered.log.as_ref().map(|log| &log.manifest);
    let created = |engine: &mut Engine| {
        create_log(storage, settings, previous, engine, recovered.offset, now_ms)
            .map(Some)
            .map_err(LoadFailure::Prepare)
    };
    // Anything but our own log, ending with a record of ours, is taken over whole: base and segment are new then.
    match &recovered.log {
        Some(position)
            if recovered.source == Source::Log
                && !recovered.foreign
                && !fresh_base
                && position.manifest.owner.as_ref() == Some(&settings.owner) =>
        {
            let continues = |end: &SegmentEnd| end.offset == recovered.offset;
            let Some(end) = position.resume.clone().filter(continues) else { return created(engine) };
            Log::resume(storage, settings.log.clone(), settings.owner.clone(), position.clone(), end)
                .map(Some)
                .map_err(|error| {
                    let text = error_chain(&error);
                    match error {
                        LogFilesError::Sync { .. } => LoadFailure::NotSynced(text),
                        _ => LoadFailure::Prepare(text),
                    }
                })
        }
        _ => created(engine),
    }
}

/// Begins to give up a log whose data is in the snapshot. From here on it is not live any more, and recovery finishes
/// what was cut short: the manifest goes away in one rename, and tells which files may go.
fn put_manifest_away(storage: &dyn Storage, settings: &JournalSettings) -> Result<(), String> {
    let manifest = settings.log.manifest();
    storage
        .rename(&manifest, &settings.log.retired_manifest())
        .and_then(|()| storage.sync_dir(&settings.log.directory))
        .map_err(|error| format!("failed to remove the log file {manifest:?}: {error}"))
}

/// Removes those parts of the log directory that are files of the log whose manifest was put away, and that manifest.
fn remove_retired(
    storage: &dyn Storage,
    settings: &JournalSettings,
    is_retired: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let directory = &settings.log.directory;
    let failed =
        |path: &Path, error: std::io::Error| format!("failed to remove the log file {path:?}: {error}");
    let retired = settings.log.retired_manifest();
    for entry in storage.list(directory).map_err(|error| failed(directory, error))? {
        if !entry.is_directory && settings.log.part(&entry.name).is_some() && is_retired(&entry.name) {
            let path = directory.join(&entry.name);
            storage.remove(&path).map_err(|error| failed(&path, error))?;
        }
    }
    storage.sync_dir(directory).map_err(|error| failed(directory, error))?;
    storage.remove(&retired).map_err(|error| failed(&retired, error))?;
    tracing::info!("the files of a log that is not live were removed");
    Ok(())
}

fn report(recovered: &Recovered, unclean: bool) {
    let Recovered { source, offset, foreign, cut, keys_loaded, commands_replayed, bytes_read, .. } =
        recovered;
    tracing::info!(
        ?source,
        offset,
        foreign,
        keys_loaded,
        commands_replayed,
        bytes_read,
        clean = !unclean,
        "files recovered"
    );
    if let Some(cut) = cut {
        tracing::warn!(path = ?cut.path, position = cut.position, bytes = cut.len, "a torn tail was cut off");
    }
}

/// Reads the dataset again from the files, for DEBUG RELOAD (the snapshot) and DEBUG LOADAOF (the log).
///
/// # Errors
/// Why not, as text; nothing has changed then.
pub(crate) fn reload(journal: &Journal, config: &Config, from_log: bool) -> Result<Engine, String> {
    let settings = journal.settings();
    let nowhere = settings.dir.join("no-such-file");
    let mut log = settings.log.clone();
    let mut snapshot_name = settings.snapshot_name.clone();
    if from_log {
        snapshot_name = "no-such-file".to_owned();
    } else {
        // Neither the log directory, nor a log of servers before 7 that stays where it was found.
        (log.directory, log.name) = (nowhere, "no-such-file".to_owned());
    }
    let options = RecoveryOptions {
        dir: settings.dir.clone(),
        snapshot_name,
        log,
        log_is_configured: Some(from_log),
        cut_torn_tail: false,
        keep_torn_tail: false,
        stop_at: None,
        identity: None,
        read_only: true,
        // The log that goes on behind this does not say that they are gone.
        drop_expired_at_ms: None,
    };
    let (engine, recovered) = recover_into(&**journal.storage(), config, &options, &LoadProgress::default())
        .map_err(|error| error_chain(&error))?;
    if from_log && recovered.source != Source::Log {
        return Err("there is no log".to_owned());
    }
    Ok(engine)
}
