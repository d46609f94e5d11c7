//! Carries out what was decided for a StoreBackup. Every call is idempotent or carries a precondition.

use kube::ResourceExt as _;
use kube::api::{DeleteParams, DynamicObject, Preconditions};

use super::ValidatedBackup;
use super::facts::Facts;
use super::plan::{Obstacle, Outcome, Plan, Remains, Setback, SnapshotId};
use super::volume_snapshot::Proof;
use crate::api::v1alpha1::StoreBackup;
use crate::context::{Context, ReconcileError, code};
use crate::names;
use crate::pipeline::set_finalizer;
use crate::reconcile::apply::post_params;
use crate::server_client::{Endpoint, ServerError};

impl From<ServerError> for Obstacle {
    fn from(error: ServerError) -> Self {
        Obstacle::Server(error.reason().to_owned(), error.to_string())
    }
}

/// Carries out `plan`.
/// # Errors
/// The API did not answer, or another writer was faster. What the server says is an outcome.
pub(super) async fn apply(
    ctx: &Context,
    backup: &StoreBackup,
    valid: &ValidatedBackup,
    facts: &Facts,
    plan: Plan,
) -> Result<Outcome, ReconcileError> {
    let no_server = || Outcome::Waiting(Obstacle::ServerMissing);
    let waiting = |error: ServerError| Outcome::Waiting(error.into());
    let endpoint = facts.endpoint.as_ref();
    match plan {
        Plan::Say(outcome) => Ok(outcome),
        Plan::AddFinalizer => {
            set_finalizer(ctx, backup, names::BACKUP_FINALIZER, true).await?;
            Ok(Outcome::FinalizerSet)
        }
        Plan::LetGo(remains) => {
            end(ctx, valid, endpoint, remains).await;
            set_finalizer(ctx, backup, names::BACKUP_FINALIZER, false).await?;
            let is_deleted = backup.metadata.deletion_timestamp.is_some();
            Ok(if is_deleted { Outcome::Rest } else { Outcome::FinalizerSet })
        }
        Plan::Upload(request) => {
            let Some(endpoint) = endpoint else { return Ok(no_server()) };
            let progress = ctx.servers.start_backup(endpoint, &request).await;
            Ok(progress.map_or_else(waiting, |progress| Outcome::Upload(Box::new(progress))))
        }
        Plan::TakeBarrier(attempt, request) => {
            let (Some(endpoint), Some(pod)) = (endpoint, &facts.pod) else { return Ok(no_server()) };
            let barrier = ctx.servers.take_barrier(endpoint, &request).await;
            Ok(barrier.map_or_else(waiting, |barrier| {
                Outcome::BarrierTaken(attempt, pod.name_any(), Box::new(barrier))
            }))
        }
        Plan::CreateSnapshot(object) => create_snapshot(ctx, valid, &object).await,
        Plan::Prove(proof, otherwise) => {
            let Some(endpoint) = endpoint else { return Ok(no_server()) };
            match (prove(ctx, endpoint, &proof).await, otherwise) {
                (Ok(true), _) => Ok(Outcome::Proven(proof)),
                // It is asked again, as long as there is time.
                (Err(error), Setback::Retry { .. }) => Ok(waiting(error)),
                (Ok(false) | Err(_), setback) => set_back(ctx, valid, Some(endpoint), setback).await,
            }
        }
        Plan::SetBack(setback) => set_back(ctx, valid, endpoint, setback).await,
    }
}

async fn create_snapshot(
    ctx: &Context,
    valid: &ValidatedBackup,
    object: &DynamicObject,
) -> Result<Outcome, ReconcileError> {
    match ctx.volume_snapshots(&valid.namespace).create(&post_params(), object).await {
        Ok(_) => Ok(Outcome::CuttingVolume(None)),
        Err(error) if code(&error) == Some(409) => Ok(Outcome::CuttingVolume(None)),
        Err(source) => {
            let error = ReconcileError::call("create", "VolumeSnapshot", &object.name_any())(source);
            let Some(message) = error.refusal() else { return Err(error) };
            Ok(Outcome::Waiting(Obstacle::ApiRefused(message)))
        }
    }
}

/// Releases the barrier; true when the cut is proven to lie within it.
async fn prove(ctx: &Context, endpoint: &Endpoint, proof: &Proof) -> Result<bool, ServerError> {
    match ctx.servers.release_barrier(endpoint, &proof.barrier.token).await {
        Ok(barrier) => Ok(proof.holds(barrier.expired)),
        // The server has restarted since: nobody knows when the barrier ended.
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

async fn set_back(
    ctx: &Context,
    valid: &ValidatedBackup,
    endpoint: Option<&Endpoint>,
    setback: Setback,
) -> Result<Outcome, ReconcileError> {
    match setback {
        Setback::Retry { barrier, snapshot, error } => {
            if let (Some(token), Some(endpoint)) = (barrier, endpoint)
                && let Err(error) = ctx.servers.release_barrier(endpoint, &token).await
            {
                tracing::debug!(%error, "barrier not released, it has ended by itself");
            }
            delete_snapshot(ctx, valid, &snapshot).await?;
            Ok(Outcome::Missed(snapshot.name, error))
        }
        Setback::Fail(remains, failure) => {
            end(ctx, valid, endpoint, remains).await;
            Ok(Outcome::Failed(failure))
        }
    }
}

/// Ends what runs, as far as it can be reached. One attempt, and nothing waits for it: a barrier ends by itself, and an upload
/// that ends well is one more good backup.
async fn end(ctx: &Context, valid: &ValidatedBackup, endpoint: Option<&Endpoint>, remains: Remains) {
    let Remains { upload, barrier, snapshot } = remains;
    if let Some(snapshot) = snapshot
        && let Err(error) = delete_snapshot(ctx, valid, &snapshot).await
    {
        tracing::warn!(%error, "unfinished VolumeSnapshot not deleted");
    }
    let Some(endpoint) = endpoint else { return };
    let mut results = Vec::new();
    if let Some(id) = upload {
        results.push(ctx.servers.cancel_backup(endpoint, &id).await.map(|_| ()));
    }
    if let Some(token) = barrier {
        results.push(ctx.servers.release_barrier(endpoint, &token).await.map(|_| ()));
    }
    for error in results.into_iter().filter_map(Result::err).filter(|error| !error.is_not_found()) {
        tracing::warn!(%error, "backup not cancelled");
    }
}

async fn delete_snapshot(
    ctx: &Context,
    valid: &ValidatedBackup,
    snapshot: &SnapshotId,
) -> Result<(), ReconcileError> {
    let preconditions = Preconditions { uid: snapshot.uid.clone(), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match ctx.volume_snapshots(&valid.namespace).delete(&snapshot.name, &params).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(code(&error), Some(404 | 409)) => Ok(()),
        Err(source) => Err(ReconcileError::call("delete", "VolumeSnapshot", &snapshot.name)(source)),
    }
}
