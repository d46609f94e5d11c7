//! The reconcile of a StoreBackup. A restarted operator finds what it began by the backup's UID: the id of the upload,
//! the token of the barrier, the name of the VolumeSnapshot.
//!
//! ```text
//!   pending ── Store ready, finalizer set ──▶ running ──▶ Succeeded=True, ReadyToUse=True
//!      │                                        │  ├────▶ Succeeded=False (reason)
//!      └───────────── deadline ─────────────────┘  └────▶ deleted: cancelled, barrier released, then let go
//! ```

mod volume_snapshot;

use std::time::Duration;

use holdfast_contract::control::{BackupPhase, BackupProgress, BackupRequest, ServerState, backup_reason};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use serde_json::json;

use crate::api::conditions::{self, Verdict, kind, reason};
use crate::api::v1alpha1::{
    BackupLocation, BackupMethod, BackupPlace, Store, StoreBackup, StoreBackupStatus, Strategy,
};
use crate::caches::{self, Caches};
use crate::context::{Context, ReconcileError};
use crate::events::Note;
use crate::names;
use crate::reconcile::apply::post_params;
use crate::reconcile::build::claim;
use crate::reconcile::build::stateful_set::locations_of;
use crate::reconcile::facts::Children;
use crate::reconcile::observe::endpoint;
use crate::reconcile::plan::identity::bucket_of;
use crate::reconcile::status::time_of_ms;
use crate::server_client::{Endpoint, ServerError};
use crate::spread::spread;

/// Seconds until a backup has failed, unless it says otherwise.
const DEADLINE_SECONDS: u32 = 3600;
/// While a backup runs: a barrier is held for as long as we do not look.
const WHILE_RUNNING: Duration = Duration::from_secs(1);
/// Longest pause between attempts that the server has interrupted.
const INTERRUPTED_MAX: Duration = Duration::from_secs(60);
/// While it waits for its Store.
const WHILE_PENDING: Duration = Duration::from_secs(3);

/// What one look at a running backup came to.
enum Turn {
    /// It goes on; the status as it is now.
    Running(Box<StoreBackupStatus>),
    /// It has ended.
    Ended(Box<StoreBackupStatus>, Note),
}

/// A Store that can be backed up now.
struct Target {
    store: Store,
    endpoint: Endpoint,
    pod: String,
}

/// Reconciles the StoreBackup `namespace/name` once.
/// # Errors
/// The API did not answer, refused, or another writer was faster. Nothing has to be undone.
pub async fn reconcile(ctx: &Context, namespace: &str, name: &str) -> Result<Action, ReconcileError> {
    if let Some(caches) = &ctx.caches
        && caches.are_filled().await
        && let Some(backup) = caches::get(&caches.backups, namespace, name)
        && is_settled(caches, &backup)
    {
        return Ok(Action::await_change());
    }
    let api: Api<StoreBackup> = Api::namespaced(ctx.client.clone(), namespace);
    let live = api.get_opt(name).await.map_err(ReconcileError::call("read", "StoreBackup", name))?;
    let Some(backup) = live else { return Ok(Action::await_change()) };
    let status = backup.status.clone().unwrap_or_default();

    if backup.metadata.deletion_timestamp.is_some() {
        if has_finalizer(&backup) {
            cancel(ctx, &backup, &status).await;
            set_finalizer(ctx, &backup, false).await?;
        }
        return Ok(Action::await_change());
    }
    let now = Timestamp::now();
    if status.completion_time.is_some() {
        if has_finalizer(&backup) {
            set_finalizer(ctx, &backup, false).await?;
            return Ok(Action::requeue(Duration::ZERO));
        }
        if let Some(kept) = Kept::of(&status) {
            let locations: Api<BackupLocation> = Api::namespaced(ctx.client.clone(), namespace);
            let location = locations.get_opt(kept.location).await;
            let location = location.map_err(ReconcileError::call("read", "BackupLocation", kept.location))?;
            let verdict = kept.usable_now(location.as_ref());
            write(ctx, &backup, status, vec![verdict], now).await?;
        }
        return Ok(Action::await_change());
    }
    if let Some(late) = past_deadline(&backup, &status, now) {
        // It may have ended well while nobody looked: what is in the bucket is a backup, however long that took.
        if let Some(Turn::Ended(new, note)) = last_look(ctx, &backup, &status, now).await? {
            return end(ctx, &backup, *new, note, now).await;
        }
        cancel(ctx, &backup, &status).await;
        return finish(ctx, &backup, &status, late, now).await;
    }
    let target = match find_target(ctx, &backup, status.start_time.is_some()).await? {
        Ok(target) => target,
        // A Store never changes from or to Disabled.
        Err(obstacle) if obstacle.reason == reason::NOTHING_TO_BACK_UP => {
            let verdict = Verdict::no(kind::SUCCEEDED, obstacle.reason, obstacle.message);
            return finish(ctx, &backup, &status, verdict, now).await;
        }
        Err(obstacle) => return wait(ctx, &backup, status, obstacle, now).await,
    };
    if !has_finalizer(&backup) {
        set_finalizer(ctx, &backup, true).await?;
        return Ok(Action::requeue(Duration::ZERO));
    }
    if status.start_time.is_none() {
        let mut started = status;
        started.start_time = Some(Time(whole_second(now)));
        if backup.spec.method == BackupMethod::Snapshot
            && let Ok((name, location)) = find_location(ctx, &backup, &started, &target.store).await?
        {
            record_place(&mut started, &target, name, &location);
        }
        let verdict = Verdict::unknown(kind::SUCCEEDED, reason::PENDING, "");
        write(ctx, &backup, started, vec![verdict], now).await?;
        let text = format!("of Store {:?}", backup.spec.store_ref.name);
        ctx.events.publish(&backup, Note::normal("BackupStarted", text)).await;
        return Ok(Action::requeue(Duration::ZERO));
    }
    let turn = match backup.spec.method {
        BackupMethod::Snapshot => snapshot_turn(ctx, &backup, &status, &target).await?,
        BackupMethod::VolumeSnapshot => volume_snapshot::turn(ctx, &backup, &status, &target, now).await?,
    };
    match turn {
        Err(obstacle) => wait(ctx, &backup, status, obstacle, now).await,
        Ok(Turn::Running(new)) => {
            let pause = pause_after(&status, &new);
            if *new != status {
                replace_status(ctx, &backup, *new).await?;
            }
            Ok(Action::requeue(spread(pause)))
        }
        Ok(Turn::Ended(new, note)) => end(ctx, &backup, *new, note, now).await,
    }
}

/// The pause after a turn: doubling with each attempt that the server has interrupted.
fn pause_after(before: &StoreBackupStatus, after: &StoreBackupStatus) -> Duration {
    let attempts = after.attempts.unwrap_or(1);
    if before.attempts.unwrap_or(1) == attempts {
        return WHILE_RUNNING;
    }
    WHILE_RUNNING.saturating_mul(1_u32.checked_shl(attempts).unwrap_or(u32::MAX)).min(INTERRUPTED_MAX)
}

/// Records how a backup has ended.
async fn end(
    ctx: &Context,
    backup: &StoreBackup,
    mut new: StoreBackupStatus,
    note: Note,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    new.completion_time = Some(Time(whole_second(now)));
    replace_status(ctx, backup, new).await?;
    tracing::info!(reason = note.reason, note = note.text, "backup ended");
    ctx.events.publish(backup, note).await;
    Ok(Action::requeue(Duration::ZERO))
}

/// How a backup stands that is past its deadline; begins nothing.
async fn last_look(
    ctx: &Context,
    backup: &StoreBackup,
    status: &StoreBackupStatus,
    now: Timestamp,
) -> Result<Option<Turn>, ReconcileError> {
    if status.start_time.is_none() {
        return Ok(None);
    }
    let Ok(target) = find_target(ctx, backup, true).await? else { return Ok(None) };
    match backup.spec.method {
        BackupMethod::Snapshot => {
            let id = attempt_id(&uid(backup)?, status.attempts.unwrap_or(1));
            match ctx.servers.find_backup(&target.endpoint, &id).await {
                Ok(progress) if progress.phase == BackupPhase::Succeeded => {
                    let generation = backup.metadata.generation;
                    Ok(Some(upload_turn(status.clone(), &progress, generation, now)))
                }
                Ok(_) => Ok(None),
                Err(error) => {
                    tracing::debug!(%error, "backup not found after its deadline");
                    Ok(None)
                }
            }
        }
        BackupMethod::VolumeSnapshot => volume_snapshot::last_look(ctx, backup, status, &target, now).await,
    }
}

/// Whether an ended backup needs nothing, as far as the caches know. What does is read again before it is written.
fn is_settled(caches: &Caches, backup: &StoreBackup) -> bool {
    let Some(status) = &backup.status else { return false };
    if status.completion_time.is_none()
        || backup.metadata.deletion_timestamp.is_some()
        || has_finalizer(backup)
    {
        return false;
    }
    Kept::of(status).is_none_or(|kept| {
        let namespace = backup.namespace().unwrap_or_default();
        let location = caches::get(&caches.locations, &namespace, kept.location);
        let verdict = kept.usable_now(location.as_ref());
        with_verdicts(backup, status.clone(), vec![verdict], Timestamp::now()) == *status
    })
}

/// A backup that is kept in a bucket.
struct Kept<'a> {
    place: &'a BackupPlace,
    location: &'a str,
}

impl<'a> Kept<'a> {
    /// The backup of this status; absent when it did not succeed, or is no object in a bucket.
    fn of(status: &'a StoreBackupStatus) -> Option<Self> {
        let succeeded = conditions::is_true(&status.conditions, kind::SUCCEEDED);
        let (place, location) = (status.place.as_ref()?, status.location.as_deref()?);
        succeeded.then_some(Self { place, location })
    }

    /// Whether it can be restored from by its location as that is now.
    fn usable_now(&self, location: Option<&BackupLocation>) -> Verdict {
        let Self { place, location: name } = self;
        match location.map(|location| place.differs_from(location)) {
            Some(None) => Verdict::yes(kind::READY_TO_USE, reason::COMPLETED, ""),
            Some(Some(moved)) => Verdict::no(
                kind::READY_TO_USE,
                reason::LOCATION_CHANGED,
                format!(
                    "the backup lies in {moved}, but BackupLocation {name:?} names another place now; set it back, or create a location for the former place"
                ),
            ),
            None => Verdict::no(
                kind::READY_TO_USE,
                reason::LOCATION_NOT_FOUND,
                format!("BackupLocation {name:?} is not in this namespace; create it again"),
            ),
        }
    }
}

/// Why a backup does not go on for now: reason and message.
struct Obstacle {
    reason: String,
    message: String,
}

impl Obstacle {
    fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into() }
    }
}

impl From<ServerError> for Obstacle {
    fn from(error: ServerError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

async fn wait(
    ctx: &Context,
    backup: &StoreBackup,
    status: StoreBackupStatus,
    obstacle: Obstacle,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let is_new = conditions::find(&status.conditions, kind::SUCCEEDED)
        .is_none_or(|condition| condition.reason != obstacle.reason);
    let message = conditions::truncate(obstacle.message, conditions::MESSAGE_LEN_MAX);
    let verdict = Verdict::unknown(kind::SUCCEEDED, obstacle.reason.clone(), message.clone());
    write(ctx, backup, status, vec![verdict], now).await?;
    if is_new {
        ctx.events.publish(backup, Note::warning(&obstacle.reason, message)).await;
    }
    Ok(Action::requeue(spread(WHILE_PENDING)))
}

/// The verdict on a backup that has taken too long, counted from its creation until it has begun, then anew.
fn past_deadline(backup: &StoreBackup, status: &StoreBackupStatus, now: Timestamp) -> Option<Verdict> {
    let since = status.start_time.as_ref().or(backup.metadata.creation_timestamp.as_ref())?;
    let deadline = i64::from(backup.spec.deadline_seconds.unwrap_or(DEADLINE_SECONDS));
    if now.as_second() - since.0.as_second() <= deadline {
        return None;
    }
    let last = conditions::find(&status.conditions, kind::SUCCEEDED)
        .map(|condition| format!("; at last: {}: {}", condition.reason, condition.message))
        .unwrap_or_default();
    Some(Verdict::no(
        kind::SUCCEEDED,
        reason::DEADLINE_EXCEEDED,
        format!("it has not ended within {deadline} s{last}"),
    ))
}

async fn finish(
    ctx: &Context,
    backup: &StoreBackup,
    status: &StoreBackupStatus,
    verdict: Verdict,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let note = Note::warning(&verdict.reason, verdict.message.clone());
    let mut ended = status.clone();
    ended.completion_time = Some(Time(whole_second(now)));
    let unusable = Verdict::no(kind::READY_TO_USE, verdict.reason.clone(), "");
    write(ctx, backup, ended, vec![verdict, unusable], now).await?;
    ctx.events.publish(backup, note).await;
    Ok(Action::requeue(Duration::ZERO))
}

/// Finds the Store and its server, or why the backup must wait. `has_begun`: a barrier may be held or an upload running,
/// so the Store's conditions do not matter any more.
async fn find_target(
    ctx: &Context,
    backup: &StoreBackup,
    has_begun: bool,
) -> Result<Result<Target, Obstacle>, ReconcileError> {
    let namespace = backup.namespace().unwrap_or_default();
    let name = &backup.spec.store_ref.name;
    let stores: Api<Store> = Api::namespaced(ctx.client.clone(), &namespace);
    let store = stores.get_opt(name).await.map_err(ReconcileError::call("read", "Store", name))?;
    let Some(store) = store else {
        let message = format!("waits for Store {name:?}, which is not in this namespace");
        return Ok(Err(Obstacle::new(reason::STORE_NOT_FOUND, message)));
    };
    let status = store.status.clone().unwrap_or_default();
    if store.spec.persistence.strategy == Strategy::Disabled {
        let message = format!("Store {name:?} has persistence.strategy Disabled: it keeps nothing");
        return Ok(Err(Obstacle::new(reason::NOTHING_TO_BACK_UP, message)));
    }
    let is_ready = conditions::is_true(&status.conditions, kind::READY)
        && !conditions::is_true(&status.conditions, kind::RECONCILING)
        && status.observed_generation == store.metadata.generation
        // No restart comes in between: either nothing is to change, or the change is held back until a person acts.
        && (status.persistence.as_ref().is_some_and(|persistence| persistence.configuration_current)
            || conditions::is_true(&status.conditions, kind::STALLED));
    if !has_begun && !is_ready {
        let why = conditions::find(&status.conditions, kind::READY)
            .filter(|condition| condition.status != "True")
            .map(|condition| format!(" ({}: {})", condition.reason, condition.message))
            .unwrap_or_default();
        let message = format!("waits until Store {name:?} is ready and settled{why}");
        return Ok(Err(Obstacle::new(reason::STORE_NOT_READY, message)));
    }
    match find_endpoint(ctx, &namespace, name).await? {
        Some((endpoint, pod)) => {
            if !has_begun
                && backup.spec.method == BackupMethod::Snapshot
                && let Some(obstacle) = missing_mount(ctx, &namespace, &store, &pod).await?
            {
                return Ok(Err(obstacle));
            }
            Ok(Ok(Target { store, endpoint, pod: pod.name_any() }))
        }
        None => {
            let message = format!("waits until the server of Store {name:?} runs");
            Ok(Err(Obstacle::new(reason::STORE_NOT_READY, message)))
        }
    }
}

/// A pod takes on the credentials of a location that came later, or whose Secret has another name now, when a backup needs
/// them; until then the backup waits.
async fn missing_mount(
    ctx: &Context,
    namespace: &str,
    store: &Store,
    pod: &Pod,
) -> Result<Option<Obstacle>, ReconcileError> {
    let Some(settings) = &store.spec.backup else { return Ok(None) };
    let name = &settings.location_ref.name;
    let locations: Api<BackupLocation> = Api::namespaced(ctx.client.clone(), namespace);
    let location =
        locations.get_opt(name).await.map_err(ReconcileError::call("read", "BackupLocation", name))?;
    let Some(location) = location else { return Ok(None) };
    let mounted = pod.spec.as_ref().map(locations_of).unwrap_or_default();
    if mounted.get(name) == Some(&location.spec.credentials_secret_ref.name) {
        return Ok(None);
    }
    let message = format!(
        "waits until the pod of Store {:?} has restarted: it does not mount the credentials of BackupLocation {name:?} yet",
        store.name_any()
    );
    Ok(Some(Obstacle::new(reason::STORE_NOT_READY, message)))
}

async fn find_endpoint(
    ctx: &Context,
    namespace: &str,
    store: &str,
) -> Result<Option<(Endpoint, Pod)>, ReconcileError> {
    let pod_name = names::pod(store);
    let secret_name = names::auth_secret(store);
    let pods: Api<Pod> = Api::namespaced(ctx.client.clone(), namespace);
    let secrets: Api<Secret> = Api::namespaced(ctx.client.clone(), namespace);
    let pod = pods.get_opt(&pod_name).await.map_err(ReconcileError::call("read", "Pod", &pod_name))?;
    let auth =
        secrets.get_opt(&secret_name).await.map_err(ReconcileError::call("read", "Secret", &secret_name))?;
    let children = Children { auth, ..Children::default() };
    Ok(endpoint(&children, pod.as_ref()).zip(pod))
}

/// One look at an upload by the server; asking again with the same id never starts a second one.
async fn snapshot_turn(
    ctx: &Context,
    backup: &StoreBackup,
    status: &StoreBackupStatus,
    target: &Target,
) -> Result<Result<Turn, Obstacle>, ReconcileError> {
    let namespace = backup.namespace().unwrap_or_default();
    let store_name = &backup.spec.store_ref.name;
    let (location_name, location) = match find_location(ctx, backup, status, &target.store).await? {
        Ok(found) => found,
        Err(obstacle) => return Ok(Err(obstacle)),
    };
    // Order matters: where it goes is recorded before the server is told. It stays there whatever becomes of the location.
    let Some(place) = &status.place else {
        let mut new = status.clone();
        record_place(&mut new, target, location_name, &location);
        return Ok(Ok(Turn::Running(Box::new(new))));
    };
    // A server that loads or holds would end each attempt at once.
    match ctx.servers.status(&target.endpoint).await {
        Ok(server) if matches!(server.state, ServerState::Ready | ServerState::WritesRefused) => {}
        Ok(server) => {
            let message = format!(
                "waits until the server of Store {store_name:?} is ready; it is {}",
                state_word(server.state)
            );
            return Ok(Err(Obstacle::new(reason::STORE_NOT_READY, message)));
        }
        Err(error) => return Ok(Err(error.into())),
    }
    let former = former_owners(ctx, &namespace, &target.store).await?;
    let attempt = status.attempts.unwrap_or(1);
    let request = BackupRequest {
        id: attempt_id(&uid(backup)?, attempt),
        location: place.within(bucket_of(&location)),
        credentials_dir: names::credentials_dir(&location_name),
        owner_uid: target.store.uid().unwrap_or_default(),
        owner_name: format!("{namespace}/{store_name}"),
        takes_over: !former.is_empty(),
        former_owner_uids: Some(former),
    };
    let progress = match ctx.servers.start_backup(&target.endpoint, &request).await {
        Ok(progress) => progress,
        Err(error) => return Ok(Err(error.into())),
    };
    // A server that stops, or is not ready yet, ends what it has begun; the next one begins anew, until the deadline.
    let is_interrupted = progress.phase == BackupPhase::Failed
        && matches!(progress.reason.as_deref(), Some(backup_reason::CANCELLED | backup_reason::NOT_READY));
    if is_interrupted {
        // The server answers an id for ever as it did once, so the next attempt has another one.
        let mut again = status.clone();
        again.attempts = Some(attempt + 1);
        let message = format!("the server was interrupted: {}", progress.message.unwrap_or_default());
        let verdict = Verdict::unknown(kind::SUCCEEDED, reason::STORE_NOT_READY, message);
        let generation = backup.metadata.generation;
        again.conditions = conditions::merge(&status.conditions, vec![verdict], generation, Timestamp::now());
        return Ok(Ok(Turn::Running(Box::new(again))));
    }
    Ok(Ok(upload_turn(status.clone(), &progress, backup.metadata.generation, Timestamp::now())))
}

/// The location that the backup goes to, by name, or why there is none: the recorded one, or that of `store`.
async fn find_location(
    ctx: &Context,
    backup: &StoreBackup,
    status: &StoreBackupStatus,
    store: &Store,
) -> Result<Result<(String, BackupLocation), Obstacle>, ReconcileError> {
    let wanted = store.spec.backup.as_ref().map(|settings| &settings.location_ref.name);
    let Some(name) = status.location.as_ref().or(wanted) else {
        let message = format!("Store {:?} has no spec.backup.locationRef; set it", store.name_any());
        return Ok(Err(Obstacle::new(reason::NO_LOCATION, message)));
    };
    let locations: Api<BackupLocation> =
        Api::namespaced(ctx.client.clone(), &backup.namespace().unwrap_or_default());
    let location =
        locations.get_opt(name).await.map_err(ReconcileError::call("read", "BackupLocation", name))?;
    Ok(match location {
        Some(location) => Ok((name.clone(), location)),
        None => {
            let message = format!("waits for BackupLocation {name:?}, which is not in this namespace");
            Err(Obstacle::new(reason::LOCATION_NOT_FOUND, message))
        }
    })
}

/// Notes whose data it is and where it goes.
fn record_place(status: &mut StoreBackupStatus, target: &Target, name: String, location: &BackupLocation) {
    status.store_id = target.store.status.as_ref().and_then(|status| status.store_id.clone());
    status.instance = Some(target.pod.clone());
    status.place = Some(BackupPlace::of(location));
    status.location = Some(name);
}

/// UIDs of the Store objects that had the claim before: their owner markers give way, and no other.
async fn former_owners(ctx: &Context, namespace: &str, store: &Store) -> Result<Vec<String>, ReconcileError> {
    let name = names::claim(&store.name_any());
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(ctx.client.clone(), namespace);
    let claim =
        claims.get_opt(&name).await.map_err(ReconcileError::call("read", "PersistentVolumeClaim", &name))?;
    let uid = store.uid().unwrap_or_default();
    Ok(claim.map(|claim| claim::former_owners(&claim, &uid)).unwrap_or_default())
}

fn state_word(state: ServerState) -> &'static str {
    match state {
        ServerState::Holding => "held",
        ServerState::Restoring => "restoring",
        ServerState::AwaitingRecord => "being set up",
        ServerState::Loading => "loading",
        ServerState::Ready => "ready",
        ServerState::WritesRefused => "refusing writes",
        ServerState::Stopping => "stopping",
    }
}

/// The status after the server's answer.
fn upload_turn(
    mut status: StoreBackupStatus,
    progress: &BackupProgress,
    generation: Option<i64>,
    now: Timestamp,
) -> Turn {
    let (verdicts, note) = match progress.phase {
        BackupPhase::Cutting => (vec![Verdict::unknown(kind::SUCCEEDED, reason::CUTTING, "")], None),
        BackupPhase::Uploading => (vec![Verdict::unknown(kind::SUCCEEDED, reason::UPLOADING, "")], None),
        BackupPhase::Verifying => (vec![Verdict::unknown(kind::SUCCEEDED, reason::VERIFYING, "")], None),
        BackupPhase::Succeeded => {
            let dataset = progress.dataset.clone().unwrap_or_default();
            status.epoch = Some(progress.epoch);
            status.offset = Some(progress.offset);
            status.bytes = Some(progress.total_bytes);
            status.keys = Some(dataset.keys);
            status.digest = Some(dataset.digest);
            status.path.clone_from(&progress.backup_path);
            let text = format!(
                "{} keys, {} bytes, at {:?}",
                dataset.keys,
                progress.total_bytes,
                progress.backup_path.as_deref().unwrap_or_default()
            );
            let verdicts = vec![
                Verdict::yes(kind::SUCCEEDED, reason::COMPLETED, "uploaded, read back, compared and opened"),
                Verdict::yes(kind::READY_TO_USE, reason::COMPLETED, ""),
            ];
            (verdicts, Some(Note::normal("BackupSucceeded", text)))
        }
        BackupPhase::Failed => {
            let why = progress.reason.clone().unwrap_or_else(|| reason::BACKUP_FAILED.to_owned());
            let message = progress.message.clone().unwrap_or_default();
            let verdicts = vec![
                Verdict::no(kind::SUCCEEDED, why.clone(), message.clone()),
                Verdict::no(kind::READY_TO_USE, why.clone(), ""),
            ];
            (verdicts, Some(Note::warning(&why, message)))
        }
    };
    status.observed_generation = generation;
    status.conditions = conditions::merge(&status.conditions, verdicts, generation, now);
    match note {
        None => Turn::Running(Box::new(status)),
        Some(note) => Turn::Ended(Box::new(status), note),
    }
}

/// Ends what runs, as far as it can be reached. One attempt: a barrier ends by itself, and an upload that ends well is
/// one more good backup.
async fn cancel(ctx: &Context, backup: &StoreBackup, status: &StoreBackupStatus) {
    if status.start_time.is_none() || status.completion_time.is_some() {
        return;
    }
    let namespace = backup.namespace().unwrap_or_default();
    let found = match find_endpoint(ctx, &namespace, &backup.spec.store_ref.name).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "backup not cancelled");
            None
        }
    };
    let result = match (backup.spec.method, found) {
        (BackupMethod::Snapshot, Some((endpoint, _))) => {
            let id = attempt_id(&backup.uid().unwrap_or_default(), status.attempts.unwrap_or(1));
            ctx.servers.cancel_backup(&endpoint, &id).await.map(|_| ())
        }
        (BackupMethod::VolumeSnapshot, found) => {
            volume_snapshot::abandon(ctx, backup, status, found.map(|(endpoint, _)| endpoint)).await
        }
        (BackupMethod::Snapshot, None) => Ok(()),
    };
    match result {
        Ok(()) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) => tracing::warn!(%error, "backup not cancelled"),
    }
}

/// Id of an attempt, as upload or barrier: the UID, so that a restarted operator finds what it began; further attempts
/// need further names.
fn attempt_id(uid: &str, attempt: u32) -> String {
    if attempt <= 1 { uid.to_owned() } else { format!("{uid}-{attempt}") }
}

fn uid(backup: &StoreBackup) -> Result<String, ReconcileError> {
    backup.uid().ok_or(ReconcileError::Incomplete { kind: "StoreBackup", field: "metadata.uid" })
}

fn has_finalizer(backup: &StoreBackup) -> bool {
    backup.finalizers().iter().any(|finalizer| finalizer == names::BACKUP_FINALIZER)
}

async fn set_finalizer(ctx: &Context, backup: &StoreBackup, wanted: bool) -> Result<(), ReconcileError> {
    let mut finalizers = backup.finalizers().to_vec();
    finalizers.retain(|finalizer| finalizer != names::BACKUP_FINALIZER);
    if wanted {
        finalizers.push(names::BACKUP_FINALIZER.to_owned());
    }
    let name = backup.name_any();
    let api: Api<StoreBackup> = Api::namespaced(ctx.client.clone(), &backup.namespace().unwrap_or_default());
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": backup.resource_version()}});
    api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.map_err(ReconcileError::call(
        "set the finalizers of",
        "StoreBackup",
        &name,
    ))?;
    Ok(())
}

/// `status` with `verdicts` merged in.
fn with_verdicts(
    backup: &StoreBackup,
    mut status: StoreBackupStatus,
    verdicts: Vec<Verdict>,
    now: Timestamp,
) -> StoreBackupStatus {
    status.observed_generation = backup.metadata.generation;
    status.conditions = conditions::merge(&status.conditions, verdicts, backup.metadata.generation, now);
    status
}

/// Writes `status` with `verdicts` merged in, if that changes anything.
async fn write(
    ctx: &Context,
    backup: &StoreBackup,
    status: StoreBackupStatus,
    verdicts: Vec<Verdict>,
    now: Timestamp,
) -> Result<(), ReconcileError> {
    let status = with_verdicts(backup, status, verdicts, now);
    if backup.status.as_ref() == Some(&status) {
        return Ok(());
    }
    replace_status(ctx, backup, status).await
}

async fn replace_status(
    ctx: &Context,
    backup: &StoreBackup,
    status: StoreBackupStatus,
) -> Result<(), ReconcileError> {
    let name = backup.name_any();
    let api: Api<StoreBackup> = Api::namespaced(ctx.client.clone(), &backup.namespace().unwrap_or_default());
    let mut changed = backup.clone();
    changed.status = Some(status);
    changed.metadata.managed_fields = None;
    api.replace_status(&name, &post_params(), &changed).await.map_err(ReconcileError::call(
        "write the status of",
        "StoreBackup",
        &name,
    ))?;
    Ok(())
}

fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn time(ms: u64) -> Time {
    Time(time_of_ms(ms).unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupted_attempts_come_slower_and_slower() {
        let status = |attempts| StoreBackupStatus { attempts, ..StoreBackupStatus::default() };
        assert_eq!(pause_after(&status(None), &status(None)), WHILE_RUNNING);
        assert_eq!(pause_after(&status(Some(1)), &status(Some(2))), WHILE_RUNNING * 4);
        assert_eq!(pause_after(&status(Some(2)), &status(Some(3))), WHILE_RUNNING * 8);
        assert_eq!(pause_after(&status(Some(40)), &status(Some(41))), INTERRUPTED_MAX);
    }

    #[test]
    fn every_attempt_has_an_id_of_its_own() {
        assert_eq!(attempt_id("u", 1), "u");
        assert_eq!(attempt_id("u", 2), "u-2");
    }
}
