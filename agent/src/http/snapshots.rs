//! `POST /snapshots` on the operations port: takes a snapshot now.
//!
//! For `coppice-agent snapshot take` beside a running agent, which holds the
//! data directory. Each one may push an old snapshot out, so it is for programs
//! on the agent's own machine (or in its pod), and not for web pages there.

use axum::http::header::ORIGIN;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;

use super::host;
use super::json::JsonBuffer;
use super::probes::StoreOperations;
use super::problem::{Answer, Kind, Problem};
use super::server::LocalClient;
use crate::snapshots::SnapshotError;

/// Answers 201 with the snapshot's name and size once it is on disk.
pub(super) async fn take(parts: &Parts, store: Option<&StoreOperations>) -> Answer<Response> {
    if parts.method != Method::POST {
        let detail = "this resource has only POST, which takes a snapshot now";
        return Err(Problem::method_not_allowed("POST", detail));
    }
    host::check(parts, None)?;
    if parts.extensions.get::<LocalClient>().is_none() || parts.headers.contains_key(ORIGIN) {
        return Err(Problem::new(
            Kind::Forbidden,
            "snapshots are taken for programs on the agent's own machine only: \
             run `coppice-agent snapshot take` beside the agent",
        ));
    }
    let store = store.ok_or_else(Problem::opening)?;
    let Some(requests) = &store.snapshots else {
        return Err(Problem::not_offered("a snapshot of this store"));
    };
    match requests.take().await {
        None => Err(Problem::new(
            Kind::StoreUnavailable,
            "other snapshots are waiting, or the agent is stopping: retry",
        )),
        Some(Err(SnapshotError::Store(error))) if error.is_disk_full() => {
            Err(Problem::new(Kind::DiskFull, error.to_string()))
        }
        Some(Err(error)) => {
            Err(Problem::new(Kind::Internal, format!("{error}: see the agent's log")))
        }
        Some(Ok(taken)) => {
            let mut json = JsonBuffer::with_capacity(64);
            json.open(b'{');
            json.text("name", &taken.name.to_string());
            json.name("bytes");
            json.number(taken.bytes);
            json.close(b'}');
            let mut response = json.into_response();
            *response.status_mut() = StatusCode::CREATED;
            Ok(response)
        }
    }
}
