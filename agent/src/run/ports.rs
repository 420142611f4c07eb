//! The ports and tasks that serve them and the snapshots, and what stops them.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use coppice_api::AgentConfig;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::RunError;
use crate::clock::Clock;
use crate::http::{AppApi, OperationsApi, Server, ServerLimits, StatusSource};
use crate::snapshot_task::{SnapshotMetrics, SnapshotRequests, SnapshotTask};
use crate::snapshots::SnapshotSource;
use crate::telemetry::ConnectionMetrics;

/// What the task that takes snapshots is given.
pub(super) type TakenBy =
    (Arc<dyn SnapshotSource>, watch::Receiver<Arc<AgentConfig>>, Arc<dyn Clock>);

/// The tasks that serve ports and take snapshots, and what stops them.
#[derive(Debug, Default)]
pub(super) struct Ports {
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Ports {
    /// Serves the app's API from now on.
    pub(super) fn serve_app(
        &self,
        listener: TcpListener,
        api: AppApi,
        metrics: &ConnectionMetrics,
    ) {
        let answer = move |request: Request<Body>| {
            let api = api.clone();
            async move { api.answer(request).await }
        };
        let over_limit = metrics.over_limit("app");
        self.serve(Server::new(listener, ServerLimits::default(), over_limit), answer);
    }

    /// Serves metrics and probes from now on.
    pub(super) fn serve_operations(
        &self,
        listener: TcpListener,
        api: OperationsApi,
        metrics: &ConnectionMetrics,
    ) {
        let answer = move |request: Request<Body>| {
            let api = api.clone();
            async move { api.answer(request).await }
        };
        let over_limit = metrics.over_limit("operations");
        let server = Server::new(listener, ServerLimits::default(), over_limit);
        self.serve(server.marking_local_clients(), answer);
    }

    fn serve<F, A>(&self, server: Server, answer: F)
    where
        F: Fn(Request<Body>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response> + Send + 'static,
    {
        self.tasks.spawn(server.run(answer, self.stop.clone()));
    }

    /// Takes snapshots by policy and on request from now on.
    pub(super) fn take_snapshots(
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
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Binds the address that `field` of the configuration names.
pub(super) async fn bind(
    field: &'static str,
    address: SocketAddr,
) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|source| RunError::Listen { field, address, source })
}
