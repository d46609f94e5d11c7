//! Facts and plan → the status of a Store. Pure; the one call that writes it is in `pipeline.rs`.

use holdfast_contract::control::{JobReport, ServerState};
use holdfast_contract::record::reason as held;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::apply::Applied;
use super::build::server_config;
use super::facts::{Facts, ServerFact};
use super::ownership::foreign_pod;
use super::plan::{Plan, control_problem, restore_container_runs};
use super::rendering;
use super::validate::{Refusal, ValidatedStore};
use crate::api::conditions::{self, Verdict, kind, reason};
use crate::api::v1alpha1::{
    BackupMethod, BackupSummary, JobStatus, PersistenceStatus, Store, StoreBackup, StoreStatus, Strategy,
};
use crate::backup::plan::is_lost;

/// The status of `store` after what was `applied`. `valid` is absent when the spec is refused. Fields that record intent are
/// taken over unchanged: only steps write them.
#[must_use]
pub fn status(
    store: &Store,
    valid: Option<&ValidatedStore>,
    facts: &Facts,
    applied: &Applied,
    now: Timestamp,
) -> StoreStatus {
    let plan = applied.plan();
    let old = store.status.clone().unwrap_or_default();
    let generation = store.metadata.generation;
    let strategy = store.spec.persistence.strategy;
    let concerns = valid.map_or(&[][..], |valid| valid.concerns.as_slice());
    let valid = valid.filter(|valid| valid.refused.is_empty());
    let configuration_current =
        valid.is_some_and(|valid| rendering::is_configuration_current(store, valid, facts));
    let persistence = persistence_status(&old, strategy, configuration_current, facts);
    let backup = backup_summary(&old, &facts.backups);
    let ready = readiness(facts);
    let stall = stall(plan, &ready);
    let verdicts = vec![
        ready.clone(),
        reconciling(&ready, plan, stall.is_some()),
        stalled(stall),
        persistence_healthy(strategy, &persistence, facts),
        last_backup(&facts.backups),
        configuration_warning(concerns),
    ];
    StoreStatus {
        observed_generation: generation,
        conditions: conditions::merge(&old.conditions, verdicts, generation, now),
        persistence: Some(persistence),
        backup,
        store_id: old.store_id,
        epoch: old.epoch,
        claim: old.claim,
        restore: old.restore,
        last_restore: old.last_restore,
        last_pod_restart: old.last_pod_restart,
        last_good_update: old.last_good_update,
        failed_update: old.failed_update,
        started_update: old.started_update,
        refused_update: old.refused_update,
    }
}

fn configuration_warning(concerns: &[Refusal]) -> Verdict {
    if concerns.is_empty() {
        return Verdict::no(kind::CONFIGURATION_WARNING, reason::NO_WARNINGS, "");
    }
    let lines: Vec<String> = concerns.iter().map(ToString::to_string).collect();
    Verdict::yes(kind::CONFIGURATION_WARNING, reason::CHECK_SPEC, lines.join("; "))
}

fn persistence_status(
    old: &StoreStatus,
    desired: Strategy,
    configuration_current: bool,
    facts: &Facts,
) -> PersistenceStatus {
    let before = old.persistence.clone();
    let format_version = before.as_ref().and_then(|before| before.format_version);
    let Some(server) = facts.server.status() else {
        return PersistenceStatus {
            desired,
            effective: before.as_ref().and_then(|before| before.effective),
            configuration_current: before
                .as_ref()
                .is_some_and(|before| before.configuration_current && before.desired == desired),
            format_version,
            last_snapshot: before.as_ref().and_then(|before| before.last_snapshot.clone()),
            last_rotation: before.and_then(|before| before.last_rotation),
        };
    };
    let job =
        |report: &Option<JobReport>, before: Option<JobStatus>| report.as_ref().map_or(before, job_status);
    PersistenceStatus {
        desired,
        effective: server_config::strategy_of_word(&server.strategy),
        configuration_current,
        format_version: server.identity.as_ref().map_or(format_version, |identity| Some(identity.version)),
        last_snapshot: job(
            &server.last_snapshot,
            before.as_ref().and_then(|before| before.last_snapshot.clone()),
        ),
        last_rotation: job(&server.last_rotation, before.and_then(|before| before.last_rotation)),
    }
}

fn job_status(report: &JobReport) -> Option<JobStatus> {
    Some(JobStatus {
        completion_time: Time(time_of_ms(report.completed_ms)?),
        bytes: report.bytes,
        duration_milliseconds: report.duration_ms,
    })
}

/// The instant of `ms` milliseconds since the Unix epoch; absent when it lies outside what a time can be.
#[must_use]
pub(crate) fn time_of_ms(ms: u64) -> Option<Timestamp> {
    // Whole seconds: the API keeps no fractions, and a time that reads back differently would look like a change.
    Timestamp::from_second(i64::try_from(ms / 1000).ok()?).ok()
}

/// A finished backup.
#[derive(Clone, Copy)]
struct Finished<'a> {
    time: &'a Time,
    name: &'a str,
    succeeded: bool,
    /// It is not in its bucket any more, or not as it was written.
    is_lost: bool,
    method: BackupMethod,
}

fn finished(backups: &[StoreBackup]) -> impl Iterator<Item = Finished<'_>> {
    backups.iter().filter_map(|backup| {
        let status = backup.status.as_ref()?;
        Some(Finished {
            time: status.completion_time.as_ref()?,
            name: backup.metadata.name.as_deref()?,
            succeeded: conditions::is_true(&status.conditions, kind::SUCCEEDED),
            is_lost: is_lost(status),
            method: backup.spec.method,
        })
    })
}

fn backup_summary(old: &StoreStatus, backups: &[StoreBackup]) -> Option<BackupSummary> {
    let newest = |wanted: bool, method: Option<BackupMethod>| {
        finished(backups)
            .filter(|backup| !backup.is_lost && backup.succeeded == wanted)
            .filter(|backup| method.is_none_or(|method| backup.method == method))
            .max_by_key(|backup| backup.time.0)
    };
    // Only what lies in the bucket brings a lost volume back.
    let success = newest(true, Some(BackupMethod::Snapshot));
    let failure = newest(false, None)
        .filter(|failure| success.is_none_or(|success| failure.time.0 > success.time.0))
        .map(|failure| failure.name.to_owned());
    // Deleting a StoreBackup leaves its data in the bucket, so the age of the newest good backup does not go back, unless that is
    // known to be lost.
    let before = old.backup.as_ref().filter(|before| {
        let is_newer = before
            .last_success_time
            .as_ref()
            .is_some_and(|time| success.is_none_or(|success| time.0 > success.time.0));
        let name = before.last_successful_backup.as_deref();
        is_newer && !finished(backups).any(|backup| backup.is_lost && Some(backup.name) == name)
    });
    let (name, time) = match before {
        Some(before) => (before.last_successful_backup.clone(), before.last_success_time.clone()),
        None => (success.map(|success| success.name.to_owned()), success.map(|success| success.time.clone())),
    };
    let summary = BackupSummary {
        last_successful_backup: name,
        last_success_time: time,
        last_volume_snapshot: newest(true, Some(BackupMethod::VolumeSnapshot))
            .map(|backup| backup.name.to_owned()),
        last_failed_backup: failure,
    };
    (summary != BackupSummary::default()).then_some(summary)
}

fn last_backup(backups: &[StoreBackup]) -> Verdict {
    match finished(backups).max_by_key(|backup| backup.time.0) {
        Some(Finished { name, is_lost: true, .. }) => Verdict::no(
            kind::LAST_BACKUP_SUCCEEDED,
            reason::BACKUP_MISSING,
            format!("StoreBackup {name:?} is not in its bucket as it was written; see its conditions"),
        ),
        Some(Finished { name, succeeded: true, method, .. }) => Verdict::yes(
            kind::LAST_BACKUP_SUCCEEDED,
            reason::BACKUP_SUCCEEDED,
            match method {
                BackupMethod::Snapshot => format!("StoreBackup {name:?}"),
                BackupMethod::VolumeSnapshot => format!(
                    "StoreBackup {name:?}, a volume snapshot: a lost volume is restored from the bucket only"
                ),
            },
        ),
        Some(Finished { name, succeeded: false, .. }) => Verdict::no(
            kind::LAST_BACKUP_SUCCEEDED,
            reason::BACKUP_FAILED,
            format!("StoreBackup {name:?} has failed; see its conditions"),
        ),
        None => {
            Verdict::unknown(kind::LAST_BACKUP_SUCCEEDED, reason::NO_BACKUP, "no StoreBackup has ended yet")
        }
    }
}

/// Reasons for not being ready that nothing but a person ends: the pod cannot run as the spec says, or the server has
/// found a volume that it must not touch.
const PERSON_REASONS: [&str; 11] = [
    reason::IMAGE_UNAVAILABLE,
    reason::CONTAINER_FAILING,
    reason::VOLUME_CLAIM_LOST,
    held::FOREIGN_VOLUME,
    held::STALE_VOLUME,
    held::UNKNOWN_DATA,
    held::DAMAGED_IDENTITY,
    held::SOURCE_VOLUME_EMPTY,
    held::SOURCE_MISMATCH,
    held::DATA_DAMAGED,
    held::STORAGE_FAILED,
];

/// Whether a Store that is not ready, as `ready` says, becomes so only when somebody changes something.
pub(super) fn needs_person(ready: &Verdict) -> bool {
    ready.status != "True" && PERSON_REASONS.contains(&ready.reason.as_str())
}

/// What a person must act upon: reason and message.
fn stall(plan: &Plan, ready: &Verdict) -> Option<(String, String)> {
    let mut stalled: Vec<_> = plan.holds.iter().filter(|hold| hold.stalled).collect();
    // A missing location harms nothing yet, so it comes last.
    stalled.sort_by_key(|hold| hold.reason == reason::LOCATION_NOT_FOUND);
    if let Some((first, others)) = stalled.split_first() {
        let besides = others.iter().map(|hold| format!("; besides, {}: {}", hold.reason, hold.message));
        return Some((first.reason.clone(), std::iter::once(first.message.clone()).chain(besides).collect()));
    }
    // A step may be the remedy, such as the restart with a corrected image.
    let is_stuck = plan.step.is_none() && needs_person(ready);
    is_stuck.then(|| (ready.reason.clone(), ready.message.clone()))
}

fn stalled(stall: Option<(String, String)>) -> Verdict {
    match stall {
        Some((reason, message)) => Verdict::yes(kind::STALLED, reason, message),
        None => Verdict::no(kind::STALLED, reason::NOT_STALLED, ""),
    }
}

fn reconciling(ready: &Verdict, plan: &Plan, is_stalled: bool) -> Verdict {
    if plan.step.is_some() {
        return Verdict::yes(kind::RECONCILING, reason::APPLYING, "");
    }
    if let Some(hold) = plan.holds.iter().find(|hold| !hold.stalled) {
        return Verdict::yes(kind::RECONCILING, hold.reason.clone(), hold.message.clone());
    }
    if is_stalled || ready.status == "True" {
        Verdict::no(kind::RECONCILING, reason::SETTLED, "")
    } else {
        Verdict::yes(kind::RECONCILING, ready.reason.clone(), ready.message.clone())
    }
}

fn persistence_healthy(strategy: Strategy, persistence: &PersistenceStatus, facts: &Facts) -> Verdict {
    let kind = kind::PERSISTENCE_HEALTHY;
    let Some(server) = facts.server.status() else {
        let (reason, message) = control_problem(facts).map_or_else(
            || (reason::SERVER_UNREACHABLE.to_owned(), String::new()),
            |hold| (hold.reason, hold.message),
        );
        return Verdict::unknown(kind, reason, message);
    };
    match server.state {
        ServerState::WritesRefused => {
            return Verdict::no(kind, reason::WRITES_REFUSED, server.problem.clone().unwrap_or_default());
        }
        ServerState::Holding => {
            let (reason, message) = decision(facts);
            return Verdict::no(kind, reason, message);
        }
        ServerState::Loading
        | ServerState::Restoring
        | ServerState::AwaitingRecord
        | ServerState::Stopping => {
            return Verdict::unknown(kind, state_reason(server.state), "");
        }
        ServerState::Ready => {}
    }
    if let Some(error) = &server.last_job_error {
        return Verdict::no(kind, reason::LAST_JOB_FAILED, error.clone());
    }
    if persistence.effective != Some(strategy) {
        return Verdict::no(
            kind,
            reason::POLICY_PENDING,
            format!("the server runs with {:?}, the spec says {strategy:?}", server.strategy),
        );
    }
    if !persistence.configuration_current {
        return Verdict::no(
            kind,
            reason::POLICY_PENDING,
            "the server runs with an older configuration than the spec yields",
        );
    }
    let reason =
        if strategy == Strategy::Disabled { reason::PERSISTENCE_DISABLED } else { reason::POLICY_EFFECTIVE };
    Verdict::yes(kind, reason, "")
}

fn state_reason(state: ServerState) -> &'static str {
    match state {
        ServerState::Holding => reason::HELD,
        ServerState::Restoring => reason::RESTORING,
        ServerState::AwaitingRecord => reason::INITIALISING,
        ServerState::Loading => reason::LOADING,
        ServerState::Ready => reason::SERVING,
        ServerState::WritesRefused => reason::WRITES_REFUSED,
        ServerState::Stopping => reason::STOPPING,
    }
}

/// Reason and message of the server's decision about its volume.
fn decision(facts: &Facts) -> (String, String) {
    let decision = facts.server.status().and_then(|status| status.decision.as_ref());
    decision.map_or_else(
        || (reason::HELD.to_owned(), String::new()),
        |decision| (decision.reason.clone(), decision.message.clone()),
    )
}

/// Whether clients are served, and if not, the cause that is closest to them.
#[must_use]
pub fn readiness(facts: &Facts) -> Verdict {
    let no = |reason: &str, message: String| Verdict::no(kind::READY, reason, message);
    let Some(pod) = &facts.pod else {
        return match claim_problem(facts) {
            Some(problem) => problem,
            None => {
                let warning =
                    facts.pod_warning.as_ref().map(|warning| format!(": {warning}")).unwrap_or_default();
                no(reason::POD_MISSING, format!("the pod has not been created yet{warning}"))
            }
        };
    };
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    if let Some(hold) = foreign_pod(facts) {
        return no(&hold.reason, hold.message);
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return no(
            reason::POD_TERMINATING,
            format!(
                "pod {pod_name:?} is being deleted; if its node is gone for good, mark it so that the volume is released: kubectl taint node NODE node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
            ),
        );
    }
    if let Some(status) = facts.server.status() {
        return match status.state {
            ServerState::Ready if pod_is_ready(pod) => Verdict::yes(kind::READY, reason::SERVING, ""),
            ServerState::Ready => {
                no(reason::POD_NOT_READY, "the server is ready, the kubelet has not seen it yet".into())
            }
            ServerState::Holding => {
                let (reason, message) = decision(facts);
                no(&reason, message)
            }
            ServerState::WritesRefused => {
                no(reason::WRITES_REFUSED, status.problem.clone().unwrap_or_default())
            }
            ServerState::Restoring
            | ServerState::AwaitingRecord
            | ServerState::Loading
            | ServerState::Stopping => no(state_reason(status.state), String::new()),
        };
    }
    if pod_is_ready(pod) {
        // The kubelet's probe is the server's own word; the control port is only the operator's way to it.
        let message = match &facts.server {
            ServerFact::Unreachable(message)
            | ServerFact::Unauthorized(message)
            | ServerFact::Refused { message, .. } => message.clone(),
            ServerFact::Absent | ServerFact::Status(_) => String::new(),
        };
        return Verdict::yes(kind::READY, reason::SERVING, message);
    }
    pod_problem(pod, facts)
}

/// Whether the kubelet calls the pod ready.
#[must_use]
pub(crate) fn pod_is_ready(pod: &Pod) -> bool {
    pod_condition(pod, "Ready").is_some_and(|(status, _)| status == "True")
}

/// Status and message of a pod condition.
fn pod_condition<'a>(pod: &'a Pod, kind: &str) -> Option<(&'a str, &'a str)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((condition.status.as_str(), condition.message.as_deref().unwrap_or_default()))
}

fn claim_problem(facts: &Facts) -> Option<Verdict> {
    let claim = facts.claim.as_ref()?;
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let warning = facts.claim_warning.as_ref().map(|warning| format!(": {warning}")).unwrap_or_default();
    match claim.status.as_ref()?.phase.as_deref()? {
        "Pending" => Some(Verdict::no(
            kind::READY,
            reason::VOLUME_CLAIM_PENDING,
            format!("claim {name:?} has no volume yet{warning}"),
        )),
        "Lost" => Some(Verdict::no(
            kind::READY,
            reason::VOLUME_CLAIM_LOST,
            format!(
                "claim {name:?} has lost its volume{warning}; bring the volume back, or, if it is gone for good: kubectl delete pvc {name}"
            ),
        )),
        _ => None,
    }
}

fn pod_problem(pod: &Pod, facts: &Facts) -> Verdict {
    let no = |reason: &str, message: String| Verdict::no(kind::READY, reason, message);
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    if facts.claim_warning.is_some()
        && let Some(problem) = claim_problem(facts)
    {
        return problem;
    }
    if let Some(("False", message)) = pod_condition(pod, "PodScheduled") {
        return no(reason::POD_PENDING, format!("pod {pod_name:?} has no node: {message}"));
    }
    let containers = pod.status.iter().flat_map(|status| {
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
    });
    for container in containers {
        if let Some(problem) = container_problem(pod_name, container) {
            return problem;
        }
    }
    if restore_container_runs(pod) {
        return no(
            reason::INITIALISING,
            format!(
                "the init container of pod {pod_name:?} is checking the volume and restores it if needed"
            ),
        );
    }
    let warning = facts.pod_warning.as_ref().map(|warning| format!(": {warning}")).unwrap_or_default();
    let node = pod_condition(pod, "Ready")
        .map(|(_, message)| message)
        .filter(|message| !message.is_empty() && warning.is_empty())
        .map(|message| format!(": {message}"))
        .unwrap_or_default();
    no(reason::POD_NOT_READY, format!("pod {pod_name:?} is not ready{warning}{node}"))
}

/// What is wrong with a container. The text is the same through all the states of a container that fails again and again:
/// it stands in a condition, and a count or a pause in it would be written each time.
fn container_problem(pod: &str, container: &ContainerStatus) -> Option<Verdict> {
    let no = |reason: &str, message: String| Some(Verdict::no(kind::READY, reason, message));
    let state = container.state.as_ref()?;
    let name = &container.name;
    if let Some(waiting) = &state.waiting {
        let message = waiting.message.as_deref().unwrap_or_default();
        match waiting.reason.as_deref()? {
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
                // Between two attempts the kubelet repeats the error of the last one behind this.
                let error = message.split_once(": ErrImagePull: ").map_or(message, |(_, error)| error);
                return no(
                    reason::IMAGE_UNAVAILABLE,
                    format!(
                        "image {:?} cannot be pulled: {error}; correct spec.image, or load the image",
                        container.image
                    ),
                );
            }
            "CrashLoopBackOff" if last_end(container).is_some() => {}
            "CrashLoopBackOff"
            | "RunContainerError"
            | "CreateContainerError"
            | "CreateContainerConfigError" => {
                let last = last_end(container).map(|end| format!("; it {end}")).unwrap_or_default();
                return no(
                    reason::CONTAINER_FAILING,
                    format!("container {name:?} of pod {pod:?} does not run: {message}{last}"),
                );
            }
            _ => return None,
        }
    }
    // Between two starts, and in the moment of one, it only looks as if it were on its way.
    let has_failed =
        state.waiting.is_some() || state.terminated.as_ref().is_some_and(|ended| ended.exit_code != 0);
    let fails_again = state.running.is_some() && !container.ready && container.restart_count > 1;
    if !has_failed && !fails_again {
        return None;
    }
    let last = last_end(container)?;
    no(
        reason::CONTAINER_FAILING,
        format!("container {name:?} of pod {pod:?} {last}; the kubelet starts it again and again"),
    )
}

/// How the container ended the last time that it failed, in its own words.
fn last_end(container: &ContainerStatus) -> Option<String> {
    let states = [container.state.as_ref(), container.last_state.as_ref()];
    let ended = states
        .into_iter()
        .flatten()
        .filter_map(|state| state.terminated.as_ref())
        .find(|ended| ended.exit_code != 0)?;
    let message = ended.message.as_deref().map(str::trim).filter(|message| !message.is_empty());
    let message = message.or(ended.reason.as_deref()).unwrap_or_default();
    Some(format!("ended with code {}: {message}", ended.exit_code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A StoreBackup that ended in minute `minute`: well when `succeeded`.
    fn backup(name: &str, method: &str, minute: u32, succeeded: bool) -> StoreBackup {
        let class = (method == "VolumeSnapshot").then_some("fast");
        let time = format!("2026-01-02T03:{minute:02}:00Z");
        let status = if succeeded { "True" } else { "False" };
        serde_json::from_value(json!({
            "apiVersion": "holdfast.dev/v1alpha1", "kind": "StoreBackup", "metadata": {"name": name},
            "spec": {"storeRef": {"name": "orders"}, "method": method, "volumeSnapshotClassName": class},
            "status": {"completionTime": time, "conditions": [{
                "type": "Succeeded", "status": status, "reason": "R", "message": "", "lastTransitionTime": time,
            }]},
        }))
        .expect("a StoreBackup")
    }

    /// Checks what a Store tells of `backups` in words: last success (with its minute), volume snapshot, failure.
    #[track_caller]
    fn check_summary(before: Option<&BackupSummary>, backups: &[StoreBackup], expected: [&str; 3]) {
        let old = StoreStatus { backup: before.cloned(), ..StoreStatus::default() };
        let found = backup_summary(&old, backups).unwrap_or_default();
        let minute = found.last_success_time.map(|time| time.0.to_string()[14..16].to_owned());
        let success = match (found.last_successful_backup, minute) {
            (Some(name), Some(minute)) => format!("{name} {minute}"),
            (None, None) => String::new(),
            half => panic!("a name without a time, or the reverse: {half:?}"),
        };
        let others = [found.last_volume_snapshot, found.last_failed_backup].map(Option::unwrap_or_default);
        assert_eq!([success.as_str(), others[0].as_str(), others[1].as_str()], expected);
    }

    #[test]
    fn only_what_lies_in_the_bucket_counts_as_the_last_success() {
        let upload = backup("upload", "Snapshot", 1, true);
        let cut = backup("cut", "VolumeSnapshot", 2, true);
        check_summary(None, &[], ["", "", ""]);
        check_summary(None, std::slice::from_ref(&cut), ["", "cut", ""]);
        check_summary(None, &[cut.clone(), upload.clone()], ["upload 01", "cut", ""]);
        let later = backup("later", "Snapshot", 3, true);
        check_summary(None, &[later, cut.clone(), upload.clone()], ["later 03", "cut", ""]);
        // A volume snapshot that succeeds does not hide that the newest upload has failed.
        let failed = backup("failed", "Snapshot", 1, false);
        check_summary(None, &[failed, cut], ["", "cut", "failed"]);
        check_summary(None, &[upload, backup("failed", "Snapshot", 5, false)], ["upload 01", "", "failed"]);
    }

    #[test]
    fn a_deleted_store_backup_leaves_its_data_and_its_time() {
        let upload = backup("upload", "Snapshot", 4, true);
        let before = backup_summary(&StoreStatus::default(), &[upload]).expect("a summary");
        check_summary(Some(&before), &[], ["upload 04", "", ""]);
        check_summary(Some(&before), &[backup("older", "Snapshot", 3, true)], ["upload 04", "", ""]);
        check_summary(Some(&before), &[backup("cut", "VolumeSnapshot", 5, true)], ["upload 04", "cut", ""]);
        check_summary(Some(&before), &[backup("newer", "Snapshot", 5, true)], ["newer 05", "", ""]);
    }

    #[test]
    fn a_volume_snapshot_says_that_no_lost_volume_comes_back_from_it() {
        let verdict = last_backup(&[backup("cut", "VolumeSnapshot", 2, true)]);
        assert_eq!((verdict.status, verdict.reason.as_str()), ("True", reason::BACKUP_SUCCEEDED));
        assert!(verdict.message.contains("restored from the bucket only"), "{}", verdict.message);
        let verdict = last_backup(&[backup("upload", "Snapshot", 2, true)]);
        assert_eq!(verdict.message, "StoreBackup \"upload\"");
    }

    /// What is said of a pod whose one container is in `state`.
    fn failing(restarts: i32, state: serde_json::Value) -> Verdict {
        let facts = Facts {
            pod: Some(
                serde_json::from_value(json!({
                    "metadata": {
                        "name": "orders-0",
                        "labels": crate::names::labels("orders"),
                    },
                    "status": {"containerStatuses": [{
                        "name": "server", "image": "i", "imageID": "i", "ready": false, "restartCount": restarts,
                        "state": state,
                        "lastState": {"terminated": {"exitCode": 2, "message": "line 17: hz takes a number"}},
                    }]},
                }))
                .expect("a pod"),
            ),
            ..Facts::default()
        };
        readiness(&facts)
    }

    #[test]
    fn a_container_that_fails_again_and_again_is_told_in_the_same_words() {
        let ended = json!({"terminated": {"exitCode": 2, "message": "line 17: hz takes a number"}});
        let waits = |pause: &str| {
            let message = format!(
                "back-off {pause} restarting failed container=server pod=orders-0_shop(0a1b2c3d-0000-4000-8000-000000000001)"
            );
            json!({"waiting": {"reason": "CrashLoopBackOff", "message": message}})
        };
        let first = failing(1, ended.clone());
        assert_eq!(first.reason, reason::CONTAINER_FAILING);
        for (restarts, state) in [
            (1, waits("10s")),
            (2, json!({"running": {}})),
            (2, ended.clone()),
            (2, waits("20s")),
            (3, ended),
            (9, waits("5m0s")),
        ] {
            assert_eq!(failing(restarts, state.clone()), first, "{state}");
        }
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_told_in_the_same_words() {
        let cause = "failed to pull and unpack image \"r.test/a:1\": dial tcp: lookup r.test on 10.96.0.10:53: no such host";
        let waits = |reason: &str, message: String| {
            failing(0, json!({"waiting": {"reason": reason, "message": message}}))
        };
        let pulls = waits("ErrImagePull", cause.to_owned());
        assert_eq!(pulls.reason, reason::IMAGE_UNAVAILABLE);
        let backs_off = waits(
            "ImagePullBackOff",
            format!("Back-off pulling image \"r.test/a:1\": ErrImagePull: {cause}"),
        );
        assert_eq!(pulls, backs_off);
    }
}
