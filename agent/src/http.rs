//! The app's API: HTTP/1.1 and HTTP/2 without TLS, on loopback.
//!
//! A request goes through one function, [`AppApi::answer`]: host, path, method,
//! then the file of its resource. Writes wait for the writer's ticket; reads use
//! a consistent view beside it. Nothing here is a tracing span: what is counted
//! per route says more, and costs less.
//!
//! Invariant: no body, page or answer grows with the data: bodies have limits
//! (`body`), pages end at a number of items and of bytes (`value`, `listing`).

mod activity;
mod batch;
mod body;
mod conditions;
mod connections;
mod groups;
mod host;
pub(crate) mod json;
mod key;
mod leftover;
mod listing;
mod object;
mod operation;
mod params;
mod probes;
mod problem;
mod route;
mod server;
mod snapshots;
mod state;
mod value;
mod view;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use axum::body::Body;
use axum::http::header::HeaderName;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Request, StatusCode};
use axum::response::Response;

use crate::clock::Clock;
use crate::query::{Groups, ServedGroup};
use crate::telemetry::HttpMetrics;
use problem::{Answer, Kind, Problem};
use route::{GroupRoute, Route};

pub use probes::{OperationsApi, StatusSource, StoreOperations};
pub use server::{Server, ServerLimits};

/// Says that the replica is still being filled by its peers.
const INCOMPLETE: HeaderName = HeaderName::from_static("coppice-incomplete");

/// What the agent is doing, as requests and probes have to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The store is being opened.
    Opening,
    /// Reads and writes are answered.
    Serving,
    /// SIGTERM was received: reads are answered, writes refused.
    Stopping,
}

/// The agent's [`Phase`], and whether it has started; shared by its ports.
#[derive(Debug, Default)]
pub struct Lifecycle {
    phase: AtomicU8,
    started: AtomicBool,
}

impl Lifecycle {
    /// Moves to `phase`.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// The present phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Opening,
            1 => Phase::Serving,
            _ => Phase::Stopping,
        }
    }

    /// Whether each group that is served has had its first exchange with a peer, or
    /// that was so at an earlier call: an agent starts once. What is added later, or
    /// opened again, is not waited for.
    pub fn has_started(&self, groups: &Groups) -> bool {
        if self.phase() == Phase::Opening {
            return false;
        }
        let started = || groups.all().iter().all(|group| group.handle.status().started);
        let has_started = self.started.load(Ordering::Acquire) || started();
        self.started.store(has_started, Ordering::Release);
        has_started
    }
}

/// The app's API over the groups that are served.
#[derive(Clone)]
pub struct AppApi {
    /// What is served.
    pub groups: Arc<Groups>,
    /// For what is expired.
    pub clock: Arc<dyn Clock>,
    /// Counts answers.
    pub metrics: HttpMetrics,
    /// Whether writes are taken.
    pub lifecycle: Arc<Lifecycle>,
    /// A host beside loopback that is ours: that of `COPPICE_URL`.
    pub also_host: Option<Arc<str>>,
}

impl fmt::Debug for AppApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppApi").field("groups", &self.groups).finish_non_exhaustive()
    }
}

/// A request to a group, without its body.
#[derive(Clone, Copy)]
struct Call<'a> {
    api: &'a AppApi,
    group: &'a Arc<ServedGroup>,
    parts: &'a Parts,
}

impl AppApi {
    /// Answers one request.
    pub async fn answer(&self, request: Request<Body>) -> Response {
        let started = self.clock.monotonic();
        let (parts, body) = request.into_parts();
        let route = Route::parse(parts.uri.path());
        let checked = host::check(&parts, self.also_host.as_deref());
        let answer = match checked.and_then(|()| body::refuse_unknown_framing(&parts.headers)) {
            Ok(()) => self.dispatch(route, &parts, body).await,
            Err(refused) => Err(refused),
        };
        let mut response = answer.unwrap_or_else(Problem::into_response);
        if parts.method == Method::HEAD {
            response = without_body(response);
        }
        let took = self.clock.monotonic().saturating_sub(started);
        let status = response.status();
        let labels = [route.template(), method_label(&parts.method), status.as_str()];
        self.metrics.answered(labels, took.as_secs_f64());
        response
    }

    async fn dispatch(&self, route: Route<'_>, parts: &Parts, body: Body) -> Answer<Response> {
        let (name, route) = match route {
            Route::Health => return groups::health(self, parts),
            Route::Unknown => return Err(route::unknown_path()),
            _ if self.lifecycle.phase() == Phase::Opening => return Err(Problem::opening()),
            Route::Groups => return groups::list(self, parts),
            Route::Group(name, route) => (name, route),
        };
        let group = self.groups.get(name).ok_or_else(|| self.unknown_group(name))?;
        let call = Call { api: self, group: &group, parts };
        // Before the answer is made, and of refusals too: what is absent may be
        // on its way.
        let incomplete = call.bootstrapping();
        let answer = self.group_route(call, route, body).await;
        Ok(mark(answer.unwrap_or_else(Problem::into_response), incomplete))
    }

    async fn group_route(
        &self,
        call: Call<'_>,
        route: GroupRoute<'_>,
        body: Body,
    ) -> Answer<Response> {
        match route {
            GroupRoute::Object(raw_key) => self.object(call, raw_key, body).await,
            GroupRoute::Objects => {
                call.expect(&[Method::GET, Method::HEAD], "GET, HEAD")?;
                listing::list(call).await
            }
            GroupRoute::Read => {
                call.expect(&[Method::POST], "POST")?;
                listing::read_many(call, body).await
            }
            GroupRoute::Batch => {
                call.expect(&[Method::POST], "POST")?;
                batch::write(call, body).await
            }
            GroupRoute::Sync => {
                call.expect(&[Method::POST], "POST")?;
                groups::sync(call, body).await
            }
            GroupRoute::Members => {
                call.expect(&[Method::GET, Method::HEAD], "GET, HEAD")?;
                groups::members(call)
            }
        }
    }

    async fn object(&self, call: Call<'_>, raw_key: &str, body: Body) -> Answer<Response> {
        let key = route::decode_key(raw_key)?;
        match call.parts.method {
            Method::GET | Method::HEAD => object::read(call, &key).await,
            Method::POST => operation::post(call, &key, body).await,
            Method::PUT => operation::put(call, &key, body).await,
            Method::DELETE => operation::delete(call, &key, body).await,
            _ => Err(operation::method_not_allowed(call)),
        }
    }

    fn unknown_group(&self, name: &str) -> Problem {
        const SHOWN: usize = 10;
        let all = self.groups.all();
        let names: Vec<&str> = all.iter().take(SHOWN).map(|group| &*group.name).collect();
        let served = match (names.len(), all.len()) {
            (0, _) => "this agent serves none".to_owned(),
            (shown, all) if shown < all => {
                format!("this agent serves {} and others", names.join(", "))
            }
            _ => format!("this agent serves {}", names.join(", ")),
        };
        Problem::new(Kind::UnknownGroup, format!("there is no group {name:?} here: {served}"))
    }
}

impl Call<'_> {
    /// Refuses all methods but these.
    fn expect(self, methods: &[Method], allow: &'static str) -> Answer<()> {
        if methods.contains(&self.parts.method) {
            return Ok(());
        }
        Err(Problem::method_not_allowed(allow, format!("this resource has only {allow}")))
    }
}

/// Marks an answer of a replica that may not have everything yet.
fn mark(mut response: Response, incomplete: bool) -> Response {
    if incomplete {
        response.headers_mut().insert(INCOMPLETE, HeaderValue::from_static("bootstrapping"));
    }
    response
}

/// The answer to HEAD: the headers of GET, with the length that GET would have.
fn without_body(response: Response) -> Response {
    use axum::body::HttpBody as _;
    let (mut parts, body) = response.into_parts();
    // An answer that never has a body says nothing of its length.
    let has_body = !matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if let Some(length) = body.size_hint().exact().filter(|_| has_body) {
        parts.headers.insert(axum::http::header::CONTENT_LENGTH, length.into());
    }
    Response::from_parts(parts, Body::empty())
}

/// A bounded label: what a client made up is "other".
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}
