//! What changes with the configuration while the agent runs: groups, settings, peers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coppice_api::cluster::RefusedGroup;
use coppice_api::{AgentConfig, Durability, Group};
use coppice_crdt::EtagKey;
use coppice_replication::{FRAME_BYTES, RemovalPace, ReplicaSettings, WriteLimits};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::RunError;
use crate::cluster::ClusterState;
use crate::discovery::{Discovery as _, Listed, PeerAddress, Peers, StaticPeers};
use crate::engine::{GroupDurability, GroupSettings};
use crate::http::Lifecycle;
use crate::peer::{GroupName, Supervisor};
use crate::query::{Groups, ServedGroup, StoredGroup};
use crate::replica_task::{GroupRefusal, GroupSpec, ServeError, WriterHandle};
use crate::store::Reader;
use crate::store::keys::Slot;
use crate::telemetry::ConfigMetrics;

/// How long until a group that could not be served is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// What changes with the configuration while the agent runs.
pub(super) struct Agent<R> {
    pub(super) writer: WriterHandle,
    reader: R,
    groups: Arc<Groups>,
    lifecycle: Arc<Lifecycle>,
    metrics: ConfigMetrics,
    served: BTreeMap<String, (Slot, Group, ServedGroup)>,
    followed: Followed,
    /// Of the groups that are served, those that were said to have peers, or may have.
    expected: Vec<GroupName>,
    /// Why not all groups are served as configured.
    refused: Option<String>,
}

/// Where peers come from, and who else is told of groups.
pub(super) enum Followed {
    /// A list in the configuration.
    Listed(StaticPeers),
    /// The cluster.
    InCluster { peers: watch::Receiver<Peers>, state: Arc<ClusterState> },
}

impl Followed {
    /// The peers that the configuration lists.
    pub(super) fn listed(config: &AgentConfig) -> Self {
        Self::Listed(StaticPeers::new(addresses(config)))
    }

    pub(super) fn in_cluster(peers: watch::Receiver<Peers>, state: Arc<ClusterState>) -> Self {
        Self::InCluster { peers, state }
    }

    fn peers(&self) -> watch::Receiver<Peers> {
        match self {
            Self::Listed(peers) => peers.peers(),
            Self::InCluster { peers, .. } => peers.clone(),
        }
    }
}

impl<R: Reader> Agent<R> {
    /// An agent that serves no group yet.
    pub(super) fn new(
        (writer, reader): (WriterHandle, R),
        (groups, lifecycle): (Arc<Groups>, Arc<Lifecycle>),
        (followed, metrics): (Followed, ConfigMetrics),
    ) -> Self {
        let (served, expected, refused) = (BTreeMap::new(), Vec::new(), None);
        Self { writer, reader, groups, lifecycle, metrics, served, followed, expected, refused }
    }

    /// The peers, as they are found.
    pub(super) fn peers(&self) -> watch::Receiver<Peers> {
        self.followed.peers()
    }

    /// Serves the groups of the configuration for the first time: all, where a person
    /// reads why not; in a cluster those that can be.
    ///
    /// # Errors
    ///
    /// As [`Agent::serve`], without a cluster.
    pub(super) async fn begin(&mut self, config: &AgentConfig) -> Result<(), String> {
        match self.followed {
            Followed::Listed(_) => self.serve(config).await,
            Followed::InCluster { .. } => {
                let outcome = self.serve_what_can_be(config).await;
                self.note(outcome.err());
                Ok(())
            }
        }
    }

    /// Serves all groups of the configuration, or none.
    ///
    /// # Errors
    ///
    /// Why they are not served, a line each.
    async fn serve(&mut self, config: &AgentConfig) -> Result<(), String> {
        let served = self.serve_these(config.groups.clone(), config).await;
        served.map_err(|error| match error {
            ServeError::Store(error) => format!("groups: {error}"),
            ServeError::Groups(refused) => {
                let said = refused.into_iter().map(|refusal| {
                    let index = Some(refusal.index).filter(|index| *index < config.groups.len());
                    in_words(index, refusal)
                });
                said.collect::<Vec<_>>().join("\n")
            }
        })
    }

    /// Serves the groups of the configuration that can be. In place of one that
    /// cannot, what is served under its name goes on.
    ///
    /// # Errors
    ///
    /// Why not all are served as configured.
    async fn serve_what_can_be(&mut self, config: &AgentConfig) -> Result<(), String> {
        let mut wanted = config.groups.clone();
        let mut refusals = Vec::new();
        let mut held = Vec::new();
        loop {
            let refused = match self.serve_these(wanted.clone(), config).await {
                Ok(()) => break,
                Err(ServeError::Store(error)) => return Err(error),
                Err(ServeError::Groups(refused)) => refused,
            };
            let mut kept = Vec::new();
            // From the last on, for each moves those behind it.
            for refusal in refused.into_iter().rev() {
                let group = wanted.remove(refusal.index);
                let before = self.served.get(&group.name).map(|(_, before, _)| before);
                kept.extend(before.filter(|before| !is_same(before, &group)).cloned());
                let index = config.groups.iter().position(|listed| listed.name == group.name);
                held.extend(refusal.held.map(|held| RefusedGroup {
                    name: group.name.clone(),
                    offered: group.effective_id(),
                    held: Uuid::from_bytes(held),
                }));
                refusals.push(in_words(index, refusal));
            }
            // Unless its data goes by another name now.
            kept.retain(|kept| wanted.iter().all(|of| of.effective_id() != kept.effective_id()));
            wanted.extend(kept);
        }
        if let Followed::InCluster { state, .. } = &self.followed {
            state.refused_by_store.store(Arc::new(held));
        }
        if refusals.is_empty() { Ok(()) } else { Err(refusals.join("; ")) }
    }

    /// Serves these groups and no others, or goes on as before.
    async fn serve_these(
        &mut self,
        wanted: Vec<Group>,
        config: &AgentConfig,
    ) -> Result<(), ServeError> {
        let listed = self.peers().borrow().clone();
        let specs = wanted.iter().map(|group| GroupSpec {
            name: group.name.as_str().into(),
            id: *group.effective_id().as_bytes(),
            crdt_type: group.crdt.crdt_type,
            settings: settings(group, config, &listed),
        });
        let handles = self.writer.serve(specs.collect()).await?;
        let mut served = BTreeMap::new();
        for (group, (slot, handle)) in wanted.into_iter().zip(handles) {
            let id = *group.effective_id().as_bytes();
            let views =
                StoredGroup { reader: self.reader.clone(), slot, etag_key: EtagKey::new(id) };
            let shown = ServedGroup {
                name: group.name.as_str().into(),
                crdt_type: group.crdt.crdt_type,
                id,
                value_bytes: group.limits.value_bytes.get(),
                handle,
                views: Arc::new(views),
            };
            served.insert(group.name.clone(), (slot, group, shown));
        }
        for name in self.served.keys().filter(|name| !served.contains_key(*name)) {
            warn!(group = name, "no longer listed: not served any more, its data stays");
        }
        self.served = served;
        self.expected = self.expecting(&listed);
        self.groups.replace(self.served.values().map(|(_, _, served)| served.clone()));
        Ok(())
    }

    /// What peers may ask for.
    pub(super) fn group_names(&self) -> Vec<GroupName> {
        self.served.keys().filter_map(|name| GroupName::parse(name)).collect()
    }

    /// Follows the configuration until `shutdown` fires or something is lost.
    pub(super) async fn follow(
        &mut self,
        mut configs: watch::Receiver<Arc<AgentConfig>>,
        supervisor: &Supervisor,
        shutdown: CancellationToken,
    ) -> Result<(), RunError> {
        let mut peers = self.peers();
        loop {
            let is_refused = self.refused.is_some();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = supervisor.lost() => return Err(RunError::Lost("the peers' transport")),
                () = self.writer.ended() => return Err(RunError::Lost("the writer")),
                changed = configs.changed() => {
                    if changed.is_err() {
                        return Err(RunError::Lost("the watch of the configuration"));
                    }
                }
                Ok(()) = peers.changed() => {
                    if self.expecting(&peers.borrow_and_update().clone()) == self.expected {
                        continue;
                    }
                }
                () = sleep(RETRY), if is_refused => {}
            }
            let config = Arc::clone(&configs.borrow_and_update());
            if let Followed::Listed(peers) = &self.followed {
                peers.replace(addresses(&config));
            }
            // Before groups come that nobody waited for at the start.
            let _ = self.lifecycle.has_started(&self.groups);
            let outcome = self.serve_what_can_be(&config).await;
            self.note(outcome.err());
            supervisor.set_groups(self.group_names());
        }
    }

    /// Says how serving the configuration went: once, for it is tried again and again.
    fn note(&mut self, refused: Option<String>) {
        self.metrics.groups_are_current(refused.is_none());
        match &refused {
            None => info!("the configuration's changes are in force"),
            Some(error) if refused != self.refused => {
                error!(error, "not all groups are served as configured");
                self.metrics.refused();
            }
            Some(_) => {}
        }
        self.refused = refused;
    }

    /// The groups that have peers, or may have some.
    fn expecting(&self, listed: &Listed) -> Vec<GroupName> {
        let mut groups = self.group_names();
        groups.retain(|group| listed.expects_peers(group));
        groups
    }
}

/// Whether two groups have the same data.
fn is_same(one: &Group, other: &Group) -> bool {
    one.effective_id() == other.effective_id() && one.crdt == other.crdt
}

/// A refusal, with the field's path if the group is in the configuration.
fn in_words(index: Option<usize>, refusal: GroupRefusal) -> String {
    let GroupRefusal { field, message, .. } = refusal;
    match (index, field) {
        (Some(index), Some(field)) => format!("groups[{index}].{field}: {message}"),
        (Some(index), None) => format!("groups[{index}]: {message}"),
        (None, _) => format!("groups: {message}"),
    }
}

/// The peers that the configuration names.
fn addresses(config: &AgentConfig) -> Vec<PeerAddress> {
    let listed = config.discovery.static_peers.peers.iter();
    listed.filter_map(|address| address.as_str().parse().ok()).collect()
}

fn settings(group: &Group, config: &AgentConfig, listed: &Listed) -> GroupSettings {
    let ms = |duration: coppice_api::TextDuration| {
        u64::try_from(duration.get().as_millis()).unwrap_or(u64::MAX)
    };
    GroupSettings {
        replica: ReplicaSettings {
            eager: group.sync.eager,
            interval_ms: ms(group.sync.interval),
            log_bytes: group.limits.log_bytes.get(),
            log_age_ms: ms(group.limits.log_age),
            startup_wait_ms: ms(config.startup_wait),
            expects_peers: GroupName::parse(&group.name)
                .is_some_and(|name| listed.expects_peers(&name)),
            frame_bytes: FRAME_BYTES,
            removals: RemovalPace::default(),
        },
        limits: WriteLimits {
            objects: group.limits.objects,
            elements: group.limits.elements,
            value_bytes: group.limits.value_bytes.get(),
        },
        durability: match group.storage.durability {
            Durability::Always => GroupDurability::Always,
            Durability::Interval => {
                GroupDurability::Interval { milliseconds: ms(group.storage.fsync_interval) }
            }
            Durability::None => GroupDurability::None,
        },
    }
}
