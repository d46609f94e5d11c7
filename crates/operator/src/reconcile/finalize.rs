//! What must be done before a Store may vanish. Bounded: a dozen calls, no waiting for anything that the same deletion
//! removes.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Preconditions};

use super::apply::set_finalizer;
use super::observe::read_children;
use super::ownership::is_orphaned;
use super::plan::has_finalizer;
use crate::api::v1alpha1::{DeletionPolicy, Store};
use crate::context::{Context, ReconcileError, code};
use crate::events::Note;
use crate::names;

/// Finalizer that `kubectl delete --cascade=orphan` sets: everything of the object is to stay.
const ORPHAN_FINALIZER: &str = "orphan";

/// Deletes the claim under the policy DeleteVolumes, then lets the Store go. Without our finalizer there is nothing to do:
/// its children go by garbage collection, its claim stays.
/// # Errors
/// The API did not answer or refused.
pub(super) async fn finalize(ctx: &Context, store: &Store) -> Result<(), ReconcileError> {
    if !has_finalizer(&store.metadata) {
        return Ok(());
    }
    if store.spec.deletion_policy == DeletionPolicy::DeleteVolumes {
        if is_to_be_kept(ctx, store).await? {
            let text = "the Store is deleted with --cascade=orphan: its objects and its claim stay";
            ctx.events.publish(store, Note::normal("ClaimKept", text)).await;
        } else {
            delete_claim(ctx, store).await?;
        }
    }
    set_finalizer(ctx, store, false).await
}

/// Whether everything of the Store is to stay. The garbage collector takes its finalizer away as soon as it has let the
/// children go, so an operator that was away for a moment sees only these.
async fn is_to_be_kept(ctx: &Context, store: &Store) -> Result<bool, ReconcileError> {
    if store.finalizers().iter().any(|finalizer| finalizer == ORPHAN_FINALIZER) {
        return Ok(true);
    }
    let children = read_children(ctx, &store.namespace().unwrap_or_default(), &store.name_any()).await?;
    Ok(is_orphaned(store, &children))
}

/// Deletes the claim of this very Store, as it was looked at a moment ago.
async fn delete_claim(ctx: &Context, store: &Store) -> Result<(), ReconcileError> {
    let name = names::claim(&store.name_any());
    let api: Api<PersistentVolumeClaim> =
        Api::namespaced(ctx.client.clone(), &store.namespace().unwrap_or_default());
    let claim =
        api.get_opt(&name).await.map_err(ReconcileError::call("read", "PersistentVolumeClaim", &name))?;
    let Some(claim) = claim else { return Ok(()) };
    let store_id = store.status.as_ref().and_then(|status| status.store_id.as_ref());
    let is_ours = claim.annotations().get(names::key::STORE_UID) == store.uid().as_ref()
        && claim.labels().get(names::key::STORE_ID) == store_id;
    if !is_ours {
        let text = format!("claim {name:?} is not marked as this Store's; it is left as it is");
        ctx.events.publish(store, Note::warning("ClaimNotDeleted", text)).await;
        return Ok(());
    }
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: claim.uid(), resource_version: claim.resource_version() }),
        ..DeleteParams::default()
    };
    match api.delete(&name, &params).await {
        Ok(_) => {
            let text = format!("claim {name:?} is deleted, as spec.deletionPolicy says");
            ctx.events.publish(store, Note::normal("ClaimDeleted", text)).await;
            Ok(())
        }
        Err(error) if code(&error) == Some(404) => Ok(()),
        Err(error) => Err(ReconcileError::call("delete", "PersistentVolumeClaim", &name)(error)),
    }
}
