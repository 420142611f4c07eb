//! The pods that opted in, as the operator needs them.
//!
//! Three kinds of watch, so that no other pod is ever read: pods with the sidecar; pods
//! that opted in by their own label and have none; and, for each namespace that opted in,
//! its pods that neither have the sidecar nor opted out. Each pod is pruned as it comes.

mod seen;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use coppice_api::cluster::{INJECT_LABEL, INJECTED_LABEL};
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt as _};
use tokio::task::{AbortHandle, JoinSet};

use crate::metrics::Metrics;
use crate::scope::Scope;
use crate::watched::{Source, Watch, Watched, follow};

pub use seen::{AgentContainer, DataVolume, Owner, PassedOver, Phase, SeenPod, Waiting};

/// The pods that opted in. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct PodStore {
    pods: Watched<SeenPod>,
}

/// The watches that feed a [`PodStore`].
pub struct PodWatches {
    client: Client,
    scope: Scope,
    metrics: Metrics,
    pods: Watched<SeenPod>,
    labelled: Vec<(Source<SeenPod>, Api<Pod>, Watch)>,
}

impl PodStore {
    /// A store, and the watches that fill it while they run.
    #[must_use]
    pub fn new(client: Client, scope: Scope, metrics: Metrics) -> (Self, PodWatches) {
        let pods = Watched::new();
        let injected = format!("{INJECTED_LABEL}=true");
        let opted_in = format!("{INJECT_LABEL}=true,{INJECTED_LABEL}!=true");
        let labelled = scope
            .apis::<Pod>(&client)
            .into_iter()
            .flat_map(|(place, api)| {
                [("injected", &injected), ("opted in", &opted_in)].map(|(name, labels)| {
                    let source = pods.source(&format!("{name} in {place}"));
                    let watch = Watch::all("pods").labels(labels.clone()).within(&scope);
                    (source, api.clone(), watch)
                })
            })
            .collect();
        let store = Self { pods: pods.clone() };
        (store, PodWatches { client, scope, metrics, pods, labelled })
    }

    /// One pod.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<SeenPod>> {
        self.pods.get(namespace, name)
    }

    /// The pods of a namespace, by name.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<SeenPod>> {
        self.pods.in_namespace(namespace)
    }

    /// The pod of a namespace that has this UID.
    #[must_use]
    pub fn by_uid(&self, namespace: &str, uid: &str) -> Option<Arc<SeenPod>> {
        self.in_namespace(namespace).into_iter().find(|pod| pod.uid == uid)
    }

    /// What is under the store: all pods, and changes.
    #[must_use]
    pub fn watched(&self) -> &Watched<SeenPod> {
        &self.pods
    }
}

impl PodWatches {
    /// Watches for ever.
    pub async fn run(mut self) {
        let mut watches = JoinSet::new();
        for (source, api, watch) in std::mem::take(&mut self.labelled) {
            let events = watch.events(api, self.metrics.clone());
            watches.spawn(follow(events, source, |pod| Some(SeenPod::of(pod))));
        }
        watches.spawn(async move { self.follow_namespaces().await });
        while let Some(ended) = watches.join_next().await {
            // A watch never ends by itself, and one that panicked would be missed.
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }

    /// Watches the pods of each namespace that opted in, for as long as it does.
    async fn follow_namespaces(self) {
        let api: Api<PartialObjectMeta<Namespace>> = Api::all(self.client.clone());
        let watch = Watch::all("namespaces").labels(format!("{INJECT_LABEL}=true"));
        let mut events = watch.events(api, self.metrics.clone());
        let mut followed: BTreeMap<String, AbortHandle> = BTreeMap::new();
        let mut listed: Vec<String> = Vec::new();
        let mut watches = JoinSet::new();
        while let Some(event) = events.next().await {
            match event {
                Event::Init => listed.clear(),
                Event::InitApply(namespace) => listed.push(namespace.name_any()),
                Event::InitDone => {
                    followed.retain(|name, watch| {
                        let stays = listed.contains(name);
                        if !stays {
                            watch.abort();
                        }
                        stays
                    });
                    for name in listed.drain(..) {
                        self.follow_namespace(name, &mut followed, &mut watches);
                    }
                }
                Event::Apply(namespace) => {
                    self.follow_namespace(namespace.name_any(), &mut followed, &mut watches);
                }
                Event::Delete(namespace) => {
                    if let Some(watch) = followed.remove(&namespace.name_any()) {
                        watch.abort();
                    }
                }
            }
            while watches.try_join_next().is_some() {}
        }
    }

    fn follow_namespace(
        &self,
        name: String,
        followed: &mut BTreeMap<String, AbortHandle>,
        watches: &mut JoinSet<()>,
    ) {
        if followed.contains_key(&name) || !self.scope.contains(&name) {
            return;
        }
        let labels = format!("{INJECTED_LABEL}!=true,{INJECT_LABEL} notin (true,false)");
        let events = Watch::all("pods")
            .labels(labels)
            .events(Api::<Pod>::namespaced(self.client.clone(), &name), self.metrics.clone());
        let source = self.pods.source(&format!("opted-in namespace {name}"));
        let watch = watches.spawn(follow(events, source, |pod| Some(SeenPod::of(pod))));
        followed.insert(name, watch);
    }
}

impl fmt::Debug for PodWatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodWatches").field("scope", &self.scope).finish_non_exhaustive()
    }
}
