//! Serves one port: HTTP/1.1 and HTTP/2 with prior knowledge, told apart by the
//! first bytes.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How long a client may take to send a request's head, or keep a connection idle
/// that has not sent one.
const HEAD_PATIENCE: Duration = Duration::from_mins(1);

/// How long to wait when the system gives no more connections (no descriptors).
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// What one port may use.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections at a time; more wait to be accepted.
    pub connections: usize,
    /// How long open requests may take to end after shutdown.
    pub grace: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self { connections: 1_024, grace: Duration::from_secs(1) }
    }
}

/// A port, bound and not yet served.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    limits: ServerLimits,
    marks_local: bool,
}

/// Marks a request that came from this machine: from loopback, or from the
/// address that it was sent to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalClient;

impl Server {
    /// A server on a bound port.
    #[must_use]
    pub const fn new(listener: TcpListener, limits: ServerLimits) -> Self {
        Self { listener, limits, marks_local: false }
    }

    /// Marks requests from this machine, for those who answer them.
    #[must_use]
    pub fn marking_local_clients(self) -> Self {
        Self { marks_local: true, ..self }
    }

    /// Answers requests with `answer` until `shutdown` fires; then accepts no
    /// more, and gives open requests `grace` to end.
    ///
    /// A request whose answer began is never cut off before that.
    pub async fn run<F, A>(self, answer: F, shutdown: CancellationToken)
    where
        F: Fn(Request<Body>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response> + Send + 'static,
    {
        let slots = Arc::new(Semaphore::new(self.limits.connections));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = accept(&self.listener, &slots) => accepted,
            };
            match accepted {
                Ok((stream, slot)) => {
                    let local = (self.marks_local && is_local(&stream)).then_some(LocalClient);
                    let connection = serve(stream, local, answer.clone(), shutdown.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
        drop(self.listener);
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.limits.grace, ended).await.is_err() {
            debug!("connections were cut off at the end of the grace period");
        }
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let slot = slots.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // An answer is one small write: waiting to fill a segment only delays it.
    stream.set_nodelay(true)?;
    Ok((stream, slot))
}

fn is_local(stream: &TcpStream) -> bool {
    let (Ok(client), Ok(server)) = (stream.peer_addr(), stream.local_addr()) else { return false };
    let client = client.ip().to_canonical();
    client.is_loopback() || client == server.ip().to_canonical()
}

/// Serves one connection until either side ends it; on `shutdown`, until the
/// requests on it are answered.
async fn serve<F, A>(
    stream: TcpStream,
    local: Option<LocalClient>,
    answer: F,
    shutdown: CancellationToken,
) where
    F: Fn(Request<Body>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response> + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(local) = local {
            request.extensions_mut().insert(local);
        }
        let answered = answer(request.map(Body::new));
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(256);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(error, "a connection ended early");
    }
}
