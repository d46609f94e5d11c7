//! The account of the pods.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::owned;
use crate::names;
use crate::reconcile::validate::ValidatedStore;

/// An account without rights and without a token: servers never talk to the API. Of its own, so that a policy of the
/// cluster can name it, and so that rights of the namespace's default account never reach a server.
pub(super) fn build_service_account(store: &ValidatedStore) -> ServiceAccount {
    ServiceAccount {
        metadata: owned(store, names::service_account(&store.name)),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
