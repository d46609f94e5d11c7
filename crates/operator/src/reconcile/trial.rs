//! Tries a changed pod before its template is applied: the API server is asked to make the pod and to keep nothing of it
//! ([dry run]). What validation, a policy or a webhook would refuse to the StatefulSet controller, when the pod that serves is
//! gone, they refuse here.
//!
//! [dry run]: https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run

use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Error as KubeError;
use kube::api::{Api, PostParams};

use super::apply::post_params;
use super::build::Desired;
use super::facts::{Facts, Trial};
use super::rendering::applied_annotations;
use super::validate::ValidatedStore;
use crate::context::Context;
use crate::names;

/// What an answer to a trial says.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The pod would be made.
    Taken,
    /// It would be refused.
    Refused,
    /// Whether it would be made only the real one shows.
    Unknown,
    /// Nothing: the trial itself has failed.
    Failed,
}

/// Tries the pod of `desired`, which is about to be applied. Absent when the API would make it, when it is applied already or the
/// first one, and when nobody can tell.
pub(super) async fn try_pod(
    ctx: &Context,
    valid: &ValidatedStore,
    desired: &Desired,
    facts: &Facts,
) -> Option<Trial> {
    // The first template has nothing to spare; what refuses its pod the StatefulSet tells.
    let applied = applied_annotations(facts)?;
    if applied.get(names::key::TEMPLATE_HASH) == Some(&desired.template_hash) {
        return None;
    }
    let name = names::pod(&valid.name);
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), &valid.namespace);
    let params = PostParams { dry_run: true, ..post_params() };
    let error = api.create(&params, &pod(valid, desired)).await.err()?;
    let (verdict, message) = match &error {
        KubeError::Api(status) => (verdict(status.code, &status.message), status.message.clone()),
        _ => (Verdict::Failed, error.to_string()),
    };
    match verdict {
        Verdict::Taken => None,
        Verdict::Refused => Some(Trial::Refused(message)),
        Verdict::Unknown => {
            tracing::info!(name, message, "pod not tried before its template is applied");
            None
        }
        Verdict::Failed => Some(Trial::Failed(message)),
    }
}

/// The pod that the StatefulSet controller makes of `desired`, as far as anybody looks at it before it is stored.
fn pod(valid: &ValidatedStore, desired: &Desired) -> Pod {
    let template = desired.stateful_set.spec.template.clone();
    let mut spec = template.spec.unwrap_or_default();
    if valid.storage.is_some() {
        spec.volumes.get_or_insert_default().push(Volume {
            name: names::DATA_VOLUME.to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: names::claim(&valid.name),
                read_only: None,
            }),
            ..Volume::default()
        });
    }
    let metadata =
        ObjectMeta { name: Some(names::pod(&valid.name)), ..template.metadata.unwrap_or_default() };
    Pod { metadata, spec: Some(spec), status: None }
}

fn verdict(code: u16, message: &str) -> Verdict {
    match code {
        // Everybody has let it pass, and then its name was found to be taken: by the pod that serves.
        409 => Verdict::Taken,
        // That pod has its share of the quota until it goes.
        403 if message.contains("exceeded quota") => Verdict::Unknown,
        // A role of an operator that did not try.
        403 if message.contains("cannot create resource \"pods\"") => Verdict::Unknown,
        400 if message.contains("does not support dry run") => Verdict::Unknown,
        400 | 403 | 422 => Verdict::Refused,
        _ => Verdict::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_real_pod_would_meet_as_well_is_a_refusal() {
        for (code, message, expected) in [
            (409, "pods \"orders-0\" already exists", Verdict::Taken),
            (
                403,
                "pods \"orders-0\" is forbidden: no PriorityClass with name nope was found",
                Verdict::Refused,
            ),
            (
                403,
                "pods \"orders-0\" is forbidden: violates PodSecurity \"restricted:latest\"",
                Verdict::Refused,
            ),
            (400, "admission webhook \"policy.test\" denied the request: no", Verdict::Refused),
            (422, "Pod \"orders-0\" is invalid: spec.tolerations", Verdict::Refused),
            (
                403,
                "pods \"orders-0\" is forbidden: exceeded quota: small, requested: pods=1",
                Verdict::Unknown,
            ),
            (400, "admission webhook \"old.test\" does not support dry run", Verdict::Unknown),
            (
                403,
                "pods is forbidden: User \"system:serviceaccount:a:b\" cannot create resource \"pods\" in API group \"\"",
                Verdict::Unknown,
            ),
            (500, "etcd is away", Verdict::Failed),
            (429, "slow down", Verdict::Failed),
        ] {
            assert_eq!(verdict(code, message), expected, "{code}: {message}");
        }
    }
}
