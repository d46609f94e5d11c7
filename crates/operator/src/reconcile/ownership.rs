//! Whose an object is, and whether it stays. Pure.
//!
//! What the operator does to an object by force needs a [`Verified`], and only this module makes one: the object is this
//! Store's own, or there is none. What goes for all owned kinds goes through [`Children::present`].

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt as _;

use super::facts::{Child, Children, Facts};
use super::plan::Hold;
use crate::api::conditions::reason;
use crate::api::v1alpha1::Store;
use crate::names;

/// An object of the Store's name that is the Store's own, or none at all.
#[derive(Debug)]
pub(crate) struct Verified<'a, K> {
    live: Option<&'a K>,
}

impl<'a, K> Verified<'a, K> {
    /// The object as it was read.
    pub(crate) fn live(&self) -> Option<&'a K> {
        self.live
    }
}

/// The owned objects, each known to be the Store's own or absent.
#[derive(Debug)]
pub(crate) struct VerifiedChildren<'a>(&'a Children);

impl<'a> VerifiedChildren<'a> {
    /// One of them.
    pub(crate) fn one<K>(&self, child: impl FnOnce(&'a Children) -> &'a Option<K>) -> Verified<'a, K> {
        Verified { live: child(self.0).as_ref() }
    }
}

fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

fn verify(store: &Store, child: &Child<'_>) -> Result<(), Hold> {
    let Child { kind, metadata } = child;
    let name = metadata.name.as_deref().unwrap_or_default();
    match controller(metadata) {
        Some(owner) if Some(&owner.uid) == store.metadata.uid.as_ref() => Ok(()),
        Some(owner) if owner.kind == "Store" && owner.name == store.name_any() => Err(Hold::waiting(
            reason::OLD_CHILDREN_REMAIN,
            format!(
                "{kind} {name:?} belongs to a deleted Store of the same name; waiting until it is removed"
            ),
        )),
        owner => Err(Hold::stalled(
            reason::OBJECT_CONFLICT,
            format!(
                "{kind} {name:?} is there already and {}, so it is not this Store's; delete or rename it, or give the Store another name",
                describe(owner)
            ),
        )),
    }
}

fn describe(owner: Option<&OwnerReference>) -> String {
    owner.map_or_else(
        || "has no owner".to_owned(),
        |owner| format!("belongs to {} {:?}", owner.kind, owner.name),
    )
}

/// The owned objects of `store`, or why one of them cannot be taken for the Store's own.
pub(crate) fn verify_children<'a>(
    store: &Store,
    children: &'a Children,
) -> Result<VerifiedChildren<'a>, Hold> {
    children.present().try_for_each(|child| verify(store, &child))?;
    Ok(VerifiedChildren(children))
}

/// Why the pod of the Store's name cannot be taken for the Store's own.
pub(crate) fn foreign_pod(facts: &Facts) -> Option<Hold> {
    let pod = facts.pod.as_ref()?;
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let set = facts.children.stateful_set.as_ref();
    match controller(&pod.metadata) {
        // The StatefulSet controller adopts a pod without controller that its selector selects.
        None if carries_selector(pod) => None,
        Some(owner)
            if owner.kind == "StatefulSet"
                && set.is_some_and(|set| set.metadata.uid.as_ref() == Some(&owner.uid)) =>
        {
            None
        }
        Some(owner) if owner.kind == "StatefulSet" && carries_selector(pod) => Some(Hold::waiting(
            reason::OLD_CHILDREN_REMAIN,
            format!(
                "pod {name:?} belongs to a deleted StatefulSet {:?}; waiting until it is removed",
                owner.name
            ),
        )),
        owner => Some(Hold::stalled(
            reason::OBJECT_CONFLICT,
            format!(
                "pod {name:?} is there already and {}, so it is not this Store's; the Store needs that name; delete the pod, or give the Store another name",
                describe(owner)
            ),
        )),
    }
}

/// Whether `pod` looks like the pod of a Store: only such a pod is sent the Store's token.
pub(crate) fn is_store_pod(pod: &Pod) -> bool {
    let owner = controller(&pod.metadata);
    carries_selector(pod) && owner.is_none_or(|owner| owner.kind == "StatefulSet")
}

fn carries_selector(pod: &Pod) -> bool {
    let Some(store) = pod.labels().get(names::key::STORE) else { return false };
    pod.metadata.name.as_deref() == Some(names::pod(store).as_str())
        && names::selector(store).iter().all(|(key, value)| pod.labels().get(key) == Some(value))
}

/// Whether the controller of the live StatefulSet owns `pod`.
pub(crate) fn is_pod_of(pod: &Pod, set: &StatefulSet) -> bool {
    controller(&pod.metadata).is_some_and(|owner| set.metadata.uid.as_ref() == Some(&owner.uid))
}

/// What is about to vanish of that which the Store needs. While it lasts the pod is not restarted: the pod may be all that
/// holds the object back, and what replaces the object may be empty.
pub(crate) fn vanishing(facts: &Facts) -> Vec<Hold> {
    let claim = facts.claim.as_ref().and_then(vanishing_claim);
    claim.into_iter().chain(facts.children.present().filter_map(|child| vanishing_child(&child))).collect()
}

fn vanishing_claim(claim: &k8s_openapi::api::core::v1::PersistentVolumeClaim) -> Option<Hold> {
    claim.metadata.deletion_timestamp.as_ref()?;
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or("…");
    Some(Hold::stalled(
        reason::VOLUME_CLAIM_DELETING,
        format!(
            "claim {name:?} is being deleted, and nothing but the running pod holds it back: when the pod ends, the claim and with it the data are gone; so the operator does not restart the pod, whatever the spec says; make a StoreBackup now; to keep the volume itself: kubectl patch pv {volume} -p '{{\"spec\":{{\"persistentVolumeReclaimPolicy\":\"Retain\"}}}}'"
        ),
    ))
}

fn vanishing_child(child: &Child<'_>) -> Option<Hold> {
    let Child { kind, metadata } = child;
    metadata.deletion_timestamp.as_ref()?;
    let finalizers = metadata.finalizers.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(", ");
    let held =
        if finalizers.is_empty() { String::new() } else { format!(", held back by finalizers {finalizers}") };
    Some(Hold::waiting(
        reason::OBJECT_DELETING,
        format!(
            "{kind} {:?} is being deleted{held}; it is created again when it is gone, and the pod is not restarted before that",
            metadata.name.as_deref().unwrap_or_default()
        ),
    ))
}

/// Whether the children of a Store that is being deleted have been let go: `kubectl delete --cascade=orphan` takes the
/// owner references away, and nothing else does.
pub(crate) fn is_orphaned(store: &Store, children: &Children) -> bool {
    children.present().any(|Child { kind: _, metadata }| {
        let is_labelled = metadata.labels.as_ref().and_then(|labels| labels.get(names::key::STORE))
            == store.metadata.name.as_ref();
        let is_owned = metadata
            .owner_references
            .iter()
            .flatten()
            .any(|owner| Some(&owner.uid) == store.metadata.uid.as_ref());
        is_labelled && !is_owned
    })
}
