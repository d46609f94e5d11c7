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

/// UIDs of the Store objects that had `claim` before the one with `uid`, oldest first.
///
/// Invariant: of two Stores at most one names the other. Who had the claim once and takes it up again names nobody who came in
/// between; otherwise two Stores with copies of one claim would take the marker in the bucket from each other for ever.
#[must_use]
pub fn former_owners(claim: &PersistentVolumeClaim, uid: &str) -> Vec<String> {
    owners(claim).into_iter().take_while(|owner| owner != uid).collect()
}

/// UIDs of the Store objects that have `claim` or had it, oldest first.
#[must_use]
pub fn owners(claim: &PersistentVolumeClaim) -> Vec<String> {
    let annotation = |key: &str| claim.annotations().get(key).map(String::as_str).unwrap_or_default();
    let mut owners: Vec<String> = annotation(names::key::FORMER_STORE_UIDS)
        .split(',')
        .chain([annotation(names::key::STORE_UID)])
        .map(str::trim)
        .filter(|owner| !owner.is_empty())
        .map(str::to_owned)
        .collect();
    let surplus = owners.len().saturating_sub(FORMER_OWNERS_MAX + 1);
    owners.drain(..surplus);
    owners
}

/// Whether GitOps tools leave `claim` alone. One that the StatefulSet has made carries the labels of its selector, one of
/// an earlier version lacks the annotations.
#[must_use]
pub(crate) fn is_protected(claim: &PersistentVolumeClaim) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The claim after these Stores have taken it up, one after the other, as `adopt_claim` writes it.
    fn taken_up_by(uids: &[&str]) -> PersistentVolumeClaim {
        uids.iter().fold(PersistentVolumeClaim::default(), |mut claim, uid| {
            let former = owners(&claim).join(",");
            claim.metadata.annotations = Some(BTreeMap::from([
                (names::key::STORE_UID.to_owned(), (*uid).to_owned()),
                (names::key::FORMER_STORE_UIDS.to_owned(), former),
            ]));
            claim
        })
    }

    #[test]
    fn who_had_a_claim_before_is_named_oldest_first() {
        assert_eq!(former_owners(&PersistentVolumeClaim::default(), "a"), [""; 0]);
        assert_eq!(former_owners(&taken_up_by(&["a"]), "a"), [""; 0]);
        assert_eq!(former_owners(&taken_up_by(&["a", "b", "c"]), "c"), ["a", "b"]);
        assert_eq!(former_owners(&taken_up_by(&["a", "b"]), "c"), ["a", "b"], "who is about to take it up");
    }

    #[test]
    fn the_list_of_former_owners_is_bounded() {
        let uids: Vec<String> = (0..30).map(|number| format!("uid-{number}")).collect();
        let uids: Vec<&str> = uids.iter().map(String::as_str).collect();
        let former = former_owners(&taken_up_by(&uids), "uid-29");
        assert_eq!(former.len(), FORMER_OWNERS_MAX);
        assert_eq!(former.last().map(String::as_str), Some("uid-28"), "the oldest are forgotten");
    }

    /// The marker in the bucket gives way to whom its owner is named by. Each of two Stores has a copy of the claim of one
    /// volume, for example in two clusters that share a bucket.
    #[test]
    fn two_stores_that_take_up_one_volume_do_not_take_the_marker_from_each_other_for_ever() {
        let histories: [(&[&str], &[&str]); 4] = [
            (&["a"], &["a", "b"]),
            (&["a", "b", "a"], &["a", "b"]),
            (&["a", "b", "a"], &["a", "b", "a", "b"]),
            (&["b", "a", "b", "a"], &["b", "a", "b"]),
        ];
        for (of_a, of_b) in histories {
            let former = [former_owners(&taken_up_by(of_a), "a"), former_owners(&taken_up_by(of_b), "b")];
            let mut marker = 0;
            let mut moves = 0;
            for turn in 0..20 {
                let asking = turn % 2;
                if asking != marker && former[asking].iter().any(|uid| uid == ["a", "b"][marker]) {
                    (marker, moves) = (asking, moves + 1);
                }
            }
            assert!(moves <= 1, "{of_a:?} and {of_b:?}: the marker moved {moves} times");
        }
    }
}
