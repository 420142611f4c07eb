//! What an agent in a cluster has beside the rest: its groups, peers and certificate
//! come from others, and none of them needs to be there.

use std::sync::Arc;

use arc_swap::ArcSwap;
use coppice_api::AgentConfig;
use prometheus::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::RunError;
use super::ports::Ports;
use crate::clock::Clock;
use crate::cluster::{Cluster, ClusterMetrics, ClusterState, ClusterWatch};
use crate::discovery::{Discovery as _, EndpointSlices, Peers, SliceMetrics, SliceSettings};
use crate::disk_limit::DiskLimit;
use crate::http::Lifecycle;
use crate::identity::{Identity, IdentityMetrics, IdentitySettings};
use crate::query::Groups;
use crate::replica_task::WriterMetrics;
use crate::telemetry::ConfigMetrics;

/// The tasks of an agent in a cluster, and what they share with others.
pub(super) struct InCluster {
    pub(super) state: Arc<ClusterState>,
    slices: EndpointSlices,
}

/// What others made that these tasks need.
pub(super) struct Surroundings<'a> {
    pub(super) registry: &'a Registry,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) lifecycle: &'a Arc<Lifecycle>,
    pub(super) groups: &'a Arc<Groups>,
    pub(super) disk: &'a Arc<DiskLimit>,
    pub(super) writer: &'a WriterMetrics,
    pub(super) ports: &'a Ports,
    /// Cancelled when one of the tasks is lost.
    pub(super) lost: &'a CancellationToken,
}

impl InCluster {
    /// Starts what follows the cluster, and gives the configurations that come of it.
    pub(super) fn start(
        cluster: Cluster,
        metrics: ConfigMetrics,
        around: &Surroundings<'_>,
    ) -> Result<(Self, watch::Receiver<Arc<AgentConfig>>), RunError> {
        let Surroundings { registry, ports, .. } = around;
        let pod = cluster.pod().clone();
        let settings = IdentitySettings {
            files: cluster.identity_files(),
            token_file: cluster.token_file(),
            clock: Arc::clone(around.clock),
        };
        let slices = SliceSettings {
            namespace: pod.namespace.clone(),
            pod: pod.uid.clone(),
            prefers_v6: pod.prefers_v6(),
            saved: cluster.saved_peers(),
            eager_for: cluster.config().startup_wait.get(),
        };
        let metrics = (metrics, ClusterMetrics::register(registry)?);
        let (watching, followed) = ClusterWatch::new(cluster, metrics);
        let (slices, follow_slices) =
            EndpointSlices::new(slices, followed.served, SliceMetrics::register(registry)?);
        let (identity, identity_state) =
            Identity::new(settings, followed.view.clone(), IdentityMetrics::register(registry)?);
        let guarded = |task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
            let noticed = around.lost.clone().drop_guard();
            ports.tasks.spawn(async move {
                task.await;
                drop(noticed);
            })
        };
        let lifecycle = Arc::clone(around.lifecycle);
        guarded(Box::pin(watching.run(slices.peers(), lifecycle, ports.stop.clone())));
        guarded(follow_slices(ports.stop.clone()));
        guarded(Box::pin(identity.run(ports.stop.clone())));
        let state = ClusterState {
            pod: pod.uid,
            groups: Arc::clone(around.groups),
            view: followed.view,
            identity: identity_state,
            disk: Arc::clone(around.disk),
            writer: around.writer.clone(),
            refused_by_store: ArcSwap::default(),
        };
        Ok((Self { state: Arc::new(state), slices }, followed.configs))
    }

    /// The peers that are found.
    pub(super) fn peers(&self) -> watch::Receiver<Peers> {
        self.slices.peers()
    }
}
