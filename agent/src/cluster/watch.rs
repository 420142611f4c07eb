//! Looks once a second at what is mounted, hands on what follows, and remembers it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use coppice_api::AgentConfig;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::memory::Memory;
use super::{Cluster, ClusterMetrics, View};
use crate::discovery::Peers;
use crate::http::{Lifecycle, Phase};
use crate::peer::GroupName;
use crate::telemetry::ConfigMetrics;

const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Follows what is mounted.
#[derive(Debug)]
pub struct ClusterWatch {
    cluster: Cluster,
    metrics: (ConfigMetrics, ClusterMetrics),
    running: watch::Sender<Arc<AgentConfig>>,
    view: watch::Sender<Arc<View>>,
    served: watch::Sender<BTreeSet<GroupName>>,
    /// What is on disk; `None`: it is not known.
    written: Option<Memory>,
    /// Whether it was said that nothing can be written.
    is_told: bool,
}

/// What follows from what is mounted, for those who act on it.
#[derive(Clone, Debug)]
pub struct Followed {
    /// As a file's watch gives it.
    pub configs: watch::Receiver<Arc<AgentConfig>>,
    /// What a file does not tell.
    pub view: watch::Receiver<Arc<View>>,
    /// Whose peers are looked for.
    pub served: watch::Receiver<BTreeSet<GroupName>>,
}

impl ClusterWatch {
    /// A watch that begins with what was read.
    #[must_use]
    pub fn new(mut cluster: Cluster, metrics: (ConfigMetrics, ClusterMetrics)) -> (Self, Followed) {
        cluster.tell_forgotten();
        let config = cluster.config();
        let watch = Self {
            metrics,
            served: watch::Sender::new(names(&config)),
            running: watch::Sender::new(Arc::new(config)),
            view: watch::Sender::new(Arc::default()),
            written: None,
            is_told: false,
            cluster,
        };
        watch.show();
        let followed = Followed {
            configs: watch.running.subscribe(),
            view: watch.view.subscribe(),
            served: watch.served.subscribe(),
        };
        (watch, followed)
    }

    /// Looks once a second until `shutdown` fires. Writes what is to be remembered once
    /// the data folder is there, which the store makes.
    pub async fn run(
        mut self,
        peers: watch::Receiver<Peers>,
        lifecycle: Arc<Lifecycle>,
        shutdown: CancellationToken,
    ) {
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // Small files in memory, as Kubernetes mounts them.
            if self.cluster.look() {
                self.accept();
            }
            if lifecycle.phase() == Phase::Serving {
                self.cluster.memory.set_peers(&peers.borrow().clone());
                self.write().await;
            }
        }
    }

    fn accept(&mut self) {
        let config = self.cluster.config();
        let is_changed = *self.running.borrow().as_ref() != config;
        self.served.send_if_modified(|served| {
            let next = names(&config);
            let is_changed = *served != next;
            *served = next;
            is_changed
        });
        self.show();
        if is_changed {
            info!(groups = config.groups.len(), "what the operator publishes was read again");
            self.metrics.0.applied();
            self.running.send_replace(Arc::new(config));
        }
    }

    /// Hands on what is known, and says what is new in it.
    fn show(&self) {
        let view = self.cluster.view();
        let before = Arc::clone(&self.view.borrow());
        let known: Vec<&String> = before.all_problems().collect();
        for problem in view.all_problems().filter(|problem| !known.contains(problem)) {
            warn!("published and not used, what was before stays: {problem}");
            self.metrics.0.refused();
        }
        for name in view.orphans.iter().filter(|name| !before.orphans.contains(name)) {
            warn!(
                group = name,
                "orphaned: no published group selects this pod with this id any \
                more; it is served on with its data until the pod ends"
            );
        }
        for name in before.orphans.iter().filter(|name| !view.orphans.contains(name)) {
            info!(group = name, "no orphan any more: a published group has its id");
        }
        for refused in view.refused.iter().filter(|refused| !before.refused.contains(refused)) {
            let (held, offered) = (refused.held, refused.offered);
            warn!(group = refused.name, %held, %offered, "a group of this name is published with \
                another id, and is not served beside the data of the old one: to take over that \
                data, make the group anew with `spec.id: {held}`; to begin afresh, replace this pod");
        }
        self.metrics.0.file_is_current(view.all_problems().next().is_none());
        self.metrics.1.show(&view);
        self.view.send_if_modified(|current| {
            let is_changed = **current != view;
            *current = Arc::new(view);
            is_changed
        });
    }

    /// Remembers on disk, if that is not there yet. What fails is tried again.
    async fn write(&mut self) {
        if self.written.as_ref() == Some(&self.cluster.memory) {
            return;
        }
        let (memory, folder) = (self.cluster.memory.clone(), self.cluster.data_dir());
        let writing = tokio::task::spawn_blocking(move || (memory.write(&folder), memory));
        match writing.await {
            Ok((Ok(()), memory)) => {
                self.written = Some(memory);
                self.is_told = false;
            }
            Ok((Err(error), _)) if !std::mem::replace(&mut self.is_told, true) => {
                warn!(%error, "groups and peers cannot be remembered for a restart yet");
            }
            Ok(_) | Err(_) => {}
        }
    }
}

fn names(config: &AgentConfig) -> BTreeSet<GroupName> {
    config.groups.iter().filter_map(|group| GroupName::parse(&group.name)).collect()
}
