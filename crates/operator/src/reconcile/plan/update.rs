//! Whether the update in force has worked, and what people are told of one that is held. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::{Hold, Recording};
use crate::api::conditions::{self, kind, reason};
use crate::api::v1alpha1::{FailedUpdate, Store};
use crate::names;
use crate::reconcile::build::Desired;
use crate::reconcile::facts::Facts;
use crate::reconcile::rendering::{self, Rendering};
use crate::reconcile::status::readiness;
use crate::reconcile::update::{GoodUpdate, HeldBy, HeldUpdate, Update};
use crate::reconcile::validate::ValidatedStore;

/// What is to be recorded of a Store whose pod was made by an operator that kept no record of updates: the pod works with its
/// image and user, and with the configuration of the spec. Before that, an update would have nothing to go back to.
pub(super) fn inherited(store: &Store, valid: &ValidatedStore, facts: &Facts) -> Option<Recording> {
    if store.status.as_ref().is_some_and(|status| status.last_good_update.is_some())
        || readiness(facts).status != "True"
        || !rendering::is_configuration_current(store, valid, facts)
    {
        return None;
    }
    let pod = facts.pod.as_ref()?;
    let update = valid.update.made_as(pod.spec.as_ref()?)?;
    let good = GoodUpdate::new(update, rendering::of(pod), facts.server.status()?);
    Some(Recording::GoodUpdate(Box::new(good)))
}

/// What [`judge`] comes to.
pub(super) enum Judgement {
    /// What is to be known of the update is recorded, or not known yet.
    Recorded,
    /// That it works, or that it does not.
    Record(Recording),
    /// It does not, and what worked before would not either.
    Refuse(Hold),
}

/// Judges the update of `valid`, which is in force and whose objects are applied in this `rendering`. `has_template`: the pod is
/// made from them.
#[expect(clippy::too_many_arguments, reason = "what a judgement depends on, each by its name")]
pub(super) fn judge(
    store: &Store,
    valid: &ValidatedStore,
    is_held: bool,
    rendering: Rendering,
    desired: &Desired,
    facts: &Facts,
    has_template: bool,
    now: Timestamp,
) -> Judgement {
    let good = GoodUpdate::last_good(store);
    if readiness(facts).status == "True" {
        let Some(status) = facts.server.status() else { return Judgement::Recorded };
        let works = GoodUpdate::new(valid.update.clone(), rendering, status);
        let serves = has_template && status.config_sha256 == desired.config_sha256;
        let forgets = !is_held && store.status.as_ref().is_some_and(|status| status.failed_update.is_some());
        return if serves && (good.as_ref() != Some(&works) || forgets) {
            Judgement::Record(Recording::GoodUpdate(Box::new(works)))
        } else {
            Judgement::Recorded
        };
    }
    // Without one that worked there is nothing to go back to.
    let Some(good) = good.filter(|good| good.update != valid.update || good.rendering != rendering) else {
        return Judgement::Recorded;
    };
    let Some(failed) = failed(store, valid, facts, has_template, now) else { return Judgement::Recorded };
    match good.unreadable_format(store) {
        None => Judgement::Record(Recording::FailedUpdate(failed)),
        Some(found) => Judgement::Refuse(Hold::stalled(
            reason::ROLLBACK_REFUSED,
            format!(
                "with {} the pod was not ready within {} s ({}: {}), and it is not taken back: its server has written files of version {found}, and what worked before reads them up to version {}; name an image that reads them, or restore a backup into another Store",
                describe(&good.update, &valid.update),
                failed.ready_timeout_seconds,
                failed.reason,
                failed.message,
                good.format_version
            ),
        )),
    }
}

/// The failure of the update of `valid`, when its pod has had its time.
fn failed(
    store: &Store,
    valid: &ValidatedStore,
    facts: &Facts,
    has_template: bool,
    now: Timestamp,
) -> Option<FailedUpdate> {
    // A server that answers is at work or waits for a person.
    if facts.server.status().is_some() {
        return None;
    }
    let since = match &facts.pod {
        Some(pod) if pod.metadata.deletion_timestamp.is_some() || !has_template => return None,
        Some(pod) => pod.creation_timestamp()?.0,
        // Only the restart that began this update says since when its pod is missing.
        None => {
            let status = store.status.as_ref()?;
            let restart = status.last_pod_restart.as_ref()?;
            // It was decided then, and may have waited for its turn or for a snapshot: the pod served until it went.
            let ready = conditions::find(&status.conditions, kind::READY)?;
            let began = restart.update.as_ref() == Some(&valid.update.name()) && ready.status == "False";
            began.then_some(restart.start_time.0.max(ready.last_transition_time.0))?
        }
    };
    let is_late = now.as_second() - since.as_second() >= i64::from(valid.ready_timeout_seconds);
    let ready = readiness(facts);
    is_late.then(|| FailedUpdate {
        update: valid.update.name(),
        ready_timeout_seconds: valid.ready_timeout_seconds,
        reason: ready.reason,
        message: ready.message,
        time: Time(now),
    })
}

/// What people are told of a held update of the Store `valid`.
pub(in crate::reconcile) fn hold(valid: &ValidatedStore, held: &HeldUpdate) -> Hold {
    let change = describe(&held.instead.update, &valid.update);
    match &held.why {
        HeldBy::Failure(failed) => Hold::stalled(
            reason::UPDATE_ROLLED_BACK,
            format!(
                "with {change} the pod was not ready within {} s ({}: {}); it is back to what worked before; correct the spec, or give it more time: raise spec.updateStrategy.readyTimeoutSeconds",
                failed.ready_timeout_seconds, failed.reason, failed.message
            ),
        ),
        HeldBy::Approval => Hold::waiting(
            reason::UPDATE_AWAITS_APPROVAL,
            format!(
                "{change} waits for approval, as spec.updateStrategy.type Supervised says: {}",
                approval(valid)
            ),
        ),
        HeldBy::Window(opening) => Hold::waiting(
            reason::UPDATE_AWAITS_WINDOW,
            format!(
                "{change} waits for maintenance window {}; to let it begin before: {}",
                opening.window,
                approval(valid)
            ),
        ),
    }
}

/// The command that lets the update of `valid` begin.
fn approval(valid: &ValidatedStore) -> String {
    format!(
        "kubectl annotate store {} {}={} --overwrite",
        valid.name,
        names::key::APPROVE_UPDATE,
        valid.update.name()
    )
}

/// What an update changes.
fn describe(before: &Update, after: &Update) -> String {
    if before.image != after.image {
        format!("image {:?} in place of {:?}", after.image, before.image)
    } else if before.with_flags_of(after) == *after {
        "the operator's changed --pod-user or --image-pull-policy".to_owned()
    } else {
        "the changed spec".to_owned()
    }
}
