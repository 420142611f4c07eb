//! The operations port: metrics, probes, and the state of things.

use std::fmt;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{Method, Request, StatusCode};
use axum::response::Response;
use prometheus::Registry;

use super::groups::{write_group, write_member, write_vector};
use super::json::JsonBuffer;
use super::problem::{Kind, Problem};
use super::{Lifecycle, Phase};
use crate::cluster::ClusterState;
use crate::query::Groups;
use crate::snapshot_task::SnapshotRequests;
use crate::telemetry::encode_metrics;

/// Refreshes what is measured only when someone looks.
pub trait StatusSource: Send + Sync {
    /// Called before metrics are shown.
    fn refresh(&self);
}

/// What the operations port shows.
#[derive(Clone)]
pub struct OperationsApi {
    /// The replica's name.
    pub replica: Arc<str>,
    /// What is served.
    pub groups: Arc<Groups>,
    /// What the agent is doing.
    pub lifecycle: Arc<Lifecycle>,
    /// The metrics of all components.
    pub registry: Registry,
    /// How it fares in its cluster; `None`: in none.
    pub cluster: Option<Arc<ClusterState>>,
    /// What needs the store; empty until it is open.
    pub store: Arc<OnceLock<StoreOperations>>,
}

/// What the operations port shows and does once the store is open.
#[derive(Clone)]
pub struct StoreOperations {
    /// Refreshed before metrics are shown.
    pub sources: Vec<Arc<dyn StatusSource>>,
    /// Takes snapshots; `None`: this store has none.
    pub snapshots: Option<SnapshotRequests>,
}

impl fmt::Debug for OperationsApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperationsApi").field("replica", &self.replica).finish_non_exhaustive()
    }
}

impl fmt::Debug for StoreOperations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOperations")
            .field("snapshots", &self.snapshots)
            .finish_non_exhaustive()
    }
}

impl OperationsApi {
    /// Answers one request.
    pub async fn answer(&self, request: Request<Body>) -> Response {
        if request.uri().path() == "/snapshots" {
            let (parts, _) = request.into_parts();
            let taken = super::snapshots::take(&parts, self.store.get()).await;
            return taken.unwrap_or_else(Problem::into_response);
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let problem = Problem::method_not_allowed("GET, HEAD", "this port has only GET, HEAD");
            return problem.into_response();
        }
        match request.uri().path() {
            "/metrics" => self.metrics().await,
            // A process that answers is alive: what a restart would not mend is no
            // reason for one.
            "/livez" => probe(None),
            "/readyz" => probe(self.not_ready()),
            "/startupz" => probe(self.not_started()),
            "/status" => self.status(),
            _ => Problem::new(
                Kind::UnknownPath,
                "this port has /metrics, /livez, /readyz, /startupz, /status and /snapshots",
            )
            .into_response(),
        }
    }

    async fn metrics(&self) -> Response {
        let sources = self.store.get().map_or_else(Vec::new, |store| store.sources.clone());
        let registry = self.registry.clone();
        // Sources may ask the store, which may wait for the disk.
        let encoded = tokio::task::spawn_blocking(move || {
            for source in &sources {
                source.refresh();
            }
            encode_metrics(&registry)
        });
        let Ok(Ok(text)) = encoded.await else {
            return Problem::new(Kind::Internal, "the metrics contradict each other")
                .into_response();
        };
        let mut response = Response::new(Body::from(text));
        let content_type = HeaderValue::from_static("text/plain; version=0.0.4");
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        response
    }

    /// Why the app should not be sent traffic yet, or any more.
    fn not_ready(&self) -> Option<&'static str> {
        match self.lifecycle.phase() {
            Phase::Opening => Some("the store is being opened"),
            Phase::Stopping => Some("the agent is stopping"),
            Phase::Serving => self.not_started(),
        }
    }

    /// Why the app should not be started yet.
    fn not_started(&self) -> Option<&'static str> {
        if self.lifecycle.phase() == Phase::Opening {
            return Some("the store is being opened");
        }
        let waiting = !self.lifecycle.has_started(&self.groups);
        waiting.then_some("a group waits for its first exchange with a peer")
    }

    fn status(&self) -> Response {
        let mut json = JsonBuffer::with_capacity(1024);
        json.open(b'{');
        json.text("replica", &self.replica);
        json.text("agentVersion", env!("CARGO_PKG_VERSION"));
        json.text(
            "phase",
            match self.lifecycle.phase() {
                Phase::Opening => "opening",
                Phase::Serving => "serving",
                Phase::Stopping => "stopping",
            },
        );
        json.name("groups");
        json.open(b'[');
        for group in self.groups.all() {
            let status = group.handle.status();
            json.item();
            json.open(b'{');
            write_group(&mut json, &group, &status);
            json.name("started");
            json.bool(status.started);
            json.name("seen");
            write_vector(&mut json, &status.vector);
            json.name("members");
            json.open(b'[');
            for member in &status.members {
                json.item();
                write_member(&mut json, member);
            }
            json.close(b']');
            json.close(b'}');
        }
        json.close(b']');
        if let Some(cluster) = &self.cluster {
            cluster.write_status(&mut json);
        }
        json.close(b'}');
        json.into_response()
    }
}

/// 200, or 503 with the reason.
fn probe(reason: Option<&'static str>) -> Response {
    let mut response = Response::new(Body::from(reason.unwrap_or("ok")));
    if reason.is_some() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}
