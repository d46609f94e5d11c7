//! Watches, owned kinds, concurrency, and what happens after an error.
//!
//! A watch says that it is time to look, and its cache may say that nothing is to do ([`crate::caches`]); what is acted upon
//! is read again. So a missed, late or repeated event costs time, never data.

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use kube::api::Api;
use kube::core::NamespaceResourceScope;
use kube::runtime::controller::{Action, Config as ControllerConfig, Error as ControllerError};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, PredicateConfig, WatchStreamExt as _, watcher};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tracing::Instrument as _;

use crate::api::v1alpha1::{BackupLocation, BackupMethod, Store, StoreBackup};
use crate::caches::{Cache, Caches, Feed, Feeds, watch, watch_into};
use crate::context::{Context, ReconcileError};
use crate::metrics::Outcome;
use crate::names;
use crate::packed::{Keep, Packed};
use crate::spread::spread;
use crate::{backup, failure, location, reconcile};

/// First pause after an error; it doubles with each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// Longest pause after an error, before it is spread.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Errors in a row after which the object itself says so.
const FAILURES_TOLD: u32 = 3;
/// Longest time for one reconcile. Every call in it is bounded; this is for all of them together.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(180);

/// A reconcile that did not end well.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    #[error("not done within {} s", RECONCILE_TIMEOUT.as_secs())]
    TimedOut,
}

type ReconcileFn = for<'a> fn(&'a Context, &'a str, &'a str) -> BoxFuture<'a, Result<Action, ReconcileError>>;

/// What one controller works with.
struct Worker {
    ctx: Context,
    kind: &'static str,
    reconcile: ReconcileFn,
    /// Errors in a row of each object, for the pause after the next one. Decides nothing else.
    failures: Mutex<HashMap<(String, String), u32>>,
}

impl Worker {
    /// Forgets an object that is gone.
    fn forget(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        if self.kind == "Store" {
            self.ctx.metrics.forget_store(namespace, name);
            self.ctx.restarts.leave(namespace, name);
            if let Some(caches) = &self.ctx.caches {
                caches.forget_secret(namespace, &names::auth_secret(name));
            }
        }
    }

    fn failures_of(&self, namespace: &str, name: &str) -> u32 {
        let key = (namespace.to_owned(), name.to_owned());
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied().unwrap_or(0)
    }
}

/// The controllers of `namespace` (absent: of all), ready to run until `stop` ends. They end early only by a bug.
pub fn controllers(
    ctx: &Context,
    namespace: Option<&str>,
    concurrency: u16,
    stop: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) -> Vec<BoxFuture<'static, ()>> {
    let (caches, feeds) = Caches::new();
    let (all_stores, all_backups) = (caches.stores.clone(), caches.backups.clone());
    let ctx = &Context { caches: Some(Arc::new(caches)), ..ctx.clone() };
    let Feeds {
        stores,
        backups,
        locations,
        service_accounts,
        config_maps,
        services,
        pdbs,
        stateful_sets,
        claims,
        pods,
    } = feeds;
    let config = ControllerConfig::default().concurrency(concurrency);
    let ours = || {
        watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={}", names::FIELD_MANAGER))
    };

    let stores = controller(ctx, namespace, stores)
        .owns_stream(watch_into(api(ctx, namespace), ours(), stateful_sets).touched_objects())
        .owns_stream(watch_into(api(ctx, namespace), ours(), config_maps).touched_objects())
        .owns_stream(watch_into(api(ctx, namespace), ours(), services).touched_objects())
        .owns_stream(watch_into(api(ctx, namespace), ours(), service_accounts).touched_objects())
        .owns_stream(watch_into(api(ctx, namespace), ours(), pdbs).touched_objects())
        .watches_stream(watch_into(api(ctx, namespace), ours(), pods).touched_objects(), |pod| store_of(&pod))
        .watches_stream(watch_into(api(ctx, namespace), ours(), claims).touched_objects(), |claim| {
            store_of(&claim)
        })
        .watches_stream(
            watch(api(ctx, namespace), watcher::Config::default()).touched_objects(),
            |backup: Packed<StoreBackup>| {
                let namespace = backup.namespace()?;
                Some(ObjectRef::<Packed<Store>>::new(backup.store()?).within(&namespace))
            },
        )
        .watches_stream(
            watch(api(ctx, namespace), watcher::Config::default()).touched_objects(),
            move |location: Packed<BackupLocation>| {
                refs_of(&all_stores, &location, |store| {
                    store.spec.backup.is_some_and(|backup| backup.location_ref.name == location.name_any())
                })
            },
        )
        .with_config(config.clone());
    let backups = controller(ctx, namespace, backups)
        // A location that names another place holds another set of backups.
        .watches_stream(
            watch(api(ctx, namespace), watcher::Config::default()).touched_objects(),
            move |location: Packed<BackupLocation>| {
                refs_of(&all_backups, &location, |backup| {
                    // The cache may be behind: a backup that names no location yet may have one by now.
                    let used = backup.status.and_then(|status| status.location);
                    backup.spec.method == BackupMethod::Snapshot
                        && used.is_none_or(|used| used == location.name_any())
                })
            },
        )
        .with_config(config.clone());
    let locations = controller(ctx, namespace, locations).with_config(config);

    vec![
        run(
            stores,
            worker(ctx, "Store", |ctx, ns, name| reconcile::reconcile(ctx, ns, name).boxed()),
            stop.clone(),
        ),
        run(
            backups,
            worker(ctx, "StoreBackup", |ctx, ns, name| backup::reconcile(ctx, ns, name).boxed()),
            stop.clone(),
        ),
        run(
            locations,
            worker(ctx, "BackupLocation", |ctx, ns, name| location::reconcile(ctx, ns, name).boxed()),
            stop,
        ),
    ]
}

/// A controller of `K` that our own status does not wake.
fn controller<K>(ctx: &Context, namespace: Option<&str>, feed: Feed<K>) -> Controller<Packed<K>>
where
    K: Keep<Scope = NamespaceResourceScope> + 'static,
{
    let reader = feed.writer.as_reader();
    let objects = watch_into(api(ctx, namespace), watcher::Config::default(), feed)
        .applied_objects()
        .predicate_filter(wishes::<Packed<K>>, PredicateConfig::default());
    Controller::for_stream(objects, reader)
}

/// The Store that an object is labelled with.
fn store_of<K: Resource>(object: &K) -> Option<ObjectRef<Packed<Store>>> {
    Some(ObjectRef::new(object.labels().get(names::key::STORE)?).within(&object.namespace()?))
}

/// The objects beside `location`, in its namespace, of which `concerns` is true.
fn refs_of<K: Keep>(
    cache: &Cache<K>,
    location: &Packed<BackupLocation>,
    concerns: impl Fn(K) -> bool,
) -> Vec<ObjectRef<Packed<K>>> {
    // Nothing is unpacked while the cache is locked.
    let beside = cache.state_filter(|object| object.meta().namespace == location.meta().namespace);
    beside
        .into_iter()
        .filter(|object| concerns(object.unpack()))
        .map(|object| ObjectRef::from_obj(&*object))
        .collect()
}

/// What of an object people change: everything but its status.
fn wishes<K: Resource>(object: &K) -> Option<u64> {
    let metadata = object.meta();
    let mut hasher = DefaultHasher::new();
    metadata.generation.hash(&mut hasher);
    metadata.annotations.hash(&mut hasher);
    metadata.labels.hash(&mut hasher);
    metadata.finalizers.hash(&mut hasher);
    metadata.deletion_timestamp.as_ref().map(|time| time.0.as_second()).hash(&mut hasher);
    Some(hasher.finish())
}

fn api<K>(ctx: &Context, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    let client: Client = ctx.client.clone();
    match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

fn worker(ctx: &Context, kind: &'static str, reconcile: ReconcileFn) -> Arc<Worker> {
    Arc::new(Worker { ctx: ctx.clone(), kind, reconcile, failures: Mutex::default() })
}

fn run<K>(
    controller: Controller<K>,
    worker: Arc<Worker>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) -> BoxFuture<'static, ()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let gone = Arc::clone(&worker);
    controller
        .graceful_shutdown_on(stop)
        .run(reconcile_one::<K>, |object, error, worker| back_off(&*object, error, &worker), worker)
        .for_each(move |result| {
            // Errors of reconciles are logged where they are handled; here come those of watches, which go on by themselves.
            match result {
                Ok(_) | Err(ControllerError::ReconcilerFailed(..)) => {}
                // One of its children woke it, and it is gone: a reconcile never sees that.
                Err(ControllerError::ObjectNotFound(object)) => {
                    gone.forget(&object.namespace.unwrap_or_default(), &object.name);
                }
                Err(error) => {
                    tracing::warn!(error = format!("{:#}", anyhow::Error::from(error)), "watch interrupted");
                }
            }
            futures::future::ready(())
        })
        .boxed()
}

async fn reconcile_one<K>(object: Arc<K>, worker: Arc<Worker>) -> Result<Action, RunError>
where
    K: Resource<DynamicType = ()>,
{
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let span = tracing::info_span!("reconcile", kind = worker.kind, namespace, name);
    let started = Instant::now();
    let reconcile = (worker.reconcile)(&worker.ctx, &namespace, &name).instrument(span);
    let result = match tokio::time::timeout(RECONCILE_TIMEOUT, reconcile).await {
        Ok(result) => result.map_err(RunError::from),
        Err(_) => Err(RunError::TimedOut),
    };
    let outcome = if result.is_ok() { Outcome::Ok } else { Outcome::Error };
    worker.ctx.metrics.observe_reconcile(worker.kind, outcome, started.elapsed());
    if let Err(error) = &result
        && worker.failures_of(&namespace, &name) + 1 >= FAILURES_TOLD
        && !matches!(error, RunError::Reconcile(error) if error.code() == Some(409))
    {
        let problem = causes(error);
        let told = failure::report(&worker.ctx, worker.kind, &namespace, &name, &problem);
        match tokio::time::timeout(RECONCILE_TIMEOUT, told).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "failure not written into the status"),
            Err(_) => tracing::debug!("failure not written into the status in time"),
        }
    }
    if result.is_ok() {
        worker.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&(namespace, name));
    }
    result
}

fn back_off<K: Resource<DynamicType = ()>>(object: &K, error: &RunError, worker: &Worker) -> Action {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let failures = {
        let mut failures = worker.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry((namespace.clone(), name.clone())).or_insert(0);
        *count = count.saturating_add(1);
        *count
    };
    // Another writer was faster: look again, that is all.
    if matches!(error, RunError::Reconcile(error) if error.code() == Some(409)) && failures == 1 {
        tracing::debug!(kind = worker.kind, namespace, name, "changed meanwhile");
        return Action::requeue(Duration::from_millis(100));
    }
    tracing::warn!(kind = worker.kind, namespace, name, error = causes(error), failures, "reconcile failed");
    Action::requeue(pause(failures))
}

/// The error with its causes.
fn causes(error: &RunError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// The pause after so many errors in a row. What failed together, for example while the API server was away, does not come
/// back together.
fn pause(failures: u32) -> Duration {
    let doubled = BACKOFF_MIN
        .saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX))
        .min(BACKOFF_MAX);
    spread(doubled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn our_own_status_wakes_nobody() {
        let location = |change: &str| {
            let text = format!(
                "{{apiVersion: holdfast.dev/v1alpha1, kind: BackupLocation, metadata: {{name: a, generation: 1{change}}}, spec: {{s3: {{bucket: abc}}, credentialsSecretRef: {{name: k}}}}}}"
            );
            serde_yaml::from_str::<BackupLocation>(&text).expect("a location")
        };
        let mut written = location(", resourceVersion: '8'");
        written.status = Some(crate::api::v1alpha1::BackupLocationStatus {
            observed_generation: Some(1),
            ..Default::default()
        });
        assert_eq!(wishes(&written), wishes(&location(", resourceVersion: '7'")));
        assert_ne!(wishes(&location("")), wishes(&location(", annotations: {a: b}")));
        assert_ne!(wishes(&location("")), wishes(&location(", finalizers: [a/b]")));
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_no_two_are_the_same() {
        let check = |failures: u32, middle: Duration| {
            let pauses: HashSet<_> = (0..100).map(|_| pause(failures)).collect();
            assert!(pauses.len() > 50, "{} pauses of 100 differ", pauses.len());
            assert!(
                pauses.iter().all(|pause| (middle * 3 / 4..=middle * 5 / 4).contains(pause)),
                "{pauses:?}"
            );
        };
        check(1, BACKOFF_MIN);
        check(2, BACKOFF_MIN * 2);
        check(30, BACKOFF_MAX);
        check(u32::MAX, BACKOFF_MAX);
    }
}
