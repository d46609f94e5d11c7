//! PodDisruptionBudget.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::owned;
use crate::names;
use crate::reconcile::validate::ValidatedStore;

/// With a single instance `minAvailable: 1` would make every drain hang for ever. So would `maxUnavailable: 1` when the pod is not
/// ready, by the default policy: the budget asks for no healthy pod then, and that policy lets an unready one go only where it asks
/// for some. Source: Kubernetes, "Specifying a Disruption Budget for your Application", unhealthy pod eviction policy;
/// `pkg/registry/core/pod/storage/eviction.go`.
pub(super) fn build(store: &ValidatedStore) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: owned(store, names::stateful_set(&store.name)),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            selector: Some(LabelSelector {
                match_labels: Some(names::selector(&store.name)),
                ..LabelSelector::default()
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
