//! Services: one for clients, one for stable names.

use holdfast_contract::ports;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::owned;
use crate::names;
use crate::reconcile::validate::ValidatedStore;

/// The Service for clients: ready pods only, the Redis port only.
pub(super) fn build(store: &ValidatedStore) -> Service {
    Service {
        metadata: owned(store, names::stateful_set(&store.name)),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            selector: Some(names::selector(&store.name)),
            ports: Some(vec![port("redis", ports::REDIS)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The headless Service of the StatefulSet: names of the pods, also while they are not ready.
pub(super) fn build_headless(store: &ValidatedStore) -> Service {
    Service {
        metadata: owned(store, names::headless_service(&store.name)),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            selector: Some(names::selector(&store.name)),
            ports: Some(vec![
                port("redis", ports::REDIS),
                port("health", ports::HEALTH),
                port("control", ports::CONTROL),
            ]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(number),
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    }
}
