//! Whether the update in force has worked, and what people are told of one that is held. Pure.

use holdfast_contract::control::ServerState;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::{Hold, Recording, restore_container_runs};
use crate::api::conditions::{kind, reason};
use crate::api::v1alpha1::{FailedUpdate, Store};
use crate::names;
use crate::reconcile::build::Desired;
use crate::reconcile::facts::Facts;
use crate::reconcile::rendering::{self, Rendering};
use crate::reconcile::since;
use crate::reconcile::status::{needs_person, readiness};
use crate::reconcile::update::{GoodUpdate, HeldBy, HeldUpdate, Update, started};
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
        // A start that came to nothing is forgotten as well: the same update would not have to wait the next time.
        let forgets = store.status.as_ref().is_some_and(|status| {
            let refuses = status.failed_update.is_some() || status.refused_update.is_some();
            (!is_held && refuses) || status.started_update.is_some()
        });
        if serves && (good.as_ref() != Some(&works) || forgets) {
            return Judgement::Record(Recording::GoodUpdate(Box::new(works)));
        }
        let pod = facts.pod.as_ref().and_then(|pod| pod.metadata.uid.as_ref());
        let last = store.status.as_ref().and_then(|status| status.last_pod_restart.as_ref());
        let is_done = serves && last.is_some_and(|last| last.count > 0 && Some(&last.pod_uid) != pod);
        return if is_done { Judgement::Record(Recording::RestartDone) } else { Judgement::Recorded };
    }
    // Without one that worked there is nothing to go back to.
    let Some(good) = good.filter(|good| good.update != valid.update || good.rendering != rendering) else {
        return Judgement::Recorded;
    };
    let Some(failed) = failed(store, valid, facts, has_template, now) else { return Judgement::Recorded };
    let refuse = |change: &str, why: String| {
        Judgement::Refuse(Hold::stalled(
            reason::ROLLBACK_REFUSED,
            format!(
                "with {change} the pod was not ready within {} s ({}: {}), and it is not taken back: {why}",
                failed.ready_timeout_seconds, failed.reason, failed.message
            ),
        ))
    };
    if let Some(found) = good.unreadable_format(store) {
        let why = format!(
            "its server has written files of version {found}, and what worked before reads them up to version {}; name an image that reads them, or restore a backup into another Store",
            good.format_version
        );
        return refuse(&describe(&good.update, &valid.update), why);
    }
    let is_recorded =
        store.status.as_ref().and_then(|status| status.failed_update.as_ref()).is_some_and(|recorded| {
            recorded.update == failed.update && recorded.ready_timeout_seconds == failed.ready_timeout_seconds
        });
    // Only the version that made that rendering can write it: recording the failure again and again would not bring it back.
    if is_recorded || (good.update == valid.update && !good.rendering.is_known()) {
        let why = format!(
            "it worked as another version of the operator has rendered it (rendering {}), which this version cannot write; correct what the pod fails for, or bring that version of the operator back",
            good.rendering
        );
        return refuse("a restart", why);
    }
    Judgement::Record(Recording::FailedUpdate(failed))
}

/// Whether pod and configuration stay as they are although what worked before would be in force: an update that has begun is
/// finished, or fails, also when the spec asks for another one meanwhile; and files that what worked before cannot read have been
/// written. What is there is then known by its name alone.
pub(super) fn keeps_pod(store: &Store, spec: &ValidatedStore, facts: &Facts, now: Timestamp) -> bool {
    let Some(held) = spec.held_update.as_deref().filter(|held| !matches!(held.why, HeldBy::Failure(_)))
    else {
        return false;
    };
    if GoodUpdate::last_good(store).is_some_and(|good| good.unreadable_format(store).is_some()) {
        return true;
    }
    let Some(started) = started(store) else { return false };
    if started.update == spec.update.name() || started.update == held.good.name() {
        return false;
    }
    let is_ready = readiness(facts).status == "True";
    let patience = i64::from(spec.ready_timeout_seconds);
    // A server that answers is at work or waits for a person.
    is_ready
        || facts.server.status().is_some()
        || now.as_second() - started.start_time.0.as_second() < patience
}

/// Whether it is about to show by itself if the Store is served, so that an update waits: a pod that is on its way comes back as it
/// was, and only a server that answers can say what it would start with. A Store that stays away longer than a changed one may
/// take, or that a person must mend, has nothing to wait for: the update may be what mends it.
pub(super) fn is_passing(
    store: &Store,
    spec: &ValidatedStore,
    held: &HeldUpdate,
    facts: &Facts,
    now: Timestamp,
) -> bool {
    let ready = readiness(facts);
    let since = if ready.status == "True" {
        if facts.server.status().is_some() {
            return false;
        }
        since(store, kind::PERSISTENCE_HEALTHY, "Unknown")
    } else {
        let state = facts.server.status().map(|status| status.state);
        let stands = matches!(state, Some(ServerState::Holding | ServerState::WritesRefused));
        // One that was under way and does not work is replaced.
        let replaces = started(store).is_some_and(|started| {
            started.update != spec.update.name() && started.update != held.good.name()
        });
        if stands || replaces || needs_person(&ready) {
            return false;
        }
        since(store, kind::READY, "False")
    };
    since.is_none_or(|since| now.as_second() - since.as_second() < i64::from(spec.ready_timeout_seconds))
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
        // How long a restore takes depends on the data.
        Some(pod) if restore_container_runs(pod) => return None,
        // It may have served for a while since it was made; and the clock that says when that was is another one than ours.
        Some(pod) => {
            let made = pod.creation_timestamp()?.0;
            let begun = started(store).filter(|started| started.update == valid.update.name());
            let unready = since(store, kind::READY, "False");
            [begun.map(|started| started.start_time.0), unready]
                .into_iter()
                .flatten()
                .fold(made, Timestamp::max)
        }
        // Only the start of this update says since when its pod is missing; it may have served for a while after that.
        None => {
            let started = started(store).filter(|started| started.update == valid.update.name())?;
            started.start_time.0.max(since(store, kind::READY, "False")?)
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

/// What people are told of a held update of the Store `valid`; what one that has not begun waits for depends on more.
pub(in crate::reconcile) fn hold(valid: &ValidatedStore, held: &HeldUpdate) -> Option<Hold> {
    let change = describe(&held.good, &valid.update);
    Some(match (&held.why, &held.instead) {
        (HeldBy::NotStarted, _) => return None,
        (HeldBy::Failure(failed), Err(refusals)) => Hold::stalled(
            reason::ROLLBACK_REFUSED,
            format!(
                "with {change} the pod was not ready within {} s ({}: {}), and it is not taken back: this version of the operator does not take what worked before ({}); correct the spec",
                failed.ready_timeout_seconds,
                failed.reason,
                failed.message,
                super::refused(refusals).message
            ),
        ),
        (HeldBy::Failure(failed), Ok(_)) => Hold::stalled(
            reason::UPDATE_ROLLED_BACK,
            format!(
                "with {change} the pod was not ready within {} s ({}: {}); it is back to what worked before; correct the spec, or give it more time: raise spec.updateStrategy.readyTimeoutSeconds",
                failed.ready_timeout_seconds, failed.reason, failed.message
            ),
        ),
        (HeldBy::Approval, _) => Hold::waiting(
            reason::UPDATE_AWAITS_APPROVAL,
            format!(
                "{change} waits for approval, as spec.updateStrategy.type Supervised says: {}",
                approval(valid)
            ),
        ),
        (HeldBy::Window(opening), _) => Hold::waiting(
            reason::UPDATE_AWAITS_WINDOW,
            format!(
                "{change} waits for maintenance window {}; to let it begin before: {}",
                opening.window,
                approval(valid)
            ),
        ),
    })
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
pub(super) fn describe(before: &Update, after: &Update) -> String {
    if before.image != after.image {
        format!("image {:?} in place of {:?}", after.image, before.image)
    } else if before.with_flags_of(after) == *after {
        "the operator's changed --pod-user or --image-pull-policy".to_owned()
    } else {
        "the changed spec".to_owned()
    }
}
