//! Defaults that several tests share.

use holdfast_operator::reconcile::validate::{Defaults, PodUser};

/// Defaults of an operator under test.
pub(crate) fn defaults() -> Defaults {
    Defaults {
        server_image: "example.test/holdfast-server:1".into(),
        image_pull_policy: Some("IfNotPresent".into()),
        pod_user: PodUser::Fixed,
    }
}
