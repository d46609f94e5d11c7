//! The StatefulSet: one pod with one volume.

use std::collections::BTreeMap;

use holdfast_contract::bucket::credentials;
use holdfast_contract::ports;
use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, HTTPGetAction,
    KeyToPath, LocalObjectReference, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, SeccompProfile,
    SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Inputs, claim, digest, owned};
use crate::api::v1alpha1::{PodMetadata, PodTemplate};
use crate::names;
use crate::reconcile::rendering::Rendering;
use crate::reconcile::validate::{PodUser, ValidatedStore};

/// User and group of the server: any number that is not 0; the images use the same.
const SERVER_ID: i64 = 65_532;
/// Size of the scratch directory; nothing large is ever written there.
const SCRATCH_SIZE: &str = "64Mi";
/// Path of the binary in the image.
const BINARY: &str = "/holdfast-server";

/// Builds the StatefulSet.
pub(super) fn build(store: &ValidatedStore, inputs: &Inputs, config_sha256: &str) -> StatefulSet {
    let mut template = pod_template(store, inputs, config_sha256);
    let hash = digest(&template);
    if let Some(annotations) = template.metadata.as_mut().and_then(|metadata| metadata.annotations.as_mut()) {
        annotations.insert(names::key::TEMPLATE_HASH.to_owned(), hash);
    }
    let claim_templates = store.storage.as_ref().zip(inputs.record.as_ref()).map(|(storage, record)| {
        let mut template = claim::template(store, storage, &record.store_id);
        // The API server stores these two with the template; without them it would take a later apply for a change.
        if let Some(spec) = &mut template.spec {
            spec.volume_mode = Some("Filesystem".to_owned());
        }
        inputs.claim_templates.clone().unwrap_or_else(|| vec![template])
    });
    StatefulSet {
        metadata: owned(store, names::stateful_set(&store.name)),
        spec: StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(names::headless_service(&store.name)),
            selector: LabelSelector {
                match_labels: Some(names::selector(&store.name)),
                ..LabelSelector::default()
            },
            // The operator decides when the pod restarts.
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".into()),
                ..StatefulSetUpdateStrategy::default()
            }),
            pod_management_policy: Some("Parallel".into()),
            revision_history_limit: Some(3),
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some("Retain".into()),
                when_scaled: Some("Retain".into()),
            }),
            template,
            volume_claim_templates: claim_templates,
            ..StatefulSetSpec::default()
        },
        ..StatefulSet::default()
    }
}

/// Invariant: for one Store and rendering it never changes, whatever the operator's version (`tests/golden/renderings`).
fn pod_template(store: &ValidatedStore, inputs: &Inputs, config_sha256: &str) -> PodTemplateSpec {
    let PodTemplate {
        metadata,
        node_selector,
        affinity,
        tolerations,
        topology_spread_constraints,
        priority_class_name,
        image_pull_secrets,
    } = &store.pod;
    let PodMetadata { mut labels, mut annotations } = metadata.clone().unwrap_or_default();
    labels.extend(names::labels(&store.name));
    annotations.insert(names::key::CONFIG_SHA256.to_owned(), config_sha256.to_owned());
    annotations.insert(names::key::AUTH_REVISION.to_owned(), inputs.auth_revision.clone());
    if inputs.rendering != Rendering::FIRST {
        annotations.insert(names::key::RENDERING.to_owned(), inputs.rendering.to_string());
    }

    let config_path = format!("{}/{}", names::CONFIG_DIR, names::CONFIG_KEY);
    let mounts = volume_mounts(inputs);
    let server = Container {
        name: names::SERVER_CONTAINER.to_owned(),
        args: Some(vec![config_path.clone()]),
        ports: Some(vec![
            container_port("redis", ports::REDIS),
            container_port("health", ports::HEALTH),
            container_port("control", ports::CONTROL),
        ]),
        // No startup probe: loading may take longer than any limit. `/livez` answers from the first moment, also while
        // the server loads, restores or holds, and never depends on the disk.
        liveness_probe: Some(probe("/livez", 10, 5, 6, Some(10))),
        readiness_probe: Some(probe("/readyz", 2, 2, 2, None)),
        ..container(store, &mounts)
    };
    let restore = Container {
        name: names::RESTORE_CONTAINER.to_owned(),
        args: Some(vec!["restore".to_owned(), config_path]),
        ..container(store, &mounts)
    };

    let user = match store.pod_user {
        PodUser::Fixed => Some(SERVER_ID),
        PodUser::Cluster => None,
    };
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(names::service_account(&store.name)),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(i64::from(store.shutdown_budget_seconds)),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: user,
                run_as_group: user,
                fs_group: user,
                // Otherwise every start walks the whole volume.
                fs_group_change_policy: Some("OnRootMismatch".into()),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".into(),
                    localhost_profile: None,
                }),
                ..PodSecurityContext::default()
            }),
            // A pure cache has no volume to decide about.
            init_containers: inputs.record.is_some().then(|| vec![restore]),
            containers: vec![server],
            volumes: Some(volumes(store, inputs)),
            node_selector: Some(node_selector.clone()).filter(|selector| !selector.is_empty()),
            affinity: affinity.clone(),
            tolerations: Some(tolerations.clone()).filter(|list| !list.is_empty()),
            topology_spread_constraints: Some(topology_spread_constraints.clone())
                .filter(|list| !list.is_empty()),
            priority_class_name: priority_class_name.clone(),
            image_pull_secrets: Some(
                image_pull_secrets
                    .iter()
                    .map(|secret| LocalObjectReference { name: secret.name.clone() })
                    .collect::<Vec<_>>(),
            )
            .filter(|list| !list.is_empty()),
            ..PodSpec::default()
        }),
    }
}

/// What both containers share.
fn container(store: &ValidatedStore, mounts: &[VolumeMount]) -> Container {
    Container {
        image: Some(store.image.clone()),
        image_pull_policy: store.image_pull_policy.clone(),
        command: Some(vec![BINARY.to_owned()]),
        resources: Some(store.resources.clone())
            .filter(|resources| resources.limits.is_some() || resources.requests.is_some()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
            ..SecurityContext::default()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        volume_mounts: Some(mounts.to_vec()),
        ..Container::default()
    }
}

fn volume_mounts(inputs: &Inputs) -> Vec<VolumeMount> {
    let mount = |name: &str, path: String, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path,
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let mut mounts = vec![
        mount(names::DATA_VOLUME, names::DATA_DIR.into(), false),
        mount("tmp", "/tmp".into(), false),
        mount("config", names::CONFIG_DIR.into(), true),
        // Whole directories, never single files: those are not refreshed when the object changes.
        mount("auth", names::AUTH_DIR.into(), true),
    ];
    if inputs.record.is_some() {
        mounts.push(mount("record", names::RECORD_DIR.into(), true));
    }
    for location in &inputs.locations {
        mounts.push(mount(
            &names::location_volume(&location.name),
            names::credentials_dir(&location.name),
            true,
        ));
    }
    mounts
}

fn volumes(store: &ValidatedStore, inputs: &Inputs) -> Vec<Volume> {
    let scratch = |name: &str| Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(ApiQuantity(SCRATCH_SIZE.to_owned())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    };
    let config_map = |name: &str, source: String| Volume {
        name: name.to_owned(),
        config_map: Some(ConfigMapVolumeSource { name: source, ..ConfigMapVolumeSource::default() }),
        ..Volume::default()
    };
    let mut volumes = vec![scratch("tmp"), config_map("config", names::config(&store.name))];
    if inputs.record.is_some() {
        volumes.push(config_map("record", names::record(&store.name)));
    } else {
        volumes.push(scratch(names::DATA_VOLUME));
    }
    volumes.push(Volume {
        name: "auth".into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(names::auth_secret(&store.name)),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    });
    for location in &inputs.locations {
        let keys = [credentials::ACCESS_KEY_ID, credentials::SECRET_ACCESS_KEY, credentials::SESSION_TOKEN];
        volumes.push(Volume {
            name: names::location_volume(&location.name),
            secret: Some(SecretVolumeSource {
                secret_name: Some(location.secret.clone()),
                // A missing Secret must not keep a server with good data from starting.
                optional: Some(true),
                items: Some(
                    keys.into_iter()
                        .map(|key| KeyToPath { key: key.into(), path: key.into(), ..KeyToPath::default() })
                        .collect(),
                ),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        });
    }
    volumes
}

fn container_port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, period: i32, timeout: i32, failures: i32, delay: Option<i32>) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("health".into()),
            ..HTTPGetAction::default()
        }),
        initial_delay_seconds: delay,
        period_seconds: Some(period),
        timeout_seconds: Some(timeout),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// Secret names of the locations that a live StatefulSet mounts, by location.
#[must_use]
pub fn mounted_locations(stateful_set: &StatefulSet) -> BTreeMap<String, String> {
    stateful_set.spec.template.spec.as_ref().map(locations_of).unwrap_or_default()
}

/// Who has chosen the user of a pod.
#[must_use]
pub(crate) fn user_of(pod: &PodSpec) -> PodUser {
    let user = pod.security_context.as_ref().and_then(|context| context.run_as_user);
    if user == Some(SERVER_ID) { PodUser::Fixed } else { PodUser::Cluster }
}

/// Secret names of the locations that a pod mounts, by location.
#[must_use]
pub(crate) fn locations_of(pod: &PodSpec) -> BTreeMap<String, String> {
    pod.volumes
        .iter()
        .flatten()
        .filter_map(|volume| {
            let location = names::location_of_volume(&volume.name)?;
            Some((location.to_owned(), volume.secret.as_ref()?.secret_name.clone()?))
        })
        .collect()
}
