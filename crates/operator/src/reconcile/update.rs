//! What an update of a Store is: the part of the spec, and of the operator's flags, that reaches the pod only by a restart.
//! Pure.
//!
//! What they said when the pod last became ready is kept in the status. It stays in force until an update has begun, and comes
//! back when one did not become ready: then pod and configuration are built from it, and everything else from the spec as it
//! is now.
//!
//! ```text
//!   approved? ─▶ in a window? ─▶ checked by server and API? ─▶ its turn? ─▶ begun: recorded, applied, restarted ─▶ good
//!   └──────────────── the last good one is in force ────────────────────┘                                   └────▶ failed
//! ```
//!
//! So a pod that dies while an update waits, or is refused, comes back as it was. A Store that was never ready has nothing to go
//! back to: what its spec says is in force at once.

use holdfast_contract::control::ServerStatus;
use k8s_openapi::api::core::v1::PodSpec;
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};

use super::build::digest;
use super::build::stateful_set::user_of;
use super::rendering::Rendering;
use super::validate::{Defaults, PodUser, Refusal, ValidatedStore};
use super::window::Opening;
use crate::api::v1alpha1::{
    FailedUpdate, MemorySettings, Persistence, PodTemplate, RefusedUpdate, Resources, StartedUpdate, Store,
    StoreSpec, UpdateType,
};
use crate::names;

/// Seconds in which a changed pod must become ready unless the spec says otherwise: an image is pulled, a volume attached.
pub const READY_TIMEOUT_SECONDS: u32 = 600;

/// The part of a spec, and of the operator's flags, that reaches the pod only by a restart.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    /// Image of the server; never the default, which may be another one tomorrow.
    pub image: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image_pull_policy: Option<String>,
    #[serde(default)]
    pod_user: PodUser,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resources: Option<Resources>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory: Option<MemorySettings>,
    #[serde(default)]
    persistence: Persistence,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    config: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod_template: Option<PodTemplate>,
}

impl Update {
    /// What `spec` and the operator's `defaults` ask for.
    #[must_use]
    pub fn of(spec: &StoreSpec, defaults: &Defaults) -> Self {
        let Defaults { server_image, image_pull_policy, pod_user } = defaults;
        Self {
            image: spec.image.clone().unwrap_or_else(|| server_image.clone()),
            image_pull_policy: image_pull_policy.clone(),
            pod_user: *pod_user,
            resources: spec.resources.clone(),
            memory: spec.memory.clone(),
            persistence: spec.persistence.clone(),
            config: spec.config.clone(),
            pod_template: spec.pod_template.clone(),
        }
    }

    /// The same with the image of `pod`, and with the flags that it was made by; absent for a pod without a server.
    #[must_use]
    pub(crate) fn made_as(&self, pod: &PodSpec) -> Option<Self> {
        let server = pod.containers.iter().find(|container| container.name == names::SERVER_CONTAINER)?;
        // Kubernetes fills in the policy that nobody asked for, so a pod does not tell that it was left out.
        let image_pull_policy = self.image_pull_policy.as_ref().and(server.image_pull_policy.clone());
        Some(Self { image: server.image.clone()?, image_pull_policy, pod_user: user_of(pod), ..self.clone() })
    }

    /// The same spec with the flags of `other`.
    pub(crate) fn with_flags_of(&self, other: &Self) -> Self {
        let Self { image_pull_policy, pod_user, .. } = other;
        Self { image_pull_policy: image_pull_policy.clone(), pod_user: *pod_user, ..self.clone() }
    }

    /// `store` as if its spec asked for this, and the flags that belong to it.
    #[must_use]
    pub fn in_place(self, store: &Store) -> (Store, Defaults) {
        let Self { image, image_pull_policy, pod_user, resources, memory, persistence, config, pod_template } =
            self;
        let defaults = Defaults { server_image: image.clone(), image_pull_policy, pod_user };
        let mut store = store.clone();
        store.spec.image = Some(image);
        store.spec.resources = resources;
        store.spec.memory = memory;
        store.spec.persistence = persistence;
        store.spec.config = config;
        store.spec.pod_template = pod_template;
        (store, defaults)
    }

    /// Names the update.
    #[must_use]
    pub fn name(&self) -> String {
        digest(self)
    }
}

/// An update with which the pod was ready.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GoodUpdate {
    /// The update.
    #[serde(flatten)]
    pub update: Update,
    /// How pod and configuration were rendered.
    #[serde(default)]
    pub rendering: Rendering,
    /// Version of the files on the volume. The server of this update reads no later one.
    #[serde(default = "format_version_first")]
    pub format_version: u32,
}

/// Version of the files of v0.1.0.
const FORMAT_VERSION_FIRST: u32 = 1;

fn format_version_first() -> u32 {
    FORMAT_VERSION_FIRST
}

impl GoodUpdate {
    /// `update`, as it works with the `rendering` and what the server says of itself in `status`.
    #[must_use]
    pub(crate) fn new(update: Update, rendering: Rendering, status: &ServerStatus) -> Self {
        let identity = status.identity.as_ref();
        let format_version = identity.map_or(FORMAT_VERSION_FIRST, |identity| identity.version);
        Self { update, rendering, format_version }
    }

    /// The update with which the pod of `store` last became ready; absent when there was none, or one that this version does
    /// not understand.
    #[must_use]
    pub fn last_good(store: &Store) -> Option<Self> {
        let recorded = store.status.as_ref()?.last_good_update.clone()?;
        serde_json::from_value(recorded).ok()
    }

    /// The version of the files on the volume of `store`, when the server of this update cannot read them.
    #[must_use]
    pub(crate) fn unreadable_format(&self, store: &Store) -> Option<u32> {
        let found = store.status.as_ref()?.persistence.as_ref()?.format_version?;
        (found > self.format_version).then_some(found)
    }
}

/// An update that is not carried out, and what stays in force.
#[derive(Debug, Clone)]
pub struct HeldUpdate {
    /// The last update that worked.
    pub good: Update,
    /// The Store with it; or what of it this version cannot obey: then pod and configuration stay as they are.
    pub instead: Result<ValidatedStore, Vec<Refusal>>,
    /// Why.
    pub why: HeldBy,
}

/// Why an update is not carried out.
#[derive(Debug, Clone, PartialEq)]
pub enum HeldBy {
    /// It did not become ready.
    Failure(FailedUpdate),
    /// A person must approve it.
    Approval,
    /// It may begin in a maintenance window.
    Window(Opening),
    /// Nobody has to allow it, and it has not begun yet.
    NotStarted,
}

/// The update of `store` that has begun and has neither worked nor failed yet.
#[must_use]
pub(crate) fn started(store: &Store) -> Option<StartedUpdate> {
    let status = store.status.as_ref()?;
    let of_earlier_version = || {
        let restart = status.last_pod_restart.as_ref()?;
        Some(StartedUpdate { update: restart.update.clone()?, start_time: restart.start_time.clone() })
    };
    status.started_update.clone().or_else(of_earlier_version)
}

/// What a server has said against `update`, if it has.
#[must_use]
pub(crate) fn refused<'a>(store: &'a Store, update: &Update) -> Option<&'a RefusedUpdate> {
    let refused = store.status.as_ref()?.refused_update.as_ref()?;
    (refused.update == update.name()).then_some(refused)
}

/// The image that `update` would bring to a Store that works with another one.
#[must_use]
pub(crate) fn new_image<'a>(store: &Store, update: &'a Update) -> Option<&'a str> {
    let good = GoodUpdate::last_good(store)?;
    (good.update.image != update.image).then_some(update.image.as_str())
}

/// Why `update`, which the spec of `store` and the flags ask for, is not carried out; absent when it is, or when it is `good`
/// itself.
/// `opening`: the maintenance window that would have to be waited for.
#[must_use]
pub fn held_by(
    store: &Store,
    update: &Update,
    ready_timeout_seconds: u32,
    good: &GoodUpdate,
    opening: Option<Opening>,
) -> Option<HeldBy> {
    if *update == good.update {
        return None;
    }
    let name = update.name();
    let failed = store.status.as_ref().and_then(|status| status.failed_update.as_ref());
    if let Some(failed) = failed
        && failed.update == name
        && failed.ready_timeout_seconds == ready_timeout_seconds
        && good.unreadable_format(store).is_none()
    {
        return Some(HeldBy::Failure(failed.clone()));
    }
    if started(store).is_some_and(|started| started.update == name) {
        return None;
    }
    if store.annotations().get(names::key::APPROVE_UPDATE) == Some(&name) {
        return Some(HeldBy::NotStarted);
    }
    Some(match store.spec.update_strategy.kind {
        UpdateType::Supervised => HeldBy::Approval,
        UpdateType::Automatic => opening.map_or(HeldBy::NotStarted, HeldBy::Window),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn update(image_pull_policy: Option<&str>, pod_user: PodUser) -> Update {
        let defaults = Defaults {
            server_image: "server:1".into(),
            image_pull_policy: image_pull_policy.map(str::to_owned),
            pod_user,
        };
        Update::of(&serde_json::from_value(json!({})).expect("a spec"), &defaults)
    }

    /// A pod as v0.1.0 has made it: with a user, and with the policy that Kubernetes fills in.
    fn pod() -> PodSpec {
        let server = json!({
            "name": names::SERVER_CONTAINER, "image": "server:1", "imagePullPolicy": "IfNotPresent",
        });
        let spec = json!({"containers": [server], "securityContext": {"runAsUser": 65532}});
        serde_json::from_value(spec).expect("a pod")
    }

    #[test]
    fn flags_that_were_not_changed_are_no_update() {
        for policy in [None, Some("IfNotPresent")] {
            let now = update(policy, PodUser::Fixed);
            assert_eq!(now.made_as(&pod()), Some(now), "{policy:?}");
        }
    }

    #[test]
    fn changed_flags_are_an_update_of_the_pod_that_is_there() {
        let before = update(Some("IfNotPresent"), PodUser::Fixed);
        for now in [update(Some("Always"), PodUser::Fixed), update(Some("IfNotPresent"), PodUser::Cluster)] {
            assert_eq!(now.made_as(&pod()).as_ref(), Some(&before));
            assert_ne!(now.name(), before.name());
            assert_eq!(before.with_flags_of(&now), now, "nothing but flags");
        }
    }
}
