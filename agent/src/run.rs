//! The only wiring: what is started in which order, and stopped in which.
//!
//! Start: ports, which say that the store is being opened; store, writer, groups,
//! peers. A mistake in any of them ends the start with a message that names the
//! field and the mend. Stop: writes are refused, the writer hands over to a peer,
//! ports finish what they answer, the store is closed, peers are told.

mod following;
mod in_cluster;
mod ports;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use coppice_api::AgentConfig;
use prometheus::Registry;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::clock::{Clock, SystemClock};
use crate::cluster::{Cluster, PodError};
use crate::config::{ConfigSource, ConfigWatch};
use crate::disk_limit::{DiskLimit, DiskWatch};
use crate::engine::OpenError;
use crate::http::{AppApi, Lifecycle, OperationsApi, Phase, StatusSource, StoreOperations};
use crate::peer::{
    PeerMetrics, Reporter, Settings as PeerSettings, StartError, Supervisor, TlsFiles,
};
use crate::query::Groups;
use crate::replica_task::{
    self, HandedOver, NotHandedOver, WriterHandle, WriterMetrics, WriterStart,
};
use crate::snapshots::SnapshotSource;
use crate::store::{Store, StoreError};
use crate::store_metrics::StoreMetrics;
use crate::telemetry::{ConfigMetrics, ConnectionMetrics, HttpMetrics, register_build_info};
use following::{Agent, Followed};
use in_cluster::{InCluster, Surroundings};
use ports::{Ports, bind};

/// How long the writer may take to say how the hand-over went: longer than that
/// lasts.
const HAND_OVER: Duration = Duration::from_secs(3);

/// How long stopping may take beside the hand-over.
const STOP: Duration = Duration::from_secs(5);

/// What of that is left to the store, or to ports after a failed start.
const CLOSE: Duration = Duration::from_secs(2);

/// How long a store that could not be opened is left alone, in a cluster.
const FIRST_REOPEN: Duration = Duration::from_secs(1);
const LAST_REOPEN: Duration = Duration::from_secs(10);

/// Why an agent did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store cannot be opened, or what it holds cannot be gone on from.
    #[error("dataDir: {}: {}", data_dir.display(), error.with_mend())]
    DataDir {
        /// The folder.
        data_dir: PathBuf,
        /// Why.
        error: OpenError,
    },
    /// Groups cannot be served; the fields are named.
    #[error("{0}")]
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
    /// The container does not say which pod it is of.
    #[error(transparent)]
    Pod(#[from] PodError),
    /// A metric was registered twice.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A task ended that should have gone on.
    #[error("{0} ended unexpectedly")]
    Lost(&'static str),
    /// The store was not closed in time: its disk does not answer.
    #[error(
        "dataDir: {}: the store was not closed within {} s, for the disk does not answer: the next start goes on from it as after a crash",
        .0.display(), STOP.as_secs()
    )]
    NotClosed(PathBuf),
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
/// `open` opens the store that the configuration names, on a thread that may
/// block; until then the ports answer that it is being opened. The
/// configuration's file is watched, and what can change without a restart takes
/// force. In a cluster a store that cannot be opened is tried again, for what is wrong
/// there may be mended without this agent.
///
/// # Errors
///
/// [`RunError`] with the field and the mend. What was started is stopped again.
pub async fn run<S: Store>(
    (source, config): (ConfigSource, AgentConfig),
    open: impl FnMut(&AgentConfig) -> Result<Opened<S>, StoreError> + Send + 'static,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let front = Front::start(source, &config).await?;
    let ended = front.serve(config, open, shutdown).await;
    // They are closed, or were given up, but for a start that failed.
    let _ = timeout(CLOSE, front.ports.close()).await;
    ended
}

/// What answers from the first moment on, and what the rest is made of.
struct Front {
    registry: Registry,
    clock: Arc<dyn Clock>,
    lifecycle: Arc<Lifecycle>,
    groups: Arc<Groups>,
    name: Arc<str>,
    configs: watch::Receiver<Arc<AgentConfig>>,
    config_metrics: ConfigMetrics,
    /// Empty until the store is open.
    store: Arc<OnceLock<StoreOperations>>,
    disk: Arc<DiskLimit>,
    writer_metrics: WriterMetrics,
    in_cluster: Option<InCluster>,
    /// Cancelled when a task of these has ended that should go on.
    lost: CancellationToken,
    ports: Ports,
}

impl Front {
    /// Binds the app's and the operations port, serves them, and watches the
    /// configuration.
    async fn start(source: ConfigSource, config: &AgentConfig) -> Result<Self, RunError> {
        let app = bind("listen.app", config.listen.app).await?;
        let operations = bind("listen.operations", config.listen.operations).await?;
        let registry = Registry::new();
        register_build_info(&registry)?;
        let metrics = ConfigMetrics::new(&registry)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (lifecycle, groups, ports) =
            (Arc::default(), Arc::new(Groups::new()), Ports::default());
        let disk = Arc::new(DiskLimit::new(config.data_limit.map(coppice_api::ByteSize::get)));
        let writer_metrics = WriterMetrics::register(&registry)?;
        let lost = CancellationToken::new();
        let (in_cluster, configs) = if let Some(place) = source.source.in_cluster() {
            let cluster = Cluster::open(place, source.overrides.clone())?;
            let around = Surroundings {
                registry: &registry,
                clock: &clock,
                lifecycle: &lifecycle,
                groups: &groups,
                disk: &disk,
                writer: &writer_metrics,
                ports: &ports,
                lost: &lost,
            };
            let (started, configs) = InCluster::start(cluster, metrics.clone(), &around)?;
            (Some(started), configs)
        } else {
            let (watch, configs) = ConfigWatch::new(source, config.clone(), metrics.clone());
            ports.tasks.spawn(watch.run(ports.stop.clone()));
            (None, configs)
        };
        let front = Self {
            registry,
            clock,
            lifecycle,
            groups,
            name: replica_name(config).into(),
            configs,
            config_metrics: metrics,
            store: Arc::default(),
            disk,
            writer_metrics,
            in_cluster,
            lost,
            ports,
        };
        let api = AppApi {
            groups: Arc::clone(&front.groups),
            clock: Arc::clone(&front.clock),
            metrics: HttpMetrics::new(&front.registry)?,
            lifecycle: Arc::clone(&front.lifecycle),
            also_host: config.app_url.as_ref().map(|url| url.host().into()),
        };
        let connections = ConnectionMetrics::new(&front.registry)?;
        front.ports.serve_app(app, api, &connections);
        let api = OperationsApi {
            replica: Arc::clone(&front.name),
            groups: Arc::clone(&front.groups),
            lifecycle: Arc::clone(&front.lifecycle),
            registry: front.registry.clone(),
            cluster: front.in_cluster.as_ref().map(|of| Arc::clone(&of.state)),
            store: Arc::clone(&front.store),
        };
        front.ports.serve_operations(operations, api, &connections);
        Ok(front)
    }

    /// Opens the store, and serves it until `shutdown` fires.
    async fn serve<S: Store>(
        &self,
        config: AgentConfig,
        open: impl FnMut(&AgentConfig) -> Result<Opened<S>, StoreError> + Send + 'static,
        shutdown: CancellationToken,
    ) -> Result<(), RunError> {
        let mut opening = self.open(&config, open, shutdown.clone());
        let (writer, reader, snapshots) = tokio::select! {
            opened = &mut opening => opened.map_err(|_| RunError::Lost("the opening of the store"))??,
            () = shutdown.cancelled() => {
                // Nothing was written that could be handed over. But the process may not end
                // under a thread that opens the store, if it can be helped.
                match timeout(STOP, opening).await {
                    Ok(Ok(Ok((writer, ..)))) => {
                        let _ = timeout(STOP, writer.stop()).await;
                    }
                    // Why it never served is its last word: the kubelet keeps that, and the
                    // operator tells it.
                    Ok(Ok(Err(error))) => return Err(error),
                    Ok(Err(_)) | Err(_) => {}
                }
                return Ok(());
            }
        };
        let followed = match &self.in_cluster {
            None => Followed::listed(&config),
            Some(of) => Followed::in_cluster(of.peers(), Arc::clone(&of.state)),
        };
        let shown = (Arc::clone(&self.groups), Arc::clone(&self.lifecycle));
        let metrics = self.config_metrics.clone();
        let mut agent = Agent::new((writer, reader.clone()), shown, (followed, metrics));
        let begun = self.begin(&mut agent, &config, (reader, snapshots)).await;
        let supervisor = match begun {
            Ok(supervisor) => supervisor,
            Err(error) => {
                // The process may not end under a store that is open, if it can be helped.
                let _ = timeout(STOP, agent.writer.stop()).await;
                return Err(error);
            }
        };
        self.lifecycle.enter(Phase::Serving);
        if config.groups.is_empty() {
            warn!("no group is configured: nothing is served until there is one");
        }
        info!(app = %config.listen.app, peers = %supervisor.local_addr(), operations = %config.listen.operations, "serving");

        let ended = tokio::select! {
            ended = agent.follow(self.configs.clone(), &supervisor, shutdown) => ended,
            () = self.lost.cancelled() => Err(RunError::Lost("what follows the cluster")),
        };

        self.lifecycle.enter(Phase::Stopping);
        let is_closed = self.stop(&agent.writer, supervisor).await;
        ended?;
        if is_closed { Ok(()) } else { Err(RunError::NotClosed(config.data_dir)) }
    }

    /// Serves the groups over the open store, to the app and to peers.
    async fn begin<R: crate::store::Reader>(
        &self,
        agent: &mut Agent<R>,
        config: &AgentConfig,
        (reader, snapshots): (R, Option<Arc<dyn SnapshotSource>>),
    ) -> Result<Supervisor, RunError> {
        agent.begin(config).await.map_err(RunError::Group)?;
        let in_cluster = self.in_cluster.as_ref();
        let supervisor = Supervisor::start(
            PeerSettings {
                in_cluster: in_cluster.is_some(),
                reporter: in_cluster.map(|of| Arc::clone(&of.state) as Arc<dyn Reporter>),
                ..peer_settings(config)
            },
            agent.peers(),
            agent.writer.links(),
            PeerMetrics::register(&self.registry)?,
        )
        .await?;
        supervisor.set_groups(agent.group_names());
        let measured = DiskWatch::register(&self.registry, Arc::clone(&self.disk), reader.clone())?;
        self.ports.tasks.spawn(measured.run(self.ports.stop.clone()));
        self.show(StoreMetrics::register(&self.registry, reader)?, snapshots)?;
        Ok(supervisor)
    }

    /// Opens the store and starts its writer, on a thread that may block: a
    /// large store, or one that was not closed, takes its time.
    fn open<S: Store>(
        &self,
        config: &AgentConfig,
        mut open: impl FnMut(&AgentConfig) -> Result<Opened<S>, StoreError> + Send + 'static,
        shutdown: CancellationToken,
    ) -> tokio::task::JoinHandle<Result<Started<S>, RunError>> {
        let (name, clock) = (Arc::clone(&self.name), Arc::clone(&self.clock));
        let (metrics, disk) = (self.writer_metrics.clone(), Arc::clone(&self.disk));
        let (config, is_patient) = (config.clone(), self.in_cluster.is_some());
        let mut once = move || {
            let Opened { store, snapshots } = open(&config)?;
            let reader = store.reader();
            let (name, clock, disk) = (Arc::clone(&name), Arc::clone(&clock), Arc::clone(&disk));
            let (metrics, random) = (metrics.clone(), rand::random::<[u8; 32]>);
            let start = WriterStart { store, name, clock, metrics, disk, random };
            Ok((replica_task::start(start)?, reader, snapshots))
        };
        let data_dir = self.configs.borrow().data_dir.clone();
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            let mut wait = FIRST_REOPEN;
            loop {
                let error: OpenError = match once() {
                    Ok(started) => return Ok(started),
                    Err(error) => error,
                };
                if !is_patient || shutdown.is_cancelled() {
                    return Err(RunError::DataDir { data_dir, error });
                }
                let folder = data_dir.display();
                error!(%folder, "the store cannot be opened yet, and is tried again: {}", error.with_mend());
                let _stopped = runtime.block_on(timeout(wait, shutdown.cancelled()));
                wait = (wait * 2).min(LAST_REOPEN);
            }
        })
    }

    /// Lets the operations port show and do what needs the store.
    fn show(
        &self,
        figures: StoreMetrics<impl crate::store::Reader>,
        snapshots: Option<Arc<dyn SnapshotSource>>,
    ) -> Result<(), RunError> {
        let mut sources: Vec<Arc<dyn StatusSource>> = vec![Arc::new(figures)];
        let taken_by = |source| (source, self.configs.clone(), Arc::clone(&self.clock));
        let taking = |source| self.ports.take_snapshots(taken_by(source), &self.registry);
        let (snapshots, snapshot_figures) = snapshots.map(taking).transpose()?.unzip();
        sources.extend(snapshot_figures);
        // Only here is it set.
        let _ = self.store.set(StoreOperations { sources, snapshots });
        Ok(())
    }

    /// Ends in this order what was started, and waits for none of it without a
    /// limit: a disk may never answer. Whether the store is closed.
    async fn stop(&self, writer: &WriterHandle, supervisor: Supervisor) -> bool {
        info!("stopping: handing over to a peer");
        if let Ok(how) = timeout(HAND_OVER, writer.hand_over()).await {
            tell_hand_over(&how);
        } else {
            warn!("nothing was handed over to a peer: the store does not answer");
        }
        let until = Instant::now() + STOP;
        let closing = async {
            // The last snapshot has all writes, and needs the store open.
            if timeout_at(until - CLOSE, self.ports.close()).await.is_err() {
                warn!("not waited for any longer: the last snapshot, or requests that are open");
            }
            let is_closed = timeout_at(until, writer.stop()).await.is_ok();
            if !is_closed {
                warn!("the store is not closed: what it had not put on disk is with the system");
            }
            is_closed
        };
        // A peer that takes nothing any more is waited for meanwhile.
        let (is_closed, _late) = tokio::join!(closing, timeout_at(until, supervisor.close()));
        info!("stopped");
        is_closed
    }
}

/// Says what no peer has, for it is gone if this disk is.
fn tell_hand_over(how: &HandedOver) {
    match how {
        HandedOver::Everything => {}
        HandedOver::StoreFailed => {
            warn!("nothing was handed over to a peer: the store has failed");
        }
        HandedOver::Not(groups) => {
            for NotHandedOver { group, peers, only_here } in groups {
                if peers.is_empty() {
                    warn!(%group, only_here, "not handed over: no peer is connected, and these writes are on no other disk");
                    continue;
                }
                let lacking = peers.iter().map(|(name, writes)| format!("{name} lacks {writes}"));
                let lacking = lacking.collect::<Vec<_>>().join(", ");
                warn!(%group, only_here, lacking, "not handed over: no connected peer has all writes on its disk yet");
            }
        }
    }
}

/// The writer over an open store, what reads it, and what takes its snapshots.
type Started<S> = (WriterHandle, <S as Store>::Reader, Option<Arc<dyn SnapshotSource>>);

/// The replica's name: as configured, else the host's.
fn replica_name(config: &AgentConfig) -> String {
    let host = || gethostname::gethostname().to_string_lossy().into_owned();
    config.replica.name.clone().unwrap_or_else(host)
}

/// The files that the configuration names.
pub(crate) fn tls_files(config: &AgentConfig) -> Option<TlsFiles> {
    config.tls.as_ref().map(|tls| TlsFiles {
        ca: tls.ca.clone(),
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
    })
}

fn peer_settings(config: &AgentConfig) -> PeerSettings {
    let insecure_peers = config.insecure_peers;
    PeerSettings {
        tls: tls_files(config),
        insecure_peers,
        ..PeerSettings::new(config.listen.peers)
    }
}

#[cfg(test)]
mod tests;
