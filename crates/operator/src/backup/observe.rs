//! Reads what one look at a StoreBackup is decided upon. What the state of the backup makes unneeded is not read: a backup
//! that waits costs two requests.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::facts::{Facts, SnapshotFact};
use super::plan::{self, Obstacle};
use super::{Method, ValidatedBackup, attempt, has_finalizer, volume_snapshot};
use crate::api::conditions::{self, kind, reason};
use crate::api::v1alpha1::{BackupLocation, Store, StoreBackup, StoreBackupStatus};
use crate::context::{Context, ReconcileError};
use crate::names;
use crate::reconcile::build::claim;
use crate::reconcile::facts::Children;
use crate::reconcile::observe::{endpoint, read};
use crate::reconcile::plan::identity::bucket_of;
use crate::server_client::Endpoint;

/// Reads the facts about `backup`.
/// # Errors
/// The API did not answer. A server that does not answer is a fact.
pub(super) async fn observe(
    ctx: &Context,
    backup: &StoreBackup,
    valid: &ValidatedBackup,
    now: Timestamp,
) -> Result<Facts, ReconcileError> {
    let status = backup.status.clone().unwrap_or_default();
    let namespace = valid.namespace.as_str();
    let mut facts = Facts::default();
    if backup.metadata.deletion_timestamp.is_some() {
        if has_finalizer(backup) {
            observe_remains(ctx, valid, &status, &mut facts).await;
        }
        return Ok(facts);
    }
    if status.completion_time.is_some() {
        if let Some(name) = &status.location {
            facts.location = read::<BackupLocation>(ctx, namespace, name.clone()).await?;
            observe_presence(ctx, valid, &status, &mut facts).await?;
        }
        return Ok(facts);
    }
    let has_begun = status.start_time.is_some();
    let is_late = plan::is_late(backup, valid, now);
    if is_late && !has_begun {
        return Ok(facts);
    }
    facts.store = read::<Store>(ctx, namespace, valid.store.clone()).await?;
    if !has_begun && !facts.store.as_ref().is_some_and(plan::is_ready) {
        return Ok(facts);
    }
    (facts.endpoint, facts.pod) = find_server(ctx, valid).await?;
    match &valid.method {
        Method::Snapshot => observe_upload(ctx, valid, &status, is_late, &mut facts).await?,
        Method::VolumeSnapshot { .. } if has_begun => {
            match facts.endpoint {
                Some(_) => facts.snapshot = observe_snapshot(ctx, valid, &status, is_late).await?,
                // Then it matters only when the backup ends.
                None if is_late => observe_remains(ctx, valid, &status, &mut facts).await,
                None => {}
            }
        }
        Method::VolumeSnapshot { .. } => {}
    }
    Ok(facts)
}

/// The time until the ended backup is looked for in its bucket; zero: now. Absent when it does not lie where its location points,
/// or has not succeeded.
pub(super) fn time_to_check(
    ctx: &Context,
    valid: &ValidatedBackup,
    status: &StoreBackupStatus,
    location: Option<&BackupLocation>,
) -> Option<Duration> {
    let is_there = plan::usability(status, location, None).is_some_and(|found| found.is_at_its_place());
    if !is_there || status.path.is_none() {
        return None;
    }
    // Nobody has looked while its location named another place.
    let was_elsewhere = conditions::find(&status.conditions, kind::READY_TO_USE).is_some_and(|ready| {
        matches!(ready.reason.as_str(), reason::LOCATION_CHANGED | reason::LOCATION_NOT_FOUND)
    });
    let left = ctx.checks.left(&valid.namespace, &valid.name, Instant::now());
    Some(if was_elsewhere { Duration::ZERO } else { left })
}

/// Looks for the ended backup in its bucket, when it is due. A bucket that does not say proves nothing, and is asked again as
/// late as any other.
async fn observe_presence(
    ctx: &Context,
    valid: &ValidatedBackup,
    status: &StoreBackupStatus,
    facts: &mut Facts,
) -> Result<(), ReconcileError> {
    facts.next_check = time_to_check(ctx, valid, status, facts.location.as_ref());
    let is_due = facts.next_check == Some(Duration::ZERO);
    let (true, Some(location), Some(place), Some(path)) =
        (is_due, &facts.location, &status.place, &status.path)
    else {
        return Ok(());
    };
    let secret = &location.spec.credentials_secret_ref.name;
    match ctx.secret_data(&valid.namespace, secret).await? {
        Ok(credentials) => {
            let found = ctx.buckets.find_backup(&place.within(bucket_of(location)), &credentials, path).await;
            match found {
                Ok(presence) => facts.presence = Some(presence),
                Err(problem) => {
                    tracing::debug!(
                        problem = problem.message,
                        "bucket did not say whether it has the backup"
                    );
                }
            }
        }
        Err(problem) => tracing::debug!(problem = problem.message, "backup not looked for"),
    }
    facts.next_check = Some(ctx.checks.done(&valid.namespace, &valid.name, Instant::now()));
    Ok(())
}

async fn find_server(
    ctx: &Context,
    valid: &ValidatedBackup,
) -> Result<(Option<Endpoint>, Option<Pod>), ReconcileError> {
    let (pod, auth) = tokio::try_join!(
        read::<Pod>(ctx, &valid.namespace, names::pod(&valid.store)),
        read::<Secret>(ctx, &valid.namespace, names::auth_secret(&valid.store)),
    )?;
    Ok((endpoint(&Children { auth, ..Children::default() }, pod.as_ref()), pod))
}

/// What an upload is decided upon: where it goes, whose it is, what the server is doing.
async fn observe_upload(
    ctx: &Context,
    valid: &ValidatedBackup,
    status: &StoreBackupStatus,
    is_late: bool,
    facts: &mut Facts,
) -> Result<(), ReconcileError> {
    if is_late {
        if let Some(endpoint) = &facts.endpoint {
            let id = valid.attempt_id(attempt(status));
            match ctx.servers.find_backup(endpoint, &id).await {
                Ok(progress) => facts.upload = Some(progress),
                Err(error) => tracing::debug!(%error, "backup not found after its deadline"),
            }
        }
        return Ok(());
    }
    let Some(store) = &facts.store else { return Ok(()) };
    if let Some(name) = plan::location_name(status, store) {
        facts.location = read::<BackupLocation>(ctx, &valid.namespace, name.to_owned()).await?;
    }
    let is_asked = status.start_time.is_some() && status.place.is_some() && facts.location.is_some();
    let Some(endpoint) = facts.endpoint.as_ref().filter(|_| is_asked) else { return Ok(()) };
    let server = ctx.servers.status(endpoint).await;
    facts.server = Some(server.map(|server| server.state).map_err(Obstacle::from));
    if let Some(Ok(_)) = &facts.server {
        let name = names::claim(&valid.store);
        let claim = read::<PersistentVolumeClaim>(ctx, &valid.namespace, name).await?;
        let uid = store.uid().unwrap_or_default();
        facts.former_owners = claim.map(|claim| claim::former_owners(&claim, &uid)).unwrap_or_default();
    }
    Ok(())
}

async fn observe_snapshot(
    ctx: &Context,
    valid: &ValidatedBackup,
    status: &StoreBackupStatus,
    is_late: bool,
) -> Result<SnapshotFact, ReconcileError> {
    let name = valid.snapshot_name(status);
    let live = ctx.volume_snapshots(&valid.namespace).get_opt(&name).await;
    match live.map_err(ReconcileError::call("read", "VolumeSnapshot", &name))? {
        Some(object) => Ok(SnapshotFact::There(volume_snapshot::read_state(&object))),
        None if is_late || ctx.has_volume_snapshots(&valid.namespace).await? => Ok(SnapshotFact::Absent),
        None => Ok(SnapshotFact::Unavailable),
    }
}

/// What is left to end, as far as it can be found: nothing keeps a backup that shall go.
async fn observe_remains(
    ctx: &Context,
    valid: &ValidatedBackup,
    status: &StoreBackupStatus,
    facts: &mut Facts,
) {
    if status.start_time.is_none() || status.completion_time.is_some() {
        return;
    }
    match find_server(ctx, valid).await {
        Ok((endpoint, pod)) => (facts.endpoint, facts.pod) = (endpoint, pod),
        Err(error) => tracing::warn!(%error, "backup not cancelled"),
    }
    if plan::unreleased(status).is_some() && matches!(valid.method, Method::VolumeSnapshot { .. }) {
        match observe_snapshot(ctx, valid, status, true).await {
            Ok(snapshot) => facts.snapshot = snapshot,
            Err(error) => tracing::warn!(%error, "unfinished VolumeSnapshot not found"),
        }
    }
}
