//! The HTTPS port: TLS, HTTP/1.1 and HTTP/2, limits, and an end that cuts nobody off.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

/// After a failure to accept, which is mostly a lack of file descriptors.
const RETRY: Duration = Duration::from_millis(100);
/// The most bytes of a request's head.
const HEAD_BYTES: usize = 64 << 10;

/// What the port may use, and how patient it is.
#[derive(Clone, Copy, Debug)]
pub struct ServeLimits {
    /// Connections at a time; more wait to be accepted.
    pub connections: usize,
    /// From the connection to the end of the handshake.
    pub handshake: Duration,
    /// From the first byte of a request's head to its last.
    pub head: Duration,
    /// From shutdown to the end of requests that are open then.
    pub grace: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections: 1_024,
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(10),
            grace: Duration::from_secs(10),
        }
    }
}

/// Serves `router` on a bound port until `shutdown` fires; then accepts no more, and
/// gives open requests `grace` to end. Each has its answer by then, or is cut off.
///
/// The caller takes the replica out of its `Service` first: a connection that is made
/// after shutdown is refused.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    limits: ServeLimits,
    shutdown: CancellationToken,
) {
    let tls = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    let cut_off = CancellationToken::new();
    loop {
        let (stream, remote, place) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let serving = Serving {
            tls: tls.clone(),
            router: router.clone(),
            limits,
            shutdown: shutdown.clone(),
        };
        let cut_off = cut_off.clone();
        connections.spawn(async move {
            let _place = place;
            tokio::select! {
                biased;
                () = cut_off.cancelled() => debug!(%remote, "a connection was cut off"),
                () = serving.connection(stream, remote) => {}
            }
        });
    }
    drop(listener);
    connections.close();
    if timeout(limits.grace, connections.wait()).await.is_err() {
        warn!("requests were cut off at the end of the grace period");
        cut_off.cancel();
        connections.wait().await;
    }
}

/// What a connection needs.
struct Serving {
    tls: TlsAcceptor,
    router: Router,
    limits: ServeLimits,
    shutdown: CancellationToken,
}

// === impl Serving ===

impl Serving {
    /// Serves one connection until either side ends it.
    async fn connection(self, stream: TcpStream, remote: SocketAddr) {
        let handshake = timeout(self.limits.handshake, self.tls.accept(stream));
        let stream = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return,
            done = handshake => match done {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return debug!(%remote, %error, "a handshake failed"),
                Err(_) => return debug!(%remote, "a handshake took too long"),
            },
        };
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_buf_size(HEAD_BYTES);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(256)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10));
        let service = TowerToHyperService::new(self.router);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            // First, so that a request that is here counts.
            biased;
            ended = connection.as_mut() => ended,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(%remote, error, "a connection ended early");
        }
    }
}

/// The next connection, once there is a place for it. Nothing is lost when the future
/// is dropped.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let Ok(place) = Arc::clone(places).acquire_owned().await else {
        // The semaphore is never closed.
        return std::future::pending().await;
    };
    loop {
        match listener.accept().await {
            // A small answer must not wait for more to send.
            Ok((stream, remote)) if stream.set_nodelay(true).is_ok() => {
                return (stream, remote, place);
            }
            Ok(_) => {}
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                sleep(RETRY).await;
            }
        }
    }
}
