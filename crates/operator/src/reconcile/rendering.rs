//! How pod template and configuration file are written, and which way is in force for a Store. Pure.
//!
//! What the operator writes for one and the same spec changes now and then from a version of it to the next. Each way has
//! a number, and a Store keeps the one that its pod was made with: a new operator restarts nothing. The newest one comes
//! with the next restart that something else asks for: the spec, the default image, a password.
//!
//! ```text
//!   the last update is taken back ──────────────────▶ the one that worked before
//!   the pod is what its own rendering yields now ───▶ that one, nothing is asked for
//!   the StatefulSet is what its own yields now ─────▶ that one, its restart is due
//!   it comes from a newer operator, same update ────▶ kept as it is
//!   otherwise ──────────────────────────────────────▶ the newest one that the server understands
//! ```
//!
//! To change what is written: add a number to [`KNOWN`], write the difference only for it, and let `make gen` write its
//! golden files. Those of the numbers before never change. A line for a field that is new needs no number: it is written only
//! where the spec has the field, which no operator before did write for.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};

use super::build::stateful_set::mounted_locations;
use super::build::{Desired, Inputs, Kept, build, server_config, sha256_hex};
use super::facts::Facts;
use super::plan::has_template;
use super::plan::identity::Known;
use super::update::{GoodUpdate, HeldBy};
use super::validate::ValidatedStore;
use crate::api::v1alpha1::Store;
use crate::names;

/// Number of a way to write pod template and configuration file.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(transparent)]
pub struct Rendering(u32);

/// A rendering that this version can write.
struct KnownRendering {
    rendering: Rendering,
    /// Contract that a server must speak to understand its configuration: the version with the newest directive in it.
    contract_version: u32,
}

/// Every rendering of this version, oldest first.
const KNOWN: [KnownRendering; 2] = [
    // v0.1.0, whose templates name no rendering.
    KnownRendering { rendering: Rendering::FIRST, contract_version: 1 },
    // Template and configuration name it.
    KnownRendering { rendering: Rendering::CURRENT, contract_version: 1 },
];

impl Rendering {
    /// That of templates which name none.
    pub const FIRST: Self = Self(1);
    /// The newest one.
    pub const CURRENT: Self = Self(2);

    /// That of a template or pod with these annotations. A name that is no number is that of no known rendering.
    #[must_use]
    pub fn of(annotations: Option<&BTreeMap<String, String>>) -> Self {
        match annotations.and_then(|annotations| annotations.get(names::key::RENDERING)) {
            None => Self::FIRST,
            Some(name) => name.parse().map_or(Self(0), Self),
        }
    }

    /// Every one that this version can write, oldest first.
    pub fn known() -> impl Iterator<Item = Self> {
        KNOWN.iter().map(|known| known.rendering)
    }

    /// Whether this version can write it.
    #[must_use]
    pub(crate) fn is_known(self) -> bool {
        Self::known().any(|known| known == self)
    }

    /// The newest one that a server understands which speaks this version of the contract.
    #[must_use]
    pub(crate) fn newest_for(contract_version: u32) -> Self {
        let understood = KNOWN.iter().rev().find(|known| known.contract_version <= contract_version);
        understood.map_or(Self::FIRST, |known| known.rendering)
    }
}

impl Default for Rendering {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for Rendering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Builds the objects of `valid` in the rendering that is in force, and returns it in the inputs.
pub(super) fn build_in_force(
    store: &Store,
    valid: &ValidatedStore,
    known: Option<&Known>,
    inputs: Inputs,
    facts: &Facts,
) -> (Inputs, Desired) {
    let in_force = valid.in_force();
    let with = |rendering: Rendering| {
        let inputs = Inputs { rendering, ..inputs.clone() };
        let desired = build(in_force, &inputs);
        (inputs, desired)
    };
    if let Some(rendering) = taken_back_to(store, valid) {
        return with(rendering);
    }
    if let Some(rendering) = of_pod(facts).filter(|rendering| rendering.is_known()) {
        let (inputs, desired) = with(rendering);
        if has_template(in_force, known, &inputs, &desired, facts) {
            return (inputs, desired);
        }
    }
    if let Some(annotations) = applied_annotations(facts) {
        let rendering = Rendering::of(Some(annotations));
        if rendering.is_known() {
            let (inputs, desired) = with(rendering);
            if annotations.get(names::key::TEMPLATE_HASH) == Some(&desired.template_hash) {
                return (inputs, desired);
            }
        } else if let Some(kept) = kept(store, in_force, &inputs, rendering, annotations, facts) {
            let inputs = Inputs { rendering, kept: Some(kept), ..inputs };
            let desired = build(in_force, &inputs);
            return (inputs, desired);
        }
    }
    with(for_changes(store, valid, facts))
}

/// Builds the objects of `valid` as they will be once its update has begun.
pub(super) fn build_candidate(valid: &ValidatedStore, inputs: &Inputs, facts: &Facts) -> Desired {
    build(valid, &Inputs { rendering: for_update(valid, facts), kept: None, ..inputs.clone() })
}

/// The rendering for what is changed now.
pub(super) fn for_changes(store: &Store, valid: &ValidatedStore, facts: &Facts) -> Rendering {
    taken_back_to(store, valid).unwrap_or_else(|| for_update(valid.in_force(), facts))
}

/// The rendering for the update of `valid`.
pub(super) fn for_update(valid: &ValidatedStore, facts: &Facts) -> Rendering {
    if image(facts) != Some(&valid.image) {
        // What another image understands it says when it runs; until then its own start refuses what it must, and the update
        // is taken back.
        return Rendering::CURRENT;
    }
    match facts.server.status() {
        Some(server) => Rendering::newest_for(server.contract_version),
        None => {
            let applied = applied_annotations(facts).map(|annotations| Rendering::of(Some(annotations)));
            applied.filter(|rendering| rendering.is_known()).unwrap_or(Rendering::CURRENT)
        }
    }
}

/// The rendering of what worked, when what came after it, be it only another rendering, did not become ready.
fn taken_back_to(store: &Store, valid: &ValidatedStore) -> Option<Rendering> {
    let good = GoodUpdate::last_good(store)?;
    let failed = store.status.as_ref()?.failed_update.as_ref()?;
    let is_taken_back = match valid.held_update.as_deref() {
        Some(held) if matches!(held.why, HeldBy::Failure(_)) => true,
        _ => good.update == valid.in_force().update && failed.update == good.update.name(),
    };
    (is_taken_back && good.rendering.is_known()).then_some(good.rendering)
}

/// Whether the server runs with the configuration that `valid` yields in the rendering of its pod.
pub(super) fn is_configuration_current(store: &Store, valid: &ValidatedStore, facts: &Facts) -> bool {
    let (Some(server), Some(pod)) = (facts.server.status(), facts.pod.as_ref()) else { return false };
    let rendering = of(pod);
    if rendering.is_known() {
        return server.config_sha256 == sha256_hex(server_config::render(valid, rendering).as_bytes());
    }
    pod.annotations().get(names::key::CONFIG_SHA256) == Some(&server.config_sha256)
        && GoodUpdate::last_good(store)
            .is_some_and(|good| good.rendering == rendering && good.update == valid.update)
}

/// The rendering that `pod` was made with.
pub(super) fn of(pod: &Pod) -> Rendering {
    Rendering::of(pod.metadata.annotations.as_ref())
}

fn of_pod(facts: &Facts) -> Option<Rendering> {
    facts.pod.as_ref().map(of)
}

/// The annotations of the pod template that is applied.
pub(super) fn applied_annotations(facts: &Facts) -> Option<&BTreeMap<String, String>> {
    let template = &facts.children.stateful_set.as_ref()?.spec.template;
    template.metadata.as_ref()?.annotations.as_ref()
}

/// The image that the server was made with, or is about to be.
pub(super) fn image(facts: &Facts) -> Option<&String> {
    let pod = facts.pod.as_ref().and_then(|pod| pod.spec.as_ref());
    let applied = facts.children.stateful_set.as_ref().and_then(|set| set.spec.template.spec.as_ref());
    let containers = &pod.or(applied)?.containers;
    containers.iter().find(|container| container.name == names::SERVER_CONTAINER)?.image.as_ref()
}

/// What is applied in a `rendering` that this version does not know, if nothing asks for a change of it: the update is the one
/// that was recorded with that rendering, password and locations are there, and nobody has touched the configuration.
fn kept(
    store: &Store,
    valid: &ValidatedStore,
    inputs: &Inputs,
    rendering: Rendering,
    annotations: &BTreeMap<String, String>,
    facts: &Facts,
) -> Option<Kept> {
    let good = GoodUpdate::last_good(store)?;
    let mounted = facts.children.stateful_set.as_ref().map(mounted_locations).unwrap_or_default();
    let has_locations =
        inputs.locations.iter().all(|location| mounted.get(&location.name) == Some(&location.secret));
    let config_sha256 = annotations.get(names::key::CONFIG_SHA256)?;
    let config = facts.children.config.as_ref()?.data.as_ref()?.get(names::CONFIG_KEY)?;
    let asks_for_nothing = good.update == valid.update
        && good.rendering == rendering
        && annotations.get(names::key::AUTH_REVISION) == Some(&inputs.auth_revision)
        && has_locations
        && sha256_hex(config.as_bytes()) == *config_sha256;
    let template_hash = annotations.get(names::key::TEMPLATE_HASH)?;
    asks_for_nothing
        .then(|| Kept { template_hash: template_hash.clone(), config_sha256: config_sha256.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotated(name: &str) -> Rendering {
        Rendering::of(Some(&BTreeMap::from([(names::key::RENDERING.to_owned(), name.to_owned())])))
    }

    #[test]
    fn templates_of_the_first_version_name_no_rendering() {
        assert_eq!(Rendering::of(None), Rendering::FIRST);
        assert_eq!(annotated(&Rendering::CURRENT.to_string()), Rendering::CURRENT);
        for unknown in ["3000", "0", "-1", "", "two"] {
            assert!(!annotated(unknown).is_known(), "{unknown:?}");
        }
    }

    #[test]
    fn a_server_gets_the_newest_rendering_that_it_understands() {
        assert_eq!(Rendering::newest_for(u32::MAX), Rendering::CURRENT);
        assert!(KNOWN.is_sorted_by_key(|known| (known.rendering.0, known.contract_version)));
        for contract_version in 0..3 {
            let newest = Rendering::newest_for(contract_version);
            let known = KNOWN.iter().find(|known| known.rendering == newest).expect("a known one");
            assert!(known.contract_version <= contract_version.max(1));
        }
    }
}
