//! What the watches have brought of everything that a look at a settled object needs, packed ([`crate::packed`]) and perhaps
//! behind.
//!
//! So a cache may only ever say that nothing is to be done: whatever would be written is decided again upon live reads
//! ([`crate::reconcile::observe`]). How far a cache is behind then costs time, never data, and nothing has to be known of
//! our own last write.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{Stream, TryStreamExt as _};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Resource;
use kube::api::Api;
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::sync::watch;
use tokio::time::timeout_at;

use crate::api::v1alpha1::{BackupLocation, Store, StoreBackup};
use crate::packed::{Keep, Packed, Sample};

/// Time for the first lists. Whoever comes later, and finds a cache that is not filled, reads live.
const FILLED_WITHIN: Duration = Duration::from_secs(60);
/// How long a Secret that was read is taken for what it is: no watch tells of a change, for watching one needs the right to
/// list all.
const SECRET_AGE_MAX: Duration = Duration::from_secs(120);
/// Objects in one answer to a list. Each answer is in memory as a whole, and at a start those of all kinds at the same time.
const PAGE_LEN: u32 = 200;

/// The other end of one cache.
pub(crate) struct Feed<K: Keep + 'static> {
    pub(crate) writer: Writer<Packed<K>>,
    /// Caches whose first list is complete.
    filled: Arc<watch::Sender<usize>>,
}

/// The objects of one kind.
pub(crate) type Cache<K> = reflector::Store<Packed<K>>;

macro_rules! caches {
    ($($field:ident: $kind:ty),* $(,)?) => {
        /// The caches of one namespace, or of all.
        pub struct Caches {
            $(pub(crate) $field: Cache<$kind>,)*
            secrets: Mutex<HashMap<(String, String), (Instant, Option<Packed<Secret>>)>>,
            filled: watch::Receiver<usize>,
            made: Instant,
        }

        /// The other ends of [`Caches`]: what the watches fill.
        pub(crate) struct Feeds {
            $(pub(crate) $field: Feed<$kind>,)*
        }

        /// How many caches there are.
        const COUNT: usize = [$(stringify!($field)),*].len();

        impl Caches {
            /// Empty caches, and what fills them.
            pub(crate) fn new() -> (Self, Feeds) {
                let (sender, filled) = watch::channel(0);
                let sender = Arc::new(sender);
                $(let $field = Feed { writer: Writer::default(), filled: Arc::clone(&sender) };)*
                let caches = Self {
                    $($field: $field.writer.as_reader(),)*
                    secrets: Mutex::default(),
                    filled,
                    made: Instant::now(),
                };
                (caches, Feeds { $($field,)* })
            }
        }
    };
}

caches! {
    stores: Store,
    backups: StoreBackup,
    locations: BackupLocation,
    service_accounts: ServiceAccount,
    config_maps: ConfigMap,
    services: Service,
    pdbs: PodDisruptionBudget,
    stateful_sets: StatefulSet,
    claims: PersistentVolumeClaim,
    pods: Pod,
}

impl Caches {
    /// Waits for the first lists, as long as that makes sense. False: one of them is not there, so nothing is known.
    pub(crate) async fn are_filled(&self) -> bool {
        let until = self.made + FILLED_WITHIN;
        let mut filled = self.filled.clone();
        // Not the caches' own word for it, which wakes only one of several who wait.
        let all = filled.wait_for(|count| *count >= COUNT);
        matches!(timeout_at(until.into(), all).await, Ok(Ok(_)))
    }

    /// The Secret as it was read not long ago.
    pub(crate) fn secret(&self, namespace: &str, name: &str) -> Option<Option<Secret>> {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        let (read, secret) = secrets.get(&key(namespace, name))?;
        (read.elapsed() < SECRET_AGE_MAX).then(|| secret.as_ref().and_then(Packed::unpack))
    }

    /// Notes a Secret that was just read.
    pub(crate) fn note_secret(&self, namespace: &str, name: &str, secret: Option<Secret>) {
        let Ok(secret) = secret.map(Packed::pack).transpose() else { return };
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.insert(key(namespace, name), (Instant::now(), secret));
    }

    /// Forgets a Secret: it may be another one by now.
    pub(crate) fn forget_secret(&self, namespace: &str, name: &str) {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(namespace, name));
    }

    /// The StoreBackups of a Store, by name.
    pub(crate) fn backups_of(&self, namespace: &str, store: &str) -> Vec<StoreBackup> {
        let is_of = |backup: &Packed<StoreBackup>| {
            backup.store() == Some(store) && backup.meta().namespace.as_deref() == Some(namespace)
        };
        let mut found: Vec<_> =
            self.backups.state_filter(is_of).iter().filter_map(|backup| backup.unpack()).collect();
        // The order of a list of the API.
        found.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        found
    }
}

fn key(namespace: &str, name: &str) -> (String, String) {
    (namespace.to_owned(), name.to_owned())
}

/// The object `namespace/name` of a cache.
pub(crate) fn get<K: Keep>(cache: &Cache<K>, namespace: &str, name: &str) -> Option<K> {
    cache.get(&ObjectRef::new(name).within(namespace)).and_then(|object| object.unpack())
}

/// Everything that happens to the objects of a kind. After an error the watch pauses, longer with each: by itself, for a
/// controller has ten, and what one of them meets is nothing to the others.
pub(crate) fn watch<K>(
    api: Api<Packed<K>>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<watcher::Event<Packed<K>>>> + Send
where
    K: Keep<Scope = NamespaceResourceScope> + 'static,
{
    watcher(api, config.page_size(PAGE_LEN)).backoff(WatchPause::default())
}

/// The pauses of a watch after errors: from 0.8 s to 30 s, and from the beginning again when there was none for two minutes.
#[derive(Default)]
struct WatchPause(DefaultBackoff);

impl Iterator for WatchPause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next()
    }
}

impl Backoff for WatchPause {
    /// Called for each event, and that a list begins is one: a list that fails each time would never be asked for less often.
    fn reset(&mut self) {}
}

/// The same; the objects go into the cache before.
pub(crate) fn watch_into<K>(
    api: Api<Packed<K>>,
    config: watcher::Config,
    feed: Feed<K>,
) -> impl Stream<Item = watcher::Result<watcher::Event<Packed<K>>>> + Send
where
    K: Keep<Scope = NamespaceResourceScope> + 'static,
{
    let Feed { mut writer, filled } = feed;
    let (mut is_filled, mut sample) = (false, Sample::default());
    watch(api, config).inspect_ok(move |event| {
        let kept = event.clone().modify(|object| *object = object.to_keep(&mut sample));
        writer.apply_watcher_event(&kept);
        // A watch that is interrupted lists again; the cache keeps what it has meanwhile.
        if matches!(event, watcher::Event::InitDone) && !is_filled {
            is_filled = true;
            filled.send_modify(|count| *count += 1);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt as _;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_watch_that_is_refused_asks_less_and_less_often() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let refusing = tower::service_fn(move |_: http::Request<kube::client::Body>| {
            count.fetch_add(1, Ordering::SeqCst);
            async { Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("refused")) }
        });
        let api: Api<Packed<Pod>> = Api::namespaced(kube::Client::new(refusing, "shop"), "shop");
        let errors = watch(api, watcher::Config::default()).for_each(|event| async move {
            assert!(matches!(event, Err(_) | Ok(watcher::Event::Init)), "{event:?}");
        });
        let some_time = Duration::from_secs(3);
        assert!(tokio::time::timeout(some_time, errors).await.is_err(), "it goes on");
        let asked = asked.load(Ordering::SeqCst);
        assert!((2..=5).contains(&asked), "{asked} times in three seconds");
    }

    #[test]
    fn pauses_of_a_watch_grow_although_each_list_begins_well() {
        let mut pauses = WatchPause::default();
        let mut pause_after_the_next_error = || {
            pauses.reset();
            pauses.next().expect("it never gives up")
        };
        assert!(pause_after_the_next_error() < Duration::from_secs(3));
        let longest = (0..10).map(|_| pause_after_the_next_error()).max();
        assert!(longest >= Some(Duration::from_secs(20)), "{longest:?}");
    }

    #[tokio::test]
    async fn caches_that_nothing_fills_are_no_reason_to_wait_for_ever() {
        let (mut caches, feeds) = Caches::new();
        caches.made = Instant::now().checked_sub(FILLED_WITHIN).expect("the machine runs for longer");
        assert!(!caches.are_filled().await);
        drop(feeds);
        assert!(!caches.are_filled().await);
    }

    #[tokio::test]
    async fn everybody_who_waits_is_woken_when_the_last_cache_is_filled() {
        let (caches, feeds) = Caches::new();
        let (first, second, ()) = tokio::join!(caches.are_filled(), caches.are_filled(), async {
            feeds.pods.filled.send_modify(|count| *count += COUNT - 1);
            tokio::task::yield_now().await;
            assert!(!caches.filled.borrow().eq(&COUNT), "one is not filled yet");
            feeds.stores.filled.send_modify(|count| *count += 1);
        });
        assert!(first && second);
    }

    #[test]
    fn a_secret_is_known_until_it_is_forgotten() {
        let (caches, _feeds) = Caches::new();
        assert!(caches.secret("a", "b").is_none());
        caches.note_secret("a", "b", None);
        assert_eq!(caches.secret("a", "b"), Some(None));
        assert!(caches.secret("b", "a").is_none());
        caches.forget_secret("a", "b");
        assert!(caches.secret("a", "b").is_none());
    }
}
