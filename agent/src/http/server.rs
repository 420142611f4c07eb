//! Serves one port: HTTP/1.1 and HTTP/2 with prior knowledge, told apart by the
//! first bytes.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::Request;
use axum::response::Response;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::acceptor::{Accepted, Acceptor};

/// A connection on which no request is open or came for so long, looked at that
/// often, is ended: one that sends its request's head that slowly too.
const IDLE_PATIENCE: Duration = Duration::from_mins(1);

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
        let acceptor = Acceptor::new(self.listener, self.limits.connections);
        let mut connections = JoinSet::new();
        loop {
            let Accepted { stream, place, .. } = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = acceptor.accept() => accepted,
            };
            let local = (self.marks_local && is_local(&stream)).then_some(LocalClient);
            let connection = serve(stream, local, answer.clone(), shutdown.clone());
            connections.spawn(async move {
                connection.await;
                drop(place);
            });
        }
        drop(acceptor);
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.limits.grace, ended).await.is_err() {
            debug!("connections were cut off at the end of the grace period");
        }
    }
}

fn is_local(stream: &TcpStream) -> bool {
    let (Ok(client), Ok(server)) = (stream.peer_addr(), stream.local_addr()) else { return false };
    let client = client.ip().to_canonical();
    client.is_loopback() || client == server.ip().to_canonical()
}

/// Serves one connection until either side ends it; on `shutdown`, until the
/// requests on it are answered.
async fn serve<I, F, A>(
    stream: I,
    local: Option<LocalClient>,
    answer: F,
    shutdown: CancellationToken,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Body>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response> + Send + 'static,
{
    let activity = Activity::default();
    let begun = activity.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let open = begun.begin();
        if let Some(local) = local {
            request.extensions_mut().insert(local);
        }
        let answered = answer(request.map(Body::new));
        async move { Ok::<_, Infallible>(answered.await.map(|body| OpenBody { body, _open: open })) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Its own time-out for heads would arm a timer for each request.
    builder.http1().header_read_timeout(None::<Duration>);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(256);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = activity.idle() => return debug!("an idle connection was ended"),
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(error, "a connection ended early");
    }
}

/// The requests on one connection.
#[derive(Clone, Debug, Default)]
struct Activity(Arc<Requests>);

#[derive(Debug, Default)]
struct Requests {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// A request whose answer is not sent whole.
#[derive(Debug)]
struct OpenRequest(Arc<Requests>);

impl Activity {
    fn begin(&self) -> OpenRequest {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        OpenRequest(Arc::clone(&self.0))
    }

    /// Waits until no request was open or came between two looks.
    async fn idle(&self) {
        let mut looks = tokio::time::interval(IDLE_PATIENCE);
        looks.tick().await;
        let mut seen = self.0.begun.load(Ordering::Relaxed);
        loop {
            looks.tick().await;
            let begun = self.0.begun.load(Ordering::Relaxed);
            if begun == seen && self.0.ended.load(Ordering::Relaxed) == begun {
                return;
            }
            seen = begun;
        }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// The body of an answer, which keeps its request open until it is sent.
#[derive(Debug)]
struct OpenBody {
    body: Body,
    _open: OpenRequest,
}

impl HttpBody for OpenBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::{Instant, sleep};

    use super::*;

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    /// A connection whose requests are answered after `took`.
    fn connection(took: Duration) -> (DuplexStream, impl Future<Output = ()>) {
        let (client, served) = duplex(4096);
        let answer = move |_| async move {
            sleep(took).await;
            Response::new(Body::from("done"))
        };
        (client, serve(served, None, answer, CancellationToken::new()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_is_ended() {
        for said in [&b""[..], b"GET / HTT", b"PRI * HTTP/2.0\r\n"] {
            let (mut client, served) = connection(Duration::ZERO);
            client.write_all(said).await.unwrap();
            let began = Instant::now();
            served.await;
            assert!(began.elapsed() <= 2 * IDLE_PATIENCE, "{said:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_kept_while_it_is_used() {
        let (mut client, served) = connection(Duration::from_secs(1));
        let use_it = async {
            let mut answer = [0; 4096];
            for _ in 0..10 {
                client.write_all(HEAD).await.unwrap();
                assert!(client.read(&mut answer).await.unwrap() > 0, "it is kept");
                sleep(IDLE_PATIENCE.mul_f32(0.9)).await;
            }
            let quiet = Instant::now();
            while client.read(&mut answer).await.unwrap() > 0 {}
            quiet.elapsed()
        };
        let ((), quiet) = tokio::join!(served, use_it);
        assert!(quiet <= 2 * IDLE_PATIENCE, "and ended when it no longer is");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_is_waited_for() {
        let (mut client, served) = connection(IDLE_PATIENCE * 10);
        let ask = async {
            client.write_all(HEAD).await.unwrap();
            let mut answer = [0; 4096];
            let got = client.read(&mut answer).await.unwrap();
            drop(client);
            String::from_utf8_lossy(&answer[..got]).into_owned()
        };
        let ((), answer) = tokio::join!(served, ask);
        assert!(answer.ends_with("done"), "{answer}");
    }
}
