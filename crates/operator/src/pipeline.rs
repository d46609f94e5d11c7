//! One look at an object of any kind: the stages in their order, and nothing that depends on the kind.
//!
//! ```text
//!   validate ─▶ observe ─▶ decide ─▶ apply ─▶ status_after ─▶ written if it changes, told in events ─▶ pause
//!   pure        I/O        pure      I/O      pure                                                     pure
//!   Valid       Facts      Plan      Done     Status
//! ```
//!
//! Each stage takes what the stages before it return, and none can be left out: a status needs an [`Applied`], which only
//! this module makes of what [`Kind::apply`] returned. Deletion is no exception: what must be done before an object vanishes is
//! a plan like any other.
//!
//! Most looks find nothing to do. So the same stages run first upon what the watches have brought: when they come to nothing
//! to do and to the status that is there, that was it. Anything else is decided again upon live reads; nothing is written upon
//! a cache.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::core::object::HasStatus;
use kube::runtime::controller::Action;
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::conditions::Verdict;
use crate::caches::Caches;
use crate::context::{Context, ReconcileError};
use crate::events::Note;
use crate::packed::Keep;
use crate::reconcile::apply::post_params;
use crate::reconcile::observe::NamedKind;
use crate::reconcile::validate::Defaults;
use crate::spread::spread;

/// A kind that the operator looks after.
pub trait Kind:
    Keep<Scope = NamespaceResourceScope>
    + NamedKind
    + HasStatus<Status: Clone + PartialEq + Serialize + Send + Sync>
    + Clone
    + Debug
    + Send
    + Sync
    + 'static
{
    /// The spec with its defaults; later stages read nothing else of it.
    type Valid: Send + Sync;
    /// What was observed.
    type Facts: Send + Sync;
    /// What is to be done.
    type Plan: Send;
    /// What was done, and what came of it.
    type Done: Send + Sync;

    /// Pure. Takes every field of the spec, so that one that nobody reads does not compile.
    fn validate(&self, defaults: &Defaults, now: Timestamp) -> Self::Valid;

    /// Reads what is decided upon.
    fn observe(
        &self,
        ctx: &Context,
        valid: &Self::Valid,
        now: Timestamp,
    ) -> impl Future<Output = Result<Self::Facts, ReconcileError>> + Send;

    /// Pure.
    fn decide(&self, valid: &Self::Valid, facts: &Self::Facts, now: Timestamp) -> Self::Plan;

    /// Carries out `plan`. May be interrupted anywhere: the next look sees what is there.
    fn apply(
        &self,
        ctx: &Context,
        valid: &Self::Valid,
        facts: &Self::Facts,
        plan: Self::Plan,
        now: Timestamp,
    ) -> impl Future<Output = Result<Self::Done, ReconcileError>> + Send;

    /// Pure. Absent when nothing is to be said, or `apply` has written the object.
    fn status_after(
        &self,
        valid: &Self::Valid,
        facts: &Self::Facts,
        applied: &Applied<Self::Done>,
        now: Timestamp,
    ) -> Option<Self::Status>;

    /// Pure. The events of the change from the object's status to `new`.
    fn notes(&self, new: &Self::Status) -> Vec<Note>;

    /// Pure. The pause before the next look; absent: until something changes.
    fn pause(&self, facts: &Self::Facts, applied: &Applied<Self::Done>, now: Timestamp) -> Option<Duration>;

    /// Pure. The condition that says that looking at an object fails; the next good look sets it again. Not asked for when the
    /// object has ended, for then no look does.
    fn failed(message: String) -> Verdict;

    /// The object as its watch has brought it.
    fn cached(caches: &Caches, namespace: &str, name: &str) -> Option<Self>;

    /// The facts about a cached object; absent when they cannot be enough to say that nothing is to be done.
    fn observe_cached(
        &self,
        ctx: &Context,
        caches: &Caches,
        valid: &Self::Valid,
    ) -> impl Future<Output = Option<Self::Facts>> + Send;

    /// What `plan` comes to when nothing is to be done for it; absent when something is.
    fn nothing(
        &self,
        ctx: &Context,
        valid: &Self::Valid,
        facts: &Self::Facts,
        plan: Self::Plan,
    ) -> Option<Self::Done>;

    /// Tells metrics, and what else is kept in memory, how the object stands.
    fn note(&self, _ctx: &Context, _applied: &Applied<Self::Done>, _status: &Self::Status) {}

    /// Forgets what is kept in memory of an object that is gone.
    fn forget(_ctx: &Context, _namespace: &str, _name: &str) {}
}

/// What was done: made here alone, from what [`Kind::apply`] returned.
#[derive(Debug)]
pub struct Applied<T>(T);

impl<T> Applied<T> {
    /// What was done.
    #[must_use]
    pub fn done(&self) -> &T {
        &self.0
    }

    /// As if `done` had been done: for golden files, which show what would be said then.
    #[must_use]
    pub fn supposed(done: T) -> Self {
        Self(done)
    }
}

/// Looks once at the object `namespace/name`.
/// # Errors
/// The API did not answer, refused, or another writer was faster. Nothing has to be undone.
pub(crate) async fn reconcile<K: Kind>(
    ctx: &Context,
    namespace: &str,
    name: &str,
) -> Result<Action, ReconcileError> {
    if let Some(caches) = &ctx.caches
        && let Some(action) = Box::pin(look::<K>(ctx, caches, namespace, name)).await
    {
        return Ok(action);
    }
    let api: Api<K> = Api::namespaced(ctx.client.clone(), namespace);
    let live = api.get_opt(name).await.map_err(ReconcileError::call("read", K::KIND_NAME, name))?;
    let Some(object) = live else {
        K::forget(ctx, namespace, name);
        return Ok(Action::await_change());
    };
    let now = Timestamp::now();
    let valid = object.validate(&ctx.defaults, now);
    // Boxed: they hold a dozen objects, and the stack of a worker thread is small.
    let facts = Box::pin(object.observe(ctx, &valid, now)).await?;
    let plan = object.decide(&valid, &facts, now);
    let applied = Applied(Box::pin(object.apply(ctx, &valid, &facts, plan, now)).await?);
    if let Some(new) = object.status_after(&valid, &facts, &applied, now) {
        object.note(ctx, &applied, &new);
        report(ctx, &object, new).await?;
    }
    Ok(action(object.pause(&facts, &applied, now)))
}

/// The look at an object with which all is as it was, as far as the caches know; absent otherwise.
async fn look<K: Kind>(ctx: &Context, caches: &Caches, namespace: &str, name: &str) -> Option<Action> {
    if !caches.are_filled().await {
        return None;
    }
    let object = K::cached(caches, namespace, name)?;
    if object.meta().deletion_timestamp.is_some() {
        return None;
    }
    let now = Timestamp::now();
    let valid = object.validate(&ctx.defaults, now);
    let facts = object.observe_cached(ctx, caches, &valid).await?;
    let plan = object.decide(&valid, &facts, now);
    let applied = Applied(object.nothing(ctx, &valid, &facts, plan)?);
    if let Some(status) = object.status_after(&valid, &facts, &applied, now) {
        if object.status() != Some(&status) {
            return None;
        }
        object.note(ctx, &applied, &status);
    }
    Some(action(object.pause(&facts, &applied, now)))
}

fn action(pause: Option<Duration>) -> Action {
    pause.map_or_else(Action::await_change, |pause| Action::requeue(spread(pause)))
}

/// Writes the status if it has changed, and says so in events.
async fn report<K: Kind>(ctx: &Context, object: &K, new: K::Status) -> Result<(), ReconcileError> {
    if object.status() == Some(&new) {
        return Ok(());
    }
    let notes = object.notes(&new);
    replace_status(ctx, object, new).await?;
    for note in notes {
        tracing::info!(reason = note.reason, note = note.text, "condition changed");
        ctx.events.publish(object, note).await;
    }
    Ok(())
}

/// Replaces the status of `object`, unless it has changed since it was read.
/// # Errors
/// The API did not answer, refused, or has dropped what its definition of the kind does not know: what is not recorded must not be
/// acted upon.
pub(crate) async fn replace_status<K: Kind>(
    ctx: &Context,
    object: &K,
    status: K::Status,
) -> Result<(), ReconcileError> {
    let name = object.name_any();
    let api: Api<K> = Api::namespaced(ctx.client.clone(), &object.namespace().unwrap_or_default());
    let mut changed = object.clone();
    *changed.status_mut() = Some(status);
    changed.meta_mut().managed_fields = None;
    let replaced = api.replace_status(&name, &post_params(), &changed).await;
    let replaced = replaced.map_err(ReconcileError::call("write the status of", K::KIND_NAME, &name))?;
    match dropped_field(&status_fields(&changed), &status_fields(&replaced)) {
        Some(field) => Err(ReconcileError::OldDefinition { kind: K::KIND_NAME, field: field.to_owned() }),
        None => Ok(()),
    }
}

fn status_fields<K: Kind>(object: &K) -> Value {
    serde_json::to_value(object.status()).unwrap_or_default()
}

/// The first field of `written` that is not in `kept`. Of those within fields the API may change the form.
fn dropped_field<'a>(written: &'a Value, kept: &Value) -> Option<&'a str> {
    let fields = written.as_object()?.keys();
    fields.map(String::as_str).find(|field| kept.get(field).is_none())
}

/// Adds `finalizer` to `object`, or takes it away, unless it has changed since it was read.
pub(crate) async fn set_finalizer<K: Kind>(
    ctx: &Context,
    object: &K,
    finalizer: &str,
    wanted: bool,
) -> Result<(), ReconcileError> {
    let mut finalizers = object.finalizers().to_vec();
    finalizers.retain(|other| other != finalizer);
    if wanted {
        finalizers.push(finalizer.to_owned());
    }
    let name = object.name_any();
    let api: Api<K> = Api::namespaced(ctx.client.clone(), &object.namespace().unwrap_or_default());
    // The list is replaced whole, so it must be the one that was read.
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": object.resource_version()}});
    let patched = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.map_err(ReconcileError::call("set the finalizers of", K::KIND_NAME, &name))?;
    Ok(())
}
