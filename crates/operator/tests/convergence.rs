//! The real reconcile code against a real kube-apiserver and etcd, with the rights that the chart grants, behind a client
//! that fails on purpose; StatefulSet controller, kubelet, CSI driver, servers and bucket are modelled.
//!
//! From every reachable state the operator reaches the desired one, stays there without a further write, and at no step
//! drops the last good copy of the data: the model refuses to serve less than was acknowledged (or, after the loss of a
//! volume, than the newest backup holds), every delete must name a UID, and no claim is deleted but under DeleteVolumes.
//!
//! `HOLDFAST_SEEDS=100` runs more random histories, `HOLDFAST_SEED=7` the one that failed.

#[path = "support/apiserver.rs"]
mod apiserver;
#[path = "support/backups.rs"]
mod backups;
#[path = "support/defaults.rs"]
mod defaults;
#[path = "support/disturbances.rs"]
mod disturbances;
#[path = "support/faults.rs"]
mod faults;
#[path = "support/model.rs"]
mod model;
#[path = "support/mutations.rs"]
mod mutations;
#[path = "support/upgrade.rs"]
mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use crate::apiserver::ApiServer;
use crate::faults::{FaultState, Mode, operator_client};
use crate::model::{LOCATION, Model, STORE};
use futures::StreamExt as _;
use holdfast_operator::admin::Readiness;
use holdfast_operator::api::conditions::{self, kind};
use holdfast_operator::api::v1alpha1::{BackupLocation, Store, StoreBackup};
use holdfast_operator::backup::checks::BackupChecks;
use holdfast_operator::context::Context;
use holdfast_operator::events::Events;
use holdfast_operator::lease::Candidate;
use holdfast_operator::metrics::Metrics;
use holdfast_operator::restart_gate::RestartGate;
use holdfast_operator::{backup, location, names, reconcile};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, Pod, Secret, Service};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tokio::time::timeout;

/// Turns until everything must have settled once faults have stopped.
const SETTLE_TURNS: usize = 80;
/// The same while they go on: a look at a Store has a dozen calls, and each may fail.
const SETTLE_TURNS_UNDER_FAULTS: usize = 500;
/// Random histories, unless the environment says otherwise.
const SEEDS: u64 = 8;
/// Histories side by side.
const SIDE_BY_SIDE: usize = 6;
/// Deliberate faults per hundred calls in a random history; more would only let most looks end before they decide.
const FAULT_PERCENT: u32 = 5;

/// One Store in a namespace of its own.
struct World {
    ctx: Context,
    model: Model,
    faults: FaultState,
    namespace: String,
    epoch: u64,
}

impl World {
    async fn new(api: &ApiServer, namespace: &str, mode: Mode, seed: u64) -> Self {
        let admin = api.admin();
        let object: Namespace =
            serde_json::from_value(json!({"metadata": {"name": namespace}})).expect("a namespace");
        Api::<Namespace>::all(admin.clone())
            .create(&PostParams::default(), &object)
            .await
            .expect("a namespace");
        let faults = FaultState::new(mode, seed);
        let model = Model::new(admin, namespace, faults.clone());
        let client = operator_client(api, &faults);
        let ctx = Context {
            events: Events::new(client.clone(), Some("test".into())),
            client,
            servers: Arc::new(model.clone()),
            buckets: Arc::new(model.clone()),
            defaults: defaults::defaults(),
            metrics: Metrics::default(),
            caches: None,
            restarts: RestartGate::new(1),
            checks: BackupChecks::default(),
        };
        let world = Self { ctx, model, faults, namespace: namespace.to_owned(), epoch: 0 };
        world
            .create::<Secret>(json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "offsite-keys"},
                "stringData": {"accessKeyID": "id", "secretAccessKey": "secret"},
            }))
            .await;
        world.create::<BackupLocation>(json!({
            "apiVersion": "holdfast.dev/v1alpha1", "kind": "BackupLocation", "metadata": {"name": LOCATION},
            "spec": {"s3": {"bucket": "archive"}, "credentialsSecretRef": {"name": "offsite-keys"}},
        }))
        .await;
        world
    }

    async fn create<K>(&self, object: serde_json::Value)
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
        K::DynamicType: Default,
    {
        let object: K = serde_json::from_value(object).expect("an object");
        self.model.api::<K>().create(&PostParams::default(), &object).await.expect("create");
    }

    async fn create_store(&self, extra: serde_json::Value) {
        let mut spec = json!({
            "storage": {"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "1024Mi"}}}}},
            "backup": {"locationRef": {"name": LOCATION}},
            "recovery": {"onVolumeLoss": "RestoreLatestBackup"},
            "resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}},
        });
        for (key, value) in extra.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        self.create::<Store>(json!({
            "apiVersion": "holdfast.dev/v1alpha1", "kind": "Store", "metadata": {"name": STORE}, "spec": spec,
        }))
        .await;
    }

    async fn create_backup(&self, name: &str, method: &str) {
        let class = (method == "VolumeSnapshot").then_some("fast");
        let mut spec = json!({"storeRef": {"name": STORE}, "method": method});
        if let Some(class) = class {
            spec["volumeSnapshotClassName"] = json!(class);
        }
        self.create::<StoreBackup>(json!({
            "apiVersion": "holdfast.dev/v1alpha1", "kind": "StoreBackup", "metadata": {"name": name}, "spec": spec,
        }))
        .await;
    }

    async fn change_store(&self, patch: serde_json::Value) {
        self.model
            .api::<Store>()
            .patch(STORE, &PatchParams::default(), &Patch::Merge(json!({"spec": patch})))
            .await
            .expect("change the Store");
    }

    async fn store(&self) -> Option<Store> {
        self.model.api::<Store>().get_opt(STORE).await.expect("read")
    }

    /// One look of a (perhaps new) operator at everything, then one step of the surroundings.
    async fn turn(&mut self) {
        self.faults.revive();
        let _ = Box::pin(reconcile::reconcile(&self.ctx, &self.namespace, STORE)).await;
        for object in self.model.api::<StoreBackup>().list(&ListParams::default()).await.expect("list") {
            self.faults.revive();
            let _ = Box::pin(backup::reconcile(&self.ctx, &self.namespace, &object.name_any())).await;
        }
        self.faults.revive();
        Box::pin(self.model.tick()).await;
        self.check_records().await;
    }

    /// What is recorded never goes back, and the ConfigMap never runs ahead of the status.
    async fn check_records(&mut self) {
        let Some(store) = self.store().await else { return };
        let epoch = store.status.as_ref().and_then(|status| status.epoch).unwrap_or(0);
        if let Some(record) = self.recorded_epoch().await
            && store.status.as_ref().is_some_and(|status| status.store_id.is_some())
        {
            assert!(
                record <= epoch.max(self.epoch),
                "{}: record {record} is ahead of {epoch}",
                self.namespace
            );
        }
        let is_forgotten = store.status.is_none_or(|status| status.store_id.is_none());
        assert!(
            epoch >= self.epoch || is_forgotten,
            "{}: epoch {epoch} after {}",
            self.namespace,
            self.epoch
        );
        self.epoch = self.epoch.max(epoch);
    }

    /// Epoch in the ConfigMap; absent without one.
    async fn recorded_epoch(&self) -> Option<u64> {
        let record = self.model.api::<ConfigMap>().get_opt(&names::record(STORE)).await.expect("read");
        let text = record?.data?.remove("store.json")?;
        let record: serde_json::Value = serde_json::from_str(&text).expect("a record");
        record["epoch"].as_u64()
    }

    async fn is_settled(&self) -> bool {
        let Some(store) = self.store().await else { return false };
        let status = store.status.unwrap_or_default();
        let backups = self.model.api::<StoreBackup>().list(&ListParams::default()).await.expect("list");
        status.observed_generation == store.metadata.generation
            && conditions::is_true(&status.conditions, kind::READY)
            && conditions::is_true(&status.conditions, kind::PERSISTENCE_HEALTHY)
            && !conditions::is_true(&status.conditions, kind::RECONCILING)
            && !conditions::is_true(&status.conditions, kind::STALLED)
            && self.model.served_writes().is_some()
            && backups.iter().all(|backup| {
                backup.status.as_ref().is_some_and(|status| status.completion_time.is_some())
                    && backup.finalizers().is_empty()
            })
    }

    /// Runs until all is as the spec says.
    async fn settle(&mut self) {
        self.settle_within(SETTLE_TURNS).await;
    }

    async fn settle_within(&mut self, turns: usize) {
        for _ in 0..turns {
            Box::pin(self.turn()).await;
            if self.is_settled().await {
                return;
            }
        }
        self.fail("does not settle").await;
    }

    async fn fail(&self, problem: &str) -> ! {
        let store = self.store().await;
        let status = store.as_ref().map(|store| serde_yaml::to_string(&store.status).expect("YAML"));
        let backups = self.model.api::<StoreBackup>().list(&ListParams::default()).await.expect("list");
        let backups: Vec<_> =
            backups.iter().map(|backup| serde_yaml::to_string(&backup.status).expect("YAML")).collect();
        panic!(
            "{}: {problem}\n{}\n{}\nwrites:\n{}",
            self.namespace,
            status.unwrap_or_default(),
            backups.join("\n"),
            self.faults.log().join("\n")
        );
    }

    /// Faults stop; the world settles and then stays as it is.
    async fn settle_for_good(&mut self) {
        self.faults.set_mode(Mode::Off);
        self.settle().await;
        // The last condition may still follow from what was just seen.
        self.turn().await;
        self.turn().await;
        let before = self.faults.writes();
        for _ in 0..5 {
            Box::pin(self.turn()).await;
        }
        if self.faults.writes() != before {
            self.fail("goes on writing although all is well").await;
        }
        assert!(self.model.served_writes() >= Some(self.model.floor()));
    }
}

/// A Store's life: it starts, is backed up, changes its policy, loses its volume and is restored.
async fn live(world: &mut World) {
    world.create_store(json!({})).await;
    world.settle().await;
    world.create_backup("first", "Snapshot").await;
    world.settle().await;
    world.create_backup("cut", "VolumeSnapshot").await;
    world.settle().await;
    world.change_store(json!({"persistence": {"strategy": "Always"}})).await;
    world.settle().await;
    world.model.lose_volume().await;
    world.settle().await;
    assert_eq!(world.epoch, 2, "the restored data has a new epoch");
    assert_eq!(world.model.restores(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operator_converges_and_never_drops_the_last_good_copy() {
    let api = ApiServer::start(&[]).await;

    let mut world = World::new(&api, "calm", Mode::Off, 0).await;
    Box::pin(live(&mut world)).await;
    world.settle_for_good().await;
    let writes = world.faults.writes();
    println!("{writes} writes in an undisturbed life");

    // The operator dies after each of them; to die before one is to die after the one before it.
    futures::stream::iter(0..writes)
        .for_each_concurrent(SIDE_BY_SIDE, |write| {
            let api = &api;
            async move {
                let mode = Mode::DieAfter { write };
                let mut world = World::new(api, &format!("death-{write}"), mode, 0).await;
                live(&mut world).await;
                world.settle_for_good().await;
            }
        })
        .await;

    let seeds = match std::env::var("HOLDFAST_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("HOLDFAST_SEED is a number");
            seed..seed + 1
        }
        Err(_) => {
            let count =
                std::env::var("HOLDFAST_SEEDS").map_or(SEEDS, |count| count.parse().expect("a number"));
            0..count
        }
    };
    println!("{writes} deaths; random histories of the seeds {seeds:?}");
    futures::stream::iter(seeds)
        .for_each_concurrent(SIDE_BY_SIDE, |seed| {
            let api = &api;
            async move { random_history(api, seed).await }
        })
        .await;

    ends(&api).await;
}

/// Disturbances in random order while calls fail at random.
async fn random_history(api: &ApiServer, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new(api, &format!("seed-{seed}"), Mode::Random(FAULT_PERCENT), seed).await;
    world.create_store(json!({})).await;
    // A volume can be lost once there is something to restore; without that it halts the Store, which has a test of its own.
    for _ in 0..rng.random_range(0..12) {
        Box::pin(world.turn()).await;
    }
    world.create_backup("early", "Snapshot").await;
    if rng.random_bool(0.7) {
        world.settle_within(SETTLE_TURNS_UNDER_FAULTS).await;
    }
    let mut backups = 1;
    for round in 0..12 {
        for _ in 0..rng.random_range(0..12) {
            world.turn().await;
        }
        match rng.random_range(0..10_u32) {
            0 => world.model.remove::<Pod>(&names::pod(STORE)).await,
            1 => world.model.remove::<Service>(&names::headless_service(STORE)).await,
            2 => world.model.remove::<ConfigMap>(&names::config(STORE)).await,
            3 => world.model.remove::<ConfigMap>(&names::record(STORE)).await,
            4 => world.model.remove::<Secret>(&names::auth_secret(STORE)).await,
            5 => {
                let strategy = ["Always", "EverySecond", "NoSync", "Never"][rng.random_range(0..4)];
                world.change_store(json!({"persistence": {"strategy": strategy}})).await;
            }
            6 => {
                let method = ["Snapshot", "VolumeSnapshot"][rng.random_range(0..2)];
                world.create_backup(&format!("backup-{round}"), method).await;
                backups += 1;
            }
            7 => forget_status(&mut world).await,
            _ if world.model.has_backup() => world.model.lose_volume().await,
            _ => {}
        }
    }
    world.settle_for_good().await;
    println!("seed {seed}: epoch {}, {backups} backups, {} restores", world.epoch, world.model.restores());
}

/// The status of the Store is lost, as after a restore of objects without their status; the record is there.
async fn forget_status(world: &mut World) {
    let record = world.recorded_epoch().await;
    let Some(mut store) = world.store().await else { return };
    let status = store.status.clone().unwrap_or_default();
    // In the moment between status and record the two differ; then only the volume knows, and a person is asked.
    if record.is_none() || record != Some(status.epoch.unwrap_or(0)) || status.restore.is_some() {
        return;
    }
    store.status = None;
    store.metadata.managed_fields = None;
    let _ = world.model.api::<Store>().replace_status(STORE, &PostParams::default(), &store).await;
    // With the record lost as well there is nothing left to compare with; that has a test of its own.
    for _ in 0..SETTLE_TURNS_UNDER_FAULTS {
        Box::pin(world.turn()).await;
        if world.store().await.and_then(|store| store.status?.epoch) >= Some(world.epoch) {
            return;
        }
    }
    world.fail("the status is not recovered from the record").await;
}

/// What must stop, and what must stay.
async fn ends(api: &ApiServer) {
    lost_without_a_backup_halts(api).await;
    deleted_store_keeps_its_volume_until_adopted(api).await;
    deletion_policy_deletes_the_volume(api).await;
    clone_from_a_volume_snapshot(api).await;
    status_and_record_lost_at_once(api).await;
    one_operator_leads(api).await;
}

async fn one_operator_leads(api: &ApiServer) {
    let client = operator_client(api, &FaultState::new(Mode::Off, 0));
    let candidate = |lease: &str, name: &str| {
        Candidate::new(client.clone(), "holdfast-system", lease, name.into(), Readiness::default())
    };
    let first = candidate("holdfast-operator", "first");
    let second = candidate("holdfast-operator", "second");
    first.acquire().await;
    let waiting = timeout(Duration::from_secs(5), second.acquire()).await;
    assert!(waiting.is_err(), "two operators lead at once");
    assert!(timeout(Duration::from_secs(5), first.hold()).await.is_err(), "the leader renews");
    first.release().await;
    timeout(Duration::from_secs(5), second.acquire()).await.expect("a released lease is taken over at once");
    let lost = timeout(Duration::from_secs(5), first.hold()).await.expect("the former leader notices");
    assert!(lost.to_string().contains("second"), "{lost}");
}

async fn status_and_record_lost_at_once(api: &ApiServer) {
    for volume_is_lost in [false, true] {
        let mut world = World::new(api, &format!("amnesia-{volume_is_lost}"), Mode::Off, 0).await;
        world.create_store(json!({})).await;
        world.settle().await;
        world.model.remove::<ConfigMap>(&names::record(STORE)).await;
        let mut store = world.store().await.expect("a Store");
        let id = store.status.take().and_then(|status| status.store_id);
        store.metadata.managed_fields = None;
        world
            .model
            .api::<Store>()
            .replace_status(STORE, &PostParams::default(), &store)
            .await
            .expect("forget");
        world.epoch = 0;
        if volume_is_lost {
            // The claim comes back, with the marks of its Store, and empty: that must not look new.
            world.model.lose_volume().await;
            world.model.tick().await;
            for _ in 0..20 {
                world.turn().await;
                assert_eq!(world.model.served_writes(), None, "nothing may be served");
            }
            assert_eq!(reason_of(&world, kind::READY).await, "SourceVolumeEmpty");
        } else {
            world.settle_for_good().await;
            assert_eq!(world.store().await.and_then(|store| store.status?.store_id), id);
        }
    }
}

async fn reason_of(world: &World, kind: &str) -> String {
    let conditions = world.store().await.and_then(|store| store.status).unwrap_or_default().conditions;
    conditions::find(&conditions, kind).map(|condition| condition.reason.clone()).unwrap_or_default()
}

async fn lost_without_a_backup_halts(api: &ApiServer) {
    let mut world = World::new(api, "no-backup", Mode::Off, 0).await;
    world.create_store(json!({})).await;
    world.settle().await;
    world.model.lose_volume().await;
    for _ in 0..20 {
        world.turn().await;
        assert_eq!(world.model.served_writes(), None, "nothing may be served");
    }
    assert_eq!(reason_of(&world, kind::STALLED).await, "NoBackupToRestore");
    assert_eq!(reason_of(&world, kind::READY).await, "VolumeLost");
}

/// What the garbage collector of a cluster does with the children of a Store that is gone.
async fn collect_garbage(world: &World) {
    use k8s_openapi::api::apps::v1::StatefulSet;
    use k8s_openapi::api::core::v1::ServiceAccount;
    use k8s_openapi::api::policy::v1::PodDisruptionBudget;
    let model = &world.model;
    model.remove::<StatefulSet>(&names::stateful_set(STORE)).await;
    model.remove::<Pod>(&names::pod(STORE)).await;
    model.remove::<Service>(&names::stateful_set(STORE)).await;
    model.remove::<Service>(&names::headless_service(STORE)).await;
    model.remove::<ConfigMap>(&names::config(STORE)).await;
    model.remove::<ConfigMap>(&names::record(STORE)).await;
    model.remove::<Secret>(&names::auth_secret(STORE)).await;
    model.remove::<ServiceAccount>(&names::service_account(STORE)).await;
    model.remove::<PodDisruptionBudget>(&names::stateful_set(STORE)).await;
}

async fn deleted_store_keeps_its_volume_until_adopted(api: &ApiServer) {
    let mut world = World::new(api, "retained", Mode::Off, 0).await;
    world.create_store(json!({})).await;
    world.settle().await;
    let old = world.store().await.and_then(|store| store.status?.store_id).expect("an id");
    world.model.api::<Store>().delete(STORE, &DeleteParams::default()).await.expect("delete");
    world.turn().await;
    assert!(world.store().await.is_none(), "nothing holds the Store back");
    world.create_store(json!({})).await;
    world.epoch = 0;
    world.turn().await;
    assert_eq!(reason_of(&world, kind::RECONCILING).await, "OldChildrenRemain");
    collect_garbage(&world).await;
    for _ in 0..5 {
        world.turn().await;
    }
    assert_eq!(reason_of(&world, kind::STALLED).await, "RetainedVolumeFound");
    world.model.api::<Store>().delete(STORE, &DeleteParams::default()).await.expect("delete");
    world.turn().await;
    world.create_store(json!({"bootstrap": {"adopt": {"storeID": old}}})).await;
    world.settle_for_good().await;
    assert_eq!(world.store().await.and_then(|store| store.status?.store_id), Some(old));
}

async fn deletion_policy_deletes_the_volume(api: &ApiServer) {
    let mut world = World::new(api, "deleted", Mode::Off, 0).await;
    world.create_store(json!({"deletionPolicy": "DeleteVolumes"})).await;
    world.settle().await;
    world.model.api::<Store>().delete(STORE, &DeleteParams::default()).await.expect("delete");
    // The model has no garbage collector: its pod would make a new claim.
    world.faults.revive();
    reconcile::reconcile(&world.ctx, &world.namespace, STORE).await.expect("finalize");
    assert!(world.store().await.is_none(), "the finalizer is gone");
    let claim = world.model.api::<PersistentVolumeClaim>().get_opt(&names::claim(STORE)).await.expect("read");
    assert!(claim.is_none_or(|claim| claim.metadata.deletion_timestamp.is_some()), "the claim is deleted");
}

async fn clone_from_a_volume_snapshot(api: &ApiServer) {
    let mut world = World::new(api, "clone", Mode::Off, 0).await;
    world.create_store(json!({})).await;
    world.settle().await;
    world.create_backup("cut", "VolumeSnapshot").await;
    world.settle().await;
    let source = world.store().await.and_then(|store| store.status?.store_id).expect("an id");
    world.model.api::<Store>().delete(STORE, &DeleteParams::default()).await.expect("delete");
    world.turn().await;
    collect_garbage(&world).await;
    world.model.remove::<PersistentVolumeClaim>(&names::claim(STORE)).await;
    world.epoch = 0;
    world.model.serves_newest_snapshot();
    world.create_store(json!({"bootstrap": {"restore": {"backupRef": {"name": "cut"}}}})).await;
    world.settle_for_good().await;
    assert_ne!(
        world.store().await.and_then(|store| store.status?.store_id),
        Some(source),
        "a clone has its own id"
    );
    assert_eq!(world.epoch, 2);
    location::reconcile(&world.ctx, &world.namespace, LOCATION).await.expect("probe");
}
