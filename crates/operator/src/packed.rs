//! An object as the caches keep it: as the text that the API has for it, compressed.
//!
//! ```text
//!   LIST, WATCH ─▶ object ── trim, write ─▶ text, for whom it wakes ── compress ─▶ in a cache
//!                  object, for the time of one look ◀── decompress, read ────────────┘
//! ```
//!
//! The text is a tenth of what the object takes: each map of a few entries is a node for eleven, and what the API notes of a
//! StatefulSet's fields is 200 maps. Compressed against another object of the kind ([`Sample`]) it is a tenth of that: what
//! one operator makes looks the same. It is still the whole object but for what [`trim`] takes away, so no decision can miss
//! a field: it is given an object, and there is no other way to one than [`Packed::unpack`]. That decisions are the same for
//! an object and for what comes out of a cache, `tests/golden.rs` proves in every situation it knows.
//!
//! Objects are packed one by one while a list is read ([`Deserialize`]), so a page of them is never there as a whole. One that this
//! version cannot read, such as a Store with a value that a later version has brought, is kept as it is: it must not keep the list,
//! and with it all others, from being read. Who looks at that object is told.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use lz4_flex::block::{compress_prepend_size_with_dict, decompress_size_prepended_with_dict};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::api::v1alpha1::{BackupLocation, Store, StoreBackup};
use crate::names;

/// What `kubectl apply` notes, a second copy of the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A kind that is kept in this form.
pub trait Keep: Resource<DynamicType = ()> + Serialize + DeserializeOwned {
    /// The Store that its objects are searched by; absent: they are found by their names.
    fn store(&self) -> Option<&str> {
        None
    }

    /// The same of an object that cannot be read.
    fn store_in(_: &Value) -> Option<&str> {
        None
    }
}

macro_rules! found_by_name {
    ($($kind:ty),* $(,)?) => { $(impl Keep for $kind {})* };
}

found_by_name! {
    Store, BackupLocation, ServiceAccount, ConfigMap, Secret, Service, PodDisruptionBudget, StatefulSet,
    PersistentVolumeClaim, Pod,
}

impl Keep for StoreBackup {
    fn store(&self) -> Option<&str> {
        Some(&self.spec.store_ref.name)
    }

    fn store_in(backup: &Value) -> Option<&str> {
        backup["spec"]["storeRef"]["name"].as_str()
    }
}

/// The text of an object that others of its kind resemble: the first one that was kept. What they have in common with it is
/// kept once.
#[derive(Default)]
pub struct Sample(Option<Arc<[u8]>>);

/// An object of kind `K`. A clone shares the text.
pub struct Packed<K> {
    /// For those who must know what has changed, or whom to wake; without managed fields. All of it is in the text too.
    metadata: ObjectMeta,
    store: Option<Arc<str>>,
    text: Text,
    kind: PhantomData<fn() -> K>,
}

#[derive(Clone)]
enum Text {
    Plain(Arc<[u8]>),
    /// LZ4, with the text of a sample as dictionary.
    Compressed {
        bytes: Arc<[u8]>,
        sample: Arc<[u8]>,
    },
}

impl<K: Keep> Packed<K> {
    /// Packs an object.
    /// # Errors
    /// It has no text: no object of the API is like that.
    pub fn pack(mut object: K) -> Result<Self, serde_json::Error> {
        trim(&mut object);
        let text = Text::Plain(serde_json::to_vec(&object)?.into());
        let store = object.store().map(Arc::from);
        let metadata = ObjectMeta { managed_fields: None, ..std::mem::take(object.meta_mut()) };
        Ok(Self { metadata, store, text, kind: PhantomData })
    }

    /// Packs an object that cannot be read as one of this kind.
    fn pack_unread(object: &Value) -> Result<Self, serde_json::Error> {
        let metadata = ObjectMeta::deserialize(&object["metadata"])?;
        let text = Text::Plain(serde_json::to_vec(object)?.into());
        let store = K::store_in(object).map(Arc::from);
        Ok(Self { metadata: ObjectMeta { managed_fields: None, ..metadata }, store, text, kind: PhantomData })
    }

    /// The object; absent when this version cannot read it.
    #[must_use]
    pub fn unpack(&self) -> Option<K> {
        let object = match &self.text {
            Text::Plain(text) => serde_json::from_slice(text),
            Text::Compressed { bytes, sample } => {
                let text = decompress_size_prepended_with_dict(bytes, sample);
                serde_json::from_slice(&text.expect("a text was compressed with this sample"))
            }
        };
        object.ok()
    }

    /// The same as it is kept: compressed, and without what only those need whom an event wakes.
    #[must_use]
    pub fn to_keep(&self, sample: &mut Sample) -> Self {
        let text = match (&self.text, &sample.0) {
            (Text::Plain(text), Some(sample)) => Text::Compressed {
                bytes: compress_prepend_size_with_dict(text, sample).into(),
                sample: Arc::clone(sample),
            },
            (Text::Plain(text), None) => Text::Plain(Arc::clone(sample.0.insert(Arc::clone(text)))),
            (Text::Compressed { .. }, _) => self.text.clone(),
        };
        let ObjectMeta { name, namespace, .. } = self.metadata.clone();
        let metadata = ObjectMeta { name, namespace, ..ObjectMeta::default() };
        Self { metadata, store: self.store.clone(), text, kind: PhantomData }
    }
}

impl<K> Packed<K> {
    /// Bytes of the text as it is here.
    #[must_use]
    pub fn text_len(&self) -> usize {
        match &self.text {
            Text::Plain(text) | Text::Compressed { bytes: text, .. } => text.len(),
        }
    }

    /// The Store that the object is searched by.
    pub(crate) fn store(&self) -> Option<&str> {
        self.store.as_deref()
    }
}

impl<K> Clone for Packed<K> {
    fn clone(&self) -> Self {
        Self {
            metadata: self.metadata.clone(),
            store: self.store.clone(),
            text: self.text.clone(),
            kind: PhantomData,
        }
    }
}

/// Prints no contents: it may be a Secret.
impl<K> fmt::Debug for Packed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectMeta { namespace, name, .. } = &self.metadata;
        f.debug_struct("Packed").field("namespace", namespace).field("name", name).finish_non_exhaustive()
    }
}

impl<'de, K: Keep> Deserialize<'de> for Packed<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Value::deserialize(deserializer)?;
        match K::deserialize(&object) {
            Ok(object) => Self::pack(object),
            Err(_) => Self::pack_unread(&object),
        }
        .map_err(D::Error::custom)
    }
}

/// The API has it at the same place.
impl<K: Resource<DynamicType = ()>> Resource for Packed<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn api_version((): &()) -> Cow<'_, str> {
        K::api_version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Takes away what no decision looks at: who else owns fields of the object, and copies of it.
fn trim<K: Resource>(object: &mut K) {
    let metadata = object.meta_mut();
    if let Some(entries) = &mut metadata.managed_fields {
        entries.retain(|entry| {
            entry.manager.as_deref() == Some(names::FIELD_MANAGER)
                && entry.operation.as_deref() == Some("Apply")
        });
    }
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {
                "name": "a",
                "namespace": "b",
                "resourceVersion": "7",
                "annotations": {LAST_APPLIED: "{}", "theirs": "x"},
                "managedFields": [
                    {"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {}}},
                    {"manager": names::FIELD_MANAGER, "operation": "Update", "fieldsV1": {"f:status": {}}},
                    {"manager": names::FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:metadata": {}}},
                ],
            },
            "spec": {"ports": [{"port": 6379, "targetPort": "redis"}]},
        }))
        .expect("a Service")
    }

    fn packed() -> Packed<Service> {
        Packed::pack(service()).expect("a text")
    }

    #[test]
    fn what_is_ours_stays_and_copies_go() {
        let unpacked = packed().unpack().expect("a Service");
        let annotations: Vec<_> = unpacked.metadata.annotations.iter().flatten().collect();
        assert_eq!(annotations, [(&"theirs".to_owned(), &"x".to_owned())]);
        let entries = unpacked.metadata.managed_fields.as_deref().expect("entries");
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].fields_v1.as_ref().expect("fields").0, json!({"f:metadata": {}}));
        let rest = |mut service: Service| {
            service.metadata.managed_fields = None;
            service.metadata.annotations = None;
            service
        };
        assert_eq!(rest(unpacked), rest(service()));
    }

    #[test]
    fn what_is_kept_is_the_same_object_whatever_the_sample_is() {
        let mut own = Sample::default();
        let first = packed().to_keep(&mut own);
        let second = packed().to_keep(&mut own);
        assert!(second.text_len() * 10 < first.text_len(), "{} bytes", second.text_len());
        let other = Service::default();
        let mut short = Sample::default();
        let other = Packed::pack(other).expect("a text").to_keep(&mut short);
        let long = json!({"metadata": {"name": "x", "annotations": {"a": "x".repeat(1 << 17)}}});
        let mut large = Sample::default();
        let _ = serde_json::from_value::<Packed<Service>>(long).expect("a Service").to_keep(&mut large);
        let kept = [
            &first,
            &second,
            &first.to_keep(&mut short),
            &packed().to_keep(&mut short),
            &packed().to_keep(&mut large),
        ];
        for kept in kept {
            assert_eq!(kept.unpack(), packed().unpack());
        }
        assert_eq!(other.unpack(), Some(Service::default()));
    }

    #[test]
    fn whom_an_event_wakes_is_known_without_the_text_and_not_kept() {
        let packed = packed();
        assert_eq!(packed.meta().resource_version.as_deref(), Some("7"));
        assert!(packed.meta().annotations.is_some() && packed.meta().managed_fields.is_none());
        let kept = packed.to_keep(&mut Sample::default());
        let expected =
            ObjectMeta { name: Some("a".into()), namespace: Some("b".into()), ..ObjectMeta::default() };
        assert_eq!(kept.meta(), &expected);
    }

    #[test]
    fn one_that_cannot_be_read_is_kept_and_hides_no_other() {
        let store = |name: &str, strategy: &str| {
            json!({
                "apiVersion": "holdfast.dev/v1alpha1", "kind": "Store",
                "metadata": {"name": name, "namespace": "shop", "resourceVersion": "7"},
                "spec": {"persistence": {"strategy": strategy}},
            })
        };
        let list = json!([store("a", "Always"), store("b", "OfALaterVersion")]);
        let all: Vec<Packed<Store>> = serde_json::from_value(list).expect("a list");
        assert!(all[0].unpack().is_some() && all[1].unpack().is_none());
        assert_eq!(all[1].meta().resource_version.as_deref(), Some("7"));
        let mut sample = Sample::default();
        let kept: Vec<_> = all.iter().map(|store| store.to_keep(&mut sample)).collect();
        assert_eq!(kept[1].meta().name.as_deref(), Some("b"));
        assert!(kept[0].unpack().is_some() && kept[1].unpack().is_none());
        let backup = json!({
            "apiVersion": "holdfast.dev/v1alpha1", "kind": "StoreBackup", "metadata": {"name": "b"}, "spec": {"storeRef": {"name": "orders"}, "method": "OfALaterVersion"},
        });
        let backup: Packed<StoreBackup> = serde_json::from_value(backup).expect("it is kept");
        assert_eq!((backup.store(), backup.unpack().is_none()), (Some("orders"), true));
        serde_json::from_value::<Packed<Store>>(json!({"metadata": 7})).expect_err("nothing is known of it");
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = json!({"metadata": {"name": "a"}, "data": {"password": "aHVzaA=="}});
        let packed = serde_json::from_value::<Packed<Secret>>(secret).expect("a Secret");
        assert_eq!(packed.unpack().expect("a Secret").data.expect("data")["password"].0, b"hush");
        let printed = format!("{packed:?}");
        assert!(!printed.contains("hush") && !printed.contains("aHVzaA"), "{printed}");
    }
}
