//! The stages of a BackupLocation: probe it from time to time, say what was found.

use std::time::Duration;

use holdfast_contract::bucket::Location;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;

use crate::api::conditions::{self, Verdict, kind, reason};
use crate::api::v1alpha1::{
    AddressingStyle, BackupLocation, BackupLocationSpec, BackupLocationStatus, ObjectRef, S3Location,
};
use crate::caches::{self, Caches};
use crate::context::{Context, ReconcileError};
use crate::events::Note;
use crate::pipeline::{self, Applied, Kind};
use crate::reconcile::facts::LocationProblem;
use crate::reconcile::validate::Defaults;

/// Between probes of a location that works. Nothing else notices a changed Secret, for watching one would need the right to
/// list all; a probe costs a few requests.
const WHILE_AVAILABLE: Duration = Duration::from_secs(60);
/// Between probes of one that does not: the remedy (a Secret, a bucket, a key) is seen by nothing else.
const WHILE_UNAVAILABLE: Duration = Duration::from_secs(15);

/// What a BackupLocation names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatedLocation {
    /// The bucket.
    pub bucket: Location,
    /// Name of the Secret with its credentials.
    pub secret: String,
}

/// What a probe has found; absent: the location is being deleted, and is not probed.
pub type Probe = Option<Result<(), LocationProblem>>;

/// Probes the BackupLocation `namespace/name` once.
/// # Errors
/// The API did not answer, refused, or another writer was faster. A bucket that does not answer is a condition.
pub async fn reconcile(ctx: &Context, namespace: &str, name: &str) -> Result<Action, ReconcileError> {
    pipeline::reconcile::<BackupLocation>(ctx, namespace, name).await
}

/// Takes the spec apart: a field that nobody reads does not compile.
#[must_use]
pub fn validate(location: &BackupLocation) -> ValidatedLocation {
    let BackupLocationSpec { s3, prefix, credentials_secret_ref: ObjectRef { name: secret } } =
        &location.spec;
    let S3Location { bucket, endpoint, region, ca_bundle, addressing_style } = s3;
    ValidatedLocation {
        bucket: Location {
            endpoint: endpoint.clone(),
            region: region.clone(),
            bucket: bucket.clone(),
            prefix: prefix.clone().unwrap_or_default(),
            path_style: match addressing_style {
                AddressingStyle::Path => true,
                AddressingStyle::VirtualHosted => false,
            },
            ca_bundle: ca_bundle.clone(),
        },
        secret: secret.clone(),
    }
}

fn conditions_of(location: &BackupLocation) -> &[Condition] {
    location.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
}

impl Kind for BackupLocation {
    type Valid = ValidatedLocation;
    type Facts = Probe;
    type Plan = Option<Verdict>;
    type Done = Option<Verdict>;

    fn validate(&self, _: &Defaults, _: Timestamp) -> ValidatedLocation {
        validate(self)
    }

    async fn observe(
        &self,
        ctx: &Context,
        valid: &ValidatedLocation,
        _: Timestamp,
    ) -> Result<Probe, ReconcileError> {
        if self.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let credentials = ctx.secret_data(&self.namespace().unwrap_or_default(), &valid.secret).await?;
        Ok(Some(match credentials {
            Ok(credentials) => ctx.buckets.probe(&valid.bucket, &credentials).await,
            Err(problem) => Err(problem),
        }))
    }

    /// What is to be said; absent while the location is being deleted.
    fn decide(&self, _: &ValidatedLocation, probe: &Probe, _: Timestamp) -> Option<Verdict> {
        Some(match probe.as_ref()? {
            Ok(()) => Verdict::yes(
                kind::AVAILABLE,
                reason::PROBE_SUCCEEDED,
                "a small object can be written and is read back",
            ),
            Err(problem) => Verdict::no(kind::AVAILABLE, problem.reason.clone(), problem.message.clone()),
        })
    }

    async fn apply(
        &self,
        _: &Context,
        _: &ValidatedLocation,
        _: &Probe,
        plan: Option<Verdict>,
        _: Timestamp,
    ) -> Result<Option<Verdict>, ReconcileError> {
        Ok(plan)
    }

    fn status_after(
        &self,
        _: &ValidatedLocation,
        _: &Probe,
        applied: &Applied<Option<Verdict>>,
        now: Timestamp,
    ) -> Option<BackupLocationStatus> {
        let verdict = applied.done().clone()?;
        let generation = self.metadata.generation;
        Some(BackupLocationStatus {
            observed_generation: generation,
            conditions: conditions::merge(conditions_of(self), vec![verdict], generation, now),
        })
    }

    fn notes(&self, new: &BackupLocationStatus) -> Vec<Note> {
        let Some(found) = conditions::find(&new.conditions, kind::AVAILABLE) else { return Vec::new() };
        let is_same = conditions::find(conditions_of(self), kind::AVAILABLE)
            .is_some_and(|before| before.status == found.status && before.reason == found.reason);
        let note = if found.status == "True" { Note::normal } else { Note::warning };
        if is_same { Vec::new() } else { vec![note(&found.reason, found.message.clone())] }
    }

    fn pause(&self, _: &Probe, applied: &Applied<Option<Verdict>>, _: Timestamp) -> Option<Duration> {
        let verdict = applied.done().as_ref()?;
        Some(if verdict.status == "True" { WHILE_AVAILABLE } else { WHILE_UNAVAILABLE })
    }

    fn failed(message: String) -> Verdict {
        Verdict::unknown(kind::AVAILABLE, reason::RECONCILE_FAILED, message)
    }

    fn cached(caches: &Caches, namespace: &str, name: &str) -> Option<Self> {
        caches::get(&caches.locations, namespace, name)
    }

    /// A probe as any other; when it finds what is known, the location itself need not be read.
    async fn observe_cached(&self, ctx: &Context, _: &Caches, valid: &ValidatedLocation) -> Option<Probe> {
        self.observe(ctx, valid, Timestamp::now()).await.ok()
    }

    fn nothing(
        &self,
        _: &Context,
        _: &ValidatedLocation,
        _: &Probe,
        plan: Option<Verdict>,
    ) -> Option<Option<Verdict>> {
        Some(plan)
    }
}
