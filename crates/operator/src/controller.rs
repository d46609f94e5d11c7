//! Watches, owned kinds, concurrency, and what happens after an error.
//!
//! A watch says that it is time to look, and its cache may say that nothing is to do ([`crate::caches`]); what is acted upon
//! is read again. So a missed, late or repeated event costs time, never data.

use std::collections::HashMap;
use std::future::Future;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _, TryStreamExt as _};
use kube::api::Api;
use kube::core::NamespaceResourceScope;
use kube::runtime::controller::{Action, Config as ControllerConfig, Error as ControllerError};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::utils::Backoff;
use kube::runtime::{Controller, PredicateConfig, WatchStreamExt as _, watcher};
use kube::{Client, Resource, ResourceExt as _};
use tracing::Instrument as _;

use crate::api::v1alpha1::{BackupLocation, Store, StoreBackup};
use crate::caches::{Cache, Caches, Feed, Feeds, watch, watch_into};
use crate::context::{Context, ReconcileError, with_causes};
use crate::failure;
use crate::metrics::Outcome;
use crate::names;
use crate::packed::Packed;
use crate::pipeline::{self, Kind};
use crate::spread::spread;

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
    #[error("it ended in a panic")]
    Panicked,
}

/// What the controller of one kind works with.
struct Worker {
    ctx: Context,
    /// Errors in a row of each object, for the pause after the next one. Decides nothing else.
    failures: Mutex<HashMap<(String, String), u32>>,
}

impl Worker {
    /// Forgets an object that is gone.
    fn forget<K: Kind>(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        K::forget(&self.ctx, namespace, name);
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
    let all_stores = caches.stores.clone();
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
    let stores = controller(ctx, namespace, stores, || ())
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
            changed_by_people(watch(api(ctx, namespace), watcher::Config::default())),
            move |location| stores_with(&all_stores, &location),
        )
        .with_config(config.clone());
    // A location that names another place holds another set of backups. An ended backup is looked at again only for this, and
    // only in the cache, so the news must come from the watch that fills it: another one may be ahead of it.
    let (changed, changes) = tokio::sync::watch::channel(());
    let locations = controller(ctx, namespace, locations, move || changed.send_replace(()));
    let locations = locations.with_config(config.clone());
    let backups = controller(ctx, namespace, backups, || ()).reconcile_all_on(news(changes));
    let backups = backups.with_config(config);

    vec![run(stores, ctx, stop.clone()), run(backups, ctx, stop.clone()), run(locations, ctx, stop)]
}

/// A controller of `K` that our own status does not wake. `changed` is called when the cache has taken in any change.
fn controller<K: Kind>(
    ctx: &Context,
    namespace: Option<&str>,
    feed: Feed<K>,
    changed: impl Fn() + Send + 'static,
) -> Controller<Packed<K>> {
    let reader = feed.writer.as_reader();
    let objects = watch_into(api(ctx, namespace), watcher::Config::default(), feed)
        .inspect_ok(move |_| changed())
        .applied_objects()
        .predicate_filter(wishes::<Packed<K>>, PredicateConfig::default());
    woken_by(objects, reader)
}

/// A controller that `objects` wake, and all else that it is given: an error of one of these streams holds up no other.
fn woken_by<K: Kind>(
    objects: impl Stream<Item = watcher::Result<Packed<K>>> + Send + 'static,
    reader: Cache<K>,
) -> Controller<Packed<K>> {
    Controller::for_stream(objects, reader).trigger_backoff(NoPause)
}

/// No pause after an error. Each watch makes its own ([`watch`]); that of the controller would stop all of its watches, and
/// with them the caches, as often as there are errors.
struct NoPause;

impl Iterator for NoPause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::ZERO)
    }
}

impl Backoff for NoPause {
    fn reset(&mut self) {}
}

/// The objects that people have made, changed or deleted. What a probe writes into the status of a location, however often,
/// is nothing that a Store goes by.
fn changed_by_people<K>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
) -> impl Stream<Item = watcher::Result<K>> + Send
where
    K: Resource<DynamicType = ()> + Send,
{
    let mut seen = HashMap::new();
    events.try_filter_map(move |event| {
        let news = match event {
            watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
                let wishes = wishes(&object);
                (seen.insert(ObjectRef::from_obj(&object), wishes) != Some(wishes)).then_some(object)
            }
            watcher::Event::Delete(object) => {
                seen.remove(&ObjectRef::from_obj(&object));
                Some(object)
            }
            watcher::Event::Init | watcher::Event::InitDone => None,
        };
        futures::future::ready(Ok(news))
    })
}

/// The Stores whose spec names `location`.
fn stores_with(stores: &Cache<Store>, location: &Packed<BackupLocation>) -> Vec<ObjectRef<Packed<Store>>> {
    // Nothing is unpacked while the cache is locked.
    let beside = stores.state_filter(|store| store.meta().namespace == location.meta().namespace);
    let users = beside.into_iter().filter(|store| {
        let used = store.unpack().and_then(|store| store.spec.backup).map(|backup| backup.location_ref.name);
        used.is_some() && used == location.meta().name
    });
    users.map(|store| ObjectRef::from_obj(&*store)).collect()
}

/// The Store that an object is labelled with.
fn store_of<K: Resource>(object: &K) -> Option<ObjectRef<Packed<Store>>> {
    Some(ObjectRef::new(object.labels().get(names::key::STORE)?).within(&object.namespace()?))
}

/// An item for each change, or for several that came together.
fn news(changes: tokio::sync::watch::Receiver<()>) -> impl Stream<Item = ()> + Send {
    futures::stream::unfold(changes, |mut changes| async {
        changes.changed().await.ok()?;
        Some(((), changes))
    })
}

/// What of an object people change: everything but its status.
fn wishes<K: Resource>(object: &K) -> Option<u64> {
    let metadata = object.meta();
    let mut hasher = DefaultHasher::new();
    metadata.uid.hash(&mut hasher);
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

fn run<K: Kind>(
    controller: Controller<Packed<K>>,
    ctx: &Context,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) -> BoxFuture<'static, ()> {
    let worker = Arc::new(Worker { ctx: ctx.clone(), failures: Mutex::default() });
    let gone = Arc::clone(&worker);
    controller
        .graceful_shutdown_on(stop)
        .run(reconcile_one::<K>, |object, error, worker| back_off(&object, error, &worker), worker)
        .for_each(move |result| {
            // Errors of reconciles are logged where they are handled; here come those of watches, which go on by themselves.
            match result {
                Ok(_) | Err(ControllerError::ReconcilerFailed(..)) => {}
                // One of its children woke it, and it is gone: a reconcile never sees that.
                Err(ControllerError::ObjectNotFound(object)) => {
                    gone.forget::<K>(&object.namespace.unwrap_or_default(), &object.name);
                }
                Err(error) => {
                    tracing::warn!(error = format!("{:#}", anyhow::Error::from(error)), "watch interrupted");
                }
            }
            futures::future::ready(())
        })
        .boxed()
}

async fn reconcile_one<K: Kind>(object: Arc<Packed<K>>, worker: Arc<Worker>) -> Result<Action, RunError> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let span = tracing::info_span!("reconcile", kind = K::KIND_NAME, namespace, name);
    let started = Instant::now();
    let reconcile = pipeline::reconcile::<K>(&worker.ctx, &namespace, &name).instrument(span);
    let result = guarded(reconcile).await;
    let outcome = if result.is_ok() { Outcome::Ok } else { Outcome::Error };
    worker.ctx.metrics.observe_reconcile(K::KIND_NAME, outcome, started.elapsed());
    if let Err(error) = &result
        && worker.failures_of(&namespace, &name) + 1 >= FAILURES_TOLD
        && !matches!(error, RunError::Reconcile(error) if error.code() == Some(409))
    {
        let problem = format!("{}; {}", with_causes(error), remedy(error));
        let told = failure::report::<K>(&worker.ctx, &namespace, &name, &problem);
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

/// A look that ends, whatever comes: a defect that one object brings out must cost no other one its operator.
async fn guarded<T>(look: impl Future<Output = Result<T, ReconcileError>>) -> Result<T, RunError> {
    match tokio::time::timeout(RECONCILE_TIMEOUT, AssertUnwindSafe(look).catch_unwind()).await {
        Ok(Ok(result)) => result.map_err(RunError::from),
        Ok(Err(_)) => Err(RunError::Panicked),
        Err(_) => Err(RunError::TimedOut),
    }
}

fn back_off<K: Kind>(object: &Packed<K>, error: &RunError, worker: &Worker) -> Action {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let failures = {
        let mut failures = worker.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry((namespace.clone(), name.clone())).or_insert(0);
        *count = count.saturating_add(1);
        *count
    };
    // Another writer was faster: look again, that is all.
    if matches!(error, RunError::Reconcile(error) if error.code() == Some(409)) && failures == 1 {
        tracing::debug!(kind = K::KIND_NAME, namespace, name, "changed meanwhile");
        return Action::requeue(Duration::from_millis(100));
    }
    tracing::warn!(
        kind = K::KIND_NAME,
        namespace,
        name,
        error = with_causes(error),
        failures,
        "reconcile failed"
    );
    Action::requeue(pause(failures))
}

/// What people can do about an error that lasts.
fn remedy(error: &RunError) -> &'static str {
    let code = match error {
        RunError::Reconcile(ReconcileError::OldDefinition { .. }) => {
            return "apply the definitions of this version: kubectl apply --server-side --force-conflicts -f charts/holdfast/crds/";
        }
        RunError::Panicked => {
            return "that is a defect of the operator: report it, with the lines of its log about the panic";
        }
        RunError::Reconcile(error) => error.code(),
        RunError::TimedOut => None,
    };
    match code {
        Some(401 | 403) => {
            "give the operator's account the rights that its chart grants (kubectl auth can-i tells what it lacks)"
        }
        _ => "if that lasts, see whether the API server, its webhooks and its storage are well",
    }
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
    use k8s_openapi::jiff::Timestamp;
    use std::collections::HashSet;

    /// What reconciles are given where nobody can be asked.
    fn context() -> Context {
        let nowhere = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("nobody is asked"))
        });
        let client = Client::new(nowhere, "shop");
        let slow = crate::slow_calls::SlowCalls::for_workers(8);
        Context {
            events: crate::events::Events::new(client.clone(), None),
            client,
            servers: Arc::new(crate::server_client::HttpServerClient::new(slow.clone())),
            buckets: Arc::new(crate::bucket_client::S3BucketClient::new(slow)),
            defaults: crate::reconcile::validate::Defaults {
                server_image: "server:1".into(),
                image_pull_policy: None,
                pod_user: crate::reconcile::validate::PodUser::Fixed,
            },
            metrics: crate::metrics::Metrics::default(),
            restarts: crate::restart_gate::RestartGate::new(1),
            checks: crate::backup::checks::BackupChecks::default(),
            caches: None,
        }
    }

    /// Whether another Store has to wait 30 s from now when a look has found the Store, whose turn ends before, in this state.
    fn keeps_turn(status: &'static str, reason: &str) -> bool {
        use crate::api::conditions::{Verdict, kind, merge};
        let ctx = context();
        let now = Instant::now();
        let begun = now.checked_sub(Duration::from_secs(50)).expect("the machine runs for a minute");
        assert!(ctx.restarts.enter("shop", "loads", Duration::ZERO, begun));
        let store: Store = serde_yaml::from_str(
            "{apiVersion: holdfast.dev/v1alpha1, kind: Store, metadata: {name: loads, namespace: shop}, spec: {}}",
        )
        .expect("a Store");
        let ready = Verdict { kind: kind::READY, status, reason: reason.into(), message: String::new() };
        let status = crate::api::v1alpha1::StoreStatus {
            conditions: merge(&[], vec![ready], None, Timestamp::UNIX_EPOCH),
            ..Default::default()
        };
        let applied = crate::reconcile::apply::Applied::preview(crate::reconcile::plan::Plan::default());
        Kind::note(&store, &ctx, &applied, &status);
        ctx.restarts.look("shop", "other", None, now + Duration::from_secs(30)).others_restart
    }

    #[tokio::test]
    async fn a_store_that_loads_keeps_its_turn() {
        assert!(keeps_turn("False", "Loading"));
        assert!(keeps_turn("False", "Restoring"));
        assert!(!keeps_turn("False", "ImageUnavailable"), "its turn ends");
        assert!(!keeps_turn("True", "Serving"));
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_one_look() {
        async fn fails() -> Result<(), ReconcileError> {
            panic!("as a library may")
        }
        let error = guarded(fails()).await.expect_err("it has panicked");
        assert!(matches!(error, RunError::Panicked) && remedy(&error).contains("report"), "{error}");
        assert!(guarded(async { Ok(()) }).await.is_ok());
    }

    /// A Store without finalizer is gone at once, and no look ever sees that it is being deleted.
    #[tokio::test]
    async fn a_store_that_is_gone_stands_in_nobodys_way() {
        let ctx = context();
        let (day, now) = (Duration::from_secs(86_400), Instant::now());
        assert!(ctx.restarts.enter("shop", "gone", day, now), "it restarts");
        ctx.restarts.note_failed_image("shop", "gone", Some("server:2"));
        Worker { ctx: ctx.clone(), failures: Mutex::default() }.forget::<Store>("shop", "gone");
        let turn = ctx.restarts.look("shop", "other", Some("server:2"), now);
        assert_eq!(turn, crate::reconcile::facts::Turn::default());
    }

    fn location(change: &str) -> BackupLocation {
        let text = format!(
            "{{apiVersion: holdfast.dev/v1alpha1, kind: BackupLocation, metadata: {{name: a, namespace: shop, generation: 1{change}}}, spec: {{s3: {{bucket: abc}}, credentialsSecretRef: {{name: k}}}}}}"
        );
        serde_yaml::from_str(&text).expect("a location")
    }

    /// The location as the API has it when a probe has written its status.
    fn probed(version: u32) -> BackupLocation {
        let mut written = location(&format!(", resourceVersion: '{version}'"));
        let verdict = BackupLocation::failed(format!("probe {version}"));
        written.status = Some(crate::api::v1alpha1::BackupLocationStatus {
            observed_generation: Some(1),
            conditions: crate::api::conditions::merge(&[], vec![verdict], Some(1), Timestamp::UNIX_EPOCH),
        });
        written
    }

    /// As many errors as there are watches come at once when the API server restarts.
    #[tokio::test]
    async fn errors_of_some_watches_hold_up_no_other() {
        let text = "{apiVersion: holdfast.dev/v1alpha1, kind: Store, metadata: {name: orders, namespace: shop}, spec: {storage: {volumeClaimTemplate: {spec: {resources: {requests: {storage: 1Gi}}}}}}}";
        let store = Packed::pack(serde_yaml::from_str::<Store>(text).expect("a Store")).expect("a text");
        let (_, feeds) = Caches::new();
        let mut writer = feeds.stores.writer;
        for event in
            [watcher::Event::Init, watcher::Event::InitApply(store.clone()), watcher::Event::InitDone]
        {
            writer.apply_watcher_event(&event);
        }
        let news = futures::stream::once(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(store)
        });
        let errors = || futures::stream::iter([Err(watcher::Error::NoResourceVersion)]);
        let mut controller = woken_by(news.chain(futures::stream::pending()), writer.as_reader());
        for _ in 0..9 {
            let broken = errors().chain(futures::stream::pending::<watcher::Result<Packed<StoreBackup>>>());
            controller = controller.watches_stream(broken, |_| None::<ObjectRef<Packed<Store>>>);
        }
        let begun = Instant::now();
        let results = controller.run(
            |_, _| async { Ok::<_, std::io::Error>(Action::await_change()) },
            |_, _, _| Action::await_change(),
            Arc::new(()),
        );
        let looked = results.filter(|result| futures::future::ready(result.is_ok()));
        std::pin::pin!(looked).next().await.expect("a look").expect("that ended well");
        // Nine pauses of the default kind take more than two minutes.
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }

    #[test]
    fn our_own_status_wakes_nobody() {
        let written = probed(8);
        assert_eq!(wishes(&written), wishes(&location(", resourceVersion: '7'")));
        assert_ne!(wishes(&location("")), wishes(&location(", annotations: {a: b}")));
        assert_ne!(wishes(&location("")), wishes(&location(", finalizers: [a/b]")));
    }

    #[tokio::test]
    async fn the_status_of_a_location_wakes_no_store() {
        use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
        let is_told = async |events: Vec<watcher::Event<BackupLocation>>| {
            // The Stores know the location, and its status is written again and again.
            let before = [Init, InitApply(location(", resourceVersion: '1'")), InitDone, Apply(probed(2))];
            let events = before.into_iter().chain(events).map(Ok);
            let told = changed_by_people(futures::stream::iter(events));
            told.try_collect::<Vec<_>>().await.expect("no watch was interrupted").len() - 1
        };
        assert_eq!(is_told(vec![Apply(probed(3)), Apply(probed(4)), Apply(probed(5))]).await, 0);
        let again = vec![Init, InitApply(probed(6)), InitDone];
        assert_eq!(is_told(again).await, 0, "nor when a watch begins again");
        let moved = location(", resourceVersion: '7', annotations: {a: b}");
        assert_eq!(is_told(vec![Apply(moved.clone()), Apply(moved)]).await, 1, "what people change is told");
        let gone = vec![Delete(probed(8)), Apply(location(", resourceVersion: '9'")), Apply(probed(10))];
        assert_eq!(is_told(gone).await, 2, "and so is that it went and came back");
    }

    #[test]
    fn a_location_wakes_the_stores_that_name_it() {
        let store = |namespace: &str, name: &str, used: &str| {
            let text = format!(
                "{{apiVersion: holdfast.dev/v1alpha1, kind: Store, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{storage: {{volumeClaimTemplate: {{spec: {{resources: {{requests: {{storage: 1Gi}}}}}}}}}}{used}}}}}"
            );
            Packed::pack(serde_yaml::from_str::<Store>(&text).expect("a Store")).expect("a text")
        };
        let (caches, feeds) = Caches::new();
        let mut writer = feeds.stores.writer;
        let naming = |name: &str| format!(", backup: {{locationRef: {{name: {name}}}}}");
        for store in [
            store("shop", "orders", &naming("a")),
            store("shop", "others", &naming("b")),
            store("shop", "without", ""),
            store("elsewhere", "orders", &naming("a")),
        ] {
            writer.apply_watcher_event(&watcher::Event::Apply(store));
        }
        let woken = stores_with(&caches.stores, &Packed::pack(location("")).expect("a text"));
        assert_eq!(woken, [ObjectRef::new("orders").within("shop")]);
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
