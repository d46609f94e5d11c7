//! The stages of a Store, in the order of [`crate::pipeline`].
//!
//! ```text
//!   validate ─▶ observe ─▶ verify ─▶ identify ─▶ build ─▶ next_step ─▶ apply ─▶ status
//!                          └────────────── decide ─────────────────┘
//! ```
//!
//! A reconcile never asks why it was called and remembers nothing. It does at most one step and is called again at once.

pub mod apply;
pub mod build;
pub mod facts;
pub mod finalize;
mod managed;
pub mod observe;
mod ownership;
pub mod plan;
pub mod rendering;
pub mod status;
mod trial;
pub mod update;
pub mod validate;
pub mod window;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use holdfast_contract::record::Origin;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;

use crate::api::conditions::{self, Verdict, kind, reason};
use crate::api::v1alpha1::{Store, StoreStatus};
use crate::caches::{self, Caches};
use crate::context::{Context, ReconcileError};
use crate::events::Note;
use crate::names;
use crate::pipeline::{self, Kind};
use apply::{Applied, Done, Work};
use build::{Desired, Inputs, MountedLocation, stateful_set::mounted_locations};
use facts::{Facts, Turn};
use finalize::Deletion;
use ownership::{foreign_pod, verify_children};
use plan::identity::{Identified, Known, identify, location_of_dir};
use plan::{Plan, Step, Unchanged};
use rendering::Rendering;
use update::HeldBy;
use validate::{Defaults, Refusal, ValidatedStore, validate};

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

/// A Store whose spec can be read, or what is wrong with it.
type Valid = Result<ValidatedStore, Vec<Refusal>>;

/// Reconciles the Store `namespace/name` once.
/// # Errors
/// The API did not answer, refused, or another writer was faster. Nothing has to be undone.
pub async fn reconcile(ctx: &Context, namespace: &str, name: &str) -> Result<Action, ReconcileError> {
    pipeline::reconcile::<Store>(ctx, namespace, name).await
}

impl Kind for Store {
    type Valid = Valid;
    type Facts = Facts;
    type Plan = Decision;
    type Done = Done;

    fn validate(&self, defaults: &Defaults, now: Timestamp) -> Valid {
        validate(self, defaults, now)
    }

    async fn observe(&self, ctx: &Context, valid: &Valid, now: Timestamp) -> Result<Facts, ReconcileError> {
        if self.metadata.deletion_timestamp.is_some() {
            return finalize::observe(ctx, self).await;
        }
        let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
        if let Some(caches) = &ctx.caches {
            caches.forget_secret(&namespace, &names::auth_secret(&name));
        }
        let valid = valid.as_ref().ok();
        let mut facts = observe::observe(ctx, self, valid).await?;
        facts.turn = turn(ctx, self, valid);
        if let Some(valid) = valid.filter(|valid| valid.refused.is_empty()) {
            let Decision { desired, next, .. } = decide(self, valid, &facts, now, &[]);
            // What goes back to what has worked is not asked for again, and who waits for others asks when it need not wait.
            let is_next = match valid.held_update {
                None => desired,
                Some(_) => next.filter(|_| !plan::waits_for_others(&facts)),
            };
            if let Some(desired) = is_next {
                facts.trial = trial::try_pod(ctx, valid, &desired, &facts).await;
            }
        }
        Ok(facts)
    }

    fn decide(&self, valid: &Valid, facts: &Facts, now: Timestamp) -> Decision {
        if self.metadata.deletion_timestamp.is_some() {
            let deletion = Some(finalize::decide(self, facts));
            return Decision { deletion, ..Decision::default() };
        }
        match valid {
            Ok(valid) => decide(self, valid, facts, now, &[]),
            Err(refusals) => Decision { plan: Plan::hold(plan::refused(refusals)), ..Decision::default() },
        }
    }

    async fn apply(
        &self,
        ctx: &Context,
        valid: &Valid,
        facts: &Facts,
        mut decision: Decision,
        now: Timestamp,
    ) -> Result<Done, ReconcileError> {
        if let Some(deletion) = &decision.deletion {
            finalize::apply(ctx, self, deletion).await?;
            Self::forget(ctx, &self.namespace().unwrap_or_default(), &self.name_any());
        }
        let valid = valid.as_ref().ok();
        let mut unchanged = Vec::new();
        loop {
            let Decision { plan, known, desired, next: _, deletion: _ } = decision;
            let work = Work { store: self, valid, known: known.as_ref(), desired: desired.as_ref(), facts };
            let done = apply::apply(ctx, &work, plan).await?;
            // Objects that only look different are current; go on with the others. Each turn adds to the list, so it ends.
            let all_known = done.unchanged().iter().all(|kind| unchanged.contains(kind));
            let Some(valid) = valid.filter(|_| !all_known) else { return Ok(done) };
            unchanged.extend_from_slice(done.unchanged());
            decision = decide(self, valid, facts, now, &unchanged);
        }
    }

    fn status_after(
        &self,
        valid: &Valid,
        facts: &Facts,
        applied: &Applied,
        now: Timestamp,
    ) -> Option<StoreStatus> {
        let has_written = matches!(applied.plan().step, Some(Step::Record(_) | Step::SetFinalizer(_)));
        let is_due = !has_written && self.metadata.deletion_timestamp.is_none();
        is_due.then(|| status::status(self, valid.as_ref().ok(), facts, applied, now))
    }

    fn notes(&self, new: &StoreStatus) -> Vec<Note> {
        let none = StoreStatus::default();
        changes(self.status.as_ref().unwrap_or(&none), new)
    }

    fn pause(&self, facts: &Facts, applied: &Applied, now: Timestamp) -> Option<Duration> {
        self.metadata.deletion_timestamp.is_none().then(|| delay(applied.plan(), facts, self, now))
    }

    fn failed(message: String) -> Verdict {
        Verdict::yes(kind::RECONCILING, reason::RECONCILE_FAILED, message)
    }

    fn cached(caches: &Caches, namespace: &str, name: &str) -> Option<Self> {
        caches::get(&caches.stores, namespace, name)
    }

    async fn observe_cached(&self, ctx: &Context, caches: &Caches, valid: &Valid) -> Option<Facts> {
        let valid = valid.as_ref().ok()?;
        // Many wait for their turn, an approval or a window at the same time.
        let turn = turn(ctx, self, Some(valid));
        let facts = observe::observe_settled(ctx, caches, self, valid).await?;
        Some(Facts { turn, ..facts })
    }

    fn nothing(&self, _: &Context, _: &Valid, _: &Facts, decision: Decision) -> Option<Done> {
        Done::nothing(decision.plan)
    }

    fn note(&self, ctx: &Context, applied: &Applied, status: &StoreStatus) {
        let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
        let is_ready = conditions::is_true(&status.conditions, kind::READY);
        let ready = conditions::find(&status.conditions, kind::READY).map(|ready| ready.reason.as_str());
        let is_busy = ready.is_some_and(|ready| [reason::LOADING, reason::RESTORING].contains(&ready))
            || (matches!(applied.plan().step, Some(Step::SaveSnapshot))
                && !applied.plan().holds.iter().any(|hold| hold.stalled));
        if is_busy {
            ctx.restarts.renew(&namespace, &name, Instant::now());
        } else if applied.plan().step.is_none() && is_ready && status.started_update.is_none() {
            ctx.restarts.leave(&namespace, &name);
        }
        let last_backup = status.backup.as_ref().and_then(|backup| backup.last_success_time.as_ref());
        ctx.metrics.set_store(
            &namespace,
            &name,
            is_ready,
            conditions::is_true(&status.conditions, kind::STALLED),
            last_backup.map(|time| time.0.as_second()),
        );
    }

    fn forget(ctx: &Context, namespace: &str, name: &str) {
        ctx.metrics.forget_store(namespace, name);
        ctx.restarts.forget(namespace, name);
        if let Some(caches) = &ctx.caches {
            caches.forget_secret(namespace, &names::auth_secret(name));
        }
    }
}

/// Whom a restart of the Store has to wait for. The others learn here which image was taken back from it.
fn turn(ctx: &Context, store: &Store, valid: Option<&ValidatedStore>) -> Turn {
    let (namespace, name) = (store.namespace().unwrap_or_default(), store.name_any());
    ctx.restarts.note_failed_image(&namespace, &name, valid.and_then(failed_image));
    let new_image = valid.and_then(|valid| update::new_image(store, &valid.update));
    ctx.restarts.look(&namespace, &name, new_image, Instant::now())
}

/// The image that was taken back from the Store.
fn failed_image(valid: &ValidatedStore) -> Option<&str> {
    let held = valid.held_update.as_deref().filter(|held| matches!(held.why, HeldBy::Failure(_)))?;
    (valid.update.image != held.good.image).then_some(valid.update.image.as_str())
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
    /// The objects of the update that waits for its start.
    pub next: Option<Desired>,
    /// Present exactly when the Store is being deleted; then there is no step.
    pub deletion: Option<Deletion>,
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
    let next = valid.waits_to_start().then(|| rendering::build_candidate(valid, &inputs, facts));
    let (inputs, desired) = rendering::build_in_force(store, valid, known.as_ref(), inputs, facts);
    let mut plan = plan::next_step(store, valid, known.as_ref(), &inputs, &desired, facts, now, unchanged);
    if let Some(hold) = hold {
        plan.holds.insert(0, hold);
    }
    plan.holds.extend(valid.held_update.as_deref().and_then(|held| plan::update::hold(valid, held)));
    Decision { plan, known, desired: Some(desired), next, deletion: None }
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
        while_it_lasts(since(store, kind::READY, "False"), now)
    } else if plan.holds.iter().any(|hold| !AWAITED.contains(&hold.reason.as_str())) {
        while_it_lasts(since(store, kind::RECONCILING, "True"), now)
    } else {
        WHEN_SETTLED
    }
}

/// Since when a condition of `store` has this status, if it has it.
pub(crate) fn since(store: &Store, kind: &str, status: &str) -> Option<Timestamp> {
    let conditions = &store.status.as_ref()?.conditions;
    let found = conditions::find(conditions, kind).filter(|found| found.status == status)?;
    Some(found.last_transition_time.0)
}

/// The pause before the next look at a Store that has waited, or has not been ready, since `since`: the longer that lasts, the
/// longer. Each pause is a share of what has passed, so they grow as if they doubled, and nothing has to be remembered for it.
fn while_it_lasts(since: Option<Timestamp>, now: Timestamp) -> Duration {
    let lasted = since.map_or(0, |since| now.as_second() - since.as_second());
    Duration::from_secs(u64::try_from(lasted).unwrap_or(0) / 4).clamp(WHILE_WAITING, WHILE_STALLED)
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
    fn a_store_that_waits_for_long_is_looked_at_less_often() {
        let check = |since: Option<i64>, expected: u64| {
            let at = |second| Timestamp::from_second(second).expect("a time");
            assert_eq!(while_it_lasts(since.map(at), at(10_000)), Duration::from_secs(expected), "{since:?}");
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
