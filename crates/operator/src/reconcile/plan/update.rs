//! Whether the update in force has worked, and what people are told of one that is held. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::{Hold, Recording};
use crate::api::conditions::reason;
use crate::api::v1alpha1::{FailedUpdate, Store};
use crate::names;
use crate::reconcile::build::Desired;
use crate::reconcile::facts::Facts;
use crate::reconcile::status::readiness;
use crate::reconcile::update::{HeldBy, HeldUpdate, Update};
use crate::reconcile::validate::ValidatedStore;

/// What is to be recorded of a Store whose pod was made by an operator that kept no record of updates: the pod works with its
/// image, and with the configuration of the spec. Before that, an update would have nothing to go back to.
pub(super) fn inherited(
    store: &Store,
    valid: &ValidatedStore,
    desired: &Desired,
    facts: &Facts,
) -> Option<Recording> {
    if store.status.as_ref().is_some_and(|status| status.last_good_update.is_some())
        || readiness(facts).status != "True"
        || facts.server.status()?.config_sha256 != desired.config_sha256
    {
        return None;
    }
    let containers = &facts.pod.as_ref()?.spec.as_ref()?.containers;
    let server = containers.iter().find(|container| container.name == names::SERVER_CONTAINER)?;
    Some(Recording::GoodUpdate(Box::new(valid.update.with_image(server.image.as_deref()?))))
}

/// What is to be recorded of the update of `valid`, which is in force and whose objects are applied: that it works, or that it
/// does not. `has_template`: the pod is made from them.
pub(super) fn judge(
    store: &Store,
    valid: &ValidatedStore,
    is_held: bool,
    desired: &Desired,
    facts: &Facts,
    has_template: bool,
    now: Timestamp,
) -> Option<Recording> {
    let good = Update::last_good(store);
    let is_good = good.as_ref() == Some(&valid.update);
    let ready = readiness(facts);
    if ready.status == "True" {
        let status = facts.server.status()?;
        let serves = has_template && status.config_sha256 == desired.config_sha256;
        let forgets = !is_held && store.status.as_ref().is_some_and(|status| status.failed_update.is_some());
        return (serves && (!is_good || forgets))
            .then(|| Recording::GoodUpdate(Box::new(valid.update.clone())));
    }
    // Without one that worked there is nothing to go back to, and a server that answers is at work or waits for a person.
    if is_good || good.is_none() || facts.server.status().is_some() {
        return None;
    }
    let since = match &facts.pod {
        Some(pod) if pod.metadata.deletion_timestamp.is_some() || !has_template => return None,
        Some(pod) => pod.creation_timestamp()?.0,
        // Only the restart that began this update says since when its pod is missing.
        None => {
            let restart = store.status.as_ref()?.last_pod_restart.as_ref()?;
            (restart.update.as_ref() == Some(&valid.update.name())).then_some(restart.start_time.0)?
        }
    };
    let is_late = now.as_second() - since.as_second() >= i64::from(valid.ready_timeout_seconds);
    is_late.then(|| {
        Recording::FailedUpdate(FailedUpdate {
            update: valid.update.name(),
            ready_timeout_seconds: valid.ready_timeout_seconds,
            reason: ready.reason,
            message: ready.message,
            time: Time(now),
        })
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
    if before.image == after.image {
        "the changed spec".to_owned()
    } else {
        format!("image {:?} in place of {:?}", after.image, before.image)
    }
}
