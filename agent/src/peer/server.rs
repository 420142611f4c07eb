//! Accepting: the listener, each accepted connection, and the one request that
//! peers make, `POST /v1/peer/groups/{group}`. The operator of a cluster makes another,
//! `GET /v1/report`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coppice_api::cluster::REPORT_PATH;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::connection::{
    ByteStream, CONNECTION_WINDOW_BYTES, HTTP_FRAME_BYTES, Peer, SEND_BUFFER_BYTES,
    STREAM_WINDOW_BYTES, Verdict, closing_passed, expired, reason_of,
};
use super::faults::{Fault, host_of};
use super::link::{Link, Opening};
use super::outbound_body::OutboundBody;
use super::shared::{OnTracker, Security, Shared};
use super::tls::{self, Proof};
use super::{CloseReason, GroupName, close_reason};
use crate::acceptor::{self, Acceptor};

/// What stands before the group's name in the path of a link.
pub(super) const GROUP_PATH: &str = "/v1/peer/groups/";

/// The fault of a peer that asks for what is not served here.
const UNKNOWN_GROUP: &str = "not served here";

/// The longest list of headers, in bytes, of a request.
const HEADER_BYTES: u32 = 8 * 1024;

/// An accepted connection, as its requests see it.
struct Accepted {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    /// How many links it has.
    links: watch::Sender<usize>,
    /// Whether it ever had one, or was told of this agent.
    was_used: AtomicBool,
    is_operator: bool,
}

/// Accepts connections until `shutdown`; each gets a task of its own.
pub(super) async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let acceptor = Acceptor::new(listener, shared.limits.connections);
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.shutdown.cancelled() => return,
            accepted = acceptor.accept() => accepted,
        };
        shared.tracker.spawn(serve(accepted, Arc::clone(&shared)));
    }
}

/// Serves one connection until it ends, is idle, or the transport stops; its
/// links then end by themselves.
async fn serve(accepted: acceptor::Accepted, shared: Arc<Shared>) {
    let acceptor::Accepted { stream: tcp, remote, place } = accepted;
    let shaken = tokio::select! {
        () = shared.shutdown.cancelled() => return,
        shaken = shake_hands((tcp, remote), &shared) => shaken,
    };
    let reason = match shaken {
        Ok((stream, proof)) => serve_http(stream, proof, remote, &shared).await,
        Err(reason) => Some(reason),
    };
    if let Some(reason) = reason {
        let label = reason.label();
        let mend = close_reason::mend(label);
        let host = remote.ip().to_string();
        let news = mend.and_then(|mend| {
            shared.faults.note(Fault::new(&host, None, mend)).map(|times| (mend, times))
        });
        if let Some((mend, times)) = news {
            warn!(%remote, reason = label, times, "{mend}");
        } else {
            debug!(%remote, reason = label, "peer's connection refused");
        }
        shared.metrics.link_closed(reason);
    }
    drop(place);
}

async fn shake_hands(
    (tcp, remote): (TcpStream, SocketAddr),
    shared: &Shared,
) -> Result<(Box<dyn ByteStream>, Proof), CloseReason> {
    let security = shared.security.borrow().clone();
    let configs = match security {
        Security::Plain => return Ok((Box::new(tcp), Proof::none())),
        // Without a word: who dials comes again.
        Security::Pending => return Err(CloseReason::Tls),
        Security::Tls(configs) => configs,
    };
    match timeout(shared.timing.connect, tls::accept(&configs, tcp)).await {
        Ok(Ok((stream, proof))) => Ok((Box::new(stream), proof)),
        Ok(Err(error)) => {
            let (host, mend) = (remote.ip().to_string(), tls::mend(&error));
            if let Some(times) = shared.faults.note(Fault::new(&host, None, mend)) {
                warn!(%remote, %error, times, "a peer's TLS handshake failed: {mend}");
            } else {
                debug!(%remote, %error, "a peer's TLS handshake failed");
            }
            Err(CloseReason::Tls)
        }
        Err(_elapsed) => Err(CloseReason::Timeout),
    }
}

/// Serves HTTP/2; the reason to count, if the connection never had a link.
async fn serve_http(
    stream: Box<dyn ByteStream>,
    proof: Proof,
    remote: SocketAddr,
    shared: &Arc<Shared>,
) -> Option<CloseReason> {
    let (ended, verdict) = watch::channel(None);
    let peer = Peer { remote: remote.to_string(), identity: proof.identity, verdict };
    let accepted = Arc::new(Accepted {
        shared: Arc::clone(shared),
        peer: Arc::new(peer),
        links: watch::Sender::new(0),
        was_used: AtomicBool::new(false),
        is_operator: proof.is_operator,
    });
    let service = service_fn(|request| {
        let response = Accepted::open(&accepted, request);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut links = accepted.links.subscribe();
    let mut connection = pin!(builder(shared).serve_connection(TokioIo::new(stream), service));
    let reason = tokio::select! {
        result = connection.as_mut() => {
            result.map_or_else(|error| Some(reason_of(&error)), |()| None)
        }
        () = expired(proof.not_after) => Some(CloseReason::Tls),
        () = idle(&mut links, shared.timing.idle) => Some(CloseReason::Timeout),
        () = shared.shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                _result = connection.as_mut() => {}
                () = closing_passed(shared) => {}
            }
            Some(CloseReason::Shutdown)
        }
    };
    let verdict: Verdict = Some(reason.unwrap_or(CloseReason::Io));
    ended.send_replace(verdict);
    let is_unused = !accepted.was_used.load(Ordering::Relaxed);
    reason.filter(|reason| is_unused && *reason != CloseReason::Shutdown)
}

/// Waits until a connection has had no link for `limit`.
async fn idle(links: &mut watch::Receiver<usize>, limit: Duration) {
    loop {
        // The sender lives as long as the connection.
        drop(links.wait_for(|count| *count == 0).await);
        if timeout(limit, links.wait_for(|count| *count > 0)).await.is_err() {
            return;
        }
    }
}

fn builder(shared: &Shared) -> http2::Builder<OnTracker> {
    let mut builder = http2::Builder::new(OnTracker(shared.tracker.clone()));
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(shared.timing.ping_interval)
        .keep_alive_timeout(shared.timing.ping_timeout)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(HTTP_FRAME_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEADER_BYTES)
        .max_concurrent_streams(shared.limits.streams_per_connection);
    builder
}

// === impl Accepted ===

impl Accepted {
    /// Opens a link for a legal request for a group that is served here.
    fn open(accepted: &Arc<Self>, request: Request<Incoming>) -> Response<OutboundBody> {
        if request.uri().path() == REPORT_PATH {
            return accepted.report(request.method());
        }
        let Some(name) = request.uri().path().strip_prefix(GROUP_PATH) else {
            return refuse(StatusCode::NOT_FOUND);
        };
        if request.method() != Method::POST {
            return refuse(StatusCode::METHOD_NOT_ALLOWED);
        }
        let shared = &accepted.shared;
        let group = GroupName::parse(name);
        let Some(group) = group else { return refuse(StatusCode::NOT_FOUND) };
        let peer = Arc::clone(&accepted.peer);
        let host = host_of(&peer.remote);
        let Some(stop) = shared.groups.borrow().get(&group).cloned() else {
            let fault = Fault::new(host, Some(&group), UNKNOWN_GROUP);
            // One that starts or is edited may come a moment later.
            let from = shared.group_faults_from;
            if shared.faults.note(Fault { from, repeats: false, ..fault }).is_some() {
                warn!(remote = peer.remote, %group,
                    "a peer asks for a group that is not served here: if it should be, list it \
                     in `groups` under the same name");
            }
            return refuse(StatusCode::NOT_FOUND);
        };
        shared.faults.over(host, Some(&group), UNKNOWN_GROUP);
        let opening = Opening { group, dialled: false, peer, stop };
        let (link, body) = Link::new(opening, Arc::clone(shared));
        accepted.was_used.store(true, Ordering::Relaxed);
        accepted.links.send_modify(|count| *count += 1);
        let accepted = Arc::clone(accepted);
        shared.tracker.spawn(async move {
            link.run(request.into_body()).await;
            accepted.links.send_modify(|count| *count -= 1);
        });
        Response::new(body)
    }

    /// Tells the operator, and nobody else, how this agent is.
    fn report(&self, method: &Method) -> Response<OutboundBody> {
        self.was_used.store(true, Ordering::Relaxed);
        let Some(reporter) = &self.shared.reporter else { return refuse(StatusCode::NOT_FOUND) };
        if !self.is_operator {
            return refuse(StatusCode::FORBIDDEN);
        }
        if method != Method::GET {
            return refuse(StatusCode::METHOD_NOT_ALLOWED);
        }
        let security = self.shared.security.borrow().clone();
        let trusted = match &security {
            Security::Tls(configs) => configs.trusted.as_slice(),
            Security::Plain | Security::Pending => &[],
        };
        let mut response = Response::new(OutboundBody::whole(reporter.report(trusted).into()));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}

fn refuse(status: StatusCode) -> Response<OutboundBody> {
    let mut response = Response::new(OutboundBody::Empty);
    *response.status_mut() = status;
    response
}
