//! Events: what was done and what was found, where `kubectl describe` shows it.

use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

use crate::api::conditions::truncate;
use crate::names;

/// Longest note that the API accepts, in bytes.
const NOTE_LEN_MAX: usize = 1024;

/// Publishes events. A failure is logged and forgotten: events inform, nothing depends on them.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
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
        let reporter = Reporter { controller: names::FIELD_MANAGER.to_owned(), instance };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// Publishes `note` about `object`.
    pub async fn publish<K: Resource<DynamicType = ()>>(&self, object: &K, note: Note) {
        let event = Event {
            type_: if note.warning { EventType::Warning } else { EventType::Normal },
            reason: note.reason,
            note: Some(truncate(note.text, NOTE_LEN_MAX)).filter(|text| !text.is_empty()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let reference = object.object_ref(&());
        if let Err(error) = self.recorder.publish(&event, &reference).await {
            tracing::warn!(%error, reason = event.reason, "event not published");
        }
    }
}
