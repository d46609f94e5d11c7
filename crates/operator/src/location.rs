//! The reconcile of a BackupLocation: probe it from time to time, say what was found.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::Api;
use kube::runtime::controller::Action;

use crate::api::conditions::{self, Verdict, kind, reason};
use crate::api::v1alpha1::{BackupLocation, BackupLocationStatus};
use crate::caches;
use crate::context::{Context, ReconcileError};
use crate::events::Note;
use crate::reconcile::apply::post_params;
use crate::reconcile::plan::identity::bucket_of;
use crate::spread::spread;

/// Between probes of a location that works. Nothing else notices a changed Secret, for watching one would need the right to
/// list all; a probe costs a few requests.
const WHILE_AVAILABLE: Duration = Duration::from_secs(60);
/// Between probes of one that does not: the remedy (a Secret, a bucket, a key) is seen by nothing else.
const WHILE_UNAVAILABLE: Duration = Duration::from_secs(15);

/// Probes the BackupLocation `namespace/name` once.
/// # Errors
/// The API did not answer, refused, or another writer was faster. A bucket that does not answer is a condition.
pub async fn reconcile(ctx: &Context, namespace: &str, name: &str) -> Result<Action, ReconcileError> {
    let api: Api<BackupLocation> = Api::namespaced(ctx.client.clone(), namespace);
    // A location that is behind is no harm: what is written carries its version.
    let known = ctx.caches.as_ref().and_then(|caches| caches::get(&caches.locations, namespace, name));
    let location = match known {
        Some(known) => Some(known),
        None => api.get_opt(name).await.map_err(ReconcileError::call("read", "BackupLocation", name))?,
    };
    let Some(location) = location.filter(|location| location.metadata.deletion_timestamp.is_none()) else {
        return Ok(Action::await_change());
    };
    let secret = &location.spec.credentials_secret_ref.name;
    let found = match ctx.secret_data(namespace, secret).await? {
        Ok(credentials) => ctx.buckets.probe(&bucket_of(&location), &credentials).await,
        Err(problem) => Err(problem),
    };
    let verdict = match found {
        Ok(()) => Verdict::yes(
            kind::AVAILABLE,
            reason::PROBE_SUCCEEDED,
            "a small object can be written and is read back",
        ),
        Err(problem) => Verdict::no(kind::AVAILABLE, problem.reason, problem.message),
    };
    let is_available = verdict.status == "True";
    let old = location.status.clone().unwrap_or_default();
    let is_news = conditions::find(&old.conditions, kind::AVAILABLE)
        .is_none_or(|condition| condition.status != verdict.status || condition.reason != verdict.reason);
    let note = if is_available {
        Note::normal(&verdict.reason, verdict.message.clone())
    } else {
        Note::warning(&verdict.reason, verdict.message.clone())
    };
    let generation = location.metadata.generation;
    let new = BackupLocationStatus {
        observed_generation: generation,
        conditions: conditions::merge(&old.conditions, vec![verdict], generation, Timestamp::now()),
    };
    if location.status.as_ref() != Some(&new) {
        let mut changed = location.clone();
        changed.status = Some(new);
        changed.metadata.managed_fields = None;
        api.replace_status(name, &post_params(), &changed).await.map_err(ReconcileError::call(
            "write the status of",
            "BackupLocation",
            name,
        ))?;
    }
    if is_news {
        ctx.events.publish(&location, note).await;
    }
    tracing::debug!(location = location.name_any(), is_available, "probed");
    Ok(Action::requeue(spread(if is_available { WHILE_AVAILABLE } else { WHILE_UNAVAILABLE })))
}
