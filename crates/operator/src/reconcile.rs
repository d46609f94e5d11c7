//! The reconcile of a Store: the steps in order, no decisions of its own.
//!
//! ```text
//!   observe ─▶ validate ─▶ identify ─▶ build ─▶ next_step ─▶ apply ─▶ status
//!   I/O        pure        pure        pure     pure         I/O      pure, then one patch
//! ```
//!
//! A reconcile never asks why it was called and remembers nothing. It does at most one step and is called again at once.
//!
//! Most looks find nothing to do. So the same decisions are made first upon what the watches have brought: when these come to
//! no step and to the status that is there, that was it, and the API is not asked. Anything else is decided again upon live
//! reads; nothing is written upon a cache.

pub mod apply;
pub mod build;
pub mod facts;
mod finalize;
mod managed;
pub mod observe;
mod ownership;
pub mod plan;
pub mod rendering;
pub mod status;
pub mod update;
pub mod validate;
pub mod window;

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_contract::record::Origin;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::Api;
use kube::runtime::controller::Action;

use crate::api::conditions::{self, kind, reason};
use crate::api::v1alpha1::{Store, StoreStatus};
use crate::caches::{self, Caches};
use crate::context::{Context, ReconcileError};
use crate::events::Note;
use crate::names;
use crate::spread::spread;
use apply::{Applied, Work};
use build::{Desired, Inputs, MountedLocation, stateful_set::mounted_locations};
use facts::Facts;
use ownership::{foreign_pod, verify_children};
use plan::identity::{Identified, Known, identify, location_of_dir};
use plan::{Plan, Step, Unchanged};
use rendering::Rendering;
use update::HeldBy;
use validate::{ValidatedStore, validate};

/// After a step: at once, as the next one may be due.
const AFTER_STEP: Duration = Duration::from_millis(50);
/// After telling the server something: it needs a moment, and may not do it at once.
const AFTER_MESSAGE: Duration = Duration::from_secs(1);
/// While something is on its way that no watch reports, such as a server that loads; longer when that lasts.
const WHILE_WAITING: Duration = Duration::from_secs(2);
/// While a person must act: the remedy may be something that no watch reports either.
const WHILE_STALLED: Duration = Duration::from_secs(15);
/// Waiting for these takes hours, and a watch or the clock ends it.
const AWAITED: [&str; 2] = [reason::UPDATE_AWAITS_APPROVAL, reason::UPDATE_AWAITS_WINDOW];
/// When all is well: a look at what the server says of itself, and for missed events.
const WHEN_SETTLED: Duration = Duration::from_secs(30);

/// Reconciles the Store `namespace/name` once.
/// # Errors
/// The API did not answer, refused, or another writer was faster. Nothing has to be undone.
pub async fn reconcile(ctx: &Context, namespace: &str, name: &str) -> Result<Action, ReconcileError> {
    if let Some(caches) = &ctx.caches {
        if let Some(action) = Box::pin(look(ctx, caches, namespace, name)).await {
            return Ok(action);
        }
        caches.forget_secret(namespace, &names::auth_secret(name));
    }
    let stores: Api<Store> = Api::namespaced(ctx.client.clone(), namespace);
    let live = stores.get_opt(name).await.map_err(ReconcileError::call("read", "Store", name))?;
    let Some(store) = live else {
        ctx.metrics.forget_store(namespace, name);
        ctx.restarts.forget(namespace, name);
        return Ok(Action::await_change());
    };
    if store.metadata.deletion_timestamp.is_some() {
        finalize::finalize(ctx, &store).await?;
        ctx.metrics.forget_store(namespace, name);
        ctx.restarts.forget(namespace, name);
        return Ok(Action::await_change());
    }

    let now = Timestamp::now();
    let (valid, refused) = match validate(&store, &ctx.defaults, now) {
        Ok(valid) => (Some(valid), None),
        Err(refusals) => (None, Some(plan::refused(&refusals))),
    };
    ctx.restarts.note_failed_image(namespace, name, valid.as_ref().and_then(failed_image));
    // Boxed: it holds a dozen objects, and the stack of a worker thread is small.
    let facts = Box::pin(observe::observe(ctx, &store, valid.as_ref())).await?;
    let mut unchanged = Vec::new();
    let applied = loop {
        let mut decision = match &valid {
            Some(valid) => decide(&store, valid, &facts, now, &unchanged),
            None => Decision::default(),
        };
        decision.plan.holds.extend(refused.clone());
        let Decision { plan, known, desired } = decision;
        let work = Work {
            store: &store,
            valid: valid.as_ref(),
            known: known.as_ref(),
            desired: desired.as_ref(),
            facts: &facts,
        };
        let applied = apply::apply(ctx, &work, plan).await?;
        // Objects that only look different are current; go on with the others. Each turn adds to the list, so it ends.
        if applied.unchanged().iter().all(|kind| unchanged.contains(kind)) {
            break applied;
        }
        unchanged.extend_from_slice(applied.unchanged());
    };
    let plan = applied.plan();
    let wrote_status = matches!(plan.step, Some(Step::Record(_) | Step::SetFinalizer(_)));
    if !wrote_status {
        let new = status::status(&store, valid.as_ref(), &facts, &applied, now);
        if plan.step.is_none() && conditions::is_true(&new.conditions, kind::READY) {
            ctx.restarts.leave(namespace, name);
        }
        report(ctx, &store, new).await?;
    }
    Ok(Action::requeue(spread(delay(plan, &facts, &store, now))))
}

/// The pause until the next look at a Store with which all is as it was, as far as the caches know; absent otherwise.
async fn look(ctx: &Context, caches: &Caches, namespace: &str, name: &str) -> Option<Action> {
    if !caches.are_filled().await {
        return None;
    }
    let store = caches::get(&caches.stores, namespace, name)?;
    let now = Timestamp::now();
    let valid = validate(&store, &ctx.defaults, now).ok()?;
    if store.metadata.deletion_timestamp.is_some() || valid.held_update.is_some() {
        return None;
    }
    let facts = observe::observe_settled(ctx, caches, &store, &valid).await?;
    let Decision { mut plan, known: _, desired: _ } = decide(&store, &valid, &facts, now, &Vec::new());
    if let Some(step) = plan.step.take() {
        // Many wait for a turn at the same time; only who has it goes on.
        plan.holds.insert(0, apply::held_by_gate(ctx, &valid, &facts, &step)?);
    }
    let applied = Applied::nothing(plan)?;
    let status = status::status(&store, Some(&valid), &facts, &applied, now);
    if store.status.as_ref() != Some(&status) {
        return None;
    }
    report_metrics(ctx, &store, &status);
    if conditions::is_true(&status.conditions, kind::READY) {
        ctx.restarts.leave(namespace, name);
    }
    Some(Action::requeue(spread(delay(applied.plan(), &facts, &store, now))))
}

/// The image that was taken back from the Store.
fn failed_image(valid: &ValidatedStore) -> Option<&str> {
    let held = valid.held_update.as_deref().filter(|held| matches!(held.why, HeldBy::Failure(_)))?;
    (valid.update.image != held.instead.update.image).then_some(valid.update.image.as_str())
}

/// What was decided, and what it was decided upon.
#[derive(Debug, Default)]
pub struct Decision {
    /// The step and the holds.
    pub plan: Plan,
    /// What is known of the data.
    pub known: Option<Known>,
    /// The objects.
    pub desired: Option<Desired>,
}

/// The pure middle of a reconcile. `unchanged`: what was applied a moment ago without changing anything.
#[must_use]
pub fn decide(
    store: &Store,
    valid: &ValidatedStore,
    facts: &Facts,
    now: Timestamp,
    unchanged: &Unchanged,
) -> Decision {
    let foreign = verify_children(store, &facts.children).err().or_else(|| foreign_pod(facts));
    if let Some(hold) = foreign {
        return Decision { plan: Plan::hold(hold), ..Decision::default() };
    }
    // A Store without a pod cannot go on with what it has.
    if !valid.refused.is_empty() && facts.children.stateful_set.is_none() {
        return Decision { plan: Plan::hold(plan::refused(&valid.refused)), ..Decision::default() };
    }
    let (known, hold) = if valid.storage.is_some() {
        match identify(store, valid, facts, now) {
            Identified::Known(known, hold) => (Some(*known), hold),
            Identified::Step(step) => return Decision { plan: Plan::step(step), ..Decision::default() },
            Identified::Hold(hold) => return Decision { plan: Plan::hold(hold), ..Decision::default() },
        }
    } else {
        (None, None)
    };
    let inputs = Inputs {
        rendering: Rendering::CURRENT,
        kept: None,
        record: known.as_ref().map(Known::record),
        auth_revision: plan::auth_revision(facts),
        locations: locations(valid, known.as_ref(), store.status.as_ref(), facts),
        claim_templates: facts
            .children
            .stateful_set
            .as_ref()
            .and_then(|set| set.spec.volume_claim_templates.clone()),
    };
    let (inputs, desired) = rendering::build_in_force(store, valid, known.as_ref(), inputs, facts);
    let mut plan = plan::next_step(store, valid, known.as_ref(), &inputs, &desired, facts, now, unchanged);
    if let Some(hold) = hold {
        plan.holds.insert(0, hold);
    }
    plan.holds.extend(valid.held_update.as_deref().map(|held| plan::update::hold(valid, held)));
    Decision { plan, known, desired: Some(desired) }
}

/// The locations whose credentials the pod mounts: that of the spec, that of the first volume's backup, that of a restore
/// under way. A location that is missing for now keeps its mount, so that nothing restarts for it.
fn locations(
    valid: &ValidatedStore,
    known: Option<&Known>,
    status: Option<&StoreStatus>,
    facts: &Facts,
) -> Vec<MountedLocation> {
    let mounted: BTreeMap<String, String> =
        facts.children.stateful_set.as_ref().map(mounted_locations).unwrap_or_default();
    let origin = known.and_then(|known| match &known.origin {
        Origin::Restore { plan } => location_of_dir(&plan.credentials_dir),
        Origin::Empty | Origin::Clone { .. } | Origin::Adopt => None,
    });
    let restore = status.and_then(|status| status.restore.as_ref()).map(|restore| restore.location.as_str());
    let mut locations: Vec<MountedLocation> = valid
        .backup_location
        .as_deref()
        .into_iter()
        .chain(origin)
        .chain(restore)
        .filter(|_| valid.storage.is_some())
        .filter_map(|name| {
            let live = facts.locations.get(name).and_then(Option::as_ref);
            let secret = live.map(|live| live.spec.credentials_secret_ref.name.clone());
            Some(MountedLocation {
                name: name.to_owned(),
                secret: secret.or_else(|| mounted.get(name).cloned())?,
            })
        })
        .collect();
    locations.sort();
    locations.dedup_by(|a, b| a.name == b.name);
    locations
}

fn delay(plan: &Plan, facts: &Facts, store: &Store, now: Timestamp) -> Duration {
    let is_stalled = plan.holds.iter().any(|hold| hold.stalled);
    if matches!(plan.step, Some(Step::SaveSnapshot)) && is_stalled {
        WHILE_STALLED
    } else if matches!(plan.step, Some(Step::SendRecord(_) | Step::SaveSnapshot)) {
        AFTER_MESSAGE
    } else if plan.step.is_some() {
        AFTER_STEP
    } else if is_stalled {
        WHILE_STALLED
    } else if status::readiness(facts).status != "True" {
        let conditions = store.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let not_ready = conditions::find(conditions, kind::READY).filter(|ready| ready.status != "True");
        while_not_ready(not_ready.map(|ready| ready.last_transition_time.0), now)
    } else if plan.holds.iter().any(|hold| !AWAITED.contains(&hold.reason.as_str())) {
        WHILE_WAITING
    } else {
        WHEN_SETTLED
    }
}

/// The pause before the next look at a Store that has not been ready since `since`: the longer that lasts, the longer. Each
/// pause is a share of what has passed, so they grow as if they doubled, and nothing has to be remembered for it.
fn while_not_ready(since: Option<Timestamp>, now: Timestamp) -> Duration {
    let lasted = since.map_or(0, |since| now.as_second() - since.as_second());
    Duration::from_secs(u64::try_from(lasted).unwrap_or(0) / 4).clamp(WHILE_WAITING, WHILE_STALLED)
}

fn report_metrics(ctx: &Context, store: &Store, status: &StoreStatus) {
    ctx.metrics.set_store(
        &store.namespace().unwrap_or_default(),
        &store.name_any(),
        conditions::is_true(&status.conditions, kind::READY),
        conditions::is_true(&status.conditions, kind::STALLED),
        status.backup.as_ref().and_then(|backup| Some(backup.last_success_time.as_ref()?.0.as_second())),
    );
}

/// Writes the status if it has changed, and says so in events and metrics.
async fn report(ctx: &Context, store: &Store, new: StoreStatus) -> Result<(), ReconcileError> {
    let old = store.status.clone().unwrap_or_default();
    report_metrics(ctx, store, &new);
    if new == old {
        return Ok(());
    }
    let notes = changes(&old, &new);
    apply::replace_status(ctx, store, new).await?;
    for note in notes {
        tracing::info!(reason = note.reason, note = note.text, "condition changed");
        ctx.events.publish(store, note).await;
    }
    Ok(())
}

/// An event for each condition whose status or reason has changed.
fn changes(old: &StoreStatus, new: &StoreStatus) -> Vec<Note> {
    new.conditions
        .iter()
        .filter_map(|condition| {
            let before = conditions::find(&old.conditions, &condition.type_);
            let is_same = before
                .is_some_and(|before| before.status == condition.status && before.reason == condition.reason);
            let is_bad = match condition.type_.as_str() {
                kind::STALLED => condition.status == "True",
                // A change of policy on its way is no bad news; the restart has an event of its own.
                kind::PERSISTENCE_HEALTHY => {
                    condition.status == "False" && condition.reason != reason::POLICY_PENDING
                }
                kind::READY => {
                    // What has just begun, and the way to a running server, are in the condition; only the ends are news.
                    let news =
                        condition.status == "True" || before.is_some_and(|before| before.status == "True");
                    return (!is_same && news).then(|| match condition.status.as_str() {
                        "True" => Note::normal("Ready", "clients are served"),
                        // Somebody, often the operator, wanted it so.
                        _ if condition.reason == reason::POD_TERMINATING => {
                            Note::normal(&condition.reason, condition.message.clone())
                        }
                        _ => Note::warning(&condition.reason, condition.message.clone()),
                    });
                }
                _ => false,
            };
            (!is_same && is_bad).then(|| Note::warning(&condition.reason, condition.message.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_not_ready_for_long_is_looked_at_less_often() {
        let check = |since: Option<i64>, expected: u64| {
            let at = |second| Timestamp::from_second(second).expect("a time");
            assert_eq!(
                while_not_ready(since.map(at), at(10_000)),
                Duration::from_secs(expected),
                "{since:?}"
            );
        };
        check(None, 2);
        check(Some(10_000), 2);
        check(Some(9_990), 2);
        check(Some(9_980), 5);
        check(Some(9_940), 15);
        check(Some(0), 15);
        // The clock of another operator was ahead.
        check(Some(10_100), 2);
    }
}
