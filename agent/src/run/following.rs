//! What changes with the configuration while the agent runs: groups, settings, peers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coppice_api::{AgentConfig, Durability, Group};
use coppice_crdt::EtagKey;
use coppice_replication::{FRAME_BYTES, RemovalPace, ReplicaSettings, WriteLimits};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::RunError;
use crate::discovery::{PeerAddress, StaticPeers};
use crate::engine::{GroupDurability, GroupSettings};
use crate::peer::{GroupName, Supervisor};
use crate::query::{Groups, ServedGroup, StoredGroup};
use crate::replica_task::{GroupSpec, WriterHandle};
use crate::store::Reader;
use crate::store::keys::Slot;

/// How long until a group that could not be served is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// What changes with the configuration while the agent runs.
pub(super) struct Agent<R> {
    pub(super) writer: WriterHandle,
    reader: R,
    groups: Arc<Groups>,
    served: BTreeMap<String, (Slot, Group, ServedGroup)>,
    pub(super) peers: StaticPeers,
}

impl<R: Reader> Agent<R> {
    /// An agent that serves no group yet.
    pub(super) fn new(
        writer: WriterHandle,
        reader: R,
        groups: Arc<Groups>,
        config: &AgentConfig,
    ) -> Self {
        let peers = StaticPeers::new(addresses(config));
        Self { writer, reader, groups, served: BTreeMap::new(), peers }
    }

    /// Serves what the configuration lists, with its settings, and nothing else.
    ///
    /// # Errors
    ///
    /// Why groups are not served, or not with their new settings; the others are.
    pub(super) async fn serve(&mut self, config: &AgentConfig) -> Result<(), String> {
        let listed = |name: &str| config.groups.iter().any(|group| group.name == name);
        let gone: Vec<String> = self.served.keys().filter(|name| !listed(name)).cloned().collect();
        for name in gone {
            if let Some((slot, ..)) = self.served.remove(&name) {
                warn!(group = name, "no longer listed: not served any more, its data stays");
                self.writer.drop_group(slot).await;
            }
        }
        let mut refusals = Vec::new();
        for group in &config.groups {
            let known = self.served.get(&group.name);
            if known.is_some_and(|(_, served, _)| served == group) {
                continue;
            }
            if let Err(refusal) = self.serve_group(group, config).await {
                refusals.push(refusal);
            }
        }
        self.groups.replace(self.served.values().map(|(_, _, served)| served.clone()));
        if refusals.is_empty() { Ok(()) } else { Err(refusals.join("; ")) }
    }

    async fn serve_group(&mut self, group: &Group, config: &AgentConfig) -> Result<(), String> {
        let id = *group.effective_id().as_bytes();
        let spec = GroupSpec {
            name: group.name.as_str().into(),
            id,
            crdt_type: group.crdt.crdt_type,
            settings: settings(group, config),
        };
        let (slot, handle) = self.writer.serve(spec).await?;
        let views = StoredGroup { reader: self.reader.clone(), slot, etag_key: EtagKey::new(id) };
        let served = ServedGroup {
            name: group.name.as_str().into(),
            crdt_type: group.crdt.crdt_type,
            id,
            value_bytes: group.limits.value_bytes.get(),
            handle,
            views: Arc::new(views),
        };
        self.served.insert(group.name.clone(), (slot, group.clone(), served));
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
        let mut refused = None;
        loop {
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
                () = sleep(RETRY), if refused.is_some() => {}
            }
            let config = Arc::clone(&configs.borrow_and_update());
            self.peers.replace(addresses(&config));
            let before = std::mem::replace(&mut refused, self.serve(&config).await.err());
            match &refused {
                None => info!("the configuration's changes are in force"),
                // Said once, and tried again and again.
                Some(error) if refused != before => {
                    error!(error, "not all groups are served as configured");
                }
                Some(_) => {}
            }
            supervisor.set_groups(self.group_names());
        }
    }
}

/// The peers that the configuration names.
fn addresses(config: &AgentConfig) -> Vec<PeerAddress> {
    let listed = config.discovery.static_peers.peers.iter();
    listed.filter_map(|address| address.as_str().parse().ok()).collect()
}

fn settings(group: &Group, config: &AgentConfig) -> GroupSettings {
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
            expects_peers: !config.discovery.static_peers.peers.is_empty(),
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
