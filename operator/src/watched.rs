//! What watches of one kind have seen: kept in memory, and told on.
//!
//! Several watches may feed one [`Watched`]: one per namespace where the operator looks
//! after some namespaces only, or one per selector. Each is a source with objects of its
//! own, so that the list of one replaces nothing of the others.
//!
//! Invariant: a source's objects are those of one list and all events since; while a new
//! list comes in, the old objects stay.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, watch};
use tracing::warn;

use crate::metrics::Metrics;
use crate::scope::Scope;

/// Changes that a reader may be behind before it has to look at everything anew.
const CHANGES: usize = 4096;
/// The shortest and longest time that one watch lasts, in seconds: spread, so that not
/// all are started again at once. Also bounds how long a dead connection goes unnoticed.
const WATCH_SECONDS: std::ops::Range<u32> = 200..280;

/// Namespace and name.
pub type Key = (String, String);

type Objects<T> = BTreeMap<Key, Arc<T>>;

/// All objects of one kind that the sources have seen. Cheap to clone.
pub struct Watched<T> {
    shared: Arc<Shared<T>>,
}

/// Feeds one watch into a [`Watched`]. Dropped, its objects are gone.
pub struct Source<T> {
    name: String,
    shared: Arc<Shared<T>>,
}

/// An object came, changed or went.
pub struct Change<T> {
    /// Which.
    pub key: Key,
    /// As it was.
    pub before: Option<Arc<T>>,
    /// As it is.
    pub after: Option<Arc<T>>,
}

struct Shared<T> {
    sources: RwLock<BTreeMap<String, Held<T>>>,
    changes: broadcast::Sender<Change<T>>,
    synced: watch::Sender<()>,
}

struct Held<T> {
    objects: Objects<T>,
    /// The list that comes in.
    listing: Option<Objects<T>>,
    is_synced: bool,
}

// === impl Watched ===

impl<T: PartialEq> Watched<T> {
    /// Nothing, from nobody.
    #[must_use]
    pub fn new() -> Self {
        let sources = RwLock::new(BTreeMap::new());
        let (changes, _) = broadcast::channel(CHANGES);
        let (synced, _) = watch::channel(());
        Self { shared: Arc::new(Shared { sources, changes, synced }) }
    }

    /// A new source; `name` is its own among those of this kind.
    #[must_use]
    pub fn source(&self, name: &str) -> Source<T> {
        let held = Held { objects: Objects::new(), listing: None, is_synced: false };
        self.shared.write().insert(name.to_owned(), held);
        Source { name: name.to_owned(), shared: self.shared.clone() }
    }

    /// One object.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.shared.read().values().find_map(|held| held.objects.get(&key).cloned())
    }

    /// The objects of a namespace, by name.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        let from = (namespace.to_owned(), String::new());
        let mut found: BTreeMap<String, Arc<T>> = BTreeMap::new();
        for held in self.shared.read().values() {
            let those = held.objects.range(from.clone()..);
            for ((_, name), object) in those.take_while(|((of, _), _)| of == namespace) {
                found.entry(name.clone()).or_insert_with(|| object.clone());
            }
        }
        found.into_values().collect()
    }

    /// All objects, by namespace and name.
    #[must_use]
    pub fn all(&self) -> BTreeMap<Key, Arc<T>> {
        let mut found = Objects::new();
        for held in self.shared.read().values() {
            for (key, object) in &held.objects {
                found.entry(key.clone()).or_insert_with(|| object.clone());
            }
        }
        found
    }

    /// Changes from now on. A reader that is told it lags looks at [`all`](Self::all).
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change<T>> {
        self.shared.changes.subscribe()
    }

    /// Returns once every source that is known by then has its first list.
    pub async fn synced(&self) {
        let mut told = self.shared.synced.subscribe();
        while !self.shared.read().values().all(|held| held.is_synced) {
            // The sender lives as long as `self`.
            if told.changed().await.is_err() {
                return;
            }
        }
    }
}

impl<T: PartialEq> Default for Watched<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let objects: usize = self.shared.read().values().map(|held| held.objects.len()).sum();
        f.debug_struct("Watched").field("objects", &objects).finish_non_exhaustive()
    }
}

// === impl Source ===

impl<T: PartialEq> Source<T> {
    /// Takes what the watch says; `None` for an object that is not kept.
    pub fn take(&self, event: Event<(Key, Option<T>)>) {
        let mut sources = self.shared.write();
        let Some(held) = sources.get_mut(&self.name) else { return };
        match event {
            Event::Init => held.listing = Some(Objects::new()),
            Event::InitApply((key, object)) => {
                if let (Some(listing), Some(object)) = (&mut held.listing, object) {
                    listing.insert(key, Arc::new(object));
                }
            }
            Event::InitDone => {
                let listed = held.listing.take().unwrap_or_default();
                let mut gone = std::mem::take(&mut held.objects);
                for (key, object) in listed {
                    let before = gone.remove(&key);
                    self.put(held, key, Some(object), before);
                }
                for (key, before) in gone {
                    self.put(held, key, None, Some(before));
                }
                held.is_synced = true;
                self.shared.synced.send_replace(());
            }
            Event::Apply((key, object)) => {
                let before = held.objects.remove(&key);
                self.put(held, key, object.map(Arc::new), before);
            }
            Event::Delete((key, _)) => {
                let before = held.objects.remove(&key);
                self.put(held, key, None, before);
            }
        }
    }

    fn put(&self, held: &mut Held<T>, key: Key, after: Option<Arc<T>>, before: Option<Arc<T>>) {
        if let Some(object) = &after {
            held.objects.insert(key.clone(), object.clone());
        }
        // What was pruned away may be all that changed.
        if before.as_deref() != after.as_deref() {
            // Nobody may be listening, such as on a replica that does not lead.
            let _ = self.shared.changes.send(Change { key, before, after });
        }
    }
}

impl<T> Drop for Source<T> {
    fn drop(&mut self) {
        let gone = self.shared.write().remove(&self.name);
        for (key, before) in gone.into_iter().flat_map(|held| held.objects) {
            let _ = self.shared.changes.send(Change { key, before: Some(before), after: None });
        }
        self.shared.synced.send_replace(());
    }
}

impl<T> fmt::Debug for Source<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}

// === impl Change ===

impl<T> Clone for Change<T> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), before: self.before.clone(), after: self.after.clone() }
    }
}

impl<T> fmt::Debug for Change<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change").field("key", &self.key).finish_non_exhaustive()
    }
}

// === impl Shared ===

impl<T> Shared<T> {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Held<T>>> {
        self.sources.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Held<T>>> {
        self.sources.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is watched: in a word for logs and metrics, and with which selectors.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The kind, such as `pods`.
    pub kind: &'static str,
    /// The label selector; empty: all.
    pub labels: String,
    /// The field selector; empty: all.
    pub fields: String,
    /// Whether what may not be seen counts as not there, rather than as not known yet.
    pub is_optional: bool,
}

impl Watch {
    /// All objects of a kind.
    #[must_use]
    pub fn all(kind: &'static str) -> Self {
        Self { kind, labels: String::new(), fields: String::new(), is_optional: false }
    }

    /// Those with these labels.
    #[must_use]
    pub fn labels(self, labels: impl Into<String>) -> Self {
        Self { labels: labels.into(), ..self }
    }

    /// Those with these fields.
    #[must_use]
    pub fn fields(self, fields: impl Into<String>) -> Self {
        Self { fields: fields.into(), ..self }
    }

    /// A namespace that was named may be gone, and the right to look into it with it:
    /// then it is empty, and keeps nobody waiting for its first list.
    #[must_use]
    pub fn within(self, scope: &Scope) -> Self {
        Self { is_optional: scope.is_named(), ..self }
    }

    /// The events of this watch, started again with backoff when it fails, for ever.
    pub fn events<K>(self, api: Api<K>, metrics: Metrics) -> BoxStream<'static, Event<K>>
    where
        K: Resource + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
    {
        let mut config = watcher::Config::default().timeout(rand::random_range(WATCH_SECONDS));
        if !self.labels.is_empty() {
            config = config.labels(&self.labels);
        }
        if !self.fields.is_empty() {
            config = config.fields(&self.fields);
        }
        let Self { kind, is_optional, .. } = self;
        let mut course = Course { is_optional, ..Course::default() };
        let events = watcher::watcher(api, config).default_backoff().flat_map(move |event| {
            let events = match event {
                Ok(event) => {
                    course.goes_on(&event);
                    vec![event]
                }
                Err(error) => {
                    metrics.watch_failed(kind);
                    course.failed_in_row += 1;
                    // An expired resource version is everyday life; an outage is told once.
                    if course.failed_in_row == 2 {
                        warn!(
                            kind,
                            error = in_short(&error),
                            "a watch fails, and is started again until it works"
                        );
                    }
                    if course.is_empty(&error) {
                        vec![Event::Init, Event::InitDone]
                    } else {
                        Vec::new()
                    }
                }
            };
            futures_util::stream::iter(events)
        });
        events.boxed()
    }
}

/// How a watch goes.
#[derive(Debug, Default)]
struct Course {
    is_optional: bool,
    /// Whether its first list is known, be it one of nothing.
    is_known: bool,
    failed_in_row: u32,
}

impl Course {
    fn goes_on<K>(&mut self, event: &Event<K>) {
        match event {
            // It comes before the list is asked for.
            Event::Init => {}
            Event::InitDone => (self.failed_in_row, self.is_known) = (0, true),
            Event::InitApply(_) | Event::Apply(_) | Event::Delete(_) => self.failed_in_row = 0,
        }
    }

    /// Whether to take it for empty, since it may not be seen. What was seen once is never
    /// taken for gone: a right that is lost for a while would have pods made without their
    /// groups.
    fn is_empty(&mut self, error: &watcher::Error) -> bool {
        let watcher::Error::InitialListFailed(kube::Error::Api(status)) = error else {
            return false;
        };
        let may_not_be_seen = status.code == 403 || status.code == 404;
        let is_empty = self.is_optional && !self.is_known && may_not_be_seen;
        self.is_known |= is_empty;
        is_empty
    }
}

/// What failed, without what the API server says of itself.
fn in_short(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => format!("{} ({})", status.message, status.code),
        error => error.to_string(),
    }
}

/// Feeds `events` into `source`, each object as `prune` leaves it. Ends with the events.
pub async fn follow<K, T>(
    mut events: impl Stream<Item = Event<K>> + Unpin,
    source: Source<T>,
    prune: impl Fn(K) -> Option<T>,
) where
    K: Resource,
    T: PartialEq,
{
    let pruned = |object: K| {
        let key = (object.namespace().unwrap_or_default(), object.name_any());
        (key, prune(object))
    };
    while let Some(event) = events.next().await {
        source.take(match event {
            Event::Init => Event::Init,
            Event::InitDone => Event::InitDone,
            Event::InitApply(object) => Event::InitApply(pruned(object)),
            Event::Apply(object) => Event::Apply(pruned(object)),
            Event::Delete(object) => Event::Delete(pruned(object)),
        });
    }
}

#[cfg(test)]
mod tests;
