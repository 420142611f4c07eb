//! The app's API against a fake group: one in-memory replica, one writer task.

mod batches;
mod fake;
mod ports;
mod reads;
mod refusals;
mod writes;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use coppice_crdt::CrdtType;
use http_body_util::BodyExt as _;
use prometheus::Registry;
use serde_json::Value;

use super::{AppApi, Lifecycle, Phase};
use crate::clock::ManualClock;
use crate::query::Groups;
use crate::telemetry::HttpMetrics;
use fake::FakeGroup;

/// Wall time at which tests begin.
const NOW_MS: u64 = 1_800_000_000_000;

/// An API over one group `g`.
struct Fixture {
    api: AppApi,
    group: FakeGroup,
    clock: Arc<ManualClock>,
    registry: Registry,
}

/// An answer, read to its end.
#[derive(Debug)]
struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Fixture {
    fn of(crdt_type: CrdtType) -> Self {
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let group = FakeGroup::start("g", crdt_type, clock.clone());
        let groups = Arc::new(Groups::new());
        groups.replace([group.served()]);
        let registry = Registry::new();
        let metrics = HttpMetrics::new(&registry).unwrap();
        let lifecycle = Arc::new(Lifecycle::default());
        lifecycle.enter(Phase::Serving);
        let api = AppApi { groups, clock: clock.clone(), metrics, lifecycle, also_host: None };
        Self { api, group, clock, registry }
    }

    /// Sends a request; `line` is method and target, `headers` `Name: value`.
    async fn send(&self, line: &str, headers: &[&str], body: impl Into<Body>) -> Answered {
        let (method, target) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(target);
        if !headers.iter().any(|header| header.starts_with("Host:")) {
            request = request.header("Host", "127.0.0.1:4437");
        }
        for header in headers {
            let (name, value) = header.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        let response = self.api.answer(request.body(body.into()).unwrap()).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answered { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, target: &str) -> Answered {
        self.send(&format!("GET {target}"), &[], "").await
    }

    async fn get_object(&self, rest: &str) -> Answered {
        self.get(&format!("/v1/groups/g/objects/{rest}")).await
    }

    async fn post(&self, target: &str, json: &str) -> Answered {
        let headers = ["Content-Type: application/json"];
        self.send(&format!("POST {target}"), &headers, json.to_owned()).await
    }

    async fn operate(&self, key: &str, json: &str) -> Answered {
        self.post(&format!("/v1/groups/g/objects/{key}"), json).await
    }

    /// An operation that has to succeed.
    async fn done(&self, key: &str, json: &str) {
        let answer = self.operate(key, json).await;
        assert_eq!(answer.status, StatusCode::OK, "{json}: {answer:?}");
    }
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Asserts that this is a problem document of that status and stable name,
    /// and gives it back.
    #[track_caller]
    fn problem(&self, status: u16, name: &str) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status.as_u16(), status, "{text}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{text}");
        let json = self.json();
        assert_eq!(json["type"], format!("urn:coppice:problem:{name}"), "{text}");
        assert_eq!(json["status"], status, "{text}");
        assert!(json["title"].is_string() && json["detail"].is_string(), "{text}");
        json
    }

    /// As [`Self::problem`], with a detail that contains `detail`.
    #[track_caller]
    fn problem_saying(&self, (status, name): (u16, &str), detail: &str) {
        let json = self.problem(status, name);
        assert!(json["detail"].as_str().unwrap().contains(detail), "{detail:?} is missing: {json}");
    }
}
