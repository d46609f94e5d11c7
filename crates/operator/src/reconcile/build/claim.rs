//! The first volume claim. It is made by the operator, not by the StatefulSet, because only the first claim may be
//! filled from a snapshot: a claim template with a source would restore the old snapshot again whenever a claim is lost.
//!
//! A claim has no owner: deleting a Store never deletes data by garbage collection.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, TypedLocalObjectReference, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use kube::ResourceExt as _;

use crate::names;
use crate::reconcile::validate::{Storage, ValidatedStore};

/// API group of volume snapshots.
pub const SNAPSHOT_GROUP: &str = "snapshot.storage.k8s.io";

/// The first claim of `store`, filled from the VolumeSnapshot `data_source` if there is one.
#[must_use]
pub fn build(
    store: &ValidatedStore,
    storage: &Storage,
    store_id: &str,
    data_source: Option<&str>,
) -> PersistentVolumeClaim {
    let mut claim = template(store, storage, store_id);
    claim.metadata.name = Some(names::claim(&store.name));
    claim.metadata.namespace = Some(store.namespace.clone());
    if let Some(spec) = &mut claim.spec {
        spec.data_source = data_source.map(|name| TypedLocalObjectReference {
            api_group: Some(SNAPSHOT_GROUP.to_owned()),
            kind: "VolumeSnapshot".to_owned(),
            name: name.to_owned(),
        });
    }
    claim
}

/// Most former owners that are remembered.
const FORMER_OWNERS_MAX: usize = 8;

/// UIDs of the Store objects other than `uid` that have used `claim`, oldest first.
#[must_use]
pub fn former_owners(claim: &PersistentVolumeClaim, uid: &str) -> Vec<String> {
    let annotation = |key: &str| claim.annotations().get(key).map(String::as_str).unwrap_or_default();
    let mut owners: Vec<String> = annotation(names::key::FORMER_STORE_UIDS)
        .split(',')
        .chain([annotation(names::key::STORE_UID)])
        .map(str::trim)
        .filter(|owner| !owner.is_empty() && *owner != uid)
        .map(str::to_owned)
        .collect();
    let surplus = owners.len().saturating_sub(FORMER_OWNERS_MAX);
    owners.drain(..surplus);
    owners
}

/// Whether GitOps tools leave `claim` alone. One that the StatefulSet has made carries the labels of its selector, one of
/// an earlier version lacks the annotations.
#[must_use]
pub fn is_protected(claim: &PersistentVolumeClaim) -> bool {
    let keys = names::KEEP_ANNOTATIONS.map(|(key, _)| key);
    keys.into_iter().all(|key| claim.annotations().contains_key(key))
        && !claim.labels().contains_key(names::INSTANCE_LABEL)
}

/// The claim template of the StatefulSet: the same without name and source, so that a claim that was lost comes back
/// with the marks of its Store, and empty.
pub(super) fn template(store: &ValidatedStore, storage: &Storage, store_id: &str) -> PersistentVolumeClaim {
    let mut labels = names::data_labels(&store.name);
    labels.insert(names::key::STORE_ID.to_owned(), store_id.to_owned());
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(names::DATA_VOLUME.to_owned()),
            labels: Some(labels),
            annotations: Some(
                names::KEEP_ANNOTATIONS
                    .into_iter()
                    .chain([(names::key::STORE_UID, store.uid.as_str())])
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect(),
            ),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(storage.access_modes.iter().map(|mode| mode.as_str().to_owned()).collect()),
            storage_class_name: storage.class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), ApiQuantity(storage.size.0.clone()))])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
