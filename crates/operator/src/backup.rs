//! The stages of a StoreBackup, in the order of [`crate::pipeline`]. A restarted operator finds what it began by the backup's
//! UID: the id of the upload, the token of the barrier, the name of the VolumeSnapshot.
//!
//! ```text
//!   pending ── Store ready, finalizer set ──▶ running ──▶ Succeeded=True, ReadyToUse=True
//!      │                                        │  ├────▶ Succeeded=False (reason)
//!      └───────────── deadline ─────────────────┘  └────▶ deleted: cancelled, barrier released, then let go
//! ```

mod apply;
pub mod checks;
pub mod facts;
mod messages;
mod observe;
pub mod plan;
mod status;
pub mod volume_snapshot;

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;

use crate::api::conditions::{Verdict, kind, reason};
use crate::api::v1alpha1::{BackupMethod, ObjectRef, StoreBackup, StoreBackupSpec, StoreBackupStatus};
use crate::caches::{self, Caches};
use crate::context::{Context, ReconcileError};
use crate::events::Note;
use crate::names;
use crate::pipeline::{self, Applied, Kind};
use crate::reconcile::validate::Defaults;
use facts::Facts;
use plan::{Outcome, Plan};

/// `spec.deadlineSeconds` unless it says otherwise.
const DEADLINE_SECONDS: u32 = 3600;

/// Reconciles the StoreBackup `namespace/name` once.
/// # Errors
/// The API did not answer, refused, or another writer was faster. Nothing has to be undone.
pub async fn reconcile(ctx: &Context, namespace: &str, name: &str) -> Result<Action, ReconcileError> {
    pipeline::reconcile::<StoreBackup>(ctx, namespace, name).await
}

/// What a StoreBackup asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatedBackup {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID of the object: what is begun for it is named after it.
    pub uid: String,
    /// Name of the Store.
    pub store: String,
    /// How the backup is made.
    pub method: Method,
    /// Seconds until it has failed: from its creation until it begins, then again from when it began.
    pub deadline_seconds: u32,
}

/// How a backup is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// The server uploads its dataset.
    Snapshot,
    /// The volume's CSI driver makes a VolumeSnapshot.
    VolumeSnapshot {
        /// VolumeSnapshotClass; absent only in objects that are older than the rule: the cluster's default.
        class: Option<String>,
    },
}

/// Takes the spec apart: a field that nobody reads does not compile.
#[must_use]
pub fn validate(backup: &StoreBackup) -> ValidatedBackup {
    let StoreBackupSpec {
        store_ref: ObjectRef { name: store },
        method,
        volume_snapshot_class_name: class,
        deadline_seconds,
    } = &backup.spec;
    ValidatedBackup {
        namespace: backup.namespace().unwrap_or_default(),
        name: backup.name_any(),
        uid: backup.uid().unwrap_or_default(),
        store: store.clone(),
        method: match method {
            BackupMethod::Snapshot => Method::Snapshot,
            BackupMethod::VolumeSnapshot => Method::VolumeSnapshot { class: class.clone() },
        },
        deadline_seconds: deadline_seconds.unwrap_or(DEADLINE_SECONDS),
    }
}

impl ValidatedBackup {
    /// Id of an attempt, as upload or barrier: the UID, so that a restarted operator finds what it began; further attempts
    /// need further names.
    fn attempt_id(&self, attempt: u32) -> String {
        if attempt <= 1 { self.uid.clone() } else { format!("{}-{attempt}", self.uid) }
    }

    /// Name of the VolumeSnapshot of the attempt that `status` is in.
    fn snapshot_name(&self, status: &StoreBackupStatus) -> String {
        names::volume_snapshot(&self.name, &self.uid, attempt(status))
    }
}

/// The attempt that a backup is in.
fn attempt(status: &StoreBackupStatus) -> u32 {
    status.attempts.unwrap_or(1)
}

fn has_finalizer(backup: &StoreBackup) -> bool {
    backup.finalizers().iter().any(|finalizer| finalizer == names::BACKUP_FINALIZER)
}

impl Kind for StoreBackup {
    type Valid = ValidatedBackup;
    type Facts = Facts;
    type Plan = Plan;
    type Done = Outcome;

    fn validate(&self, _: &Defaults, _: Timestamp) -> ValidatedBackup {
        validate(self)
    }

    async fn observe(
        &self,
        ctx: &Context,
        valid: &ValidatedBackup,
        now: Timestamp,
    ) -> Result<Facts, ReconcileError> {
        observe::observe(ctx, self, valid, now).await
    }

    fn decide(&self, valid: &ValidatedBackup, facts: &Facts, now: Timestamp) -> Plan {
        plan::decide(self, valid, facts, now)
    }

    async fn apply(
        &self,
        ctx: &Context,
        valid: &ValidatedBackup,
        facts: &Facts,
        plan: Plan,
        _: Timestamp,
    ) -> Result<Outcome, ReconcileError> {
        apply::apply(ctx, self, valid, facts, plan).await
    }

    fn status_after(
        &self,
        valid: &ValidatedBackup,
        _: &Facts,
        applied: &Applied<Outcome>,
        now: Timestamp,
    ) -> Option<StoreBackupStatus> {
        status::status(self, valid, applied, now)
    }

    fn notes(&self, new: &StoreBackupStatus) -> Vec<Note> {
        messages::notes(self, new)
    }

    fn pause(&self, facts: &Facts, applied: &Applied<Outcome>, _: Timestamp) -> Option<Duration> {
        status::pause(self, facts, applied)
    }

    fn failed(message: String) -> Verdict {
        Verdict::unknown(kind::SUCCEEDED, reason::RECONCILE_FAILED, message)
    }

    fn cached(caches: &Caches, namespace: &str, name: &str) -> Option<Self> {
        caches::get(&caches.backups, namespace, name)
    }

    /// Only a backup that has ended may need nothing, and not when it is due to be looked for.
    async fn observe_cached(&self, ctx: &Context, caches: &Caches, valid: &ValidatedBackup) -> Option<Facts> {
        let status = self.status.as_ref().filter(|status| status.completion_time.is_some())?;
        let location =
            status.location.as_ref().and_then(|name| caches::get(&caches.locations, &valid.namespace, name));
        let next_check = observe::time_to_check(ctx, valid, status, location.as_ref());
        (next_check != Some(Duration::ZERO)).then(|| Facts { location, next_check, ..Facts::default() })
    }

    fn nothing(&self, _: &Context, _: &ValidatedBackup, _: &Facts, plan: Plan) -> Option<Outcome> {
        match plan {
            Plan::Say(outcome) => Some(outcome),
            _ => None,
        }
    }

    fn forget(ctx: &Context, namespace: &str, name: &str) {
        ctx.checks.forget(namespace, name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_has_an_id_of_its_own() {
        let backup: StoreBackup = serde_json::from_value(serde_json::json!({
            "apiVersion": "holdfast.dev/v1alpha1", "kind": "StoreBackup",
            "metadata": {"name": "nightly", "uid": "u"}, "spec": {"storeRef": {"name": "orders"}},
        }))
        .expect("a backup");
        let valid = validate(&backup);
        assert_eq!(valid.attempt_id(1), "u");
        assert_eq!(valid.attempt_id(2), "u-2");
    }
}
