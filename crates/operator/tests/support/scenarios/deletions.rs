//! What is done before a Store vanishes.

use holdfast_operator::reconcile::finalize::{decide, note};

use super::*;

impl Scene {
    fn describe_deletion(&self, title: &str, text: &mut String) {
        let deletion = decide(&self.store, &self.facts);
        let _ = writeln!(text, "# {title}\nplan:  {deletion:?}");
        if let Some(note) = note(&self.store, &deletion) {
            let kind = if note.warning { "Warning" } else { "Normal" };
            let _ = writeln!(text, "event: {kind} {} {}", note.reason, note.text);
        }
        text.push('\n');
    }
}

/// Describes every way in which a Store is deleted.
pub(crate) fn deletions() -> String {
    let mut text = String::new();
    let text = &mut text;
    Scene::serving("", 4).describe_deletion("RetainVolumes: the Store goes by itself, its claim stays", text);
    let deleting = ", deletionPolicy: DeleteVolumes";
    let mut scene = Scene::serving(deleting, 4);
    scene.describe_deletion("DeleteVolumes: the claim that was looked at goes first", text);
    let finalizers = scene.store.metadata.finalizers.get_or_insert_default();
    finalizers.push("orphan".into());
    scene.describe_deletion("unless everything of the Store is to stay", text);
    let mut scene = Scene::serving(deleting, 4);
    scene.facts.children.service.as_mut().expect("a Service").metadata.owner_references = None;
    scene.describe_deletion("which is also seen from children that were let go", text);
    let mut scene = Scene::serving(deleting, 4);
    scene.facts.claim = Some(claim("claim-9", STORE_ID, "uid-another", None));
    scene.describe_deletion("the claim of another Store is left alone", text);
    scene.facts.claim = Some(claim("claim-9", OTHER_ID, STORE_UID, None));
    scene.describe_deletion("and so is one with other data", text);
    scene.facts.claim = None;
    scene.describe_deletion("without a claim only the finalizer goes", text);
    let mut scene = Scene::serving(deleting, 4);
    scene.store.spec.deletion_policy = DeletionPolicy::RetainVolumes;
    scene.describe_deletion("the policy was changed at the last moment", text);
    std::mem::take(text)
}
