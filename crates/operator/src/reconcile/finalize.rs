//! What must be done before a Store may vanish. Bounded: a dozen calls, no waiting for anything that the same deletion
//! removes.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Preconditions};

use super::facts::Facts;
use super::observe::read_children;
use super::ownership::is_orphaned;
use super::plan::has_finalizer;
use crate::api::v1alpha1::{DeletionPolicy, Store};
use crate::context::{Context, ReconcileError, code};
use crate::events::Note;
use crate::names;
use crate::pipeline;

/// Finalizer that `kubectl delete --cascade=orphan` sets: everything of the object is to stay.
const ORPHAN_FINALIZER: &str = "orphan";

/// What is done before a Store vanishes. Its children go by garbage collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deletion {
    /// Nothing: without our finalizer the Store goes by itself, and its claim stays.
    Nothing,
    /// The finalizer goes; there is no claim to delete.
    LetGo,
    /// So it does here, since the Store is deleted with `--cascade=orphan`: its objects and its claim stay.
    KeepClaim,
    /// And here: the claim is not marked as this Store's.
    LeaveClaim,
    /// First the claim is deleted: this very one, as it was looked at.
    DeleteClaim {
        /// Its UID.
        uid: Option<String>,
        /// The version that was looked at.
        resource_version: Option<String>,
    },
}

/// Whether the claim may have to go: only then anything else must be known. Read from the raw spec, for a Store whose spec
/// is refused can be deleted too.
fn deletes_volumes(store: &Store) -> bool {
    has_finalizer(&store.metadata) && store.spec.deletion_policy == DeletionPolicy::DeleteVolumes
}

/// Reads what a deletion is decided upon.
/// # Errors
/// The API did not answer.
pub(super) async fn observe(ctx: &Context, store: &Store) -> Result<Facts, ReconcileError> {
    if !deletes_volumes(store) {
        return Ok(Facts::default());
    }
    let namespace = store.namespace().unwrap_or_default();
    let claim = names::claim(&store.name_any());
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(ctx.client.clone(), &namespace);
    Ok(Facts {
        children: read_children(ctx, &namespace, &store.name_any()).await?,
        claim: claims.get_opt(&claim).await.map_err(ReconcileError::call(
            "read",
            "PersistentVolumeClaim",
            &claim,
        ))?,
        ..Facts::default()
    })
}

/// Decides what is done before `store` vanishes: the claim goes under the policy DeleteVolumes, if it is the Store's.
#[must_use]
pub fn decide(store: &Store, facts: &Facts) -> Deletion {
    if !has_finalizer(&store.metadata) {
        return Deletion::Nothing;
    }
    if !deletes_volumes(store) {
        return Deletion::LetGo;
    }
    // The garbage collector takes its finalizer away as soon as it has let the children go, so an operator that was away for
    // a moment sees only these.
    let is_to_be_kept = store.finalizers().iter().any(|finalizer| finalizer == ORPHAN_FINALIZER);
    if is_to_be_kept || is_orphaned(store, &facts.children) {
        return Deletion::KeepClaim;
    }
    let Some(claim) = &facts.claim else { return Deletion::LetGo };
    let store_id = store.status.as_ref().and_then(|status| status.store_id.as_ref());
    let is_ours = claim.annotations().get(names::key::STORE_UID) == store.uid().as_ref()
        && claim.labels().get(names::key::STORE_ID) == store_id;
    if !is_ours {
        return Deletion::LeaveClaim;
    }
    Deletion::DeleteClaim { uid: claim.uid(), resource_version: claim.resource_version() }
}

/// The event of a deletion.
#[must_use]
pub fn note(store: &Store, deletion: &Deletion) -> Option<Note> {
    let name = names::claim(&store.name_any());
    match deletion {
        Deletion::Nothing | Deletion::LetGo => None,
        Deletion::KeepClaim => Some(Note::normal(
            "ClaimKept",
            "the Store is deleted with --cascade=orphan: its objects and its claim stay",
        )),
        Deletion::LeaveClaim => Some(Note::warning(
            "ClaimNotDeleted",
            format!("claim {name:?} is not marked as this Store's; it is left as it is"),
        )),
        Deletion::DeleteClaim { .. } => Some(Note::normal(
            "ClaimDeleted",
            format!("claim {name:?} is deleted, as spec.deletionPolicy says"),
        )),
    }
}

/// Does it, and lets the Store go.
/// # Errors
/// The API did not answer or refused.
pub(super) async fn apply(ctx: &Context, store: &Store, deletion: &Deletion) -> Result<(), ReconcileError> {
    let is_done = match deletion {
        Deletion::Nothing => return Ok(()),
        Deletion::LetGo | Deletion::KeepClaim | Deletion::LeaveClaim => true,
        Deletion::DeleteClaim { uid, resource_version } => {
            let name = names::claim(&store.name_any());
            let claims: Api<PersistentVolumeClaim> =
                Api::namespaced(ctx.client.clone(), &store.namespace().unwrap_or_default());
            let preconditions =
                Preconditions { uid: uid.clone(), resource_version: resource_version.clone() };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            match claims.delete(&name, &params).await {
                Ok(_) => true,
                Err(error) if code(&error) == Some(404) => false,
                Err(error) => {
                    return Err(ReconcileError::call("delete", "PersistentVolumeClaim", &name)(error));
                }
            }
        }
    };
    if let Some(note) = note(store, deletion).filter(|_| is_done) {
        ctx.events.publish(store, note).await;
    }
    pipeline::set_finalizer(ctx, store, names::STORE_FINALIZER, false).await
}
