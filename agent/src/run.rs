//! The only wiring: what is started in which order, and stopped in which.
//!
//! Start: store, writer, groups, peers, ports. A mistake in any of them ends the
//! start with a message that names the field and the mend. Stop: writes are
//! refused, the writer hands over to a peer, ports finish what they answer, the
//! store is closed, peers are told.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use coppice_api::{AgentConfig, Durability, Group};
use coppice_crdt::EtagKey;
use coppice_replication::{FRAME_BYTES, ReplicaSettings, WriteLimits};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::clock::{Clock, SystemClock};
use crate::config::{ConfigSource, ConfigWatch};
use crate::discovery::{Discovery, PeerAddress, StaticPeers};
use crate::engine::{GroupDurability, GroupSettings, OpenError};
use crate::http::{AppApi, Lifecycle, OperationsApi, Phase, Server, ServerLimits, StatusSource};
use crate::peer::{
    GroupName, PeerMetrics, Settings as PeerSettings, StartError, Supervisor, TlsFiles,
};
use crate::query::{Groups, ServedGroup, StoredGroup};
use crate::replica_task::{self, GroupSpec, WriterHandle, WriterMetrics, WriterStart};
use crate::snapshot_task::{SnapshotMetrics, SnapshotRequests, SnapshotTask};
use crate::snapshots::SnapshotSource;
use crate::store::keys::Slot;
use crate::store::{Reader, Store, StoreError};
use crate::store_metrics::StoreMetrics;
use crate::telemetry::{ConfigMetrics, HttpMetrics, register_build_info};

/// Why an agent did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store cannot be opened.
    #[error("dataDir: {0}")]
    Store(#[from] StoreError),
    /// What it holds cannot be gone on from.
    #[error("dataDir: {0}")]
    Open(#[from] OpenError),
    /// A group cannot be served.
    #[error("groups: {0}")]
    Group(String),
    /// The peers' port cannot be served.
    #[error(transparent)]
    Peers(#[from] StartError),
    /// A port cannot be had.
    #[error(
        "{field}: cannot listen on {address}: {source}; choose another address or stop what listens there"
    )]
    Listen {
        /// The configuration's field.
        field: &'static str,
        /// The address it names.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A metric was registered twice.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A task ended that should have gone on.
    #[error("{0} ended unexpectedly")]
    Lost(&'static str),
}

/// A store, opened for an agent.
#[derive(Debug)]
pub struct Opened<S> {
    /// The store.
    pub store: S,
    /// Takes snapshots of it; `None`: it has none.
    pub snapshots: Option<Arc<dyn SnapshotSource>>,
}

/// Serves until `shutdown` fires; then hands over and stops.
///
/// `open` opens the store that the configuration names. The configuration's file
/// is watched, and what can change without a restart takes force.
///
/// # Errors
///
/// [`RunError`] with the field and the mend. What was started is stopped again.
pub async fn run<S: Store>(
    (source, config): (ConfigSource, AgentConfig),
    open: impl FnOnce(&AgentConfig) -> Result<Opened<S>, StoreError>,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let registry = Registry::new();
    register_build_info(&registry)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let lifecycle = Arc::new(Lifecycle::default());
    let groups = Arc::new(Groups::new());
    let name: Arc<str> = replica_name(&config).into();

    let app = bind("listen.app", config.listen.app).await?;
    let operations = bind("listen.operations", config.listen.operations).await?;
    let Opened { store, snapshots } = open(&config)?;
    let reader = store.reader();
    let start = WriterStart {
        store,
        name: Arc::clone(&name),
        clock: Arc::clone(&clock),
        metrics: WriterMetrics::register(&registry)?,
        random: rand::random::<[u8; 32]>,
    };
    let mut agent = Agent {
        writer: replica_task::start(start)?,
        reader: reader.clone(),
        groups: Arc::clone(&groups),
        served: BTreeMap::new(),
        peers: StaticPeers::new(addresses(&config)),
    };
    agent.serve(&config).await.map_err(RunError::Group)?;

    let supervisor = Supervisor::start(
        peer_settings(&config),
        agent.peers.peers(),
        agent.writer.links(),
        PeerMetrics::register(&registry)?,
    )
    .await?;
    supervisor.set_groups(agent.group_names());

    let ports = Ports { stop: CancellationToken::new(), tasks: TaskTracker::new() };
    let api = AppApi {
        groups: Arc::clone(&groups),
        clock: Arc::clone(&clock),
        metrics: HttpMetrics::new(&registry)?,
        lifecycle: Arc::clone(&lifecycle),
        also_host: None,
    };
    ports.serve(app, move |request| answer(api.clone(), request));
    let (config_watch, configs) =
        ConfigWatch::new(source, config.clone(), ConfigMetrics::new(&registry)?);
    ports.tasks.spawn(config_watch.run(ports.stop.clone()));
    let mut sources: Vec<Arc<dyn StatusSource>> =
        vec![Arc::new(StoreMetrics::register(&registry, reader)?)];
    let taking = |source| ports.take_snapshots((source, configs.clone(), clock), &registry);
    let (snapshots, snapshot_figures) = snapshots.map(taking).transpose()?.unzip();
    sources.extend(snapshot_figures);
    ports.serve_operations(
        operations,
        OperationsApi {
            replica: name,
            groups,
            lifecycle: Arc::clone(&lifecycle),
            registry,
            sources,
            snapshots,
        },
    );
    lifecycle.enter(Phase::Serving);
    info!(app = %config.listen.app, peers = %supervisor.local_addr(), operations = %config.listen.operations, "serving");

    let ended = agent.follow(configs, &supervisor, shutdown).await;

    lifecycle.enter(Phase::Stopping);
    stop(&agent.writer, ports, supervisor).await;
    ended
}

/// Ends in this order what `run` started.
async fn stop(writer: &WriterHandle, ports: Ports, supervisor: Supervisor) {
    info!("stopping: handing over to a peer");
    writer.hand_over().await;
    // The last snapshot has all writes, and needs the store open.
    ports.close().await;
    writer.stop().await;
    supervisor.close().await;
    info!("stopped");
}

async fn answer(api: AppApi, request: Request<Body>) -> Response {
    api.answer(request).await
}

type TakenBy = (Arc<dyn SnapshotSource>, watch::Receiver<Arc<AgentConfig>>, Arc<dyn Clock>);

/// The tasks that serve ports and take snapshots, and what stops them.
struct Ports {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Ports {
    fn serve<F, A>(&self, listener: TcpListener, answer: F)
    where
        F: Fn(Request<Body>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response> + Send + 'static,
    {
        let server = Server::new(listener, ServerLimits::default());
        self.tasks.spawn(server.run(answer, self.stop.clone()));
    }

    fn serve_operations(&self, listener: TcpListener, api: OperationsApi) {
        let server = Server::new(listener, ServerLimits::default()).marking_local_clients();
        let answer = move |request| {
            let api = api.clone();
            async move { api.answer(request).await }
        };
        self.tasks.spawn(server.run(answer, self.stop.clone()));
    }

    fn take_snapshots(
        &self,
        (source, configs, clock): TakenBy,
        registry: &Registry,
    ) -> prometheus::Result<(SnapshotRequests, Arc<dyn StatusSource>)> {
        let metrics = SnapshotMetrics::register(registry, Arc::clone(&clock))?;
        let (task, requests) = SnapshotTask::new(source, configs, clock, metrics.clone());
        self.tasks.spawn(task.run(self.stop.clone()));
        Ok((requests, Arc::new(metrics)))
    }

    /// Accepts no more, and waits for the requests that are open and for the
    /// last snapshot.
    async fn close(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What changes with the configuration while the agent runs.
struct Agent<R> {
    writer: WriterHandle,
    reader: R,
    groups: Arc<Groups>,
    served: BTreeMap<String, (Slot, Group, ServedGroup)>,
    peers: StaticPeers,
}

impl<R: Reader> Agent<R> {
    /// Serves what the configuration lists, with its settings, and nothing else.
    async fn serve(&mut self, config: &AgentConfig) -> Result<(), String> {
        let listed = |name: &str| config.groups.iter().any(|group| group.name == name);
        let gone: Vec<String> = self.served.keys().filter(|name| !listed(name)).cloned().collect();
        for name in gone {
            if let Some((slot, ..)) = self.served.remove(&name) {
                warn!(group = name, "no longer listed: not served any more, its data stays");
                self.writer.drop_group(slot).await;
            }
        }
        for group in &config.groups {
            let known = self.served.get(&group.name);
            if known.is_some_and(|(_, served, _)| served == group) {
                continue;
            }
            let id = *group.effective_id().as_bytes();
            let spec = GroupSpec {
                name: group.name.as_str().into(),
                id,
                crdt_type: group.crdt.crdt_type,
                settings: settings(group, config),
            };
            let (slot, handle) = self.writer.serve(spec).await?;
            let views =
                StoredGroup { reader: self.reader.clone(), slot, etag_key: EtagKey::new(id) };
            let served = ServedGroup {
                name: group.name.as_str().into(),
                crdt_type: group.crdt.crdt_type,
                id,
                value_bytes: group.limits.value_bytes.get(),
                handle,
                views: Arc::new(views),
            };
            self.served.insert(group.name.clone(), (slot, group.clone(), served));
        }
        self.groups.replace(self.served.values().map(|(_, _, served)| served.clone()));
        Ok(())
    }

    fn group_names(&self) -> Vec<GroupName> {
        self.served.keys().filter_map(|name| GroupName::parse(name)).collect()
    }

    /// Follows the configuration until `shutdown` fires or something is lost.
    async fn follow(
        &mut self,
        mut configs: watch::Receiver<Arc<AgentConfig>>,
        supervisor: &Supervisor,
        shutdown: CancellationToken,
    ) -> Result<(), RunError> {
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
            }
            let config = Arc::clone(&configs.borrow_and_update());
            self.peers.replace(addresses(&config));
            match self.serve(&config).await {
                Ok(()) => info!("the configuration's changes are in force"),
                Err(error) => error!(%error, "a group of the new configuration is not served"),
            }
            supervisor.set_groups(self.group_names());
        }
    }
}

async fn bind(field: &'static str, address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|source| RunError::Listen { field, address, source })
}

/// The replica's name: as configured, else the host's.
fn replica_name(config: &AgentConfig) -> String {
    let host = || gethostname::gethostname().to_string_lossy().into_owned();
    config.replica.name.clone().unwrap_or_else(host)
}

fn addresses(config: &AgentConfig) -> Vec<PeerAddress> {
    let listed = config.discovery.static_peers.peers.iter();
    listed.filter_map(|address| address.as_str().parse().ok()).collect()
}

fn peer_settings(config: &AgentConfig) -> PeerSettings {
    let tls = config.tls.as_ref().map(|tls| TlsFiles {
        ca: tls.ca.clone(),
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
    });
    let insecure_peers = config.insecure_peers;
    PeerSettings { tls, insecure_peers, ..PeerSettings::new(config.listen.peers) }
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
