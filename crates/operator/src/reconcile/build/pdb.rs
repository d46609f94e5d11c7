//! PodDisruptionBudget.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::owned;
use crate::names;
use crate::reconcile::validate::ValidatedStore;

/// `maxUnavailable: 1`: with a single instance `minAvailable: 1` would make every drain hang for ever.
pub(super) fn build(store: &ValidatedStore) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: owned(store, names::stateful_set(&store.name)),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(names::selector(&store.name)),
                ..LabelSelector::default()
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
