//! Whether the pod restarts, and what has to come first: a record of it, its turn, a snapshot where nothing else keeps the data. Pure.

use holdfast_contract::control::{CONFIG_CHECK_SINCE, ServerState};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::{Hold, Recording, Step, deferral, its_turn, others_first, template_hash};
use crate::api::conditions::reason;
use crate::api::v1alpha1::{PodRestartStatus, RestartCause, ShutdownSnapshot, Store, Strategy};
use crate::names;
use crate::reconcile::build::Desired;
use crate::reconcile::facts::{Facts, ServerFact};
use crate::reconcile::ownership::is_pod_of;
use crate::reconcile::status::{pod_is_ready, time_of_ms};
use crate::reconcile::update::{GoodUpdate, started};
use crate::reconcile::validate::ValidatedStore;

/// Whether the pod restarts.
pub(super) enum Restart {
    NotNeeded,
    Now(Step),
    Later(Hold),
    /// Something else first, because of this.
    After(Step, Hold),
}

/// Whether the pod must restart, and what has to come before that.
pub(super) fn restart(
    store: &Store,
    valid: &ValidatedStore,
    desired: &Desired,
    facts: &Facts,
    now: Timestamp,
    has_template: bool,
) -> Restart {
    let (Some(pod), Some(set)) = (&facts.pod, &facts.children.stateful_set) else {
        return Restart::NotNeeded;
    };
    if pod.metadata.deletion_timestamp.is_some() || !is_pod_of(pod, set) {
        return Restart::NotNeeded;
    }
    let revision = set
        .status
        .as_ref()
        .filter(|status| status.observed_generation >= set.metadata.generation)
        .and_then(|status| status.update_revision.as_deref());
    let Some(revision) = revision else {
        // The pod would come back from the old template.
        return if template_hash(pod) == Some(&desired.template_hash) {
            Restart::NotNeeded
        } else {
            Restart::Later(Hold::waiting(
                reason::RESTARTING,
                "waits until the StatefulSet controller has seen the new template",
            ))
        };
    };
    let Some((cause, target, why)) = restart_reason(pod, revision, desired, facts, has_template) else {
        return Restart::NotNeeded;
    };
    // An update that has begun and has to wait after all, because another operator has taken over, an earlier version has applied
    // it, or a backup has begun, is taken back: a pod that dies meanwhile must not come up with it.
    let may_withdraw = cause == RestartCause::Template
        && started(store).is_some_and(|started| started.update == valid.update.name())
        && GoodUpdate::last_good(store).is_some_and(|good| good.update != valid.update);
    let later = |hold: Hold| {
        if may_withdraw && pod_is_ready(pod) {
            Restart::Now(Step::Record(Recording::WithdrawnUpdate))
        } else {
            Restart::Later(hold)
        }
    };
    if let Some(hold) = deferral(facts, &why) {
        return later(hold);
    }
    let (Some(uid), Some(resource_version)) =
        (pod.metadata.uid.clone(), pod.metadata.resource_version.clone())
    else {
        return Restart::NotNeeded;
    };
    let last = store.status.as_ref().and_then(|status| status.last_pod_restart.as_ref());
    let same = last.filter(|last| last.cause == cause && last.target == target);
    let waits = if may_withdraw { others_first(facts, &why) } else { its_turn(facts, &why) };
    let recorded = match same {
        Some(last)
            if last.pod_uid == uid
                && waits.is_none()
                && !is_outdated(last, facts, now)
                && (last.offset.is_some() || facts.server.status().is_none()) =>
        {
            last
        }
        Some(last) if last.pod_uid != uid && last.count >= cause.restarts_max() => {
            return Restart::Later(Hold::stalled(
                reason::RESTART_INEFFECTIVE,
                format!(
                    "{why}, and restarting the pod for it (restarts so far: {}) has changed nothing: something changes what the operator applies, such as an admission webhook or another controller; find it by: kubectl get statefulset,configmap,pod -l {}={} -o yaml --show-managed-fields; then delete the pod once",
                    last.count,
                    names::key::STORE,
                    valid.name
                ),
            ));
        }
        same => {
            if let Some(hold) = waits {
                return later(hold);
            }
            return Restart::Now(Step::Record(Recording::Restart(PodRestartStatus {
                cause,
                target,
                count: same.map_or(1, |last| last.count + u32::from(last.pod_uid != uid)),
                pod_uid: uid,
                update: None,
                offset: facts.server.status().map(|status| status.last_offset),
                start_time: Time(now),
            })));
        }
    };
    let step = Step::RestartPod {
        uid,
        resource_version,
        grace_seconds: valid.shutdown_budget_seconds,
        why: why.clone(),
    };
    if let Some(hold) = unasked(store, valid, pod, facts, &why) {
        return Restart::Later(hold);
    }
    match unsaved(valid, recorded, facts) {
        None => Restart::Now(step),
        Some(None) => Restart::After(
            Step::SaveSnapshot,
            Hold::waiting(
                reason::RESTART_DEFERRED,
                format!("{why}; the restart waits for a snapshot, which is all that keeps the data"),
            ),
        ),
        Some(Some(error)) => Restart::After(
            Step::SaveSnapshot,
            Hold::stalled(
                reason::SNAPSHOT_FAILED,
                format!(
                    "{why}; the restart waits for a snapshot, which is all that keeps the data, and the snapshot fails: {error}; mend that, or delete the pod and lose what came since the last snapshot"
                ),
            ),
        ),
    }
}

/// Seconds in which a snapshot that was written for a restart is good for it: the restart follows at once, unless it has to wait.
const SNAPSHOT_FRESH_SECONDS: i64 = 300;

/// Whether a restart that was recorded waited for so long, with its snapshot written, that the snapshot lacks what came since.
fn is_outdated(recorded: &PodRestartStatus, facts: &Facts, now: Timestamp) -> bool {
    let is_old = |time: Timestamp| now.as_second() - time.as_second() > SNAPSHOT_FRESH_SECONDS;
    let Some(server) = facts.server.status().filter(|status| status.strategy == "never") else {
        return false;
    };
    let saved = server.last_snapshot.as_ref().filter(|saved| Some(saved.offset) >= recorded.offset);
    is_old(recorded.start_time.0)
        && server.last_offset > recorded.offset.unwrap_or(0)
        && saved.and_then(|saved| time_of_ms(saved.completed_ms)).is_some_and(is_old)
}

/// Present while nobody can ask a server, of which a restart for `why` may take data that only a snapshot keeps, to write one.
fn unasked(store: &Store, valid: &ValidatedStore, pod: &Pod, facts: &Facts, why: &str) -> Option<Hold> {
    let last_known = store.status.as_ref().and_then(|status| status.persistence.as_ref()?.effective);
    if facts.server.status().is_some()
        || last_known != Some(Strategy::Never)
        || valid.shutdown_snapshot == ShutdownSnapshot::Never
        || !pod_is_ready(pod)
    {
        return None;
    }
    let needs = "the restart waits for a snapshot, which is all that keeps the data";
    let pod = names::pod(&valid.name);
    Some(match &facts.server {
        // Nothing but a restart makes it take the new token.
        ServerFact::Unauthorized(message) => Hold::stalled(
            reason::SERVER_UNAUTHORIZED,
            format!(
                "{why}; {needs}, and the server cannot be asked for one: {message}; write one by the command SAVE of a client, then: kubectl delete pod {pod}"
            ),
        ),
        _ => Hold::waiting(
            reason::RESTART_DEFERRED,
            format!(
                "{why}; {needs}, and the server does not answer; to do without: kubectl delete pod {pod}"
            ),
        ),
    })
}

/// Whether a restart would lose data that only a snapshot keeps: present when it would, with the error of the last try.
fn unsaved<'a>(
    valid: &ValidatedStore,
    recorded: &PodRestartStatus,
    facts: &'a Facts,
) -> Option<Option<&'a str>> {
    let server = facts.server.status().filter(|status| {
        status.strategy == "never" && matches!(status.state, ServerState::Ready | ServerState::WritesRefused)
    })?;
    // Somebody wants no snapshot at a stop; then the rules say what is kept.
    if valid.shutdown_snapshot == ShutdownSnapshot::Never {
        return None;
    }
    let wanted = recorded.offset?;
    let saved = server.last_snapshot.as_ref().is_some_and(|snapshot| snapshot.offset >= wanted);
    (!saved).then_some(server.last_job_error.as_deref())
}

/// Why the pod must restart: the cause, what it is to come up with, and a sentence.
fn restart_reason(
    pod: &Pod,
    revision: &str,
    desired: &Desired,
    facts: &Facts,
    has_template: bool,
) -> Option<(RestartCause, String, String)> {
    if !has_template && pod.labels().get(REVISION_LABEL).map(String::as_str) != Some(revision) {
        let same_config = pod.annotations().get(names::key::CONFIG_SHA256) == Some(&desired.config_sha256);
        let why = if same_config {
            "the pod template has changed".to_owned()
        } else {
            format!("the configuration has changed{}", unchecked(facts))
        };
        return Some((RestartCause::Template, revision.to_owned(), why));
    }
    // The kubelet may have given the new pod an older copy of the ConfigMap than the one its template belongs to.
    let running =
        facts.server.status().map(|status| status.config_sha256.as_str()).filter(|sha| !sha.is_empty())?;
    (running != desired.config_sha256).then(|| {
        (
            RestartCause::Configuration,
            desired.config_sha256.clone(),
            "the server has started with an older configuration".to_owned(),
        )
    })
}

/// What people are told when a configuration is tried by the restart alone.
fn unchecked(facts: &Facts) -> String {
    let Some(server) = facts.server.status() else { return String::new() };
    if server.contract_version >= CONFIG_CHECK_SINCE {
        return String::new();
    }
    format!(" (the running server, version {}, cannot check one beforehand)", server.version)
}

/// Label that the StatefulSet controller puts on each pod: the revision of the template it comes from.
const REVISION_LABEL: &str = "controller-revision-hash";
