//! What remains of a scenario that failed: objects, events and logs in a folder, a summary on the console.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use holdfast_operator::api::v1alpha1::{BackupLocation, Store, StoreBackup};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    ConfigMap, Event, Node, PersistentVolume, PersistentVolumeClaim, Pod, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, LogParams};
use kube::{Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::install::OPERATOR_NAMESPACE;
use crate::scenario::Scenario;
use crate::stores::{HasConditions, describe};

/// Events shown on the console; all are in the folder.
const EVENTS_SHOWN: usize = 15;

/// Writes everything about the scenario, prints a summary, and names the folder. Whatever cannot be read is named in its
/// place: a dump never fails.
pub async fn write(scenario: &Scenario, error: &anyhow::Error) -> String {
    let folder = target_dir().join("e2e").join(scenario.name);
    let _ = std::fs::remove_dir_all(&folder);
    let dump = Dump { client: scenario.client.clone(), namespace: scenario.namespace.clone(), folder };
    if let Err(error) = std::fs::create_dir_all(&dump.folder) {
        return format!("{} cannot be made: {error}", dump.folder.display());
    }
    dump.file("error.txt", &format!("{error:?}\n"));
    let mut summary = format!("\n--- scenario {} in {}\n{error:?}\n", scenario.name, scenario.namespace);
    dump.conditions::<Store>(&mut summary).await;
    dump.conditions::<StoreBackup>(&mut summary).await;
    dump.conditions::<BackupLocation>(&mut summary).await;
    dump.objects::<StatefulSet>("statefulsets.yaml").await;
    dump.objects::<ConfigMap>("configmaps.yaml").await;
    dump.objects::<Service>("services.yaml").await;
    dump.objects::<PersistentVolumeClaim>("claims.yaml").await;
    dump.objects::<PodDisruptionBudget>("disruption-budgets.yaml").await;
    dump.list(&Api::<PersistentVolume>::all(dump.client.clone()), "volumes.yaml").await;
    dump.list(&Api::<VolumeAttachment>::all(dump.client.clone()), "volume-attachments.yaml").await;
    dump.list(&Api::<Node>::all(dump.client.clone()), "nodes.yaml").await;
    dump.volume_snapshots().await;
    dump.pods(&dump.namespace, "", &mut summary).await;
    dump.pods(OPERATOR_NAMESPACE, "operator-", &mut String::new()).await;
    dump.events(&mut summary).await;
    println!("{summary}--- all of it: {}", dump.folder.display());
    dump.folder.display().to_string()
}

struct Dump {
    client: Client,
    namespace: String,
    folder: PathBuf,
}

impl Dump {
    fn file(&self, name: &str, text: &str) {
        if let Err(error) = std::fs::write(self.folder.join(name), text) {
            println!("{name} of the dump cannot be written: {error}");
        }
    }

    async fn list<K>(&self, api: &Api<K>, file: &str) -> Vec<K>
    where
        K: Clone + DeserializeOwned + Serialize + std::fmt::Debug,
    {
        match api.list(&ListParams::default()).await {
            Ok(list) => {
                let text = serde_yaml::to_string(&list.items);
                self.file(file, &text.unwrap_or_else(|error| error.to_string()));
                list.items
            }
            Err(error) => {
                self.file(file, &format!("# not read: {error}\n"));
                Vec::new()
            }
        }
    }

    async fn objects<K>(&self, file: &str) -> Vec<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + DeserializeOwned + Serialize + std::fmt::Debug,
    {
        self.list(&Api::<K>::namespaced(self.client.clone(), &self.namespace), file).await
    }

    async fn conditions<K>(&self, summary: &mut String)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + HasConditions,
        K: Clone + DeserializeOwned + Serialize + std::fmt::Debug,
    {
        let kind = K::kind(&()).into_owned();
        for object in self.objects::<K>(&format!("{}s.yaml", kind.to_lowercase())).await {
            let _ = writeln!(summary, "{kind} {}: {}", object.name_any(), describe(object.conditions()));
        }
    }

    async fn volume_snapshots(&self) {
        let kind = GroupVersionKind::gvk("snapshot.storage.k8s.io", "v1", "VolumeSnapshot");
        let resource = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        self.list(&api, "volumesnapshots.yaml").await;
    }

    async fn pods(&self, namespace: &str, prefix: &str, summary: &mut String) {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        for pod in self.list(&api, &format!("{prefix}pods.yaml")).await {
            let name = pod.name_any();
            let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
            let spec = pod.spec.unwrap_or_default();
            let _ = writeln!(summary, "Pod {name}: {phase} on {}", spec.node_name.unwrap_or_default());
            let containers = spec.init_containers.unwrap_or_default().into_iter().chain(spec.containers);
            for container in containers.map(|container| container.name) {
                for (previous, suffix) in [(false, ""), (true, "-previous")] {
                    let params = LogParams {
                        container: Some(container.clone()),
                        previous,
                        timestamps: true,
                        ..LogParams::default()
                    };
                    if let Ok(log) = api.logs(&name, &params).await {
                        self.file(&format!("{prefix}{name}-{container}{suffix}.log"), &log);
                    }
                }
            }
        }
    }

    async fn events(&self, summary: &mut String) {
        let mut events = self.objects::<Event>("events.yaml").await;
        events.sort_by_key(|event| {
            let time = event.last_timestamp.as_ref().map(|time| time.0);
            time.or(event.event_time.as_ref().map(|time| time.0)).or(event
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|time| time.0))
        });
        let lines: Vec<String> = events.iter().map(line).collect();
        self.file("events.txt", &lines.concat());
        let _ = writeln!(summary, "last events:");
        for line in lines.iter().skip(lines.len().saturating_sub(EVENTS_SHOWN)) {
            summary.push_str(line);
        }
    }
}

fn line(event: &Event) -> String {
    let object = &event.involved_object;
    format!(
        "  {} {}/{} {}: {}\n",
        event.type_.as_deref().unwrap_or_default(),
        object.kind.as_deref().unwrap_or_default(),
        object.name.as_deref().unwrap_or_default(),
        event.reason.as_deref().unwrap_or_default(),
        event.message.as_deref().unwrap_or_default().trim()
    )
}

/// Cargo's target directory: it marks it with a file.
fn target_dir() -> PathBuf {
    let find = || -> Result<PathBuf> {
        let program = std::env::current_exe()?;
        let found = program.ancestors().filter(|folder| folder.join("CACHEDIR.TAG").is_file()).last();
        found.map(Path::to_path_buf).context("no target directory")
    };
    find().unwrap_or_else(|_| std::env::temp_dir())
}
