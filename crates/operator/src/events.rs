//! Events: what was done and what was found, where `kubectl describe` shows it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde_json::json;

use crate::api::conditions::truncate;
use crate::context::code;
use crate::names;
use crate::reconcile::build::sha256_hex;

/// Longest note that the API accepts, in bytes.
const NOTE_LEN_MAX: usize = 1024;
/// Longest name of a reporting instance that the API accepts.
const INSTANCE_LEN_MAX: usize = 128;
/// Longest name of an object that goes into the name of an event, so that the whole stays a name.
const NAME_LEN_MAX: usize = 200;

/// Repeated notes whose number is remembered, and then forgotten all at once. Nothing depends on the number.
const REPEATED_MAX: usize = 4096;

/// Publishes events. A failure is logged and forgotten: events inform, nothing depends on them.
///
/// Each text is an event of its own, so that what `kubectl describe` shows is what was found now; the same text again
/// counts up.
#[derive(Clone)]
pub struct Events {
    client: Client,
    instance: String,
    repeated: Arc<Mutex<HashMap<String, i32>>>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// True for something a person should look at.
    pub warning: bool,
    /// PascalCase reason.
    pub reason: String,
    /// A sentence for people.
    pub text: String,
}

impl Note {
    /// Something that went as it should.
    pub(crate) fn normal(reason: &str, text: impl Into<String>) -> Self {
        Self { warning: false, reason: reason.to_owned(), text: text.into() }
    }

    /// Something that a person should look at.
    pub(crate) fn warning(reason: &str, text: impl Into<String>) -> Self {
        Self { warning: true, reason: reason.to_owned(), text: text.into() }
    }
}

impl Events {
    /// Events of this operator, told apart by `instance` (its pod name).
    #[must_use]
    pub fn new(client: Client, instance: Option<String>) -> Self {
        let instance = instance.unwrap_or_else(|| names::FIELD_MANAGER.to_owned());
        Self { client, instance: truncate(instance, INSTANCE_LEN_MAX), repeated: Arc::default() }
    }

    /// Publishes `note` about `object`.
    pub async fn publish<K: Resource<DynamicType = ()>>(&self, object: &K, note: Note) {
        let event = event(&object.object_ref(&()), &self.instance, &note, Timestamp::now());
        if let Err(error) = self.send(event).await {
            tracing::warn!(%error, reason = note.reason, "event not published");
        }
    }

    async fn send(&self, event: Event) -> kube::Result<()> {
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let name = event.metadata.name.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        match api.create(&PostParams::default(), &event).await {
            Err(error) if code(&error) == Some(409) => {}
            other => return other.map(|_| ()),
        }
        let count = self.count(&format!("{namespace}/{name}"));
        let series = json!({"series": {"count": count, "lastObservedTime": event.event_time}});
        api.patch(&name, &PatchParams::default(), &Patch::Merge(series)).await.map(|_| ())
    }

    /// How often the event has been seen, this time included: two at least, since it is there.
    fn count(&self, event: &str) -> i32 {
        let mut repeated = self.repeated.lock().unwrap_or_else(PoisonError::into_inner);
        if repeated.len() >= REPEATED_MAX {
            repeated.clear();
        }
        let count = repeated.entry(event.to_owned()).or_insert(1);
        *count = count.saturating_add(1);
        *count
    }
}

/// The event of `note` about `regarding`. Its name follows from what it says.
fn event(regarding: &ObjectReference, instance: &str, note: &Note, now: Timestamp) -> Event {
    let text = truncate(note.text.clone(), NOTE_LEN_MAX);
    let object = regarding.name.clone().unwrap_or_default();
    let identity = format!(
        "{}\n{}\n{}\n{text}",
        regarding.uid.as_deref().unwrap_or_default(),
        note.warning,
        note.reason
    );
    Event {
        metadata: ObjectMeta {
            name: Some(format!(
                "{}.{}",
                truncate(object, NAME_LEN_MAX),
                &sha256_hex(identity.as_bytes())[..16]
            )),
            namespace: Some(regarding.namespace.clone().unwrap_or_else(|| "default".to_owned())),
            ..ObjectMeta::default()
        },
        action: Some("Reconcile".to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(text).filter(|text| !text.is_empty()),
        reason: Some(note.reason.clone()),
        regarding: Some(regarding.clone()),
        reporting_controller: Some(names::FIELD_MANAGER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_an_event_of_its_own() {
        let store =
            ObjectReference { uid: Some("u".into()), name: Some("orders".into()), ..Default::default() };
        let name = |note: &Note| event(&store, "i", note, Timestamp::UNIX_EPOCH).metadata.name;
        let first = Note::warning("AccessDenied", "to bucket a");
        assert_eq!(name(&first), name(&first.clone()));
        assert_ne!(name(&first), name(&Note::warning("AccessDenied", "to bucket b")));
        assert_ne!(name(&first), name(&Note::normal("AccessDenied", "to bucket a")));
        assert!(name(&first).is_some_and(|name| name.starts_with("orders.")));
    }
}
